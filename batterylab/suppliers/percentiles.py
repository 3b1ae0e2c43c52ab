"""Capability of values that are not normal: fitted percentiles in place of standard deviations.

The percentile method of ISO 22514-2: with the 0.135 %, 50 % and 99.865 % points X of a fitted
distribution, ``Pp = (U - L)/(X99.865 - X0.135)``, ``Ppl = (X50 - L)/(X50 - X0.135)`` and
``Ppu = (U - X50)/(X99.865 - X50)``. For normal values these are the usual indices.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from batterylab.errors import BatterylabError
from batterylab.suppliers.nodes import Array, Interval

LOW, MIDDLE, HIGH = 0.00135, 0.5, 0.99865
#: skewed: the p-value of no skewness lies below, of this many values or more
SKEWED_BELOW, LEAST = 0.01, 30
_RESAMPLES = 400
NAMES = ("normal", "lognormal", "weibull", "gamma", "pearson3")


@dataclass(frozen=True)
class Fitted:
    """A distribution fitted to values.

    Attributes
    ----------
    distribution : str
        One of `NAMES`.
    parameters : dict of str to float
        ``mean`` and ``sd``; ``mu`` and ``sigma`` of the logarithm; ``shape`` and ``scale``;
        of pearson3 ``mean``, ``sd`` and ``skewness``.
    """

    distribution: str
    parameters: dict[str, float]

    def quantile(self, share: float) -> float:
        """Return the value below which a share of the population lies."""
        p = self.parameters
        z = float(special.ndtri(share))
        if self.distribution == "normal":
            return p["mean"] + p["sd"] * z
        if self.distribution == "lognormal":
            return math.exp(p["mu"] + p["sigma"] * z)
        if self.distribution == "weibull":
            return float(p["scale"] * (-math.log1p(-share)) ** (1.0 / p["shape"]))
        if self.distribution == "gamma":
            return float(p["scale"] * special.gammaincinv(p["shape"], share))
        shape = 4.0 / p["skewness"] ** 2
        side = share if p["skewness"] > 0 else 1.0 - share
        unit = (float(special.gammaincinv(shape, side)) - shape) / math.sqrt(shape)
        return p["mean"] + math.copysign(p["sd"], p["skewness"]) * unit

    def below(self, value: float | Array) -> Array:
        """Return the share of the population below a value."""
        p = self.parameters
        x = np.asarray(value, dtype=np.float64)
        if self.distribution == "normal":
            return np.asarray(special.ndtr((x - p["mean"]) / p["sd"]))
        if self.distribution == "pearson3":
            shape = 4.0 / p["skewness"] ** 2
            unit = (x - p["mean"]) / math.copysign(p["sd"], p["skewness"])
            share = special.gammainc(shape, np.maximum(shape + unit * math.sqrt(shape), 0.0))
            return np.asarray(share if p["skewness"] > 0 else 1.0 - share)
        positive = np.maximum(x, 1e-300)
        if self.distribution == "lognormal":
            found = special.ndtr((np.log(positive) - p["mu"]) / p["sigma"])
        elif self.distribution == "weibull":
            found = -np.expm1(-((positive / p["scale"]) ** p["shape"]))
        else:
            found = special.gammainc(p["shape"], positive / p["scale"])
        return np.asarray(np.where(x > 0, found, 0.0))

    def anderson_darling(self, values: Array) -> float:
        """Return the Anderson-Darling statistic: how far the values lie from the fit, in the tails.

        References
        ----------
        .. [1] M. A. Stephens, J. Am. Stat. Assoc. 69 (1974) 730.
        """
        count = len(values)
        share = np.clip(self.below(np.sort(values)), 1e-15, 1.0 - 1e-15)
        places = 2.0 * np.arange(1, count + 1) - 1.0
        terms = np.sum(places * (np.log(share) + np.log1p(-share[::-1])))
        return float(-count - terms / count)


def fit(values: Sequence[float] | Array, distribution: str) -> Fitted:
    """Fit a distribution: weibull and gamma by maximum likelihood, the others by moments.

    Parameters
    ----------
    values : array_like, shape (n,)
        Three or more that differ; above zero for lognormal, weibull and gamma.
    distribution : str
        One of `NAMES`. The standard deviations of normal and lognormal have n - 1.

    Raises
    ------
    BatterylabError
        If the distribution is not known or the values do not suit it.
    """
    x = np.asarray(values, dtype=np.float64)
    if distribution not in NAMES:
        raise BatterylabError(f"unknown distribution {distribution!r}",
                              hint=f"known: {', '.join(NAMES)}")  # fmt: skip
    if len(x) < 3 or not np.all(np.isfinite(x)) or not np.ptp(x) > 0:
        raise BatterylabError("three finite values or more that differ are needed for a fit")
    if distribution == "normal":
        return Fitted(distribution, {"mean": float(x.mean()), "sd": float(x.std(ddof=1))})
    if distribution == "pearson3":
        skew = skewness(x)
        if abs(skew) < 1e-3:
            return fit(x, "normal")
        return Fitted(distribution, {"mean": float(x.mean()), "sd": float(x.std(ddof=1)),
                                     "skewness": skew})  # fmt: skip
    if not np.all(x > 0):
        raise BatterylabError(f"{distribution}: a value is not above zero",
                              hint="normal and pearson3 take any value")  # fmt: skip
    logs = np.log(x)
    if distribution == "lognormal":
        return Fitted(distribution, {"mu": float(logs.mean()), "sigma": float(logs.std(ddof=1))})
    if distribution == "weibull":
        return Fitted(distribution, _weibull(logs))
    return Fitted(distribution, _gamma(x, logs))


def _weibull(logs: Array) -> dict[str, float]:
    """Solve the likelihood equation of the shape (bracketed)."""
    from scipy.optimize import brentq

    top = float(logs.max())
    centred = logs - top

    def lack(shape: float) -> float:
        weights = np.exp(shape * centred)
        return float(weights @ centred / weights.sum() - centred.mean()) - 1.0 / shape

    start = 1.2 / max(float(logs.std()), 1e-12)
    shape = float(brentq(lack, start / 100.0, start * 100.0, xtol=1e-12 * start, rtol=1e-12))
    scale = math.exp(top + math.log(float(np.mean(np.exp(shape * centred)))) / shape)
    return {"shape": shape, "scale": scale}


def _gamma(x: Array, logs: Array) -> dict[str, float]:
    from scipy.optimize import brentq

    gap = math.log(float(x.mean())) - float(logs.mean())

    def lack(shape: float) -> float:
        return math.log(shape) - float(special.digamma(shape)) - gap

    start = 0.5 / gap
    shape = float(brentq(lack, start / 100.0, start * 100.0, rtol=1e-12))
    return {"shape": shape, "scale": float(x.mean()) / shape}


def skewness(values: Array) -> float:
    """Return the adjusted sample skewness."""
    count = len(values)
    off = values - values.mean()
    second = float(np.mean(off**2))
    if second <= 0 or count < 3:
        return 0.0
    found = float(np.mean(off**3)) / second**1.5
    return float(found * math.sqrt(count * (count - 1)) / (count - 2))


def skewness_p_value(values: Array) -> float:
    """Return the two-sided p-value of no skewness (D'Agostino, Biometrika 57 (1970) 679)."""
    from scipy import stats

    return float(stats.skewtest(values).pvalue) if len(values) >= 8 else 1.0


@dataclass(frozen=True)
class PercentileIndices:
    """Indices of fitted percentiles; None where a limit is missing."""

    pp: float | None
    ppl: float | None
    ppu: float | None
    share_below: float
    share_above: float

    @property
    def ppk(self) -> float:
        """The smaller one-sided index."""
        return min(value for value in (self.ppl, self.ppu) if value is not None)


def percentile_indices(
    fitted: Fitted, lower: float | None, upper: float | None
) -> PercentileIndices:
    """Return the percentile indices of a fitted distribution against limits.

    References
    ----------
    .. [1] ISO 22514-2:2017, process capability and performance of time-dependent models.
    """
    if lower is None and upper is None:
        raise BatterylabError("no limit: nothing to be capable of", hint="lower, upper or both")
    low, middle, high = (fitted.quantile(share) for share in (LOW, MIDDLE, HIGH))
    return PercentileIndices(
        pp=None if lower is None or upper is None else (upper - lower) / (high - low),
        ppl=None if lower is None else (middle - lower) / (middle - low),
        ppu=None if upper is None else (upper - middle) / (high - middle),
        share_below=0.0 if lower is None else float(fitted.below(lower)),
        share_above=0.0 if upper is None else float(1.0 - fitted.below(upper)),
    )


def resampled_ppk(
    values: Array, lots: Sequence[str], distribution: str, lower: float | None,
    upper: float | None, confidence: float = 0.95,
) -> Interval | None:  # fmt: skip
    """Return the percentile bootstrap interval of Ppk: lots first, then cells of the drawn lots.

    Draws are fixed. With few lots it is too narrow (as every bootstrap of few units); None for
    fewer than five lots.
    """
    names = np.unique(np.asarray(lots))
    groups = [values[np.asarray(lots) == name] for name in names]
    if len(groups) < 5:
        return None
    rng = np.random.default_rng(20260101)
    found = []
    for _ in range(_RESAMPLES):
        drawn = [groups[place] for place in rng.integers(len(groups), size=len(groups))]
        sample = np.concatenate([rng.choice(group, size=len(group)) for group in drawn])
        if np.ptp(sample) > 0:
            found.append(percentile_indices(fit(sample, distribution), lower, upper).ppk)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(found, [tail, 1.0 - tail])
    return float(low), float(high)


def residuals_of(values: Array, lots: Sequence[str]) -> Array:
    """Return the values, each less its lot's mean."""
    residuals = values.copy()
    for name in set(lots):
        inside = np.asarray(lots) == name
        residuals[inside] -= values[inside].mean()
    return residuals


def percentile_entry(
    values: Array, lots: Sequence[str], wanted: str, lower: float | None, upper: float | None
) -> dict[str, Any] | None:
    """Return the scorecard's entry of the percentile method; None where it is not called for.

    It is called for where the study names a distribution, or where the values of the cells,
    each less its lot's mean, are skewed.
    """
    residuals = residuals_of(values, lots)
    p_value = skewness_p_value(residuals)
    if wanted == "normal" or (lower is None and upper is None):
        return None
    if wanted == "auto":
        if len(values) < LEAST or p_value >= SKEWED_BELOW:
            return None
        wanted = "pearson3"
    fitted = fit(values, wanted)
    found = percentile_indices(fitted, lower, upper)
    return {
        "distribution": fitted.distribution,
        "parameters": fitted.parameters,
        "percentiles": [fitted.quantile(share) for share in (LOW, MIDDLE, HIGH)],
        "pp": found.pp,
        "ppk": found.ppk,
        "ppk_interval": resampled_ppk(values, lots, wanted, lower, upper),
        "fraction_outside": found.share_below + found.share_above,
        "skewness": skewness(residuals),
        "skewness_p_value": p_value,
        "anderson_darling": fitted.anderson_darling(values),
        "anderson_darling_normal": fit(values, "normal").anderson_darling(values),
    }
