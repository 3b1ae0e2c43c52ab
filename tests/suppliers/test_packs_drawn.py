"""Packs of cells that are not normal: drawn from the cells themselves."""

import numpy as np
import pytest

from batterylab.suppliers.pack import loss_percent
from batterylab.suppliers.packdrawn import drawn_loss, expected_loss


def weak_ones(rng, count=60, weak=4):
    values = 5.0 * (1 + 0.003 * rng.normal(size=count))
    values[:weak] *= 0.93
    return values


def even(values):
    return np.full(len(values), 1.0 / len(values))


def test_single_cells_have_the_exact_expected_minimum():
    values = np.sort(weak_ones(np.random.default_rng(1)))
    share = np.arange(len(values), -1, -1) / len(values)
    exact = float(np.sum(values * (share[:-1] ** 96 - share[1:] ** 96)))
    found = expected_loss(values, even(values), 96, 1)
    assert found == pytest.approx(100 * (1 - exact / values.mean()), abs=2e-3)


@pytest.mark.parametrize(("series", "parallel"), [(24, 4), (10, 2), (1, 3)])
def test_groups_agree_with_packs_that_are_drawn(series, parallel):
    rng = np.random.default_rng(2)
    values = weak_ones(rng)
    packs = rng.choice(values, size=(20_000, series, parallel)).mean(axis=2).min(axis=1)
    found = expected_loss(values, even(values), series, parallel)
    near = 100 * 4 * packs.std() / values.mean() / np.sqrt(len(packs)) + 2e-3
    assert found == pytest.approx(100 * (1 - packs.mean() / values.mean()), abs=near)


def test_normal_cells_and_few_cells_keep_the_closed_form():
    rng = np.random.default_rng(3)
    called = sum(
        drawn_loss(5 + 0.01 * rng.normal(size=40), ["a"] * 40, 96, 1) is not None
        for _ in range(60)
    )  # fmt: skip
    assert called <= 3
    assert drawn_loss(weak_ones(rng, 20), ["a"] * 20, 96, 1) is None
    assert drawn_loss(np.full(40, 5.0), ["a"] * 40, 96, 1) is None


def test_a_few_weak_cells_cost_more_than_their_spread_says():
    values = weak_ones(np.random.default_rng(4))
    found = drawn_loss(values, [f"{n % 6}" for n in range(60)], 96, 1)
    closed = loss_percent(100 * values.std(ddof=1) / values.mean(), 96, 1)
    assert found.p_value < 0.01
    assert found.loss_percent > 1.3 * closed
    assert found.interval[0] <= found.loss_percent <= found.interval[1] + 1e-9
    wide = expected_loss(np.array([4.0, 6.0]), np.array([0.5, 0.5]), 1, 1)
    assert wide == pytest.approx(0.0, abs=1e-9)
