"""The kernel of the full model (Doyle, Fuller, Newman) against its bars, one line a bar.

Accuracy against PyBaMM's refined solution, derivatives, solve times against PyBaMM (IDAKLU,
compiled, voltage output only, on the cheapest mesh of a search that meets the accuracy bar), a
six-parameter fit. `benchmarks/fits.py` prints these lines too.

    python benchmarks/fits_dfn.py [--quick] [--only derivatives,fits,speed,accuracy]
                                  [--sets Chen2020,...] [--histories 0.1C,1C,2C,pulses,drive]
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bars import Line, median_of, paired
from dfn_peer import DfnPeer
from numpy.typing import NDArray
from profiles import charged, constant, drive, pulses

from batterylab.fit.celltables import FULL_CELLS, cell_tables
from batterylab.fit.dfn import solve_dfn
from batterylab.fit.dfncell import NAMES, DfnCell, dfn_voltage, indices_of
from batterylab.fit.spmcell import history_of
from batterylab.fit.spmwindow import SpmWindow
from batterylab.pybamm_border import parameter_values

Array = NDArray[np.float64]

#: the reference's points through each domain, and along each radius, coarse to fine; see `refined`
MESHES_OF_REFERENCE = (
    ((20, 40, 80), (40, 60)), ((40, 80, 160), (60, 90)), ((40, 80, 160), (120, 180)),
)  # fmt: skip
MESHES_OF_DRIVE = (((10, 20, 40), (20, 30)),)
#: where diffusivities jump far inside a particle: even radial points
EVEN = ("ORegan2022",)
EVEN_MESHES = (((10, 20, 40), (80, 120)),)
TOLERANCE = 1e-7
HISTORIES = ("0.1C", "1C", "2C", "pulses", "drive")
#: meshes of the peer, from cheap to fine; quick: where the searches ended
MESHES = ((20, 20), (20, 30), (30, 30), (40, 30), (40, 40), (60, 40), (80, 40))
QUICK_MESHES = {"1C": (40, 30), "pulses": (40, 30), "drive": (20, 20)}
#: the six parameters of the timed fits
SIX = ("negative_capacity_Ah", "positive_capacity_Ah", "x_start", "log_negative_time",
       "log_positive_time", "contact_ohm")  # fmt: skip


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


def refined(
    case: Case, depths: tuple[int, int, int], radii: tuple[int, int]
) -> tuple[Array, Array]:
    """Return PyBaMM's voltage, refined and extrapolated, on two levels.

    Its error falls as the first power of the points through each domain and as the second of
    those along the radius, as can be seen on these meshes.
    """

    def at(*points: int) -> Array:
        through, radial = points
        volts = DfnPeer(case.values, case.time_s, case.amps, (through, radial), TOLERANCE,
                        is_compiled=False,
                        is_stretched=case.cell.tables.name not in EVEN).solve()  # fmt: skip
        volts[0] = np.nan  # there the current flows already; ours is at rest
        return volts

    first, second, third = (at(through, radii[0]) for through in depths)
    along = at(depths[0], radii[1]) - first
    more = 1.0 / (1.0 - (radii[0] / radii[1]) ** 2)
    return 2.0 * second - first + along, 2.0 * third - second + more * along


def compared(case: Case) -> Line:
    """Compare a case with PyBaMM; the reference is refined until it moves a quarter of the bar."""
    tables = case.cell.tables
    title = f"dfn {tables.name} {case.name}"
    bar = 2.0 if any(case.cell.varying) else 1.0
    wanted = f"{bar:g} / 0.2 mV, 0.05 %"
    ours = dfn_voltage(case.cell, history_of(case.time_s, case.amps), case.start).voltage_V
    meshes = EVEN_MESHES if tables.name in EVEN else MESHES_OF_REFERENCE
    for depths, radii in MESHES_OF_DRIVE if case.name == "drive" else meshes:
        try:
            coarse, fine = refined(case, depths, radii)
        except Exception as error:  # PyBaMM's solver has many ways to give up
            return Line(title, f"no reference: {str(error)[:40]}", wanted, None)
        least = tables.numbers["voltage_min_V"]
        ends = [end_of(case.time_s[1:], volts[1:], least) for volts in (ours, fine)]
        off = 100.0 * abs(ends[0] / ends[1] - 1.0) if np.isfinite(ends).all() else 0.0
        seen = np.isfinite(fine) & np.isfinite(coarse) & np.isfinite(ours)
        if np.isfinite(ends).all():
            seen &= case.time_s <= min(ends)
        gap, own = 1e3 * (ours - fine)[seen], 1e3 * np.abs(coarse - fine)[seen].max()
        if own <= bar / 4:
            break
    largest, rms = float(np.abs(gap).max()), float(np.sqrt(np.mean(gap**2)))
    met = None if own > bar / 4 else largest <= bar and rms <= 0.2 and off <= 0.05
    figure = f"max {largest:.3f} rms {rms:.3f} mV, end {off:.3f} % (reference {own:.3f})"
    return Line(title, figure, wanted, met)


def accuracy(
    is_quick: bool, sets: Sequence[str] = FULL_CELLS, histories: Sequence[str] = HISTORIES
) -> Iterator[Line]:
    """Compare with PyBaMM, set by set."""
    for name in ("Chen2020",) if is_quick else sets:
        cell = DfnCell(cell_tables(name))
        for history in ("1C",) if is_quick else histories:
            yield compared(case_of(cell, history))


def derivatives(is_quick: bool) -> Iterator[Line]:
    """Compare derivatives with central differences over the same steps, the width searched."""
    cases = [(name, "1C") for name in ("Chen2020", "Ecker2015", "OKane2022", "ORegan2022")]
    for name, usual in cases[:1] if is_quick else [*cases, ("Chen2020", "drive")]:
        cell = DfnCell(cell_tables(name))
        case = case_of(cell, usual)
        rows = 900 if usual == "1C" else len(case.time_s)
        history = history_of(case.time_s[:rows], case.amps[:rows])
        found = dfn_voltage(cell, history, case.start, derivatives=NAMES[:13])  # not by shifts
        worst = max(
            slope_error(case, history, found.steps, index, column)
            for index, column in enumerate(found.jacobian.T)
        )
        yield Line(f"dfn derivatives {name} {usual}", f"{worst:.1e} of the largest", "1e-4",
                   worst <= 1e-4)  # fmt: skip


def slope_error(case: Case, history: Any, steps: Any, index: int, column: Array) -> float:
    """Return how far a column lies from the best central difference, over its largest."""
    gaps = []
    for width in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        volts, change = [], width * max(abs(float(case.start[index])), 0.1)
        for sign in (1, -1):
            moved = case.start.copy()
            moved[index] += sign * change
            volts.append(dfn_voltage(case.cell, history, moved, steps=steps).voltage_V)
        gaps.append(float(np.abs((volts[0] - volts[1]) / (2 * change) - column).max()))
    return min(gaps) / float(np.abs(column).max())


def speed(is_quick: bool) -> Iterator[Line]:
    """Time solves against PyBaMM on the cheapest mesh that meets the accuracy bar."""
    tables = cell_tables("Chen2020")
    usual, fine = DfnCell(tables), DfnCell(tables, points=(52, 8, 52), steps=(0.02, 4e-6))
    for name, bar in (("1C", 4.0), ("pulses", 10.0), ("drive", 50.0)):
        case = case_of(usual, name, 60 if is_quick else 3600)
        history = history_of(case.time_s, case.amps)
        peer, mesh = cheapest(case, dfn_voltage(fine, history, case.start).voltage_V, is_quick)

        def ours(h: Any = history, start: Array = case.start) -> Any:
            return dfn_voltage(usual, h, start)

        repeats = 3 if name == "drive" or is_quick else 9
        ratio, mine, theirs = paired(ours, peer.solve, repeats, 5)
        yield Line(f"dfn solve {name}",
                   f"{ratio:.1f} x ({1e3 * theirs:.1f} / {1e3 * mine:.2f} ms, {mesh})",
                   f"{bar:g} x", ratio >= bar)  # fmt: skip

        def sensitive(h: Any = history, start: Array = case.start) -> Any:
            return dfn_voltage(usual, h, start, derivatives=SIX)

        plain, six = median_of(ours, 7), median_of(sensitive, 7)
        yield Line(f"dfn six derivatives {name}", f"{six / plain:.2f} x our plain solve", "3 x",
                   six <= 3 * plain)  # fmt: skip


def cheapest(case: Case, reference: Array, is_quick: bool) -> tuple[DfnPeer, str]:
    """Return PyBaMM on the first mesh within 1 mV and 0.2 mV rms, or on the finest."""
    for mesh in (QUICK_MESHES[case.name],) if is_quick else MESHES:
        peer = DfnPeer(case.values, case.time_s, case.amps, mesh)
        gap = 1e3 * (peer.solve() - reference)[1:]
        gap = gap[np.isfinite(gap)][: round(0.995 * len(gap))]  # less the last fall
        found = f"max {np.abs(gap).max():.2f} rms {np.sqrt(np.mean(gap**2)):.2f} mV"
        if np.abs(gap).max() <= 1.0 and np.sqrt(np.mean(gap**2)) <= 0.2:
            break
    return peer, f"mesh {mesh[0]}, {mesh[1]}, {found}"


def fits(is_quick: bool = False) -> Iterator[Line]:
    """Time a six-parameter fit to a 1C discharge with 1 mV of white noise."""
    cell = DfnCell(cell_tables("Chen2020"))
    case = case_of(cell, "1C")
    true = case.start.copy()
    true[indices_of(SIX)] *= np.array([0.98, 1.02, 0.99, 0.98, 1.01, 1.0])
    true[NAMES.index("contact_ohm")] = 0.01
    time_s, amps = case.time_s[:930], case.amps[:930]
    clean = dfn_voltage(cell, history_of(time_s, amps), true).voltage_V
    volts = clean + 1e-3 * np.random.default_rng(1).standard_normal(len(clean))
    history = history_of(time_s, amps, voltage_V=volts)
    window = SpmWindow(history, 0, float(clean[0]), 25.0, 5.0, ())
    seconds = median_of(lambda: solve_dfn(cell, window, SIX, start=case.start), 5)
    solution, _ = solve_dfn(cell, window, SIX, start=case.start)
    rms = 1e3 * float(np.sqrt(np.mean(solution.residual_V**2)))
    yield Line("dfn six-parameter fit to 1C, 930 rows",
               f"{1e3 * seconds:.0f} ms, {solution.steps} steps, residual {rms:.3f} mV", "1 s",
               seconds < 1.0 and solution.converged and rms < 1.05)  # fmt: skip


#: parts of the benchmark, by name
PARTS = {"derivatives": derivatives, "fits": fits, "speed": speed, "accuracy": accuracy}


def dfn_lines(quick: bool) -> Iterator[Line]:
    """Yield all lines of the full model."""
    for part in PARTS.values():
        yield from part(quick)


def main(arguments: list[str]) -> int:
    """Print one line a bar and a summary; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    for name, known in (("only", PARTS), ("sets", FULL_CELLS), ("histories", HISTORIES)):
        parser.add_argument(f"--{name}", default=",".join(known))
    given = parser.parse_args(arguments)
    lines = []
    for part in given.only.split(","):
        found = (accuracy(given.quick, given.sets.split(","), given.histories.split(","))
                 if part == "accuracy" else PARTS[part](given.quick))  # fmt: skip
        for line in found:
            print(line, flush=True)
            lines.append(line)
    counts = [sum(line.met is met for line in lines) for met in (True, False, None)]
    print(f"{counts[0]} met, {counts[1]} missed, {counts[2]} reported")
    return 1 if counts[1] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
