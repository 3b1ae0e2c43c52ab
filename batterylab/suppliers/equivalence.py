"""Between two suppliers: A BETTER, B BETTER, EQUIVALENT or NOT DECIDED, and what a choice risks."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from batterylab.errors import BatterylabError
from batterylab.suppliers.comparison import (
    PRIOR,
    Difference,
    Posterior,
    probability_of_best,
    supplier_posterior,
    welch,
)
from batterylab.suppliers.components import LotSample
from batterylab.suppliers.nodes import Array, Interval

A_BETTER, B_BETTER = "A BETTER", "B BETTER"
EQUIVALENT, NOT_DECIDED = "EQUIVALENT", "NOT DECIDED"
#: two-sided risk of A or B BETTER, and one-sided risk of EQUIVALENT
RISK = 0.05
_NODES = 2001


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests of a difference against a lower and an upper margin.

    Attributes
    ----------
    difference : Difference
        A minus B.
    p_lower, p_upper : float
        Of the hypotheses that the difference is at most the lower, at least the upper margin.
    """

    difference: Difference
    p_lower: float
    p_upper: float

    @property
    def p_value(self) -> float:
        """The larger of the two: that of the hypothesis of no equivalence."""
        return max(self.p_lower, self.p_upper)


def two_one_sided_tests(difference: Difference, low: float, high: float) -> Equivalence:
    """Test whether a difference lies between two margins.

    Parameters
    ----------
    difference : Difference
        From `batterylab.suppliers.comparison.welch`.
    low, high : float
        Margins, low < high.

    References
    ----------
    .. [1] D. J. Schuirmann, J. Pharmacokinetics Biopharm. 15 (1987) 657.
    """
    if not low < high:
        raise BatterylabError(f"margins {low:g} to {high:g} are not in order", hint="swap them")
    return Equivalence(difference, difference.p_above(low), 1.0 - difference.p_above(high))


@dataclass(frozen=True)
class Verdict:
    """What is decided between two suppliers.

    Attributes
    ----------
    verdict : str
        ``A BETTER``, ``B BETTER``, ``EQUIVALENT`` or ``NOT DECIDED``.
    reason : str
        In one sentence.
    p_different, p_not_equivalent : float or None
        Of the two tests; None without them.
    probability_a_better : float or None
        Posterior; the prior is stated in `comparison.PRIOR`.
    expected_loss_a, expected_loss_b : float or None
        What choosing A (or B) loses on average against the better of the two, in the unit of
        the feature.
    """

    verdict: str
    reason: str
    p_different: float | None = None
    p_not_equivalent: float | None = None
    probability_a_better: float | None = None
    expected_loss_a: float | None = None
    expected_loss_b: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, with the prior stated."""
        return {**vars(self), "prior": PRIOR}


def verdict(
    a: LotSample, b: LotSample, margin: float, *, higher: bool = True, risk: float = RISK
) -> Verdict:
    """Decide between two suppliers on their lot means.

    EQUIVALENT if two one-sided tests at `risk` put the difference within the margin, also where
    it differs from zero: a difference that small is of no account. Else A or B BETTER if
    Welch's two-sided test at `risk` finds a difference. Else NOT DECIDED.

    Parameters
    ----------
    a, b : LotSample
        Of the two suppliers.
    margin : float
        Largest difference that is of no account, in the unit of the feature.
    higher : bool
        Whether the higher mean is better.
    risk : float
        Of calling equal suppliers different, and of calling those a margin apart equivalent.

    Returns
    -------
    Verdict
    """
    if not (margin > 0 and math.isfinite(margin)):
        raise BatterylabError(f"an equivalence margin of {margin:g}", hint="above zero")
    if not 0.0 < risk < 0.5:
        raise BatterylabError(f"a risk of {risk:g}", hint="between 0 and 0.5")
    found = welch(a.means, b.means)
    posteriors = supplier_posterior(a), supplier_posterior(b)
    if found is None or posteriors[0] is None or posteriors[1] is None:
        return Verdict(NOT_DECIDED, "lots of both suppliers, two or more that differ, are needed")
    ours, theirs = posteriors[0], posteriors[1]
    tests = two_one_sided_tests(found, -margin, margin)
    name, reason = decided(found, margin, higher=higher, risk=risk)
    loss_a, loss_b = expected_losses(ours, theirs, higher=higher)
    return Verdict(
        name,
        reason,
        found.p_value,
        tests.p_value,
        probability_of_best([ours, theirs], higher=higher)[0],
        loss_a,
        loss_b,
    )


def decided(
    found: Difference, margin: float, *, higher: bool = True, risk: float = RISK
) -> tuple[str, str]:
    """Return the verdict on a difference and its reason; see `verdict`."""
    tests = two_one_sided_tests(found, -margin, margin)
    sure = f"with a risk of {100 * risk:g} %"
    if tests.p_value <= risk:
        real = " (and is not zero)" if found.p_value <= risk else ""
        return EQUIVALENT, f"the difference lies within the margin{real}, {sure}"
    if found.p_value <= risk:
        name = A_BETTER if (found.difference > 0) == higher else B_BETTER
        return name, f"the means differ, {sure} two-sided"
    return NOT_DECIDED, "neither a difference nor its absence is shown: more lots decide"


def expected_losses(a: Posterior, b: Posterior, *, higher: bool = True) -> tuple[float, float]:
    """Return what choosing A, and choosing B, loses on average against the better of the two.

    Parameters
    ----------
    a, b : Posterior
        Of the two means, independent.
    higher : bool
        Whether the higher mean is better.

    Returns
    -------
    tuple of float
        In the unit of the means; infinite with one degree of freedom (two lots), where the
        posterior has no mean.

    Notes
    -----
    ``E max(0, b - a)`` by cutting A's posterior into equal probabilities; given a, the mean
    excess of Student's t is in closed form: with t = (a - centre)/scale it is
    ``scale ((ν + t²)/(ν - 1) f(t) - t (1 - F(t)))``. The difference of the two losses is that
    of the means, so only the smaller is integrated.
    """
    if min(a.degrees_of_freedom, b.degrees_of_freedom) <= 1:
        return math.inf, math.inf
    shares = (np.arange(_NODES) + 0.5) / _NODES
    gap = b.centre - a.centre  # positive: choosing A loses, if higher is better
    values = a.quantiles(shares)
    if gap <= 0:
        above = float(np.mean(_excess(b, values)))
        below = above - gap
    else:
        mirrored = Posterior(-b.centre, b.scale, b.degrees_of_freedom)
        below = float(np.mean(_excess(mirrored, -values)))
        above = below + gap
    return (above, below) if higher else (below, above)


def _excess(posterior: Posterior, values: Array) -> Array:
    """Return the mean of max(0, x - value) for each value."""
    df = posterior.degrees_of_freedom
    t = (values - posterior.centre) / posterior.scale
    logarithm = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    density = np.exp(logarithm - (df + 1) / 2 * np.log1p(t**2 / df))
    result: Array = posterior.scale * ((df + t**2) / (df - 1) * density - t * special.stdtr(df, -t))
    return result


def probability_of_higher_cell(mean_a: float, sd_a: float, mean_b: float, sd_b: float) -> float:
    """Return the probability that one cell of A lies above one of B, both normal."""
    return float(special.ndtr((mean_a - mean_b) / math.hypot(sd_a, sd_b)))


def margin_interval(found: Difference, risk: float = RISK) -> Interval:
    """Return the interval that lies within the margins where EQUIVALENT is decided."""
    return found.interval(1.0 - 2.0 * risk)
