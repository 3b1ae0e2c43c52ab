"""One channel's way through a protocol: where it is, and where in time its steps lie."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from batterylab.bench.benchfile import ChannelEntry
from batterylab.drivers.roles import CellState
from batterylab.protocol import Outcome, Progress, Resolved, Segment, Step
from batterylab.protocol.ends import Block, Fired, Watch, likely_end
from batterylab.protocol.form import End

#: less current than this is none
QUIET_A = 0.005


@dataclass
class Running:
    """A segment on the cycler.

    Attributes
    ----------
    segment : Segment
        What runs.
    starts_s : list of float
        Start of each step known so far, as unix seconds.
    first_index : int
        Number in the recording of the segment's first step.
    moved_Ah : list of float
        Charge of each step so far.
    ends_s : list of float
        Ends of steps, where they are known; else a step ends where the next one starts.
    begins_s : list of float
        When current began anew, on a supply that the host steps: with each step, and with each
        point of a profile.
    end_s : float
        End of the segment, once known.
    is_ending, is_seen : bool
        Whether it has ended, and whether a sample of it has been seen.
    watches : list of Watch
        For each step, the conditions that the cycler does not watch.
    moved_Wh, last_A, last_V : list of float
        Energy, current and voltage of each step at its last sample so far.
    fired : Fired or None
        The condition with which the runner ended the last step.
    stops : tuple of End
        The bench's own conditions that stop any step.
    mark : (int, float, float) or None
        Step, seconds and charge that the cycler counted before this began.
    on_s : float
        When the output of a supply went on for the last step; NaN if nobody wrote that.
    seen : (ndarray, ndarray)
        Times and currents of the cycler's last samples.
    """

    segment: Segment
    starts_s: list[float]
    first_index: int
    moved_Ah: list[float]
    ends_s: list[float] = field(default_factory=list)
    begins_s: list[float] = field(default_factory=list)
    end_s: float = math.inf
    is_ending: bool = False
    is_seen: bool = False
    fired: Fired | None = None
    stops: tuple[End, ...] = ()
    mark: tuple[int, float, float] | None = None
    on_s: float = math.nan
    watches: list[Watch] = field(init=False)
    moved_Wh: list[float] = field(init=False)
    last_A: list[float] = field(init=False)
    last_V: list[float] = field(init=False)

    def __post_init__(self) -> None:
        steps = self.segment.steps
        self.watches = [
            Watch(replace(step, stops=(*step.stops, *self.stops)), skips_onboard=True)
            for step in steps
        ]
        self.moved_Wh = [0.0] * len(steps)
        self.last_A, self.last_V = [0.0] * len(steps), [math.nan] * len(steps)

    @property
    def soon_s(self) -> float:
        """In how many seconds a condition of the step that runs may come true."""
        return self.watches[len(self.starts_s) - 1].soon_s

    def count(self, k: int, samples: Block) -> Fired | None:
        """Take the next samples of step `k`, and return the condition that they meet, if any.

        Charge and energy of `samples` are those of each sample.
        """
        before_Ah, before_Wh = self.moved_Ah[k], self.moved_Wh[k]
        self.moved_Ah[k] = before_Ah + float(samples.moved_Ah.sum())
        self.moved_Wh[k] = before_Wh + float(samples.moved_Wh.sum())
        self.last_A[k], self.last_V[k] = float(samples.current_A[-1]), float(samples.voltage_V[-1])
        if not self.watches[k].conditions:
            return None
        return self.watches[k].look(replace(
            samples, moved_Ah=before_Ah + np.cumsum(samples.moved_Ah),
            moved_Wh=before_Wh + np.cumsum(samples.moved_Wh),
        ))  # fmt: skip

    def outcome(self, k: int, length_s: float) -> Outcome:
        """Return how step `k` went."""
        step = self.segment.steps[k]
        then, ended_by = "next", ""
        if self.fired is not None and k == len(self.segment.steps) - 1:
            then, ended_by = self.fired.end.then, self.fired.end.quantity
        elif step.air is not None or step.read is not None:
            ended_by = "time_s"
        else:
            ended_by = likely_end(step, length_s, self.last_A[k], self.last_V[k],
                                  self.moved_Ah[k], self.moved_Wh[k])  # fmt: skip
            then = step.on_time if ended_by == "time_s" else "next"
        return Outcome(self.moved_Ah[k], self.moved_Wh[k], length_s, self.last_V[k],
                       "next" if then == "fail" else then, ended_by)  # fmt: skip

    def spans(self, times_s: NDArray[np.float64]) -> Iterator[tuple[int, slice]]:
        """Yield the segment's steps that the seconds ending at `times_s` belong to.

        Yields
        ------
        (int, slice)
            Number of the step in the segment, and its rows; none of them empty.
        """
        edges = np.searchsorted(times_s, [*self.starts_s, self.end_s], side="right")
        for k in range(len(self.starts_s)):
            if edges[k + 1] > edges[k]:
                yield k, slice(int(edges[k]), int(edges[k + 1]))


@dataclass(frozen=True)
class Carried:
    """What the step under way had come to when the run was interrupted.

    Attributes
    ----------
    moved_Ah, elapsed_s, moved_Wh : float
        Charge, time and energy since the step began, pauses not counted.
    """

    moved_Ah: float
    elapsed_s: float
    moved_Wh: float = 0.0


@dataclass
class ChannelRun:
    """What one channel does in a run.

    Attributes
    ----------
    entry : ChannelEntry
        Of the bench.
    serial : str
        The cell.
    progress : Progress
        How far the cell has come.
    running : Running or None
        What runs now.
    stopped : str
        Why the channel was stopped; empty if it was not.
    has_ended : bool
        Whether an interrupted run had come to this channel's end before.
    lost_s : float
        Time for which an interruption lost the samples.
    gap_s : float
        The same, of the segment under way, as a return found that did not live to say more.
    before : list of Outcome
        Of an interrupted segment: how the steps went that had ended.
    carried : Carried or None
        Of an interrupted segment: the step that was under way.
    results : list of Outcome
        Of the last segment that ended.
    stops : tuple of End
        The bench's own conditions that stop any step.
    """

    entry: ChannelEntry
    serial: str
    resolved: Resolved
    progress: Progress = field(init=False)
    running: Running | None = None
    steps_done: int = 0
    stopped: str = ""
    has_ended: bool = False
    lost_s: float = 0.0
    gap_s: float = 0.0
    remarks: list[str] = field(default_factory=list)
    bad_samples: int = 0
    bad_currents: int = 0
    hot_polls: int = 0
    before: list[Outcome] = field(default_factory=list)
    carried: Carried | None = None
    results: list[Outcome] = field(default_factory=list)
    stops: tuple[End, ...] = ()
    seen: tuple[NDArray[np.float64], NDArray[np.float64]] = (np.zeros(0), np.zeros(0))

    def __post_init__(self) -> None:
        self.progress = Progress(self.resolved)

    @property
    def is_active(self) -> bool:
        """Whether there is still something to do."""
        return not (self.stopped or self.has_ended) and self.progress.current is not None

    @property
    def pending(self) -> Segment | None:
        """What is to be done next: a segment, or what an interruption left of it."""
        segment = self.progress.current
        if segment is None or (not self.before and self.carried is None):
            return segment
        return rest_of(segment, len(self.before), self.carried)

    @property
    def wants_air(self) -> bool:
        """Whether what comes next is a change of the chamber's temperature."""
        segment = self.progress.current
        return self.is_active and segment is not None and segment.steps[0].air is not None

    @property
    def wants_meter(self) -> bool:
        """Whether what comes next, or runs now, is a reading by a meter."""
        segment = self.progress.current
        read = segment.steps[0].read if segment is not None else None
        return self.is_active and read is not None and read.needs_meter

    @property
    def is_held(self) -> bool:
        """Whether somebody else begins what comes next: it needs the chamber, or a meter."""
        return self.wants_air or self.wants_meter

    def begin(self, now_s: float) -> Running:
        """Note that what is pending starts now."""
        segment = self.pending
        if segment is None:
            raise ValueError(f"{self.entry.name}: nothing is left to begin")
        first = self.steps_done + len(self.before)
        self.running = Running(
            segment, [now_s], first, [0.0] * len(segment.steps), stops=self.stops
        )
        return self.running

    def keep(self, before: Sequence[Outcome], carried: Carried | None) -> None:
        """Take over how far an interrupted segment had come."""
        self.before, self.carried, self.running = list(before), carried, None

    def interrupt(self) -> None:
        """Keep what runs as far as it came: `pending` is then what is left of it.

        A step of a fixed length of which less than a second is left counts as ended.
        """
        running, full = self.running, self.progress.current
        if running is None or full is None:
            return
        last = len(running.starts_s) - 1
        outcomes = self._outcomes(running, running.starts_s[last])
        cut = outcomes[-1]
        elapsed_s = max(0.0, cut.duration_s)
        step = full.steps[len(self.before) + last]
        has_ended = step.is_fixed and elapsed_s > step.duration_s - 1.0
        if has_ended:
            self.keep(self.before + outcomes, None)
        else:
            carried = Carried(cut.moved_Ah, elapsed_s, cut.moved_Wh)
            self.keep(self.before + outcomes[:-1], carried)
        if len(self.before) == len(full.steps):
            self.take(self.before)

    def _outcomes(self, running: Running, now_s: float) -> list[Outcome]:
        """Return how the steps of what runs went, with what was carried into the first."""
        spans = self.lengths(now_s)
        outcomes = [running.outcome(k, end - begin) for k, (begin, end) in enumerate(spans)]
        if outcomes and self.carried is not None:
            first, before = outcomes[0], self.carried
            outcomes[0] = replace(
                first, moved_Ah=first.moved_Ah + before.moved_Ah,
                moved_Wh=first.moved_Wh + before.moved_Wh,
                duration_s=first.duration_s + before.elapsed_s,
            )  # fmt: skip
        return outcomes

    def take(self, results: Sequence[Outcome]) -> Segment | None:
        """Take the results of a whole segment, and return the next one."""
        self.results = list(results)
        self.steps_done += len(self.results)
        self.keep([], None)
        following = self.progress.finish(self.results)
        self.remarks += self.progress.remarks
        self.progress.remarks = []
        return following

    def note_start(self, times_s: NDArray[np.float64], states: NDArray[np.int16]) -> None:
        """Learn from the first samples in which second the segment began."""
        running = self.running
        if running is None or running.is_seen:
            return
        live = np.flatnonzero(states == CellState.RUNNING)
        if len(live):
            running.starts_s[0] = float(times_s[live[0]]) - 1.0
            running.is_seen = True

    def note_step(self, number: int, elapsed_s: float, log_s: float) -> None:
        """Learn where the cycler is: step `number` from 1, since `elapsed_s`.

        `log_s` is the time of the last sample: steps begin with a sample, so whole seconds of
        the cycler's own clock count.

        The starts of steps that began and ended between two looks follow from the lengths of
        the fixed ones after them.
        """
        running = self.running
        if running is None or not 1 <= number <= len(running.segment.steps):
            return
        self._fill(running, number - 1, round(log_s - math.floor(elapsed_s)))

    def note_end(self, end_s: float) -> None:
        """Learn when the segment ended."""
        running = self.running
        if running is None:
            return
        running.end_s = end_s
        running.is_ending = True
        steps = running.segment.steps
        last = len(steps) - 1
        if len(running.starts_s) <= last:
            start = end_s - steps[last].duration_s if steps[last].is_fixed else end_s - 1
            for k in range(len(running.starts_s), last + 1):
                seen_s = self._seen_start(running, k)
                if seen_s is None:
                    break
                if k == last:
                    start = seen_s
                else:
                    running.starts_s.append(seen_s)
            self._fill(running, last, start)

    def note_starts(self, starts_s: Sequence[float], ends_s: Sequence[float]) -> None:
        """Take the exact times of the steps from a supply that the host steps."""
        if self.running is not None and starts_s:
            most = len(self.running.segment.steps)  # the points of a profile are one step
            self.running.begins_s = list(starts_s)
            self.running.starts_s = list(starts_s[:most])
            self.running.ends_s = list(ends_s[: len(self.running.starts_s) - 1])

    def note_cut(self, end_s: float) -> None:
        """Learn that the segment ended before its last step."""
        if self.running is not None:
            self.running.end_s = end_s
            self.running.is_ending = True

    def _fill(self, running: Running, index: int, start_s: float) -> None:
        """Enter the start of step `index`, and of those before it that are not known."""
        while len(running.starts_s) < index:
            seen_s = self._seen_start(running, len(running.starts_s))
            if seen_s is None or seen_s > start_s:
                break
            running.starts_s.append(seen_s)
        known = len(running.starts_s)
        if index < known:
            return
        starts = [float(start_s)]
        for k in range(index - 1, known - 1, -1):
            step = running.segment.steps[k]
            length = step.duration_s if step.is_fixed else 1
            if not step.is_fixed:
                self.remarks.append(f"{step.path}: ended between two looks; its start is uncertain")
            starts.append(starts[-1] - length)
        floor = running.starts_s[-1]
        for start in reversed(starts):
            floor = max(floor, start)
            running.starts_s.append(floor)

    def _seen_start(self, running: Running, k: int) -> float | None:
        """Return when step `k` began, from the direction of the current; None if it does not show.

        A step that may end early, such as a pulse at a voltage, has no length to count back by.
        """
        before, own = (_direction(step) for step in running.segment.steps[k - 1 : k + 1])
        if before == own or before is None or own is None:
            return None
        times_s, amps = self.seen
        ways = np.where(np.abs(amps) < QUIET_A, 0, np.sign(amps))
        found = np.flatnonzero((times_s > running.starts_s[-1] + 0.5) & (ways == own))
        return float(times_s[found[0]]) - 1.0 if len(found) else None

    def lengths(self, now_s: float) -> list[tuple[float, float]]:
        """Return begin and end of each step that has begun; what still runs ends now."""
        running = self.running
        if running is None:
            return []
        known = running.ends_s
        last_s = running.end_s if math.isfinite(running.end_s) else now_s
        ends = [*known, *running.starts_s[len(known) + 1 :], last_s]
        return list(zip(running.starts_s, ends, strict=False))

    def finish(self) -> Segment | None:
        """Take the results of the segment that ended, and return the next one."""
        running = self.running
        if running is None:
            raise ValueError(f"{self.entry.name}: nothing runs")
        return self.take(self.before + self._outcomes(running, running.end_s))

    def new_marks(self) -> list[str]:
        """Return the names of marks that were passed since the last time."""
        names = [name for name, _ in self.progress.marks]
        self.progress.marks.clear()
        return names


def _direction(step: Step) -> int | None:
    """Return 1 for charge, -1 for discharge, 0 without current; None if it changes."""
    if step.points is not None:
        return None
    return 0 if step.mode == "rest" else int(math.copysign(1, step.current_A))


def rest_of(segment: Segment, ended: int, carried: Carried | None) -> Segment:
    """Return what is left of a segment after some steps, and a part of the next one.

    A length or a bound of time, a charge and a state of charge count from the step's begin: what
    has passed is taken off. A reading by a meter begins anew.
    """
    steps = segment.steps[ended:]
    if carried is None or not steps or (steps[0].read and steps[0].read.needs_meter):
        return replace(segment, steps=steps)
    first, moved_Ah = steps[0], abs(carried.moved_Ah)
    passed = {"capacity_Ah": moved_Ah, "energy_Wh": abs(carried.moved_Wh)}
    ends = tuple(
        replace(end, value=max(end.value - passed[end.quantity], 1e-6))
        if end.quantity in passed and not end.of else end for end in first.ends
    )  # fmt: skip
    left_s = max(1, round(first.duration_s - carried.elapsed_s))
    left_Ah = segment.stop_after_Ah
    if left_Ah is not None:
        left_Ah = max(left_Ah - moved_Ah, 1e-6)
    points = None if first.points is None else first.points.after(carried.elapsed_s)
    shortened = replace(first, duration_s=left_s, ends=ends, points=points)
    return replace(segment, steps=(shortened, *steps[1:]), stop_after_Ah=left_Ah)
