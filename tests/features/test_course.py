"""The course of ageing inside one recording."""

import pytest
from test_shares import discharges

from batterylab.features import features_of
from batterylab.features.course import AGED, LEAST, MOST


def course(*wanted):
    return [f for f in features_of(discharges(*wanted)) if f.name == AGED]


def test_each_full_discharge_of_a_life_test_has_its_capacity_and_its_cycles():
    hours = [5.0 - 0.1 * n for n in range(10)]
    found = course(*(("cycle", 1.0, h) for h in hours))
    assert [f.value for f in found] == pytest.approx(hours)
    before = [sum(hours[:n]) / 5.0 for n in range(10)]
    assert [f.cycles for f in found] == pytest.approx(before)
    assert found[3].steps == (3,)
    assert "4 of 10" in found[3].method


def test_partial_cycles_between_check_ups_count_by_their_charge():
    wanted = [one for _ in range(LEAST) for one in (("capacity", 1.0, 5.0), ("", 2.0, 1.25))]
    assert [f.cycles for f in course(*wanted)] == pytest.approx([1.5 * n for n in range(LEAST)])


def test_repeats_of_a_measurement_are_no_course_and_what_was_stopped_is_no_capacity():
    assert course(*(("capacity", 1.0, 5.0) for _ in range(LEAST - 1))) == []
    stopped = [("cycle", 1.0, 5.0)] * LEAST + [("cycle", 1.0, 2.0, "stopped")]
    assert [f.value for f in course(*stopped)] == pytest.approx([5.0] * LEAST)


def test_a_long_life_test_is_thinned_evenly_and_keeps_its_ends():
    found = course(*(("cycle", 5.0, 1.0 - 0.0005 * n) for n in range(MOST + 150)))
    assert len(found) == MOST
    assert found[0].value == pytest.approx(5.0)
    assert found[-1].value == pytest.approx(5.0 * (1 - 0.0005 * (MOST + 149)))
