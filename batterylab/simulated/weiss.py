"""A simulated Weiss chamber behind a S!MPAC SimServ port.

Written from the protocol's reference: fields are separated by the byte 0xB6, a request ends in
CR, a reply in CR LF. A write is acknowledged before the register of the set point shows it. The
connection keeps no state and there is no error queue.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batterylab.simulated.world import World

SEPARATOR = "\xb6"
DONE, UNKNOWN, WRONG, UNREADABLE = "1", "-5", "-6", "-8"
LOWEST_degC, HIGHEST_degC = -40.0, 180.0
STEEPEST_K_min = 20.0
#: bench time until the register of the set point shows what was written
REGISTER_DELAY_S = 1.0
DIGITAL_CHANNELS = 7
_NUMBER = re.compile(r"[+-]?\d{1,6}(\.\d{0,6})?\Z")


class Refused(Exception):  # noqa: N818  (an answer, not an error of ours)
    """A request that the server answers with a negative status."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


class SimServ:
    """The command table of one chamber.

    Parameters
    ----------
    world : World
        Whose air the chamber drives.
    serial : str
        Told on request.

    Attributes
    ----------
    messages : list of (str, str)
        Active messages: type (1 alarm, 2 warning, 4 info) and text.
    """

    def __init__(self, world: "World", serial: str = "58226112340010") -> None:
        self.world = world
        self.serial = serial
        self.messages: list[tuple[str, str]] = []
        self.is_stuck = False
        self.digital = [False] * DIGITAL_CHANNELS
        self._shown_degC = world.air.set_degC
        self._shown_from_s = world.now_s
        self.commands: dict[str, tuple[Callable[..., str | None], int]] = {
            "99997": (self._info, 1),
            "10012": (self._status, 0),
            "11001": (self._set_point, 2),
            "11002": (self._shown_set_point, 1),
            "11004": (self._actual, 1),
            "11007": (lambda i: self._limit(i, LOWEST_degC), 1),
            "11009": (lambda i: self._limit(i, HIGHEST_degC), 1),
            "11018": (lambda: "1", 0),
            "11026": (lambda i: self._text(i, "Temperature"), 1),
            "11023": (lambda i: self._text(i, "°C"), 1),
            "11066": (lambda i: self._gradient(i, "heating_K_min"), 1),
            "11068": (lambda i, v: self._set_gradient(i, v, "heating_K_min"), 2),
            "11070": (lambda i: self._gradient(i, "cooling_K_min"), 1),
            "11072": (lambda i, v: self._set_gradient(i, v, "cooling_K_min"), 2),
            "14001": (self._switch, 2),
            "14003": (self._is_on, 1),
            "17002": (lambda: str(len(self.messages)), 0),
            "17005": (lambda i: self._message(i)[0], 1),
            "17007": (lambda i: self._message(i)[1], 1),
            "17009": (lambda i: "1" if self._message(i) else "0", 1),
            "17012": (self._reset_errors, 0),
        }

    def power_cycle(self) -> None:
        """Switch it off and on: it does not run."""
        self.world.air.is_running = False

    def stick_relay(self) -> None:
        """Weld its main contactor: it goes on as it does now, whatever it is told."""
        self.is_stuck = True

    def press_local(self) -> None:
        """Set another temperature on its panel, as a hurried colleague does."""
        self.world.air.set_degC = self._shown_degC = 60.0
        self._shown_from_s = self.world.now_s

    def answer(self, text: str) -> list[str | bytes]:
        """Carry out one request; there is always exactly one reply."""
        number, *fields = text.split(SEPARATOR)
        try:
            value = self._carry_out(number, fields)
        except Refused as refusal:
            return [refusal.status]
        return [DONE if value is None else SEPARATOR.join((DONE, value))]

    def _carry_out(self, number: str, fields: list[str]) -> str | None:
        if not re.fullmatch(r"[0-9]{5}", number) or number not in self.commands:
            raise Refused(UNKNOWN)
        handler, count = self.commands[number]
        if not fields or not fields[0].isascii() or not fields[0].isdigit():
            raise Refused(WRONG)
        if len(fields) - 1 != count:
            raise Refused(WRONG)
        return handler(*fields[1:])

    # -- information ---------------------------------------------------------------------
    def _info(self, which: str) -> str:
        known = {"1": "LabEvent T/110/40/3", "2": "2022", "3": self.serial}
        if which not in known:
            raise Refused(WRONG)
        return known[which]

    def _status(self) -> str:
        kinds = {kind for kind, _ in self.messages}
        value = 3 if self.world.air.is_running else 1
        return str(value + (4 if "2" in kinds else 0) + (8 if "1" in kinds else 0))

    def _message(self, index: str) -> tuple[str, str]:
        if not index.isdigit() or not 1 <= int(index) <= len(self.messages):
            raise Refused(UNREADABLE)
        return self.messages[int(index) - 1]

    def _reset_errors(self) -> None:
        self.messages.clear()

    @staticmethod
    def _text(variable: str, text: str) -> str:
        _check_variable(variable)
        return text

    @staticmethod
    def _limit(variable: str, value: float) -> str:
        _check_variable(variable)
        return f"{value:.1f}"

    # -- temperature ---------------------------------------------------------------------
    def _set_point(self, variable: str, value: str) -> None:
        _check_variable(variable)
        degC = _number(value, LOWEST_degC, HIGHEST_degC)
        self._settle()
        self.world.air.set_degC = degC
        self._shown_from_s = self.world.now_s + REGISTER_DELAY_S

    def _settle(self) -> None:
        if self.world.now_s >= self._shown_from_s:
            self._shown_degC = self.world.air.set_degC

    def _shown_set_point(self, variable: str) -> str:
        _check_variable(variable)
        self._settle()
        return f"{self._shown_degC:.2f}"

    def _actual(self, variable: str) -> str:
        _check_variable(variable)
        return f"{self.world.air.actual_degC:.4f}"

    def _gradient(self, variable: str, name: str) -> str:
        _check_variable(variable)
        return f"{getattr(self.world.air, name):.2f}"

    def _set_gradient(self, variable: str, value: str, name: str) -> None:
        _check_variable(variable)
        setattr(self.world.air, name, _number(value, 0.01, STEEPEST_K_min))

    # -- digital channels; channel 1 starts and stops the chamber --------------------------
    @staticmethod
    def _channel(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < 1:
            raise Refused(WRONG)
        if int(text) > DIGITAL_CHANNELS:
            raise Refused(UNREADABLE)
        return int(text) - 1

    def _switch(self, channel: str, state: str) -> None:
        index = self._channel(channel)
        if state not in ("0", "1"):
            raise Refused(WRONG)
        if index == 0 and self.is_stuck:
            return
        self.digital[index] = state == "1"
        if index == 0:
            self.world.air.is_running = self.digital[0]

    def _is_on(self, channel: str) -> str:
        index = self._channel(channel)
        self.digital[0] = self.world.air.is_running
        return "1" if self.digital[index] else "0"


def _check_variable(text: str) -> None:
    """Refuse a control variable that the chamber does not have; 1 is the temperature."""
    if not text.isascii() or not text.isdigit():
        raise Refused(WRONG)
    if text != "1":
        raise Refused(UNREADABLE)


def _number(text: str, low: float, high: float) -> float:
    if not _NUMBER.match(text) or not low <= float(text) <= high:
        raise Refused(WRONG)
    return float(text)
