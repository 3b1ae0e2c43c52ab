"""What every vendor's module hands over: one measurement as plain columns, not yet checked.

Charge current is positive; units are those of the names. Nothing here has been judged:
`checks` holds the columns against the file's own counters and clock, `steps` finds the steps.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab.errors import BatterylabError

Array = NDArray[Any]


@dataclass(frozen=True)
class Counter:
    """A cycler's own count of charge or energy, as the file writes it.

    Attributes
    ----------
    values : tuple of ndarray
        One array of signed or unsigned values, or two: charge, then discharge. In Ah or Wh.
        Whether they restart with a step, with a cycle or never is found out (`counters`).
    form : str
        ``signed``, ``unsigned`` or ``pair``.
    """

    values: tuple[Array, ...]
    form: str


@dataclass
class VendorTable:
    """One measurement as its file tells it.

    Attributes
    ----------
    vendor, reader : str
        Whose format it is, and what read it with its version, such as ``fastnda 1.3.1``.
    time_s, current_A, voltage_V : ndarray
        Test time in s; current in A, charge positive; voltage in V.
    step : ndarray or None
        The vendor's step number; a change begins a new step.
    step_time_s : ndarray or None
        Time since the step's start in s; a fall begins a new step.
    cycle : ndarray or None
        The vendor's cycle number, as floats: whether they are whole is checked later.
    status : ndarray or None
        The vendor's name of what the step does, as text.
    kinds : dict of str to str
        From `status` to one of ``charge discharge rest hold other``.
    charge, energy : Counter or None
        The file's own counters in Ah and Wh.
    unix_time_s : ndarray or None
        Wall clock; UTC if `zone_known`, else the laboratory's local time taken as UTC.
    extra : dict of str to ndarray
        Other columns under the names of `recording.COLUMNS`.
    current_resolution_A : float
        The last digit of the current as written; 0 if not known.
    serial : str
        The cell's name in the file's metadata, or empty.
    serial_sure : bool
        Whether that field holds nothing but the cell's name.
    vendor_data : dict
        Procedure, channel, instrument and so on, JSON-able, for the provenance.
    remarks : list of str
        What a reader of the recording should know.
    """

    vendor: str
    reader: str
    time_s: Array
    current_A: Array
    voltage_V: Array
    step: Array | None = None
    step_time_s: Array | None = None
    cycle: Array | None = None
    status: Array | None = None
    kinds: dict[str, str] = field(default_factory=dict)
    charge: Counter | None = None
    energy: Counter | None = None
    unix_time_s: Array | None = None
    zone_known: bool = False
    extra: dict[str, Array] = field(default_factory=dict)
    current_resolution_A: float = 0.0
    serial: str = ""
    serial_sure: bool = False
    vendor_data: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.time_s)

    def take(self, rows: Array) -> "VendorTable":
        """Return the table with some of its rows, in the order given."""
        from dataclasses import fields, replace

        def of(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                return value[rows]
            if isinstance(value, Counter):
                return Counter(tuple(part[rows] for part in value.values), value.form)
            return value

        changed = {f.name: of(getattr(self, f.name)) for f in fields(self) if f.name != "extra"}
        return replace(self, **changed, extra={k: v[rows] for k, v in self.extra.items()})


def impedance_rows(table: VendorTable) -> NDArray[np.bool_]:
    """Return which rows hold an impedance: their current is an instant of an oscillation."""
    frequency_Hz = table.extra.get("frequency_Hz")
    if frequency_Hz is None:
        return np.zeros(len(table), dtype=bool)
    return np.isfinite(frequency_Hz)


def refuse(name: str, what: str, hint: str | None = None) -> BatterylabError:
    """Return the error for a file that is not taken: its name, what is wrong, what would be right.

    Parameters
    ----------
    name : str
        The file's name without its folder.
    what : str
        What is wrong.
    hint : str, optional
        What would be right.
    """
    return BatterylabError(f"{name}: {what}", hint=hint)
