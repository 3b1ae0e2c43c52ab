"""Where a supply stood when its runner died, at the exact points where that is hard to tell."""

import math
from pathlib import Path

import numpy as np
import pytest
from small_bench import small_study

from batterylab.bench.benchfile import BenchFile
from batterylab.bench.channelrun import ChannelRun
from batterylab.bench.journal import ROW, Journal
from batterylab.bench.latest import COLUMNS, Latest
from batterylab.bench.session import resolve
from batterylab.bench.standing import Interrupted, latest_path

TWO = """\
schema: batterylab.protocol/1
name: two
steps:
  - charge: {rate: C/2, for: 40 s}
  - discharge: {rate: C/2, for: 40 s}
record: {every: 1 s}
"""


@pytest.fixture
def stood(tmp_path):
    """Return a reader of what a journal of events and samples says ran on one channel."""
    study = small_study(tmp_path / "s", TWO)
    file = BenchFile.open(study.bench_path, study.cell_type)

    def read(events, samples=(), latest=None):
        path = Path(tmp_path) / "run-0001.journal"
        journal = Journal(path, {"channels": [{"channel": "1-1"}]})
        journal.event("", "begin", start_s=100.0)
        journal.event("1-1", "segment", index=0, at_s=100.0, first=0, mark=None)
        for at_s, step, net_Ah in samples:
            row = np.zeros((1, len(ROW)))
            for name, value in (("unix_time_s", at_s), ("step_index", step),
                                ("net_capacity_Ah", net_Ah)):  # fmt: skip
                row[0, ROW.index(name)] = value
            journal.rows(row)
        for event in events:
            journal.at_once("1-1", "on", index=0, **event)
        journal._let_go()  # nothing but what was durable at once
        if latest is not None:
            table = Latest(latest_path(path), 1)
            table.table[0] = 0.0
            for name, value in latest.items():
                table.table[0, COLUMNS.index(name)] = value
            table.write()
            table.close()
        run = ChannelRun(next(iter(file.channels.values())), "cell", resolve(study, "two"))
        Interrupted.read(path).restore(run, 0)
        return run.running

    return read


def test_a_step_that_was_written_down_and_no_more_has_no_output(stood):
    running = stood([])
    assert running.starts_s == [100.0]
    assert math.isnan(running.on_s)


def test_a_step_begins_when_its_output_went_on(stood):
    running = stood([{"step": 0, "at_s": 103.5, "ended_s": None}])
    assert (running.starts_s, running.on_s, running.end_s) == ([103.5], 103.5, 103.5)


def test_a_step_of_which_no_sample_is_durable_has_begun_all_the_same(stood):
    events = [{"step": 0, "at_s": 101.0, "ended_s": None},
              {"step": 1, "at_s": 144.0, "ended_s": 141.0}]  # fmt: skip
    running = stood(events, [(102.0, 0, 0.01), (140.0, 0, 0.5)])
    assert (running.starts_s[1], running.on_s, running.ends_s) == (144.0, 144.0, [141.0])
    assert running.moved_Ah == [0.5, 0.0]
    assert running.is_seen


def test_samples_of_the_second_step_say_more_than_when_it_began(stood):
    events = [{"step": 0, "at_s": 101.0, "ended_s": None},
              {"step": 1, "at_s": 144.0, "ended_s": 141.0}]  # fmt: skip
    running = stood(events, [(141.0, 0, 0.5), (145.0, 1, 0.4)])
    assert len(running.starts_s) == 2
    assert running.moved_Ah == pytest.approx([0.5, -0.1])
    assert running.on_s == 144.0


@pytest.mark.parametrize("last_s", [130.0, 135.0])
def test_how_long_a_step_had_run_stands_beside_its_last_sample(stood, last_s):
    """Whether that sample is a row already, as after a return that was refused, or not."""
    latest = {"unix_time_s": last_s, "step_index": 0, "net_capacity_Ah": 0.3,
              "elapsed_s": last_s - 102.0}  # fmt: skip
    running = stood([], [(130.0, 0, 0.3)], latest)
    assert running.starts_s == [102.0]
    assert running.end_s == last_s
