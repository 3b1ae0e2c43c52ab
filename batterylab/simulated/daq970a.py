"""A simulated Keysight DAQ970A with three 20-channel multiplexers and thermocouples of type K.

Written from the command tree that it shares with the 34970A and 34972A. A channel without a
thermocouple reads 9.9E+37, as the instrument's overload does.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from batterylab.simulated.scpi import (
    ScpiError,
    ScpiInstrument,
    channel_list,
    illegal_parameter,
    number,
    out_of_range,
    whole,
)

if TYPE_CHECKING:
    from batterylab.simulated.world import World

OVERLOAD = 9.9e37
SLOTS, PLACES = (1, 2, 3), 20
THERMOCOUPLES = tuple("BEJKNRST")
OPTIONS = ("ALARM", "CHANNEL", "TIME", "UNIT")
#: about what a K thermocouple gives per kelvin, for a channel that was left a voltmeter
SEEBECK_V_K = 4.1e-5
COLD_degC = 23.0
LONGEST_QUEUE = 10


def identity(serial: str) -> str:
    """Return what a DAQ970A says of itself."""
    return f"Keysight Technologies,DAQ970A,{serial},A.03.01-01.00-02.01-00.02"


class Daq970a(ScpiInstrument):
    """The scanner's command table.

    Parameters
    ----------
    world : World
        Whose thermocouples it reads.
    serial : str
        Told in the identity.
    name : str
        What the bench file calls it: by that name the world knows what is wired to its inputs, and
        where its relays lead.
    """

    def __init__(self, world: "World", serial: str = "MY58011234", name: str = "") -> None:
        super().__init__(identity(serial), queue_length=LONGEST_QUEUE, signed_zero=True)
        self.world = world
        self.name = name
        self.open_relays: set[int] = set()
        self.open_contacts: set[int] = set()
        self.welded: set[int] = set()
        self.closed: set[int] = set()
        self._defaults()
        self._commands()

    def _defaults(self) -> None:
        self.thermocouples: dict[int, str] = {}
        self.voltmeters: set[int] = set()
        self.scan: list[int] = []
        self.options = dict.fromkeys(OPTIONS, False)
        self.is_absolute = False
        self.readings: list[str] = []
        self.last: dict[int, float] = {}

    def _commands(self) -> None:
        self.add("*RST", self._defaults)
        self.add("CONFigure:TEMPerature", self._configure)
        self.add("CONFigure:VOLTage:DC", self._voltage)
        self.add("UNIT:TEMPerature", self._unit)
        self.add("ROUTe:SCAN", self._scan)
        self.add("ROUTe:SCAN?", self._scan_list)
        self.add("ROUTe:SCAN:SIZE?", lambda: f"{len(self.scan):+d}")
        self.add("TRIGger:SOURce", self._source)
        self.add("TRIGger:COUNt", self._count)
        self.add("INITiate", self._initiate)
        self.add("ABORt", lambda: None)
        self.add("READ?", self._read)
        self.add("FETCh?", self._fetch)
        self.add("DATA:POINts?", lambda: f"{len(self.readings):+d}")
        self.add("DATA:LAST?", self._data_last)
        self.add("SYSTem:CTYPe?", self._card)
        self.add("ROUTe:CLOSe", lambda listed: self._switch(listed, closed=True))
        self.add("ROUTe:OPEN", lambda listed: self._switch(listed, closed=False))
        self.add("ROUTe:CLOSe?", self._states)
        for option in ("ALARm", "CHANnel", "TIME", "UNIT"):
            self._option(option)
        self.add("FORMat:READing:TIME:TYPE", self._time_type)

    def power_cycle(self) -> None:
        """Switch it off and on: scan list and formats are gone."""
        self.errors.clear()
        self._defaults()

    def stick_relay(self, channel: int = 0) -> None:
        """Let the relay of a channel not close any more: the first of the scan if none is named."""
        self.open_relays.add(channel or min(self.scan, default=101))

    def open_interlock(self, channel: int = 0) -> None:
        """Let a contact that is wired to an input open: the first one if none is named."""
        wired = [place for name, place in self.world.wired_V if name == self.name]
        self.open_contacts.add(channel or min(wired, default=101))

    def close_interlocks(self) -> None:
        """Let every contact be closed again."""
        self.open_contacts.clear()

    def weld_relay(self, channel: int = 0) -> None:
        """Let a relay's contact stick closed: the first that is closed, or 101, if none is named.

        The instrument does not notice.
        """
        place = channel or min(self.closed, default=101)
        self.welded.add(place)
        self.world.wiring.switch(self.name, place, closed=True)

    def _switch(self, listed: str, *, closed: bool) -> None:
        """Open or close relays; with a scan list on its module, only one of it can be closed."""
        places = self._channels(listed)
        for place in places:
            mates = {c for c in self.closed if c // 100 == place // 100}
            if closed and any(c // 100 == place // 100 for c in self.scan):
                self._move(mates, closed=False)
            self._move({place}, closed=closed)

    def _move(self, places: set[int], *, closed: bool) -> None:
        self.closed = self.closed | places if closed else self.closed - places
        for place in places:
            touches = (closed or place in self.welded) and place not in self.open_relays
            self.world.wiring.switch(self.name, place, closed=touches)

    def _states(self, listed: str) -> str:
        return ",".join(str(int(place in self.closed)) for place in self._channels(listed))

    def _option(self, keyword: str) -> None:
        name = keyword.upper()

        def switch(state: str) -> None:
            if state.upper() not in ("0", "1", "OFF", "ON"):
                raise illegal_parameter()
            self.options[name] = state.upper() in ("1", "ON")

        self.add(f"FORMat:READing:{keyword}", switch)
        self.add(f"FORMat:READing:{keyword}?", lambda: str(int(self.options[name])))

    # -- settings ------------------------------------------------------------------------
    @staticmethod
    def _channels(text: str) -> list[int]:
        channels = channel_list(text)
        for channel in channels:
            slot, place = divmod(channel, 100)
            if slot not in SLOTS or not 1 <= place <= PLACES:
                raise out_of_range()
        return channels

    def _configure(self, probe: str, kind: str, channels: str) -> None:
        if probe.upper() not in ("TC", "TCOUPLE") or kind.upper() not in THERMOCOUPLES:
            raise illegal_parameter()
        chosen = self._channels(channels)
        if not chosen:
            raise ScpiError(-109, "Missing parameter")
        self.thermocouples.update(dict.fromkeys(chosen, kind.upper()))
        self.voltmeters -= set(chosen)
        self.readings = []

    def _voltage(self, span: str, resolution: str, channels: str) -> None:
        if span.upper() not in ("AUTO", "DEF", "MIN", "MAX"):
            number(span, 0.1, 300.0)
        if resolution.upper() not in ("DEF", "MIN", "MAX"):
            number(resolution, 0.0, 1.0)
        chosen = self._channels(channels)
        if not chosen:
            raise ScpiError(-109, "Missing parameter")
        self.voltmeters |= set(chosen)
        for channel in chosen:
            self.thermocouples.pop(channel, None)
        self.readings = []

    def _unit(self, unit: str, channels: str = "") -> None:
        if unit.upper() not in ("C", "CEL"):
            raise illegal_parameter()
        if channels:
            self._channels(channels)

    def _scan(self, channels: str) -> None:
        self.scan = sorted(set(self._channels(channels)))
        self.readings = []

    def _scan_list(self) -> bytes:
        text = f"(@{','.join(map(str, self.scan))})".encode()
        length = str(len(text)).encode()
        return b"#" + str(len(length)).encode() + length + text

    def _source(self, source: str) -> None:
        if source.upper() not in ("IMM", "IMMEDIATE"):
            raise illegal_parameter()

    def _count(self, count: str) -> None:
        whole(count, 1, 1)

    def _time_type(self, kind: str) -> None:
        if kind.upper() not in ("ABS", "ABSOLUTE", "REL", "RELATIVE"):
            raise illegal_parameter()
        self.is_absolute = kind.upper().startswith("ABS")

    def _card(self, slot: str) -> str:
        if number(slot, 100, 300) not in (100, 200, 300):
            raise out_of_range()
        return "Keysight Technologies,DAQM901A,MY58000001,1.0"

    # -- readings ------------------------------------------------------------------------
    def _initiate(self) -> None:
        if not self.scan:
            raise ScpiError(-221, "Settings conflict")
        modules = {channel // 100 for channel in self.scan}
        self._move({place for place in self.closed if place // 100 in modules}, closed=False)
        self.last.update({channel: self._measure(channel) for channel in self.scan})
        self.readings = [self._text(channel) for channel in self.scan]

    def _measure(self, channel: int) -> float:
        wired_V = self.world.wired_V.get((self.name, channel))
        if wired_V is not None and channel in self.voltmeters and channel not in self.open_relays:
            return 0.0 if channel in self.open_contacts else wired_V
        degC = self.world.thermocouple_degC(channel)
        if degC is None or channel in self.open_relays:
            return OVERLOAD
        if channel in self.thermocouples:
            return degC
        return SEEBECK_V_K * (degC - COLD_degC)

    def _text(self, channel: int) -> str:
        """Return one reading: value and unit, time, channel, alarm, as far as they are on."""
        parts = [f"{self.last[channel]:+.8E}"]
        if self.options["UNIT"]:
            parts[0] += " C" if channel in self.thermocouples else " VDC"
        if self.options["TIME"]:
            parts.append(self._time())
        if self.options["CHANNEL"]:
            parts.append(str(channel))
        if self.options["ALARM"]:
            parts.append("0")
        return ",".join(parts)

    def _time(self) -> str:
        if not self.is_absolute:
            return f"{0.0:012.3f}"
        moment = datetime.fromtimestamp(self.world.now_s, UTC)
        return f"{moment:%Y,%m,%d,%H,%M},{moment.second:02d}.000"

    def _read(self) -> str:
        self._initiate()
        return self._fetch()

    def _fetch(self) -> str:
        if not self.readings:
            raise ScpiError(-230, "Data corrupt or stale")
        return ",".join(self.readings)

    def _data_last(self, channels: str) -> str:
        values = [self.last.get(channel, OVERLOAD) for channel in self._channels(channels)]
        return ",".join(f"{value:.8E}" for value in values)
