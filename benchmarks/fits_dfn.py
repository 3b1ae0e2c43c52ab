"""The kernel of the full model (Doyle, Fuller, Newman) against its bars, one line a bar.

Accuracy against PyBaMM's refined solution, derivatives, solve times against PyBaMM (IDAKLU,
compiled, voltage output only, on the cheapest mesh of a search that meets the accuracy bar), a
six-parameter fit. `benchmarks/fits.py` prints these lines too.

    python benchmarks/fits_dfn.py [--quick]
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from bars import Line
from numpy.typing import NDArray
from profiles import charged, constant, drive, pulses

from batterylab.fit.celltables import FULL_CELLS, cell_tables
from batterylab.fit.dfncell import DfnCell, dfn_voltage
from batterylab.fit.spmcell import history_of
from batterylab.pybamm_border import parameter_values, reference_voltage

Array = NDArray[np.float64]

#: the reference's points through each domain, and along each radius; see `refined`
THROUGH, RADIAL = (20, 40, 80), (40, 60)
Solver = Callable[..., Array]


@dataclass(frozen=True)
class Case:
    """A history, and the cell that it begins with."""

    cell: DfnCell
    name: str
    time_s: Array
    amps: Array
    start: Array
    values: Any


def case_of(cell: DfnCell, name: str, seconds: int = 3600) -> Case:
    """Return a case by name: a rate such as ``1C``, ``pulses`` or ``drive``."""
    x, y, capacity_Ah = charged(cell.tables, 0.8 if name == "drive" else 1.0)
    start = cell.start.copy()
    start[2:4] = x, y
    if name == "pulses":
        time_s, amps = pulses(capacity_Ah)
    elif name == "drive":
        time_s, amps = drive(capacity_Ah, seconds)
    else:
        rate = float(name.removesuffix("C"))
        time_s, amps = constant(-rate * capacity_Ah, 3600.0 / rate, 2000)
        volts = dfn_voltage(cell, history_of(time_s, amps), start).voltage_V
        ended = end_of(time_s, volts, cell.tables.numbers["voltage_min_V"])
        time_s, amps = constant(-rate * capacity_Ah, 1.0005 * ended, 1000)
    values = parameter_values(cell.tables.name)
    n = cell.tables.numbers
    values.update({
        "Initial concentration in negative electrode [mol.m-3]": x * n["largest_n_mol_m3"],
        "Initial concentration in positive electrode [mol.m-3]": y * n["largest_p_mol_m3"],
    })  # fmt: skip
    return Case(cell, name, time_s, amps, start, values)


def end_of(time_s: Array, voltage_V: Array, least_V: float) -> float:
    """Return when the voltage first falls to a limit; NaN if it does not."""
    below = np.flatnonzero(voltage_V <= least_V)
    lost = np.flatnonzero(~np.isfinite(voltage_V[1:])) + 1
    if not len(below):
        return float(time_s[lost[0] - 1]) if len(lost) else float("nan")
    i = int(below[0])
    share = (voltage_V[i - 1] - least_V) / (voltage_V[i - 1] - voltage_V[i])
    return float(time_s[i - 1] + share * (time_s[i] - time_s[i - 1]))


def refined(case: Case, solve: Solver) -> tuple[Array, Array]:
    """Return PyBaMM's voltage, refined and extrapolated, on two levels.

    Its error falls as the first power of the points through each domain and as the second of
    those along the radius (Chebyshev's nodes), as can be seen on these meshes.
    """

    def at(through: int, radial: int) -> Array:
        return solve(case.values, case.time_s, case.amps, model="dfn",
                     points=(through, radial), tolerance=1e-7)  # fmt: skip

    first, second, third = (at(points, RADIAL[0]) for points in THROUGH)
    along = at(THROUGH[0], RADIAL[1]) - first
    more = 1.0 / (1.0 - (RADIAL[0] / RADIAL[1]) ** 2)
    return 2.0 * second - first + along, 2.0 * third - second + more * along


def compared(case: Case, reference: Solver = reference_voltage) -> Line:
    """Compare a case with PyBaMM; the reference is refined once to judge itself."""
    tables = case.cell.tables
    title = f"dfn {tables.name} {case.name}"
    bar = 2.0 if any(case.cell.varying) else 1.0
    wanted = f"{bar:g} / 0.2 mV, 0.05 %"
    ours = dfn_voltage(case.cell, history_of(case.time_s, case.amps), case.start).voltage_V
    try:
        coarse, fine = refined(case, reference)
    except Exception as error:  # PyBaMM's solver has many ways to give up
        return Line(title, f"no reference: {str(error)[:40]}", wanted, None)
    least = tables.numbers["voltage_min_V"]
    ends = [end_of(case.time_s[1:], volts[1:], least) for volts in (ours, fine)]
    off = 100.0 * abs(ends[0] / ends[1] - 1.0) if np.isfinite(ends).all() else 0.0
    seen = np.isfinite(fine) & np.isfinite(coarse) & np.isfinite(ours)
    if np.isfinite(ends).all():
        seen &= case.time_s <= min(ends)
    gap, own = 1e3 * (ours - fine)[seen], 1e3 * np.abs(coarse - fine)[seen].max()
    largest, rms = float(np.abs(gap).max()), float(np.sqrt(np.mean(gap**2)))
    met = None if own > bar / 4 else largest <= bar and rms <= 0.2 and off <= 0.05
    figure = f"max {largest:.3f} rms {rms:.3f} mV, end {off:.3f} % (reference {own:.3f})"
    return Line(title, figure, wanted, met)


def accuracy(is_quick: bool) -> Iterator[Line]:
    """Compare with PyBaMM, set by set."""
    for name in ("Chen2020",) if is_quick else FULL_CELLS:
        cell = DfnCell(cell_tables(name))
        for history in ("1C",) if is_quick else ("0.1C", "1C", "2C", "pulses", "drive"):
            yield compared(case_of(cell, history))
