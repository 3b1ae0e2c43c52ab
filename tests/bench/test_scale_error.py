"""A wrong shunt constant is caught by the comparison with the truth, and nothing else is."""

import pytest
from small_bench import Threaded, load_cells, small_study

from batterylab.bench.session import run_study
from batterylab.demo import COMPARED, _ratio_check
from batterylab.features import table as features_table
from batterylab.simulated.population import draw_truths, read_simulation
from batterylab.simulated.truth import ideal_results

#: the steps of capacity_resistance, without the repeats
SHORTENED = """\
schema: batterylab.protocol/1
name: shortened
chamber: {temperature: 25 degC, within: 2 degC, soak: 30 min}
steps:
  - charge: {rate: C/3, until: v_max, hold_until: C/20, at_most: 5 h}
  - rest: {for: 30 min}
  - discharge: {rate: C/3, until: v_min, at_most: 4 h}
    measure: capacity
  - rest: {for: 30 min}
  - charge: {rate: C/3, until: v_max, hold_until: C/20, at_most: 5 h}
  - discharge: {rate: C/3, to_soc: 50 %, at_most: 2 h}
  - rest: {for: 1 h}
  - discharge: {rate: 1C, for: 10 s, sample_every: 1 s}
    measure: dcir
  - rest: {for: 1 min}
record: {every: 60 s, or_when: {voltage_moves: 5 mV}}
"""
SCALE = ("simulation.yaml", "suppliers:",
         "channels: {current_scale_error_percent: 1}\nsuppliers:")  # fmt: skip


def checked(folder, *changes):
    """Run a protocol on four cells; return the checks of `demo --check` by feature."""
    study = small_study(folder, SHORTENED, cells=4, poll_s=300, change=changes)
    bench = Threaded(study)
    try:
        load_cells(study)
        run_study(study, "ann")
    finally:
        bench.close()
    truths = draw_truths(read_simulation(study.path / "simulation.yaml"), study.cells.values())
    ideal = ideal_results(truths)
    table = features_table(study)
    main = table[table["part"] == "main"]
    return {name: _ratio_check(main, name, ideal) for name in COMPARED}


@pytest.mark.slow
def test_one_percent_on_the_current_is_caught(tmp_path):
    good = checked(tmp_path / "good")
    assert {name: check.holds for name, check in good.items()} == dict.fromkeys(COMPARED, True)
    bad = checked(tmp_path / "bad", SCALE)
    assert {name: check.holds for name, check in bad.items()} == dict.fromkeys(COMPARED, False)
    # the charge is over-stated and the resistance under-stated, each by the error itself
    capacity, resistance = (
        bad[name].value / good[name].value for name in ("capacity_Ah", "dcir_10s_mOhm")
    )
    assert capacity == pytest.approx(1.01, abs=0.001)
    assert resistance == pytest.approx(1 / 1.01, abs=0.004)
    # the check could see an error a few times smaller
    assert good["capacity_Ah"].high - 1 < 0.004
