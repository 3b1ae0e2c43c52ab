"""Both parties' risks of a decision rule: to accept a cell that is outside, to refuse a good one.

True values of cells are normal (the supplier's mean and spread), a measured value is normal
around the true one with the measurement's standard uncertainty. What a rule accepts is an
interval of measured values; the risks are integrals over the true value.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import special

from batterylab.study import Limit
from batterylab.suppliers.acceptance import GUARD_FACTOR
from batterylab.suppliers.nodes import Array
from batterylab.suppliers.noncentral import legendre

_NODES = 200
_REACH = 9.0


@dataclass(frozen=True)
class Risks:
    """Risks of a decision rule.

    Attributes
    ----------
    accept_lower, accept_upper : float or None
        Ends of the acceptance interval.
    consumer : float
        Share of all cells that are accepted though they lie outside.
    producer : float
        Share of all cells that are not accepted though they lie inside.
    consumer_specific, producer_specific : float
        Chance to accept a cell that lies on the limit; to refuse one that lies a guard band
        inside.
    """

    accept_lower: float | None
    accept_upper: float | None
    consumer: float
    producer: float
    consumer_specific: float
    producer_specific: float


def acceptance_interval(limit: Limit, uncertainty: float) -> tuple[float | None, float | None]:
    """Return the measured values that a rule accepts.

    Under guarded acceptance the limits move in by 1.645 standard uncertainties, under guarded
    rejection out by as much (what is not rejected then counts as accepted, as between
    contracting parties).
    """
    guard = {"simple": 0.0, "guarded acceptance": 1.0, "guarded rejection": -1.0}
    shift = guard[limit.decision_rule] * GUARD_FACTOR * uncertainty
    return (
        None if limit.lower is None else limit.lower + shift,
        None if limit.upper is None else limit.upper - shift,
    )


def risks(mean: float, sd: float, uncertainty: float, limit: Limit) -> Risks:
    """Return the risks of a rule for a supplier.

    Parameters
    ----------
    mean, sd : float
        Of the true values of the supplier's cells.
    uncertainty : float
        Standard uncertainty of a measured value, in the same unit.
    limit : Limit
        With its decision rule.

    References
    ----------
    .. [1] JCGM 106:2012, The role of measurement uncertainty in conformity assessment,
       chapter 9: global and specific consumer's and producer's risks.
    """
    lower, upper = acceptance_interval(limit, uncertainty)
    points, weights = legendre(_NODES)
    edges = [mean - _REACH * sd, mean + _REACH * sd]
    inner = sorted({
        end for side in (limit.lower, limit.upper) if side is not None
        for end in (side, side - 4 * uncertainty, side + 4 * uncertainty)
        if edges[0] < end < edges[1]
    })  # fmt: skip
    cuts = [edges[0], *inner, edges[1]]
    consumer = producer = 0.0
    for low, high in pairwise(cuts):
        x = 0.5 * (high - low) * (points + 1.0) + low
        density = np.exp(-0.5 * ((x - mean) / sd) ** 2) / (sd * math.sqrt(2.0 * math.pi))
        mass = 0.5 * (high - low) * weights * density
        accepted = accepts(x, uncertainty, lower, upper)
        middle = 0.5 * (low + high)
        is_inside = (limit.lower is None or middle >= limit.lower) and (
            limit.upper is None or middle <= limit.upper
        )
        if is_inside:
            producer += float(mass @ (1.0 - accepted))
        else:
            consumer += float(mass @ accepted)
    on_limit = limit.lower if limit.lower is not None else float(limit.upper or 0.0)
    inward = 1.0 if limit.lower is not None else -1.0
    near = on_limit + inward * GUARD_FACTOR * uncertainty
    return Risks(
        lower, upper, consumer, producer,
        float(accepts(np.array([on_limit]), uncertainty, lower, upper)[0]),
        1.0 - float(accepts(np.array([near]), uncertainty, lower, upper)[0]),
    )  # fmt: skip


def accepts(true: Array, uncertainty: float, lower: float | None, upper: float | None) -> Array:
    """Return the probability that a cell of each true value is accepted."""
    if uncertainty <= 0:
        inside = np.ones_like(true)
        if lower is not None:
            inside = inside * (true >= lower)
        if upper is not None:
            inside = inside * (true <= upper)
        return inside
    low = 0.0 if lower is None else special.ndtr((lower - true) / uncertainty)
    high = 1.0 if upper is None else special.ndtr((upper - true) / uncertainty)
    found: Array = np.maximum(high - low, 0.0) * np.ones_like(true)
    return found


def risks_entry(
    mean: float, sd: float | None, uncertainty: float | None, limit: Limit
) -> dict[str, Any] | None:
    """Return the scorecard's entry; None without a spread or an uncertainty."""
    if sd is None or not sd > 0 or uncertainty is None or not uncertainty > 0:
        return None
    found = risks(mean, sd, uncertainty, limit)
    return {
        "standard_uncertainty": uncertainty,
        "accept_lower": found.accept_lower,
        "accept_upper": found.accept_upper,
        "consumer_risk": found.consumer,
        "producer_risk": found.producer,
        "accepted_on_the_limit": found.consumer_specific,
        "refused_a_guard_band_inside": found.producer_specific,
    }
