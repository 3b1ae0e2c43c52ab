"""`batterylab report`, `plot` and `trace`: results for people, and the way back from them."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from batterylab.study import Study


@click.command()
@click.argument("folder", metavar="STUDY", type=click.Path(path_type=Path))
@click.option("--to", "wanted", default="pdf,html", show_default=True,
              help="Formats, with commas: pdf, html, xlsx, dfq, json.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def report(folder: Path, wanted: str, as_json: bool) -> None:
    """Write the report of STUDY into its results and print the paths.

    \b
    Examples:
      batterylab report my-study
      batterylab report my-study --to pdf,xlsx
    """  # noqa: D301
    from batterylab.cli import echo_json
    from batterylab.report import write
    from batterylab.report.files import checked_formats
    from batterylab.study import Study

    formats = checked_formats([name.strip().lower() for name in wanted.split(",") if name.strip()])
    study = Study.open(folder)
    table, card = _scored(study)
    from batterylab.report.fits import kept_fits

    paths = write(study, card, formats, table=table, fits=kept_fits(study.results / "fits", card))
    if as_json:
        decision = card.get("decision") or {}
        verdicts = {name: (item or {}).get("verdict") for name, item in decision.items()}
        files = {name: str(path) for name, path in paths.items()}
        echo_json({"study": card.get("study"), "files": files, "decision": verdicts})
        return
    for path in paths.values():
        click.echo(path)


def _scored(study: "Study") -> tuple[Any, dict[str, Any]]:
    """Return the feature table and the scorecard of a study."""
    from batterylab.errors import BatterylabError

    try:
        from batterylab.features import table as feature_table
        from batterylab.suppliers import scorecard
    except ImportError as error:
        raise BatterylabError(
            f"a report needs features and a scorecard, and {error.name} cannot be imported",
            hint="install batterylab again; `batterylab doctor` says what is missing",
        ) from None
    with _progress("features") as step:
        table = feature_table(study, step)
    if not len(table):
        raise BatterylabError(
            f"{study.archive}: there are no features to report",
            hint="run the study or import recordings first",
        )
    return table, scorecard(study, table).to_dict()


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far a long step is, on a terminal only."""
    shows = sys.stderr.isatty()

    def step(done: int, of: int) -> None:
        if shows:
            click.echo(f"\r{what}: {done} of {of}", nl=False, err=True)

    yield step
    if shows:
        click.echo("\r\033[K", nl=False, err=True)


@click.command()
@click.argument("thing", metavar="RECORDING", type=click.Path(path_type=Path))
@click.option("--out", "-o", required=True, metavar="FILE", type=click.Path(path_type=Path),
              help="The file to write: .png, .svg or .pdf.")  # fmt: skip
def plot(thing: Path, out: Path) -> None:
    """Draw a RECORDING: voltage, current and temperature over time.

    \b
    Examples:
      batterylab plot my-study/archive/A1-001/capacity_resistance_*.h5 --out a1.png
    """  # noqa: D301
    from batterylab.archive import read
    from batterylab.errors import BatterylabError
    from batterylab.report.plot import plot as draw

    if thing.is_dir():
        raise BatterylabError(
            f"{thing}: a folder cannot be drawn", hint="name one recording, a file ending in .h5"
        )
    click.echo(draw(read(thing), out))


@click.command()
@click.argument("code", metavar="CODE")
@click.argument("folder", metavar="STUDY", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def trace(code: str, folder: Path, as_json: bool) -> None:
    """Follow CODE, as printed in a report of STUDY, to file, steps, channel and software.

    CODE is the beginning of a seal (8 characters or more), a serial, or SERIAL/FEATURE.

    \b
    Examples:
      batterylab trace 3f9a01c2 my-study
      batterylab trace A1-001/capacity_Ah my-study
    """  # noqa: D301
    from batterylab.cli import echo_json
    from batterylab.errors import NotMetError
    from batterylab.report.trace import lines
    from batterylab.report.trace import trace as follow
    from batterylab.study import Study

    found = follow(Study.open(folder), code)
    if as_json:
        echo_json(found)
    else:
        click.echo("\n".join(lines(found)))
    broken = [one for one in found["recordings"] if not one["seal_holds"]]
    if broken:
        raise NotMetError("\n".join(one["seal_message"] for one in broken))
