"""Limits cell by cell under a decision rule, and the acceptance rules of standards."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class Rule:
    """Where an acceptance rule of a standard stands.

    Attributes
    ----------
    clause : str
    mark : str
        V verified against public text that quotes the clause, D from notices of the draft,
        U unverified.
    type_test : str
        How many cells the standard's own type test has, with its mark.
    """

    clause: str
    mark: str
    type_test: str


RULES = {
    "gbt_31486_2024": Rule("5.4", "V", "30 cells (D)"),
    "gbt_31486_2015": Rule("capacity at room temperature", "V", "10 cells (V)"),
}
FEATURE = "capacity_Ah"
HIGHEST_SHARE = 1.10
WIDEST_RANGE_PERCENT = 5.0


def rule_rows(
    name: str, supplier: str, capacities_Ah: Sequence[float], rated_Ah: float
) -> list[dict[str, Any]]:
    """Hold a supplier's initial capacities against GB/T 31486.

    Parameters
    ----------
    name : str
        Key of `RULES`.
    supplier : str
    capacities_Ah : sequence of float
        Initial capacity of each cell, in Ah.
    rated_Ah : float
        Rated capacity, in Ah.

    Returns
    -------
    list of dict
        Three rows of the scorecard's ``rules``: every cell at least rated, none above 110 % of
        rated, range at most 5 % of the mean. `met` is None without values, and for the range
        of a single cell or if a capacity is not positive.
    """
    rule = RULES[name]
    has = len(capacities_Ah) > 0
    least = min(capacities_Ah) if has else None
    most = max(capacities_Ah) if has else None
    spread = None
    if least is not None and most is not None and len(capacities_Ah) > 1 and least > 0:
        spread = 100.0 * (most - least) / (math.fsum(capacities_Ah) / len(capacities_Ah))
    highest = HIGHEST_SHARE * rated_Ah
    rows = [
        ("least initial capacity, Ah, at least the rated one", least, rated_Ah,
         None if least is None else least >= rated_Ah),
        ("largest initial capacity, Ah, at most 110 % of the rated one", most, highest,
         None if most is None else most <= highest),
        ("range of initial capacity, % of the mean, at most 5", spread, WIDEST_RANGE_PERCENT,
         None if spread is None else spread <= WIDEST_RANGE_PERCENT),
    ]  # fmt: skip
    return [
        {
            "rule": name,
            "clause": rule.clause,
            "requirement": requirement,
            "supplier": supplier,
            "value": value,
            "limit": limit,
            "met": met,
            "mark": rule.mark,
        }
        for requirement, value, limit, met in rows
    ]
