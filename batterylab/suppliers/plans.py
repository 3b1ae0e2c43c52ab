"""How many lots and cells a question takes: at which risks, for how many channel-hours.

Lots are the sampling unit: more cells of the same lots hardly help. All figures are computed
before there is data, from a lot-to-lot and a cell-to-cell standard deviation; give both, and
the difference, in one unit (percent of the mean, say).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from scipy import special

from batterylab.errors import BatterylabError
from batterylab.suppliers.nodes import Array, t_quantile
from batterylab.suppliers.noncentral import legendre, noncentral_t_cdf

#: planning values without data, in percent: what fresh cells of serious suppliers show
USUAL_LOT_PERCENT, USUAL_CELL_PERCENT = 0.2, 0.25
MOST_CELLS = 400
_NODES = 64


@dataclass(frozen=True)
class Spread:
    """What is believed of the spread before the study.

    Attributes
    ----------
    lot, cell : float
        Standard deviations between lots and between cells of a lot, in the unit of the
        difference that is asked for.
    source : str
        Where they come from.
    """

    lot: float
    cell: float
    source: str = "given"

    def __post_init__(self) -> None:
        good = all(math.isfinite(value) for value in (self.lot, self.cell))
        if not good or self.lot < 0 or self.cell < 0 or self.lot + self.cell <= 0:
            raise BatterylabError(
                f"standard deviations of {self.lot:g} (lots) and {self.cell:g} (cells) "
                "make no plan",
                hint="both zero or more, one of them above",
            )

    def lot_mean(self, cells: int) -> float:
        """Return the standard deviation of the mean of `cells` cells of a lot."""
        return math.hypot(self.lot, self.cell / math.sqrt(cells))


@lru_cache(maxsize=512)
def _welch_limits(lots: int, risk: float) -> tuple[Array, Array]:
    """Return Welch's limit for t at each division of the variances, and its probability.

    With equal true variances the share of one sample variance in the sum of both is a beta
    variable, independent of the sum.
    """
    half = 0.5 * (lots - 1)
    points, weights = legendre(_NODES)
    shares = special.betaincinv(half, half, 0.5 * (points + 1.0))
    degrees = (lots - 1) / (shares**2 + (1.0 - shares) ** 2)
    limits: Array = special.stdtrit(degrees, 1.0 - risk / 2.0)
    return limits, 0.5 * weights


def power(
    difference: float,
    lots: int,
    cells: int,
    spread: Spread,
    *,
    risk: float = 0.05,
    pooled: bool = False,
) -> float:
    """Return the probability to tell two suppliers apart by a test on their lot means.

    Parameters
    ----------
    difference : float
        Between the true means, in the unit of `spread`.
    lots, cells : int
        Lots of each supplier, cells of each lot.
    spread : Spread
        The same for both suppliers.
    risk : float
        Two-sided, of calling equal suppliers different.
    pooled : bool
        For the test that assumes equal variances; otherwise Welch's, as in the scorecard.

    Returns
    -------
    float
        Of a difference of the right sign.

    Notes
    -----
    Given how the two sample variances divide their sum, t is noncentral with 2 (lots - 1)
    degrees of freedom and Welch's limit is fixed; the rest is an integral over the division.
    """
    if lots < 2:
        return 0.0
    df = 2 * (lots - 1)
    shift = abs(difference) / (spread.lot_mean(cells) * math.sqrt(2.0 / lots))
    if pooled:
        limit = t_quantile(1.0 - risk / 2.0, df)
        return 1.0 - float(noncentral_t_cdf(limit, df, shift))
    limits, probability = _welch_limits(lots, risk)
    return 1.0 - float(probability @ noncentral_t_cdf(limits, df, shift))


def detectable(
    lots: int,
    cells: int,
    spread: Spread,
    *,
    risk: float = 0.05,
    wanted: float = 0.9,
    pooled: bool = False,
) -> float:
    """Return the least difference that is found with probability `wanted`; see `power`."""
    from scipy.optimize import brentq

    if lots < 2:
        raise BatterylabError("one lot a supplier tells nothing apart", hint="two lots or more")
    unit = spread.lot_mean(cells) * math.sqrt(2.0 / lots)
    high = 2.0 * unit
    while power(high, lots, cells, spread, risk=risk, pooled=pooled) < wanted:
        high *= 2.0

    def lack(difference: float) -> float:
        return power(difference, lots, cells, spread, risk=risk, pooled=pooled) - wanted

    return float(brentq(lack, 0.0, high, xtol=1e-9 * unit))


def least(fits: Callable[[int], bool], low: int, high: int) -> int | None:
    """Return the least number in [low, high] that fits, None if none; fitting must not end."""
    if not fits(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle + 1, high)
    return high


def sigma_bounds_percent(degrees_of_freedom: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return how far the interval of a standard deviation reaches below and above, in percent."""
    tail = (1.0 - confidence) / 2.0
    half = degrees_of_freedom / 2.0
    low = math.sqrt(half / float(special.gammainccinv(half, tail)))
    high = math.sqrt(half / float(special.gammaincinv(half, tail)))
    return 100.0 * (low - 1.0), 100.0 * (high - 1.0)


def degrees_for_sigma(percent: float, confidence: float = 0.95) -> int:
    """Return the degrees of freedom that hold the upper end within `percent` of the estimate.

    Raises
    ------
    BatterylabError
        If a million are not enough.
    """
    found = least(lambda df: sigma_bounds_percent(df, confidence)[1] <= percent, 1, 1_000_000)
    if found is None:
        raise BatterylabError(f"a spread to {percent:g} %: too many cells", hint="ask for less")
    return found


def power_of_sigma_ratio(
    ratio: float, cells: int, *, risk: float = 0.05, two_sided: bool = True
) -> float:
    """Return the probability to see that one of two spreads is larger (F test).

    Parameters
    ----------
    ratio : float
        Of the true standard deviations, above 1.
    cells : int
        Of each sample, of one lot.
    risk : float
        Of calling equal spreads different.
    two_sided : bool
        Whether either may be the larger one.
    """
    df = cells - 1
    tail = risk / 2.0 if two_sided else risk
    limit = float(special.fdtri(df, df, 1.0 - tail))
    found = float(special.fdtrc(df, df, limit / ratio**2))
    if two_sided:
        found += float(special.fdtr(df, df, 1.0 / (limit * ratio**2)))
    return found


@dataclass(frozen=True)
class Costs:
    """What testing costs.

    Attributes
    ----------
    hours_per_cell : float
        Channel-hours a cell.
    channels : int or None
        Of the bench; None if there is no bench.
    hours_per_lot : float
        What a further lot costs besides, in channel-hours.
    """

    hours_per_cell: float
    channels: int | None = None
    hours_per_lot: float = 0.0

    def __post_init__(self) -> None:
        hours = (self.hours_per_cell, self.hours_per_lot)
        if not all(math.isfinite(value) and value >= 0 for value in hours):
            raise BatterylabError("hours below zero make no plan", hint="zero or more")

    def channel_hours(self, cells: int) -> float:
        """Return the channel-hours of so many cells."""
        return cells * self.hours_per_cell

    def days(self, cells: int) -> float | None:
        """Return the days on the bench, all channels busy; None without a bench."""
        if not self.channels:
            return None
        return math.ceil(cells / self.channels) * self.hours_per_cell / 24.0


@dataclass(frozen=True)
class Question:
    """What a study must be able to answer.

    Attributes
    ----------
    difference : float
        Between suppliers, in the unit of the spread.
    power : float
        Probability to find it.
    risk : float
        Two-sided, of calling equal suppliers different.
    sigma_percent : float or None
        How near the upper end of the interval of the spread of cells must be, in percent.
    suppliers : int
        How many.
    least_cells, most_lots : int
        Cells of a lot, and lots of a supplier, to choose from.
    """

    difference: float
    power: float = 0.9
    risk: float = 0.05
    sigma_percent: float | None = None
    suppliers: int = 2
    least_cells: int = 4
    most_lots: int = 20

    def __post_init__(self) -> None:
        if not (self.difference > 0 and math.isfinite(self.difference)):
            raise BatterylabError(f"a difference of {self.difference:g} cannot be planned for",
                                  hint="above zero")  # fmt: skip
        for name, share in ("power", self.power), ("risk", self.risk):
            if not 0.0 < share < 1.0:
                raise BatterylabError(f"a {name} of {100 * share:g} % makes no plan",
                                      hint="between 0 and 100 %")  # fmt: skip
        if self.least_cells < 2 or self.most_lots < 2:
            raise BatterylabError("fewer than two cells or lots make no plan", hint="2 or more")


@dataclass(frozen=True)
class Option:
    """One plan: lots of each supplier and cells of each lot, and what it gives.

    Attributes
    ----------
    lots, cells : int
        Lots of each supplier, cells of each lot.
    power : float
        For the difference asked for.
    detectable : float
        Difference found with the probability asked for.
    total_cells : int
        Of all suppliers.
    cost_hours : float
        Channel-hours, with what the lots cost besides.
    """

    lots: int
    cells: int
    power: float
    detectable: float
    total_cells: int
    cost_hours: float


def option(question: Question, spread: Spread, costs: Costs, lots: int, cells: int) -> Option:
    """Return what `lots` of `cells` give and cost."""
    risk, wanted = question.risk, question.power
    total = question.suppliers * lots * cells
    extra = question.suppliers * lots * costs.hours_per_lot
    return Option(
        lots,
        cells,
        power(question.difference, lots, cells, spread, risk=risk),
        detectable(lots, cells, spread, risk=risk, wanted=wanted),
        total,
        costs.channel_hours(total) + extra,
    )


def options(question: Question, spread: Spread, costs: Costs) -> list[Option]:
    """Return for each number of lots the fewest cells a lot that answer the question.

    Parameters
    ----------
    question : Question
    spread : Spread
    costs : Costs

    Returns
    -------
    list of Option
        In order of lots; numbers of lots that cannot answer, however many cells, are missing.
    """
    degrees = 0 if question.sigma_percent is None else degrees_for_sigma(question.sigma_percent)
    found = []
    for lots in range(2, question.most_lots + 1):

        def is_enough(cells: int, lots: int = lots) -> bool:
            reached = power(question.difference, lots, cells, spread, risk=question.risk)
            return reached >= question.power and lots * (cells - 1) >= degrees

        most = max(MOST_CELLS, math.ceil(degrees / lots) + 1)
        cells = least(is_enough, question.least_cells, most)
        if cells is not None:
            found.append(option(question, spread, costs, lots, cells))
    return found


def cheapest(found: list[Option]) -> Option | None:
    """Return the plan that costs least, of several the one with fewest lots; None without any."""
    return min(found, key=lambda item: (item.cost_hours, item.lots), default=None)


def floor_of_difference(lots: int, spread: Spread, question: Question) -> float:
    """Return what even endless cells of `lots` lots cannot go below: lots differ by themselves."""
    if spread.lot <= 0:
        return 0.0
    endless = Spread(spread.lot, 0.0)
    return detectable(lots, 1, endless, risk=question.risk, wanted=question.power)


def spread_of(scorecard: Mapping[str, Any]) -> Spread | None:
    """Return the spread that a scorecard saw in the feature that ranks, in percent of the mean.

    Parameters
    ----------
    scorecard : mapping
        Of schema ``batterylab.scorecard/1``.

    Returns
    -------
    Spread or None
        Mean squares over the suppliers whose lots could be told from their cells; None if
        there is none.
    """
    ranking = scorecard.get("ranking") or {}
    feature = (scorecard.get("features") or {}).get(ranking.get("feature") or "")
    pairs = []
    for entry in (feature or {}).get("suppliers", {}).values():
        if entry["sd_lot"] is not None and entry["sd_cell"] is not None and entry["mean"]:
            scale = 100.0 / abs(entry["mean"])
            pairs.append((scale * entry["sd_lot"], scale * entry["sd_cell"]))
    if not pairs or not any(cell for _, cell in pairs):
        return None
    lot = math.sqrt(sum(pair[0] ** 2 for pair in pairs) / len(pairs))
    cell = math.sqrt(sum(pair[1] ** 2 for pair in pairs) / len(pairs))
    return Spread(lot, cell, f"{ranking['feature']} of {len(pairs)} suppliers in the scorecard")
