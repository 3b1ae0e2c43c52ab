"""A study's own files."""

import pytest

from batterylab.errors import NotMetError, ProblemsError
from batterylab.study import Study
from batterylab.studyfiles import write_study
from batterylab.studylog import StudyLog


@pytest.fixture
def folder(tmp_path):
    write_study(tmp_path / "s")
    return tmp_path / "s"


def change(folder, name, old, new):
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_new_study_opens_and_holds_what_the_design_says(folder):
    study = Study.open(folder)
    assert len(study.cells) == 48
    assert study.cell_type.voltage_max_V == 4.2
    assert study.definition.limits[0].lower == 4.95
    assert study.definition.limits[1].upper == pytest.approx(45.0)  # mOhm, as the name says


def test_a_second_init_writes_nothing(folder):
    before = (folder / "cells.csv").read_text()
    with pytest.raises(Exception, match="exists already"):
        write_study(folder)
    assert (folder / "cells.csv").read_text() == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lower: 4.95 Ah, upper: 5.45 Ah", "lower: 5.45 Ah, upper: 4.95 Ah", "swap them"),
        ("upper: 45 mOhm", "upper: 45 mAh", "is no dcir_10s_mOhm"),
        ("upper: 45 mOhm", "upper: 45", "has no unit"),
        ("{min: 2.5 V, max: 4.2 V}", "{min: 4.2 V, max: 2.5 V}", "min must be less than max"),
        ("rated_capacity: 4.95 Ah", "rated_capacity: 4.95 mAh", "mind Ah and mAh"),
        ("gbt_31486_2024", "gbt_31486_2042", "unknown rule"),
        ("lots: [B1, B2, B3]", "lots: [B1, B2]", "supplier 'Beta' has no lot 'B3'"),
        ("name: Beta", "name: Gamma", "unknown supplier 'Beta'"),
        ("name: Beta", "name: ../x", "cannot name a supplier"),
    ],
)
def test_a_mistake_in_the_study_is_told_with_its_remedy(folder, old, new, message):
    change(folder, "study.yaml", old, new)
    with pytest.raises(ProblemsError, match=message):
        Study.open(folder)


def test_an_unknown_supplier_in_the_cells_is_told_by_line(folder):
    change(folder, "cells.csv", "A1-003,Alpha,A1", "A1-003,Alpa,A1")
    with pytest.raises(ProblemsError, match=r"cells\.csv:4: unknown supplier 'Alpa'"):
        Study.open(folder)


def test_all_mistakes_of_both_files_come_at_once(folder):
    change(folder, "study.yaml", "upper: 45 mOhm", "upper: 45")
    row = "A1-001,Alpha,A1,3.582,13.4,"
    change(folder, "cells.csv", row, "A1-001,Alpha,A1,x,,\nA1-001,Alpha,A1")
    with pytest.raises(ProblemsError) as caught:
        Study.open(folder)
    text = str(caught.value)
    assert "has no unit" in text
    assert "cells.csv:2: incoming_ocv_V = 'x' is not a number" in text


def test_the_log_replays_who_sits_where(tmp_path):
    log = StudyLog(tmp_path / "log")
    log.append("load", "ann", serial="A", channel="1-1")
    log.append("load", "ann", serial="B", channel="1-2")
    log.append("unload", "bob", serial="A", channel="1-1", disposition="stored")
    assert log.occupied() == {"1-2": "B"}
    assert log.verify() == 3


@pytest.mark.parametrize("damage", ["change", "remove", "swap", "garbage"])
def test_a_log_that_was_touched_is_refused(tmp_path, damage):
    log = StudyLog(tmp_path / "log")
    for serial in "ABC":
        log.append("load", "ann", serial=serial, channel=serial)
    lines = log.path.read_text().splitlines()
    if damage == "change":
        lines[1] = lines[1].replace('"B"', '"X"')
    elif damage == "remove":
        del lines[1]
    elif damage == "swap":
        lines[0], lines[1] = lines[1], lines[0]
    else:
        lines.insert(1, "{}")
    log.path.write_text("\n".join(lines) + "\n")
    before = log.path.read_text()
    with pytest.raises(NotMetError, match="chain is broken"):
        log.verify()
    with pytest.raises(NotMetError, match="chain is broken"):
        log.append("load", "ann", serial="D", channel="D")
    assert log.path.read_text() == before


def test_a_state_needs_a_reason_of_the_list(tmp_path):
    log = StudyLog(tmp_path / "log")
    with pytest.raises(Exception, match="unknown reason"):
        log.set_state("ab", "invalid", "because", "ann")
    log.set_state("ab", "invalid", "aborted: power cut", "ann")
    assert log.states()["ab"]["state"] == "invalid"


def test_the_bench_that_is_written_has_the_channels_it_says(tmp_path):
    from batterylab.bench.benchfile import BenchFile
    from batterylab.studyfiles import CHANNELS

    write_study(tmp_path / "s")
    assert len(BenchFile.open(tmp_path / "s" / "bench.yaml").channels) == CHANNELS
