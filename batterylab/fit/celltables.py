"""A full-cell parameter set as the single-particle kernel reads it: tables and numbers.

PyBaMM's own parameter functions are evaluated once, so that its bounds and asymptotes come
along. Importing PyBaMM costs seconds: `tables_of` keeps what was sampled where the caller says.
"""

import contextlib
import hashlib
import json
import math
import os
import tempfile
import zlib
from dataclasses import dataclass, fields
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from batterylab.errors import BatterylabError
from batterylab.pybamm_border import parameter_values, pybamm, scalars_of

#: counts up when what is sampled changes
TABLES_VERSION = 2
ARRAYS = ("potential_V", "entropy_V_K", "exchange_A_m2", "diffusivity_m2_s",
          "salt_diffusivity_m2_s", "conductivity_S_m", "chi", "carried")  # fmt: skip
STOICHIOMETRY_POINTS = 8001
ELECTROLYTE_POINTS = 3001
HIGHEST_CONCENTRATION = 4000.0

#: lithium-ion full cells that PyBaMM ships; the others are half cells, composites and others
FULL_CELLS = (
    "Ai2020", "Chen2020", "Ecker2015", "Marquis2019", "Mohtat2020", "NCA_Kim2011", "OKane2022",
    "ORegan2022", "Prada2013", "Ramadass2004",
)  # fmt: skip
DIFFUSIVITY_POINTS = 2001
#: of a set that names none; that of all others that PyBaMM ships
DOUBLE_LAYER_F_m2 = 0.2
#: over which the temperature and concentration dependences are checked
SPAN_K = 15.0


@dataclass(frozen=True)
class CellTables:
    """A full cell as the single-particle kernel needs it, at a reference temperature.

    Pairs are of the negative and the positive electrode; tables are equally spaced over
    stoichiometry 0 to 1, or over the electrolyte's concentration from 0.

    Attributes
    ----------
    name : str
        Of the parameter set.
    temperature_K : float
        At which the tables hold; elsewhere by activation energies.
    potential_V, entropy_V_K, exchange_A_m2 : ndarray, shape (2, n)
        Open-circuit potential, its derivative by temperature, exchange-current density at
        1 mol/l.
    exchange_activation_K, exchange_power, diffusion_activation_K : tuple of float
        Activation energies over the gas constant; power of the electrolyte's concentration.
    diffusivity_m2_s : ndarray, shape (2, m)
        Of the particles.
    concentration_step : float
        Of the electrolyte's tables, in mol/m3.
    salt_diffusivity_m2_s, conductivity_S_m, chi, carried : ndarray, shape (k,)
        Of the electrolyte; chi is 2 (1 - t+) times the thermodynamic factor, `carried` is t+.
    salt_activation_K, conductivity_activation_K : float
        Activation energies over the gas constant.
    transference : float
        NaN if it depends on the concentration.
    numbers : dict of str to float
        Areas, thicknesses and the like; see `_cell_numbers`.
    separation : dict of str to float
        Largest relative error of the power law in concentration and of the activation
        energies, by quantity, 15 K away or at 1.5 mol/l.
    """

    name: str
    temperature_K: float
    potential_V: NDArray[np.float64]
    entropy_V_K: NDArray[np.float64]
    exchange_A_m2: NDArray[np.float64]
    exchange_activation_K: tuple[float, float]
    exchange_power: tuple[float, float]
    diffusion_activation_K: tuple[float, float]
    diffusivity_m2_s: NDArray[np.float64]
    concentration_step: float
    salt_diffusivity_m2_s: NDArray[np.float64]
    conductivity_S_m: NDArray[np.float64]
    chi: NDArray[np.float64]
    carried: NDArray[np.float64]
    salt_activation_K: float
    conductivity_activation_K: float
    transference: float
    numbers: dict[str, float]
    separation: dict[str, float]


class _Sampler:
    """Evaluates PyBaMM's own parameter functions of a set on arrays."""

    def __init__(self, name: str) -> None:
        self.module = pybamm()
        self.values = parameter_values(name)
        self.all = self.module.LithiumIonParameters()
        self.temperature_K = 298.15

    def __call__(self, function: Any, *arguments: Any) -> NDArray[np.float64]:
        """Return the function on arrays and numbers; arrays are of one shape."""
        shape = next((a.shape for a in arguments if isinstance(a, np.ndarray)), (1,))
        symbols = [
            self.module.Vector(a) if isinstance(a, np.ndarray) else self.module.Scalar(a)
            for a in arguments
        ]
        result = self.values.process_symbol(function(*symbols)).evaluate()
        return np.broadcast_to(np.asarray(result, float).ravel(), shape).copy()

    def number(self, symbol: Any) -> float:
        """Return a parameter that is one number."""
        return float(np.ravel(self.values.process_symbol(symbol).evaluate())[0])

    def activation(self, at: Any) -> tuple[float, float]:
        """Return activation energy over R, and its largest relative error over the span."""
        base, warm, cold = (
            at(self.temperature_K + change) for change in (0.0, SPAN_K, -SPAN_K)
        )
        here = 1.0 / self.temperature_K
        up, down = (here - 1.0 / (self.temperature_K + change) for change in (SPAN_K, -SPAN_K))
        middle = len(base) // 2
        energy = float(np.log(warm[middle] / cold[middle]) / (up - down))
        errors = [
            np.abs(base * np.exp(energy * change) / other - 1.0).max()
            for change, other in ((up, warm), (down, cold))
        ]
        return energy, float(max(errors))


@cache
def cell_tables(parameter_set: str = "Chen2020", temperature_K: float = 298.15) -> CellTables:
    """Sample a full-cell parameter set into tables for the single-particle kernel.

    Parameters
    ----------
    parameter_set : str
        One of `FULL_CELLS`, or the path of a BPX file (``.json``).
    temperature_K : float
        At which the tables are exact.

    Raises
    ------
    BatterylabError
        If the set is not a lithium-ion full cell that PyBaMM ships.
    """
    if parameter_set not in FULL_CELLS and not parameter_set.lower().endswith(".json"):
        parameter_values(parameter_set)
        raise BatterylabError(
            f"parameter set {parameter_set!r} is no lithium-ion full cell",
            hint=f"one of {', '.join(FULL_CELLS)}",
        )
    sample = _Sampler(parameter_set)
    sample.temperature_K = temperature_K
    separation: dict[str, float] = {}
    solid = [_solid_tables(sample, electrode, separation) for electrode in ("n", "p")]
    salt = _salt_tables(sample, separation)
    potential, entropy, exchange, energy, power, diffusivity, spread = zip(*solid, strict=True)
    return CellTables(
        name=parameter_set, temperature_K=temperature_K, potential_V=np.array(potential),
        entropy_V_K=np.array(entropy), exchange_A_m2=np.array(exchange),
        exchange_activation_K=energy, exchange_power=power, diffusion_activation_K=spread,
        diffusivity_m2_s=np.array(diffusivity), numbers=_cell_numbers(sample),
        separation=separation, **salt,
    )  # fmt: skip


def _solid_tables(sample: _Sampler, electrode: str, separation: dict[str, float]) -> Any:
    """Return potential, entropy, exchange, its activation and power, diffusivity and its."""
    particle = getattr(sample.all, electrode).prim
    T = sample.temperature_K
    inside = np.clip(np.linspace(0.0, 1.0, STOICHIOMETRY_POINTS), 1e-6, 1 - 1e-6)
    middle = inside[(inside > 0.05) & (inside < 0.95)][::40]
    largest = sample.number(particle.c_max)

    def j0(x: NDArray[np.float64], c_e: float, temperature_K: float) -> NDArray[np.float64]:
        return sample(particle.j0, c_e, x * largest, temperature_K)

    def spread(temperature_K: float) -> NDArray[np.float64]:
        return sample(particle.D, middle * largest, temperature_K)

    exchange = j0(inside, 1000.0, T)
    dense = j0(middle, 1500.0, T) / j0(middle, 1000.0, T)
    power = float(np.log(dense[len(dense) // 2]) / np.log(1.5))
    energy, worst = sample.activation(lambda t: j0(middle, 1000.0, t))
    separation[f"exchange_{electrode}"] = max(worst, float(np.abs(dense / 1.5**power - 1).max()))
    speed, worst = sample.activation(spread)
    separation[f"diffusivity_{electrode}"] = worst
    coarse = np.clip(np.linspace(0.0, 1.0, DIFFUSIVITY_POINTS), 1e-6, 1 - 1e-6)
    return (
        sample(particle.U, inside, T), sample(particle.dUdT, inside), exchange, energy,
        round(power, 9), sample(particle.D, coarse * largest, T), speed,
    )  # fmt: skip


def _salt_tables(sample: _Sampler, separation: dict[str, float]) -> dict[str, Any]:
    p, T = sample.all, sample.temperature_K
    grid = np.linspace(0.0, HIGHEST_CONCENTRATION, ELECTROLYTE_POINTS)
    usual = np.linspace(500.0, 1800.0, 27)
    found: dict[str, Any] = {"concentration_step": float(grid[1])}
    inside = np.maximum(grid, 1.0)
    for name, key, function in (
        ("salt_diffusivity_m2_s", "salt", p.D_e),
        ("conductivity_S_m", "conductivity", p.kappa_e),
    ):
        found[name] = sample(function, inside, T)
        energy, worst = sample.activation(lambda t, f=function: sample(f, usual, t))
        found[f"{key}_activation_K"] = energy
        separation[key] = worst
    found["chi"] = sample(p.chi, inside, T)
    found["carried"] = sample(p.t_plus, inside, T)
    carried = sample(p.t_plus, usual, T)
    constant = bool(np.ptp(carried) < 1e-9)
    found["transference"] = float(carried[0]) if constant else math.nan
    return found


def _cell_numbers(sample: _Sampler) -> dict[str, float]:
    """Return geometry and start of the cell; lengths in m, concentrations in mol/m3."""
    p, T = sample.all, sample.temperature_K
    plain = scalars_of(sample.values)
    found = {
        "area_m2": sample.number(p.L_y * p.L_z * p.n_electrodes_parallel),
        "start_mol_m3": sample.number(p.c_e_init_av),
        "reference_K": sample.number(p.T_ref),
        "transference_start": float(sample(p.t_plus, sample.number(p.c_e_init_av), T)[0]),
        "contact_ohm": plain.get("Contact resistance [Ohm]", 0.0),
        "capacity_Ah": plain["Nominal cell capacity [A.h]"],
        "voltage_min_V": plain["Lower voltage cut-off [V]"],
        "voltage_max_V": plain["Upper voltage cut-off [V]"],
    }
    for key, part, name in (("n", p.n, "Negative electrode"), ("s", p.s, "Separator"),
                            ("p", p.p, "Positive electrode")):  # fmt: skip
        porosity = plain[f"{name} porosity"]
        found[f"thickness_{key}_m"] = sample.number(part.L)
        found[f"porosity_{key}"] = porosity
        power = sample.number(part.b_e)
        found[f"transport_{key}"] = porosity**power
        if key == "s":
            continue
        active = plain[f"{name} active material volume fraction"]
        word = name.split(" ", maxsplit=1)[0]
        found[f"active_{key}"] = active
        found[f"radius_{key}_m"] = plain[f"{word} particle radius [m]"]
        found[f"largest_{key}_mol_m3"] = sample.number(part.prim.c_max)
        double = f"{name} double-layer capacity [F.m-2]"
        found[f"double_layer_{key}_F_m2"] = plain.get(double, DOUBLE_LAYER_F_m2)
        initial = plain[f"Initial concentration in {word.lower()} electrode [mol.m-3]"]
        found[f"start_{key}"] = initial / found[f"largest_{key}_mol_m3"]
        solid = sample.number(part.sigma(sample.module.Scalar(0.5), sample.module.Scalar(T)))
        found[f"conductivity_{key}_S_m"] = solid * (1 - porosity) ** sample.number(part.b_s)
    found["mean_ratio"] = _mean_ratio(sample)
    found.update(_thermal_numbers(sample))
    return found


def _mean_ratio(sample: _Sampler) -> float:
    """Return what PyBaMM's SPMe takes for the mean concentration at rest, over the true one."""
    module, name = sample.module, "X-averaged electrolyte concentration [mol.m-3]"
    model = module.lithium_ion.SPMe()
    points = dict.fromkeys(("x_n", "x_s", "x_p", "r_n", "r_p"), 3)
    values = sample.values.copy()
    values.update({"Lower voltage cut-off [V]": -99.0, "Upper voltage cut-off [V]": 99.0})
    simulation = module.Simulation(model, parameter_values=values, var_pts=points)
    mean = simulation.solve([0.0, 1e-3])[name](t=0.0)
    return float(np.ravel(mean)[0]) / sample.number(sample.all.c_e_init_av)


def _thermal_numbers(sample: _Sampler) -> dict[str, float]:
    """Return heat capacity in J/K and cooling in W/K; NaN if the set has none."""
    p, T = sample.all, sample.module.Scalar(sample.temperature_K)
    try:
        heat = sample.number(p.rho_c_p_eff(T) * p.V_cell)
        cool = sample.number(p.h_total * p.A_cooling)
    except (KeyError, ValueError, TypeError):
        heat = cool = math.nan
    return {"heat_J_K": heat, "cooling_W_K": cool if cool > 0 else math.nan}


def tables_of(
    parameter_set: str, temperature_K: float = 298.15, cache: Path | None = None
) -> CellTables:
    """Return a set's tables, from a file where they are kept.

    Parameters
    ----------
    parameter_set, temperature_K
        As for `cell_tables`.
    cache : Path, optional
        Folder that keeps tables, by set, temperature and version of PyBaMM.

    Raises
    ------
    BatterylabError
        If the set is not a lithium-ion full cell that PyBaMM ships.
    """
    if cache is None:
        return cell_tables(parameter_set, temperature_K)
    safe = "".join(c if c.isalnum() else "-" for c in parameter_set)[:60]
    if parameter_set.lower().endswith(".json"):
        safe = f"bpx-{bpx_digest(parameter_set)}"
    version = metadata.version("pybamm")
    path = cache / f"{safe}_{temperature_K:.2f}K_spm{TABLES_VERSION}_pybamm-{version}.npz"
    kept = _read_tables(path, parameter_set)
    if kept is None:
        kept = cell_tables(parameter_set, temperature_K)
        _write_tables(path, kept)
    return kept


def bpx_digest(path: str) -> str:
    """Return the SHA-256 of a BPX file, 16 hex digits.

    Raises
    ------
    BatterylabError
        If it cannot be read.
    """
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise BatterylabError(f"{path}: cannot be read: {error.strerror}") from None


def _read_tables(path: Path, name: str) -> CellTables | None:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
            rest: dict[str, Any] = json.loads(str(kept["rest"]))
            rest |= {key: np.ascontiguousarray(kept[key], np.float64) for key in ARRAYS}
        for key in ("exchange_activation_K", "exchange_power", "diffusion_activation_K"):
            rest[key] = tuple(rest[key])
        found = CellTables(**rest)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error):
        return None
    return found if found.name == name else None


def _write_tables(path: Path, tables: CellTables) -> None:
    """Keep the tables; a folder that cannot be written to costs time only."""
    rest = {f.name: getattr(tables, f.name) for f in fields(tables) if f.name not in ARRAYS}
    arrays = {key: getattr(tables, key) for key in ARRAYS}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".writing-", suffix=".npz", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                np.savez(stream, rest=np.array(json.dumps(rest)), **arrays)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
