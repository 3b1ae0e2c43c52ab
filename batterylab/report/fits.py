"""The fits that were made before, as the report takes them."""

import json
from pathlib import Path
from typing import Any

from batterylab.report.card import mapping, records, text


def kept_fits(folder: Path, scorecard: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the fits in a study's results, of recordings that the scorecard names.

    Nothing is fitted here: `batterylab fit STUDY` does that. Where a step was fitted
    with the same model by several versions, the latest version counts.

    Parameters
    ----------
    folder : Path
        ``results/fits`` of a study; it need not exist.
    scorecard : dict
        Of schema ``batterylab.scorecard/1``.

    Returns
    -------
    list of dict
        As `batterylab.fit.Fit.to_dict` makes them, by seal, model and step. A file that is not one
        is passed over: results can be deleted and made again at any time.
    """
    seals = {text(row, "seal") for row in records(scorecard.get("recordings"))}
    latest: dict[tuple[str, str, str], tuple[str, dict[str, Any]]] = {}
    for path in sorted(folder.rglob("*.json")) if folder.is_dir() else []:
        fit = _fit_in(path)
        key = (text(fit, "seal"), text(fit, "model"), text(fit, "step"))
        version = text(fit, "version")
        if key[0] in seals and (key not in latest or version >= latest[key][0]):
            latest[key] = (version, fit)
    return [latest[key][1] for key in sorted(latest)]


def _fit_in(path: Path) -> dict[str, Any]:
    """Return the fit that a file holds, at its top or under ``fit``; empty if there is none."""
    try:
        data = mapping(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
    inner = mapping(data.get("fit"))
    fit = {**data, **inner} if inner else data
    return fit if isinstance(fit.get("values"), dict) else {}
