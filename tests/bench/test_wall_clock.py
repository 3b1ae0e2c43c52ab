"""The same runner on the machine's own clock: only the clock differs."""

import threading
import time

import numpy as np
import pytest

from batterylab.archive import read
from batterylab.bench.clock import BenchClock
from batterylab.bench.session import run_protocol
from batterylab.simulated import process
from batterylab.study import Study
from batterylab.studyfiles import Size, write_study

PROTOCOL = """\
schema: batterylab.protocol/1
name: short
steps:
  - rest: {for: 3 s}
  - discharge: {rate: C/2, for: 5 s, sample_every: 1 s}
    measure: dcir
  - rest: {for: 2 s}
record: {every: 5 s}
"""


@pytest.fixture
def bench_in_real_time(tmp_path):
    """A simulated bench whose clock somebody moves with the wall clock, unknown to the runner."""
    folder = tmp_path / "s"
    ports = dict(zip(("cycler", "temps", "meter", "chamber", "clock"), process.free_ports(5),
                     strict=True))  # fmt: skip
    write_study(folder, ports=ports, size=Size(1, 1, 2), protocols=("short",), poll_s=1)
    (folder / "protocols/short.yaml").write_text(PROTOCOL, encoding="utf-8")
    running = process.start(folder)
    clock = BenchClock("127.0.0.1", ports["clock"])
    bench = folder / "bench.yaml"
    lines = [line for line in bench.read_text().splitlines() if not line.startswith("clock:")]
    bench.write_text("\n".join(lines))
    began, bench_began, ended = time.monotonic(), clock.now(), threading.Event()

    def drive():
        while not ended.wait(0.05):
            clock.sleep_until(bench_began + time.monotonic() - began)

    study = Study.open(folder)
    for serial, channel in zip(study.cells, ("1-1", "2-1"), strict=True):
        clock.ask("insert", serial=serial, channel=channel)
        study.log.append("load", "tester", serial=serial, channel=channel)
    thread = threading.Thread(target=drive)
    thread.start()
    yield study
    ended.set()
    thread.join()
    clock.close()
    process.finish(running)


@pytest.mark.slow
def test_a_run_on_the_wall_clock_gives_the_same_kind_of_recording(bench_in_real_time):
    study = bench_in_real_time
    began = time.time()
    done = run_protocol(study, "short", study.log.occupied(), "tester")
    assert [stopped for _, stopped in done] == ["", ""]
    for path, _ in done:
        recording = read(path)
        assert recording.provenance["is_simulated"] is False
        assert [step.kind for step in recording.steps] == ["rest", "pulse", "rest"]
        assert [step.duration_s for step in recording.steps] == pytest.approx([3, 5, 2], abs=1)
        pulse = recording.steps[1]
        assert recording.columns["current_A"][pulse.rows].mean() == pytest.approx(-2.5, abs=0.01)
        assert abs(recording.columns["unix_time_s"][0] - began) < 30
        assert np.all(np.diff(recording.columns["test_time_s"]) > 0)
