"""Runs that are interrupted and go on: nothing lost, nothing doubled, refused where in doubt."""

import math
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
from mixed_bench import CHANNELS, mixed_study
from small_bench import (
    Threaded,
    cycler_now,
    load_cells,
    sealed,
    states_of,
    status_file,
    until_it_charges,
    wait_for,
)

from batterylab.bench import process as run
from batterylab.bench.channelrun import Carried
from batterylab.bench.journal import ROW, Journal, JournalContent
from batterylab.bench.latest import Latest
from batterylab.bench.process import is_running, run_here, start_detached, status_of
from batterylab.bench.resume import Return
from batterylab.bench.runner import Runner
from batterylab.bench.session import interrupted_runs, journals, resume_study, run_study
from batterylab.drivers.keysight_bt2200 import Bt2200
from batterylab.errors import EnvironmentFailedError, NotMetError, PausedError

LONG = """\
schema: batterylab.protocol/1
name: long
chamber: {temperature: 25 degC, within: 2 degC, soak: 1 min}
steps:
  - rest: {for: 60 s}
  - charge: {rate: 0.5C, until: 3.75 V, at_most: 1 h}
    measure: first
  - discharge: {rate: 0.4C, for: 10 min}
    measure: second
  - rest: {for: 2 min}
record: {every: 30 s, or_when: {voltage_moves: 5 mV}}
"""


class Died(BaseException):
    """The runner's end, where it is killed."""


def die():
    """Die here."""
    raise Died


def pause_at(seconds):
    """Return what pauses a run once, after that much of bench time."""
    seen = {"now": 0.0, "done": False}

    def report(data):
        seen["now"] = data.get("bench_time_s", 0.0)

    def should_stop():
        if seen["now"] >= seconds and not seen["done"]:
            seen["done"] = True
            raise PausedError("paused by the operator")
        return ""

    return {"report": report, "should_stop": should_stop}


def lithium_Ah(bench, serial):
    """Return the charge that sits in the simulated cell's negative electrode."""
    cell = bench.world.cells[serial]
    return float(bench.world.state_of(serial)[0] * cell.capacity_Ah["negative"])


def ends(recording):
    """Return the counters at the end of each step, and the steps' lengths."""
    rows = [step.last_row for step in recording.steps]
    return recording.columns["net_capacity_Ah"][rows], [s.duration_s for s in recording.steps]


@pytest.mark.parametrize("at_s", [30, 150, 400, 900])
def test_a_paused_run_goes_on_exactly_where_it_was(bench_of, at_s):
    whole = bench_of(LONG, name="whole", poll_s=10)
    run_study(whole.study, "ann")
    bench = bench_of(LONG, poll_s=10)
    with pytest.raises(PausedError):
        run_study(bench.study, "ann", **pause_at(at_s))
    assert all(state != "RUNNING" for state, _ in cycler_now(bench.study).values())
    (waiting,) = interrupted_runs(bench.study)
    assert waiting.reason == "paused by the operator"
    before = {i: waiting.content.rows[waiting.content.rows[:, 0] == i] for i in (0, 1)}
    bench.world.advance(bench.world.now_s + 1800)
    done = resume_study(bench.study, "bob")
    assert [why for _, why in done] == ["", ""]
    assert journals(bench.study) == []
    assert not list((bench.study.path / "journal").glob("*.latest"))
    reference = sealed(whole.study)
    for i, (serial, recording) in enumerate(sealed(bench.study).items()):
        wanted_Ah, wanted_s = ends(reference[serial])
        found_Ah, found_s = ends(recording)
        kinds = [step.kind for step in recording.steps]
        assert kinds == ["rest", "charge", "discharge" if "discharge" in kinds else "pulse", "rest"]
        moved_Ah, wanted = found_Ah[2] - found_Ah[1], wanted_Ah[2] - wanted_Ah[1]
        assert moved_Ah == pytest.approx(wanted, abs=1e-5)
        assert found_s[0] == pytest.approx(60, abs=1)
        assert found_s[2] == pytest.approx(600, abs=1)
        assert found_s[1] == pytest.approx(wanted_s[1], rel=0.25)
        columns = recording.columns
        assert np.all(np.diff(columns["test_time_s"]) > 0)  # nothing doubled
        assert np.diff(columns["unix_time_s"]).max() > 1800
        for row in before[i]:  # nothing lost
            assert row[2] in columns["unix_time_s"]
        (pause,) = recording.provenance["pauses"]
        assert pause["length_s"] >= 1800
        assert pause["operator"] == "bob"
        assert any("paused for" in remark for remark in recording.provenance["remarks"])
        index = np.searchsorted(columns["test_time_s"], pause["at_s"])
        jump = np.diff(columns["net_capacity_Ah"])[max(index - 2, 0) : index + 2]
        assert np.abs(jump).max() < 2.5 * 35 / 3600  # no more than between two rows
    assert {s["state"] for s in states_of(bench.study).values()} == {"valid with remark"}


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


def test_supplies_go_on_where_they_were(mixed):
    bench = mixed(only=("frame", "supply", "smu"))
    with pytest.raises(PausedError):
        run_study(bench.study, "ann", **pause_at(250))
    for stage in bench.world.supplies.values():
        assert not stage.is_on
    done = resume_study(bench.study, "ann")
    assert [why for _, why in done] == [""] * 3
    for recording in sealed(bench.study).values():
        assert [step.ended_by for step in recording.steps] == [
            "duration", "duration", "duration", "current", "voltage", "duration",
        ]  # fmt: skip
        assert np.all(np.diff(recording.columns["test_time_s"]) > 0)
        assert len(recording.provenance["pauses"]) == 1
    assert set(CHANNELS.values()) >= {
        r.provenance["channel"] for r in sealed(bench.study).values()
    }


def test_a_killed_runner_is_resumed_with_all_that_its_cycler_logged(bench_of):
    bench = bench_of(LONG, poll_s=10)
    bench.slow_down()
    study = bench.study
    before = {serial: lithium_Ah(bench, serial) for serial in study.cells}
    start_detached(study, "ann")
    pid = until_it_charges(study)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: status_of(study).get("guard"))
    assert status_of(study)["interrupted"] == {"run-0001": "its runner died"}
    rows = JournalContent(journals(study)[0]).rows
    bench.delay_s = 0.0
    done = run_here(study, "bob", resumes=True)
    assert [why for _, why in done] == ["", ""]
    for i, recording in enumerate(sealed(study).values()):
        columns = recording.columns
        assert set(rows[rows[:, 0] == i, 2]) <= set(columns["unix_time_s"])
        truth_Ah = lithium_Ah(bench, recording.serial) - before[recording.serial]
        assert columns["net_capacity_Ah"][-1] == pytest.approx(truth_Ah, abs=1.5e-3)
        assert np.all(np.diff(columns["test_time_s"]) > 0)
        charge = recording.steps[1]
        moved = columns["net_capacity_Ah"][charge.last_row]
        assert moved == pytest.approx(2.5 * charge.duration_s / 3600, rel=0.01)
    assert "interrupted" not in status_of(study)


def test_pause_and_resume_from_another_shell(bench_of):
    bench = bench_of(LONG, poll_s=10)
    bench.slow_down()
    study = bench.study
    start_detached(study, "ann")
    until_it_charges(study)
    status = run.pause(study)
    assert (status["phase"], status["exit_code"]) == ("paused", 0)
    assert not is_running(study)
    assert all(state == "ABORTED" for state, _ in cycler_now(study).values())
    start_detached(study, "ann", resumes=True)
    wait_for(lambda: status_file(study).get("phase") == "running")
    bench.delay_s = 0.0
    wait_for(lambda: not is_running(study))
    assert status_of(study)["exit_code"] == 0
    assert {s["state"] for s in states_of(study).values()} == {"valid with remark"}


def test_a_pulled_plug_is_resumed_once_it_is_in_again(bench_of):
    bench = bench_of(LONG, poll_s=10)

    def look(data):
        if data.get("bench_time_s", 0) >= 300 and "temps" in bench.servers:
            plugs.append(bench.servers["temps"])
            bench.kill("temps")

    plugs = []
    with pytest.raises(EnvironmentFailedError, match="temps"):
        run_study(bench.study, "ann", report=look)
    port, server = plugs[0]
    bench.servers["temps"] = (port, server)
    bench.loop.run(server.serve("127.0.0.1", port))
    assert [why for _, why in resume_study(bench.study, "ann")] == ["", ""]


SWITCHED = """\
schema: batterylab.protocol/1
name: long
steps:
  - charge: {rate: 0.5C, for: 10 min}
    measure: first
  - discharge: {rate: C/2 of first, for: 10 min}
    measure: second
  - charge: {rate: C/2 of second, for: 10 min}
record: {every: 30 s}
"""


STEADY = """\
schema: batterylab.protocol/1
name: long
steps:
  - charge: {rate: 0.5C, for: 10 min}
  - discharge: {rate: 0.4C, for: 10 min}
record: {every: 30 s}
"""


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("is_told", [False, True])
def test_a_death_at_the_start_of_a_sequence_loses_and_doubts_nothing(
    bench_of, monkeypatch, number, is_told
):
    """The runner dies just before, or just after, the cycler is told to begin."""
    bench = bench_of(SWITCHED, poll_s=10)
    study = bench.study
    before = {serial: lithium_Ah(bench, serial) for serial in study.cells}
    start, calls = Bt2200.start, []

    def start_and_die(self, channels, slot=None):
        calls.append(slot)
        if len(calls) == number:
            (path,) = journals(study)
            last = JournalContent(path).events[-1]
            assert (last["what"], last["at_s"]) == ("segment", self.link.clock.now() // 1)
        if len(calls) != number or is_told:
            start(self, channels, slot)
        if len(calls) == number:
            bench.world.advance(bench.world.now_s + 0.4)
            raise Died

    with monkeypatch.context() as patch:
        patch.setattr(Bt2200, "start", start_and_die)
        patch.setattr(Runner, "_abandon", lambda self, error: self.make_safe())
        with pytest.raises(Died):
            run_study(study, "ann")
    assert [why for _, why in resume_study(study, "bob")] == ["", ""]
    for recording in sealed(study).values():
        assert len(recording.steps) == 3
        truth_Ah = lithium_Ah(bench, recording.serial) - before[recording.serial]
        assert recording.columns["net_capacity_Ah"][-1] == pytest.approx(truth_Ah, abs=1e-3)
        assert not any("resumed although" in text for text in recording.provenance["remarks"])
        assert np.all(np.diff(recording.columns["test_time_s"]) > 0)


def test_a_runner_that_dies_twice_in_a_second_step_knows_its_charge(bench_of, monkeypatch):
    """What the first step came to was moved by an earlier sequence: the counter has it no more."""
    bench = bench_of(STEADY, poll_s=10)
    before = {serial: lithium_Ah(bench, serial) for serial in bench.study.cells}
    with monkeypatch.context() as patch:
        patch.setattr(Runner, "_abandon", lambda self, error: self.make_safe())
        for count, at_s in enumerate((100, 750, 900)):
            with pytest.raises(PausedError):
                go_on = resume_study if count else run_study
                go_on(bench.study, "ann", **pause_at(at_s))
    assert [why for _, why in resume_study(bench.study, "ann")] == ["", ""]
    for recording in sealed(bench.study).values():
        assert len(recording.provenance["pauses"]) == 3
        truth_Ah = lithium_Ah(bench, recording.serial) - before[recording.serial]
        assert recording.columns["net_capacity_Ah"][-1] == pytest.approx(truth_Ah, abs=1e-3)
        assert not any("resumed although" in text for text in recording.provenance["remarks"])


def test_a_return_that_dies_over_a_gap_leaves_word_of_it(bench_of, monkeypatch):
    """Samples are lost; a return fetches later ones and dies before it says how far that came."""
    bench = bench_of(STEADY, poll_s=10)
    before = {serial: lithium_Ah(bench, serial) for serial in bench.study.cells}
    rows, write = Journal.rows, Latest.write
    seen = {"now": 0.0}

    def until_100_s(work):
        return lambda self, *data: work(self, *data) if seen["now"] < 100 else None

    def report(data):
        seen["now"] = data.get("bench_time_s", 0.0)

    def should_stop():
        if seen["now"] >= 130:
            raise Died
        return ""

    def die_late(self, error):
        bench.world.advance(bench.world.now_s + 5)
        self.make_safe()

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "rows", until_100_s(rows))
        patch.setattr(Latest, "write", until_100_s(write))
        patch.setattr(Runner, "_abandon", die_late)
        with pytest.raises(Died):
            run_study(bench.study, "ann", report=report, should_stop=should_stop)
    with monkeypatch.context() as patch:
        patch.setattr(Return, "_lost", lambda self, *_: die())
        patch.setattr(Runner, "_abandon", lambda self, error: self.make_safe())
        with pytest.raises(Died):
            resume_study(bench.study, "ann")
    assert [why for _, why in resume_study(bench.study, "ann")] == ["", ""]
    for recording in sealed(bench.study).values():
        truth_Ah = lithium_Ah(bench, recording.serial) - before[recording.serial]
        assert recording.columns["net_capacity_Ah"][-1] == pytest.approx(truth_Ah, abs=1e-3)
        assert any("without a sample" in text for text in recording.provenance["remarks"])


def test_a_refused_charge_is_refused_again_until_it_is_accepted(bench_of, monkeypatch):
    bench = bench_of(STEADY, poll_s=10)
    counted = Bt2200.moved_Ah
    with monkeypatch.context() as patch:
        patch.setattr(Runner, "_abandon", lambda self, error: self.make_safe())
        with pytest.raises(PausedError):
            run_study(bench.study, "ann", **pause_at(100))
    with monkeypatch.context() as patch:
        patch.setattr(Bt2200, "moved_Ah", lambda self, channels: {
            number: Ah + 0.1 for number, Ah in counted(self, channels).items()
        })
        for _ in range(2):
            with pytest.raises(NotMetError, match="capacity: the record says"):
                resume_study(bench.study, "ann")
        done = resume_study(bench.study, "ann", accepted=("capacity",))
    assert [why for _, why in done] == ["", ""]
    for recording in sealed(bench.study).values():
        assert any("resumed although" in text for text in recording.provenance["remarks"])


@pytest.mark.parametrize(("counted_Ah", "is_lost"), [(2e-3, True), (5e-3, False)])
def test_what_flowed_before_a_first_durable_sample_is_taken_from_the_counter(counted_Ah, is_lost):
    """Two seconds at 3.6 A after a rest: the last sample says nothing of that current."""
    last = np.zeros(len(ROW))
    run = SimpleNamespace(
        before=[], results=[], carried=Carried(0.0, 2.0), lost_s=2.0, remarks=[],
        pending=SimpleNamespace(steps=[SimpleNamespace(current_A=3.6)]),
        entry=SimpleNamespace(name="1-1"),
    )  # fmt: skip
    back = Return(SimpleNamespace(content=None), {})
    assert back._lost(run, 0.0, counted_Ah, last) == (counted_Ah if is_lost else 0.0)
    assert [each.check for each in back.differences] == ([] if is_lost else ["capacity"])


@pytest.mark.parametrize("times", [1, 2])
def test_a_counter_that_does_not_answer_once_is_asked_again(times):
    answers = [EnvironmentFailedError("no reply")] * times + [{3: 0.5}]

    def moved_Ah(channels):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    run = SimpleNamespace(running=True, entry=SimpleNamespace(name="1-1", cycler_channel=3))
    frame = SimpleNamespace(members=[(0, run)], driver=SimpleNamespace(moved_Ah=moved_Ah))
    back = Return(SimpleNamespace(content=None), {})
    assert back._counted(SimpleNamespace(frame=frame)) == ({0: 0.5} if times == 1 else {})
    assert [each.check for each in back.differences] == ([] if times == 1 else ["capacity"])


# -- refusals --------------------------------------------------------------------------------
def paused(bench_of):
    bench = bench_of(LONG, poll_s=10)
    with pytest.raises(PausedError):
        run_study(bench.study, "ann", **pause_at(300))
    return bench


def coasted(running, last, guard, events=()):
    """Return what a killed runner's supply is reckoned to have moved, and what differs."""
    content = SimpleNamespace(events=list(events), head={"provenance": {}})
    back = Return(SimpleNamespace(content=content), guard)
    run = SimpleNamespace(running=running, entry=SimpleNamespace(name="E-1"))
    recorder = SimpleNamespace(net_Ah=np.zeros(1), net_Wh=np.zeros(1))
    frame = SimpleNamespace(name="supply", members=[(0, run)], recorder=recorder)
    back._coast(SimpleNamespace(frame=frame), [SimpleNamespace(last=last)])
    return float(recorder.net_Ah[0]), [each.check for each in back.differences]


def supply_at(current_A, *, seen, on_s=math.nan, starts_s=(-60.0,), ends_s=()):
    """Return what a supply ran that steps from 3.6 A to -1.8 A, and its last durable sample."""
    last = np.zeros(len(ROW))
    last[ROW.index("unix_time_s")], last[ROW.index("current_A")] = 1e9, current_A
    last[ROW.index("step_index")] = seen
    steps = [SimpleNamespace(mode="current", current_A=amps) for amps in (3.6, -1.8)]
    running = SimpleNamespace(
        moved_Ah=[0.5, 0.0], starts_s=[1e9 + s for s in starts_s], is_seen=seen >= 0,
        ends_s=[1e9 + s for s in ends_s], first_index=0, on_s=1e9 + on_s,
        segment=SimpleNamespace(steps=steps),
    )  # fmt: skip
    return running, last


@pytest.mark.parametrize(("wrote_s", "is_proven"), [(2.0, True), (-0.5, True), (-300.0, False)])
def test_a_guard_that_acted_before_the_last_sample_proves_nothing(wrote_s, is_proven):
    """Its word is of an earlier interruption: when the output went off now, nobody wrote."""
    guard = {"is_safe": True, "off_s": {"supply": 1e9 + wrote_s, "another": 1e9 + 60.0}}
    moved_Ah, differences = coasted(*supply_at(3.6, seen=0), guard)
    assert differences == ([] if is_proven else ["capacity"])
    assert moved_Ah == pytest.approx(1e-3 * max(wrote_s, 0.0))


def test_a_return_that_was_refused_leaves_the_reckoning_to_the_next():
    """It ends in good order, and what the supply moved unseen is still in no record."""
    guard = {"is_safe": True, "off_s": {"supply": 1e9 + 2.0}}
    refused = [{"what": "interrupted", "reason": "the bench does not agree"}]
    assert coasted(*supply_at(3.6, seen=0), guard, refused) == (pytest.approx(2e-3), [])


def test_nothing_is_reckoned_for_an_output_that_was_not_seen_to_go_on():
    """The runner died after a step was written down, and before the supply had begun it."""
    running, last = supply_at(3.6, seen=-1, starts_s=(1.0,))
    assert coasted(running, last, {}) == (0.0, [])


def test_a_step_is_reckoned_from_when_its_output_went_on():
    guard = {"is_safe": True, "off_s": {"supply": 1e9 + 5.0}}
    running, last = supply_at(0.0, seen=-1, on_s=3.0, starts_s=(3.0,))
    assert coasted(running, last, guard) == (pytest.approx(2e-3), [])


def test_the_end_of_one_step_and_the_begin_of_the_next_are_reckoned_each_for_itself():
    guard = {"is_safe": True, "off_s": {"supply": 1e9 + 8.0}}
    running, last = supply_at(3.6, seen=0, on_s=6.0, starts_s=(-60.0, 6.0), ends_s=(2.0,))
    moved_Ah, differences = coasted(running, last, guard)
    assert differences == []
    assert moved_Ah == pytest.approx(2 * 1e-3 - 2 * 0.5e-3)
    assert running.moved_Ah == pytest.approx([0.502, -0.001])


def test_another_cell_in_the_holder_is_refused(bench_of):
    bench = paused(bench_of)
    place = bench.place("1-1") if "1-1" in bench.study.log.occupied() else bench.place("2-1")
    other = next(iter(bench.world.cells.values())).rest_state(0.9, 25.0)
    bench.world.bank.state[place] = other
    bench.world.advance(bench.world.now_s + 5)
    with pytest.raises(NotMetError, match="voltage: 4") as caught:
        resume_study(bench.study, "ann")
    assert caught.value.exit_code == 3
    assert "--accept voltage" in str(caught.value)
    assert len(interrupted_runs(bench.study)) == 1  # it can be tried again
    done = resume_study(bench.study, "ann", accepted=("voltage",))
    assert [why for _, why in done] == ["", ""]
    remarks = [r.provenance["remarks"] for r in sealed(bench.study).values()]
    assert any("resumed although" in text for each in remarks for text in each)


def test_a_cold_chamber_is_refused_and_tempered_if_accepted(bench_of):
    bench = paused(bench_of)
    bench.world.air.is_running = False
    bench.world.air.actual_degC = 18.0
    with pytest.raises(NotMetError, match="chamber: its air is not at 25"):
        resume_study(bench.study, "ann")
    assert resume_study(bench.study, "ann", accepted=("chamber",))


def test_a_cell_that_was_taken_out_cannot_be_accepted(bench_of):
    bench = paused(bench_of)
    study = bench.study
    channel, serial = next(iter(study.log.occupied().items()))
    study.log.append("unload", "ann", serial=serial, channel=channel, fate="stored")
    with pytest.raises(NotMetError, match="holds no cell"):
        resume_study(study, "ann", accepted=("cell",))


def test_a_frame_that_was_switched_off_and_on_cannot_prove_its_charge(bench_of, monkeypatch):
    monkeypatch.setattr(Runner, "_abandon", lambda self, error: self.make_safe())  # as if killed
    bench = paused(bench_of)
    bench.instrument("cycler1").power_cycle()
    bench.world.advance(bench.world.now_s + 10)
    bench.world.bank.run[:, 6] = 0.0
    with pytest.raises(NotMetError, match="capacity"):
        resume_study(bench.study, "ann")
    assert resume_study(bench.study, "ann", accepted=("capacity",))
    assert {s["state"] for s in states_of(bench.study).values()} == {"valid with remark"}


def test_another_firmware_is_refused(bench_of):
    bench = paused(bench_of)
    frame = bench.instrument("cycler1")
    frame.identity = frame.identity.replace("1.2.1", "1.3.0")
    with pytest.raises(NotMetError, match="identity: is Keysight Technologies BT2203A"):
        resume_study(bench.study, "ann")
