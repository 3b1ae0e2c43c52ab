"""The values in the ASCII transfer format of Q-DAS, as quality departments ask for it.

One part, the cell type; one characteristic for each feature and supplier, so that no
evaluation mixes two suppliers; one line a K-field: key, number of the characteristic, value.
Only fields whose meaning is documented in `docs/report.md` are written.
"""

import re
from datetime import UTC, datetime

from batterylab.report.card import Card, Characteristic, Value, mapping, text
from batterylab.report.words import plain

#: fields hold text up to this length
_LENGTH = 80
#: the part identification holds text up to this length
_PART_ID = 40
_ASCII = {"mΩ": "mOhm", "Ω": "Ohm", "°C": "degC"}
_NOT_A_NAME = re.compile(r"[\r\n\t\x00-\x1f¤\x0f\x14]")


def to_dfq(card: Card) -> bytes:
    """Return the file; UTF-8, with a byte order mark only where a name is not ASCII."""
    pairs = [
        (one, supplier, values)
        for one in card.features.values()
        for supplier in card.suppliers
        if (values := one.of(supplier))
    ]
    cell = text(mapping(card.raw.get("cell_type")), "name") or card.study
    lines = [f"K0100 {len(pairs)}", f"K1001/1 {_field(cell)}", f"K1002/1 {_field(card.study)}"]
    if card.suppliers:
        lines.append(f"K1022/1 {_field(', '.join(card.suppliers))}")
    for place, (one, supplier, _) in enumerate(pairs, 1):
        lines += _characteristic(one, supplier, place)
    for place, (one, _, values) in enumerate(pairs, 1):
        for value in values:
            lines += _value(value, place, one.decimals + 2)
    content = "\r\n".join(lines) + "\r\n"
    return content.encode() if content.isascii() else b"\xef\xbb\xbf" + content.encode()


def _field(value: str) -> str:
    return _NOT_A_NAME.sub(" ", plain(value))[:_LENGTH].strip() or "-"


def _characteristic(one: Characteristic, supplier: str, place: int) -> list[str]:
    lines = [
        f"K2001/{place} {place}",
        f"K2002/{place} {_field(f'{one.title}, {supplier}')}",
        f"K2022/{place} {one.decimals + 2}",
    ]
    if one.lower is not None:
        lines.append(f"K2110/{place} {one.lower!r}")
    if one.upper is not None:
        lines.append(f"K2111/{place} {one.upper!r}")
    unit = _ASCII.get(one.unit, one.unit)
    return [*lines, f"K2142/{place} {_field(unit)}"] if unit else lines


def _value(value: Value, place: int, decimals: int) -> list[str]:
    lines = [f"K0001/{place} {value.value:.{decimals}f}", f"K0002/{place} 0"]
    moment = _moment(value.start_utc)
    if moment:
        lines.append(f"K0004/{place} {moment}")
    if value.lot:
        lines.append(f"K0006/{place} {_field(value.lot)}")
    if value.serial:
        lines.append(f"K0014/{place} {_field(value.serial)[:_PART_ID]}")
    return lines


def _moment(start_utc: str) -> str:
    """Return ``05.01.2026/06:00:00`` in UTC; empty if not known."""
    try:
        moment = datetime.fromisoformat(start_utc)
    except ValueError:
        return ""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return moment.strftime("%d.%m.%Y/%H:%M:%S")
