"""Where a fit of a particle model begins: the cell's size and lithium, from its equilibrium."""

import numpy as np
from numpy.typing import NDArray

from batterylab.fit.celltables import CellTables
from batterylab.fit.spmcell import SHIFTS, Started, indices_of
from batterylab.fit.spmwindow import SpmWindow

Array = NDArray[np.float64]

#: where less than this share of the capacity moves, the cell has its data sheet's size
LITTLE = 0.2
#: sizes that are tried, as multiples of the smallest one that holds the charge which moved
MULTIPLES = np.geomspace(1.0, 8.0, 40)
#: rows at most that are compared
ROWS = 250
#: what a stoichiometry outside of 0 to 1 counts, in V per unit
OUTSIDE_V = 10.0
#: the negative electrode's full end, from which the other parameters' starts follow
FULL_ENDS = (0.0, -0.06)


def moved_share(cell: Started, window: SpmWindow) -> float:
    """Return the share of the cell's capacity over which the observed rows reach."""
    history = window.history
    charge_Ah, part = history.data[2], np.where(history.observed, history.parts, 255)
    spans = [np.ptp(charge_Ah[part == k]) for k in range(window.recordings)]
    return float(max(spans)) / cell.tables.numbers["capacity_Ah"]


def starts_of(cell: Started, window: SpmWindow, names: tuple[str, ...]) -> tuple[Array, Array]:
    """Return all parameters as a base, and starts for the fitted ones, shape (s, p).

    The set's electrodes are scaled to the size whose equilibrium voltage, less a resistance
    times the current, lies closest to what was measured. For each of some full ends of the
    negative electrode, the positive one's follows from the voltage at rest; and so does the
    charge with which each further recording begins.
    """
    base = cell.start.copy()
    base[:2] *= _size(cell, window)
    full = _full_end(cell.tables, window.full_V)
    starts = []
    for shift in FULL_ENDS:
        start = base.copy()
        start[2] = np.clip(full[0] + shift, 0.02, 0.98)
        start[3] = _matching(cell.tables, float(start[2]), window.full_V)
        for name, charge_Ah in zip(SHIFTS, _charges(cell, window, start)[1:], strict=False):
            start[cell.names.index(name)] = charge_Ah
        starts.append(start)
    index = indices_of(names, cell.names)
    return starts[0].copy(), np.array([start[index] for start in starts])


def _size(cell: Started, window: SpmWindow) -> float:
    """Return how large the set's electrodes are, relative to the cell's own."""
    share = moved_share(cell, window)
    if share < LITTLE:
        return 1.0
    sizes = np.append(1.0, share * MULTIPLES)
    history = window.history
    rows = np.flatnonzero(history.observed)
    rows = rows[:: max(1, len(rows) // ROWS)]
    _, amps, charge_Ah, _, volts = history.data[:, rows]
    start, gaps = cell.start.copy(), []
    start[2:4] = _full_end(cell.tables, window.full_V)
    for size in sizes:
        start[:2] = size * cell.start[:2]
        charges = _charges(cell, window, start)
        off = volts - _equilibrium(cell.tables, start, charge_Ah + charges[history.parts[rows]])
        ohm = max(float(amps @ off) / max(float(amps @ amps), 1e-12), 0.0)
        gaps.append(float(np.mean((off - ohm * amps) ** 2)))
    return float(sizes[np.argmin(gaps)])


def _equilibrium(tables: CellTables, start: Array, charge_Ah: Array) -> Array:
    """Return the voltage in equilibrium at charges, falling steeply outside of both electrodes."""
    x, y = start[2] + charge_Ah / start[0], start[3] - charge_Ah / start[1]
    grid = _grid(tables)
    volts = np.interp(y, grid, tables.potential_V[1]) - np.interp(x, grid, tables.potential_V[0])
    empty = np.maximum(0.0, -x) + np.maximum(0.0, y - 1.0)
    full = np.maximum(0.0, x - 1.0) + np.maximum(0.0, -y)
    return np.asarray(volts + OUTSIDE_V * (full - empty))


def _charges(cell: Started, window: SpmWindow, start: Array) -> Array:
    """Return the charge with which each recording begins, from its voltage at rest."""
    found = np.zeros(window.recordings)
    charge_Ah = np.linspace(-start[2] * start[0], (1.0 - start[2]) * start[0], 1001)
    volts = _equilibrium(cell.tables, start, charge_Ah)
    history = window.history
    for part in range(1, window.recordings):
        first = int(np.argmax(history.parts == part))
        found[part] = charge_Ah[np.argmin(np.abs(volts - history.data[4][first]))]
    return found


def _grid(tables: CellTables) -> Array:
    return np.linspace(0.0, 1.0, tables.potential_V.shape[1])


def _matching(tables: CellTables, x: float, voltage_V: float) -> float:
    """Return the positive electrode's stoichiometry that gives a voltage."""
    grid = _grid(tables)
    inside = (grid > 0.005) & (grid < 0.995)
    wanted = voltage_V + float(np.interp(x, grid, tables.potential_V[0]))
    return float(grid[inside][np.argmin(np.abs(tables.potential_V[1][inside] - wanted))])


def _full_end(tables: CellTables, voltage_V: float) -> tuple[float, float]:
    """Return the set's own stoichiometries in equilibrium at a voltage."""
    start, grid = tables.numbers, _grid(tables)
    ratio = _ratio(tables)
    x = np.linspace(0.01, 0.99, 981)
    y = start["start_p"] + (start["start_n"] - x) * ratio
    u = np.interp(y, grid, tables.potential_V[1]) - np.interp(x, grid, tables.potential_V[0])
    u = np.where((y > 0.005) & (y < 0.995), u, np.inf)
    best = int(np.argmin(np.abs(u - voltage_V)))
    return float(x[best]), float(y[best])


def _ratio(tables: CellTables) -> float:
    n = tables.numbers
    q = [n[f"active_{e}"] * n[f"largest_{e}_mol_m3"] * n[f"thickness_{e}_m"] for e in "np"]
    return q[0] / q[1]
