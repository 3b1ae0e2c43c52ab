"""The uncertainty budget of one value of a feature, after the GUM.

Contributions: the instruments' stated accuracy (already carried through the feature's formula,
``docs/features.md``), the temperature of the test over a coefficient that is given or
estimated, repeatability and the differences between channels from the gauge study. A channel's
constant error is part of the instrument's accuracy, so of the two the larger counts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from batterylab.study import Coefficient, WantedTemperature
from batterylab.suppliers.estimates import Measurement
from batterylab.suppliers.nodes import (
    CONFIDENCE,
    Array,
    Interval,
    effective_degrees_of_freedom,
    t_quantile,
)
from batterylab.suppliers.reference import line
from batterylab.suppliers.sampling import Reading

_LEAST_CELLS = 8
#: degrees of freedom from which a t distribution is the normal one
_MANY = 1e4


@dataclass(frozen=True)
class Contribution:
    """One line of a budget: a standard uncertainty with its degrees of freedom."""

    name: str
    standard_uncertainty: float
    degrees_of_freedom: float
    kind: str
    source: str
    counts: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the scorecard's entry; degrees of freedom are null where infinite."""
        return {"name": self.name, "standard_uncertainty": self.standard_uncertainty,
                "degrees_of_freedom": self.degrees_of_freedom, "type": self.kind,
                "source": self.source, "counts": self.counts}  # fmt: skip


@dataclass(frozen=True)
class TemperatureEffect:
    """How a feature depends on the temperature of the test.

    Attributes
    ----------
    per_K : float
        In the feature's unit.
    interval : tuple of float or None
        None where it is given.
    source : str
    """

    per_K: float
    interval: Interval | None
    source: str


def temperature_effect(
    feature: str, readings: Sequence[Reading], temperatures_degC: Mapping[str, float],
    given: Sequence[Coefficient],
) -> TemperatureEffect | None:  # fmt: skip
    """Return the temperature coefficient: given, or from the scatter of the tests' temperatures.

    The estimate is the slope within lots, so that neither lots nor suppliers enter it.

    Parameters
    ----------
    feature : str
    readings : sequence of Reading
        One a cell.
    temperatures_degC : mapping of str to float
        By seal.
    given : sequence of Coefficient
        Of the study; they come first.
    """
    mean = float(np.mean([reading.value for reading in readings])) if readings else 0.0
    for item in given:
        if item.feature == feature:
            return TemperatureEffect(item.per_K_percent / 100.0 * mean, None, "given")
    known = [r for r in readings if math.isfinite(temperatures_degC.get(r.seal, math.nan))]
    lots = {(r.supplier, r.lot) for r in known}
    if len(known) - len(lots) < _LEAST_CELLS:
        return None
    degrees = _within(known, [temperatures_degC[r.seal] for r in known])
    values = _within(known, [r.value for r in known])
    found = line(degrees, values)
    if found is None:
        return None
    df = len(known) - len(lots) - 1
    error = found.slope_error * math.sqrt(found.degrees_of_freedom / df)
    reach = t_quantile(0.5 + CONFIDENCE / 2, df) * error
    return TemperatureEffect(found.slope, (found.slope - reach, found.slope + reach),
                             f"estimated within lots from {len(known)} cells")  # fmt: skip


def _within(readings: Sequence[Reading], numbers: Sequence[float]) -> Array:
    """Return numbers less the mean of their lot."""
    x = np.asarray(numbers, dtype=np.float64)
    lots = np.array([f"{r.supplier}\0{r.lot}" for r in readings])
    for lot in np.unique(lots):
        x[lots == lot] -= x[lots == lot].mean()
    return x


def budget(
    readings: Sequence[Reading], measurement: Measurement, effect: TemperatureEffect | None,
    temperature: WantedTemperature | None, temperatures_degC: Mapping[str, float],
) -> dict[str, Any] | None:  # fmt: skip
    """Return the budget of one value; None where nothing is known.

    References
    ----------
    .. [1] JCGM 100:2008, Guide to the expression of uncertainty in measurement, G.4.
    """
    lines = [*_accuracy(readings), *_repeats(measurement)]
    lines += _temperature(effect, temperature, temperatures_degC)
    if not lines:
        return None
    lines = _larger_of_accuracy_and_channels(lines)
    counted = [item for item in lines if item.counts and item.standard_uncertainty > 0]
    variances = np.array([item.standard_uncertainty**2 for item in counted])
    combined = math.sqrt(float(variances.sum())) if len(variances) else 0.0
    df = math.inf
    if len(variances):
        df = effective_degrees_of_freedom(
            variances, np.array([item.degrees_of_freedom for item in counted])
        )
    whole = max(math.floor(df), 1.0) if df < _MANY else 1e9
    factor = t_quantile(0.5 + CONFIDENCE / 2, whole)
    return {
        "contributions": [item.to_dict() for item in lines],
        "standard_uncertainty": combined,
        "degrees_of_freedom": df if df < _MANY else None,
        "coverage_factor": factor,
        "expanded_uncertainty": factor * combined,
        "temperature_per_K": None if effect is None else effect.per_K,
        "temperature_per_K_interval": None if effect is None else effect.interval,
        "temperature_source": None if effect is None else effect.source,
    }


def _accuracy(readings: Sequence[Reading]) -> list[Contribution]:
    stated = [r.uncertainty for r in readings if math.isfinite(r.uncertainty)]
    if not stated:
        return []
    return [Contribution("instrument accuracy", float(np.median(stated)), math.inf, "B",
                         f"stated with {len(stated)} values, median")]  # fmt: skip


def _repeats(measurement: Measurement) -> list[Contribution]:
    study, variances = measurement.study, measurement.variances
    if study is None or variances is None:
        return []
    residual = getattr(study, "residual", None) or study.error
    lines = []
    if residual is not None:
        lines.append(Contribution(
            "repeatability", math.sqrt(float(variances.repeatability)),
            float(residual.degrees_of_freedom), "A", "gauge study",
        ))  # fmt: skip
    if study.by_channel is not None:
        lines.append(Contribution(
            "channels", math.sqrt(float(variances.reproducibility)),
            float(study.by_channel.degrees_of_freedom), "A", "gauge study",
        ))  # fmt: skip
    return lines


def _temperature(
    effect: TemperatureEffect | None, stated: WantedTemperature | None,
    temperatures_degC: Mapping[str, float],
) -> list[Contribution]:  # fmt: skip
    if effect is None:
        return []
    degrees = [value for value in temperatures_degC.values() if math.isfinite(value)]
    if len(degrees) > 1:
        width, source = float(np.std(degrees, ddof=1)), "scatter of the tests' temperatures"
    elif stated is not None:
        width, source = stated.within / math.sqrt(3.0), "tolerance of the study, rectangular"
    else:
        return []
    return [Contribution("temperature", abs(effect.per_K) * width, math.inf, "B",
                         f"{width:.2g} K ({source}); coefficient {effect.source}")]  # fmt: skip


def _larger_of_accuracy_and_channels(lines: Sequence[Contribution]) -> list[Contribution]:
    sizes = {item.name: item.standard_uncertainty for item in lines}
    if not {"instrument accuracy", "channels"} <= set(sizes):
        return list(lines)
    less = "channels" if sizes["channels"] <= sizes["instrument accuracy"] else \
        "instrument accuracy"  # fmt: skip
    return [item if item.name != less else
            Contribution(item.name, item.standard_uncertainty, item.degrees_of_freedom,
                         item.kind, item.source, counts=False)
            for item in lines]  # fmt: skip
