"""Single steps of the protocol file: what drives a cell, changes its air, or is read from it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from batterylab.protocol.words import (
    QUANTITIES,
    Amount,
    Bound,
    CapacityBound,
    Current,
    CurrentBound,
    Cutoff,
    EnergyBound,
    Name,
    PlainNumber,
    PowerBound,
    SignedCurrent,
    SocBound,
    TemperatureBound,
    TemperatureRateBound,
    VoltageBound,
    VoltageRateBound,
    read_amount,
)
from batterylab.quantity import (
    Current_A,
    Duration_s,
    Frequency_Hz,
    Percent,
    Power_W,
    Resistance_ohm,
    Temperature_degC,
    TemperatureDifference_K,
    Voltage_V,
)

LONGEST_s = 100 * 86400
#: what an end may say instead of the name of a mark
WORDS_THEN = ("next", "finish", "fail")


class Part(BaseModel):
    """What all parts of a protocol share: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Ending(Part):
    """One more condition that ends a step, and what comes then.

    Exactly one quantity. `hold` is how long the condition must last, `over` the time over which
    a change per time is taken, `then` ``next``, the name of a later mark, ``finish`` or ``fail``.
    """

    voltage: VoltageBound | None = None
    current: CurrentBound | None = None
    power: PowerBound | None = None
    time: str | None = None
    capacity: CapacityBound | None = None
    energy: EnergyBound | None = None
    soc: SocBound | None = None
    temperature: TemperatureBound | None = None
    voltage_rate: VoltageRateBound | None = Field(None, alias="dV/dt")
    temperature_rate: TemperatureRateBound | None = Field(None, alias="dT/dt")
    hold_s: Duration_s = Field(0.0, alias="hold", ge=0, le=86400)
    over_s: Duration_s = Field(60.0, alias="over", ge=2, le=86400)
    then: Name = "next"

    @model_validator(mode="after")
    def _one_quantity(self) -> "Ending":
        given = [word for word in QUANTITIES if self._value(word) is not None]
        if len(given) != 1:
            raise ValueError(
                f"an end looks at one quantity, this at {' and '.join(given) or 'none'}"
                f"\n  hint: one of {', '.join(QUANTITIES)}"
            )
        if self.time is not None:
            amount = read_amount(self.time, "time")
            if not amount.of and not 1 <= amount.value <= LONGEST_s:
                raise ValueError(f"time: {self.time!r}: between 1 s and 100 d\n  hint: 2 h")
        return self

    @property
    def word(self) -> str:
        """The quantity as the file calls it."""
        return next(word for word in QUANTITIES if self._value(word) is not None)

    @property
    def bound(self) -> Bound:
        """The condition; a time is one from above."""
        value = self._value(self.word)
        return Bound("above", read_amount(value, "time")) if isinstance(value, str) else value

    def _value(self, word: str) -> Any:
        names = {"dV/dt": "voltage_rate", "dT/dt": "temperature_rate"}
        return getattr(self, names.get(word, word))


class Stop(Part):
    """A reading that stops the channel: safety, not part of any step's purpose."""

    when: Literal["temperature", "voltage", "current", "power", "capacity", "energy", "dV/dt",
                  "dT/dt"]  # fmt: skip
    above: str | None = None
    below: str | None = None
    hold_s: Duration_s = Field(0.0, alias="hold", ge=0, le=3600)
    over_s: Duration_s = Field(60.0, alias="over", ge=2, le=86400)
    then: Literal["fail", "finish"] = "fail"

    @model_validator(mode="after")
    def _limits(self) -> "Stop":
        if (self.above is None) == (self.below is None):
            raise ValueError("give above or below\n  hint: {when: temperature, above: 50 degC}")
        if self.amount.of not in ("", "rated", "nominal"):
            raise ValueError("a stop does not wait for a measure\n  hint: of rated, of nominal")
        return self

    @property
    def amount(self) -> Amount:
        """The limit."""
        return read_amount(self.above if self.above is not None else self.below, self.when)

    @property
    def is_plain(self) -> bool:
        """Whether it is a limit of voltage or temperature that holds everywhere at once."""
        return self.when in ("voltage", "temperature") and not self.hold_s and self.then == "fail"


class Moves(Part):
    """A change that makes a sample worth recording."""

    voltage_moves_V: Voltage_V | None = Field(None, alias="voltage_moves", gt=0)
    current_moves_A: Current_A | None = Field(None, alias="current_moves", gt=0)

    @model_validator(mode="after")
    def _something(self) -> "Moves":
        if self.voltage_moves_V is None and self.current_moves_A is None:
            raise ValueError("what moves?\n  hint: {voltage_moves: 5 mV}")
        return self


class Record(Part):
    """Which samples are kept; first and last of a step always are."""

    every_s: Duration_s = Field(30.0, alias="every", gt=0)
    or_when: Moves | None = None


class Timed(Part):
    """What all driven steps share: bounds, further ends, stops, recording."""

    for_s: Duration_s | None = Field(None, alias="for")
    at_most_s: Duration_s | None = Field(None, alias="at_most")
    sample_every_s: Duration_s | None = Field(None, alias="sample_every")
    record: Record | None = None
    ends: list[Ending] = Field(default_factory=list)
    stop: list[Stop] = Field(default_factory=list)

    def _check_bounds(self) -> None:
        times = [end for end in self.ends if end.time is not None and not end.bound.amount.of]
        if (self.for_s is not None) + (self.at_most_s is not None) + bool(times) != 1:
            raise ValueError("a step needs `for` or `at_most`, not both\n  hint: at_most: 5 h")
        for name, seconds in (("for", self.for_s), ("at_most", self.at_most_s)):
            if seconds is not None and not 1 <= seconds <= LONGEST_s:
                raise ValueError(f"{name}: between 1 s and 100 d\n  hint: at_most: 5 h")
        if len(times) > 1:
            raise ValueError("two ends by time\n  hint: keep the earlier one")
        if self.sample_every_s is not None and not self.sample_every_s > 0:
            raise ValueError("sample_every must be positive\n  hint: sample_every: 1 s")
        if self.sample_every_s is not None and self.record is not None:
            raise ValueError("both sample_every and record\n  hint: record: {every: 1 s}")


class Drive(Timed):
    """A charge or a discharge.

    Attributes
    ----------
    rate : Stream or None
        The current: a rate or amperes; one of this, power and resistance.
    power_W, resistance_ohm : float or None
        Constant power, or constant load.
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

    rate: Current | None = None
    power_W: Power_W | None = Field(None, alias="power", gt=0)
    resistance_ohm: Resistance_ohm | None = Field(None, alias="resistance", gt=0)
    until: Cutoff | None = None
    hold_until: Current | None = None
    to_soc_percent: Percent | None = Field(None, alias="to_soc")

    @model_validator(mode="before")
    @classmethod
    def _either_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and "current" in data:
            if "rate" in data:
                raise ValueError("both rate and current\n  hint: keep one")
            data = {("rate" if key == "current" else key): value for key, value in data.items()}
        return data

    @model_validator(mode="after")
    def _whole(self) -> "Drive":
        levels = [self.rate, self.power_W, self.resistance_ohm]
        if sum(level is not None for level in levels) != 1:
            raise ValueError("how much flows?\n  hint: one of rate, current, power, resistance")
        self._check_bounds()
        if (self.until is None and self.to_soc_percent is None and self.for_s is None
                and not self.ends):  # fmt: skip
            raise ValueError("what ends the step?\n  hint: until: v_max, to_soc: 50 %, for: 10 s")
        if self.hold_until is not None and self.until is None:
            raise ValueError("hold_until needs until: the voltage to hold\n  hint: until: v_max")
        if self.to_soc_percent is not None and not 0 <= self.to_soc_percent <= 100:
            raise ValueError("to_soc lies between 0 % and 100 %\n  hint: to_soc: 50 %")
        return self


class Rest(Part):
    """No current, for a time, or until something has settled."""

    for_s: Duration_s = Field(alias="for", ge=1, le=LONGEST_s)
    sample_every_s: Duration_s | None = Field(None, alias="sample_every", gt=0)
    record: Record | None = None
    ends: list[Ending] = Field(default_factory=list)
    stop: list[Stop] = Field(default_factory=list)


class Hold(Timed):
    """A constant voltage, by charging or discharging with at most `limit`."""

    voltage: Cutoff
    limit: Current
    by: Literal["charge", "discharge"] = "charge"
    hold_until: Current | None = None

    @model_validator(mode="after")
    def _whole(self) -> "Hold":
        self._check_bounds()
        if self.hold_until is None and self.for_s is None and not self.ends:
            raise ValueError("what ends the step?\n  hint: for: 1 h, or hold_until: C/20")
        return self


class Pulse(Part):
    """A short current, perhaps followed by a rest, perhaps several times: a pulse train."""

    charge: Current | None = None
    discharge: Current | None = None
    for_s: Duration_s = Field(alias="for", ge=1, le=LONGEST_s)
    rest_s: Duration_s | None = Field(None, alias="rest", ge=1, le=LONGEST_s)
    times: int = Field(1, ge=1, le=10000)
    until: Cutoff | None = None
    sample_every_s: Duration_s | None = Field(None, alias="sample_every", gt=0)
    ends: list[Ending] = Field(default_factory=list)
    stop: list[Stop] = Field(default_factory=list)

    @model_validator(mode="after")
    def _whole(self) -> "Pulse":
        if (self.charge is None) == (self.discharge is None):
            raise ValueError("charge or discharge?\n  hint: pulse: {discharge: 1C, for: 10 s}")
        if self.times > 1 and self.rest_s is None:
            raise ValueError("a pulse train needs rest: between the pulses\n  hint: rest: 40 s")
        return self


class Profile(Part):
    """A current or a power over time, charge positive; each value holds until the next.

    Attributes
    ----------
    file : str or None
        A CSV beside the protocol: ``time_s`` and ``current_A``, ``rate_C`` or ``power_W``.
    points : list or None
        Instead of a file: pairs of length and current.
    scale : float
        Factor on every value.
    times : int
        How often the profile is followed.
    """

    file: str | None = Field(None, max_length=128)
    points: list[tuple[Duration_s, SignedCurrent]] | None = Field(None, min_length=1)
    scale: PlainNumber = 1.0
    times: int = Field(1, ge=1, le=1000)
    record: Record | None = None
    sample_every_s: Duration_s | None = Field(None, alias="sample_every", gt=0)
    ends: list[Ending] = Field(default_factory=list)
    stop: list[Stop] = Field(default_factory=list)

    @model_validator(mode="after")
    def _whole(self) -> "Profile":
        if (self.file is None) == (self.points is None):
            raise ValueError("file or points?\n  hint: file: drive.csv")
        if self.file is not None and ("/" in self.file or "\\" in self.file or ".." in self.file):
            raise ValueError(f"{self.file!r} is no name of a file beside this one\n  hint: a.csv")
        if not 0 < abs(self.scale) <= 1e6:
            raise ValueError("scale must not be 0\n  hint: scale: 1.0")
        return self


class Soak(Part):
    """Change the chamber's temperature, wait until the air is there, let the cell follow."""

    temperature_degC: Temperature_degC = Field(alias="temperature", ge=-60, le=120)
    within_K: TemperatureDifference_K = Field(2.0, alias="within", gt=0)
    for_s: Duration_s = Field(alias="for", ge=1, le=LONGEST_s)
    at_most_s: Duration_s = Field(12 * 3600.0, alias="at_most", ge=60, le=LONGEST_s)
    sample_every_s: Duration_s | None = Field(None, alias="sample_every", gt=0)
    ends: list[Ending] = Field(default_factory=list)
    stop: list[Stop] = Field(default_factory=list)


class Reading(Part):
    """What an instrument reads while no current flows."""

    what: Literal["ac_resistance", "ocv", "eis"]
    as_: Name = Field("", alias="as", validate_default=False)
    at_Hz: Frequency_Hz | None = Field(None, alias="at", gt=0)
    from_Hz: Frequency_Hz | None = Field(None, alias="from", gt=0)
    to_Hz: Frequency_Hz | None = Field(None, alias="to", gt=0)
    points_per_decade: int = Field(10, ge=1, le=50)
    at_most_s: Duration_s = Field(3600.0, alias="at_most", ge=1, le=86400)

    @model_validator(mode="after")
    def _fits(self) -> "Reading":
        ends = (self.from_Hz, self.to_Hz)
        if self.what == "eis" and (None in ends or ends[0] == ends[1]):
            raise ValueError("eis needs from and to\n  hint: {what: eis, from: 1 kHz, to: 10 mHz}")
        if self.what != "eis" and ends != (None, None):
            raise ValueError(f"{self.what} has no from and to\n  hint: remove them, or what: eis")
        if self.what != "ac_resistance" and self.at_Hz is not None:
            raise ValueError(f"{self.what} is not read at a frequency\n  hint: remove at")
        return self
