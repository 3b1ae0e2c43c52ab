"""A door that opens ends the run; a run does not begin with an open door; rates stop a channel."""

from types import SimpleNamespace

import pytest
from small_bench import (
    SHORT,
    assert_one_stopped,
    assert_safe,
    load_cells,
    replace,
    sealed,
    small_study,
)

from batterylab.bench.benchfile import BenchFile
from batterylab.bench.interlocks import InterlockEntry, Interlocks
from batterylab.bench.session import interrupted_runs, resume_study, run_study
from batterylab.errors import EnvironmentFailedError, ProblemsError
from batterylab.study import Study

LIMITS = "limits: {voltage: [2.45 V, 4.25 V], temperature: 50 degC, debounce: 3 samples"
DOOR = 'interlocks:\n  door: {input: "temps:320", safe: [4 V, 6 V]}\n'
GAS = '  gas: {input: "temps:319", safe: [1 V, 2 V], debounce: 2 samples}\n'


def guarded(bench_of, more=DOOR, limits=""):
    """Return a bench with interlocks, or with further limits."""
    change = [("bench.yaml", LIMITS, f"{more}{LIMITS}{limits}")]
    bench = bench_of(poll_s=10, change=change, is_loaded=False)
    load_cells(bench.study)
    return bench


def opens(bench, place=320, elapsed_s=300):
    """Let a contact open in the middle of the run."""
    bench.when(elapsed_s, lambda: bench.instrument("temps").open_interlock(place))


def test_a_door_that_opens_ends_the_run_which_can_be_resumed(bench_of):
    bench = guarded(bench_of)
    opens(bench)
    with pytest.raises(EnvironmentFailedError, match=r"interlock door \(temps:320\) reads 0 V; "
                                                     "safe is 4 to 6 V"):  # fmt: skip
        run_study(bench.study, "ann")
    assert_safe(bench.study)
    (waiting,) = interrupted_runs(bench.study)
    assert waiting.reason.startswith("interlock door")
    with pytest.raises(EnvironmentFailedError, match="interlock door"):
        resume_study(bench.study, "ann")  # it is open still
    assert_safe(bench.study)
    bench.instrument("temps").close_interlocks()
    assert [why for _, why in resume_study(bench.study, "ann")] == ["", ""]
    for recording in sealed(bench.study).values():
        layer = next(row for row in recording.provenance["safety"] if row["what"] == "door")
        assert (layer["layer"], layer["low"], layer["high"]) == ("L4 interlock", 4.0, 6.0)


def test_nothing_begins_with_an_open_door(bench_of):
    bench = guarded(bench_of, DOOR + GAS)
    bench.instrument("temps").open_interlock(319)
    with pytest.raises(EnvironmentFailedError, match="interlock gas"):
        run_study(bench.study, "ann")
    assert not bench.study.archive.exists()


@pytest.mark.parametrize("code", ["dead wire", "over range"])
def test_an_input_that_cannot_be_read_is_not_safe(bench_of, code):
    bench = guarded(bench_of, DOOR + GAS)
    scanner = bench.instrument("temps")

    def hurt():
        if code == "over range":
            scanner.open_relays.add(319)
        else:
            scanner.world.wired_V["temps", 319] = 0.02

    bench.when(300, hurt)
    with pytest.raises(EnvironmentFailedError, match=r"interlock gas .*(no reading|reads 0.02 V)"):
        run_study(bench.study, "ann")
    assert_safe(bench.study)


def test_a_glitch_shorter_than_the_debounce_stops_nothing(bench_of):
    bench = guarded(bench_of, DOOR + GAS)
    opens(bench, 319, 300)
    bench.when(310, lambda: bench.instrument("temps").close_interlocks())
    assert [why for _, why in run_study(bench.study, "ann")] == ["", ""]


def test_the_scanners_alarm_line_is_armed_with_the_limit(bench_of):
    change = [("bench.yaml", "model: keysight_daq970a,", "model: keysight_daq970a, alarm_line: 2,")]
    bench = bench_of(poll_s=10, change=change)
    run_study(bench.study, "ann")
    scanner = bench.instrument("temps")
    assert sorted(scanner.sources[2]) == sorted(scanner.scan)
    assert set(scanner.upper.values()) == {50.0}
    assert scanner.latch == "LATC"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [(", dV/dt: 0.02 mV/s", "voltage rate"), (", dT/dt: 0.01 K/min", "temperature rate")],
)
def test_a_change_that_is_too_fast_stops_the_channel(bench_of, limits, reason):
    bench = guarded(bench_of, "", limits)
    done = run_study(bench.study, "ann")
    assert all(reason in why for _, why in done)
    layers = [row["what"] for recording in sealed(bench.study).values()
              for row in recording.provenance["safety"]]  # fmt: skip
    assert any("rate" in what for what in layers)


def test_a_cell_that_runs_away_is_stopped_by_its_rate_and_the_other_goes_on(bench_of):
    bench = guarded(bench_of, "", ", dT/dt: 3 K/min")
    channel, serial = next(iter(bench.study.log.occupied().items()))
    place = bench.place(channel)
    bench.when(400, lambda: bench.world.bank.state.__setitem__((place, 2), 312.0))
    assert_one_stopped(bench, run_study(bench.study, "ann"), serial, "temperature rate")


def test_all_mistakes_are_told_at_once(tmp_path):
    study = small_study(tmp_path / "s", SHORT)
    bad = (
        'interlocks:\n  a: {input: "temps:101", safe: [4 V, 6 V]}\n'
        '  b: {input: "oven:1", safe: [4 V, 6 V]}\n  c: {input: "temps:320", safe: [6 V, 4 V]}\n'
        '  d: {input: "temps:320", safe: [0 V, 1 V]}\n'
    )
    replace(study.bench_path, LIMITS, bad + LIMITS)
    replace(study.bench_path, "model: hioki_bt3562a,", "model: hioki_bt3562a, alarm_line: 1,")
    with pytest.raises(ProblemsError) as caught:
        BenchFile.open(Study.open(study.path).bench_path)
    text = str(caught.value)
    for part in ("temps:101 has the thermocouple of 1-1", "'oven:1': there is no such scanner",
                 "6 to 4 V is no range", "temps:320 is the input of c", "0 V would be safe",
                 "hioki_bt3562a has no alarm lines"):  # fmt: skip
        assert part in text
    replace(study.bench_path, bad, 'interlocks:\n  a: {input: "temps", safe: [4 V, 6 V]}\n')
    with pytest.raises(ProblemsError, match="interlocks"):
        BenchFile.open(study.bench_path)


def test_a_reading_that_is_too_old_ends_the_run():
    door = InterlockEntry.model_validate({"input": "temps:320", "safe": ["4 V", "6 V"]})
    scanner = SimpleNamespace(input_V={320: 5.0})
    interlocks = Interlocks({"door": door}, {"temps": scanner}, stale_s=30.0)
    interlocks.look(1000.0)
    interlocks.check_age(1030.0)
    with pytest.raises(EnvironmentFailedError, match="not read for 31 s"):
        interlocks.check_age(1031.0)
    interlocks.look(1031.0)
    interlocks.check_age(1031.0)
    Interlocks({}, {}, stale_s=30.0).check_age(1e9)  # nothing to be read
