"""Histories of current that the kernels are measured on, and full cells to begin them."""

import numpy as np
from numpy.typing import NDArray

from batterylab.fit.celltables import CellTables
from batterylab.pybamm_border import parameter_values, pybamm

Array = NDArray[np.float64]
History = tuple[Array, Array]


def constant(amps: float, seconds: float, rows: int) -> History:
    """Return times and currents of a constant current."""
    time_s = np.append(0.0, np.linspace(seconds / rows, seconds, rows))
    return time_s, np.append(0.0, np.full(rows, amps))


def pulses(capacity_Ah: float) -> History:
    """Return an hour of pulses, discharges and rests."""
    time_s, amps = [0.0], [0.0]
    for _ in range(3):
        for seconds, step_s, rate in ((10, 1, -1.0), (120, 5, 0.0), (10, 1, 0.75), (60, 5, 0.0),
                                      (600, 20, -0.5), (400, 10, 0.0)):  # fmt: skip
            for _ in range(seconds // step_s):
                time_s.append(time_s[-1] + step_s)
                amps.append(rate * capacity_Ah)
    return np.array(time_s), np.array(amps)


def drive(capacity_Ah: float, seconds: int) -> History:
    """Return a seeded profile at 1 Hz: peak 3C, 0.8C on average while it discharges."""
    random, rate, rows = np.random.default_rng(7), 0.0, []
    for _ in range(seconds):
        rate += 0.15 * (0.6 - rate) + 0.45 * random.standard_normal()
        rate = min(max(rate, -1.5), 3.0)
        rows.append(rate)
    rates = np.array(rows)
    rates *= 0.8 / rates[rates > 0].mean()
    return np.arange(seconds + 1.0), -capacity_Ah * np.append(0.0, np.clip(rates, -1.5, 3.0))


def charged(tables: CellTables, share: float = 1.0) -> tuple[float, float, float]:
    """Return both stoichiometries at a share of full charge, and the capacity in Ah.

    Full and empty are where PyBaMM finds the set's open-circuit voltage to meet its limits. A
    potential that is not monotonic meets them more than once.
    """
    n, values = tables.numbers, parameter_values(tables.name)
    (x, y), (empty, _), (full, _) = (
        pybamm().lithium_ion.get_initial_stoichiometries(level, values)
        for level in (share, 0.0, 1.0)
    )
    q_n = (n["active_n"] * n["largest_n_mol_m3"] * n["thickness_n_m"] * n["area_m2"]
           * 96485.33212 / 3600.0)  # fmt: skip
    return float(x), float(y), float(full - empty) * q_n
