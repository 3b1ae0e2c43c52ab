"""Robust losses against scipy's, profile likelihood against theory, both by the command."""

import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.optimize import least_squares
from scipy.stats import t as student

from batterylab._kernels import _circuit
from batterylab.archive import write
from batterylab.cli import cli
from batterylab.errors import BatterylabError
from batterylab.fit import fit
from batterylab.fit.circuitsolve import circuit_voltage, inputs_of, solve_circuit
from batterylab.fit.loss import Loss
from batterylab.fit.ocvsolve import ocv_voltage, solve_ocv
from batterylab.fit.profile import profile
from batterylab.fit.solve import solve
from batterylab.fit.statistics import judge

TRUTH = np.array([3.7, 0.004, 0.025, 0.008, math.log(3.0), 0.012, math.log(40.0)])
LOWER = np.array([0.0, -1.0, 0.0, 0.0, math.log(0.3), 0.0, math.log(0.3)])
UPPER = np.array([9.0, 1.0, 1.0, 1.0, math.log(3e3), 1.0, math.log(3e3)])


def window(pairs=2, rest_s=300):
    time_s = np.arange(31.0 + rest_s)
    current_A = np.where((time_s > 0) & (time_s <= 30), -5.0, 0.0)
    charge = np.concatenate([[0], np.cumsum(current_A[1:])])
    return inputs_of(time_s, current_A, charge / 150.0, pairs=pairs)


def with_outliers(volts, seed, share=0.05, sd_V=2e-4):
    random = np.random.default_rng(seed)
    noisy = volts + sd_V * random.standard_normal(len(volts))
    rows = random.choice(len(volts), int(share * len(volts)), replace=False)
    noisy[rows] += 0.02 * random.standard_normal(len(rows))
    return noisy


@pytest.mark.parametrize("name", ["soft_l1", "huber"])
def test_a_robust_loss_has_the_optimum_of_scipy(name):
    inputs = window()
    volts = with_outliers(circuit_voltage(inputs, TRUTH)[0], 1)
    start, scale = TRUTH * np.array([1.001, 0.8, 1.1, 0.7, 0.7, 1.3, 1.1]), 3e-4
    theirs = least_squares(
        lambda p: circuit_voltage(inputs, p)[0] - volts, start,
        lambda p: circuit_voltage(inputs, p)[1], (LOWER, UPPER), x_scale="jac", loss=name,
        f_scale=scale, ftol=1e-14, xtol=1e-14, gtol=1e-14, max_nfev=2000,
    )  # fmt: skip
    ours = solve(partial(_circuit.Fit, inputs.kernel, volts), inputs.rows, start[None, :], LOWER,
                 UPPER, tolerance=1e-13, loss=Loss(name, scale))  # fmt: skip
    assert ours.converged
    assert ours.cost == pytest.approx(theirs.cost, rel=1e-7)
    np.testing.assert_allclose(ours.parameters, theirs.x, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["soft_l1", "huber"])
def test_outliers_move_a_robust_fit_less(name):
    inputs = window()
    clean = circuit_voltage(inputs, TRUTH)[0]
    off = []
    for seed in range(12):
        volts = with_outliers(clean, seed)
        found = [solve_circuit(inputs, volts, loss=Loss(loss)) for loss in (name, "squares")]
        assert all(one.converged for one in found)
        off.append([one.parameters[2] - TRUTH[2] for one in found])
    robust, squares = np.sqrt(np.mean(np.square(off), axis=0))
    assert robust < 0.35 * squares


def test_the_standard_errors_of_a_robust_fit_hold():
    """Intervals of a Huber fit to noise with outliers hold the truth as often as they say."""
    inputs = window(pairs=1)
    truth = TRUTH[:5].copy()
    clean, held = circuit_voltage(inputs, truth)[0], []
    for seed in range(120):
        found = solve_circuit(inputs, with_outliers(clean, seed), loss=Loss("huber"))
        made = judge(found.noise_V, found.jacobian, ~found.at_bound)
        reach = student.ppf(0.975, made.degrees_of_freedom) * made.standard_errors
        held.append(np.abs(found.parameters - truth) <= reach)
    assert 0.90 <= np.mean(held) <= 0.99


def test_without_outliers_a_robust_fit_is_that_of_least_squares():
    inputs = window()
    volts = with_outliers(circuit_voltage(inputs, TRUTH)[0], 2, share=0.0)
    plain, robust = (solve_circuit(inputs, volts, loss=Loss(n)) for n in ("squares", "huber"))
    errors = judge(plain.noise_V, plain.jacobian, ~plain.at_bound).standard_errors
    assert (np.abs(plain.parameters - robust.parameters) < errors).all()
    assert robust.loss.scale == pytest.approx(1.345 * 2e-4, rel=0.15)


@pytest.mark.parametrize("given", [{"loss": "cauchy"}, {"loss": ""}])
def test_an_unknown_loss_is_refused(whole_recording, given):
    with pytest.raises(BatterylabError, match="unknown loss"):
        fit(whole_recording, "circuit", **given)


def test_outliers_in_a_recording(whole_recording):
    """A voltmeter that fails in some rows: the robust fit is that of the recording without."""
    good = fit(whole_recording, "circuit")
    step = whole_recording.steps[good.step]
    volts = whole_recording.columns["voltage_V"].copy()
    rows = np.arange(step.first_row + 4, step.first_row + 120, 13)
    volts[rows] += 0.03
    bad = replace(whole_recording, columns={**whole_recording.columns, "voltage_V": volts})
    plain, robust = fit(bad, "circuit", step=good.step), fit(bad, "circuit", step=good.step,
                                                             loss="huber")  # fmt: skip
    true = good.values["r_sum_mOhm"]
    assert abs(robust.values["r_sum_mOhm"] - true) < 0.2 * abs(plain.values["r_sum_mOhm"] - true)
    assert any("rows lie beyond it; standard errors take it" in note for note in robust.notes)


@pytest.mark.parametrize("model", ["ocv", "spm"])
def test_every_model_takes_a_loss(whole_recording, model):
    plain, robust = fit(whole_recording, model), fit(whole_recording, model, loss="soft_l1")
    assert robust.converged and robust.residual_mV == pytest.approx(plain.residual_mV, rel=0.1)
    assert robust.settings["loss"] == "soft_l1"


def test_the_profile_of_a_linear_model_is_the_usual_interval():
    inputs = window(pairs=0)
    volts = with_outliers(circuit_voltage(inputs, TRUTH[:3])[0], 3, share=0.0)
    found = solve_circuit(inputs, volts)
    made = judge(found.noise_V, found.jacobian, ~found.at_bound)
    reach = student.ppf(0.975, made.degrees_of_freedom) * made.standard_errors
    for interval, best, expected in zip(profile(found, made), found.parameters, reach, strict=True):
        assert best - interval.low == pytest.approx(expected, rel=2e-3)
        assert interval.high - best == pytest.approx(expected, rel=2e-3)
        assert not interval.found_better


def test_the_profile_of_a_robust_fit_is_near_its_standard_errors():
    inputs = window(pairs=0)
    found = solve_circuit(inputs, with_outliers(circuit_voltage(inputs, TRUTH[:3])[0], 4),
                          loss=Loss("soft_l1"))  # fmt: skip
    made = judge(found.noise_V, found.jacobian, ~found.at_bound)
    reach = student.ppf(0.975, made.degrees_of_freedom) * made.standard_errors
    for interval, expected in zip(profile(found, made), reach, strict=True):
        assert interval.high - interval.low == pytest.approx(2 * expected, rel=0.15)


def test_a_parameter_that_does_nothing_has_open_ends():
    """With no more resistance to give, a second lag may be anything."""
    inputs = window(pairs=1)
    volts = with_outliers(circuit_voltage(window(pairs=0), TRUTH[:3])[0], 5, share=0.0)
    kernel = partial(_circuit.Fit, inputs.kernel, volts)
    lower, upper = LOWER[:5].copy(), UPPER[:5].copy()
    upper[3] = 1e-9
    found = solve(kernel, inputs.rows, [[*TRUTH[:3], 1e-10, 2.0]], lower, upper)
    lag = profile(found, judge(found.noise_V, found.jacobian, ~found.at_bound))[4]
    assert math.isnan(lag.low) and math.isnan(lag.high)


def test_a_curved_profile_is_not_the_standard_error(half_cells):
    """x_high of a charge that ends early: the profile's two sides differ; its ends are where the
    sum of squares, refitted, has risen by what is stated."""
    share, amps = np.linspace(0, 0.35, 120), np.full(120, 0.5)
    truth = [0.03, 0.9, 0.85, 0.27, 0.03]
    volts = ocv_voltage(share, amps, half_cells, truth)[0]
    volts = volts + 1e-3 * np.random.default_rng(1).standard_normal(120)
    found = solve_ocv(share, amps, volts, half_cells)
    made = judge(found.noise_V, found.jacobian, ~found.at_bound)
    interval = profile(found, made)[1]
    reach = student.ppf(0.975, made.degrees_of_freedom)
    wanted = reach**2 * 2 * found.cost / made.degrees_of_freedom
    ends = [end for end in (interval.low, interval.high) if math.isfinite(end)]
    assert ends
    for end in ends:
        fixed = least_squares(
            lambda p, end=end: ocv_voltage(share, amps, half_cells,
                                           [p[0], end, *p[1:]])[0] - volts,
            np.delete(found.parameters, 1), x_scale="jac", xtol=1e-14, ftol=1e-14,
            bounds=([0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]),
        )  # fmt: skip
        assert 2 * (fixed.cost - found.cost) == pytest.approx(wanted, rel=0.05)


def test_the_command_gives_profiles_and_losses(whole_recording, tmp_path):
    place = str(write(whole_recording, tmp_path))
    done = CliRunner().invoke(cli, ["fit", place, "--model", "circuit", "-p", "pairs=1", "--loss",
                                    "huber", "--profile", "--json"])  # fmt: skip
    assert done.exit_code == 0, done.output
    (made,) = json.loads(done.stdout)["fits"]
    low, high = made["profile"]["r0_mOhm"]
    assert low < made["values"]["r0_mOhm"] < high and made["settings"]["loss"] == "huber"
    told = CliRunner().invoke(cli, ["fit", place, "--model", "circuit", "--profile"])
    assert told.exit_code == 0 and "95 % profile" in told.stdout
