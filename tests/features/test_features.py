"""Features of recordings whose answer is known."""

import math
from dataclasses import replace

import made_recordings as made
import numpy as np
import pytest
import real_recordings as real
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.features import Feature, features_of, unit_of
from batterylab.features.accuracy import UNKNOWN, accuracy_of, noise
from batterylab.features.ledger import Ledger
from batterylab.features.resistance import pulses_of, sample_at
from batterylab.recording import Recording, StepRow


def by_name(recording):
    found = [f for f in features_of(recording) if math.isnan(f.cycles)]
    assert len({f.name for f in found}) == len(found), "a name stands twice"
    return {f.name: f for f in found}


@pytest.fixture(scope="module")
def recording():
    return made.capacity_resistance()


@pytest.fixture(scope="module")
def drawn(recording):
    return by_name(recording)


def hand_made(rows, steps, *, accuracy=made.ACCURACY, counters=False, **more):
    """A recording of rows (time, current, voltage) and steps (kind, first, last, start, length)."""
    time_s, amps, volts = np.array(rows, float).T
    index = np.zeros(len(rows), "<i4")
    entries = []
    for number, (kind, first, last, start_s, duration_s, *rest) in enumerate(steps):
        index[first : last + 1] = number
        measure = rest[0] if rest else ""
        entries.append(StepRow(number, first, last, kind, measure=measure, ended_by="voltage",
                               start_s=start_s, duration_s=duration_s))  # fmt: skip
    columns = {"test_time_s": time_s, "current_A": amps, "voltage_V": volts, "step_index": index,
               "cycle_index": np.zeros(len(rows), "<i4")}  # fmt: skip
    if counters:
        columns["net_capacity_Ah"] = np.cumsum(amps * np.diff(time_s, prepend=0.0)) / 3600.0
    provenance = {"source": "bench", **({"accuracy": accuracy} if accuracy else {})}
    values = {"cell_type": dict(made.CELL_TYPE), "protocol": "by hand", **more}
    return Recording("X-1", "Alpha", "A1", columns=columns, steps=entries, provenance=provenance,
                     **values).checked()  # fmt: skip


def pulse(times=(1, 2, 5, 10), sag_V=0.2, **more):
    rows = [(3500 + 20 * k, 0.0, 3.7) for k in range(6)]
    rows += [(3600 + t, -5.0, 3.7 - sag_V * (0.8 + 0.02 * t)) for t in times]
    rows += [(3700, 0.0, 3.69)]
    last = 5 + len(times)
    return hand_made(rows, [("rest", 0, 5, 0.0, 3600.0), ("pulse", 6, last, 3600.0, 10.0, "dcir"),
                            ("rest", last + 1, last + 1, 3610.0, 90.0)], **more)  # fmt: skip


# --- capacity ---------------------------------------------------------------------------------


def test_the_capacity_is_the_mean_of_the_last_three_and_all_are_listed():
    recording = made.capacity_resistance(cycles=4)
    net = np.abs(recording.columns["net_capacity_Ah"])
    found = by_name(recording)["capacity_Ah"]
    measured = [s for s in recording.steps if s.measure == "capacity"]
    assert found.steps == tuple(s.step_index for s in measured[1:])
    assert [step for step, _ in found.parts] == [s.step_index for s in measured]
    assert found.value == pytest.approx(np.mean([v for _, v in found.parts[1:]]), abs=1e-12)
    one = recording.columns["net_capacity_Ah"]
    first = measured[0]
    assert found.parts[0][1] == pytest.approx(one[first.first_row - 1] - one[first.last_row])
    assert net.max() > 0


def test_the_first_second_of_a_step_counts():
    # 3600 s at 2 A; the first row stands for the first second
    rows = [(100, 0.0, 4.15)] + [(100 + t, -2.0, 4.1 - t / 3000) for t in (1, 1800, 3600)]
    steps = [("rest", 0, 0, 0.0, 100.0), ("discharge", 1, 3, 100.0, 3600.0, "capacity")]
    for counters in (False, True):
        recording = hand_made(rows, steps, counters=counters)
        assert by_name(recording)["capacity_Ah"].value == pytest.approx(2.0, abs=1e-9)


def test_a_discharge_that_was_cut_short_measures_no_capacity(recording):
    measured = [s.step_index for s in recording.steps if s.measure == "capacity"]
    steps = list(recording.steps)
    steps[measured[-1]] = replace(steps[measured[-1]], ended_by="at_most")
    found = by_name(replace(recording, steps=steps))["capacity_Ah"]
    assert found.steps == tuple(measured[:2])
    for number in measured:
        steps[number] = replace(steps[number], ended_by="stopped")
    assert "capacity_Ah" not in by_name(replace(recording, steps=steps))


def test_energy_and_efficiency_follow_from_the_counters(recording, drawn):
    net = recording.columns["net_energy_Wh"]
    measured = [s for s in recording.steps if s.measure == "capacity"]
    out = [net[s.first_row - 1] - net[s.last_row] for s in measured]
    assert drawn["energy_Wh"].value == pytest.approx(np.mean(out))
    charges = [recording.steps[s.step_index - 2] for s in measured[1:]]
    into = [net[s.last_row] - net[s.first_row - 1] for s in charges]
    ratio = 100 * np.array(out[1:]) / np.array(into)
    assert drawn["energy_efficiency_percent"].value == pytest.approx(ratio.mean())
    assert 90 < ratio.mean() < 98
    # the first charge began with a cell that was not empty, so it is left out
    assert drawn["charge_capacity_Ah"].steps == tuple(s.step_index for s in charges)


def test_temperature_rise_is_the_highest_less_the_last_before(recording, drawn):
    degrees = recording.columns["temperature_degC"]
    measured = [s for s in recording.steps if s.measure == "capacity"]
    rises = [degrees[s.rows].max() - degrees[s.first_row - 1] for s in measured]
    assert drawn["temperature_rise_K"].value == pytest.approx(np.mean(rises))
    assert drawn["temperature_rise_K"].uncertainty < 0.1  # the probe's 0.5 K offset cancels


@pytest.mark.parametrize(
    ("error", "size", "names"),
    [
        ("current_gain", 2e-4, ("capacity_Ah", "energy_Wh", "charge_capacity_Ah")),
        ("current_offset_A", 5e-4, ("capacity_Ah", "energy_Wh", "energy_efficiency_percent")),
        ("voltage_offset_V", 1e-3, ("capacity_Ah", "energy_Wh")),
        ("voltage_gain", 5e-4, ("capacity_Ah", "energy_Wh")),
    ],
)
def test_an_error_of_one_meter_moves_the_feature_as_its_uncertainty_says(
    recording, drawn, error, size, names
):
    """The formula's share of each error against the error itself, on the simulated cell."""
    moved = by_name(made.capacity_resistance(meters=made.Meters(**{error: size})))
    only = {"current_gain": ("current_A", "reading"), "current_offset_A": ("current_A", "offset"),
            "voltage_offset_V": ("voltage_V", "offset"),
            "voltage_gain": ("voltage_V", "reading")}[error]  # fmt: skip
    accuracy = {q: {"reading": 0.0, "offset": 0.0} for q in ("current_A", "voltage_V")}
    accuracy[only[0]][only[1]] = size
    stated = by_name(replace(recording, provenance={**recording.provenance, "accuracy": accuracy}))
    for name in names:
        shift = abs(moved[name].value - drawn[name].value)
        assert stated[name].uncertainty == pytest.approx(shift, rel=0.3), name


def test_uncertainty_does_not_average_out_over_repeats(recording):
    one = by_name(made.capacity_resistance(cycles=1))["capacity_Ah"]
    three = by_name(recording)["capacity_Ah"]
    assert three.uncertainty == pytest.approx(one.uncertainty, rel=0.02)


# --- resistance -------------------------------------------------------------------------------


def test_resistance_of_a_pulse_made_by_hand():
    found = by_name(pulse())
    assert found["dcir_1s_mOhm"].value == pytest.approx(1e3 * 0.2 * 0.82 / 5)
    assert found["dcir_10s_mOhm"].value == pytest.approx(1e3 * 0.2 * 1.0 / 5)
    assert found["dcir_10s_mOhm"].steps == (0, 1)
    assert "not known" in found["dcir_10s_mOhm"].method
    assert "dcir_30s_mOhm" not in found, "a time that was not sampled must not be guessed"


def test_offsets_cancel_in_a_resistance_and_gains_do_not():
    found = by_name(pulse())["dcir_10s_mOhm"]
    assert found.uncertainty == pytest.approx(found.value * math.hypot(1e-4, 2e-4), rel=1e-6)


@pytest.mark.parametrize(
    ("times", "after_s", "how"),
    [
        ((1, 2, 5, 10), 10, "sampled"),
        ((1, 5, 10.15), 10, "sampled"),
        ((1, 5, 8, 12), 10, "interpolated"),
        ((1, 5, 9.3), 10, "sampled at 9.3 s"),
        ((1, 5, 8.5), 10, None),
        ((1, 3, 20), 10, None),
        ((10, 20), 1, None),
        ((0.6, 1.4, 10), 1, "interpolated"),
    ],
)
def test_a_named_time_is_sampled_interpolated_or_left_out(times, after_s, how):
    recording = pulse(times=times)
    sample = sample_at(Ledger(recording), recording.steps[1], after_s)
    assert (sample and sample.how) == how
    if how == "interpolated":
        volts = recording.columns["voltage_V"][recording.steps[1].rows]
        assert volts.min() < sample.voltage_V < volts.max()


def test_resistances_are_named_by_the_charge_counted_from_full(recording, drawn):
    names = [f"dcir_{t}s_{soc}soc_mOhm" for t in (1, 10) for soc in (80, 50, 20)]
    assert set(names) <= set(drawn)
    assert drawn["dcir_10s_mOhm"].value == drawn["dcir_10s_50soc_mOhm"].value
    # 80 % of the nominal 5 Ah, counted over the capacity that was measured
    capacity = drawn["capacity_Ah"].value
    assert drawn["dcir_10s_80soc_mOhm"].soc_percent == pytest.approx(
        100 * (1 - 1.0 / capacity), abs=0.05
    )
    assert drawn["dcir_10s_mOhm"].value > drawn["dcir_1s_mOhm"].value > 8.0


def test_resistance_agrees_with_the_simulated_cell_driven_directly(drawn):
    cell = made.SimulatedCell(made.CellTruth())
    state = cell.rest_state(drawn["dcir_10s_mOhm"].soc_percent / 100)
    before = cell.open_circuit_voltage_V(state)
    volts, _ = cell.follow(state, np.full(10, -5.0))
    assert drawn["dcir_10s_mOhm"].value == pytest.approx(1e3 * (before - volts[9]) / 5, rel=0.02)
    assert drawn["dcir_1s_mOhm"].value == pytest.approx(1e3 * (before - volts[0]) / 5, rel=0.02)


def test_pulses_as_delivered_have_names_of_their_own():
    bench = made.Bench(made.SimulatedCell(made.CellTruth()))
    bench.rest(3600)
    bench.constant(-5.0, 10, measure="dcir_as_delivered", every_s=1.0)
    bench.rest(40, every_s=1.0)
    bench.constant(3.75, 10, measure="dcir_charge_as_delivered", every_s=1.0)
    bench.rest(1800)
    found = by_name(bench.recording())
    assert {"dcir_10s_as_delivered_mOhm", "dcir_charge_10s_as_delivered_mOhm"} <= set(found)
    assert "dcir_10s_mOhm" not in found
    assert found["dcir_charge_10s_as_delivered_mOhm"].value > 0


# --- loading ----------------------------------------------------------------------------------


def test_loading_readings_keep_their_meter_and_its_accuracy(recording):
    loading = {"ocv_V": 3.6, "ac_resistance_mOhm": 17.25, "meter": {"model": "BT3562A"},
               "accuracy": {"resistance_ohm": {"reading": 2e-3, "offset": 5e-6},
                            "voltage_V": {"reading": 1e-4, "offset": 3e-4}}}  # fmt: skip
    found = by_name(replace(recording, provenance={**recording.provenance, "loading": loading}))
    ac = found["ac_resistance_mOhm"]
    assert ac.value == 17.25 and "BT3562A" in ac.method
    assert ac.uncertainty == pytest.approx(math.hypot(0.0345, 0.005))
    assert found["ocv_V"].uncertainty == pytest.approx(math.hypot(3.6e-4, 3e-4))


@pytest.mark.parametrize("loading", [None, [], {"ocv_V": None}, {"ocv_V": "3.6"}, {"ocv_V": True}])
def test_a_loading_record_that_says_nothing_yields_nothing(recording, loading):
    found = by_name(replace(recording, provenance={**recording.provenance, "loading": loading}))
    assert not {"ocv_V", "ac_resistance_mOhm"} & set(found)


# --- imports ----------------------------------------------------------------------------------


def test_an_import_without_measures_yields_the_same_numbers_without_uncertainty(recording, drawn):
    steps = [replace(s, measure="", ended_by="unknown") for s in recording.steps]
    found = by_name(replace(recording, steps=steps, provenance={"source": "import"}))
    assert found["capacity_Ah"].value == pytest.approx(drawn["capacity_Ah"].value, rel=1e-4)
    assert "no measures" in found["capacity_Ah"].method
    assert found["dcir_10s_50soc_mOhm"].value == drawn["dcir_10s_50soc_mOhm"].value
    for name, feature in found.items():
        assert "accuracy not stated" in feature.method, name
        assert math.isnan(feature.uncertainty), name
        assert feature.to_dict()["uncertainty"] is None


def test_an_import_without_a_data_sheet_uses_its_own_window(recording, drawn):
    steps = [replace(s, measure="", ended_by="unknown") for s in recording.steps]
    bare = replace(recording, steps=steps, cell_type={}, provenance={"source": "import"})
    assert by_name(bare)["capacity_Ah"].value == pytest.approx(
        drawn["capacity_Ah"].value, rel=1e-4
    )


def cycled(capacities_Ah, measure="", source="bench"):
    """Cycles at 5 A from 2.5 V to 4.2 V and back, each of the given capacity."""
    rows, steps, time_s = [(1.0, 0.0, 3.0)], [("rest", 0, 0, 0.0, 1.0)], 1.0
    for capacity_Ah in capacities_Ah:
        for kind, amps, volts in (("charge", 5.0, 4.2), ("discharge", -5.0, 2.5)):
            length = capacity_Ah * 720.0
            first = len(rows)
            rows += [(time_s + length * k / 4, amps, volts) for k in (1, 2, 3, 4)]
            name = measure if kind == "discharge" else ""
            steps.append((kind, first, first + 3, time_s, length, name))
            time_s += length
    recording = hand_made(rows, steps)
    return replace(recording, provenance={**recording.provenance, "source": source})


def test_the_repeat_rule_takes_the_first_three_that_agree():
    found = by_name(cycled((4.0, 4.9, 4.95, 4.97, 2.6)))["capacity_Ah"]
    assert found.value == pytest.approx((4.9 + 4.95 + 4.97) / 3)
    assert len(found.parts) == 5


def test_a_cycle_life_file_gives_the_capacity_it_began_with():
    life = [5.0, 4.98, 4.97, *np.linspace(4.9, 3.5, 12)]
    imported = by_name(cycled(life, "capacity", "import"))["capacity_Ah"]
    assert imported.value == pytest.approx((5.0 + 4.98 + 4.97) / 3)
    assert "the first 3" in imported.method and len(imported.parts) == 15
    bench = by_name(cycled(life, "capacity", "bench"))["capacity_Ah"]
    assert bench.value == pytest.approx(np.mean(life[-3:]))


def test_a_discharge_of_next_to_nothing_is_no_capacity():
    rows = [(1, 0.0, 3.0), (2, 2.0, 4.9), (3, -2.0, 2.4), (4, 2.0, 4.5), (7200, 2.0, 4.6)]
    rows += [(7201, -2.0, 4.5), (12000, -2.0, 3.5)]
    kinds = [("rest", 0, 0, 0, 1), ("charge", 1, 1, 1, 1), ("discharge", 2, 2, 2, 1),
             ("charge", 3, 4, 3, 7197), ("discharge", 5, 6, 7200, 4800)]  # fmt: skip
    assert "capacity_Ah" not in by_name(replace(hand_made(rows, kinds), cell_type={}))


def test_a_capacity_that_has_not_settled_says_so():
    found = by_name(cycled((4.0, 4.5, 4.9), "capacity"))["capacity_Ah"]
    assert "do not lie within 3 %" in found.method
    assert "do not" not in by_name(cycled((4.0, 4.9, 4.9, 4.95), "capacity"))["capacity_Ah"].method


@pytest.mark.parametrize(
    ("name", "capacity_Ah"), [("Co20", 13.0974), ("Co2", 13.0142), ("1C", 12.9411), ("2C", 12.8008)]
)
def test_real_discharges_give_the_charge_that_others_computed(shared_data, name, capacity_Ah):
    found = by_name(real.rate_discharge(shared_data, name))
    assert found["capacity_Ah"].value == pytest.approx(capacity_Ah, abs=2e-4)


def test_real_pulses_without_measures_are_found(shared_data):
    recording = real.nrel_pulses(shared_data)
    pulses = pulses_of(Ledger(recording))
    assert sum(not p.direction for p in pulses) >= 8
    found = by_name(recording)
    assert found["dcir_30s_mOhm"].value > found["dcir_10s_mOhm"].value > found["dcir_1s_mOhm"].value


# --- the rest ---------------------------------------------------------------------------------


def test_a_recording_without_steps_or_current_yields_nothing():
    assert features_of(hand_made([(0.0, 0.0, 3.7), (1.0, 0.0, 3.7)], [])) == []
    assert features_of(hand_made([(0.0, 0.0, 3.7)], [("rest", 0, 0, 0.0, 0.0)])) == []
    assert features_of(hand_made([(0.0, 0.0, 3.7)], [("pulse", 0, 0, 0.0, 0.0, "dcir")])) == []


def test_charge_without_a_counter_is_the_integral(recording):
    columns = {k: v for k, v in recording.columns.items() if not k.startswith("net_")}
    found = by_name(replace(recording, columns=columns))
    assert found["capacity_Ah"].value == pytest.approx(5.0384, rel=2e-4)
    assert found["energy_Wh"].value == pytest.approx(18.254, rel=1e-3)


@pytest.mark.parametrize(
    "stated",
    [None, {}, {"current_A": None}, {"current_A": {}}, {"current_A": {"reading": "x"}},
     {"current_A": {"reading": -1}}, {"current_A": {"reading": math.nan}}, [1], "text"],
)  # fmt: skip
def test_an_accuracy_that_is_not_one_is_unknown(stated):
    assert accuracy_of(stated, "current_A") is UNKNOWN


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e-2), st.floats(-1e-3, 1e-3))
@settings(max_examples=30, deadline=None)
def test_noise_is_found_under_a_drift(seed, size, drift):
    values = size * np.random.default_rng(seed).standard_normal(4000) + drift * np.arange(4000)
    assert noise(values) == pytest.approx(size, rel=0.1)


@given(st.floats(0.01, 1.0), st.lists(st.floats(0.2, 40), min_size=1, max_size=9))
@settings(max_examples=80, deadline=None)
def test_no_pulse_breaks_and_none_is_extrapolated(sag_V, times):
    times = sorted(set(times))
    for feature in features_of(pulse(times=times, sag_V=sag_V)):
        after_s = float(feature.name.split("_")[1][:-1])
        assert times[0] * 0.9 <= after_s * 1.02 and after_s <= times[-1] * 1.12
        assert math.isfinite(feature.value) and feature.uncertainty >= 0


def test_a_feature_survives_the_way_into_a_file(drawn):
    for feature in drawn.values():
        back = Feature.from_dict(feature.to_dict())
        assert repr(back) == repr(feature)


def test_units_come_from_names():
    names = {"capacity_Ah": "Ah", "dcir_10s_50soc_mOhm": "mOhm", "temperature_rise_K": "K",
             "energy_efficiency_percent": "percent", "relative_capacity": "1"}  # fmt: skip
    assert {name: unit_of(name) for name in names} == names


def test_a_protocol_that_measures_something_else_has_no_capacity():
    cycles = cycled((4.9, 4.9), source="bench")
    steps = [replace(step, measure="formation") for step in cycles.steps if step.kind == "charge"]
    steps = [steps.pop(0) if step.kind == "charge" else step for step in cycles.steps]
    assert "capacity_Ah" in by_name(cycles)
    assert "capacity_Ah" not in by_name(replace(cycles, steps=steps))
