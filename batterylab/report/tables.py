"""The tables of the report."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from batterylab.report.card import (
    Card,
    Characteristic,
    mapping,
    pair,
    records,
    text,
)
from batterylab.report.model import Block, Column, Facts, Paragraph, Section, Table
from batterylab.report.words import (
    MISSING,
    counted,
    estimate,
    finite,
    interval,
    name_of,
    number,
    plain,
    probability,
    significant,
    unit_of,
)

_INSTRUMENTS = (
    Column("Role", weight=0.8), Column("Model", weight=1.5), Column("Serial", weight=1.2),
    Column("Calibration due", weight=1.0), Column("Recordings", "right", 0.8),
)  # fmt: skip
_RECORDINGS = (
    Column("Code", weight=1.0), Column("Serial", weight=1.6), Column("Supplier", weight=1.2),
    Column("Lot", weight=0.8), Column("Channel", weight=0.8), Column("Protocol", weight=2.0),
    Column("Start (UTC)", weight=1.8), Column("State", weight=1.0),
)  # fmt: skip


def count(value: Any) -> str:
    """Return a count, or a dash."""
    found = finite(value)
    return MISSING if found is None else f"{found:.0f}"


def with_interval(row: dict[str, Any], key: str, decimals: int | None = None) -> str:
    """Return a number with the interval that stands beside it as ``<key>_interval``."""
    return estimate(row.get(key), *pair(row.get(f"{key}_interval")), decimals)


def outside(one: Characteristic, supplier: str) -> list[str]:
    """Return the cells of a supplier outside the limits: serial, value, side."""
    rows = records(one.suppliers.get(supplier, {}).get("outside"))
    return [
        f"{text(row, 'serial') or '?'} ({number(row.get('value'), one.decimals)}"
        f"{', ' + text(row, 'side') if text(row, 'side') else ''})"
        for row in rows
    ]


def means(card: Card, shown: Sequence[Characteristic]) -> Table:
    """Return means and spreads of each supplier for the characteristics shown."""
    columns = (
        Column("Characteristic", weight=1.8),
        Column("Supplier", weight=1.1),
        Column("Lots", "right", 0.4),
        Column("Cells", "right", 0.45),
        Column("Mean (95 %)", "right", 2.2),
        Column("CV in % (95 %)", "right", 2.0),
        Column("Smallest and largest", "right", 1.4),
    )
    rows = []
    for one in shown:
        label = one.label
        for name in card.suppliers:
            if name not in one.suppliers:
                continue
            row = one.suppliers[name]
            rows.append((
                label, name, count(row.get("lots")), count(row.get("cells")),
                with_interval(row, "mean", one.decimals), with_interval(row, "cv_percent", 2),
                interval(row.get("minimum"), row.get("maximum"), one.decimals),
            ))  # fmt: skip
    return Table("means", "Means and coefficients of variation (CV)", columns, tuple(rows),
                 small=True, grouped=True)  # fmt: skip


def comparisons(shown: Sequence[Characteristic]) -> Table:
    """Return the differences between pairs of suppliers."""
    columns = (
        Column("Characteristic", weight=1.6),
        Column("Pair", weight=1.5),
        Column("Difference (95 %)", "right", 2.1),
        Column("P(first higher)", "right", 0.9),
        Column("p-value", "right", 0.7),
        Column("Ratio of SD (95 %)", "right", 1.7),
    )
    rows = []
    for one in shown:
        label = one.label
        for row in one.comparisons:
            rows.append((
                label, f"{text(row, 'a')} − {text(row, 'b')}",
                estimate(row.get("difference"), *pair(row.get("interval")), one.decimals),
                probability(row.get("probability_a_higher")), _p_value(row.get("p_value")),
                with_interval(row, "sigma_ratio", 2),
            ))  # fmt: skip
    said = "Differences between suppliers, first minus second; lots are the sampling unit"
    return Table("comparisons", said, columns, tuple(rows), small=True, grouped=True)


def _p_value(value: Any) -> str:
    found = finite(value)
    if found is None:
        return MISSING
    return "< 0.001" if found < 0.001 else f"{found:.3f}"


def gates(card: Card) -> Table:
    """Return the gates of the study's rules."""
    columns = (
        Column("Rule", weight=1.1),
        Column("Clause", weight=0.8),
        Column("Requirement", weight=2.4),
        Column("Supplier", weight=0.9),
        Column("Value", "right", 0.9),
        Column("Limit", "right", 0.9),
        Column("Result", weight=0.8),
        Column("Mark", weight=0.4),
    )
    rows, tones = [], []
    for row in records(card.raw.get("rules")):
        met = row.get("met")
        rows.append((
            text(row, "rule"), text(row, "clause"), _requirement(row),
            text(row, "supplier"), _loose(row.get("value")), _loose(row.get("limit")),
            "met" if met is True else "NOT MET" if met is False else "not judged",
            text(row, "mark"),
        ))  # fmt: skip
        tones.append("" if met is True else "warning" if met is False else "note")
    return Table("gates", "Gates", columns, tuple(rows), small=True, tones=tuple(tones))


def _requirement(row: dict[str, Any]) -> str:
    """Return what is required, and why it could not be judged."""
    reason = row.get("reason")
    said = text(row, "requirement")
    return f"{said}. Not judged: {reason}" if reason else said


def _loose(value: Any) -> str:
    """Return a number, a text, or a list of either."""
    if isinstance(value, list | tuple):
        return ", ".join(_loose(item) for item in value)
    if value is None:
        return MISSING
    return number(value) if finite(value) is not None else plain(value)


def others(card: Card, rest: Sequence[Characteristic]) -> Table:
    """Return the characteristics that get no page: mean, spread and n."""
    columns = (
        Column("Characteristic", weight=2.0),
        Column("Supplier", weight=1.2),
        Column("Cells", "right", 0.5),
        Column("Mean (95 %)", "right", 2.2),
        Column("SD (95 %)", "right", 2.2),
    )
    rows = []
    for one in rest:
        label = one.label
        for name in card.suppliers:
            if name in one.suppliers:
                row = one.suppliers[name]
                rows.append((
                    label, name, count(row.get("cells")), with_interval(row, "mean", one.decimals),
                    with_interval(row, "sd_total", one.decimals),
                ))  # fmt: skip
    said = "Characteristics without limits"
    return Table("others", said, columns, tuple(rows), small=True, grouped=True)


def measurement(card: Card) -> Section:
    """Return what is known of the bench's own scatter."""
    columns = (
        Column("Characteristic", weight=1.5),
        Column("Corrected", weight=0.75),
        Column("Repeatability (SD)", "right", 1.1),
        Column("Reproducibility (SD)", "right", 1.25),
        Column("Bench SD (95 %)", "right", 1.8),
        Column("%GRR (95 %)", "right", 1.2),
        Column("Distinct categories (95 %)", "right", 1.2),
        Column("Cells × channels × repeats", "right", 0.95),
    )
    rows: list[tuple[str, ...]] = []
    notes: dict[str, list[str]] = {}
    for one in card.features.values():
        found = one.measurement
        if text(found, "note"):
            notes.setdefault(text(found, "note"), []).append(one.label)
        if finite(found.get("gauge_sd")) is None:
            continue
        size = " × ".join(count(found.get(key)) for key in ("cells", "channels", "repeats"))
        rows.append((
            one.label, "yes" if found.get("corrected") is True else "no",
            _digits(found.get("repeatability_sd")), _digits(found.get("reproducibility_sd")),
            _spread(found, "gauge_sd", "gauge_interval"),
            with_interval(found, "grr_percent", 0), with_interval(found, "categories", 1), size,
        ))  # fmt: skip
    blocks: list[Block] = []
    if rows:
        said = "Measurement system, from the gauge study, each in the unit of its characteristic"
        blocks.append(Table("measurement", said, columns, tuple(rows), small=True))
    missing = [one.label for one in card.features.values()
               if finite(one.measurement.get("gauge_sd")) is None
               and not text(one.measurement, "note")]  # fmt: skip
    if missing:
        notes["the bench's own scatter is not known, and the spread not corrected for it"] = missing
    blocks += [Paragraph(f"{', '.join(who)}: {note}", "note") for note, who in notes.items()]
    return Section("Measurement system", tuple(blocks) or (_nothing("No characteristics."),))


def _two(value: Any) -> float | None:
    """Return a number rounded to three significant digits, as a spread is printed."""
    found = finite(value)
    return None if found is None else float(f"{found:.3g}")


def _spread(row: dict[str, Any], key: str, interval_key: str) -> str:
    low, high = pair(row.get(interval_key))
    return estimate(_two(row.get(key)), _two(low), _two(high))


def _digits(value: Any) -> str:
    return number(_two(value))


def _nothing(said: str) -> Paragraph:
    return Paragraph(said, "note")


def components(card: Card) -> Section:
    """Return the variance components, and the lots one by one."""
    columns = (
        Column("Characteristic", weight=1.9),
        Column("Supplier", weight=1.1),
        Column("SD between lots (95 %)", "right", 2.2),
        Column("SD between cells (95 %)", "right", 2.2),
        Column("SD total (95 %)", "right", 2.2),
    )
    spreads = ("sd_lot", "sd_cell", "sd_total")
    rows = [
        (one.label, name,
         *(with_interval(one.suppliers[name], key, one.decimals) for key in spreads))
        for one in card.features.values() for name in card.suppliers if name in one.suppliers
    ]  # fmt: skip
    if not rows:
        return Section("Variance components", (_nothing("No spread can be stated."),))
    said = "Standard deviations (SD)"
    blocks: list[Block] = [
        Table("components", said, columns, tuple(rows), small=True, grouped=True)
    ]
    lots = _lot_table(card)
    blocks.append(lots if lots.rows else _nothing("The cells belong to no lots."))
    return Section("Variance components", tuple(blocks))


def _lot_table(card: Card) -> Table:
    columns = (
        Column("Characteristic", weight=1.9),
        Column("Supplier", weight=1.1),
        Column("Lot", weight=0.9),
        Column("Cells", "right", 0.5),
        Column("Mean (95 %)", "right", 2.2),
        Column("SD (95 %)", "right", 2.2),
    )
    rows = []
    for one in card.headline():
        label = one.label
        for name in card.suppliers:
            for lot, row in mapping(one.suppliers.get(name, {}).get("lot")).items():
                found = mapping(row)
                rows.append((
                    label, name, lot, count(found.get("cells")),
                    with_interval(found, "mean", one.decimals),
                    with_interval(found, "sd", one.decimals),
                ))  # fmt: skip
    return Table("lots", "Lots", columns, tuple(rows), small=True, grouped=True)


def pack(card: Card) -> Section | None:
    """Return what the spread costs a pack; None if the study names no pack."""
    found = mapping(card.raw.get("pack"))
    suppliers = mapping(found.get("suppliers"))
    if not found:
        return None
    columns = (
        Column("Supplier", weight=1.5),
        Column("CV in %", "right"),
        Column("Loss in % (95 %), normal cells", "right", 2.0),
        Column("Loss in % (95 %), drawn from the cells", "right", 2.0),
    )
    rows = tuple(
        (name, number(mapping(suppliers[name]).get("cv_percent"), 2),
         with_interval(mapping(suppliers[name]), "loss_percent", 2),
         _drawn(mapping(mapping(suppliers[name]).get("drawn"))))
        for name in (*card.suppliers, *(n for n in suppliers if n not in card.suppliers))
        if name in suppliers
    )  # fmt: skip
    size = f"{count(found.get('series'))}s{count(found.get('parallel'))}p"
    alone = finite(found.get("parallel")) == 1
    unit = "cell" if alone else "group"
    each = "" if alone else f", each of {count(found.get('parallel'))} cells in parallel,"
    said = (
        f"A pack of {count(found.get('series'))} {unit}s in series{each} gives what its weakest "
        f"{unit} gives. The loss is against the mean capacity, for cells mixed at random."
    )
    blocks: list[Block] = [Paragraph(said)]
    odd = [name for name in suppliers if mapping(mapping(suppliers[name]).get("drawn"))]
    if odd:
        blocks.append(Paragraph(
            f"{', '.join(odd)}: the cells are not normal (D'Agostino and Pearson, p < 0.01): the "
            "figure for normal cells does not hold, the one drawn from the cells themselves does, "
            "as far as they show the weakest that are made.", "warning",
        ))  # fmt: skip
    table = Table("pack", f"Capacity lost to spread in a pack {size}", columns, rows)
    return Section("Pack", (*blocks, table))


def _drawn(found: dict[str, Any]) -> str:
    if not found:
        return "cells may be normal"
    return estimate(found.get("loss_percent"), *pair(found.get("interval")), 2)


def _as_dicts(fits: Any) -> list[dict[str, Any]]:
    """Return fits as dicts, from a list, a dict by seal, or objects with `to_dict`."""
    if isinstance(fits, dict):
        fits = fits.values()
    found: list[dict[str, Any]] = []
    for item in fits if isinstance(fits, Iterable) and not isinstance(fits, str) else ():
        if hasattr(item, "to_dict"):
            found.append(mapping(item.to_dict()))
        elif isinstance(item, dict):
            found.append(mapping(item))
        elif isinstance(item, list | tuple):
            found += _as_dicts(item)
    return found


def fits(card: Card, fits: Any) -> Section | None:
    """Return the parameters of the fits by supplier, with their standard errors."""
    found = _as_dicts(fits)
    if not found:
        return None
    columns = (
        Column("Model", weight=0.8),
        Column("Parameter", weight=2.0),
        Column("Supplier", weight=1.1),
        Column("Fits", "right", 0.5),
        Column("Mean of cells", "right", 1.2),
        Column("SD between cells", "right", 1.2),
        Column("Median standard error", "right", 1.2),
    )
    rows = _fit_rows(card, [fit for fit in found if fit.get("converged") is not False])
    lost = len(found) - sum(fit.get("converged") is not False for fit in found)
    bound = sum(bool(fit.get("at_bound")) for fit in found)
    residuals = [r for fit in found if (r := finite(fit.get("residual_mV"))) is not None]
    facts = [("Fits", f"{len(found)}, of which {lost} did not converge and are left out")]
    if bound:
        facts.append(("At a bound", f"{bound}, with a parameter at the edge of its range"))
    if residuals:
        middle, worst = statistics.median(residuals), max(residuals)
        facts.append(("Residual", f"median {number(middle)} mV, largest {number(worst)} mV"))
    table = Table("fits", "Parameters of the fits", columns, tuple(rows), small=True)
    return Section("Fits", (Facts(tuple(facts)), table))


def _fit_rows(card: Card, found: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    owner = {row.get("seal", ""): row.get("supplier", "") for row in card.recordings}
    groups: dict[tuple[str, str, str], list[tuple[float, float | None]]] = {}
    for fit in found:
        supplier = owner.get(text(fit, "seal")) or text(fit, "supplier") or "unknown"
        errors = mapping(fit.get("standard_errors"))
        for name, value in mapping(fit.get("values")).items():
            held = finite(value)
            if held is not None:
                key = (text(fit, "model"), name, supplier)
                groups.setdefault(key, []).append((held, finite(errors.get(name))))
    return [_fit_row(key, pairs) for key, pairs in sorted(groups.items())]


def _fit_row(
    key: tuple[str, str, str], pairs: list[tuple[float, float | None]]
) -> tuple[str, ...]:
    values = [value for value, _ in pairs]
    errors = [error for _, error in pairs if error is not None]
    spread = statistics.stdev(values) if len(values) > 1 else None
    error = statistics.median(errors) if errors else None
    shown = significant(statistics.fmean(values), error or spread)
    return (*key, str(len(values)), shown, _digits(spread), _digits(error))


def exclusions(card: Card) -> Section:
    """Return what was left out, and why."""
    columns = (
        Column("Code", weight=0.8),
        Column("Serial", weight=1.2),
        Column("Characteristic", weight=1.4),
        Column("State", weight=1.0),
        Column("Reason", weight=3.0),
    )
    rows = tuple(
        (text(row, "seal")[:8], text(row, "serial"), _feature_name(text(row, "feature")),
         text(row, "state"), text(row, "reason"))
        for row in records(card.raw.get("exclusions"))
    )  # fmt: skip
    if not rows:
        return Section("Exclusions", (Paragraph("Nothing was excluded."),))
    return Section("Exclusions", (Table("exclusions", "Exclusions", columns, rows, small=True),))


def _feature_name(features: str) -> str:
    """Return one feature or a list of them, in words."""
    named = []
    for feature in filter(None, features.split(", ")):
        unit = unit_of(feature)
        named.append(f"{name_of(feature)} ({unit})" if unit else name_of(feature))
    return "; ".join(named)


def traceability(card: Card, evidence: Any = None) -> Section:
    """Return the way from this report to each sealed recording, and the software used."""
    said = (
        "Each recording is a sealed file; its code is the beginning of the seal, a SHA-256 over "
        "the content. The command “batterylab trace CODE STUDY” follows a code, a serial, or a "
        "value written as SERIAL/FEATURE, such as A1-001/capacity_Ah, to the file, the steps and "
        "samples, the channel, its instruments and their calibration, and the software."
    )
    blocks: list[Block] = [Paragraph(said), Facts(tuple(_facts(card, evidence)))]
    if evidence is not None and evidence.instruments:
        rows = evidence.instruments
        blocks.append(Table("instruments", "Instruments", _INSTRUMENTS, rows, small=True))
    return Section("Traceability", tuple(blocks))


def recordings(card: Card) -> Section:
    """Return the list of all recordings, as the last section."""
    rows = tuple(
        (row.get("seal", "")[:8], row.get("serial", ""), row.get("supplier", ""),
         row.get("lot", ""), row.get("channel", ""), row.get("protocol", ""),
         _moment(row.get("start_utc", "")), row.get("state", ""))
        for row in card.recordings
    )  # fmt: skip
    if rows:
        said = f"Recordings, {len(rows)} in all"
        table = Table("recordings", said, _RECORDINGS, rows, small=True)
        return Section("Recordings", (table,))
    return Section("Recordings", (_nothing("The scorecard lists no recordings."),))


def _moment(start_utc: str) -> str:
    """Return ``2026-01-05 06:00:00`` for ISO 8601 in UTC; other text as it is."""
    if len(start_utc) >= 19 and start_utc[10:11] == "T":
        tail = start_utc[19:]
        if tail in ("", "Z", "+00:00") or tail.endswith(("Z", "+00:00")):
            return start_utc[:19].replace("T", " ")
    return start_utc


def _facts(card: Card, evidence: Any) -> list[tuple[str, str]]:
    cells = {row.get("serial") for row in card.recordings if row.get("serial")}
    facts = [
        ("Scorecard", f"SHA-256 {card.code}"),
        ("Made", _moment(card.generated_utc) + " UTC" if card.generated_utc else MISSING),
        ("Software", card.software or MISSING),
        ("Recordings", f"{len(card.recordings)} of {counted(len(cells), 'cell')}"),
    ]
    which = text(card.raw, "which_recording")
    if which:
        facts.append(("Recordings of one cell", f"{which} counts"))
    if finite(card.raw.get("seed")) is not None:
        facts.append(("Seed of random numbers", count(card.raw.get("seed"))))
    if evidence is not None:
        facts += list(evidence.facts)
    return facts

