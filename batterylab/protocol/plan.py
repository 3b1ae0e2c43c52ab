"""Plan a laboratory's time: how long a cell takes, how many channels that is, and when it ends.

A batch fills one chamber: as many cells as it has channels. Protocols, and soaks within them, set
the chamber's air, so all its cells take one protocol after the other and wait for the slowest; a
batch takes the sum of its protocols, their soaks, and one changeover by hand. Chambers go on
independently of each other.
"""

import difflib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from batterylab.cells import CellType
from batterylab.errors import BatterylabError
from batterylab.protocol import Resolved, load
from batterylab.study import Study

SCHEMA = "batterylab.plan/1"
WEEK_h = 168.0
#: batches over which the wait for people is averaged
PERIODS = 100
#: hours, UTC, in which people change cells if the plan is for an attended laboratory
ATTENDED = (8, 17)
#: cells a lot from which the delivery's options are computed
SAMPLES = (5, 8, 13, 20, 32)
#: a simulation this long is not worth waiting for: the estimate is used
LONGEST_SIMULATED_h = 2000.0


@dataclass(frozen=True)
class Duration:
    """How long one protocol takes.

    Attributes
    ----------
    name : str
        The protocol.
    hours : float
        On the cycler, from simulation or, where `source` says so, estimated.
    soak_h : float
        Before it.
    longest_h : float
        If every step takes as long as it may.
    source : str
        ``simulation`` or ``estimate: …`` with the reason.
    """

    name: str
    hours: float
    soak_h: float
    longest_h: float
    source: str

    @property
    def total_h(self) -> float:
        """On the bench: soak and cycler."""
        return self.hours + self.soak_h


def duration(resolved: Resolved, parameter_set: str = "Chen2020") -> Duration:
    """Return how long a protocol takes on a simulated cell of the resolved type."""
    from batterylab.protocol.simulate import simulate

    hours, source = resolved.expected_s() / 3600.0, "simulation"
    if hours > LONGEST_SIMULATED_h:
        source = "estimate: too long to simulate"
    else:
        try:
            recording = simulate(resolved, parameter_set=parameter_set)
        except BatterylabError as error:
            source = f"estimate: {error.message}"
        else:
            if recording.provenance["ended"] == "complete":
                hours = float(recording.columns["test_time_s"][-1]) / 3600.0
            else:
                source = f"estimate: the simulation {recording.provenance['ended']}"
    return Duration(
        resolved.name, hours, resolved.soak_s / 3600.0, resolved.longest_s() / 3600.0, source
    )


@dataclass(frozen=True)
class Span:
    """One protocol of one batch, in hours from the plan's start; no chamber: its name is empty."""

    batch: int
    what: str
    cells: int
    start_h: float
    end_h: float
    chamber: str = ""


@dataclass(frozen=True)
class Plan:
    """A plan.

    Attributes
    ----------
    durations : tuple of Duration
        In the order in which the protocols run.
    cells, channels : int
        To be tested, and there to test them.
    chambers : dict of str to int
        Channels by the chamber that they stand in; those in none under an empty name.
    changeover_h : float
        To take a batch out and put the next one in.
    spans : tuple of Span
        The calendar.
    start : datetime
        Of the calendar.
    """

    study: str
    durations: tuple[Duration, ...]
    cells: int
    channels: int
    changeover_h: float
    attended: bool
    start: datetime
    spans: tuple[Span, ...]
    cells_per_pack: int | None
    cell_type: CellType
    chambers: dict[str, int]

    @property
    def hours_per_cell(self) -> float:
        """How long a channel is taken by one cell, changeover included."""
        return sum(d.total_h for d in self.durations) + self.changeover_h

    @property
    def batches(self) -> int:
        """How often a chamber is filled."""
        return len({span.batch for span in self.spans if span.batch})

    @property
    def gauge_rounds(self) -> int:
        """How often the study of the bench itself is loaded anew."""
        return sum(not span.batch for span in self.spans if span.what == "changeover")

    @property
    def gauge_hours(self) -> float:
        """Return the channel-hours that the study of the bench takes, changeovers included."""
        return sum(s.cells * (s.end_h - s.start_h) for s in self.spans if not s.batch)

    @property
    def end_h(self) -> float:
        """When the last cell is done, in hours from the start."""
        return max((span.end_h for span in self.spans), default=0.0)

    @property
    def cells_per_week(self) -> float:
        """What the bench can take on; where people change cells, in the hours they are there."""
        return self.channels * WEEK_h / self.period_h(self.hours_per_cell)

    def period_h(self, hours: float) -> float:
        """Return how long a channel is taken by a batch of `hours`, with its wait for people."""
        if not self.attended:
            return hours
        calendar = _Calendar(self.start, self.attended)
        for _ in range(PERIODS):
            calendar.wait_for_people()
            calendar.now_h += hours
        calendar.wait_for_people()
        return calendar.now_h / PERIODS

    def at(self, hours: float) -> str:
        """Return a time of the calendar as ISO 8601."""
        return (self.start + timedelta(hours=hours)).isoformat(timespec="minutes")

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, JSON-able."""
        return {
            "schema": SCHEMA,
            "study": self.study,
            "cell_type": self.cell_type.to_dict(),
            "cells": self.cells,
            "channels": self.channels,
            "chambers": [{"name": n, "channels": c} for n, c in self.chambers.items()],
            "protocols": [
                {"name": d.name, "hours": d.hours, "soak_h": d.soak_h, "longest_h": d.longest_h,
                 "source": d.source} for d in self.durations
            ],
            "changeover_h": self.changeover_h,
            "attended": self.attended,
            "hours_per_cell": self.hours_per_cell,
            "channel_hours": self.hours_per_cell * self.cells,
            "batches": self.batches,
            "gauge_rounds": self.gauge_rounds,
            "gauge_channel_hours": self.gauge_hours,
            "cells_per_week": self.cells_per_week,
            "start": self.at(0.0),
            "end": self.at(self.end_h),
            "days": self.end_h / 24.0,
            "calendar": [
                {"batch": s.batch, "chamber": s.chamber, "what": s.what, "cells": s.cells,
                 "start": self.at(s.start_h), "end": self.at(s.end_h)} for s in self.spans
            ],
        }  # fmt: skip


def plan(
    study: Study,
    *,
    channels: int | None = None,
    cells: int | None = None,
    changeover_h: float = 1.0,
    attended: bool = False,
    start: datetime | None = None,
    parameter_set: str = "Chen2020",
) -> Plan:
    """Plan a study.

    Parameters
    ----------
    study : Study
        Gives protocols, cells, bench and, for its gauge part, the rounds.
    channels, cells : int, optional
        Instead of what the bench file and ``cells.csv`` hold.
    changeover_h : float
        To take a batch out and put the next one in.
    attended : bool
        Batches begin on weekdays between 8:00 and 17:00 UTC only.
    start : datetime, optional
        Of the calendar; the next full hour if not given.
    parameter_set : str
        Of the simulated cell whose durations are used.

    Raises
    ------
    BatterylabError
        If there are no cells, no channels or no protocols, or channels without a chamber and a
        protocol that changes its air.
    """
    from batterylab.fit.celltables import FULL_CELLS

    names = study.definition.protocols
    cells = len(study.cells) if cells is None else cells
    channels_given = channels
    chambers = _chambers(study) if channels is None else {"": channels}
    channels = sum(chambers.values())
    for what, value in (("protocols", len(names)), ("cells", cells), ("channels", channels)):
        if value < 1:
            raise BatterylabError(
                f"{study.path}: there are no {what}", hint=f"give the study {what}, or --{what} N"
            )
    if parameter_set not in FULL_CELLS and not parameter_set.lower().endswith(".json"):
        near = difflib.get_close_matches(parameter_set, FULL_CELLS, n=1)
        raise BatterylabError(
            f"{parameter_set!r} is no full-cell set that PyBaMM ships",
            hint=f"did you mean {near[0]!r}?" if near else f"known: {', '.join(FULL_CELLS)}",
        )
    if not 0.0 <= changeover_h <= WEEK_h:
        raise BatterylabError(f"a changeover of {changeover_h:g} h", hint="0 h to 168 h")
    resolved = [load(n, [study.protocols_folder]).resolve(study.cell_type) for n in names]
    _refuse_without_chamber(study, resolved, chambers if channels_given is None else {})
    durations = tuple(duration(each, parameter_set) for each in resolved)
    begin = _whole_hour(start or datetime.now(UTC))
    pack = study.definition.pack
    calendar = _Calendar(begin, attended)
    spans = (
        *_gauge_spans(study, calendar, changeover_h, parameter_set),
        *_batch_spans(durations, cells, chambers, changeover_h, calendar),
    )
    return Plan(
        study.definition.name, durations, cells, channels, changeover_h, attended, begin, spans,
        pack.series * pack.parallel if pack else None, study.cell_type, chambers,
    )  # fmt: skip


def _refuse_without_chamber(
    study: Study, protocols: Sequence[Resolved], chambers: dict[str, int]
) -> None:
    """Raise where a protocol changes the air, and channels stand in no chamber."""
    soaks = [each.name for each in protocols if any(step.air for step in each.steps())]
    if soaks and chambers.get(""):
        raise BatterylabError(
            f"{study.path}: {', '.join(soaks)} changes the chamber's temperature, and "
            f"{chambers['']} channels of bench.yaml stand in none",
            hint="chamber: in the bench file for every channel, or --channels N in one",
        )


def _chambers(study: Study) -> dict[str, int]:
    """Return the bench's channels by the chamber that they stand in."""
    from batterylab.bench.benchfile import BenchFile

    if not study.bench_path.exists():
        return {}
    file = BenchFile.open(study.bench_path, study.cell_type)
    return dict(Counter(channel.chamber for channel in file.channels.values()))


def _whole_hour(moment: datetime) -> datetime:
    moment = moment.astimezone(UTC)
    whole = moment.replace(minute=0, second=0, microsecond=0)
    return whole if whole == moment else whole + timedelta(hours=1)


class _Calendar:
    """Hands out times one after the other, in hours from the start."""

    def __init__(
        self, start: datetime, attended: bool, now_h: float = 0.0, chamber: str = ""
    ) -> None:  # fmt: skip
        self.start = start
        self.attended = attended
        self.now_h = now_h
        self.chamber = chamber

    def wait_for_people(self) -> None:
        """Go on to when somebody is there to change cells."""
        if not self.attended:
            return
        moment = self.start + timedelta(hours=self.now_h)
        opens, closes = ATTENDED
        while moment.weekday() >= 5 or not opens <= moment.hour < closes:
            if moment.weekday() < 5 and moment.hour < opens:
                moment = moment.replace(hour=opens, minute=0, second=0, microsecond=0)
            else:
                moment = (moment + timedelta(days=1)).replace(
                    hour=opens, minute=0, second=0, microsecond=0
                )
        self.now_h = (moment - self.start).total_seconds() / 3600.0

    def span(self, batch: int, what: str, cells: int, hours: float) -> Span:
        """Take the next hours."""
        begin_h, self.now_h = self.now_h, self.now_h + hours
        return Span(batch, what, cells, begin_h, self.now_h, self.chamber)


def _batch_spans(
    durations: Sequence[Duration], cells: int, chambers: dict[str, int], changeover_h: float,
    calendar: _Calendar,
) -> Iterator[Span]:  # fmt: skip
    """Yield batch after batch, each into the chamber that is free first."""
    free = [_Calendar(calendar.start, calendar.attended, calendar.now_h, name) for name in chambers]
    batch = 0
    while cells > 0:
        batch += 1
        own = min(free, key=lambda item: item.now_h)
        count = min(chambers[own.chamber], cells)
        cells -= count
        own.wait_for_people()
        yield own.span(batch, "changeover", count, changeover_h)
        for one in durations:
            yield own.span(batch, one.name, count, one.total_h)


def _gauge_spans(
    study: Study, calendar: _Calendar, changeover_h: float, parameter_set: str
) -> Iterator[Span]:
    """Yield the rounds of the study of the bench itself, as batch 0."""
    gauge = study.definition.gauge
    if gauge is None:
        return
    one = duration(
        load(gauge.protocol, [study.protocols_folder]).resolve(study.cell_type), parameter_set
    )
    rounds = gauge.repeats * max(gauge.cells, gauge.channels)
    for _ in range(rounds):
        calendar.wait_for_people()
        yield calendar.span(0, "changeover", min(gauge.cells, gauge.channels), changeover_h)
        yield calendar.span(0, one.name, min(gauge.cells, gauge.channels), one.total_h)


def delivery(
    plan_: Plan, packs_per_week: float, lot: int, samples: Sequence[int] = SAMPLES
) -> list[dict[str, Any]]:
    """Return how many channels a delivery takes, for each way to test it.

    Parameters
    ----------
    plan_ : Plan
        Gives the durations and the pack.
    packs_per_week : float
        To be built.
    lot : int
        Cells that are delivered as one lot.
    samples : sequence of int
        Cells tested of each lot; testing every cell is always among the options.

    Returns
    -------
    list of dict
        One option each: ``protocols``, ``per_lot`` (None for every cell), ``cells_per_week``,
        ``channel_hours_per_week``, ``channels``, and ``fits`` the present bench.

    Raises
    ------
    BatterylabError
        If the study names no pack, or a number is not positive.
    """
    if plan_.cells_per_pack is None:
        raise BatterylabError("the study names no pack", hint="pack: {series: 96, parallel: 1}")
    if not (packs_per_week > 0 and math.isfinite(packs_per_week)) or lot < 1:
        raise BatterylabError("packs a week and cells a lot must be positive", hint="50 and 1000")
    needed = packs_per_week * plan_.cells_per_pack
    chosen = [n for n in dict.fromkeys(samples) if 0 < n < lot]
    options = []
    for names, hours in _choices(plan_):
        for n in [*chosen, None]:
            cells = needed if n is None else needed / lot * n
            busy_h = cells * (hours + plan_.changeover_h)
            taken_h = cells * plan_.period_h(hours + plan_.changeover_h)
            channels = math.ceil(taken_h / WEEK_h - 1e-9)
            options.append({
                "protocols": names, "per_lot": n, "cells_per_week": cells,
                "channel_hours_per_week": busy_h, "channels": channels,
                "fits": channels <= plan_.channels,
            })  # fmt: skip
    return options


def _choices(plan_: Plan) -> list[tuple[list[str], float]]:
    """Return what may be done to a cell: all protocols, or one of them."""
    every = [d.name for d in plan_.durations]
    choices = [(every, sum(d.total_h for d in plan_.durations))]
    if len(every) > 1:
        choices += [([d.name], d.total_h) for d in plan_.durations]
    return choices


@cache
def _shades(count: int) -> tuple[str, ...]:
    from batterylab.report.drawing import colour

    return tuple(colour(place) for place in range(count))


def gantt_svg(plan_: Plan, most_batches: int = 60) -> str:
    """Return the calendar as an SVG picture: a bar for each protocol of each batch.

    Parameters
    ----------
    plan_ : Plan
        The plan.
    most_batches : int
        Later ones are left out, and the picture says so.
    """
    from batterylab.report.drawing import axes, figure, style, svg_of

    rows = list(dict.fromkeys(span.batch for span in plan_.spans))
    shown = rows[:most_batches]
    names = list(dict.fromkeys(s.what for s in plan_.spans if s.what != "changeover"))
    with style(f"plan {plan_.study}"):
        drawing = figure(170, 32 + 5 * len(shown))
        longest = max(len(_row(plan_, batch)) for batch in shown)
        ax = axes(drawing, max(22.0, 6.0 + 1.6 * longest), 16, 6, 16)
        for span in plan_.spans:
            if span.batch in shown:
                is_work = span.what in names
                shade = _shades(len(names))[names.index(span.what)] if is_work else "#d0d0d0"
                ax.barh(shown.index(span.batch), (span.end_h - span.start_h) / 24.0,
                        left=span.start_h / 24.0, height=0.8, color=shade, linewidth=0)  # fmt: skip
        _label(ax, plan_, shown, names, len(rows))
        return svg_of(drawing)


def _row(plan_: Plan, batch: int) -> str:
    if batch == 0:
        return "gauge"
    chamber = next(span.chamber for span in plan_.spans if span.batch == batch)
    return f"batch {batch}, {chamber}" if len(plan_.chambers) > 1 and chamber else f"batch {batch}"


def _label(ax: Any, plan_: Plan, shown: list[int], names: list[str], rows: int) -> None:
    ax.set_yticks(range(len(shown)), [_row(plan_, b) for b in shown])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlabel(f"Days from {plan_.at(0.0)[:16].replace('T', ' ')} UTC")
    for place, name in enumerate(names):
        ax.barh([0], [0], color=_shades(len(names))[place], label=name.replace("_", " "))
    ax.barh([0], [0], color="#d0d0d0", label="changeover")
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, frameon=False, fontsize=7.5)
    if len(shown) < rows:
        ax.text(1.0, 0.0, f"{rows - len(shown)} later batches are left out", ha="right",
                va="bottom", transform=ax.transAxes, fontsize=7.5)  # fmt: skip
