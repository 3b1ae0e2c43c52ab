"""Differences, probabilities and ratios between suppliers."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from batterylab.suppliers.comparison import (
    posterior_of,
    probability_of_best,
    probability_sigma_smaller,
    sigma_ratio_interval,
    supplier_posterior,
    welch,
)
from batterylab.suppliers.components import LotSample


def supplier(rng, mean, counts=(8, 8, 8), sigma_lot=0.2, sigma_cell=0.25):
    lots = np.repeat(np.arange(len(counts)), counts)
    values = mean + rng.normal(0, sigma_lot, len(counts))[lots]
    return LotSample.of(values + rng.normal(0, sigma_cell, len(lots)), [str(n) for n in lots])


def test_welch_of_the_equivalence_example(shared_data):
    text = (shared_data / "cases" / "equivalence.json").read_text()
    found = json.loads(text)["cases"][0]
    given, want = found["inputs"], found["expected"]
    got = welch(np.array(given["A"], float), np.array(given["B"], float))
    assert got.difference == pytest.approx(want["diff"], abs=1e-4)
    assert got.standard_error == pytest.approx(want["se"], abs=1e-4)
    assert got.degrees_of_freedom == pytest.approx(want["df"], abs=6e-4)
    assert got.interval() == pytest.approx(want["ci95"], abs=1e-4)
    assert got.p_above(given["low"]) == pytest.approx(want["p_lower"], abs=6e-6)
    assert 1 - got.p_above(given["high"]) == pytest.approx(want["p_upper"], abs=6e-6)
    scipy_says = stats.ttest_ind(given["A"], given["B"], equal_var=False)
    assert got.p_value == pytest.approx(scipy_says.pvalue, rel=1e-9)


def test_the_probability_that_a_sigma_is_smaller(shared_data):
    found = json.loads((shared_data / "cases" / "bayes.json").read_text())["cases"][0]
    (_, sd_a, n_a), (_, sd_b, n_b) = found["inputs"]["A"], found["inputs"]["B"]
    got = probability_sigma_smaller(sd_a, n_a, sd_b, n_b)
    assert got == pytest.approx(found["expected"]["p_sigma"], abs=6e-4)


def test_the_probability_of_the_higher_mean_against_brute_force():
    a, b = posterior_of(58.3, 0.25, 5), posterior_of(58.2, 0.40, 3)
    rng = np.random.default_rng(1)
    draws = 58.3 + 0.25 / math.sqrt(5) * rng.standard_t(4, 400_000)
    others = 58.2 + 0.40 / math.sqrt(3) * rng.standard_t(2, 400_000)
    found = probability_of_best([a, b])
    assert found[0] == pytest.approx(np.mean(draws > others), abs=0.003)
    assert sum(found) == pytest.approx(1.0)
    assert probability_of_best([a, b], higher=False)[0] == pytest.approx(found[1], abs=1e-3)


def test_of_three_alike_each_is_best_a_third_of_the_time():
    found = probability_of_best([posterior_of(1.0, 0.1, 3)] * 3)
    assert found == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("counts", [(8, 8, 8), (4, 8, 12)])
def test_two_equal_suppliers_are_rarely_told_apart(counts):
    """Lots are the sampling unit: the test holds its level; pooled cells would not."""
    rng = np.random.default_rng(2)
    trials, ours, naive, ratio = 1500, 0, 0, 0
    for _ in range(trials):
        a, b = supplier(rng, 100, counts), supplier(rng, 100, counts)
        ours += welch(a.means, b.means).p_value < 0.05
        low, high = sigma_ratio_interval(a, b)
        ratio += low <= 1.0 <= high
        pooled = [
            math.sqrt((s.sums_of_squares.sum() + np.sum(s.counts * (s.means - s.mean) ** 2)) / 23)
            for s in (a, b)
        ]
        z = abs(a.mean - b.mean) / math.hypot(*pooled) * math.sqrt(24)
        naive += z > 2.01
    assert 0.015 <= ours / trials <= 0.06
    assert naive / trials > 0.15
    assert 0.93 <= ratio / trials <= 0.97


@pytest.mark.parametrize(("spread", "least"), [(0.2, 0.90), (0.5, 0.975)])
def test_claims_of_95_percent_are_true_as_often_as_documented(spread, least):
    """The prior is flat: the wider suppliers truly differ, the more a claim may be believed."""
    rng = np.random.default_rng(3)
    claims, true = 0, 0
    for _ in range(2000):
        difference = rng.normal(0, spread)
        pair = supplier(rng, 100 + difference), supplier(rng, 100)
        share = probability_of_best([supplier_posterior(item) for item in pair])[0]
        if max(share, 1 - share) > 0.95:
            claims += 1
            true += (share > 0.5) == (difference > 0)
    assert claims > 100
    assert true / claims >= least


def test_a_gauge_widens_the_ratio_of_sigmas():
    rng = np.random.default_rng(4)
    a, b = supplier(rng, 100), supplier(rng, 100)
    plain = sigma_ratio_interval(a, b)
    none = sigma_ratio_interval(a, b, gauge=np.zeros(4096))
    assert none == pytest.approx(plain, rel=0.03)
    large = sigma_ratio_interval(a, b, gauge=np.full(4096, 0.06))
    assert large[0] < plain[0]
    assert large[1] is None or large[1] > plain[1]


def test_a_single_lot_has_no_posterior_and_no_difference():
    rng = np.random.default_rng(5)
    one = supplier(rng, 100, counts=(8,))
    assert supplier_posterior(one) is None
    assert welch(one.means, supplier(rng, 100).means) is None
    same = LotSample.of([5.0, 5.0, 5.0, 5.0], ["a", "a", "b", "b"])
    assert supplier_posterior(same) is None
    assert welch(same.means, same.means) is None
    assert sigma_ratio_interval(same, one) is None
