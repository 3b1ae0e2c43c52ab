"""The BT2200 driver against the simulated frame, over TCP."""

import re
from dataclasses import replace

import numpy as np
import pytest

from batterylab.drivers.catalogue import spec
from batterylab.drivers.roles import CellState, OnboardStep, OnboardTest
from batterylab.errors import (
    BatterylabError,
    EnvironmentFailedError,
    OutOfRangeError,
    SafetyStopError,
)
from batterylab.simulated import bank as b

HOLD = OnboardTest("CURR_LE", 0.25, "AFTER", 5, "NEXT")
CHARGE = OnboardStep("CHARGE", 18000, 2.5, 4.2, (HOLD,))
DISCHARGE = OnboardStep("DISCHARGE", 600, 5.0, 2.5, ())
REST = OnboardStep("REST", 30, 0.0, 0.0, ())


@pytest.fixture
def frame(bench):
    driver = bench["cycler"]
    driver.prepare([101, 102])
    return driver


def run(bench, driver, channels, seconds, poll_s=60):
    """Let time pass and return the log of the channels."""
    blocks = []
    for _ in range(0, seconds, poll_s):
        bench.clock.sleep_until(bench.clock.now() + poll_s)
        blocks.append(driver.drain_log(channels))
    return {
        name: np.concatenate([getattr(block, name) for block in blocks])
        for name in ("time_ms", "current_A", "voltage_V", "state")
    }


def heard(bench, monkeypatch):
    """Return a list that fills with what the frame is told."""
    lines, answer = [], bench.frame.answer

    def listen(text):
        lines.append(text)
        return answer(text)

    monkeypatch.setattr(bench.servers["cycler"], "answer", listen)
    return lines


def test_a_cc_cv_charge_is_what_the_simulated_cells_do(bench, frame):
    world, channels = bench.world, [101, 102]
    before = {serial: world.state_of(serial).copy() for serial in ("A-1", "A-2")}
    frame.load_sequence(1, [CHARGE, REST])
    frame.clear_log()
    frame.start(channels, 1)
    log = run(bench, frame, channels, 12000)
    assert frame.states(channels) == {101: CellState.OK, 102: CellState.OK}
    assert np.all(np.diff(log["time_ms"]) == 1000)
    for column, serial in enumerate(("A-1", "A-2")):
        running = log["state"][:, column] == CellState.RUNNING
        first = int(np.argmax(running))
        length = int(running.sum()) + 1  # the last second of the rest is logged as OK
        rows = slice(first, first + length)
        amps, volts = log["current_A"][rows, column], log["voltage_V"][rows, column]
        expected, _ = world.cells[serial].follow(before[serial].copy(), amps, 1.0, 23.0)
        assert np.abs(volts - expected).max() < 5e-5
        in_cc = amps[:-30] > 2.4999
        assert in_cc.any() and not in_cc.all()
        assert np.allclose(amps[:-30][in_cc][:-1], 2.5, atol=1e-6)
        assert np.isclose(amps[:-30][in_cc][-1], 2.5, atol=1e-4)  # the limit may come within
        held = ~in_cc
        assert np.allclose(volts[:-30][held], 4.2, atol=1e-5)
        assert np.all(np.diff(amps[:-30][held]) < 1e-6)
        assert 0.24 < amps[-31] <= 0.25
        assert np.all(amps[-30:] == 0)
    assert log["voltage_V"][-1, 0] != log["voltage_V"][-1, 1]


def test_discharge_current_is_negative_everywhere(bench, frame):
    frame.load_sequence(2, [DISCHARGE])
    frame.start([101], 2)
    log = run(bench, frame, [101, 102], 60)
    assert np.allclose(log["current_A"][1:, 0], -5.0)
    assert np.all(log["current_A"][:, 1] == 0)
    volts, amps = frame.measure([101])[101]
    assert amps == pytest.approx(-5.0) and 2.5 < volts < 4.2
    report = frame.verbose(101)
    assert report.current_A == pytest.approx(-5.0) and report.is_running
    assert (report.slot, report.step, report.outcome) == (2, 1, "NONE")
    assert frame.step_times([101, 102]) == {101: (1, 60.0), 102: (0, 0.0)}


def test_a_test_that_fails_stops_the_channel_and_is_told(bench, frame):
    stop = OnboardTest("VOLT_LE", 3.5, "AFTER", 0, "FAIL")
    frame.load_sequence(1, [OnboardStep("DISCHARGE", 7200, 5.0, 2.5, (stop,))])
    frame.start([101, 102], 1)
    run(bench, frame, [101, 102], 1200)
    assert frame.states([101]) == {101: CellState.FAIL}
    report = frame.verbose(101)
    assert (report.outcome, report.test, report.test_kind) == ("FAIL", 1, "VOLT_LE")
    assert report.measured <= report.expected == 3.5
    assert "VOLT_LE 3.5 in step 1" in frame.failure(101)
    assert abs(frame.measure([101])[101][1]) < 0.02


def test_a_sequence_ends_by_itself_when_the_host_is_gone(bench, frame):
    frame.load_sequence(1, [DISCHARGE, REST])
    frame.start([101], 1)
    bench.clock.sleep_until(bench.clock.now() + 3000)
    assert frame.states([101]) == {101: CellState.OK}
    assert frame.measure([101])[101][1] == 0


@pytest.mark.parametrize(
    "step",
    [
        OnboardStep("CHARGE", 60, 6.26, 4.2),
        OnboardStep("CHARGE", 60, 0.009, 4.2),
        OnboardStep("CHARGE", 60, float("nan"), 4.2),
        OnboardStep("CHARGE", 60, 1.0, 4.51),
        OnboardStep("DISCHARGE", 60, 1.0, 1.99),
        OnboardStep("DISCHARGE", 0, 1.0, 3.0),
        OnboardStep("HOVER", 60, 1.0, 3.0),
        OnboardStep("REST", 60, 0.0, 0.0, (HOLD,)),
        OnboardStep("CHARGE", 60, 1.0, 4.2, (OnboardTest("VOLT_EQ", 4.2, "AFTER", 0, "NEXT"),)),
        OnboardStep("CHARGE", 60, 1.0, 4.2, (OnboardTest("VOLT_GE", 4.2, "AFTER", 0, "JUMP"),)),
        OnboardStep("CHARGE", 60, 1.0, 4.2, (HOLD,) * 33),
    ],
)
def test_what_the_frame_cannot_do_is_never_sent(bench, frame, monkeypatch, step):
    lines = heard(bench, monkeypatch)
    with pytest.raises(OutOfRangeError):
        frame.load_sequence(1, [step])
    assert lines == []


def test_slots_and_lengths_are_bounded(frame):
    with pytest.raises(OutOfRangeError):
        frame.load_sequence(9, [REST])
    with pytest.raises(OutOfRangeError):
        frame.load_sequence(1, [REST] * 257)
    with pytest.raises(OutOfRangeError):
        frame.load_sequence(1, [])
    with pytest.raises(OutOfRangeError):
        frame.prepare([101], 10.5)
    for channel in (100, 133, 901, 25):
        with pytest.raises(BatterylabError, match=str(channel)):
            frame.prepare([channel])


def test_256_steps_fit_and_are_read_back(bench, frame, monkeypatch):
    lines = heard(bench, monkeypatch)
    steps = [OnboardStep("CHARGE", n + 1, 5.0 / 3.0, 4.2) for n in range(256)]
    frame.load_sequence(8, steps)
    assert sum(line.startswith("SEQ:STEP:DEF?") for line in lines) == 256


def test_a_step_that_the_frame_holds_differently_is_an_error(bench, frame):
    frame.load_sequence(1, [CHARGE])
    answer = bench.frame.answer

    def corrupt(text):
        replies = answer(text)
        if text.startswith("SEQ:STEP:DEF 3,1"):
            bench.world.bank.steps[2, 0, 2] += 0.01
        return replies

    bench.servers["cycler"].answer = corrupt
    with pytest.raises(EnvironmentFailedError, match=r"SEQ:STEP:DEF\? 3,1"):
        frame.load_sequence(3, [CHARGE])


def test_a_refusal_names_instrument_and_error(frame):
    with pytest.raises(EnvironmentFailedError, match=r"cycler.*-221"):
        frame.start([101], 5)  # an empty sequence
    assert frame.errors() == []


def test_a_running_sequence_is_not_overwritten(frame):
    frame.load_sequence(1, [DISCHARGE])
    frame.start([101], 1)
    with pytest.raises(EnvironmentFailedError, match="-221"):
        frame.load_sequence(1, [CHARGE])
    with pytest.raises(EnvironmentFailedError, match="-221"):
        frame.prepare([101, 102])
    assert frame.states([101]) == {101: CellState.RUNNING}


def test_replies_are_split_by_module(bench, monkeypatch):
    driver = bench["cycler"]
    channels = [100 * module + place for module in (1, 2, 3) for place in range(1, 33)]
    driver.prepare(channels)
    lines = heard(bench, monkeypatch)
    assert len(driver.states(channels)) == 96
    driver.measure(channels)
    driver.step_times(channels)
    driver.probe_failed(channels)
    lists = [line.partition(" ")[2] for line in lines if "(@" in line]
    assert len(lists) == 15
    assert {re.sub(r"\(@(\d).*", r"\1", text) for text in lists} == {"1", "2", "3"}
    assert all(text == f"(@{text[2]}001:{text[2]}032)" for text in lists)


def test_missing_and_reversed_cells_fail_the_probe(bench):
    bench.world.insert("B-1", "2-3", is_reversed=True)
    driver = bench["cycler"]
    driver.prepare([101, 102, 203, 204])
    assert driver.probe_failed([101, 102, 203, 204]) == {203, 204}
    assert driver.measure([203])[203][0] < -3
    driver.load_sequence(1, [CHARGE])
    driver.start([101, 203], 1)
    assert driver.states([101, 203]) == {101: CellState.RUNNING, 203: CellState.FAIL}


def test_a_bad_contact_fails_at_the_limit_that_was_set(bench):
    bench.world.bank.run[0, b.SEAT] = 0.3
    driver = bench["cycler"]
    driver.prepare([101, 102], 1.0)
    assert driver.probe_failed([101, 102]) == set()
    driver.prepare([101, 102], 0.2)
    assert driver.probe_failed([101, 102]) == {101}


def test_a_reset_waits_on_the_bench_clock(bench, frame):
    began = bench.clock.now()
    frame.load_sequence(1, [DISCHARGE])
    frame.start([101], 1)
    frame.prepare([101], reset=True)
    assert bench.clock.now() - began > 5.0
    assert bench.world.now_s >= began + 5.0
    assert frame.states([101]) == {101: CellState.ABORTED}


def test_make_safe_stops_and_confirms(bench, frame):
    frame.load_sequence(1, [DISCHARGE])
    frame.start([101, 102], 1)
    run(bench, frame, [101], 60)
    frame.make_safe([101])
    assert frame.states([101, 102]) == {101: CellState.ABORTED, 102: CellState.RUNNING}
    assert frame.measure([101])[101][1] == 0
    frame.make_safe([101, 102])
    assert frame.states([102]) == {102: CellState.ABORTED}


def test_make_safe_works_where_no_cell_is_defined(bench, frame):
    frame.load_sequence(1, [DISCHARGE])
    frame.start([101], 1)
    bench.frame.defined.clear()
    frame.make_safe([101, 102])
    assert bench.world.bank.run[0, b.STATUS] == b.ABORTED


def test_make_safe_stops_all_where_one_abort_has_no_effect(bench, frame):
    frame.load_sequence(1, [DISCHARGE])
    frame.start([101], 1)
    _, *arity = bench.frame.commands["CELL:ABORT"]
    bench.frame.commands["CELL:ABORT"] = (lambda cells: None, *arity)
    frame.make_safe([101])
    assert bench.world.bank.run[0, b.STATUS] == b.ABORTED


def test_make_safe_that_is_not_confirmed_names_the_channel(bench, frame):
    frame.load_sequence(1, [DISCHARGE])
    frame.start([101, 102], 1)
    run(bench, frame, [101], 60)
    keep = bench.frame.commands["CELL:ABORT"]
    bench.frame.commands["CELL:ABORT"] = (
        lambda cells: keep[0]("(@1002)") if "1002" in cells else None, 1, 1)  # fmt: skip
    bench.frame.commands["SEQ:ABORT"] = (lambda: None, 0, 0)
    with pytest.raises(SafetyStopError, match="channel 101") as caught:
        frame.make_safe([101, 102])
    assert "102" not in caught.value.message
    assert frame.states([102]) == {102: CellState.ABORTED}


def test_make_safe_tries_every_module_when_the_link_fails(bench):
    driver = bench["cycler"]
    driver.prepare([101, 201])
    driver.link.spec = replace(driver.link.spec, timeout_s=0.1)
    answer, lines = bench.frame.answer, []

    def deaf(text):
        lines.append(text)
        return [] if "(@1001" in text else answer(text)

    bench.servers["cycler"].answer = deaf
    driver.link.spec = type(driver.link.spec)(timeout_s=0.1)
    with pytest.raises(SafetyStopError, match="1001"):
        driver.make_safe([101, 201])
    assert "CELL:ABORT (@2001)" in lines
    assert sum(line == "CELL:ABORT (@1001)" for line in lines) == 3


def test_samples_of_another_cell_are_an_error(bench, frame):
    bench.frame.cell_ids[0] = 1002
    bench.clock.sleep_until(bench.clock.now() + 5)
    with pytest.raises(EnvironmentFailedError, match="other cells"):
        frame.drain_log([101])


def test_an_empty_log_is_an_empty_block(bench, frame):
    frame.clear_log()
    block = frame.drain_log([101, 102])
    assert block.current_A.shape == (0, 2) and block.time_ms.shape == (0,)


@pytest.mark.parametrize(
    "call",
    [
        lambda d: d.states([101]),
        lambda d: d.measure([101]),
        lambda d: d.step_times([101]),
        lambda d: d.verbose(101),
        lambda d: d.drain_log([101]),
        lambda d: d.probe_failed([101]),
        lambda d: d.errors(),
        lambda d: d.identity(),
    ],
)
@pytest.mark.parametrize("garbage", ["", "banana", "1,2,3,4,5,6", "nan", "9,9,9", "1_0"])
def test_a_reply_that_means_nothing_is_an_error(bench, frame, call, garbage):
    bench.clock.sleep_until(bench.clock.now() + 3)
    bench.servers["cycler"].answer = lambda text: [garbage]
    with pytest.raises(EnvironmentFailedError, match="cycler"):
        call(frame)


def test_the_ranges_in_the_file_are_the_familys():
    ranges = spec("keysight_bt2200").ranges
    assert ranges["current_A"] == [0.01, 6.25]
    assert ranges["voltage_V"] == [2.0, 4.5]
