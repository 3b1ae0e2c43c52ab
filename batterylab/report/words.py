"""Numbers, units and names of features as a reader expects them."""

import math
import re
from collections.abc import Iterable

#: ending of a feature's name -> unit as printed; the longest ending that fits wins
UNITS: dict[str, str] = {
    "_Ah": "Ah", "_Wh": "Wh", "_V": "V", "_mV": "mV", "_A": "A", "_W": "W",
    "_mOhm": "mΩ", "_ohm": "Ω", "_degC": "°C", "_K": "K", "_percent": "%", "_g": "g", "_s": "s",
    "_h": "h",
}  # fmt: skip
WORDS = {
    "ac_resistance": "AC resistance",
    "capacity": "Capacity",
    "charge_capacity": "Charge capacity",
    "dcir": "DC resistance",
    "energy": "Energy",
    "energy_efficiency": "Energy efficiency",
    "ocv": "Open-circuit voltage",
    "temperature_rise": "Temperature rise",
}
MISSING = "–"
#: characters that neither XML nor a printed page can hold, and those that turn the direction
#: of writing or hide text
_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    r"\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f\ue000-\uf8ff]"
)
_SPACES = re.compile(r"\s+")
#: longest text taken from a file, in characters
LONGEST = 1000


def plain(text: object) -> str:
    """Return text as one printable line of bounded length.

    Control characters become a visible mark; what is cut off is counted.
    """
    line = _SPACES.sub(" ", _CONTROL.sub("\ufffd", str(text))).strip()
    if len(line) <= LONGEST:
        return line
    return f"{line[:LONGEST]} … ({len(line) - LONGEST} more characters)"


def short(text: str, length: int = 16) -> str:
    """Return text cut to a length that fits a chart's label."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def unit_of(feature: str) -> str:
    """Return the unit that a feature's name carries, as printed; empty for a ratio.

    Examples
    --------
    >>> unit_of("dcir_10s_mOhm")
    'mΩ'
    """
    for ending in sorted(UNITS, key=len, reverse=True):
        if feature.endswith(ending):
            return UNITS[ending]
    return ""


def name_of(feature: str) -> str:
    """Return a feature's name in words, without its unit.

    Examples
    --------
    >>> name_of("dcir_10s_mOhm")
    'DC resistance, 10 s'
    """
    stem = feature
    for ending in sorted(UNITS, key=len, reverse=True):
        if feature.endswith(ending):
            stem = feature[: -len(ending)]
            break
    for start in sorted(WORDS, key=len, reverse=True):
        if stem == start or stem.startswith(start + "_"):
            rest = stem[len(start) + 1 :].replace("_", ", ")
            rest = re.sub(r"(?<![A-Za-z0-9])(\d+(?:\.\d+)?)(s|percent|soc)\b", _spaced, rest)
            return f"{WORDS[start]}, {rest}" if rest else WORDS[start]
    text = stem.replace("_", " ").strip()
    return text[:1].upper() + text[1:] if text else feature


def _spaced(match: re.Match[str]) -> str:
    unit = {"percent": "%", "soc": "% SOC"}.get(match[2], match[2])
    return f"{match[1]} {unit}"


def label_of(feature: str) -> str:
    """Return name and unit for an axis: ``Capacity (Ah)``."""
    unit = unit_of(feature)
    return f"{name_of(feature)} ({unit})" if unit else name_of(feature)


def finite(value: object) -> float | None:
    """Return a number if it is one, else None: for NaN, infinity, None and text."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def decimals_for(values: Iterable[float], spread: float | None = None) -> int:
    """Return how many decimals show a spread with two digits, from 0 to 6.

    Parameters
    ----------
    values : iterable of float
        What shall be printed.
    spread : float, optional
        A standard deviation; if not given, that of the values.
    """
    numbers = [value for value in values if math.isfinite(value)]
    if spread is None and len(numbers) > 1:
        mean = math.fsum(numbers) / len(numbers)
        spread = math.sqrt(math.fsum((v - mean) ** 2 for v in numbers) / (len(numbers) - 1))
    if not spread or not math.isfinite(spread):
        largest = max((abs(value) for value in numbers), default=1.0)
        spread = largest / 1000 if largest else 1.0
    return min(6, max(0, 1 - math.floor(math.log10(spread))))


def number(value: object, decimals: int | None = None) -> str:
    """Return a number as printed, with a true minus sign, or a dash if there is none."""
    found = finite(value)
    if found is None:
        return MISSING
    text = f"{found:.{decimals}f}" if decimals is not None else f"{found:.4g}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−") if not text[1:].count("e") else text


def significant(value: float, doubt: float | None) -> str:
    """Return a number with as many digits as its doubt leaves it, from 3 to 8.

    Examples
    --------
    >>> significant(4.98765, 0.002)
    '4.9877'
    """
    digits = 4
    if doubt and math.isfinite(doubt) and value:
        digits = min(8, max(3, math.ceil(math.log10(abs(value / doubt))) + 1))
    text = f"{value:#.{digits}g}".removesuffix(".")
    return text if "e" in text else text.replace("-", "−")


def interval(low: object, high: object, decimals: int | None = None) -> str:
    """Return ``4.95 to 5.03``; a side that is not known is a dash, and none gives a dash."""
    if finite(low) is None and finite(high) is None:
        return MISSING
    return f"{number(low, decimals)} to {number(high, decimals)}"


def probability(value: object) -> str:
    """Return a probability in percent, never as a bare 0 or 100."""
    found = finite(value)
    if found is None:
        return MISSING
    percent = 100.0 * found
    if percent < 0.1:
        return "< 0.1 %"
    if percent > 99.9:
        return "> 99.9 %"
    return f"{percent:.1f} %" if percent < 10 or percent > 90 else f"{percent:.0f} %"


def estimate(value: object, low: object, high: object, decimals: int | None = None) -> str:
    """Return ``4.98 (4.95 to 5.01)``: a number never stands without its interval.

    Where there is a number but no interval, the text says so.
    """
    if finite(value) is None:
        return MISSING
    if finite(low) is None and finite(high) is None:
        return f"{number(value, decimals)} (no interval)"
    return f"{number(value, decimals)} ({interval(low, high, decimals)})"


def counted(count: int, noun: str) -> str:
    """Return ``1 cell`` or ``3 cells``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
