"""EA PSB 10000: a bidirectional supply over SCPI, stepped by the host.

Source: programming guide for 10000 and 20000 series, 35400100 (2023). One command a message:
chained headers differ between the series. Replies carry units. The instrument refuses settings
until the lock is taken. Reading the error queue acknowledges device alarms, so the condition
register is always read before it.
"""

import re

from batterylab.drivers.hoststepped import HostSteppedDriver
from batterylab.drivers.roles import Identity, Protections
from batterylab.errors import EnvironmentFailedError, OutOfRangeError, SafetyStopError

#: bits of the questionable register
ALARMS = {0: "OVP", 1: "OCP", 2: "OPP", 3: "OT", 4: "OVD", 5: "UVD", 6: "OCD", 7: "UCD",
          8: "OPD", 13: "power fail", 14: "MSP"}  # fmt: skip
REMOTE, OUTPUT_ON = 1 << 10, 1 << 11
WATCHDOG_s = (1.0, 36000.0)
SETTLE_s = 0.1
_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d+)?) ?(m|k|M)?(V|A|W|s)?", re.ASCII)
_FACTORS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6}


class Psb10000(HostSteppedDriver):
    """A PSB 10000 on its LAN port."""

    has_watchdog = True
    _noted: tuple[str, ...] = ()

    def identity(self) -> Identity:
        """Ask ``*IDN?``; a user text after the four fields is left out.

        Raises
        ------
        EnvironmentFailedError
            If there is no reply, or not one of four or five fields.
        """
        reply = self.link.query("*IDN?")
        fields = [field.strip() for field in reply.split(",")]
        if len(fields) < 4:
            raise self.link.unexpected("*IDN?", reply)
        return Identity(*fields[:4])

    # -- replies ---------------------------------------------------------------------------
    def _parsed(self, command: str, text: str, unit: str) -> float:
        match = _QUANTITY.fullmatch(text.strip())
        if match is None or (match[3] or "") not in (unit, "" if unit == "s" else unit):
            raise self.link.unexpected(command, text)
        return float(match[1]) * _FACTORS[match[2] or ""]

    def _quantity(self, command: str, unit: str) -> float:
        return self._parsed(command, self.link.query(command), unit)

    def _condition(self) -> int:
        """Return the condition register, and note the alarms in it before anything clears them."""
        reply = self.link.query("STAT:QUES:COND?")
        if not re.fullmatch(r"\d{1,5}", reply, re.ASCII):
            raise self.link.unexpected("STAT:QUES:COND?", reply)
        condition = int(reply)
        found = [name for bit, name in ALARMS.items() if condition >> bit & 1]
        self._noted += tuple(name for name in found if name not in self._noted)
        return condition

    def errors(self) -> list[str]:
        """Read and clear the error queue, after the alarms that this acknowledges were noted."""
        self._condition()
        return super().errors()

    def alarms(self) -> list[str]:
        """Return device alarms, then the error queue, and clear both."""
        queue = self.errors()
        noted, self._noted = self._noted, ()
        return [f"alarm {name}" for name in noted] + queue

    def _refuse_alarms(self) -> None:
        if self._noted:
            raise SafetyStopError(
                f"{self.link.name}: device alarm: {', '.join(self._noted)}",
                hint="the instrument switched its output off; find out why before you go on",
            )

    # -- control ---------------------------------------------------------------------------
    def _own(self) -> None:
        self.link.write("SYST:LOCK ON")
        owner = self._word("SYST:LOCK:OWN?", "REMOTE", "NONE", "LOCAL")
        if owner != "REMOTE":
            raise EnvironmentFailedError(
                f"{self.link.name}: remote control was refused; it belongs to {owner}",
                hint="leave LOCAL on its front panel",
            )

    def _take_control(self) -> None:
        self._own()
        self.link.write("OUTP OFF")
        self.alarms()
        self._condition()
        self._refuse_alarms()  # reading the queue acknowledged those whose cause is gone
        self.largest_V = self._quantity("SYST:NOM:VOLT?", "V")
        self.largest_A = self._quantity("SYST:NOM:CURR?", "A")
        watts = self._quantity("SYST:NOM:POW?", "W")
        for command in (
            "CURR 0", "SINK:CURR 0", f"POW {watts:.6g}", f"SINK:POW {watts:.6g}",
            "POW:STAG:AFT:REM OFF", "SYST:CONF:OUTP:REST OFF", "SYST:ALAR:ACT:PF OFF",
            "SYST:ALAR:ACT:OTEM OFF", "SYST:COMM:LAN:TIM 0",
        ):  # fmt: skip
            self.link.write(command)
        self.check("the settings")
        for query in ("POW:STAG:AFT:REM?", "SYST:CONF:OUTP:REST?"):
            if self._word(query, "AUTO", "OFF") != "OFF":
                raise self.link.unexpected(query, "AUTO")

    def _protect(self, wanted: Protections) -> Protections:
        seconds = wanted.watchdog_s
        if seconds is None or not WATCHDOG_s[0] <= seconds <= WATCHDOG_s[1]:
            raise OutOfRangeError(
                f"{self.link.name}: watchdog_s = {seconds} is outside 1 to 36000",
                hint="an output that nobody watches is not switched on",
            )
        low_V, high_V = wanted.voltage_min_V or 0.0, wanted.voltage_max_V or 1.1 * self.largest_V
        source_A = wanted.charge_A or 1.1 * self.largest_A
        sink_A = wanted.discharge_A or 1.1 * self.largest_A
        seconds = float(round(seconds))
        for command in (
            f"VOLT:PROT {high_V:.6g}", f"CURR:PROT {source_A:.6g}",
            f"SINK:CURR:PROT {sink_A:.6g}", f"SYST:CONF:UVD {low_V:.6g}",
            "SYST:CONF:UVD:ACT ALARM", f"SYST:COMM:MON:TIM {seconds:.0f}", "SYST:COMM:MON:ACT ON",
        ):  # fmt: skip
            self.link.write(command)
        self.check("the protections")
        return Protections(low_V, high_V, source_A, sink_A, seconds)

    def _held(self) -> Protections:
        supervises = self._word("SYST:CONF:UVD:ACT?", *_ACTIONS).startswith("ALAR")
        is_armed = self._word("SYST:COMM:MON:ACT?", "ON", "OFF") == "ON"
        return Protections(
            self._quantity("SYST:CONF:UVD?", "V") if supervises else None,
            self._quantity("VOLT:PROT?", "V"),
            self._quantity("CURR:PROT?", "A"),
            self._quantity("SINK:CURR:PROT?", "A"),
            self._quantity("SYST:COMM:MON:TIM?", "s") if is_armed else None,
        )

    # -- steps -----------------------------------------------------------------------------
    def _apply(self, mode: str, current_A: float, voltage_V: float, at_most_s: float) -> None:
        self._condition()
        self._refuse_alarms()
        ways = {"CHARGE": "CURR", "DISCHARGE": "SINK:CURR"}
        if mode != self.mode:
            for way in ways.values():
                self.link.write(f"{way} 0")
        if mode == "REST":
            self.check("the settings of REST")
            return
        self.link.write(f"VOLT {voltage_V:.6g}")
        self.link.write(f"{ways[mode]} {current_A:.6g}")
        self.check(f"the settings of {mode}")
        for query, wanted, unit in (("VOLT?", voltage_V, "V"), (f"{ways[mode]}?", current_A, "A")):
            if abs(self._quantity(query, unit) - wanted) > 0.002 * wanted + 0.01:
                raise EnvironmentFailedError(f"{self.link.name}: {query} is not {wanted:g} {unit}")

    def _switch(self, on: bool) -> None:
        if on:
            self._condition()
            self._refuse_alarms()
            if self.mode == "REST":
                return
            self.link.write("OUTP ON")
            self.check("OUTP ON")
            return
        if self._word("SYST:LOCK:OWN?", "REMOTE", "NONE", "LOCAL") != "REMOTE":
            self.link.write("SYST:LOCK ON")
        self.link.write("OUTP OFF")
        self.link.clock.sleep(SETTLE_s)

    def _is_output_on(self) -> bool:
        return self._word("OUTP?", "ON", "OFF") == "ON"

    # -- readings --------------------------------------------------------------------------
    def _array(self) -> tuple[float, float]:
        reply = self.link.query("MEAS:ARR?")
        parts = reply.split(",")
        if len(parts) != 3:
            raise self.link.unexpected("MEAS:ARR?", reply)
        volts, amps, _ = (
            self._parsed("MEAS:ARR?", part, unit)
            for part, unit in zip(parts, "VAW", strict=True)
        )
        return self._plausible("MEAS:ARR?", volts, amps)

    def _open_circuit_V(self) -> float:
        return self._array()[0]

    def _leftover_A(self) -> float:
        return self._array()[1]

    def measure(self) -> tuple[float, float]:
        """Return voltage in V and current in A, charge positive.

        Raises
        ------
        SafetyStopError
            If the instrument has an alarm: it switched its output off.
        EnvironmentFailedError
            If it left remote control, or its output is off where it should be on.
        """
        condition = self._condition()
        self._refuse_alarms()
        if not condition & REMOTE:
            raise EnvironmentFailedError(
                f"{self.link.name}: it left remote control (front panel, or its watchdog)",
                hint="its output is off; prepare it again",
            )
        if self.wants_on and self.mode != "REST" and not condition & OUTPUT_ON:
            raise EnvironmentFailedError(f"{self.link.name}: its output went off by itself")
        return self._array()


_ACTIONS = ("NONE", "SIGN", "SIGNAL", "WARN", "WARNING", "ALAR", "ALARM")
