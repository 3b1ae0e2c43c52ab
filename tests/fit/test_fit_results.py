"""What is kept of fits, the command, and what fitting must not import or open."""

import json
import subprocess
import sys
from dataclasses import replace

import made_recordings as made
import pytest
from click.testing import CliRunner
from test_ocv_fit import write_curves

from batterylab.archive import write
from batterylab.cli import cli
from batterylab.errors import BatterylabError, NotMetError
from batterylab.fit import Fit, NotSuitedError, fit, store
from batterylab.fit.plot import plot_fit
from batterylab.fit.store import study_fits
from batterylab.study import Study
from batterylab.studyfiles import write_study


@pytest.fixture(scope="module")
def recordings(whole_recording):
    gauge = made.Bench(made.SimulatedCell(made.CellTruth()))
    gauge.charge()
    gauge.rest(600)
    gauge.discharge(measure="capacity")
    return [whole_recording, replace(whole_recording, serial="A1-002"),
            gauge.recording(serial="A1-003")]  # fmt: skip


@pytest.fixture
def study(tmp_path, recordings):
    write_study(tmp_path / "s")
    study = Study.open(tmp_path / "s")
    for recording in recordings:
        write(recording, study.archive)
    return study


def run(*arguments):
    return CliRunner().invoke(cli, [str(a) for a in arguments])


@pytest.mark.parametrize("model", ["ocv", "circuit"])
def test_a_study_is_fitted_once(study, monkeypatch, model):
    seen = []
    fits = study_fits(study, model, lambda done, of: seen.append((done, of)))
    assert [f.serial for f in fits] == ["A1-001", "A1-002"]  # the gauge part does not suit
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert all(len(f.seal) == 64 and f.converged for f in fits)

    def never(*arguments):
        raise AssertionError("fitted again")

    monkeypatch.setattr(store, "fit_one", never)
    again = study_fits(study, model)
    assert [f.to_dict() for f in again] == [f.to_dict() for f in fits]
    with pytest.raises(AssertionError, match="fitted again"):  # other settings: another fit
        study_fits(study, model, settings={"most_steps": 77})


def test_only_what_is_missing_or_damaged_is_fitted_again(study, monkeypatch):
    study_fits(study, "circuit")
    kept = sorted((study.results / "fits").glob("*.json"))
    assert len(kept) == 3
    kept[0].write_text("{")
    kept[1].unlink()
    calls = []
    original = store.fit_one

    def counted(*arguments):
        calls.append(1)
        return original(*arguments)

    monkeypatch.setattr(store, "fit_one", counted)
    assert len(study_fits(study, "circuit")) == 2 and len(calls) == 2
    monkeypatch.setattr(store, "VERSION", "next")
    study_fits(study, "circuit")
    assert len(calls) == 5


def test_a_fit_survives_the_way_into_a_file(whole_recording):
    made_ = fit(whole_recording, "circuit")
    back = Fit.from_dict(json.loads(json.dumps(made_.to_dict(), allow_nan=False)))
    assert back.to_dict() == made_.to_dict() and back.curve is None


def test_several_recordings_give_as_many_fits(recordings):
    fits = fit(recordings[:2], "circuit")
    assert [f.serial for f in fits] == ["A1-001", "A1-002"]
    with pytest.raises(NotSuitedError):
        fit(recordings, "circuit")


def test_a_picture_of_a_fit_is_written_whole(whole_recording, tmp_path):
    path = plot_fit(fit(whole_recording, "circuit"), tmp_path / "new")
    assert path.read_bytes().startswith(b"\x89PNG") and len(list(path.parent.iterdir())) == 1
    with pytest.raises(BatterylabError, match="no curve"):
        plot_fit(replace(fit(whole_recording, "circuit"), curve=None), tmp_path)


# --- the command ------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["ocv", "circuit"])
def test_the_command_on_a_study(study, model):
    answer = run("fit", study.path, "--model", model, "--json")
    assert answer.exit_code == 0, answer.output
    data = json.loads(answer.stdout)
    assert data["schema"] == "batterylab.fits/1" and len(data["fits"]) == 2
    assert "±" in run("fit", study.path, "--model", model).stdout


def test_the_command_on_a_recording_with_settings_and_picture(study, tmp_path):
    file = next(study.archive.glob("A1-001/*.h5"))
    answer = run("fit", file, "--model", "circuit", "-p", "pairs=1,order=0", "--step", "19",
                 "--plot", tmp_path / "p", "--json")  # fmt: skip
    made_ = json.loads(answer.stdout)["fits"][0]
    assert made_["settings"]["pairs"] == 1 and made_["step"] == 19
    assert made_["parameters"] == ["ocv_V", "r0_mOhm", "r1_mOhm", "tau1_s"]
    assert len(list((tmp_path / "p").glob("A1-001_*_circuit.png"))) == 1


def test_the_command_takes_half_cells_from_a_file(study, half_cells, tmp_path):
    curves = write_curves(tmp_path / "h.csv", half_cells)
    answer = run("fit", study.path, "--model", "ocv", "--half-cells", curves, "--json")
    used = json.loads(answer.stdout)["fits"][0]["settings"]
    assert used["half_cells"] == "h.csv"
    assert isinstance(run("fit", study.path, "--model", "circuit", "--half-cells", curves)
                      .exception, BatterylabError)  # fmt: skip


def test_a_fit_that_did_not_converge_says_so_and_fails_the_check(study):
    arguments = ("fit", study.path, "--model", "ocv", "-p", "most_steps=1")
    answer = run(*arguments)
    assert answer.exit_code == 0
    assert "did not converge" in answer.stdout and "did not converge" in answer.stderr
    assert "±" not in answer.stdout
    values = json.loads(run(*arguments, "--json").stdout)["fits"][0]["values"]
    assert set(values.values()) == {None}
    assert isinstance(run(*arguments, "--check").exception, NotMetError)
    assert run("fit", study.path, "--model", "ocv", "--check").exit_code == 0


def test_many_fits_are_summarised(study, recordings):
    for number in range(3, 6):
        write(replace(recordings[0], serial=f"A2-00{number}"), study.archive)
    lines = run("fit", study.path, "--model", "circuit").stdout.splitlines()
    assert lines[0].split()[:4] == ["parameter", "n", "mean", "sd"]
    assert {line.split()[0] for line in lines[1:-1]} >= {"r0_mOhm", "tau2_s"}
    assert lines[1].split()[1] == "5"


@pytest.mark.parametrize(
    "arguments",
    [("nowhere", "--model", "ocv"), (".", "--model", "circuit", "-p", "pairs"),
     (".", "--model", "circuit", "-p", "pairs=9"), ("x.h5", "--model", "ocv")],
)  # fmt: skip
def test_wrong_use_is_one_clear_error(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.h5").write_bytes(b"no HDF5")
    assert isinstance(run("fit", *arguments).exception, BatterylabError)


# --- promises ---------------------------------------------------------------------------------


def test_fitting_imports_no_pybamm_and_opens_no_socket(study):
    """With the tables kept, neither fit needs PyBaMM; a socket would end the process."""
    study_fits(study, "ocv")
    for file in (study.results / "fits").glob("*.json"):
        file.unlink()
    script = f"""
import socket, sys
def never(*a, **k): raise SystemExit("a socket was opened")
socket.socket = never
from batterylab.fit.store import study_fits
from batterylab.study import Study
study = Study.open({str(study.path)!r})
print(len(study_fits(study, "ocv")), len(study_fits(study, "circuit")))
print([m for m in ("pybamm", "matplotlib", "pandas", "scipy") if m in sys.modules])
"""
    answer = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert answer.stdout.split("\n")[:2] == ["2 2", "[]"], answer.stderr


def test_a_fit_hides_no_nan_in_json(whole_recording):
    for model in ("ocv", "circuit"):
        text = json.dumps(fit(whole_recording, model).to_dict(), allow_nan=False)
        assert "NaN" not in text
