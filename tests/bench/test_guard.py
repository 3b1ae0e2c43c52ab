"""The guard's ear: when it acts, and when it does not."""

import json
import os
import threading
import time
from types import SimpleNamespace

import pytest
from small_bench import cycler_now, wait_for

from batterylab.bench import pulse
from batterylab.bench.guard import Ear, GuardProcess, Stops, watch
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
    Stops(bench.study.path, channels).act("the runner is gone")
    assert all(state == "ABORTED" for state, _ in cycler_now(bench.study).values())
    assert '"is_safe": true' in (bench.study.path / "run" / "guard.json").read_text()


def test_a_stop_counts_until_something_began_again(bench_of):
    """A runner that dies before anything flows is no reason to think that it did."""
    bench = bench_of()
    stops = Stops(bench.study.path, list(bench.study.log.occupied()))
    path = bench.study.path / "run" / "guard.json"
    reports = []
    for is_new in (True, False, True):
        if is_new:
            path.unlink(missing_ok=True)
        stops.act("the runner is gone")
        reports.append(json.loads(path.read_text())["off_s"]["cycler1"])
    assert reports[0] == reports[1] < reports[2]


def test_it_says_so_where_it_could_not(bench_of, monkeypatch):
    bench = bench_of()
    channels = list(bench.study.log.occupied())
    bench.kill("cycler1")
    monkeypatch.setattr("batterylab.bench.guard.TRIES", 2)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(EnvironmentFailedError, match="cycler1"):
        Stops(bench.study.path, channels).act("the runner is gone")
    text = (bench.study.path / "run" / "guard.json").read_text()
    assert '"is_safe": false' in text
    assert "cycler1" in text


def test_a_dismissed_guard_does_nothing_and_one_that_is_told_acts(bench_of):
    bench = bench_of()
    channels = list(bench.study.log.occupied())
    charging(bench)
    guard = GuardProcess(bench.study.path, channels)
    guard.rest()
    time.sleep(1.5)  # longer than its patience, but it was told
    guard.beat()
    guard.dismiss()
    assert all(state == "RUNNING" for state, _ in cycler_now(bench.study).values())
    left = GuardProcess(bench.study.path, channels)
    left.dismiss(is_safe=False)
    assert all(state == "ABORTED" for state, _ in cycler_now(bench.study).values())
    assert "could not confirm" in (bench.study.path / "run" / "guard.json").read_text()


def test_a_runner_that_waits_for_a_processor_gets_more_time_and_not_for_ever():
    heard = iter([None, None, "beat\n", None, None, None, None])
    starved = []

    def is_starved():
        starved.append(True)
        return True

    assert watch(lambda _: next(heard), 1.0, is_starved) == "the runner was silent for 4 s"
    assert len(starved) == 5  # two before it was heard again, three after


class Said:
    """What a pulse said, and whether the guard is gone."""

    def __init__(self):
        self.words, self.is_gone = [], False

    def __call__(self, word):
        if self.is_gone:
            raise EnvironmentFailedError("the guard is gone")
        self.words.append(word)


def test_the_heart_beats_while_the_main_loop_waits_and_stops_when_it_hangs(monkeypatch):
    now, asked = [100.0], []

    def monotonic():
        asked.append(now[0])
        return now[0]

    def words_in_three_turns():
        """Once it surely knows what time it is, count what it says."""
        for _ in range(2):
            count, before = len(said.words), len(asked)
            wait_for(lambda before=before: len(asked) > before + 3)
        return len(said.words) - count

    monkeypatch.setattr(pulse, "time", SimpleNamespace(monotonic=monotonic))
    monkeypatch.setattr(pulse, "EVERY_s", 0.001)
    said = Said()
    heart = pulse.Pulse(said)
    heart.start()
    count = len(said.words)
    wait_for(lambda: len(said.words) > count + 3)  # by itself
    heart.allow(30.0)
    now[0] += 29.0
    count = len(said.words)
    wait_for(lambda: len(said.words) > count + 3)  # a long wait that was told
    now[0] += 30.0
    assert words_in_three_turns() == 0  # a loop that hangs
    count = len(said.words)
    heart.check_in()
    wait_for(lambda: len(said.words) > count + 3)
    other = threading.Thread(target=heart.allow, args=(1e6,))
    other.start()
    other.join()  # another thread's word does not count
    now[0] += 100.0
    assert words_in_three_turns() == 0
    heart.check_in()
    said.is_gone = True
    with pytest.raises(EnvironmentFailedError, match="the guard is gone"):
        wait_for(heart.check_in)
    heart.stop()
