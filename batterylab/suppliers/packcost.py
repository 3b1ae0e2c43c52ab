"""What the spread of a supplier's cells costs the study's pack, by how packs are built.

Cells are drawn from the supplier's mean and spreads, built into packs in several ways and
discharged (`packrun`). All draws are fixed. The same is done for a small and a large
production: with more cells in stock, sorting leaves less over.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from batterylab.cells import CellType
from batterylab.study import Pack
from batterylab.suppliers.estimates import Estimate
from batterylab.suppliers.nodes import Array
from batterylab.suppliers.packrun import CellModel, Runs, run
from batterylab.suppliers.packs import assigned_groups
from batterylab.suppliers.percentiles import residuals_of

#: packs a week, by name
PRODUCTION = {"50 cars a week": 50, "150,000 cars a year": 2885}
RESISTANCES = ("dcir_10s_mOhm", "ac_resistance_mOhm")
WAYS = ("random", "one lot", "matched", "sorted and matched")
#: a sorting class is this wide, in percent of capacity
CLASS_PERCENT = 0.25
#: lots in a week's stock
_LOTS = 8
_PACKS, _STOCK = 40, 500
_SEED = 20260101
#: share of the voltage that an unmeasured resistance is taken to cost
_DROP = 0.01


@dataclass(frozen=True)
class Population:
    """A supplier's cells, as the packs are drawn from.

    Attributes
    ----------
    capacity_Ah : float
        Mean; spreads in percent of it.
    lot_percent, cell_percent : float
    resistance_mOhm, resistance_percent : float
        Mean, and standard deviation in percent of it.
    correlation : float
        Between capacity and resistance of cells of a lot.
    Wh_per_Ah : float
        Mean voltage of a discharge.
    has_resistance : bool
        Whether the resistance was measured; an assumed one says nothing of power.
    shape : ndarray, optional
        The cells' own deviations from their lots in order of size, mean 0 and standard
        deviation 1, where they are not normal.
    """

    capacity_Ah: float
    lot_percent: float
    cell_percent: float
    resistance_mOhm: float
    resistance_percent: float
    correlation: float
    Wh_per_Ah: float
    has_resistance: bool = True
    shape: Array | None = None

    def draw(self, packs: int, cells: int, rng: np.random.Generator, lots: int) -> "Stock":
        """Return a stock of `packs` x `cells` cells from so many lots."""
        count = packs * cells
        of_lot = self.lot_percent * rng.normal(size=lots)
        lot = rng.integers(lots, size=count)
        first, second = rng.normal(size=(2, count))
        if self.shape is not None:
            first = self.shape[(len(self.shape) * special.ndtr(first)).astype(np.int64)]
        capacity = 1.0 + (of_lot[lot] + self.cell_percent * first) / 100.0
        mixed = self.correlation * first + math.sqrt(1.0 - self.correlation**2) * second
        resistance = 1.0 + self.resistance_percent * mixed / 100.0
        least = 0.05
        return Stock(self.capacity_Ah * np.maximum(capacity, least),
                     1e-3 * self.resistance_mOhm * np.maximum(resistance, least))  # fmt: skip


@dataclass(frozen=True)
class Stock:
    """Cells: capacities in Ah and resistances in ohm."""

    capacity_Ah: Array
    resistance_ohm: Array

    def taken(self, places: NDArray[np.int64]) -> "Stock":
        """Return the cells at given places, in the shape of those."""
        return Stock(self.capacity_Ah[places], self.resistance_ohm[places])


def population(
    name: str, feature: str, groups: Mapping[str, Mapping[str, Estimate]], cell_type: CellType,
    as_seen: bool = False,
) -> Population | None:  # fmt: skip
    """Return a supplier's cells from the scorecard's estimates; None without a spread.

    Normal cells, or with `as_seen` the shape of those measured.
    """
    found = groups[feature][name]
    if found.sd_total is None or not found.sample.mean > 0:
        return None
    scale = 100.0 / found.sample.mean
    cell = found.sd_cell if found.sd_cell is not None else found.sd_total
    is_share = feature != "capacity_Ah"
    capacity = found.sample.mean * (cell_type.nominal_capacity_Ah if is_share else 1.0)
    resistance = next((groups[r][name] for r in RESISTANCES if name in groups.get(r, {})), None)
    energy = groups.get("energy_Wh", {}).get(name)
    middle = 0.5 * (cell_type.voltage_min_V + cell_type.voltage_max_V)
    volts = middle if energy is None or is_share else energy.sample.mean / capacity
    known = None if resistance is None else _resistance(resistance)
    own, other = known or (_assumed_mOhm(capacity, volts), 0.0)
    return Population(
        capacity, scale * (found.sd_lot or 0.0), scale * cell, own, other,
        0.0 if resistance is None else _correlation(found, resistance), volts, known is not None,
        _shape(found) if as_seen else None,
    )  # fmt: skip


def _shape(found: Estimate) -> Array:
    values = np.array([reading.value for reading in found.readings])
    off = np.sort(residuals_of(values, [reading.lot for reading in found.readings]))
    standard: Array = (off - off.mean()) / off.std()
    return standard


def _resistance(found: Estimate) -> tuple[float, float] | None:
    mean = found.sample.mean
    return (mean, 100.0 * (found.sd_total or 0.0) / mean) if mean > 0 else None


def _assumed_mOhm(capacity_Ah: float, volts: float) -> float:
    """Return a resistance that costs a hundredth of the voltage at the pack's current."""
    return 1e3 * _DROP * volts / (CellModel.rate_per_h * capacity_Ah)


def _correlation(a: Estimate, b: Estimate) -> float:
    """Return the correlation within lots of two features of the same cells."""
    others = {reading.serial: reading.value for reading in b.readings}
    both = [r for r in a.readings if r.serial in others]
    lots = np.array([r.lot for r in both])
    if len(both) - len(set(lots.tolist())) < 4:
        return 0.0
    x, y = np.array([r.value for r in both]), np.array([others[r.serial] for r in both])
    for lot in set(lots.tolist()):
        inside = lots == lot
        x[inside] -= x[inside].mean()
        y[inside] -= y[inside].mean()
    size = math.sqrt(float(x @ x) * float(y @ y))
    return float(np.clip(x @ y / size, -0.99, 0.99)) if size > 0 else 0.0


def build(stock: Stock, packs: int, pack: Pack, way: str, rng: np.random.Generator) -> Stock:
    """Return cells in packs, shape (packs, series, parallel).

    ``random``: as they come. ``matched``: groups of each pack assigned on capacity and
    resistance. ``sorted and matched``: the whole stock in order of capacity first.
    """
    count = pack.series * pack.parallel
    order = np.arange(len(stock.capacity_Ah))
    if way == "sorted and matched":
        order = np.argsort(stock.capacity_Ah, kind="stable")
    whole = len(order) // count
    chosen = np.sort(rng.permutation(whole)[:packs])
    places = order[: whole * count].reshape(whole, count)[chosen]
    if "matched" in way and pack.parallel > 1:
        places = np.stack([
            row[assigned_groups(stock.capacity_Ah[row], 1.0 / stock.resistance_ohm[row],
                                pack.series, pack.parallel)].ravel()
            for row in places
        ])  # fmt: skip
    return stock.taken(places.reshape(len(chosen), pack.series, pack.parallel))


def _losses(runs: Runs, built: Stock, same: Runs) -> dict[str, float]:
    """Return what packs lose against packs of equal cells with the same means, in percent."""
    mean = built.capacity_Ah.mean(axis=(1, 2)) / built.capacity_Ah.mean()

    def loss(values: Array, equal: Array, scale: Array | float = 1.0) -> float:
        return float(100.0 * np.mean(1.0 - values / (equal[0] * scale)))

    return {
        "capacity_percent": loss(runs.charge_Ah, same.charge_Ah, mean),
        "energy_percent": loss(runs.energy_Wh, same.energy_Wh, mean),
        "power_percent": loss(runs.power_W, same.power_W),
        "imbalance_percent": float(np.mean(runs.left_percent - same.left_percent[0])),
        "largest_current_ratio": float(np.mean(runs.current_ratio)),
    }


def cost(people: Population, pack: Pack, cell_type: CellType) -> dict[str, Any]:
    """Return the scorecard's ``pack`` entry of one supplier beside the closed form.

    Parameters
    ----------
    people : Population
    pack : Pack
        Of the study.
    cell_type : CellType
        For the voltage window.
    """
    model = CellModel(cell_type.voltage_max_V, cell_type.voltage_min_V,
                      _mean_V(people, cell_type))  # fmt: skip
    count = pack.series * pack.parallel
    ways: dict[str, dict[str, Any]] = {}
    for place, way in enumerate(WAYS):
        rng = np.random.default_rng([_SEED, place])
        lots = 1 if way == "one lot" else 50 * _LOTS
        stock = people.draw(_STOCK if way.startswith("sorted") else _PACKS, count, rng, lots)
        built = build(stock, _PACKS, pack, way, rng)
        ways[way] = _way(built, people, pack, model)
    return {
        "ways": ways,
        "packs": _PACKS,
        "correlation": people.correlation,
        "resistance_measured": people.has_resistance,
        "production": {
            name: _production(people, pack, model, week)
            for name, week in PRODUCTION.items()
        },
    }  # fmt: skip


def _mean_V(people: Population, cell_type: CellType) -> float:
    width = cell_type.voltage_max_V - cell_type.voltage_min_V
    low, high = cell_type.voltage_min_V + 0.05 * width, cell_type.voltage_max_V - 0.05 * width
    return min(max(people.Wh_per_Ah, low), high)


def _way(built: Stock, people: Population, pack: Pack, model: CellModel) -> dict[str, Any]:
    runs = run(built.capacity_Ah, built.resistance_ohm, model)
    mean = np.full((1, pack.series, pack.parallel), built.capacity_Ah.mean())
    same = run(mean, np.full_like(mean, built.resistance_ohm.mean()), model)
    found: dict[str, Any] = _losses(runs, built, same)
    if not people.has_resistance:
        found["power_percent"] = None
    whole_Wh = people.capacity_Ah * people.Wh_per_Ah * pack.series * pack.parallel
    lost_Wh = found["energy_percent"] / 100.0 * whole_Wh
    return {**found, "lost_Wh_per_car": lost_Wh,
            "lost_km_per_car": lost_Wh / pack.consumption_Wh_per_km}  # fmt: skip


def _production(
    people: Population, pack: Pack, model: CellModel, week: int
) -> dict[str, Any]:
    """Return what sorting a week's cells into classes gives, and what it leaves over."""
    rng = np.random.default_rng([_SEED, week])
    count = pack.series * pack.parallel
    stock = people.draw(week, count, rng, _LOTS)
    width = CLASS_PERCENT / 100.0 * people.capacity_Ah
    classes = np.floor((stock.capacity_Ah - people.capacity_Ah) / width).astype(np.int64)
    order = np.argsort(classes, kind="stable")
    names, sizes = np.unique(classes, return_counts=True)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    used = [order[start : start + size // count * count]
            for start, size in zip(starts[:-1], sizes, strict=True)]  # fmt: skip
    kept = np.concatenate(used)
    never = sizes < count / 10  # a class that would take ten weeks for a pack
    entry: dict[str, Any] = {
        "packs_a_week": week,
        "classes": len(names),
        "left_over_percent": 100.0 * (1.0 - len(kept) / len(order)),
        "rejected_percent": 100.0 * float(sizes[never].sum()) / len(order),
    }
    if len(kept) >= count:
        built = build(stock.taken(kept), _PACKS, pack, "matched", rng)
        entry.update(_way(built, people, pack, model))
    return entry
