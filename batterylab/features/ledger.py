"""What passed in each step of a recording: charge, energy, direction, state of charge."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab.features.accuracy import Accuracy, accuracy_of
from batterylab.recording import Recording, StepRow

#: a voltage this near a cut-off has reached it
NEAR_V = 0.02
#: a charge that ends with less than this share of the nominal capacity per hour has filled the cell
TAPERED = 0.12

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Stretch:
    """Steps that follow each other and move charge one way.

    Attributes
    ----------
    steps : tuple of StepRow
        At least one.
    sign : int
        1 charge, -1 discharge, 0 rest.
    charge_Ah, energy_Wh : float
        Charge positive.
    end_V : float
        Last voltage.
    """

    steps: tuple[StepRow, ...]
    sign: int
    charge_Ah: float
    energy_Wh: float
    end_V: float

    @property
    def first_row(self) -> int:
        """First row of the first step."""
        return self.steps[0].first_row

    @property
    def last_row(self) -> int:
        """Last row of the last step."""
        return self.steps[-1].last_row

    @property
    def duration_s(self) -> float:
        """Length in s."""
        last = self.steps[-1]
        return max(last.start_s + last.duration_s - self.steps[0].start_s, 0.0)


class Ledger:
    """Charge and energy of a recording, step by step.

    Charge comes from the recording's own counters (`net_capacity_Ah`, `net_energy_Wh`) where it
    has them, else from current and voltage by the trapezoidal rule within a step. The first row
    of a step stands for the time since the step's start, so a step's charge is the counter at
    its last row less the counter at the row before its first.

    Parameters
    ----------
    recording : Recording
        Any recording.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.time_s: Array = recording.columns["test_time_s"]
        self.current_A: Array = recording.columns["current_A"]
        self.voltage_V: Array = recording.columns["voltage_V"]
        self.has_counter = _is_finite(recording.columns.get("net_capacity_Ah"))
        self._lead_s = self._leads()
        self.moved_Ah = self._moved_Ah()
        self.net_Ah: Array = np.cumsum(self.moved_Ah)
        self.net_Wh: Array = np.cumsum(self._moved_Wh())

    def _leads(self) -> dict[int, float]:
        """Return by first row how long its step had run, in s."""
        leads = {}
        for step in self.recording.steps:
            row = step.first_row
            longest = self.time_s[row] - (self.time_s[row - 1] if row else 0.0)
            lead = self.time_s[row] - step.start_s
            leads[row] = float(min(max(lead, 0.0), max(longest, 0.0)))
        return leads

    def _moved_Ah(self) -> Array:
        time_s, current_A = self.time_s, self.current_A
        moved = np.zeros(len(time_s))
        if self.has_counter:
            moved[1:] = np.diff(self.recording.columns["net_capacity_Ah"])
        else:
            moved[1:] = 0.5 * (current_A[1:] + current_A[:-1]) * np.diff(time_s) / 3600.0
        for row, lead_s in self._lead_s.items():
            if row == 0:
                moved[0] = current_A[0] * lead_s / 3600.0
            elif not self.has_counter:
                before_s = time_s[row] - time_s[row - 1] - lead_s
                moved[row] = (current_A[row - 1] * before_s + current_A[row] * lead_s) / 3600.0
        return moved

    def _moved_Wh(self) -> Array:
        net_Wh = self.recording.columns.get("net_energy_Wh")
        mean_V = self.voltage_V.copy()
        mean_V[1:] = 0.5 * (self.voltage_V[1:] + self.voltage_V[:-1])
        firsts = list(self._lead_s)
        mean_V[firsts] = self.voltage_V[firsts]
        moved = self.moved_Ah * mean_V
        if net_Wh is not None and _is_finite(net_Wh):
            moved[1:] = np.diff(net_Wh)
        return moved

    def charge_Ah(self, first: StepRow, last: StepRow | None = None) -> float:
        """Return the charge of a step, or of all steps from `first` to `last`."""
        return self._passed(self.net_Ah, first, last)

    def energy_Wh(self, first: StepRow, last: StepRow | None = None) -> float:
        """Return the energy of a step, or of all steps from `first` to `last`."""
        return self._passed(self.net_Wh, first, last)

    @staticmethod
    def _passed(net: Array, first: StepRow, last: StepRow | None) -> float:
        before = net[first.first_row - 1] if first.first_row else 0.0
        return float(net[(last or first).last_row] - before)

    def number(self, name: str) -> float:
        """Return a number of the data sheet; NaN if the recording does not carry it."""
        value = self.recording.cell_type.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if is_number else math.nan  # type: ignore[arg-type]

    def accuracy(self, name: str) -> Accuracy:
        """Return the accuracy that the provenance states for a column."""
        return accuracy_of(self.recording.provenance.get("accuracy"), name)

    @cached_property
    def stretches(self) -> list[Stretch]:
        """Steps put together while they move charge the same way."""
        groups: list[tuple[int, list[StepRow]]] = []
        for step in self.recording.steps:
            sign = self._sign(step)
            if groups and groups[-1][0] == sign:
                groups[-1][1].append(step)
            else:
                groups.append((sign, [step]))
        return [self.stretch(steps, sign) for sign, steps in groups]

    def _sign(self, step: StepRow) -> int:
        if step.kind == "rest":
            return 0
        largest = float(np.abs(self.current_A).max(initial=0.0))
        mean_A = float(np.mean(self.current_A[step.rows]))
        return 0 if abs(mean_A) <= 1e-3 * largest else (1 if mean_A > 0 else -1)

    def stretch(self, steps: list[StepRow], sign: int) -> Stretch:
        """Return steps as one stretch."""
        return Stretch(
            steps=tuple(steps),
            sign=sign,
            charge_Ah=self.charge_Ah(steps[0], steps[-1]),
            energy_Wh=self.energy_Wh(steps[0], steps[-1]),
            end_V=float(self.voltage_V[steps[-1].last_row]),
        )

    @cached_property
    def full_rows(self) -> Array:
        """Rows at which the cell was full: the last of each charge that went to the end.

        A charge has filled the cell if it ended within `NEAR_V` of the data sheet's upper
        voltage with a current below 0.12 times the nominal capacity per hour, or, on a
        recording that says so, at a hold's final current.
        """
        upper_V = self.number("voltage_max_V")
        nominal_Ah = self.number("nominal_capacity_Ah")
        rows = [
            stretch.last_row
            for stretch in self.stretches
            if stretch.sign > 0
            and stretch.end_V >= upper_V - NEAR_V
            and (
                abs(self.current_A[stretch.last_row]) <= TAPERED * nominal_Ah
                or stretch.steps[-1].ended_by == "current"
            )
        ]
        return np.array(rows, float)

    def since_full_Ah(self, row: int) -> tuple[float, int] | None:
        """Return the net charge since the last full state and that state's row, or None."""
        earlier = self.full_rows[self.full_rows <= row]
        if not len(earlier):
            return None
        full = int(earlier[-1])
        return float(self.net_Ah[row] - self.net_Ah[full]), full

    def rest_before(self, step: StepRow) -> StepRow | None:
        """Return the rest that a step follows, or None."""
        if step.step_index == 0:
            return None
        before = self.recording.steps[step.step_index - 1]
        return before if self._sign(before) == 0 else None

    def column(self, name: str) -> Array | None:
        """Return a column if the recording has it with at least one number."""
        values: Any = self.recording.columns.get(name)
        return values if values is not None and np.isfinite(values).any() else None

    def pairs(self) -> Iterator[tuple[Stretch, Stretch]]:
        """Yield each discharge with the charge that went before it, rests between allowed."""
        charge: Stretch | None = None
        for stretch in self.stretches:
            if stretch.sign > 0:
                charge = stretch
            elif stretch.sign < 0:
                if charge is not None:
                    yield charge, stretch
                charge = None


def _is_finite(values: Any) -> bool:
    return values is not None and len(values) > 0 and bool(np.isfinite(values).all())
