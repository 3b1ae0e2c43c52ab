"""The full-cell open-circuit fit against truth, finite differences and counted intervals."""

import math
from dataclasses import replace
from functools import partial

import made_recordings as made
import numpy as np
import pytest
import real_recordings as real
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from batterylab._kernels import _ocv
from batterylab.errors import BatterylabError
from batterylab.fit import NotSuitedError, fit
from batterylab.fit.halfcells import averaged, from_file, from_parameter_set
from batterylab.fit.ocvsolve import ocv_voltage, parts_of, solve_ocv, tables_of
from batterylab.fit.solve import solve
from batterylab.fit.statistics import judge
from batterylab.fit.window import slow_step, thinned

TRUTH = np.array([0.027, 0.91, 0.854, 0.264, 0.05])


def noise(random, rows, a):
    """White noise (a = 0) or a stationary first-order autoregression, standard deviation 1."""
    values = random.standard_normal(rows)
    values[1:] *= math.sqrt(1 - a * a)
    for i in range(1, rows):
        values[i] += a * values[i - 1]
    return values


def clean(half_cells, rows=300):
    fraction, current_A = np.linspace(1, 0, rows), np.full(rows, -0.5)
    return fraction, current_A, ocv_voltage(fraction, current_A, half_cells, TRUTH)[0]


windows = st.tuples(st.floats(0.0, 0.2), st.floats(0.5, 1.0), st.floats(0.6, 1.0),
                    st.floats(0.0, 0.4), st.floats(0.0, 0.2))  # fmt: skip


@given(windows)
@settings(max_examples=40, deadline=None)
def test_derivatives_agree_with_finite_differences(half_cells, window):
    fraction, current_A = np.linspace(0, 1, 57), np.linspace(-1, 1, 57)
    p = np.array(window)
    _, jacobian = ocv_voltage(fraction, current_A, half_cells, p)
    for k in range(5):
        h = 1e-7
        up, down = p.copy(), p.copy()
        up[k] += h
        down[k] -= h
        difference = (
            ocv_voltage(fraction, current_A, half_cells, up)[0]
            - ocv_voltage(fraction, current_A, half_cells, down)[0]
        ) / (2 * h)
        np.testing.assert_allclose(jacobian[:, k], difference, rtol=2e-4, atol=2e-4)


def test_the_voltage_is_that_of_the_tables(half_cells):
    fraction = np.linspace(0, 1, 301)
    zero = np.zeros(301)
    volts, _ = ocv_voltage(fraction, zero, half_cells, TRUTH)
    grid = half_cells.first + half_cells.step * np.arange(len(half_cells.negative_V))
    x, y = (TRUTH[i] + (TRUTH[i + 1] - TRUTH[i]) * fraction for i in (0, 2))
    expected = np.interp(y, grid, half_cells.positive_V) - np.interp(x, grid, half_cells.negative_V)
    np.testing.assert_allclose(volts, expected, atol=2e-6)


@given(st.floats(0.005, 0.1), st.floats(0.75, 0.97), st.floats(0.8, 0.95), st.floats(0.22, 0.4),
       st.floats(0.0, 0.2))  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_clean_data_give_back_what_made_them(half_cells, x0, x1, y0, y1, ohm):
    fraction, current_A = np.linspace(1, 0, 250), np.full(250, -0.5)
    truth = [x0, x1, y0, y1, ohm]
    volts, _ = ocv_voltage(fraction, current_A, half_cells, truth)
    solution = solve_ocv(fraction, current_A, volts, half_cells)
    assert solution.converged
    np.testing.assert_allclose(solution.parameters, truth, atol=2e-4)


@pytest.mark.parametrize(("a", "low", "high"), [(0.0, 0.93, 0.98), (0.8, 0.88, 0.98)])
def test_intervals_hold_as_often_as_they_say(half_cells, a, low, high):
    """95 % intervals (Student's t) over 150 draws; correlated residuals included."""
    fraction, current_A, volts = clean(half_cells)
    random = np.random.default_rng(7)
    hits = []
    for _ in range(150):
        noisy = volts + 5e-4 * noise(random, len(volts), a)
        solution = solve_ocv(fraction, current_A, noisy, half_cells)
        judgement = judge(solution.residual_V, solution.jacobian, ~solution.at_bound)
        width = student.ppf(0.975, judgement.degrees_of_freedom) * judgement.standard_errors
        hits.append(np.abs(solution.parameters - TRUTH) <= width)
    assert low <= np.mean(hits) <= high
    assert np.mean(hits, axis=0).min() > low - 0.06


def test_correlated_residuals_without_their_correlation_would_mislead(half_cells):
    """The same draws with every row counted: intervals hold far too rarely."""
    fraction, current_A, volts = clean(half_cells)
    random = np.random.default_rng(7)
    hits = []
    for _ in range(60):
        noisy = volts + 5e-4 * noise(random, len(volts), 0.8)
        solution = solve_ocv(fraction, current_A, noisy, half_cells)
        r, jacobian = solution.residual_V, solution.jacobian
        naive = np.sqrt(np.diag(np.linalg.inv(jacobian.T @ jacobian)) * (r @ r) / (len(r) - 5))
        hits.append(np.abs(solution.parameters - TRUTH) <= 1.96 * naive)
    assert np.mean(hits) < 0.75


TRUTHS = [
    made.CellTruth(),
    made.CellTruth(negative_loading=0.97),
    made.CellTruth(positive_loading=0.97),
    made.CellTruth(lithium_inventory=0.98),
]


@pytest.mark.parametrize("truth", TRUTHS, ids=["base", "negative", "positive", "lithium"])
@pytest.mark.parametrize(("rate", "within"), [(0.1, 0.012), (0.02, 0.003)])
def test_a_simulated_cell_is_recovered(half_cells, truth, rate, within):
    """SPMe cell, its own integrator: what the fit leaves out biases it by less than `within`."""
    cell = made.SimulatedCell(truth)
    recording = made.slow_discharge(truth, rate=rate)
    found = fit(recording, "ocv", half_cells=half_cells)
    assert found.converged and not found.at_bound
    expected = {"negative_capacity_Ah": cell.capacity_Ah["negative"],
                "positive_capacity_Ah": cell.capacity_Ah["positive"],
                "lithium_inventory_Ah": cell.lithium_Ah()}  # fmt: skip
    for name, value in expected.items():
        assert found.values[name] == pytest.approx(value, rel=within), name
    assert found.values["overvoltage_mV"] == pytest.approx(
        found.values["resistance_mOhm"] * rate * 5, rel=1e-3
    )


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"negative_loading": 0.98}, "negative_capacity_Ah"),
        ({"positive_loading": 0.98}, "positive_capacity_Ah"),
        ({"lithium_inventory": 0.98}, "lithium_inventory_Ah"),
    ],
)
def test_differences_between_cells_are_found_better_than_values(half_cells, changed, name):
    """2 % less of one thing shows as 2 % less of that thing, to 0.3 %."""
    base = fit(made.slow_discharge(), "ocv", half_cells=half_cells).values
    other = fit(made.slow_discharge(made.CellTruth(**changed)), "ocv", half_cells=half_cells).values
    assert other[name] / base[name] == pytest.approx(0.98, abs=0.003)


def test_charge_and_discharge_both_fit(half_cells):
    bench = made.Bench(made.SimulatedCell(made.CellTruth()), soc=0.0)
    bench.rest(60)
    bench.to_voltage(0.25, 4.2, measure="ocv")
    found = fit(bench.recording(), "ocv", half_cells=half_cells)
    assert found.values["lithium_inventory_Ah"] == pytest.approx(bench.cell.lithium_Ah(), rel=0.01)


def test_derived_errors_agree_with_propagated_draws(half_cells, whole_recording):
    found = fit(whole_recording, "ocv", half_cells=half_cells)
    names = ("x_low", "x_high", "y_low", "y_high")
    errors = np.array([found.standard_errors[n] for n in names])
    covariance = np.array(found.correlation)[:4, :4] * np.outer(errors, errors)
    mean = [found.values[n] for n in names]
    x0, x1, y0, y1 = np.random.default_rng(1).multivariate_normal(mean, covariance, 40000).T
    span = found.values["negative_capacity_Ah"] * (mean[1] - mean[0])
    drawn = {"negative_capacity_Ah": span / (x1 - x0), "positive_capacity_Ah": span / (y0 - y1),
             "lithium_inventory_Ah": x0 * span / (x1 - x0) + y0 * span / (y0 - y1)}  # fmt: skip
    for name, values in drawn.items():
        assert found.standard_errors[name] == pytest.approx(values.std(), rel=0.03), name


# --- what is fitted ---------------------------------------------------------------------------


def test_the_step_is_found_by_measure_by_rate_or_by_number(whole_recording):
    by_measure = slow_step(whole_recording)
    assert by_measure.step.measure == "ocv"
    bare = replace(whole_recording, steps=[replace(s, measure="") for s in whole_recording.steps])
    assert slow_step(bare).step.step_index == by_measure.step.step_index
    assert slow_step(bare, 2).step.step_index == 2
    assert by_measure.span_Ah == pytest.approx(5.05, abs=0.05)


def test_a_recording_without_a_slow_step_does_not_suit(half_cells):
    bench = made.Bench(made.SimulatedCell(made.CellTruth()), soc=1.0)
    bench.discharge(measure="capacity")
    with pytest.raises(NotSuitedError, match="no step is measured as 'ocv'"):
        fit(bench.recording(), "ocv", half_cells=half_cells)
    with pytest.raises(BatterylabError, match="there is no step 99"):
        fit(bench.recording(), "ocv", half_cells=half_cells, step=99)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300), st.integers(30, 100))
@settings(max_examples=60, deadline=None)
def test_thinning_keeps_order_and_number(fractions, most):
    rows = thinned(np.array(fractions), most)
    assert len(rows) <= max(most, 1) and (np.diff(rows) > 0).all()


def test_a_fit_without_convergence_shows_no_number(half_cells, whole_recording):
    found = fit(whole_recording, "ocv", half_cells=half_cells, most_steps=1)
    assert not found.converged and "steps" in found.reason
    assert all(math.isnan(v) for v in found.values.values())
    data = found.to_dict()
    assert data["converged"] is False and set(data["values"].values()) == {None}
    assert all(math.isfinite(v) for v in found.last.values())


def test_the_wrong_half_cells_are_doubted(half_cells, shared_data):
    found = fit(real.rate_discharge(shared_data, "Co20"), "ocv", half_cells=half_cells)
    assert found.residual_mV > 15
    assert "does not describe the data" in found.doubtful


@pytest.mark.parametrize("bad", ["short", "nan", "text"])
def test_arrays_that_do_not_fit_are_refused(half_cells, bad):
    fraction, current_A, volts = clean(half_cells)
    values = {"short": volts[:-1], "nan": np.where(volts > 4, np.nan, volts), "text": ["x"]}[bad]
    with pytest.raises(BatterylabError, match="voltage_V"):
        solve_ocv(fraction, current_A, values, half_cells)


def test_the_optimiser_is_not_called_with_nonsense():
    def never(*arguments):
        raise AssertionError

    for starts, lower, upper, rows in (
        ([[0.0]], [1.0], [0.0], 9), ([[0.0]], [0.0], [1.0], 1), ([], [], [], 9),
        ([[math.nan]], [0.0], [1.0], 9), ([[0.0]], [0.0, 1.0], [1.0], 9),
    ):  # fmt: skip
        with pytest.raises(BatterylabError):
            solve(never, rows, starts, lower, upper)


# --- half-cell curves -------------------------------------------------------------------------


def test_tables_are_kept_and_read_without_pybamm(half_cells, tmp_path, monkeypatch):
    first = from_parameter_set("Chen2020", tmp_path)
    monkeypatch.setattr("batterylab.pybamm_border.pybamm", None)
    monkeypatch.setattr("batterylab.pybamm_border.half_cell_ocps", None)
    second = from_parameter_set("Chen2020", tmp_path)
    assert first.digest == second.digest == half_cells.digest
    kept = next(tmp_path.glob("Chen2020_pybamm-*.npz"))
    monkeypatch.undo()
    kept.write_bytes(b"PK\x03\x04 damaged")
    assert from_parameter_set("Chen2020", tmp_path).digest == first.digest


def test_an_unknown_set_is_named_with_the_nearest():
    with pytest.raises(BatterylabError, match="Chen2020"):
        from_parameter_set("Chen202")


def write_curves(path, half_cells, rows=400):
    grid = half_cells.first + half_cells.step * np.arange(len(half_cells.negative_V))
    x = np.linspace(0.002, 0.998, rows)
    lines = ["stoichiometry,electrode,potential_V"]
    for electrode in ("negative", "positive"):
        u = np.interp(x, grid, getattr(half_cells, f"{electrode}_V"))
        lines += [f"{a:.6f},{electrode},{b:.6f}" for a, b in zip(x, u, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_curves_from_a_file_fit_like_those_they_came_from(half_cells, tmp_path, whole_recording):
    curves = from_file(write_curves(tmp_path / "h.csv", half_cells))
    a, b = (fit(whole_recording, "ocv", half_cells=c).values for c in (half_cells, curves))
    for name in ("negative_capacity_Ah", "positive_capacity_Ah", "lithium_inventory_Ah"):
        assert b[name] == pytest.approx(a[name], rel=0.01), name
    assert curves.negative_range == (0.002, 0.998)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: "", "is missing"),
        (lambda t: t.replace("potential_V", "volts"), "h.csv:1: the column 'potential_V'"),
        (lambda t: t.replace("negative", "anode", 1), "h.csv:2: .*anode.* is no point"),
        (lambda t: t.replace("positive", "negative"), "has 0 points"),
        (lambda t: t.replace("0.998000", "1.998000"), "outside 0 to 1"),
        (lambda t: "\n".join(f"{1 - float(r[0])},{r[1]},{r[2]}" if r[1] != "electrode" else
                             ",".join(r) for r in (x.split(",") for x in t.split())),
         "does not fall"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_refused_with_its_line(half_cells, tmp_path, edit, message):
    path = write_curves(tmp_path / "h.csv", half_cells)
    path.write_text(edit(path.read_text()))
    with pytest.raises(BatterylabError, match=message):
        from_file(path)


def test_averaging_keeps_ends_and_steep_parts():
    x = np.linspace(0, 1, 2001)
    u = 1.0 / (0.01 + x)
    near_x, near_u = averaged(x, u)
    assert (near_x[0], near_x[-1], near_u[0], near_u[-1]) == (0, 1, u[0], u[-1])
    assert len(near_x) < 1000
    np.testing.assert_allclose(np.interp(x, near_x, near_u), u, rtol=2e-3)


# --- real cells -------------------------------------------------------------------------------


def test_a_real_cell_loses_lithium_as_it_loses_capacity(shared_data, tmp_path):
    """Molicel P45B, 0, 400 and 800 equivalent cycles, with half-cell curves of its electrodes."""
    curves = from_file(real.p45b_half_cells(shared_data, tmp_path))
    recordings = [real.p45b_slow_charge(shared_data, entry) for entry in (1, 5, 9)]
    fits = fit(recordings, "ocv", half_cells=curves)
    assert all(f.converged and f.residual_mV < 4 for f in fits)
    lithium = [f.values["lithium_inventory_Ah"] for f in fits]
    negative = [f.values["negative_capacity_Ah"] for f in fits]
    assert lithium[0] - lithium[1] == pytest.approx(4.4707 - 4.0495, abs=0.05)
    assert lithium[0] - lithium[2] == pytest.approx(4.4707 - 3.6753, abs=0.05)
    assert lithium[0] > lithium[1] > lithium[2]
    assert negative[0] > negative[1] > negative[2]


@pytest.mark.parametrize(("entry", "bar_mV"), [(1, 3.0), (5, 4.0), (9, 4.0)])
def test_a_real_cell_is_described_between_5_and_95_percent(shared_data, tmp_path, entry, bar_mV):
    curves = from_file(real.p45b_half_cells(shared_data, tmp_path))
    made = fit(real.p45b_slow_charge(shared_data, entry), "ocv", half_cells=curves)
    soc = made.curve.x / real.p45b_slow_charge(shared_data, entry).columns["net_capacity_Ah"].max()
    inside = (soc >= 0.05) & (soc <= 0.95)
    difference_mV = 1e3 * (made.curve.model_V - made.curve.measured_V)[inside]
    assert inside.sum() > 400
    assert np.sqrt(np.mean(difference_mV**2)) <= bar_mV


def test_real_curves_have_one_optimum(shared_data, tmp_path):
    """Averaged half-cell curves do not trap the optimiser: other starts end at the same place."""
    curves = from_file(real.p45b_half_cells(shared_data, tmp_path))
    slow = slow_step(real.p45b_slow_charge(shared_data, 9), None, 0.01)
    rows = thinned(slow.fraction, 300)
    f, amps, volts = (
        np.ascontiguousarray(a[rows]) for a in (slow.fraction, slow.current_A, slow.voltage_V)
    )
    best = solve_ocv(f, amps, volts, curves)
    kernel = partial(_ocv.Fit, f, amps, volts, parts_of(None, len(f)), *tables_of(curves))
    random = np.random.default_rng(2)
    low, high = [0.0, 0.8, 0.7, 0.0, 0.0], [0.05, 1.0, 1.0, 0.1, 0.2]
    near = 0
    for _ in range(40):
        other = solve(kernel, len(f), [random.uniform(low, high)], [0] * 5, [1, 1, 1, 1, 3])
        near += np.allclose(other.parameters, best.parameters, atol=1e-3)
        assert other.residual_V @ other.residual_V >= 0.9999 * best.residual_V @ best.residual_V
    assert near >= 34


def test_the_lg_m50_fits_its_own_parameter_set(shared_data, half_cells):
    found = fit(real.lg_m50_test(shared_data), "ocv", half_cells=half_cells)
    assert found.converged and found.residual_mV < 10
    assert 5.0 < found.values["negative_capacity_Ah"] < 6.5
