"""What drivers of host-stepped outputs share: order, limits, read-backs and the safe state.

A driver says how its model is told; here stands what must be true for every model: protections
hold before current flows, the cell is looked at before, nothing out of range is sent, and the
output is off only when the instrument itself says so.
"""

import math
from dataclasses import fields

from batterylab.drivers.catalogue import ModelSpec
from batterylab.drivers.link import Link
from batterylab.drivers.roles import Protections
from batterylab.drivers.scpi import ScpiDriver
from batterylab.errors import (
    BatterylabError,
    EnvironmentFailedError,
    OutOfRangeError,
    SafetyStopError,
)

MODES = ("CHARGE", "DISCHARGE", "REST")
SAFE_TRIES = 3
PAUSE_s = 0.1
#: how far a setting that is read back may be from the one sent
TOLERANCE = 2e-3
RESOLUTION = 2e-3
#: a reading beyond this multiple of the largest setting is no reading
HEADROOM = 1.25


class HostSteppedDriver(ScpiDriver):
    """Base of the drivers of host-stepped outputs.

    Parameters
    ----------
    link : Link
        Open.
    spec : ModelSpec
        From the catalogue; its ranges bound what is sent.
    """

    #: whether settings can be changed while current flows
    changes_while_on = True
    #: whether the model ends a step by conditions of its own
    ends_by_itself = False
    #: whether the model switches off when its host has been silent
    has_watchdog = False

    def __init__(self, link: Link, spec: ModelSpec) -> None:
        super().__init__(link, spec)
        self.held: Protections | None = None
        self.mode, self.current_A, self.voltage_V = "REST", 0.0, 0.0
        self.wants_on = False
        #: when `make_safe` gave the command after which the output was off; NaN before
        self.off_s = math.nan
        self.largest_V = float(spec.ranges["voltage_V"][1])
        self.largest_A = float(spec.ranges["current_A"][1])

    # -- what a model's driver says -------------------------------------------------------
    def _take_control(self) -> None:
        """Take control, with the output off."""
        raise NotImplementedError

    def _protect(self, wanted: Protections) -> Protections:
        """Set protections; return what the instrument must hold now."""
        raise NotImplementedError

    def _held(self) -> Protections:
        """Read protections back."""
        raise NotImplementedError

    def _apply(self, mode: str, current_A: float, voltage_V: float, at_most_s: float) -> None:
        """Send the settings of a step."""
        raise NotImplementedError

    def _switch(self, on: bool) -> None:
        """Switch the output."""
        raise NotImplementedError

    def _open_circuit_V(self) -> float:
        """Return the voltage at the terminals while no current flows."""
        raise NotImplementedError

    def _leftover_A(self) -> float:
        """Return the current that flows with the output off."""
        raise NotImplementedError

    def _is_output_on(self) -> bool:
        """Ask for the state of the output."""
        raise NotImplementedError

    # -- what holds for all ----------------------------------------------------------------
    def prepare(self, wanted: Protections) -> Protections:
        """Take control with the output off, set protections and watchdog, and read them back.

        Returns
        -------
        Protections
            As the instrument holds them; None for what the model does not watch.

        Raises
        ------
        EnvironmentFailedError
            If the instrument refuses, or holds something else afterwards.
        OutOfRangeError
            If a protection is no positive figure; nothing was sent.
        """
        for item in fields(Protections):
            value = getattr(wanted, item.name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise OutOfRangeError(f"{self.link.name}: {item.name} = {value} is not above 0")
        self.held, self.wants_on, self.mode = None, False, "REST"
        self._take_control()
        expected = self._protect(wanted)
        held = self._held()
        self._compare(expected, held)
        self.held = held
        return held

    def protections(self) -> Protections:
        """Read back what the instrument watches by itself now; nothing is changed."""
        return self._held()

    def _compare(self, expected: Protections, held: Protections) -> None:
        for item in fields(Protections):
            want, has = getattr(expected, item.name), getattr(held, item.name)
            if want is None and has is None:
                continue
            near = want is not None and has is not None
            if not near or abs(want - has) > TOLERANCE * want + RESOLUTION:
                raise EnvironmentFailedError(
                    f"{self.link.name}: {item.name} reads back as {has}, not {want}",
                    hint="its settings are lost: was it switched off and on? Prepare it again",
                )

    def set(self, mode: str, current_A: float, voltage_V: float, at_most_s: float) -> bool:
        """Set what the output shall do; `current_A` is a magnitude, `voltage_V` is not passed.

        Between two modes the output is switched off and on again, with all that `output` checks.

        Returns
        -------
        bool
            Whether current went on flowing all the while.

        Raises
        ------
        OutOfRangeError
            If a value is outside what instrument and protections allow; nothing was sent.
        EnvironmentFailedError
            If the instrument refuses.
        """
        if mode not in MODES:
            raise OutOfRangeError(f"{self.link.name}: unknown mode {mode!r}")
        if self.held is None:
            raise BatterylabError(f"{self.link.name}: prepare it before anything is set")
        if mode == "REST":
            current_A = 0.0
        else:
            self._check_step(mode, current_A, voltage_V, at_most_s, self.held)
        interrupts = self.wants_on and (mode != self.mode or not self.changes_while_on)
        if interrupts:
            self.output(False)
        self._apply(mode, current_A, voltage_V, at_most_s)
        self.mode, self.current_A, self.voltage_V = mode, current_A, voltage_V
        if interrupts:
            self.output(True)
        return self.wants_on and not interrupts

    def _check_step(
        self, mode: str, current_A: float, voltage_V: float, at_most_s: float, held: Protections
    ) -> None:
        most_A = held.charge_A if mode == "CHARGE" else held.discharge_A
        low_A, high_A = self.spec.ranges["current_A"]
        high_A = min(high_A, self.largest_A, most_A or math.inf)
        low_V = max(self.spec.ranges["voltage_V"][0], held.voltage_min_V or 0.0)
        high_V = min(self.largest_V, held.voltage_max_V or math.inf)
        for name, value, low, high in (
            ("current_A", current_A, low_A, high_A), ("voltage_V", voltage_V, low_V, high_V),
            ("at_most_s", at_most_s, 1.0, 1e7),
        ):  # fmt: skip
            if not low <= value <= high:
                raise OutOfRangeError(
                    f"{self.link.name}: {name} = {value} is outside {low:g} to {high:g}",
                    hint="nothing was sent",
                )

    def output(self, on: bool) -> None:
        """Switch the output and confirm it by reading back.

        Before it is switched on, the protections are read back, and the voltage at the terminals
        is held against them: a missing or a reversed cell gets no current.

        Raises
        ------
        SafetyStopError
            If there is no cell, or not one that the protections allow; the output stays off.
        EnvironmentFailedError
            If the protections are not those of `prepare`, or the output does not follow.
        """
        if on:
            if self.held is None:
                raise BatterylabError(f"{self.link.name}: prepare it before it is switched on")
            self._compare(self.held, self._held())
            if self.mode != "REST" and not self.wants_on:
                self._look_at_the_cell(self.held)
        self._switch(on)
        self.wants_on = on
        if self._is_output_on() != on and not (on and self.mode == "REST"):
            word = "on" if on else "off"
            raise EnvironmentFailedError(f"{self.link.name}: the output does not go {word}")

    def _look_at_the_cell(self, held: Protections) -> None:
        volts = self._open_circuit_V()
        low_V = held.voltage_min_V or self.spec.ranges["voltage_V"][0]
        if volts < 0.5 * low_V or volts <= 0.0:
            what = "there is no cell, or its leads are reversed"
        elif volts > (held.voltage_max_V or self.largest_V):
            what = "the cell's voltage is beyond the protection"
        else:
            return
        raise SafetyStopError(f"{self.link.name}: {what}: {volts:g} V", hint="the output is off")

    def is_on(self) -> bool:
        """Say whether the output is on."""
        return self._is_output_on()

    def _plausible(self, command: str, volts: float, amps: float) -> tuple[float, float]:
        """Return a reading, or raise where it is a code and not a figure."""
        if abs(volts) <= HEADROOM * self.largest_V and abs(amps) <= HEADROOM * self.largest_A:
            return volts, amps
        raise self.link.unexpected(command, f"{volts:g} V, {amps:g} A")

    def _word(self, command: str, *known: str) -> str:
        """Query one of some words.

        Raises
        ------
        EnvironmentFailedError
            If the reply is none of them.
        """
        reply = self.link.query(command)
        if reply.strip().upper() not in known:
            raise self.link.unexpected(command, reply)
        return reply.strip().upper()

    def alarms(self) -> list[str]:
        """Return and clear the error queue."""
        return self.errors()

    def make_safe(self) -> None:
        """Switch off, and confirm state and current by reading back.

        Raises
        ------
        SafetyStopError
            If it cannot be confirmed.
        """
        problem = ""
        safe_A = 2e-3 * self.largest_A
        for attempt in range(SAFE_TRIES):
            told_s = self.link.clock.now()
            try:
                self._switch(False)
                self.wants_on = False
                if not self._is_output_on() and abs(self._leftover_A()) <= safe_A:
                    self.off_s = told_s
                    return
                problem = "the output stays on, or current flows"
            except EnvironmentFailedError as error:
                problem = error.message
            self.link.clock.sleep(PAUSE_s * (attempt + 1))
        raise SafetyStopError(
            f"{self.link.name}: not confirmed safe: {problem}",
            hint="disconnect its cell by hand now",
        )
