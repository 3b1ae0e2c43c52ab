"""LabVIEW `.lvm` without headers: time, current, voltage, temperature and perhaps more.

Such a file does not say what its columns are. The order above is that of the test rigs known to
write it; the checks on sign and range must confirm it, and the recording carries a remark.
A file with LabVIEW's own header is refused: its columns are the writer's choice.
"""

from pathlib import Path

import numpy as np

from batterylab.importers.text import read_text
from batterylab.importers.vendortable import VendorTable, refuse

LEAST, MOST = 3, 5


def matches(path: Path, head: bytes) -> bool:
    """Return whether this is a `.lvm` file."""
    return path.suffix.lower() == ".lvm"


def read(path: Path) -> VendorTable:
    """Read a `.lvm` file without headers.

    Raises
    ------
    BatterylabError
        If it has headers, or its rows are not three to five numbers.
    """
    text = read_text(path)
    if text.startswith("LabVIEW Measurement"):
        raise refuse(
            path.name,
            "LabVIEW's header does not say which column is the current",
            "export CSV with the headers 'Time [s]','I[A]','U[V]'",
        )
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    widths = {len(row) for row in rows}
    if len(widths) != 1 or not LEAST <= max(widths) <= MOST:
        short = (
            next(n for n, row in enumerate(rows, 1) if len(row) != len(rows[0]))
            if (len(widths) > 1)
            else 1
        )
        raise refuse(
            path.name,
            f"line {short}: {len(rows[short - 1])} columns",
            "3 to 5 in every line: time, current, voltage, temperature",
        )
    try:
        values = np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise refuse(path.name, f"not a table of numbers: {error}") from None
    extra = {"temperature_degC": values[:, 3]} if values.shape[1] > LEAST else {}
    return VendorTable(
        "LabVIEW",
        "batterylab.importers.labview",
        values[:, 0],
        values[:, 1],
        values[:, 2],
        extra=extra,
        remarks=[
            "the file has no headers: time, current, voltage and temperature were taken "
            "in this order"
        ],
    )
