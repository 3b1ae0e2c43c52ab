"""Cells in lots against worked examples, and how often the intervals hold."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.errors import BatterylabError
from batterylab.suppliers.components import (
    LotSample,
    maximum_likelihood,
    pivots,
    root_interval,
)
from batterylab.suppliers.nodes import (
    central,
    effective_degrees_of_freedom,
    points_for,
    sd_interval,
    t_quantile,
)


def case(shared_data, topic, name):
    cases = json.loads((shared_data / "cases" / f"{topic}.json").read_text())["cases"]
    return next(item for item in cases if item["id"] == name)


def draw(rng, sigma_lot, sigma_cell, counts, mean=100.0):
    lots = np.repeat(np.arange(len(counts)), counts)
    values = mean + rng.normal(0, sigma_lot, len(counts))[lots]
    return LotSample.of(values + rng.normal(0, sigma_cell, len(lots)), [str(n) for n in lots])


# Worked examples


def test_reml_and_ml_of_dyestuff(shared_data):
    found = case(shared_data, "variance_components", "dyestuff_reml")
    sample = LotSample.of(found["inputs"]["y"], found["inputs"]["batch"])
    want = found["expected"]
    reml = maximum_likelihood(sample)
    assert reml.lot_variance == pytest.approx(want["reml_batch"], abs=0.05)
    assert reml.cell_variance == pytest.approx(want["reml_resid"], abs=0.01)
    assert reml.mean == pytest.approx(want["mean"], abs=0.01)
    assert reml.standard_error == pytest.approx(want["se"], abs=0.01)
    assert reml.criterion == pytest.approx(want["reml_crit"], abs=0.0001)
    ml = maximum_likelihood(sample, restricted=False)
    assert ml.lot_variance == pytest.approx(want["ml_batch"], abs=0.05)
    assert ml.cell_variance == pytest.approx(want["ml_resid"], abs=0.01)
    assert ml.standard_error == pytest.approx(want["ml_se"], abs=0.01)


def test_a_lot_variance_that_is_exactly_zero(shared_data):
    found = case(shared_data, "variance_components", "dyestuff2_zero")
    sample = LotSample.of(found["inputs"]["y"], found["inputs"]["batch"])
    want = found["expected"]
    reml = maximum_likelihood(sample)
    assert reml.lot_variance == want["batch"]
    assert reml.cell_variance == pytest.approx(want["resid"], abs=1e-4)
    assert reml.mean == pytest.approx(want["mean"], abs=1e-4)
    ml = maximum_likelihood(sample, restricted=False)
    assert math.sqrt(ml.cell_variance) == pytest.approx(want["ml_resid_sd"], abs=1e-4)
    low, high = root_interval(pivots(sample).lot)
    assert low == 0.0
    assert high > 0.0


def test_mean_squares_against_nist(shared_data):
    want = case(shared_data, "variance_components", "nist_strd_SmLs01")["expected"]
    scipy_stats = pytest.importorskip("scipy.stats.tests")
    from pathlib import Path

    file = Path(scipy_stats.__file__).parent / "data/nist_anova/SmLs01.dat"
    if not file.exists():
        pytest.skip("scipy came without its test data")
    rows = [line.split() for line in file.read_text().splitlines()[60:] if len(line.split()) == 2]
    sample = LotSample.of([float(row[1]) for row in rows], [row[0] for row in rows])
    assert sample.cells == 189
    assert sample.between / sample.within == pytest.approx(want["F"], abs=1e-8)


def test_effective_degrees_of_freedom_of_the_gum(shared_data):
    found = case(shared_data, "gauge_rr", "gum_h1_end_gauge")
    u, dof = (np.array(found["inputs"][key]) for key in ("u", "dof"))
    assert math.sqrt(float(np.sum(u**2))) == pytest.approx(found["expected"]["uc"], abs=0.5)
    df = int(effective_degrees_of_freedom(u**2, dof))
    assert df == found["expected"]["dof_used"]
    assert t_quantile(0.975, df) == pytest.approx(found["expected"]["k"], abs=0.005)


@pytest.mark.parametrize(("n", "low", "high"), [(10, -31, 83), (30, -20, 34), (100, -12, 16)])
def test_the_interval_of_sigma_is_what_the_plan_says(n, low, high):
    found = sd_interval(1.0, n - 1)
    assert [round(100 * (end - 1)) for end in found] == [low, high]


# What the intervals promise

CASES = [
    (0.2, 0.25, [8, 8, 8]),
    (0.2, 0.25, [4, 8, 12]),
    (0.1, 0.3, [3, 9, 6, 5]),
]


@pytest.mark.parametrize(("sigma_lot", "sigma_cell", "counts"), CASES)
def test_intervals_hold_as_often_as_they_say(sigma_lot, sigma_cell, counts):
    rng = np.random.default_rng(20260101)
    trials = 1500 if len(set(counts)) == 1 else 1000
    truth = {
        "mean": 100.0,
        "cell": sigma_cell,
        "lot": sigma_lot,
        "total": math.hypot(sigma_lot, sigma_cell),
    }
    hits = dict.fromkeys(truth, 0)
    for _ in range(trials):
        sample = draw(rng, sigma_lot, sigma_cell, counts)
        drawn = pivots(sample, points=2048)
        found = {
            "mean": sample.mean_interval(),
            "cell": sample.within_interval(),
            "lot": root_interval(drawn.lot),
            "total": root_interval(drawn.total),
        }
        for name, (low, high) in found.items():
            hits[name] += low <= truth[name] <= high
    for name, count in hits.items():
        assert 0.93 <= count / trials <= 0.975, (name, count / trials)


def test_without_any_lot_effect_the_interval_of_lots_reaches_zero():
    rng = np.random.default_rng(5)
    ends = [root_interval(pivots(draw(rng, 0.0, 0.25, [8, 8, 8])).lot) for _ in range(800)]
    from_zero = sum(low == 0.0 for low, _ in ends) / len(ends)
    assert 0.95 <= from_zero <= 0.995
    assert min(high for _, high in ends) > 0.02  # lot means that agree by accident prove little


def test_the_mean_squares_have_their_expectations():
    rng = np.random.default_rng(6)
    samples = [draw(rng, 0.2, 0.25, [4, 8, 12]) for _ in range(4000)]
    assert np.mean([s.within for s in samples]) == pytest.approx(0.0625, rel=0.02)
    expected = 0.04 + 0.0625 * np.mean([1 / 4, 1 / 8, 1 / 12])
    assert np.mean([s.lot_mean_variance for s in samples]) == pytest.approx(expected, rel=0.06)


def test_more_confidence_gives_wider_intervals():
    sample = draw(np.random.default_rng(1), 0.2, 0.25, [8, 8, 8])
    low, high = root_interval(pivots(sample).lot)
    wide = root_interval(pivots(sample, 0.9999).lot, 0.9999)
    assert wide[0] <= low
    assert wide[1] > 5 * high
    assert points_for(0.9999) > points_for(0.95)


def test_unequal_lots_that_are_equal_give_the_closed_form():
    sample = draw(np.random.default_rng(2), 0.2, 0.25, [8, 8, 8])
    nearly = LotSample(
        sample.lots, np.array([8.0, 8.0, 8.0000001]), sample.means, sample.sums_of_squares,
        sample.minimum, sample.maximum,
    )  # fmt: skip
    ours, theirs = pivots(sample), pivots(nearly)
    assert np.allclose(ours.lot, theirs.lot, atol=1e-6)
    assert np.allclose(ours.mean, theirs.mean, atol=1e-6)


def test_one_lot_gives_the_chi_square_interval():
    values = np.random.default_rng(3).normal(5, 0.01, 20)
    sample = LotSample.of(values, ["a"] * 20)
    assert sample.mean_interval() is None
    assert maximum_likelihood(sample) is None
    drawn = pivots(sample)
    assert drawn.lot is None
    assert root_interval(drawn.total) == pytest.approx(sample.within_interval(), rel=0.01)


def test_the_gauge_variance_is_taken_out_and_never_below_zero():
    sample = draw(np.random.default_rng(4), 0.2, 0.25, [8, 8, 8])
    plain = pivots(sample)
    less = pivots(sample, gauge=np.full(len(plain.cell), 0.02))
    assert np.allclose(less.cell, np.maximum(plain.cell - 0.02, 0.0))
    assert np.all(less.cell >= 0)
    assert np.array_equal(less.lot, plain.lot)


# Degenerate and hostile samples


def test_nothing_or_nan_is_no_sample():
    for values, lots in ([], []), ([1.0], ["a", "b"]), ([1.0, math.nan], ["a", "a"]):
        with pytest.raises(BatterylabError):
            LotSample.of(values, lots)


@pytest.mark.parametrize("values", [[5.0], [5.0, 5.0, 5.0], [0.1 + 0.2, 0.3]])
def test_what_does_not_vary_has_no_pivots(values):
    assert pivots(LotSample.of(values, ["a"] * len(values))) is None


def test_one_cell_a_lot_gives_only_the_total():
    sample = LotSample.of([5.0, 5.1, 5.2], ["a", "b", "c"])
    assert sample.within is None
    drawn = pivots(sample)
    assert drawn.lot is None
    low, high = root_interval(drawn.total)
    assert low < 0.1 < high


def test_equal_cells_in_unequal_lots():
    sample = LotSample.of([5.0, 5.0, 5.1, 5.1, 5.1], ["a", "a", "b", "b", "b"])
    assert sample.within == 0.0
    drawn = pivots(sample)
    assert np.all(np.isfinite(drawn.total))
    assert np.all(drawn.cell == 0.0)


def test_equal_lot_means():
    sample = LotSample.of([4.9, 5.1, 4.8, 5.2, 5.0], ["a", "a", "b", "b", "b"])
    assert sample.between == pytest.approx(0.0, abs=1e-20)
    assert root_interval(pivots(sample).lot)[1] > 0.0


samples = st.lists(st.tuples(st.floats(4.0, 6.0), st.sampled_from("abcd")), min_size=2, max_size=30)


@settings(max_examples=60, deadline=None)
@given(samples, st.floats(0.1, 10.0), st.floats(-100, 100), st.randoms())
def test_scale_shift_and_order_do_what_they_must(pairs, scale, shift, random):
    sample = LotSample.of([v for v, _ in pairs], [lot for _, lot in pairs])
    shuffled = list(pairs)
    random.shuffle(shuffled)
    other = LotSample.of([scale * v + shift for v, _ in shuffled], [lot for _, lot in shuffled])
    assert other.mean == pytest.approx(scale * sample.mean + shift, abs=1e-9)
    total = sample.sums_of_squares.sum()
    assert other.sums_of_squares.sum() == pytest.approx(scale**2 * total, rel=1e-5, abs=1e-9)
    drawn = pivots(sample)
    if drawn is not None:
        assert np.all(np.isfinite(drawn.mean))
        assert np.all(drawn.total >= 0)
        low, high = central(drawn.total)
        assert low <= high
