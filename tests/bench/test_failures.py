"""Runs that fail, are stopped or cut short: cells are safe, what was seen is kept, work goes on."""

import json
import re

import numpy as np
import pytest
from small_bench import assert_one_stopped, cycler_now, sealed, states_of

from batterylab.archive import find, read
from batterylab.bench import session
from batterylab.bench.attendant import Attendant
from batterylab.bench.journal import JournalContent
from batterylab.bench.session import (
    interrupted_runs,
    journals,
    open_work,
    recover,
    run_protocol,
    run_study,
)
from batterylab.drivers import catalogue
from batterylab.errors import BatterylabError, EnvironmentFailedError

HEAD = """\
schema: batterylab.protocol/1
name: {name}
chamber: {{temperature: 25 degC, within: 2 degC, soak: 1 min}}
"""
CHARGING = HEAD.format(name="charging") + """\
steps:
  - rest: {for: 30 s}
  - charge: {rate: 1C, until: 4.0 V, at_most: 1 h}
  - rest: {for: 30 s}
record: {every: 30 s, or_when: {voltage_moves: 20 mV}}
"""
RESTING = HEAD.format(name="resting") + """\
stop:
  - {when: temperature, above: 40 degC}
steps:
  - rest: {for: 10 min}
record: {every: 60 s}
"""


# -- failures --------------------------------------------------------------------------------
def assert_kept(study, at_least_s, *ends):
    """What was recorded before a failure waits to be resumed, or is sealed as invalid."""
    if interrupted_runs(study):
        recover(study, "ann")
    assert journals(study) == []
    found = sealed(study)
    assert set(found) == set(study.cells)
    states = states_of(study)
    for recording in found.values():
        assert recording.columns["test_time_s"][-1] >= at_least_s
        assert states[recording.seal]["state"] == "invalid"
        assert recording.steps[-1].ended_by in ("stopped", *ends)
        assert [step.ended_by for step in recording.steps[:-1]].count("stopped") == 0
    return {states[recording.seal]["reason"] for recording in found.values()}


def test_a_lost_cycler_ends_the_run_and_all_that_was_seen_is_sealed(bench_of):
    bench = bench_of(poll_s=10)
    seen = []

    def look(data):
        seen.append(data)
        if data.get("bench_time_s", 0) >= 300 and "cycler1" in bench.servers:
            bench.kill("cycler1")

    with pytest.raises(BatterylabError, match="cycler1") as caught:
        run_study(bench.study, "ann", report=look)
    assert caught.value.exit_code == 1
    assert "not confirmed safe" in str(caught.value)
    assert "disconnect these channels by hand" in caught.value.hint
    last_s = seen[-1]["bench_time_s"]
    (reason,) = assert_kept(bench.study, last_s)
    assert reason.startswith("aborted: cycler1 at ")
    # nothing that was seen is lost: the last row is that of the last look
    for recording in sealed(bench.study).values():
        assert recording.columns["test_time_s"][-1] == last_s


@pytest.mark.parametrize("name", ["temps", "chamber"])
def test_a_lost_scanner_or_chamber_ends_the_run_safely(bench_of, name, tmp_path, monkeypatch):
    shipped = catalogue.models()["keysight_daq970a"]
    text, count = re.subn(r"timeout_s = [0-9.]+", "timeout_s = 1.0", shipped.read_text())
    assert count == 1
    (tmp_path / "keysight_daq970a.toml").write_text(text)  # a scan may take long: not here
    monkeypatch.setenv("BATTERYLAB_INSTRUMENTS", str(tmp_path))
    bench = bench_of(poll_s=10)

    def look(data):
        if data.get("bench_time_s", 0) >= 300 and name in bench.servers:
            bench.kill(name)

    with pytest.raises(EnvironmentFailedError, match=name):
        run_study(bench.study, "ann", report=look)
    assert all(state == "ABORTED" for state, _ in cycler_now(bench.study).values())
    assert_kept(bench.study, 300)


def test_an_alarm_of_the_chamber_ends_the_run_safely(bench_of):
    bench = bench_of(poll_s=10)
    messages = bench.instrument("chamber").messages
    bench.when(400, lambda: messages.append(("1", "temperature limiter")))
    with pytest.raises(EnvironmentFailedError, match="the chamber reports an alarm"):
        run_study(bench.study, "ann")
    assert all(state == "ABORTED" for state, _ in cycler_now(bench.study).values())
    reasons = assert_kept(bench.study, 100)
    assert reasons == {"aborted: chamber: the chamber reports an alarm"}


def test_a_log_that_stands_still_ends_the_run_safely(bench_of):
    bench = bench_of(poll_s=10)
    frame = bench.instrument("cycler1")
    bench.when(400, lambda: bench.world.listeners.remove(frame.keep))
    with pytest.raises(EnvironmentFailedError, match="no new samples since"):
        run_study(bench.study, "ann")
    assert all(state == "ABORTED" for state, _ in cycler_now(bench.study).values())
    assert_kept(bench.study, 100)


def test_somebody_else_aborts_a_channel(bench_of):
    bench = bench_of(cells=4, poll_s=10)
    frame = bench.instrument("cycler1")
    channel, serial = next(iter(bench.study.log.occupied().items()))
    cell = {"1": 1001, "2": 2001}[channel[0]]
    assert channel.endswith("-1")
    bench.when(400, lambda: frame.answer(f"CELL:ABORT (@{cell})"))
    done = run_study(bench.study, "ann")
    assert_one_stopped(bench, done, serial, "reports ABORTED without our doing")


def test_a_fault_of_our_own_leaves_the_channels_safe(bench_of, monkeypatch):
    bench = bench_of(poll_s=10)
    counted = []
    take = Attendant.samples

    def faulty(self, *arguments):
        counted.append(1)
        if len(counted) > 10:
            raise ZeroDivisionError("a fault of our own")
        return take(self, *arguments)

    monkeypatch.setattr(Attendant, "samples", faulty)
    with pytest.raises(ZeroDivisionError):
        run_study(bench.study, "ann")
    assert all(state == "ABORTED" for state, _ in cycler_now(bench.study).values())
    # the step that ran was new: of it nothing had been seen
    assert assert_kept(bench.study, 99, "duration") == {"aborted: abandoned: ZeroDivisionError"}


def test_a_full_disk_leaves_the_channels_safe(bench_of, monkeypatch):
    bench = bench_of(poll_s=10)
    counted = []
    rows = session.Journal.rows

    def refusing(self, block):
        counted.append(1)
        if len(counted) > 20:
            raise EnvironmentFailedError(f"{self.path}: cannot be written: No space left on device")
        rows(self, block)

    monkeypatch.setattr(session.Journal, "rows", refusing)
    with pytest.raises(EnvironmentFailedError, match="No space left"):
        run_study(bench.study, "ann")
    monkeypatch.undo()
    assert all(state == "ABORTED" for state, _ in cycler_now(bench.study).values())
    assert_kept(bench.study, 50)


def test_a_request_to_stop_says_who_wanted_it(bench_of):
    bench = bench_of(poll_s=10)
    asked = []

    def should_stop():
        asked.append(1)
        return "stopped by the operator" if len(asked) > 30 else ""

    done = run_study(bench.study, "ann", should_stop=should_stop)
    assert {why for _, why in done} == {"stopped by the operator"}
    assert all(state == "ABORTED" for state, _ in cycler_now(bench.study).values())
    assert assert_kept(bench.study, 100) == {"aborted: stopped by the operator"}


def test_a_request_to_stop_before_anything_flows(bench_of):
    bench = bench_of()
    assert run_study(bench.study, "ann", should_stop=lambda: "SIGTERM") == []
    assert not bench.study.archive.exists()
    assert set(open_work(bench.study)["short"].values()) == set(bench.study.cells)


def test_a_bad_contact_is_told_before_anything_flows(bench_of):
    bench = bench_of()
    channel = next(iter(bench.study.log.occupied()))
    bench.world.bank.run[bench.place(channel), 20] = 2.0  # ohm, of the seat
    with pytest.raises(EnvironmentFailedError, match=f"no good contact in channel {channel}"):
        run_study(bench.study, "ann")
    assert not bench.study.archive.exists()
    assert journals(bench.study) == []


# -- again -----------------------------------------------------------------------------------
def test_a_second_run_does_what_is_missing(bench_of):
    bench = bench_of(cells=4)
    study = bench.study
    loaded = study.log.occupied()
    two = dict(list(loaded.items())[:2])
    run_protocol(study, "short", two, "ann")
    assert open_work(study) == {"short": dict(list(loaded.items())[2:])}
    done = run_study(study, "ann")
    assert {path.parent.name for path, _ in done} == set(loaded.values()) - set(two.values())
    assert open_work(study) == {"short": {}}
    assert run_study(study, "ann") == []
    # a recording that somebody declares invalid is wanted again
    seal = next(entry.seal for entry in find(study.archive) if entry.serial == "A1-002")
    study.log.set_state(seal, "invalid", "operator error", "bob")
    assert list(open_work(study)["short"].values()) == ["A1-002"]


def test_a_stopped_cell_is_not_driven_through_the_next_protocol(bench_of):
    bench = bench_of(CHARGING.replace("at_most: 1 h", "at_most: 3 min"), change=[
        ("study.yaml", "protocols: [charging]", "protocols: [charging, resting]")
    ])  # fmt: skip
    (bench.study.protocols_folder / "resting.yaml").write_text(RESTING)
    done = run_study(bench.study, "ann")
    assert {path.name.split("_")[0] for path, _ in done} == {"charging"}


def test_without_a_loaded_cell_there_is_nothing_to_run(bench_of):
    bench = bench_of(is_loaded=False)
    with pytest.raises(BatterylabError, match="no cell is loaded"):
        run_study(bench.study, "ann")


def journal_of(bench, monkeypatch):
    """Run, and return the bytes of the journal just before it was harvested."""
    kept = []
    seal = session._seal

    def keep(study, path, operator):
        kept.append(path.read_bytes())
        return seal(study, path, operator)

    monkeypatch.setattr(session, "_seal", keep)
    run_study(bench.study, "ann")
    monkeypatch.undo()
    return kept[0]


def test_a_journal_cut_anywhere_is_recovered_as_far_as_it_goes(bench_of, monkeypatch):
    bench = bench_of(poll_s=10)
    data = journal_of(bench, monkeypatch)
    whole = sealed(bench.study)
    other = bench_of(name="other")
    study = other.study
    folder = study.path / "journal"
    folder.mkdir()
    random = np.random.default_rng(1)
    cuts = [0, 3, 4, 20, len(data) - 1, *random.integers(21, len(data), 12).tolist()]
    for number, cut in enumerate(cuts, 1):
        path = folder / f"run-{number:04d}.journal"
        path.write_bytes(data[:cut])
        content = JournalContent(path)
        done = recover(study, "ann")
        assert not path.exists()
        if cut > 20 and len(content.rows):
            assert {path.parent.name for path, _ in done} <= set(whole)
            for path, why in done:
                recording = read(path)
                is_complete = {"channel": recording.provenance["channel"], "what": "complete"}
                if any(event.items() >= is_complete.items() for event in content.events):
                    assert why == ""
                    continue
                assert why == "its runner died"
                rows = len(recording)
                full = whole[recording.serial].columns
                for name, values in recording.columns.items():
                    np.testing.assert_array_equal(values, full[name][:rows])
        else:
            assert done == []
    set_aside = sorted(path.name for path in folder.iterdir())
    assert all(name.endswith(".damaged") for name in set_aside)
    assert "run-0001.damaged" in set_aside
    assert run_study(study, "ann")  # nothing of all that is in the way


def test_recovering_twice_adds_nothing(bench_of, monkeypatch):
    bench = bench_of(poll_s=10)
    data = journal_of(bench, monkeypatch)
    study = bench.study
    before = study.log.path.read_text()
    (study.path / "journal" / "run-0001.journal").write_bytes(data)
    again = recover(study, "ann")
    assert [path.name for path, _ in again] == [entry.path.name for entry in find(study.archive)]
    assert study.log.path.read_text() == before


def test_the_journals_head_says_what_the_run_is(bench_of, monkeypatch):
    bench = bench_of(poll_s=10)
    data = journal_of(bench, monkeypatch)
    path = bench.study.path / "x.journal"
    path.write_bytes(data)
    head = JournalContent(path).head
    assert head["run"] == "run-0001"
    assert head["protocol"] == "short"
    assert [channel["serial"] for channel in head["channels"]] == ["A1-001", "A1-002"]
    assert head["provenance"]["is_simulated"] is True
    json.dumps(head, allow_nan=False)


def test_a_look_or_two_without_samples_is_no_silence_where_looks_are_frequent(bench_of):
    bench = bench_of(poll_s=1)
    frame = bench.instrument("cycler1")
    keep = frame.keep
    taken = []

    def late(*block):
        taken.append(block)
        if not 150 <= len(taken) < 156:  # a few seconds come late
            while taken_late:
                keep(*taken_late.pop(0))
            keep(*block)
        else:
            taken_late.append(block)

    taken_late = []
    bench.world.listeners[bench.world.listeners.index(keep)] = late
    done = run_study(bench.study, "ann")
    assert [why for _, why in done] == ["", ""]
