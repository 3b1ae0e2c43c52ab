"""`batterylab demo` at its smallest: no gauge part, one lot, so no verdict either."""

import json
import subprocess
import sys

import pytest


def demo(*arguments):
    command = [sys.executable, "-m", "batterylab", "demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_the_smallest_demo_ends_with_a_report(tmp_path):
    out = tmp_path / "d"
    done = demo("--lots", 1, "--cells", 2, "--seed", 5, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert set(data) == {"study", "decision", "reports", "recordings", "checks"}
    assert data["recordings"] == 4
    assert len(data["decision"]) == 5
    assert "NOT ENOUGH DATA" in data["decision"][0]
    assert (out / "results/report.pdf").read_bytes().startswith(b"%PDF")
    assert "running the protocol" in done.stderr


def test_a_folder_that_is_no_demo_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("important", encoding="utf-8")
    done = demo("--out", tmp_path)
    assert done.returncode == 2
    assert "is not empty, and no demo" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--cells", 100], "48 channels"), (["--suppliers", 0], "suppliers: 0")],
)
def test_a_size_that_cannot_be_starts_nothing(tmp_path, arguments, message):
    done = demo(*arguments, "--out", tmp_path / "d")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "d").exists()
