"""Cell types and cells: the data sheet, and the serials that were delivered."""

import csv
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from batterylab.errors import BatterylabError, Problem, ProblemsError
from batterylab.quantity import Capacity_Ah, Current_A, Temperature_degC, Voltage_V

#: what a serial, lot or supplier may be called: it becomes part of file names and reports
NAME = re.compile(r"[^\W_][\w .+#-]{0,63}\Z")
COLUMNS = ("serial", "supplier", "lot", "incoming_ocv_V", "incoming_ac_resistance_mOhm", "mass_g")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class VoltageWindow(_Part):
    """Cut-off voltages in V."""

    min_V: Voltage_V = Field(alias="min")
    max_V: Voltage_V = Field(alias="max")


class CurrentLimits(_Part):
    """Largest currents in A, both positive."""

    max_charge_A: Current_A = Field(alias="max_charge", gt=0)
    max_discharge_A: Current_A = Field(alias="max_discharge", gt=0)


class TemperatureWindow(_Part):
    """Cell temperatures allowed, in °C."""

    min_degC: Temperature_degC = Field(alias="min")
    max_degC: Temperature_degC = Field(alias="max")


class CellType(_Part):
    """What the data sheet says of a cell."""

    name: str
    nominal_capacity_Ah: Capacity_Ah = Field(alias="nominal_capacity", gt=0)
    rated_capacity_Ah: Capacity_Ah = Field(alias="rated_capacity", gt=0)
    voltage: VoltageWindow
    current: CurrentLimits
    temperature: TemperatureWindow
    chemistry: str = ""

    @model_validator(mode="after")
    def _windows_are_open(self) -> "CellType":
        if not self.voltage.min_V < self.voltage.max_V:
            raise ValueError("voltage: min must be less than max\n  hint: swap them")
        if not self.temperature.min_degC < self.temperature.max_degC:
            raise ValueError("temperature: min must be less than max\n  hint: swap them")
        if not 0.5 <= self.rated_capacity_Ah / self.nominal_capacity_Ah <= 1.5:
            raise ValueError(
                f"rated capacity {self.rated_capacity_Ah:g} Ah does not fit the nominal "
                f"{self.nominal_capacity_Ah:g} Ah\n  hint: mind Ah and mAh"
            )
        return self

    @property
    def voltage_min_V(self) -> float:
        """Lower cut-off voltage in V."""
        return self.voltage.min_V

    @property
    def voltage_max_V(self) -> float:
        """Upper cut-off voltage in V."""
        return self.voltage.max_V

    @property
    def max_charge_A(self) -> float:
        """Largest charge current in A, positive."""
        return self.current.max_charge_A

    @property
    def max_discharge_A(self) -> float:
        """Largest discharge current in A, positive."""
        return self.current.max_discharge_A

    @property
    def temperature_min_degC(self) -> float:
        """Lowest cell temperature in °C."""
        return self.temperature.min_degC

    @property
    def temperature_max_degC(self) -> float:
        """Highest cell temperature in °C."""
        return self.temperature.max_degC

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, JSON-able, as a recording keeps them."""
        return {
            "name": self.name,
            "nominal_capacity_Ah": self.nominal_capacity_Ah,
            "rated_capacity_Ah": self.rated_capacity_Ah,
            "voltage_min_V": self.voltage_min_V,
            "voltage_max_V": self.voltage_max_V,
            "max_charge_A": self.max_charge_A,
            "max_discharge_A": self.max_discharge_A,
            "temperature_min_degC": self.temperature_min_degC,
            "temperature_max_degC": self.temperature_max_degC,
            "chemistry": self.chemistry,
        }


@dataclass(frozen=True)
class Cell:
    """A serial of a cell type, from a lot of a supplier.

    Attributes
    ----------
    incoming_ocv_V, incoming_ac_resistance_mOhm, mass_g : float or None
        The incoming record, where there is one.
    """

    serial: str
    supplier: str
    lot: str
    incoming_ocv_V: float | None = None
    incoming_ac_resistance_mOhm: float | None = None
    mass_g: float | None = None


def check_name(text: str, what: str) -> str:
    """Return `text` if it may name a serial, lot or supplier.

    Raises
    ------
    BatterylabError
        If it is empty, longer than 64 characters, or holds a character that does not belong
        in a file name.
    """
    if NAME.match(text) and not text.endswith((" ", ".")):
        return text
    raise BatterylabError(
        f"{text[:70]!r} cannot name a {what}",
        hint="up to 64 letters, digits, space and . + # - _, beginning with a letter or digit",
    )


def read_cells(path: Path) -> dict[str, Cell]:
    """Read ``cells.csv``.

    Parameters
    ----------
    path : Path
        A CSV file in UTF-8 whose header names `serial`, `supplier` and `lot`, and perhaps the
        incoming record: `incoming_ocv_V`, `incoming_ac_resistance_mOhm`, `mass_g`.

    Returns
    -------
    dict of str to Cell
        By serial, in the file's order.

    Raises
    ------
    ProblemsError
        With every mistake, by line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BatterylabError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BatterylabError(f"{path}: cannot be read: {error}", hint="save it as UTF-8") from None
    rows = csv.reader(text.splitlines())
    header = [name.strip() for name in next(rows, [])]
    problems = _header_problems(path, header)
    if problems:
        raise ProblemsError(problems)
    cells: dict[str, Cell] = {}
    for row in rows:
        if not any(field.strip() for field in row):
            continue
        where = f"{path.name}:{rows.line_num}"
        try:
            cell = _cell_of(dict(zip(header, (f.strip() for f in row), strict=False)))
        except BatterylabError as error:
            problems.append(Problem(where, error.message, error.hint or ""))
            continue
        if cell.serial in cells:
            problems.append(Problem(where, f"the serial {cell.serial!r} stands twice"))
        cells[cell.serial] = cell
    if problems:
        raise ProblemsError(problems)
    return cells


def _header_problems(path: Path, header: list[str]) -> list[Problem]:
    problems = [
        Problem(f"{path.name}:1", f"the column {name!r} is missing", ",".join(COLUMNS))
        for name in COLUMNS[:3]
        if name not in header
    ]
    problems += [
        Problem(f"{path.name}:1", f"unknown column {name!r}", f"known: {','.join(COLUMNS)}")
        for name in header
        if name not in COLUMNS
    ]
    return problems


def _cell_of(row: dict[str, str]) -> Cell:
    names = {what: check_name(row.get(what, ""), what) for what in COLUMNS[:3]}
    numbers = {name: _number(row.get(name, ""), name) for name in COLUMNS[3:]}
    return Cell(**names, **numbers)  # type: ignore[arg-type]


def _number(text: str, name: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BatterylabError(f"{name} = {text!r} is not a number", hint="empty means unknown")
    return value
