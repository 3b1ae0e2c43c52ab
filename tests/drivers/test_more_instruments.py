"""BT4560, 34970A and ESPEC drivers against their simulated instruments, over TCP."""

import math
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.drivers import catalogue
from batterylab.drivers.link import Link
from batterylab.drivers.roles import ChamberReading
from batterylab.errors import EnvironmentFailedError, OutOfRangeError, SafetyStopError
from batterylab.simulated.world import ROOM_degC

# -- BT4560


@pytest.fixture
def meter(instrument):
    one = instrument("hioki_bt4560")
    one.world.probe("A-1")
    return one


def test_the_bt4560_reads_at_1_kHz(meter):
    meter.driver.prepare()
    reading = meter.driver.read()
    cell = meter.world.cells["A-1"]
    assert reading.is_valid
    assert reading.resistance_ohm == pytest.approx(cell.ac_resistance_ohm(), abs=1e-6)
    expected_V = cell.open_circuit_voltage_V(meter.world.state_of("A-1"))
    assert reading.voltage_V == pytest.approx(expected_V, abs=1e-4)


def test_the_bt4560_sees_the_reaction_at_low_frequencies(meter):
    meter.driver.tune(0.1)
    real_ohm, imaginary_ohm, _ = meter.driver.impedance()
    assert real_ohm > meter.world.cells["A-1"].ac_resistance_ohm() + 5e-3
    assert imaginary_ohm < 0


def test_the_time_limit_follows_the_frequency(meter, monkeypatch):
    limits = []
    query = meter.driver.link.query

    def listen(command, timeout_s=None):
        limits.append((command, timeout_s))
        return query(command, timeout_s)

    monkeypatch.setattr(meter.driver.link, "query", listen)
    meter.driver.tune(0.1)
    meter.driver.read()
    assert dict(limits)[":READ?"] == pytest.approx(meter.timeout_s + 80.0)
    meter.driver.tune(1000.0)
    meter.driver.read()
    assert dict(limits)[":READ?"] == pytest.approx(meter.timeout_s + 0.008)


@pytest.mark.parametrize("hertz", [0.0, 0.009, 1051.0, float("nan")])
def test_a_frequency_that_the_meter_lacks_is_never_sent(meter, hertz):
    meter.server.seen.clear()
    with pytest.raises(OutOfRangeError, match="frequency_Hz"):
        meter.driver.tune(hertz)
    assert meter.server.seen == []


def test_the_local_key_and_a_power_cut_do_not_change_the_reading(meter):
    meter.driver.prepare()
    right = meter.driver.read()
    for happen in (meter.instrument.press_local, meter.instrument.power_cycle):
        happen()
        assert meter.driver.read() == right
    assert meter.instrument.frequency_Hz == 1000.0


def test_open_pins_and_over_range_are_no_readings(meter, monkeypatch):
    meter.driver.prepare()
    meter.world.probe(None)
    assert not meter.driver.read().is_valid
    monkeypatch.setattr(meter.world, "meter_reading", lambda *_: (0.5, 3.7))
    reading = meter.driver.read()
    assert not reading.is_valid and reading.resistance_ohm == 1e9


def test_a_setting_that_the_meter_lost_or_rejected_is_told(meter, monkeypatch):
    answer = meter.server.answer
    monkeypatch.setattr(
        meter.server, "answer", lambda text: [] if text.startswith(":FREQ 10") else answer(text)
    )
    meter.instrument.frequency_Hz = 1.0
    with pytest.raises(EnvironmentFailedError, match=r":FREQ\?.*1 instead of 1000"):
        meter.driver.prepare()
    monkeypatch.undo()
    del meter.instrument.commands["LIM"]
    with pytest.raises(EnvironmentFailedError, match=r"settings were rejected \(ESR 32\)"):
        meter.driver.prepare()


@pytest.mark.parametrize(
    "garbage", ["", "banana", "0.0065,3.7", "1,2,3,4", "nan,1,2", "1_0,2,3", "0.0065;0.002;3.7"]
)
def test_a_reply_that_means_nothing_is_told(meter, garbage):
    meter.driver.prepare()
    answer = meter.server.answer
    meter.server.answer = lambda text: [garbage] if text == ":READ?" else answer(text)
    with pytest.raises(EnvironmentFailedError, match=r":READ\?"):
        meter.driver.read()


def test_both_number_formats_seen_are_read(meter):
    meter.driver.prepare()
    answer = meter.server.answer
    for reply in ("0.0065671,0.00282787,7.37814", "+6.56710E-03, +2.82787E-03, +7.37814E+00"):
        meter.server.answer = lambda text, r=reply: [r] if text == ":READ?" else answer(text)
        assert meter.driver.impedance() == pytest.approx((0.0065671, 0.00282787, 7.37814))


# -- 34970A


@pytest.fixture
def scanner(instrument):
    one = instrument("keysight_34970a")
    one.wait(1)
    one.driver.prepare([101, 102])
    return one


def test_the_34970a_reads_temperatures(scanner):
    assert scanner.driver.read() == pytest.approx({101: ROOM_degC, 102: ROOM_degC}, abs=1e-3)
    scanner.driver.prepare([101, 110])
    assert scanner.driver.read()[110] is None


def test_volts_are_never_taken_for_degrees(scanner):
    scanner.instrument.thermocouples.clear()  # as if the configuration had been lost
    with pytest.raises(EnvironmentFailedError, match=r"READ\?.*VDC"):
        scanner.driver.read()


def test_the_alarm_line_trips_without_the_host_and_stays(scanner):
    scanner.driver.interlock(45.0, 2)
    scanner.driver.read()
    assert scanner.instrument.tripped == set()
    scanner.world.bank.ambient_K[1] = 50 + 273.15
    scanner.driver.read()
    assert scanner.instrument.tripped == {2}  # the other lines are not
    scanner.world.bank.ambient_K[1] = 296.15
    scanner.driver.read()
    assert scanner.instrument.tripped == {2}


@pytest.mark.parametrize(("degC", "line"), [(45.0, 0), (45.0, 5), (1400.0, 1), (float("nan"), 1)])
def test_an_interlock_that_is_not_possible_is_never_sent(scanner, degC, line):
    scanner.server.seen.clear()
    with pytest.raises(OutOfRangeError, match="alarm line"):
        scanner.driver.interlock(degC, line)
    assert scanner.server.seen == []


def test_an_interlock_that_is_lost_is_told(scanner, monkeypatch):
    answer = scanner.server.answer
    monkeypatch.setattr(
        scanner.server, "answer", lambda text: [] if "STAT ON" in text else answer(text)
    )
    with pytest.raises(EnvironmentFailedError, match="CALC:LIM"):
        scanner.driver.interlock(45.0)


# -- ESPEC


@pytest.fixture
def chamber(instrument):
    return instrument("espec_p300")


def test_the_p300_follows_and_is_read_back(chamber):
    driver = chamber.driver
    driver.set_temperature(40.0)
    assert chamber.world.air.set_degC == 40.0
    driver.start()
    assert chamber.world.air.is_running
    chamber.wait(3600)
    assert driver.read() == ChamberReading(40.0, pytest.approx(40.0, abs=0.1), True, False)
    driver.stop()
    assert not chamber.world.air.is_running and not driver.read().is_running


def test_the_readback_lags_and_is_waited_for(chamber):
    before = chamber.clock.now()
    chamber.driver.set_temperature(30.0)
    assert chamber.clock.now() - before >= 1.0


def test_the_p300s_limits_are_its_own(chamber):
    chamber.driver.set_limits(-10.0, 60.0)
    assert (chamber.instrument.low_degC, chamber.instrument.high_degC) == (-10.0, 60.0)
    for degC in (-10.1, 60.1, float("nan")):
        with pytest.raises(OutOfRangeError):
            chamber.driver.set_temperature(degC)
    with pytest.raises(OutOfRangeError):
        chamber.driver.set_limits(60.0, -10.0)


def test_a_refusal_is_the_reply_itself(chamber):
    chamber.instrument.is_protected = True
    with pytest.raises(EnvironmentFailedError, match=r"refused: PROTECT ON") as caught:
        chamber.driver.set_temperature(30.0)
    assert "key protection" in str(caught.value)


def test_the_p300_tells_alarm_codes(chamber):
    assert chamber.driver.alarms() == []
    chamber.instrument.codes += [3, 17]
    assert chamber.driver.alarms() == ["alarm 3", "alarm 17"]
    assert chamber.driver.read().has_alarm


@pytest.mark.parametrize(
    "reply", ["", "OK", "NA:CONT NOT READY-2", "23.0,,HOVER,0", "23.0,,STANDBY", "1,2,3,banana",
              "2300.0,25.0,100,-20", "nan,25.0,100,-20"]
)  # fmt: skip
def test_a_chambers_reply_that_means_nothing_is_told(chamber, reply):
    chamber.server.answer = lambda text: [reply]
    with pytest.raises(EnvironmentFailedError, match="it"):
        chamber.driver.read()


# -- any reply at all


class Parrot(Link):
    """A link whose instrument answers everything with one text."""

    def __init__(self, spec, text):
        self.name, self.address, self.spec, self.text = "it", "nowhere", spec, text
        self.clock = SimpleNamespace(sleep=lambda seconds: None, now=lambda: 0.0)

    def write(self, command):
        """Take anything."""

    def query(self, command, timeout_s=None):
        return self.text


FIGURE = st.sampled_from(
    ["3.7", "+9.9E+37", "9.91E37", "-1e10", "nan", "inf", "1_0", "٣", "0x1", "", "ON", "REMOTE",
     "3.7 V", "2 A", "7 W", "1 kV", "101", "+2.3E+01 C", "CONSTANT", "STANDBY", "0,\"No error\"",
     "REMOTE", "HIMP", "2048", "3072", "OK"]
)  # fmt: skip
REPLY = st.text(max_size=30) | st.lists(FIGURE, max_size=5).map(",".join)
READINGS = {
    "ea_psb10000": lambda driver: driver.measure(),
    "itech_m3900": lambda driver: driver.measure(),
    "keithley_2460": lambda driver: driver.measure(),
    "hioki_bt4560": lambda driver: [v for v in driver.impedance() if abs(v) < 1e8],
    "espec_p300": lambda driver: [driver.read().set_degC, driver.read().actual_degC],
    "keysight_34970a": lambda driver: [v for v in driver.read().values() if v is not None],
}


@given(st.sampled_from(sorted(READINGS)), REPLY)
@settings(max_examples=400, deadline=None)
def test_no_reply_becomes_a_wrong_number_or_a_crash(model, reply):
    spec = catalogue.spec(model)
    driver = catalogue.driver_class(spec)(Parrot(spec.link, reply), spec)
    driver.channels, driver.mode = [101], "CHARGE"
    try:
        figures = READINGS[model](driver)
    except (EnvironmentFailedError, SafetyStopError):
        return
    assert all(math.isfinite(value) and abs(value) < 1e8 for value in figures)
    assert all(ord(character) < 128 for character in reply)
