"""A cell's way through a protocol, given what it measured."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.cells import CellType
from batterylab.protocol import Outcome, Progress, Protocol, Segment, all_segments, load
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


MEASURED = f"""
  - {FULL}
  - {EMPTY}
  - {FULL}
"""


def go(resolved, results):
    """Go through a protocol; `results` by path, else a step moves what its time allows."""
    progress = Progress(resolved)
    paths = []
    while progress.current is not None:
        outcomes = []
        for step in progress.current.steps:
            paths.append(step.path)
            found = results.get(step.path)
            if isinstance(found, list):
                found = found.pop(0)
            outcomes.append(found or Outcome(step.current_A * step.duration_s / 3600))
        progress.finish(outcomes)
    return progress, paths


def test_an_end_leads_to_its_mark_and_out_of_blocks(tmp_path):
    steps = MEASURED + """\
  - repeat: {times: 3}
    steps:
      - rest: {for: 1 s, ends: [{temperature: above 40 degC, then: hot}]}
      - rest: {for: 2 s}
  - rest: {for: 3 s}
  - mark: hot
  - rest: {for: 4 s, ends: [{temperature: below 10 degC, then: finish}]}
  - rest: {for: 5 s}
"""
    hot = Outcome(0.0, then="hot", ended_by="temperature_degC")
    first = "steps[3].steps[0]"
    progress, paths = go(plain(tmp_path, steps), {first: [Outcome(0.0), hot]})
    assert paths[3:] == [first, "steps[3].steps[1]", first, "steps[6]", "steps[7]"]
    assert progress.marks == [("hot", 6)]
    _, paths = go(plain(tmp_path, steps), {"steps[6]": Outcome(0.0, then="finish")})
    assert paths[-1] == "steps[6]"
    assert paths.count(first) == 3


def test_shares_of_a_measure_become_the_cells_own_numbers(tmp_path):
    steps = MEASURED + """\
  - discharge: {rate: C/2 of capacity, for: 1 h, ends: [{energy: above 50 % of capacity},
      {time: 50 % of capacity}, {voltage: below 120 % of capacity},
      {current: below C/10 of capacity}]}
  - charge: {rate: 0.8C of capacity, for: 1 h}
"""
    empty = Outcome(-4.0, -14.0, 10000.0, 2.5, ended_by="voltage_V")
    progress = Progress(plain(tmp_path, steps))
    progress.finish([5.0, empty, 4.0])
    (step,) = progress.current.steps
    assert step.current_A == pytest.approx(-2.0)
    assert [(end.quantity, end.value, end.is_own) for end in step.ends[1:]] == [
        ("energy_Wh", 7.0, True), ("time_s", 5000.0, True), ("voltage_V", 3.0, True),
        ("current_A", pytest.approx(0.4), True),
    ]  # fmt: skip
    assert progress.current.key == Segment((replace(step, ends=step.ends[:1]),)).key
    progress.finish([-2.0])
    assert progress.current.steps[0].current_A == pytest.approx(3.2)


def test_a_rate_of_a_measure_keeps_to_the_cells_limit(tmp_path):
    steps = MEASURED + "  - charge: {rate: 0.8C of capacity, for: 1 h}\n"
    progress = Progress(plain(tmp_path, steps))
    progress.finish([9.0, -9.0, 9.0])
    assert progress.current.steps[0].current_A == 5.0


@pytest.mark.parametrize(("moved_Ah", "path"), [(-4.7, "steps[3].steps[0]"),
                                                (-4.8, "steps[3].else[0]")])  # fmt: skip
def test_if_decides_by_the_last_result(tmp_path, moved_Ah, path):
    steps = MEASURED + """\
  - if: {measure: capacity, below: 95 % of rated}
    steps: [{rest: {for: 1 s}}]
    else: [{rest: {for: 2 s}}]
"""
    _, paths = go(plain(tmp_path, steps), {"steps[1]": Outcome(moved_Ah)})
    assert paths[3:] == [path]


def test_until_ends_at_a_limit_of_the_first_result(tmp_path):
    steps = f"""
  - until: {{measure: capacity, below: 80 % of first, at_most: 5}}
    steps:
      - {FULL}
      - {EMPTY}
"""
    fading = [Outcome(-4.0), Outcome(-3.5), Outcome(-3.2)]
    progress, paths = go(plain(tmp_path, steps), {"steps[0].steps[1]": fading})
    assert len(paths) == 6
    assert progress.remarks == []
    assert progress.capacity_Ah == pytest.approx(3.2)
    progress, paths = go(plain(tmp_path, steps), {"steps[0].steps[1]": [Outcome(-4.0)] * 9})
    assert len(paths) == 10
    assert progress.remarks == ["capacity did not pass its limit within 5 repetitions"]


def test_within_a_share_of_the_mean(tmp_path):
    steps = SETTLING.replace("3 % of rated", "3 % of mean")
    _, segments = walk(plain(tmp_path, steps), [2.0, 2.05, 2.061, 2.05, 2.05])
    assert len(segments) == 3  # 3 % of 2.037 Ah are 0.0611 Ah
    _, segments = walk(plain(tmp_path, steps), [2.0, 2.05, 2.063, 2.05, 2.05])
    assert len(segments) == 4


def test_a_charge_that_something_else_ended_is_not_a_full_one(tmp_path):
    steps = f"\n  - {FULL}\n  - discharge: {{rate: C/3, to_soc: 50 %, at_most: 2 h}}\n"
    progress = Progress(plain(tmp_path, steps))
    progress.finish([Outcome(2.0, ended_by="time_s", then="next")])
    assert math.isnan(progress.charge_Ah)
    assert progress.current is None
    assert progress.remarks == ["steps[1]: the state of charge is not known; skipped"]
    progress = Progress(plain(tmp_path, steps))
    progress.finish([Outcome(2.0, ended_by="current_A")])
    assert progress.charge_Ah == 0.0


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
