"""How fast the fits are: each bar a ratio against scipy.optimize.least_squares in the same run.

Both sides fit the same noisy data from the same start, with analytic derivatives and no
Python loop over rows on scipy's side. `--quick` takes fewer repeats. Exit code 1 if a bar is
missed.

    python benchmarks/fit.py [--quick]
"""

import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline
from scipy.optimize import least_squares

from batterylab._kernels import _circuit, _ocv
from batterylab.fit.circuitsolve import circuit_voltage, inputs_of, solve_circuit
from batterylab.fit.halfcells import HalfCells, from_parameter_set
from batterylab.fit.ocvsolve import ocv_voltage, parts_of, solve_ocv, tables_of
from batterylab.fit.solve import TOLERANCE, solve

Array = NDArray[np.float64]

BARS = {"ocv": 8.0, "circuit": 8.0}
BUDGET_s = 1.5  # 48 cells, both models, whole fits with all their starts
CELLS = 48


def best_of(work: Callable[[], object], repeats: int) -> float:
    """Return the shortest time of some repeats, in s."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def ocv_case(half_cells: HalfCells) -> tuple[Array, Array, Array, Array]:
    """Return share, current, noisy voltage and truth."""
    truth = np.array([0.027, 0.91, 0.854, 0.264, 0.05])
    share, amps = np.linspace(1, 0, 500), np.full(500, -0.5)
    volts, _ = ocv_voltage(share, amps, half_cells, truth)
    return share, amps, volts + 5e-4 * np.random.default_rng(1).standard_normal(500), truth


def ocv_by_scipy(half_cells: HalfCells, share: Array, amps: Array, volts: Array) -> Callable[
    [Array], Array
]:  # fmt: skip
    """Return a function that fits with scipy from a start."""
    grid = half_cells.first + half_cells.step * np.arange(len(half_cells.negative_V))
    curves = [
        CubicHermiteSpline(grid, u, np.gradient(u, grid))
        for u in (half_cells.negative_V, half_cells.positive_V)
    ]
    slopes = [curve.derivative() for curve in curves]

    def residual(p: Array) -> Array:
        x, y = p[0] + (p[1] - p[0]) * share, p[2] + (p[3] - p[2]) * share
        return np.asarray(curves[1](y) - curves[0](x) + p[4] * amps - volts)

    def jacobian(p: Array) -> Array:
        x, y = p[0] + (p[1] - p[0]) * share, p[2] + (p[3] - p[2]) * share
        n, c = slopes[0](x), slopes[1](y)
        return np.column_stack([-n * (1 - share), -n * share, c * (1 - share), c * share, amps])

    def run(start: Array) -> Array:
        return np.asarray(least_squares(residual, start, jacobian, bounds=([0] * 5, [1] * 5),
                                        x_scale="jac", ftol=TOLERANCE).x)  # fmt: skip

    return run


def bar_ocv(half_cells: HalfCells, repeats: int) -> tuple[float, float, float]:
    """Return scipy's time, ours, and the largest difference of the parameters."""
    share, amps, volts, truth = ocv_case(half_cells)
    start = truth + np.array([0.01, -0.03, 0.02, 0.02, 0.02])
    theirs = ocv_by_scipy(half_cells, share, amps, volts)
    kernel = partial(_ocv.Fit, share, amps, volts, parts_of(None, len(share)),
                     *tables_of(half_cells))  # fmt: skip
    ours = partial(solve, kernel, len(share), [start], [0.0] * 5, [1.0] * 5)
    gap = float(np.abs(theirs(start) - ours().parameters).max())
    return best_of(partial(theirs, start), repeats), best_of(ours, repeats), gap


def circuit_case() -> tuple[Array, Array, Array, Array, Array]:
    """Return time, current, charge, noisy voltage and truth of a 30 s pulse and its rest."""
    time_s = np.concatenate([np.arange(31.0), 30 + np.cumsum(np.linspace(1, 8, 90))])
    amps = np.where((time_s > 0) & (time_s <= 30), -5.0, 0.0)
    charge = np.concatenate([[0.0], np.cumsum(amps[1:] * np.diff(time_s))]) / 150.0
    truth = np.array([3.7, 0.004, 0.025, 0.008, np.log(3.0), 0.012, np.log(40.0)])
    volts, _ = circuit_voltage(inputs_of(time_s, amps, charge), truth)
    noisy = volts + 2e-4 * np.random.default_rng(2).standard_normal(len(volts))
    return time_s, amps, charge, noisy, truth


def circuit_by_scipy(
    time_s: Array, amps: Array, charge: Array, volts: Array
) -> Callable[[Array], Array]:
    """Return a function that fits with scipy: the current is a sum of steps, solved exactly."""
    changes = np.flatnonzero(np.diff(amps, prepend=0.0))
    jumps = np.diff(amps, prepend=0.0)[changes]
    since = time_s[:, None] - time_s[np.maximum(changes - 1, 0)][None, :]
    passed = np.where(since > 0, since, 0.0)

    def lag(log_tau: float) -> tuple[Array, Array]:
        tau = np.exp(log_tau)
        left = np.exp(-passed / tau)
        return (1 - left) @ jumps, -(left * passed / tau) @ jumps

    def residual(p: Array) -> Array:
        total = p[0] + p[1] * charge + p[2] * amps - volts
        return np.asarray(total + p[3] * lag(p[4])[0] + p[5] * lag(p[6])[0])

    def jacobian(p: Array) -> Array:
        (a, da), (b, db) = lag(p[4]), lag(p[6])
        return np.column_stack([np.ones(len(amps)), charge, amps, a, p[3] * da, b, p[5] * db])

    def run(start: Array) -> Array:
        lower = [0, -1, 0, 0, np.log(0.3), 0, np.log(0.3)]
        upper = [9, 1, 1, 1, np.log(3000), 1, np.log(3000)]
        return np.asarray(least_squares(residual, start, jacobian, bounds=(lower, upper),
                                        x_scale="jac", ftol=TOLERANCE).x)  # fmt: skip

    return run


def bar_circuit(repeats: int) -> tuple[float, float, float]:
    """Return scipy's time, ours, and the largest difference of the parameters."""
    time_s, amps, charge, volts, truth = circuit_case()
    start = truth * np.array([1.001, 0.8, 1.1, 0.7, 0.7, 1.3, 1.1])
    theirs = circuit_by_scipy(time_s, amps, charge, volts)
    kernel = partial(_circuit.Fit, inputs_of(time_s, amps, charge).kernel, volts)
    lower = [0, -1, 0, 0, np.log(0.3), 0, np.log(0.3)]
    upper = [9, 1, 1, 1, np.log(3000), 1, np.log(3000)]
    ours = partial(solve, kernel, len(volts), [start], lower, upper)
    gap = float(np.abs(theirs(start) - ours().parameters).max())
    return best_of(partial(theirs, start), repeats), best_of(ours, repeats), gap


def whole(half_cells: HalfCells) -> float:
    """Return the time of 48 whole fits of both models, in s."""
    share, amps, volts, _ = ocv_case(half_cells)
    time_s, pulse_A, charge, pulse_V, _ = circuit_case()
    inputs = inputs_of(time_s, pulse_A, charge)
    begun = time.perf_counter()
    for _ in range(CELLS):
        solve_ocv(share, amps, volts, half_cells)
        solve_circuit(inputs, pulse_V)
    return time.perf_counter() - begun


def main(arguments: list[str]) -> int:
    """Print one line a bar and return the exit code."""
    repeats = 5 if "--quick" in arguments else 50
    half_cells = from_parameter_set("Chen2020")
    missed = 0
    for name, (theirs, ours, gap) in (
        ("ocv", bar_ocv(half_cells, repeats)),
        ("circuit", bar_circuit(repeats)),
    ):
        ratio = theirs / ours
        met = ratio >= BARS[name] and gap < 1e-3
        missed += not met
        print(
            f"{'met   ' if met else 'MISSED'} {name:<8} {ratio:6.1f} x scipy (bar {BARS[name]:g})  "
            f"scipy {1e3 * theirs:.2f} ms, kernel {1e3 * ours:.3f} ms, "
            f"parameters differ by {gap:.1e}"
        )
    seconds = whole(half_cells)
    met = seconds <= BUDGET_s
    missed += not met
    print(f"{'met   ' if met else 'MISSED'} {CELLS} cells, both models, all starts: "
          f"{seconds:.2f} s (bar {BUDGET_s:g} s)")  # fmt: skip
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
