"""Single-particle fits to recordings of the simulated bench cell, whose truth is known."""

import json
from dataclasses import replace

import made_recordings as made
import numpy as np
import pytest
from click.testing import CliRunner

from batterylab.archive import write
from batterylab.cli import cli
from batterylab.errors import BatterylabError, NotMetError
from batterylab.fit import NotSuitedError, fit
from batterylab.fit.batch import fit_many
from batterylab.fit.celltables import cell_tables
from batterylab.fit.result import Fit
from batterylab.fit.spm import USUAL, SpmeSettings, SpmSettings, bounds_of, solve_spm
from batterylab.fit.spmcell import NAMES, SpmCell, history_of, spm_voltage
from batterylab.fit.spmexport import check, export, parameter_values
from batterylab.fit.spmwindow import spm_window
from batterylab.fit.statistics import judge
from batterylab.simulated.cell import CellTruth, SimulatedCell

TRUTH = CellTruth(
    negative_loading=0.98, positive_loading=1.03, lithium_inventory=0.97,
    negative_diffusivity=0.8, positive_diffusivity=1.3, contact_ohm=0.011,
)  # fmt: skip


@pytest.fixture(scope="module")
def recording():
    return made.capacity_resistance(TRUTH, made.Meters(voltage_noise_V=2e-4), cycles=1)


@pytest.fixture(scope="module")
def spme(recording):
    return fit(recording, model="spme")


@pytest.fixture(scope="module")
def sealed(recording, tmp_path_factory):
    return write(recording, tmp_path_factory.mktemp("archive"))


def drive_cycle(**more):
    """From a rest near full on, in steps by the current's sign, the longest a tenth of the cell."""
    bench = made.Bench(SimulatedCell(TRUTH), soc=0.95, meters=made.Meters(voltage_noise_V=2e-4))
    bench.rest(1800)
    random = np.random.default_rng(4)
    for _ in range(16):
        for low, high, least_s, most_s in ((-6, -2, 180, 360), (1, 4, 20, 90)):
            bench.constant(random.uniform(low, high), int(random.integers(least_s, most_s)),
                           kind="charge" if low > 0 else "discharge", every_s=5.0)  # fmt: skip
    bench.rest(1800)
    return bench.recording(**more)


def truth_of(truth):
    cell, chen = SimulatedCell(truth), cell_tables("Chen2020").diffusivity_m2_s[:, 0]
    return {
        "negative_capacity_Ah": cell.capacity_Ah["negative"],
        "positive_capacity_Ah": cell.capacity_Ah["positive"],
        "lithium_inventory_Ah": cell.lithium_Ah(),
        "negative_diffusivity_m2_s": chen[0] * truth.negative_diffusivity,
        "positive_diffusivity_m2_s": chen[1] * truth.positive_diffusivity,
        "contact_mOhm": 1e3 * truth.contact_ohm,
    }


def test_spme_recovers_what_the_simulated_cell_is(spme):
    """Within 4 standard errors."""
    assert spme.converged and not spme.at_bound
    assert spme.residual_mV < 0.25  # the noise is 0.2
    for name, true in truth_of(TRUTH).items():
        assert spme.values[name] == pytest.approx(true, rel=0.005), name
        assert abs(spme.values[name] - true) < 4 * spme.standard_errors[name], name


def test_spm_says_that_it_lacks_the_electrolyte(recording, spme):
    """Its electrodes are right, its resistance holds the electrolyte's, its residual is larger."""
    simple = fit(recording, model="spm")
    assert simple.converged and simple.residual_mV > 5 * spme.residual_mV
    truth = truth_of(TRUTH)
    for name in ("negative_capacity_Ah", "positive_capacity_Ah", "lithium_inventory_Ah"):
        assert simple.values[name] == pytest.approx(truth[name], rel=0.006)
    assert simple.values["contact_mOhm"] > truth["contact_mOhm"] + 4


def test_intervals_hold_on_the_kernels_own_data(recording):
    """Noise of one standard deviation in 60 draws: the z scores are those of a normal variable."""
    window = spm_window(recording, points=40)
    cell = SpmCell(cell_tables("Chen2020"), "spme")
    history = replace(window.history, data=window.history.data.copy())
    seen, random, scores = history.observed, np.random.default_rng(5), []
    true = np.array([5.74, 9.04, 0.864, 0.272, 7.17, 8.57, 0.011])
    whole = cell.start.copy()
    whole[[NAMES.index(name) for name in USUAL]] = true
    clean = spm_voltage(cell, history, whole).voltage_V
    for _ in range(60):
        history.data[4, seen] = clean + 1e-3 * random.standard_normal(len(clean))
        noisy = replace(window, history=history)
        solution, _ = solve_spm(cell, noisy)
        assert solution.converged
        judgement = judge(solution.residual_V, solution.jacobian, ~solution.at_bound)
        scores.append((solution.parameters - true) / judgement.standard_errors)
    share = np.mean(np.abs(scores) < 2.0)
    assert 0.91 < share < 0.99
    assert np.abs(np.mean(scores, axis=0)).max() < 0.5


def test_a_drive_cycle_starts_at_the_cells_size_not_at_its_largest_discharge():
    made_of = fit(drive_cycle(), model="spme")
    assert made_of.converged and not made_of.at_bound and made_of.residual_mV < 0.25
    for name, true in truth_of(TRUTH).items():
        assert made_of.values[name] == pytest.approx(true, rel=0.005), name


def test_two_recordings_go_into_one_fit(recording, tmp_path):
    """A drive cycle from 95 % and a discharge from full: one cell, two zeros of the counter."""
    drive = drive_cycle(protocol="drive")
    both = fit([recording, drive], model="spme", joint=True)
    assert both.converged and not both.at_bound and both.residual_mV < 0.25
    for name, true in truth_of(TRUTH).items():
        assert both.values[name] == pytest.approx(true, rel=0.005), name
    first, second = both.settings["recordings"]
    assert first["rows"] + second["rows"] == both.rows and second["residual_mV"] < 0.3
    assert both.settings["all_parameters"]["charge_shift_1_Ah"] < -0.1
    places = [str(write(one, tmp_path)) for one in (recording, drive)]
    done = CliRunner().invoke(cli, ["fit", *places, "--joint", "--model", "spme", "--json",
                                    "--check"])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["pybamm"][0]["met"]
    assert json.loads(done.stdout)["fits"][0]["residual_mV"] == pytest.approx(both.residual_mV)
    alone = CliRunner().invoke(cli, ["fit", *places, "--model", "spme"])
    assert isinstance(alone.exception, BatterylabError) and "2 places" in str(alone.exception)
    with pytest.raises(BatterylabError, match="only with ocv, circuit, spm, spme and dfn"):
        fit([recording, drive], model="impedance", joint=True)
    with pytest.raises(BatterylabError, match="two recordings"):
        fit([recording], model="spm", joint=True)
    with pytest.raises(BatterylabError, match="two recordings to 8"):
        fit([recording] * 9, model="spm", joint=True)


def test_a_residual_beyond_the_voltages_own_scatter_is_no_fit(recording):
    """Charge counted with the wrong sign: the optimiser arrives, but at nothing."""
    columns = {**recording.columns, "net_capacity_Ah": -recording.columns["net_capacity_Ah"]}
    wrong = fit(replace(recording, columns=columns), model="spme",
                free="log_negative_time+contact_ohm")  # fmt: skip
    assert not wrong.converged and "more than the voltage itself" in wrong.reason
    assert all(np.isnan(v) for v in wrong.values.values())


def test_what_cannot_be_told_apart_is_named(recording, spme):
    assert ("negative_capacity_Ah", "x_start") in spme.cannot_tell_apart
    more = fit(recording, model="spme", free="+".join([*USUAL, "log_conductivity"]))
    assert len(more.correlation) == 8
    said = set(more.at_bound).union(*more.cannot_tell_apart)  # the two act on the voltage alike
    assert "contact_ohm" in said


def test_a_fit_that_did_not_converge_has_no_values(recording):
    short = fit(recording, model="spme", most_steps=2)
    assert not short.converged and "steps" in short.reason
    assert all(np.isnan(v) for v in short.values.values())
    with pytest.raises(BatterylabError, match="did not converge"):
        export(short)


def test_a_bound_is_said(recording):
    cell = SimulatedCell(CellTruth(contact_ohm=0.0))
    assert cell.truth.contact_ohm == 0.0
    less = fit(made.capacity_resistance(CellTruth(contact_ohm=-0.003), cycles=1), model="spme")
    assert "contact_ohm" in less.at_bound
    assert np.isnan(less.standard_errors["contact_mOhm"])


def test_other_parameters_can_be_chosen_and_wrong_ones_are_named(recording):
    with pytest.raises(BatterylabError, match="capacity"):
        SpmSettings(free="capacity")
    with pytest.raises(BatterylabError, match="no electrolyte"):
        SpmSettings(free="log_conductivity")
    with pytest.raises(BatterylabError, match="temperature"):
        SpmeSettings(free="log_heat")
    few = fit(recording, model="spme", free="x_start+y_start+log_salt_diffusivity")
    assert set(few.parameters) == {"x_start", "y_start", "log_salt_diffusivity"}


def test_the_window_begins_relaxed_and_leaves_charges_out(recording):
    window = spm_window(recording)
    flags = window.history.flags
    assert (flags & 2 > 0).sum() == 2 and flags[0] & 2
    assert not window.history.observed[window.history.data[1] > 0].any()
    assert window.history.data[2][0] == 0.0
    assert recording.steps[window.first_step].measure == "capacity"


def test_recordings_that_do_not_suit_are_refused(recording):
    bench = made.Bench(SimulatedCell(CellTruth()))
    bench.charge()
    with pytest.raises(NotSuitedError, match="rest"):
        spm_window(bench.recording())
    with pytest.raises(BatterylabError, match="no step 999"):
        spm_window(recording, 999)
    with pytest.raises(NotSuitedError, match="rest of ten minutes"):
        spm_window(recording, 0)
    volts = recording.columns["voltage_V"].copy()
    broken = replace(recording, columns={**recording.columns, "voltage_V": volts})
    row = recording.steps[spm_window(recording).first_step].first_row + 3
    volts[row] = np.nan
    with pytest.raises(BatterylabError, match=f"voltage_V, row {row}"):
        spm_window(broken, points=100000)


def test_many_in_threads_are_the_same_as_one_by_one(recording, spme):
    bench = made.Bench(SimulatedCell(CellTruth()))
    bench.charge()
    many = fit_many([recording, bench.recording(), recording], SpmeSettings(), threads=2)
    assert isinstance(many[1], NotSuitedError)
    for one in (many[0], many[2]):
        assert isinstance(one, Fit) and one.values == spme.values


def test_the_fit_goes_back_to_pybamm(spme, recording):
    values = parameter_values(spme)
    chen = cell_tables("Chen2020").numbers
    assert values["Negative electrode active material volume fraction"] == pytest.approx(
        chen["active_n"] * spme.values["negative_loading"]
    )
    assert values["Contact resistance [Ohm]"] == pytest.approx(1e-3 * spme.values["contact_mOhm"])
    found = check(spme, recording, points=(20, 40))
    assert found.is_met and found.rms_mV < 0.2
    assert found.rows > 500
    wrong = replace(spme, settings={**spme.settings, "all_parameters": {
        **spme.settings["all_parameters"]}})  # fmt: skip
    with pytest.raises(BatterylabError, match="no PyBaMM parameters"):
        export(replace(wrong, model="ocv"))


def test_the_command_fits_checks_and_exports(sealed, tmp_path):
    done = CliRunner().invoke(cli, ["fit", str(sealed), "--model", "spme", "--json", "--check",
                                    "--export", str(tmp_path)])  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["pybamm"][0]["met"] and found["pybamm"][0]["largest_mV"] < 1
    (path,) = tmp_path.glob("*_spme.json")
    assert json.loads(path.read_text())["schema"] == "batterylab.pybamm/1"


def test_bounds_hold_the_start():
    cell = SpmCell(cell_tables("Chen2020"), "spme")
    names = NAMES[:11]
    lower, upper = bounds_of(cell.start, names, 5.0)
    assert (lower <= cell.start[:11]).all() and (cell.start[:11] <= upper).all()


def test_a_size_is_taken_from_the_data_sheet():
    tables = cell_tables("Chen2020")
    half, whole = SpmCell(tables, "spme", area_factor=0.5), SpmCell(tables, "spme")
    time_s = np.arange(0.0, 600.0, 10.0)
    amps = np.append(0.0, np.full(59, -2.5))
    small = spm_voltage(half, history_of(time_s, amps)).voltage_V
    assert np.allclose(small, spm_voltage(whole, history_of(time_s, 2 * amps)).voltage_V,
                       atol=1e-9)  # fmt: skip


def test_a_joint_fit_is_checked_in_pybamm(recording, tmp_path):
    drive = drive_cycle(protocol="drive")
    both = fit([recording, drive], model="spme", joint=True)
    found = check(both, [recording, drive], points=(20, 40))
    assert found.is_met and found.rows > 0.9 * both.rows


def test_a_drive_cycle_far_below_empty_is_doubtful(tmp_path):
    """What no parameters describe converges, and is said to mean little, by the stated rule."""
    drive = drive_cycle(protocol="drive")
    volts = drive.columns["voltage_V"] + 0.04 * np.sin(drive.columns["test_time_s"] / 40.0)
    place = write(replace(drive, columns={**drive.columns, "voltage_V": volts}), tmp_path)
    done = CliRunner().invoke(cli, ["fit", str(place), "--model", "spme", "--json", "--check"])
    (made,) = json.loads(done.stdout)["fits"]
    assert made["converged"] and made["residual_mV"] > 15 and "above 15 mV" in made["doubtful"]
    assert isinstance(done.exception, NotMetError) and "1 are doubtful" in str(done.exception)
    told = CliRunner().invoke(cli, ["fit", str(place), "--model", "spme"])
    assert told.exit_code == 0 and "doubtful: residuals of" in told.output
