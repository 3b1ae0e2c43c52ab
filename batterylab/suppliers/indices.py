"""Capability indices of one sample with their classical intervals, for comparison with others.

The scorecard's own bounds allow for lots (`capability`); those here take all values to be
independent and normal, as statistics packages do.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from batterylab.errors import BatterylabError
from batterylab.suppliers.charts import range_factors
from batterylab.suppliers.nodes import Array, Interval


def sigma_from_ranges(groups: Array) -> float:
    """Return the standard deviation within groups: mean range over d2.

    Parameters
    ----------
    groups : ndarray, shape (groups, cells)
    """
    return float(np.ptp(groups, axis=1).mean()) / range_factors(groups.shape[1])[0]


@dataclass(frozen=True)
class Index:
    """An index with its interval."""

    value: float
    interval: Interval


def _chi_square(share: float, df: float) -> float:
    return 2.0 * float(special.gammaincinv(df / 2.0, share))


@dataclass(frozen=True)
class ClassicIndices:
    """Cp, Cpk, its sides and Cpm of independent normal values.

    Parameters
    ----------
    mean, sd : float
        `sd` within groups gives Cp and Cpk, the overall one Pp and Ppk.
    count : int
        Values.
    lower, upper : float or None
    target : float or None
        For Cpm; the middle between the limits if not given.
    confidence : float
    """

    mean: float
    sd: float
    count: int
    lower: float | None
    upper: float | None
    target: float | None = None
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not self.sd > 0 or self.count < 2 or (self.lower is None and self.upper is None):
            raise BatterylabError("no capability without a spread, two values and a limit")

    @property
    def _tail(self) -> float:
        return (1.0 - self.confidence) / 2.0

    def cp(self) -> Index | None:
        """Return Cp with the χ² interval; None with one limit."""
        if self.lower is None or self.upper is None:
            return None
        value = (self.upper - self.lower) / (6.0 * self.sd)
        return Index(value, self._chi_square_interval(value, self.count - 1.0))

    def _chi_square_interval(self, value: float, df: float) -> Interval:
        low, high = (_chi_square(share, df) for share in (self._tail, 1.0 - self._tail))
        return value * math.sqrt(low / df), value * math.sqrt(high / df)

    def cpl(self) -> Index | None:
        """Return the index of the lower limit; its interval is one-sided at each end."""
        return None if self.lower is None else self._side((self.mean - self.lower) / self.sd)

    def cpu(self) -> Index | None:
        """Return the index of the upper limit; its interval is one-sided at each end."""
        return None if self.upper is None else self._side((self.upper - self.mean) / self.sd)

    def _side(self, margin: float) -> Index:
        value = margin / 3.0
        reach = float(special.ndtri(self.confidence)) * self._relative_error(value) * value
        return Index(value, (value - reach, value + reach))

    def _relative_error(self, value: float) -> float:
        return math.sqrt(1.0 / (9.0 * self.count * value**2) + 1.0 / (2.0 * (self.count - 1)))

    def cpk(self) -> Index:
        """Return Cpk with Bissell's interval (A. F. Bissell, Applied Statistics 39 (1990) 331)."""
        value = min(side.value for side in (self.cpl(), self.cpu()) if side is not None)
        reach = float(special.ndtri(1.0 - self._tail)) * self._relative_error(value) * value
        return Index(value, (value - reach, value + reach))

    def cpm(self) -> Index | None:
        """Return Cpm with Boyles' interval; None with one limit.

        References
        ----------
        .. [1] R. A. Boyles, The Taguchi capability index, J. Quality Technology 23 (1991) 17:
           degrees of freedom ``n (1 + d²)² / (1 + 2 d²)`` with d the distance of mean and
           target in standard deviations.
        """
        if self.lower is None or self.upper is None:
            return None
        target = 0.5 * (self.lower + self.upper) if self.target is None else self.target
        off = ((self.mean - target) / self.sd) ** 2
        value = (self.upper - self.lower) / (6.0 * self.sd * math.sqrt(1.0 + off))
        df = self.count * (1.0 + off) ** 2 / (1.0 + 2.0 * off)
        return Index(value, self._chi_square_interval(value, df))
