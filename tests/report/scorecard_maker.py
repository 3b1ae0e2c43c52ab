"""A made-up scorecard that is true to the schema, for the tests of the report."""

import hashlib
import math
import random
import statistics
from typing import Any

HOSTILE = (
    "#import \"@preview/x:1\" *bold* $x$ <script>alert('x')</script> =cmd()|'/C calc'!A0 "
    "&amp; \\ ` @ref [b] {c} // /* \x00\x07\u202e \"quoted\""
)


def _interval(mean: float, half: float) -> list[float]:
    return [mean - half, mean + half]


def _statistics(values: dict[str, list[float]]) -> dict[str, Any]:
    pooled = [v for lot in values.values() for v in lot]
    mean, sd = statistics.fmean(pooled), statistics.stdev(pooled)
    means = [statistics.fmean(lot) for lot in values.values()]
    between = statistics.stdev(means) if len(means) > 1 else None
    return {
        "lots": len(values), "cells": len(pooled),
        "mean": mean, "mean_interval": _interval(mean, 2.2 * sd / math.sqrt(len(pooled))),
        "sd_total": sd, "sd_total_interval": [0.75 * sd, 1.6 * sd],
        "sd_cell": 0.8 * sd, "sd_cell_interval": [0.6 * sd, 1.2 * sd],
        "sd_lot": between, "sd_lot_interval": [0.0, 6 * between] if between else None,
        "cv_percent": 100 * sd / mean, "cv_percent_interval": [75 * sd / mean, 160 * sd / mean],
        "minimum": min(pooled), "maximum": max(pooled),
        "lot": {
            name: {
                "cells": len(lot), "mean": statistics.fmean(lot),
                "mean_interval": _interval(statistics.fmean(lot), sd),
                "sd": statistics.stdev(lot),
                "sd_interval": [0.6 * statistics.stdev(lot), 2.0 * statistics.stdev(lot)],
            }
            for name, lot in values.items()
        },
    }  # fmt: skip


def _capability(stats: dict[str, Any], lower: float | None, upper: float | None) -> dict[str, Any]:
    sides = []
    if lower is not None:
        sides.append((stats["mean"] - lower) / (3 * stats["sd_total"]))
    if upper is not None:
        sides.append((upper - stats["mean"]) / (3 * stats["sd_total"]))
    cpk = min(sides)
    both = lower is not None and upper is not None
    return {
        "cp": (upper - lower) / (6 * stats["sd_total"]) if both else None,
        "cpk": cpk, "cpk_lower_95": 0.72 * cpk, "n": stats["cells"],
        "fraction_outside": 0.5 * math.erfc(3 * cpk / math.sqrt(2)),
        "fraction_outside_upper_95": 0.5 * math.erfc(2.1 * cpk / math.sqrt(2)),
    }  # fmt: skip


FEATURES: dict[str, tuple[str, float, float, float | None, float | None]] = {
    # name: unit, mean, relative spread, lower, upper
    "capacity_Ah": ("Ah", 5.02, 0.003, 4.95, 5.45),
    "dcir_10s_mOhm": ("mOhm", 31.0, 0.012, None, 45.0),
    "ac_resistance_mOhm": ("mOhm", 12.4, 0.015, None, None),
    "energy_Wh": ("Wh", 18.4, 0.004, None, None),
    "energy_efficiency_percent": ("percent", 95.1, 0.001, None, None),
    "dcir_1s_mOhm": ("mOhm", 24.0, 0.012, None, None),
    "ocv_V": ("V", 3.61, 0.0004, None, None),
    "temperature_rise_K": ("K", 2.3, 0.05, None, None),
}


People = dict[str, dict[str, list[str]]]


def _recordings(people: People) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cells = [(supplier, lot, serial) for supplier, by_lot in people.items()
             for lot, serials in by_lot.items() for serial in serials]  # fmt: skip
    for supplier, lot, serial in cells:
        for protocol in ("incoming_inspection", "capacity_resistance"):
            number = len(rows)
            rows.append({
                "seal": hashlib.sha256(f"{serial}{protocol}".encode()).hexdigest(),
                "serial": serial, "supplier": supplier, "lot": lot,
                "channel": f"{1 + number // 64}-{1 + number // 2 % 32}", "protocol": protocol,
                "start_utc": f"2026-01-{5 + number % 3:02d}T{number % 24:02d}:00:00+00:00",
                "state": "valid",
            })  # fmt: skip
    return rows


def _measurement(known: bool) -> dict[str, Any]:
    found = {
        "corrected": True, "method": "gauge study", "repeatability_sd": 0.0021,
        "reproducibility_sd": 0.0034, "gauge_sd": 0.0040, "gauge_interval": [0.0028, 0.0081],
        "grr_percent": 24.3, "grr_percent_interval": [15.1, 52.0], "categories": 5.6, "cells": 6,
        "channels": 4, "repeats": 2, "note": "",
    }  # fmt: skip
    nothing = {**dict.fromkeys(found), "corrected": False, "method": "none", "note": ""}
    return found if known else nothing


def _comparisons(stats: dict[str, Any], mean: float) -> list[dict[str, Any]]:
    names = list(stats)
    return [
        {
            "a": a, "b": b, "difference": stats[a]["mean"] - stats[b]["mean"],
            "interval": _interval(stats[a]["mean"] - stats[b]["mean"], 0.006 * mean),
            "probability_a_higher": 0.9991, "p_value": 0.0004, "degrees_of_freedom": 3.8,
            "sigma_ratio": 0.93, "sigma_ratio_interval": [0.6, 1.44],
        }
        for i, a in enumerate(names) for b in names[i + 1:]
    ]  # fmt: skip


def _feature(
    name: str, people: People, seals: dict[str, str], noise: random.Random
) -> dict[str, Any]:
    unit, mean, spread, lower, upper = FEATURES[name]
    limited = lower is not None or upper is not None
    stats: dict[str, Any] = {}
    values: list[dict[str, Any]] = []
    for place, (supplier, by_lot) in enumerate(people.items()):
        shift = mean * (1 + 0.012 * (0.5 - place))
        drawn: dict[str, list[float]] = {}
        for lot, serials in by_lot.items():
            centre = shift * (1 + noise.gauss(0, 0.7 * spread))
            drawn[lot] = [centre * (1 + noise.gauss(0, spread)) for _ in serials]
            values += [
                {"serial": serial, "supplier": supplier, "lot": lot, "channel": "1-1",
                 "value": value, "uncertainty": abs(mean) * 4e-4, "seal": seals[serial]}
                for serial, value in zip(serials, drawn[lot], strict=True)
            ]  # fmt: skip
        stats[supplier] = _statistics(drawn)
        stats[supplier]["capability"] = (
            _capability(stats[supplier], lower, upper) if limited else None
        )
        stats[supplier]["outside"] = [
            {"serial": v["serial"], "value": v["value"], "side": "below", "rule": "simple"}
            for v in values
            if v["supplier"] == supplier and lower is not None and v["value"] < lower
        ]
    limits = {"lower": lower, "upper": upper, "decision_rule": "simple"}
    return {
        "unit": unit,
        "limits": limits if limited else None,
        "measurement": _measurement(name == "capacity_Ah"),
        "suppliers": stats,
        "comparisons": _comparisons(stats, mean),
        "values": values,
    }


def _rules(suppliers: tuple[str, ...]) -> list[dict[str, Any]]:
    rows = (
        ("5.4", "V", "initial capacity not less than rated", 4.99, 4.95, True),
        ("5.4", "V", "largest minus smallest capacity at most 5 % of the mean", 1.3, 5.0, True),
        ("5.9", "D", "energy efficiency at high temperature", None, None, None),
    )
    return [
        {"rule": "gbt_31486_2024", "clause": clause, "supplier": name, "mark": mark,
         "requirement": requirement, "value": value, "limit": limit,
         "met": False if place and met and value == 4.99 else met}
        for place, name in enumerate(suppliers)
        for clause, mark, requirement, value, limit, met in rows
    ]  # fmt: skip


def _ranking(suppliers: tuple[str, ...]) -> dict[str, Any]:
    rest = 0.003 / max(1, len(suppliers) - 1)
    return {
        "feature": "capacity_Ah", "better": "higher", "order": list(suppliers),
        "probability_best": {
            name: 0.997 if place == 0 else rest for place, name in enumerate(suppliers)
        },
        "statement": f"{suppliers[0]} has the higher mean capacity with probability 99.7 %.",
    }  # fmt: skip


def _decision(place: int) -> dict[str, Any]:
    return {
        "verdict": ("QUALIFY", "CONDITIONAL", "REJECT", "NOT ENOUGH DATA")[place % 4],
        "reasons": [
            "All 24 cells lie inside the limits on capacity and resistance.",
            "Lower 95 % bound of Cpk for capacity is 1.43 (n = 24, 3 lots).",
        ],
        "risks": [
            "Three lots only: the spread between lots is known to a factor of six.",
            "If the decision is wrong, a 96s1p pack loses 0.9 % of its capacity.",
        ],
    }


def make_scorecard(
    suppliers: tuple[str, ...] = ("Alpha", "Beta"),
    lots: int = 3,
    cells: int = 8,
    recordings: int | None = None,
    seed: int = 7,
) -> dict[str, Any]:
    """Return a scorecard as `batterylab.suppliers.scorecard(...).to_dict()` makes it."""
    noise = random.Random(seed)
    people = {
        name: {f"{name[:1]}{lot}": [f"{name[:1]}{lot}-{n:03d}" for n in range(1, cells + 1)]
               for lot in range(1, lots + 1)}
        for name in suppliers
    }  # fmt: skip
    rows = _recordings(people)
    seals = {row["serial"]: row["seal"] for row in rows}
    if recordings is not None:
        rows = [
            {**rows[n % len(rows)], "seal": hashlib.sha256(str(n).encode()).hexdigest()}
            for n in range(recordings)
        ]
    loss = {"cv_percent": 0.34, "loss_percent": 0.85, "loss_percent_interval": [0.66, 1.2]}
    return {
        "schema": "batterylab.scorecard/1", "study": "pouch-5Ah-2026Q4",
        "cell_type": {"name": "P5000", "nominal_capacity_Ah": 5.0, "rated_capacity_Ah": 4.95,
                      "chemistry": "NMC"},
        "generated_utc": "2026-02-03T10:11:12+00:00", "software": "batterylab 0.1.0",
        "which_recording": "last valid", "seed": 20260105,
        "features": {name: _feature(name, people, seals, noise) for name in FEATURES},
        "rules": _rules(suppliers),
        "ranking": _ranking(suppliers),
        "decision": {name: _decision(place) for place, name in enumerate(suppliers)},
        "pack": {"series": 96, "parallel": 1, "suppliers": dict.fromkeys(suppliers, loss)},
        "exclusions": [
            {"seal": rows[0]["seal"], "serial": "A1-001", "feature": "capacity_Ah",
             "state": "invalid", "reason": "out of temperature: chamber door open"},
        ],
        "recordings": rows,
        "would_change": [
            "Two more lots with a mean capacity below 4.97 Ah would make Alpha CONDITIONAL.",
            "A bench standard deviation above 0.008 Ah would make the capability unproven.",
        ],
    }  # fmt: skip


def emptied(value: Any, keep: tuple[str, ...] = ("schema",)) -> Any:
    """Return the same shape with every number and every leaf null."""
    if isinstance(value, dict):
        return {k: v if k in keep else emptied(v, keep) for k, v in value.items()}
    if isinstance(value, list):
        return [emptied(item, keep) for item in value]
    return None


def poisoned(value: Any, keep: tuple[str, ...] = ("schema", "generated_utc")) -> Any:
    """Return the same shape with hostile text in place of every text, also of names."""
    if isinstance(value, dict):
        return {
            k if k in KEYS else f"{k} {HOSTILE}": v if k in keep else poisoned(v, keep)
            for k, v in value.items()
        }
    if isinstance(value, list):
        return [poisoned(item, keep) for item in value]
    return f"{value} {HOSTILE}" if isinstance(value, str) else value


SCHEMA_WORDS = """
schema study cell_type name nominal_capacity_Ah rated_capacity_Ah chemistry generated_utc software
which_recording seed features unit limits lower upper decision_rule measurement corrected method
repeatability_sd reproducibility_sd gauge_sd gauge_interval grr_percent grr_percent_interval
categories cells channels repeats note suppliers lots mean mean_interval sd_total
sd_total_interval sd_cell sd_cell_interval sd_lot sd_lot_interval cv_percent cv_percent_interval
minimum maximum capability cp cpk cpk_lower_95 n fraction_outside fraction_outside_upper_95
outside serial value side rule lot sd sd_interval comparisons a b difference interval
probability_a_higher p_value degrees_of_freedom sigma_ratio sigma_ratio_interval values supplier
channel uncertainty seal rules clause requirement limit met mark ranking feature better order
probability_best statement decision verdict reasons risks pack series parallel loss_percent
loss_percent_interval exclusions state reason recordings protocol start_utc would_change
"""
KEYS = frozenset(SCHEMA_WORDS.split())
