"""The simulated bench without instrument errors gives what the simulation gives."""

import numpy as np
import pytest
from small_bench import Threaded, load_cells, small_study

from batterylab.archive import find, read
from batterylab.bench.session import run_study
from batterylab.features import features_of
from batterylab.protocol import load
from batterylab.protocol.simulate import simulate
from batterylab.simulated.world import IDEAL

SAME = """\
schema: batterylab.protocol/1
name: same
chamber: {temperature: 25 degC, within: 2 degC, soak: 1 h}
steps:
  - charge: {rate: 1C, until: v_max, hold_until: C/10, at_most: 3 h}
  - rest: {for: 20 min}
  - discharge: {rate: C/2, until: v_min, at_most: 3 h}
    measure: capacity
  - rest: {for: 20 min}
  - charge: {rate: 1C, until: v_max, hold_until: C/10, at_most: 3 h}
  - discharge: {rate: C/2, to_soc: 50 %, at_most: 3 h}
  - rest: {for: 1 h}
  - discharge: {rate: 1C, for: 10 s, sample_every: 1 s}
    measure: dcir
  - rest: {for: 1 min}
record: {every: 60 s, or_when: {voltage_moves: 5 mV}}
"""


#: what the runner watches, sets and decides, beside what the cycler does by itself
WATCHED = """\
schema: batterylab.protocol/1
name: watched
chamber: {temperature: 25 degC, within: 2 degC, soak: 1 h}
steps:
  - charge: {rate: 1C, until: v_max, hold_until: C/10, at_most: 3 h}
  - rest: {for: 2 h, ends: [{dV/dt: above -0.5 mV/min, over: 10 min}]}
  - discharge: {rate: C/2, until: v_min, at_most: 3 h}
    measure: capacity
  - charge: {rate: C/2 of capacity, until: v_max, hold_until: C/10 of capacity, at_most: 4 h}
  - discharge:
      rate: C/2
      at_most: 3 h
      ends: [{energy: above 40 % of capacity}]
    measure: part
  - rest: {for: 30 min}
  - pulse: {discharge: 1C, for: 10 s, rest: 30 s, times: 3, sample_every: 1 s}
    measure: dcir
  - if: {measure: part, below: 1 % of rated}
    steps:
      - charge: {rate: C/2, for: 1 h}
  - discharge:
      rate: C/2
      at_most: 3 h
      ends:
        - {voltage: below 3.5 V, hold: 10 s, then: low}
        - {capacity: above 90 % of capacity, then: fail}
  - rest: {for: 3 h}
  - mark: low
  - hold: {voltage: 3.6 V, limit: C/5, hold_until: C/30, at_most: 2 h}
  - profile: {points: [[60 s, -0.5C], [30 s, 0 A], [60 s, 0.5C]], times: 2}
  - soak: {temperature: 40 degC, within: 1 K, for: 1 h}
  - charge: {rate: C/2, until: v_max, hold_until: C/10, at_most: 3 h}
    measure: warm
record: {every: 60 s, or_when: {voltage_moves: 5 mV}}
"""


def measured_and_simulated(folder, protocol, name):
    """Return the recording of a bench without instrument errors, and the simulation's."""
    study = small_study(folder / "s", protocol, cells=1)
    file = study.path / "simulation.yaml"
    zeros = ", ".join(f"{name}: 0" for name in vars(IDEAL))
    file.write_text(f"{file.read_text()}\nchannels: {{{zeros}}}\n")
    bench = Threaded(study)
    try:
        assert bench.world.errors == IDEAL
        load_cells(study)
        run_study(study, "ann")
        truth = next(iter(bench.world.truths.values()))
    finally:
        bench.close()
    expected = simulate(load(name, [study.protocols_folder]).resolve(study.cell_type),
                        truth=truth)  # fmt: skip
    return read(find(study.archive)[0].path), expected


def test_the_ideal_bench_and_the_simulation_agree(tmp_path):
    measured, expected = measured_and_simulated(tmp_path, SAME, "same")
    assert measured.provenance["ended"] == expected.provenance["ended"] == "complete"
    assert [(s.kind, s.measure, s.ended_by) for s in measured.steps] == [
        (s.kind, s.measure, s.ended_by) for s in expected.steps
    ]
    ours, theirs = ({f.name: f.value for f in features_of(r)} for r in (expected, measured))
    assert set(ours) <= set(theirs)
    assert ours["capacity_Ah"] == pytest.approx(theirs["capacity_Ah"], rel=1e-3)
    for name in ("dcir_1s_mOhm", "dcir_10s_mOhm"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-2)


def moved_Ah(recording):
    """Return the charge of each step."""
    ends = recording.columns["net_capacity_Ah"][[step.last_row for step in recording.steps]]
    return np.diff(ends, prepend=0.0)


def test_they_agree_on_what_the_runner_watches(tmp_path):
    measured, expected = measured_and_simulated(tmp_path, WATCHED, "watched")
    assert measured.provenance["ended"] == expected.provenance["ended"] == "complete"
    said, simulated = ([(s.label, s.measure, s.ended_by) for s in r.steps]
                       for r in (measured, expected))  # fmt: skip
    assert said == simulated
    capacity_Ah = abs(moved_Ah(expected)[2])
    np.testing.assert_allclose(moved_Ah(measured), moved_Ah(expected), atol=1e-3 * capacity_Ah)
    ours, theirs = ({f.name: f.value for f in features_of(r)} for r in (expected, measured))
    assert ours["capacity_Ah"] == pytest.approx(theirs["capacity_Ah"], rel=1e-3)
    for name in ("dcir_1s_mOhm", "dcir_10s_mOhm"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-2)
