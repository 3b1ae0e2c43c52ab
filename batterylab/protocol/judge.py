"""What ends a step of a simulation: its samples, one a second, held against its conditions.

The rules are those of the bench, so that a simulation ends where a cycler does. What a cycler
watches on board (`batterylab.bench.onboard`) is judged as it does: the current of a hold from the
fifth second on, and a charge has arrived half a millivolt below its voltage. All else is left to
`batterylab.protocol.ends`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batterylab.bench.onboard import NEAR_V, SETTLE_s
from batterylab.protocol.ends import ENDED_BY, Block, Watch, is_onboard
from batterylab.protocol.form import End, Step

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """What ended a step, and where.

    Attributes
    ----------
    sample : int
        Index of its last sample, in the block or, when its time is up, in the step.
    ended_by : str
        As in `StepRow`.
    quantity : str
        As `Outcome.ended_by` has it.
    failure : str
        Why the protocol cannot go on; empty if it can.
    then : str
        What comes next: ``next``, ``finish``, ``fail`` or a mark.
    """

    sample: int
    ended_by: str
    quantity: str
    failure: str = ""
    then: str = "next"


class Judge:
    """Watches one step, block after block.

    Parameters
    ----------
    step : Step
        With the cell's own numbers, as `Progress` hands it out.
    voltage_limits_V : (float, float)
        Beyond these, a step with current fails.
    stop_after_Ah : float or None
        Charge, as a magnitude, that ends the step at the nearest second.
    """

    def __init__(
        self, step: Step, voltage_limits_V: tuple[float, float], stop_after_Ah: float | None = None
    ) -> None:
        self.step = step
        self.limits_V = voltage_limits_V
        self.stop_after_Ah = stop_after_Ah
        self._onboard = [end for end in (*step.stops, *step.ends) if is_onboard(step, end)]
        self._watch = Watch(step, skips_onboard=True)
        self._seen = 0
        self._last_s = self._charge_Ah = self._energy_Wh = 0.0

    @property
    def watches(self) -> bool:
        """Whether anything but its time can end the step."""
        return self.step.mode != "rest" or bool(self._watch.conditions)

    def look(self, time_s: Array, columns: Array) -> Verdict | None:
        """Judge a block that follows the last one.

        Parameters
        ----------
        time_s : ndarray, shape (n,)
            Since the step began.
        columns : ndarray, shape (n, 3)
            Current in A, voltage in V, temperature in °C.

        Returns
        -------
        Verdict or None
            With the index in this block; None if the step goes on.
        """
        amps, volts, degrees = columns.T
        lengths = np.diff(time_s, prepend=self._last_s) / 3600.0
        charge_Ah = self._charge_Ah + np.cumsum(amps * lengths)
        energy_Wh = self._energy_Wh + np.cumsum(amps * volts * lengths)
        block = Block(time_s, amps, volts, degrees, charge_Ah, energy_Wh)
        found = self._guards(volts) if self.step.mode != "rest" else []
        for end in self._onboard:
            places = np.flatnonzero(self._holds(end, block))
            if len(places):
                found.append(_verdict(end, int(places[0]), ""))
        if self.stop_after_Ah is not None:
            near_Ah = self.stop_after_Ah - np.abs(amps) / 7200.0
            places = np.flatnonzero(np.abs(charge_Ah) >= near_Ah)
            if len(places):
                found.append(Verdict(int(places[0]), "capacity", "capacity_Ah"))
        fired = self._watch.look(block)
        if fired is not None:
            is_failure = fired.end.then == "fail"
            found.append(_verdict(fired.end, fired.row, str(fired) if is_failure else ""))
        self._seen += len(time_s)
        self._last_s = float(time_s[-1])
        self._charge_Ah, self._energy_Wh = float(charge_Ah[-1]), float(energy_Wh[-1])
        return min(found, key=lambda verdict: verdict.sample, default=None)

    def timed_out(self) -> Verdict:
        """Return what it means that the step's time is up."""
        last, step = self._seen - 1, self.step
        if step.on_time == "fail":
            why = f"not ended after {step.duration_s} s"
            return Verdict(last, "at_most", "time_s", why, "fail")
        return Verdict(last, "duration", "time_s", "", step.on_time)

    def _guards(self, volts: Array) -> list[Verdict]:
        low, high = self.limits_V
        beyond = np.flatnonzero((volts >= high) | (volts <= low))
        if not len(beyond):
            return []
        n = int(beyond[0])
        why = f"voltage {volts[n]:.4f} V outside {low:g} to {high:g} V"
        return [Verdict(n, "stopped", "voltage_V", why, "fail")]

    def _holds(self, end: End, block: Block) -> NDArray[np.bool_]:
        """Return at which samples of a block a cycler's own test fires."""
        amps, volts = block.current_A, block.voltage_V
        values = {
            "voltage_V": volts, "current_A": np.abs(amps), "power_W": np.abs(amps * volts),
            "capacity_Ah": np.abs(block.moved_Ah), "energy_Wh": np.abs(block.moved_Wh),
        }[end.quantity]  # fmt: skip
        limit = end.value
        if end.quantity == "voltage_V" and end.relation == "above" and self.step.current_A > 0:
            limit -= NEAR_V
        holds = values >= limit if end.relation == "above" else values <= limit
        if end.quantity == "current_A" and end.relation == "below":
            holds = holds & (block.time_s >= SETTLE_s)
        return np.asarray(holds)


def _verdict(end: End, place: int, why: str) -> Verdict:
    if end.then == "fail":
        words = why or f"{end.quantity} {end.relation} {end.value:g}"
        return Verdict(place, "stopped", end.quantity, words, "fail")
    return Verdict(place, ENDED_BY[end.quantity], end.quantity, "", end.then)
