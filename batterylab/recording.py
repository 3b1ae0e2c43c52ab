"""A recording: what was done to one cell. All stages below the bench know only this.

Charge current is positive, as in the Battery Data Format (BDF). Columns are one-dimensional
and of equal length; a row's `step_index` counts the steps as they were carried out.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab.errors import BatterylabError


@dataclass(frozen=True)
class ColumnSpec:
    """Unit, BDF names and type of a column.

    Source of the names: Battery Data Alliance, Battery Data Format, ontology 1.3.0; a column
    that BDF does not name has an empty `bdf_name`.
    """

    unit: str
    bdf_name: str
    bdf_label: str
    dtype: str = "<f8"


COLUMNS: dict[str, ColumnSpec] = {
    "test_time_s": ColumnSpec("s", "test_time_second", "Test Time / s"),
    "unix_time_s": ColumnSpec("s", "unix_time_second", "Unix Time / s"),
    "current_A": ColumnSpec("A", "current_ampere", "Current / A"),
    "voltage_V": ColumnSpec("V", "voltage_volt", "Voltage / V"),
    "temperature_degC": ColumnSpec("degC", "temperature_t1_celsius", "Temperature T1 / degC"),
    "step_index": ColumnSpec("1", "step_index", "Step Index / 1", "<i4"),
    "cycle_index": ColumnSpec("1", "cycle_count", "Cycle Count / 1", "<i4"),
    "net_capacity_Ah": ColumnSpec("Ah", "net_capacity_ah", "Net Capacity / Ah"),
    "net_energy_Wh": ColumnSpec("Wh", "net_energy_wh", "Net Energy / Wh"),
    "charge_capacity_Ah": ColumnSpec("Ah", "charging_capacity_ah", "Charging Capacity / Ah"),
    "discharge_capacity_Ah": ColumnSpec(
        "Ah", "discharging_capacity_ah", "Discharging Capacity / Ah"
    ),
    "charge_energy_Wh": ColumnSpec("Wh", "charging_energy_wh", "Charging Energy / Wh"),
    "discharge_energy_Wh": ColumnSpec("Wh", "discharging_energy_wh", "Discharging Energy / Wh"),
    "ambient_temperature_degC": ColumnSpec(
        "degC", "ambient_temperature_celsius", "Ambient Temperature / degC"
    ),
    "frequency_Hz": ColumnSpec("Hz", "frequency_hertz", "Frequency / Hz"),
    "impedance_real_ohm": ColumnSpec("ohm", "real_impedance_ohm", "Real Impedance / ohm"),
    "impedance_imaginary_ohm": ColumnSpec(
        "ohm", "imaginary_impedance_ohm", "Imaginary Impedance / ohm"
    ),
}
REQUIRED = ("test_time_s", "current_A", "voltage_V", "step_index", "cycle_index")
KINDS = (
    "charge", "discharge", "rest", "hold", "pulse", "profile", "soak", "measure", "other",
)  # fmt: skip


@dataclass(frozen=True)
class StepRow:
    """One step as it was carried out.

    Attributes
    ----------
    step_index : int
        Counts from 0 in the order of time.
    first_row, last_row : int
        Rows of the columns, both inclusive.
    kind : str
        One of ``charge discharge rest hold pulse other``.
    label : str
        Where the step stands in the protocol, such as ``steps[0].steps[2]``; for imported
        files the vendor's own step number or name.
    measure : str
        The name that features and reports cite, such as ``capacity``; empty if none.
    ended_by : str
        What ended the step: ``voltage``, ``current``, ``duration``, ``capacity``, ``energy``,
        ``power``, ``temperature``, ``dV/dt``, ``dT/dt``, ``at_most``, ``stopped``, ``unknown``.
    cycle_index : int
        As in the columns.
    start_s, duration_s : float
        Test time of the start, and the length, in s.
    current_A : float
        Set current, charge positive; NaN if not known.
    voltage_V : float
        Set or limit voltage; NaN if not known.
    """

    step_index: int
    first_row: int
    last_row: int
    kind: str
    label: str = ""
    measure: str = ""
    ended_by: str = "unknown"
    cycle_index: int = 0
    start_s: float = 0.0
    duration_s: float = 0.0
    current_A: float = float("nan")
    voltage_V: float = float("nan")

    @property
    def rows(self) -> slice:
        """The step's rows as a slice."""
        return slice(self.first_row, self.last_row + 1)


@dataclass(frozen=True)
class Recording:
    """What was done to one cell: columns, steps and provenance.

    Attributes
    ----------
    serial, supplier, lot : str
        The cell.
    cell_type : dict
        The data sheet as plain numbers (`CellType.to_dict`); may be empty for an import.
    protocol : str
        Name of the protocol.
    columns : dict of str to ndarray
        One-dimensional, equally long; names and units as in `COLUMNS`.
    steps : list of StepRow
        In the order of time.
    protocol_resolved : dict
        The protocol in plain numbers, JSON-able; empty for an import.
    provenance : dict
        Who, when, on what: JSON-able.
    seal : str
        SHA-256 over the content, once archived.
    """

    serial: str
    supplier: str
    lot: str
    protocol: str
    columns: dict[str, NDArray[Any]]
    steps: list[StepRow]
    cell_type: dict[str, Any] = field(default_factory=dict)
    protocol_resolved: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    seal: str = ""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.columns["test_time_s"])

    @property
    def start_utc(self) -> str:
        """Start as ISO 8601 in UTC, or an empty string if not known."""
        return str(self.provenance.get("start_utc", ""))

    def with_seal(self, seal: str) -> "Recording":
        """Return the same recording with its seal."""
        return replace(self, seal=seal)

    def checked(self) -> "Recording":
        """Return the recording with columns in their archive types.

        Raises
        ------
        BatterylabError
            If a required column is missing, lengths differ, time runs backwards, a name is
            unknown, or the steps do not fit the rows.
        """
        columns = {name: _as_column(self, name) for name in self.columns}
        _check_lengths(self, columns)
        _check_steps(self, len(columns["test_time_s"]))
        return replace(self, columns=columns)


def _complain(recording: Recording, what: str, hint: str | None = None) -> BatterylabError:
    return BatterylabError(f"recording of {recording.serial!r}: {what}", hint=hint)


def _as_column(recording: Recording, name: str) -> NDArray[Any]:
    if name not in COLUMNS:
        known = ", ".join(COLUMNS)
        raise _complain(recording, f"unknown column {name!r}", f"known: {known}")
    values = np.asarray(recording.columns[name])
    if values.ndim != 1:
        raise _complain(recording, f"column {name} is not one-dimensional")
    try:
        return np.ascontiguousarray(values, dtype=COLUMNS[name].dtype)
    except (ValueError, TypeError):
        raise _complain(recording, f"column {name} does not hold numbers") from None


def _check_lengths(recording: Recording, columns: dict[str, NDArray[Any]]) -> None:
    for name in REQUIRED:
        if name not in columns:
            raise _complain(recording, f"the column {name} is missing")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) != 1:
        raise _complain(recording, f"columns differ in length: {lengths}")
    time_s = columns["test_time_s"]
    if not len(time_s):
        raise _complain(recording, "there are no rows")
    for name in ("test_time_s", "current_A", "voltage_V"):
        wrong = ~np.isfinite(columns[name])
        if name == "voltage_V" and "frequency_Hz" in columns:
            wrong &= ~np.isfinite(columns["frequency_Hz"])  # a spectrum may stand alone
        bad = np.flatnonzero(wrong)
        if len(bad):
            raise _complain(recording, f"column {name}, row {bad[0]}: not a finite number")
    back = np.flatnonzero(np.diff(time_s) < 0)
    if len(back):
        raise _complain(recording, f"column test_time_s, row {back[0] + 1}: time runs backwards")


def _check_steps(recording: Recording, rows: int) -> None:
    for number, step in enumerate(recording.steps):
        if step.step_index != number:
            raise _complain(recording, f"step {number} carries the index {step.step_index}")
        if step.kind not in KINDS:
            raise _complain(recording, f"step {number}: unknown kind {step.kind!r}")
        if not 0 <= step.first_row <= step.last_row < rows:
            raise _complain(
                recording, f"step {number}: rows {step.first_row}-{step.last_row} of {rows}"
            )


#: fixed-width types of the step table; text is UTF-8
_TEXT = {"kind": "S16", "label": "S120", "measure": "S40", "ended_by": "S40"}
_NUMBER = {"int": "<i4", "float": "<f8", int: "<i4", float: "<f8"}
STEP_DTYPE = np.dtype(
    [
        (f.name, _TEXT.get(f.name) or _NUMBER[f.type])
        for f in fields(StepRow)
    ]
)
CYCLE_DTYPE = np.dtype(
    [("cycle_index", "<i4"), ("first_row", "<i4"), ("last_row", "<i4"),
     ("start_s", "<f8"), ("duration_s", "<f8"),
     ("charge_Ah", "<f8"), ("discharge_Ah", "<f8")]
)  # fmt: skip


def steps_to_table(steps: list[StepRow]) -> NDArray[Any]:
    """Return the steps as a structured array of `STEP_DTYPE`."""
    table = np.zeros(len(steps), STEP_DTYPE)
    for name in STEP_DTYPE.names or ():
        values = [getattr(step, name) for step in steps]
        table[name] = [v.encode() for v in values] if name in _TEXT else values
    return table


def steps_from_table(table: NDArray[Any]) -> list[StepRow]:
    """Return the steps of a structured array of `STEP_DTYPE`."""
    names = STEP_DTYPE.names or ()

    def value(row: Any, name: str) -> Any:
        return row[name].decode() if name in _TEXT else row[name].item()

    return [StepRow(**{name: value(row, name) for name in names}) for row in table]


def cycle_table(recording: Recording) -> NDArray[Any]:
    """Return one row a cycle: rows, time and charge passed each way.

    Charge comes from `net_capacity_Ah` where the bench accumulated it, else from the
    trapezoidal rule over the rows.

    Returns
    -------
    ndarray of CYCLE_DTYPE
        Ordered by `cycle_index`.
    """
    index = recording.columns["cycle_index"]
    time_s = recording.columns["test_time_s"]
    moved_Ah = charge_between_rows_Ah(recording.columns)
    numbers = np.unique(index)
    table = np.zeros(len(numbers), CYCLE_DTYPE)
    for row, number in zip(table, numbers, strict=True):
        rows = np.flatnonzero(index == number)
        moved = moved_Ah[rows]
        row["cycle_index"], row["first_row"], row["last_row"] = number, rows[0], rows[-1]
        row["start_s"] = time_s[rows[0]]
        row["duration_s"] = time_s[rows[-1]] - time_s[rows[0]]
        row["charge_Ah"] = moved[moved > 0].sum()
        row["discharge_Ah"] = -moved[moved < 0].sum()
    return table


def charge_between_rows_Ah(columns: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Return the charge in Ah that passed between each row and the one before; first is 0."""
    moved = np.zeros(len(columns["test_time_s"]))
    if "net_capacity_Ah" in columns:
        moved[1:] = np.diff(columns["net_capacity_Ah"])
    else:
        current_A = columns["current_A"]
        time_s = columns["test_time_s"]
        moved[1:] = 0.5 * (current_A[1:] + current_A[:-1]) * np.diff(time_s) / 3600.0
    return moved
