"""Our own cell under a protocol's steps: one of our kernels, second by second."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from batterylab.bench.onboard import BEYOND_V
from batterylab.errors import BatterylabError
from batterylab.protocol.form import Points, Step
from batterylab.protocol.judge import Judge, Verdict
from batterylab.protocol.trace import Trace, rest_times, trace_of
from batterylab.simulated.cell import (
    CURRENT,
    FAR_A,
    FAR_V,
    MEAN_N,
    MEAN_P,
    POWER,
    RESISTANCE,
    REST,
    TEMPERATURE,
    SimulatedCell,
    ZERO_degC,
)  # fmt: skip

Array = NDArray[np.float64]
#: seconds at once: the first block of a step, and the longest one
BLOCKS_s = (16, 1024)
#: a step that begins in a state so near one that was followed already goes the same way
SAME_rtol, SAME_atol = 1e-9, 1e-10
#: ways remembered of each step
MEMORY = 4


@dataclass(frozen=True)
class _Way:
    """How a step went: what told the state before it, all of the state after it, the samples."""

    begins: Array
    ends: Array
    trace: Trace


class OwnEngine:
    """One channel of an ideal cycler with one simulated cell.

    Parameters
    ----------
    cell : SimulatedCell
        The cell; for ``dfn`` a `batterylab.simulated.fullcell.FullCell`.
    stoichiometries : (float, float)
        Of the cell at rest, negative and positive.
    ambient_degC : float
        Of the air.
    voltage_limits_V : (float, float)
        Beyond these, the step fails.
    """

    def __init__(
        self,
        cell: SimulatedCell,
        stoichiometries: tuple[float, float],
        ambient_degC: float,
        voltage_limits_V: tuple[float, float],
    ) -> None:
        self.limits_V = voltage_limits_V
        self.ambient_degC = ambient_degC
        self._cell = cell
        self._state = cell.state_at(stoichiometries, ambient_degC)
        self._ways: dict[tuple[Step, float | None], list[_Way]] = {}

    def carry_out(self, step: Step, stop_after_Ah: float | None = None) -> Trace:
        """Carry a step out; with `stop_after_Ah`, end it once that much charge has moved.

        A cell that does not age goes through a life of equal cycles the same way again and
        again: a step is followed once for each state that it begins in.
        """
        begins = np.append(self._cell.telling(self._state), 1e-2 * self.ambient_degC)
        ways = self._ways.setdefault((step, stop_after_Ah), [])
        for way in ways:
            if np.allclose(begins, way.begins, SAME_rtol, SAME_atol):
                self._state = way.ends.copy()
                return way.trace
        trace = self._follow(step, stop_after_Ah)
        ways.append(_Way(begins, self._state.copy(), trace))
        del ways[:-MEMORY]
        return trace

    def impedance_ohm(self, frequency_Hz: Array) -> NDArray[np.complex128]:
        """Return the impedance of the cell, taken to be in equilibrium at its mean charge."""
        means = float(self._state[MEAN_N]), float(self._state[MEAN_P])
        degC = float(self._state[TEMPERATURE]) - ZERO_degC
        return self._cell.impedance_ohm(frequency_Hz, means, degC)

    def _follow(self, step: Step, stop_after_Ah: float | None) -> Trace:
        judge = Judge(step, self.limits_V, stop_after_Ah)
        if step.mode == "rest" and not judge.watches:
            return self._rest(step, judge)
        mode, values, limits_V, most_A = _driven(step, self.limits_V)
        rows: list[Array] = []
        done_s, length_s = 0, BLOCKS_s[0]
        verdict: Verdict | None = None
        while verdict is None and done_s < step.duration_s:
            seconds = min(length_s, step.duration_s - done_s)
            before = self._state.copy()
            setting = values(done_s, seconds)
            block = self._drive(mode, setting, limits_V, most_A)
            if len(block):
                verdict = judge.look(np.arange(done_s + 1.0, done_s + len(block) + 1), block)
            if verdict is None and len(block) < seconds:
                self._lost(step, done_s + len(block))
            if verdict is not None and verdict.sample + 1 < seconds:
                block = block[: verdict.sample + 1]
                self._state = before
                self._drive(mode, setting[: len(block)], limits_V, most_A)
            rows.append(block)
            done_s += len(block)
            length_s = min(2 * length_s, BLOCKS_s[1])
        columns = np.concatenate(rows)
        return trace_of(np.arange(1.0, done_s + 1), columns, verdict or judge.timed_out())

    def _rest(self, step: Step, judge: Judge) -> Trace:
        times = rest_times(step.duration_s)
        lengths = np.diff(times, prepend=0.0)
        rows = np.empty((len(times), 3))
        edges = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(times)]
        for first, end in pairwise(edges):
            block = self._drive(REST, np.zeros(end - first), length_s=float(lengths[first]))
            rows[first:end] = block if len(block) == end - first else self._lost(step, first)
        return trace_of(times, rows, judge.timed_out())

    def _lost(self, step: Step, after_s: float) -> NoReturn:
        raise BatterylabError(
            f"{step.path}: after {after_s:g} s {self._cell.model} finds no way on",
            hint="a smaller current, an earlier end, or --model spme",
        )

    def _drive(
        self,
        mode: int,
        setting: Array,
        limits_V: tuple[float, float] = (-FAR_V, FAR_V),
        most_A: float = FAR_A,
        length_s: float = 1.0,
    ) -> Array:
        return self._cell.drive(
            self._state, mode, setting, limits_V=limits_V, most_A=most_A, length_s=length_s,
            ambient_degC=self.ambient_degC,
        )  # fmt: skip


def _driven(
    step: Step, limits_V: tuple[float, float]
) -> tuple[int, Callable[[int, int], Array], tuple[float, float], float]:
    """Return mode, its value second by second, voltage limits and the largest current."""
    if step.mode == "rest":
        return REST, lambda _, n: np.zeros(n), (-FAR_V, FAR_V), FAR_A
    low_V, high_V = limits_V
    if step.mode != "profile":
        if step.current_A > 0:
            high_V = step.voltage_V
        else:  # a discharge that ends at its voltage is driven a little beyond it
            low_V = max(step.voltage_V - (BEYOND_V if step.ends_at_voltage else 0.0), low_V)
    limits_V = low_V, high_V
    sign = 1.0 if step.current_A > 0 else -1.0
    if step.mode == "profile" and step.points is not None:
        mode = POWER if step.points.quantity == "power_W" else CURRENT
        points = step.points
        return mode, lambda at, n: second_by_second(points, at, n), limits_V, FAR_A
    if step.mode == "power":
        return POWER, lambda _, n: np.full(n, sign * step.level), limits_V, abs(step.current_A)
    if step.mode == "resistance":
        return RESISTANCE, lambda _, n: np.full(n, step.level), limits_V, FAR_A
    return CURRENT, lambda _, n: np.full(n, step.current_A), limits_V, FAR_A


def second_by_second(points: Points, first_s: int, seconds: int) -> Array:
    """Return a profile's mean value in each second from `first_s` on, as a cycler follows it."""
    times = np.array([*points.time_s, points.length_s])
    total = np.concatenate([[0.0], np.cumsum(np.array(points.value) * np.diff(times))])
    edges = np.arange(first_s, first_s + seconds + 1.0)
    return np.diff(np.interp(edges, times, total))
