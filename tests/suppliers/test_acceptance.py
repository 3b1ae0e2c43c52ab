"""Limits under each decision rule, and the rules of the standards."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batterylab.protocol import folders
from batterylab.standards import RULES
from batterylab.study import Limit, RuleUse
from batterylab.suppliers.acceptance import GUARD_FACTOR, judge, rule_rows
from batterylab.suppliers.sampling import Reading


def reading(value, uncertainty=0.01):
    return Reading(
        "Alpha", "A1", "s", "", "p", "main", "x", "", "capacity_Ah", value, uncertainty, "Ah",
        "valid", "bench",
    )  # fmt: skip


def verdict(value, rule, uncertainty=0.01, gauge_sd=None):
    limit = Limit(feature="capacity_Ah", lower="4.95 Ah", upper="5.45 Ah", decision_rule=rule)
    found = judge([reading(value, uncertainty)], limit, gauge_sd)
    if not found:
        return "accepted"
    return "rejected" if found[0].proven else "neither"


@pytest.mark.parametrize(
    ("value", "simple", "acceptance", "rejection"),
    [
        (5.20, "accepted", "accepted", "accepted"),
        (4.97, "accepted", "accepted", "accepted"),
        (4.96, "accepted", "neither", "accepted"),
        (4.95, "accepted", "neither", "accepted"),
        (4.94, "rejected", "rejected", "neither"),
        (4.93, "rejected", "rejected", "rejected"),
        (5.44, "accepted", "neither", "accepted"),
        (5.46, "rejected", "rejected", "neither"),
        (5.47, "rejected", "rejected", "rejected"),
    ],
)
def test_the_three_rules_around_a_limit(value, simple, acceptance, rejection):
    """One standard uncertainty is 0.01, so the guard band is 0.01645."""
    assert verdict(value, "simple") == simple
    assert verdict(value, "guarded acceptance") == acceptance
    assert verdict(value, "guarded rejection") == rejection


def test_the_larger_of_stated_uncertainty_and_scatter_makes_the_guard_band():
    assert verdict(4.97, "guarded acceptance", gauge_sd=0.02) == "neither"
    assert verdict(4.97, "guarded acceptance", math.nan, gauge_sd=0.01) == "accepted"


def test_without_any_uncertainty_a_guarded_rule_proves_nothing():
    assert verdict(5.2, "guarded acceptance", math.nan) == "neither"
    assert verdict(4.0, "guarded acceptance", math.nan) == "rejected"
    assert verdict(4.0, "guarded rejection", math.nan) == "neither"
    assert verdict(5.2, "guarded rejection", math.nan) == "accepted"


def test_a_guarded_acceptance_is_right_95_times_of_100():
    """A cell exactly at the limit is accepted one time in twenty."""
    rng = np.random.default_rng(1)
    values = 4.95 + rng.normal(0, 0.01, 20_000)
    limit = Limit(feature="capacity_Ah", lower="4.95 Ah", decision_rule="guarded acceptance")
    refused = judge([reading(value) for value in values], limit, None)
    assert 1 - len(refused) / len(values) == pytest.approx(0.05, abs=0.006)


@given(st.floats(4.0, 6.0), st.floats(0.0, 0.1))
def test_guarding_only_moves_cells_the_way_it_says(value, uncertainty):
    simple = verdict(value, "simple", uncertainty)
    if simple == "rejected":
        assert verdict(value, "guarded acceptance", uncertainty) == "rejected"
    else:
        assert verdict(value, "guarded rejection", uncertainty) == "accepted"
    assert pytest.approx(1.645) == GUARD_FACTOR


def met(values, rule="gbt_31486_2024", feature="capacity_Ah"):
    rows = rule_rows(rule, RULES[rule], "Alpha", {feature: values}, 5.0)
    return [row["met"] for row in rows]


@pytest.mark.parametrize(
    ("capacities", "expected"),
    [
        ([5.0, 5.1, 5.2], [True, True, True]),
        ([4.999, 5.1], [False, True, True]),
        ([5.0, 5.24], [True, True, True]),
        ([5.0, 5.26], [True, True, False]),
        ([5.4, 5.6], [True, False, True]),
        ([5.2], [True, True, None]),
        ([], [None, None, None]),
    ],
)
@pytest.mark.parametrize("rule", ["gbt_31486_2024", "gbt_31486_2015"])
def test_initial_capacity_of_gbt_31486(capacities, expected, rule):
    assert met(capacities, rule) == expected


#: limit in percent and mark, as the table of figures has them
SHARES = [
    ("gbt_31486_2015_low_temperature", "capacity_cold", 70.0, "V"),
    ("gbt_31486_2015_high_temperature", "capacity_hot", 90.0, "U"),
    ("gbt_31486_2015_charge_retention", "retained", 85.0, "V"),
    ("gbt_31486_2015_charge_retention", "recovered", 90.0, "V"),
    ("gbt_31486_2015_retention_hot", "retained_hot", 85.0, "V"),
    ("gbt_31486_2015_retention_hot", "recovered_hot", 90.0, "V"),
    ("gbt_31486_2015_storage", "capacity_stored", 90.0, "V"),
    ("gbt_31486_2015_rate_discharge", "capacity_fast", 90.0, "U"),
    ("gbt_31486_2015_rate_discharge_power", "capacity_fast", 80.0, "U"),
    ("gbt_31486_2015_rate_charge", "capacity_fast_charged", 80.0, "U"),
    ("gbt_31484_2015_500_cycles", "cycle_500", 90.0, "V"),
    ("gbt_31484_2015_1000_cycles", "cycle_1000", 80.0, "V"),
]


@pytest.mark.parametrize(("rule", "measure", "limit", "mark"), SHARES)
def test_a_share_is_held_against_its_limit(rule, measure, limit, mark):
    feature = f"{measure}_share_percent"

    def row(values):
        rows = rule_rows(rule, RULES[rule], "Alpha", {feature: values}, 5.0)
        return next(r for r in rows if f"{limit:g} %" in r["requirement"])

    good, bad = row([limit, 99.0]), row([99.0, limit - 0.01, 99.0])
    assert (good["met"], good["value"], good["limit"], good["mark"]) == (True, limit, limit, mark)
    assert (bad["met"], bad["value"], bad["cells"]) == (False, limit - 0.01, 3)
    none = row([])
    assert none["met"] is None
    assert RULES[rule].protocol in none["reason"]


def test_every_rule_of_a_share_is_among_those_tested_and_its_protocol_measures_it():
    told = {(rule, f"{measure}_share_percent") for rule, measure, _, _ in SHARES}
    held = {
        (name, one.feature) for name, rule in RULES.items() for one in rule.requirements
        if one.feature != "capacity_Ah"
    }  # fmt: skip
    assert held == told
    for name, rule in RULES.items():
        measures = (folders()[-1] / f"{rule.protocol}.yaml").read_text()
        for one in rule.requirements:
            measure = re.sub(r"(_\d+)?(_share_percent|_Ah)$", "", one.feature)
            assert re.search(rf"measure: {measure}$", measures, re.MULTILINE), (name, measure)


def test_a_limit_of_the_studys_own_says_so():
    use = RuleUse.model_validate(
        {"rule": "gbt_31486_2015_high_temperature", "at_least": "85 %"}
    )  # fmt: skip
    values = {"capacity_hot_share_percent": [86.0]}
    row = rule_rows(use.rule, use.applied, "Alpha", values, 5.0)[0]
    assert (row["met"], row["limit"], row["mark"]) == (True, 85.0, "own")
    assert row["requirement"].endswith("at least 85 %")
    with pytest.raises(ValueError, match="several limits"):
        RuleUse.model_validate({"rule": "gbt_31486_2015_charge_retention", "at_least": "85 %"})
    with pytest.raises(ValueError, match="did you mean 'gbt_31486_2015_storage'"):
        RuleUse.model_validate("gbt_31486_2015_stored")


def test_a_row_carries_its_figures_and_mark():
    row = rule_rows(
        "gbt_31486_2024", RULES["gbt_31486_2024"], "Alpha", {"capacity_Ah": [4.9, 5.1]}, 5.0
    )[2]
    assert row["clause"] == "5.4"
    assert row["mark"] == "V"
    assert row["value"] == pytest.approx(4.0)
    assert row["limit"] == 5.0
    assert row["supplier"] == "Alpha"
    assert (row["cells"], row["type_test_cells"], row["type_test_mark"]) == (2, 30, "D")
