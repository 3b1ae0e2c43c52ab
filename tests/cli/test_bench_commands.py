"""The commands at the bench: protocol, bench, load, unload, run, status, stop."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from small_bench import (
    SHORT,
    PATIENT_s,
    Threaded,
    command,
    cycler_now,
    replace,
    small_study,
    until_it_charges,
)

from batterylab.archive import find
from batterylab.cli import main

CHARGING = """\
schema: batterylab.protocol/1
name: charging
steps:
  - charge: {rate: 1C, until: 4.0 V, at_most: 3 min}
"""


@pytest.fixture
def call(capsys):
    """Return what calls the command line in this process: exit code, stdout, stderr."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert "fault of batterylab" not in err
        return ended.value.code, out, err

    return run


@pytest.fixture
def bench(tmp_path):
    """Return a running bench of two cells, none of them loaded."""
    running = Threaded(small_study(tmp_path / "s", poll_s=10))
    yield running
    running.close()


def one_error(err):
    """There is one error, on one line, perhaps with a hint."""
    lines = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, err
    return err[err.index("Error: ") :]


def test_from_loading_to_the_archive_and_back(bench, call):
    study = bench.study
    code, out, err = call("run", study.path, "--yes")
    assert (code, one_error(err).splitlines()[1]) == (2, f"  hint: batterylab load {study.path}")
    code, out, err = call("load", study.path, "--operator", "ann", "--seed", 7)
    assert code == 0
    assert len(out.splitlines()) == 2
    assert "3.58" in out
    assert "2 channels hold a cell" in err
    (allotment,) = study.log.entries("allot")
    assert allotment["operator"] == "ann"
    assert allotment["data"]["seed"] == 7
    assert allotment["data"]["channels"] == study.log.occupied()
    code, _, err = call("load", study.path)
    assert code == 2
    assert "no cell is left to load" in one_error(err)

    before = study.log.path.read_bytes()
    code, out, err = call("run", study.path, "--dry-run")
    assert code == 0
    assert "short: 2 channels, about 1.0 h" in err
    assert study.log.path.read_bytes() == before
    assert not study.archive.exists()

    code, out, err = call("run", study.path, "--yes", "--operator", "ann")
    assert code == 0
    assert f"2 recordings in {study.archive}" in out
    assert "the runner is process" in err
    assert len(find(study.archive)) == 2
    code, _, err = call("run", study.path, "--yes")
    assert code == 0
    assert "every loaded cell has its recordings" in err

    code, out, _ = call("status", study.path)
    assert code == 0
    assert out.splitlines()[0] == "ended"
    code, out, _ = call("status", study.path, "--json")
    data = json.loads(out)
    assert {k: data[k] for k in ("phase", "exit_code", "is_running")} == {
        "phase": "ended", "exit_code": 0, "is_running": False,
    }  # fmt: skip
    assert data["loaded"] == study.log.occupied()
    documented = (Path(__file__).parents[2] / "docs" / "bench.md").read_text()
    assert all(f"`{key}`" in documented for key in data)
    assert call("stop", study.path)[:2] == (0, "nothing runs\n")

    first = next(iter(study.log.occupied()))
    code, out, _ = call("unload", study.path, first, "--fate", "returned")
    assert (code, out.split()[1:]) == (0, [first, "returned"])
    code, _, err = call("unload", study.path, first)
    assert (code, "is empty" in one_error(err)) == (2, True)
    code, _, err = call("unload", study.path, "--fate", "eaten")
    assert code == 2
    assert "one of stored, returned, scrapped, moved, next test" in one_error(err)
    assert call("unload", study.path)[0] == 0
    assert study.log.occupied() == {}


def test_a_run_in_the_foreground_and_again_for_what_is_missing(bench, call):
    study = bench.study
    call("load", study.path)
    code, out, _ = call("run", study.path, "--foreground", "--yes")
    assert (code, out) == (0, f"2 recordings in {study.archive}\n")
    seal = next(entry.seal for entry in find(study.archive) if entry.serial == "A1-002")
    study.log.set_state(seal, "invalid", "operator error", "bob")
    code, out, err = call("run", study.path, "--foreground", "--yes")
    assert (code, out) == (0, f"1 recordings in {study.archive}\n")
    assert "short: 1 channels" in err
    assert [entry.serial for entry in find(study.archive)] == ["A1-001", "A1-002", "A1-002"]


def test_stop_from_another_terminal(bench, call):
    study = bench.study
    call("load", study.path)
    bench.slow_down()
    follower = subprocess.Popen(
        [sys.executable, "-m", "batterylab", "run", str(study.path), "--yes"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until_it_charges(study)
    code, out, _ = call("status", study.path)
    assert (code, out.split()[0]) == (0, "running")
    code, _, err = call("run", study.path, "--yes")
    assert (code, "this study is running" in one_error(err)) == (1, True)
    for arguments in (("load", study.path), ("unload", study.path)):
        code, _, err = call(*arguments)
        assert (code, "this study is running" in one_error(err)) == (1, True)
    code, out, _ = call("stop", study.path)
    assert (code, out) == (0, "stopped; stopped by the operator\n")
    assert all(state == "ABORTED" for state, _ in cycler_now(study).values())
    out, err = follower.communicate(timeout=PATIENT_s)
    assert follower.returncode == 130
    assert one_error(err) == "Error: stopped by the operator\n"


def test_ctrl_c_in_the_foreground_is_safe_and_130_and_can_be_resumed(bench, call):
    import signal

    study = bench.study
    command("load", study.path)
    bench.slow_down()
    run = subprocess.Popen(
        [sys.executable, "-m", "batterylab", "run", str(study.path), "--yes", "--foreground"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until_it_charges(study)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=PATIENT_s)
    assert run.returncode == 130
    assert err.splitlines()[-1] == "Interrupted."
    assert all(state == "ABORTED" for state, _ in cycler_now(study).values())
    code, out, _ = call("status", study.path)
    assert "run-0001 was interrupted: interrupted from the keyboard" in out
    code, _, err = call("run", study.path, "--yes")
    assert (code, "`batterylab resume" in err) == (2, True)
    bench.delay_s = 0.0
    code, _, err = call("resume", study.path, "--yes")
    assert code == 0, err
    assert {s["state"] for s in study.log.states().values()} == {"valid with remark"}


def test_a_stopped_channel_is_exit_code_four(tmp_path, call):
    study = small_study(tmp_path / "s", CHARGING)
    bench = Threaded(study)
    try:
        call("load", study.path)
        code, _, err = call("run", study.path, "--yes")
        assert code == 4
        text = one_error(err)
        assert text.startswith("Error: stopped for safety:\n")
        assert text.count("CURR_GE 0 in step 1") == 2
        assert {s["state"] for s in study.log.states().values()} == {"invalid"}
    finally:
        bench.close()


# -- nobody there ----------------------------------------------------------------------------
def test_a_bench_that_is_not_there(tmp_path, call):
    study = small_study(tmp_path / "s")
    study.log.append("load", "ann", serial="A1-001", channel="1-1")
    for arguments in (("load",), ("unload",), ("run", "--yes"), ("run", "--foreground")):
        name, *options = arguments
        code, _, err = call(name, study.path, *options)
        assert code == 1, arguments
        assert "127.0.0.1" in one_error(err)
    code, _, err = call("bench", "check", study.path)
    assert code == 1
    assert "clock 127.0.0.1:" in one_error(err)
    assert "batterylab bench simulate" in err
    assert not study.archive.exists()


def test_an_instrument_that_does_not_answer(bench, call):
    """It takes connections, and says nothing."""
    study = bench.study
    bench.kill("meter")
    address = next(line for line in study.bench_path.read_text().splitlines() if "meter:" in line)
    port = int(address.split("127.0.0.1::")[1].split("::")[0])
    with socket.create_server(("127.0.0.1", port)):
        code, out, err = call("bench", "check", study.path, "--json")
        assert code == 1
        found = json.loads(out)
        assert set(found["answering"]) == {"cycler1", "temps", "chamber"}
        assert "BT2203A" in found["answering"]["cycler1"]
        assert list(found["failed"]) == ["meter"]
        assert "meter" in one_error(err)
        code, _, err = call("load", study.path)
        assert code == 1
        assert "meter" in one_error(err)
    assert study.log.entries() == []


def test_an_instrument_that_is_another(bench, call):
    study = bench.study
    replace(study.bench_path, "MY58000516", "MY00000000")
    code, out, err = call("bench", "check", study.path)
    assert code == 1
    assert "MY58000516" in one_error(err)
    assert len(out.splitlines()) == 3
    code, _, err = call("load", study.path)
    assert code == 1
    assert "MY58000516" in one_error(err)


def test_a_port_in_use(tmp_path):
    study = small_study(tmp_path / "s")
    address = next(line for line in study.bench_path.read_text().splitlines() if "temps:" in line)
    port = int(address.split("127.0.0.1::")[1].split("::")[0])
    with socket.create_server(("127.0.0.1", port)):
        found = command("bench", "simulate", study.path)
    assert found.returncode == 1
    assert f"temps: port {port} cannot be used" in one_error(found.stderr)
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("bench.yaml", "clock:", "# clock:", "no clock: this is a real bench"),
        ("bench.yaml", "TCPIP::127.0.0.1::", "TCPIP::10.0.0.11::", "no address of this machine"),
        ("simulation.yaml", "seed: 1", "seed: one", "simulation.yaml:3 (seed)"),
        ("simulation.yaml", "start:", "strat:", "did you mean 'start'?"),
    ],
)
def test_a_bench_that_cannot_be_simulated(tmp_path, call, file, old, new, message):
    study = small_study(tmp_path / "s", change=[(file, old, new)])
    code, _, err = call("bench", "simulate", study.path)
    assert code == 2
    assert message in one_error(err)


def test_a_real_bench_is_not_simulated(tmp_path, call):
    study = small_study(tmp_path / "s")
    (study.path / "simulation.yaml").unlink()
    code, _, err = call("bench", "simulate", study.path)
    assert (code, "needs a study with simulation.yaml" in one_error(err)) == (2, True)
    study.bench_path.unlink()
    code, _, err = call("bench", "check", study.path)
    assert (code, "there is no bench.yaml here" in one_error(err)) == (2, True)


def test_limits_of_a_bench(tmp_path, call):
    study = small_study(tmp_path / "s")
    code, out, _ = call("bench", "limits", study.path, "--json")
    assert code == 0
    assert json.loads(out) == {
        "voltage_min_V": 2.45, "voltage_max_V": 4.25, "temperature_max_degC": 50.0,
        "debounce_samples": 3.0, "poll_s": 30.0, "stale_s": 60.0, "channels": 4,
    }  # fmt: skip
    code, out, _ = call("bench", "limits", study.bench_path)
    assert (code, "2.45 to 4.25 V" in out) == (0, True)


# -- files that are wrong --------------------------------------------------------------------
@pytest.mark.parametrize(
    ("file", "old", "new", "where"),
    [
        ("protocols/short.yaml", "at_most: 1 h", "at_mots: 1 h",
         "short.yaml:12 (steps.3.charge.at_mots)"),
        ("protocols/short.yaml", "rate: 1C", "rate: 9C", "short.yaml:9 (steps.1.discharge.rate)"),
        ("bench.yaml", "poll:", "pol:", "bench.yaml:12 (pol)"),
        ("bench.yaml", "[2.45 V, 4.25 V]", "[2.45 V, 4.1 V]", "bench.yaml:11 (limits.voltage)"),
        ("study.yaml", "protocols: [short]", "protocols: [shrot]", "study.yaml:17 (protocols.0)"),
        ("cells.csv", "A1-002,Alpha", "A1-002,Alpa", "cells.csv:3"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told_with_its_line_before_anything_starts(
    bench, call, file, old, new, where
):
    study = bench.study
    call("load", study.path)
    before = study.log.path.read_bytes()
    replace(study.path / file, old, new)
    code, _, err = call("run", study.path, "--yes")
    assert code == 2
    assert where in one_error(err)
    assert "hint: " in err
    assert study.log.path.read_bytes() == before
    assert not (study.path / "run" / "status.json").exists()


def test_protocols_are_listed_shown_and_checked(tmp_path, call):
    study = small_study(tmp_path / "s")
    code, out, _ = call("protocol", "list", "--study", study.path)
    assert code == 0
    assert ["short", "ten minutes of everything"] in [
        line.split(maxsplit=1) for line in out.splitlines()
    ]
    code, out, _ = call("protocol", "list", "--json")
    listed = {entry["name"]: entry for entry in json.loads(out)}
    assert listed["incoming_inspection"]["basis"]
    assert "short" not in listed
    code, out, _ = call("protocol", "show", "capacity_resistance", "--json")
    data = json.loads(out)
    assert code == 0
    assert data["longest_h"] > data["expected_h"] > 30
    assert data["nodes"][0]["type"] == "until"
    assert data["nodes"][0]["body"][0]["current_A"] == pytest.approx(5 / 3)
    code, out, _ = call("protocol", "show", "capacity_resistance")
    assert "until the last 3 capacity lie within 0.15 Ah, at most 5 times:" in out
    assert "discharge  -1.667 A to 50 % SOC, at most 7200 s" in out
    code, out, _ = call("protocol", "check", "short", "--study", study.path)
    assert (code, out.startswith("short: no mistake found; about")) == (0, True)


def test_a_wrong_key_in_a_protocol_is_told_with_its_line(tmp_path, call):
    path = tmp_path / "mine.yaml"
    path.write_text(SHORT.replace("sample_every", "sample_evry"))
    code, _, err = call("protocol", "check", path)
    assert code == 2
    text = one_error(err)
    assert "mine.yaml:9 (steps.1.discharge.sample_evry): unknown key 'sample_evry'" in text
    assert "did you mean 'sample_every'?" in text
    code, _, err = call("protocol", "show", "shrot")
    assert (code, "there is no protocol 'shrot'" in one_error(err)) == (2, True)


def test_the_commands_answer_in_a_process_of_their_own(tmp_path):
    """Entry point, exit code and streams as a shell sees them."""
    path = tmp_path / "mine.yaml"
    path.write_text(SHORT.replace("times", "x").replace("at_most: 1 h", "at_most: 1"))
    found = command("protocol", "check", path, env={**os.environ, "NO_COLOR": "1"})
    assert found.returncode == 2
    assert found.stdout == ""
    assert "mine.yaml:12 (steps.3.charge.at_most): 1 has no unit" in one_error(found.stderr)
