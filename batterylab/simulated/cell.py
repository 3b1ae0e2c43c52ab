"""Simulated cells: the truth behind the simulated instruments.

A cell is PyBaMM's single-particle model with electrolyte and lumped heat, integrated by
`batterylab._kernels._cellsim`. Its truth is a handful of multipliers on a parameter set.
"""

from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from batterylab._kernels import _cellsim
from batterylab.errors import BatterylabError
from batterylab.pybamm_border import FARADAY_C_mol, SpmeTables, spme_tables

MODES = 48
NODES = 24
STATE_COLUMNS = 123
ZERO_degC = 273.15
#: the area is scaled so that a cell of the base set holds a little more than its rated capacity
AREA_SCALE = 1.005


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


@cache
def sphere_modes(count: int = MODES) -> NDArray[np.float64]:
    """Return the first positive roots of tan(mu) = mu, the sphere's diffusion modes."""
    return np.array(
        [
            brentq(lambda m: np.sin(m) - m * np.cos(m), k * np.pi + 1e-9, (k + 0.5) * np.pi)
            for k in range(1, count + 1)
        ]
    )


@cache
def _tables(parameter_set: str) -> tuple[SpmeTables, NDArray[np.float64], NDArray[np.float64]]:
    tables = spme_tables(parameter_set)
    curves = np.array(
        [
            tables.potential_V["negative"],
            tables.potential_V["positive"],
            tables.exchange_A_m2["negative"],
            tables.exchange_A_m2["positive"],
        ]
    )
    return tables, curves, np.array([tables.diffusivity_m2_s, tables.conductivity_S_m])


class SimulatedCell:
    """One cell's numbers, ready for the kernel.

    Parameters
    ----------
    truth : CellTruth
        The multipliers.
    parameter_set : str
        The base set.
    area_scale : float
        Of the electrode area.
    """

    def __init__(
        self,
        truth: CellTruth,
        parameter_set: str = "Chen2020",
        area_scale: float = AREA_SCALE,
    ) -> None:
        self.truth = truth
        self.tables, self.curves, self.electrolyte_curves = _tables(parameter_set)
        self.area_m2 = area_scale * self._n("Electrode height [m]") * self._n("Electrode width [m]")
        self.area_m2 *= self._n("Number of electrodes connected in parallel to make a cell")
        self.area_scale = area_scale
        self.capacity_Ah = {
            e: self._loading(e)
            * self._solid(e, "active material volume fraction")
            * self._n(f"Maximum concentration in {e} electrode [mol.m-3]")
            * self._n(f"{e.capitalize()} electrode thickness [m]")
            * self.area_m2
            * FARADAY_C_mol
            / 3600.0
            for e in ("negative", "positive")
        }
        self.parameters = self._parameters()
        self.weights = 2.0 / sphere_modes() ** 2

    def _n(self, name: str) -> float:
        return self.tables.numbers[name]

    def _solid(self, electrode: str, name: str) -> float:
        return self._n(f"{electrode.capitalize()} electrode {name}")

    def _loading(self, electrode: str) -> float:
        return float(getattr(self.truth, f"{electrode}_loading"))

    def _diffusivity(self, electrode: str) -> float:
        base = self._n(f"{electrode.capitalize()} particle diffusivity [m2.s-1]")
        return base * float(getattr(self.truth, f"{electrode}_diffusivity"))

    def _radius(self, electrode: str) -> float:
        return self._n(f"{electrode.capitalize()} particle radius [m]")

    def _flux_density(self, electrode: str) -> float:
        """Interfacial current density in A/m2 per ampere of the cell."""
        active = self._solid(electrode, "active material volume fraction")
        active *= self._loading(electrode)
        surface = 3.0 * active / self._radius(electrode)
        thickness = self._n(f"{electrode.capitalize()} electrode thickness [m]")
        return 1.0 / (self.area_m2 * surface * thickness)

    def _parameters(self) -> NDArray[np.float64]:
        n, thick = self._n, {}
        for part in ("Negative electrode", "Separator", "Positive electrode"):
            thick[part] = n(f"{part} thickness [m]")
        porosity = [n("Negative electrode porosity"), n("Separator porosity"),
                    n("Positive electrode porosity")]  # fmt: skip
        bruggeman = [
            n("Negative electrode Bruggeman coefficient (electrolyte)"),
            n("Separator Bruggeman coefficient (electrolyte)"),
            n("Positive electrode Bruggeman coefficient (electrolyte)"),
        ]
        solid = sum(
            thick[f"{e} electrode"] / (3.0 * n(f"{e} electrode conductivity [S.m-1]"))
            for e in ("Negative", "Positive")
        )
        weights = 2.0 / sphere_modes() ** 2
        tail = 0.2 - weights.sum()
        flux = {
            e: self._flux_density(e) * self._radius(e)
            / (FARADAY_C_mol * self._diffusivity(e)
               * n(f"Maximum concentration in {e} electrode [mol.m-3]"))
            for e in ("negative", "positive")
        }  # fmt: skip
        activation = self.tables.activation_K
        return np.array(
            [
                self.area_m2, *thick.values(),
                self._flux_density("negative"), self._flux_density("positive"),
                1.0 / (3600.0 * self.capacity_Ah["negative"]),
                1.0 / (3600.0 * self.capacity_Ah["positive"]),
                flux["negative"], flux["positive"],
                n("Maximum concentration in negative electrode [mol.m-3]"),
                n("Maximum concentration in positive electrode [mol.m-3]"),
                *porosity, *(p**b for p, b in zip(porosity, bruggeman, strict=True)),
                n("Cation transference number"), solid, self.truth.contact_ohm,
                self._heat_capacity(), self._cooling(),
                activation["negative"], activation["positive"], tail, tail,
                n("Reference temperature [K]"),
            ]
        )  # fmt: skip

    def _heat_capacity(self) -> float:
        """Heat capacity in J/K: the layers' mean over the cell's volume."""
        n, total, thickness = self._n, 0.0, 0.0
        for layer in ("Negative current collector", "Negative electrode", "Separator",
                      "Positive electrode", "Positive current collector"):  # fmt: skip
            length = n(f"{layer} thickness [m]")
            thickness += length
            total += (
                length * n(f"{layer} density [kg.m-3]")
                * n(f"{layer} specific heat capacity [J.kg-1.K-1]")
            )  # fmt: skip
        return total / thickness * n("Cell volume [m3]") * self.area_scale

    def _cooling(self) -> float:
        """Heat transfer in W/K."""
        return (
            self._n("Total heat transfer coefficient [W.m-2.K-1]")
            * self._n("Cell cooling surface area [m2]")
            * self.area_scale
            * self.truth.cooling
        )

    def fades(self, dt_s: float = 1.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what is left of each mode after `dt_s`, for both electrodes."""
        rates = [
            sphere_modes() ** 2 * self._diffusivity(e) / self._radius(e) ** 2
            for e in ("negative", "positive")
        ]
        return np.exp(-rates[0] * dt_s), np.exp(-rates[1] * dt_s)

    def _potential(self, electrode: str, stoichiometry: float) -> float:
        curve = self.tables.potential_V[electrode]
        return float(np.interp(stoichiometry * (len(curve) - 1), np.arange(len(curve)), curve))

    def lithium_Ah(self) -> float:
        """Return the cyclable lithium in Ah; the base set's initial state, times the truth."""
        n = self._n
        filled = {
            e: n(f"Initial concentration in {e} electrode [mol.m-3]")
            / n(f"Maximum concentration in {e} electrode [mol.m-3]")
            for e in ("negative", "positive")
        }
        base = SimulatedCell(CellTruth(), area_scale=self.area_scale) if self.truth != CellTruth() \
            else self  # fmt: skip
        held = sum(base.capacity_Ah[e] * filled[e] for e in filled)
        return held * self.truth.lithium_inventory

    def stoichiometries(self, voltage_V: float) -> tuple[float, float]:
        """Return both electrodes' stoichiometries in equilibrium at a voltage.

        Raises
        ------
        BatterylabError
            If the cell cannot reach the voltage.
        """
        lithium, qn, qp = self.lithium_Ah(), *self.capacity_Ah.values()

        def excess(x: float) -> float:
            y = (lithium - x * qn) / qp
            return self._potential("positive", y) - self._potential("negative", x) - voltage_V

        low, high = max(1e-4, (lithium - qp) / qn + 1e-4), min(1 - 1e-4, lithium / qn - 1e-4)
        if excess(low) * excess(high) > 0:
            raise BatterylabError(f"the simulated cell cannot reach {voltage_V:g} V")
        x = float(brentq(excess, low, high, xtol=1e-12))
        return x, (lithium - x * qn) / qp

    def rest_state(
        self, soc: float, temperature_degC: float = 25.0, window_V: tuple[float, float] = (2.5, 4.2)
    ) -> NDArray[np.float64]:
        """Return the state of a cell at rest at a state of charge between its voltage limits."""
        empty, full = (self.stoichiometries(v) for v in window_V)
        state = np.zeros(STATE_COLUMNS)
        state[0] = empty[0] + soc * (full[0] - empty[0])
        state[1] = empty[1] + soc * (full[1] - empty[1])
        state[2] = temperature_degC + ZERO_degC
        state[3 : 3 + NODES] = self._n("Initial concentration in electrolyte [mol.m-3]")
        return state

    def open_circuit_voltage_V(self, state: NDArray[np.float64]) -> float:
        """Return the equilibrium voltage of a state."""
        return self._potential("positive", state[1]) - self._potential("negative", state[0])

    def ac_resistance_ohm(self) -> float:
        """Return the resistance at 1 kHz: electrolyte, solid and contacts, not the reactions."""
        p = self.parameters
        kappa = float(np.interp(1000.0 / self.tables.concentration_step,
                                np.arange(len(self.tables.conductivity_S_m)),
                                self.tables.conductivity_S_m))  # fmt: skip
        layers = p[1] / (3 * p[15]) + p[2] / p[16] + p[3] / (3 * p[17])
        return float((layers / kappa + p[19]) / self.area_m2 + self.truth.contact_ohm)

    def follow(
        self,
        state: NDArray[np.float64],
        current_A: Any,
        dt_s: float = 1.0,
        ambient_degC: float = 25.0,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Drive the cell through currents, each held for `dt_s`.

        Parameters
        ----------
        state : ndarray, shape (123,)
            Changed in place.
        current_A : array_like, shape (n,)
            Charge positive.

        Returns
        -------
        voltage_V, temperature_degC : ndarray, shape (n,)
            At the end of each step.
        """
        currents = np.ascontiguousarray(current_A, float)
        voltage_V, temperature_K = np.empty(len(currents)), np.empty(len(currents))
        fade_n, fade_p = self.fades(dt_s)
        _cellsim.follow(
            self.parameters, state, fade_n, fade_p, self.weights, self.weights, self.curves,
            self.tables.stoichiometry_step, self.electrolyte_curves,
            self.tables.concentration_step, currents, dt_s, ambient_degC + ZERO_degC,
            voltage_V, temperature_K,
        )  # fmt: skip
        return voltage_V, temperature_K - ZERO_degC
