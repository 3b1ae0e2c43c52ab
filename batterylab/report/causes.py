"""What the spread comes from, and what it costs a pack: the tables."""

from typing import Any

from batterylab.report.card import Card, mapping, pair, records, text
from batterylab.report.model import Block, Column, Paragraph, Section, Table
from batterylab.report.words import MISSING, estimate, finite, number


def consistency(card: Card) -> Section | None:
    """Return what makes capacity and resistance differ; None without fits."""
    found = mapping(mapping(card.raw.get("consistency")).get("suppliers"))
    rows, notes = [], []
    for name in card.suppliers:
        for feature, item in mapping(found.get(name)).items():
            entry = mapping(item)
            one = card.features.get(feature)
            label = one.label if one else feature
            notes.append(f"{name}, {label}: {text(entry, 'statement')} ({text(entry, 'basis')}).")
            for row in records(entry.get("shares")):
                low, high = pair(row.get("share_percent_interval"))
                rows.append((
                    label, name, text(row, "cause"),
                    estimate(row.get("share_percent"), low, high, 0),
                    _three(row.get("sd")),
                ))  # fmt: skip
    if not rows:
        return None
    columns = (
        Column("Characteristic", weight=1.5), Column("Supplier", weight=1.0),
        Column("Cause", weight=1.6), Column("Share of the variance, % (95 %)", "right", 2.0),
        Column("Spread it makes (SD)", "right", 1.1),
    )  # fmt: skip
    said = "What the spread between cells of a lot comes from"
    note = (
        "Shares add up to 100 %; below zero stands what varies against the other causes. Causes "
        "are fitted parameters times what they do to the characteristic."
    )
    return Section("Causes of the spread", (
        Table("causes", said, columns, tuple(rows), small=True, grouped=True),
        Paragraph(note, "note"), *(Paragraph(line, "note") for line in notes),
    ))  # fmt: skip


def _three(value: Any) -> str:
    found = finite(value)
    return MISSING if found is None else number(float(f"{found:.2g}"))


def pack(card: Card) -> list[Block]:
    """Return energy, power and imbalance of packs by the way they are built."""
    found = mapping(mapping(card.raw.get("pack")).get("suppliers"))
    rows, stock = [], []
    for name in card.suppliers:
        simulated = mapping(mapping(found.get(name)).get("simulated"))
        for way, item in mapping(simulated.get("ways")).items():
            rows.append((name, way, *_figures(mapping(item))))
        for rate, item in mapping(simulated.get("production")).items():
            one = mapping(item)
            stock.append((name, rate, number(one.get("left_over_percent"), 2),
                          number(one.get("rejected_percent"), 2), *_figures(one)))  # fmt: skip
    if not rows:
        return []
    shared = (
        Column("Capacity, %", "right", 0.8), Column("Energy, %", "right", 0.8),
        Column("Power, %", "right", 0.8), Column("Imbalance, %", "right", 0.9),
        Column("Wh a car", "right", 0.8), Column("km a car", "right", 0.8),
    )  # fmt: skip
    return [
        Table("packs", "What packs lose against equal cells, by how they are built",
              (Column("Supplier", weight=1.0), Column("Cells", weight=1.5), *shared), tuple(rows),
              small=True, grouped=True),
        Table("production", "Sorted into classes of 0.25 % of capacity, week by week",
              (Column("Supplier", weight=1.0), Column("Production", weight=1.5),
               Column("Left over, %", "right", 0.9), Column("Never used, %", "right", 0.9),
               *shared), tuple(stock), small=True, grouped=True),
    ]  # fmt: skip


def _figures(one: dict[str, Any]) -> tuple[str, ...]:
    keys = ("capacity_percent", "energy_percent", "power_percent", "imbalance_percent")
    return (
        *(_loss(one.get(key), 2) for key in keys),
        _loss(one.get("lost_Wh_per_car"), 0), _loss(one.get("lost_km_per_car"), 2),
    )  # fmt: skip


def _loss(value: Any, decimals: int) -> str:
    found = finite(value)
    return MISSING if found is None else number(max(found, 0.0), decimals)
