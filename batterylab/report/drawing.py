"""How a chart is drawn: sizes, colours, type, and SVG with the text kept as text.

Charts are `matplotlib` figures without pyplot. A figure is measured in millimetres and set in
the page at that size, so that a point of type in a chart is a point on paper.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1a1a1a"
SOFT = "#6b6b6b"
HAIR = "#c9c9c9"
LIMIT = "#b00020"
#: one colour a supplier; told apart in the common forms of colour blindness (Okabe and Ito)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#9B4F96", "#B8860B", "#3A8FB7", "#7A3B2E", "#5F6B6D")
MARKERS = "os^DvPX*"
#: the typeface of the page; matplotlib measures with a font of nearly the same widths
TYPEFACE = "Libertinus Serif"
_MEASURED = "STIXGeneral"
_MM = 1 / 25.4
_RC: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": _MEASURED,
    "font.size": 8.0,
    "axes.linewidth": 0.6,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.labelsize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "axes.unicode_minus": True,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.pad": 2.0,
    "ytick.major.pad": 2.0,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.0,
    "text.color": INK,
}
_HEAD = re.compile(r"^.*?(?=<svg )", re.DOTALL)
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_BACKGROUND = re.compile(r'<g id="patch_[12]">\s*<path [^>]*style="fill: #ffffff"/>\s*</g>\s*')
_GROUP_ID = re.compile(r'<g id="[^"]*"')


@contextmanager
def style(key: str) -> Iterator[None]:
    """Draw with the report's type and lines; `key` makes the identifiers in the SVG unique."""
    from matplotlib import rc_context

    settings: Any = {**_RC, "svg.hashsalt": key}
    with rc_context(settings):
        yield


def colour(place: int) -> str:
    """Return the colour of the supplier at a place of the list."""
    return COLOURS[place % len(COLOURS)]


def marker(place: int) -> str:
    """Return the marker of the supplier at a place of the list."""
    return MARKERS[place % len(MARKERS)]


def figure(width_mm: float, height_mm: float) -> "Figure":
    """Return an empty figure of a size in millimetres."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_mm * _MM, height_mm * _MM))


def axes(
    drawing: "Figure", left_mm: float, bottom_mm: float, right_mm: float, top_mm: float
) -> "Axes":
    """Add axes with margins in millimetres to each edge of the figure."""
    width, height = (float(size) / _MM for size in drawing.get_size_inches())
    return drawing.add_axes(
        (
            left_mm / width,
            bottom_mm / height,
            (width - left_mm - right_mm) / width,
            (height - bottom_mm - top_mm) / height,
        )
    )


def svg_of(drawing: "Figure") -> str:
    """Return a figure as one SVG element, without prolog, metadata or background."""
    stream = io.StringIO()
    drawing.savefig(stream, format="svg", metadata={"Date": None})
    svg = _METADATA.sub("", _HEAD.sub("", stream.getvalue(), count=1))
    svg = _GROUP_ID.sub("<g", _BACKGROUND.sub("", svg))
    return svg.replace(f"'{_MEASURED}'", f"'{TYPEFACE}'")
