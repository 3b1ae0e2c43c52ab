"""Capability against published figures, and whether its bounds hold."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from batterylab.suppliers.capability import capability, fraction_outside, indices
from batterylab.suppliers.components import LotSample, pivots


@pytest.fixture
def cases(shared_data):
    found = json.loads((shared_data / "cases" / "capability.json").read_text())["cases"]
    return {item["id"]: item for item in found}


def standard(n):
    """Return one lot of n values with mean 0 and standard deviation 1."""
    values = np.random.default_rng(n).normal(size=n)
    return LotSample.of((values - values.mean()) / values.std(ddof=1), ["a"] * n)


def judged(sample, lower, upper):
    return capability(sample, math.sqrt(sample.within), pivots(sample), lower, upper)


def test_nist_example(cases):
    found = cases["nist_6_1_6_cp_cpk"]
    given, want = found["inputs"], found["expected"]
    both = indices(given["mean"], given["s"], given["lsl"], given["usl"])
    assert both.cp == pytest.approx(want["cp"], abs=5e-5)
    assert both.cpk == pytest.approx(want["cpk"], abs=5e-5)
    below = indices(given["mean"], given["s"], given["lsl"], None)
    assert below.cp is None
    assert below.cpk == pytest.approx(want["cpl"], abs=5e-5)
    assert indices(5.0, 0.0, 4.0, 6.0).cpk is None


def test_performance_indices_that_minitab_confirms(cases):
    found = cases["jasp_minitab_diameter_normal"]
    values = np.array(found["inputs"]["data"]).ravel()
    want = found["expected"]
    sample = LotSample.of(values, ["all"] * len(values))
    got = judged(sample, found["inputs"]["lsl"], found["inputs"]["usl"])
    assert math.sqrt(sample.within) == pytest.approx(want["sd_overall"], abs=1e-9)
    assert got.cp == pytest.approx(want["pp"], abs=0.0051)
    assert got.cpk == pytest.approx(want["ppk"], abs=0.0051)
    assert got.cpk_lower_95 == pytest.approx(want["ppk_ci"][0], abs=0.0051)
    ppm = want["ppm_overall_below"] + want["ppm_overall_above"]
    assert 1e6 * got.fraction_outside == pytest.approx(ppm, abs=0.02)
    assert got.n == 100


def test_one_sided_tolerance_factor_of_nist(shared_data):
    """At k standard deviations from the limit, the 99 % bound of the share outside is 10 %."""
    text = (shared_data / "cases" / "tolerance_intervals.json").read_text()
    cases = {item["id"]: item for item in json.loads(text)["cases"]}
    want = cases["nist_7263_one_sided"]
    given = want["inputs"]
    sample = standard(given["n"])
    drawn = pivots(sample)
    shares = fraction_outside(drawn.mean, np.sqrt(drawn.total), -want["expected"]["exact"], None)
    assert np.quantile(shares, given["gamma"]) == pytest.approx(1 - given["p"], abs=1e-3)


@pytest.mark.parametrize(("n", "estimate"), [(10, 2.22), (30, 1.72), (50, 1.61), (100, 1.52)])
def test_what_cpk_proves_1_33(n, estimate):
    exact = stats.nct.ppf(0.95, n - 1, 3 * math.sqrt(n) * 1.33) / (3 * math.sqrt(n))
    assert exact == pytest.approx(estimate, abs=0.006)
    got = judged(standard(n), -3 * exact, None)
    assert got.cpk_lower_95 == pytest.approx(1.33, abs=0.006)


@pytest.mark.parametrize(
    ("counts", "lower", "upper"), [([4, 8, 12], 99.2, None), ([6] * 6, 99.2, 101.2)]
)
def test_the_bounds_of_lots_hold(counts, lower, upper):
    rng = np.random.default_rng(11)
    sigma_lot, sigma_cell = 0.2, 0.25
    share = float(fraction_outside(100.0, math.hypot(sigma_lot, sigma_cell), lower, upper))
    index = indices(100.0, math.hypot(sigma_lot, sigma_cell), lower, upper).cpk
    trials, held, held_index, proven = 600, 0, 0, 0
    lots = np.repeat(np.arange(len(counts)), counts)
    for _ in range(trials):
        values = 100 + rng.normal(0, sigma_lot, len(counts))[lots]
        values += rng.normal(0, sigma_cell, len(lots))
        sample = LotSample.of(values, [str(n) for n in lots])
        got = capability(sample, 1.0, pivots(sample, points=2048), lower, upper)
        held += share <= got.fraction_outside_upper_95
        held_index += index >= got.cpk_lower_95
        proven += got.fraction_outside_lower_99 > share
    assert held / trials >= 0.93
    assert held_index / trials >= 0.93
    assert proven / trials <= 0.05


def test_pooling_cells_over_lots_would_promise_too_much():
    """The bound of lots is wider than that of as many independent cells."""
    rng = np.random.default_rng(12)
    lots = np.repeat(np.arange(3), 8)
    values = 100 + np.array([-0.3, 0.0, 0.3])[lots] + rng.normal(0, 0.2, 24)
    in_lots = LotSample.of(values, [str(n) for n in lots])
    as_one = LotSample.of(values, ["a"] * 24)
    ours = capability(in_lots, 0.36, pivots(in_lots), 98.0, None)
    naive = capability(as_one, 0.36, pivots(as_one), 98.0, None)
    assert ours.fraction_outside_upper_95 > 10 * naive.fraction_outside_upper_95


def test_without_spread_or_limits_there_is_no_capability():
    sample = LotSample.of([5.0, 5.0], ["a", "a"])
    assert capability(sample, 0.0, None, 4.0, 6.0) is None
    assert judged(standard(5), None, None) is None
