"""Write a report: each format is made whole in memory, then put in place in one move."""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from batterylab.errors import BatterylabError, EnvironmentFailedError
from batterylab.report.card import Card, read_card
from batterylab.report.model import Document

FORMATS = ("pdf", "html", "xlsx", "dfq", "json")


def write(
    study: Any,
    scorecard: dict[str, Any],
    formats: Sequence[str] = ("pdf", "html"),
    *,
    table: Any = None,
    fits: Any = None,
) -> dict[str, Path]:
    """Write the report of a study.

    Parameters
    ----------
    study : Study
        Its `results` folder takes ``report.pdf`` and so on; its archive is asked for the
        provenance of the recordings.
    scorecard : dict
        Of schema ``batterylab.scorecard/1``; nulls and missing parts are allowed.
    formats : sequence of str
        Any of ``pdf html xlsx dfq json``.
    table : pandas.DataFrame, optional
        The feature table; it becomes a sheet of the workbook.
    fits : iterable of Fit or dict, optional
        Fits of the study's recordings; they become a section.

    Returns
    -------
    dict of str to Path
        The files, by format.

    Raises
    ------
    BatterylabError
        If a format is not known, or the scorecard of another schema. Nothing is written.
    EnvironmentFailedError
        If the disk refuses, or typst cannot set the page.
    """
    chosen = checked_formats(formats)
    card = read_card(scorecard)
    contents = _contents(study, card, chosen, table, fits)
    folder = Path(study.results)
    return {
        name: put(folder / f"report.{name}", content) for name, content in contents.items()
    }


def checked_formats(formats: Sequence[str]) -> list[str]:
    """Return the formats, each once.

    Raises
    ------
    BatterylabError
        If there is none, or one that is not known.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        what = f"unknown format {unknown[0]!r}" if unknown else "no format is named"
        raise BatterylabError(what, hint=f"one or more of {', '.join(FORMATS)}")
    return list(dict.fromkeys(formats))


def png(
    study: Any,
    scorecard: dict[str, Any],
    out: Path | str,
    *,
    page: int = 1,
    ppi: float = 110,
    fits: Any = None,
) -> Path:
    """Write one page of the report as PNG: the first, for a README.

    Parameters
    ----------
    study, scorecard, fits
        As for `write`.
    out : Path or str
        The file to write.
    page : int
        Counts from 1.
    ppi : float
        Pixels an inch; an A4 page at 110 is 910 by 1286 pixels.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    EnvironmentFailedError
        If the disk refuses.
    """
    from batterylab.report.pdf import to_png

    card = read_card(scorecard)
    return put(Path(out), to_png(_document(study, card, fits), card.moment, page, ppi))


def _document(study: Any, card: Card, fits: Any) -> Document:
    from batterylab.report.content import document
    from batterylab.report.evidence import gather

    archive = getattr(study, "archive", None)
    seals = {row["seal"] for row in card.recordings if row.get("seal")}
    evidence = gather(Path(archive) if archive else None, seals)
    return document(card, fits=fits, evidence=evidence)


def _contents(
    study: Any, card: Card, formats: list[str], table: Any, fits: Any
) -> dict[str, bytes]:
    """Return the content of each format; nothing is written before all of them exist."""
    contents: dict[str, bytes] = {}
    page = _document(study, card, fits) if {"pdf", "html"} & set(formats) else None
    for name in formats:
        if name == "pdf" and page is not None:
            from batterylab.report.pdf import to_pdf

            contents[name] = to_pdf(page, card.moment)
        elif name == "html" and page is not None:
            from batterylab.report.html import to_html

            contents[name] = to_html(page).encode("utf-8", "replace")
        elif name == "xlsx":
            from batterylab.report.spreadsheet import to_xlsx

            contents[name] = to_xlsx(card, table)
        elif name == "dfq":
            from batterylab.report.dfq import to_dfq

            contents[name] = to_dfq(card)
        elif name == "json":
            text = json.dumps(card.raw, indent=1, ensure_ascii=True, default=str)
            contents[name] = (text + "\n").encode()
    return contents


def put(path: Path, content: bytes) -> Path:
    """Write a file whole: temporary file beside it, flushed, then moved over the name.

    Raises
    ------
    EnvironmentFailedError
        If the disk refuses; an older file of that name stays as it was.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise EnvironmentFailedError(f"{path}: cannot be written: {error}") from None
    return path
