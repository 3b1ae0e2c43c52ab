"""Features beside the archive: one JSON file a recording, and the tables that were imported.

``results/features/<16 of seal>_v<version>.json`` holds what was drawn from one recording; it
can be deleted and is made again. ``archive/tables/<8 of SHA-256>_<name>/table.json`` holds the
rows of an imported feature table, beside the sealed original; it is a record, not a result.
"""

import json
import math
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batterylab.errors import BatterylabError, EnvironmentFailedError
from batterylab.features.draw import VERSION, features_of
from batterylab.features.feature import Feature
from batterylab.recording import Recording

if TYPE_CHECKING:
    import pandas as pd

    from batterylab.archive import ArchiveEntry
    from batterylab.study import Study

SCHEMA = "batterylab.features/1"
TABLE_SCHEMA = "batterylab.featuretable/1"
_UNSAFE = re.compile(r"[^A-Za-z0-9_.+-]+")


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Raises
    ------
    EnvironmentFailedError
        If the disk refuses.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise EnvironmentFailedError(
            f"{path}: cannot be written: {error}", hint="is the disk full or read-only?"
        ) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class Drawn:
    """What was drawn from one recording.

    Attributes
    ----------
    features : list of Feature
        See `features_of`.
    head : dict
        What rows of a table say of their recording: ``channel``, ``part``, ``source`` and
        ``remarks`` (a list of str), from its provenance.
    """

    features: list[Feature]
    head: dict[str, Any]


def drawn_from(entry: "ArchiveEntry", cache: Path | None = None) -> Drawn:
    """Return the features of an archived recording, from the cache if it holds them.

    Parameters
    ----------
    entry : ArchiveEntry
        From `batterylab.archive.find`.
    cache : Path, optional
        Folder of results; nothing is kept without it.
    """
    path = cache and cache / f"{entry.seal[:16]}_v{VERSION}.json"
    kept = _read(path, entry.seal) if path else None
    if kept is not None:
        return kept
    from batterylab.archive import read

    recording = read(entry.path)
    drawn = Drawn(features_of(recording), _head(recording))
    if path:
        data = {
            "schema": SCHEMA,
            "version": VERSION,
            "seal": entry.seal,
            "head": drawn.head,
            "features": [feature.to_dict() for feature in drawn.features],
        }
        write_whole(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return drawn


def _head(recording: Recording) -> dict[str, Any]:
    provenance = recording.provenance
    remarks = provenance.get("remarks")
    return {
        "channel": str(provenance.get("channel") or ""),
        "part": str(provenance.get("part") or "main"),
        "source": str(provenance.get("source") or ""),
        "remarks": [str(remark) for remark in remarks] if isinstance(remarks, list) else [],
    }


def _read(path: Path, seal: str) -> Drawn | None:
    """Return what a file of results holds; None if it is missing or not what it should be."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if (data["schema"], data["version"], data["seal"]) != (SCHEMA, VERSION, seal):
            return None
        head = {name: data["head"][name] for name in ("channel", "part", "source", "remarks")}
        return Drawn([Feature.from_dict(item) for item in data["features"]], head)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def read_tables(archive: Path) -> list[dict[str, Any]]:
    """Return the imported feature tables of an archive, by folder name.

    Raises
    ------
    BatterylabError
        If a ``table.json`` is damaged, foreign, or of a newer schema.
    """
    folder = Path(archive) / "tables"
    return [read_table(path) for path in sorted(folder.glob("*/table.json"))]


def read_table(path: Path) -> dict[str, Any]:
    """Return one imported feature table; see `read_tables`."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BatterylabError(
            f"{path}: cannot be read: {error}", hint="import the table again"
        ) from None
    found = str(data.get("schema", "")) if isinstance(data, dict) else ""
    if found != TABLE_SCHEMA:
        kind, _, version = found.rpartition("/")
        is_newer = kind == TABLE_SCHEMA.rpartition("/")[0] and version.isdigit()
        what = f"schema {found} is newer than {TABLE_SCHEMA}" if is_newer else "no feature table"
        hint = "update batterylab" if is_newer else f"it should carry the schema {TABLE_SCHEMA}"
        raise BatterylabError(f"{path}: {what}", hint=hint)
    rows = data.get("rows")
    if not isinstance(rows, list):
        raise BatterylabError(f"{path}: there are no rows", hint="import the table again")
    for number, row in enumerate(rows, 1):
        _check_row(path, number, row)
    return {str(key): value for key, value in data.items()}


def _check_row(path: Path, number: int, row: Any) -> None:
    if not isinstance(row, dict) or not {"serial", "feature", "value"} <= row.keys():
        raise BatterylabError(
            f"{path}: row {number} lacks serial, feature or value", hint="import the table again"
        )
    for name in ("value", "uncertainty", "soc_percent", "cycles"):
        value = row.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise BatterylabError(f"{path}: row {number}: {name} = {value!r} is not a number")


def add_table(study: "Study", frame: "pd.DataFrame", provenance: Mapping[str, Any]) -> Path:
    """Put the rows of an imported feature table beside the study's recordings.

    Parameters
    ----------
    study : Study
        The study.
    frame : DataFrame
        Long form, one row a feature of a cell: serial, feature, value, and where known
        supplier, lot, uncertainty, unit, soc_percent.
    provenance : mapping
        Needs ``sha256`` (of the original, 64 hex digits) and ``name``; the rest is kept.

    Returns
    -------
    Path
        The ``table.json``.

    Raises
    ------
    BatterylabError
        If the provenance or a row lacks what it needs.
    """
    sha256 = str(provenance.get("sha256", ""))
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise BatterylabError("a feature table needs the SHA-256 of its original, 64 hex digits")
    name = _UNSAFE.sub("-", str(provenance.get("name", "table")))[:60].strip(".") or "table"
    path = study.archive / "tables" / f"{sha256[:8]}_{name}" / "table.json"
    rows = [_plain_row(row) for row in frame.to_dict("records")]
    for number, row in enumerate(rows, 1):
        _check_row(path, number, row)
    data = {"schema": TABLE_SCHEMA, **provenance, "sha256": sha256, "rows": rows}
    write_whole(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def _plain_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    items: Iterable[tuple[str, Any]] = ((str(key), value) for key, value in row.items())
    return {key: _plain(value) for key, value in items}


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
