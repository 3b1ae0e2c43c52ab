r"""A cell for the single-particle kernel: parameters, meshes, and voltage with derivatives.

The parameters are grouped so that a voltage can tell them apart:

======================  ================================================================
negative_capacity_Ah    lithium that the negative electrode's active material can hold
positive_capacity_Ah    and the positive's
x_start, y_start        stoichiometries of the relaxed cell where the charge counts zero
log_negative_time       logarithm of the particle's diffusion time R²/D in s
log_positive_time       and of the positive's; with D(x), that at x = 0.5
log_negative_rate       logarithm of a factor on the exchange current per Ah
log_positive_rate       and of the positive's
contact_ohm             series resistance
log_conductivity        logarithm of a factor on the electrolyte's conductivity
log_salt_diffusivity    and on its diffusivity
log_heat, log_cooling   logarithms of heat capacity in J/K and cooling in W/K
charge_shift_1_Ah, ...  added to the charge of the second to eighth recording of a fit
======================  ================================================================

Sources: S. G. Marquis and others, J. Electrochem. Soc. 166 (2019) A3693, on the models;
H. S. Carslaw, J. C. Jaeger, *Conduction of Heat in Solids*, 2nd ed. (1959), section 9.8, on the
sphere under a constant flux; A. M. Bizeray, J.-H. Kim, S. R. Duncan, D. A. Howey, IEEE Trans.
Control Syst. Technol. 27 (2019) 1862, on what a single-particle model's voltage can tell.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batterylab._kernels import _spm
from batterylab.errors import BatterylabError
from batterylab.fit.celltables import CellTables
from batterylab.fit.solve import checked
from batterylab.fit.spmmesh import (
    SHELLS,
    THINNEST,
    VOLUMES,
    FARADAY_C_mol,
    salt_line,
    salt_scale,
    shells,
    sphere_exponentials,
)

Array = NDArray[np.float64]

#: of further recordings in one fit
SHIFTS = tuple(f"charge_shift_{k}_Ah" for k in range(1, 8))
NAMES = (
    "negative_capacity_Ah", "positive_capacity_Ah", "x_start", "y_start", "log_negative_time",
    "log_positive_time", "log_negative_rate", "log_positive_rate", "contact_ohm",
    "log_conductivity", "log_salt_diffusivity", "log_heat", "log_cooling",
    *SHIFTS,
)  # fmt: skip

#: parameters at once, as in `levmar.pxd`
MOST_FITTED = 16
#: a diffusivity that varies less than this over the stoichiometry counts as constant
CONSTANT = 1e-6
#: steps in time after a change of current: first, growth, longest in s or as a share of the time
#: since; with a diffusivity that varies, the finer ones
STEPS_s = (0.5, 1.4, 6.0, 0.03)
FINE_STEPS_s = (0.01, 1.4, 5.0, 0.002)
MODELS = ("spm", "spme")
THERMAL = ("given", "lumped")


class Started(Protocol):
    """A cell of this or another particle model: tables and its own parameters."""

    @property
    def tables(self) -> CellTables:
        """Tables of the set."""

    @property
    def start(self) -> Array:
        """The set's own parameters, the first eleven as in `NAMES`."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all parameters, in order; the shifts at the same places as in `NAMES`."""


@dataclass(frozen=True)
class SpmCell:
    """A parameter set made ready for the kernel.

    Attributes
    ----------
    tables : CellTables
        Of the set.
    model : str
        ``spm`` or ``spme``.
    thermal : str
        ``given``: the temperature is given row by row; ``lumped``: one thermal node, and the
        rows hold the temperature around it.
    start : ndarray, shape (20,)
        The set's own parameters, in the order of `NAMES`, at its initial concentrations.
    steps_s : tuple of float
        First step in time after a change of current, growth, longest step in s, or as a share of
        the time since the change.
    area_factor : float
        On the set's electrode area and heat capacity: another size of the same cell.
    mesh : (int, float)
        Shells of a particle whose diffusivity varies, and the outermost one's thickness.
    """

    tables: CellTables
    model: str = "spme"
    thermal: str = "given"
    steps_s: tuple[float, float, float, float] | None = None
    area_factor: float = 1.0
    mesh: tuple[int, float] = (SHELLS, THINNEST)
    start: Array = field(init=False, repr=False)
    kernel: _spm.Model = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.model not in MODELS or self.thermal not in THERMAL:
            raise BatterylabError(
                f"unknown model {self.model!r} or thermal {self.thermal!r}",
                hint="spm or spme; given or lumped",
            )
        if not 1e-6 < self.area_factor < 1e6:
            raise BatterylabError(f"area_factor = {self.area_factor:g} is no size of a cell")
        object.__setattr__(self, "tables", sized(self.tables, self.area_factor))
        start = start_of(self.tables)
        if self.thermal == "lumped" and not np.isfinite(start).all():
            raise BatterylabError(f"the set {self.tables.name} has no heat capacity or cooling")
        object.__setattr__(self, "start", np.nan_to_num(start))
        object.__setattr__(self, "kernel", self._kernel())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all parameters, in order."""
        return NAMES

    @property
    def varying(self) -> tuple[bool, bool]:
        """Whether the diffusivity of the negative and of the positive particle varies."""
        return varying(self.tables)

    @property
    def kernel_arguments(self) -> tuple[Any, ...]:
        """What the compiled kernels take of the cell, in their order."""
        t = self.tables
        sphere, tail = sphere_exponentials()
        none = np.zeros((4, 1))
        n_line, p_line = (shells(*self.mesh) if varies else none for varies in self.varying)
        middle = t.diffusivity_m2_s[:, t.diffusivity_m2_s.shape[1] // 2]
        usual_s = FINE_STEPS_s if any(self.varying) else STEPS_s
        first, growth, most, share = self.steps_s or usual_s
        salt = salt_line(t) if self.model == "spme" else none
        return (
            _numbers(t),
            np.ascontiguousarray(
                np.stack([t.potential_V, t.exchange_A_m2, t.entropy_V_K], axis=2)
            ),
            t.temperature_K, _electrolyte(t),
            t.concentration_step, sphere, tail, n_line, p_line, salt,
            np.ascontiguousarray(t.diffusivity_m2_s / middle[:, None]),
            VOLUMES[0], VOLUMES[2], self.thermal == "lumped", first, growth, most, share,
        )  # fmt: skip

    def _kernel(self) -> _spm.Model:
        return _spm.Model(*self.kernel_arguments)


def varying(t: CellTables) -> tuple[bool, bool]:
    """Return whether the diffusivity of the negative and of the positive particle varies."""
    spread = np.ptp(t.diffusivity_m2_s, axis=1)
    varies = spread > CONSTANT * t.diffusivity_m2_s.mean(axis=1)
    return bool(varies[0]), bool(varies[1])


def sized(t: CellTables, factor: float) -> CellTables:
    """Return the tables of a cell with more or less of the same electrodes."""
    numbers = dict(t.numbers)
    for name in ("area_m2", "capacity_Ah", "heat_J_K", "cooling_W_K"):
        numbers[name] *= factor
    numbers["contact_ohm"] /= factor
    return replace(t, numbers=numbers)


def start_of(t: CellTables) -> Array:
    """Return the set's own parameters, in the order of `NAMES`."""
    n = t.numbers
    middle = t.diffusivity_m2_s[:, t.diffusivity_m2_s.shape[1] // 2]
    capacities = [
        n[f"active_{e}"] * n[f"largest_{e}_mol_m3"] * n[f"thickness_{e}_m"] * n["area_m2"]
        * FARADAY_C_mol / 3600.0 for e in "np"
    ]  # fmt: skip
    times = [math.log(n[f"radius_{e}_m"] ** 2 / d) for e, d in zip("np", middle, strict=True)]
    return np.array([
        *capacities, n["start_n"], n["start_p"], *times, 0.0, 0.0, n["contact_ohm"], 0.0, 0.0,
        math.log(n["heat_J_K"]), math.log(n["cooling_W_K"]), *np.zeros(len(SHIFTS)),
    ])  # fmt: skip


def _numbers(t: CellTables) -> Array:
    """Return the kernel's constants, in its order."""
    n = t.numbers
    rates = [10800.0 / (n[f"radius_{e}_m"] * n[f"largest_{e}_mol_m3"] * FARADAY_C_mol)
             for e in "np"]  # fmt: skip
    layers = (
        n["thickness_n_m"] / (3 * n["transport_n"]) + n["thickness_s_m"] / n["transport_s"]
        + n["thickness_p_m"] / (3 * n["transport_p"])
    )  # fmt: skip
    solid = sum(n[f"thickness_{e}_m"] / (3 * n[f"conductivity_{e}_S_m"]) for e in "np")
    return np.array([
        n["area_m2"], *rates, *t.exchange_activation_K, *t.exchange_power,
        *t.diffusion_activation_K, layers / n["area_m2"], solid / n["area_m2"],
        n["start_mol_m3"], salt_scale(t), t.salt_activation_K, t.conductivity_activation_K, 0.0,
    ])  # fmt: skip


def _electrolyte(t: CellTables) -> Array:
    """Return the electrolyte's tables; the last one only where the transference varies."""
    rows = [t.salt_diffusivity_m2_s / salt_scale(t), t.conductivity_S_m, t.chi]
    if not math.isfinite(t.transference):
        rows.append(t.carried / (FARADAY_C_mol * t.numbers["area_m2"]))
    return np.ascontiguousarray(rows)


@dataclass(frozen=True)
class History:
    """Checked rows as the kernel reads them; see `history_of`.

    Attributes
    ----------
    data : ndarray, shape (5, n)
        Time in s, current in A, charge in Ah, temperature in K, voltage in V.
    flags : ndarray of uint8, shape (n,)
        1 for a row that was measured, 2 for one in which the cell is relaxed, 4 for one to which
        the current has risen linearly; and 16 times the recording that it belongs to.
    """

    data: Array
    flags: NDArray[np.uint8]

    @property
    def observed(self) -> NDArray[np.bool_]:
        """Rows that were measured."""
        return (self.flags & 1).astype(bool)

    @property
    def parts(self) -> NDArray[np.uint8]:
        """The recording that each row belongs to, from 0."""
        return (self.flags >> 4).astype(np.uint8)


def history_of(
    time_s: ArrayLike,
    current_A: ArrayLike,
    *,
    charge_Ah: ArrayLike | None = None,
    temperature_degC: ArrayLike = 25.0,
    voltage_V: ArrayLike | None = None,
    observed: ArrayLike | None = None,
    relaxed: ArrayLike | None = None,
    linear: bool = False,
) -> History:
    """Check what goes into the kernel.

    Parameters
    ----------
    time_s : array_like, shape (n,)
        Non-decreasing.
    current_A : array_like, shape (n,)
        Charge positive; that of a row has flowed since the row before.
    charge_Ah : array_like, shape (n,), optional
        Counted, from any zero; else the current summed up from the first row.
    temperature_degC : array_like, shape (n,) or ()
        Of the cell; around it if its heat is lumped.
    voltage_V : array_like, shape (n,), optional
        Measured; not read in rows that were not observed.
    observed : array_like of bool, shape (n,), optional
        Rows that were measured; all if not given.
    relaxed : array_like of bool, shape (n,), optional
        Rows in which the cell is in equilibrium; the first always is.
    linear : bool
        Whether the current runs straight from row to row, as in a drive profile; else that of a
        row has flowed since the row before.

    Raises
    ------
    BatterylabError
        If lengths differ, a number is not finite, time runs backwards, or no row is observed.
    """
    seconds = checked(time_s, "time_s")
    count = len(seconds)
    if (np.diff(seconds) < 0).any():
        row = int(np.argmax(np.diff(seconds) < 0)) + 1
        raise BatterylabError(f"time_s, row {row}: runs backwards")
    amps = checked(current_A, "current_A", length=count)
    if charge_Ah is None:
        mean_A = 0.5 * (amps[1:] + amps[:-1]) if linear else amps[1:]
        moved = np.concatenate([[0.0], np.cumsum(mean_A * np.diff(seconds)) / 3600.0])
    else:
        moved = checked(charge_Ah, "charge_Ah", length=count)
    degrees = np.broadcast_to(np.asarray(temperature_degC, float), (count,))
    kelvin = checked(degrees, "temperature_degC", length=count) + 273.15
    if not ((kelvin > 150.0) & (kelvin < 500.0)).all():
        raise BatterylabError("temperature_degC lies outside what a cell survives")
    seen = np.ones(count, bool) if observed is None else np.asarray(observed, bool)
    fresh = np.zeros(count, bool) if relaxed is None else np.asarray(relaxed, bool)
    if seen.shape != (count,) or fresh.shape != (count,) or not seen.any():
        raise BatterylabError("observed or relaxed does not fit time_s, or no row is observed")
    volts = np.zeros(count)
    if voltage_V is not None:
        volts = np.where(seen, np.asarray(voltage_V, float), 0.0)
        volts = checked(volts, "voltage_V", length=count)
    flags = seen.astype(np.uint8) + 2 * fresh.astype(np.uint8) + np.uint8(4 * linear)
    return History(np.ascontiguousarray([seconds, amps, moved, kelvin, volts]), flags)


def indices_of(
    names: tuple[str, ...], known: tuple[str, ...] = NAMES
) -> NDArray[np.int32]:
    """Return where parameters stand in `NAMES`, or in another model's.

    Raises
    ------
    BatterylabError
        If a name is unknown or given twice, or there are more than 16.
    """
    wrong = [name for name in names if name not in known]
    if wrong or len(set(names)) != len(names):
        raise BatterylabError(
            f"parameters {', '.join(wrong or names)}: unknown, or given twice",
            hint=f"known: {', '.join(known)}",
        )
    if len(names) > MOST_FITTED:
        raise BatterylabError(f"{len(names)} parameters at once", hint=f"at most {MOST_FITTED}")
    return np.array([known.index(name) for name in names], np.int32)


@dataclass(frozen=True)
class Response:
    """What the model gives.

    Attributes
    ----------
    voltage_V : ndarray, shape (m,)
        In the observed rows.
    jacobian : ndarray, shape (m, p)
        Derivatives by the parameters asked for; no rows if none was.
    temperature_degC : ndarray, shape (n,)
        In all rows.
    """

    voltage_V: Array
    jacobian: Array
    temperature_degC: Array


def spm_voltage(
    cell: SpmCell,
    history: History,
    parameters: ArrayLike | None = None,
    *,
    derivatives: tuple[str, ...] = (),
) -> Response:
    """Return the model's voltage, and its derivatives if wanted.

    Parameters
    ----------
    cell : SpmCell
        The base set, model and thermal option.
    history : History
        From `history_of`.
    parameters : array_like, shape (20,), optional
        In the order of `NAMES`; else the set's own.
    derivatives : tuple of str
        Names of the parameters to derive by.
    """
    values = checked(cell.start if parameters is None else parameters, "parameters",
                     length=len(NAMES))  # fmt: skip
    if not (values[:2] > 0).all() or np.abs(values[[4, 5, 6, 7, 9, 10, 11, 12]]).max() > 100:
        raise BatterylabError("a capacity is not above 0, or a logarithm is beyond 100")
    free = indices_of(derivatives) if derivatives else np.zeros(1, np.int32)
    rows = int(history.observed.sum())
    volts, kelvin = np.empty(rows), np.empty(history.data.shape[1])
    jacobian = np.empty((rows if derivatives else 0, len(free)))
    _spm.voltage(
        cell.kernel, history.data, history.flags, values, free, volts, jacobian, kelvin
    )
    return Response(volts, jacobian, kelvin - 273.15)
