"""Tables of features: the map, the checks, the seal, and the PulseBat tables as studies."""

import json

import numpy as np
import openpyxl
import pytest

from batterylab.cli import main
from batterylab.errors import NotMetError
from batterylab.features import table as features_table
from batterylab.importers.featuremap import FeatureMap
from batterylab.importers.tablestore import read_table
from batterylab.study import Study

STUDY = """\
schema: batterylab.study/1
name: {name}
cell_type:
  name: {name}
  nominal_capacity: {nominal} Ah
  rated_capacity: {nominal} Ah
  voltage: {{min: 2.0 V, max: 4.3 V}}
  current: {{max_charge: {nominal} A, max_discharge: {nominal} A}}
  temperature: {{min: 0 degC, max: 45 degC}}
suppliers:
  - {{name: {name}}}
"""
MAP = """\
schema: batterylab.featuremap/1
serial: {column: ID}
supplier: {constant: Beta}
features:
  - {feature: capacity_Ah, column: Q, unit: mAh}
"""
#: cells and spread (CV in percent) as the data's README gives them
PULSEBAT = {
    "NMC_2.1Ah": (2.1, 67, 9.17),
    "LMO_10Ah": (10, 95, 14.3),
    "NMC_21Ah": (21, 52, 5.4),
    "LFP_35Ah": (35, 56, 5.77),
}


@pytest.fixture
def run(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as leaving:
            main(["import", *map(str, arguments)])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return leaving.value.code, said.out, said.err

    return call


def make_study(folder, name="Beta", nominal=5.0, cells=""):
    folder.mkdir(parents=True, exist_ok=True)
    text = STUDY.format(name=name, nominal=nominal)
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    if cells:
        (folder / "cells.csv").write_text("serial,supplier,lot\n" + cells, encoding="utf-8")
    return folder


@pytest.fixture
def table(tmp_path, run):
    """Return a call that imports a CSV text by a map text into a study."""

    def call(text, mapping=MAP, cells="", *more):
        folder = make_study(tmp_path / "study", cells=cells)
        (tmp_path / "t.csv").write_text(text, encoding="utf-8")
        (tmp_path / "map.yaml").write_text(mapping, encoding="utf-8")
        answer = run(tmp_path / "t.csv", "--as", "features", "--map", tmp_path / "map.yaml",
                     "--into", folder, *more)  # fmt: skip
        sealed = sorted((folder / "archive/tables").glob("*"))
        return answer, [read_table(path) for path in sealed]

    return call


@pytest.mark.parametrize("name", PULSEBAT)
def test_each_pulsebat_table_is_a_study_in_relative_capacity(shared_data, tmp_path, run, name):
    nominal, count, cv_percent = PULSEBAT[name]
    supplier = f"PulseBat {name}"
    folder = make_study(tmp_path / "study", supplier, nominal)
    path = shared_data / "data/multicell_pulsebat" / f"{name}_W_5000.xlsx"
    (tmp_path / "map.yaml").write_text(
        "schema: batterylab.featuremap/1\nsheet: SOC ALL\nserial: {column: ID}\n"
        f"supplier: {{constant: {supplier}}}\nsoc: {{column: SOC}}\nfeatures:\n"
        "  - {feature: relative_capacity, column: Q, unit: Ah, reference: nominal}\n"
        '  - {feature: "before_pulse_{soc}soc_V", column: U1, unit: V}\n',
        encoding="utf-8",
    )
    code, _, _ = run(path, "--as", "features", "--map", tmp_path / "map.yaml", "--into", folder)
    assert code == 0
    frame = features_table(Study.open(folder))
    values = frame[frame.feature == "relative_capacity"]
    assert len(values) == count
    assert 100 * values.value.std() / values.value.mean() == pytest.approx(cv_percent, abs=0.05)
    assert set(values.supplier) == {supplier}
    assert set(values.lot) == {""}
    assert set(values.source) == {"table"}
    volts = frame[frame.feature == "before_pulse_50soc_V"]
    assert len(volts) == count and volts.value.between(2.0, 4.3).all()
    sealed = next((folder / "archive/tables").iterdir())
    assert (sealed / "original.xlsx").read_bytes() == path.read_bytes()


def test_relative_capacity_is_also_what_the_table_calls_state_of_health(shared_data):
    path = shared_data / "data/multicell_pulsebat/LMO_10Ah_W_5000.xlsx"
    book = openpyxl.load_workbook(path, read_only=True)
    rows = list(book["SOC ALL"].iter_rows(min_row=2, values_only=True))
    book.close()
    pairs = np.array([(row[5] / row[4], row[6]) for row in rows])
    assert pairs[:, 0] == pytest.approx(pairs[:, 1], abs=1e-9)


def test_units_are_converted_by_the_features_name(table):
    (code, _, _), (sealed,) = table("ID,Q\n1,4900\nB-2,5100\n")
    assert code == 0
    assert [(row["serial"], row["value"], row["unit"]) for row in sealed["rows"]] == [
        ("1", pytest.approx(4.9), "Ah"), ("B-2", pytest.approx(5.1), "Ah"),
    ]  # fmt: skip
    assert sealed["rows"][0]["uncertainty"] is None


def test_uncertainty_scale_and_reference_to_a_column(table):
    mapping = MAP.replace(
        "  - {feature: capacity_Ah, column: Q, unit: mAh}",
        "  - {feature: retention, column: Q, reference: {column: Q0}, relative_uncertainty: 0.01}\n"
        "  - {feature: dcir_10s_mOhm, column: R, unit: ohm, scale: 0.5}",
    )
    (code, _, _), (sealed,) = table("ID,Q,Q0,R\nA,4.5,5.0,0.05\n", mapping)
    assert code == 0
    first, second = sealed["rows"]
    assert (first["value"], first["uncertainty"]) == pytest.approx((0.9, 0.009))
    assert (second["value"], second["unit"]) == (pytest.approx(25.0), "mOhm")


def test_supplier_and_lot_come_from_the_studys_cells(table):
    cells = "A,Beta,B7\nB,Beta,B8\n"
    (code, _, _), (sealed,) = table("ID,Q\nA,4900\nB,5000\n", cells=cells)
    assert code == 0
    assert [row["lot"] for row in sealed["rows"]] == ["B7", "B8"]


def test_empty_cells_are_not_measured(table):
    (code, _, _), (sealed,) = table("ID,Q\nA,4900\nB,\n")
    assert code == 0
    assert [row["serial"] for row in sealed["rows"]] == ["A"]


@pytest.mark.parametrize(
    ("text", "mapping", "cells", "message"),
    [
        ("ID,C\nA,4900\n", MAP, "", "there is no column 'Q'"),
        ("ID,Q\nA,much\n", MAP, "", "row 2: column 'Q': 'much' is not a number"),
        ("ID,Q\nA,nan\n", MAP, "", "is not a number"),
        ("ID,Q\nA,4.9\n", MAP, "", "not possible"),
        ("ID,Q\nA,4900\nA,4800\n", MAP, "", "capacity_Ah is 4.8 here and 4.9"),
        ("ID,Q\n../A,4900\n", MAP, "", "cannot name a serial"),
        ("ID,Q\nA,4900\n", MAP, "C,Beta,B1\n", "the study has no cell 'A'"),
        ("ID,Q\nA,4900\n", MAP.replace("Beta", "Gamma"), "", "unknown supplier 'Gamma'"),
        ("ID,Q\n", MAP, "", "no rows of data"),
        ("ID,Q\nA,\n", MAP, "", "not one value"),
        ("ID,Q\nA,4900\n", MAP.replace("mAh", "V"), "", "does not fit"),
        ("ID,Q\nA,4900\n", MAP.replace("mAh", "furlong"), "", "is none"),
        ("ID,Q\nA,4900\n", MAP.replace("column: Q", "colum: Q"), "", "unknown key 'colum'"),
        ("ID,Q\nA,4900\n", MAP.replace("map/1", "map/2"), "", "newer than this batterylab reads"),
        ("ID,Q\nA,4900\n", MAP.replace("capacity_Ah", '"q_{soc}soc_Ah"'), "", "needs a state of"),
    ],
)
def test_every_mistake_is_said_and_nothing_is_stored(table, text, mapping, cells, message):
    (code, out, err), sealed = table(text, mapping, cells)
    assert (code, out, sealed) == (2, "", [])
    assert message in err


def test_two_serials_with_the_same_values_are_refused(table):
    names = ["one_V", "two_V", "three_V", "four_V", "five_V"]
    mapping = MAP.partition("features:")[0] + "features:\n" + "\n".join(
        f"  - {{feature: {name}, column: {name}, unit: V}}" for name in names
    )  # fmt: skip
    header = "ID," + ",".join(names)
    (code, _, err), sealed = table(f"{header}\nA,1,2,3,4,5\nB,1,2,3,4,5\n", mapping)
    assert (code, sealed) == (2, [])
    assert "'A' and 'B' have the same 5 values" in err


def test_the_same_table_again_is_there_and_another_map_is_refused(table):
    text = "ID,Q\nA,4900\nB,5000\n"
    table(text)
    (code, out, err), sealed = table(text)
    assert (code, out, len(sealed)) == (0, "", 1)
    assert "already there" in err
    (code, _, err), sealed = table(text, MAP.replace("unit: mAh", "unit: mAh, scale: 0.99"))
    assert (code, len(sealed)) == (2, 1)
    assert "with another map" in err


def test_json_has_the_documented_keys(table):
    (code, out, _), _ = table("ID,Q\nA,4900\n", MAP, "", "--json")
    answer = json.loads(out)
    assert code == 0
    assert set(answer["tables"][0]) == {
        "path", "name", "sha256", "seal", "cells", "rows", "features", "already_there",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["original.csv", "map.yaml", "table.json"])
def test_a_change_to_a_sealed_table_is_found(table, tmp_path, name):
    table("ID,Q\nA,4900\n")
    folder = next((tmp_path / "study/archive/tables").iterdir())
    path = folder / name
    path.chmod(0o644)
    text = path.read_text(encoding="utf-8").replace("4", "5").replace("Beta", "Gamma")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(NotMetError, match="seal does not hold"):
        read_table(folder)


def test_a_broken_disk_leaves_nothing_half(table, tmp_path, monkeypatch):
    def refuse(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    (code, _, err), sealed = table("ID,Q\nA,4900\n")
    assert (code, sealed) == (1, [])
    assert "No space left" in err
    assert [p for p in (tmp_path / "study/archive").rglob("*") if p.is_file()] == []


def test_a_spreadsheet_that_is_none_is_refused(run, tmp_path):
    folder = make_study(tmp_path / "study")
    (tmp_path / "t.xlsx").write_bytes(b"no zip")
    (tmp_path / "map.yaml").write_text(MAP, encoding="utf-8")
    code, _, err = run(tmp_path / "t.xlsx", "--as", "features", "--map", tmp_path / "map.yaml",
                       "--into", folder)  # fmt: skip
    assert code == 2
    assert "not an XLSX file" in err


def test_the_maps_example_in_the_documentation_is_valid():
    from pathlib import Path

    from ruamel.yaml import YAML

    text = Path(__file__).parents[2].joinpath("docs/importing.md").read_text("utf-8")
    example = text.partition("```yaml\n")[2].partition("```")[0]
    FeatureMap.model_validate(YAML(typ="safe").load(example))


AGED_MAP = """\
schema: batterylab.featuremap/1
serial: {column: ID}
supplier: {constant: Beta}
cycles: {column: EFC}
stopped: {column: Ended}
features:
  - {feature: capacity_Ah, column: Q, unit: Ah}
"""


def aged_table(tmp_path, *lines):
    study = make_study(tmp_path / "s")
    (tmp_path / "map.yaml").write_text(AGED_MAP)
    (tmp_path / "t.csv").write_text("\n".join(["ID,EFC,Q,Ended", *lines]) + "\n")
    return study, (tmp_path / "t.csv", "--as", "features", "--map", tmp_path / "map.yaml",
                   "--into", tmp_path / "s")  # fmt: skip


def test_a_table_says_after_how_many_cycles_and_whether_a_test_was_stopped(run, tmp_path):
    _, call = aged_table(tmp_path, "B1,0,5.0,", "B1,100,4.9,no", "B2,0,3.1,Aborted")
    assert run(*call)[0] == 0
    rows = features_table(Study.open(tmp_path / "s")).to_dict("records")
    assert [(r["serial"], r["cycles"], r["value"], r["state"]) for r in rows] == [
        ("B1", 0.0, 5.0, "valid"), ("B1", 100.0, 4.9, "valid"), ("B2", 0.0, 3.1, "stopped"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["B1,0,5.0,perhaps"], "does not say whether the test was stopped"),
        (["B1,,5.0,"], "None cycles"),
        (["B1,-1,5.0,"], "-1.0 cycles"),
        (["B1,0,>4.5,"], "a column `stopped`"),
        (["B1,0,5.0,", "B1,0,4.9,"], "4.9 here and 5 in a row above"),
        (["B1,0,5.0,", "B1,0,5.0,yes"], "stopped in one row and not in another"),
    ],
)
def test_a_table_that_is_not_clear_on_either_is_refused(run, tmp_path, lines, said):
    _, call = aged_table(tmp_path, *lines)
    code, _, err = run(*call)
    assert code == 2
    assert said in err
