r"""Stated accuracies, and how they become the uncertainty of a feature.

A meter's stated accuracy has two terms, each one standard deviation: `reading`, a share of what
it shows, and `offset`, in the unit of the quantity. Within one recording both are taken as
unknown constants of the channel: the meter shows :math:`x (1 + g) + o` with one g and one o for
all samples. They therefore do not average out over samples or repeats; the offset cancels in a
difference, the gain in a ratio. Source of the method: JCGM 100:2008 (GUM), 5.2.2 and F.1.2.3.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: said in a feature's method where the recording does not state accuracies
NOT_STATED = "accuracy not stated"


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of one meter, one standard deviation.

    Attributes
    ----------
    reading : float
        Share of the reading.
    offset : float
        In the unit of the quantity.
    """

    reading: float
    offset: float

    @property
    def is_known(self) -> bool:
        """Whether the recording states it."""
        return math.isfinite(self.reading) and math.isfinite(self.offset)

    def at(self, value: float) -> float:
        """Return the standard uncertainty of a single reading, in its unit."""
        return math.hypot(self.reading * value, self.offset)


UNKNOWN = Accuracy(math.nan, math.nan)


def accuracy_of(stated: object, name: str) -> Accuracy:
    """Return a meter's accuracy from a recording's provenance.

    Parameters
    ----------
    stated : mapping or other
        What stands under ``accuracy`` in the provenance.
    name : str
        Column, such as ``current_A``.

    Returns
    -------
    Accuracy
        `UNKNOWN` where it is missing, negative or not a number.
    """
    entry = stated.get(name) if isinstance(stated, Mapping) else None
    if not isinstance(entry, Mapping) or not entry.keys() & {"reading", "offset"}:
        return UNKNOWN
    terms = [entry.get("reading", 0.0), entry.get("offset", 0.0)]
    if not all(_is_size(term) for term in terms):
        return UNKNOWN
    return Accuracy(float(terms[0]), float(terms[1]))


def _is_size(term: Any) -> bool:
    is_number = isinstance(term, int | float) and not isinstance(term, bool)
    return is_number and math.isfinite(term) and term >= 0


def quadrature(*terms: float) -> float:
    """Return the root of the sum of squares; NaN if a term is not known."""
    return math.sqrt(math.fsum(term * term for term in terms))


def noise(values: NDArray[np.float64]) -> float:
    r"""Return the standard deviation of a meter's noise on a slowly changing quantity.

    From second differences, which a straight drift does not touch: their standard deviation
    is :math:`\sqrt 6` times that of independent noise. Fewer than five values: 0.
    """
    if len(values) < 5:
        return 0.0
    second = np.diff(np.asarray(values, float), 2)
    return float(np.sqrt(np.mean(second * second) / 6.0))
