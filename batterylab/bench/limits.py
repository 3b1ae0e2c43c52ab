"""What stops a channel while the runner looks: limits, each with value, debounce and action."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab.bench.benchfile import Limits
from batterylab.bench.channelrun import ChannelRun
from batterylab.bench.recorder import Samples
from batterylab.protocol import Resolved
from batterylab.protocol.form import End

#: a current's limit is so much above the data sheet's largest
ABOVE = 1.1
#: a step moves at most so many times the nominal capacity
MOST = 1.5
#: time over which a change per time is taken
RATE_s = 60.0


@dataclass(frozen=True)
class Watch:
    """The limits of a run.

    Attributes
    ----------
    voltage_V, temperature_degC : (float, float)
        Lowest and highest.
    debounce : int
        Samples (voltage, current) or readings (temperature) in a row beyond a limit that stop a
        channel.
    charge_A, discharge_A : float
        Largest currents, as magnitudes.
    capacity_Ah : float
        Most that one step may move.
    voltage_rate_V_per_s, temperature_rate_K_per_s : float
        Fastest change within a step, taken over `RATE_s`: of the voltage either way, of the
        temperature upwards.
    """

    voltage_V: tuple[float, float]
    temperature_degC: tuple[float, float]
    debounce: int
    charge_A: float = math.inf
    discharge_A: float = math.inf
    capacity_Ah: float = math.inf
    voltage_rate_V_per_s: float = math.inf
    temperature_rate_K_per_s: float = math.inf

    @classmethod
    def of(cls, resolved: Resolved, bench: Limits) -> "Watch":
        """Return the narrower limits of protocol and bench."""
        low, high = resolved.voltage_limits_V
        cold, hot = resolved.temperature_limits_degC
        return cls(
            (max(low, bench.voltage_V[0]), min(high, bench.voltage_V[1])),
            (cold, min(hot, bench.temperature_degC)),
            round(bench.debounce),
            min(ABOVE * resolved.cell_type.max_charge_A, bench.current_A or math.inf),
            min(ABOVE * resolved.cell_type.max_discharge_A, bench.current_A or math.inf),
            min(MOST * resolved.cell_type.nominal_capacity_Ah, bench.capacity_Ah or math.inf),
            bench.voltage_rate_V_per_s or math.inf,
            bench.temperature_rate_K_per_s or math.inf,
        )

    def stops(self) -> tuple[End, ...]:
        """Return the limits of changes per time, as conditions that stop any step."""
        bounds = (("voltage_rate_V_per_s", "above", self.voltage_rate_V_per_s),
                  ("voltage_rate_V_per_s", "below", -self.voltage_rate_V_per_s),
                  ("temperature_rate_K_per_s", "above", self.temperature_rate_K_per_s))  # fmt: skip
        hold_s = float(self.debounce - 1)
        return tuple(
            End(quantity, relation, value, over_s=RATE_s, hold_s=hold_s, then="fail")
            for quantity, relation, value in bounds if math.isfinite(value)
        )  # fmt: skip

    def layers(self, stale_s: float) -> list[dict[str, Any]]:
        """Return the limits as a recording keeps them: value, debounce and action of each."""
        low, high = self.voltage_V
        cold, hot = self.temperature_degC
        stop, end = "channel safe, recording invalid", "run ends, all channels safe"
        rows: list[tuple[str, float | None, float, int, str]] = [
            ("voltage_V", low, high, self.debounce, stop),
            ("temperature_degC", cold, hot, self.debounce, stop),
            ("current_A", -self.discharge_A, self.charge_A, self.debounce, stop),
            ("step_capacity_Ah", 0.0, self.capacity_Ah, 1, stop),
            ("sample_age_s", 0.0, stale_s, 1, end),
        ]
        if math.isfinite(self.voltage_rate_V_per_s):
            most = self.voltage_rate_V_per_s
            rows.append(("voltage_rate_V_per_s", -most, most, self.debounce, stop))
        if math.isfinite(self.temperature_rate_K_per_s):
            most = self.temperature_rate_K_per_s
            rows.append(("temperature_rate_K_per_s", None, most, self.debounce, stop))
        return [
            {"layer": "L3 runner", "what": what, "low": least, "high": most, "debounce": count,
             "action": action} for what, least, most, count, action in rows
        ]  # fmt: skip

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
        return (
            self._out_of_voltage(run, samples, column)
            or self._out_of_current(run, samples, column)
            or self._too_much(run)
            or (self._too_hot(run, degC) if is_new else "")
        )

    def _out_of_current(self, run: ChannelRun, samples: Samples, column: int) -> str:
        amps = samples.current_A[:, column]
        out = (samples.step[:, column] >= 0) & ~(
            (amps <= self.charge_A) & (amps >= -self.discharge_A)
        )
        if not out.any():
            run.bad_currents = 0
            return ""
        run.bad_currents = longest_run(out, run.bad_currents)
        if run.bad_currents < self.debounce:
            return ""
        return (f"current {amps[out][-1]:.4f} A outside {-self.discharge_A:g} to "
                f"{self.charge_A:g} A")  # fmt: skip

    def _too_much(self, run: ChannelRun) -> str:
        running = run.running
        if running is None:
            return ""
        moved_Ah = abs(running.moved_Ah[len(running.starts_s) - 1])
        if moved_Ah <= self.capacity_Ah:
            return ""
        return f"the step moved {moved_Ah:.4f} Ah, more than {self.capacity_Ah:g} Ah"

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
