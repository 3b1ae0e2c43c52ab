r"""DC resistance at named times after the start of a pulse, at a state of charge.

.. math:: R(t) = \frac{U_0 - U(t)}{I_0 - I(t)}

with :math:`U_0, I_0` the last sample of the rest before the pulse. After ISO 12405-4:2018 and
IEC 62660-1:2018 (10 s pulses from rest). The state of charge is counted from the last full
state and given relative to the capacity measured in the same recording.
"""

import math
import re
from dataclasses import dataclass

import numpy as np

from batterylab.features.accuracy import NOT_STATED, noise, quadrature
from batterylab.features.capacity import capacity_discharges
from batterylab.features.feature import Feature
from batterylab.features.ledger import Ledger
from batterylab.recording import StepRow

NAMED_TIMES_S = (1.0, 10.0, 30.0)
#: a sample this near a named time, as a share of it, stands for it
NEAR = 0.10
#: a sample this near is the time itself
AT = 0.02
#: in files without measures: how long a pulse lasts, its least rate, and the rest before it
PULSE_s = (0.9, 60.0)
LEAST_RATE = 0.2
LEAST_REST_s = 60.0
SOC_STEP_percent = 5.0
MIDDLE_percent = 50.0

_MEASURE = re.compile(r"dcir(?:_charge)?(?:_\d+s)?(?:_\d+soc)?(?:_(?P<where>[a-z][a-z0-9_]*))?\Z")


@dataclass(frozen=True)
class Pulse:
    """A pulse from rest.

    Attributes
    ----------
    step, rest : StepRow
        The pulse and the rest before it.
    direction : str
        ``""`` for a discharge, ``charge_`` for a charge.
    where : str
        What the measure's name adds, such as ``as_delivered``; empty if nothing.
    soc_percent : float
        At the start of the pulse; NaN if the recording has no full state before.
    soc_basis : str
        In words, what the state of charge is counted from.
    """

    step: StepRow
    rest: StepRow
    direction: str
    where: str
    soc_percent: float
    soc_basis: str


def pulses_of(ledger: Ledger) -> list[Pulse]:
    """Return the pulses of a recording, by measure, else by shape, in the order of time.

    Without measures, a pulse is a charge or discharge of at most 60 s and at least a fifth of
    the nominal capacity per hour, after a rest of at least a minute.
    """
    steps = ledger.recording.steps
    has_measures = any(step.measure for step in steps)
    reference = _reference(ledger)
    pulses = []
    for step in steps:
        rest = ledger.rest_before(step)
        if rest is None:
            continue
        match = _MEASURE.match(step.measure)
        if match is None and (has_measures or not _is_pulse(ledger, step, rest)):
            continue
        charges = float(np.mean(ledger.current_A[step.rows])) > 0
        soc, basis = _soc(ledger, rest.last_row, reference)
        where = (match["where"] or "") if match else ""
        pulses.append(Pulse(step, rest, "charge_" if charges else "", where, soc, basis))
    return pulses


def _is_pulse(ledger: Ledger, step: StepRow, rest: StepRow) -> bool:
    nominal_Ah = ledger.number("nominal_capacity_Ah")
    least_A = LEAST_RATE * nominal_Ah if math.isfinite(nominal_Ah) else 0.0
    mean_A = abs(float(np.mean(ledger.current_A[step.rows])))
    return (
        step.kind in ("charge", "discharge", "pulse")
        and PULSE_s[0] <= step.duration_s <= PULSE_s[1]
        and rest.duration_s >= LEAST_REST_s
        and mean_A > 0
        and mean_A >= least_A
    )


def _reference(ledger: Ledger) -> tuple[float, str]:
    """Return the capacity that states of charge refer to, in Ah, and what it is."""
    found = capacity_discharges(ledger)
    if found is not None:
        return float(np.mean([abs(s.charge_Ah) for s in found.chosen])), "measured"
    for name in ("rated", "nominal"):
        value = ledger.number(f"{name}_capacity_Ah")
        if math.isfinite(value):
            return value, name
    return math.nan, ""


def _soc(ledger: Ledger, row: int, reference: tuple[float, str]) -> tuple[float, str]:
    counted = ledger.since_full_Ah(row)
    capacity_Ah, name = reference
    if counted is None or not math.isfinite(capacity_Ah):
        return math.nan, "state of charge not known"
    return 100.0 * (1.0 + counted[0] / capacity_Ah), f"counted from full over {name} capacity"


@dataclass(frozen=True)
class Sample:
    """Voltage and current at a time after a step's start, and how they were come by."""

    voltage_V: float
    current_A: float
    how: str


def sample_at(ledger: Ledger, step: StepRow, after_s: float) -> Sample | None:
    """Return what a step read `after_s` after its start, or None.

    A sample within 2 % of the time is taken as it is. Else the neighbours are interpolated, in
    the logarithm of time, if they lie no further apart than the time itself. Else a sample
    within 10 % stands for it. Nothing is extrapolated.
    """
    time_s = ledger.time_s[step.rows] - step.start_s
    voltage_V, current_A = ledger.voltage_V[step.rows], ledger.current_A[step.rows]
    nearest = int(np.argmin(np.abs(time_s - after_s)))
    off = abs(float(time_s[nearest]) - after_s) / after_s
    if off <= AT:
        return Sample(float(voltage_V[nearest]), float(current_A[nearest]), "sampled")
    right = int(np.searchsorted(time_s, after_s))
    if 0 < right < len(time_s):
        low, high = float(time_s[right - 1]), float(time_s[right])
        if low > 0 and high - low <= after_s:
            share = math.log(after_s / low) / math.log(high / low)
            volts = voltage_V[right - 1] + share * (voltage_V[right] - voltage_V[right - 1])
            amps = current_A[right - 1] + share * (current_A[right] - current_A[right - 1])
            return Sample(float(volts), float(amps), "interpolated")
    if off <= NEAR:
        how = f"sampled at {time_s[nearest]:.3g} s"
        return Sample(float(voltage_V[nearest]), float(current_A[nearest]), how)
    return None


def resistance_mOhm(ledger: Ledger, pulse: Pulse, after_s: float) -> Feature | None:
    r"""Return the resistance of a pulse at a time, or None where it was not sampled.

    Notes
    -----
    Offsets cancel in both differences. With the gains :math:`r_U, r_I` and the noise
    :math:`n_U` (from the rest before) and :math:`n_I` (from the pulse) of single samples,

    .. math:: u^2 = R^2 (r_U^2 + r_I^2) + (2 n_U^2 + 2 R^2 n_I^2) / (I_0 - I)^2 + r_c^2 ,

    with :math:`r_c` the repeatability of the fixture's contacts, where the bench states it
    (``contact`` in ``bench.yaml``).
    """
    sample = sample_at(ledger, pulse.step, after_s)
    row = pulse.rest.last_row
    if sample is None:
        return None
    amps = float(ledger.current_A[row]) - sample.current_A
    if abs(amps) <= abs(float(ledger.current_A[row])) or amps == 0.0:
        return None
    ohm = (float(ledger.voltage_V[row]) - sample.voltage_V) / amps
    current, voltage = ledger.accuracy("current_A"), ledger.accuracy("voltage_V")
    contact = ledger.accuracy("contact_ohm")
    volts_noise = noise(ledger.voltage_V[pulse.rest.rows][-30:])
    amps_noise = noise(ledger.current_A[pulse.step.rows])
    uncertainty = quadrature(
        ohm * voltage.reading,
        ohm * current.reading,
        math.sqrt(2.0) * volts_noise / amps,
        math.sqrt(2.0) * ohm * amps_noise / amps,
        contact.offset if contact.is_known else 0.0,
    )
    return Feature(
        f"dcir_{pulse.direction}{after_s:.0f}s_mOhm",
        1e3 * ohm,
        1e3 * uncertainty,
        _method(pulse, after_s, sample, abs(amps), math.isfinite(uncertainty)),
        (pulse.rest.step_index, pulse.step.step_index),
        pulse.soc_percent,
    )


def _method(pulse: Pulse, after_s: float, sample: Sample, amps: float, stated: bool) -> str:
    soc = f"{pulse.soc_percent:.1f} % SOC " if math.isfinite(pulse.soc_percent) else ""
    way = "charge" if pulse.direction else "discharge"
    text = (
        f"{way} pulse of {amps:.3g} A from rest, {after_s:g} s {sample.how}; {soc}{pulse.soc_basis}"
    )
    return text if stated else f"{text}; {NOT_STATED}"


def resistance_features(ledger: Ledger) -> list[Feature]:
    """Return the resistances of all pulses, named by time and state of charge.

    ``dcir_10s_50soc_mOhm`` is the 10-s value at a state of charge rounded to 5 %, and
    ``dcir_10s_mOhm`` the one nearest 50 %; ``dcir_charge_`` marks charge pulses. A pulse whose
    measure says where it stands, such as ``dcir_as_delivered``, is named after that. Where a
    recording repeats a pulse at the same state of charge, the first counts.
    """
    by_name: dict[str, list[Feature]] = {}
    middle: dict[str, Feature] = {}
    for pulse in pulses_of(ledger):
        for after_s in NAMED_TIMES_S:
            feature = resistance_mOhm(ledger, pulse, after_s)
            if feature is None:
                continue
            stem = feature.name.removesuffix("_mOhm")
            where = pulse.where or _soc_name(pulse.soc_percent)
            name = f"{stem}_{where}_mOhm" if where else feature.name
            by_name.setdefault(name, []).append(_renamed(feature, name))
            if not pulse.where and _is_nearer(feature, middle.get(feature.name)):
                middle[feature.name] = feature
    named = {name: _first_of(features) for name, features in by_name.items()}
    return [*middle.values(), *(f for name, f in named.items() if name not in middle)]


def _soc_name(soc_percent: float) -> str:
    if not math.isfinite(soc_percent):
        return ""
    rounded = SOC_STEP_percent * round(soc_percent / SOC_STEP_percent)
    return f"{rounded:.0f}soc" if rounded >= 0 else ""


def _is_nearer(feature: Feature, held: Feature | None) -> bool:
    if held is None:
        return True
    here, there = (abs(f.soc_percent - MIDDLE_percent) for f in (feature, held))
    return here < there - SOC_STEP_percent / 2 or (math.isfinite(here) and math.isnan(there))


def _renamed(feature: Feature, name: str) -> Feature:
    return Feature(**{**vars(feature), "name": name})


def _first_of(features: list[Feature]) -> Feature:
    first = features[0]
    if len(features) == 1:
        return first
    parts = tuple((f.steps[-1], f.value) for f in features)
    method = f"{first.method}; first of {len(features)}"
    return Feature(**{**vars(first), "method": method, "parts": parts})
