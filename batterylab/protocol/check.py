"""What can be proved of a protocol before a cell is touched.

That every step ends and can be reached, and that it keeps to the cell's limits, is proved when a
protocol is resolved; here it is held against a bench: its limits, its cyclers' ranges and modes,
their sequences. `Check` also says how long each step may take, how much charge it may move, and
which steps the host must manage on a cycler with on-board sequences.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from batterylab.errors import Problem, ProblemsError
from batterylab.protocol.ends import is_onboard
from batterylab.protocol.form import End, Read, Resolved, Step
from batterylab.protocol.progress import MOST_STEPS, all_segments, count_steps
from batterylab.protocol.spoken import end_text, step_line

#: a current that refers to a measure may be this much above what is expected
MOST_SHARE = 1.2


@dataclass(frozen=True)
class Cycler:
    """What a cycler can do.

    Attributes
    ----------
    name : str
        On the bench.
    current_A, voltage_V : (float, float) or None
        Ranges, as far as they are known.
    is_stepped : bool
        Whether the host steps it; else it carries sequences out by itself.
    modes : frozenset of str
        What it can hold constant, as in `Step.mode`; ``profile`` for currents over time,
        ``power profile`` for powers.
    period_s : float
        From one sample to the next.
    """

    name: str
    current_A: tuple[float, float] | None
    voltage_V: tuple[float, float] | None
    is_stepped: bool
    modes: frozenset[str]
    period_s: float = 1.0


@dataclass(frozen=True)
class Reader:
    """A meter that reaches a channel during a run.

    Attributes
    ----------
    name : str
        On the bench.
    frequency_Hz : (float, float)
        From the lowest to the highest.
    has_phase : bool
        Whether it tells the imaginary part as well, as a spectrum needs.
    reading_s : callable
        About how long a reading at a frequency takes.
    """

    name: str
    frequency_Hz: tuple[float, float]
    has_phase: bool
    reading_s: Callable[[float], float]

    def can(self, read: Read) -> bool:
        """Return whether it can read what a step asks for."""
        low, high = self.frequency_Hz
        is_in = all(low * (1 - 1e-9) <= f <= high * (1 + 1e-9) for f in read.frequency_Hz)
        return is_in and (self.has_phase or read.what == "ac_resistance")


@dataclass(frozen=True)
class Abilities:
    """What a bench can do, and what it allows.

    Attributes
    ----------
    name : str
        Of the bench.
    cyclers : tuple of Cycler
        Those that have channels.
    voltage_V : (float, float)
        Limits of every channel.
    hottest_degC : float
        Limit of every cell.
    without_chamber, without_thermometer : tuple of str
        Channels that lack one.
    readers : tuple of (str, tuple of Reader)
        Each channel, and the meters that reach it during a run.
    """

    name: str
    cyclers: tuple[Cycler, ...]
    voltage_V: tuple[float, float]
    hottest_degC: float
    without_chamber: tuple[str, ...] = ()
    without_thermometer: tuple[str, ...] = ()
    readers: tuple[tuple[str, tuple[Reader, ...]], ...] = ()


@dataclass(frozen=True)
class StepCheck:
    """What is proved of one step.

    Attributes
    ----------
    path, where, text : str
        Where it stands in the protocol, file and line, and the step in words.
    longest_s : float
        It has ended by then.
    most_Ah : float
        The charge it can move at most, as a magnitude.
    by_host : tuple of str
        What the host must watch or set on a cycler with on-board sequences.
    """

    path: str
    where: str
    text: str
    longest_s: float
    most_Ah: float
    by_host: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """What is proved of a protocol; `problems` are those with the bench."""

    resolved: Resolved
    steps: tuple[StepCheck, ...]
    sequences: int
    most_steps: int
    problems: tuple[Problem, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able values."""
        return {
            "name": self.resolved.name,
            "cell_type": self.resolved.cell_type.name,
            "steps": [{**vars(step), "by_host": list(step.by_host)} for step in self.steps],
            "sequences": self.sequences,
            "most_steps": self.most_steps,
            "expected_h": self.resolved.expected_s() / 3600,
            "longest_h": self.resolved.longest_s() / 3600,
            "problems": [vars(problem) for problem in self.problems],
        }

    def raise_problems(self) -> None:
        """Raise the problems with the bench, if there are any.

        Raises
        ------
        ProblemsError
            With all of them.
        """
        if self.problems:
            raise ProblemsError(self.problems)


def check(resolved: Resolved, bench: Abilities | None = None) -> Check:
    """Prove what can be proved of a protocol, and hold it against a bench.

    Parameters
    ----------
    resolved : Resolved
        For a cell type.
    bench : Abilities, optional
        Of the bench that is to carry it out.

    Returns
    -------
    Check
        With each step once for each of its settings, and the problems with the bench.
    """
    steps = [
        StepCheck(step.path, resolved.lines.get(step.path, ""), step_line(step, resolved.stops),
                  longest_s(step), most_Ah(step, resolved),
                  tuple(host_reasons(step, resolved.stops)))
        for step in resolved.steps()
    ]  # fmt: skip
    problems = tuple(dict.fromkeys(_problems(resolved, bench))) if bench else ()
    return Check(resolved, tuple(dict.fromkeys(steps)), len(all_segments(resolved)),
                 count_steps(resolved.nodes), problems)  # fmt: skip


def longest_s(step: Step) -> float:
    """Return the time in s by which a step has ended, whatever the cell does."""
    return step.duration_s + (step.air.arrive_s if step.air else 0.0)


def most_Ah(step: Step, resolved: Resolved) -> float:
    """Return the charge in Ah that a step can move at most, as a magnitude."""
    cell = resolved.cell_type
    amps = abs(step.current_A)
    if step.rate_of:
        most = cell.max_charge_A if step.current_A > 0 else cell.max_discharge_A
        amps = min(amps * MOST_SHARE, most)
    if step.points is not None and step.points.quantity == "current_A":
        edges = (*step.points.time_s, step.points.length_s)
        charge = sum(abs(value) * (edges[k + 1] - edges[k])
                     for k, value in enumerate(step.points.value)) / 3600.0  # fmt: skip
    else:
        charge = amps * step.duration_s / 3600.0
    caps = [end.value for end in (*step.ends, *step.stops)
            if end.quantity == "capacity_Ah" and end.relation == "above" and not end.of
            and not end.hold_s]  # fmt: skip
    return min([charge, *caps])


def host_reasons(step: Step, common: tuple[End, ...] = ()) -> Iterator[str]:
    """Yield what of a step a cycler with on-board sequences leaves to the host.

    Stops in `common`, those of the whole file, are not said with each step.
    """
    if step.rate_of:
        yield f"sets its current from {step.rate_of}"
    if step.kind == "soak":
        yield "changes the chamber"
    if step.kind == "measure":
        yield "reads an instrument"
    if step.on_time not in ("next", "fail"):
        yield f"goes to {step.on_time} when its time is up"
    if step.mode == "profile":
        yield "ends at the cell's voltages"
    for end in (*step.ends, *step.stops):
        is_said = end in common or (step.mode == "profile" and end in step.ends[:2])
        if not is_onboard(step, end) and not is_said:
            yield f"watches {end_text(end)}"


def _problems(resolved: Resolved, bench: Abilities) -> Iterator[Problem]:
    yield from _air_problems(resolved, bench)
    low_V, high_V = bench.voltage_V
    for step in resolved.steps():
        where = resolved.lines.get(step.path, resolved.name)
        if not math.isnan(step.voltage_V) and not low_V <= step.voltage_V <= high_V:
            yield Problem(where, f"{step.voltage_V:g} V is beyond the limits of the {bench.name}",
                          f"{low_V:g} to {high_V:g} V")  # fmt: skip
        if step.read is not None and step.read.needs_meter:
            yield from _read_problems(step, step.read, bench, where)
        for cycler in bench.cyclers:
            for what, remedy in _cycler_problems(step, cycler, resolved):
                yield Problem(where, f"{cycler.name}: {what}", remedy)
    for cycler in bench.cyclers:
        for segment in all_segments(resolved):
            if not cycler.is_stepped and len(segment.steps) > MOST_STEPS:
                yield Problem(resolved.name, f"{cycler.name}: {len(segment.steps)} steps in a row",
                              f"at most {MOST_STEPS}")  # fmt: skip


def _read_problems(step: Step, read: Read, bench: Abilities, where: str) -> Iterator[Problem]:
    """Yield why a bench cannot carry a reading out: the first channel that lacks it counts."""
    for channel, readers in bench.readers:
        if not readers:
            yield Problem(
                where, f"channel {channel} has no meter that reads {read.what} during a run",
                'meter: "impedance through relays:201", in the bench file',
            )  # fmt: skip
            return
        able = next((each for each in readers if each.can(read)), None)
        if able is None:
            said = "; ".join(
                f"{each.name} reads " + ("" if each.has_phase else "resistance ")
                + " to ".join(f"{f:g}" for f in dict.fromkeys(each.frequency_Hz)) + " Hz"
                for each in readers
            )  # fmt: skip
            wanted = dict.fromkeys((read.frequency_Hz[0], read.frequency_Hz[-1]))
            ends = " to ".join(f"{f:g}" for f in wanted)
            yield Problem(where, f"channel {channel}: no meter reads {read.what} at {ends} Hz",
                          said)  # fmt: skip
            return
        needed_s = sum(map(able.reading_s, read.frequency_Hz))
        if needed_s > step.duration_s:
            yield Problem(where, f"{able.name} takes about {needed_s:.0f} s for this, at_most is "
                          f"{step.duration_s:g} s", "longer, or fewer points")  # fmt: skip
            return


def _air_problems(resolved: Resolved, bench: Abilities) -> Iterator[Problem]:
    soaks = [(step.air.temperature_degC, resolved.lines.get(step.path, resolved.name))
             for step in resolved.steps() if step.air]  # fmt: skip
    airs = list(soaks)
    if resolved.temperature_degC is not None:
        airs.append((resolved.temperature_degC, f"{resolved.name}: chamber"))
    for degC, where in airs:
        if degC >= bench.hottest_degC:
            yield Problem(where, f"{degC:g} °C is not below the {bench.name}'s limit",
                          f"below {bench.hottest_degC:g} degC")  # fmt: skip
    if soaks and bench.without_chamber:
        yield Problem(soaks[0][1], f"channel {bench.without_chamber[0]} has no chamber",
                      "a channel with chamber: in the bench file")  # fmt: skip
    looks = [
        step for step in resolved.steps()
        if any(end.quantity.startswith("temperature") for end in (*step.ends, *step.stops))
    ]  # fmt: skip
    if looks and bench.without_thermometer:
        where = resolved.lines.get(looks[0].path, resolved.name)
        yield Problem(where, f"channel {bench.without_thermometer[0]} has no thermometer",
                      "temperature: scanner and place, in the bench file")  # fmt: skip


def _cycler_problems(step: Step, cycler: Cycler, resolved: Resolved) -> Iterator[tuple[str, str]]:
    if step.mode == "rest":
        yield from _sample_problems(step, cycler, resolved)
        return
    mode = step.mode
    if step.points is not None and step.points.quantity == "power_W":
        mode = "power profile"
    if mode not in cycler.modes:
        yield (f"holds no constant {mode}" if "profile" not in mode else f"follows no {mode}",
               "a rate or a current, or another cycler")  # fmt: skip
    elif step.points is not None and not cycler.is_stepped:
        yield from _profile_problems(step, cycler)
    amps = {abs(step.current_A)}
    if step.points is not None and step.points.quantity == "current_A":
        amps = {abs(value) for value in step.points.value if value}
    if step.hold_until_A is not None and not any(end.of for end in step.ends):
        amps.add(step.hold_until_A)
    if cycler.current_A is not None:
        low, high = cycler.current_A
        for value in sorted(amps):
            if value and not low * (1 - 1e-9) <= value <= high * (1 + 1e-9):
                yield f"{value:g} A is outside its range", f"{low:g} to {high:g} A"
                break
    if cycler.voltage_V is not None and not math.isnan(step.voltage_V):
        low, high = cycler.voltage_V
        if not low <= step.voltage_V <= high:
            yield f"{step.voltage_V:g} V is outside its range", f"{low:g} to {high:g} V"
    yield from _sample_problems(step, cycler, resolved)


def _sample_problems(step: Step, cycler: Cycler, resolved: Resolved) -> Iterator[tuple[str, str]]:
    every_s = step.sample_every_s or resolved.every_s
    if every_s < cycler.period_s * (1 - 1e-9):
        yield (f"takes a sample every {cycler.period_s:g} s, not every {every_s:g} s",
               f"{cycler.period_s:g} s or more, or another cycler")  # fmt: skip


def _profile_problems(step: Step, cycler: Cycler) -> Iterator[tuple[str, str]]:
    points = step.points
    if points is None:
        return
    edges = (*points.time_s, points.length_s)
    if any(edge != round(edge) for edge in edges):
        yield "steps by whole seconds", "times of whole seconds, or a host-stepped supply"
    if len(points.value) > MOST_STEPS:
        yield (f"{len(points.value)} points are more than its sequences hold",
               f"at most {MOST_STEPS}, or a host-stepped supply")  # fmt: skip
