"""Where time comes from."""

import socket
import threading
import time

import pytest

from batterylab.bench.clock import BenchClock, WallClock, clock_for
from batterylab.errors import EnvironmentFailedError


def served(*answers):
    """Return the port of a server that gives these lines, one a request, and then hangs up."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = server.accept()
        stream = connection.makefile("rwb")
        for answer in answers:
            stream.readline()
            stream.write(answer)
            stream.flush()
        stream.close()
        connection.close()
        server.close()

    threading.Thread(target=serve, daemon=True).start()
    return server.getsockname()[1]


def test_the_wall_clock_is_the_machines():
    clock = clock_for(None)
    assert isinstance(clock, WallClock)
    assert clock.now() == pytest.approx(time.time(), abs=1)
    began = time.monotonic()
    clock.sleep_until(clock.now() - 100)
    clock.sleep(-1)
    assert time.monotonic() - began < 50  # and not the hundred
    clock.sleep(0.02)
    assert time.monotonic() - began >= 0.02


def test_short_waits_add_up_and_go_with_the_next_long_one(bench_of):
    bench = bench_of(is_loaded=False)
    clock = BenchClock("127.0.0.1", bench.servers["clock"][0])
    begin = clock.now()
    requests = []
    ask = clock.ask
    clock.ask = lambda what, **more: requests.append(what) or ask(what, **more)
    for _ in range(20):
        clock.sleep(0.06)
    assert requests == []
    assert clock.now() == pytest.approx(begin + 1.2)
    assert bench.world.now_s == begin
    clock.sleep(2.0)
    assert requests == ["advance"]
    assert bench.world.now_s == begin + 3
    clock.sleep_until(begin)  # never back
    assert clock.now() >= begin + 3
    clock.close()


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(EnvironmentFailedError, match="nothing answers") as caught:
        BenchClock("127.0.0.1", port)
    assert "batterylab bench simulate" in caught.value.hint


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "is gone"), (b"rubbish\n", "Expecting value"), (b"[1]\n", "is gone"),
        (b'{"error": "to: nan is too far"}\n', "simulated bench: to: nan is too far"),
    ],
)  # fmt: skip
def test_a_clock_that_talks_rubbish_is_one_error(answer, message):
    clock = BenchClock("127.0.0.1", served(b'{"time": 5}\n', answer))
    with pytest.raises(EnvironmentFailedError, match=message):
        clock.sleep(1.0)
    clock.close()


def test_closing_after_a_loss_does_no_harm():
    """What was written and could not be sent must not hide the error that was told."""
    clock = BenchClock("127.0.0.1", served(b'{"time": 5}\n'))
    for _ in range(3):
        with pytest.raises(EnvironmentFailedError):
            clock.sleep(1.0)
    clock._stream.write(b"still waiting")
    clock.close()
