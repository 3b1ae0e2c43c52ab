"""What a check of a bench finds before it is left alone."""

import pytest
from mixed_bench import mixed_study
from small_bench import Threaded, load_cells, replace

from batterylab.bench.benchfile import BenchFile
from batterylab.bench.check import check_bench
from batterylab.bench.clock import BenchClock
from batterylab.bench.session import run_study
from batterylab.errors import NotMetError, ProblemsError


@pytest.fixture
def mixed(tmp_path):
    """Return a bench of every kind of cycler."""
    bench = Threaded(mixed_study(tmp_path / "s"))
    yield bench
    bench.close()


def checked(bench):
    """Check a bench as the command does."""
    file = BenchFile.open(bench.study.bench_path, bench.study.cell_type)
    clock = BenchClock(*file.clock_address)
    try:
        return check_bench(file, clock)
    finally:
        clock.close()


def test_supplies_tell_what_they_watch_and_who_can_stop_them(mixed):
    mixed.instrument("supply").answer("SYST:LOCK ON")
    for command in ("VOLT:PROT 4.25", "SYST:COMM:MON:TIM 5", "SYST:COMM:MON:ACT ON"):
        mixed.instrument("supply").answer(command)
    found = checked(mixed)
    assert set(found.answering) == {
        "frame", "supply", "itech", "smu", "small", "temps", "meter", "chamber",
    }  # fmt: skip
    assert found.protections["supply"]["voltage_max_V"] == 4.25
    assert found.protections["supply"]["watchdog_s"] == 5
    assert "voltage_max_V" in found.protections["itech"]
    assert found.stop == {
        "F-1": "second session", "E-1": "second session", "I-1": "second session",
        "K-1": "dead-socket port", "S-1": "dead-socket port",
    }  # fmt: skip
    # as it comes out of its box, an SMU would drain a cell
    assert any("drains a cell" in text for text in found.findings)
    # nobody serves the dead-socket ports of this bench: that is told, by name
    assert {"smu", "small"} == set(found.failed)
    assert all("dead-socket port" in text for text in found.failed.values())


def test_another_firmware_is_told(mixed):
    model = "model: keysight_daq970a"
    replace(mixed.study.bench_path, model, f"{model}, firmware: X")
    assert "bench.yaml says X" in checked(mixed).failed["temps"]


def test_what_nobody_could_stop_is_not_run(mixed):
    path = mixed.study.bench_path
    for model in ("keithley_2460", "ea_psb10000", "keysight_bt2200"):
        replace(path, f"model: {model}", f"model: {model}, stop: none")
    found = checked(mixed)
    assert found.unstoppable == ["K-1"]
    text = "\n".join(found.findings)
    assert "E-1: no path to a stop if the runner hangs; its watchdog ends it" in text
    assert "F-1: no path to a stop if the runner hangs; the sequence, bounded in time, ends" in text
    load_cells(mixed.study)
    with pytest.raises(NotMetError, match="smu: nobody could stop it"):
        run_study(mixed.study, "ann")
    assert not any(stage.is_on for stage in mixed.world.supplies.values())


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("channel: 1, temperature: \"temps:103\"", "channel: 1, temperature: \"temps:102\"",
         "thermocouple"),
        ("voltage: [2.45 V", "voltage: [1.9 V", "frame works from 2 V"),
        ("model: keysight_daq970a", "model: keysight_daq970a, sample: 2 s", "samples by itself"),
        ("model: keithley_2450", "model: keithly_2450", "did you mean 'keithley_2450'"),
    ],
)  # fmt: skip
def test_mistakes_that_only_the_instruments_know(mixed, old, new, says):
    replace(mixed.study.bench_path, old, new)
    with pytest.raises(ProblemsError, match=says) as caught:
        BenchFile.open(mixed.study.bench_path)
    assert all("bench.yaml:" in problem.where for problem in caught.value.problems)


def test_a_supply_is_one_channel(mixed):
    text = mixed.study.bench_path.read_text()
    more = text.replace("limits:", "  - {name: E-2, cycler: supply, channel: 2}\nlimits:", 1)
    mixed.study.bench_path.write_text(more)
    with pytest.raises(ProblemsError, match="a supply is one channel, not E-1, E-2"):
        BenchFile.open(mixed.study.bench_path)
