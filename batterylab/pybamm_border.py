"""The border to PyBaMM: the one module that imports it.

PyBaMM's discharge current is positive and its parameters are symbols; what crosses this border
are plain numbers and tables, and charge current is positive on our side. Telemetry is switched
off before the import.
"""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab.errors import BatterylabError

os.environ.setdefault("PYBAMM_DISABLE_TELEMETRY", "true")

STOICHIOMETRY_POINTS = 8001


def pybamm() -> Any:
    """Import and return PyBaMM, without telemetry."""
    os.environ["PYBAMM_DISABLE_TELEMETRY"] = "true"
    import pybamm as module

    return module


@cache
def _parameter_values(name: str) -> Any:
    module = pybamm()
    if name.lower().endswith(".json"):
        from batterylab.pybamm_bpx import read_bpx

        return read_bpx(Path(name))
    known = sorted(module.parameter_sets.keys())
    if name not in known:
        import difflib

        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise BatterylabError(f"unknown parameter set {name!r}", hint=hint)
    return module.ParameterValues(name)


def version() -> str:
    """Return PyBaMM's version."""
    return str(pybamm().__version__)


def parameter_values(name: str) -> Any:
    """Return a copy of a set that PyBaMM ships, or of a BPX file, as `pybamm.ParameterValues`.

    Raises
    ------
    BatterylabError
        If PyBaMM ships no such set, or the file is no BPX.
    """
    return _parameter_values(name).copy()


def scalars(name: str) -> dict[str, float]:
    """Return the parameter set's plain numbers, by PyBaMM's own names."""
    return scalars_of(_parameter_values(name))


def scalars_of(values: Any) -> dict[str, float]:
    """Return the plain numbers of `pybamm.ParameterValues`, by PyBaMM's own names."""
    return {
        key: float(value)
        for key, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _curve(name: str, key: str, *arguments: Any) -> NDArray[np.float64]:
    """Evaluate a function of the set on arrays, all of one shape."""
    module = pybamm()
    values = _parameter_values(name)
    symbols = [
        module.Vector(argument) if isinstance(argument, np.ndarray) else module.Scalar(argument)
        for argument in arguments
    ]
    result = values.process_symbol(values[key](*symbols)).evaluate()
    shape = next(a.shape for a in arguments if isinstance(a, np.ndarray))
    return np.broadcast_to(np.asarray(result, float).ravel(), shape).copy()


@dataclass(frozen=True)
class HalfCell:
    """An electrode's open-circuit potential over its stoichiometry.

    Attributes
    ----------
    stoichiometry : ndarray, shape (n,)
        Equally spaced.
    potential_V : ndarray, shape (n,)
        Against lithium.
    """

    stoichiometry: NDArray[np.float64]
    potential_V: NDArray[np.float64]


@cache
def half_cell_ocps(parameter_set: str = "Chen2020") -> dict[str, HalfCell]:
    """Return both electrodes' open-circuit potentials as fine tables.

    Parameters
    ----------
    parameter_set : str
        A full-cell set that PyBaMM ships.

    Returns
    -------
    dict
        ``negative`` and ``positive``, each a `HalfCell` with 8,001 points from 0.0005 to
        0.9995.

    Raises
    ------
    BatterylabError
        If the set is unknown or has no open-circuit potential of that electrode.
    """
    grid = np.linspace(5e-4, 1 - 5e-4, STOICHIOMETRY_POINTS)
    curves = {}
    for electrode in ("negative", "positive"):
        key = f"{electrode.capitalize()} electrode OCP [V]"
        try:
            curves[electrode] = HalfCell(grid, _curve(parameter_set, key, grid))
        except (KeyError, TypeError):
            raise BatterylabError(
                f"parameter set {parameter_set!r} has no {key!r}",
                hint="choose a lithium-ion full-cell set, such as Chen2020",
            ) from None
    return curves


def reference_spme(
    parameter_set: str,
    time_s: NDArray[np.float64],
    segments: list[tuple[float, float]],
    *,
    changes: dict[str, float] | None = None,
    temperature_degC: float = 25.0,
    points: tuple[int, int] = (40, 120),
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return PyBaMM's SPMe with lumped heat on a refined mesh, for comparison.

    Parameters
    ----------
    parameter_set : str
        A set that PyBaMM ships.
    time_s : ndarray, shape (n,)
        Where the solution is wanted.
    segments : list of (duration_s, current_A)
        Charge current positive; one after the other from time 0.
    changes : dict, optional
        Parameters to set, by PyBaMM's names.
    temperature_degC : float
        Ambient and initial temperature.
    points : (int, int)
        Mesh points through each domain and along each particle's radius.

    Returns
    -------
    voltage_V, temperature_degC : ndarray, shape (n,)
    """
    module = pybamm()
    values = _parameter_values(parameter_set).copy()
    kelvin = temperature_degC + 273.15
    values.update({"Ambient temperature [K]": kelvin, "Initial temperature [K]": kelvin})
    values.update(changes or {})
    values["Current function [A]"] = "[input]"
    model = module.lithium_ion.SPMe({"thermal": "lumped", "contact resistance": "true"})
    through, radial = points
    simulation = module.Simulation(
        model,
        parameter_values=values,
        var_pts={"x_n": through, "x_s": through, "x_p": through, "r_n": radial, "r_p": radial},
        solver=module.IDAKLUSolver(rtol=1e-8, atol=1e-8),
    )
    outputs = ("Voltage [V]", "Volume-averaged cell temperature [K]")
    parts: list[NDArray[np.float64]] = []
    start = 0.0
    for duration_s, current_A in segments:
        wanted = time_s[(time_s > start) & (time_s <= start + duration_s)]
        solution = simulation.step(
            duration_s,
            t_eval=np.unique([0.0, *(wanted - start), duration_s]),
            inputs={"Current function [A]": -current_A},
        )
        parts.append(np.array([solution[name](t=wanted) for name in outputs]))
        start += duration_s
    voltage_V, temperature_K = np.concatenate(parts, axis=1)
    return voltage_V, temperature_K - 273.15


def reference_voltage(
    values: Any,
    time_s: NDArray[np.float64],
    current_A: NDArray[np.float64],
    *,
    model: str = "spme",
    thermal: str = "isothermal",
    temperature_degC: float = 25.0,
    points: tuple[int, int] = (40, 60),
    stretched: bool = True,
    tolerance: float = 1e-8,
) -> NDArray[np.float64]:
    """Return PyBaMM's voltage for a current history, every change of current a step of its own.

    Parameters
    ----------
    values : pybamm.ParameterValues or str
        Parameters, or the name of a set that PyBaMM ships.
    time_s, current_A : ndarray, shape (n,)
        Charge positive; that of a row has flowed since the row before.
    model : str
        ``spm``, ``spme`` or ``dfn``.
    thermal : str
        ``isothermal`` or ``lumped``.
    temperature_degC : float
        Ambient and initial temperature.
    points : (int, int)
        Mesh points through each domain and along each particle's radius.
    stretched : bool
        Whether the radial points lie at Chebyshev's nodes, dense at the surface, rather than
        equally spaced.
    tolerance : float
        Of the solver, relative and absolute.

    Returns
    -------
    voltage_V : ndarray, shape (n,)
        NaN in the first row, and after the cell has reached a limit of PyBaMM's.
    """
    kelvin = temperature_degC + 273.15
    simulation = _reference_simulation(
        values, model, thermal, kelvin, points, stretched, tolerance
    )
    voltage_V = np.full(len(time_s), np.nan)
    ends = np.append(np.flatnonzero(np.diff(current_A[1:])) + 1, len(time_s) - 1)
    first = 0
    for end in ends:
        start = float(time_s[first])
        wanted = time_s[first + 1 : end + 1] - start
        solution = simulation.step(
            float(wanted[-1]),
            t_eval=np.unique([0.0, *wanted]),
            inputs={"Current function [A]": -float(current_A[end])},
        )
        voltage_V[first + 1 : end + 1] = solution["Voltage [V]"](t=start + wanted)
        first = int(end)
    return voltage_V


def _reference_simulation(
    values: Any, model: str, thermal: str, kelvin: float, points: tuple[int, int],
    stretched: bool, tolerance: float,
) -> Any:  # fmt: skip
    """Return a simulation for `reference_voltage`, its current an input."""
    module = pybamm()
    values = parameter_values(values) if isinstance(values, str) else values.copy()
    values.update({"Ambient temperature [K]": kelvin, "Initial temperature [K]": kelvin})
    values["Current function [A]"] = "[input]"
    values.update({"Lower voltage cut-off [V]": 0.0, "Upper voltage cut-off [V]": 10.0})
    kinds = {"spm": module.lithium_ion.SPM, "spme": module.lithium_ion.SPMe,
             "dfn": module.lithium_ion.DFN}  # fmt: skip
    through, radial = points
    built = kinds[model]({"thermal": thermal, "contact resistance": "true"})
    meshes = dict(built.default_submesh_types)
    if stretched:
        for name in ("negative particle", "positive particle"):
            meshes[name] = module.Chebyshev1DSubMesh
    return module.Simulation(
        built,
        parameter_values=values,
        submesh_types=meshes,
        var_pts={"x_n": through, "x_s": through, "x_p": through, "r_n": radial, "r_p": radial},
        solver=module.IDAKLUSolver(rtol=tolerance, atol=tolerance),
    )
