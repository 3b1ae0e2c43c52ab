"""Half-cell curves as the `ocv` kernel reads them: two tables over one grid.

From a parameter set that PyBaMM ships, or from a file with one row a point. Importing PyBaMM
costs seconds, so a set's sampled tables are kept where the caller says.
"""

import contextlib
import csv
import hashlib
import io
import os
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batterylab.errors import BatterylabError

Array = NDArray[np.float64]

ELECTRODES = ("negative", "positive")
FILE_COLUMNS = ("electrode", "stoichiometry", "potential_V")
FILE_POINTS = 4001
LARGEST_BYTES = 1 << 26
#: points of a measured curve within these are averaged
BIN_WIDTH = 0.004
BIN_V = 0.006


@dataclass(frozen=True)
class HalfCells:
    """Open-circuit potentials of both electrodes over their stoichiometry.

    Attributes
    ----------
    name : str
        Where they come from.
    first, step : float
        The grid of stoichiometries.
    negative_V, positive_V : ndarray, shape (n,)
        Potentials against lithium on the grid.
    negative_range, positive_range : (float, float)
        Stoichiometries that the source covers; a fit stays inside.
    """

    name: str
    first: float
    step: float
    negative_V: Array
    positive_V: Array
    negative_range: tuple[float, float]
    positive_range: tuple[float, float]

    def __post_init__(self) -> None:
        n, p = self.negative_V, self.positive_V
        if n.ndim != 1 or n.shape != p.shape or len(n) < 4 or not self.step > 0:
            raise BatterylabError(f"{self.name}: the two half-cell tables do not fit each other")
        if not (np.isfinite(n).all() and np.isfinite(p).all()):
            raise BatterylabError(f"{self.name}: a potential is not a finite number")

    @property
    def digest(self) -> str:
        """SHA-256 over the tables, 16 hex digits."""
        parts = (np.array([self.first, self.step, *self.negative_range, *self.positive_range]),
                 self.negative_V, self.positive_V)  # fmt: skip
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:16]


def from_parameter_set(name: str = "Chen2020", cache: Path | None = None) -> HalfCells:
    """Return the half-cell curves of a parameter set that PyBaMM ships, or of a BPX file.

    Parameters
    ----------
    name : str
        Of the set, or the path of the file (``.json``).
    cache : Path, optional
        Folder that keeps the sampled tables, by set and version of PyBaMM.

    Raises
    ------
    BatterylabError
        If the set is unknown or has no two open-circuit potentials.
    """
    from batterylab.fit.celltables import bpx_digest

    safe = f"bpx-{bpx_digest(name)}" if name.lower().endswith(".json") else _safe(name)
    path = cache and cache / f"{safe}_pybamm-{metadata.version('pybamm')}.npz"
    kept = _read_cache(path, name) if path else None
    if kept is not None:
        return kept
    from batterylab.pybamm_border import half_cell_ocps

    curves = half_cell_ocps(name)
    grid = curves["negative"].stoichiometry
    span = (float(grid[0]), float(grid[-1]))
    step = (span[1] - span[0]) / (len(grid) - 1)
    tables = [np.ascontiguousarray(curves[e].potential_V) for e in ELECTRODES]
    half_cells = HalfCells(name, span[0], step, tables[0], tables[1], span, span)
    if path:
        _write_cache(path, half_cells)
    return half_cells


def kept_tables(folder: Path, digest: str) -> HalfCells | None:
    """Return the tables with a digest that a folder keeps; None if there are none.

    Nothing is sampled here: fits keep what they used (`from_parameter_set` with `cache`).
    """
    for path in sorted(folder.glob("*.npz")) if folder.is_dir() else []:
        found = _read_cache(path, path.stem.partition("_pybamm-")[0])
        if found is not None and found.digest == digest:
            return found
    return None


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)[:60]


def _read_cache(path: Path, name: str) -> HalfCells | None:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
            first, step = (float(value) for value in kept["grid"])
            negative, positive = (np.ascontiguousarray(kept[e], np.float64) for e in ELECTRODES)
        span = (first, first + step * (len(negative) - 1))
        return HalfCells(name, first, step, negative, positive, span, span)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    except BatterylabError:
        return None


def _write_cache(path: Path, half_cells: HalfCells) -> None:
    """Keep the tables; a folder that cannot be written to costs time only."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".writing-", suffix=".npz", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                np.savez(
                    stream,
                    grid=np.array([half_cells.first, half_cells.step]),
                    negative=half_cells.negative_V,
                    positive=half_cells.positive_V,
                )
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def from_file(path: Path) -> HalfCells:
    """Read half-cell curves from a CSV file.

    Parameters
    ----------
    path : Path
        UTF-8, with the columns ``electrode`` (negative or positive), ``stoichiometry`` (the
        lithium that the electrode holds, 0 to 1) and ``potential_V``, rows in any order.
        Points that lie close together are averaged (`averaged`), the curves are interpolated
        without overshoot (PCHIP) and drawn on straight beyond the range that the file covers.

    Raises
    ------
    BatterylabError
        With line and remedy, if the file is not like that.
    """
    points = _points(Path(path))
    tables, ranges = {}, {}
    grid = np.linspace(0.0, 1.0, FILE_POINTS)
    for electrode in ELECTRODES:
        x, u = _curve(Path(path), electrode, points[electrode])
        tables[electrode] = _resample(*averaged(x, u), grid)
        ranges[electrode] = (float(x[0]), float(x[-1]))
    return HalfCells(
        Path(path).name, 0.0, float(grid[1]), tables["negative"], tables["positive"],
        ranges["negative"], ranges["positive"],
    )  # fmt: skip


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise BatterylabError(f"{path}: the file is larger than {LARGEST_BYTES} bytes")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BatterylabError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BatterylabError(f"{path}: cannot be read: {error}", hint="save it as UTF-8") from None


def _points(path: Path) -> dict[str, list[tuple[float, float]]]:
    try:
        rows = list(csv.reader(io.StringIO(_text(path))))
    except csv.Error as error:
        raise BatterylabError(f"{path}: not CSV: {error}") from None
    header = [name.strip() for name in rows[0]] if rows else []
    missing = [name for name in FILE_COLUMNS if name not in header]
    if missing:
        raise BatterylabError(
            f"{path}:1: the column {missing[0]!r} is missing", hint=",".join(FILE_COLUMNS)
        )
    places = [header.index(name) for name in FILE_COLUMNS]
    points: dict[str, list[tuple[float, float]]] = {electrode: [] for electrode in ELECTRODES}
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        try:
            electrode, x, u = (row[place].strip() for place in places)
            points[electrode].append((float(x), float(u)))
        except (IndexError, KeyError, ValueError):
            raise BatterylabError(
                f"{path}:{number}: {','.join(row)[:60]!r} is no point of a half-cell curve",
                hint="electrode negative or positive, then two numbers",
            ) from None
    return points


def _curve(path: Path, electrode: str, points: list[tuple[float, float]]) -> tuple[Array, Array]:
    table = np.array(sorted(points), float).reshape(-1, 2)
    x, u = table.T.copy()
    if len(x) < 10:
        raise BatterylabError(f"{path}: the {electrode} electrode has {len(x)} points, not 10")
    if not np.isfinite(table).all() or x[0] < -1e-6 or x[-1] > 1 + 1e-6:
        raise BatterylabError(
            f"{path}: {electrode} electrode: a stoichiometry outside 0 to 1, or no finite number"
        )
    x, group, count = np.unique(np.clip(x, 0.0, 1.0), return_inverse=True, return_counts=True)
    u = np.bincount(group, u) / count
    if u[0] <= u[-1]:
        raise BatterylabError(
            f"{path}: {electrode} electrode: the potential does not fall with the stoichiometry",
            hint="stoichiometry is the lithium that the electrode holds; 1 is full",
        )
    return x, u


def averaged(x: Array, u: Array) -> tuple[Array, Array]:
    """Return a measured curve with neighbours averaged: its noise would trap an optimiser.

    Points are put together while they span at most `BIN_WIDTH` in stoichiometry and `BIN_V`
    in potential, so that steep ends keep every point; both end points stay.
    """
    group = np.zeros(len(x), int)
    first = 0
    for i in range(1, len(x)):
        is_near = x[i] - x[first] <= BIN_WIDTH and abs(u[i] - u[first]) <= BIN_V
        if i == len(x) - 1 or first == 0 or not is_near:
            first = i
        group[i] = group[i - 1] + (first == i)
    count = np.bincount(group)
    return np.bincount(group, x) / count, np.bincount(group, u) / count


def _resample(x: Array, u: Array, grid: Array) -> Array:
    from scipy.interpolate import PchipInterpolator

    inside = np.clip(grid, x[0], x[-1])
    values: Array = PchipInterpolator(x, u)(inside)
    near = 0.005 * (x[-1] - x[0])
    a, b = int(np.searchsorted(x, x[0] + near)), int(np.searchsorted(x, x[-1] - near)) - 1
    a, b = max(a, 1), min(b, len(x) - 2)
    left, right = (u[a] - u[0]) / (x[a] - x[0]), (u[-1] - u[b]) / (x[-1] - x[b])
    values += left * np.minimum(grid - x[0], 0.0) + right * np.maximum(grid - x[-1], 0.0)
    return values
