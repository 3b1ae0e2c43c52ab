"""Plans: power on lot means, precision of spreads, what it costs, and the command."""

import json

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from supplier_tables import drawn_rows, frame, make_study

from batterylab.cli import cli, main
from batterylab.errors import BatterylabError, NotMetError
from batterylab.studyfiles import write_study
from batterylab.suppliers import scorecard
from batterylab.suppliers.plans import (
    Costs,
    Question,
    Spread,
    cheapest,
    degrees_for_sigma,
    detectable,
    floor_of_difference,
    option,
    options,
    power,
    power_of_sigma_ratio,
    sigma_bounds_percent,
    spread_of,
)

USUAL = Spread(0.2, 0.25)


@pytest.mark.parametrize(
    ("lots", "cells", "published"), [(3, 10, 0.76), (3, 30, 0.72), (10, 6, 0.35), (20, 5, 0.24)]
)
def test_detectable_differences_of_the_design_figures(lots, cells, published):
    # the published ones add two central t quantiles; the noncentral t gives up to 2.5 % more
    found = detectable(lots, cells, USUAL, pooled=True)
    assert found == pytest.approx(published, rel=0.026)
    assert detectable(lots, cells, USUAL) > found  # Welch's test costs something on top


@pytest.mark.parametrize(("lots", "difference"), [(2, 1.5), (3, 0.6), (6, 0.5), (12, 0.2)])
def test_the_power_is_that_of_simulated_studies(lots, difference):
    import numpy as np

    from batterylab.suppliers.comparison import welch

    rng = np.random.default_rng(lots)
    trials = 3000
    found = 0
    for _ in range(trials):
        a, b = rng.normal(0.0, USUAL.lot_mean(8), (2, lots))
        test = welch(a + difference, b)
        found += test.p_value < 0.05 and test.difference > 0
    assert power(difference, lots, 8, USUAL) == pytest.approx(found / trials, abs=0.03)


def test_power_at_no_difference_is_half_the_risk_or_less():
    assert power(0.0, 30, 5, USUAL) == pytest.approx(0.025, abs=0.001)
    assert power(0.0, 3, 5, USUAL) < 0.025
    assert power(0.0, 3, 5, USUAL, pooled=True) == pytest.approx(0.025, abs=1e-9)
    assert power(1.0, 1, 50, USUAL) == 0.0


@pytest.mark.parametrize(
    ("cells", "one", "two"), [(10, 0.31, 0.20), (30, 0.69, 0.57), (50, 0.88, 0.80)]
)
def test_power_to_see_a_spread_half_as_large_again(cells, one, two):
    assert power_of_sigma_ratio(1.5, cells, two_sided=False) == pytest.approx(one, abs=0.005)
    assert power_of_sigma_ratio(1.5, cells) == pytest.approx(two, abs=0.005)


@pytest.mark.parametrize(("cells", "low", "high"), [(10, -31, 83), (30, -20, 34), (100, -12, 16)])
def test_precision_of_a_spread(cells, low, high):
    assert [round(end) for end in sigma_bounds_percent(cells - 1)] == [low, high]
    assert degrees_for_sigma(sigma_bounds_percent(cells - 1)[1] + 1e-9) == cells - 1


def test_the_cheapest_plan_answers_and_no_smaller_one_does():
    question, costs = Question(0.5, sigma_percent=40), Costs(48.0, 48)
    found = options(question, USUAL, costs)
    best = cheapest(found)
    assert best.power >= 0.9
    assert best.lots * (best.cells - 1) >= degrees_for_sigma(40)
    for lots in range(2, 21):
        for cells in range(4, 24):
            other = option(question, USUAL, costs, lots, cells)
            if other.cost_hours < best.cost_hours:
                assert other.power < 0.9 or lots * (cells - 1) < degrees_for_sigma(40)
    # lots that cost much are replaced by cells
    dear = cheapest(options(question, USUAL, Costs(1.0, 48, 500.0)))
    assert dear.lots < best.lots
    assert dear.cells > best.cells


def test_endless_cells_do_not_replace_lots():
    question = Question(0.1)
    assert options(question, USUAL, Costs(48.0)) == []
    floor = floor_of_difference(20, USUAL, question)
    assert 0.1 < floor < detectable(20, 400, USUAL)
    assert floor == pytest.approx(detectable(20, 10**7, USUAL), rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(2, 15), st.integers(2, 40), st.floats(0.0, 2.0), st.floats(0.01, 2.0),
    st.floats(0.01, 3.0),
)  # fmt: skip
def test_power_rises_with_all_that_should_raise_it(lots, cells, lot, cell, difference):
    spread = Spread(lot, cell)
    base = power(difference, lots, cells, spread)
    assert 0.0 <= base <= 1.0
    assert power(1.1 * difference, lots, cells, spread) >= base - 1e-9
    assert power(difference, lots + 1, cells, spread) >= base - 1e-9
    assert power(difference, lots, cells + 1, spread) >= base - 1e-9


@pytest.mark.parametrize(
    "make",
    [
        lambda: Spread(-0.1, 0.2), lambda: Spread(0.0, 0.0), lambda: Spread(float("nan"), 1.0),
        lambda: Question(0.0), lambda: Question(0.5, power=1.0), lambda: Question(0.5, risk=0.0),
        lambda: Question(0.5, least_cells=1), lambda: Costs(-1.0), lambda: degrees_for_sigma(0.0),
        lambda: detectable(1, 9, USUAL),
    ],
)  # fmt: skip
def test_nonsense_is_refused(make):
    with pytest.raises(BatterylabError):
        make()


def test_the_spread_of_a_scorecard(tmp_path):
    rows = drawn_rows(lots=12, cells=12)
    found = spread_of(scorecard(make_study(tmp_path), frame(rows)).to_dict())
    assert found.lot == pytest.approx(0.2, rel=0.4)
    assert found.cell == pytest.approx(0.25, rel=0.15)
    assert spread_of({"ranking": {"feature": None}, "features": {}}) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("plan") / "s"
    write_study(place)
    return place


def test_the_command_prints_the_plan_it_computes(folder):
    plain = CliRunner().invoke(cli, ["study", "plan", str(folder)])
    assert plain.exit_code == 0
    assert "Qualification, cheapest: 6 lots of 4 cells from each supplier: 48 cells" in plain.stdout
    assert "variables              n 35, k 2.527" in plain.stdout
    found = json.loads(CliRunner().invoke(cli, ["study", "plan", str(folder), "--json"]).stdout)
    best = found["qualification"]["cheapest"]
    assert (best["lots"], best["cells"], best["total_cells"]) == (6, 4, 48)
    assert found["costs"]["channels"] == 48
    assert best["cost_hours"] == pytest.approx(48 * found["costs"]["hours_per_cell"])
    assert 24 < found["costs"]["hours_per_cell"] < 72
    assert found["acceptance"]["cheapest"] == "variables"
    assert found["watch"]["accepts_at_aql"] > 0.94


def test_the_command_plans_with_what_the_scorecard_saw(folder, tmp_path):
    write_study(tmp_path / "t")
    (tmp_path / "t/results").mkdir()
    card = scorecard(make_study(tmp_path / "other"), frame(drawn_rows(lots=6)))
    card.write(tmp_path / "t/results")
    run = CliRunner().invoke(cli, ["study", "plan", str(tmp_path / "t"), "--json"])
    assert "scorecard" in json.loads(run.stdout)["spread"]["source"]
    (tmp_path / "t/results/scorecard.json").write_text("[]")
    run = CliRunner().invoke(cli, ["study", "plan", str(tmp_path / "t")])
    assert isinstance(run.exception, BatterylabError)


def test_what_cannot_be_answered_ends_with_3(folder):
    run = CliRunner().invoke(cli, ["study", "plan", str(folder), "--difference", "0.01"])
    assert isinstance(run.exception, NotMetError)
    assert "no plan answers this" in run.stdout


@pytest.mark.parametrize(
    "options",
    [["--aql", "3"], ["--power", "100"], ["--sigma-cell", "-1"], ["--hours-per-cell", "nan"],
     ["--least-cells", "1"], ["--aql", "1.99"], ["--difference", "nan"]],
)  # fmt: skip
def test_wrong_options_are_one_line(folder, options, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["study", "plan", str(folder), *options])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("Error: ")
