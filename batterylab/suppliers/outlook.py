"""What would change a decision: chiefly, how many lots more of the same kind would settle it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from batterylab.suppliers.capability import capability
from batterylab.suppliers.components import LotSample, pivots
from batterylab.suppliers.decision import TOLERATED, Decision, Judged
from batterylab.suppliers.estimates import Estimate, Measurement

MOST_LOTS = 60
_POINTS = 2048


def would_change(
    decisions: Mapping[str, Decision],
    judged: Mapping[str, Sequence[Judged]],
    measurements: Mapping[str, Measurement],
    probability_best: Mapping[str, float | None],
    estimates: Mapping[str, Mapping[str, Estimate]] | None = None,
    has_rules: bool = False,
) -> list[str]:
    """Return in words what would change the decisions.

    Parameters
    ----------
    decisions : mapping of str to Decision
        By supplier.
    judged : mapping of str to sequence of Judged
        The limits, by supplier.
    measurements : mapping of str to Measurement
        By feature.
    probability_best : mapping of str to float or None
        Of the ranking.
    estimates : mapping, optional
        By feature and supplier: what other suppliers' lots say where one has too few.
    has_rules : bool
        Whether the study names a rule of a standard.
    """
    texts = []
    for supplier, decision in decisions.items():
        if decision.verdict == "NOT ENOUGH DATA":
            texts.append(f"{supplier}: valid recordings of two or more lots, two cells each")
            texts += _lots_for_thin(supplier, judged[supplier], measurements, estimates or {})
        elif decision.verdict == "REJECT":
            texts.append(
                f"{supplier}: a corrected delivery, or proof that a recording named in the reasons "
                "is invalid, declared so in the study's log"
            )
        elif decision.verdict == "CONDITIONAL" and not judged[supplier] and not has_rules:
            texts.append(f"{supplier}: limits or a rule in study.yaml, agreed before further data")
        elif decision.verdict == "CONDITIONAL":
            texts += [
                f"{supplier}: {_more_lots(item, measurements)}"
                for item in judged[supplier]
                if _lacks_bound(item)
            ]
        else:
            texts.append(f"{supplier}: a cell outside a limit in a later lot")
    known = [share for share in probability_best.values() if share is not None]
    if len(known) > 1 and max(known) < 0.95:
        texts.append(
            f"the ranking: its first place holds with probability {max(known):.2f}; more lots "
            "settle it, more cells of the same lots hardly do"
        )
    corrected = any(item.variances for item in measurements.values())
    if measurements and not corrected:
        texts.append("a gauge study: the bench's scatter could then be taken out of the spread")
    return texts


def _lots_for_thin(
    supplier: str, judged: Sequence[Judged], measurements: Mapping[str, Measurement],
    estimates: Mapping[str, Mapping[str, Estimate]],
) -> list[str]:  # fmt: skip
    """Say how many lots would decide on a supplier of which too few are known.

    Its lots are taken to differ as other suppliers' do, else as much as its cells.
    """
    texts = []
    for item in judged:
        found = item.estimate
        if found is None or not found.sd_cell:
            continue
        others = [other.sd_lot for name, other in estimates.get(item.name, {}).items()
                  if name != supplier and other.sd_lot]  # fmt: skip
        lot = max(others, default=found.sd_cell)
        basis = "as another supplier's lots" if others else "as much as its cells"
        assumed = replace(found, sd_lot=lot, sd_total=math.hypot(lot, found.sd_cell))
        needed = lots_needed(assumed, item, measurements.get(item.name, Measurement()))
        many = f"more than {MOST_LOTS}" if needed is None else f"about {needed}"
        texts.append(
            f"{supplier}: {item.name}: {many} lots of {_cells_per_lot(found)} cells would decide, "
            f"if its lots differ {basis} and its mean is as seen"
        )
    return texts


def _lacks_bound(item: Judged) -> bool:
    found = item.capability
    bound = found.fraction_outside_upper_95 if found else None
    return bound is not None and bound > TOLERATED


def _more_lots(item: Judged, measurements: Mapping[str, Measurement]) -> str:
    found = item.estimate
    if found is None or item.capability is None:
        return f"{item.name}: values"
    if (item.capability.fraction_outside or 0.0) > TOLERATED:
        return f"{item.name}: a mean farther from the limit or a smaller spread; more cells do not"
    needed = lots_needed(found, item, measurements.get(item.name, Measurement()))
    if needed is None:
        return f"{item.name}: more than {MOST_LOTS} lots of the same kind, or a wider margin"
    per_lot = _cells_per_lot(found)
    return (
        f"{item.name}: about {needed} lots of {per_lot} cells with this mean and spread would "
        f"show that at most {100 * TOLERATED:g} % lie outside; now {found.lots}"
    )


def _cells_per_lot(found: Estimate) -> int:
    return max(2, round(found.sample.cells / len(found.sample.lots)))


def lots_needed(found: Estimate, item: Judged, measurement: Measurement) -> int | None:
    """Return how many lots in all would reach the bound, were they like those seen.

    Parameters
    ----------
    found : Estimate
        Mean and spreads as they stand.
    item : Judged
        The limit.
    measurement : Measurement
        Its variance is added to the cells' and taken out again.

    Returns
    -------
    int or None
        None if `MOST_LOTS` are not enough.
    """
    gauge = None
    if measurement.study is not None:
        drawn = measurement.study.pivots(points=_POINTS)
        gauge = None if drawn is None else drawn.gauge

    def is_enough(lots: int) -> bool:
        sample = _alike(found, lots)
        reached = capability(
            sample,
            found.sd_total,
            pivots(sample, gauge=gauge, points=_POINTS),
            item.limit.lower,
            item.limit.upper,
        )
        bound = reached.fraction_outside_upper_95 if reached else None
        return bound is not None and bound <= TOLERATED

    low, high = max(found.lots, 1), MOST_LOTS
    if not is_enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _alike(found: Estimate, lots: int) -> LotSample:
    """Return a sample of `lots` lots with the mean and mean squares expected of such lots."""
    per_lot = _cells_per_lot(found)
    within = found.sample.within or 0.0
    variance = (found.sd_lot or 0.0) ** 2 + within / per_lot
    pattern = np.linspace(-1.0, 1.0, lots)
    pattern *= math.sqrt(variance) / pattern.std(ddof=1)
    reach = 3.0 * math.sqrt(variance + within) + abs(found.sample.mean) * 1e-12
    return LotSample(
        tuple(f"{number:03d}" for number in range(lots)),
        np.full(lots, float(per_lot)),
        found.sample.mean + pattern,
        np.full(lots, (per_lot - 1) * within),
        found.sample.mean - reach,
        found.sample.mean + reach,
    )
