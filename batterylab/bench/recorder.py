"""Turn the cycler's one-second samples into rows worth keeping, on all channels at once.

Charge and energy add up over every sample; then a sample is kept if it is the first or the last
of its step, if the interval has passed, or if the voltage has moved.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from batterylab.bench.journal import ROW

Array = NDArray[np.float64]


@dataclass
class Samples:
    """One poll's samples: `n` seconds of `c` channels.

    Attributes
    ----------
    unix_time_s : ndarray, shape (n,)
        End of each second.
    current_A, voltage_V, temperature_degC, ambient_degC : ndarray, shape (n, c)
        Charge current positive.
    step : ndarray of int, shape (n, c)
        Running number of the step in the recording; -1 where nothing is recorded.
    cycle : ndarray of int, shape (n, c)
        Cycle number.
    every_s : ndarray, shape (n, c)
        Interval at which the step is recorded.
    interval_s : ndarray, shape (n, c)
        Time of which each sample tells: since the one before, or since its step began.
    """

    unix_time_s: Array
    current_A: Array
    voltage_V: Array
    temperature_degC: Array
    ambient_degC: Array
    step: NDArray[np.int64]
    cycle: NDArray[np.int64]
    every_s: Array
    interval_s: Array


class Recorder:
    """The record rule and the counters of all channels of a run.

    Parameters
    ----------
    channels : int
        How many.
    voltage_moves_V : float
        Keep a sample when the voltage has moved by this.
    start_s : float
        Unix time at which the run began.
    """

    def __init__(self, channels: int, voltage_moves_V: float, start_s: float) -> None:
        self.start_s = start_s
        self.moves_V = voltage_moves_V
        self.net_Ah = np.zeros(channels)
        self.net_Wh = np.zeros(channels)
        self._kept_s = np.full(channels, -np.inf)
        self._kept_V = np.full(channels, np.nan)
        self._step = np.full(channels, -1)
        #: the last sample of each channel, kept only if the next one begins another step
        self._held: list[Array | None] = [None] * channels

    def take(self, samples: Samples) -> Array:
        """Count a poll's samples and return the rows to keep.

        Returns
        -------
        ndarray, shape (k, 11)
            Columns as in `ROW`, channel by channel, each in the order of time.
        """
        if not len(samples.unix_time_s):
            return np.zeros((0, len(ROW)))
        active = samples.step >= 0
        moved = np.where(active, samples.current_A, 0.0) * samples.interval_s / 3600.0
        charge = self.net_Ah + np.cumsum(moved, axis=0)
        energy = self.net_Wh + np.cumsum(moved * samples.voltage_V, axis=0)
        self.net_Ah, self.net_Wh = charge[-1].copy(), energy[-1].copy()
        kept: list[Array] = []
        for c in range(samples.step.shape[1]):
            if not active[:, c].any() and self._held[c] is None:
                self._step[c] = -1
                continue
            indices = self._choose(samples, c, kept)
            if indices:
                kept.append(self._rows(samples, c, np.array(indices), charge, energy))
            self._hold(samples, c, indices, charge, energy)
        return np.concatenate(kept) if kept else np.zeros((0, len(ROW)))

    def _rows(
        self, samples: Samples, c: int, i: NDArray[np.int64], charge: Array, energy: Array
    ) -> Array:
        rows = np.empty((len(i), len(ROW)))
        rows[:, 0] = c
        rows[:, 2] = samples.unix_time_s[i]
        rows[:, 1] = rows[:, 2] - self.start_s
        columns = (
            samples.current_A, samples.voltage_V, samples.temperature_degC, samples.ambient_degC,
            samples.step, samples.cycle, charge, energy,
        )  # fmt: skip
        for k, values in enumerate(columns, 3):
            rows[:, k] = values[i, c]
        return rows

    def _choose(self, samples: Samples, c: int, kept: list[Array]) -> list[int]:
        """Return which of a channel's samples are kept, in order."""
        step = samples.step[:, c]
        edges = [0, *(np.flatnonzero(step[1:] != step[:-1]) + 1).tolist(), len(step)]
        held = self._held[c]
        if held is not None and step[0] != self._step[c]:
            kept.append(held)
        chosen: list[int] = []
        for first, end in pairwise(edges):
            if step[first] < 0:
                continue
            begins = first > 0 or step[0] != self._step[c]
            self._stretch(samples, c, (first, end), begins, chosen)
            if end < len(step) and chosen[-1:] != [end - 1]:
                chosen.append(end - 1)
        self._step[c] = step[-1]
        return chosen

    def _stretch(
        self, samples: Samples, c: int, span: tuple[int, int], begins: bool, chosen: list[int]
    ) -> None:
        """Choose from samples of one step."""
        at, end = span
        times, volts = samples.unix_time_s, samples.voltage_V[:, c]
        every_s = samples.every_s[at, c]
        if begins:
            self._keep(at, c, times, volts, chosen)
            at += 1
        while at < end:
            due = (times[at:end] - self._kept_s[c] >= every_s) | (
                np.abs(volts[at:end] - self._kept_V[c]) >= self.moves_V
            )
            first = int(due.argmax())
            if not due[first]:
                return
            at += first
            self._keep(at, c, times, volts, chosen)
            at += 1

    def _keep(self, i: int, c: int, times: Array, volts: Array, chosen: list[int]) -> None:
        self._kept_s[c], self._kept_V[c] = times[i], volts[i]
        chosen.append(i)

    def _hold(
        self, samples: Samples, c: int, indices: list[int], charge: Array, energy: Array
    ) -> None:
        """Remember the last sample, in case that it turns out to be the last of its step."""
        last = len(samples.unix_time_s) - 1
        if samples.step[last, c] < 0 or indices[-1:] == [last]:
            self._held[c] = None
        else:
            self._held[c] = self._rows(samples, c, np.array([last]), charge, energy)

    def flush(self, channel: int) -> Array:
        """Return the last sample of a channel if it was not kept yet."""
        held = self._held[channel]
        self._held[channel] = None
        return np.zeros((0, len(ROW))) if held is None else held
