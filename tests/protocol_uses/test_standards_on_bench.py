"""Protocols of standards, carried out on the simulated bench from start to end."""

import re

import numpy as np
import pytest
from small_bench import Threaded, load_cells, small_study

from batterylab.archive import find, read, verify
from batterylab.bench.session import run_study
from batterylab.features import features_of
from batterylab.protocol import load
from batterylab.protocol.simulate import simulate
from batterylab.simulated.world import IDEAL

PAUSE = "schema: batterylab.protocol/1\nname: {}\nsteps:\n  - rest: {{for: 60 s}}\n"
#: pulses at higher currents than the usual cell's
FAST = ("study.yaml", "current: {max_charge: 5 A, max_discharge: 10 A}",
        "current: {max_charge: 10 A, max_discharge: 15 A}")  # fmt: skip


@pytest.mark.parametrize("name", ["gbt_31486_2024_capacity", "iec_62660_1_power"])
def test_a_standards_protocol_runs_to_its_end_as_simulated(tmp_path, name):
    study = small_study(tmp_path / "s", PAUSE.format(name), cells=1, poll_s=120.0, change=[FAST])
    (study.protocols_folder / f"{name}.yaml").unlink()  # the shipped one counts
    file = study.path / "simulation.yaml"
    zeros = ", ".join(f"{each}: 0" for each in vars(IDEAL))
    file.write_text(f"{file.read_text()}\nchannels: {{{zeros}}}\n")
    bench = Threaded(study)
    try:
        load_cells(study)
        assert [why for _, why in run_study(study, "ann")] == [""]
        truth = next(iter(bench.world.truths.values()))
    finally:
        bench.close()
    (entry,) = find(study.archive)
    verify(entry.path)
    measured = read(entry.path)
    expected = simulate(load(name).resolve(study.cell_type), truth=truth)
    assert measured.provenance["ended"] == expected.provenance["ended"] == "complete"
    said, simulated = ([(s.label, s.measure, s.ended_by) for s in r.steps]
                       for r in (measured, expected))  # fmt: skip
    assert said == simulated
    ours, theirs = (np.diff([r.columns["net_capacity_Ah"][s.last_row] for s in r.steps], prepend=0)
                    for r in (measured, expected))  # fmt: skip
    np.testing.assert_allclose(ours, theirs, atol=1e-3 * np.abs(theirs).max())
    ohms = [{f.name: f.value for f in features_of(r) if re.match("dcir_", f.name)}
            for r in (measured, expected)]  # fmt: skip
    assert ohms[0] == pytest.approx(ohms[1], rel=1e-2)
    assert bool(ohms[0]) == (name == "iec_62660_1_power")
