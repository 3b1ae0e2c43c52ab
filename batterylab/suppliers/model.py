"""The scorecard's one model for a feature: supplier + lot + cell + channel + repeat.

Suppliers (and, where there is a gauge study, which of the two a value is from) are fixed; lots,
cells, channels and repeats are random. What the data cannot part is left out and said.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from batterylab.errors import BatterylabError
from batterylab.suppliers.mixed import RESIDUAL, MixedFit, MixedModel
from batterylab.suppliers.nodes import Array
from batterylab.suppliers.sampling import NO_LOT, Reading

#: a channel's effect is corrected for only if channels differ with this p-value or less
REAL = 0.05
#: with more levels than this the intervals come from curvature instead of the profile
_MOST_LEVELS = 150


def model_of(main: Sequence[Reading], gauge: Sequence[Reading]) -> MixedModel | None:
    """Return the model of a feature; None where nothing random can be told apart.

    Parameters
    ----------
    main : sequence of Reading
        One a cell.
    gauge : sequence of Reading
        Repeats of some of the cells, or none.
    """
    lots = {reading.serial: (reading.supplier, reading.lot) for reading in main}
    known = [*main, *(reading for reading in gauge if reading.serial in lots)]
    if len(known) < 4 or not _varies(known, lots):
        return None
    of_lot = ["\0".join(lots[reading.serial]) for reading in known]
    factors: dict[str, list[str]] = {}
    if any(lot != NO_LOT for _, lot in lots.values()):
        factors["lot"] = of_lot
    factors["cell"] = [reading.serial for reading in known]
    factors["channel"] = [reading.channel for reading in known]
    factors = {name: levels for name, levels in factors.items() if _can_be_told(name, levels)}
    if not factors:
        return None
    try:
        return MixedModel([reading.value for reading in known], factors,
                          _fixed(known, len(main), lots))  # fmt: skip
    except BatterylabError:
        return None


def _varies(known: Sequence[Reading], lots: dict[str, tuple[str, str]]) -> bool:
    """Return whether values differ within a supplier by more than rounding."""
    groups: dict[str, list[float]] = {}
    for reading in known:
        groups.setdefault(lots[reading.serial][0], []).append(reading.value)
    largest = max(abs(reading.value) for reading in known)
    return any(float(np.ptp(values)) > 1e-9 * largest for values in groups.values())


def _can_be_told(name: str, levels: Sequence[str]) -> bool:
    counts = Counter(levels)
    repeated = sum(count - 1 for count in counts.values())
    if name == "channel" and "" in counts:
        return False
    return len(counts) > 1 and repeated > 1


def _fixed(known: Sequence[Reading], main: int, lots: dict[str, tuple[str, str]]) -> Array:
    """Return a column for each supplier, and one for the values of the gauge study."""
    names = sorted({lots[reading.serial][0] for reading in known})
    columns = [
        np.array([lots[reading.serial][0] == name for reading in known], float) for name in names
    ]
    if len(known) > main:
        columns.append((np.arange(len(known)) >= main).astype(float))
    return np.column_stack(columns)


def components_entry(main: Sequence[Reading], gauge: Sequence[Reading]) -> dict[str, Any] | None:
    """Return the scorecard's ``components`` of a feature: each sd with interval and p-value.

    `is_zero` says that zero is the likeliest value. Without repeats ``residual`` is cell and
    repeat together.
    """
    model = model_of(main, gauge)
    if model is None:
        return None
    fit = model.fit()
    sds = fit.sds
    has_cells = "cell" in sds
    total = sum(value**2 for value in sds.values())
    parts = {}
    for name, sd in sds.items():
        parts[_title(name, has_cells)] = {
            "sd": sd,
            "sd_interval": _interval(fit, name),
            "share_percent": 100.0 * sd**2 / total if total > 0 else None,
            "is_zero": sd == 0.0,
            "p_value": None if name == RESIDUAL else fit.p_value(name),
        }
    entry: dict[str, Any] = {
        "method": "REML; profile likelihood intervals", "readings": len(model.values),
        "parts": parts, "channels": None,
        "note": None if has_cells else "without repeats, cells and repeats cannot be told apart",
    }  # fmt: skip
    if sds.get("channel", 0.0) > 0:
        entry["channels"] = _channels(fit)
    return entry


def _title(name: str, has_cells: bool) -> str:
    if name != RESIDUAL:
        return name
    return "repeat" if has_cells else "cell and repeat"


def _interval(fit: MixedFit, name: str) -> tuple[float, float] | None:
    levels = sum(place.stop - place.start for place in fit.model._moments.places)
    return fit.interval(name) if levels <= _MOST_LEVELS else None


def _channels(fit: MixedFit) -> dict[str, Any] | None:
    p_value = fit.p_value("channel")
    try:
        effects = fit.effects("channel")
    except BatterylabError:
        return None
    return {
        "p_value": p_value,
        "are_real": p_value <= REAL,
        "effects": {name: {"effect": effect, "standard_error": error}
                    for name, (effect, error) in effects.items()},
    }  # fmt: skip


def channel_effects(main: Sequence[Reading], gauge: Sequence[Reading]) -> dict[str, float]:
    """Return the channels' predicted effects where they are real; else nothing."""
    model = model_of(main, gauge)
    if model is None or "channel" not in model.factors:
        return {}
    fit = model.fit()
    if fit.sds["channel"] <= 0 or fit.p_value("channel") > REAL:
        return {}
    try:
        return {name: effect for name, (effect, _) in fit.effects("channel").items()}
    except BatterylabError:
        return {}
