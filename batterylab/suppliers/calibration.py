"""Bounds of capability where the bench's own scatter was taken out, held to their level.

Draws in which the bench scatters more than the cells and the bench together are impossible and
left out: set to no spread at all they would make Ppk's upper end endless.

Generalised bounds are too wide where few channels tell the bench's variance: the draws of the
lots, the cells and the bench are added as if each had to be at its worst. So the study is made
again from its own draws, some hundreds of times, and each time it is asked where the truth then
lies among the draws. Those places give the level that would have held (prepivoting). Without it
the bounds err on the safe side, with it on the other (the draws are wider than the truth is
uncertain): the level lies between the two, and its middle leaves the least error that may
remain whichever is nearer. ``docs/statistics.md`` has what held in designs that had no part in
this choice. All points are fixed.

References
----------
.. [1] R. Beran, Prepivoting to reduce level error of confidence sets, Biometrika 74 (1987) 457.
.. [2] P. Hall, On the bootstrap and confidence intervals, Ann. Stat. 14 (1986) 1431.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from batterylab.suppliers.components import FLOOR, LotSample, Pivots
from batterylab.suppliers.measurement import CHANNELS, INTERACTION, REPEATS, GaugeStudy, Variances
from batterylab.suppliers.nodes import Array, chi_squares, normals

STUDIES = POINTS = 256
#: the level that is taken lies so far from the uncorrected to the wholly corrected one
SHARE = 0.5
#: with a smaller share of possible draws the bench swamps the cells: nothing is corrected
LEAST_POSSIBLE = 1 / 16
#: dimensions of `nodes` for the studies made again
_WITHIN, _LOTS, _MEAN, _CHANNEL, _BOTH, _REPEAT = 8, 9, 10, 11, 6, 7


@dataclass(frozen=True)
class Levels:
    """Which level of the draws to take for a wanted one.

    Attributes
    ----------
    places : ndarray
        Where the truth lay among the draws of each study made again, in order of size.
    """

    places: Array

    def at(self, level: float) -> float:
        """Return the level to take for `level`."""
        return level + SHARE * (float(np.quantile(self.places, level)) - level)


@dataclass(frozen=True)
class _Again:
    """Sums of squares of studies made again, shape (studies, 1)."""

    mean: Array
    lots: Array
    cells: Array
    channel: Array | None
    both: Array | None
    error: Array


def levels(
    sample: LotSample,
    study: GaugeStudy,
    drawn: Pivots,
    bench: Variances,
    lower: float | None,
    upper: float | None,
) -> Levels | None:
    """Return the levels for Ppk of cells in lots, measured on a bench that was studied.

    Parameters
    ----------
    sample : LotSample
    study : GaugeStudy
    drawn, bench : Pivots, Variances
        Draws of both, of which the same places belong together.
    lower, upper : float or None
        Limits.

    Returns
    -------
    Levels or None
        None with one lot, or where few draws leave the cells a spread of their own.

    Notes
    -----
    Lots count as equally large here, each with the mean number of cells.
    """
    possible = np.flatnonzero(drawn.cell > 0)
    if drawn.lot is None or not sample.df_within:
        return None
    if len(possible) < LEAST_POSSIBLE * len(drawn.cell):
        return None
    chosen = possible[np.linspace(0, len(possible) - 1, STUDIES).astype(int)]
    lot, cell = drawn.lot[chosen][:, None], drawn.cell[chosen][:, None]
    mean = drawn.mean[chosen][:, None]
    parts = Variances(*(
        np.broadcast_to(np.asarray(part), drawn.cell.shape)[chosen][:, None]
        for part in (bench.repeatability, bench.channel, bench.interaction, bench.cell)
    ))  # fmt: skip
    again = _again(sample, study, mean, lot, cell + parts.gauge, parts)
    means, variances, is_possible = _draws(sample, study, again)
    found = _ppk(means, variances, lower, upper)
    true = _ppk(mean, lot + cell, lower, upper)
    below = np.sum((found < true) & is_possible, axis=1)
    of = np.sum(is_possible, axis=1)
    return Levels(np.sort(below[of > 0] / of[of > 0]))


def _again(
    sample: LotSample, study: GaugeStudy, mean: Array, lot: Array, within: Array, parts: Variances
) -> _Again:
    """Make the study again, once for each place of the draws."""
    lots, per_lot = len(sample.lots), sample.cells / len(sample.lots)
    of_mean = lot + within / per_lot
    both = parts.repeatability + study.repeats * parts.interaction
    channel = both + study.cells * study.repeats * parts.channel
    residual = study.residual

    def squares(variance: Array, df: float, dimension: int) -> Array:
        found: Array = variance * chi_squares(df, dimension, STUDIES)[:, None]
        return found

    return _Again(
        mean + normals(_MEAN, STUDIES)[:, None] * np.sqrt(of_mean / lots),
        squares(of_mean, lots - 1, _LOTS),
        squares(within, sample.df_within, _WITHIN),
        None if study.by_channel is None
        else squares(channel, study.by_channel.degrees_of_freedom, _CHANNEL),
        None if study.by_interaction is None
        else squares(both, study.by_interaction.degrees_of_freedom, _BOTH),
        squares(parts.repeatability, residual.degrees_of_freedom if residual else 1, _REPEAT),
    )  # fmt: skip


def _draws(
    sample: LotSample, study: GaugeStudy, again: _Again
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return draws of mean and total variance of each study, and which of them are possible.

    Shapes are (studies, points).
    """
    lots, per_lot = len(sample.lots), sample.cells / len(sample.lots)
    cell = again.cells / chi_squares(sample.df_within, 0, POINTS)
    least = float(special.fdtri(lots - 1, sample.df_within, FLOOR)) * (lots - 1)
    spread = np.maximum(again.lots, least * again.cells / sample.df_within / per_lot)
    lot = np.maximum(spread / chi_squares(lots - 1, 1, POINTS) - cell / per_lot, 0.0)
    mean = again.mean - normals(2, POINTS) * np.sqrt((lot + cell / per_lot) / lots)
    lines = [
        None if squares is None or source is None
        else squares / chi_squares(source.degrees_of_freedom, dimension, POINTS)
        for squares, source, dimension in (
            (again.channel, study.by_channel, CHANNELS),
            (again.both, study.by_interaction, INTERACTION),
            (again.error, study.residual, REPEATS),
        )
    ]  # fmt: skip
    gauge = study.components(np.zeros(1), *lines).gauge
    return mean, np.maximum(cell - gauge, 0.0) + lot, cell > gauge


def _ppk(mean: Array, variance: Array, lower: float | None, upper: float | None) -> Array:
    below = math.inf if lower is None else mean - lower
    above = math.inf if upper is None else upper - mean
    found: Array = np.minimum(below, above) / np.sqrt(np.maximum(variance, 1e-300)) / 3.0
    return found
