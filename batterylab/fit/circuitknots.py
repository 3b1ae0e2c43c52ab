"""A circuit over the state of charge: all pulses of a recording in one fit.

Resistances and the logarithms of the lags are straight lines between knots, equally spaced over
the states of charge of the pulses; each pulse keeps an open-circuit voltage and slope of its
own. The fit is bounded least squares by scipy (trust region, exact derivatives), since there are
more parameters than the kernels' optimiser holds.
"""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from batterylab.errors import BatterylabError
from batterylab.features.ledger import Ledger
from batterylab.fit.assemble import assemble
from batterylab.fit.result import Curve, Fit
from batterylab.fit.solve import Solution
from batterylab.fit.statistics import Judgement, judge
from batterylab.fit.window import NotSuitedError, PulseWindow, pulse_windows
from batterylab.recording import Recording

if TYPE_CHECKING:
    from batterylab.fit.circuit import CircuitSettings, Inputs

Array = NDArray[np.float64]

#: how far a lag may lie from the range of those found pulse by pulse, in its logarithm
REACH = 2.0
#: and a resistance, as a multiple of the largest found
MOST = 20.0
DOUBT = 0.05
LEAST_GAP_PERCENT = 2.0
#: of the sum of squares; with many parameters the last digits cost most steps and say nothing
LEAST_TOLERANCE = 1e-5


@dataclass(frozen=True)
class _Part:
    """One pulse's window, as the kernel reads it."""

    window: PulseWindow
    inputs: "Inputs"
    scale_Ah: float
    hats: Array
    start: Array

    @property
    def volts(self) -> Array:
        """Measured, in the observed rows."""
        return self.window.voltage_V[self.window.observed]


class _Layout:
    """Where parameters stand: each pulse's a_0 .. a_order, then knots of R0, R1, log tau1, ..."""

    def __init__(self, parts: int, order: int, pairs: int, knots: int) -> None:
        self.local = order + 1
        self.knots = knots
        self.kinds = 1 + 2 * pairs
        self.first = parts * self.local
        self.count = self.first + self.kinds * knots

    def of_part(self, number: int) -> slice:
        return slice(number * self.local, (number + 1) * self.local)

    def of_kind(self, kind: int) -> slice:
        return slice(self.first + kind * self.knots, self.first + (kind + 1) * self.knots)


def fit_knots(recording: Recording, settings: "CircuitSettings") -> Fit:
    """Fit a circuit with knots over the state of charge to all pulses of a recording.

    Raises
    ------
    NotSuitedError
        If it has fewer pulses between rests than knots, or all at one state of charge.
    """
    windows = pulse_windows(recording, settings.rest_s)
    notes = tuple(dict.fromkeys(note for window in windows for note in window.notes))
    if len(windows) < settings.knots:
        raise NotSuitedError(
            f"recording of {recording.serial!r}: {len(windows)} pulses between two rests cannot "
            f"carry {settings.knots} knots",
            hint="take fewer knots",
        )
    soc, note = _places(recording, windows)
    knots = np.linspace(soc.min(), soc.max(), settings.knots)
    if np.diff(knots).min() < LEAST_GAP_PERCENT:
        raise NotSuitedError(
            f"recording of {recording.serial!r}: knots would lie less than {LEAST_GAP_PERCENT:g} % "
            "of charge apart",
            hint="take fewer knots",
        )
    parts = [_part(window, settings, _hats(float(place), knots))
             for window, place in zip(windows, soc, strict=True)]  # fmt: skip
    layout = _Layout(len(parts), settings.order, settings.pairs, len(knots))
    solution = _solved(parts, layout, settings)
    judgement = judge(solution.residual_V, solution.jacobian, ~solution.at_bound)
    names, values, errors = _named(parts, layout, knots, settings, solution, judgement)
    measured = np.concatenate([part.volts for part in parts])
    begins = np.cumsum([0.0, *(part.window.time_s[-1] for part in parts)])
    time_s = np.concatenate([
        part.window.time_s[part.window.observed] + begin
        for part, begin in zip(parts, begins, strict=False)
    ])  # fmt: skip
    made = assemble(
        "circuit", recording, parts[0].window.step.step_index, names, solution, judgement, values,
        errors, {**asdict(settings), "knots_percent": [round(float(s), 3) for s in knots]},
        Curve(time_s, "time in the pulses and rests / s", measured,
              measured + solution.residual_V),
        1e3 * DOUBT * float(np.median([np.ptp(part.volts) for part in parts])),
    )  # fmt: skip
    return replace(made, notes=(*made.notes, *notes, *note))


def _places(recording: Recording, windows: list[PulseWindow]) -> tuple[Array, tuple[str, ...]]:
    """Return the pulses' states of charge in percent; and a note if no full charge is known."""
    soc = np.array([window.soc_percent for window in windows])
    note: tuple[str, ...] = ()
    if not np.isfinite(soc).all():
        net_Ah = Ledger(recording).net_Ah
        low, high = float(net_Ah.min()), float(net_Ah.max())
        begins = np.array([net_Ah[max(w.step.first_row - 1, 0)] for w in windows])
        soc = 100.0 * (begins - low) / max(high - low, 1e-12)
        note = ("no full charge is known: states of charge are shares of the charge that the "
                "recording moves",)  # fmt: skip
    if not np.isfinite(soc).all() or not np.ptp(soc) > 0:
        raise NotSuitedError(
            f"recording of {recording.serial!r}: its pulses lie at one state of charge",
            hint="leave knots out",
        )
    return soc, note


def _hats(soc: float, knots: Array) -> Array:
    """Return the weight of each knot at a state of charge."""
    return np.array([np.interp(soc, knots, row) for row in np.eye(len(knots))])


def _part(window: PulseWindow, settings: "CircuitSettings", hats: Array) -> _Part:
    from batterylab.fit.circuit import inputs_of, solve_circuit

    scale_Ah = float(np.abs(window.charge_Ah).max()) or 1.0
    inputs = inputs_of(
        window.time_s, window.current_A, window.charge_Ah / scale_Ah,
        order=settings.order, pairs=settings.pairs, observed=window.observed,
    )  # fmt: skip
    alone = solve_circuit(inputs, window.voltage_V, most_steps=settings.most_steps)
    return _Part(window, inputs, scale_Ah, hats, alone.parameters)


def _solved(parts: list[_Part], layout: _Layout, settings: "CircuitSettings") -> Solution:
    from scipy.optimize import least_squares

    alone = np.array([part.start for part in parts])
    start, lower, upper = (np.empty(layout.count) for _ in range(3))
    lower[: layout.first], upper[: layout.first] = -np.inf, np.inf
    for number in range(len(parts)):
        start[layout.of_part(number)] = alone[number, : layout.local]
    weights = np.array([part.hats for part in parts])
    for kind in range(layout.kinds):
        found = alone[:, layout.local + kind]
        place = layout.of_kind(kind)
        is_lag = kind > 0 and kind % 2 == 0
        lower[place] = found.min() - REACH if is_lag else 0.0
        upper[place] = found.max() + REACH if is_lag else MOST * max(float(found.max()), 1e-9)
        middle = np.linalg.lstsq(weights, found, rcond=1e-6)[0]
        start[place] = np.clip(middle, lower[place], upper[place])
    rows = [part.inputs.rows for part in parts]
    if sum(rows) <= layout.count:
        raise BatterylabError(f"{sum(rows)} rows cannot determine {layout.count} parameters",
                              hint="take fewer knots")  # fmt: skip
    made = least_squares(
        lambda p: _evaluated(parts, layout, p)[0], start,
        lambda p: _evaluated(parts, layout, p)[1], (lower, upper), x_scale="jac",
        ftol=max(settings.tolerance, LEAST_TOLERANCE), xtol=1e-10, gtol=None,
        max_nfev=settings.most_steps,
    )  # fmt: skip
    residual, jacobian = _evaluated(parts, layout, made.x)
    width = np.where(np.isfinite(upper - lower), upper - lower, 1.0)
    near = (made.x - lower <= 1e-6 * width) | (upper - made.x <= 1e-6 * width)
    reasons = {
        1: "the gradient vanishes",
        2: "the sum of squares changes no more",
        3: "the parameters change no more",
        4: "the sum of squares changes no more",
    }
    reason = reasons.get(made.status, "the largest number of steps was reached")
    return Solution(made.x, residual, jacobian, near, made.status > 0, reason, int(made.nfev))


def _evaluated(parts: list[_Part], layout: _Layout, p: Array) -> tuple[Array, Array]:
    """Return residuals and derivatives of all pulses, one below the other."""
    from batterylab.fit.circuit import circuit_voltage

    residuals, slopes = [], []
    for number, part in enumerate(parts):
        own = np.empty(layout.local + layout.kinds)
        own[: layout.local] = p[layout.of_part(number)]
        for kind in range(layout.kinds):
            own[layout.local + kind] = part.hats @ p[layout.of_kind(kind)]
        volts, jacobian = circuit_voltage(part.inputs, own)
        wide = np.zeros((len(volts), layout.count))
        wide[:, layout.of_part(number)] = jacobian[:, : layout.local]
        for kind in range(layout.kinds):
            wide[:, layout.of_kind(kind)] = jacobian[:, [layout.local + kind]] * part.hats
        residuals.append(volts - part.volts)
        slopes.append(wide)
    return np.concatenate(residuals), np.concatenate(slopes)


def _named(
    parts: list[_Part], layout: _Layout, knots: Array, settings: "CircuitSettings",
    solution: Solution, judgement: Judgement,
) -> tuple[tuple[str, ...], dict[str, float], dict[str, float]]:  # fmt: skip
    """Return names in the order of the parameters, values and standard errors."""
    names: list[str] = []
    factors: list[float] = []
    for part in parts:
        step = part.window.step.step_index
        for power in range(layout.local):
            unit = "V" if power == 0 else "V_per_Ah" if power == 1 else f"V_per_Ah{power}"
            word = "ocv" if power == 0 else "ocv_slope" if power == 1 else f"ocv_curve{power}"
            names.append(f"{word}_step{step}_{unit}")
            factors.append(part.scale_Ah ** -float(power))
    for kind in range(layout.kinds):
        is_lag = kind > 0 and kind % 2 == 0
        word = "r0" if kind == 0 else f"{'tau' if is_lag else 'r'}{(kind + 1) // 2}"
        for soc in knots:
            names.append(f"{word}_{soc:.0f}soc_{'s' if is_lag else 'mOhm'}")
            factors.append(0.0 if is_lag else 1e3)
    found, spread = solution.parameters, judgement.standard_errors
    values, errors = {}, {}
    for name, factor, p, error in zip(names, factors, found, spread, strict=True):
        values[name] = float(np.exp(p)) if factor == 0.0 else float(p) * factor
        errors[name] = values[name] * float(error) if factor == 0.0 else float(error) * factor
    return tuple(names), values, errors
