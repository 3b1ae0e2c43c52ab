"""Write a recording into an archive: whole, sealed, read back, or not at all."""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from batterylab.archive.read import verify
from batterylab.archive.seal import SCHEMA, canonical_json, head_of, seal_of
from batterylab.cells import check_name
from batterylab.errors import BatterylabError, EnvironmentFailedError
from batterylab.recording import COLUMNS, Recording, cycle_table, steps_to_table

CHUNK_ROWS = 65536
_UNSAFE = re.compile(r"[^A-Za-z0-9_.+-]+")


def write(recording: Recording, folder: Path) -> Path:
    """Seal a recording and put it into an archive.

    The file is written under a temporary name, flushed to the disk, renamed and read back.
    A recording that the archive already holds is not written twice.

    Parameters
    ----------
    recording : Recording
        Any recording; its `seal` is computed here.
    folder : Path
        The archive; made if it does not exist.

    Returns
    -------
    Path
        ``<folder>/<serial>/<protocol>_<UTC start>_<8 of seal>.h5``.

    Raises
    ------
    BatterylabError
        If the recording is not well formed.
    EnvironmentFailedError
        If the disk refuses.
    """
    recording = recording.checked()
    seal = seal_of(recording)
    target = Path(folder, *_name_of(recording, seal))
    if target.exists():
        verify(target)
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(recording.with_seal(seal), target)
    except OSError as error:
        raise EnvironmentFailedError(
            f"{target}: cannot be written: {error}", hint="is the disk full or read-only?"
        ) from None
    return target


def _name_of(recording: Recording, seal: str) -> tuple[str, str]:
    serial = check_name(recording.serial, "serial")
    start = re.sub(r"[-:]|\.\d+|\+00:00", "", recording.start_utc).replace("Z", "")
    protocol = _UNSAFE.sub("-", recording.protocol)[:60] or "recording"
    return serial, f"{protocol}_{start or 'undated'}{'Z' if start else ''}_{seal[:8]}.h5"


def _write_whole(recording: Recording, target: Path) -> None:
    handle, name = tempfile.mkstemp(prefix=".writing-", suffix=".h5", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with h5py.File(temporary, "w") as file:
            _fill(file, recording)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        verify(temporary)
        temporary.chmod(0o444)
        temporary.replace(target)
        _sync_folder(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fill(file: h5py.File, recording: Recording) -> None:
    head = head_of(recording)
    provenance = recording.provenance
    file.attrs["schema"] = SCHEMA
    file.attrs["seal"] = recording.seal
    for name in ("serial", "supplier", "lot", "protocol"):
        file.attrs[name] = head[name]
    for name in ("source", "start_utc", "operator", "bench", "channel", "software"):
        if name in provenance:
            file.attrs[name] = str(provenance[name])
    data = file.create_group("data")
    for name, values in recording.columns.items():
        spec = COLUMNS[name]
        dataset = _dataset(data, name, values)
        dataset.attrs["unit"] = spec.unit
        dataset.attrs["bdf_name"] = spec.bdf_name
        dataset.attrs["bdf_label"] = spec.bdf_label
    _dataset(file, "steps", steps_to_table(recording.steps))
    _dataset(file, "cycles", cycle_table(recording))
    try:
        for name in ("cell_type", "protocol_resolved", "provenance"):
            short = {"protocol_resolved": "protocol"}.get(name, name)
            file.create_dataset(short, data=canonical_json(head[name]))
    except (TypeError, ValueError) as error:
        raise BatterylabError(f"recording of {recording.serial!r}: {error}") from None


def _dataset(group: h5py.Group, name: str, values: NDArray[Any]) -> h5py.Dataset:
    if not len(values):
        return group.create_dataset(name, data=values)
    return group.create_dataset(
        name,
        data=np.ascontiguousarray(values),
        chunks=(min(CHUNK_ROWS, len(values)),),
        compression="gzip",
        compression_opts=4,
        shuffle=True,
        fletcher32=True,
    )
