"""Who the simulated cells are, and what an ideal bench would measure on them."""

from dataclasses import astuple, fields, replace

import numpy as np
import pytest

from batterylab.cells import Cell
from batterylab.errors import ProblemsError
from batterylab.simulated.bank import ChannelErrors
from batterylab.simulated.cell import CellTruth, SimulatedCell
from batterylab.simulated.population import (
    SCATTER_PERCENT,
    Channels,
    Simulation,
    discharge_capacity_Ah,
    draw_truths,
    incoming_record,
    read_simulation,
)
from batterylab.simulated.truth import ideal_results
from batterylab.studyfiles import Size, write_study


def simulation(seed=1, **suppliers):
    return Simulation.model_validate({
        "schema": "batterylab.simulation/1", "seed": seed,
        "suppliers": suppliers or {"Alpha": {}, "Beta": {"capacity_offset_percent": -1.5}},
    })  # fmt: skip


def cells_of(supplier, lots, count):
    return [
        Cell(f"{supplier[0]}{lot}-{n:03d}", supplier, f"{supplier[0]}{lot}")
        for lot in range(1, lots + 1) for n in range(count)
    ]  # fmt: skip


def deviations_percent(truths, base_Ah):
    return np.array([
        100 * (discharge_capacity_Ah(SimulatedCell(t)) / base_Ah - 1) for t in truths.values()
    ])  # fmt: skip


@pytest.fixture(scope="module")
def base_Ah():
    return discharge_capacity_Ah(SimulatedCell(CellTruth()))


def test_a_cell_depends_on_seed_and_names_alone():
    cells = cells_of("Alpha", 2, 2)
    drawn = draw_truths(simulation(), cells)
    again = draw_truths(simulation(), [*reversed(cells), *cells_of("Beta", 1, 1)])
    assert {serial: again[serial] for serial in drawn} == drawn
    assert len({astuple(truth) for truth in drawn.values()}) == len(drawn)
    other = draw_truths(simulation(2), cells)
    assert all(other[serial] != truth for serial, truth in drawn.items())


def test_capacities_are_the_suppliers_lots_and_cells_deviations(base_Ah):
    """Without scatter the offset is exact; with it, lots and cells scatter as asked for."""
    still = {"sigma_lot_percent": 0.0, "sigma_cell_percent": 0.0}
    drawn = draw_truths(
        simulation(Alpha={"capacity_offset_percent": 0.75, **still},
                   Beta={"capacity_offset_percent": -0.75, **still}),
        [*cells_of("Alpha", 1, 2), *cells_of("Beta", 1, 2), Cell("X", "Nobody", "N1")],
    )  # fmt: skip
    found = deviations_percent({k: v for k, v in drawn.items() if k != "X"}, base_Ah)
    np.testing.assert_allclose(found, [0.75, 0.75, -0.75, -0.75], atol=0.01)


def test_the_spread_within_and_between_lots_is_the_one_asked_for(base_Ah):
    wanted = {"sigma_lot_percent": 1.0, "sigma_cell_percent": 0.5}
    lots, count = 12, 5
    drawn = draw_truths(simulation(Alpha=wanted), cells_of("Alpha", lots, count))
    table = deviations_percent(drawn, base_Ah).reshape(lots, count)
    within = np.sqrt(((table - table.mean(1, keepdims=True)) ** 2).sum() / (lots * (count - 1)))
    between = np.sqrt(max(0.0, table.mean(1).var(ddof=1) - within**2 / count))
    assert within == pytest.approx(0.5, rel=0.25)  # 48 degrees of freedom
    assert between == pytest.approx(1.0, rel=0.5)  # 11 degrees of freedom


def test_all_else_scatters_about_the_base_cell():
    drawn = draw_truths(simulation(), cells_of("Alpha", 2, 20)).values()
    base = CellTruth()
    for name in ("negative_diffusivity", "positive_diffusivity", "contact_ohm"):
        found = np.array([getattr(truth, name) / getattr(base, name) for truth in drawn])
        assert found.mean() == pytest.approx(1.0, abs=0.01)
        assert 100 * found.std() == pytest.approx(SCATTER_PERCENT[name], rel=0.35)
    of_the_cell = {field.name for field in fields(CellTruth)} - {"cooling"}  # the fixture's
    assert set(SCATTER_PERCENT) == of_the_cell


def test_the_delivery_note_says_what_a_meter_reads():
    drawn = draw_truths(simulation(), cells_of("Alpha", 1, 3))
    for serial, note in incoming_record(simulation(), drawn, 0.3).items():
        cell = SimulatedCell(drawn[serial])
        assert note.ocv_V == pytest.approx(
            cell.open_circuit_voltage_V(cell.rest_state(0.3)), abs=3e-3
        )
        assert note.ac_resistance_mOhm == pytest.approx(1e3 * cell.ac_resistance_ohm(), rel=0.03)
        assert note.ocv_V == pytest.approx(3.582, abs=0.03)  # what a new study's cells.csv says
        assert note.ac_resistance_mOhm == pytest.approx(13.4, rel=0.15)


# -- the yardstick ---------------------------------------------------------------------------
@pytest.fixture(scope="module")
def ideal():
    small = CellTruth(0.98, 0.98, 0.98)
    bad = CellTruth(contact_ohm=0.012)
    return ideal_results({"base": CellTruth(), "small": small, "bad": bad})


def test_the_ideal_capacity_is_the_cells_own(ideal, base_Ah):
    """The bench's way (charge with hold, rest, discharge) against one discharge from full."""
    assert ideal["base"].capacity_Ah == pytest.approx(base_Ah, rel=0.02)
    assert ideal["base"].capacity_Ah < base_Ah  # the hold ends before the cell is quite full
    assert 4.9 < ideal["base"].capacity_Ah < 5.2


def test_the_ideal_capacity_scales_with_the_cell(ideal):
    ratio = ideal["small"].capacity_Ah / ideal["base"].capacity_Ah
    assert ratio == pytest.approx(0.98, abs=0.003)


def test_the_ideal_resistance_knows_the_contact(ideal):
    difference = ideal["bad"].dcir_10s_mOhm - ideal["base"].dcir_10s_mOhm
    assert difference == pytest.approx(4.0, abs=0.05)
    assert 20 < ideal["base"].dcir_10s_mOhm < 45


def test_the_ideal_resistance_is_that_of_a_pulse_at_half_charge(ideal):
    cell = SimulatedCell(CellTruth())
    state = cell.rest_state(0.5)
    at_rest = cell.open_circuit_voltage_V(state)
    pulse, _ = cell.follow(state, np.full(10, -5.0))
    simple = 1e3 * (at_rest - pulse[-1]) / 5.0
    assert ideal["base"].dcir_10s_mOhm == pytest.approx(simple, rel=0.02)


# -- simulation.yaml -------------------------------------------------------------------------
def test_a_new_studys_file_is_read(tmp_path):
    write_study(tmp_path / "s", seed=7, size=Size(3, 1, 1))
    found = read_simulation(tmp_path / "s" / "simulation.yaml")
    assert found.seed == 7
    offsets = [s.capacity_offset_percent for s in found.suppliers.values()]
    assert offsets == [1.5, 0.0, -1.5]
    assert found.start_s == 1_767_592_800.0
    assert found.errors() == ChannelErrors()


def test_a_scale_error_of_the_shunts_reaches_the_channels(tmp_path):
    write_study(tmp_path / "s")
    path = tmp_path / "s" / "simulation.yaml"
    path.write_text(path.read_text() + "channels: {current_scale_error_percent: 1}\n")
    errors = read_simulation(path).errors()
    assert errors == replace(ChannelErrors(), current_scale_error_percent=1.0)
    assert set(Channels.model_fields) == {field.name for field in fields(ChannelErrors)}


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        ("seed: 1", "seed: -1", "simulation.yaml:3 (seed)", "greater than or equal to 0"),
        ("+00:00", "", "simulation.yaml:4 (start)", "has no time zone"),
        ("2026-01-05T06:00:00+00:00", "soon", "simulation.yaml:4 (start)", "soon"),
        ("sigma_lot_percent: 0.2", "sigma_lot_percent: 90", "sigma_lot_percent)", "equal to 5"),
        ("sigma_lot_percent", "sigma_lots", "sigma_lots)", "unknown key"),
        ("suppliers:", "channels: {seat_mOhm: -1}\nsuppliers:", "channels.seat_mOhm", "equal to 0"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(tmp_path, old, new, where, what):
    write_study(tmp_path / "s")
    path = tmp_path / "s" / "simulation.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ProblemsError) as caught:
        read_simulation(path)
    assert any(where in p.where and what in p.what for p in caught.value.problems)
