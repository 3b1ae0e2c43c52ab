"""PDF and PNG from a `Document`, set by typst: no system libraries, no network.

The bytes depend on the document, on typst and on its fonts only: the time in the file is that
of the scorecard. The file is tagged PDF/A-2a and PDF/UA-1 where its text allows it.
"""

import dataclasses
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from batterylab.errors import EnvironmentFailedError
from batterylab.report.model import Document, Panels, Table
from batterylab.report.template import TEMPLATE
from batterylab.report.words import short

STANDARDS = ("a-2a", "ua-1")
#: a word longer than this may be broken anywhere
_LONG = re.compile(r"\S{21,}")
_NUMBER_OF_PART = 10


def _breakable(text: str) -> str:
    """Return text whose long words have places to break, which do not print."""

    def broken(match: re.Match[str]) -> str:
        word = match.group()
        pieces = (word[i : i + _NUMBER_OF_PART] for i in range(0, len(word), _NUMBER_OF_PART))
        return "\u200b".join(pieces)

    return _LONG.sub(broken, text)


def _plain_data(value: Any, key: str = "") -> Any:
    """Return dataclasses as dicts, with long words made breakable but for drawings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        data = {name: _plain_data(getattr(value, name), name) for name in names}
        return {**data, **_setting(value)}
    if isinstance(value, list | tuple):
        return [_plain_data(item, key) for item in value]
    if isinstance(value, str) and key not in ("svg", "alt", "tone", "align", "key"):
        return _breakable(value)
    return value


def _setting(value: Any) -> dict[str, Any]:
    """Return what the template must know of a block besides its content."""
    if isinstance(value, Table):
        size = sum(len(item) for row in value.rows for item in row)
        return {
            "block": value.block,
            "together": len(value.rows) <= 14 and size < 2500,
            "pale": [place for place in range(len(value.rows)) if value.repeats(place)],
        }
    if isinstance(value, Panels):
        return {"block": value.block, "tall": sum(map(len, value.remarks)) > 200}
    return {"block": value.block} if hasattr(value, "block") else {}


def page_data(document: Document, moment: datetime | None) -> dict[str, Any]:
    """Return what the template takes, JSON-able."""
    return {
        **_plain_data(document),
        "study_short": short(document.study, 90),
        "software_short": short(document.software, 60) or "batterylab",
        "code": document.scorecard_hash[:12],
        "date": list(moment.timetuple()[:6]) if moment else None,
        "made": moment.strftime("%Y-%m-%d %H:%M UTC") if moment else "",
    }


def _fonts_folder() -> Path:
    """Return the folder of the fonts that come with matplotlib: the fallback's home."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def _compile(
    data: dict[str, Any], moment: datetime | None, kind: str, ppi: float | None = None
) -> Any:
    """Set the page; strictly first, then with the system's fonts, then untagged.

    PDF/A refuses a character that no font holds. A name in a script that the package's own
    typeface lacks is set in a font of the system, if it has one.
    """
    import typst

    inputs = {"data": json.dumps(data, ensure_ascii=False, allow_nan=False)}
    attempts: list[tuple[bool, list[str]]] = [
        (True, list(STANDARDS)), (False, list(STANDARDS)), (False, []),
    ]  # fmt: skip
    if kind == "png":
        attempts = [(True, []), (False, [])]
    if moment is None:  # PDF/A requires a date
        attempts = [(True, []), (False, [])]
    failure = ""
    for own_fonts, standards in attempts:
        compiler: Any = cast(Any, typst.Compiler)(
            TEMPLATE.encode(),
            font_paths=[str(_fonts_folder())],
            ignore_system_fonts=own_fonts,
            sys_inputs=inputs,
        )
        try:
            return compiler.compile(
                format=kind,
                ppi=ppi,
                pdf_standards=standards if kind == "pdf" else [],
                timestamp=int(moment.timestamp()) if moment else 0,
            )
        except (typst.TypstError, RuntimeError) as error:
            failure = str(error)
    raise EnvironmentFailedError(
        f"typst cannot set the report: {failure.splitlines()[0] if failure else 'no reason given'}",
        hint="the HTML report does not need it: --to html",
    )


def to_pdf(document: Document, moment: datetime | None) -> bytes:
    """Return the report as PDF.

    Parameters
    ----------
    document : Document
        What to print.
    moment : datetime or None
        When the scorecard was made; it is the only time in the file.

    Raises
    ------
    EnvironmentFailedError
        If typst cannot set the page.
    """
    return bytes(_compile(page_data(document, moment), moment, "pdf"))


def to_png(document: Document, moment: datetime | None, page: int = 1, ppi: float = 110) -> bytes:
    """Return one page of the report as PNG.

    Parameters
    ----------
    page : int
        Counts from 1; a page that the report does not have gives its last.
    ppi : float
        Pixels an inch; an A4 page at 110 is 910 by 1286 pixels.
    """
    pages = _compile(page_data(document, moment), moment, "png", ppi)
    pages = pages if isinstance(pages, list) else [pages]
    return bytes(pages[min(max(page, 1), len(pages)) - 1])
