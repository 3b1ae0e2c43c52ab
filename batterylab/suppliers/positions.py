"""Whether values depend on where in the chamber a cell was tested."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special

from batterylab.suppliers.nodes import t_quantile
from batterylab.suppliers.sampling import Reading

REAL = 0.05
_LEAST_DF = 4


def positions_entry(
    readings: Sequence[Reading], positions: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return the effect of each position beside the lots, and whether they are real.

    Cells are allotted at random within blocks, so that a position's cells are of all lots; the
    effect is what is left of its mean beside them (least squares, F test).

    Parameters
    ----------
    readings : sequence of Reading
        One a cell.
    positions : mapping of str to str
        By channel: block of module and shelf.

    Returns
    -------
    dict or None
        None with one position, or where positions cannot be told from lots.
    """
    known = [reading for reading in readings if reading.channel in positions]
    names = sorted({positions[reading.channel] for reading in known})
    lots = sorted({(reading.supplier, reading.lot) for reading in known})
    df = len(known) - len(names) - len(lots) + 1
    if len(names) < 2 or df < _LEAST_DF:
        return None
    values = np.array([reading.value for reading in known])
    of_lots = np.array([[(r.supplier, r.lot) == lot for lot in lots] for r in known], float)
    of_place = np.array([[positions[r.channel] == name for name in names] for r in known], float)
    contrasts = of_place[:, :-1] - of_place[:, -1:]  # effects add up to zero
    design = np.column_stack([of_lots, contrasts])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    shift = values.mean()
    found = np.linalg.lstsq(design, values - shift, rcond=None)[0]
    rest = values - shift - design @ found
    without = values - shift - of_lots @ np.linalg.lstsq(of_lots, values - shift, rcond=None)[0]
    squares = float(rest @ rest)
    if not squares > 0:
        return None
    ratio = (float(without @ without) - squares) / (len(names) - 1) / (squares / df)
    p_value = float(special.fdtrc(len(names) - 1, df, max(ratio, 0.0)))
    covariance = np.linalg.inv(design.T @ design)[len(lots) :, len(lots) :] * squares / df
    effects = found[len(lots) :]
    last = -np.ones(len(effects))
    every = [*np.eye(len(effects)), last]
    reach = t_quantile(0.975, df)
    return {
        "p_value": p_value,
        "are_real": p_value <= REAL,
        "effects": {
            name: {
                "effect": float(row @ effects),
                "interval": [float(row @ effects - reach * np.sqrt(row @ covariance @ row)),
                             float(row @ effects + reach * np.sqrt(row @ covariance @ row))],
            }
            for name, row in zip(names, every, strict=True)
        },
    }  # fmt: skip
