"""Keysight DAQ970A, 34970A and 34972A: multiplexer channels read in one scan, and relays.

Thermocouples of type K, and voltages that tell of a door switch or a sensor.

Source: 34970A/34972A User's Guide (34972-90001), whose command tree the DAQ970A shares. An open
thermocouple reads 9.9E+37. A module without thermocouples may serve as relays: several of its
channels can be closed at once only if none of them is in the scan list. ``ROUT:CLOS?`` tells what
the instrument believes: a contact that sticks does not show in it.
"""

import re
from collections.abc import Sequence

from batterylab.drivers.scpi import OVERLOAD, ScpiDriver, channel_list
from batterylab.errors import EnvironmentFailedError, OutOfRangeError

LINES = (1, 2, 3, 4)
_READING = re.compile(r" *([+-]?\d+\.?\d*(?:E[+-]?\d+)?)( C| VDC)? *", re.ASCII)
#: what a thermocouple of type K can say
COLDEST_degC, HOTTEST_degC = -200.0, 1372.0


class Daq970a(ScpiDriver):
    """A DAQ970A, 34970A or 34972A with thermocouples of type K."""

    channels: Sequence[int] = ()
    inputs: Sequence[int] = ()

    def prepare(self, channels: Sequence[int], inputs: Sequence[int] = ()) -> None:
        """Set the channels up and make them the scan list; readings name their channel.

        Parameters
        ----------
        channels : sequence of int
            With a thermocouple.
        inputs : sequence of int
            With a voltage.

        Raises
        ------
        EnvironmentFailedError
            If the scanner refuses.
        """
        self.channels, self.inputs = sorted(set(channels)), sorted(set(inputs))
        self.input_V: dict[int, float | None] = {}
        self.errors()
        settings = []
        if self.channels:
            settings.append(f"CONF:TEMP TC,K,{channel_list(self.channels)}")
        if self.inputs:
            settings.append(f"CONF:VOLT:DC AUTO,DEF,{channel_list(self.inputs)}")
        for command in (
            *settings, f"ROUT:SCAN {channel_list(self._scanned)}", "FORM:READ:CHAN ON",
            "FORM:READ:UNIT ON", "FORM:READ:TIME OFF", "FORM:READ:ALAR OFF",
        ):  # fmt: skip
            self.link.write(command)
        self.check("the scan list")

    @property
    def _scanned(self) -> list[int]:
        return sorted({*self.channels, *self.inputs})

    def read(self) -> dict[int, float | None]:
        """Scan once; the temperature in °C by channel, None where the thermocouple is open.

        Raises
        ------
        EnvironmentFailedError
            If the reply is not one reading for each channel.
        """
        reply = self.link.query("READ?")
        fields = reply.split(",")
        listed = [str(channel) for channel in self._scanned]
        if len(fields) != 2 * len(listed) or fields[1::2] != listed:
            raise self.link.unexpected("READ?", reply)
        texts = dict(zip(self._scanned, fields[::2], strict=True))
        degrees = {channel: self._degC(texts[channel]) for channel in self.channels}
        self.input_V = {channel: self._value(texts[channel], " VDC") for channel in self.inputs}
        return degrees

    def prepare_relays(self, places: Sequence[int]) -> None:
        """Open relays, whatever was closed; a scan list left by somebody else is cleared first.

        Raises
        ------
        EnvironmentFailedError
            If the instrument refuses, or has one closed afterwards.
        """
        if not self._scanned:
            self.errors()
            self.link.write("ROUT:SCAN (@)")
        self.open_relays(places)

    def relays(self, places: Sequence[int]) -> dict[int, bool]:
        """Return which relays are closed, as the instrument has them.

        Raises
        ------
        EnvironmentFailedError
            If the reply is not one state for each.
        """
        states = self.numbers(f"ROUT:CLOS? {channel_list(places)}", len(places))
        if not set(states) <= {0.0, 1.0}:
            raise self.link.unexpected("ROUT:CLOS?", str(states))
        return {place: state == 1.0 for place, state in zip(places, states, strict=True)}

    def close_relays(self, places: Sequence[int]) -> None:
        """Close relays, and confirm it by reading back.

        Raises
        ------
        EnvironmentFailedError
            If the instrument refuses, or has one open afterwards.
        """
        self._switch("CLOS", places, wanted=True)

    def open_relays(self, places: Sequence[int]) -> None:
        """Open relays, and confirm it by reading back.

        Raises
        ------
        EnvironmentFailedError
            If the instrument refuses, or has one closed afterwards.
        """
        self._switch("OPEN", places, wanted=False)

    def _switch(self, word: str, places: Sequence[int], *, wanted: bool) -> None:
        self.link.write(f"ROUT:{word} {channel_list(places)}")
        self.check("switching relays")
        wrong = [place for place, state in self.relays(places).items() if state is not wanted]
        if wrong:
            raise EnvironmentFailedError(
                f"{self.link.name}: relay {wrong[0]} does not {'close' if wanted else 'open'}"
            )

    def _degC(self, text: str) -> float | None:
        value = self._value(text, " C")
        if value is not None and not COLDEST_degC <= value <= HOTTEST_degC:
            raise self.link.unexpected("READ?", text)
        return value

    def _value(self, text: str, unit: str) -> float | None:
        """Return a figure; the unit tells it from that of a channel that is set otherwise."""
        match = _READING.fullmatch(text)
        if match is None:
            raise self.link.unexpected("READ?", text)
        value = float(match[1])
        if abs(value) > OVERLOAD:
            return None
        if match[2] != unit:
            raise self.link.unexpected("READ?", text)
        return value

    def interlock(self, limit_degC: float, line: int = 1) -> None:
        """Let an alarm line trip, and stay tripped, when a channel of the scan is above a limit.

        The line is hardware: it opens a contactor without any computer, as long as scans go on.

        Parameters
        ----------
        limit_degC : float
            For every channel of `prepare`.
        line : int
            1 to 4.

        Raises
        ------
        OutOfRangeError
            If there is no such line, or no such temperature; nothing was sent.
        EnvironmentFailedError
            If the scanner refuses, or holds another limit afterwards.
        """
        if line not in LINES or not COLDEST_degC <= limit_degC <= HOTTEST_degC or not self.channels:
            raise OutOfRangeError(
                f"{self.link.name}: alarm line {line} at {limit_degC} °C is not possible",
                hint="lines 1 to 4, -200 to 1372 °C, after `prepare`; nothing was sent",
            )
        listed = channel_list(self.channels)
        for command in (
            f"CALC:LIM:UPP {limit_degC:.6g},{listed}", f"CALC:LIM:UPP:STAT ON,{listed}",
            "OUTP:ALAR:MODE LATC", f"OUTP:ALAR{line}:SOUR {listed}",
        ):  # fmt: skip
            self.link.write(command)
        self.check("the interlock")
        limits = self.numbers(f"CALC:LIM:UPP? {listed}", len(self.channels))
        states = self.numbers(f"CALC:LIM:UPP:STAT? {listed}", len(self.channels))
        if set(states) != {1.0} or any(abs(value - limit_degC) > 0.01 for value in limits):
            raise self.link.unexpected("CALC:LIM:UPP?", f"{limits} {states}")
