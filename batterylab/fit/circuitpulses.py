"""Several pulses in one circuit, with knots over the state of charge or a thermal node.

Resistances and the logarithms of the lags are straight lines between knots, equally spaced over
the states of charge of the pulses, or one value for all; each pulse keeps an open-circuit voltage
and slope of its own. The thermal node is that of `ext/circuit_thermal.pxd`: it is fitted to the
measured temperature besides the voltage, and the resistances fall with it.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from batterylab._kernels import _circuit
from batterylab.errors import BatterylabError
from batterylab.features.ledger import Ledger
from batterylab.fit.assemble import assemble, of_several, with_profile
from batterylab.fit.circuitsolve import (
    CANDIDATES,
    NOTHING,
    Inputs,
    circuit_steps,
    circuit_voltage,
    inputs_of,
    joined,
    lag_bounds,
    volts_of,
)
from batterylab.fit.result import Curve, Fit
from batterylab.fit.solve import Bounded, Solution, Steps, alone
from batterylab.fit.statistics import Judgement, judge
from batterylab.fit.window import NotSuitedError, PulseWindow, pulse_window, pulse_windows
from batterylab.recording import Recording

if TYPE_CHECKING:
    from batterylab.fit.circuit import CircuitSettings

Array = NDArray[np.float64]

#: how far a lag may lie from the range of those found pulse by pulse, in its logarithm
REACH = 2.0
#: and a resistance, as a multiple of the largest found; an open-circuit voltage, in V
MOST, MOST_V = 20.0, 5.0
DOUBT = 0.05
LEAST_GAP_PERCENT = 2.0
#: parameters at once, as in `levmar.pxd`
MOST_FITTED = 96
#: starts with one lag for all knots, and the least share of the largest resistance in them
LEVELS, LEAST_SHARE = 3, 0.02
#: of the sum of squares; with many parameters the last digits cost most steps and say nothing
LEAST_TOLERANCE = 1e-6
#: the thermal node's start: cooling times in s that are tried, activation in K, heat capacity in
#: J/K where the temperature tells none; bounds of the logarithms around it, and of the activation
COOLING_s, ACTIVATION_K, HEAT_J_K = (100.0, 600.0, 3000.0), 2000.0, 50.0
THERMAL_REACH, MOST_ACTIVATION_K = 7.0, 12000.0
GAS_J_mol_K = 8.314462618


@dataclass(frozen=True)
class _Part:
    """One pulse's window, as the kernel reads it."""

    window: PulseWindow
    inputs: Inputs
    scale_Ah: float
    recording: int
    name: str
    start: Array

    @property
    def volts(self) -> Array:
        """Measured, in the observed rows."""
        return self.window.voltage_V[self.window.observed]


def fit_pulses(recordings: Sequence[Recording], settings: "CircuitSettings") -> Fit:
    """Fit one circuit to pulses of one recording or several of one cell.

    Parameters
    ----------
    recordings : sequence of Recording
        With knots all their pulses are taken, else the one that a circuit alone would take.
    settings : CircuitSettings
        How to fit.

    Raises
    ------
    NotSuitedError
        If there are fewer pulses between rests than knots, or all at one state of charge; or a
        thermal node is wanted and no temperature was measured.
    """
    return alone(pulses_fit(recordings, settings))


def pulses_fit(recordings: Sequence[Recording], settings: "CircuitSettings") -> Steps[Fit]:
    """Fit pulses, as steps for `batterylab.fit.solve`; see `fit_pulses`."""
    windows: list[PulseWindow] = []
    places: list[Array] = []
    names: list[tuple[int, str]] = []
    notes: list[str] = []
    for number, recording in enumerate(recordings, 1):
        own = (pulse_windows(recording, settings.rest_s) if settings.knots
               else [pulse_window(recording, settings.step, settings.rest_s)])  # fmt: skip
        soc, note = _places(recording, own) if settings.knots else (np.zeros(len(own)), ())
        windows += own
        places.append(soc)
        notes += [*(line for window in own for line in window.notes), *note]
        which = f"{number}_" if len(recordings) > 1 else ""
        names += [(number - 1, f"{which}step{window.step.step_index}") for window in own]
    soc = np.concatenate(places)
    knots = _knots(recordings[0], soc, settings.knots)
    parts = []
    for window, (number, name) in zip(windows, names, strict=True):
        parts.append((yield from _part(window, number, name, settings)))
    weights = np.array([_hats(float(place), knots) for place in soc])
    inputs = joined([part.inputs for part in parts], weights,
                    *_temperatures(recordings[0], windows, settings))  # fmt: skip
    solution = yield from _solved(parts, inputs, settings)
    return _put_together(recordings, settings, parts, inputs, knots, solution,
                         tuple(dict.fromkeys(notes)))  # fmt: skip


def _knots(recording: Recording, soc: Array, count: int) -> Array:
    if not count:
        return np.zeros(1)
    if len(soc) < count:
        raise NotSuitedError(
            f"recording of {recording.serial!r}: {len(soc)} pulses between two rests cannot "
            f"carry {count} knots",
            hint="take fewer knots",
        )
    if not np.ptp(soc) > 0:
        raise NotSuitedError(
            f"recording of {recording.serial!r}: its pulses lie at one state of charge",
            hint="leave knots out",
        )
    knots = np.linspace(soc.min(), soc.max(), count)
    if np.diff(knots).min() < LEAST_GAP_PERCENT:
        raise NotSuitedError(
            f"recording of {recording.serial!r}: knots would lie less than {LEAST_GAP_PERCENT:g} % "
            "of charge apart",
            hint="take fewer knots",
        )
    return knots


def _places(recording: Recording, windows: list[PulseWindow]) -> tuple[Array, tuple[str, ...]]:
    """Return the pulses' states of charge in percent; and a note if no full charge is known."""
    soc = np.array([window.soc_percent for window in windows])
    if np.isfinite(soc).all():
        return soc, ()
    net_Ah = Ledger(recording).net_Ah
    low, high = float(net_Ah.min()), float(net_Ah.max())
    begins = np.array([net_Ah[max(w.step.first_row - 1, 0)] for w in windows])
    return 100.0 * (begins - low) / max(high - low, 1e-12), (
        "no full charge is known: states of charge are shares of the charge that the recording "
        "moves",
    )


def _hats(soc: float, knots: Array) -> Array:
    """Return the weight of each knot at a state of charge."""
    if len(knots) == 1:
        return np.ones(1)
    return np.array([np.interp(soc, knots, row) for row in np.eye(len(knots))])


def _temperatures(
    recording: Recording, windows: list[PulseWindow], settings: "CircuitSettings"
) -> tuple[Array, float, float]:
    """Return measured temperatures in K, what a kelvin counts in V, the activation if held."""
    if not settings.thermal:
        return NOTHING, 0.0, math.nan
    degrees = np.concatenate([window.temperature_degC for window in windows])
    if not np.isfinite(degrees).all():
        raise NotSuitedError(
            f"recording of {recording.serial!r}: a thermal node needs a measured temperature in "
            "every row of the pulse",
            hint="leave thermal out",
        )
    held = settings.activation_kJ_per_mol
    activation_K = math.nan if held is None else 1e3 * held / GAS_J_mol_K
    return degrees + 273.15, 1e-3 * settings.kelvin_mV, activation_K


def _part(
    window: PulseWindow, number: int, name: str, settings: "CircuitSettings"
) -> Steps[_Part]:  # fmt: skip
    scale_Ah = float(np.abs(window.charge_Ah).max()) or 1.0
    inputs = inputs_of(
        window.time_s, window.current_A, window.charge_Ah / scale_Ah,
        order=settings.order, pairs=settings.pairs, observed=window.observed,
    )  # fmt: skip
    found = yield from circuit_steps(inputs, window.voltage_V, most_steps=settings.most_steps)
    return _Part(window, inputs, scale_Ah, number, name, found.parameters)


def _solved(
    parts: list[_Part], inputs: Inputs, settings: "CircuitSettings"
) -> Steps[Solution]:  # fmt: skip
    if inputs.count > MOST_FITTED or inputs.residuals <= inputs.count:
        raise BatterylabError(
            f"{inputs.residuals} rows and {inputs.count} parameters",
            hint=f"take fewer knots or pulses; at most {MOST_FITTED} parameters",
        )
    volts = volts_of(inputs, np.concatenate([part.window.voltage_V for part in parts]))
    alone_ = np.array([part.start for part in parts])
    local, (_, knots) = settings.order + 1, inputs.weights.shape
    first = len(parts) * local
    start, lower, upper = (np.zeros(inputs.count) for _ in range(3))
    start[:first] = alone_[:, :local].ravel()
    lower[:first], upper[:first] = start[:first] - MOST_V, start[:first] + MOST_V
    for kind in range(1 + 2 * settings.pairs):
        found = alone_[:, local + kind]
        place = slice(first + kind * knots, first + (kind + 1) * knots)
        is_lag = kind > 0 and kind % 2 == 0
        lower[place] = found.min() - REACH if is_lag else 0.0
        upper[place] = found.max() + REACH if is_lag else MOST * max(float(found.max()), 1e-9)
        start[place] = np.linalg.lstsq(inputs.weights, found, rcond=1e-6)[0]
    starts = np.vstack([start, *_level_starts(inputs, volts, start)])
    if inputs.is_warm:
        starts = _warm_starts(parts, inputs, start, lower, upper)
    bounded = Bounded(
        partial(_circuit.Fit, inputs.kernel, volts), inputs.residuals, lower, upper,
        settings.most_steps, settings.tolerance if inputs.count <= 16
        else max(settings.tolerance, LEAST_TOLERANCE),
    )  # fmt: skip
    begin = np.ascontiguousarray(np.clip(starts, lower, upper))
    return (yield from bounded.fitted(begin, settings.chosen_loss))


def _level_starts(inputs: Inputs, volts: Array, start: Array) -> list[Array]:
    """Return the best starts among those with one lag for all knots, the rest being linear.

    Pulse by pulse a lag may lie anywhere; together the pulses may have a better one.
    """
    kinds, (parts, knots) = 1 + 2 * inputs.pairs, inputs.weights.shape
    if knots == 1 or not inputs.pairs or inputs.is_warm:
        return []
    first = parts * (inputs.order + 1)
    places = [slice(first + k * knots, first + (k + 1) * knots) for k in range(kinds)]
    linear = np.ones(len(start), bool)
    for place in places[2::2]:
        linear[place] = False
    measured = volts[inputs.observed.astype(bool)]
    found = []
    for lags in combinations(np.linspace(*lag_bounds(inputs), CANDIDATES + 2)[1:-1], inputs.pairs):
        level = start.copy()
        for place, lag in zip(places[2::2], lags, strict=True):
            level[place] = lag
        columns = circuit_voltage(inputs, level)[1][:, linear]
        square = columns.T @ columns
        square[np.diag_indices_from(square)] *= 1.0 + 1e-9
        level[linear] = np.linalg.solve(square, columns.T @ measured)
        for place in (places[0], *places[1::2]):
            level[place] = np.maximum(level[place], LEAST_SHARE * np.abs(level[place]).max())
        off = circuit_voltage(inputs, level)[0] - measured
        found.append((float(off @ off), level))
    found.sort(key=lambda one: one[0])
    return [level for _, level in found[:LEVELS]]


def _warm_starts(
    parts: list[_Part], inputs: Inputs, start: Array, lower: Array, upper: Array
) -> Array:
    """Set the thermal node's bounds; return starts with slow and fast cooling."""
    heat_J = rise_K = 0.0
    for part in parts:
        window = part.window
        volts = np.interp(window.time_s, window.time_s[window.observed], part.volts)
        power_W = window.current_A[1:] * (volts[1:] - volts[0])
        heat_J = max(heat_J, float(power_W @ np.diff(window.time_s)))
        rise_K = max(rise_K, float(np.ptp(window.temperature_degC)))
    capacity = heat_J / rise_K if heat_J > 0 and rise_K > 0 else HEAT_J_K
    count = inputs.warmth
    starts = []
    for seconds in COOLING_s:
        warm = [math.log(capacity), math.log(capacity / seconds), ACTIVATION_K][:count]
        starts.append(np.concatenate([start[:-count], warm]))
    middle = starts[1][-count:]
    lower[-count:], upper[-count:] = middle - THERMAL_REACH, middle + THERMAL_REACH
    if count == 3:
        lower[-1], upper[-1] = 0.0, MOST_ACTIVATION_K
    return np.array(starts)


def _put_together(
    recordings: Sequence[Recording], settings: "CircuitSettings", parts: list[_Part],
    inputs: Inputs, knots: Array, solution: Solution, notes: tuple[str, ...],
) -> Fit:  # fmt: skip
    rows = inputs.rows
    rules = _rules(parts, knots, settings)
    judgement = judge(solution.noise_V, solution.jacobian, ~solution.at_bound)
    names = tuple(name for name, _, _ in rules)
    values, errors = _named(rules, solution, judgement)
    measured = np.concatenate([part.volts for part in parts])
    begins = np.cumsum([0.0, *(part.window.time_s[-1] for part in parts)])
    time_s = np.concatenate([
        part.window.time_s[part.window.observed] + begin
        for part, begin in zip(parts, begins, strict=False)
    ])  # fmt: skip
    used: dict[str, Any] = asdict(settings)
    if settings.knots:
        used["knots_percent"] = [round(float(s), 3) for s in knots]
    off_V = solution.residual_V[:rows]
    made = assemble(
        "circuit", recordings[0], parts[0].window.step.step_index, names,
        replace(solution, residual_V=off_V), judgement, values, errors, used,
        Curve(time_s, "time / s" if len(parts) == 1 else "time in the pulses and rests / s",
              measured, measured + off_V),
        1e3 * DOUBT * float(np.median([np.ptp(part.volts) for part in parts])),
    )  # fmt: skip
    if settings.profile:
        made = with_profile(made, solution, judgement, {
            name: (i, rule) for i, (name, rule, _) in enumerate(rules)
        })  # fmt: skip
    notes = (*made.notes, *notes)
    if inputs.is_warm:
        off_K = solution.residual_V[rows:] / inputs.kelvin_V
        notes = (*notes, f"temperature: {float(np.sqrt(np.mean(off_K**2))):.3g} K rms off; a "
                 f"kelvin counts {settings.kelvin_mV:g} mV")  # fmt: skip
    made = replace(made, notes=notes)
    if len(recordings) == 1:
        return made
    part = np.concatenate([np.full(one.inputs.rows, one.recording) for one in parts])
    return of_several(made, recordings, part, off_V)


def _scaled(factor: float, parameter: float) -> float:
    return float(factor * parameter)


def _exp(parameter: float) -> float:
    return float(math.exp(parameter))


def _rules(parts: list[_Part], knots: Array, settings: "CircuitSettings") -> list[Any]:
    """Return name, function and whether it is an exponential, in the kernel's order."""
    rules: list[Any] = []
    for part in parts:
        place = f"_{part.name}" if len(parts) > 1 else ""
        for power in range(settings.order + 1):
            unit = "V" if power == 0 else "V_per_Ah" if power == 1 else f"V_per_Ah{power}"
            word = "ocv" if power == 0 else "ocv_slope" if power == 1 else f"ocv_curve{power}"
            factor = part.scale_Ah ** -float(power)
            rules.append((f"{word}{place}_{unit}", partial(_scaled, factor), False))
    for kind in range(1 + 2 * settings.pairs):
        is_lag = kind > 0 and kind % 2 == 0
        word = "r0" if kind == 0 else f"{'tau' if is_lag else 'r'}{(kind + 1) // 2}"
        for soc in knots:
            where = f"_{soc:.0f}soc" if settings.knots else ""
            name = f"{word}{where}_{'s' if is_lag else 'mOhm'}"
            rules.append((name, _exp if is_lag else partial(_scaled, 1e3), is_lag))
    if settings.thermal:
        rules += [("heat_capacity_J_per_K", _exp, True), ("cooling_W_per_K", _exp, True)]
        if settings.activation_kJ_per_mol is None:
            rules.append(("activation_kJ_per_mol", partial(_scaled, 1e-3 * GAS_J_mol_K), False))
    return rules


def _named(
    rules: list[Any], solution: Solution, judgement: Judgement
) -> tuple[dict[str, float], dict[str, float]]:
    """Return values and standard errors."""
    values, errors = {}, {}
    for (name, rule, is_exp), p, error in zip(
        rules, solution.parameters, judgement.standard_errors, strict=True
    ):
        values[name] = rule(float(p))
        errors[name] = (values[name] if is_exp else rule(1.0)) * float(error)
    return values, errors
