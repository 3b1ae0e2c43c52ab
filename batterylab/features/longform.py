"""The feature table of a study: long form, one row a feature of a recording."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batterylab.features.feature import Feature, unit_of
from batterylab.features.store import drawn_from, read_tables

if TYPE_CHECKING:
    import pandas as pd

    from batterylab.archive import ArchiveEntry
    from batterylab.cells import Cell
    from batterylab.study import Study

COLUMNS = (
    "supplier", "lot", "serial", "channel", "protocol", "part", "seal", "start_utc", "feature",
    "value", "uncertainty", "unit", "method", "steps", "state", "source", "soc_percent",
    "cycles",
)  # fmt: skip

Progress = Callable[[int, int], None]
Row = dict[str, Any]


def table(study: "Study", progress: Progress | None = None) -> "pd.DataFrame":
    """Return the features of all recordings and imported tables of a study.

    Parameters
    ----------
    study : Study
        Its archive is read; features that were drawn before are taken from its results.
    progress : callable, optional
        Called with how many recordings are done, and of how many.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`, one row a feature of a recording. `uncertainty` is one standard
        uncertainty, NaN if not known; `steps` is text such as ``3,7,11``; `state` is the last
        that the study's log holds, and `source` one of ``bench``, ``import``, ``table``.

    Raises
    ------
    BatterylabError
        If there is no archive, or something in it cannot be read.
    """
    states = study.log.states()
    rows = archive_rows(study.archive, study.results / "features", states, study.cells, progress)
    return frame_of(rows)


def archive_rows(
    archive: Path,
    cache: Path | None = None,
    states: Mapping[str, Mapping[str, Any]] | None = None,
    cells: Mapping[str, "Cell"] | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Return the rows of an archive, of a study or on its own; see `table`."""
    from batterylab.archive import find

    entries = find(archive)
    rows: list[Row] = []
    for number, entry in enumerate(entries, 1):
        rows += entry_rows(entry, cache, states, cells)
        if progress is not None:
            progress(number, len(entries))
    for sheet in read_tables(archive):
        rows += _table_rows(sheet, states or {}, cells or {})
    return rows


def frame_of(rows: Iterable[Row]) -> "pd.DataFrame":
    """Return rows as a DataFrame with the columns of `COLUMNS` and numbers as floats."""
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    numbers = ["value", "uncertainty", "soc_percent", "cycles"]
    return frame.astype({**dict.fromkeys(numbers, "float64")})


def entry_rows(
    entry: "ArchiveEntry",
    cache: Path | None = None,
    states: Mapping[str, Mapping[str, Any]] | None = None,
    cells: Mapping[str, "Cell"] | None = None,
) -> list[Row]:
    """Return the rows of one archived recording; see `table`."""
    drawn = drawn_from(entry, cache)
    default = "valid with remark" if drawn.head["remarks"] else "valid"
    cell = (cells or {}).get(entry.serial)
    head = {
        "supplier": entry.supplier or (cell.supplier if cell else ""),
        "lot": entry.lot or (cell.lot if cell else ""),
        "serial": entry.serial,
        "channel": drawn.head["channel"],
        "protocol": entry.protocol,
        "part": drawn.head["part"],
        "seal": entry.seal,
        "start_utc": entry.start_utc,
        "state": str((states or {}).get(entry.seal, {}).get("state", default)),
        "source": drawn.head["source"],
    }
    return [{**head, **feature_cells(feature)} for feature in drawn.features]


def feature_cells(feature: Feature) -> Row:
    """Return what a row says of its feature."""
    return {
        "feature": feature.name,
        "value": feature.value,
        "uncertainty": feature.uncertainty,
        "unit": feature.unit,
        "method": feature.method,
        "steps": feature.steps_text,
        "soc_percent": feature.soc_percent,
        "cycles": feature.cycles,
    }


def _table_rows(
    sheet: Mapping[str, Any],
    states: Mapping[str, Mapping[str, Any]],
    cells: Mapping[str, "Cell"],
) -> list[Row]:
    seal = str(sheet.get("sha256", ""))
    name = str(sheet.get("name", ""))
    state = str(states.get(seal, {}).get("state", ""))
    rows = []
    for row in sheet["rows"]:
        serial, feature = str(row["serial"]), str(row["feature"])
        if row["value"] is None:
            continue
        cell = cells.get(serial)
        rows.append(
            {
                "supplier": str(row.get("supplier") or (cell.supplier if cell else "")),
                "lot": str(row.get("lot") or (cell.lot if cell else "")),
                "serial": serial,
                "channel": "",
                "protocol": name,
                "part": "main",
                "seal": seal,
                "start_utc": str(sheet.get("start_utc", "")),
                "feature": feature,
                "value": row["value"],
                "uncertainty": _nan(row.get("uncertainty")),
                "unit": str(row.get("unit") or unit_of(feature)),
                "method": f"from the table {name}; {_told(row)}",
                "steps": "",
                "state": state or ("stopped" if row.get("stopped") else "valid"),
                "source": "table",
                "soc_percent": _nan(row.get("soc_percent")),
                "cycles": _nan(row.get("cycles")),
            }
        )
    return rows


def _nan(value: Any) -> float:
    return math.nan if value is None else float(value)


def _told(row: Mapping[str, Any]) -> str:
    is_given = row.get("uncertainty") is not None
    return "uncertainty as given" if is_given else "uncertainty not given"
