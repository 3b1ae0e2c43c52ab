"""One scoring of a study: which values count, and everything that follows from them."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from batterylab import __version__
from batterylab.study import Limit, Study
from batterylab.suppliers import between, entries, physical
from batterylab.suppliers.acceptance import judge, rule_rows
from batterylab.suppliers.budget import TemperatureEffect, budget, temperature_effect
from batterylab.suppliers.capability import Capability, capability
from batterylab.suppliers.courses import courses, moment_of
from batterylab.suppliers.decision import Decision, Judged, decide
from batterylab.suppliers.estimates import Estimate, Measurement, estimate
from batterylab.suppliers.fading import ageing_entry
from batterylab.suppliers.gauging import study_of
from batterylab.suppliers.model import channel_effects, components_entry
from batterylab.suppliers.outlook import would_change
from batterylab.suppliers.pack import loss_percent
from batterylab.suppliers.packcost import cost, population
from batterylab.suppliers.packdrawn import drawn_loss
from batterylab.suppliers.positions import positions_entry
from batterylab.suppliers.ranking import PREFERRED, comparisons, rank, ranking_feature
from batterylab.suppliers.reference import references_entry
from batterylab.suppliers.robust import odd_ones
from batterylab.suppliers.sampling import Reading, Selection, select
from batterylab.suppliers.stakes import stakes
from batterylab.suppliers.trend import Trend
from batterylab.suppliers.units import check_units
from batterylab.suppliers.watch import designs, multivariate_watch, watch
from batterylab.suppliers.weighted import weighted

SCHEMA = "batterylab.scorecard/1"
#: the feature whose spread costs capacity in a pack: the first of these that was measured
PACK_FEATURES = ("capacity_Ah", "relative_capacity")
#: what gets the one model of all its spreads, besides features with limits
MODELLED = (*PREFERRED, "ocv_V", "mass_g")


class Scoring:
    """One scoring of a study.

    Parameters
    ----------
    study : Study
    readings : sequence of Reading
        As `readings_of` gives them.
    confidence : float
        Of the two-sided intervals.
    every_state : bool
        Count what is excluded too, to see what that changes.
    dropped : dict of str to set of str
        Serials to leave out, by feature.
    leave_out_temperature : bool
        Leave out tests at another temperature also where the study merely lists them.
    """

    def __init__(
        self, study: Study, readings: Sequence[Reading], confidence: float, *,
        every_state: bool = False, dropped: dict[str, set[str]] | None = None,
        leave_out_temperature: bool = False,
    ) -> None:  # fmt: skip
        self.study, self.readings, self.confidence = study, readings, confidence
        definition = study.definition
        self.limits = {limit.feature: limit for limit in definition.limits}
        self.selection = self._select(every_state, leave_out_temperature)
        for feature, serials in (dropped or {}).items():
            kept = [r for r in self.selection.features[feature] if r.serial not in serials]
            self.selection.features[feature] = kept
        features = self.selection.features
        found = {r.supplier for group in features.values() for r in group}
        named = [supplier.name for supplier in definition.suppliers]
        self.suppliers = [*named, *sorted(found - set(named))]
        limited = [name for name in self.limits if name in features]
        rest = sorted(set(features) - set(limited))
        self.features = [name for name in (*limited, *rest) if features[name]]
        self.corrections = self._correct_channels()
        self.trends: dict[str, Trend | None] = {}
        self.measurements = {name: self._measurement(name) for name in self.features}
        self.estimates = {name: self._estimates(name) for name in self.features}
        check_units(study.cell_type, self.estimates)
        self.budgets = {name: self._budget(name) for name in self.features}
        self.judged = {name: self._judged(name) for name in self.suppliers}

    def _select(self, every_state: bool, leave_out_temperature: bool) -> Selection:
        definition = self.study.definition
        temperature = definition.temperature
        if temperature is not None and leave_out_temperature:
            temperature = temperature.model_copy(update={"otherwise": "leave out"})
        return select(
            self.readings,
            which=definition.which_recording,
            protocols=definition.protocols,
            reasons={seal: str(row["reason"]) for seal, row in self.study.log.states().items()},
            references=[item.serial for item in definition.references],
            temperature=temperature,
            every_state=every_state,
        )

    def _correct_channels(self) -> dict[str, dict[str, float]]:
        """Take real channel effects out of the values, if the study wants it."""
        if self.study.definition.channel_correction != "apply":
            return {}
        done = {}
        for name in self.features:
            gauge = self.selection.gauge.get(name, [])
            effects = channel_effects(self.selection.features[name], gauge)
            if effects:
                done[name] = effects
                for place in (self.selection.features, self.selection.gauge):
                    place[name] = [
                        dataclasses.replace(r, value=r.value - effects.get(r.channel, 0.0))
                        for r in place.get(name, [])
                    ]
        return done

    def _measurement(self, feature: str) -> Measurement:
        found, trend = study_of(self.selection.gauge.get(feature, []))
        self.trends[feature] = trend
        return Measurement.of(found, self.confidence)

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

    def _budget(self, feature: str) -> dict[str, Any] | None:
        definition, degrees = self.study.definition, self.selection.temperatures_degC
        readings = self.selection.features[feature]
        effect: TemperatureEffect | None = temperature_effect(
            feature, readings, degrees, definition.temperature_coefficients
        )
        known = {r.seal: degrees[r.seal] for r in readings if r.seal in degrees}
        return budget(readings, self.measurements[feature], effect, definition.temperature, known)

    def _judged(self, supplier: str) -> list[Judged]:
        return [self._judged_one(supplier, limit) for limit in self.study.definition.limits]

    def _judged_one(self, supplier: str, limit: Limit) -> Judged:
        found = self.estimates.get(limit.feature, {}).get(supplier)
        if found is None:
            return Judged(limit)
        findings = judge(found.readings, limit, self.measurements[limit.feature].sd)
        return Judged(limit, found, self._capability(found, limit), findings)

    def _capability(self, found: Estimate, limit: Limit) -> Capability | None:
        levels = self.measurements[limit.feature].levels(
            found.sample, found.drawn, limit.lower, limit.upper
        )
        return capability(
            found.sample, found.sd_total, found.drawn, limit.lower, limit.upper,
            target=limit.target, confidence=self.confidence, levels=levels,
        )  # fmt: skip

    @cached_property
    def rules(self) -> list[dict[str, Any]]:
        """The rules of standards, by supplier."""
        rated = self.study.cell_type.rated_capacity_Ah
        rows = []
        for use in self.study.definition.rules:
            for name in self.suppliers:
                values = {
                    feature: [r.value for r in group[name].readings]
                    for feature, group in self.estimates.items()
                    if name in group
                }
                rows += rule_rows(use.rule, use.applied, name, values, rated)
        return rows

    @cached_property
    def decisions(self) -> dict[str, Decision]:
        """The decision on each supplier."""
        found = {
            name: decide(*self._size(name), self.judged[name],
                         [row for row in self.rules if row["supplier"] == name])
            for name in self.suppliers
        }  # fmt: skip
        for name, decision in found.items():
            stopped = {r.serial for r in self.readings
                       if r.supplier == name and r.state == "stopped"}  # fmt: skip
            if stopped:
                decision.risks.append(
                    f"{len(stopped)} cells with a test that was stopped: its values are in no "
                    "figure; if it was stopped because the cell was weak, the figures flatter"
                )
        return found

    def _size(self, supplier: str) -> tuple[int, int]:
        """Return the lots and cells of a supplier: of its best known feature."""
        found = [group[supplier] for group in self.estimates.values() if supplier in group]
        lots = max((item.lots for item in found), default=0)
        return lots, max((item.sample.cells for item in found), default=0)

    def to_dict(self, tell: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
        """Return the scorecard, floats as they come."""
        study, definition = self.study, self.study.definition
        order = self._ranking()
        order["weighted"] = weighted(definition.weights, self.estimates)
        pairs = self._between(order["feature"])
        ageing = self._ageing()
        return {
            "schema": SCHEMA,
            "study": definition.name,
            "cell_type": study.cell_type.to_dict(),
            "generated_utc": self._generated(),
            "software": f"batterylab {__version__}",
            "which_recording": definition.which_recording,
            "seed": self._seed(),
            "confidence": self.confidence,
            "features": {name: self._feature(name) for name in self.features},
            "rules": self.rules,
            "ranking": order,
            "between": pairs,
            "ageing": ageing,
            "decision": {
                name: {**decision.to_dict(), **stakes(self.judged[name], definition.costs)}
                for name, decision in self.decisions.items()
            },
            "consistency": physical.entry(study, self.estimates, self.selection.recordings),
            "pack": self._pack(),
            "watch": self._watch(),
            "exclusions": _told_of_ageing(self.selection.exclusions, ageing),
            "out_of_temperature": self.selection.out_of_temperature,
            "sensitivity": self._sensitivity(),
            "recordings": self.selection.recordings,
            "would_change": [
                *would_change(self.decisions, self.judged, self.measurements,
                              order["probability_best"], self.estimates, bool(definition.rules)),
                *_would_decide(pairs, order["feature"]),
            ],
        }  # fmt: skip

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

    def _between(self, ranked: str | None) -> list[dict[str, Any]]:
        """Decide between suppliers in the feature that ranks and in those with a margin."""
        margins = {item.feature: item for item in self.study.definition.equivalence}
        rows = []
        for name in dict.fromkeys((ranked, *margins)):
            if name is not None and name in self.estimates:
                rows += between.verdicts(
                    name, self.estimates[name], margins.get(name), self.study.definition.costs,
                    between.energy_per_unit(name, self.estimates),
                )  # fmt: skip
        return rows

    def _ageing(self) -> dict[str, Any] | None:
        definition = self.study.definition
        references = [item.serial for item in definition.references]
        found, left_out = courses(self.readings, definition.protocols, references)
        return ageing_entry(found, left_out, self.suppliers)

    def _feature(self, name: str) -> dict[str, Any]:
        limit = self.limits.get(name)
        group = self.estimates[name]
        readings = self.selection.features[name]
        found = self.budgets[name]
        expanded = entries.scattering_uncertainty(found)
        suppliers = {}
        for supplier, item in group.items():
            judged = next((j for j in self.judged[supplier] if j.name == name), None)
            suppliers[supplier] = {
                **item.to_dict(),
                "mean_kenward_roger": entries.mean_entry(item),
                "spread_is_resolved": entries.resolved(item, expanded),
                "tolerance": entries.tolerance_entry(item),
                "capability": entries.capability_entry(judged),
                "conformity": entries.conformity_entry(
                    item, limit, None if found is None else found["standard_uncertainty"]
                ),
                "outside": [f.to_dict() for f in judged.findings] if judged else [],
            }
        return {
            "unit": next((r.unit for r in readings if r.unit), ""),
            "limits": None if limit is None else {
                "lower": limit.lower, "upper": limit.upper, "target": limit.target,
                "decision_rule": limit.decision_rule,
            },
            "measurement": self._measurement_entry(name),
            "components": components_entry(readings, self.selection.gauge.get(name, []))
            if limit is not None or name in MODELLED else None,
            "suppliers": suppliers,
            "comparisons": comparisons(group, self.measurements[name], self.confidence),
            "values": [entries.value_entry(reading) for reading in readings],
        }  # fmt: skip

    def _measurement_entry(self, name: str) -> dict[str, Any]:
        limit, trend = self.limits.get(name), self.trends[name]
        width = None
        if limit is not None and limit.lower is not None and limit.upper is not None:
            width = limit.upper - limit.lower
        samples = [found.sample for found in self.estimates[name].values()]
        return {
            **self.measurements[name].to_dict(samples, self.confidence),
            "trend": None if trend is None else trend.to_dict(),
            "budget": self.budgets[name],
            "positions": positions_entry(self.selection.features[name], self._positions),
            "references": references_entry(name, self.study.definition.references,
                                           self.selection.references.get(name, {}), width),
            "channel_corrections": self.corrections.get(name),
        }  # fmt: skip

    @cached_property
    def _positions(self) -> dict[str, str]:
        """The block (module and shelf) of each channel, as the log has it from loading."""
        loads = (entry["data"] for entry in self.study.log.entries("load"))
        return {load["channel"]: load["block"] for load in loads if "block" in load}

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
            values = np.array([reading.value for reading in found.readings])
            lots = [reading.lot for reading in found.readings]
            drawn = drawn_loss(values, lots, pack.series, pack.parallel)
            people = population(name, feature, self.estimates, self.study.cell_type,
                                drawn is not None)  # fmt: skip
            suppliers[name] = {
                "cv_percent": cv,
                "loss_percent": None if cv is None
                else loss_percent(cv, pack.series, pack.parallel),
                "loss_percent_interval": losses,
                "drawn": None if drawn is None else drawn.to_dict(),
                "simulated": None if people is None else cost(people, pack, self.study.cell_type),
            }  # fmt: skip
        return {"series": pack.series, "parallel": pack.parallel,
                "consumption_Wh_per_km": pack.consumption_Wh_per_km,
                "suppliers": suppliers}  # fmt: skip

    def _watch(self) -> dict[str, Any] | None:
        """Return the charts of the lots; None where no supplier has lots enough."""
        design = self.study.definition.watch
        charts: dict[str, dict[str, Any]] = {}
        for feature, group in self.estimates.items():
            for name, found in group.items():
                entry = watch(found.readings, design)
                if entry is not None:
                    charts.setdefault(feature, {})[name] = entry
        if not charts:
            return None
        return {
            "design": design.model_dump(),
            "run_lengths": designs(design),
            "features": charts,
            "together": multivariate_watch(self.estimates, self.suppliers),
        }

    def _sensitivity(self) -> list[dict[str, Any]]:
        """Return the decisions with what was left out, and without what is odd."""
        cases: list[tuple[str, dict[str, Any]]] = []
        if self.selection.exclusions:
            cases.append(("what is excluded counted too", {"every_state": True}))
        odd = self._odd()
        if odd:
            cases.append(("cells far off their lot left out", {"dropped": odd}))
        if any(row["counts"] for row in self.selection.out_of_temperature):
            cases.append(("tests at another temperature left out",
                          {"leave_out_temperature": True}))  # fmt: skip
        rows = []
        for case, options in cases:
            other = Scoring(self.study, self.readings, self.confidence, **options)
            feature = ranking_feature(other.features, list(other.limits))
            rows.append({
                "case": case,
                "verdicts": {name: item.verdict for name, item in other.decisions.items()},
                "changed": [name for name, item in other.decisions.items()
                            if name in self.decisions
                            and item.verdict != self.decisions[name].verdict],
                "feature": feature,
                "means": {} if feature is None else {
                    name: found.sample.mean for name, found in other.estimates[feature].items()
                },
                "sd_total": {} if feature is None else {
                    name: found.sd_total for name, found in other.estimates[feature].items()
                },
            })  # fmt: skip
        return rows

    def _odd(self) -> dict[str, set[str]]:
        """Return the cells that are named as odd, by limited feature."""
        found: dict[str, set[str]] = {}
        for feature in self.features:
            for item in self.estimates[feature].values():
                values = [reading.value for reading in item.readings]
                for place, _ in odd_ones(values, [reading.lot for reading in item.readings]):
                    found.setdefault(feature, set()).add(item.readings[place].serial)
        return found

    def _generated(self) -> str | None:
        """Return the time of the last thing that happened to the study; None if nothing has one."""
        times = [str(row["start_utc"]) for row in self.selection.recordings]
        times += [str(entry.get("time_utc", "")) for entry in self.study.log.entries()]
        moments = [moment for text in times if (moment := moment_of(text)) is not None]
        return max(moments).replace(microsecond=0).isoformat() if moments else None

    def _seed(self) -> int | None:
        """Return the seed of the allotment to channels, as the log holds it."""
        for entry in reversed(self.study.log.entries("allot")):
            seed = entry["data"].get("seed")
            if isinstance(seed, int):
                return seed
        return None


def _told_of_ageing(
    exclusions: Sequence[dict[str, str]], ageing: dict[str, Any] | None
) -> list[dict[str, str]]:
    """Return what was left out, saying of later recordings that they count for ageing."""
    seals = {seal for cell in ageing["cells"] for seal in cell["seals"]} if ageing else set()
    return [
        {**row, "reason": f"{row['reason']}; it counts for ageing"}
        if row["seal"] in seals and row["reason"].startswith("not the ") else row
        for row in exclusions
    ]  # fmt: skip


def _would_decide(pairs: Sequence[dict[str, Any]], feature: str | None) -> list[str]:
    """Say what would decide between suppliers."""
    texts = []
    for row in pairs:
        if row["feature"] != feature or row["verdict"] != "NOT DECIDED":
            continue
        lots = row["lots_to_decide"]
        who = f"between {row['a']} and {row['b']}"
        if lots is None:
            texts.append(f"{who}: more lots; as things stand no number up to "
                         f"{between.MOST_LOTS} of each is known to decide")  # fmt: skip
        else:
            texts.append(f"{who}: about {lots} lots of each, were means and spreads as seen")
    return texts
