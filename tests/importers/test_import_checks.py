"""What contradicts itself is refused, and the error says what is wrong."""

from dataclasses import replace

import numpy as np
import pytest

from batterylab.cells import CellType
from batterylab.errors import BatterylabError, ProblemsError
from batterylab.importers.build import Stated, build
from batterylab.importers.steps import PULSE_S
from batterylab.importers.vendortable import Counter, VendorTable

CELL = CellType.model_validate(
    {
        "name": "P5000",
        "nominal_capacity": "5 Ah",
        "rated_capacity": "4.95 Ah",
        "voltage": {"min": "2.5 V", "max": "4.2 V"},
        "current": {"max_charge": "5 A", "max_discharge": "10 A"},
        "temperature": {"min": "0 degC", "max": "45 degC"},
    }
)


def cycles(count=3, amps=2.5, capacity_Ah=5.0, interval_s=20.0):
    """Return full cycles of a cell whose voltage rises in a straight line, rests between."""
    parts = []
    rows = int(capacity_Ah / amps * 3600 / interval_s)
    for cycle in range(1, count + 1):
        for number, (sign, length) in enumerate([(1, rows), (0, 10), (-1, rows), (0, 10)], 1):
            parts.append((cycle, number, sign * amps, length))
    current_A = np.concatenate([np.full(n, a) for _, _, a, n in parts])
    time_s = np.arange(1, len(current_A) + 1) * interval_s
    net_Ah = np.cumsum(current_A * interval_s) / 3600.0
    voltage_V = 2.5 + 1.7 * np.clip(net_Ah / capacity_Ah, 0, 1)
    return VendorTable(
        "test",
        "test 1",
        time_s,
        current_A,
        voltage_V,
        step=np.concatenate([np.full(n, s) for _, s, _, n in parts]),
        step_time_s=np.concatenate([np.arange(1, n + 1) * interval_s for *_, n in parts]),
        cycle=np.concatenate([np.full(n, float(c)) for c, _, _, n in parts]),
        charge=Counter((net_Ah,), "signed"),
        unix_time_s=1.7e9 + time_s,
        zone_known=True,
    )


def built(table, cell=CELL):
    return build(table, "file.csv", Stated("S1", cell_type=cell), "0" * 64)


def refused(table, cell=CELL):
    with pytest.raises((ProblemsError, BatterylabError)) as error:
        built(table, cell)
    return str(error.value)


def test_a_sound_table_passes_and_its_figures_are_kept():
    recording = built(cycles())
    checks = recording.provenance["checks"]
    assert checks["charge"]["charge_difference_percent"] < 1e-3
    assert checks["sign"]["agree_share"] == 1.0
    assert checks["cycles"] == {"count": 3, "first": 1, "last": 3}
    assert checks["clock"]["pauses"] == 0
    assert recording.start_utc.startswith("2023-11-14T22:13:40")
    assert [s.measure for s in recording.steps].count("capacity") == 3
    assert recording.columns["net_capacity_Ah"][-1] == pytest.approx(-2.5 * 20 / 3600)


def test_milliampere_taken_for_ampere_is_refused():
    table = cycles()
    wrong = replace(table, current_A=table.current_A * 1e3)
    assert "is the current in mA?" in refused(wrong, None) or "in mA" in refused(wrong, None)
    assert "ten times" in refused(wrong)


def test_a_counter_in_milliampere_hours_is_refused():
    """3558 mAh read as Ah: a capacity of thousands of Ah for a small cell."""
    table = cycles()
    wrong = replace(table, charge=Counter((table.charge.values[0] * 1e3,), "signed"))
    assert "is the counter in mAh?" in refused(wrong, None)


def test_current_and_counter_in_milli_together_are_refused():
    table = cycles(amps=2.5)
    both = replace(
        table,
        current_A=table.current_A * 700,  # 1750 A: below what no cell can carry
        charge=Counter((table.charge.values[0] * 700,), "signed"),
    )
    assert "passes 3500 Ah" in refused(both, None)


@pytest.mark.parametrize("factor", [1.006, 0.994])
def test_a_counter_that_is_off_by_more_than_half_a_percent_is_refused(factor):
    table = cycles()
    wrong = replace(table, charge=Counter((table.charge.values[0] * factor,), "signed"))
    assert "the file's own counter" in refused(wrong)


@pytest.mark.parametrize("factor", [1.004, 0.996])
def test_a_counter_that_is_off_by_less_is_taken_and_wins(factor):
    table = cycles()
    near = replace(table, charge=Counter((table.charge.values[0] * factor,), "signed"))
    recording = built(near)
    assert recording.columns["charge_capacity_Ah"][-1] == pytest.approx(15.0 * factor, rel=2e-3)
    figures = recording.provenance["checks"]["charge"]
    assert figures["charge_difference_percent"] == pytest.approx(0.4, abs=0.01)


def test_a_sign_the_other_way_is_refused():
    table = cycles()
    wrong = replace(
        table,
        current_A=-table.current_A,
        charge=Counter((-table.charge.values[0],), "signed"),
    )
    assert "the voltage falls while the current is positive" in refused(wrong)


@pytest.mark.parametrize("factor", [2 * np.pi, 1.5])
def test_cycle_numbers_that_are_not_whole_are_refused(factor):
    table = cycles()
    assert "is not whole" in refused(replace(table, cycle=table.cycle * factor))


@pytest.mark.parametrize("factor", [3600.0, 1 / 3600.0, 1.05])
def test_time_in_another_unit_is_refused(factor):
    table = cycles()
    wrong = replace(table, time_s=table.time_s * factor, charge=None)
    assert "on the file's clock" in refused(wrong)


def test_a_pause_of_the_cycler_is_no_contradiction():
    table = cycles()
    later = table.unix_time_s + np.where(np.arange(len(table)) > 900, 7200.0, 0.0)
    clock = built(replace(table, unix_time_s=later)).provenance["checks"]["clock"]
    assert (clock["pauses"], clock["paused_s"]) == (1, pytest.approx(7200, abs=1))


def test_time_that_runs_backwards_is_refused():
    table = cycles()
    time_s = table.time_s.copy()
    time_s[500:] -= 5000
    assert "time runs backwards" in refused(replace(table, time_s=time_s))


def test_a_row_that_is_no_number_is_refused_by_its_row():
    table = cycles()
    volts = table.voltage_V.copy()
    volts[17] = np.nan
    assert "row 17: the voltage is not a number" in refused(replace(table, voltage_V=volts))


def test_another_cells_file_is_refused_where_the_study_knows_better():
    table = cycles()
    assert "not those of P5000" in refused(replace(table, voltage_V=table.voltage_V / 10))


def test_every_complaint_is_made_at_once():
    table = cycles()
    wrong = replace(
        table,
        cycle=table.cycle * 1.5,
        charge=Counter((table.charge.values[0] * 2,), "signed"),
        unix_time_s=table.unix_time_s[0] + 10 * (table.unix_time_s - table.unix_time_s[0]),
    )
    message = refused(wrong)
    assert "not whole" in message and "own counter" in message and "clock" in message


def test_a_temperature_input_with_nothing_connected_is_left_out():
    table = replace(cycles(), extra={"temperature_degC": np.full(len(cycles()), -2501.7)})
    recording = built(table)
    assert "temperature_degC" not in recording.columns
    assert any("no sensor" in remark for remark in recording.provenance["remarks"])


def test_a_partial_discharge_is_no_capacity():
    table = cycles()
    half = np.arange(len(table)) < len(table) - 370  # the last discharge ends half way
    assert [s.measure for s in built(table.take(half)).steps].count("capacity") == 2


def test_a_discharge_after_a_partial_charge_is_no_capacity():
    table = cycles()
    late = np.arange(len(table)) >= 1000  # within the first discharge
    measures = [s.measure for s in built(table.take(late)).steps]
    assert measures.count("capacity") == 2


def test_a_short_discharge_between_rests_is_a_pulse():
    rows = [(0.0, 100), (-5.0, 10), (0.0, 100)]
    current_A = np.concatenate([np.full(n, a) for a, n in rows])
    time_s = np.arange(len(current_A), dtype=float)
    voltage_V = 3.7 + 0.03 * current_A + np.cumsum(current_A) * 1e-3
    table = VendorTable("test", "test", time_s, current_A, voltage_V)
    kinds = [(s.kind, s.measure, s.duration_s) for s in built(table).steps]
    assert kinds == [("rest", "", 99.0), ("pulse", "dcir", 10.0), ("rest", "", 100.0)]
    assert PULSE_S == 60.0
