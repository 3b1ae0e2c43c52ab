"""Spread that a few odd cells do not move, to find the odd ones."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from batterylab.suppliers.nodes import Array

#: a value this many robust standard deviations from its lot's median is named as odd
ODD_BEYOND = 6.0
#: cells a lot, on average, below which a lot's median says too little
_LEAST_PER_LOT = 4
_QN = 1.0 / (math.sqrt(2.0) * float(special.ndtri(0.625)))
_SMALL = (0.399356, 0.99365, 0.51321, 0.84401, 0.61220, 0.85877, 0.66993, 0.87344,
          0.72014, 0.88906, 0.75743)  # fmt: skip
_LARGEST = 2000


def mad(values: Sequence[float] | Array) -> float:
    """Return the median absolute deviation, scaled to the sigma of a normal distribution.

    No finite-sample factor is applied.
    """
    numbers = np.asarray(values, dtype=np.float64)
    return float(np.median(np.abs(numbers - np.median(numbers))) / special.ndtri(0.75))


def qn(values: Sequence[float] | Array, *, corrected: bool = True) -> float:
    """Return Rousseeuw and Croux's Qn: a quartile of the distances between all pairs.

    Parameters
    ----------
    values : array_like, shape (n,)
        At least two.
    corrected : bool
        Apply the finite-sample factor of R's robustbase.

    Returns
    -------
    float
        An estimate of sigma for normal values, 82 % efficient, sound up to half the values
        being wrong.

    References
    ----------
    .. [1] P. J. Rousseeuw, C. Croux, Alternatives to the median absolute deviation,
       J. Am. Stat. Assoc. 88 (1993) 1273.
    """
    numbers = np.asarray(values, dtype=np.float64)
    n = len(numbers)
    first, second = np.triu_indices(n, 1)
    distances = np.abs(numbers[first] - numbers[second])
    half = n // 2 + 1
    raw = _QN * float(np.partition(distances, half * (half - 1) // 2 - 1)[
        half * (half - 1) // 2 - 1])  # fmt: skip
    return raw * (_factor(n) if corrected else 1.0)


def _factor(n: int) -> float:
    if n <= 12:
        return _SMALL[n - 2]
    if n % 2:
        excess = 1.60188 + (-2.1284 - 5.172 / n) / n
    else:
        excess = 3.67561 + (1.9654 + (6.987 - 77.0 / n) / n) / n
    return 1.0 / (excess / n + 1.0)


def odd_ones(values: Sequence[float] | Array, lots: Sequence[str]) -> list[tuple[int, float]]:
    """Return the places of values far off their lot, with the distance in robust sigmas.

    Sigma is Qn of the deviations from the lot medians, over ``sqrt(1 - k/n)`` for the k medians
    taken out. Of normal values a sample of 24 in 3 lots names one in fewer than 3 of 1000 cases.

    Parameters
    ----------
    values : array_like, shape (n,)
        Of one supplier; fewer than eight, or than four a lot, are too few to call one odd.
    lots : sequence of str
        Lot of each.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not 8 <= len(numbers) <= _LARGEST:
        return []
    names = np.asarray(lots)
    count = len(set(lots))
    if len(numbers) < _LEAST_PER_LOT * count:
        return []
    residuals = numbers.copy()
    for name in set(lots):
        residuals[names == name] -= np.median(numbers[names == name])
    sigma = qn(residuals) / math.sqrt(1.0 - count / len(numbers))
    if not sigma > 0:
        return []
    far = np.flatnonzero(np.abs(residuals) > ODD_BEYOND * sigma)
    return [(int(place), float(residuals[place] / sigma)) for place in far]
