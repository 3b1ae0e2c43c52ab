"""PyBOP's best on one fit. Runs in an environment of its own: `make benchmark` makes it.

    python benchmarks/pybop_peer.py DATA.json

DATA holds time_s, voltage_V, start (relative to `values`), values, bounds, y_mol_m3. Prints one
JSON object: version, and for each optimiser processor time and the sum of squares it reached.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ["PYBAMM_DISABLE_TELEMETRY"] = "true"

import numpy as np
import pybamm
import pybop


def problem_of(data: dict[str, object]) -> "pybop.Problem":
    """Return the fit as PyBOP states it: SPMe, sum of squares, compiled IDAKLU."""
    model = pybamm.lithium_ion.SPMe({"contact resistance": "true"})
    values = pybamm.ParameterValues("Chen2020")
    values.update({
        "Lower voltage cut-off [V]": 0.0, "Upper voltage cut-off [V]": 10.0,
        "Initial concentration in positive electrode [mol.m-3]": data["y_mol_m3"],
        "Contact resistance [Ohm]": 0.0,
    }, check_already_exists=False)  # fmt: skip
    for (name, scale), first, (low, high) in zip(
        data["values"].items(), data["start"], data["bounds"], strict=True
    ):
        values[name] = pybop.Parameter(
            initial_value=scale * first, bounds=[scale * low, scale * high],
            transformation=pybop.UnitHyperCube(scale * low, scale * high),
        )  # fmt: skip
    time_s = np.array(data["time_s"])
    dataset = pybop.Dataset({
        "Time [s]": time_s, "Current [A]": np.full(len(time_s), 5.0),
        "Voltage [V]": np.array(data["voltage_V"]),
    })  # fmt: skip
    solver = pybamm.IDAKLUSolver(
        rtol=1e-6, atol=1e-6, output_variables=["Voltage [V]"], options={"compile": True}
    )
    points = {"x_n": 20, "x_s": 20, "x_p": 20, "r_n": 40, "r_p": 40}
    meshes = dict(model.default_submesh_types)
    for name in ("negative particle", "positive particle"):
        meshes[name] = pybamm.Chebyshev1DSubMesh
    simulator = pybop.pybamm.Simulator(
        model, parameter_values=values, protocol=dataset, solver=solver, var_pts=points,
        submesh_types=meshes,
    )  # fmt: skip
    return pybop.Problem(simulator, pybop.SumSquaredError(dataset))


def main(path: str) -> int:
    """Run the optimisers and print what they reached."""
    data = json.loads(Path(path).read_text())
    found = {}
    for name in data["optimisers"]:
        kind = getattr(pybop, name)
        options = kind.default_options()
        if hasattr(options, "max_iterations"):
            options.max_iterations = data["most"]
            options.max_unchanged_iterations = 40
            options.absolute_tolerance = 1e-7
            options.relative_tolerance = 1e-4
        problem = problem_of(data)
        begun = time.process_time()
        try:
            result = kind(problem, options=options).run()
        except (RuntimeError, ValueError, ArithmeticError) as error:
            found[name] = {"failed": str(error)[:200]}
            continue
        found[name] = {"seconds": time.process_time() - begun, "cost": float(result.best_cost)}
    print(json.dumps({"version": pybop.__version__, "found": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
