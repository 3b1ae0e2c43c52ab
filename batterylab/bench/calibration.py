"""Calibration that is overdue: told, and refused unless the bench file accepts it.

A due date is the last day on which the calibration counts, in UTC and by the bench's own clock.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime

from batterylab.bench.benchfile import BenchFile, InstrumentEntry
from batterylab.errors import NotMetError


def is_overdue(entry: InstrumentEntry, now_s: float) -> bool:
    """Say whether an instrument's calibration was due before the day of `now_s`, a unix time."""
    if not entry.calibration_due:
        return False
    return date.fromisoformat(entry.calibration_due) < datetime.fromtimestamp(now_s, UTC).date()


def overdue(file: BenchFile, now_s: float, names: Iterable[str] | None = None) -> dict[str, str]:
    """Return the instruments whose calibration is overdue, with a sentence on each.

    Parameters
    ----------
    file : BenchFile
        The bench.
    now_s : float
        Unix time of the bench's clock.
    names : iterable of str, optional
        The instruments to look at; all if not given.
    """
    chosen = file.instruments if names is None else names
    found = {}
    for name in chosen:
        entry = file.instruments[name]
        if is_overdue(entry, now_s):
            word = ", accepted" if entry.accept_overdue else ""
            found[name] = f"{name}: its calibration was due on {entry.calibration_due}{word}"
    return found


def refuse_overdue(file: BenchFile, now_s: float, names: Iterable[str] | None = None) -> None:
    """Refuse instruments whose calibration is overdue and not accepted; see `overdue`.

    Raises
    ------
    NotMetError
        With every such instrument.
    """
    found = overdue(file, now_s, names)
    refused = [text for name, text in found.items() if not file.instruments[name].accept_overdue]
    if refused:
        raise NotMetError(
            f"{file.path.name}: " + "; ".join(refused),
            hint="have it calibrated and correct calibration_due, or decide otherwise with "
            "accept_overdue: true",
        )
