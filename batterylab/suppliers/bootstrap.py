"""Bootstrap intervals of any statistic of independent cells, for where there is no formula."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from batterylab.errors import BatterylabError
from batterylab.suppliers.nodes import CONFIDENCE, Array, Interval

RESAMPLES = 20_000


@dataclass(frozen=True)
class Bootstrap:
    """What resampling says of a statistic.

    Attributes
    ----------
    estimate : float
        Of the sample.
    standard_error, jackknife_error : float
    percentile, bca : tuple of float
        Intervals; the second is corrected for bias and for a spread that changes with the value.
    """

    estimate: float
    standard_error: float
    jackknife_error: float
    percentile: Interval
    bca: Interval


def bootstrap(
    rows: Array, statistic: Callable[[Array], float], *, confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES, seed: int = 1,
) -> Bootstrap:  # fmt: skip
    """Resample rows and return the intervals of a statistic.

    Parameters
    ----------
    rows : ndarray, shape (n, ...)
        Independent; cells of several lots are not: resample lots then.
    statistic : callable
        Of an array like `rows`.
    confidence : float
    resamples, seed : int
        Draws are fixed by the seed.

    Raises
    ------
    BatterylabError
        With fewer than five rows, or where the statistic is not finite.

    References
    ----------
    .. [1] B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 14.
    """
    values = np.asarray(rows, dtype=np.float64)
    count = len(values)
    if count < 5:
        raise BatterylabError(f"{count} rows are too few to resample", hint="five or more")
    estimate = float(statistic(values))
    rng = np.random.default_rng(seed)
    drawn = np.array([statistic(values[rng.integers(count, size=count)])
                      for _ in range(resamples)])  # fmt: skip
    left = np.array([statistic(np.delete(values, place, axis=0)) for place in range(count)])
    if not (np.isfinite(estimate) and np.isfinite(left).all() and np.isfinite(drawn).all()):
        raise BatterylabError("the statistic of a resample is not finite",
                              hint="choose one that any sample has")  # fmt: skip
    off = left.mean() - left
    squares = float(np.sum(off**2))
    bend = float(np.sum(off**3)) / (6.0 * squares**1.5) if squares > 0 else 0.0
    below = (np.sum(drawn < estimate) + 0.5 * np.sum(drawn == estimate)) / resamples
    shift = float(special.ndtri(np.clip(below, 0.5 / resamples, 1.0 - 0.5 / resamples)))
    tail = (1.0 - confidence) / 2.0
    levels = []
    for share in (tail, 1.0 - tail):
        z = shift + float(special.ndtri(share))
        levels.append(float(special.ndtr(shift + z / (1.0 - bend * z))))
    plain = np.quantile(drawn, [tail, 1.0 - tail])
    better = np.quantile(drawn, levels)
    return Bootstrap(
        estimate, float(drawn.std(ddof=1)), float(np.sqrt((count - 1) / count * squares)),
        (float(plain[0]), float(plain[1])), (float(better[0]), float(better[1])),
    )  # fmt: skip
