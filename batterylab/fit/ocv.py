r"""Open-circuit voltage of a full cell from two half-cell curves.

.. math:: U(f) = U_p(y_0 + (y_1 - y_0) f) - U_n(x_0 + (x_1 - x_0) f) + I R

with f the share of the step's charge (0 empty, 1 full), x and y the lithium in the negative
and the positive electrode. With the step's charge Q the electrodes hold
:math:`Q_n = Q / (x_1 - x_0)` and :math:`Q_p = Q / (y_0 - y_1)`, and the cyclable lithium is
:math:`x_0 Q_n + y_0 Q_p`. Source of the method: J. R. Dahn, I. A. Shkrob and others on
differential voltage fitting, as in H. M. Dahn, A. J. Smith, J. C. Burns, D. A. Stevens,
J. R. Dahn, J. Electrochem. Soc. 159 (2012) A1405; S. Lee, J. B. Siegel, A. G. Stefanopoulou,
J.-W. Lee, T.-K. Lee, J. Electrochem. Soc. 167 (2020) 090531, on what can be told apart.
"""

from dataclasses import asdict, dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batterylab._kernels import _ocv
from batterylab.errors import BatterylabError
from batterylab.fit.assemble import assemble
from batterylab.fit.halfcells import HalfCells
from batterylab.fit.result import Curve, Fit
from batterylab.fit.solve import MOST_STEPS, TOLERANCE, Solution, checked, solve
from batterylab.fit.statistics import Judgement, judge
from batterylab.fit.window import NotSuitedError, slow_step, thinned
from batterylab.recording import Recording

Array = NDArray[np.float64]

NAMES = ("x_low", "x_high", "y_low", "y_high", "resistance_mOhm")
#: windows that are tried before the optimiser begins: low and high end of the negative, then of
#: the positive electrode, as shares of what the curves cover
WINDOWS = (
    np.array([0.0, 0.01, 0.03, 0.06, 0.1, 0.2]), np.arange(0.55, 1.001, 0.05),
    np.arange(0.6, 1.001, 0.05), np.arange(0.0, 0.501, 0.05),
)  # fmt: skip
SCREEN_ROWS = 60
#: of the largest overvoltage that is looked at before the optimiser begins
SCREEN_SHARE = 0.4
#: of the optimiser on those rows: all starts roughly, then the best of them to the end
SIFT_STEPS, SIFTS = 60, ((0, 1e-3), (4, 1e-8))
#: an optimum within this in each stoichiometry is the same, and one of more than this multiple
#: of the best cost is not tried on all rows
SAME, CLOSE = 0.005, 1.5
#: the overvoltage of a slow step lies below this
MOST_OVERVOLTAGE_V = 0.5
LEAST_ROWS = 30
#: residuals above this come from half-cell curves that are not the cell's
DOUBT_mV = 15.0


@dataclass(frozen=True)
class OcvSettings:
    """How an `ocv` model is fitted.

    Attributes
    ----------
    parameter_set : str
        PyBaMM's set that gives the half-cell curves, unless a file does.
    step : int or None
        Which step; None: see `slow_step`.
    trim_percent : float
        Share of the charge left out at either end, where diffusion shapes the voltage.
    points : int
        Most rows used, spread evenly over the charge.
    most_steps, tolerance
        Of the optimiser.
    """

    parameter_set: str = "Chen2020"
    step: int | None = None
    trim_percent: float = 1.0
    points: int = 500
    most_steps: int = MOST_STEPS
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        if not 0 <= self.trim_percent < 40:
            raise BatterylabError("trim_percent must be at least 0 and below 40")
        if self.points < LEAST_ROWS:
            raise BatterylabError(f"points must be at least {LEAST_ROWS}")


def ocv_voltage(
    fraction: ArrayLike, current_A: ArrayLike, half_cells: HalfCells, parameters: ArrayLike
) -> tuple[Array, Array]:
    """Return the model's voltage and its derivatives.

    Parameters
    ----------
    fraction : array_like, shape (n,)
        Of the charge between the low and the high end.
    current_A : array_like, shape (n,)
        Charge positive.
    half_cells : HalfCells
        Curves of both electrodes.
    parameters : array_like, shape (5,)
        x_low, x_high, y_low, y_high, and the resistance in ohm.

    Returns
    -------
    voltage_V : ndarray, shape (n,)
    jacobian : ndarray, shape (n, 5)

    Raises
    ------
    BatterylabError
        If lengths differ or a number is not finite.
    """
    share = checked(fraction, "fraction")
    amps = checked(current_A, "current_A", length=len(share))
    values = checked(parameters, "parameters", length=len(NAMES))
    out, jacobian = np.empty(len(share)), np.empty((len(share), len(NAMES)))
    _ocv.voltage(
        share, amps, half_cells.negative_V, half_cells.positive_V, half_cells.first,
        half_cells.step, values, out, jacobian,
    )  # fmt: skip
    return out, jacobian


def solve_ocv(
    fraction: ArrayLike,
    current_A: ArrayLike,
    voltage_V: ArrayLike,
    half_cells: HalfCells,
    *,
    most_steps: int = MOST_STEPS,
    tolerance: float = TOLERANCE,
) -> Solution:
    """Fit the five parameters to rows of a slow step, from the best of 5,940 windows.

    Raises
    ------
    BatterylabError
        If arrays do not fit each other or hold too few rows.
    """
    share = checked(fraction, "fraction")
    amps = checked(current_A, "current_A", length=len(share))
    volts = checked(voltage_V, "voltage_V", length=len(share))
    kernel = partial(
        _ocv.fit, share, amps, volts, half_cells.negative_V, half_cells.positive_V,
        half_cells.first, half_cells.step,
    )  # fmt: skip
    (n_low, n_high), (p_low, p_high) = half_cells.negative_range, half_cells.positive_range
    most_ohm = MOST_OVERVOLTAGE_V / max(float(np.abs(amps).mean()), 1e-9)
    lower = [n_low, n_low, p_low, p_low, 0.0]
    upper = [n_high, n_high, p_high, p_high, most_ohm]
    starts = _screened(share, amps, volts, half_cells, most_ohm)
    if len(share) > 2 * SCREEN_ROWS:
        starts = _sifted(share, amps, volts, half_cells, starts, lower, upper)
    return solve(
        kernel, len(share), starts, lower, upper, most_steps=most_steps, tolerance=tolerance
    )


def _sifted(
    share: Array, amps: Array, volts: Array, half_cells: HalfCells, starts: Array,
    lower: list[float], upper: list[float],
) -> Array:  # fmt: skip
    """Fit every start to few of the rows; return the best optima as starts for all rows."""
    rows = _some(len(share))
    f, i, u = (np.ascontiguousarray(values[rows]) for values in (share, amps, volts))
    low, high = np.array(lower), np.array(upper)
    found, costs = np.ascontiguousarray(starts), np.empty(len(starts))
    work = np.empty(len(rows)), np.empty(len(rows)), np.empty((len(rows), len(NAMES)))
    for keep, tolerance in SIFTS:
        best = np.argsort(costs, kind="stable")[:keep] if keep else slice(None)
        begin = np.ascontiguousarray(found[best])
        found, costs = np.empty(begin.shape), np.empty(len(begin))
        _ocv.fit_each(
            f, i, u, half_cells.negative_V, half_cells.positive_V, half_cells.first,
            half_cells.step, begin, low, high, found, costs, *work, SIFT_STEPS, tolerance,
        )  # fmt: skip
    best = np.argsort(costs, kind="stable")
    kept = [found[best[0]]]
    for place in best[1:]:
        is_new = np.abs(found[place] - kept[0]).max() > SAME
        if is_new and costs[place] < CLOSE * costs[best[0]]:
            kept.append(found[place])
            break
    return np.array(kept)


def _some(count: int) -> NDArray[np.intp]:
    """Return the rows that starts are compared on."""
    return np.unique(np.linspace(0, count - 1, SCREEN_ROWS).astype(int))


def _screened(
    share: Array, amps: Array, volts: Array, half_cells: HalfCells, most_ohm: float
) -> Array:
    """Return where to begin: for each full end of the negative electrode the best window.

    A full-cell curve has many local optima, which differ by the stage of the negative
    electrode that the full cell reaches. A coarse look at all windows, with a constant
    overvoltage, costs less than optimising from a few of them, and finds more.
    """
    rows = _some(len(share))
    f, mean_A = share[rows], float(amps[rows].mean())
    negative, u_n = _half(f, half_cells.negative_V, half_cells, half_cells.negative_range, 0)
    positive, u_p = _half(f, half_cells.positive_V, half_cells, half_cells.positive_range, 2)
    gap = u_p - volts[rows]
    # offset d, the overvoltage, is the mean difference, kept to the sign of the current
    offset = u_n.mean(axis=1)[:, None] - gap.mean(axis=1)[None, :]
    most = SCREEN_SHARE * most_ohm * mean_A
    offset = np.clip(offset, min(0.0, most), max(0.0, most))
    centred_n = np.einsum("ij,ij->i", u_n, u_n)[:, None]
    centred_p = np.einsum("ij,ij->i", gap, gap)[None, :]
    difference = gap.sum(axis=1)[None, :] - u_n.sum(axis=1)[:, None]
    cost = centred_n + centred_p - 2.0 * u_n @ gap.T + 2.0 * offset * difference
    cost += len(rows) * offset**2
    by_full = cost.reshape(len(WINDOWS[0]), len(WINDOWS[1]), -1).swapaxes(0, 1)
    best = by_full.reshape(len(WINDOWS[1]), -1).argmin(axis=1)
    low, k = np.unravel_index(best, (len(WINDOWS[0]), cost.shape[1]))
    i = low * len(WINDOWS[1]) + np.arange(len(WINDOWS[1]))
    ohm = offset[i, k] / mean_A if mean_A else np.zeros(len(i))
    return np.column_stack([negative[i], positive[k], ohm])


def _half(
    fraction: Array, table_V: Array, half_cells: HalfCells, span: tuple[float, float], which: int
) -> tuple[Array, Array]:
    """Return candidate windows of one electrode and its potential in each, shape (w, n)."""
    windows = _windows(which, *span)
    potential = np.empty((len(windows), len(fraction)))
    _ocv.potentials(windows, fraction, table_V, half_cells.first, half_cells.step, potential)
    return windows, potential


@cache
def _windows(which: int, first: float, last: float) -> Array:
    low, high = np.meshgrid(WINDOWS[which], WINDOWS[which + 1], indexing="ij")
    windows = np.column_stack([low.ravel(), high.ravel()])
    return np.ascontiguousarray(first + (last - first) * windows)


def fit_ocv(recording: Recording, half_cells: HalfCells, settings: OcvSettings) -> Fit:
    """Fit the full-cell open-circuit model to a recording.

    Raises
    ------
    NotSuitedError
        If the recording has no slow charge or discharge.
    """
    slow = slow_step(recording, settings.step, settings.trim_percent / 100.0)
    rows = thinned(slow.fraction, settings.points)
    if len(rows) < LEAST_ROWS:
        raise NotSuitedError(
            f"recording of {recording.serial!r}: step {slow.step.step_index} has {len(rows)} rows",
            hint=f"an ocv fit needs {LEAST_ROWS}",
        )
    fraction, current_A = slow.fraction[rows], slow.current_A[rows]
    voltage_V = slow.voltage_V[rows]
    solution = solve_ocv(
        fraction, current_A, voltage_V, half_cells,
        most_steps=settings.most_steps, tolerance=settings.tolerance,
    )  # fmt: skip
    judgement = judge(solution.residual_V, solution.jacobian, ~solution.at_bound)
    values, errors = _derived(solution, judgement, slow.span_Ah, float(np.abs(current_A).mean()))
    curve = Curve(
        fraction * slow.span_Ah, "charge / Ah", voltage_V, voltage_V + solution.residual_V
    )
    used = {k: v for k, v in asdict(settings).items() if k != "parameter_set"}
    return assemble(
        "ocv", recording, slow.step.step_index, NAMES, solution, judgement, values, errors,
        {**used, "half_cells": half_cells.name, "half_cells_digest": half_cells.digest}, curve,
        DOUBT_mV,
    )  # fmt: skip


def _derived(
    solution: Solution, judgement: Judgement, span_Ah: float, mean_A: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Return capacities, inventory and window with their standard errors (first order)."""
    x0, x1, y0, y1, ohm = (float(p) for p in solution.parameters)
    dx, dy = x1 - x0, y0 - y1
    qn, qp = (span_Ah / d if abs(d) > 1e-12 else np.inf for d in (dx, dy))
    gradients: dict[str, tuple[float, list[float]]] = {
        "negative_capacity_Ah": (qn, [qn / dx, -qn / dx, 0, 0, 0]),
        "positive_capacity_Ah": (qp, [0, 0, -qp / dy, qp / dy, 0]),
        "lithium_inventory_Ah": (
            x0 * qn + y0 * qp, [x1 * qn / dx, -x0 * qn / dx, -y1 * qp / dy, y0 * qp / dy, 0]
        ),
        "resistance_mOhm": (1e3 * ohm, [0, 0, 0, 0, 1e3]),
        "overvoltage_mV": (1e3 * ohm * mean_A, [0, 0, 0, 0, 1e3 * mean_A]),
        "x_low": (x0, [1, 0, 0, 0, 0]),
        "x_high": (x1, [0, 1, 0, 0, 0]),
        "y_low": (y0, [0, 0, 1, 0, 0]),
        "y_high": (y1, [0, 0, 0, 1, 0]),
    }  # fmt: skip
    values = {name: float(value) for name, (value, _) in gradients.items()}
    errors = {name: _error(row, judgement.covariance) for name, (_, row) in gradients.items()}
    return values, errors


def _error(gradient: list[float], covariance: Array) -> float:
    """Return the standard error along a gradient; only what it touches must be known."""
    row = np.array(gradient, float)
    used = np.flatnonzero(row)
    return float(np.sqrt(row[used] @ covariance[np.ix_(used, used)] @ row[used]))
