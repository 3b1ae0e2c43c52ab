"""A simulated ITECH IT-M3905D on its socket.

Written from the commands that public code sends to real units. In its battery mode it ends by
itself on voltage, current, capacity or time. A charge ends at once where its shut-off voltage is
not above the charge voltage, a discharge where its voltage is not below the shut-off voltage.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from batterylab.simulated.scpi import ScpiError, ScpiInstrument, illegal_parameter, number
from batterylab.simulated.stage import PowerStage, figure

if TYPE_CHECKING:
    from batterylab.simulated.world import World

MOST_V, MOST_A = 80.0, 120.0
MODES = {"FIX": "FIXED", "BATT": "BATTERY"}
WAYS = {"CHAR": "CHARGE", "DISC": "DISCHARGE"}


class ItM3905(ScpiInstrument):
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
        self, world: "World", serial: str = "800123020777710012", stage: PowerStage | None = None
    ) -> None:
        super().__init__(
            f"ITECH Ltd.,IT-M3905D-80-120,{serial},000.001.007", queue_length=20,
            signed_zero=False,
        )  # fmt: skip
        self.world = world
        self.stage = stage or PowerStage(world)
        self.stage.watchers.append(self.watch)
        self._power_on()
        self._commands()

    def _power_on(self) -> None:
        self.errors.clear()
        self.mode, self.way = "FIXED", "CHARGE"
        self.values = {"VOLT": 0.0, "CURR": 0.01 * MOST_A, "OVP": 1.1 * MOST_V, "UVP": 0.0,
                       "OCP": 1.1 * MOST_A, "CHAR:VOLT": 0.0, "CHAR:CURR": 0.0, "DISC:VOLT": 0.0,
                       "DISC:CURR": 0.0, "SHUT:VOLT": 0.0, "SHUT:CURR": 0.0, "SHUT:CAP": 0.0,
                       "SHUT:TIME": 0.0}  # fmt: skip
        self.flags = {"OCP": False, "SENSE": False}
        self.elapsed_s = self.amp_hours = 0.0
        self.stage.release()

    def power_cycle(self) -> None:
        """Switch it off and on: all settings are defaults, the output is off."""
        self._power_on()

    def press_local(self) -> None:
        """Press On/Off on its panel: the output goes off."""
        self.stage.release()

    def stick_relay(self) -> None:
        """Weld its output relay: it says that it is off, and current flows on."""
        self.stage.sticks = True

    def swap_leads(self) -> None:
        """Put the leads back the wrong way round."""
        self.stage.swap_leads()

    # -- table -----------------------------------------------------------------------------
    def _commands(self) -> None:
        self.add("*RST", self._power_on)
        self.add("SYSTem:REMote", lambda: None)
        self.add("SYSTem:LOCal", lambda: None)
        self.add("SYSTem:CLEar", self._clear_status)
        self.add("SYSTem:VERSion?", lambda: "1999.0")
        self._pair("FUNCtion:MODE", self._set_mode, lambda: self.mode)
        self._figure("VOLTage", "VOLT", 0.0, MOST_V)
        self._figure("CURRent", "CURR", -MOST_A, MOST_A)
        self._figure("VOLTage[:OVER]:PROTection[:LEVel]", "OVP", 0.0, 1.1 * MOST_V)
        self._figure("VOLTage:UNDer:PROTection", "UVP", 0.0, MOST_V)
        self._figure("CURRent[:OVER]:PROTection[:LEVel]", "OCP", 0.0, 1.1 * MOST_A)
        self._flag("CURRent:OVER:PROTection:STATe", "OCP")
        self._flag("SENSe:REMote", "SENSE")
        self._flag("REMote:SENSe", "SENSE")
        self._pair("OUTPut", self._output, lambda: str(int(self.stage.is_on)))
        self.add("OUTPut:REVerse?", lambda: str(int(self.stage.cell_V < -0.5)))
        self._pair("BATTery:MODE", self._set_way, lambda: self.way)
        self._figure("BATTery:CHARge:VOLTage", "CHAR:VOLT", 0.0, MOST_V)
        self._figure("BATTery:CHARge:CURRent", "CHAR:CURR", 0.0, MOST_A)
        self._figure("BATTery:DISCharge:VOLTage", "DISC:VOLT", 0.0, MOST_V)
        self._figure("BATTery:DISCharge:CURRent", "DISC:CURR", -MOST_A, 0.0)
        self._figure("BATTery:SHUT:VOLTage", "SHUT:VOLT", 0.0, MOST_V)
        self._figure("BATTery:SHUT:CURRent", "SHUT:CURR", -MOST_A, MOST_A)
        self._figure("BATTery:SHUT:CAPacity", "SHUT:CAP", -1e5, 1e5)
        self._figure("BATTery:SHUT:TIME", "SHUT:TIME", 0.0, 1e7)
        for verb in ("MEASure", "FETCh"):
            self.add(f"{verb}:VOLTage?", lambda: figure(self.stage.voltage_V, 5))
            self.add(f"{verb}:CURRent?", lambda: figure(self.stage.current_A, 5))
            self.add(f"{verb}:AHOur?", lambda: figure(self.amp_hours, 6))
        self.add("FETCh?", self._fetch)

    def _pair(self, definition: str, put: Callable[[str], None], get: Callable[[], str]) -> None:
        self.add(definition, put)
        self.add(definition + "?", get)

    def _figure(self, definition: str, name: str, low: float, high: float) -> None:
        def put(value: str) -> None:
            self.values[name] = number(value, low, high)

        self._pair(definition, put, lambda: f"{self.values[name]:.5f}")

    def _flag(self, definition: str, name: str) -> None:
        def put(value: str) -> None:
            self.flags[name] = _switch(value)

        self._pair(definition, put, lambda: str(int(self.flags[name])))

    def _fetch(self) -> str:
        volts, amps = self.stage.voltage_V, self.stage.current_A
        figures = (volts, amps, volts * amps, self.amp_hours, self.amp_hours * volts)
        return ",".join(figure(value, 5) for value in figures)

    # -- control ---------------------------------------------------------------------------
    def _set_mode(self, word: str) -> None:
        upper = word.upper()
        if upper not in {*MODES, *MODES.values()}:
            raise illegal_parameter()
        mode = MODES.get(upper, upper)
        if mode == "FIXED":
            self.mode = mode
            return
        if self.stage.is_on:
            raise ScpiError(-221, "Settings conflict")
        self.mode = mode
        self._start()

    def _set_way(self, word: str) -> None:
        upper = word.upper()
        if upper not in {*WAYS, *WAYS.values()}:
            raise illegal_parameter()
        if self.stage.is_on:
            raise ScpiError(-221, "Settings conflict")
        self.way = WAYS.get(upper, upper)

    def _output(self, state: str) -> None:
        if not _switch(state):
            self.stage.release()
        elif not self.stage.is_on:
            self._start()

    def _start(self) -> None:
        self.elapsed_s = self.amp_hours = 0.0
        values = self.values
        if self.mode == "FIXED":
            amps = abs(values["CURR"])
            self.stage.drive(values["VOLT"], amps, amps)
        elif self.way == "CHARGE":
            self.stage.drive(values["CHAR:VOLT"], values["CHAR:CURR"], 0.0)
        else:
            self.stage.drive(values["DISC:VOLT"], 0.0, -values["DISC:CURR"])
        if self.mode == "BATTERY" and self._is_misfit():
            self.stage.release()

    def _is_misfit(self) -> bool:
        values = self.values
        if self.way == "CHARGE":
            return values["SHUT:VOLT"] <= values["CHAR:VOLT"]
        return values["DISC:VOLT"] >= values["SHUT:VOLT"]

    # -- what it watches -------------------------------------------------------------------
    def watch(self, passed_s: float) -> None:
        """Look at protections and shut-off conditions, as it does all the time."""
        if not self.stage.is_on:
            return
        volts, amps, values = self.stage.voltage_V, self.stage.current_A, self.values
        self.elapsed_s += passed_s
        self.amp_hours += amps * passed_s / 3600.0
        tripped = volts > values["OVP"] or volts < values["UVP"]
        tripped |= self.flags["OCP"] and abs(amps) > values["OCP"]
        if tripped or (self.mode == "BATTERY" and self._is_done(volts, amps)):
            self.stage.release()

    def _is_done(self, volts: float, amps: float) -> bool:
        values = self.values
        is_over = volts >= values["SHUT:VOLT"] if self.way == "CHARGE" else \
            volts <= values["SHUT:VOLT"]  # fmt: skip
        return bool(
            is_over or abs(amps) < abs(values["SHUT:CURR"])
            or abs(self.amp_hours) >= abs(values["SHUT:CAP"])
            or self.elapsed_s >= values["SHUT:TIME"]
        )  # fmt: skip


def _switch(text: str) -> bool:
    if text.upper() not in ("0", "1", "OFF", "ON"):
        raise illegal_parameter()
    return text.upper() in ("1", "ON")
