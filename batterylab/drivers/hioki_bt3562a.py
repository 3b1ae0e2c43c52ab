"""Hioki BT3562A: AC resistance at 1 kHz and open-circuit voltage.

Source: instruction manual BT3562A981-12, chapter 8. There is no error queue: a rejected query
stays unanswered, and ``*ESR?`` says why. The identity carries no serial number.
"""

import math
import re

from batterylab.drivers.roles import ImpedanceReading, MeterReading
from batterylab.drivers.scpi import ScpiDriver
from batterylab.errors import EnvironmentFailedError, OutOfRangeError

SETTLE_s = 0.1
STANDARD_Hz = 1000.0
#: slow sampling, assumed
READING_s = 1.0
INVALID = 1e8
REJECTED = 32 | 16 | 8 | 4
_FIELD = r"([ +-] *\d+\.\d+E[+-]\d+)"
_READING = re.compile(f"{_FIELD},{_FIELD}")


class Bt3562a(ScpiDriver):
    """A BT3562A on its LAN port."""

    def prepare(self) -> None:
        """Set resistance and voltage, slow sampling, and single triggers.

        Raises
        ------
        EnvironmentFailedError
            If the meter rejects a setting.
        """
        self._events()
        for command in (
            ":SYST:HEAD OFF", ":FUNC RV", ":AUT ON", ":SAMP:RATE SLOW", ":TRIG:SOUR IMM",
            ":INIT:CONT OFF",
        ):  # fmt: skip
            self.link.write(command)
        self.link.clock.sleep(SETTLE_s)
        self._check("the settings")

    def _events(self) -> int:
        reply = self.link.query("*ESR?")
        try:
            return int(reply)
        except ValueError:
            raise self.link.unexpected("*ESR?", reply) from None

    def _check(self, what: str) -> None:
        events = self._events()
        if events & REJECTED:
            raise EnvironmentFailedError(f"{self.link.name}: {what} were rejected (ESR {events})")

    def read(self) -> MeterReading:
        """Measure once.

        Returns
        -------
        MeterReading
            Not valid where the meter reports over-range or a contact fault.

        Raises
        ------
        EnvironmentFailedError
            If the meter is silent; where it rejected the query, the error says so.
        """
        # the LOCAL key switches continuous measurement on again, and then :READ? is rejected
        state = self.link.query(":INIT:CONT?")
        if state not in ("ON", "OFF"):
            raise self.link.unexpected(":INIT:CONT?", state)
        if state == "ON":
            self.link.write(":INIT:CONT OFF")
            self.link.clock.sleep(SETTLE_s)
        try:
            reply = self.link.query(":READ?")
        except EnvironmentFailedError as error:
            raise self._explained(error) from None
        fields = _READING.fullmatch(reply)
        if fields is None:
            raise self.link.unexpected(":READ?", reply)
        ohm, volts = (float(field.replace(" ", "")) for field in fields.groups())
        is_valid = all(math.isfinite(v) and abs(v) < INVALID for v in (ohm, volts))
        return MeterReading(ohm, volts, is_valid)

    def read_at(self, frequency_Hz: float) -> ImpedanceReading:
        """Measure once; the meter knows 1 kHz only, and tells the real part only.

        Raises
        ------
        OutOfRangeError
            At another frequency; nothing was sent.
        """
        if frequency_Hz != STANDARD_Hz:
            raise OutOfRangeError(f"{self.link.name}: measures at {STANDARD_Hz:g} Hz only")
        reading = self.read()
        return ImpedanceReading(
            complex(reading.resistance_ohm, math.nan), reading.voltage_V, reading.is_valid
        )

    @staticmethod
    def reading_s(frequency_Hz: float) -> float:
        """Return about how long a reading takes."""
        return READING_s

    def _explained(self, error: EnvironmentFailedError) -> EnvironmentFailedError:
        """Add to a missing reply what the meter's event register says, if it says anything."""
        try:
            events = self._events()
        except EnvironmentFailedError:
            return error
        if not events & REJECTED:
            return error
        return EnvironmentFailedError(f"{error.message}; the meter rejected it (ESR {events})")
