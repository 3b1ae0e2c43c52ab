r"""Profile likelihood: how far a parameter can go if all others follow.

For a parameter held at a value and all others fitted again, the sum of squares rises by

.. math:: \Delta S = \frac{S_{min}}{n_e - p} \, t_{n_e - p}^2

at the ends of a 95 % interval, with the effective rows :math:`n_e` of the standard errors and
Student's t. For a model that is linear in its parameters these are the ends of the usual
interval. Where a bound comes first, the end is open. Source: G. A. F. Seber, C. J. Wild,
*Nonlinear Regression* (1989), section 5.4; A. Raue and others, Bioinformatics 25 (2009) 1923.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from batterylab.fit.solve import Bounded, Solution, alone
from batterylab.fit.statistics import Judgement

Array = NDArray[np.float64]

CONFIDENCE = 0.95
#: fits at most for one end, and how near the rise must come to what is wanted, relatively
MOST_FITS, NEAR = 40, 1e-3
#: a sum of squares below the optimum's by this share means that it was none
BETTER = 1e-4


@dataclass(frozen=True)
class Interval:
    """Ends of a parameter's profile, in the kernel's unit; NaN where open.

    Attributes
    ----------
    low, high : float
        Ends.
    found_better : bool
        Whether a fit on the profile came out below the optimum.
    """

    low: float
    high: float
    found_better: bool


def profile(solution: Solution, judgement: Judgement) -> list[Interval]:
    """Return the profile interval of every parameter of a solution.

    Parameters
    ----------
    solution : Solution
        Converged, and with what was fitted.
    judgement : Judgement
        Of the same solution.
    """
    from scipy.stats import t

    bounded = solution.bounded
    if bounded is None or not solution.converged:
        return []
    freedom = judgement.degrees_of_freedom
    variance = float(solution.noise_V @ solution.noise_V) / freedom
    reach = float(t.ppf(0.5 + CONFIDENCE / 2, freedom))
    wanted = 0.5 * solution.slope * reach**2 * variance
    errors = judgement.standard_errors
    found = []
    for index in range(len(solution.parameters)):
        ends = [
            _End(bounded, solution, index, way, wanted, reach * float(errors[index]))
            for way in (-1.0, 1.0)
        ]
        low, high = (end.place() for end in ends)
        least = min(end.least for end in ends)
        found.append(Interval(low, high, least < (1 - BETTER) * solution.cost))
    return found


class _End:
    """The search for one end of a profile."""

    def __init__(
        self, bounded: Bounded, solution: Solution, index: int, way: float, wanted: float,
        guess: float,
    ) -> None:  # fmt: skip
        self.bounded, self.solution, self.index = bounded, solution, index
        self.way, self.wanted = way, wanted
        self.best = float(solution.parameters[index])
        bound = float((bounded.upper if way > 0 else bounded.lower)[index])
        self.room = abs(bound - self.best)
        usable = math.isfinite(guess) and guess > 0
        self.guess = min(guess if usable else 1e-3 * self.room, self.room)
        self.start, self.least = solution.parameters, solution.cost

    def place(self) -> float:
        """Return the end, or NaN if the bound comes first."""
        if not self.room > 0:
            return math.nan
        inner, at_inner = 0.0, -math.sqrt(self.wanted)
        outer = self.guess
        for _ in range(MOST_FITS):
            gap = self._gap(outer)
            if abs(gap) <= NEAR * math.sqrt(self.wanted):
                return self.best + self.way * outer
            if gap > 0:
                return self._between(inner, at_inner, outer, gap)
            if outer >= self.room:
                return math.nan
            inner, at_inner = outer, gap
            outer = min(2.0 * outer, self.room)
        return math.nan

    def _between(self, low: float, at_low: float, high: float, at_high: float) -> float:
        """Close in by false position, a side that stays counting half (Illinois)."""
        last = 0
        for _ in range(MOST_FITS):
            middle = (low * at_high - high * at_low) / (at_high - at_low)
            gap = self._gap(middle)
            if abs(gap) <= NEAR * math.sqrt(self.wanted) or high - low <= 1e-9 * high:
                break
            if gap < 0:
                low, at_low, at_high = middle, gap, at_high / (2.0 if last < 0 else 1.0)
                last = -1
            else:
                high, at_high, at_low = middle, gap, at_low / (2.0 if last > 0 else 1.0)
                last = 1
        return self.best + self.way * middle

    def _gap(self, distance: float) -> float:
        """Return the root of the cost's rise at a distance, less the root of what is wanted."""
        value = self.best + self.way * distance
        lower, upper = self.bounded.lower.copy(), self.bounded.upper.copy()
        lower[self.index] = upper[self.index] = value
        start = self.start.copy()
        start[self.index] = value
        held = replace(self.bounded, lower=lower, upper=upper)
        made = alone(held.once(np.ascontiguousarray(start[None, :]), self.solution.loss))
        if not math.isfinite(made.cost):
            return math.sqrt(self.wanted)
        self.least = min(self.least, made.cost)
        self.start = made.parameters
        rise = max(made.cost - self.solution.cost, 0.0)
        return math.sqrt(rise) - math.sqrt(self.wanted)
