"""How well cells fit their limits: Cp, Cpk and the share outside, each with its bound."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from batterylab.suppliers.calibration import Levels
from batterylab.suppliers.components import LotSample, Pivots
from batterylab.suppliers.nodes import CONFIDENCE, Array, Interval


@dataclass(frozen=True)
class Indices:
    """Cp and Cpk; None where a limit or the spread is missing."""

    cp: float | None
    cpk: float | None


@dataclass(frozen=True)
class Capability:
    """Capability of a supplier against the limits of one feature.

    Attributes
    ----------
    cp, cpk, cpm : float or None
        Point estimates over all lots (Pp, Ppk and Ppm in AIAG's words); `cp` is None with one
        limit, `cpm` without a target.
    cp_interval, cpk_interval, cpm_interval : tuple of float or None
        Two-sided.
    cpk_lower_95 : float
        One-sided lower 95 % bound.
    n : int
        Cells it rests on.
    fraction_outside : float
        Share of cells outside, for normal cells; between 0 and 1.
    fraction_outside_interval : tuple of float
        Two-sided.
    fraction_outside_lower_99, fraction_outside_upper_95 : float
        One-sided bounds. To prove a failure asks for more than to doubt a success, and the
        lower bound is the less accurate one (``docs/statistics.md``).
    expected_fraction_outside : float
        Mean of the share over what the sample leaves open: the chance that the next cell lies
        outside.
    shares : ndarray
        The share's generalised pivotal quantities.
    """

    cp: float | None
    cpk: float | None
    cpk_lower_95: float
    n: int
    fraction_outside: float
    fraction_outside_lower_99: float
    fraction_outside_upper_95: float
    fraction_outside_interval: Interval
    cpk_interval: Interval
    cp_interval: Interval | None
    cpm: float | None
    cpm_interval: Interval | None
    expected_fraction_outside: float
    shares: Array

    def probability_at_most(self, share: float) -> float:
        """Return the probability that at most this share lies outside, as the draws have it."""
        return float(np.mean(self.shares <= share))


def indices(mean: float, sd: float, lower: float | None, upper: float | None) -> Indices:
    """Return Cp and Cpk of a normal population.

    Parameters
    ----------
    mean, sd : float
        Of single cells.
    lower, upper : float or None
        Limits, in the same unit.

    Returns
    -------
    Indices
        ``Cp = (U - L) / 6 s``, ``Cpk = min(U - m, m - L) / 3 s``.

    References
    ----------
    .. [1] NIST/SEMATECH e-Handbook of Statistical Methods, 6.1.6.
    """
    if sd <= 0:
        return Indices(None, None)
    cp = (upper - lower) / (6.0 * sd) if lower is not None and upper is not None else None
    return Indices(
        None if cp is None else float(cp),
        float(np.min(_margins(np.array(mean), np.array(sd), lower, upper))) / 3.0,
    )


def _margins(mean: Array, sd: Array, lower: float | None, upper: float | None) -> Array:
    """Return the margins to both limits in standard deviations, shape (2, ...)."""
    nowhere = np.full_like(np.asarray(mean, dtype=np.float64), math.inf)
    below = nowhere if lower is None else (mean - lower) / sd
    above = nowhere if upper is None else (upper - mean) / sd
    return np.stack([below, above])


def fraction_outside(
    mean: Array | float, sd: Array | float, lower: float | None, upper: float | None
) -> Array:
    """Return the share of a normal population outside the limits.

    Parameters
    ----------
    mean, sd : float or ndarray
        Of single cells.
    lower, upper : float or None
        Limits, in the same unit.
    """
    margins = _margins(np.asarray(mean, dtype=np.float64), np.asarray(sd), lower, upper)
    shares: Array = special.ndtr(-margins).sum(axis=0)
    return shares


def capability(
    sample: LotSample,
    sd: float | None,
    drawn: Pivots | None,
    lower: float | None,
    upper: float | None,
    *,
    target: float | None = None,
    confidence: float = CONFIDENCE,
    levels: Levels | None = None,
) -> Capability | None:
    """Judge a supplier against limits.

    The bounds are quantiles of the indices' generalised pivotal quantities: mean, lot and
    cell variance vary together as the sample leaves them open. For cells of one lot they are
    the exact bounds of the noncentral t distribution when there is one limit.

    Parameters
    ----------
    sample : LotSample
        The cells.
    sd : float or None
        Standard deviation of single cells, all lots together.
    drawn : Pivots or None
        Of the same sample.
    lower, upper : float or None
        Limits.
    target : float, optional
        For Cpm, ``(U - L) / 6 sqrt(s² + (mean - target)²)``.
    confidence : float
        Of the two-sided intervals.
    levels : Levels, optional
        Which levels of the draws to take, where a gauge study was taken out; draws without a
        spread of the cells are then left out (`batterylab.suppliers.calibration`).

    Returns
    -------
    Capability or None
        None without a spread or without limits.

    References
    ----------
    .. [1] K. Krishnamoorthy, T. Mathew, Statistical Tolerance Regions, 2009, chapters 2, 4, 5.
    """
    if sd is None or drawn is None or sd <= 0 or (lower is None and upper is None):
        return None
    found = indices(sample.mean, sd, lower, upper)
    possible = np.ones(len(drawn.cell), dtype=bool) if levels is None else drawn.cell > 0
    spread = np.sqrt(np.maximum(drawn.total[possible], 1e-300))
    means = drawn.mean[possible]
    cpk = np.min(_margins(means, spread, lower, upper), axis=0) / 3.0
    shares = fraction_outside(means, spread, lower, upper)

    def of_index(level: float) -> float:
        return float(np.quantile(cpk, levels.at(level) if levels else level))

    def of_share(level: float) -> float:
        return float(np.quantile(shares, 1.0 - levels.at(1.0 - level) if levels else level))

    tail = (1.0 - confidence) / 2.0
    width = None if lower is None or upper is None else upper - lower
    both = None if width is None else width / 6.0 / spread
    off = None if width is None or target is None else np.hypot(spread, means - target)
    return Capability(
        cp=found.cp,
        cpk=found.cpk,
        cpk_lower_95=of_index(0.05),
        n=sample.cells,
        fraction_outside=float(fraction_outside(sample.mean, sd, lower, upper)),
        fraction_outside_lower_99=of_share(0.01),
        fraction_outside_upper_95=of_share(0.95),
        fraction_outside_interval=(of_share(tail), of_share(1.0 - tail)),
        cpk_interval=(of_index(tail), of_index(1.0 - tail)),
        cp_interval=None if both is None else _ends(both, tail),
        cpm=None if width is None or target is None
        else width / 6.0 / math.hypot(sd, sample.mean - target),
        cpm_interval=None if width is None or off is None else _ends(width / 6.0 / off, tail),
        expected_fraction_outside=float(np.mean(shares)),
        shares=shares,
    )  # fmt: skip


def _ends(values: Array, tail: float) -> Interval:
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)
