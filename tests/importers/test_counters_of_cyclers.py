"""A cycler's own counts, in every form that files write them, give the charge that passed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.importers.counters import increments, passed_by_current_Ah
from batterylab.importers.steps import first_rows
from batterylab.importers.vendortable import Counter, VendorTable

STEPS = st.lists(
    st.tuples(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]), st.integers(2, 12)),
    min_size=1,
    max_size=12,
)


def profile(steps, interval_s=10.0):
    """Return a table of constant-current steps, and the true charge in Ah at each row."""
    current_A = np.concatenate([np.full(rows, amps) for amps, rows in steps])
    number = np.concatenate([np.full(rows, n) for n, (_, rows) in enumerate(steps)])
    time_s = np.arange(1, len(current_A) + 1) * interval_s
    charge_Ah = np.cumsum(current_A * interval_s) / 3600.0
    step_time_s = np.concatenate([np.arange(1, rows + 1) * interval_s for _, rows in steps])
    table = VendorTable(
        "test", "test", time_s, current_A, 3.5 + charge_Ah, step=number, step_time_s=step_time_s
    )
    return table, number, charge_Ah


def restarting(charge_Ah, starts):
    """Return a count that begins anew at each start."""
    result = charge_Ah.copy()
    before = np.concatenate([[0.0], charge_Ah])
    for a, b in zip(starts, [*starts[1:], len(charge_Ah)], strict=True):
        result[a:b] -= before[a]
    return result


def written(form, scope, table, number, charge_Ah):
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    if scope == "cycle":
        starts = starts[::3]
    if scope == "test":
        starts = np.array([0])
    moved = np.diff(charge_Ah, prepend=0.0)
    if form == "signed":
        return Counter((restarting(charge_Ah, starts),), form)
    if form == "unsigned":  # such a count restarts with each step, or it would say nothing
        starts = np.flatnonzero(np.diff(number, prepend=-1))
        return Counter((restarting(np.cumsum(np.abs(moved)), starts),), form)
    sides = [np.cumsum(np.maximum(sign * moved, 0.0)) for sign in (1, -1)]
    return Counter(tuple(restarting(side, starts) for side in sides), form)


@pytest.mark.parametrize("scope", ["step", "cycle", "test"])
@pytest.mark.parametrize("form", ["signed", "unsigned", "pair"])
@given(steps=STEPS)
@settings(max_examples=60, deadline=None)
def test_every_form_gives_the_charge_that_passed(form, scope, steps):
    table, number, charge_Ah = profile(steps)
    first = first_rows(table)
    counter = written(form, scope, table, number, charge_Ah)
    charged, discharged = increments(counter, first, passed_by_current_Ah(table, first))
    net = np.cumsum(charged - discharged)
    assert net == pytest.approx(charge_Ah - charge_Ah[0], abs=1e-12)
    assert (charged >= 0).all() and (discharged >= 0).all()


@given(steps=STEPS)
@settings(max_examples=60, deadline=None)
def test_the_current_gives_the_charge_that_passed(steps):
    table, _, charge_Ah = profile(steps)
    passed = passed_by_current_Ah(table, first_rows(table))
    assert np.cumsum(passed) == pytest.approx(charge_Ah - charge_Ah[0], abs=1e-12)


def test_inside_a_step_the_counter_is_not_bent_to_the_current():
    """A counter 2 % off stays 2 % off: else the check would check nothing."""
    table, _, charge_Ah = profile([(1.0, 50), (-1.0, 50)])
    first = first_rows(table)
    expected = passed_by_current_Ah(table, first)
    charged, discharged = increments(Counter((1.02 * charge_Ah,), "signed"), first, expected)
    assert charged.sum() == pytest.approx(1.02 * expected[expected > 0].sum(), rel=1e-3)
    assert discharged.sum() == pytest.approx(-1.02 * expected[expected < 0].sum(), rel=1e-3)
