"""ITECH IT-M3900: a bidirectional supply, stepped by the host in its battery mode.

Source: public code that drives IT-M3905D, IT-M3400 and IT6000C units; the programming guide was
not at hand. There is no watchdog: every step carries the battery mode's shut-off time, capacity
and voltage. A discharge ends at its voltage; a charge holds its voltage.
"""

from batterylab.drivers.hoststepped import HostSteppedDriver
from batterylab.drivers.roles import Protections
from batterylab.errors import EnvironmentFailedError

#: between the write of a limit and the question whether it was taken
SETTLE_s = 0.5
#: after the battery mode is left
LEAVE_s = 2.0
#: from the voltage that is held to the one that ends the step
MARGIN_V = 0.05
#: the current that ends a step: the host decides earlier
LEAST_A = 0.01


class ItM3900(HostSteppedDriver):
    """An IT-M3900 on its socket."""

    changes_while_on = False
    ends_by_itself = True

    # -- control ---------------------------------------------------------------------------
    def _take_control(self) -> None:
        self.link.write("SYST:REM")
        self.errors()
        self._switch(False)
        self.link.write("SENS:REM 1")
        self.link.clock.sleep(SETTLE_s)
        self.check("remote control")

    def _protect(self, wanted: Protections) -> Protections:
        high_V = wanted.voltage_max_V or self.largest_V
        low_V = wanted.voltage_min_V or 0.0
        either_A = max(wanted.charge_A or self.largest_A, wanted.discharge_A or self.largest_A)
        for command in (
            f"VOLT:PROT {high_V:.6g}", f"VOLT:UND:PROT {low_V:.6g}",
            f"CURR:PROT {either_A:.6g}", "CURR:OVER:PROT:STAT 1",
        ):  # fmt: skip
            self.link.write(command)
        self.link.clock.sleep(SETTLE_s)
        self.check("the protections")
        return Protections(low_V, high_V, either_A, either_A)

    def _held(self) -> Protections:
        (high_V,) = self.numbers("VOLT:PROT?", 1)
        (low_V,) = self.numbers("VOLT:UND:PROT?", 1)
        (amps,) = self.numbers("CURR:PROT?", 1)
        held_A = amps if self._flag("CURR:OVER:PROT:STAT?") else None
        return Protections(low_V, high_V, held_A, held_A)

    def _flag(self, command: str) -> bool:
        return self._word(command, "0", "1", "ON", "OFF") in ("1", "ON")

    # -- steps -----------------------------------------------------------------------------
    def _apply(self, mode: str, current_A: float, voltage_V: float, at_most_s: float) -> None:
        if mode == "REST":
            return
        sign, word = (1, "CHAR") if mode == "CHARGE" else (-1, "DISC")
        held_V, end_V = (
            (voltage_V, voltage_V + MARGIN_V) if sign > 0 else (voltage_V - MARGIN_V, voltage_V)
        )
        amp_hours = 1.05 * current_A * at_most_s / 3600.0 + LEAST_A
        for command in (
            f"BATT:MODE {word}", f"BATT:{word}:VOLT {held_V:.6g}",
            f"BATT:{word}:CURR {sign * current_A:.6g}", f"BATT:SHUT:VOLT {end_V:.6g}",
            f"BATT:SHUT:CURR {sign * LEAST_A:.6g}", f"BATT:SHUT:CAP {sign * amp_hours:.6g}",
            f"BATT:SHUT:TIME {at_most_s:.0f}",
        ):  # fmt: skip
            self.link.write(command)
        self.link.clock.sleep(SETTLE_s)
        self.check(f"the settings of {mode}")
        for query, wanted in (
            (f"BATT:{word}:VOLT?", held_V), (f"BATT:{word}:CURR?", sign * current_A),
            ("BATT:SHUT:VOLT?", end_V), ("BATT:SHUT:TIME?", float(round(at_most_s))),
        ):  # fmt: skip
            (found,) = self.numbers(query, 1)
            if abs(found - wanted) > 0.002 * abs(wanted) + 0.002:
                raise self.link.unexpected(query, f"{found:g} instead of {wanted:g}")

    def _start(self) -> None:
        self.link.write("FUNC:MODE BATTERY")
        if not self._is_output_on():
            self.link.write("OUTP 1")
        self.link.clock.sleep(SETTLE_s)
        self.check("the start of the battery mode")

    def _switch(self, on: bool) -> None:
        if not on:
            # off first: whatever becomes of the mode, no current flows
            self.link.write("OUTP 0")
            self.link.write("FUNC:MODE FIXED")
            self.link.clock.sleep(LEAVE_s)
            self.link.write("OUTP 0")
        elif self.mode != "REST":
            if self._flag("OUTP:REV?"):
                raise EnvironmentFailedError(f"{self.link.name}: the cell's leads are reversed")
            self._start()

    def _is_output_on(self) -> bool:
        return self._flag("OUTP?")

    def is_on(self) -> bool:
        """Say whether the step goes on; it is off where a shut-off condition ended it.

        Raises
        ------
        EnvironmentFailedError
            If the battery mode was left by somebody else, or in a power cut.
        """
        if self._is_output_on():
            return True
        if self.wants_on and self.mode != "REST":
            mode = self._word("FUNC:MODE?", "FIX", "FIXED", "BATT", "BATTERY", "LIST")
            if not mode.startswith("BATT"):
                raise EnvironmentFailedError(
                    f"{self.link.name}: it left its battery mode by itself",
                    hint="was it switched off and on? Prepare it again",
                )
        return False

    # -- readings --------------------------------------------------------------------------
    def _pair(self) -> tuple[float, float]:
        (volts,) = self.numbers("MEAS:VOLT?", 1)
        (amps,) = self.numbers("MEAS:CURR?", 1)
        return self._plausible("MEAS:VOLT?", volts, amps)

    def _open_circuit_V(self) -> float:
        return self._pair()[0]

    def _leftover_A(self) -> float:
        return self._pair()[1]

    def measure(self) -> tuple[float, float]:
        """Return voltage in V and current in A, charge positive.

        Raises
        ------
        EnvironmentFailedError
            If the instrument left the step in another way than by its shut-off conditions.
        """
        reading = self._pair()
        if self.wants_on:
            self.is_on()
        return reading

    def close(self) -> None:
        """Give the front panel back and close the link."""
        try:
            self.link.write("SYST:LOC")
        except EnvironmentFailedError:
            pass
        finally:
            super().close()
