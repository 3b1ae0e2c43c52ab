"""``bench.yaml``: which instruments there are, and what hangs on which channel."""

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from batterylab.bench.interlocks import InterlockEntry, interlock_problems
from batterylab.bench.stoppath import StopPath
from batterylab.bench.wiring import Way, way_of, wiring_problems
from batterylab.cells import CellType, check_name
from batterylab.errors import BatterylabError, Problem, ProblemsError
from batterylab.quantity import (
    Capacity_Ah,
    Current_A,
    Duration_s,
    Resistance_ohm,
    Samples,
    Temperature_degC,
    Voltage_V,
)
from batterylab.yamlfile import YamlDocument, load_yaml, validate

SCHEMA = "batterylab.bench/1"
ROLES = ("cycler", "scanner", "meter", "chamber")
_RANGE = re.compile(r"(\d{1,4})\.\.(\d{1,4})$")
_PATTERN = re.compile(r"\{(?:(\d{1,6})\s*\+\s*)?n\}")
_CLOCK = re.compile(r"([A-Za-z0-9_.-]+):(\d{1,5})\Z")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class InstrumentEntry(_Part):
    """One instrument: its model, its VISA address and what identifies it.

    With a calibration that was due before today it is refused, unless `accept_overdue` says that
    somebody decided otherwise.
    """

    model: str
    address: str = Field(min_length=3)
    serial: str = ""
    firmware: str = ""
    calibration_due: str = ""
    accept_overdue: bool = False
    sample_s: Duration_s = Field(1.0, alias="sample", ge=0.05, le=60)
    stop: Literal["", "second session", "dead-socket port", "digital abort line", "none"] = ""
    stop_port: int = Field(0, ge=0, le=65535)
    alarm_line: int = Field(0, ge=0, le=4)

    @field_validator("calibration_due", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> str:
        text = str(value)
        try:
            is_date = re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) and date.fromisoformat(text)
        except ValueError:
            is_date = None
        if not is_date:
            raise ValueError(f"{text!r} is no date\n  hint: 2027-03-01")
        return text


class ChannelPattern(_Part):
    """One entry of ``channels``: a pattern in ``{n}`` for a range, or a single channel."""

    name: str
    cycler: str
    channel: str = "1"
    temperature: str = ""
    chamber: str = ""
    shelf: int = Field(1, ge=0, le=1000)
    meter: str | list[str] = Field(default_factory=list)
    for_: str = Field("1..1", alias="for", pattern=_RANGE.pattern)

    @field_validator("channel", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> str:
        return str(value)


class Limits(_Part):
    """What no channel of this bench may exceed, whatever a protocol says."""

    voltage_V: tuple[Voltage_V, Voltage_V] = Field(alias="voltage")
    temperature_degC: Temperature_degC = Field(alias="temperature")
    debounce: Samples = Field(3, ge=1, le=60)
    current_A: Current_A | None = Field(None, alias="current", gt=0)
    capacity_Ah: Capacity_Ah | None = Field(None, alias="capacity", gt=0)
    stale_s: Duration_s | None = Field(None, alias="stale", ge=1, le=3600)
    voltage_rate_V_per_s: float | None = Field(None, alias="dV/dt", gt=0)
    temperature_rate_K_per_s: float | None = Field(None, alias="dT/dt", gt=0)

    @field_validator("voltage_rate_V_per_s", "temperature_rate_K_per_s", mode="before")
    @classmethod
    def _per_time(cls, value: Any, info: ValidationInfo) -> Any:
        from batterylab.protocol.words import read_slope

        unit = "V" if str(info.field_name).startswith("voltage") else "K"
        return read_slope(value, unit) if isinstance(value, str) else value


class Notify(_Part):
    """Who is told, and of what: a command that gets JSON on its input, or a webhook."""

    command: list[str] = Field(default_factory=list)
    webhook: str = Field("", pattern=r"^(https?://\S+)?$")
    on: tuple[Literal["end", "stop", "alarm"], ...] = ("end", "stop", "alarm")


class BenchText(_Part):
    """What ``bench.yaml`` says."""

    schema_: str = Field(SCHEMA, alias="schema")
    name: str = "bench"
    instruments: dict[str, InstrumentEntry] = Field(min_length=1)
    channels: list[ChannelPattern] = Field(min_length=1)
    limits: Limits
    interlocks: dict[str, InterlockEntry] = Field(default_factory=dict)
    poll_s: Duration_s = Field(10.0, alias="poll", ge=1, le=300)
    contact_ohm: Resistance_ohm = Field(2e-5, alias="contact", ge=0)
    notify: Notify | None = None
    clock: str = ""

    @field_validator("clock")
    @classmethod
    def _is_an_address(cls, text: str) -> str:
        match = _CLOCK.match(text)
        if text and not (match and 0 < int(match[2]) < 65536):
            raise ValueError(f"{text!r} is no address\n  hint: host:port, 127.0.0.1:15000")
        return text


@dataclass(frozen=True)
class ChannelEntry:
    """One channel of the bench.

    Attributes
    ----------
    name : str
        What people call it.
    cycler, scanner, chamber : str
        Names of instruments; scanner and chamber may be empty.
    cycler_channel, scanner_channel : int
        Their own numbers.
    shelf, module : int
        Where it stands; together the block in which cells are allotted at random.
    meters : tuple of Way
        Which meters reach its cell during a run, and how.
    """

    name: str
    cycler: str
    cycler_channel: int
    scanner: str
    scanner_channel: int
    chamber: str
    shelf: int
    meters: tuple[Way, ...] = ()

    @property
    def module(self) -> int:
        """The cycler's module: the hundreds of its channel number."""
        return self.cycler_channel // 100

    @property
    def block(self) -> str:
        """Channels of one block share module and shelf."""
        return f"{self.cycler}/{self.module}/{self.chamber}/{self.shelf}"


@dataclass(frozen=True)
class BenchFile:
    """A bench, read and checked.

    Attributes
    ----------
    path : Path
        The file.
    text : BenchText
        What it says.
    channels : dict of str to ChannelEntry
        By name, in the file's order.
    cell_type : CellType or None
        Of the study that it was opened for.
    """

    path: Path
    text: BenchText
    channels: dict[str, ChannelEntry]
    cell_type: CellType | None = None

    @property
    def instruments(self) -> dict[str, InstrumentEntry]:
        """The instruments by name."""
        return self.text.instruments

    @property
    def limits(self) -> Limits:
        """What no channel may exceed."""
        return self.text.limits

    @property
    def poll_s(self) -> float:
        """How often the runner looks, in s."""
        return self.text.poll_s

    @property
    def clock_address(self) -> tuple[str, int] | None:
        """Host and port of a simulated bench's clock, or None for the wall clock."""
        match = _CLOCK.match(self.text.clock)
        return (match[1], int(match[2])) if match else None

    @classmethod
    def open(cls, path: Path, cell_type: CellType | None = None) -> "BenchFile":
        """Read a bench file and check it against the instrument catalogue and the cell type.

        Raises
        ------
        ProblemsError
            With every mistake in the file.
        """
        document = load_yaml(Path(path))
        text = validate(document, BenchText)
        problems = _instrument_problems(document, text)
        channels = _expand(document, text, problems)
        problems += _limit_problems(document, text, cell_type)
        problems += _range_problems(document, text, channels)
        scanners = {n for n, e in text.instruments.items() if role_of(e.model) == "scanner"}
        couples = {(c.scanner, c.scanner_channel): c.name for c in channels.values()}
        problems += interlock_problems(document, text.interlocks, scanners, couples)
        inputs = [entry.place for entry in text.interlocks.values()]
        problems += wiring_problems(text.instruments, channels, document.where("channels"), inputs)
        if problems:
            raise ProblemsError(problems)
        return cls(Path(path), text, channels, cell_type)

    @property
    def stale_s(self) -> float:
        """How long a cycler may give no new sample: two polls, 10 s at least, or as the file says.

        In s.
        """
        return self.limits.stale_s or max(2.0 * self.poll_s, 10.0)

    def stop_path(self, name: str) -> StopPath:
        """Return how an instrument is stopped without the runner."""
        from batterylab.drivers.catalogue import spec

        entry = self.instruments[name]
        stop = spec(entry.model).stop
        port = entry.stop_port or int(stop.get("port", 0))
        return StopPath(entry.stop or str(stop["path"]), name, entry.address, port)

    def meter(self) -> str | None:
        """Return the name of the meter whose pins go on a cell at loading, if there is one.

        Meters that are wired to channels are none.
        """
        return next((n for n, e in self.instruments.items()
                     if role_of(e.model) == "meter" and n not in self.wired), None)  # fmt: skip

    @property
    def wired(self) -> set[str]:
        """Meters that are wired to channels, and the scanners whose relays switch them."""
        ways = [way for channel in self.channels.values() for way in channel.meters]
        return {way.meter for way in ways} | {way.relays for way in ways if way.relays}


def role_of(model: str) -> str:
    """Return the role of a model, or an empty string if the catalogue does not know it."""
    from batterylab.drivers.catalogue import models, spec

    return spec(model).role if model in models() else ""


def fills(model: str) -> str:
    """Return the role that a model fills on the bench: a supply is stepped as a cycler."""
    role = role_of(model)
    return "cycler" if role == "host_stepped" else role


def _instrument_problems(document: YamlDocument, text: BenchText) -> list[Problem]:
    import difflib

    from batterylab.drivers.catalogue import models

    known = list(models())
    problems = []
    for name, entry in text.instruments.items():
        where = document.where("instruments", name, "model")
        if entry.model not in known:
            near = difflib.get_close_matches(entry.model, known, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            problems.append(Problem(where, f"unknown model {entry.model!r}", remedy))
    addresses: dict[str, str] = {}
    for name, entry in text.instruments.items():
        if entry.address in addresses:
            where = document.where("instruments", name, "address")
            problems.append(Problem(where, f"the address is that of {addresses[entry.address]}"))
        addresses[entry.address] = name
    return problems


def _fill(pattern: str, n: int) -> str:
    """Replace ``{n}`` and ``{100+n}`` by numbers."""
    return _PATTERN.sub(lambda match: str(int(match[1] or 0) + n), pattern)


def _expand(
    document: YamlDocument, text: BenchText, problems: list[Problem]
) -> dict[str, ChannelEntry]:
    channels: dict[str, ChannelEntry] = {}
    taken: dict[tuple[str, int], str] = {}
    couples: dict[tuple[str, int], str] = {}
    for i, pattern in enumerate(text.channels):
        match = _RANGE.match(pattern.for_)
        first, last = (int(match[1]), int(match[2])) if match else (1, 0)
        if not first <= last <= first + 1023:
            where = document.where("channels", i, "for")
            problems.append(Problem(where, f"the range {pattern.for_} is empty", "for: 1..32"))
            continue
        for n in range(first, last + 1):
            try:
                entry = _channel(pattern, n, text)
                key = (entry.cycler, entry.cycler_channel)
                if entry.name in channels:
                    raise BatterylabError(f"the channel {entry.name!r} stands twice")
                if key in taken:
                    raise BatterylabError(f"{entry.name} uses the channel of {taken[key]}")
                couple = (entry.scanner, entry.scanner_channel)
                if entry.scanner and couple in couples:
                    raise BatterylabError(
                        f"{entry.name} uses the thermocouple of {couples[couple]}",
                        hint="one of its own for every channel",
                    )
            except BatterylabError as error:
                where = document.where("channels", i)
                problems.append(Problem(where, error.message, error.hint or ""))
                break
            taken[key] = couples[couple] = entry.name
            channels[entry.name] = entry
    return channels


def _channel(pattern: ChannelPattern, n: int, text: BenchText) -> ChannelEntry:
    name = check_name(_fill(pattern.name, n), "channel")
    number = _fill(pattern.channel, n)
    if not number.isdigit():
        raise BatterylabError(f"channel: {pattern.channel!r} is no number", hint='"{100+n}"')
    scanner, _, place = _fill(pattern.temperature, n).partition(":")
    if scanner and not place.isdigit():
        raise BatterylabError(
            f"temperature: {pattern.temperature!r} names no channel", hint='"temps:{100+n}"'
        )
    wanted = (
        ("cycler", pattern.cycler, "cycler"),
        ("temperature", scanner, "scanner"),
        ("chamber", pattern.chamber, "chamber"),
    )
    for key, instrument, role in wanted:
        if not instrument and key != "cycler":
            continue
        if instrument not in text.instruments:
            raise BatterylabError(
                f"{key}: there is no instrument {instrument!r}",
                hint=f"known: {', '.join(text.instruments)}",
            )
        found = fills(text.instruments[instrument].model)
        if found and found != role:
            raise BatterylabError(f"{key}: {instrument} is a {found}, not a {role}")
    ways = [pattern.meter] if isinstance(pattern.meter, str) else pattern.meter
    return ChannelEntry(
        name, pattern.cycler, int(number), scanner, int(place or 0), pattern.chamber,
        pattern.shelf, tuple(way_of(_fill(way, n)) for way in ways),
    )  # fmt: skip


def _limit_problems(
    document: YamlDocument, text: BenchText, cell_type: CellType | None
) -> list[Problem]:
    low, high = text.limits.voltage_V
    problems = []
    where = document.where("limits", "voltage")
    if low >= high:
        problems.append(Problem(where, f"{low:g} V is not below {high:g} V", "[2.45 V, 4.25 V]"))
    if cell_type is not None:
        if low > cell_type.voltage_min_V or high < cell_type.voltage_max_V:
            problems.append(Problem(
                where, f"the cell needs {cell_type.voltage_min_V:g} to "
                f"{cell_type.voltage_max_V:g} V", "a little more on both sides"))  # fmt: skip
        if low < cell_type.voltage_min_V - 0.3 or high > cell_type.voltage_max_V + 0.1:
            problems.append(Problem(
                where, "the limits are too wide to protect this cell",
                f"at most {cell_type.voltage_min_V - 0.3:g} to "
                f"{cell_type.voltage_max_V + 0.1:g} V"))  # fmt: skip
    return problems


def _range_problems(
    document: YamlDocument, text: BenchText, channels: dict[str, ChannelEntry]
) -> list[Problem]:
    """Return what the instruments cannot do: limits beyond a range, a supply with two channels."""
    from batterylab.drivers.catalogue import spec

    problems = []
    low, high = text.limits.voltage_V
    for name in dict.fromkeys(channel.cycler for channel in channels.values()):
        entry = text.instruments[name]
        role = role_of(entry.model)
        if not role:
            continue
        least, most = spec(entry.model).ranges.get("voltage_V", [low, high])
        if low < least or high > most:
            where = document.where("limits", "voltage")
            problems.append(Problem(where, f"{name} works from {least:g} V to {most:g} V only",
                                    f"within [{least:g} V, {most:g} V]"))  # fmt: skip
        used = [c.name for c in channels.values() if c.cycler == name]
        if role == "host_stepped" and len(used) > 1:
            where = document.where("instruments", name)
            problems.append(Problem(where, f"a supply is one channel, not {', '.join(used)}",
                                    "an instrument of its own for each"))  # fmt: skip
    for name, entry in text.instruments.items():
        if entry.sample_s != 1.0 and role_of(entry.model) not in ("", "host_stepped"):
            where = document.where("instruments", name, "sample")
            problems.append(Problem(where, f"{entry.model} samples by itself", "remove it"))
        if entry.alarm_line and role_of(entry.model) not in ("", "scanner"):
            where = document.where("instruments", name, "alarm_line")
            problems.append(Problem(where, f"{entry.model} has no alarm lines", "remove it"))
    return problems
