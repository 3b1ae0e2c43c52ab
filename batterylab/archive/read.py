"""Read and verify sealed recordings."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from batterylab.archive.seal import SCHEMA, seal_of
from batterylab.errors import BatterylabError, NotMetError
from batterylab.recording import COLUMNS, Recording, steps_from_table


@dataclass(frozen=True)
class ArchiveEntry:
    """What an archive knows of a recording without reading its rows."""

    path: Path
    serial: str
    supplier: str
    lot: str
    protocol: str
    start_utc: str
    source: str
    rows: int
    seal: str


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    """Open a recording for reading, or say in one line why not."""
    path = Path(path)
    if not path.is_file():
        raise BatterylabError(f"{path}: there is no such recording")
    try:
        file = h5py.File(path, "r")
    except OSError:
        raise BatterylabError(
            f"{path}: not an HDF5 file, or cut short", hint="fetch it again from the backup"
        ) from None
    try:
        with file:
            _check_schema(file, path)
            yield file
    except (KeyError, OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise BatterylabError(
            f"{path}: damaged, or not written by batterylab: {error}",
            hint="fetch it again from the backup",
        ) from None


def _check_schema(file: h5py.File, path: Path) -> None:
    found = str(file.attrs.get("schema", ""))
    if found == SCHEMA:
        return
    kind, _, number = SCHEMA.rpartition("/")
    found_kind, _, found_number = found.rpartition("/")
    if found_kind == kind and found_number.isdigit() and int(found_number) > int(number):
        raise BatterylabError(
            f"{path}: schema {found} is newer than this batterylab reads ({SCHEMA})",
            hint="update batterylab",
        )
    raise BatterylabError(
        f"{path}: not a batterylab recording", hint="use `batterylab import` for other formats"
    )


def _text(file: h5py.File, name: str) -> Any:
    return json.loads(file[name][()])


def read(path: Path) -> Recording:
    """Read a recording.

    Parameters
    ----------
    path : Path
        A file that `write` made.

    Returns
    -------
    Recording
        With its seal as stored; `verify` recomputes it.

    Raises
    ------
    BatterylabError
        If the file is missing, cut short, foreign, or of a newer schema.
    """
    with _open(path) as file:
        return Recording(
            serial=str(file.attrs["serial"]),
            supplier=str(file.attrs["supplier"]),
            lot=str(file.attrs["lot"]),
            protocol=str(file.attrs["protocol"]),
            columns={name: file["data"][name][:] for name in COLUMNS if name in file["data"]},
            steps=steps_from_table(file["steps"][:]),
            cell_type=_text(file, "cell_type"),
            protocol_resolved=_text(file, "protocol"),
            provenance=_text(file, "provenance"),
            seal=str(file.attrs["seal"]),
        )


def entry(path: Path) -> ArchiveEntry:
    """Return what a recording's head says, without reading its rows."""
    with _open(path) as file:
        attrs = file.attrs
        return ArchiveEntry(
            path=Path(path),
            serial=str(attrs["serial"]),
            supplier=str(attrs["supplier"]),
            lot=str(attrs["lot"]),
            protocol=str(attrs["protocol"]),
            start_utc=str(attrs.get("start_utc", "")),
            source=str(attrs.get("source", "")),
            rows=len(file["data"]["test_time_s"]),
            seal=str(attrs["seal"]),
        )


def find(folder: Path) -> list[ArchiveEntry]:
    """Return the recordings of an archive, by serial and start.

    Raises
    ------
    BatterylabError
        If the folder does not exist or a file in it is not a recording.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BatterylabError(f"{folder}: there is no such archive",
                              hint="`batterylab run` and `batterylab import` make one")  # fmt: skip
    paths = [path for path in sorted(folder.glob("*/*.h5")) if not path.name.startswith(".")]
    return sorted((entry(path) for path in paths), key=lambda e: (e.serial, e.start_utc, e.seal))


def verify(path: Path) -> Recording:
    """Recompute the seal of a recording and hold it against the stored one.

    Returns
    -------
    Recording
        The recording, if the seal holds.

    Raises
    ------
    NotMetError
        If a single bit of the content differs, or the file is damaged.
    """
    try:
        recording = read(path)
        found = seal_of(recording.checked())
    except BatterylabError as error:
        raise NotMetError(error.message, hint=error.hint) from None
    if found != recording.seal:
        raise NotMetError(
            f"{path}: the seal does not hold: stored {recording.seal[:16]}…, found {found[:16]}…",
            hint="the content was changed after it was sealed; fetch it again from the backup",
        )
    return recording
