"""A simulated ESPEC chamber with a P300 controller.

Written from the reply grammar of the maker's public library. One line in, one line out; what is
refused is answered with ``NA:`` and the reason. Programs, humidity and the cascade are not
simulated: a controller without them answers that it is not ready.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batterylab.simulated.world import World

LOWEST_degC, HIGHEST_degC = -45.0, 185.0
#: bench time until the set point shows what was written
DELAY_S = 1.0
_VALUES = re.compile(r"(?:[SHL][+-]?\d{1,3}(?:\.\d)?)(?: +[SHL][+-]?\d{1,3}(?:\.\d)?)*")
_PROGRAM = re.compile(r"(PRGM|RUN PRGM|TIMER|TEMP PTC|HUMI)\b")


class Refused(Exception):  # noqa: N818  (an answer, not an error of ours)
    """A line that the controller answers with NA."""


class P300:
    """The command table of one chamber.

    Parameters
    ----------
    world : World
        Whose air the chamber drives.

    Attributes
    ----------
    codes : list of int
        Active alarms.
    is_protected : bool
        Whether its keys are protected: then it takes no setting.
    """

    def __init__(self, world: "World") -> None:
        self.world = world
        self.codes: list[int] = []
        self.is_protected = self.is_stuck = False
        self._power_on()

    def _power_on(self) -> None:
        self.mode = "STANDBY"
        self.high_degC, self.low_degC = HIGHEST_degC, LOWEST_degC
        self.world.air.is_running = False
        self._shown_degC = self.world.air.set_degC
        self._shown_from_s = self.world.now_s

    def power_cycle(self) -> None:
        """Switch it off and on: it stands by."""
        self._power_on()

    def stick_relay(self) -> None:
        """Weld its main contactor: it goes on as it does now, whatever it is told."""
        self.is_stuck = True

    def press_local(self) -> None:
        """Set another temperature on its panel, as a hurried colleague does."""
        self.world.air.set_degC = self._shown_degC = 60.0
        self._shown_from_s = self.world.now_s

    def answer(self, text: str) -> list[str | bytes]:
        """Carry out one line; there is always exactly one reply."""
        try:
            return [self._carry_out(text.strip())]
        except Refused as refusal:
            return [f"NA:{refusal}"]

    def _carry_out(self, line: str) -> str:
        queries: dict[str, Callable[[], str]] = {
            "ROM?": lambda: "P3RTM11 1.11", "TYPE?": lambda: f"T,P300,{HIGHEST_degC:.1f}",
            "MODE?": lambda: self.mode, "MON?": self._monitor, "TEMP?": self._temperatures,
            "ALARM?": lambda: ",".join(map(str, (len(self.codes), *self.codes))),
            "KEYPROTECT?": lambda: "ON" if self.is_protected else "OFF",
            "DATE?": lambda: "26.01/05", "TIME?": lambda: "06:00:00",
        }  # fmt: skip
        if line in queries:
            return queries[line]()
        if _PROGRAM.match(line):
            raise Refused("CONT NOT READY-1")
        head, _, rest = line.partition(",")
        if head not in ("MODE", "TEMP", "POWER") or not rest:
            raise Refused("CMD ERR")
        if self.is_protected:
            raise Refused("PROTECT ON")
        {"MODE": self._set_mode, "TEMP": self._set_temperature, "POWER": self._power}[head](
            rest.strip()
        )
        return f"OK:{line}"

    # -- settings --------------------------------------------------------------------------
    def _set_mode(self, mode: str) -> None:
        if re.fullmatch(r"RUN\d{1,2}", mode):
            raise Refused("CONT NOT READY-1")
        if mode not in ("OFF", "STANDBY", "CONSTANT"):
            raise Refused("PARA ERR")
        if self.is_stuck:
            return
        self.mode = mode
        self.world.air.is_running = mode == "CONSTANT"

    def _power(self, state: str) -> None:
        if state not in ("ON", "OFF"):
            raise Refused("PARA ERR")
        self._set_mode("CONSTANT" if state == "ON" else "OFF")

    def _set_temperature(self, text: str) -> None:
        if not _VALUES.fullmatch(text):
            raise Refused("PARA ERR")
        values = {part[0]: float(part[1:]) for part in text.split()}
        high, low = values.get("H", self.high_degC), values.get("L", self.low_degC)
        if not LOWEST_degC <= low < high <= HIGHEST_degC:
            raise Refused("DATA OUT OF RANGE")
        if "S" in values and not low <= values["S"] <= high:
            raise Refused("DATA OUT OF RANGE")
        self.high_degC, self.low_degC = high, low
        if "S" in values:
            self._settle()
            self.world.air.set_degC = values["S"]
            self._shown_from_s = self.world.now_s + DELAY_S

    def _settle(self) -> None:
        if self.world.now_s >= self._shown_from_s:
            self._shown_degC = self.world.air.set_degC

    # -- readings --------------------------------------------------------------------------
    def _monitor(self) -> str:
        return f"{self.world.air.actual_degC:.1f},,{self.mode},{len(self.codes)}"

    def _temperatures(self) -> str:
        self._settle()
        figures = (self.world.air.actual_degC, self._shown_degC, self.high_degC, self.low_degC)
        return ",".join(f"{value:.1f}" for value in figures)
