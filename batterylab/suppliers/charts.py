"""Control charts for lots: Shewhart, EWMA, CUSUM, with run lengths computed for the design.

Limits from fewer than `FIRM_LOTS` lots are provisional: their false-alarm rate is not yet the
one that the design has with known limits.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from batterylab.errors import BatterylabError
from batterylab.suppliers.nodes import Array
from batterylab.suppliers.noncentral import legendre

FIRM_LOTS = 20
#: weight of the newest lot, and limits in standard deviations of the statistic
EWMA = (0.2, 2.962)
#: reference value and decision interval, in standard deviations
CUSUM = (0.5, 5.0)
_NODES = 96


@lru_cache(maxsize=128)
def range_factors(count: int) -> tuple[float, float]:
    """Return d2 and d3: mean and standard deviation of the range of `count` unit normals.

    ``E[R] = ∫ 1 - (1 - Φ(x))^n - Φ(x)^n dx``; the second moment is a double integral over
    ``x < y`` of the joint distribution of the extremes (L. H. C. Tippett, Biometrika 17 (1925)
    364).

    Examples
    --------
    >>> [round(value, 4) for value in range_factors(5)]
    [2.3259, 0.8641]
    """
    if count < 2:
        raise BatterylabError("one value has no range", hint="groups of two or more")
    points, weights = legendre(200)
    x = 8.5 * points
    below = special.ndtr(x)
    first = float(8.5 * weights @ (1.0 - (1.0 - below) ** count - below**count))
    gaps = 8.5 * (points + 1.0)
    other = special.ndtr(x[:, None] + gaps)
    density = np.exp(-0.5 * x**2) / math.sqrt(2.0 * math.pi)
    # P(R <= g) = n ∫ φ(x) (Φ(x + g) - Φ(x))^(n-1) dx
    spread = count * (8.5 * weights * density) @ (other - below[:, None]) ** (count - 1)
    second = float(8.5 * weights @ (2.0 * gaps * (1.0 - spread)))
    return first, math.sqrt(second - first**2)


def c4(count: int) -> float:
    """Return the mean of the standard deviation of `count` unit normals."""
    half = 0.5 * (count - 1)
    return math.exp(math.lgamma(half + 0.5) - math.lgamma(half)) / math.sqrt(half)


@dataclass(frozen=True)
class Chart:
    """A chart: what was plotted, and between which limits.

    Attributes
    ----------
    points : ndarray, shape (n,)
    centre, sd : float
        Of a point, without a change; `sd` is the one behind the limits.
    lower, upper : float
    """

    points: Array
    centre: float
    sd: float
    lower: float
    upper: float

    @property
    def beyond(self) -> list[int]:
        """Places of the points outside the limits."""
        outside = (self.points < self.lower) | (self.points > self.upper)
        return [int(place) for place in np.flatnonzero(outside)]


def mean_chart(groups: Array, first: int | None = None, width: float = 3.0) -> Chart:
    """Return the chart of group means; the ranges within the first groups set the limits.

    Parameters
    ----------
    groups : ndarray, shape (groups, cells)
        In order of time.
    first : int, optional
        So many groups set the limits; all if not given.
    width : float
        Limits, in standard deviations of a mean.

    Returns
    -------
    Chart
        `sd` is that of single values, mean range over d2.
    """
    base = groups[:first]
    cells = base.shape[1]
    sd = float(np.ptp(base, axis=1).mean()) / range_factors(cells)[0]
    reach = width * sd / math.sqrt(cells)
    centre = float(base.mean())
    return Chart(groups.mean(axis=1), centre, sd, centre - reach, centre + reach)


def range_chart(groups: Array, first: int | None = None, width: float = 3.0) -> Chart:
    """Return the chart of ranges; `sd` is that of single values. See `mean_chart`."""
    ranges = np.ptp(groups, axis=1)
    centre = float(ranges[:first].mean())
    d2, d3 = range_factors(groups.shape[1])
    sd = centre / d2
    return Chart(ranges, centre, sd, max(0.0, centre - width * d3 * sd), centre + width * d3 * sd)


def sd_chart(groups: Array, first: int | None = None, width: float = 3.0) -> Chart:
    """Return the chart of standard deviations; `sd` is that of values. See `mean_chart`."""
    found = groups.std(axis=1, ddof=1)
    centre = float(found[:first].mean())
    factor = c4(groups.shape[1])
    sd = centre / factor
    reach = width * sd * math.sqrt(1.0 - factor**2)
    return Chart(found, centre, sd, max(0.0, centre - reach), centre + reach)


def individuals_chart(values: Array, first: int | None = None, width: float = 3.0) -> Chart:
    """Return the chart of single values (lot means): sigma from the mean moving range.

    Parameters
    ----------
    values : ndarray, shape (n,)
        In order of time, two or more.
    first : int, optional
        So many values set the limits; all if not given.
    width : float
        Limits, in standard deviations.
    """
    base = values[:first]
    if len(base) < 2:
        raise BatterylabError("one value sets no limits", hint="two or more")
    sd = float(np.abs(np.diff(base)).mean()) / range_factors(2)[0]
    centre = float(base.mean())
    return Chart(values, centre, sd, centre - width * sd, centre + width * sd)


def ewma_chart(
    values: Array, target: float, sd: float, weight: float = EWMA[0], width: float = EWMA[1]
) -> Chart:
    """Return the chart of exponentially weighted means with its limits of the long run.

    Parameters
    ----------
    values : ndarray, shape (n,)
        In order of time.
    target, sd : float
        Of a value without a change.
    weight : float
        Of the newest value, 0 to 1.
    width : float
        Limits, in standard deviations of the weighted mean.

    References
    ----------
    .. [1] NIST/SEMATECH e-Handbook of Statistical Methods, 6.3.2.4.
    """
    points = np.empty(len(values))
    state = target
    for place, value in enumerate(values):
        state = weight * float(value) + (1.0 - weight) * state
        points[place] = state
    reach = width * sd * math.sqrt(weight / (2.0 - weight))
    return Chart(points, target, sd, target - reach, target + reach)


@dataclass(frozen=True)
class CusumChart:
    """A tabular CUSUM.

    Attributes
    ----------
    high, low : ndarray, shape (n,)
        Sums of what lies above and below the target by more than the reference value.
    limit : float
        A sum beyond it is a signal.
    """

    high: Array
    low: Array
    limit: float

    @property
    def beyond(self) -> list[int]:
        """Places where one of the sums lies beyond the limit."""
        outside = (self.high > self.limit) | (self.low > self.limit)
        return [int(place) for place in np.flatnonzero(outside)]


def cusum_chart(values: Array, target: float, reference: float, limit: float) -> CusumChart:
    """Return the two one-sided cumulative sums.

    Parameters
    ----------
    values : ndarray, shape (n,)
        In order of time.
    target : float
    reference, limit : float
        k and h, in the unit of the values.

    References
    ----------
    .. [1] NIST/SEMATECH e-Handbook of Statistical Methods, 6.3.2.3.
    """
    sums = np.zeros((2, len(values)))
    state = np.zeros(2)
    for place, value in enumerate(values):
        off = float(value) - target
        state = np.maximum(state + np.array([off, -off]) - reference, 0.0)
        sums[:, place] = state
    return CusumChart(sums[0], sums[1], limit)


# Run lengths


def shewhart_run_length(shift: float, width: float = 3.0) -> float:
    """Return the mean number of points to a signal.

    Parameters
    ----------
    shift : float
        Of the mean, in standard deviations of a point.
    width : float
        Of the limits, the same.
    """
    return 1.0 / float(special.ndtr(shift - width) + special.ndtr(-shift - width))


def _normal(x: Array) -> Array:
    density: Array = np.exp(-0.5 * x**2) / math.sqrt(2.0 * math.pi)
    return density


def ewma_run_length(shift: float, weight: float = EWMA[0], width: float = EWMA[1]) -> float:
    """Return the mean number of points to a signal of an EWMA that starts at its target.

    The statistic is a Markov chain; the equation for its mean time inside the limits is solved
    at Gauss and Legendre's points.

    Parameters
    ----------
    shift : float
        Of the mean, in standard deviations of a value.
    weight, width : float
        See `ewma_chart`.

    References
    ----------
    .. [1] S. V. Crowder, A simple method for studying run-length distributions of EWMA
       charts, Technometrics 29 (1987) 401.
    """
    reach = width * math.sqrt(weight / (2.0 - weight))
    points, weights = legendre(_NODES)
    x = reach * points

    def kernel(start: Array) -> Array:
        step = (x - (1.0 - weight) * start[:, None]) / weight - shift
        return _normal(step) * (reach * weights / weight)

    inside = np.linalg.solve(np.eye(_NODES) - kernel(x), np.ones(_NODES))
    return 1.0 + float((kernel(np.zeros(1)) @ inside)[0])


def cusum_run_length(shift: float, reference: float = CUSUM[0], limit: float = CUSUM[1]) -> float:
    """Return the mean number of points to a signal of a two-sided CUSUM that starts at zero.

    Each side is a Markov chain on 0 and (0, limit), solved as in `ewma_run_length`; both sides
    together signal at the sum of their rates, which is exact where a sum on one side is zero
    when the other signals.

    Parameters
    ----------
    shift : float
        Of the mean, in standard deviations of a value.
    reference, limit : float
        In the same unit.

    References
    ----------
    .. [1] D. Brook, D. A. Evans, An approach to the probability distribution of cusum run
       length, Biometrika 59 (1972) 539.
    .. [2] C. S. Van Dobben de Bruyn, Cumulative Sum Tests, 1968.
    """
    return 1.0 / sum(1.0 / _one_sided(side * shift, reference, limit) for side in (1.0, -1.0))


def _one_sided(shift: float, reference: float, limit: float) -> float:
    points, weights = legendre(_NODES)
    x = 0.5 * limit * (points + 1.0)
    starts = np.concatenate([[0.0], x])
    drift = reference - shift
    to_zero = special.ndtr(drift - starts)
    to_points = _normal(x - starts[:, None] + drift) * (0.5 * limit * weights)
    moves = np.column_stack([to_zero, to_points])
    return float(np.linalg.solve(np.eye(_NODES + 1) - moves, np.ones(_NODES + 1))[0])


# When did it change


@dataclass(frozen=True)
class Change:
    """A step in the mean of values in order of time.

    Attributes
    ----------
    place : int
        The first value after the step.
    shift : float
        Mean after less mean before.
    p_value : float
        How often values without any step show one as clear, wherever it be.
    """

    place: int
    shift: float
    p_value: float


def change_point(values: Array, *, trials: int = 1999) -> Change | None:
    """Return the likeliest place of one step in the mean.

    The largest of the two-sample t statistics over all places is held against the same of the
    values in random order (a permutation test, whose draws are fixed), so that looking at all
    places is allowed for.

    Parameters
    ----------
    values : ndarray, shape (n,)
        In order of time.
    trials : int
        Random orders.

    Returns
    -------
    Change or None
        None for fewer than five values or equal ones. The shift at the likeliest place is
        larger, on average, than the true one.

    References
    ----------
    .. [1] D. M. Hawkins, Testing a sequence of observations for a shift in location,
       J. Am. Stat. Assoc. 72 (1977) 180.
    """
    count = len(values)
    if count < 5 or not np.ptp(values) > 1e-12 * float(np.abs(values).max()):
        return None
    centred = np.asarray(values, dtype=np.float64) - np.mean(values)
    rng = np.random.default_rng(20260101)
    shuffled = rng.permuted(np.tile(centred, (trials, 1)), axis=1)
    before = np.arange(1, count)
    scale = before * (count - before) / count

    def clearness(rows: Array) -> Array:
        sums = np.cumsum(rows, axis=1)[:, :-1]
        gaps = sums / before + sums / (count - before)
        found: Array = scale * gaps**2
        return found

    own = clearness(centred[None, :])[0]
    place = int(np.argmax(own)) + 1
    most = clearness(shuffled).max(axis=1)
    p_value = (1 + int(np.sum(most >= own.max() * (1.0 - 1e-12)))) / (trials + 1)
    shift = float(centred[place:].mean() - centred[:place].mean())
    return Change(place, shift, p_value)


def change_range(values: Array, confidence: float = 0.95) -> tuple[int, int]:
    """Return the first and the last place at which one step may have happened.

    Those whose likelihood, one step there against the best one, is not worse than the χ²
    quantile with one degree of freedom.

    Parameters
    ----------
    values : ndarray, shape (n,)
        In order of time, three or more that differ.
    confidence : float
    """
    count = len(values)
    squares = np.array([
        float(np.var(values[:place]) * place + np.var(values[place:]) * (count - place))
        for place in range(1, count)
    ])  # fmt: skip
    best = max(float(squares.min()), 1e-12 * float(np.var(values)) * count)
    drop = count * np.log(np.maximum(squares, best) / best)
    may = np.flatnonzero(drop <= float(special.chdtri(1.0, 1.0 - confidence))) + 1
    return int(may[0]), int(may[-1])
