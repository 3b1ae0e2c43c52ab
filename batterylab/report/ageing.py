"""How the cells age, apart from how they are when fresh: one chart and two tables."""

from collections.abc import Sequence
from typing import Any

from batterylab.report.card import Card, mapping, pair, records, sequence, text, texts
from batterylab.report.drawing import HAIR, LIMIT, axes, colour, figure, style, svg_of
from batterylab.report.model import Block, Column, Figure, Paragraph, Section, Table
from batterylab.report.words import MISSING, counted, estimate, finite, number, short

#: most cells of one supplier that are drawn, and listed
LINES = 30
WIDTH_MM, HEIGHT_MM = 174.0, 62.0


def section(card: Card) -> Section | None:
    """Return what is known of ageing; None where no cell was followed while it aged."""
    found = mapping(card.raw.get("ageing"))
    suppliers = mapping(found.get("suppliers"))
    names = [name for name in card.suppliers if name in suppliers]
    if not names:
        return None
    cells = records(found.get("cells"))
    axis = text(found, "axis") or "cycles"
    blocks: list[Block] = [
        Paragraph(
            "Ageing is held apart from the fresh cells and from the decision: a first capacity "
            "hardly predicts life."
        ),
        _chart(cells, names, axis),
        _table(found, suppliers, names, axis),
    ]
    blocks += [Paragraph(f"{name}: {line}", "note") for name in names
               for line in _lines(mapping(suppliers[name]), axis)]  # fmt: skip
    blocks += [Paragraph(f"{text(row, 'statement')}.", "note")
               for row in records(found.get("compared"))]  # fmt: skip
    blocks += _cells(cells, names, axis)
    left_out = texts(found.get("left_out"))
    if left_out:
        blocks.append(Paragraph(f"Not on this axis and left out: {', '.join(left_out)}.", "note"))
    return Section("Ageing", tuple(blocks))


def _chart(cells: Sequence[dict[str, Any]], names: Sequence[str], axis: str) -> Figure:
    with style("ageing"):
        drawing = figure(WIDTH_MM, HEIGHT_MM)
        ax = axes(drawing, 12.5, 10.5, 3.0, 4.0)
        for place, name in enumerate(names):
            for number_, cell in enumerate(_some(cells, name)):
                ages = [finite(value) for value in sequence(cell.get("ages"))]
                values = [finite(value) for value in sequence(cell.get("capacities"))]
                points = [(a, v) for a, v in zip(ages, values, strict=False)
                          if a is not None and v is not None]  # fmt: skip
                if not points or not points[0][1]:
                    continue
                ax.plot([a for a, _ in points], [100.0 * v / points[0][1] for _, v in points], "-",
                        color=colour(place), linewidth=0.7,
                        label="\u200a" + short(name) if not number_ else None)  # fmt: skip
        ax.axhline(80.0, color=LIMIT, linewidth=0.8, linestyle=(0, (4, 2)))
        ax.set_xlim(left=0.0)
        ax.set_xlabel(axis)
        ax.set_ylabel("% of the first capacity")
        ax.grid(axis="y", color=HAIR, linewidth=0.4)
        ax.legend(loc="lower left", frameon=False, fontsize=7)
        svg = svg_of(drawing)
    said = "Capacity of each cell as a share of its first; the dashed line is the end of life"
    return Figure("ageing", said, f"{said}. {counted(len(cells), 'cell')}.", svg, WIDTH_MM)


def _some(cells: Sequence[dict[str, Any]], supplier: str) -> list[dict[str, Any]]:
    """Return the cells of a supplier, evenly thinned where they are many."""
    mine = [cell for cell in cells if text(cell, "supplier") == supplier]
    step = max(1, -(-len(mine) // LINES))
    return mine[::step]


def _table(
    found: dict[str, Any], suppliers: dict[str, Any], names: Sequence[str], axis: str
) -> Table:
    rows = []
    for name in names:
        one = mapping(suppliers[name])
        lost, weibull = mapping(one.get("lost")), mapping(one.get("weibull"))
        rows.append((
            name, number(one.get("cells"), 0), number(one.get("failed"), 0),
            estimate(lost.get("mean_percent"), *pair(lost.get("interval")), 2),
            *(_life(weibull, key) for key in ("life_50", "life_10")),
            _mean_life(mapping(one.get("mean_cell"))),
        ))  # fmt: skip
    columns = (
        Column("Supplier", weight=1.1), Column("Cells", "right", 0.5),
        Column("Below 80 %", "right", 0.6),
        Column(f"Lost after {number(found.get('common_age'))} {axis}, % (95 %)", "right", 1.6),
        Column(f"Half of the cells reach, {axis} (95 %)", "right", 1.6),
        Column(f"Nine tenths reach, {axis} (95 %)", "right", 1.6),
        Column(f"Mean cell at 80 %, {axis} (95 %)", "right", 1.7),
    )  # fmt: skip
    return Table("ageing", "Fade, and life to 80 % of the first capacity", columns, tuple(rows),
                 small=True)  # fmt: skip


def _life(weibull: dict[str, Any], key: str) -> str:
    return estimate(weibull.get(key), *pair(weibull.get(f"{key}_interval"))) if weibull else MISSING


def _mean_life(mean: dict[str, Any]) -> str:
    if finite(mean.get("life")) is None:
        return MISSING
    low, high = pair(mean.get("life_interval"))
    ends = [number(end) if end is not None else "not reached" for end in (low, high)]
    tail = ", extrapolated" if mean.get("is_extrapolated") is True else ""
    return f"{number(mean.get('life'))} ({ends[0]} to {ends[1]}){tail}"


def _lines(one: dict[str, Any], axis: str) -> list[str]:
    """Say what a supplier's figures rest on."""
    lost, mean, knees = (mapping(one.get(key)) for key in ("lost", "mean_cell", "knees"))
    basis = text(lost, "basis")
    said = [f"{text(one, 'statement')}." + (f" Capacity lost: from {basis}." if basis else "")]
    if mean:
        said.append(
            f"mean cell, random coefficients over {number(mean.get('cells'), 0)} cells, mean over "
            f"{text(mean, 'basis')}: loses {number(mean.get('root_percent'))} % a root of {axis} "
            f"(SD over cells {number(mean.get('root_sd_percent'))}) and "
            f"{_thousand(mean.get('line_percent'))} % in 1000 {axis} (SD "
            f"{_thousand(mean.get('line_sd_percent'))})."
            + (f" Its life is not stated: {text(mean, 'note')}." if text(mean, "note") else "")
        )
    if finite(knees.get("cells")):
        said.append(
            f"{number(knees.get('cells'), 0)} of {number(knees.get('looked_at'), 0)} cells have a "
            f"knee, half of them by {number(knees.get('median'))} {axis}."
        )
    first = mapping(one.get("first_capacity"))
    if first:
        low, high = pair(first.get("interval"))
        said.append(
            f"correlation of first capacity and {text(first, 'with')} over "
            f"{number(first.get('cells'), 0)} cells: "
            f"{estimate(first.get('correlation'), low, high, 2)}."
        )
    if mapping(one.get("weibull")):
        said.append(
            "life by a Weibull distribution, cells above 80 % at their end counted as running; "
            f"{text(mapping(one.get('weibull')), 'note')}."
        )
    return said


def _cells(cells: Sequence[dict[str, Any]], names: Sequence[str], axis: str) -> list[Block]:
    rows = []
    for name in names:
        for cell in _some(cells, name):
            fade, knee = mapping(cell.get("fade")), mapping(cell.get("knee"))
            ages = sequence(cell.get("ages"))
            life = finite(cell.get("life"))
            rows.append((
                name, text(cell, "lot"), text(cell, "serial"), str(len(ages)),
                number(ages[-1] if ages else None), number(cell.get("last_share_percent"), 2),
                _term(fade, "root"), _term(fade, "line", 1000.0), _knee(knee),
                number(life) if life is not None else "running",
            ))  # fmt: skip
    columns = (
        Column("Supplier", weight=1.0), Column("Lot", weight=0.7), Column("Serial", weight=1.1),
        Column("Values", "right", 0.5), Column(f"To, {axis}", "right", 0.7),
        Column("Left, %", "right", 0.7), Column(f"Root, % a √{axis[:-1]}", "right", 1.2),
        Column(f"Line, % in 1000 {axis}", "right", 1.3), Column("Knee (95 %)", "right", 1.4),
        Column("Life", "right", 0.8),
    )  # fmt: skip
    said = "Cells while they age" + (f", up to {LINES} of a supplier" if len(rows) < len(cells)
                                     else "")  # fmt: skip
    return [Table("aged-cells", said, columns, tuple(rows), small=True, grouped=True)]


def _thousand(value: Any) -> str:
    found = finite(value)
    return MISSING if found is None else number(1000.0 * found)


def _term(fade: dict[str, Any], key: str, scale: float = 1.0) -> str:
    value, error = finite(fade.get(f"{key}_percent")), finite(fade.get(f"{key}_error"))
    if value is None:
        return MISSING
    shown = number(float(f"{scale * value:.3g}"))
    return shown if error is None else f"{shown} ± {number(float(f'{scale * error:.2g}'))}"


def _knee(knee: dict[str, Any]) -> str:
    if not knee:
        return "too few values"
    if knee.get("is_there") is not True:
        return "none shown"
    return estimate(knee.get("place"), *pair(knee.get("interval")))
