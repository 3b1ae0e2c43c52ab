"""What a stepper keeps of a supply: the sequence under way, what it did, who may talk to it."""

import math
from dataclasses import dataclass, field
from typing import Any

from batterylab.drivers.roles import CellState, LogBlock, OnboardStep
from batterylab.errors import SafetyStopError

#: longest wait for the thread that is talking to the supply
BUSY_s = 15.0


@dataclass(frozen=True)
class Snapshot:
    """What a supply has done since the last time.

    Attributes
    ----------
    block : LogBlock
        The new samples of the one channel; times are unix milliseconds.
    starts_s, ends_s : tuple of float
        Unix time at which each step of the sequence began and ended, as far as they have.
    state : CellState
        What it does now.
    end_s : float
        When the sequence ended; NaN while it runs.
    """

    block: LogBlock
    starts_s: tuple[float, ...]
    ends_s: tuple[float, ...]
    state: CellState
    end_s: float


@dataclass
class Course:
    """A sequence under way."""

    steps: tuple[OnboardStep, ...]
    stop_after_Ah: float
    starts_s: list[float] = field(default_factory=list)
    ends_s: list[float] = field(default_factory=list)
    last_s: float = math.nan
    last_V: float = math.nan
    before_s: float = 0.0
    step_Ah: float = 0.0
    step_Wh: float = 0.0
    total_Ah: float = 0.0
    set_A: float = 0.0

    @property
    def step(self) -> OnboardStep:
        """The step that runs."""
        return self.steps[len(self.starts_s) - 1]


class Held:
    """Holds a lock, or says in bounded time that it cannot be had."""

    def __init__(self, lock: Any, name: str) -> None:
        self._lock, self._name = lock, name

    def __enter__(self) -> None:
        """Take the lock, or raise `SafetyStopError`."""
        if not self._lock.acquire(timeout=BUSY_s):
            raise SafetyStopError(
                f"{self._name}: not confirmed safe: a command to it does not come back",
                hint="disconnect its cell by hand now",
            )

    def __exit__(self, *_: object) -> None:
        """Let go."""
        self._lock.release()
