"""The protocol file: what people write.

Steps drive a cell (``charge``, ``discharge``, ``rest``, ``hold``, ``pulse``, ``profile``), change
the chamber (``soak``), read an instrument (``measure``) or name a place (``mark``); ``repeat``,
``until``, ``if`` and ``call`` hold further steps. Quantities carry units. Every step has a bound:
``for`` (it ends then) or ``at_most`` (it must have ended by then).
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from batterylab.errors import BatterylabError
from batterylab.protocol.steps import (
    WORDS_THEN,
    Drive,
    Ending,
    Hold,
    Moves,
    Part,
    Profile,
    Pulse,
    Reading,
    Record,
    Rest,
    Soak,
    Stop,
)
from batterylab.protocol.words import CapacityShare, LongName, Name
from batterylab.quantity import Duration_s, Temperature_degC, TemperatureDifference_K, parse_as

__all__ = [
    "SCHEMA", "Chamber", "Drive", "Ending", "Figure", "Hold", "If", "Moves", "Procedure",
    "Profile", "ProtocolFile", "Pulse", "Reading", "Record", "Repeat", "Rest", "Soak",
    "StepEntry", "Stop", "Until",
]  # fmt: skip
SCHEMA = "batterylab.protocol/1"


class Repeat(Part):
    """How often the steps beside it are carried out, or for which values.

    `each_soc`, `each_temperature` and `each_rate` are lists; where the steps say ``each_soc``
    and so on, they get one value after the other.
    """

    times: int | None = Field(None, ge=1, le=10000)
    each_soc: list[str] | None = Field(None, min_length=1, max_length=200)
    each_temperature: list[str] | None = Field(None, min_length=1, max_length=200)
    each_rate: list[str] | None = Field(None, min_length=1, max_length=200)

    @model_validator(mode="after")
    def _one_way(self) -> "Repeat":
        given = [n for n in type(self).model_fields if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(
                f"repeat: {' and '.join(given) or 'how often'}?"
                "\n  hint: times: 3, or each_soc, each_temperature, each_rate"
            )
        return self


class Until(Part):
    """When the steps beside it have been repeated often enough.

    The last `last` results lie `within` of each other, or a result is `above` or `below`.
    """

    measure: str
    last: int | None = Field(None, ge=2, le=20)
    within: str | None = None
    above: CapacityShare | None = None
    below: CapacityShare | None = None
    at_most: int = Field(ge=1, le=10000)

    @property
    def share(self) -> tuple[float, str]:
        """The range allowed: a share (1 is all), and of what."""
        text, _, of = (self.within or "").rpartition(" of ")
        return parse_as(text.strip(), "percent") / 100.0, of.strip()

    @model_validator(mode="after")
    def _readable(self) -> "Until":
        limits = [self.above, self.below]
        if self.within is None or self.last is None:
            if (self.within, self.last) != (None, None) or limits.count(None) != 1:
                raise ValueError(
                    "until when?\n  hint: last: 3, within: 3 % of rated; or below: 80 % of rated"
                )
            return self
        if limits != [None, None]:
            raise ValueError("both within and a limit\n  hint: one of them")
        try:
            is_share = self.share[0] > 0 and self.share[1] in ("rated", "nominal", "mean")
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


class If(Part):
    """Whether the steps beside it are carried out: by the last result of a measure."""

    measure: str
    above: CapacityShare | None = None
    below: CapacityShare | None = None

    @model_validator(mode="after")
    def _one_side(self) -> "If":
        if (self.above is None) == (self.below is None):
            raise ValueError("above or below?\n  hint: {measure: capacity, below: 95 % of rated}")
        return self


def _measure_kind(value: Any) -> str:
    return "reading" if isinstance(value, dict | Reading) else "name"


Measure = Annotated[
    Annotated[Name, Tag("name")] | Annotated[Reading, Tag("reading")],
    Discriminator(_measure_kind),
]
KINDS = ("charge", "discharge", "rest", "hold", "pulse", "profile", "soak", "mark", "repeat",
         "until", "if_", "call")  # fmt: skip
MEASURED = ("charge", "discharge", "hold", "pulse", "profile")


class StepEntry(Part):
    """One entry of ``steps``: a step, or steps to repeat."""

    charge: Drive | None = None
    discharge: Drive | None = None
    rest: Rest | None = None
    hold: Hold | None = None
    pulse: Pulse | None = None
    profile: Profile | None = None
    soak: Soak | None = None
    mark: Name | None = None
    repeat: Repeat | None = None
    until: Until | None = None
    if_: If | None = Field(None, alias="if")
    call: LongName | None = None
    with_: dict[str, str | int | float] | None = Field(None, alias="with")
    steps: list["StepEntry"] | None = None
    else_: list["StepEntry"] | None = Field(None, alias="else", min_length=1)
    measure: Measure | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> "StepEntry":
        kinds = [name.rstrip("_") for name in KINDS if getattr(self, name) is not None]
        if isinstance(self.measure, Reading):
            kinds.append("measure")
        if len(kinds) != 1:
            found = " and ".join(kinds) or "nothing"
            raise ValueError(
                f"an entry is one step, this is {found}\n  hint: charge, discharge, rest, hold, "
                "pulse, profile, soak, measure, mark, repeat, until, if or call"
            )
        kind = kinds[0]
        if self.mark in WORDS_THEN:
            raise ValueError(f"a mark cannot be called {self.mark!r}\n  hint: another name")
        if (kind in ("repeat", "until", "if")) != bool(self.steps):
            raise ValueError(f"{kind} and steps do not fit\n  hint: repeat, until, if: steps")
        if self.else_ is not None and kind != "if":
            raise ValueError("else without if\n  hint: if: {measure: …, below: …}")
        if self.with_ is not None and kind != "call":
            raise ValueError("with without call\n  hint: call: the name of a procedure")
        if isinstance(self.measure, str) and kind not in MEASURED:
            raise ValueError("only a charge or a discharge is measured\n  hint: remove measure")
        return self


class Chamber(Part):
    """The temperature at which the steps begin."""

    temperature_degC: Temperature_degC = Field(alias="temperature", ge=-60, le=120)
    within_K: TemperatureDifference_K = Field(2.0, alias="within", gt=0)
    soak_s: Duration_s = Field(0.0, alias="soak", ge=0)


class Procedure(Part):
    """Steps with a name, to be called; a parameter without a value must be given."""

    parameters: dict[str, str | int | float | None] = Field(default_factory=dict)
    steps: list[StepEntry] = Field(min_length=1)


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
    name: LongName
    description: str = ""
    basis: str = ""
    figures: list[Figure] = Field(default_factory=list)
    does_not_cover: list[str] = Field(default_factory=list)
    parameters: dict[str, str | int | float | None] = Field(default_factory=dict)
    procedures: dict[LongName, Procedure] = Field(default_factory=dict)
    chamber: Chamber | None = None
    stop: list[Stop] = Field(default_factory=list)
    steps: list[StepEntry] = Field(min_length=1)
    record: Record = Field(default_factory=lambda: Record.model_validate({}))
