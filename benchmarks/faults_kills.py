"""What happens when a process, the disk or the clock fails: rows of `faults.py`."""

import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from bars import Line
from faults_ordeal import Ordeal, Tally, check_times, children_of, compare, kill_by_kill
from faults_rig import Rig, guard_report, kill, rig, wait_for

from batterylab.bench import process as run
from batterylab.bench.guard import SILENCE_s
from batterylab.bench.journal import JournalContent
from batterylab.bench.session import journals, recover
from batterylab.errors import EnvironmentFailedError
from batterylab.study import Study

#: the models' own settling time after they were told, in s
SETTLE_s = 0.3
SAFE_s = 2.0
#: rows are on the disk a second after the look that fetched them
DURABLE_s = 1.0
#: benches that are hurt side by side
BENCHES = 8
MIXED = {"E": 1, "I": 1, "K": 1, "S": 1}
#: a runner whose machine's clock steps, as by NTP or by hand, and whose zone changes
STEPPED = """
import os, sys, threading, time
real, offset, folder = time.time, [0.0], sys.argv[1]
time.time = lambda: real() + offset[0]

def step():
    while not os.path.exists(folder + "/journal"):
        time.sleep(0.1)
    for by, zone in ((3600.0, "UTC-1"), (0.0, "UTC-1"), (0.0, "UTC-2")):
        time.sleep(7.0)
        offset[0], os.environ["TZ"] = by, zone
        time.tzset()
        with open(folder + "/jumps", "a") as stream:
            stream.write(f"{by}{zone} ")

threading.Thread(target=step, daemon=True).start()
from batterylab.bench import process
sys.argv = ["runner", folder, "rig"]
process.main()
"""


def one_bench(count: int, seed: int, seconds: float) -> Tally:
    """Kill and resume on one bench."""
    tally = Tally()
    began = time.monotonic()
    with rig(frame=2, supplies=MIXED) as made:
        kill_by_kill(Ordeal(made, tally), count, random.Random(seed), began + seconds)  # noqa: S311
        tally.archived = len(made.sealed())
    tally.took_s = time.monotonic() - began
    return tally


def kills(count: int, kept: Path | None = None, seconds: float = 1e6) -> Iterator[Line]:
    """SIGKILL the runner at random moments, judge what is left, and resume it.

    Parameters
    ----------
    count : int
        How many kills, over several benches side by side.
    kept : Path, optional
        A file to which what was seen is added: the kills in it count.
    seconds : float
        No kill is begun after this time.
    """
    tally = Tally.read(kept) if kept else Tally()
    left = max(0, count - tally.kills)
    benches = min(BENCHES, -(-left // 3))
    shares = [left // benches + (k < left % benches) for k in range(benches)]
    with ProcessPoolExecutor(max(1, benches), mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(one_bench, share, 100 * tally.kills + k, seconds)
                for k, share in enumerate(shares)]  # fmt: skip
        for job in jobs:
            try:
                tally.add(job.result())
            except Exception as error:  # what the other benches saw counts all the same
                tally.troubles.append(f"{type(error).__name__}: {error}"[:300])
            if kept:
                tally.keep(kept)
    yield from judged(tally, count)


def judged(tally: Tally, count: int) -> Iterator[Line]:
    """Hold what was seen against the bars."""
    bound_s = SAFE_s + SETTLE_s
    many = len(tally.quiet_s)
    worst = max(tally.quiet_s, default=0.0)
    middle = statistics.median(tally.quiet_s) if many else 0.0
    yield Line(
        f"{tally.kills} SIGKILLs of the runner: safe state",
        f"median {middle:.2f} s, worst {worst:.2f} s ({many} with current)",
        f"{count}; {SAFE_s:g} s + {SETTLE_s:g} s to settle",
        bool(many) and worst <= bound_s and tally.kills >= count,
    )  # fmt: skip
    yield Line(
        "  durable rows missing in the archive", f"{tally.lost_rows} of {tally.rows}", "0",
        tally.lost_rows == 0 and tally.rows > 0,
    )  # fmt: skip
    behind = max(tally.behind_s, default=float("inf"))
    yield Line(
        "  newest row on the disk is at most so old", f"{behind:.2f} s",
        f"poll 1 s + {DURABLE_s:g} s", behind <= 1.0 + DURABLE_s + 0.5,
    )  # fmt: skip
    yield Line(
        "  resumed, or refused with the right reason",
        ", ".join(f"{n} {what}" for what, n in tally.outcomes.items())
        + f"; {tally.archived} recordings, {len(tally.troubles)} troubles"
        + (f": {'; '.join(tally.troubles)[:400]}" if tally.troubles else ""),
        "no trouble", tally.archived > 0 and not tally.troubles
        and tally.outcomes["resumed"] + tally.outcomes["accepted and resumed"] > 0,
    )  # fmt: skip
    yield Line("  time", f"{tally.took_s / max(tally.kills, 1):.1f} s each", "-", None)


def processes() -> Iterator[Line]:
    """One bench: a second runner, a runner that hangs, a guard that dies, a disk that is full."""
    with rig(frame=2, supplies=MIXED) as made:
        made.start()
        made.until_current_flows()
        yield two_runners(made)
        yield hung_runner(made)
        made.start()
        made.until_current_flows()
        yield dead_guard(made)
        made.start()
        made.until_current_flows()
        yield full_disk(made)


def hung_runner(made: Rig) -> Line:
    """Stop the runner with SIGSTOP: the guard hears nothing and acts."""
    pid = int((made.folder / "run" / "pid").read_text())
    stopped = kill(pid, signal.SIGSTOP)
    try:
        seconds = made.seconds_to_quiet(stopped, 60.0)
        wait_for(lambda: guard_report(made.study), 60.0)
        report = guard_report(made.study)
        wait_for(lambda: not run.is_running(made.study), 30.0)
    finally:
        if run.is_running(made.study):
            os.kill(pid, signal.SIGCONT)
    return Line("runner hung (SIGSTOP): safe state",
                f"{seconds:.2f} s; {report.get('reason', 'no word')}",
                f"{SILENCE_s:g} s silence + {SAFE_s:g} s + {SETTLE_s:g} s",
                seconds <= SILENCE_s + SAFE_s + SETTLE_s
                and bool(report.get("is_safe")))  # fmt: skip


def dead_guard(made: Rig) -> Line:
    """Kill the guard: the runner stops everything by itself."""
    pid = int((made.folder / "run" / "pid").read_text())
    (guard,) = children_of(pid)
    killed = kill(guard)
    seconds = made.seconds_to_quiet(killed)
    status = made.wait_for_end()
    return Line("guard killed: the runner stops all",
                f"{seconds:.2f} s; exit {status['exit_code']}: {status['message'][:24]}",
                "poll 1 s + 2 s", seconds <= 1.0 + SAFE_s + SETTLE_s
                and status["exit_code"] == 1 and "guard" in status["message"])  # fmt: skip


def two_runners(made: Rig) -> Line:
    """A second run of the study, and one of another study on the same cyclers, are refused."""
    other = made.folder.with_name(made.folder.name + "-other")
    shutil.copytree(made.folder, other, ignore=shutil.ignore_patterns("run", "journal"))
    reasons = []
    try:
        for study in (made.study, Study.open(other)):
            try:
                run.run_here(study, "rig")
                reasons.append("NOT REFUSED")
            except EnvironmentFailedError as error:
                reasons.append(error.message)
    finally:
        shutil.rmtree(other)
    right = reasons == ["this study is running", run.IN_USE]
    return Line("two runners on one bench", "; ".join(r[:22] for r in reasons), "both refused",
                right and run.is_running(made.study))  # fmt: skip


def full_disk(made: Rig) -> Line:
    """Let the journal's file grow no further (RLIMIT_FSIZE), as a full disk or a quota does."""
    pid = int((made.folder / "run" / "pid").read_text())
    journal = journals(made.study)[-1]
    room = journal.stat().st_size + 2000
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    status = made.wait_for_end(90.0)
    is_quiet = made.is_quiet()
    left = journals(made.study)
    content = JournalContent(left[-1]) if left else None
    recover(made.study, "rig")
    tally = Tally()
    if content is not None:
        name = content.head["run"]
        compare(content, {r.provenance["channel"]: r for r in made.sealed()
                          if r.provenance["run"] == name}, tally)  # fmt: skip
    return Line("disk full (RLIMIT_FSIZE on the journal)",
                f"exit {status['exit_code']}, {tally.rows - tally.lost_rows} of {tally.rows} rows "
                f"kept: {status['message'].splitlines()[0][-30:]}",
                "all safe, exit 1, all rows so far kept",
                is_quiet and status["exit_code"] == 1 and tally.rows > 20
                and tally.lost_rows == 0 and "written" in status["message"])  # fmt: skip


def clock_jumps() -> Iterator[Line]:
    """Step the machine's clock under the runner, forward and back, and its time zone with it.

    A change to summer time moves local time alone: the zone is changed in the running process.
    """
    with rig(frame=2, supplies={"E": 1}) as made:
        with (made.folder / "output.txt").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", STEPPED, str(made.folder)], stdout=output, stderr=output,
                start_new_session=True, env={**os.environ, "TZ": "UTC-1"},
            )  # fmt: skip
        jumps = made.folder / "jumps"
        try:
            wait_for((made.folder / "run" / "status.json").exists, 60.0)
            made.until_current_flows()
            began = time.monotonic()
            time.sleep(20.0)
            flows = made.all_flow()
            made.stop()
            lasted_s = time.monotonic() - began
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(timeout=60)
        tally = Tally()
        lengths = []
        for recording in made.sealed():
            check_times(recording, tally)
            lengths.append(float(recording.columns["test_time_s"][-1]))
        done = jumps.read_text().split() if jumps.exists() else []
    shortest, longest = min(lengths, default=0.0), max(lengths, default=0.0)
    yield Line("clock steps +1 h, -1 h (NTP), summer time",
               f"{'runs on' if flows else 'stopped'}, {shortest:.0f} to {longest:.0f} s "
               f"recorded, {len(done)} jumps, {len(tally.troubles)} gaps",
               "runs on, no gap, none twice",
               flows and not tally.troubles and len(done) == 3
               and shortest > 15.0 and longest < lasted_s + 60.0)  # fmt: skip
