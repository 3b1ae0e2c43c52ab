"""The trend that cycling itself causes in a gauge study: each test changes the cell a little.

Cells are tested over and over, so the order of the tests of a cell stands for its cycles. The
slope is estimated beside the cells and channels; where it is real, it is taken out before the
analysis of variance, at the price of one degree of freedom that is not taken from the repeats
(it is one of many).
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from batterylab.suppliers.nodes import Interval, t_quantile
from batterylab.suppliers.sampling import Reading

#: a trend is taken out from this p-value down
REAL = 0.05
_LEAST_DF = 4


@dataclass(frozen=True)
class Trend:
    """A straight trend over the tests of a cell.

    Attributes
    ----------
    slope, error : float
        Per test, in the feature's unit, with its standard error.
    degrees_of_freedom : int
    """

    slope: float
    error: float
    degrees_of_freedom: int

    @property
    def p_value(self) -> float:
        """Of no trend."""
        if self.error <= 0:
            return 0.0 if self.slope else 1.0
        return 2.0 * float(special.stdtr(self.degrees_of_freedom, -abs(self.slope / self.error)))

    @property
    def is_real(self) -> bool:
        """Whether it is taken out."""
        return self.p_value < REAL

    def interval(self, confidence: float = 0.95) -> Interval:
        """Return the interval of the slope."""
        reach = t_quantile(0.5 + confidence / 2, self.degrees_of_freedom) * self.error
        return self.slope - reach, self.slope + reach

    def to_dict(self) -> dict[str, Any]:
        """Return the scorecard's entry."""
        return {"per_test": self.slope, "interval": self.interval(), "p_value": self.p_value,
                "taken_out": self.is_real}  # fmt: skip


def places_of(readings: Sequence[Reading]) -> list[int]:
    """Return for each reading how many gauge tests its cell had before.

    Parameters
    ----------
    readings : sequence of Reading
        In order of time.
    """
    seen: dict[str, int] = defaultdict(int)
    places = []
    for reading in readings:
        places.append(seen[reading.serial])
        seen[reading.serial] += 1
    return places


def trend(readings: Sequence[Reading]) -> Trend | None:
    """Estimate the trend of a gauge study beside the means of its cells and channels.

    Returns
    -------
    Trend or None
        None where order cannot be told from cells and channels, or times are not known.
    """
    known = [r for r in readings if math.isfinite(r.value)]
    if not known or any(not reading.start_utc for reading in known):
        return None
    columns = [np.asarray(places_of(known), dtype=np.float64)]
    for name in ("serial", "channel"):
        levels = sorted({getattr(reading, name) for reading in known})
        columns += [np.array([getattr(r, name) == level for r in known], float)
                    for level in levels[(name == "channel") :]]  # fmt: skip
    design = np.column_stack(columns)
    values = np.array([reading.value for reading in known])
    shift = values.mean()
    found, _, rank, _ = np.linalg.lstsq(design, values - shift, rcond=None)
    df = len(values) - int(rank)
    if rank < design.shape[1] or df < _LEAST_DF:
        return None
    residuals = values - shift - design @ found
    variance = float(residuals @ residuals) / df
    error = math.sqrt(variance * float(np.linalg.inv(design.T @ design)[0, 0]))
    return Trend(float(found[0]), error, df)


def without(readings: Sequence[Reading], found: Trend | None) -> list[float]:
    """Return the values with a real trend taken out, each as of its cell's middle test."""
    if found is None or not found.is_real:
        return [reading.value for reading in readings]
    places = places_of(readings)
    middle = float(np.mean(places))
    return [reading.value - found.slope * (place - middle)
            for reading, place in zip(readings, places, strict=True)]  # fmt: skip
