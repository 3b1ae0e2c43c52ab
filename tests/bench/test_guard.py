"""The guard's ear: when it acts, and when it does not."""

import os
import time

import pytest
from small_bench import cycler_now

from batterylab.bench.guard import Ear, GuardProcess, act, watch
from batterylab.errors import EnvironmentFailedError


@pytest.mark.parametrize(
    ("lines", "reason", "limits"),
    [
        (["beat\n", "beat\n", "done\n"], "", [5, 5, 5]),
        (["beat\n", None], "the runner was silent for 5 s", [5, 5]),
        (["beat\n", ""], "the runner is gone", [5, 5]),
        (["rest\n", "beat\n", None], "the runner was silent for 5 s", [5, None, 5]),
        (["rest\n", "rest\n", ""], "the runner is gone", [5, None, None]),
        (["noise\n", "done"], "", [5, 5]),
    ],
)
def test_what_it_hears_decides(lines, reason, limits):
    asked = []
    heard = iter(lines)

    def read_line(limit_s):
        asked.append(limit_s)
        return next(heard)

    assert watch(read_line, 5) == reason
    assert asked == limits


def test_lines_that_come_together_are_heard_one_by_one():
    read, write = os.pipe()
    ear = Ear(read)
    os.write(write, b"beat\nrest\nbe")
    assert [ear.read_line(5), ear.read_line(5), ear.read_line(0.01)] == ["beat\n", "rest\n", None]
    os.write(write, b"at\ndone\n")
    os.close(write)
    assert [ear.read_line(5) for _ in range(3)] == ["beat\n", "done\n", ""]
    os.close(read)


def charging(bench):
    """Let every loaded channel carry current."""
    frame = bench.instrument("cycler1")
    cells = "(@1001,2001)"
    for command in (
        "CELL:CLEAR 0", "SEQ:CLEAR 0", "SYST:PROB:LIM 1,0", "CELL:DEFINE 1001,(@101)",
        "CELL:DEFINE 2001,(@201)", "SEQ:STEP:DEF 1,1,CHARGE,3600,2.5,4.2",
        f"CELL:ENABLE {cells},1", f"CELL:INIT {cells}",
    ):  # fmt: skip
        frame.answer(command)
    bench.world.advance(bench.world.now_s + 20)
    assert all(state == "RUNNING" for state, _ in cycler_now(bench.study).values())


def test_it_makes_the_channels_safe_and_says_so(bench_of):
    bench = bench_of()
    channels = list(bench.study.log.occupied())
    charging(bench)
    act(bench.study.path, channels, "the runner is gone")
    assert all(state == "ABORTED" for state, _ in cycler_now(bench.study).values())
    assert '"is_safe": true' in (bench.study.path / "run" / "guard.json").read_text()


def test_it_says_so_where_it_could_not(bench_of, monkeypatch):
    bench = bench_of()
    channels = list(bench.study.log.occupied())
    bench.kill("cycler1")
    monkeypatch.setattr("batterylab.bench.guard.TRIES", 2)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(EnvironmentFailedError, match="cycler1"):
        act(bench.study.path, channels, "the runner is gone")
    text = (bench.study.path / "run" / "guard.json").read_text()
    assert '"is_safe": false' in text
    assert "cycler1" in text


def test_a_dismissed_guard_does_nothing_and_one_that_is_left_acts(bench_of):
    bench = bench_of()
    channels = list(bench.study.log.occupied())
    charging(bench)
    guard = GuardProcess(bench.study.path, channels, silence_s=1.0)
    guard.rest()
    time.sleep(1.5)  # longer than its patience, but it was told
    guard.beat()
    guard.dismiss()
    assert all(state == "RUNNING" for state, _ in cycler_now(bench.study).values())
    left = GuardProcess(bench.study.path, channels, silence_s=1.0)
    left.dismiss(is_safe=False)
    assert all(state == "ABORTED" for state, _ in cycler_now(bench.study).values())
