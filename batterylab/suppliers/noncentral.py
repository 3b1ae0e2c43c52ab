"""Student's noncentral t distribution, by quadrature: what plans and tolerance factors rest on.

Own code because the plans need it over wide ranges (shifts up to fifty, one to a thousand
degrees of freedom) and alike with every scipy.
"""

import math
from functools import lru_cache

import numpy as np
from scipy import special

from batterylab.suppliers.nodes import Array

_NODES = 400
_REACH = 9.5


@lru_cache(maxsize=8)
def legendre(count: int) -> tuple[Array, Array]:
    """Return Gauss and Legendre's points and weights on (-1, 1)."""
    points, weights = np.polynomial.legendre.leggauss(count)
    return points, weights


@lru_cache(maxsize=2048)
def _scales(degrees_of_freedom: float) -> tuple[Array, Array]:
    """Return points of s = sqrt(chi-square/df) and their probabilities."""
    half = 0.5 * degrees_of_freedom
    reach = _REACH / math.sqrt(2.0 * degrees_of_freedom)
    low, high = max(0.0, 1.0 - reach), 1.0 + reach
    points, weights = legendre(_NODES)
    s = low + 0.5 * (high - low) * (points + 1.0)
    logarithm = (
        math.log(2.0)
        + half * math.log(half)
        - math.lgamma(half)
        + (degrees_of_freedom - 1.0) * np.log(s)
        - half * s**2
    )
    density = np.exp(logarithm) * weights
    return s, density / density.sum()


def noncentral_t_cdf(t: float | Array, degrees_of_freedom: float, shift: float | Array) -> Array:
    """Return the probability that noncentral t lies at or below `t`.

    ``P = ∫ Φ(t s - shift) f(s) ds`` with s the standard deviation of a unit normal sample.

    Parameters
    ----------
    t : float or ndarray
        Values.
    degrees_of_freedom : float
        At least 1.
    shift : float or ndarray
        Noncentrality; broadcast against `t`.

    Returns
    -------
    ndarray
        Of the shape of both.

    References
    ----------
    .. [1] D. B. Owen, A survey of properties and applications of the noncentral
       t-distribution, Technometrics 10 (1968) 445.
    """
    s, probability = _scales(float(degrees_of_freedom))
    values = np.multiply.outer(np.asarray(t, dtype=np.float64), s)
    share: Array = special.ndtr(values - np.asarray(shift, dtype=np.float64)[..., None])
    result: Array = share @ probability
    return result


def noncentral_t_quantile(probability: float, degrees_of_freedom: float, shift: float) -> float:
    """Return the value below which noncentral t lies with the given probability."""
    from scipy.optimize import brentq

    def excess(t: float) -> float:
        return float(noncentral_t_cdf(t, degrees_of_freedom, shift)) - probability

    low, high = shift - 4.0, shift + 4.0
    while excess(low) > 0:
        low -= 2.0 * (shift - low)
    while excess(high) < 0:
        high += 2.0 * (high - shift)
    return float(brentq(excess, low, high, xtol=1e-12, rtol=1e-13))
