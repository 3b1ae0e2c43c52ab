"""A weighted score with fixed anchors, and how much the order depends on the weights.

A feature is worth 0 at its worst anchor, 1 at its best, linear between and no more beyond. The
anchors stand in the study, so that the score of a supplier does not change when another joins.
The acceptability of a rank is the share of all weights, and of all means the data leave open,
at which a supplier has it (stochastic multicriteria acceptability analysis).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from batterylab.study import Weight
from batterylab.suppliers.comparison import supplier_posterior
from batterylab.suppliers.estimates import Estimate
from batterylab.suppliers.nodes import Array

DRAWS = 4000


def worth(values: Array | float, weight: Weight) -> Array:
    """Return the worth of values of a feature, 0 to 1."""
    found: Array = (np.asarray(values, dtype=np.float64) - weight.worst) / (
        weight.best - weight.worst
    )
    return np.clip(found, 0.0, 1.0)


def weighted(
    weights: Sequence[Weight], groups: Mapping[str, Mapping[str, Estimate]]
) -> dict[str, Any] | None:
    """Score the suppliers by the study's weights.

    Parameters
    ----------
    weights : sequence of Weight
        With their anchors.
    groups : mapping of str to mapping of str to Estimate
        By feature and supplier.

    Returns
    -------
    dict or None
        The scorecard's ``ranking.weighted``; None without weights, or where a supplier lacks a
        weighted feature: it is then named nowhere else better.

    References
    ----------
    .. [1] R. Lahdelma, P. Salminen, SMAA-2: stochastic multicriteria acceptability analysis for
       group decision making, Operations Research 49 (2001) 444.
    """
    if not weights:
        return None
    measured = [set(groups.get(item.feature, {})) for item in weights]
    names = [name for name in _order(groups) if all(name in found for found in measured)]
    missing = sorted(set().union(*measured) - set(names)) if measured else []
    if not names:
        return None
    total = sum(item.weight for item in weights)
    shares = np.array([item.weight / total for item in weights])
    means = np.array([
        [float(worth(groups[item.feature][name].sample.mean, item)) for item in weights]
        for name in names
    ])  # fmt: skip
    scores = means @ shares
    drawn = np.stack([
        np.stack([_draws(groups[item.feature][name], item, place, column)
                  for column, item in enumerate(weights)], axis=1)
        for place, name in enumerate(names)
    ])  # fmt: skip
    order = sorted(range(len(names)), key=lambda place: (-scores[place], names[place]))
    return {
        "features": [
            {"feature": item.feature, "weight": float(share), "worst": item.worst,
             "best": item.best}
            for item, share in zip(weights, shares, strict=True)
        ],
        "scores": {names[place]: float(scores[place]) for place in order},
        "worth": {
            names[place]: {item.feature: float(value)
                           for item, value in zip(weights, means[place], strict=True)}
            for place in order
        },
        "rank_acceptability": _ranks(names, drawn, _any_weights(len(weights))),
        "rank_acceptability_own_weights": _ranks(names, drawn, np.tile(shares, (DRAWS, 1))),
        "not_scored": missing,
    }  # fmt: skip


def _order(groups: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
    return list(dict.fromkeys(name for group in groups.values() for name in group))


def _any_weights(count: int) -> Array:
    """Return weights drawn evenly over all that add up to one; the draws are fixed."""
    parts = np.random.default_rng(20260101).exponential(size=(DRAWS, count))
    found: Array = parts / parts.sum(axis=1, keepdims=True)
    return found


def _draws(found: Estimate, weight: Weight, supplier: int, column: int) -> Array:
    """Return the worth of means that the data leave open; the mean alone without lots."""
    posterior = supplier_posterior(found.sample)
    if posterior is None:
        return np.full(DRAWS, float(worth(found.sample.mean, weight)))
    rng = np.random.default_rng([20260101, supplier, column])
    return worth(posterior.quantiles(rng.permutation((np.arange(DRAWS) + 0.5) / DRAWS)), weight)


def _ranks(names: Sequence[str], drawn: Array, weights: Array) -> dict[str, list[float]]:
    """Return for each supplier the share of draws at each rank; ties share their ranks."""
    scores = np.einsum("sdf,df->ds", drawn, weights)
    count = len(names)
    above = (scores[:, None, :] > scores[:, :, None] + 1e-12).sum(axis=2)
    level = (np.abs(scores[:, None, :] - scores[:, :, None]) <= 1e-12).sum(axis=2)
    found = np.zeros((count, count))
    for rank in range(count):
        has = (above <= rank) & (rank < above + level)
        found[:, rank] = np.where(has, 1.0 / level, 0.0).mean(axis=0)
    return {name: [float(share) for share in row] for name, row in zip(names, found, strict=True)}
