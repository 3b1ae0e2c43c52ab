"""A simulated Hioki BT4560 impedance meter on its virtual serial port.

Written from the command list of its manual. Lines end in CR LF both ways. There is no error
queue: what the meter rejects gets no answer and a bit in the event register. Wired to channels, it
sees the impedance of the cell's model; with its pins on a cell, that of the cell's ohmic part and
one reaction arc.
"""

import cmath
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from batterylab.simulated.scpi import ScpiError, ScpiInstrument, illegal_parameter, number

if TYPE_CHECKING:
    from batterylab.simulated.world import World

COMMAND_ERROR, EXECUTION_ERROR, POWER_ON = 32, 16, 128
RANGES_ohm = (3e-3, 10e-3, 100e-3)
FUNCTIONS = ("RV", "ZV", "R", "Z", "V")
RATES = {"FAST": "FAST", "MED": "MEDIUM", "SLOW": "SLOW"}
OVER_RANGE, FAULT = 1e9, 1e10
STANDARD_Hz = 1000.0
HEADROOM = 1.2
#: the arc of the reaction: its resistance, and where it bends
ARC_ohm, ARC_Hz, LEAD_H = 12e-3, 1.5, 2e-8


class Bt4560(ScpiInstrument):
    """The meter's command table.

    Parameters
    ----------
    world : World
        Says what is at the meter's pins.
    serial : str
        Told in the identity.
    name : str
        What the bench file calls it: it may be wired to channels.
    """

    def __init__(self, world: "World", serial: str = "220512345", name: str = "") -> None:
        super().__init__(f"HIOKI,BT4560,{serial},V1.20")
        self.world, self.name = world, name
        for spelling in [s for s in self.commands if s.startswith(("SYST:ERR", "SYSTEM:ERR"))]:
            del self.commands[spelling]
        self._defaults()
        self.event_status = POWER_ON
        self._commands()

    def _defaults(self) -> None:
        self.function, self.frequency_Hz, self.range_ohm = "RV", 1000.0, RANGES_ohm[-1]
        self.rates = {"Z": "SLOW", "V": "SLOW"}
        self.source, self.is_continuous = "IMMEDIATE", True
        self.flags = {"LIM": True, "CROSS": False, "SLOPE": False}
        self.last: tuple[complex, float] | None = None

    def power_cycle(self) -> None:
        """Switch it off and on: all settings are defaults."""
        self._defaults()
        self.frequency_Hz, self.event_status = 1.0, POWER_ON

    def swap_leads(self) -> None:
        """Turn the pins round: the voltage reads negative."""
        self.world.probe_polarity *= -1.0

    def press_local(self) -> None:
        """Press the LOCAL key: continuous measurement comes on again."""
        self.is_continuous = True

    def _commands(self) -> None:
        self.add("*RST", self._defaults)
        self._pair("FUNCtion", self._set_function, lambda: self.function)
        self._pair("FREQuency", self._set_frequency, lambda: f"{self.frequency_Hz:.4E}")
        self._pair("RANGe", self._set_range, lambda: f"{self.range_ohm:.4E}")
        self.add("SAMPle:RATE", self._set_rate)
        self._switch("LIMiter", "LIM")
        self._switch("ZERO:CROSs", "CROSS")
        self._switch("ADJust:SLOPe", "SLOPE")
        self._pair("TRIGger:SOURce", self._set_source, lambda: self.source)
        self._pair("INITiate:CONTinuous", self._set_continuous,
                   lambda: "ON" if self.is_continuous else "OFF")  # fmt: skip
        self.add("READ?", self._read)
        self.add("FETCh?", self._fetch)
        self.add("SYSTem:LOCal", self.press_local)

    def _pair(self, definition: str, put: Callable[[str], None], get: Callable[[], str]) -> None:
        self.add(definition, put)
        self.add(definition + "?", get)

    def _switch(self, definition: str, name: str) -> None:
        def put(state: str) -> None:
            self.flags[name] = _is_on(state)

        self._pair(definition, put, lambda: "ON" if self.flags[name] else "OFF")
        if definition == "ZERO:CROSs":
            self.commands["ZERO:CROSS"] = self.commands["ZERO:CROS"]

    def answer(self, text: str) -> list[str | bytes]:
        """Carry out one line of at most 256 bytes."""
        if len(text) > 256:
            self.event_status |= COMMAND_ERROR
            return []
        return super().answer(text)

    def fault(self, error: ScpiError) -> None:
        """Set a bit in the event register; there is no queue."""
        is_command = -200 < error.code <= -100
        self.event_status |= COMMAND_ERROR if is_command else EXECUTION_ERROR

    # -- settings --------------------------------------------------------------------------
    def _set_function(self, name: str) -> None:
        if name.upper() not in FUNCTIONS:
            raise illegal_parameter()
        self.function = name.upper()

    def _set_frequency(self, hertz: str) -> None:
        self.frequency_Hz = number(hertz, 0.01, 1050.0)

    def _set_range(self, ohm: str) -> None:
        wanted = number(ohm, 0.0, 0.12)
        self.range_ohm = next((r for r in RANGES_ohm if wanted <= r), RANGES_ohm[-1])

    def _set_rate(self, which: str, rate: str) -> None:
        if which.upper() not in self.rates or rate.upper() not in {*RATES, *RATES.values()}:
            raise illegal_parameter()
        self.rates[which.upper()] = RATES.get(rate.upper(), rate.upper())

    def _set_source(self, source: str) -> None:
        upper = source.upper()
        if upper not in ("IMM", "IMMEDIATE", "EXT", "EXTERNAL"):
            raise illegal_parameter()
        self.source = "IMMEDIATE" if upper.startswith("IMM") else "EXTERNAL"

    def _set_continuous(self, state: str) -> None:
        self.is_continuous = _is_on(state)

    # -- measurement -----------------------------------------------------------------------
    def _read(self) -> str | None:
        if self.is_continuous:
            raise ScpiError(-221, "Settings conflict")
        if self.source == "EXTERNAL":
            return None
        self._measure()
        return self._fetch()

    def _measure(self) -> None:
        reading = self.world.meter_reading(self.name)
        if reading is None:
            self.last = (complex(math.nan, math.nan), math.nan)
            return
        wired = self.world.impedance_ohm(self.name, self.frequency_Hz)
        plain = self.world.impedance_ohm(self.name, STANDARD_Hz)
        if wired is not None and plain is not None:  # the meter's gain and noise are those of 1 kHz
            self.last = (wired * (reading[0] / plain.real), reading[1])
            return
        arc = ARC_ohm / (1 + 1j * self.frequency_Hz / ARC_Hz)
        lead = 2j * math.pi * self.frequency_Hz * LEAD_H
        at_standard = ARC_ohm / (1 + 1000j / ARC_Hz)
        self.last = (reading[0] + arc - at_standard.real + lead, reading[1])

    def _fetch(self) -> str:
        if self.is_continuous:
            self._measure()
        if self.last is None:
            raise ScpiError(-230, "Data corrupt or stale")
        ohm, volts = self.last
        first, second = ohm.real, ohm.imag
        if self.function.startswith("Z"):
            first, second = abs(ohm), math.degrees(cmath.phase(ohm))
        impedance = [self._figure(first, self.range_ohm), self._figure(second, 360.0)]
        parts = impedance if self.function != "V" else []
        if self.function in ("RV", "ZV", "V"):
            parts = [*parts, self._figure(volts, 5.0)]
        return ",".join(parts)

    @staticmethod
    def _figure(value: float, full_scale: float) -> str:
        if math.isnan(value):
            value = FAULT
        elif abs(value) > HEADROOM * full_scale:
            value = math.copysign(OVER_RANGE, value)
        return f"{value:+.5E}"


def _is_on(text: str) -> bool:
    if text.upper() not in ("0", "1", "OFF", "ON"):
        raise illegal_parameter()
    return text.upper() in ("1", "ON")
