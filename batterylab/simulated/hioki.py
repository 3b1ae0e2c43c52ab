"""A simulated Hioki BT3562A battery tester on its LAN port.

Written from chapter 8 of its manual as the command reference gives it. Lines end in CR LF both
ways. There is no error queue: what the meter rejects gets no answer and a bit in the standard
event register. The old commands of the 3560 and the comparator are not simulated.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from batterylab.simulated.scpi import ScpiError, ScpiInstrument, illegal_parameter, number

if TYPE_CHECKING:
    from batterylab.simulated.world import World

COMMAND_ERROR, EXECUTION_ERROR, QUERY_ERROR, POWER_ON = 32, 16, 4, 128
#: full scale in ohm, decimals of the mantissa, its width, exponent
RESISTANCE_RANGES = (
    (3e-3, 4, 7, -3), (30e-3, 3, 7, -3), (300e-3, 2, 7, -3), (3.0, 4, 7, 0), (30.0, 3, 7, 0),
    (300.0, 2, 7, 0), (3000.0, 4, 7, 3),
)  # fmt: skip
VOLTAGE_RANGES = ((6.0, 5, 7, 0), (60.0, 4, 7, 0), (100.0, 3, 7, 0))
#: what a range shows beyond its full scale
HEADROOM = 3100.0 / 3000.0
RATES = {"EXF": "EXFAST", "FAST": "FAST", "MED": "MEDIUM", "SLOW": "SLOW"}
FUNCTIONS = {"RV": "RV", "RES": "RESISTANCE", "VOLT": "VOLTAGE"}
SOURCES = {"IMM": "IMMEDIATE", "EXT": "EXTERNAL"}
OVER_RANGE, FAULT = 1e9, 1e10
Range = tuple[float, int, int, int]


def mantissa(value: float, scale: Range) -> str:
    """Return a reading as the meter writes it: sign, fixed width, the range's exponent.

    Infinite values are over-range, NaN is a contact or measurement fault; both are written in
    the range's own mantissa, as 1E+9 and 1E+10.
    """
    _, decimals, width, exponent = scale
    sign = "-" if value < 0 else " "
    if math.isnan(value) or math.isinf(value):
        is_fault = math.isnan(value)
        whole_digits = width - decimals - 1
        digits = f"{10 ** (whole_digits - 1):d}.{'0' * decimals}"
        power = (10 if is_fault else 9) - (whole_digits - 1)
        return f"{'+' if is_fault else sign}{digits}E{power:+d}"
    return f"{sign}{abs(value) / 10**exponent:{width}.{decimals}f}E{exponent:+d}"


class Bt3562a(ScpiInstrument):
    """The meter's command table.

    Parameters
    ----------
    world : World
        Says what is at the meter's pins.
    name : str
        What the bench file calls it: it may be wired to channels.
    """

    def __init__(self, world: "World", name: str = "") -> None:
        super().__init__("HIOKI,BT3562A,0,V2.10")
        self.world, self.name = world, name
        for spelling in [s for s in self.commands if s.startswith(("SYST:ERR", "SYSTEM:ERR"))]:
            del self.commands[spelling]
        self.event_status = POWER_ON
        self.has_header = False
        self._defaults()
        self._commands()

    def _defaults(self) -> None:
        self.function = "RV"
        self.is_auto = True
        self.resistance_range = RESISTANCE_RANGES[-1]
        self.voltage_range = VOLTAGE_RANGES[-1]
        self.rate = "SLOW"
        self.source = "IMMEDIATE"
        self.is_continuous = True
        self.last: tuple[float, float] | None = None

    def _commands(self) -> None:
        self.add("*RST", self._defaults)
        self.add("SYSTem:HEADer", self._set_header)
        self._setting("SYSTem:HEADer", lambda: "ON" if self.has_header else "OFF")
        self.add("FUNCtion", self._set_function)
        self._setting("FUNCtion", lambda: self.function)
        self.add("AUTorange", self._set_auto)
        self._setting("AUTorange", lambda: "ON" if self.is_auto else "OFF")
        self.add("RESistance:RANGe", self._set_resistance)
        self._setting("RESistance:RANGe", lambda: _nr3(self.resistance_range[0], 4))
        self.add("VOLTage:RANGe", self._set_voltage)
        self._setting("VOLTage:RANGe", lambda: _nr3(self.voltage_range[0], 5))
        self.add("SAMPle:RATE", self._set_rate)
        self._setting("SAMPle:RATE", lambda: self.rate)
        self.add("TRIGger:SOURce", self._set_source)
        self._setting("TRIGger:SOURce", lambda: self.source)
        self.add("INITiate:CONTinuous", self._set_continuous)
        self._setting("INITiate:CONTinuous", lambda: "ON" if self.is_continuous else "OFF")
        self.add("INITiate[:IMMediate]", self._initiate)
        self.add("FETCh?", self._fetch)
        self.add("READ?", self._read)
        self.add("ADJust?", lambda: "0")
        self.add("SYSTem:LOCal", self.press_local)

    def _setting(self, definition: str, value: Callable[[], str]) -> None:
        """Add a query that carries its header when headers are on."""
        header = ":" + definition.upper() + " "
        self.add(definition + "?", lambda: (header if self.has_header else "") + value())

    def answer(self, text: str) -> list[str | bytes]:
        """Carry out one line; a query with a command after it in the line is a query error."""
        parts = [part.strip().partition(" ")[0] for part in text.rstrip("\r").split(";")]
        if any(part.endswith("?") for part in parts[:-1]):
            self.event_status |= QUERY_ERROR
            return []
        return super().answer(text)

    def fault(self, error: ScpiError) -> None:
        """Set a bit in the event register; there is no queue."""
        is_command = -200 < error.code <= -100
        self.event_status |= COMMAND_ERROR if is_command else EXECUTION_ERROR

    def power_cycle(self) -> None:
        """Switch it off and on: all settings are defaults."""
        self._defaults()
        self.has_header = False
        self.event_status = POWER_ON

    def swap_leads(self) -> None:
        """Turn the pins round: the voltage reads negative."""
        self.world.probe_polarity *= -1.0

    def press_local(self) -> None:
        """Press the LOCAL key: continuous measurement comes on again."""
        self.is_continuous = True

    # -- settings ------------------------------------------------------------------------
    def _set_header(self, state: str) -> None:
        self.has_header = _switch(state)

    def _set_function(self, name: str) -> None:
        self.function = _word(name, FUNCTIONS)

    def _set_auto(self, state: str) -> None:
        self.is_auto = _switch(state)

    def _set_resistance(self, ohm: str) -> None:
        self.resistance_range = _fitting(number(ohm, 0.0, 3100.0), RESISTANCE_RANGES)
        self.is_auto = False

    def _set_voltage(self, volts: str) -> None:
        self.voltage_range = _fitting(abs(number(volts, -100.0, 100.0)), VOLTAGE_RANGES)
        self.is_auto = False

    def _set_rate(self, rate: str) -> None:
        self.rate = _word(rate, RATES)

    def _set_source(self, source: str) -> None:
        self.source = _word(source, SOURCES)

    def _set_continuous(self, state: str) -> None:
        self.is_continuous = _switch(state)

    # -- measurement ---------------------------------------------------------------------
    def _initiate(self) -> None:
        if self.is_continuous:
            raise ScpiError(-213, "Init ignored")
        if self.source == "IMMEDIATE":
            self._measure()

    def _measure(self) -> None:
        reading = self.world.meter_reading(self.name)
        self.last = (math.nan, math.nan) if reading is None else reading

    def _fetch(self) -> str:
        if self.is_continuous:
            self._measure()
        if self.last is None:
            raise ScpiError(-230, "Data corrupt or stale")
        return self._format(self.last)

    def _read(self) -> str | None:
        if self.is_continuous:
            raise ScpiError(-221, "Settings conflict")
        if self.source == "EXTERNAL":
            return None
        self._measure()
        return self._fetch()

    def _format(self, reading: tuple[float, float]) -> str:
        ohm = self._scaled(reading[0], self.resistance_range, RESISTANCE_RANGES)
        volts = self._scaled(reading[1], self.voltage_range, VOLTAGE_RANGES)
        return {"RV": f"{ohm},{volts}", "RESISTANCE": ohm, "VOLTAGE": volts}[self.function]

    def _scaled(self, value: float, scale: Range, ranges: tuple[Range, ...]) -> str:
        if self.is_auto:
            fitting = [r for r in ranges if abs(value) <= r[0] * HEADROOM]
            scale = fitting[0] if fitting else ranges[-1]
        if abs(value) > scale[0] * HEADROOM:
            value = math.copysign(math.inf, value)
        return mantissa(value, scale)


def _nr3(value: float, decimals: int) -> str:
    """Return full scale as the range queries write it: ``30.000E-3``."""
    exponent = 3 * math.floor(math.log10(value) / 3 + 1e-9)
    digits = value / 10**exponent
    return f"{digits:.{decimals - len(str(int(digits))) + 1}f}E{exponent:+d}"


def _switch(text: str) -> bool:
    if text.upper() not in ("0", "1", "OFF", "ON"):
        raise illegal_parameter()
    return text.upper() in ("1", "ON")


def _word(text: str, words: dict[str, str]) -> str:
    """Return the long form of a word given in its short or long form."""
    upper = text.upper()
    if upper in words:
        return words[upper]
    if upper in words.values():
        return upper
    raise illegal_parameter()


def _fitting(value: float, ranges: tuple[Range, ...]) -> Range:
    """Return the smallest range that holds a value."""
    return next((r for r in ranges if value <= r[0] * HEADROOM), ranges[-1])
