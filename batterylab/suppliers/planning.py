"""The answer of `batterylab study plan`: study, incoming watch, and what both cost."""

from collections.abc import Sequence
from typing import Any

from batterylab.suppliers.inspection import (
    SWITCHING,
    Risks,
    plans,
    scheme_acceptance,
    tightened_plan,
    variables_plan,
)
from batterylab.suppliers.plans import (
    Costs,
    Option,
    Question,
    Spread,
    cheapest,
    floor_of_difference,
    options,
    power_of_sigma_ratio,
    sigma_bounds_percent,
)

SCHEMA = "batterylab.plan/1"
#: ratio of two spreads whose power is stated
RATIO = 1.5


def plan(question: Question, spread: Spread, costs: Costs, risks: Risks) -> dict[str, Any]:
    """Plan a study and the watch on later lots.

    Parameters
    ----------
    question : Question
        What the study must answer; differences in percent of the mean.
    spread : Spread
        In percent of the mean.
    costs : Costs
    risks : Risks
        Of accepting lots.

    Returns
    -------
    dict
        Of schema ``batterylab.plan/1``; ``docs/statistics.md`` explains each key.
    """
    found = options(question, spread, costs)
    best = cheapest(found)
    return {
        "schema": SCHEMA,
        "spread": {"lot_percent": spread.lot, "cell_percent": spread.cell, "source": spread.source},
        "costs": {**vars(costs)},
        "qualification": {
            "suppliers": question.suppliers,
            "difference_percent": question.difference,
            "power": question.power,
            "risk": question.risk,
            "cheapest": None if best is None else _option(best, question, costs),
            "options": [_option(item, question, costs) for item in found],
            "floor_percent": floor_of_difference(question.most_lots, spread, question),
        },
        "acceptance": _acceptance(risks, costs),
        "watch": _watch(risks),
    }


def _option(item: Option, question: Question, costs: Costs) -> dict[str, Any]:
    degrees = item.lots * (item.cells - 1)
    return {
        **vars(item),
        "days": costs.days(item.total_cells),
        "sigma_cell_interval_percent": list(sigma_bounds_percent(degrees)),
        "sigma_lot_interval_percent": list(sigma_bounds_percent(item.lots - 1)),
        "power_of_sigma_ratio": power_of_sigma_ratio(RATIO, degrees + 1, risk=question.risk),
    }


def _acceptance(risks: Risks, costs: Costs) -> dict[str, Any]:
    rows = []
    for name, item in plans(risks).items():
        cells = item.average_cells(risks.aql)
        rows.append({
            "plan": name,
            **{key: value for key, value in vars(item).items() if key != "sigma_known"},
            "accepts_at_aql": item.acceptance(risks.aql),
            "accepts_at_lq": item.acceptance(risks.lq),
            "holds": risks.met(item.acceptance),
            "average_cells_at_aql": cells,
            "average_channel_hours_at_aql": cells * costs.hours_per_cell,
        })  # fmt: skip
    holding = [row for row in rows if row["holds"] and "known" not in row["plan"]]
    best = min(holding, key=lambda row: float(row["average_cells_at_aql"]))
    return {**vars(risks), "cheapest": best["plan"], "plans": rows}


def _watch(risks: Risks) -> dict[str, Any]:
    normal = variables_plan(risks)
    strict = tightened_plan(normal, risks)

    def at(share: float) -> float:
        return scheme_acceptance(normal.acceptance(share), strict.acceptance(share))

    return {
        "cells": normal.cells,
        "factor": normal.factor,
        "factor_tightened": strict.factor,
        "rule": SWITCHING,
        "accepts_at_aql": at(risks.aql),
        "accepts_at_lq": at(risks.lq),
    }


def lines(found: dict[str, Any]) -> list[str]:
    """Return a plan as text.

    Parameters
    ----------
    found : dict
        Of `plan`.
    """
    spread, asked = found["spread"], found["qualification"]
    return [
        f"Assumed: standard deviation between lots {spread['lot_percent']:.3g} %, between cells of "
        f"a lot {spread['cell_percent']:.3g} % of the mean ({spread['source']})",
        f"Asked: find a difference of {asked['difference_percent']:.3g} % between two of "
        f"{asked['suppliers']} suppliers with probability {asked['power']:.3g}, call equal ones "
        f"different in {100 * asked['risk']:.3g} % of studies",
        "",
        *_qualification(asked),
        "",
        *_acceptance_lines(found["acceptance"]),
        "",
        *_watch_lines(found["watch"], found["acceptance"]),
    ]


def _qualification(asked: dict[str, Any]) -> list[str]:
    best = asked["cheapest"]
    if best is None:
        return [
            "Qualification: no plan answers this; even endless cells of the most lots allowed find "
            f"no less than {asked['floor_percent']:.3g} %: allow more lots or a larger difference"
        ]
    days = "" if best["days"] is None else f", {best['days']:.3g} days on the bench"
    cells, lots = best["sigma_cell_interval_percent"], best["sigma_lot_interval_percent"]
    head = [
        f"Qualification, cheapest: {best['lots']} lots of {best['cells']} cells from each "
        f"supplier: {best['total_cells']} cells, {best['cost_hours']:.0f} channel-hours{days}",
        f"  finds {asked['difference_percent']:.3g} % with probability {best['power']:.3f}; "
        f"{best['detectable']:.3g} % with probability {asked['power']:.3g}",
        f"  spread of cells to {cells[0]:+.0f}/{cells[1]:+.0f} %, of lots to {lots[0]:+.0f}/"
        f"{lots[1]:+.0f} %; a spread {RATIO:g} times another is seen with probability "
        f"{best['power_of_sigma_ratio']:.2f}",
        "  lots  cells a lot  cells  channel-hours  finds, %",
    ]
    return head + [
        f"  {item['lots']:4d}  {item['cells']:11d}  {item['total_cells']:5d}  "
        f"{item['cost_hours']:13.0f}  {item['detectable']:8.3f}"
        for item in _near(asked["options"], best)
    ]


def _near(rows: Sequence[dict[str, Any]], best: dict[str, Any]) -> Sequence[dict[str, Any]]:
    place = next(n for n, row in enumerate(rows) if row["lots"] == best["lots"])
    return rows[max(0, place - 2) : place + 3]


def _acceptance_lines(found: dict[str, Any]) -> list[str]:
    text = [
        f"Accepting a lot, AQL {100 * found['aql']:.3g} %, LQ {100 * found['lq']:.3g} %, risks "
        f"{100 * found['producer']:.3g} and {100 * found['consumer']:.3g} %; cheapest without a "
        f"known spread: {found['cheapest']}"
    ]
    for row in found["plans"]:
        note = "" if row["holds"] else "  (does not hold both risks)"
        text.append(
            f"  {row['plan']:<22} {_shape(row):<44} mean {row['average_cells_at_aql']:6.1f} cells, "
            f"{row['average_channel_hours_at_aql']:6.0f} channel-hours{note}"
        )
    return text


def _shape(row: dict[str, Any]) -> str:
    if "slope" in row:
        return f"s {row['slope']:.5f}, h1 {row['below']:.3f}, h2 {row['above']:.3f}"
    if "factor" in row:
        return f"n {row['cells']}, k {row['factor']:.3f}"
    if "first" in row:
        return (
            f"n {row['first']}+{row['second']}, c {row['accept_first']}/{row['accept_second']}, "
            f"r {row['reject_first']}"
        )
    return f"n {row['cells']}, c {row['accept']}"


def _watch_lines(found: dict[str, Any], risks: dict[str, Any]) -> list[str]:
    return [
        f"Watch on every later lot: {found['cells']} cells, accept if the mean lies "
        f"{found['factor']:.3f} standard deviations inside the limit",
        f"  tightened: {found['factor_tightened']:.3f}; {found['rule']}",
        f"  in the long run accepts {100 * found['accepts_at_aql']:.1f} % of lots at "
        f"{100 * risks['aql']:.3g} % nonconforming, {100 * found['accepts_at_lq']:.2f} % at "
        f"{100 * risks['lq']:.3g} %",
    ]
