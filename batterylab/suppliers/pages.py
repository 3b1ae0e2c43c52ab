"""The scorecard as text: what `batterylab score` prints below its five lines."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: most lines of a kind
MOST = 6
#: of so many cells each is told by itself
FEW = 4


def page(card: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the page.

    Parameters
    ----------
    card : mapping
        Of schema ``batterylab.scorecard/1``.
    """
    for name, decision in card["decision"].items():
        yield f"\n{name}: {decision['verdict']}{_sure(decision)}"
        for reason in decision["reasons"]:
            yield f"  - {reason}"
        for risk in decision["risks"]:
            yield f"  risk: {risk}"
        yield from _loss(decision)
    for parts in (_gates, _capability, _measurement, _consistency, _watch, _between, _weighted,
                  _ageing, _pack, _left_out):  # fmt: skip
        yield from parts(card)


def _gates(card: Mapping[str, Any]) -> Iterator[str]:
    for place, row in enumerate(card["rules"]):
        if not place:
            yield "\nGates by rule (the mark says how well the figure is known):"
        word = {True: "met", False: "NOT MET", None: "not judged"}[row["met"]]
        if row["met"] is None:
            figures = str(row["reason"])
        else:
            figures = f"{row['value']:.5g} against {row['limit']:.5g}"
        yield (f"  {row['rule']}, {row['supplier']}: {row['requirement']}: {figures}: {word} "
               f"({row['mark']})")  # fmt: skip


def _sure(decision: Mapping[str, Any]) -> str:
    share = decision["probability_conforms"]
    if share is None:
        return ""
    return f" (at most 1 % outside: probability {_probability(share)})"


def _probability(share: float) -> str:
    if share > 0.9995:
        return "above 0.999"
    return "below 0.001" if share < 0.0005 else f"{share:.3f}"


def _loss(decision: Mapping[str, Any]) -> Iterator[str]:
    loss = decision["expected_loss"]
    if loss is None:
        return
    ways = [f"{way} {loss['currency']} {loss[way]:,.0f}" for way in ("accept", "refuse")
            if loss[way] is not None]  # fmt: skip
    yield f"  expected loss over {loss['cells']:,} cells: to {'; to '.join(ways)}"


def _between(card: Mapping[str, Any]) -> Iterator[str]:
    for place, row in enumerate(card["between"]):
        if not place:
            yield "\nBetween suppliers:"
        names = {"A BETTER": f"{row['a']} BETTER", "B BETTER": f"{row['b']} BETTER"}
        verdict = names.get(row["verdict"], row["verdict"])
        unit = _unit(card, row["feature"])
        margin = "no margin" if row["margin"] is None else f"margin {row['margin']:.4g}{unit}"
        yield (f"  {row['a']} and {row['b']}, {row['feature']} ({margin}): {verdict}: "
               f"{row['reason']}")  # fmt: skip
        if row["probability_a_better"] is not None:
            same = row["probability_equivalent"]
            tail = "" if same is None else f"; within the margin with {_probability(same)}"
            yield (f"    {row['a']} is better with probability "
                   f"{_probability(row['probability_a_better'])}{tail}")  # fmt: skip
        yield from _choice(card, row)


def _choice(card: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[str]:
    loss_a, loss_b = row["expected_loss_a"], row["expected_loss_b"]
    if loss_a is None or loss_b is None:
        return
    unit = _unit(card, row["feature"])
    money, tail = (row["expected_loss_a_money"], row["expected_loss_b_money"]), ""
    if None not in money:
        tail = (f" ({row['currency']} {money[0]:,.0f} and {money[1]:,.0f} over "
                f"{row['cells']:,} cells)")  # fmt: skip
    yield (f"    expected loss a cell of choosing {row['a']} {loss_a:.3g}{unit}, {row['b']} "
           f"{loss_b:.3g}{unit}{tail}")  # fmt: skip


def _unit(card: Mapping[str, Any], feature: str) -> str:
    unit = card["features"][feature]["unit"]
    return f" {unit}" if unit and unit != "1" else ""


def _weighted(card: Mapping[str, Any]) -> Iterator[str]:
    found = card["ranking"].get("weighted")
    if not found:
        return
    yield "\nWeighted score (share of all weights at which a supplier is first):"
    for name, score in found["scores"].items():
        first = found["rank_acceptability"][name][0]
        yield f"  {name} {score:.3f} ({100 * first:.0f} %)"


def _capability(card: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (feature, name, entry)
        for feature, one in card["features"].items() if one["limits"]
        for name, entry in one["suppliers"].items() if entry["capability"]
    ]  # fmt: skip
    if not rows:
        return
    yield "\nCapability (Ppk over all lots; 95 % intervals):"
    for feature, name, entry in rows:
        found = entry["capability"]
        low, high = found["cpk_interval"]
        yield (f"  {feature}, {name}: Ppk {found['cpk']:.2f} ({low:.2f} to {high:.2f}), n = "
               f"{found['n']}; with 95 % confidence outside at most "
               f"{_share(found['fraction_outside_upper_95']).lstrip('< ')}")  # fmt: skip
        yield from _rule(entry)
        skewed = found["percentile"]
        if skewed:
            yield (f"    skewed (p = {skewed['skewness_p_value']:.2g}): by percentiles of a fitted "
                   f"{skewed['distribution']} Ppk {skewed['ppk']:.2f}")  # fmt: skip


def _rule(entry: Mapping[str, Any]) -> Iterator[str]:
    risks = entry["conformity"]
    if risks:
        yield (f"    decision rule on this bench, of all cells: accepted though outside "
               f"{_share(risks['consumer_risk'])}, not accepted though inside "
               f"{_share(risks['producer_risk'])}")  # fmt: skip


def _share(share: float) -> str:
    return "< 0.001 %" if share < 1e-5 else f"{100 * share:.2g} %"


def _measurement(card: Mapping[str, Any]) -> Iterator[str]:
    corrected, not_corrected = [], []
    for feature, one in card["features"].items():
        found = one["measurement"]
        if not found["corrected"]:
            not_corrected.append(feature)
            continue
        text = f"  {feature}: sd {found['gauge_sd']:.3g}, %GRR {found['grr_percent']:.0f}"
        if found["grr_percent_interval"]:
            text += " ({:.0f} to {:.0f})".format(*found["grr_percent_interval"])
        if found["categories"] is not None and found["categories_interval"]:
            text += f", {found['categories']:.1f} categories"
            text += " ({:.1f} to {:.1f})".format(*found["categories_interval"])
        if found["trend"] and found["trend"]["taken_out"]:
            text += f", trend {found['trend']['per_test']:.2g} a test taken out"
        corrected.append(text)
    if corrected:
        yield "\nMeasurement, from the gauge study:"
        yield from corrected[: 2 * MOST]
    if not_corrected:
        if not corrected:
            yield "\nMeasurement: there is no gauge study, so every spread holds the bench's too"
        else:
            yield ("  not corrected, the gauge study has no repeats of them: "
                   f"{', '.join(not_corrected)}")  # fmt: skip


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more


def _consistency(card: Mapping[str, Any]) -> Iterator[str]:
    found = card["consistency"]
    if not found:
        return
    yield "\nWhat the spread within lots comes from:"
    for name, features in found["suppliers"].items():
        for feature, entry in features.items():
            yield f"  {name}, {feature}: {entry['statement']}"


def _ageing(card: Mapping[str, Any]) -> Iterator[str]:
    found = card["ageing"]
    if not found:
        return
    axis = found["axis"]
    yield "\nAgeing, apart from the fresh cells and from the decision:"
    for name, one in found["suppliers"].items():
        yield f"  {name}: {one['statement']}"
        lost = one["lost"]
        ends = lost["interval"]
        sure = f"({ends[0]:.2f} to {ends[1]:.2f}, from {lost['basis']})" if ends else lost["basis"]
        yield (f"    lost after {found['common_age']:.4g} {axis}: {lost['mean_percent']:.2f} % "
               f"of the first capacity {sure}")  # fmt: skip
        mean = one["mean_cell"]
        if mean is not None and mean["life"] is not None:
            low, high = (f"{end:.4g}" if end is not None else "not reached" for end in
                         mean["life_interval"])  # fmt: skip
            how = "extrapolated" if mean["is_extrapolated"] else "on its mean curve"
            yield (f"    its mean cell is at 80 % after {mean['life']:.4g} ({low} to {high}) "
                   f"{axis}, {how}")  # fmt: skip
        elif mean is not None:
            yield f"    {mean['note']}"
        mine = [cell for cell in found["cells"] if cell["supplier"] == name]
        if len(mine) <= FEW:
            yield from (f"    {_cell_fade(cell, axis)}" for cell in mine)
        knees = one["knees"]
        if knees["cells"]:
            yield (f"    {knees['cells']} of {knees['looked_at']} cells have a knee, half of them "
                   f"by {knees['median']:.4g} {axis}")  # fmt: skip
        r = one["first_capacity"]
        if r is not None:
            low, high = r["interval"]
            yield (f"    first capacity and {r['with']}: correlation {r['correlation']:.2f} "
                   f"({low:.2f} to {high:.2f})")  # fmt: skip
    for row in found["compared"]:
        yield f"  {row['statement']}"
    if found["left_out"]:
        yield f"  not on this axis and left out: {_names(found['left_out'])}"


def _cell_fade(cell: Mapping[str, Any], axis: str) -> str:
    """Return one cell's fade, as fitted."""
    fade, knee = cell["fade"], cell["knee"]
    left = f"{cell['last_share_percent']:.2f} % left after {cell['ages'][-1]:.4g} {axis}"
    if fade is None:
        return f"{cell['serial']}: {left}; {cell['note']}"
    terms = [
        f"{scale * fade[f'{term}_percent']:.3g} % a {unit}"
        + (f" (± {scale * fade[f'{term}_error']:.2g})" if fade[f"{term}_error"] else "")
        for term, unit, scale in (("root", f"root of {axis}", 1), ("line", f"1000 {axis}", 1000))
        if fade[f"{term}_percent"] > 0
    ]
    bend = ""
    if knee is not None and knee["is_there"]:
        low, high = knee["interval"]
        bend = f"; knee at {knee['place']:.4g} ({low:.4g} to {high:.4g})"
    note = f"; {cell['note']}" if cell["note"] else ""
    return f"{cell['serial']}: {left}; lost {' and '.join(terms) or 'nothing'}{bend}{note}"


def _pack(card: Mapping[str, Any]) -> Iterator[str]:
    pack = card["pack"]
    rows = [(name, entry["simulated"]) for name, entry in pack["suppliers"].items()
            if entry["simulated"]] if pack else []  # fmt: skip
    if not rows:
        return
    yield f"\nPack {pack['series']}s{pack['parallel']}p, a car (cells as they come; sorted):"
    for name, found in rows:
        plain, ordered = found["ways"]["random"], found["ways"]["sorted and matched"]
        small = found["production"]["50 cars a week"]
        least = max(ordered["lost_Wh_per_car"], 0.0)
        lost_Wh, lost_km = (max(plain[f"lost_{unit}_per_car"], 0.0) for unit in ("Wh", "km"))
        yield (f"  {name}: {lost_Wh:.0f} Wh and {lost_km:.2f} km "
               f"lost, power {_power(plain['power_percent'])}, imbalance "
               f"{plain['imbalance_percent']:.2f} %; sorted {least:.0f} Wh; "
               f"at 50 cars a week classes leave {small['left_over_percent']:.1f} % of cells "
               "over")  # fmt: skip


def _power(percent: float | None) -> str:
    return "not known (no resistance)" if percent is None else f"{percent:.2f} %"


def _watch(card: Mapping[str, Any]) -> Iterator[str]:
    watch = card["watch"]
    if not watch:
        return
    lines = []
    for feature, suppliers in watch["features"].items():
        for name, entry in suppliers.items():
            signals = sorted({lot for lots in entry["signals"].values() for lot in lots})
            if signals:
                lines.append(f"  {name}, {feature}: lots that signal: {_names(signals)}")
            change = entry["change"]
            if change:
                lines.append(
                    f"  {name}, {feature}: changed from lot {change['from_lot']} by "
                    f"{change['shift']:+.3g} (p = {change['p_value']:.3f})"
                )
    for name, entry in watch["together"].items():
        if entry["signals"]:
            lines.append(f"  {name}, {' and '.join(entry['features'])} together: "
                         f"{_names(entry['signals'])}")  # fmt: skip
    if lines:
        yield "\nWatch on the lots:"
        yield from lines[: 3 * MOST]


def _left_out(card: Mapping[str, Any]) -> Iterator[str]:
    if card["exclusions"]:
        count = len(card["exclusions"])
        rows = "one recording" if count == 1 else f"{count} recordings"
        yield f"\n{rows} left out; the scorecard lists them with the reason"
    if card["out_of_temperature"]:
        yield f"{len(card['out_of_temperature'])} tests at another temperature than asked for"
    odd = [note.partition("; it counts")[0] for one in card["features"].values()
           for entry in one["suppliers"].values() for note in entry["notes"]
           if "counts all the same" in note]  # fmt: skip
    for place, note in enumerate(dict.fromkeys(odd)):
        if not place:
            yield "\nFar off their lot by six robust standard deviations or more, and counted:"
        if place == 2 * MOST:
            yield f"  and {len(odd) - place} more"
            break
        yield f"  {note}"
    for row in card["sensitivity"]:
        text = "the decision does not change"
        if row["changed"]:
            text = "; ".join(f"{name} becomes {row['verdicts'][name]}" for name in row["changed"])
        yield f"With {row['case']}: {text}{_effect(card, row)}"


def _effect(card: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Return how a case moves mean and spread of the feature that ranks."""
    feature = card["features"].get(row["feature"] or "")
    if feature is None:
        return ""
    moved = []
    for name, mean in row["means"].items():
        entry, sd = feature["suppliers"].get(name), row["sd_total"].get(name)
        if entry is None or entry["sd_total"] is None or sd is None:
            continue
        if mean != entry["mean"] or sd != entry["sd_total"]:
            moved.append(f"{name} mean {entry['mean']:.4g} to {mean:.4g}, "
                         f"sd {entry['sd_total']:.2g} to {sd:.2g}")  # fmt: skip
    return f"; {row['feature']}: {'; '.join(moved)}" if moved else ""
