"""One model for all spreads: crossed, nested, unbalanced, zero components, Kenward and Roger."""

import numpy as np
import pytest

from batterylab.errors import BatterylabError
from batterylab.suppliers.components import LotSample, lot_interval, maximum_likelihood, pivots
from batterylab.suppliers.kenward import contrast, lot_mean
from batterylab.suppliers.mixed import MixedModel


def lots_of(rng, counts, lot=1.0, cell=1.0, mean=10.0):
    names = np.repeat(np.arange(len(counts)), counts)
    return names, mean + rng.normal(0, lot, len(counts))[names] + rng.normal(0, cell, len(names))


def test_one_way_agrees_with_the_profile_over_lots():
    rng = np.random.default_rng(1)
    for counts in ((5,) * 6, (3, 20, 5, 8), (1, 2, 9, 12, 6)):
        names, values = lots_of(rng, counts)
        sample = LotSample.of(values, [str(n) for n in names])
        ours, other = MixedModel(values, {"lot": names}).fit(), maximum_likelihood(sample)
        assert ours.variances["lot"] == pytest.approx(other.lot_variance, rel=1e-3, abs=1e-6)
        assert ours.variances["residual"] == pytest.approx(other.cell_variance, rel=1e-3)
        assert ours.criterion == pytest.approx(other.criterion, abs=1e-5)
        if other.lot_variance > 0:
            closed, dense = lot_mean(sample), contrast(ours, np.ones(1))
            assert closed.estimate == pytest.approx(dense.estimate, rel=1e-6)
            assert closed.standard_error == pytest.approx(dense.standard_error, rel=1e-3)
            assert closed.degrees_of_freedom == pytest.approx(dense.degrees_of_freedom, rel=1e-3)


def test_kenward_and_roger_is_t_on_lot_means_where_lots_are_equal():
    names, values = lots_of(np.random.default_rng(2), (6,) * 5, lot=3.0)
    sample = LotSample.of(values, [str(n) for n in names])
    found = lot_mean(sample)
    assert found.degrees_of_freedom == pytest.approx(4.0)
    assert found.interval() == pytest.approx(sample.mean_interval(), rel=1e-6)


def test_crossed_cells_and_channels_agree_with_the_analysis_of_variance():
    rng = np.random.default_rng(3)
    shape = (8, 6, 3)
    values = (rng.normal(0, 1.0, (8, 1, 1)) + rng.normal(0, 0.5, (1, 6, 1))
              + rng.normal(0, 0.2, shape))  # fmt: skip
    cell, channel, _ = np.indices(shape)
    fit = MixedModel(values.ravel(), {"cell": cell.ravel(), "channel": channel.ravel()}).fit()
    rest = values - values.mean(axis=(1, 2), keepdims=True) - values.mean(
        axis=(0, 2), keepdims=True) + values.mean()  # fmt: skip
    error = float(np.sum(rest**2)) / (8 * 6 * 3 - 8 - 6 + 1)
    by_cell = 18 * float(np.var(values.mean(axis=(1, 2)), ddof=1))
    by_channel = 24 * float(np.var(values.mean(axis=(0, 2)), ddof=1))
    assert fit.variances["residual"] == pytest.approx(error, rel=1e-3)
    assert fit.variances["cell"] == pytest.approx((by_cell - error) / 18, rel=1e-3)
    assert fit.variances["channel"] == pytest.approx((by_channel - error) / 24, rel=1e-3)
    assert fit.p_value("channel") < 1e-6
    effects = fit.effects("channel")
    means = values.mean(axis=(0, 2)) - values.mean()
    for number, mean in enumerate(means):
        effect, error_ = effects[str(number)]
        assert abs(effect) <= abs(mean) + 1e-9  # shrunk
        assert effect == pytest.approx(mean, abs=3 * error_)


def test_a_component_of_zero_is_zero_and_its_interval_begins_there():
    names, values = lots_of(np.random.default_rng(5), (8,) * 6, lot=0.0)
    values -= np.array([values[names == n].mean() for n in range(6)])[names]
    fit = MixedModel(values, {"lot": names}).fit()
    assert fit.sds["lot"] == 0.0
    low, high = fit.interval("lot")
    assert low == 0.0
    assert 0.0 < high < 1.0


def test_the_profile_interval_holds():
    rng = np.random.default_rng(6)
    held = 0
    for _ in range(25):
        names, values = lots_of(rng, (6,) * 10)
        low, high = MixedModel(values, {"lot": names}).fit().interval("lot")
        held += low <= 1.0 <= high
    assert held >= 20


def test_a_fixed_part_takes_the_suppliers_out():
    rng = np.random.default_rng(7)
    names, values = lots_of(rng, (6,) * 12, lot=0.5)
    supplier = (names >= 6).astype(float)
    fixed = np.column_stack([1 - supplier, supplier])
    plain = MixedModel(values + 100 * supplier, {"lot": names}, fixed).fit()
    assert plain.coefficients[1] - plain.coefficients[0] == pytest.approx(100, abs=2.0)
    assert plain.sds["lot"] == pytest.approx(
        MixedModel(values, {"lot": names}, fixed).fit().sds["lot"], rel=1e-6)  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [lambda: MixedModel([1.0, 2.0, np.nan], {"lot": ["a", "a", "b"]}),
     lambda: MixedModel([1.0, 2.0, 3.0], {"lot": ["a", "b", "c"]}),
     lambda: MixedModel([1.0, 2.0, 3.0], {"lot": ["a", "a", "a"]}),
     lambda: MixedModel([1.0, 2.0, 3.0], {"lot": ["a", "b"]}),
     lambda: MixedModel([1.0, 2.0, 3.0], {"lot": ["a", "a", "b"]}, np.ones((3, 2)))],
)  # fmt: skip
def test_what_makes_no_model_is_said(wrong):
    with pytest.raises(BatterylabError):
        wrong()


@pytest.mark.parametrize(("counts", "ratio"), [((50,) * 3, 0.1), ((5,) * 5, 0.1), ((8,) * 3, 1.0)])
def test_small_lot_deviations_are_covered_as_often_as_said(counts, ratio):
    rng = np.random.default_rng(8)
    trials, held = 600, 0
    for _ in range(trials):
        names, values = lots_of(rng, counts, lot=ratio)
        sample = LotSample.of(values, [f"{n:02d}" for n in names])
        low, high = lot_interval(sample, pivots(sample, points=1024))
        held += low <= ratio <= high
    assert 0.93 <= held / trials <= 0.98
