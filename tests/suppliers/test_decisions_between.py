"""Verdicts in the scorecard, stakes, weighted scores, packs, causes, percentiles, exclusions."""

import math

import numpy as np
import pytest
from supplier_tables import LIMITS, drawn_rows, frame, gauge_rows, make_study, row

from batterylab.errors import BatterylabError, ProblemsError
from batterylab.suppliers import scorecard
from batterylab.suppliers.consistency import Potentials, sensitivities, shares
from batterylab.suppliers.pack import loss_percent
from batterylab.suppliers.packrun import CellModel, run
from batterylab.suppliers.packs import assigned_groups
from batterylab.suppliers.percentiles import fit, percentile_indices

EXTRA = """
pack: {series: 20, parallel: 2}
equivalence: [{feature: capacity_Ah, margin: 1 %}]
weights:
  - {feature: capacity_Ah, weight: 2, worst: 4.9 Ah, best: 5.4 Ah}
  - {feature: dcir_10s_mOhm, weight: 1, worst: 45 mOhm, best: 25 mOhm}
costs: {currency: EUR, cells: 1000, bad_cell_accepted: 50, good_cell_refused: 5, per_Wh: 0.1}
temperature: {at: 25 degC, within: 2 degC}
"""


def both(seed=1, means=(("Alpha", 5.2), ("Beta", 5.1)), lots=6, **other):
    ohms = [
        {**r, "value": 30.0 * r["value"] / 5.0, "feature": "dcir_10s_mOhm", "unit": "mOhm"}
        for r in drawn_rows(seed + 50, means, lots)
    ]
    watts = [
        {**r, "value": 3.6 * r["value"], "feature": "energy_Wh", "unit": "Wh"}
        for r in drawn_rows(seed, means, lots, **other)
    ]
    return [*drawn_rows(seed, means, lots, **other), *ohms, *watts]


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "s", extra=EXTRA)


def test_verdict_loss_and_score_of_two_suppliers(study):
    card = scorecard(study, frame(both())).to_dict()
    (pair,) = card["between"]
    assert pair["verdict"] == "A BETTER"
    assert pair["margin"] == pytest.approx(0.0515, rel=0.01)
    assert pair["probability_a_better"] > 0.99
    assert pair["probability_equivalent"] < 0.05
    worth = 0.1 * 3.6 * 1000  # of an Ah in a thousand cells
    assert pair["expected_loss_b_money"] == pytest.approx(worth * pair["expected_loss_b"], rel=1e-6)
    score = card["ranking"]["weighted"]
    wanted = (2 * (5.2 - 4.9) / 0.5 + (45 - 31.2) / 20) / 3
    assert score["scores"]["Alpha"] == pytest.approx(wanted, abs=0.02)
    for ranks in score["rank_acceptability"].values():
        assert sum(ranks) == pytest.approx(1.0)
    stakes = card["decision"]["Alpha"]
    assert stakes["probability_conforms"] > 0.95
    assert stakes["expected_loss"]["refuse"] == pytest.approx(5000, rel=0.01)
    assert scorecard(study, frame(both())).to_dict() == card


def test_alike_suppliers_are_equivalent_and_few_lots_decide_nothing(study):
    alike = both(means=(("Alpha", 5.2), ("Beta", 5.2)), lots=12)
    (pair,) = scorecard(study, frame(alike)).to_dict()["between"]
    assert pair["verdict"] == "EQUIVALENT"
    thin = both(means=(("Alpha", 5.2), ("Beta", 5.18)), lots=2, sigma_lot=0.8)
    card = scorecard(study, frame(thin)).to_dict()
    assert card["between"][0]["verdict"] == "NOT DECIDED"
    assert card["between"][0]["lots_to_decide"] > 2
    assert any("between Alpha and Beta" in text for text in card["would_change"])


def test_one_lot_says_how_many_would_decide(study):
    rows = [r for r in both() if r["supplier"] == "Alpha" or r["lot"] == "B1"]
    card = scorecard(study, frame(rows)).to_dict()
    assert card["decision"]["Beta"]["verdict"] == "NOT ENOUGH DATA"
    assert any("lots of" in text and "would decide" in text for text in card["would_change"])
    assert card["between"][0]["reason"].endswith("Beta has fewer")


def test_what_is_excluded_is_shown_with_and_without(study):
    rows = both()
    rows += [row("A1-001", 4.0, day=9, state="invalid"), row("A1-002", 5.19, day=9)]
    seal = rows[0]["seal"]
    hot = row(rows[0]["serial"], 31.0, feature="test_temperature_degC", seal=seal)
    card = scorecard(study, frame([*rows, {**hot, "seal": seal}])).to_dict()
    cases = {item["case"]: item for item in card["sensitivity"]}
    assert cases["what is excluded counted too"]["changed"] == ["Alpha"]
    assert cases["what is excluded counted too"]["verdicts"]["Alpha"] == "REJECT"
    assert "tests at another temperature left out" in cases
    (away,) = card["out_of_temperature"]
    assert away["temperature_degC"] == 31.0
    assert "test_temperature_degC" not in card["features"]
    repeated = [r for r in card["exclusions"] if "not the last valid" in r["reason"]]
    assert repeated


def test_an_odd_cell_counts_and_its_effect_is_shown(study):
    rows = both()
    rows[3]["value"] = 5.0
    card = scorecard(study, frame(rows)).to_dict()
    (case,) = [c for c in card["sensitivity"] if c["case"] == "cells far off their lot left out"]
    whole = card["features"]["capacity_Ah"]["suppliers"]["Alpha"]["sd_total"]
    assert case["sd_total"]["Alpha"] < whole


@pytest.mark.parametrize(
    ("extra", "said"),
    [("equivalence: [{feature: capacity_Ah, margin: 5 V}]", "is no capacity_Ah"),
     ("equivalence: [{feature: capacity_Ah}]", "one margin"),
     ("weights: [{feature: capacity_Ah, weight: 1, worst: 5 Ah, best: 5 Ah}]", "the same"),
     ("costs: {cells: 0}", "cells"),
     ("temperature: {at: 25 V, within: 2 K}", "degC"),
     ("watch: {ewma_weight: 2}", "ewma_weight"),
     ("channel_correction: always", "channel_correction")],
)  # fmt: skip
def test_a_wrong_key_is_one_clear_problem(tmp_path, extra, said):
    with pytest.raises(ProblemsError) as caught:
        make_study(tmp_path / "s", extra=extra)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("limits", "said"),
    [("{feature: capacity_Ah, lower: 5.45 Ah, upper: 4.95 Ah}", "swap them"),
     ("{feature: capacity_Ah, lower: 4950 mAhh}", "unit"),
     (LIMITS + ", " + LIMITS, "stands twice")],
)  # fmt: skip
def test_swapped_or_doubled_limits_are_refused(tmp_path, limits, said):
    with pytest.raises(ProblemsError) as caught:
        make_study(tmp_path / "s", limits=limits)
    assert said in str(caught.value)


def test_capacities_in_mAh_are_caught_by_the_data_sheet(study):
    rows = [{**r, "value": 1000 * r["value"]} for r in drawn_rows()]
    with pytest.raises(BatterylabError, match="mAh"):
        scorecard(study, frame(rows))


def test_equal_values_and_single_cells_give_no_silent_number(study):
    equal = [{**r, "value": 5.2} for r in drawn_rows()]
    card = scorecard(study, frame(equal)).to_dict()
    assert card["decision"]["Alpha"]["verdict"] == "CONDITIONAL"
    assert card["features"]["capacity_Ah"]["suppliers"]["Alpha"]["sd_cell_interval"] is None
    each = [{**r, "value": 5.2 if r["supplier"] == "Alpha" else 5.1} for r in drawn_rows()]
    assert scorecard(study, frame(each)).to_dict()["features"]["capacity_Ah"]["components"] is None
    single = scorecard(study, frame([row("S1", 5.2), row("S2", 5.1, supplier="Beta", lot="B1")]))
    assert set(single.verdicts.values()) == {"NOT ENOUGH DATA"}


# Packs


def test_equal_cells_give_what_they_hold_and_spread_costs_the_closed_form():
    model = CellModel(4.2, 2.5, 3.6)
    equal = run(np.full((1, 96, 1), 5.0), np.full((1, 96, 1), 1e-6), model)
    assert equal.charge_Ah[0] == pytest.approx(5.0, rel=2e-3)
    assert equal.energy_Wh[0] == pytest.approx(96 * 5.0 * 3.6, rel=5e-3)
    assert equal.left_percent[0] == pytest.approx(0.0, abs=0.3)
    rng = np.random.default_rng(1)
    cells = 5.0 * (1 + 0.01 * rng.normal(size=(300, 48, 2)))
    found = run(cells, np.full(cells.shape, 1e-3), model)
    mean = cells.mean(axis=(1, 2)) * 2
    base = run(np.full((1, 48, 2), 5.0), np.full((1, 48, 2), 1e-3), model).charge_Ah[0] / 10.0
    lost = 100 * np.mean(1 - found.charge_Ah / (mean * base))
    assert lost == pytest.approx(loss_percent(1.0, 48, 2), rel=0.06)


def test_parallel_cells_share_the_current_by_their_resistance():
    resistance = np.full((1, 4, 2), 0.02)
    resistance[0, :, 1] = 0.04
    found = run(np.full((1, 4, 2), 5.0), resistance, CellModel(4.2, 2.5, 3.6))
    assert found.current_ratio[0] == pytest.approx(4 / 3, rel=0.05)
    assert found.power_W[0] > 0
    with pytest.raises(BatterylabError):
        run(np.full((1, 4, 2), 5.0), np.zeros((1, 4, 2)), CellModel(4.2, 2.5, 3.6))


def test_assignment_evens_out_capacity_and_conductance_together():
    rng = np.random.default_rng(2)
    capacity, conductance = rng.normal(5, 0.05, 96), rng.normal(40, 1.0, 96)
    groups = assigned_groups(capacity, conductance, 24, 4)
    assert sorted(groups.ravel()) == list(range(96))
    for values in (capacity, conductance):
        assert np.std(values[groups].sum(axis=1)) < 0.6 * np.std(values.reshape(24, 4).sum(axis=1))


# Causes


def test_shares_add_up_and_noise_in_a_parameter_does_not_bias_them():
    rng = np.random.default_rng(3)
    lots = [str(n) for n in np.repeat(np.arange(6), 40)]
    cause, other = rng.normal(0, 1.0, 240), rng.normal(0, 0.5, 240)
    target = cause + other
    found = shares(target, {"cause": cause + rng.normal(0, 1.0, 240)}, lots)
    assert sum(item.share for item in found) == pytest.approx(1.0)
    assert found[0].interval[0] <= 0.8 <= found[0].interval[1]
    assert shares(target[:3], {"cause": cause[:3]}, lots[:3]) == []


def test_sensitivities_are_those_of_a_cell_solved_again():
    grid = np.linspace(0.0, 1.0, 2001)
    curves = Potentials(0.0, 0.0005, 0.6 - 0.5 * grid, 4.6 - 1.1 * grid)
    q_n, q_p, lithium = 6.0, 8.0, 7.0

    def window(q_n, q_p, lithium):
        ends = []
        for volts in (4.1, 3.4):  # U_p - U_n = 4.0 - 1.1 y + 0.5 x
            x = (volts - 4.0 + 1.1 * lithium / q_p) / (0.5 + 1.1 * q_n / q_p)
            ends.append((x, (lithium - q_n * x) / q_p))
        return ends, q_n * (ends[0][0] - ends[1][0])

    ((x_high, y_high), (x_low, y_low)), capacity = window(q_n, q_p, lithium)
    values = {"negative_capacity_Ah": q_n, "positive_capacity_Ah": q_p, "x_high": x_high,
              "y_high": y_high, "x_low": x_low, "y_low": y_low}  # fmt: skip
    found = sensitivities({"values": values}, curves, 2.0)
    step = 1e-5
    for name, moved in (
        ("negative_capacity_Ah", (q_n + step, q_p, lithium)),
        ("positive_capacity_Ah", (q_n, q_p + step, lithium)),
        ("lithium_inventory_Ah", (q_n, q_p, lithium + step)),
    ):
        slope = (window(*moved)[1] - capacity) / step
        assert found[name] == pytest.approx(slope, abs=1e-4), name
    assert found["resistance_mOhm"] < 0


# Percentiles


@pytest.mark.parametrize("name", ["normal", "lognormal", "weibull", "gamma", "pearson3"])
def test_a_fit_knows_its_own_quantiles(name):
    rng = np.random.default_rng(4)
    values = 5 + 0.1 * rng.gamma(4.0, size=400)
    found = fit(values, name)
    for share in (0.00135, 0.5, 0.9):
        assert float(found.below(found.quantile(share))) == pytest.approx(share, rel=1e-6)
    assert math.isfinite(found.anderson_darling(values))
    index = percentile_indices(found, 4.5, None)
    assert index.pp is None
    assert index.ppk == index.ppl


def test_skewed_cells_get_the_percentile_method_and_normal_ones_do_not(tmp_path):
    study = make_study(tmp_path / "s")
    rows = drawn_rows(lots=6, cells=20)
    plain = scorecard(study, frame(rows)).to_dict()["features"]["capacity_Ah"]["suppliers"]
    assert plain["Alpha"]["capability"]["percentile"] is None
    rng = np.random.default_rng(5)
    for r in rows:
        r["value"] = 5.3 - 0.03 * rng.gamma(1.0)
    skewed = scorecard(study, frame(rows)).to_dict()["features"]["capacity_Ah"]["suppliers"]
    entry = skewed["Alpha"]["capability"]["percentile"]
    assert entry["anderson_darling"] < entry["anderson_darling_normal"]
    assert entry["ppk_interval"][0] < entry["ppk"] < entry["ppk_interval"][1] * 1.5


def test_a_gauge_study_tells_whether_the_spread_is_resolved(tmp_path):
    study = make_study(tmp_path / "s")
    fine = scorecard(study, frame(drawn_rows() + gauge_rows(channel=0.01, repeat=0.01))).to_dict()
    coarse = scorecard(study, frame(drawn_rows() + gauge_rows(channel=0.2, repeat=0.2))).to_dict()
    got = [card["features"]["capacity_Ah"]["suppliers"]["Alpha"]["spread_is_resolved"]
           for card in (fine, coarse)]  # fmt: skip
    assert got == [True, False]
