"""A small study on a simulated bench, and ways to hurt it."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from batterylab.archive import find, read, verify
from batterylab.bench import process
from batterylab.bench.allot import allot
from batterylab.bench.benchfile import BenchFile
from batterylab.bench.clock import BenchClock
from batterylab.bench.loading import Loader, ScriptedHands
from batterylab.bench.setup import Bench
from batterylab.drivers.catalogue import open_instrument
from batterylab.simulated.process import _server_of, free_ports, make_world, plan_of
from batterylab.simulated.scpi import LineServer
from batterylab.study import Study
from batterylab.studyfiles import Size, write_study

#: what may take long on a machine that is busy with other work
PATIENT_s = 120.0
INSTRUMENTS = ("cycler", "temps", "meter", "chamber", "clock")

#: ten minutes of everything: both signs, a hold, a pulse, a rest, a state of charge is too long
SHORT = """\
schema: batterylab.protocol/1
name: short
description: ten minutes of everything
chamber: {temperature: 25 degC, within: 2 degC, soak: 1 min}
stop:
  - {when: temperature, above: 50 degC}
steps:
  - rest: {for: 60 s}
  - discharge: {rate: 1C, for: 10 s, sample_every: 1 s}
    measure: dcir
  - rest: {for: 40 s}
  - charge: {rate: 0.5C, until: 3.9 V, at_most: 1 h}
    measure: part
  - rest: {for: 60 s}
record: {every: 30 s, or_when: {voltage_moves: 5 mV}}
"""

BENCH = """\
schema: batterylab.bench/1
name: small
instruments:
  cycler1: {{model: keysight_bt2200, address: "TCPIP::127.0.0.1::{cycler}::SOCKET", serial: MY58000516}}
  temps: {{model: keysight_daq970a, address: "TCPIP::127.0.0.1::{temps}::SOCKET"}}
  meter: {{model: hioki_bt3562a, address: "TCPIP::127.0.0.1::{meter}::SOCKET"}}
  chamber: {{model: weiss_simserv, address: "TCPIP::127.0.0.1::{chamber}::SOCKET"}}
channels:
  - {{name: "1-{{n}}", cycler: cycler1, channel: "{{100+n}}", temperature: "temps:{{100+n}}", chamber: chamber, shelf: 1, for: 1..2}}
  - {{name: "2-{{n}}", cycler: cycler1, channel: "{{200+n}}", temperature: "temps:{{200+n}}", chamber: chamber, shelf: 2, for: 1..2}}
limits: {{voltage: [2.45 V, 4.25 V], temperature: 50 degC, debounce: 3 samples}}
poll: {poll_s:g} s
clock: "127.0.0.1:{clock}"
"""  # noqa: E501


def small_study(folder, protocol=SHORT, *, cells=2, suppliers=1, poll_s=30.0, seed=1, change=None):
    """Write a study of a few cells on a bench of four channels; return it opened."""
    ports = dict(zip(INSTRUMENTS, free_ports(len(INSTRUMENTS)), strict=True))
    name = next(line.split()[1] for line in protocol.splitlines() if line.startswith("name:"))
    write_study(
        folder, seed=seed, ports=ports, size=Size(suppliers, 1, cells), protocols=(name,)
    )
    (folder / "bench.yaml").write_text(BENCH.format(poll_s=poll_s, **ports))
    (folder / "protocols" / f"{name}.yaml").write_text(protocol)
    for file, old, new in change or ():
        replace(folder / file, old, new)
    return Study.open(folder)


def replace(path, old, new):
    """Change a file; the old text must stand there."""
    text = path.read_text()
    assert old in text, (path, old)
    path.write_text(text.replace(old, new, 1))


class Loop:
    """An asyncio loop in a thread."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=PATIENT_s)

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class SlowClock(LineServer):
    """The clock's port: its answers can be late, while all else on the bench goes on."""

    def __init__(self, bench):
        super().__init__(bench.control.answer)
        self.bench = bench

    def respond(self, text, talk):
        for reply in self.answer(text):
            waits = "advance" in text and self.bench.delay_s and self.bench.all_charge()
            talk.send(reply.encode() + b"\n", self.bench.delay_s if waits else 0.0)


class Threaded:
    """The simulated bench of a study in a thread: its world and servers can be hurt."""

    def __init__(self, study):
        from batterylab.simulated.control import Control

        file = BenchFile.open(study.bench_path, study.cell_type)
        self.study = study
        self.world = make_world(study, file)
        self.ended = threading.Event()
        plan = plan_of(file)
        self.servers = {
            name: (port, _server_of(model, serial, self.world, name))
            for name, (port, model, serial) in plan.ports.items()
        }
        self.control = Control(self.world, self.ended.set)
        self.delay_s = 0.0
        self.servers["clock"] = (plan.clock_port, SlowClock(self))
        self.loop = Loop()
        for port, server in self.servers.values():
            self.loop.run(server.serve("127.0.0.1", port))

    def instrument(self, name):
        """Return the simulated instrument behind a server."""
        return self.servers[name][1].answer.__self__

    def kill(self, name):
        """Let one instrument vanish."""
        self.loop.run(self.servers.pop(name)[1].close())

    def when(self, elapsed_s, action):
        """Do something to the world once that much of bench time has passed."""
        begin_s = self.world.now_s
        done = []

        def listen(*_):
            if not done and self.world.now_s - begin_s >= elapsed_s:
                done.append(True)
                action()

        self.world.listeners.append(listen)

    def slow_down(self, seconds=0.5):
        """Let bench time creep while every cell charges, so that a run is caught there.

        It goes on at once when `delay_s` is set to 0.
        """
        self.delay_s = seconds

    def all_charge(self):
        """Say whether every cell on the bench is being charged."""
        flows = self.world.flows_A()
        return bool(flows) and all(amps > 0.1 for amps in flows.values())

    def place(self, channel):
        """Return the row of a channel in the bank."""
        return self.world.by_name[channel].cycler_index

    def close(self):
        for _, server in self.servers.values():
            self.loop.run(server.close())
        self.loop.close()
        while process._started:  # detached runners that this process started
            process._started.pop().wait(timeout=PATIENT_s)


@contextlib.contextmanager
def opened(study, roles=("cycler", "meter")):
    """Yield the study's open bench."""
    bench = Bench.open(BenchFile.open(study.bench_path, study.cell_type), roles)
    try:
        yield bench
    finally:
        bench.close()


def load_cells(study, seed=1):
    """Load every cell, as the scripted technician does."""
    with opened(study) as bench:
        assert isinstance(bench.clock, BenchClock)
        loader = Loader(study, bench, ScriptedHands(bench.clock), "ann")
        channels = list(bench.file.channels.values())
        for channel, serial in allot(list(study.cells.values()), channels, seed).items():
            loader.load(serial, channel)


def truth_of(study, serial):
    """Return what the simulated bench says of a cell."""
    with opened(study, ()) as bench:
        return bench.clock.ask("truth", serial=serial)


def cycler_now(study):
    """Ask the simulated cycler for state and current of every channel, over a link of our own."""
    file = BenchFile.open(study.bench_path, study.cell_type)
    entry = file.instruments["cycler1"]
    clock = BenchClock(*file.clock_address)
    driver = open_instrument("cycler1", entry.model, entry.address, entry.serial, clock)
    try:
        numbers = {name: channel.cycler_channel for name, channel in file.channels.items()
                   if name in study.log.occupied()}  # fmt: skip
        states = driver.states(list(numbers.values()))
        amps = driver.measure(list(numbers.values()))
        return {name: (states[n].name, amps[n][1]) for name, n in numbers.items()}
    finally:
        driver.close()
        clock.close()


def command(*arguments, **options):
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "batterylab", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=2 * PATIENT_s,
        stdin=subprocess.DEVNULL,
        **options,
    )  # fmt: skip


def wait_for(condition, seconds=PATIENT_s):
    """Wait until a condition holds, and return what it gave."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{condition} did not hold within {seconds} s")


def status_file(study):
    """Return what the run's status file says, or an empty dict."""
    try:
        return json.loads((study.path / "run" / "status.json").read_text())
    except (OSError, ValueError):
        return {}


def until_it_charges(study):
    """Wait until current flows, and return the runner's number."""
    wait_for(lambda: status_file(study).get("bench_time_s", 0) > 120)
    assert all(state == "RUNNING" and amps > 2 for state, amps in cycler_now(study).values())
    return status_file(study)["pid"]


def is_alive(pid):
    """Say whether a process lives; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid):
    """Return the numbers of a process's children."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                if int(fields[1]) == pid:
                    found.append(int(entry.name))
    return found


def environment(**more):
    """Return this process's environment with something added."""
    return {**os.environ, **more}


def sealed(study):
    """Return the study's recordings by serial, each of them verified."""
    entries = find(study.archive)
    for entry in entries:
        verify(entry.path)
    return {entry.serial: read(entry.path) for entry in entries}


def states_of(study):
    """Return the state of each recording, by seal."""
    return {e["data"]["seal"]: study.log.states().get(e["data"]["seal"], {"state": "valid"})
            for e in study.log.entries("recording")}  # fmt: skip


def assert_one_stopped(bench, done, serial, reason):
    """One channel was stopped and is invalid, the others are complete and valid."""
    study = bench.study
    assert {path.parent.name for path, why in done if why} == {serial}
    why = next(why for _, why in done if why)
    assert reason in why
    found = sealed(study)
    assert set(found) == set(study.cells)
    states = states_of(study)
    for name, recording in found.items():
        is_stopped = name == serial
        assert states[recording.seal]["state"] == ("invalid" if is_stopped else "valid")
        assert recording.provenance["ended"].startswith("stopped" if is_stopped else "complete")
    assert states[found[serial].seal]["reason"] == f"aborted: {why}"
    assert found[serial].steps[-1].ended_by == "stopped"
    assert_safe(study)


def assert_safe(study, *states):
    """No channel runs or carries current."""
    for state, amps in cycler_now(study).values():
        assert state in states or state != "RUNNING"
        assert abs(amps) < 2e-3
