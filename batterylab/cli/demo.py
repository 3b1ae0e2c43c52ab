"""`batterylab demo`: the whole job on a simulated bench."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True,
              help="Folder of the demo's study.")  # fmt: skip
@click.option("--suppliers", default=2, show_default=True, help="How many suppliers.")
@click.option("--lots", default=3, show_default=True, help="Lots of each supplier.")
@click.option("--cells", default=8, show_default=True, help="Cells of each lot.")
@click.option("--seed", default=1, show_default=True, help="Of cells, channels and allotment.")
@click.option("--check", is_flag=True, help="Compare with the truth; exit code 3 if it fails.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def demo(
    out: Path, suppliers: int, lots: int, cells: int, seed: int, check: bool, as_json: bool
) -> None:
    """See the whole job done: two suppliers' cells, from the bench to the decision.

    A simulated bench is started, its cells are loaded, run through the protocol and recorded;
    features, fits, scorecard and report follow. Ctrl-C leaves every channel safe.
    """
    from batterylab.cli import echo_json
    from batterylab.demo import run_demo
    from batterylab.errors import NotMetError
    from batterylab.studyfiles import Size

    began = time.monotonic()
    tell, close = _teller()
    try:
        outcome = run_demo(
            out, size=Size(suppliers, lots, cells), seed=seed, check=check, tell=tell
        )
    finally:
        close()
    if as_json:
        echo_json({
            "study": str(outcome.study),
            "decision": outcome.lines,
            "reports": {kind: str(path) for kind, path in outcome.reports.items()},
            "recordings": outcome.recordings,
            "checks": [{**vars(c), "holds": c.holds} for c in outcome.checks],
        })  # fmt: skip
    else:
        for line in outcome.lines:
            click.echo(line)
        for item in outcome.checks:
            click.echo(str(item))
        for path in outcome.reports.values():
            click.echo(f"report: {path}")
    click.echo(f"{outcome.recordings} recordings, {time.monotonic() - began:.0f} s", err=True)
    failed = [str(item) for item in outcome.checks if not item.holds]
    if failed:
        raise NotMetError("the demo does not agree with the truth:\n" + "\n".join(failed))


def _teller() -> tuple[Callable[[str, float], None], Callable[[], None]]:
    """Return what shows progress: bars on a terminal, else a line for each part."""
    if not sys.stderr.isatty():
        seen: list[str] = []

        def say(what: str, _: float) -> None:
            if what not in seen:
                seen.append(what)
                click.echo(f"{what} …", err=True)

        return say, lambda: None
    return _bars()


def _bars() -> tuple[Callable[[str, float], None], Callable[[], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    progress = Progress(
        TextColumn("{task.description:<32}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(), console=Console(stderr=True),
    )  # fmt: skip
    progress.start()
    tasks: dict[str, Any] = {}

    def tell(what: str, share: float) -> None:
        if what not in tasks:
            for task in tasks.values():
                progress.update(task, completed=1.0)
            tasks[what] = progress.add_task(what, total=1.0)
        progress.update(tasks[what], completed=share)

    def close() -> None:
        for task in tasks.values():
            progress.update(task, completed=1.0)
        progress.stop()

    return tell, close
