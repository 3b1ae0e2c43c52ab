"""A whole archive at once: the same fits from processes as one by one, failures marked."""

import made_recordings as made
import pytest

from batterylab.archive import write
from batterylab.errors import BatterylabError
from batterylab.fit import archivebatch
from batterylab.fit.archivebatch import fit_archive, fits_in_order
from batterylab.fit.store import Job, archive_fits, prepare
from batterylab.simulated.cell import CellTruth, SimulatedCell


def inspection(seed, **more):
    bench = made.Bench(SimulatedCell(CellTruth()), soc=0.5, every_s=30.0,
                       meters=made.Meters(voltage_noise_V=2e-4, seed=seed))  # fmt: skip
    bench.rest(3600)
    bench.constant(-5.0, 10, measure="dcir_as_delivered", every_s=1.0)
    bench.rest(40, every_s=1.0)
    bench.constant(3.75, 10, measure="dcir_charge_as_delivered", every_s=1.0)
    bench.rest(1800)
    return bench.recording(protocol="incoming_inspection", **more)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batch") / "archive"
    for number in range(3):
        write(inspection(number, serial=f"A1-{number:03d}"), folder)
    write(made.slow_discharge(serial="A1-000"), folder)
    return folder


def jobs(archive, name):
    results = archive.parent / name
    made_ = [prepare("circuit", None, None, results, "incoming_inspection"),
             prepare("spme", None, None, results, "incoming_inspection"),
             prepare("ocv", None, None, results)]  # fmt: skip
    made_[1].tables = archive.parent / "tables"  # the same for all: PyBaMM is slow to import
    return made_


def test_processes_find_what_one_finds_and_nothing_twice(archive, monkeypatch):
    alone = fits_in_order(archive, jobs(archive, "alone"))
    assert [len(fits) for fits in alone] == [3, 3, 1]
    assert all(fit.converged for fits in alone for fit in fits)
    monkeypatch.setattr(archivebatch, "FEW", 1)
    monkeypatch.setattr(archivebatch, "HANDFUL", 2)
    seen = []
    shared = fits_in_order(archive, jobs(archive, "shared"), lambda *at: seen.append(at), workers=2)
    assert [[f.to_dict() for f in fits] for fits in shared] == [
        [f.to_dict() for f in fits] for fits in alone
    ]
    assert seen == [(n, 4) for n in range(1, 5)]

    def never(*arguments):
        raise AssertionError("read again")

    monkeypatch.setattr(archivebatch, "read", never)
    assert len(list(fit_archive(archive, jobs(archive, "shared")))) == 4


def test_a_recording_that_cannot_be_fitted_is_marked_and_the_others_go_on(archive, monkeypatch):
    original = Job.fit

    def failing(job, recording):
        if recording.serial == "A1-001":
            raise BatterylabError("voltage_V, row 7: not a finite number")
        return original(job, recording)

    monkeypatch.setattr(Job, "fit", failing)
    job = prepare("circuit", None, None, archive.parent / "marked", "incoming_inspection")
    fits = archive_fits(archive, job)
    assert [f.converged for f in fits] == [True, False, True]
    assert "row 7" in fits[1].reason and not fits[1].values
    monkeypatch.setattr(Job, "fit", original)
    assert [f.reason for f in archive_fits(archive, job)] == [f.reason for f in fits]


def test_pulses_of_an_inspection_leave_the_capacities_at_the_sets(archive):
    job = prepare("spme", None, None, None, "incoming_inspection")
    (fit, *_) = archive_fits(archive, job)
    assert fit.parameters == ("y_start", "log_negative_time", "log_positive_time", "contact_ohm")
    assert fit.values["negative_loading"] == pytest.approx(1.0)
    assert any("held at the parameter set's" in note for note in fit.notes)
    assert abs(fit.values["contact_mOhm"] - 8.0) < 0.3  # the bench's cell has 8 mOhm
