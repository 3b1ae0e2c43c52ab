"""The circuit fit against truth, finite differences and counted intervals."""

import math
from dataclasses import replace
from functools import partial

import made_recordings as made
import numpy as np
import pytest
import real_recordings as real
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.stats import t as student
from test_ocv_fit import noise

from batterylab._kernels import _circuit
from batterylab.errors import BatterylabError
from batterylab.features.ledger import Ledger
from batterylab.features.resistance import pulses_of
from batterylab.fit import NotSuitedError, fit
from batterylab.fit.circuit import names_of
from batterylab.fit.circuitsolve import circuit_voltage, inputs_of, lag_bounds, solve_circuit
from batterylab.fit.solve import solve
from batterylab.fit.statistics import correlation_time, judge
from batterylab.fit.window import pulse_window, torn_rows

TRUTH = np.array([3.7, 0.004, 0.025, 0.008, math.log(3.0), 0.012, math.log(40.0)])


def window(pulse_s=30, rest_s=300, amps=-5.0, **more):
    time_s = np.arange(pulse_s + rest_s + 1.0)
    current_A = np.where((time_s > 0) & (time_s <= pulse_s), amps, 0.0)
    charge = np.concatenate([[0], np.cumsum(current_A[1:])])
    return inputs_of(time_s, current_A, charge / np.abs(charge).max(), **more)


@given(st.integers(0, 3), st.integers(0, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_derivatives_agree_with_finite_differences(pairs, order, seed):
    random = np.random.default_rng(seed)
    time_s = np.cumsum(random.uniform(0.1, 20, 40))
    inputs = inputs_of(time_s, random.standard_normal(40), random.uniform(-1, 1, 40), order=order,
                       pairs=pairs, observed=random.random(40) < 0.8)  # fmt: skip
    p = random.uniform(0.01, 0.1, inputs.count)
    p[order + 3 :: 2] = np.log(random.uniform(1, 200, pairs))
    _, jacobian = circuit_voltage(inputs, p)
    assert jacobian.shape == (inputs.rows, inputs.count)
    for k in range(inputs.count):
        up, down = p.copy(), p.copy()
        up[k] += 1e-6
        down[k] -= 1e-6
        difference = (circuit_voltage(inputs, up)[0] - circuit_voltage(inputs, down)[0]) / 2e-6
        np.testing.assert_allclose(jacobian[:, k], difference, rtol=1e-5, atol=1e-7)


def test_the_voltage_is_that_of_the_differential_equation():
    inputs = window()

    parts = []
    state = np.zeros(2)
    for begin, end in ((0.0, 30.0), (30.0, 330.0)):
        at = inputs.time_s[(inputs.time_s > begin) & (inputs.time_s <= end)]
        amps = -5.0 if end == 30.0 else 0.0
        answer = solve_ivp(
            lambda _, u, amps=amps: (amps - u) / np.exp(TRUTH[[4, 6]]),
            (begin, end), state, t_eval=at, rtol=1e-10, atol=1e-12)  # fmt: skip
        parts.append(answer.y)
        state = answer.y[:, -1]
    u = np.concatenate([np.zeros((2, 1)), *parts], axis=1)
    expected = (TRUTH[0] + TRUTH[1] * inputs.charge + TRUTH[2] * inputs.current_A
                + TRUTH[[3, 5]] @ u)  # fmt: skip
    np.testing.assert_allclose(circuit_voltage(inputs, TRUTH)[0], expected, atol=1e-8)


@given(st.floats(0.005, 0.05), st.floats(0.003, 0.02), st.floats(0.8, 5), st.floats(0.003, 0.02),
       st.floats(15, 80))  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_clean_data_give_back_what_made_them(r0, r1, tau1, r2, tau2):
    truth = [3.7, 0.003, r0, r1, math.log(tau1), r2, math.log(tau2)]
    inputs = window()
    solution = solve_circuit(inputs, circuit_voltage(inputs, truth)[0])
    assert solution.converged
    np.testing.assert_allclose(solution.parameters, truth, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(("a", "low", "high"), [(0.0, 0.93, 0.975), (0.8, 0.90, 0.995)])
def test_intervals_hold_as_often_as_they_say(a, low, high):
    """95 % intervals (Student's t) over 200 draws; correlated residuals included."""
    inputs = window()
    volts, _ = circuit_voltage(inputs, TRUTH)
    random = np.random.default_rng(11)
    hits = []
    for _ in range(200):
        solution = solve_circuit(inputs, volts + 2e-4 * noise(random, len(volts), a))
        judgement = judge(solution.residual_V, solution.jacobian, ~solution.at_bound)
        width = student.ppf(0.975, judgement.degrees_of_freedom) * judgement.standard_errors
        hits.append(np.abs(solution.parameters - TRUTH) <= width)
    assert low <= np.mean(hits) <= high
    assert np.mean(hits, axis=0).min() > 0.84


@pytest.mark.parametrize("a", [0.0, 0.5, 0.9])
def test_the_correlation_time_of_an_autoregression_is_found(a):
    random = np.random.default_rng(3)
    times = [correlation_time(noise(random, 4000, a)) for _ in range(20)]
    assert np.mean(times) == pytest.approx((1 + a) / (1 - a), rel=0.12)


def test_pairs_come_by_rising_lag_and_in_named_units(whole_recording):
    found = fit(whole_recording, "circuit")
    assert found.parameters == names_of(1, 2)
    assert found.values["tau1_s"] < found.values["tau2_s"]
    total = sum(found.values[f"r{k}_mOhm"] for k in range(3))
    assert found.values["r_sum_mOhm"] == pytest.approx(total)
    assert found.values["ocv_V"] == pytest.approx(3.75, abs=0.02)


def test_the_circuit_agrees_with_the_resistance_it_was_made_from(whole_recording):
    """R0 lies below the 1-s resistance, and the model's 10-s value is the measured one."""
    from batterylab.features import features_of

    found = fit(whole_recording, "circuit")
    measured = {f.name: f.value for f in features_of(whole_recording)}
    v = found.values
    model = v["r0_mOhm"] + sum(
        v[f"r{k}_mOhm"] * (1 - math.exp(-10.0 / v[f"tau{k}_s"])) for k in (1, 2)
    )
    slope = 1e3 * v["ocv_slope_V_per_Ah"] * 10 / 3600
    assert model + slope == pytest.approx(measured["dcir_10s_mOhm"], rel=0.01)
    assert v["r0_mOhm"] < measured["dcir_1s_mOhm"]


@pytest.mark.parametrize("pairs", [0, 1, 2, 3])
def test_more_pairs_fit_no_worse(whole_recording, pairs):
    found = fit(whole_recording, "circuit", pairs=pairs)
    more = fit(whole_recording, "circuit", pairs=min(pairs + 1, 3))
    assert more.residual_mV <= found.residual_mV * 1.0001
    assert len(found.parameters) == 3 + 2 * pairs


def test_a_window_that_is_too_short_says_what_it_cannot_tell():
    """A lag of 40 s in 25 s of data: flagged, not hidden behind small errors."""
    inputs = window(pulse_s=10, rest_s=15)
    random = np.random.default_rng(5)
    flagged = 0
    for _ in range(20):
        noisy = circuit_voltage(inputs, TRUTH)[0] + 2e-4 * noise(random, inputs.rows, 0.0)
        solution = solve_circuit(inputs, noisy)
        judgement = judge(solution.residual_V, solution.jacobian, ~solution.at_bound)
        flagged += bool(solution.at_bound.any() or judgement.weak)
    assert flagged >= 18


def test_a_lag_that_does_nothing_has_no_error():
    inputs = window(pairs=2)
    one = circuit_voltage(window(pairs=1), TRUTH[:5])[0]
    solution = solve_circuit(inputs, one)
    judgement = judge(solution.residual_V, solution.jacobian, ~solution.at_bound)
    vague = judgement.weak or solution.at_bound.any() or np.isnan(judgement.standard_errors).any()
    assert vague


# --- what is fitted ---------------------------------------------------------------------------


def test_the_pulse_nearest_half_charge_is_taken_or_the_one_named(whole_recording):
    pulses = [s.step_index for s in whole_recording.steps if s.measure == "dcir"]
    assert pulse_window(whole_recording).step.step_index == pulses[1]
    assert pulse_window(whole_recording, pulses[0]).soc_percent == pytest.approx(80, abs=0.5)
    with pytest.raises(NotSuitedError, match="step 0 is no pulse"):
        pulse_window(whole_recording, 0)


def test_a_gap_between_samples_carries_the_current_until_the_step_begins():
    bench = made.Bench(made.SimulatedCell(made.CellTruth()), soc=0.5)
    bench.rest(600)
    bench.constant(-5.0, 10, measure="dcir", every_s=1.0)
    bench.rest(600)
    recording = bench.recording()
    whole = pulse_window(recording)
    assert whole.observed.all() and whole.current_A[0] == 0
    columns = {k: v.copy() for k, v in recording.columns.items()}
    steps = [recording.steps[0]]
    for step, late_s in zip(recording.steps[1:], (0.5, 1.0), strict=True):
        columns["test_time_s"][step.rows] += late_s
        steps.append(replace(step, start_s=step.start_s + late_s))
    late = pulse_window(replace(recording, columns=columns, steps=steps))
    hidden = np.flatnonzero(~late.observed)
    assert len(hidden) == 2
    assert late.current_A[hidden[0]] == 0.0 and late.current_A[hidden[1]] == -5.0
    assert late.charge_Ah[hidden[0]] == 0.0


def test_a_recording_without_pulses_does_not_suit():
    with pytest.raises(NotSuitedError, match="no pulse between two rests"):
        fit(made.slow_discharge(), "circuit")


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"pairs": 4}, "pairs must be 0 to 3"),
        ({"pairs": "two"}, "not a whole number"),
        ({"pair": 1}, "did you mean 'pairs'"),
        ({"order": -1}, "order must be"),
        ({"rest_s": 0}, "rest_s"),
        ({"tolerance": "nan"}, "not a number"),
    ],
)
def test_wrong_settings_are_refused(whole_recording, given_, message):
    with pytest.raises(BatterylabError, match=message):
        fit(whole_recording, "circuit", **given_)


def test_an_unknown_model_is_refused(whole_recording):
    with pytest.raises(BatterylabError, match="one of ocv, circuit"):
        fit(whole_recording, "cirquit")


def test_too_few_rows_are_refused():
    with pytest.raises(BatterylabError, match="rows cannot determine"):
        solve_circuit(window(pulse_s=2, rest_s=3), np.full(6, 3.7))
    with pytest.raises(BatterylabError, match="no current"):
        solve_circuit(inputs_of(np.arange(20.0), np.zeros(20), np.zeros(20)), np.full(20, 3.7))


def test_the_projected_optimum_is_that_of_the_bounded_optimiser():
    inputs = window(pulse_s=40, rest_s=900)
    volts = circuit_voltage(inputs, TRUTH)[0] + np.random.default_rng(4).normal(0, 1e-3, 941)
    projected = solve_circuit(inputs, volts)
    assert projected.steps < 12
    kernel = partial(_circuit.Fit, inputs.kernel, volts)
    wide = np.array([9.0, 9.0, 1.0, 1.0, 8.0, 1.0, 8.0])
    other = solve(kernel, 941, TRUTH[None, :], np.where(wide < 9, 0.0, -9.0), wide)
    cost = [s.residual_V @ s.residual_V for s in (projected, other)]
    assert cost[0] == pytest.approx(cost[1], rel=1e-7)
    np.testing.assert_allclose(projected.parameters, other.parameters, rtol=2e-3, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 1e5) | st.just(0.0), min_size=0, max_size=40),
    st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=41),
    st.integers(0, 4),
    st.integers(0, 3),
    st.floats(-10, 10),
)
def test_no_window_crashes_or_hangs(gaps, amps, order, pairs, volt):
    time_s = np.concatenate([[0.0], np.cumsum(gaps)])
    current_A = np.resize(amps, len(time_s))
    volts = volt + 1e-3 * current_A + np.sin(np.arange(len(time_s)))
    inputs = inputs_of(time_s, current_A, np.linspace(0, 1, len(time_s)), order=order, pairs=pairs)
    try:
        found = solve_circuit(inputs, volts, most_steps=50)
    except BatterylabError:
        return
    assert found.parameters.shape == (inputs.count,)
    assert not found.converged or np.isfinite(found.parameters).all()


@pytest.mark.filterwarnings("error")
def test_rows_a_moment_apart_do_not_divide_by_zero():
    inputs = inputs_of([0.0, 0.0, 5e-324, 1.0, 2.0], [0.0, 1, 1, 1, 0], np.zeros(5), pairs=0)
    assert np.isfinite(lag_bounds(inputs)).all()
    with pytest.raises(BatterylabError, match="no length in time"):
        lag_bounds(inputs_of([0.0, 0.0], [1.0, 1.0], [0.0, 1.0]))


def test_rows_whose_current_and_voltage_are_not_of_one_instant_are_found():
    amps = np.array([0.0, 0, 0, -5, -5, -5, 0, 0, 0])
    volts = np.array([4.0, 4, 4, 3.8, 3.79, 3.78, 3.98, 3.99, 3.99])
    assert not torn_rows(amps, volts).any()
    late, early = volts.copy(), volts.copy()
    late[6] = 3.779
    early[2] = 3.81
    assert np.flatnonzero(torn_rows(amps, late)).tolist() == [6]
    assert np.flatnonzero(torn_rows(amps, early)).tolist() == [2]
    assert not torn_rows(np.zeros(9), late).any()


def test_real_pulses_are_described_to_a_tenth_of_a_millivolt(shared_data):
    found = fit(real.nrel_pulses(shared_data), "circuit")
    assert found.converged and found.residual_mV < 0.1
    assert found.at_bound or found.cannot_tell_apart, "40 s of rest do not settle two slow lags"


def test_every_real_pulse_and_rest_is_described_to_three_millivolts(shared_data):
    recordings = [real.nrel_pulses(shared_data), real.leaf_pulses(shared_data)]
    recordings += [real.lg_m50_pulse(shared_data, f"SoC{n}") for n in range(1, 10)]
    residuals = {}
    for recording in recordings:
        for pulse in pulses_of(Ledger(recording)):
            step = pulse.step.step_index
            found = fit(recording, "circuit", step=step)
            assert found.converged
            residuals[recording.serial, step] = found.residual_mV
    assert len(residuals) == 9 + 10 + 9
    assert max(residuals.values()) <= 3.0
    assert np.median(list(residuals.values())) <= 0.5


def test_what_was_left_out_of_a_real_pulse_is_said(shared_data):
    found = fit(real.lg_m50_pulse(shared_data), "circuit")
    assert "not of one instant" in " ".join(found.notes)
