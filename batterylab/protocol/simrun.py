"""One simulated cell's way through a protocol, recorded as the bench records."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batterylab.bench.recorder import Recorder, Samples
from batterylab.protocol import Outcome, Progress, Resolved, Segment, Step
from batterylab.protocol.trace import Trace, joined
from batterylab.recording import StepRow

Array = NDArray[np.float64]
ROOM_degC = 25.0
#: how fast a chamber's air follows its set point, and at which steps that is followed
AIR_K_per_min = 2.0
AIR_STEP_s = 60


class Engine(Protocol):
    """What carries out one step on a cell and keeps the cell's state."""

    ambient_degC: float

    def carry_out(self, step: Step, stop_after_Ah: float | None = None) -> Trace:
        """Carry a step out; with `stop_after_Ah`, end it once that much charge has moved."""

    def impedance_ohm(self, frequency_Hz: Array) -> NDArray[np.complex128]:
        """Return the impedance of the cell as it is."""


class Run:
    """One cell's way through a protocol.

    Parameters
    ----------
    resolved : Resolved
        The protocol.
    engine : Engine
        The cell.
    start_s : float
        Unix time at which the recording begins.
    report : callable or None
        Gets the share that is done, 0 to 1, after every step.

    Attributes
    ----------
    failure : str
        Why the protocol was stopped; empty if it was not.
    rows : list of StepRow
        The steps, after `go`.
    readings : list of dict
        What `measure` steps read: ``step_index``, ``what``, ``measure`` and the value or, for a
        spectrum, the rows that hold it.
    """

    def __init__(
        self,
        resolved: Resolved,
        engine: Engine,
        start_s: float,
        report: Callable[[float], None] | None,
    ) -> None:
        self.report = report or (lambda _: None)
        self.expected_s = max(1.0, resolved.expected_s())
        self.resolved = resolved
        self.engine = engine
        self.start_s = start_s
        self.progress = Progress(resolved)
        self.recorder = Recorder(1, resolved.voltage_moves_V, start_s)
        self.now_s = 0.0
        self.failure = ""
        self.rows: list[StepRow] = []
        self.readings: list[dict[str, Any]] = []
        self._kept: list[Array] = []
        self._spectra: list[tuple[int, Array, NDArray[np.complex128]]] = []
        self._plans: list[tuple[Step, int, float, Trace]] = []

    def go(self) -> None:
        """Carry out segment after segment until all is done or one fails."""
        while self.progress.current is not None and not self.failure:
            outcomes = self._segment(self.progress.current)
            if not self.failure:
                self.progress.finish(outcomes)
        self._kept.append(self.recorder.flush(0))
        self._kept = [np.concatenate(self._kept)]
        self.rows = self._step_rows()

    def _segment(self, segment: Segment) -> list[Outcome]:
        outcomes = []
        for step in segment.steps:
            if step.air is not None:
                trace = self._soak(step)
            else:
                trace = self.engine.carry_out(step, segment.stop_after_Ah)
            trace = _within_temperature(trace, self.resolved.temperature_limits_degC)
            self._note(step, segment.cycle, trace)
            outcomes.append(_outcome(trace))
            if trace.failure:
                self.failure = f"{step.path}: {trace.failure}"
                break
            if step.read is not None:
                self._read(step, trace)
        return outcomes

    def _soak(self, step: Step) -> Trace:
        """Let the air go to its new temperature, then wait."""
        if step.air is None:
            return self.engine.carry_out(step)
        gap_K = step.air.temperature_degC - self.engine.ambient_degC
        pieces = max(1, math.ceil(abs(gap_K) / AIR_K_per_min * 60 / AIR_STEP_s))
        begin = self.engine.ambient_degC
        waits = replace(step, duration_s=AIR_STEP_s, ends=(), air=None)
        traces = []
        for k in range(pieces if gap_K else 0):
            self.engine.ambient_degC = begin + gap_K * (k + 0.5) / pieces
            traces.append(self.engine.carry_out(waits))
        self.engine.ambient_degC = step.air.temperature_degC
        traces.append(self.engine.carry_out(step))
        return joined(traces)

    def _read(self, step: Step, trace: Trace) -> None:
        """Keep what an instrument would read at the end of a `measure` step."""
        assert step.read is not None  # noqa: S101  (the caller looked)
        reading: dict[str, Any] = {
            "step_index": len(self._plans) - 1, "what": step.read.what, "measure": step.measure,
        }  # fmt: skip
        if step.read.what == "ocv":
            reading["voltage_V"] = float(trace.voltage_V[-1])
        else:
            frequency_Hz = np.array(step.read.frequency_Hz)
            ohms = self.engine.impedance_ohm(frequency_Hz)
            if step.read.what == "ac_resistance":
                reading |= {"frequency_Hz": frequency_Hz[0], "resistance_ohm": ohms[0].real}
            else:
                self._spectra.append((len(self._plans) - 1, frequency_Hz, ohms))
        self.readings.append(reading)

    def _note(self, step: Step, cycle: int, trace: Trace) -> None:
        shape = (len(trace.time_s), 1)
        every_s = step.sample_every_s or self.resolved.every_s
        self._kept.append(
            self.recorder.take(
                Samples(
                    self.start_s + self.now_s + trace.time_s,
                    trace.current_A[:, None], trace.voltage_V[:, None],
                    trace.temperature_degC[:, None],
                    np.full(shape, self.engine.ambient_degC),
                    np.full(shape, len(self._plans)), np.full(shape, cycle),
                    np.full(shape, every_s),
                    np.diff(trace.time_s, prepend=0.0)[:, None],
                )
            )
        )  # fmt: skip
        self._plans.append((step, cycle, self.now_s, trace))
        self.now_s += float(trace.time_s[-1])
        self.report(min(1.0, self.now_s / self.expected_s))

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the recording's columns; the rows of a spectrum follow its step's others."""
        from batterylab.bench.journal import ROW

        names = {name: k for k, name in enumerate(ROW)}
        rows, extra = self._kept[0], np.full((len(self._kept[0]), 3), np.nan)
        for step, frequency_Hz, ohms in self._spectra:
            place = int(np.searchsorted(rows[:, names["step_index"]], step, side="right"))
            copies = np.repeat(rows[place - 1 : place], len(ohms), axis=0)
            values = np.column_stack([frequency_Hz, ohms.real, ohms.imag])
            rows = np.concatenate([rows[:place], copies, rows[place:]])
            extra = np.concatenate([extra[:place], values, extra[place:]])
        found = {
            name: rows[:, k].astype("<i4" if name.endswith("_index") else "<f8")
            for name, k in names.items()
            if k > 0
        }
        if self._spectra:
            keys = ("frequency_Hz", "impedance_real_ohm", "impedance_imaginary_ohm")
            found |= dict(zip(keys, extra.T.copy(), strict=True))
        return found

    def _step_rows(self) -> list[StepRow]:
        index = self.columns()["step_index"]
        edges = np.searchsorted(index, np.arange(len(self._plans) + 1))
        return [
            StepRow(
                step_index=number, first_row=int(edges[number]),
                last_row=int(edges[number + 1]) - 1, kind=step.kind, label=step.path,
                measure=step.measure, ended_by=trace.ended_by, cycle_index=cycle,
                start_s=start_s, duration_s=float(trace.time_s[-1]), current_A=step.current_A,
                voltage_V=step.voltage_V,
            )
            for number, (step, cycle, start_s, trace) in enumerate(self._plans)
        ]  # fmt: skip


def _outcome(trace: Trace) -> Outcome:
    return Outcome(
        trace.moved_Ah, trace.moved_Wh, float(trace.time_s[-1]), float(trace.voltage_V[-1]),
        trace.then, trace.quantity,
    )  # fmt: skip


def _within_temperature(trace: Trace, limits_degC: tuple[float, float]) -> Trace:
    """Cut a step where the cell leaves its temperature limits, as the bench would."""
    low, high = limits_degC
    out = np.flatnonzero((trace.temperature_degC < low) | (trace.temperature_degC > high))
    if not len(out):
        return trace
    n = int(out[0]) + 1
    return Trace(
        trace.time_s[:n], trace.current_A[:n], trace.voltage_V[:n], trace.temperature_degC[:n],
        "stopped", "temperature_degC",
        f"temperature {trace.temperature_degC[n - 1]:.1f} °C outside {low:g} to {high:g} °C",
        "fail",
    )  # fmt: skip
