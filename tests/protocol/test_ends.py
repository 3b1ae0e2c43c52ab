"""Conditions held against samples."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.protocol import End, Step
from batterylab.protocol.ends import Block, Watch, is_onboard, likely_end, needs_host


def step_with(*ends, stops=(), **more):
    given_ = {"kind": "discharge", "current_A": -2.0, "voltage_V": 2.5, "on_time": "fail", **more}
    return Step("s", duration_s=3600, ends=ends, stops=stops, **given_)


def block(n=100, start=0, **columns):
    """Return samples of a discharge at 2 A: 1 mV a second, 1 mK a second."""
    t = np.arange(start + 1.0, start + n + 1)
    made = {
        "time_s": t, "current_A": np.full(n, -2.0), "voltage_V": 4.0 - 1e-3 * t,
        "temperature_degC": 25.0 + 1e-3 * t, "moved_Ah": -2.0 * t / 3600,
        "moved_Wh": -7.0 * t / 3600, **columns,
    }  # fmt: skip
    return Block(**made)


@pytest.mark.parametrize(
    ("end", "row"),
    [
        (End("voltage_V", "below", 3.95), 49),
        (End("voltage_V", "above", 3.95), 0),
        (End("current_A", "above", 2.0), 0),
        (End("current_A", "below", 2.5), 5),  # not before the sixth second
        (End("power_W", "below", 7.9), 49),
        (End("capacity_Ah", "above", 0.02), 35),
        (End("energy_Wh", "above", 0.07), 35),
        (End("temperature_degC", "above", 25.05), 49),
        (End("time_s", "above", 60.0), 59),
        (End("voltage_rate_V_per_s", "below", -0.9e-3, over_s=20.0), 20),
        (End("temperature_rate_K_per_s", "above", 1.1e-3, over_s=20.0), None),
        (End("voltage_V", "below", 3.95, hold_s=10.0), 59),
        (End("soc_percent", "below", 99.0), None),  # `Progress` turns it into a capacity
        (End("voltage_V", "below", 3.0), None),
    ],
)
def test_each_quantity_is_found_in_its_second(end, row):
    fired = Watch(step_with(end)).look(block())
    assert (fired and fired.row) == row
    if fired:
        assert (fired.end, fired.is_stop) == (end, False)


def test_a_condition_must_hold_without_a_break():
    volts = np.full(40, 3.9)
    volts[20] = 4.1
    fired = Watch(step_with(End("voltage_V", "below", 4.0, hold_s=20.0))).look(
        block(40, voltage_V=volts)
    )
    assert fired is None
    volts[20] = 3.9
    watch = Watch(step_with(End("voltage_V", "below", 4.0, hold_s=20.0)))
    assert watch.look(block(40, voltage_V=volts)).row == 20


def test_the_first_one_counts_and_a_stop_before_an_end():
    early, late = End("capacity_Ah", "above", 0.01), End("voltage_V", "below", 3.95, then="there")
    assert Watch(step_with(late, early)).look(block()).end is early
    stop = End("voltage_V", "below", 3.95, then="fail")
    fired = Watch(step_with(late, stops=(stop,))).look(block())
    assert (fired.end, fired.is_stop) == (stop, True)
    assert str(fired) == "voltage 3.95 V is below 3.95 V"


def test_a_missing_reading_is_no_reading():
    degrees = np.full(50, math.nan)
    end = End("temperature_degC", "above", 20.0)
    assert Watch(step_with(end)).look(block(50, temperature_degC=degrees)) is None
    degrees[30:] = 30.0
    assert Watch(step_with(end)).look(block(50, temperature_degC=degrees)).row == 30


def test_what_the_cycler_watches_is_left_out():
    ends = (End("voltage_V", "below", 3.99), End("temperature_degC", "above", 25.05))
    fired = Watch(step_with(*ends), skips_onboard=True).look(block())
    assert fired.end is ends[1]


@pytest.mark.parametrize(
    ("end", "more", "can"),
    [
        (End("voltage_V", "below", 3.0), {}, True),
        (End("energy_Wh", "above", 3.0), {}, True),
        (End("voltage_V", "below", 3.0), {"mode": "rest"}, False),
        (End("voltage_V", "below", 3.0, hold_s=2.0), {}, False),
        (End("voltage_V", "below", 3.0, then="there"), {}, False),
        (End("voltage_V", "below", 3.0, then="fail"), {}, True),
        (End("capacity_Ah", "above", 0.5, of="capacity"), {}, False),
        (End("capacity_Ah", "above", 2.5, is_own=True), {}, False),
        (End("temperature_degC", "above", 40.0), {}, False),
        (End("voltage_rate_V_per_s", "below", 0.1), {}, False),
    ],
)
def test_what_a_cycler_can_watch(end, more, can):
    step = step_with(end, **more)
    assert is_onboard(step, end) is can
    assert needs_host(step) is not can


def test_stops_that_fail_need_no_segment_of_their_own():
    hot = End("temperature_degC", "above", 40.0, then="fail")
    assert not needs_host(step_with(stops=(hot,)))
    assert needs_host(step_with(stops=(End("temperature_degC", "above", 40.0, then="finish"),)))


def test_the_end_that_came_is_told_from_the_last_sample():
    step = step_with(End("voltage_V", "below", 2.5), End("capacity_Ah", "above", 1.0))
    assert likely_end(step, 900.0, -2.0, 2.5004, -0.5, -1.8) == "voltage_V"
    assert likely_end(step, 1800.0, -2.0, 3.4, -0.9998, -3.6) == "capacity_Ah"
    assert likely_end(step, 3600.0, -2.0, 3.4, -0.9, -3.6) == "time_s"


ANY = st.builds(
    End,
    st.sampled_from(["voltage_V", "current_A", "capacity_Ah", "temperature_degC",
                     "voltage_rate_V_per_s", "temperature_rate_K_per_s", "power_W"]),
    st.sampled_from(["above", "below"]), st.floats(-5.0, 5.0),
    hold_s=st.sampled_from([0.0, 3.0]), over_s=st.sampled_from([2.0, 7.0]),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(ANY, min_size=1, max_size=3), st.integers(0, 10**6),
       st.lists(st.integers(1, 12), min_size=1, max_size=10))  # fmt: skip
def test_samples_may_come_one_by_one_or_in_blocks(ends, seed, lengths):
    draw = np.random.default_rng(seed)
    n = sum(lengths)
    whole = Block(
        np.arange(1.0, n + 1), draw.normal(0, 3, n), draw.normal(0, 3, n),
        np.where(draw.random(n) < 0.2, np.nan, draw.normal(0, 3, n)),
        np.cumsum(draw.normal(0, 1, n)), np.cumsum(draw.normal(0, 1, n)),
    )  # fmt: skip
    step = step_with(*ends)
    at_once = Watch(step).look(whole)
    watch, begin, found = Watch(step), 0, None
    for length in lengths:
        part = slice(begin, begin + length)
        fired = watch.look(Block(*(column[part] for column in vars(whole).values())))
        if fired:
            found = (begin + fired.row, fired.end)
            break
        begin += length
    assert found == (at_once and (at_once.row, at_once.end))
