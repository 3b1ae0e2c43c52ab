"""The scorecard as the report reads it: tolerant of nulls, missing parts and hostile text.

A scorecard is a dict of schema ``batterylab.scorecard/1``. Whatever in it is null, missing or
of a wrong type becomes an empty value here, once, so that no later code has to ask.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from batterylab.errors import BatterylabError
from batterylab.report.words import decimals_for, finite, name_of, plain, unit_of

#: the characteristics that get a page of six charts even without limits
HEADLINE = (
    "capacity_Ah", "relative_capacity", "dcir_10s_mOhm", "ac_resistance_mOhm", "energy_Wh",
)  # fmt: skip
SCHEMA = "batterylab.scorecard/1"


def mapping(value: Any) -> dict[str, Any]:
    """Return a dict with printable text keys; anything else gives an empty one."""
    return {plain(key): item for key, item in value.items()} if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """Return a list; anything else but a tuple gives an empty one."""
    return list(value) if isinstance(value, list | tuple) else []


def records(value: Any) -> list[dict[str, Any]]:
    """Return the dicts of a list."""
    return [item for item in sequence(value) if isinstance(item, dict)]


def texts(value: Any) -> tuple[str, ...]:
    """Return the texts of a list, each as one printable line, without the empty ones."""
    if isinstance(value, str):
        value = [value]
    found = (plain(item) for item in sequence(value) if item is not None)
    return tuple(text for text in found if text)


def pair(value: Any) -> tuple[float | None, float | None]:
    """Return the two ends of an interval; a missing interval has two unknown ends."""
    ends = sequence(value)
    return (finite(ends[0]), finite(ends[1])) if len(ends) == 2 else (None, None)


def text(record: dict[str, Any], key: str) -> str:
    """Return a field as one printable line; null and missing are empty."""
    value = record.get(key)
    return "" if value is None else plain(value)


@dataclass(frozen=True)
class Value:
    """One value of a characteristic: of one cell, drawn from one recording."""

    serial: str
    supplier: str
    lot: str
    value: float
    uncertainty: float | None
    channel: str
    seal: str
    start_utc: str


@dataclass(frozen=True)
class Characteristic:
    """One feature of the scorecard.

    Attributes
    ----------
    name, unit : str
        As the feature is called, and its unit as printed.
    lower, upper : float or None
        Acceptance limits in that unit.
    decision_rule : str
        How measurement uncertainty counts at the limits; empty without limits.
    measurement : dict
        What is known of the bench's own scatter.
    suppliers : dict of str to dict
        Statistics by supplier, in the study's order.
    comparisons : list of dict
        One for each pair of suppliers.
    values : list of Value
        One a cell, in order of time where times are known.
    decimals : int
        How many decimals show the spread with two digits.
    components : dict
        The one model of all its spreads.
    """

    name: str
    unit: str
    lower: float | None
    upper: float | None
    decision_rule: str
    measurement: dict[str, Any]
    suppliers: dict[str, dict[str, Any]]
    comparisons: list[dict[str, Any]]
    values: list[Value]
    decimals: int
    components: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Name in words, without the unit."""
        return name_of(self.name)

    @property
    def label(self) -> str:
        """Name and unit for an axis."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def limits(self) -> tuple[float, ...]:
        """The limits there are, lower first."""
        return tuple(limit for limit in (self.lower, self.upper) if limit is not None)

    def of(self, supplier: str) -> list[Value]:
        """Return the values of one supplier."""
        return [value for value in self.values if value.supplier == supplier]


@dataclass(frozen=True)
class Card:
    """A scorecard, read.

    Attributes
    ----------
    raw : dict
        As it came.
    suppliers : list of str
        In the order of ranking where there is one, else as found.
    features : dict of str to Characteristic
    code : str
        SHA-256 over the scorecard as canonical JSON, 64 hex digits.
    """

    raw: dict[str, Any]
    study: str
    generated_utc: str
    software: str
    suppliers: list[str]
    features: dict[str, Characteristic]
    code: str
    recordings: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ranking(self) -> dict[str, Any]:
        """The ranking; empty if there is none."""
        return mapping(self.raw.get("ranking"))

    @property
    def moment(self) -> datetime | None:
        """When the scorecard was made; None if it does not say."""
        try:
            moment = datetime.fromisoformat(self.generated_utc)
        except ValueError:
            return None
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

    def headline(self) -> list[Characteristic]:
        """Return the characteristics that get a page of their own, the ranked one first.

        These are the ones with limits and those of `HEADLINE`; if there are none of either,
        the first four.
        """
        ranked = text(self.ranking, "feature")
        chosen = [c for n, c in self.features.items() if c.limits or n in HEADLINE or n == ranked]
        order = {name: place for place, name in enumerate((ranked, *HEADLINE))}
        chosen = sorted(chosen, key=lambda c: order.get(c.name, len(order)))
        return chosen or list(self.features.values())[:4]


def read_card(scorecard: Any) -> Card:
    """Read a scorecard.

    Parameters
    ----------
    scorecard : dict
        Of schema ``batterylab.scorecard/1``.

    Raises
    ------
    BatterylabError
        If it is no dict, or of another schema.
    """
    if not isinstance(scorecard, dict):
        raise BatterylabError("the scorecard is not an object", hint="`batterylab score` makes one")
    found = scorecard.get("schema")
    if found not in (None, SCHEMA):
        raise BatterylabError(
            f"a scorecard of schema {plain(found)!r} cannot be reported", hint=f"expected {SCHEMA}"
        )
    rows = records(scorecard.get("recordings"))
    recordings = [{key: text(row, key) for key in map(str, row)} for row in rows]
    times = {row["seal"]: row.get("start_utc", "") for row in recordings if row.get("seal")}
    features = {
        name: _characteristic(name, item, times)
        for name, item in mapping(scorecard.get("features")).items()
        if isinstance(item, dict)
    }
    software = scorecard.get("software")
    return Card(
        raw=scorecard,
        study=text(scorecard, "study") or "study",
        generated_utc=text(scorecard, "generated_utc"),
        software=_software(software),
        suppliers=_suppliers(scorecard, features.values()),
        features=features,
        code=_code(scorecard),
        recordings=recordings,
    )


def _software(software: Any) -> str:
    if isinstance(software, dict):
        return ", ".join(f"{plain(name)} {plain(item)}" for name, item in software.items())
    return "" if software is None else plain(software)


def _code(scorecard: dict[str, Any]) -> str:
    canonical = json.dumps(scorecard, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _suppliers(scorecard: dict[str, Any], features: Iterable[Characteristic]) -> list[str]:
    """Return all suppliers named anywhere: ranked ones first, then those with a decision."""
    ranked = texts(mapping(scorecard.get("ranking")).get("order"))
    found = [*ranked, *mapping(scorecard.get("decision"))]
    for feature in features:
        found += [*feature.suppliers, *(value.supplier for value in feature.values)]
    return [name for name in dict.fromkeys(found) if name]


def _characteristic(name: str, item: dict[str, Any], times: dict[str, str]) -> Characteristic:
    limits = mapping(item.get("limits"))
    suppliers = {key: mapping(one) for key, one in mapping(item.get("suppliers")).items()}
    values = [value for row in records(item.get("values")) if (value := _value(row, times))]
    if all(value.start_utc for value in values):
        values.sort(key=lambda value: (value.start_utc, value.serial))
    spreads = [finite(one.get("sd_total")) for one in suppliers.values()]
    spread = min((sd for sd in spreads if sd), default=None)
    numbers = [value.value for value in values]
    numbers += [mean for one in suppliers.values() if (mean := finite(one.get("mean"))) is not None]
    return Characteristic(
        name=name,
        unit=_unit(text(item, "unit")) or unit_of(name),
        lower=finite(limits.get("lower")),
        upper=finite(limits.get("upper")),
        decision_rule=text(limits, "decision_rule"),
        measurement=mapping(item.get("measurement")),
        suppliers=suppliers,
        comparisons=records(item.get("comparisons")),
        values=values,
        decimals=decimals_for(numbers, spread),
        components=mapping(item.get("components")),
    )


def _unit(unit: str) -> str:
    return {"mOhm": "mΩ", "ohm": "Ω", "degC": "°C", "percent": "%", "1": "", "ratio": ""}.get(
        unit, unit
    )


def _value(row: dict[str, Any], times: dict[str, str]) -> Value | None:
    value = finite(row.get("value"))
    if value is None:
        return None
    seal = text(row, "seal")
    return Value(
        serial=text(row, "serial"),
        supplier=text(row, "supplier") or "unknown",
        lot=text(row, "lot"),
        value=value,
        uncertainty=finite(row.get("uncertainty")),
        channel=text(row, "channel"),
        seal=seal,
        start_utc=times.get(seal, ""),
    )
