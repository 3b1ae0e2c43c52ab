"""Simulated cells: the truth behind the simulated instruments, and what a protocol is tried on.

A cell is a single-particle model of a parameter set, without or with electrolyte, in the form
that PyBaMM solves and with one lumped temperature: the model that the fits use, driven by
`batterylab._kernels._cellsim`. Its truth is a handful of multipliers on the set.
"""

from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batterylab._kernels import _cellsim
from batterylab.errors import BatterylabError
from batterylab.fit.celltables import CellTables, cell_tables
from batterylab.fit.spmcell import NAMES, SpmCell

Array = NDArray[np.float64]
ZERO_degC = 273.15
FARADAY_C_mol = 96485.33212
#: the area is scaled so that a cell of the base set holds a little more than its rated capacity
AREA_SCALE = 1.005
#: shells of a particle whose diffusivity varies, the outermost one's thickness over the radius
MESH = (96, 2e-3)
#: a set whose functions follow activation energies less well than that has tables every 2 K,
#: and the cell's temperature says after so many intervals which
SEPARATE, EVERY_K, INTERVALS = 2e-3, 2.0, 60
#: what a tester holds, as the kernel counts
REST, CURRENT, VOLTAGE, POWER, RESISTANCE = range(5)
FAR_V, FAR_A = 1e3, 1e9
#: where a state holds what: first column and length
COLUMNS = _cellsim.columns()
STATE_COLUMNS = COLUMNS["all"][1]
MEAN_N, MEAN_P, TEMPERATURE = (COLUMNS[k][0] for k in ("mean_n", "mean_p", "temperature_K"))
SALT = ("salt", "salt_before", "salt_earlier")
#: what tells one state from another
TELLING = ("temperature_K", "last_A", "last_h", "spheres_n", "spheres_p", "shells_n", "shells_p",
           "mean_n", "mean_p", "salt")  # fmt: skip


@dataclass(frozen=True)
class CellTruth:
    """What a simulated cell really is, as multipliers on the base parameter set.

    Attributes
    ----------
    negative_loading, positive_loading : float
        Active material of each electrode.
    lithium_inventory : float
        Cyclable lithium.
    negative_diffusivity, positive_diffusivity : float
        Of the solid.
    contact_ohm : float
        Contact resistance of tabs and terminals.
    cooling : float
        How much better the fixture takes the heat than the set's still air.
    """

    negative_loading: float = 1.0
    positive_loading: float = 1.0
    lithium_inventory: float = 1.0
    negative_diffusivity: float = 1.0
    positive_diffusivity: float = 1.0
    contact_ohm: float = 0.008
    cooling: float = 1.0

    def to_dict(self) -> dict[str, float]:
        """Return the numbers by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def _is_lumped(tables: CellTables) -> bool:
    return bool(np.isfinite([tables.numbers["heat_J_K"], tables.numbers["cooling_W_K"]]).all())


@cache
def _kind(
    parameter_set: str, model: str, area_factor: float, temperature_K: float
) -> tuple[_cellsim.Model, Array, Array]:
    """Return the kernel's model, its parameters by `NAMES`, and what divides a telling state."""
    tables = cell_tables(parameter_set, temperature_K)
    thermal = "lumped" if _is_lumped(tables) else "given"
    cell = SpmCell(tables, model, thermal, area_factor=area_factor, mesh=MESH)
    sizes = np.ones(STATE_COLUMNS)
    sizes[TEMPERATURE] = tables.temperature_K
    sizes[COLUMNS["last_A"][0]] = cell.start[0]
    for name in SALT:
        first, length = COLUMNS[name]
        sizes[first : first + length] = tables.numbers["start_mol_m3"]
    return _cellsim.Model(*cell.kernel_arguments), cell.start, sizes


class SimulatedCell:
    """One cell's numbers, ready for the kernel.

    Parameters
    ----------
    truth : CellTruth
        The multipliers.
    parameter_set : str
        A full-cell set that PyBaMM ships.
    model : str
        ``spm`` or ``spme``; ``dfn`` cannot be driven here, but has the same numbers.
    area_factor : float
        On the set's electrode area: another size of the same cell.
    """

    def __init__(
        self,
        truth: CellTruth,
        parameter_set: str = "Chen2020",
        model: str = "spme",
        area_factor: float = AREA_SCALE,
    ) -> None:
        self.truth = truth
        self.parameter_set = parameter_set
        self.model = model
        self.area_factor = area_factor
        self.tables = cell_tables(parameter_set)

    @property
    def is_lumped(self) -> bool:
        """Whether the set knows heat capacity and cooling; else the cell is as warm as the air."""
        return _is_lumped(self.tables)

    @property
    def kernel(self) -> _cellsim.Model:
        """What the kernel has in common for all cells of this set, model and size, at 25 °C."""
        return self._kind()[0]

    @property
    def parameters(self) -> Array:
        """What the kernel knows of this cell, in the order of `batterylab.fit.spmcell.NAMES`."""
        return self._parameters(self._kind()[1])

    @cached_property
    def _is_separate(self) -> bool:
        """Whether activation energies say enough of how the set depends on temperature."""
        return max(self.tables.separation.values()) < SEPARATE

    def _kind(self, kelvin: float | None = None) -> tuple[_cellsim.Model, Array, Array]:
        """Return the kind of cell, with tables for about a temperature."""
        reference_K = self.tables.temperature_K
        if kelvin is not None and not self._is_separate:
            reference_K += EVERY_K * round((kelvin - reference_K) / EVERY_K)
        return _kind(self.parameter_set, self.model, self.area_factor, reference_K)

    def _parameters(self, start: Array) -> Array:
        truth = self.truth
        found = dict(zip(NAMES, start.tolist(), strict=True))
        for electrode, capacity_Ah in self.capacity_Ah.items():
            found[f"{electrode}_capacity_Ah"] = capacity_Ah
        found["log_negative_time"] -= float(np.log(truth.negative_diffusivity))
        found["log_positive_time"] -= float(np.log(truth.positive_diffusivity))
        found["contact_ohm"] = truth.contact_ohm
        found["log_cooling"] += float(np.log(truth.cooling))
        return np.array(list(found.values()))

    @cached_property
    def capacity_Ah(self) -> dict[str, float]:
        """Lithium that the active material of the negative and positive electrode can hold."""
        n = self.tables.numbers
        return {
            name: getattr(self.truth, f"{name}_loading")
            * n[f"active_{e}"] * n[f"largest_{e}_mol_m3"] * n[f"thickness_{e}_m"]
            * n["area_m2"] * self.area_factor * FARADAY_C_mol / 3600.0
            for name, e in (("negative", "n"), ("positive", "p"))
        }  # fmt: skip

    def lithium_Ah(self) -> float:
        """Return the lithium that goes to and fro: the set's initial state, times the truth."""
        n, truth = self.tables.numbers, self.truth
        held = self.capacity_Ah["negative"] / truth.negative_loading * n["start_n"]
        held += self.capacity_Ah["positive"] / truth.positive_loading * n["start_p"]
        return held * truth.lithium_inventory

    def _potential(self, electrode: int, stoichiometry: float, degC: float) -> float:
        t = self.tables
        warm_K = degC + ZERO_degC - t.temperature_K
        last = t.potential_V.shape[1] - 1
        place = min(max(stoichiometry, 0.0), 1.0) * last
        k = min(int(place), last - 1)
        pair = t.potential_V[electrode, k : k + 2] + warm_K * t.entropy_V_K[electrode, k : k + 2]
        return float(pair[0] + (place - k) * (pair[1] - pair[0]))

    def stoichiometries(self, voltage_V: float, degC: float = 25.0) -> tuple[float, float]:
        """Return both electrodes' stoichiometries in equilibrium at a voltage.

        Raises
        ------
        BatterylabError
            If the cell cannot reach the voltage.
        """
        from scipy.optimize import brentq

        lithium, qn, qp = self.lithium_Ah(), *self.capacity_Ah.values()

        def excess(x: float) -> float:
            y = (lithium - x * qn) / qp
            return self._potential(1, y, degC) - self._potential(0, x, degC) - voltage_V

        low, high = max(1e-4, (lithium - qp) / qn + 1e-4), min(1 - 1e-4, lithium / qn - 1e-4)
        if not low < high or excess(low) * excess(high) > 0:
            n = self.tables.numbers
            raise BatterylabError(
                f"a cell of {self.parameter_set} cannot reach {voltage_V:g} V",
                hint=f"its window is {n['voltage_min_V']:g} to {n['voltage_max_V']:g} V: give "
                "the cell type that one, or take another set",
            )
        x = float(brentq(excess, low, high, xtol=1e-13))
        return x, (lithium - x * qn) / qp

    def at_rest(self, soc: float, window_V: tuple[float, float]) -> tuple[float, float]:
        """Return the stoichiometries of the cell at rest at a state of charge, 0 to 1.

        Raises
        ------
        BatterylabError
            If the cell cannot reach its window.
        """
        empty, full = (self.stoichiometries(v) for v in window_V)
        x, y = (e + soc * (f - e) for e, f in zip(empty, full, strict=True))
        return x, y

    def state_at(self, stoichiometries: tuple[float, float], temperature_degC: float) -> Array:
        """Return the state in equilibrium at two stoichiometries."""
        state = np.zeros(STATE_COLUMNS)
        state[TEMPERATURE] = temperature_degC + ZERO_degC
        for electrode, mean in zip("np", stoichiometries, strict=True):
            for name in (f"mean_{electrode}", f"shells_{electrode}", f"shells_{electrode}_before"):
                first, length = COLUMNS[name]
                state[first : first + length] = mean
        for name in SALT:
            first, length = COLUMNS[name]
            state[first : first + length] = self.tables.numbers["start_mol_m3"]
        return state

    def rest_state(
        self, soc: float, temperature_degC: float = 25.0, window_V: tuple[float, float] = (2.5, 4.2)
    ) -> Array:
        """Return the state of a cell at rest at a state of charge between its voltage limits."""
        return self.state_at(self.at_rest(soc, window_V), temperature_degC)

    def telling(self, state: Array) -> Array:
        """Return what tells one state from another, as numbers near 1."""
        near_1 = state / self._kind()[2]
        return np.concatenate([
            near_1[first : first + length] for first, length in map(COLUMNS.__getitem__, TELLING)
        ])  # fmt: skip

    def open_circuit_voltage_V(self, state: Array) -> float:
        """Return the equilibrium voltage of a state."""
        degC = state[TEMPERATURE] - ZERO_degC
        return self._potential(1, state[MEAN_P], degC) - self._potential(0, state[MEAN_N], degC)

    def ac_resistance_ohm(self) -> float:
        """Return the resistance at 1 kHz: electrolyte, solid and contacts, not the reactions."""
        t, n = self.tables, self.tables.numbers
        place = n["start_mol_m3"] / t.concentration_step
        kappa = np.interp(place, np.arange(len(t.conductivity_S_m)), t.conductivity_S_m)
        layers = (
            n["thickness_n_m"] / (3 * n["transport_n"]) + n["thickness_s_m"] / n["transport_s"]
            + n["thickness_p_m"] / (3 * n["transport_p"])
        )  # fmt: skip
        solid = sum(n[f"thickness_{e}_m"] / (3 * n[f"conductivity_{e}_S_m"]) for e in "np")
        area_m2 = n["area_m2"] * self.area_factor
        return float((layers / kappa + solid) / area_m2 + self.truth.contact_ohm)

    def impedance_ohm(
        self, frequency_Hz: Array, stoichiometries: tuple[float, float], degC: float
    ) -> NDArray[np.complex128]:
        """Return the impedance in equilibrium at two stoichiometries and a temperature."""
        from batterylab.fit.impedancespme import EIS_NAMES, EisCell, cell_impedance

        model = "spm" if self.model == "spm" else "spme"
        tables = cell_tables(self.parameter_set, degC + ZERO_degC)
        cell = EisCell(tables, model, self.area_factor)
        values = dict(zip(EIS_NAMES, cell.start, strict=True))
        truth = self.truth
        for electrode, capacity_Ah in self.capacity_Ah.items():
            values[f"{electrode}_capacity_Ah"] = capacity_Ah
        values["x_start"], values["y_start"] = stoichiometries
        values["contact_ohm"] = truth.contact_ohm
        values["log_negative_time"] -= np.log(truth.negative_diffusivity)
        values["log_positive_time"] -= np.log(truth.positive_diffusivity)
        return cell_impedance(cell, frequency_Hz, np.array(list(values.values())))[0]

    def drive(
        self,
        state: Array,
        mode: int,
        values: ArrayLike,
        *,
        limits_V: tuple[float, float] = (-FAR_V, FAR_V),
        most_A: float = FAR_A,
        length_s: float = 1.0,
        ambient_degC: float = 25.0,
    ) -> Array:
        """Drive the cell as a tester does, for as many intervals as there are values.

        Parameters
        ----------
        state : ndarray
            From `rest_state`; changed in place.
        mode : int
            `REST`, `CURRENT`, `VOLTAGE`, `POWER` or `RESISTANCE`.
        values : array_like, shape (n,)
            Current in A, voltage in V or power in W, positive on charge, or a load in ohm.
        limits_V : (float, float)
            To which a current, power or load gives way.
        most_A : float
            Magnitude to which a power, load or voltage gives way.
        length_s : float
            Of an interval.
        ambient_degC : float
            Of the air.

        Returns
        -------
        ndarray, shape (n, 3)
            Mean current, voltage at the end, and temperature in °C there.
        """
        settings = np.ascontiguousarray(values, float)
        out = np.empty((len(settings), 3))
        together = max(1, len(settings)) if self._is_separate else INTERVALS
        for first in range(0, len(settings), together):
            part = slice(first, first + together)
            kernel, start, _ = self._kind(state[TEMPERATURE])
            _cellsim.follow(
                kernel, self._parameters(start), state, mode, settings[part], *limits_V, most_A,
                length_s, ambient_degC + ZERO_degC, out[part],
            )  # fmt: skip
        out[:, 2] -= ZERO_degC
        return out

    def follow(
        self, state: Array, current_A: Any, dt_s: float = 1.0, ambient_degC: float = 25.0
    ) -> tuple[Array, Array]:
        """Drive the cell through currents, each held for `dt_s`; see `drive`.

        Returns
        -------
        voltage_V, temperature_degC : ndarray, shape (n,)
            At the end of each step.
        """
        out = self.drive(state, CURRENT, current_A, length_s=dt_s, ambient_degC=ambient_degC)
        return out[:, 1].copy(), out[:, 2].copy()
