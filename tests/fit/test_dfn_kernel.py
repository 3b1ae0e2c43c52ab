"""The full model's kernel against PyBaMM, its own derivatives, and what it makes of bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batterylab.errors import BatterylabError
from batterylab.fit.celltables import FULL_CELLS, cell_tables
from batterylab.fit.dfncell import NAMES, DfnCell, dfn_voltage, indices_of
from batterylab.fit.spmcell import history_of
from batterylab.pybamm_border import reference_voltage


def constant(amps, seconds, rows):
    time_s = np.append(0.0, np.linspace(seconds / rows, seconds, rows))
    return time_s, np.append(0.0, np.full(rows, float(amps)))


def pulses(capacity_Ah):
    time_s, amps = [0.0], [0.0]
    for seconds, step_s, rate in ((300, 15, -0.5), (10, 1, -1.0), (60, 5, 0.0), (10, 1, 0.75),
                                  (300, 15, 0.0)):  # fmt: skip
        for _ in range(seconds // step_s):
            time_s.append(time_s[-1] + step_s)
            amps.append(rate * capacity_Ah)
    return np.array(time_s), np.array(amps)


def extrapolated(name, time_s, amps):
    """PyBaMM's error falls as the first power of the points through each domain."""
    coarse, fine = (reference_voltage(name, time_s, amps, model="dfn", points=(points, 40),
                                      tolerance=1e-7) for points in (12, 24))  # fmt: skip
    return 2.0 * fine - coarse


def test_a_discharge_agrees_with_pybamm():
    time_s, amps = constant(-5.0, 2000, 50)
    ours = dfn_voltage(DfnCell(cell_tables("Chen2020")), history_of(time_s, amps)).voltage_V
    gap = 1e3 * (ours - extrapolated("Chen2020", time_s, amps))[1:]
    assert np.abs(gap).max() < 1.0 and np.sqrt(np.mean(gap**2)) < 0.4


def test_a_discharge_agrees_with_pybamm_where_the_transference_number_varies():
    time_s, amps = constant(-2.5, 4000, 50)
    cell = DfnCell(cell_tables("ORegan2022"))
    assert cell.varying == (True, True) and np.isnan(cell.tables.transference)
    theirs = reference_voltage("ORegan2022", time_s, amps, model="dfn", points=(8, 80),
                               tolerance=1e-7)  # fmt: skip
    gap = 1e3 * (dfn_voltage(cell, history_of(time_s, amps)).voltage_V - theirs)[1:]
    assert np.abs(gap).max() < 2.0 and np.sqrt(np.mean(gap**2)) < 1.0


def test_pulses_agree_with_pybamm_where_diffusivities_vary():
    time_s, amps = pulses(cell_tables("Ecker2015").numbers["capacity_Ah"])
    ours = dfn_voltage(DfnCell(cell_tables("Ecker2015")), history_of(time_s, amps)).voltage_V
    gap = 1e3 * (ours - extrapolated("Ecker2015", time_s, amps))[1:]
    assert np.abs(gap).max() < 1.0 and np.sqrt(np.mean(gap**2)) < 0.3


@pytest.mark.parametrize("name", ["Chen2020", "Ecker2015", "ORegan2022", "Prada2013"])
def test_derivatives_are_those_of_the_voltage(name):
    cell = DfnCell(cell_tables(name), points=(10, 3, 10))
    history = history_of(*pulses(cell.tables.numbers["capacity_Ah"]))
    found = dfn_voltage(cell, history, derivatives=NAMES[:13])
    for index, column in enumerate(found.jacobian.T):
        gaps = []
        for step in (1e-2, 1e-3, 1e-4, 1e-5):
            up, down = cell.start.copy(), cell.start.copy()
            up[index] += step * max(abs(cell.start[index]), 0.1)
            down[index] -= step * max(abs(cell.start[index]), 0.1)
            slope = dfn_voltage(cell, history, up, steps=found.steps).voltage_V
            slope = slope - dfn_voltage(cell, history, down, steps=found.steps).voltage_V
            gaps.append(np.abs(slope / (up - down)[index] - column).max())
        # a nanovolt is what Newton leaves
        assert min(gaps) <= 1e-4 * np.abs(column).max() + 1e-9, NAMES[index]


def test_refining_through_the_cell_and_in_time_changes_little():
    tables = cell_tables("Chen2020")
    history = history_of(*pulses(5.0))
    usual = dfn_voltage(DfnCell(tables), history).voltage_V
    fine = DfnCell(tables, points=(48, 8, 48), steps=(0.01, 1e-6), growth=1.4)
    assert 1e3 * np.abs(dfn_voltage(fine, history).voltage_V - usual).max() < 0.2


def test_a_diffusivity_that_changes_by_orders_of_magnitude_is_followed_to_depletion():
    tables = cell_tables("ORegan2022")
    cell = DfnCell(tables)
    start = cell.start.copy()
    start[2:4] = 0.97, 0.2663  # the diffusivity there is 4e-14, and 9e-16 at 0.9
    history = history_of(*constant(-5.0, 3200, 400))
    usual = dfn_voltage(cell, history, start).voltage_V
    fine = dfn_voltage(DfnCell(tables, steps=(0.01, 1e-6), growth=1.3), history, start).voltage_V
    seen = fine > 2.5
    assert seen.sum() > 380 and 1e3 * np.abs(usual - fine)[seen].max() < 0.5


def test_steps_can_be_taken_again():
    cell = DfnCell(cell_tables("Chen2020"), points=(8, 3, 8))
    history = history_of(*pulses(5.0))
    once = dfn_voltage(cell, history)
    again = dfn_voltage(cell, history, steps=once.steps)
    assert np.array_equal(once.voltage_V, again.voltage_V)
    assert again.steps.count == once.steps.count > 50


def test_it_does_not_matter_how_rows_are_spaced():
    cell = DfnCell(cell_tables("Chen2020"))
    fine = dfn_voltage(cell, history_of(*constant(-5.0, 1800, 1800))).voltage_V
    coarse = dfn_voltage(cell, history_of(*constant(-5.0, 1800, 30))).voltage_V
    assert np.abs(fine[60::60] - coarse[1:]).max() < 1e-4


@pytest.mark.parametrize("name", ["Chen2020", "Ecker2015"])
def test_charge_is_kept_and_a_rest_returns_to_equilibrium(name):
    cell = DfnCell(cell_tables(name), points=(10, 3, 10))
    time_s = np.concatenate([[0.0], np.arange(60.0, 1801, 60), [1e5, 1e6]])
    amps = np.where((time_s > 0) & (time_s <= 1800), -cell.tables.numbers["capacity_Ah"], 0.0)
    moved = np.append(0.0, np.cumsum(amps[1:] * np.diff(time_s)) / 3600)
    ours = dfn_voltage(cell, history_of(time_s, amps)).voltage_V[-1]
    q_n, q_p, x, y = cell.start[:4]
    grid = np.linspace(0, 1, cell.tables.potential_V.shape[1])
    rest = np.interp(y - moved[-1] / q_p, grid, cell.tables.potential_V[1])
    rest -= np.interp(x + moved[-1] / q_n, grid, cell.tables.potential_V[0])
    assert ours == pytest.approx(rest, abs=2e-5)


def test_a_relaxed_row_begins_anew():
    cell = DfnCell(cell_tables("Chen2020"), points=(8, 3, 8))
    time_s, amps = constant(-5.0, 600, 60)
    once = dfn_voltage(cell, history_of(time_s, amps)).voltage_V
    twice = history_of(np.append(time_s, time_s + 600), np.append(amps, amps),
                       charge_Ah=np.tile(np.cumsum(amps) * 10 / 3600, 2),
                       relaxed=np.arange(122) == 61)  # fmt: skip
    again = dfn_voltage(cell, twice).voltage_V
    assert np.allclose(again[:61], again[61:], atol=1e-9)
    assert np.allclose(again[:61], once, atol=1e-9)


def test_another_temperature_is_that_of_its_own_tables():
    time_s, amps = constant(-5.0, 900, 30)
    warm = DfnCell(cell_tables("OKane2022", 308.15), points=(12, 3, 12))
    usual = DfnCell(cell_tables("OKane2022"), points=(12, 3, 12))
    history = history_of(time_s, amps, temperature_degC=35.0)
    gap = dfn_voltage(warm, history).voltage_V - dfn_voltage(usual, history).voltage_V
    assert np.abs(gap).max() < 2e-4


@pytest.mark.parametrize("name", FULL_CELLS)
def test_every_full_cell_gives_a_voltage(name):
    tables = cell_tables(name)
    cell = DfnCell(tables, points=(8, 3, 8))
    sign = 1.0 if name == "Mohtat2020" else -1.0  # its initial state is empty
    time_s, amps = constant(sign * 0.5 * tables.numbers["capacity_Ah"], 600, 60)
    volts = dfn_voltage(cell, history_of(time_s, amps)).voltage_V
    assert np.isfinite(volts).all() and volts.min() > 1.5 and volts.max() < 4.7


def test_beyond_its_charge_the_voltage_leaves_every_window():
    cell = DfnCell(cell_tables("Chen2020"), points=(8, 3, 8))
    volts = dfn_voltage(cell, history_of(*constant(-5.0, 7200, 100))).voltage_V
    assert volts[45] > 2.5 and not (volts[55:] > 0.0).any()


def test_without_salt_left_there_is_no_voltage_until_the_cell_is_relaxed_again():
    cell = DfnCell(cell_tables("Chen2020"), points=(8, 3, 8))
    time_s, amps = constant(-50.0, 360, 100)
    history = history_of(time_s, amps, charge_Ah=np.zeros(101), relaxed=np.arange(101) == 100)
    drained = history_of(time_s, amps, relaxed=np.arange(101) == 100)
    volts = dfn_voltage(cell, drained, derivatives=NAMES[:2])
    lost = int(np.argmax(~np.isfinite(volts.voltage_V)))
    assert 1 < lost < 40 and not np.isfinite(volts.voltage_V[lost:100]).any()
    assert np.isfinite(volts.jacobian).all(axis=1).tolist() == np.isfinite(volts.voltage_V).tolist()
    assert np.isfinite(volts.voltage_V[100])
    assert np.isfinite(dfn_voltage(cell, history).voltage_V).all()


def test_bad_cells_and_parameters_are_named():
    tables = cell_tables("Chen2020")
    with pytest.raises(BatterylabError, match="area_factor"):
        DfnCell(tables, area_factor=0.0)
    with pytest.raises(BatterylabError, match="points"):
        DfnCell(tables, points=(1, 3, 8))
    with pytest.raises(BatterylabError, match="points"):
        DfnCell(tables, points=(80, 8, 80))
    with pytest.raises(BatterylabError, match="unknown"):
        indices_of(("log_heat",))
    cell = DfnCell(tables, points=(8, 3, 8))
    history = history_of(*constant(-5.0, 60, 6))
    with pytest.raises(BatterylabError, match="capacity"):
        dfn_voltage(cell, history, np.where(np.arange(20) == 0, -1.0, cell.start))
    with pytest.raises(BatterylabError, match="parameters, row 3"):
        dfn_voltage(cell, history, np.where(np.arange(20) == 3, np.nan, cell.start))
    with pytest.raises(BatterylabError, match="20 are wanted"):
        dfn_voltage(cell, history, [1.0])
    other = dfn_voltage(cell, history_of(*constant(-5.0, 60, 7))).steps
    with pytest.raises(BatterylabError, match="other rows"):
        dfn_voltage(cell, history, steps=other)


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.sampled_from([0.0, 1e-9, 1.0, 60.0, 1e4, 1e7]), min_size=1, max_size=12),
    amps=st.lists(st.sampled_from([0.0, 1e-12, -5.0, 5.0, 1e4, -1e4]), min_size=13, max_size=13),
    marks=st.lists(st.booleans(), min_size=26, max_size=26),
    shift=st.sampled_from([0.0, -3.0, 3.0, 40.0]),
    which=st.sampled_from([0, 2, 4, 6, 9, 10, 11]),
    name=st.sampled_from(["Chen2020", "Ecker2015"]),
)
def test_no_history_crashes_or_hangs(gaps, amps, marks, shift, which, name):
    cell = DfnCell(cell_tables(name), points=(4, 2, 4))
    time_s = np.append(0.0, np.cumsum(gaps))
    count = len(time_s)
    start = cell.start.copy()
    start[which] += abs(shift) if which == 0 else shift
    observed = np.array(marks[:count])
    observed[-1] = True
    history = history_of(time_s, amps[:count], observed=observed, relaxed=marks[13 : 13 + count])
    found = dfn_voltage(cell, history, start, derivatives=NAMES[:8])
    assert found.voltage_V.shape == (observed.sum(),)
    again = dfn_voltage(cell, history, cell.start, steps=found.steps)
    assert again.voltage_V.shape == found.voltage_V.shape
