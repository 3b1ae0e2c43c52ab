"""A study on a simulated bench of any size, made to be hurt."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from batterylab.archive import find, read, verify
from batterylab.bench import process as run
from batterylab.bench.benchfile import BenchFile
from batterylab.bench.clock import BenchClock
from batterylab.bench.journal import JournalContent
from batterylab.bench.session import journals
from batterylab.recording import Recording
from batterylab.simulated import process as simulated
from batterylab.simulated.control import Control
from batterylab.simulated.faults import FaultyServer
from batterylab.simulated.scpi import LineServer
from batterylab.study import Study
from batterylab.studyfiles import Size, write_study

#: supplies by their channel's letter
SUPPLIES = {"E": "ea_psb10000", "I": "itech_m3900", "K": "keithley_2460", "S": "keithley_2450"}
SAFE_A = 2e-3
LIMITS = "limits: {voltage: [2.45 V, 4.25 V], temperature: 50 degC, debounce: 3 samples}"
#: a scanner has sixty places
PLACES = [100 * slot + place for slot in (1, 2, 3) for place in range(1, 21)]

#: how often to ask while nothing is timed
PATIENT_s = 0.1
#: gentle enough for the smallest model, and never at rest for long
CYCLES = """\
schema: batterylab.protocol/1
name: cycles
steps:
  - rest: {for: 2 s}
  - repeat: {times: 400}
    steps:
      - charge: {current: 0.8 A, for: 40 s}
      - discharge: {current: 0.8 A, for: 40 s}
record: {every: 1 s}
"""


class InThread:
    """The instruments of a study in a thread, in bench time."""

    def __init__(self, study: Study) -> None:
        file = BenchFile.open(study.bench_path, study.cell_type)
        plan = simulated.plan_of(file)
        world = simulated.make_world(study, file)
        instruments = {name: FaultyServer(simulated._server_of(model, serial, world, name))
                       for name, (_, model, serial) in plan.ports.items()}  # fmt: skip
        self.control_port = plan.clock_port
        control = LineServer(Control(world, None, instruments).answer)
        self._servers: list[tuple[int, LineServer]] = [(plan.clock_port, control)]
        self._servers += [(port, instruments[name]) for name, (port, _, _) in plan.ports.items()]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        for port, server in self._servers:
            self._do(server.serve(simulated.HOST, port))

    def _do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=60)

    def close(self) -> None:
        """End the servers and the thread."""
        for _, server in self._servers:
            self._do(server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Rig:
    """A study with cells in every channel, and its simulated bench as a process.

    Parameters
    ----------
    frame : int
        Channels of one BT2200 frame.
    supplies : dict of str to int
        How many supplies of each letter of `SUPPLIES`.
    sample : str
        How often the supplies are sampled.
    poll : str
        How often the runner looks.
    protocol : str
        Its text.
    real_time : bool
        Whether time passes as on the wall.
    has_scanner : bool
        Whether the first sixty channels have a thermocouple.
    in_thread : bool
        Whether the instruments live in a thread of this process, which starts sooner.
    """

    def __init__(
        self, *, frame: int = 2, supplies: dict[str, int] | None = None, sample: str = "1 s",
        poll: str = "1 s", protocol: str = CYCLES, real_time: bool = True,
        has_scanner: bool = False, in_thread: bool = False,
    ) -> None:  # fmt: skip
        self.folder = Path(tempfile.mkdtemp(prefix="batterylab-rig-"))
        self.real_time = real_time
        instruments = {"frame": ("keysight_bt2200", "")} if frame else {}
        channels = [("frame", f"F-{100 * (i // 32 + 1) + i % 32 + 1}", 100 * (i // 32 + 1)
                     + i % 32 + 1) for i in range(frame)]  # fmt: skip
        for letter, count in (supplies or {}).items():
            for n in range(1, count + 1):
                name = f"{letter.lower()}{n}"
                instruments[name] = (SUPPLIES[letter], f", sample: {sample}")
                channels.append((name, f"{letter}-{n}", 1))
        if has_scanner:
            instruments["temps"] = ("keysight_daq970a", "")
        self._write(instruments, channels, poll, protocol, has_scanner)
        self.study = Study.open(self.folder)
        for (_, channel, _), serial in zip(channels, self.study.cells, strict=False):
            self.study.log.append("load", "rig", channel=channel, serial=serial)
        self.channels = [channel for _, channel, _ in channels]
        self.bench: subprocess.Popen[str] | None = None
        self.thread: InThread | None = None
        if in_thread:
            self.thread = InThread(self.study)
            self.control = BenchClock(simulated.HOST, self.thread.control_port)
            return
        self.bench = simulated.start(self.folder, real_time=real_time)
        self.control = simulated.control_of(self.folder)

    def _write(
        self, instruments: dict[str, tuple[str, str]], channels: list[tuple[str, str, int]],
        poll: str, protocol: str, has_scanner: bool,
    ) -> None:  # fmt: skip
        name = next(line.split()[1] for line in protocol.splitlines() if line.startswith("name:"))
        lots = -(-len(channels) // 256)
        write_study(self.folder, size=Size(1, lots, -(-len(channels) // lots)), protocols=(name,))
        ports = simulated.free_ports(2 * len(instruments) + 1)
        lines = ["schema: batterylab.bench/1", "name: rig", "instruments:"]
        for i, (each, (model, more)) in enumerate(instruments.items()):
            stop = f", stop_port: {ports[-2 - i]}" if model.startswith("keithley") else ""
            address = f"TCPIP::127.0.0.1::{ports[i]}::SOCKET"
            lines.append(f'  {each}: {{model: {model}, address: "{address}"{more}{stop}}}')
        lines.append("channels:")
        for i, (instrument, channel, number) in enumerate(channels):
            place = PLACES[i] if has_scanner and i < len(PLACES) else 0
            probe = f', temperature: "temps:{place}"' if place else ""
            lines.append(f"  - {{name: {channel}, cycler: {instrument}, channel: {number}{probe}}}")
        lines.append(LIMITS)
        lines.append(f"poll: {poll}")
        if not self.real_time:
            lines.append(f'clock: "127.0.0.1:{ports[-1]}"')
        (self.folder / "bench.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (self.folder / "protocols" / f"{name}.yaml").write_text(protocol, encoding="utf-8")

    # -- the bench ------------------------------------------------------------------------------
    def flows(self) -> dict[str, float]:
        """Return the true current of each channel."""
        found: dict[str, float] = self.control.ask("flows")["current_A"]
        return found

    def is_quiet(self) -> bool:
        """Say whether no current flows anywhere."""
        return all(abs(amps) < SAFE_A for amps in self.flows().values())

    def all_flow(self) -> bool:
        """Say whether every channel carries current."""
        return all(abs(amps) > 0.1 for amps in self.flows().values())

    def fault(self, instrument: str, kind: str, **more: Any) -> None:
        """Let an instrument fail."""
        self.control.ask("fault", instrument=instrument, kind=kind, **more)

    def another_control(self) -> BenchClock:
        """Return a further connection to the control port."""
        return simulated.control_of(self.folder)

    # -- the run --------------------------------------------------------------------------------
    def start(self) -> int:
        """Start runner and guard; return the runner's number."""
        return run.start_detached(self.study, "rig")

    def until_current_flows(self, seconds: float = 60.0) -> None:
        """Wait until every channel carries current.

        Raises
        ------
        RuntimeError
            If the run ends before.
        """

        def flows_or_ended() -> bool:
            if self.all_flow():
                return True
            if not run.is_running(self.study):
                raise RuntimeError(f"the run ended: {self.told()}")
            return False

        wait_for(flows_or_ended, seconds, self.told, PATIENT_s)

    def told(self) -> str:
        """Return what the runner said last."""
        with contextlib.suppress(OSError):
            return (self.folder / "run" / "output").read_text(errors="replace")[-500:]
        return ""

    def seconds_to_quiet(self, since: float, seconds: float = 30.0) -> float:
        """Return how long after `since` (monotonic) the last current was seen to have ended."""
        wait_for(self.is_quiet, seconds, self.told)
        return time.monotonic() - since

    def wait_for_end(self, seconds: float = 60.0) -> dict[str, Any]:
        """Wait until the runner is gone; return the status."""
        wait_for(lambda: not run.is_running(self.study), seconds, self.told, PATIENT_s)
        return run.status_of(self.study)

    def stop(self) -> None:
        """End whatever runs."""
        if run.is_running(self.study):
            run.stop(self.study)

    def journal(self) -> JournalContent | None:
        """Return what the newest journal holds now."""
        found = journals(self.study)
        return JournalContent(found[-1]) if found else None

    def sealed(self) -> list[Recording]:
        """Return every recording of the archive, each of them verified."""
        entries = find(self.study.archive) if self.study.archive.is_dir() else []
        for entry in entries:
            verify(entry.path)
        return [read(entry.path) for entry in entries]

    def close(self) -> None:
        """End everything and remove the study."""
        with contextlib.suppress(Exception):
            self.stop()
        self.control.close()
        if self.thread is not None:
            self.thread.close()
        if self.bench is not None:
            simulated.finish(self.bench)
        while run._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                run._started.pop().wait(timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def rig(**options: Any) -> Iterator[Rig]:
    """Yield a rig, and clear it away."""
    made = Rig(**options)
    try:
        yield made
    finally:
        made.close()


def wait_for(
    condition: Callable[[], object], seconds: float, told: Callable[[], str] = lambda: "",
    every_s: float = 0.01,
) -> None:  # fmt: skip
    """Wait until a condition holds.

    Raises
    ------
    TimeoutError
        If it does not.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s; the runner said: {told()}")
        time.sleep(every_s)


def kill(pid: int, number: int = signal.SIGKILL) -> float:
    """Send a signal; return when, on the monotonic clock."""
    os.kill(pid, number)
    return time.monotonic()


def guard_report(study: Study) -> dict[str, Any]:
    """Return what the guard wrote, or an empty dict."""
    with contextlib.suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads((study.path / "run" / "guard.json").read_text())
        return found
    return {}
