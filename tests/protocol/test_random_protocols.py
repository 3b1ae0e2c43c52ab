"""Whatever the language takes: it ends, keeps its bounds, and can be loaded into a cycler."""

import math
from pathlib import Path

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from protocol_maker import CELL, protocols, resolved_of

from batterylab.bench.onboard import Guards, compile_segment
from batterylab.errors import ProblemsError
from batterylab.protocol import Mark, Outcome, Progress, all_segments
from batterylab.protocol.check import check
from batterylab.protocol.ends import is_onboard, needs_host
from batterylab.protocol.form import children
from batterylab.protocol.progress import count_steps
from batterylab.protocol.reach import exits

GUARDS = Guards((2.45, 4.25))
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def made(content):
    """Resolve; that a random step can be out of reach is no mistake of the maker's."""
    try:
        return resolved_of(content, Path("/nowhere"))
    except ProblemsError as error:
        assert all("no way leads to this step" in p.what for p in error.problems), error
        assume(False)


def marks_of(nodes):
    for node in nodes:
        if isinstance(node, Mark):
            yield node.name
        for body in children(node):
            yield from marks_of(body)


def outcome(draw, step):
    """Draw how a step went: any of its ways out that lets the protocol go on, any charge."""
    ways = sorted({then for then in exits(step) if then != "fail"})
    then = draw(st.sampled_from(ways)) if ways else "next"
    charge = draw(st.floats(0.0, 6.0)) if step.current_A else 0.0
    return Outcome(math.copysign(charge, step.current_A), 3.7 * charge, 60.0, 3.7, then)


@SLOW
@given(protocols, st.data())
def test_it_ends_whatever_the_cell_does_and_keeps_its_bounds(content, data):
    resolved = made(content)
    most = count_steps(resolved.nodes)
    known = {segment.key for segment in all_segments(resolved)}
    progress = Progress(resolved)
    count = 0
    while progress.current is not None:
        segment = progress.current
        count += len(segment.steps)
        assert count <= most
        assert len(segment.steps) == 1 or not any(map(needs_host, segment.steps))
        for step in segment.steps:
            assert -CELL.max_discharge_A <= step.current_A <= CELL.max_charge_A
            assert 1 <= step.duration_s <= 100 * 86400
            assert all(math.isfinite(end.value) and not end.of for end in step.ends)
        if not any(step.rate_of for step in segment.steps):
            assert segment.key in known
        progress.finish([outcome(data.draw, step) for step in segment.steps])
    names = set(marks_of(resolved.nodes))
    assert {name for name, _ in progress.marks} <= names
    assert all(0 <= number <= count for _, number in progress.marks)


@SLOW
@given(protocols)
def test_what_is_checked_holds_for_every_step(content):
    resolved = made(content)
    found = check(resolved)
    assert found.problems == ()
    paths = {step.path for step in resolved.steps()}
    assert {row.path for row in found.steps} == paths
    for row in found.steps:
        assert row.longest_s >= 1
        assert row.most_Ah >= 0
        assert row.where.startswith("random.yaml:")
    assert resolved.expected_s() <= resolved.longest_s()
    assert resolved.longest_s() <= sum(row.longest_s for row in found.steps) * found.most_steps


@SLOW
@given(protocols)
def test_what_a_cycler_takes_is_bounded_and_guarded(content):
    for segment in all_segments(made(content)):
        if any(step.mode == "power" for step in segment.steps):
            continue
        compiled = compile_segment(segment, GUARDS)
        assert len(compiled) >= len(segment.steps)
        for onboard in compiled:
            assert onboard.duration_s >= 1
            if onboard.mode == "REST":
                assert onboard.tests == ()
                continue
            assert {("VOLT_GE", 4.25, "FAIL"), ("VOLT_LE", 2.45, "FAIL")} <= {
                (test.kind, test.value, test.action) for test in onboard.tests
            }
            assert GUARDS.voltage_V[0] <= onboard.voltage_V <= GUARDS.voltage_V[1]
        for step in segment.steps:
            wanted = sum(is_onboard(step, end) for end in (*step.ends, *step.stops))
            assert len(compiled[0].tests) in (0, 2 + wanted, 3 + wanted) or len(compiled) > 1
