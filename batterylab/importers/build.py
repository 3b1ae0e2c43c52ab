"""Make a Recording of a vendor's file: read, count, find the steps, check, then hand it on."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from batterylab import __version__
from batterylab.cells import CellType
from batterylab.errors import EnvironmentFailedError, Problem, ProblemsError
from batterylab.importers import checks
from batterylab.importers.counters import increments, passed_by_current_Ah
from batterylab.importers.registry import read_vendor_file
from batterylab.importers.steps import Window, find_steps, first_rows
from batterylab.importers.vendortable import VendorTable, impedance_rows
from batterylab.recording import Recording


@dataclass(frozen=True)
class Stated:
    """What the person who imports states of a measurement.

    Attributes
    ----------
    serial, supplier, lot : str
        The cell.
    protocol : str
        Name of the protocol; ``import`` if none was given.
    operator : str
        Who imports.
    start_s : float or None
        Unix time at which the file's test clock stood at 0, for files without a date.
    cell_type : CellType or None
        The study's data sheet.
    """

    serial: str
    supplier: str = ""
    lot: str = ""
    protocol: str = "import"
    operator: str = ""
    start_s: float | None = None
    cell_type: CellType | None = None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits.

    Raises
    ------
    EnvironmentFailedError
        If it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise EnvironmentFailedError(f"{path}: cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def recording_of(path: Path, stated: Stated, sha256: str = "") -> Recording:
    """Read a vendor's file, check it, and return it as a recording.

    Parameters
    ----------
    path : Path
        The file.
    stated : Stated
        The cell and what else the file does not tell.
    sha256 : str
        Of the file, if it was computed before.

    Returns
    -------
    Recording
        Not archived yet.

    Raises
    ------
    ProblemsError
        With every reason why the file is refused.
    BatterylabError
        If the file cannot be read.
    """
    return build(read_vendor_file(path), path.name, stated, sha256 or sha256_of(path))


def build(table: VendorTable, name: str, stated: Stated, sha256: str) -> Recording:
    """Check a vendor's table and make a recording of it; see `recording_of`."""
    found = checks.Findings(remarks=list(table.remarks))
    checks.check_numbers(table, name, found)
    _refuse_if(found)
    for step_like in ("step", "step_time_s"):
        values = getattr(table, step_like)
        if values is not None and not np.isfinite(values.astype(np.float64)).all():
            setattr(table, step_like, None)
            found.remarks.append(f"{step_like}: gaps in the column; it was not used")
    first = first_rows(table)
    by_current_Ah = passed_by_current_Ah(table, first)
    counted_Ah = increments(table.charge, first, by_current_Ah) if table.charge else None
    passed_Ah = by_current_Ah if counted_Ah is None else counted_Ah[0] - counted_Ah[1]
    checks.clean_temperatures(table, found)
    cell = stated.cell_type
    checks.check_values(table, name, cell, found)
    checks.check_cycles(table, name, found)
    checks.check_clock(table, name, found)
    direct = ~impedance_rows(table)
    checks.check_charge(
        by_current_Ah * direct,
        [side * direct for side in counted_Ah] if counted_Ah else None,
        table,
        name,
        found,
    )
    _refuse_if(found)
    window = Window(cell.voltage_min_V, cell.voltage_max_V) if cell else None
    steps = find_steps(table, first, passed_Ah, window)
    checks.check_sign(table, steps, by_current_Ah, name, found)
    checks.check_capacity(steps, passed_Ah, name, cell, found)
    _refuse_if(found)
    columns = _columns(table, first, by_current_Ah, counted_Ah)
    columns["step_index"] = np.repeat(
        np.arange(len(steps)), [step.last_row - step.first_row + 1 for step in steps]
    )
    return Recording(
        serial=stated.serial,
        supplier=stated.supplier,
        lot=stated.lot,
        protocol=stated.protocol,
        columns=columns,
        steps=steps,
        cell_type=cell.to_dict() if cell else {},
        provenance=_provenance(table, name, sha256, stated, found),
    ).checked()


def _refuse_if(found: checks.Findings) -> None:
    if found.problems:
        problems = [Problem(p.where, p.what, p.remedy) for p in found.problems]
        raise ProblemsError(problems)


def _columns(
    table: VendorTable, first: Any, by_current_Ah: Any, counted_Ah: list[Any] | None
) -> dict[str, Any]:
    """Return the recording's columns but for the step index."""
    columns: dict[str, Any] = {
        "test_time_s": table.time_s,
        "current_A": table.current_A,
        "voltage_V": table.voltage_V,
        "cycle_index": np.zeros(len(table)) if table.cycle is None else table.cycle,
        **table.extra,
    }
    if table.unix_time_s is not None and np.isfinite(table.unix_time_s).all():
        columns["unix_time_s"] = table.unix_time_s
    if counted_Ah is not None:
        columns["net_capacity_Ah"] = np.cumsum(counted_Ah[0] - counted_Ah[1])
        columns["charge_capacity_Ah"] = np.cumsum(counted_Ah[0])
        columns["discharge_capacity_Ah"] = np.cumsum(counted_Ah[1])
    if table.energy is not None:
        expected_Wh = by_current_Ah * table.voltage_V
        charged, discharged = increments(table.energy, first, expected_Wh)
        if np.isfinite(charged).all() and np.isfinite(discharged).all():
            columns["net_energy_Wh"] = np.cumsum(charged - discharged)
            columns["charge_energy_Wh"] = np.cumsum(charged)
            columns["discharge_energy_Wh"] = np.cumsum(discharged)
    return columns


def _provenance(
    table: VendorTable, name: str, sha256: str, stated: Stated, found: checks.Findings
) -> dict[str, Any]:
    remarks = list(found.remarks)
    start_s: float | None = None
    if table.unix_time_s is not None and np.isfinite(table.unix_time_s[0]):
        start_s = float(table.unix_time_s[0])
        if not table.zone_known:
            remarks.append("the file's clock tells no time zone: local time was taken as UTC")
    elif stated.start_s is not None:
        start_s = stated.start_s + float(table.time_s[0])
        remarks.append("the start was stated by the operator, not by the file")
    provenance: dict[str, Any] = {
        "source": "import",
        "file": name,
        "sha256": sha256,
        "format": table.vendor,
        "reader": table.reader,
        "software": f"batterylab {__version__}",
        "operator": stated.operator,
        "vendor": table.vendor_data,
        "checks": found.figures,
        "remarks": remarks,
    }
    if start_s is not None:
        provenance["start_utc"] = datetime.fromtimestamp(round(start_s, 3), UTC).isoformat()
    channel = table.vendor_data.get("channel")
    if channel:
        provenance["channel"] = str(channel)
    return provenance
