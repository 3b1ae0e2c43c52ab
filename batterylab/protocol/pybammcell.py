"""PyBaMM's cell under a protocol's steps, ended at whole seconds as a cycler does."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from batterylab.bench.onboard import NEAR_V, SETTLE_s
from batterylab.protocol import Step
from batterylab.protocol.simulate import Trace, rest_times
from batterylab.pybamm_border import SpmeCell, scalars
from batterylab.simulated.cell import SimulatedCell

Array = NDArray[np.float64]
#: a limit that nothing reaches, in V or A
FAR = 1e4
_SCALED = ("Electrode width [m]", "Cell volume [m3]", "Cell cooling surface area [m2]")


def changes_for(cell: SimulatedCell, parameter_set: str, state: Array) -> dict[str, float]:
    """Return the parameters, by PyBaMM's names, that make its cell the same as ours."""
    numbers = scalars(parameter_set)
    changes = {name: numbers[name] * cell.area_scale for name in _SCALED}
    changes["Contact resistance [Ohm]"] = cell.truth.contact_ohm
    for electrode, x in zip(("negative", "positive"), state[:2], strict=True):
        largest = numbers[f"Maximum concentration in {electrode} electrode [mol.m-3]"]
        changes[f"Initial concentration in {electrode} electrode [mol.m-3]"] = x * largest
    return changes


@dataclass
class _Parts:
    """The samples of a step as its parts are solved."""

    elapsed_s: float = 0.0
    rows: list[Array] = field(default_factory=list)

    def add(self, samples: Array) -> None:
        """Append a part whose time counts from its own start."""
        if len(samples):
            samples = samples.copy()
            samples[:, 0] += self.elapsed_s
            self.elapsed_s = float(samples[-1, 0])
            self.rows.append(samples)


class PybammEngine:
    """PyBaMM's SPMe under a protocol.

    Parameters
    ----------
    cell : SimulatedCell
        Whose numbers PyBaMM's cell gets.
    parameter_set : str
        The base set.
    state : ndarray
        The cell's state at the start, at rest.
    ambient_degC : float
        Of the air.
    voltage_limits_V : (float, float)
        Beyond these, the step fails.
    """

    def __init__(
        self,
        cell: SimulatedCell,
        parameter_set: str,
        state: Array,
        ambient_degC: float,
        voltage_limits_V: tuple[float, float],
    ) -> None:
        changes = changes_for(cell, parameter_set, state)
        self.limits_V = voltage_limits_V
        self.model = SpmeCell(parameter_set, changes, temperature_degC=ambient_degC)

    def carry_out(self, step: Step, stop_after_Ah: float | None) -> Trace:
        """Carry a step out; with `stop_after_Ah`, end it once that much charge has moved."""
        parts = _Parts()
        if step.kind == "rest":
            samples, _ = self.model.drive("current", 0.0, rest_times(step.duration_s), FAR, 1.0)
            parts.add(samples)
            return self._trace(parts, "duration", step)
        longest_s = step.duration_s
        by_time = "duration" if step.is_fixed else "at_most"
        if stop_after_Ah is not None:
            wanted_s = round(3600.0 * stop_after_Ah / abs(step.current_A))
            if wanted_s <= longest_s:
                longest_s, by_time = max(1, wanted_s), "capacity"
        is_passed = self._constant_current(step, longest_s, parts)
        if not is_passed:
            return self._trace(parts, by_time, step)
        if step.hold_until_A is None:
            self._to_whole_second("current", step.current_A, parts)
            return self._trace(parts, "voltage", step)
        return self._trace(parts, self._hold(step, longest_s, parts, by_time), step)

    def _constant_current(self, step: Step, longest_s: int, parts: _Parts) -> bool:
        """Drive the set current; return whether the voltage was reached."""
        sign = 1.0 if step.current_A > 0 else -1.0
        limit_V = step.voltage_V
        if sign > 0 and step.hold_until_A is None:
            limit_V -= NEAR_V
        times = np.arange(1.0, longest_s + 1)
        samples, is_passed = self.model.drive("current", step.current_A, times, limit_V, sign)
        parts.add(samples)
        return is_passed

    def _hold(self, step: Step, longest_s: int, parts: _Parts, by_time: str) -> str:
        """Hold the voltage until the current has fallen; return what ended it."""
        sign = 1.0 if step.current_A > 0 else -1.0
        until_A = sign * (step.hold_until_A or 0.0)
        for settles in (True, False):
            end_s = min(longest_s, SETTLE_s) if settles else longest_s
            times = np.arange(np.floor(parts.elapsed_s) + 1, end_s + 1) - parts.elapsed_s
            if not len(times):
                continue
            limit_A = -sign * FAR if settles else until_A
            samples, is_passed = self.model.drive("voltage", step.voltage_V, times, limit_A, -sign)
            parts.add(samples)
            if is_passed:
                self._to_whole_second("voltage", step.voltage_V, parts, -sign)
                return "current"
        return by_time

    def _to_whole_second(self, mode: str, value: float, parts: _Parts, sign: float = 0.0) -> None:
        """Go on to the next whole second: a cycler looks once a second."""
        left_s = float(np.ceil(parts.elapsed_s) - parts.elapsed_s)
        if parts.rows and left_s < 1e-6:
            return
        away = sign or (1.0 if value > 0 else -1.0)
        times = np.array([left_s if left_s > 1e-6 else 1.0])
        samples, _ = self.model.drive(mode, value, times, away * FAR, away)
        parts.add(samples)

    def _trace(self, parts: _Parts, ended_by: str, step: Step) -> Trace:
        """Keep the samples at whole seconds, with the mean current of each second."""
        rows = np.concatenate(parts.rows)
        whole = np.abs(rows[:, 0] - np.round(rows[:, 0])) < 1e-6
        rows = rows[whole]
        failure = ""
        if ended_by == "at_most":
            failure = f"not ended after {step.duration_s} s"
        low, high = self.limits_V
        if step.kind != "rest" and np.any((rows[:, 2] < low) | (rows[:, 2] > high)):
            ended_by, failure = "stopped", f"voltage outside {low:g} to {high:g} V"
        return Trace(np.round(rows[:, 0]), rows[:, 1], rows[:, 2], rows[:, 3], ended_by, failure)
