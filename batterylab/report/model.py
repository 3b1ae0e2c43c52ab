"""The report as plain data: what PDF and HTML both print.

A `Document` is a list of `Section`s, a section a list of blocks. Blocks hold text only as
strings that no renderer interprets; figures hold SVG that `figures` drew. Everything that is
said in a report is said here, so that the two renderers cannot differ in content.
"""

import re
from dataclasses import dataclass
from typing import ClassVar

#: characters that neither XML nor a printed page can hold
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_SPACES = re.compile(r"\s+")


def plain(text: object) -> str:
    """Return text as one printable line: control characters become a visible mark."""
    return _SPACES.sub(" ", _CONTROL.sub("\ufffd", str(text))).strip()


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
    """A table that may run over pages; `tones` marks rows as in `Paragraph`."""

    key: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    small: bool = False
    tones: tuple[str, ...] = ()
    block: ClassVar[str] = "table"


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
    """Six charts of one characteristic, always in the same six places on one page."""

    title: str
    places: tuple[Figure | Table | Paragraph, ...]
    remarks: tuple[str, ...] = ()
    block: ClassVar[str] = "panels"


@dataclass(frozen=True)
class Verdict:
    """A decision on one supplier; `tone` is ``good``, ``middling``, ``bad`` or ``open``."""

    name: str
    verdict: str
    tone: str
    reasons: tuple[str, ...]
    risks: tuple[str, ...] = ()


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
        for section in self.sections:
            for block in section.blocks:
                inner = block.places if isinstance(block, Panels) else (block,)
                found += [part for part in inner if isinstance(part, Table)]
        return found

    def figures(self) -> list[Figure]:
        """Return all figures, in order."""
        found: list[Figure] = []
        for section in self.sections:
            for block in section.blocks:
                inner = block.places if isinstance(block, Panels) else (block,)
                found += [part for part in inner if isinstance(part, Figure)]
        return found
