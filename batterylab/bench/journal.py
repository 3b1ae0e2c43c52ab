"""The journal: every sample is on the disk before anything else is done with it.

One append-only file a run. A frame is its length, its CRC-32, one letter for its kind, and its
content: ``H`` the run (JSON), ``E`` an event of a channel (JSON), ``R`` rows of samples. A file
that ends in the middle of a frame, as after a power cut, is read up to there.
"""

import contextlib
import json
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from batterylab.bench.clock import may_take
from batterylab.errors import BatterylabError, EnvironmentFailedError

if TYPE_CHECKING:
    from batterylab.bench.latest import Latest

SCHEMA = "batterylab.journal/1"
MAGIC = b"BLJ1"
_HEAD = struct.Struct("<IIc")
SYNC_EVERY_s = 1.0
#: longest that a disk may need, in s
DISK_s = 10.0
LARGEST = 1 << 28

#: columns of a row, all doubles
ROW = (
    "channel", "test_time_s", "unix_time_s", "current_A", "voltage_V", "temperature_degC",
    "ambient_temperature_degC", "step_index", "cycle_index", "net_capacity_Ah", "net_energy_Wh",
)  # fmt: skip


class Journal:
    """Write a journal.

    Parameters
    ----------
    path : Path
        Must not exist.
    head : dict
        What the run is: JSON-able.

    Raises
    ------
    EnvironmentFailedError
        If the disk refuses; here and on every write.
    """

    #: the last sample of every channel, written after each sync
    latest: "Latest | None" = None

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        self.path = path
        self._synced = 0.0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("xb")
        except OSError as error:
            raise self._refused(error) from None
        try:
            self._write(MAGIC)
            self._frame(b"H", json.dumps({"schema": SCHEMA, **head}).encode())
            self.sync()
        except EnvironmentFailedError:
            self._let_go()
            raise

    @classmethod
    def reopen(cls, path: Path) -> "Journal":
        """Open an interrupted journal to go on; what was cut short at its end is cut off.

        Raises
        ------
        EnvironmentFailedError
            If the disk refuses.
        """
        journal = cls.__new__(cls)
        journal.path, journal._synced = path, 0.0
        whole = JournalContent(path).whole_bytes
        try:
            os.truncate(path, whole)
            journal._file = path.open("ab")
        except OSError as error:
            raise journal._refused(error) from None
        return journal

    def _refused(self, error: OSError) -> EnvironmentFailedError:
        return EnvironmentFailedError(f"{self.path}: cannot be written: {error.strerror or error}")

    def _frame(self, kind: bytes, content: bytes) -> None:
        crc = zlib.crc32(kind + content)
        self._write(_HEAD.pack(len(content), crc, kind) + content)

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise self._refused(error) from None

    def _let_go(self) -> None:
        """Close the file, whatever its last bytes meet."""
        with contextlib.suppress(OSError):
            self._file.close()

    def event(self, channel: str, what: str, **data: Any) -> None:
        """Note an event of a channel; `sync` makes it durable."""
        self._frame(b"E", json.dumps({"channel": channel, "what": what, **data}).encode())

    def rows(self, rows: NDArray[np.float64]) -> None:
        """Add samples, shape (n, 11), columns as in `ROW`; durable within a second."""
        if len(rows):
            self._frame(b"R", np.ascontiguousarray(rows, "<f8").tobytes())
        if time.monotonic() - self._synced >= SYNC_EVERY_s:
            self.sync()

    def sync(self) -> None:
        """Put everything written so far on the disk."""
        may_take(DISK_s)
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._refused(error) from None
        if self.latest is not None:
            self.latest.write()
        self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and close; the file is closed even where the disk refuses."""
        if not self._file.closed:
            try:
                self.sync()
            finally:
                self._let_go()
                if self.latest is not None:
                    self.latest.close()


class JournalContent:
    """What a journal holds.

    Attributes
    ----------
    head : dict
        The run; empty if the file ends before it, as after a power cut at the very start.
    events : list of dict
        In order; each has ``channel`` and ``what``.
    rows : ndarray, shape (n, 11)
        Columns as in `ROW`.
    whole_bytes : int
        Up to where the file is whole.
    is_whole : bool
        False if the file ends in the middle of a frame, or a frame is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.head: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []
        self.is_whole = True
        self.whole_bytes = 0
        blocks: list[NDArray[np.float64]] = []
        for kind, content in self._frames(path):
            if kind == b"H":
                self.head = json.loads(content)
            elif kind == b"E":
                self.events.append(json.loads(content))
            elif kind == b"R":
                blocks.append(np.frombuffer(content, "<f8").reshape(-1, len(ROW)))
        self.rows = np.concatenate(blocks) if blocks else np.zeros((0, len(ROW)))
        if not (self.head or self.events or blocks):
            self.is_whole = False  # cut short before its head
        elif self.head.get("schema") != SCHEMA:
            raise BatterylabError(f"{path}: not a journal of this version ({SCHEMA})")

    def _frames(self, path: Path) -> Iterator[tuple[bytes, bytes]]:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise EnvironmentFailedError(f"{path}: cannot be read: {error.strerror}") from None
        if len(data) < len(MAGIC) and MAGIC.startswith(data):
            self.is_whole = False
            return
        if not data.startswith(MAGIC):
            raise BatterylabError(f"{path}: not a journal", hint=f"it begins with {MAGIC!r}")
        at = self.whole_bytes = len(MAGIC)
        while at < len(data):
            if at + _HEAD.size > len(data):
                self.is_whole = False
                return
            length, crc, kind = _HEAD.unpack_from(data, at)
            content = data[at + _HEAD.size : at + _HEAD.size + length]
            is_damaged = length > LARGEST or len(content) != length
            if is_damaged or zlib.crc32(kind + content) != crc:
                self.is_whole = False
                return
            yield kind, content
            at += _HEAD.size + length
            self.whole_bytes = at
