"""`batterylab study`: make, check and plan a study."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from batterylab.study import Study
    from batterylab.suppliers.plans import Spread


@click.group()
def study() -> None:
    """Make, check and plan a study."""


@study.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--bench", "layout", default="one", show_default=True,
              type=click.Choice(["one", "all", "impedance"]),
              help="One cycler of 48 channels; one of every model; or one with an impedance meter.")
def init(folder: Path, layout: str) -> None:
    """Write a commented study into FOLDER that runs on a simulated bench.

    \b
    Example:
      batterylab study init my-study
    """  # noqa: D301
    from batterylab.studyfiles import write_study

    for path in write_study(folder, bench=layout):
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


@study.command()
@click.argument("folder", metavar="STUDY", type=click.Path(path_type=Path))
@click.option("--difference", default=0.5, show_default=True, metavar="PERCENT",
              help="Difference of two suppliers' means to find, % of the mean.")
@click.option("--power", default=90.0, show_default=True, metavar="PERCENT",
              help="Probability to find it.")
@click.option("--risk", default=5.0, show_default=True, metavar="PERCENT",
              help="Risk to call equal suppliers different, two-sided.")
@click.option("--spread", type=float, metavar="PERCENT",
              help="How near the upper end of the interval of the cells' spread must be.")
@click.option("--sigma-lot", type=float, metavar="PERCENT",
              help="Standard deviation between lots, % of mean; else the scorecard's, else 0.2.")
@click.option("--sigma-cell", type=float, metavar="PERCENT",
              help="The same between cells of a lot; else the scorecard's, else 0.25.")
@click.option("--aql", default=0.1, show_default=True, metavar="PERCENT",
              help="Share nonconforming of a lot that is to pass.")
@click.option("--lq", default=2.0, show_default=True, metavar="PERCENT",
              help="Share nonconforming of a lot that is not to pass.")
@click.option("--producer-risk", default=5.0, show_default=True, metavar="PERCENT",
              help="Risk to reject a lot at the AQL.")
@click.option("--consumer-risk", default=10.0, show_default=True, metavar="PERCENT",
              help="Risk to accept a lot at the LQ.")
@click.option("--least-cells", default=4, show_default=True, help="Cells of a lot, at least.")
@click.option("--most-lots", default=20, show_default=True, type=click.IntRange(2, 500),
              help="Lots of a supplier, at most.")
@click.option("--hours-per-cell", type=float, metavar="HOURS",
              help="On a channel; else what the study's protocols are expected to take.")
@click.option("--hours-per-lot", default=0.0, metavar="HOURS",
              help="What a further lot costs besides, in channel-hours.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def plan(folder: Path, as_json: bool, **asked: Any) -> None:
    """Say how many lots and cells STUDY takes, at which risks and for how many channel-hours.

    \b
    Examples:
      batterylab study plan my-study
      batterylab study plan my-study --difference 0.3 --sigma-lot 0.15 --hours-per-lot 40
      batterylab study plan my-study --aql 0.65 --lq 6.5 --json
    """  # noqa: D301
    from batterylab.cli import echo_json
    from batterylab.errors import NotMetError
    from batterylab.study import Study
    from batterylab.suppliers.inspection import Risks
    from batterylab.suppliers.planning import lines
    from batterylab.suppliers.planning import plan as make
    from batterylab.suppliers.plans import Costs, Question

    opened = Study.open(folder)
    hours = asked["hours_per_cell"]
    found = make(
        Question(
            asked["difference"],
            asked["power"] / 100.0,
            asked["risk"] / 100.0,
            asked["spread"],
            max(2, len(opened.definition.suppliers)),
            asked["least_cells"],
            asked["most_lots"],
        ),
        _spread(opened, asked["sigma_lot"], asked["sigma_cell"]),
        Costs(_hours(opened) if hours is None else hours, _channels(opened),
              asked["hours_per_lot"]),
        Risks(*(asked[name] / 100.0 for name in ("aql", "lq", "producer_risk", "consumer_risk"))),
    )  # fmt: skip
    if as_json:
        echo_json(found)
    else:
        for line in lines(found):
            click.echo(line)
    if found["qualification"]["cheapest"] is None:
        raise NotMetError("no plan answers the question", hint="more lots, or a larger difference")


def _spread(study: "Study", lot: float | None, cell: float | None) -> "Spread":
    """Return the spread to plan with: as given, as the scorecard saw it, or a usual one."""
    import json

    from batterylab.errors import BatterylabError
    from batterylab.suppliers.plans import (
        USUAL_CELL_PERCENT,
        USUAL_LOT_PERCENT,
        Spread,
        spread_of,
    )

    usual = "usual for fresh cells, not of this study"
    known = Spread(USUAL_LOT_PERCENT, USUAL_CELL_PERCENT, usual)
    card = study.results / "scorecard.json"
    if card.is_file() and (lot is None or cell is None):
        try:
            known = spread_of(json.loads(card.read_text(encoding="utf-8"))) or known
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            hint = "`batterylab score` makes one"
            raise BatterylabError(f"{card}: no scorecard", hint=hint) from None
    if lot is None and cell is None:
        return known
    source = "given" if lot is not None and cell is not None else f"given in part; {known.source}"
    return Spread(known.lot if lot is None else lot, known.cell if cell is None else cell, source)


def _hours(study: "Study") -> float:
    """Return the hours that the study's protocols are expected to hold a channel."""
    from batterylab.protocol import load

    found = [
        load(name, search=[study.protocols_folder]).resolve(study.cell_type).expected_s()
        for name in study.definition.protocols
    ]
    return sum(found) / 3600.0


def _channels(study: "Study") -> int | None:
    """Return the number of channels of the study's bench; None without one."""
    from batterylab.bench.benchfile import BenchFile

    if not study.bench_path.exists():
        return None
    return len(BenchFile.open(study.bench_path, study.cell_type).channels)
