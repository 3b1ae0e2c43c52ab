"""Limits cell by cell under a decision rule, and the acceptance rules of standards."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batterylab.standards import Requirement, Rule
from batterylab.study import Limit
from batterylab.suppliers.sampling import Reading

#: the guard band is this many standard uncertainties: 95 % one-sided (ISO 14253-1:2017)
GUARD_FACTOR = 1.645


@dataclass(frozen=True)
class Finding:
    """A cell that is not plainly inside a limit.

    Attributes
    ----------
    serial : str
    value : float
    side : str
        ``lower`` or ``upper``.
    rule : str
        The decision rule, with what it says of this cell.
    proven : bool
        Whether the rule rejects the cell; otherwise it merely is not accepted.
    """

    serial: str
    value: float
    side: str
    rule: str
    proven: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the scorecard's form."""
        return {"serial": self.serial, "value": self.value, "side": self.side, "rule": self.rule}


def judge(readings: Sequence[Reading], limit: Limit, gauge_sd: float | None) -> list[Finding]:
    """Return the cells that a decision rule does not accept.

    Parameters
    ----------
    readings : sequence of Reading
        One a cell.
    limit : Limit
        With its decision rule. ``simple``: the value alone counts. ``guarded acceptance``: a
        cell is accepted if it lies inside by at least 1.645 standard uncertainties, rejected
        if it lies outside, and neither between. ``guarded rejection``: rejected if it lies
        outside by more than that, accepted if inside, and neither between.
    gauge_sd : float or None
        The bench's own scatter; the larger of it and a value's stated uncertainty counts.

    References
    ----------
    .. [1] ISO 14253-1:2017, decision rules for verifying conformity with specifications.
    .. [2] ILAC-G8:09/2019, guidelines on decision rules and statements of conformity.
    """
    found = []
    for reading in readings:
        for side, margin in _margins(reading.value, limit):
            finding = _judge_one(reading, side, margin, limit.decision_rule, gauge_sd)
            if finding is not None:
                found.append(finding)
    return found


def _margins(value: float, limit: Limit) -> list[tuple[str, float]]:
    margins = []
    if limit.lower is not None:
        margins.append(("lower", value - limit.lower))
    if limit.upper is not None:
        margins.append(("upper", limit.upper - value))
    return margins


def _judge_one(
    reading: Reading, side: str, margin: float, rule: str, gauge_sd: float | None
) -> Finding | None:
    known = [u for u in (reading.uncertainty, gauge_sd) if u is not None and math.isfinite(u)]
    guard = GUARD_FACTOR * max(known) if known else None
    text, proven = rule, True
    if rule == "simple" or (rule == "guarded acceptance" and margin < 0):
        if margin >= 0:
            return None
    elif rule == "guarded acceptance":
        if guard is not None and margin >= guard:
            return None
        text, proven = f"{rule}: inside, but {_by(guard)}", False
    else:
        if margin >= 0:
            return None
        if guard is None or -margin <= guard:
            text, proven = f"{rule}: outside, but {_by(guard)}", False
    return Finding(reading.serial, reading.value, side, text, proven)


def _by(guard: float | None) -> str:
    if guard is None:
        return "the uncertainty is not known"
    return f"not by more than the guard band of {guard:.3g}"


def rule_rows(
    name: str,
    rule: Rule,
    supplier: str,
    values: Mapping[str, Sequence[float]],
    rated_Ah: float,
) -> list[dict[str, Any]]:
    """Hold a supplier's cells against a rule of a standard.

    Parameters
    ----------
    name : str
        Of the rule, as in the study.
    rule : Rule
        From `batterylab.standards.RULES`, or one with a limit that the study sets.
    supplier : str
    values : mapping of str to sequence of float
        One value a cell, by feature.
    rated_Ah : float
        Rated capacity, in Ah.

    Returns
    -------
    list of dict
        A row of the scorecard's ``rules`` for each requirement. `met` is None, with the
        `reason`, without values, and for the range of a single cell or if a value is not
        positive.
    """
    rows = []
    for one in rule.requirements:
        found = values.get(one.feature, ())
        value, reason = _statistic(one, found, rule)
        limit = one.limit * rated_Ah if _is_of_rated(one) else one.limit
        met = None if value is None else value >= limit if one.statistic == "least" else (
            value <= limit
        )  # fmt: skip
        rows.append({
            "rule": name, "clause": rule.clause, "requirement": one.text, "supplier": supplier,
            "value": value, "limit": limit, "met": met, "mark": one.mark, "cells": len(found),
            "type_test_cells": rule.cells, "type_test_mark": rule.cells_mark, "reason": reason,
            "conditions": rule.conditions,
        })  # fmt: skip
    return rows


def _is_of_rated(one: Requirement) -> bool:
    return one.statistic != "range" and one.feature.endswith("_Ah")


def _statistic(
    one: Requirement, values: Sequence[float], rule: Rule
) -> tuple[float | None, str]:  # fmt: skip
    """Return the value to hold against the limit, or None and why there is none."""
    if not values:
        return None, f"no cell has {one.feature}, which {rule.protocol} measures"
    if one.statistic == "least":
        return min(values), ""
    if one.statistic == "largest":
        return max(values), ""
    if len(values) < 2:
        return None, "one cell has no range"
    if min(values) <= 0:
        return None, "a value is not positive"
    return 100.0 * (max(values) - min(values)) / (math.fsum(values) / len(values)), ""
