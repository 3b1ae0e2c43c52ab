"""Packs from cells drawn at random, sorted or matched: what each way keeps of their capacity."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batterylab.errors import BatterylabError
from batterylab.suppliers.nodes import Array

_EXHAUSTIVE = 8
_ROUNDS = 200


def _shape(capacities: Array, series: int, parallel: int) -> Array:
    values = np.asarray(capacities, dtype=np.float64)
    if values.shape[-1:] != (series * parallel,) or series < 1 or parallel < 1:
        raise BatterylabError(
            f"{values.size} cells make no {series}s{parallel}p pack", hint="series x parallel cells"
        )
    if not np.all(np.isfinite(values)) or not np.all(values > 0):
        raise BatterylabError("a capacity is not above zero", hint="leave that cell out")
    return values


def folded_groups(capacities: Array, series: int, parallel: int) -> Array:
    """Return groups made by folding: the best cell beside the worst, row by row to and fro.

    Parameters
    ----------
    capacities : ndarray, shape (series * parallel,)
        In any unit.
    series, parallel : int

    Returns
    -------
    ndarray of int, shape (series, parallel)
        Places of the cells.
    """
    order = np.argsort(-_shape(capacities, series, parallel), kind="stable")
    rows = order.reshape(parallel, series).copy()
    rows[1::2] = rows[1::2, ::-1]
    return np.ascontiguousarray(rows.T)


def matched_groups(capacities: Array, series: int, parallel: int) -> Array:
    """Return groups whose sums are as equal as can be found.

    All ways are tried for up to eight cells in pairs; else folding is improved by exchanging
    cells between the group with most or least and any other while that brings the two closer
    together. For pairs folding is already best at both ends.

    Parameters
    ----------
    capacities : ndarray, shape (series * parallel,)
        In any unit.
    series, parallel : int

    Returns
    -------
    ndarray of int, shape (series, parallel)
        Places of the cells.
    """
    values = _shape(capacities, series, parallel)
    groups = folded_groups(values, series, parallel)
    if parallel == 1 or series == 1:
        return groups
    if parallel == 2 and len(values) <= _EXHAUSTIVE:
        ways = _pairings(tuple(range(len(values))))
        return np.array(min(ways, key=lambda way: spread(values, np.array(way))))
    for _ in range(_ROUNDS):
        if not (_exchange(values, groups, most=True) or _exchange(values, groups, most=False)):
            break
    return groups


def assigned_groups(
    capacities: Array, conductances: Array, series: int, parallel: int
) -> NDArray[np.int64]:
    """Return groups that are alike in capacity and in conductance at once.

    Row by row the next best cells are assigned to the groups so that the sums of both, each in
    units of its spread, come as near their targets as can be (linear assignment).

    Parameters
    ----------
    capacities, conductances : ndarray, shape (series * parallel,)
    series, parallel : int

    Returns
    -------
    ndarray of int, shape (series, parallel)
        Places of the cells.

    References
    ----------
    .. [1] D. F. Crouse, On implementing 2D rectangular assignment algorithms, IEEE Trans.
       Aerosp. Electron. Syst. 52 (2016) 1679.
    """
    from scipy.optimize import linear_sum_assignment

    values = _shape(capacities, series, parallel)
    others = _shape(conductances, series, parallel)
    if parallel == 1:
        return np.arange(series, dtype=np.int64)[:, None]
    scaled = np.stack([(v - v.mean()) / (v.std() or 1.0) for v in (values, others)], axis=1)
    order = np.argsort(-np.abs(scaled).sum(axis=1), kind="stable")
    groups = np.empty((series, parallel), dtype=np.int64)
    sums = np.zeros((series, 2))
    for row in range(parallel):
        cells = order[row * series : (row + 1) * series]
        cost = ((sums[:, None, :] + scaled[cells][None, :, :]) ** 2).sum(axis=2)
        _, chosen = linear_sum_assignment(cost)
        groups[:, row] = cells[chosen]
        sums += scaled[cells[chosen]]
    return groups


def _pairings(places: tuple[int, ...]) -> list[list[tuple[int, int]]]:
    if not places:
        return [[]]
    first, rest = places[0], places[1:]
    return [
        [(first, other), *way]
        for other in rest
        for way in _pairings(tuple(place for place in rest if place != other))
    ]


def _exchange(values: Array, groups: Array, *, most: bool) -> bool:
    """Exchange the two cells that most even out an extreme group and another; say if any did."""
    sums = values[groups].sum(axis=1)
    own = int(np.argmax(sums) if most else np.argmin(sums))
    gaps = sums[own] - sums
    moves = values[groups[own]][:, None, None] - values[groups][None, :, :]
    left = np.abs(gaps[None, :, None] - 2.0 * moves)  # what is left of a gap
    left[:, own, :] = np.inf
    cell, group, other = np.unravel_index(int(np.argmin(left)), left.shape)
    if not left[cell, group, other] < abs(gaps[group]) * (1.0 - 1e-9):
        return False
    places = groups[own, cell], groups[group, other]
    groups[group, other], groups[own, cell] = places
    return True


def spread(capacities: Array, groups: Array) -> float:
    """Return the largest less the smallest sum of a group."""
    sums = np.asarray(capacities)[groups].sum(axis=1)
    return float(np.ptp(sums))


@dataclass(frozen=True)
class PackLoss:
    """What packs lose against their mean cells, in percent, by how they were built.

    Attributes
    ----------
    random, one_lot, folded, matched : float
        Cells of any lot as they come; of one lot each pack; of any lot, best beside worst
        within the pack; of any lot, matched within the pack.
    sorted : float
        The cells of all packs sorted by capacity, packed in that order, matched in each pack:
        each pack is held against its own mean.
    standard_error : float
        Of `random`, from the number of packs.
    """

    random: float
    one_lot: float
    folded: float
    matched: float
    sorted: float
    standard_error: float


def simulate(
    series: int,
    parallel: int,
    lot_percent: float,
    cell_percent: float,
    *,
    packs: int = 400,
    seed: int = 1,
) -> PackLoss:
    """Build packs of normal cells and return what the weakest group costs.

    Parameters
    ----------
    series, parallel : int
    lot_percent, cell_percent : float
        Standard deviations between lots and cells, in percent of the mean. Cells of any lot
        are of lots of their own each.
    packs : int
    seed : int
        Of the draws.

    References
    ----------
    .. [1] For random cells `batterylab.suppliers.pack.loss_percent` is the closed form.
    """
    if packs < 2 or min(lot_percent, cell_percent) < 0 or series < 1 or parallel < 1:
        raise BatterylabError("these packs cannot be built",
                              hint="two packs or more, spreads of zero or above")  # fmt: skip
    rng = np.random.default_rng(seed)
    count = series * parallel
    cells = cell_percent * rng.normal(size=(packs, count))
    mixed = cells + lot_percent * rng.normal(size=(packs, count))

    def losses(groups: Array) -> Array:
        lost: Array = -groups.mean(axis=2).min(axis=1)
        return lost

    random = losses(mixed.reshape(packs, series, parallel))
    folded = np.stack([row[folded_groups(100 + row, series, parallel)] for row in mixed])
    matched = np.stack([row[matched_groups(100 + row, series, parallel)] for row in mixed])
    stock = np.sort(mixed.ravel()).reshape(packs, count)
    stock -= stock.mean(axis=1, keepdims=True)
    ordered = np.stack([row[matched_groups(100 + row, series, parallel)] for row in stock])
    return PackLoss(
        float(random.mean()),
        float(losses(cells.reshape(packs, series, parallel)).mean()),
        float(losses(folded).mean()),
        float(losses(matched).mean()),
        float(losses(ordered).mean()),
        float(random.std(ddof=1)) / packs**0.5,
    )
