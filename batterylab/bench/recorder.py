"""Turn the cycler's one-second samples into rows worth keeping, on all channels at once.

Charge and energy add up over every sample; then a sample is kept if it is the first or the last
of its step, if the interval has passed, or if the voltage has moved.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batterylab._kernels import _record
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
    moves_A, moves_V : ndarray, shape (n, c), or None
        How far current or voltage must move for a sample to be kept, where a step has its own
        rule; NaN elsewhere.
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
    moves_A: Array | None = None
    moves_V: Array | None = None


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
    current_moves_A : float
        Keep a sample when the current has moved by this.
    """

    def __init__(
        self, channels: int, voltage_moves_V: float, start_s: float,
        current_moves_A: float = np.inf,
    ) -> None:  # fmt: skip
        self.start_s = start_s
        self.moves_A, self.moves_V = current_moves_A, voltage_moves_V
        self.net_Ah = np.zeros(channels)
        self.net_Wh = np.zeros(channels)
        #: time, current and voltage of each channel's last kept sample
        self._kept = np.full((3, channels), np.nan)
        self._kept[0] = -np.inf
        self._step = np.full(channels, -1, np.int64)
        #: the last sample of each channel, kept only if the next one begins another step
        self._held = np.zeros((channels, len(ROW)))
        self._has_held = np.zeros(channels, bool)
        #: the last sample of each channel, kept or not, as a row; NaN before there is one
        self.last: Array = np.full((channels, len(ROW)), np.nan)

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
        was_last = self._has_held & (samples.step[0] != self._step)
        chosen = np.zeros(samples.step.shape, np.uint8)
        _record.choose(
            np.ascontiguousarray(samples.unix_time_s), np.ascontiguousarray(samples.current_A),
            np.ascontiguousarray(samples.voltage_V), np.ascontiguousarray(samples.step),
            np.ascontiguousarray(samples.every_s),
            _rule(samples.moves_A, self.moves_A, chosen.shape),
            _rule(samples.moves_V, self.moves_V, chosen.shape), self._kept, self._step, chosen,
        )  # fmt: skip
        channel, index = np.nonzero(chosen.T)
        rows = self._rows(samples, index, channel, charge, energy)
        if was_last.any():
            rows = np.concatenate([self._held[was_last], rows])
            rows = rows[np.argsort(rows[:, 0], kind="stable")]
        self._has_held = (samples.step[-1] >= 0) & (chosen[-1] == 0)
        held = np.flatnonzero(self._has_held)
        last = np.full(len(held), len(chosen) - 1)
        self._held[held] = self._rows(samples, last, held, charge, energy)
        counted = np.flatnonzero(active.any(axis=0))
        final = len(active) - 1 - active[::-1, counted].argmax(axis=0)
        self.last[counted] = self._rows(samples, final, counted, charge, energy)
        return rows

    def _rows(
        self, samples: Samples, i: NDArray[np.int64], c: NDArray[np.int64], charge: Array,
        energy: Array,
    ) -> Array:  # fmt: skip
        """Return samples `i` of channels `c` as rows."""
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

    def flush(self, channel: int) -> Array:
        """Return the last sample of a channel if it was not kept yet."""
        if not self._has_held[channel]:
            return np.zeros((0, len(ROW)))
        self._has_held[channel] = False
        return self._held[[channel]]


def _rule(own: Array | None, common: float, shape: tuple[int, ...]) -> Array:
    """Return each sample's rule: its step's own, or the protocol's."""
    if own is None:
        return np.broadcast_to(np.float64(common), shape)
    return np.where(np.isnan(own), common, own)
