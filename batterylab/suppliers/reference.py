"""Reference resistors and golden cells: bias, linearity and stability of the bench.

A part whose value is known tells the bias; several of different value tell whether the bias
grows with the value (linearity); the same part over weeks tells whether the bench drifts
(stability). A golden cell without a known value tells stability alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from scipy import special

from batterylab.errors import BatterylabError
from batterylab.study import Reference
from batterylab.suppliers.nodes import CONFIDENCE, Array, Interval, mean_interval, t_quantile
from batterylab.suppliers.sampling import Reading

#: a bias, slope or drift is real from this p-value down
REAL = 0.05


@dataclass(frozen=True)
class Type1:
    """A study of one reference on one channel (type 1).

    Attributes
    ----------
    count : int
    mean, bias, sd : float
    interval : tuple of float
        Of the bias.
    t, p_value : float
        Of no bias.
    cg, cgk : float or None
        Of `percent` of the tolerance over `k` standard deviations; None without a tolerance.
    """

    count: int
    mean: float
    bias: float
    sd: float
    interval: Interval
    t: float
    p_value: float
    cg: float | None
    cgk: float | None
    percent: float

    @property
    def repeat_percent(self) -> float | None:
        """Share of the tolerance that repeats take, in percent."""
        return self.percent / self.cg if self.cg else None

    @property
    def repeat_and_bias_percent(self) -> float | None:
        """The same with the bias added, in percent."""
        return self.percent / self.cgk if self.cgk else None


def type1(
    values: Sequence[float], reference: float, tolerance: float | None = None, *,
    percent: float = 20.0, k: float = 6.0, confidence: float = CONFIDENCE,
) -> Type1:  # fmt: skip
    """Analyse repeated measurements of one reference.

    Parameters
    ----------
    values : sequence of float
        Two or more that differ.
    reference : float
        The true value.
    tolerance : float, optional
        Width between the limits.
    percent : float
        Of the tolerance that the gauge may take.
    k : float
        Standard deviations that count as the width of the repeats.

    References
    ----------
    .. [1] VDA Volume 5, Capability of Measurement Processes, 2nd ed., 2010, chapter 4.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2 or not np.all(np.isfinite(x)) or not np.ptp(x) > 0:
        raise BatterylabError("two finite values or more that differ are needed of a reference")
    mean, sd = float(x.mean()), float(x.std(ddof=1))
    bias, error = mean - reference, sd / math.sqrt(len(x))
    t = bias / error
    cg = cgk = None
    if tolerance is not None:
        cg = percent / 100.0 * tolerance / (k * sd)
        cgk = (percent / 200.0 * tolerance - abs(bias)) / (0.5 * k * sd)
    return Type1(
        len(x), mean, bias, sd, mean_interval(bias, error, len(x) - 1, confidence), t,
        2.0 * float(special.stdtr(len(x) - 1, -abs(t))), cg, cgk, percent,
    )  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A straight line through points: what `linearity` and `stability` say."""

    slope: float
    slope_error: float
    intercept: float
    intercept_error: float
    degrees_of_freedom: int
    residual_sd: float
    r_squared: float

    @property
    def p_value(self) -> float:
        """Of no slope."""
        if self.slope_error <= 0:
            return 0.0 if self.slope else 1.0
        return 2.0 * float(special.stdtr(self.degrees_of_freedom,
                                         -abs(self.slope / self.slope_error)))  # fmt: skip

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """Return the interval of the slope."""
        reach = t_quantile(0.5 + confidence / 2, self.degrees_of_freedom) * self.slope_error
        return self.slope - reach, self.slope + reach


def line(x: Sequence[float] | Array, y: Sequence[float] | Array) -> Line | None:
    """Fit a straight line by least squares; None for fewer than three points or equal x."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(a) < 3 or not np.ptp(a) > 0:
        return None
    centre = a.mean()
    sxx = float(np.sum((a - centre) ** 2))
    slope = float(np.sum((a - centre) * (b - b.mean()))) / sxx
    intercept = float(b.mean()) - slope * float(centre)
    residuals = b - intercept - slope * a
    df = len(a) - 2
    variance = float(residuals @ residuals) / df
    total = float(np.sum((b - b.mean()) ** 2))
    return Line(
        slope, math.sqrt(variance / sxx), intercept,
        math.sqrt(variance * (1.0 / len(a) + float(centre) ** 2 / sxx)), df, math.sqrt(variance),
        1.0 - float(residuals @ residuals) / total if total > 0 else 1.0,
    )  # fmt: skip


def linearity(references: Sequence[float], values: Sequence[float]) -> Line | None:
    """Return how the bias depends on the reference value (AIAG MSA, 4th ed., chapter III)."""
    biases = [value - true for value, true in zip(values, references, strict=True)]
    return line(references, biases)


def references_entry(
    feature: str, references: Sequence[Reference], readings: Mapping[str, Sequence[Reading]],
    tolerance: float | None,
) -> dict[str, Any] | None:  # fmt: skip
    """Return the scorecard's entry on references of one feature; None without any reading.

    Parameters
    ----------
    feature : str
    references : sequence of Reference
        Of the study.
    readings : mapping of str to sequence of Reading
        Of this feature, by serial, in order of time.
    tolerance : float or None
        Width between the feature's limits.
    """
    parts, all_true, all_values = [], [], []
    for item in references:
        found = list(readings.get(item.serial, ())) if item.feature == feature else []
        if not found:
            continue
        values = [reading.value for reading in found]
        if item.value is not None:
            all_true += [item.value] * len(values)
            all_values += values
        parts.append(_part(item, found, values, tolerance))
    if not parts:
        return None
    straight = linearity(all_true, all_values) if len(set(all_true)) > 1 else None
    return {"parts": parts, "linearity": None if straight is None else _line_entry(straight)}


def _part(
    item: Reference, found: Sequence[Reading], values: Sequence[float], tolerance: float | None
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "serial": item.serial, "readings": len(values), "mean": float(np.mean(values)),
        "reference": item.value, "reference_uncertainty": item.uncertainty,
        "bias": None, "bias_interval": None, "bias_is_real": None, "sd": None, "cg": None,
        "cgk": None, "drift_per_day": None,
    }  # fmt: skip
    if len(values) > 1 and np.ptp(values) > 0:
        entry["sd"] = float(np.std(values, ddof=1))
        if item.value is not None:
            study = type1(values, item.value, tolerance)
            wide = math.hypot(study.sd / math.sqrt(study.count), item.uncertainty or 0.0)
            reach = t_quantile(0.5 + CONFIDENCE / 2, study.count - 1) * wide
            entry.update({
                "bias": study.bias, "bias_interval": (study.bias - reach, study.bias + reach),
                "bias_is_real": abs(study.bias) > reach, "cg": study.cg, "cgk": study.cgk,
            })  # fmt: skip
    elif item.value is not None:
        entry["bias"] = entry["mean"] - item.value
    days = [_days(reading.start_utc) for reading in found]
    drift = line(days, values) if all(math.isfinite(day) for day in days) else None
    entry["drift_per_day"] = None if drift is None else _line_entry(drift)
    return entry


def _line_entry(found: Line) -> dict[str, Any]:
    return {"slope": found.slope, "interval": found.interval(), "p_value": found.p_value,
            "is_real": found.p_value < REAL, "intercept": found.intercept,
            "r_squared": found.r_squared}  # fmt: skip


def _days(start_utc: str) -> float:
    try:
        moment = datetime.fromisoformat(start_utc)
    except ValueError:
        return math.nan
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return moment.timestamp() / 86400.0
