"""Tolerance intervals: worked examples, and how often they hold."""

import json

import numpy as np
import pytest
from scipy.special import ndtr

from batterylab.errors import BatterylabError
from batterylab.suppliers.components import LotSample, pivots
from batterylab.suppliers.tolerance import (
    covering_confidence,
    free_interval,
    howe_factor,
    lot_bounds,
    natrella_factor,
    one_sided_factor,
    two_sided_factor,
    values_needed,
)


@pytest.fixture
def case(shared_data):
    def find(name):
        file = shared_data / "cases" / "tolerance_intervals.json"
        cases = json.loads(file.read_text())["cases"]
        found = next(item for item in cases if item["id"] == name)
        return found["inputs"], found["expected"], found["tolerance"]["abs"]

    return find


def test_factors_of_the_handbook(case):
    inputs, want, near = case("nist_7263_howe")
    at = inputs["n"], inputs["p"], inputs["gamma"]
    assert howe_factor(*at) == pytest.approx(want["k2"], abs=near)
    inputs, want, near = case("nist_7263_one_sided")
    assert natrella_factor(*at) == pytest.approx(want["natrella"], abs=near)
    assert one_sided_factor(*at) == pytest.approx(want["exact"], abs=near)


def test_the_exact_two_sided_factor(case):
    inputs, want, near = case("k2_exact_43")
    found = two_sided_factor(inputs["n"], inputs["p"], inputs["gamma"])
    assert found == pytest.approx(want["k2"], abs=near)
    assert found == pytest.approx(want["k2"], abs=1e-9)


def test_values_needed_without_a_distribution(case):
    inputs, want, _ = case("wilks_distribution_free_n")
    for key, number in want.items():
        side, percent = key.split("_")
        found = values_needed(int(percent) / 100, inputs["confidence"], two_sided=side == "two")
        assert found == number, key


@pytest.mark.parametrize(("count", "factor"), [(2, 36.5192), (10, 3.3935), (100, 2.2328)])
def test_two_sided_factors_of_published_tables(count, factor):
    assert two_sided_factor(count, 0.95, 0.95) == pytest.approx(factor, abs=2e-3)


@pytest.mark.parametrize(("count", "factor"), [(2, 26.260), (10, 2.911), (100, 1.927)])
def test_one_sided_factors_of_published_tables(count, factor):
    assert one_sided_factor(count, 0.95, 0.95) == pytest.approx(factor, abs=1e-3)


def test_normal_intervals_hold_as_often_as_they_say():
    values = np.random.default_rng(1).normal(size=(20_000, 8))
    mean, sd = values.mean(axis=1), values.std(axis=1, ddof=1)
    k1, k2 = one_sided_factor(8, 0.99), two_sided_factor(8, 0.9)
    above = 1 - ndtr(mean - k1 * sd)
    inside = ndtr(mean + k2 * sd) - ndtr(mean - k2 * sd)
    assert np.mean(above >= 0.99) == pytest.approx(0.95, abs=0.005)
    assert np.mean(inside >= 0.9) == pytest.approx(0.95, abs=0.005)


def test_free_intervals_hold_for_skewed_values():
    rng = np.random.default_rng(2)
    held = []
    for _ in range(3000):
        low, high = free_interval(rng.exponential(size=60), 0.8)
        held.append(np.exp(-low) - np.exp(-high) >= 0.8)
    assert 0.94 <= np.mean(held) <= 0.99
    assert free_interval(np.arange(45.0), 0.9) is None
    assert free_interval(np.arange(46.0), 0.9) == (0.0, 45.0)
    assert covering_confidence(1, 0.9, dropped=2) == 0.0


def test_bounds_for_cells_of_any_lot():
    rng = np.random.default_rng(3)
    held, trials = 0, 800
    for _ in range(trials):
        lots = np.repeat(np.arange(5), 6)
        values = rng.normal(0, 0.2, 5)[lots] + rng.normal(0, 0.25, 30)
        drawn = pivots(LotSample.of(values, [str(n) for n in lots]), points=2048)
        low, high = lot_bounds(drawn, 0.99)
        assert low < high
        held += 1 - ndtr(low / np.hypot(0.2, 0.25)) >= 0.99
    assert held / trials >= 0.93


def test_one_lot_gives_the_exact_bounds():
    values = np.random.default_rng(4).normal(5.0, 0.02, 20)
    drawn = pivots(LotSample.of(values, ["a"] * 20), 0.999)
    k = one_sided_factor(20, 0.99)
    low, high = lot_bounds(drawn, 0.99)
    assert low == pytest.approx(values.mean() - k * values.std(ddof=1), abs=2e-4)
    assert high == pytest.approx(values.mean() + k * values.std(ddof=1), abs=2e-4)


def test_nonsense_is_refused():
    for wrong in (1, 0.9, 0.95), (10, 1.0, 0.95), (10, 0.9, 0.0):
        for factor in one_sided_factor, two_sided_factor, howe_factor, natrella_factor:
            with pytest.raises(BatterylabError):
                factor(*wrong)
