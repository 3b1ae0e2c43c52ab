r"""Robust losses: what a large residual counts less than its square.

The sum of squares becomes :math:`\sum_i C^2 \rho(r_i^2/C^2)`, with :math:`\rho(z) =
2(\sqrt{1+z}-1)` for ``soft_l1`` and, for ``huber``, z up to 1 and :math:`2\sqrt z - 1` beyond;
names as in `scipy.optimize.least_squares`. The scale C is 1.345 times the residuals' robust
standard deviation, at which Huber's loss keeps 95 % of least squares' efficiency under normal
noise (P. J. Huber, *Robust Statistics*, 1981, section 4.2 and 7.8).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batterylab.errors import BatterylabError

Array = NDArray[np.float64]

#: name -> number in `levmar.pxd`
LOSSES = {"squares": 0, "soft_l1": 1, "huber": 2}
#: scale over standard deviation; that over the median of the absolute residuals; rounds in which
#: the scale is found, and the change that ends them
TUNING, TO_SD = 1.345, 1.4826
MOST_ROUNDS, SETTLED = 10, 0.01


@dataclass(frozen=True)
class Loss:
    """A loss by name, with its scale.

    Attributes
    ----------
    name : str
        ``squares``, ``soft_l1`` or ``huber``.
    scale : float
        C, in the residuals' unit; 0: found from the residuals.
    """

    name: str = "squares"
    scale: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in LOSSES:
            raise BatterylabError(f"unknown loss {self.name!r}", hint=f"one of {', '.join(LOSSES)}")
        if not 0 <= self.scale < np.inf:
            raise BatterylabError("the scale of a loss must be 0 or above")

    @property
    def code(self) -> int:
        """The kernels' number."""
        return LOSSES[self.name]

    @property
    def is_squares(self) -> bool:
        """Whether this is least squares."""
        return self.code == 0

    def slopes(self, residual: Array) -> tuple[Array, Array]:
        """Return psi, the loss's derivative by the residual, and psi's own derivative."""
        if self.is_squares:
            return residual, np.ones(len(residual))
        z = (residual / self.scale) ** 2
        if self.name == "soft_l1":
            return residual / np.sqrt(1.0 + z), (1.0 + z) ** -1.5
        inside = z <= 1.0
        clipped = np.clip(residual, -self.scale, self.scale)
        return clipped, inside.astype(float)


SQUARES = Loss()


def scale_of(residual: Array) -> float:
    """Return the scale for residuals; 0 if most of them are."""
    return TUNING * TO_SD * float(np.median(np.abs(residual)))
