"""Read text that cyclers export: encoding, header with units, numbers, times.

A header such as ``Current(mA)``, ``Current / A``, ``I[A]`` or ``Amps`` is split into a name and
a unit; a vendor's module asks for a name and gets numbers in the unit of its request.
"""

import io
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from batterylab.importers.vendortable import refuse

Floats = NDArray[np.float64]

#: quantity -> unit as files write it, in lower case but for the first letter's prefix -> factor
FACTORS: dict[str, dict[str, float]] = {
    "s": {"": 1.0, "s": 1.0, "sec": 1.0, "second": 1.0, "h": 3600.0, "min": 60.0, "ms": 1e-3},
    "A": {"": 1.0, "A": 1.0, "mA": 1e-3, "uA": 1e-6},
    "V": {"": 1.0, "V": 1.0, "mV": 1e-3, "uV": 1e-6},
    "Ah": {"": 1.0, "Ah": 1.0, "mAh": 1e-3, "uAh": 1e-6, "As": 1 / 3600.0, "mAs": 1e-3 / 3600.0},
    "Wh": {"": 1.0, "Wh": 1.0, "mWh": 1e-3, "uWh": 1e-6, "Ws": 1 / 3600.0, "mWs": 1e-3 / 3600.0},
    "degC": {"": 1.0, "C": 1.0, "°C": 1.0, "degC": 1.0, "oC": 1.0, "\ufffdC": 1.0},
    "Hz": {"": 1.0, "Hz": 1.0, "kHz": 1e3},
    "ohm": {"": 1.0, "Ohm": 1.0, "ohm": 1.0, "mOhm": 1e-3},
    "deg": {"": 1.0, "deg": 1.0},
    "1": {"": 1.0, "1": 1.0},
}
_HEADER = re.compile(r"^\s*(.*?)\s*(?:\(([^()]*)\)|\[([^\[\]]*)\]|\s*/\s*([^/]+?))?\s*$")
_DURATION = re.compile(
    r"\s*(?:(\d+)\s*d\s*)?(\d+):(\d{1,2}):(\d{1,2}(?:\.\d+)?)\s*\Z", re.IGNORECASE
)
LONGEST_LINE = 200_000
#: rows from which the last digit of a column is read
SAMPLE = 2000


def read_text(path: Path, encodings: Sequence[str] = ("utf-8-sig", "latin-1")) -> str:
    """Return a file's text in the first encoding that fits.

    Raises
    ------
    BatterylabError
        If it is not text or cannot be read.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise refuse(path.name, f"cannot be read: {error.strerror}") from None
    if not raw.strip():
        raise refuse(path.name, "the file is empty", "export it again")
    if b"\0" in raw[:4096]:
        raise refuse(path.name, "binary content where text is expected")
    for encoding in encodings:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise refuse(path.name, f"not text in {' or '.join(encodings)}", "export it as UTF-8")


def split_header(header: str) -> tuple[str, str]:
    """Return a header's name in lower case and its unit.

    Examples
    --------
    >>> split_header("Current(mA)")
    ('current', 'mA')
    >>> split_header("(Q-Qo)/mA.h")
    ('(q-qo)', 'mAh')
    """
    for written, meant in (("μ", "u"), ("µ", "u"), ("¦Ì", "u"), ("A.h", "Ah"), ("W.h", "Wh")):
        header = header.replace(written, meant)
    match = _HEADER.match(header)
    if not match:
        return header.strip().lower(), ""
    unit = next((part for part in match.groups()[1:] if part), "")
    return match[1].strip().lower(), unit.strip()


class Sheet:
    """A table of text whose columns are asked for by name and unit.

    Parameters
    ----------
    name : str
        The file's name, for messages.
    columns : dict of str to array
        Text or numbers, equally long, under the file's own headers.
    first_line : int
        The line of the file that holds the first row; 0 if there are no lines.
    sample : dict of str to list of str
        The first rows as they are written, from which the last digit is read.
    """

    def __init__(
        self,
        name: str,
        columns: dict[str, NDArray[Any]],
        first_line: int = 0,
        sample: dict[str, list[str]] | None = None,
    ) -> None:
        self.name = name
        self.columns = columns
        self.first_line = first_line
        self.sample = sample or {}
        self._by_name: dict[str, tuple[str, str]] = {}
        for header in columns:
            base, unit = split_header(header)
            self._by_name.setdefault(base, (header, unit))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self.columns.values()), ()))

    def has(self, *names: str) -> bool:
        """Return whether all these columns exist."""
        return all(self._find(name) is not None for name in names)

    def _find(self, name: str) -> tuple[str, str] | None:
        if name in self.columns:
            return name, split_header(name)[1]
        return self._by_name.get(name.lower())

    def get(self, names: str | Sequence[str], quantity: str = "1") -> Floats | None:
        """Return the first of these columns that exists, in the quantity's unit.

        Raises
        ------
        BatterylabError
            If a cell is no number, or the header's unit is not one of the quantity.
        """
        for name in [names] if isinstance(names, str) else names:
            found = self._find(name)
            if found:
                header, unit = found
                return self._numbers(header) * self._factor(header, unit, quantity)
        return None

    def need(self, names: str | Sequence[str], quantity: str = "1") -> Floats:
        """Return a column as `get` does, or say that it is missing."""
        values = self.get(names, quantity)
        if values is None:
            wanted = names if isinstance(names, str) else " or ".join(names)
            raise refuse(
                self.name, f"the column {wanted!r} is missing", "export the file with all columns"
            )
        return values

    def text(self, names: str | Sequence[str]) -> NDArray[Any] | None:
        """Return the first of these columns that exists as text, stripped; else None."""
        for name in [names] if isinstance(names, str) else names:
            found = self._find(name)
            if found:
                return np.char.strip(self.columns[found[0]].astype(str))
        return None

    def resolution(self, names: str | Sequence[str], quantity: str) -> float:
        """Return the last digit of a column as it is written, in the quantity's unit.

        A column with an exponent, or of a binary file, has none that is known: 0.
        """
        for name in [names] if isinstance(names, str) else names:
            found = self._find(name)
            if found and found[0] in self.sample:
                sample = self.sample[found[0]]
                if any("e" in value.lower() for value in sample):
                    return 0.0
                digits = max((len(v.strip().partition(".")[2]) for v in sample), default=0)
                return float(10.0**-digits * self._factor(*found, quantity))
        return 0.0

    def _factor(self, header: str, unit: str, quantity: str) -> float:
        known = FACTORS[quantity]
        if unit in known:
            return known[unit]
        lowered = {key.lower(): factor for key, factor in known.items()}
        if unit.lower() in lowered:
            return lowered[unit.lower()]
        raise refuse(
            self.name,
            f"column {header!r}: unit {unit!r} is not one of {quantity}",
            f"known: {', '.join(key for key in known if key)}",
        )

    def _numbers(self, header: str) -> Floats:
        raw = self.columns[header]
        if raw.dtype.kind in "fiu":
            return raw.astype(np.float64)
        texts = pd.Series(raw).astype(str).str.strip()
        values = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64, copy=True)
        bad = np.flatnonzero(np.isnan(values) & ~texts.str.lower().isin(["", "nan"]).to_numpy())
        if len(bad) and _is_decimal_comma(texts.iloc[bad[0]]):
            values = pd.to_numeric(texts.str.replace(",", "."), errors="coerce").to_numpy(
                np.float64
            )
            bad = np.flatnonzero(np.isnan(values))
        if len(bad):
            row = int(bad[0])
            where = f"line {row + self.first_line}" if self.first_line else f"row {row}"
            raise refuse(
                self.name,
                f"{where}, column {header!r}: {texts.iloc[row][:40]!r} is not a number",
                "export the file again",
            )
        return values


def _is_decimal_comma(text: str) -> bool:
    return bool(re.fullmatch(r"[+-]?\d+,\d+([eE][+-]?\d+)?", text))


def read_sheet(path: Path, text: str, header_line: int, separator: str = ",") -> Sheet:
    """Return the table that begins at a line of a text.

    Parameters
    ----------
    path : Path
        For messages.
    text : str
        The whole file.
    header_line : int
        Index of the line with the headers, from 0.
    separator : str
        Between fields.

    Raises
    ------
    BatterylabError
        If there are no rows, a line has too many fields, or the last line is cut short.
    """
    lines = text.splitlines()
    headers = _unique([part.strip().strip('"') for part in lines[header_line].split(separator)])
    rows = [line for line in lines[header_line + 1 :] if line.strip()]
    if not rows:
        raise refuse(path.name, "there are no rows of data", "nothing was measured, or cut short")
    if max(map(len, rows)) > LONGEST_LINE:
        raise refuse(path.name, "a line is too long to be a row of data")
    fields = rows[0].count(separator)
    if rows[-1].count(separator) < fields and len(rows) > 1:
        raise refuse(
            path.name,
            f"line {header_line + 1 + len(rows)} is cut short",
            "the file was truncated: fetch it again",
        )
    width = max(len(headers), fields + 1)
    names = headers + [f"unnamed {number}" for number in range(len(headers), width)]
    try:
        frame = pd.read_csv(
            io.StringIO("\n".join(rows)),
            sep=separator,
            names=names,
            header=None,
            keep_default_na=False,
            index_col=False,
            low_memory=False,
        )
    except (pd.errors.ParserError, ValueError) as error:
        raise refuse(path.name, f"not a table: {error}", "export the file again") from None
    columns = {str(name): frame[name].to_numpy() for name in frame.columns}
    cells = [row.split(separator) for row in rows[:SAMPLE]]
    sample = {
        name: [row[number].strip() for row in cells if len(row) > number]
        for number, name in enumerate(names)
    }
    return Sheet(path.name, columns, header_line + 2, sample)


def _unique(names: list[str]) -> list[str]:
    """Number repeated headers, as in ``Loop, Loop.1``."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        count = seen.get(name, 0)
        seen[name] = count + 1
        result.append(f"{name}.{count}" if count else name)
    return result


def durations_s(name: str, texts: NDArray[Any]) -> Floats:
    """Return times such as ``01:02:03.5`` or ``2d 01:02:03`` in s.

    Raises
    ------
    BatterylabError
        If one cannot be read.
    """
    result = np.empty(len(texts))
    for row, text in enumerate(texts):
        match = _DURATION.match(text)
        if not match:
            raise refuse(name, f"row {row}: {str(text)[:40]!r} is not a time", "h:min:s")
        days, hours, minutes, seconds = match.groups()
        result[row] = int(days or 0) * 86400 + int(hours) * 3600 + int(minutes) * 60
        result[row] += float(seconds)
    return result


def stamps_s(texts: NDArray[Any], *formats: str) -> Floats | None:
    """Return local dates and times as seconds since 1970, taken as UTC; None if none fits.

    Parameters
    ----------
    texts : array of str
        The column.
    *formats : str
        strptime formats, tried in this order; the first that fits all rows is taken.
    """
    for form in formats:
        parsed = pd.to_datetime(pd.Series(texts), format=form, errors="coerce")
        if not parsed.isna().any():
            nanoseconds = parsed.astype("datetime64[ns]").astype("int64").to_numpy()
            return nanoseconds.astype(np.float64) / 1e9
    return None


def stamp_s(text: str, *formats: str) -> float | None:
    """Return one local date and time as seconds since 1970, taken as UTC, or None."""
    for form in formats:
        try:
            return datetime.strptime(text.strip(), form).replace(tzinfo=UTC).timestamp()
        except ValueError:
            continue
    return None
