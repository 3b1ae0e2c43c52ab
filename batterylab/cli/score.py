"""`batterylab score`: compare suppliers and lots, and decide."""

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("study", metavar="STUDY", type=click.Path(path_type=Path))
@click.option(
    "--require-decision",
    is_flag=True,
    help="Exit with 3 also on CONDITIONAL, NOT ENOUGH DATA and NOT DECIDED.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the scorecard as one JSON object.")
def score(study: Path, require_decision: bool, as_json: bool) -> None:
    """Compare the suppliers and lots of STUDY, and decide.

    The scorecard goes to results/scorecard.json. Exits with 3 if a supplier is rejected.

    \b
    Examples:
      batterylab score my-study
      batterylab score my-study --require-decision --json
    """  # noqa: D301
    import os

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small matrices: threads only cost
    from batterylab.cli import echo_json
    from batterylab.study import Study
    from batterylab.suppliers import scorecard, summary_lines

    opened = Study.open(study)
    card = scorecard(opened, _features(opened))
    place = card.write(opened.results)
    if as_json:
        echo_json(card.to_dict())
    else:
        _print(card.to_dict(), summary_lines(card.to_dict()))
        click.echo(f"scorecard: {place}; next: batterylab report {study}", err=True)
    _leave(card, require_decision)


def _features(study: Any) -> Any:
    """Return the feature table, with a progress bar if it takes more than two seconds."""
    import sys
    import time

    from batterylab.features import table

    if not sys.stderr.isatty():
        return table(study)
    started = time.monotonic()
    with click.progressbar(length=1, label="Features", file=sys.stderr) as bar:

        def progress(done: int, of: int) -> None:
            bar.length = of
            if time.monotonic() - started > 2.0 or done == of:
                bar.update(done - bar.pos)

        return table(study, progress)


def _print(card: dict[str, Any], lines: list[str]) -> None:
    for line in lines:
        click.echo(line)
    from batterylab.suppliers.pages import page

    for line in page(card):
        click.echo(line)
    if card["would_change"]:
        click.echo("\nWhat would change this:")
        for text in card["would_change"]:
            click.echo(f"  - {text}")


def _leave(card: Any, require_decision: bool) -> None:
    from batterylab.errors import NotMetError
    from batterylab.suppliers.between import undecided

    verdicts: dict[str, str] = card.verdicts
    rejected = [name for name, verdict in verdicts.items() if verdict == "REJECT"]
    if rejected:
        raise NotMetError(f"rejected: {', '.join(rejected)}")
    open_ones = [f"{name} {verdict}" for name, verdict in verdicts.items() if verdict != "QUALIFY"]
    data = card.to_dict()
    open_ones += undecided(data["between"], data["ranking"]["feature"])
    if require_decision and open_ones:
        raise NotMetError(
            f"no firm decision: {', '.join(open_ones)}",
            hint="the scorecard says what would change this",
        )
