"""Meter, scanner and chamber drivers against their simulated instruments, over TCP."""

from dataclasses import replace

import pytest

from batterylab.drivers.link import LinkSpec
from batterylab.drivers.roles import ChamberReading
from batterylab.errors import EnvironmentFailedError, OutOfRangeError
from batterylab.simulated.cell import ZERO_degC
from batterylab.simulated.world import ROOM_degC


def hurry(driver):
    """Make the link's time limit short."""
    spec = driver.link.spec
    driver.link.spec = LinkSpec(
        spec.write_termination, spec.read_termination, 0.2, spec.minimum_gap_s, spec.encoding
    )
    driver.link.spec = replace(driver.link.spec, timeout_s=0.2)


# -- meter


def test_the_meter_reads_resistance_and_voltage_of_the_probed_cell(bench):
    meter = bench["meter"]
    meter.prepare()
    bench.world.probe("A-1")
    reading = meter.read()
    cell = bench.world.cells["A-1"]
    assert reading.is_valid
    assert reading.resistance_ohm == pytest.approx(cell.ac_resistance_ohm(), abs=1e-6)
    expected_V = cell.open_circuit_voltage_V(bench.world.state_of("A-1"))
    assert reading.voltage_V == pytest.approx(expected_V, abs=1e-5)


def test_a_reversed_cell_reads_a_negative_voltage(bench):
    bench.world.insert("B-1", "2-3", is_reversed=True)
    bench.world.probe("B-1")
    bench["meter"].prepare()
    reading = bench["meter"].read()
    assert reading.is_valid and reading.voltage_V < -3


def test_open_pins_and_over_range_are_no_figures(bench, monkeypatch):
    meter = bench["meter"]
    meter.prepare()
    assert not meter.read().is_valid
    monkeypatch.setattr(bench.world, "meter_reading", lambda *_: (5000.0, 3.7))
    reading = meter.read()
    assert not reading.is_valid and reading.resistance_ohm == 1e9
    monkeypatch.setattr(bench.world, "meter_reading", lambda *_: (0.013, -150.0))
    reading = meter.read()
    assert not reading.is_valid and reading.voltage_V == -1e9


def test_the_local_key_does_not_stop_the_measurement(bench):
    meter = bench["meter"]
    meter.prepare()
    bench.world.probe("A-1")
    before = bench.clock.now()
    bench.tester.press_local()
    assert meter.read().is_valid
    assert bench.clock.now() - before > 0.0999  # 100 ms after a change of conditions


def test_a_rejected_reading_says_so(bench):
    meter = bench["meter"]
    meter.prepare()
    hurry(meter)
    answer = bench.tester.answer

    def pressed(text):
        if text == ":READ?":
            bench.tester.press_local()
        return answer(text)

    bench.servers["meter"].answer = pressed
    with pytest.raises(EnvironmentFailedError, match=r"meter.*:READ\?.*rejected it \(ESR 16\)"):
        meter.read()


def test_a_rejected_setting_is_an_error(bench):
    del bench.tester.commands[":SAMP:RATE"[1:]]
    with pytest.raises(EnvironmentFailedError, match="meter: the settings were rejected"):
        bench["meter"].prepare()


@pytest.mark.parametrize("garbage", ["", "banana", " 1.0E-3", "1,2", " 15.123E-3,nan", "1_0,2"])
def test_a_meter_reply_that_means_nothing_is_an_error(bench, garbage):
    meter = bench["meter"]
    meter.prepare()
    bench.servers["meter"].answer = lambda text: ["OFF" if text == ":INIT:CONT?" else garbage]
    with pytest.raises(EnvironmentFailedError, match=r"meter.*:READ\?"):
        meter.read()


# -- scanner


def test_the_scanner_reads_each_channel_and_says_none_where_it_is_open(bench):
    scanner = bench["temps"]
    scanner.prepare([203, 101, 102, 110])
    bench.clock.sleep_until(bench.clock.now() + 1)
    bench.world.bank.state[0, 2] = ROOM_degC + 10 + ZERO_degC
    found = scanner.read()
    assert list(found) == [101, 102, 110, 203]
    assert found[110] is None
    assert found[101] == pytest.approx(ROOM_degC + 10, abs=1e-4)
    assert found[203] == pytest.approx(ROOM_degC, abs=1e-4)


def test_formats_left_by_another_program_do_not_matter(bench):
    bench.scanner.answer("FORM:READ:UNIT ON;TIME ON;ALAR ON")
    bench["temps"].prepare([101])
    assert bench["temps"].read() == {101: pytest.approx(ROOM_degC, abs=1e-4)}


def test_a_channel_that_the_scanner_lacks_is_refused(bench):
    with pytest.raises(EnvironmentFailedError, match=r"temps.*-222"):
        bench["temps"].prepare([121])


def test_readings_of_other_channels_are_an_error(bench):
    bench["temps"].prepare([101, 102])
    bench.scanner.answer("ROUT:SCAN (@101,103)")
    with pytest.raises(EnvironmentFailedError, match="temps"):
        bench["temps"].read()


# -- chamber


def test_the_chamber_is_set_started_read_and_stopped(bench):
    chamber = bench["chamber"]
    chamber.set_temperature(30.0)
    assert chamber.read() == ChamberReading(30.0, pytest.approx(ROOM_degC), False, False)
    chamber.start()
    bench.clock.sleep_until(bench.clock.now() + 3600)
    reading = chamber.read()
    assert reading.is_running and reading.actual_degC == pytest.approx(30.0, abs=0.01)
    chamber.stop()
    assert not chamber.read().is_running
    assert not bench.world.air.is_running


def test_the_set_point_is_polled_until_the_register_follows(bench):
    chamber, asked = bench["chamber"], []
    answer = bench.simserv.answer

    def listen(text):
        asked.append(text[:5])
        return answer(text)

    bench.servers["chamber"].answer = listen
    before = bench.clock.now()
    chamber.set_temperature(40.0)
    assert asked.count("11001") == 1 and asked.count("11002") > 1
    assert bench.clock.now() > before


def test_a_register_that_never_follows_is_an_error(bench):
    bench.world.air.__class__ = type("Stuck", (type(bench.world.air),), {
        "__setattr__": lambda self, name, value: None})  # fmt: skip
    with pytest.raises(EnvironmentFailedError, match=r"chamber.*40"):
        bench["chamber"].set_temperature(40.0)


@pytest.mark.parametrize("degC", [-41.0, 181.0, float("nan")])
def test_a_temperature_that_the_chamber_lacks_is_never_sent(bench, degC):
    bench["chamber"].identity()
    with pytest.raises(OutOfRangeError, match="chamber"):
        bench["chamber"].set_temperature(degC)
    assert bench.world.air.set_degC == 25.0


def test_alarms_have_their_text(bench):
    chamber = bench["chamber"]
    assert chamber.alarms() == []
    bench.simserv.messages += [("1", "Door open"), ("4", "Service due"), ("2", "Water low")]
    assert chamber.alarms() == ["Door open", "Water low"]
    assert chamber.read().has_alarm


@pytest.mark.parametrize("reply", ["", "1", "-5", "-8", "1\xb6banana", "1\xb62", "read failed"])
def test_a_chamber_reply_that_means_nothing_is_an_error(bench, reply):
    chamber = bench["chamber"]
    bench.servers["chamber"].answer = lambda text: [reply]
    with pytest.raises(EnvironmentFailedError, match="chamber"):
        chamber.read()
