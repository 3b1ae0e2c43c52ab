r"""What a cell gives in the cold, the heat, fast, or after a wait, as a share of its capacity.

A protocol that measures ``capacity`` and, later in the same recording, a full discharge by
another name, such as ``capacity_cold`` or ``retained``, yields ``capacity_cold_share_percent``:
the charge of that discharge in percent of the capacity. Cycles measured as ``cycle`` are counted,
and the 500th and the 1000th give ``cycle_500_share_percent`` and ``cycle_1000_share_percent``.
"""

import math
from collections.abc import Sequence

import numpy as np

from batterylab.features.accuracy import NOT_STATED, quadrature
from batterylab.features.capacity import CUT_SHORT, capacity_discharges, window_terms
from batterylab.features.feature import Feature
from batterylab.features.ledger import Ledger, Stretch

#: the measure of the cycles of a life test, and after how many a share is taken
CYCLE = "cycle"
CYCLES = (500, 1000)
#: stands for the capacity where a protocol measures none by that name
BEFORE = "capacity_before"


def share_features(ledger: Ledger) -> list[Feature]:
    """Return the shares of the capacity that a recording's other full discharges gave.

    Of several discharges with one measure the last counts. What was stopped, or ended by its
    time, measures nothing.
    """
    base = _base(ledger)
    if not base:
        return []
    found: dict[str, tuple[Stretch, str]] = {}
    cycles = 0
    for step in ledger.recording.steps:
        if ledger.charge_Ah(step) >= 0 or not step.measure:
            continue
        if step.measure == CYCLE:
            cycles += 1
            if cycles in CYCLES and step.ended_by not in CUT_SHORT:
                found[f"{CYCLE}_{cycles}"] = ledger.stretch([step], -1), f"cycle {cycles}"
        elif step.measure not in ("capacity", BEFORE) and not step.measure.startswith("dcir"):
            if step.ended_by in CUT_SHORT:
                found.pop(step.measure, None)
            else:
                found[step.measure] = ledger.stretch([step], -1), step.measure
    return [_share(ledger, name, one, what, base) for name, (one, what) in found.items()]


def _base(ledger: Ledger) -> Sequence[Stretch]:
    """Return the discharges that stand for the whole."""
    if not any(step.measure for step in ledger.recording.steps):
        return ()
    discharges = capacity_discharges(ledger)
    if discharges is not None:
        return discharges.chosen
    return [
        ledger.stretch([step], -1)
        for step in ledger.recording.steps
        if step.measure == BEFORE and step.ended_by not in CUT_SHORT and ledger.charge_Ah(step) < 0
    ][-1:]


def _share(
    ledger: Ledger, name: str, one: Stretch, what: str, base: Sequence[Stretch]
) -> Feature:  # fmt: skip
    whole_Ah = float(np.mean([abs(s.charge_Ah) for s in base]))
    share = 100.0 * abs(one.charge_Ah) / whole_Ah
    stated = ledger.accuracy("current_A").is_known and ledger.accuracy("voltage_V").is_known
    method = f"charge of {what} in percent of the capacity in the same recording"
    degC = ledger.column("temperature_degC")
    if degC is not None:
        mean_degC = float(np.nanmean(degC[one.first_row : one.last_row + 1]))
        method += f"; at {mean_degC:.1f} degC" if math.isfinite(mean_degC) else ""
    return Feature(
        f"{name}_share_percent",
        share,
        share_uncertainty_percent(ledger, one, base),
        method if stated else f"{method}; {NOT_STATED}",
        tuple(step.step_index for stretch in (*base, one) for step in stretch.steps),
    )


def share_uncertainty_percent(ledger: Ledger, one: Stretch, base: Sequence[Stretch]) -> float:
    r"""Return the standard uncertainty of the share of one discharge in some others.

    Notes
    -----
    The current's gain cancels. Of the other terms of the capacity's uncertainty, which both
    discharges have in common, the difference relative to the charge remains. With
    :math:`w_k = U_t^k/s_t - U_b^k/s_b` and a star for the discharge by the other name,

    .. math:: (u/x)^2 = o_I^2 (T^*/Q^* - T/Q)^2 + o_U^2 (w_0^*/Q^* - w_0/Q)^2
              + r_U^2 (w_1^*/Q^* - w_1/Q)^2 .
    """
    current, voltage = ledger.accuracy("current_A"), ledger.accuracy("voltage_V")
    one_terms, base_terms = _per_charge(ledger, [one]), _per_charge(ledger, base)
    hours, zeroth, first = (a - b for a, b in zip(one_terms, base_terms, strict=True))
    share = 100.0 * abs(one.charge_Ah) / float(np.mean([abs(s.charge_Ah) for s in base]))
    return share * quadrature(
        current.offset * hours, voltage.offset * zeroth, voltage.reading * first
    )


def _per_charge(ledger: Ledger, stretches: Sequence[Stretch]) -> tuple[float, float, float]:
    charge_Ah = float(np.mean([abs(s.charge_Ah) for s in stretches]))
    hours = float(np.mean([s.duration_s for s in stretches])) / 3600.0
    window = window_terms(ledger, stretches)
    return hours / charge_Ah, window[0] / charge_Ah, window[1] / charge_Ah
