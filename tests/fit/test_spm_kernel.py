"""The single-particle kernel against PyBaMM, its own derivatives, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.errors import BatterylabError
from batterylab.fit.celltables import FULL_CELLS, cell_tables, tables_of
from batterylab.fit.spmcell import (
    NAMES,
    SpmCell,
    STEPS_s,
    history_of,
    indices_of,
    spm_voltage,
)
from batterylab.fit.spmmesh import sphere_exponentials
from batterylab.pybamm_border import parameter_values, reference_voltage


def constant(amps, seconds, rows):
    time_s = np.append(0.0, np.linspace(seconds / rows, seconds, rows))
    return time_s, np.append(0.0, np.full(rows, float(amps)))


def pulses(capacity_Ah):
    time_s, amps = [0.0], [0.0]
    for seconds, step_s, rate in ((10, 1, -1.0), (60, 5, 0.0), (10, 1, 0.75), (600, 20, -0.5),
                                  (300, 15, 0.0)):  # fmt: skip
        for _ in range(seconds // step_s):
            time_s.append(time_s[-1] + step_s)
            amps.append(rate * capacity_Ah)
    return np.array(time_s), np.array(amps)


def compare(name, model, history, degrees=25.0, thermal="isothermal", points=(40, 60), start=None):
    time_s, amps = history
    tables = cell_tables(name, degrees + 273.15)
    cell = SpmCell(tables, model, "lumped" if thermal == "lumped" else "given")
    theirs = reference_voltage(name, time_s, amps, model=model, thermal=thermal,
                               temperature_degC=degrees, points=points)  # fmt: skip
    ours = spm_voltage(cell, history_of(time_s, amps, temperature_degC=degrees)).voltage_V
    gap = 1e3 * (ours - theirs)[1:]
    assert np.isfinite(gap).all()
    return np.abs(gap).max(), np.sqrt(np.mean(gap**2))


@pytest.mark.parametrize(
    ("name", "model", "rate", "degrees"),
    [("Chen2020", "spme", 2.0, 10.0), ("Chen2020", "spm", 0.1, 25.0),
     ("Marquis2019", "spme", 1.0, 40.0), ("Ecker2015", "spme", 1.0, 25.0)],
)  # fmt: skip
def test_a_discharge_agrees_with_pybamm_to_a_millivolt(name, model, rate, degrees):
    nominal_Ah = cell_tables(name).numbers["capacity_Ah"]
    largest, rms = compare(name, model, constant(-rate * nominal_Ah, 2400 / rate, 200), degrees)
    assert largest < 1.0 and rms < 0.2


def test_a_transference_number_that_varies_agrees_with_pybamm():
    nominal_Ah = cell_tables("ORegan2022").numbers["capacity_Ah"]
    largest, rms = compare("ORegan2022", "spme", constant(-0.5 * nominal_Ah, 1500, 100))
    assert largest < 1.0 and rms < 0.2


@pytest.mark.parametrize("name", ["Chen2020", "OKane2022"])
def test_pulses_with_lumped_heat_agree_with_pybamm(name):
    largest, rms = compare(name, "spme", pulses(5.0), thermal="lumped")
    assert largest < 1.0 and rms < 0.2


@pytest.mark.parametrize("thermal", ["given", "lumped"])
@pytest.mark.parametrize(
    ("name", "model"),
    [("Chen2020", "spme"), ("OKane2022", "spm"), ("Ecker2015", "spme"), ("ORegan2022", "spme")],
)
def test_derivatives_are_those_of_the_voltage(name, model, thermal):
    cell = SpmCell(cell_tables(name), model, thermal)
    time_s, amps = pulses(cell.tables.numbers["capacity_Ah"])
    history = history_of(time_s, amps)
    names = NAMES[:13] if thermal == "lumped" else NAMES[:11]
    names = tuple(n for n in names if model == "spme" or n not in NAMES[9:11])
    jacobian = spm_voltage(cell, history, derivatives=names).jacobian
    for column, index in zip(jacobian.T, indices_of(names), strict=True):
        gaps = []
        for step in (1e-3, 1e-4, 1e-5):
            up, down = cell.start.copy(), cell.start.copy()
            up[index] += step * max(abs(cell.start[index]), 0.1)
            down[index] -= step * max(abs(cell.start[index]), 0.1)
            slope = spm_voltage(cell, history, up).voltage_V
            slope = (slope - spm_voltage(cell, history, down).voltage_V) / (up - down)[index]
            gaps.append(np.abs(slope - column).max())
        assert min(gaps) <= 1e-4 * np.abs(column).max(), NAMES[index]


def test_the_exponentials_are_a_sphere():
    table, tail = sphere_exponentials()
    assert (table[1] / table[0]).sum() + tail == pytest.approx(1 / 15, abs=1e-15)
    t = np.geomspace(1e-6, 1e-3, 60)  # before the centre feels anything
    from scipy.special import erf

    exact = (np.expm1(t) + np.exp(t) * erf(np.sqrt(t)) - 3 * t) / 3
    ours = tail + ((1 - np.exp(-np.outer(t, table[0]))) * table[1] / table[0]).sum(axis=1)
    assert np.abs(ours - exact).max() < 3e-4 / 15


def test_charge_is_kept_and_a_rest_returns_to_equilibrium():
    cell = SpmCell(cell_tables("Ecker2015"), "spme")
    time_s = np.concatenate([[0.0], np.arange(60.0, 1801, 60), [1e5, 2e5]])
    amps = np.where((time_s > 0) & (time_s <= 1800), -0.15, 0.0)
    moved = np.append(0.0, np.cumsum(amps[1:] * np.diff(time_s)) / 3600)
    ours = spm_voltage(cell, history_of(time_s, amps)).voltage_V[-1]
    q_n, q_p, x, y = cell.start[:4]
    grid = np.linspace(0, 1, cell.tables.potential_V.shape[1])
    rest = np.interp(y - moved[-1] / q_p, grid, cell.tables.potential_V[1])
    rest -= np.interp(x + moved[-1] / q_n, grid, cell.tables.potential_V[0])
    assert ours == pytest.approx(rest, abs=2e-5)


def test_it_does_not_matter_how_rows_are_spaced():
    cell = SpmCell(cell_tables("Chen2020"), "spme")
    fine = history_of(*constant(-5.0, 1800, 1800))
    coarse = history_of(*constant(-5.0, 1800, 30))
    gap = spm_voltage(cell, fine).voltage_V[60::60] - spm_voltage(cell, coarse).voltage_V[1:]
    assert np.abs(gap).max() < 3e-4


@pytest.mark.parametrize("model", ["spm", "spme"])
def test_a_current_that_runs_straight_is_that_of_many_small_steps(model):
    cell = SpmCell(cell_tables("Chen2020"), model)
    time_s = np.arange(0.0, 121.0)
    amps = -5.0 * np.abs(np.sin(time_s / 7.0))
    fine_s = np.linspace(0.0, 120.0, 6001)
    middles = np.interp(np.append(0.0, 0.5 * (fine_s[1:] + fine_s[:-1])), time_s, amps)
    straight = spm_voltage(cell, history_of(time_s, amps, linear=True), derivatives=NAMES[:9])
    moved = np.cumsum(middles * 0.02) / 3600.0
    many = history_of(fine_s, np.interp(fine_s, time_s, amps), charge_Ah=moved - moved[0])
    stepped = spm_voltage(cell, many, derivatives=NAMES[:9])
    gap = (straight.voltage_V - stepped.voltage_V[::50])[5:]
    assert np.abs(gap).max() < 1e-4
    slopes = np.abs(straight.jacobian - stepped.jacobian[::50])[5:].max(axis=0)
    assert (slopes < 0.01 * np.abs(straight.jacobian).max(axis=0)).all()


def test_a_part_with_a_shift_begins_at_another_charge():
    cell = SpmCell(cell_tables("Ecker2015"), "spme")
    time_s, amps = constant(-0.15, 600, 60)
    twice = np.append(time_s, time_s + 600)
    moved = np.tile(np.cumsum(amps) * 10 / 3600, 2)
    history = history_of(twice, np.append(amps, amps), charge_Ah=moved,
                         relaxed=np.arange(122) == 61)  # fmt: skip
    history.flags[61:] += 16
    start = cell.start.copy()
    start[NAMES.index("charge_shift_1_Ah")] = -0.02
    later = history_of(time_s, amps, charge_Ah=moved[:61] - 0.02)
    names = ("x_start", "charge_shift_1_Ah")
    one = spm_voltage(cell, history, start, derivatives=names)
    two = spm_voltage(cell, later)
    assert np.allclose(one.voltage_V[61:], two.voltage_V, atol=1e-12)
    assert (one.jacobian[:61, 1] == 0).all() and (one.jacobian[61:, 1] != 0).all()
    start[NAMES.index("charge_shift_1_Ah")] += 1e-5
    slope = (spm_voltage(cell, history, start).voltage_V - one.voltage_V) / 1e-5
    assert np.allclose(slope[61:], one.jacobian[61:, 1], rtol=2e-3, atol=1e-4)


def test_a_relaxed_row_begins_anew():
    cell = SpmCell(cell_tables("Chen2020"), "spme")
    time_s, amps = constant(-5.0, 600, 60)
    once = spm_voltage(cell, history_of(time_s, amps)).voltage_V
    twice = history_of(np.append(time_s, time_s + 600), np.append(amps, amps),
                       charge_Ah=np.tile(np.cumsum(amps) * 10 / 3600, 2),
                       relaxed=np.arange(122) == 61)  # fmt: skip
    again = spm_voltage(cell, twice).voltage_V
    assert np.allclose(again[:61], again[61:], atol=1e-12)
    assert np.allclose(again[:61], once, atol=1e-12)


def test_sets_that_are_no_full_cells_are_refused_by_name():
    for name in ("Xu2019", "Chen2020_composite", "MSMR_Example"):
        with pytest.raises(BatterylabError, match=name):
            cell_tables(name)
    with pytest.raises(BatterylabError, match="did you mean"):
        parameter_values("Chen202")
    with pytest.raises(BatterylabError, match="heat capacity"):
        SpmCell(cell_tables("Prada2013"), "spme", "lumped")


@pytest.mark.parametrize("name", FULL_CELLS)
def test_every_full_cell_gives_a_voltage(name):
    tables = cell_tables(name)
    cell = SpmCell(tables, "spm")
    sign = 1.0 if name == "Mohtat2020" else -1.0  # its initial state is empty
    time_s, amps = constant(sign * 0.5 * tables.numbers["capacity_Ah"], 600, 60)
    volts = spm_voltage(cell, history_of(time_s, amps)).voltage_V
    assert np.isfinite(volts).all() and volts.min() > 1.5 and volts.max() < 4.7


def test_tables_are_kept_in_a_file(tmp_path):
    first = tables_of("Chen2020", 298.15, tmp_path)
    (kept,) = tmp_path.glob("*.npz")
    again = tables_of("Chen2020", 298.15, tmp_path)
    assert again is not first and again.numbers == first.numbers
    assert np.array_equal(again.potential_V, first.potential_V)
    kept.write_bytes(b"no tables")
    assert tables_of("Chen2020", 298.15, tmp_path).numbers == first.numbers


@pytest.mark.parametrize(
    ("change", "message"),
    [({"time_s": [0, 2, 1]}, "row 2"), ({"current_A": [0, np.nan, 1]}, "current_A, row 1"),
     ({"temperature_degC": 5000.0}, "temperature"), ({"observed": [False] * 3}, "observed"),
     ({"current_A": [1, 2]}, "2 values")],
)  # fmt: skip
def test_bad_histories_are_named(change, message):
    good = {"time_s": [0, 1, 2], "current_A": [0, 1, 1], **change}
    with pytest.raises(BatterylabError, match=message):
        history_of(**good)


def test_steps_in_time_are_as_documented():
    assert STEPS_s[0] <= 1.0 and STEPS_s[1] < 1.53  # beyond, the formula is unstable
    with pytest.raises(BatterylabError, match="unknown"):
        indices_of(("capacity",))


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.sampled_from([0.0, 1e-9, 1.0, 60.0, 1e4, 1e7]), min_size=1, max_size=12),
    amps=st.lists(st.sampled_from([0.0, 1e-12, -5.0, 5.0, 1e4, -1e4]), min_size=13, max_size=13),
    shift=st.sampled_from([0.0, -3.0, 3.0, 40.0]),
    name=st.sampled_from(["Chen2020", "Ecker2015", "ORegan2022"]),
    thermal=st.sampled_from(["given", "lumped"]),
)
def test_no_history_crashes_or_hangs(gaps, amps, shift, name, thermal):
    cell = SpmCell(cell_tables(name), "spme", thermal)
    time_s = np.append(0.0, np.cumsum(gaps))
    start = cell.start.copy()
    start[[4, 5]] += shift
    response = spm_voltage(cell, history_of(time_s, amps[: len(time_s)]), start,
                           derivatives=NAMES[:8])  # fmt: skip
    assert response.voltage_V.shape == time_s.shape
