"""Powers, resistances and fast profiles on supplies that the host steps."""

import numpy as np
import pytest
from mixed_bench import CHANNELS, mixed_study
from small_bench import Threaded, load_cells, sealed

from batterylab.bench.session import run_study
from batterylab.errors import ProblemsError

LEVELS = """\
schema: batterylab.protocol/1
name: levels
steps:
  - charge: {current: 0.8 A, for: 60 s}
  - discharge: {power: 3 W, for: 60 s}
  - discharge: {resistance: 5 Ohm, for: 60 s, ends: [{energy: above 0.03 Wh}]}
  - charge: {power: 2.5 W, for: 30 s}
  - profile: {points: [[0.5 s, 0.8 A], [1.5 s, -0.4 A], [2 s, 0 A]], times: 5}
  - profile: {file: drive.csv}
  - rest: {for: 5 s}
record: {every: 1 s}
"""
DRIVE = "time_s,power_W\n0,-2\n10,1\n20,0\n25,0\n"


@pytest.fixture
def world_of():
    return []


@pytest.fixture
def made(tmp_path, world_of):
    benches = []

    def make(**options):
        study = mixed_study(tmp_path / "s", LEVELS, **options)
        (study.protocols_folder / "drive.csv").write_text(DRIVE)
        benches.append(Threaded(study))
        world_of.append(benches[-1].world)
        load_cells(study)
        return study

    yield make
    for bench in benches:
        bench.close()


def lithium_Ah(world, serial):
    """Return the charge that sits in the simulated cell's negative electrode."""
    return float(world.state_of(serial)[0] * world.cells[serial].capacity_Ah["negative"])


def test_supplies_hold_powers_and_resistances_and_follow_profiles(made, world_of):
    study = made(only=("supply", "smu"), sample="500 ms")
    world = world_of[0]
    before = {serial: lithium_Ah(world, serial) for serial in study.cells}
    done = run_study(study, "ann")
    assert [why for _, why in done] == ["", ""]
    for recording in sealed(study).values():
        steps, columns = recording.steps, recording.columns
        assert [s.kind for s in steps] == [
            "pulse", "discharge", "discharge", "charge", "other", "other", "rest",
        ]  # fmt: skip
        amps, volts = columns["current_A"], columns["voltage_V"]
        net_Wh = columns["net_energy_Wh"]
        for step, watts in ((steps[1], -3.0), (steps[3], 2.5)):
            inside = slice(step.first_row + 1, step.last_row)
            np.testing.assert_allclose((amps * volts)[inside], watts, rtol=0.01)
        load = slice(steps[2].first_row + 1, steps[2].last_row)
        np.testing.assert_allclose(volts[load] / -amps[load], 5.0, rtol=0.01)
        assert steps[2].ended_by == "energy"
        used_Wh = net_Wh[steps[1].last_row] - net_Wh[steps[2].last_row]
        assert used_Wh == pytest.approx(0.03, abs=0.002)
        assert 20 <= steps[4].duration_s < 30  # a change of direction takes the supply its time
        moved_Ah = np.diff(columns["net_capacity_Ah"][[steps[3].last_row, steps[4].last_row]])[0]
        assert moved_Ah == pytest.approx(5 * (0.5 * 0.8 - 1.5 * 0.4) / 3600, abs=3e-5)
        truly_Ah = lithium_Ah(world, recording.serial) - before[recording.serial]
        assert columns["net_capacity_Ah"][-1] == pytest.approx(truly_Ah, abs=5e-4)
        moved_Wh = net_Wh[steps[5].last_row] - net_Wh[steps[4].last_row]
        assert moved_Wh == pytest.approx((-2 * 10 + 1 * 10) / 3600, rel=0.05)


def test_what_one_of_the_cyclers_cannot_do_is_refused_before_anything_runs(made):
    study = made(sample="1 s")
    assert set(CHANNELS) == {"frame", "supply", "itech", "smu", "small"}
    with pytest.raises(ProblemsError) as caught:
        run_study(study, "ann")
    told = {p.what for p in caught.value.problems}
    assert {"frame: holds no constant power", "itech: holds no constant power",
            "frame: steps by whole seconds", "itech: follows no power profile"} <= told  # fmt: skip
    assert not any(what.startswith("supply") for what in told)
