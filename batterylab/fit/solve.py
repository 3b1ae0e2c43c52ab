"""Call a kernel with checked arrays, and put what it returns into words."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batterylab.errors import BatterylabError

Array = NDArray[np.float64]

MOST_STEPS = 500
TOLERANCE = 1e-9

#: status of `levmar.pxd` -> whether the fit converged, and what to say
STATUS: dict[int, tuple[bool, str]] = {
    -2: (False, "the model gives no finite voltage at any start"),
    -1: (False, "no step lowers the residuals, but their gradient is not small"),
    0: (False, "the largest number of steps was reached"),
    1: (True, "the sum of squares changes no more"),
    2: (True, "the parameters change no more"),
    3: (True, "the gradient vanishes"),
}

#: starts, lower, upper, parameters, residual, trial, jacobian, most_steps, tolerance
Kernel = Callable[
    [Array, Array, Array, Array, Array, Array, Array, int, float], tuple[int, int, float]
]


@dataclass(frozen=True)
class Solution:
    """What a kernel found.

    Attributes
    ----------
    parameters : ndarray, shape (p,)
        The optimum, or where it stopped.
    residual_V : ndarray, shape (n,)
        Model less measured.
    jacobian : ndarray, shape (n, p)
        Derivatives of the residuals.
    at_bound : ndarray of bool, shape (p,)
        Which parameters lie on a bound.
    converged : bool
        Whether it arrived.
    reason : str
        Why it stopped.
    steps : int
        Of the best start.
    """

    parameters: Array
    residual_V: Array
    jacobian: Array
    at_bound: NDArray[np.bool_]
    converged: bool
    reason: str
    steps: int


def checked(values: ArrayLike, name: str, *, length: int | None = None) -> Array:
    """Return values as a contiguous array of finite floats.

    Raises
    ------
    BatterylabError
        If they are not one-dimensional, not finite, or not as many as wanted.
    """
    try:
        array = np.ascontiguousarray(values, np.float64)
    except (TypeError, ValueError):
        raise BatterylabError(f"{name} does not hold numbers") from None
    if array.ndim != 1 or not len(array):
        raise BatterylabError(f"{name} must be one-dimensional and not empty")
    if length is not None and len(array) != length:
        raise BatterylabError(f"{name} holds {len(array)} values", hint=f"{length} are wanted")
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise BatterylabError(f"{name}, row {bad[0]}: not a finite number")
    return array


def solve(
    kernel: Kernel,
    rows: int,
    starts: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    *,
    most_steps: int = MOST_STEPS,
    tolerance: float = TOLERANCE,
) -> Solution:
    """Fit from every start and return the best.

    Parameters
    ----------
    kernel : callable
        A kernel's `fit` with its data bound.
    rows : int
        Residuals.
    starts : array_like, shape (s, p)
        Where to begin.
    lower, upper : array_like, shape (p,)
        Bounds.
    most_steps : int
        From each start.
    tolerance : float
        Relative change of the sum of squares that ends a fit.

    Raises
    ------
    BatterylabError
        If shapes do not fit, bounds are crossed, or there are fewer rows than parameters.
    """
    begin = np.ascontiguousarray(starts, np.float64)
    count = begin.shape[1] if begin.ndim == 2 else 0
    low, high = checked(lower, "lower", length=count), checked(upper, "upper", length=count)
    if not len(begin) or not np.isfinite(begin).all():
        raise BatterylabError("there is no start of finite numbers")
    if (low > high).any():
        raise BatterylabError("a lower bound lies above its upper bound")
    if rows <= count:
        raise BatterylabError(
            f"{rows} rows cannot determine {count} parameters",
            hint="fit a simpler model or a longer window",
        )
    if most_steps < 1 or not tolerance > 0:
        raise BatterylabError("most_steps must be at least 1 and tolerance above 0")
    parameters = begin[0].copy()
    residual, trial, jacobian = np.zeros(rows), np.zeros(rows), np.zeros((rows, count))
    status, steps, _ = kernel(
        begin, low, high, parameters, residual, trial, jacobian, most_steps, tolerance
    )
    converged, reason = STATUS.get(status, (False, f"the kernel returned {status}"))
    width = np.maximum(high - low, 1e-300)
    at_bound = (parameters - low <= 1e-9 * width) | (high - parameters <= 1e-9 * width)
    return Solution(parameters, residual, jacobian, at_bound, converged, reason, steps)
