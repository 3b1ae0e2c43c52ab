"""Tables of features: one row a cell, or a cell and state of charge, made elsewhere.

A table is read by its map (`featuremap`) into long rows, one value a row, and every value is
checked; `tablestore` seals it in an archive.
"""

import csv
import hashlib
import io
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batterylab.cells import CellType, check_name
from batterylab.errors import (
    BatterylabError,
    Problem,
    ProblemsError,
)
from batterylab.importers.featuremap import (
    SOC_MARK,
    STOPPED,
    FeatureColumn,
    FeatureMap,
    FromColumn,
    Source,
)
from batterylab.importers.store import Target
from batterylab.importers.text import read_text
from batterylab.importers.vendortable import refuse
from batterylab.yamlfile import read_model

MOST_ROWS = 1_000_000
#: so many mistakes are listed
MOST_PROBLEMS = 20
#: two cells with the same values in so many features are one cell
TWIN_VALUES = 5

Row = dict[str, Any]


@dataclass(frozen=True)
class PreparedTable:
    """A table read and checked, not stored.

    Attributes
    ----------
    path, map_path : Path
        The table and its map.
    original, map_bytes : bytes
        Their contents.
    rows : list of dict
        In long form: serial, supplier, lot, feature, value, uncertainty, unit, and where the
        map names them soc_percent, cycles, stopped.
    """

    path: Path
    map_path: Path
    original: bytes
    map_bytes: bytes
    rows: list[Row]

    @property
    def sha256(self) -> str:
        """SHA-256 of the table's bytes."""
        return hashlib.sha256(self.original).hexdigest()


def prepare(path: Path, map_path: Path, target: Target) -> PreparedTable:
    """Read a table by its map and check every value.

    Parameters
    ----------
    path : Path
        A CSV file in UTF-8 or an XLSX file; the first row holds the headers.
    map_path : Path
        What its columns mean.
    target : Target
        Knows the cells and the cell type.

    Returns
    -------
    PreparedTable
        Not stored yet.

    Raises
    ------
    ProblemsError
        With every mistake, by row.
    BatterylabError
        If a file cannot be read.
    """
    mapping = read_model(map_path, FeatureMap)
    original = _bytes_of(path)
    lines = _lines(path, original, mapping.sheet)
    header = [str(name).strip() if name is not None else "" for name in lines[0]]
    missing = [name for name in mapping.columns() if name not in header]
    if missing:
        raise ProblemsError(
            [
                Problem(
                    path.name, f"there is no column {name!r}", f"it has: {', '.join(header)[:300]}"
                )
                for name in missing
            ]
        )
    table = _Reader(path.name, mapping, target, header)
    for number, line in enumerate(lines[1:], 2):
        if any(value not in (None, "") for value in line):
            table.take(number, line)
    return PreparedTable(path, map_path, original, _bytes_of(map_path), table.finish())


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise refuse(path.name, "there is no such file", "check the path") from None
    except OSError as error:
        raise refuse(path.name, f"cannot be read: {error.strerror}") from None


def _lines(path: Path, original: bytes, sheet: str | None) -> list[list[Any]]:
    """Return the table's lines, the headers first."""
    if path.suffix.lower() in (".xlsx", ".xlsm"):
        lines = _sheet_lines(path, original, sheet)
    elif path.suffix.lower() == ".csv":
        if sheet:
            raise refuse(path.name, "a CSV file has no sheets", "leave 'sheet' out of the map")
        text = read_text(path, ("utf-8-sig",))
        separator = ";" if text.partition("\n")[0].count(";") else ","
        try:
            lines = [list(row) for row in csv.reader(io.StringIO(text), delimiter=separator)]
        except csv.Error as error:
            raise refuse(path.name, f"not a CSV file: {error}", "save it as CSV in UTF-8") from None
    else:
        raise refuse(
            path.name,
            f"a table of features is .csv or .xlsx, not {path.suffix!r}",
            "without --as features for a cycler's file",
        )
    if len(lines) < 2:
        raise refuse(path.name, "there are no rows of data", "the first row holds the headers")
    if len(lines) > MOST_ROWS:
        raise refuse(path.name, f"more than {MOST_ROWS} rows", "one row a cell and SOC")
    return lines


def _sheet_lines(path: Path, original: bytes, sheet: str | None) -> list[list[Any]]:
    import openpyxl

    try:
        book = openpyxl.load_workbook(io.BytesIO(original), read_only=True, data_only=True)
    except Exception as error:  # what a broken file makes of a parser cannot be listed
        raise refuse(path.name, f"not an XLSX file, or damaged: {error}"[:200]) from None
    try:
        if sheet is not None and sheet not in book.sheetnames:
            raise refuse(
                path.name, f"there is no sheet {sheet!r}", f"it has: {', '.join(book.sheetnames)}"
            )
        chosen = book[sheet] if sheet else book.worksheets[0]
        return [list(row) for row in chosen.iter_rows(values_only=True)]
    finally:
        book.close()


class _Reader:
    """Turns lines into long rows and collects mistakes."""

    def __init__(self, name: str, mapping: FeatureMap, target: Target, header: list[str]) -> None:
        self.name = name
        self.mapping = mapping
        self.target = target
        self.cell_type = target.study.cell_type if target.study else None
        self.position = {column: index for index, column in reversed(list(enumerate(header)))}
        self.problems: list[Problem] = []
        self.rows: dict[tuple[str, str, float | None], Row] = {}
        self.places: dict[str, tuple[str, str]] = {}
        if self.cell_type is None and any(isinstance(f.reference, str) for f in mapping.features):
            raise BatterylabError(
                "a reference to the nominal capacity needs a study",
                hint="import into a study, or give {column: ...}",
            )

    def complain(self, row: int, what: str, remedy: str = "") -> None:
        self.problems.append(Problem(f"{self.name}, row {row}", what, remedy))

    def take(self, number: int, line: list[Any]) -> None:
        """Read one line."""

        def cell(column: str) -> Any:
            place = self.position[column]
            return line[place] if place < len(line) else None

        try:
            serial = check_name(_text(cell(self.mapping.serial.column)), "serial")
            supplier, lot = self._placed(serial, cell)
            soc, more = self._soc(cell), self._more(cell)
            for feature in self.mapping.features:
                value = self._value(feature, cell)
                if value is not None:
                    self._keep(number, serial, supplier, lot, soc, more, feature, value)
        except BatterylabError as error:
            self.complain(number, error.message, error.hint or "")

    def _placed(self, serial: str, cell: Any) -> tuple[str, str]:
        """Return supplier and lot: the study's, else the map's."""
        said = [_of(self.mapping.supplier, cell), _of(self.mapping.lot, cell)]
        study = self.target.study
        known = study.cells.get(serial) if study else None
        if known is not None:
            for given, there, what in zip(
                said, (known.supplier, known.lot), ("supplier", "lot"), strict=True
            ):
                if given and there and given != there:
                    raise BatterylabError(
                        f"{serial!r}: {what} {given!r} here, {there!r} in cells.csv",
                        hint="correct one of them",
                    )
            said = [known.supplier, known.lot]
        elif study is not None and study.cells:
            raise BatterylabError(f"the study has no cell {serial!r}", hint="add it to cells.csv")
        elif study is not None:
            self._is_of_study(said[0], said[1])
        place = (said[0], said[1])
        if self.places.setdefault(serial, place) != place:
            raise BatterylabError(
                f"{serial!r} has two suppliers or lots: {self.places[serial]} and {place}"
            )
        return place

    def _is_of_study(self, supplier: str, lot: str) -> None:
        assert self.target.study is not None  # noqa: S101  (the caller asked)
        lots = {entry.name: entry.lots for entry in self.target.study.definition.suppliers}
        if supplier not in lots:
            raise BatterylabError(
                f"unknown supplier {supplier!r}", hint=f"study.yaml knows: {', '.join(lots)}"
            )
        if lot and lots[supplier] and lot not in lots[supplier]:
            raise BatterylabError(
                f"supplier {supplier!r} has no lot {lot!r}",
                hint=f"study.yaml knows: {', '.join(lots[supplier])}",
            )

    def _soc(self, cell: Any) -> float | None:
        if self.mapping.soc is None:
            return None
        value = _number(cell(self.mapping.soc.column), self.mapping.soc.column)
        if value is None:
            raise BatterylabError(f"column {self.mapping.soc.column!r} is empty")
        percent = value * (100.0 if self.mapping.soc.unit == "ratio" else 1.0)
        if not 0 <= percent <= 100:
            raise BatterylabError(
                f"a state of charge of {percent:g} %", hint="soc: {unit: percent} or ratio"
            )
        return percent

    def _more(self, cell: Any) -> Row:
        """Return the cycles done before a row, and whether its test was stopped."""
        more: Row = {}
        if self.mapping.cycles is not None:
            column = self.mapping.cycles.column
            cycles = _number(cell(column), column)
            if cycles is None or cycles < 0:
                raise BatterylabError(f"column {column!r}: {cycles} cycles", hint="0 or more")
            more["cycles"] = cycles
        if self.mapping.stopped is not None:
            column = self.mapping.stopped.column
            said = _text(cell(column))
            stopped = STOPPED.get(said.lower())
            if stopped is None:
                raise BatterylabError(
                    f"column {column!r}: {said[:40]!r} does not say whether the test was stopped",
                    hint="yes or no; stopped, aborted, censored or complete; empty means no",
                )
            if stopped:
                more["stopped"] = True
        return more

    def _value(self, feature: FeatureColumn, cell: Any) -> float | None:
        value = _number(cell(feature.column), feature.column)
        if value is None:
            return None
        value *= feature.factor()
        if feature.reference is not None:
            if isinstance(feature.reference, FromColumn):
                by = _number(cell(feature.reference.column), feature.reference.column)
            else:
                assert self.cell_type is not None  # noqa: S101  (checked at the start)
                by = getattr(self.cell_type, f"{feature.reference}_capacity_Ah")
            if not by or by < 0:
                raise BatterylabError(f"{feature.feature}: the reference is {by}")
            value /= by
        _possible(feature, value, self.cell_type)
        return value

    def _keep(
        self,
        number: int,
        serial: str,
        supplier: str,
        lot: str,
        soc: float | None,
        more: Row,
        feature: FeatureColumn,
        value: float,
    ) -> None:
        per_soc = SOC_MARK in feature.feature
        name = feature.feature.replace(SOC_MARK, f"{soc:g}".replace(".", "p") if per_soc else "")
        relative = feature.relative_uncertainty
        row: Row = {
            "serial": serial,
            "supplier": supplier,
            "lot": lot,
            "feature": name,
            "value": value,
            "uncertainty": None if relative is None else abs(value) * relative,
            "unit": "1" if feature.is_ratio else name.rsplit("_", 1)[-1],
        }
        if per_soc:
            row["soc_percent"] = soc
        row |= more
        kept = self.rows.setdefault((serial, name, more.get("cycles")), row)
        if kept.get("stopped") != row.get("stopped"):
            self.complain(number, f"{serial!r}: stopped in one row and not in another")
        if not math.isclose(kept["value"], value, rel_tol=1e-9, abs_tol=1e-15):
            hint = (
                "one row a cell"
                if per_soc or self.mapping.soc is None
                else ("if it differs with the state of charge, put {soc} into the feature's name")
            )
            self.complain(
                number,
                f"{serial!r}: {name} is {value:g} here and {kept['value']:g} in a row above",
                hint,
            )

    def finish(self) -> list[Row]:
        """Return the rows, or raise every mistake."""
        if not self.problems:
            self._twins()
        if not self.problems and not self.rows:
            self.complain(1, "not one value was found", "are the columns empty?")
        if self.problems:
            more = len(self.problems) - MOST_PROBLEMS
            shown = self.problems[:MOST_PROBLEMS]
            if more > 0:
                shown.append(Problem(self.name, f"and {more} mistakes more"))
            raise ProblemsError(shown)
        return list(self.rows.values())

    def _twins(self) -> None:
        """Refuse two serials with one set of values."""
        values: dict[str, list[tuple[str, float]]] = defaultdict(list)
        for (serial, name, _), row in self.rows.items():
            values[serial].append((name, row["value"]))
        seen: dict[tuple[tuple[str, float], ...], str] = {}
        for serial, pairs in values.items():
            first = seen.setdefault(tuple(pairs), serial)
            if first != serial and len(pairs) >= TWIN_VALUES:
                self.complain(
                    1,
                    f"{first!r} and {serial!r} have the same {len(pairs)} values",
                    "one measurement under two serials: which is the copy?",
                )


def _possible(feature: FeatureColumn, value: float, cell: CellType | None) -> None:
    """Refuse what no cell, or not this one, can have."""
    name = feature.feature
    bad = value <= 0 and name.endswith(("_Ah", "_Wh", "_mOhm", "_ohm"))
    if feature.is_ratio and "capacity" in name:
        bad = not 0 < value <= 1.5
    elif name.endswith("capacity_Ah") and cell is not None:
        bad = not 0.01 <= value / cell.nominal_capacity_Ah <= 3.0
    if bad:
        raise BatterylabError(f"{name} of {value:g} is not possible", hint="mind mAh and Ah, and %")


def _of(source: Source | None, cell: Any) -> str:
    """Return a supplier or a lot; empty if the map or the column says nothing."""
    if source is None:
        return ""
    text = source.constant if source.constant is not None else _text(cell(str(source.column)))
    return check_name(text, "supplier or lot") if text else ""


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def _number(value: Any, column: str) -> float | None:
    """Return a cell as a number; None if it is empty."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = float(str(value).strip()) if not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BatterylabError(
            f"column {column!r}: {str(value)[:40]!r} is not a number",
            hint="an empty cell means not measured; tests that were stopped: a column `stopped`",
        )
    return number
