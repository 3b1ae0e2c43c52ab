"""Histories of current that the kernels are measured on, and full cells to begin them."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from batterylab.fit.celltables import CellTables

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

    Full and empty are where the set's open-circuit voltage meets its limits.
    """
    n = tables.numbers
    q_n, q_p = (n[f"active_{e}"] * n[f"largest_{e}_mol_m3"] * n[f"thickness_{e}_m"]
                * n["area_m2"] * 96485.33212 / 3600.0 for e in "np")  # fmt: skip
    grid = np.linspace(0.0, 1.0, tables.potential_V.shape[1])
    held = n["start_n"] * q_n + n["start_p"] * q_p

    def over(x: float, volts: float) -> float:
        y = (held - x * q_n) / q_p
        return float(np.interp(y, grid, tables.potential_V[1])
                     - np.interp(x, grid, tables.potential_V[0])) - volts  # fmt: skip

    low, high = max(0.0, (held - q_p) / q_n) + 1e-6, min(1.0, held / q_n) - 1e-6
    full = brentq(over, low, high, args=(n["voltage_max_V"],), xtol=1e-12)
    empty = brentq(over, low, high, args=(n["voltage_min_V"],), xtol=1e-12)
    x = empty + share * (full - empty)
    return x, (held - x * q_n) / q_p, (full - empty) * q_n
