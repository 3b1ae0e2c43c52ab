"""Packs discharged cell by cell: energy, power and imbalance of what unequal cells make.

Each cell is a voltage over its state of charge behind a resistance; the cells of a parallel
group share its current accordingly; the weakest group ends the discharge.
"""

from dataclasses import dataclass

import numpy as np

from batterylab._kernels import _packs
from batterylab.errors import BatterylabError
from batterylab.suppliers.nodes import Array

_TABLE = 400
_STEPS = 120


@dataclass(frozen=True)
class CellModel:
    """What cells of a pack have in common.

    Attributes
    ----------
    highest_V, lowest_V : float
        Voltage window of a cell.
    mean_V : float
        Mean open-circuit voltage over the state of charge.
    rate_per_h : float
        Of the discharge, over the mean capacity.
    """

    highest_V: float
    lowest_V: float
    mean_V: float
    rate_per_h: float = 1.0 / 3.0

    def __post_init__(self) -> None:
        if not self.lowest_V < self.mean_V < self.highest_V or not self.rate_per_h > 0:
            raise BatterylabError(
                f"a mean of {self.mean_V:g} V is not between {self.lowest_V:g} and "
                f"{self.highest_V:g} V",
                hint="give the cell's voltages, and a rate above zero",
            )

    def table(self) -> Array:
        """Return the open-circuit voltage over even steps of the state of charge.

        A power of the state of charge between both ends of the window, with the mean asked
        for: spread of capacity and resistance matters here, not the shape of the curve.
        """
        width = self.highest_V - self.lowest_V
        power = width / (self.mean_V - self.lowest_V) - 1.0
        state: Array = np.linspace(0.0, 1.0, _TABLE + 1)
        return self.lowest_V + width * state**power


@dataclass(frozen=True)
class Runs:
    """What packs gave, one value a pack.

    Attributes
    ----------
    charge_Ah, energy_Wh : ndarray
    power_W : ndarray
        For ten seconds at half charge, the weakest group at the lowest voltage.
    left_percent : ndarray
        Charge left in the fullest group when the weakest is empty: the imbalance.
    current_ratio : ndarray
        Largest current of a cell over its equal share.
    """

    charge_Ah: Array
    energy_Wh: Array
    power_W: Array
    left_percent: Array
    current_ratio: Array


def run(capacity_Ah: Array, resistance_ohm: Array, model: CellModel) -> Runs:
    """Discharge packs from full.

    Parameters
    ----------
    capacity_Ah, resistance_ohm : ndarray, shape (packs, series, parallel)
        Above zero.
    model : CellModel
    """
    capacity = np.ascontiguousarray(capacity_Ah, dtype=np.float64)
    resistance = np.ascontiguousarray(resistance_ohm, dtype=np.float64)
    if capacity.ndim != 3 or capacity.shape != resistance.shape:
        raise BatterylabError("capacities and resistances of packs differ in shape",
                              hint="packs x series x parallel")  # fmt: skip
    if not (np.all(capacity > 0) and np.all(resistance > 0)):
        raise BatterylabError("a capacity or resistance is not above zero", hint="leave it out")
    packs, _, parallel = capacity.shape
    mean = float(capacity.mean())
    table = model.table()
    state = np.ones_like(capacity)
    out = np.zeros((packs, 4))
    current = model.rate_per_h * mean * parallel
    hours = 1.0 / model.rate_per_h / _STEPS
    _packs.discharge(capacity, resistance, table, current, model.lowest_V, hours, 2 * _STEPS,
                     state, out)  # fmt: skip
    power = np.zeros(packs)
    half = 1.0 - 0.5 * mean / capacity  # after half the mean charge
    potential = np.interp(half, np.linspace(0.0, 1.0, len(table)), table)
    _packs.peak_power(resistance, np.ascontiguousarray(potential), model.lowest_V, power)
    return Runs(out[:, 0], out[:, 1], power, 100.0 * out[:, 2], out[:, 3])
