"""Find the steps of an imported measurement, say what each did, and mark the full discharges.

Rules
-----
A step begins where the vendor's step number or status changes, or where the time in the step
falls back; without either, where the current's direction changes.

A step is a *full discharge*, and is marked ``measure="capacity"``, if

1. it discharges, and four fifths of its charge pass at a constant current (within 5 % of the
   median);
2. it ends at the lower voltage: its lowest voltage is within 2 % of the voltage window of it;
3. it began full: the last charge before it, with nothing but rests between, ended within 2 % of
   the window of the upper voltage; or no charge stands before it in the file, and the voltage
   just before it, or in its first row, lies within 5 % of the window of the upper one.

A mean over different rates would be none: of several currents (10 % apart) only the discharges
of the commonest are marked, of equally common ones those of the lowest.

The window is the cell type's; without a study, the file's lowest and highest voltage, if they
lie at least 0.5 V apart.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from batterylab.importers.vendortable import VendorTable, impedance_rows
from batterylab.recording import StepRow

Floats = NDArray[np.float64]
#: |current| that begins and ends a step, as shares of the largest, where the file has no steps
BEGINS, ENDS = 0.02, 0.002
#: longest pulse in s
PULSE_S = 60.0
#: longest interval between the samples of a pulse that says something of resistance, in s
LONGEST_INTERVAL_S = 10.0
SAME_CURRENT = 0.1
CONSTANT = 0.05
AT_LIMIT, NEAR_FULL = 0.02, 0.05
LEAST_WINDOW_V = 0.5


class Window(NamedTuple):
    """Lower and upper cut-off voltage in V."""

    lower_V: float
    upper_V: float

    @property
    def width_V(self) -> float:
        """Upper less lower, in V."""
        return self.upper_V - self.lower_V


def first_rows(table: VendorTable) -> NDArray[np.bool_]:
    """Return which rows begin a step; the first row does."""
    begins = np.zeros(len(table), dtype=bool)
    begins[0] = True
    told = False
    for values in (table.step, table.status):
        if values is not None:
            begins[1:] |= values[1:] != values[:-1]
            told = True
    if table.step_time_s is not None:
        begins[1:] |= np.diff(table.step_time_s) < 0
        told = True
    if told:
        return begins
    direction = directions(table.current_A)
    begins[1:] |= direction[1:] != direction[:-1]
    if begins.sum() > 50 and begins.sum() > len(table) / 100:  # a drive cycle: one step
        begins[1:] = False
    return begins


def directions(current_A: Floats) -> NDArray[np.int8]:
    """Return +1, -1 or 0 per row, with a hysteresis that a noisy sensor's zero does not cross."""
    size = np.abs(current_A)
    largest = float(size.max(initial=0.0))
    state = np.zeros(len(size), dtype=np.int8)
    if largest == 0:
        return state
    decided = (size >= BEGINS * largest) | (size <= ENDS * largest)
    values = np.where(size >= BEGINS * largest, np.sign(current_A), 0).astype(np.int8)
    last = np.maximum.accumulate(np.where(decided, np.arange(len(size)), -1))
    return np.where(last >= 0, values[last], 0).astype(np.int8)


def find_steps(
    table: VendorTable, first: NDArray[np.bool_], passed_Ah: Floats, window: Window | None
) -> list[StepRow]:
    """Return the steps of a measurement.

    Parameters
    ----------
    table : VendorTable
        The measurement.
    first : ndarray of bool
        From `first_rows`.
    passed_Ah : ndarray of float64
        Charge since the row before, charge positive.
    window : Window or None
        Of the cell type; None takes the file's own.

    Returns
    -------
    list of StepRow
        In the order of time, with kinds, labels and measures.
    """
    starts = np.flatnonzero(first)
    ends = np.append(starts[1:], len(table)) - 1
    largest_A = float(np.abs(table.current_A).max(initial=0.0))
    cycle = table.cycle
    steps = [
        _step(table, number, int(a), int(b), largest_A, int(cycle[a]) if cycle is not None else 0)
        for number, (a, b) in enumerate(zip(starts, ends, strict=True))
    ]
    steps = _pulses(table, steps)
    return _measured(table, steps, passed_Ah, window or _own_window(table.voltage_V))


def _own_window(voltage_V: Floats) -> Window | None:
    window = Window(float(voltage_V.min()), float(voltage_V.max()))
    return window if window.width_V >= LEAST_WINDOW_V else None


def _step(table: VendorTable, number: int, a: int, b: int, largest_A: float, cycle: int) -> StepRow:
    current_A, voltage_V = table.current_A[a : b + 1], table.voltage_V[a : b + 1]
    kind = _kind(table, a, b, largest_A)
    end_s = float(table.time_s[b])
    if table.step_time_s is not None and table.step_time_s[b] >= table.time_s[b] - table.time_s[a]:
        start_s = end_s - float(table.step_time_s[b])
    else:
        start_s = float(table.time_s[a - 1] if a else table.time_s[a])
    median_A = float(np.median(current_A))
    constant = np.abs(current_A - median_A) <= CONSTANT * abs(median_A)
    is_constant = kind in ("charge", "discharge") and float(constant.mean()) >= 0.5
    return StepRow(
        step_index=number,
        first_row=a,
        last_row=b,
        kind=kind,
        label=_label(table, a),
        cycle_index=cycle,
        start_s=start_s,
        duration_s=end_s - start_s,
        current_A=median_A if is_constant else 0.0 if kind == "rest" else float("nan"),
        voltage_V=float(np.median(voltage_V)) if kind == "hold" else float("nan"),
    )


def _label(table: VendorTable, row: int) -> str:
    parts = []
    if table.step is not None:
        parts.append(f"step {int(table.step[row])}")
    if table.status is not None:
        parts.append(str(table.status[row]))
    return ", ".join(parts).encode()[:110].decode(errors="ignore")


def _kind(table: VendorTable, a: int, b: int, largest_A: float) -> str:
    current_A, voltage_V = table.current_A[a : b + 1], table.voltage_V[a : b + 1]
    told = table.kinds.get(str(table.status[a]), "") if table.status is not None else ""
    if impedance_rows(table)[a : b + 1].mean() > 0.5:
        return "other"
    if told in ("rest", "hold"):
        return told
    floor_A = 1e-3 * largest_A
    if not told or told == "other":
        if float(np.abs(current_A).max()) <= floor_A or _is_noise(table, current_A, largest_A):
            return "rest"
        up, down = (current_A > floor_A).mean(), (current_A < -floor_A).mean()
        told = "charge" if up > 0.9 else "discharge" if down > 0.9 else "other"
    if told in ("charge", "discharge") and b - a >= 4:
        still = float(np.ptp(voltage_V)) <= max(0.005, 2e-3 * float(np.abs(voltage_V).max()))
        size = np.abs(current_A)
        if still and size[-1] < 0.8 * size[0] and float(np.median(np.diff(size))) <= 0:
            return "hold"
    return told


def _is_noise(table: VendorTable, current_A: Floats, largest_A: float) -> bool:
    """Return whether a step that nobody named never carries current above the threshold."""
    named = table.step is not None or table.status is not None
    return not named and float(np.abs(current_A).max()) < BEGINS * largest_A


def _pulses(table: VendorTable, steps: list[StepRow]) -> list[StepRow]:
    """Name short steps of constant current between rests pulses.

    A pulse that is sampled at least every 10 s is marked ``measure="dcir"``, or
    ``dcir_charge``.
    """
    result = list(steps)
    for before, step, after in zip(steps, steps[1:], steps[2:], strict=False):
        short = step.kind in ("charge", "discharge") and 0 < step.duration_s <= PULSE_S
        if not (short and before.kind == after.kind == "rest" and step.current_A == step.current_A):
            continue
        times_s = table.time_s[step.first_row : step.last_row + 1]
        longest_s = float(np.diff(times_s, prepend=step.start_s).max())
        name = "dcir" if step.kind == "discharge" else "dcir_charge"
        measure = name if longest_s <= LONGEST_INTERVAL_S <= 10 * step.duration_s else ""
        result[step.step_index] = replace(step, kind="pulse", measure=measure)
    return result


def _measured(
    table: VendorTable, steps: list[StepRow], passed_Ah: Floats, window: Window | None
) -> list[StepRow]:
    """Mark the full discharges; see the module's rules."""
    if window is None:
        return steps
    found: list[tuple[int, float]] = []
    full: bool | None = None  # not known yet
    for step in steps:
        rows = slice(step.first_row, step.last_row + 1)
        voltage_V = table.voltage_V[rows]
        if step.kind in ("charge", "hold") and passed_Ah[rows].sum() > 0:
            full = float(voltage_V.max()) >= window.upper_V - AT_LIMIT * window.width_V
        elif step.kind == "discharge":
            started_full = full if full is not None else _looks_full(table, step, window)
            empty = float(voltage_V.min()) <= window.lower_V + AT_LIMIT * window.width_V
            if started_full and empty and _constant(table.current_A[rows], passed_Ah[rows]):
                found.append((step.step_index, abs(float(np.median(table.current_A[rows])))))
            full = False
        elif step.kind in ("pulse", "other", "hold"):
            full = False
    return _mark(steps, found)


def _mark(steps: list[StepRow], found: list[tuple[int, float]]) -> list[StepRow]:
    """Mark the full discharges of the commonest current, the lowest of equals."""
    groups: list[list[tuple[int, float]]] = []
    for number, current_A in found:
        for group in groups:
            if abs(current_A - group[0][1]) <= SAME_CURRENT * group[0][1]:
                group.append((number, current_A))
                break
        else:
            groups.append([(number, current_A)])
    result = list(steps)
    if groups:
        chosen = max(groups, key=lambda group: (len(group), -group[0][1]))
        for number, _ in chosen:
            result[number] = replace(steps[number], measure="capacity", ended_by="voltage")
    return result


def _looks_full(table: VendorTable, step: StepRow, window: Window) -> bool:
    before = table.voltage_V[max(step.first_row - 1, 0)]
    start_V = max(float(before), float(table.voltage_V[step.first_row]))
    return start_V >= window.upper_V - NEAR_FULL * window.width_V


def _constant(current_A: Floats, passed_Ah: Floats) -> bool:
    median_A = float(np.median(current_A))
    constant = np.abs(current_A - median_A) <= CONSTANT * abs(median_A)
    total = float(np.abs(passed_Ah).sum())
    return total > 0 and float(np.abs(passed_Ah[constant]).sum()) >= 0.8 * total
