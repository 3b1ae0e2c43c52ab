"""One channel's way through a protocol: where it is, and where in time its steps lie."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from batterylab.bench.benchfile import ChannelEntry
from batterylab.drivers.roles import CellState
from batterylab.protocol import Progress, Resolved, Segment, Step


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
    end_s : float
        End of the segment, once known.
    is_ending, is_seen : bool
        Whether it has ended, and whether a sample of it has been seen.
    """

    segment: Segment
    starts_s: list[float]
    first_index: int
    moved_Ah: list[float]
    ends_s: list[float] = field(default_factory=list)
    end_s: float = math.inf
    is_ending: bool = False
    is_seen: bool = False

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
    """

    entry: ChannelEntry
    serial: str
    resolved: Resolved
    progress: Progress = field(init=False)
    running: Running | None = None
    steps_done: int = 0
    stopped: str = ""
    remarks: list[str] = field(default_factory=list)
    bad_samples: int = 0
    hot_polls: int = 0

    def __post_init__(self) -> None:
        self.progress = Progress(self.resolved)

    @property
    def is_active(self) -> bool:
        """Whether there is still something to do."""
        return not self.stopped and self.progress.current is not None

    def begin(self, now_s: float) -> Running:
        """Note that the current segment starts now."""
        segment = self.progress.current
        if segment is None:
            raise ValueError(f"{self.entry.name}: nothing is left to begin")
        self.running = Running(
            segment, [now_s], self.steps_done, [0.0] * len(segment.steps)
        )
        return self.running

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
            self._fill(running, last, start)

    def note_starts(self, starts_s: Sequence[float], ends_s: Sequence[float]) -> None:
        """Take the exact times of the steps from a supply that the host steps."""
        if self.running is not None and starts_s:
            self.running.starts_s = list(starts_s)
            self.running.ends_s = list(ends_s[: len(starts_s) - 1])

    def note_cut(self, end_s: float) -> None:
        """Learn that the segment ended before its last step."""
        if self.running is not None:
            self.running.end_s = end_s
            self.running.is_ending = True

    def _fill(self, running: Running, index: int, start_s: float) -> None:
        """Enter the start of step `index`, and of those before it that are not known."""
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

    def ended_by(self, step: Step) -> str:
        """Return what ends a step that was carried out as meant."""
        if step.is_fixed:
            return "duration"
        if step.to_soc_percent is not None:
            return "capacity"
        return "current" if step.hold_until_A is not None else "voltage"

    def finish(self) -> Segment | None:
        """Take the results of the segment that ended, and return the next one."""
        running = self.running
        if running is None:
            raise ValueError(f"{self.entry.name}: nothing runs")
        self.steps_done += len(running.segment.steps)
        self.running = None
        following = self.progress.finish(running.moved_Ah)
        self.remarks += self.progress.remarks
        self.progress.remarks = []
        return following
