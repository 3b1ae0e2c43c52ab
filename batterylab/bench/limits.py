"""What stops a channel while the runner looks: limits, each with value, debounce and action."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batterylab.bench.benchfile import Limits
from batterylab.bench.channelrun import ChannelRun
from batterylab.bench.recorder import Samples
from batterylab.protocol import Resolved


@dataclass(frozen=True)
class Watch:
    """The limits of a run.

    Attributes
    ----------
    voltage_V, temperature_degC : (float, float)
        Lowest and highest.
    debounce : int
        Samples (voltage) or readings (temperature) in a row beyond a limit that stop a channel.
    """

    voltage_V: tuple[float, float]
    temperature_degC: tuple[float, float]
    debounce: int

    @classmethod
    def of(cls, resolved: Resolved, bench: Limits) -> "Watch":
        """Return the narrower limits of protocol and bench."""
        low, high = resolved.voltage_limits_V
        cold, hot = resolved.temperature_limits_degC
        return cls(
            (max(low, bench.voltage_V[0]), min(high, bench.voltage_V[1])),
            (cold, min(hot, bench.temperature_degC)),
            round(bench.debounce),
        )

    def reason(
        self, run: ChannelRun, samples: Samples, column: int, degC: float, *, is_new: bool
    ) -> str:
        """Say why a channel must be stopped now; empty if it need not.

        Parameters
        ----------
        run : ChannelRun
            Counts what is beyond a limit.
        samples : Samples
            Since the last look.
        column : int
            The channel's.
        degC : float
            Its cell's temperature; NaN if its thermocouple is open.
        is_new : bool
            Whether it was read since the last time.
        """
        return self._out_of_voltage(run, samples, column) or (
            self._too_hot(run, degC) if is_new else ""
        )

    def _out_of_voltage(self, run: ChannelRun, samples: Samples, column: int) -> str:
        low, high = self.voltage_V
        volts = samples.voltage_V[:, column]
        out = (samples.step[:, column] >= 0) & ~((volts >= low) & (volts <= high))
        if not out.any():
            run.bad_samples = 0
            return ""
        run.bad_samples = longest_run(out, run.bad_samples)
        if run.bad_samples < self.debounce:
            return ""
        return f"voltage {volts[out][-1]:.4f} V outside {low:g} to {high:g} V"

    def _too_hot(self, run: ChannelRun, degC: float) -> str:
        if not run.entry.scanner:
            return ""
        low, high = self.temperature_degC
        run.hot_polls = 0 if low <= degC <= high else run.hot_polls + 1
        if run.hot_polls < self.debounce:
            return ""
        if math.isnan(degC):
            return "the thermocouple is open"
        return f"temperature {degC:.1f} °C outside {low:g} to {high:g} °C"


def longest_run(flags: NDArray[np.bool_], before: int) -> int:
    """Return the longest run of true flags, the first one continuing `before`."""
    longest = current = before
    for flag in flags:
        current = current + 1 if flag else 0
        longest = max(longest, current)
    return longest
