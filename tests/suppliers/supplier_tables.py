"""Studies and feature tables made up for the tests, without any bench."""

import json

import numpy as np
import pandas as pd

from batterylab.features import COLUMNS
from batterylab.study import Study
from batterylab.suppliers import scorecard, summary_lines

STUDY = """\
schema: batterylab.study/1
name: made-up
cell_type:
  name: P5000
  nominal_capacity: 5.0 Ah
  rated_capacity: 4.95 Ah
  voltage: {{min: 2.5 V, max: 4.2 V}}
  current: {{max_charge: 5 A, max_discharge: 10 A}}
  temperature: {{min: 0 degC, max: 45 degC}}
suppliers: [{suppliers}]
protocols: [incoming_inspection, capacity_resistance]
limits: [{limits}]
rules: [{rules}]
{extra}
"""
LIMITS = "{feature: capacity_Ah, lower: 4.95 Ah, upper: 5.45 Ah}"


def make_study(
    folder, suppliers=("Alpha", "Beta"), limits=LIMITS, rules="gbt_31486_2024",
    extra="pack: {series: 96, parallel: 1}",
):  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    names = ", ".join(f"{{name: {name}}}" for name in suppliers)
    text = STUDY.format(suppliers=names, limits=limits, rules=rules, extra=extra)
    (folder / "study.yaml").write_text(text)
    return Study.open(folder)


def row(serial, value, *, supplier="Alpha", lot="A1", feature="capacity_Ah", **other):
    day = other.pop("day", 5)
    known = {
        "supplier": supplier, "lot": lot, "serial": serial, "channel": "1-1",
        "protocol": "capacity_resistance", "part": "main", "seal": f"{serial}-{day}",
        "start_utc": f"2026-01-{day:02d}T06:00:00+00:00", "feature": feature, "value": value,
        "uncertainty": 0.0005, "unit": "Ah", "method": "", "steps": "3", "state": "valid",
        "source": "bench", "soc_percent": np.nan, "cycles": np.nan,
    }  # fmt: skip
    assert not set(other) - set(known)
    return known | other


def frame(rows):
    return pd.DataFrame(list(rows), columns=list(COLUMNS))


def drawn_rows(
    seed=1, means=(("Alpha", 5.15), ("Beta", 5.075)), lots=3, cells=8, sigma_lot=0.2,
    sigma_cell=0.25, bench=0.0, feature="capacity_Ah",
):  # fmt: skip
    """Return rows of normal cells in lots; sigmas in percent of the mean."""
    rng = np.random.default_rng(seed)
    rows = []
    for name, mean in means:
        for number in range(1, lots + 1):
            shift = rng.normal(0, sigma_lot)
            for cell in range(1, cells + 1):
                percent = shift + rng.normal(0, sigma_cell) + rng.normal(0, bench)
                lot = f"{name[0]}{number}"
                rows.append(row(
                    f"{lot}-{cell:03d}", mean * (1 + percent / 100), supplier=name, lot=lot,
                    feature=feature,
                ))  # fmt: skip
    return rows


def gauge_rows(seed=2, cells=6, channels=4, repeats=2, mean=5.1, sigma_cell=0.25, channel=0.05,
               repeat=0.03, feature="capacity_Ah"):  # fmt: skip
    rng = np.random.default_rng(seed)
    of_channel = rng.normal(0, channel, channels)
    rows = []
    for cell in range(cells):
        own = rng.normal(0, sigma_cell)
        for place in range(channels):
            for again in range(repeats):
                percent = own + of_channel[place] + rng.normal(0, repeat)
                rows.append(row(
                    f"A1-{cell + 1:03d}", mean * (1 + percent / 100), channel=f"1-{place + 1}",
                    part="gauge", protocol="gauge_capacity", day=7 + again, feature=feature,
                    seal=f"g{cell}-{place}-{again}",
                ))  # fmt: skip
    return rows


def scored(study, rows, **options):
    """Return a scorecard as it is written; its five lines are looked at as well."""
    data = scorecard(study, frame(rows), **options).to_dict()
    json.dumps(data, allow_nan=False)
    assert len(summary_lines(data)) == 5
    assert all(line and "\n" not in line for line in summary_lines(data))
    return data


def verdicts(data):
    """Return the verdict on each supplier."""
    return {name: item["verdict"] for name, item in data["decision"].items()}
