"""Hioki BT4560: impedance from 0.01 Hz to 1050 Hz, and open-circuit voltage.

Source: public command lists of the BT4560's manual, and public code that drives it over its
virtual serial port. There is no error queue: a rejected query stays unanswered, and ``*ESR?``
says why. A reading takes several periods, so the time limit follows the frequency. That 1E+9 and
1E+10 mean over-range and fault is known of the BT356x family and taken for this model too.
"""

import math
import re

from batterylab.drivers.roles import ImpedanceReading, MeterReading
from batterylab.drivers.scpi import ScpiDriver
from batterylab.errors import EnvironmentFailedError, OutOfRangeError

SETTLE_s = 0.1
INVALID = 1e8
REJECTED = 32 | 16 | 8 | 4
LOWEST_Hz, HIGHEST_Hz = 0.01, 1050.0
STANDARD_Hz = 1000.0
#: a reading lasts some periods, doubled by the zero cross and the slope correction
PERIODS = 8.0
#: what it usually takes; assumed
USUAL_PERIODS = 4.0
_FIELD = r" *([+-]? *\d+(?:\.\d+)?(?:E[+-]?\d+)?) *"
_READING = re.compile(f"{_FIELD},{_FIELD},{_FIELD}", re.ASCII)


class Bt4560(ScpiDriver):
    """A BT4560 on its virtual serial port."""

    frequency_Hz = STANDARD_Hz

    def prepare(self) -> None:
        """Set impedance and voltage at 1 kHz, the 100 mΩ range, slow sampling, single triggers.

        Raises
        ------
        EnvironmentFailedError
            If the meter rejects a setting.
        """
        self.tune(STANDARD_Hz)

    def tune(self, frequency_Hz: float) -> None:
        """Make all settings, with another frequency than 1 kHz.

        Raises
        ------
        OutOfRangeError
            If the meter lacks the frequency; nothing was sent.
        EnvironmentFailedError
            If the meter rejects a setting.
        """
        if not LOWEST_Hz <= frequency_Hz <= HIGHEST_Hz:
            raise OutOfRangeError(
                f"{self.link.name}: frequency_Hz = {frequency_Hz} is outside 0.01 to 1050",
                hint="nothing was sent",
            )
        self._events()
        for command in (
            ":FUNC RV", f":FREQ {frequency_Hz:.6g}", ":RANG 100E-3", ":SAMP:RATE Z,SLOW",
            ":SAMP:RATE V,SLOW", ":LIM OFF", ":ZERO:CROSS ON", ":ADJ:SLOP ON", ":TRIG:SOUR IMM",
            ":INIT:CONT OFF",
        ):  # fmt: skip
            self.link.write(command)
        self.link.clock.sleep(SETTLE_s)
        events = self._events()
        if events & REJECTED:
            raise EnvironmentFailedError(
                f"{self.link.name}: the settings were rejected (ESR {events})"
            )
        self._confirm(frequency_Hz)
        self.frequency_Hz = frequency_Hz

    def _confirm(self, frequency_Hz: float) -> None:
        """Read back what decides which figures a reading has, and at which frequency."""
        function = self.link.query(":FUNC?").strip()
        if function != "RV":
            raise self.link.unexpected(":FUNC?", function)
        (found_Hz,) = self.numbers(":FREQ?", 1)
        if abs(found_Hz - frequency_Hz) > 1e-3 * frequency_Hz:
            raise self.link.unexpected(":FREQ?", f"{found_Hz:g} instead of {frequency_Hz:g}")

    def _events(self) -> int:
        reply = self.link.query("*ESR?")
        if not re.fullmatch(r" *\d{1,3} *", reply, re.ASCII):
            raise self.link.unexpected("*ESR?", reply)
        return int(reply)

    def read(self) -> MeterReading:
        """Measure once; the resistance is the real part of the impedance.

        Returns
        -------
        MeterReading
            Not valid where the meter reports over-range or a fault.

        Raises
        ------
        EnvironmentFailedError
            If the meter is silent; where it rejected the query, the error says so.
        """
        real_ohm, imaginary_ohm, volts = self.impedance()
        figures = (real_ohm, imaginary_ohm, volts)
        is_valid = all(math.isfinite(v) and abs(v) < INVALID for v in figures)
        return MeterReading(real_ohm, volts, is_valid)

    def read_at(self, frequency_Hz: float) -> ImpedanceReading:
        """Measure once at a frequency, set first where it is another than before.

        Raises
        ------
        OutOfRangeError
            If the meter lacks the frequency; nothing was sent.
        EnvironmentFailedError
            If the meter is silent or rejects something.
        """
        if frequency_Hz != self.frequency_Hz:
            self.tune(frequency_Hz)
        real_ohm, imaginary_ohm, volts = self.impedance()
        figures = (real_ohm, imaginary_ohm, volts)
        is_valid = all(math.isfinite(v) and abs(v) < INVALID for v in figures)
        return ImpedanceReading(complex(real_ohm, imaginary_ohm), volts, is_valid)

    @staticmethod
    def reading_s(frequency_Hz: float) -> float:
        """Return about how long a reading takes."""
        return SETTLE_s + USUAL_PERIODS / frequency_Hz

    def impedance(self) -> tuple[float, float, float]:
        """Return real and imaginary part of the impedance in ohm, and the voltage in V.

        Values of 1E+8 and above are no figures but the meter's codes.

        Raises
        ------
        EnvironmentFailedError
            If the meter is silent, or its reply is not three figures.
        """
        # continuous measurement comes back with the LOCAL key, and with all defaults after a cut
        state = self.link.query(":INIT:CONT?").strip()
        if state not in ("ON", "OFF"):
            raise self.link.unexpected(":INIT:CONT?", state)
        if state == "ON":
            self.tune(self.frequency_Hz)
        limit_s = self.link.spec.timeout_s + PERIODS / self.frequency_Hz
        try:
            reply = self.link.query(":READ?", limit_s)
        except EnvironmentFailedError as error:
            raise self._explained(error) from None
        fields = _READING.fullmatch(reply)
        if fields is None:
            raise self.link.unexpected(":READ?", reply)
        real_ohm, imaginary_ohm, volts = (float(text.replace(" ", "")) for text in fields.groups())
        return real_ohm, imaginary_ohm, volts

    def _explained(self, error: EnvironmentFailedError) -> EnvironmentFailedError:
        """Add to a missing reply what the meter's event register says, if it says anything."""
        try:
            events = self._events()
        except EnvironmentFailedError:
            return error
        if not events & REJECTED:
            return error
        return EnvironmentFailedError(f"{error.message}; the meter rejected it (ESR {events})")
