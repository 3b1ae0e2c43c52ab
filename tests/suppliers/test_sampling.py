"""Which recording counts, and what is said of those that do not."""

import math

import pytest
from supplier_tables import frame, row

from batterylab.errors import BatterylabError
from batterylab.suppliers.sampling import NO_LOT, readings_of, select

PROTOCOLS = ("incoming_inspection", "capacity_resistance")


def chosen(rows, **options):
    return select(readings_of(frame(rows)), **{"protocols": PROTOCOLS, **options})


def values(selection, feature="capacity_Ah"):
    return [reading.value for reading in selection.features[feature]]


def test_the_last_or_the_first_valid_recording_counts():
    rows = [row("S1", 5.0, day=1), row("S1", 5.1, day=2), row("S1", 5.2, day=3, state="invalid")]
    last = chosen(rows)
    assert values(last) == [5.1]
    assert values(chosen(rows, which="first valid")) == [5.0]
    reasons = {item["seal"]: item["reason"] for item in last.exclusions}
    assert reasons["S1-1"] == "not the last valid recording of this cell"
    assert reasons["S1-3"] == "declared in the study's log"
    assert len(last.recordings) == 3


def test_the_reason_is_that_of_the_log():
    selection = chosen(
        [row("S1", 5.0), row("S2", 5.0, state="superseded")],
        reasons={"S2-5": "repeated: loose clip"},
    )
    assert selection.exclusions[0]["reason"] == "repeated: loose clip"
    assert selection.exclusions[0]["state"] == "superseded"


def test_a_value_that_is_none_is_left_out_and_told():
    selection = chosen([row("S1", math.nan), row("S2", math.inf), row("S3", 5.0)])
    assert values(selection) == [5.0]
    assert {item["reason"] for item in selection.exclusions} == {"no finite value"}


def test_gauge_recordings_are_kept_apart():
    rows = [row("S1", 5.0), row("S1", 5.5, part="gauge", day=9, protocol="gauge_capacity")]
    selection = chosen(rows)
    assert values(selection) == [5.0]
    assert [reading.value for reading in selection.gauge["capacity_Ah"]] == [5.5]
    assert selection.exclusions == []


def test_like_is_compared_with_like():
    """A cell that only has another protocol does not enter the comparison."""
    rows = [row(f"S{n}", 5.0 + n / 100) for n in range(4)]
    rows += [row("S9", 4.0, protocol="incoming_inspection")]
    selection = chosen(rows)
    assert 4.0 not in values(selection)
    assert "capacity_resistance counts" in selection.exclusions[0]["reason"]
    both = [row(f"S{n}", 4.0, protocol="incoming_inspection", day=8) for n in range(4)]
    assert 4.0 not in values(chosen(rows[:4] + both))  # as many: the later protocol counts


def test_recordings_by_foreign_protocols_count_as_one_kind():
    rows = [row("S1", 5.0, protocol="vendor-a"), row("S2", 5.1, protocol="vendor-b")]
    assert values(chosen(rows)) == [5.0, 5.1]


def test_cells_without_a_lot():
    alone = chosen([row("S1", 5.0, lot=""), row("S2", 5.1, lot=None)])
    assert {reading.lot for reading in alone.features["capacity_Ah"]} == {NO_LOT}
    mixed = chosen([row("S1", 5.0, lot=""), row("S2", 5.1, lot="A1")])
    assert values(mixed) == [5.1]
    assert "its lot is not known" in mixed.exclusions[0]["reason"]
    nobody = chosen([row("S1", 5.0, supplier=""), row("S2", 5.1)])
    assert values(nobody) == [5.1]


def test_a_table_that_repeats_a_value_at_each_soc_gives_it_once():
    rows = [
        row("S1", 0.91, feature="relative_capacity", source="table", seal="t", soc_percent=soc)
        for soc in (5, 10, 15)
    ]
    selection = chosen(rows)
    assert values(selection, "relative_capacity") == [0.91]
    assert selection.exclusions == []


def test_a_table_with_a_value_for_each_soc_gives_features_of_their_own():
    rows = [
        row(serial, 30 + soc / 10, feature="dcir_10s_mOhm", source="table", seal="t",
            soc_percent=soc)
        for soc in (20, 50) for serial in ("S1", "S2")
    ]  # fmt: skip
    selection = chosen(rows)
    assert sorted(selection.features) == ["dcir_10s_20soc_mOhm", "dcir_10s_50soc_mOhm"]
    assert values(selection, "dcir_10s_50soc_mOhm") == [35.0, 35.0]


def test_an_empty_table_and_a_missing_column_are_told():
    with pytest.raises(BatterylabError, match="no features to score"):
        readings_of(frame([]))
    with pytest.raises(BatterylabError, match="'lot'"):
        readings_of(frame([row("S1", 5.0)]).drop(columns="lot"))
