"""Go on with an interrupted run, if everything agrees with its last record.

What must agree: the instruments and their firmware, the cell in each channel, the protocol, the
charge that the cycler counted, the voltage at the terminals, the chamber. What does not agree is
told, with what the technician may do; each of these checks can be accepted by name.
"""

import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from batterylab.bench.attendant import Attendant
from batterylab.bench.catchup import catch_up
from batterylab.bench.channelrun import ChannelRun, Running
from batterylab.bench.recorder import Recorder
from batterylab.bench.setup import Bench
from batterylab.bench.standing import CURRENT, STEP, TEST_TIME, UNIX_TIME, VOLTAGE, Interrupted
from batterylab.errors import BatterylabError, EnvironmentFailedError, NotMetError
from batterylab.protocol import Resolved
from batterylab.study import Study

CHECKS = ("identity", "cell", "capacity", "voltage", "chamber")
REMEDIES = {
    "identity": "put the instrument back, or accept it with --accept identity",
    "cell": "put the cell back into its channel; a cell cannot be accepted in another's place",
    "capacity": "accept it with --accept capacity: the recording then says so",
    "voltage": "is it the same cell, the right way round? If so, --accept voltage",
    "chamber": "set the chamber and wait; or --accept chamber tempers and soaks again first",
}
#: a cell at rest moves by so much from its last voltage, besides what its resistance explains
REST_V = 0.05
#: share of the last current's voltage on the meter's resistance, direct current and slow parts
RESISTANCES = 4.0
#: without a meter: volts for the current that moves the nominal capacity in an hour
UNKNOWN_V = 0.25
#: what the cycler counted may be off by this, absolutely and as a share
COUNTED_Ah, COUNTED_SHARE = 5e-4, 2e-3
LONGEST_COAST_s = 60.0
#: how far the run's clock and the guard's may be apart
CLOCKS_s = 1.0


@dataclass(frozen=True)
class Difference:
    """Something that does not agree with the last record."""

    check: str
    where: str
    what: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.where}: {self.check}: {self.what}"


def refuse(found: list[Difference], accepted: tuple[str, ...]) -> list[Difference]:
    """Raise for differences that nobody accepted; return the others.

    Raises
    ------
    NotMetError
        With each of them, and what may be done.
    """
    refused = [each for each in found if each.check not in accepted or each.check == "cell"]
    if refused:
        kinds = list(dict.fromkeys(each.check for each in refused))
        lines = [*map(str, refused), *(f"{kind}: {REMEDIES[kind]}" for kind in kinds)]
        raise NotMetError(
            "the bench does not agree with the last record:\n  " + "\n  ".join(lines),
            hint="`batterylab run STUDY --restart` seals what there is as aborted and begins again",
        )
    return found


def check_files(
    study: Study, interrupted: Interrupted, resolved: Resolved, bench: Bench
) -> list[Difference]:
    """Compare protocol, cells and instruments with the journal's head.

    Raises
    ------
    NotMetError
        If the protocol is another one: then there is nothing to go on with.
    """
    head = interrupted.content.head
    told = json.loads(json.dumps(resolved.to_dict()))
    if told != head["protocol_resolved"]:
        raise NotMetError(
            f"{resolved.name}: the protocol was changed since the run began",
            hint="put it back; or `batterylab run STUDY --restart`",
        )
    found = []
    occupied = study.log.occupied()
    loads = {entry["data"]["channel"]: entry["time_utc"] for entry in study.log.entries("load")}
    begun = next((entry["time_utc"] for entry in study.log.entries("run")
                  if entry["data"]["run"] == head["run"]), "")  # fmt: skip
    for index, channel in enumerate(head["channels"]):
        name, serial = channel["channel"], channel["serial"]
        if interrupted.standing(index).has_ended:
            continue
        if occupied.get(name) != serial:
            found.append(Difference("cell", name, f"holds {occupied.get(name) or 'no cell'}, "
                                    f"the record says {serial}"))  # fmt: skip
        elif loads.get(name, "") > begun:
            found.append(Difference("cell", name, f"{serial} was taken out and loaded again"))
    for name, was in head.get("identities", {}).items():
        driver = bench.drivers.get(name)
        now = vars(driver.identity()) if driver else None
        if now != was:
            text = " ".join(now.values()) if now else "nothing"
            found.append(Difference("identity", name, f"is {text}, was {' '.join(was.values())}"))
    return found


class Return:
    """Brings a runner's channels to where they stood.

    Parameters
    ----------
    interrupted : Interrupted
        The run.
    guard : dict
        What the guard wrote when it acted; empty if it did not.
    accepted : tuple of str
        Checks whose differences somebody accepts.
    begun : callable
        Called when all is restored and durable, and the next thing is that current flows.
    """

    def __init__(
        self, interrupted: Interrupted, guard: dict[str, Any], accepted: tuple[str, ...] = (),
        begun: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.begun = begun
        self.interrupted = interrupted
        self.guard = guard
        self.accepted = accepted
        self.differences: list[Difference] = []
        self.cut: list[tuple[Attendant, int]] = []

    def restore(self, runs: list[ChannelRun], attendants: list[Attendant], now_s: float) -> None:
        """Replay the journal, fetch what the cyclers logged since, and look at the cells.

        The channels are safe already.

        Raises
        ------
        NotMetError
            If something does not agree, and nobody accepted that.
        """
        record = self.interrupted
        standings = [record.standing(index) for index in range(len(runs))]
        for run, standing in zip(runs, standings, strict=True):
            run.has_ended = standing.has_ended
            if not standing.has_ended:
                record.restore(run, standing.index)
        offsets = record.offsets()
        for attendant in attendants:
            frame = attendant.frame
            last = np.array([standings[index].last for index, _ in frame.members])
            frame.recorder = Recorder(len(frame.members), math.inf, record.start_s)
            frame.count_from(record.start_s, record.paused_s, last)
            frame.recorder.last = last.copy()
            frame.offset_s = offsets.get(frame.name, 0.0)
            frame.last_s = float(np.nan_to_num(last[:, UNIX_TIME]).max())
            for index, _ in frame.members:
                if not standings[index].is_kept:
                    attendant.journal.rows(standings[index].last[None, :])
            self._look(attendant, standings, now_s)

    def _look(self, attendant: Attendant, standings: list[Any], now_s: float) -> None:
        frame = attendant.frame
        counted = self._counted(attendant)
        coasted = self._coast(attendant, standings) if frame.is_stepped else {}
        under_way = {index: _done_Ah(run) for index, run in frame.members if run.running}
        try:
            unbegun, cut = catch_up(attendant)
            for index in unbegun:  # what was counted is of before
                counted.pop(index, None)
        except EnvironmentFailedError:
            if counted or not under_way:
                raise
            cut = list(under_way)
            for _, run in frame.members:  # it lost its memory: the journal is all there is
                run.interrupt()
        self.cut += [(attendant, index) for index in cut]
        attendant.journal.sync()  # what was fetched is not there any more
        frame.driver.prepare(frame.numbers)
        for column, (index, run) in enumerate(frame.members):
            standing = standings[index]
            if run.has_ended:
                continue
            last = frame.recorder.last[column]
            if index in under_way and index in counted:
                lost_Ah = self._lost(run, under_way[index], counted[index], last)
                if lost_Ah:
                    frame.recorder.net_Ah[column] += lost_Ah
                    frame.recorder.net_Wh[column] += lost_Ah * float(last[VOLTAGE])
            if index in coasted:
                run.remarks.append(coasted[index])
            self._voltage(attendant, run, last if math.isfinite(last[VOLTAGE]) else standing.last)

    def _counted(self, attendant: Attendant) -> dict[int, float]:
        """Return the charge of the sequence under way that the cycler itself counted, in Ah."""
        frame = attendant.frame
        counter = getattr(frame.driver, "moved_Ah", None)
        active = [(index, run) for index, run in frame.members if run.running]
        if counter is None or not active:
            return {}
        try:
            found = _twice(partial(counter, [run.entry.cycler_channel for _, run in active]))
        except BatterylabError as error:
            what = f"the cycler cannot say: {error.message}"
            self.differences += [Difference("capacity", run.entry.name, what) for _, run in active]
            return {}
        return {index: found[run.entry.cycler_channel] for index, run in active}

    def _lost(self, run: ChannelRun, before_Ah: float, counted_Ah: float, last: Any) -> float:
        """Compare the charge of the sequence that ran with what the cycler counted.

        The segment had come to `before_Ah` in earlier sequences. What passed while no sample was
        durable is taken from the cycler's counter and returned; more than the current explains is
        a difference.
        """
        is_done = run.carried is None and not run.before
        own_Ah = sum(each.moved_Ah for each in run.results) if is_done else _done_Ah(run)
        own_Ah -= before_Ah
        lost_Ah = counted_Ah - own_Ah
        tolerance_Ah = COUNTED_Ah + COUNTED_SHARE * abs(counted_Ah)
        begun = run.pending.steps[0].current_A if run.pending else 0.0  # no sample may tell yet
        most_A = max(abs(np.nan_to_num(last[CURRENT])), abs(begun))
        most_Ah = most_A * (run.lost_s + 1.0) / 3600.0
        if run.lost_s > 0 and run.carried and abs(lost_Ah) <= tolerance_Ah + most_Ah:
            moved_Ah = run.carried.moved_Ah + lost_Ah
            run.carried = replace(run.carried, moved_Ah=moved_Ah)
            run.remarks.append(f"{1e3 * lost_Ah:.3f} mAh in {run.lost_s:.0f} s without a sample "
                               "are taken from the cycler's counter")  # fmt: skip
            return lost_Ah
        if abs(lost_Ah) > tolerance_Ah:
            self.differences.append(Difference(
                "capacity", run.entry.name,
                f"the record says {own_Ah:.4f} Ah, the cycler counted {counted_Ah:.4f} Ah",
            ))  # fmt: skip
        return 0.0

    def _coast(self, attendant: Attendant, standings: list[Any]) -> dict[int, str]:
        """Reckon what a supply moved from its last sample to the guard's stop.

        Nothing is reckoned for an output of which nobody wrote that it went on.
        """
        (index, run), = attendant.frame.members
        running, last = run.running, standings[index].last
        if running is None:
            return {}
        spans = _flows(running, last)
        if not any(amps for _, _, _, amps in spans):
            return {}
        if self.interrupted.content.head["provenance"].get("is_simulated"):
            return {}  # its time stands still while nobody asks
        began_s = spans[-1][1]
        until_s = self.guard.get("off_s", {}).get(attendant.frame.name) \
            if self.guard.get("is_safe") else None  # fmt: skip
        if until_s is not None and until_s < began_s - CLOCKS_s:
            until_s = None  # of an earlier interruption
        if until_s is None or until_s - began_s > LONGEST_COAST_s:
            self.differences.append(Difference(
                "capacity", run.entry.name, "nobody wrote when its output went off",
            ))  # fmt: skip
            return {}
        moved_Ah = 0.0
        for k, since_s, end_s, amps in spans:
            step_Ah = amps * max(0.0, min(end_s, until_s) - since_s) / 3600.0
            running.moved_Ah[k] += step_Ah
            moved_Ah += step_Ah
        attendant.frame.recorder.net_Ah[0] += moved_Ah
        attendant.frame.recorder.net_Wh[0] += moved_Ah * float(np.nan_to_num(last[VOLTAGE]))
        if abs(moved_Ah) < 1e-6:
            return {}
        return {index: f"{1e3 * moved_Ah:.3f} mAh between the last sample and the stop are "
                       "reckoned from the current"}  # fmt: skip

    def _voltage(self, attendant: Attendant, run: ChannelRun, last: Any) -> None:
        number = run.entry.cycler_channel
        if math.isnan(last[VOLTAGE]):
            return
        volts, _ = _twice(partial(attendant.frame.driver.measure, [number]))[number]
        ohm = self._ohm(run)
        span_V = abs(last[CURRENT]) * ohm if ohm else UNKNOWN_V * abs(last[CURRENT]) / \
            run.resolved.cell_type.nominal_capacity_Ah  # fmt: skip
        if abs(volts - last[VOLTAGE]) > REST_V + span_V:
            self.differences.append(Difference(
                "voltage", run.entry.name,
                f"{volts:.4f} V now, {last[VOLTAGE]:.4f} V in the last record at "
                f"{last[CURRENT]:.3f} A",
            ))  # fmt: skip

    def _ohm(self, run: ChannelRun) -> float:
        for channel in self.interrupted.content.head["channels"]:
            if channel["serial"] == run.serial:
                mohm = channel["provenance"].get("loading", {}).get("ac_resistance_mOhm", 0.0)
                return RESISTANCES * float(mohm) / 1000.0
        return 0.0

    def check_chambers(self, far: list[str], wanted: dict[str, tuple[float, float]]) -> None:
        """Note the chambers that are not where the protocol has them."""
        for name in far:
            self.differences.append(
                Difference("chamber", name, f"its air is not at {wanted[name][0]:g} °C")
            )

    def paused_s(self, attendants: list[Attendant], now_s: float) -> float:
        """Return how long the run has been paused, if it goes on now."""
        record = self.interrupted
        tested_s = max(float(np.nan_to_num(each.frame.recorder.last[:, TEST_TIME]).max())
                       for each in attendants)  # fmt: skip
        return now_s - record.start_s - tested_s


def _twice(ask: Callable[[], Any]) -> Any:
    """Return an answer; one that got lost is asked for again, since nothing flows meanwhile."""
    try:
        return ask()
    except EnvironmentFailedError:
        return ask()


def _done_Ah(run: ChannelRun) -> float:
    """Return what an interrupted segment had come to."""
    return sum(each.moved_Ah for each in run.before) + (run.carried.moved_Ah if run.carried else 0)


def _flows(running: Running, last: Any) -> list[tuple[int, float, float, float]]:
    """Return the steps of a supply that flowed after its last sample: number, span, current.

    The last one goes on until the output went off.
    """
    k = len(running.starts_s) - 1
    found = []
    seen = int(last[STEP]) - running.first_index if running.is_seen else -1
    if 0 <= seen <= k:
        end_s = math.inf if seen == k else running.ends_s[seen]
        found.append((seen, float(last[UNIX_TIME]), end_s, float(last[CURRENT])))
    if seen < k and math.isfinite(running.on_s):
        step = running.segment.steps[k]
        amps = 0.0 if step.mode == "rest" else step.current_A
        found.append((k, running.on_s, math.inf, amps))
    return found


def guard_report(folder: Path) -> dict[str, Any]:
    """Return what the guard wrote when it acted; empty if it did not."""
    with suppress(OSError, ValueError):
        found = json.loads((folder / "run" / "guard.json").read_text(encoding="utf-8"))
        return dict(found)
    return {}
