"""A circuit over the state of charge: all pulses of a recording in one fit."""

import numpy as np
import pytest
import real_recordings as real

from batterylab.errors import BatterylabError
from batterylab.fit import NotSuitedError, fit
from batterylab.fit.circuit import CircuitSettings, circuit_voltage, inputs_of
from batterylab.fit.circuitknots import fit_knots
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
            volts + random.normal(0, noise_V, len(time_s)), np.ones(len(time_s), bool), soc,
        ))  # fmt: skip
    return windows


@pytest.fixture
def windows(monkeypatch):
    made = made_windows()
    monkeypatch.setattr("batterylab.fit.circuitknots.pulse_windows", lambda *_: made)
    return made


def test_straight_lines_over_the_charge_are_recovered(windows, whole_recording):
    made = fit_knots(whole_recording, CircuitSettings(pairs=1, knots=2))
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
    few = fit_knots(whole_recording, CircuitSettings(pairs=1, knots=2))
    many = fit_knots(whole_recording, CircuitSettings(pairs=1, knots=4))
    assert few.standard_errors["r0_20soc_mOhm"] < many.standard_errors["r0_20soc_mOhm"]


def test_more_knots_than_pulses_are_refused(windows, whole_recording):
    with pytest.raises(NotSuitedError, match="4 pulses between two rests cannot carry 5 knots"):
        fit_knots(whole_recording, CircuitSettings(knots=5))


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
