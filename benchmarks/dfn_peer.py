"""PyBaMM's DFN as a peer: IDAKLU, compiled functions, the voltage as its only output."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab.pybamm_border import pybamm

Array = NDArray[np.float64]

VOLTAGE = "Voltage [V]"
KELVIN = 298.15


class DfnPeer:
    """PyBaMM on one history: every change of the current is a time that the solver stops at.

    Changes are drawn as ramps of a microsecond; radial points lie at Chebyshev's nodes
    or, if not stretched, evenly.
    """

    def __init__(
        self, values: Any, time_s: Array, amps: Array, mesh: tuple[int, int],
        tolerance: float = 1e-6, is_compiled: bool = True, is_stretched: bool = True,
    ) -> None:  # fmt: skip
        module = pybamm()
        values = values.copy()
        values.update({
            "Lower voltage cut-off [V]": 0.0, "Upper voltage cut-off [V]": 10.0,
            "Ambient temperature [K]": KELVIN, "Initial temperature [K]": KELVIN,
        })  # fmt: skip
        self.time_s, self.stops = time_s, np.array([time_s[0], time_s[-1]])
        if np.ptp(amps[1:]) > 0:
            changes = np.flatnonzero(np.diff(amps[1:])) + 1
            knots = np.concatenate([[0.0], time_s[changes], time_s[changes] + 1e-6, [time_s[-1]]])
            flows = np.concatenate([[amps[1]], amps[changes], amps[changes + 1], [amps[-1]]])
            order = np.argsort(knots, kind="stable")
            self.stops = knots[order]
            values["Current function [A]"] = module.Interpolant(
                knots[order], -flows[order], module.t, interpolator="linear"
            )
        else:
            values["Current function [A]"] = -float(amps[-1])
        model = module.lithium_ion.DFN()
        meshes = dict(model.default_submesh_types)
        for name in ("negative particle", "positive particle") if is_stretched else ():
            meshes[name] = module.Chebyshev1DSubMesh
        through, radial = mesh
        self.simulation = module.Simulation(
            model, parameter_values=values, submesh_types=meshes,
            var_pts={"x_n": through, "x_s": through, "x_p": through, "r_n": radial, "r_p": radial},
            solver=module.IDAKLUSolver(
                rtol=tolerance, atol=tolerance, output_variables=[VOLTAGE],
                options={"compile": is_compiled},
            ),
        )  # fmt: skip

    def solve(self) -> Array:
        """Return the voltage in every row; NaN from where PyBaMM ended."""
        solution = self.simulation.solve(t_eval=self.stops, t_interp=self.time_s)
        reached = self.time_s <= float(solution.t[-1]) + 1e-6
        found = np.full(len(self.time_s), np.nan)
        found[reached] = solution[VOLTAGE](t=self.time_s[reached])
        return found
