"""The table of a study, what is kept of it, and the command."""

import json
import math

import made_recordings as made
import pandas as pd
import pytest
from click.testing import CliRunner

from batterylab.archive import write
from batterylab.cli import cli
from batterylab.errors import BatterylabError, EnvironmentFailedError
from batterylab.features import COLUMNS, draw, store, table
from batterylab.study import Study
from batterylab.studyfiles import write_study


@pytest.fixture(scope="module")
def recordings():
    meters = [made.Meters(current_gain=gain) for gain in (0.0, 1e-3)]
    return [
        made.capacity_resistance(
            meters=meter,
            cycles=1,
            serial=f"A1-00{number}",
            provenance={"channel": f"1-{number}", "part": part, "remarks": remarks},
        )
        for number, meter, part, remarks in (
            (1, meters[0], "main", []),
            (2, meters[1], "gauge", ["warm"]),
        )
    ]


@pytest.fixture
def study(tmp_path, recordings):
    write_study(tmp_path / "s")
    study = Study.open(tmp_path / "s")
    for recording in recordings:
        write(recording, study.archive)
    return study


def run(*arguments):
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def test_the_table_has_one_row_a_feature_of_a_recording(study):
    seen = []
    frame = table(study, lambda done, of: seen.append((done, of)))
    assert tuple(frame.columns) == COLUMNS and seen == [(1, 2), (2, 2)]
    assert frame.groupby("seal")["feature"].nunique().min() >= 10
    first = frame[(frame["serial"] == "A1-001") & (frame["feature"] == "capacity_Ah")].iloc[0]
    assert (first["supplier"], first["lot"], first["channel"], first["part"], first["source"]) == (
        "Alpha", "A1", "1-1", "main", "bench")  # fmt: skip
    assert first["unit"] == "Ah" and first["steps"] == "2" and first["uncertainty"] > 0
    assert set(frame["state"]) == {"valid", "valid with remark"}
    assert set(frame["part"]) == {"main", "gauge"}
    assert frame["value"].dtype == float and frame["value"].notna().all()


def test_states_come_from_the_log(study):
    seal = table(study)["seal"].iloc[0]
    study.log.set_state(seal, "invalid", "wrong cell", "Ann")
    frame = table(study)
    assert set(frame[frame["seal"] == seal]["state"]) == {"invalid"}
    answer = run("features", study.path)
    assert "1 invalid, superseded or stopped" in answer.stderr


def test_features_are_drawn_once(study, monkeypatch):
    before = table(study)

    def never(recording):
        raise AssertionError("drawn again")

    monkeypatch.setattr(store, "features_of", never)
    pd.testing.assert_frame_equal(table(study), before)


def test_another_version_is_drawn_anew_and_a_damaged_file_too(study, monkeypatch):
    table(study)
    kept = sorted((study.results / "features").glob("*.json"))
    assert len(kept) == 2
    data = json.loads(kept[0].read_text())
    data["features"][0]["value"] = -1.0
    kept[0].write_text(json.dumps({**data, "version": "0"}))
    kept[1].write_text("{")
    assert (table(study)["value"] > -1).all()
    monkeypatch.setattr(store, "VERSION", "next")
    table(study)
    assert len(list((study.results / "features").glob("*_vnext.json"))) == 2
    assert draw.VERSION != "next"


def test_nothing_half_written_stays(study, monkeypatch, tmp_path):
    def refuse(self, target):
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(EnvironmentFailedError, match="no space left"):
        store.write_whole(tmp_path / "x" / "y.json", "{}")
    assert not list((tmp_path / "x").iterdir())


# --- imported tables --------------------------------------------------------------------------


def add(study, **changes):
    rows = pd.DataFrame(
        [{"serial": "B1-001", "feature": "relative_capacity", "value": 0.91,
          "uncertainty": math.nan, "soc_percent": 50.0},
         {"serial": "ZZ", "supplier": "Beta", "feature": "dcir_10s_mOhm", "value": 31.0,
          "uncertainty": 0.2}]
    )  # fmt: skip
    return store.add_table(study, rows, {"sha256": "a" * 64, "name": "puls/../e", **changes})


def test_imported_rows_stand_beside_the_recordings(study):
    path = add(study)
    assert path.parent.parent == study.archive / "tables"
    frame = table(study)
    rows = frame[frame["source"] == "table"].set_index("serial")
    assert rows.loc["B1-001", "supplier"] == "Beta" and rows.loc["B1-001", "lot"] == "B1"
    assert rows.loc["B1-001", "unit"] == "1" and rows.loc["B1-001", "soc_percent"] == 50.0
    assert math.isnan(rows.loc["B1-001", "uncertainty"])
    assert rows.loc["ZZ", "uncertainty"] == 0.2 and rows.loc["ZZ", "unit"] == "mOhm"
    assert set(rows["seal"]) == {"a" * 64} and set(rows["state"]) == {"valid"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "no feature table"),
        ('{"schema": "batterylab.featuretable/2"}', "newer"),
        ('{"schema": "batterylab.featuretable/1"}', "no rows"),
        ('{"schema": "batterylab.featuretable/1", "rows": [{"serial": "1"}]}', "row 1 lacks"),
        ('{"schema": "batterylab.featuretable/1", "rows": [{"serial": "1", "feature": "x", '
         '"value": "high"}]}', "not a number"),
    ],
)  # fmt: skip
def test_a_table_that_is_none_is_refused_by_name(study, text, message):
    path = add(study)
    path.write_text(text)
    with pytest.raises(BatterylabError, match=message) as error:
        table(study)
    assert "table.json" in str(error.value)
    answer = run("features", study.path)
    assert answer.exit_code != 0


def test_a_table_needs_the_hash_of_its_original(study):
    with pytest.raises(BatterylabError, match="SHA-256"):
        add(study, sha256="abc")


# --- the command ------------------------------------------------------------------------------


def test_the_command_prints_json_with_null_for_what_is_not_known(study):
    add(study)
    answer = run("features", study.path, "--json")
    data = json.loads(answer.stdout)
    assert data["schema"] == "batterylab.featurelist/1"
    rows = [row for row in data["features"] if row["source"] == "table"]
    assert rows[0]["uncertainty"] is None and set(rows[0]) == set(COLUMNS)


def test_the_command_shows_few_recordings_one_by_one(study):
    answer = run("features", study.path)
    assert answer.exit_code == 0
    assert "capacity_Ah" in answer.stdout and "±" in answer.stdout
    file = next(study.archive.glob("*/*.h5"))
    assert "A1-00" in run("features", file).stdout


def test_the_command_summarises_by_supplier(study):
    add(study)
    answer = run("features", study.path)
    lines = [line.split() for line in answer.stdout.splitlines()]
    assert lines[0][:4] == ["feature", "supplier", "part", "n"]
    assert ["relative_capacity", "Beta", "main", "1", "0.91", "-"] in [line[:6] for line in lines]


def test_an_archive_on_its_own_works_and_keeps_nothing(study):
    answer = run("features", study.archive, "--json")
    assert len(json.loads(answer.stdout)["features"]) > 20
    assert not study.results.exists()


def test_the_csv_file_is_whole_and_harmless(study, tmp_path):
    store.add_table(
        study,
        pd.DataFrame([{"serial": "=1+1", "feature": "capacity_Ah", "value": -1.5}]),
        {"sha256": "b" * 64, "name": "t"},
    )
    file = tmp_path / "features.csv"
    assert run("features", study.path, "--csv", file).exit_code == 0
    frame = pd.read_csv(file)
    assert len(frame) == len(table(study))
    assert frame.iloc[-1]["serial"] == "'=1+1" and frame.iloc[-1]["value"] == -1.5


@pytest.mark.parametrize("name", ["nowhere", "empty.h5"])
def test_a_place_that_is_none_is_one_clear_error(tmp_path, name):
    (tmp_path / "empty.h5").write_bytes(b"no HDF5")
    answer = run("features", tmp_path / name)
    assert isinstance(answer.exception, BatterylabError) and name in str(answer.exception)
