"""Trend, nested studies, references, budgets, positions, and bounds on a poor bench."""

import math

import numpy as np
import pytest
from supplier_tables import drawn_rows, frame, gauge_rows

from batterylab.study import Coefficient, Limit, Reference, WantedTemperature
from batterylab.suppliers.budget import budget, temperature_effect
from batterylab.suppliers.calibration import levels
from batterylab.suppliers.capability import capability
from batterylab.suppliers.components import LotSample, pivots
from batterylab.suppliers.conformity import risks
from batterylab.suppliers.estimates import Measurement
from batterylab.suppliers.gauging import study_of
from batterylab.suppliers.measurement import crossed_study
from batterylab.suppliers.nested import NestedStudy
from batterylab.suppliers.positions import positions_entry
from batterylab.suppliers.reference import line, linearity, references_entry, type1
from batterylab.suppliers.sampling import readings_of, select
from batterylab.suppliers.trend import places_of, trend


def gauge_of(rows):
    return select(readings_of(frame(rows))).gauge["capacity_Ah"]


def with_trend(rows, slope):
    """Add a slope over the tests of a cell; every test gets its own time."""
    seen = {}
    for number, row in enumerate(rows):
        row["start_utc"] = f"2026-02-{1 + number // 24:02d}T{number % 24:02d}:00:00+00:00"
        row["value"] += slope * seen.get(row["serial"], 0)
        seen[row["serial"]] = seen.get(row["serial"], 0) + 1
    return rows


def test_the_trend_of_cycling_is_found_and_taken_out():
    plain, bent = (gauge_of(with_trend(gauge_rows(), slope)) for slope in (0.0, -0.01))
    none, found = trend(plain), trend(bent)
    assert not none.is_real
    assert found.is_real
    assert found.interval()[0] <= -0.01 <= found.interval()[1]
    (before, _), (after, taken) = study_of(plain), study_of(bent)
    assert taken.is_real
    ratio = float(after.variances().repeatability) / float(before.variances().repeatability)
    assert 0.5 < ratio < 2.0
    assert max(places_of(bent)) == 7


def test_cells_that_met_one_channel_make_a_nested_study():
    rows = gauge_rows(cells=8, channels=4, repeats=3)
    kept = [r for r in rows if int(r["serial"][-3:]) % 4 == int(r["channel"][-1]) % 4]
    study, _ = study_of(gauge_of(kept))
    assert isinstance(study, NestedStudy)
    assert (study.channels, study.cells, study.repeats) == (4, 2, 3)
    assert math.sqrt(study.variances().repeatability) == pytest.approx(0.03 * 5.1 / 100, rel=0.5)


def test_bias_linearity_and_drift_of_references():
    rng = np.random.default_rng(1)
    true = np.repeat([1.0, 2.0, 5.0, 10.0], 6)
    values = true + 0.02 + 0.01 * true + rng.normal(0, 0.002, len(true))
    found = linearity(list(true), list(values))
    assert found.interval()[0] <= 0.01 <= found.interval()[1]
    assert found.intercept == pytest.approx(0.02, abs=0.005)
    assert type1(list(values[:6]), 1.0, 1.0).bias == pytest.approx(0.03, abs=0.005)
    assert line([1, 1, 1], [1, 2, 3]) is None
    rows = [
        {**r, "serial": "REF", "value": 5.02 + 0.001 * n, "uncertainty": 0.001}
        for n, r in enumerate(with_trend(gauge_rows(cells=1, channels=4, repeats=3), 0.0))
    ]
    selection = select(readings_of(frame([*drawn_rows(), *rows])), references=["REF"])
    assert all(r.serial != "REF" for r in selection.features["capacity_Ah"])
    entry = references_entry(
        "capacity_Ah", [Reference(serial="REF", feature="capacity_Ah", value="5.00 Ah")],
        selection.references["capacity_Ah"], 0.5)  # fmt: skip
    (part,) = entry["parts"]
    assert part["bias_is_real"]
    assert part["drift_per_day"]["slope"] == pytest.approx(0.024, rel=0.01)
    assert part["drift_per_day"]["is_real"]


def test_the_budget_adds_up_and_temperature_is_estimated_within_lots():
    rows = drawn_rows(sigma_cell=0.02)
    rng = np.random.default_rng(2)
    degrees = {r["seal"]: 25 + rng.normal(0, 1.0) for r in rows}
    for r in rows:
        r["value"] *= 1 + 0.006 * (degrees[r["seal"]] - 25)
        r["uncertainty"] = 0.004
    readings = select(readings_of(frame(rows))).features["capacity_Ah"]
    effect = temperature_effect("capacity_Ah", readings, degrees, [])
    assert effect.interval[0] <= 0.006 * 5.1125 <= effect.interval[1]
    given = temperature_effect(
        "capacity_Ah", readings, degrees,
        [Coefficient(feature="capacity_Ah", per_K_percent=0.6)],
    )  # fmt: skip
    assert given.per_K == pytest.approx(0.006 * 5.1125, rel=0.01)
    study = crossed_study(np.random.default_rng(3).normal(5, 0.001, (5, 4, 3)))
    found = budget(readings, Measurement.of(study), effect,
                   WantedTemperature(at="25 degC", within="2 degC"), degrees)  # fmt: skip
    parts = [row["standard_uncertainty"] for row in found["contributions"] if row["counts"]]
    assert found["standard_uncertainty"] == pytest.approx(math.hypot(*parts))
    names = {row["name"]: row["counts"] for row in found["contributions"]}
    assert names["instrument accuracy"]
    assert not names["channels"]
    assert found["expanded_uncertainty"] > 1.9 * found["standard_uncertainty"]


def test_a_warm_shelf_is_seen():
    rows = drawn_rows(lots=3, cells=8)
    for number, r in enumerate(rows):
        r["channel"] = f"{1 + number % 2}-{number}"
        r["value"] += 0.02 * (number % 2)
    readings = select(readings_of(frame(rows))).features["capacity_Ah"]
    shelves = {r["channel"]: f"shelf {r['channel'][0]}" for r in rows}
    found = positions_entry(readings, shelves)
    assert found["are_real"]
    assert found["effects"]["shelf 2"]["effect"] == pytest.approx(0.01, abs=0.004)
    assert positions_entry(readings, {}) is None


@pytest.mark.parametrize("rule", ["simple", "guarded acceptance", "guarded rejection"])
def test_both_parties_risks_are_those_of_simulated_cells(rule):
    limit = Limit(feature="capacity_Ah", lower="4.95 Ah", upper="5.10 Ah", decision_rule=rule)
    found = risks(5.0, 0.03, 0.01, limit)
    rng = np.random.default_rng(4)
    true = rng.normal(5.0, 0.03, 400_000)
    seen = true + rng.normal(0, 0.01, len(true))
    inside = (true >= 4.95) & (true <= 5.10)
    accepted = (seen >= found.accept_lower) & (seen <= found.accept_upper)
    assert found.consumer == pytest.approx(float(np.mean(accepted & ~inside)), abs=6e-4)
    assert found.producer == pytest.approx(float(np.mean(~accepted & inside)), abs=6e-4)
    chance = {"simple": 0.5, "guarded acceptance": 0.05, "guarded rejection": 0.95}
    assert found.consumer_specific == pytest.approx(chance[rule], abs=1e-3)


def test_bounds_on_a_bench_as_wide_as_the_cells_are_narrower_and_hold():
    rng = np.random.default_rng(5)
    trials, held, ratios = 60, 0, []
    lower = -3 * 1.33 * math.hypot(0.8, 1.0)
    for _ in range(trials):
        lots = np.repeat(np.arange(3), 8)
        values = 0.8 * rng.normal(size=3)[lots] + rng.normal(0, math.sqrt(2), 24)
        bench = 0.6 * rng.normal(size=(1, 3, 1)) + 0.8 * rng.normal(size=(10, 3, 3))
        study = crossed_study(rng.normal(size=(10, 1, 1)) + bench)
        sample, parts = LotSample.of(values, [str(n) for n in lots]), study.pivots()
        drawn = pivots(sample, gauge=parts.gauge)
        plain = capability(sample, 1.0, drawn, lower, None)
        ours = capability(sample, 1.0, drawn, lower, None,
                          levels=levels(sample, study, drawn, parts, lower, None))  # fmt: skip
        held += ours.cpk_interval[0] <= 1.33 <= ours.cpk_interval[1]
        ratios.append(np.subtract(*ours.cpk_interval) / np.subtract(*plain.cpk_interval))
    assert np.median(ratios) < 1.0
    assert held / trials >= 0.9
