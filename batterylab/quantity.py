"""Quantities as people write them, and plain numbers as the code holds them.

A text such as ``30 min`` becomes a number in one unit, and the name of the quantity carries
that unit (`duration_s`). Parsing happens here, at the edge, and nowhere else.
"""

import difflib
import math
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from batterylab.errors import BatterylabError

#: unit as written -> (name of the quantity, factor to the unit in the name, offset)
UNITS: dict[str, tuple[str, float]] = {
    "ms": ("duration_s", 1e-3), "s": ("duration_s", 1.0), "min": ("duration_s", 60.0),
    "h": ("duration_s", 3600.0), "d": ("duration_s", 86400.0),
    "uV": ("voltage_V", 1e-6), "mV": ("voltage_V", 1e-3), "V": ("voltage_V", 1.0),
    "uA": ("current_A", 1e-6), "mA": ("current_A", 1e-3), "A": ("current_A", 1.0),
    "mAh": ("capacity_Ah", 1e-3), "Ah": ("capacity_Ah", 1.0),
    "mWh": ("energy_Wh", 1e-3), "Wh": ("energy_Wh", 1.0), "kWh": ("energy_Wh", 1e3),
    "mW": ("power_W", 1e-3), "W": ("power_W", 1.0), "kW": ("power_W", 1e3),
    "uOhm": ("resistance_ohm", 1e-6), "mOhm": ("resistance_ohm", 1e-3),
    "Ohm": ("resistance_ohm", 1.0), "ohm": ("resistance_ohm", 1.0),
    "degC": ("temperature_degC", 1.0), "°C": ("temperature_degC", 1.0),
    "K": ("temperature_difference_K", 1.0),
    "%": ("percent", 1.0), "g": ("mass_g", 1.0), "kg": ("mass_g", 1e3),
    "C": ("rate_C", 1.0),
    "mHz": ("frequency_Hz", 1e-3), "Hz": ("frequency_Hz", 1.0), "kHz": ("frequency_Hz", 1e3),
    "samples": ("samples", 1.0), "sample": ("samples", 1.0),
}  # fmt: skip

#: quantities whose number may be written with another quantity's unit
_ALIASES = {("temperature_difference_K", "temperature_degC"): 1.0}

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?"
_QUANTITY = re.compile(rf"({_NUMBER})\s*([A-Za-zµ°%Ω]+)\Z")
_RATE = re.compile(rf"C\s*/\s*({_NUMBER})\Z")
_LONGEST = 64


@dataclass(frozen=True)
class Quantity:
    """A number and the name that carries its unit."""

    name: str
    value: float


def parse(text: str) -> Quantity:
    """Return the quantity that `text` names.

    Parameters
    ----------
    text : str
        A number and a unit, such as ``30 min``, ``4.2 V``, ``25 degC``, or a rate: ``C/3``.

    Returns
    -------
    Quantity
        The value in the unit that the quantity's name carries.

    Raises
    ------
    BatterylabError
        If there is no number, no unit, or an unknown unit.

    Examples
    --------
    >>> parse("30 min")
    Quantity(name='duration_s', value=1800.0)
    >>> parse("C/4")
    Quantity(name='rate_C', value=0.25)
    """
    text = text.strip()
    shown = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    rate = _RATE.match(text)
    if rate:
        divisor = float(rate[1])
        if not (0 < divisor < math.inf):
            raise BatterylabError(f"{shown!r}: a rate divides by a positive number", hint="C/3")
        return Quantity("rate_C", 1.0 / divisor)
    match = _QUANTITY.match(text.replace("µ", "u").replace("Ω", "Ohm"))
    if not match:
        raise BatterylabError(
            f"{shown!r}: not a number with a unit", hint="write it as in '30 min', '4.2 V', 'C/3'"
        )
    unit = match[2]
    if unit not in UNITS:
        near = difflib.get_close_matches(unit, UNITS, n=1, cutoff=0.5)
        lower = [known for known in UNITS if known.lower() == unit.lower()]
        guess = (lower or near or [""])[0]
        raise BatterylabError(
            f"{shown!r}: unknown unit {unit!r}",
            hint=f"did you mean {guess!r}?" if guess else f"known units: {', '.join(UNITS)}",
        )
    name, factor = UNITS[unit]
    value = float(match[1]) * factor
    if not math.isfinite(value):
        raise BatterylabError(f"{shown!r}: the number is too large")
    return Quantity(name, value)


def unit_of(name: str) -> str:
    """Return the unit that a name such as ``voltage_V`` carries, for people to read."""
    base = {"duration_s": "s", "temperature_difference_K": "K", "rate_C": "C", "percent": "%"}
    return base.get(name, name.rsplit("_", 1)[-1])


def example_of(name: str) -> str:
    """Return how a quantity of that name is written."""
    unit = next((unit for unit, (known, _) in UNITS.items() if known == name and _ == 1.0), "")
    return f"{'1' if name != 'voltage_V' else '4.2'} {unit}"


def parse_as(text: object, name: str) -> float:
    """Return `text` as a number in the unit that `name` carries.

    Parameters
    ----------
    text : object
        What stood in the file. A bare number is refused: it has no unit.
    name : str
        The quantity wanted, such as ``voltage_V``.

    Returns
    -------
    float
        The value in that unit.

    Raises
    ------
    BatterylabError
        If there is no unit, or the unit belongs to another quantity.

    Examples
    --------
    >>> parse_as("5 mV", "voltage_V")
    0.005
    """
    if not isinstance(text, str):
        raise BatterylabError(f"{text!r} has no unit", hint=f"write it as in {example_of(name)!r}")
    quantity = parse(text)
    if quantity.name == name or (name, quantity.name) in _ALIASES:
        return quantity.value
    raise BatterylabError(
        f"{text!r} is a {quantity.name.rsplit('_', 1)[0]}, not a {name.rsplit('_', 1)[0]}",
        hint=f"write it as in {example_of(name)!r}",
    )


def _text(name: str) -> WithJsonSchema:
    """Return what an editor shall know of a quantity: it is a text with a unit."""
    return WithJsonSchema({
        "type": "string", "description": f"a {name.rpartition('_')[0] or name} with its unit",
        "examples": [example_of(name)],
    })  # fmt: skip


def _validator(name: str) -> BeforeValidator:
    def validate(text: object) -> float:
        try:
            return parse_as(text, name)
        except BatterylabError as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(validate)


Voltage_V = Annotated[float, _validator("voltage_V"), _text("voltage_V")]
Current_A = Annotated[float, _validator("current_A"), _text("current_A")]
Capacity_Ah = Annotated[float, _validator("capacity_Ah"), _text("capacity_Ah")]
Energy_Wh = Annotated[float, _validator("energy_Wh"), _text("energy_Wh")]
Power_W = Annotated[float, _validator("power_W"), _text("power_W")]
Duration_s = Annotated[float, _validator("duration_s"), _text("duration_s")]
Temperature_degC = Annotated[float, _validator("temperature_degC"), _text("temperature_degC")]
TemperatureDifference_K = Annotated[
    float, _validator("temperature_difference_K"), _text("temperature_difference_K")
]
Resistance_ohm = Annotated[float, _validator("resistance_ohm"), _text("resistance_ohm")]
Percent = Annotated[float, _validator("percent"), _text("percent")]
Rate_C = Annotated[float, _validator("rate_C"), _text("rate_C")]
Samples = Annotated[float, _validator("samples"), _text("samples")]
Frequency_Hz = Annotated[float, _validator("frequency_Hz"), _text("frequency_Hz")]
