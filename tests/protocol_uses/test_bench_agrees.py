"""The simulated bench without instrument errors gives what the simulation gives."""

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


def test_the_ideal_bench_and_the_simulation_agree(tmp_path):
    study = small_study(tmp_path / "s", SAME, cells=1)
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
    measured = read(find(study.archive)[0].path)
    expected = simulate(load("same", [study.protocols_folder]).resolve(study.cell_type),
                        truth=truth)  # fmt: skip
    assert measured.provenance["ended"] == expected.provenance["ended"] == "complete"
    assert [(s.kind, s.measure, s.ended_by) for s in measured.steps] == [
        (s.kind, s.measure, s.ended_by) for s in expected.steps
    ]
    ours, theirs = ({f.name: f.value for f in features_of(r)} for r in (expected, measured))
    assert set(ours) <= set(theirs)
    assert ours["capacity_Ah"] == pytest.approx(theirs["capacity_Ah"], rel=1e-3)
    for name in ("dcir_1s_mOhm", "dcir_10s_mOhm"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-2)
