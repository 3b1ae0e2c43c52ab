"""Tolerance intervals: limits that a stated share of cells lies within, with stated confidence."""

import math
from functools import lru_cache

import numpy as np
from scipy import special

from batterylab.errors import BatterylabError
from batterylab.suppliers.components import Pivots
from batterylab.suppliers.nodes import Array, Interval
from batterylab.suppliers.noncentral import legendre, noncentral_t_quantile

_NODES = 120
_REACH = 8.5


def _checked(count: int, share: float, confidence: float) -> None:
    if count < 2 or not (0.0 < share < 1.0 and 0.0 < confidence < 1.0):
        raise BatterylabError(
            f"no tolerance interval of {count} values for a share {share:g} at {confidence:g}",
            hint="two values or more; share and confidence between 0 and 1",
        )


def one_sided_factor(count: int, share: float, confidence: float = 0.95) -> float:
    """Return k of the exact one-sided bound, mean - k s or mean + k s, of normal values.

    Parameters
    ----------
    count : int
        Independent values (of one lot).
    share : float
        Of all values, on the good side of the bound.
    confidence : float
        That this is so.

    References
    ----------
    .. [1] G. J. Hahn, W. Q. Meeker, Statistical Intervals, 1991, 4.6: the noncentral t.
    """
    _checked(count, share, confidence)
    root = math.sqrt(count)
    return noncentral_t_quantile(confidence, count - 1, float(special.ndtri(share)) * root) / root


def natrella_factor(count: int, share: float, confidence: float = 0.95) -> float:
    """Return Natrella's approximation of `one_sided_factor`, for comparison with old tables.

    References
    ----------
    .. [1] NIST/SEMATECH e-Handbook of Statistical Methods, 7.2.6.3.
    """
    _checked(count, share, confidence)
    normal, sure = float(special.ndtri(share)), float(special.ndtri(confidence))
    a = 1.0 - sure**2 / (2.0 * (count - 1))
    b = normal**2 - sure**2 / count
    return (normal + math.sqrt(normal**2 - a * b)) / a


def howe_factor(count: int, share: float, confidence: float = 0.95) -> float:
    """Return Howe's approximation of `two_sided_factor`, for comparison with old tables.

    References
    ----------
    .. [1] W. G. Howe, J. Am. Stat. Assoc. 64 (1969) 610; NIST/SEMATECH e-Handbook, 7.2.6.3.
    """
    _checked(count, share, confidence)
    df = count - 1
    chi_square = 2.0 * float(special.gammaincinv(df / 2.0, 1.0 - confidence))
    normal = float(special.ndtri(0.5 + share / 2.0))
    return normal * math.sqrt(df * (1.0 + 1.0 / count) / chi_square)


def _half_widths(offsets: Array, share: float) -> Array:
    """Return r with Φ(x + r) - Φ(x - r) = share for each x, by Newton's method."""
    r = np.abs(offsets) + float(special.ndtri(share)) if share > 0.5 else np.abs(offsets) + 1.0
    r = np.maximum(r, float(special.ndtri(0.5 + share / 2.0)))
    for _ in range(60):
        above, below = offsets + r, offsets - r
        excess = special.ndtr(above) - special.ndtr(below) - share
        slope = np.exp(-0.5 * above**2) + np.exp(-0.5 * below**2)
        step = excess * math.sqrt(2.0 * math.pi) / np.maximum(slope, 1e-300)
        r = np.maximum(r - step, 0.5 * r)
        if np.all(np.abs(step) <= 1e-13 * r):
            break
    return r


@lru_cache(maxsize=256)
def two_sided_factor(count: int, share: float, confidence: float = 0.95) -> float:
    """Return k of the exact interval mean - k s to mean + k s of normal values.

    ``√(2n/π) ∫ P(χ² > ν r(x)²/k²) exp(-n x²/2) dx = confidence`` over x > 0, where r(x) is
    the half-width that holds the share around a centre that is off by x.

    Parameters
    ----------
    count : int
        Independent values (of one lot).
    share : float
        Of all values, inside.
    confidence : float
        That this is so.

    References
    ----------
    .. [1] R. E. Odeh, D. B. Owen, Tables for Normal Tolerance Limits, Sampling Plans, and
       Screening, 1980.
    """
    from scipy.optimize import brentq

    _checked(count, share, confidence)
    points, weights = legendre(_NODES)
    x = 0.5 * _REACH / math.sqrt(count) * (points + 1.0)
    density = weights * np.exp(-0.5 * count * x**2)
    density = density / density.sum()
    half = 0.5 * (count - 1)
    widths = _half_widths(x, share)

    def lack(k: float) -> float:
        return float(density @ special.gammaincc(half, half * (widths / k) ** 2)) - confidence

    low = high = howe_factor(count, share, confidence)
    while lack(low) > 0:
        low *= 0.8
    while lack(high) < 0:
        high *= 1.25
    return float(brentq(lack, low, high, xtol=1e-12, rtol=1e-12))


# Without a distribution


def covering_confidence(count: int, share: float, *, dropped: int = 1) -> float:
    """Return the confidence that order statistics hold a share of any continuous population.

    Parameters
    ----------
    count : int
        Independent values.
    share : float
        To be held.
    dropped : int
        Blocks between order statistics that lie outside: 1 for everything above the smallest
        (or below the largest), 2 for smallest to largest.

    References
    ----------
    .. [1] S. S. Wilks, Ann. Math. Stat. 12 (1941) 91.
    """
    if dropped > count:
        return 0.0
    return float(special.betaincc(count - dropped + 1, dropped, share))


def values_needed(share: float, confidence: float = 0.95, *, two_sided: bool = False) -> int:
    """Return how many values the extremes need to hold a share, whatever the distribution."""
    _checked(2, share, confidence)
    dropped = 2 if two_sided else 1
    high = 2
    while covering_confidence(high, share, dropped=dropped) < confidence:
        high *= 2
    low = 1
    while low < high:
        middle = (low + high) // 2
        enough = covering_confidence(middle, share, dropped=dropped) >= confidence
        low, high = (low, middle) if enough else (middle + 1, high)
    return high


def free_interval(values: Array, share: float, confidence: float = 0.95) -> Interval | None:
    """Return the two order statistics that hold a share, whatever the distribution.

    As few values as possible lie between them; the same number is dropped at both ends (one
    more above if that is odd).

    Parameters
    ----------
    values : ndarray, shape (n,)
        Independent.
    share : float
        Of all values, inside.
    confidence : float
        That this is so.

    Returns
    -------
    tuple of float or None
        None if there are too few values.
    """
    _checked(max(2, len(values)), share, confidence)
    dropped = 1
    while covering_confidence(len(values), share, dropped=dropped + 1) >= confidence:
        dropped += 1
    if dropped < 2:
        return None
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    below = dropped // 2
    return float(ordered[below - 1]), float(ordered[len(ordered) - (dropped - below)])


# Cells in lots


def lot_bounds(drawn: Pivots, share: float, confidence: float = 0.95) -> Interval:
    """Return one-sided bounds for cells of any lot, lower and upper.

    Each holds by itself: at least `share` of cells lie above the lower, and below the upper.
    Generalised, from the pivotal quantities of mean and total variance.

    Parameters
    ----------
    drawn : Pivots
        Of the supplier's cells.
    share : float
        Of cells, on the good side.
    confidence : float
        Of each bound.

    References
    ----------
    .. [1] K. Krishnamoorthy, T. Mathew, Statistical Tolerance Regions, 2009, chapter 5.
    """
    reach = float(special.ndtri(share)) * np.sqrt(drawn.total)
    low = float(np.quantile(drawn.mean - reach, 1.0 - confidence))
    high = float(np.quantile(drawn.mean + reach, confidence))
    return low, high
