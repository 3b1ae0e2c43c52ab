r"""A cell for the Doyle-Fuller-Newman kernel: parameters, meshes, and voltage with derivatives.

The parameters are those of the single-particle models (`batterylab.fit.spmcell`), which here act
on every particle of an electrode alike, and two more:

=========================  =============================================================
log_negative_conductivity  logarithm of a factor on the solid's conductivity
log_positive_conductivity  and on the positive's
=========================  =============================================================

Sources: M. Doyle, T. F. Fuller, J. Newman, J. Electrochem. Soc. 140 (1993) 1526, on the model;
M. D. Berliner, D. A. Cogswell, M. Z. Bazant, R. D. Braatz, J. Electrochem. Soc. 168 (2021) 090504
(PETLION), on what a fast solution costs.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batterylab._kernels import _dfn
from batterylab.errors import BatterylabError
from batterylab.fit import spmcell
from batterylab.fit.celltables import CellTables
from batterylab.fit.solve import checked
from batterylab.fit.spmcell import SHIFTS, History
from batterylab.fit.spmmesh import FARADAY_C_mol, shells, sphere_exponentials

Array = NDArray[np.float64]

NAMES = (
    *spmcell.NAMES[:11], "log_negative_conductivity", "log_positive_conductivity", *SHIFTS,
)  # fmt: skip

#: nodes in negative electrode, separator and positive electrode
POINTS = (36, 4, 36)
#: first step in s after a change of current and local error of a step in V, from the voltage's
#: curvature; both again where a diffusivity varies
STEPS = (0.5, 3e-5)
FINE_STEPS = (0.1, 2e-5)
#: how much steps may grow from one to the next
GROWTH = 1.7
#: of the new slope of the particles' speeds, the rest being the old one
SHARE = 0.67
#: pieces of the electrolyte's tables over the root of the concentration, from 1 mol/m3
PIECES = 400


@dataclass(frozen=True)
class DfnCell:
    """A parameter set made ready for the kernel.

    Attributes
    ----------
    tables : CellTables
        Of the set.
    area_factor : float
        On the set's electrode area: another size of the same cell.
    points : (int, int, int)
        Nodes in negative electrode, separator and positive electrode.
    steps : (float, float), optional
        First step after a change of current in s, and local error of a step in V.
    growth : float
        Largest ratio of two steps.
    start : ndarray, shape (20,)
        The set's own parameters, in the order of `NAMES`, at its initial concentrations.
    """

    tables: CellTables
    area_factor: float = 1.0
    points: tuple[int, int, int] = POINTS
    steps: tuple[float, float] | None = None
    growth: float = GROWTH
    start: Array = field(init=False, repr=False)
    kernel: _dfn.Model = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1e-6 < self.area_factor < 1e6:
            raise BatterylabError(f"area_factor = {self.area_factor:g} is no size of a cell")
        if min(self.points) < 2 or sum(self.points) > 128:
            raise BatterylabError(f"points = {self.points}: at least 2 a domain, 128 in all")
        object.__setattr__(self, "tables", spmcell.sized(self.tables, self.area_factor))
        start = spmcell.start_of(self.tables)
        own = np.zeros(len(NAMES))
        own[:11] = start[:11]
        object.__setattr__(self, "start", own)
        object.__setattr__(self, "kernel", _dfn.Model(*self.kernel_arguments))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all parameters, in order."""
        return NAMES

    @property
    def varying(self) -> tuple[bool, bool]:
        """Whether the diffusivity of the negative and of the positive particle varies."""
        return spmcell.varying(self.tables)

    @property
    def kernel_arguments(self) -> tuple[Any, ...]:
        """What the compiled kernels take of the cell, in their order."""
        t = self.tables
        sphere, tail = sphere_exponentials()
        none = np.zeros((4, 1))
        n_line, p_line = (shells() if varies else none for varies in self.varying)
        middle = t.diffusivity_m2_s[:, t.diffusivity_m2_s.shape[1] // 2]
        curves = np.stack([t.potential_V, t.exchange_A_m2], axis=2)
        salt, root_0, root_step = _salt_pieces(t)
        first_s, tolerance_V = self.steps or (FINE_STEPS if any(self.varying) else STEPS)
        return (
            _numbers(t), np.ascontiguousarray(curves), np.ascontiguousarray(t.entropy_V_K),
            t.temperature_K, salt, root_0, root_step, _nodes(t, self.points), self.points[0],
            self.points[2], sphere, tail, n_line, p_line,
            _with_integral(t.diffusivity_m2_s / middle[:, None]), first_s, self.growth,
            tolerance_V, SHARE,
        )  # fmt: skip


def _with_integral(table: Array) -> Array:
    """Return tables and, in steps of them, the integrals of the cubics that the kernel reads."""
    slope = np.gradient(table, axis=1)
    slope[:, [0, -1]] = 0.0  # not read: the ends are level
    piece = 0.5 * (table[:, 1:] + table[:, :-1]) + (slope[:, :-1] - slope[:, 1:]) / 12.0
    whole = np.concatenate([np.zeros((len(table), 1)), np.cumsum(piece, axis=1)], axis=1)
    return np.ascontiguousarray([table, whole])


def _numbers(t: CellTables) -> Array:
    """Return the kernel's constants, in its order."""
    n = t.numbers
    rates = [10800.0 / (n[f"radius_{e}_m"] * n[f"largest_{e}_mol_m3"] * FARADAY_C_mol)
             for e in "np"]  # fmt: skip
    return np.array([
        *rates, *t.exchange_activation_K, *t.exchange_power, *t.diffusion_activation_K,
        t.salt_activation_K, t.conductivity_activation_K, n["start_mol_m3"], t.transference,
    ])  # fmt: skip


def _nodes(t: CellTables, points: tuple[int, int, int]) -> Array:
    """Return shares, volumes of electrolyte, half resistances at 1 S/m and of the solid."""
    n, rows = t.numbers, []
    for key, count in zip("nsp", points, strict=True):
        shape = np.full(count, 1.0 / count)
        width = shape * n[f"thickness_{key}_m"]
        solid = 0.0
        if key != "s":
            solid = 0.5 / (n[f"conductivity_{key}_S_m"] * n["area_m2"])
        rows.append([
            shape if key != "s" else np.zeros(count), width * n[f"porosity_{key}"] * n["area_m2"],
            0.5 * width / (n[f"transport_{key}"] * n["area_m2"]), width * solid,
        ])  # fmt: skip
    return np.ascontiguousarray(np.concatenate(rows, axis=1))


def _salt_pieces(t: CellTables) -> tuple[Array, float, float]:
    """Return cubics over the root of the concentration, the first root and their width.

    Of conductivity, the integral of the diffusivity, the integral of chi over c, and t+; 16
    coefficients a piece.
    """
    from scipy.interpolate import CubicSpline

    c = t.concentration_step * np.arange(len(t.chi))
    root = np.linspace(1.0, math.sqrt(c[-1]), PIECES + 1)
    fine = np.linspace(1.0, math.sqrt(c[-1]), 8 * PIECES + 1)
    at = root**2
    tables = [
        CubicSpline(c, t.conductivity_S_m)(at),
        CubicSpline(c, t.salt_diffusivity_m2_s).antiderivative()(at),
        CubicSpline(fine, 2.0 * CubicSpline(c, t.chi)(fine**2) / fine).antiderivative()(root),
        CubicSpline(c, t.carried)(at),
    ]
    pieces = [CubicSpline(np.arange(PIECES + 1.0), table).c[::-1].T for table in tables]
    return np.ascontiguousarray(np.stack(pieces, axis=1)), 1.0, float(root[1] - root[0])


def indices_of(names: tuple[str, ...]) -> NDArray[np.int32]:
    """Return where parameters stand in `NAMES`.

    Raises
    ------
    BatterylabError
        If a name is unknown or given twice.
    """
    return spmcell.indices_of(names, NAMES)


@dataclass(frozen=True)
class Response:
    """What the model gives.

    Attributes
    ----------
    voltage_V : ndarray, shape (m,)
        In the observed rows; NaN from where the cell cannot carry the current any more.
    jacobian : ndarray, shape (m, p)
        Derivatives by the parameters asked for; no rows if none was.
    steps : Steps
        Steps in time that were taken, for another run over the same rows.
    """

    voltage_V: Array
    jacobian: Array
    steps: _dfn.Steps


def dfn_voltage(
    cell: DfnCell,
    history: History,
    parameters: ArrayLike | None = None,
    *,
    derivatives: tuple[str, ...] = (),
    steps: _dfn.Steps | None = None,
) -> Response:
    """Return the model's voltage, and its derivatives if wanted.

    Parameters
    ----------
    cell : DfnCell
        The base set.
    history : History
        From `batterylab.fit.spmcell.history_of`.
    parameters : array_like, shape (20,), optional
        In the order of `NAMES`; else the set's own.
    derivatives : tuple of str
        Names of the parameters to derive by.
    steps : Steps, optional
        Of a response over the same history, to be taken again: neighbouring parameters then
        differ by what they change, not by other steps in time.
    """
    values = checked(cell.start if parameters is None else parameters, "parameters",
                     length=len(NAMES))  # fmt: skip
    if not (values[:2] > 0).all() or np.abs(values[[4, 5, 6, 7, 9, 10, 11, 12]]).max() > 100:
        raise BatterylabError("a capacity is not above 0, or a logarithm is beyond 100")
    free = indices_of(derivatives) if derivatives else np.zeros(0, np.int32)
    rows = int(history.observed.sum())
    volts = np.empty(rows)
    jacobian = np.empty((rows if derivatives else 0, len(free)))
    kept = _dfn.Steps(history.data.shape[1]) if steps is None else steps
    if kept.rows != history.data.shape[1]:
        raise BatterylabError("the steps are those of other rows")
    _dfn.voltage(
        cell.kernel, history.data, history.flags, values, free, volts, jacobian, kept,
        steps is not None,
    )  # fmt: skip
    return Response(volts, jacobian, kept)
