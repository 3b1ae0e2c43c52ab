"""Simulation: a recording like the bench's, the same in both engines."""

import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batterylab.archive import read, write
from batterylab.cells import CellType
from batterylab.errors import BatterylabError
from batterylab.features import features_of
from batterylab.protocol import load
from batterylab.protocol.convert import convert
from batterylab.protocol.owncell import OwnEngine
from batterylab.protocol.simulate import simulate
from batterylab.protocol.trace import rest_times

CELL = {
    "name": "x", "nominal_capacity": "5 Ah", "rated_capacity": "4.9 Ah",
    "voltage": {"min": "2.5 V", "max": "4.2 V"},
    "current": {"max_charge": "5 A", "max_discharge": "10 A"},
    "temperature": {"min": "0 degC", "max": "60 degC"},
}  # fmt: skip
HEAD = "schema: batterylab.protocol/1\nname: tried\n"
EVERYTHING = HEAD + """\
chamber: {temperature: 25 degC, within: 2 degC}
steps:
  - charge: {rate: 1C, until: v_max, hold_until: C/5, at_most: 3 h}
  - rest: {for: 10 min}
  - discharge: {rate: C/2, until: v_min, at_most: 3 h}
    measure: capacity
  - rest: {for: 10 min}
  - charge: {rate: 1C, until: v_max, hold_until: C/5, at_most: 3 h}
  - discharge: {rate: C/2, to_soc: 50 %, at_most: 3 h}
  - rest: {for: 30 min}
  - discharge: {rate: 1C, for: 10 s, sample_every: 1 s}
    measure: dcir
  - rest: {for: 40 s}
  - charge: {rate: C/2, until: 4.0 V, at_most: 3 h}
  - discharge: {rate: C/2, until: 3.5 V, hold_until: C/10, at_most: 4 h}
record: {every: 1 s}
"""


def kind(**changes):
    return CellType.model_validate({**CELL, **changes})


def resolved(tmp_path, text, **changes):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    return load(path).resolve(kind(**changes))


def moved_Ah(recording, step):
    charge = recording.columns["net_capacity_Ah"]
    before = charge[step.first_row - 1] if step.first_row else 0.0
    return float(charge[step.last_row] - before)


@pytest.mark.parametrize(
    ("parameter_set", "degC", "capacity_Ah"),
    [("Chen2020", 25, 5.0), ("Chen2020", 10, 2.5), ("Chen2020", 45, 5.0), ("Ecker2015", 10, 5.0),
     ("Ecker2015", 25, 0.2), ("Ecker2015", 45, 5.0)],
)  # fmt: skip
def test_both_engines_agree_to_2_mV_and_a_thousandth(tmp_path, parameter_set, degC, capacity_Ah):
    size = dict.fromkeys(("nominal_capacity", "rated_capacity"), f"{capacity_Ah} Ah")
    plan = resolved(tmp_path, EVERYTHING.replace("25 degC", f"{degC} degC"), **size)
    ours, theirs = (
        simulate(plan, parameter_set=parameter_set, engine=engine) for engine in ("own", "pybamm")
    )
    assert ours.provenance["ended"] == theirs.provenance["ended"] == "complete"
    assert [s.ended_by for s in ours.steps] == [s.ended_by for s in theirs.steps]
    for a, b in zip(ours.steps, theirs.steps, strict=True):
        n = min(a.last_row - a.first_row, b.last_row - b.first_row) + 1
        gap_V = (ours.columns["voltage_V"][a.first_row : a.first_row + n]
                 - theirs.columns["voltage_V"][b.first_row : b.first_row + n])  # fmt: skip
        assert np.abs(gap_V).max() < 2e-3, a.label
        assert moved_Ah(ours, a) == pytest.approx(moved_Ah(theirs, b), rel=1e-3, abs=1e-9)
        assert a.duration_s == pytest.approx(b.duration_s, abs=3)
        gap_K = (ours.columns["temperature_degC"][a.last_row]
                 - theirs.columns["temperature_degC"][b.last_row])  # fmt: skip
        assert abs(gap_K) < 0.05
    assert np.ptp(ours.columns["voltage_V"]) > 1.0


DRIVEN = HEAD + """\
chamber: {temperature: 15 degC, within: 2 degC}
steps:
  - charge: {rate: 1C, for: 10 min}
  - rest: {for: 10 min}
  - pulse: {discharge: 2C, for: 10 s, rest: 40 s, times: 2}
  - discharge: {rate: C/2, for: 15 min}
record: {every: 1 s}
"""


def test_a_set_whose_electrolyte_is_not_as_simple_is_followed_too(tmp_path):
    """Its transference number depends on concentration, its conductivity on both at once."""
    plan = resolved(tmp_path, DRIVEN, voltage={"min": "2.5 V", "max": "4.4 V"})
    ours, theirs = (
        simulate(plan, parameter_set="ORegan2022", engine=e, soc=0.5) for e in ("own", "pybamm")
    )
    assert ours.provenance["ended"] == theirs.provenance["ended"] == "complete"
    gap_V = ours.columns["voltage_V"] - theirs.columns["voltage_V"]
    assert np.abs(gap_V).max() < 3e-3
    assert gap_V.std() < 1e-3
    gap_K = ours.columns["temperature_degC"] - theirs.columns["temperature_degC"]
    assert np.abs(gap_K).max() < 0.1


FULL = HEAD + """\
chamber: {temperature: 15 degC, within: 2 degC}
steps:
  - charge: {rate: 1C, until: 4.1 V, hold_until: C/4, at_most: 3 h}
  - discharge: {rate: C/2, until: 3.2 V, at_most: 3 h}
  - rest: {for: 10 min}
  - pulse: {discharge: 2C, for: 10 s, rest: 40 s, times: 2}
  - charge: {power: 8 W, for: 3 min}
  - discharge: {resistance: 1 Ohm, for: 3 min}
  - hold: {voltage: 3.6 V, limit: C/2, for: 5 min}
record: {every: 1 s}
"""


@pytest.mark.parametrize("parameter_set", ["Chen2020", "Ecker2015"])
def test_the_full_model_is_pybamms_in_every_mode(tmp_path, parameter_set):
    """PyBaMM's is on a mesh of 20 and 30 points, where ours is finer."""
    plan = resolved(tmp_path, FULL)
    ours, theirs = (
        simulate(plan, parameter_set=parameter_set, engine=e, model="dfn", soc=0.4)
        for e in ("own", "pybamm")
    )
    assert ours.provenance["ended"] == theirs.provenance["ended"] == "complete"
    assert [s.ended_by for s in ours.steps] == [s.ended_by for s in theirs.steps]
    for a, b in zip(ours.steps, theirs.steps, strict=True):
        n = min(a.last_row - a.first_row, b.last_row - b.first_row) + 1
        gap_V = (ours.columns["voltage_V"][a.first_row : a.first_row + n]
                 - theirs.columns["voltage_V"][b.first_row : b.first_row + n])  # fmt: skip
        assert np.sqrt((gap_V**2).mean()) < 2e-3, a.label
        assert moved_Ah(ours, a) == pytest.approx(moved_Ah(theirs, b), rel=5e-3, abs=1e-3)
        gap_K = (ours.columns["temperature_degC"][a.last_row]
                 - theirs.columns["temperature_degC"][b.last_row])  # fmt: skip
        assert abs(gap_K) < 0.1


def test_the_full_model_has_no_spectrum(tmp_path):
    plan = resolved(
        tmp_path, HEAD + "steps:\n  - measure: {what: eis, from: 1 kHz, to: 1 Hz, as: z}\n"
    )
    with pytest.raises(BatterylabError, match="no impedance of the dfn"):
        simulate(plan, model="dfn")


OTHER_MODES = HEAD + """\
chamber: {temperature: 25 degC, within: 2 degC}
steps:
  - charge: {power: 15 W, for: 10 min}
  - discharge: {resistance: 1 Ohm, for: 5 min}
  - hold: {voltage: 3.9 V, limit: C/2, for: 10 min}
  - profile: {points: [[30 s, -1C], [20 s, 0.5C]], times: 3}
  - rest: {for: 10 min}
  - soak: {temperature: 35 degC, for: 10 min}
  - measure: {what: ocv, as: relaxed, at_most: 10 s}
  - discharge: {power: 10 W, until: 3.5 V, at_most: 2 h}
record: {every: 1 s}
"""


def test_both_engines_agree_on_power_load_hold_profile_and_soak(tmp_path):
    plan = resolved(tmp_path, OTHER_MODES)
    ours, theirs = (simulate(plan, engine=engine) for engine in ("own", "pybamm"))
    assert ours.provenance["ended"] == theirs.provenance["ended"] == "complete"
    assert [s.ended_by for s in ours.steps] == [s.ended_by for s in theirs.steps]
    for a, b in zip(ours.steps, theirs.steps, strict=True):
        assert moved_Ah(ours, a) == pytest.approx(moved_Ah(theirs, b), rel=1e-3, abs=1e-5), a.label
        rows = ours.columns["voltage_V"][a.last_row], theirs.columns["voltage_V"][b.last_row]
        assert rows[0] == pytest.approx(rows[1], abs=2e-3), a.label
    assert ours.columns["temperature_degC"][-1] > 33
    first, second = (r.provenance["readings"][0]["voltage_V"] for r in (ours, theirs))
    assert first == pytest.approx(second, abs=1e-3)


def test_a_spectrum_is_that_of_pybamms_eis_simulation(tmp_path):
    text = HEAD + (
        "chamber: {temperature: 25 degC, within: 2 degC}\nsteps:\n  - rest: {for: 1 min}\n"
        "  - measure: {what: eis, from: 1 kHz, to: 100 mHz, points_per_decade: 2, as: z}\n"
    )
    both = [simulate(resolved(tmp_path, text), engine=e, soc=0.5) for e in ("own", "pybamm")]
    spectra = []
    for recording in both:
        rows = np.isfinite(recording.columns["frequency_Hz"])
        assert rows.sum() == 9
        assert np.all(recording.columns["step_index"][rows] == 1)
        spectra.append(recording.columns["impedance_real_ohm"][rows]
                       + 1j * recording.columns["impedance_imaginary_ohm"][rows])  # fmt: skip
    assert np.abs(spectra[0] - spectra[1]).max() < 5e-3 * np.abs(spectra[1]).max()


def test_a_simulation_is_a_recording_like_any_other(tmp_path):
    recording = simulate(resolved(tmp_path, EVERYTHING), serial="T-1")
    again = read(write(recording, tmp_path / "archive"))
    assert again.provenance["source"] == "simulation"
    assert again.serial == "T-1"
    assert again.protocol_resolved["name"] == "tried"
    found = {f.name: f.value for f in features_of(again)}
    assert 4.7 < found["capacity_Ah"] < 4.9
    assert 25 < found["dcir_10s_mOhm"] < 50
    pulse = next(s for s in again.steps if s.measure == "dcir")
    rows = again.columns
    hand = 1e3 * (rows["voltage_V"][pulse.first_row - 1] - rows["voltage_V"][pulse.last_row]) / 5
    assert found["dcir_10s_mOhm"] == pytest.approx(hand, rel=1e-6)
    assert np.all(np.diff(rows["test_time_s"]) > 0)
    assert simulate(resolved(tmp_path, EVERYTHING), serial="T-1").checked().columns[
        "voltage_V"
    ] == pytest.approx(rows["voltage_V"], abs=0)


def test_the_record_rule_thins_the_rows_and_keeps_the_charge(tmp_path):
    fine = simulate(resolved(tmp_path, EVERYTHING))
    coarse = simulate(resolved(tmp_path, EVERYTHING.replace("{every: 1 s}", "{every: 60 s}")))
    assert len(coarse) < len(fine) / 30
    for a, b in zip(fine.steps, coarse.steps, strict=True):
        assert moved_Ah(fine, a) == pytest.approx(moved_Ah(coarse, b), abs=1e-12)
        assert (a.ended_by, a.duration_s) == (b.ended_by, b.duration_s)
    pulse = next(s for s in coarse.steps if s.measure == "dcir")
    assert pulse.last_row - pulse.first_row == 9


@pytest.mark.parametrize("engine", ["own", "pybamm"])
def test_a_step_that_is_not_done_in_time_stops_the_protocol(tmp_path, engine):
    text = HEAD + "steps:\n  - charge: {rate: C/10, until: v_max, at_most: 60 s}\n"
    recording = simulate(resolved(tmp_path, text), engine=engine)
    assert recording.provenance["ended"].startswith("stopped: steps[0]: not ended after 60 s")
    assert recording.steps[0].ended_by == "at_most"
    assert recording.steps[0].duration_s == 60


def test_a_hot_cell_stops_the_protocol(tmp_path):
    text = HEAD + (
        "stop:\n  - {when: temperature, above: 28 degC}\n"
        "steps:\n  - discharge: {rate: 2C, until: v_min, at_most: 1 h}\n  - rest: {for: 1 h}\n"
    )
    recording = simulate(resolved(tmp_path, text), soc=0.9)
    assert "°C outside -10 to 28 °C" in recording.provenance["ended"]
    assert [s.ended_by for s in recording.steps] == ["stopped"]
    assert recording.columns["temperature_degC"][-1] == pytest.approx(28.0, abs=0.1)


def test_a_full_cell_can_be_charged_in_both_engines(tmp_path):
    text = HEAD + "steps:\n  - charge: {rate: C/2, until: v_max, hold_until: C/20, at_most: 1 h}\n"
    both = [simulate(resolved(tmp_path, text), engine=e, soc=1.0) for e in ("own", "pybamm")]
    ends = [r.steps[0].ended_by for r in both]
    assert ends == ["current", "current"]
    assert moved_Ah(both[0], both[0].steps[0]) == pytest.approx(
        moved_Ah(both[1], both[1].steps[0]), abs=1e-3
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parameter_set": "Chen202"}, "did you mean 'Chen2020'"),
        ({"parameter_set": "Xu2019"}, "no lithium-ion full cell"),
        ({"model": "p2d"}, "known: spm, spme, dfn"),
        ({"engine": "theirs"}, "known: own, pybamm"),
        ({"soc": 1.2}, "120 %"),
    ],
)
def test_what_cannot_be_simulated_is_said(tmp_path, options, message):
    with pytest.raises(BatterylabError) as caught:
        simulate(resolved(tmp_path, EVERYTHING), **options)
    assert message in str(caught.value)


def test_a_window_that_the_set_cannot_have_is_said(tmp_path):
    plan = resolved(tmp_path, EVERYTHING, voltage={"min": "2.5 V", "max": "5.9 V"})
    with pytest.raises(BatterylabError, match=r"cannot reach 5\.9 V") as caught:
        simulate(plan)
    assert "its window is 2.5 to 4.2 V" in (caught.value.hint or "")


CYCLES = HEAD + """\
steps:
  - repeat: {times: 100}
    steps:
      - charge: {rate: 1C, until: v_max, hold_until: C/5, at_most: 3 h}
      - rest: {for: 10 min}
      - discharge: {rate: 1C, until: v_min, at_most: 2 h}
        measure: cycle
record: {every: 10 min}
"""


def test_equal_cycles_are_followed_once_and_nothing_else_changes(tmp_path, monkeypatch):
    plan = resolved(tmp_path, CYCLES)
    begin = time.process_time()
    quick = simulate(plan)
    assert time.process_time() - begin < 2.0
    short = resolved(tmp_path, CYCLES.replace("times: 100", "times: 6"))
    monkeypatch.setattr("batterylab.protocol.owncell.MEMORY", 0)
    monkeypatch.setattr(OwnEngine, "carry_out", OwnEngine._follow)
    every = simulate(short)
    n = len(every) - 1  # the last sample of all is kept, whatever the rule
    for name in ("current_A", "voltage_V", "temperature_degC", "net_capacity_Ah", "test_time_s"):
        assert quick.columns[name][:n] == pytest.approx(every.columns[name][:n], abs=1e-6)
    assert [moved_Ah(quick, s) for s in quick.steps[:18]] == pytest.approx(
        [moved_Ah(every, s) for s in every.steps], abs=1e-9
    )


@given(st.integers(1, 400_000))
def test_rests_are_sampled_to_their_end(seconds):
    times = rest_times(seconds)
    assert times[-1] == seconds
    assert np.all(np.diff(times) > 0)
    assert np.diff(times, prepend=0.0).max() <= 60


STEPS = st.lists(
    st.one_of(
        st.integers(1, 4000).map(lambda s: f"rest: {{for: {s} s}}"),
        st.tuples(st.sampled_from(["charge", "discharge"]), st.sampled_from(["C/3", "1C", "2 A"]),
                  st.integers(1, 900)).map(lambda t: "{}: {{rate: {}, for: {} s}}".format(*t)),
        st.tuples(st.sampled_from(["C/2", "I3", "1C"]), st.sampled_from(["4.1 V", "v_max"])).map(
            lambda t: "charge: {{rate: {}, until: {}, hold_until: C/10, at_most: 9 h}}".format(*t)),
        st.sampled_from(["3.0 V", "v_min"]).map(
            lambda v: f"discharge: {{rate: C/2, until: {v}, at_most: 9 h}}"),
    ),
    min_size=1, max_size=5,
)  # fmt: skip


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS, times=st.integers(1, 3))
def test_valid_protocols_come_to_an_end_and_are_converted(tmp_path, steps, times):
    body = "".join(f"      - {step}\n" for step in steps)
    plan = resolved(tmp_path, f"{HEAD}steps:\n  - repeat: {{times: {times}}}\n    steps:\n{body}")
    recording = simulate(plan)
    ended = recording.provenance["ended"]
    assert ended == "complete" or ended.startswith("stopped: steps")
    if ended == "complete":
        assert len(recording.steps) == times * len(steps)
    low, high = plan.voltage_limits_V
    assert recording.columns["voltage_V"].min() >= low - 0.01
    assert recording.columns["voltage_V"].max() <= high + 0.01
    for target in ("pybamm", "unicycler", "neware", "keysight"):
        assert convert(plan, target, ["temperature"]).text
