"""Neware: `.nda`, `.ndax` and the CSV that its software exports.

The binaries are read by `fastnda`, whose current is in mA and whose cycle counts begin a new
cycle with a charge that follows a discharge; the file's own count is kept beside it. Where
fastnda gives up, `NewareNDA` is tried if it is installed.
"""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from batterylab.importers.quiet import overheard
from batterylab.importers.text import Sheet, durations_s, read_sheet, read_text, stamps_s
from batterylab.importers.vendortable import Counter, VendorTable, refuse

SUFFIXES = (".nda", ".ndax")
STAMPS = ("%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S")


def matches(path: Path, head: bytes) -> bool:
    """Return whether this is a Neware binary or export."""
    if path.suffix.lower() in SUFFIXES:
        return True
    first = head.split(b"\n", 1)[0]
    return first.startswith(b"DataPoint,") and b"Cycle Index" in first and b"Step Type" in first


def read(path: Path) -> VendorTable:
    """Read a Neware file.

    Raises
    ------
    BatterylabError
        If it is corrupt, empty or cut short.
    """
    return _binary(path) if path.suffix.lower() in SUFFIXES else _export(path)


def kind_of(status: str) -> str:
    """Return the kind of step that Neware's name stands for.

    Examples
    --------
    >>> kind_of("CC_DChg"), kind_of("CV_Chg"), kind_of("Rest")
    ('discharge', 'hold', 'rest')
    """
    name = status.replace(" ", "_").lower()
    if name.startswith("cv_"):
        return "hold"
    if name in ("rest", "pause"):
        return "rest"
    if name.endswith("dchg"):
        return "discharge"
    return "charge" if name.endswith("chg") else "other"


def _binary(path: Path) -> VendorTable:
    frame, reader, said = _frame(path)
    if not len(frame["voltage_V"]):
        raise refuse(path.name, "the file holds no rows", "nothing was measured on this channel")
    status = frame["step_type"].astype(str)
    extra = {}
    auxiliary = sorted(name for name in frame if name.startswith("aux") and "temp" in name)
    if auxiliary:
        extra["temperature_degC"] = frame[auxiliary[0]].astype(np.float64)
    vendor_data, serial = _metadata(path)
    table = VendorTable(
        "Neware",
        reader,
        frame["total_time_s"].astype(np.float64),
        frame["current_mA"].astype(np.float64) * 1e-3,
        frame["voltage_V"].astype(np.float64),
        step=frame["step_count"],
        step_time_s=frame["step_time_s"].astype(np.float64),
        cycle=frame["cycle_count"].astype(np.float64),
        status=status,
        kinds={str(name): kind_of(str(name)) for name in np.unique(status)},
        charge=Counter((frame["capacity_mAh"].astype(np.float64) * 1e-3,), "signed"),
        energy=Counter((frame["energy_mWh"].astype(np.float64) * 1e-3,), "signed"),
        unix_time_s=frame["unix_time_s"].astype(np.float64),
        zone_known=path.suffix.lower() == ".ndax",  # .nda: some versions write local time
        extra=extra,
        serial=serial,
        serial_sure=bool(serial),
        vendor_data=vendor_data,
        remarks=said,
    )
    if "own_cycle" in frame:
        table.vendor_data["cycles_counted_by_the_file"] = len(np.unique(frame["own_cycle"]))
    return table


def _frame(path: Path) -> tuple[dict[str, Any], str, list[str]]:
    """Return fastnda's columns, or NewareNDA's where fastnda gives up."""
    import fastnda

    said: list[str] = []
    try:
        with overheard("fastnda", said):
            frame = fastnda.read(path)
            own = fastnda.read(path, cycle_mode="raw")["cycle_count"].to_numpy()
        columns = {name: frame[name].to_numpy() for name in frame.columns}
        return {**columns, "own_cycle": own}, f"fastnda {version('fastnda')}", said
    except Exception as error:  # what a broken file makes of a parser cannot be listed
        second = _second_opinion(path)
        if second is not None:
            remark = f"fastnda could not read the file ({type(error).__name__}); NewareNDA did"
            return second, f"NewareNDA {version('NewareNDA')}", [remark]
        raise refuse(
            path.name,
            f"corrupt, cut short, or not a Neware file ({type(error).__name__}: {error})"[:300],
            "fetch the file again from the cycler",
        ) from None


def _second_opinion(path: Path) -> dict[str, Any] | None:
    """Return what NewareNDA reads under fastnda's names, or None."""
    try:
        version("NewareNDA")
        import NewareNDA  # type: ignore[import-untyped,unused-ignore]
    except (PackageNotFoundError, ImportError):
        return None
    try:
        with overheard("newarenda", []):
            frame = NewareNDA.read(str(path))
        charge = frame["Charge_Capacity(mAh)"] - frame["Discharge_Capacity(mAh)"]
        energy = frame["Charge_Energy(mWh)"] - frame["Discharge_Energy(mWh)"]
        seconds = frame["Timestamp"].astype("datetime64[ns]").astype("int64") / 1e9
        return {
            "total_time_s": (seconds - seconds.iloc[0]).to_numpy(),
            "unix_time_s": seconds.to_numpy(),
            "current_mA": frame["Current(mA)"].to_numpy(),
            "voltage_V": frame["Voltage"].to_numpy(),
            "step_count": frame["Step"].to_numpy(),
            "step_time_s": frame["Time"].to_numpy(),
            "cycle_count": frame["Cycle"].to_numpy(),
            "step_type": frame["Status"].astype(str).to_numpy(),
            "capacity_mAh": charge.to_numpy(),
            "energy_mWh": energy.to_numpy(),
        }
    except Exception:
        return None


def _metadata(path: Path) -> tuple[dict[str, Any], str]:
    """Return procedure and channel, and the barcode if somebody scanned one."""
    import fastnda

    try:
        with overheard("fastnda", []):
            data = fastnda.read_metadata(path)
    except Exception:
        return {}, ""
    info = data.get("TestInfo", {})
    info = info.get("TestInfo", info) if isinstance(info, dict) else {}
    flat = {**{k: v for k, v in data.items() if isinstance(v, str)}, **info}
    wanted = {
        "procedure": "StepName",
        "device": "DevID",
        "unit": "UnitID",
        "channel": "ChlID",
        "test": "TestID",
        "remark": "Remark",
        "nda_version": "nda_version",
        "software": "server_version",
        "start_local": "StartTime",
        "started": "start_time",
    }
    vendor_data = {
        key: str(flat[name])[:200]
        for key, name in wanted.items()
        if isinstance(flat.get(name), str | int) and str(flat[name]).strip()
    }
    serial = flat.get("Barcode") or flat.get("barcode") or ""
    return vendor_data, str(serial).strip()


def _export(path: Path) -> VendorTable:
    sheet = read_sheet(path, read_text(path, ("utf-8-sig", "latin-1")), 0)
    times = sheet.text(["Cumulative Time", "Total Time"])
    step_times = sheet.text("Time")
    if times is None or step_times is None:
        raise refuse(path.name, "the column 'Total Time' is missing", "export it with all columns")
    status = sheet.text("Step Type")
    stamps = sheet.text("Date")
    charge = _pair(sheet, ["Chg. Cap."], ["DChg. Cap."], "Ah")
    energy = _pair(sheet, ["Chg. Energy"], ["DChg. Energy"], "Wh")
    return VendorTable(
        "Neware",
        "batterylab.importers.neware",
        durations_s(path.name, times),
        sheet.need("Current", "A"),
        sheet.need("Voltage", "V"),
        step=sheet.get("Step Index"),
        step_time_s=durations_s(path.name, step_times),
        cycle=sheet.get("Cycle Index"),
        status=status,
        kinds={}
        if status is None
        else {str(name): kind_of(str(name)) for name in np.unique(status)},
        charge=charge,
        energy=energy,
        unix_time_s=None if stamps is None else stamps_s(stamps, *STAMPS),
        current_resolution_A=sheet.resolution("Current", "A"),
    )


def _pair(sheet: Sheet, charge: list[str], discharge: list[str], unit: str) -> Counter | None:
    first, second = sheet.get(charge, unit), sheet.get(discharge, unit)
    if first is None or second is None:
        return None
    return Counter((first, second), "pair")
