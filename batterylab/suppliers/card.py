"""The scorecard: everything that is believed of the suppliers of a study, as plain data.

It is computed from the feature table and the study alone, without random numbers and without
the wall clock: the same recordings give the same scorecard, byte for byte.
"""

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batterylab.errors import EnvironmentFailedError
from batterylab.study import Study
from batterylab.suppliers.nodes import CONFIDENCE
from batterylab.suppliers.sampling import readings_of
from batterylab.suppliers.scoring import SCHEMA, Scoring

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SCHEMA", "Scorecard", "scorecard"]

FILE = "scorecard.json"
_DIGITS = 12


@dataclass(frozen=True)
class Scorecard:
    """A scorecard.

    Attributes
    ----------
    data : dict
        Of schema ``batterylab.scorecard/1``; ``docs/statistics.md`` explains each key.
    """

    data: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain, JSON-able data without NaN."""
        return self.data

    @property
    def verdicts(self) -> dict[str, str]:
        """The verdict of each supplier."""
        return {name: str(item["verdict"]) for name, item in self.data["decision"].items()}

    def write(self, folder: Path) -> Path:
        """Write ``scorecard.json`` whole: a temporary file, then a rename.

        Parameters
        ----------
        folder : Path
            Made if it does not exist.

        Raises
        ------
        EnvironmentFailedError
            If the disk refuses.
        """
        target = folder / FILE
        text = json.dumps(self.data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        name = ""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".writing-", suffix=".json", dir=folder)
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).replace(target)
        except OSError as error:
            if name:
                Path(name).unlink(missing_ok=True)
            raise EnvironmentFailedError(f"{target}: cannot be written: {error}") from None
        return target


def scorecard(study: Study, table: "pd.DataFrame", *, confidence: float = CONFIDENCE) -> Scorecard:
    """Score the suppliers of a study.

    Parameters
    ----------
    study : Study
        Limits, rules, pack, the rule which recording counts, and the log of states.
    table : DataFrame
        The feature table in long form (`batterylab.features.table`).
    confidence : float
        Of the two-sided intervals; the one-sided bounds that decide stay at 95 %.

    Returns
    -------
    Scorecard

    Raises
    ------
    BatterylabError
        If the table is empty or lacks a column.
    NotMetError
        If the study's log was tampered with.
    """
    return Scorecard(_plain(Scoring(study, readings_of(table), confidence).to_dict()))


def _plain(data: Any) -> Any:
    """Return JSON-able data: floats to twelve digits, null for what is not finite."""
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, Sequence) and not isinstance(data, str):
        return [_plain(value) for value in data]
    if data is None or isinstance(data, str | bool):
        return data
    if isinstance(data, int):
        return int(data)
    number = float(data)
    if not math.isfinite(number):
        return None
    return float(f"{number:.{_DIGITS}g}")
