"""The control port, and the clock that a runner takes from it."""

import asyncio
import json
import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.bench.clock import BenchClock
from batterylab.errors import EnvironmentFailedError
from batterylab.simulated.bt2200 import Bt2200
from batterylab.simulated.cell import CellTruth
from batterylab.simulated.control import Control, ControlServer
from batterylab.simulated.faults import Fault, FaultyServer
from batterylab.simulated.scpi import LineServer
from batterylab.simulated.world import IDEAL, Place, World

START_s = 1_767_592_800.0


def make_world():
    places = [Place("1-1", 0, 101, 1), Place("1-2", 1, 102, 1)]
    return World(1, START_s, {"A-1": CellTruth(), "A-2": CellTruth()}, places, IDEAL)


@pytest.fixture
def control():
    return Control(make_world())


@pytest.fixture
def served():
    """Return a world, and the port of its control server in a thread."""
    world, ready = make_world(), threading.Event()
    found = {}

    async def serve():
        server = ControlServer(world)
        found.update(
            port=await server.serve("127.0.0.1", 0), end=asyncio.Event(),
            loop=asyncio.get_running_loop(),
        )  # fmt: skip
        ready.set()
        await found["end"].wait()
        await server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield world, found["port"]
    found["loop"].call_soon_threadsafe(found["end"].set)
    thread.join()


def ask(control, **request):
    (reply,) = control.answer(json.dumps(request))
    return json.loads(reply)


def test_time_moves_in_whole_seconds_and_never_back(control):
    assert ask(control, do="time") == {"time": START_s}
    assert ask(control, do="advance", to=START_s + 2.9) == {"time": START_s + 2}
    assert ask(control, do="advance", to=START_s - 100) == {"time": START_s + 2}
    assert ask(control, do="advance", to=START_s + 200) == {"time": START_s + 200}


def test_a_technicians_hands(control):
    assert ask(control, do="insert", serial="A-1", channel="1-1") == {
        "serial": "A-1", "channel": "1-1"
    }  # fmt: skip
    assert "sits in channel 1-1" in ask(control, do="insert", serial="A-1", channel="1-2")["error"]
    assert "taken" in ask(control, do="insert", serial="A-2", channel="1-1")["error"]
    assert "no cell" in ask(control, do="insert", serial="Z", channel="1-2")["error"]
    assert "no channel" in ask(control, do="insert", serial="A-2", channel="9")["error"]
    assert ask(control, do="probe", serial="A-1") == {"serial": "A-1"}
    assert control.world.meter_reading()[1] > 3
    ask(control, do="insert", serial="A-2", channel="1-2", reversed=True)
    ask(control, do="probe", serial="A-2")
    assert control.world.meter_reading()[1] < -3
    assert ask(control, do="probe", serial=None) == {"serial": None}
    assert control.world.meter_reading() is None
    assert ask(control, do="remove", channel="1-1") == {"channel": "1-1"}
    assert "empty" in ask(control, do="remove", channel="1-1")["error"]


def test_the_truth_is_told(control):
    truth = ask(control, do="truth", serial="A-1")
    assert truth["truth"]["contact_ohm"] == 0.008
    assert truth["ac_resistance_ohm"] > truth["truth"]["contact_ohm"]
    assert truth["channel"] is None
    assert "no cell" in ask(control, do="truth", serial="Z")["error"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "1", "null", '"time"', "{}", '{"do": 1}', '{"do": "fly"}', '{"do": ["time"]}',
     '{"do": "time", "x": 1}', '{"do": "advance"}', '{"do": "advance", "to": "1"}',
     '{"do": "advance", "to": true}', '{"do": "advance", "to": NaN}',
     '{"do": "advance", "to": Infinity}', '{"do": "advance", "to": 1e300}',
     '{"do": "advance", "to": 1' + "0" * 400 + "}", '{"do": "insert", "serial": "A-1"}',
     '{"do": "insert", "serial": 1, "channel": "1-1"}', '{"do": "probe"}',
     '{"do": "insert", "serial": "A-1", "channel": "1-1", "reversed": 1}', "[" * 100_000,
     '{"do": "remove", "channel": null}', "\xff\xfe\x00"],
)  # fmt: skip
def test_bad_requests_are_answered_with_an_error(control, text):
    (reply,) = control.answer(text)
    assert set(json.loads(reply)) == {"error"}
    assert control.world.now_s == START_s


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)
VERBS = ("time", "insert", "remove", "probe", "truth", "advance")


@given(st.sampled_from(VERBS), st.dictionaries(
    st.sampled_from(["to", "serial", "channel", "reversed"]), JSON))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_no_request_kills_the_port(verb, arguments):
    control = Control(make_world())
    (reply,) = control.answer(json.dumps({**arguments, "do": verb}))
    assert isinstance(json.loads(reply), dict)


def test_a_flood_closes_one_connection_and_not_the_server(served):
    _, port = served
    with socket.create_connection(("127.0.0.1", port), timeout=10) as flood:
        was_closed = False
        try:
            for _ in range(100):
                flood.sendall(b"x" * 65536)
            was_closed = flood.recv(65536) == b""
        except ConnectionError:
            was_closed = True
        assert was_closed
    clock = BenchClock("127.0.0.1", port)
    assert clock.ask("time") == {"time": START_s}
    clock.close()


def test_the_runners_clock_moves_the_world(served):
    world, port = served
    clock = BenchClock("127.0.0.1", port)
    assert clock.now() == START_s
    clock.sleep_until(START_s + 10)
    assert (clock.now(), world.now_s) == (START_s + 10, START_s + 10)
    clock.sleep_until(START_s)
    assert clock.now() == START_s + 10
    clock.sleep(5.0)
    assert world.now_s == START_s + 15
    for _ in range(99):
        clock.sleep(0.05)
    clock.sleep_until(clock.now())
    assert clock.now() == pytest.approx(START_s + 19.95)
    assert world.now_s == START_s + 19
    with pytest.raises(EnvironmentFailedError, match="no cell"):
        clock.ask("probe", serial="Z")
    assert clock.ask("time") == {"time": START_s + 19}
    clock.close()


def test_no_control_port_is_one_clear_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(EnvironmentFailedError, match=f"clock 127.0.0.1:{port}"):
        BenchClock("127.0.0.1", port)


def test_faults_are_injected_and_mended_from_the_control_port():
    world = make_world()
    frame = Bt2200(world)
    server = FaultyServer(LineServer(frame.answer))
    control = Control(world, instruments={"cycler": server})

    def ask(**request):
        return json.loads(control.answer(json.dumps(request))[0])

    wanted = {"instrument": "cycler", "kind": "late"}
    assert ask(do="fault", on="MEAS", times=2, delay_s=0.5, **wanted) == wanted
    assert list(server.waiting) == [Fault("late", "MEAS", 2, 0.5)]
    assert ask(do="mend", instrument="cycler") == {"instrument": "cycler"}
    assert not server.waiting
    assert ask(do="fault", instrument="cycler", kind="unplugged")["kind"] == "unplugged"
    assert server.is_unplugged
    for request, message in (
        ({"instrument": "oven", "kind": "late"}, "there is no instrument 'oven'; known: cycler"),
        ({"instrument": "cycler", "kind": "fire"}, "unknown fault 'fire'"),
        ({"instrument": "cycler", "kind": "late", "on": "("}, "no regular expression"),
        ({"instrument": "cycler", "kind": "late", "times": 0}, "times is at least 1"),
        ({"instrument": "cycler", "kind": "late", "times": "2"}, "not supported"),
        ({"instrument": "cycler", "kind": "local control"}, "cannot have 'local control'"),
        ({"instrument": "cycler", "kind": "late", "then": 1}, "unknown key 'then'"),
    ):
        assert message in ask(do="fault", **request)["error"]


def test_the_true_currents_are_told_whatever_an_instrument_says():
    world = make_world()
    world.insert("A-1", "1-1")
    control = Control(world)
    assert json.loads(control.answer('{"do": "flows"}')[0])["current_A"] == {"1-1": 0.0}
