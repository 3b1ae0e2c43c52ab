r"""A fit of `spm`, `spme` or `dfn` as BPX (Battery Parameter eXchange), validated by `bpx`.

BPX writes the exchange current as :math:`F k \sqrt{c_e / c_{e0}} \sqrt{x (1 - x)}`; k is that at
x = 0.5 of the set, times the fit's factor, and how far the set's own exchange current lies from
that form between x = 0.1 and 0.9 is said. Potentials, entropies, diffusivities that vary, and the
electrolyte go out as tables of straight pieces, to 0.02 mV and 1e-4 of their largest value.
The contact resistance, for which BPX has no name, stands under ``User-defined``. Source: BPX
standard 1.1, bpxstandard.com.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab.errors import BatterylabError
from batterylab.fit.celltables import CellTables, cell_tables
from batterylab.fit.result import Fit
from batterylab.fit.spmexport import KINDS, cell_of, names_of
from batterylab.fit.spmmesh import FARADAY_C_mol

Array = NDArray[np.floating[Any]]

GAS_CONSTANT = 8.314462618
TOLERANCE_V = 2e-5
TOLERANCE = 1e-4
#: taken for the cell's density, of which only the product with the heat capacity matters
DENSITY_kg_m3 = 2000.0
#: stoichiometries that tables span
ENDS = (0.0005, 0.9995)
NAME = {"n": "Negative electrode", "p": "Positive electrode"}
WORD = {"n": "negative", "p": "positive"}


def bpx_of(fit: Fit) -> dict[str, Any]:
    """Return a converged fit as BPX content, checked against the standard.

    Raises
    ------
    BatterylabError
        If the fit is of another model, did not converge, or has no place in BPX.
    """
    from batterylab.pybamm_bpx import checked_bpx

    if fit.model not in KINDS:
        raise BatterylabError(f"a fit of {fit.model} has no BPX", hint="export spm, spme or dfn")
    if not fit.converged:
        raise BatterylabError(f"the fit of {fit.serial} did not converge: {fit.reason}")
    p = {name: float(v) for name, v in fit.settings["all_parameters"].items()}
    kelvin = float(fit.settings["temperature_degC"]) + 273.15
    cell = cell_of(fit, cell_tables(str(fit.settings["parameter_set"]), kelvin))
    t, n = cell.tables, cell.tables.numbers
    own = dict(zip(names_of(fit.model), cell.start, strict=True))
    electrodes = {NAME[e]: _electrode(t, e, k, p, own) for k, e in enumerate("np")}
    ends = _stoichiometries(t, p)
    for e, (least, most) in zip("np", ends, strict=True):
        electrodes[NAME[e]] |= {"Minimum stoichiometry": least, "Maximum stoichiometry": most}
    errors = [_form_error(t, k) for k in range(2)]
    content = {
        "Header": {
            "BPX": "1.1.1",
            "Title": f"{fit.serial}, fitted with {fit.model}",
            "Description": f"batterylab fit of {t.name}, recording {fit.seal[:16]}; exchange "
            f"currents off BPX's form by {100 * errors[0]:.2g} % and {100 * errors[1]:.2g} %",
            "Model": "DFN" if fit.model == "dfn" else "SPMe",
        },
        "Parameterisation": {
            "Cell": _cell(t),
            "Electrolyte": _electrolyte(t, p),
            **electrodes,
            "Separator": {
                "Thickness [m]": n["thickness_s_m"], "Porosity": n["porosity_s"],
                "Transport efficiency": n["transport_s"],
            },
            "User-defined": {"Contact resistance [Ohm]": p["contact_ohm"]},
        },
        "State": {
            "Initial conditions": {
                "Initial electrolyte concentration [mol.m-3]": n["start_mol_m3"],
                "Initial temperature [K]": t.temperature_K,
            },
            "Thermal environment": {"Ambient temperature [K]": t.temperature_K},
        },
    }  # fmt: skip
    return checked_bpx(content)


def _cell(t: CellTables) -> dict[str, float]:
    n = t.numbers
    volume = n["area_m2"] * sum(n[f"thickness_{e}_m"] for e in "nsp")
    found = {
        "Electrode area [m2]": n["area_m2"],
        "Number of electrode pairs connected in parallel to make a cell": 1,
        "Lower voltage cut-off [V]": n["voltage_min_V"],
        "Upper voltage cut-off [V]": n["voltage_max_V"],
        "Nominal cell capacity [A.h]": n["capacity_Ah"],
        "Reference temperature [K]": t.temperature_K,
        "Volume [m3]": volume,
        "External surface area [m2]": 2.0 * n["area_m2"],
    }
    if math.isfinite(n["heat_J_K"]):
        found["Density [kg.m-3]"] = DENSITY_kg_m3
        found["Specific heat capacity [J.K-1.kg-1]"] = n["heat_J_K"] / (volume * DENSITY_kg_m3)
    return found


def _electrolyte(t: CellTables, p: dict[str, float]) -> dict[str, Any]:
    if not math.isfinite(t.transference):
        raise BatterylabError(f"{t.name}: BPX has no transference number that depends on the salt")
    place = np.arange(len(t.chi)) * t.concentration_step
    used = (place >= 50.0) & (place <= 3000.0)
    kappa = t.conductivity_S_m[used] * math.exp(p["log_conductivity"])
    spread = t.salt_diffusivity_m2_s[used] * math.exp(p["log_salt_diffusivity"])
    return {
        "Cation transference number": t.transference,
        "Conductivity [S.m-1]": _table(place[used], kappa),
        "Conductivity activation energy [J.mol-1]": GAS_CONSTANT * t.conductivity_activation_K,
        "Diffusivity [m2.s-1]": _table(place[used], spread),
        "Diffusivity activation energy [J.mol-1]": GAS_CONSTANT * t.salt_activation_K,
    }


def _electrode(
    t: CellTables, e: str, k: int, p: dict[str, float], own: dict[str, float]
) -> dict[str, Any]:
    n, word = t.numbers, WORD[e]
    capacity = p[f"{word}_capacity_Ah"] / own[f"{word}_capacity_Ah"]
    time = math.exp(own[f"log_{word}_time"] - p[f"log_{word}_time"])
    rate = math.exp(p[f"log_{word}_rate"])
    x = np.linspace(0.0, 1.0, t.potential_V.shape[1])
    inside = (x >= ENDS[0]) & (x <= ENDS[1])
    coarse = np.linspace(0.0, 1.0, t.diffusivity_m2_s.shape[1])
    middle = float(np.interp(0.5, x, t.exchange_A_m2[k])) * 2.0 / FARADAY_C_mol
    c_e = (n["start_mol_m3"] / 1000.0) ** t.exchange_power[k]
    return {
        "Thickness [m]": n[f"thickness_{e}_m"],
        "Porosity": n[f"porosity_{e}"],
        "Transport efficiency": n[f"transport_{e}"],
        "Conductivity [S.m-1]": n[f"conductivity_{e}_S_m"] * math.exp(
            p.get(f"log_{word}_conductivity", 0.0)),
        "Particle radius [m]": n[f"radius_{e}_m"],
        "Surface area per unit volume [m-1]":
            3.0 * capacity * n[f"active_{e}"] / n[f"radius_{e}_m"],
        "Maximum concentration [mol.m-3]": n[f"largest_{e}_mol_m3"],
        "Diffusivity [m2.s-1]": _table(coarse, t.diffusivity_m2_s[k] * time),
        "Diffusivity activation energy [J.mol-1]": GAS_CONSTANT * t.diffusion_activation_K[k],
        "OCP [V]": _table(x[inside], t.potential_V[k][inside], TOLERANCE_V),
        "Entropic change coefficient [V.K-1]": _table(x[inside], t.entropy_V_K[k][inside], 1e-7),
        "Reaction rate constant [mol.m-2.s-1]": middle * c_e * rate,
        "Reaction rate constant activation energy [J.mol-1]":
            GAS_CONSTANT * t.exchange_activation_K[k],
    }  # fmt: skip


def _form_error(t: CellTables, k: int) -> float:
    """Return how far the exchange current lies from BPX's form, between x = 0.1 and 0.9."""
    x = np.linspace(0.1, 0.9, 161)
    grid = np.linspace(0.0, 1.0, t.exchange_A_m2.shape[1])
    own = np.interp(x, grid, t.exchange_A_m2[k]) / np.sqrt(x * (1.0 - x))
    return float(np.abs(own / own[80] - 1.0).max())


def _stoichiometries(
    t: CellTables, p: dict[str, float]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return least and most lithium of both electrodes between the cell's voltage limits."""
    grid = np.linspace(0.0, 1.0, t.potential_V.shape[1])
    x = np.linspace(*ENDS, 20001)
    y = p["y_start"] + (p["x_start"] - x) * p["negative_capacity_Ah"] / p["positive_capacity_Ah"]
    inside = (y > ENDS[0]) & (y < ENDS[1])
    x, y = x[inside], y[inside]
    volts = np.interp(y, grid, t.potential_V[1]) - np.interp(x, grid, t.potential_V[0])
    low, high = t.numbers["voltage_min_V"], t.numbers["voltage_max_V"]
    middle = int(np.argmin(np.abs(volts - 0.5 * (low + high)))) if len(x) else 0
    below, above = np.flatnonzero(volts <= low), np.flatnonzero(volts >= high)
    first = int(below[below <= middle].max(initial=0))
    last = int(above[above >= middle].min(initial=len(x) - 1))
    if not len(x) or not first < last:
        raise BatterylabError("the fit's electrodes reach no voltage between the cell's limits")
    return (float(x[first]), float(x[last])), (float(y[last]), float(y[first]))


def _table(x: Array, y: Array, tolerance: float | None = None) -> Any:
    """Return a number, or a table of as few straight pieces as the tolerance needs."""
    most = float(np.abs(y).max())
    limit = TOLERANCE * most if tolerance is None else tolerance
    if float(np.ptp(y)) <= 1e-9 * most:
        return float(y[0])
    kept = np.zeros(len(x), bool)
    kept[[0, -1]] = True
    parts = [(0, len(x) - 1)]
    while parts:
        a, b = parts.pop()
        if b - a < 2:
            continue
        straight = y[a] + (y[b] - y[a]) * (x[a : b + 1] - x[a]) / (x[b] - x[a])
        off = np.abs(y[a : b + 1] - straight)
        worst = int(off.argmax())
        if off[worst] > limit:
            kept[a + worst] = True
            parts += [(a, a + worst), (a + worst, b)]
    return {"x": [float(v) for v in x[kept]], "y": [float(v) for v in y[kept]]}
