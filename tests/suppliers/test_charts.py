"""Control charts, their run lengths, change points, T² and the scorecard's watch."""

import json
import math

import numpy as np
import pytest
from supplier_tables import drawn_rows, frame, make_study

from batterylab.errors import BatterylabError
from batterylab.suppliers import scorecard
from batterylab.suppliers.charts import (
    c4,
    change_point,
    cusum_chart,
    cusum_run_length,
    ewma_chart,
    ewma_run_length,
    individuals_chart,
    mean_chart,
    range_chart,
    range_factors,
    sd_chart,
    shewhart_run_length,
)
from batterylab.suppliers.multivariate import confidence_of_three_sigma, grouped, robust


@pytest.fixture
def case(shared_data):
    def find(name, topic="control_charts"):
        cases = json.loads((shared_data / "cases" / f"{topic}.json").read_text())["cases"]
        found = next(item for item in cases if item["id"] == name)
        return found["inputs"], found["expected"], found["tolerance"]

    return find


def test_piston_rings(case):
    inputs, want, tolerance = case("qcc_pistonrings_xbar_R_S")
    groups, first = np.array(inputs["data"]), inputs["phase1"]
    means, ranges, sds = (make(groups, first) for make in (mean_chart, range_chart, sd_chart))
    found = {
        "center": means.centre, "sd_R": means.sd, "lcl": means.lower, "ucl": means.upper,
        "R_center": ranges.centre, "R_ucl": ranges.upper, "S_center": sds.centre,
        "S_sd": sds.sd, "S_ucl": sds.upper,
    }  # fmt: skip
    for key, value in found.items():
        assert value == pytest.approx(want[key], abs=tolerance["abs"]), key
    assert [place + 1 for place in means.beyond] == want["beyond"]


def test_ewma_of_the_handbook(case):
    inputs, want, tolerance = case("nist_6324_ewma")
    chart = ewma_chart(
        np.array(inputs["data"]), inputs["target"], inputs["sigma"], inputs["lam"], inputs["L"]
    )
    assert chart.points == pytest.approx(want["ewma"], abs=tolerance["ewma"])
    assert chart.upper == pytest.approx(want["ucl"], abs=tolerance["ucl"])
    assert chart.lower == pytest.approx(want["lcl"], abs=tolerance["lcl"])
    assert chart.beyond == []


def test_cusum_of_the_handbook(case):
    inputs, want, tolerance = case("nist_6323_cusum")
    chart = cusum_chart(np.array(inputs["data"]), inputs["target"], inputs["k"], inputs["h"])
    assert chart.high == pytest.approx(want["s_hi"], abs=tolerance["s_hi"])
    assert chart.low == pytest.approx(want["s_lo"], abs=tolerance["s_lo"])
    assert chart.beyond[0] + 1 == want["first_signal"]


def test_run_lengths_of_crowder(case):
    inputs, want, tolerance = case("crowder_ewma_arl")
    for weight, key in zip(inputs["lam"], ("l5", "l05"), strict=True):
        found = [ewma_run_length(shift, weight, inputs["L"]) for shift in inputs["mu"]]
        assert found == pytest.approx(want[key], abs=tolerance["abs"])


@pytest.mark.parametrize(
    ("length", "published"),
    [
        (shewhart_run_length, [370, 155, 44, 6.3]),
        (ewma_run_length, [500, 42, 10.5, 3.7]),
        (cusum_run_length, [465, 38, 10.4, 4.0]),
    ],
)
def test_run_lengths_of_the_design_figures(length, published):
    assert [length(shift) for shift in (0, 0.5, 1, 2)] == pytest.approx(published, rel=0.012)
    assert length(-1.0) == pytest.approx(length(1.0), rel=1e-9)


def test_the_run_length_of_simulated_charts():
    rng = np.random.default_rng(1)
    lengths = {"ewma": [], "cusum": []}
    for _ in range(400):
        values = rng.normal(1.0, 1.0, 150)
        lengths["ewma"].append(ewma_chart(values, 0.0, 1.0).beyond[0] + 1)
        lengths["cusum"].append(cusum_chart(values, 0.0, 0.5, 5.0).beyond[0] + 1)
    assert np.mean(lengths["ewma"]) == pytest.approx(ewma_run_length(1.0), rel=0.1)
    assert np.mean(lengths["cusum"]) == pytest.approx(cusum_run_length(1.0), rel=0.1)


@pytest.mark.parametrize(("n", "d2", "d3"), [(2, 1.12838, 0.85250), (5, 2.32593, 0.86408)])
def test_factors_of_the_range(n, d2, d3):
    assert range_factors(n) == pytest.approx((d2, d3), abs=1e-5)
    assert range_factors(20)[0] == pytest.approx(3.73495, abs=1e-5)
    assert c4(2) == pytest.approx(math.sqrt(2 / math.pi))


def test_individuals():
    chart = individuals_chart(np.array([1.0, 2.0, 1.0, 2.0, 9.0]), first=4)
    assert chart.sd == pytest.approx(1 / 1.128379, rel=1e-6)
    assert chart.beyond == [4]
    with pytest.raises(BatterylabError):
        individuals_chart(np.array([1.0]))


def test_a_change_is_found_where_it_is_and_rarely_where_none_is():
    rng = np.random.default_rng(2)
    values = rng.normal(0.0, 1.0, 30)
    values[18:] += 3.0
    found = change_point(values)
    assert abs(found.place - 18) <= 1
    assert found.shift == pytest.approx(3.0, abs=1.0)
    assert found.p_value <= 0.001
    assert found == change_point(values)
    called = [change_point(rng.normal(size=12), trials=199).p_value <= 0.05 for _ in range(500)]
    assert np.mean(called) < 0.08
    assert change_point(np.ones(9)) is None
    assert change_point(np.arange(4.0)) is None


def test_hotelling_of_ryan(case):
    inputs, want, tolerance = case("ryan_T2", "multivariate")
    values = np.stack([np.array(inputs["X1"]), np.array(inputs["X2"])], axis=2)
    chart = grouped(values, inputs["confidence"])
    assert chart.centre == pytest.approx(want["center"], abs=tolerance["default"])
    assert chart.covariance.ravel() == pytest.approx(
        np.array(want["cov"]).ravel(), abs=tolerance["default"]
    )
    assert np.linalg.det(chart.covariance) == pytest.approx(want["det"], abs=tolerance["det"])
    assert chart.limit == pytest.approx(want["ucl"], abs=tolerance["ucl"])
    assert [place + 1 for place in chart.beyond] == [10, 20]
    assert confidence_of_three_sigma(2) == pytest.approx(inputs["confidence"], abs=1e-6)


def test_odd_lots_do_not_hide_behind_each_other():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(40, 4)) @ rng.normal(size=(4, 4)) * [1.0, 10.0, 0.1, 5.0] + 100.0
    odd = values.copy()
    odd[:8] += 30.0 * values.std(axis=0)
    assert set(range(8)) <= set(robust(odd).beyond)
    centre = odd.mean(axis=0)
    classic = np.einsum("ni,ij,nj->n", odd - centre, np.linalg.inv(np.cov(odd.T)), odd - centre)
    assert classic[:8].max() < 20  # what a plain centre would have made of them


def test_the_robust_chart_signals_as_often_as_it_says_and_has_no_unit():
    rng = np.random.default_rng(4)
    called = [bool(robust(rng.normal(size=(25, 3))).beyond) for _ in range(400)]
    assert np.mean(called) == pytest.approx(0.05, abs=0.035)
    values = rng.normal(size=(25, 3))
    turned = values * [1e-3, 5.0, 1e4] + [5.0, 0.0, -7.0]
    assert robust(turned).points == pytest.approx(robust(values).points, rel=1e-6)


def test_too_little_for_several_features():
    rng = np.random.default_rng(5)
    values = rng.normal(size=(30, 2))
    for wrong in (
        values[:9], values * [1.0, 0.0], np.column_stack([values, values.sum(axis=1)]),
        np.where(values > 2, np.nan, values) * math.nan,
    ):  # fmt: skip
        with pytest.raises(BatterylabError):
            robust(wrong)


def test_the_watch_of_a_scorecard(tmp_path):
    rows = drawn_rows(seed=4, lots=24, cells=4)
    for item in rows:
        number = int(item["lot"][1:])
        item["start_utc"] = f"2026-{1 + number // 28:02d}-{1 + number % 28:02d}T06:00:00+00:00"
        if item["supplier"] == "Beta" and number > 14:
            item["value"] -= 0.05
    data = scorecard(make_study(tmp_path), frame(rows)).to_dict()
    found = data["watch"]["features"]["capacity_Ah"]
    assert found["Alpha"]["change"] is None
    assert not found["Alpha"]["provisional"]
    assert found["Alpha"]["lots"][:10] == [f"A{n}" for n in range(1, 11)]  # by time, not by name
    change = found["Beta"]["change"]
    assert change["from_lot"] == "B15"
    assert change["shift"] == pytest.approx(-0.05, abs=0.015)
    assert found["Beta"]["signals"]["cusum"]
    assert data["watch"]["run_lengths"]["cusum"]["0"] == pytest.approx(465.4, abs=0.1)
    few = scorecard(make_study(tmp_path), frame(drawn_rows(lots=6))).to_dict()
    assert few["watch"]["features"]["capacity_Ah"]["Alpha"]["provisional"]
    assert scorecard(make_study(tmp_path), frame(drawn_rows())).to_dict()["watch"] is None
