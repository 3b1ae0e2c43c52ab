"""Weiss and Voetsch chambers over S!MPAC SimServ.

Source: SIMPAC SimServ manual, 2019-05. Fields are separated by the byte 0xB6, a request ends
with CR and a reply with CR LF. A write is acknowledged before the register updates, so it is
read back until it holds. Always read 14003 before and after 14001: the link keeps no state.
"""

from batterylab.drivers.catalogue import ModelSpec
from batterylab.drivers.link import Link
from batterylab.drivers.roles import ChamberReading, Identity
from batterylab.errors import EnvironmentFailedError

SEPARATOR = "\xb6"
TRIES = 20
PAUSE_s = 0.5
TEMPERATURE = "1"
RUN_CHANNEL = "1"


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
        try:
            return float(values[0])
        except (IndexError, ValueError):
            raise self.link.unexpected(f"{command:05d}", str(values)) from None

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
        """
        self._ask(11001, TEMPERATURE, f"{degC:.1f}")
        for _ in range(TRIES):
            if abs(self._number(11002, TEMPERATURE) - degC) <= 0.06:
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
        status = int(self._number(10012))
        return ChamberReading(
            set_degC=self._number(11002, TEMPERATURE),
            actual_degC=self._number(11004, TEMPERATURE),
            is_running=status & 3 == 3,
            has_alarm=bool(status & 8),
        )

    def close(self) -> None:
        """Close the link; the chamber goes on."""
        self.link.close()
