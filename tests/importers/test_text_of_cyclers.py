"""Headers with units, times and numbers as cyclers write them."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.errors import BatterylabError
from batterylab.importers.build import Stated, recording_of
from batterylab.importers.text import Sheet, durations_s, read_sheet, split_header


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        ("Current(mA)", ("current", "mA")),
        ("I/mA", ("i", "mA")),
        ("(Q-Qo)/mA.h", ("(q-qo)", "mAh")),
        ("Current / A", ("current", "A")),
        ("U[V]", ("u", "V")),
        ("Current(µA)", ("current", "uA")),
        ("Cyc#", ("cyc#", "")),
        ("Test (Sec)", ("test", "Sec")),
        ("dVdt (V/h)", ("dvdt", "V/h")),
    ],
)
def test_a_header_is_a_name_and_a_unit(header, parts):
    assert split_header(header) == parts


@pytest.mark.parametrize(
    ("header", "factor"), [("I(A)", 1.0), ("I(mA)", 1e-3), ("I[µA]", 1e-6), ("I / mA", 1e-3)]
)
@given(values=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20))
@settings(max_examples=30, deadline=None)
def test_a_column_is_read_in_the_unit_asked_for(tmp_path_factory, header, factor, values):
    text = f"x,{header}\n" + "\n".join(f"0,{value!r}" for value in values) + "\n"
    sheet = read_sheet(tmp_path_factory.getbasetemp() / "t.csv", text, 0)
    assert sheet.need("I", "A") == pytest.approx(factor * np.array(values), rel=1e-12)


def test_a_unit_of_another_quantity_is_refused():
    sheet = Sheet("t.csv", {"Current(V)": np.array([1.0])})
    with pytest.raises(BatterylabError, match="unit 'V' is not one of A"):
        sheet.need("Current", "A")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:01:00", 60.0),
        ("30:49:13", 110953.0),
        ("  2d 02:52:51.5699996948242", 183171.57),
        ("1D 0:00:0.5", 86400.5),
    ],
)
def test_durations(text, seconds):
    assert durations_s("t", np.array([text]))[0] == pytest.approx(seconds)


@given(st.text(max_size=30))
def test_no_text_passes_for_a_duration_by_chance(text):
    try:
        value = durations_s("t", np.array([text]))[0]
    except BatterylabError:
        return
    assert value >= 0 and ":" in text


def test_a_decimal_comma_is_understood(tmp_path):
    sheet = read_sheet(tmp_path / "t.txt", "t\tI\n0\t1,5\n1\t-2,25\n", 0, "\t")
    assert sheet.need("I", "A").tolist() == [1.5, -2.25]


def test_the_last_digit_is_known(tmp_path):
    sheet = read_sheet(tmp_path / "t.csv", "I(mA)\n0.5\n0.75\n", 0)
    assert sheet.resolution("I", "A") == pytest.approx(1e-5)


def test_a_line_of_rubbish_is_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("Time [s],I[A],U[V]\n0,1,3.0\n1,one,3.1\n2,1,3.2\n", encoding="utf-8")
    with pytest.raises(BatterylabError, match=r"line 3, column 'I\[A\]': 'one' is not a number"):
        recording_of(path, Stated("S1"))


@given(tail=st.binary(max_size=300))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize(
    ("suffix", "head"),
    [
        (".ndax", b"PK\x03\x04"),
        (".nda", b"NEWARE"),
        (".res", b"\x00\x01\x00\x00Standard Jet DB\x00"),
        (".csv", b"Time [s],I[A],U[V]\n"),
        (".csv", b"test_time_second,voltage_volt,current_ampere\n"),
        (".txt", b"Today's Date\t\nRec#\tCyc#\tStep\tAmps\tVolts\tState\n"),
        (".txt", b"EC-Lab ASCII FILE\nNb header lines : 3\n"),
        (".csv", b"[Summary]\nNovonix\n[Data]\n"),
        (".lvm", b"0\t1\t3\n"),
        (".parquet", b"PAR1"),
        (".zip", b"PK\x03\x04"),
    ],
)
def test_no_bytes_make_a_reader_fall_over(tmp_path_factory, suffix, head, tail):
    path = tmp_path_factory.getbasetemp() / f"fuzz{suffix}"
    path.write_bytes(head + tail)
    with suppress(BatterylabError):
        recording_of(path, Stated("S1"))
