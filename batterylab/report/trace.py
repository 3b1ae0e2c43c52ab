"""Follow a code of the report to the recording, the steps, the channel and the software.

A code is one of three: the first eight or more characters of a seal; a serial; a serial and a
feature, ``A1-001/capacity_Ah``. A serial cannot hold a slash, so the three never mix.
"""

import difflib
import math
from pathlib import Path
from typing import Any

from batterylab.archive import ArchiveEntry, find, read, verify
from batterylab.errors import BatterylabError, NotMetError
from batterylab.recording import Recording, StepRow
from batterylab.report.card import mapping
from batterylab.report.words import finite
from batterylab.study import Study

SHORTEST = 8
_HEX = frozenset("0123456789abcdef")
#: what a trace repeats of a recording's provenance
_PROVENANCE = (
    "source", "channel", "module", "shelf", "bench", "instruments", "accuracy", "loading",
    "operator", "software", "run", "attempt", "part", "file", "sha256", "reader", "checks",
    "remarks",
)  # fmt: skip


def trace(study: Study, code: str) -> dict[str, Any]:
    """Follow a code.

    Parameters
    ----------
    study : Study
        Its archive and its log are read; nothing is written.
    code : str
        The beginning of a seal, a serial, or ``SERIAL/FEATURE``.

    Returns
    -------
    dict
        ``code``, ``kind`` (``seal``, ``serial`` or ``value``), ``recordings`` and ``tables``;
        the keys of these are in `docs/report.md`.

    Raises
    ------
    BatterylabError
        If nothing, or more than one thing, has this code.
    """
    code = code.strip()
    entries = find(study.archive) if study.archive.is_dir() else []
    tables = _tables(study)
    serial, slash, feature = code.partition("/")
    if slash:
        kind = "value"
        chosen = [entry for entry in entries if entry.serial == serial]
        sheets = tables
        _known_serial(study, entries, tables, serial)
    else:
        kind, chosen, sheets = _matches(study, entries, tables, code)
        serial = code if kind == "serial" else ""
        feature = ""
    states = study.log.states()
    found = [_recording(entry, states.get(entry.seal, {}), feature) for entry in chosen]
    listed = [_table(sheet, serial, feature) for sheet in sheets]
    if kind == "value":
        found = [one for one in found if one["values"]]
    if serial:
        listed = [one for one in listed if one["rows"]]
    if kind == "value" and not found and not listed:
        raise _unknown_feature(chosen, tables, serial, feature)
    return {"code": code, "kind": kind, "recordings": found, "tables": listed}


def _tables(study: Study) -> list[dict[str, Any]]:
    """Return the imported feature tables, each with the file that holds it."""
    from batterylab.features.store import read_table

    paths = sorted((study.archive / "tables").glob("*/table.json"))
    return [{**read_table(path), "path": path} for path in paths]


def _serials(study: Study, entries: list[ArchiveEntry], tables: list[dict[str, Any]]) -> set[str]:
    rows = (str(row.get("serial")) for sheet in tables for row in sheet["rows"])
    return {*study.cells, *(entry.serial for entry in entries), *rows}


def _known_serial(
    study: Study, entries: list[ArchiveEntry], tables: list[dict[str, Any]], serial: str
) -> None:
    known = _serials(study, entries, tables)
    if serial not in known:
        raise BatterylabError(f"no cell has the serial {serial!r}", hint=_near(serial, known))


def _near(word: str, known: set[str]) -> str:
    near = difflib.get_close_matches(word, sorted(known), n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return "a code is the beginning of a seal, a serial, or SERIAL/FEATURE as in the report"


def _matches(
    study: Study, entries: list[ArchiveEntry], tables: list[dict[str, Any]], code: str
) -> tuple[str, list[ArchiveEntry], list[dict[str, Any]]]:
    """Return what a code without a slash means, what it matches, and which tables."""
    is_seal = len(code) >= SHORTEST and set(code.lower()) <= _HEX
    start = code.lower()
    sealed = [entry for entry in entries if is_seal and entry.seal.startswith(start)]
    sheets = [t for t in tables if is_seal and str(t.get("sha256", "")).startswith(start)]
    known = _serials(study, entries, tables)
    if code in known:
        if sealed or sheets:
            raise BatterylabError(
                f"{code!r} is a serial and also the beginning of a seal",
                hint="write more characters of the seal, or SERIAL/FEATURE",
            )
        mine = [entry for entry in entries if entry.serial == code]
        return "serial", mine, tables
    if len(sealed) + len(sheets) > 1:
        seals = [entry.seal for entry in sealed] + [str(sheet["sha256"]) for sheet in sheets]
        shown = ", ".join(seal[:16] for seal in seals[:4])
        raise BatterylabError(
            f"{code!r} is the beginning of {len(seals)} seals: {shown}",
            hint="write more of its characters",
        )
    if sealed or sheets:
        return "seal", sealed, sheets
    if len(code) < SHORTEST and code and set(code.lower()) <= _HEX:
        raise BatterylabError(
            f"{code!r} is no serial, and too short for a seal",
            hint=f"the beginning of a seal has at least {SHORTEST} characters",
        )
    raise BatterylabError(f"nothing in this study has the code {code!r}", hint=_near(code, known))


def _unknown_feature(
    chosen: list[ArchiveEntry], tables: list[dict[str, Any]], serial: str, feature: str
) -> BatterylabError:
    known = {value["feature"] for entry in chosen for value in _values(read(entry.path), "")}
    known |= {
        str(row["feature"]) for sheet in tables for row in sheet["rows"]
        if str(row["serial"]) == serial
    }  # fmt: skip
    names = ", ".join(sorted(known)) or "none"
    return BatterylabError(f"{serial} has no feature {feature!r}", hint=f"it has: {names}")


def _recording(entry: ArchiveEntry, state: dict[str, Any], feature: str) -> dict[str, Any]:
    """Return what is to be known of one recording; `feature` narrows values and steps."""
    try:
        recording, broken = verify(entry.path), ""
    except NotMetError as error:
        recording, broken = read(entry.path), error.message
    provenance = recording.provenance
    values = _values(recording, feature)
    wanted = {step for value in values for step in value["steps"]} if feature else None
    steps = [
        _step(recording, step)
        for step in recording.steps
        if wanted is None or step.step_index in wanted
    ]
    default = "valid with remark" if provenance.get("remarks") else "valid"
    return {
        "file": str(entry.path),
        "seal": entry.seal,
        "seal_holds": not broken,
        "seal_message": broken,
        "serial": recording.serial,
        "supplier": recording.supplier,
        "lot": recording.lot,
        "protocol": recording.protocol,
        "start_utc": recording.start_utc,
        "rows": len(recording),
        "state": state.get("state", default),
        "state_reason": state.get("reason", ""),
        "state_operator": state.get("operator", ""),
        "provenance": {key: provenance[key] for key in _PROVENANCE if key in provenance},
        "values": values,
        "steps": steps,
    }


def _values(recording: Recording, feature: str) -> list[dict[str, Any]]:
    from batterylab.features import features_of

    return [
        {
            "feature": one.name,
            "value": finite(one.value),
            "unit": one.unit,
            "uncertainty": finite(one.uncertainty),
            "method": one.method,
            "steps": list(one.steps),
        }
        for one in features_of(recording)
        if not feature or one.name == feature
    ]


def _step(recording: Recording, step: StepRow) -> dict[str, Any]:
    voltage_V = recording.columns["voltage_V"]
    return {
        "step_index": step.step_index,
        "kind": step.kind,
        "measure": step.measure,
        "label": step.label,
        "first_row": step.first_row,
        "last_row": step.last_row,
        "start_s": finite(step.start_s),
        "duration_s": finite(step.duration_s),
        "ended_by": step.ended_by,
        "first_voltage_V": float(voltage_V[step.first_row]),
        "last_voltage_V": float(voltage_V[step.last_row]),
    }


def _table(sheet: dict[str, Any], serial: str, feature: str) -> dict[str, Any]:
    rows = [
        row for row in sheet["rows"]
        if (not serial or str(row["serial"]) == serial)
        and (not feature or str(row["feature"]) == feature)
    ]  # fmt: skip
    path = Path(sheet["path"])
    return {
        "file": str(path),
        "sha256": str(sheet.get("sha256", "")),
        "name": str(sheet.get("name", "")),
        "rows": rows,
    }


def lines(found: dict[str, Any]) -> list[str]:
    """Return a trace as text for people."""
    said: list[str] = []
    for one in found["recordings"]:
        said += _recording_lines(one)
    for sheet in found["tables"]:
        said += [f"table {sheet['name']}", f"  file       {sheet['file']}",
                 f"  SHA-256    {sheet['sha256']}"]  # fmt: skip
        said += [
            f"  value      {row['serial']} {row['feature']} = {row['value']} {row.get('unit', '')}"
            for row in sheet["rows"][:50]
        ]
        if len(sheet["rows"]) > 50:
            said.append(f"  and {len(sheet['rows']) - 50} more rows")
    if not said:
        said.append(f"{found['code']}: known, but there are no recordings of it yet")
    return said


def _recording_lines(one: dict[str, Any]) -> list[str]:
    facts = one["provenance"]
    where = [f"{key} {facts[key]}" for key in ("module", "shelf", "bench") if facts.get(key)]
    channel = ", ".join([str(facts.get("channel") or "not stated"), *where])
    said = [
        f"{one['serial']}, lot {one['lot'] or 'not stated'}, supplier {one['supplier']}",
        f"  recording  {one['protocol']}, {one['start_utc'] or 'start not known'}, "
        f"{one['rows']} rows",
        f"  file       {one['file']}",
        f"  seal       {one['seal']} ({'holds' if one['seal_holds'] else 'DOES NOT HOLD'})",
        f"  state      {' '.join(filter(None, (one['state'], one['state_reason'])))}",
        f"  channel    {channel}",
    ]
    for role, item in mapping(facts.get("instruments")).items():
        said.append(f"  {role:<10} {_instrument(mapping(item))}")
    for name, item in mapping(facts.get("accuracy")).items():
        terms = mapping(item)
        if finite(terms.get("reading")) is not None and finite(terms.get("offset")) is not None:
            said.append(f"  accuracy   {name}: {100 * terms['reading']:g} % of reading and "
                        f"{terms['offset']:g}, one standard deviation")  # fmt: skip
    for key in ("operator", "software", "reader", "sha256"):
        if facts.get(key):
            said.append(f"  {key:<10} {facts[key]}")
    if facts.get("source") == "import" and facts.get("file"):
        said.append(f"  imported   {facts['file']}")
    said += [f"  remark     {remark}" for remark in facts.get("remarks") or []]
    for value in one["values"]:
        said.append(f"  value      {_value_text(value)}")
    said += [f"  step {step['step_index']:>4}  {_step_text(step)}" for step in one["steps"]]
    return said


def _instrument(item: dict[str, Any]) -> str:
    due = item.get("calibration_due") or "not stated"
    serial = item.get("serial") or "not stated"
    return f"{item.get('model') or 'unknown model'}, serial {serial}, calibration due {due}"


def _value_text(value: dict[str, Any]) -> str:
    doubt = value["uncertainty"]
    plus = f" ± {doubt:.2g} (one standard uncertainty)" if doubt else " (uncertainty not known)"
    number = value["value"] if value["value"] is not None else math.nan
    steps = ",".join(map(str, value["steps"])) or "none"
    unit = "" if value["unit"] == "1" else f" {value['unit']}"
    return f"{value['feature']} = {number:.6g}{unit}{plus}; {value['method']}; steps {steps}"


def _step_text(step: dict[str, Any]) -> str:
    duration = step["duration_s"]
    length = f"{duration:.0f} s" if duration is not None else "length not known"
    return (
        f"{step['kind']:<9} {step['measure'] or '-':<10} rows {step['first_row']}-"
        f"{step['last_row']}, {length}, {step['first_voltage_V']:.4f} V to "
        f"{step['last_voltage_V']:.4f} V, ended by {step['ended_by']}"
    )
