"""Supplies that the host steps beside a cycler that steps by itself: the same recording."""

import numpy as np
import pytest
from mixed_bench import CHANNELS, mixed_study
from small_bench import Threaded, load_cells, sealed, states_of

from batterylab.bench.session import run_study


@pytest.fixture
def mixed(tmp_path):
    """Return a maker of mixed benches."""
    benches = []

    def make(name="s", **options):
        bench = Threaded(mixed_study(tmp_path / name, **options))
        benches.append(bench)
        load_cells(bench.study)
        return bench

    yield make
    for bench in benches:
        bench.close()


def by_channel(study):
    """Return the study's recordings by the cycler's name."""
    names = {channel: cycler for cycler, channel in CHANNELS.items()}
    return {names[r.provenance["channel"]]: r for r in sealed(study).values()}


def lithium_Ah(bench, serial):
    """Return the charge that sits in the simulated cell's negative electrode."""
    cell = bench.world.cells[serial]
    return float(bench.world.state_of(serial)[0] * cell.capacity_Ah["negative"])


def test_every_cycler_gives_the_same_recording(mixed):
    bench = mixed()
    before = {serial: lithium_Ah(bench, serial) for serial in bench.study.cells}
    done = run_study(bench.study, "ann")
    assert [why for _, why in done] == [""] * 5
    found = by_channel(bench.study)
    assert set(found) == set(CHANNELS)
    for name, recording in found.items():
        steps = recording.steps
        assert [step.kind for step in steps] == [
            "rest", "pulse", "rest", "charge", "discharge", "rest",
        ], name  # fmt: skip
        assert [step.ended_by for step in steps] == [
            "duration", "duration", "duration", "current", "voltage", "duration",
        ], name  # fmt: skip
        assert [round(steps[k].duration_s) for k in (0, 1, 2, 5)] == [30, 10, 40, 30], name
        columns = recording.columns
        pulse = columns["current_A"][steps[1].rows]
        np.testing.assert_allclose(pulse, -0.9, atol=0.002, err_msg=name)
        assert 9 <= len(pulse) <= 11, name
        hold = columns["voltage_V"][steps[3].rows]
        assert hold[-1] == pytest.approx(3.62, abs=0.002), name
        moved_Ah = lithium_Ah(bench, recording.serial) - before[recording.serial]
        assert columns["net_capacity_Ah"][-1] == pytest.approx(moved_Ah, abs=0.0015), name
        assert np.all(np.abs(columns["temperature_degC"] - 25) < 6), name
    assert {state["state"] for state in states_of(bench.study).values()} == {"valid"}
    reference = found["frame"].columns["net_capacity_Ah"]
    for name, recording in found.items():
        ends = recording.columns["net_capacity_Ah"][[step.last_row for step in recording.steps]]
        wanted = reference[[step.last_row for step in found["frame"].steps]]
        np.testing.assert_allclose(ends[1], wanted[1], atol=3e-4, err_msg=name)
    for stage in bench.world.supplies.values():
        assert not stage.is_on
