"""A cell's way through a protocol, given what it measured."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.cells import CellType
from batterylab.protocol import Progress, Protocol, all_segments, load
from batterylab.protocol.language import ProtocolFile
from batterylab.yamlfile import load_yaml, validate

CELL = CellType.model_validate({
    "name": "P5000", "nominal_capacity": "5 Ah", "rated_capacity": "5 Ah",
    "voltage": {"min": "2.5 V", "max": "4.2 V"},
    "current": {"max_charge": "5 A", "max_discharge": "10 A"},
    "temperature": {"min": "0 degC", "max": "45 degC"},
})  # fmt: skip
FULL = "{charge: {rate: C/3, until: v_max, hold_until: C/20, at_most: 5 h}}"
EMPTY = "{discharge: {rate: C/3, until: v_min, at_most: 4 h}, measure: capacity}"
SETTLING = f"""
  - until: {{measure: capacity, last: 3, within: 3 % of rated, at_most: 5}}
    steps:
      - {FULL}
      - {EMPTY}
"""


def plain(folder, steps):
    path = folder / "p.yaml"
    path.write_text("schema: batterylab.protocol/1\nname: p\nsteps:" + steps)
    document = load_yaml(path)
    return Protocol(path, validate(document, ProtocolFile), document).resolve(CELL)


def walk(resolved, capacities, most=200):
    """Go through a protocol with a cell that gives these capacities; return the segments."""
    progress = Progress(resolved)
    given_Ah = iter(capacities)
    capacity_Ah = 0.0
    segments = []
    while progress.current is not None and len(segments) < most:
        segment = progress.current
        segments.append(segment)
        moved = []
        for step in segment.steps:
            if step.measure == "capacity":
                capacity_Ah = next(given_Ah)
                moved.append(-capacity_Ah)
            elif step.hold_until_A is not None:
                moved.append(capacity_Ah or 5.0)
            elif step.to_soc_percent is not None:
                moved.append(math.copysign(segment.stop_after_Ah, step.current_A))
            else:
                moved.append(step.current_A * step.duration_s / 3600)
        progress.finish(moved)
    return progress, segments


@pytest.mark.parametrize(
    ("capacities", "rounds", "settled"),
    [
        ([5.0, 5.0, 5.0], 3, True),
        ([4.5, 5.0, 5.0, 5.0], 4, True),
        ([5.0, 4.86, 4.851], 3, True),  # 3 % of the rated capacity are 0.15 Ah
        ([5.0, 4.86, 4.849, 4.85], 4, True),
        ([4.0, 4.4, 4.8, 5.2, 5.6], 5, False),
        ([5.0, 4.0, 5.0, 4.9, 5.0], 5, True),
    ],
)
def test_until_repeats_as_often_as_it_must(tmp_path, capacities, rounds, settled):
    progress, segments = walk(plain(tmp_path, SETTLING), capacities)
    assert len(segments) == rounds
    assert [segment.cycle for segment in segments] == list(range(rounds))
    assert progress.capacity_Ah == pytest.approx(sum(capacities[rounds - 3 : rounds]) / 3)
    said = "capacity did not settle within 5 repetitions" in progress.remarks
    assert said is not settled


def test_a_second_until_does_not_count_what_the_first_measured(tmp_path):
    _, segments = walk(plain(tmp_path, SETTLING + SETTLING), [5.0] * 6)
    assert len(segments) == 6


@pytest.mark.parametrize("capacity_Ah", [4.2, 5.0, 5.6])
def test_a_state_of_charge_is_counted_from_the_full_charge_with_the_measured_capacity(
    tmp_path, capacity_Ah
):
    steps = SETTLING + f"""\
  - {FULL}
  - discharge: {{rate: C/3, to_soc: 80 %, at_most: 2 h}}
  - discharge: {{rate: 1C, for: 36 s}}
    measure: dcir
  - discharge: {{rate: C/3, to_soc: 50 %, at_most: 2 h}}
  - charge: {{rate: C/3, to_soc: 60 %, at_most: 2 h}}
"""
    progress, segments = walk(plain(tmp_path, steps), [capacity_Ah] * 3)
    asked = [segment for segment in segments if segment.stop_after_Ah is not None]
    assert [segment.stop_after_Ah for segment in asked] == pytest.approx(
        [0.2 * capacity_Ah, 0.3 * capacity_Ah - 0.05, 0.1 * capacity_Ah]
    )
    assert progress.charge_Ah == pytest.approx(-0.4 * capacity_Ah)
    assert progress.remarks == []


def test_without_a_measure_the_nominal_capacity_counts(tmp_path):
    steps = f"\n  - {FULL}\n  - discharge: {{rate: C/3, to_soc: 50 %, at_most: 2 h}}\n"
    _, segments = walk(plain(tmp_path, steps), [])
    assert segments[1].stop_after_Ah == pytest.approx(2.5)


def test_a_state_of_charge_that_was_passed_is_skipped_with_a_remark(tmp_path):
    steps = f"""
  - {FULL}
  - discharge: {{rate: C/3, to_soc: 50 %, at_most: 2 h}}
  - discharge: {{rate: C/3, to_soc: 80 %, at_most: 2 h}}
  - rest: {{for: 60 s}}
"""
    progress, segments = walk(plain(tmp_path, steps), [])
    assert [segment.steps[0].kind for segment in segments] == ["charge", "discharge", "rest"]
    assert progress.remarks == ["steps[2]: the state of charge was passed already; skipped"]


def test_repeats_nest_and_count_cycles(tmp_path):
    steps = """
  - repeat: {times: 2}
    steps:
      - rest: {for: 60 s}
      - repeat: {times: 3}
        steps:
          - discharge: {rate: C/10, for: 60 s}
  - rest: {for: 5 s}
"""
    _, segments = walk(plain(tmp_path, steps), [])
    assert [segment.steps[0].duration_s for segment in segments] == [60] * 8 + [5]
    assert [segment.cycle for segment in segments] == [0, 0, 1, 2, 4, 4, 5, 6, 8]


def test_neighbours_go_out_together_and_long_rows_are_cut(tmp_path):
    steps = "\n" + "  - rest: {for: 1 s}\n" * 600
    _, segments = walk(plain(tmp_path, steps), [])
    assert [len(segment.steps) for segment in segments] == [250, 250, 100]


def test_results_that_do_not_fit_are_refused(tmp_path):
    progress = Progress(plain(tmp_path, "\n  - rest: {for: 1 s}\n"))
    with pytest.raises(ValueError, match="do not fit"):
        progress.finish([0.0, 0.0])
    assert progress.finish([0.0]) is None
    with pytest.raises(ValueError, match="do not fit"):
        progress.finish([0.0])


def test_the_shipped_protocol_needs_six_of_the_eight_slots():
    resolved = load("capacity_resistance").resolve(CELL)
    segments = all_segments(resolved)
    assert len(segments) <= 8
    assert sum(1 for s in segments if s.steps[0].to_soc_percent is not None) == 1


# whatever a cell measures, its segments are among those that were loaded
BLOCKS = st.lists(
    st.sampled_from([
        "- discharge: {rate: C/3, to_soc: 80 %, at_most: 2 h}",
        "- discharge: {rate: C/4, to_soc: 50 %, at_most: 2 h}",
        "- charge: {rate: C/3, to_soc: 60 %, at_most: 2 h}",
        "- charge: {rate: C/5, to_soc: 90 %, at_most: 2 h}",
        "- discharge: {rate: C/2, for: 30 min}",
        "- discharge: {rate: C/2, for: 59 min}",
        "- rest: {for: 1 h}",
        f"- {FULL}",
    ]),
    max_size=7,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(BLOCKS, st.lists(st.floats(1.0, 6.0), min_size=5, max_size=5))
def test_every_segment_was_loaded_whatever_the_cell_does(tmp_path_factory, blocks, capacities):
    steps = SETTLING + f"  - {FULL}\n" + "".join(f"  {block}\n" for block in blocks)
    resolved = plain(tmp_path_factory.getbasetemp(), steps)
    known = {segment.key for segment in all_segments(resolved)}
    _, segments = walk(resolved, capacities)
    assert {segment.key for segment in segments} <= known


def test_a_state_of_charge_that_only_some_cells_need_is_loaded(tmp_path):
    steps = SETTLING + f"""\
  - {FULL}
  - discharge: {{rate: C/2, for: 59 min}}
  - discharge: {{rate: C/10, to_soc: 40 %, at_most: 9 h}}
"""
    resolved = plain(tmp_path, steps)
    known = {segment.key for segment in all_segments(resolved)}
    for capacity_Ah in (2.0, 5.0):
        _, segments = walk(resolved, [capacity_Ah] * 3)
        assert {segment.key for segment in segments} <= known


def test_expected_and_longest_length(tmp_path):
    resolved = plain(tmp_path, SETTLING)
    one_s = 3 * 3600 * 1.2 + 3 * 3600  # charge with its hold, and discharge, at C/3
    assert resolved.expected_s() == pytest.approx(3 * one_s)
    assert resolved.longest_s() == 5 * 9 * 3600
