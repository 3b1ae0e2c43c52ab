"""`batterylab run`, `status`, `stop`, `pause` and `resume`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from batterylab.study import Study

FOLLOW_EVERY_s = 0.5
STUDY = click.argument(
    "folder", metavar="[STUDY]", type=click.Path(path_type=Path), default=Path()
)


@click.command()
@click.argument("folder", metavar="STUDY", type=click.Path(path_type=Path))
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be run, and start nothing.")
@click.option("--foreground", is_flag=True, help="Stay attached: Ctrl-C makes the channels safe.")
@click.option("--gauge", is_flag=True, help="Study the bench itself, in the foreground.")
@click.option("--restart", is_flag=True, help="Give an interrupted run up and begin again.")
@click.option("--yes", is_flag=True, help="Do not ask before current flows.")
@click.option("--operator", help="Who does it; default: BATTERYLAB_OPERATOR or login.")
def run(
    folder: Path, dry_run: bool, foreground: bool, gauge: bool, restart: bool, yes: bool,
    operator: str | None,
) -> None:  # fmt: skip
    """Run the study's protocols on its loaded cells.

    The runner and its guard go on when the terminal closes; `batterylab status` looks at them
    and `batterylab stop` ends them. Cells that have a valid recording of a protocol are left
    out. An interrupted run is resumed by `batterylab resume`; --restart seals it as it is and
    begins again. --gauge carries out the
    gauge part of study.yaml: some cells on several channels, repeatedly.
    """
    import sys

    from batterylab.bench.process import has_work, is_running, run_here, start_detached
    from batterylab.bench.session import interrupted_runs
    from batterylab.errors import BatterylabError
    from batterylab.study import Study
    from batterylab.studyfiles import check_study
    from batterylab.studylog import operator_name

    problems = check_study(folder)
    if problems:
        from batterylab.errors import ProblemsError

        raise ProblemsError(problems)
    study = Study.open(folder)
    if gauge:
        _run_gauge(study, operator_name(operator), dry_run=dry_run)
        return
    _say_plan(study)
    if dry_run:
        return
    waiting = [] if restart or is_running(study) else interrupted_runs(study)
    if waiting:
        raise BatterylabError(
            f"{waiting[0].path.stem} was interrupted: {waiting[0].reason}",
            hint=f"`batterylab resume {folder}` goes on with it; --restart gives it up",
        )
    if not study.log.occupied():
        raise BatterylabError(f"{folder}: no cell is loaded", hint=f"batterylab load {folder}")
    if not has_work(study):
        click.echo("every loaded cell has its recordings", err=True)
        return
    if not yes and sys.stdin.isatty():
        click.confirm("start?", abort=True, err=True)
    who = operator_name(operator)
    if foreground:
        done = run_here(study, who, _say_progress, takes_interrupt=False)
        click.echo(f"{len(done)} recordings in {study.archive}")
        return
    number = start_detached(study, who)
    click.echo(f"the runner is process {number}", err=True)
    follow(study)


def _run_gauge(study: "Study", operator: str, *, dry_run: bool) -> None:
    """Say which cells meet which channels, and carry the gauge study out."""
    from batterylab.bench.benchfile import BenchFile
    from batterylab.bench.clock import BenchClock
    from batterylab.bench.gauge import choose, run_gauge
    from batterylab.bench.loading import ScriptedHands
    from batterylab.bench.process import hold_bench
    from batterylab.bench.setup import Bench
    from batterylab.cli.load import AskedHands

    cells, channels = choose(study, BenchFile.open(study.bench_path, study.cell_type))
    click.echo(f"cells {', '.join(cells)} on channels {', '.join(channels)}", err=True)
    if dry_run:
        return

    def hands_of(bench: Bench) -> ScriptedHands | AskedHands:
        clock = bench.clock
        return ScriptedHands(clock) if isinstance(clock, BenchClock) else AskedHands()

    with hold_bench(study):
        done = run_gauge(study, operator, hands_of, report=_say_progress)
    click.echo(f"{len(done)} recordings in {study.archive}")


def _say_plan(study: "Study") -> None:
    from batterylab.bench.session import open_work, resolve

    for protocol, loaded in open_work(study).items():
        hours = resolve(study, protocol).expected_s() / 3600
        click.echo(f"{protocol}: {len(loaded)} channels, about {hours:.1f} h", err=True)


def _say_progress(data: dict[str, Any]) -> None:
    now = time.monotonic()
    if now - getattr(_say_progress, "last", 0.0) > 2.0:
        setattr(_say_progress, "last", now)  # noqa: B010
        click.echo(_line(data), err=True)


def _line(data: dict[str, Any]) -> str:
    text = str(data.get("phase", "nothing runs"))
    if "done" in data:
        text += f" {100 * data['done']:.0f} %"
    if "bench_time_s" in data:
        text += f", {data['bench_time_s'] / 3600:.1f} h of bench time"
    if data.get("stopped"):
        text += f", {data['stopped']} channels stopped"
    return text


def follow(study: "Study") -> None:
    """Show what a detached runner does until it ends; Ctrl-C ends only this.

    Raises
    ------
    BatterylabError
        With the runner's own exit code and message, if it failed.
    """
    from batterylab.bench.process import status_of
    from batterylab.errors import BatterylabError

    last = ""
    try:
        while (data := status_of(study))["is_running"]:
            line = _line(data)
            if line != last:
                click.echo(line, err=True)
                last = line
            time.sleep(FOLLOW_EVERY_s)
    except KeyboardInterrupt:
        click.echo(f"leaving the run going; `batterylab stop {study.path}` ends it", err=True)
        return
    code = int(data.get("exit_code", 1))
    if code:
        error = BatterylabError(str(data.get("message") or "the runner died without a word"))
        error.exit_code = code
        raise error
    click.echo(f"{data.get('message', '')} in {study.archive}")


@click.command()
@STUDY
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def status(folder: Path, as_json: bool) -> None:
    """Say what runs, and what each channel holds."""
    from batterylab.bench.process import status_of
    from batterylab.cli import echo_json
    from batterylab.study import Study

    data = status_of(Study.open(folder))
    if as_json:
        echo_json(data)
        return
    click.echo(_line(data))
    if data.get("message"):
        click.echo(data["message"])
    for name, reason in data.get("interrupted", {}).items():
        click.echo(f"{name} was interrupted: {reason}; `batterylab resume {folder}` goes on")
    if "guard" in data:
        safe = "safe" if data["guard"]["is_safe"] else "NOT CONFIRMED SAFE"
        click.echo(f"the guard acted: {data['guard']['reason']}; channels {safe}")
    for channel, serial in data["loaded"].items():
        click.echo(f"  {channel:<8} {serial}")


@click.command()
@STUDY
def stop(folder: Path) -> None:
    """Put every channel in its safe state and end the run. Never asks."""
    from batterylab.bench.process import is_running
    from batterylab.bench.process import stop as stop_run
    from batterylab.study import Study

    study = Study.open(folder)
    if not is_running(study):
        click.echo("nothing runs")
        return
    data = stop_run(study)
    click.echo(f"stopped; {data.get('message', '')}")


@click.command()
@STUDY
def pause(folder: Path) -> None:
    """Put every channel in its safe state and keep the run, to be resumed. Never asks."""
    from batterylab.bench.process import is_running
    from batterylab.bench.process import pause as pause_run
    from batterylab.study import Study

    study = Study.open(folder)
    if not is_running(study):
        click.echo("nothing runs")
        return
    data = pause_run(study)
    click.echo(f"{data.get('phase', 'ended')}; {data.get('message', '')}")


@click.command()
@STUDY
@click.option("--accept", "accepted", multiple=True, metavar="CHECK",
              help="Go on although this differs: identity, capacity, voltage or chamber; repeat.")
@click.option("--foreground", is_flag=True, help="Stay attached: Ctrl-C makes the channels safe.")
@click.option("--yes", is_flag=True, help="Do not ask before current flows.")
@click.option("--operator", help="Who does it; default: BATTERYLAB_OPERATOR or login.")
def resume(
    folder: Path, accepted: tuple[str, ...], foreground: bool, yes: bool, operator: str | None
) -> None:
    """Go on with a paused or broken run exactly where it was.

    Instruments, cells, protocol, charge, voltage and chamber must agree with the last record;
    what does not is told with what may be done, and nothing is started (exit code 3). The
    recording stays one, with the pause marked.
    """
    import sys

    from batterylab.bench.process import run_here, start_detached
    from batterylab.bench.resume import CHECKS
    from batterylab.bench.session import interrupted_runs
    from batterylab.errors import BatterylabError
    from batterylab.study import Study
    from batterylab.studylog import operator_name

    unknown = [each for each in accepted if each not in CHECKS]
    if unknown:
        raise BatterylabError(f"unknown check {unknown[0]!r}", hint=f"one of {', '.join(CHECKS)}")
    study = Study.open(folder)
    waiting = interrupted_runs(study)
    if not waiting:
        raise BatterylabError(f"{folder}: there is nothing to resume", hint="`batterylab run`")
    for each in waiting:
        head = each.content.head
        click.echo(f"{head['run']} of {head['protocol']}: {each.reason}", err=True)
    if not yes and sys.stdin.isatty():
        click.confirm("go on?", abort=True, err=True)
    who = operator_name(operator)
    if foreground:
        done = run_here(study, who, _say_progress, takes_interrupt=False, resumes=True,
                        accepted=accepted)  # fmt: skip
        click.echo(f"{len(done)} recordings in {study.archive}")
        return
    number = start_detached(study, who, resumes=True, accepted=accepted)
    click.echo(f"the runner is process {number}", err=True)
    follow(study)
