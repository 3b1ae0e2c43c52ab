"""A simulated cell of the full (Doyle-Fuller-Newman) model, driven by `_dfnsim`."""

from functools import cache, cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batterylab._kernels import _dfnsim
from batterylab.errors import BatterylabError
from batterylab.fit.celltables import cell_tables
from batterylab.fit.dfncell import NAMES, DfnCell
from batterylab.simulated.cell import AREA_SCALE, FAR_A, FAR_V, CellTruth, SimulatedCell, ZERO_degC

Array = NDArray[np.float64]


@cache
def _kind(parameter_set: str, area_factor: float) -> tuple[_dfnsim.Model, Array]:
    """Return the kernel's model and its parameters by `NAMES`."""
    cell = DfnCell(cell_tables(parameter_set), area_factor=area_factor)
    return _dfnsim.Model(*cell.kernel_arguments), cell.start


class FullCell(SimulatedCell):
    """One cell of the full model; see `SimulatedCell`, whose states it does not share."""

    def __init__(
        self,
        truth: CellTruth,
        parameter_set: str = "Chen2020",
        area_factor: float = AREA_SCALE,
    ) -> None:
        super().__init__(truth, parameter_set, "dfn", area_factor)
        self._model, self._start = _kind(parameter_set, area_factor)

    @cached_property
    def parameters(self) -> Array:
        """What the kernel knows of this cell, in the order of `batterylab.fit.dfncell.NAMES`."""
        found = dict(zip(NAMES, self._start.tolist(), strict=True))
        for electrode, capacity_Ah in self.capacity_Ah.items():
            faster = float(getattr(self.truth, f"{electrode}_diffusivity"))
            found[f"{electrode}_capacity_Ah"] = capacity_Ah
            found[f"log_{electrode}_time"] -= float(np.log(faster))
        found["contact_ohm"] = self.truth.contact_ohm
        return np.array(list(found.values()))

    def state_at(self, stoichiometries: tuple[float, float], temperature_degC: float) -> Array:
        """Return the state in equilibrium at two stoichiometries."""
        q = self.parameters.copy()
        q[NAMES.index("x_start")], q[NAMES.index("y_start")] = stoichiometries
        state = np.zeros(self._model.columns[2])
        _dfnsim.settle(self._model, q, state, temperature_degC + ZERO_degC)
        return state

    def telling(self, state: Array) -> Array:
        """Return what tells one state from another."""
        head, profiles, _ = self._model.columns
        means_and_heat = state[:4] / (1.0, 1.0, self.tables.temperature_K, 1.0)
        return np.concatenate([means_and_heat, state[head : head + profiles]])

    def impedance_ohm(
        self, frequency_Hz: Array, stoichiometries: tuple[float, float], degC: float
    ) -> NDArray[np.complex128]:
        """Refuse: impedance is that of the single-particle models."""
        raise BatterylabError("no impedance of the dfn", hint="--model spme")

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
        """Drive the cell as `SimulatedCell.drive` does; fewer rows where it cannot go on."""
        n = self.tables.numbers
        heat_J_K, cool_W_K = (n["heat_J_K"], n["cooling_W_K"]) if self.is_lumped else (1.0, 1.0)
        settings = np.ascontiguousarray(values, float)
        out = np.empty((len(settings), 3))
        done = _dfnsim.follow(
            self._model, self.parameters, state, self.is_lumped, heat_J_K * self.area_factor,
            cool_W_K * self.area_factor * self.truth.cooling, mode, settings, *limits_V, most_A,
            length_s, ambient_degC + ZERO_degC, out,
        )  # fmt: skip
        out[:, 2] -= ZERO_degC
        return out[:done]
