"""Ageing: fade, knee and life with cells still running."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.errors import BatterylabError
from batterylab.suppliers.ageing import find_knee, fit_fade, fit_weibull, kneedle

CYCLES = np.arange(0.0, 1000.0, 20.0)


def only(shared_data, topic):
    found = json.loads((shared_data / "cases" / f"{topic}.json").read_text())["cases"][0]
    return found["inputs"], found["expected"], found["tolerance"]


def test_weibull_of_the_handbook(shared_data):
    inputs, want, near = only(shared_data, "life")
    found = fit_weibull(inputs["failures"], inputs["censored"])
    assert found.shape == pytest.approx(want["shape"], abs=near["shape"])
    assert found.scale == pytest.approx(want["scale"], abs=near["scale"])
    assert found.log_likelihood == pytest.approx(want["loglik"], abs=near["loglik"])
    assert (found.failed, found.running) == (10, 10)


def test_weibull_is_the_maximum_of_scipys_likelihood():
    from scipy import stats

    lives = stats.weibull_min.rvs(3.0, scale=800, size=40, random_state=1)
    ended, running = lives[lives < 900], np.full(int(np.sum(lives >= 900)), 900.0)
    found = fit_weibull(ended, running)
    other = stats.weibull_min.fit(stats.CensoredData(ended, right=running), floc=0)
    assert found.shape == pytest.approx(other[0], rel=1e-3)
    assert found.scale == pytest.approx(other[2], rel=1e-3)


def test_intervals_of_life_hold_about_as_often_as_they_say():
    rng = np.random.default_rng(2)
    true, held = 800 * (-math.log(0.9)) ** (1 / 4), 0
    for _ in range(600):
        lives = 800 * rng.weibull(4.0, 40)
        found = fit_weibull(lives[lives < 850], np.full(int(np.sum(lives >= 850)), 850.0))
        low, high = found.life_interval(0.1)
        held += low <= true <= high
    assert 0.92 <= held / 600 <= 0.975


def test_running_cells_lengthen_life():
    ended = [500.0, 620.0, 700.0]
    assert fit_weibull(ended, [900.0] * 5).life(0.1) > fit_weibull(ended).life(0.1)
    for wrong in ([500.0], []), ([5.0, 5.0], [9.0]), ([0.0, 5.0], []), ([math.nan, 1.0], []):
        with pytest.raises(BatterylabError):
            fit_weibull(*wrong)


def test_the_knee_of_kneedle(shared_data):
    inputs, want, near = only(shared_data, "knee")
    x, y = np.array(inputs["x"]), np.array(inputs["y"])
    assert kneedle(x, y) == pytest.approx(want["knee"], abs=near["abs"])
    assert kneedle(x, -y) == pytest.approx(want["knee"], abs=near["abs"])
    assert kneedle(1000 * x, 5 * y + 7) == pytest.approx(1000 * want["knee"], abs=1e-6)


def bent(rng, scatter=0.003):
    left = 1 - 5e-5 * CYCLES - 3e-4 * np.maximum(CYCLES - 600, 0)
    return left + rng.normal(0, scatter, len(CYCLES))


def test_a_knee_is_found_where_it_is():
    rng = np.random.default_rng(3)
    found = [find_knee(CYCLES, bent(rng)) for _ in range(40)]
    assert all(knee.is_there for knee in found)
    assert np.mean([knee.place for knee in found]) == pytest.approx(600, abs=4)
    held = np.mean([knee.interval[0] <= 600 <= knee.interval[1] for knee in found])
    assert held >= 0.87
    assert found[0].slopes == pytest.approx((-5e-5, -3.5e-4), rel=0.15)


def test_a_straight_line_and_one_that_bends_up_have_no_knee():
    rng = np.random.default_rng(4)
    lines = [1 - 1e-4 * CYCLES + rng.normal(0, 0.003, len(CYCLES)) for _ in range(60)]
    assert np.mean([find_knee(CYCLES, line).is_there for line in lines]) <= 0.12
    assert not find_knee(CYCLES, 2 - bent(rng)).is_there
    assert not find_knee(CYCLES, 1 - 1e-4 * CYCLES).is_there


def test_fade_is_recovered_with_its_errors():
    rng = np.random.default_rng(5)
    left = 1 - 0.004 * np.sqrt(CYCLES) - 5e-5 * CYCLES
    found = [fit_fade(CYCLES, 5 * left + rng.normal(0, 0.002, len(CYCLES))) for _ in range(200)]
    roots, lines = (np.array([getattr(f, name) for f in found]) for name in ("root", "line"))
    assert roots.mean() == pytest.approx(0.004, rel=0.01)
    assert lines.mean() == pytest.approx(5e-5, rel=0.01)
    assert np.mean([f.errors[0] for f in found]) == pytest.approx(roots.std(), rel=0.15)
    assert np.mean([f.errors[1] for f in found]) == pytest.approx(lines.std(), rel=0.15)
    assert found[0].residual == pytest.approx(0.0004, rel=0.3)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 0.02), st.floats(0, 1e-3), st.floats(0.5, 100.0))
def test_life_is_where_the_fade_says(root, line, first):
    left = first * (1 - root * np.sqrt(CYCLES) - line * CYCLES)
    if left.min() <= 0.01 * first:
        return
    found = fit_fade(CYCLES, left)
    assert found.first == pytest.approx(first, rel=1e-6)
    life = found.life()
    if math.isfinite(life):
        assert found.share(life) == pytest.approx(0.8, abs=1e-9)


def test_no_term_is_negative():
    found = fit_fade(CYCLES, 5 + 1e-4 * CYCLES)
    assert (found.root, found.line) == (0.0, 0.0)
    assert math.isnan(found.errors[0])
    assert found.life() == math.inf


@pytest.mark.parametrize(
    ("x", "y"),
    [([0, 1, 2], [5, 4, 3]), ([0, 1, 1, 2], [5, 4, 4, 3]), ([0, 1, 2, math.nan], [5, 4, 4, 3]),
     ([0, 1, 2, 3], [5, 4, 4, -3]), ([-1, 1, 2, 3], [5, 4, 4, 3]), ([0, 1, 2, 3], [5, 4])],
)  # fmt: skip
def test_nonsense_is_refused(x, y):
    with pytest.raises(BatterylabError):
        fit_fade(x, y)
    with pytest.raises(BatterylabError):
        find_knee(x, y)
