"""The typst source that sets a report. It holds no text of a study: data come as JSON.

Strings from the JSON are put into the page as strings, never as markup, so nothing in them can
be read as typst. There are no packages, and nothing is fetched.
"""

TEMPLATE = r"""
#let d = json(bytes(sys.inputs.data))
#let ink = rgb("#1a1a1a")
#let soft = rgb("#5c5c5c")
#let pale = rgb("#a0a0a0")
#let hair = rgb("#d4d4d4")
#let tones = (
  good: rgb("#1b6e3c"), middling: rgb("#8a5a00"), bad: rgb("#a3001b"), open: rgb("#4a4a4a"),
  warning: rgb("#a3001b"), note: soft,
)
#let toned(tone, body) = if tone in tones { text(fill: tones.at(tone), body) } else { body }

#set document(
  title: d.title + ": " + d.study,
  author: "batterylab",
  date: if d.date == none { none } else {
    datetime(year: d.date.at(0), month: d.date.at(1), day: d.date.at(2),
      hour: d.date.at(3), minute: d.date.at(4), second: d.date.at(5))
  },
)
#set text(
  font: ("Libertinus Serif", "DejaVu Sans"), size: 10pt, fill: ink, lang: "en", region: "gb",
  ligatures: false,  // a code must be read and copied letter by letter
)
#set par(leading: 0.55em, spacing: 0.8em, justify: false)
#set page(
  paper: "a4",
  margin: (x: 18mm, top: 21mm, bottom: 18mm),
  header: {
    set text(size: 8pt, fill: soft)
    grid(columns: (1fr, auto), column-gutter: 6mm,
      d.study_short, [scorecard #d.code])
    v(-1.6mm)
    line(length: 100%, stroke: 0.4pt + hair)
  },
  footer: context {
    set text(size: 8pt, fill: soft)
    grid(columns: (1fr, auto),
      d.software_short + if d.made != "" { ", " + d.made },
      [#counter(page).display() of #counter(page).final().first()])
  },
)
#set heading(numbering: "1")
#show heading: it => block(
  above: 7mm, below: 3mm, sticky: true,
  text(size: 13pt, weight: "semibold", {
    box(width: 8mm, counter(heading).display())
    it.body
  }),
)
#set list(marker: text(fill: soft, "–"), indent: 0mm, body-indent: 2mm, spacing: 0.55em)

#let paragraph(b) = block(toned(b.tone, b.text))
#let bullets(b) = list(..b.items.map(item => [#item]))
#let facts(b) = block(above: 4mm, grid(
  columns: (44mm, 1fr), row-gutter: 1.6mm, column-gutter: 3mm,
  ..b.rows.map(row => (text(fill: soft, row.at(0)), row.at(1))).flatten(),
))
#let tabular(b) = block(above: 5mm, breakable: not b.together, {
  set text(size: if b.small { 8pt } else { 9pt }, number-width: "tabular", number-type: "lining")
  set par(leading: 0.45em)
  block(below: 1.6mm, sticky: true, text(size: 8.5pt, weight: "semibold", b.caption))
  table(
    columns: b.columns.map(c => c.weight * 1fr),
    align: (x, y) => if b.columns.at(x).align == "right" { right } else { left },
    inset: (x, y) => (
      left: if x == 0 { 0mm } else { 1.1mm },
      right: if x == b.columns.len() - 1 { 0mm } else { 1.1mm },
      y: 0.95mm,
    ),
    stroke: (x, y) => if y > 0 { (bottom: 0.3pt + hair) },
    table.hline(y: 0, stroke: 0.8pt + ink),
    table.header(
      ..b.columns.map(c => table.cell(align: bottom + if c.align == "right" { right } else { left },
        text(weight: "semibold", c.title))),
      table.hline(stroke: 0.5pt + ink),
    ),
    ..b.rows.enumerate().map(((i, row)) => row.enumerate().map(((x, item)) => {
      if x == 0 and i in b.pale { text(fill: pale, item) }
      else { toned(if i < b.tones.len() { b.tones.at(i) } else { "" }, item) }
    })).flatten(),
    table.hline(stroke: 0.8pt + ink),
  )
})
#let drawing(b, width) = image(bytes(b.svg), format: "svg", width: width, alt: b.alt)
#let picture(b) = block(above: 5mm, breakable: false, {
  drawing(b, 100%)
  v(-1.6mm)
  text(size: 8.5pt, fill: soft, b.caption)
})
#let panels(b) = {
  block(above: 0mm, below: 2mm, height: if b.tall { auto } else { 9.4mm }, {
    for remark in b.remarks { block(above: 1.2mm, below: 1.2mm, text(size: 9pt, remark)) }
  })
  grid(
    columns: (1fr, 1fr), column-gutter: 4mm, row-gutter: 3mm,
    ..b.places.map(place => block(breakable: false, {
      text(size: 8.5pt, weight: "semibold", place.caption)
      v(-2.2mm)
      drawing(place, 100%)
    })),
  )
  if b.table != none { tabular(b.table) }
  for note in b.notes { block(above: 1.6mm, below: 1.6mm, text(size: 8pt, note)) }
}
#let verdict(one) = block(
  width: 100%, above: 4mm, below: 4mm, inset: (left: 4mm, y: 0.6mm),
  stroke: (left: 2.4pt + tones.at(one.tone)),
  {
    grid(columns: (1fr, 52mm), column-gutter: 4mm, align: (left + top, right + top),
      {
        text(size: 13pt, weight: "semibold", one.name)
        if one.basis != "" { h(2.5mm); text(size: 9pt, fill: soft, one.basis) }
      },
      text(size: 13pt, weight: "bold", fill: tones.at(one.tone), one.verdict))
    v(0.6mm)
    list(..one.reasons.map(item => [#item]))
    if one.risks.len() > 0 {
      block(above: 2.2mm, below: 1.6mm, text(size: 9pt, fill: soft, "Risks"))
      list(..one.risks.map(item => [#item]))
    }
  },
)
#let verdicts(b) = for one in b.items { verdict(one) }
#let signatures(b) = block(breakable: false, above: 5mm, grid(
  columns: (1fr,) * b.roles.len(), column-gutter: 8mm,
  ..b.roles.map(role => {
    text(size: 9pt, role)
    v(14mm)
    line(length: 100%, stroke: 0.5pt + ink)
    text(size: 8pt, fill: soft, "Name, date, signature")
  }),
))
#let setters = (
  paragraph: paragraph, bullets: bullets, facts: facts, table: tabular, figure: picture,
  panels: panels, verdicts: verdicts, signatures: signatures,
)

#block(below: 5mm, {
  text(size: 20pt, weight: "semibold", d.title)
  v(-2.4mm)
  text(size: 12pt, d.study)
  if d.subtitle != "" { text(size: 10pt, fill: soft, { h(3mm); d.subtitle }) }
})

#for section in d.sections {
  if section.new_page { pagebreak(weak: true) }
  heading(section.title)
  for b in section.blocks { (setters.at(b.block))(b) }
}
"""
