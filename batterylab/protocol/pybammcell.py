"""PyBaMM's cell under a protocol's steps, ended at whole seconds as a cycler does."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from batterylab.bench.onboard import NEAR_V, SETTLE_s
from batterylab.protocol.form import Step
from batterylab.protocol.judge import Judge
from batterylab.protocol.trace import Trace, rest_times, trace_of
from batterylab.pybamm_border import scalars
from batterylab.pybamm_driven import DrivenCell
from batterylab.simulated.cell import SimulatedCell

Array = NDArray[np.float64]
#: a limit that nothing reaches, in V or A
FAR = 1e4
#: seconds that a step may go on after PyBaMM saw its end, until a sample shows it
AFTER_s = 3
_SCALED = ("Electrode width [m]", "Cell volume [m3]", "Cell cooling surface area [m2]")


def changes_for(cell: SimulatedCell, stoichiometries: tuple[float, float]) -> dict[str, float]:
    """Return the parameters, by PyBaMM's names, that make its cell the same as ours at rest."""
    numbers = scalars(cell.parameter_set)
    changes = {
        name: numbers[name] * cell.area_factor for name in _SCALED if name in numbers
    }
    if "Cell cooling surface area [m2]" in changes:
        changes["Cell cooling surface area [m2]"] *= cell.truth.cooling
    changes["Contact resistance [Ohm]"] = cell.truth.contact_ohm
    for electrode, x in zip(("negative", "positive"), stoichiometries, strict=True):
        largest = numbers[f"Maximum concentration in {electrode} electrode [mol.m-3]"]
        changes[f"Initial concentration in {electrode} electrode [mol.m-3]"] = x * largest
    return changes


@dataclass
class _Parts:
    """The samples of a step as its parts are solved."""

    elapsed_s: float = 0.0
    charge_As: float = 0.0
    rows: list[Array] = field(default_factory=list)

    def add(self, samples: Array, *, goes_on: bool = False) -> None:
        """Append a part whose time counts from its own start.

        Its current begins at its first sample's, or `goes_on` from the last one's of the part
        before. A column of charge in As is added.
        """
        if not len(samples):
            return
        amps = samples[:, 1]
        first = self.rows[-1][-1, 1] if goes_on and self.rows else amps[0]
        means = 0.5 * (np.concatenate([[first], amps[:-1]]) + amps)
        charge_As = self.charge_As + np.cumsum(means * np.diff(samples[:, 0], prepend=0.0))
        samples = np.column_stack([samples[:, 0] + self.elapsed_s, samples[:, 1:], charge_As])
        self.elapsed_s, self.charge_As = float(samples[-1, 0]), float(charge_As[-1])
        self.rows.append(samples)

    def whole_seconds(self) -> tuple[Array, Array]:
        """Return times, and current, voltage and temperature, at whole seconds.

        The current is the mean since the sample before, as a tester's counters have it.
        """
        rows = np.concatenate(self.rows)
        rows = rows[np.abs(rows[:, 0] - np.round(rows[:, 0])) < 1e-6]
        times = np.round(rows[:, 0])
        means = np.diff(rows[:, 4], prepend=0.0) / np.diff(times, prepend=0.0)
        return times, np.column_stack([means, rows[:, 2], rows[:, 3]])


class PybammEngine:
    """PyBaMM's model under a protocol.

    Parameters
    ----------
    cell : SimulatedCell
        Whose numbers and model PyBaMM's cell gets.
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
        self.model = DrivenCell(
            cell.parameter_set, changes_for(cell, stoichiometries), model=cell.model,
            thermal="lumped" if cell.is_lumped else "isothermal",
            temperature_degC=ambient_degC,
        )  # fmt: skip

    @property
    def ambient_degC(self) -> float:
        """Temperature of the air."""
        return self.model.ambient_degC

    @ambient_degC.setter
    def ambient_degC(self, value: float) -> None:
        self.model.ambient_degC = value

    def carry_out(self, step: Step, stop_after_Ah: float | None = None) -> Trace:
        """Carry a step out; with `stop_after_Ah`, end it once that much charge has moved."""
        begins, longest_s = self.model.state, step.duration_s
        if stop_after_Ah is not None and step.mode == "current":
            wanted_s = max(1, round(3600.0 * stop_after_Ah / abs(step.current_A)))
            longest_s = min(longest_s, wanted_s + AFTER_s)
        parts = self._follow(step, longest_s)
        judge = Judge(step, self.limits_V, stop_after_Ah)
        times, columns = parts.whole_seconds()
        verdict = judge.look(times, columns)
        for _ in range(AFTER_s):
            if verdict is not None or times[-1] >= step.duration_s or step.mode == "rest":
                break
            seen = len(times)
            self._follow_on(step, parts)
            times, columns = parts.whole_seconds()
            verdict = judge.look(times[seen:], columns[seen:])
            if verdict is not None:
                return trace_of(times, columns, verdict)
        if verdict is None:
            return trace_of(times, columns, judge.timed_out())
        last = verdict.sample + 1
        if last < len(times):
            self.model.state = begins
            self._follow(step, int(times[last - 1]))
        return trace_of(times[:last], columns[:last], verdict)

    def impedance_ohm(self, frequency_Hz: Array) -> NDArray[np.complex128]:
        """Return the impedance of the cell, taken to be in equilibrium at its mean charge."""
        return self.model.impedance_ohm(frequency_Hz)

    def _follow(self, step: Step, longest_s: int) -> _Parts:
        """Drive the step until its time, or until the voltage or current that ends it."""
        parts = _Parts()
        if step.mode == "rest":
            is_short = not (step.ends or step.stops)
            times = rest_times(longest_s) if is_short else np.arange(1.0, longest_s + 1)
            samples, _ = self.model.drive("current", 0.0, times, FAR, 1.0)
            parts.add(samples)
        elif step.mode == "profile" and step.points is not None:
            self._profile(step, longest_s, parts)
        else:
            mode, value = _held(step)
            if not self._driven(mode, value, step, longest_s, parts):
                return parts
            if step.ends_at_voltage:
                self._to_whole_second(mode, value, parts)
            else:
                self._hold(step, longest_s, parts)
        return parts

    def _driven(self, mode: str, value: float, step: Step, longest_s: int, parts: _Parts) -> bool:
        """Drive what is held; return whether the voltage was reached."""
        sign = 1.0 if step.current_A > 0 else -1.0
        limit_V = step.voltage_V
        if sign > 0 and step.ends_at_voltage:
            limit_V -= NEAR_V
        times = np.arange(1.0, longest_s + 1)
        samples, is_passed = self.model.drive(mode, value, times, limit_V, sign)
        parts.add(samples)
        return is_passed

    def _profile(self, step: Step, longest_s: int, parts: _Parts) -> None:
        """Drive one value after the other, until a voltage limit."""
        points = step.points
        assert points is not None  # noqa: S101  (a profile has points)
        mode = "power" if points.quantity == "power_W" else "current"
        limits = {e.relation: e.value for e in step.ends if e.quantity == "voltage_V"}
        for value, end_s in zip(points.value, (*points.time_s[1:], points.length_s), strict=True):
            sign = 1.0 if value >= 0 else -1.0
            stop_s = min(end_s, float(longest_s))
            whole = np.arange(np.floor(parts.elapsed_s + 1e-9) + 1, stop_s + 1e-9)
            times = np.unique([*whole, stop_s]) - parts.elapsed_s
            if not len(times) or times[-1] < 1e-9:
                continue
            limit_V = limits.get("above" if sign > 0 else "below", sign * FAR)
            near_V = NEAR_V if sign > 0 and step.current_A > 0 else 0.0
            samples, is_passed = self.model.drive(mode, value, times, limit_V - near_V, sign)
            parts.add(samples)
            if is_passed:
                self._to_whole_second(mode, value, parts)
                return

    def _hold(self, step: Step, longest_s: int, parts: _Parts) -> None:
        """Hold the voltage until the current has fallen."""
        sign = 1.0 if step.current_A > 0 else -1.0
        until_A = step.hold_until_A
        for settles in (True, False):
            end_s = min(longest_s, SETTLE_s - 1) if settles else longest_s
            times = np.arange(np.floor(parts.elapsed_s) + 1, end_s + 1) - parts.elapsed_s
            if not len(times):
                continue
            limit_A = -sign * FAR if settles or until_A is None else sign * until_A
            samples, is_passed = self.model.drive("voltage", step.voltage_V, times, limit_A, -sign)
            parts.add(samples, goes_on=True)
            if is_passed:
                self._to_whole_second("voltage", step.voltage_V, parts, -sign)
                return

    def _to_whole_second(self, mode: str, value: float, parts: _Parts, sign: float = 0.0) -> None:
        """Go on to the next whole second: a cycler looks once a second."""
        left_s = float(np.ceil(parts.elapsed_s) - parts.elapsed_s)
        if parts.rows and left_s < 1e-6:
            return
        away = sign or (1.0 if value > 0 and mode != "resistance" else -1.0)
        times = np.array([left_s if left_s > 1e-6 else 1.0])
        samples, _ = self.model.drive(mode, value, times, away * FAR, away)
        parts.add(samples, goes_on=True)

    def _follow_on(self, step: Step, parts: _Parts) -> None:
        """Go on for a second: the last sample did not show the end that PyBaMM saw."""
        if step.ends_at_voltage or step.mode == "profile":
            mode, value = _held(step)
        else:
            mode, value = "voltage", step.voltage_V
        away = 1.0 if step.current_A > 0 else -1.0
        if mode == "voltage":
            away = -away
        samples, _ = self.model.drive(mode, value, np.array([1.0]), away * FAR, away)
        parts.add(samples, goes_on=True)


def _held(step: Step) -> tuple[str, float]:
    """Return what PyBaMM holds before the voltage is reached, and its value."""
    sign = 1.0 if step.current_A > 0 else -1.0
    if step.mode == "power":
        return "power", sign * step.level
    if step.mode == "resistance":
        return "resistance", step.level
    return "current", step.current_A
