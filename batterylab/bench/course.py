"""A sequence under way on a supply that the host steps, and what the runner is told of it."""

import math
from dataclasses import dataclass, field

from batterylab.drivers.roles import CellState, LogBlock, OnboardStep


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
