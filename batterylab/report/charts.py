"""The six charts of a characteristic, always the same six in the same six places.

Each function draws one chart and returns a `Figure` block; each takes the characteristic and
the suppliers in the report's order, so that a supplier keeps its colour and its marker.
Charts stay light: many values are thinned, the extreme ones never.
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist, quantiles
from typing import TYPE_CHECKING, Any

from batterylab.report.card import Characteristic, Value, mapping, pair
from batterylab.report.drawing import (
    HAIR,
    INK,
    LIMIT,
    SOFT,
    axes,
    colour,
    figure,
    marker,
    style,
    svg_of,
)
from batterylab.report.model import Figure
from batterylab.report.words import counted, finite, number, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_MM, HEIGHT_MM = 85.0, 54.0
#: most points of one supplier in one chart
POINTS = 120
#: a limit further away than this many widths of the data is named, not drawn
FAR = 1.0


def six(characteristic: Characteristic, suppliers: Sequence[str]) -> tuple[Figure, ...]:
    """Return the six charts in their places, left to right and top to bottom."""
    draw: tuple[tuple[str, str, Callable[..., None]], ...] = (
        ("histogram", "Distribution and limits", _histogram),
        ("lots", "Values by lot", _lots),
        ("means", "Mean of each supplier, 95 % interval", _means),
        ("normal", "Normal probability plot", _normal),
        ("order", "Values in order", _order),
        ("spread", "Where the spread comes from", _spread),
    )
    return tuple(
        _drawn(characteristic, suppliers, *one, alt=_alt(one[0], characteristic, suppliers))
        for one in draw
    )


def overview(characteristics: Sequence[Characteristic], suppliers: Sequence[str]) -> Figure:
    """Return means with their intervals and limits, side by side for up to four features."""
    from matplotlib.ticker import MaxNLocator

    shown = list(characteristics[:4])
    rows = max(1, len(suppliers))
    height_mm = 14.0 + 6.0 * rows
    with style("overview"):
        drawing = figure(174.0, height_mm)
        left_mm, gap_mm = 24.0, 6.0
        each_mm = (174.0 - left_mm - gap_mm * len(shown)) / max(1, len(shown))
        for place, one in enumerate(shown):
            start_mm = left_mm + place * (each_mm + gap_mm)
            ax = axes(drawing, start_mm, 6.0, 174.0 - start_mm - each_mm, 6.0)
            _draw_means(ax, one, suppliers, labels=place == 0)
            ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.set_title(short(one.label, 26), fontsize=8.5, loc="left", pad=4)
        svg = svg_of(drawing)
    names = ", ".join(one.label for one in shown)
    return Figure(
        "overview",
        "Means with 95 % intervals. Small ticks are lot means, dashed lines are limits.",
        f"Means and intervals of {names} for {', '.join(suppliers)}.",
        svg,
        174.0,
    )


def _drawn(
    characteristic: Characteristic,
    suppliers: Sequence[str],
    key: str,
    caption: str,
    draw: Callable[..., None],
    alt: str,
) -> Figure:
    with style(f"{characteristic.name}-{key}"):
        drawing = figure(WIDTH_MM, HEIGHT_MM)
        draw(drawing, characteristic, suppliers)
        svg = svg_of(drawing)
    return Figure(f"{characteristic.name}-{key}", caption, alt, svg, WIDTH_MM)


def _alt(key: str, one: Characteristic, suppliers: Sequence[str]) -> str:
    what = {
        "histogram": "Histogram of {} with acceptance limits",
        "lots": "{} of each cell, by lot",
        "means": "Mean of {} with 95 % interval",
        "normal": "Normal probability plot of {}",
        "order": "{} in order of measurement",
        "spread": "Standard deviations of {} between lots, between cells and of the bench",
    }[key].format(one.label)
    cells = ", ".join(f"{name}: {counted(len(one.of(name)), 'value')}" for name in suppliers)
    return f"{what}. {cells}."


def _empty(ax: "Axes", why: str) -> None:
    """Say in the chart's place why there is no chart."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center", color=SOFT)


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    width = (high - low) or abs(high) * 0.01 or 1.0
    return low - 0.04 * width, high + 0.04 * width


def _window(
    one: Characteristic, values: Sequence[float]
) -> tuple[tuple[float, float], list[float], str]:
    """Return the axis' range, the limits inside it, and a remark on limits out of sight."""
    low, high = _span(values)
    reach = FAR * (high - low)
    seen = [limit for limit in one.limits if low - reach <= limit <= high + reach]
    low, high = _span([low, high, *seen]) if seen else (low, high)
    remarks = [
        f"{side} limit {number(limit)}"
        for side, limit in (("lower", one.lower), ("upper", one.upper))
        if limit is not None and limit not in seen
    ]
    return (low, high), seen, " and ".join(remarks) + " off the scale" if remarks else ""


def _limit_lines(ax: "Axes", limits: Sequence[float], *, upright: bool) -> None:
    for limit in limits:
        line = ax.axvline if upright else ax.axhline
        line(limit, color=LIMIT, linewidth=0.9, dashes=(4, 2), zorder=1)


def _remark(ax: "Axes", remark: str) -> None:
    if remark:
        ax.text(1.0, 1.02, remark, transform=ax.transAxes, ha="right", va="bottom",
                fontsize=7, color=LIMIT)  # fmt: skip


def _name_rows(ax: "Axes", names: Sequence[str], *, labels: bool = True) -> None:
    """Write the suppliers' names at rows 0, 1, ... from the top, each in its colour."""
    ax.set_yticks(range(len(names)))
    ax.tick_params(axis="y", length=0)
    ax.set_yticklabels([name if labels else "" for name in names])
    for place, label in enumerate(ax.get_yticklabels()):
        label.set_color(colour(place))
    ax.spines["left"].set_visible(False)


def _histogram(drawing: Any, one: Characteristic, suppliers: Sequence[str]) -> None:
    """Draw a histogram for each supplier, one below the other on the same scale."""
    import numpy as np

    ax = axes(drawing, 22.0, 10.5, 3.0, 4.0)
    values = [value.value for value in one.values]
    if not values:
        return _empty(ax, "no values")
    (low, high), seen, remark = _window(one, values)
    bins = min(24, max(6, round(1.5 * math.sqrt(len(values)))))
    edges = np.linspace(*_span(values), bins + 1)
    counts = [np.histogram([v.value for v in one.of(name)], edges)[0] for name in suppliers]
    tallest = max((int(row.max()) for row in counts), default=1) or 1
    for place, row in enumerate(counts):
        base = place + 0.4
        heights = base - 0.85 * row / tallest
        ax.stairs(heights, edges, baseline=base, fill=True, color=colour(place), alpha=0.75)
        ax.plot([low, high], [base, base], color=HAIR, linewidth=0.5, zorder=0)
    counted_rows = [f"{short(name)}\nn = {len(one.of(name))}" for name in suppliers]
    _name_rows(ax, counted_rows if len(suppliers) <= 4 else [short(name) for name in suppliers])
    ax.set_ylim(len(suppliers) - 0.5, -0.55)
    ax.set_xlim(low, high)
    _limit_lines(ax, seen, upright=True)
    _remark(ax, remark)
    ax.set_xlabel(short(one.label, 48))
    return None


#: place of the supplier, lot, values
_Group = tuple[int, str, list[float]]


def _lot_groups(one: Characteristic, suppliers: Sequence[str]) -> list[_Group]:
    """Return the lots in the order of the axis."""
    groups: list[_Group] = []
    for place, name in enumerate(suppliers):
        mine = one.of(name)
        for lot in sorted({value.lot for value in mine}):
            groups.append((place, lot, [value.value for value in mine if value.lot == lot]))
    return groups


def _lots(drawing: Any, one: Characteristic, suppliers: Sequence[str]) -> None:
    """Draw every value by lot, with median and quartiles where a lot has five or more."""
    ax = axes(drawing, 12.5, 10.5, 3.0, 4.0)
    groups = _lot_groups(one, suppliers)
    if not groups:
        return _empty(ax, "no values")
    (low, high), seen, _ = _window(one, [v for _, _, values in groups for v in values])
    for x, (place, _, values) in enumerate(groups):
        if len(values) >= 5:
            first, middle, third = quantiles(values, n=4, method="inclusive")
            ax.bar(x, third - first, 0.62, bottom=first, color=colour(place), alpha=0.22)
            ax.plot([x - 0.31, x + 0.31], [middle, middle], color=colour(place), linewidth=1.2)
        shown = _thinned(values, max(5, 600 // len(groups)))
        shift = [x + 0.36 * ((i * 0.618034) % 1.0 - 0.5) for i in range(len(shown))]
        ax.plot(shift, shown, marker(place), color=colour(place), markersize=2.2, mew=0)
    _lot_names(ax, groups)
    ax.set_xlim(-0.6, len(groups) - 0.4)
    ax.set_ylim(low, high)
    _limit_lines(ax, seen, upright=False)
    ax.set_ylabel(short(one.unit or one.title, 24))
    return None


def _lot_names(ax: "Axes", groups: list[_Group]) -> None:
    step = max(1, math.ceil(len(groups) / 24))
    crowded = len(groups) > 9 or max(len(lot) for _, lot, _ in groups) > 6
    ax.set_xticks(range(0, len(groups), step))
    ax.set_xticklabels(
        [short(lot, 7) or "no lot" for _, lot, _ in groups[::step]],
        rotation=90 if crowded else 0,
        fontsize=6.5 if crowded else 7.5,
    )
    for label, (place, _, _) in zip(ax.get_xticklabels(), groups[::step], strict=True):
        label.set_color(colour(place))
    if not crowded:
        ax.set_xlabel("lot")


def _thinned(values: Sequence[float], most: int) -> list[float]:
    """Return at most about `most` values in ascending order, the extreme ones kept."""
    ordered = sorted(values)
    if len(ordered) <= most:
        return list(values)
    inner = [ordered[round(i * (len(ordered) - 1) / (most - 1))] for i in range(1, most - 1)]
    return [ordered[0], *inner, ordered[-1]]


def _means(drawing: Any, one: Characteristic, suppliers: Sequence[str]) -> None:
    ax = axes(drawing, 22.0, 10.5, 3.0, 4.0)
    if _draw_means(ax, one, suppliers, labels=True):
        ax.set_xlabel(short(one.label, 48))


def _draw_means(
    ax: "Axes", one: Characteristic, suppliers: Sequence[str], *, labels: bool
) -> bool:
    """Draw mean, interval and lot means of each supplier; False if there is no mean."""
    drawn: list[float] = []
    for place, name in enumerate(suppliers):
        row = one.suppliers.get(name, {})
        mean = finite(row.get("mean"))
        if mean is None:
            continue
        low, high = pair(row.get("mean_interval"))
        ends = [mean if low is None else low, mean if high is None else high]
        known = low is not None and high is not None
        ax.plot(ends, [place, place], color=colour(place), linewidth=1.6, solid_capstyle="butt")
        ax.plot(mean, place, marker(place), color=colour(place) if known else "white",
                mec=colour(place), markersize=4.5)  # fmt: skip
        lots = [finite(lot.get("mean")) for lot in mapping(row.get("lot")).values()
                if isinstance(lot, dict)]  # fmt: skip
        found = [lot for lot in lots if lot is not None]
        ax.plot(found, [place + 0.24] * len(found), "|", color=colour(place), markersize=4, mew=0.8)
        drawn += [*ends, mean, *found]
    if not drawn:
        _empty(ax, "no means")
        return False
    (left, right), seen, _ = _window(one, drawn)
    _name_rows(ax, [short(name) for name in suppliers], labels=labels)
    ax.set_ylim(len(suppliers) - 0.4, -0.6)
    ax.set_xlim(left, right)
    ax.grid(axis="x", color=HAIR, linewidth=0.4)
    ax.set_axisbelow(True)
    _limit_lines(ax, seen, upright=True)
    return True


def _normal(drawing: Any, one: Characteristic, suppliers: Sequence[str]) -> None:
    """Draw each supplier's values against normal quantiles (Blom's plotting positions)."""
    ax = axes(drawing, 12.5, 10.5, 3.0, 4.0)
    if not one.values:
        return _empty(ax, "no values")
    standard = NormalDist()
    (low, high), seen, _ = _window(one, [value.value for value in one.values])
    reach = 1.7
    for place, name in enumerate(suppliers):
        ordered = sorted(value.value for value in one.of(name))
        count = len(ordered)
        if not count:
            continue
        keep = sorted({round(i * (count - 1) / max(1, min(count, POINTS) - 1))
                       for i in range(min(count, POINTS))})  # fmt: skip
        heights = [standard.inv_cdf((i + 1 - 0.375) / (count + 0.25)) for i in keep]
        ax.plot([ordered[i] for i in keep], heights, marker(place), color=colour(place),
                markersize=2.6, mew=0, label="\u200a" + short(name))  # fmt: skip
        reach = max(reach, 1.08 * heights[-1])
    shares = [s for s in (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
              if abs(standard.inv_cdf(s)) <= reach]  # fmt: skip
    ax.set_yticks([standard.inv_cdf(share) for share in shares])
    ax.set_yticklabels([f"{100 * share:g} %" for share in shares])
    ax.set_ylim(-reach, reach)
    ax.set_xlim(low, high)
    ax.locator_params(axis="x", nbins=6)
    ax.grid(axis="y", color=HAIR, linewidth=0.4)
    _limit_lines(ax, seen, upright=True)
    ax.set_xlabel(short(one.label, 48))
    ax.legend(loc="best", frameon=False, fontsize=7, handletextpad=0.1, borderaxespad=0.2)
    return None


def _order(drawing: Any, one: Characteristic, suppliers: Sequence[str]) -> None:
    """Draw the values in the order of measurement, or as listed if times are not known."""
    ax = axes(drawing, 12.5, 10.5, 3.0, 4.0)
    if not one.values:
        return _empty(ax, "no values")
    (low, high), seen, _ = _window(one, [value.value for value in one.values])
    for place, name in enumerate(suppliers):
        mine = _thinned_run([(i, v) for i, v in enumerate(one.values, 1) if v.supplier == name])
        ax.plot([i for i, _ in mine], [v.value for _, v in mine], marker(place),
                color=colour(place), markersize=2.6, mew=0)  # fmt: skip
    ax.set_ylim(low, high)
    ax.set_xlim(0, len(one.values) + 1)
    _limit_lines(ax, seen, upright=False)
    timed = all(value.start_utc for value in one.values)
    ax.set_xlabel("order of start" if timed else "order of listing (no times)")
    ax.set_ylabel(short(one.unit or one.title, 24))
    return None


def _thinned_run(run: list[tuple[int, Value]]) -> list[tuple[int, Value]]:
    """Return a run of values thinned to smallest and largest of each stretch."""
    if len(run) <= 2 * POINTS:
        return run
    size = math.ceil(len(run) / POINTS)
    kept: list[tuple[int, Value]] = []
    for start in range(0, len(run), size):
        piece = sorted(run[start : start + size], key=lambda item: item[1].value)
        kept += sorted({piece[0][0]: piece[0], piece[-1][0]: piece[-1]}.values(),
                       key=lambda item: item[0])  # fmt: skip
    return kept


def _spread(drawing: Any, one: Characteristic, suppliers: Sequence[str]) -> None:
    """Draw standard deviations between lots and between cells, and that of the bench."""
    ax = axes(drawing, 27.0, 10.5, 3.0, 4.0)
    rows = _spread_rows(one, suppliers)
    known = [sd for _, _, sd, _, _ in rows if sd is not None]
    if not known:
        return _empty(ax, "no spread can be stated")
    edge = 2.6 * max(known) or 1.0
    for y, (_, tint, sd, low, high) in enumerate(rows):
        if sd is None:
            ax.text(0.01 * edge, y, "not known", va="center", fontsize=7, color=SOFT)
            continue
        if low is not None and high is not None:
            ax.plot([low, min(high, edge)], [y, y], color=tint, linewidth=1.4)
            if high > edge:
                ax.plot(edge, y, ">", color=tint, markersize=3.5, clip_on=False)
        ax.plot(sd, y, "o", color="white" if low is None else tint, mec=tint, markersize=4,
                clip_on=False)  # fmt: skip
    ax.set_yticks(range(len(rows)))
    ax.tick_params(axis="y", length=0)
    ax.set_yticklabels([label for label, *_ in rows], fontsize=7.5 if len(rows) <= 8 else 6.5)
    for label, (_, tint, *_) in zip(ax.get_yticklabels(), rows, strict=True):
        label.set_color(tint)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, edge)
    ax.grid(axis="x", color=HAIR, linewidth=0.4)
    ax.set_axisbelow(True)
    unit = f" ({short(one.unit, 12)})" if one.unit else ""
    ax.set_xlabel(f"standard deviation{unit}")
    return None


_SpreadRow = tuple[str, str, float | None, float | None, float | None]


def _spread_rows(one: Characteristic, suppliers: Sequence[str]) -> list[_SpreadRow]:
    """Return (label, colour, sd, low, high): lots and cells of each supplier, then the bench."""
    rows: list[_SpreadRow] = []
    for place, name in enumerate(suppliers):
        row = one.suppliers.get(name, {})
        parts = [("sd_lot", "lots"), ("sd_cell", "cells")]
        if all(finite(row.get(part)) is None for part, _ in parts):
            parts = [("sd_total", "all")]
        for part, label in parts:
            low, high = pair(row.get(f"{part}_interval"))
            text = f"{short(name, 12)}, {label}"
            rows.append((text, colour(place), finite(row.get(part)), low, high))
    low, high = pair(one.measurement.get("gauge_interval"))
    rows.append(("bench", INK, finite(one.measurement.get("gauge_sd")), low, high))
    return rows
