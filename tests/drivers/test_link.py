"""The link: what goes wrong on the wire is told, in bounded time, with instrument and command."""

import asyncio
import socket
import threading
import time
from dataclasses import replace

import pytest

from batterylab.bench.clock import WallClock
from batterylab.drivers.link import Link, LinkSpec
from batterylab.errors import BatterylabError, EnvironmentFailedError

#: for what does not answer, and for what does on a machine that is busy with other work
QUICK, PATIENT = LinkSpec(timeout_s=0.3), LinkSpec(timeout_s=60.0)
#: in a bounded time, however busy the machine: a link that waits for ever takes longer
BOUND_s = 30.0


class Clock:
    """Counts what it is asked to wait."""

    def __init__(self):
        self.time, self.sleeps = 0.0, []

    def now(self):
        return self.time

    def sleep(self, seconds):
        self.sleeps.append(seconds)
        self.time += seconds

    def sleep_until(self, unix_s):
        self.sleep(max(0.0, unix_s - self.time))


class Scripted:
    """A server that hands each line to a coroutine with the stream to write to."""

    def __init__(self, loop, behave):
        self.loop, self.behave, self.connections = loop, behave, 0
        self.server = loop.run(asyncio.start_server(self.talk, "127.0.0.1", 0))
        self.port = self.server.sockets[0].getsockname()[1]
        self.writers = []

    async def talk(self, reader, writer):
        self.connections += 1
        self.writers.append(writer)
        try:
            while line := await reader.readline():
                await self.behave(line, writer, self.connections)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def link(self, spec=PATIENT, clock=None):
        address = f"TCPIP::127.0.0.1::{self.port}::SOCKET"
        return Link("probe", address, spec, clock or WallClock())

    def close(self):
        async def finish():
            self.server.close()
            for writer in self.writers:
                writer.transport.abort()
            await asyncio.sleep(0.01)

        self.loop.run(finish())


@pytest.fixture
def scripted(loop):
    """Return a maker of scripted servers and links to them, all closed at the end."""
    made = []

    def make(behave, **options):
        server = Scripted(loop, behave)
        link = server.link(**options)
        made.extend([link, server])
        return server, link

    yield make
    for thing in made:
        thing.close()


def fails_soon(call, *words):
    began = time.monotonic()
    with pytest.raises(EnvironmentFailedError) as caught:
        call()
    assert time.monotonic() - began < BOUND_s
    for word in words:
        assert word in str(caught.value)
    return caught.value


async def echo(line, writer, _):
    writer.write(line)


def test_a_reply_comes_back_without_its_termination(scripted):
    _, link = scripted(echo)
    assert link.query("MEAS?") == "MEAS?"


def test_a_silent_instrument_is_an_error_that_names_all_three(scripted):
    async def hang(line, writer, _):
        return

    server, link = scripted(hang, spec=QUICK)
    fails_soon(lambda: link.query("MEAS?"), "probe", str(server.port), "'MEAS?'")


def test_an_instrument_that_hangs_up_is_an_error(scripted):
    async def hang_up(line, writer, _):
        writer.close()

    _, link = scripted(hang_up)
    fails_soon(lambda: link.query("MEAS?"), "probe", "'MEAS?'")


def test_an_instrument_that_resets_the_connection_is_an_error(scripted):
    async def reset(line, writer, _):
        writer.transport.abort()

    _, link = scripted(reset)
    fails_soon(lambda: link.query("MEAS?"), "'MEAS?'")


def test_a_flood_without_an_end_is_an_error(scripted):
    async def flood(line, writer, _):
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    _, link = scripted(flood, spec=QUICK)
    fails_soon(lambda: link.query("MEAS?"), "'MEAS?'")


def test_a_trickle_without_an_end_is_an_error(scripted):
    async def trickle(line, writer, _):
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    _, link = scripted(trickle, spec=QUICK)
    fails_soon(lambda: link.query("MEAS?"), "'MEAS?'")


def test_a_reply_of_foreign_bytes_is_an_error(scripted):
    async def foreign(line, writer, _):
        writer.write(b"\xff\xfe\xb6\n")

    _, link = scripted(foreign, spec=QUICK)
    fails_soon(lambda: link.query("MEAS?"), "'MEAS?'")


def test_a_late_reply_is_never_taken_for_the_next_one(scripted):
    given_up, written = threading.Event(), threading.Event()

    async def late(line, writer, connection):
        if line == b"SLOW?\n":
            while not given_up.is_set():
                await asyncio.sleep(0.01)
        writer.write(line)
        written.set()

    server, link = scripted(late, spec=QUICK)
    fails_soon(lambda: link.query("SLOW?"))
    given_up.set()
    assert written.wait(BOUND_s)
    link.spec = PATIENT
    assert link.query("NEXT?") == "NEXT?"
    assert server.connections == 2


def test_what_was_interrupted_is_not_read_as_the_next_reply(scripted, monkeypatch):
    _, link = scripted(echo)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(link._stream, "until", interrupted)
    with pytest.raises(KeyboardInterrupt):
        link.query("FIRST?")
    assert link.query("SECOND?") == "SECOND?"


@pytest.mark.parametrize(
    "address", ["TCPIP::127.0.0.1::{}::SOCKET", "TCPIP::127.0.0.1::0::SOCKET", "nonsense", "GPIB0"]
)
def test_nobody_there_is_an_error(address):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        free = taken.getsockname()[1]

    def talk():
        link = Link("probe", address.format(free), QUICK, WallClock())
        try:
            link.query("*IDN?")
        finally:
            link.close()

    fails_soon(talk, "probe")


def block(content: bytes) -> bytes:
    length = str(len(content)).encode()
    return b"#" + str(len(length)).encode() + length + content + b"\n"


def test_a_block_is_counted_and_may_hold_terminations(scripted):
    content = bytes(range(256)) * 300 + b"\n\n"

    async def reply(line, writer, _):
        for start in range(0, len(block(content)), 7001):
            writer.write(block(content)[start : start + 7001])
            await asyncio.sleep(0.001)

    _, link = scripted(reply)
    assert link.query_block("DATA?") == content
    assert link.query_block("DATA?") == content


@pytest.mark.parametrize(
    "reply", [b"#15abc\n", b"#0abc\n", b"#9999999999\n", b"#", b"12.5\n", b"#3xyz\n", b"#13abcd\n"]
)
def test_a_block_that_is_not_whole_is_an_error(scripted, reply):
    async def send(line, writer, _):
        writer.write(reply)

    _, link = scripted(send, spec=QUICK)
    fails_soon(lambda: link.query_block("DATA?"), "'DATA?'")


def test_gaps_go_through_the_clock(scripted):
    clock = Clock()
    _, link = scripted(echo, spec=replace(PATIENT, minimum_gap_s=0.25), clock=clock)
    for _ in range(3):
        link.query("MEAS?")
    assert clock.sleeps == pytest.approx([0.25, 0.25])


@pytest.mark.parametrize("command", ["MEAS?\nOUTP ON", "MEAS?\r", "gr\u00fc\u00df"])
def test_a_command_that_would_be_two_or_garbled_is_never_sent(scripted, command):
    seen = []

    async def note(line, writer, _):
        seen.append(line)
        writer.write(line)

    _, link = scripted(note)
    with pytest.raises(BatterylabError):
        link.write(command)
    assert link.query("OK?") == "OK?"
    assert seen == [b"OK?\n"]


def test_small_queries_and_large_blocks_are_fast(scripted):
    content = bytes(61_524)

    async def reply(line, writer, _):
        if line.endswith(b"?\n"):
            writer.write(block(content) if line == b"DATA?\n" else line)

    _, link = scripted(reply)

    def at_best_s(work, times):
        took = []
        for _ in range(times):
            began = time.perf_counter()
            work()
            took.append(time.perf_counter() - began)
        return min(took)

    def set_and_get():
        link.write("SET 1")
        link.query("GET?")

    # two small packets in a row wait 40 ms where nobody asked TCP not to
    assert at_best_s(set_and_get, 300) < 0.03
    assert at_best_s(lambda: link.query_block("DATA?"), 10) < 0.1
