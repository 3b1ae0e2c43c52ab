"""The border to PyBaMM, where a cell is driven step by step; see `batterylab.pybamm_border`.

PyBaMM's discharge current is positive; charge current is positive on our side.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab.errors import BatterylabError
from batterylab.pybamm_border import parameter_values, pybamm

MODELS = ("spm", "spme", "dfn")
#: what is held: PyBaMM's option, its parameter, whether its sign is turned
_HELD = {
    "current": ("current", "Current function [A]", True),
    "voltage": ("voltage", "Voltage function [V]", False),
    "power": ("power", "Power function [W]", True),
    "resistance": ("resistance", "Resistance function [Ohm]", False),
}


class DrivenCell:
    """A cell in PyBaMM: lumped heat, contact resistance, a refined mesh.

    Every call of `drive` carries the state on from where the last one left it.

    Parameters
    ----------
    parameter_set : str
        A set that PyBaMM ships.
    changes : dict of str to float
        Parameters to set, by PyBaMM's names.
    model : str
        ``spm``, ``spme`` or ``dfn``.
    thermal : str
        ``lumped`` or ``isothermal``.
    temperature_degC : float
        Ambient and initial temperature.
    points : (int, int), optional
        Mesh points through each domain and along each particle's radius.

    Raises
    ------
    BatterylabError
        If the model is unknown.
    """

    #: PyBaMM allows a step after an event only if the event's name says so
    _PASSABLE = "[experiment]"

    def __init__(
        self,
        parameter_set: str,
        changes: dict[str, float],
        *,
        model: str = "spme",
        thermal: str = "lumped",
        temperature_degC: float = 25.0,
        points: tuple[int, int] | None = None,
    ) -> None:
        if model not in MODELS:
            raise BatterylabError(f"unknown model {model!r}", hint=f"known: {', '.join(MODELS)}")
        self._set, self._changes = parameter_set, changes
        self._values = parameter_values(parameter_set)
        kelvin = temperature_degC + 273.15
        self._values.update({
            "Initial temperature [K]": kelvin, "Lower voltage cut-off [V]": 0.0,
            "Upper voltage cut-off [V]": 10.0, **changes,
            "Ambient temperature [K]": "[input]",
        })  # fmt: skip
        self.ambient_degC = temperature_degC
        self._model, self._thermal = model, thermal
        self._points = points or ((20, 30) if model == "dfn" else (30, 150))
        self._built: dict[str, tuple[Any, Any]] = {}
        self._state: Any = None

    @property
    def state(self) -> Any:
        """All that the cell's future depends on; what was read can be set again."""
        return self._state

    @state.setter
    def state(self, state: Any) -> None:
        self._state = state

    def impedance_ohm(self, frequency_Hz: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return what `pybamm.EISSimulation` gives for the cell at rest at its mean charge.

        Raises
        ------
        BatterylabError
            If the model is ``dfn``.
        """
        from batterylab.pybamm_impedance import reference_impedance

        if self._model == "dfn":
            raise BatterylabError("no impedance of the dfn", hint="--model spme")
        values = parameter_values(self._set)
        values.update(self._changes, check_already_exists=False)
        degC = self.ambient_degC
        if self._state is not None:
            for electrode in ("negative", "positive"):
                name = f"Average {electrode} particle concentration [mol.m-3]"
                mean = float(np.ravel(self._state[name].entries)[-1])
                values[f"Initial concentration in {electrode} electrode [mol.m-3]"] = mean
            degC = float(self._state["Volume-averaged cell temperature [K]"].entries[-1]) - 273.15
        return reference_impedance(
            values, frequency_Hz, None, model=self._model, temperature_degC=degC
        )

    def _of(self, mode: str) -> tuple[Any, Any]:
        """Return discretised model and solver for what is held, with an event at a limit."""
        if mode in self._built:
            return self._built[mode]
        module = pybamm()
        option, name, _ = _HELD[mode]
        kinds = {"spm": module.lithium_ion.SPM, "spme": module.lithium_ion.SPMe,
                 "dfn": module.lithium_ion.DFN}  # fmt: skip
        model = kinds[self._model](
            {"thermal": self._thermal, "contact resistance": "true", "operating mode": option}
        )
        values = self._values.copy()
        values.update({"Current function [A]": 0.0}, check_already_exists=False)
        values.update({name: "[input]"}, check_already_exists=False)
        watched = model.variables["Current [A]" if mode == "voltage" else "Voltage [V]"]
        gap = module.InputParameter("Limit") - watched
        model.events.append(
            module.Event(f"Limit {self._PASSABLE}", gap * module.InputParameter("Sign"))
        )
        values.process_model(model)
        geometry = model.default_geometry
        values.process_geometry(geometry)
        through, radial = self._points
        sizes = {"x_n": through, "x_s": through, "x_p": through, "r_n": radial, "r_p": radial}
        types = dict(model.default_submesh_types)
        for particle in ("negative particle", "positive particle"):
            types[particle] = module.Chebyshev1DSubMesh
        mesh = module.Mesh(geometry, types, sizes)
        module.Discretisation(mesh, model.default_spatial_methods).process_model(model)
        self._built[mode] = model, module.IDAKLUSolver(rtol=1e-8, atol=1e-8)
        return self._built[mode]

    def drive(
        self, mode: str, value: float, time_s: NDArray[np.float64], limit: float, sign: float
    ) -> tuple[NDArray[np.float64], bool]:
        """Hold a current, voltage, power or load until a time or a limit.

        Parameters
        ----------
        mode : str
            ``current`` (A) and ``power`` (W), charge positive, ``voltage`` (V), or
            ``resistance`` (Ohm, a load).
        value : float
            What is held.
        time_s : ndarray, shape (n,)
            Rising, above 0: where samples are wanted; the last is the longest time.
        limit : float
            Current in A, charge positive, at a held voltage; else the voltage in V.
        sign : float
            1 if what is watched approaches the limit from below, -1 from above.

        Returns
        -------
        samples : ndarray, shape (m, 4)
            Time in s, current in A, voltage in V and temperature in °C; if the limit ended it,
            the last row is that instant, and no row is left out before it.
        is_passed : bool
            Whether the limit ended it; without rows, it lay behind the start already.

        Raises
        ------
        BatterylabError
            If PyBaMM gives up.
        """
        module = pybamm()
        model, solver = self._of(mode)
        _, name, is_turned = _HELD[mode]
        inputs = {"Limit": limit, "Sign": sign, name: -value if is_turned else value,
                  "Ambient temperature [K]": self.ambient_degC + 273.15}  # fmt: skip
        if mode == "voltage":  # the limit is a current then
            inputs.update({"Limit": -limit, "Sign": -sign})
        longest = float(time_s[-1])
        try:
            solution = solver.step(
                self._state, model, longest, t_eval=np.array([0.0, longest]),
                t_interp=np.concatenate([[0.0], time_s]), inputs=inputs, save=False,
            )  # fmt: skip
        except module.SolverError as error:
            if "non-positive at initial conditions" in str(error):
                return np.zeros((0, 4)), True
            raise BatterylabError(f"PyBaMM gave up: {error}") from None
        columns = np.array(
            [
                solution.t - solution.t[0],
                -solution["Current [A]"].entries,
                solution["Voltage [V]"].entries,
                solution["Volume-averaged cell temperature [K]"].entries - 273.15,
            ]
        )
        self._state = solution
        return columns.T[1:], "event" in solution.termination
