"""A scorecard in five lines: the decision, how sure, the spread, the bench, the pack."""

from collections.abc import Mapping, Sequence
from typing import Any

MOST_NAMED = 4


def summary_lines(scorecard: Mapping[str, Any]) -> list[str]:
    """Return the decision in exactly five lines.

    Parameters
    ----------
    scorecard : mapping
        Of schema ``batterylab.scorecard/1``.

    Returns
    -------
    list of str
        Decision; reason; how sure the ranking is; spread of cells and lots; cost in a pack.
    """
    return [
        _decision(scorecard),
        _reason(scorecard),
        _certainty(scorecard),
        _spread(scorecard),
        _cost(scorecard),
    ]


def _names(items: Sequence[str]) -> str:
    more = f"; and {len(items) - MOST_NAMED} more" if len(items) > MOST_NAMED else ""
    return "; ".join(items[:MOST_NAMED]) + more


def _decision(scorecard: Mapping[str, Any]) -> str:
    verdicts = [f"{name} {item['verdict']}" for name, item in scorecard["decision"].items()]
    return f"Decision: {_names(verdicts)}"


def _reason(scorecard: Mapping[str, Any]) -> str:
    reasons = []
    for name, item in scorecard["decision"].items():
        if item["reasons"]:
            others = len(item["reasons"]) - 1
            more = f" (and {others} more)" if others else ""
            reasons.append(f"{name}: {item['reasons'][0]}{more}")
    return f"Reason: {_names(reasons) or 'none given'}"


def _certainty(scorecard: Mapping[str, Any]) -> str:
    ranking = scorecard["ranking"]
    statement = str(ranking["statement"]).partition("; prior")[0]
    feature = scorecard["features"].get(ranking["feature"] or "", {})
    order = ranking["order"]
    for pair in feature.get("comparisons", []):
        if len(order) > 1 and {pair["a"], pair["b"]} == set(order[:2]) and pair["interval"]:
            sign = 1.0 if pair["a"] == order[0] else -1.0
            base = feature["suppliers"][order[1]]["mean"]
            if base:
                ends = sorted(100.0 * sign * end / abs(base) for end in pair["interval"])
                middle = 100.0 * sign * pair["difference"] / abs(base)
                return (
                    f"How sure: {statement}; {order[0]} against {order[1]} {middle:+.2f} % "
                    f"({ends[0]:+.2f} to {ends[1]:+.2f})"
                )
    return f"How sure: {statement}"


def _spread(scorecard: Mapping[str, Any]) -> str:
    ranking = scorecard["ranking"]
    feature = scorecard["features"].get(ranking["feature"] or "")
    if not feature:
        return "Spread: not known"
    texts = []
    for name in ranking["order"]:
        entry = feature["suppliers"][name]
        cells = _percent("cells", entry["sd_cell"], entry["sd_cell_interval"], entry["mean"])
        lots = _percent("lots", entry["sd_lot"], entry["sd_lot_interval"], entry["mean"])
        if entry["sd_lot"] is None:
            cells = _percent("cells", entry["sd_total"], entry["sd_total_interval"], entry["mean"])
            lots = "lots not known"
        texts.append(f"{name} {cells}, {lots}")
    corrected = feature["measurement"]["corrected"]
    tail = "bench taken out" if corrected else "not corrected for the bench"
    return f"Spread of {ranking['feature']} (sd): {_names(texts)}; {tail}"


def _percent(what: str, sd: float | None, interval: Sequence[float] | None, mean: float) -> str:
    if sd is None or not mean:
        return f"{what} not known"
    scale = 100.0 / abs(mean)
    if interval is None:
        return f"{what} {scale * sd:.2f} % (no interval)" if sd else f"{what} below resolution"
    low, high = (scale * end for end in interval)
    return f"{what} {scale * sd:.2f} % ({low:.2f} to {high:.2f})"


def _lots(scorecard: Mapping[str, Any], supplier: str) -> int:
    """Return the lots behind the pack's figure."""
    for feature in ("capacity_Ah", "relative_capacity"):
        entry = scorecard["features"].get(feature)
        if entry is not None and supplier in entry["suppliers"]:
            return int(entry["suppliers"][supplier]["lots"])
    return 0


def _cost(scorecard: Mapping[str, Any]) -> str:
    pack = scorecard["pack"]
    if not pack:
        return "Pack: the study names none, or no capacity was measured"
    texts = []
    for name, entry in pack["suppliers"].items():
        loss, interval = entry["loss_percent"], entry["loss_percent_interval"]
        drawn, tail = entry.get("drawn"), ""
        if drawn is not None:
            tail = f", drawn from its cells: they are not normal, and for normal ones {loss:.2f} %"
            loss, interval = drawn["loss_percent"], drawn["interval"]
        lots = _lots(scorecard, name)
        if lots < 2 and loss is not None:
            tail += ", of one lot" if lots else ", of these cells: no lot is named"
        if loss is None:
            texts.append(f"{name} not known")
        elif interval is None:
            texts.append(f"{name} {loss:.2f} % (no interval){tail}")
        else:
            texts.append(f"{name} {loss:.2f} % ({interval[0]:.2f} to {interval[1]:.2f}){tail}")
    return (
        f"Pack {pack['series']}s{pack['parallel']}p: capacity lost to the spread of cells: "
        f"{_names(texts)}"
    )
