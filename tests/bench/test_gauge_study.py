"""A study of the bench itself: everybody meets everybody, in recordings of their own kind."""

import itertools
import time
from collections import Counter
from typing import ClassVar

import pytest
from small_bench import Threaded, sealed, small_study

from batterylab.archive import find, read
from batterylab.bench.gauge import run_gauge
from batterylab.bench.loading import ScriptedHands
from batterylab.bench.session import open_work
from batterylab.errors import BatterylabError

QUICK = """\
schema: batterylab.protocol/1
name: quick
steps:
  - discharge: {rate: C/3, for: 60 s}
    measure: part
"""
GAUGE = ("study.yaml", "gauge: {protocol: gauge_check, cells: 6, channels: 4, repeats: 2}",
         "gauge: {protocol: quick, cells: 3, channels: 2, repeats: 2}")  # fmt: skip


@pytest.fixture
def bench(tmp_path):
    running = Threaded(small_study(tmp_path / "s", QUICK, cells=3, poll_s=10, change=[GAUGE]))
    yield running
    running.close()


class Slow(ScriptedHands):
    """A technician who once takes longer than the guard's patience."""

    pauses: ClassVar = [2.5]

    def insert(self, serial, channel):
        time.sleep(self.pauses.pop() if self.pauses else 0)
        super().insert(serial, channel)


def test_every_pair_is_recorded_and_the_bench_is_empty_afterwards(bench, monkeypatch):
    study = bench.study
    monkeypatch.setattr("batterylab.bench.guard.GuardProcess.__init__.__defaults__", (2.0,))
    shares = []
    done = run_gauge(
        study, "ann", lambda b: Slow(b.clock), report=lambda data: shares.append(data["done"])
    )
    assert [why for _, why in done] == [""] * 12
    pairs = Counter()
    for entry in find(study.archive):
        recording = read(entry.path)
        assert recording.provenance["part"] == "gauge"
        pairs[recording.provenance["channel"], recording.serial] += 1
    channels = {channel for channel, _ in pairs}
    assert {channel[0] for channel in channels} == {"1", "2"}  # of both blocks
    assert pairs == dict.fromkeys(itertools.product(channels, study.cells), 2)
    assert study.log.occupied() == {}
    assert bench.world.seat_of == {}
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    # they are no recordings of the study's own protocols
    assert {e["data"]["part"] for e in study.log.entries("recording")} == {"gauge"}
    assert open_work(study) == {"quick": {}}
    assert set(sealed(study)) == set(study.cells)


def test_a_bench_that_is_not_empty_is_refused(bench):
    study = bench.study
    study.log.append("load", "ann", serial="A1-001", channel="1-1")
    with pytest.raises(BatterylabError, match="cells are still loaded"):
        run_gauge(study, "ann", lambda b: ScriptedHands(b.clock))
