"""Which recording counts for which feature, and what was left out, with its reason.

The rules are fixed in ``study.yaml`` before there is data; nothing here looks at a value other
than to see that there is one.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from batterylab.errors import BatterylabError
from batterylab.features.course import AGED
from batterylab.study import FEATURE_UNITS, WantedTemperature

if TYPE_CHECKING:
    import pandas as pd

NEEDED = ("supplier", "lot", "serial", "seal", "start_utc", "feature", "value", "state")
GOOD_STATES = ("valid", "valid with remark")
#: stands for the lot of cells of which no lot is known
NO_LOT = "not named"
#: the feature that holds the mean temperature of a test: a condition, not a characteristic
TEMPERATURE = "test_temperature_degC"
#: why a recording counts for no characteristic though nothing is wrong with it
LATER = "a later check-up of this cell: it counts for ageing"
STOPPED = "the test was stopped before its end: its values are no measurements"


@dataclass(frozen=True)
class Reading:
    """One row of the feature table."""

    supplier: str
    lot: str
    serial: str
    channel: str
    protocol: str
    part: str
    seal: str
    start_utc: str
    feature: str
    value: float
    uncertainty: float
    unit: str
    state: str
    source: str
    soc_percent: float = math.nan
    cycles: float = math.nan

    @property
    def order(self) -> tuple[str, str, float, str]:
        """What sorts readings by time, and alike in every run."""
        return self.start_utc, self.seal, self.value, self.channel


@dataclass
class Selection:
    """The readings that count.

    Attributes
    ----------
    features : dict of str to list of Reading
        One reading a cell, by supplier, lot and serial.
    gauge : dict of str to list of Reading
        Readings of the gauge study, in order of time.
    exclusions : list of dict
        Recordings that do not count, with features, state and reason.
    recordings : list of dict
        All recordings the table speaks of.
    references : dict of str to dict of str to list of Reading
        Readings of reference parts, by feature and serial, in order of time.
    temperatures_degC : dict of str to float
        Mean temperature of a test, by seal.
    out_of_temperature : list of dict
        Recordings whose test had another temperature than the study asks for.
    """

    features: dict[str, list[Reading]] = field(default_factory=dict)
    gauge: dict[str, list[Reading]] = field(default_factory=dict)
    exclusions: list[dict[str, str]] = field(default_factory=list)
    recordings: list[dict[str, str]] = field(default_factory=list)
    references: dict[str, dict[str, list[Reading]]] = field(default_factory=dict)
    temperatures_degC: dict[str, float] = field(default_factory=dict)
    out_of_temperature: list[dict[str, Any]] = field(default_factory=list)


def readings_of(table: "pd.DataFrame") -> list[Reading]:
    """Return the rows of a feature table, sorted so that their order does not matter.

    Raises
    ------
    BatterylabError
        If a column is missing or the table is empty.
    """
    missing = [name for name in NEEDED if name not in table.columns]
    if missing:
        raise BatterylabError(f"the feature table has no column {missing[0]!r}")
    records: list[dict[Any, Any]] = table.to_dict("records")
    if not records:
        raise BatterylabError(
            "there are no features to score",
            hint="`batterylab run` makes recordings, `batterylab import` reads other cyclers'",
        )
    readings = [_reading(record) for record in records]
    return sorted(readings, key=lambda r: (r.feature, r.supplier, r.lot, r.serial, r.order))


def _reading(record: Mapping[Any, Any]) -> Reading:
    def text(name: str) -> str:
        return _text(record.get(name))

    return Reading(
        supplier=text("supplier"),
        lot=text("lot"),
        serial=text("serial"),
        channel=text("channel"),
        protocol=text("protocol"),
        part=text("part") or "main",
        seal=text("seal"),
        start_utc=text("start_utc"),
        feature=text("feature"),
        value=_number(record.get("value")),
        uncertainty=_number(record.get("uncertainty")),
        unit=text("unit"),
        state=text("state") or "valid",
        source=text("source"),
        soc_percent=_number(record.get("soc_percent")),
        cycles=_number(record.get("cycles")),
    )


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value)


def _number(value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def select(
    readings: Sequence[Reading],
    *,
    which: str = "last valid",
    protocols: Sequence[str] = (),
    reasons: Mapping[str, str] | None = None,
    references: Sequence[str] = (),
    temperature: WantedTemperature | None = None,
    every_state: bool = False,
) -> Selection:
    """Choose one reading a cell for each feature.

    A reading counts if its recording is valid, it is a finite number, it is not of the gauge
    study, and its protocol is the one that most cells have for this feature; of several, the
    last or the first by time counts, and of values that say how many cycles went before the one
    of the fewest. What a stopped test gave never counts.

    Parameters
    ----------
    readings : sequence of Reading
        Sorted, as `readings_of` gives them.
    which : str
        ``last valid`` or ``first valid``.
    protocols : sequence of str
        Of the study; where as many cells have one protocol as another, the later in this list
        counts. Recordings by any other protocol count as one kind.
    reasons : mapping of str to str, optional
        Why a recording is invalid or superseded, by seal.
    references : sequence of str
        Serials of reference parts: they count with no supplier.
    temperature : WantedTemperature, optional
        What tests shall have; others are listed, and left out if it says so.
    every_state : bool
        Count recordings of every state and temperature, to see what excluding them changed.

    Returns
    -------
    Selection
    """
    selection = Selection(recordings=_recordings(readings))
    excluded: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)

    def leave_out(reading: Reading, reason: str) -> None:
        excluded[reading.seal, reading.serial, reading.state, reason].append(reading.feature)

    by_feature: dict[str, list[Reading]] = defaultdict(list)
    away = _out_of_temperature(readings, selection, temperature)
    leaves = temperature is not None and temperature.otherwise == "leave out" and not every_state
    for reading in _by_soc(readings):
        if reading.feature in (TEMPERATURE, AGED):
            continue
        if reading.state == "stopped":
            leave_out(reading, _stopped(reading))
        elif reading.serial in references:
            _reference(reading, selection)
        elif reading.state not in GOOD_STATES and not every_state:
            leave_out(reading, (reasons or {}).get(reading.seal) or "declared in the study's log")
        elif math.isnan(reading.value):
            leave_out(reading, "no finite value")
        elif not reading.supplier:
            leave_out(reading, "the supplier is not known")
        elif leaves and reading.seal in away:
            leave_out(reading, away[reading.seal])
        elif reading.part == "gauge":
            selection.gauge.setdefault(reading.feature, []).append(reading)
        else:
            by_feature[reading.feature].append(reading)
    for group in selection.gauge.values():
        group.sort(key=lambda reading: reading.order)
    for parts in selection.references.values():
        for group in parts.values():
            group.sort(key=lambda reading: reading.order)
    for feature, group in by_feature.items():
        chosen = _one_protocol(group, protocols, leave_out)
        chosen = _one_a_cell(chosen, which, leave_out)
        selection.features[feature] = _lots_named(chosen, leave_out)
    selection.exclusions = _as_records(excluded)
    return selection


def _stopped(reading: Reading) -> str:
    """Say that a test was stopped, and what its charge or energy is known to reach."""
    if math.isnan(reading.value) or not reading.feature.endswith(("_Ah", "_Wh", "_capacity")):
        return STOPPED
    return f"{STOPPED}; {reading.feature} is at least {reading.value:.6g}"


def _reference(reading: Reading, selection: Selection) -> None:
    if reading.state in GOOD_STATES and not math.isnan(reading.value):
        parts = selection.references.setdefault(reading.feature, {})
        parts.setdefault(reading.serial, []).append(reading)


def _out_of_temperature(
    readings: Sequence[Reading], selection: Selection, wanted: WantedTemperature | None
) -> dict[str, str]:
    """Note the temperatures of tests; return what is wrong with those that had another."""
    away: dict[str, str] = {}
    for reading in readings:
        if reading.feature != TEMPERATURE or math.isnan(reading.value):
            continue
        selection.temperatures_degC[reading.seal] = reading.value
        if wanted is None or abs(reading.value - wanted.at) <= wanted.within:
            continue
        away[reading.seal] = (
            f"tested at {reading.value:.1f} degC, not {wanted.at:g} within {wanted.within:g}"
        )
        selection.out_of_temperature.append({
            "seal": reading.seal, "serial": reading.serial, "temperature_degC": reading.value,
            "counts": wanted.otherwise == "list" and reading.state in GOOD_STATES,
        })  # fmt: skip
    return away


def _by_soc(readings: Sequence[Reading]) -> Iterable[Reading]:
    """Tell rows of a table apart that give one feature at several states of charge."""
    found: dict[tuple[str, str], dict[str, dict[float, float]]] = defaultdict(dict)
    for reading in readings:
        if reading.source == "table" and not math.isnan(reading.soc_percent):
            cells = found[reading.seal, reading.feature]
            cells.setdefault(reading.serial, {})[reading.soc_percent] = reading.value
    several = {
        key
        for key, cells in found.items()
        if any(len({v for v in at.values() if not math.isnan(v)}) > 1 for at in cells.values())
    }
    for reading in readings:
        if (reading.seal, reading.feature) in several and not math.isnan(reading.soc_percent):
            yield replace(reading, feature=_named(reading.feature, reading.soc_percent))
        else:
            yield reading


def _named(feature: str, soc_percent: float) -> str:
    """Return ``dcir_10s_50soc_mOhm`` for ``dcir_10s_mOhm`` at 50 %."""
    ending = next((unit for unit in FEATURE_UNITS if feature.endswith(unit)), "")
    return f"{feature.removesuffix(ending)}_{soc_percent:g}soc{ending}"


def _recordings(readings: Sequence[Reading]) -> list[dict[str, str]]:
    unique = {(r.start_utc, r.seal, r.serial): r for r in readings if r.seal or r.serial}
    keys = ("seal", "serial", "supplier", "lot", "channel", "protocol", "start_utc", "state")
    return [{key: getattr(unique[place], key) for key in keys} for place in sorted(unique)]


def _one_protocol(group: list[Reading], protocols: Sequence[str], leave_out: Any) -> list[Reading]:
    """Keep the protocol that most cells have: like is compared with like."""
    places = {name: number for number, name in enumerate(protocols)}
    cells: dict[int, set[str]] = defaultdict(set)
    for reading in group:
        cells[places.get(reading.protocol, -1)].add(reading.serial)
    best = max(cells, key=lambda place: (len(cells[place]), place))
    name = protocols[best] if best >= 0 else "recordings by no protocol of the study"
    kept = []
    for reading in group:
        if places.get(reading.protocol, -1) == best:
            kept.append(reading)
        else:
            leave_out(reading, f"by {reading.protocol or 'no protocol'}: here {name} counts")
    return kept


def _one_a_cell(group: list[Reading], which: str, leave_out: Any) -> list[Reading]:
    by_serial: dict[str, list[Reading]] = defaultdict(list)
    for reading in group:
        by_serial[reading.serial].append(reading)
    kept = []
    for cell in by_serial.values():
        cell.sort(key=lambda reading: reading.order)
        aged = [reading for reading in cell if not math.isnan(reading.cycles)]
        if aged:
            chosen = min(aged, key=lambda reading: reading.cycles)
        else:
            chosen = cell[0] if which == "first valid" else cell[-1]
        kept.append(chosen)
        for reading in cell:
            if reading is not chosen and reading.value != chosen.value:
                later = not math.isnan(reading.cycles)
                leave_out(reading, LATER if later else f"not the {which} recording of this cell")
    return kept


def _lots_named(group: list[Reading], leave_out: Any) -> list[Reading]:
    """Name the lot of cells that have none; leave them out where others have one."""
    with_lots = {reading.supplier for reading in group if reading.lot}
    kept = []
    for reading in group:
        if reading.lot:
            kept.append(reading)
        elif reading.supplier in with_lots:
            leave_out(reading, "its lot is not known, that of the supplier's other cells is")
        else:
            kept.append(replace(reading, lot=NO_LOT))
    return sorted(kept, key=lambda r: (r.supplier, r.lot, r.serial))


def _as_records(
    excluded: Mapping[tuple[str, str, str, str], list[str]],
) -> list[dict[str, str]]:
    return [
        {
            "seal": seal,
            "serial": serial,
            "feature": ", ".join(sorted(set(features))),
            "state": state,
            "reason": reason,
        }
        for (seal, serial, state, reason), features in sorted(excluded.items())
    ]
