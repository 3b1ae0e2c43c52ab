"""Ageing: fade by square root and linear terms, the knee, and life with cells still running.

Fresh capacity hardly predicts life; ageing is scored apart from it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from batterylab.errors import BatterylabError
from batterylab.suppliers.nodes import Array, Interval

#: cells whose life is over below this share of their first capacity
END_OF_LIFE = 0.8
_DRAWS = 400
_FITS = 4000


@dataclass(frozen=True)
class Fade:
    """Capacity as first (1 - root √x - line x).

    Attributes
    ----------
    first : float
        Capacity at the start, in the unit of the data.
    root, line : float
        Share lost per square root of a cycle (or other unit of x), and per cycle; not negative.
    errors : tuple of float
        Standard errors of the two; NaN where a term is held at zero.
    residual : float
        Standard deviation of the residuals, as a share of `first`.
    """

    first: float
    root: float
    line: float
    errors: tuple[float, float]
    residual: float

    def share(self, x: Array | float) -> Array:
        """Return the capacity left, as a share of the first."""
        points = np.asarray(x, dtype=np.float64)
        left: Array = 1.0 - self.root * np.sqrt(points) - self.line * points
        return left

    def life(self, share: float = END_OF_LIFE) -> float:
        """Return when so much is left, extrapolated; infinity without fade."""
        lost = 1.0 - share
        if self.line <= 0:
            return math.inf if self.root <= 0 else (lost / self.root) ** 2
        step = math.sqrt(self.root**2 + 4.0 * self.line * lost)
        return (2.0 * lost / (self.root + step)) ** 2


def _series(
    x: Sequence[float] | Array, y: Sequence[float] | Array, least: int
) -> tuple[Array, ...]:
    points, values = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if points.shape != values.shape or points.ndim != 1 or len(points) < least:
        raise BatterylabError(f"{points.size} and {values.size} values make no course of ageing",
                              hint=f"as many of both, {least} or more")  # fmt: skip
    if not (np.all(np.isfinite(points)) and np.all(np.isfinite(values))):
        raise BatterylabError("a value is not finite", hint="leave it out")
    if not np.all(np.diff(points) > 0):
        raise BatterylabError("the cycles do not rise", hint="in order, each once")
    return points, values


def fit_fade(x: Sequence[float] | Array, capacity: Sequence[float] | Array) -> Fade:
    """Fit square root and linear fade, neither of them negative.

    Parameters
    ----------
    x : array_like, shape (n,)
        Cycles, charge throughput or time, from 0 or above, rising; four or more.
    capacity : array_like, shape (n,)
        In any unit, above zero.

    References
    ----------
    .. [1] J. Schmalstieg et al., J. Power Sources 257 (2014) 325: square root in time, linear
       and square root in throughput.
    """
    points, values = _series(x, capacity, 4)
    if points[0] < 0 or not np.all(values > 0):
        raise BatterylabError("cycles or capacities below zero", hint="zero or more")
    columns = np.column_stack([np.ones_like(points), -np.sqrt(points), -points])
    best: tuple[float, list[int], Array] | None = None
    for used in ([0, 1, 2], [0, 1], [0, 2], [0]):
        found = np.linalg.lstsq(columns[:, used], values, rcond=None)[0]
        if np.any(found[1:] < 0):
            continue
        squares = float(np.sum((values - columns[:, used] @ found) ** 2))
        if best is None or squares < best[0] * (1.0 - 1e-12):
            best = squares, used, found
    if best is None:
        raise BatterylabError("no fade can be fitted")
    squares, used, found = best
    variance = squares / max(1, len(points) - len(used))
    normal = np.linalg.pinv(columns[:, used].T @ columns[:, used])
    errors = np.full(3, math.nan)
    errors[used] = np.sqrt(variance * np.diag(normal))
    full = np.zeros(3)
    full[used] = found
    first = float(full[0])
    return Fade(
        first, float(full[1]) / first, float(full[2]) / first,
        (float(errors[1]) / first, float(errors[2]) / first), math.sqrt(variance) / first,
    )  # fmt: skip


# The knee


def kneedle(x: Sequence[float] | Array, y: Sequence[float] | Array) -> float:
    """Return where a curve is farthest from the chord of its ends, both axes scaled to 1.

    Concave or convex, rising or falling.

    References
    ----------
    .. [1] V. Satopää et al., Finding a Kneedle in a haystack, ICDCS Workshops 2011, 166.
    """
    points, values = _series(x, y, 3)
    span = float(values[-1] - values[0])
    if span == 0:
        raise BatterylabError("the curve ends where it begins", hint="a curve that rises or falls")
    scaled = (values - values[0]) / span
    across = (points - points[0]) / (points[-1] - points[0])
    return float(points[int(np.argmax(np.abs(scaled - across)))])


@dataclass(frozen=True)
class Knee:
    """Where fade turns from slow to fast.

    Attributes
    ----------
    place : float
        In the unit of x.
    interval : tuple of float
        95 %.
    slopes : tuple of float
        Change of capacity per unit of x, before and after.
    gain : float
        F ratio of two lines against one; below `needed` there is no knee.
    needed : float
        What curves without a knee reach in 5 % of cases (simulated for this number of points).
    """

    place: float
    interval: Interval
    slopes: tuple[float, float]
    gain: float
    needed: float

    @property
    def is_there(self) -> bool:
        """Whether two lines are clearly better than one, the second falling faster."""
        return self.gain > self.needed and self.slopes[1] < self.slopes[0]


def _broken(points: Array, rows: Array) -> tuple[Array, Array]:
    """Return the least squares of two joined lines and their knees, for rows (b, n).

    Beside the one line, each place of the joint adds one direction; what a row has along it is
    what two lines gain.
    """
    grid = np.linspace(points[1], points[-2], 201)
    basis, _ = np.linalg.qr(np.column_stack([np.ones_like(points), points]))
    bends = np.maximum(points[:, None] - grid, 0.0)
    bends -= basis @ (basis.T @ bends)
    bends /= np.linalg.norm(bends, axis=0)
    left = rows - (rows @ basis) @ basis.T
    gains = (left @ bends) ** 2
    places = gains.argmax(axis=1)
    squares = np.sum(left**2, axis=1) - gains[np.arange(len(rows)), places]
    return np.maximum(squares, 0.0), grid[places]


def find_knee(x: Sequence[float] | Array, capacity: Sequence[float] | Array) -> Knee:
    """Find the knee of a fade curve as the joint of two lines.

    Parameters
    ----------
    x : array_like, shape (n,)
        Cycles, rising; eight or more.
    capacity : array_like, shape (n,)
        In any unit.

    Returns
    -------
    Knee
        Its interval is a parametric bootstrap of the two lines (fixed draws); scatter is taken
        as independent from point to point.

    References
    ----------
    .. [1] P. Fermín-Cueto et al., Energy and AI 1 (2020) 100006: knee of two joined lines.
    """
    points, values = _series(x, capacity, 8)
    shifted = values - values.mean()
    squares, places = _broken(points, shifted[None])
    place = float(places[0])
    columns = np.column_stack([np.ones_like(points), points, np.maximum(points - place, 0.0)])
    found = np.linalg.lstsq(columns, shifted, rcond=None)[0]
    df = len(points) - 4
    sd = math.sqrt(max(float(squares[0]), 0.0) / df)
    _, drawn = _broken(points, columns @ found + sd * _noise(len(points)))
    low, high = np.quantile(drawn, [0.025, 0.975])
    line = np.polynomial.polynomial.polyfit(points, shifted, 1)
    one = float(np.sum((shifted - np.polynomial.polynomial.polyval(points, line)) ** 2))
    tiny = 1e-24 * float(np.sum(shifted**2)) + 1e-300
    gain = (one - float(squares[0])) / 2.0 / max(float(squares[0]) / df, tiny)
    return Knee(place, (float(low), float(high)), (float(found[1]), float(found[1] + found[2])),
                gain, _gain_without(tuple(points)))  # fmt: skip


def _noise(count: int) -> Array:
    return np.random.default_rng(20260101).normal(size=(_DRAWS, count))


@lru_cache(maxsize=64)
def _gain_without(points: tuple[float, ...]) -> float:
    """Return the gain that curves without a knee reach in 5 % of cases."""
    x, noise = np.asarray(points), _noise(len(points))
    two, _ = _broken(x, noise)
    basis, _ = np.linalg.qr(np.column_stack([np.ones_like(x), x]))
    one = np.sum(noise**2, axis=1) - np.sum((noise @ basis) ** 2, axis=1)
    return float(np.quantile((one - two) / 2.0 / (two / (len(points) - 4)), 0.95))


# Life, with cells still running


@dataclass(frozen=True)
class Weibull:
    """Lives as a Weibull distribution.

    Attributes
    ----------
    shape, scale : float
        Exponent, and the life that 63.2 % do not reach.
    log_likelihood : float
    failed, running : int
        Cells whose life is over, and those still running at the end.
    """

    shape: float
    scale: float
    log_likelihood: float
    failed: int
    running: int

    def life(self, share: float) -> float:
        """Return the life that a share of cells does not reach."""
        return self.scale * math.pow(-math.log1p(-share), 1.0 / self.shape)

    def life_interval(self, share: float, confidence: float = 0.95) -> Interval:
        """Return the interval of `life`, from the pivot (log scale - log life) shape.

        Its distribution does not depend on the truth where a fixed number of lives ended, all
        of them before any cell that still runs (simulated, fixed draws); it is close where
        cells were stopped at a time.

        References
        ----------
        .. [1] J. F. Lawless, Statistical Models and Methods for Lifetime Data, 2003, 5.1.2.
        """
        shapes, scales = _standard_fits(self.failed, self.failed + self.running)
        pivot = (np.log(scales) - math.log(-math.log1p(-share))) * shapes
        tail = (1.0 - confidence) / 2.0
        low, high = np.quantile(pivot, [1.0 - tail, tail])
        return (float(self.scale * math.exp(-low / self.shape)),
                float(self.scale * math.exp(-high / self.shape)))  # fmt: skip


@lru_cache(maxsize=64)
def _standard_fits(failed: int, cells: int) -> tuple[Array, Array]:
    """Return shape and scale fitted to draws of cells with both 1, the first `failed` ended."""
    draws = np.random.default_rng(20260102).exponential(size=(_FITS, cells))
    lives = np.sort(draws, axis=1)
    lives[:, failed:] = lives[:, failed - 1 : failed]
    logs = np.log(lives) - np.log(lives[:, -1:])
    middle = logs[:, :failed].mean(axis=1)
    low, high = np.full(_FITS, 1e-3), np.full(_FITS, 1e4)
    for _ in range(50):
        shape = np.sqrt(low * high)
        powers = np.exp(shape[:, None] * logs)
        slope = np.sum(powers * logs, axis=1) / powers.sum(axis=1) - 1.0 / shape - middle
        low, high = np.where(slope < 0, shape, low), np.where(slope < 0, high, shape)
    shape = np.sqrt(low * high)
    ratio = np.exp(shape[:, None] * logs).sum(axis=1) / failed
    return shape, lives[:, -1] * ratio ** (1.0 / shape)


def fit_weibull(failed: Sequence[float], running: Sequence[float] = ()) -> Weibull:
    """Fit lives by maximum likelihood, cells still running counted as such.

    Parameters
    ----------
    failed : sequence of float
        Lives that ended; two or more that differ.
    running : sequence of float
        How far the others have come (right-censored).

    References
    ----------
    .. [1] W. Q. Meeker, L. A. Escobar, Statistical Methods for Reliability Data, 1998, ch. 8.
    """
    from scipy.optimize import brentq

    ended = np.asarray(failed, dtype=np.float64)
    lives = np.concatenate([ended, np.asarray(running, dtype=np.float64)])
    if not np.all(np.isfinite(lives)) or not np.all(lives > 0):
        raise BatterylabError("a life is not above zero", hint="leave it out")
    if len(ended) < 2 or np.ptp(ended) <= 1e-12 * ended.max():
        raise BatterylabError(f"{len(ended)} lives that ended fit no distribution",
                              hint="two or more that differ; test longer")  # fmt: skip
    logs = np.log(lives) - math.log(lives.max())
    middle = float(logs[: len(ended)].mean())

    def score(shape: float) -> float:
        powers = np.exp(shape * logs)
        return float(powers @ logs / powers.sum()) - 1.0 / shape - middle

    low, high = 1e-3, 1.0
    while score(high) < 0:
        high *= 2.0
    shape = float(brentq(score, low, high, xtol=1e-13, rtol=1e-13))
    powers = np.exp(shape * logs)
    ratio = float(powers.sum()) / len(ended)
    scale = float(lives.max()) * ratio ** (1.0 / shape)
    standard = np.log(lives / scale)
    weights = (lives / scale) ** shape
    log_likelihood = float(
        len(ended) * math.log(shape / scale)
        + (shape - 1.0) * standard[: len(ended)].sum()
        - weights.sum()
    )
    return Weibull(shape, scale, log_likelihood, len(ended), len(running))
