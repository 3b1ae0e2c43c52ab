"""Hold a measurement against its own file before it is stored.

Each check returns figures for the provenance or a complaint. Nothing is mended on a guess: a
file whose current, counters, clock or cycle numbers contradict each other is refused, with all
complaints at once.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab.cells import CellType
from batterylab.errors import Problem
from batterylab.importers.vendortable import VendorTable, impedance_rows
from batterylab.recording import StepRow

Floats = NDArray[np.float64]
#: how far the charge from the current may lie from the file's counter
CHARGE_LIMIT_PERCENT = 0.5
#: beyond this the written digits are too coarse for the check to say anything
COARSE_PERCENT = 5.0
LARGEST_V, LARGEST_A, LARGEST_Ah = 20.0, 2000.0, 1000.0
PAUSE_S = 60.0
SENSOR_degC = (-60.0, 200.0)


@dataclass
class Findings:
    """What the checks found.

    Attributes
    ----------
    figures : dict
        By check, JSON-able: what goes into the provenance.
    problems : list of Problem
        Reasons to refuse the file.
    remarks : list of str
        What a reader of the recording should know.
    """

    figures: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def complain(self, where: str, what: str, remedy: str) -> None:
        """Add a reason to refuse the file."""
        self.problems.append(Problem(where, what, remedy))


def check_numbers(table: VendorTable, name: str, found: Findings) -> None:
    """Refuse rows that are no numbers, time that runs backwards, and a file without rows."""
    if not len(table):
        found.complain(name, "there are no rows", "nothing was measured, or the file was cut short")
        return
    for what, values in (
        ("time", table.time_s),
        ("current", table.current_A),
        ("voltage", table.voltage_V),
    ):
        wrong = ~np.isfinite(values)
        if what == "voltage":
            wrong &= ~impedance_rows(table)
        bad = np.flatnonzero(wrong)
        if len(bad):
            cut = bad[0] == len(table) - 1
            found.complain(
                name,
                f"row {bad[0]}: the {what} is not a number",
                "the file was cut short" if cut else "export the file again",
            )
            return
    back = np.flatnonzero(np.diff(table.time_s) < 0)
    if len(back):
        found.complain(
            name,
            f"row {back[0] + 1}: time runs backwards, from "
            f"{table.time_s[back[0]]:g} s to {table.time_s[back[0] + 1]:g} s",
            "export one test at a time, in the order of time",
        )


def check_values(table: VendorTable, name: str, cell: CellType | None, found: Findings) -> None:
    """Refuse values that no cell, or not this cell, can have: mV for V, mA for A."""
    known_V = table.voltage_V[np.isfinite(table.voltage_V)]
    largest_V = float(np.abs(known_V).max(initial=0.0))
    largest_A = float(np.abs(table.current_A).max())
    found.figures["ranges"] = {
        "voltage_V": [_short(known_V.min()), _short(known_V.max())] if len(known_V) else None,
        "current_A": [_short(table.current_A.min()), _short(table.current_A.max())],
    }
    if largest_V > LARGEST_V:
        found.complain(
            name, f"a voltage of {largest_V:g} V is not that of one cell", "is the column in mV?"
        )
    if largest_A > LARGEST_A:
        found.complain(
            name, f"a current of {largest_A:g} A is not that of one cell", "is the column in mA?"
        )
    if cell is not None and len(known_V):
        _check_against_cell(table, name, cell, largest_A, found)


def _check_against_cell(
    table: VendorTable, name: str, cell: CellType, largest_A: float, found: Findings
) -> None:
    most_A = 10.0 * max(cell.max_charge_A, cell.max_discharge_A, cell.nominal_capacity_Ah)
    if largest_A > most_A:
        found.complain(
            name,
            f"a current of {largest_A:g} A is more than ten times what {cell.name} allows",
            "is the column in mA, or is it another cell?",
        )
    known_V = table.voltage_V[np.isfinite(table.voltage_V)]
    median_V = float(np.median(known_V))
    low_V, high_V = cell.voltage_min_V - 0.5, cell.voltage_max_V + 0.5
    if not low_V <= median_V <= high_V or float(known_V.max()) > high_V:
        found.complain(
            name,
            f"voltages of {known_V.min():g} to {known_V.max():g} V are not "
            f"those of {cell.name} ({cell.voltage_min_V:g} to {cell.voltage_max_V:g} V)",
            "is it another cell, or the wrong unit?",
        )


def check_cycles(table: VendorTable, name: str, found: Findings) -> None:
    """Refuse cycle numbers that are not whole; say so where there are none."""
    if table.cycle is None:
        found.remarks.append("the file has no cycle numbers: all rows carry 0")
        found.figures["cycles"] = {"count": None}
        return
    bad = np.flatnonzero(~np.isfinite(table.cycle) | (table.cycle != np.round(table.cycle)))
    if len(bad):
        found.complain(
            name,
            f"row {bad[0]}: the cycle number {table.cycle[bad[0]]:g} is not whole",
            "the file's writer is at fault: export it from the cycler's software",
        )
        return
    if float(np.abs(table.cycle).max()) > 1e7:
        found.complain(name, f"a cycle number of {np.abs(table.cycle).max():g}", "export it again")
        return
    numbers = np.unique(table.cycle)
    found.figures["cycles"] = {
        "count": len(numbers),
        "first": int(numbers[0]),
        "last": int(numbers[-1]),
    }


def check_clock(table: VendorTable, name: str, found: Findings) -> None:
    """Hold elapsed time against the wall clock; pauses may lie between rows.

    The two may differ by 1 % or by a minute (a clock change: an hour) outside pauses.
    """
    elapsed_s = float(table.time_s[-1] - table.time_s[0])
    if table.unix_time_s is None or not np.isfinite(table.unix_time_s).all():
        found.figures["clock"] = {"elapsed_s": _short(elapsed_s), "wall_s": None}
        return
    gap_s = np.diff(table.unix_time_s) - np.diff(table.time_s)
    pauses = gap_s > PAUSE_S
    paused_s = float(gap_s[pauses].sum())
    wall_s = float(table.unix_time_s[-1] - table.unix_time_s[0])
    difference_s = wall_s - paused_s - elapsed_s
    found.figures["clock"] = {
        "elapsed_s": _short(elapsed_s),
        "wall_s": _short(wall_s),
        "pauses": int(pauses.sum()),
        "paused_s": _short(paused_s),
    }
    allowed_s = max(60.0, 0.01 * elapsed_s)
    summer_time = min(abs(difference_s - 3600.0), abs(difference_s + 3600.0)) <= allowed_s
    many = int(pauses.sum()) > max(10, len(table) // 20)
    if summer_time and abs(difference_s) > allowed_s:
        found.remarks.append("the file's clock was put forward or back by an hour")
    elif abs(difference_s) > allowed_s or (many and paused_s > 0.5 * max(elapsed_s, 1.0)):
        found.complain(
            name,
            f"{elapsed_s:g} s of test time, but {wall_s:g} s on the file's clock",
            "is the time in another unit?",
        )


def check_charge(
    by_current_Ah: Floats,
    counted_Ah: list[Floats] | None,
    table: VendorTable,
    name: str,
    found: Findings,
) -> None:
    """Hold the charge from the current against the file's counter, each way.

    The limit is 0.5 % and what half the last digit of the current, if it is known, adds.

    Parameters
    ----------
    by_current_Ah : ndarray
        Charge since the row before, from the current.
    counted_Ah : list of two ndarray or None
        The same from the counter: charged and discharged.
    table : VendorTable
        The measurement.
    name : str
        The file.
    found : Findings
        Receives the figures.
    """
    if counted_Ah is None:
        found.figures["charge"] = {"counter": None}
        found.remarks.append("the file has no counter of charge: the current stands unchecked")
        return
    figures: dict[str, Any] = {"limit_percent": CHARGE_LIMIT_PERCENT}
    sides = (("charge", 1.0, counted_Ah[0]), ("discharge", -1.0, counted_Ah[1]))
    largest_Ah = max(float(counted.sum()) for _, _, counted in sides)
    for side, sign, counted in sides:
        own_Ah = float(np.maximum(sign * by_current_Ah, 0.0).sum())
        file_Ah = float(counted.sum())
        figures[f"{side}_integrated_Ah"] = _short(own_Ah)
        figures[f"{side}_counted_Ah"] = _short(file_Ah)
        if max(own_Ah, file_Ah) <= max(0.01 * largest_Ah, 1e-12):
            continue
        active = sign * table.current_A > 0
        coarse = _coarse_percent(table, active, file_Ah)
        off = 100.0 * abs(own_Ah - file_Ah) / file_Ah if file_Ah > 0 else float("inf")
        figures[f"{side}_difference_percent"] = _short(off) if np.isfinite(off) else None
        figures[f"{side}_digits_percent"] = _short(coarse)
        if coarse > COARSE_PERCENT and off <= CHARGE_LIMIT_PERCENT + coarse:
            found.remarks.append(
                f"the {side} current is written in steps of {table.current_resolution_A:g} A, too "
                f"coarse to check the charge: {own_Ah:.4g} Ah by current, {file_Ah:.4g} Ah counted"
            )
        elif off > CHARGE_LIMIT_PERCENT + coarse:
            found.complain(
                name,
                f"the current gives {own_Ah:.6g} Ah of {side}, the file's own counter "
                f"{file_Ah:.6g} Ah: {off:.3g} % apart",
                _guess(own_Ah, file_Ah),
            )
    found.figures["charge"] = figures


def _guess(own_Ah: float, file_Ah: float) -> str:
    ratio = own_Ah / file_Ah if file_Ah > 0 else 0.0
    for factor, what in (
        (1000.0, "is the current in mA?"),
        (0.001, "is the counter in mAh?"),
        (3600.0, "is the counter in A·s, or the time in h?"),
    ):
        if abs(ratio / factor - 1.0) < 0.05:
            return what
    return f"allowed are {CHARGE_LIMIT_PERCENT:g} %: rows are missing, or one of them is wrong"


def _coarse_percent(table: VendorTable, active: NDArray[np.bool_], file_Ah: float) -> float:
    """Return what half the current's last digit is of the charge, in percent."""
    digit_A = table.current_resolution_A or _binary_digit_A(table.current_A)
    hours = float(np.diff(table.time_s)[active[1:]].sum()) / 3600.0
    return 50.0 * digit_A * hours / file_Ah if file_Ah > 0 else 0.0


def _binary_digit_A(current_A: Floats) -> float:
    """Return the converter's step where a binary file shows one: few values, closely spaced."""
    values = np.unique(np.abs(current_A[:1_000_000]).astype(np.float32))
    if not 3 <= len(values) <= 500:
        return 0.0
    step = float(np.diff(values).min())
    return step if step <= 0.01 * float(values[-1]) else 0.0


def check_sign(
    table: VendorTable, steps: list[StepRow], by_current_Ah: Floats, name: str, found: Findings
) -> None:
    """Hold the current's sign against the direction of the voltage, step by step.

    Steps count by the charge they pass; a step whose voltage hardly moves says nothing. After
    a rest the voltage counts from the rest's end: a charge held at its limit falls otherwise.
    """
    agree = against = 0.0
    least_V = max(0.005, 0.01 * float(np.ptp(table.voltage_V)))
    counted = 0
    for step in steps:
        if step.kind not in ("charge", "discharge", "pulse") or step.last_row <= step.first_row:
            continue
        before = step.first_row - 1 if _is_rest_before(steps, step) else step.first_row
        moved_V = float(table.voltage_V[step.last_row] - table.voltage_V[before])
        passed_Ah = float(by_current_Ah[step.first_row : step.last_row + 1].sum())
        if abs(moved_V) < least_V or passed_Ah == 0:
            continue
        counted += 1
        if moved_V * passed_Ah > 0:
            agree += abs(passed_Ah)
        else:
            against += abs(passed_Ah)
    share = agree / (agree + against) if counted else None
    found.figures["sign"] = {
        "steps": counted,
        "agree_share": None if share is None else _short(share),
    }
    if share is not None and share < 0.5:
        found.complain(
            name,
            "the voltage falls while the current is positive: "
            f"in {counted} steps only {100 * share:.3g} % of the charge agrees",
            "charge current must be positive; the file's sign is the other way",
        )
    elif share is not None and share < 0.9:
        found.remarks.append(
            f"the voltage moves with the current in {100 * share:.3g} % of the charge only"
        )


def _is_rest_before(steps: list[StepRow], step: StepRow) -> bool:
    return step.step_index > 0 and steps[step.step_index - 1].kind == "rest"


def check_capacity(
    steps: list[StepRow], passed_Ah: Floats, name: str, cell: CellType | None, found: Findings
) -> None:
    """Refuse a step that passes more charge than a cell, or this cell, can hold."""
    sums = [
        (step, abs(float(passed_Ah[step.first_row : step.last_row + 1].sum()))) for step in steps
    ]
    if not sums:
        return
    step, most_Ah = max(sums, key=lambda pair: pair[1])
    found.figures["largest_step_Ah"] = _short(most_Ah)
    limit_Ah = 3.0 * cell.nominal_capacity_Ah if cell else LARGEST_Ah
    if most_Ah > limit_Ah:
        found.complain(
            name,
            f"step {step.step_index} passes {most_Ah:g} Ah",
            "mAh taken for Ah?"
            if not cell
            else f"{cell.name} holds {cell.nominal_capacity_Ah:g} Ah: mAh taken for Ah?",
        )
    full = [ah for step, ah in sums if step.measure == "capacity"]
    if cell and full and max(full) < 0.01 * cell.nominal_capacity_Ah:
        found.complain(
            name,
            f"a full discharge of {max(full):g} Ah, but {cell.name} holds "
            f"{cell.nominal_capacity_Ah:g} Ah",
            "Ah taken for mAh, or another cell?",
        )


def clean_temperatures(table: VendorTable, found: Findings) -> None:
    """Blank temperatures that no sensor gives, and drop a column that holds nothing else."""
    for name in [key for key in table.extra if key.endswith("_degC")]:
        values = np.asarray(table.extra[name], np.float64)
        inside = (values >= SENSOR_degC[0]) & (values <= SENSOR_degC[1])
        if not inside.any():
            del table.extra[name]
            found.remarks.append(f"{name}: no sensor was connected; left out")
        elif not inside.all():
            table.extra[name] = np.where(inside, values, np.nan)
            found.remarks.append(f"{name}: {int((~inside).sum())} impossible values left out")


def _short(value: float) -> float:
    """Return a figure with seven digits: what a check says, not a measurement."""
    return float(f"{float(value):.7g}")
