"""Novonix: the CSV of UHPC and HPC coulometers, with a summary and the protocol before the data.

Times are in hours; the capacity counts from each step's start, positive either way.
"""

import re
from pathlib import Path

from batterylab.importers.text import read_sheet, read_text, stamps_s
from batterylab.importers.vendortable import Counter, VendorTable, refuse

STAMPS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %I:%M:%S %p")
_LINE = re.compile(
    r"^(Channel|Serial Number|CellID|Protocol|Description|Version):[ \t]*(.*?)[ \t]*$", re.MULTILINE
)


def matches(path: Path, head: bytes) -> bool:
    """Return whether this is a Novonix CSV."""
    return head.lstrip(b"\xef\xbb\xbf").startswith(b"[Summary]") and b"Novonix" in head[:300]


def read(path: Path) -> VendorTable:
    """Read a Novonix CSV.

    Raises
    ------
    BatterylabError
        If there is no data or it is cut short.
    """
    text = read_text(path)
    preamble, found, data = text.partition("[Data]")
    lines = [line.strip('"') for line in data.strip().splitlines()]
    if not found or len(lines) < 2:
        raise refuse(
            path.name, "there is no [Data] with rows", "nothing was measured, or cut short"
        )
    sheet = read_sheet(path, "\n".join(lines), 0)
    sheet.first_line += preamble.count("\n") + 1
    about = dict(_LINE.findall(preamble.partition("[End Summary]")[0]))
    serial = about.pop("Serial Number", "") or about.pop("CellID", "")
    temperature = sheet.get("Temperature", "degC")
    stamps = sheet.text("Date and Time")
    return VendorTable(
        "Novonix",
        "batterylab.importers.novonix",
        sheet.need("Run Time", "s"),
        sheet.need("Current", "A"),
        sheet.need("Potential", "V"),
        step=sheet.get("Step Number"),
        step_time_s=sheet.get("Step Time", "s"),
        cycle=sheet.get("Cycle Number"),
        charge=Counter((sheet.need("Capacity", "Ah"),), "unsigned"),
        energy=Counter((sheet.need("Energy", "Wh"),), "unsigned"),
        unix_time_s=None if stamps is None else stamps_s(stamps, *STAMPS),
        extra={} if temperature is None else {"temperature_degC": temperature},
        current_resolution_A=sheet.resolution("Current", "A"),
        serial=serial,
        serial_sure=bool(serial),
        vendor_data={key.lower(): value[:200] for key, value in about.items() if value},
    )
