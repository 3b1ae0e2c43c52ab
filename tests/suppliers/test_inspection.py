"""Acceptance of lots: worked examples, exact risks, and what switching does."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.errors import BatterylabError
from batterylab.suppliers.inspection import (
    DoublePlan,
    Risks,
    SinglePlan,
    VariablesPlan,
    double_plan,
    estimated_share,
    iso2859_plan,
    plans,
    scheme_acceptance,
    sequential_plan,
    single_plan,
    tightened_plan,
    variables_plan,
)
from batterylab.suppliers.noncentral import noncentral_t_cdf, noncentral_t_quantile


@pytest.fixture
def case(shared_data):
    def find(name, topic="acceptance_sampling"):
        cases = json.loads((shared_data / "cases" / f"{topic}.json").read_text())["cases"]
        found = next(item for item in cases if item["id"] == name)
        return found["inputs"], found["expected"], found["tolerance"]

    return find


def risks_of(inputs):
    (aql, accepted), (lq, consumer) = inputs["prp"], inputs["crp"]
    return Risks(aql, lq, 1 - accepted, consumer)


def test_single_plan_of_the_manual(case):
    inputs, want, _ = case("find_plan_binomial")
    assert single_plan(risks_of(inputs)) == SinglePlan(want["n"], want["c"])


def test_plan_by_variables_of_the_manual(case):
    inputs, want, tolerance = case("find_plan_variables_unknown")
    found = variables_plan(risks_of(inputs))
    assert found.cells == want["n"]
    assert found.factor == pytest.approx(want["k"], abs=tolerance["abs"])
    assert 1.324963 <= found.factor <= 1.326535  # all that holds both risks


def test_the_standard_plan_and_its_characteristic(case):
    inputs, want, tolerance = case("z14_code_L_aql15")
    for size in inputs["lot"]:
        assert iso2859_plan(size, inputs["aql"]) == SinglePlan(want["n"], want["c"])
    single, double = SinglePlan(200, 7), DoublePlan(125, 3, 7, 125, 8)
    assert want["r"] == single.accept + 1
    for plan, good in (single, 0.9950), (double, 0.9948):
        assert plan.acceptance(inputs["p"][0]) == pytest.approx(good, abs=1e-4)
        assert plan.acceptance(inputs["p"][1]) < want["pa_lt"] + tolerance["abs"]
    assert VariablesPlan(75, 1.84097, False).acceptance(0.013) == pytest.approx(0.9792, abs=1e-4)


@pytest.mark.parametrize(
    ("size", "aql", "cells", "accept"),
    [(100, 1.0, 13, 0), (1000, 0.4, 125, 1), (100_000, 10.0, 125, 21), (400, 2.5, 50, 3),
     (100, 0.10, 100, 0), (2000, 1.0, 125, 3)],
)  # fmt: skip
def test_the_standards_table_with_its_arrows(size, aql, cells, accept):
    assert iso2859_plan(size, aql) == SinglePlan(cells, accept)


def test_estimated_share_outside(case):
    inputs, want, tolerance = case("z19_estimated_pnc")
    values = np.array(inputs["b_sample"], float)
    sd = values.std(ddof=1)
    upper = (inputs["b_usl"] - values.mean()) / sd
    lower = (values.mean() - inputs["c_lsl"]) / sd
    assert upper == pytest.approx(want["Qu"], abs=tolerance["Qu"])
    near = {"abs": tolerance["default"]}
    assert estimated_share((255 - 225) / 15, 42) == pytest.approx(want["a"], **near)
    assert estimated_share(upper, 5) == pytest.approx(want["b"], **near)
    both = estimated_share(upper, 5) + estimated_share(lower, 5)
    assert both == pytest.approx(want["c"], **near)
    assert estimated_share(9.0, 5) == 0.0


def test_switching_rules_in_the_long_run(case):
    inputs, want, tolerance = case("z14_switching_scheme")
    normal, tightened = (SinglePlan(*inputs[key]) for key in ("normal", "tightened"))
    for share, expected in zip(inputs["p"], want["pa"], strict=True):
        found = scheme_acceptance(normal.acceptance(share), tightened.acceptance(share))
        assert found == pytest.approx(expected, abs=tolerance["pa"])
    assert single_plan(Risks(*inputs["p"])).cells == want["single_n"]


def test_switching_rules_against_simulated_lots():
    rng = np.random.default_rng(1)
    accept = {"normal": 0.9, "tightened": 0.7}
    state, history, run, passed, lots = "normal", [], 0, 0, 200_000
    for good in rng.random(lots):
        accepted = good < accept[state]
        passed += accepted
        if state == "normal":
            history = [*history, accepted][-5:]
            if history.count(False) >= 2:
                state, run = "tightened", 0
        else:
            run = run + 1 if accepted else 0
            if run == 5:
                state, history = "normal", []
    assert scheme_acceptance(0.9, 0.7) == pytest.approx(passed / lots, abs=0.004)
    assert scheme_acceptance(1.0, 0.5) == 1.0
    assert scheme_acceptance(0.5, 0.0) == 0.0


def test_wald_of_the_handbook(case):
    inputs, want, tolerance = case("nist_626_wald", "sequential_sampling")
    risks = Risks(inputs["p1"], inputs["p2"], inputs["alpha"], inputs["beta"])
    found = sequential_plan(risks)
    for value, key in (found.below, "h1"), (found.above, "h2"), (found.slope, "s"):
        assert value == pytest.approx(want[key], abs=tolerance["abs"])
    assert [found.accept_at(n) for n in inputs["accept_at"]] == want["accept"]
    assert [found.reject_at(n) for n in inputs["reject_at"]] == want["reject"]


def test_the_sequential_characteristic_against_simulated_lots():
    plan = sequential_plan(Risks(0.01, 0.10))
    rng = np.random.default_rng(2)
    accepted = cells = 0
    for _ in range(4000):
        bad = 0
        for n in range(1, plan.most + 1):
            bad += rng.random() < 0.04
            low, high = plan.accept_at(n), plan.reject_at(n)
            if low is not None and bad <= low:
                accepted += 1
                break
            if high is not None and bad >= high:
                break
        cells += n
    assert plan.acceptance(0.04) == pytest.approx(accepted / 4000, abs=0.025)
    assert plan.average_cells(0.04) == pytest.approx(cells / 4000, rel=0.04)


def test_design_figures_of_the_lot_plan():
    risks = Risks(0.001, 0.02)
    found = plans(risks)
    assert (found["single"].cells, found["single"].accept) == (194, 1)
    assert found["variables"].cells == 35
    assert found["variables"].factor == pytest.approx(2.52, abs=0.01)
    for name, plan in found.items():
        assert risks.met(plan.acceptance) or name == "sequential"
    assert found["double"].average_cells(0.001) < 194
    assert found["sequential"].average_cells(0.001) < 194
    smaller = VariablesPlan(34, found["variables"].factor, False)
    assert not risks.met(smaller.acceptance)


def test_a_plan_by_variables_accepts_as_often_as_it_says():
    plan = variables_plan(Risks(0.01, 0.08))
    rng = np.random.default_rng(3)
    values = rng.normal(0.0, 1.0, (20_000, plan.cells))
    lower = -1.75  # 4.0 % below
    distance = (values.mean(axis=1) - lower) / values.std(axis=1, ddof=1)
    share = float(np.mean(distance >= plan.factor))
    assert plan.acceptance(0.0400592) == pytest.approx(share, abs=0.012)


def test_tightened_is_stricter():
    for known in (False, True):
        risks = Risks(0.0065, 0.065)
        plan = variables_plan(risks, sigma_known=known)
        strict = tightened_plan(plan, risks)
        assert strict.cells == plan.cells
        assert strict.acceptance(0.0065) < plan.acceptance(0.0065)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.001, 0.05), st.floats(2.5, 15.0), st.floats(0.01, 0.2), st.floats(0.01, 0.2))
def test_all_plans_hold_their_risks(aql, ratio, producer, consumer):
    risks = Risks(aql, min(aql * ratio, 0.6), producer, consumer)
    single, double = single_plan(risks), double_plan(risks)
    assert risks.met(single.acceptance)
    assert risks.met(double.acceptance)
    for known in (False, True):
        assert risks.met(variables_plan(risks, sigma_known=known).acceptance)


def test_nonsense_is_refused():
    for wrong in (0.02, 0.001), (0.0, 0.1), (0.01, 1.0), (0.01, 0.1, 0.6), (float("nan"), 0.1):
        with pytest.raises(BatterylabError):
            Risks(*wrong)
    with pytest.raises(BatterylabError):
        single_plan(Risks(0.01, 0.0101))
    with pytest.raises(BatterylabError):
        iso2859_plan(100, 1.1)


@pytest.mark.parametrize(
    ("df", "shift", "t"), [(1, 2.0, 3.0), (2, 5.0, 40.0), (34, 18.28, 14.79), (200, 43.0, 40.0)]
)
def test_noncentral_t_against_scipy(df, shift, t):
    from scipy import stats

    found = float(noncentral_t_cdf(t, df, shift))
    assert found == pytest.approx(stats.nct.cdf(t, df, shift), abs=1e-9)
    assert noncentral_t_quantile(found, df, shift) == pytest.approx(t, rel=1e-7)
