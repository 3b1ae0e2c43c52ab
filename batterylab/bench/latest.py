"""The last sample of every channel, durable every second, in a file that does not grow.

The journal holds the rows that a recording keeps, which may be half a minute apart. Where a run
shall go on exactly where it was, the last sample itself is needed: its counters, its step, how
long the step had run. Two slots are written in turn, each with a number and a CRC-32, so that a
write that is cut short leaves the one before.
"""

import contextlib
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batterylab.bench.journal import ROW
from batterylab.errors import EnvironmentFailedError

MAGIC = b"BLL1"
#: columns of the table, all doubles: a row, then what its step had come to
COLUMNS = (*ROW, "elapsed_s", "moved_Ah")
_HEAD = struct.Struct("<4sQII")


class Latest:
    """Write the last samples of a run.

    Parameters
    ----------
    path : Path
        Beside the journal.
    channels : int
        How many.
    """

    def __init__(self, path: Path, channels: int) -> None:
        self.path = path
        self.table = np.full((channels, len(COLUMNS)), np.nan)
        self._number = _newest(path)[0]
        self._size = _HEAD.size + self.table.nbytes
        self._handle: int | None = None

    def write(self) -> None:
        """Put the table as it stands into the older slot.

        Raises
        ------
        EnvironmentFailedError
            If the disk refuses.
        """
        self._number += 1
        content = np.ascontiguousarray(self.table, "<f8").tobytes()
        head = _HEAD.pack(MAGIC, self._number, len(self.table), zlib.crc32(content))
        try:
            if self._handle is None:
                self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            os.pwrite(self._handle, head + content, (self._number % 2) * self._size)
            os.fdatasync(self._handle)
        except OSError as error:
            raise EnvironmentFailedError(
                f"{self.path}: cannot be written: {error.strerror or error}"
            ) from None

    def close(self) -> None:
        """Close the file."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.close(self._handle)
            self._handle = None


def read_latest(path: Path, channels: int) -> NDArray[np.float64]:
    """Return the newest whole table, shape (channels, 13); NaN where nothing is known."""
    _, table = _newest(path)
    if table is None or len(table) != channels:
        return np.full((channels, len(COLUMNS)), np.nan)
    return table


def _newest(path: Path) -> tuple[int, NDArray[np.float64] | None]:
    try:
        data = path.read_bytes()
    except OSError:
        return 0, None
    best: tuple[int, NDArray[np.float64] | None] = (0, None)
    at = data.find(MAGIC)
    while at >= 0:
        if at + _HEAD.size <= len(data):
            _, number, rows, crc = _HEAD.unpack_from(data, at)
            size = rows * len(COLUMNS) * 8
            content = data[at + _HEAD.size : at + _HEAD.size + size]
            is_whole = len(content) == size and zlib.crc32(content) == crc
            if is_whole and number > best[0]:
                table = np.frombuffer(content, "<f8").reshape(rows, len(COLUMNS)).copy()
                best = (number, table)
        at = data.find(MAGIC, at + 1)
    return best
