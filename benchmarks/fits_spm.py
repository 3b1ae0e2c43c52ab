"""The single-particle kernels against their bars: accuracy, derivatives, speed, recovery.

Accuracy is against PyBaMM's solution on meshes refined until two in a row differ by at most a
quarter of the bar; where that is not had, the row is reported and not judged. Speed is processor
time in one run, turn by turn, against PyBaMM with IDAKLU, compiled, voltage output only, on the
cheapest mesh of a search that comes within 1 mV and 0.2 mV rms of the converged voltage.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bars import Line, median_of, option, paired
from numpy.typing import NDArray
from profiles import drive, pulses
from spm_peers import SIX as PEER_SIX
from spm_peers import Peer, fit_by_scipy, full_cell

from batterylab.fit.celltables import FULL_CELLS, cell_tables
from batterylab.fit.spm import solve_spm
from batterylab.fit.spmcell import NAMES, History, SpmCell, history_of, indices_of, spm_voltage
from batterylab.fit.spmwindow import SpmWindow
from batterylab.pybamm_border import reference_voltage

Array = NDArray[np.float64]

#: the six parameters of the timed fits; the start of the positive electrode is held
SIX = ("negative_capacity_Ah", "positive_capacity_Ah", "x_start", "log_negative_time",
       "log_positive_time", "contact_ohm")  # fmt: skip
#: meshes of the peer, from cheap to fine, and of the reference
MESHES = ((10, 20), (10, 30), (20, 20), (20, 30), (20, 40), (40, 40), (40, 60))
FINER = ((20, 40), (40, 80), (60, 120), (80, 160))
ROWS = 1000


@dataclass(frozen=True)
class Case:
    """A cell with its beginning and a history, as both sides take it."""

    name: str
    model: str
    title: str
    values: Any
    cell: SpmCell
    start: Array
    time_s: Array
    amps: Array
    linear: bool = False

    @property
    def history(self) -> History:
        """The rows for the kernel."""
        return history_of(self.time_s, self.amps, linear=self.linear)

    def ours(self) -> Array:
        """Return the kernel's voltage."""
        return spm_voltage(self.cell, self.history, self.start).voltage_V

    def theirs(self, points: tuple[int, int]) -> Array:
        """Return PyBaMM's voltage at tight tolerances; NaN in the first row."""
        if self.linear:
            found = Peer(self.model, self.time_s, self.amps, points, values=self.values,
                         linear=True, tolerance=1e-8).solve()  # fmt: skip
            found[0] = np.nan
            return found
        return reference_voltage(self.values, self.time_s, self.amps, model=self.model,
                                 points=points)  # fmt: skip


def discharge(cell: SpmCell, start: Array, amps: float, capacity_Ah: float) -> tuple[Array, Array]:
    """Return 1,000 rows of a discharge, to where the kernel meets the lower limit."""
    longest_s = 3600.0 * capacity_Ah / amps
    time_s = np.append(0.0, np.linspace(longest_s / 4000, longest_s, 4000))
    flows = np.append(0.0, np.full(4000, -amps))
    volts = spm_voltage(cell, history_of(time_s, flows), start).voltage_V
    below = np.flatnonzero(volts[1:] < cell.tables.numbers["voltage_min_V"])
    end_s = float(time_s[1 + below[0]]) if len(below) else longest_s
    return np.append(0.0, np.linspace(end_s / ROWS, end_s, ROWS)), flows[: ROWS + 1]


def cases(name: str, model: str, is_quick: bool) -> Iterator[Case]:
    """Yield the histories of a set: discharges from full, pulses and a drive from 80 %."""
    cell = SpmCell(cell_tables(name), model)
    rates = (1.0,) if is_quick else (0.1, 1.0, 2.0)
    values, start, capacity_Ah = full_cell(cell, 1.0)
    for rate in rates:
        history = discharge(cell, start, rate * capacity_Ah, capacity_Ah)
        yield Case(name, model, f"{rate:g}C", values, cell, start, *history)
    values, start, capacity_Ah = full_cell(cell, 0.8)
    yield Case(name, model, "pulses", values, cell, start, *pulses(capacity_Ah))
    if not is_quick:
        yield Case(name, model, "drive", values, cell, start, *drive(capacity_Ah, 3600), True)


def accuracy(is_quick: bool) -> Iterator[Line]:
    """Compare with PyBaMM, set by set."""
    quick = (("Chen2020", "spme"), ("Ecker2015", "spm"))
    sets = option("sets", ",".join(FULL_CELLS)).split(",")
    both = tuple((name, model) for name in sets for model in ("spm", "spme"))
    for name, model in quick if is_quick else both:
        for case in cases(name, model, is_quick):
            yield compared(case, FINER[:2] if is_quick else FINER)


def compared(case: Case, meshes: tuple[tuple[int, int], ...] = FINER) -> Line:
    """Return the line of a case."""
    bar = 2.0 if any(case.cell.varying) else 1.0
    title = f"{case.name} {case.model} {case.title}"
    ours, before, own = case.ours(), None, np.inf
    least_V = case.cell.tables.numbers["voltage_min_V"]
    for points in meshes:
        try:
            theirs = case.theirs(points)
        except Exception as error:
            return Line(title, f"PyBaMM: {str(error)[:40]}", f"{bar:g} / 0.2 mV", None)
        seen = np.isfinite(theirs) & (theirs > least_V)
        if before is not None:
            own = float(1e3 * np.abs(theirs - before)[seen & np.isfinite(before)].max())
        before = theirs
        if own <= bar / 4:
            break
    gap = 1e3 * (ours - theirs)[seen]
    largest, rms = float(np.abs(gap).max()), float(np.sqrt(np.mean(gap**2)))
    figure = f"max {largest:.3f} rms {rms:.3f} mV (reference {own:.3f})"
    met = largest <= bar and rms <= 0.2
    if case.title.endswith("C"):
        last = np.flatnonzero(seen)[-1]
        fall = (theirs[last] - theirs[last - 2]) / (case.time_s[last] - case.time_s[last - 2])
        late = 100 * abs(1e-3 * gap[-1] / fall) / case.time_s[last]
        figure += f", end {late:.4f} %"
        met = met and late <= 0.05
    return Line(title, figure, f"{bar:g} / 0.2 mV", met if own <= bar / 4 else None)


def derivatives(is_quick: bool) -> Iterator[Line]:
    """Compare derivatives with central differences, the step searched."""
    chosen = (("Chen2020", "given"), ("ORegan2022", "given"), ("OKane2022", "lumped"))
    for name, thermal in chosen[:2] if is_quick else (*chosen, ("Ecker2015", "given")):
        cell = SpmCell(cell_tables(name), "spme", thermal)
        history = history_of(*pulses(cell.tables.numbers["capacity_Ah"]))
        names = NAMES[:13] if thermal == "lumped" else NAMES[:11]
        jacobian = spm_voltage(cell, history, derivatives=names).jacobian
        worst = max(
            slope_error(cell, history, int(index), column)
            for index, column in zip(indices_of(names), jacobian.T, strict=True)
        )
        yield Line(f"derivatives {name} {thermal}", f"{worst:.1e} of the largest", "1e-4",
                   worst <= 1e-4)  # fmt: skip


def slope_error(cell: SpmCell, history: History, index: int, column: Array) -> float:
    """Return the largest error of a column, relative to its largest value."""
    gaps = []
    for step in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        volts, width = [], step * max(abs(float(cell.start[index])), 0.1)
        for sign in (1, -1):
            moved = cell.start.copy()
            moved[index] += sign * width
            volts.append(spm_voltage(cell, history, moved).voltage_V)
        gaps.append(float(np.abs((volts[0] - volts[1]) / (2 * width) - column).max()))
    return min(gaps) / float(np.abs(column).max())


def speed(is_quick: bool) -> Iterator[Line]:
    """Time solves against PyBaMM on the cheapest mesh that meets the accuracy bar."""
    bars = {"1C": 10.0, "pulses": 10.0, "drive": 50.0}
    for model in ("spm", "spme"):
        cell = SpmCell(cell_tables("Chen2020"), model)
        values, start, capacity_Ah = full_cell(cell, 1.0)
        one = discharge(cell, start, capacity_Ah, capacity_Ah)
        less, lower, _ = full_cell(cell, 0.8)
        seconds = 900 if is_quick else 3600
        for case in (
            Case("Chen2020", model, "1C", values, cell, start, *one),
            Case("Chen2020", model, "pulses", less, cell, lower, *pulses(capacity_Ah)),
            Case("Chen2020", model, "drive", less, cell, lower, *drive(capacity_Ah, seconds), True),
        ):
            yield from _timed(case, bars[case.title], 7 if is_quick else 25)


def _timed(case: Case, bar: float, repeats: int) -> Iterator[Line]:
    history, voltage = case.history, case.ours()
    peer, mesh = cheapest(case, voltage)

    def plain() -> object:
        return spm_voltage(case.cell, history, case.start)

    def sloped() -> object:
        return spm_voltage(case.cell, history, case.start, derivatives=SIX)

    ratio, ours, theirs = paired(plain, peer.solve, repeats, inner=5)
    yield Line(f"solve {case.model} {case.title} {case.time_s[-1]:.0f} s",
               f"{ratio:.1f} x ({1e3 * theirs:.2f} / {1e3 * ours:.3f} ms, {mesh})",
               f"{bar:g} x", ratio >= bar)  # fmt: skip
    slower, _, _ = paired(plain, sloped, 4 * repeats)
    yield Line(f"six derivatives {case.model} {case.title}", f"{slower:.2f} x our plain solve",
               "3 x", slower <= 3.0)  # fmt: skip


def cheapest(case: Case, voltage: Array) -> tuple[Peer, str]:
    """Return PyBaMM on the first mesh within 1 mV and 0.2 mV rms, or on the finest."""
    for mesh in MESHES:
        peer = Peer(case.model, case.time_s, case.amps, mesh, values=case.values,
                    linear=case.linear)  # fmt: skip
        gap = 1e3 * (peer.solve() - voltage)[1:]
        if np.abs(gap).max() <= 1.0 and np.sqrt(np.mean(gap**2)) <= 0.2:
            return peer, f"mesh {mesh[0]}, {mesh[1]}"
    return peer, f"mesh {mesh[0]}, {mesh[1]}, not met"


def window_of(cell: SpmCell, time_s: Array, amps: Array, whole: Array, noise_V: Array
              ) -> SpmWindow:  # fmt: skip
    """Return a window with the kernel's own voltage and noise; row 0 is not fitted."""
    clean = spm_voltage(cell, history_of(time_s, amps), whole).voltage_V
    seen = np.arange(len(time_s)) > 0
    history = history_of(time_s, amps, voltage_V=clean + noise_V, observed=seen)
    return SpmWindow(history, 0, float(clean[0]), 25.0, 5.0, ())


def fits(is_quick: bool) -> Iterator[Line]:
    """Time a six-parameter fit to a 1C discharge against scipy and PyBOP."""
    cell = SpmCell(cell_tables("Chen2020"), "spme")
    whole, start = cell.start.copy(), cell.start.copy()
    whole[indices_of(SIX)] *= np.array([0.98, 1.02, 0.98, 0.98, 1.01, 1.0])
    whole[NAMES.index("contact_ohm")], start[NAMES.index("contact_ohm")] = 0.01, 0.005
    start[3] = whole[3]
    time_s = np.linspace(0.0, 3200.0, ROWS)  # the first row is already under load
    shifted_s = np.append(-1e-6, time_s)
    amps = np.append(0.0, np.full(ROWS, -5.0))
    noise = 1e-3 * np.random.default_rng(1).standard_normal(ROWS + 1)
    window = window_of(cell, shifted_s, amps, whole, noise)
    ours = median_of(lambda: solve_spm(cell, window, SIX, start=start), 7)
    solution, _ = solve_spm(cell, window, SIX, start=start)
    cost = float(solution.residual_V @ solution.residual_V)
    volts, relative = window.history.data[4][1:], np.array([1.0, 1.0, 1.0, 1.0, 1.0, 0.5])
    theirs, their_cost, runs = fit_by_scipy(time_s, volts, whole[3], relative, 60)
    yield Line("six-parameter spme fit to 1C over scipy",
               f"{theirs / ours:.0f} x ({theirs:.2f} s, {runs} runs / {1e3 * ours:.1f} ms)", "50 x",
               theirs / ours >= 50)  # fmt: skip
    yield Line("the same objective as scipy", f"sum of squares {cost / their_cost:.4f} of theirs",
               "0.9 to 1.001", 0.9 <= cost / their_cost <= 1.001)  # fmt: skip
    yield from _pybop(time_s, volts, whole, relative, ours, cost, is_quick)


def _pybop(
    time_s: Array, volts: Array, whole: Array, relative: Array, ours: float, cost: float,
    is_quick: bool,
) -> Iterator[Line]:  # fmt: skip
    title = "six-parameter spme fit to 1C over PyBOP"
    python = os.environ.get("BATTERYLAB_PEERS", "")
    if not python:
        yield Line(title, "no environment with PyBOP: make benchmark", "300 x", None)
        return
    data = {
        "time_s": list(time_s), "voltage_V": list(volts), "start": list(relative),
        "values": PEER_SIX, "bounds": [[0.7, 1.3]] * 2 + [[0.7, 1.09]] + [[0.1, 10.0]] * 2
        + [[0.0, 5.0]], "y_mol_m3": float(whole[3]) * 63104.0, "most": 400 if is_quick else 1500,
        "optimisers": ["SciPyMinimize"] if is_quick else
        ["SciPyMinimize", "CMAES", "XNES", "IRPropMin"],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "data.json")
        path.write_text(json.dumps(data))
        script = Path(__file__).with_name("pybop_peer.py")
        clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run([python, str(script), str(path)], capture_output=True, text=True,
                              env=clean, cwd=folder, check=False)  # fmt: skip
    if done.returncode:
        yield Line(title, f"PyBOP failed: {done.stderr.strip()[-60:]}", "300 x", None)
        return
    told = json.loads(done.stdout.strip().splitlines()[-1])
    arrived = {k: v for k, v in told["found"].items() if v.get("cost", np.inf) <= 1.05 * cost}
    timed = arrived or {k: v for k, v in told["found"].items() if "seconds" in v}
    best = min(timed, key=lambda k: timed[k]["seconds"])
    ratio = timed[best]["seconds"] / ours
    word = "" if arrived else f"; still at {timed[best]['cost'] / cost:.1f} times the sum"
    yield Line(title, f"{ratio:.0f} x ({best} {timed[best]['seconds']:.1f} s{word})", "300 x",
               ratio >= 300)  # fmt: skip
