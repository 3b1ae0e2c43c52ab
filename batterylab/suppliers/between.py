"""What the scorecard says between each two suppliers: verdict, its risks, its cost, what decides.

The margin, the largest difference of no account, is the study's (``equivalence``). Without one
the scorecard can find a difference, but never its absence.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from batterylab.study import Costs, Equivalence
from batterylab.suppliers.comparison import (
    PRIOR,
    Difference,
    Posterior,
    probability_of_best,
    supplier_posterior,
    welch,
)
from batterylab.suppliers.equivalence import (
    NOT_DECIDED,
    RISK,
    decided,
    expected_losses,
    margin_interval,
    two_one_sided_tests,
)
from batterylab.suppliers.estimates import Estimate
from batterylab.suppliers.plans import Spread, power
from batterylab.suppliers.ranking import better

WANTED = 0.9
MOST_LOTS = 200
_NODES = 2001
#: feature -> unit of energy per unit of the feature, where it needs no data
_DIRECT_Wh = {"energy_Wh": 1.0}
_KEYS = (
    "difference", "interval_90", "p_different", "p_not_equivalent", "probability_a_better",
    "probability_equivalent", "expected_loss_a", "expected_loss_b",
    "expected_loss_a_money", "expected_loss_b_money", "currency", "cells", "lots_to_decide",
)  # fmt: skip


def verdicts(
    feature: str,
    estimates: Mapping[str, Estimate],
    margin: Equivalence | None,
    costs: Costs | None = None,
    Wh_per_unit: float | None = None,
) -> list[dict[str, Any]]:
    """Decide between each two suppliers in one feature.

    Parameters
    ----------
    feature : str
    estimates : mapping of str to Estimate
        By supplier, in the study's order.
    margin : Equivalence or None
        The study's.
    costs : Costs or None
        What a Wh is worth, and how many cells the choice is for.
    Wh_per_unit : float or None
        What a unit of the feature is in Wh.

    Returns
    -------
    list of dict
        The scorecard's ``between`` of this feature.
    """
    names = list(estimates)
    return [
        _between(feature, (a, estimates[a]), (b, estimates[b]), margin, costs, Wh_per_unit)
        for place, a in enumerate(names)
        for b in names[place + 1 :]
    ]


def energy_per_unit(feature: str, groups: Mapping[str, Mapping[str, Estimate]]) -> float | None:
    """Return what a unit of a feature is in Wh: of a capacity, the mean discharge voltage."""
    if feature in _DIRECT_Wh:
        return _DIRECT_Wh[feature]
    if feature != "capacity_Ah" or "energy_Wh" not in groups:
        return None
    both = [name for name in groups[feature] if name in groups["energy_Wh"]]
    energy = math.fsum(groups["energy_Wh"][name].sample.mean for name in both)
    capacity = math.fsum(groups[feature][name].sample.mean for name in both)
    return energy / capacity if capacity > 0 else None


def _between(
    feature: str, a: tuple[str, Estimate], b: tuple[str, Estimate], margin: Equivalence | None,
    costs: Costs | None, Wh_per_unit: float | None,
) -> dict[str, Any]:  # fmt: skip
    ours, theirs = a[1].sample, b[1].sample
    higher = better(feature) == "higher"
    width = None if margin is None else _width(margin, 0.5 * (ours.mean + theirs.mean))
    entry: dict[str, Any] = {
        "feature": feature, "a": a[0], "b": b[0], "better": "higher" if higher else "lower",
        "verdict": NOT_DECIDED, "reason": "", "margin": width, "risk": RISK,
        **dict.fromkeys(_KEYS), "prior": PRIOR,
    }  # fmt: skip
    found = welch(ours.means, theirs.means)
    one, other = supplier_posterior(ours), supplier_posterior(theirs)
    entry["difference"] = ours.mean - theirs.mean
    if found is None or one is None or other is None:
        few = [name for name, item in (a, b) if item.lots < 2]
        entry["reason"] = (
            f"two lots or more that differ are needed of each supplier; {' and '.join(few)} has "
            "fewer" if few else "the lot means of a supplier do not differ"
        )  # fmt: skip
        return entry
    entry["verdict"], entry["reason"] = _verdict(found, width, higher)
    loss_a, loss_b = expected_losses(one, other, higher=higher)
    money = _worth(costs, Wh_per_unit)
    if money is not None and costs is not None:
        entry.update(currency=costs.currency, cells=costs.cells)
    entry.update({
        "interval_90": margin_interval(found),
        "p_different": found.p_value,
        "probability_a_better": probability_of_best([one, other], higher=higher)[0],
        "expected_loss_a": loss_a, "expected_loss_b": loss_b,
        "expected_loss_a_money": None if money is None else money * loss_a,
        "expected_loss_b_money": None if money is None else money * loss_b,
    })  # fmt: skip
    if width is not None:
        tests = two_one_sided_tests(found, -width, width)
        entry["p_not_equivalent"] = tests.p_value
        entry["probability_equivalent"] = probability_within(one, other, width)
    if entry["verdict"] == NOT_DECIDED:
        entry["lots_to_decide"] = lots_to_decide(found, a[1], b[1], width)
    return entry


def _width(margin: Equivalence, mean: float) -> float | None:
    if margin.margin is not None:
        return margin.margin
    width = float(margin.margin_percent or 0.0) / 100.0 * abs(mean)
    return width or None


def _worth(costs: Costs | None, Wh_per_unit: float | None) -> float | None:
    """Return what a unit of the feature in every cell is worth."""
    if costs is None or costs.per_Wh is None or Wh_per_unit is None:
        return None
    return costs.per_Wh * Wh_per_unit * costs.cells


def _verdict(found: Difference, width: float | None, higher: bool) -> tuple[str, str]:
    if width is not None:
        return decided(found, width, higher=higher)
    name, reason = decided(found, 1e-300, higher=higher)
    if name == NOT_DECIDED:
        reason = "no difference is shown; without a margin in study.yaml (equivalence) none can " \
                 "be ruled out"  # fmt: skip
    return name, reason


def probability_within(a: Posterior, b: Posterior, width: float) -> float:
    """Return the posterior probability that two means lie within `width` of each other."""
    shares = (np.arange(_NODES) + 0.5) / _NODES
    values = a.quantiles(shares)
    return float(np.mean(b.cdf(values + width) - b.cdf(values - width)))


def lots_to_decide(found: Difference, a: Estimate, b: Estimate, width: float | None) -> int | None:
    """Return how many lots of each supplier would decide, were the means and spreads as seen.

    A difference is decided where it is found with 90 % power; its absence where both one-sided
    tests succeed with 90 % power.

    Returns
    -------
    int or None
        None if `MOST_LOTS` are not enough, or the spreads are not known.
    """
    spread, cells = _spread(a, b)
    if spread is None:
        return None
    difference = abs(found.difference)

    def decides(lots: int) -> bool:
        if difference > 0 and power(difference, lots, cells, spread, risk=RISK) >= WANTED:
            return True
        if width is None or difference >= width:
            return False
        near = power(width - difference, lots, cells, spread, risk=2.0 * RISK)
        far = power(width + difference, lots, cells, spread, risk=2.0 * RISK)
        return near + far - 1.0 >= WANTED

    low, high = 1, MOST_LOTS
    if not decides(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high


def _spread(a: Estimate, b: Estimate) -> tuple[Spread | None, int]:
    known = [item for item in (a, b) if item.sample.within is not None and item.sd_lot is not None]
    if len(known) < 2:
        return None, 1
    lot = math.sqrt(math.fsum(float(item.sd_lot or 0.0) ** 2 for item in known) / 2)
    cell = math.sqrt(math.fsum(float(item.sample.within or 0.0) for item in known) / 2)
    lots = sum(len(item.sample.lots) for item in known)
    cells = max(2, round(sum(item.sample.cells for item in known) / lots))
    return (Spread(lot, cell), cells) if lot + cell > 0 else (None, cells)


def undecided(between: Sequence[Mapping[str, Any]], feature: str | None) -> list[str]:
    """Return the pairs that are not decided in the feature that ranks."""
    return [
        f"{row['a']} and {row['b']} {row['verdict']}"
        for row in between
        if row["feature"] == feature and row["verdict"] == NOT_DECIDED
    ]
