"""What the archive says about where the recordings come from: instruments and software.

Only the provenance of each file is read, never its columns. A study without an archive, or
with files that cannot be read, gives less evidence, not an error: `archive verify` is the
command that judges files.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batterylab.report.card import mapping, text
from batterylab.report.words import counted, plain


@dataclass(frozen=True)
class Evidence:
    """What stands in the provenance of the recordings that a scorecard names.

    Attributes
    ----------
    instruments : tuple of rows
        Role, model, serial, calibration due, number of recordings.
    facts : tuple of (str, str)
        Software that recorded, operators, benches, imported files.
    """

    instruments: tuple[tuple[str, ...], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


def provenance_of(path: Path) -> dict[str, Any]:
    """Return a recording's provenance; empty if the file cannot be read."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return mapping(json.loads(file["provenance"][()]))
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError):
        return {}


def gather(archive: Path | None, seals: set[str]) -> Evidence:
    """Read the provenance of the recordings with these seals.

    Parameters
    ----------
    archive : Path or None
        The study's archive. File names end in the first 8 characters of the seal.
    seals : set of str
        What the scorecard names.
    """
    if archive is None or not archive.is_dir():
        return Evidence()
    codes = {seal[:8] for seal in seals}
    paths = [path for path in sorted(archive.glob("*/*.h5")) if path.stem[-8:] in codes]
    instruments: Counter[tuple[str, ...]] = Counter()
    said: dict[str, Counter[str]] = {}
    for path in paths:
        provenance = provenance_of(path)
        for key, label in (
            ("software", "Recorded with"), ("bench", "Bench"), ("operator", "Operator"),
            ("reader", "Imported with"),
        ):  # fmt: skip
            if provenance.get(key):
                said.setdefault(label, Counter())[_line(provenance[key])] += 1
        for role, one in mapping(provenance.get("instruments")).items():
            found = mapping(one)
            row = (role, text(found, "model"), text(found, "serial"),
                   text(found, "calibration_due") or "not stated")  # fmt: skip
            instruments[row] += 1
    facts = tuple((label, _listed(found)) for label, found in said.items())
    rows = tuple((*row, str(number)) for row, number in sorted(instruments.items()))
    return Evidence(rows, facts)


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{plain(name)} {plain(item)}" for name, item in value.items())
    return plain(value)


def _listed(found: Counter[str]) -> str:
    shown = [f"{what} ({counted(times, 'recording')})" for what, times in sorted(found.items())[:6]]
    more = [f"and {len(found) - 6} more"] if len(found) > 6 else []
    return "; ".join([*shown, *more])
