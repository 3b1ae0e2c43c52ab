"""The single-particle kernel against its bars: one line a bar, a summary last.

Accuracy against PyBaMM's converged solution, derivatives, solve and fit times against PyBaMM
(IDAKLU, compiled, voltage output only, cheapest mesh of a search that meets the accuracy bar)
and scipy's least_squares fed with PyBaMM's sensitivities in the same run, cells per second.
Exit code 1 if a bar is missed.

    python benchmarks/fits.py [--quick] [--json FILE]
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from bars import Line, median_of
from numpy.typing import NDArray
from spm_peers import Peer, fit_by_scipy

from batterylab.errors import BatterylabError
from batterylab.fit.celltables import FULL_CELLS, cell_tables
from batterylab.fit.spm import SpmeSettings, solve_spm
from batterylab.fit.spmbatch import solve_many
from batterylab.fit.spmcell import NAMES, SpmCell, history_of, indices_of, spm_voltage
from batterylab.fit.spmwindow import SpmWindow
from batterylab.fit.statistics import judge
from batterylab.pybamm_border import parameter_values, reference_voltage

Array = NDArray[np.float64]

#: the six parameters of the timed fits; the start of the positive electrode is held
SIX = ("negative_capacity_Ah", "positive_capacity_Ah", "x_start", "log_negative_time",
       "log_positive_time", "contact_ohm")  # fmt: skip
#: meshes of the peer, from cheap to fine
MESHES = ((10, 20), (10, 30), (20, 20), (20, 30), (20, 40), (40, 40), (40, 60))


def constant(amps: float, seconds: float, rows: int) -> tuple[Array, Array]:
    """Return times and currents of a constant current."""
    time_s = np.append(0.0, np.linspace(seconds / rows, seconds, rows))
    return time_s, np.append(0.0, np.full(rows, amps))


def pulses(capacity_Ah: float) -> tuple[Array, Array]:
    """Return an hour of pulses, discharges and rests."""
    time_s, amps = [0.0], [0.0]
    for _ in range(3):
        for seconds, step_s, rate in ((10, 1, -1.0), (120, 5, 0.0), (10, 1, 0.75), (60, 5, 0.0),
                                      (600, 20, -0.5), (400, 10, 0.0)):  # fmt: skip
            for _ in range(seconds // step_s):
                time_s.append(time_s[-1] + step_s)
                amps.append(rate * capacity_Ah)
    return np.array(time_s), np.array(amps)


def drive(capacity_Ah: float, seconds: int) -> tuple[Array, Array]:
    """Return a seeded profile at 1 Hz: peak 3C, mean discharge 0.8C while it discharges."""
    random, rate, rows = np.random.default_rng(7), 0.0, []
    for _ in range(seconds):
        rate += 0.15 * (0.8 - rate) + 0.45 * random.standard_normal()
        rate = min(max(rate, -1.0), 3.0)
        rows.append(-rate * capacity_Ah * 0.5)
    return np.arange(seconds + 1.0), np.append(0.0, rows)


def cases(name: str, is_quick: bool) -> Iterator[tuple[str, tuple[Array, Array]]]:
    """Yield the histories of a set; discharges to 0.8 of the nominal capacity."""
    nominal_Ah = cell_tables(name).numbers["capacity_Ah"]
    for rate in (1.0, 2.0) if is_quick else (0.1, 1.0, 2.0):
        sign = 1.0 if name == "Mohtat2020" else -1.0
        yield f"{rate:g}C", constant(sign * rate * nominal_Ah, 2880 / rate, 1000)
    yield "pulses", pulses(nominal_Ah)


def accuracy(is_quick: bool) -> Iterator[Line]:
    """Compare with PyBaMM, set by set; the reference is refined once more to judge itself."""
    sets = ("Chen2020", "Marquis2019", "Ecker2015") if is_quick else FULL_CELLS
    for name in sets:
        for model in ("spme",) if is_quick else ("spm", "spme"):
            try:
                cell = SpmCell(cell_tables(name), model)
            except BatterylabError as error:
                yield Line(f"{name} {model}", error.message[:60], "-", None)
                continue
            for case, history in cases(name, is_quick):
                if name == "Mohtat2020" and case == "pulses":
                    continue  # begins empty
                yield _compared(cell, f"{name} {model} {case} 25 degC", history)
    for degrees in (10.0, 40.0):
        for thermal in ("isothermal", "lumped"):
            tables = cell_tables("Chen2020", degrees + 273.15)
            cell = SpmCell(tables, "spme", "lumped" if thermal == "lumped" else "given")
            title = f"Chen2020 spme 1C {degrees:g} degC {thermal}"
            yield _compared(cell, title, constant(-5.0, 2880, 500), degrees, thermal)


def _compared(
    cell: SpmCell, title: str, history: tuple[Array, Array], degrees: float = 25.0,
    thermal: str = "isothermal",
) -> Line:  # fmt: skip
    time_s, amps = history
    coarse, fine = (
        reference_voltage(cell.tables.name, time_s, amps, model=cell.model, thermal=thermal,
                          temperature_degC=degrees, points=points)
        for points in ((30, 50), (60, 100))
    )  # fmt: skip
    ours = spm_voltage(cell, history_of(time_s, amps, temperature_degC=degrees)).voltage_V
    seen = np.isfinite(fine) & np.isfinite(coarse) & (fine > cell.tables.numbers["voltage_min_V"])
    gap, own = 1e3 * (ours - fine)[seen], 1e3 * np.abs(coarse - fine)[seen].max()
    largest, rms = float(np.abs(gap).max()), float(np.sqrt(np.mean(gap**2)))
    bar = 2.0 if any(cell.varying) else 1.0
    met = None if own > bar / 4 else largest <= bar and rms <= 0.2
    return Line(title, f"max {largest:.3f} rms {rms:.3f} mV (reference {own:.3f})",
                f"{bar:g} / 0.2 mV", met)  # fmt: skip


def derivatives() -> Iterator[Line]:
    """Compare derivatives with central differences, the step searched."""
    for name, thermal in (("Chen2020", "given"), ("Ecker2015", "given"), ("OKane2022", "lumped")):
        cell = SpmCell(cell_tables(name), "spme", thermal)
        time_s, amps = pulses(cell.tables.numbers["capacity_Ah"])
        history = history_of(time_s, amps)
        names = NAMES if thermal == "lumped" else NAMES[:11]
        jacobian = spm_voltage(cell, history, derivatives=names).jacobian
        worst = max(
            _slope_error(cell, history, int(index), column)
            for index, column in zip(indices_of(names), jacobian.T, strict=True)
        )
        yield Line(f"derivatives {name} {thermal}", f"{worst:.1e} of the largest", "1e-4",
                   worst <= 1e-4)  # fmt: skip


def _slope_error(cell: SpmCell, history: Any, index: int, column: Array) -> float:
    gaps = []
    for step in (1e-3, 1e-4, 1e-5, 1e-6):
        volts, width = [], step * max(abs(float(cell.start[index])), 0.1)
        for sign in (1, -1):
            moved = cell.start.copy()
            moved[index] += sign * width
            volts.append(spm_voltage(cell, history, moved).voltage_V)
        gaps.append(float(np.abs((volts[0] - volts[1]) / (2 * width) - column).max()))
    return min(gaps) / float(np.abs(column).max())


def speed(is_quick: bool) -> Iterator[Line]:
    """Time solves against PyBaMM on the cheapest mesh that meets the accuracy bar."""
    repeats = 15 if is_quick else 50
    histories = {"1C": constant(-5.0, 2880, 1000), "pulse hour": pulses(5.0)}
    histories["drive"] = drive(5.0, 300 if is_quick else 3600)
    bars = {"1C": 10.0, "pulse hour": 10.0, "drive": 50.0}
    for model in ("spm", "spme"):
        cell = SpmCell(cell_tables("Chen2020"), model)
        for case, (time_s, amps) in histories.items():
            history = history_of(time_s, amps)
            reference = spm_voltage(cell, history).voltage_V
            peer, mesh = _cheapest(model, time_s, amps, reference)
            theirs = median_of(peer.solve, max(repeats // 5, 3))
            ours = median_of(lambda c=cell, h=history: spm_voltage(c, h), repeats)
            six = median_of(lambda c=cell, h=history: spm_voltage(c, h, derivatives=SIX), repeats)
            yield Line(f"solve {model} {case}",
                       f"{theirs / ours:.1f} x ({1e3 * theirs:.2f} / {1e3 * ours:.2f} ms, {mesh})",
                       f"{bars[case]:g} x", theirs / ours >= bars[case])  # fmt: skip
            yield Line(f"six derivatives {model} {case}", f"{six / ours:.2f} x our plain solve",
                       "3 x", six <= 3 * ours)  # fmt: skip


def _cheapest(model: str, time_s: Array, amps: Array, reference: Array) -> tuple[Peer, str]:
    """Return PyBaMM on the first mesh within 1 mV and 0.2 mV rms, or on the finest."""
    for mesh in MESHES:
        peer = Peer(model, time_s, amps, mesh)
        gap = 1e3 * (peer.solve() - reference)[1:]
        if np.abs(gap).max() <= 1.0 and np.sqrt(np.mean(gap**2)) <= 0.2:
            return peer, f"mesh {mesh[0]}, {mesh[1]}"
    return peer, f"mesh {mesh[0]}, {mesh[1]}, not met"


def window_of(cell: SpmCell, time_s: Array, amps: Array, whole: Array, noise_V: float,
              seed: int) -> SpmWindow:  # fmt: skip
    """Return a window with the kernel's own voltage and white noise."""
    clean = spm_voltage(cell, history_of(time_s, amps), whole).voltage_V
    volts = clean + noise_V * np.random.default_rng(seed).standard_normal(len(clean))
    history = history_of(time_s, amps, voltage_V=volts)
    moved = -float(history.data[2].min())
    return SpmWindow(history, 0, float(clean[0]), 25.0, moved, 5.0, ())


def fits(is_quick: bool) -> Iterator[Line]:
    """Time a six-parameter fit against scipy, and count how often intervals hold."""
    cell = SpmCell(cell_tables("Chen2020"), "spme")
    whole = cell.start.copy()
    whole[indices_of(SIX)] *= np.array([0.98, 1.02, 1.0, 0.98, 1.01, 1.0])
    whole[NAMES.index("contact_ohm")] = 0.01
    time_s, amps = constant(-5.0, 3200, 1000)
    window = window_of(cell, time_s, amps, whole, 1e-3, 1)
    start = cell.start.copy()
    start[3] = whole[3]
    ours = median_of(lambda: solve_spm(cell, window, SIX, start=start), 5)
    solution, _ = solve_spm(cell, window, SIX, start=start)
    cost = float(solution.residual_V @ solution.residual_V)
    theirs, their_cost = fit_by_scipy(time_s, window.history.data[4], whole[3], 100)
    yield Line("six-parameter spme fit to 1C over scipy",
               f"{theirs / ours:.0f} x ({theirs:.2f} s / {1e3 * ours:.1f} ms)", "50 x",
               theirs / ours >= 50)  # fmt: skip
    yield Line("the same optimum as scipy", f"sum of squares {cost / their_cost:.4f} of theirs",
               "1.001", cost <= 1.001 * their_cost)  # fmt: skip
    yield _coverage(cell, whole, 100 if is_quick else 1000)


def _coverage(cell: SpmCell, whole: Array, repeats: int) -> Line:
    time_s, amps = pulses(5.0)
    names = ("negative_capacity_Ah", "x_start", "log_negative_time", "log_positive_time",
             "contact_ohm")  # fmt: skip
    true, held = whole[indices_of(names)], []
    from scipy.stats import t

    for seed in range(repeats):
        window = window_of(cell, time_s, amps, whole, 1e-3, seed)
        solution, _ = solve_spm(cell, window, names, start=whole)
        made = judge(solution.residual_V, solution.jacobian, ~solution.at_bound)
        reach = t.ppf(0.975, made.degrees_of_freedom) * made.standard_errors
        held.append(np.abs(solution.parameters - true) <= reach)
    share = 100 * float(np.mean(held))
    slack = 0.0 if repeats >= 1000 else 2.0
    low, high = 93 - slack, 97 + slack
    return Line(f"95 % intervals hold, {repeats} draws, white noise", f"{share:.1f} %",
                f"{low:g} to {high:g} %", low <= share <= high)  # fmt: skip


def batch(is_quick: bool) -> Iterator[Line]:
    """Time many fits, on one thread and on two."""
    cell = SpmCell(cell_tables("Chen2020"), "spme")
    settings, random = SpmeSettings(), np.random.default_rng(3)
    time_s, amps = pulses(5.0)
    windows = []
    for seed in range(60 if is_quick else 2000):
        whole = cell.start.copy()
        whole[:2] *= 1 + 0.02 * random.standard_normal(2)
        whole[NAMES.index("contact_ohm")] = 0.01
        windows.append(window_of(cell, time_s, amps, whole, 5e-4, seed))
    seconds = {}
    for threads in (1, 2):
        begun = time.perf_counter()
        found = solve_many([cell] * len(windows), windows, settings, threads)
        seconds[threads] = (time.perf_counter() - begun) / len(windows)
    failed = sum(isinstance(one, BatterylabError) or not one[0].converged for one in found)
    cores = os.cpu_count() or 1
    yield Line(f"{len(windows)} cells, spme, two threads", f"{1e3 * seconds[2]:.1f} ms a cell, "
               f"{failed} not converged", "30 ms", seconds[2] <= 0.03 and failed == 0)  # fmt: skip
    gain = seconds[1] / seconds[2]
    yield Line("two threads over one", f"{gain:.2f} x on {cores} cores", "1.6 x",
               gain >= 1.6 if cores > 1 else None)  # fmt: skip


def main(arguments: list[str]) -> int:
    """Print one line a bar and return the exit code."""
    is_quick, lines = "--quick" in arguments, []
    parameter_values("Chen2020")  # imports PyBaMM before any clock runs
    for part in (accuracy(is_quick), derivatives(), speed(is_quick), fits(is_quick),
                 batch(is_quick)):  # fmt: skip
        for line in part:
            print(line, flush=True)
            lines.append(line)
    missed = sum(line.met is False for line in lines)
    met = sum(line.met is True for line in lines)
    print(f"{met} met, {missed} missed, {len(lines) - met - missed} reported")
    if "--json" in arguments:
        path = Path(arguments[arguments.index("--json") + 1])
        path.write_text(json.dumps([asdict(line) for line in lines], indent=1) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
