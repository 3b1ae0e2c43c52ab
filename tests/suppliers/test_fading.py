"""Ageing of suppliers: courses from tables, life tests and dated recordings; fade, knee, life."""

import math

import numpy as np
import pytest
from supplier_tables import frame, make_study, row

from batterylab.features import table as features_table
from batterylab.features.course import AGED
from batterylab.importers.featuretable import prepare
from batterylab.importers.store import Target
from batterylab.importers.tablestore import store
from batterylab.report.card import read_card
from batterylab.report.content import document
from batterylab.suppliers import scorecard
from batterylab.suppliers.courses import courses
from batterylab.suppliers.fading import ageing_entry
from batterylab.suppliers.pages import page
from batterylab.suppliers.sampling import readings_of

CHECKED = np.arange(0, 1401, 50)


def table_rows(root=3e-3, line=5e-5, *, supplier="Alpha", lots=3, cells=6, knee=1e9, seed=1,
               least=0.7, until=1400, scatter=5e-4):  # fmt: skip
    """Return check-ups of cells that fade, as a table gives them."""
    rng = np.random.default_rng(seed)
    rows = []
    for lot in range(1, lots + 1):
        lot_line = rng.normal(0, 0.1 * line)
        for cell in range(cells):
            first = 5.0 * (1 + rng.normal(0, 0.003))
            own_root, own_line = root * (1 + rng.normal(0, 0.1)), line * (1 + rng.normal(0, 0.1))
            own_knee = knee * (1 + rng.normal(0, 0.05))
            for cycles in [c for c in CHECKED if c <= until]:
                share = (1 - own_root * math.sqrt(cycles) - (own_line + lot_line) * cycles
                         - 3e-4 * max(0.0, cycles - own_knee) + rng.normal(0, scatter))  # fmt: skip
                if share < least:
                    break
                rows.append(row(
                    f"{supplier[0]}{lot}-{cell}", first * share, supplier=supplier,
                    lot=f"{supplier[0]}{lot}", seal=f"{supplier}-table", source="table",
                    cycles=float(cycles),
                ))  # fmt: skip
    return rows


def entry_of(rows, suppliers=("Alpha", "Beta")):
    found, left_out = courses(readings_of(frame(rows)))
    return ageing_entry(found, left_out, suppliers)


def test_fade_knee_and_life_come_back_as_they_were_put_in():
    both = table_rows() + table_rows(line=9e-5, supplier="Beta", knee=900, seed=2)
    found = entry_of(both)
    alpha, beta = found["suppliers"]["Alpha"], found["suppliers"]["Beta"]
    assert (alpha["failed"], alpha["running"], beta["failed"]) == (0, 18, 18)
    assert alpha["none_failed"]["share_failed_upper_95"] == pytest.approx(1 - 0.05 ** (1 / 18))
    assert alpha["mean_cell"]["root_percent"] == pytest.approx(0.3, rel=0.1)
    assert alpha["mean_cell"]["root_sd_percent"] == pytest.approx(0.03, rel=0.6)
    low, high = alpha["mean_cell"]["life_interval"]
    assert low < 1600 < high  # 0.003 √1600 + 5e-5 · 1600 = 0.2
    assert alpha["mean_cell"]["is_extrapolated"]
    assert beta["knees"]["cells"] == 18
    assert beta["knees"]["median"] == pytest.approx(900, rel=0.06)
    assert beta["mean_cell"]["life"] is None, "nothing is extrapolated over a knee"
    assert beta["weibull"]["life_50_interval"][0] < 960 < beta["weibull"]["life_50_interval"][1]
    assert found["compared"][0]["statement"].startswith("Alpha fades less")


def test_intervals_of_the_loss_rest_on_lots_and_hold():
    held, trials = 0, 150
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        rows = [
            row(f"A{lot}-{cell}", 5 * (1 - rate * cycles), lot=f"A{lot}", cycles=cycles, seal="t",
                source="table")
            for lot in range(4)
            for shift in [rng.normal(0, 1e-5)]
            for cell in range(5)
            for rate in [5e-5 + shift + rng.normal(0, 5e-6)]
            for cycles in (0.0, 100.0, 200.0, 300.0)
        ]  # fmt: skip
        lost = entry_of(rows)["suppliers"]["Alpha"]["lost"]
        assert lost["basis"] == "lots"
        held += lost["interval"][0] <= 1.5 <= lost["interval"][1]
    assert held / trials >= 0.90


def test_a_table_with_cycles_gives_the_fresh_value_of_the_fewest(tmp_path):
    rows = table_rows(lots=2, cells=3)
    study = make_study(tmp_path / "s", ("Alpha",), rules="")
    card = scorecard(study, frame(rows)).to_dict()
    fresh = {r["serial"]: r["value"] for r in rows if r["cycles"] == 0}
    assert {v["serial"]: v["value"] for v in card["features"]["capacity_Ah"]["values"]} == {
        serial: pytest.approx(value, rel=1e-11) for serial, value in fresh.items()
    }
    assert all("counts for ageing" in row["reason"] for row in card["exclusions"])
    said = "\n".join(page(card))
    assert "Ageing, apart from the fresh cells" in said
    assert "0 of 6 cells fell below 80 %" in said
    assert set(card["features"]) == {"capacity_Ah"}


def test_a_stopped_test_is_in_no_figure_and_is_named(tmp_path):
    rows = [row(f"{lot}-{n}", 5.1 + 0.001 * n, lot=lot) for lot in ("A1", "A2") for n in range(4)]
    rows.append(row("A2-9", 3.0, lot="A2", state="stopped"))
    study = make_study(tmp_path / "s", ("Alpha",), rules="")
    card = scorecard(study, frame(rows)).to_dict()
    assert card["features"]["capacity_Ah"]["suppliers"]["Alpha"]["cells"] == 8
    (left_out,) = card["exclusions"]
    assert "capacity_Ah is at least 3" in left_out["reason"]
    assert any("stopped" in risk for risk in card["decision"]["Alpha"]["risks"])
    (case,) = card["sensitivity"]
    assert case["means"]["Alpha"] > 5.0, "a bound never counts as a value"


def test_life_tests_of_a_cell_are_joined_in_order():
    rows = [
        row("A1-1", 5 - 0.01 * n - shift, feature=AGED, cycles=float(n), day=day, seal=f"r{day}")
        for day, shift in ((7, 0.1), (5, 0.0))
        for n in range(10)
    ]
    (course,), _ = courses(readings_of(frame(rows)))
    assert course.axis == "cycles"
    assert course.age.tolist() == list(range(20))
    assert np.all(np.diff(course.capacity) < 0)


def test_dated_recordings_make_a_course_over_days_and_other_axes_are_named():
    rows = [row("A1-1", 5 - 0.1 * n, day=5 + 2 * n) for n in range(5)]
    rows += [row("A1-2", 5 - 0.1 * n, day=5 + 2 * n) for n in range(5)]
    rows += [row("A1-3", 5 - 0.1 * n, seal="t", source="table", cycles=100.0 * n)
             for n in range(5)]  # fmt: skip
    rows += [row("A1-4", 5.0 - 0.1 * n, day=5 + n, state="invalid") for n in range(5)]
    found, left_out = courses(readings_of(frame(rows)))
    assert [course.serial for course in found] == ["A1-1", "A1-2"]
    assert found[0].axis == "days"
    assert found[0].age.tolist() == [0, 2, 4, 6, 8]
    assert left_out == ["A1-3"]


def test_repeats_of_a_fresh_measurement_are_no_ageing(tmp_path):
    rows = [row(f"A{lot}-{n}", 5.1 + 0.01 * n, lot=f"A{lot}", day=day)
            for lot in (1, 2) for n in range(4) for day in (5, 6)]  # fmt: skip
    assert courses(readings_of(frame(rows))) == ([], [])
    card = scorecard(make_study(tmp_path / "s", ("Alpha",), rules=""), frame(rows)).to_dict()
    assert card["ageing"] is None
    assert "Ageing" not in "\n".join(page(card))


def test_one_cell_of_one_lot_says_how_little_that_is():
    found = entry_of(table_rows(lots=1, cells=1, until=300))
    one = found["suppliers"]["Alpha"]
    assert one["mean_cell"] is None
    assert one["weibull"] is None
    assert one["lost"]["interval"] is None
    assert one["none_failed"]["share_failed_upper_95"] == pytest.approx(0.95)
    assert found["cells"][0]["knee"] is None
    assert "8 or more" in found["cells"][0]["note"]


def test_a_cell_that_dips_and_comes_back_still_runs():
    values = [5.0, 4.5, 3.9, 4.4, 4.2, 4.1]
    rows = [row("A1-1", v, seal="t", source="table", cycles=100.0 * n)
            for n, v in enumerate(values)]  # fmt: skip
    assert entry_of(rows)["cells"][0]["life"] is None
    rows += [row("A1-1", 3.9, seal="t", source="table", cycles=600.0)]
    assert entry_of(rows)["cells"][0]["life"] == pytest.approx(550.0)


def test_the_check_ups_of_a_real_cell(shared_data, tmp_path):
    study = make_study(tmp_path / "s", ("Molicel",), limits="", rules="", extra="")
    (tmp_path / "map.yaml").write_text(
        "schema: batterylab.featuremap/1\nserial: {column: Battery_serial}\n"
        "supplier: {constant: Molicel}\ncycles: {column: EFC}\n"
        "features: [{feature: capacity_Ah, column: pOCV_CH, unit: Ah}]\n"
    )
    path = shared_data / "data/half_cell_ocp/pydma_TestData_P45B_serial23_aging_data_table.csv"
    target = Target.of(tmp_path / "s")
    store(prepare(path, tmp_path / "map.yaml", target), target, "ann")
    found = scorecard(study, features_table(study)).to_dict()["ageing"]
    (cell,) = found["cells"]
    assert cell["ages"] == [100.0 * n for n in range(9)]
    assert cell["last_share_percent"] == pytest.approx(100 * 3.6753 / 4.4707, abs=0.01)
    assert cell["running"]
    assert cell["fade"]["line_percent"] > 0
    assert found["suppliers"]["Molicel"]["none_failed"]["share_failed_upper_95"] > 0.9


def test_ageing_stands_in_the_report_after_the_ranking(tmp_path):
    rows = table_rows(lots=2, cells=3) + table_rows(lots=2, cells=3, supplier="Beta", seed=2)
    card = scorecard(make_study(tmp_path / "s", rules=""), frame(rows)).to_dict()
    report = document(read_card(card))
    titles = [section.title for section in report.sections]
    place = titles.index("Ageing")
    assert titles.index("Between suppliers, and the ranking") < place < titles.index("Exclusions")
    cells = next(table for table in report.tables() if table.key == "aged-cells")
    assert len(cells.rows) == 12
    (chart,) = [figure for figure in report.figures() if figure.key == "ageing"]
    assert chart.svg.count("<path") > 12


def test_cells_still_running_make_the_life_longer_than_the_failed_ones_alone():
    """Lot 1 has lost a fifth; lots 2 and 3 are on test, and count with the age they reached."""
    failed = table_rows(root=0.0, line=2.2e-4, lots=1, until=1100)
    slow = table_rows(root=0.0, line=7e-5, lots=3, until=1100)
    running = [each for each in slow if each["lot"] != "A1"]
    mixed = entry_of(failed + running, ("Alpha",))["suppliers"]["Alpha"]
    alone = entry_of(failed, ("Alpha",))["suppliers"]["Alpha"]
    assert (mixed["failed"], mixed["running"], alone["running"]) == (6, 12, 0)
    assert alone["weibull"]["life_50"] == pytest.approx(0.2 / 2.2e-4, rel=0.2)
    assert mixed["weibull"]["life_50"] > 1.1 * alone["weibull"]["life_50"]
