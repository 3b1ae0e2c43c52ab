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
    rows = []
    for supplier, by_lot in people.items():
        for lot, serials in by_lot.items():
            for serial in serials:
                for protocol in ("incoming_inspection", "capacity_resistance"):
                    number = len(rows)
                    rows.append({
                        "seal": hashlib.sha256(f"{serial}{protocol}".encode()).hexdigest(),
                        "serial": serial, "supplier": supplier, "lot": lot,
                        "channel": f"{1 + number // 64}-{1 + number // 2 % 32}",
                        "protocol": protocol,
                        "start_utc": f"2026-01-{5 + number % 3:02d}T{number % 24:02d}:00:00+00:00",
                        "state": "valid",
                    })  # fmt: skip
    if recordings is not None:
        rows = [
            {**rows[n % len(rows)], "seal": hashlib.sha256(str(n).encode()).hexdigest()}
            for n in range(recordings)
        ]
    seals = {(row["serial"], row["protocol"]): row["seal"] for row in rows}
    features = {}
    for name, (unit, mean, spread, lower, upper) in FEATURES.items():
        stats, values = {}, []
        for place, (supplier, by_lot) in enumerate(people.items()):
            shift = mean * (1 + 0.012 * (0.5 - place))
            drawn = {}
            for lot, serials in by_lot.items():
                centre = shift * (1 + noise.gauss(0, 0.7 * spread))
                drawn[lot] = [centre * (1 + noise.gauss(0, spread)) for _ in serials]
                for serial, value in zip(serials, drawn[lot], strict=True):
                    values.append({
                        "serial": serial, "supplier": supplier, "lot": lot, "channel": "1-1",
                        "value": value, "uncertainty": abs(mean) * 4e-4,
                        "seal": seals.get((serial, "capacity_resistance"), "0" * 64),
                    })  # fmt: skip
            one = _statistics(drawn)
            limited = lower is not None or upper is not None
            one["capability"] = _capability(one, lower, upper) if limited else None
            outside = [v for v in values if v["supplier"] == supplier and lower is not None
                       and v["value"] < lower]  # fmt: skip
            one["outside"] = [
                {"serial": v["serial"], "value": v["value"], "side": "below", "rule": "simple"}
                for v in outside
            ]
            stats[supplier] = one
        names = list(people)
        features[name] = {
            "unit": unit,
            "limits": {"lower": lower, "upper": upper, "decision_rule": "simple"}
            if lower is not None or upper is not None else None,
            "measurement": {
                "corrected": name == "capacity_Ah",
                "method": "gauge study" if name == "capacity_Ah" else "none",
                "repeatability_sd": 0.0021 if name == "capacity_Ah" else None,
                "reproducibility_sd": 0.0034 if name == "capacity_Ah" else None,
                "gauge_sd": 0.0040 if name == "capacity_Ah" else None,
                "gauge_interval": [0.0028, 0.0081] if name == "capacity_Ah" else None,
                "grr_percent": 24.3 if name == "capacity_Ah" else None,
                "grr_percent_interval": [15.1, 52.0] if name == "capacity_Ah" else None,
                "categories": 5.6 if name == "capacity_Ah" else None,
                "cells": 6 if name == "capacity_Ah" else None,
                "channels": 4 if name == "capacity_Ah" else None,
                "repeats": 2 if name == "capacity_Ah" else None, "note": "",
            },
            "suppliers": stats,
            "comparisons": [
                {
                    "a": a, "b": b, "difference": stats[a]["mean"] - stats[b]["mean"],
                    "interval": _interval(stats[a]["mean"] - stats[b]["mean"], 0.006 * mean),
                    "probability_a_higher": 0.9991, "p_value": 0.0004, "degrees_of_freedom": 3.8,
                    "sigma_ratio": 0.93, "sigma_ratio_interval": [0.6, 1.44],
                }
                for i, a in enumerate(names) for b in names[i + 1:]
            ],
            "values": values,
        }  # fmt: skip
    return {
        "schema": "batterylab.scorecard/1", "study": "pouch-5Ah-2026Q4",
        "cell_type": {"name": "P5000", "nominal_capacity_Ah": 5.0, "rated_capacity_Ah": 4.95,
                      "chemistry": "NMC"},
        "generated_utc": "2026-02-03T10:11:12+00:00", "software": "batterylab 0.1.0",
        "which_recording": "last valid", "seed": 20260105,
        "features": features,
        "rules": [
            rule
            for place, name in enumerate(suppliers)
            for rule in (
                {"rule": "gbt_31486_2024", "clause": "5.4", "supplier": name, "mark": "V",
                 "requirement": "initial capacity not less than rated", "value": 4.99,
                 "limit": 4.95, "met": place == 0},
                {"rule": "gbt_31486_2024", "clause": "5.4", "supplier": name, "mark": "V",
                 "requirement": "largest minus smallest capacity at most 5 % of the mean",
                 "value": 1.3, "limit": 5.0, "met": True},
                {"rule": "gbt_31486_2024", "clause": "5.9", "supplier": name, "mark": "D",
                 "requirement": "energy efficiency at high temperature", "value": None,
                 "limit": None, "met": None},
            )
        ],
        "ranking": {
            "feature": "capacity_Ah", "better": "higher", "order": list(suppliers),
            "probability_best": {
                name: 0.997 if place == 0 else 0.003 / max(1, len(suppliers) - 1)
                for place, name in enumerate(suppliers)
            },
            "statement": f"{suppliers[0]} has the higher mean capacity with probability 99.7 %.",
        },
        "decision": {
            name: {
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
            for place, name in enumerate(suppliers)
        },
        "pack": {
            "series": 96, "parallel": 1,
            "suppliers": {name: {"cv_percent": 0.34, "loss_percent": 0.85,
                                 "loss_percent_interval": [0.66, 1.2]} for name in suppliers},
        },
        "exclusions": [
            {"seal": rows[0]["seal"] if rows else "", "serial": "A1-001", "feature": "capacity_Ah",
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
