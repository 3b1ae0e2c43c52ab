"""Impedance spectra as tables: CSV with headers for frequency, real and imaginary part, or bare.

A bare table has three columns in the order frequency, real, imaginary, and is known by its
first column, which is geometric. Such files say nothing of time, current and voltage: rows
stand at time 0, the current is 0, and the voltage is not known.
"""

from pathlib import Path

import numpy as np

from batterylab.importers.text import Sheet, read_sheet, read_text, split_header
from batterylab.importers.vendortable import Array, VendorTable, refuse

FREQUENCY = ("freq", "frequency", "f", "frequency_Hz")
REAL = ("Re(Z)", "Zreal", "Z'", "Z_real", "z_re", "Real Impedance", "impedance_real_ohm")
IMAGINARY = ("Im(Z)", "Zimag", "Z''", 'Z"', "Z_imag", "z_im", "Imaginary Impedance",
             "impedance_imaginary_ohm")  # fmt: skip
SEPARATORS = (",", ";", "\t")
#: fewest rows, and how far the ratio of neighbouring frequencies may lie from the median one
LEAST_ROWS, STEADY = 5, 0.6


def matches(path: Path, head: bytes) -> bool:
    """Return whether this is a table of a spectrum, without a column of time."""
    lines = [line for line in head.decode("utf-8", "replace").splitlines()[:60] if line.strip()]
    return bool(lines) and (_headers(lines[0]) is not None or _is_bare(lines))


def _separator(line: str) -> str:
    return max(SEPARATORS, key=line.count)


def _headers(line: str) -> tuple[str, str, str, float] | None:
    """Return the three headers and the imaginary part's sign, or None."""
    names = [cell.strip().strip('"\ufeff') for cell in line.split(_separator(line))]
    found = {split_header(name)[0]: name for name in names}
    if any(base in found for base in ("time", "test time", "test_time_s", "test_time_second")):
        return None

    def first(known: tuple[str, ...], sign: str = "") -> str | None:
        bases = [base for name in known
                 for base in ((sign + name).lower(), split_header(sign + name)[0])]  # fmt: skip
        return next((found[base] for base in bases if base in found), None)

    frequency, real = first(FREQUENCY), first(REAL)
    if frequency is None or real is None:
        return None
    for mark, sign in (("-", -1.0), ("", 1.0)):
        imaginary = first(IMAGINARY, mark)
        if imaginary is not None:
            return frequency, real, imaginary, sign
    return None


def _numbers(line: str) -> list[float] | None:
    try:
        return [float(cell) for cell in line.split(_separator(line))]
    except ValueError:
        return None


def _is_bare(lines: list[str]) -> bool:
    rows = [_numbers(line) for line in lines[:-1] or lines]
    if len(rows) < LEAST_ROWS - 1 or any(row is None or len(row) != 3 for row in rows):
        return False
    frequency = np.array([row[0] for row in rows if row])
    if not np.isfinite(frequency).all() or not (frequency > 0).all():
        return False
    ratio = np.diff(np.log(frequency))
    middle = float(np.median(ratio))
    return bool(abs(middle) > 0.02 and (np.abs(ratio / middle - 1.0) < STEADY).mean() > 0.8)


def read(path: Path) -> VendorTable:
    """Read a table of a spectrum.

    Raises
    ------
    BatterylabError
        If a cell is no number, or a row is cut short.
    """
    text = read_text(path)
    lines = text.splitlines()
    first = next(n for n, line in enumerate(lines) if line.strip())
    headers = _headers(lines[first])
    if headers is None:
        text = "\n".join(["frequency/Hz,Re(Z)/Ohm,Im(Z)/Ohm".replace(",", _separator(lines[first])),
                          *lines[first:]])  # fmt: skip
        sheet = read_sheet(path, text, 0, _separator(lines[first]))
        sheet.first_line -= 1
        headers = ("frequency/Hz", "Re(Z)/Ohm", "Im(Z)/Ohm", 1.0)
    else:
        sheet = read_sheet(path, text, first, _separator(lines[first]))
    return _table(sheet, headers)


def _table(sheet: Sheet, headers: tuple[str, str, str, float]) -> VendorTable:
    frequency, real, imaginary, sign = headers
    nothing: Array = np.zeros(len(sheet))
    extra = {
        "frequency_Hz": _with_unit(sheet, frequency, "Hz"),
        "impedance_real_ohm": _with_unit(sheet, real, "ohm"),
        "impedance_imaginary_ohm": sign * _with_unit(sheet, imaginary, "ohm"),
    }
    if not np.isfinite(extra["frequency_Hz"]).all():
        row = int(np.argmin(np.isfinite(extra["frequency_Hz"])))
        raise refuse(sheet.name, f"line {row + sheet.first_line}: there is no frequency")
    return VendorTable(
        "table", "batterylab.importers.spectra", nothing, nothing.copy(),
        np.full(len(sheet), np.nan), extra=extra,
        remarks=["the file says nothing of time, current and voltage: rows stand at 0 s and "
                 "0 A, and the voltage is not known"],
    )  # fmt: skip


def _with_unit(sheet: Sheet, header: str, quantity: str) -> Array:
    """Return a column; one whose header names no unit is taken to be in Hz or ohm."""
    if split_header(header)[1] in ("", "Ω"):
        return sheet.need(header)
    return sheet.need(header, quantity)
