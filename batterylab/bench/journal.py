"""The journal: every sample is on the disk before anything else is done with it.

One append-only file a run. A frame is its length, its CRC-32, one letter for its kind, and its
content: ``H`` the run (JSON), ``E`` an event of a channel (JSON), ``R`` rows of samples. A file
that ends in the middle of a frame, as after a power cut, is read up to there.
"""

import contextlib
import json
import mmap
import os
import struct
import time
import zlib
from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property
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
#: rows are read so many bytes at a time
CHUNK_bytes = 1 << 22

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

    def at_once(self, channel: str, what: str, **data: Any) -> None:
        """Note an event and make it durable; any thread may."""
        self.event(channel, what, **data)
        self._flush()

    def rows(self, rows: NDArray[np.float64]) -> None:
        """Add samples, shape (n, 11), columns as in `ROW`; durable within a second."""
        if len(rows):
            self._frame(b"R", np.ascontiguousarray(rows, "<f8").tobytes())
        if time.monotonic() - self._synced >= SYNC_EVERY_s:
            self.sync()

    def sync(self) -> None:
        """Put everything written so far on the disk."""
        may_take(DISK_s)
        self._flush()
        if self.latest is not None:
            self.latest.write()
        self._synced = time.monotonic()

    def _flush(self) -> None:
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._refused(error) from None

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

    The file is mapped, not read: a run of weeks may be larger than the memory. `channel_rows`
    gives the rows of some channels, so that recordings are made a few channels at a time.

    Attributes
    ----------
    head : dict
        The run; empty if the file ends before it, as after a power cut at the very start.
    events : list of dict
        In order; each has ``channel`` and ``what``.
    row_counts : ndarray of int
        How many rows each channel has, by its index.
    whole_bytes : int
        Up to where the file is whole.
    is_whole : bool
        False if the file ends in the middle of a frame, or a frame is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.head: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []
        self.row_counts = np.zeros(0, np.int64)
        self.is_whole = True
        self.whole_bytes = 0
        self._data = memoryview(_mapped(path))
        #: where each block of rows begins, and its length in bytes
        self._blocks = array("Q")
        for kind, at, length in self._frames(path):
            if kind == b"H":
                self.head = json.loads(bytes(self._data[at : at + length]))
            elif kind == b"E":
                self.events.append(json.loads(bytes(self._data[at : at + length])))
            elif kind == b"R":
                self._blocks.extend((at, length))
        if not (self.head or self.events or self._blocks):
            self.is_whole = False  # cut short before its head
        elif self.head.get("schema") != SCHEMA:
            raise BatterylabError(f"{path}: not a journal of this version ({SCHEMA})")
        for rows in self._chunks():
            counts = np.bincount(rows[:, 0].astype(np.int64), minlength=len(self.row_counts))
            counts[: len(self.row_counts)] += self.row_counts
            self.row_counts = counts

    @cached_property
    def rows(self) -> NDArray[np.float64]:
        """All rows at once, in order, shape (n, 11); columns as in `ROW`."""
        return np.concatenate([np.zeros((0, len(ROW))), *self._chunks()])

    def channel_rows(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """Return the rows of some channels, in order, shape (n, 11); columns as in `ROW`."""
        chosen = [rows[np.isin(rows[:, 0], indices)] for rows in self._chunks()]
        return np.concatenate([np.zeros((0, len(ROW))), *chosen])

    def tails(self, since_s: NDArray[np.float64]) -> dict[int, NDArray[np.float64]]:
        """Return each channel's rows after a time, and the last one before it.

        Parameters
        ----------
        since_s : ndarray, shape (channels,)
            Unix time by channel.

        Returns
        -------
        dict of int to ndarray, shape (n, 11)
            By channel, in order; none for a channel without rows.
        """
        before: dict[int, NDArray[np.float64]] = {}
        after: dict[int, list[NDArray[np.float64]]] = {}
        for rows in self._chunks():
            ordered = rows[np.argsort(rows[:, 0], kind="stable")]
            for own in np.split(ordered, np.flatnonzero(np.diff(ordered[:, 0])) + 1):
                channel = int(own[0, 0])
                times_s = own[:, ROW.index("unix_time_s")]
                first = int(np.searchsorted(times_s, since_s[channel], side="right"))
                if first:
                    before[channel] = own[first - 1 : first].copy()
                if first < len(own):
                    after.setdefault(channel, []).append(own[first:].copy())
        return {
            channel: np.concatenate([
                *([before[channel]] if channel in before else []), *after.get(channel, []),
            ]) for channel in sorted({*before, *after})
        }  # fmt: skip

    def _chunks(self) -> Iterator[NDArray[np.float64]]:
        """Yield all rows, some blocks at a time."""
        blocks: list[NDArray[np.float64]] = []
        size = 0
        for at, length in zip(self._blocks[::2], self._blocks[1::2], strict=True):
            blocks.append(np.frombuffer(self._data[at : at + length], "<f8").reshape(-1, len(ROW)))
            size += length
            if size >= CHUNK_bytes:
                yield np.concatenate(blocks)
                blocks, size = [], 0
        if blocks:
            yield np.concatenate(blocks)

    def _frames(self, path: Path) -> Iterator[tuple[bytes, int, int]]:
        """Yield each whole frame's kind, and where its content begins and how long it is."""
        data = self._data
        magic = bytes(data[: len(MAGIC)])
        if len(data) < len(MAGIC) and MAGIC.startswith(magic):
            self.is_whole = False
            return
        if magic != MAGIC:
            raise BatterylabError(f"{path}: not a journal", hint=f"it begins with {MAGIC!r}")
        at = self.whole_bytes = len(MAGIC)
        while at < len(data):
            if at + _HEAD.size > len(data):
                self.is_whole = False
                return
            length, crc, kind = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            is_damaged = length > LARGEST or at + length > len(data)
            if is_damaged or zlib.crc32(data[at : at + length], zlib.crc32(kind)) != crc:
                self.is_whole = False
                return
            yield kind, at, length
            at += length
            self.whole_bytes = at


def _mapped(path: Path) -> mmap.mmap | bytes:
    """Return a file's bytes without reading them into memory."""
    try:
        with path.open("rb") as stream:
            if not os.fstat(stream.fileno()).st_size:
                return b""
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise EnvironmentFailedError(f"{path}: cannot be read: {error.strerror}") from None
