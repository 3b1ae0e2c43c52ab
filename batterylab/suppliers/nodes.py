"""Evenly spread points in place of random draws: the same input gives the same interval.

Generalised confidence intervals (see `components`) need the quantiles of a function of a few
independent chi-square and normal variables. They are integrated over a Kronecker sequence
(the multiples of square roots of primes, modulo 1), whose points lie more evenly than random
ones, so that no seed is needed.

Source: L. Kuipers, H. Niederreiter, Uniform Distribution of Sequences, 1974, chapter 2.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
Interval = tuple[float, float]

CONFIDENCE = 0.95
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
_LEAST, _MOST = 1 << 12, 1 << 18


def points_for(confidence: float = CONFIDENCE) -> int:
    """Return how many points resolve the tails of a two-sided interval.

    Parameters
    ----------
    confidence : float
        Between 0 and 1.

    Returns
    -------
    int
        So many that about a hundred points lie beyond each end, at most 262144.
    """
    tail = (1.0 - confidence) / 2.0
    wanted = 100.0 / max(tail, 1e-12)
    power = math.ceil(math.log2(max(wanted, 1.0)))
    return min(_MOST, max(_LEAST, 1 << power))


@lru_cache(maxsize=64)
def uniforms(dimension: int, count: int) -> Array:
    """Return `count` points in (0, 1), evenly spread and in an order that depends on `dimension`.

    Parameters
    ----------
    dimension : int
        From 0 to 11; different ones behave as independent.
    count : int
        Number of points.
    """
    steps = np.arange(count, dtype=np.float64) + 0.5
    points = np.mod(steps * math.sqrt(_PRIMES[dimension]), 1.0)
    half = 0.5 / count
    points = np.clip(points, half / 64, 1.0 - half / 64)
    points.setflags(write=False)
    return points


@lru_cache(maxsize=512)
def chi_squares(degrees_of_freedom: float, dimension: int, count: int) -> Array:
    """Return the points as chi-square quantiles; see `uniforms`."""
    points = 2.0 * special.gammaincinv(degrees_of_freedom / 2.0, uniforms(dimension, count))
    values: Array = np.maximum(points, np.finfo(np.float64).tiny)
    values.setflags(write=False)
    return values


@lru_cache(maxsize=64)
def normals(dimension: int, count: int) -> Array:
    """Return the points as standard normal quantiles; see `uniforms`."""
    values: Array = special.ndtri(uniforms(dimension, count))
    values.setflags(write=False)
    return values


def central(values: Array, confidence: float = CONFIDENCE) -> Interval:
    """Return the two quantiles that leave equal tails outside."""
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)


def t_quantile(probability: float, degrees_of_freedom: float) -> float:
    """Return a quantile of Student's t."""
    return float(special.stdtrit(degrees_of_freedom, probability))


def sd_interval(
    variance: float, degrees_of_freedom: float, confidence: float = CONFIDENCE
) -> Interval:
    """Return the chi-square interval of a standard deviation.

    Parameters
    ----------
    variance : float
        A mean square with `degrees_of_freedom`.

    Returns
    -------
    tuple of float
        ``sqrt(v s²/χ²)`` at both ends.
    """
    tail = (1.0 - confidence) / 2.0
    half = degrees_of_freedom / 2.0
    scale = degrees_of_freedom * variance
    high = 2.0 * float(special.gammaincinv(half, tail))
    low = 2.0 * float(special.gammainccinv(half, tail))
    return math.sqrt(scale / low), math.sqrt(scale / high)


def mean_interval(
    mean: float, standard_error: float, degrees_of_freedom: float, confidence: float = CONFIDENCE
) -> Interval:
    """Return the t interval of a mean."""
    reach = t_quantile(0.5 + confidence / 2.0, degrees_of_freedom) * standard_error
    return mean - reach, mean + reach


def effective_degrees_of_freedom(variances: Array, degrees_of_freedom: Array) -> float:
    """Return Welch and Satterthwaite's degrees of freedom of a sum of variances.

    Parameters
    ----------
    variances : ndarray, shape (n,)
        Independent estimates, each already with its coefficient.
    degrees_of_freedom : ndarray, shape (n,)
        Of each estimate.

    Returns
    -------
    float
        ``(Σ v)² / Σ (v²/ν)``; infinity if all variances are zero.

    References
    ----------
    .. [1] JCGM 100:2008, G.4.1.
    """
    below = float(np.sum(variances**2 / degrees_of_freedom))
    return float(np.sum(variances)) ** 2 / below if below > 0 else math.inf
