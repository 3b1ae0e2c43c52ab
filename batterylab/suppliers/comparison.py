"""Compare suppliers: difference of means on lot means, ratio of spreads, who is likelier best.

Prior of every probability here: flat in each supplier's mean and 1/sigma in the standard
deviation of its lot means, independent between suppliers. The posterior of a mean is then
Student's t around the mean of the lot means, with lots - 1 degrees of freedom.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from batterylab.suppliers.components import OTHER, WITHIN, LotSample, pivots
from batterylab.suppliers.nodes import (
    CONFIDENCE,
    Array,
    Interval,
    central,
    effective_degrees_of_freedom,
    points_for,
    t_quantile,
)

PRIOR = (
    "prior: flat in each supplier's mean, 1/sigma in the standard deviation of its lot means, "
    "suppliers independent"
)
_NODES = 2001


@dataclass(frozen=True)
class Posterior:
    """Posterior of a mean: Student's t at `centre` with `scale`."""

    centre: float
    scale: float
    degrees_of_freedom: float

    def cdf(self, values: Array) -> Array:
        """Return the probability that the mean lies below each value."""
        result: Array = special.stdtr(self.degrees_of_freedom, (values - self.centre) / self.scale)
        return result

    def quantiles(self, shares: Array) -> Array:
        """Return the values below which the mean lies with the given probabilities."""
        result: Array = self.centre + self.scale * special.stdtrit(self.degrees_of_freedom, shares)
        return result


def posterior_of(mean: float, sd: float, count: int) -> Posterior:
    """Return the posterior of a mean.

    Parameters
    ----------
    mean, sd : float
        Of `count` independent normal values (lot means, where there are lots).

    References
    ----------
    .. [1] G. E. P. Box, G. C. Tiao, Bayesian Inference in Statistical Analysis, 1973, 2.4.
    """
    return Posterior(mean, sd / math.sqrt(count), count - 1)


def supplier_posterior(sample: LotSample) -> Posterior | None:
    """Return the posterior of a supplier's mean; None with one lot or equal lot means."""
    variance = sample.lot_mean_variance
    if not variance:
        return None
    return posterior_of(sample.mean, math.sqrt(variance), len(sample.lots))


def probability_of_best(posteriors: Sequence[Posterior], *, higher: bool = True) -> list[float]:
    """Return for each posterior the probability that its value is the best of all.

    For A that is the mean, over A's posterior, of the product of the others' distribution
    functions; A's posterior is cut into equal probabilities.

    Parameters
    ----------
    posteriors : sequence of Posterior
        Of independent suppliers.
    higher : bool
        Whether the higher value is the better one.
    """
    shares = (np.arange(_NODES) + 0.5) / _NODES
    found = []
    for number, own in enumerate(posteriors):
        values = own.quantiles(shares)
        product = np.ones(_NODES)
        for other in (*posteriors[:number], *posteriors[number + 1 :]):
            below = other.cdf(values)
            product *= below if higher else 1.0 - below
        found.append(float(product.mean()))
    total = sum(found)
    return [share / total for share in found] if total > 0 else found


def probability_sigma_smaller(sd_a: float, n_a: int, sd_b: float, n_b: int) -> float:
    """Return the posterior probability that A's standard deviation is below B's.

    Parameters
    ----------
    sd_a, sd_b : float
        Of `n_a` and `n_b` independent normal values.

    References
    ----------
    .. [1] G. E. P. Box, G. C. Tiao, Bayesian Inference in Statistical Analysis, 1973, 2.6.
    """
    return float(special.fdtr(n_a - 1, n_b - 1, (sd_b / sd_a) ** 2))


@dataclass(frozen=True)
class Difference:
    """A difference of two means without assuming equal spreads (Welch).

    Attributes
    ----------
    difference, standard_error : float
        A minus B.
    degrees_of_freedom : float
        Welch and Satterthwaite's.
    """

    difference: float
    standard_error: float
    degrees_of_freedom: float

    def p_above(self, bound: float) -> float:
        """Return the one-sided p-value of the hypothesis that the difference is at most `bound`."""
        ratio = (self.difference - bound) / self.standard_error
        return float(special.stdtr(self.degrees_of_freedom, -ratio))

    @property
    def p_value(self) -> float:
        """The two-sided p-value of no difference."""
        ratio = abs(self.difference) / self.standard_error
        return 2.0 * float(special.stdtr(self.degrees_of_freedom, -ratio))

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """Return the t interval of the difference."""
        reach = t_quantile(0.5 + confidence / 2.0, self.degrees_of_freedom) * self.standard_error
        return self.difference - reach, self.difference + reach


def welch(a: Array, b: Array) -> Difference | None:
    """Return the difference of the means of two samples (for suppliers: of lot means).

    Returns
    -------
    Difference or None
        None if one of them has a single value, or neither varies.

    References
    ----------
    .. [1] B. L. Welch, Biometrika 34 (1947) 28.
    """
    if len(a) < 2 or len(b) < 2:
        return None
    variances = np.array([np.var(a, ddof=1) / len(a), np.var(b, ddof=1) / len(b)])
    if not variances.sum() > 0:
        return None
    df = effective_degrees_of_freedom(variances, np.array([len(a) - 1.0, len(b) - 1.0]))
    return Difference(float(np.mean(a) - np.mean(b)), math.sqrt(float(variances.sum())), df)


def sigma_ratio_interval(
    a: LotSample,
    b: LotSample,
    confidence: float = CONFIDENCE,
    *,
    gauge: Array | None = None,
) -> tuple[float | None, float | None] | None:
    """Return the interval of the ratio of the cell-to-cell standard deviations, A over B.

    Parameters
    ----------
    gauge : ndarray, optional
        Pivotal quantities of the measurement variance, taken out of both.

    Returns
    -------
    tuple or None
        Without `gauge` the F interval. With it an end is None where the corrected spread in
        the denominator may be zero. None if one of the two has no spread.
    """
    if not a.within or not b.within:
        return None
    tail = (1.0 - confidence) / 2.0
    if gauge is None:
        ratio = a.within / b.within
        high = float(special.fdtri(a.df_within, b.df_within, 1.0 - tail))
        low = float(special.fdtri(a.df_within, b.df_within, tail))
        return math.sqrt(ratio / high), math.sqrt(ratio / low)
    count = points_for(confidence)
    ours = pivots(a, confidence, gauge=gauge, dimension=WITHIN, points=count)
    theirs = pivots(b, confidence, gauge=gauge, dimension=OTHER, points=count)
    if ours is None or theirs is None:
        return None
    squares = np.divide(
        ours.cell, theirs.cell, out=np.full(count, np.finfo(np.float64).max),
        where=theirs.cell > 0,
    )  # fmt: skip
    low, high = central(squares, confidence)
    return _root(low), _root(high)


def _root(square: float) -> float | None:
    return math.sqrt(square) if square < 1e12 else None
