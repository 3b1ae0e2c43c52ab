"""Sealed recordings."""

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab import archive
from batterylab.cli import cli
from batterylab.errors import BatterylabError, NotMetError
from batterylab.recording import Recording, StepRow, cycle_table


def recording(rows=200, serial="S-1", **columns):
    time_s = np.arange(rows, dtype=float)
    half = rows // 2
    current_A = np.where(time_s < half, 2.0, -2.0)
    return Recording(
        serial=serial,
        supplier="Alpha",
        lot="A1",
        protocol="capacity",
        columns={
            "test_time_s": time_s,
            "current_A": current_A,
            "voltage_V": 3.5 + 0.001 * time_s,
            "step_index": (time_s >= half).astype(int),
            "cycle_index": np.ones(rows, int),
            **columns,
        },
        steps=[
            StepRow(0, 0, half - 1, "charge", "steps[0]", duration_s=half - 1),
            StepRow(1, half, rows - 1, "discharge", "steps[1]", "capacity", duration_s=half),
        ],
        provenance={"source": "bench", "start_utc": "2026-01-05T06:00:00+00:00", "channel": "1-1"},
    )


def test_what_was_written_is_read_back(tmp_path):
    path = archive.write(recording(), tmp_path)
    assert path.relative_to(tmp_path).parts[0] == "S-1"
    assert path.name.startswith("capacity_20260105T060000Z_")
    found = archive.read(path)
    assert found.steps == recording().steps or [s.measure for s in found.steps] == ["", "capacity"]
    for name, values in recording().columns.items():
        np.testing.assert_array_equal(found.columns[name], values)
    assert path.name.endswith(f"_{found.seal[:8]}.h5")
    assert archive.verify(path).seal == found.seal


def test_plain_h5py_reads_it_with_units_and_bdf_names(tmp_path):
    with h5py.File(archive.write(recording(), tmp_path)) as file:
        column = file["data/current_A"]
        assert column.attrs["unit"] == "A"
        assert column.attrs["bdf_label"] == "Current / A"
        assert column.fletcher32
        assert column.shuffle
        assert column.compression == "gzip"
        assert file.attrs["serial"] == "S-1"
        assert file.attrs["schema"] == "batterylab.recording/1"
        assert file["steps"]["measure"][1] == b"capacity"


def test_the_same_content_has_the_same_seal_and_is_written_once(tmp_path):
    first = archive.write(recording(), tmp_path / "a")
    second = archive.write(recording(), tmp_path / "b")
    assert first.name == second.name
    before = first.stat().st_mtime_ns
    assert archive.write(recording(), tmp_path / "a") == first
    assert first.stat().st_mtime_ns == before


@settings(max_examples=15, deadline=None)
@given(row=st.integers(0, 199), name=st.sampled_from(["current_A", "voltage_V", "step_index"]))
def test_a_changed_sample_breaks_the_seal(tmp_path_factory, row, name):
    path = archive.write(recording(), tmp_path_factory.mktemp("a"))
    path.chmod(0o644)
    with h5py.File(path, "r+") as file:
        values = file["data"][name]
        values[row] = values[row] + 1
    with pytest.raises(NotMetError, match=r"the seal does not hold|damaged"):
        archive.verify(path)


def test_a_changed_provenance_breaks_the_seal(tmp_path):
    path = archive.write(recording(), tmp_path)
    path.chmod(0o644)
    with h5py.File(path, "r+") as file:
        text = file["provenance"][()].decode().replace("1-1", "1-2")
        del file["provenance"]
        file["provenance"] = text
    with pytest.raises(NotMetError, match="the seal does not hold"):
        archive.verify(path)


@pytest.mark.parametrize("keep", [0, 10, 500, 3000])
def test_a_file_cut_short_is_refused_in_one_line(tmp_path, keep):
    path = archive.write(recording(), tmp_path)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BatterylabError, match=r"capacity_.*(cut short|damaged)"):
        archive.read(path)


def test_a_foreign_file_and_a_newer_schema_are_refused_by_name(tmp_path):
    foreign = tmp_path / "x.h5"
    with h5py.File(foreign, "w") as file:
        file["a"] = 1
    with pytest.raises(BatterylabError, match="not a batterylab recording"):
        archive.read(foreign)
    path = archive.write(recording(), tmp_path)
    path.chmod(0o644)
    with h5py.File(path, "r+") as file:
        file.attrs["schema"] = "batterylab.recording/2"
    with pytest.raises(BatterylabError, match=r"recording/2 is newer"):
        archive.read(path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"voltage_V": np.full(200, np.nan)}, "voltage_V, row 0: not a finite number"),
        ({"test_time_s": -np.arange(200.0)}, "row 1: time runs backwards"),
        ({"voltage_V": np.zeros(3)}, "differ in length"),
        ({"colour": np.zeros(200)}, "unknown column 'colour'"),
    ],
)
def test_an_ill_formed_recording_is_never_written(tmp_path, columns, message):
    with pytest.raises(BatterylabError, match=message):
        archive.write(recording(**columns), tmp_path / "archive")
    assert not list(tmp_path.rglob("*.h5"))


@pytest.mark.parametrize("serial", ["../x", "a/b", "", ".hidden", "x" * 80])
def test_a_serial_never_becomes_a_path(tmp_path, serial):
    with pytest.raises(BatterylabError, match="cannot name a serial"):
        archive.write(recording(serial=serial), tmp_path / "archive")
    assert not list(tmp_path.rglob("*.h5"))


def test_cycles_carry_the_charge_passed_each_way():
    table = cycle_table(recording(rows=7201))
    assert table["charge_Ah"][0] == pytest.approx(2.0, rel=1e-3)
    assert table["discharge_Ah"][0] == pytest.approx(2.0, rel=1e-3)


def test_the_commands_list_show_and_verify(tmp_path):
    path = archive.write(recording(), tmp_path)
    runner = CliRunner()
    listed = runner.invoke(cli, ["archive", "list", str(tmp_path)])
    assert listed.exit_code == 0
    assert "S-1" in listed.output
    shown = runner.invoke(cli, ["archive", "show", str(path), "--json"])
    assert '"measure": "capacity"' in shown.output
    assert runner.invoke(cli, ["archive", "verify", str(tmp_path)]).exit_code == 0
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-50])
    failed = runner.invoke(cli, ["archive", "verify", str(tmp_path)])
    assert isinstance(failed.exception, NotMetError)
