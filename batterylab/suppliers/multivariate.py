"""Several features at once: Hotelling's T², with a centre that odd lots do not move."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from batterylab.errors import BatterylabError
from batterylab.suppliers.nodes import Array

_STEPS = 30
_TRIALS = 1000


@dataclass(frozen=True)
class TSquared:
    """A chart of T².

    Attributes
    ----------
    points : ndarray, shape (n,)
    limit : float
    centre : ndarray, shape (p,)
    covariance : ndarray, shape (p, p)
    """

    points: Array
    limit: float
    centre: Array
    covariance: Array

    @property
    def beyond(self) -> list[int]:
        """Places of the points above the limit."""
        return [int(place) for place in np.flatnonzero(self.points > self.limit)]


def grouped(values: Array, confidence: float) -> TSquared:
    """Return the chart of group means with the covariance within groups.

    Parameters
    ----------
    values : ndarray, shape (groups, cells, p)
        Two cells a group or more.
    confidence : float
        That a point without a change lies below the limit.

    References
    ----------
    .. [1] T. P. Ryan, Statistical Methods for Quality Improvement, 3rd ed., 2011, 9.2.
    """
    groups, cells, features = values.shape
    df = groups * cells - groups - features + 1
    if cells < 2 or df < 1:
        raise BatterylabError("too few cells for the covariance within groups",
                              hint="two cells a group, more of them than features")  # fmt: skip
    means = values.mean(axis=1)
    within = values - means[:, None, :]
    covariance = np.einsum("gci,gcj->ij", within, within) / (groups * (cells - 1))
    centre = means.mean(axis=0)
    points = cells * _distances(means[None], centre[None], covariance[None])[0]
    scale = features * (groups - 1) * (cells - 1) / df
    return TSquared(points, scale * float(special.fdtri(features, df, confidence)), centre,
                    covariance)  # fmt: skip


def _distances(values: Array, centre: Array, covariance: Array) -> Array:
    """Return squared distances, shape (b, n), of values (b, n, p)."""
    off = values - centre[:, None, :]
    solved = np.linalg.solve(covariance, np.swapaxes(off, 1, 2))
    found: Array = np.einsum("bnp,bpn->bn", off, solved)
    return found


def _moments(values: Array, kept: Array) -> tuple[Array, Array]:
    """Return mean and covariance of the rows kept; `kept` holds their weights, shape (b, n)."""
    total = kept.sum(axis=1)
    centre = np.einsum("bn,bnp->bp", kept, values) / total[:, None]
    off = values - centre[:, None, :]
    covariance = np.einsum("bn,bni,bnj->bij", kept, off, off) / total[:, None, None]
    return centre, covariance


def _nearest(distances: Array, half: int) -> Array:
    kept = np.zeros_like(distances)
    places = np.argpartition(distances, half - 1, axis=1)[:, :half]
    np.put_along_axis(kept, places, 1.0, axis=1)
    return kept


def _robust(values: Array) -> tuple[Array, Array]:
    """Return robust centres and covariances of samples (b, n, p).

    Concentration steps from two starts (distances from the median by feature, and from the
    spatial signs), the one with the smaller determinant, then one step of reweighting.
    """
    _, count, features = values.shape
    half = (count + features + 1) // 2
    off = values - np.median(values, axis=1, keepdims=True)
    scale = np.median(np.abs(off), axis=1, keepdims=True)
    unit = off / np.maximum(scale, 1e-12 * np.abs(off).max(axis=1, keepdims=True) + 1e-300)
    lengths = np.linalg.norm(unit, axis=2)
    signs = unit / np.maximum(lengths, 1e-12)[:, :, None]
    _, turned = np.linalg.eigh(np.einsum("bni,bnj->bij", signs, signs))
    scores = np.einsum("bni,bij->bnj", unit, turned)
    scores /= np.maximum(np.median(np.abs(scores), axis=1, keepdims=True), 1e-12)
    best: tuple[Array, Array] | None = None
    for start in (lengths, np.linalg.norm(scores, axis=2)):
        kept = _nearest(start, half)
        for _ in range(_STEPS):
            centre, covariance = _moments(values, kept)
            following = _nearest(_distances(values, centre, covariance), half)
            if np.array_equal(following, kept):
                break
            kept = following
        centre, covariance = _moments(values, kept)
        if best is not None:
            worse = np.linalg.det(covariance) >= np.linalg.det(best[1])
            centre[worse], covariance[worse] = best[0][worse], best[1][worse]
        best = centre, covariance
    centre, covariance = best if best is not None else (centre, covariance)
    covariance = covariance * _consistency(half / count, features)
    near = _distances(values, centre, covariance) <= 2.0 * special.gammaincinv(features / 2, 0.975)
    centre, covariance = _moments(values, near.astype(np.float64))
    return centre, covariance * _consistency(0.975, features)


def _consistency(share: float, features: int) -> float:
    """Return what makes the covariance of the nearest `share` that of all, for normal values."""
    reach = float(special.gammaincinv(features / 2.0, min(share, 1.0)))
    return share / float(special.gammainc(features / 2.0 + 1.0, reach)) if share < 1 else 1.0


@lru_cache(maxsize=64)
def _limit(count: int, features: int, risk: float) -> float:
    """Return what the largest of `count` robust T² exceeds with probability `risk`."""
    values = np.random.default_rng(20260101).normal(size=(_TRIALS, count, features))
    largest = _distances(values, *_robust(values)).max(axis=1)
    return float(np.quantile(largest, 1.0 - risk))


def robust(values: Array, risk: float = 0.05) -> TSquared:
    """Return the chart of single rows (lot means, say) with a robust centre and covariance.

    The minimum covariance determinant by concentration steps, reweighted. The limit is
    simulated for this number of rows and features (the statistic does not depend on centre
    and covariance); its draws are fixed.

    Parameters
    ----------
    values : ndarray, shape (n, p)
        Five rows a feature or more.
    risk : float
        That rows without any odd one give a point above the limit.

    Raises
    ------
    BatterylabError
        If there are too few rows, or a feature follows from the others.

    References
    ----------
    .. [1] P. J. Rousseeuw, K. Van Driessen, A fast algorithm for the minimum covariance
       determinant estimator, Technometrics 41 (1999) 212.
    .. [2] M. Hubert, P. J. Rousseeuw, T. Verdonck, A deterministic algorithm for robust
       location and scatter, J. Comput. Graph. Stat. 21 (2012) 618.
    """
    count, features = values.shape
    if count < 5 * features:
        raise BatterylabError(f"{count} rows are too few for {features} features together",
                              hint="five rows a feature")  # fmt: skip
    spread = values.std(axis=0)
    if not np.all(np.isfinite(values)) or not np.all(spread > 0):
        raise BatterylabError("a feature does not vary, or is not finite", hint="leave it out")
    scaled = (values - np.median(values, axis=0)) / spread
    if np.linalg.cond(np.cov(scaled.T).reshape(features, features)) > 1e12:
        raise BatterylabError("a feature follows from the others", hint="leave it out")
    try:
        centre, covariance = _robust(scaled[None])
        points = _distances(scaled[None], centre, covariance)[0]
    except np.linalg.LinAlgError:
        raise BatterylabError("most rows lie on a line or plane: no distance can be told",
                              hint="leave a feature out") from None  # fmt: skip
    middle = np.median(values, axis=0) + spread * centre[0]
    return TSquared(points, _limit(count, features, risk), middle,
                    covariance[0] * np.outer(spread, spread))  # fmt: skip


def confidence_of_three_sigma(features: int) -> float:
    """Return the confidence that keeps each of `features` at three standard deviations."""
    return (1.0 - math.erfc(3.0 / math.sqrt(2.0))) ** features


def t_squared_run_length(features: int, shift: float, risk: float = 0.0027) -> float:
    """Return the mean number of lots to a signal of T² with known centre and covariance.

    Parameters
    ----------
    features : int
    shift : float
        Mahalanobis distance of the shifted mean.
    risk : float
        A lot, of a false signal.
    """
    limit = float(special.chdtri(features, risk))
    inside = float(special.chndtr(limit, features, shift**2))
    return 1.0 / max(1.0 - inside, 1e-300)
