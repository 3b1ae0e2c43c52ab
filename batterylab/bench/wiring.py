"""How meters reach cells during a run: directly, or through relays of a scanner's module."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batterylab.errors import BatterylabError, Problem

if TYPE_CHECKING:
    from batterylab.bench.benchfile import ChannelEntry, InstrumentEntry

#: relay of the sense leads, counted from that of the current leads: pairs, as in four-wire scans
SENSE = 10
PAIRS = 10
_WAY = re.compile(r"(\w[\w -]*?)(?:\s+through\s+(\w[\w -]*?):(\d{3}))?\Z")


@dataclass(frozen=True)
class Way:
    """A meter's way to a channel.

    Attributes
    ----------
    meter : str
        The instrument.
    relays : str
        The scanner whose module switches it; empty if the meter is wired to this cell alone.
    place : int
        Relay of the current leads; that of the sense leads is ten further on.
    """

    meter: str
    relays: str = ""
    place: int = 0

    @property
    def places(self) -> tuple[int, ...]:
        """The relays that are closed for a reading."""
        return (self.place, self.place + SENSE) if self.relays else ()

    def __str__(self) -> str:
        """Return it as the bench file says it."""
        return f"{self.meter} through {self.relays}:{self.place}" if self.relays else self.meter


def way_of(text: str) -> Way:
    """Return a way from ``meter`` or ``meter through relays:201``.

    Raises
    ------
    BatterylabError
        If it says something else.
    """
    match = _WAY.match(text)
    if match is None:
        raise BatterylabError(
            f"meter: {text!r} is no way to a meter",
            hint='"impedance through relays:{200+n}", or "impedance" for a meter of its own',
        )
    way = Way(match[1], match[2] or "", int(match[3] or 0))
    if way.relays and not 1 <= way.place % 100 <= PAIRS:
        raise BatterylabError(
            f"meter: relay {way.place} has no partner for the sense leads",
            hint=f"places 1 to {PAIRS} of a module; {SENSE} further on are the sense leads",
        )
    return way


def wiring_problems(
    instruments: "dict[str, InstrumentEntry]", channels: "dict[str, ChannelEntry]", where: str,
    inputs: Iterable[tuple[str, int]] = (),
) -> Iterator[Problem]:  # fmt: skip
    """Yield what is wrong with the ways of a bench; `inputs` are scanned beside thermocouples."""
    from batterylab.bench.benchfile import role_of

    taken: dict[tuple[str, int], str] = {}
    scanned = {(c.scanner, c.scanner_channel // 100) for c in channels.values() if c.scanner}
    scanned |= {(scanner, number // 100) for scanner, number in inputs}
    direct: dict[str, str] = {}
    switched = {way.meter for c in channels.values() for way in c.meters if way.relays}
    for channel in channels.values():
        if channel.meters and role_of(instruments[channel.cycler].model) == "host_stepped":
            yield Problem(where, f"{channel.name}: a supply stays across its cell, and a meter "
                          "would read both", "meters on channels of a cycler only")  # fmt: skip
        for way in channel.meters:
            for name, role in ((way.meter, "meter"), (way.relays, "scanner")):
                if name and name not in instruments:
                    yield Problem(where, f"{channel.name}: there is no instrument {name!r}",
                                  f"known: {', '.join(instruments)}")  # fmt: skip
                elif name and role_of(instruments[name].model) not in ("", role):
                    yield Problem(where, f"{channel.name}: {name} is no {role}",
                                  '"impedance through relays:201"')  # fmt: skip
            if (way.relays, way.place // 100) in scanned and way.relays:
                yield Problem(where, f"{channel.name}: module {way.place // 100} of {way.relays} "
                              "is scanned: a scan opens all its relays",
                              "a module of its own for the relays")  # fmt: skip
            for place in way.places:
                if (way.relays, place) in taken:
                    yield Problem(where, f"{channel.name} uses relay {place} of "
                                  f"{taken[way.relays, place]}", "a pair for each way")  # fmt: skip
                taken[way.relays, place] = channel.name
            if not way.relays:
                other = direct.setdefault(way.meter, channel.name)
                if other != channel.name or way.meter in switched:
                    yield Problem(where, f"{channel.name}: {way.meter} is wired to another channel "
                                  "as well", "relays, or a meter of its own")  # fmt: skip
