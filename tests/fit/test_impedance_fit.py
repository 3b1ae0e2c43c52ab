"""Impedance spectra: the circuits' language, their kernel, fits, and real files."""

import cmath
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.cli import cli
from batterylab.errors import BatterylabError
from batterylab.fit import NotSuitedError, fit
from batterylab.fit.celltables import tables_of
from batterylab.fit.impedance import (
    EisCell,
    ImpedanceSettings,
    cell_impedance,
    circuit_impedance,
    fit_impedance,
    parse_circuit,
    spectra_of,
)
from batterylab.fit.impedancecheck import kramers_kronig
from batterylab.fit.impedancefit import (
    solve_circuit_impedance,
    solve_spme_impedance,
    spectrum_from,
)
from batterylab.fit.plot import plot_fit
from batterylab.fit.result import Fit
from batterylab.fit.statistics import judge
from batterylab.recording import Recording, StepRow

HERTZ = np.geomspace(1e4, 1e-2, 50)
#: circuit -> values in the units of its names
CIRCUITS = {
    "R0-p(R1,CPE1)-W1": [10.0, 20.0, 5.0, 0.8, 6.0],
    "L0-R0-p(R1,CPE1)-W1": [200.0, 10.0, 20.0, 5.0, 0.8, 6.0],
    "R0-p(R1,C1)-p(R2-Wo1,C2)": [16.0, 5.0, 0.2, 9.0, 60.0, 100.0, 3.0],
    "p(R1-Ws1,CPEdl)-R0": [20.0, 30.0, 5.0, 2.0, 0.85, 12.0],
}


def spectrum_recording(ohm, hertz=HERTZ, **columns):
    n = len(hertz)
    own = {
        "test_time_s": np.arange(n, dtype=float), "current_A": np.zeros(n),
        "voltage_V": np.full(n, 3.7), "step_index": np.zeros(n, int),
        "cycle_index": np.zeros(n, int), "frequency_Hz": hertz,
        "impedance_real_ohm": ohm.real, "impedance_imaginary_ohm": ohm.imag,
    }  # fmt: skip
    return Recording("c1", "", "", "eis", {**own, **columns}, [StepRow(0, 0, n - 1, "other")])


def by_hand(text, omega, v):
    """The impedance of the circuits above, from their formulas."""
    s = 1j * omega

    def cpe(q, alpha):
        return 1.0 / (q * s**alpha)

    if text == "R0-p(R1,CPE1)-W1":
        r0, r1, q, alpha, w = v
        return r0 + 1.0 / (1.0 / r1 + 1.0 / cpe(q, alpha)) + w * (1 - 1j) / np.sqrt(omega)
    if text == "L0-R0-p(R1,CPE1)-W1":
        return s * v[0] + by_hand("R0-p(R1,CPE1)-W1", omega, v[1:])
    if text == "R0-p(R1,C1)-p(R2-Wo1,C2)":
        r0, r1, c1, r2, z, tau, c2 = v
        q = cmath.sqrt(s * tau)
        inner = r2 + z / (q * cmath.tanh(q))
        return r0 + 1.0 / (1.0 / r1 + s * c1) + 1.0 / (1.0 / inner + s * c2)
    r1, z, tau, q, alpha, r0 = v
    root = cmath.sqrt(s * tau)
    return 1.0 / (1.0 / (r1 + z * cmath.tanh(root) / root) + 1.0 / cpe(q, alpha)) + r0


@pytest.mark.parametrize("text", CIRCUITS)
def test_a_circuit_is_what_its_formula_says(text):
    circuit, values = parse_circuit(text), np.array(CIRCUITS[text])
    ours = circuit_impedance(circuit, HERTZ, values)[0]
    theirs = [by_hand(text, 2 * np.pi * f, values / circuit.factors) for f in HERTZ]
    assert np.allclose(ours, theirs, rtol=1e-12)


def test_the_tanh_of_wide_and_narrow_arguments_is_right():
    ohm = circuit_impedance("Wo1", [1e-9, 1e9], [30.0, 100.0])[0]
    assert ohm[0].real == pytest.approx(0.010, rel=1e-6)  # a third of 30 mOhm
    assert ohm[1].imag == pytest.approx(-ohm[1].real, rel=1e-12)


def test_every_element_has_the_derivatives_of_its_impedance():
    circuit = parse_circuit("L0-R0-p(R1,CPE1)-p(R2-Wo1,C2)-W3-Ws4")
    values = np.array([200.0, 10, 20, 5, 0.8, 15, 30, 20, 1000, 0.5, 7, 3])
    ohm, slopes = circuit_impedance(circuit, HERTZ, values)
    start = circuit.to_kernel(values)
    for j in range(len(start)):
        both = []
        for change in (1e-6, -1e-6):
            moved = start.copy()
            moved[j] += change
            both.append(circuit_impedance(circuit, HERTZ, circuit.from_kernel(moved))[0])
        numeric = (both[0] - both[1]) / 2e-6
        assert np.abs(numeric - slopes[:, j]).max() <= 1e-6 * np.abs(slopes[:, j]).max()
    assert ohm.shape == (50,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "character 1: it ends too early"),
        ("R0-", "character 4: it ends too early"),
        ("R0-X1", "character 4: an element is wanted, not 'X1'"),
        ("R0-p(R1)", "p\\(\\) joins two branches"),
        ("R0-p(R1,C1", "'\\)' or ',' is wanted"),
        ("R0)", "'\\)' is too much"),
        ("R0-R0", "'R0' stands there twice"),
        ("__import__('os')", "an element is wanted"),
        ("-".join(f"R{n}" for n in range(17)), "17 parameters"),
        ("p(R0," * 14 + "C1" + ")" * 14, "nested deeper|stands there twice"),
        ("R" * 500, "a circuit of 500 characters"),
    ],
)
def test_a_wrong_circuit_is_told_where(text, message):
    with pytest.raises(BatterylabError, match=message):
        parse_circuit(text)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="RCLWPEos01p(),- é\n", max_size=60))
def test_no_text_does_more_than_parse_or_fail_clearly(text):
    try:
        circuit = parse_circuit(text)
    except BatterylabError:
        return
    assert len(set(circuit.names)) == len(circuit.names) > 0
    values = np.where(circuit.is_logarithm, 1.0, 0.8)
    assert np.isfinite(circuit_impedance(circuit, [1.0, 100.0], values)[0]).all()


def random_circuit(draw, depth=0):
    kinds = ["R", "C", "L", "CPE", "W", "Wo", "Ws"]
    count = draw(st.integers(1, 3))
    items = []
    for _ in range(count):
        if depth < 2 and draw(st.booleans()):
            items.append(f"p({random_circuit(draw, depth + 1)},{random_circuit(draw, depth + 1)})")
        else:
            items.append(draw(st.sampled_from(kinds)) + "#")
    return "-".join(items)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_circuit_and_values_give_no_crash(data):
    text = random_circuit(data.draw)
    number = iter(range(1000))
    text = "".join(str(next(number)) if c == "#" else c for c in text)
    try:
        circuit = parse_circuit(text)
    except BatterylabError:
        return
    size = st.floats(1e-30, 1e30) | st.floats(0.5, 2.0)
    values = data.draw(st.lists(size, min_size=len(circuit.names), max_size=len(circuit.names)))
    hertz = data.draw(st.lists(st.floats(1e-9, 1e12), min_size=1, max_size=5))
    ohm, slopes = circuit_impedance(circuit, hertz, values)
    assert ohm.shape == (len(hertz),)
    assert slopes.shape == (len(hertz), len(circuit.names))


@pytest.mark.parametrize("text", CIRCUITS)
def test_clean_spectra_give_back_what_made_them(text):
    circuit = parse_circuit(text)
    ohm = circuit_impedance(circuit, HERTZ, CIRCUITS[text])[0]
    found = solve_circuit_impedance(circuit, spectrum_from(HERTZ, ohm))
    assert found.converged
    assert circuit.from_kernel(found.parameters) == pytest.approx(CIRCUITS[text], rel=1e-4)


def test_like_branches_come_by_rising_time_constant():
    ohm = circuit_impedance("R0-p(R1,C1)-p(R2,C2)", HERTZ, [10, 20, 0.5, 5, 0.01])[0]
    circuit = parse_circuit("R0-p(R1,C1)-p(R2,C2)")
    found = solve_circuit_impedance(circuit, spectrum_from(HERTZ, ohm))
    assert circuit.from_kernel(found.parameters) == pytest.approx([10, 5, 0.01, 20, 0.5], rel=1e-6)


def test_intervals_hold_as_often_as_they_say():
    text = "R0-p(R1,CPE1)-W1"
    circuit = parse_circuit(text)
    truth = circuit.to_kernel(CIRCUITS[text])
    clean = circuit_impedance(circuit, HERTZ, CIRCUITS[text])[0]
    random = np.random.default_rng(7)
    held = []
    for _ in range(150):
        noise = 0.005 * np.abs(clean) * (random.normal(size=50) + 1j * random.normal(size=50))
        found = solve_circuit_impedance(
            circuit, spectrum_from(HERTZ, clean + noise), start=CIRCUITS[text]
        )
        judgement = judge(found.residual_V, found.jacobian, ~found.at_bound)
        held.append(np.abs(found.parameters - truth) <= 1.98 * judgement.standard_errors)
    share = np.mean(held)
    assert 0.92 <= share <= 0.975


def test_a_cells_model_is_recovered_from_its_own_spectrum():
    cell = EisCell(tables_of("Chen2020", 298.15))
    base = cell.at(0.6)
    truth = base.copy()
    names = ("log_negative_time", "log_positive_rate", "contact_ohm", "log_negative_capacitance")
    changes = {4: 0.4, 7: -0.6, 8: 0.004, 11: 0.5}
    for place, change in changes.items():
        truth[place] += change
    ohm = cell_impedance(cell, HERTZ, truth)[0]
    found, whole = solve_spme_impedance(cell, spectrum_from(HERTZ, ohm), base, names)
    assert found.converged
    assert whole == pytest.approx(truth, rel=1e-6, abs=1e-9)


def test_the_model_is_fitted_to_a_recording_in_the_size_of_its_cell():
    ohm = 0.5 * cell_impedance(*_half_charged())[0]
    recording = replace(
        spectrum_recording(ohm, temperature_degC=np.full(len(HERTZ), 25.0)),
        cell_type={"nominal_capacity_Ah": 10.0},
    )
    made = fit(recording, model="impedance", circuit="spme", soc_percent=50)
    assert made.converged
    assert made.residual_percent < 1e-3
    assert made.values["negative_exchange_factor"] == pytest.approx(1.0, rel=0.01)
    assert made.settings["area_factor"] == pytest.approx(2.0)


def _half_charged():
    cell = EisCell(tables_of("Chen2020", 298.15))
    return cell, HERTZ, cell.at(0.5)


def test_the_linear_test_passes_a_linear_spectrum_and_finds_a_drift():
    ohm = circuit_impedance("R0-p(R1,CPE1)-W1", HERTZ, CIRCUITS["R0-p(R1,CPE1)-W1"])[0]
    assert kramers_kronig(spectrum_from(HERTZ, ohm)).note == ""
    drifting = ohm.real * np.linspace(1.0, 1.6, len(ohm)) + 1j * ohm.imag
    found = kramers_kronig(spectrum_from(HERTZ, drifting))
    assert found.rms_percent > 1.0
    assert "the cell drifted" in found.note


def test_spectra_are_told_apart_by_step_cycle_and_sweep():
    n = len(HERTZ)
    one = spectrum_recording(np.ones(n) - 0.1j)
    assert len(spectra_of(one)) == 1
    columns = {name: np.tile(values, 3) for name, values in one.columns.items()}
    columns["test_time_s"] = np.arange(3.0 * n)
    assert [len(rows) for rows in spectra_of(replace(one, columns=columns))] == [n] * 3
    columns["cycle_index"] = np.repeat([0, 1, 2], n)
    assert [rows[0] for rows in spectra_of(replace(one, columns=columns))] == [0, n, 2 * n]
    columns["step_index"] = np.repeat([0, 0, 1], n)
    assert len(spectra_of(replace(one, columns=columns), step=1)) == 1
    columns["frequency_Hz"] = np.where(np.arange(3 * n) < n, np.nan, columns["frequency_Hz"])
    assert len(spectra_of(replace(one, columns=columns))) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"impedance_real_ohm": (7, np.nan)}, "impedance_real_ohm, row 7: not a finite number"),
        ({"impedance_imaginary_ohm": (3, np.inf)}, "impedance_imaginary_ohm, row 3"),
        ({"frequency_Hz": (3, -1.0)}, "frequency_Hz, row 3: -1 is not above 0"),
    ],
)
def test_bad_rows_are_named(change, message):
    recording = spectrum_recording(np.full(len(HERTZ), 0.02 - 0.01j))
    for name, (row, value) in change.items():
        column = recording.columns[name].copy()
        column[row] = value
        recording.columns[name] = column
    with pytest.raises(BatterylabError, match=f"recording of 'c1'.*{message}"):
        fit_impedance(recording, ImpedanceSettings())


def test_a_flipped_sign_is_refused():
    ohm = circuit_impedance("R0-p(R1,C1)", HERTZ, [10, 20, 0.5])[0]
    with pytest.raises(BatterylabError, match=r"imaginary part is positive in 50 of 50 rows"):
        fit_impedance(spectrum_recording(ohm.conj()), ImpedanceSettings())


def test_what_has_no_spectrum_does_not_suit(whole_recording):
    with pytest.raises(NotSuitedError, match="0 impedance spectra"):
        fit(whole_recording, model="impedance")
    with pytest.raises(NotSuitedError, match="1 impedance spectra, and spectrum 1 is wanted"):
        fit(spectrum_recording(np.full(50, 0.02 - 0.01j)), model="impedance", spectrum=1)


@pytest.mark.parametrize(
    ("given_", "message"),
    [({"circuit": "R0-Q1"}, "an element is wanted"), ({"weighting": "none"}, "unknown weighting"),
     ({"spectrum": -1}, "counts from 0"), ({"soc_percent": 120}, "0 to 100"),
     ({"circuit": "spme", "free": "radius"}, "unknown, or given twice")],
)  # fmt: skip
def test_wrong_settings_are_refused(given_, message):
    with pytest.raises(BatterylabError, match=message):
        ImpedanceSettings(**given_)


def test_too_few_frequencies_are_refused():
    ohm = circuit_impedance("R0-p(R1,C1)", HERTZ[:5], [10, 20, 0.5])[0]
    with pytest.raises(BatterylabError, match="5 frequencies cannot determine 11 parameters"):
        fit_impedance(spectrum_recording(ohm, HERTZ[:5]),
                      ImpedanceSettings("R0-p(R1,CPE1)-p(R2,CPE2)-W1-p(R3,C3)-L1"))  # fmt: skip


def test_a_fit_survives_the_way_into_a_file_and_is_drawn(tmp_path):
    ohm = circuit_impedance("R0-p(R1,C1)", HERTZ, [10, 20, 0.5])[0]
    made = fit(spectrum_recording(ohm), model="impedance", circuit="R0-p(R1,C1)")
    assert made.values == pytest.approx({"R0_mOhm": 10.0, "R1_mOhm": 20.0, "C1_F": 0.5})
    again = Fit.from_dict(made.to_dict())
    assert again.to_dict() == made.to_dict()
    assert made.to_dict()["residual_mV"] is None
    assert plot_fit(made, tmp_path).stat().st_size > 10_000


def test_a_real_cell_is_described(shared_data):
    path = shared_data / "data" / "eis" / "impedancepy_exampleData.csv"
    hertz, real, imag = np.loadtxt(path, delimiter=",").T
    kept = imag < 0
    spectrum = spectrum_from(hertz[kept], real[kept] + 1j * imag[kept])
    circuit = parse_circuit("R0-p(R1,C1)-p(R2-Wo1,C2)")
    found = solve_circuit_impedance(circuit, spectrum)
    # impedance.py 1.7.1 from its example's start: R0 16.399 mOhm, sum of squares 0.020022
    assert circuit.from_kernel(found.parameters)[0] == pytest.approx(16.4, abs=0.05)
    assert (found.residual_V**2).sum() < 0.020022
    assert kramers_kronig(spectrum).rms_percent < 0.3


def test_the_command_fits_a_file_of_a_potentiostat(shared_data):
    path = shared_data / "data" / "eis" / "impedancepy_exampleDataBioLogic.mpt"
    done = CliRunner().invoke(
        cli, ["fit", str(path), "--model", "impedance", "-p", "circuit=R0-p(R1,p(C1,R2-C2))"]
    )
    assert done.exit_code == 0, done.output
    assert "R0_mOhm" in done.output
    assert "% over 86 rows" in done.output
