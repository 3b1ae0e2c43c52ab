"""Host-stepped supplies against their simulated instruments: what is common, and each one's own."""

import pytest

from batterylab.drivers.roles import Protections
from batterylab.errors import (
    BatterylabError,
    EnvironmentFailedError,
    OutOfRangeError,
    SafetyStopError,
)

SUPPLIES = ("ea_psb10000", "itech_m3900", "keithley_2450", "keithley_2460")
WANTED = Protections(2.4, 4.25, 6.0, 6.0, 30.0)
#: on the 2450, the largest current is 1 A
LEVEL_A = {"keithley_2450": 0.9}


def level_A(model):
    return LEVEL_A.get(model, 2.5)


@pytest.fixture(params=SUPPLIES)
def supply(request, instrument):
    """Return a prepared supply with a cell at its terminals."""
    one = instrument(request.param)
    one.connect()
    one.driver.prepare(WANTED)
    return one


def made(instrument, model, wanted=WANTED):
    one = instrument(model)
    one.connect()
    one.driver.prepare(wanted)
    return one


# -- what is common


@pytest.mark.parametrize(("mode", "sign", "until_V"), [("CHARGE", 1, 4.1), ("DISCHARGE", -1, 2.6)])
def test_constant_current_flows_in_the_right_direction(supply, mode, sign, until_V):
    driver, amps = supply.driver, level_A(supply.model)
    cell, state = supply.world.cells["A-1"], supply.world.state_of("A-1").copy()
    driver.set(mode, amps, until_V, 3600)
    driver.output(True)
    assert driver.is_on()
    supply.wait(20)
    volts, measured = driver.measure()
    assert measured == pytest.approx(sign * amps, rel=1e-4)
    expected, _ = cell.follow(state, [sign * amps] * 20, 1.0, 23.0)
    assert volts == pytest.approx(expected[-1], abs=1e-3)
    driver.make_safe()
    assert not driver.is_on() and not supply.instrument.stage.is_on


def test_it_remembers_when_it_was_told_to_switch_off(supply):
    """Not when that was confirmed: an IT-M3900 takes two seconds to leave its battery mode."""
    supply.driver.set("CHARGE", level_A(supply.model), 4.1, 3600)
    supply.driver.output(True)
    supply.wait(20)
    told_s = supply.clock.now()
    supply.driver.make_safe()
    assert supply.driver.off_s == pytest.approx(told_s, abs=0.1)


def test_a_charge_holds_its_voltage(supply):
    driver, amps = supply.driver, level_A(supply.model)
    volts = supply.instrument.stage.voltage_V + 0.05
    driver.set("CHARGE", amps, volts, 7200)
    driver.output(True)
    for _ in range(50):
        supply.wait(24)  # less than the watchdog
        driver.measure()
    measured_V, measured_A = driver.measure()
    assert measured_V == pytest.approx(volts, abs=2e-3)
    assert 0 < measured_A < 0.9 * amps


def test_a_change_of_direction_is_a_stop_between(supply):
    driver, amps = supply.driver, level_A(supply.model)
    driver.set("CHARGE", amps, 4.1, 3600)
    driver.output(True)
    supply.wait(5)
    supply.server.seen.clear()
    driver.set("DISCHARGE", amps, 2.6, 3600)
    assert any("OUTP" in line and ("OFF" in line or "0" in line) for line in supply.server.seen)
    supply.wait(2)
    assert driver.measure()[1] == pytest.approx(-amps, rel=1e-4)
    driver.set("REST", 0.0, 0.0, 60)
    supply.wait(2)
    volts, at_rest_A = driver.measure()
    assert abs(at_rest_A) < 1e-4 and 3.0 < volts < 4.1


def test_a_smaller_current_can_be_set_while_current_flows(supply):
    driver, amps = supply.driver, level_A(supply.model)
    driver.set("CHARGE", amps, 4.1, 3600)
    driver.output(True)
    supply.wait(2)
    driver.set("CHARGE", amps / 2, 4.1, 3600)
    supply.wait(2)
    assert driver.is_on()
    assert driver.measure()[1] == pytest.approx(amps / 2, rel=1e-3)


@pytest.mark.parametrize(
    ("mode", "current_A", "voltage_V", "at_most_s"),
    [
        ("CHARGE", 1e9, 4.1, 60), ("CHARGE", -1.0, 4.1, 60), ("CHARGE", float("nan"), 4.1, 60),
        ("CHARGE", 0.5, 5000.0, 60), ("CHARGE", 0.5, float("nan"), 60), ("HOVER", 0.5, 4.1, 60),
        ("DISCHARGE", 0.5, -1.0, 60), ("DISCHARGE", 0.5, 3.0, 0),
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_never_sent(supply, mode, current_A, voltage_V, at_most_s):
    supply.server.seen.clear()
    with pytest.raises(OutOfRangeError):
        supply.driver.set(mode, current_A, voltage_V, at_most_s)
    assert supply.server.seen == []


def test_nothing_is_switched_on_before_it_is_prepared(instrument):
    for model in SUPPLIES:
        one = instrument(model)
        one.connect()
        with pytest.raises(BatterylabError, match="prepare"):
            one.driver.set("CHARGE", 0.5, 4.1, 60)
        with pytest.raises(BatterylabError, match="prepare"):
            one.driver.output(True)


@pytest.mark.parametrize("model", SUPPLIES)
@pytest.mark.parametrize("is_reversed", [True, None])
def test_a_reversed_or_a_missing_cell_gets_no_current(instrument, model, is_reversed):
    one = instrument(model)
    if is_reversed is not None:
        one.connect(is_reversed=is_reversed)
    one.driver.prepare(WANTED)
    one.driver.set("CHARGE", 0.5, 4.1, 60)
    with pytest.raises((SafetyStopError, EnvironmentFailedError), match="it: "):
        one.driver.output(True)
    assert not one.driver.is_on()
    assert one.instrument.stage.current_A == 0


def test_after_a_power_cycle_it_is_not_switched_on_without_protections(supply):
    driver = supply.driver
    driver.set("CHARGE", 0.5, 4.1, 60)
    supply.instrument.power_cycle()
    with pytest.raises(EnvironmentFailedError, match="it: ") as caught:
        driver.output(True)
    assert "Prepare it again" in str(caught.value) or "refused" in str(caught.value)
    assert supply.instrument.stage.current_A <= 0  # the SMU's power-on state drains; none charges
    driver.prepare(WANTED)
    driver.set("CHARGE", 0.5, 4.1, 60)
    driver.output(True)
    supply.wait(1)
    assert driver.measure()[1] == pytest.approx(0.5, rel=1e-3)


def test_a_protection_that_is_not_taken_is_told(supply, monkeypatch):
    answer = supply.server.answer

    def forget(text):
        return [] if "PROT" in text and "?" not in text else answer(text)

    monkeypatch.setattr(supply.server, "answer", forget)
    with pytest.raises(EnvironmentFailedError, match="voltage_max_V reads back as"):
        supply.driver.prepare(Protections(2.4, 12.0, 3.0, 3.0, 30.0))


@pytest.mark.parametrize("bad", [float("nan"), 0.0, -1.0, float("inf")])
def test_a_protection_that_is_no_figure_is_never_sent(supply, bad):
    supply.server.seen.clear()
    with pytest.raises(OutOfRangeError, match="voltage_max_V"):
        supply.driver.prepare(Protections(2.4, bad, 1.0, 1.0, 30.0))
    assert supply.server.seen == []


def test_an_output_that_cannot_be_confirmed_off_is_a_safety_stop(supply, monkeypatch):
    driver = supply.driver
    driver.set("CHARGE", 0.5, 4.1, 60)
    driver.output(True)
    monkeypatch.setattr(supply.instrument.stage, "release", lambda: None)  # the relay is stuck
    answer = supply.server.answer

    def stuck(text):
        return ["1" if supply.model != "ea_psb10000" else "ON"] if text == "OUTP?" else answer(text)

    monkeypatch.setattr(supply.server, "answer", stuck)
    with pytest.raises(SafetyStopError, match="it: not confirmed safe"):
        driver.make_safe()


# -- EA


def test_ea_holds_all_protections_and_arms_its_watchdog(instrument):
    one = instrument("ea_psb10000")
    one.connect()
    assert one.driver.prepare(WANTED) == WANTED
    assert one.instrument.saved["MON:ACT"] == "ON" and one.instrument.saved_s["MON:TIM"] == 30
    assert one.instrument.saved["AFT:REM"] == "OFF"
    with pytest.raises(OutOfRangeError, match="watchdog_s"):
        one.driver.prepare(Protections(2.4, 4.25, 6.0, 6.0, None))


@pytest.mark.parametrize("model", ["ea_psb10000"])
def test_ea_goes_off_by_itself_when_the_host_is_silent(instrument, model):
    one = made(instrument, model)
    one.driver.set("CHARGE", 2.0, 4.1, 3600)
    one.driver.output(True)
    one.wait(29)
    assert one.driver.measure()[1] == pytest.approx(2.0)
    one.wait(31)
    stage = one.instrument.stage
    assert not stage.is_on and stage.current_A == 0
    with pytest.raises(EnvironmentFailedError, match="left remote control"):
        one.driver.measure()
    one.driver.make_safe()


def test_ea_silence_is_counted_to_the_second(instrument):
    one = made(instrument, "ea_psb10000")
    one.driver.set("CHARGE", 2.0, 4.1, 3600)
    one.driver.output(True)
    state = one.world.state_of("A-1").copy()
    one.wait(120)
    charged = one.world.state_of("A-1")[0] - state[0]
    cell = one.world.cells["A-1"]
    assert charged * 3600 * cell.capacity_Ah["negative"] / 2.0 == pytest.approx(30, abs=1)


def test_ea_panel_takes_control_away_and_the_output_is_off(instrument):
    one = made(instrument, "ea_psb10000")
    one.driver.set("CHARGE", 2.0, 4.1, 3600)
    one.driver.output(True)
    one.instrument.press_local()
    with pytest.raises(EnvironmentFailedError, match="left remote control"):
        one.driver.measure()
    one.driver.make_safe()
    with pytest.raises(EnvironmentFailedError, match="refused; it belongs to LOCAL"):
        one.driver.prepare(WANTED)


def test_ea_alarm_is_not_lost_to_the_reading_of_the_error_queue(instrument):
    one = made(instrument, "ea_psb10000", Protections(2.4, 3.8, 6.0, 6.0, 30.0))
    one.driver.set("CHARGE", 5.0, 3.8, 3600)
    one.driver.output(True)
    one.instrument.protections["VOLT"] = 3.75  # crossed before the voltage is held
    one.wait(25)
    assert not one.instrument.stage.is_on
    one.instrument.protections["VOLT"] = 3.8
    one.driver.errors()  # acknowledges it at the instrument
    assert one.instrument.unacknowledged == set()
    with pytest.raises(SafetyStopError, match="device alarm: OVP"):
        one.driver.measure()
    with pytest.raises(SafetyStopError, match="device alarm: OVP"):
        one.driver.output(True)
    assert one.driver.alarms() == ["alarm OVP"]
    assert one.driver.alarms() == []


def test_ea_undervoltage_switches_off(instrument):
    one = made(instrument, "ea_psb10000", Protections(3.3, 4.25, 6.0, 6.0, 3600.0))
    one.driver.set("DISCHARGE", 5.0, 3.3, 3600)
    one.driver.output(True)
    one.instrument.uvd_V = 3.45
    one.wait(1800)
    with pytest.raises(SafetyStopError, match="UVD"):
        one.driver.measure()


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("3.700 V, 2.5 A, 9.3 W", (3.7, 2.5)), ("3700 mV, 2500 mA, 0.009 kW", (3.7, 2.5)),
        ("3.7V, -2.5A, -9W", (3.7, -2.5)), ("3.7, 2.5, 9.3", None), ("3.7 A, 2.5 V, 9 W", None),
        ("3.7 V, 2.5 A", None), ("3.7 V, 2,5 A, 9 W", None), ("nan V, 2.5 A, 9 W", None),
        ("3.7 V, 2.5 A, 9 W, 1", None), ("9.9E+37 V, 2.5 A, 9 W", None),
        ("900.0 V, 2.5 A, 9 W", None), ("3.7 kV, 2.5 A, 9 W", None), ("", None),
    ],
)  # fmt: skip
def test_ea_units_are_read_and_nothing_else(instrument, reply, right):
    one = made(instrument, "ea_psb10000")
    answer = one.server.answer
    one.server.answer = lambda text: [reply] if text == "MEAS:ARR?" else answer(text)
    if right is None:
        with pytest.raises(EnvironmentFailedError, match=r"MEAS:ARR\?"):
            one.driver.measure()
    else:
        assert one.driver.measure() == pytest.approx(right)


# -- ITECH


def test_itech_ends_by_its_own_timer_when_the_host_is_gone(instrument):
    one = made(instrument, "itech_m3900")
    one.driver.set("DISCHARGE", 2.0, 2.6, 60)
    one.driver.output(True)
    one.wait(58)
    assert one.driver.is_on()
    one.wait(60)
    assert not one.driver.is_on()
    assert one.driver.measure()[1] == 0


def test_itech_discharge_ends_at_its_voltage(instrument):
    one = made(instrument, "itech_m3900")
    one.driver.set("DISCHARGE", 5.0, 3.4, 7200)
    one.driver.output(True)
    for _ in range(200):
        one.wait(10)
        if not one.driver.is_on():
            break
    assert not one.driver.is_on()
    assert one.instrument.elapsed_s < 1990
    assert 3.4 < one.driver.measure()[0] < 3.6  # relaxed


def test_itech_says_when_its_battery_mode_was_left(instrument):
    one = made(instrument, "itech_m3900")
    one.driver.set("CHARGE", 2.0, 4.1, 60)
    one.driver.output(True)
    one.instrument.power_cycle()
    for ask in (one.driver.is_on, one.driver.measure):
        with pytest.raises(EnvironmentFailedError, match="left its battery mode"):
            ask()


# -- Keithley


def test_keithley_refuses_another_command_set(instrument):
    one = instrument("keithley_2460")
    one.instrument.language = "TSP"
    with pytest.raises(EnvironmentFailedError, match="command set is 'TSP'"):
        one.driver.identity()


def test_keithley_does_not_drain_a_cell_when_off(instrument):
    one = instrument("keithley_2460")
    one.connect()
    before = one.world.state_of("A-1")[0]
    one.wait(60)
    assert one.world.state_of("A-1")[0] < before  # the normal off state does
    one.driver.prepare(WANTED)
    after = one.world.state_of("A-1")[0]
    one.wait(600)
    assert one.world.state_of("A-1")[0] == pytest.approx(after, abs=1e-12)


def test_keithley_tells_constant_current_from_constant_voltage(instrument):
    one = made(instrument, "keithley_2460")
    volts = one.instrument.stage.voltage_V + 0.15
    one.driver.set("CHARGE", 2.0, volts, 3600)
    one.driver.output(True)
    assert one.driver.is_limited()
    one.wait(3600)
    assert not one.driver.is_limited()


def test_keithley_over_range_is_no_reading(instrument, monkeypatch):
    one = made(instrument, "keithley_2460")
    one.driver.set("CHARGE", 2.0, 4.1, 3600)
    one.driver.output(True)
    one.instrument.sense_range["CURR"] = 1e-3
    with pytest.raises(EnvironmentFailedError, match="over range"):
        one.driver.measure()


def test_keithley_refuses_a_voltage_on_the_wrong_side_of_the_cells(instrument):
    one = made(instrument, "keithley_2460")
    one.driver.set("DISCHARGE", 1.0, 4.2, 60)
    with pytest.raises(SafetyStopError, match="not possible from"):
        one.driver.output(True)
    assert not one.instrument.output


def test_keithley_stops_where_current_flows_the_other_way(instrument):
    one = made(instrument, "keithley_2460")
    one.driver.set("CHARGE", 2.0, 4.1, 60)
    one.driver.output(True)
    one.instrument.values["VOLT"] = 3.0
    one.instrument._drive()
    with pytest.raises(SafetyStopError, match="flow in a step to charge"):
        one.driver.measure()
    assert not one.instrument.output


def test_keithley_says_when_the_limit_is_tripped_at_rest(instrument):
    one = instrument("keithley_2460")  # open leads: the source goes to its limit
    one.driver.prepare(WANTED)
    one.driver.set("REST", 0.0, 0.0, 60)
    one.driver.output(True)
    with pytest.raises(EnvironmentFailedError, match="voltage limit of 5 V is reached at rest"):
        one.driver.measure()


def test_keithley_reading_with_the_output_off_is_explained(instrument):
    one = made(instrument, "keithley_2460")
    one.driver.set("CHARGE", 2.0, 4.1, 60)
    one.driver.output(True)
    one.instrument.press_local()
    with pytest.raises(EnvironmentFailedError, match="Not permitted with output off"):
        one.driver.measure()
