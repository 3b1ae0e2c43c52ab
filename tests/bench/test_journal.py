"""The journal: what is written comes back, however the file ends."""

import errno
import json
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.bench import journal as module
from batterylab.bench.harvest import _groups, recordings
from batterylab.bench.journal import ROW, Journal, JournalContent
from batterylab.errors import BatterylabError, EnvironmentFailedError


def rows_of(count, first=0.0):
    rows = np.arange(count * len(ROW), dtype=float).reshape(count, len(ROW)) + first
    rows[:, 0] = 0
    return rows


def write_one(path):
    """Write a small journal; return what it holds."""
    journal = Journal(path, {"run": "run-0001", "channels": []})
    events = []
    blocks = []
    for k in range(3):
        journal.event("1-1", "segment", index=0, first=k)
        events.append({"channel": "1-1", "what": "segment", "index": 0, "first": k})
        blocks.append(rows_of(k + 1, 1000.0 * k))
        journal.rows(blocks[-1])
    journal.close()
    return events, np.concatenate(blocks)


def test_what_is_written_comes_back(tmp_path):
    events, rows = write_one(tmp_path / "run-0001.journal")
    content = JournalContent(tmp_path / "run-0001.journal")
    assert content.is_whole
    assert content.head["run"] == "run-0001"
    assert content.events == events
    np.testing.assert_array_equal(content.rows, rows)


def test_tails_are_the_rows_since_a_time_and_the_one_before(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_bytes", 40 * 8 * len(ROW))
    path = tmp_path / "run-0001.journal"
    journal = Journal(path, {"channels": [{}] * 4})
    random = np.random.default_rng(1)
    blocks = []
    for k in range(50):
        blocks.append(rows_of(int(random.integers(1, 30)), 1.0))
        blocks[-1][:, 0] = random.integers(0, 3, len(blocks[-1]))
        blocks[-1][:, 2] = 100.0 * k + np.arange(len(blocks[-1]))
        journal.rows(blocks[-1])
    journal.close()
    rows = np.concatenate(blocks)
    since_s = np.array([4000.0, -1.0, np.inf, 0.0])
    found = JournalContent(path).tails(since_s)
    assert sorted(found) == [0, 1, 2]
    for channel, tail in found.items():
        own = rows[rows[:, 0] == channel]
        first = int(np.sum(own[:, 2] <= since_s[channel]))
        np.testing.assert_array_equal(tail, own[max(first - 1, 0) :])


def test_the_rows_of_some_channels_come_without_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_bytes", 40 * 8 * len(ROW))
    path = tmp_path / "run-0001.journal"
    journal = Journal(path, {"channels": []})
    random = np.random.default_rng(1)
    blocks = []
    for _ in range(50):
        blocks.append(rows_of(int(random.integers(1, 30)), 1e4 * len(blocks)))
        blocks[-1][:, 0] = random.integers(0, 7, len(blocks[-1]))
        journal.rows(blocks[-1])
    journal.close()
    rows = np.concatenate(blocks)
    content = JournalContent(path)
    assert content.row_counts.tolist() == np.bincount(rows[:, 0].astype(int)).tolist()
    for chosen in ([3], [0, 6], [2, 4, 5], [9], []):
        wanted = rows[np.isin(rows[:, 0], chosen)]
        np.testing.assert_array_equal(content.channel_rows(chosen), wanted)


def test_channels_are_sealed_in_groups_and_none_is_left_out():
    counts = np.array([5, 0, 1_999_990, 5, 6, 3_000_000, 1, 0])
    assert list(_groups(counts)) == [[0, 2, 3], [4], [5], [6]]


def test_a_journal_is_not_taken_into_memory(tmp_path):
    path = tmp_path / "run-0001.journal"
    journal = Journal(path, {"channels": []})
    block = rows_of(20_000)
    for k in range(20):
        block[:, 0] = k
        journal.rows(block)
    journal.close()
    tracemalloc.start()
    content = JournalContent(path)
    assert len(content.channel_rows([7])) == len(block)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.6 * path.stat().st_size


def test_a_file_cut_at_any_byte_is_a_readable_beginning(tmp_path):
    path = tmp_path / "run-0001.journal"
    events, rows = write_one(path)
    data = path.read_bytes()
    cut = tmp_path / "cut.journal"
    seen = set()
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        content = JournalContent(cut)
        assert content.events == events[: len(content.events)]
        np.testing.assert_array_equal(content.rows, rows[: len(content.rows)])
        if not content.is_whole:
            assert list(recordings(content)) == []  # no channel is named in this head
        seen.add((len(content.events), len(content.rows), content.is_whole))
    # each frame's end is a state of its own, and between frames the file is not whole
    assert {(k, n) for k, n, _ in seen} == {(0, 0), (1, 0), (1, 1), (2, 1), (2, 3), (3, 3)}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_byte_ends_the_file_there(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("journal")
    path = folder / "run-0001.journal"
    events, rows = write_one(path)
    whole = bytearray(path.read_bytes())
    at = data.draw(st.integers(4, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole)
    content = JournalContent(path)
    assert not content.is_whole
    assert content.events == events[: len(content.events)]
    assert len(content.rows) < len(rows) or content.events != events
    np.testing.assert_array_equal(content.rows, rows[: len(content.rows)])


@pytest.mark.parametrize("data", [b"PK\x03\x04", b"not a journal", b"\x89HDF", b"X"])
def test_a_foreign_file_is_refused(tmp_path, data):
    path = tmp_path / "x.journal"
    path.write_bytes(data)
    with pytest.raises(BatterylabError, match="not a journal"):
        JournalContent(path)


def test_a_newer_journal_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SCHEMA", "batterylab.journal/2")
    write_one(tmp_path / "x.journal")
    monkeypatch.undo()
    with pytest.raises(BatterylabError, match=r"batterylab\.journal/1"):
        JournalContent(tmp_path / "x.journal")


def test_a_missing_file_is_an_environment_error(tmp_path):
    with pytest.raises(EnvironmentFailedError, match="cannot be read"):
        JournalContent(tmp_path / "none.journal")


def test_an_existing_journal_is_never_overwritten(tmp_path):
    path = tmp_path / "run-0001.journal"
    write_one(path)
    before = path.read_bytes()
    with pytest.raises(EnvironmentFailedError, match="File exists"):
        Journal(path, {})
    assert path.read_bytes() == before


def test_frames_carry_length_checksum_and_kind(tmp_path):
    """The layout that other programs may rely on."""
    import zlib

    path = tmp_path / "run-0001.journal"
    write_one(path)
    data = path.read_bytes()
    assert data[:4] == b"BLJ1"
    length, crc, kind = struct.unpack_from("<IIc", data, 4)
    content = data[13 : 13 + length]
    assert kind == b"H"
    assert crc == zlib.crc32(kind + content)
    assert json.loads(content)["schema"] == "batterylab.journal/1"


class Refusing:
    """A file on a disk that is full after some bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room
        self.closed = False

    def write(self, data):
        if len(data) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(data)
        return self.file.write(data)

    def flush(self):
        self.file.flush()

    def fileno(self):
        return self.file.fileno()

    def close(self):
        self.closed = True
        self.file.close()
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_told_and_what_was_written_stays(tmp_path):
    path = tmp_path / "run-0001.journal"
    journal = Journal(path, {"run": "run-0001", "channels": []})
    journal.event("1-1", "segment", index=0)
    journal._file = Refusing(journal._file, room=300)
    journal.rows(rows_of(2))
    with pytest.raises(EnvironmentFailedError, match="No space left on device"):
        journal.rows(rows_of(50))
    with pytest.raises(EnvironmentFailedError, match="No space left"):
        journal.event("1-1", "x" * 500)
    journal.close()
    assert journal._file.closed
    content = JournalContent(path)
    assert len(content.rows) == 2
    assert [event["what"] for event in content.events] == ["segment"]


def test_a_disk_that_refuses_to_sync_is_told(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "run-0001.journal", {})

    def refuse(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module.os, "fsync", refuse)
    with pytest.raises(EnvironmentFailedError, match="Input/output error"):
        journal.sync()
    with pytest.raises(EnvironmentFailedError, match="Input/output error"):
        journal.close()
    assert journal._file.closed
    monkeypatch.undo()
    journal.close()


def test_a_full_disk_at_the_very_start_leaves_no_open_file(tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", refuse)
    with pytest.raises(EnvironmentFailedError, match="No space left"):
        Journal(tmp_path / "run-0001.journal", {"run": "x"})


def test_rows_are_durable_within_a_second(tmp_path, monkeypatch):
    times = iter([0.0, 0.4, 0.9, 1.1, 1.1, 1.1])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(times))
    path = tmp_path / "run-0001.journal"
    journal = Journal(path, {})
    found = []
    for _ in range(3):
        journal.rows(rows_of(1))
        found.append(len(JournalContent(path).rows))
    assert found == [0, 0, 3]
    journal.close()
