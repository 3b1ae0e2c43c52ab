"""Gauge studies against AIAG's example, and what comes of incomplete ones."""

import json
import math

import numpy as np
import pytest

from batterylab.errors import BatterylabError
from batterylab.suppliers.components import LotSample, pivots, root_interval
from batterylab.suppliers.estimates import Measurement
from batterylab.suppliers.measurement import (
    CATEGORIES,
    crossed_study,
    gauge_study,
    grr_interval,
    grr_percent,
)


@pytest.fixture
def cases(shared_data):
    found = json.loads((shared_data / "cases" / "gauge_rr.json").read_text())["cases"]
    return {item["id"]: item for item in found}


def simulated(rng, cells=6, channels=4, repeats=2, cell=1.0, channel=0.2, repeat=0.1, both=0.0):
    return (
        rng.normal(0, cell, (cells, 1, 1))
        + rng.normal(0, channel, (1, channels, 1))
        + rng.normal(0, both, (cells, channels, 1))
        + rng.normal(0, repeat, (cells, channels, repeats))
    )


def test_the_analysis_of_variance_of_aiag(cases):
    found = cases["aiag_msa4_anova"]
    values = np.array(found["inputs"]["data_part_oper_trial"])
    want = found["expected"]
    study = crossed_study(values)
    squares = {
        "part": study.by_cell, "oper": study.by_channel, "inter": study.by_interaction,
        "rep": study.error,
    }  # fmt: skip
    for name, line in squares.items():
        assert line.sum_of_squares == pytest.approx(want["ss"][name], abs=6e-5)
    assert study.pooled
    assert study.interaction_p_value == pytest.approx(want["p_inter"], abs=2e-4)
    ratio = study.by_interaction.mean_square / study.error.mean_square
    assert ratio == pytest.approx(want["F_inter"], abs=5e-4)
    variances = study.variances()
    ours = {"grr": variances.gauge, "rep": variances.repeatability,
            "repro": variances.reproducibility, "part": variances.cell}  # fmt: skip
    for name, value in ours.items():
        assert float(value) == pytest.approx(want["var"][name], abs=6e-5)
        assert math.sqrt(value) == pytest.approx(want["sd"][name], abs=5e-4)
    share = float(grr_percent(variances.gauge, variances.cell))
    assert share == pytest.approx(want["pct_sv"]["grr"], abs=0.006)
    categories = CATEGORIES * math.sqrt(variances.cell / variances.gauge)
    assert categories == pytest.approx(want["ndc_raw141"], abs=1e-3)


def test_the_interval_of_grr_of_aiag(cases):
    values = np.array(cases["aiag_msa4_anova"]["inputs"]["data_part_oper_trial"])
    want = cases["aiag_grr_interval"]
    low, high = grr_interval(crossed_study(values))
    assert low == pytest.approx(want["expected"]["lower"], abs=want["tolerance"]["abs"])
    assert high == pytest.approx(want["expected"]["upper"], abs=want["tolerance"]["abs"])


def test_figures_to_design_with():
    assert float(grr_percent(np.array(0.1**2), np.array(0.2**2))) == pytest.approx(45, abs=0.5)
    assert float(grr_percent(np.array(0.05**2), np.array(0.2**2))) == pytest.approx(24, abs=0.5)
    assert pytest.approx(2.8, abs=0.05) == CATEGORIES * 0.2 / 0.1


def test_components_are_unbiased():
    rng = np.random.default_rng(1)
    found = [crossed_study(simulated(rng, both=0.15), pool_above=1.1) for _ in range(1500)]
    mean = {
        name: np.mean([float(getattr(s.variances(), name)) for s in found])
        for name in ("repeatability", "channel", "interaction", "cell")
    }
    assert mean["repeatability"] == pytest.approx(0.01, rel=0.03)
    assert mean["interaction"] == pytest.approx(0.0225, rel=0.05)
    assert mean["channel"] == pytest.approx(0.04, rel=0.08)
    assert mean["cell"] == pytest.approx(1.0, rel=0.06)


def test_the_interval_of_the_gauge_holds():
    rng = np.random.default_rng(2)
    trials, hits = 1000, 0
    for _ in range(trials):
        drawn = crossed_study(simulated(rng)).pivots(points=2048)
        low, high = root_interval(drawn.gauge)
        hits += low <= math.hypot(0.2, 0.1) <= high
    assert 0.93 <= hits / trials <= 0.97


@pytest.mark.parametrize(("channels", "channel", "repeat"), [(4, 0.05, 0.03), (12, 0.2, 0.1)])
def test_the_corrected_spread_of_the_cells_holds(channels, channel, repeat):
    """Cells spread by 0.25, the bench by 0.06 or 0.22: their own spread lies in its interval."""
    rng = np.random.default_rng(3)
    bench = math.hypot(channel, repeat)
    trials, hits, naive = 800, 0, []
    for _ in range(trials):
        values = simulated(rng, channels=channels, cell=0.25, channel=channel, repeat=repeat)
        study = crossed_study(values)
        lots = np.repeat(np.arange(3), 8)
        values = rng.normal(0, 0.2, 3)[lots] + rng.normal(0, math.hypot(0.25, bench), 24)
        sample = LotSample.of(values, [str(n) for n in lots])
        drawn = pivots(sample, gauge=study.pivots(points=2048).gauge, points=2048)
        low, high = root_interval(drawn.cell)
        hits += low <= 0.25 <= high
        naive.append(sample.within)
    assert 0.93 <= hits / trials <= 0.98
    assert np.mean(naive) == pytest.approx(0.25**2 + bench**2, rel=0.03)


def readings(values):
    cells, channels, repeats = values.shape
    return [
        (f"c{c}", f"h{h}", float(values[c, h, r]))
        for r in range(repeats)
        for c in range(cells)
        for h in range(channels)
    ]


def test_readings_in_any_shape_become_a_complete_study():
    values = simulated(np.random.default_rng(4), cells=5, channels=3)
    study = gauge_study(readings(values))
    assert (study.cells, study.channels, study.repeats) == (5, 3, 2)
    assert study.variances() == crossed_study(values).variances()
    assert study.remarks == ()


def test_a_cell_with_gaps_is_left_out_and_told():
    values = simulated(np.random.default_rng(5), cells=5, channels=3)
    some = [r for r in readings(values) if not (r[0] == "c2" and r[1] in ("h0", "h1"))]
    some.append(("c0", "h0", 9.0))  # a third repeat of one place
    some.append(("c1", "h0", math.nan))
    study = gauge_study(some)
    assert (study.cells, study.channels, study.repeats) == (4, 3, 2)
    assert "left out" in study.remarks[0]
    assert study.variances() == crossed_study(values[[0, 1, 3, 4]]).variances()


def test_too_little_is_no_study():
    assert gauge_study([]) is None
    assert gauge_study([("c0", "h0", 1.0), ("c0", "h0", 1.1)]) is None
    assert gauge_study([("c0", "h0", 1.0), ("c1", "h1", 1.1)]) is None
    with pytest.raises(BatterylabError):
        crossed_study(np.ones((1, 4, 2)))


def test_repeats_on_one_channel_give_repeatability_alone():
    values = simulated(np.random.default_rng(6), channels=1, repeats=5)
    study = crossed_study(values)
    variances = study.variances()
    assert float(variances.channel) == 0.0
    assert math.sqrt(variances.repeatability) == pytest.approx(0.1, rel=0.5)
    told = Measurement.of(study).to_dict([])
    assert told["reproducibility_sd"] is None
    assert "between channels are not taken out" in told["note"]


def test_one_repeat_on_each_channel_uses_the_interaction():
    study = crossed_study(simulated(np.random.default_rng(7), cells=8, repeats=1))
    assert study.error is None
    assert math.sqrt(study.variances().repeatability) == pytest.approx(0.1, rel=0.5)
    assert grr_interval(study) is not None


def test_a_bench_without_any_scatter():
    values = np.broadcast_to(np.arange(4.0)[:, None, None], (4, 3, 2)).copy()
    study = crossed_study(values)
    told = Measurement.of(study).to_dict([])
    assert told["gauge_sd"] == 0.0
    assert told["gauge_interval"] is None
    assert told["grr_percent"] == 0.0
    assert told["categories"] is None
