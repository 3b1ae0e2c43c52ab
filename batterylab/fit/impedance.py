"""Impedance spectra of recordings, fitted by circuits or by the single-particle model.

A spectrum is the rows of a recording that carry `frequency_Hz`, `impedance_real_ohm` and
`impedance_imaginary_ohm`; a recording may hold several. The circuits are those of
`batterylab.fit.impedancecircuit`, the model that of `batterylab.fit.impedancespme`; residuals
are complex and weighted.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab.errors import BatterylabError
from batterylab.fit.assemble import assemble, doubt_of, with_profile
from batterylab.fit.celltables import tables_of
from batterylab.fit.impedancecheck import kramers_kronig
from batterylab.fit.impedancecircuit import (
    CircuitText,
    circuit_impedance,
    parse_circuit,
)
from batterylab.fit.impedancefit import (
    WEIGHTINGS,
    Spectrum,
    solve_circuit_impedance,
    solve_spme_impedance,
    spectrum_from,
)
from batterylab.fit.impedancespme import (
    EIS_NAMES,
    EisCell,
    cell_impedance,
    complex_of,
    eis_indices,
    spme_impedance,
)
from batterylab.fit.result import Fit, SpectrumCurve
from batterylab.fit.settings import FitSettings
from batterylab.fit.solve import Solution
from batterylab.fit.statistics import Judgement, judge
from batterylab.fit.window import NotSuitedError
from batterylab.recording import Recording

__all__ = [
    "EIS_NAMES", "EisCell", "ImpedanceSettings", "cell_impedance", "circuit_impedance",
    "fit_impedance", "parse_circuit", "spectra_of", "spme_impedance",
]  # fmt: skip

Array = NDArray[np.float64]

MODELS = ("spme", "spm")
LEAST_ROWS = 5
#: residuals above this share of the modulus mean that the circuit does not describe the cell
DOUBT_PERCENT = 5.0
ROOM_degC = 25.0
#: what is fitted of the single-particle model unless a setting says otherwise
USUAL = ("log_negative_time", "log_positive_time", "log_negative_rate", "log_positive_rate",
         "contact_ohm", "log_negative_capacitance", "log_positive_capacitance",
         "inductance_H")  # fmt: skip


@dataclass(frozen=True)
class ImpedanceSettings(FitSettings):
    """How an `impedance` is fitted; see `FitSettings` for the rest.

    Attributes
    ----------
    circuit : str
        As in ``R0-p(R1,CPE1)-W1``; or ``spme`` or ``spm`` for the model of that name.
    weighting : str
        ``modulus`` or ``unit``.
    step : int or None
        Which step; None: all.
    spectrum : int
        Which spectrum of the step or recording, from 0.
    parameter_set : str
        PyBaMM's set for ``spme`` and ``spm``.
    free : str
        Parameters of ``spme`` and ``spm`` to fit, joined by ``+``; names as in
        `impedancespme`. Empty: diffusion times, exchange currents, double layers, contact
        resistance and inductance.
    soc_percent : float
        State of charge, for ``spme`` and ``spm``.
    """

    circuit: str = "L0-R0-p(R1,CPE1)-W1"
    weighting: str = "modulus"
    step: int | None = None
    spectrum: int = 0
    parameter_set: str = "Chen2020"
    free: str = ""
    soc_percent: float = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weighting not in WEIGHTINGS:
            raise BatterylabError(
                f"unknown weighting {self.weighting!r}", hint=" or ".join(WEIGHTINGS)
            )
        if not 0.0 <= self.soc_percent <= 100.0:
            raise BatterylabError("soc_percent must be 0 to 100")
        if self.spectrum < 0:
            raise BatterylabError("spectrum counts from 0")
        if self.is_model:
            eis_indices(self.names)
        else:
            parse_circuit(self.circuit)

    @property
    def is_model(self) -> bool:
        """Whether the single-particle model is fitted, not a circuit."""
        return self.circuit in MODELS

    @property
    def names(self) -> tuple[str, ...]:
        """The model's fitted parameters."""
        return tuple(n.strip() for n in self.free.split("+")) if self.free.strip() else USUAL


@dataclass(frozen=True)
class _Rows:
    """A spectrum's rows in its recording."""

    step: int
    rows: NDArray[np.intp]


def spectra_of(recording: Recording, step: int | None = None) -> list[NDArray[np.intp]]:
    """Return the rows of each impedance spectrum of a recording, in the order of time.

    A spectrum ends with its step or cycle, or where the frequency turns back.

    Parameters
    ----------
    recording : Recording
        Any recording.
    step : int, optional
        Only of this step.

    Returns
    -------
    list of ndarray of int
        Spectra with five or more rows.

    Raises
    ------
    BatterylabError
        If a frequency is not above 0.
    """
    return [found.rows for found in _spectra(recording, step)]


def _spectra(recording: Recording, step: int | None) -> list[_Rows]:
    columns = recording.columns
    if "frequency_Hz" not in columns or "impedance_real_ohm" not in columns:
        return []
    hertz = np.asarray(columns["frequency_Hz"], float)
    rows = np.flatnonzero(np.isfinite(hertz))
    index = np.asarray(columns["step_index"])
    if step is not None:
        rows = rows[index[rows] == step]
    bad = rows[hertz[rows] <= 0]
    if len(bad):
        raise BatterylabError(
            f"recording of {recording.serial!r}: frequency_Hz, row {bad[0]}: "
            f"{hertz[bad[0]]:g} is not above 0"
        )
    found = []
    cycle = np.asarray(columns["cycle_index"])
    for part in np.split(rows, np.flatnonzero(np.diff(index[rows]) | np.diff(cycle[rows])) + 1):
        moves = np.sign(np.diff(hertz[part]))
        way = 1.0 if moves.sum() > 0 else -1.0
        found += [_Rows(int(index[one[0]]), one)
                  for one in np.split(part, np.flatnonzero(moves == -way) + 1)
                  if len(one) >= LEAST_ROWS]  # fmt: skip
    return found


def _chosen(recording: Recording, settings: ImpedanceSettings) -> tuple[_Rows, Spectrum]:
    name = f"recording of {recording.serial!r} ({recording.protocol}, {recording.seal[:8]})"
    found = _spectra(recording, settings.step)
    if settings.spectrum >= len(found):
        where = "" if settings.step is None else f" in step {settings.step}"
        raise NotSuitedError(
            f"{name}: {len(found)} impedance spectra{where}, and spectrum {settings.spectrum} "
            "is wanted",
            hint="spectra count from 0; each has frequency_Hz and five rows or more",
        )
    rows = found[settings.spectrum]
    real, imag = (
        np.asarray(recording.columns[f"impedance_{part}_ohm"], float)[rows.rows]
        for part in ("real", "imaginary")
    )
    for part, values in (("real", real), ("imaginary", imag)):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise BatterylabError(
                f"{name}: impedance_{part}_ohm, row {rows.rows[bad[0]]}: not a finite number"
            )
    hertz = np.asarray(recording.columns["frequency_Hz"], float)[rows.rows]
    return rows, spectrum_from(hertz, real + 1j * imag, settings.weighting, name)


def fit_impedance(
    recording: Recording, settings: ImpedanceSettings, cache: Path | None = None
) -> Fit:
    """Fit a spectrum of a recording.

    Parameters
    ----------
    recording : Recording
        With a spectrum.
    settings : ImpedanceSettings
        Circuit or model, and which spectrum.
    cache : Path, optional
        Folder that keeps a parameter set's tables.

    Raises
    ------
    NotSuitedError
        If the recording has no such spectrum.
    BatterylabError
        If the spectrum is not one; see `spectrum_from`.
    """
    rows, spectrum = _chosen(recording, settings)
    if settings.is_model:
        degrees = _temperature(recording, rows.rows)
        made = _fit_model(recording, settings, spectrum, rows.step, degrees, cache)
    else:
        made = _fit_circuit(recording, settings, spectrum, rows.step)
    note = kramers_kronig(spectrum).note
    return replace(made, notes=(*made.notes, note)) if note else made


def _temperature(recording: Recording, rows: NDArray[np.intp]) -> float | None:
    column = recording.columns.get("temperature_degC")
    degrees = math.nan if column is None else float(np.nanmean(np.append(column[rows], np.nan)))
    return degrees if math.isfinite(degrees) else None


def _fit_circuit(
    recording: Recording, settings: ImpedanceSettings, spectrum: Spectrum, step: int
) -> Fit:
    circuit = parse_circuit(settings.circuit)
    solution = solve_circuit_impedance(
        circuit, spectrum, most_steps=settings.most_steps, tolerance=settings.tolerance,
        loss=settings.chosen_loss,
    )  # fmt: skip
    judgement = judge(solution.noise_V, solution.jacobian, ~solution.at_bound)
    values, errors = _circuit_values(circuit, solution, judgement)
    used = {k: v for k, v in asdict(settings).items()
            if k not in ("parameter_set", "free", "soc_percent")}  # fmt: skip
    made = _assembled(recording, step, circuit.names, solution, judgement, values, errors, used,
                      spectrum)  # fmt: skip
    if not settings.profile:
        return made
    return with_profile(made, solution, judgement, {
        name: (i, math.exp if circuit.is_logarithm[i] else float)
        for i, name in enumerate(circuit.names)
    })  # fmt: skip


def _circuit_values(
    circuit: CircuitText, solution: Solution, judgement: Judgement
) -> tuple[dict[str, float], dict[str, float]]:
    """Return values and standard errors; that of a logarithm times the value."""
    found = circuit.from_kernel(solution.parameters)
    spread = judgement.standard_errors * np.where(circuit.is_logarithm, found, 1.0)
    values = dict(zip(circuit.names, (float(v) for v in found), strict=True))
    return values, dict(zip(circuit.names, (float(e) for e in spread), strict=True))


def _fit_model(
    recording: Recording, settings: ImpedanceSettings, spectrum: Spectrum, step: int,
    degrees: float | None, cache: Path | None,
) -> Fit:  # fmt: skip
    kelvin = round(ROOM_degC if degrees is None else degrees) + 273.15
    tables = tables_of(settings.parameter_set, kelvin, cache)
    nominal_Ah = float(recording.cell_type.get("nominal_capacity_Ah") or math.nan)
    factor = nominal_Ah / tables.numbers["capacity_Ah"] if nominal_Ah > 0 else 1.0
    cell = EisCell(tables, settings.circuit, area_factor=factor)
    base = cell.at(settings.soc_percent / 100.0)
    solution, whole = solve_spme_impedance(
        cell, spectrum, base, settings.names,
        most_steps=settings.most_steps, tolerance=settings.tolerance, loss=settings.chosen_loss,
    )  # fmt: skip
    judgement = judge(solution.noise_V, solution.jacobian, ~solution.at_bound)
    values, errors = _model_values(cell, base, settings.names, solution, judgement)
    used: dict[str, Any] = {
        **asdict(settings), "free": "+".join(settings.names), "area_factor": factor,
        "temperature_degC": round(kelvin - 273.15, 3),
        "all_parameters": dict(zip(EIS_NAMES, (float(p) for p in whole), strict=True)),
    }  # fmt: skip
    made = _assembled(recording, step, settings.names, solution, judgement, values, errors, used,
                      spectrum)  # fmt: skip
    if settings.profile:
        made = with_profile(made, solution, judgement, {
            name: (i, rule) for i, (name, rule) in enumerate(map(_rule, settings.names))
        })  # fmt: skip
    if degrees is not None:
        return made
    note = f"no temperature was measured: {ROOM_degC:g} degC is assumed"
    return replace(made, notes=(*made.notes, note))


def _model_values(
    cell: EisCell, base: Array, names: tuple[str, ...], solution: Solution, judgement: Judgement
) -> tuple[dict[str, float], dict[str, float]]:
    """Return values in the units of their names, and standard errors to first order."""
    values: dict[str, float] = {}
    errors: dict[str, float] = {}
    for i, name in enumerate(names):
        p, error = float(solution.parameters[i]), float(judgement.standard_errors[i])
        shown, rule = _rule(name)
        values[shown] = rule(p)
        errors[shown] = (rule(p) if rule is math.exp else rule(1.0)) * error
    return values, errors


def _rule(name: str) -> tuple[str, Callable[[float], float]]:
    """Return the name and the value that a model's parameter is reported as."""
    if name in ("log_negative_time", "log_positive_time"):
        return f"{name[4:12]}_diffusion_time_s", math.exp
    if name.endswith("_capacitance"):
        return f"{name[4:]}_F", math.exp
    if name.startswith("log_"):
        return f"{name[4:].replace('_rate', '_exchange')}_factor", math.exp
    if name == "contact_ohm":
        return "contact_mOhm", partial(float.__mul__, 1e3)
    if name == "inductance_H":
        return "inductance_nH", partial(float.__mul__, 1e9)
    return name, float


def _assembled(
    recording: Recording, step: int, names: tuple[str, ...], solution: Solution,
    judgement: Judgement, values: dict[str, float], errors: dict[str, float],
    settings: dict[str, Any], spectrum: Spectrum,
) -> Fit:  # fmt: skip
    """Put the fit together; its residual is a share of the modulus, in percent."""
    count = len(spectrum.frequency_Hz)
    residual = solution.residual_V / np.tile(spectrum.weight, 2)
    difference = complex_of(residual[:count], residual[count:])
    measured = spectrum.complex_ohm
    percent = 100.0 * float(np.sqrt(np.mean(np.abs(difference / measured) ** 2)))
    made = assemble(
        "impedance", recording, step, names, solution, judgement, values, errors, settings,
        SpectrumCurve(spectrum.frequency_Hz, measured, measured + difference), math.inf,
    )  # fmt: skip
    doubt = doubt_of(percent, DOUBT_PERCENT, "% of the modulus") if made.converged else ""
    return replace(made, residual_mV=math.nan, residual_percent=percent, doubtful=doubt)
