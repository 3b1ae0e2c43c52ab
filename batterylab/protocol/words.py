"""How the protocol language writes quantities: rates, voltages by name, bounds, names.

Every type here turns a text into plain numbers, or says what is wrong and what would be right;
each carries the JSON Schema of the text, for editors.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from batterylab.errors import BatterylabError
from batterylab.quantity import Quantity, parse, parse_as

_RATED = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)?\s*I\s*([1-9]\d{0,2})\Z", re.ASCII)
_OF = re.compile(r"(.*\S)\s+of\s+([a-z][a-z0-9_]*)\Z", re.ASCII)
_BOUND = re.compile(r"(above|below)\s+(\S.*)\Z")
#: capacities that every cell type has
KNOWN = ("rated", "nominal")
#: what ends, stops and conditions look at: word in the file -> name that carries the unit
QUANTITIES = {
    "voltage": "voltage_V", "current": "current_A", "power": "power_W", "time": "time_s",
    "capacity": "capacity_Ah", "energy": "energy_Wh", "soc": "soc_percent",
    "temperature": "temperature_degC", "dV/dt": "voltage_rate_V_per_s",
    "dT/dt": "temperature_rate_K_per_s",
}  # fmt: skip
EXAMPLES = {
    "voltage": "3.0 V", "current": "C/20", "power": "5 W", "time": "2 h", "capacity": "4 Ah",
    "energy": "15 Wh", "soc": "20 %", "temperature": "50 degC", "dV/dt": "1 mV/min",
    "dT/dt": "0.5 K/min",
}  # fmt: skip


@dataclass(frozen=True)
class Stream:
    """A current as written: in A, or a share of a capacity per hour.

    Attributes
    ----------
    value : float
        In A, or 1/h; positive.
    of : str
        Empty for amperes; ``nominal``, ``rated`` or the name of a measure for a rate.
    """

    value: float
    of: str


@dataclass(frozen=True)
class Amount:
    """A quantity as written, perhaps a share of something.

    Attributes
    ----------
    value : float
        In the unit of `quantity`; a share (1 is all) if `of` is given; 1/h for a rate.
    of : str
        ``rated``, ``nominal``, the name of a measure, or empty.
    """

    value: float
    of: str = ""


@dataclass(frozen=True)
class Bound:
    """One side of a quantity: ``above 45 degC``, ``below 80 % of capacity``."""

    relation: str
    amount: Amount


def _parsed(text: str) -> Quantity:
    try:
        return parse(text)
    except BatterylabError as error:
        raise ValueError(str(error)) from None


def read_stream(text: Any) -> Stream:
    """Return a current; ``1I3`` is the rated capacity in 3 h, ``3I1`` thrice it in 1 h.

    Raises
    ------
    ValueError
        If it is none, or not positive.
    """
    if not isinstance(text, str):
        raise ValueError(f"{text!r} has no unit\n  hint: write a rate such as C/3, or 1.5 A")
    rate, of = _share_of(text.strip())
    rated = _RATED.match(rate)
    if rated and not of and float(rated[1] or 1) > 0:
        return Stream(float(rated[1] or 1) / float(rated[2]), "rated")
    quantity = _parsed(rate)
    is_good = quantity.name == "rate_C" or (quantity.name == "current_A" and not of)
    if not is_good or not quantity.value > 0:
        raise ValueError(
            f"{text!r} is no current\n  hint: write a rate such as C/3, or 1.5 A; "
            "C/3 of capacity counts from what was measured"
        )
    return Stream(quantity.value, (of or "nominal") if quantity.name == "rate_C" else "")


def _share_of(text: str) -> tuple[str, str]:
    match = _OF.match(text)
    return (match[1], match[2]) if match else (text, "")


def read_signed(text: Any) -> Stream:
    """Return a current whose sign may be written; charge is positive."""
    if isinstance(text, str) and re.match(r"[+-]?0+(\.0*)?\s*(A|mA|C)?\Z", text.strip()):
        return Stream(0.0, "")
    if isinstance(text, str) and text.strip().startswith("-"):
        positive = read_stream(text.strip()[1:].strip())
        return Stream(-positive.value, positive.of)
    return read_stream(text)


def read_cutoff(text: Any) -> str | float:
    """Return ``v_min``, ``v_max`` or a voltage in V."""
    if text in ("v_min", "v_max"):
        return str(text)
    quantity = _parsed(text) if isinstance(text, str) else None
    if quantity is None or quantity.name != "voltage_V":
        raise ValueError(f"{text!r} is no voltage\n  hint: v_min, v_max or 4.1 V")
    return quantity.value


def read_slope(text: str, unit: str) -> float:
    """Return a change per time, such as ``1 mV/min``, in V/s or K/s.

    Raises
    ------
    ValueError
        If it is none.
    """
    change, slash, time = text.rpartition("/")
    name = "voltage_V" if unit == "V" else "temperature_difference_K"
    example = "1 mV/min" if unit == "V" else "0.5 K/min"
    try:
        if not slash:
            raise BatterylabError(f"{text!r} is no change per time")
        return parse_as(change.strip(), name) / parse_as(f"1 {time.strip()}", "duration_s")
    except BatterylabError:
        raise ValueError(f"{text!r} is no change per time\n  hint: {example}") from None


def read_amount(text: Any, word: str) -> Amount:
    """Return the amount of a quantity.

    Parameters
    ----------
    text : object
        Such as ``3.0 V``, ``C/20`` for a current, ``80 % of capacity``.
    word : str
        A key of `QUANTITIES`.

    Raises
    ------
    ValueError
        If the unit is another quantity's.
    """
    if not isinstance(text, str):
        raise ValueError(f"{text!r} has no unit\n  hint: {EXAMPLES[word]}")
    text = text.strip()
    if word in ("dV/dt", "dT/dt"):
        return Amount(read_slope(text, "V" if word == "dV/dt" else "K"))
    if word == "current":
        stream = read_stream(text)
        return Amount(stream.value, stream.of)
    share, of = _share_of(text)
    quantity = _parsed(share)
    if of:
        if quantity.name != "percent" or not 0 < quantity.value <= 1000:
            raise ValueError(f"{text!r}: only a share can be of something\n  hint: 80 % of {of}")
        if word in ("soc", "temperature", "power") or (of in KNOWN and word != "capacity"):
            raise ValueError(f"{text!r}: {word} cannot be a share\n  hint: {EXAMPLES[word]}")
        return Amount(quantity.value / 100.0, of)
    wanted = {"soc": "percent", "time": "duration_s"}.get(word, QUANTITIES[word])
    if quantity.name != wanted:
        raise ValueError(f"{text!r} is no {word}\n  hint: such as {EXAMPLES[word]}")
    return Amount(quantity.value)


def read_bound(text: Any, word: str) -> Bound:
    """Return one side of a quantity: ``above`` or ``below`` and an amount."""
    match = _BOUND.match(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r}: above or below?\n  hint: {word}: below {EXAMPLES[word]}")
    return Bound(match[1], read_amount(match[2], word))


def read_capacity_share(text: Any) -> Amount:
    """Return a capacity or a share of one: ``4 Ah``, ``80 % of rated``, ``95 % of first``."""
    return read_amount(text, "capacity")


def name_reader(longest: int) -> Callable[[Any], str]:
    """Return what checks the name of a protocol, a measure or a mark."""

    def check(text: Any) -> str:
        if isinstance(text, str) and re.fullmatch(r"[a-z][a-z0-9_]*", text, re.ASCII):
            if len(text) <= longest:
                return text
            raise ValueError(f"{text[:longest]}… is too long\n  hint: at most {longest} letters")
        raise ValueError(f"{text!r} is no name\n  hint: a-z, 0-9 and _, as in dcir_10s")

    return check


def _bound_reader(word: str) -> Callable[[Any], Bound]:
    return lambda text: read_bound(text, word)


def _text(description: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema(
        {"type": "string", "description": description, "examples": list(examples)}
    )


def _bound_text(word: str) -> WithJsonSchema:
    return _text(f"above or below an amount of {word}", f"below {EXAMPLES[word]}",
                 f"above {EXAMPLES[word]}")  # fmt: skip


def plain_number(value: Any) -> float:
    """Return a finite number that has no unit.

    Raises
    ------
    ValueError
        If it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no plain number\n  hint: 1.5")
    return float(value)


_NAME = {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,31}$"}
_LONG_NAME = {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,47}$"}

Current = Annotated[
    Stream, BeforeValidator(read_stream),
    _text("a rate or a current", "C/3", "1I3", "C/3 of capacity", "1.5 A"),
]  # fmt: skip
SignedCurrent = Annotated[
    Stream, BeforeValidator(read_signed),
    _text("a rate or a current, charge positive", "1C", "-2 A"),
]  # fmt: skip
Cutoff = Annotated[
    str | float, BeforeValidator(read_cutoff), _text("a voltage", "v_max", "v_min", "4.1 V")
]
CapacityShare = Annotated[
    Amount, BeforeValidator(read_capacity_share),
    _text("a capacity, or a share of one", "80 % of rated", "4 Ah"),
]  # fmt: skip
Name = Annotated[str, BeforeValidator(name_reader(32)), WithJsonSchema(_NAME)]
LongName = Annotated[str, BeforeValidator(name_reader(48)), WithJsonSchema(_LONG_NAME)]
PlainNumber = Annotated[float, BeforeValidator(plain_number), WithJsonSchema({"type": "number"})]
VoltageBound = Annotated[Bound, BeforeValidator(_bound_reader("voltage")), _bound_text("voltage")]
CurrentBound = Annotated[Bound, BeforeValidator(_bound_reader("current")), _bound_text("current")]
PowerBound = Annotated[Bound, BeforeValidator(_bound_reader("power")), _bound_text("power")]
CapacityBound = Annotated[
    Bound, BeforeValidator(_bound_reader("capacity")), _bound_text("capacity")
]
EnergyBound = Annotated[Bound, BeforeValidator(_bound_reader("energy")), _bound_text("energy")]
SocBound = Annotated[Bound, BeforeValidator(_bound_reader("soc")), _bound_text("soc")]
TemperatureBound = Annotated[
    Bound, BeforeValidator(_bound_reader("temperature")), _bound_text("temperature")
]
VoltageRateBound = Annotated[Bound, BeforeValidator(_bound_reader("dV/dt")), _bound_text("dV/dt")]
TemperatureRateBound = Annotated[
    Bound, BeforeValidator(_bound_reader("dT/dt")), _bound_text("dT/dt")
]
