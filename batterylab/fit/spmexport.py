"""A fit of `spm`, `spme` or `dfn` as PyBaMM's parameters, and its check against PyBaMM itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab.errors import BatterylabError
from batterylab.fit.celltables import CellTables, cell_tables
from batterylab.fit.dfncell import NAMES as DFN_NAMES
from batterylab.fit.dfncell import DfnCell, dfn_voltage
from batterylab.fit.result import Fit
from batterylab.fit.spmcell import NAMES, SHIFTS, History, SpmCell, history_of, spm_voltage
from batterylab.fit.spmwindow import joined, spm_window
from batterylab.recording import Recording

Array = NDArray[np.float64]

#: largest difference from PyBaMM that passes, in mV
BAR_mV = 1.0
#: mesh points through each domain and along each radius of the reference
POINTS = (40, 60)
#: currents that differ by less than this share of the largest are one
SAME_CURRENT = 1e-4
#: PyBaMM's names of the models
KINDS = {"spm": "SPM", "spme": "SPMe", "dfn": "DFN"}
#: sizes that grow with the electrode area
SIZES = ("Electrode width [m]", "Cell volume [m3]", "Cell cooling surface area [m2]")


@dataclass(frozen=True)
class Export:
    """What a fit changes in its parameter set.

    Attributes
    ----------
    parameter_set, model : str
        PyBaMM's names.
    values : dict of str to float
        Parameters to set.
    factors : dict of str to float
        Parameters, numbers or functions, to multiply.
    options : dict of str to str
        Of the model.
    """

    parameter_set: str
    model: str
    values: dict[str, float]
    factors: dict[str, float]
    options: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return {
            "schema": "batterylab.pybamm/1", "parameter_set": self.parameter_set,
            "model": self.model, "values": self.values, "factors": self.factors,
            "options": self.options,
        }  # fmt: skip


def export(fit: Fit) -> Export:
    """Return what a converged `spm`, `spme` or `dfn` fit changes in its parameter set.

    Raises
    ------
    BatterylabError
        If the fit is of another model, or did not converge.
    """
    if fit.model not in KINDS:
        raise BatterylabError(f"a fit of {fit.model} has no PyBaMM parameters",
                              hint="export fits of spm, spme or dfn")  # fmt: skip
    if not fit.converged:
        raise BatterylabError(f"the fit of {fit.serial} did not converge: {fit.reason}")
    names = names_of(fit.model)
    whole = {name: float(fit.settings["all_parameters"][name]) for name in names}
    factor = float(fit.settings["area_factor"])
    kelvin = float(fit.settings["temperature_degC"]) + 273.15
    name = str(fit.settings["parameter_set"])
    cell = cell_of(fit, cell_tables(name, kelvin))
    own, n = dict(zip(names, cell.start, strict=True)), cell.tables.numbers
    e = np.exp
    factors = {
        "Negative electrode active material volume fraction": whole[NAMES[0]] / own[NAMES[0]],
        "Positive electrode active material volume fraction": whole[NAMES[1]] / own[NAMES[1]],
        "Negative particle diffusivity [m2.s-1]":
            e(own["log_negative_time"] - whole["log_negative_time"]),
        "Positive particle diffusivity [m2.s-1]":
            e(own["log_positive_time"] - whole["log_positive_time"]),
        "Negative electrode exchange-current density [A.m-2]": e(whole["log_negative_rate"]),
        "Positive electrode exchange-current density [A.m-2]": e(whole["log_positive_rate"]),
        "Electrolyte conductivity [S.m-1]": e(whole["log_conductivity"]),
        "Electrolyte diffusivity [m2.s-1]": e(whole["log_salt_diffusivity"]),
        "Negative electrode conductivity [S.m-1]": e(whole.get("log_negative_conductivity", 0.0)),
        "Positive electrode conductivity [S.m-1]": e(whole.get("log_positive_conductivity", 0.0)),
        **dict.fromkeys(SIZES, factor),
    }  # fmt: skip
    values = {
        "Initial concentration in negative electrode [mol.m-3]":
            whole["x_start"] * n["largest_n_mol_m3"],
        "Initial concentration in positive electrode [mol.m-3]":
            whole["y_start"] * n["largest_p_mol_m3"],
        "Contact resistance [Ohm]": whole["contact_ohm"],
    }  # fmt: skip
    kept = {key: float(value) for key, value in factors.items() if abs(value - 1.0) > 1e-12}
    return Export(name, KINDS[fit.model], values, kept, {"contact resistance": "true"})


def names_of(model: str) -> tuple[str, ...]:
    """Return the names of all parameters of a model."""
    return DFN_NAMES if model == "dfn" else NAMES


def cell_of(fit: Fit, tables: CellTables) -> SpmCell | DfnCell:
    """Return the cell of a fit, in its size."""
    factor = float(fit.settings["area_factor"])
    if fit.model == "dfn":
        return DfnCell(tables, area_factor=factor)
    return SpmCell(tables, fit.model, area_factor=factor)


def parameter_values(fit: Fit) -> Any:
    """Return a fit as `pybamm.ParameterValues`; use the option ``contact resistance: true``.

    Raises
    ------
    BatterylabError
        If the fit is of another model, or did not converge.
    """
    from batterylab import pybamm_border

    made = export(fit)
    values = pybamm_border.parameter_values(made.parameter_set)
    for name, factor in made.factors.items():
        if name in values:
            values[name] = _scaled(values[name], factor)
    values.update(made.values)
    return values


def _scaled(value: Any, factor: float) -> Any:
    return partial(_times, value, factor) if callable(value) else float(value) * factor


def _times(function: Callable[..., Any], factor: float, *arguments: Any) -> Any:
    return factor * function(*arguments)


@dataclass(frozen=True)
class Check:
    """How far the kernel lies from PyBaMM at a fit.

    Attributes
    ----------
    largest_mV, rms_mV : float
        Over the observed rows.
    rows : int
        That were compared.
    """

    largest_mV: float
    rms_mV: float
    rows: int

    @property
    def is_met(self) -> bool:
        """Whether the largest difference is within 1 mV."""
        return self.largest_mV <= BAR_mV


def check(
    fit: Fit, recording: Recording | Sequence[Recording], points: tuple[int, int] = POINTS
) -> Check:
    """Compare the kernel with PyBaMM on a refined mesh, at a fit, over the rows it was fitted to.

    Both run at the fit's temperature, with the mean current between two rows. A joint fit takes
    its recordings in their order.

    Raises
    ------
    BatterylabError
        If the fit cannot be exported, or PyBaMM gives no voltage.
    """
    from batterylab.pybamm_border import reference_voltage

    values = parameter_values(fit)
    several = [recording] if isinstance(recording, Recording) else recording
    history = joined([spm_window(one, fit.settings["step"], fit.settings["points"])
                      for one in several]).history  # fmt: skip
    kelvin = float(fit.settings["temperature_degC"]) + 273.15
    cell = cell_of(fit, cell_tables(str(fit.settings["parameter_set"]), kelvin))
    names = names_of(fit.model)
    whole = np.array([float(fit.settings["all_parameters"][name]) for name in names])
    differences = []
    shifts = np.array([0.0, *whole[[names.index(s) for s in SHIFTS if s in names]]])
    for part in _parts(history, float(fit.settings["temperature_degC"]), shifts):
        time_s, amps, start_Ah, own = part
        here = whole.copy()
        here[2] += start_Ah / whole[0]
        here[3] -= start_Ah / whole[1]
        largest = cell.tables.numbers
        values.update({
            "Initial concentration in negative electrode [mol.m-3]":
                here[2] * largest["largest_n_mol_m3"],
            "Initial concentration in positive electrode [mol.m-3]":
                here[3] * largest["largest_p_mol_m3"],
        })  # fmt: skip
        ours = (dfn_voltage(cell, own, here).voltage_V if isinstance(cell, DfnCell)
                else spm_voltage(cell, own, here).voltage_V)  # fmt: skip
        theirs = reference_voltage(
            values, time_s, amps, model=fit.model, points=points,
            temperature_degC=float(fit.settings["temperature_degC"]),
        )  # fmt: skip
        seen = theirs[own.observed]
        differences.append((ours - seen)[np.isfinite(seen)])
    difference = 1e3 * np.concatenate(differences)
    if not len(difference):
        raise BatterylabError(f"PyBaMM gives no voltage at the fit of {fit.serial}")
    return Check(float(np.abs(difference).max()), float(np.sqrt(np.mean(difference**2))),
                 len(difference))  # fmt: skip


def _parts(
    history: History, temperature_degC: float, shifts_Ah: Array
) -> list[tuple[Array, Array, float, History]]:
    """Return each relaxed beginning's rows, with the mean current between rows.

    The charge at the beginning is the counter's, and what is added to it in that recording.
    """
    firsts = [*np.flatnonzero(history.flags & 2), history.data.shape[1]]
    parts = []
    for first, end in pairwise(firsts):
        time_s, _, charge_Ah, _, _ = history.data[:, first:end]
        new = np.append(True, np.diff(time_s) > 1e-6)
        time_s, charge_Ah = time_s[new] - time_s[0], charge_Ah[new]
        amps = np.append(0.0, np.diff(charge_Ah) * 3600.0 / np.diff(time_s))
        least = SAME_CURRENT * float(np.abs(amps).max())
        amps = np.round(amps / least) * least if least > 0 else amps
        seen = history.observed[first:end][new].copy()
        seen[0] = False
        if not seen.any():
            continue
        made = history_of(time_s, amps, temperature_degC=temperature_degC, observed=seen)
        start_Ah = float(charge_Ah[0] + shifts_Ah[history.parts[first]])
        parts.append((time_s, amps, start_Ah, made))
    return parts
