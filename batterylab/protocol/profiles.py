"""Profiles: a current or a power over time, from the protocol or from a CSV beside it."""

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING

from batterylab.protocol.expand import Expanded
from batterylab.protocol.form import Points
from batterylab.protocol.steps import LONGEST_s, Profile

if TYPE_CHECKING:
    from batterylab.protocol.resolve import Resolver

COLUMNS = ("current_A", "rate_C", "power_W")
MOST_POINTS = 200_000
LARGEST_bytes = 20_000_000
NOTHING = Points("current_A", (0.0,), (0.0,), 1.0)
Keys = tuple[str | int, ...]


def points_of(entry: Profile, owner: "Resolver", keys: Keys) -> Points:
    """Return what a profile prescribes, scaled and repeated.

    Parameters
    ----------
    entry : Profile
        Of the file.
    owner : Resolver
        Takes the problems; knows the cell type and where the file lies.
    keys : tuple
        Where the entry stands.

    Returns
    -------
    Points
        One second without current if there are problems.
    """
    if entry.points is not None:
        begins, now = [], 0.0
        for length_s, _ in entry.points:
            begins.append(now)
            now += length_s
            if not length_s > 0:
                owner.problem((*keys, "points"), "a point lasts no time", "[10 s, -1C]")
                return NOTHING
        for _, stream in entry.points:
            if stream.of not in ("", "nominal", "rated"):
                owner.problem((*keys, "points"), "a profile does not wait for a measure", "1C, 5 A")
                return NOTHING
        values = [owner.numbers.amps(stream) for _, stream in entry.points]
        return _made(entry, owner, keys, "current_A", begins, values, now)
    folder = owner.document.path.parent
    if isinstance(owner.document, Expanded):
        folder = owner.document.origin(*keys)[0].path.parent
    try:
        quantity, times, values = read_profile(folder / str(entry.file))
    except ValueError as error:
        what, _, remedy = str(error).partition("\n  hint: ")
        owner.problem((*keys, "file"), what, remedy)
        return NOTHING
    if quantity == "rate_C":
        quantity, values = "current_A", [v * owner.cell_type.nominal_capacity_Ah for v in values]
    return _made(entry, owner, keys, quantity, times[:-1], values[:-1], times[-1])


def _made(
    entry: Profile, owner: "Resolver", keys: Keys, quantity: str, begins: list[float],
    values: list[float], length_s: float,
) -> Points:  # fmt: skip
    if len(begins) * entry.times > MOST_POINTS or length_s * entry.times > LONGEST_s:
        owner.problem(keys, "the profile is too long", f"at most {MOST_POINTS} points, 100 d")
        return NOTHING
    times = [k * length_s + begin for k in range(entry.times) for begin in begins]
    scaled = [value * entry.scale for value in values] * entry.times
    return Points(quantity, tuple(times), tuple(scaled), length_s * entry.times)


def read_profile(path: Path) -> tuple[str, list[float], list[float]]:
    """Read a profile from a CSV with ``time_s`` and ``current_A``, ``rate_C`` or ``power_W``.

    Parameters
    ----------
    path : Path
        UTF-8; charge positive. A value holds until the next time; the last time ends the profile.

    Returns
    -------
    (str, list of float, list of float)
        Name of the value's column, times in s from 0, values.

    Raises
    ------
    ValueError
        With what is wrong, by line.
    """
    try:
        if path.stat().st_size > LARGEST_bytes:
            raise ValueError(f"{path.name}: larger than {LARGEST_bytes} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ValueError(
            f"there is no file {path.name!r}\n  hint: put it beside the protocol"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name}: cannot be read: {error}") from None
    rows = csv.reader(text.splitlines())
    header = [name.strip() for name in next(rows, [])]
    found = [name for name in COLUMNS if name in header]
    if "time_s" not in header or len(found) != 1:
        raise ValueError(
            f"{path.name}:1: the columns are {', '.join(header) or 'missing'}"
            f"\n  hint: time_s and one of {', '.join(COLUMNS)}"
        )
    places = header.index("time_s"), header.index(found[0])
    times: list[float] = []
    values: list[float] = []
    for row in rows:
        if any(field.strip() for field in row):
            time_s, value = (_number(row, place, path, rows.line_num) for place in places)
            if times and not time_s > times[-1]:
                raise ValueError(f"{path.name}:{rows.line_num}: time goes back to {time_s:g} s")
            times.append(time_s)
            values.append(value)
    if len(times) < 2 or times[0] != 0.0:
        raise ValueError(f"{path.name}: times must begin at 0 and be two at least")
    return found[0], times, values


def _number(row: list[str], place: int, path: Path, line: int) -> float:
    text = row[place].strip() if place < len(row) else ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{path.name}:{line}: {text[:40]!r} is not a number")
    return value
