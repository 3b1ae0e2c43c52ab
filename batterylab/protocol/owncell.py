"""The kernel's cell under the sequences that the bench loads into its cycler, without errors."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batterylab._kernels import _cellsim
from batterylab.bench.onboard import Guards, compile_segment
from batterylab.drivers.roles import OnboardStep
from batterylab.protocol import Segment, Step
from batterylab.protocol.simulate import COARSE_s, Trace, rest_times
from batterylab.simulated import bank as b
from batterylab.simulated.cell import SimulatedCell, ZERO_degC

Array = NDArray[np.float64]
#: seconds at once; the temperature is known at their ends and linear between
BLOCK_s = 10
_ENDS = {"VOLT": "voltage", "CURR": "current"}
#: a step that begins in a state so near one that was followed already goes the same way
SAME_rtol, SAME_atol = 1e-9, 1e-10
#: ways remembered of each step
MEMORY = 4


@dataclass(frozen=True)
class _Way:
    """How a step went: states before and after it, the channel after it, the samples."""

    begins: Array
    ends: Array
    run: Array
    trace: Trace


class OwnEngine:
    """One channel of an ideal cycler with one simulated cell.

    Parameters
    ----------
    cell : SimulatedCell
        The cell.
    state : ndarray, shape (123,)
        Where it begins; changed in place.
    ambient_degC : float
        Of the air.
    voltage_limits_V : (float, float)
        Beyond these, the step fails.
    """

    def __init__(
        self,
        cell: SimulatedCell,
        state: Array,
        ambient_degC: float,
        voltage_limits_V: tuple[float, float],
    ) -> None:
        self.cell = cell
        self.guards = Guards(voltage_limits_V)
        self.ambient_degC = ambient_degC
        self._ambient_K = np.array([ambient_degC + ZERO_degC])
        self._parameters = cell.parameters[None, :].copy()
        self._state = state[None, :].copy()
        fade_n, fade_p = cell.fades(1.0)
        self._fade_n, self._fade_p = fade_n[None, :].copy(), fade_p[None, :].copy()
        self._meter, self._seeds = np.zeros((1, 6)), np.ones(1, np.uint64)
        self._run = np.zeros((1, b.RUN_COLUMNS))
        self._run[0, [b.INSERTED, b.POLARITY]] = 1.0
        self._steps = np.full((1, 2, 4), -1.0)
        self._counts = np.zeros((1, 2), np.int32)
        self._tests = np.zeros((1, 2, b.TESTS, 5))
        self._unused = np.zeros((1, 1))
        self._ways: dict[tuple[Step, float | None], list[_Way]] = {}

    def carry_out(self, step: Step, stop_after_Ah: float | None) -> Trace:
        """Carry a step out; with `stop_after_Ah`, end it once that much charge has moved.

        A cell that does not age goes through a life of equal cycles the same way again and
        again: a step is followed once for each state that it begins in.
        """
        ways = self._ways.setdefault((step, stop_after_Ah), [])
        for way in ways:
            if np.allclose(self._state, way.begins, SAME_rtol, SAME_atol):
                self._state[:], self._run[:] = way.ends, way.run
                return way.trace
        begins = self._state.copy()
        trace = self._follow(step, stop_after_Ah)
        ways.append(_Way(begins, self._state.copy(), self._run.copy(), trace))
        del ways[:-MEMORY]
        return trace

    def _follow(self, step: Step, stop_after_Ah: float | None) -> Trace:
        if step.kind == "rest":
            return self._rest(step)
        onboard = compile_segment(Segment((step,)), self.guards)[0]
        self._load(onboard)
        begins_degC = self._state[0, 2] - ZERO_degC
        amps, volts, degrees = [], [], [begins_degC]
        moved_Ah, stop_Ah = 0.0, np.inf
        if stop_after_Ah is not None:
            stop_Ah = stop_after_Ah - abs(step.current_A) / 7200.0
        while self._run[0, b.STATUS] == b.RUNNING and moved_Ah < stop_Ah:
            seconds = BLOCK_s
            if stop_after_Ah is not None:
                left_s = 3600.0 * (stop_after_Ah - moved_Ah) / abs(step.current_A)
                seconds = int(min(BLOCK_s, max(1.0, left_s)))
            block_A, block_V = self._advance(seconds)
            amps.append(block_A)
            volts.append(block_V)
            moved_Ah += abs(float(block_A.sum())) / 3600.0
            last, now = degrees[-1], self._state[0, 2] - ZERO_degC
            degrees.extend(last + (now - last) * np.arange(1, len(block_A) + 1) / len(block_A))
        current_A, voltage_V = np.concatenate(amps), np.concatenate(volts)
        ended_by, failure = "capacity", ""
        if self._run[0, b.STATUS] != b.RUNNING:
            ended_by, failure = self._outcome(onboard)
        time_s = np.arange(1.0, len(current_A) + 1)
        return Trace(time_s, current_A, voltage_V, np.array(degrees[1:]), ended_by, failure)

    def _rest(self, step: Step) -> Trace:
        times = rest_times(step.duration_s)
        lengths = np.diff(times, prepend=0.0)
        volts, degrees = np.empty(len(times)), np.empty(len(times))
        for length in dict.fromkeys(lengths.tolist()):  # in the order of time
            rows = np.flatnonzero(lengths == length)
            if length < COARSE_s and length > 1.0:
                rows = rows[-1:]
            volts[rows], degrees[rows] = self.cell.follow(
                self._state[0], np.zeros(len(rows)), length, self.ambient_degC
            )
        self._run[0, b.TRUE_CURRENT] = 0.0
        return Trace(times, np.zeros(len(times)), volts, degrees, "duration")

    def _load(self, onboard: OnboardStep) -> None:
        self._steps[0, 0] = (b.MODE_NUMBERS[onboard.mode], onboard.duration_s, onboard.current_A,
                             onboard.voltage_V)  # fmt: skip
        self._counts[0, 0] = len(onboard.tests)
        for i, test in enumerate(onboard.tests):
            self._tests[0, 0, i] = (
                b.TEST_KINDS.index(test.kind), test.value, b.WHENS.index(test.when), test.time_s,
                1.0 if test.action == "NEXT" else 0.0,
            )  # fmt: skip
        run = self._run[0]
        run[[b.STATUS, b.SLOT, b.STEP]] = b.RUNNING, 1, 1
        run[[b.ELAPSED, b.STEP_AH, b.STEP_WH, b.SEQUENCE_S]] = 0.0

    def _advance(self, seconds: int) -> tuple[Array, Array]:
        """Advance until the step ends, and not a second longer."""
        before = self._state.copy(), self._run.copy()
        amps, volts, status = self._kernel(seconds)
        ended = np.flatnonzero(status != b.RUNNING)
        if len(ended) and ended[0] + 1 < seconds:
            self._state[:], self._run[:] = before
            amps, volts, status = self._kernel(int(ended[0]) + 1)
        return amps.astype(float), volts.astype(float)

    def _kernel(
        self, seconds: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int16]]:
        amps, volts = np.empty((2, seconds, 1), np.float32)
        status = np.empty((seconds, 1), np.int16)
        cell = self.cell
        _cellsim.advance(
            seconds, self._parameters, self._state, self._fade_n, self._fade_p, cell.weights,
            cell.weights, cell.curves, cell.tables.stoichiometry_step, cell.electrolyte_curves,
            cell.tables.concentration_step, self._meter, self._seeds, self._run,
            self._ambient_K, self._steps, self._counts, self._tests, self._unused, amps, volts,
            status,
        )  # fmt: skip
        return amps[:, 0], volts[:, 0], status[:, 0]

    def _outcome(self, onboard: OnboardStep) -> tuple[str, str]:
        """Return what ended the step, and why the protocol cannot go on."""
        run = self._run[0]
        fired = int(run[b.FAILED_TEST])
        if fired == 0:
            return "duration", ""
        test = onboard.tests[fired - 1]
        if test.action == "NEXT":
            return _ENDS[test.kind[:4]], ""
        if test.when == "AT":
            return "at_most", f"not ended after {onboard.duration_s} s"
        return "stopped", f"{test.kind} {test.value:g}: measured {run[b.MEASURED]:.4g}"
