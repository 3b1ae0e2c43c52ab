"""Quantities as people write them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batterylab.errors import BatterylabError
from batterylab.quantity import UNITS, Quantity, parse, parse_as


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("30 min", "duration_s", 1800.0),
        ("C/3", "rate_C", 1 / 3),
        ("1C", "rate_C", 1.0),
        ("5 mV", "voltage_V", 0.005),
        ("25 °C", "temperature_degC", 25.0),
        ("-20 degC", "temperature_degC", -20.0),
        ("32 mΩ", "resistance_ohm", 0.032),
        ("4950 mAh", "capacity_Ah", 4.95),
        ("50 %", "percent", 50.0),
        (" 2h ", "duration_s", 7200.0),
    ],
)
def test_a_quantity_is_read_in_its_unit(text, name, value):
    quantity = parse(text)
    assert quantity.name == name
    assert quantity.value == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("30 mins", "unknown unit 'mins'.*did you mean 'min'"),
        ("5", "not a number with a unit"),
        ("5 ah", "unknown unit 'ah'.*did you mean 'Ah'"),
        ("C/0", "a rate divides by a positive number"),
        ("1e999 V", "not a number|too large"),
        ("4.2 V; rm", "not a number with a unit"),
    ],
)
def test_what_is_no_quantity_is_refused_with_a_hint(text, message):
    with pytest.raises(BatterylabError, match=f"(?s){message}"):
        parse(text)


def test_a_bare_number_has_no_unit():
    with pytest.raises(BatterylabError, match=r"(?s)4\.2 has no unit.*'4\.2 V'"):
        parse_as(4.2, "voltage_V")


def test_milliamperes_are_no_volts():
    with pytest.raises(BatterylabError, match="is a current, not a voltage"):
        parse_as("5 mA", "voltage_V")


@given(st.floats(-1e9, 1e9), st.sampled_from(sorted(UNITS)))
def test_every_unit_scales_by_its_factor(number, unit):
    name, factor = UNITS[unit]
    assert parse(f"{number!r} {unit}") == Quantity(name, number * factor)


@given(st.text(max_size=80))
def test_any_text_gives_a_finite_quantity_or_our_error(text):
    try:
        quantity = parse(text)
    except BatterylabError:
        return
    assert math.isfinite(quantity.value)
