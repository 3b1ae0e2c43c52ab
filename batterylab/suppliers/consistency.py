"""Consistency in physical terms: what in the cells makes their capacity and resistance differ.

The share of a cause k in the spread of capacity C is ``s_k cov(p_k, C) / var(C)`` within lots:
p_k is the fitted parameter, s_k what a unit of it does to the capacity, from the electrodes'
potentials at both ends of the voltage window. Errors of the fitted parameters are independent
of the measured capacity and do not bias the covariance, however large they are; they widen its
interval. The shares and what they leave over add up to one.

A cathode brings its lithium with it: "cathode loading" is the coating with the lithium that its
supplier's mean cell holds per Ah of cathode, "lithium inventory" what a cell holds more or less
than that, such as what formation took. A share below zero belongs to a cause that varies
against the others.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from batterylab.suppliers.estimates import Estimate
from batterylab.suppliers.nodes import CONFIDENCE, Array, Interval, t_quantile
from batterylab.suppliers.sampling import Reading

CAPACITY, RESISTANCE = "capacity_Ah", "dcir_10s_mOhm"
PULSE_s = 10.0
#: the discharge that measures capacity, as a rate
RATE_per_h = 1.0 / 3.0
REST = "not explained"
CATHODE, ANODE, LITHIUM = "cathode loading", "anode loading", "lithium inventory"
CAUSES = {
    "positive_capacity_Ah": CATHODE,
    "negative_capacity_Ah": ANODE,
    "lithium_inventory_Ah": LITHIUM,
}
_LEAST_CELLS = 5
_STEP = 0.004

Fit = Mapping[str, Any]
Slope = Callable[[float], float]


@dataclass(frozen=True)
class Potentials:
    """Half-cell potentials over stoichiometry, on one even grid."""

    first: float
    step: float
    negative_V: Array
    positive_V: Array

    def slope(self, electrode: str, at: float) -> float:
        """Return dU/dx of an electrode, over a step of 0.8 % of its range."""
        values = self.negative_V if electrode == "negative" else self.positive_V
        grid = self.first + self.step * np.arange(len(values))
        ends = np.interp([at - _STEP, at + _STEP], grid, values)
        return float(ends[1] - ends[0]) / (2.0 * _STEP)


def sensitivities(fit: Fit, potentials: Potentials, amps: float) -> dict[str, float] | None:
    """Return what a unit of each parameter does to the capacity between fixed voltages.

    At each end ``U_p(y) - U_n(x)`` is held and ``x Q_n + y Q_p`` is the lithium inventory;
    both are differentiated. A resistance ends the discharge early by its voltage.

    Parameters
    ----------
    fit : mapping
        Of the model ``ocv``: its values.
    potentials : Potentials
        The curves it was fitted with.
    amps : float
        Current of the discharge, positive.

    Returns
    -------
    dict or None
        Ah per Ah by parameter, and Ah per mOhm as ``resistance_mOhm``.
    """
    values = fit["values"]
    q_n, q_p = float(values["negative_capacity_Ah"]), float(values["positive_capacity_Ah"])
    moved: dict[str, dict[str, float]] = {}
    for end, (x, y) in {
        "full": (float(values["x_high"]), float(values["y_high"])),
        "empty": (float(values["x_low"]), float(values["y_low"])),
    }.items():
        up, un = potentials.slope("positive", y), potentials.slope("negative", x)
        rise = -q_n / q_p * up - un
        if not rise > 0:
            return None
        moved[end] = {
            "lithium_inventory_Ah": -up / q_p / rise,
            "positive_capacity_Ah": up * y / q_p / rise,
            "negative_capacity_Ah": up * x / q_p / rise,
            "resistance_mOhm": 1e-3 * amps / rise if end == "empty" else 0.0,
        }
    found = {name: q_n * (moved["full"][name] - moved["empty"][name]) for name in moved["full"]}
    found["negative_capacity_Ah"] += float(values["x_high"]) - float(values["x_low"])
    return found


@dataclass(frozen=True)
class Share:
    """A cause's share of a variance, with its interval and the spread it makes."""

    cause: str
    share: float
    interval: Interval
    sd: float

    def to_dict(self) -> dict[str, Any]:
        """Return the scorecard's entry; `sd` is the spread of the feature from this cause."""
        return {"cause": self.cause, "share_percent": 100.0 * self.share,
                "share_percent_interval": [100.0 * end for end in self.interval],
                "sd": self.sd}  # fmt: skip


def shares(
    target: Array, parts: Mapping[str, Array], lots: Sequence[str], reliability: float = 1.0
) -> list[Share]:
    """Return each part's share of the variance of a target within lots, and what is left.

    Parameters
    ----------
    target : ndarray, shape (n,)
    parts : mapping of str to ndarray
        What each cause adds to the target, in its unit.
    lots : sequence of str
    reliability : float
        Share of the target's variance that is the cells' own; the rest is the bench's.

    Returns
    -------
    list of Share
        Empty with fewer than five cells, or three degrees of freedom, or equal values.
    """
    count = len(target)
    y = _within(target, lots)
    df = count - len(set(lots)) - 1
    squares = float(y @ y)
    if count < _LEAST_CELLS or df < 3 or not squares > 0 or not reliability > 0:
        return []
    rest = target - np.sum(list(parts.values()), axis=0)
    # the bench's scatter is in the target and so in what is left, not in a cause
    found = [_share(cause, _within(part, lots), y, squares, df, reliability)
             for cause, part in parts.items()]  # fmt: skip
    left = _share(REST, _within(rest, lots), y, squares, df, 1.0)
    remaining = 1.0 - math.fsum(item.share for item in found)
    half = 0.5 * (left.interval[1] - left.interval[0]) / reliability
    return [*found, Share(REST, remaining, (remaining - half, remaining + half), left.sd)]


def _share(
    cause: str, part: Array, y: Array, squares: float, df: int, reliability: float
) -> Share:
    slope = float(part @ y) / squares
    residuals = part - slope * y
    error = math.sqrt(float(residuals @ residuals) / df / squares)
    reach = t_quantile(0.5 + CONFIDENCE / 2, df) * error
    spread = math.sqrt(max(slope, 0.0) * squares / (df + 1))
    ends = (slope - reach) / reliability, (slope + reach) / reliability
    return Share(cause, slope / reliability, ends, spread)


def _within(values: Array, lots: Sequence[str]) -> Array:
    x = np.array(values, dtype=np.float64)
    names = np.asarray(lots)
    for lot in set(lots):
        x[names == lot] -= x[names == lot].mean()
    return x


def consistency(
    estimates: Mapping[str, Mapping[str, Estimate]],
    fits: Sequence[Fit],
    potentials: Potentials | None,
    nominal_Ah: float,
) -> dict[str, Any] | None:
    """Return what the spread of capacity and resistance comes from, by supplier.

    Parameters
    ----------
    estimates : mapping
        By feature and supplier.
    fits : sequence of mapping
        As `batterylab.report.fits.kept_fits` returns them.
    potentials : Potentials or None
        The half-cell curves of the ``ocv`` fits; without them capacity is not split up.
    nominal_Ah : float

    Returns
    -------
    dict or None
        The scorecard's ``consistency``; None without fits.
    """
    by_model: dict[str, dict[str, Fit]] = {}
    for fit in fits:
        if fit.get("converged") is not False and not fit.get("doubtful"):
            by_model.setdefault(str(fit.get("model")), {})[str(fit.get("serial"))] = fit
    if not by_model:
        return None
    amps = RATE_per_h * nominal_Ah
    suppliers: dict[str, dict[str, Any]] = {}
    for feature, split in ((CAPACITY, _capacity), (RESISTANCE, _resistance)):
        for name, found in estimates.get(feature, {}).items():
            readings, parts, basis = split(found.readings, by_model, potentials, amps)
            target = np.array([reading.value for reading in readings])
            if not len(target):
                continue
            own = shares(target, parts, [r.lot for r in readings], _reliability(found))
            if own:
                suppliers.setdefault(name, {})[feature] = {
                    "cells": len(target), "basis": basis,
                    "shares": [item.to_dict() for item in own],
                    "statement": _statement(own),
                }  # fmt: skip
    return {"suppliers": suppliers, "models": sorted(by_model)} if suppliers else None


def _reliability(found: Estimate) -> float:
    within = found.sample.within or 0.0
    if not found.corrected or found.sd_cell is None or not within > 0:
        return 1.0
    return max(found.sd_cell**2 / within, 0.1)


_Split = tuple[list[Reading], dict[str, Array], str]


def _capacity(
    readings: Sequence[Reading], models: Mapping[str, Mapping[str, Fit]],
    potentials: Potentials | None, amps: float,
) -> _Split:  # fmt: skip
    curves = models.get("ocv", {})
    if potentials is None:
        return [], {}, ""
    known = [r for r in readings if r.serial in curves]
    slopes = [sensitivities(curves[r.serial], potentials, amps) for r in known]
    kept = [(r, s) for r, s in zip(known, slopes, strict=True) if s is not None]
    if not kept:
        return [], {}, ""
    mean = {name: float(np.mean([s[name] for _, s in kept])) for name in kept[0][1]}
    fitted = {
        name: np.array([float(curves[r.serial]["values"][name]) for r, _ in kept])
        for name in CAUSES
    }
    cathode, lithium = fitted["positive_capacity_Ah"], fitted["lithium_inventory_Ah"]
    held = float(lithium.mean() / cathode.mean())
    with_lithium = mean["positive_capacity_Ah"] + held * mean["lithium_inventory_Ah"]
    parts = {
        CATHODE: with_lithium * cathode,
        ANODE: mean["negative_capacity_Ah"] * fitted["negative_capacity_Ah"],
        LITHIUM: mean["lithium_inventory_Ah"] * (lithium - held * cathode),
    }
    circuits = models.get("circuit", {})
    if all(r.serial in circuits for r, _ in kept):
        ohmic = [float(circuits[r.serial]["values"]["r_sum_mOhm"]) for r, _ in kept]
        parts["resistance"] = mean["resistance_mOhm"] * np.array(ohmic)
    basis = (
        "fits of the open-circuit voltage"
        + (" and of pulses" if "resistance" in parts else "")
        + "; sensitivities from the half-cell curves, in Ah per Ah: "
        + f"{CATHODE} with its lithium {with_lithium:+.2f}, "
        + f"{ANODE} {mean['negative_capacity_Ah']:+.2f}, "
        + f"{LITHIUM} {mean['lithium_inventory_Ah']:+.2f}"
    )
    return [r for r, _ in kept], parts, basis


def _resistance(
    readings: Sequence[Reading], models: Mapping[str, Mapping[str, Fit]],
    potentials: Potentials | None, amps: float,
) -> _Split:  # fmt: skip
    for model in ("spme", "spm"):
        found = models.get(model, {})
        known = [r for r in readings if r.serial in found]
        if len(known) >= _LEAST_CELLS:
            values = [found[r.serial]["values"] for r in known]
            parts = {"contact resistance": np.array([float(v["contact_mOhm"]) for v in values])}
            curves = models.get("ocv", {})
            if potentials is not None and all(r.serial in curves for r in known):
                for electrode in ("negative", "positive"):
                    parts[f"diffusion, {electrode} electrode"] = np.array([
                        _diffusion_mOhm(v, curves[r.serial]["values"], potentials, electrode)
                        for r, v in zip(known, values, strict=True)
                    ])  # fmt: skip
            return known, parts, f"fits of the model {model}; left over: reaction, electrolyte"
    circuits = models.get("circuit", {})
    known = [r for r in readings if r.serial in circuits]
    values = [circuits[r.serial]["values"] for r in known]
    if not known or "r2_mOhm" not in values[0]:
        return [], {}, ""
    parts = {
        "contact and ohmic resistance": np.array([float(v["r0_mOhm"]) for v in values]),
        "charge transfer": np.array([_after(v, 1) for v in values]),
        "diffusion": np.array([_after(v, 2) for v in values]),
    }
    return known, parts, "fits of a circuit to pulses: r0, and both time constants at 10 s"


def _after(values: Mapping[str, Any], pair: int) -> float:
    """Return what a resistor with its capacitor adds within the pulse, in mOhm."""
    tau = float(values[f"tau{pair}_s"])
    return float(values[f"r{pair}_mOhm"]) * -math.expm1(-PULSE_s / tau)


def _diffusion_mOhm(
    values: Mapping[str, Any], ocv: Mapping[str, Any], potentials: Potentials, electrode: str
) -> float:
    """Return the diffusion in a sphere's part of a 10 s resistance, near half charge.

    At its surface the stoichiometry moves by ``(I/Q) (2/3) sqrt(t τ/π)`` with ``τ = R²/D``
    (short times).
    """
    low, high = ("x_low", "x_high") if electrode == "negative" else ("y_high", "y_low")
    middle = 0.5 * (float(ocv[low]) + float(ocv[high]))
    charge = 3600.0 * float(values[f"{electrode}_capacity_Ah"])
    tau = float(values[f"{electrode}_diffusion_time_s"])
    moved = 2.0 / 3.0 * math.sqrt(PULSE_s * tau / math.pi) / charge
    return 1e3 * abs(potentials.slope(electrode, middle)) * moved


def _statement(found: Sequence[Share]) -> str:
    """Say what to fix first, if the data say so."""
    causes = [item for item in found if item.cause != REST]
    proven = [item for item in causes if item.interval[0] > 0]
    if not proven:
        return "no cause is shown: the intervals of all shares reach zero"
    first = max(proven, key=lambda item: item.share)
    low, high = (100.0 * end for end in first.interval)
    over = "; above 100 %: other causes vary against it" if first.share > 1.0 else ""
    return (
        f"{first.cause} makes {100 * first.share:.0f} % ({low:.0f} to {high:.0f}) of the variance "
        f"between cells of a lot{over}"
    )
