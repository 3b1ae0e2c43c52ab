"""Tables whose headers say what they hold: Bitrode, Landt, BaSyTec, laboratories' own CSV.

Each format is one entry of `FORMATS`: the headers by which it is known, and a map from what is
wanted to the header. Where a file writes discharge as positive current, the status tells.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from batterylab.importers.bdf import MAGIC, parquet_sheet
from batterylab.importers.text import Sheet, read_sheet, read_text, stamps_s
from batterylab.importers.vendortable import Array, Counter, VendorTable, refuse

STAMPS = ("%m/%d/%Y %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f")
#: how many lines may stand before the headers
PREAMBLE = 20


@dataclass(frozen=True)
class Format:
    """How one kind of table is recognised and mapped.

    Attributes
    ----------
    vendor : str
        Whose format it is.
    known_by : tuple of str
        Headers that must all be there.
    columns : dict of str to str
        From ``time current voltage step step_time cycle status stamp temperature charge
        discharge net counted`` to the header: `net` counts with sign, `counted` without.
    kinds : dict of str to str
        From the status, in lower case, to the kind of step.
    serial : str
        Header of the cell's name.
    remark : str
        What a reader should know of the format.
    """

    vendor: str
    known_by: tuple[str, ...]
    columns: dict[str, str]
    kinds: dict[str, str] = field(default_factory=dict)
    serial: str = ""
    remark: str = ""


FORMATS = (
    Format(
        "Bitrode",
        ("Time(s)", "StepTime(s)", "Current(A)", "Voltage(V)", "Mode"),
        {
            "time": "Time(s)",
            "current": "Current(A)",
            "voltage": "Voltage(V)",
            "step": "Step",
            "step_time": "StepTime(s)",
            "cycle": "Cycle",
            "status": "Mode",
            "net": "Capacity(Ah)",
            "net_energy": "Energy(Wh)",
        },
        {"chrg": "charge", "dchg": "discharge", "rest": "rest"},
    ),
    Format(
        "Landt",
        ("test_time_s", "current_A", "voltage_V", "step_name", "date_time_iso_string"),
        {
            "time": "test_time_s",
            "current": "current_A",
            "voltage": "voltage_V",
            "step": "step_index",
            "step_time": "step_time_s",
            "cycle": "cycle_index",
            "status": "step_name",
            "stamp": "date_time_iso_string",
            "charge": "charge_capacity_Ah",
            "discharge": "discharge_capacity_Ah",
            "charge_energy": "charge_energy_Wh",
            "discharge_energy": "discharge_energy_Wh",
        },
        {
            "rest": "rest",
            "charge cc": "charge",
            "discharge cc": "discharge",
            "charge cv": "hold",
            "discharge cv": "hold",
        },
    ),
    Format(
        "BaSyTec",
        ("Time_1", "U", "I", "Ah_Step"),
        {"stamp": "Time_1", "current": "I", "voltage": "U", "net": "Ah_Step"},
        serial="Battery_serial",
    ),
    Format(
        "table",
        ("Seconds", "Amps", "Volts", "State", "Step", "Cycle"),
        {
            "time": "Seconds",
            "current": "Amps",
            "voltage": "Volts",
            "step": "Step",
            "cycle": "Cycle",
            "status": "State",
            "discharged": "Ah",
        },
        {"c": "charge", "d": "discharge", "r": "rest"},
    ),
    Format(
        "table",
        ("Time [s]", "Current [A]", "Voltage [V]", "Step", "Capacity [Ah]"),
        {
            "time": "Time [s]",
            "current": "Current [A]",
            "voltage": "Voltage [V]",
            "step": "Event",
            "net": "Capacity [Ah]",
            "temperature": "Temperature [C]",
        },
    ),
    Format(
        "table",
        ("Time [s]", "I[A]", "U[V]"),
        {"time": "Time [s]", "current": "I[A]", "voltage": "U[V]"},
    ),
)


def matches(path: Path, head: bytes) -> bool:
    """Return whether the headers are those of a known format."""
    if head.startswith(MAGIC):
        return _known(list(parquet_sheet(path).columns)) is not None
    return _header_of(head.decode("latin-1")) is not None


def _known(headers: list[str]) -> Format | None:
    present = {header.strip().strip('"') for header in headers}
    return next((form for form in FORMATS if present.issuperset(form.known_by)), None)


def _header_of(text: str) -> tuple[int, Format] | None:
    for number, line in enumerate(text.splitlines()[:PREAMBLE]):
        form = _known(line.lstrip("\ufeff").split(","))
        if form is not None:
            return number, form
    return None


def read(path: Path) -> VendorTable:
    """Read a table of a known format.

    Raises
    ------
    BatterylabError
        If a column is missing or holds no numbers.
    """
    with path.open("rb") as stream:
        is_parquet = stream.read(4) == MAGIC
    if is_parquet:
        sheet = parquet_sheet(path)
        form = _known(list(sheet.columns))
    else:
        text = read_text(path)
        found = _header_of(text)
        if found is None:
            raise refuse(path.name, "the headers are not those of a known format")
        form = found[1]
        sheet = read_sheet(path, text, found[0])
    assert form is not None  # noqa: S101  (matches said so)
    return _mapped(sheet, form)


def _mapped(sheet: Sheet, form: Format) -> VendorTable:
    names = form.columns

    def column(role: str, quantity: str = "1") -> Array | None:
        return sheet.get(names[role], quantity) if role in names else None

    stamps = sheet.text(names["stamp"]) if "stamp" in names else None
    unix_s = None if stamps is None else stamps_s(stamps, *STAMPS)
    status = sheet.text(names["status"]) if "status" in names else None
    temperature = column("temperature", "degC")
    table = VendorTable(
        form.vendor,
        "batterylab.importers.named",
        _time_s(sheet, names, unix_s),
        sheet.need(names["current"], "A"),
        sheet.need(names["voltage"], "V"),
        step=column("step"),
        step_time_s=column("step_time", "s"),
        cycle=column("cycle"),
        status=status,
        kinds={}
        if status is None
        else {name: form.kinds.get(name.lower(), "other") for name in map(str, np.unique(status))},
        charge=_counter(column, "charge", "discharge", "net", "Ah"),
        energy=_counter(column, "charge_energy", "discharge_energy", "net_energy", "Wh"),
        unix_time_s=unix_s,
        extra={} if temperature is None else {"temperature_degC": temperature},
        current_resolution_A=sheet.resolution(names["current"], "A"),
        remarks=[form.remark] if form.remark else [],
    )
    if form.serial:
        _name_cell(table, sheet, form.serial)
    return table


def _time_s(sheet: Sheet, names: dict[str, str], unix_s: Array | None) -> Array:
    if "time" in names:
        return sheet.need(names["time"], "s")
    if unix_s is None:
        raise refuse(sheet.name, f"column {names['stamp']!r} holds no dates that can be read")
    return np.asarray(unix_s - unix_s[0], np.float64)


def _counter(
    column: Callable[[str, str], Array | None], charge: str, discharge: str, net: str, unit: str
) -> Counter | None:
    """Return the counter in whichever form the format writes it."""
    first, second, both = column(charge, unit), column(discharge, unit), column(net, unit)
    if first is not None and second is not None:
        return Counter((first, second), "pair")
    if both is not None:
        return Counter((both,), "signed")
    out = column("discharged", unit) if unit == "Ah" else None
    return None if out is None else Counter((-out,), "signed")


def _name_cell(table: VendorTable, sheet: Sheet, header: str) -> None:
    names = sheet.text(header)
    if names is None:
        return
    found = np.unique(names)
    if len(found) > 1:
        raise refuse(
            sheet.name,
            f"holds {len(found)} cells: {', '.join(found[:5])}",
            "split the file: one recording is one cell",
        )
    table.serial, table.serial_sure = str(found[0]), bool(found[0])
