"""Fits of the full model: recovery of what made the data, the command, PyBaMM at the optimum."""

import json
from dataclasses import replace

import made_recordings as made
import numpy as np
import pytest
from click.testing import CliRunner

from batterylab.archive import write
from batterylab.cli import cli
from batterylab.errors import BatterylabError
from batterylab.fit import Fit, fit
from batterylab.fit.celltables import cell_tables
from batterylab.fit.dfn import DfnSettings, solve_dfn, solve_many
from batterylab.fit.dfncell import NAMES, DfnCell, dfn_voltage, indices_of
from batterylab.fit.spm import USUAL, bounds_of
from batterylab.fit.spmcell import history_of
from batterylab.fit.spmexport import check, export, parameter_values
from batterylab.fit.spmwindow import SpmWindow
from batterylab.fit.statistics import judge
from batterylab.simulated.cell import CellTruth

SIX = ("negative_capacity_Ah", "positive_capacity_Ah", "x_start", "log_negative_time",
       "log_positive_time", "contact_ohm")  # fmt: skip


@pytest.fixture(scope="module")
def recording():
    truth = CellTruth(negative_diffusivity=0.8, contact_ohm=0.011)
    return made.capacity_resistance(truth, made.Meters(voltage_noise_V=2e-4), cycles=1)


@pytest.fixture(scope="module")
def dfn(recording):
    return fit(recording, model="dfn")


@pytest.fixture(scope="module")
def cell():
    return DfnCell(cell_tables("Chen2020"), points=(8, 3, 8))


def true_parameters(cell):
    whole = cell.start.copy()
    whole[indices_of(SIX)] *= np.array([0.98, 1.02, 0.99, 0.98, 1.01, 1.0])
    whole[NAMES.index("contact_ohm")] = 0.01
    return whole


def window_of(cell, whole, noise_V, seed):
    """A rest, 1C for most of the capacity, a rest."""
    time_s = np.concatenate([[0.0], np.arange(60.0, 3001, 60), np.arange(3010.0, 4000, 60)])
    amps = np.where((time_s > 0) & (time_s <= 3000), -5.0, 0.0)
    clean = dfn_voltage(cell, history_of(time_s, amps), whole).voltage_V
    volts = clean + noise_V * np.random.default_rng(seed).standard_normal(len(clean))
    history = history_of(time_s, amps, voltage_V=volts)
    return SpmWindow(history, 0, float(clean[0]), 25.0, 5.0, ())


def test_six_parameters_come_back_from_data_without_noise(cell):
    whole = true_parameters(cell)
    start = cell.start.copy()
    start[3] = whole[3]
    solution, found = solve_dfn(cell, window_of(cell, whole, 0.0, 0), SIX, start=start)
    assert solution.converged
    assert 1e3 * np.abs(solution.residual_V).max() < 0.02  # other steps in time than the data's
    assert found == pytest.approx(whole, rel=2e-3, abs=1e-5)


def test_stated_intervals_hold(cell):
    whole, scores = true_parameters(cell), []
    windows = [window_of(cell, whole, 1e-3, seed) for seed in range(40)]
    names = ("negative_capacity_Ah", "x_start", "log_positive_time", "contact_ohm")
    for window in windows:
        solution, _ = solve_dfn(cell, window, names, start=whole)
        assert solution.converged
        judgement = judge(solution.residual_V, solution.jacobian, ~solution.at_bound)
        gap = solution.parameters - whole[indices_of(names)]
        scores.append(gap / judgement.standard_errors)
    assert 0.88 < np.mean(np.abs(scores) < 2.0) < 1.0
    assert np.abs(np.mean(scores, axis=0)).max() < 0.6


def test_threads_give_what_one_gives(cell):
    whole = true_parameters(cell)
    windows = [window_of(cell, whole, 1e-3, seed) for seed in range(4)]
    flat = replace(windows[0], history=history_of([0.0, 1.0], [0.0, 0.0], voltage_V=[4.0, 4.0]))
    found = solve_many([cell] * 5, [*windows, flat], SIX, threads=2)
    assert isinstance(found[4], BatterylabError) and "no current" in str(found[4])
    for window, one in zip(windows, found, strict=False):
        alone, _ = solve_dfn(cell, window, SIX)
        assert not isinstance(one, BatterylabError)
        assert np.array_equal(one[0].parameters, alone.parameters)


def test_a_window_that_cannot_be_reached_is_a_fit_that_did_not_converge(cell):
    window = window_of(cell, true_parameters(cell), 0.0, 0)
    data = window.history.data.copy()
    data[2] *= 30.0  # charge that no bound of the capacities can hold
    data[1] *= 30.0
    wild = replace(window, history=replace(window.history, data=data))
    solution, _ = solve_dfn(cell, wild, SIX, most_steps=30)
    assert not solution.converged and "finite" in solution.reason


def test_a_recording_is_fitted(dfn):
    assert dfn.converged and dfn.model == "dfn" and not dfn.at_bound
    assert dfn.residual_mV < 1.0  # the simulated bench's cell has no depth
    assert dfn.values["negative_diffusivity_m2_s"] == pytest.approx(0.8 * 3.3e-14, rel=0.02)
    assert dfn.values["contact_mOhm"] == pytest.approx(11.0, abs=0.5)
    assert set(dfn.settings["all_parameters"]) == set(NAMES)


def test_two_recordings_go_into_one_fit(recording, dfn):
    both = fit([recording, recording], model="dfn", joint=True)
    assert both.converged and both.rows == 2 * dfn.rows
    assert both.settings["all_parameters"]["charge_shift_1_Ah"] == pytest.approx(0.0, abs=1e-3)
    assert both.parameters[-1] == "charge_shift_1_Ah" and len(both.settings["recordings"]) == 2
    assert both.values["contact_mOhm"] == pytest.approx(dfn.values["contact_mOhm"], abs=0.02)
    assert check(both, [recording, recording], (10, 20)).rows > dfn.rows


def test_the_shift_of_a_part_is_a_charge(cell):
    time_s, amps = np.array([0.0, 100, 200, 201, 300, 400]), np.full(6, -5.0)
    parts = history_of(time_s, amps, relaxed=np.arange(6) == 3)
    parts = replace(parts, flags=parts.flags + np.array([0, 0, 0, 16, 16, 16], np.uint8))
    moved = replace(parts, data=parts.data.copy())
    moved.data[2, 3:] += 0.25
    shifted = cell.start.copy()
    shifted[NAMES.index("charge_shift_1_Ah")] = 0.25
    found = dfn_voltage(cell, parts, shifted, derivatives=("charge_shift_1_Ah",))
    assert np.allclose(found.voltage_V, dfn_voltage(cell, moved).voltage_V, atol=1e-9)
    assert not found.jacobian[:3].any()
    shifted[NAMES.index("charge_shift_1_Ah")] += 1e-3
    rise = dfn_voltage(cell, parts, shifted, steps=found.steps).voltage_V - found.voltage_V
    assert np.allclose(found.jacobian[3:, 0], 1e3 * rise[3:], rtol=5e-3, atol=1e-4)


def test_solid_conductivities_can_be_fitted(recording):
    made_fit = fit(recording, model="dfn", free="contact_ohm+log_positive_conductivity", points=40)
    assert set(made_fit.parameters) == {"contact_ohm", "log_positive_conductivity"}
    assert "positive_solid_conductivity_factor" in made_fit.values or not made_fit.converged


def test_the_fit_goes_back_to_pybamm(dfn, recording):
    values = parameter_values(dfn)
    assert values["Contact resistance [Ohm]"] == pytest.approx(1e-3 * dfn.values["contact_mOhm"])
    assert export(dfn).model == "DFN"
    found = check(replace(dfn, settings={**dfn.settings, "step": dfn.step}), recording, (16, 30))
    assert found.largest_mV < 2.0 and found.rows > 100
    again = Fit.from_dict(json.loads(json.dumps(dfn.to_dict())))
    assert export(again) == export(dfn)


def test_the_command_fits_and_exports(recording, tmp_path):
    path = write(recording, tmp_path / "archive")
    done = CliRunner().invoke(cli, ["fit", str(path), "--model", "dfn", "-p", "points=40", "--json",
                                    "--export", str(tmp_path / "out")])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["fits"][0]["model"] == "dfn"
    (written,) = (tmp_path / "out").glob("*_dfn.json")
    assert json.loads(written.read_text())["model"] == "DFN"


def test_settings_name_what_is_wrong():
    with pytest.raises(BatterylabError, match="points"):
        DfnSettings(points=3)
    with pytest.raises(BatterylabError, match="log_heat"):
        DfnSettings(free="log_heat")
    assert DfnSettings().names == USUAL


def test_bounds_hold_the_start(cell):
    lower, upper = bounds_of(cell.start, NAMES[:16], 5.0, NAMES)
    assert (lower <= cell.start[:16]).all() and (cell.start[:16] <= upper).all()
