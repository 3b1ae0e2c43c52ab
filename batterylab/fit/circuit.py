r"""A Thevenin circuit on a pulse and the relaxation after it.

.. math:: U = \sum_j a_j (q/q_m)^j + R_0 I + \sum_k R_k u_k, \qquad
          \tau_k \dot u_k = I - u_k

with q the charge since the window's first row, :math:`q_m` its largest value there, and all
:math:`u_k = 0` at the first row, which ends a rest. The current of a row has flowed since the
row before, so the lags are exact. Up to three RC pairs. Source of the model: G. L. Plett,
*Battery Management Systems*, volume 1 (2015), chapter 2.
"""

from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batterylab._kernels import _circuit
from batterylab.errors import BatterylabError
from batterylab.fit.assemble import assemble
from batterylab.fit.result import Curve, Fit
from batterylab.fit.solve import MOST_STEPS, TOLERANCE, Kernel, Solution, checked, solve
from batterylab.fit.statistics import Judgement, judge
from batterylab.fit.window import PulseWindow, pulse_window
from batterylab.recording import Recording

Array = NDArray[np.float64]

MOST_PAIRS = 3
MOST_ORDER = 4
#: a lag is sought between this share of the shortest interval and this multiple of the window
LAGS = (0.3, 3.0)
#: candidate lags to begin from, over that range
CANDIDATES = 6
#: a parameter scale for bounds: nothing in a circuit exceeds this many times the whole drop
MOST = 20.0
#: residuals above this share of the voltage's range mean that the circuit does not fit
DOUBT = 0.05


@dataclass(frozen=True)
class CircuitSettings:
    """How a `circuit` is fitted.

    Attributes
    ----------
    pairs : int
        RC pairs, 0 to 3.
    order : int
        Of the polynomial in charge that stands for the open-circuit voltage, 0 to 4.
    step : int or None
        Which pulse; None: see `pulse_window`.
    rest_s : float
        Longest part of the rest after the pulse to take.
    knots : int
        0: one pulse. 2 and more: all pulses of the recording in one fit, with resistances and
        lags between knots over the state of charge; see `batterylab.fit.circuitknots`.
    most_steps, tolerance
        Of the optimiser.
    """

    pairs: int = 2
    order: int = 1
    step: int | None = None
    rest_s: float = 1800.0
    knots: int = 0
    most_steps: int = MOST_STEPS
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        if not 0 <= self.pairs <= MOST_PAIRS:
            raise BatterylabError(f"pairs must be 0 to {MOST_PAIRS}, not {self.pairs}")
        if not 0 <= self.order <= MOST_ORDER:
            raise BatterylabError(f"order must be 0 to {MOST_ORDER}, not {self.order}")
        if self.knots < 0 or self.knots == 1 or (self.knots and self.step is not None):
            raise BatterylabError("knots must be 0, or 2 and more without a step")
        if not self.rest_s > 0:
            raise BatterylabError("rest_s must be above 0")


@dataclass(frozen=True)
class Inputs:
    """Checked arrays as the kernel reads them; see `inputs_of`."""

    time_s: Array
    current_A: Array
    charge: Array
    observed: NDArray[np.uint8]
    order: int
    pairs: int

    @property
    def rows(self) -> int:
        """Rows that were measured."""
        return int(self.observed.sum())

    @property
    def count(self) -> int:
        """Parameters: coefficients, R0, then R and log(tau) of each pair."""
        return self.order + 2 + 2 * self.pairs


def inputs_of(
    time_s: ArrayLike,
    current_A: ArrayLike,
    charge: ArrayLike,
    *,
    order: int = 1,
    pairs: int = 2,
    observed: ArrayLike | None = None,
) -> Inputs:
    """Check what goes into the kernel.

    Parameters
    ----------
    time_s : array_like, shape (n,)
        Non-decreasing.
    current_A : array_like, shape (n,)
        Charge positive; that of a row has flowed since the row before.
    charge : array_like, shape (n,)
        Since the first row, over any scale.
    order, pairs : int
        Of the polynomial; RC pairs.
    observed : array_like of bool, shape (n,), optional
        Rows that were measured; all if not given.

    Raises
    ------
    BatterylabError
        If lengths differ, a number is not finite, time runs backwards, or order or pairs are
        out of range.
    """
    CircuitSettings(pairs=pairs, order=order)
    seconds = checked(time_s, "time_s")
    if (np.diff(seconds) < 0).any():
        raise BatterylabError("time_s runs backwards")
    amps = checked(current_A, "current_A", length=len(seconds))
    moved = checked(charge, "charge", length=len(seconds))
    seen = np.ones(len(seconds), bool) if observed is None else np.asarray(observed, bool)
    if seen.shape != seconds.shape:
        raise BatterylabError("observed and time_s differ in length")
    mask = np.ascontiguousarray(seen, np.uint8)
    return Inputs(seconds, amps, moved, mask, order, pairs)


def circuit_voltage(inputs: Inputs, parameters: ArrayLike) -> tuple[Array, Array]:
    """Return the model's voltage in the observed rows, and its derivatives.

    Parameters
    ----------
    inputs : Inputs
        From `inputs_of`.
    parameters : array_like, shape (p,)
        a_0 .. a_order in V, R_0 in ohm, then R_k in ohm and log(tau_k / s) of each pair.

    Returns
    -------
    voltage_V : ndarray, shape (m,)
    jacobian : ndarray, shape (m, p)
    """
    values = checked(parameters, "parameters", length=inputs.count)
    out, jacobian = np.empty(inputs.rows), np.empty((inputs.rows, inputs.count))
    _circuit.voltage(
        inputs.time_s, inputs.current_A, inputs.charge, inputs.observed, inputs.order,
        inputs.pairs, values, out, jacobian,
    )  # fmt: skip
    return out, jacobian


def solve_circuit(
    inputs: Inputs,
    voltage_V: ArrayLike,
    *,
    most_steps: int = MOST_STEPS,
    tolerance: float = TOLERANCE,
) -> Solution:
    """Fit a circuit to a window, from every choice of candidate lags; pairs by rising lag.

    Parameters
    ----------
    inputs : Inputs
        From `inputs_of`.
    voltage_V : array_like, shape (n,)
        Measured; not read in rows that were not observed.

    Raises
    ------
    BatterylabError
        If the window holds too few rows, or no current.
    """
    seen = inputs.observed.astype(bool)
    volts = np.where(seen, np.asarray(voltage_V, float), 0.0)
    volts = checked(volts, "voltage_V", length=len(seen))
    amps = float(np.abs(inputs.current_A).max())
    if not amps > 0:
        raise BatterylabError("no current flows in the window")
    lags = _lag_bounds(inputs)
    kernel: Kernel = partial(
        _circuit.fit, inputs.time_s, inputs.current_A, inputs.charge, volts, inputs.observed,
        inputs.order, inputs.pairs,
    )  # fmt: skip
    if inputs.pairs and inputs.rows > inputs.count:
        solution = _projected(inputs, volts, lags, most_steps, tolerance)
        if solution is not None:
            return _sorted(solution, inputs)
    span_V = max(float(np.ptp(volts[seen])), 1e-6)
    lower, upper = _bounds(inputs, volts[seen], span_V, span_V / amps, lags)
    if inputs.rows <= inputs.count:
        starts = np.zeros((1, inputs.count))
    else:
        starts = _starts(inputs, volts[seen], lags, lower, upper)
    solution = solve(
        kernel, inputs.rows, starts, lower, upper, most_steps=most_steps, tolerance=tolerance
    )
    return _sorted(solution, inputs)


def _projected(
    inputs: Inputs, volts: Array, lags: tuple[float, float], most_steps: int, tolerance: float
) -> Solution | None:
    """Fit by variable projection; None where bounds matter or it did not arrive."""
    candidates = np.linspace(*lags, CANDIDATES + 2)[1:-1].copy()
    parameters, residual = np.empty(inputs.count), np.empty(inputs.rows)
    jacobian = np.empty((inputs.rows, inputs.count))
    steps = _circuit.fit_lags(
        inputs.time_s, inputs.current_A, inputs.charge, volts, inputs.observed, inputs.order,
        inputs.pairs, candidates, *lags, parameters, residual, jacobian, most_steps, tolerance,
    )  # fmt: skip
    if steps < 0 or not np.isfinite(parameters).all():
        return None
    nothing = np.zeros(inputs.count, bool)
    return Solution(
        parameters, residual, jacobian, nothing, True, "the sum of squares changes no more", steps
    )


def _lag_bounds(inputs: Inputs) -> tuple[float, float]:
    """Return the logarithms of the shortest and longest lag to look for."""
    steps = np.diff(inputs.time_s)
    steps = steps[steps > 0]
    if not len(steps):
        raise BatterylabError("the window has no length in time")
    shortest, whole = float(steps.min()), float(inputs.time_s[-1] - inputs.time_s[0])
    return float(np.log(LAGS[0] * shortest)), float(np.log(LAGS[1] * whole))


def _bounds(
    inputs: Inputs, volts: Array, span_V: float, ohm: float, lags: tuple[float, float]
) -> tuple[Array, Array]:
    first = inputs.order + 1
    lower, upper = np.empty(inputs.count), np.empty(inputs.count)
    lower[0], upper[0] = volts.min() - MOST * span_V, volts.max() + MOST * span_V
    lower[1:first], upper[1:first] = -MOST * span_V, MOST * span_V
    lower[first], upper[first] = 0.0, MOST * ohm
    lower[first + 1 :: 2], upper[first + 1 :: 2] = 0.0, MOST * ohm
    lower[first + 2 :: 2], upper[first + 2 :: 2] = lags
    return lower, upper


def _starts(
    inputs: Inputs, volts: Array, lags: tuple[float, float], lower: Array, upper: Array
) -> Array:
    """Return one start for each choice of lags, with the rest by linear least squares."""
    first = inputs.order + 1
    candidates = np.linspace(*lags, CANDIDATES + 2)[1:-1]
    starts = []
    for chosen in combinations(candidates, inputs.pairs):
        start = np.zeros(inputs.count)
        start[first + 2 :: 2] = chosen
        _, jacobian = circuit_voltage(inputs, start)
        linear = np.ones(inputs.count, bool)
        linear[first + 2 :: 2] = False
        start[linear] = np.linalg.lstsq(jacobian[:, linear], volts, rcond=1e-12)[0]
        starts.append(np.clip(start, lower, upper))
    return np.array(starts)


def _sorted(solution: Solution, inputs: Inputs) -> Solution:
    """Return the solution with its pairs by rising lag."""
    first = inputs.order + 2
    order = np.argsort(solution.parameters[first + 1 :: 2], kind="stable")
    pairs = [first + 2 * k + j for k in order for j in (0, 1)]
    index = np.array([*range(first), *pairs], int)
    return Solution(
        parameters=solution.parameters[index],
        residual_V=solution.residual_V,
        jacobian=np.ascontiguousarray(solution.jacobian[:, index]),
        at_bound=solution.at_bound[index],
        converged=solution.converged,
        reason=solution.reason,
        steps=solution.steps,
    )


def names_of(order: int, pairs: int) -> tuple[str, ...]:
    """Return the fitted parameters' names, in the kernel's order."""
    slopes = ("ocv_slope_V_per_Ah", *(f"ocv_curve{j}_V_per_Ah{j}" for j in range(2, order + 1)))
    lags = [name for k in range(1, pairs + 1) for name in (f"r{k}_mOhm", f"tau{k}_s")]
    return ("ocv_V", *slopes[:order], "r0_mOhm", *lags)


def fit_circuit(recording: Recording, settings: CircuitSettings) -> Fit:
    """Fit a circuit to a pulse of a recording.

    Raises
    ------
    NotSuitedError
        If the recording has no pulse between two rests.
    """
    if settings.knots:
        from batterylab.fit.circuitknots import fit_knots

        return fit_knots(recording, settings)
    window = pulse_window(recording, settings.step, settings.rest_s)
    scale_Ah = float(np.abs(window.charge_Ah).max()) or 1.0
    inputs = inputs_of(
        window.time_s, window.current_A, window.charge_Ah / scale_Ah,
        order=settings.order, pairs=settings.pairs, observed=window.observed,
    )  # fmt: skip
    solution = solve_circuit(
        inputs, window.voltage_V, most_steps=settings.most_steps, tolerance=settings.tolerance
    )
    judgement = judge(solution.residual_V, solution.jacobian, ~solution.at_bound)
    values, errors = _named(solution, judgement, inputs, scale_Ah)
    made = assemble(
        "circuit", recording, window.step.step_index, names_of(settings.order, settings.pairs),
        solution, judgement, values, errors,
        {**asdict(settings), "soc_percent": _rounded(window.soc_percent)},
        _curve(window, solution), 1e3 * DOUBT * float(np.ptp(window.voltage_V[window.observed])),
    )  # fmt: skip
    return replace(made, notes=(*made.notes, *window.notes))


def _rounded(soc_percent: float) -> float | None:
    return round(soc_percent, 3) if np.isfinite(soc_percent) else None


def _curve(window: PulseWindow, solution: Solution) -> Curve:
    seen = window.observed
    volts = window.voltage_V[seen]
    return Curve(window.time_s[seen], "time / s", volts, volts + solution.residual_V)


def _named(
    solution: Solution, judgement: Judgement, inputs: Inputs, scale_Ah: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Return values and standard errors in the units of their names.

    The standard error of tau is tau times that of its logarithm. The sum of the resistances
    stands beside them: it is known better than any of them.
    """
    names = names_of(inputs.order, inputs.pairs)
    first = inputs.order + 1
    values, errors = {}, {}
    for i, (name, p) in enumerate(zip(names, solution.parameters, strict=True)):
        error = float(judgement.standard_errors[i])
        if i < first:
            factor = scale_Ah ** -float(i)
            values[name], errors[name] = float(p) * factor, error * factor
        elif name.endswith("_s"):
            values[name] = float(np.exp(p))
            errors[name] = values[name] * error
        else:
            values[name], errors[name] = 1e3 * float(p), 1e3 * error
    ohms = np.array([first, *range(first + 1, inputs.count, 2)])
    free = ohms[~solution.at_bound[ohms]]
    values["r_sum_mOhm"] = 1e3 * float(solution.parameters[ohms].sum())
    errors["r_sum_mOhm"] = 1e3 * float(np.sqrt(judgement.covariance[np.ix_(free, free)].sum()))
    return values, errors
