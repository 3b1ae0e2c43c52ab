"""Turn the cycler's one-second samples into rows worth keeping, on all channels at once.

Charge and energy add up over every sample; then a sample is kept if it is the first or the last
of its step, if the interval has passed, or if the voltage has moved.
"""

from dataclasses import dataclass

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
    """

    unix_time_s: Array
    current_A: Array
    voltage_V: Array
    temperature_degC: Array
    ambient_degC: Array
    step: NDArray[np.int64]
    cycle: NDArray[np.int64]
    every_s: Array


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
        self._held = np.full((channels, len(ROW)), np.nan)
        self._is_held = np.zeros(channels, bool)

    def take(self, samples: Samples) -> Array:
        """Count a poll's samples and return the rows to keep.

        Returns
        -------
        ndarray, shape (k, 11)
            Columns as in `ROW`, in the order of time for each channel.
        """
        active = samples.step >= 0
        moved = np.where(active, samples.current_A, 0.0) / 3600.0
        charge = self.net_Ah + np.cumsum(moved, axis=0)
        energy = self.net_Wh + np.cumsum(moved * samples.voltage_V, axis=0)
        if len(charge):
            self.net_Ah = charge[-1].copy()
            self.net_Wh = energy[-1].copy()
        kept: list[Array] = []
        for i, unix_s in enumerate(samples.unix_time_s):
            rows = self._rows(samples, i, float(unix_s), charge[i], energy[i])
            kept += self._second(samples, i, float(unix_s), rows)
        return np.concatenate(kept) if kept else np.zeros((0, len(ROW)))

    def _rows(
        self, samples: Samples, i: int, unix_s: float, charge: Array, energy: Array
    ) -> Array:
        rows = np.empty((samples.step.shape[1], len(ROW)))
        rows[:, 0] = np.arange(len(rows))
        rows[:, 1] = unix_s - self.start_s
        rows[:, 2] = unix_s
        rows[:, 3] = samples.current_A[i]
        rows[:, 4] = samples.voltage_V[i]
        rows[:, 5] = samples.temperature_degC[i]
        rows[:, 6] = samples.ambient_degC[i]
        rows[:, 7] = samples.step[i]
        rows[:, 8] = samples.cycle[i]
        rows[:, 9] = charge
        rows[:, 10] = energy
        return rows

    def _second(self, samples: Samples, i: int, unix_s: float, rows: Array) -> list[Array]:
        step = samples.step[i]
        kept: list[Array] = []
        begins = step != self._step
        last_of_step = begins & self._is_held
        if last_of_step.any():
            kept.append(self._held[last_of_step])
        active = step >= 0
        wanted = active & (
            begins
            | (unix_s - self._kept_s >= samples.every_s[i])
            | ~(np.abs(rows[:, 4] - self._kept_V) < self.moves_V)
        )
        if wanted.any():
            kept.append(rows[wanted])
            self._kept_s[wanted] = unix_s
            self._kept_V[wanted] = rows[wanted, 4]
        self._is_held = active & ~wanted
        self._held = rows
        self._step = step.copy()
        return kept

    def flush(self, channel: int) -> Array:
        """Return the last sample of a channel if it was not kept yet."""
        if not self._is_held[channel]:
            return np.zeros((0, len(ROW)))
        self._is_held[channel] = False
        return self._held[channel : channel + 1].copy()
