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
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from bars import Line
from faults_rig import PATIENT_s, Rig, guard_report, kill, rig, wait_for

from batterylab.bench import process as run
from batterylab.bench.guard import SILENCE_s
from batterylab.bench.journal import ROW, JournalContent
from batterylab.bench.session import interrupted_runs, journals, recover
from batterylab.errors import EnvironmentFailedError
from batterylab.recording import Recording
from batterylab.study import Study

#: the models' own settling time after they were told, in s
SETTLE_s = 0.3
SAFE_s = 2.0
#: rows are on the disk a second after the look that fetched them
DURABLE_s = 1.0
#: a row every second, and a change of step on a busy machine
GAP_s = 3.0
#: the way from the runner's death to the end of current, at most
STOP_s = 3.0
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


@dataclass
class Tally:
    """What was seen over many kills."""

    quiet_s: list[float] = field(default_factory=list)
    lost_rows: int = 0
    rows: int = 0
    behind_s: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)


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


class Ordeal:
    """A run that is killed and resumed, again and again.

    What was durable when the runner died is remembered: the next journal must begin with it, and
    the archive must hold every row of it.
    """

    def __init__(self, made: Rig, tally: Tally) -> None:
        self.made, self.tally = made, tally
        self.flows_since = float("nan")
        self._durable: tuple[Path | None, bytes] = (None, b"")

    def trouble(self, text: str) -> None:
        """Note something that must not be."""
        self.tally.troubles.append(text)

    # -- up ------------------------------------------------------------------------------------
    def begin(self, accepted: tuple[str, ...] = ()) -> bool:
        """Resume what there is to resume, else run; return whether it is resumed."""
        resumes = bool(interrupted_runs(self.made.study))
        self.flows_since = float("nan")
        run.start_detached(self.made.study, "rig", resumes=resumes, accepted=accepted)
        return resumes

    def outcome(self) -> str:
        """Wait until current flows in all channels, or the runner ended; return what it said."""
        made = self.made
        wait_for(lambda: made.all_flow() or not run.is_running(made.study), 90.0, made.told,
                 PATIENT_s)  # fmt: skip
        if run.is_running(made.study):
            self.flows_since = time.time()
            return ""
        status = run.status_of(made.study)
        return f"exit {status.get('exit_code')}: {' '.join(str(status.get('message')).split())}"

    def bring_up(self) -> None:
        """Have the run going, whatever was left; nothing may be refused."""
        resumes = self.begin()
        said = self.outcome()
        self.tally.outcomes["resumed" if resumes else "begun anew"] += not said
        if said:
            self.trouble(f"not {'resumed' if resumes else 'begun'}: {said[:200]}")
            self.seal()

    def refused(self, check: str, accepted: tuple[str, ...] = ()) -> None:
        """Resume, which must be refused for one reason; then accept it, if it can be."""
        self.begin()
        said = self.outcome()
        if not (said.startswith("exit 3") and f": {check}: " in said):
            self.trouble(f"{check} was to be refused: {said[:200] or 'it runs'}")
        if not self.made.is_quiet() and said:
            self.trouble(f"refused for {check}, and current flows")
        self.tally.outcomes[f"refused for {check}"] += 1
        if said and accepted:
            self.begin(accepted)
            said = self.outcome()
            self.tally.outcomes["accepted and resumed"] += not said
            if said:
                self.trouble(f"{check} was accepted: {said[:200]}")

    # -- down ----------------------------------------------------------------------------------
    def kill(self) -> None:
        """Kill the runner; time until nothing flows, and read what is left."""
        made, tally = self.made, self.tally
        pid = int((made.folder / "run" / "pid").read_text())
        guards = children_of(pid)
        report = made.folder / "run" / "guard.json"
        earlier_ns = report.stat().st_mtime_ns if report.exists() else 0
        before = made.flows()
        has_current = any(abs(amps) > 0.1 for amps in before.values())
        dead, killed_s = kill(pid), time.time()
        try:
            seconds = made.seconds_to_quiet(dead)
        except TimeoutError:
            seconds = float("inf")
        if has_current:
            tally.quiet_s.append(seconds)
        wait_for(lambda: not run.is_running(made.study), 30.0)
        wait_for(lambda: not any(map(lives, guards)), 60.0)
        if has_current:
            told = guard_report(made.study)
            if not (report.exists() and report.stat().st_mtime_ns > earlier_ns):
                self.trouble("the guard wrote nothing")
            elif not told.get("is_safe"):
                self.trouble(f"guard: {told.get('problem')}")
        content = self._look()
        if content is not None and len(content.rows) and self.flows_since < killed_s:
            newest_s = max(float(content.rows[:, 2].max()), self.flows_since)
            tally.behind_s.append(killed_s - newest_s)

    def _look(self) -> JournalContent | None:
        """Hold the journal against what was durable before."""
        found = journals(self.made.study)
        if not found:
            return None
        content = JournalContent(found[-1])
        path, durable = self._durable
        data = found[-1].read_bytes()
        if path == found[-1] and not data.startswith(durable):
            self.trouble(f"{path.name} does not begin with what was durable")
        self._durable = (found[-1], data[: content.whole_bytes])
        return content

    def seal(self) -> None:
        """Make recordings of the journal, and look for all its rows in them."""
        made = self.made
        content = self._look()
        earlier = {recording.seal for recording in made.sealed()}
        recover(made.study, "rig")
        found = {r.provenance["channel"]: r for r in made.sealed() if r.seal not in earlier}
        self._durable = (None, b"")
        if content is not None and content.head:
            compare(content, found, self.tally)
        for recording in found.values():
            _check_times(recording, self.tally)

    def change_cell(self) -> None:
        """Take a cell out and put it back: nobody can know that it is the same one."""
        log = self.made.study.log
        channel, serial = next(iter(log.occupied().items()))
        log.append("unload", "rig", serial=serial, channel=channel, fate="stored")
        log.append("load", "rig", serial=serial, channel=channel)


def _check_times(recording: Recording, tally: Tally) -> None:
    """No sample may be missing but around a pause, and none may be doubled or nonsense.

    Around a pause a channel waits until the others are up; more charge than the current explains
    in that time must not appear.
    """
    columns, name = recording.columns, recording.provenance["channel"]
    times_s = columns["test_time_s"]
    gaps = np.diff(times_s)
    if not np.all(gaps > 0):
        tally.troubles.append(f"{name}: {np.sum(gaps <= 0)} rows doubled")
    pauses_s = [pause["at_s"] for pause in recording.provenance.get("pauses", ())]
    for i in np.flatnonzero(gaps > GAP_s):
        if not any(times_s[i] - 1 <= at_s <= times_s[i + 1] + 1 for at_s in pauses_s):
            tally.troubles.append(f"{name}: gap of {gaps[i]:.1f} s at {times_s[i]:.1f} s")
    moved_Ah = np.abs(np.diff(columns["net_capacity_Ah"]))
    if np.any(moved_Ah > 0.85 * (gaps + STOP_s) / 3600.0):
        tally.troubles.append(f"{name}: charge that no current explains")
    volts, amps = columns["voltage_V"], columns["current_A"]
    if not (np.all((volts > 2.4) & (volts < 4.3)) and np.all(np.abs(amps) < 0.85)):
        tally.troubles.append(f"{name}: a figure that cannot be")


def _kill_by_kill(ordeal: Ordeal, count: int, draw: random.Random) -> None:
    """One in four dies while it starts; some find something that does not agree."""
    ordeal.bring_up()
    for number in range(count):
        time.sleep(draw.uniform(0.0, 4.0))
        ordeal.kill()
        if number == count - 1:
            break
        if number % 10 == 1:
            (ordeal.made.folder / "run" / "guard.json").unlink()
            ordeal.refused("capacity", ("capacity",))
        elif number % 10 == 3:
            ordeal.change_cell()
            ordeal.refused("cell")
            ordeal.seal()
            ordeal.bring_up()
        elif draw.random() < 0.25:
            ordeal.begin()
            ordeal.tally.outcomes["killed while it came up"] += 1
        else:
            ordeal.bring_up()
    ordeal.seal()


def kills(count: int, seed: int = 1) -> Iterator[Line]:
    """SIGKILL the runner at random moments, judge what is left, and resume it."""
    tally = Tally()
    began = time.monotonic()
    with rig(frame=2, supplies=MIXED) as made:
        _kill_by_kill(Ordeal(made, tally), count, random.Random(seed))  # noqa: S311
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
        + f"; {archived} recordings, {len(tally.troubles)} troubles"
        + (f": {'; '.join(tally.troubles)[:400]}" if tally.troubles else ""),
        "no trouble", archived > 0 and not tally.troubles and tally.outcomes["resumed"] > 0,
    )  # fmt: skip
    yield Line("  time", f"{(time.monotonic() - began) / max(count, 1):.1f} s each", "-", None)


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


def children_of(pid: int) -> list[int]:
    """Return the numbers of a process's children."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def lives(pid: int) -> bool:
    """Say whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


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
            _check_times(recording, tally)
            lengths.append(float(recording.columns["test_time_s"][-1]))
        done = jumps.read_text().split() if jumps.exists() else []
    shortest, longest = min(lengths, default=0.0), max(lengths, default=0.0)
    yield Line("clock steps +1 h, -1 h (NTP), summer time",
               f"{'runs on' if flows else 'stopped'}, {shortest:.0f} to {longest:.0f} s "
               f"recorded, {len(done)} jumps, {len(tally.troubles)} gaps",
               "runs on, no gap, none twice",
               flows and not tally.troubles and len(done) == 3
               and shortest > 15.0 and longest < lasted_s + 60.0)  # fmt: skip
