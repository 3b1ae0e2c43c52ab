"""Published files of other cyclers: rows, times, ranges, and the charge of each cycle.

Expected figures are those of MANIFEST.json, made by independent tools. Where tools disagree the
file's own counters decide; each such place says so.
"""

import json
from collections import Counter as Tally

import numpy as np
import pytest

from batterylab.errors import BatterylabError, ProblemsError
from batterylab.importers.build import Stated, recording_of

STATED = Stated("S1")
COUNTED = "capacity_per_cycle_Ah_[chg,dis]_from_file"
TRAPEZOID = "capacity_per_cycle_Ah_[chg,dis]_own_trapezoid"


@pytest.fixture(scope="module")
def data(shared_data):
    return shared_data / "data"


@pytest.fixture(scope="module")
def manifest(data):
    entries = json.loads((data / "MANIFEST.json").read_text(encoding="utf-8"))
    return {entry["file"]: entry["expected"] for entry in entries}


def per_cycle(recording):
    """Return charged and discharged Ah by cycle number."""
    columns = recording.columns
    moved = [
        np.diff(columns[name], prepend=0.0)
        for name in ("charge_capacity_Ah", "discharge_capacity_Ah")
    ]
    return {
        int(number): [float(side[columns["cycle_index"] == number].sum()) for side in moved]
        for number in np.unique(columns["cycle_index"])
    }


def capacities_Ah(recording):
    """Return what each step marked as capacity discharged."""
    net = recording.columns.get("net_capacity_Ah")
    if net is None:
        amps, seconds = recording.columns["current_A"], recording.columns["test_time_s"]
        steps = np.diff(seconds) * 0.5 * (amps[1:] + amps[:-1]) / 3600.0
        net = np.concatenate([[0.0], np.cumsum(steps)])
    return [
        float(net[max(s.first_row - 1, 0)] - net[s.last_row])
        for s in recording.steps
        if s.measure == "capacity"
    ]


NEWARE = ("neware/TESTCELL0001-M50T.ndax", "neware/nw4-120-1-6-53.ndax", "neware/nda_v26.nda.zip")


@pytest.mark.parametrize("name", NEWARE)
def test_neware_binaries_agree_with_the_files_own_counters(data, manifest, name):
    expected = manifest[name]["bdf_fastnda"]
    recording = recording_of(data / name, STATED)
    assert len(recording) == expected["rows"]
    time_s = recording.columns["test_time_s"]
    assert time_s[-1] == pytest.approx(expected["t_end_s"], rel=1e-7)
    assert recording.columns["voltage_V"].min() == pytest.approx(expected["V"][0], abs=1e-6)
    # MANIFEST's tool reports mA; a recording is in A
    assert recording.columns["current_A"].max() == pytest.approx(expected["I_mA"][1] / 1e3)
    assert recording.columns["current_A"].min() == pytest.approx(expected["I_mA"][0] / 1e3)
    assert len(recording.steps) == expected["n_steps"]
    found = per_cycle(recording)
    # PyProBE counts 8992 cycles in nda_v26, which is the file's raw number; fastnda counts 9086
    assert len(found) == expected["n_cycles"]
    for number, (charge, discharge) in expected[COUNTED].items():
        assert found[int(number)] == pytest.approx([charge, discharge], rel=1e-4, abs=2e-6)


def test_neware_clock_and_cell_come_from_the_file(data):
    recording = recording_of(data / NEWARE[0], STATED)
    assert recording.start_utc == "2025-09-25T12:18:47.675000+00:00"
    assert "temperature_degC" in recording.columns
    assert np.nanmean(recording.columns["temperature_degC"]) == pytest.approx(25, abs=3)
    assert recording.provenance["reader"].startswith("fastnda ")
    assert len(recording.provenance["sha256"]) == 64
    # six discharges at one current; the first full one was at another and is not averaged in
    assert capacities_Ah(recording) == pytest.approx(
        [4.7205, 4.7228, 4.7219, 4.7238, 4.7224, 4.7190], abs=2e-4
    )


def test_an_old_neware_binary_is_a_charge_whose_current_is_coarse(data, manifest):
    recording = recording_of(data / "neware/edge/nda_v22.nda.zip", STATED)
    expected = manifest["neware/edge/nda_v22.nda.zip"]["bdf_fastnda"]
    assert len(recording) == expected["rows"]
    assert per_cycle(recording)[1] == pytest.approx(expected[COUNTED]["1"], abs=1e-6)
    # 0.503 % apart; the 0.03 mA step of the converter accounts for 0.14 % of it
    figures = recording.provenance["checks"]["charge"]
    assert figures["charge_difference_percent"] == pytest.approx(0.503, abs=0.001)
    assert 0.1 < figures["charge_digits_percent"] < 0.2


def test_neware_csv(data, manifest):
    expected = manifest["neware/neware_uio.csv"]
    recording = recording_of(data / "neware/neware_uio.csv", STATED)
    assert (len(recording), len(recording.steps)) == (9065, expected["iwd"]["n_steps"])
    # cellpy and ionworks count a step's last value only; the counters themselves give a little
    # more where a cycle has several discharges
    found = per_cycle(recording)
    for number, (charge, discharge) in expected["cellpy"]["capacity_per_cycle_[chg,dis]"].items():
        assert found[int(number)] == pytest.approx([charge, discharge], rel=2e-3)


def test_neware_csv_in_microampere_is_read_in_ampere(data):
    recording = recording_of(data / "neware/edge/interp-test.csv", STATED)
    assert len(recording) == 333
    assert recording.columns["voltage_V"].max() == pytest.approx(2e-4)  # 0.2 mV in the file
    assert not recording.columns["current_A"].any()


def test_arbin_database(data, manifest):
    name = "arbin/20160805_test001_45_cc_01.res"
    recording = recording_of(data / name, STATED)
    expected = manifest[name]["cellpy"]
    assert (len(recording), len(recording.steps)) == (expected["rows"], expected["n_steps"])
    assert recording.columns["current_A"].min() == pytest.approx(expected["I"][0])
    found = per_cycle(recording)
    for number, both in expected["capacity_per_cycle_[chg,dis]"].items():
        assert found[int(number)] == pytest.approx(both, abs=1.5e-6)
    assert recording.start_utc.startswith("2016-08-05T16:21:23")


def test_arbin_csv_keeps_the_charge_before_each_steps_first_sample(data, manifest):
    name = "arbin/calce_K2_016_7_3_13_1C_Cycle.csv"
    recording = recording_of(data / name, STATED)
    expected = manifest[name]["bdf_fastnda"]
    assert len(recording) == expected["rows"]
    found = per_cycle(recording)
    assert len(found) == expected["n_cycles"]
    # the trapezoids of MANIFEST miss the 30 s before a step's first sample: 0.5 % per cycle;
    # the file's counters, which decide, hold them
    for number, both in expected[TRAPEZOID].items():
        assert found[int(number)] == pytest.approx(both, rel=8e-3, abs=1e-3)
    assert found[2][1] == pytest.approx(2.067887, abs=1e-5)
    assert len(capacities_Ah(recording)) == 20


def test_arbin_csv_without_steps_and_cycles_says_so(data):
    """ionworks takes each of its 287 rows for a cycle: the columns are empty."""
    recording = recording_of(data / "arbin/beep_2017-05-09_test-TC-contact_CH33.csv", STATED)
    assert len(recording) == 287
    assert set(recording.columns["cycle_index"]) == {0}
    assert any("no cycle numbers" in remark for remark in recording.provenance["remarks"])
    assert recording.columns["charge_capacity_Ah"][-1] == pytest.approx(0.603092, abs=1e-5)


def test_maccor_text_without_signs(data, manifest):
    """cellpy reads zero current from this file; ionworks agrees with the counters."""
    recording = recording_of(data / "maccor/maccor_001.txt", STATED)
    expected = manifest["maccor/maccor_001.txt"]["iwd"]
    assert (len(recording), len(recording.steps)) == (expected["rows"], expected["n_steps"])
    amps = recording.columns["current_A"]
    assert [amps.min(), amps.max()] == pytest.approx(expected["I_A_charge_positive"])
    assert recording.columns["test_time_s"][-1] == pytest.approx(expected["t_end_s"], abs=0.01)
    kinds = Tally(step.kind for step in recording.steps)
    assert kinds == {"rest": 11, "discharge": 5, "charge": 4, "hold": 4, "other": 1} or kinds == {
        "rest": 11, "discharge": 5, "charge": 4, "hold": 4
    }  # fmt: skip
    # four full discharges, C/10 to 2C: they are no repeats, only the slowest stands for capacity
    assert capacities_Ah(recording) == pytest.approx([4.54403], abs=1e-5)


def test_maccor_text_that_begins_within_a_step(data, manifest):
    name = "maccor/beep_PredictionDiagnostics_000109_tztest.010"
    recording = recording_of(data / name, STATED)
    expected = manifest[name]["iwd"][TRAPEZOID]
    found = per_cycle(recording)
    assert sorted(found) == [86, 87, 88, 89]  # ionworks renumbers from 0
    for (_, trapezoid), number in zip(expected.items(), sorted(found), strict=True):
        assert found[number] == pytest.approx(trapezoid, rel=2e-2, abs=2e-3)
    remarks = recording.provenance["remarks"]
    assert any("by an hour" in remark for remark in remarks)  # 3 November 2019: winter time


def test_maccor_text_with_signs(data):
    recording = recording_of(data / "maccor/beep_xTESLADIAG_000019_CH70.070", STATED)
    assert len(recording) == 11669
    assert recording.columns["current_A"].min() == pytest.approx(-9.407187)
    assert recording.provenance["checks"]["sign"]["agree_share"] == 1.0
    assert len(capacities_Ah(recording)) == 30


def test_biologic_binary_that_stops_yadg(data):
    """cellpy books the 4.977 mAh of this file as discharge; current and energy say charge."""
    recording = recording_of(data / "biologic/biol.mpr", STATED)
    assert len(recording) == 23561
    assert recording.provenance["reader"].startswith("galvani ")
    assert recording.columns["charge_capacity_Ah"][-1] == pytest.approx(4.976893e-3, abs=1e-8)
    assert recording.columns["discharge_capacity_Ah"][-1] == 0
    assert recording.columns["charge_energy_Wh"][-1] == pytest.approx(2.129687e-3, rel=1e-4)
    assert np.isfinite(recording.columns["frequency_Hz"]).sum() == 310


def test_biologic_open_circuit(data, manifest):
    name = "biologic/aurora_test_C01.mpr"
    recording = recording_of(data / name, STATED)
    expected = manifest[name]["bdf_fastnda"]
    assert len(recording) == expected["rows"]
    volts = recording.columns["voltage_V"]
    assert [volts.min(), volts.max()] == pytest.approx(expected["V"], abs=1e-6)
    assert not recording.columns["current_A"].any()


def test_biologic_text(data, manifest):
    name = "biologic/pyprobe_Sample_data_biologic_CA1.txt"
    recording = recording_of(data / name, STATED)
    expected = manifest[name]["iwd"]
    assert (len(recording), len(recording.steps)) == (expected["rows"], expected["n_steps"])
    assert recording.columns["current_A"].min() == pytest.approx(-0.90006274)
    assert recording.columns["discharge_capacity_Ah"][-1] == pytest.approx(0.032386, rel=1e-3)
    assert recording.start_utc.startswith("2024-05-13T11:19:51.602")


def test_a_bdf_file_with_cycle_counts_of_two_pi_is_refused(data):
    path = next((data / "bdf").glob("*.bdf.csv"))
    with pytest.raises(ProblemsError, match=r"cycle number 6\.28319 is not whole"):
        recording_of(path, STATED)


def test_novonix(data, manifest):
    name = "novonix/pyprobe_sample_data_novonix.csv"
    recording = recording_of(data / name, STATED)
    expected = manifest[name]["bdf_fastnda"]
    assert len(recording) == expected["rows"]
    assert recording.columns["test_time_s"][-1] == pytest.approx(expected["t_end_s"])
    assert per_cycle(recording)[1] == pytest.approx(expected[TRAPEZOID]["1"], rel=1e-4)


def test_novonix_of_an_older_version(data, manifest):
    """ionworks finds no header in this file: every line stands in quotes."""
    name = "novonix/beep_test_Nova_Form-CH01-01_short.csv"
    recording = recording_of(data / name, STATED)
    expected = manifest[name]["beep"]
    assert len(recording) == expected["rows"]
    found = per_cycle(recording)[1]
    assert found == pytest.approx(expected["capacity_per_cycle_Ah_[chg,dis]"]["1"], abs=1e-6)


def test_landt_is_too_coarse_to_check_and_says_so(data):
    name = "landt/SINTEF__LiGrR2032__2024-04-30__25degC__Landt.csv"
    recording = recording_of(data / name, STATED)
    assert len(recording) == 25162
    # the current has one digit: by trapezoid 7.144 mAh, by the counter, which decides, 6.3 mAh
    assert per_cycle(recording)[1] == pytest.approx([0.0032, 0.0063], abs=1e-9)
    assert any("too coarse" in remark for remark in recording.provenance["remarks"])


@pytest.mark.parametrize("cell", [1, 2])
def test_samsung_30q(data, manifest, cell):
    for path in sorted((data / f"multicell_30Q/cell{cell}").iterdir()):
        expected = manifest[f"multicell_30Q/cell{cell}/{path.name}"]["own"]
        recording = recording_of(path, STATED)
        assert len(recording) == expected["rows"]
        volts = recording.columns["voltage_V"]
        assert [volts.min(), volts.max()] == pytest.approx(expected["V"], abs=1e-3)
        if path.name.startswith("discharge"):
            assert capacities_Ah(recording) == pytest.approx([expected["Ah_dis"]], abs=1e-3)
        else:
            assert capacities_Ah(recording) == []
            assert recording.steps[-1].kind == "charge"


RATES = {"Co20": 13.0974, "Co2": 13.0142, "1C": 12.9411, "2C": 12.8008}


@pytest.mark.parametrize("rate", RATES)
def test_discharges_at_several_rates(data, manifest, rate):
    name = f"rate/aboutenergy_NMC_25degC_{rate}.csv"
    assert manifest[name]["own"]["Ah_neg"] == RATES[rate]
    recording = recording_of(data / name, STATED)
    assert capacities_Ah(recording) == pytest.approx([RATES[rate]], abs=1e-4)


def test_a_drive_cycle_is_one_step(data):
    recording = recording_of(data / "rate/aboutenergy_NMC_25degC_DriveCycle.csv", STATED)
    assert [step.kind for step in recording.steps] == ["other"]
    assert capacities_Ah(recording) == []


def test_hppc_pulses_are_found(data, manifest):
    recording = recording_of(data / "hppc/ampworks_hppc_discharge.csv", STATED)
    expected = manifest["hppc/ampworks_hppc_discharge.csv"]["own"]
    assert recording.columns["charge_capacity_Ah"][-1] == pytest.approx(expected["Ah_pos"])
    assert recording.columns["discharge_capacity_Ah"][-1] == pytest.approx(expected["Ah_neg"])
    measures = Tally(step.measure for step in recording.steps if step.kind == "pulse")
    assert measures == {"dcir": 9, "dcir_charge": 9}


def test_bitrode(data, manifest):
    recording = recording_of(data / "hppc/leaf_cell-low-current-hppc-25c-2.csv", STATED)
    expected = manifest["hppc/leaf_cell-low-current-hppc-25c-2.csv"]["own"]
    amps = recording.columns["current_A"]
    assert [amps.min(), amps.max()] == expected["I_raw"]
    # MANIFEST counts 1 s at the start of each step, where the file says 0.5 s: 2.7 % more;
    # the file's counter, which decides, has 31.07 Ah
    assert recording.columns["discharge_capacity_Ah"][-1] == pytest.approx(31.07, abs=0.005)
    assert sum(step.measure == "dcir" for step in recording.steps) == 10
    full = recording_of(data / "hppc/leaf_cell-discharge-bitrode-1c.csv", STATED)
    assert capacities_Ah(full) == pytest.approx([30.33, 30.34, 30.30, 30.29], abs=0.005)


@pytest.mark.parametrize(("entry", "capacity_Ah"), [(1, 4.4707), (5, 4.0495), (9, 3.6753)])
def test_basytec(data, entry, capacity_Ah):
    path = data / f"ocv_rpt/P45B_serial23_pOCV_CH_entry0{entry}.csv"
    recording = recording_of(path, STATED)
    assert len(recording) == 10000
    assert recording.columns["net_capacity_Ah"][-1] == pytest.approx(capacity_Ah, abs=1e-4)
    assert [step.kind for step in recording.steps] == ["charge"]


def test_parquet(data):
    recording = recording_of(data / "ocv_rpt/LGM50_RPT0_pyprobe.parquet", STATED)
    assert (len(recording), len(recording.steps)) == (81661, 10)
    assert capacities_Ah(recording) == pytest.approx([7.880436 - 3.066765], abs=2e-5)


@pytest.mark.parametrize(
    "name",
    [
        "neware/edge/empty.ndax",
        "hppc/pybop_LGM50_5Ah_Pulse.mat",
        "arbin/beep_2017-05-09_test-TC-contact_CH33_Metadata.csv",
        "multicell_pulsebat/LFP_35Ah_W_5000.xlsx",
    ],
)
def test_what_holds_no_measurement_is_refused_in_one_line(data, name):
    with pytest.raises(BatterylabError) as error:
        recording_of(data / name, STATED)
    assert len(error.value.message.splitlines()) == 1
    assert error.value.message.startswith(name.rpartition("/")[2])


TRUNCATED = {
    "neware/TESTCELL0001-M50T.ndax": 200_000,
    "arbin/20160805_test001_45_cc_01.res": 1_228_800,
    "maccor/maccor_001.txt": 200_000,
    "biologic/biol.mpr": 1_000_000,
    "biologic/pyprobe_Sample_data_biologic_CA1.txt": 100_040,
    "ocv_rpt/LGM50_RPT0_pyprobe.parquet": 1_000_000,
    "hppc/leaf_cell-discharge-bitrode-1c.csv": 50_010,
}


@pytest.mark.parametrize("name", TRUNCATED)
def test_a_file_cut_short_is_refused(data, tmp_path, name):
    path = tmp_path / name.rpartition("/")[2]
    path.write_bytes((data / name).read_bytes()[: TRUNCATED[name]])
    with pytest.raises(BatterylabError):
        recording_of(path, STATED)
