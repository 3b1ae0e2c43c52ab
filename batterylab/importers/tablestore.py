"""Seal tables of features in an archive, and read them back.

The original's bytes are kept with the map and with what was made of them, in
``<archive>/tables/<8 of sha256>_<name>/``: ``original.*``, ``map.yaml`` and ``table.json``. The
folder is written under another name, flushed and renamed: it is there whole or not at all.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batterylab import __version__
from batterylab.archive.seal import canonical_json
from batterylab.errors import EnvironmentFailedError, NotMetError
from batterylab.importers.featuretable import PreparedTable
from batterylab.importers.store import Target
from batterylab.importers.vendortable import refuse
from batterylab.studylog import utc_text

SCHEMA = "batterylab.featuretable/1"
_UNSAFE = re.compile(r"[^A-Za-z0-9_.+-]+")


@dataclass(frozen=True)
class StoredTable:
    """A table of an archive: where it is, its seal, and how much it holds."""

    path: Path
    name: str
    sha256: str
    seal: str
    cells: int
    rows: int
    features: list[str]
    already_there: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {**vars(self), "path": str(self.path)}


def store(table: PreparedTable, target: Target, operator: str) -> StoredTable:
    """Seal a prepared table in the archive.

    Raises
    ------
    BatterylabError
        If the same table is there with another map.
    EnvironmentFailedError
        If the disk refuses.
    """
    stem = _UNSAFE.sub("-", table.path.stem).strip("-.")[:60] or "table"
    folder = target.archive / "tables" / f"{table.sha256[:8]}_{stem}"
    map_sha256 = hashlib.sha256(table.map_bytes).hexdigest()
    same = sorted((target.archive / "tables").glob(f"{table.sha256[:8]}_*/table.json"))
    if same:
        there = read_table(same[0].parent)
        if there["rows"] != table.rows:
            raise refuse(
                table.path.name,
                f"already in the archive with another map: {same[0].parent}",
                "remove that folder if its map was wrong; a table is never kept twice",
            )
        return _stored(same[0].parent, there, True)
    content = {
        "schema": SCHEMA,
        "sha256": table.sha256,
        "name": table.path.name,
        "map_sha256": map_sha256,
        "original": f"original{table.path.suffix.lower()}",
        "software": f"batterylab {__version__}",
        "rows": table.rows,
    }
    content["seal"] = _seal_of(content)
    content["operator"] = operator
    content["imported_utc"] = utc_text()
    try:
        _write_folder(folder, content, table)
    except OSError as error:
        raise EnvironmentFailedError(
            f"{folder}: cannot be written: {error}", hint="is the disk full or read-only?"
        ) from None
    stored = _stored(folder, content, False)
    if target.study is not None:
        target.study.log.append(
            "table",
            operator,
            path=f"tables/{folder.name}",
            seal=stored.seal,
            file=table.path.name,
            cells=stored.cells,
        )
    return stored


def _seal_of(content: dict[str, Any]) -> str:
    sealed = ("schema", "sha256", "name", "map_sha256", "original", "software", "rows")
    text = canonical_json({key: content[key] for key in sealed})
    return hashlib.sha256(text.encode()).hexdigest()


def _stored(folder: Path, content: dict[str, Any], already: bool) -> StoredTable:
    rows = content["rows"]
    return StoredTable(
        folder,
        content["name"],
        content["sha256"],
        content["seal"],
        len({row["serial"] for row in rows}),
        len(rows),
        sorted({row["feature"] for row in rows}),
        already,
    )


def _write_folder(folder: Path, content: dict[str, Any], table: PreparedTable) -> None:
    """Write the three files under another name, flush them, and rename the folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent.parent))
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1)
        for name, data in (
            (content["original"], table.original),
            ("map.yaml", table.map_bytes),
            ("table.json", text.encode()),
        ):
            target = temporary / name
            with target.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            target.chmod(0o444)
        temporary.chmod(0o755)
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def read_table(folder: Path) -> dict[str, Any]:
    """Read a sealed table and hold it against its seal and its original.

    Parameters
    ----------
    folder : Path
        ``<archive>/tables/<8 of sha256>_<name>``.

    Returns
    -------
    dict
        The content of ``table.json``.

    Raises
    ------
    NotMetError
        If original, map or rows were changed after they were sealed.
    """
    try:
        content: dict[str, Any] = json.loads((folder / "table.json").read_text(encoding="utf-8"))
        original = hashlib.sha256((folder / Path(content["original"]).name).read_bytes())
        mapping = hashlib.sha256((folder / "map.yaml").read_bytes())
        holds = (
            content["schema"] == SCHEMA
            and original.hexdigest() == content["sha256"]
            and mapping.hexdigest() == content["map_sha256"]
            and _seal_of(content) == content["seal"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        holds = False
    if not holds:
        raise NotMetError(
            f"{folder}: the table's seal does not hold",
            hint="it was changed after it was sealed; fetch it from the backup",
        )
    return content
