"""What may import what, and who may open a socket."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import batterylab

PACKAGE = Path(batterylab.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
QUIET = ("fit", "features", "suppliers", "archive", "_kernels", "report", "importers")
NETWORK = {"socket", "pyvisa", "asyncio", "urllib", "http", "requests", "socketserver"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_one_module_imports_pybamm():
    guilty = {p.name for p in MODULES if any(n.split(".")[0] == "pybamm" for n in imported(p))}
    assert guilty == {"pybamm_border.py"}


def test_pybamm_is_imported_after_telemetry_is_switched_off():
    code = (
        "import os; os.environ.pop('PYBAMM_DISABLE_TELEMETRY', None)\n"
        "from batterylab.pybamm_border import version; version()\n"
        "assert os.environ['PYBAMM_DISABLE_TELEMETRY'] == 'true'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("part", QUIET)
def test_nothing_below_the_archive_knows_the_network(part):
    for path in MODULES:
        if path.relative_to(PACKAGE).parts[0] == part:
            names = {name.split(".")[0] for name in imported(path)}
            assert not names & NETWORK, path
            assert not any(n.startswith(("batterylab.drivers", "batterylab.bench",
                                         "batterylab.simulated")) for n in imported(path)), path


def test_drivers_know_no_protocol():
    for path in (PACKAGE / "drivers").glob("*.py"):
        assert not any("protocol" in name for name in imported(path)), path


def test_fit_and_simulation_open_no_socket():
    code = """
import socket, sys
def forbidden(*args, **kwargs):
    raise AssertionError("a socket was opened")
socket.socket.connect = forbidden
socket.socket.bind = forbidden
socket.create_connection = forbidden
socket.getaddrinfo = forbidden
import numpy as np
from batterylab.simulated.cell import CellTruth, SimulatedCell
from batterylab.pybamm_border import reference_spme
cell = SimulatedCell(CellTruth())
cell.follow(cell.rest_state(0.5), np.full(60, -1.0))
reference_spme("Chen2020", np.arange(1.0, 5.0), [(5.0, -1.0)], points=(5, 10))
import batterylab.fit
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_help_imports_no_heavy_library():
    code = (
        "import sys\nfrom batterylab.cli import cli\n"
        "try:\n    cli(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted(set(m.split('.')[0] for m in sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("numpy", "h5py", "pandas", "matplotlib", "pybamm", "scipy", "pydantic", "rich"):
        assert f"'{heavy}'" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="timed on POSIX only")
def test_the_help_is_quick():
    """At most four times `import click`, by the processor's time, best of several."""
    import resource

    def cpu_s(code):
        best = []
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            best.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(best)

    call = "import sys; sys.argv = ['batterylab', '--help']; import batterylab.cli as c; c.main()"
    assert cpu_s(call) <= 4 * cpu_s("import click")
