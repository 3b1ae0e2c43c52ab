"""Carry a protocol out on a simulated cell: a recording like any other, without a bench.

Two engines drive the cell. ``own`` is the simulated bench's kernel under the sequences that the
bench would load into its cycler; ``pybamm`` is PyBaMM's single-particle model with electrolyte
on a refined mesh. Both decide what comes next through `Progress`, as the bench does, and both
end steps at whole seconds, as a cycler that samples every second does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batterylab.bench.recorder import Recorder, Samples
from batterylab.cells import CellType
from batterylab.errors import BatterylabError
from batterylab.protocol import Progress, Resolved, Segment, Step
from batterylab.recording import Recording, StepRow

if TYPE_CHECKING:
    from batterylab.simulated.cell import CellTruth

Array = NDArray[np.float64]
ENGINES = ("own", "pybamm")
#: where a simulated cell's clock starts, unless told otherwise: equal inputs give equal seals
START_s = 946684800.0
#: state of charge as delivered, the same as on the simulated bench
DELIVERED_SOC = 0.30
ROOM_degC = 25.0
#: within a rest, seconds up to here, minutes after it
DENSE_s, COARSE_s = 3600, 60
#: contact resistance of a cell of 5 Ah; larger cells have wider tabs
CONTACT_ohm_Ah = 0.008 * 5.0
EXACT = {"reading": 0.0, "offset": 0.0}


@dataclass(frozen=True)
class Trace:
    """One step as it went.

    Attributes
    ----------
    time_s : ndarray, shape (n,)
        Since the step's start; the end of each sample's second.
    current_A, voltage_V, temperature_degC : ndarray, shape (n,)
        Charge current positive.
    ended_by : str
        As in `StepRow`.
    failure : str
        Why the protocol cannot go on; empty if it can.
    """

    time_s: Array
    current_A: Array
    voltage_V: Array
    temperature_degC: Array
    ended_by: str
    failure: str = ""


class Engine(Protocol):
    """What carries out one step on a cell and keeps the cell's state."""

    def carry_out(self, step: Step, stop_after_Ah: float | None) -> Trace:
        """Carry a step out; with `stop_after_Ah`, end it once that much charge has moved."""


def rest_times(duration_s: int) -> Array:
    """Return when a rest is sampled: every second at first, every minute after an hour."""
    dense = np.arange(1.0, min(duration_s, DENSE_s) + 1)
    coarse = np.arange(DENSE_s + COARSE_s, duration_s, COARSE_s, dtype=float)
    last = [float(duration_s)] if duration_s > DENSE_s else []
    return np.concatenate([dense, coarse, last])


def make_engine(
    name: str,
    resolved: Resolved,
    parameter_set: str = "Chen2020",
    soc: float = DELIVERED_SOC,
    truth: "CellTruth | None" = None,
) -> Engine:
    """Return a cell of a parameter set, scaled to the cell type, in one of the engines.

    Parameters
    ----------
    name : str
        ``own`` or ``pybamm``.
    resolved : Resolved
        Gives cell type, ambient temperature and limits.
    parameter_set : str
        A full-cell set that PyBaMM ships.
    soc : float
        State of charge at the start, 0 to 1.
    truth : CellTruth, optional
        How the cell deviates from the set; for ``own`` only.

    Raises
    ------
    BatterylabError
        If engine or set is unknown, or the cell cannot be what the cell type says.
    """
    from batterylab.simulated.cell import AREA_SCALE, CellTruth, SimulatedCell

    if name not in ENGINES:
        raise BatterylabError(f"unknown engine {name!r}", hint=f"known: {', '.join(ENGINES)}")
    if not 0.0 <= soc <= 1.0:
        raise BatterylabError(f"the state of charge {100 * soc:g} % is none", hint="0 % to 100 %")
    kind = resolved.cell_type
    if truth is not None and name != "own":
        raise BatterylabError(f"the engine {name!r} knows the base cell only", hint="engine own")
    truth = truth or CellTruth(contact_ohm=CONTACT_ohm_Ah / kind.nominal_capacity_Ah)
    scale = AREA_SCALE * kind.nominal_capacity_Ah / _nominal_Ah(parameter_set)
    try:
        cell = SimulatedCell(truth, parameter_set, scale)
    except KeyError as error:
        raise BatterylabError(
            f"parameter set {parameter_set!r} has no constant {error}",
            hint="the simulated cell needs plain numbers there, as Chen2020 has them",
        ) from None
    degC = ROOM_degC if resolved.temperature_degC is None else resolved.temperature_degC
    state = cell.rest_state(soc, degC, _window(kind))
    if name == "own":
        from batterylab.protocol.owncell import OwnEngine

        return OwnEngine(cell, state, degC, resolved.voltage_limits_V)
    from batterylab.protocol.pybammcell import PybammEngine

    return PybammEngine(cell, parameter_set, state, degC, resolved.voltage_limits_V)


def _window(kind: CellType) -> tuple[float, float]:
    return kind.voltage_min_V, kind.voltage_max_V


def _nominal_Ah(parameter_set: str) -> float:
    from batterylab.pybamm_border import scalars

    numbers = scalars(parameter_set)
    try:
        return numbers["Nominal cell capacity [A.h]"]
    except KeyError:
        raise BatterylabError(
            f"parameter set {parameter_set!r} names no capacity", hint="Chen2020 is a full cell"
        ) from None


def simulate(
    resolved: Resolved,
    *,
    parameter_set: str = "Chen2020",
    engine: str = "own",
    soc: float = DELIVERED_SOC,
    serial: str = "simulated",
    start_s: float = START_s,
    truth: "CellTruth | None" = None,
    report: Callable[[float], None] | None = None,
) -> Recording:
    """Carry a resolved protocol out on a simulated cell.

    Parameters
    ----------
    resolved : Resolved
        The protocol for a cell type; the cell is scaled to its nominal capacity.
    parameter_set : str
        A full-cell set that PyBaMM ships.
    engine : str
        ``own`` or ``pybamm``.
    soc : float
        State of charge at the start, 0 to 1.
    serial : str
        What the cell is called.
    start_s : float
        Unix time at which the recording begins.
    truth : CellTruth, optional
        How the cell deviates from the set; for ``own`` only.
    report : callable, optional
        Gets the share that is done, 0 to 1, after every step.

    Returns
    -------
    Recording
        ``provenance["source"]`` is ``simulation``; ``provenance["ended"]`` is ``complete``, or
        says why the protocol was stopped, as the bench would have.

    Raises
    ------
    BatterylabError
        If engine or set is unknown, or the cell cannot be simulated.
    """
    cell = make_engine(engine, resolved, parameter_set, soc, truth)
    run = _Run(resolved, cell, start_s, report)
    run.go()
    return Recording(
        serial=serial,
        supplier="simulation",
        lot=parameter_set,
        protocol=resolved.name,
        columns=run.columns(),
        steps=run.rows,
        cell_type=resolved.cell_type.to_dict(),
        protocol_resolved=resolved.to_dict(),
        provenance=_provenance(run, engine, parameter_set, soc),
    ).checked()


def _provenance(run: "_Run", engine: str, parameter_set: str, soc: float) -> dict[str, Any]:
    from batterylab import __version__
    from batterylab.pybamm_border import version
    from batterylab.studylog import utc_text

    return {
        "source": "simulation",
        "start_utc": utc_text(run.start_s),
        "software": f"batterylab {__version__}",
        "engine": engine,
        "parameters": parameter_set,
        "pybamm": version(),
        "initial_soc": soc,
        "channel": "simulation",
        "accuracy": dict.fromkeys(("current_A", "voltage_V", "temperature_degC"), EXACT),
        "part": "main",
        "ended": f"stopped: {run.failure}" if run.failure else "complete",
        "remarks": run.progress.remarks,
    }


class _Run:
    """One cell's way through a protocol, recorded."""

    def __init__(
        self,
        resolved: Resolved,
        engine: Engine,
        start_s: float,
        report: Callable[[float], None] | None,
    ) -> None:
        self.report = report or (lambda _: None)
        self.expected_s = resolved.expected_s()
        self.resolved = resolved
        self.engine = engine
        self.start_s = start_s
        self.progress = Progress(resolved)
        self.recorder = Recorder(1, resolved.voltage_moves_V, start_s)
        self.now_s = 0.0
        self.failure = ""
        self.rows: list[StepRow] = []
        self._kept: list[Array] = []
        self._plans: list[tuple[Step, int, float, Trace]] = []

    def go(self) -> None:
        """Carry out segment after segment until all is done or one fails."""
        while self.progress.current is not None and not self.failure:
            moved_Ah = self._segment(self.progress.current)
            if not self.failure:
                self.progress.finish(moved_Ah)
        self._kept.append(self.recorder.flush(0))
        self._kept = [np.concatenate(self._kept)]
        self.rows = self._step_rows()

    def _segment(self, segment: Segment) -> list[float]:
        moved_Ah = []
        for step in segment.steps:
            trace = self.engine.carry_out(step, segment.stop_after_Ah)
            trace = _within_temperature(trace, self.resolved.temperature_limits_degC)
            self._note(step, segment.cycle, trace)
            moved_Ah.append(float(np.sum(trace.current_A)) / 3600.0)
            if trace.failure:
                self.failure = f"{step.path}: {trace.failure}"
                break
        return moved_Ah

    def _note(self, step: Step, cycle: int, trace: Trace) -> None:
        shape = (len(trace.time_s), 1)
        every_s = step.sample_every_s or self.resolved.every_s
        ambient = self.resolved.temperature_degC
        self._kept.append(
            self.recorder.take(
                Samples(
                    self.start_s + self.now_s + trace.time_s,
                    trace.current_A[:, None], trace.voltage_V[:, None],
                    trace.temperature_degC[:, None],
                    np.full(shape, ROOM_degC if ambient is None else ambient),
                    np.full(shape, len(self._plans)), np.full(shape, cycle),
                    np.full(shape, every_s), np.ones(shape),
                )
            )
        )  # fmt: skip
        self._plans.append((step, cycle, self.now_s, trace))
        self.now_s += float(trace.time_s[-1])
        self.report(min(1.0, self.now_s / self.expected_s))

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the recording's columns."""
        from batterylab.bench.journal import ROW

        return {
            name: self._kept[0][:, k].astype("<i4" if name.endswith("_index") else "<f8")
            for k, name in enumerate(ROW)
            if k > 0
        }

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


def _within_temperature(trace: Trace, limits_degC: tuple[float, float]) -> Trace:
    """Cut a step where the cell leaves its temperature limits, as the bench would."""
    low, high = limits_degC
    out = np.flatnonzero((trace.temperature_degC < low) | (trace.temperature_degC > high))
    if not len(out):
        return trace
    n = int(out[0]) + 1
    return Trace(
        trace.time_s[:n], trace.current_A[:n], trace.voltage_V[:n], trace.temperature_degC[:n],
        "stopped",
        f"temperature {trace.temperature_degC[n - 1]:.1f} °C outside {low:g} to {high:g} °C",
    )  # fmt: skip
