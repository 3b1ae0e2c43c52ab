"""`batterylab import`: read other cyclers' files, and tables of features, into an archive."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from batterylab.importers.store import Imported
    from batterylab.importers.tablestore import StoredTable

#: bytes above which one file alone shows its progress
LARGE = 5_000_000


@click.command(name="import")
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--into",
    "place",
    metavar="STUDY|ARCHIVE",
    required=True,
    type=click.Path(path_type=Path),
    help="A study, or an archive's folder.",
)
@click.option("--cell", metavar="SERIAL", help="The cell that was measured.")
@click.option("--supplier", help="Of the cell, where no study knows it.")
@click.option("--lot", help="Of the cell, where no study knows it.")
@click.option("--protocol", help="Name of what was done to the cell  [default: import]")
@click.option(
    "--start",
    metavar="TIME",
    help="When the file's test clock stood at 0 (ISO 8601), for files without a date.",
)
@click.option(
    "--as",
    "kind",
    type=click.Choice(["recording", "features"]),
    default="recording",
    help="What the files are: recordings, or tables of features.",
)
@click.option(
    "--map",
    "map_path",
    metavar="MAP.yaml",
    type=click.Path(path_type=Path),
    help="What the columns of a table of features mean.",
)
@click.option("--operator", help="Who imports  [default: BATTERYLAB_OPERATOR, or the login name]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
@click.pass_context
def import_(
    ctx: click.Context, /, files: tuple[Path, ...], place: Path, as_json: bool, **options: Any
) -> None:
    """Read FILEs of other cyclers into an archive, each checked before it is stored.

    \b
    Examples:
      batterylab import run7.ndax --into my-study
      batterylab import *.res --into my-study --cell S1
      batterylab import cells.xlsx --as features --map map.yaml --into my-study
    """  # noqa: D301  (click reads the backspace as "do not rewrap")
    if options["kind"] == "features":
        _import_tables(files, place, as_json, options)
    elif options["map_path"]:
        raise click.UsageError("--map belongs to --as features")
    else:
        ctx.exit(_import_recordings(files, place, as_json, options))


def _import_recordings(
    files: tuple[Path, ...], place: Path, as_json: bool, options: dict[str, Any]
) -> int:
    """Import each file, report each failure, and return the exit code."""
    from batterylab.cli import echo_json
    from batterylab.importers.build import Stated
    from batterylab.importers.store import Importer, Target
    from batterylab.studylog import operator_name

    stated = Stated(
        serial=options["cell"] or "",
        supplier=options["supplier"] or "",
        lot=options["lot"] or "",
        protocol=options["protocol"] or "import",
        operator=operator_name(options["operator"]),
        start_s=_start_s(options["start"]),
    )
    target = Target.of(place)
    importer = Importer(target, stated)
    results = _with_progress(importer, files, as_json)
    if as_json:
        echo_json({"archive": str(target.archive), **_as_dict(results)})
    _tell_remarks(results)
    failed = [result for result in results if result.outcome == "failed"]
    done = len(results) - len(failed)
    there = sum(result.outcome == "already there" for result in results)
    click.echo(f"{done - there} stored, {there} already there, {len(failed)} failed", err=True)
    if not failed:
        return 0
    return 1 if done else 2


def _start_s(text: str | None) -> float | None:
    """Return a time as unix seconds.

    Raises
    ------
    BatterylabError
        If it is no time, or names no zone.
    """
    if text is None:
        return None
    from datetime import datetime

    from batterylab.errors import BatterylabError

    hint = "as in 2026-03-01T08:00:00+01:00"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BatterylabError(f"--start {text!r}: not a time", hint=hint) from None
    if moment.tzinfo is None:
        raise BatterylabError(f"--start {text!r}: no time zone", hint=hint)
    return moment.timestamp()


def _with_progress(importer: Any, files: tuple[Path, ...], as_json: bool) -> "list[Imported]":
    """Import with a bar on a terminal, where there is something to wait for."""
    import sys

    sizes = [path.stat().st_size if path.is_file() else 0 for path in files]
    waits = sys.stderr.isatty() and sum(sizes) > LARGE
    if not waits:
        return list(importer.all(files, lambda result: _tell(result, as_json)))
    results: list[Imported] = []
    with click.progressbar(
        length=max(sum(sizes), 1),
        label="importing",
        file=sys.stderr,
        item_show_func=lambda name: name,
    ) as bar:
        for path, size in zip(files, sizes, strict=True):
            bar.update(0, path.name)
            results.append(importer.take(path))
            bar.update(size, path.name)
    for result in results:
        _tell(result, as_json)
    return results


def _tell(result: "Imported", as_json: bool) -> None:
    """Name what was stored on stdout, and what was not on stderr."""
    if result.error is not None:
        click.echo(f"Error: {result.error}", err=True)
    elif result.outcome == "already there":
        click.echo(f"{result.file.name}: already there as {result.path}", err=True)
    elif not as_json and result.recording is not None:
        click.echo(
            f"{result.seal[:8]}  {result.serial:<16} {len(result.recording):>8} rows  {result.path}"
        )


def _tell_remarks(results: "list[Imported]") -> None:
    """Say each remark once, with the files that it is about."""
    files: dict[str, list[str]] = {}
    for result in results:
        if result.recording is not None:
            for remark in result.recording.provenance["remarks"]:
                files.setdefault(remark, []).append(result.file.name)
    for remark, names in files.items():
        about = names[0] if len(names) == 1 else f"{len(names)} files"
        click.echo(f"{about}: {remark}", err=True)


def _as_dict(results: "list[Imported]") -> dict[str, Any]:
    """Return what `--json` prints; see docs/importing.md."""
    groups: dict[str, Any] = {"stored": [], "already_there": [], "failed": []}
    for result in results:
        line: dict[str, Any] = {"file": str(result.file)}
        if result.error is not None:
            line |= {"error": result.error.message, "hint": result.error.hint}
        else:
            line |= {"path": str(result.path), "serial": result.serial, "seal": result.seal}
        if result.recording is not None:
            provenance = result.recording.provenance
            line |= {
                "supplier": result.recording.supplier,
                "lot": result.recording.lot,
                "protocol": result.recording.protocol,
                "rows": len(result.recording),
                "steps": len(result.recording.steps),
                "start_utc": provenance.get("start_utc"),
                "format": provenance["format"],
                "reader": provenance["reader"],
                "sha256": provenance["sha256"],
                "checks": provenance["checks"],
                "remarks": provenance["remarks"],
            }
        groups[result.outcome.replace(" ", "_")].append(line)
    return groups


def _import_tables(
    files: tuple[Path, ...], place: Path, as_json: bool, options: dict[str, Any]
) -> None:
    """Import each table of features, all or none."""
    from batterylab.cli import echo_json
    from batterylab.importers.featuretable import prepare
    from batterylab.importers.store import Target
    from batterylab.importers.tablestore import store
    from batterylab.studylog import operator_name

    if options["map_path"] is None:
        raise click.UsageError("--as features needs --map MAP.yaml")
    for name in ("cell", "protocol", "start"):
        if options[name]:
            raise click.UsageError(f"--{name} belongs to recordings; the map tells it of a table")
    for name in ("supplier", "lot"):
        if options[name]:
            raise click.UsageError(f"--{name} belongs to recordings; write '{name}:' in the map")
    target = Target.of(place)
    prepared = [prepare(path, options["map_path"], target) for path in files]
    operator = operator_name(options["operator"])
    stored: list[StoredTable] = [store(table, target, operator) for table in prepared]
    if as_json:
        echo_json({"archive": str(target.archive), "tables": [table.to_dict() for table in stored]})
        return
    for table in stored:
        if table.already_there:
            click.echo(f"{table.name}: already there as {table.path}", err=True)
        else:
            click.echo(f"{table.seal[:8]}  {table.cells} cells  {table.rows} values  {table.path}")
