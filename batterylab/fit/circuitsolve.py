"""Arrays for the circuit kernel, and the fit of one pulse: starts, bounds, least squares."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batterylab._kernels import _circuit
from batterylab.errors import BatterylabError
from batterylab.fit.loss import SQUARES, Loss
from batterylab.fit.solve import (
    MOST_STEPS,
    TOLERANCE,
    Bounded,
    Solution,
    Steps,
    alone,
    bounded_fit,
    checked,
)

Array = NDArray[np.float64]

MOST_PAIRS = 3
MOST_ORDER = 4
NOTHING: Array = np.empty(0)
#: a lag is sought between this share of the shortest interval and this multiple of the window
LAGS = (0.3, 3.0)
#: no two rows count as closer than this
LEAST_s = 1e-9
#: candidate lags to begin from, over that range
CANDIDATES = 6
#: a parameter scale for bounds: nothing in a circuit exceeds this many times the whole drop
MOST = 20.0


@dataclass(frozen=True)
class Inputs:
    """Checked arrays as the kernel reads them; see `inputs_of` and `joined`.

    Attributes
    ----------
    time_s, current_A, charge, observed : ndarray, shape (n,)
        See `inputs_of`.
    order, pairs : int
        Of the polynomial; RC pairs.
    first : ndarray of int32, shape (k + 1,)
        Row of each part, and the number of rows.
    weights : ndarray, shape (k, m)
        Of the knots, part by part.
    temperature_K : ndarray, shape (n,) or (0,)
        Measured; empty without a thermal node.
    kelvin_V : float
        What a kelvin counts.
    activation_K : float
        By which resistances fall with temperature; NaN: a parameter.
    """

    time_s: Array
    current_A: Array
    charge: Array
    observed: NDArray[np.uint8]
    order: int
    pairs: int
    first: NDArray[np.int32]
    weights: Array
    temperature_K: Array = field(default_factory=lambda: NOTHING)
    kelvin_V: float = 0.0
    activation_K: float = math.nan

    @property
    def rows(self) -> int:
        """Rows that were measured."""
        return int(self.observed.sum())

    @property
    def residuals(self) -> int:
        """Voltages, and temperatures if there is a thermal node."""
        return self.rows * (2 if self.is_warm else 1)

    @property
    def is_warm(self) -> bool:
        """Whether there is a thermal node."""
        return len(self.temperature_K) > 0

    @property
    def warmth(self) -> int:
        """Parameters of the thermal node: heat capacity, cooling, activation if it is one."""
        return (3 if math.isnan(self.activation_K) else 2) if self.is_warm else 0

    @property
    def count(self) -> int:
        """Parameters: see `ext/circuit_window.pxd`."""
        parts, knots = self.weights.shape
        return int(parts * (self.order + 1) + (1 + 2 * self.pairs) * knots + self.warmth)

    @cached_property
    def kernel(self) -> _circuit.Pulses:
        """As the kernel takes them."""
        return _circuit.Pulses(
            self.time_s, self.current_A, self.charge, self.observed, self.first, self.weights,
            self.temperature_K, self.order, self.pairs, self.kelvin_V, self.activation_K,
        )  # fmt: skip


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
    if not (0 <= pairs <= MOST_PAIRS and 0 <= order <= MOST_ORDER):
        raise BatterylabError(f"pairs must be 0 to {MOST_PAIRS}, order 0 to {MOST_ORDER}")
    seconds = checked(time_s, "time_s")
    if (np.diff(seconds) < 0).any():
        raise BatterylabError("time_s runs backwards")
    amps = checked(current_A, "current_A", length=len(seconds))
    moved = checked(charge, "charge", length=len(seconds))
    seen = np.ones(len(seconds), bool) if observed is None else np.asarray(observed, bool)
    if seen.shape != seconds.shape:
        raise BatterylabError("observed and time_s differ in length")
    mask = np.ascontiguousarray(seen, np.uint8)
    whole = np.array([0, len(seconds)], np.int32)
    return Inputs(seconds, amps, moved, mask, order, pairs, whole, np.ones((1, 1)))


def joined(
    parts: Sequence[Inputs], weights: Array, temperature_K: Array = NOTHING,
    kelvin_V: float = 0.0, activation_K: float = math.nan,
) -> Inputs:  # fmt: skip
    """Return several pulses as one, each with the weights of the knots, shape (k, m)."""
    first = np.cumsum([0, *(len(part.time_s) for part in parts)]).astype(np.int32)
    return Inputs(
        np.concatenate([part.time_s for part in parts]),
        np.concatenate([part.current_A for part in parts]),
        np.concatenate([part.charge for part in parts]),
        np.concatenate([part.observed for part in parts]),
        parts[0].order, parts[0].pairs, first, np.ascontiguousarray(weights), temperature_K,
        kelvin_V, activation_K,
    )  # fmt: skip


def circuit_voltage(inputs: Inputs, parameters: ArrayLike) -> tuple[Array, Array]:
    """Return the model's voltage in the observed rows, and its derivatives.

    With a thermal node, the temperature in K times `kelvin_V` follows.

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
    out, jacobian = np.empty(inputs.residuals), np.empty((inputs.residuals, inputs.count))
    _circuit.voltage(inputs.kernel, values, out, jacobian)
    return out, jacobian


def solve_circuit(
    inputs: Inputs,
    voltage_V: ArrayLike,
    *,
    most_steps: int = MOST_STEPS,
    tolerance: float = TOLERANCE,
    loss: Loss = SQUARES,
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
    return alone(circuit_steps(inputs, voltage_V, most_steps=most_steps, tolerance=tolerance,
                               loss=loss))  # fmt: skip


def circuit_steps(
    inputs: Inputs,
    voltage_V: ArrayLike,
    *,
    most_steps: int = MOST_STEPS,
    tolerance: float = TOLERANCE,
    loss: Loss = SQUARES,
) -> Steps[Solution]:
    """Fit one pulse, as steps for `batterylab.fit.solve`; see `solve_circuit`."""
    volts = volts_of(inputs, voltage_V)
    lags = lag_bounds(inputs)
    seen = volts[inputs.observed.astype(bool)]
    span_V = max(float(np.ptp(seen)), 1e-6)
    lower, upper = _bounds(inputs, seen, span_V, lags)
    bounded = Bounded(partial(_circuit.Fit, inputs.kernel, volts), inputs.rows, lower, upper,
                      most_steps, tolerance)  # fmt: skip
    if inputs.pairs and inputs.rows > inputs.count and not loss.scale:
        solution = yield from _projected(bounded, inputs, volts, lags)
        if solution is not None:
            if not loss.is_squares:
                start = solution.parameters[None, :]
                solution = yield from bounded.refined(solution, start, loss)
            return _sorted(solution, inputs)
    if inputs.rows <= inputs.count:
        starts = np.zeros((1, inputs.count))
    else:
        starts = _starts(inputs, seen, lags, lower, upper)
    solution = yield from bounded_fit(
        bounded.kernel, inputs.rows, starts, lower, upper, most_steps=most_steps,
        tolerance=tolerance, loss=loss,
    )  # fmt: skip
    return _sorted(solution, inputs)


def volts_of(inputs: Inputs, voltage_V: ArrayLike) -> Array:
    """Return the measured voltage, 0 in rows that were not observed.

    Raises
    ------
    BatterylabError
        If an observed one is not finite, or no current flows.
    """
    seen = inputs.observed.astype(bool)
    volts = np.where(seen, np.asarray(voltage_V, float), 0.0)
    volts = checked(volts, "voltage_V", length=len(seen))
    if not float(np.abs(inputs.current_A).max()) > 0:
        raise BatterylabError("no current flows in the window")
    return volts


def _projected(
    bounded: Bounded, inputs: Inputs, volts: Array, lags: tuple[float, float]
) -> Steps[Solution | None]:
    """Fit by variable projection; None where bounds matter or it did not arrive."""
    candidates = np.linspace(*lags, CANDIDATES + 2)[1:-1, None].copy()
    parameters, residual = np.empty(inputs.count), np.empty(inputs.rows)
    jacobian = np.empty((inputs.rows, inputs.count))
    low, high = np.array(lags[:1]), np.array(lags[1:])
    task = _circuit.Lags(
        inputs.kernel, volts, candidates, low, high, parameters, residual, residual, jacobian,
        bounded.most_steps, bounded.tolerance, 0, 0.0,
    )  # fmt: skip
    yield task
    if task.status < 0 or not np.isfinite(parameters).all():
        return None
    nothing = np.zeros(inputs.count, bool)
    return Solution(
        parameters, residual, jacobian, nothing, True, "the sum of squares changes no more",
        task.status, bounded=bounded, cost=0.5 * float(residual @ residual),
    )  # fmt: skip


def lag_bounds(inputs: Inputs) -> tuple[float, float]:
    """Return the logarithms of the shortest and longest lag to look for."""
    steps = np.diff(inputs.time_s)
    steps = steps[steps > 0]
    if not len(steps):
        raise BatterylabError("the window has no length in time")
    shortest = max(float(steps.min()), LEAST_s)
    ends = inputs.time_s[inputs.first[1:] - 1] - inputs.time_s[inputs.first[:-1]]
    whole = max(float(ends.max()), shortest)
    return float(np.log(LAGS[0] * shortest)), float(np.log(LAGS[1] * whole))


def _bounds(
    inputs: Inputs, volts: Array, span_V: float, lags: tuple[float, float]
) -> tuple[Array, Array]:
    ohm = span_V / float(np.abs(inputs.current_A).max())
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
    return solution.reordered(index)
