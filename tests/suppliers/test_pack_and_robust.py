"""Loss in a pack, and spread that odd cells do not move."""

import json

import numpy as np
import pytest

from batterylab.suppliers.pack import expected_maximum, loss_percent
from batterylab.suppliers.robust import mad, odd_ones, qn


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, 0.0), (2, 0.56419), (3, 0.84628), (96, 2.493), (108, 2.535), (200, 2.746)],
)
def test_expected_maxima(count, expected):
    assert expected_maximum(count) == pytest.approx(expected, abs=5.1e-4)


@pytest.mark.parametrize(("cv", "loss"), [(0.2, 0.50), (0.5, 1.25), (1.0, 2.5)])
def test_what_a_96s1p_pack_loses(cv, loss):
    assert loss_percent(cv, 96, 1) == pytest.approx(loss, abs=0.008)


def test_the_loss_against_a_simulated_pack():
    rng = np.random.default_rng(1)
    cells = rng.normal(1.0, 0.01, (4000, 24, 4))
    weakest = cells.mean(axis=2).min(axis=1)
    assert loss_percent(1.0, 24, 4) == pytest.approx(100 * (1 - weakest.mean()), rel=0.02)


def test_robust_scales_of_the_copper_determinations(shared_data):
    found = json.loads((shared_data / "cases" / "robust.json").read_text())["cases"][0]
    values, want = found["inputs"]["data"], found["expected"]
    assert mad(values) == pytest.approx(want["mad"], abs=2e-5)
    assert qn(values, corrected=False) == pytest.approx(want["qn_raw"], abs=2e-5)
    assert qn(values) == pytest.approx(want["qn"], rel=1e-4)


@pytest.mark.parametrize("n", [5, 12, 13, 24])
def test_qn_estimates_sigma(n):
    rng = np.random.default_rng(n)
    assert np.mean([qn(rng.normal(size=n)) for _ in range(3000)]) == pytest.approx(1, abs=0.03)


def test_an_odd_cell_is_found_within_its_lot():
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(5.0, 0.01, 8), rng.normal(5.5, 0.01, 8)])
    lots = ["a"] * 8 + ["b"] * 8
    assert odd_ones(values, lots) == []
    values[3] = 5.2
    ((place, distance),) = odd_ones(values, lots)
    assert place == 3
    assert distance > 5
    assert odd_ones([1.0] * 10, ["a"] * 10) == []
    assert odd_ones([1.0, 9.0], ["a"] * 2) == []


def test_normal_cells_are_hardly_ever_called_odd():
    rng = np.random.default_rng(3)
    lots = [str(number) for number in np.repeat(np.arange(3), 8)]
    called = sum(bool(odd_ones(rng.normal(size=24), lots)) for _ in range(3000))
    assert called / 3000 < 0.006
    assert odd_ones([5.0, 5.1, 9.0] * 4, ["a", "b", "c", "d"] * 3) == []  # three a lot: too few
