"""The scorecard as a workbook: what somebody wants to sort, filter or plot again.

Text from a study is stored as text and marked as such, whatever it begins with: no cell is a
formula. Numbers are numbers, in the unit of the column.
"""

import io
import zipfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from batterylab.report.card import Card, mapping, pair, records, text, texts
from batterylab.report.words import finite, plain

#: the first moment that a ZIP file can hold
_ZERO = (1980, 1, 1, 0, 0, 0)
_STATISTICS = ("mean", "sd_total", "sd_cell", "sd_lot", "cv_percent")


def to_xlsx(card: Card, table: Any = None) -> bytes:
    """Return the workbook.

    Parameters
    ----------
    card : Card
        From `read_card`.
    table : pandas.DataFrame, optional
        The feature table; it becomes a sheet of its own.
    """
    from openpyxl import Workbook

    book = Workbook()
    for sheet in list(book.worksheets):
        book.remove(sheet)
    for title, head, rows in _sheets(card, table):
        _fill(book.create_sheet(title), head, rows)
    moment = (card.moment or datetime(1980, 1, 1, tzinfo=UTC)).replace(tzinfo=None)
    book.properties.creator = "batterylab"
    book.properties.created = book.properties.modified = moment
    stream = io.BytesIO()
    book.save(stream)
    return _still(stream.getvalue(), moment)


def _still(content: bytes, moment: datetime) -> bytes:
    """Return the same ZIP file without the time of its making, so that its bytes repeat."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            data = old.read(name)
            if name == "docProps/core.xml":
                data = _core_times(data, moment)
            entry = zipfile.ZipInfo(name, _ZERO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(entry, data)
    return out.getvalue()


def _core_times(data: bytes, moment: datetime) -> bytes:
    """Put the scorecard's time where openpyxl wrote the clock's."""
    import re

    stamp = moment.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    return re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>" + stamp, data)


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    found = finite(value) if not isinstance(value, str) else None
    if found is not None:
        return int(found) if isinstance(value, int) else found
    if isinstance(value, float):
        return None
    return plain(value)


def _fill(sheet: Any, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    from openpyxl.styles import Font

    widths = [len(title) for title in head]
    for y, row in enumerate((head, *rows), 1):
        for x, item in enumerate(row, 1):
            value = _cell(item)
            if value is None or value == "":
                continue
            cell = sheet.cell(row=y, column=x)
            cell.value = value
            if isinstance(value, str):
                cell.data_type = "s"
                cell.quotePrefix = value[:1] in "=+-@"
            if y == 1:
                cell.font = Font(bold=True)
            widths[x - 1] = max(widths[x - 1], min(48, len(str(value))))
    for x, width in enumerate(widths, 1):
        letter = sheet.cell(row=1, column=x).column_letter
        sheet.column_dimensions[letter].width = width + 2
    sheet.freeze_panes = "A2"


_Sheet = tuple[str, Sequence[str], list[list[Any]]]


def _sheets(card: Card, table: Any) -> list[_Sheet]:
    sheets = [_decision(card), _suppliers(card), _lots(card), _comparisons(card), _gates(card),
              _values(card), _exclusions(card), _recordings(card)]  # fmt: skip
    if table is not None:
        head = [str(name) for name in table.columns]
        rows = [[_native(item) for item in row] for row in table.itertuples(index=False)]
        sheets.append(("Features", head, rows))
    return sheets


def _native(value: Any) -> Any:
    """Return a plain Python value for one of numpy."""
    return value.item() if hasattr(value, "item") else value


def _decision(card: Card) -> _Sheet:
    rows: list[list[Any]] = []
    for name, item in mapping(card.raw.get("decision")).items():
        found = mapping(item)
        reasons, risks = texts(found.get("reasons")), texts(found.get("risks"))
        rows.append([name, text(found, "verdict"), "; ".join(reasons), "; ".join(risks)])
    rows += [
        [],
        ["study", card.study],
        ["made", card.generated_utc],
        ["software", card.software],
        ["scorecard SHA-256", card.code],
        ["ranking", text(card.ranking, "statement")],
    ]
    return "Decision", ("supplier", "verdict", "reasons", "risks"), rows


def _suppliers(card: Card) -> _Sheet:
    head = ["feature", "unit", "supplier", "lots", "cells"]
    for key in _STATISTICS:
        head += [key, f"{key}_low", f"{key}_high"]
    head += ["minimum", "maximum", "lower_limit", "upper_limit", "cp", "cpk", "cpk_lower_95",
             "cpk_n", "fraction_outside", "fraction_outside_upper_95"]  # fmt: skip
    rows = []
    for one in card.features.values():
        for name, row in one.suppliers.items():
            line: list[Any] = [one.name, one.unit, name, row.get("lots"), row.get("cells")]
            for key in _STATISTICS:
                line += [finite(row.get(key)), *pair(row.get(f"{key}_interval"))]
            line += [finite(row.get("minimum")), finite(row.get("maximum")), one.lower, one.upper]
            capability = mapping(row.get("capability"))
            line += [finite(capability.get(key)) for key in (
                "cp", "cpk", "cpk_lower_95", "n", "fraction_outside", "fraction_outside_upper_95",
            )]  # fmt: skip
            rows.append(line)
    return "Suppliers", head, rows


def _lots(card: Card) -> _Sheet:
    head = ("feature", "unit", "supplier", "lot", "cells", "mean", "mean_low", "mean_high",
            "sd", "sd_low", "sd_high")  # fmt: skip
    rows = []
    for one in card.features.values():
        for name, row in one.suppliers.items():
            for lot, item in mapping(row.get("lot")).items():
                found = mapping(item)
                rows.append([
                    one.name, one.unit, name, lot, found.get("cells"), finite(found.get("mean")),
                    *pair(found.get("mean_interval")), finite(found.get("sd")),
                    *pair(found.get("sd_interval")),
                ])  # fmt: skip
    return "Lots", head, rows


def _comparisons(card: Card) -> _Sheet:
    head = ("feature", "unit", "a", "b", "difference", "low", "high", "probability_a_higher",
            "p_value", "degrees_of_freedom", "sigma_ratio", "sigma_ratio_low",
            "sigma_ratio_high")  # fmt: skip
    rows = [
        [one.name, one.unit, text(row, "a"), text(row, "b"), finite(row.get("difference")),
         *pair(row.get("interval")), finite(row.get("probability_a_higher")),
         finite(row.get("p_value")), finite(row.get("degrees_of_freedom")),
         finite(row.get("sigma_ratio")), *pair(row.get("sigma_ratio_interval"))]
        for one in card.features.values()
        for row in one.comparisons
    ]  # fmt: skip
    return "Comparisons", head, rows


def _named(title: str, head: tuple[str, ...], found: Any) -> _Sheet:
    rows = [[row.get(key) for key in head] for row in records(found)]
    return title, head, rows


def _gates(card: Card) -> _Sheet:
    head = ("rule", "clause", "requirement", "supplier", "value", "limit", "met", "mark")
    return _named("Gates", head, card.raw.get("rules"))


def _exclusions(card: Card) -> _Sheet:
    head = ("seal", "serial", "feature", "state", "reason")
    return _named("Exclusions", head, card.raw.get("exclusions"))


def _recordings(card: Card) -> _Sheet:
    head = ("seal", "serial", "supplier", "lot", "channel", "protocol", "start_utc", "state")
    return _named("Recordings", head, card.raw.get("recordings"))


def _values(card: Card) -> _Sheet:
    head = ("feature", "unit", "serial", "supplier", "lot", "channel", "value", "uncertainty",
            "start_utc", "seal")  # fmt: skip
    rows = [
        [one.name, one.unit, v.serial, v.supplier, v.lot, v.channel, v.value, v.uncertainty,
         v.start_utc, v.seal]
        for one in card.features.values()
        for v in one.values
    ]  # fmt: skip
    return "Values", head, rows
