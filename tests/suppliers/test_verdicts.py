"""What a scorecard decides on each supplier, and what condition or lack it names."""

from supplier_tables import LIMITS, drawn_rows, make_study, scored, verdicts


def test_wide_margins_qualify(study):
    data = scored(study, drawn_rows(means=(("Alpha", 5.2), ("Beta", 5.2)), lots=6))
    assert verdicts(data) == {"Alpha": "QUALIFY", "Beta": "QUALIFY"}
    assert "all 48 cells of 6 lots inside" in data["decision"]["Alpha"]["reasons"][0]


def test_a_narrow_margin_is_conditional_and_says_how_many_lots_would_do(study):
    data = scored(study, drawn_rows(seed=2, means=(("Alpha", 5.02), ("Beta", 5.2))))
    assert verdicts(data)["Alpha"] == "CONDITIONAL"
    text = next(item for item in data["would_change"] if item.startswith("Alpha"))
    lots = int(text.partition("about ")[2].split()[0])
    assert 4 <= lots <= 60


def test_a_cell_below_the_limit_rejects(study):
    rows = drawn_rows(means=(("Alpha", 5.2), ("Beta", 5.2)), lots=6)
    rows[0]["value"] = 4.9
    data = scored(study, rows)
    assert verdicts(data) == {"Alpha": "REJECT", "Beta": "QUALIFY"}
    outside = data["features"]["capacity_Ah"]["suppliers"]["Alpha"]["outside"]
    assert [(item["serial"], item["side"]) for item in outside] == [("A1-001", "lower")]
    assert any(
        "gbt_31486_2024 5.4 not met" in text for text in data["decision"]["Alpha"]["reasons"]
    )
    assert any("A1-001 lies" in text for text in data["decision"]["Alpha"]["risks"])


def test_a_rule_alone_rejects(tmp_path):
    study = make_study(tmp_path / "s", limits="")
    rows = drawn_rows(means=(("Alpha", 5.2), ("Beta", 4.9)), lots=4)
    data = scored(study, rows)
    assert verdicts(data) == {"Alpha": "QUALIFY", "Beta": "REJECT"}
    assert [row["met"] for row in data["rules"] if row["supplier"] == "Beta"] == [False, True, True]


def test_the_rules_of_shares_reject_and_a_share_never_measured_is_not_passed(tmp_path):
    rules = ("{rule: gbt_31486_2015_high_temperature, at_least: 85 %}, "
             "gbt_31486_2015_low_temperature, gbt_31486_2015_storage")  # fmt: skip
    study = make_study(tmp_path / "s", limits="", rules=rules)
    hot = drawn_rows(means=(("Alpha", 87.0), ("Beta", 87.0)), feature="capacity_hot_share_percent")
    cold = drawn_rows(
        means=(("Alpha", 75.0), ("Beta", 69.0)), feature="capacity_cold_share_percent"
    )
    data = scored(study, [*hot, *cold])
    assert verdicts(data) == {"Alpha": "CONDITIONAL", "Beta": "REJECT"}
    met = {(row["supplier"], row["rule"][15:]): row["met"] for row in data["rules"]}
    assert met["Alpha", "low_temperature"]
    assert met["Beta", "low_temperature"] is False
    assert met["Beta", "high_temperature"]
    assert met["Alpha", "storage"] is None
    assert any(
        "cannot be judged" in text and "gbt_31486_storage measures" in text
        for text in data["decision"]["Alpha"]["reasons"]
    )
    assert any(
        "24 cells measured; its type test has 10 cells (V); it holds at −20 °C (U)" in text
        for text in data["decision"]["Alpha"]["risks"]
    )


def test_a_bound_alone_rejects(tmp_path):
    """No cell is rejected under guarded rejection, yet too many lie outside."""
    limits = "{feature: capacity_Ah, lower: 5.19 Ah, decision_rule: guarded rejection}"
    study = make_study(tmp_path / "s", ("Alpha",), limits=limits, rules="")
    rows = drawn_rows(seed=4, means=(("Alpha", 5.19),), lots=10, sigma_lot=0.05)
    for item in rows:
        item["uncertainty"] = 0.05
    data = scored(study, rows)
    assert verdicts(data) == {"Alpha": "REJECT"}
    assert "with 99 % confidence more than" in data["decision"]["Alpha"]["reasons"][0]


def test_a_cell_in_the_guard_band_is_conditional(tmp_path):
    limits = "{feature: capacity_Ah, lower: 4.95 Ah, decision_rule: guarded acceptance}"
    study = make_study(tmp_path / "s", ("Alpha",), limits=limits, rules="")
    rows = drawn_rows(means=(("Alpha", 5.2),), lots=6)
    for item in rows:
        item["uncertainty"] = 0.2
    data = scored(study, rows)
    assert verdicts(data) == {"Alpha": "CONDITIONAL"}
    assert "neither accepted nor rejected" in data["decision"]["Alpha"]["reasons"][0]


def test_one_lot_is_not_enough_whatever_it_shows(study):
    data = scored(study, drawn_rows(lots=1, means=(("Alpha", 5.2), ("Beta", 4.8))))
    assert verdicts(data) == {"Alpha": "NOT ENOUGH DATA", "Beta": "NOT ENOUGH DATA"}
    entry = data["features"]["capacity_Ah"]["suppliers"]["Alpha"]
    assert entry["sd_total_interval"][0] < entry["sd_total"] < entry["sd_total_interval"][1]
    assert entry["mean_interval"] is None
    assert entry["sd_lot"] is None
    assert "one lot" in entry["notes"][0]
    assert any("not met" in risk for risk in data["decision"]["Beta"]["risks"])
    assert data["ranking"]["probability_best"] == {"Alpha": None, "Beta": None}
    assert data["ranking"]["order"] == ["Alpha", "Beta"]


def test_a_supplier_without_any_value(study):
    data = scored(study, drawn_rows(means=(("Alpha", 5.2),), lots=6))
    assert verdicts(data) == {"Alpha": "QUALIFY", "Beta": "NOT ENOUGH DATA"}
    assert data["decision"]["Beta"]["reasons"] == ["no valid value of any cell"]


def test_a_limited_feature_that_was_never_measured(tmp_path):
    study = make_study(
        tmp_path / "s", limits=f"{LIMITS}, {{feature: dcir_10s_mOhm, upper: 32 mOhm}}"
    )
    data = scored(study, drawn_rows(means=(("Alpha", 5.2), ("Beta", 5.2)), lots=6))
    assert verdicts(data)["Alpha"] == "NOT ENOUGH DATA"
    assert data["decision"]["Alpha"]["reasons"] == [
        "dcir_10s_mOhm: limited in the study, but never measured"
    ]


def test_a_study_without_limits_and_rules_is_conditional(tmp_path):
    study = make_study(tmp_path / "s", limits="", rules="", extra="")
    data = scored(study, drawn_rows(lots=6))
    assert set(verdicts(data).values()) == {"CONDITIONAL"}
    (reason,) = data["decision"]["Alpha"]["reasons"]
    assert reason.startswith("on limits or a rule being agreed")
    assert any(text.startswith("Alpha: limits or a rule") for text in data["would_change"])
    assert data["pack"] is None


def test_resistance_ranks_the_lower_the_better(tmp_path):
    study = make_study(tmp_path / "s", limits="", rules="")
    rows = drawn_rows(means=(("Alpha", 30.0), ("Beta", 29.0)), feature="dcir_10s_mOhm")
    data = scored(study, rows)
    assert data["ranking"]["better"] == "lower"
    assert data["ranking"]["order"] == ["Beta", "Alpha"]
    assert data["ranking"]["probability_best"]["Beta"] > 0.9
    assert data["pack"] is None
