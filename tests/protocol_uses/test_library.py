"""The protocols that are shipped: valid, quick to check, honest about their figures."""

import time

import pytest
from click.testing import CliRunner

from batterylab.bench.onboard import Guards, compile_segment
from batterylab.cli.protocol import _cell_type, protocol
from batterylab.drivers.keysight_bt2200 import SLOTS, STEPS, LONGEST_STEP_s
from batterylab.protocol import all_segments, load, names
from batterylab.protocol.simulate import simulate

STANDARDS = ("gbt_", "iec_", "iso_", "usabc_", "sae_")
EXPECTED = {
    "capacity_resistance", "eis_sweep", "formation_check", "gauge_capacity", "gauge_check",
    "gbt_31484_cycle",
    "gbt_31486_2024_capacity", "gbt_31486_charge_retention", "gbt_31486_high_temperature",
    "gbt_31486_low_temperature", "gbt_31486_rate_charge", "gbt_31486_rate_discharge",
    "gbt_31486_retention_hot", "gbt_31486_storage", "gitt", "iec_62660_1_capacity",
    "iec_62660_1_cycle_life", "iec_62660_1_energy_efficiency", "iec_62660_1_power",
    "iec_62660_1_storage",
    "incoming_inspection", "iso_12405_4_hppc", "ocv_c20", "rate_capability",
    "sae_j1798_capacity", "self_discharge", "usabc_hppc",
}  # fmt: skip
#: rates at which a cell in still air passes its stop temperature: it needs the standard's fixture
HOT = {"gbt_31486_rate_charge": 3.0, "gbt_31486_rate_discharge": 6.0}
#: too long for every run of the tests
LONG = {"gbt_31484_cycle", "capacity_resistance"}


@pytest.fixture
def kind():
    return _cell_type(None)[0]


def test_nothing_is_missing():
    assert set(names()) >= EXPECTED


def test_the_whole_library_is_checked_within_a_second(kind):
    begin = time.process_time()
    for name in names():
        load(name).resolve(kind)
    assert time.process_time() - begin < 1.0


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_each_protocol_fits_the_cyclers_sequences(name, kind):
    resolved = load(name).resolve(kind)
    assert resolved.name == name
    segments = all_segments(resolved)
    assert 1 <= len(segments) <= SLOTS
    for segment in segments:
        steps = compile_segment(segment, Guards(resolved.voltage_limits_V))
        assert len(steps) <= STEPS
        assert all(1 <= step.duration_s <= LONGEST_STEP_s for step in steps)


@pytest.mark.parametrize("name", sorted(n for n in EXPECTED if n.startswith(STANDARDS)))
def test_each_standards_protocol_says_its_clause_its_figures_and_its_gaps(name):
    file = load(name).file
    assert file.basis
    assert file.does_not_cover
    assert {figure.mark for figure in file.figures} & {"V", "D", "U"}


@pytest.mark.parametrize("name", sorted(EXPECTED - LONG))
def test_each_protocol_runs_from_start_to_end(name, kind):
    resolved = load(name).resolve(kind)
    if name in HOT:
        assert "temperature" in simulate(resolved).provenance["ended"]
    recording = simulate(resolved, cooling=HOT.get(name, 1.0))
    assert recording.provenance["ended"] == "complete"
    assert recording.provenance["remarks"] == []


def test_the_rated_current_of_the_standards_is_understood(tmp_path, kind):
    text = "schema: batterylab.protocol/1\nname: i\nsteps:\n"
    rates = {"I3": 4.8 / 3, "1I3": 4.8 / 3, "2I1": 9.6, "0.5 I 1": 2.4}
    path = tmp_path / "i.yaml"
    path.write_text(text + "".join(f"  - discharge: {{rate: {r}, for: 60 s}}\n" for r in rates))
    data = kind.model_dump(by_alias=True)
    smaller = kind.model_copy(update={"rated_capacity_Ah": 4.8})
    assert data["nominal_capacity"] == 5.0
    found = [-step.current_A for step in load(path).resolve(smaller).steps()]
    assert found == pytest.approx(list(rates.values()))


@pytest.mark.parametrize("rate", ["0I3", "I0", "I", "3I", "I3I1"])
def test_what_is_no_rated_current_is_refused(tmp_path, rate):
    path = tmp_path / "i.yaml"
    path.write_text("schema: batterylab.protocol/1\nname: i\nsteps:\n"
                    f"  - discharge: {{rate: {rate}, for: 60 s}}\n")  # fmt: skip
    with pytest.raises(Exception, match="rate"):
        load(path)


def test_a_figure_is_set_by_calling_the_protocol(tmp_path, kind):
    path = tmp_path / "ours.yaml"
    path.write_text("schema: batterylab.protocol/1\nname: ours\n"
                    "chamber: {temperature: 25 degC, within: 2 degC}\nsteps:\n"
                    "  - call: gbt_31486_low_temperature\n"
                    "    with: {cold: -10 degC, wait: 16 h}\n")  # fmt: skip
    cold = next(step for step in load(path).resolve(kind).steps() if step.air is not None)
    assert (cold.air.temperature_degC, cold.duration_s) == (-10.0, 16 * 3600)


def test_show_prints_figures_with_their_marks():
    done = CliRunner().invoke(protocol, ["show", "gbt_31486_2024_capacity"])
    assert "figure D: test current: not less than 1I3" in done.stdout
    assert "does not cover: humidity" in done.stdout
    assert "until the last 3 capacity lie within 0.15 Ah" in done.stdout
