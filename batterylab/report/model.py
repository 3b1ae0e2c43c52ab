"""The report as plain data: what PDF and HTML both print.

A `Document` is a list of `Section`s, a section a list of blocks. Blocks hold text only as
strings that no renderer interprets; figures hold SVG that `figures` drew. Everything that is
said in a report is said here, so that the two renderers cannot differ in content.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Paragraph:
    """Running text; `tone` is empty, ``note`` or ``warning``."""

    text: str
    tone: str = ""
    block: ClassVar[str] = "paragraph"


@dataclass(frozen=True)
class Bullets:
    """A list of short statements."""

    items: tuple[str, ...]
    block: ClassVar[str] = "bullets"


@dataclass(frozen=True)
class Facts:
    """Labels and values, one a line."""

    rows: tuple[tuple[str, str], ...]
    block: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Column:
    """A table's column: `align` is ``left`` or ``right``, `weight` its share of the width."""

    title: str
    align: str = "left"
    weight: float = 1.0


@dataclass(frozen=True)
class Table:
    """A table that may run over pages.

    `tones` marks rows as in `Paragraph`. In a `grouped` table a first cell that repeats the one
    above it is printed pale: each row stays readable by itself, on whatever page it falls.
    """

    key: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    small: bool = False
    tones: tuple[str, ...] = ()
    grouped: bool = False
    block: ClassVar[str] = "table"

    def repeats(self, place: int) -> bool:
        """Return whether a row's first cell repeats that of the row above."""
        return self.grouped and place > 0 and self.rows[place][0] == self.rows[place - 1][0]



@dataclass(frozen=True)
class Figure:
    """A drawing; `alt` says in words what it shows."""

    key: str
    caption: str
    alt: str
    svg: str
    width_mm: float = 170.0
    block: ClassVar[str] = "figure"


@dataclass(frozen=True)
class Panels:
    """Six charts of one characteristic, always in the same six places on one page.

    `remarks` stand above the charts, one or two short lines; `notes` below the table.
    """

    places: tuple[Figure, ...]
    remarks: tuple[str, ...] = ()
    table: Table | None = None
    notes: tuple[str, ...] = ()
    block: ClassVar[str] = "panels"


@dataclass(frozen=True)
class Verdict:
    """A decision on one supplier; `tone` is ``good``, ``middling``, ``bad`` or ``open``.

    `basis` says how many cells and lots it rests on.
    """

    name: str
    verdict: str
    tone: str
    reasons: tuple[str, ...]
    risks: tuple[str, ...] = ()
    basis: str = ""


@dataclass(frozen=True)
class Verdicts:
    """The decisions, first thing in the report."""

    items: tuple[Verdict, ...]
    block: ClassVar[str] = "verdicts"


@dataclass(frozen=True)
class Signatures:
    """Empty fields to sign: one a role."""

    roles: tuple[str, ...] = ("Prepared", "Checked", "Approved")
    block: ClassVar[str] = "signatures"


Block = Paragraph | Bullets | Facts | Table | Figure | Panels | Verdicts | Signatures


@dataclass(frozen=True)
class Section:
    """A numbered section; `new_page` where it must begin on one."""

    title: str
    blocks: tuple[Block, ...]
    new_page: bool = False


@dataclass(frozen=True)
class Document:
    """A whole report.

    Attributes
    ----------
    title, subtitle : str
        What stands on top.
    study : str
        Name of the study, in the header of each page.
    scorecard_hash : str
        SHA-256 over the scorecard, 64 hex digits; the header shows the first 12.
    generated_utc : str
        ISO 8601, to the second.
    software : str
        Name and version.
    """

    title: str
    subtitle: str
    study: str
    scorecard_hash: str
    generated_utc: str
    software: str
    sections: tuple[Section, ...]

    def tables(self) -> list[Table]:
        """Return all tables, in order."""
        found: list[Table] = []
        for block in self._blocks():
            if isinstance(block, Table):
                found.append(block)
            elif isinstance(block, Panels) and block.table is not None:
                found.append(block.table)
        return found

    def figures(self) -> list[Figure]:
        """Return all figures, in order."""
        found: list[Figure] = []
        for block in self._blocks():
            if isinstance(block, Figure):
                found.append(block)
            elif isinstance(block, Panels):
                found += block.places
        return found

    def _blocks(self) -> list[Block]:
        return [block for section in self.sections for block in section.blocks]
