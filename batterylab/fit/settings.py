"""What all models' settings have in common."""

from dataclasses import dataclass

from batterylab.fit.loss import Loss
from batterylab.fit.solve import MOST_STEPS, TOLERANCE


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How any model is fitted.

    Attributes
    ----------
    loss : str
        ``squares``, or a robust one: ``soft_l1``, ``huber``; see `batterylab.fit.loss`.
    profile : bool
        Whether profile likelihood gives an interval besides the standard error; see
        `batterylab.fit.profile`.
    most_steps, tolerance
        Of the optimiser.
    """

    loss: str = "squares"
    profile: bool = False
    most_steps: int = MOST_STEPS
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        Loss(self.loss)

    @property
    def chosen_loss(self) -> Loss:
        """The loss, its scale to be found."""
        return Loss(self.loss)
