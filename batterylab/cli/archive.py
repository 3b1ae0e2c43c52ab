"""`batterylab archive`: list, show and verify sealed recordings."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from batterylab.archive import ArchiveEntry


def archive_folder(place: Path) -> Path:
    """Return the archive of a study, or the folder itself."""
    return place / "archive" if (place / "study.yaml").is_file() else place


@click.group()
def archive() -> None:
    """List, show and verify sealed recordings."""


@archive.command("list")
@click.argument("place", metavar="ARCHIVE|STUDY", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def list_(place: Path, as_json: bool) -> None:
    """List the recordings of an archive."""
    from batterylab.archive import find
    from batterylab.cli import echo_json

    entries = find(archive_folder(place))
    if as_json:
        echo_json([_as_dict(entry) for entry in entries])
        return
    for entry in entries:
        click.echo(
            f"{entry.seal[:8]}  {entry.serial:<16} {entry.lot:<8} {entry.protocol:<24} "
            f"{entry.start_utc:<26} {entry.rows:>8} rows"
        )
    click.echo(f"{len(entries)} recordings", err=True)


def _as_dict(entry: "ArchiveEntry") -> dict[str, Any]:
    return {**vars(entry), "path": str(entry.path)}


@archive.command()
@click.argument("file", metavar="RECORDING", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def show(file: Path, as_json: bool) -> None:
    """Show what a recording says of itself: cell, steps, provenance."""
    from batterylab.archive import read
    from batterylab.archive.seal import head_of
    from batterylab.cli import echo_json

    recording = read(file)
    if as_json:
        head = head_of(recording)
        rows = [{k: _plain(v) for k, v in vars(step).items()} for step in recording.steps]
        echo_json({**head, "seal": recording.seal, "rows": len(recording), "steps": rows})
        return
    click.echo(f"{recording.serial} of lot {recording.lot}, supplier {recording.supplier}")
    click.echo(f"{recording.protocol}, {recording.start_utc}, {len(recording)} rows")
    click.echo(f"seal {recording.seal}")
    for key in ("source", "operator", "bench", "channel", "software"):
        if recording.provenance.get(key):
            click.echo(f"{key}: {recording.provenance[key]}")
    for remark in recording.provenance.get("remarks", []):
        click.echo(f"remark: {remark}")
    for step in recording.steps:
        click.echo(
            f"  {step.step_index:>3} {step.kind:<9} {step.duration_s:>9.0f} s  "
            f"ended by {step.ended_by:<9} {step.measure or '-':<10} {step.label}"
        )


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


@archive.command()
@click.argument("place", metavar="ARCHIVE|STUDY|RECORDING", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def verify(place: Path, as_json: bool) -> None:
    """Recompute every seal and say which does not hold."""
    from batterylab.archive import verify as verify_file
    from batterylab.cli import echo_json
    from batterylab.errors import BatterylabError, NotMetError

    folder = archive_folder(place)
    if not folder.exists():
        raise BatterylabError(f"{folder}: there is no such archive or recording")
    paths = [folder] if folder.is_file() else sorted(folder.glob("*/*.h5"))
    failures: dict[str, str] = {}
    for path in paths:
        try:
            verify_file(path)
        except BatterylabError as error:
            failures[str(path)] = str(error)
    if as_json:
        echo_json({"verified": len(paths) - len(failures), "failures": failures})
    if failures:
        raise NotMetError("\n".join(failures.values()))
    if not as_json:
        click.echo(f"{len(paths)} seals hold")
