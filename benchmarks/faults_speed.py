"""How many channels and samples a second a bench takes: rows of `faults.py`."""

import asyncio
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvisa
from bars import Line
from faults_rig import Rig, kill, rig

from batterylab.bench import session
from batterylab.bench.clock import WallClock
from batterylab.bench.journal import ROW, JournalContent
from batterylab.drivers.catalogue import spec
from batterylab.drivers.link import Link, LinkSpec
from batterylab.drivers.scpi import ScpiDriver
from batterylab.errors import EnvironmentFailedError
from batterylab.simulated.scpi import LineServer

TICKS = os.sysconf("SC_CLK_TCK")
LATE_SHARE, CORE_SHARE, RATIO, RATE = 0.2, 0.6, 1.3, 200_000
BLOCK_BYTES = 61_524
#: a month of slow cycles: what is timed is the run, not its end
LONG = """\
schema: batterylab.protocol/1
name: long
steps:
  - rest: {for: 60 s}
  - charge: {rate: C/3, until: 4.2 V, hold_until: C/20, at_most: 5 h}
  - rest: {for: 10 min}
  - discharge: {rate: C/3, until: 2.5 V, at_most: 4 h}
  - repeat: {times: 50}
    steps:
      - charge: {rate: C/3, until: 4.2 V, hold_until: C/20, at_most: 5 h}
      - discharge: {rate: C/3, until: 2.5 V, at_most: 4 h}
record: {every: 1 s}
"""


def cpu_s(pid: int) -> float:
    """Return the processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_MB(pid: int) -> float:
    """Return the memory of a process that is its own; files that it maps are not."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024.0
    return 0.0


class Served:
    """A line server in a thread."""

    def __init__(self, answer: Callable[[str], list[str | bytes]]) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.server = LineServer(answer)
        self.port: int = self._do(self.server.serve("127.0.0.1", 0))

    def _do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=30)

    def close(self) -> None:
        """End it."""
        self._do(self.server.close())
        self.loop.call_soon_threadsafe(self.loop.stop)


def links(repeats: int) -> Iterator[Line]:
    """Compare a reading of 256 values with PyVISA's own; a block; a closed port."""
    values = ",".join(f"{3.6 + 1e-4 * i:.6f}" for i in range(256))
    block = b"#5" + str(BLOCK_BYTES).encode() + bytes(range(256)) * (BLOCK_BYTES // 256) \
        + bytes(BLOCK_BYTES % 256)  # fmt: skip
    served = Served(lambda text: [block] if text == "BLOCK?" else [values])
    address = f"TCPIP::127.0.0.1::{served.port}::SOCKET"
    link = Link("bench", address, LinkSpec(), WallClock())
    plain = pyvisa.ResourceManager("@py").open_resource(
        address, read_termination="\n", write_termination="\n"
    )

    driver = ScpiDriver(link, spec("keysight_bt2200"))

    def ours() -> list[float]:
        return driver.numbers("MEAS:VOLT? 0000", 256)

    if ours() != plain.query_ascii_values("MEAS:VOLT? 0000"):
        raise ValueError("the two do not read the same")
    ratios, mine = [], []
    for _ in range(repeats):
        turn = []
        for work in (ours, lambda: plain.query_ascii_values("MEAS:VOLT? 0000")):
            began = time.perf_counter()
            for _ in range(20):
                work()
            turn.append((time.perf_counter() - began) / 20)
        ratios.append(turn[0] / turn[1])
        mine.append(turn[0])
    ratio = statistics.median(ratios)
    yield Line("256 values, against query_ascii_values",
               f"ratio {ratio:.2f} ({1e3 * statistics.median(mine):.2f} ms)",
               f"at most {RATIO:g}", ratio <= RATIO)  # fmt: skip
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        content = link.query_block("BLOCK?")
        times.append(time.perf_counter() - began)
    yield Line("a block of 61 kB by counted reads", f"{1e3 * statistics.median(times):.2f} ms",
               "whole", len(content) == BLOCK_BYTES)  # fmt: skip
    link.close()
    plain.close()
    served.close()
    try:
        Link("bench", address, LinkSpec(), WallClock()).close()
        told = "opened"
    except EnvironmentFailedError as error:
        told = error.message.split(": ")[1]
    yield Line("a port that nobody listens at", told, "our error at opening", told != "opened")


@dataclass(frozen=True)
class Mark:
    """How far a run in bench time is, and what it has taken."""

    bench_s: float
    wall_s: float
    ours_s: float
    theirs_s: float
    memory_MB: float


def _virtual(made: Rig, seconds: float) -> tuple[list[Mark], int]:
    """Run in bench time; return a mark at each look, and the number of recordings sealed."""
    marks: list[Mark] = []
    pid = made.bench.pid if made.bench else 0

    def look(data: dict[str, Any]) -> None:
        if data.get("phase") == "running":
            marks.append(Mark(data["bench_time_s"], time.monotonic(), time.process_time(),
                              cpu_s(pid), memory_MB(os.getpid())))  # fmt: skip

    def enough() -> str:
        return "enough" if marks and marks[-1].bench_s - marks[0].bench_s > seconds else ""

    sealed = session.run_study(made.study, "rig", report=look, should_stop=enough)
    return marks, len(sealed)


def _costs(marks: list[Mark], channels: int) -> tuple[float, float, float, float]:
    """Return samples, wall time, and processor time of ours and of the simulated bench."""
    first, last = marks[0], marks[-1]
    return ((last.bench_s - first.bench_s) * channels, last.wall_s - first.wall_s,
            last.ours_s - first.ours_s, last.theirs_s - first.theirs_s)  # fmt: skip


def virtual_time(is_quick: bool) -> Iterator[Line]:
    """Count the samples a second of processor time that a simulated bench gives through a run.

    The run of the frame is the soak as well: memory must not grow with what has gone through.
    """
    wanted = 600_000 if is_quick else 10_000_000
    with rig(frame=256, real_time=False, poll="60 s", protocol=LONG) as made:
        marks, sealed = _virtual(made, wanted / 256)
        at_end = memory_MB(os.getpid())
    count, wall, ours, theirs = _costs(marks, 256)
    rate = count / (ours + theirs)
    yield Line("virtual time, one frame of 256, whole run",
               f"{rate / 1e3:.0f}k/s of processor ({1e6 * ours / count:.2f} + "
               f"{1e6 * theirs / count:.2f} us), {count / wall / 1e3:.0f}k/s here",
               f"{RATE / 1e3:.0f}k/s", rate >= RATE)  # fmt: skip
    tenth = next(mark for mark in marks if mark.bench_s >= 0.1 * marks[-1].bench_s).memory_MB
    yield Line(f"soak of {count / 1e6:.1f} million samples: memory",
               f"{tenth:.0f} to {marks[-1].memory_MB:.0f} MB, {at_end:.0f} MB after sealing "
               f"{sealed}", "flat: within 20 MB",
               marks[-1].memory_MB - tenth < 20.0 and sealed == 256)  # fmt: skip
    with rig(frame=0, supplies={"E": 8}, real_time=False, poll="60 s", protocol=LONG) as made:
        marks, _ = _virtual(made, 600 if is_quick else 3600)
    count, wall, ours, theirs = _costs(marks, 8)
    rate = count / (ours + theirs)
    yield Line("virtual time, 8 host-stepped supplies",
               f"{rate / 1e3:.1f}k/s of processor ({1e6 * ours / count:.0f} + "
               f"{1e6 * theirs / count:.0f} us)", "reported", None)  # fmt: skip


def _real(made: Rig, seconds: float) -> tuple[float, float, float, float, JournalContent | None]:
    """Watch a run; return share of a core, memory before and after, and the machine."""
    made.start()
    made.until_current_flows(180.0)
    pid = int((made.folder / "run" / "pid").read_text())
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    everyone = [pid, *map(int, children)]
    time.sleep(5.0)
    began, used = time.monotonic(), sum(map(cpu_s, everyone))
    before = sum(map(memory_MB, everyone))
    idle_ms = sleeper_ms(seconds, 0.1)
    share = (sum(map(cpu_s, everyone)) - used) / (time.monotonic() - began)
    after = sum(map(memory_MB, everyone))
    content = made.journal()
    kill(pid)  # the guard makes all safe; hundreds of recordings need not be sealed
    return share, before, after, idle_ms, content


def lateness(content: JournalContent, names: list[str], period_s: float) -> tuple[float, int]:
    """Return the 99th percentile of how late samples follow each other in s, and their number."""
    late: list[np.ndarray[Any, Any]] = []
    for index, channel in enumerate(content.head["channels"]):
        if channel["channel"] not in names:
            continue
        rows = content.rows[content.rows[:, 0] == index]
        steps, times = rows[:, ROW.index("step_index")], rows[:, ROW.index("unix_time_s")]
        gaps = np.diff(times)[np.diff(steps) == 0]
        late.append(gaps - period_s)
    every = np.concatenate(late) if late else np.zeros(0)
    return (float(np.percentile(every, 99)) if len(every) else float("inf")), len(every)


def real_time(is_quick: bool) -> Iterator[Line]:
    """Hold a whole frame and 32 supplies at their pace."""
    yield from _at_pace("256 of a frame + 32 stepped at 1 Hz", 256, 1.0, is_quick)


def fast(is_quick: bool) -> Iterator[Line]:
    """Hold 32 supplies at ten samples a second."""
    yield from _at_pace("32 stepped at 10 Hz", 0, 0.1, is_quick)


def sleeper_ms(seconds: float, period_s: float) -> float:
    """Return how late a thread that only sleeps wakes up on this machine: p99, in ms."""
    late = []
    due = began = time.monotonic()
    while due - began < seconds:
        due += period_s
        time.sleep(max(0.0, due - time.monotonic()))
        late.append(time.monotonic() - due)
    return 1e3 * float(np.percentile(late, 99))


def _at_pace(title: str, frame: int, period_s: float, is_quick: bool) -> Iterator[Line]:
    """Say how late samples are, and what they cost."""
    seconds = 15.0 if is_quick else 300.0
    protocol = STEADY.replace("every: 1 s", f"every: {period_s:g} s")
    with rig(frame=frame, supplies={"E": 16, "I": 16}, sample=f"{1000 * period_s:.0f} ms",
             poll="1 s", protocol=protocol) as made:  # fmt: skip
        share, before, after, idle_ms, content = _real(made, seconds)
    if content is None:
        raise ValueError("there is no journal")
    supplies = [name for name in made.channels if not name.startswith("F")]
    late = [("stepped", *lateness(content, supplies, period_s))]
    if frame:
        framed = [name for name in made.channels if name.startswith("F")]
        late.append(("frame", *lateness(content, framed, 1.0)))
    yield Line(f"{title}: lateness p99", ", ".join(
        f"{name} {100 * late_s / period_s:.0f} % of {count}" for name, late_s, count in late)
        + f"; one that only sleeps {idle_ms:.0f} ms",
        f"{100 * LATE_SHARE:g} % of the period",
        all(late_s <= LATE_SHARE * period_s for _, late_s, _ in late))  # fmt: skip
    yield Line("  runner + guard", f"{100 * share:.0f} % of a core",
               f"under {100 * CORE_SHARE:g} %", share < CORE_SHARE)  # fmt: skip
    yield Line("  memory", f"{before:.0f} to {after:.0f} MB", "flat: within 10 MB",
               after - before < 10.0)  # fmt: skip


#: supplies keep one step: what is held is the pace, not the time that a change of step takes
STEADY = """\
schema: batterylab.protocol/1
name: steady
steps:
  - discharge: {current: 0.5 A, for: 2 h}
record: {every: 1 s}
"""
