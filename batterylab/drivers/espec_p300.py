"""ESPEC chambers with a P300 or SCP-220 controller.

Source: the maker's public chamber library, and public code that drives P300 and SCP-220. One
line in, one line out; there is no error queue, the error is the reply itself: ``NA:`` and the
reason. Set points have one decimal, and the readback lags the write.
"""

import re
from collections.abc import Callable

from batterylab.drivers.catalogue import NO_SERIAL, ModelSpec
from batterylab.drivers.link import Link
from batterylab.drivers.roles import ChamberReading, Identity
from batterylab.errors import EnvironmentFailedError, OutOfRangeError

TRIES = 20
PAUSE_s = 0.5
TOLERANCE_K = 0.01
#: no chamber of the family goes beyond
COLDEST_degC, HOTTEST_degC = -90.0, 250.0
MODES = ("OFF", "STANDBY", "CONSTANT", "RUN")
RUNNING = ("CONSTANT", "RUN")
_NUMBER = re.compile(r"[+-]?\d{1,4}(\.\d+)?", re.ASCII)
_REASONS = {"PROTECT ON": "release the key protection on its panel",
            "DATA OUT OF RANGE": "set its absolute limits on its panel"}  # fmt: skip


class EspecP300:
    """A chamber behind its TCP port or a serial line without an address.

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

    def _ask(self, request: str) -> str:
        reply = self.link.query(request)
        if reply.startswith("NA:"):
            reason = reply[3:].strip()
            hint = next((text for key, text in _REASONS.items() if key in reason), None)
            raise EnvironmentFailedError(
                f"{self.link.name}: {request!r} was refused: {reason}", hint=hint
            )
        return reply

    def _tell(self, command: str) -> None:
        reply = self._ask(command)
        if not reply.startswith("OK"):
            raise self.link.unexpected(command, reply)

    def _fields(self, request: str, count: int) -> list[str]:
        reply = self._ask(request)
        fields = [field.strip() for field in reply.split(",")]
        if len(fields) != count:
            raise self.link.unexpected(request, reply)
        return fields

    def _degC(self, request: str, text: str) -> float:
        if not _NUMBER.fullmatch(text) or not COLDEST_degC <= float(text) <= HOTTEST_degC:
            raise self.link.unexpected(request, text)
        return float(text)

    def _temperatures(self) -> tuple[float, float, float, float]:
        """Return actual value, set point, and the highest and the lowest that are allowed."""
        actual, wanted, high, low = (
            self._degC("TEMP?", field) for field in self._fields("TEMP?", 4)
        )
        return actual, wanted, high, low

    def identity(self) -> Identity:
        """Ask for controller and firmware; the chamber knows no serial number."""
        fields = self._ask("TYPE?").split(",")
        if len(fields) not in (3, 4):
            raise self.link.unexpected("TYPE?", ",".join(fields))
        return Identity("ESPEC", fields[-2].strip(), NO_SERIAL, self._ask("ROM?").strip())

    def set_temperature(self, degC: float) -> None:
        """Set the temperature and read it back until it holds.

        Raises
        ------
        EnvironmentFailedError
            If the set point does not follow.
        OutOfRangeError
            If it is outside the chamber's own absolute limits; nothing was sent.
        """
        _, _, high, low = self._temperatures()
        if not low <= degC <= high:
            raise OutOfRangeError(
                f"{self.link.name}: {degC:g} °C is outside {low:g} to {high:g}",
                hint="nothing was sent",
            )
        degC = round(degC, 1)
        self._tell(f"TEMP, S{degC:.1f}")
        self._await(lambda: abs(self._temperatures()[1] - degC) <= TOLERANCE_K,
                    f"the set point {degC:g} °C was not taken")  # fmt: skip

    def set_limits(self, low_degC: float, high_degC: float) -> None:
        """Set the chamber's absolute limits, which it watches by itself, and read them back.

        Raises
        ------
        OutOfRangeError
            If they are none; nothing was sent.
        EnvironmentFailedError
            If the chamber refuses, or holds others afterwards.
        """
        if not COLDEST_degC <= low_degC < high_degC <= HOTTEST_degC:
            raise OutOfRangeError(
                f"{self.link.name}: {low_degC:g} to {high_degC:g} °C are no limits",
                hint="nothing was sent",
            )
        low, high = round(low_degC, 1), round(high_degC, 1)
        self._tell(f"TEMP, H{high:.1f} L{low:.1f}")
        self._await(lambda: self._temperatures()[2:] == (high, low), "the limits were not taken")

    def _await(self, holds: Callable[[], bool], what: str) -> None:
        for _ in range(TRIES):
            if holds():
                return
            self.link.clock.sleep(PAUSE_s)
        raise EnvironmentFailedError(f"{self.link.name}: {what}")

    def _mode(self) -> str:
        return self._known_mode("MODE?", self._ask("MODE?"))

    def _known_mode(self, request: str, text: str) -> str:
        word = text.strip().split(" ")[0]
        if word not in MODES:
            raise self.link.unexpected(request, text)
        return word

    def start(self) -> None:
        """Hold the set point, and confirm it."""
        if self._mode() != "CONSTANT":
            self._tell("MODE,CONSTANT")
            self._await(lambda: self._mode() == "CONSTANT", "the chamber does not start")

    def stop(self) -> None:
        """Stop, and confirm it."""
        if self._mode() in RUNNING:
            self._tell("MODE,STANDBY")
            self._await(lambda: self._mode() not in RUNNING, "the chamber does not stop")

    def read(self) -> ChamberReading:
        """Return set point, actual value and state."""
        _, _, mode, count = self._fields("MON?", 4)
        if not re.fullmatch(r"\d{1,2}", count, re.ASCII):
            raise self.link.unexpected("MON?", count)
        actual, wanted, _, _ = self._temperatures()
        return ChamberReading(
            set_degC=wanted,
            actual_degC=actual,
            is_running=self._known_mode("MON?", mode) in RUNNING,
            has_alarm=int(count) > 0,
        )

    def alarms(self) -> list[str]:
        """Return the codes of active alarms; the chamber has no texts for them."""
        reply = self._ask("ALARM?")
        count, *codes = (field.strip() for field in reply.split(","))
        if not re.fullmatch(r"\d{1,2}", count, re.ASCII) or len(codes) != int(count):
            raise self.link.unexpected("ALARM?", reply)
        return [f"alarm {code}" for code in codes]

    def close(self) -> None:
        """Close the link; the chamber goes on."""
        self.link.close()
