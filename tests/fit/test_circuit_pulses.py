"""Several pulses in one circuit: knots over the state of charge, joint fits, a thermal node."""

from dataclasses import replace

import numpy as np
import pytest
import real_recordings as real
from scipy.integrate import solve_ivp

from batterylab.errors import BatterylabError
from batterylab.fit import NotSuitedError, fit
from batterylab.fit.circuit import CircuitSettings
from batterylab.fit.circuitpulses import fit_pulses
from batterylab.fit.circuitsolve import circuit_voltage, inputs_of, joined
from batterylab.fit.window import PulseWindow
from batterylab.recording import StepRow

SOC = (20.0, 40.0, 60.0, 80.0)


def truth_at(soc):
    """R0, R1 and tau1 as straight lines over the state of charge, log tau1 likewise."""
    share = (soc - 20.0) / 60.0
    return 0.030 - 0.01 * share, 0.012 + 0.006 * share, np.exp(2.0 + 1.0 * share)


def made_windows(noise_V=1e-4):
    random = np.random.default_rng(6)
    time_s = np.arange(0.0, 181.0)
    amps = np.where((time_s > 0) & (time_s <= 30), -5.0, 0.0)
    charge_Ah = np.concatenate([[0.0], np.cumsum(amps[1:])]) / 3600.0
    windows = []
    for number, soc in enumerate(SOC):
        r0, r1, tau1 = truth_at(soc)
        inputs = inputs_of(time_s, amps, charge_Ah, pairs=1)
        volts = circuit_voltage(inputs, [3.4 + 0.006 * soc, 0.5, r0, r1, np.log(tau1)])[0]
        windows.append(PulseWindow(
            StepRow(2 * number + 1, 0, 1, "discharge"), time_s, amps, charge_Ah,
            volts + random.normal(0, noise_V, len(time_s)), np.full(len(time_s), 25.0),
            np.ones(len(time_s), bool), soc,
        ))  # fmt: skip
    return windows


@pytest.fixture
def windows(monkeypatch):
    made = made_windows()
    monkeypatch.setattr("batterylab.fit.circuitpulses.pulse_windows", lambda *_: made)
    return made


def test_straight_lines_over_the_charge_are_recovered(windows, whole_recording):
    made = fit_pulses([whole_recording], CircuitSettings(pairs=1, knots=2))
    assert made.converged
    assert made.residual_mV == pytest.approx(0.1, rel=0.2)
    for soc in (20, 80):
        r0, r1, tau1 = truth_at(soc)
        for name, value in ((f"r0_{soc}soc_mOhm", 1e3 * r0), (f"r1_{soc}soc_mOhm", 1e3 * r1),
                            (f"tau1_{soc}soc_s", tau1)):  # fmt: skip
            error = made.standard_errors[name]
            assert abs(made.values[name] - value) < 4.5 * error
            assert error < 0.05 * value
    assert made.values["ocv_step3_V"] == pytest.approx(3.64, abs=1e-3)
    assert len(made.parameters) == 4 * 2 + 3 * 2 == len(made.correlation)


def test_knots_say_more_than_one_pulse(windows, whole_recording):
    """A middle knot is known better than a fit of its pulse alone would know it."""
    few = fit_pulses([whole_recording], CircuitSettings(pairs=1, knots=2))
    many = fit_pulses([whole_recording], CircuitSettings(pairs=1, knots=4))
    assert few.standard_errors["r0_20soc_mOhm"] < many.standard_errors["r0_20soc_mOhm"]


def test_more_knots_than_pulses_are_refused(windows, whole_recording):
    with pytest.raises(NotSuitedError, match="4 pulses between two rests cannot carry 5 knots"):
        fit_pulses([whole_recording], CircuitSettings(knots=5))


@pytest.mark.parametrize("given", [{"knots": 1}, {"knots": -2}, {"knots": 3, "step": 4}])
def test_wrong_knots_are_refused(given):
    with pytest.raises(BatterylabError, match="knots must be 0, or 2 and more"):
        CircuitSettings(**given)


def test_a_real_cell_is_described_by_three_knots(shared_data):
    made = fit(real.leaf_pulses(shared_data), "circuit", knots=3, pairs=1)
    assert made.converged
    assert made.residual_mV <= 3.0
    r0 = [value for name, value in made.values.items() if name.startswith("r0_")]
    assert len(r0) == 3 and all(1.3 < value < 2.2 for value in r0)
    assert "no full charge is known" in " ".join(made.notes)


def test_several_recordings_share_one_circuit(windows, whole_recording, monkeypatch):
    """Joint without knots: one pulse a recording, an open-circuit voltage each, one circuit."""
    same = [truth_at(50.0)] * 4
    monkeypatch.setattr("test_circuit_pulses.truth_at", lambda soc: same[0])
    several = iter(made_windows())
    monkeypatch.setattr("batterylab.fit.circuitpulses.pulse_window", lambda *_: next(several))
    made = fit([whole_recording] * 4, "circuit", joint=True, pairs=1)
    assert made.converged and made.residual_mV == pytest.approx(0.1, rel=0.2)
    r0, r1, tau1 = same[0]
    for name, value in (("r0_mOhm", 1e3 * r0), ("r1_mOhm", 1e3 * r1), ("tau1_s", tau1)):
        assert abs(made.values[name] - value) < 4.5 * made.standard_errors[name]
    assert made.values["ocv_3_step5_V"] == pytest.approx(3.76, abs=1e-3)
    assert [one["rows"] for one in made.settings["recordings"]] == [181] * 4


def test_too_many_parameters_are_refused(windows, whole_recording):
    with pytest.raises(BatterylabError, match="at most 96 parameters"):
        fit([whole_recording] * 8, "circuit", joint=True, order=4, pairs=3, knots=4)


HEAT = {"capacity": 60.0, "cooling": 0.2, "activation_K": 2500.0}


def warm_pulse(seconds=60, rest_s=1200, amps=-20.0):
    time_s = np.arange(0.0, seconds + rest_s + 1.0)
    current_A = np.where((time_s > 0) & (time_s <= seconds), amps, 0.0)
    charge = np.concatenate([[0.0], np.cumsum(current_A[1:])]) / abs(amps * seconds)
    inputs = inputs_of(time_s, current_A, charge, pairs=2)
    around = np.full(len(time_s), 298.15)
    return time_s, current_A, joined([inputs], np.ones((1, 1)), around, 0.01)


PULSE = [3.7, 0.02, 0.025, 0.008, np.log(8.0), 0.012, np.log(100.0)]
WARM = [np.log(HEAT["capacity"]), np.log(HEAT["cooling"]), HEAT["activation_K"]]


def test_the_thermal_node_agrees_with_an_integrator():
    time_s, amps, inputs = warm_pulse()

    def rates(now_s, state):
        u1, u2, kelvin = state
        current = amps[1] if now_s < 60.0 else 0.0
        g = np.exp(HEAT["activation_K"] * (1 / kelvin - 1 / 298.15))
        heat_W = current * (0.025 * current + 0.008 * u1 + 0.012 * u2) * g
        cooled_W = HEAT["cooling"] * (kelvin - 298.15)
        return [(current - u1) / 8.0, (current - u2) / 100.0,
                (heat_W - cooled_W) / HEAT["capacity"]]  # fmt: skip

    made, _ = circuit_voltage(inputs, [*PULSE, *WARM])
    begun = solve_ivp(rates, (0.0, 60.0), [0.0, 0.0, 298.15], rtol=1e-10, atol=1e-10,
                      max_step=1.0, t_eval=time_s[:61])  # fmt: skip
    later = solve_ivp(rates, (60.0 + 1e-9, time_s[-1]), begun.y[:, -1], rtol=1e-10, atol=1e-10,
                      max_step=5.0, t_eval=time_s[61:])  # fmt: skip
    u1, u2, kelvin = np.hstack([begun.y, later.y])
    assert np.ptp(kelvin) > 5
    np.testing.assert_allclose(made[len(time_s):] / 0.01, kelvin, atol=5e-4)
    g = np.exp(HEAT["activation_K"] * (1 / kelvin - 1 / 298.15))
    volts = 3.7 + 0.02 * inputs.charge + (0.025 * amps + 0.008 * u1 + 0.012 * u2) * g
    np.testing.assert_allclose(made[:len(time_s)], volts, atol=2e-6)


@pytest.mark.parametrize("activation_K", [np.nan, 2500.0])
def test_the_thermal_node_s_derivatives_agree_with_differences(activation_K):
    _, _, free = warm_pulse(rest_s=200)
    inputs = joined([free], np.ones((1, 1)), free.temperature_K, 0.01, activation_K)
    p = np.array([*PULSE, *WARM][: inputs.count])
    _, jacobian = circuit_voltage(inputs, p)
    for place in range(len(p)):
        up, down, width = p.copy(), p.copy(), 1e-6 * max(1.0, abs(p[place]))
        up[place] += width
        down[place] -= width
        difference = (circuit_voltage(inputs, up)[0] - circuit_voltage(inputs, down)[0])
        column = jacobian[:, place]
        np.testing.assert_allclose(difference / (2 * width), column,
                                   atol=1e-5 * np.abs(column).max())  # fmt: skip


def warm_window(monkeypatch, noise_K=0.02):
    time_s, amps, inputs = warm_pulse()
    clean, random = circuit_voltage(inputs, [*PULSE, *WARM])[0], np.random.default_rng(3)
    count = len(time_s)
    degrees = clean[count:] / 0.01 - 273.15 + random.normal(0, noise_K, count)
    degrees[0] = 25.0
    made = PulseWindow(
        StepRow(1, 0, 1, "discharge"), time_s, amps, inputs.charge * 1200.0 / 3600.0,
        clean[:count] + random.normal(0, 1e-4, count),
        degrees,
        np.ones(count, bool), 50.0,
    )  # fmt: skip
    monkeypatch.setattr("batterylab.fit.circuitpulses.pulse_window", lambda *_: made)


def test_the_thermal_node_is_recovered(monkeypatch, whole_recording):
    warm_window(monkeypatch)
    made = fit(whole_recording, "circuit", thermal=True, kelvin_mV=5.0)
    assert made.converged and made.residual_mV == pytest.approx(0.1, rel=0.2)
    for name, value in (("heat_capacity_J_per_K", 60.0), ("cooling_W_per_K", 0.2),
                        ("activation_kJ_per_mol", 2500.0 * 8.314462618e-3),
                        ("r0_mOhm", 25.0)):  # fmt: skip
        assert abs(made.values[name] - value) < 4.5 * made.standard_errors[name], name
        assert made.standard_errors[name] < 0.05 * value
    assert any("K rms off" in note for note in made.notes)
    held = fit(whole_recording, "circuit", thermal="true", activation_kJ_per_mol=20.8)
    assert "activation_kJ_per_mol" not in held.values and held.converged
    assert held.values["heat_capacity_J_per_K"] == pytest.approx(60.0, rel=0.03)


def test_a_thermal_node_wants_a_temperature(whole_recording):
    columns = {**whole_recording.columns}
    columns["temperature_degC"] = np.full_like(columns["temperature_degC"], np.nan)
    with pytest.raises(NotSuitedError, match="needs a measured temperature"):
        fit(replace(whole_recording, columns=columns), "circuit", thermal=True)
    with pytest.raises(BatterylabError, match="thermal = 'warm' is neither true nor false"):
        fit(whole_recording, "circuit", thermal="warm")
    with pytest.raises(BatterylabError, match="belongs to the thermal node"):
        fit(whole_recording, "circuit", activation_kJ_per_mol=20)
