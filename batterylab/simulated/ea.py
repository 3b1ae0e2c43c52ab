"""A simulated EA PSB 10060-120 on its LAN port.

Written from the vendor's guide as the command reference gives it: settings are refused until the
lock is taken, replies carry units, headers in a chain are full ones, reading the error queue
acknowledges alarms, and the interface monitoring leaves remote control when the host is silent.
Master and slave, function generator and battery test are not simulated.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from batterylab.simulated.scpi import (
    ScpiError,
    ScpiInstrument,
    illegal_parameter,
    number,
    out_of_range,
)
from batterylab.simulated.stage import PowerStage, figure

if TYPE_CHECKING:
    from batterylab.simulated.world import World

NOMINAL_V, NOMINAL_A, NOMINAL_W = 60.0, 120.0, 3000.0
OVP, OCP, UVD = 0, 1, 5
LOCAL_BIT, REMOTE_BIT, OUTPUT_BIT = 9, 10, 11
TIMEOUT_BIT = 0
LONGEST_QUEUE, MOST_COMMANDS, BUFFER = 5, 5, 256
#: SCPI's codes that this instrument words in its own way
CODES = {-113: (-100, "Command error"), -104: (-102, "Syntax error"),
         -109: (-220, "Parameter error")}  # fmt: skip
ACTIONS = {"NONE": "NONE", "SIGN": "SIGNAL", "WARN": "WARNING", "ALAR": "ALARM"}


class Psb10000(ScpiInstrument):
    """The supply's command table.

    Parameters
    ----------
    world : World
        Says what time it is, and what the air is like.
    serial : str
        Told in the identity.
    stage : PowerStage, optional
        With the cell; one of its own with nothing at its terminals if not given.
    """

    def __init__(
        self, world: "World", serial: str = "2023120002", stage: PowerStage | None = None
    ) -> None:
        super().__init__(
            f"EA Elektro-Automatik GmbH&Co.KG, PSB 10060-120, {serial}, "
            "V3.06 24.05.2023 V3.03 05.10.2022 V1.0.0",
            queue_length=LONGEST_QUEUE, signed_zero=False,
        )  # fmt: skip
        self.world = world
        self.stage = stage or PowerStage(world)
        self.stage.watchers.append(self.watch)
        self.saved = {"MON:ACT": "OFF", "AFT:REM": "OFF", "OUTP:REST": "OFF", "PF": "OFF",
                      "OTEM": "OFF"}  # fmt: skip
        self.saved_s = {"MON:TIM": 5.0, "LAN:TIM": 5.0}
        self._power_on()
        self._commands()

    def _power_on(self) -> None:
        self.errors.clear()
        self.owner = "NONE"
        self.active: set[int] = set()
        self.unacknowledged: set[int] = set()
        self.has_timed_out = False
        self.last_heard_s = self.world.now_s
        self.levels = {"VOLT": 0.0, "CURR": 0.0, "SINK": 0.0, "POW": NOMINAL_W,
                       "SINKPOW": NOMINAL_W}  # fmt: skip
        self.protections = {"VOLT": 1.1 * NOMINAL_V, "CURR": 1.1 * NOMINAL_A,
                            "SINK": 1.1 * NOMINAL_A}  # fmt: skip
        self.uvd_V, self.uvd_action = 0.0, "NONE"
        self.stage.release()

    def power_cycle(self) -> None:
        """Switch it off and on: what is not saved is gone, the output is off."""
        self._power_on()

    def press_local(self) -> None:
        """Press Local on its panel: remote control is taken away."""
        self._leave_remote()
        self.owner = "LOCAL"

    def stick_relay(self) -> None:
        """Weld its output relay: it says that it is off, and current flows on."""
        self.stage.sticks = True

    def swap_leads(self) -> None:
        """Put the leads back the wrong way round."""
        self.stage.swap_leads()

    def _leave_remote(self) -> None:
        if self.owner == "REMOTE" and self.saved["AFT:REM"] == "OFF":
            self.stage.release()
        self.owner = "NONE"

    # -- table -----------------------------------------------------------------------------
    def _commands(self) -> None:
        self.add("*RST", self._reset)
        self.add("SYSTem:LOCK", self._lock)
        self.add("SYSTem:LOCK:OWNer?", lambda: self.owner)
        self.add("SYSTem:ERRor:ALL?", self._all_errors)
        self.add("STATus:QUEStionable:CONDition?", lambda: str(self._condition()))
        self.add("STATus:OPERation:CONDition?", lambda: str(int(self.has_timed_out)))
        self._level("[SOURce:]VOLTage", "VOLT", 1.02 * NOMINAL_V, "V")
        self._level("[SOURce:]CURRent", "CURR", 1.02 * NOMINAL_A, "A")
        self._level("[SOURce:]POWer", "POW", 1.02 * NOMINAL_W, "W")
        self._level("SINK:CURRent", "SINK", 1.02 * NOMINAL_A, "A")
        self._level("SINK:POWer", "SINKPOW", 1.02 * NOMINAL_W, "W")
        self._protection("[SOURce:]VOLTage:PROTection", "VOLT", NOMINAL_V, "V")
        self._protection("[SOURce:]CURRent:PROTection", "CURR", NOMINAL_A, "A")
        self._protection("SINK:CURRent:PROTection", "SINK", NOMINAL_A, "A")
        self._setting("SYSTem:CONFig:UVD", self._set_uvd, lambda: f"{self.uvd_V:.3f} V")
        self._setting("SYSTem:CONFig:UVD:ACTion", self._set_action, lambda: self.uvd_action)
        self._saved("SYSTem:COMMunicate:MONitor:ACTion", "MON:ACT", ("ON", "OFF"))
        self._saved("POWer:STAGe:AFTer:REMote", "AFT:REM", ("AUTO", "OFF"))
        self._saved("SYSTem:CONFig:OUTPut:RESTore", "OUTP:REST", ("AUTO", "OFF"))
        self._saved("SYSTem:ALARm:ACTion:PFail", "PF", ("AUTO", "OFF"))
        self._saved("SYSTem:ALARm:ACTion:OTEMp", "OTEM", ("AUTO", "OFF"))
        self._seconds("SYSTem:COMMunicate:MONitor:TIMeout", "MON:TIM", 1.0)
        self._seconds("SYSTem:COMMunicate:LAN:TIMeout", "LAN:TIM", 0.0)
        self._setting("OUTPut", self._output, lambda: "ON" if self.stage.is_on else "OFF")
        self.add("MEASure:VOLTage?", lambda: f"{figure(self.stage.voltage_V, 3)} V")
        self.add("MEASure:CURRent?", lambda: f"{figure(self.stage.current_A, 3)} A")
        self.add("MEASure:ARRay?", self._array)
        self.add("SYSTem:NOMinal:VOLTage?", lambda: f"{NOMINAL_V:.0f} V")
        self.add("SYSTem:NOMinal:CURRent?", lambda: f"{NOMINAL_A:.0f} A")
        self.add("SYSTem:NOMinal:POWer?", lambda: f"{NOMINAL_W:.0f} W")

    def _setting(
        self, definition: str, put: Callable[[str], None], get: Callable[[], str]
    ) -> None:
        """Add a setting, which is refused outside of remote control, and its query."""

        def guarded(value: str) -> None:
            if self.owner == "LOCAL":
                raise ScpiError(-201, "Invalid while in local")
            if self.owner != "REMOTE":
                raise ScpiError(-221, "Settings conflict")
            put(value)

        head = definition.replace("[SOURce:]", "[SOURce]:")
        self.add(head, guarded)
        self.add(head + "?", get)

    def _level(self, definition: str, name: str, most: float, unit: str) -> None:
        def put(value: str) -> None:
            self.levels[name] = number(value, 0.0, most)
            self._redrive()

        self._setting(definition, put, lambda: f"{self.levels[name]:.3f} {unit}")

    def _protection(self, definition: str, name: str, nominal: float, unit: str) -> None:
        def put(value: str) -> None:
            self.protections[name] = number(value, 0.0, 1.1 * nominal + 1e-6)

        self._setting(definition, put, lambda: f"{self.protections[name]:.3f} {unit}")

    def _saved(self, definition: str, name: str, words: tuple[str, ...]) -> None:
        def put(value: str) -> None:
            if value.upper() not in words:
                raise illegal_parameter()
            self.saved[name] = value.upper()

        self._setting(definition, put, lambda: self.saved[name])

    def _seconds(self, definition: str, name: str, least: float) -> None:
        def put(value: str) -> None:
            self.saved_s[name] = number(value, least, 36000.0)

        self._setting(definition, put, lambda: f"{self.saved_s[name]:.0f}")

    # -- lines -----------------------------------------------------------------------------
    def answer(self, text: str) -> list[str | bytes]:
        """Carry out one line of at most five commands with full headers."""
        self.last_heard_s = self.world.now_s
        parts = [part.strip() for part in text.split(";") if part.strip()]
        if len(parts) > MOST_COMMANDS or len(text) > BUFFER:
            self.fault(ScpiError(-223, "Too much data"))
            return []
        replies: list[str] = []
        for part in parts:
            if part.startswith(":") and len(parts) > 1:
                self.fault(ScpiError(-100, "Command error"))
                break
            before = len(self.errors)
            replies += [str(reply) for reply in super().answer(part)]
            if len(self.errors) > before:
                break
        joined = ";".join(replies)
        if len(joined) > BUFFER:
            self.fault(ScpiError(-225, "Out of memory"))
            return []
        return [joined] if replies else []

    def fault(self, error: ScpiError) -> None:
        """Put an error into the short queue; what does not fit is lost."""
        code, text = CODES.get(error.code, (error.code, error.text))
        self.event_status |= 32 if -200 < code <= -100 else 16
        if len(self.errors) < self.queue_length:
            self.errors.append(f'{code},"{text}"')

    def _next_error(self) -> str:
        self.unacknowledged &= self.active
        return super()._next_error()

    def _all_errors(self) -> str:
        found = [self._next_error()]
        while self.errors:
            found.append(self._next_error())
        return ",".join(found)

    # -- control ---------------------------------------------------------------------------
    def _lock(self, state: str) -> None:
        if state.upper() not in ("ON", "OFF", "1", "0"):
            raise illegal_parameter()
        if self.owner == "LOCAL":
            raise ScpiError(-201, "Invalid while in local")
        if state.upper() in ("ON", "1"):
            self.owner, self.has_timed_out = "REMOTE", False
        else:
            self._leave_remote()

    def leave_local(self) -> None:
        """Leave LOCAL on the panel: remote control is possible again."""
        self.owner = "NONE"

    def _reset(self) -> None:
        if self.owner == "LOCAL":
            raise ScpiError(-201, "Invalid while in local")
        self.owner = "REMOTE"
        self.stage.release()
        self.unacknowledged &= self.active
        self.levels.update(VOLT=0.0, CURR=0.0, SINK=0.0)

    def _set_uvd(self, value: str) -> None:
        self.uvd_V = number(value, 0.0, NOMINAL_V)

    def _set_action(self, value: str) -> None:
        upper = value.upper()
        if upper not in {*ACTIONS, *ACTIONS.values()}:
            raise illegal_parameter()
        self.uvd_action = ACTIONS.get(upper, upper)

    def _output(self, state: str) -> None:
        if state.upper() not in ("ON", "OFF", "1", "0"):
            raise illegal_parameter()
        if state.upper() in ("OFF", "0"):
            self.stage.release()
            return
        if self.unacknowledged:
            raise ScpiError(-221, "Settings conflict")
        if self.levels["VOLT"] > self.protections["VOLT"]:
            raise out_of_range()
        self.stage.release()
        self._drive()
        self._watch_output()

    def _drive(self) -> None:
        self.stage.drive(self.levels["VOLT"], self.levels["CURR"], self.levels["SINK"])

    def _redrive(self) -> None:
        if self.stage.is_on:
            self._drive()

    # -- what it watches -------------------------------------------------------------------
    def watch(self, _: float) -> None:
        """Look at protections and at the host's silence, as it does all the time."""
        silent_s = self.stage.moment_s - self.last_heard_s
        is_monitored = self.saved["MON:ACT"] == "ON" and self.owner == "REMOTE"
        if is_monitored and silent_s >= self.saved_s["MON:TIM"]:
            self.has_timed_out = True
            self._leave_remote()
        self._watch_output()

    def _watch_output(self) -> None:
        self.active = set()
        if not self.stage.is_on:
            return
        volts, amps = self.stage.voltage_V, self.stage.current_A
        if volts > self.protections["VOLT"]:
            self.active.add(OVP)
        if amps > self.protections["CURR"] or -amps > self.protections["SINK"]:
            self.active.add(OCP)
        if self.uvd_action == "ALARM" and volts < self.uvd_V:
            self.active.add(UVD)
        if self.active:
            self.unacknowledged |= self.active
            self.stage.release()
            self.active = set()

    def _condition(self) -> int:
        bits = {*self.active, *self.unacknowledged}
        bits |= {LOCAL_BIT} if self.owner == "LOCAL" else set()
        bits |= {REMOTE_BIT} if self.owner == "REMOTE" else set()
        bits |= {OUTPUT_BIT} if self.stage.is_on else set()
        return sum(1 << bit for bit in bits)

    def _array(self) -> str:
        volts, amps = self.stage.voltage_V, self.stage.current_A
        watts = volts * amps
        power = f"{figure(watts, 1)} W" if abs(watts) < 1000 else f"{watts / 1000:.3f} kW"
        if math.isnan(watts):
            power = "0.0 W"
        return f"{figure(volts, 3)} V, {figure(amps, 3)} A, {power}"
