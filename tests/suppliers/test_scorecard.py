"""The scorecard as a whole: schema, decisions, degenerate studies, speed."""

import json
import math
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from supplier_tables import (
    drawn_rows,
    frame,
    gauge_rows,
    make_study,
    row,
    scored,
    verdicts,
)

from batterylab.errors import BatterylabError, EnvironmentFailedError
from batterylab.suppliers import SCHEMA, scorecard, summary_lines
from batterylab.suppliers.card import Scorecard
from batterylab.suppliers.pages import page

TOP = {
    "schema", "study", "cell_type", "generated_utc", "software", "which_recording", "seed",
    "features", "rules", "ranking", "decision", "pack", "exclusions", "recordings",
    "would_change", "between", "consistency", "sensitivity", "out_of_temperature",
}  # fmt: skip
SUPPLIER = {
    "lots", "cells", "mean", "mean_interval", "sd_total", "sd_total_interval", "sd_cell",
    "sd_cell_interval", "sd_lot", "sd_lot_interval", "cv_percent", "cv_percent_interval",
    "minimum", "maximum", "capability", "outside", "lot", "mean_kenward_roger",
    "spread_is_resolved", "tolerance", "conformity",
}  # fmt: skip
MEASUREMENT = {
    "corrected", "method", "repeatability_sd", "reproducibility_sd", "gauge_sd",
    "gauge_interval", "grr_percent", "grr_percent_interval", "categories", "cells", "channels",
    "repeats", "note", "categories_interval", "trend", "budget", "positions", "references",
    "channel_corrections",
}  # fmt: skip
COMPARISON = {
    "a", "b", "difference", "interval", "probability_a_higher", "p_value",
    "degrees_of_freedom", "sigma_ratio", "sigma_ratio_interval",
}  # fmt: skip


def walk(data):
    if isinstance(data, dict):
        for value in data.values():
            yield from walk(value)
    elif isinstance(data, list):
        for value in data:
            yield from walk(value)
    else:
        yield data


def test_every_key_of_the_schema_is_there(study):
    data = scored(study, drawn_rows() + gauge_rows())
    assert data["schema"] == SCHEMA
    assert set(data) >= TOP
    feature = data["features"]["capacity_Ah"]
    assert set(feature) == {
        "unit", "limits", "measurement", "components", "suppliers", "comparisons", "values",
    }  # fmt: skip
    assert set(feature["measurement"]) == MEASUREMENT
    assert set(feature["suppliers"]["Alpha"]) >= SUPPLIER
    assert set(feature["suppliers"]["Alpha"]["capability"]) == {
        "cp", "cpk", "cpk_lower_95", "n", "fraction_outside", "fraction_outside_upper_95",
        "cp_interval", "cpk_interval", "cpm", "cpm_interval", "fraction_outside_interval",
        "expected_fraction_outside", "target", "within", "percentile",
    }  # fmt: skip
    assert set(feature["suppliers"]["Alpha"]["lot"]["A1"]) == {
        "cells", "mean", "mean_interval", "sd", "sd_interval",
    }  # fmt: skip
    assert set(feature["comparisons"][0]) == COMPARISON
    assert set(feature["values"][0]) == {
        "serial", "supplier", "lot", "channel", "value", "uncertainty", "seal",
    }  # fmt: skip
    assert set(data["rules"][0]) == {
        "rule", "clause", "requirement", "supplier", "value", "limit", "met", "mark", "cells",
        "type_test_cells", "type_test_mark", "reason", "conditions",
    }  # fmt: skip
    assert set(data["ranking"]) == {
        "feature", "better", "order", "probability_best", "statement", "weighted",
    }  # fmt: skip
    assert set(data["decision"]["Alpha"]) == {
        "verdict", "reasons", "risks", "probability_conforms", "expected_fraction_outside",
        "expected_loss",
    }  # fmt: skip
    assert set(data["pack"]["suppliers"]["Alpha"]) == {
        "cv_percent", "loss_percent", "loss_percent_interval", "drawn", "simulated",
    }  # fmt: skip
    assert set(data["recordings"][0]) == {
        "seal", "serial", "supplier", "lot", "channel", "protocol", "start_utc", "state",
    }  # fmt: skip
    assert not any(isinstance(v, float) and not math.isfinite(v) for v in walk(data))


def test_the_same_rows_in_any_order_give_the_same_bytes(study):
    rows = drawn_rows() + gauge_rows()
    first = scored(study, rows)
    shuffled = pd.DataFrame(rows).sample(frac=1.0, random_state=7)
    assert scored(study, shuffled.to_dict("records")) == first
    assert first["generated_utc"] == "2026-01-08T06:00:00+00:00"  # the last recording


def test_the_last_entry_of_the_log_dates_the_scorecard(study):
    study.log.now = lambda: 1_800_000_000
    study.log.append("allot", "ann", seed=42)
    data = scored(study, drawn_rows())
    assert data["generated_utc"] == "2027-01-15T08:00:00+00:00"
    assert data["seed"] == 42


def test_the_truth_lies_in_the_intervals_and_the_ranking_is_right(tmp_path):
    """Eight studies as the demonstration makes them, at 99.9 % each."""
    study = make_study(tmp_path / "s")
    for seed in range(8):
        data = scored(study, drawn_rows(seed) + gauge_rows(seed + 100), confidence=0.999)
        assert data["ranking"]["order"][0] == "Alpha"
        for name, mean in (("Alpha", 5.15), ("Beta", 5.075)):
            entry = data["features"]["capacity_Ah"]["suppliers"][name]
            for key, true in (
                ("mean", mean), ("sd_cell", 0.0025 * mean), ("sd_lot", 0.002 * mean),
                ("sd_total", math.hypot(0.002, 0.0025) * mean),
            ):  # fmt: skip
                low, high = entry[f"{key}_interval"]
                assert low <= true <= high, (seed, name, key)
            assert entry["mean"] == pytest.approx(mean, rel=0.01)


def test_a_gauge_study_takes_the_bench_out(study):
    rows = drawn_rows(seed=3, lots=6, cells=30, bench=0.25)
    gauge = gauge_rows(cells=10, channels=10, repeats=3, channel=0.2, repeat=0.15)
    plain = scored(study, rows)["features"]["capacity_Ah"]
    without = scored(study, rows + gauge)["features"]["capacity_Ah"]
    assert plain["measurement"]["corrected"] is False
    assert "not corrected" in plain["measurement"]["note"]
    assert plain["suppliers"]["Alpha"]["sd_cell"] == pytest.approx(0.0035 * 5.15, rel=0.1)
    assert without["suppliers"]["Alpha"]["sd_cell"] == pytest.approx(0.0025 * 5.15, rel=0.2)
    low, high = without["suppliers"]["Alpha"]["sd_cell_interval"]
    assert low < 0.0025 * 5.15 < high
    assert 50 < without["measurement"]["grr_percent"] < 90


# Tables without lots, and other thin data


def relative(values, supplier="PulseBat"):
    return [
        row(f"C{n}", value, supplier=supplier, lot="", feature="relative_capacity", unit="",
            protocol="table", source="table", seal="t", start_utc="", uncertainty=math.nan,
            channel="")
        for n, value in enumerate(values)
    ]  # fmt: skip


def test_a_table_in_relative_capacity_without_lots(tmp_path):
    study = make_study(tmp_path / "s", ("PulseBat",), limits="", rules="")
    values = np.random.default_rng(1).normal(0.9, 0.05, 60)
    data = scored(study, relative(values))
    assert verdicts(data) == {"PulseBat": "NOT ENOUGH DATA"}
    entry = data["features"]["relative_capacity"]["suppliers"]["PulseBat"]
    assert entry["lots"] == 0
    cv = 100 * values.std(ddof=1) / values.mean()
    assert entry["cv_percent"] == pytest.approx(cv, rel=1e-9)
    low, high = entry["cv_percent_interval"]
    assert low < cv < high
    assert high / low == pytest.approx(1.43, abs=0.05)
    assert data["pack"]["suppliers"]["PulseBat"]["loss_percent"] == pytest.approx(
        2.493 * cv, rel=1e-3
    )
    assert data["generated_utc"] is None


def test_a_pack_of_cells_that_are_not_normal_is_drawn_from_them(tmp_path):
    study = make_study(tmp_path / "s", ("PulseBat",), limits="", rules="")
    values = np.random.default_rng(1).normal(0.98, 0.01, 52)
    values[:4] = (0.75, 0.78, 0.80, 0.85)
    data = scored(study, relative(values))
    entry = data["pack"]["suppliers"]["PulseBat"]
    assert entry["drawn"]["loss_percent"] > 1.4 * entry["loss_percent"]
    line = summary_lines(data)[-1]
    assert f"{entry['drawn']['loss_percent']:.2f} %" in line
    assert "not normal" in line
    packs = entry["simulated"]["ways"]["random"]
    assert packs["capacity_percent"] == pytest.approx(entry["drawn"]["loss_percent"], rel=0.1)


def test_packs_of_cells_without_a_resistance_claim_no_power(tmp_path):
    study = make_study(tmp_path / "s", ("PulseBat",), limits="", rules="")
    values = np.random.default_rng(1).normal(0.9, 0.01, 60)
    pack = scored(study, relative(values))["pack"]["suppliers"]["PulseBat"]["simulated"]
    assert not pack["resistance_measured"]
    for entry in (*pack["ways"].values(), *pack["production"].values()):
        assert entry.get("power_percent") is None
    whole_Wh = 96 * 5.0 * values.mean() * 3.35  # nominal Ah, middle of the voltage window
    plain = pack["ways"]["random"]
    assert plain["lost_Wh_per_car"] == pytest.approx(
        plain["energy_percent"] / 100 * whole_Wh, rel=1e-9
    )
    rows = [
        row(f"C{n}", 30.0 + n % 5, supplier="PulseBat", lot="", feature="dcir_10s_mOhm")
        for n in range(60)
    ]
    known = scored(study, relative(values) + rows)["pack"]["suppliers"]["PulseBat"]["simulated"]
    assert known["resistance_measured"]
    assert known["ways"]["random"]["power_percent"] > 0


@pytest.mark.parametrize("name", ["LFP_35Ah", "LMO_10Ah", "NMC_2.1Ah", "NMC_21Ah"])
def test_the_spread_of_retired_cells(tmp_path, shared_data, name):
    file = f"multicell_pulsebat/{name}_W_5000.xlsx"
    manifest = json.loads((shared_data / "data" / "MANIFEST.json").read_text())
    listed = manifest if isinstance(manifest, list) else manifest["files"]
    want = next(item for item in listed if item["file"] == file)["expected"]["own"]
    sheet = pd.read_excel(shared_data / "data" / file, usecols=["No.", "ID", "SOH"])
    health = sheet.groupby(["No.", "ID"])["SOH"].first()
    study = make_study(tmp_path / "s", ("Retired",), limits="", rules="")
    data = scored(study, relative(list(health), "Retired"))
    assert verdicts(data) == {"Retired": "NOT ENOUGH DATA"}
    entry = data["features"]["relative_capacity"]["suppliers"]["Retired"]
    assert entry["cells"] == want["n_cells"]
    assert entry["cv_percent"] == pytest.approx(want["Q_cv_percent"], abs=0.05)


@pytest.mark.parametrize(
    "values",
    [[5.0], [5.0, 5.0], [5.0, math.nan], [0.0, 0.0, 0.0], [-1.0, 1.0, 0.5], [1e-12, 2e-12]],
)
@pytest.mark.parametrize("lots", [("A1",), ("A1", "A2"), ("",)])
def test_thin_and_odd_values_never_break_it(study, values, lots):
    rows = [row(f"S{n}", v, lot=lots[n % len(lots)]) for n, v in enumerate(values)]
    data = scored(study, rows)
    assert verdicts(data)["Alpha"] != "QUALIFY"


def test_nothing_valid_at_all(study):
    data = scored(study, [row("S1", math.nan), row("S2", 5.0, state="invalid")])
    assert set(verdicts(data).values()) == {"NOT ENOUGH DATA"}
    assert data["features"] == {}
    assert len(data["exclusions"]) == 2


def test_equal_values_in_many_lots(study):
    rows = [row(f"S{n}", 5.2, lot=f"A{n % 3}") for n in range(9)]
    data = scored(study, rows)
    entry = data["features"]["capacity_Ah"]["suppliers"]["Alpha"]
    assert entry["sd_total"] == 0.0
    assert entry["sd_total_interval"] is None
    assert "all values are equal" in entry["notes"][0]
    assert verdicts(data)["Alpha"] == "CONDITIONAL"


# The file, and the cost


def test_it_is_written_whole_or_not_at_all(study, monkeypatch):
    card = scorecard(study, frame(drawn_rows()))
    path = card.write(study.results)
    assert json.loads(path.read_text()) == card.to_dict()
    before = path.read_bytes()

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(EnvironmentFailedError, match="cannot be written"):
        Scorecard({"schema": SCHEMA}).write(study.results)
    assert path.read_bytes() == before
    assert [item.name for item in study.results.iterdir()] == ["scorecard.json"]


def test_48_cells_with_15_features_take_seconds(study):
    rows = []
    for number in range(15):
        name = "capacity_Ah" if number == 0 else f"feature{number}_Ah"
        part = drawn_rows(seed=number, means=(("Alpha", 5.05), ("Beta", 5.15)), feature=name)
        del part[number % 8 + 3]  # unequal lots cost most
        rows += part + gauge_rows(seed=number, feature=name)
    table = frame(rows)
    started = time.process_time()
    data = scorecard(study, table).to_dict()
    assert time.process_time() - started < 30.0
    assert len(data["features"]) == 15


def test_scoring_imports_no_simulator():
    code = (
        "import sys, batterylab.suppliers.card, batterylab.suppliers\n"
        "print([m for m in ('pybamm', 'matplotlib', 'pyvisa') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_three_suppliers_one_of_them_with_a_single_lot(tmp_path):
    study = make_study(tmp_path / "s", ("Alpha", "Beta", "Gamma"))
    rows = drawn_rows(means=(("Alpha", 5.1), ("Beta", 5.2)))
    rows += drawn_rows(seed=5, means=(("Gamma", 5.3),), lots=1)
    data = scored(study, rows)
    ranking = data["ranking"]
    assert ranking["order"] == ["Gamma", "Beta", "Alpha"]
    assert ranking["probability_best"]["Gamma"] is None
    assert ranking["statement"].startswith("Gamma has the higher mean")
    assert "lots are too few" in ranking["statement"]
    pairs = data["features"]["capacity_Ah"]["comparisons"]
    assert [(pair["a"], pair["b"]) for pair in pairs] == [
        ("Alpha", "Beta"), ("Alpha", "Gamma"), ("Beta", "Gamma"),
    ]  # fmt: skip
    assert pairs[0]["interval"] is not None
    assert pairs[1]["interval"] is None
    assert pairs[1]["difference"] == pytest.approx(-0.2, abs=0.05)


def test_the_five_lines_say_what_the_scorecard_says(study):
    data = scored(study, drawn_rows(means=(("Alpha", 5.0), ("Beta", 5.2)), lots=6) + gauge_rows())
    decision, reason, sure, spread, pack = summary_lines(data)
    assert decision == f"Decision: Alpha {verdicts(data)['Alpha']}; Beta QUALIFY"
    assert reason.startswith("Reason: Alpha: capacity_Ah")
    assert sure.startswith("How sure: Beta has the higher mean capacity_Ah with probability")
    comparison = data["features"]["capacity_Ah"]["comparisons"][0]
    low, high = (-100 * end / 5.0 for end in reversed(comparison["interval"]))
    assert low < 4.0 < high
    assert "Beta against Alpha +" in sure
    assert "bench taken out" in spread
    loss = data["pack"]["suppliers"]["Beta"]["loss_percent"]
    assert f"Beta {loss:.2f} %" in pack
    assert pack.startswith("Pack 96s1p")


def test_the_page_defends_itself(study):
    rows = drawn_rows(means=(("Alpha", 5.2), ("Beta", 5.2)), lots=6)
    rows[3]["value"] = 4.96
    data = scored(study, rows)
    said = "\n".join(page(data))
    assert "range of initial capacity, % of the mean, at most 5" in said
    assert "there is no gauge study, so every spread holds the bench's too" in said
    assert f"{rows[3]['serial']} lies" in said
    assert "cells far off their lot left out" in said
    assert "Alpha mean" in said.partition("cells far off")[2], "the effect is shown"


def test_one_lot_gives_no_probability_and_equal_means_no_rank(tmp_path):
    one_lot = scored(make_study(tmp_path / "a"), drawn_rows(lots=1))
    assert one_lot["decision"]["Alpha"]["probability_conforms"] is None
    assert "of one lot" in summary_lines(one_lot)[-1]
    rows = [row(f"{name[0]}{lot}-{n}", 5.2, supplier=name, lot=f"{name[0]}{lot}")
            for name in ("Alpha", "Beta") for lot in (1, 2) for n in range(4)]  # fmt: skip
    equal = scored(make_study(tmp_path / "b"), rows)
    assert "are equal: there is nothing to rank" in equal["ranking"]["statement"]
    assert "below resolution" in summary_lines(equal)[3]


def test_a_limit_in_another_unit_than_the_cell_is_refused(tmp_path):
    with pytest.raises(BatterylabError, match="4900 Ah does not fit a cell of 5 Ah"):
        make_study(tmp_path / "s", limits="{feature: capacity_Ah, lower: 4900 Ah}")
