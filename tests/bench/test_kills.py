"""A runner that is killed again and again: every durable row comes into the archive."""

import os
import signal

import numpy as np
import pytest
from mixed_bench import mixed_study
from small_bench import replace, sealed, status_file, wait_for

from batterylab.bench.journal import ROW, JournalContent
from batterylab.bench.process import run_here, start_detached, status_of
from batterylab.bench.session import interrupted_runs, journals
from batterylab.simulated import process as simulated
from batterylab.study import Study

LONG = """\
schema: batterylab.protocol/1
name: long
steps:
  - rest: {for: 60 s}
  - charge: {rate: 0.5C, until: 3.75 V, at_most: 1 h}
  - rest: {for: 2 min}
record: {every: 10 s}
"""
#: the supply's charge, in real time
TWENTY = """\
schema: batterylab.protocol/1
name: twenty
steps:
  - charge: {current: 0.8 A, for: 20 s}
record: {every: 1 s}
"""


def killed(study, *, after_s, resumes):
    """Start a runner, and kill it once so much of bench time has passed."""
    before = status_file(study).get("pid")
    start_detached(study, "ann", resumes=resumes)
    wait_for(lambda: status_file(study).get("pid") != before)  # not what an earlier one left
    wait_for(lambda: status_file(study).get("bench_time_s", 0) > after_s)
    (study.path / "run" / "guard.json").unlink(missing_ok=True)
    os.kill(status_file(study)["pid"], signal.SIGKILL)
    wait_for(lambda: status_of(study).get("guard"))
    wait_for(lambda: interrupted_runs(study))
    assert interrupted_runs(study)[0].reason == "its runner died"


def test_three_kills_lose_no_row_and_double_none(bench_of):
    bench = bench_of(LONG, poll_s=10)
    study = bench.study
    durable = b""
    for number, after_s in enumerate((80, 110, 140)):
        bench.slow_down()
        killed(study, after_s=after_s, resumes=number > 0)
        (path,) = journals(study)
        data = path.read_bytes()
        assert data.startswith(durable)
        durable = data[: JournalContent(path).whole_bytes]
    rows = JournalContent(path).rows
    bench.delay_s = 0.0
    assert [why for _, why in run_here(study, "bob", resumes=True)] == ["", ""]
    for index, recording in enumerate(sealed(study).values()):
        columns = recording.columns
        own = rows[rows[:, 0] == index][:, ROW.index("unix_time_s")]
        assert len(own) > 5
        assert set(own) <= set(columns["unix_time_s"])
        assert np.all(np.diff(columns["test_time_s"]) > 0)
        assert len(recording.provenance["pauses"]) >= 2  # one may die before its return is durable
        assert [step.kind for step in recording.steps] == ["rest", "charge", "rest"]


@pytest.mark.slow
def test_what_a_supply_moved_after_its_last_sample_is_reckoned_and_said(tmp_path):
    study = mixed_study(tmp_path / "s", TWENTY, only=("supply",))
    line = next(t for t in study.bench_path.read_text().splitlines() if t.startswith("clock:"))
    replace(study.bench_path, line, "")
    replace(study.bench_path, "poll: 10 s", "poll: 1 s")
    study = Study.open(study.path)
    bench = simulated.start(study.path, real_time=True)
    try:
        control = simulated.control_of(study.path)
        (serial,) = study.cells
        control.ask("insert", serial=serial, channel="E-1")
        study.log.append("load", "ann", serial=serial, channel="E-1")
        killed(study, after_s=5, resumes=False)
        assert run_here(study, "bob", resumes=True)[0][1] == ""
        (recording,) = sealed(study).values()
        remarks = recording.provenance["remarks"]
        assert any("reckoned from the current" in text for text in remarks), remarks
        (step,) = recording.steps
        moved_Ah = recording.columns["net_capacity_Ah"][step.last_row]
        reckoned = next(text for text in remarks if "reckoned" in text)
        assert moved_Ah == pytest.approx(0.8 * 20 / 3600, abs=1e-3 * float(reckoned.split()[0])
                                         + 0.8 * 1.5 / 3600)  # fmt: skip
        control.close()
    finally:
        simulated.finish(bench)
