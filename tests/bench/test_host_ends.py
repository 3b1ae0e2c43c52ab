"""What the cycler cannot do by itself: the runner watches, branches, soaks and sets."""

import numpy as np
import pytest
from small_bench import assert_one_stopped, assert_safe, sealed, states_of

from batterylab.bench.session import run_study

HEAD = """\
schema: batterylab.protocol/1
name: {name}
chamber: {{temperature: 25 degC, within: 2 degC, soak: 1 min}}
record: {{every: 10 s}}
"""
FULL = "  - charge: {rate: 1C, until: v_max, hold_until: C/5, at_most: 3 h}\n"
ENDS = HEAD.format(name="ends") + "steps:\n" + """\
  - charge: {rate: C/2, until: v_max, at_most: 4 h, ends: [{voltage: above 3.75 V, hold: 5 s}]}
    measure: part
  - rest: {for: 2 h, ends: [{dV/dt: above -2 mV/min, over: 2 min}]}
  - discharge: {rate: C/2, until: v_min, at_most: 4 h, ends: [{energy: above 50 % of part}]}
  - charge: {rate: C/2 of part, for: 60 s}
  - discharge:
      rate: C/2
      at_most: 4 h
      ends:
        - {capacity: above 0.1 Ah, hold: 2 s, then: over_here}
        - {voltage: below 2.6 V, then: finish}
  - rest: {for: 1 h}
  - mark: over_here
  - measure: {what: ocv, as: ocv_now}
  - profile: {points: [[10 s, 0.5C], [20 s, 0 A], [5 s, -1C]], times: 2, sample_every: 1 s}
  - hold: {voltage: 3.8 V, limit: C/10, for: 30 s}
  - if: {measure: part, below: 1 % of rated}
    steps:
      - rest: {for: 1 h}
    else:
      - rest: {for: 20 s, ends: [{temperature: above 20 degC, then: finish}]}
  - rest: {for: 1 h}
"""


def test_ends_branches_and_shares_of_measures(bench_of):
    bench = bench_of(ENDS, cells=2)
    done = run_study(bench.study, "ann")
    assert [why for _, why in done] == ["", ""]
    for recording in sealed(bench.study).values():
        steps = recording.steps
        said = [(s.label, s.kind, s.ended_by) for s in steps]
        assert said == [
            ("steps[0]", "charge", "voltage"), ("steps[1]", "rest", "dV/dt"),
            ("steps[2]", "discharge", "energy"), ("steps[3]", "pulse", "duration"),
            ("steps[4]", "discharge", "capacity"), ("steps[7]", "rest", "duration"),
            ("steps[8]", "other", "duration"), ("steps[9]", "hold", "duration"),
            ("steps[10].else[0]", "rest", "temperature"),
        ]  # fmt: skip
        columns = recording.columns
        first, rest, half, own, _, ocv, profile, held, _ = (s.rows for s in steps)
        volts, net_Ah, net_Wh = (columns[n] for n in ("voltage_V", "net_capacity_Ah",
                                                      "net_energy_Wh"))  # fmt: skip
        assert 3.7495 <= volts[first][-1] < 3.78
        late = columns["test_time_s"][rest]
        assert 120 <= late[-1] - late[0] < 7200
        moved_Ah = net_Ah[first][-1]
        moved_Wh = net_Wh[first][-1]
        assert net_Wh[rest][-1] - net_Wh[half][-1] == pytest.approx(0.5 * moved_Wh, rel=0.01)
        assert np.median(columns["current_A"][own]) == pytest.approx(0.5 * moved_Ah, rel=0.01)
        assert steps[branch_at(steps)].duration_s == pytest.approx(0.1 * 3600 / 2.5, abs=8)
        assert columns["current_A"][ocv] == pytest.approx(0.0, abs=1e-2)
        amps = columns["current_A"][profile]
        assert steps[6].duration_s == 70
        assert np.sum(amps > 1) == pytest.approx(20, abs=2)
        assert np.sum(amps < -1) == pytest.approx(10, abs=2)
        assert np.max(np.abs(columns["current_A"][held])) < 0.51
        marks = recording.provenance["marks"]
        assert [m["name"] for m in marks] == ["over_here"]
        assert marks[0]["time_s"] == pytest.approx(steps[5].start_s, abs=15)
    assert {state["state"] for state in states_of(bench.study).values()} == {"valid"}
    assert_safe(bench.study)


def branch_at(steps):
    return next(k for k, step in enumerate(steps) if step.label == "steps[4]")


MANY = HEAD.format(name="many") + "steps:\n" + FULL + "".join(
    f"  - discharge: {{current: {0.5 + 0.1 * k:.1f} A, until: v_min, at_most: 1 h,"
    f" ends: [{{capacity: above 0.01 Ah, hold: 1 s}}]}}\n" for k in range(12)
)  # fmt: skip


def test_more_sequences_than_the_cycler_has_are_loaded_as_they_come(bench_of):
    bench = bench_of(MANY, cells=3, poll_s=10.0)
    done = run_study(bench.study, "ann")
    assert [why for _, why in done] == [""] * 3
    for recording in sealed(bench.study).values():
        currents = [step.current_A for step in recording.steps[1:]]
        assert currents == pytest.approx([-0.5 - 0.1 * k for k in range(12)])
        for step in recording.steps[1:]:
            amps = np.median(recording.columns["current_A"][step.rows])
            assert amps == pytest.approx(step.current_A, rel=0.01)


SOAK = HEAD.format(name="soaking") + """\
steps:
  - charge: {rate: C/10, for: 15 min, ends: [{temperature: above 45 degC}]}
  - soak: {temperature: 40 degC, within: 1 K, for: 30 min, at_most: 4 h}
  - pulse: {discharge: 1C, for: 10 s}
    measure: dcir
  - soak: {temperature: 25 degC, within: 1 K, for: 10 min}
  - rest: {for: 1 min}
"""


def test_cells_of_a_chamber_change_temperature_together(bench_of):
    bench = bench_of(SOAK, cells=3, poll_s=10.0)
    channel = next(iter(bench.study.log.occupied()))
    bench.when(400, lambda: heat(bench.world, channel))
    done = run_study(bench.study, "ann")
    assert [why for _, why in done] == [""] * 3
    begins, waited = set(), []
    for recording in sealed(bench.study).values():
        steps = recording.steps
        assert [s.kind for s in steps] == ["pulse", "rest", "pulse", "rest", "rest"]
        warm, pulse, cool = (steps[k] for k in (1, 2, 3))
        begins.add((warm.start_s, cool.start_s))
        waited.append(warm.start_s - steps[0].start_s - steps[0].duration_s)
        air = recording.columns["ambient_temperature_degC"]
        assert air[warm.rows][-1] == pytest.approx(40.0, abs=1.0)
        assert 1800 <= warm.duration_s < 4 * 3600
        assert air[pulse.rows] == pytest.approx(40.0, abs=1.0)
        assert air[steps[4].rows] == pytest.approx(25.0, abs=1.0)
        cell_degC = recording.columns["temperature_degC"]
        assert cell_degC[pulse.rows][0] > 35
        assert recording.provenance["remarks"] == []
    assert len(begins) == 1
    assert sorted(waited)[1] < 60 < max(waited)  # the one that ended early waited for the others


GUARDED = HEAD.format(name="guarded") + """\
steps:
  - rest: {for: 30 s}
  - discharge:
      rate: C/10
      for: 1 h
      stop: [{when: temperature, above: 40 degC, hold: 5 s}]
  - rest: {for: 30 s}
"""


def test_a_stop_of_a_step_stops_one_channel(bench_of):
    bench = bench_of(GUARDED, cells=2, poll_s=10.0)
    channel, serial = next(iter(bench.study.log.occupied().items()))
    world = bench.world
    bench.when(400, lambda: heat(world, channel))
    done = run_study(bench.study, "ann")
    assert_one_stopped(bench, done, serial, "steps[1]: temperature")


def heat(world, channel):
    """Heat a cell by 25 K, for good enough."""
    world.bank.state[world.by_name[channel].cycler_index, 2] += 25.0


FINISH = GUARDED.replace("name: guarded", "name: finishing").replace(
    "hold: 5 s}", "hold: 5 s, then: finish}"
)


def test_a_stop_that_finishes_leaves_a_valid_recording_with_a_remark(bench_of):
    bench = bench_of(FINISH, cells=1, poll_s=10.0)
    channel = next(iter(bench.study.log.occupied()))
    bench.when(400, lambda: heat(bench.world, channel))
    ((_, why),) = run_study(bench.study, "ann")
    assert why == ""
    (recording,) = sealed(bench.study).values()
    assert [s.ended_by for s in recording.steps] == ["duration", "temperature"]
    assert "steps[1]: temperature" in recording.provenance["remarks"][0]
    assert {s["state"] for s in states_of(bench.study).values()} == {"valid with remark"}
