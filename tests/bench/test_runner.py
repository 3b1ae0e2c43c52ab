"""Runs on a simulated bench over TCP: what is recorded, and what stops a channel."""

import numpy as np
import pytest
from small_bench import assert_one_stopped, cycler_now, load_cells, sealed, states_of

from batterylab.archive import find
from batterylab.bench.session import journals, run_study
from batterylab.errors import EnvironmentFailedError

HEAD = """\
schema: batterylab.protocol/1
name: {name}
chamber: {{temperature: 25 degC, within: 2 degC, soak: 1 min}}
"""
CHARGING = HEAD.format(name="charging") + """\
steps:
  - rest: {for: 30 s}
  - charge: {rate: 1C, until: 4.0 V, at_most: 1 h}
  - rest: {for: 30 s}
record: {every: 30 s, or_when: {voltage_moves: 20 mV}}
"""
RESTING = HEAD.format(name="resting") + """\
stop:
  - {when: temperature, above: 40 degC}
steps:
  - rest: {for: 10 min}
record: {every: 60 s}
"""
LIMITED = HEAD.format(name="limited") + """\
stop:
  - {when: voltage, above: 3.95 V}
steps:
  - rest: {for: 30 s}
  - charge: {rate: 0.5C, for: 4 min}
  - rest: {for: 30 s}
record: {every: 30 s}
"""
FULLY = HEAD.format(name="fully") + """\
steps:
  - charge: {rate: 1C, until: v_max, hold_until: C/5, at_most: 3 h}
  - discharge: {rate: 1C, until: v_min, at_most: 2 h}
    measure: capacity
  - charge: {rate: 1C, until: v_max, hold_until: C/5, at_most: 3 h}
  - repeat: {times: 2}
    steps:
      - discharge: {rate: 1C, for: 60 s}
  - discharge: {rate: 1C, to_soc: 50 %, at_most: 2 h}
  - rest: {for: 1 min}
  - discharge: {rate: 1C, to_soc: 80 %, at_most: 2 h}
record: {every: 60 s, or_when: {voltage_moves: 20 mV}}
"""


def lithium_Ah(bench, serial):
    """Return the charge that sits in the simulated cell's negative electrode."""
    cell = bench.world.cells[serial]
    return float(bench.world.state_of(serial)[0] * cell.capacity_Ah["negative"])


def test_a_complete_run_is_sealed_and_agrees_with_the_cells(bench_of):
    bench = bench_of(cells=4)
    study = bench.study
    before = {serial: lithium_Ah(bench, serial) for serial in study.cells}
    seen = []
    done = run_study(study, "ann", report=seen.append)
    assert [why for _, why in done] == [""] * 4
    assert journals(study) == []
    found = sealed(study)
    assert set(found) == set(study.cells)
    channels = {serial: channel for channel, serial in study.log.occupied().items()}
    for serial, recording in found.items():
        kinds = [step.kind for step in recording.steps]
        assert kinds == ["rest", "pulse", "rest", "charge", "rest"]
        lengths = [step.duration_s for step in recording.steps]
        assert [*lengths[:3], lengths[4]] == [60.0, 10.0, 40.0, 60.0]
        assert [step.ended_by for step in recording.steps] == [
            "duration", "duration", "duration", "voltage", "duration",
        ]  # fmt: skip
        columns = recording.columns
        pulse = recording.steps[1].rows
        np.testing.assert_allclose(columns["current_A"][pulse], -5.0, atol=0.01)
        assert len(columns["current_A"][pulse]) == 10  # sampled every second
        charge = recording.steps[3]
        assert columns["voltage_V"][charge.last_row] == pytest.approx(3.9, abs=0.003)
        moved_Ah = lithium_Ah(bench, serial) - before[serial]
        assert columns["net_capacity_Ah"][-1] == pytest.approx(moved_Ah, rel=2e-3)
        assert 0.9 < moved_Ah < 1.2
        provenance = recording.provenance
        assert (provenance["operator"], provenance["part"]) == ("ann", "main")
        assert provenance["channel"] == channels[serial]
        assert provenance["ended"] == "complete"
        assert provenance["loading"]["ac_resistance_mOhm"] > 10
        assert np.all(np.abs(columns["temperature_degC"] - 25) < 6)
        assert np.all(np.abs(columns["ambient_temperature_degC"] - 25) < 2)
    assert {state["state"] for state in states_of(study).values()} == {"valid"}
    assert all(state == "OK" and abs(amps) < 2e-3 for state, amps in cycler_now(study).values())
    assert {data["phase"] for data in seen} >= {"soaking", "running", "sealing"}
    assert seen[-2]["ended"] == 4


def test_the_charge_of_every_second_is_counted_however_rarely_it_is_written(bench_of):
    """The counter at the end of a step is that of a run that writes every sample."""
    ends = []
    usual = "every: 30 s, or_when: {voltage_moves: 5 mV}"
    for name, rule in (("rare", usual), ("all", "every: 1 s")):
        bench = bench_of(name=name, change=[("protocols/short.yaml", usual, rule)])
        run_study(bench.study, "ann")
        recording = sealed(bench.study)["A1-001"]
        rows = [step.last_row for step in recording.steps]
        ends.append((recording.columns["net_capacity_Ah"][rows],
                     recording.columns["test_time_s"][rows], len(recording)))  # fmt: skip
    np.testing.assert_allclose(ends[0][0], ends[1][0], atol=1e-9)
    np.testing.assert_array_equal(ends[0][1], ends[1][1])
    assert ends[0][2] < ends[1][2] / 5
    assert ends[1][2] == ends[1][1][-1]  # one row for each second of the test


def test_the_same_seed_gives_the_same_seals_and_another_others(bench_of):
    seals = []
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        bench = bench_of(name=name, seed=seed)
        run_study(bench.study, "ann")
        seals.append({entry.serial: entry.seal for entry in find(bench.study.archive)})
    assert seals[0] == seals[1]
    assert not set(seals[0].values()) & set(seals[2].values())


def test_polls_of_any_length_give_the_same_steps(bench_of):
    found = []
    for name, poll_s in (("one", 7.0), ("two", 30.0), ("three", 300.0)):
        bench = bench_of(name=name, poll_s=poll_s)
        run_study(bench.study, "ann")
        recording = sealed(bench.study)["A1-001"]
        found.append([(step.start_s, step.duration_s) for step in recording.steps])
    assert found[0] == found[1] == found[2]


def test_states_of_charge_are_counted_with_the_measured_capacity(bench_of):
    bench = bench_of(FULLY, cells=2, poll_s=120)
    run_study(bench.study, "ann")
    for recording in sealed(bench.study).values():
        steps = recording.steps
        net_Ah = recording.columns["net_capacity_Ah"]
        ends_Ah = net_Ah[[step.last_row for step in steps]]
        assert [step.kind for step in steps] == [
            "charge", "discharge", "charge", "pulse", "pulse", "discharge", "rest",
        ]  # fmt: skip
        capacity_Ah = ends_Ah[0] - ends_Ah[1]
        assert 4.5 < capacity_Ah < 5.2
        # nothing settled it, so the nominal capacity is what the protocol counts with
        assert ends_Ah[2] - ends_Ah[5] == pytest.approx(2.5, abs=5.0 / 3600)
        assert steps[5].ended_by == "capacity"
        assert [step.cycle_index for step in steps] == [0, 0, 0, 0, 1, 2, 2]
        (remark,) = recording.provenance["remarks"]
        assert "passed already; skipped" in remark
    states = states_of(bench.study).values()
    assert {state["state"] for state in states} == {"valid with remark"}


# -- limits ----------------------------------------------------------------------------------
def test_a_voltage_limit_is_watched_on_board(bench_of):
    """One cell is fuller than the others; the protocol's limit stops it alone."""
    bench = bench_of(LIMITED, is_loaded=False, cells=4, change=[
        ("cells.csv", "A1-003,Alpha,A1,3.582,13.4,", "A1-003,Alpha,A1,,,")
    ])  # fmt: skip
    world = bench.world
    world.shelf_state["A1-003"] = world.cells["A1-003"].rest_state(0.6, 23.0)
    load_cells(bench.study)
    done = run_study(bench.study, "ann")
    assert_one_stopped(bench, done, "A1-003", "VOLT_GE 3.95 in step 2: measured 3.9")
    columns = sealed(bench.study)["A1-003"].columns
    assert columns["current_A"][-1] == pytest.approx(2.5, abs=0.01)
    assert columns["voltage_V"].max() < 3.96


def test_a_voltage_out_of_limits_at_rest_is_seen_by_the_runner(bench_of):
    """On board nothing is tested in a rest: the runner watches, after its debounce."""
    bench = bench_of(RESTING, cells=4, poll_s=10)
    place = bench.place(next(c for c, s in bench.study.log.occupied().items() if s == "A1-002"))

    def sink():
        full = bench.world.cells["A1-002"].rest_state(0.0, 25.0)
        full[0] -= 0.02
        bench.world.bank.state[place] = full

    bench.when(250, sink)
    done = run_study(bench.study, "ann")
    assert_one_stopped(bench, done, "A1-002", "outside 2.45 to 4.25 V")
    assert len(sealed(bench.study)["A1-002"]) < len(sealed(bench.study)["A1-001"])


def test_a_hot_cell_is_stopped_after_the_debounce(bench_of):
    bench = bench_of(RESTING, cells=4, poll_s=10)
    place = bench.place(next(c for c, s in bench.study.log.occupied().items() if s == "A1-004"))
    began = []

    def heat():
        began.append(bench.world.now_s)
        bench.world.bank.state[place, 2] += 60.0

    bench.when(250, heat)
    done = run_study(bench.study, "ann")
    assert_one_stopped(bench, done, "A1-004", "outside -10 to 40 °C")
    columns = sealed(bench.study)["A1-004"].columns
    # the debounce is three looks at the thermocouple, so three polls
    assert 20 <= columns["unix_time_s"][-1] - began[0] <= 40


def test_one_hot_reading_is_not_enough(bench_of):
    bench = bench_of(RESTING, poll_s=10)
    place = bench.place("1-1")
    state = bench.world.bank.state

    bench.when(250, lambda: state.__setitem__((place, 2), state[place, 2] + 60.0))
    bench.when(265, lambda: state.__setitem__((place, 2), 298.15))
    assert [why for _, why in run_study(bench.study, "ann")] == ["", ""]


def test_an_open_thermocouple_stops_its_channel(bench_of, monkeypatch):
    bench = bench_of(RESTING, cells=4, poll_s=10)
    channel, serial = list(bench.study.log.occupied().items())[1]
    open_place = bench.world.by_name[channel].scanner_channel
    true = bench.world.thermocouple_degC

    def broken(place):
        is_open = place == open_place and bench.world.now_s - bench.world.start_s > 300
        return None if is_open else true(place)

    monkeypatch.setattr(bench.world, "thermocouple_degC", broken)
    done = run_study(bench.study, "ann")
    assert_one_stopped(bench, done, serial, "the thermocouple is open")


def test_a_step_that_takes_too_long_is_a_failure(bench_of):
    bench = bench_of(CHARGING.replace("at_most: 1 h", "at_most: 3 min"), cells=2)
    done = run_study(bench.study, "ann")
    assert all("CURR_GE 0 in step 2" in why for _, why in done)
    assert {state["state"] for state in states_of(bench.study).values()} == {"invalid"}


def test_air_out_of_tolerance_is_a_remark(bench_of):
    bench = bench_of(RESTING, poll_s=10)
    bench.when(300, lambda: setattr(bench.world.air, "actual_degC", 28.0))
    assert [why for _, why in run_study(bench.study, "ann")] == ["", ""]
    for recording in sealed(bench.study).values():
        assert recording.provenance["remarks"] == ["chamber: air out of 2 K"]
    assert {s["state"] for s in states_of(bench.study).values()} == {"valid with remark"}


def test_a_current_beyond_the_bench_s_is_stopped_by_the_runner(bench_of):
    bench = bench_of(CHARGING, poll_s=10, change=[
        ("bench.yaml", "debounce: 3 samples", "debounce: 3 samples, current: 4 A")
    ])  # fmt: skip
    done = run_study(bench.study, "ann")
    assert all(why.startswith("current ") and "outside -4 to 4 A" in why for _, why in done)


def test_a_step_that_moves_too_much_is_stopped_by_the_runner(bench_of):
    bench = bench_of(CHARGING, poll_s=10, change=[
        ("bench.yaml", "debounce: 3 samples", "debounce: 3 samples, capacity: 0.1 Ah")
    ])  # fmt: skip
    done = run_study(bench.study, "ann")
    assert all("more than 0.1 Ah" in why for _, why in done)
    for recording in sealed(bench.study).values():
        assert recording.columns["net_capacity_Ah"].max() < 0.1 + 5 * 12 / 3600


def test_what_keeps_a_channel_safe_stands_in_its_recording(bench_of):
    bench = bench_of(poll_s=30)
    run_study(bench.study, "ann")
    for recording in sealed(bench.study).values():
        layers = recording.provenance["safety"]
        assert {layer["layer"] for layer in layers} == {
            "L1 cycler", "L2 guard", "L3 runner", "L4 chamber",
        }  # fmt: skip
        assert all(layer["action"] for layer in layers)
        voltage = next(x for x in layers if x["layer"] == "L3 runner" and x["what"] == "voltage_V")
        assert (voltage["low"], voltage["high"], voltage["debounce"]) == (2.45, 4.25, 3)


def test_a_chamber_that_somebody_stopped_ends_the_run(bench_of):
    bench = bench_of(RESTING, poll_s=10)
    bench.when(300, lambda: setattr(bench.world.air, "is_running", False))
    with pytest.raises(EnvironmentFailedError, match="the chamber has stopped"):
        run_study(bench.study, "ann")
