"""Weiss and Voetsch chambers over S!MPAC SimServ.

Source: SIMPAC SimServ manual, 2019-05. Fields are separated by the byte 0xB6, a request ends
with CR and a reply with CR LF. A write is acknowledged before the register updates, so it is
read back until it holds. Always read 14003 before and after 14001: the link keeps no state.
"""

import re

from batterylab.drivers.catalogue import ModelSpec
from batterylab.drivers.link import Link
from batterylab.drivers.roles import ChamberReading, Identity
from batterylab.errors import EnvironmentFailedError, OutOfRangeError

SEPARATOR = "\xb6"
_NUMBER = re.compile(r" *[+-]?\d{1,9}(\.\d*)? *", re.ASCII)
TRIES = 20
PAUSE_s = 0.5
TEMPERATURE = "1"
RUN_CHANNEL = "1"
TOLERANCE_K = 0.01
MOST_MESSAGES = 50
#: the states of 10012 without its flags for warnings (4) and alarms (8)
STOPPED, RUNNING = 1, 3


class WeissSimServ:
    """A chamber behind a SimServ port.

    Parameters
    ----------
    link : Link
        Open.
    spec : ModelSpec
        From the catalogue.
    """

    def __init__(self, link: Link, spec: ModelSpec) -> None:
        self.link = link
        self.spec = spec

    def _ask(self, command: int, *arguments: str) -> list[str]:
        request = SEPARATOR.join([f"{command:05d}", "1", *arguments])
        reply = self.link.query(request)
        status, *values = reply.split(SEPARATOR)
        if status.strip() != "1":
            meaning = {"-5": "unknown command", "-6": "wrong parameters", "-8": "cannot be read"}
            what = meaning.get(status.strip(), "refused")
            raise EnvironmentFailedError(f"{self.link.name}: {command:05d}: {what} ({reply!r})")
        return values

    def _number(self, command: int, *arguments: str) -> float:
        values = self._ask(command, *arguments)
        if len(values) != 1 or not _NUMBER.fullmatch(values[0]):
            raise self.link.unexpected(f"{command:05d}", str(values))
        return float(values[0])

    def identity(self) -> Identity:
        """Ask for type and serial number of the chamber."""
        kind = self._ask(99997, "1")
        serial = self._ask(99997, "3")
        if not kind or not serial:
            raise self.link.unexpected("99997", f"{kind} {serial}")
        return Identity("Weiss", kind[0].strip(), serial[0].strip(), "SimServ")

    def set_temperature(self, degC: float) -> None:
        """Set the temperature and read it back until it holds.

        Raises
        ------
        EnvironmentFailedError
            If the register does not follow.
        OutOfRangeError
            If the chamber does not take this temperature.
        """
        low, high = self._number(11007, TEMPERATURE), self._number(11009, TEMPERATURE)
        if not low <= degC <= high:
            raise OutOfRangeError(
                f"{self.link.name}: {degC:g} °C is outside {low:g} to {high:g}",
                hint="nothing was sent",
            )
        degC = round(degC, 1)
        self._ask(11001, TEMPERATURE, f"{degC:.1f}")
        for _ in range(TRIES):
            if abs(self._number(11002, TEMPERATURE) - degC) <= TOLERANCE_K:
                return
            self.link.clock.sleep(PAUSE_s)
        raise EnvironmentFailedError(f"{self.link.name}: the set point {degC:g} °C was not taken")

    def start(self) -> None:
        """Start, and confirm it."""
        self._switch(True)

    def stop(self) -> None:
        """Stop, and confirm it."""
        self._switch(False)

    def _is_running(self) -> bool:
        return self._number(14003, RUN_CHANNEL) != 0

    def _switch(self, on: bool) -> None:
        if self._is_running() == on:
            return
        self._ask(14001, RUN_CHANNEL, "1" if on else "0")
        for _ in range(TRIES):
            if self._is_running() == on:
                return
            self.link.clock.sleep(PAUSE_s)
        word = "start" if on else "stop"
        raise EnvironmentFailedError(f"{self.link.name}: the chamber does not {word}")

    def read(self) -> ChamberReading:
        """Return set point, actual value and state."""
        status = self._status()
        return ChamberReading(
            set_degC=self._number(11002, TEMPERATURE),
            actual_degC=self._number(11004, TEMPERATURE),
            is_running=status & 3 == RUNNING,
            has_alarm=bool(status & 8),
        )

    def _status(self) -> int:
        value = self._number(10012)
        if value != int(value) or not 0 <= value <= 15 or int(value) & 3 not in (STOPPED, RUNNING):
            raise self.link.unexpected("10012", f"{value:g}")
        return int(value)

    def alarms(self) -> list[str]:
        """Return the texts of active warnings and alarms."""
        if not self._status() & 12:
            return []
        texts = []
        for number in range(1, min(int(self._number(17002)), MOST_MESSAGES) + 1):
            if self._number(17009, str(number)) == 1 and self._number(17005, str(number)) != 4:
                texts.append("".join(self._ask(17007, str(number))).strip())
        return texts or ["the status shows a warning or an alarm without a text"]

    def close(self) -> None:
        """Close the link; the chamber goes on."""
        self.link.close()
