"""The models by name, their settings, and `fit`."""

import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from batterylab.errors import BatterylabError
from batterylab.fit.circuit import CircuitSettings, fit_circuit
from batterylab.fit.dfn import DfnSettings, fit_dfn
from batterylab.fit.halfcells import HalfCells, from_parameter_set
from batterylab.fit.impedance import ImpedanceSettings, fit_impedance
from batterylab.fit.joint import fit_joint
from batterylab.fit.ocv import OcvSettings, fit_ocv
from batterylab.fit.result import Fit
from batterylab.fit.spm import SpmeSettings, SpmSettings, fit_spm
from batterylab.recording import Recording

Settings = OcvSettings | CircuitSettings | SpmSettings | ImpedanceSettings

MODELS: dict[str, type[Settings]] = {
    "ocv": OcvSettings,
    "circuit": CircuitSettings,
    "spm": SpmSettings,
    "spme": SpmeSettings,
    "dfn": DfnSettings,
    "impedance": ImpedanceSettings,
}


def settings_of(model: str, given: Mapping[str, Any] | None = None) -> Settings:
    """Return a model's settings; numbers may be text, as from a command line.

    Parameters
    ----------
    model : str
        ``ocv``, ``circuit``, ``spm``, ``spme``, ``dfn`` or ``impedance``.
    given : mapping, optional
        Values by name; the rest keeps its default.

    Raises
    ------
    BatterylabError
        If the model or a name is unknown, or a value is not what the name wants.
    """
    if model not in MODELS:
        raise BatterylabError(f"unknown model {model!r}", hint=f"one of {', '.join(MODELS)}")
    kinds = typing.get_type_hints(MODELS[model])
    values: dict[str, Any] = {}
    for name, value in (given or {}).items():
        if name not in kinds:
            near = difflib.get_close_matches(name, kinds, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(kinds)}"
            raise BatterylabError(f"the model {model} has no setting {name!r}", hint=hint)
        values[name] = _converted(name, value, kinds[name])
    return MODELS[model](**values)


def _converted(name: str, value: Any, kind: Any) -> Any:
    if isinstance(kind, types.UnionType):
        if value is None or value == "":
            return None
        kind = next(part for part in typing.get_args(kind) if part is not types.NoneType)
    if kind is str:
        return str(value)
    if kind is bool:
        return _truth(name, value)
    wanted = "a whole number" if kind is int else "a number"
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or (kind is int and number != int(number)):
        raise BatterylabError(f"{name} = {value!r} is not {wanted}")
    return kind(number)


def _truth(name: str, value: Any) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    word = str(value).strip().lower()
    if word not in words:
        raise BatterylabError(f"{name} = {value!r} is neither true nor false")
    return words[word]


@overload
def fit(
    recording: Recording,
    model: str = ...,
    *,
    half_cells: HalfCells | None = ...,
    **settings: Any,
) -> Fit: ...
@overload
def fit(
    recording: Sequence[Recording],
    model: str = ...,
    *,
    joint: typing.Literal[True],
    half_cells: HalfCells | None = ...,
    **settings: Any,
) -> Fit: ...
@overload
def fit(
    recording: Sequence[Recording],
    model: str = ...,
    *,
    joint: typing.Literal[False] = ...,
    half_cells: HalfCells | None = ...,
    **settings: Any,
) -> list[Fit]: ...
def fit(
    recording: Recording | Sequence[Recording],
    model: str = "ocv",
    *,
    joint: bool = False,
    half_cells: HalfCells | None = None,
    **settings: Any,
) -> Fit | list[Fit]:
    """Fit a model to one recording, or to several.

    Parameters
    ----------
    recording : Recording or sequence of Recording
        What was measured.
    model : str
        ``ocv``: full-cell open-circuit voltage from two half-cell curves; ``circuit``: a
        Thevenin circuit on a pulse and its relaxation; ``spm``, ``spme``: a single-particle
        model, without or with electrolyte, on a discharge and pulses; ``dfn``: the full model of
        Doyle, Fuller and Newman on the same; ``impedance``: a circuit or the single-particle
        model on an impedance spectrum.
    joint : bool
        Whether several recordings of one cell go into one fit (not ``dfn``, ``impedance``); see
        `batterylab.fit.joint`.
    half_cells : HalfCells, optional
        For ``ocv``; else those of the setting `parameter_set`.
    **settings
        Fields of `OcvSettings`, `CircuitSettings`, `SpmSettings` or `ImpedanceSettings`.

    Returns
    -------
    Fit or list of Fit
        As many as recordings; one if joint. Look at `Fit.converged`: without it, values are NaN.

    Raises
    ------
    NotSuitedError
        If a recording does not hold what the model needs.
    BatterylabError
        If model or settings are unknown.
    """
    chosen = settings_of(model, settings)
    if joint:
        several = [recording] if isinstance(recording, Recording) else recording
        return fit_joint(several, chosen, half_cells=half_cells)
    if isinstance(chosen, OcvSettings) and half_cells is None:
        half_cells = from_parameter_set(chosen.parameter_set)
    if isinstance(recording, Recording):
        return fit_one(recording, chosen, half_cells)
    return [fit_one(one, chosen, half_cells) for one in recording]


def fit_one(
    recording: Recording,
    settings: Settings,
    half_cells: HalfCells | None,
    tables: Path | None = None,
) -> Fit:
    """Fit the model that the settings belong to; see `fit`. `tables` keeps what is sampled."""
    if isinstance(settings, DfnSettings):
        return fit_dfn(recording, settings, tables)
    if isinstance(settings, SpmSettings):
        return fit_spm(recording, settings, tables)
    if isinstance(settings, ImpedanceSettings):
        return fit_impedance(recording, settings, tables)
    if isinstance(settings, CircuitSettings):
        return fit_circuit(recording, settings)
    if half_cells is None:
        raise BatterylabError("the model ocv needs half-cell curves")
    return fit_ocv(recording, half_cells, settings)
