"""Packs built at random, folded, matched and sorted."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.errors import BatterylabError
from batterylab.suppliers.pack import loss_percent
from batterylab.suppliers.packs import folded_groups, matched_groups, simulate, spread


def test_eight_cells_in_four_pairs(shared_data):
    found = json.loads((shared_data / "cases" / "pack.json").read_text())["cases"][0]
    inputs = found["inputs"]
    cells = np.array(inputs["capacity_Ah"])
    groups = matched_groups(cells, inputs["n_series"], inputs["n_parallel"])
    want = found["expected"]["optimal_spread"]
    assert spread(cells, groups) == pytest.approx(want, abs=found["tolerance"]["abs"])
    neighbours = np.argsort(cells).reshape(4, 2)
    assert spread(cells, neighbours) > 1.0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 10**6))
def test_every_cell_is_used_once_and_matching_is_no_worse_than_folding(series, parallel, seed):
    cells = np.random.default_rng(seed).normal(5.0, 0.05, series * parallel)
    folded = folded_groups(cells, series, parallel)
    matched = matched_groups(cells, series, parallel)
    for groups in folded, matched:
        assert groups.shape == (series, parallel)
        assert sorted(groups.ravel()) == list(range(series * parallel))
    assert spread(cells, matched) <= spread(cells, folded) + 1e-12


def test_matching_beats_folding_by_much():
    rng = np.random.default_rng(1)
    ratios = []
    for _ in range(20):
        cells = rng.normal(5.0, 0.05, 96)
        ratios.append(
            spread(cells, matched_groups(cells, 24, 4)) / spread(cells, folded_groups(cells, 24, 4))
        )
    assert np.median(ratios) < 0.7
    assert min(ratios) < 0.3


@pytest.mark.parametrize(("series", "parallel"), [(96, 1), (24, 4)])
def test_random_packs_lose_what_the_closed_form_says(series, parallel):
    found = simulate(series, parallel, 0.2, 0.25, packs=600, seed=3)
    closed = loss_percent(math.hypot(0.2, 0.25), series, parallel)
    assert found.random == pytest.approx(closed, abs=3.5 * found.standard_error)
    one_lot = loss_percent(0.25, series, parallel)
    assert found.one_lot == pytest.approx(one_lot, abs=3.5 * found.standard_error)
    if parallel > 1:
        assert found.sorted < found.matched < found.folded < found.one_lot < found.random
    else:  # nothing to match within a pack of single cells: only sorting helps
        assert found.matched == found.folded == found.random
        assert found.sorted < 0.1 * found.random


def test_the_same_seed_gives_the_same_packs():
    assert simulate(10, 2, 0.2, 0.25, packs=20) == simulate(10, 2, 0.2, 0.25, packs=20)
    assert simulate(10, 2, 0.0, 0.0, packs=20).random == 0.0


def test_nonsense_is_refused():
    for wrong in ([5.0] * 7, 4, 2), ([5.0, -1.0], 2, 1), ([5.0, math.nan], 2, 1), ([], 0, 1):
        with pytest.raises(BatterylabError):
            matched_groups(np.array(wrong[0]), wrong[1], wrong[2])
    with pytest.raises(BatterylabError):
        simulate(10, 2, -0.1, 0.2)
