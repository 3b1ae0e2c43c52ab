"""One step of a simulation as it went."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batterylab.protocol.judge import Verdict

Array = NDArray[np.float64]
#: within a rest, seconds up to here, minutes after it
DENSE_s, COARSE_s = 3600, 60


@dataclass(frozen=True)
class Trace:
    """One step as it went.

    Attributes
    ----------
    time_s : ndarray, shape (n,)
        Since the step's start; the end of each sample's second.
    current_A, voltage_V, temperature_degC : ndarray, shape (n,)
        Charge current positive.
    ended_by, quantity, failure, then : str
        As in `Verdict`.
    """

    time_s: Array
    current_A: Array
    voltage_V: Array
    temperature_degC: Array
    ended_by: str
    quantity: str = "time_s"
    failure: str = ""
    then: str = "next"

    @property
    def moved_Wh(self) -> float:
        """Energy, charge positive."""
        lengths = np.diff(self.time_s, prepend=0.0)
        return float(np.sum(self.current_A * self.voltage_V * lengths)) / 3600.0

    @property
    def moved_Ah(self) -> float:
        """Charge, charge current positive."""
        lengths = np.diff(self.time_s, prepend=0.0)
        return float(np.sum(self.current_A * lengths)) / 3600.0


def trace_of(time_s: Array, columns: Array, verdict: Verdict) -> Trace:
    """Return a step's samples (current, voltage, temperature) with what ended it."""
    return Trace(
        time_s, columns[:, 0].copy(), columns[:, 1].copy(), columns[:, 2].copy(),
        verdict.ended_by, verdict.quantity, verdict.failure, verdict.then,
    )  # fmt: skip


def joined(traces: list[Trace]) -> Trace:
    """Return traces that follow each other as one, ended as the last of them."""
    starts = np.cumsum([0.0, *(float(trace.time_s[-1]) for trace in traces[:-1])])
    last = traces[-1]
    return Trace(
        np.concatenate([start + t.time_s for start, t in zip(starts, traces, strict=True)]),
        np.concatenate([t.current_A for t in traces]),
        np.concatenate([t.voltage_V for t in traces]),
        np.concatenate([t.temperature_degC for t in traces]),
        last.ended_by, last.quantity, last.failure, last.then,
    )  # fmt: skip


def rest_times(duration_s: int) -> Array:
    """Return when a rest is sampled: every second at first, every minute after an hour."""
    dense = np.arange(1.0, min(duration_s, DENSE_s) + 1)
    coarse = np.arange(DENSE_s + COARSE_s, duration_s, COARSE_s, dtype=float)
    last = [float(duration_s)] if duration_s > DENSE_s else []
    return np.concatenate([dense, coarse, last])
