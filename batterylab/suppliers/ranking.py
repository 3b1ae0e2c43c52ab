"""Put suppliers in order, with the probability that the order is right."""

from collections.abc import Mapping, Sequence
from typing import Any

from batterylab.suppliers.comparison import (
    PRIOR,
    probability_of_best,
    sigma_ratio_interval,
    supplier_posterior,
    welch,
)
from batterylab.suppliers.estimates import Estimate, Measurement
from batterylab.suppliers.nodes import CONFIDENCE

#: the feature that ranks: the first of these that was measured
PREFERRED = (
    "capacity_Ah", "relative_capacity", "energy_Wh", "charge_capacity_Ah", "dcir_10s_mOhm",
    "ac_resistance_mOhm",
)  # fmt: skip
_LOWER_IS_BETTER = ("dcir", "resistance", "impedance", "temperature_rise", "self_discharge")


def better(feature: str) -> str:
    """Return ``lower`` for resistances and temperature rise, else ``higher``."""
    return "lower" if any(word in feature for word in _LOWER_IS_BETTER) else "higher"


def comparisons(
    estimates: Mapping[str, Estimate], measurement: Measurement, confidence: float = CONFIDENCE
) -> list[dict[str, Any]]:
    """Compare each pair of suppliers in one feature.

    Parameters
    ----------
    estimates : mapping of str to Estimate
        By supplier, in the study's order.
    measurement : Measurement
        Of the feature.
    confidence : float
        Of the intervals.

    Returns
    -------
    list of dict
        The scorecard's ``comparisons``; null where one of the two has a single lot.
    """
    names = list(estimates)
    return [
        _compare(a, b, estimates[a], estimates[b], measurement, confidence)
        for place, a in enumerate(names)
        for b in names[place + 1 :]
    ]


def _compare(
    a: str,
    b: str,
    ours: Estimate,
    theirs: Estimate,
    measurement: Measurement,
    confidence: float,
) -> dict[str, Any]:
    found = welch(ours.sample.means, theirs.sample.means)
    posteriors = [supplier_posterior(item.sample) for item in (ours, theirs)]
    known = [posterior for posterior in posteriors if posterior is not None]
    ratio = None
    if ours.sd_cell is not None and theirs.sd_cell:
        ratio = ours.sd_cell / theirs.sd_cell
    return {
        "a": a,
        "b": b,
        "difference": ours.sample.mean - theirs.sample.mean,
        "interval": found.interval(confidence) if found else None,
        "probability_a_higher": probability_of_best(known)[0] if len(known) == 2 else None,
        "p_value": found.p_value if found else None,
        "degrees_of_freedom": found.degrees_of_freedom if found else None,
        "sigma_ratio": ratio,
        "sigma_ratio_interval": sigma_ratio_interval(
            ours.sample, theirs.sample, confidence, gauge=measurement.pivotal
        ),
    }


def ranking_feature(features: Sequence[str], limited: Sequence[str]) -> str | None:
    """Return the feature that ranks, or None if there is none.

    The first of `PREFERRED` that was measured, else the first limited one, else the first.
    """
    for name in (*PREFERRED, *limited, *features):
        if name in features:
            return name
    return None


def rank(feature: str, estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    """Rank suppliers by their mean, with the probability of each to be the best.

    Suppliers with a single lot stand where their mean puts them, without a probability.
    """
    direction = better(feature)
    sign = -1.0 if direction == "higher" else 1.0
    order = sorted(estimates, key=lambda name: (sign * estimates[name].sample.mean, name))
    posteriors = {name: supplier_posterior(estimates[name].sample) for name in order}
    known = {name: posterior for name, posterior in posteriors.items() if posterior is not None}
    shares: dict[str, float | None] = dict.fromkeys(order)
    if len(known) > 1:
        found = probability_of_best(list(known.values()), higher=direction == "higher")
        shares.update(zip(known, found, strict=True))
    return {
        "feature": feature,
        "better": direction,
        "order": order,
        "probability_best": shares,
        "statement": _statement(feature, direction, order, shares, estimates),
    }


def _statement(
    feature: str, direction: str, order: Sequence[str], shares: Mapping[str, float | None],
    estimates: Mapping[str, Estimate],
) -> str:  # fmt: skip
    if len(order) < 2:
        return f"one supplier: there is nothing to rank by {feature}"
    first = order[0]
    share = shares[first]
    if share is None:
        samples = [estimates[name].sample for name in order]
        means = [sample.mean for sample in samples]
        if max(means) - min(means) <= 1e-12 * max(abs(mean) for mean in means):
            return f"the means of {feature} are equal: there is nothing to rank"
        few = any(sample.df_between < 1 for sample in samples)
        why = "lots are too few" if few else "their means do not differ at all"
        return (
            f"{first} has the {direction} mean {feature} of the cells measured; how firmly is "
            f"not known, since {why}"
        )
    without = [name for name in order if shares[name] is None]
    left_out = f"; with a single lot, no probability: {', '.join(without)}" if without else ""
    word = "highest" if direction == "higher" else "lowest"
    return (
        f"{first} has the {word if len(order) > 2 else direction} mean {feature} with probability "
        f"{_share(share)}; {PRIOR}{left_out}"
    )


def _share(probability: float) -> str:
    if probability > 0.9995:
        return "above 0.999"
    return "below 0.001" if probability < 0.0005 else f"{probability:.3f}"
