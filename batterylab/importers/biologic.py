"""BioLogic: text of EC-Lab and BT-Lab (`.mpt`, `.txt`), and the binary `.mpr`.

The binary's readers, galvani and yadg, are under the GPL: they run in a process of their own
(`gpl_reader`), which hands back a table. One alone is not enough: each stops at files that the
other reads.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import batterylab
from batterylab.errors import BatterylabError, EnvironmentFailedError
from batterylab.importers.text import Sheet, read_sheet, read_text, stamp_s
from batterylab.importers.vendortable import Array, Counter, VendorTable, refuse

MAGIC = b"BIO-LOGIC MODULAR FILE"
FIRST_LINES = (b"EC-Lab ASCII FILE", b"BT-Lab ASCII FILE")
STAMPS = ("%m/%d/%Y %H:%M:%S.%f", "%m/%d/%Y %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f")
MISSING = 3
TIMEOUT_S = 900.0
_STARTED = re.compile(r"^Acquisition started on\s*:\s*(.+?)\s*$", re.MULTILINE)
_CHANNEL = re.compile(r"^Run on channel\s*:\s*(.+?)\s*$", re.MULTILINE)


def matches(path: Path, head: bytes) -> bool:
    """Return whether this is a BioLogic binary or text export."""
    return path.suffix.lower() == ".mpr" or head.startswith((MAGIC, *FIRST_LINES))


def read(path: Path) -> VendorTable:
    """Read a BioLogic file.

    Raises
    ------
    BatterylabError
        If it is damaged, holds no current, or the GPL readers are not installed.
    """
    with path.open("rb") as stream:
        head = stream.read(64)
    if path.suffix.lower() == ".mpr" or head.startswith(MAGIC):
        return _binary(path, head)
    return _text(path)


def _text(path: Path) -> VendorTable:
    text = read_text(path)
    match = re.search(r"Nb header lines\s*:\s*(\d+)", text[:1000])
    if not match:
        raise refuse(path.name, "'Nb header lines' is missing", "export the file again")
    count = int(match[1])
    lines = text.splitlines()
    if not 1 <= count <= len(lines) - 1:
        raise refuse(path.name, f"{count} header lines, but {len(lines)} lines: cut short")
    lines[count - 1] = lines[count - 1].rstrip("\t")
    rows = [
        line.rstrip("\t") if line.count("\t") > lines[count - 1].count("\t") else line
        for line in lines[count:]
    ]
    sheet = read_sheet(path, "\n".join([*lines[:count], *rows]), count - 1, "\t")
    preamble = "\n".join(lines[: count - 1])
    table = _table(sheet, "batterylab.importers.biologic", preamble.partition("\n\n")[2][:200])
    started = _STARTED.search(preamble)
    start_s = stamp_s(started[1], *STAMPS) if started else None
    if start_s is not None:
        table.unix_time_s = start_s + table.time_s
    channel = _CHANNEL.search(preamble)
    if channel:
        table.vendor_data["channel"] = channel[1][:80]
    return table


def _binary(path: Path, head: bytes) -> VendorTable:
    if not head.startswith(MAGIC):
        raise refuse(path.name, "not a BioLogic .mpr file", "fetch it again from the instrument")
    columns, about = _from_subprocess(path)
    table = _table(Sheet(path.name, columns), about["reader"], about.get("technique", ""))
    start_s = about.get("start_s")
    if start_s is not None:
        table.unix_time_s = float(start_s) + table.time_s
    table.remarks += about.get("remarks", [])
    return table


def _from_subprocess(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Run the GPL readers in a process of their own and load the table they hand back."""
    import json

    with tempfile.TemporaryDirectory(prefix="batterylab-") as folder:
        target = Path(folder, "table.npz")
        command = [sys.executable, "-P", "-m", "batterylab.importers.gpl_reader"]
        package = str(Path(batterylab.__file__).parent.parent)
        before = os.environ.get("PYTHONPATH")
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([before, package] if before else [package]),
        }
        try:
            done = subprocess.run(
                [*command, str(path.resolve()), str(target)],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT_S,
                env=environment,
                cwd=folder,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise refuse(path.name, f"not read within {TIMEOUT_S:g} s: given up") from None
        except OSError as error:
            raise EnvironmentFailedError(f"{path.name}: no reader: {error}") from None
        if done.returncode == MISSING:
            raise BatterylabError(
                f"{path.name}: BioLogic's .mpr needs galvani or yadg, which are not installed",
                hint="pip install 'batterylab[gpl-readers]'",
            )
        if done.returncode != 0 or not target.is_file():
            said = (done.stderr.strip().splitlines() or ["the reader died"])[-1][:300]
            raise refuse(path.name, said, "fetch it again, or export it as text from EC-Lab")
        with np.load(target, allow_pickle=False) as archive:
            columns = {name: archive[f"c{n}"] for n, name in enumerate(archive["names"].tolist())}
            return columns, dict(json.loads(str(archive["about"])))


def _table(sheet: Sheet, reader: str, technique: str) -> VendorTable:
    remarks: list[str] = []
    current_A = sheet.get(["I", "<I>"], "A")
    if current_A is None:
        current_A = _no_current(sheet, remarks)
    net = sheet.get(["(Q-Qo)", "(q-qo)"], "Ah")
    return VendorTable(
        "BioLogic",
        reader,
        sheet.need("time", "s"),
        current_A,
        sheet.need(["Ecell", "Ewe", "<Ewe>", "Ewe-Ece"], "V"),
        step=sheet.get("Ns"),
        cycle=sheet.get("cycle number"),
        charge=None if net is None else Counter((net,), "signed"),
        energy=_energy(sheet),
        extra=_extra(sheet),
        vendor_data={"technique": technique.strip().splitlines()[0]} if technique.strip() else {},
        remarks=remarks,
    )


def _no_current(sheet: Sheet, remarks: list[str]) -> Array:
    """Return zero current for open circuit, the one technique that records none."""
    driven = ("control", "dq", "(q-qo)", "q charge/discharge", "control/v", "freq")
    if any(sheet.has(name) for name in driven):
        raise refuse(sheet.name, "the file holds no current", "record I or <I>")
    remarks.append("the technique (open circuit) records no current: it is 0")
    return np.zeros(len(sheet))


def _energy(sheet: Sheet) -> Counter | None:
    charge, discharge = sheet.get("Energy charge", "Wh"), sheet.get("Energy discharge", "Wh")
    if charge is None or discharge is None:
        return None
    return Counter((np.abs(charge), np.abs(discharge)), "pair")


def _extra(sheet: Sheet) -> dict[str, Array]:
    """Return temperature, and impedance where the file holds some."""
    extra: dict[str, Array] = {}
    temperature = sheet.get("Temperature", "degC")
    if temperature is not None:
        extra["temperature_degC"] = temperature
    frequency = sheet.get("freq", "Hz")
    size, phase = sheet.get("|Z|", "ohm"), sheet.get("Phase(Z)", "deg")
    if frequency is not None and size is not None and phase is not None and (frequency > 0).any():
        measured = np.where(frequency > 0, 1.0, np.nan)
        extra["frequency_Hz"] = frequency * measured
        extra["impedance_real_ohm"] = size * np.cos(np.radians(phase)) * measured
        extra["impedance_imaginary_ohm"] = size * np.sin(np.radians(phase)) * measured
    return extra
