"""What a decision on one supplier risks: probability that it conforms, cost of either error.

The draws behind the bounds of `capability` (mean, lot and cell variance as the sample leaves
them open) give the chance that at most the tolerated share lies outside, and the share to be
expected: cells outside that are accepted cost one thing, good cells that are refused another.
"""

from collections.abc import Sequence
from typing import Any

from batterylab.study import Costs
from batterylab.suppliers.decision import TOLERATED, Judged


def stakes(judged: Sequence[Judged], costs: Costs | None) -> dict[str, Any]:
    """Return what accepting and refusing a supplier are expected to cost.

    Parameters
    ----------
    judged : sequence of Judged
        The limits.
    costs : Costs or None
        The study's.

    Returns
    -------
    dict
        ``probability_conforms`` (at least: over several limits the chances of failing are
        added up), ``expected_fraction_outside`` (at most, the same way), ``expected_loss``
        {``currency`` ``accept`` ``refuse``} or None without costs, without limits, or
        where lots or cells are too few to speak of the supplier.
    """
    known = [item.capability for item in judged if item.capability is not None]
    if not known or len(known) < len(judged) or any(item.is_thin for item in judged):
        return {"probability_conforms": None, "expected_fraction_outside": None,
                "expected_loss": None}  # fmt: skip
    fails = sum(1.0 - found.probability_at_most(TOLERATED) for found in known)
    outside = min(1.0, sum(found.expected_fraction_outside for found in known))
    return {
        "probability_conforms": max(0.0, 1.0 - fails),
        "expected_fraction_outside": outside,
        "expected_loss": _loss(outside, costs),
    }


def _loss(outside: float, costs: Costs | None) -> dict[str, Any] | None:
    if costs is None or (costs.bad_cell_accepted is None and costs.good_cell_refused is None):
        return None
    bad, good = costs.bad_cell_accepted, costs.good_cell_refused
    return {
        "currency": costs.currency,
        "cells": costs.cells,
        "accept": None if bad is None else bad * outside * costs.cells,
        "refuse": None if good is None else good * (1.0 - outside) * costs.cells,
    }
