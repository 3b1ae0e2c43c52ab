"""The simulated cell against PyBaMM's SPMe, to 1 mV."""

import numpy as np
import pytest

from batterylab.pybamm_border import reference_spme, scalars
from batterylab.simulated.cell import AREA_SCALE, CellTruth, SimulatedCell

SEGMENTS = [(1800.0, -5.0 / 3.0), (10.0, -5.0), (300.0, 0.0), (200.0, 5.0 / 3.0)]


def test_the_cell_is_pybamms_to_a_millivolt():
    degC = 25.0
    cell = SimulatedCell(CellTruth())
    state = cell.rest_state(1.0, degC)
    stoichiometry = state[0], state[1]
    numbers = scalars("Chen2020")
    changes = {
        "Electrode width [m]": numbers["Electrode width [m]"] * AREA_SCALE,
        "Cell volume [m3]": numbers["Cell volume [m3]"] * AREA_SCALE,
        "Cell cooling surface area [m2]":
            numbers["Cell cooling surface area [m2]"] * AREA_SCALE,
        "Contact resistance [Ohm]": cell.truth.contact_ohm,
    }  # fmt: skip
    for electrode, x in zip(("negative", "positive"), stoichiometry, strict=True):
        largest = numbers[f"Maximum concentration in {electrode} electrode [mol.m-3]"]
        changes[f"Initial concentration in {electrode} electrode [mol.m-3]"] = x * largest
    currents = np.concatenate([np.full(int(s), amps) for s, amps in SEGMENTS])
    time_s = np.arange(1.0, len(currents) + 1)
    volts, degrees = cell.follow(state, currents, 1.0, degC)
    wanted_V, wanted_degC = reference_spme(
        "Chen2020", time_s, SEGMENTS, changes=changes, temperature_degC=degC, points=(30, 90)
    )
    assert np.abs(volts - wanted_V).max() < 1e-3  # the seconds after a jump included
    assert np.abs(volts - wanted_V)[:1790].mean() < 1e-4
    assert np.abs(degrees - wanted_degC).max() < 5e-3
    assert np.ptp(wanted_V) > 0.2


def test_charge_is_conserved_and_a_rest_relaxes_to_equilibrium():
    cell = SimulatedCell(CellTruth())
    state = cell.rest_state(0.6)
    before = state.copy()
    cell.follow(state, np.full(360, -5.0))
    moved_Ah = (before[0] - state[0]) * cell.capacity_Ah["negative"]
    assert moved_Ah == pytest.approx(0.5, rel=1e-9)
    volts, _ = cell.follow(state, np.zeros(6 * 3600))
    assert volts[-1] == pytest.approx(cell.open_circuit_voltage_V(state), abs=2e-4)
    cell.follow(state, np.full(360, 5.0))
    assert state[0] == pytest.approx(before[0], abs=1e-12)


def seconds_to_empty(**changes):
    cell = SimulatedCell(CellTruth(**changes))
    volts, _ = cell.follow(cell.rest_state(1.0), np.full(12000, -5.0 / 3.0), 1.0)
    return int(np.argmax(volts < 2.5))


def test_capacity_follows_the_material():
    base = seconds_to_empty()
    assert 3.6 * 5000 / 5 * 3 * 0.99 < base < 3.6 * 5000 / 5 * 3 * 1.05
    scaled = seconds_to_empty(
        negative_loading=0.97, positive_loading=0.97, lithium_inventory=0.97
    )
    assert scaled / base == pytest.approx(0.97, abs=3e-3)
    assert seconds_to_empty(lithium_inventory=0.97) < 0.99 * base
    assert seconds_to_empty(positive_diffusivity=0.2) < base


def test_contact_resistance_is_seen_in_full():
    def drop(contact_ohm):
        cell = SimulatedCell(CellTruth(contact_ohm=contact_ohm))
        volts, _ = cell.follow(cell.rest_state(0.5), [0.0, -5.0])
        return (volts[0] - volts[1]) / 5.0

    # what it heats in the second makes the reactions quicker by a microohm
    assert drop(0.018) - drop(0.008) == pytest.approx(0.010, abs=3e-6)
