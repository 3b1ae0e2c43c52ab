"""Hioki BT3562A: AC resistance at 1 kHz and open-circuit voltage.

Source: instruction manual BT3562A981-12, chapter 8. There is no error queue: a rejected query
stays unanswered, and ``*ESR?`` says why. The identity carries no serial number.
"""

import math

from batterylab.drivers.roles import MeterReading
from batterylab.drivers.scpi import ScpiDriver
from batterylab.errors import EnvironmentFailedError

SETTLE_s = 0.1
INVALID = 1e8
REJECTED = 32 | 16 | 8 | 4


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
            ":SYST:HEAD OFF", ":FUNC RV", ":AUT OFF", ":RES:RANG 0.03", ":VOLT:RANG 6",
            ":SAMP:RATE SLOW", ":TRIG:SOUR IMM",
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
        """
        self.link.write(":INIT:CONT OFF")  # the LOCAL key switches it on again
        reply = self.link.query(":READ?")
        parts = reply.split(",")
        try:
            ohm, volts = (float(part.replace(" ", "")) for part in parts)
        except ValueError:
            raise self.link.unexpected(":READ?", reply) from None
        is_valid = all(math.isfinite(v) and abs(v) < INVALID for v in (ohm, volts))
        return MeterReading(ohm, volts, is_valid)
