"""Gamry `.DTA`: the impedance spectrum (ZCURVE) of an experiment.

Other tables of such a file (open circuit before the spectrum, frames after it) are left out.
Gamry counts anodic current as positive, which charges a cell whose positive electrode is the
working electrode.
"""

import re
from pathlib import Path

import numpy as np

from batterylab.importers.text import read_text, stamp_s
from batterylab.importers.vendortable import VendorTable, refuse

MAGIC = b"EXPLAIN"
TABLE = "ZCURVE"
COLUMNS = {"time": "Time", "frequency": "Freq", "real": "Zreal", "imaginary": "Zimag",
           "current": "Idc", "voltage": "Vdc"}  # fmt: skip
STAMPS = ("%m/%d/%Y %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%Y-%m-%d %H:%M:%S")
_FIELD = re.compile(r"^(TAG|TITLE|DATE|TIME|PSTAT)\t(?:\w+\t)?([^\t\n]*)", re.MULTILINE)
_ABORTED = re.compile(r"^EXPERIMENTABORTED\tTOGGLE\tT", re.MULTILINE)


def matches(path: Path, head: bytes) -> bool:
    """Return whether this is a Gamry `.DTA`."""
    return head.lstrip(b"\xef\xbb\xbf").startswith(MAGIC) and b"\nTAG\t" in head.replace(b"\r", b"")


def read(path: Path) -> VendorTable:
    """Read a Gamry `.DTA` with an impedance spectrum.

    Raises
    ------
    BatterylabError
        If it holds no spectrum, or a row is cut short or no number.
    """
    lines = read_text(path).splitlines()
    text = "\n".join(lines)
    starts = [n for n, line in enumerate(lines) if line.split("\t")[:2] == [TABLE, "TABLE"]]
    if len(starts) != 1:
        raise refuse(
            path.name,
            f"{len(starts)} tables {TABLE}: Gamry's files are read for impedance alone",
            "export one spectrum a file; other experiments as CSV with 'Time [s],I[A],U[V]'",
        )
    found = _columns(path.name, lines, starts[0] + 1)
    about = dict(_FIELD.findall(text))
    table = VendorTable(
        "Gamry", "batterylab.importers.gamry", found["time"], found["current"], found["voltage"],
        extra={
            "frequency_Hz": found["frequency"], "impedance_real_ohm": found["real"],
            "impedance_imaginary_ohm": found["imaginary"],
        },
        vendor_data={
            key: about[tag][:80]
            for key, tag in (("technique", "TAG"), ("title", "TITLE"), ("channel", "PSTAT"))
            if about.get(tag)
        },
    )  # fmt: skip
    start_s = stamp_s(f"{about.get('DATE', '')} {about.get('TIME', '')}", *STAMPS)
    if start_s is not None:
        table.unix_time_s = start_s + table.time_s
    if _ABORTED.search(text):
        table.remarks.append(f"the experiment was aborted after {len(table)} frequencies")
    return table


def _columns(name: str, lines: list[str], first: int) -> dict[str, np.ndarray]:
    """Return the table's columns; headers stand at `first`, units below, rows after."""
    headers = lines[first].split("\t") if first < len(lines) else []
    missing = [header for header in COLUMNS.values() if header not in headers]
    if missing:
        raise refuse(name, f"line {first + 1}: the column {missing[0]!r} is missing")
    places = {key: headers.index(header) for key, header in COLUMNS.items()}
    rows: list[list[float]] = []
    for number, line in enumerate(lines[first + 2 :], first + 3):
        if not line.startswith("\t"):
            break
        cells = line.split("\t")
        try:
            rows.append([float(cells[place].replace(",", ".")) for place in places.values()])
        except (IndexError, ValueError):
            raise refuse(
                name, f"line {number}: {line.strip()[:40]!r} is no row of a spectrum",
                "cut short, or written to: fetch the file again",
            ) from None  # fmt: skip
    if not rows:
        raise refuse(name, f"{TABLE} has no rows", "nothing was measured, or cut short")
    return dict(zip(places, np.array(rows).T.copy(), strict=True))
