"""BPX files: as the start of a fit, and as what a fit is written to."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from batterylab import archive
from batterylab.cli import cli
from batterylab.errors import BatterylabError
from batterylab.fit import fit
from batterylab.fit.bpxexport import bpx_of
from batterylab.fit.celltables import cell_tables, tables_of
from batterylab.fit.dfncell import DfnCell, dfn_voltage
from batterylab.fit.halfcells import from_parameter_set
from batterylab.fit.spmcell import SpmCell, history_of, spm_voltage
from batterylab.pybamm_border import reference_voltage


@pytest.fixture(scope="module")
def spme(whole_recording):
    return fit(whole_recording, "spme")


@pytest.fixture(scope="module")
def content(spme):
    return bpx_of(spme)


@pytest.fixture
def file(content, tmp_path):
    path = tmp_path / "cell.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def history(degrees):
    time_s = np.arange(0.0, 1501.0, 20.0)
    amps = np.where(time_s > 0, np.where(time_s < 1200, -5.0, 0.0), 0.0)
    return time_s, amps, history_of(time_s, amps, temperature_degC=degrees)


def test_a_fit_goes_out_as_bpx_and_simulates_the_same_in_pybamm(spme, file):
    degrees = spme.settings["temperature_degC"]
    cell = SpmCell(cell_tables("Chen2020", degrees + 273.15), "spme",
                   area_factor=spme.settings["area_factor"])  # fmt: skip
    whole = cell.start.copy()
    whole[:11] = list(spme.settings["all_parameters"].values())[:11]
    back = SpmCell(cell_tables(str(file), degrees + 273.15), "spme")
    whole[2:4] = back.start[2:4]  # a BPX file begins full
    assert back.start[:11] == pytest.approx(whole[:11], rel=1e-9, abs=1e-12)
    time_s, amps, rows = history(degrees)
    ours = spm_voltage(cell, rows, whole).voltage_V
    theirs = reference_voltage(str(file), time_s, amps, temperature_degC=degrees)
    seen = np.isfinite(theirs)
    assert seen.sum() > 70
    assert np.abs(ours - theirs)[seen].max() < 1e-3


def test_a_fit_of_the_full_model_goes_out_with_its_solids(whole_recording, tmp_path):
    names = "y_start+contact_ohm+log_conductivity+log_negative_conductivity"
    made = fit(whole_recording, "dfn", free=names, points=40)
    found = made.settings["all_parameters"]
    moved = {**found, "log_negative_conductivity": -3.0, "log_positive_conductivity": 0.5}
    made = replace(made, converged=True, settings={**made.settings, "all_parameters": moved})
    content = bpx_of(made)
    assert content["Header"]["Model"] == "DFN"
    path = tmp_path / "cell.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    degrees = made.settings["temperature_degC"]
    cell = DfnCell(cell_tables("Chen2020", degrees + 273.15),
                   area_factor=made.settings["area_factor"])  # fmt: skip
    back = DfnCell(cell_tables(str(path), degrees + 273.15))
    whole = np.array(list(moved.values()))
    whole[2:4] = back.start[2:4]  # a BPX file begins full
    time_s, amps, rows = history(degrees)
    ours = dfn_voltage(cell, rows, whole).voltage_V
    assert np.abs(dfn_voltage(back, rows).voltage_V - ours).max() < 5e-4
    theirs = np.array([
        reference_voltage(str(path), time_s, amps, model="dfn", temperature_degC=degrees,
                          points=(points, 30)) for points in (10, 20)
    ])  # fmt: skip
    gap = (2.0 * theirs[1] - theirs[0] - ours)[1:]  # the error falls as the first power
    assert np.isfinite(gap).all() and np.abs(gap).max() < 2e-3


def test_the_stoichiometries_are_those_of_the_voltage_limits(content, file):
    tables = cell_tables(str(file))
    grid = np.linspace(0.0, 1.0, tables.potential_V.shape[1])
    p, n = (content["Parameterisation"][f"{e} electrode"] for e in ("Positive", "Negative"))
    for x, y, volts in (("Maximum", "Minimum", 4.2), ("Minimum", "Maximum", 2.5)):
        found = np.interp(p[f"{y} stoichiometry"], grid, tables.potential_V[1]) - np.interp(
            n[f"{x} stoichiometry"], grid, tables.potential_V[0]
        )
        assert found == pytest.approx(volts, abs=0.01)


def test_a_bpx_file_is_where_a_fit_starts(file, whole_recording, spme):
    made = fit(whole_recording, "spme", parameter_set=str(file))
    assert made.converged
    assert made.residual_mV < 1.2 * spme.residual_mV
    for name in ("negative_capacity_Ah", "lithium_inventory_Ah"):
        assert made.values[name] == pytest.approx(spme.values[name], rel=0.01)
    assert from_parameter_set(str(file)).negative_range == (5e-4, 1 - 5e-4)


def test_another_files_tables_are_not_taken_for_its_own(file, content, tmp_path):
    kept = tables_of(str(file), 298.15, tmp_path / "kept")
    electrode = content["Parameterisation"]["Negative electrode"]
    changed = {**electrode, "Particle radius [m]": 2 * electrode["Particle radius [m]"]}
    text = {**content, "Parameterisation": {**content["Parameterisation"],
                                            "Negative electrode": changed}}  # fmt: skip
    other = tmp_path / "other.json"
    other.write_text(json.dumps(text), encoding="utf-8")
    again = tables_of(str(other), 298.15, tmp_path / "kept")
    assert again.numbers["radius_n_m"] == pytest.approx(2 * kept.numbers["radius_n_m"])
    assert len(list((tmp_path / "kept").iterdir())) == 2


def edited(content, *path, value=None):
    text = json.loads(json.dumps(content))
    place = text
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(text)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("Parameterisation", "Separator"), None, "Parameterisation has no 'Separator'"),
        (("Parameterisation",), None, "there is no Parameterisation"),
        (("Parameterisation", "Cell", "Electrode area [m2]"), None, "not a BPX file"),
        (("Parameterisation", "Negative electrode", "Particle"), {"a": 1}, "blends of particles"),
        (("Parameterisation", "Negative electrode", "OCP [V]"), "__import__('os')",
         "not a BPX file"),
    ],
)  # fmt: skip
def test_what_is_no_bpx_is_refused(content, tmp_path, path, value, message):
    bad = tmp_path / "bad.json"
    bad.write_text(edited(content, *path, value=value), encoding="utf-8")
    with pytest.raises(BatterylabError, match=message):
        cell_tables(str(bad))


def test_a_file_that_is_no_json_is_told_with_its_line(tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_text('{"Header":\n nothing}', encoding="utf-8")
    with pytest.raises(BatterylabError, match=r"bad\.json:2: not JSON"):
        cell_tables(str(bad))
    with pytest.raises(BatterylabError, match="there is no such file"):
        cell_tables(str(tmp_path / "none.json"))


def test_only_particle_models_have_a_bpx(whole_recording):
    with pytest.raises(BatterylabError, match="a fit of circuit has no BPX"):
        bpx_of(fit(whole_recording, "circuit"))


def test_the_command_writes_bpx_beside_pybamms_parameters(whole_recording, tmp_path):
    path = archive.write(whole_recording, tmp_path / "archive")
    done = CliRunner().invoke(
        cli, ["fit", str(path), "--model", "spme", "--export", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert len(names) == 2 and names[0].endswith("_spme.bpx.json")
    assert json.loads((tmp_path / "out" / names[0]).read_text())["Header"]["BPX"].startswith("1.")
