"""Keithley 2450, 2460 and 2461 source-measure units as cyclers of small cells.

Source: user manuals 2450-900-01 and 2460-900-01, chapter "Rechargeable battery measurements",
and 2450-901-01. Current is limited up to the voltage that is sourced; the direction follows from
that voltage and the cell's own, so it is checked at every reading. Off means high impedance: the
normal off state drains a cell. At rest the unit sources no current and goes on measuring, since
it measures with its output on only.
"""

from batterylab.drivers.hoststepped import HostSteppedDriver
from batterylab.drivers.roles import Identity, Protections
from batterylab.drivers.scpi import OVERLOAD
from batterylab.errors import EnvironmentFailedError, SafetyStopError

#: steps of the voltage protection; those between 2 and 20 V from general knowledge
LEVELS_V = (2.0, 5.0, 10.0, 20.0)
WRONG_WAY = 0.02
WRONG_WAY_A = 1e-4


class Keithley24xx(HostSteppedDriver):
    """A 2450, 2460 or 2461 in its SCPI command set."""

    _rest_limit_V = 10.0

    def identity(self) -> Identity:
        """Ask for the command set, then ``*IDN?``.

        Raises
        ------
        EnvironmentFailedError
            If the unit speaks another command set.
        """
        language = self.link.query("*LANG?").strip()
        if language != "SCPI":
            raise EnvironmentFailedError(
                f"{self.link.name}: its command set is {language!r}, not 'SCPI'",
                hint="send *LANG SCPI, then switch it off and on",
            )
        return super().identity()

    # -- control ---------------------------------------------------------------------------
    def _take_control(self) -> None:
        self._switch(False)
        self.errors()
        self._check_off_state()

    def _check_off_state(self) -> None:
        for query in ("OUTP:VOLT:SMOD?", "OUTP:CURR:SMOD?"):
            state = self._word(query, "NORM", "ZERO", "GUAR", "HIMP")
            if state != "HIMP":
                raise EnvironmentFailedError(
                    f"{self.link.name}: its off state is {state}, which drains a cell",
                    hint="was it switched off and on? Prepare it again",
                )

    def _protect(self, wanted: Protections) -> Protections:
        voltage_V = wanted.voltage_max_V or LEVELS_V[-1]
        level_V = next((level for level in LEVELS_V if level >= voltage_V), LEVELS_V[-1])
        self._rest_limit_V = level_V
        self.link.write(f"SOUR:VOLT:PROT PROT{level_V:.0f}")
        self.check("the voltage protection")
        return Protections(voltage_max_V=level_V)

    def _held(self) -> Protections:
        self._check_off_state()
        reply = self.link.query("SOUR:VOLT:PROT?").strip()
        if reply == "NONE":
            return Protections()
        if not (reply.startswith("PROT") and reply[4:].isdecimal() and reply.isascii()):
            raise self.link.unexpected("SOUR:VOLT:PROT?", reply)
        return Protections(voltage_max_V=float(reply[4:]))

    # -- steps -----------------------------------------------------------------------------
    def _apply(self, mode: str, current_A: float, voltage_V: float, at_most_s: float) -> None:
        if mode == "REST":
            self._source_nothing()
        else:
            self._source_voltage(current_A, voltage_V)
        self.check(f"the settings of {mode}")

    def _source_voltage(self, current_A: float, voltage_V: float) -> None:
        for command in (
            "SOUR:FUNC VOLT", 'SENS:FUNC "CURR"', "SENS:CURR:RSEN ON",
            f"SENS:CURR:RANG {current_A:.6g}", f"SOUR:VOLT:RANG {voltage_V:.6g}",
            f"SOUR:VOLT:ILIM {current_A:.6g}", f"SOUR:VOLT {voltage_V:.6g}",
            "SOUR:VOLT:READ:BACK ON",
        ):  # fmt: skip
            self.link.write(command)
        self._confirm("VOLT", "CURR")
        for query, wanted in (("SOUR:VOLT?", voltage_V), ("SOUR:VOLT:ILIM?", current_A)):
            (found,) = self.numbers(query, 1)
            if abs(found - wanted) > 1e-3 * wanted:
                raise self.link.unexpected(query, f"{found:g} instead of {wanted:g}")

    def _confirm(self, source: str, sense: str) -> None:
        """Read back what is sourced, what is measured, and that it is measured at the cell.

        Otherwise a lost setting would make a current of a voltage.
        """
        self._expect("SOUR:FUNC?", source)
        reply = self.link.query("SENS:FUNC?")
        if not reply.strip().strip('"').startswith(sense):
            raise self.link.unexpected("SENS:FUNC?", reply)
        self._expect(f"SENS:{sense}:RSEN?", "1", "ON")
        self._expect(f"SOUR:{source}:READ:BACK?", "1", "ON")

    def _expect(self, query: str, *wanted: str) -> None:
        reply = self.link.query(query).strip()
        if reply not in wanted:
            raise self.link.unexpected(query, reply)

    def _source_nothing(self) -> None:
        for command in (
            "SOUR:FUNC CURR", "SOUR:CURR:RANG 0.001", "SOUR:CURR 0",
            f"SOUR:CURR:VLIM {self._rest_limit_V:.6g}", 'SENS:FUNC "VOLT"', "SENS:VOLT:RSEN ON",
            f"SENS:VOLT:RANG {self._rest_limit_V:.6g}", "SOUR:CURR:READ:BACK ON",
        ):  # fmt: skip
            self.link.write(command)
        self._confirm("CURR", "VOLT")
        (amps,) = self.numbers("SOUR:CURR?", 1)
        if amps != 0.0:
            raise self.link.unexpected("SOUR:CURR?", f"{amps:g} instead of 0")

    def _switch(self, on: bool) -> None:
        if on:
            self.link.write("OUTP ON")
            self.check("OUTP ON")
            return
        # the unit may have been switched off and on: then off would drain the cell
        self.link.write("OUTP:VOLT:SMOD HIMP")
        self.link.write("OUTP:CURR:SMOD HIMP")
        self.link.write("OUTP OFF")

    def _is_output_on(self) -> bool:
        return self._word("OUTP?", "0", "1", "ON", "OFF") in ("1", "ON")

    def output(self, on: bool) -> None:
        """Switch the output and confirm it; off is high impedance.

        Raises
        ------
        SafetyStopError
            If there is no cell, or not one that the protections allow; the output stays off.
        EnvironmentFailedError
            If the protections are not those of `prepare`, or the output does not follow.
        """
        super().output(on)
        if on and not self._is_output_on():
            raise EnvironmentFailedError(f"{self.link.name}: the output does not go on")

    # -- readings --------------------------------------------------------------------------
    def _open_circuit_V(self) -> float:
        """Look at the cell without current, then put the step's settings back."""
        self._source_nothing()
        self.link.write("OUTP ON")
        self.check("a look at the cell")
        try:
            volts, _ = self._at_rest()
        finally:
            self.link.write("OUTP OFF")
        self._source_voltage(self.current_A, self.voltage_V)
        self.check("the settings")
        if (volts > self.voltage_V) != (self.mode == "DISCHARGE"):
            raise SafetyStopError(
                f"{self.link.name}: {self.mode.lower()} to {self.voltage_V:g} V is not possible "
                f"from {volts:g} V", hint="the output is off")  # fmt: skip
        return volts

    def _read(self) -> tuple[float, float]:
        """Return the source's value read back, and the reading."""
        command = 'READ? "defbuffer1", SOUR, READ'
        try:
            source, reading = self.numbers(command, 2, takes_overload=True)
        except EnvironmentFailedError as error:
            raise self._explained(error) from None
        if max(abs(source), abs(reading)) >= OVERLOAD:
            raise EnvironmentFailedError(f"{self.link.name}: over range: {source:g}, {reading:g}")
        return source, reading

    def _explained(self, error: EnvironmentFailedError) -> EnvironmentFailedError:
        """Add to a missing reading what the error queue says, if it says anything."""
        try:
            found = self.errors()
        except EnvironmentFailedError:
            return error
        more = f"; the unit says {found[0]}" if found else ""
        return EnvironmentFailedError(error.message + more, hint=error.hint)

    def _at_rest(self) -> tuple[float, float]:
        amps, volts = self._read()
        if self._word("SOUR:CURR:VLIM:TRIP?", "0", "1", "ON", "OFF") in ("1", "ON"):
            raise EnvironmentFailedError(
                f"{self.link.name}: the voltage limit of {self._rest_limit_V:g} V is reached at "
                "rest: the unit draws current", hint="is the cell's voltage above it, or a lead "
                "open?")  # fmt: skip
        return self._plausible("READ?", volts, amps)

    def _leftover_A(self) -> float:
        """Return 0: the relay is open, and nothing can be measured through it."""
        self._check_off_state()
        return 0.0

    def is_limited(self) -> bool:
        """Say whether the current limit holds (constant current), not yet the voltage."""
        return self._word("SOUR:VOLT:ILIM:TRIP?", "0", "1", "ON", "OFF") in ("1", "ON")

    def measure(self) -> tuple[float, float]:
        """Return voltage in V and current in A, charge positive; the output must be on.

        Raises
        ------
        SafetyStopError
            If current flows in the other direction than the step's.
        EnvironmentFailedError
            If the unit is over range, its limit is tripped at rest, or its output is off.
        """
        if self.mode == "REST":
            return self._at_rest()
        volts, amps = self._plausible("READ?", *self._read())
        sign = 1.0 if self.mode == "CHARGE" else -1.0
        if sign * amps < -(WRONG_WAY * self.current_A + WRONG_WAY_A):
            self.make_safe()
            raise SafetyStopError(
                f"{self.link.name}: {amps:g} A flow in a step to {self.mode.lower()}",
                hint="the output was switched off",
            )
        return volts, amps
