r"""Standard errors of a least-squares fit whose residuals are correlated.

Residuals of a battery model follow each other: their noise is not white, and what the model
leaves out is smooth. The rows then say less than their number. With the integrated
autocorrelation time :math:`\tau = 1 + 2 \sum_k \rho_k` of the residuals, n rows are worth
:math:`n_e = n / \tau`, and the covariance of p parameters is

.. math:: C = \frac{\sum_i r_i^2}{n_e - p} (J^T J)^{-1} .

The sum over :math:`\rho_k` ends where a pair of neighbours is no longer positive. Sources:
G. E. P. Box, G. M. Jenkins, G. C. Reinsel, *Time Series Analysis*, on the variance of a mean
under correlation; C. J. Geyer, *Practical Markov Chain Monte Carlo*, Statistical Science 7
(1992), the initial positive sequence; G. A. F. Seber, C. J. Wild, *Nonlinear Regression*,
chapters 5 and 6.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: singular values this much smaller than the largest mark what the data hardly see
WEAK = 100.0
#: and these what they do not see at all
BLIND = 1e8
#: share of a weak direction that names a parameter
SHARE = 0.3


@dataclass(frozen=True)
class Judgement:
    """What a fit's residuals and derivatives say of its parameters.

    Attributes
    ----------
    covariance : ndarray, shape (p, p)
        NaN in rows and columns of parameters that are fixed or not determined.
    effective_rows, degrees_of_freedom : float
        See the module's formula.
    condition_number : float
        Of the Jacobian with scaled columns, over the free parameters; infinite if one of
        them does not matter.
    weak : list of tuple of int
        Parameters that the data determine only together.
    """

    covariance: Array
    effective_rows: float
    degrees_of_freedom: float
    condition_number: float
    weak: list[tuple[int, ...]]

    @property
    def standard_errors(self) -> Array:
        """Standard errors, shape (p,); NaN where there is none."""
        return np.sqrt(np.diag(self.covariance))

    def correlation(self) -> list[list[float]]:
        """Return the correlation of the parameters, row by row; NaN where there is none."""
        errors = self.standard_errors
        with np.errstate(invalid="ignore", divide="ignore"):
            matrix = self.covariance / np.outer(errors, errors)
        return [[float(value) for value in row] for row in matrix]


def correlation_time(residual: Array) -> float:
    """Return the integrated autocorrelation time of residuals in order, in rows; at least 1.

    Parameters
    ----------
    residual : ndarray, shape (n,)
        In the order of time. Their mean is taken to be zero.

    Returns
    -------
    float
        1 for white noise; :math:`(1 + a)/(1 - a)` for a first-order autoregression with
        coefficient a.
    """
    n = len(residual)
    spectrum = np.fft.rfft(residual, 2 * n)
    power = spectrum.real**2 + spectrum.imag**2
    covariance = np.fft.irfft(power, 2 * n)[:n]
    if not covariance[0] > 0:
        return 1.0
    rho = covariance / covariance[0]
    pairs = rho[: n - n % 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0)
    last = int(negative[0]) if len(negative) else len(pairs)
    return float(max(1.0, 2.0 * pairs[:last].sum() - 1.0))


def judge(residual: Array, jacobian: Array, free: NDArray[np.bool_]) -> Judgement:
    """Return covariance, effective rows and condition of a fit; see the module's formula.

    Parameters
    ----------
    residual : ndarray, shape (n,)
        At the optimum, in the order of time.
    jacobian : ndarray, shape (n, p)
        Of the residuals.
    free : ndarray of bool, shape (p,)
        Parameters that do not lie on a bound.
    """
    n, p = jacobian.shape
    length = np.sqrt(np.einsum("ij,ij->j", jacobian, jacobian))
    seen = free & (length > 1e-12 * length.max(initial=0.0))
    index = np.flatnonzero(seen)
    effective = n / correlation_time(residual)
    freedom = max(effective - len(index), 1.0)
    covariance = np.full((p, p), math.nan)
    unseen: list[tuple[int, ...]] = [(int(i),) for i in np.flatnonzero(free & ~seen)]
    if not len(index):
        return Judgement(covariance, effective, freedom, math.inf, unseen)
    scaled = jacobian[:, index] / length[index]
    _, sizes, directions = np.linalg.svd(scaled, full_matrices=False)
    weak = [
        tuple(int(index[k]) for k in np.flatnonzero(np.abs(direction) >= SHARE))
        for size, direction in zip(sizes, directions, strict=True)
        if size * WEAK < sizes[0]
    ]
    condition = float(sizes[0] / sizes[-1]) if sizes[-1] > 0 else math.inf
    if condition < BLIND:
        spread = directions.T / sizes / length[index, None]
        scale = float(residual @ residual) / freedom
        covariance[np.ix_(index, index)] = scale * (spread @ spread.T)
    return Judgement(
        covariance, effective, freedom, math.inf if unseen else condition, [*unseen, *weak]
    )
