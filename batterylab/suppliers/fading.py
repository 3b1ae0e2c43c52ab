"""Ageing of each supplier: fade and knee of its cells, life to 80 %, and who fades less.

Apart from fresh capacity and from the decision. Formulas and assumptions are in
``docs/statistics.md``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from batterylab.errors import BatterylabError
from batterylab.suppliers.ageing import (
    END_OF_LIFE,
    Fade,
    Knee,
    Weibull,
    find_knee,
    fit_fade,
    fit_weibull,
)
from batterylab.suppliers.comparison import welch
from batterylab.suppliers.components import LotSample
from batterylab.suppliers.courses import LEAST_POINTS, Course
from batterylab.suppliers.nodes import CONFIDENCE, Array, Interval, mean_interval, t_quantile
from batterylab.suppliers.sampling import NO_LOT

#: a life is extrapolated to at most so many times the age that cells have reached
REACH = 2.0
LEAST_FOR_KNEE = 8
LEAST_FOR_CORRELATION = 5


@dataclass(frozen=True)
class Aged:
    """One cell's course with what was fitted to it.

    Attributes
    ----------
    fade : Fade or None
        Of the values up to the knee, or of all; None for fewer than four.
    knee : Knee or None
        None for fewer than eight values.
    life : float or None
        Age at 80 % of the first capacity; None if the cell was above it at the end.
    """

    course: Course
    fade: Fade | None
    knee: Knee | None
    life: float | None

    @property
    def reached(self) -> float:
        """The cell's age at its last value."""
        return float(self.course.age[-1])

    def lost_percent(self, age: float) -> float:
        """Return the capacity lost at an age that the cell has reached, interpolated."""
        return 100.0 * (1.0 - float(np.interp(age, self.course.age, self.course.share)))

    def to_dict(self) -> dict[str, Any]:
        """Return the scorecard's entry."""
        course, fade, knee = self.course, self.fade, self.knee
        return {
            "serial": course.serial, "supplier": course.supplier, "lot": course.lot,
            "ages": course.age.tolist(), "capacities": course.capacity.tolist(),
            "last_share_percent": 100.0 * float(course.share[-1]),
            "life": self.life, "running": self.life is None,
            "fade": None if fade is None else {
                "root_percent": 100.0 * fade.root, "root_error": _percent(fade.errors[0]),
                "line_percent": 100.0 * fade.line, "line_error": _percent(fade.errors[1]),
                "residual_percent": 100.0 * fade.residual, "to_age": self._fitted_to(),
            },
            "knee": None if knee is None else {
                "is_there": knee.is_there, "place": knee.place, "interval": knee.interval,
                "slopes_percent": [100.0 * slope / course.capacity[0] for slope in knee.slopes],
                "gain": knee.gain, "needed": knee.needed,
            },
            "note": self._note(), "seals": list(course.seals),
        }  # fmt: skip

    def _fitted_to(self) -> float:
        return float(_before_knee(self.course, self.knee)[-1])

    def _note(self) -> str:
        count = len(self.course.age)
        if count < LEAST_POINTS:
            return f"{count} values: {LEAST_POINTS} or more make a course"
        if count < LEAST_FOR_KNEE:
            return f"{count} values: {LEAST_FOR_KNEE} or more show whether there is a knee"
        return ""


def _percent(value: float) -> float | None:
    return 100.0 * value if math.isfinite(value) else None


def _before_knee(course: Course, knee: Knee | None) -> Array:
    """Return the ages that the fade is fitted to: up to the knee where there is one."""
    if knee is not None and knee.is_there:
        early = course.age[course.age <= knee.place]
        if len(early) >= LEAST_POINTS:
            return early
    return course.age


def aged(course: Course) -> Aged:
    """Fit one cell's course."""
    knee = find_knee(course.age, course.capacity) if len(course.age) >= LEAST_FOR_KNEE else None
    fade = None
    if len(course.age) >= LEAST_POINTS:
        ages = _before_knee(course, knee)
        fade = fit_fade(ages, course.capacity[: len(ages)])
    return Aged(course, fade, knee, _life(course))


def _life(course: Course) -> float | None:
    """Return the age at which a cell fell below 80 % for good, between two values by a line."""
    share = course.share
    above = np.flatnonzero(share >= END_OF_LIFE)
    last = int(above[-1])
    if last == len(share) - 1:
        return None
    part = (share[last] - END_OF_LIFE) / (share[last] - share[last + 1])
    return float(course.age[last] + part * (course.age[last + 1] - course.age[last]))


def ageing_entry(
    found: Sequence[Course], left_out: Sequence[str], suppliers: Sequence[str]
) -> dict[str, Any] | None:
    """Return the scorecard's ``ageing``; None if no cell was followed while it aged."""
    if not found:
        return None
    cells = [aged(course) for course in found]
    groups = {name: [c for c in cells if c.course.supplier == name] for name in suppliers}
    groups = {name: group for name, group in groups.items() if group}
    common = min(cell.reached for cell in cells)
    return {
        "axis": found[0].axis,
        "end_of_life_percent": 100.0 * END_OF_LIFE,
        "common_age": common,
        "suppliers": {
            name: _supplier(group, common, found[0].axis) for name, group in groups.items()
        },
        "compared": _compared(groups, common),
        "cells": [cell.to_dict() for cell in cells],
        "left_out": list(left_out),
    }


def _supplier(cells: Sequence[Aged], common: float, axis: str) -> dict[str, Any]:
    lives = [cell.life for cell in cells if cell.life is not None]
    running = [cell.reached for cell in cells if cell.life is None]
    lots = sorted({cell.course.lot for cell in cells} - {NO_LOT})
    knees = [cell.knee.place for cell in cells if cell.knee is not None and cell.knee.is_there]
    entry = {
        "cells": len(cells), "lots": len(lots), "failed": len(lives), "running": len(running),
        "reached": [min(cell.reached for cell in cells), max(cell.reached for cell in cells)],
        "lost": _lost(cells, common), "mean_cell": _mean_cell(cells, bool(knees)),
        "knees": {
            "cells": len(knees), "looked_at": sum(cell.knee is not None for cell in cells),
            "median": float(np.median(knees)) if knees else None,
        },
        "weibull": _weibull(lives, running), "none_failed": _none_failed(lives, running),
        "first_capacity": _first_capacity(cells, common),
    }  # fmt: skip
    entry["statement"] = _statement(entry, axis)
    return entry


# How much was lost, at one age for all


def _lost(cells: Sequence[Aged], common: float) -> dict[str, Any]:
    """Return the capacity lost at the age that all cells have reached."""
    values = [cell.lost_percent(common) for cell in cells]
    sample = LotSample.of(values, [cell.course.lot for cell in cells])
    interval, basis = _interval(sample)
    return {
        "mean_percent": sample.mean, "interval": interval, "basis": basis,
        "sd_cell_percent": math.sqrt(sample.within) if sample.within is not None else None,
        "sd_lot_means_percent": None if sample.lot_mean_variance is None
        else math.sqrt(sample.lot_mean_variance),
    }  # fmt: skip


def _interval(sample: LotSample) -> tuple[Interval | None, str]:
    """Return the interval of the mean: of lots, or of the cells of the only lot."""
    if sample.df_between:
        return sample.mean_interval() if sample.varies else None, "lots"
    if sample.cells < 2 or not sample.within:
        return None, "no interval: one cell, or equal values"
    error = math.sqrt(sample.within / sample.cells)
    return mean_interval(sample.mean, error, sample.cells - 1), "cells of one lot: not of the next"


def _mean_cell(cells: Sequence[Aged], has_knees: bool) -> dict[str, Any] | None:
    """Return the random-coefficient model: the mean cell's fade, spread over cells, and life.

    Each cell has its own root and line, scattered around the supplier's (Swamy 1970). The spread
    of the coefficients is their covariance over cells less the mean of their own errors'.
    """
    fitted = [_free_fit(c.course, c.knee) for c in cells if len(c.course.age) > LEAST_POINTS]
    usable = [item for item in fitted if item is not None]
    if len(usable) < 2:
        return None
    theta = np.array([item[0] for item in usable])
    errors = np.mean([item[1] for item in usable], axis=0)
    spread = np.cov(theta.T) - errors
    values, vectors = np.linalg.eigh(spread)
    spread = (vectors * np.maximum(values, 0.0)) @ vectors.T
    kept = [c for c, item in zip(
        [c for c in cells if len(c.course.age) > LEAST_POINTS], fitted, strict=True
    ) if item is not None]  # fmt: skip
    lots = [cell.course.lot for cell in kept]
    names = sorted(set(lots))
    units = theta if len(names) < 2 else np.array(
        [theta[[lot == name for lot in lots]].mean(axis=0) for name in names]
    )  # fmt: skip
    ages = np.linspace(0.0, REACH * max(cell.reached for cell in kept), 801)[1:]
    lost = units @ np.stack([np.sqrt(ages), ages])
    mean = lost.mean(axis=0)
    reach = t_quantile(0.5 + CONFIDENCE / 2, len(units) - 1) * lost.std(axis=0, ddof=1)
    reach = reach / math.sqrt(len(units))
    middle = units.mean(axis=0)
    life = None if has_knees else _crossing(ages, mean)
    return {
        "cells": len(usable), "basis": "lots" if len(names) > 1 else "cells",
        "root_percent": 100.0 * float(middle[0]), "line_percent": 100.0 * float(middle[1]),
        "root_sd_percent": 100.0 * math.sqrt(max(float(spread[0, 0]), 0.0)),
        "line_sd_percent": 100.0 * math.sqrt(max(float(spread[1, 1]), 0.0)),
        "life": life, "life_interval": None if life is None
        else [_crossing(ages, mean + reach), _crossing(ages, mean - reach)],
        "is_extrapolated": life is not None and life > max(cell.reached for cell in kept),
        "note": "a knee: what the cells did before it says nothing of their life" if has_knees
        else "" if life is not None
        else f"80 % lies beyond {REACH:g} times the age that cells have reached: not extrapolated",
    }  # fmt: skip


def _free_fit(course: Course, knee: Knee | None) -> tuple[Array, Array] | None:
    """Return root and line as shares of the first capacity, free in sign, and their covariance."""
    ages = _before_knee(course, knee)
    values = course.capacity[: len(ages)]
    df = len(ages) - 3
    if df < 1:
        return None
    columns = np.column_stack([np.ones_like(ages), -np.sqrt(ages), -ages])
    found, _, rank, _ = np.linalg.lstsq(columns, values, rcond=None)
    if rank < 3 or not found[0] > 0:
        return None
    variance = float(np.sum((values - columns @ found) ** 2)) / df
    covariance = variance * np.linalg.inv(columns.T @ columns)
    return found[1:] / found[0], covariance[1:, 1:] / found[0] ** 2


def _crossing(ages: Array, lost: Array) -> float | None:
    """Return the first age at which so much is lost that life is over; None if never."""
    beyond = np.flatnonzero(lost >= 1.0 - END_OF_LIFE)
    if not len(beyond):
        return None
    place = int(beyond[0])
    if not place:
        return float(ages[0])
    low, high = lost[place - 1], lost[place]
    part = (1.0 - END_OF_LIFE - low) / (high - low)
    return float(ages[place - 1] + part * (ages[place] - ages[place - 1]))


# Life, with cells still running


def _weibull(lives: Sequence[float], running: Sequence[float]) -> dict[str, Any] | None:
    try:
        found: Weibull = fit_weibull(lives, running)
    except BatterylabError:
        return None
    return {
        "shape": found.shape, "scale": found.scale,
        "life_10": found.life(0.1), "life_10_interval": found.life_interval(0.1),
        "life_50": found.life(0.5), "life_50_interval": found.life_interval(0.5),
        "note": "cells taken as independent: the interval leaves out how lots differ",
    }  # fmt: skip


def _none_failed(lives: Sequence[float], running: Sequence[float]) -> dict[str, Any] | None:
    """Return what cells that all live say: the share that may fail by the age all reached."""
    if lives or not running:
        return None
    share = 1.0 - (1.0 - CONFIDENCE) ** (1.0 / len(running))
    return {"age": min(running), "cells": len(running), "share_failed_upper_95": share}


def _first_capacity(cells: Sequence[Aged], common: float) -> dict[str, Any] | None:
    """Return how the first capacity goes with life, or with the loss where too few have ended."""
    ended = [cell for cell in cells if cell.life is not None]
    by_life = len(ended) >= LEAST_FOR_CORRELATION
    used = ended if by_life else list(cells)
    if len(used) < LEAST_FOR_CORRELATION:
        return None
    first = np.array([cell.course.capacity[0] for cell in used])
    other = np.array([cell.life if by_life else -cell.lost_percent(common) for cell in used])
    if not (np.ptp(first) > 0 and np.ptp(other) > 0):
        return None
    r = float(np.corrcoef(first, other)[0, 1])
    reach = float(special.ndtri(0.5 + CONFIDENCE / 2)) / math.sqrt(len(used) - 3)
    middle = math.atanh(min(max(r, -1 + 1e-12), 1 - 1e-12))
    return {
        "with": "life" if by_life else "capacity kept", "cells": len(used), "correlation": r,
        "interval": [math.tanh(middle - reach), math.tanh(middle + reach)],
    }  # fmt: skip


# Between suppliers


def _compared(groups: dict[str, list[Aged]], common: float) -> list[dict[str, Any]]:
    """Hold suppliers' losses at the common age against each other, on their lots' means."""
    samples = {
        name: LotSample.of([c.lost_percent(common) for c in group], [c.course.lot for c in group])
        for name, group in groups.items()
    }
    names = list(samples)
    rows = []
    for number, a in enumerate(names):
        for b in names[number + 1 :]:
            found = welch(samples[a].means, samples[b].means)
            rows.append({
                "a": a, "b": b,
                "difference_percent": samples[a].mean - samples[b].mean,
                "interval": None if found is None else found.interval(),
                "p_value": None if found is None else found.p_value,
                "statement": _who(a, b, None if found is None else found.p_value,
                                  samples[a].mean - samples[b].mean),
            })  # fmt: skip
    return rows


def _who(a: str, b: str, p_value: float | None, difference: float) -> str:
    if p_value is None:
        return f"{a} and {b}: not compared: it takes two lots of each"
    if p_value > 1.0 - CONFIDENCE:
        return f"{a} and {b}: no difference in fade is shown (p = {p_value:.2g})"
    return f"{b if difference > 0 else a} fades less (p = {p_value:.2g})"


def _statement(entry: dict[str, Any], axis: str) -> str:
    """Return in one line what is known of a supplier's life."""
    cells, failed = entry["cells"], entry["failed"]
    low, high = entry["reached"]
    span = f"{high:.4g}" if high - low < 0.005 * high else f"{low:.4g} to {high:.4g}"
    said = f"{failed} of {cells} cells fell below 80 %, followed for {span} {axis}"
    weibull, none = entry["weibull"], entry["none_failed"]
    if weibull is not None:
        return (f"{said}; half of the cells reach {weibull['life_50']:.4g} "
                f"({weibull['life_50_interval'][0]:.4g} to {weibull['life_50_interval'][1]:.4g}) "
                f"{axis}, nine tenths {weibull['life_10']:.4g} "
                f"({weibull['life_10_interval'][0]:.4g} to {weibull['life_10_interval'][1]:.4g})"
                )  # fmt: skip
    if none is not None:
        return (f"{said}; with 95 % confidence at most {100 * none['share_failed_upper_95']:.2g} % "
                f"of such cells fail by {none['age']:.4g} {axis}")  # fmt: skip
    return f"{said}: too few have ended for a distribution of life"
