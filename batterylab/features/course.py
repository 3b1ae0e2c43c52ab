"""The course of ageing in one recording: the capacity of each full discharge, by cycles done."""

import math

import numpy as np

from batterylab.features.accuracy import NOT_STATED
from batterylab.features.capacity import CUT_SHORT, capacity_discharges, capacity_uncertainty_Ah
from batterylab.features.feature import Feature
from batterylab.features.ledger import Ledger, Stretch
from batterylab.features.shares import CYCLE

#: name of the feature; the only one that a recording may hold several times
AGED = "aged_capacity_Ah"
#: fewer full discharges are repeats of one measurement, not a course
LEAST = 8
#: of more discharges so many are kept, evenly spaced
MOST = 200


def course_features(ledger: Ledger) -> list[Feature]:
    """Return the capacity of each full discharge of a life test, with the cycles before it.

    Cycles are equivalent full ones: the charge discharged since the first of these discharges
    began, partial cycles and pulses included, over the capacity of that first one.
    """
    every = _discharges(ledger)
    if len(every) < LEAST:
        return []
    discharged = np.cumsum(np.maximum(-ledger.moved_Ah, 0.0))
    before = [float(discharged[max(one.first_row - 1, 0)]) for one in every]
    first_Ah = abs(every[0].charge_Ah)
    stated = ledger.accuracy("current_A").is_known and ledger.accuracy("voltage_V").is_known
    tail = "" if stated else f"; {NOT_STATED}"
    places = np.unique(np.linspace(0, len(every) - 1, min(len(every), MOST)).round().astype(int))
    return [
        Feature(
            AGED, abs(every[place].charge_Ah), capacity_uncertainty_Ah(ledger, [every[place]]),
            f"full discharge {place + 1} of {len(every)}{tail}",
            tuple(step.step_index for step in every[place].steps), math.nan, (),
            (before[place] - before[0]) / first_Ah,
        )
        for place in places
    ]  # fmt: skip


def _discharges(ledger: Ledger) -> list[Stretch]:
    """Return those measured as `cycle`, or those that measure the capacity if they are more."""
    cycles = [
        ledger.stretch([step], -1)
        for step in ledger.recording.steps
        if step.measure == CYCLE and step.ended_by not in CUT_SHORT and ledger.charge_Ah(step) < 0
    ]
    found = capacity_discharges(ledger)
    measured = list(found.every) if found is not None else []
    return cycles if len(cycles) >= len(measured) else measured
