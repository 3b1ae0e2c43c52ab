"""What the report says, in order: the decision first, the evidence after it.

`document` turns a scorecard into a `Document`. The parts that are mostly tables are in
`tables`, the pages of charts in `charts`.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from batterylab.report import ageing, causes, judgement, system, tables
from batterylab.report.card import Card, Characteristic, mapping, pair, text, texts
from batterylab.report.charts import overview, six
from batterylab.report.model import (
    Block,
    Bullets,
    Column,
    Document,
    Facts,
    Panels,
    Paragraph,
    Section,
    Signatures,
    Table,
    Verdict,
    Verdicts,
)
from batterylab.report.words import (
    MISSING,
    counted,
    finite,
    name_of,
    number,
    probability,
)

TONES = {
    "QUALIFY": "good",
    "CONDITIONAL": "middling",
    "REJECT": "bad",
    "NOT ENOUGH DATA": "open",
}
#: most serials named one by one in a line
NAMED = 5


def document(card: Card, *, fits: Any = None, evidence: Any = None) -> Document:
    """Return the report of a scorecard.

    Parameters
    ----------
    card : Card
        From `read_card`.
    fits : iterable of Fit or dict, optional
        Fits of the study's recordings.
    evidence : batterylab.report.evidence.Evidence, optional
        What the archive says of instruments and software.
    """
    sections = [
        _decision(card),
        tables.traceability(card, evidence),
        _gates(card),
        *_capability(card),
        _comparison(card),
        system.watch(card),
        _with(
            tables.measurement(card), system.budgets(card.headline()), system.bench_effects(card)
        ),
        _with(tables.components(card), system.model(card)),
        causes.consistency(card),
        judgement.ranking_section(card),
        ageing.section(card),
        _with(tables.pack(card), causes.pack(card)),
        tables.fits(card, fits),
        _with(tables.exclusions(card), judgement.sensitivity(card)),
        _would_change(card),
        Section("Signatures", (Signatures(),)),
        tables.recordings(card),
    ]
    return Document(
        title="Supplier report",
        subtitle=_subtitle(card),
        study=card.study,
        scorecard_hash=card.code,
        generated_utc=card.generated_utc,
        software=card.software,
        sections=_numbered(section for section in sections if section is not None),
    )


def _with(section: Section | None, *more: list[Block]) -> Section | None:
    """Return a section with further blocks; None if there is none."""
    if section is None:
        return None
    return replace(section, blocks=(*section.blocks, *(b for blocks in more for b in blocks)))


def _subtitle(card: Card) -> str:
    cell = mapping(card.raw.get("cell_type"))
    parts = [text(cell, "name"), text(cell, "chemistry")]
    nominal, rated = finite(cell.get("nominal_capacity_Ah")), finite(cell.get("rated_capacity_Ah"))
    if nominal is not None:
        parts.append(f"{number(nominal)} Ah nominal")
    if rated is not None:
        parts.append(f"{number(rated)} Ah rated")
    return ", ".join(part for part in parts if part)


def _numbered(sections: Iterable[Section]) -> tuple[Section, ...]:
    """Number the tables through the whole report."""
    count = 0
    numbered: list[Section] = []
    for section in sections:
        blocks: list[Block] = []
        for block in section.blocks:
            if isinstance(block, Table):
                count += 1
                block = replace(block, caption=f"Table {count}. {block.caption}")  # noqa: PLW2901
            elif isinstance(block, Panels) and block.table is not None:
                count += 1
                table = replace(block.table, caption=f"Table {count}. {block.table.caption}")
                block = replace(block, table=table)  # noqa: PLW2901
            blocks.append(block)
        numbered.append(replace(section, blocks=tuple(blocks)))
    return tuple(numbered)


def _decision(card: Card) -> Section:
    decisions = mapping(card.raw.get("decision"))
    blocks: list[Block] = []
    items = [_verdict(card, name, mapping(decisions.get(name))) for name in card.suppliers]
    if items:
        blocks.append(Verdicts(tuple(items)))
    else:
        blocks.append(Paragraph("The scorecard names no supplier: there is nothing to decide."))
    blocks += _ranking(card)
    blocks += judgement.stakes(card)
    return Section("Decision", tuple(blocks))


def _verdict(card: Card, name: str, decision: dict[str, Any]) -> Verdict:
    word = text(decision, "verdict") or "NOT ENOUGH DATA"
    reasons = texts(decision.get("reasons")) or ("The scorecard gives no reason.",)
    rows = [one.suppliers.get(name, {}) for one in card.features.values()]
    lots = max((int(finite(row.get("lots")) or 0) for row in rows), default=0)
    cells = max((int(finite(row.get("cells")) or 0) for row in rows), default=0)
    basis = counted(cells, "cell") if cells else ""
    if lots:
        basis += f" of {counted(lots, 'lot')}"
    return Verdict(
        name, word, TONES.get(word, "open"), reasons, texts(decision.get("risks")), basis
    )


def _ranking(card: Card) -> list[Block]:
    ranking = card.ranking
    if not text(ranking, "statement") and not texts(ranking.get("order")):
        return [Paragraph("No ranking: the scorecard holds none.", "note")]
    said = text(ranking, "statement")
    chances = mapping(ranking.get("probability_best"))
    listed = ", ".join(f"{name} {probability(chances[name])}" for name in card.suppliers
                       if finite(chances.get(name)) is not None)  # fmt: skip
    rows = []
    if said:
        rows.append(("Ranking", said))
    if listed:
        feature = text(ranking, "feature")
        better = text(ranking, "better")
        on = f" ({name_of(feature)}: {better} is better)" if feature and better else ""
        rows.append(("Probability of being best", listed + on))
    return [Facts(tuple(rows))] if rows else []


def _comparison(card: Card) -> Section:
    shown = card.headline()
    blocks: list[Block] = []
    if any(finite(row.get("mean")) is not None for one in shown for row in one.suppliers.values()):
        blocks.append(overview(shown, card.suppliers))
    blocks.append(tables.means(card, shown))
    pairs = tables.comparisons(shown)
    if pairs.rows:
        blocks.append(pairs)
    else:
        blocks.append(Paragraph("No two suppliers could be compared.", "note"))
    return Section("Lots and suppliers compared", tuple(blocks))


def _gates(card: Card) -> Section:
    table = tables.gates(card)
    if not table.rows:
        said = "No acceptance rule of a standard is named in the study, or none could be judged."
        return Section("Gates by rule", (Paragraph(said, "note"), *judgement.conformity(card)))
    marks = (
        "Marks: V, figure verified against public text; D, from notices about a draft; "
        "U, unverified. A gate passes or fails the sample at hand; it cannot rank suppliers."
    )
    return Section("Gates by rule", (table, Paragraph(marks, "note"), *judgement.conformity(card)))


def _capability(card: Card) -> list[Section]:
    shown = card.headline()
    sections = [
        Section(f"Capability: {one.label}", (_panels(card, one),), new_page=True) for one in shown
    ]
    rest = [one for one in card.features.values() if one not in shown]
    if rest:
        sections.append(Section("Other characteristics", (tables.others(card, rest),)))
    return sections


def _panels(card: Card, one: Characteristic) -> Panels:
    return Panels(
        places=six(one, card.suppliers),
        remarks=tuple(_remarks(one)),
        table=capability_table(card, one),
        notes=tuple(_outside(card, one)),
    )


def _remarks(one: Characteristic) -> list[str]:
    unit = f" {one.unit}" if one.unit else ""
    if one.limits:
        ends = f"{number(one.lower)} to {number(one.upper)}{unit}"
        if one.lower is None:
            ends = f"at most {number(one.upper)}{unit}"
        elif one.upper is None:
            ends = f"at least {number(one.lower)}{unit}"
        rule = f", decision rule: {one.decision_rule}" if one.decision_rule else ""
        remarks = [f"Limits: {ends}{rule}."]
    else:
        remarks = ["The study sets no limits on this characteristic."]
    if one.measurement.get("corrected") is not True:
        remarks.append("The spread includes that of the bench: it is not corrected for it.")
    remarks += _judged(one)
    return remarks


def _judged(one: Characteristic) -> list[str]:
    """Say what is beside the indices: lots made equal, skewness, tolerance, resolution."""
    said = []
    for name, row in one.suppliers.items():
        parts = []
        found = mapping(row.get("capability"))
        own = finite(mapping(found.get("within")).get("cpk"))
        if own is not None:
            parts.append(f"Cpk within lots {number(own, 2)}")
        cpm = finite(found.get("cpm"))
        if cpm is not None:
            low, high = pair(found.get("cpm_interval"))
            parts.append(f"Ppm {number(cpm, 2)} ({number(low, 2)} to {number(high, 2)})")
        skewed = mapping(found.get("percentile"))
        if skewed:
            parts.append(
                f"by percentiles of a fitted {text(skewed, 'distribution')} Ppk "
                f"{number(skewed.get('ppk'), 2)} (Anderson-Darling "
                f"{number(skewed.get('anderson_darling'), 2)}, normal "
                f"{number(skewed.get('anderson_darling_normal'), 2)})"
            )
        low, high = pair(mapping(row.get("tolerance")).get("two_sided"))
        if low is not None and high is not None:
            parts.append(f"99 % of cells, with 95 % confidence, in {number(low, one.decimals)} to "
                         f"{number(high, one.decimals)}")  # fmt: skip
        if row.get("spread_is_resolved") is False:
            parts.append("spread not resolved by the measurement")
        if parts:
            said.append(f"{name}: {'; '.join(parts)}.")
    return said


def _outside(card: Card, one: Characteristic) -> list[str]:
    """Name the cells outside the limits, and where each can be followed."""
    notes = []
    for name in card.suppliers:
        outside = tables.outside(one, name)
        if outside:
            named = ", ".join(outside[:NAMED])
            more = f" and {len(outside) - NAMED} more" if len(outside) > NAMED else ""
            notes.append(f"{name}, outside: {named}{more}.")
    return notes


def capability_table(card: Card, one: Characteristic) -> Table:
    """Return the numbers under the six charts: never a capability without interval and n."""
    columns = (
        Column("Supplier", weight=1.3),
        Column("Cells", "right", 0.5),
        Column("Mean (95 %)", "right", 2.2),
        Column("SD (95 %)", "right", 2.2),
        Column("Pp", "right", 0.6),
        Column("Ppk (95 %; n)", "right", 2.3),
        Column("Outside (upper 95 %)", "right", 1.7),
    )
    rows = tuple(_capability_row(one, name) for name in card.suppliers if name in one.suppliers)
    return Table(f"capability-{one.name}", f"Capability, {one.label}", columns, rows, small=True)


def _capability_row(one: Characteristic, name: str) -> tuple[str, ...]:
    row = one.suppliers[name]
    return (
        name,
        tables.count(row.get("cells")),
        tables.with_interval(row, "mean", one.decimals),
        tables.with_interval(row, "sd_total", one.decimals),
        *capability_cells(mapping(row.get("capability"))),
    )


def capability_cells(capability: dict[str, Any]) -> tuple[str, str, str]:
    """Return Cp, Cpk with bound and n, and the fraction outside with its bound, as text."""
    count = finite(capability.get("n"))
    cpk, lower = finite(capability.get("cpk")), finite(capability.get("cpk_lower_95"))
    if cpk is None or count is None:
        return MISSING, MISSING, MISSING
    bound = f"at least {number(lower, 2)}" if lower is not None else "no bound"
    low, high = pair(capability.get("cpk_interval"))
    if low is not None and high is not None:
        bound = f"{number(low, 2)} to {number(high, 2)}"
    outside = probability(capability.get("fraction_outside"))
    upper = probability(capability.get("fraction_outside_upper_95"))
    return (
        number(capability.get("cp"), 2),
        f"{number(cpk, 2)} ({bound}; n = {count:.0f})",
        f"{outside} ({upper})" if outside != MISSING else MISSING,
    )


def _would_change(card: Card) -> Section:
    items = texts(card.raw.get("would_change"))
    block: Block = Bullets(items) if items else Paragraph("The scorecard names nothing.", "note")
    return Section("What would change this decision", (block,))
