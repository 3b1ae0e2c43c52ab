"""A simulated bench on loopback, in a thread, for the drivers to talk to."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import pytest

from batterylab.bench.clock import BenchClock
from batterylab.drivers.catalogue import open_instrument
from batterylab.simulated.bt2200 import Bt2200
from batterylab.simulated.cell import CellTruth
from batterylab.simulated.control import ControlServer
from batterylab.simulated.daq970a import Daq970a
from batterylab.simulated.faults import FaultyServer
from batterylab.simulated.hioki import Bt3562a
from batterylab.simulated.process import _server_of
from batterylab.simulated.scpi import LineServer
from batterylab.simulated.weiss import SimServ
from batterylab.simulated.world import IDEAL, Place, World

START_s = 1_767_592_800.0


class Loop:
    """An asyncio loop in a thread."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=120)

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class SimulatedBench:
    """World, servers, clock and open drivers; A-1 sits in 101, A-2 in 102, B-1 lies on a shelf."""

    MODELS: ClassVar = {
        "cycler": "keysight_bt2200",
        "temps": "keysight_daq970a",
        "meter": "hioki_bt3562a",
        "chamber": "weiss_simserv",
    }

    def __init__(self, errors=IDEAL):
        truths = {"A-1": CellTruth(), "A-2": CellTruth(lithium_inventory=0.99), "B-1": CellTruth()}
        places = [Place("1-1", 0, 101, 1), Place("1-2", 1, 102, 1), Place("2-3", 34, 203, 2)]
        self.world = World(1, START_s, truths, places, errors)
        self.world.insert("A-1", "1-1")
        self.world.insert("A-2", "1-2")
        self.frame = Bt2200(self.world)
        self.world.listeners.append(self.frame.keep)
        self.scanner, self.tester = Daq970a(self.world), Bt3562a(self.world)
        self.simserv = SimServ(self.world)
        self.servers = {
            "cycler": LineServer(self.frame.answer),
            "temps": LineServer(self.scanner.answer),
            "meter": LineServer(self.tester.answer, b"\r\n", b"\r\n"),
            "chamber": LineServer(self.simserv.answer, b"\r", b"\r\n"),
            "clock": ControlServer(self.world),
        }
        self.loop = Loop()
        self.ports = {
            name: self.loop.run(server.serve("127.0.0.1", 0))
            for name, server in self.servers.items()
        }
        self.clock = BenchClock("127.0.0.1", self.ports["clock"])
        self.drivers = {}

    def address(self, name):
        return f"TCPIP::127.0.0.1::{self.ports[name]}::SOCKET"

    def __getitem__(self, name):
        """Return the open driver of an instrument."""
        if name not in self.drivers:
            self.drivers[name] = open_instrument(
                name, self.MODELS[name], self.address(name), "", self.clock
            )
        return self.drivers[name]

    def close(self):
        for driver in self.drivers.values():
            driver.close()
        self.clock.close()
        for server in self.servers.values():
            self.loop.run(server.close())
        self.loop.close()


@pytest.fixture
def bench() -> Iterator[SimulatedBench]:
    """Return a bench with ideal meters."""
    simulated = SimulatedBench()
    try:
        yield simulated
    finally:
        simulated.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    """Return a loop in a thread, for a server of the test's own."""
    running = Loop()
    yield running
    running.close()


class OneInstrument:
    """One instrument of any model behind a server that can fail; A-1 lies on the shelf.

    Where the model is a supply, `connect` puts A-1 at its terminals.
    """

    def __init__(self, model, loop, timeout_s=0.15):
        self.model, self.loop, self.timeout_s = model, loop, timeout_s
        places = [Place("1-1", 0, 101, 1), Place("1-2", 1, 102, 1)]
        self.world = World(1, START_s, {"A-1": CellTruth()}, places, IDEAL)
        self.server = FaultyServer(_server_of(model, "", self.world))
        self.instrument = self.server.instrument
        self.control = ControlServer(self.world)
        self.port = loop.run(self.server.serve("127.0.0.1", 0))
        self.clock = BenchClock("127.0.0.1", loop.run(self.control.serve("127.0.0.1", 0)))
        self.address = f"TCPIP::127.0.0.1::{self.port}::SOCKET"
        self.driver = open_instrument("it", model, self.address, "", self.clock)
        link = self.driver.link
        link.spec = replace(link.spec, timeout_s=timeout_s)

    def connect(self, *, is_reversed=False):
        """Put the cell at the supply's terminals."""
        self.instrument.stage.insert("A-1", is_reversed=is_reversed)
        return self.world.cells["A-1"]

    def wait(self, seconds):
        """Let bench time pass."""
        self.clock.sleep_until(self.clock.now() + seconds)

    def close(self):
        self.driver.close()
        self.clock.close()
        self.loop.run(asyncio.sleep(0.01))  # a connection accepted while a server closes leaks
        self.loop.run(self.server.close())
        self.loop.run(self.control.close())
        self.loop.run(asyncio.sleep(0.005))  # for the transports to go


@pytest.fixture(scope="module")
def shared_loop() -> Iterator[Loop]:
    """Return a loop in a thread for all instruments of a module."""
    running = Loop()
    yield running
    running.close()


@pytest.fixture
def instrument(shared_loop) -> Iterator[type]:
    """Return a maker of instruments, all closed at the end."""
    yield from _maker(shared_loop)


@pytest.fixture(scope="module")
def lasting_instrument(shared_loop) -> Iterator[type]:
    """Return a maker of instruments that serve all tests of a module."""
    yield from _maker(shared_loop)


def _maker(shared_loop):
    made = []

    def make(model, **options):
        made.append(OneInstrument(model, shared_loop, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
