"""What spread costs in a pack: the weakest of the series groups ends the discharge."""

import math
from functools import lru_cache

import numpy as np
from scipy import special

_POINTS = 20001
_REACH = 10.0


@lru_cache(maxsize=256)
def expected_maximum(count: int) -> float:
    """Return the expected largest of `count` independent standard normal values.

    ``e(n) = ∫ (1 - Φ(x)^n) dx over x > 0 - ∫ Φ(x)^n dx over x < 0``, by Simpson's rule.

    Parameters
    ----------
    count : int
        At least 1.

    References
    ----------
    .. [1] H. A. David, H. N. Nagaraja, Order Statistics, 2003, 3.1.

    Examples
    --------
    >>> round(expected_maximum(96), 3)
    2.493
    """
    if count == 1:
        return 0.0
    x = np.linspace(0.0, _REACH, _POINTS)
    above = -np.expm1(count * special.log_ndtr(x)) - np.exp(count * special.log_ndtr(-x))
    weights = np.full(_POINTS, 2.0)
    weights[1::2] = 4.0
    weights[0] = weights[-1] = 1.0
    return float(np.sum(weights * above)) * _REACH / (_POINTS - 1) / 3.0


def loss_percent(cv_percent: float, series: int, parallel: int) -> float:
    """Return how much less a pack holds than its mean cells would, in percent.

    Parameters
    ----------
    cv_percent : float
        Coefficient of variation of the cells' capacity.
    series, parallel : int
        Cells are drawn at random: `parallel` to a group, `series` groups.

    Returns
    -------
    float
        ``e(series) CV / sqrt(parallel)``.
    """
    return expected_maximum(series) * cv_percent / math.sqrt(parallel)
