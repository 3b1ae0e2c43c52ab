"""What a fit says: values with standard errors, and what the data cannot say."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

SCHEMA = "batterylab.fit/1"
#: counts up whenever a kernel, a formula or a choice changes; older results are fitted anew
VERSION = "4"

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """What was fitted, row by row, for a plot.

    Attributes
    ----------
    x : ndarray, shape (n,)
        What `x_label` says.
    measured_V, model_V : ndarray, shape (n,)
        The two voltages.
    """

    x: Array
    x_label: str
    measured_V: Array
    model_V: Array


@dataclass(frozen=True)
class SpectrumCurve:
    """What was fitted of an impedance, for a plot.

    Attributes
    ----------
    frequency_Hz : ndarray, shape (n,)
        Falling.
    measured_ohm, model_ohm : ndarray of complex128, shape (n,)
        The two impedances.
    """

    frequency_Hz: Array
    measured_ohm: NDArray[np.complex128]
    model_ohm: NDArray[np.complex128]


@dataclass(frozen=True)
class Fit:
    """One model fitted to one step or window of one recording.

    Attributes
    ----------
    model : str
        ``ocv``, ``circuit``, ``spm``, ``spme`` or ``impedance``.
    serial, seal : str
        The recording.
    step : int
        The step that was fitted, or in which the window begins.
    values, standard_errors : dict of str to float
        By name, with the unit as ending. All values are NaN if the fit did not converge; a
        standard error is NaN where the data or a bound leaves none.
    parameters : tuple of str
        The names that were fitted, in the order of `correlation`; other values follow from
        them.
    correlation : list of list of float
        Of the fitted parameters; NaN where there is no standard error.
    residual_mV : float
        Root mean square of measured less model; NaN for ``impedance``.
    residual_percent : float
        The same of an impedance, relative to its modulus; NaN for other models.
    converged : bool
        Whether the optimiser arrived.
    reason : str
        Why it stopped, in words.
    at_bound : tuple of str
        Parameters that lie on a bound.
    condition_number : float
        Of the Jacobian with columns scaled to length one, over the parameters off a bound.
    cannot_tell_apart : tuple of tuple of str
        Parameters that the data determine only together.
    rows : int
        Rows fitted.
    effective_rows : float
        As many independent rows would say as much: rows over the residuals' correlation time.
    degrees_of_freedom : float
        `effective_rows` less the fitted parameters, at least 1.
    notes : tuple of str
        What a reader must know besides.
    version : str
        Of kernels and formulas.
    settings : dict
        As used, JSON-able.
    last : dict of str to float
        Where the optimiser stopped, converged or not: for diagnosis only.
    curve : Curve, SpectrumCurve or None
        Not kept in files.
    doubtful : str
        Why a converged fit is not to be believed, by the rule that the model states; empty if it
        may be.
    profile : dict of str to (float, float)
        Ends of 95 % intervals by profile likelihood, if wanted; NaN where an end is open: the
        parameter's bound comes before the data object.
    """

    model: str
    serial: str
    seal: str
    step: int
    values: dict[str, float]
    standard_errors: dict[str, float]
    parameters: tuple[str, ...]
    correlation: list[list[float]]
    residual_mV: float
    converged: bool
    reason: str
    at_bound: tuple[str, ...]
    condition_number: float
    cannot_tell_apart: tuple[tuple[str, ...], ...]
    rows: int
    effective_rows: float
    degrees_of_freedom: float
    notes: tuple[str, ...] = ()
    version: str = VERSION
    settings: dict[str, Any] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    curve: Curve | SpectrumCurve | None = None
    residual_percent: float = math.nan
    profile: dict[str, tuple[float, float]] = field(default_factory=dict)
    doubtful: str = ""

    @property
    def residual_text(self) -> str:
        """The residual with its unit."""
        if math.isfinite(self.residual_percent):
            return f"{self.residual_percent:.3g} %"
        return f"{self.residual_mV:.3g} mV"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values; what is not known is None."""
        return {
            "schema": SCHEMA,
            "model": self.model,
            "serial": self.serial,
            "seal": self.seal,
            "step": self.step,
            "converged": self.converged,
            "reason": self.reason,
            "doubtful": self.doubtful,
            "values": _none(self.values),
            "standard_errors": _none(self.standard_errors),
            "parameters": list(self.parameters),
            "correlation": [[_finite(c) for c in row] for row in self.correlation],
            "residual_mV": _finite(self.residual_mV),
            "residual_percent": _finite(self.residual_percent),
            "at_bound": list(self.at_bound),
            "condition_number": _finite(self.condition_number),
            "cannot_tell_apart": [list(group) for group in self.cannot_tell_apart],
            "rows": self.rows,
            "effective_rows": _finite(self.effective_rows),
            "degrees_of_freedom": _finite(self.degrees_of_freedom),
            "notes": list(self.notes),
            "version": self.version,
            "settings": self.settings,
            "last": _none(self.last),
            "profile": {n: [_finite(end) for end in ends] for n, ends in self.profile.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Fit":
        """Return the fit that `to_dict` wrote, without its curve."""
        return cls(
            model=str(data["model"]),
            serial=str(data["serial"]),
            seal=str(data["seal"]),
            step=int(data["step"]),
            values=_nan(data["values"]),
            standard_errors=_nan(data["standard_errors"]),
            parameters=tuple(data["parameters"]),
            correlation=[[_number(c) for c in row] for row in data["correlation"]],
            residual_mV=_number(data["residual_mV"]),
            residual_percent=_number(data.get("residual_percent")),
            converged=bool(data["converged"]),
            reason=str(data["reason"]),
            doubtful=str(data.get("doubtful", "")),
            at_bound=tuple(data["at_bound"]),
            condition_number=_number(data["condition_number"]),
            cannot_tell_apart=tuple(tuple(group) for group in data["cannot_tell_apart"]),
            rows=int(data["rows"]),
            effective_rows=_number(data["effective_rows"]),
            degrees_of_freedom=_number(data["degrees_of_freedom"]),
            notes=tuple(data["notes"]),
            version=str(data["version"]),
            settings=dict(data["settings"]),
            last=_nan(data["last"]),
            profile={str(n): (_number(ends[0]), _number(ends[1]))
                     for n, ends in data.get("profile", {}).items()},
        )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _none(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in values.items()}


def _nan(values: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): _number(value) for name, value in values.items()}
