"""A feature: a number drawn from a recording, with what is needed to believe it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batterylab.study import FEATURE_UNITS


@dataclass(frozen=True)
class Feature:
    """A number drawn from one recording.

    Attributes
    ----------
    name : str
        With its unit as ending, such as ``capacity_Ah``.
    value : float
        In the unit of the name.
    uncertainty : float
        One standard uncertainty from the stated accuracies; NaN if they are not known.
    method : str
        How it was drawn, in words.
    steps : tuple of int
        The steps it came from, by `step_index`.
    soc_percent : float
        State of charge it belongs to; NaN if it has none.
    parts : tuple of (int, float)
        What it was made of: last step and value of each single result, all of them listed,
        also those that the mean leaves out.
    cycles : float
        Cycles that the cell had done before, since its first capacity; NaN if not known.
    """

    name: str
    value: float
    uncertainty: float
    method: str
    steps: tuple[int, ...] = ()
    soc_percent: float = math.nan
    parts: tuple[tuple[int, float], ...] = ()
    cycles: float = math.nan

    @property
    def unit(self) -> str:
        """The unit that the name carries; ``1`` for a ratio."""
        return unit_of(self.name)

    @property
    def steps_text(self) -> str:
        """The steps as text: ``3,7,11``."""
        return ",".join(str(step) for step in self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values; what is not known is None."""
        return {
            "name": self.name,
            "value": _none(self.value),
            "uncertainty": _none(self.uncertainty),
            "unit": self.unit,
            "method": self.method,
            "steps": list(self.steps),
            "soc_percent": _none(self.soc_percent),
            "parts": [{"step": step, "value": _none(value)} for step, value in self.parts],
            "cycles": _none(self.cycles),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Feature":
        """Return the feature that `to_dict` wrote."""
        return cls(
            name=str(data["name"]),
            value=_nan(data["value"]),
            uncertainty=_nan(data["uncertainty"]),
            method=str(data["method"]),
            steps=tuple(int(step) for step in data["steps"]),
            soc_percent=_nan(data["soc_percent"]),
            parts=tuple((int(part["step"]), _nan(part["value"])) for part in data["parts"]),
            cycles=_nan(data["cycles"]),
        )


def unit_of(name: str) -> str:
    """Return the unit that a feature's name carries; ``1`` for a ratio.

    Examples
    --------
    >>> unit_of("dcir_10s_mOhm")
    'mOhm'
    """
    return next((ending[1:] for ending in FEATURE_UNITS if name.endswith(ending)), "1")


def _none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _nan(value: Any) -> float:
    return math.nan if value is None else float(value)
