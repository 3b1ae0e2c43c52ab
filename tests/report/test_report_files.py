"""Workbook, Q-DAS file and JSON, and the words they are made of."""

import json
import math
import re

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scorecard_maker import make_scorecard, poisoned

from batterylab.report import write
from batterylab.report.card import read_card
from batterylab.report.dfq import to_dfq
from batterylab.report.words import (
    decimals_for,
    estimate,
    label_of,
    name_of,
    number,
    plain,
    probability,
    significant,
    unit_of,
)


@pytest.fixture(scope="module")
def card():
    return make_scorecard()


def test_workbook_holds_every_value_as_a_number(place, card):
    book = openpyxl.load_workbook(write(place, card, ("xlsx",))["xlsx"])
    rows = list(book["Values"].iter_rows(values_only=True))
    place_of = {name: i for i, name in enumerate(rows[0])}
    capacities = [r[place_of["value"]] for r in rows[1:] if r[0] == "capacity_Ah"]
    expected = [v["value"] for v in card["features"]["capacity_Ah"]["values"]]
    assert sorted(capacities) == pytest.approx(sorted(expected), rel=1e-14)
    assert book["Decision"]["B2"].value == "QUALIFY"
    assert book["Recordings"].max_row == 1 + len(card["recordings"])


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_no_cell_of_the_workbook_is_a_formula(place, card, start):
    hostile = poisoned(card)
    hostile["decision"] = {f"{start}cmd()|'/C calc'!A0": {"verdict": f"{start}1+1", "reasons": [
        f'{start}HYPERLINK("http://x")'], "risks": None}}  # fmt: skip
    book = openpyxl.load_workbook(write(place, hostile, ("xlsx",))["xlsx"])
    cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row]
    assert not [cell for cell in cells if cell.data_type == "f"]
    first = book["Decision"]["B2"]
    assert first.value == f"{start}1+1"
    assert first.quotePrefix


def test_the_feature_table_becomes_a_sheet(place, card):
    import pandas as pd

    frame = pd.DataFrame({"serial": ["A1-001"], "value": [4.98], "uncertainty": [math.nan],
                          "steps": ["=3,7"]})  # fmt: skip
    book = openpyxl.load_workbook(write(place, card, ("xlsx",), table=frame)["xlsx"])
    assert [c.value for c in book["Features"][2]] == ["A1-001", 4.98, None, "=3,7"]


def parsed(content):
    lines = content.decode("utf-8-sig").split("\r\n")
    assert lines.pop() == ""
    fields = [re.fullmatch(r"(K\d{4})(?:/(\d+))? (.*)", line) for line in lines]
    assert all(fields)
    return [field.groups() for field in fields]


def test_dfq_carries_each_value_with_its_lot_and_limits(card):
    fields = parsed(to_dfq(read_card(card)))
    assert fields[0] == ("K0100", None, str(2 * len(card["features"])))
    names = {place: value for key, place, value in fields if key == "K2002"}
    (alpha,) = [place for place, name in names.items() if name == "Capacity, Alpha"]
    assert ("K2110", alpha, "4.95") in fields
    assert ("K2111", alpha, "5.45") in fields
    assert ("K2142", alpha, "Ah") in fields
    values = [float(value) for key, place, value in fields if key == "K0001" and place == alpha]
    drawn = card["features"]["capacity_Ah"]["values"]
    mine = [v["value"] for v in drawn if v["supplier"] == "Alpha"]
    assert sorted(values) == pytest.approx(sorted(mine), abs=1e-5)
    lots = [value for key, place, value in fields if key == "K0006" and place == alpha]
    assert sorted(set(lots)) == ["A1", "A2", "A3"]
    serials = [value for key, place, value in fields if key == "K0014" and place == alpha]
    assert sorted(serials) == sorted(v["serial"] for v in drawn if v["supplier"] == "Alpha")
    times = [value for key, _, value in fields if key == "K0004"]
    assert all(re.fullmatch(r"\d\d\.01\.2026/\d\d:00:00", value) for value in times)


def test_dfq_lets_no_text_start_a_field_of_its_own(card):
    hostile = json.loads(json.dumps(card).replace("Alpha", "Al\\r\\nK0001/1 99\\u000f\\u0014"))
    fields = parsed(to_dfq(read_card(hostile)))
    assert "99" not in [value for key, _, value in fields if key == "K0001"]


def test_json_is_the_scorecard(place, card):
    assert json.loads(write(place, card, ("json",))["json"].read_text(encoding="utf-8")) == card


@given(st.text())
def test_plain_text_is_one_printable_line(text):
    line = plain(text)
    forbidden = "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2028\u2029\ud800-\udfff]"
    assert not re.search(forbidden, line)
    assert len(line) <= 1040
    line.encode("utf-8")


@given(st.floats(allow_nan=True, allow_infinity=True), st.integers(0, 6))
def test_a_number_reads_back_or_is_a_dash(value, decimals):
    text = number(value, decimals)
    if not math.isfinite(value):
        assert text == "–"
    else:
        assert float(text.replace("−", "-")) == pytest.approx(round(value, decimals), abs=1e-9)


@pytest.mark.parametrize(
    ("feature", "unit", "name"),
    [
        ("capacity_Ah", "Ah", "Capacity"),
        ("dcir_10s_mOhm", "mΩ", "DC resistance, 10 s"),
        ("dcir_10s_80soc_mOhm", "mΩ", "DC resistance, 10 s, 80 % SOC"),
        ("ac_resistance_mOhm", "mΩ", "AC resistance"),
        ("energy_efficiency_percent", "%", "Energy efficiency"),
        ("relative_capacity", "", "Relative capacity"),
        ("ocv_V", "V", "Open-circuit voltage"),
    ],
)
def test_features_have_names_and_units(feature, unit, name):
    assert (unit_of(feature), name_of(feature)) == (unit, name)
    assert label_of(feature) == (f"{name} ({unit})" if unit else name)


def test_numbers_are_printed_as_people_read_them():
    assert number(-0.0004, 2) == "0.00"
    assert number(-1.5, 1) == "−1.5"
    assert estimate(4.98, 4.95, 5.01, 2) == "4.98 (4.95 to 5.01)"
    assert estimate(4.98, None, None, 2) == "4.98 (no interval)"
    assert estimate(None, 1, 2) == "–"
    assert probability(1.0) == "> 99.9 %"
    assert probability(0.0) == "< 0.1 %"
    assert probability(0.997) == "99.7 %"
    assert decimals_for([4.98, 5.02], 0.013) == 3
    assert significant(4.98765, 0.002) == "4.9877"
