"""Which rows of a recording a single-particle model is fitted to, and its history of current."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from batterylab.errors import BatterylabError
from batterylab.features.ledger import Ledger
from batterylab.fit.spmcell import SHIFTS, History, history_of
from batterylab.fit.window import NotSuitedError
from batterylab.recording import Recording, StepRow

Array = NDArray[np.float64]

#: a rest this long leaves a cell relaxed
RELAXED_s = 600.0
#: a step whose current stays within this share of its mean may be thinned
STEADY = 0.02
ROOM_degC = 25.0
#: time between two recordings; the cell rests, so that it does not matter
BETWEEN_s = 1.0


@dataclass(frozen=True)
class SpmWindow:
    """Rows for the kernel.

    Attributes
    ----------
    history : History
        Charge counts from the first row.
    first_step : int
        In which the first observed rows lie.
    full_V : float
        Voltage of the first row, in equilibrium.
    temperature_degC : float
        Median of the rows.
    nominal_Ah : float
        Of the data sheet; NaN if the recording does not say.
    notes : tuple of str
        What was assumed.
    """

    history: History
    first_step: int
    full_V: float
    temperature_degC: float
    nominal_Ah: float
    notes: tuple[str, ...]

    @property
    def recordings(self) -> int:
        """From how many recordings the rows come."""
        return int(self.history.parts.max()) + 1


def spm_window(
    recording: Recording, step: int | None = None, points: int = 150
) -> SpmWindow:
    """Return what a single-particle model is fitted to.

    With measured steps: the last `capacity` discharge and the rest after it, from the rest
    before it on; and, where there are `dcir` pulses, everything from the last charge before
    them on, the charge itself carried along but not fitted. With `step`: that step and the rest
    after it. Else all from the first rest of ten minutes on, charges not fitted. The cell
    counts as relaxed at the beginning of each part.

    Parameters
    ----------
    recording : Recording
        Any recording.
    step : int, optional
        Which step.
    points : int
        Most rows of a step at constant current.

    Raises
    ------
    NotSuitedError
        If there is no such step, or no rest before it.
    BatterylabError
        If a row that is needed is not a number; names the column and row.
    """
    ledger = Ledger(recording)
    parts = _parts(recording, step)
    rows: list[int] = []
    observed: list[bool] = []
    relaxed: list[bool] = []
    for rest, steps in parts:
        rows.append(rest.last_row)
        observed.append(True)
        relaxed.append(True)
        for row_step, is_seen in steps:
            kept = _kept(ledger, row_step, points)
            lead = _lead(ledger, row_step)
            if lead is not None:
                rows.append(-row_step.step_index - 1)
                observed.append(False)
                relaxed.append(False)
            rows += kept
            observed += [is_seen] * len(kept)
            relaxed += [False] * len(kept)
    return _window(ledger, parts, np.array(rows), np.array(observed), np.array(relaxed))


Part = tuple[StepRow, list[tuple[StepRow, bool]]]


def _parts(recording: Recording, step: int | None) -> list[Part]:
    steps = recording.steps
    name = f"recording of {recording.serial!r} ({recording.protocol}, {recording.seal[:8]})"
    if step is not None:
        if not 0 <= step < len(steps):
            raise BatterylabError(f"{name}: there is no step {step}",
                                  hint=f"it has the steps 0 to {len(steps) - 1}")  # fmt: skip
        return [_from(recording, name, step, _end(steps, step))]
    capacity = [s.step_index for s in steps if s.measure == "capacity" and s.kind == "discharge"]
    pulses = [s.step_index for s in steps if s.measure == "dcir"]
    if not capacity:
        first = next((s.step_index for s in steps if _is_relaxing(s)), None)
        if first is None or first + 1 >= len(steps):
            raise NotSuitedError(f"{name}: no rest of ten minutes begins a stretch to fit",
                                 hint="choose a step after a rest with --step")  # fmt: skip
        return [_from(recording, name, first + 1, len(steps) - 1)]
    parts = [_from(recording, name, capacity[-1], _end(steps, capacity[-1]))]
    if pulses and pulses[0] > capacity[-1]:
        charges = [s.step_index for s in steps[: pulses[0]] if s.kind == "charge"]
        if charges and charges[-1] > parts[0][1][-1][0].step_index:
            parts.append(_from(recording, name, charges[-1], len(steps) - 1))
    return parts


def _end(steps: list[StepRow], step: int) -> int:
    """Return the step itself, or the rest after it."""
    after = step + 1
    return after if after < len(steps) and steps[after].kind == "rest" else step


def _from(recording: Recording, name: str, first: int, last: int) -> Part:
    rest = first - 1
    if rest < 0 or not _is_relaxing(recording.steps[rest]):
        raise NotSuitedError(
            f"{name}: no rest of ten minutes comes before step {first}, so that its start is not "
            "known", hint="a single-particle model begins in equilibrium"
        )  # fmt: skip
    chosen = recording.steps[first : last + 1]
    return recording.steps[rest], [(s, s.kind not in ("charge", "hold")) for s in chosen]


def _is_relaxing(step: StepRow) -> bool:
    return step.kind == "rest" and step.duration_s >= RELAXED_s


def _kept(ledger: Ledger, step: StepRow, points: int) -> list[int]:
    """Return rows of a step; of a long one at constant current no more than are needed."""
    rows = np.arange(step.first_row, step.last_row + 1)
    amps = ledger.current_A[rows]
    spread = float(np.ptp(amps))
    if len(rows) <= points or spread > STEADY * float(np.abs(amps).mean()) + 1e-9:
        return [int(row) for row in rows]
    along = np.cumsum(np.abs(np.diff(ledger.voltage_V[rows], prepend=ledger.voltage_V[rows[0]])))
    span_s = max(float(ledger.time_s[rows[-1]] - ledger.time_s[rows[0]]), 1e-9)
    since = ledger.time_s[rows] - ledger.time_s[rows[0]]
    way = since / span_s + np.nan_to_num(along) / max(float(np.nan_to_num(along)[-1]), 1e-9)
    way += np.log1p(since) / math.log1p(span_s)
    wanted = np.linspace(0.0, way[-1], points)
    index = np.unique(np.append(np.searchsorted(way, wanted).clip(0, len(rows) - 1),
                                [0, len(rows) - 1]))  # fmt: skip
    return [int(row) for row in rows[index]]


def _lead(ledger: Ledger, step: StepRow) -> float | None:
    """Return when a step began, if that lies between two rows."""
    row = step.first_row
    if row and ledger.time_s[row - 1] + 1e-6 < step.start_s < ledger.time_s[row] - 1e-6:
        return step.start_s
    return None


def _window(
    ledger: Ledger, parts: list[Part], rows: NDArray[np.intp], observed: NDArray[np.bool_],
    relaxed: NDArray[np.bool_],
) -> SpmWindow:  # fmt: skip
    recording = ledger.recording
    leads = rows < 0
    firsts = [recording.steps[-row - 1].first_row if row < 0 else 0 for row in rows]
    own = np.where(leads, np.array(firsts) - 1, rows)
    time_s = ledger.time_s[own].copy()
    charge_Ah = ledger.net_Ah[own].copy()
    for i in np.flatnonzero(leads):
        step = recording.steps[-rows[i] - 1]
        lead_s = ledger.time_s[step.first_row] - step.start_s
        time_s[i] = step.start_s
        charge_Ah[i] = (
            ledger.net_Ah[step.first_row] - ledger.current_A[step.first_row] * lead_s / 3600.0
        )
    degrees, notes = _temperature(ledger, own)
    for name, column in (("voltage_V", ledger.voltage_V), ("current_A", ledger.current_A)):
        bad = own[observed & ~np.isfinite(column[own])]
        if len(bad):
            raise BatterylabError(f"recording of {recording.serial!r}: {name}, row {bad[0]}: "
                                  "not a finite number")  # fmt: skip
    history = history_of(
        time_s, ledger.current_A[own], charge_Ah=charge_Ah - charge_Ah[0],
        temperature_degC=degrees, voltage_V=ledger.voltage_V[own], observed=observed,
        relaxed=relaxed,
    )  # fmt: skip
    return SpmWindow(
        history, parts[0][1][0][0].step_index, float(ledger.voltage_V[own[0]]),
        float(np.median(degrees)), ledger.number("nominal_capacity_Ah"), notes,
    )  # fmt: skip


def _temperature(ledger: Ledger, own: NDArray[np.intp]) -> tuple[Array, tuple[str, ...]]:
    column = ledger.recording.columns.get("temperature_degC")
    degrees = None if column is None else np.asarray(column, float)[own]
    if degrees is None or not np.isfinite(degrees).all():
        return np.full(len(own), ROOM_degC), (
            f"no temperature was measured in every row: {ROOM_degC:g} degC is assumed",
        )
    return degrees, ()


def joined(windows: Sequence[SpmWindow]) -> SpmWindow:
    """Return the rows of several recordings as one window.

    Raises
    ------
    BatterylabError
        If there is no window, or more than eight.
    """
    if not 1 <= len(windows) <= len(SHIFTS) + 1:
        raise BatterylabError(f"{len(windows)} recordings in one fit",
                              hint=f"at most {len(SHIFTS) + 1}")  # fmt: skip
    parts = [window.history.data.copy() for window in windows]
    for before, part in pairwise(parts):
        part[0] += before[0, -1] - part[0, 0] + BETWEEN_s
    flags = [window.history.flags + np.uint8(16 * k) for k, window in enumerate(windows)]
    for own in flags:
        own[0] |= 2  # each begins in equilibrium
    history = History(np.ascontiguousarray(np.hstack(parts)), np.concatenate(flags))
    sizes = [window.nominal_Ah for window in windows if math.isfinite(window.nominal_Ah)]
    return replace(
        windows[0], history=history, nominal_Ah=sizes[0] if sizes else math.nan,
        temperature_degC=float(np.median(history.data[3])) - 273.15,
        notes=tuple(dict.fromkeys(note for window in windows for note in window.notes)),
    )  # fmt: skip
