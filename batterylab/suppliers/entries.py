"""The scorecard's entries of one feature, as plain data."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from batterylab.study import Limit
from batterylab.suppliers.capability import Capability, indices
from batterylab.suppliers.conformity import risks_entry
from batterylab.suppliers.decision import Judged
from batterylab.suppliers.estimates import Estimate
from batterylab.suppliers.kenward import lot_mean
from batterylab.suppliers.nodes import CONFIDENCE
from batterylab.suppliers.percentiles import percentile_entry
from batterylab.suppliers.sampling import Reading
from batterylab.suppliers.tolerance import (
    covering_confidence,
    free_interval,
    lot_bounds,
    two_sided_factor,
)

#: the share of cells that tolerance intervals hold
HELD = 0.99
_CAPABILITY = (
    "cp", "cp_interval", "cpk", "cpk_interval", "cpk_lower_95", "cpm", "cpm_interval", "n",
    "fraction_outside", "fraction_outside_interval", "fraction_outside_upper_95",
    "expected_fraction_outside",
)  # fmt: skip


def capability_entry(judged: Judged | None) -> dict[str, Any] | None:
    """Return the capability of a supplier in one feature; None without a limit or a spread.

    ``cp``, ``cpk`` and ``cpm`` are over all lots (Pp, Ppk, Ppm in AIAG's words); ``within`` has
    Cp and Cpk of the spread within lots, what the supplier could reach with equal lots.
    """
    if judged is None or judged.capability is None or judged.estimate is None:
        return None
    found: Capability = judged.capability
    limit, estimate = judged.limit, judged.estimate
    entry: dict[str, Any] = {key: getattr(found, key) for key in _CAPABILITY}
    entry["target"] = limit.target
    entry["within"] = None
    if estimate.sd_cell:
        own = indices(estimate.sample.mean, estimate.sd_cell, limit.lower, limit.upper)
        entry["within"] = {"cp": own.cp, "cpk": own.cpk}
    entry["percentile"] = _percentile(estimate, limit)
    return entry


def _percentile(estimate: Estimate, limit: Limit) -> dict[str, Any] | None:
    values = np.array([reading.value for reading in estimate.readings])
    lots = [reading.lot for reading in estimate.readings]
    if len(values) < 3 or not np.ptp(values) > 0:
        return None
    return percentile_entry(values, lots, limit.distribution, limit.lower, limit.upper)


def tolerance_entry(estimate: Estimate) -> dict[str, Any] | None:
    """Return tolerance limits that hold 99 % of cells with 95 % confidence.

    Normal cells in lots: generalised one-sided bounds, and a two-sided interval of two bounds
    that share the risk (exact for one lot). Without a distribution: the order statistics, and
    where cells are too few for them, the share that smallest to largest hold; they take cells
    as independent.
    """
    if estimate.drawn is None or estimate.sample.cells < 2:
        return None
    lower, upper = lot_bounds(estimate.drawn, HELD, CONFIDENCE)
    if estimate.drawn.lot is None and not estimate.corrected and estimate.sd_total:
        factor = two_sided_factor(estimate.sample.cells, HELD, CONFIDENCE)
        both = (estimate.sample.mean - factor * estimate.sd_total,
                estimate.sample.mean + factor * estimate.sd_total)  # fmt: skip
    else:
        both = lot_bounds(estimate.drawn, 0.5 + HELD / 2, 0.5 + CONFIDENCE / 2)
    values = np.array([reading.value for reading in estimate.readings])
    return {
        "share": HELD, "confidence": CONFIDENCE, "lower": lower, "upper": upper,
        "two_sided": both,
        "distribution_free": free_interval(values, HELD, CONFIDENCE),
        "share_between_extremes": _share_of_extremes(len(values)),
    }  # fmt: skip


def _share_of_extremes(count: int) -> float | None:
    """Return the share that smallest to largest hold with 95 % confidence."""
    if count < 2:
        return None
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        middle = 0.5 * (low + high)
        holds = covering_confidence(count, middle, dropped=2) >= CONFIDENCE
        low, high = (middle, high) if holds else (low, middle)
    return low


def mean_entry(estimate: Estimate) -> dict[str, Any] | None:
    """Return the mean after Kenward and Roger where lots are unequal; else None."""
    sample = estimate.sample
    if not sample.df_between or np.ptp(sample.counts) == 0:
        return None
    found = lot_mean(sample)
    if found is None or not math.isfinite(found.degrees_of_freedom):
        return None
    return {
        "mean": found.estimate, "standard_error": found.standard_error,
        "degrees_of_freedom": found.degrees_of_freedom,
        "interval": found.interval(estimate.confidence),
    }  # fmt: skip


def conformity_entry(estimate: Estimate, limit: Limit | None, uncertainty: float | None) -> Any:
    """Return both parties' risks of the limit's decision rule for cells of this supplier."""
    if limit is None:
        return None
    return risks_entry(estimate.sample.mean, estimate.sd_total, uncertainty, limit)


def value_entry(reading: Reading) -> dict[str, Any]:
    """Return a value with where it comes from."""
    keys = ("serial", "supplier", "lot", "channel", "value", "uncertainty", "seal")
    return {key: getattr(reading, key) for key in keys}


def resolved(estimate: Estimate, expanded: float | None) -> bool | None:
    """Return whether the cells' own spread exceeds the measurement's expanded uncertainty.

    None where the measurement's scatter is not known.
    """
    if expanded is None or not estimate.corrected or estimate.sd_cell is None:
        return None
    return estimate.sd_cell > expanded


def scattering_uncertainty(budget: Mapping[str, Any] | None) -> float | None:
    """Return the expanded uncertainty from what scatters between cells: all but the accuracy.

    An error that all cells share moves the mean, not the spread.
    """
    if budget is None:
        return None
    known: Sequence[Mapping[str, Any]] = budget["contributions"]
    parts = [row["standard_uncertainty"] for row in known if row["name"] != "instrument accuracy"]
    if not any(row["type"] == "A" for row in known):
        return None
    return 2.0 * math.sqrt(sum(part**2 for part in parts))
