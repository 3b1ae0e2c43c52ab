"""Find a measurement that the archive holds already, under this serial or another.

The same bytes are known by their SHA-256. The same measurement in other bytes (copied, renamed,
exported again) is known by its columns: as many rows, and in every row the same time since the
start, current and voltage, to the digits that exports write.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from batterylab.archive import ArchiveEntry, find
from batterylab.recording import Recording

TIME_s, VOLTAGE_V, CURRENT_SHARE = 1.0, 2e-4, 2e-4
#: a rest at zero current, or a few rows, may be alike by chance: only the same bytes count
FEWEST_ROWS = 20


@dataclass(frozen=True)
class Twin:
    """A recording of the archive that says the same.

    Attributes
    ----------
    path : Path
        Of the recording.
    serial, seal, file : str
        Its cell, seal, and the file it came from.
    same_bytes : bool
        Whether it came from the very same bytes.
    """

    path: Path
    serial: str
    seal: str
    file: str
    same_bytes: bool


class Known:
    """What an archive holds, read once and added to.

    Parameters
    ----------
    archive : Path
        The folder; it may not exist yet.
    """

    def __init__(self, archive: Path) -> None:
        self._entries: list[tuple[ArchiveEntry, dict[str, Any]]] = []
        if archive.is_dir():
            for entry in find(archive):
                self.add(entry)

    def add(self, entry: ArchiveEntry) -> None:
        """Add a recording that was stored."""
        with h5py.File(entry.path, "r") as file:
            provenance = json.loads(file["provenance"][()])
        self._entries.append((entry, provenance))

    def same_bytes(self, sha256: str) -> list[Twin]:
        """Return the recordings that were imported from these bytes."""
        return [
            _twin(entry, provenance, True)
            for entry, provenance in self._entries
            if provenance.get("sha256") == sha256
        ]

    def same_measurement(self, recording: Recording) -> Twin | None:
        """Return a recording with the same columns, or None."""
        if len(recording) < FEWEST_ROWS or not np.any(recording.columns["current_A"]):
            return None
        for entry, provenance in self._entries:
            if entry.rows == len(recording) and _alike(entry.path, recording):
                return _twin(entry, provenance, False)
        return None


def _twin(entry: ArchiveEntry, provenance: dict[str, Any], same_bytes: bool) -> Twin:
    file = str(provenance.get("file", entry.path.name))
    return Twin(entry.path, entry.serial, entry.seal, file, same_bytes)


def _alike(path: Path, recording: Recording) -> bool:
    columns = recording.columns
    with h5py.File(path, "r") as file:
        data = file["data"]

        def near(name: str, tolerance: float, from_start: bool = False) -> bool:
            other: NDArray[np.float64] = data[name][:]
            own = columns[name]
            if from_start:
                other, own = other - other[0], own - own[0]
            return bool(np.abs(other - own).max() <= tolerance)

        largest_A = float(np.abs(columns["current_A"]).max())
        return (
            near("voltage_V", VOLTAGE_V)
            and near("current_A", CURRENT_SHARE * largest_A)
            and near("test_time_s", TIME_s, from_start=True)
        )
