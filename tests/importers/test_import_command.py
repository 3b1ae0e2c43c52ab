"""`batterylab import`: what is stored, what is refused, and how the command answers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from batterylab import archive
from batterylab.cli import main
from batterylab.features import table as features_table
from batterylab.study import Study

STUDY = """\
schema: batterylab.study/1
name: imported
cell_type:
  name: {name}
  nominal_capacity: {nominal} Ah
  rated_capacity: {nominal} Ah
  voltage: {{min: {low} V, max: {high} V}}
  current: {{max_charge: {nominal} A, max_discharge: {nominal} A}}
  temperature: {{min: 0 degC, max: 45 degC}}
suppliers:
  - {{name: Samsung, lots: [L1]}}
  - {{name: LG}}
"""
CELLS = "serial,supplier,lot\n30Q-1,Samsung,L1\n30Q-2,Samsung,L1\nTESTCELL0001,LG,M1\n"


@pytest.fixture
def data(shared_data):
    return shared_data / "data"


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    text = STUDY.format(name="30Q", nominal=3.0, low=2.5, high=4.2)
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    (folder / "cells.csv").write_text(CELLS, encoding="utf-8")
    return folder


@pytest.fixture
def run(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as leaving:
            main(["import", *map(str, arguments)])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return leaving.value.code, said.out, said.err

    return call


@pytest.fixture
def csv(tmp_path):
    """Return a maker of small sound files."""

    def make(name, volts=3.9, rows=40):
        path = tmp_path / name
        lines = [f"{i},-3.0,{volts - 0.01 * i:.4f}" for i in range(rows)]
        path.write_text("Time [s],I[A],U[V]\n" + "\n".join(lines) + "\n", encoding="utf-8")
        return path

    return make


def test_a_cells_files_become_sealed_recordings_of_the_study(run, data, study):
    files = [data / "multicell_30Q/cell1" / f"{side}_1_2.lvm" for side in ("charge", "discharge")]
    code, out, err = run(*files, "--into", study, "--cell", "30Q-1", "--protocol", "ageing",
                         "--start", "2021-01-01T00:00:00+01:00", "--operator", "Ann")  # fmt: skip
    assert code == 0
    assert len(out.splitlines()) == 2
    assert "2 stored, 0 already there, 0 failed" in err
    entries = archive.find(study / "archive")
    assert [e.start_utc[:16] for e in entries] == ["2021-01-01T01:25", "2021-01-01T02:49"]
    recording = archive.verify(entries[1].path)
    assert (recording.serial, recording.supplier, recording.lot) == ("30Q-1", "Samsung", "L1")
    assert recording.protocol == "ageing"
    assert recording.cell_type["voltage_max_V"] == 4.2
    assert [step.measure for step in recording.steps] == ["", "capacity"]
    provenance = recording.provenance
    assert (provenance["source"], provenance["operator"]) == ("import", "Ann")
    assert provenance["file"] == "discharge_1_2.lvm"
    assert str(data) not in json.dumps(provenance)
    log = Study.open(study).log.entries("recording")
    assert [entry["data"]["seal"] for entry in log] == [e.seal for e in entries]


def test_the_archive_of_a_study_is_known_by_its_place(run, data, study):
    file = data / "multicell_30Q/cell2/discharge_2_2.lvm"
    code, _, _ = run(file, "--into", study / "archive", "--cell", "30Q-2")
    assert code == 0
    assert archive.find(study / "archive")[0].supplier == "Samsung"


def test_a_scanned_barcode_names_the_cell(run, data, tmp_path):
    code, _, _ = run(data / "neware/TESTCELL0001-M50T.ndax", "--into", tmp_path / "archive",
                       "--supplier", "LG", "--lot", "M1")  # fmt: skip
    assert code == 0
    entry = archive.find(tmp_path / "archive")[0]
    assert (entry.serial, entry.supplier, entry.lot) == ("TESTCELL0001", "LG", "M1")


def test_a_file_that_does_not_name_its_cell_needs_cell(run, data, tmp_path):
    code, out, err = run(data / "rate/aboutenergy_NMC_25degC_2C.csv", "--into", tmp_path / "a")
    assert (code, out) == (2, "")
    assert "name it with --cell" in err
    assert not (tmp_path / "a").exists()


def test_an_unknown_serial_is_one_error_before_any_file_is_read(run, study):
    code, _, err = run("nowhere.csv", "--into", study, "--cell", "X9")
    assert code == 2
    assert err.count("Error") == 1
    assert "no cell 'X9'" in err and "cells.csv" in err


def test_another_supplier_than_the_study_says_is_refused(run, study):
    code, _, err = run("nowhere.csv", "--into", study, "--cell", "30Q-1", "--supplier", "LG")
    assert code == 2
    assert "is of supplier 'Samsung', not 'LG'" in err


def test_a_file_of_another_cell_type_is_refused_by_the_study(run, data, study):
    file = data / "rate/aboutenergy_NMC_25degC_2C.csv"  # a cell of 13 Ah, discharged with 25 A
    code, _, err = run(file, "--into", study, "--cell", "30Q-1")
    assert code == 2
    assert "30Q holds 3 Ah" in err


def test_one_measurement_under_two_serials_is_refused(run, data, tmp_path):
    first, second = sorted((data / "arbin").glob("*.res"))
    into = ("--into", tmp_path / "a")
    assert run(first, *into, "--cell", "S45")[0] == 0
    code, out, err = run(second, *into, "--cell", "S46")
    assert (code, out) == (2, "")
    assert "the same measurement, row by row is already in the archive for cell 'S45'" in err


def test_one_measurement_exported_twice_is_refused_for_its_own_cell_too(run, csv, tmp_path):
    file, into = csv("a.csv"), ("--into", tmp_path / "a", "--cell", "S1")
    assert run(file, *into)[0] == 0
    again = tmp_path / "b.csv"
    again.write_text(file.read_text("utf-8").replace("-3.0,", "-3.00001,"), encoding="utf-8")
    code, _, err = run(again, *into)
    assert code == 2
    assert "row by row is already in the archive for this cell" in err


def test_the_same_file_again_is_reported_as_there(run, csv, tmp_path):
    file, into = csv("a.csv"), ("--into", tmp_path / "a", "--cell", "S1")
    assert run(file, *into)[0] == 0
    before = archive.find(tmp_path / "a")
    code, out, err = run(file, *into)
    assert (code, out) == (0, "")
    assert "already there as" in err
    assert archive.find(tmp_path / "a") == before


def test_the_same_bytes_under_another_name_and_serial_are_refused(run, csv, tmp_path):
    file, into = csv("a.csv"), ("--into", tmp_path / "a", "--cell")
    assert run(file, *into, "S1")[0] == 0
    shutil.copy(file, tmp_path / "b.csv")
    code, _, err = run(tmp_path / "b.csv", *into, "S2")
    assert code == 2
    assert "the same file is already in the archive for cell 'S1', from a.csv" in err


def test_some_failures_do_not_stop_the_others(run, csv, tmp_path):
    broken = tmp_path / "broken.ndax"
    broken.write_bytes(b"PK\x03\x04 no zip")
    empty = tmp_path / "empty.csv"
    empty.touch()
    code, out, err = run(broken, csv("a.csv"), empty, tmp_path / "none.csv", csv("b.csv", 4.1),
                         "--into", tmp_path / "a", "--cell", "S1")  # fmt: skip
    assert code == 1
    assert len(out.splitlines()) == 2
    assert "broken.ndax: corrupt" in err
    assert "empty.csv: the file is empty" in err
    assert "none.csv: there is no such file" in err
    assert "2 stored, 0 already there, 3 failed" in err


def test_json_has_the_documented_keys(run, csv, tmp_path):
    file = csv("a.csv")
    arguments = (file, tmp_path / "none.csv", "--into", tmp_path / "a", "--cell", "S1", "--json")
    code, out, _ = run(*arguments)
    assert code == 1
    answer = json.loads(out)
    assert set(answer) == {"archive", "stored", "already_there", "failed"}
    documented = Path(__file__).parents[2].joinpath("docs/importing.md").read_text("utf-8")
    for group in ("stored", "failed"):
        for key in answer[group][0]:
            assert f"`{key}`" in documented, key
    assert answer["stored"][0]["rows"] == 40
    again = json.loads(run(*arguments)[1])
    assert [line["serial"] for line in again["already_there"]] == ["S1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cell", "../x"], "cannot name a serial"),
        (["--cell", "S1", "--start", "yesterday"], "not a time"),
        (["--cell", "S1", "--start", "2021-01-01T00:00:00"], "no time zone"),
        (["--cell", "S1", "--map", "m.yaml"], "--map belongs to --as features"),
        (["--as", "features"], "needs --map"),
    ],
)
def test_wrong_arguments_store_nothing(run, csv, tmp_path, arguments, message):
    code, out, err = run(csv("a.csv"), "--into", tmp_path / "a", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "a").exists()


def test_a_folder_that_is_neither_study_nor_archive_is_refused(run, csv, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter.txt").write_text("dear", encoding="utf-8")
    code, _, err = run(csv("a.csv"), "--into", tmp_path / "home", "--cell", "S1")
    assert code == 2
    assert "neither a study nor an archive" in err


def test_the_names_extra_is_given_where_the_gpl_readers_are_missing(
    run, data, tmp_path, monkeypatch
):
    for name in ("galvani", "yadg"):
        (tmp_path / "hide" / name).mkdir(parents=True)
        text = f"raise ImportError('no {name}')\n"
        (tmp_path / "hide" / name / "__init__.py").write_text(text, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hide"))
    file = data / "biologic/biol.mpr"
    code, _, err = run(file, "--into", tmp_path / "a", "--cell", "S1")
    assert code == 2
    assert "pip install 'batterylab[gpl-readers]'" in err


def test_one_gpl_reader_helps_where_the_other_fails(run, data, tmp_path, monkeypatch):
    (tmp_path / "hide/galvani").mkdir(parents=True)
    (tmp_path / "hide/galvani/__init__.py").write_text("", encoding="utf-8")
    text = "def MPRfile(stream):\n    raise ValueError('Apply I/C')\n"
    (tmp_path / "hide/galvani/BioLogic.py").write_text(text, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hide"))
    file = data / "biologic/aurora_test_C01.mpr"
    code, _, err = run(file, "--into", tmp_path / "a", "--cell", "S1")
    assert code == 0
    reader = archive.read(archive.find(tmp_path / "a")[0].path).provenance["reader"]
    assert reader.startswith("yadg ")
    assert "yadg read the file" in err


def test_the_core_imports_no_gpl_reader(data, tmp_path):
    code = (
        "import sys\nfrom batterylab.cli import main\n"
        f"try:\n    main(['import', {str(data / 'biologic/biol.mpr')!r}, '--into', "
        f"{str(tmp_path / 'a')!r}, '--cell', 'S1'])\nexcept SystemExit as e:\n    print(e.code)\n"
        "print([m for m in ('galvani', 'yadg') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["0", "[]"]


def test_a_discharge_that_was_stopped_gives_no_capacity(run, data, study, tmp_path):
    whole = data / "multicell_30Q/cell1/discharge_1_2.lvm"
    lines = whole.read_text().splitlines(keepends=True)
    stopped = tmp_path / "stopped.lvm"
    stopped.write_text("".join(lines[: len(lines) * 6 // 10]))
    for file, cell in ((stopped, "30Q-1"), (whole, "30Q-2")):
        assert run(file, "--into", study, "--cell", cell)[0] == 0
    values = features_table(Study.open(study))
    assert set(values[values.feature == "capacity_Ah"].serial) == {"30Q-2"}
    assert len(archive.find(study / "archive")) == 2
