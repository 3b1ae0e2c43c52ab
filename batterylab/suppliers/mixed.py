"""One model for every characteristic: fixed means, random lots, channels, cells and repeats.

``y = X b + Σ Z_k u_k + e``, all effects normal and independent. Factors may be crossed (cells
and channels of a gauge study) or nested (cells in lots), and the data as unbalanced as they
come. Variances are estimated by restricted maximum likelihood; an estimate of zero is one.

The likelihood needs only cross products: the factor with the most levels (cells) is taken out
in closed form, the others make one dense matrix of as many rows as they have levels.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from batterylab.errors import BatterylabError
from batterylab.suppliers.nodes import CONFIDENCE, Array, Interval

RESIDUAL = "residual"
_STARTS = (1.0, 0.2, 5.0)
#: a variance below this share of the residual one is zero
_ZERO = 1e-7
_REACH = 60
#: where the fixed part cannot be told, the criterion is as bad as can be
_WORST = 1e30
#: in logarithms of a standard deviation, beyond which an end is zero or infinity
_FAR = 12.0
#: how far a search may move the logarithm of the residual
_WIDE = 4.0


@dataclass(frozen=True)
class _Moments:
    """Cross products of the outer factors' columns, the fixed columns and the values."""

    count: int
    outer: tuple[str, ...]
    places: tuple[slice, ...]
    levels: int
    fixed: int
    inner: str | None
    products: Array
    sums: tuple[tuple[int, int, Array], ...]

    def reduced(self, ratio: float) -> tuple[Array, float]:
        """Return the cross products with the inner factor taken out, and the log determinant."""
        products, logarithm = self.products, 0.0
        if ratio > 0:
            products = products.copy()
            for size, groups, squares in self.sums:
                products -= ratio / (1.0 + size * ratio) * squares
                logarithm += groups * math.log1p(size * ratio)
        return products, logarithm


def _moments(values: Array, fixed: Array, factors: Mapping[str, NDArray[np.str_]]) -> _Moments:
    from scipy import sparse

    codes = {
        name: np.unique(of, return_inverse=True)[1].astype(np.int64)
        for name, of in factors.items()
    }
    sizes = {name: int(code.max()) + 1 for name, code in codes.items()}
    inner = max(sizes, key=lambda name: sizes[name]) if sizes else None
    outer = tuple(name for name in factors if name != inner)
    count, columns, places, start = len(values), [], [], 0
    for name in outer:
        columns.append(_indicators(codes[name], sizes[name]))
        places.append(slice(start, start + sizes[name]))
        start += sizes[name]
    dense = sparse.csr_matrix(np.column_stack([fixed, values]))
    everything = sparse.hstack([*columns, dense], format="csr") if columns else dense
    products = (everything.T @ everything).toarray()
    sums: list[tuple[int, int, Array]] = []
    if inner is not None:
        by_level = (_indicators(codes[inner], sizes[inner]).T @ everything).tocsr()
        members = np.bincount(codes[inner])
        for size in np.unique(members):
            part = by_level[np.flatnonzero(members == size)]
            sums.append((int(size), part.shape[0], (part.T @ part).toarray()))
    return _Moments(count, outer, tuple(places), start, fixed.shape[1], inner, products,
                    tuple(sums))  # fmt: skip


def _indicators(codes: NDArray[np.int64], size: int) -> Any:
    from scipy import sparse

    rows = np.arange(len(codes))
    return sparse.csr_matrix((np.ones(len(codes)), (rows, codes)), shape=(len(codes), size))


@dataclass(frozen=True)
class _State:
    """What follows from the ratios of the variances to the residual one."""

    criterion: float
    residual: float
    coefficients: Array
    covariance: Array


class MixedModel:
    """A model of fixed means and random factors.

    Parameters
    ----------
    values : array_like, shape (n,)
    factors : mapping of str to sequence
        Names of the levels of each random factor, one a value. Levels of nested factors need
        names of their own (``lot/cell``), or they are taken to be crossed.
    fixed : array_like, shape (n, p), optional
        Columns of the fixed part, of full rank; a column of ones if not given.
    restricted : bool
        REML; maximum likelihood if False.

    Raises
    ------
    BatterylabError
        If lengths differ, a value is not finite, the fixed columns depend on each other, or a
        factor has as many levels as values (it cannot be told from the residual).

    References
    ----------
    .. [1] S. R. Searle, G. Casella, C. E. McCulloch, Variance Components, 1992, chapter 6.
    .. [2] D. Bates, M. Mächler, B. Bolker, S. Walker, Fitting linear mixed-effects models using
       lme4, J. Stat. Softw. 67 (2015) 1: the profiled criterion.
    """

    def __init__(
        self,
        values: Sequence[float] | Array,
        factors: Mapping[str, Sequence[object]],
        fixed: Array | None = None,
        *,
        restricted: bool = True,
    ) -> None:
        self.values = np.asarray(values, dtype=np.float64)
        count = len(self.values)
        self.fixed = np.ones((count, 1)) if fixed is None else np.asarray(fixed, np.float64)
        self.factors: dict[str, NDArray[np.str_]] = {
            name: np.asarray(of, dtype=str) for name, of in factors.items()
        }
        self.restricted = restricted
        self._check(count)
        shift = float(np.mean(self.values))
        self._scale = float(np.std(self.values - shift)) or 1.0
        self._start = np.linalg.lstsq(self.fixed, self.values - shift, rcond=None)[0]
        centred = (self.values - shift - self.fixed @ self._start) / self._scale
        self._shift = np.linalg.lstsq(self.fixed, np.full(count, shift), rcond=None)[0]
        self._moments = _moments(centred, self.fixed, self.factors)
        inner = self._moments.inner
        self.names = (*self._moments.outer, *((inner,) if inner else ()))

    def _check(self, count: int) -> None:
        if not np.all(np.isfinite(self.values)) or self.fixed.shape[0] != count:
            raise BatterylabError(
                "a value is not finite, or the fixed part has another length",
                hint="one row a value; leave values that are not known out",
            )
        if np.linalg.matrix_rank(self.fixed) < self.fixed.shape[1]:
            raise BatterylabError("the fixed columns depend on each other", hint="drop one")
        for name, levels in self.factors.items():
            if len(levels) != count:
                raise BatterylabError(f"{name}: {len(levels)} names for {count} values")
            found = len(set(levels.tolist()))
            if not 1 < found < count:
                raise BatterylabError(
                    f"{name}: {found} levels of {count} values cannot be told from the rest",
                    hint="a random factor needs two levels or more, and one level several values",
                )

    def _state(self, roots: Array) -> _State:
        """Return the criterion at the given ratios of standard deviations."""
        m = self._moments
        ratios = np.asarray(roots) ** 2
        products, logarithm = m.reduced(float(ratios[-1]) if m.inner else 0.0)
        corner: Array = products[m.levels :, m.levels :]
        if m.levels:
            scale = np.concatenate([
                np.full(place.stop - place.start, abs(root))
                for place, root in zip(m.places, roots, strict=False)
            ])  # fmt: skip
            matrix = scale[:, None] * products[: m.levels, : m.levels] * scale
            matrix[np.diag_indices(m.levels)] += 1.0
            factor = np.linalg.cholesky(matrix)
            logarithm += 2.0 * float(np.log(np.diag(factor)).sum())
            right_side = scale[:, None] * products[: m.levels, m.levels :]
            half: Array = np.asarray(np.linalg.solve(factor, right_side), dtype=np.float64)
            corner = np.asarray(corner - half.T @ half, dtype=np.float64)
        normal, right = corner[: m.fixed, : m.fixed], corner[: m.fixed, m.fixed]
        try:
            inverse: Array = np.asarray(np.linalg.inv(normal), dtype=np.float64)
        except np.linalg.LinAlgError:
            return _State(_WORST, 1.0, np.zeros(m.fixed), normal)
        coefficients: Array = np.asarray(inverse @ right, dtype=np.float64)
        squares = max(float(corner[m.fixed, m.fixed] - right @ coefficients), 1e-300)
        df = m.count - (m.fixed if self.restricted else 0)
        residual = squares / df
        criterion = df * (math.log(2.0 * math.pi * residual) + 1.0) + logarithm
        if self.restricted:
            criterion += float(np.linalg.slogdet(normal)[1])
        covariance: Array = inverse * residual
        return _State(criterion, residual, coefficients, covariance)

    def _cost(self, roots: Array) -> float:
        return self._state(np.abs(roots)).criterion

    def _minimum(
        self, start: Array, fixed: int | None = None, exact: float = 1e-9
    ) -> tuple[Array, float]:
        """Return the best ratios from a start; the one at place `fixed` stays as it is."""
        free = [place for place in range(len(start)) if place != fixed]
        if not free:
            return start, self._cost(start)

        def cost(part: Array) -> float:
            whole = start.copy()
            whole[free] = part
            return self._cost(whole)

        found = optimize.minimize(cost, start[free], method="L-BFGS-B",
                                  bounds=[(0.0, 1e4)] * len(free),
                                  options={"ftol": exact, "gtol": 1e-7})  # fmt: skip
        best = start.copy()
        best[free] = found.x
        return best, float(found.fun)

    def fit(self) -> "MixedFit":
        """Return the likeliest variances and what follows from them."""
        size = len(self.names)
        if not size:
            return MixedFit(self, np.zeros(0), self._state(np.zeros(0)))
        tries = [self._minimum(np.full(size, start), exact=1e-6) for start in _STARTS]
        roots, least = self._minimum(min(tries, key=lambda item: item[1])[0], exact=1e-13)
        polished = optimize.minimize(
            self._cost, roots, method="Nelder-Mead",
            options={"xatol": 1e-6, "fatol": 1e-9, "maxfev": 100 * size,
                     "initial_simplex": _simplex(roots)},
        )  # fmt: skip
        if polished.fun < least:
            roots = np.abs(polished.x)
        for place in range(size):  # a variance of zero is said, if nothing speaks against it
            without = roots.copy()
            without[place] = 0.0
            if roots[place] ** 2 < _ZERO or self._cost(without) <= self._cost(roots) + 1e-9:
                roots = without
        return MixedFit(self, roots, self._state(roots))


def _simplex(roots: Array) -> Array:
    corners = np.tile(roots, (len(roots) + 1, 1))
    for place in range(len(roots)):
        corners[place + 1, place] += 0.02 * roots[place] + 1e-4
    return corners


@dataclass(frozen=True)
class MixedFit:
    """A fitted model.

    Attributes
    ----------
    model : MixedModel
    roots : ndarray
        Standard deviations of the random factors over the residual one.
    """

    model: MixedModel
    roots: Array
    _state: _State

    @property
    def residual_sd(self) -> float:
        """Standard deviation of the residual."""
        return math.sqrt(self._state.residual) * self.model._scale

    @property
    def sds(self) -> dict[str, float]:
        """Standard deviations by factor, the residual last; zero where that is likeliest."""
        residual = self.residual_sd
        found = {name: float(root) * residual
                 for name, root in zip(self.model.names, self.roots, strict=True)}  # fmt: skip
        ordered = {name: found[name] for name in self.model.factors}
        return {**ordered, RESIDUAL: residual}

    @property
    def variances(self) -> dict[str, float]:
        """Squares of `sds`."""
        return {name: sd**2 for name, sd in self.sds.items()}

    @property
    def coefficients(self) -> Array:
        """The fixed part, generalised least squares."""
        model = self.model
        found: Array = model._shift + model._start + model._scale * self._state.coefficients
        return found

    @property
    def covariance(self) -> Array:
        """Of `coefficients`, with the variances taken as known."""
        found: Array = self._state.covariance * self.model._scale**2
        return found

    @property
    def criterion(self) -> float:
        """Minus twice the (restricted) log likelihood."""
        model = self.model
        df = model._moments.count - (model._moments.fixed if model.restricted else 0)
        return self._state.criterion + 2.0 * df * math.log(model._scale)

    def p_value(self, name: str) -> float:
        """Return the p-value of no effect of a factor.

        The likelihood ratio against half a χ² with one degree of freedom, since a variance
        cannot be negative (S. G. Self, K.-Y. Liang, J. Am. Stat. Assoc. 82 (1987) 605).
        """
        place = self.model.names.index(name)
        without = self.roots.copy()
        without[place] = 0.0
        least = self.model._minimum(without, fixed=place)[1]
        gain = max(least - self._state.criterion, 0.0)
        return 0.5 * float(special.chdtrc(1.0, gain)) if gain > 0 else 1.0

    def effects(self, name: str) -> dict[str, tuple[float, float]]:
        """Return the predicted effect of each level of an outer factor, with its standard error.

        Best linear unbiased predictions: shrunk towards zero by what is not known of them; the
        error is that of the prediction, the fixed part's uncertainty included.

        Raises
        ------
        BatterylabError
            If the factor is the one with the most levels.
        """
        m = self.model._moments
        if name not in m.outer:
            raise BatterylabError(f"{name}: has the most levels; its effects are not predicted")
        products, _ = m.reduced(float(self.roots[-1] ** 2) if m.inner else 0.0)
        size = m.levels + m.fixed
        system = products[:size, :size].copy()
        for place, root in zip(m.places, self.roots, strict=False):
            rows = np.arange(place.start, place.stop)
            system[rows, rows] += 1.0 / max(float(root) ** 2, 1e-12)
        inverse = np.linalg.inv(system)
        found = inverse @ products[:size, -1] * self.model._scale
        errors = np.sqrt(np.maximum(np.diag(inverse), 0.0)) * self.residual_sd
        place = m.places[m.outer.index(name)]
        levels = np.unique(self.model.factors[name])
        columns = range(place.start, place.stop)
        return {
            str(level): (float(found[row]), float(errors[row]))
            for level, row in zip(levels, columns, strict=True)
        }

    def interval(self, name: str, confidence: float = CONFIDENCE) -> Interval:
        """Return the profile likelihood interval of a factor's standard deviation.

        All other parameters are at their best for each value tried; the ends are where the
        criterion lies above its least value by the χ² quantile with one degree of freedom.
        They are found to a two-thousandth.
        """
        limit = float(special.chdtri(1.0, 1.0 - confidence))
        best = self.sds[name]
        profile = _Profile(self, name)

        def excess(sd: float) -> float:
            return profile.criterion(sd) - self._state.criterion - limit

        if best <= 0:
            return 0.0, self._upper_from_zero(excess, -limit)
        low = 0.0
        if name == RESIDUAL or excess(0.0) > 0:
            low = _end(excess, best, limit, -1.0)
        return low, _end(excess, best, limit, 1.0)

    def _upper_from_zero(self, excess: Callable[[float], float], value: float) -> float:
        """Return the upper end where zero is likeliest."""
        inside, step = 0.0, self.residual_sd / math.sqrt(self.model._moments.count)
        for _ in range(_REACH):
            outside = inside + step
            found = excess(outside)
            if found > 0:
                return _crossing(excess, inside, outside, value, found)
            inside, value, step = outside, found, 2.0 * step
        return math.inf


def _end(excess: Callable[[float], float], best: float, limit: float, side: float) -> float:
    """Return where the excess is zero, below or above the best value.

    The root of the criterion's rise is nearly straight over the logarithm, so that a secant
    arrives in three or four steps; a bracket is kept for where it is not.
    """
    target, step = math.sqrt(limit), 0.3
    inner, outer = 0.0, math.inf
    value_in, value_out = -limit, limit
    for _ in range(_REACH):
        found = excess(best * math.exp(side * step))
        root = math.sqrt(max(found + limit, 1e-12))
        if abs(root - target) < 1e-3 * target:
            return best * math.exp(side * step)
        if found < 0:
            inner, value_in = step, found
        else:
            outer, value_out = step, found
        following = step * target / root
        if not inner < following < outer:
            following = 0.5 * (inner + outer) if math.isfinite(outer) else 2.0 * step
        step = min(following, step + 3.0)
        if step > _FAR:
            break
    if not math.isfinite(outer):
        return 0.0 if side < 0 else math.inf
    return _crossing(excess, best * math.exp(side * inner), best * math.exp(side * outer),
                     value_in, value_out)  # fmt: skip


class _Profile:
    """The criterion as a function of one standard deviation, the others at their best.

    Each search starts where the last one ended.
    """

    def __init__(self, fit: MixedFit, name: str) -> None:
        self.fit, self.model = fit, fit.model
        self.place = None if name == RESIDUAL else fit.model.names.index(name)
        self.rest = [k for k in range(len(fit.roots)) if k != self.place]
        m = fit.model._moments
        self.df = m.count - (m.fixed if fit.model.restricted else 0)
        self.log_sd = 0.5 * math.log(fit._state.residual)
        self.roots = fit.roots.copy()

    def _with_residual(self, residual: float, roots: Array) -> float:
        """Return the criterion with the residual variance held, in the model's own scale."""
        state = self.model._state(np.abs(roots))
        ratio = state.residual / residual
        return state.criterion + self.df * (ratio - 1.0 - math.log(ratio))

    def criterion(self, sd: float) -> float:
        """Return the least criterion at a standard deviation."""
        held = sd / self.model._scale
        if self.place is None:
            held = max(held, 1e-7)
            start = self.roots * math.exp(self.log_sd) / held
            self.log_sd = math.log(held)
            self.roots, least = _least(lambda p: self._with_residual(held**2, p), start)
            return least
        if held == 0.0:
            without = self.fit.roots.copy()
            without[self.place] = 0.0
            return self.model._minimum(without, fixed=self.place)[1]

        def cost(part: Array) -> float:
            roots = np.empty(len(self.roots))
            roots[self.rest] = part[1:]
            roots[self.place] = held * math.exp(-part[0])
            return self._with_residual(math.exp(2.0 * part[0]), roots)

        start = np.concatenate([[self.log_sd], self.roots[self.rest]])
        found, least = _least(cost, start, free=1)
        self.log_sd = float(found[0])
        self.roots[self.rest] = found[1:]
        return least


def _least(cost: Callable[[Array], float], start: Array, free: int = 0) -> tuple[Array, float]:
    """Return where a function is least; its arguments but the first `free` are not negative."""
    if not len(start):
        return start, float(cost(start))
    near = [(float(value) - _WIDE, float(value) + _WIDE) for value in start[:free]]
    bounds = near + [(0.0, 1e4)] * (len(start) - free)
    found = optimize.minimize(cost, start, method="L-BFGS-B", bounds=bounds,
                              options={"ftol": 1e-8})  # fmt: skip
    return found.x, float(found.fun)


def _crossing(
    excess: Callable[[float], float], inside: float, outside: float, below: float, above: float
) -> float:
    """Return where a function that is `below` zero inside and `above` it outside crosses it."""
    known = {inside: below, outside: above}
    if not below < 0.0 < above:  # as flat as rounding: nothing to find
        return inside

    def once(sd: float) -> float:
        if sd not in known:
            known[sd] = excess(sd)
        return known[sd]

    root = optimize.brentq(once, inside, outside, xtol=5e-4 * max(abs(inside), abs(outside)),
                           rtol=5e-4)  # fmt: skip
    return float(root)
