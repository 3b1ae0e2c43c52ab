"""Run a kernel with checked arrays, alone or with many others, and put its end into words.

A model's fit is a generator: it yields tasks of the kernels and returns what it found. `alone`
runs one; `together` runs the tasks that many of them wait for in one call of the kernels, in
threads, without the interpreter's lock.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batterylab._kernels import _tasks
from batterylab.errors import BatterylabError
from batterylab.fit.loss import MOST_ROUNDS, SETTLED, SQUARES, Loss, scale_of

Array = NDArray[np.float64]
Found = TypeVar("Found")
Steps = Generator[_tasks.Task, None, Found]

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

#: starts, lower, upper, parameters, residual, trial, jacobian, most_steps, tolerance, loss, scale
Kernel = Callable[
    [Array, Array, Array, Array, Array, Array, Array, int, float, int, float], _tasks.Task
]


@dataclass(frozen=True)
class Bounded:
    """A kernel with its data and bounds: what can be fitted, again and again.

    Attributes
    ----------
    kernel : callable
        Makes a kernel's task, its data bound.
    rows : int
        Residuals.
    lower, upper : ndarray, shape (p,)
        Bounds.
    most_steps : int
        From each start.
    tolerance : float
        Relative change of the sum of squares that ends a fit.
    """

    kernel: Kernel
    rows: int
    lower: Array
    upper: Array
    most_steps: int = MOST_STEPS
    tolerance: float = TOLERANCE

    def once(self, starts: Array, loss: Loss = SQUARES) -> "Steps[Solution]":
        """Fit from every start with a loss whose scale is known."""
        count = starts.shape[1]
        parameters = starts[0].copy()
        residual, trial = np.zeros(self.rows), np.zeros(self.rows)
        jacobian = np.zeros((self.rows, count))
        task = self.kernel(
            starts, self.lower, self.upper, parameters, residual, trial, jacobian,
            self.most_steps, self.tolerance, loss.code, loss.scale,
        )  # fmt: skip
        yield task
        converged, reason = STATUS.get(task.status, (False, f"the kernel returned {task.status}"))
        width = np.maximum(self.upper - self.lower, 1e-300)
        at_bound = (parameters - self.lower <= 1e-9 * width) | (
            self.upper - parameters <= 1e-9 * width
        )
        return Solution(parameters, residual, jacobian, at_bound, converged, reason, task.steps,
                        loss=loss, bounded=self, cost=task.cost)  # fmt: skip

    def fitted(self, starts: Array, loss: Loss = SQUARES) -> "Steps[Solution]":
        """Fit from every start; if the loss has no scale, find it from the residuals.

        That begins with least squares; then the scale and the fit follow each other, the first
        time from all starts again.
        """
        if loss.is_squares or loss.scale > 0:
            return (yield from self.once(starts, loss))
        found = yield from self.once(starts)
        return (yield from self.refined(found, starts, loss))

    def refined(self, found: "Solution", starts: Array, loss: Loss) -> "Steps[Solution]":
        """Go on from a least-squares solution to one whose loss has its scale."""
        begin = np.vstack([found.parameters[None, :], starts])
        for _ in range(MOST_ROUNDS):
            scale = scale_of(found.residual_V)
            if not (found.converged and scale > 0):
                return found
            if abs(scale - found.loss.scale) <= SETTLED * scale:
                break
            found = yield from self.once(begin, replace(loss, scale=scale))
            begin = np.ascontiguousarray(found.parameters[None, :])
        return found


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
    loss : Loss
        With its scale.
    bounded : Bounded or None
        What was fitted, for profiles.
    cost : float
        Half the sum of squares, or of what the loss makes of them.
    """

    parameters: Array
    residual_V: Array
    jacobian: Array
    at_bound: NDArray[np.bool_]
    converged: bool
    reason: str
    steps: int
    loss: Loss = SQUARES
    bounded: Bounded | None = field(default=None, repr=False, compare=False)
    cost: float = float("nan")

    @property
    def slope(self) -> float:
        """The mean derivative of psi; 1 for least squares."""
        return max(float(self.loss.slopes(self.residual_V)[1].mean()), 1e-3)

    @property
    def noise_V(self) -> Array:
        """The residuals, or what stands for them in the standard errors of a robust fit.

        psi over its mean derivative: Huber's covariance is that of least squares with these
        (*Robust Statistics*, 1981, section 7.6).
        """
        return np.asarray(self.loss.slopes(self.residual_V)[0] / self.slope)

    def reordered(self, index: NDArray[np.intp]) -> "Solution":
        """Return it with parameters in another order, for which the model is the same."""
        bounded = self.bounded and replace(
            self.bounded, lower=self.bounded.lower[index], upper=self.bounded.upper[index]
        )
        return replace(
            self, parameters=self.parameters[index],
            jacobian=np.ascontiguousarray(self.jacobian[:, index]),
            at_bound=self.at_bound[index], bounded=bounded,
        )  # fmt: skip


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


def bounded_fit(
    kernel: Kernel,
    rows: int,
    starts: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    *,
    most_steps: int = MOST_STEPS,
    tolerance: float = TOLERANCE,
    loss: Loss = SQUARES,
) -> Steps[Solution]:
    """Fit from every start and return the best, as steps for `alone` or `together`.

    Parameters
    ----------
    kernel : callable
        Makes a kernel's task, its data bound.
    rows : int
        Residuals.
    starts : array_like, shape (s, p)
        Where to begin.
    lower, upper : array_like, shape (p,)
        Bounds.
    most_steps, tolerance
        See `Bounded`.
    loss : Loss
        What large residuals count.

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
    bounded = Bounded(kernel, rows, low, high, most_steps, tolerance)
    return (yield from bounded.fitted(begin, loss))


def alone(steps: Steps[Found]) -> Found:
    """Run one fit."""
    try:
        while True:
            _tasks.run([next(steps)])
    except StopIteration as end:
        found: Found = end.value
        return found


def together(
    fits: Sequence[Steps[Found]], threads: int
) -> list[Found | BatterylabError]:  # fmt: skip
    """Run many fits; the tasks they wait for go to the kernels in one call a thread.

    Returns
    -------
    list
        What each fit returns, or the error in its place.
    """
    found: list[Found | BatterylabError | None] = [None] * len(fits)
    waiting = list(range(len(fits)))
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        while waiting:
            tasks, still = [], []
            for place in waiting:
                try:
                    tasks.append(next(fits[place]))
                    still.append(place)
                except StopIteration as end:
                    found[place] = end.value
                except BatterylabError as error:
                    found[place] = error
            waiting = still
            own = [pool.submit(_tasks.run, tasks, k, threads) for k in range(threads)]
            for future in own:
                future.result()
    return [one for one in found if one is not None]


def solve(
    kernel: Kernel,
    rows: int,
    starts: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    *,
    most_steps: int = MOST_STEPS,
    tolerance: float = TOLERANCE,
    loss: Loss = SQUARES,
) -> Solution:
    """Fit from every start and return the best; see `bounded_fit`."""
    return alone(
        bounded_fit(kernel, rows, starts, lower, upper, most_steps=most_steps,
                    tolerance=tolerance, loss=loss)
    )  # fmt: skip
