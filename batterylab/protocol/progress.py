"""How far a cell has come in a protocol: what the bench shall do next, given what it measured.

Steps whose end the cycler can find by itself are handed out together, as a `Segment`; where
the next step depends on what was measured (``until``, ``to_soc``), a segment ends.
"""

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

from batterylab.protocol.resolve import Node, Repeat, Resolved, Step, Until

MOST_STEPS = 250


@dataclass(frozen=True)
class Segment:
    """Steps that run without the host.

    Attributes
    ----------
    steps : tuple of Step
        One after the other.
    stop_after_Ah : float or None
        The host ends the segment's only step after this charge (magnitude).
    cycle : int
        Number of the cycle that the segment begins in.
    """

    steps: tuple[Step, ...]
    stop_after_Ah: float | None = None
    cycle: int = 0

    @property
    def key(self) -> tuple[Step, ...]:
        """What the cycler must know of it: equal keys can share a sequence."""
        return tuple(replace(step, path="", measure="", to_soc_percent=None, sample_every_s=None)
                     for step in self.steps)  # fmt: skip


Results = list[float]


class Progress:
    """The way of one cell through a protocol.

    Parameters
    ----------
    resolved : Resolved
        The protocol.

    Attributes
    ----------
    current : Segment or None
        What is to be done; None when all is done.
    remarks : list of str
        What a reader of the recording must know.
    """

    def __init__(self, resolved: Resolved) -> None:
        self.resolved = resolved
        self.remarks: list[str] = []
        self.measured_Ah: dict[str, list[float]] = {}
        self.charge_Ah = math.nan  # since the last full charge, negative below it
        self.capacity_Ah = resolved.cell_type.nominal_capacity_Ah
        self._cycle = 0
        self._walk = self._nodes(resolved.nodes)
        self.current: Segment | None = next(self._walk, None)

    def finish(self, moved_Ah: Results) -> Segment | None:
        """Take note of what the current segment moved and return the next one.

        Parameters
        ----------
        moved_Ah : list of float
            Charge of each step, charge positive; as many as the segment has steps.

        Raises
        ------
        ValueError
            If there is no current segment, or the number does not fit.
        """
        if self.current is None or len(moved_Ah) != len(self.current.steps):
            raise ValueError("the results do not fit the segment")
        for step, moved in zip(self.current.steps, moved_Ah, strict=True):
            self._note(step, moved)
        try:
            self.current = self._walk.send(moved_Ah)
        except StopIteration:
            self.current = None
        return self.current

    def _note(self, step: Step, moved_Ah: float) -> None:
        self.charge_Ah += moved_Ah
        is_full = step.voltage_V == self.resolved.cell_type.voltage_max_V
        if step.hold_until_A is not None and step.current_A > 0 and is_full:
            self.charge_Ah = 0.0
        if step.measure:
            self.measured_Ah.setdefault(step.measure, []).append(abs(moved_Ah))

    def _nodes(self, nodes: tuple[Node, ...]) -> Generator[Segment, Results, None]:
        waiting: list[Step] = []
        for node in nodes:
            if isinstance(node, Step) and node.to_soc_percent is None:
                waiting.append(node)
                if len(waiting) < MOST_STEPS:
                    continue
            yield from self._flush(waiting)
            if isinstance(node, Until):
                yield from self._until(node)
            elif isinstance(node, Repeat):
                for _ in range(node.times):
                    yield from self._nodes(node.body)
                    self._cycle += 1
            elif node.to_soc_percent is not None:
                yield from self._to_soc(node)
        yield from self._flush(waiting)

    def _flush(self, waiting: list[Step]) -> Generator[Segment, Results, None]:
        if waiting:
            steps = tuple(waiting)
            waiting.clear()
            yield Segment(steps, cycle=self._cycle)

    def _to_soc(self, step: Step) -> Generator[Segment, Results, None]:
        target_Ah = -(1 - (step.to_soc_percent or 0.0) / 100) * self.capacity_Ah
        needed_Ah = target_Ah - self.charge_Ah
        if needed_Ah * step.current_A <= 0:
            self.remarks.append(f"{step.path}: the state of charge was passed already; skipped")
            return
        yield Segment((step,), stop_after_Ah=abs(needed_Ah), cycle=self._cycle)

    def _until(self, node: Until) -> Generator[Segment, Results, None]:
        before = len(self.measured_Ah.get(node.measure, []))
        for _ in range(node.at_most):
            yield from self._nodes(node.body)
            self._cycle += 1
            found = self.measured_Ah.get(node.measure, [])[before:]
            last = found[-node.last :]
            if len(last) == node.last and max(last) - min(last) <= node.within_Ah:
                self.capacity_Ah = sum(last) / len(last)
                return
        last = self.measured_Ah.get(node.measure, [])[before:][-node.last :]
        if last:
            self.capacity_Ah = sum(last) / len(last)
        self.remarks.append(f"{node.measure} did not settle within {node.at_most} repetitions")


def all_segments(resolved: Resolved) -> list[Segment]:
    """Return the distinct segments that a cell may need, so that a cycler can be loaded once."""
    found: dict[tuple[Step, ...], Segment] = {}
    for segment in _run_through(resolved, settles=False):
        found.setdefault(segment.key, segment)
    for step in resolved.steps():  # whether one is passed already depends on the cell
        if step.to_soc_percent is not None:
            alone = Segment((step,))
            found.setdefault(alone.key, alone)
    return list(found.values())


def expected_duration_s(resolved: Resolved) -> float:
    """Return the expected length in s: currents move the nominal capacity, measures settle.

    A charge that holds its voltage takes the time of the charge, and 20 % of it for the hold.
    """
    return sum(
        _expected_step_s(step, segment, resolved)
        for segment in _run_through(resolved, settles=True)
        for step in segment.steps
    )


def _expected_step_s(step: Step, segment: Segment, resolved: Resolved) -> float:
    if step.is_fixed:
        return step.duration_s
    charge_Ah = segment.stop_after_Ah or resolved.cell_type.nominal_capacity_Ah
    seconds = 3600.0 * charge_Ah / abs(step.current_A)
    if step.hold_until_A is not None:
        seconds *= 1.2
    return min(seconds, step.duration_s)


def _run_through(resolved: Resolved, *, settles: bool) -> Iterator[Segment]:
    """Yield every segment of an imagined cell whose measures settle at once, or never."""
    progress = Progress(resolved)
    capacity_Ah = resolved.cell_type.nominal_capacity_Ah
    count = 0
    while progress.current is not None:
        segment = progress.current
        yield segment
        moved: Results = []
        for step in segment.steps:
            count += 1
            size = segment.stop_after_Ah or capacity_Ah
            if step.is_fixed:
                size = min(size, abs(step.current_A) * step.duration_s / 3600.0)
            if step.measure and not settles:
                size *= 1.0 if count % 2 else 0.5
            moved.append(math.copysign(size, step.current_A) if step.current_A else 0.0)
        progress.finish(moved)
