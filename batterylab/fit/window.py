"""Which part of a recording a model is fitted to."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batterylab.errors import BatterylabError
from batterylab.features.ledger import Ledger
from batterylab.features.resistance import MIDDLE_percent, Pulse, pulses_of
from batterylab.recording import Recording, StepRow

Array = NDArray[np.float64]

#: the fastest step that passes for an open-circuit measurement: C/10, with some play
SLOW_RATE = 1 / 9.0
#: and how much of the nominal capacity it must move
MOST_OF_CELL = 0.5
#: a change of current of this share of the largest is a switch; the voltage follows it at once:
#: a row in which it moved by less than `LATE` of what it moves by until the next row, or by more
#: than `EARLY` of it a row before, and by `LEAST_MOVE_V` in all, is not of one instant
SWITCH, LATE, EARLY, LEAST_MOVE_V = 0.2, 0.1, 0.8, 0.005
#: fewest rows of rest after a pulse that make a relaxation
LEAST_REST_ROWS = 3
#: rows at its end over which the temperature before a pulse is averaged
RESTED_ROWS = 10


class NotSuitedError(BatterylabError):
    """The recording does not hold what the model needs."""


@dataclass(frozen=True)
class SlowStep:
    """A slow charge or discharge, with rows from the least charge to the most.

    Attributes
    ----------
    step : StepRow
        The step.
    fraction : ndarray, shape (n,)
        Of the step's charge, 0 at its low end, 1 at its high end, in the order of time.
    span_Ah : float
        Charge from low to high end.
    current_A, voltage_V : ndarray, shape (n,)
        As measured.
    """

    step: StepRow
    fraction: Array
    span_Ah: float
    current_A: Array
    voltage_V: Array


@dataclass(frozen=True)
class PulseWindow:
    """A pulse and the relaxation after it, beginning with the last row of the rest before.

    Attributes
    ----------
    step : StepRow
        The pulse.
    time_s : ndarray, shape (n,)
        From the first row.
    current_A : ndarray, shape (n,)
        Of a row, it has flowed since the row before.
    charge_Ah : ndarray, shape (n,)
        Since the first row.
    voltage_V : ndarray, shape (n,)
        As measured; NaN in rows that only carry the current.
    temperature_degC : ndarray, shape (n,)
        As measured, or that of the row before; NaN if there is none. In the first row the mean of
        the last rows of the rest.
    observed : ndarray of bool, shape (n,)
        Which rows were measured.
    soc_percent : float
        At the start, NaN if not known.
    notes : tuple of str
        What was left out.
    """

    step: StepRow
    time_s: Array
    current_A: Array
    charge_Ah: Array
    voltage_V: Array
    temperature_degC: Array
    observed: NDArray[np.bool_]
    soc_percent: float
    notes: tuple[str, ...] = ()


def _name(recording: Recording) -> str:
    return f"recording of {recording.serial!r} ({recording.protocol}, {recording.seal[:8]})"


def _chosen(recording: Recording, step: int) -> StepRow:
    if not 0 <= step < len(recording.steps):
        raise BatterylabError(
            f"{_name(recording)}: there is no step {step}",
            hint=f"it has the steps 0 to {len(recording.steps) - 1}",
        )
    return recording.steps[step]


def slow_step(recording: Recording, step: int | None = None, trim: float = 0.0) -> SlowStep:
    """Return the slow charge or discharge that an `ocv` model is fitted to.

    Parameters
    ----------
    recording : Recording
        Any recording.
    step : int, optional
        Which step; else the first measured as ``ocv``; else, in a recording without measures,
        the first at C/10 or slower that moves half the nominal capacity or more.
    trim : float
        Share of the charge to leave out at either end.

    Raises
    ------
    NotSuitedError
        If there is no such step, or too few rows in it.
    """
    ledger = Ledger(recording)
    row = _chosen(recording, step) if step is not None else _find_slow(ledger)
    net_Ah = ledger.net_Ah[row.rows]
    low, high = float(net_Ah.min()), float(net_Ah.max())
    if not high > low or {net_Ah[0], net_Ah[-1]} != {net_Ah.min(), net_Ah.max()}:
        raise NotSuitedError(
            f"{_name(recording)}: step {row.step_index} does not move charge one way",
            hint="choose a slow charge or discharge with --step",
        )
    fraction = (net_Ah - low) / (high - low)
    inside = (fraction >= trim) & (fraction <= 1.0 - trim)
    return SlowStep(
        step=row,
        fraction=fraction[inside],
        span_Ah=high - low,
        current_A=ledger.current_A[row.rows][inside],
        voltage_V=ledger.voltage_V[row.rows][inside],
    )


def _find_slow(ledger: Ledger) -> StepRow:
    recording = ledger.recording
    measured = [step for step in recording.steps if step.measure == "ocv"]
    if measured:
        return measured[0]
    nominal_Ah = ledger.number("nominal_capacity_Ah")
    if not any(step.measure for step in recording.steps) and math.isfinite(nominal_Ah):
        for step in recording.steps:
            if _is_slow(ledger, step, nominal_Ah):
                return step
    raise NotSuitedError(
        f"{_name(recording)}: no step is measured as 'ocv', and none is a C/10 or slower charge "
        "or discharge of half the cell or more",
        hint="choose a step with --step, or fit recordings of a protocol that has one",
    )


def _is_slow(ledger: Ledger, step: StepRow, nominal_Ah: float) -> bool:
    moved = abs(ledger.charge_Ah(step))
    hours = max(step.duration_s, 1.0) / 3600.0
    return moved >= MOST_OF_CELL * nominal_Ah and moved / hours <= SLOW_RATE * nominal_Ah


def thinned(fraction: Array, most: int) -> NDArray[np.intp]:
    """Return at most `most` rows, spread evenly over the charge, in their order.

    Rows are chosen, not averaged, so that none says what was not measured.
    """
    if len(fraction) <= most:
        return np.arange(len(fraction))
    order = np.argsort(fraction, kind="stable")
    wanted = np.linspace(fraction[order[0]], fraction[order[-1]], most)
    right = np.clip(np.searchsorted(fraction[order], wanted), 1, len(fraction) - 1)
    left = right - 1
    sorted_ = fraction[order]
    nearest = np.where(wanted - sorted_[left] <= sorted_[right] - wanted, left, right)
    return np.unique(order[nearest])


def pulse_window(
    recording: Recording, step: int | None = None, rest_s: float = 1800.0
) -> PulseWindow:
    """Return the pulse and relaxation that a `circuit` is fitted to.

    Parameters
    ----------
    recording : Recording
        Any recording.
    step : int, optional
        Which pulse; else, of those that a rest follows, the discharge nearest 50 % state of
        charge, or the first if none is known.
    rest_s : float
        Longest part of the rest to take.

    Raises
    ------
    NotSuitedError
        If there is no such pulse.
    """
    ledger = Ledger(recording)
    return _pulse_window(ledger, _find_pulse(ledger, step), rest_s)


def pulse_windows(recording: Recording, rest_s: float = 1800.0) -> list[PulseWindow]:
    """Return every discharge pulse that a rest follows, each with that rest; see `pulse_window`."""
    ledger = Ledger(recording)
    pulses = [pulse for pulse in pulses_of(ledger) if _relaxes(ledger, pulse)]
    pulses = [pulse for pulse in pulses if not pulse.direction] or pulses
    return [_pulse_window(ledger, pulse, rest_s) for pulse in pulses]


def _pulse_window(ledger: Ledger, pulse: Pulse, rest_s: float) -> PulseWindow:
    recording = ledger.recording
    after = recording.steps[pulse.step.step_index + 1]
    end_s = pulse.step.start_s + pulse.step.duration_s + rest_s
    torn = torn_rows(ledger.current_A, ledger.voltage_V)
    first = pulse.rest.last_row
    if torn[first] and first > pulse.rest.first_row:
        first -= 1
    rows = list(range(first, pulse.rest.last_row + 1))
    time_s = [float(t) for t in ledger.time_s[rows]]
    for part in (pulse.step, after):
        if time_s[-1] + 1e-6 < part.start_s <= ledger.time_s[part.first_row]:
            rows.append(-1)  # the step began between two samples: until then nothing changed
            time_s.append(part.start_s)
        inside = [r for r in range(part.first_row, part.last_row + 1) if ledger.time_s[r] <= end_s]
        rows += inside
        time_s += [float(t) for t in ledger.time_s[inside]]
    return _window(ledger, pulse, np.array(rows), np.array(time_s) - time_s[0], torn)


def torn_rows(current_A: Array, voltage_V: Array) -> NDArray[np.bool_]:
    """Return the rows whose current and voltage are not of one instant.

    Cyclers that sample the two one after the other write such rows where the current is
    switched: the voltage of one side with the current of the other.
    """
    torn = np.zeros(len(current_A), bool)
    if len(current_A) < 3:
        return torn
    jump_A = np.diff(current_A)
    changes = np.abs(jump_A) > SWITCH * float(np.abs(current_A).max(initial=0.0))
    way = np.sign(np.where(changes[:-1], jump_A[:-1], jump_A[1:]))  # the voltage goes there
    moved, until = way * np.diff(voltage_V)[:-1], way * (voltage_V[2:] - voltage_V[:-2])
    is_late = changes[:-1] & ~changes[1:] & (np.abs(moved) < LATE * until)
    is_early = ~changes[:-1] & changes[1:] & (moved > EARLY * until)
    torn[1:-1] = (is_late | is_early) & (until > LEAST_MOVE_V)
    return torn


def _window(
    ledger: Ledger, pulse: Pulse, rows: NDArray[np.intp], time_s: Array, torn: NDArray[np.bool_]
) -> PulseWindow:
    observed = rows >= 0
    left_out = observed & torn[rows]
    notes: tuple[str, ...] = ()
    if left_out.any():
        notes = (
            f"{int(left_out.sum())} rows at a change of the current were left out: their voltage "
            "and current are not of one instant",
        )
    carrier = np.maximum.accumulate(np.where(observed, np.arange(len(rows)), 0))
    current_A = ledger.current_A[rows[carrier]]
    moved = np.concatenate([[0.0], current_A[1:] * np.diff(time_s)])
    return PulseWindow(
        step=pulse.step,
        time_s=time_s,
        current_A=current_A,
        charge_Ah=np.cumsum(moved) / 3600.0,
        voltage_V=np.where(observed & ~left_out, ledger.voltage_V[rows], math.nan),
        temperature_degC=_degrees(ledger.recording, rows[carrier], pulse.rest),
        observed=observed & ~left_out,
        soc_percent=pulse.soc_percent,
        notes=notes,
    )


def _degrees(recording: Recording, rows: NDArray[np.intp], rest: StepRow) -> Array:
    """Return the temperature of rows; in the first that of the rest's last rows, averaged."""
    column = recording.columns.get("temperature_degC")
    if column is None:
        return np.full(len(rows), math.nan)
    degrees = np.asarray(column, float)[rows]
    begin = max(rest.first_row, rest.last_row + 1 - RESTED_ROWS)
    degrees[0] = float(np.mean(column[begin : rest.last_row + 1]))
    return degrees


def _find_pulse(ledger: Ledger, step: int | None) -> Pulse:
    recording = ledger.recording
    pulses = [pulse for pulse in pulses_of(ledger) if _relaxes(ledger, pulse)]
    if step is not None:
        _chosen(recording, step)
        pulses = [pulse for pulse in pulses if pulse.step.step_index == step]
    else:
        pulses = [p for p in pulses if not p.direction] or pulses
    if not pulses:
        which = f"step {step} is no pulse" if step is not None else "there is no pulse"
        raise NotSuitedError(
            f"{_name(recording)}: {which} between two rests",
            hint="a circuit needs a short charge or discharge with a rest before and after",
        )
    return min(
        pulses,
        key=lambda p: abs(p.soc_percent - MIDDLE_percent) if math.isfinite(p.soc_percent) else 1e3,
    )


def _relaxes(ledger: Ledger, pulse: Pulse) -> bool:
    steps = ledger.recording.steps
    number = pulse.step.step_index + 1
    if number >= len(steps) or steps[number].kind != "rest":
        return False
    return steps[number].last_row - steps[number].first_row + 1 >= LEAST_REST_ROWS
