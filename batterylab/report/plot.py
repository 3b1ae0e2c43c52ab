"""Draw a recording: voltage, current and temperature over time, measured steps shaded."""

import io
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from batterylab.errors import BatterylabError
from batterylab.recording import Recording
from batterylab.report.drawing import COLOURS, HAIR, SOFT, axes, figure, style, svg_of
from batterylab.report.files import put
from batterylab.report.words import plain, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("png", "svg", "pdf")
#: stretches of time of which smallest and largest value are drawn
STRETCHES = 1200
_PANELS = (
    ("voltage_V", "Voltage (V)"),
    ("current_A", "Current (A)"),
    ("temperature_degC", "Temperature (°C)"),
)


def plot(recording: Recording, out: Path | str) -> Path:
    """Draw a recording into a file.

    Parameters
    ----------
    recording : Recording
        From `batterylab.archive.read`.
    out : Path or str
        Ends in ``.png``, ``.svg`` or ``.pdf``.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    BatterylabError
        If the ending is another. Nothing is written.
    EnvironmentFailedError
        If the disk refuses.
    """
    out = Path(out)
    kind = out.suffix[1:].lower()
    if kind not in KINDS:
        raise BatterylabError(
            f"{out.name}: cannot draw into a {out.suffix or 'file without ending'}",
            hint=f"end it in {', '.join('.' + one for one in KINDS)}",
        )
    with style(f"recording-{recording.seal[:8]}"):
        return put(out, _content(_drawing(recording), kind))


def _content(drawing: "Figure", kind: str) -> bytes:
    if kind == "svg":
        return svg_of(drawing).encode()
    stream = io.BytesIO()
    if kind == "png":
        drawing.savefig(stream, format="png", dpi=160, metadata={"Software": None})
    else:
        drawing.savefig(stream, format="pdf", metadata={"CreationDate": None})
    return stream.getvalue()


def _drawing(recording: Recording) -> "Figure":
    shown = [
        (name, label)
        for name, label in _PANELS
        if name in recording.columns and np.isfinite(recording.columns[name]).any()
    ]
    time, unit = _time(recording.columns["test_time_s"])
    rows = _rows_to_draw([recording.columns[name] for name, _ in shown], recording)
    height_mm = 14.0 + 40.0 * len(shown)
    drawing = figure(170.0, height_mm)
    for place, (name, label) in enumerate(shown):
        bottom_mm = height_mm - 8.0 - 40.0 * (place + 1) + 4.0
        ax = axes(drawing, 15.0, bottom_mm, 4.0, 8.0 + 40.0 * place)
        _shade(ax, recording, time)
        ax.plot(time[rows], recording.columns[name][rows], color=COLOURS[place], linewidth=0.8)
        ax.set_xlim(time[0], time[-1] if time[-1] > time[0] else time[0] + 1)
        ax.set_ylabel(label)
        ax.grid(axis="y", color=HAIR, linewidth=0.4)
        ax.set_axisbelow(True)
        if place == len(shown) - 1:
            ax.set_xlabel(f"Test time ({unit})")
            ax.text(1.0, -0.155, "shaded: steps with a measure", transform=ax.transAxes,
                    ha="right", va="top", fontsize=7.5, color=SOFT)  # fmt: skip
        else:
            ax.tick_params(labelbottom=False)
    _caption(drawing, recording, height_mm)
    return drawing


def _caption(drawing: "Figure", recording: Recording, height_mm: float) -> None:
    names = (recording.serial, f"lot {recording.lot}" if recording.lot else "",
             recording.supplier, recording.protocol)  # fmt: skip
    head = ", ".join(short(plain(name), 40) for name in names if name)
    drawing.text(15 / 170, 1 - 4.5 / height_mm, head, fontsize=9.5, va="center")
    tail = f"{plain(recording.start_utc)}  {recording.seal[:8]}".strip()
    drawing.text(1 - 4 / 170, 1 - 4.5 / height_mm, tail, fontsize=7.5, va="center", ha="right",
                 color=SOFT)  # fmt: skip


def _time(test_time_s: NDArray[Any]) -> tuple[NDArray[np.float64], str]:
    """Return times in the unit that suits their length."""
    length_s = float(test_time_s[-1] - test_time_s[0])
    if length_s > 7200:
        return test_time_s / 3600.0, "h"
    return (test_time_s / 60.0, "min") if length_s > 300 else (test_time_s * 1.0, "s")


def _rows_to_draw(columns: list[NDArray[Any]], recording: Recording) -> NDArray[np.intp]:
    """Return the rows worth drawing: ends of steps, extremes of each stretch of rows."""
    count = len(recording)
    if count <= 2 * STRETCHES:
        return np.arange(count)
    edges = np.linspace(0, count, STRETCHES + 1).astype(np.intp)
    kept: list[Any] = [[0, count - 1]]
    kept.append([row for step in recording.steps for row in (step.first_row, step.last_row)])
    for values in columns:
        filled = np.where(np.isfinite(values), values, 0.0)
        for first, last in pairwise(edges):
            piece = filled[first:last]
            kept.append([first + piece.argmin(), first + piece.argmax()])
    return np.unique(np.concatenate([np.asarray(rows, dtype=np.intp) for rows in kept]))


def _shade(ax: Any, recording: Recording, time: NDArray[np.float64]) -> None:
    """Shade the steps that carry a measure."""
    for step in recording.steps:
        if step.measure:
            ax.axvspan(time[step.first_row], time[step.last_row], color="#f5f0e0", linewidth=0,
                       zorder=0)  # fmt: skip
