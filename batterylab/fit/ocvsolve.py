"""Arrays for the open-circuit kernel, and its fit: where to begin, bounds, least squares."""

from functools import cache, partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batterylab._kernels import _ocv
from batterylab.errors import BatterylabError
from batterylab.fit.halfcells import HalfCells
from batterylab.fit.loss import SQUARES, Loss
from batterylab.fit.solve import (
    MOST_STEPS,
    TOLERANCE,
    Solution,
    Steps,
    alone,
    bounded_fit,
    checked,
)

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
#: recordings in one fit; how far their counters may be apart, in shares of the first one's charge,
#: and how many shifts are tried
MOST_PARTS, MOST_SHIFT, SHIFTS_TRIED = 8, 0.6, 121


def ocv_voltage(
    fraction: ArrayLike,
    current_A: ArrayLike,
    half_cells: HalfCells,
    parameters: ArrayLike,
    parts: ArrayLike | None = None,
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
    parameters : array_like, shape (5 + k,)
        x_low, x_high, y_low, y_high, the resistance in ohm; and what is added to the fraction
        in the second and further recordings.
    parts : array_like of int, shape (n,), optional
        The recording of each row, from 0; all of the first if not given.

    Returns
    -------
    voltage_V : ndarray, shape (n,)
    jacobian : ndarray, shape (n, 5 + k)

    Raises
    ------
    BatterylabError
        If lengths differ or a number is not finite.
    """
    share = checked(fraction, "fraction")
    amps = checked(current_A, "current_A", length=len(share))
    values = checked(parameters, "parameters")
    part = parts_of(parts, len(share))
    if len(values) != len(NAMES) + int(part.max()):
        raise BatterylabError(f"parameters holds {len(values)} values",
                              hint=f"{len(NAMES) + int(part.max())} are wanted")  # fmt: skip
    out, jacobian = np.empty(len(share)), np.empty((len(share), len(values)))
    _ocv.voltage(
        share, amps, part, half_cells.negative_V, half_cells.positive_V, half_cells.first,
        half_cells.step, values, out, jacobian,
    )  # fmt: skip
    return out, jacobian


def parts_of(parts: ArrayLike | None, rows: int) -> NDArray[np.uint8]:
    """Return the recording of each row, as the kernel takes it."""
    if parts is None:
        return np.zeros(rows, np.uint8)
    part = np.asarray(parts)
    if part.shape != (rows,) or not ((part >= 0) & (part < MOST_PARTS)).all():
        raise BatterylabError(f"parts does not name one of {MOST_PARTS} recordings in every row")
    return np.ascontiguousarray(part, np.uint8)


def solve_ocv(
    fraction: ArrayLike,
    current_A: ArrayLike,
    voltage_V: ArrayLike,
    half_cells: HalfCells,
    *,
    parts: ArrayLike | None = None,
    most_steps: int = MOST_STEPS,
    tolerance: float = TOLERANCE,
    loss: Loss = SQUARES,
) -> Solution:
    """Fit the five parameters to rows of a slow step, from the best of 5,940 windows.

    With `parts`, also what is added to the fraction in the second and further recordings, which
    counts from any zero.

    Raises
    ------
    BatterylabError
        If arrays do not fit each other or hold too few rows.
    """
    return alone(ocv_steps(fraction, current_A, voltage_V, half_cells, parts=parts,
                           most_steps=most_steps, tolerance=tolerance, loss=loss))  # fmt: skip


def ocv_steps(
    fraction: ArrayLike,
    current_A: ArrayLike,
    voltage_V: ArrayLike,
    half_cells: HalfCells,
    *,
    parts: ArrayLike | None = None,
    most_steps: int = MOST_STEPS,
    tolerance: float = TOLERANCE,
    loss: Loss = SQUARES,
) -> Steps[Solution]:
    """Fit a slow step or several, as steps for `batterylab.fit.solve`; see `solve_ocv`."""
    share = checked(fraction, "fraction")
    amps = checked(current_A, "current_A", length=len(share))
    volts = checked(voltage_V, "voltage_V", length=len(share))
    part = parts_of(parts, len(share))
    (n_low, n_high), (p_low, p_high) = half_cells.negative_range, half_cells.positive_range
    most_ohm = MOST_OVERVOLTAGE_V / max(float(np.abs(amps).mean()), 1e-9)
    shifts = int(part.max())
    lower = np.array([n_low, n_low, p_low, p_low, 0.0, *[-MOST_SHIFT] * shifts])
    upper = np.array([n_high, n_high, p_high, p_high, most_ohm, *[MOST_SHIFT] * shifts])
    first = part == 0
    f, i, u = share[first], amps[first], volts[first]
    starts = _screened(f, i, u, half_cells, most_ohm)
    if len(f) > 2 * SCREEN_ROWS:
        starts = yield from _sifted(f, i, u, half_cells, starts, lower[:5], upper[:5])
    if shifts:
        starts = np.array([
            [*start, *(_shift(start, share[part == k], amps[part == k], volts[part == k],
                              half_cells) for k in range(1, shifts + 1))]
            for start in starts
        ])  # fmt: skip
    return (yield from bounded_fit(
        partial(_ocv.Fit, share, amps, volts, part, *tables_of(half_cells)), len(share), starts,
        lower, upper, most_steps=most_steps, tolerance=tolerance, loss=loss,
    ))  # fmt: skip


def tables_of(half_cells: HalfCells) -> tuple[Array, Array, float, float]:
    """Return the curves as the kernel takes them."""
    return half_cells.negative_V, half_cells.positive_V, half_cells.first, half_cells.step


def _shift(start: Array, share: Array, amps: Array, volts: Array, half_cells: HalfCells) -> float:
    """Return what must be added to a recording's fraction, so that it lies on a start's curve."""
    rows = _some(len(share))
    tried = np.linspace(-MOST_SHIFT, MOST_SHIFT, SHIFTS_TRIED)[1:-1]
    gaps = [np.abs(ocv_voltage(share[rows] + shift, amps[rows], half_cells, start)[0]
                   - volts[rows]).mean() for shift in tried]  # fmt: skip
    return float(tried[np.argmin(gaps)])


def _sifted(
    share: Array, amps: Array, volts: Array, half_cells: HalfCells, starts: Array,
    lower: Array, upper: Array,
) -> Steps[Array]:  # fmt: skip
    """Fit every start to few of the rows; return the best optima as starts for all rows."""
    rows = _some(len(share))
    f, i, u = (np.ascontiguousarray(values[rows]) for values in (share, amps, volts))
    part = np.zeros(len(rows), np.uint8)
    found, costs = np.ascontiguousarray(starts), np.empty(len(starts))
    best_one, jacobian = np.empty(len(NAMES)), np.empty((len(rows), len(NAMES)))
    work = best_one, np.empty(len(rows)), np.empty(len(rows)), jacobian
    for keep, tolerance in SIFTS:
        best = np.argsort(costs, kind="stable")[:keep] if keep else slice(None)
        begin = np.ascontiguousarray(found[best])
        found, costs = np.empty(begin.shape), np.empty(len(begin))
        yield _ocv.Fit(
            f, i, u, part, *tables_of(half_cells), begin, lower, upper, *work, SIFT_STEPS,
            tolerance, 0, 0.0, found, costs,
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
