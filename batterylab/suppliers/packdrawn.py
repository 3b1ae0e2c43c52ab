"""What a pack loses whose cells are drawn from those measured, where they are not normal.

The weakest of the series groups ends the discharge, as in the closed form (`pack`), but the
cells' distribution is that of the sample: a few weak cells then count for what they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from batterylab.suppliers.nodes import CONFIDENCE, Array, Interval, central
from batterylab.suppliers.percentiles import LEAST, SKEWED_BELOW, residuals_of

_GRID = 4096
_RESAMPLES = 400


def normal_p_value(values: Array, lots: Sequence[str]) -> float | None:
    """Return the p-value of normal cells within lots; None for fewer cells than can tell.

    References
    ----------
    .. [1] R. B. D'Agostino, E. S. Pearson, Biometrika 60 (1973) 613: skewness and kurtosis.
    """
    from scipy import stats

    if len(values) < LEAST or not np.ptp(values) > 0:
        return None
    return float(stats.normaltest(residuals_of(values, lots)).pvalue)


def expected_loss(values: Array, weights: Array, series: int, parallel: int) -> float:
    """Return the mean loss of packs, in percent of the mean cell.

    Parameters
    ----------
    values, weights : ndarray, shape (n,)
        Capacities, and how likely each is drawn; weights add up to 1.
    series, parallel : int

    Notes
    -----
    On a grid of 4096 steps over the range of the cells: the distribution of a group's mean is
    the cells' folded with itself `parallel` times (by Fourier transform), and that of the
    weakest of `series` groups follows from it: no random draw.
    """
    low, mean = float(values.min()), float(weights @ values)
    step = float(np.ptp(values)) / (_GRID - 1)
    if step <= 0:
        return 0.0
    place = (values - low) / step
    below = np.minimum(place.astype(int), _GRID - 2)
    part = place - below
    mass = np.bincount(below, weights * (1.0 - part), _GRID)
    mass += np.bincount(below + 1, weights * part, _GRID)
    size = parallel * (_GRID - 1) + 1
    folded = np.fft.irfft(np.fft.rfft(mass, size) ** parallel, size)
    at_least = np.clip(np.cumsum(folded[::-1])[::-1], 0.0, 1.0)
    weakest = low + step / parallel * float(np.sum(at_least[1:] ** series))
    return 100.0 * (1.0 - weakest / mean)


@dataclass(frozen=True)
class DrawnLoss:
    """Loss of packs drawn from the cells themselves, in percent."""

    loss_percent: float
    interval: Interval
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """Return the scorecard's entry."""
        return {
            "loss_percent": self.loss_percent, "interval": self.interval,
            "normal_p_value": self.p_value,
        }  # fmt: skip


def drawn_loss(
    values: Array, lots: Sequence[str], series: int, parallel: int
) -> DrawnLoss | None:  # fmt: skip
    """Return the loss by drawing; None where the cells may be normal.

    Lots count alike. The interval is a bootstrap of lots, then cells (of cells alone with fewer
    than five lots), with fixed draws: what weaker cells than the weakest seen would do is in
    neither figure.
    """
    p_value = normal_p_value(values, lots)
    if p_value is None or p_value >= SKEWED_BELOW:
        return None
    groups = [values[np.asarray(lots) == name] for name in sorted(set(lots))]
    rng = np.random.default_rng(20260103)
    found = []
    for _ in range(_RESAMPLES):
        places = np.arange(len(groups))
        if len(groups) >= 5:
            places = rng.integers(len(groups), size=len(groups))
        drawn = [rng.choice(groups[place], size=len(groups[place])) for place in places]
        found.append(_of_groups(drawn, series, parallel))
    return DrawnLoss(_of_groups(groups, series, parallel), central(np.array(found), CONFIDENCE),
                     p_value)  # fmt: skip


def _of_groups(groups: Sequence[Array], series: int, parallel: int) -> float:
    weights = np.concatenate([np.full(len(g), 1.0 / len(g) / len(groups)) for g in groups])
    return expected_loss(np.concatenate(groups), weights, series, parallel)
