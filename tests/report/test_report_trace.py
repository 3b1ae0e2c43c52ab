"""From a code of the report back to the samples, on the command line; and the plot."""

import json
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from report_studies import make_recording
from scorecard_maker import make_scorecard

from batterylab import archive
from batterylab.cli import cli
from batterylab.errors import BatterylabError, NotMetError
from batterylab.report.evidence import gather
from batterylab.report.fits import kept_fits
from batterylab.report.plot import plot
from batterylab.report.trace import trace


def entry_of(study, serial="A1-001"):
    return next(one for one in archive.find(study.archive) if one.serial == serial)


def run(*arguments):
    return CliRunner().invoke(cli, [str(one) for one in arguments])


def test_a_seal_leads_to_file_steps_channel_instrument_and_software(study):
    entry = entry_of(study)
    found = trace(study, entry.seal[:8])
    (one,) = found["recordings"]
    assert found["kind"] == "seal"
    assert one["file"] == str(entry.path)
    assert one["seal_holds"] is True
    assert one["provenance"]["channel"] == "1-7"
    assert one["provenance"]["instruments"]["cycler"]["calibration_due"] == "2027-03-01"
    assert one["provenance"]["software"] == "batterylab 0.1.0"
    assert [(s["kind"], s["first_row"], s["last_row"]) for s in one["steps"]] == [
        ("charge", 0, 1799), ("discharge", 1800, 3599),
    ]  # fmt: skip


def test_upper_case_and_whole_seals_lead_there_too(study):
    seal = entry_of(study).seal
    for code in (seal, seal[:12].upper(), f" {seal[:9]} "):
        assert trace(study, code)["recordings"][0]["seal"] == seal


def test_a_serial_leads_to_all_its_recordings(study):
    archive.write(make_recording("A1-001", "incoming_inspection", rows=400), study.archive)
    found = trace(study, "A1-001")
    assert found["kind"] == "serial"
    assert {one["protocol"] for one in found["recordings"]} == {
        "capacity_resistance", "incoming_inspection",
    }  # fmt: skip


def test_a_value_leads_to_the_steps_it_came_from(study):
    found = trace(study, "A1-001/capacity_Ah")
    (one,) = found["recordings"]
    (value,) = one["values"]
    assert value["feature"] == "capacity_Ah"
    assert value["value"] == pytest.approx(1.65 * 10800 / 3600, rel=2e-3)
    assert [step["step_index"] for step in one["steps"]] == value["steps"] == [1]


def test_the_state_comes_from_the_log(study):
    entry = entry_of(study)
    study.log.set_state(entry.seal, "invalid", "wrong cell: swapped", "bob")
    (one,) = trace(study, entry.seal[:8])["recordings"]
    assert (one["state"], one["state_reason"]) == ("invalid", "wrong cell: swapped")


def test_a_cell_that_was_never_tested_is_known(study):
    assert trace(study, "B3-001")["recordings"] == []
    assert "no recordings of it yet" in run("trace", "B3-001", study.path).output


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("deadbeef", "nothing in this study has the code"),
        ("A1-OO1", "did you mean"),
        ("abc123", "too short for a seal"),
        ("A9-001/capacity_Ah", "no cell has the serial"),
        ("A1-001/impedance", "has no feature 'impedance'"),
        ("", "nothing in this study"),
    ],
)
def test_an_unknown_code_is_one_clear_error(study, code, message):
    with pytest.raises(BatterylabError) as caught:
        trace(study, code)
    assert message in str(caught.value)


def test_an_ambiguous_code_is_one_clear_error(study, monkeypatch):
    entries = archive.find(study.archive)
    twins = [SimpleNamespace(**{**vars(e), "seal": f"0123456789{n}" + e.seal[11:]})
             for n, e in enumerate(entries)]  # fmt: skip
    monkeypatch.setattr("batterylab.report.trace.find", lambda _: twins)
    with pytest.raises(BatterylabError, match="beginning of 3 seals"):
        trace(study, "01234567")
    study.cells["01234567"] = study.cells["A1-001"]
    with pytest.raises(BatterylabError, match="is a serial and also the beginning of a seal"):
        trace(study, "01234567")


def test_an_imported_table_is_followed_to_its_original(study):
    folder = study.archive / "tables" / "aaaaaaaa_sheet"
    folder.mkdir(parents=True)
    rows = [{"serial": "A3-001", "supplier": "Alpha", "lot": "A3", "feature": "relative_capacity",
             "value": 0.91, "uncertainty": None, "unit": "1"}]  # fmt: skip
    table = {"schema": "batterylab.featuretable/1", "sha256": "a" * 64, "name": "sheet",
             "rows": rows}  # fmt: skip
    (folder / "table.json").write_text(json.dumps(table), encoding="utf-8")
    for code in ("A3-001", "A3-001/relative_capacity", "aaaaaaaa"):
        (one,) = trace(study, code)["tables"]
        assert one["sha256"] == "a" * 64
        assert one["rows"] == rows
    assert trace(study, "A2-001")["tables"] == []


def test_a_broken_seal_is_shown_and_fails(study):
    import h5py

    entry = entry_of(study)
    entry.path.chmod(0o644)
    with h5py.File(entry.path, "r+") as file:
        file["data/voltage_V"][5] += 0.001
    result = run("trace", entry.seal[:8], study.path)
    assert isinstance(result.exception, NotMetError)
    assert "DOES NOT HOLD" in result.output


def test_trace_prints_for_people_and_for_scripts(study):
    entry = entry_of(study)
    said = run("trace", "A1-001/capacity_Ah", study.path)
    assert said.exit_code == 0
    for word in (entry.seal, "capacity_Ah = ", "calibration due 2027-03-01", "rows 1800-3599",
                 "1-7", "0.02 % of reading"):  # fmt: skip
        assert word in said.output
    data = json.loads(run("trace", entry.seal[:8], study.path, "--json").stdout)
    assert data["recordings"][0]["seal"] == entry.seal


@pytest.fixture
def scored(monkeypatch):
    """Stand in for the stages above the report."""
    import pandas as pd

    card = make_scorecard(lots=2, cells=3)
    frame = pd.DataFrame({"serial": ["A1-001"], "value": [4.98]})
    result = SimpleNamespace(to_dict=lambda: card)
    suppliers = SimpleNamespace(scorecard=lambda study, table: result)
    monkeypatch.setitem(sys.modules, "batterylab.suppliers", suppliers)
    monkeypatch.setattr("batterylab.features.table", lambda study, progress=None: frame)
    return card


def test_report_prints_paths_and_writes_the_files(study, scored):
    result = run("report", study.path, "--to", "html,XLSX,dfq , json")
    assert result.exit_code == 0
    names = ["report.html", "report.xlsx", "report.dfq", "report.json"]
    assert result.stdout.split() == [str(study.results / name) for name in names]
    assert all((study.results / name).stat().st_size for name in names)


def test_report_for_scripts(study, scored):
    data = json.loads(run("report", study.path, "--to", "json", "--json").stdout)
    assert data["files"] == {"json": str(study.results / "report.json")}
    assert data["decision"] == {"Alpha": "QUALIFY", "Beta": "CONDITIONAL"}


def test_report_refuses_what_it_cannot_write(study, scored, tmp_path):
    for arguments, message in (
        (["report", study.path, "--to", "pdf,docx"], "unknown format 'docx'"),
        (["report", study.path, "--to", ","], "no format"),
        (["report", tmp_path / "nowhere"], "no study.yaml"),
    ):
        result = run(*arguments)
        assert isinstance(result.exception, BatterylabError)
        assert message in str(result.exception)


def test_report_says_what_is_missing(study, monkeypatch):
    monkeypatch.setitem(sys.modules, "batterylab.suppliers", None)
    result = run("report", study.path)
    assert isinstance(result.exception, BatterylabError)
    assert "needs features and a scorecard" in str(result.exception)


@pytest.mark.parametrize(("name", "magic"), [("a.png", b"\x89PNG"), ("a.svg", b"<svg "),
                                             ("a.PDF", b"%PDF")])  # fmt: skip
def test_a_recording_is_drawn(study, tmp_path, name, magic):
    result = run("plot", entry_of(study).path, "--out", tmp_path / name)
    assert result.exit_code == 0
    assert result.stdout.strip() == str(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(magic)


def test_a_long_recording_is_drawn_light_and_keeps_its_peaks(tmp_path):
    recording = make_recording(rows=200_000)
    recording.columns["voltage_V"][123_457] = 9.0
    content = plot(recording, tmp_path / "long.svg").read_text(encoding="utf-8")
    assert len(content) < 600_000
    assert "Temperature (°C)" in content
    again = plot(recording, tmp_path / "again.svg").read_text(encoding="utf-8")
    assert again == content


def test_plot_refuses_other_things(study, tmp_path):
    path = entry_of(study).path
    (tmp_path / "text.h5").write_text("no")
    for arguments, message in (
        ([path, "--out", tmp_path / "a.gif"], "cannot draw into a .gif"),
        ([study.path, "--out", tmp_path / "a.png"], "a folder cannot be drawn"),
        ([tmp_path / "text.h5", "--out", tmp_path / "a.png"], "not an HDF5 file"),
    ):
        result = run("plot", *arguments)
        assert isinstance(result.exception, BatterylabError)
        assert message in str(result.exception)
    assert not list(tmp_path.glob("a.*"))


def test_evidence_is_tolerant_of_an_archive_in_pieces(study, tmp_path):
    assert gather(None, {"x"}).facts == ()
    assert gather(tmp_path / "nowhere", {"x"}).facts == ()
    entry = entry_of(study)
    entry.path.chmod(0o644)
    entry.path.write_bytes(entry.path.read_bytes()[:300])
    seals = {entry.seal, entry_of_other(study)}
    assert gather(study.archive, seals).instruments == (
        ("cycler", "keysight_bt2200", "MY58000516", "2027-03-01", "1"),
    )


def entry_of_other(study):
    path = next(study.archive.glob("A2-001/*.h5"))
    return archive.read(path).seal


def test_kept_fits_are_those_of_the_scorecard_in_the_latest_version(tmp_path):
    card = make_scorecard(lots=1, cells=2)
    seal = card["recordings"][0]["seal"]
    fit = {"seal": seal, "model": "ocv", "version": "1", "values": {"x": 1.0}}
    (tmp_path / "a.json").write_text(json.dumps(fit), encoding="utf-8")
    newer = {**fit, "version": "2", "values": {"x": 2.0}}
    (tmp_path / "b.json").write_text(json.dumps(newer), encoding="utf-8")
    (tmp_path / "c.json").write_text(json.dumps({**fit, "seal": "f" * 64}), encoding="utf-8")
    (tmp_path / "d.json").write_text("{", encoding="utf-8")
    assert kept_fits(tmp_path, card) == [newer]
    assert kept_fits(tmp_path / "nowhere", card) == []
