"""Supplies that the host steps beside a cycler that steps by itself: the same recording."""

import numpy as np
import pytest
from mixed_bench import CHANNELS, GENTLE, mixed_study
from small_bench import Threaded, free_ports, load_cells, sealed, states_of

from batterylab import studyfiles
from batterylab.bench.process import run_here
from batterylab.bench.session import run_study
from batterylab.drivers.ea_psb10000 import Psb10000
from batterylab.errors import EnvironmentFailedError, SafetyStopError
from batterylab.simulated import process
from batterylab.study import Study
from batterylab.studyfiles import Size, write_study


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


def test_a_new_study_with_one_of_every_model_runs_under_its_guard(tmp_path, monkeypatch):
    names = list(studyfiles.PORTS_ALL)
    ports = dict(zip(names, process.free_ports(len(names)), strict=True))
    monkeypatch.setattr(studyfiles, "PORTS_ALL", ports)
    studyfiles.write_study(tmp_path / "s", bench="all")
    assert studyfiles.check_study(tmp_path / "s") == []
    study = Study.open(tmp_path / "s")
    running = process.start(study.path)
    try:
        load_cells(study)
        done = run_here(study, "ann")
        assert [why for _, why in done] == [""] * 8
    finally:
        process.finish(running)
    models = {r.provenance["instruments"]["cycler"]["model"] for r in sealed(study).values()}
    assert models == {
        "keysight_bt2200", "ea_psb10000", "itech_m3900", "keithley_2460", "keithley_2450",
    }  # fmt: skip
    assert {state["state"] for state in states_of(study).values()} == {"valid"}


def test_ten_samples_a_second(mixed):
    fast = GENTLE.replace("sample_every: 1 s", "sample_every: 0.1 s")
    bench = mixed(only=("supply", "smu"), protocol=fast, sample="0.1 s")
    before = {serial: lithium_Ah(bench, serial) for serial in bench.study.cells}
    assert [why for _, why in run_study(bench.study, "ann")] == ["", ""]
    for name, recording in by_channel(bench.study).items():
        pulse = recording.steps[1]
        times_s = recording.columns["test_time_s"][pulse.rows]
        assert 95 <= len(times_s) <= 101, name
        assert np.median(np.diff(times_s)) == pytest.approx(0.1, abs=0.002), name
        moved_Ah = lithium_Ah(bench, recording.serial) - before[recording.serial]
        net_Ah = recording.columns["net_capacity_Ah"][-1]
        assert net_Ah == pytest.approx(moved_Ah, abs=5e-4), name


def test_a_supply_that_fails_before_its_first_sample_is_told(mixed, monkeypatch):
    at_once = GENTLE.replace("  - rest: {for: 30 s}\n", "", 1)
    bench = mixed(only=("frame", "supply"), protocol=at_once)

    apply = Psb10000._apply

    def refuse(self, mode, *settings):
        if mode != "REST":
            raise EnvironmentFailedError("supply: it refuses")
        apply(self, mode, *settings)

    monkeypatch.setattr(Psb10000, "_apply", refuse)
    with pytest.raises(SafetyStopError, match=r"A1-00\d: supply: it refuses") as caught:
        run_here(bench.study, "ann")
    assert caught.value.exit_code == 4
    (recording,) = sealed(bench.study).values()
    assert recording.provenance["channel"] == "F-1"
    (entry,) = bench.study.log.entries("unrecorded")
    assert (entry["data"]["channel"], entry["data"]["reason"]) == ("E-1", "supply: it refuses")


def test_many_supplies_do_not_delay_each_other(tmp_path):
    """Each has a watchdog of five seconds, and a gap between messages of its own."""
    many = 10
    ports = free_ports(many + 1)
    write_study(tmp_path / "s", size=Size(1, 1, many), protocols=("gentle",))
    lines = ["schema: batterylab.bench/1", "name: many", "instruments:"]
    lines += [f'  e{n}: {{model: ea_psb10000, address: "TCPIP::127.0.0.1::{port}::SOCKET"}}'
              for n, port in enumerate(ports[:many])]  # fmt: skip
    lines += ["channels:", *(f"  - {{name: E-{n}, cycler: e{n}}}" for n in range(many))]
    lines += ["limits: {voltage: [2.45 V, 4.25 V], temperature: 50 degC}", "poll: 10 s",
              f'clock: "127.0.0.1:{ports[many]}"']  # fmt: skip
    (tmp_path / "s" / "bench.yaml").write_text("\n".join(lines))
    (tmp_path / "s" / "protocols" / "gentle.yaml").write_text(
        "schema: batterylab.protocol/1\nname: gentle\nsteps:\n  - rest: {for: 20 s}\n"
        "  - discharge: {current: 1 A, for: 30 s}\nrecord: {every: 1 s}\n"
    )
    bench = Threaded(Study.open(tmp_path / "s"))
    try:
        load_cells(bench.study)
        done = run_study(bench.study, "ann")
        assert [why for _, why in done] == [""] * many
        begins = [r.steps[1].start_s for r in sealed(bench.study).values()]
        assert max(begins) - min(begins) <= 1.5
    finally:
        bench.close()
