"""Cells in lots: mean, spread within lots, spread between lots, each with its interval.

The model is the one-way random one: value = mean + lot + cell, lots and cells normal. Lots
are the sampling unit: what is said of a supplier rests on as many independent things as there
are lots. Formulas and their sources are in ``docs/statistics.md``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from batterylab.errors import BatterylabError
from batterylab.suppliers.nodes import (
    CONFIDENCE,
    Array,
    Interval,
    central,
    chi_squares,
    mean_interval,
    normals,
    points_for,
    sd_interval,
)

#: an F ratio of lots below this quantile of itself without any lot effect is raised to it, so
#: that lot means which agree by accident do not give an absurdly narrow interval
FLOOR = 0.05
#: of the risk of the interval of sigma_lot, what its lower end carries where the upper one
#: cannot miss
NEAR_ZERO = 0.8
#: dimensions of `nodes`: within, lots, mean; a second supplier takes its own for within
WITHIN, LOTS, MEAN, OTHER = 0, 1, 2, 7
_MOST_STEPS = 60


@dataclass(frozen=True)
class LotSample:
    """One feature of one supplier, reduced to what the model needs.

    Attributes
    ----------
    lots : tuple of str
        In order of name.
    counts : ndarray of float, shape (k,)
        Cells of each lot.
    means : ndarray, shape (k,)
        Mean of each lot.
    sums_of_squares : ndarray, shape (k,)
        Of the deviations of the cells from their lot's mean.
    minimum, maximum : float
        Over all cells.
    """

    lots: tuple[str, ...]
    counts: Array
    means: Array
    sums_of_squares: Array
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float] | Array, lots: Sequence[str]) -> "LotSample":
        """Reduce values and the names of their lots.

        Raises
        ------
        BatterylabError
            If there are no values, one is not finite, or the two differ in length.
        """
        numbers = np.asarray(values, dtype=np.float64)
        if numbers.ndim != 1 or not len(numbers) or len(numbers) != len(lots):
            raise BatterylabError(f"{numbers.size} values and {len(lots)} lots make no sample")
        if not np.all(np.isfinite(numbers)):
            raise BatterylabError("a value is not finite", hint="leave cells without a value out")
        names = sorted(set(lots))
        place = {name: number for number, name in enumerate(names)}
        index = np.array([place[lot] for lot in lots])
        counts = np.bincount(index).astype(np.float64)
        shift = float(np.mean(numbers))
        means = np.bincount(index, weights=numbers - shift) / counts + shift
        means += np.bincount(index, weights=numbers - means[index]) / counts  # second pass
        squares = np.asarray(np.bincount(index, weights=(numbers - means[index]) ** 2), np.float64)
        squares[squares <= counts * _rounding(numbers) ** 2] = 0.0
        return cls(tuple(names), counts, means, squares, float(numbers.min()), float(numbers.max()))

    @property
    def cells(self) -> int:
        """Number of cells."""
        return round(float(self.counts.sum()))

    @property
    def df_within(self) -> int:
        """Degrees of freedom within lots."""
        return self.cells - len(self.lots)

    @property
    def df_between(self) -> int:
        """Degrees of freedom between lots."""
        return len(self.lots) - 1

    @property
    def mean(self) -> float:
        """Mean of the lot means, each lot counting alike."""
        return float(np.mean(self.means))

    @property
    def lot_mean_variance(self) -> float | None:
        """Variance of the lot means; None with one lot."""
        return float(np.var(self.means, ddof=1)) if self.df_between else None

    @property
    def within(self) -> float | None:
        """Mean square within lots; None if no lot has two cells."""
        return float(self.sums_of_squares.sum()) / self.df_within if self.df_within else None

    @property
    def between(self) -> float | None:
        """Mean square between lots; None with one lot."""
        if not self.df_between:
            return None
        grand = float(np.average(self.means, weights=self.counts))
        return float(np.sum(self.counts * (self.means - grand) ** 2)) / self.df_between

    @property
    def varies(self) -> bool:
        """Whether any two values differ by more than rounding."""
        largest = max(abs(self.maximum), abs(self.minimum))
        return self.maximum - self.minimum > 4.0 * math.ulp(largest)

    def mean_interval(self, confidence: float = CONFIDENCE) -> Interval | None:
        """Return the t interval on the lot means, lots - 1 degrees of freedom; None with one."""
        if self.lot_mean_variance is None:
            return None
        error = math.sqrt(self.lot_mean_variance / len(self.lots))
        return mean_interval(self.mean, error, self.df_between, confidence)

    def within_interval(self, confidence: float = CONFIDENCE) -> Interval | None:
        """Return the chi-square interval of the standard deviation within lots."""
        return sd_interval(self.within, self.df_within, confidence) if self.within else None


def _rounding(numbers: NDArray[np.float64]) -> float:
    """Return the deviation that rounding alone gives."""
    return 4.0 * float(np.spacing(np.abs(numbers).max()))


@dataclass(frozen=True)
class Components:
    """Variance components by (restricted) maximum likelihood.

    Attributes
    ----------
    lot_variance, cell_variance : float
        In the square of the feature's unit; never negative.
    mean, standard_error : float
        Generalised least-squares mean and its error.
    criterion : float
        Minus twice the (restricted) log-likelihood.
    """

    lot_variance: float
    cell_variance: float
    mean: float
    standard_error: float
    criterion: float


def maximum_likelihood(sample: LotSample, *, restricted: bool = True) -> Components | None:
    """Estimate the variance components of unequal lots.

    The likelihood is profiled over the ratio of the two variances, which leaves one dimension.

    Parameters
    ----------
    sample : LotSample
        At least two lots, and one lot with two cells that differ.
    restricted : bool
        REML, or ML if False.

    Returns
    -------
    Components or None
        None if the sample cannot tell the two variances apart.

    References
    ----------
    .. [1] S. R. Searle, G. Casella, C. E. McCulloch, Variance Components, 1992, chapter 3.
    """
    if not sample.df_between or not sample.within:
        return None
    from scipy.optimize import minimize_scalar

    def cost(logarithm: float) -> float:
        return _profile(sample, math.exp(logarithm), restricted).criterion

    none = _profile(sample, 0.0, restricted)
    ratio = max(float(sample.lot_mean_variance or 0.0) / sample.within, 1e-6)
    grid = np.linspace(math.log(ratio) - 12.0, math.log(ratio) + 4.0, 33)
    best = float(grid[int(np.argmin([cost(float(point)) for point in grid]))])
    found = minimize_scalar(
        cost, bounds=(best - 0.6, best + 0.6), method="bounded", options={"xatol": 1e-9}
    )
    other = _profile(sample, math.exp(float(found.x)), restricted)
    return other if other.criterion < none.criterion - 1e-9 else none


def _profile(sample: LotSample, ratio: float, restricted: bool) -> Components:
    """Return what is likeliest at a given ratio of lot to cell variance."""
    inflation = 1.0 + sample.counts * ratio
    weights = sample.counts / inflation
    mean = float(np.average(sample.means, weights=weights))
    residual = float(sample.sums_of_squares.sum() + np.sum(weights * (sample.means - mean) ** 2))
    df = sample.cells - (1 if restricted else 0)
    variance = residual / df
    criterion = df * math.log(2.0 * math.pi * variance) + float(np.sum(np.log(inflation))) + df
    if restricted:
        criterion += math.log(float(weights.sum()))
    error = math.sqrt(variance / float(weights.sum()))
    return Components(ratio * variance, variance, mean, error, criterion)


@dataclass(frozen=True)
class Pivots:
    """Generalised pivotal quantities: what mean and variances may be, given the sample.

    Each attribute has shape (n,); points of the same place belong together. `lot` is None
    where lots cannot be told from cells; `cell` is then the variance of all cells.
    """

    mean: Array
    cell: Array
    lot: Array | None

    @property
    def total(self) -> Array:
        """Variance of a cell from any lot."""
        return self.cell if self.lot is None else self.cell + self.lot


def pivots(
    sample: LotSample,
    confidence: float = CONFIDENCE,
    *,
    gauge: Array | None = None,
    dimension: int = WITHIN,
    points: int | None = None,
) -> Pivots | None:
    """Return generalised pivotal quantities of mean and variance components.

    The cell variance follows from the chi-square of the sum of squares within lots. Given it,
    the weighted sum of squares of the lot means has, at the true lot variance, a chi-square
    distribution with lots - 1 degrees of freedom also for unequal lots; the lot variance is
    the root of that equation, zero where there is none.

    Parameters
    ----------
    sample : LotSample
        At least two cells that differ.
    confidence : float
        Sets the number of points.
    gauge : ndarray, optional
        Pivotal quantities of the measurement variance, as many as `points`; taken out of the
        cell variance, which stays at zero or above.
    dimension : int
        Of `nodes` for the part within lots.
    points : int, optional
        Number of points; from `confidence` if not given.

    Returns
    -------
    Pivots or None
        None if nothing varies or there is one cell.

    References
    ----------
    .. [1] X. Li, G. Li, Comparison of confidence intervals on the among group variance in the
       unbalanced variance component model, J. Stat. Comput. Simul. 77 (2007) 477.
    .. [2] J. Hartung, G. Knapp, Confidence intervals for the between group variance in the
       unbalanced one-way random effects model, J. Stat. Comput. Simul. 65 (2000) 311.
    """
    if not sample.varies or sample.cells < 2:
        return None
    count = points or points_for(confidence)
    normal = normals(MEAN, count)
    if not sample.df_between or not sample.df_within:
        df = sample.cells - 1
        squares = float(sample.sums_of_squares.sum()) + df * float(sample.lot_mean_variance or 0.0)
        total = squares / chi_squares(df, dimension, count)
        mean = sample.mean - normal * np.sqrt(total / sample.cells)
        return Pivots(mean, _without(total, gauge), None)
    cell = float(sample.sums_of_squares.sum()) / chi_squares(sample.df_within, dimension, count)
    lot = _lot_variances(_floored(sample), sample.counts, cell, chi_squares(
        sample.df_between, LOTS, count))  # fmt: skip
    weights = 1.0 / np.maximum(lot[:, None] + cell[:, None] / sample.counts, 1e-300)
    total_weight = weights.sum(axis=1)
    mean = sample.mean + (weights @ (sample.means - sample.mean)) / total_weight
    return Pivots(mean - normal / np.sqrt(total_weight), _without(cell, gauge), lot)


def _without(variance: Array, gauge: Array | None) -> Array:
    return variance if gauge is None else np.maximum(variance - gauge, 0.0)


def _floored(sample: LotSample) -> Array:
    """Return the deviations of the lot means, raised where they agree by accident."""
    deviations: Array = sample.means - sample.mean
    within, between = sample.within or 0.0, sample.between or 0.0
    least = float(special.fdtri(sample.df_between, sample.df_within, FLOOR)) * within
    if between >= least:
        return deviations
    if between <= 1e-12 * least:
        deviations = np.linspace(-1.0, 1.0, len(sample.lots))
        grand = np.average(deviations, weights=sample.counts)
        between = float(np.sum(sample.counts * (deviations - grand) ** 2)) / sample.df_between
    raised: Array = deviations * math.sqrt(least / between)
    return raised


def _lot_variances(deviations: Array, counts: Array, cell: Array, chi_square: Array) -> Array:
    """Solve ``Σ (d_i - d)² / (v + cell/n_i) = chi_square`` for v >= 0, point by point.

    The left side is convex and falls with v, so Newton's method from below does not overshoot.
    """
    squares = float(np.sum((deviations - deviations.mean()) ** 2))
    lot: Array = np.maximum(squares / chi_square - cell / counts.min(), 0.0)
    if np.ptp(counts) == 0:
        return lot
    for _ in range(_MOST_STEPS):
        weights = 1.0 / (lot[:, None] + cell[:, None] / counts)
        centre = (weights @ deviations) / weights.sum(axis=1)
        residuals = (deviations - centre[:, None]) ** 2
        excess = np.sum(weights * residuals, axis=1) - chi_square
        slope = np.sum(weights**2 * residuals, axis=1)
        step = excess / np.maximum(slope, 1e-300)
        following: Array = np.maximum(lot + step, 0.0)
        if np.all(np.abs(following - lot) <= 1e-8 * (following + cell)):
            return following
        lot = following
    return lot


def root_interval(variance: Array, confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of a standard deviation from pivotal quantities of its square."""
    low, high = central(variance, confidence)
    return math.sqrt(max(low, 0.0)), math.sqrt(max(high, 0.0))


def lot_interval(
    sample: LotSample, drawn: Pivots, confidence: float = CONFIDENCE
) -> Interval | None:
    """Return the interval of the standard deviation between lots.

    The upper end never lies below that of lots whose F ratio is its `FLOOR` quantile, so lot
    deviations smaller than that cannot be missed from above, and an interval with equal tails
    would hold there in 97.5 % of studies or more. Below that value the lower end therefore
    carries `NEAR_ZERO` of the whole risk; above it each end carries half, as usual (the tails
    of a confidence set by inversion may depend on the value that is tested).

    Parameters
    ----------
    sample : LotSample
    drawn : Pivots
        Of the sample.
    confidence : float

    Returns
    -------
    tuple of float or None
        None where lots cannot be told from cells.

    References
    ----------
    .. [1] G. J. Feldman, R. D. Cousins, Unified approach to the classical statistical analysis
       of small signals, Phys. Rev. D 57 (1998) 3873: tails that depend on the value.
    """
    if drawn.lot is None or not sample.within:
        return None
    risk = 1.0 - confidence
    least = float(special.fdtri(sample.df_between, sample.df_within, FLOOR))
    quantile = 2.0 * float(special.gammaincinv(sample.df_between / 2.0, risk / 2.0))
    ratio = max(least * sample.df_between / quantile - 1.0, 0.0)
    unmissed = ratio * sample.within / float(np.mean(sample.counts))
    usual, near_zero, high = np.quantile(drawn.lot, [risk / 2, NEAR_ZERO * risk, 1.0 - risk / 2])
    low = near_zero if near_zero < unmissed else max(usual, unmissed)
    return math.sqrt(max(float(low), 0.0)), math.sqrt(max(float(high), 0.0))
