r"""Single-particle models, without (`spm`) and with electrolyte (`spme`), fitted to recordings.

Both electrodes' capacities, the lithium between them, the particles' diffusion times and the
series resistance, from a discharge and pulses; everything else comes from a parameter set. See
`batterylab.fit.spmcell` for the model and `batterylab.fit.spmwindow` for the rows. On what such
data can tell: A. M. Bizeray, J.-H. Kim, S. R. Duncan, D. A. Howey, IEEE Trans. Control Syst.
Technol. 27 (2019) 1862.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab._kernels import _spm
from batterylab.errors import BatterylabError
from batterylab.fit.assemble import Shown, assemble, with_profile
from batterylab.fit.celltables import tables_of
from batterylab.fit.dfncell import DfnCell
from batterylab.fit.loss import SQUARES, Loss
from batterylab.fit.result import Curve, Fit
from batterylab.fit.settings import FitSettings
from batterylab.fit.solve import MOST_STEPS, TOLERANCE, Solution, Steps, alone, bounded_fit
from batterylab.fit.spmcell import NAMES, SpmCell, Started, indices_of
from batterylab.fit.spmmesh import VOLUMES
from batterylab.fit.spmstart import LITTLE, moved_share, starts_of
from batterylab.fit.spmwindow import SpmWindow, spm_window
from batterylab.fit.statistics import Judgement, judge
from batterylab.recording import Recording

Array = NDArray[np.float64]

#: what is fitted unless a setting says otherwise
USUAL = ("negative_capacity_Ah", "positive_capacity_Ah", "x_start", "y_start",
         "log_negative_time", "log_positive_time", "contact_ohm")  # fmt: skip
#: and where little of the capacity moves, as in a pulse: the rest is the set's
USUAL_FOR_PULSES = ("y_start", "log_negative_time", "log_positive_time", "contact_ohm")
#: residuals above this come from a parameter set that is not the cell's
DOUBT_mV = 15.0
#: bounds: capacities as multiples of the start, logarithms as distances from it
CAPACITIES = (0.5, 2.0)
LOGARITHMS = {"time": 3.0, "rate": 5.0, "conductivity": 2.0, "diffusivity": 2.0}
MOST_OHM_V = 0.5
#: fitted logarithm -> the value that is reported
FACTORS = {
    "log_negative_rate": "negative_exchange_factor",
    "log_positive_rate": "positive_exchange_factor",
    "log_conductivity": "conductivity_factor",
    "log_salt_diffusivity": "salt_diffusivity_factor",
    "log_negative_conductivity": "negative_solid_conductivity_factor",
    "log_positive_conductivity": "positive_solid_conductivity_factor",
}


@dataclass(frozen=True)
class SpmSettings(FitSettings):
    """How an `spm` is fitted; see `FitSettings` for the rest.

    Attributes
    ----------
    parameter_set : str
        PyBaMM's set that gives everything that is not fitted.
    free : str
        Parameters to fit, joined by ``+``; names as in `batterylab.fit.spmcell`. Empty:
        capacities, stoichiometries, diffusion times and contact resistance; where less than a
        fifth of the capacity moves, the positive electrode's stoichiometry, diffusion times and
        contact resistance.
    step : int or None
        Which step; None: see `spm_window`.
    points : int
        Most rows of a step at constant current.
    """

    parameter_set: str = "Chen2020"
    free: str = ""
    step: int | None = None
    points: int = 150

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.points < 10:
            raise BatterylabError("points must be at least 10")
        fitted = [NAMES[i] for i in indices_of(self.names)]
        if {"log_heat", "log_cooling"} & set(fitted):
            raise BatterylabError("log_heat and log_cooling do not matter: the temperature is "
                                  "taken as measured")  # fmt: skip
        if self.model == "spm" and {"log_conductivity", "log_salt_diffusivity"} & set(fitted):
            raise BatterylabError("the model spm has no electrolyte", hint="use spme")

    @property
    def model(self) -> str:
        """The model's name."""
        return "spm"

    @property
    def names(self) -> tuple[str, ...]:
        """The fitted parameters, where the data are a discharge."""
        return tuple(n.strip() for n in self.free.split("+")) if self.free.strip() else USUAL

    def names_for(self, cell: Started, window: SpmWindow) -> tuple[str, ...]:
        """Return the parameters that are fitted to a window."""
        is_pulse = moved_share(cell, window) < LITTLE
        return USUAL_FOR_PULSES if is_pulse and not self.free.strip() else self.names


@dataclass(frozen=True)
class SpmeSettings(SpmSettings):
    """How an `spme` is fitted; see `SpmSettings`."""

    @property
    def model(self) -> str:
        """The model's name."""
        return "spme"


def bounds_of(
    base: Array, names: tuple[str, ...], amps: float, known: tuple[str, ...] = NAMES
) -> tuple[Array, Array]:
    """Return bounds of the fitted parameters."""
    lower, upper = [], []
    for name, index in zip(names, indices_of(names, known), strict=True):
        value = float(base[index])
        if name.endswith("capacity_Ah"):
            pair = (CAPACITIES[0] * value, CAPACITIES[1] * value)
        elif name in ("x_start", "y_start"):
            pair = (0.001, 0.999)
        elif name.startswith("charge_shift"):
            pair = (value - 0.5 * float(base[0]), value + 0.5 * float(base[0]))
        elif name == "contact_ohm":
            pair = (0.0, MOST_OHM_V / max(amps, 1e-9))
        else:
            reach = LOGARITHMS[name.rsplit("_", 1)[1]]
            pair = (value - reach, value + reach)
        lower.append(pair[0])
        upper.append(pair[1])
    return np.array(lower), np.array(upper)


def solve_spm(
    cell: SpmCell,
    window: SpmWindow,
    names: tuple[str, ...] = USUAL,
    *,
    most_steps: int = MOST_STEPS,
    tolerance: float = TOLERANCE,
    start: Array | None = None,
    loss: Loss = SQUARES,
) -> tuple[Solution, Array]:
    """Fit to a window; return the solution and all parameters at it.

    Parameters
    ----------
    cell, window
        The set and the rows.
    names : tuple of str
        What to fit.
    start : ndarray, shape (20,), optional
        All parameters to begin from; else those of `starts_of`.

    Raises
    ------
    BatterylabError
        If no current flows, or there are too few rows.
    """
    return alone(spm_steps(cell, window, names, most_steps=most_steps, tolerance=tolerance,
                           start=start, loss=loss))  # fmt: skip


def spm_steps(
    cell: SpmCell,
    window: SpmWindow,
    names: tuple[str, ...] = USUAL,
    *,
    most_steps: int = MOST_STEPS,
    tolerance: float = TOLERANCE,
    start: Array | None = None,
    loss: Loss = SQUARES,
) -> Steps[tuple[Solution, Array]]:
    """Fit to a window, as steps for `batterylab.fit.solve`; see `solve_spm`."""
    rows = int(window.history.observed.sum())
    is_known = cell.model == "spme" and "log_salt_diffusivity" not in names
    salt = np.empty((rows if is_known else 0, sum(VOLUMES)))

    def kernel(base: Array, index: NDArray[np.int32]) -> Callable[..., _spm.Fit]:
        return partial(_spm.Fit, cell.kernel, window.history.data, window.history.flags, base,
                       index, salt)  # fmt: skip

    return window_steps(kernel, cell, window, names, most_steps, tolerance, start, loss)


def window_steps(
    kernel: Callable[[Array, NDArray[np.int32]], Callable[..., Any]], cell: Started,
    window: SpmWindow, names: tuple[str, ...], most_steps: int, tolerance: float,
    start: Array | None, loss: Loss,
) -> Steps[tuple[Solution, Array]]:  # fmt: skip
    """Fit any particle model to a window, as steps; see `solve_spm`.

    `kernel` returns what makes a fit, from all parameters and the places of the fitted ones.
    """
    amps = float(np.abs(window.history.data[1]).max())
    if not amps > 0:
        raise BatterylabError("no current flows in the window")
    index = indices_of(names, cell.names)
    if start is None:
        base, starts = starts_of(cell, window, names)
    else:
        base, starts = start.copy(), start[None, index]
    lower, upper = bounds_of(base, names, amps, cell.names)
    solution = yield from bounded_fit(
        kernel(base, index), int(window.history.observed.sum()), np.clip(starts, lower, upper),
        lower, upper, most_steps=most_steps, tolerance=tolerance, loss=loss,
    )  # fmt: skip
    whole = base.copy()
    whole[index] = solution.parameters
    return solution, whole


def cell_for(settings: SpmSettings, window: SpmWindow, cache: Path | None = None) -> SpmCell:
    """Return the set's cell in the recording's size, its tables at the temperature to 1 K."""
    kelvin = round(window.temperature_degC) + 273.15
    return _cell(settings.parameter_set, settings.model, kelvin, window.nominal_Ah, cache)


@lru_cache(maxsize=64)
def _cell(
    parameter_set: str, model: str, kelvin: float, nominal_Ah: float, cache: Path | None
) -> SpmCell:
    tables = tables_of(parameter_set, kelvin, cache)
    factor = nominal_Ah / tables.numbers["capacity_Ah"] if nominal_Ah > 0 else 1.0
    return SpmCell(tables, model, area_factor=factor)


def fit_spm(recording: Recording, settings: SpmSettings, cache: Path | None = None) -> Fit:
    """Fit a single-particle model to a recording.

    Parameters
    ----------
    cache : Path, optional
        Folder that keeps the parameter set's tables.

    Raises
    ------
    NotSuitedError
        If the recording has no discharge or pulse that begins in equilibrium.
    """
    return alone(spm_fit(recording, settings, cache))


def spm_fit(
    recording: Recording, settings: SpmSettings, cache: Path | None = None
) -> Steps[Fit]:  # fmt: skip
    """Fit a single-particle model, as steps for `batterylab.fit.solve`; see `fit_spm`."""
    window = spm_window(recording, settings.step, settings.points)
    cell = cell_for(settings, window, cache)
    names = settings.names_for(cell, window)
    solution, whole = yield from spm_steps(
        cell, window, names, most_steps=settings.most_steps, tolerance=settings.tolerance,
        loss=settings.chosen_loss,
    )  # fmt: skip
    return fit_of(recording, settings, window, cell, names, solution, whole)


def fit_of(
    recording: Recording, settings: SpmSettings, window: SpmWindow, cell: SpmCell | DfnCell,
    names: tuple[str, ...], solution: Solution, whole: Array,
) -> Fit:  # fmt: skip
    """Put a particle model's solution and its judgement together."""
    judgement = judge(solution.noise_V, solution.jacobian, ~solution.at_bound)
    values, errors = derived(cell, names, solution, judgement, whole)
    seen = window.history.observed
    volts = window.history.data[4][seen]
    curve = Curve(window.history.data[0][seen] / 3600.0, "time / h", volts,
                  volts + solution.residual_V)  # fmt: skip
    used = {
        **asdict(settings), "free": "+".join(names),
        "temperature_degC": round(cell.tables.temperature_K - 273.15, 3),
        "area_factor": cell.area_factor,
        "all_parameters": dict(zip(cell.names, (float(p) for p in whole), strict=True)),
    }  # fmt: skip
    made = assemble(
        settings.model, recording, window.first_step, names, solution, judgement,
        values, errors, used, curve, DOUBT_mV,
    )  # fmt: skip
    if settings.profile:
        made = with_profile(made, solution, judgement, shown_of(names, cell))
    notes = [*made.notes, *window.notes]
    if names == USUAL_FOR_PULSES and not settings.free.strip():
        notes.append(f"{100 * moved_share(cell, window):.1f} % of the capacity moved: both "
                     "capacities and x_start are held at the parameter set's")  # fmt: skip
    return replace(made, notes=tuple(notes))


def shown_of(names: tuple[str, ...], cell: Started) -> Shown:
    """Return which values follow from one fitted parameter, and how."""
    radii = {e: cell.tables.numbers[f"radius_{e[0]}_m"] for e in ("negative", "positive")}
    shown: dict[str, tuple[int, Callable[[float], float]]] = {}
    for place, name in enumerate(names):
        if name.endswith("_time"):
            side = name[4:12]
            shown[f"{side}_diffusion_time_s"] = (place, math.exp)
            shown[f"{side}_diffusivity_m2_s"] = (
                place, partial(_diffusivity, radii[side])
            )  # fmt: skip
        elif name == "contact_ohm":
            shown["contact_mOhm"] = (place, partial(float.__mul__, 1e3))
        elif name.startswith("log_"):
            shown[FACTORS.get(name, f"{name[4:]}_factor")] = (place, math.exp)
        else:
            shown[name] = (place, float)
    return shown


def _diffusivity(radius_m: float, log_time: float) -> float:
    return radius_m**2 * math.exp(-log_time)


def derived(
    cell: Started, names: tuple[str, ...], solution: Solution, judgement: Judgement, whole: Array
) -> tuple[dict[str, float], dict[str, float]]:
    """Return values with units and their standard errors, to first order."""
    q_n, q_p, x, y = (float(v) for v in whole[:4])
    n, p = cell.tables.numbers, dict(zip(cell.names, (float(v) for v in whole), strict=True))
    tau_n, tau_p = (math.exp(p[f"log_{e}_time"]) for e in ("negative", "positive"))
    d_n, d_p = n["radius_n_m"] ** 2 / tau_n, n["radius_p_m"] ** 2 / tau_p
    own = cell.start
    table: dict[str, tuple[float, dict[str, float]]] = {
        "negative_capacity_Ah": (q_n, {NAMES[0]: 1.0}),
        "positive_capacity_Ah": (q_p, {NAMES[1]: 1.0}),
        "lithium_inventory_Ah": (x * q_n + y * q_p, dict(zip(NAMES, (x, y, q_n, q_p),
                                                            strict=False))),
        "x_start": (x, {"x_start": 1.0}),
        "y_start": (y, {"y_start": 1.0}),
        "negative_diffusion_time_s": (tau_n, {"log_negative_time": tau_n}),
        "positive_diffusion_time_s": (tau_p, {"log_positive_time": tau_p}),
        "negative_diffusivity_m2_s": (d_n, {"log_negative_time": -d_n}),
        "positive_diffusivity_m2_s": (d_p, {"log_positive_time": -d_p}),
        "contact_mOhm": (1e3 * p["contact_ohm"], {"contact_ohm": 1e3}),
    }  # fmt: skip
    for name, short in FACTORS.items():
        if name in names:
            factor = math.exp(p[name])
            table[short] = (factor, {name: factor})
    table["negative_loading"] = (q_n / own[0], {NAMES[0]: 1.0 / float(own[0])})
    table["positive_loading"] = (q_p / own[1], {NAMES[1]: 1.0 / float(own[1])})
    values = {name: float(value) for name, (value, _) in table.items()}
    errors = {
        name: _error(slopes, names, judgement.covariance) for name, (_, slopes) in table.items()
    }
    return values, errors


def _error(slopes: dict[str, float], names: tuple[str, ...], covariance: Array) -> float:
    """Return the standard error along a gradient; 0 if nothing of it was fitted."""
    row = np.array([slopes.get(name, 0.0) for name in names])
    used = np.flatnonzero(row)
    return float(np.sqrt(row[used] @ covariance[np.ix_(used, used)] @ row[used]))
