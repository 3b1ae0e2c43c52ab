"""The bench's own scatter, from a gauge study: some cells on several channels, repeatedly.

A two-way crossed random analysis of variance parts what differs between cells from what
differs between channels and between repeats. Its measurement variance is taken out of the
spread of the cells, with its own uncertainty.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from batterylab.errors import BatterylabError
from batterylab.suppliers.nodes import (
    CONFIDENCE,
    Array,
    Interval,
    central,
    chi_squares,
    points_for,
)

#: an interaction whose p-value is above this is pooled with the repeats (AIAG MSA, 4th ed.)
POOL_ABOVE = 0.25
#: dimensions of `nodes`
REPEATS, INTERACTION, CHANNELS, CELLS = 3, 4, 5, 6
#: distinct categories are 1.41 times the ratio of cell to measurement sigma (AIAG MSA, 4th ed.)
CATEGORIES = 1.41


@dataclass(frozen=True)
class Source:
    """One line of the analysis of variance."""

    sum_of_squares: float
    degrees_of_freedom: int

    @property
    def mean_square(self) -> float:
        """Sum of squares over its degrees of freedom."""
        return self.sum_of_squares / self.degrees_of_freedom


@dataclass(frozen=True)
class Variances:
    """Variance components of a gauge study, floats or arrays of pivotal quantities.

    Attributes
    ----------
    repeatability : float or ndarray
        One cell on one channel, again.
    channel, interaction : float or ndarray
        Between channels, and what a channel does to one cell and not to another.
    cell : float or ndarray
        Between the cells of the study.
    """

    repeatability: Array
    channel: Array
    interaction: Array
    cell: Array

    @property
    def reproducibility(self) -> Array:
        """Channel and interaction."""
        return self.channel + self.interaction

    @property
    def gauge(self) -> Array:
        """The whole measurement variance of a value."""
        return self.repeatability + self.reproducibility


@dataclass(frozen=True)
class GaugeStudy:
    """A crossed gauge study.

    Attributes
    ----------
    cells, channels, repeats : int
        Its size; `channels` is 1 where only repeats were made.
    by_cell, by_channel, by_interaction, error : Source or None
        Lines of the analysis of variance. `by_channel` and `by_interaction` are None with one
        channel; `error` is None with one repeat.
    pooled : bool
        Whether the interaction was pooled with the repeats.
    remarks : tuple of str
        What was left out, and what the study cannot tell.
    """

    cells: int
    channels: int
    repeats: int
    by_cell: Source
    by_channel: Source | None
    by_interaction: Source | None
    error: Source | None
    pooled: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def interaction_p_value(self) -> float | None:
        """The p-value of the interaction against the repeats."""
        if not (self.by_interaction and self.error) or self.error.mean_square <= 0:
            return None
        ratio = self.by_interaction.mean_square / self.error.mean_square
        return float(
            special.fdtrc(
                self.by_interaction.degrees_of_freedom, self.error.degrees_of_freedom, ratio
            )
        )

    def variances(self) -> Variances:
        """Return the variance components, negative ones as zero."""
        return self.components(
            *(
                None if line is None else np.asarray(line.mean_square)
                for line in (self.by_cell, self.by_channel, self.by_interaction, self.residual)
            )
        )

    def pivots(
        self, confidence: float = CONFIDENCE, *, points: int | None = None
    ) -> Variances | None:
        """Return generalised pivotal quantities of the variance components.

        Each mean square is replaced by its sum of squares over a chi-square variable.

        References
        ----------
        .. [1] A. Hamada, S. Weerahandi, Measurement system assessment via generalized
           inference, J. Quality Technology 32 (2000) 241.
        """
        count = points or points_for(confidence)
        if self.residual is None or self.residual.sum_of_squares <= 0:
            return None
        lines = (self.by_cell, self.by_channel, self.by_interaction, self.residual)
        return self.components(
            *(
                None
                if line is None
                else line.sum_of_squares / chi_squares(line.degrees_of_freedom, dimension, count)
                for line, dimension in zip(
                    lines, (CELLS, CHANNELS, INTERACTION, REPEATS), strict=True
                )
            )
        )

    @property
    def residual(self) -> Source | None:
        """The line that repeats leave; with one repeat the interaction stands in for it."""
        if self.error is None:
            return self.by_interaction
        if not (self.pooled and self.by_interaction):
            return self.error
        return Source(
            self.error.sum_of_squares + self.by_interaction.sum_of_squares,
            self.error.degrees_of_freedom + self.by_interaction.degrees_of_freedom,
        )

    def components(
        self, cell: Array | None, channel: Array | None, both: Array | None, error: Array | None
    ) -> Variances:
        """Return the variance components of given mean squares, negative ones as zero."""
        if error is None or cell is None:
            raise BatterylabError("a gauge study without repeats of any kind has no variances")
        zero = np.zeros_like(error)
        if self.pooled or self.error is None or both is None:
            both = error
        interaction = _positive(both - error, self.repeats)
        of_channel = zero
        if channel is not None:
            of_channel = _positive(channel - both, self.cells * self.repeats)
        of_cell = _positive(cell - both, self.channels * self.repeats)
        return Variances(error, of_channel, interaction, of_cell)


def _positive(difference: Array, count: int) -> Array:
    values: Array = np.asarray(np.maximum(difference, 0.0) / count)
    return values


def crossed_study(values: Array, pool_above: float = POOL_ABOVE) -> GaugeStudy:
    """Analyse a complete study.

    Parameters
    ----------
    values : ndarray, shape (cells, channels, repeats)
        At least two cells, and two channels or two repeats.
    pool_above : float
        The interaction is pooled with the repeats if its p-value is above.

    Raises
    ------
    BatterylabError
        If the study is too small.

    References
    ----------
    .. [1] AIAG, Measurement Systems Analysis, 4th ed., 2010, chapter III.
    """
    cells, channels, repeats = values.shape
    if cells < 2 or channels * repeats < 2:
        raise BatterylabError(
            f"{cells} cells x {channels} channels x {repeats} repeats make no gauge study",
            hint="two cells, and two channels or two repeats",
        )
    centred = values - values.mean()
    of_cell, of_channel = centred.mean(axis=(1, 2)), centred.mean(axis=(0, 2))
    of_both = centred.mean(axis=2) - of_cell[:, None] - of_channel[None, :]
    within = centred - centred.mean(axis=2, keepdims=True)
    study = GaugeStudy(
        cells,
        channels,
        repeats,
        Source(channels * repeats * float(np.sum(of_cell**2)), cells - 1),
        _line(cells * repeats * float(np.sum(of_channel**2)), channels - 1),
        _line(repeats * float(np.sum(of_both**2)), (cells - 1) * (channels - 1)),
        _line(float(np.sum(within**2)), cells * channels * (repeats - 1)),
    )
    p_value = study.interaction_p_value
    return replace(study, pooled=p_value is not None and p_value > pool_above)


def _line(sum_of_squares: float, degrees_of_freedom: int) -> Source | None:
    return Source(sum_of_squares, degrees_of_freedom) if degrees_of_freedom else None


def gauge_study(readings: Iterable[tuple[str, str, float]]) -> GaugeStudy | None:
    """Analyse readings as they came, complete or not.

    Cells and channels with gaps are left out, those with most gaps first, and surplus repeats
    after them, until the study is complete.

    Parameters
    ----------
    readings : iterable of (serial, channel, value)
        In order of time.

    Returns
    -------
    GaugeStudy or None
        None if too little is left: two cells, and two channels or two repeats, are needed.
    """
    table: dict[tuple[str, str], list[float]] = defaultdict(list)
    for serial, channel, value in readings:
        if math.isfinite(value):
            table[serial, channel].append(value)
    cells = sorted({serial for serial, _ in table})
    channels = sorted({channel for _, channel in table})
    all_cells, all_channels = len(cells), len(channels)
    while True:
        gaps = [(c, h) for c in cells for h in channels if (c, h) not in table]
        if not gaps:
            break
        _drop_worst(cells, channels, gaps)
    repeats = min((len(table[c, h]) for c in cells for h in channels), default=0)
    if len(cells) < 2 or len(channels) * repeats < 2:
        return None
    values = np.array([[table[c, h][:repeats] for h in channels] for c in cells])
    remarks = _left_out(table, all_cells - len(cells), all_channels - len(channels), values.size)
    return replace(crossed_study(values), remarks=remarks)


def _drop_worst(cells: list[str], channels: list[str], gaps: list[tuple[str, str]]) -> None:
    """Remove the cell or channel with the largest share of gaps."""
    by_cell = {c: sum(gap[0] == c for gap in gaps) / len(channels) for c in cells}
    by_channel = {h: sum(gap[1] == h for gap in gaps) / len(cells) for h in channels}
    cell = max(by_cell, key=lambda name: (by_cell[name], name))
    channel = max(by_channel, key=lambda name: (by_channel[name], name))
    if by_cell[cell] >= by_channel[channel]:
        cells.remove(cell)
    else:
        channels.remove(channel)


def _left_out(
    table: Mapping[tuple[str, str], list[float]], cells: int, channels: int, used: int
) -> tuple[str, ...]:
    total = sum(len(values) for values in table.values())
    if used == total:
        return ()
    return (
        f"{total - used} of {total} gauge readings left out to make the study complete "
        f"({cells} cells and {channels} channels with gaps)",
    )


def grr_percent(gauge: Array, cell: Array) -> Array:
    """Return the measurement's share of the study variation, in percent of standard deviations.

    Parameters
    ----------
    gauge, cell : float or ndarray
        Variances of the measurement and of the cells.
    """
    total = np.asarray(gauge + cell)
    ratio = np.divide(gauge, total, out=np.zeros_like(total), where=total > 0)
    values: Array = 100.0 * np.sqrt(ratio)
    return values


def grr_interval(study: GaugeStudy, confidence: float = CONFIDENCE) -> Interval | None:
    """Return the interval of %GRR on the study's own cells; None if repeats do not differ."""
    drawn = study.pivots(confidence)
    return None if drawn is None else central(grr_percent(drawn.gauge, drawn.cell), confidence)
