"""Maccor: tab-separated text as its software exports it.

Some versions write the current without a sign: the state (``C``, ``D``, ``R``) decides then,
as it does for the counters, which restart with each step. Auxiliary inputs with nothing
connected read thousands of degrees below zero and are left out.
"""

import re
from pathlib import Path

import numpy as np

from batterylab.importers.text import Sheet, durations_s, read_sheet, read_text, stamps_s
from batterylab.importers.vendortable import Array, Counter, VendorTable, refuse

KINDS = {"C": "charge", "D": "discharge", "R": "rest", "P": "rest", "S": "rest", "O": "other"}
STAMPS = ("%m/%d/%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%d/%m/%Y %H:%M:%S")
_BARCODE = re.compile(r"Comment/Barcode:\s*(\S.*?)\s*$", re.MULTILINE)
_PROCEDURE = re.compile(r"Procedure:\s*([^\t\r\n]+?)\s*(?:\t|\r|\n|Comment|Description|$)")
_CHANNEL = re.compile(r"Tester Channel:\s*(\d+)")


def matches(path: Path, head: bytes) -> bool:
    """Return whether this is a Maccor text export."""
    return head.startswith(b"Today's Date") and b"Rec#" in head[:4000]


def read(path: Path) -> VendorTable:
    """Read a Maccor text export.

    Raises
    ------
    BatterylabError
        If the table is missing or cut short.
    """
    text = read_text(path)
    lines = text[:20000].splitlines()
    header = next((n for n, line in enumerate(lines) if line.startswith("Rec#")), None)
    if header is None:
        raise refuse(path.name, "there is no table: no line begins with 'Rec#'")
    sheet = read_sheet(path, text, header, "\t")
    states = sheet.text("State")
    if states is None:
        raise refuse(path.name, "the column 'State' is missing", "export it: it holds the sign")
    current_A, remarks = _signed(sheet.need("Amps", "A"), states)
    preamble = "\n".join(lines[:header])
    barcode = _BARCODE.search(preamble)
    stamps = sheet.text("DPt Time")
    charge, energy = sheet.get("Amp-hr"), sheet.get("Watt-hr")
    temperature = _temperature(sheet)
    return VendorTable(
        "Maccor",
        "batterylab.importers.maccor",
        _times_s(sheet, ["Test (Sec)", "TestTime"]),
        current_A,
        sheet.need("Volts", "V"),
        step=sheet.need("Step"),
        step_time_s=_times_s(sheet, ["Step (Sec)", "StepTime"]),
        cycle=sheet.get("Cyc#"),
        status=states,
        kinds={state: KINDS.get(state, "other") for state in map(str, np.unique(states))},
        charge=None if charge is None else Counter((charge,), "unsigned"),
        energy=None if energy is None else Counter((energy,), "unsigned"),
        unix_time_s=None if stamps is None else stamps_s(stamps, *STAMPS),
        extra={} if temperature is None else {"temperature_degC": temperature},
        current_resolution_A=sheet.resolution("Amps", "A"),
        serial=barcode[1] if barcode else "",
        vendor_data=_vendor_data(preamble),
        remarks=remarks,
    )


def _signed(current_A: Array, states: Array) -> tuple[Array, list[str]]:
    """Give the current the sign of its state where the file writes none."""
    discharging = states == "D"
    if discharging.any() and (current_A >= 0).all() and (current_A[discharging] > 0).any():
        remark = "the file writes the current without a sign; it was taken from the state"
        return np.where(discharging, -current_A, current_A), [remark]
    return current_A, []


def _times_s(sheet: Sheet, names: list[str]) -> Array:
    for name in names:
        if name in sheet.columns:
            texts = sheet.text(name)
            assert texts is not None  # noqa: S101  (the column exists)
            if any(":" in str(text) for text in texts[:1]):
                return durations_s(sheet.name, texts)
            return sheet.need(name, "s")
    raise refuse(sheet.name, f"the column {names[0]!r} is missing", "export it")


def _temperature(sheet: Sheet) -> Array | None:
    """Return the first auxiliary input that is connected and in °C."""
    headers = list(sheet.columns)
    for header, after in zip(headers, [*headers[1:], ""], strict=True):
        if header.startswith(("Aux #", "Temp ")):
            unit = sheet.text(after) if after.strip().startswith("Units") else None
            values = sheet.need(header)
            in_range = (values > -60) & (values < 200)
            if in_range.all() and (unit is None or unit[0] == "C") and (values != 0).any():
                return values
    return None


def _vendor_data(preamble: str) -> dict[str, str]:
    found = {"procedure": _PROCEDURE.search(preamble), "channel": _CHANNEL.search(preamble)}
    return {key: match[1][:200] for key, match in found.items() if match}
