"""Means of unequal lots after Kenward and Roger: few lots are allowed for.

For lots of n_i cells the covariance matrix of a supplier's values has two eigenvalues a lot, so
the general formulas of the method reduce to sums over lots.
"""

import math
from dataclasses import dataclass

import numpy as np

from batterylab.suppliers.components import LotSample, maximum_likelihood
from batterylab.suppliers.mixed import RESIDUAL, MixedFit
from batterylab.suppliers.nodes import CONFIDENCE, Array, Interval, mean_interval

_MOST = 800


@dataclass(frozen=True)
class Mean:
    """A mean, or a contrast of means, with what its interval needs."""

    estimate: float
    standard_error: float
    degrees_of_freedom: float

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """Return the t interval."""
        return mean_interval(
            self.estimate, self.standard_error, self.degrees_of_freedom, confidence
        )


def lot_mean(sample: LotSample) -> Mean | None:
    """Return the mean of a supplier's lots after Kenward and Roger.

    Parameters
    ----------
    sample : LotSample

    Returns
    -------
    Mean or None
        None with one lot, or where lots cannot be told from cells. With a lot variance of zero
        the cells count as independent: use the t interval on the lot means then.

    References
    ----------
    .. [1] M. G. Kenward, J. H. Roger, Small sample inference for fixed effects from restricted
       maximum likelihood, Biometrics 53 (1997) 983.
    """
    found = maximum_likelihood(sample)
    if found is None:
        return None
    n = sample.counts
    eigenvalues = found.cell_variance + n * found.lot_variance
    effects = np.stack([n, np.ones_like(n)])  # of lots and of cells, along a lot's mean
    if found.lot_variance <= 0:
        effects = effects[1:]
    information = n / eigenvalues
    variance = 1.0 / float(information.sum())
    first = -(effects * n / eigenvalues**2).sum(axis=1)
    second = np.einsum("il,jl,l->ij", effects, effects, n / eigenvalues**3)
    expected = np.einsum("il,jl,l->ij", effects, effects, 1.0 / eigenvalues**2)
    expected[-1, -1] += float(np.sum(n - 1.0)) / found.cell_variance**2
    expected = 0.5 * (expected - 2.0 * variance * second + variance**2 * np.outer(first, first))
    return _judged(found.mean, variance, first, second, np.linalg.inv(expected))


def _judged(estimate: float, variance: float, first: Array, second: Array, spread: Array) -> Mean:
    """Return the adjusted error and the degrees of freedom of one contrast."""
    excess = float(np.sum(spread * (second - variance * np.outer(first, first))))
    adjusted = variance + 2.0 * variance**2 * excess
    relative = float(np.sum(spread * np.outer(first, first))) * variance**2
    return Mean(estimate, math.sqrt(adjusted), 2.0 / relative)


def contrast(fit: MixedFit, weights: Array) -> Mean:
    """Return a contrast of a mixed model's fixed part after Kenward and Roger.

    Variances that are zero are left out. Dense matrices: for some hundreds of values.

    Parameters
    ----------
    fit : MixedFit
    weights : ndarray, shape (p,)
        Of the fixed coefficients.

    Raises
    ------
    ValueError
        If there are more than 800 values.
    """
    model = fit.model
    count = len(model.values)
    if count > _MOST:
        raise ValueError(f"{count} values are too many for dense matrices")
    variances = fit.variances
    parts = []
    for name, levels in model.factors.items():
        if variances[name] > 0:
            parts.append((variances[name], (levels[:, None] == levels[None, :]).astype(float)))
    parts.append((variances[RESIDUAL], np.eye(count)))
    whole = np.einsum("k,kij->ij", [v for v, _ in parts], np.stack([g for _, g in parts]))
    inverse = np.linalg.inv(whole)
    x = model.fixed
    covariance = np.linalg.inv(x.T @ inverse @ x)
    weighted = [inverse @ g for _, g in parts]
    solved = inverse @ x
    first = [-(solved.T @ g @ solved) for _, g in parts]
    second = [[solved.T @ g @ inverse @ h @ solved for _, h in parts] for _, g in parts]
    size = len(parts)
    expected = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            traces = float(np.sum(weighted[i] * weighted[j].T))
            traces -= 2.0 * float(np.trace(covariance @ second[i][j]))
            traces += float(np.trace(covariance @ first[i] @ covariance @ first[j]))
            expected[i, j] = 0.5 * traces
    spread = np.linalg.inv(expected)
    bias = np.zeros_like(covariance)
    for i in range(size):
        for j in range(size):
            bias += spread[i, j] * (second[i][j] - first[i] @ covariance @ first[j])
    adjusted = covariance + 2.0 * covariance @ bias @ covariance
    direction = covariance @ weights
    variance = float(weights @ direction)
    slopes = np.array([float(direction @ p @ direction) for p in first])
    relative = float(slopes @ spread @ slopes) / variance**2
    return Mean(float(weights @ fit.coefficients), math.sqrt(float(weights @ adjusted @ weights)),
                2.0 / relative)  # fmt: skip
