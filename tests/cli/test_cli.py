"""The command line as a whole."""

import subprocess
import sys
import time

import pytest

HEAVY = ("numpy", "h5py", "pandas", "matplotlib", "pybamm", "scipy", "pydantic", "pyvisa", "rich")


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, **options
    )


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom batterylab.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    result = run("-c", code)
    assert "LOADED []" in result.stdout
    assert "score" in result.stdout


def test_help_takes_at_most_four_times_an_import_of_click():
    def seconds(*arguments):
        started = time.perf_counter()
        run(*arguments)
        return time.perf_counter() - started

    ratios = []
    for _ in range(7):
        ours = seconds("-m", "batterylab", "--help")
        ratios.append(ours / seconds("-c", "import click"))
    assert sorted(ratios)[3] <= 4.0


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--version"], 0, "batterylab, version"),
        (["scroe"], 2, "Did you mean 'score'?"),
        (["archive", "list", "/nowhere"], 2, "there is no such archive"),
        (["study", "check", "/nowhere"], 2, "there is no study.yaml here"),
        (["archive", "list"], 2, "Missing argument"),
    ],
)
def test_exit_codes_and_one_line_errors(arguments, code, text):
    result = run("-m", "batterylab", *arguments)
    assert result.returncode == code
    assert text in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_the_module_list_of_commands_is_whole():
    from batterylab.cli import COMMANDS, cli

    for name in COMMANDS:
        assert cli.get_command(None, name).help


def test_a_fault_of_ours_names_a_log_and_shows_no_traceback(monkeypatch):
    code = (
        "import batterylab.cli as c\n"
        "def boom(*a, **k): raise ZeroDivisionError('x')\n"
        "c.cli.main = boom\nc.main([])"
    )
    result = run("-c", code)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "batterylab-error-" in result.stderr
