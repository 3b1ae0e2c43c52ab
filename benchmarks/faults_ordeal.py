"""A run that is killed and resumed again and again, and what must be true of what is left."""

import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from faults_rig import PATIENT_s, Rig, guard_report, kill, wait_for

from batterylab.bench import process as run
from batterylab.bench.journal import ROW, JournalContent
from batterylab.bench.session import interrupted_runs, journals, recover
from batterylab.recording import Recording

#: a row every second, and a change of step on a busy machine
GAP_s = 3.0
#: what a model needs besides to change its mode, or to begin, by its channel's letter: an IT-M3900
#: leaves its battery mode in 2 s, and settles twice
CHANGE_s = {"I": 3.0}
#: a sample is durable up to a second after it was due, another until it is looked at, and a third
#: until it is on the disk: so much is not seen of a channel's begin, nor of its end if the runner
#: dies; the fourth is that of the frame's log, whose last second is whole
UNSEEN_s = 4.0
#: the way from the runner's death to the end of current, at most
STOP_s = 3.0


@dataclass
class Tally:
    """What was seen over many kills."""

    quiet_s: list[float] = field(default_factory=list)
    lost_rows: int = 0
    rows: int = 0
    behind_s: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    archived: int = 0
    took_s: float = 0.0

    def add(self, other: "Tally") -> None:
        """Take over what another one saw."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @classmethod
    def read(cls, path: Path) -> "Tally":
        """Return what was kept of kills before; nothing where there is no file."""
        data = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        found = cls(**data)
        found.outcomes = Counter(found.outcomes)
        return found

    def keep(self, path: Path) -> None:
        """Write what was seen, so that more kills can be added to it another time."""
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(vars(self)), encoding="utf-8")
        temporary.replace(path)


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
        if not run.is_running(made.study):
            told = run.status_of(made.study).get("message")
            self.trouble(f"it ended by itself: {told}; {made.told()[-200:]}")
            return
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
            check_times(recording, self.tally)

    def change_cell(self) -> None:
        """Take a cell out and put it back: nobody can know that it is the same one."""
        log = self.made.study.log
        channel, serial = next(iter(log.occupied().items()))
        log.append("unload", "rig", serial=serial, channel=channel, fate="stored")
        log.append("load", "rig", serial=serial, channel=channel)


def check_times(recording: Recording, tally: Tally) -> None:
    """No sample may be missing, and none may be doubled or nonsense.

    Test time passes from when the first channel goes on. A runner that dies before the slowest
    model's first sample is durable leaves none of it: each of its lives within a gap must be
    shorter than that. More charge than the current explains must not appear.
    """
    columns, name = recording.columns, recording.provenance["channel"]
    times_s = columns["test_time_s"]
    gaps = np.diff(times_s)
    if not np.all(gaps > 0):
        tally.troubles.append(f"{name}: {np.sum(gaps <= 0)} rows doubled")
    pauses_s = np.array([pause["at_s"] for pause in recording.provenance.get("pauses", ())])
    change_s = CHANGE_s.get(name[0], 0.0)
    for i in np.flatnonzero(gaps > GAP_s):
        # the end of one life of the runner, those that ended too soon, the begin of the last one
        inside_s = pauses_s[(pauses_s > times_s[i] - 1) & (pauses_s < times_s[i + 1] + 1)]
        lives_s = np.diff([times_s[i], *inside_s, times_s[i + 1]])
        if np.any(lives_s > (UNSEEN_s if len(inside_s) else GAP_s) + change_s):
            tally.troubles.append(f"{name}: gap of {gaps[i]:.1f} s at {times_s[i]:.1f} s: "
                                  f"lives of {np.round(lives_s, 1).tolist()} s")  # fmt: skip
    moved_Ah = np.abs(np.diff(columns["net_capacity_Ah"]))
    if np.any(moved_Ah > 0.85 * (gaps + STOP_s) / 3600.0):
        tally.troubles.append(f"{name}: charge that no current explains")
    volts, amps = columns["voltage_V"], columns["current_A"]
    if not (np.all((volts > 2.4) & (volts < 4.3)) and np.all(np.abs(amps) < 0.85)):
        tally.troubles.append(f"{name}: a figure that cannot be")


def kill_by_kill(ordeal: Ordeal, count: int, draw: random.Random, until_s: float) -> None:
    """One in four dies while it starts; some find something that does not agree.

    No kill is begun after `until_s` (monotonic).
    """
    ordeal.bring_up()
    for number in range(count):
        time.sleep(draw.uniform(0.0, 4.0))
        ordeal.kill()
        ordeal.tally.kills += 1
        if number == count - 1 or time.monotonic() > until_s:
            break
        if number % 10 == 0:
            (ordeal.made.folder / "run" / "guard.json").unlink()
            ordeal.refused("capacity", ("capacity",))
        elif number % 10 == 1:
            ordeal.change_cell()
            ordeal.refused("cell")
            ordeal.seal()
            ordeal.bring_up()
        elif draw.random() < 0.25 and number % 10 != 9:  # what is refused must have run
            ordeal.begin()
            ordeal.tally.outcomes["killed while it came up"] += 1
        else:
            ordeal.bring_up()
    ordeal.seal()


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
