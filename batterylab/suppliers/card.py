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
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batterylab import __version__
from batterylab.errors import EnvironmentFailedError
from batterylab.study import Limit, Study
from batterylab.suppliers.acceptance import FEATURE, judge, rule_rows
from batterylab.suppliers.capability import Capability, capability
from batterylab.suppliers.decision import Judged, decide
from batterylab.suppliers.estimates import Estimate, Measurement, estimate
from batterylab.suppliers.measurement import gauge_study
from batterylab.suppliers.nodes import CONFIDENCE
from batterylab.suppliers.outlook import would_change
from batterylab.suppliers.pack import loss_percent
from batterylab.suppliers.ranking import comparisons, rank, ranking_feature
from batterylab.suppliers.sampling import Reading, Selection, readings_of, select
from batterylab.suppliers.watch import designs, watch

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "batterylab.scorecard/1"
FILE = "scorecard.json"
#: the feature whose spread costs capacity in a pack: the first of these that was measured
PACK_FEATURES = ("capacity_Ah", "relative_capacity")
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
    readings = readings_of(table)
    selection = select(
        readings,
        which=study.definition.which_recording,
        protocols=study.definition.protocols,
        reasons={seal: str(item["reason"]) for seal, item in study.log.states().items()},
    )
    return Scorecard(_plain(_Scoring(study, selection, confidence).to_dict()))


class _Scoring:
    """One scoring: the selection, and what follows from it."""

    def __init__(self, study: Study, selection: Selection, confidence: float) -> None:
        self.study = study
        self.selection = selection
        self.confidence = confidence
        definition = study.definition
        self.limits = {limit.feature: limit for limit in definition.limits}
        found = {r.supplier for group in selection.features.values() for r in group}
        named = [supplier.name for supplier in definition.suppliers]
        self.suppliers = [*named, *sorted(found - set(named))]
        limited = [name for name in self.limits if name in selection.features]
        rest = sorted(set(selection.features) - set(limited))
        self.features = [name for name in (*limited, *rest) if selection.features[name]]
        self.measurements = {name: self._measurement(name) for name in self.features}
        self.estimates = {name: self._estimates(name) for name in self.features}
        self.judged = {name: self._judged(name) for name in self.suppliers}

    def _measurement(self, feature: str) -> Measurement:
        gauge = self.selection.gauge.get(feature, [])
        study = gauge_study((r.serial, r.channel, r.value) for r in gauge)
        return Measurement.of(study, self.confidence)

    def _estimates(self, feature: str) -> dict[str, Estimate]:
        groups: dict[str, list[Reading]] = {name: [] for name in self.suppliers}
        for reading in self.selection.features[feature]:
            groups[reading.supplier].append(reading)
        measurement = self.measurements[feature]
        return {
            name: estimate(group, measurement, self.confidence)
            for name, group in groups.items()
            if group
        }

    def _judged(self, supplier: str) -> list[Judged]:
        return [self._judged_one(supplier, limit) for limit in self.study.definition.limits]

    def _judged_one(self, supplier: str, limit: Limit) -> Judged:
        found = self.estimates.get(limit.feature, {}).get(supplier)
        if found is None:
            return Judged(limit)
        findings = judge(found.readings, limit, self.measurements[limit.feature].sd)
        return Judged(limit, found, self._capability(found, limit), findings)

    def _capability(self, found: Estimate, limit: Limit) -> Capability | None:
        return capability(found.sample, found.sd_total, found.drawn, limit.lower, limit.upper)

    def to_dict(self) -> dict[str, Any]:
        """Return the scorecard, floats as they come."""
        study = self.study
        rules = self._rules()
        decisions = {
            name: decide(*self._size(name), self.judged[name],
                         [row for row in rules if row["supplier"] == name])
            for name in self.suppliers
        }  # fmt: skip
        order = self._ranking()
        return {
            "schema": SCHEMA,
            "study": study.definition.name,
            "cell_type": study.cell_type.to_dict(),
            "generated_utc": self._generated(),
            "software": f"batterylab {__version__}",
            "which_recording": study.definition.which_recording,
            "seed": self._seed(),
            "confidence": self.confidence,
            "features": {name: self._feature(name) for name in self.features},
            "rules": rules,
            "ranking": order,
            "decision": {name: decision.to_dict() for name, decision in decisions.items()},
            "pack": self._pack(),
            "watch": self._watch(),
            "exclusions": self.selection.exclusions,
            "recordings": self.selection.recordings,
            "would_change": would_change(
                decisions, self.judged, self.measurements, order["probability_best"]
            ),
        }

    def _size(self, supplier: str) -> tuple[int, int]:
        """Return the lots and cells of a supplier: of its best known feature."""
        found = [group[supplier] for group in self.estimates.values() if supplier in group]
        lots = max((item.lots for item in found), default=0)
        return lots, max((item.sample.cells for item in found), default=0)

    def _rules(self) -> list[dict[str, Any]]:
        rated = self.study.cell_type.rated_capacity_Ah
        group = self.estimates.get(FEATURE, {})
        rows = []
        for rule in self.study.definition.rules:
            for name in self.suppliers:
                values = [r.value for r in group[name].readings] if name in group else []
                rows += rule_rows(rule, name, values, rated)
        return rows

    def _ranking(self) -> dict[str, Any]:
        feature = ranking_feature(self.features, list(self.limits))
        if feature is None:
            return {
                "feature": None,
                "better": None,
                "order": list(self.suppliers),
                "probability_best": {},
                "statement": "no feature has a valid value: there is nothing to rank",
            }
        return rank(feature, self.estimates[feature])

    def _feature(self, name: str) -> dict[str, Any]:
        limit = self.limits.get(name)
        group = self.estimates[name]
        readings = self.selection.features[name]
        suppliers = {}
        for supplier, found in group.items():
            entry = found.to_dict()
            judged = self._judged_of(supplier, name)
            entry["capability"] = _capability_entry(judged.capability if judged else None)
            entry["outside"] = [f.to_dict() for f in judged.findings] if judged else []
            suppliers[supplier] = entry
        samples = [found.sample for found in group.values()]
        return {
            "unit": next((r.unit for r in readings if r.unit), ""),
            "limits": None if limit is None else {
                "lower": limit.lower, "upper": limit.upper, "decision_rule": limit.decision_rule,
            },
            "measurement": self.measurements[name].to_dict(samples, self.confidence),
            "suppliers": suppliers,
            "comparisons": comparisons(group, self.measurements[name], self.confidence),
            "values": [_value(reading) for reading in readings],
        }  # fmt: skip

    def _judged_of(self, supplier: str, feature: str) -> Judged | None:
        return next((item for item in self.judged[supplier] if item.name == feature), None)

    def _pack(self) -> dict[str, Any] | None:
        pack = self.study.definition.pack
        feature = next((name for name in PACK_FEATURES if name in self.estimates), None)
        if pack is None or feature is None:
            return None
        suppliers = {}
        for name, found in self.estimates[feature].items():
            cv, interval = found.cv_percent, found.cv_interval()
            losses = None if interval is None else [
                loss_percent(end, pack.series, pack.parallel) for end in interval
            ]  # fmt: skip
            loss = None if cv is None else loss_percent(cv, pack.series, pack.parallel)
            suppliers[name] = {
                "cv_percent": cv,
                "loss_percent": loss,
                "loss_percent_interval": losses,
            }
        return {"series": pack.series, "parallel": pack.parallel, "suppliers": suppliers}

    def _watch(self) -> dict[str, Any] | None:
        """Return the charts of the lots; None where no supplier has lots enough."""
        charts: dict[str, dict[str, Any]] = {}
        for feature, group in self.estimates.items():
            for name, found in group.items():
                entry = watch(found.readings)
                if entry is not None:
                    charts.setdefault(feature, {})[name] = entry
        return {"run_lengths": designs(), "features": charts} if charts else None

    def _generated(self) -> str | None:
        """Return the time of the last thing that happened to the study; None if nothing has one."""
        times = [str(row["start_utc"]) for row in self.selection.recordings]
        times += [str(entry.get("time_utc", "")) for entry in self.study.log.entries()]
        moments = [moment for text in times if (moment := _moment(text)) is not None]
        return max(moments).replace(microsecond=0).isoformat() if moments else None

    def _seed(self) -> int | None:
        """Return the seed of the allotment to channels, as the log holds it."""
        for entry in reversed(self.study.log.entries("allot")):
            seed = entry["data"].get("seed")
            if isinstance(seed, int):
                return seed
        return None


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _capability_entry(found: Capability | None) -> dict[str, Any] | None:
    if found is None:
        return None
    keys = ("cp", "cpk", "cpk_lower_95", "n", "fraction_outside", "fraction_outside_upper_95")
    return {key: getattr(found, key) for key in keys}


def _value(reading: Reading) -> dict[str, Any]:
    keys = ("serial", "supplier", "lot", "channel", "value", "uncertainty", "seal")
    return {key: getattr(reading, key) for key in keys}


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
