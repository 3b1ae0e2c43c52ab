"""Between two suppliers: worked examples, risks of the verdict, expected loss."""

import json
import math

import numpy as np
import pytest

from batterylab.errors import BatterylabError
from batterylab.suppliers.comparison import (
    Posterior,
    probability_of_best,
    probability_sigma_smaller,
    welch,
)
from batterylab.suppliers.components import LotSample
from batterylab.suppliers.equivalence import (
    decided,
    expected_losses,
    margin_interval,
    probability_of_higher_cell,
    two_one_sided_tests,
    verdict,
)
from batterylab.suppliers.plans import Spread, power


def only(shared_data, topic):
    found = json.loads((shared_data / "cases" / f"{topic}.json").read_text())["cases"][0]
    return found["inputs"], found["expected"], found["tolerance"]


def drawn(rng, mean, lots=6, cells=8, lot=0.2, cell=0.25):
    names = np.repeat(np.arange(lots), cells)
    values = mean + rng.normal(0, lot, lots)[names] + rng.normal(0, cell, len(names))
    return LotSample.of(values, [str(n) for n in names])


def test_two_one_sided_tests_of_two_yields(shared_data):
    inputs, want, near = only(shared_data, "equivalence")
    found = welch(np.array(inputs["A"], float), np.array(inputs["B"], float))
    tests = two_one_sided_tests(found, inputs["low"], inputs["high"])
    assert found.difference == pytest.approx(want["diff"], abs=near["default"])
    assert found.standard_error == pytest.approx(want["se"], abs=near["default"])
    assert found.degrees_of_freedom == pytest.approx(want["df"], abs=near["df"])
    assert tests.p_lower == pytest.approx(want["p_lower"], abs=near["p_lower"])
    assert tests.p_upper == pytest.approx(want["p_upper"], abs=near["p_upper"])
    assert tests.p_value == tests.p_lower
    assert found.interval() == pytest.approx(want["ci95"], abs=near["default"])
    with pytest.raises(BatterylabError):
        two_one_sided_tests(found, 110, -110)


def test_superiority_of_two_suppliers(shared_data):
    inputs, want, near = only(shared_data, "bayes")
    (mean_a, sd_a, n_a), (mean_b, sd_b, n_b) = inputs["A"], inputs["B"]
    smaller = probability_sigma_smaller(sd_a, n_a, sd_b, n_b)
    assert smaller == pytest.approx(want["p_sigma"], abs=near["abs"])
    cell = probability_of_higher_cell(mean_a, sd_a, mean_b, sd_b)
    assert cell == pytest.approx(want["p_single_cell"], abs=near["abs"])


@pytest.mark.parametrize(
    ("mean", "margin", "higher", "expected"),
    [
        (6.0, 0.5, True, "A BETTER"), (6.0, 0.5, False, "B BETTER"),
        (4.0, 0.5, True, "B BETTER"), (5.0, 1.0, True, "EQUIVALENT"),
        (5.0, 0.01, True, "NOT DECIDED"), (5.5, 2.0, True, "EQUIVALENT"),
    ],
)  # fmt: skip
def test_verdicts(mean, margin, higher, expected):
    rng = np.random.default_rng(1)
    a, b = drawn(rng, mean), drawn(rng, 5.0)
    found = verdict(a, b, margin, higher=higher)
    assert found.verdict == expected
    low, high = margin_interval(welch(a.means, b.means))
    assert (expected == "EQUIVALENT") == (-margin < low < high < margin)
    json.dumps(found.to_dict(), allow_nan=False)
    swapped = verdict(b, a, margin, higher=higher)
    names = {"A BETTER": "B BETTER", "B BETTER": "A BETTER"}
    assert swapped.verdict == names.get(expected, expected)
    assert swapped.expected_loss_a == pytest.approx(found.expected_loss_b, rel=0.01, abs=2e-5)


def test_verdicts_are_wrong_as_seldom_as_they_say():
    rng = np.random.default_rng(2)
    names = {0.0: [], 0.5: [], 1.0: []}
    for difference, found in names.items():
        for _ in range(1500):
            test = welch(drawn(rng, difference).means, drawn(rng, 0.0).means)
            found.append(decided(test, 0.5)[0])
    better = [name.endswith("BETTER") for name in names[0.0]]
    assert np.mean(better) < 0.05 + 2 * math.sqrt(0.05 * 0.95 / 1500)
    equal = [name == "EQUIVALENT" for name in names[0.5]]  # a margin apart: at most 5 %
    assert np.mean(equal) < 0.05 + 2 * math.sqrt(0.05 * 0.95 / 1500)
    found = np.mean([name == "A BETTER" for name in names[1.0]])
    assert found == pytest.approx(power(1.0, 6, 8, Spread(0.2, 0.25)), abs=0.03)


def test_one_lot_decides_nothing():
    rng = np.random.default_rng(3)
    found = verdict(drawn(rng, 9.0, lots=1), drawn(rng, 5.0), 0.5)
    assert found.verdict == "NOT DECIDED"
    assert found.p_different is None
    for wrong in {"margin": 0.0}, {"margin": math.nan}, {"margin": 1.0, "risk": 0.9}:
        with pytest.raises(BatterylabError):
            verdict(drawn(rng, 5.0), drawn(rng, 5.0), **wrong)


@pytest.mark.parametrize("gap", [-0.3, 0.0, 0.5])
def test_expected_losses_against_draws(gap):
    a, b = Posterior(5.0, 0.2, 5), Posterior(5.0 + gap, 0.3, 8)
    rng = np.random.default_rng(4)
    draws = (
        5.0 + 0.2 * rng.standard_t(5, 400_000),
        5.0 + gap + 0.3 * rng.standard_t(8, 400_000),
    )
    loss_a, loss_b = expected_losses(a, b)
    assert loss_a == pytest.approx(np.maximum(draws[1] - draws[0], 0).mean(), abs=2e-3)
    assert loss_b == pytest.approx(np.maximum(draws[0] - draws[1], 0).mean(), abs=2e-3)
    assert expected_losses(a, b, higher=False) == (loss_b, loss_a)
    better = probability_of_best([a, b])[0]
    assert better == pytest.approx(np.mean(draws[0] > draws[1]), abs=3e-3)
    assert expected_losses(Posterior(5.0, 0.2, 1), b) == (math.inf, math.inf)
