"""The run as a process: killed, hung, stopped, alone, detached; the cycler is asked if it is safe.

The bench runs in a thread of the test; runner and guard are processes of their own.
"""

import json
import os
import pty
import signal
import subprocess
import sys

import pytest
from small_bench import (
    PATIENT_s,
    children_of,
    cycler_now,
    is_alive,
    load_cells,
    sealed,
    small_study,
    states_of,
    status_file,
    until_it_charges,
    wait_for,
)

from batterylab.archive import find
from batterylab.bench import guard
from batterylab.bench import process as run
from batterylab.bench.process import hold_bench, is_running, run_here, start_detached, status_of
from batterylab.bench.session import journals, recover
from batterylab.errors import EnvironmentFailedError, SafetyStopError
from batterylab.simulated import process as simulated


@pytest.fixture
def slow(bench_of):
    """Return a bench whose run can be caught while it charges."""
    bench = bench_of(poll_s=10)
    bench.slow_down()
    yield bench
    bench.delay_s = 0.0
    if is_running(bench.study):
        run.stop(bench.study)


def assert_safe(study):
    """All channels were aborted and carry nothing."""
    for state, amps in cycler_now(study).values():
        assert state == "ABORTED"
        assert abs(amps) < 2e-3


def test_a_killed_runner_leaves_its_guard_and_the_next_run_recovers(slow):
    study = slow.study
    start_detached(study, "ann")
    pid = until_it_charges(study)
    (watcher,) = children_of(pid)
    journal = (study.path / "journal" / "run-0001.journal").stat().st_size
    os.kill(pid, signal.SIGKILL)
    report = wait_for(lambda: status_of(study).get("guard"))
    assert report["reason"] == "the runner is gone"
    assert report["is_safe"] is True
    assert set(report["channels"]) == set(study.log.occupied())
    assert_safe(study)
    wait_for(lambda: not is_alive(watcher))
    status = status_of(study)
    assert (status["phase"], status["is_running"]) == ("died", False)
    # nothing of the journal is lost, and the next run seals it before it goes on
    (path,) = journals(study)
    assert path.stat().st_size >= journal > 1000
    slow.delay_s = 0.0
    done = run_here(study, "bob")
    assert [why for _, why in done] == ["", ""]
    entries = find(study.archive)
    assert [entry.serial for entry in entries] == ["A1-001", "A1-001", "A1-002", "A1-002"]
    states = list(states_of(study).values())
    assert [state["state"] for state in states] == ["invalid", "invalid", "valid", "valid"]
    reason = "aborted: its runner died"
    assert {state["reason"] for state in states[:2]} == {reason}
    assert {state["operator"] for state in states[:2]} == {"bob"}
    assert journals(study) == []
    times = [entry["time_utc"] for entry in study.log.entries()]
    assert times == sorted(times)  # all of them the bench's
    assert "guard" not in status_of(study)
    for serial, recording in sealed(study).items():
        assert len(recording) > 0, serial


def test_a_runner_that_is_stopped_in_its_tracks_is_killed_by_its_guard(slow):
    study = slow.study
    pid = start_detached(study, "ann")
    assert until_it_charges(study) == pid
    os.kill(pid, signal.SIGSTOP)
    report = wait_for(lambda: status_of(study).get("guard"))
    assert report["reason"] == "the runner was silent for 1 s, and was killed"
    assert report["is_safe"] is True
    assert_safe(study)
    wait_for(lambda: not is_alive(pid))
    assert status_of(study)["phase"] == "died"


def test_a_main_loop_that_hangs_falls_silent_and_its_guard_acts(slow):
    study = slow.study
    code = (
        "import sys, threading\nfrom batterylab.bench import process, runner\n"
        "tick = runner.Runner._tick\n"
        "def hang(self):\n"
        "    if self.clock.now() - self.start_s > 120: threading.Event().wait()\n"
        "    tick(self)\n"
        "runner.Runner._tick = hang\nsys.argv = ['runner', sys.argv[1], 'ann']\nprocess.main()"
    )
    runner = subprocess.Popen([sys.executable, "-c", code, str(study.path)],
                              start_new_session=True)  # fmt: skip
    try:
        report = wait_for(lambda: status_of(study).get("guard"))
        assert report["reason"].startswith("the runner was silent for ")
        assert report["is_safe"] is True
        assert runner.wait(timeout=PATIENT_s) == -signal.SIGKILL
        assert_safe(study)
    finally:
        runner.kill()
        runner.wait()


def test_only_one_run_at_a_time_and_it_can_be_stopped(slow, tmp_path):
    study = slow.study
    pid = start_detached(study, "ann")
    until_it_charges(study)
    assert is_running(study)
    with pytest.raises(EnvironmentFailedError, match="this study is running"):
        start_detached(study, "ann")
    with pytest.raises(EnvironmentFailedError, match="this study is running"):
        run_here(study, "ann")
    with pytest.raises(EnvironmentFailedError, match="this study is running"), hold_bench(study):
        pass
    # another study with the same cycler
    other = small_study(tmp_path / "other")
    other.bench_path.write_text(study.bench_path.read_text())
    with pytest.raises(EnvironmentFailedError, match="another study or command"):
        run_here(other, "ann")
    with pytest.raises(EnvironmentFailedError, match="another study"), hold_bench(other):
        pass
    assert not is_running(other)
    status = run.stop(study)
    assert (status["phase"], status["exit_code"]) == ("ended", 130)
    assert status["message"] == "stopped by the operator"
    assert_safe(study)
    states = states_of(study).values()
    assert {state["reason"] for state in states} == {"aborted: stopped by the operator"}
    wait_for(lambda: not is_alive(pid))
    assert not (study.path / "run" / "pid").exists()
    assert not (study.path / "run" / "socket").exists()
    assert "guard" not in status_of(study)  # it was dismissed, it did not act
    assert run.stop(study)["phase"] == "ended"  # once more does no harm


def test_a_closed_terminal_detaches_the_follower_and_sigterm_ends_the_run(slow):
    study = slow.study
    primary, secondary = pty.openpty()
    follower = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, signal, termios, sys\n"
         "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
         "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
         "from batterylab.cli import main\nmain(['run', sys.argv[1], '--yes'])", str(study.path)],
        stdin=secondary, stdout=secondary, stderr=secondary, start_new_session=True,
    )  # fmt: skip
    os.close(secondary)
    pid = until_it_charges(study)
    assert pid != follower.pid
    os.close(primary)  # the terminal is gone: its session gets SIGHUP
    assert follower.wait(timeout=PATIENT_s) == -signal.SIGHUP
    before = status_file(study)["bench_time_s"]
    wait_for(lambda: status_file(study)["bench_time_s"] > before)
    assert is_running(study)
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not is_running(study))
    status = status_of(study)
    assert (status["exit_code"], status["message"]) == (130, "SIGTERM")
    assert_safe(study)
    assert {s["reason"] for s in states_of(study).values()} == {"aborted: SIGTERM"}


@pytest.mark.slow
def test_a_bench_that_dies_ends_the_run_with_all_that_was_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "ACT_s", 0.5)  # it would try ten times
    dismissed = []
    dismiss = guard.GuardProcess.dismiss

    def spy(self, **how):
        dismissed.append(how)
        dismiss(self, **how)

    monkeypatch.setattr(guard.GuardProcess, "dismiss", spy)
    study = small_study(tmp_path / "s", poll_s=10)
    bench = simulated.start(study.path)
    try:
        load_cells(study)
        seen = []

        def look(data):
            seen.append(data)
            if data.get("bench_time_s", 0) > 300 and bench.poll() is None:
                os.kill(bench.pid, signal.SIGKILL)
                bench.wait()

        with pytest.raises(EnvironmentFailedError) as caught:
            run_here(study, "ann", look)
        assert caught.value.exit_code == 1
        assert "not confirmed safe" in caught.value.message
        status = status_of(study)
        assert (status["phase"], status["exit_code"]) == ("ended", 1)
        assert dismissed == [{"is_safe": False}]  # so the guard acts as well
        recover(study, "ann")
        assert journals(study) == []
        for recording in sealed(study).values():
            assert recording.columns["test_time_s"][-1] == seen[-1]["bench_time_s"]
        assert {s["state"] for s in states_of(study).values()} == {"invalid"}
    finally:
        simulated.finish(bench)
    # started again, the bench holds the cells that the log says are loaded, and time goes on
    bench = simulated.start(study.path)
    try:
        assert [why for _, why in run_here(study, "ann")] == ["", ""]
    finally:
        simulated.finish(bench)
    times = [entry["time_utc"] for entry in study.log.entries()]
    assert times == sorted(times)


def test_a_channel_stopped_for_safety_is_exit_code_four(bench_of):
    bench = bench_of(poll_s=10)
    place = bench.place(next(iter(bench.study.log.occupied())))
    bench.when(400, lambda: bench.world.bank.state.__setitem__((place, 2), 350.0))
    with pytest.raises(SafetyStopError, match="stopped for safety") as caught:
        run_here(bench.study, "ann")
    assert caught.value.exit_code == 4
    status = status_of(bench.study)
    assert status["exit_code"] == 4
    assert "temperature" in status["message"]
    assert sorted(s["state"] for s in states_of(bench.study).values()) == ["invalid", "valid"]


def test_without_a_guard_nothing_flows(bench_of, monkeypatch):
    bench = bench_of()

    def none(*_, **__):
        raise EnvironmentFailedError("the guard did not start: no memory")

    monkeypatch.setattr(run, "GuardProcess", none)
    with pytest.raises(EnvironmentFailedError, match="the guard did not start"):
        run_here(bench.study, "ann")
    assert {state for state, _ in cycler_now(bench.study).values()} == {"NONE"}
    assert not is_running(bench.study)


def test_a_guard_that_cannot_reach_the_cycler_does_not_start(bench_of):
    bench = bench_of()
    bench.kill("cycler1")
    with pytest.raises(EnvironmentFailedError, match="the guard did not start: cycler1"):
        run_here(bench.study, "ann")


def test_a_lost_guard_ends_the_run(slow):
    study = slow.study
    start_detached(study, "ann")
    pid = until_it_charges(study)
    (watcher,) = children_of(pid)
    os.kill(watcher, signal.SIGKILL)
    wait_for(lambda: not is_running(study))
    assert status_of(study)["message"] == "the guard is gone"
    assert_safe(study)


def test_a_study_that_cannot_be_written_is_one_error(bench_of):
    study = bench_of(is_loaded=False).study
    (study.path / "run").write_text("in the way")
    with pytest.raises(EnvironmentFailedError, match="cannot be opened"):
        run_here(study, "ann")


def test_a_status_file_that_is_damaged_does_no_harm(tmp_path):
    study = small_study(tmp_path / "s")
    assert status_of(study) == {"is_running": False, "loaded": {}}
    (study.path / "run").mkdir()
    (study.path / "run" / "status.json").write_text('{"phase": "run')
    (study.path / "run" / "guard.json").write_text("{")
    assert status_of(study) == {"is_running": False, "loaded": {}}
    (study.path / "run" / "status.json").write_text(json.dumps({"phase": "running"}))
    assert status_of(study)["phase"] == "died"


def test_a_fault_of_our_own_in_the_detached_runner_is_told_without_a_traceback(slow):
    study = slow.study
    code = (
        "import sys\nfrom batterylab.bench import process\n"
        "def fault(*_, **__): raise ZeroDivisionError('oh')\n"
        "process.run_study = fault\nsys.argv = ['runner', sys.argv[1], 'ann']\nprocess.main()"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(study.path)], capture_output=True, text=True,
        check=False, env={**os.environ, "TMPDIR": str(study.path)},
    )  # fmt: skip
    assert found.returncode == 1
    assert "this is a fault of batterylab: ZeroDivisionError: oh" in found.stderr
    assert "Traceback" not in found.stderr
    (report,) = study.path.glob("batterylab-error-*.log")
    assert "Traceback" in report.read_text()
    assert "ZeroDivisionError" in status_of(study)["message"]
