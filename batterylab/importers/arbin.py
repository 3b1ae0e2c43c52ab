"""Arbin: `.res`, an Access database, and CSV exports, with or without units in the headers.

The database is read by `access-parser`. Charge and discharge are counted apart, over the whole
test or a cycle; the date of a `.res` is in days since 30 December 1899, in local time.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from batterylab.errors import BatterylabError
from batterylab.importers.quiet import overheard
from batterylab.importers.text import Sheet, read_sheet, read_text, stamps_s
from batterylab.importers.vendortable import Array, Counter, VendorTable, refuse

#: first bytes of a JET database
JET = b"\x00\x01\x00\x00Standard"
DAY_1970 = 25569.0
STAMPS = (
    "%Y-%m-%d %H:%M:%S.%f",
    "%Y-%m-%d %H:%M:%S",
    "%m/%d/%Y %H:%M:%S.%f",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %I:%M:%S %p",
)
TIME, CHARGE, DISCHARGE = "Test_Time", "Charge_Capacity", "Discharge_Capacity"


def matches(path: Path, head: bytes) -> bool:
    """Return whether this is an Arbin database or CSV export."""
    if path.suffix.lower() == ".res" or head.startswith(JET):
        return True
    first = head.split(b"\n", 1)[0].replace(b" ", b"_")
    return all(word in first for word in (b"Test_Time", b"Charge_Capacity", b"Step_Index"))


def read(path: Path) -> VendorTable:
    """Read an Arbin file.

    Raises
    ------
    BatterylabError
        If it is damaged, or holds more than one test.
    """
    with path.open("rb") as stream:
        head = stream.read(64)
    if path.suffix.lower() == ".res" or head.startswith(JET):
        return _database(path, head)
    return _export(path)


def _database(path: Path, head: bytes) -> VendorTable:
    if not head.startswith(JET):
        raise refuse(
            path.name,
            "not an Arbin .res file: it does not begin as a JET database",
            "fetch the file again from the cycler",
        )
    rows, test = _tables(path)
    order = np.argsort(np.asarray(rows["Data_Point"]), kind="stable")
    columns = {
        name.replace("/", "_per_"): np.asarray(values, np.float64)[order]
        for name, values in rows.items()
        if name != "Test_ID" and len(values) == len(order)
    }
    sheet = Sheet(path.name, columns)
    points = columns["Data_Point"]
    if len(np.unique(points)) != len(points):
        raise refuse(path.name, "the same data point stands twice: the database is damaged")
    table = _common(sheet, f"access-parser {version('access-parser')}")
    table.unix_time_s = (sheet.need("DateTime") - DAY_1970) * 86400.0
    table.vendor_data = {
        key: str(test[name][0])
        for key, name in (
            ("procedure", "Schedule_File_Name"),
            ("channel", "Channel_Index"),
            ("test", "Test_Name"),
            ("device", "Serial_Number"),
            ("software", "Software_Version"),
            ("comments", "Comments"),
        )
        if test.get(name) and str(test[name][0] or "").strip()
    }
    item = test.get("Item_ID") or [""]
    table.serial = str(item[0] or "").strip()
    table.serial_sure = bool(table.serial)
    return table


def _tables(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the measured rows and the line about the test."""
    from access_parser import AccessParser

    said: list[str] = []
    try:
        with overheard("access_parser", said):
            database = AccessParser(str(path))
            normal = database.get_table("Channel_Normal_Table")
            rows, counted = dict(normal.parse()), int(normal.table_header.number_of_rows)
            test = dict(database.parse_table("Global_Table"))
    except Exception as error:  # what a broken file makes of a parser cannot be listed
        raise refuse(
            path.name,
            f"damaged or cut short ({type(error).__name__}: {error})"[:300],
            "fetch the file again from the cycler",
        ) from None
    if not counted:
        raise refuse(path.name, "the file holds no rows", "nothing was measured")
    found = len(rows.get("Data_Point", []))
    if found != counted:
        raise refuse(
            path.name,
            f"{found} rows were found, but the database counts {counted}: cut short or damaged",
            "fetch the file again from the cycler",
        )
    tests = max(len(set(rows["Test_ID"])), len(test.get("Test_ID", [])))
    if tests > 1:
        raise refuse(
            path.name,
            f"holds {tests} tests",
            "export one file a test: which cell is which cannot be told",
        )
    return rows, test


def _common(sheet: Sheet, reader: str) -> VendorTable:
    """Return what database and export share."""
    extra = {}
    temperature = sheet.get(["Aux_Temperature_1", "Temperature", "Aux_Temperature"], "degC")
    if temperature is not None and np.isfinite(temperature).any():
        extra["temperature_degC"] = temperature
    return VendorTable(
        "Arbin",
        reader,
        sheet.need(TIME, "s"),
        sheet.need("Current", "A"),
        sheet.need("Voltage", "V"),
        step=_filled(sheet.get("Step_Index")),
        step_time_s=_filled(sheet.get("Step_Time", "s")),
        cycle=_filled(sheet.get("Cycle_Index")),
        charge=_pair(sheet, CHARGE, DISCHARGE, "Ah"),
        energy=_pair(sheet, "Charge_Energy", "Discharge_Energy", "Wh"),
        extra=extra,
    )


def _filled(values: Array | None) -> Array | None:
    """Return a column, or None where the file leaves it empty."""
    return None if values is None or not np.isfinite(values).any() else values


def _pair(sheet: Sheet, charge: str, discharge: str, unit: str) -> Counter | None:
    first, second = sheet.get(charge, unit), sheet.get(discharge, unit)
    return None if first is None or second is None else Counter((first, second), "pair")


def _export(path: Path) -> VendorTable:
    text = read_text(path)
    header, _, rest = text.partition("\n")
    sheet = read_sheet(path, header.replace(" ", "_") + "\n" + rest, 0)
    table = _common(sheet, "batterylab.importers.arbin")
    table.current_resolution_A = sheet.resolution("Current", "A")
    _clock(table, sheet)
    companion = path.with_name(f"{path.stem}_Metadata.csv")
    if companion.is_file():
        _companion(table, companion)
    return table


def _clock(table: VendorTable, sheet: Sheet) -> None:
    """Read the date: text in local time, or seconds since 1970."""
    stamps = sheet.text(["Date_Time", "DateTime"])
    if stamps is None:
        return
    try:
        table.unix_time_s = stamps.astype(np.float64)
        table.zone_known = True
    except ValueError:
        table.unix_time_s = stamps_s(stamps, *STAMPS)


def _companion(table: VendorTable, path: Path) -> None:
    """Read the cell's name and the schedule from the file that goes with an export."""
    try:
        sheet = read_sheet(path, read_text(path), 0)
    except BatterylabError:
        table.remarks.append(f"{path.name} stands beside the file but cannot be read")
        return
    item, schedule = sheet.text("Item_ID"), sheet.text("Schedule_File_Name")
    if item is not None and len(item) == 1 and item[0]:
        table.serial, table.serial_sure = str(item[0]), True
    if schedule is not None and len(schedule):
        table.vendor_data["procedure"] = str(schedule[0])[:200]
