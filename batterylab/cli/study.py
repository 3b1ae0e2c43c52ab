"""`batterylab study`: make and check a study."""

from pathlib import Path

import click


@click.group()
def study() -> None:
    """Make and check a study."""


@study.command()
@click.argument("folder", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Write a commented study into FOLDER that runs on a simulated bench.

    \b
    Example:
      batterylab study init my-study
    """  # noqa: D301
    from batterylab.studyfiles import write_study

    for path in write_study(folder):
        click.echo(path)
    click.echo(
        f"next: batterylab study check {folder}; batterylab bench simulate {folder}", err=True
    )


@study.command()
@click.argument("folder", metavar="STUDY", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def check(folder: Path, as_json: bool) -> None:
    """Find every mistake in STUDY's files: file, line, remedy."""
    from batterylab.cli import echo_json
    from batterylab.errors import ProblemsError
    from batterylab.studyfiles import check_study

    problems = check_study(folder)
    if as_json:
        echo_json([vars(problem) for problem in problems])
    if problems:
        raise ProblemsError(problems)
    if not as_json:
        click.echo(f"{folder}: no mistake found")
