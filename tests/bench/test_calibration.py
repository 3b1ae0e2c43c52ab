"""An overdue calibration is told, refused, and accepted only where the bench file says so."""

import json

import pytest
import small_bench
from click.testing import CliRunner

from batterylab.bench.benchfile import BenchFile
from batterylab.bench.calibration import overdue, refuse_overdue
from batterylab.bench.setup import Bench
from batterylab.cli.bench import bench as bench_command
from batterylab.errors import NotMetError, ProblemsError

OLD = "serial: MY58000516}"
#: the simulated bench begins on 2026-01-05
LATE = "serial: MY58000516, calibration_due: 2026-01-04}"
TODAY = "serial: MY58000516, calibration_due: 2026-01-05}"
ACCEPTED = LATE.replace("}", ", accept_overdue: true}")


@pytest.fixture
def study(tmp_path):
    """Return a maker of studies whose cycler has some calibration."""
    def make(text):
        return small_bench.small_study(tmp_path / "s", change=[("bench.yaml", OLD, text)])

    return make


@pytest.fixture
def served():
    """Return a maker of simulated benches in a thread."""
    running = []

    def make(study):
        running.append(small_bench.Threaded(study))
        return running[-1]

    yield make
    for one in running:
        one.close()


def file_of(study):
    return BenchFile.open(study.bench_path, study.cell_type)


def test_the_due_date_itself_is_not_overdue(study):
    file = file_of(study(TODAY))
    day_s = 1_767_571_200.0  # 2026-01-05T00:00Z
    assert overdue(file, day_s + 86399) == {}
    assert list(overdue(file, day_s + 86400)) == ["cycler1"]
    assert overdue(file, day_s + 86400, ["meter"]) == {}
    refuse_overdue(file, day_s + 86400, ["meter"])


def test_a_bench_with_an_overdue_instrument_is_not_opened(study, served):
    one = study(LATE)
    simulated = served(one)
    with pytest.raises(NotMetError, match="cycler1: its calibration was due on 2026-01-04") as told:
        Bench.open(file_of(one))
    assert "accept_overdue: true" in str(told.value)
    assert told.value.exit_code == 3
    Bench.open(file_of(one), ("meter",)).close()  # the others are in order
    assert simulated.world.air.is_running is False


def test_an_accepted_one_is_opened_and_every_recording_says_so(study, served):
    one = study(ACCEPTED)
    served(one)
    with small_bench.opened(one) as bench:
        channel = next(iter(bench.file.channels.values()))
        found = bench.describe(channel)["instruments"]
        assert found["cycler"]["calibration_overdue"] is True
        assert "calibration_overdue" not in found["scanner"]


@pytest.mark.parametrize(("text", "code"), [(LATE, 3), (ACCEPTED, 0), (TODAY, 0)])
def test_bench_check_lists_it(study, served, text, code):
    from batterylab.errors import BatterylabError

    one = study(text)
    served(one)
    result = CliRunner().invoke(bench_command, ["check", str(one.path), "--json"])
    found = json.loads(result.stdout)
    assert set(found) >= {"answering", "failed", "overdue"}
    assert len(found["answering"]) == 4
    assert list(found["overdue"]) == ([] if text == TODAY else ["cycler1"])
    error = result.exception
    assert (error.exit_code if isinstance(error, BatterylabError) else result.exit_code) == code


@pytest.mark.parametrize("due", ["2026-02-30", "soon", "2026-13-01", "20260101"])
def test_what_is_no_date_is_refused(study, due):
    with pytest.raises(ProblemsError, match="is no date"):
        file_of(study(LATE.replace("2026-01-04", due)))
