"""The simulated bench as a process: faults from the command line, and time as on the wall."""

import time

import pytest
from small_bench import command, replace, small_study

from batterylab.bench.benchfile import BenchFile
from batterylab.bench.clock import WallClock
from batterylab.drivers.catalogue import open_instrument
from batterylab.errors import BatterylabError, EnvironmentFailedError
from batterylab.simulated import process
from batterylab.study import Study


def opened(study, name, clock=None):
    file = BenchFile.open(study.bench_path, study.cell_type)
    entry = file.instruments[name]
    return open_instrument(name, entry.model, entry.address, entry.serial, clock or WallClock())


def test_a_plug_is_pulled_and_put_back_from_the_command_line(tmp_path):
    study = small_study(tmp_path / "s")
    with pytest.raises(EnvironmentFailedError, match="no simulated bench runs here"):
        process.control_of(study.path)
    bench = process.start(study.path)
    try:
        opened(study, "temps").close()
        found = command("bench", "fault", study.path, "temps", "unplugged")
        assert (found.returncode, found.stderr) == (0, "temps: unplugged\n")
        with pytest.raises(EnvironmentFailedError, match="temps at"):
            opened(study, "temps")
        assert command("bench", "mend", study.path, "temps").returncode == 0
        opened(study, "temps").close()
        found = command("bench", "fault", study.path, "temps", "fire")
        assert found.returncode == 1
        assert "unknown fault 'fire'; known: late, lost" in found.stderr
    finally:
        process.finish(bench)
    assert not (study.path / process.NOTE).exists()


def test_in_real_time_the_worlds_seconds_are_the_machines(tmp_path):
    study = small_study(tmp_path / "s")
    with pytest.raises(EnvironmentFailedError, match="leave --real-time away"):
        process.start(study.path, real_time=True)
    line = next(t for t in study.bench_path.read_text().splitlines() if t.startswith("clock:"))
    replace(study.bench_path, line, "")
    study = Study.open(study.path)
    with pytest.raises(EnvironmentFailedError, match="this is a real bench"):
        process.start(study.path)
    bench = process.start(study.path, real_time=True)
    try:
        driver = opened(study, "cycler1")
        driver.prepare([101])
        control = process.control_of(study.path)
        began_s, records = time.time(), 0
        deadline = time.monotonic() + 60
        while records < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
            records += len(driver.drain_log([101]).time_ms)
        assert records >= 3
        assert time.time() - began_s > 1.9  # three ticks are at least two seconds apart
        assert abs(float(control.ask("time")["time"]) - time.time()) < 30
        control.close()
        driver.close()
    finally:
        process.finish(bench)


def test_a_simulated_bench_has_one_frame(tmp_path):
    study = small_study(tmp_path / "s")
    second = '  cycler2: {model: keysight_bt2200, address: "TCPIP::127.0.0.1::9::SOCKET"}\n'
    replace(study.bench_path, "  temps:", second + "  temps:")
    replace(study.bench_path, 'name: "2-{n}", cycler: cycler1', 'name: "2-{n}", cycler: cycler2')
    with pytest.raises(BatterylabError, match="has one frame, not 2"):
        process.make_world(study, BenchFile.open(study.bench_path, study.cell_type))
