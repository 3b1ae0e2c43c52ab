"""Bias against data from converged PyBaMM, and how the fits scale with threads."""

import os
import time
from collections.abc import Callable, Iterator

import numpy as np
from bars import Line
from fits_batch import NOISE_V
from fits_spm import window_of
from numpy.typing import NDArray
from profiles import pulses
from spm_peers import full_cell

from batterylab.fit.archivebatch import processors
from batterylab.fit.celltables import cell_tables
from batterylab.fit.circuitsolve import circuit_steps, circuit_voltage, inputs_of
from batterylab.fit.halfcells import from_parameter_set
from batterylab.fit.ocvsolve import ocv_steps, ocv_voltage
from batterylab.fit.solve import Solution, Steps, together
from batterylab.fit.spm import solve_spm, spm_steps
from batterylab.fit.spmcell import SpmCell, history_of, indices_of
from batterylab.fit.spmwindow import SpmWindow
from batterylab.fit.statistics import judge
from batterylab.pybamm_border import reference_voltage

Array = NDArray[np.float64]

GROUPED = ("negative_capacity_Ah", "x_start", "log_negative_time", "log_positive_time",
           "contact_ohm")  # fmt: skip


def bias(is_quick: bool) -> Iterator[Line]:
    """Fit PyBaMM's own voltage on a converged mesh, without noise: what is off is bias.

    Beside each value stands its standard error, were there white noise of 1 mV.
    """
    for model in ("spme",) if is_quick else ("spm", "spme"):
        cell = SpmCell(cell_tables("Chen2020"), model)
        values, start, capacity_Ah = full_cell(cell, 0.8)
        time_s, amps = pulses(capacity_Ah)
        theirs = reference_voltage(values, time_s, amps, model=model,
                                   points=(20, 40) if is_quick else (40, 80))  # fmt: skip
        seen = np.isfinite(theirs) & (np.arange(len(time_s)) > 0)
        history = history_of(time_s, amps, voltage_V=np.where(seen, theirs, 0.0), observed=seen)
        window = SpmWindow(history, 0, float(theirs[seen][0]), 25.0, capacity_Ah, ())
        solution, _ = solve_spm(cell, window, GROUPED, start=start)
        made = judge(solution.residual_V, solution.jacobian, ~solution.at_bound)
        rms_V = float(np.sqrt(np.mean(solution.residual_V**2)))
        unit = np.sqrt(np.diag(np.linalg.inv(solution.jacobian.T @ solution.jacobian)))
        truth = start[indices_of(GROUPED)]
        for name, found, true, error in zip(
            GROUPED, solution.parameters, truth, NOISE_V * unit, strict=True
        ):
            share = abs(found - true) / error
            yield Line(f"bias {model} {name}", f"{found - true:+.2e}, {share:.2f} standard errors",
                       "-", None)  # fmt: skip
        yield Line(f"bias {model}, what is left", f"{1e3 * rms_V:.3f} mV rms, condition "
                   f"{made.condition_number:.0f}", "-", None)  # fmt: skip


def threads(is_quick: bool) -> Iterator[Line]:
    """Fit many cells in one call, with one thread and with one a processor."""
    count, hands = (60, max(processors(), 2)) if is_quick else (400, max(processors(), 2))
    for name, make in _batches(count).items():
        walls: dict[int, list[float]] = {1: [], hands: []}
        spent: list[float] = []
        for _ in range(3):
            for number, own in walls.items():
                fits = make()
                begun, cpu = time.perf_counter(), time.process_time()
                together(fits, number)
                own.append(time.perf_counter() - begun)
                spent.append((time.process_time() - cpu) / count)
        ratio = min(walls[1]) / min(walls[hands])
        yield Line(f"{name}: {count} fits, {hands} threads over one",
                   f"{ratio:.2f} x on the clock ({1e3 * min(spent):.2f} ms of processor a fit; "
                   f"load {os.getloadavg()[0]:.0f})", "-", None)  # fmt: skip


def _batches(count: int) -> dict[str, Callable[[], list[Steps[object]]]]:
    """Return functions that prepare so many fits of a model."""
    random = np.random.default_rng(7)
    time_s = np.arange(1801.0)
    amps = np.where((time_s > 0) & (time_s <= 300), -5.0, 0.0)
    charge = np.concatenate([[0.0], np.cumsum(amps[1:] * np.diff(time_s))]) / 1500.0
    truth = [3.7, 0.02, 0.025, 0.008, np.log(8.0), 0.012, np.log(200.0)]
    pulse = circuit_voltage(inputs_of(time_s, amps, charge), truth)[0]
    curves = from_parameter_set("Chen2020")
    share, slow_A = np.linspace(0.99, 0.01, 500), np.full(500, -0.25)
    slow = ocv_voltage(share, slow_A, curves, [0.03, 0.9, 0.9, 0.27, 0.03])[0]
    cell = SpmCell(cell_tables("Chen2020"), "spme")
    whole, hour = cell.start.copy(), pulses(5.0)
    windows = [window_of(cell, *hour, whole, NOISE_V * random.standard_normal(len(hour[0])))
               for _ in range(count)]  # fmt: skip

    def noisy(volts: Array) -> Array:
        return np.asarray(volts + NOISE_V * random.standard_normal(len(volts)))

    def circuits() -> list[Steps[Solution]]:
        return [circuit_steps(inputs_of(time_s, amps, charge), noisy(pulse)) for _ in range(count)]

    def slows() -> list[Steps[Solution]]:
        return [ocv_steps(share, slow_A, noisy(slow), curves) for _ in range(count)]

    def particles() -> list[Steps[tuple[Solution, Array]]]:
        return [spm_steps(cell, window, GROUPED, start=whole) for window in windows]

    return {"circuit": circuits, "ocv": slows, "spme": particles}
