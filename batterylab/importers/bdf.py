"""Battery Data Format: CSV or Parquet, with machine names or with preferred labels.

Source of the names: Battery Data Alliance, Battery Data Format, ontology 1.3.0. The format says
what columns mean; whether a file's numbers agree with it is for the checks to find.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from batterylab.importers.text import Sheet, read_sheet, read_text
from batterylab.importers.vendortable import Array, Counter, VendorTable, refuse
from batterylab.recording import COLUMNS

MAGIC = b"PAR1"
NAMES = {
    "test_time_second": "Test Time / s",
    "voltage_volt": "Voltage / V",
    "current_ampere": "Current / A",
}


def matches(path: Path, head: bytes) -> bool:
    """Return whether this is a BDF file."""
    if head.startswith(MAGIC):
        return _names_fit(_parquet_names(path))
    first = head.split(b"\n", 1)[0].decode("latin-1")
    return _names_fit([name.strip().strip('"') for name in first.split(",")])


def _names_fit(names: list[str]) -> bool:
    return all(machine in names or label in names for machine, label in NAMES.items())


def _parquet_names(path: Path) -> list[str]:
    import polars

    try:
        return list(polars.read_parquet_schema(path))
    except Exception as error:  # what a broken file makes of a parser cannot be listed
        raise refuse(
            path.name, f"not a Parquet file, or cut short: {error}"[:200], "fetch it again"
        ) from None


def parquet_sheet(path: Path) -> Sheet:
    """Return a Parquet file's columns.

    Raises
    ------
    BatterylabError
        If it is damaged.
    """
    import polars

    _parquet_names(path)
    try:
        frame = polars.read_parquet(path)
        columns = {name: frame[name].to_numpy() for name in frame.columns}
    except Exception as error:  # what a broken file makes of a parser cannot be listed
        raise refuse(path.name, f"damaged or cut short: {error}"[:200], "fetch it again") from None
    return Sheet(path.name, columns)


def read(path: Path) -> VendorTable:
    """Read a BDF file.

    Raises
    ------
    BatterylabError
        If a required column is missing or holds no numbers.
    """
    with path.open("rb") as stream:
        is_parquet = stream.read(4) == MAGIC
    sheet = parquet_sheet(path) if is_parquet else read_sheet(path, read_text(path), 0)

    def column(name: str) -> Array | None:
        spec = COLUMNS[name]
        return sheet.get([spec.bdf_name, spec.bdf_label], spec.unit)

    def needed(name: str) -> Array:
        spec = COLUMNS[name]
        return sheet.need([spec.bdf_name, spec.bdf_label], spec.unit)

    reader = f"batterylab.importers.bdf{' over polars' if is_parquet else ''}"
    extra = {
        name: values
        for name in ("temperature_degC", "ambient_temperature_degC")
        if (values := column(name)) is not None and np.isfinite(values).any()
    }
    step = sheet.get(["step_count", "Step Count / 1"])
    label = COLUMNS["current_A"]
    return VendorTable(
        "BDF",
        reader,
        needed("test_time_s"),
        needed("current_A"),
        needed("voltage_V"),
        step=step if step is not None else column("step_index"),
        cycle=column("cycle_index"),
        charge=_counter(column, "capacity_Ah"),
        energy=_counter(column, "energy_Wh"),
        unix_time_s=column("unix_time_s"),
        zone_known=True,
        extra=extra,
        current_resolution_A=sheet.resolution([label.bdf_name, label.bdf_label], "A"),
    )


def _counter(column: Callable[[str], Array | None], what: str) -> Counter | None:
    """Return the pair of counters, or the net one."""
    charge, discharge = column(f"charge_{what}"), column(f"discharge_{what}")
    if charge is not None and discharge is not None:
        return Counter((charge, discharge), "pair")
    net = column(f"net_{what}")
    return None if net is None else Counter((net,), "signed")
