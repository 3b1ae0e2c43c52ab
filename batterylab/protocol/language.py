"""The protocol file: what people write.

Steps are ``charge``, ``discharge`` and ``rest``; ``repeat`` and ``until`` hold further steps.
Quantities carry units; a rate such as ``C/3`` is a share of the nominal capacity per hour.
Every step has a bound: ``for`` (it ends then) or ``at_most`` (it must have ended by then).
"""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from batterylab.errors import BatterylabError
from batterylab.quantity import (
    Duration_s,
    Percent,
    Temperature_degC,
    TemperatureDifference_K,
    Voltage_V,
    parse,
    parse_as,
)

SCHEMA = "batterylab.protocol/1"
_RATED = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)?\s*I\s*([1-9]\d{0,2})\Z", re.ASCII)


def _stream(text: Any) -> tuple[str, float]:
    """Return ``("rate_C", x)``, ``("rated_rate_C", x)`` or ``("current_A", x)``, positive.

    ``1I3`` is the standards' way to write the rated capacity in 3 h, ``3I1`` three times the
    rated capacity in 1 h.
    """
    if not isinstance(text, str):
        raise ValueError(f"{text!r} has no unit\n  hint: write a rate such as C/3, or 1.5 A")
    rated = _RATED.match(text.strip())
    if rated and float(rated[1] or 1) > 0:
        return "rated_rate_C", float(rated[1] or 1) / float(rated[2])
    try:
        quantity = parse(text)
    except BatterylabError as error:
        raise ValueError(str(error)) from None
    if quantity.name not in ("rate_C", "current_A") or not quantity.value > 0:
        raise ValueError(f"{text!r} is no current\n  hint: write a rate such as C/3, or 1.5 A")
    return quantity.name, quantity.value


def _cutoff(text: Any) -> str | float:
    """Return ``v_min``, ``v_max`` or a voltage in V."""
    if text in ("v_min", "v_max"):
        return str(text)
    try:
        quantity = parse(text) if isinstance(text, str) else None
    except BatterylabError as error:
        raise ValueError(str(error)) from None
    if quantity is None or quantity.name != "voltage_V":
        raise ValueError(f"{text!r} is no voltage\n  hint: v_min, v_max or 4.1 V")
    return quantity.value


def _name(longest: int) -> Callable[[Any], str]:
    """Return what checks the name of a protocol or a measure."""

    def check(text: Any) -> str:
        if isinstance(text, str) and re.fullmatch(r"[a-z][a-z0-9_]*", text, re.ASCII):
            if len(text) <= longest:
                return text
            raise ValueError(f"{text[:longest]}… is too long\n  hint: at most {longest} letters")
        raise ValueError(f"{text!r} is no name\n  hint: a-z, 0-9 and _, as in dcir_10s")

    return check


Stream = Annotated[tuple[str, float], BeforeValidator(_stream)]
Cutoff = Annotated[str | float, BeforeValidator(_cutoff)]


class Part(BaseModel):
    """What all parts of a protocol share: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Drive(Part):
    """A charge or a discharge.

    Attributes
    ----------
    rate : Stream
        The current: a rate or amperes.
    until : Cutoff or None
        Voltage that ends the step, or at which it holds.
    hold_until : Stream or None
        Hold the voltage until the current has fallen to this.
    to_soc_percent : float or None
        State of charge that ends the step, counted from the last full charge.
    for_s, at_most_s : float or None
        Length, or upper bound of the length.
    sample_every_s : float or None
        Record at this interval, instead of what `record` says.
    """

    rate: Stream = Field(alias="rate")
    until: Cutoff | None = None
    hold_until: Stream | None = None
    to_soc_percent: Percent | None = Field(None, alias="to_soc")
    for_s: Duration_s | None = Field(None, alias="for")
    at_most_s: Duration_s | None = Field(None, alias="at_most")
    sample_every_s: Duration_s | None = Field(None, alias="sample_every")

    @model_validator(mode="before")
    @classmethod
    def _either_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and "current" in data:
            if "rate" in data:
                raise ValueError("both rate and current\n  hint: keep one")
            data = {("rate" if key == "current" else key): value for key, value in data.items()}
        return data

    @model_validator(mode="after")
    def _bounded(self) -> "Drive":
        if (self.for_s is None) == (self.at_most_s is None):
            raise ValueError("a step needs `for` or `at_most`, not both\n  hint: at_most: 5 h")
        for name, seconds in (("for", self.for_s), ("at_most", self.at_most_s)):
            if seconds is not None and not 1 <= seconds <= 100 * 86400:
                raise ValueError(f"{name}: between 1 s and 100 d\n  hint: at_most: 5 h")
        ends = [self.until is not None, self.to_soc_percent is not None, self.for_s is not None]
        if sum(ends) != 1 and not (self.until is not None and self.for_s is not None):
            raise ValueError("what ends the step?\n  hint: until: v_max, to_soc: 50 %, for: 10 s")
        if self.hold_until is not None and self.until is None:
            raise ValueError("hold_until needs until: the voltage to hold\n  hint: until: v_max")
        if self.to_soc_percent is not None and not 0 <= self.to_soc_percent <= 100:
            raise ValueError("to_soc lies between 0 % and 100 %\n  hint: to_soc: 50 %")
        if self.sample_every_s is not None and not self.sample_every_s > 0:
            raise ValueError("sample_every must be positive\n  hint: sample_every: 1 s")
        return self


class Rest(Part):
    """No current, for a time."""

    for_s: Duration_s = Field(alias="for", ge=1, le=100 * 86400)
    sample_every_s: Duration_s | None = Field(None, alias="sample_every", gt=0)


class Repeat(Part):
    """The number of times that the steps beside it are carried out."""

    times: int = Field(ge=1, le=1000)


class Until(Part):
    """When the steps beside it have been repeated often enough."""

    measure: str
    last: int = Field(ge=2, le=20)
    within: str
    at_most: int = Field(ge=1, le=100)

    @property
    def share_percent(self) -> float:
        """The range allowed, in percent of the rated capacity."""
        return parse_as(self.within.removesuffix("of rated").strip(), "percent")

    @model_validator(mode="after")
    def _readable(self) -> "Until":
        try:
            is_share = self.within.endswith("of rated") and self.share_percent > 0
        except BatterylabError:
            is_share = False
        if not is_share:
            raise ValueError(f"within: {self.within!r}\n  hint: within: 3 % of rated")
        if self.at_most < self.last:
            raise ValueError(
                f"at_most {self.at_most} is fewer than last {self.last}"
                f"\n  hint: at_most: {self.last + 2}"
            )
        return self


class StepEntry(Part):
    """One entry of ``steps``: a step, or steps to repeat."""

    charge: Drive | None = None
    discharge: Drive | None = None
    rest: Rest | None = None
    repeat: Repeat | None = None
    until: Until | None = None
    steps: list["StepEntry"] | None = None
    measure: Annotated[str, BeforeValidator(_name(32))] = ""

    @model_validator(mode="after")
    def _one_thing(self) -> "StepEntry":
        kinds = [
            name for name in ("charge", "discharge", "rest", "repeat", "until")
            if getattr(self, name) is not None
        ]  # fmt: skip
        if len(kinds) != 1:
            found = " and ".join(kinds) or "nothing"
            raise ValueError(
                f"an entry is one step, this is {found}"
                "\n  hint: charge, discharge, rest, repeat or until"
            )
        if (kinds[0] in ("repeat", "until")) != bool(self.steps):
            raise ValueError(f"{kinds[0]} and steps do not fit\n  hint: repeat, until: steps")
        if self.measure and kinds[0] not in ("charge", "discharge"):
            raise ValueError("only a charge or a discharge is measured\n  hint: remove measure")
        return self


class Chamber(Part):
    """The temperature at which all steps are carried out."""

    temperature_degC: Temperature_degC = Field(alias="temperature", ge=-60, le=120)
    within_K: TemperatureDifference_K = Field(2.0, alias="within", gt=0)
    soak_s: Duration_s = Field(0.0, alias="soak", ge=0)


class Stop(Part):
    """A reading that stops the channel: safety, not part of any step."""

    when: Literal["temperature", "voltage"]
    above: str | None = None
    below: str | None = None

    @model_validator(mode="after")
    def _limits(self) -> "Stop":
        if (self.above is None) == (self.below is None):
            raise ValueError("give above or below\n  hint: {when: temperature, above: 50 degC}")
        try:
            quantity = parse(str(self.above or self.below))
        except BatterylabError as error:
            raise ValueError(str(error)) from None
        if not quantity.name.startswith(self.when):
            example = "50 degC" if self.when == "temperature" else "4.25 V"
            raise ValueError(
                f"{self.above or self.below!r} is no {self.when}\n  hint: such as {example}"
            )
        return self

    @property
    def limit(self) -> float:
        """The limit in °C or V."""
        return parse(str(self.above or self.below)).value


class Moves(Part):
    """A change that makes a sample worth recording."""

    voltage_moves_V: Voltage_V = Field(alias="voltage_moves", gt=0)


class Record(Part):
    """Which of the one-second samples are kept; first and last of a step always are."""

    every_s: Duration_s = Field(30.0, alias="every", ge=1)
    or_when: Moves | None = None


class Figure(Part):
    """A figure of the standard that the file implements, and how sure we are of it.

    Attributes
    ----------
    what, value : str
        In words.
    mark : str
        ``V`` verified against text that quotes the clause, ``D`` from notices about a draft,
        ``U`` unverified, ``own`` our own choice where the standard leaves one.
    """

    what: str
    value: str
    mark: Literal["V", "D", "U", "own"]


class ProtocolFile(Part):
    """A whole protocol file."""

    schema_: str = Field(SCHEMA, alias="schema")
    name: Annotated[str, BeforeValidator(_name(48))]
    description: str = ""
    basis: str = ""
    figures: list[Figure] = Field(default_factory=list)
    does_not_cover: list[str] = Field(default_factory=list)
    chamber: Chamber | None = None
    stop: list[Stop] = Field(default_factory=list)
    steps: list[StepEntry] = Field(min_length=1)
    record: Record = Field(default_factory=lambda: Record.model_validate({}))
