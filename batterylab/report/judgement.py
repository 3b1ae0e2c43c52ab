"""What is decided between suppliers, at which stakes, and how firmly: the tables."""

from typing import Any

from batterylab.report.card import Card, mapping, pair, records, text, texts
from batterylab.report.model import Block, Column, Facts, Paragraph, Section, Table
from batterylab.report.words import MISSING, estimate, finite, name_of, number, probability


def stakes(card: Card) -> list[Block]:
    """Return the probability that each supplier conforms, and what either error costs."""
    rows = []
    for name in card.suppliers:
        one = mapping(mapping(card.raw.get("decision")).get(name))
        if finite(one.get("probability_conforms")) is None:
            continue
        loss = mapping(one.get("expected_loss"))
        money = text(loss, "currency")
        rows.append((
            name, probability(one.get("probability_conforms")),
            probability(one.get("expected_fraction_outside")),
            _money(loss.get("accept"), money), _money(loss.get("refuse"), money),
        ))  # fmt: skip
    if not rows:
        return []
    columns = (
        Column("Supplier", weight=1.2),
        Column("Probability that at most 1 % lies outside", "right", 1.6),
        Column("Share outside to be expected", "right", 1.2),
        Column("Expected loss of accepting", "right", 1.2),
        Column("Expected loss of refusing", "right", 1.2),
    )
    return [Table("stakes", "What each decision risks", columns, tuple(rows), small=True)]


def _money(value: Any, currency: str) -> str:
    found = finite(value)
    return MISSING if found is None else f"{currency} {found:,.0f}".strip()


def between(card: Card) -> list[Block]:
    """Return the verdicts between suppliers."""
    rows = []
    for row in records(card.raw.get("between")):
        one = card.features.get(text(row, "feature"))
        if one is None:
            continue
        names = {"A BETTER": f"{text(row, 'a')} BETTER", "B BETTER": f"{text(row, 'b')} BETTER"}
        verdict = text(row, "verdict")
        low, high = pair(row.get("interval_90"))
        rows.append((
            one.label, f"{text(row, 'a')} − {text(row, 'b')}", names.get(verdict, verdict),
            estimate(row.get("difference"), low, high, one.decimals),
            number(row.get("margin")), probability(row.get("probability_a_better")),
            probability(row.get("probability_equivalent")),
            _loss(row, "a"), _loss(row, "b"),
        ))  # fmt: skip
    if not rows:
        return []
    columns = (
        Column("Characteristic", weight=1.3), Column("Pair", weight=1.2),
        Column("Verdict", weight=1.1), Column("Difference (90 %)", "right", 1.9),
        Column("Margin", "right", 0.7), Column("P(first better)", "right", 0.8),
        Column("P(within margin)", "right", 0.8), Column("Loss, first", "right", 0.8),
        Column("Loss, second", "right", 0.8),
    )  # fmt: skip
    said = "Verdicts between suppliers, each at a risk of 5 %"
    note = (
        "Loss: what choosing that supplier is expected to lose a cell against the better of the "
        "two, in the characteristic's unit. "
        + " ".join(dict.fromkeys(
            f"{text(row, 'a')} and {text(row, 'b')}: {text(row, 'reason')}."
            for row in records(card.raw.get("between"))
        ))
    )  # fmt: skip
    return [Table("between", said, columns, tuple(rows), small=True), Paragraph(note, "note")]


def _loss(row: dict[str, Any], side: str) -> str:
    value = finite(row.get(f"expected_loss_{side}"))
    return MISSING if value is None else f"{value:.2g}"


def weighted(card: Card) -> list[Block]:
    """Return the weighted scores with the ranks that other weights would give."""
    found = mapping(card.ranking.get("weighted"))
    scores = mapping(found.get("scores"))
    if not scores:
        return []
    anchors = "; ".join(
        f"{name_of(text(row, 'feature'))}: weight {number(row.get('weight'), 2)}, worth 0 at "
        f"{number(row.get('worst'))}, 1 at {number(row.get('best'))}"
        for row in records(found.get("features"))
    )
    any_weights = mapping(found.get("rank_acceptability"))
    own = mapping(found.get("rank_acceptability_own_weights"))
    rows = tuple(
        (name, number(score, 3), _ranks(own.get(name)), _ranks(any_weights.get(name)))
        for name, score in scores.items()
    )
    columns = (
        Column("Supplier", weight=1.2), Column("Score", "right", 0.7),
        Column("Rank 1, 2, … with these weights", "right", 2.0),
        Column("Rank 1, 2, … over all weights", "right", 2.0),
    )  # fmt: skip
    said = "Weighted score, and the share of all that data and weights leave open at each rank"
    blocks: list[Block] = [Paragraph(f"Anchors: {anchors}.", "note"),
                           Table("weighted", said, columns, rows, small=True)]  # fmt: skip
    missing = texts(found.get("not_scored"))
    if missing:
        blocks.append(Paragraph(f"Without a score, a value is missing: {', '.join(missing)}.",
                                "note"))  # fmt: skip
    return blocks


def _ranks(shares: Any) -> str:
    known = [finite(share) for share in shares] if isinstance(shares, list) else []
    return ", ".join(f"{100 * share:.0f} %" for share in known if share is not None) or MISSING


def conformity(card: Card) -> list[Block]:
    """Return both parties' risks of each limit's decision rule."""
    rows = []
    for one in card.features.values():
        for name in card.suppliers:
            found = mapping(one.suppliers.get(name, {}).get("conformity"))
            if not found:
                continue
            ends = [number(found.get(key)) for key in ("accept_lower", "accept_upper")
                    if finite(found.get(key)) is not None]  # fmt: skip
            shown = " to ".join(ends)
            if len(ends) == 1:
                least = finite(found.get("accept_lower")) is not None
                shown = f"{'at least' if least else 'at most'} {ends[0]}"
            rows.append((
                one.label, name, one.decision_rule, shown,
                number(found.get("standard_uncertainty")), _share(found.get("consumer_risk")),
                _share(found.get("producer_risk")), _share(found.get("accepted_on_the_limit")),
            ))  # fmt: skip
    if not rows:
        return []
    columns = (
        Column("Characteristic", weight=1.5), Column("Supplier", weight=0.9),
        Column("Rule", weight=1.2), Column("Accepted values", "right", 1.2),
        Column("Standard uncertainty", "right", 0.9), Column("Consumer’s risk", "right", 0.9),
        Column("Producer’s risk", "right", 0.9), Column("A cell on the limit is accepted", "right"),
    )  # fmt: skip
    said = "Decision rules and both parties’ risks (JCGM 106)"
    note = (
        "Consumer’s risk: share of all cells that are accepted though they lie outside; "
        "producer’s risk: not accepted though inside. True values as normal with the supplier’s "
        "mean and spread."
    )
    return [Table("conformity", said, columns, tuple(rows), small=True, grouped=True),
            Paragraph(note, "note")]  # fmt: skip


def _share(value: Any) -> str:
    found = finite(value)
    if found is None:
        return MISSING
    return "< 0.001 %" if found < 1e-5 else f"{100 * found:.2g} %"


def sensitivity(card: Card) -> list[Block]:
    """Return the decisions with what was left out, and without what is odd."""
    rows = []
    for row in records(card.raw.get("sensitivity")):
        verdicts = mapping(row.get("verdicts"))
        changed = texts(row.get("changed"))
        rows.append((
            text(row, "case"),
            "; ".join(f"{name} {verdicts[name]}" for name in card.suppliers if name in verdicts),
            ", ".join(changed) if changed else "none",
        ))  # fmt: skip
    away = records(card.raw.get("out_of_temperature"))
    blocks: list[Block] = []
    if rows:
        columns = (Column("Case", weight=2.0), Column("Decision", weight=3.0),
                   Column("Changed", weight=1.0))  # fmt: skip
        blocks.append(Table("sensitivity", "The decision in other cases", columns, tuple(rows),
                            small=True))  # fmt: skip
    if away:
        listed = Facts(tuple(
            (f"{text(row, 'serial')} ({text(row, 'seal')[:8]})",
             f"{number(row.get('temperature_degC'), 1)} °C, "
             f"{'counts' if row.get('counts') is True else 'does not count'}")
            for row in away
        ))  # fmt: skip
        blocks += [Paragraph("Tests at another temperature than the study asks for:"), listed]
    return blocks


def ranking_section(card: Card) -> Section | None:
    """Return verdicts between suppliers and the weighted score."""
    blocks = [*between(card), *weighted(card)]
    return Section("Between suppliers, and the ranking", tuple(blocks)) if blocks else None
