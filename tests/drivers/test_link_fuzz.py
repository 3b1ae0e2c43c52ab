"""Whatever bytes come back: the right reply or an error, in time, and the next one right."""

import contextlib
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.bench.clock import WallClock
from batterylab.drivers.link import Link, LinkSpec
from batterylab.errors import BatterylabError, EnvironmentFailedError
from batterylab.simulated.scpi import LineServer

TIMEOUT_s = 0.05
LIMIT_s = 60.0
SPEC = LinkSpec(timeout_s=TIMEOUT_s)


class Puppet(LineServer):
    """Answers ``?`` with given bytes in pieces, and any other line with itself."""

    def __init__(self):
        super().__init__(lambda text: [text])
        self.pieces = []
        self.has_sent = threading.Event()

    def respond(self, text, talk):
        if text != "?":
            super().respond(text, talk)
            return
        for piece in self.pieces:
            talk.send(piece)
        self.has_sent.set()


@pytest.fixture(scope="module")
def puppet(shared_loop):
    server = Puppet()
    port = shared_loop.run(server.serve("127.0.0.1", 0))
    link = Link("it", f"TCPIP::127.0.0.1::{port}::SOCKET", SPEC, WallClock())
    yield server, link
    link.close()
    shared_loop.run(server.close())


def answers(server, link, text):
    """Ask until this machine is fast enough; whatever comes back must be the answer.

    Bytes that come after the next question cannot be told from its answer: all are sent before.
    """
    assert server.has_sent.wait(LIMIT_s)
    server.has_sent.clear()
    for _ in range(40):
        with contextlib.suppress(EnvironmentFailedError):
            assert link.query(text) == text
            return
    raise AssertionError("no answer")


PIECES = (b"1.5", b"\n", b"\r\n", b"#", b"#13abc", b"0", b"\xff", b",", b"E+37", b"#9",
          b"999999999", b"\x00", b" ")  # fmt: skip
BYTES = st.lists(st.sampled_from(PIECES), max_size=6)


@given(BYTES)
@settings(max_examples=80, deadline=None)
def test_a_line_is_read_whole_or_not_at_all(puppet, pieces):
    server, link = puppet
    server.pieces = pieces
    sent = b"".join(pieces)
    began = time.monotonic()
    try:
        reply = link.query("?")
    except EnvironmentFailedError as error:
        assert "'?'" in str(error)
    else:
        # the first reads may end with a reply while more is on its way; never in the middle of one
        assert sent.startswith(reply.encode("ascii") + b"\n")
    assert time.monotonic() - began < LIMIT_s
    answers(server, link, "NEXT")


@given(BYTES)
@settings(max_examples=80, deadline=None)
def test_a_block_is_read_whole_or_not_at_all(puppet, pieces):
    server, link = puppet
    server.pieces = pieces
    sent = b"".join(pieces)
    try:
        content = link.query_block("?")
    except EnvironmentFailedError as error:
        assert "'?'" in str(error)
    else:
        assert sent.startswith(b"#")
        assert len(content) == int(sent[2 : 2 + int(sent[1:2])])
        assert content in sent
    answers(server, link, "NEXT")


def test_what_nobody_asked_for_is_thrown_away_before_the_next_question(puppet):
    server, link = puppet
    server.pieces = [b"1.5\n", b"2.5\n"]
    for _ in range(5):
        with contextlib.suppress(EnvironmentFailedError):
            assert link.query("?") == "1.5"
        time.sleep(0.01)  # so that the rest arrives
        answers(server, link, "NEXT")


READINGS = {
    "ea_psb10000": lambda one: one.driver.measure(),
    "itech_m3900": lambda one: one.driver.measure(),
    "keithley_2450": lambda one: one.driver.is_on(),
    "keysight_bt2200": lambda one: (one.driver.measure([101]), one.driver.drain_log([101])),
    "hioki_bt3562a": lambda one: one.driver.read(),
    "hioki_bt4560": lambda one: one.driver.read(),
    "keysight_daq970a": lambda one: one.driver.read(),
    "weiss_simserv": lambda one: one.driver.read(),
    "espec_p300": lambda one: one.driver.read(),
}
EDITS = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from(("", "x", "-", "E", "nan", "\xb6", "9" * 40))),
    min_size=1, max_size=3,
)  # fmt: skip


def garbled(reply, edits):
    if isinstance(reply, bytes):
        reply = reply.decode("latin-1")
    for at, text in edits:
        place = at % (len(reply) + 1)
        reply = reply[:place] + text + reply[place + 1 :]
    return reply


@pytest.fixture(scope="module", params=READINGS)
def model(request, lasting_instrument):
    one = lasting_instrument(request.param, timeout_s=TIMEOUT_s)
    if hasattr(one.driver, "read") and hasattr(one.driver, "prepare"):
        one.world.probe("A-1")
        with contextlib.suppress(TypeError):
            one.driver.prepare()
        if "daq" in request.param:
            one.driver.prepare([101, 102])
    return one


@given(EDITS)
@settings(max_examples=15, deadline=None)
def test_garbled_replies_are_an_error_or_a_reading_and_nothing_else(model, edits):
    whole = model.instrument.answer
    model.server.answer = lambda text: [garbled(reply, edits) for reply in whole(text)]
    with contextlib.suppress(BatterylabError):
        READINGS[model.model](model)
    model.server.answer = whole
