"""PyBaMM's impedance of a cell, for comparison with the kernel's."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab.errors import BatterylabError
from batterylab.pybamm_border import parameter_values, pybamm

POTENTIAL = "X-averaged positive electrolyte potential [V]"
DIFFERENCE = "X-averaged negative electrode surface potential difference [V]"


def reference_impedance(
    values: Any,
    frequency_Hz: NDArray[np.float64],
    soc: float | None,
    *,
    model: str = "spme",
    temperature_degC: float = 25.0,
    points: tuple[int, int] = (40, 200),
) -> NDArray[np.complex128]:
    """Return the impedance that `pybamm.EISSimulation` gives, in ohm.

    PyBaMM 26.10 linearises SPMe about its initial guess, in which the electrolyte's potential
    in the positive electrode is 0, which puts the electrode under an overpotential of the
    negative's potential. Here that guess is put right first.

    Parameters
    ----------
    values : pybamm.ParameterValues or str
        Parameters, or the name of a set that PyBaMM ships.
    frequency_Hz : ndarray, shape (n,)
        Above 0.
    soc : float or None
        PyBaMM's `initial_soc`, 0 to 1; None: the parameters' initial concentrations count.
    model : str
        ``spm`` or ``spme``, with the surface form ``differential``.
    temperature_degC : float
        Of the cell.
    points : (int, int)
        Mesh points through each domain and along each radius, at Chebyshev's nodes.

    Raises
    ------
    BatterylabError
        If PyBaMM cannot be given a consistent beginning.
    """
    module = pybamm()
    values = parameter_values(values) if isinstance(values, str) else values.copy()
    kelvin = temperature_degC + 273.15
    values.update({"Ambient temperature [K]": kelvin, "Initial temperature [K]": kelvin})
    for name in ("Negative", "Positive"):
        key = f"{name} electrode double-layer capacity [F.m-2]"
        if key not in values:
            values.update({key: 0.2}, check_already_exists=False)
    kinds = {"spm": module.lithium_ion.SPM, "spme": module.lithium_ion.SPMe}
    built = kinds[model]({"surface form": "differential", "contact resistance": "true"})
    meshes = dict(built.default_submesh_types)
    for name in ("negative particle", "positive particle"):
        meshes[name] = module.Chebyshev1DSubMesh
    through, radial = points
    simulation = module.EISSimulation(
        built, parameter_values=values, submesh_types=meshes,
        var_pts={"x_n": through, "x_s": through, "x_p": through, "r_n": radial, "r_p": radial},
    )  # fmt: skip
    simulation.build(initial_soc=soc)
    _make_consistent(module, simulation._built_model)
    matrices = simulation._build_matrix_problem()
    return np.array([simulation._calculate_impedance(f, *matrices) for f in frequency_Hz])


def _make_consistent(module: Any, model: Any) -> None:
    """Put the electrolyte's potential where no reaction runs."""
    state = model.concatenated_initial_conditions.evaluate(0).copy()
    for variable, places in model.y_slices.items():
        if variable.name == POTENTIAL:
            difference = model.get_processed_variable(DIFFERENCE).evaluate(0, state)
            state[places[0]] = -float(np.ravel(difference)[0])
    model.concatenated_initial_conditions = module.Vector(state)
    for electrode in ("negative", "positive"):
        name = f"X-averaged {electrode} electrode reaction overpotential [V]"
        left = float(np.ravel(model.get_processed_variable(name).evaluate(0, state))[0])
        if not abs(left) < 1e-9:
            raise BatterylabError(f"PyBaMM begins with an overpotential of {left:g} V")
