"""A session at the bench: run a study's protocols on the cells that are loaded."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from batterylab import __version__
from batterylab.bench.abilities import abilities_in
from batterylab.bench.benchfile import BenchFile
from batterylab.bench.channelrun import ChannelRun
from batterylab.bench.clock import may_take
from batterylab.bench.harvest import harvest
from batterylab.bench.journal import Journal, JournalContent
from batterylab.bench.latest import Latest
from batterylab.bench.resume import Return, check_files, guard_report, refuse
from batterylab.bench.runner import Runner
from batterylab.bench.setup import Bench
from batterylab.bench.standing import Interrupted, latest_path
from batterylab.errors import BatterylabError
from batterylab.protocol import Resolved, load
from batterylab.protocol.check import check
from batterylab.study import Study

#: longest that opening a bench may take in real time
OPEN_s = 60.0

Report = Callable[[dict[str, Any]], None]


def journals(study: Study) -> list[Path]:
    """Return the journals of a study, in order."""
    return sorted((study.path / "journal").glob("run-*.journal"))


def _next_journal(study: Study) -> Path:
    names = [path.stem for path in journals(study)]
    names += [entry["data"]["run"] for entry in study.log.entries("run")]
    numbers = [int(name.split("-")[1]) for name in names]
    return study.path / "journal" / f"run-{max(numbers, default=0) + 1:04d}.journal"


def resolve(study: Study, name: str) -> Resolved:
    """Return one of the study's protocols in numbers, held against the study's bench.

    Raises
    ------
    ProblemsError
        With everything that the cell type does not allow, or the bench cannot do.
    """
    resolved = load(name, search=[study.protocols_folder]).resolve(study.cell_type)
    check(resolved, abilities_in(study.path)).raise_problems()
    return resolved


def open_work(study: Study) -> dict[str, dict[str, str]]:
    """Return what is still to be done: by protocol, the loaded serial of each channel.

    A cell whose recording of a protocol is valid needs no other one.
    """
    loaded = study.log.occupied()
    states = study.log.states()
    done = {
        (entry["data"].get("serial"), entry["data"].get("protocol"))
        for entry in study.log.entries("recording")
        if entry["data"].get("part", "main") == "main"
        and states.get(entry["data"]["seal"], {}).get("state") not in ("invalid", "superseded")
    }
    return {
        protocol: {ch: serial for ch, serial in loaded.items() if (serial, protocol) not in done}
        for protocol in study.definition.protocols
    }


def run_study(
    study: Study, operator: str, *, report: Report | None = None,
    should_stop: Callable[[], str] | None = None, without: Collection[str] = (),
) -> list[tuple[Path, str]]:  # fmt: skip
    """Run every protocol of the study that its loaded cells still need.

    Parameters
    ----------
    without : collection of str
        Serials that are left out.

    Returns
    -------
    list of (Path, str)
        Each sealed recording, and why its channel was stopped; empty if it was not.

    Raises
    ------
    BatterylabError
        If no cell is loaded.
    EnvironmentFailedError
        If an instrument is lost; what was recorded is sealed.
    """
    if not study.log.occupied():
        raise BatterylabError(f"{study.path}: no cell is loaded", hint="`batterylab load STUDY`")
    done: list[tuple[Path, str]] = []
    for protocol, loaded in open_work(study).items():
        healthy = {c: s for c, s in loaded.items()
                   if s not in without and not _was_stopped(done, s)}  # fmt: skip
        if healthy and not (should_stop and should_stop()):
            done += run_protocol(
                study, protocol, healthy, operator, report=report, should_stop=should_stop
            )
    return done


def _was_stopped(done: list[tuple[Path, str]], serial: str) -> bool:
    """A cell that was stopped for safety is not driven again in the same session."""
    return any(path.parent.name == serial and stopped for path, stopped in done)


def run_protocol(
    study: Study, protocol: str, loaded: dict[str, str], operator: str, *, part: str = "main",
    report: Report | None = None, should_stop: Callable[[], str] | None = None,
) -> list[tuple[Path, str]]:  # fmt: skip
    """Run one protocol on some loaded cells and seal what comes of it.

    Parameters
    ----------
    loaded : dict of str to str
        Serial by channel.
    part : str
        ``main``, or ``gauge`` for a study of the bench.

    Returns
    -------
    list of (Path, str)
        As `run_study`.
    """
    resolved = resolve(study, protocol)
    path = _next_journal(study)
    with _open_bench(study, resolved) as bench:
        may_take(OPEN_s)
        journal = _open_journal(study, path, resolved, bench, loaded, operator, part)
        study.log.append("run", operator, run=path.stem, protocol=protocol, part=part,
                         channels=len(loaded))  # fmt: skip
        runner = Runner(bench, resolved, loaded, journal, report=report, should_stop=should_stop)
        _carry_out(study, runner, operator)
    return _seal(study, path, operator)


@contextmanager
def _open_bench(study: Study, resolved: Resolved) -> Iterator[Bench]:
    file = BenchFile.open(study.bench_path, study.cell_type)
    reads = any(step.read is not None and step.read.needs_meter for step in resolved.steps())
    may_take(OPEN_s)
    bench = Bench.open(file, also=file.wired if reads else ())
    study.log.now = bench.clock.now
    try:
        yield bench
    finally:
        bench.close()


def _carry_out(study: Study, runner: Runner, operator: str) -> None:
    """Run; what is interrupted stays in its journal if it can be resumed, else it is sealed."""
    journal = runner.journal
    try:
        try:
            runs = runner.run()
            _conclude(journal, runs)
            runner.report({"phase": "sealing", "done": 1.0})
        finally:
            journal.close()
    except BaseException:
        with suppress(BatterylabError, OSError):
            if not Interrupted.read(journal.path).can_resume:
                _seal(study, journal.path, operator)
        raise


def interrupted_runs(study: Study) -> list[Interrupted]:
    """Return the runs of a study that can be resumed, in order."""
    found = [Interrupted.read(path) for path in journals(study)]
    return [each for each in found if each.can_resume]


def resume_study(
    study: Study, operator: str, *, accepted: tuple[str, ...] = (), report: Report | None = None,
    should_stop: Callable[[], str] | None = None,
) -> list[tuple[Path, str]]:  # fmt: skip
    """Go on with the study's interrupted run, then with what is still to be done.

    Parameters
    ----------
    accepted : tuple of str
        Of `batterylab.bench.resume.CHECKS`: what may differ from the last record.

    Returns
    -------
    list of (Path, str)
        As `run_study`.

    Raises
    ------
    BatterylabError
        If no run was interrupted.
    NotMetError
        If bench or cells do not agree with the last record; the journal stays.
    """
    waiting = interrupted_runs(study)
    if not waiting:
        raise BatterylabError(f"{study.path}: there is nothing to resume", hint="`batterylab run`")
    done: list[tuple[Path, str]] = []
    for record in waiting:
        done += _resume(study, record, operator, accepted, report, should_stop)
    for path, stopped in run_study(study, operator, report=report, should_stop=should_stop,
                                   without=[p.parent.name for p, why in done if why]):  # fmt: skip
        done.append((path, stopped))
    return done


def _resume(
    study: Study, record: Interrupted, operator: str, accepted: tuple[str, ...],
    report: Report | None, should_stop: Callable[[], str] | None,
) -> list[tuple[Path, str]]:  # fmt: skip
    head = record.content.head
    resolved = resolve(study, head["protocol"])
    loaded = {channel["channel"]: channel["serial"] for channel in head["channels"]}
    with _open_bench(study, resolved) as bench:
        refuse(check_files(study, record, resolved, bench), accepted)
        told = study.path / "run" / "guard.json"
        back = Return(record, guard_report(study.path), accepted,
                      lambda: told.unlink(missing_ok=True))  # fmt: skip
        back.differences += [d for d in check_files(study, record, resolved, bench)
                             if d.check in accepted]  # fmt: skip
        study.log.append("resume", operator, run=head["run"], accepted=list(accepted))
        journal = Journal.reopen(record.path)
        journal.latest = Latest(latest_path(record.path), len(loaded))
        journal.latest.table[:] = record.latest
        runner = Runner(bench, resolved, loaded, journal, report=report,
                        should_stop=should_stop, come_back=back, operator=operator)  # fmt: skip
        _carry_out(study, runner, operator)
    return _seal(study, record.path, operator)


def _seal(study: Study, path: Path, operator: str) -> list[tuple[Path, str]]:
    """Harvest a journal, and remove it once every recording is sealed.

    One that was cut short or damaged is set aside as ``.damaged``, with all its bytes.
    """
    _keep_latest(path)
    done = harvest(study, path, operator)
    latest_path(path).unlink(missing_ok=True)
    if JournalContent(path).is_whole:
        path.unlink()
    else:
        path.replace(path.with_suffix(".damaged"))
    return done


def _keep_latest(path: Path) -> None:
    """Make the last samples rows of the journal, where an interruption left them out."""
    record = Interrupted.read(path)
    if not (record.content.is_whole and record.can_resume):
        return
    standings = [record.standing(k) for k in range(len(record.content.head["channels"]))]
    rows = [each.last for each in standings if not (each.is_kept or each.has_ended)]
    if rows:
        journal = Journal.reopen(path)
        journal.rows(np.array(rows))
        journal.event("", "interrupted", reason=record.reason)
        journal.close()


def recover(study: Study, operator: str) -> list[tuple[Path, str]]:
    """Seal what an earlier run left behind when it died.

    Returns
    -------
    list of (Path, str)
        Each sealed recording, and why it is not complete.
    """
    done: list[tuple[Path, str]] = []
    for path in journals(study):
        content = JournalContent(path)
        if content.head.get("provenance", {}).get("is_simulated") and content.row_counts.any():
            ends = content.tails(np.full(len(content.row_counts), np.inf)).values()
            last_s = float(max(rows[-1, 2] for rows in ends))
            study.log.now = lambda last_s=last_s: last_s  # the bench's time, not this machine's
        done += _seal(study, path, operator)
    return done


def _conclude(journal: Journal, runs: list[ChannelRun]) -> None:
    for index, run in enumerate(runs):
        if run.remarks:
            journal.event(run.entry.name, "remark", index=index, remarks=run.remarks)
        if not (run.stopped or run.has_ended):
            journal.event(run.entry.name, "complete", index=index)


def _open_journal(
    study: Study, path: Path, resolved: Resolved, bench: Bench, loaded: dict[str, str],
    operator: str, part: str,
) -> Journal:  # fmt: skip
    loadings = {
        entry["data"]["channel"]: entry["data"] for entry in study.log.entries("load")
    }
    channels = []
    for name, serial in loaded.items():
        cell = study.cells[serial]
        place = bench.channel(name)
        loading = loadings.get(name, {})
        channels.append({
            "channel": name, "serial": serial, "supplier": cell.supplier, "lot": cell.lot,
            "provenance": {
                "module": place.module, "shelf": place.shelf, **bench.describe(place),
                "loading": {k: v for k, v in loading.items() if k not in ("channel", "serial")},
            },
        })  # fmt: skip
    head = {
        "identities": {name: vars(driver.identity()) for name, driver in bench.drivers.items()},
        "run": path.stem,
        "protocol": resolved.name,
        "protocol_resolved": resolved.to_dict(),
        "cell_type": study.cell_type.to_dict(),
        "channels": channels,
        "provenance": {
            "source": "bench",
            "operator": operator,
            "software": f"batterylab {__version__}",
            "bench": bench.file.text.name,
            "is_simulated": bench.file.clock_address is not None,
            "run": path.stem,
            "part": part,
        },
    }
    journal = Journal(path, head)
    journal.latest = Latest(latest_path(path), len(channels))
    return journal
