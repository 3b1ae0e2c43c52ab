"""A simulated Keithley 2450 or 2460 on its socket.

Written from the user manuals' chapter on rechargeable batteries as the command reference gives
it. What it sources and what it measures are set apart, sense settings belong to the active
function, a reading with the output off is refused, a reading beyond its range is 9.9E+37, and the
normal off state drains the cell. Buffers other than ``defbuffer1`` and triggers are not simulated.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from batterylab.simulated.scpi import (
    ScpiError,
    ScpiInstrument,
    illegal_parameter,
    number,
    out_of_range,
)
from batterylab.simulated.stage import PowerStage

if TYPE_CHECKING:
    from batterylab.simulated.world import World

OVERFLOW = 9.9e37
CURRENT_RANGES_A = {
    "2450": (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0),
    "2460": (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 4.0, 7.0),
    "2461": (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 4.0, 7.0),
}
VOLTAGE_RANGES_V = (0.2, 2.0, 20.0, 200.0)
LEVELS = ("NONE", "PROT2", "PROT5", "PROT10", "PROT20")
OFF_STATES = {"NORM": "NORMAL", "ZERO": "ZERO", "GUAR": "GUARD", "HIMP": "HIMPEDANCE"}
HEADROOM = 1.05
ELEMENTS = {"SOUR": "SOURCE", "READ": "READING", "REL": "RELATIVE"}
#: what the normal off state draws from a cell
DRAIN_A = 0.1


class Smu24xx(ScpiInstrument):
    """The unit's command table.

    Parameters
    ----------
    world : World
        Says what time it is, and what the air is like.
    serial : str
        Told in the identity.
    model : str
        ``2450``, ``2460`` or ``2461``.
    stage : PowerStage, optional
        With the cell; one of its own with nothing at its terminals if not given.
    """

    def __init__(
        self, world: "World", serial: str = "04412345", model: str = "2460",
        stage: PowerStage | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            f"KEITHLEY INSTRUMENTS,MODEL {model},{serial},1.7.12b", queue_length=20,
            signed_zero=False,
        )  # fmt: skip
        self.world = world
        self.ranges_A = CURRENT_RANGES_A[model]
        self.language = "SCPI"
        self.stage = stage or PowerStage(world)
        self.start_s = world.now_s
        self._defaults()
        self._commands()

    def _defaults(self) -> None:
        self.source, self.sense = "VOLT", "CURR"
        self.output = False
        self.off_state = {"VOLT": "NORM", "CURR": "NORM"}
        self.values = {"VOLT": 0.0, "CURR": 0.0, "ILIM": 1e-4, "VLIM": 2.0}
        self.source_range = {"VOLT": VOLTAGE_RANGES_V[1], "CURR": self.ranges_A[3]}
        self.sense_range = {"VOLT": VOLTAGE_RANGES_V[-1], "CURR": self.ranges_A[3]}
        self.flags = {"VOLT:RSEN": False, "CURR:RSEN": False, "VOLT:BACK": True, "CURR:BACK": True}
        self.protection = "NONE"
        self._drive()

    def power_cycle(self) -> None:
        """Switch it off and on: all settings are defaults, and the off state is the normal one."""
        self.errors.clear()
        self._defaults()

    def press_local(self) -> None:
        """Press OUTPUT on its panel: the output goes off."""
        self.output = self.output and self.stage.sticks
        self._drive()

    def stick_relay(self) -> None:
        """Weld its output relay: it does not go off any more, and says so.

        With the output off it measures nothing: a relay that sticks unnoticed cannot be seen.
        """
        self.stage.sticks = True

    def swap_leads(self) -> None:
        """Put the leads back the wrong way round."""
        self.stage.swap_leads()

    # -- table -----------------------------------------------------------------------------
    def _commands(self) -> None:
        self.add("*RST", self._defaults)
        self.add("*LANG?", lambda: self.language)
        self.add("SYSTem:CLEar", self._clear_status)
        self._pair("OUTPut[:STATe]", self._output, lambda: str(int(self.output)))
        self._pair("SOURce:FUNCtion", self._set_source, lambda: self.source)
        self._pair("SENSe:FUNCtion", self._set_sense, lambda: f'"{self.sense}:DC"')
        for word, key, ranges in (("VOLTage", "VOLT", VOLTAGE_RANGES_V),
                                  ("CURRent", "CURR", self.ranges_A)):  # fmt: skip
            self._off(word, key)
            self._value(f"SOURce:{word}", key, self.source_range, key)
            self._range(f"SOURce:{word}:RANGe", self.source_range, key, ranges)
            self._range(f"SENSe:{word}:RANGe", self.sense_range, key, ranges)
            self._flag(f"SENSe:{word}:RSENse", f"{key}:RSEN")
            self._flag(f"SOURce:{word}:READ:BACK", f"{key}:BACK")
        self._value("SOURce:VOLTage:ILIMit", "ILIM", None, "CURR")
        self._value("SOURce:CURRent:VLIMit", "VLIM", None, "VOLT")
        self.add("SOURce:VOLTage:ILIMit:TRIPped?", lambda: str(int(self._is_current_limited())))
        self.add("SOURce:CURRent:VLIMit:TRIPped?", lambda: str(int(self._is_voltage_limited())))
        for command in [c for c in self.commands if c.endswith(":TRIPPED?")]:
            self.commands[command.replace(":TRIPPED?", ":TRIP?")] = self.commands[command]
        self._pair("SOURce:VOLTage:PROTection", self._protect, lambda: self.protection)
        self.add("READ?", self._read)

    def _pair(self, definition: str, put: Callable[[str], None], get: Callable[[], str]) -> None:
        self.add(definition, put)
        self.add(definition + "?", get)

    def _off(self, word: str, key: str) -> None:
        def put(state: str) -> None:
            upper = state.upper()
            if upper not in {*OFF_STATES, *OFF_STATES.values()}:
                raise illegal_parameter()
            self.off_state[key] = next(
                k for k, long in OFF_STATES.items() if upper in (k, long)
            )
            self._drive()

        self._pair(f"OUTPut:{word}:SMODe", put, lambda: self.off_state[key])

    def _value(
        self, definition: str, name: str, scale: dict[str, float] | None, kind: str
    ) -> None:
        def put(value: str) -> None:
            most = (VOLTAGE_RANGES_V if kind == "VOLT" else self.ranges_A)[-1]
            if scale is not None:
                most = self.source_range[kind]
            wanted = number(value, -most * HEADROOM, most * HEADROOM)
            if name in ("ILIM", "VLIM") and wanted <= 0:
                raise out_of_range()
            if name == "ILIM" and wanted > self.sense_range["CURR"] * HEADROOM:
                raise ScpiError(-221, "Settings conflict")
            self.values[name] = wanted
            self._drive()

        self._pair(definition, put, lambda: f"{self.values[name]:.6E}")

    def _range(
        self, definition: str, kept: dict[str, float], key: str, ranges: tuple[float, ...]
    ) -> None:
        def put(value: str) -> None:
            wanted = abs(number(value, -ranges[-1], ranges[-1]))
            chosen = next((r for r in ranges if r >= wanted), ranges[-1])
            self._scales(definition)[key] = chosen

        self._pair(definition, put, lambda: f"{self._scales(definition)[key]:.6E}")

    def _scales(self, definition: str) -> dict[str, float]:
        return self.source_range if definition.startswith("SOUR") else self.sense_range

    def _flag(self, definition: str, name: str) -> None:
        def put(value: str) -> None:
            self.flags[name] = _switch(value)

        self._pair(definition, put, lambda: str(int(self.flags[name])))

    # -- control ---------------------------------------------------------------------------
    def _output(self, state: str) -> None:
        self.output = _switch(state) or (self.output and self.stage.sticks)
        self._drive()

    def _set_source(self, function: str) -> None:
        wanted = _function(function)
        if wanted != self.source:
            self.source, self.output = wanted, False
        self._drive()

    def _set_sense(self, function: str) -> None:
        if len(function) < 2 or function[0] not in "\"'" or function[-1] != function[0]:
            raise ScpiError(-104, "Data type error")
        self.sense = _function(function[1:-1].upper().removesuffix(":DC"))

    def _protect(self, level: str) -> None:
        if level.upper() not in LEVELS:
            raise illegal_parameter()
        self.protection = level.upper()

    def _limit_V(self) -> float:
        level = self.protection
        return float(level[4:]) if level != "NONE" else VOLTAGE_RANGES_V[-1]

    def _drive(self) -> None:
        values = self.values
        if self.output and self.source == "VOLT":
            limit_A = values["ILIM"]
            self.stage.drive(min(values["VOLT"], self._limit_V()), limit_A, limit_A)
        elif self.output and values["CURR"] > 0:
            self.stage.drive(min(values["VLIM"], self._limit_V()), values["CURR"], 0.0)
        elif self.output and values["CURR"] < 0:
            self.stage.drive(-values["VLIM"], 0.0, -values["CURR"])
        elif self.output and self._is_voltage_limited():
            self.stage.drive(values["VLIM"], 0.0, self.sense_range["CURR"])
        elif not self.output and self.off_state[self.source] == "NORM":
            self.stage.drive(0.0, 0.0, DRAIN_A)
        else:
            self.stage.release()

    def _is_current_limited(self) -> bool:
        if not self.output or self.source != "VOLT":
            return False
        return abs(self.stage.current_A) > 0.9999 * self.values["ILIM"]

    def _is_voltage_limited(self) -> bool:
        return self.output and self.source == "CURR" and self._terminals_V() >= self.values["VLIM"]

    def _terminals_V(self) -> float:
        """Return the voltage at the terminals; a current source on open leads goes to its limit."""
        if self.stage.serial is None and self.output and self.source == "CURR":
            return min(self.values["VLIM"], self._limit_V())
        return self.stage.voltage_V

    # -- readings --------------------------------------------------------------------------
    def _read(self, buffer: str = '"defbuffer1"', *elements: str) -> str:
        if buffer.strip("\"'") != "defbuffer1" or buffer[0] not in "\"'":
            raise ScpiError(-224, "Illegal parameter value")
        if not self.output:
            raise ScpiError(803, "Not permitted with output off")
        names = [_element(word) for word in elements] or ["READING"]
        return ",".join(f"{self._element_value(name):.6E}" for name in names)

    def _element_value(self, name: str) -> float:
        if name == "RELATIVE":
            return self.world.now_s - self.start_s
        kind = self.sense if name == "READING" else self.source
        if name == "SOURCE" and not self.flags[f"{kind}:BACK"]:
            return self.values[kind]
        value = self._terminals_V() if kind == "VOLT" else self.stage.current_A
        is_over = name == "READING" and abs(value) > HEADROOM * self.sense_range[kind]
        return OVERFLOW if is_over else value


def _element(word: str) -> str:
    upper = word.upper()
    if upper not in {*ELEMENTS, *ELEMENTS.values()}:
        raise illegal_parameter()
    return ELEMENTS.get(upper, upper)


def _function(word: str) -> str:
    upper = word.upper()
    if upper not in ("VOLT", "VOLTAGE", "CURR", "CURRENT"):
        raise illegal_parameter()
    return upper[:4]


def _switch(text: str) -> bool:
    if text.upper() not in ("0", "1", "OFF", "ON"):
        raise illegal_parameter()
    return text.upper() in ("1", "ON")
