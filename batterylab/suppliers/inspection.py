"""Acceptance of lots by sampling: attributes, variables and sequential, computed, not looked up.

A plan holds two points of its operating characteristic: lots of quality `aql` are accepted
with probability ``1 - producer``, lots of quality `lq` with at most `consumer`. Qualities are
shares nonconforming (0.01 is 1 %).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from batterylab.errors import BatterylabError
from batterylab.suppliers.noncentral import noncentral_t_cdf, noncentral_t_quantile
from batterylab.suppliers.plans import least

_MOST = 100_000
_MOST_ACCEPTED = 25
#: AQLs in percent and sample sizes of the ISO 2859-1 series; acceptance numbers run along its
#: diagonals
_AQLS = (0.010, 0.015, 0.025, 0.040, 0.065, 0.10, 0.15, 0.25, 0.40, 0.65, 1.0, 1.5, 2.5, 4.0,
         6.5, 10.0)  # fmt: skip
_SIZES = (2, 3, 5, 8, 13, 20, 32, 50, 80, 125, 200, 315, 500, 800, 1250)
_LOTS = (8, 15, 25, 50, 90, 150, 280, 500, 1200, 3200, 10_000, 35_000, 150_000, 500_000)
_NUMBERS = (0, None, None, 1, 2, 3, 5, 7, 10, 14, 21)
#: ISO 2859-1 and 3951-1: tightened after two of five lots rejected, normal after five accepted
SWITCHING = "tightened when 2 of 5 successive lots are rejected, normal after 5 accepted in a row"


@dataclass(frozen=True)
class Risks:
    """What a sampling plan must hold.

    Attributes
    ----------
    aql, lq : float
        Share nonconforming of a lot that is to pass, and of one that is not; aql < lq.
    producer : float
        Highest probability to reject a lot of quality `aql`.
    consumer : float
        Highest probability to accept a lot of quality `lq`.
    """

    aql: float
    lq: float
    producer: float = 0.05
    consumer: float = 0.10

    def __post_init__(self) -> None:
        if not 0.0 < self.aql < self.lq < 1.0:
            raise BatterylabError(
                f"an AQL of {100 * self.aql:g} % and an LQ of {100 * self.lq:g} % make no plan",
                hint="0 < AQL < LQ < 100 %; the AQL is the quality that is to pass",
            )
        if not (0.0 < self.producer < 0.5 and 0.0 < self.consumer < 0.5):
            raise BatterylabError(
                f"risks of {100 * self.producer:g} and {100 * self.consumer:g} % make no plan",
                hint="both between 0 and 50 %",
            )

    def met(self, acceptance: Callable[[float], float]) -> bool:
        """Return whether an operating characteristic holds both points."""
        return (
            acceptance(self.aql) >= 1.0 - self.producer - 1e-12
            and acceptance(self.lq) <= self.consumer + 1e-12
        )


@dataclass(frozen=True)
class SinglePlan:
    """Accept a lot if at most `accept` of `cells` do not conform."""

    cells: int
    accept: int

    def acceptance(self, share: float) -> float:
        """Return the probability to accept a lot with this share nonconforming (binomial)."""
        return float(special.bdtr(self.accept, self.cells, share))

    def average_cells(self, share: float) -> float:
        """Return the mean number of cells tested."""
        return float(self.cells)


def single_plan(risks: Risks) -> SinglePlan:
    """Return the smallest single plan by attributes.

    Parameters
    ----------
    risks : Risks

    Raises
    ------
    BatterylabError
        If it would take more than 100000 cells.

    References
    ----------
    .. [1] W. C. Guenther, Use of the binomial, hypergeometric and Poisson tables to obtain
       sampling plans, J. Quality Technology 1 (1969) 105.
    """
    cells = 1
    for accept in range(_MOST):

        def is_strict(n: int, accept: int = accept) -> bool:
            return SinglePlan(n, accept).acceptance(risks.lq) <= risks.consumer

        found = least(is_strict, max(cells, accept + 1), _MOST)
        if found is None:
            break
        cells = found
        if risks.met(SinglePlan(cells, accept).acceptance):
            return SinglePlan(cells, accept)
    raise BatterylabError("no plan by attributes under 100000 cells", hint="widen AQL and LQ")


@dataclass(frozen=True)
class DoublePlan:
    """Two samples; the second only where the first leaves it open.

    Attributes
    ----------
    first, second : int
        Cells of each sample.
    accept_first, reject_first : int
        After the first: accept at or below, reject at or above.
    accept_second : int
        After both together.
    """

    first: int
    accept_first: int
    reject_first: int
    second: int
    accept_second: int

    def acceptance(self, share: float) -> float:
        """Return the probability to accept a lot with this share nonconforming (binomial)."""
        found = float(special.bdtr(self.accept_first, self.first, share))
        last = min(self.reject_first - 1, self.accept_second)
        for number in range(self.accept_first + 1, last + 1):
            rest = float(special.bdtr(self.accept_second - number, self.second, share))
            found += _binomial(number, self.first, share) * rest
        return found

    def average_cells(self, share: float) -> float:
        """Return the mean number of cells tested."""
        accepted = special.bdtr(self.accept_first, self.first, share)
        rejected = special.bdtrc(self.reject_first - 1, self.first, share)
        return self.first + self.second * float(1.0 - accepted - rejected)


def _binomial(number: int, cells: int, share: float) -> float:
    below = special.bdtr(number - 1, cells, share) if number else 0.0
    return float(special.bdtr(number, cells, share) - below)


def double_plan(risks: Risks) -> DoublePlan:
    """Return the double plan with two equal samples that tests fewest cells at the AQL.

    Parameters
    ----------
    risks : Risks
        Both samples together reject above the second acceptance number; so does the first.

    Raises
    ------
    BatterylabError
        If no plan under 100000 cells exists.
    """
    most = single_plan(risks)
    best: DoublePlan | None = None
    for second in range(1, most.accept + 4):
        for first in range(second):

            def made(n: int, first: int = first, second: int = second) -> DoublePlan:
                return DoublePlan(n, first, second + 1, n, second)

            cells = least(
                lambda n, made=made: made(n).acceptance(risks.lq) <= risks.consumer,  # type: ignore[misc]
                1,
                2 * most.cells + 10,
            )
            plan = made(cells) if cells else None
            if plan is None or not risks.met(plan.acceptance):
                continue
            if best is None or plan.average_cells(risks.aql) < best.average_cells(risks.aql):
                best = plan
    if best is None:
        raise BatterylabError("no double plan holds these risks", hint="widen AQL and LQ")
    return best


@dataclass(frozen=True)
class VariablesPlan:
    """Accept a lot if its mean lies at least `factor` standard deviations inside the limit.

    Attributes
    ----------
    cells : int
    factor : float
        The acceptability constant k.
    sigma_known : bool
        Whether the standard deviation is known; otherwise the sample's own counts.
    """

    cells: int
    factor: float
    sigma_known: bool

    def acceptance(self, share: float) -> float:
        """Return the probability to accept a lot of normal cells with this share outside."""
        root = math.sqrt(self.cells)
        distance = -float(special.ndtri(share))
        if self.sigma_known:
            return float(special.ndtr(root * (distance - self.factor)))
        below = noncentral_t_cdf(self.factor * root, self.cells - 1, distance * root)
        return 1.0 - float(below)

    def average_cells(self, share: float) -> float:
        """Return the mean number of cells tested."""
        return float(self.cells)


def variables_plan(risks: Risks, *, sigma_known: bool = False) -> VariablesPlan:
    """Return the smallest plan by variables for one limit.

    Of the constants that hold both risks the largest is taken: the producer's risk is what is
    stated, the consumer's is below.

    Parameters
    ----------
    risks : Risks
    sigma_known : bool
        Whether the lot's standard deviation is known from earlier lots.

    Raises
    ------
    BatterylabError
        If it would take more than 100000 cells.

    References
    ----------
    .. [1] ISO 3951-1:2022 (the s and the sigma method); computed from the noncentral t and
       the normal distribution.
    """
    good, bad = -float(special.ndtri(risks.aql)), -float(special.ndtri(risks.lq))
    if sigma_known:
        reach = -float(special.ndtri(risks.producer)) - float(special.ndtri(risks.consumer))
        cells = math.ceil((reach / (good - bad)) ** 2 - 1e-9)
        factor = good + float(special.ndtri(risks.producer)) / math.sqrt(cells)
        return VariablesPlan(cells, factor, True)

    def factor_of(n: int) -> float:
        shift = good * math.sqrt(n)
        return noncentral_t_quantile(risks.producer, n - 1, shift) / math.sqrt(n)

    def is_strict(n: int) -> bool:
        return VariablesPlan(n, factor_of(n), False).acceptance(risks.lq) <= risks.consumer

    found = least(is_strict, 2, _MOST)
    if found is None:
        raise BatterylabError("no plan by variables under 100000 cells", hint="widen AQL and LQ")
    return VariablesPlan(found, factor_of(found), False)


def estimated_share(distance: float, cells: int) -> float:
    """Return the unbiased estimate of the share outside one limit.

    Parameters
    ----------
    distance : float
        (mean - lower)/s or (upper - mean)/s; s the standard deviation of the sample.
    cells : int
        At least 3.

    References
    ----------
    .. [1] G. J. Lieberman, G. J. Resnikoff, Sampling plans for inspection by variables,
       J. Am. Stat. Assoc. 50 (1955) 457.
    """
    half = cells / 2.0 - 1.0
    share = 0.5 - 0.5 * distance * math.sqrt(cells) / (cells - 1.0)
    return float(special.betainc(half, half, min(max(share, 0.0), 1.0)))


@dataclass(frozen=True)
class SequentialPlan:
    """Wald's sequential plan by attributes: after n cells accept below, reject above two lines.

    Attributes
    ----------
    below, above : float
        Distances h1 and h2 of the lines; accept at ``s n - h1``, reject at ``s n + h2``.
    slope : float
        s, nonconforming cells per cell.
    most : int
        After so many cells the lot is rejected if it is not accepted by then.
    """

    below: float
    above: float
    slope: float
    most: int

    def accept_at(self, cells: int) -> int | None:
        """Return the acceptance number after `cells`; None if it cannot be accepted yet."""
        number = math.floor(self.slope * cells - self.below)
        return number if number >= 0 else None

    def reject_at(self, cells: int) -> int | None:
        """Return the rejection number after `cells`; None if it cannot be rejected yet."""
        number = math.ceil(self.slope * cells + self.above)
        return number if number <= cells else None

    def _walk(self, share: float) -> tuple[float, float]:
        """Return the probability to accept and the mean number of cells, step by step."""
        width = math.ceil(self.slope * self.most + self.above) + 2
        states = np.zeros(width)
        states[0] = 1.0
        accepted = mean = 0.0
        for cells in range(1, self.most + 1):
            mean += float(states.sum())
            states[1:] = states[1:] * (1.0 - share) + states[:-1] * share
            states[0] *= 1.0 - share
            low, high = self.accept_at(cells), self.reject_at(cells)
            if low is not None:
                accepted += float(states[: low + 1].sum())
                states[: low + 1] = 0.0
            if high is not None:
                states[high:] = 0.0
        return accepted, mean

    def acceptance(self, share: float) -> float:
        """Return the probability to accept a lot with this share nonconforming, exactly."""
        return self._walk(share)[0]

    def average_cells(self, share: float) -> float:
        """Return the mean number of cells tested."""
        return self._walk(share)[1]


def sequential_plan(risks: Risks, *, most: int | None = None) -> SequentialPlan:
    """Return Wald's sequential plan.

    Parameters
    ----------
    risks : Risks
        Wald's bounds make the true risks a little smaller than stated, cutting off larger.
    most : int, optional
        Cells after which the plan is cut off; three times the single plan's if not given.

    References
    ----------
    .. [1] A. Wald, Sequential Analysis, 1947, chapter 5.
    """
    scale = math.log(risks.lq * (1.0 - risks.aql) / (risks.aql * (1.0 - risks.lq)))
    return SequentialPlan(
        math.log((1.0 - risks.producer) / risks.consumer) / scale,
        math.log((1.0 - risks.consumer) / risks.producer) / scale,
        math.log((1.0 - risks.aql) / (1.0 - risks.lq)) / scale,
        most or 3 * single_plan(risks).cells,
    )


def scheme_acceptance(normal: float, tightened: float) -> float:
    """Return the share of lots accepted in the long run under the switching rules.

    Parameters
    ----------
    normal, tightened : float
        Probability to accept under either plan, at one quality.

    References
    ----------
    .. [1] K. S. Stephens, K. E. Larson, An evaluation of the MIL-STD-105D system of sampling
       plans, Industrial Quality Control 23 (1967) 310.
    """
    if normal >= 1.0:
        return 1.0
    if tightened <= 0.0:
        return 0.0
    four = normal**4
    in_normal = (2.0 - four) / ((1.0 - normal) * (1.0 - four))
    five = tightened**5
    in_tightened = (1.0 - five) / ((1.0 - tightened) * five) if tightened < 1.0 else 5.0
    return (in_normal * normal + in_tightened * tightened) / (in_normal + in_tightened)


def tightened_plan(plan: VariablesPlan, risks: Risks) -> VariablesPlan:
    """Return the plan of the same size for the next stricter AQL (a fifth of a decade lower)."""
    stricter = -float(special.ndtri(risks.aql / 10**0.2))
    root = math.sqrt(plan.cells)
    if plan.sigma_known:
        factor = stricter + float(special.ndtri(risks.producer)) / root
    else:
        quantile = noncentral_t_quantile(risks.producer, plan.cells - 1, stricter * root)
        factor = quantile / root
    return VariablesPlan(plan.cells, factor, plan.sigma_known)


def iso2859_plan(lot_size: int, aql_percent: float) -> SinglePlan:
    """Return the single plan of ISO 2859-1 (ANSI Z1.4), normal inspection, level II.

    The table is rebuilt from its own rule: sample sizes and AQLs are series of five to the
    decade and acceptance numbers are constant along the diagonals. A lot smaller than the
    sample is tested whole.

    Parameters
    ----------
    lot_size : int
        Cells in the lot.
    aql_percent : float
        One of the standard's, 0.010 to 10.

    Raises
    ------
    BatterylabError
        If the AQL is not of the series, or the lot has fewer than two cells.
    """
    if aql_percent not in _AQLS or lot_size < 2:
        known = ", ".join(f"{aql:g}" for aql in _AQLS)
        raise BatterylabError(f"no ISO 2859-1 plan for {lot_size} cells at AQL {aql_percent:g} %",
                              hint=f"AQL one of {known}; two cells or more")  # fmt: skip
    code = sum(lot_size > most for most in _LOTS)
    while True:
        place = _AQLS.index(aql_percent) - (14 - code)
        if place < 0:
            code += 1
        elif place == 1 or place >= len(_NUMBERS):
            code -= 1
        elif place == 2:
            code += 1
        else:
            number = _NUMBERS[place]
            break
        if not 0 <= code < len(_SIZES):
            raise BatterylabError(f"ISO 2859-1 has no plan at AQL {aql_percent:g} %",
                                  hint="use a plan computed from AQL and LQ")  # fmt: skip
    return SinglePlan(min(_SIZES[code], lot_size), number or 0)


def plans(risks: Risks) -> dict[str, Any]:
    """Return every kind of plan for the same risks, by name.

    Where AQL and LQ lie so near each other that a double or sequential plan would take long to
    compute (and nobody would test so many cells), it is left out.
    """
    single = single_plan(risks)
    found: dict[str, Any] = {"single": single}
    if single.accept <= _MOST_ACCEPTED:
        found["double"] = double_plan(risks)
        found["sequential"] = sequential_plan(risks, most=3 * single.cells)
    found["variables"] = variables_plan(risks)
    found["variables, sigma known"] = variables_plan(risks, sigma_known=True)
    return found
