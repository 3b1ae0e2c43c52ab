"""Loading: what is checked before a cell may carry current."""

from dataclasses import replace as changed

import pytest
from small_bench import cycler_now, opened, small_study

from batterylab.bench.loading import Loader, ScriptedHands, check_reading
from batterylab.drivers.roles import MeterReading
from batterylab.errors import BatterylabError, EnvironmentFailedError

GOOD = MeterReading(0.0133, 3.581, True)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return small_study(tmp_path_factory.mktemp("loading") / "s")


def test_a_good_reading_passes(study):
    check_reading(study, "A1-001", GOOD)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"voltage_V": -3.581}, "the cell is reversed"),
        ({"voltage_V": 2.4}, r"outside the cell type's 2\.5 to 4\.2 V"),
        ({"voltage_V": 4.3}, "do not load this cell"),
        ({"voltage_V": 3.615}, "incoming record says 3.5820 V"),
        ({"voltage_V": 3.549}, "is it the right cell"),
        ({"resistance_ohm": 0.0156}, "incoming record says 13.40 mOhm"),
        ({"resistance_ohm": 0.0112}, "good contact"),
        ({"is_valid": False}, "the meter reports no contact"),
    ],
)
def test_a_cell_that_is_not_the_one_is_refused(study, change, message):
    with pytest.raises(BatterylabError, match=message):
        check_reading(study, "A1-001", changed(GOOD, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"voltage_V": 3.611}, {"voltage_V": 3.553}, {"resistance_ohm": 0.0153},
        {"resistance_ohm": 0.0115},
    ],
)  # fmt: skip
def test_just_inside_the_limits_passes(study, change):
    check_reading(study, "A1-001", changed(GOOD, **change))


def test_without_an_incoming_record_the_cell_types_limits_remain(study):
    cell = study.cells["A1-002"]
    bare = changed(cell, incoming_ocv_V=None, incoming_ac_resistance_mOhm=None)
    study.cells["A1-002"] = bare
    try:
        check_reading(study, "A1-002", MeterReading(0.5, 4.19, True))
        with pytest.raises(BatterylabError, match="do not load"):
            check_reading(study, "A1-002", MeterReading(0.5, 4.21, True))
    finally:
        study.cells["A1-002"] = cell


class Clumsy(ScriptedHands):
    """A technician who makes mistakes."""

    def __init__(self, clock, **faults):
        super().__init__(clock)
        self.faults = faults
        self.asked = []

    def probe(self, serial):
        self.asked.append(("probe", serial))
        self.clock.ask("probe", serial=self.faults.get("probes", serial))

    def insert(self, serial, channel):
        self.asked.append(("insert", serial, channel))
        self.clock.ask("probe", serial=None)
        self.clock.ask(
            "insert", serial=self.faults.get("inserts", serial), channel=channel,
            reversed=self.faults.get("is_reversed", False),
        )  # fmt: skip

    def remove(self, serial, channel):
        self.asked.append(("remove", serial, channel))
        super().remove(serial, channel)


def test_a_cell_is_bound_and_its_readings_are_kept(bench_of):
    study = bench_of(is_loaded=False).study
    with opened(study) as bench:
        data = Loader(study, bench, ScriptedHands(bench.clock), "ann").load("A1-001", "2-1")
    assert data["ocv_V"] == pytest.approx(3.583, abs=0.003)
    assert data["ac_resistance_mOhm"] == pytest.approx(13.3, abs=0.5)
    assert data["meter"]["model"] == "hioki_bt3562a"
    assert data["accuracy"]["resistance_ohm"]["reading"] > 0
    (entry,) = study.log.entries("load")
    assert entry["data"] == data
    assert entry["operator"] == "ann"
    assert entry["time_utc"].startswith("2026-01-05T06:0")  # the bench's time
    assert study.log.occupied() == {"2-1": "A1-001"}


@pytest.mark.parametrize(
    ("faults", "error", "message"),
    [
        ({"probes": None}, BatterylabError, "no contact"),
        ({"is_reversed": True}, EnvironmentFailedError, "the cell is reversed"),
        ({"inserts": "A1-002"}, BatterylabError, "is another cell in this channel"),
    ],
)
def test_a_clumsy_technician_is_stopped_before_current_flows(bench_of, faults, error, message):
    bench = bench_of(is_loaded=False)
    study, world = bench.study, bench.world
    world.shelf_state["A1-002"] = world.cells["A1-002"].rest_state(0.6, 23.0)
    with opened(study) as open_bench:
        hands = Clumsy(open_bench.clock, **faults)
        loader = Loader(study, open_bench, hands, "ann")
        with pytest.raises(error, match=message):
            loader.load("A1-001", "1-1")
    assert study.log.entries() == []
    assert world.seat_of == {}  # what was put in was taken out again


def test_doubles_and_strangers_are_refused_before_anybody_moves(bench_of):
    study = bench_of(is_loaded=False).study
    with opened(study) as bench:
        hands = Clumsy(bench.clock)
        loader = Loader(study, bench, hands, "ann")
        loader.load("A1-001", "1-1")
        before = list(hands.asked)
        for serial, channel, message in (
            ("A1-002", "1-1", "channel 1-1 holds A1-001"),
            ("A1-001", "1-2", "A1-001 sits in channel 1-1"),
            ("A1-009", "1-2", "unknown serial 'A1-009'"),
            ("A1-002", "1-3", r"the bench has no channel '1-3'\n  hint: did you mean '1-"),
        ):
            with pytest.raises(BatterylabError, match=message):
                loader.load(serial, channel)
        assert hands.asked == before
    assert len(study.log.entries()) == 1


def test_unloading_notes_what_becomes_of_the_cell(bench_of):
    bench = bench_of()
    study = bench.study
    assert all(abs(amps) < 2e-3 for _, amps in cycler_now(study).values())
    with opened(study) as open_bench:
        loader = Loader(study, open_bench, ScriptedHands(open_bench.clock), "bob")
        channel, serial = next(iter(study.log.occupied().items()))
        with pytest.raises(BatterylabError, match="unknown fate 'eaten'"):
            loader.unload(channel, "eaten")
        data = loader.unload(channel, "scrapped")
        assert data == {"serial": serial, "channel": channel, "fate": "scrapped"}
        with pytest.raises(BatterylabError, match="is empty"):
            loader.unload(channel)
    assert channel not in study.log.occupied()
    assert channel not in bench.world.seat_of.values()


def test_a_cell_that_was_cycled_is_loaded_without_its_incoming_record(bench_of):
    bench = bench_of(is_loaded=False)
    bench.world.shelf_state["A1-001"] = bench.world.cells["A1-001"].rest_state(0.9, 23.0)
    with opened(bench.study) as open_bench:
        loader = Loader(bench.study, open_bench, ScriptedHands(open_bench.clock), "ann")
        with pytest.raises(BatterylabError, match="incoming record"):
            loader.load("A1-001", "1-1")
        assert "ocv_V" not in loader.load("A1-001", "1-1", is_checked=False)
