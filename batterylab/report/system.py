"""The measurement system beyond the gauge study, and the watch on lots: the tables."""

from typing import Any

from batterylab.report.card import Card, Characteristic, mapping, pair, records, text, texts
from batterylab.report.model import Block, Column, Paragraph, Section, Table
from batterylab.report.words import MISSING, estimate, finite, number


def _two(value: Any) -> str:
    found = finite(value)
    return MISSING if found is None else number(float(f"{found:.3g}"))


def budgets(shown: list[Characteristic]) -> list[Block]:
    """Return the uncertainty budget of each characteristic shown."""
    rows = []
    for one in shown:
        found = mapping(one.measurement.get("budget"))
        for row in records(found.get("contributions")):
            rows.append((
                one.label, text(row, "name"), text(row, "type"),
                _two(row.get("standard_uncertainty")), number(row.get("degrees_of_freedom"), 0),
                "yes" if row.get("counts") is True else "within the larger",
                text(row, "source"),
            ))  # fmt: skip
        if found:
            factor, wide = number(found.get("coverage_factor"), 2), _two(
                found.get("expanded_uncertainty"))  # fmt: skip
            rows.append((one.label, "combined", "", _two(found.get("standard_uncertainty")),
                         number(found.get("degrees_of_freedom"), 0), "",
                         f"expanded {wide} (k = {factor}, 95 %)"))  # fmt: skip
    if not rows:
        return []
    columns = (
        Column("Characteristic", weight=1.4), Column("Contribution", weight=1.3),
        Column("Type", weight=0.4), Column("Standard uncertainty", "right", 1.0),
        Column("df", "right", 0.6), Column("Counts", weight=0.9), Column("Source", weight=2.4),
    )  # fmt: skip
    return [Table("budgets", "Uncertainty budgets of one value (GUM)", columns, tuple(rows),
                  small=True, grouped=True)]  # fmt: skip


def bench_effects(card: Card) -> list[Block]:
    """Return what trend, channels, positions and references show."""
    notes = []
    for one in card.features.values():
        notes += [f"{one.label}: {said}" for said in _effects(one)]
    notes += _references(card)
    return [Paragraph(note + ".", "note") for note in notes]


def _effects(one: Characteristic) -> list[str]:
    found, said = one.measurement, []
    trend = mapping(found.get("trend"))
    if trend.get("taken_out") is True:
        low, high = (_two(end) for end in pair(trend.get("interval")))
        said.append(f"cycling changes it by {_two(trend.get('per_test'))} a test "
                    f"({low} to {high}); taken out of the gauge study")  # fmt: skip
    places = mapping(found.get("positions"))
    if places.get("are_real") is True:
        effects = mapping(places.get("effects"))
        said.append("positions differ (p = " + number(places.get("p_value"), 3) + "): " + ", ".join(
            f"{name} {_two(mapping(item).get('effect'))}" for name, item in effects.items()
        ))  # fmt: skip
    if mapping(found.get("channel_corrections")):
        count = len(mapping(found.get("channel_corrections")))
        said.append(f"values are corrected for the effects of {count} channels")
    return said


def _references(card: Card) -> list[str]:
    said = []
    for one in card.features.values():
        for row in records(mapping(one.measurement.get("references")).get("parts")):
            low, high = (_two(end) for end in pair(row.get("bias_interval")))
            bias = _two(row.get("bias"))
            text_ = f"{one.label}, reference {text(row, 'serial')}: bias {bias} ({low} to {high})"
            drift = mapping(row.get("drift_per_day"))
            if drift:
                real = "real" if drift.get("is_real") is True else "not shown"
                text_ += f"; drift {_two(drift.get('slope'))} a day, {real}"
            said.append(text_)
    return said


def model(card: Card) -> list[Block]:
    """Return the variances of the one model of each characteristic."""
    rows = []
    for one in card.features.values():
        found = mapping(one.components)
        for name, item in mapping(found.get("parts")).items():
            part = mapping(item)
            low, high = pair(part.get("sd_interval"))
            spread = estimate(_rounded(part.get("sd")), _rounded(low), _rounded(high))
            rows.append((
                one.label, name, "zero" if part.get("is_zero") is True else spread,
                number(part.get("share_percent"), 1), _p(part.get("p_value")),
            ))  # fmt: skip
    if not rows:
        return []
    columns = (
        Column("Characteristic", weight=1.6), Column("Between", weight=1.2),
        Column("SD (95 %, profile)", "right", 2.2), Column("% of variance", "right", 0.9),
        Column("p-value", "right", 0.8),
    )  # fmt: skip
    said = "One model over all suppliers: lot, cell, channel and repeat (REML)"
    return [Table("model", said, columns, tuple(rows), small=True, grouped=True)]


def _rounded(value: Any) -> float | None:
    found = finite(value)
    return None if found is None else float(f"{found:.3g}")


def _p(value: Any) -> str:
    found = finite(value)
    if found is None:
        return MISSING
    return "< 0.001" if found < 0.001 else f"{found:.3f}"


def watch(card: Card) -> Section | None:
    """Return the signals and changes of the watch on lots; None without lots enough."""
    found = mapping(card.raw.get("watch"))
    rows = []
    for feature, suppliers in mapping(found.get("features")).items():
        one = card.features.get(feature)
        for name, item in mapping(suppliers).items():
            entry = mapping(item)
            signals = mapping(entry.get("signals"))
            change = mapping(entry.get("change"))
            shift = MISSING
            if change:
                low, high = pair(change.get("shift_interval"))
                ends = " to ".join(texts(change.get("between_lots")))
                by = estimate(_rounded(change.get("shift")), _rounded(low), _rounded(high))
                shift = f"from {text(change, 'from_lot')} ({ends}) by {by}"
            rows.append((
                one.label if one else feature, name, str(len(texts(entry.get("lots")))),
                *(", ".join(texts(signals.get(key))) or "none"
                  for key in ("shewhart", "ewma", "cusum")), shift,
            ))  # fmt: skip
    if not rows:
        return None
    columns = (
        Column("Characteristic", weight=1.4), Column("Supplier", weight=0.9),
        Column("Lots", "right", 0.4), Column("Shewhart", weight=1.0), Column("EWMA", weight=1.0),
        Column("CUSUM", weight=1.0), Column("Change", weight=2.2),
    )  # fmt: skip
    blocks: list[Block] = [Table("watch", "Signals of the control charts of lots", columns,
                                 tuple(rows), small=True, grouped=True)]  # fmt: skip
    for name, item in mapping(found.get("together")).items():
        entry = mapping(item)
        odd = ", ".join(texts(entry.get("signals"))) or "none"
        blocks.append(Paragraph(
            f"{name}, {', '.join(texts(entry.get('features')))} together (Hotelling’s T², robust "
            f"centre): lots beyond the limit {number(entry.get('limit'), 1)}: {odd}.", "note",
        ))  # fmt: skip
    blocks.append(Paragraph(_run_lengths(mapping(found.get("run_lengths"))), "note"))
    return Section("Control charts of lots", tuple(blocks))


def _run_lengths(found: dict[str, Any]) -> str:
    rows = "; ".join(
        f"{name} " + " / ".join(number(value, 1) for value in mapping(item).values())
        for name, item in found.items()
    )
    return (
        f"Mean lots to a signal at a shift of 0 / 0.5 / 1 / 2 sigmas of the lot means: {rows}. "
        "Limits of fewer than 20 lots are provisional."
    )
