"""The course of ageing of each cell, from whatever the feature table holds of it."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from batterylab.features.course import AGED
from batterylab.suppliers.nodes import Array
from batterylab.suppliers.sampling import GOOD_STATES, NO_LOT, Reading

#: what ages: the first of these that has a course
FEATURES = ("capacity_Ah", "relative_capacity")
#: a cell of fewer values has no course of its own, and without one such cell there is no ageing
LEAST_POINTS = 4
_DAY_s = 86400.0

Axis = Literal["cycles", "days"]


@dataclass(frozen=True)
class Course:
    """The capacities of one cell in order of age.

    Attributes
    ----------
    axis : str
        ``cycles`` or ``days``, since the first of the capacities.
    age, capacity : ndarray, shape (n,)
        `age` rises and begins at 0.
    seals : tuple of str
        The recordings or tables that the values come from.
    """

    serial: str
    supplier: str
    lot: str
    axis: Axis
    age: Array
    capacity: Array
    seals: tuple[str, ...]

    @property
    def share(self) -> Array:
        """Capacity as a share of the first."""
        left: Array = self.capacity / self.capacity[0]
        return left


def courses(
    readings: Sequence[Reading], protocols: Sequence[str] = (), references: Sequence[str] = ()
) -> tuple[list[Course], list[str]]:
    """Return the cells' courses on the axis that most of them have, and who is left out.

    A cell's course is, in this order: the values of a table that says how many cycles went
    before them (`cycles` of its map); the discharges of its life tests, one after the other; the
    capacities of its recordings by one protocol, over the days since the first.

    Parameters
    ----------
    readings : sequence of Reading
        As `readings_of` gives them.
    protocols : sequence of str
        Of the study, for recordings by several.
    references : sequence of str
        Serials of reference parts.

    Returns
    -------
    list of Course
        By supplier, lot and serial; empty where no cell has `LEAST_POINTS` values.
    list of str
        Serials whose course is on the other axis.
    """
    by_cell: dict[str, list[Reading]] = defaultdict(list)
    for reading in readings:
        usable = (
            reading.state in GOOD_STATES and reading.value > 0 and reading.part == "main"
            and reading.supplier and reading.serial not in references
        )  # fmt: skip
        if usable and reading.feature in (AGED, *FEATURES):
            by_cell[reading.serial].append(reading)
    found = [course for cell in by_cell.values() if (course := _course(cell, protocols))]
    if not any(len(course.age) >= LEAST_POINTS for course in found):
        return [], []
    votes = Counter(course.axis for course in found if len(course.age) >= LEAST_POINTS)
    axis = max(votes, key=lambda name: (votes[name], name == "cycles"))
    kept = [course for course in found if course.axis == axis]
    left_out = sorted(course.serial for course in found if course.axis != axis)
    return sorted(kept, key=lambda c: (c.supplier, c.lot, c.serial)), left_out


def _course(cell: Sequence[Reading], protocols: Sequence[str]) -> Course | None:
    known = [r for r in cell if r.feature in FEATURES and r.cycles >= 0]
    feature = next((name for name in FEATURES if any(r.feature == name for r in known)), None)
    candidates = [
        ("cycles", [(r.cycles, r) for r in known if r.feature == feature]),
        ("cycles", _joined([r for r in cell if r.feature == AGED])),
        ("days", _dated([r for r in cell if r.feature == FEATURES[0]], protocols)),
    ]
    for axis, points in candidates:
        by_age = dict(reversed(points))  # of equal ages the first
        if len(by_age) >= 2:
            ages = sorted(by_age)
            one = by_age[ages[0]]
            return Course(
                one.serial, one.supplier, one.lot or NO_LOT, axis,  # type: ignore[arg-type]
                np.array(ages) - ages[0], np.array([by_age[age].value for age in ages]),
                tuple(dict.fromkeys(by_age[age].seal for age in ages)),
            )  # fmt: skip
    return None


def _joined(rows: Sequence[Reading]) -> list[tuple[float, Reading]]:
    """Return the discharges of life tests that follow each other, cycles counting on."""
    by_recording: dict[tuple[str, str], list[Reading]] = defaultdict(list)
    for row in rows:
        by_recording[row.start_utc, row.seal].append(row)
    points: list[tuple[float, Reading]] = []
    for key in sorted(by_recording):
        begun = points[-1][0] + 1.0 if points else 0.0
        points += [(begun + r.cycles, r) for r in sorted(by_recording[key], key=lambda r: r.cycles)]
    return points


def _dated(rows: Sequence[Reading], protocols: Sequence[str]) -> list[tuple[float, Reading]]:
    """Return the capacities of recordings by one protocol, by day."""
    counts = Counter(row.protocol for row in rows)
    if not counts:
        return []
    places = {name: number for number, name in enumerate(protocols)}
    protocol = max(counts, key=lambda name: (counts[name], places.get(name, -1), name))
    points = []
    for row in rows:
        moment = moment_of(row.start_utc)
        if row.protocol == protocol and moment is not None and row.source != "table":
            points.append((moment.timestamp() / _DAY_s, row))
    return sorted(points, key=lambda point: (point[0], point[1].seal))


def moment_of(text: str) -> datetime | None:
    """Return a time in UTC; None if it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
