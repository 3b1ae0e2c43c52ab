r"""The impedance of the single-particle model with electrolyte.

Linearised about equilibrium and solved exactly at each frequency: diffusion in a sphere,
charge transfer beside a double layer, and the salt in electrodes and separator.

.. math:: Z = R_c + i\omega L + \frac{\ell}{\kappa} + \sum_k
          \frac{1}{1 / (R_k + Z_{D,k}) + i \omega C_k}
          + \frac{\chi R T}{F c_0} (\langle c_n \rangle - \langle c_p \rangle),
          \qquad Z_{D} = -\frac{U'}{Q} \frac{\tau}{3} \frac{\tanh q}{q - \tanh q},
          \quad q = \sqrt{i \omega \tau}

The reaction within an electrode follows the local potential, as in PyBaMM's composite surface
form, so that the salt's source has the shape of the ohmic drops. Without double layers the
model is that of `batterylab.fit.spmcell`, but for that shape.

Parameters: those of `spmcell` but for the heat, in that order, and

========================  ==============================================================
log_negative_capacitance  logarithm of the negative electrode's double layer in F
log_positive_capacitance  and of the positive's
inductance_H              in series
========================  ==============================================================

Sources: S. G. Marquis and others, J. Electrochem. Soc. 166 (2019) A3693, on the model;
J. P. Meyers, M. Doyle, R. M. Darling, J. Newman, J. Electrochem. Soc. 147 (2000) 2930, on the
sphere; N. Hallemans and others, J. Electrochem. Soc. 172 (2025) 060507, on such impedances in
PyBaMM.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batterylab._kernels import _impedance
from batterylab.errors import BatterylabError
from batterylab.fit.celltables import CellTables, tables_of
from batterylab.fit.solve import checked
from batterylab.fit.spmcell import NAMES, SpmCell
from batterylab.fit.spmmesh import FARADAY_C_mol

Array = NDArray[np.float64]


GAS_CONSTANT = 8.314462618
EIS_NAMES = (*NAMES[:11], "log_negative_capacitance", "log_positive_capacitance", "inductance_H")
#: stoichiometries looked at for the ends of the cell's window
ENDS = (1e-4, 1.0 - 1e-4, 20001)


@dataclass(frozen=True)
class EisCell:
    """A parameter set made ready for the impedance kernel, at one temperature.

    Attributes
    ----------
    tables : CellTables
        Of the set, at the temperature wanted.
    model : str
        ``spm`` or ``spme``.
    area_factor : float
        On the set's electrode area: another size of the same cell.
    """

    tables: CellTables
    model: str = "spme"
    area_factor: float = 1.0
    start: Array = field(init=False, repr=False)
    kernel: _impedance.Particles = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.model not in ("spm", "spme"):
            raise BatterylabError(f"unknown model {self.model!r}", hint="spm or spme")
        # the time domain's cell gives size and parameters; its electrolyte is not needed
        sized = SpmCell(self.tables, "spm", area_factor=self.area_factor)
        object.__setattr__(self, "tables", sized.tables)
        object.__setattr__(self, "start", self._start(sized.start))
        object.__setattr__(self, "kernel", self._kernel())

    def _start(self, plain: Array) -> Array:
        n = self.tables.numbers
        surface = [
            plain[k] * 10800.0 / (n[f"radius_{e}_m"] * n[f"largest_{e}_mol_m3"] * FARADAY_C_mol)
            for k, e in enumerate("np")
        ]
        layers = [math.log(s * n[f"double_layer_{e}_F_m2"])
                  for s, e in zip(surface, "np", strict=True)]  # fmt: skip
        return np.array([*plain[:11], *layers, 0.0])

    def _kernel(self) -> _impedance.Particles:
        t, n = self.tables, self.tables.numbers
        place = n["start_mol_m3"] / t.concentration_step
        grid = np.arange(len(t.chi))
        chi, kappa, salt = (
            float(np.interp(place, grid, table))
            for table in (t.chi, t.conductivity_S_m, t.salt_diffusivity_m2_s)
        )
        layers = n["thickness_s_m"] / n["transport_s"] + sum(
            n[f"thickness_{e}_m"] / (3.0 * n[f"transport_{e}"]) for e in "np"
        )
        solid = sum(n[f"thickness_{e}_m"] / (3.0 * n[f"conductivity_{e}_S_m"]) for e in "np")
        numbers = [
            n["area_m2"], GAS_CONSTANT * t.temperature_K / FARADAY_C_mol, FARADAY_C_mol,
            n["start_mol_m3"], n["transference_start"], chi, salt, kappa, n["thickness_s_m"],
            n["porosity_s"], n["transport_s"], float(self.model == "spme"),
            layers / n["area_m2"], solid / n["area_m2"],
        ]  # fmt: skip
        for k, e in enumerate("np"):
            rate = 10800.0 / (n[f"radius_{e}_m"] * n[f"largest_{e}_mol_m3"] * FARADAY_C_mol)
            numbers += [
                n[f"thickness_{e}_m"], n[f"porosity_{e}"], n[f"transport_{e}"],
                n[f"conductivity_{e}_S_m"],
                rate * (n["start_mol_m3"] / 1000.0) ** t.exchange_power[k],
            ]  # fmt: skip
        step = 1.0 / (t.potential_V.shape[1] - 1)
        slopes = np.gradient(t.potential_V, step, axis=1)
        middle = t.diffusivity_m2_s[:, t.diffusivity_m2_s.shape[1] // 2]
        return _impedance.Particles(
            np.array(numbers),
            np.ascontiguousarray([*slopes, *t.exchange_A_m2]),
            np.ascontiguousarray(t.diffusivity_m2_s / middle[:, None]),
        )

    @cached_property
    def _window(self) -> tuple[float, float]:
        """Stoichiometries of the negative electrode at the lower and the upper voltage."""
        t, n = self.tables, self.tables.numbers
        x = np.linspace(*ENDS)
        y = self._positive(x)
        inside = (y > ENDS[0]) & (y < ENDS[1])
        x, y = x[inside], y[inside]
        volts = self._resting_V(x, y)
        low, high = n["voltage_min_V"], n["voltage_max_V"]
        middle = int(np.argmin(np.abs(volts - 0.5 * (low + high)))) if len(x) else 0
        below, above = np.flatnonzero(volts <= low), np.flatnonzero(volts >= high)
        below, above = below[below <= middle], above[above >= middle]
        if not len(below) or not len(above):
            raise BatterylabError(
                f"{t.name}: the set's lithium does not reach {low:g} to {high:g} V"
            )
        ends = [
            float(np.interp(wanted, volts[i : i + 2], x[i : i + 2]))
            for wanted, i in ((low, below[-1]), (high, above[0] - 1))
        ]
        return ends[0], ends[1]

    def _resting_V(self, x: Array, y: Array) -> Array:
        """Return the open-circuit voltage at the set's reference temperature, as PyBaMM does."""
        t = self.tables
        grid = np.linspace(0.0, 1.0, t.potential_V.shape[1])
        own = t.potential_V - (t.temperature_K - t.numbers["reference_K"]) * t.entropy_V_K
        return np.asarray(np.interp(y, grid, own[1]) - np.interp(x, grid, own[0]))

    def _positive(self, x: ArrayLike) -> Array:
        """Return the positive electrode's stoichiometry at one of the negative's."""
        q_n, q_p, x_0, y_0 = self.start[:4]
        return np.asarray(y_0 + (x_0 - np.asarray(x, float)) * q_n / q_p)

    def at(self, soc: float) -> Array:
        """Return the set's parameters at a state of charge.

        Parameters
        ----------
        soc : float
            0 at the set's lower, 1 at its upper cut-off voltage, in equilibrium at its
            reference temperature.

        Raises
        ------
        BatterylabError
            If it lies outside 0 to 1.
        """
        if not 0.0 <= soc <= 1.0:
            raise BatterylabError(f"a state of charge of {soc:g} is not between 0 and 1")
        low, high = self._window
        parameters = self.start.copy()
        parameters[2] = low + soc * (high - low)
        parameters[3] = float(self._positive(parameters[2]))
        return parameters


def eis_indices(names: tuple[str, ...]) -> NDArray[np.int32]:
    """Return where parameters stand in `EIS_NAMES`.

    Raises
    ------
    BatterylabError
        If a name is unknown or given twice.
    """
    wrong = [name for name in names if name not in EIS_NAMES]
    if wrong or len(set(names)) != len(names):
        raise BatterylabError(
            f"parameters {', '.join(wrong or names)}: unknown, or given twice",
            hint=f"known: {', '.join(EIS_NAMES)}",
        )
    return np.array([EIS_NAMES.index(name) for name in names], np.int32)


def positive_frequencies(frequency_Hz: ArrayLike) -> Array:
    """Return frequencies as an array.

    Raises
    ------
    BatterylabError
        If one is not finite or not above 0.
    """
    hertz = checked(frequency_Hz, "frequency_Hz")
    bad = np.flatnonzero(hertz <= 0)
    if len(bad):
        raise BatterylabError(f"frequency_Hz, row {bad[0]}: {hertz[bad[0]]:g} is not above 0")
    return hertz


def cell_impedance(
    cell: EisCell,
    frequency_Hz: ArrayLike,
    parameters: ArrayLike,
    *,
    derivatives: tuple[str, ...] = (),
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Return the model's impedance and its derivatives.

    Parameters
    ----------
    cell : EisCell
        The base set.
    frequency_Hz : array_like, shape (n,)
        Above 0.
    parameters : array_like, shape (14,)
        In the order of `EIS_NAMES`, as `EisCell.at` returns them.
    derivatives : tuple of str
        Names of the parameters to derive by.

    Returns
    -------
    impedance_ohm : ndarray of complex128, shape (n,)
    jacobian : ndarray of complex128, shape (n, p)

    Raises
    ------
    BatterylabError
        If a number is not finite, or a parameter is out of what a cell can have.
    """
    hertz = positive_frequencies(frequency_Hz)
    values = checked_parameters(parameters)
    free = eis_indices(derivatives) if derivatives else np.zeros(1, np.int32)
    ohm = np.empty((2, len(hertz)))
    slopes = np.empty((2 * len(hertz) if derivatives else 0, len(free)))
    _impedance.spme(cell.kernel, 2.0 * np.pi * hertz, values, free, ohm, slopes)
    half = len(slopes) // 2
    return complex_of(*ohm), complex_of(slopes[:half], slopes[half:])


def complex_of(real: Array, imaginary: Array) -> NDArray[np.complex128]:
    """Return complex numbers of two parts, of which one may be infinite."""
    made = np.empty(real.shape, np.complex128)
    made.real, made.imag = real, imaginary
    return made


def checked_parameters(parameters: ArrayLike) -> Array:
    """Return all parameters as an array, within what the kernel can work with.

    Raises
    ------
    BatterylabError
        If they are not 14 finite numbers, a capacity is not above 0, a stoichiometry lies
        outside 0 to 1, or a logarithm is beyond 100.
    """
    values = checked(parameters, "parameters", length=len(EIS_NAMES))
    logarithms = [i for i, name in enumerate(EIS_NAMES) if name.startswith("log_")]
    if not (values[:2] > 0).all() or not ((values[2:4] >= 0) & (values[2:4] <= 1)).all():
        raise BatterylabError("a capacity is not above 0, or a stoichiometry not in 0 to 1")
    if np.abs(values[logarithms]).max() > 100:
        raise BatterylabError("a logarithm is beyond 100")
    return values


def spme_impedance(
    cell: str | CellTables | EisCell,
    frequency_Hz: ArrayLike,
    soc: float = 0.5,
    temperature_degC: float = 25.0,
    *,
    model: str = "spme",
) -> NDArray[np.complex128]:
    """Return a parameter set's impedance at a state of charge, in ohm.

    Parameters
    ----------
    cell : str, CellTables or EisCell
        Name of a full-cell set that PyBaMM ships, tables of one (their own temperature
        holds), or a cell made ready.
    frequency_Hz : array_like, shape (n,)
        Above 0.
    soc : float
        0 at the set's lower, 1 at its upper cut-off voltage, in equilibrium.
    temperature_degC : float
        For a set named by text.
    model : str
        ``spme``, or ``spm`` without electrolyte.

    Returns
    -------
    ndarray of complex128, shape (n,)
        Inductive above the real axis (positive imaginary part). It agrees with
        `pybamm.EISSimulation` on a converged mesh (tested for ten sets), with double layers as
        the set gives them.

    Raises
    ------
    BatterylabError
        If the set, a frequency or the state of charge is wrong.

    Examples
    --------
    >>> abs(spme_impedance("Chen2020", [1000.0], 0.5)).round(5)
    array([0.00547])
    """
    if isinstance(cell, str):
        cell = tables_of(cell, temperature_degC + 273.15)
    if isinstance(cell, CellTables):
        cell = EisCell(cell, model)
    return cell_impedance(cell, frequency_Hz, cell.at(soc))[0]
