"""What happens when a process, the disk or the clock fails: rows of `faults.py`."""

import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from bars import Line
from faults_rig import Rig, guard_report, kill, rig, wait_for

from batterylab.bench import process as run
from batterylab.bench.journal import ROW, JournalContent
from batterylab.bench.session import recover
from batterylab.errors import EnvironmentFailedError
from batterylab.recording import Recording

#: the models' own settling time after they were told, in s
SETTLE_s = 0.3
SAFE_s = 2.0
#: rows are on the disk a second after the look that fetched them
DURABLE_s = 1.0
MIXED = {"E": 1, "I": 1, "K": 1, "S": 1}
#: a runner whose machine's clock steps after some seconds, as NTP or a hand does it
STEPPED = """
import sys, time
real, began = time.time, time.monotonic()
time.time = lambda: real() + ({by!r} if time.monotonic() - began > {after!r} else 0.0)
from batterylab.bench import process
sys.argv = ["runner", sys.argv[1], "rig"]
process.main()
"""


@dataclass
class Tally:
    """What was seen over many kills."""

    quiet_s: list[float] = field(default_factory=list)
    lost_rows: int = 0
    rows: int = 0
    behind_s: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    unsafe: int = 0


def rows_of(recording: Recording) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return times, currents and voltages of a recording, to be compared with a journal's."""
    names = ("unix_time_s", "current_A", "voltage_V")
    return np.column_stack([recording.columns[name] for name in names])


def compare(content: JournalContent, found: dict[str, Recording], tally: Tally) -> None:
    """Look for every row of a journal in the recordings made from it."""
    wanted = [ROW.index(name) for name in ("unix_time_s", "current_A", "voltage_V")]
    for index, channel in enumerate(content.head.get("channels", [])):
        rows = content.rows[content.rows[:, 0] == index][:, wanted]
        tally.rows += len(rows)
        if not len(rows):
            continue
        held = found.get(channel["channel"])
        if held is None:
            tally.lost_rows += len(rows)
            continue
        kept = {row.tobytes() for row in np.ascontiguousarray(rows_of(held))}
        tally.lost_rows += sum(row.tobytes() not in kept for row in np.ascontiguousarray(rows))


def one_kill(made: Rig, random_s: float, tally: Tally, *, starts: bool) -> None:
    """Start a run, kill it after a while, and look at what is left."""
    made.start()
    pid = int((made.folder / "run" / "pid").read_text())
    if not starts:
        made.until_current_flows()
    time.sleep(random_s)
    before = made.flows()
    dead = kill(pid)
    killed_s = time.time()
    try:
        seconds = made.seconds_to_quiet(dead)
    except TimeoutError:
        tally.unsafe += 1
        made.control.ask("flows")
        seconds = float("inf")
    if any(abs(amps) > 0.1 for amps in before.values()):
        tally.quiet_s.append(seconds)
    wait_for(lambda: not run.is_running(made.study), 30.0)
    report: dict[str, Any] = {}
    if any(abs(amps) > 0.1 for amps in before.values()):
        wait_for(lambda: guard_report(made.study), 60.0)
        report = guard_report(made.study)
        if not report.get("is_safe"):
            tally.troubles.append(f"guard: {report.get('problem')}")
    content = made.journal()
    earlier = {recording.seal for recording in made.sealed()}
    recover(made.study, "rig")
    found = {r.provenance["channel"]: r for r in made.sealed() if r.seal not in earlier}
    if content is None or not content.head:
        return
    compare(content, found, tally)
    if len(content.rows) and made.study.log.occupied():
        tally.behind_s.append(killed_s - float(content.rows[:, 2].max()))
    for recording in found.values():
        _check_times(recording, tally)


def _check_times(recording: Recording, tally: Tally) -> None:
    """No sample may be missing in the middle, and none may be nonsense."""
    gaps = np.diff(recording.columns["unix_time_s"])
    if len(gaps) and (gaps.max() > 3.0 or gaps.min() <= 0):
        tally.troubles.append(f"{recording.provenance['channel']}: gap of {gaps.max():.1f} s")
    volts, amps = recording.columns["voltage_V"], recording.columns["current_A"]
    if not (np.all((volts > 2.4) & (volts < 4.3)) and np.all(np.abs(amps) < 0.85)):
        tally.troubles.append(f"{recording.provenance['channel']}: a figure that cannot be")


def kills(count: int, seed: int = 1) -> Iterator[Line]:
    """SIGKILL the runner at random moments, and judge what is left."""
    draw = random.Random(seed)  # noqa: S311
    tally = Tally()
    began = time.monotonic()
    with rig(frame=2, supplies=MIXED) as made:
        for _ in range(count):
            # one in four while it starts, the others while current flows
            one_kill(made, draw.uniform(0.0, 4.0), tally, starts=draw.random() < 0.25)
        archived = len(made.sealed())
    bound_s = SAFE_s + SETTLE_s
    many = len(tally.quiet_s)
    worst = max(tally.quiet_s, default=0.0)
    middle = statistics.median(tally.quiet_s) if many else 0.0
    yield Line(
        f"{count} SIGKILLs of the runner: safe state",
        f"median {middle:.2f} s, worst {worst:.2f} s ({many} with current)",
        f"{SAFE_s:g} s + {SETTLE_s:g} s to settle", bool(many) and worst <= bound_s,
    )  # fmt: skip
    yield Line(
        "  journal rows missing in the archive", f"{tally.lost_rows} of {tally.rows}", "0",
        tally.lost_rows == 0 and tally.rows > 0,
    )  # fmt: skip
    behind = max(tally.behind_s, default=0.0)
    yield Line(
        "  newest row on the disk is at most so old", f"{behind:.2f} s",
        f"poll 1 s + {DURABLE_s:g} s", behind <= 1.0 + DURABLE_s + 0.5,
    )  # fmt: skip
    yield Line(
        "  archives verified, no gap, no odd figure",
        f"{archived} recordings, {len(tally.troubles)} troubles"
        + (f": {tally.troubles[0]}" if tally.troubles else ""),
        "no trouble", archived > 0 and not tally.troubles,
    )  # fmt: skip
    yield Line("  time", f"{(time.monotonic() - began) / max(count, 1):.1f} s each", "-", None)


def hung_runner() -> Iterator[Line]:
    """Stop the runner with SIGSTOP: the guard hears nothing and acts."""
    from batterylab.bench.guard import SILENCE_s

    with rig(frame=2, supplies=MIXED) as made:
        made.start()
        made.until_current_flows()
        pid = int((made.folder / "run" / "pid").read_text())
        stopped = kill(pid, signal.SIGSTOP)
        try:
            seconds = made.seconds_to_quiet(stopped, 60.0)
            wait_for(lambda: guard_report(made.study), 60.0)
            report = guard_report(made.study)
        finally:
            if run.is_running(made.study):
                os.kill(pid, signal.SIGCONT)
        yield Line("runner hung (SIGSTOP): safe state",
                   f"{seconds:.2f} s; {report.get('reason', 'no word')}",
                   f"{SILENCE_s:g} s silence + {SAFE_s:g} s + {SETTLE_s:g} s",
                   seconds <= SILENCE_s + SAFE_s + SETTLE_s
                   and bool(report.get("is_safe")))  # fmt: skip


def dead_guard() -> Iterator[Line]:
    """Kill the guard: the runner stops everything by itself."""
    with rig(frame=2, supplies=MIXED) as made:
        made.start()
        made.until_current_flows()
        pid = int((made.folder / "run" / "pid").read_text())
        (guard,) = children_of(pid)
        killed = kill(guard)
        seconds = made.seconds_to_quiet(killed)
        status = made.wait_for_end()
        yield Line("guard killed: the runner stops all",
                   f"{seconds:.2f} s; exit {status['exit_code']}: {status['message'][:24]}",
                   "poll 1 s + 2 s", seconds <= 1.0 + SAFE_s + SETTLE_s
                   and status["exit_code"] == 1 and "guard" in status["message"])  # fmt: skip


def children_of(pid: int) -> list[int]:
    """Return the numbers of a process's children."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def two_runners() -> Iterator[Line]:
    """A second run of the study, and one of another study on the same cyclers, are refused."""
    with rig(frame=2) as made, rig(frame=2) as other:
        bench = (made.folder / "bench.yaml").read_text()
        (other.folder / "bench.yaml").write_text(bench)
        made.start()
        made.until_current_flows()
        reasons = []
        for study in (made.study, other.study):
            try:
                run.run_here(study, "rig")
                reasons.append("NOT REFUSED")
            except EnvironmentFailedError as error:
                reasons.append(error.message)
        still = all(abs(a) > 0.1 for a in made.flows().values())
    right = reasons == ["this study is running", run.IN_USE]
    yield Line("two runners on one bench", "; ".join(r[:22] for r in reasons), "both refused",
               right and still)  # fmt: skip


def full_disk() -> Iterator[Line]:
    """Let the journal's file grow no further (RLIMIT_FSIZE), as a full disk or a quota does."""
    with rig(frame=2, supplies={"E": 1}) as made:
        made.start()
        made.until_current_flows()
        pid = int((made.folder / "run" / "pid").read_text())
        journal = next((made.folder / "journal").glob("*.journal"))
        room = journal.stat().st_size + 2000
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        status = made.wait_for_end(90.0)
        is_quiet = made.is_quiet()
        recover(made.study, "rig")
        rows = sum(len(recording) for recording in made.sealed())
        yield Line("disk full (RLIMIT_FSIZE on the journal)",
                   f"exit {status['exit_code']}, {rows} rows kept: "
                   f"{status['message'].splitlines()[0][-30:]}",
                   "all safe, exit 1, all rows so far kept",
                   is_quiet and status["exit_code"] == 1 and rows > 20
                   and "written" in status["message"])  # fmt: skip


def clock_jumps(is_quick: bool) -> Iterator[Line]:
    """Step the machine's clock under the runner; a change to summer time moves no UTC."""
    ways = (("back an hour", -3600.0), ("forward an hour", 3600.0))
    for name, by in ways[:1] if is_quick else ways:
        with rig(frame=2, supplies={"E": 1}) as made:
            code = STEPPED.format(by=by, after=8.0)
            with (made.folder / "output.txt").open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-c", code, str(made.folder)], stdout=output, stderr=output,
                    start_new_session=True, env={**os.environ, "TZ": "Europe/Berlin"},
                )  # fmt: skip
            try:
                wait_for((made.folder / "run" / "status.json").exists, 60.0)
                made.until_current_flows()
                time.sleep(12.0)
                flows = all(abs(a) > 0.1 for a in made.flows().values())
                made.stop()
            finally:
                if process.poll() is None:
                    process.terminate()
                process.wait(timeout=60)
            tally = Tally()
            lengths = []
            for recording in made.sealed():
                _check_times(recording, tally)
                lengths.append(float(recording.columns["test_time_s"][-1]))
        yield Line(f"clock steps {name} (NTP, by hand)",
                   f"{'runs on' if flows else 'stopped'}, {min(lengths, default=0):.0f} s "
                   f"recorded, {len(tally.troubles)} gaps", "runs on, no gap, none twice",
                   flows and not tally.troubles and min(lengths, default=0) > 12)  # fmt: skip
