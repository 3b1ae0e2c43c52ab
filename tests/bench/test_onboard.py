"""What the cycler is told, so that it ends every step by itself."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from batterylab.bench.channelrun import ChannelRun, Running
from batterylab.bench.onboard import Guards, compile_segment
from batterylab.cells import CellType
from batterylab.drivers.roles import OnboardTest
from batterylab.errors import BatterylabError
from batterylab.protocol import End, Segment, Step, all_segments, load
from batterylab.protocol.form import Points

GUARDS = Guards((2.45, 4.25))
HIGH = OnboardTest("VOLT_GE", 4.25, "AFTER", 0, "FAIL")
LOW = OnboardTest("VOLT_LE", 2.45, "AFTER", 0, "FAIL")
HOLD, EMPTY = End("current_A", "below", 0.25), End("voltage_V", "below", 2.5)
CELL = CellType.model_validate({
    "name": "P5000", "nominal_capacity": "5 Ah", "rated_capacity": "5 Ah",
    "voltage": {"min": "2.5 V", "max": "4.2 V"},
    "current": {"max_charge": "5 A", "max_discharge": "10 A"},
    "temperature": {"min": "0 degC", "max": "45 degC"},
})  # fmt: skip


def compiled(step):
    (found,) = compile_segment(Segment((step,)), GUARDS)
    return found


def test_a_charge_with_hold():
    found = compiled(Step("s", "charge", 1.5, 4.2, 18000, (HOLD,), "fail"))
    assert (found.mode, found.duration_s, found.current_A, found.voltage_V) == (
        "CHARGE", 18000, 1.5, 4.2,
    )  # fmt: skip
    assert found.tests == (
        HIGH, LOW, OnboardTest("CURR_LE", 0.25, "AFTER", 5, "NEXT"),
        OnboardTest("CURR_GE", 0.0, "AT", 18000, "FAIL"),
    )  # fmt: skip


def test_a_charge_to_a_voltage_ends_half_a_millivolt_before_it():
    found = compiled(Step("s", "charge", 1.5, 4.1, 3600, (End("voltage_V", "above", 4.1),), "fail"))
    assert found.voltage_V == 4.1
    assert found.tests[2] == OnboardTest("VOLT_GE", pytest.approx(4.0995), "AFTER", 0, "NEXT")


def test_a_discharge_is_driven_beyond_its_voltage_but_not_to_the_guard():
    found = compiled(Step("s", "discharge", -1.5, 2.5, 3600, (EMPTY,), "fail"))
    assert (found.mode, found.current_A) == ("DISCHARGE", 1.5)
    assert found.tests[2] == OnboardTest("VOLT_LE", 2.5, "AFTER", 0, "NEXT")
    assert found.voltage_V == pytest.approx(2.49)
    tight = compile_segment(
        Segment((Step("s", "discharge", -1.5, 2.5, 3600, (EMPTY,), "fail"),)), Guards((2.495, 4.25))
    )
    assert tight[0].voltage_V == 2.495


def test_a_pulse_ends_by_its_time_without_failing():
    found = compiled(Step("s", "pulse", -5.0, 2.5, 10, (EMPTY,)))
    assert found.duration_s == 10
    assert [test.action for test in found.tests] == ["FAIL", "FAIL", "NEXT"]


def test_a_rest_carries_no_tests():
    found = compiled(Step("s", "rest", 0.0, math.nan, 60, mode="rest"))
    assert (found.mode, found.duration_s, found.current_A, found.tests) == ("REST", 60, 0.0, ())


def test_further_ends_and_stops_become_tests():
    step = Step(
        "s", "discharge", -1.5, 2.5, 3600,
        (EMPTY, End("capacity_Ah", "above", 2.0), End("energy_Wh", "above", 9.0, then="fail"),
         End("power_W", "below", 3.0), End("temperature_degC", "above", 40.0)), "fail",
        stops=(End("current_A", "above", 2.0, then="fail"),
               End("voltage_V", "below", 2.6, hold_s=3.0, then="fail")),
    )  # fmt: skip
    assert compiled(step).tests[3:] == (
        OnboardTest("AMPH_GE", 2.0, "AFTER", 0, "NEXT"),
        OnboardTest("WATTH_GE", 9.0, "AFTER", 0, "FAIL"),
        OnboardTest("POWER_LE", 3.0, "AFTER", 5, "NEXT"),
        OnboardTest("CURR_GE", 2.0, "AFTER", 0, "FAIL"),
        OnboardTest("CURR_GE", 0.0, "AT", 3600, "FAIL"),
    )


def test_a_voltage_is_held_to_the_end_of_the_time():
    found = compiled(Step("s", "hold", 1.0, 4.1, 600, mode="voltage"))
    assert (found.mode, found.current_A, found.voltage_V) == ("CHARGE", 1.0, 4.1)
    assert found.tests == (HIGH, LOW)


def test_a_profile_becomes_one_step_a_point():
    ends = (EMPTY, End("voltage_V", "above", 4.2))
    points = Points("current_A", (0.0, 10.0, 30.0), (-2.0, 0.0, 1.0), 35.0)
    step = Step("s", "profile", -2.0, 2.5, 35, ends, mode="profile", points=points)
    found = compile_segment(Segment((step,)), GUARDS)
    assert [(s.mode, s.duration_s, s.current_A) for s in found] == [
        ("DISCHARGE", 10, 2.0), ("REST", 20, 0.0), ("CHARGE", 5, 1.0),
    ]  # fmt: skip
    assert [s.voltage_V for s in found] == [2.5, 0.0, 4.2]
    assert found[0].tests == (HIGH, LOW)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mode": "power", "level": 5.0}, "no constant power"),
        ({"mode": "profile", "points": Points("power_W", (0.0,), (1.0,), 9.0)}, "profile of power"),
        ({"mode": "profile", "points": Points("current_A", (0.0,), (1.0,), 0.5)}, "whole seconds"),
    ],
)
def test_what_the_cycler_cannot_do_is_refused(change, said):
    ends = (EMPTY, End("voltage_V", "above", 4.2))
    step = replace(Step("here", "profile", -2.0, 2.5, 35, ends), **change)
    with pytest.raises(BatterylabError, match=said) as caught:
        compile_segment(Segment((step,)), GUARDS)
    assert caught.value.message.startswith("here:")


@pytest.mark.parametrize("name", ["capacity_resistance", "incoming_inspection", "gauge_capacity"])
def test_every_step_of_the_shipped_ones_is_bounded_and_guarded(name):
    for segment in all_segments(load(name).resolve(CELL)):
        for step, found in zip(segment.steps, compile_segment(segment, GUARDS), strict=True):
            assert 1 <= found.duration_s <= 12 * 3600
            if found.mode == "REST":
                continue
            assert found.tests[:2] == (HIGH, LOW)
            ends = [test for test in found.tests if test.action == "FAIL" and test.when == "AT"]
            assert [test.time_s for test in ends] == ([] if step.is_fixed else [step.duration_s])


def test_a_pulse_that_ends_early_between_two_looks_is_found_by_its_current():
    steps = (
        Step("a", "pulse", -5.0, 2.5, 10), Step("b", "rest", 0.0, math.nan, 40, mode="rest"),
        Step("c", "pulse", 3.0, 4.2, 10),
    )  # fmt: skip
    run = ChannelRun.__new__(ChannelRun)
    run.entry, run.remarks = SimpleNamespace(name="1-1"), []
    run.running = Running(Segment(steps), [100.0], 7, [0.0] * 3)
    seconds = np.arange(101.0, 160.0)
    amps = np.select([seconds <= 110, seconds <= 150, seconds <= 151], [-5.0, 0.0, 3.0], 0.0)
    run.seen = (seconds, amps)
    run.note_end(151.0)
    assert run.running.starts_s == [100.0, 110.0, 150.0]
    assert run.remarks == []
