"""From statistics to a decision: QUALIFY, CONDITIONAL, REJECT or NOT ENOUGH DATA.

The rules are few and fixed; ``docs/statistics.md`` states them in the order in which
`decide` asks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from batterylab.study import Limit
from batterylab.suppliers.acceptance import Finding
from batterylab.suppliers.capability import Capability
from batterylab.suppliers.estimates import Estimate

#: the share of cells outside a limit that a qualified supplier's bound must not exceed
TOLERATED = 0.01
LEAST_LOTS = 2
LEAST_CELLS = 2


@dataclass(frozen=True)
class Judged:
    """One limited feature of one supplier.

    Attributes
    ----------
    limit : Limit
    estimate : Estimate or None
        None if the supplier has no value of the feature.
    capability : Capability or None
        None without a spread.
    findings : sequence of Finding
        Cells that the decision rule does not accept.
    """

    limit: Limit
    estimate: Estimate | None = None
    capability: Capability | None = None
    findings: Sequence[Finding] = ()

    @property
    def name(self) -> str:
        """Name of the feature."""
        return self.limit.feature

    @property
    def allowed(self) -> str:
        """The limits as text."""
        lower, upper = self.limit.lower, self.limit.upper
        unit = next((r.unit for r in self.estimate.readings), "") if self.estimate else ""
        tail = f" {unit}" if unit else ""
        if lower is None:
            return f"at most {upper:.6g}{tail}"
        if upper is None:
            return f"at least {lower:.6g}{tail}"
        return f"{lower:.6g} to {upper:.6g}{tail}"

    @property
    def is_thin(self) -> bool:
        """Whether lots or cells are too few to say anything of the supplier."""
        found = self.estimate
        return found is None or found.lots < LEAST_LOTS or found.sample.cells < LEAST_CELLS


@dataclass
class Decision:
    """What is decided of a supplier.

    Attributes
    ----------
    verdict : str
        ``QUALIFY``, ``CONDITIONAL``, ``REJECT`` or ``NOT ENOUGH DATA``.
    reasons, risks : list of str
        Why, and what may still be wrong.
    """

    verdict: str
    reasons: list[str] = field(default_factory=list)
    risks: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the scorecard's entry."""
        return {"verdict": self.verdict, "reasons": self.reasons, "risks": self.risks}


def decide(
    lots: int, cells: int, judged: Sequence[Judged], rules: Sequence[dict[str, Any]]
) -> Decision:
    """Decide on one supplier.

    Asked in this order: (1) fewer than two lots or two cells: NOT ENOUGH DATA; (2) a rule not
    met, a cell that the decision rule rejects, or a lower 99 % bound of the share outside
    above `TOLERATED`: REJECT; (3) a limited feature with values of fewer than two lots or
    cells: NOT ENOUGH DATA; (4) anything that is not shown: CONDITIONAL; (5) QUALIFY.

    Parameters
    ----------
    lots, cells : int
        Of the supplier, over all features.
    judged : sequence of Judged
        The limits.
    rules : sequence of dict
        The scorecard's ``rules`` of this supplier.
    """
    failures = _failures(judged, rules)
    open_points = _open_points(judged, rules)
    if lots < LEAST_LOTS or cells < LEAST_CELLS:
        reasons = [_too_few(lots, cells)]
        return Decision("NOT ENOUGH DATA", reasons, [*failures, *_risks(judged, rules)])
    if failures:
        return Decision("REJECT", failures, [*open_points, *_risks(judged, rules)])
    thin = [f"{item.name}: {_thin(item)}" for item in judged if item.is_thin]
    if thin:
        return Decision("NOT ENOUGH DATA", thin, _risks(judged, rules))
    if open_points:
        return Decision("CONDITIONAL", open_points, _risks(judged, rules))
    return Decision("QUALIFY", _shown(judged, rules), _risks(judged, rules))


def _share(share: float) -> str:
    """Return a share in percent, without feigned precision near zero."""
    return "0.001 %" if share < 1e-5 else f"{100.0 * share:.2g} %"


def _too_few(lots: int, cells: int) -> str:
    if not cells:
        return "no valid value of any cell"
    named = "no lot is named" if not lots else f"{lots} lot{'' if lots == 1 else 's'}"
    cells_text = f"{cells} cell{'' if cells == 1 else 's'}"
    return f"{named}, {cells_text}: at least {LEAST_LOTS} lots and {LEAST_CELLS} cells are needed"


def _thin(item: Judged) -> str:
    if item.estimate is None:
        return "limited in the study, but never measured"
    found = item.estimate
    return f"values of {found.sample.cells} cells of {found.lots} lots; 2 of each are needed"


def _failures(judged: Sequence[Judged], rules: Sequence[dict[str, Any]]) -> list[str]:
    """Return what is proven to fail."""
    failed = [
        f"{row['rule']} {row['clause']} not met: {row['requirement']}; "
        f"{row['value']:.5g} against {row['limit']:.5g}"
        for row in rules
        if row["met"] is False
    ]
    for item in judged:
        proven = sorted({finding.serial for finding in item.findings if finding.proven})
        if proven:
            cells = item.estimate.sample.cells if item.estimate else len(proven)
            failed.append(
                f"{item.name}: {len(proven)} of {cells} cells outside the limits "
                f"({item.allowed}): {_some(proven)}"
            )
        bound = item.capability.fraction_outside_lower_99 if item.capability else None
        if bound is not None and bound > TOLERATED and not item.is_thin:
            failed.append(
                f"{item.name}: with 99 % confidence more than {_share(bound)} of cells lie "
                f"outside the limits ({item.allowed}); {100 * TOLERATED:g} % are tolerated"
            )
    return failed


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _open_points(judged: Sequence[Judged], rules: Sequence[dict[str, Any]]) -> list[str]:
    """Return what is neither shown to hold nor proven to fail."""
    points = [
        f"{row['rule']} {row['clause']} cannot be judged: {row['requirement']}: "
        f"{row['reason']}"
        for row in rules
        if row["met"] is None
    ]
    for item in judged:
        unproven = sorted({f.serial for f in item.findings if not f.proven})
        if unproven:
            points.append(
                f"{item.name}: {len(unproven)} cells neither accepted nor rejected under "
                f"{item.limit.decision_rule} ({_some(unproven)})"
            )
        if item.estimate is not None:
            points += _bound_points(item)
    if not judged and not rules:
        points.append(
            "on limits or a rule being agreed and met: the study states none, so no cell was held "
            "against anything"
        )
    return points


def _bound_points(item: Judged) -> list[str]:
    if item.capability is None or item.capability.fraction_outside_upper_95 is None:
        return [f"{item.name}: no spread, so no bound of the share outside the limits"]
    bound = item.capability.fraction_outside_upper_95
    if bound <= TOLERATED:
        return []
    return [
        f"{item.name}: {_cells_inside(item)}, but with 95 % confidence up to "
        f"{_share(bound)} may lie outside; {100 * TOLERATED:g} % are tolerated"
    ]


def _cells_inside(item: Judged) -> str:
    found = item.estimate
    cells, lots = (found.sample.cells, found.lots) if found else (0, 0)
    if item.findings:
        outside = len({finding.serial for finding in item.findings})
        return (
            f"{cells - outside} of {cells} cells of {lots} lots inside the limits ({item.allowed})"
        )
    return f"all {cells} cells of {lots} lots inside the limits ({item.allowed})"


def _shown(judged: Sequence[Judged], rules: Sequence[dict[str, Any]]) -> list[str]:
    """Return what is shown, for a supplier that qualifies."""
    shown = [
        f"{item.name}: {_cells_inside(item)}; with 95 % confidence at most "
        f"{_share(item.capability.fraction_outside_upper_95 or 0.0)} outside; "
        f"{100 * TOLERATED:g} % are tolerated"
        for item in judged
        if item.capability is not None
    ]
    names = sorted({str(row["rule"]) for row in rules})
    return [*shown, *(f"{name}: all requirements met" for name in names)]


def _risks(judged: Sequence[Judged], rules: Sequence[dict[str, Any]]) -> list[str]:
    risks = []
    for item in judged:
        found = item.estimate
        if found is None:
            continue
        interval = found.lot_interval()
        if interval is not None and found.sample.mean:
            percent = 100.0 * interval[1] / abs(found.sample.mean)
            risks.append(
                f"{item.name}: {found.lots} lots leave open a lot-to-lot standard deviation up to "
                f"{percent:.2g} % of the mean"
            )
        if not found.corrected:
            risks.append(f"{item.name}: spread not corrected for the bench's own scatter")
        risks += [f"{item.name}: {note}" for note in found.notes if "counts all the same" in note]
    risks += _rule_risks(rules)
    if judged:
        risks.append("an error common to all channels is in no interval; calibration bounds it")
    return risks


def _cells(count: int) -> str:
    return f"{count} cell{'' if count == 1 else 's'}"


def _rule_risks(rules: Sequence[dict[str, Any]]) -> list[str]:
    """Say of how many cells each rule speaks, and of how many its standard would."""
    risks = []
    for name in sorted({str(row["rule"]) for row in rules}):
        rows = [row for row in rules if row["rule"] == name]
        one = rows[0]
        under = f"; it holds at {one['conditions']}" if one["conditions"] else ""
        cells = _cells(min(row["cells"] for row in rows))
        risks.append(
            f"{name}: applied to the {cells} measured; its type test has "
            f"{one['type_test_cells']} cells ({one['type_test_mark']}){under}"
        )
    return risks
