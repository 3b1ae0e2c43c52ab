"""HTML from a `Document`: one file with all in it, readable without a network.

Everything from a study is escaped; the page runs no script and its policy forbids one. The
charts are the same SVG as in the PDF.
"""

from collections.abc import Callable
from html import escape
from typing import Any

from batterylab.report.model import (
    Bullets,
    Document,
    Facts,
    Figure,
    Panels,
    Paragraph,
    Section,
    Signatures,
    Table,
    Verdicts,
)

STYLE = """
:root { color-scheme: light; --ink: #1a1a1a; --soft: #5c5c5c; --hair: #d4d4d4;
  --good: #1b6e3c; --middling: #8a5a00; --bad: #a3001b; --open: #4a4a4a; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 62rem; background: #fff;
  color: var(--ink); line-height: 1.45; overflow-wrap: anywhere;
  font: 17px/1.45 "Libertinus Serif", "Linux Libertine O", "Source Serif 4", Cambria, Georgia,
  serif; }
header h1 { font-size: 2rem; margin: 0; font-weight: 600; }
header p { margin: .2rem 0 0; color: var(--soft); }
nav { margin: 1.2rem 0; font-size: .9rem; column-width: 17rem; }
nav ol { margin: 0; padding-left: 1.4rem; }
a { color: #00508a; }
h2 { font-size: 1.35rem; font-weight: 600; margin: 2.4rem 0 .8rem; }
h3 { font-size: 1.15rem; font-weight: 600; margin: 2rem 0 .4rem; }
p { margin: .5rem 0; }
ul { margin: .3rem 0; padding-left: 1.2rem; }
.note { color: var(--soft); }
.warning { color: var(--bad); }
.verdict { border-left: 4px solid; padding: .1rem 0 .1rem 1rem; margin: 1rem 0; }
.verdict .top { display: flex; justify-content: space-between; gap: 1rem; flex-wrap: wrap;
  align-items: baseline; }
.verdict h3 { margin: 0; }
.verdict h3 small { color: var(--soft); font-weight: 400; margin-left: .6rem; }
.verdict .word { font-weight: 700; font-size: 1.15rem; }
.verdict .risks { color: var(--soft); margin: .5rem 0 0; font-size: .92rem; }
.good { border-color: var(--good); } .good .word { color: var(--good); }
.middling { border-color: var(--middling); } .middling .word { color: var(--middling); }
.bad { border-color: var(--bad); } .bad .word { color: var(--bad); }
.open { border-color: var(--open); } .open .word { color: var(--open); }
dl { display: grid; grid-template-columns: 13rem 1fr; gap: .25rem 1rem; }
dt { color: var(--soft); } dd { margin: 0; }
.wide { overflow-x: auto; margin: .4rem 0 1.2rem; }
table { border-collapse: collapse; width: 100%; font-size: .86rem; overflow-wrap: break-word;
  font-variant-numeric: tabular-nums lining-nums; border-bottom: 1.5px solid var(--ink); }
caption { text-align: left; font-weight: 600; padding: .6rem 0 .3rem; }
th { text-align: left; vertical-align: bottom; font-weight: 600; padding: .3rem .4rem;
  border-top: 1.5px solid var(--ink); border-bottom: 1px solid var(--ink); }
td { vertical-align: top; padding: .25rem .4rem; border-bottom: 1px solid var(--hair); }
th:first-child, td:first-child { padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
.again { color: #8a8a8a; }
.right { text-align: right; }
td.right { min-width: 3.5rem; }
figure { margin: 1rem 0; } figcaption { font-size: .9rem; color: var(--soft); }
svg { width: 100%; height: auto; display: block; }
svg text { font-family: inherit !important; }
.panels { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .8rem 1.6rem; }
.panels figure { margin: 0; }
.panels figcaption { color: var(--ink); font-weight: 600; }
.sign { display: grid; grid-template-columns: repeat(3, 1fr); gap: 2rem; margin-top: 1rem; }
.sign div { padding-top: 3.6rem; border-bottom: 1px solid var(--ink); position: relative; }
.sign span { position: absolute; top: 0; left: 0; }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
@media (max-width: 44rem) { .panels, .sign, dl { grid-template-columns: 1fr; } }
@media print {
  @page { size: A4; margin: 18mm 16mm; }
  body { font-size: 10pt; max-width: none; padding: 0; }
  nav { display: none; }
  table { font-size: 8pt; } thead { display: table-header-group; }
  tr, figure, .verdict { break-inside: avoid; }
  h2, h3, caption { break-after: avoid; }
  .page { break-before: page; }
  .wide { overflow: visible; }
}
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def to_html(document: Document) -> str:
    """Return the report as one HTML page."""
    title = f"{document.title}: {document.study}"
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        f"<header><h1>{escape(document.title)}: {escape(document.study)}</h1>",
        f"<p>{escape(document.subtitle)}</p></header>",
    ]
    body, contents = _sections(document.sections)
    if body:
        parts.append(body[0])
    parts.append(f'<nav aria-label="Contents"><ol>{"".join(contents)}</ol></nav>')
    parts += body[1:]
    parts.append(
        f"<footer>{escape(document.software)}, {escape(document.generated_utc)}, scorecard "
        f"{escape(document.scorecard_hash[:12])}</footer>\n</body>\n</html>\n"
    )
    return "\n".join(parts)


def _sections(sections: tuple[Section, ...]) -> tuple[list[str], list[str]]:
    """Return the sections and the lines of the table of contents."""
    body: list[str] = []
    contents: list[str] = []
    for section in sections:
        kind = ' class="page"' if section.new_page else ""
        number = len(contents) + 1
        head = f'<h2 id="s{number}">{number}&ensp;{escape(section.title)}</h2>'
        contents.append(f'<li><a href="#s{number}">{escape(section.title)}</a></li>')
        blocks = "\n".join(_WRITERS[type(block)](block) for block in section.blocks)
        body.append(f"<section{kind}>{head}\n{blocks}\n</section>")
    return body, contents


def _tone(tone: str) -> str:
    return f' class="{escape(tone)}"' if tone else ""


def _paragraph(block: Paragraph) -> str:
    return f"<p{_tone(block.tone)}>{escape(block.text)}</p>"


def _items(items: tuple[str, ...]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def _bullets(block: Bullets) -> str:
    return _items(block.items)


def _facts(block: Facts) -> str:
    rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in block.rows)
    return f"<dl>{rows}</dl>"


def _table(block: Table) -> str:
    sides = [' class="right"' if column.align == "right" else "" for column in block.columns]
    heads = zip(sides, block.columns, strict=True)
    head = "".join(f'<th scope="col"{side}>{escape(column.title)}</th>' for side, column in heads)
    rows = []
    for place, row in enumerate(block.rows):
        tone = block.tones[place] if place < len(block.tones) else ""
        cells = [f"<td{s}>{escape(item)}</td>" for s, item in zip(sides, row, strict=True)]
        if block.repeats(place):
            cells[0] = f'<td class="again">{escape(row[0])}</td>'
        rows.append(f"<tr{_tone(tone)}>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table><caption>{escape(block.caption)}</caption>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{chr(10).join(rows)}</tbody></table></div>"
    )


def _figure(block: Figure) -> str:
    svg = block.svg.replace("<svg ", f'<svg role="img" aria-label="{escape(block.alt)}" ', 1)
    return f"<figure>{svg}<figcaption>{escape(block.caption)}</figcaption></figure>"


def _panels(block: Panels) -> str:
    remarks = "".join(f"<p>{escape(remark)}</p>" for remark in block.remarks)
    places = []
    for place in block.places:
        svg = place.svg.replace("<svg ", f'<svg role="img" aria-label="{escape(place.alt)}" ', 1)
        places.append(f"<figure><figcaption>{escape(place.caption)}</figcaption>{svg}</figure>")
    table = _table(block.table) if block.table is not None else ""
    notes = "".join(f"<p>{escape(note)}</p>" for note in block.notes)
    charts = f'<div class="panels">{"".join(places)}</div>'
    return f"{remarks}{charts}{table}{notes}"


def _verdicts(block: Verdicts) -> str:
    parts = []
    for item in block.items:
        risks = f'<p class="risks">Risks</p>{_items(item.risks)}' if item.risks else ""
        basis = f"<small>{escape(item.basis)}</small>" if item.basis else ""
        parts.append(
            f'<div class="verdict {escape(item.tone)}"><div class="top">'
            f"<h3>{escape(item.name)}{basis}</h3>"
            f'<span class="word">{escape(item.verdict)}</span></div>'
            f"{_items(item.reasons)}{risks}</div>"
        )
    return "\n".join(parts)


def _signatures(block: Signatures) -> str:
    roles = "".join(f"<div><span>{escape(role)}</span></div>" for role in block.roles)
    return f'<div class="sign">{roles}</div>'


_WRITERS: dict[type, Callable[[Any], str]] = {
    Paragraph: _paragraph,
    Bullets: _bullets,
    Facts: _facts,
    Table: _table,
    Figure: _figure,
    Panels: _panels,
    Verdicts: _verdicts,
    Signatures: _signatures,
}
