"""The cell of a simulation: a parameter set, scaled to the cell type, and how it deviates."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from batterylab._kernels import _stepsim
from batterylab.errors import BatterylabError
from batterylab.fit.celltables import CellTables, cell_tables

if TYPE_CHECKING:
    from batterylab.simulated.cell import CellTruth

Array = NDArray[np.float64]
ZERO_K = 273.15
FARADAY_C_mol = 96485.33212
MODELS = ("spm", "spme", "dfn")
#: shells of a particle, and the outermost one's thickness over the radius
SHELLS, THINNEST = 96, 2e-3
#: volumes of the electrolyte in negative electrode, separator and positive electrode
VOLUMES = (20, 8, 20)
#: a diffusivity that varies less than this over the stoichiometry counts as constant
CONSTANT = 1e-6


@dataclass(frozen=True)
class ModelCell:
    """A cell that can be driven.

    Attributes
    ----------
    parameter_set : str
        A full-cell set that PyBaMM ships.
    model : str
        ``spm``, ``spme`` or ``dfn``; the last one is PyBaMM's alone.
    truth : CellTruth
        How the cell deviates from the set.
    area_factor : float
        On the set's electrode area.
    """

    parameter_set: str
    model: str
    truth: "CellTruth"
    area_factor: float = 1.0

    @property
    def tables(self) -> CellTables:
        """The set's tables."""
        return cell_tables(self.parameter_set)

    @property
    def is_lumped(self) -> bool:
        """Whether the set knows heat capacity and cooling; else the cell is as warm as the air."""
        n = self.tables.numbers
        return bool(np.isfinite([n["heat_J_K"], n["cooling_W_K"]]).all())

    @property
    def capacities_Ah(self) -> tuple[float, float]:
        """Lithium that the active material of each electrode can hold."""
        n = self.tables.numbers
        loadings = self.truth.negative_loading, self.truth.positive_loading
        found = [
            loading * n[f"active_{e}"] * n[f"largest_{e}_mol_m3"] * n[f"thickness_{e}_m"]
            * n["area_m2"] * self.area_factor * FARADAY_C_mol / 3600.0
            for e, loading in zip("np", loadings, strict=True)
        ]  # fmt: skip
        return found[0], found[1]

    @property
    def lithium_Ah(self) -> float:
        """Lithium that goes to and fro: the set's initial state, times the truth."""
        n, truth = self.tables.numbers, self.truth
        negative, positive = self.capacities_Ah
        held = negative / truth.negative_loading * n["start_n"]
        held += positive / truth.positive_loading * n["start_p"]
        return held * truth.lithium_inventory

    def potential(self, electrode: int, stoichiometry: float, degC: float = 25.0) -> float:
        """Return the open-circuit potential of the negative (0) or positive (1) electrode in V."""
        t = self.tables
        grid = np.linspace(0.0, 1.0, t.potential_V.shape[1])
        warm_K = degC + ZERO_K - t.temperature_K
        curve = t.potential_V[electrode] + warm_K * t.entropy_V_K[electrode]
        return float(np.interp(stoichiometry, grid, curve))

    def stoichiometries(self, voltage_V: float, degC: float = 25.0) -> tuple[float, float]:
        """Return both electrodes' stoichiometries in equilibrium at a voltage.

        Raises
        ------
        BatterylabError
            If the cell cannot reach the voltage.
        """
        from scipy.optimize import brentq

        lithium, (qn, qp) = self.lithium_Ah, self.capacities_Ah

        def excess(x: float) -> float:
            y = (lithium - x * qn) / qp
            return self.potential(1, y, degC) - self.potential(0, x, degC) - voltage_V

        low, high = max(1e-4, (lithium - qp) / qn + 1e-4), min(1 - 1e-4, lithium / qn - 1e-4)
        if not low < high or excess(low) * excess(high) > 0:
            n = self.tables.numbers
            raise BatterylabError(
                f"a cell of {self.parameter_set} cannot reach {voltage_V:g} V",
                hint=f"its window is {n['voltage_min_V']:g} to {n['voltage_max_V']:g} V: give "
                "the cell type that one, or take another set",
            )
        x = float(brentq(excess, low, high, xtol=1e-13))
        return x, (lithium - x * qn) / qp

    def rest(self, soc: float, window_V: tuple[float, float]) -> tuple[float, float]:
        """Return the stoichiometries of the cell at rest at a state of charge, 0 to 1.

        Raises
        ------
        BatterylabError
            If the cell cannot reach its window.
        """
        empty, full = (self.stoichiometries(v) for v in window_V)
        x, y = (e + soc * (f - e) for e, f in zip(empty, full, strict=True))
        return x, y

    def stepper(self) -> _stepsim.Stepper:
        """Return the cell for the kernel.

        Raises
        ------
        BatterylabError
            If the model cannot use the set.
        """
        t = self.tables
        if self.model == "spme" and not np.isfinite(t.transference):
            raise BatterylabError(
                f"the transference number of {t.name} depends on concentration, which our spme "
                "does not follow",
                hint="--model spm, or --engine pybamm",
            )
        spread = [d / d[len(d) // 2] for d in t.diffusivity_m2_s]
        d_n, d_p = (np.ascontiguousarray(d if np.ptp(d) > CONSTANT else np.ones(1)) for d in spread)
        salt, share = self._salt() if self.model == "spme" else (np.zeros((3, 1)), np.ones(1))
        curves = np.array([*t.potential_V, *t.entropy_V_K,
                           *np.log(np.maximum(t.exchange_A_m2, 1e-8))])  # fmt: skip
        return _stepsim.Stepper(
            self._numbers(), curves, np.array([t.conductivity_S_m, t.chi]), t.concentration_step,
            shells(), d_n, d_p, salt,
            np.ascontiguousarray(t.salt_diffusivity_m2_s), share, self.is_lumped,
        )  # fmt: skip

    def impedance_ohm(
        self, frequency_Hz: Array, stoichiometries: tuple[float, float], degC: float
    ) -> NDArray[np.complex128]:
        """Return the impedance in equilibrium at two stoichiometries and a temperature."""
        from batterylab.fit.impedancespme import EIS_NAMES, EisCell, cell_impedance

        model = "spm" if self.model == "spm" else "spme"
        cell = EisCell(cell_tables(self.parameter_set, degC + ZERO_K), model, self.area_factor)
        values = dict(zip(EIS_NAMES, cell.start, strict=True))
        truth = self.truth
        values["negative_capacity_Ah"], values["positive_capacity_Ah"] = self.capacities_Ah
        values["x_start"], values["y_start"] = stoichiometries
        values["contact_ohm"] = truth.contact_ohm
        values["log_negative_time"] -= np.log(truth.negative_diffusivity)
        values["log_positive_time"] -= np.log(truth.positive_diffusivity)
        return cell_impedance(cell, frequency_Hz, np.array(list(values.values())))[0]

    def _numbers(self) -> Array:
        """Return the kernel's constants, in its order."""
        t, n, area = self.tables, self.tables.numbers, self.area_factor
        faster = self.truth.negative_diffusivity, self.truth.positive_diffusivity
        times = [n[f"radius_{e}_m"] ** 2 / (d[len(d) // 2] * f)
                 for e, d, f in zip("np", t.diffusivity_m2_s, faster, strict=True)]  # fmt: skip
        rates = [10800.0 / (n[f"radius_{e}_m"] * n[f"largest_{e}_mol_m3"] * FARADAY_C_mol)
                 for e in "np"]  # fmt: skip
        layers = (
            n["thickness_n_m"] / (3 * n["transport_n"]) + n["thickness_s_m"] / n["transport_s"]
            + n["thickness_p_m"] / (3 * n["transport_p"])
        )  # fmt: skip
        solid = sum(n[f"thickness_{e}_m"] / (3 * n[f"conductivity_{e}_S_m"]) for e in "np")
        heat, cool = (n["heat_J_K"], n["cooling_W_K"]) if self.is_lumped else (1.0, 1.0)
        cool *= self.truth.cooling
        return np.array([
            *self.capacities_Ah, *times, *rates, *t.exchange_activation_K, *t.exchange_power,
            *t.diffusion_activation_K, layers / (n["area_m2"] * area),
            solid / (n["area_m2"] * area), self.truth.contact_ohm, n["start_mol_m3"],
            t.salt_activation_K, t.conductivity_activation_K, heat * area, cool * area,
            t.temperature_K, VOLUMES[0], VOLUMES[2],
        ])  # fmt: skip

    def _salt(self) -> tuple[Array, Array]:
        """Return volumes, couplings and sources of the electrolyte, and the weights of its mean.

        The mean is where conductivity and chi are taken: by thickness or, where PyBaMM takes
        the mean of porosity times concentration times the mean of the reciprocal porosity (its
        26.10 does), by weights that do the same.
        """
        t, n = self.tables, self.tables.numbers
        width = np.repeat([n[f"thickness_{k}_m"] / c for k, c in zip("nsp", VOLUMES, strict=True)],
                          VOLUMES)  # fmt: skip
        porosity = np.repeat([n[f"porosity_{k}"] for k in "nsp"], VOLUMES)
        resistance = 0.5 * width / np.repeat([n[f"transport_{k}"] for k in "nsp"], VOLUMES)
        into = (1.0 - t.transference) / (FARADAY_C_mol * n["area_m2"] * self.area_factor)
        source = np.repeat([-into / VOLUMES[0], 0.0, into / VOLUMES[2]], VOLUMES)
        couplings = np.append(1.0 / (resistance[1:] + resistance[:-1]), 0.0)
        held = width * porosity
        share = width / width.sum()
        pybamms = held / width.sum() * (share / porosity).sum()
        is_pybamms = abs(n["mean_ratio"] - pybamms.sum()) < abs(n["mean_ratio"] - 1.0)
        return np.array([held, couplings, source]), pybamms if is_pybamms else share


def shells() -> Array:
    """Return volumes, couplings and sources of a sphere's shells, thinner to the outside.

    The last coupling is what the surface adds to the outermost shell per unit of flux.
    """
    from scipy.optimize import brentq

    growth = brentq(
        lambda g: THINNEST * (g**SHELLS - 1) / (g - 1) - 1.0, 1.0 + 1e-9, 2.0, xtol=1e-14
    )
    widths = THINNEST * growth ** np.arange(SHELLS)[::-1]
    edges = np.concatenate([[0.0], np.cumsum(widths)])
    edges[-1] = 1.0
    centres = 0.5 * (edges[1:] + edges[:-1])
    couplings = np.append(edges[1:-1] ** 2 / np.diff(centres), (1.0 - centres[-1]) / 3.0)
    sources = np.zeros(SHELLS)
    sources[-1] = 1.0 / 3.0
    return np.array([np.diff(edges**3) / 3.0, couplings, sources])
