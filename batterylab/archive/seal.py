"""The seal: SHA-256 over what a recording says, not over the bytes of its file.

Two files with the same content have the same seal, whatever HDF5 version wrote them. The
content is put in one order: head as JSON with sorted keys, then each column by name, then
the step table; each part is preceded by its name, type and length.
"""

import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab.recording import COLUMNS, Recording, steps_to_table

SCHEMA = "batterylab.recording/1"


def canonical_json(data: Any) -> str:
    """Return JSON with sorted keys and no spaces; NaN and infinity are refused."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False,
                      allow_nan=False)  # fmt: skip


def head_of(recording: Recording) -> dict[str, Any]:
    """Return all of a recording but columns and steps, JSON-able."""
    return {
        "schema": SCHEMA,
        "serial": recording.serial,
        "supplier": recording.supplier,
        "lot": recording.lot,
        "protocol": recording.protocol,
        "cell_type": recording.cell_type,
        "protocol_resolved": recording.protocol_resolved,
        "provenance": recording.provenance,
    }


def seal_of(recording: Recording) -> str:
    """Return the SHA-256 over the recording's content as 64 hex digits.

    Parameters
    ----------
    recording : Recording
        With columns in their archive types (`Recording.checked`).
    """
    digest = hashlib.sha256()
    _feed(digest, "head", canonical_json(head_of(recording)).encode())
    for name in sorted(recording.columns):
        values = np.ascontiguousarray(recording.columns[name], dtype=COLUMNS[name].dtype)
        _feed_array(digest, f"data/{name}", values)
    _feed_array(digest, "steps", steps_to_table(recording.steps))
    return digest.hexdigest()


def _feed(digest: Any, name: str, content: bytes) -> None:
    digest.update(f"{name}:{len(content)}:".encode())
    digest.update(content)


def _feed_array(digest: Any, name: str, values: NDArray[Any]) -> None:
    _feed(digest, f"{name}:{values.dtype.descr}:{len(values)}", values.tobytes())
