"""The watch on a supplier's lots in order of time: charts of lot means, and their change."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from batterylab.suppliers.charts import (
    CUSUM,
    FIRM_LOTS,
    change_point,
    cusum_chart,
    cusum_run_length,
    ewma_chart,
    ewma_run_length,
    individuals_chart,
    shewhart_run_length,
)
from batterylab.suppliers.sampling import NO_LOT, Reading

LEAST_LOTS = 4
#: a change is named from this p-value down
CHANGE_RISK = 0.05


def lots_in_order(readings: Sequence[Reading]) -> list[tuple[str, float]]:
    """Return each lot's name and mean, by the time of its first recording, then by name."""
    lots: dict[str, list[Reading]] = {}
    for reading in readings:
        if reading.lot != NO_LOT:
            lots.setdefault(reading.lot, []).append(reading)
    order = sorted(lots, key=lambda lot: (min(r.start_utc for r in lots[lot]), lot))
    return [(lot, float(np.mean([r.value for r in lots[lot]]))) for lot in order]


def watch(readings: Sequence[Reading]) -> dict[str, Any] | None:
    """Chart the lot means of one feature of one supplier.

    All lots set centre and limits (individuals chart: sigma from the moving range). With fewer
    than `FIRM_LOTS` lots they are provisional.

    Parameters
    ----------
    readings : sequence of Reading
        One a cell.

    Returns
    -------
    dict or None
        The scorecard's entry; None with fewer than four lots, or equal lot means.
    """
    lots = lots_in_order(readings)
    means = np.array([mean for _, mean in lots])
    if len(lots) < LEAST_LOTS or not np.ptp(means) > 1e-12 * float(np.abs(means).max()):
        return None
    chart = individuals_chart(means)
    if not chart.sd > 0:
        return None
    signals = {
        "shewhart": chart.beyond,
        "ewma": ewma_chart(means, chart.centre, chart.sd).beyond,
        "cusum": cusum_chart(
            means, chart.centre, CUSUM[0] * chart.sd, CUSUM[1] * chart.sd
        ).beyond,
    }  # fmt: skip
    change = change_point(means)
    named = change is not None and change.p_value <= CHANGE_RISK
    return {
        "lots": [lot for lot, _ in lots],
        "means": list(means),
        "centre": chart.centre,
        "sd": chart.sd,
        "limits": [chart.lower, chart.upper],
        "provisional": len(lots) < FIRM_LOTS,
        "signals": {name: [lots[place][0] for place in found] for name, found in signals.items()},
        "change": None if change is None or not named else {
            "from_lot": lots[change.place][0],
            "shift": change.shift,
            "p_value": change.p_value,
        },
    }  # fmt: skip


def designs() -> dict[str, dict[str, float]]:
    """Return the mean lots to a signal of each chart, limits known, by shift in lot sigmas."""
    charts: dict[str, Callable[[float], float]] = {
        "shewhart": shewhart_run_length,
        "ewma": ewma_run_length,
        "cusum": cusum_run_length,
    }
    return {
        name: {f"{shift:g}": length(shift) for shift in (0.0, 0.5, 1.0, 2.0)}
        for name, length in charts.items()
    }
