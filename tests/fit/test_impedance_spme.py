"""The impedance of the single-particle model, against PyBaMM's and against itself."""

import numpy as np
import pytest

from batterylab.errors import BatterylabError
from batterylab.fit.celltables import FULL_CELLS, tables_of
from batterylab.fit.impedance import EIS_NAMES, EisCell, cell_impedance, spme_impedance

WIDE_Hz = np.geomspace(1e-3, 1e3, 13)


def cell_of(name="Chen2020", kelvin=298.15, model="spme"):
    return EisCell(tables_of(name, kelvin), model)


@pytest.mark.parametrize(
    ("name", "soc", "degrees", "model"),
    [("Chen2020", 0.5, 25.0, "spme"), ("Chen2020", 0.5, 25.0, "spm"),
     ("Mohtat2020", 0.8, 10.0, "spme"), ("ORegan2022", 0.2, 25.0, "spme")],
)  # fmt: skip
def test_it_is_pybamms_to_a_thousandth(name, soc, degrees, model):
    from batterylab.pybamm_impedance import reference_impedance

    theirs = reference_impedance(name, WIDE_Hz, soc, temperature_degC=degrees, model=model)
    ours = spme_impedance(name, WIDE_Hz, soc, degrees, model=model)
    assert (np.abs(ours - theirs) / np.abs(theirs)).max() < 1e-3


@pytest.mark.parametrize("name", FULL_CELLS)
def test_every_full_cell_has_a_passive_impedance(name):
    ohm = spme_impedance(name, np.geomspace(1e-4, 1e5, 40), 0.5)
    assert np.isfinite(ohm).all()
    assert (ohm.real > 0).all()
    assert (np.diff(ohm.real) < 0).all()
    assert (ohm.imag < 0).all()


@pytest.mark.parametrize(("name", "model"), [("Chen2020", "spme"), ("ORegan2022", "spm")])
def test_derivatives_are_those_of_the_impedance(name, model):
    cell = cell_of(name, model=model)
    q = cell.at(0.4)
    q[8], q[13] = 0.003, 1e-7
    ohm, slopes = cell_impedance(cell, WIDE_Hz, q, derivatives=EIS_NAMES)
    assert np.array_equal(ohm, cell_impedance(cell, WIDE_Hz, q)[0])
    for j, parameter in enumerate(EIS_NAMES):
        step = 1e-10 if parameter == "inductance_H" else 1e-5 * max(abs(q[j]), 0.01)
        up, down = q.copy(), q.copy()
        up[j] += step
        down[j] -= step
        numeric = cell_impedance(cell, WIDE_Hz, up)[0] - cell_impedance(cell, WIDE_Hz, down)[0]
        numeric /= 2.0 * step
        size = np.abs(slopes[:, j]).max()
        assert np.abs(numeric - slopes[:, j]).max() <= 1e-4 * max(size, 1e-12), parameter


def test_slow_currents_see_the_slope_of_the_open_circuit_voltage():
    cell = cell_of()
    q = cell.at(0.5)
    slow_Hz = 1e-7
    ohm = cell_impedance(cell, [slow_Hz], q)[0][0]
    ahead, behind = q.copy(), q.copy()
    for moved, ah in ((ahead, 1e-3), (behind, -1e-3)):
        moved[2] += ah / q[0]
        moved[3] -= ah / q[1]
    rise = cell._resting_V(ahead[2], ahead[3]) - cell._resting_V(behind[2], behind[3])
    per_coulomb = float(rise) / (2e-3 * 3600.0)
    assert -ohm.imag * 2.0 * np.pi * slow_Hz == pytest.approx(per_coulomb, rel=2e-3)


def test_size_divides_the_impedance():
    tables = tables_of("Chen2020", 298.15)
    one, two = (spme_impedance(EisCell(tables, area_factor=f), WIDE_Hz) for f in (1.0, 2.0))
    assert np.allclose(one, 2.0 * two, rtol=1e-12)


def test_the_double_layer_shorts_the_reaction_at_high_frequency():
    cell = cell_of(model="spm")
    assert abs(cell_impedance(cell, [1e7], cell.at(0.5))[0][0]) < 1e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q: q[:-1], "holds 13 values"),
        (lambda q: np.where(np.arange(14) == 0, -1.0, q), "a capacity is not above 0"),
        (lambda q: np.where(np.arange(14) == 2, 1.5, q), "stoichiometry not in 0 to 1"),
        (lambda q: np.where(np.arange(14) == 4, 1e3, q), "beyond 100"),
        (lambda q: np.where(np.arange(14) == 8, np.nan, q), "row 8: not a finite number"),
    ],
)
def test_bad_parameters_are_named(change, message):
    cell = cell_of()
    with pytest.raises(BatterylabError, match=message):
        cell_impedance(cell, WIDE_Hz, change(cell.at(0.5)))


@pytest.mark.parametrize(
    ("frequency_Hz", "soc", "message"),
    [([1.0, 0.0], 0.5, "row 1: 0 is not above 0"), ([], 0.5, "not empty"),
     ([np.nan], 0.5, "row 0: not a finite number"), ([1.0], 1.5, "not between 0 and 1")],
)  # fmt: skip
def test_bad_questions_are_refused(frequency_Hz, soc, message):
    with pytest.raises(BatterylabError, match=message):
        spme_impedance("Chen2020", frequency_Hz, soc)
