"""How far a cell has come in a protocol: what shall be done next, given what was measured.

Steps whose end a cycler can find by itself are handed out together, as a `Segment`. A step is
handed out alone where somebody must watch it (`needs_host`), or where what comes next depends on
how it ended. Bench, simulation and planner share this state machine; it reads no clock and no
instrument.
"""

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from batterylab.protocol.ends import is_onboard, needs_host
from batterylab.protocol.form import End, If, Mark, Node, Repeat, Resolved, Step, Until, children

MOST_STEPS = 250


@dataclass(frozen=True)
class Outcome:
    """How a step went.

    Attributes
    ----------
    moved_Ah : float
        Charge, charge positive.
    moved_Wh, duration_s, voltage_V : float
        Energy, length, voltage at the end; NaN if not known.
    then : str
        What the end that came says: ``next``, ``finish`` or a mark.
    ended_by : str
        Quantity of the end that came, such as ``voltage_V``; ``time_s``; empty if not known.
    """

    moved_Ah: float
    moved_Wh: float = math.nan
    duration_s: float = math.nan
    voltage_V: float = math.nan
    then: str = "next"
    ended_by: str = ""


@dataclass(frozen=True)
class Segment:
    """Steps that are carried out together.

    Attributes
    ----------
    steps : tuple of Step
        One after the other, with the cell's own numbers in place of shares of measures.
    stop_after_Ah : float or None
        A state of charge ends the segment's only step after this charge (magnitude).
    cycle : int
        Number of the cycle that the segment begins in.
    """

    steps: tuple[Step, ...]
    stop_after_Ah: float | None = None
    cycle: int = 0

    @property
    def key(self) -> tuple[Step, ...]:
        """What a cycler must know of it: equal keys can share a sequence."""
        return tuple(_onboard_part(step) for step in self.steps)


def _onboard_part(step: Step) -> Step:
    """Return a step without what only host and reader know of it."""
    return replace(
        step, path="", measure="", sample_every_s=None, voltage_moves_V=None,
        current_moves_A=None, read=None, air=None,
        kind="rest" if step.mode == "rest" else step.kind,
        duration_s=step.duration_s + step.waits_s,
        ends=tuple(end for end in step.ends if is_onboard(step, end)),
        stops=tuple(end for end in step.stops if is_onboard(step, end)),
    )  # fmt: skip


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
    marks : list of (str, int)
        Marks that were passed, and the number of the step that comes after each.
    measured : dict of str to list of Outcome
        Results by the name of their measure.
    """

    def __init__(self, resolved: Resolved) -> None:
        self.resolved = resolved
        self.remarks: list[str] = []
        self.marks: list[tuple[str, int]] = []
        self.measured: dict[str, list[Outcome]] = {}
        self.charge_Ah = math.nan  # since the last full charge, negative below it
        self.capacity_Ah = resolved.cell_type.nominal_capacity_Ah
        self._cycle = 0
        self._handed = 0
        self._then = "next"
        self._walk = self._nodes(resolved.nodes)
        self.current: Segment | None = next(self._walk, None)

    def finish(self, results: Sequence[float | Outcome]) -> Segment | None:
        """Take note of how the current segment went and return the next one.

        Parameters
        ----------
        results : sequence of Outcome or float
            One for each step of the segment; a float is its charge in Ah, charge positive.

        Raises
        ------
        ValueError
            If there is no current segment, or the number does not fit.
        """
        if self.current is None or len(results) != len(self.current.steps):
            raise ValueError("the results do not fit the segment")
        outcomes = [r if isinstance(r, Outcome) else Outcome(float(r)) for r in results]
        for step, outcome in zip(self.current.steps, outcomes, strict=True):
            self._note(step, outcome)
        self._handed += len(outcomes)
        self._then = outcomes[-1].then
        try:
            self.current = self._walk.send(None)
        except StopIteration:
            self.current = None
        return self.current

    def _note(self, step: Step, outcome: Outcome) -> None:
        self.charge_Ah += outcome.moved_Ah
        is_full = step.voltage_V == self.resolved.cell_type.voltage_max_V
        is_held = step.hold_until_A is not None and outcome.ended_by in ("", "current_A")
        if is_held and step.current_A > 0 and is_full:
            self.charge_Ah = 0.0
        if step.measure:
            self.measured.setdefault(step.measure, []).append(outcome)

    def _results_Ah(self, name: str) -> list[float]:
        return [abs(outcome.moved_Ah) for outcome in self.measured.get(name, [])]

    # -- the walk; each part returns where to jump, or an empty string ---------------------------
    def _nodes(self, nodes: tuple[Node, ...]) -> Generator[Segment, None, str]:
        waiting: list[Step] = []
        i = 0
        while i < len(nodes):
            node = nodes[i]
            i += 1
            if isinstance(node, Step) and not stands_alone(node):
                waiting.append(node)
                if len(waiting) == MOST_STEPS:
                    yield from self._flush(waiting)
                continue
            yield from self._flush(waiting)
            then = yield from self._one(node)
            if then:
                marks = (k for k in range(i, len(nodes)) if nodes[k] == Mark(then))
                place = next(marks, None)
                if place is None:
                    return then
                i = place
        yield from self._flush(waiting)
        return ""

    def _flush(self, waiting: list[Step]) -> Generator[Segment, None, None]:
        if waiting:
            steps = tuple(waiting)
            waiting.clear()
            yield Segment(steps, cycle=self._cycle)

    def _one(self, node: Node) -> Generator[Segment, None, str]:
        if isinstance(node, Step):
            return (yield from self._alone(node))
        if isinstance(node, Mark):
            self.marks.append((node.name, self._handed))
            return ""
        if isinstance(node, Until):
            return (yield from self._until(node))
        if isinstance(node, If):
            last = self._results_Ah(node.measure)[-1:]
            is_met = bool(last) and self._passes(last[0], node.limit, node.measure, 0)
            return (yield from self._nodes(node.body if is_met else node.otherwise))
        for _ in range(node.times):
            then = yield from self._nodes(node.body)
            self._cycle += 1
            if then:
                return then
        return ""

    def _alone(self, step: Step) -> Generator[Segment, None, str]:
        own, stop_Ah, passed = self._own(step)
        if passed is not None:
            why = "was passed already" if math.isfinite(self.charge_Ah) else "is not known"
            self.remarks.append(f"{step.path}: the state of charge {why}; skipped")
            return "" if passed.then == "next" else passed.then
        yield Segment((own,), stop_after_Ah=stop_Ah, cycle=self._cycle)
        return "" if self._then == "next" else self._then

    def _own(self, step: Step) -> tuple[Step, float | None, End | None]:
        """Return a step in this cell's own numbers, the charge that is left to a state of charge,
        and the end by state of charge that was passed already or is not known, if one is.
        """  # noqa: D205
        ends: list[End] = []
        stop_Ah: float | None = None
        for end in step.ends:
            if end.quantity == "soc_percent":
                target_Ah = -(1 - end.value / 100) * self.capacity_Ah
                needed_Ah = target_Ah - self.charge_Ah
                if not needed_Ah * step.current_A > 0:  # nor if it is not known
                    return step, None, end
                ends.append(end)
                more = End("capacity_Ah", "above", abs(needed_Ah), hold_s=end.hold_s,
                           then=end.then, is_own=True)  # fmt: skip
                ends.append(more)
                if end.then == "next":
                    stop_Ah = min(abs(needed_Ah), stop_Ah or math.inf)
            elif end.of:
                ends.extend(self._valued(step, end))
            else:
                ends.append(end)
        if step.rate_of:
            step = replace(step, current_A=self._own_current(step))
        return replace(step, ends=tuple(ends)), stop_Ah, None

    def _own_current(self, step: Step) -> float:
        cell = self.resolved.cell_type
        found = self._results_Ah(step.rate_of)[-1:]
        if not found or not found[0] > 0:
            self.remarks.append(f"{step.path}: {step.rate_of} was not measured; the nominal counts")
            found = [cell.nominal_capacity_Ah]
        most = cell.max_charge_A if step.current_A > 0 else cell.max_discharge_A
        return math.copysign(min(step.rate_C * found[0], most), step.current_A)

    def _valued(self, step: Step, end: End) -> list[End]:
        """Return an end whose value is a share of a measure, in plain numbers."""
        last = self.measured.get(end.of, [])[-1:]
        by_quantity = {"energy_Wh": "moved_Wh", "time_s": "duration_s", "voltage_V": "voltage_V"}
        name = by_quantity.get(end.quantity, "moved_Ah")
        result = abs(getattr(last[0], name)) if last else math.nan
        if not math.isfinite(result):
            if end.quantity in ("capacity_Ah", "current_A"):
                result = self.resolved.cell_type.nominal_capacity_Ah
                self.remarks.append(f"{step.path}: {end.of} was not measured; the nominal counts")
            else:
                self.remarks.append(f"{step.path}: {end.of} was not measured; its end is left out")
                return []
        return [replace(end, value=end.value * result, of="", is_own=True)]

    def _passes(self, value: float, limit: End, measure: str, first: int) -> bool:
        """Return whether a result is beyond a limit; `first` is where ``first`` counts from."""
        bound = limit.value
        if limit.of == "first":
            bound *= self._results_Ah(measure)[first]
        elif limit.of:
            bound *= (self._results_Ah(limit.of) or [math.nan])[-1]
        return value >= bound if limit.relation == "above" else value <= bound

    def _until(self, node: Until) -> Generator[Segment, None, str]:
        before = len(self.measured.get(node.measure, []))
        for _ in range(node.at_most):
            then = yield from self._nodes(node.body)
            self._cycle += 1
            if then:
                return then
            found = self._results_Ah(node.measure)[before:]
            if self._is_enough(node, found, before):
                last = found[-max(node.last, 1) :]
                self.capacity_Ah = sum(last) / len(last)
                return ""
        last = self._results_Ah(node.measure)[before:][-max(node.last, 1) :]
        if last:
            self.capacity_Ah = sum(last) / len(last)
        said = "did not pass its limit" if node.limit else "did not settle"
        self.remarks.append(f"{node.measure} {said} within {node.at_most} repetitions")
        return ""

    def _is_enough(self, node: Until, found: list[float], before: int) -> bool:
        if node.limit is not None:
            return bool(found) and self._passes(found[-1], node.limit, node.measure, before)
        last = found[-node.last :]
        if len(last) < node.last:
            return False
        within = node.within_Ah
        if not math.isfinite(within):
            within = node.within_share * sum(last) / len(last)
        return max(last) - min(last) <= within


def stands_alone(step: Step) -> bool:
    """Return whether a step makes a segment of its own."""
    return needs_host(step) or step.branches


def all_segments(resolved: Resolved) -> list[Segment]:
    """Return the distinct segments that a cell may need, so that a cycler can be loaded once.

    Where a rate refers to a measure, the current is the expected one.
    """
    found: dict[tuple[Step, ...], Segment] = {}
    for segment in _parts(resolved.nodes):
        found.setdefault(segment.key, segment)
    return list(found.values())


def _parts(nodes: tuple[Node, ...]) -> Iterator[Segment]:
    """Yield the segments that `Progress` may hand out, whatever way is taken."""
    waiting: list[Step] = []
    for node in nodes:
        if isinstance(node, Step) and not stands_alone(node):
            waiting.append(node)
            if len(waiting) < MOST_STEPS:
                continue
        if waiting:
            yield Segment(tuple(waiting))
            waiting.clear()
        if isinstance(node, Step) and stands_alone(node):
            yield Segment((node,))
        for body in children(node):
            yield from _parts(body)
    if waiting:
        yield Segment(tuple(waiting))


def expected_duration_s(resolved: Resolved) -> float:
    """Return the expected length in s: currents move the nominal capacity, measures settle.

    A charge that holds its voltage takes the time of the charge, and 20 % of it for the hold.
    """
    if count_steps(resolved.nodes) > MOST_WALKED:
        return _estimate(resolved.nodes, resolved)
    return sum(
        _expected_step_s(step, segment.stop_after_Ah, resolved)
        for segment in _run_through(resolved)
        for step in segment.steps
    )


#: beyond so many steps, states of charge are not followed to tell how long a protocol takes
MOST_WALKED = 20_000


def count_steps(nodes: tuple[Node, ...]) -> int:
    """Return how many steps are carried out if everything is repeated as often as it may be."""
    total = 0
    for node in nodes:
        times = node.times if isinstance(node, Repeat) else 1
        times = node.at_most if isinstance(node, Until) else times
        bodies = [count_steps(body) for body in children(node)]
        total += 1 if isinstance(node, Step) else times * max(bodies, default=0)
    return total


def _estimate(nodes: tuple[Node, ...], resolved: Resolved) -> float:
    total = 0.0
    for node in nodes:
        if isinstance(node, Step):
            total += _expected_step_s(node, None, resolved)
            continue
        times = node.times if isinstance(node, Repeat) else 1
        times = (node.last or node.at_most) if isinstance(node, Until) else times
        total += times * max((_estimate(body, resolved) for body in children(node)), default=0.0)
    return total


def _expected_step_s(step: Step, stop_Ah: float | None, resolved: Resolved) -> float:
    if step.is_fixed or step.current_A == 0:
        return step.duration_s
    charge_Ah = stop_Ah or resolved.cell_type.nominal_capacity_Ah
    seconds = 3600.0 * charge_Ah / abs(step.current_A)
    if step.hold_until_A is not None:
        seconds *= 1.2
    return min(seconds, step.duration_s)


def _run_through(resolved: Resolved) -> Iterator[Segment]:
    """Yield every segment of an imagined cell whose measures settle at once."""
    progress = Progress(resolved)
    while progress.current is not None:
        segment = progress.current
        yield segment
        progress.finish(imagined(segment, resolved))


def imagined(segment: Segment, resolved: Resolved) -> list[Outcome]:
    """Return how a segment goes on a cell that moves the nominal capacity each time."""
    outcomes = []
    for step in segment.steps:
        size_Ah = segment.stop_after_Ah or resolved.cell_type.nominal_capacity_Ah
        if step.is_fixed:
            size_Ah = min(size_Ah, abs(step.current_A) * step.duration_s / 3600.0)
        moved_Ah = math.copysign(size_Ah, step.current_A) if step.current_A else 0.0
        outcomes.append(Outcome(moved_Ah))
    return outcomes
