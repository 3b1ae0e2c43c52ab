"""The watch on a supplier's lots in order of time: charts of lot means, and their change."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from batterylab.errors import BatterylabError
from batterylab.study import Watch
from batterylab.suppliers.charts import (
    FIRM_LOTS,
    change_point,
    change_range,
    cusum_chart,
    cusum_run_length,
    ewma_chart,
    ewma_run_length,
    individuals_chart,
    shewhart_run_length,
)
from batterylab.suppliers.comparison import welch
from batterylab.suppliers.estimates import Estimate
from batterylab.suppliers.multivariate import robust, t_squared_run_length
from batterylab.suppliers.nodes import Array
from batterylab.suppliers.sampling import NO_LOT, Reading

LEAST_LOTS = 4
#: a change is named from this p-value down
CHANGE_RISK = 0.05
#: what is watched together: the first of each row that was measured
TOGETHER = (
    ("capacity_Ah", "relative_capacity"), ("dcir_10s_mOhm", "ac_resistance_mOhm"), ("ocv_V",),
    ("mass_g",),
)  # fmt: skip


def lots_in_order(readings: Sequence[Reading]) -> list[tuple[str, float]]:
    """Return each lot's name and mean, by the time of its first recording, then by name."""
    lots: dict[str, list[Reading]] = {}
    for reading in readings:
        if reading.lot != NO_LOT:
            lots.setdefault(reading.lot, []).append(reading)
    order = sorted(lots, key=lambda lot: (min(r.start_utc for r in lots[lot]), lot))
    return [(lot, float(np.mean([r.value for r in lots[lot]]))) for lot in order]


def watch(readings: Sequence[Reading], design: Watch | None = None) -> dict[str, Any] | None:
    """Chart the lot means of one feature of one supplier.

    All lots set centre and limits (individuals chart: sigma from the moving range). With fewer
    than `FIRM_LOTS` lots they are provisional.

    Parameters
    ----------
    readings : sequence of Reading
        One a cell.
    design : Watch, optional
        Of the charts.

    Returns
    -------
    dict or None
        The scorecard's entry; None with fewer than four lots, or equal lot means.
    """
    design = design or Watch()
    lots = lots_in_order(readings)
    means = np.array([mean for _, mean in lots])
    if len(lots) < LEAST_LOTS or not np.ptp(means) > 1e-12 * float(np.abs(means).max()):
        return None
    chart = individuals_chart(means, width=design.shewhart_width)
    if not chart.sd > 0:
        return None
    signals = {
        "shewhart": chart.beyond,
        "ewma": ewma_chart(
            means, chart.centre, chart.sd, design.ewma_weight, design.ewma_width
        ).beyond,
        "cusum": cusum_chart(
            means, chart.centre, design.cusum_reference * chart.sd,
            design.cusum_interval * chart.sd,
        ).beyond,
    }  # fmt: skip
    return {
        "lots": [lot for lot, _ in lots],
        "means": list(means),
        "centre": chart.centre,
        "sd": chart.sd,
        "limits": [chart.lower, chart.upper],
        "provisional": len(lots) < FIRM_LOTS,
        "signals": {name: [lots[place][0] for place in found] for name, found in signals.items()},
        "change": _change(lots, means),
    }


def _change(lots: Sequence[tuple[str, float]], means: Array) -> dict[str, Any] | None:
    """Say when the lots changed and by how much; None where no change is shown."""
    change = change_point(means)
    if change is None or change.p_value > CHANGE_RISK:
        return None
    first, last = change_range(means)
    step = welch(means[change.place :], means[: change.place])
    return {
        "from_lot": lots[change.place][0],
        "between_lots": [lots[first][0], lots[last][0]],
        "shift": change.shift,
        "shift_interval": step.interval() if step else None,
        "p_value": change.p_value,
    }


def designs(design: Watch | None = None) -> dict[str, dict[str, float]]:
    """Return the mean lots to a signal of each chart, limits known, by shift in lot sigmas."""
    design = design or Watch()
    charts: dict[str, Callable[[float], float]] = {
        "shewhart": lambda shift: shewhart_run_length(shift, design.shewhart_width),
        "ewma": lambda shift: ewma_run_length(shift, design.ewma_weight, design.ewma_width),
        "cusum": lambda shift: cusum_run_length(
            shift, design.cusum_reference, design.cusum_interval
        ),
    }
    return {
        name: {f"{shift:g}": length(shift) for shift in (0.0, 0.5, 1.0, 2.0)}
        for name, length in charts.items()
    }


def multivariate_watch(
    estimates: Mapping[str, Mapping[str, Estimate]], suppliers: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Chart the lots of each supplier in several features at once, by Hotelling's T².

    Capacity, resistance, open-circuit voltage and mass, as many of these in this order as the
    lots allow (five a feature), around a robust centre.

    Returns
    -------
    dict
        By supplier; empty where lots are too few.
    """
    found = {}
    for name in suppliers:
        entry = _together({feature: group[name] for feature, group in estimates.items()
                           if name in group})  # fmt: skip
        if entry is not None:
            found[name] = entry
    return found


def _together(own: Mapping[str, Estimate]) -> dict[str, Any] | None:
    chosen: list[str] = []
    for choice in TOGETHER:
        chosen += [name for name in choice if name in own][:1]
    while len(chosen) > 1:
        by_lot = {name: dict(lots_in_order(own[name].readings)) for name in chosen}
        lots = [lot for lot, _ in lots_in_order(own[chosen[0]].readings)
                if all(lot in means for means in by_lot.values())]  # fmt: skip
        if len(lots) >= 5 * len(chosen):
            values = np.array([[by_lot[name][lot] for name in chosen] for lot in lots])
            return _t_squared(chosen, lots, values)
        chosen.pop()
    return None


def _t_squared(chosen: Sequence[str], lots: Sequence[str], values: Array) -> dict[str, Any] | None:
    try:
        chart = robust(values)
    except BatterylabError:
        return None
    return {
        "features": list(chosen),
        "lots": list(lots),
        "t_squared": list(chart.points),
        "limit": chart.limit,
        "centre": dict(zip(chosen, chart.centre.tolist(), strict=True)),
        "provisional": len(lots) < FIRM_LOTS,
        "signals": [lots[place] for place in chart.beyond],
        "run_lengths": {f"{shift:g}": t_squared_run_length(len(chosen), shift)
                        for shift in (0.0, 0.5, 1.0, 2.0)},
    }  # fmt: skip
