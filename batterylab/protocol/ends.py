"""When a step ends: conditions held against samples, one after the other or a block at a time.

Everything that carries out steps asks this module: the runner for what a cycler cannot find by
itself, the software stepper of host-stepped supplies, and the simulation. A `Watch` sees each
sample of a step once, in order, and says which condition came first, if one did.

Current, power, capacity and energy are compared as magnitudes; capacity and energy count from the
step's start. A change per time is the difference over `over_s`, which must have passed since the
step's start. A condition with `hold_s` must be true in every sample of that time.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batterylab.protocol.form import End, Step

Array = NDArray[np.float64]
#: what a cycler with on-board tests can watch by itself
ONBOARD = ("voltage_V", "current_A", "power_W", "capacity_Ah", "energy_Wh")
#: a current is not judged in the first seconds of a step: it may not have risen yet
SETTLE_s = 5.0
#: what moves away from its limit is looked at again after this
LONGEST_LOOK_s = 10.0
_NEVER = ("soc_percent",)  # `Progress` has turned it into a capacity


def is_onboard(step: Step, end: End) -> bool:
    """Return whether a cycler with on-board tests can watch a condition by itself."""
    return (
        step.mode != "rest"
        and not (step.mode == "profile" and end.then == "next")  # that ends one point only
        and end.quantity in ONBOARD
        and not end.of
        and not end.is_own
        and not end.hold_s
        and end.then in ("next", "fail")
    )


def needs_host(step: Step) -> bool:
    """Return whether somebody besides such a cycler must watch a step, or set its numbers."""
    return (
        bool(step.rate_of)
        or step.air is not None
        or (step.read is not None and step.read.needs_meter)
        or any(end.of for end in step.ends)
        or any(
            end.then != "fail" and not is_onboard(step, end) for end in (*step.ends, *step.stops)
        )
    )


@dataclass(frozen=True)
class Block:
    """Samples of one step, in order.

    Attributes
    ----------
    time_s : ndarray, shape (n,)
        Since the step's start.
    current_A, voltage_V, temperature_degC : ndarray, shape (n,)
        Charge positive; NaN where a reading is missing.
    moved_Ah, moved_Wh : ndarray, shape (n,)
        Since the step's start, charge positive.
    """

    time_s: Array
    current_A: Array
    voltage_V: Array
    temperature_degC: Array
    moved_Ah: Array
    moved_Wh: Array


@dataclass(frozen=True)
class Fired:
    """A condition that came true.

    Attributes
    ----------
    row : int
        The sample of the block that was the last it needed.
    end : End
        The condition.
    value : float
        What was measured there.
    is_stop : bool
        Whether it is one of the step's stops.
    """

    row: int
    end: End
    value: float
    is_stop: bool

    def __str__(self) -> str:
        """Say what was measured, as the reason for a stop."""
        name, _, unit = self.end.quantity.partition("_")
        unit = unit.replace("rate_", "").replace("_per_", "/")
        word = f"{name} rate" if "rate_" in self.end.quantity else name
        return f"{word} {self.value:.5g} {unit} is {self.end.relation} {self.end.value:.5g} {unit}"


class Watch:
    """Holds one step's conditions against its samples.

    Parameters
    ----------
    step : Step
        With the cell's own numbers, as `Progress` hands it out.
    only : callable, optional
        Which conditions to watch; all of them unless told otherwise.
    """

    def __init__(self, step: Step, *, skips_onboard: bool = False) -> None:
        self.step = step
        pairs = [(end, True) for end in step.stops] + [(end, False) for end in step.ends]
        self.conditions = [
            (end, is_stop) for end, is_stop in pairs
            if end.quantity not in _NEVER and not end.of
            and not (skips_onboard and is_onboard(step, end))
        ]  # fmt: skip
        #: no condition can come true before this many seconds have passed, as far as is known
        self.soon_s = 1.0 if self.conditions else math.inf
        self._since = [math.nan] * len(self.conditions)
        self._before: dict[str, tuple[Array, Array]] = {}
        self._last: list[tuple[float, float]] = [(math.nan, math.nan)] * len(self.conditions)

    def look(self, block: Block) -> Fired | None:
        """Return the condition that comes first in the next samples, or None.

        Where two come with the same sample, a stop counts before an end, and an end that the
        file names earlier before a later one.
        """
        if not len(block.time_s):
            return None
        first: Fired | None = None
        self.soon_s = math.inf
        for k, (end, is_stop) in enumerate(self.conditions):
            value = self._values(end, block)
            row = self._row(k, end, value, block.time_s)
            self.soon_s = min(self.soon_s, self._soon(k, end, value, block.time_s))
            if row is not None and (first is None or row < first.row):
                first = Fired(row, end, float(value[row]), is_stop)
        self._remember(block)
        return first

    def _row(self, k: int, end: End, value: Array, time_s: Array) -> int | None:
        """Return the sample in which a condition has been true for long enough."""
        with np.errstate(invalid="ignore"):
            true = value >= end.value if end.relation == "above" else value <= end.value
        if end.quantity in ("current_A", "power_W") and end.relation == "below":
            true &= time_s > SETTLE_s
        if not end.hold_s:
            return int(true.argmax()) if true.any() else None
        for row, (is_true, now_s) in enumerate(zip(true, time_s, strict=True)):
            if not is_true:
                self._since[k] = math.nan
                continue
            if math.isnan(self._since[k]):
                self._since[k] = float(now_s)
            if now_s - self._since[k] >= end.hold_s:
                return row
        return None

    def _soon(self, k: int, end: End, value: Array, time_s: Array) -> float:
        """Return in how many seconds a condition may come true, by the way that it goes.

        What moves at a steady pace is followed to its end, anything else to half of the way.
        """
        (before_s, before), now_s, now = self._last[k], float(time_s[-1]), float(value[-1])
        self._last[k] = now_s, now
        if not math.isfinite(now):
            return max(1.0, end.over_s - now_s) if end.over_s else 1.0
        sign = 1.0 if end.relation == "above" else -1.0
        gap = sign * (end.value - now)
        if gap <= 0:
            since = self._since[k]
            return max(1.0, end.hold_s - (now_s - since)) if math.isfinite(since) else 1.0
        if len(value) > 1 and math.isfinite(value[0]):
            before_s, before = float(time_s[0]), float(value[0])
        pace = sign * (now - before) / (now_s - before_s) if now_s > before_s else math.nan
        if not math.isfinite(pace):
            return 1.0
        if pace <= 0:
            return LONGEST_LOOK_s
        is_steady = end.quantity in ("capacity_Ah", "energy_Wh", "time_s")
        return max(1.0, math.floor(gap / pace * (1.0 if is_steady else 0.5)))

    def _values(self, end: End, block: Block) -> Array:
        """Return the quantity that a condition looks at, sample by sample."""
        if end.quantity == "voltage_V":
            return block.voltage_V
        if end.quantity == "current_A":
            return np.abs(block.current_A)
        if end.quantity == "power_W":
            return np.abs(block.current_A * block.voltage_V)
        if end.quantity == "capacity_Ah":
            half = np.abs(block.current_A) / 7200.0 if end.is_own else 0.0  # the nearest second
            return np.asarray(np.abs(block.moved_Ah) + half, float)
        if end.quantity == "energy_Wh":
            return np.abs(block.moved_Wh)
        if end.quantity == "temperature_degC":
            return block.temperature_degC
        if end.quantity == "time_s":
            return block.time_s
        readings = block.voltage_V if end.quantity.startswith("voltage") else block.temperature_degC
        return self._slopes(end, block.time_s, readings)

    def _slopes(self, end: End, time_s: Array, readings: Array) -> Array:
        """Return the change per second over the last `over_s`; NaN before that has passed."""
        name = end.quantity
        old_s, old = self._before.get(name, (np.zeros(0), np.zeros(0)))
        all_s, values = np.concatenate([old_s, time_s]), np.concatenate([old, readings])
        good = np.isfinite(values)
        if good.sum() < 2:
            return np.full(len(time_s), math.nan)
        then = np.interp(time_s - end.over_s, all_s[good], values[good])
        slopes: Array = (readings - then) / end.over_s
        slopes[time_s - end.over_s < all_s[good][0]] = math.nan
        return slopes

    def _remember(self, block: Block) -> None:
        """Keep as many samples as changes per time look back."""
        for name, readings in (("voltage_rate_V_per_s", block.voltage_V),
                               ("temperature_rate_K_per_s", block.temperature_degC)):  # fmt: skip
            spans = [end.over_s for end, _ in self.conditions if end.quantity == name]
            if not spans:
                continue
            old_s, old = self._before.get(name, (np.zeros(0), np.zeros(0)))
            all_s = np.concatenate([old_s, block.time_s])
            values = np.concatenate([old, readings])
            kept = max(0, int(np.searchsorted(all_s, all_s[-1] - max(spans), side="right")) - 1)
            self._before[name] = all_s[kept:], values[kept:]


def likely_end(
    step: Step, length_s: float, current_A: float, voltage_V: float, moved_Ah: float,
    moved_Wh: float,
) -> str:  # fmt: skip
    """Return which of the ends that a cycler watches has ended a step, judged by its last sample.

    Returns
    -------
    str
        A quantity such as ``voltage_V``, or ``time_s``.
    """
    if length_s >= step.duration_s - 1:
        return "time_s"
    values = {"voltage_V": voltage_V, "current_A": abs(current_A), "capacity_Ah": abs(moved_Ah),
              "energy_Wh": abs(moved_Wh), "power_W": abs(current_A * voltage_V)}  # fmt: skip
    best, least = "time_s", math.inf
    for end in step.ends:
        if end.then == "fail" or not is_onboard(step, end):
            continue
        sign = 1.0 if end.relation == "above" else -1.0
        missing = sign * (end.value - values[end.quantity]) / max(abs(end.value), 1e-9)
        if missing < least:
            best, least = end.quantity, missing
    return best


#: what a recording says of a step that a quantity ended
ENDED_BY = {
    "voltage_V": "voltage", "current_A": "current", "power_W": "power", "time_s": "duration",
    "capacity_Ah": "capacity", "energy_Wh": "energy", "soc_percent": "capacity",
    "temperature_degC": "temperature", "voltage_rate_V_per_s": "dV/dt",
    "temperature_rate_K_per_s": "dT/dt",
}  # fmt: skip

