"""The peers of the single-particle benchmark: PyBaMM's IDAKLU, and scipy fed by it."""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from batterylab.fit.spmcell import SpmCell
from batterylab.pybamm_border import parameter_values, pybamm

Array = NDArray[np.float64]

VOLTAGE = "Voltage [V]"
#: of both sides; Prada2013's own is 298.0 K
KELVIN = 298.15
#: PyBaMM's names of the six fitted parameters, with a step for scaling
SIX = {
    "Negative electrode active material volume fraction": 0.75,
    "Positive electrode active material volume fraction": 0.665,
    "Initial concentration in negative electrode [mol.m-3]": 29866.0,
    "Negative particle diffusivity [m2.s-1]": 3.3e-14,
    "Positive particle diffusivity [m2.s-1]": 4e-15,
    "Contact resistance [Ohm]": 0.01,
}


def simulation_of(
    model: str, values: Any, mesh: tuple[int, int], tolerance: float = 1e-6
) -> Any:
    """Return a PyBaMM simulation with compiled functions and only the voltage as output."""
    module = pybamm()
    kind = module.lithium_ion.SPMe if model == "spme" else module.lithium_ion.SPM
    built = kind({"contact resistance": "true"})
    meshes = dict(built.default_submesh_types)
    for name in ("negative particle", "positive particle"):
        meshes[name] = module.Chebyshev1DSubMesh
    through, radial = mesh
    points = {"x_n": through, "x_s": through, "x_p": through, "r_n": radial, "r_p": radial}
    solver = module.IDAKLUSolver(
        rtol=tolerance, atol=tolerance, output_variables=[VOLTAGE], options={"compile": True}
    )
    return module.Simulation(
        built, parameter_values=values, submesh_types=meshes, var_pts=points, solver=solver
    )


def full_cell(cell: SpmCell, share: float) -> tuple[Any, Array, float]:
    """Return PyBaMM's values and our parameters at a state of charge, and the capacity in Ah."""
    values = parameter_values(cell.tables.name)
    values.set_initial_state(share)
    start = cell.start.copy()
    ends = []
    for state in (1.0, 0.0):
        other = parameter_values(cell.tables.name)
        other.set_initial_state(state)
        ends.append(_stoichiometry(cell, other, "Negative", "n"))
    start[2] = _stoichiometry(cell, values, "Negative", "n")
    start[3] = _stoichiometry(cell, values, "Positive", "p")
    return values, start, (ends[0] - ends[1]) * float(start[0])


def _stoichiometry(cell: SpmCell, values: Any, word: str, key: str) -> float:
    held = float(values[f"Initial concentration in {word.lower()} electrode [mol.m-3]"])
    return held / cell.tables.numbers[f"largest_{key}_mol_m3"]


class Peer:
    """PyBaMM on one history: every jump of the current is a time that the solver stops at.

    A current that runs straight from row to row is left to the solver's own steps, which is
    both faster and as accurate.
    """

    def __init__(
        self, model: str, time_s: Array, amps: Array, mesh: tuple[int, int], *,
        values: Any, linear: bool = False, tolerance: float = 1e-6,
    ) -> None:  # fmt: skip
        module = pybamm()
        values = values.copy()
        values.update({"Lower voltage cut-off [V]": 0.0, "Upper voltage cut-off [V]": 10.0,
                       "Ambient temperature [K]": KELVIN, "Initial temperature [K]": KELVIN})
        self.time_s, self.stops = time_s, np.array([time_s[0], time_s[-1]])
        if linear:
            values["Current function [A]"] = module.Interpolant(
                time_s, -amps, module.t, interpolator="linear"
            )
        elif np.ptp(amps[1:]) > 0:  # steps, drawn as ramps of a microsecond
            changes = np.flatnonzero(np.diff(amps[1:])) + 1
            ramps = time_s[changes] + 1e-6
            knots = np.concatenate([[0.0], time_s[changes], ramps, [time_s[-1]]])
            order = np.argsort(knots, kind="stable")
            flows = np.concatenate([[amps[1]], amps[changes], amps[changes + 1], [amps[-1]]])
            self.stops = knots[order]
            values["Current function [A]"] = module.Interpolant(
                knots[order], -flows[order], module.t, interpolator="linear"
            )
        else:
            values["Current function [A]"] = -float(amps[-1])
        self.simulation = simulation_of(model, values, mesh, tolerance)

    def solve(self) -> Array:
        """Return the voltage in every row."""
        solution = self.simulation.solve(t_eval=self.stops, t_interp=self.time_s)
        found: Array = np.asarray(solution[VOLTAGE](t=self.time_s), float)
        return found


def fit_by_scipy(
    time_s: Array, voltage_V: Array, y_start: float, start: Array, most: int
) -> tuple[float, float, int]:
    """Fit six parameters to a 1C discharge with scipy and PyBaMM's sensitivities.

    `start` is relative to `SIX`. Returns processor time in s, the sum of squares that was
    reached and the evaluations that it took.
    """
    values = parameter_values("Chen2020")
    largest = float(values["Maximum concentration in positive electrode [mol.m-3]"])
    values.update({
        "Lower voltage cut-off [V]": 0.0, "Upper voltage cut-off [V]": 10.0,
        "Current function [A]": 5.0,
        "Initial concentration in positive electrode [mol.m-3]": y_start * largest,
        **dict.fromkeys(SIX, "[input]"),
    })  # fmt: skip
    simulation = simulation_of("spme", values, (20, 40))
    scale, kept = np.array(list(SIX.values())), {}
    ends = [0.0, float(time_s[-1])]

    def run(p: Array, slopes: bool) -> Any:
        inputs = dict(zip(SIX, (float(v) for v in p * scale), strict=True))
        return simulation.solve(
            t_eval=ends, t_interp=time_s, inputs=inputs, calculate_sensitivities=slopes
        )[VOLTAGE]

    def residual(p: Array) -> Array:
        found: Array = np.ravel(run(p, False).entries)[: len(time_s)] - voltage_V
        return found

    def jacobian(p: Array) -> Array:
        key = p.tobytes()
        if key not in kept:
            kept.clear()
            slopes = run(p, True).sensitivities
            kept[key] = np.column_stack([
                np.ravel(slopes[name])[: len(time_s)] * unit for name, unit in SIX.items()
            ])  # fmt: skip
        found: Array = kept[key]
        return found

    lower, upper = np.array([0.5, 0.5, 0.5, 0.05, 0.05, 0.0]), np.array([2, 2, 1.09, 20, 20, 10.0])
    residual(start)
    jacobian(start)
    kept.clear()
    begun = time.process_time()
    found = least_squares(
        residual, start, jacobian, bounds=(lower, upper), x_scale="jac", max_nfev=most,
        ftol=1e-6, xtol=1e-9, gtol=1e-12,
    )  # fmt: skip
    spent = time.process_time() - begun
    return spent, float(found.fun @ found.fun), int(found.nfev)
