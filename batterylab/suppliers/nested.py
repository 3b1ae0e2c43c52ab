"""Nested studies: cells that meet one channel each, and nested analyses of variance of any depth.

A cell that cannot be measured on several channels (a destructive test, a welded cell) leaves a
nested study: channels, cells in channels, repeats in cells.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from batterylab.errors import BatterylabError
from batterylab.suppliers.measurement import CELLS, CHANNELS, REPEATS, Source, Variances
from batterylab.suppliers.nodes import (
    CONFIDENCE,
    Array,
    Interval,
    chi_squares,
    effective_degrees_of_freedom,
    points_for,
)


@dataclass(frozen=True)
class NestedStudy:
    """A gauge study in which each cell met one channel.

    Attributes
    ----------
    cells : int
        Of a channel.
    channels, repeats : int
    by_channel, by_cell, error : Source
    """

    cells: int
    channels: int
    repeats: int
    by_channel: Source
    by_cell: Source
    error: Source
    remarks: tuple[str, ...] = ("nested: each cell met one channel",)

    def variances(self) -> Variances:
        """Return the variance components, negative ones as zero."""
        lines = (self.by_channel, self.by_cell, self.error)
        return self._components(*(np.asarray(line.mean_square) for line in lines))

    def pivots(
        self, confidence: float = CONFIDENCE, *, points: int | None = None
    ) -> Variances | None:
        """Return generalised pivotal quantities of the variance components."""
        if self.error.sum_of_squares <= 0:
            return None
        count = points or points_for(confidence)
        lines = (self.by_channel, self.by_cell, self.error)
        return self._components(*(
            line.sum_of_squares / chi_squares(line.degrees_of_freedom, dimension, count)
            for line, dimension in zip(lines, (CHANNELS, CELLS, REPEATS), strict=True)
        ))  # fmt: skip

    def _components(self, channel: Array, cell: Array, error: Array) -> Variances:
        of_cell = np.asarray(np.maximum(cell - error, 0.0) / self.repeats)
        of_channel = np.asarray(np.maximum(channel - cell, 0.0) / (self.cells * self.repeats))
        return Variances(error, of_channel, np.zeros_like(error), of_cell)


def nested_study(values: Array) -> NestedStudy:
    """Analyse a complete nested gauge study.

    Parameters
    ----------
    values : ndarray, shape (channels, cells, repeats)
        Two or more of each.

    References
    ----------
    .. [1] AIAG, Measurement Systems Analysis, 4th ed., 2010, chapter IV.
    """
    channels, cells, repeats = values.shape
    if min(channels, cells, repeats) < 2:
        raise BatterylabError(
            f"{channels} channels x {cells} cells x {repeats} repeats make no nested study",
            hint="two or more of each",
        )
    by_channel, by_cell, error = nested_anova(values)
    return NestedStudy(cells, channels, repeats, by_channel, by_cell, error)


def nested_anova(values: Array) -> list[Source]:
    """Return the lines of a balanced nested analysis of variance, the outermost first.

    Parameters
    ----------
    values : ndarray, shape (a, b, ..., repeats)
        Each axis nested in the one before.
    """
    centred = values - values.mean()
    lines = []
    df_above = 1
    for axis in range(values.ndim):
        inner = tuple(range(axis + 1, values.ndim))
        means = centred.mean(axis=inner, keepdims=True) if inner else centred
        above = centred.mean(axis=tuple(range(axis, values.ndim)), keepdims=True)
        size = math.prod(values.shape[axis + 1 :])
        levels = math.prod(values.shape[: axis + 1])
        lines.append(Source(size * float(np.sum((means - above) ** 2)), levels - df_above))
        df_above = levels
    return lines


@dataclass(frozen=True)
class NestedComponent:
    """A variance with its interval."""

    name: str
    variance: float
    interval: Interval


def nested_components(
    values: Array, names: Sequence[str], confidence: float = CONFIDENCE
) -> list[NestedComponent]:
    """Return the variance components of a balanced nested design, the total first.

    The estimates are those of the analysis of variance, negative ones as zero. Intervals: the
    total's by Satterthwaite's χ², the innermost's by its χ², the others' by the normal
    distribution with Searle's variances, cut off at zero: those of usual software, kept to
    compare with it. `batterylab.suppliers.mixed` gives better ones.

    Parameters
    ----------
    values : ndarray, shape (a, b, ..., repeats)
    names : sequence of str
        Of the axes.

    References
    ----------
    .. [1] CLSI EP05-A2, Evaluation of Precision Performance of Quantitative Measurement
       Methods, 2004.
    .. [2] S. R. Searle, G. Casella, C. E. McCulloch, Variance Components, 1992, chapter 4.
    """
    lines = nested_anova(values)
    squares = np.array([line.mean_square for line in lines])
    df = np.array([float(line.degrees_of_freedom) for line in lines])
    sizes = np.array([math.prod(values.shape[axis + 1 :]) for axis in range(values.ndim)], float)
    matrix = np.zeros((values.ndim, values.ndim))
    for row in range(values.ndim):
        matrix[row, row] = 1.0 / sizes[row]
        if row + 1 < values.ndim:
            matrix[row, row + 1] = -1.0 / sizes[row]
    raw = matrix @ squares
    variances = np.maximum(raw, 0.0)
    errors = np.sqrt(matrix**2 @ (2.0 * squares**2 / df))
    weights = matrix.sum(axis=0) if np.all(raw >= 0) else _weights(matrix, raw)
    tail = (1.0 - confidence) / 2.0
    z = float(special.ndtri(1.0 - tail))
    total = float(variances.sum())
    total_df = effective_degrees_of_freedom(weights * squares, df)
    found = [NestedComponent("total", total, _chi_square_interval(total, total_df, tail))]
    for place, name in enumerate(names):
        variance = float(variances[place])
        if place == values.ndim - 1:
            interval = _chi_square_interval(variance, float(df[place]), tail)
        else:
            reach = z * float(errors[place])
            interval = (max(0.0, float(raw[place]) - reach), max(0.0, float(raw[place]) + reach))
        found.append(NestedComponent(name, variance, interval))
    return found


def _weights(matrix: Array, raw: Array) -> Array:
    """Return the weights of the mean squares in the total where a component is zero."""
    found: Array = matrix[raw >= 0].sum(axis=0)
    return found


def _chi_square_interval(variance: float, df: float, tail: float) -> Interval:
    low = 2.0 * float(special.gammaincinv(df / 2.0, 1.0 - tail))
    high = 2.0 * float(special.gammaincinv(df / 2.0, tail))
    return variance * df / low, variance * df / high
