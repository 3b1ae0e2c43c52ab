"""A protocol in plain numbers for one cell type: what bench, planner and recording share.

A protocol is a tree of nodes. `Step` is one thing done to a cell: how it is driven (`mode` and its
level), what ends it (`ends` and `duration_s`), what stops it (`stops`), how it is recorded. Blocks
(`Repeat`, `Until`, `If`) hold further nodes; `Mark` names a place.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from batterylab.cells import CellType

#: a reading that is not done in its time is ended by the host; the cycler waits so much longer
READ_MARGIN_s = 600
KINDS = ("charge", "discharge", "rest", "pulse", "hold", "profile", "soak", "measure")


@dataclass(frozen=True)
class End:
    """A condition on what is measured during a step, and what comes when it holds.

    Attributes
    ----------
    quantity : str
        ``voltage_V``, ``current_A``, ``power_W``, ``capacity_Ah``, ``energy_Wh`` (the last four as
        magnitudes, capacity and energy since the step began), ``soc_percent``,
        ``temperature_degC``, ``voltage_rate_V_per_s`` or ``temperature_rate_K_per_s``.
    relation : str
        ``above`` or ``below``; reaching the value is enough.
    value : float
        The limit; with `of`, the factor on what was measured.
    of : str
        Name of a measure whose last result the value is a share of; for ``current_A``, the
        capacity that a rate counts from. Empty for a plain value.
    hold_s : float
        The condition must last this long.
    over_s : float
        Time over which a change per time is taken.
    then : str
        ``next``, ``finish``, ``fail`` or the name of a mark further on.
    is_own : bool
        Whether the value was computed for one cell, so that cells cannot share a sequence for it.
    """

    quantity: str
    relation: str
    value: float
    of: str = ""
    hold_s: float = 0.0
    over_s: float = 0.0
    then: str = "next"
    is_own: bool = False


@dataclass(frozen=True)
class Points:
    """What a profile prescribes: value `k` from `time_s[k]` to the next time.

    Attributes
    ----------
    quantity : str
        ``current_A`` or ``power_W``, charge positive.
    time_s : tuple of float
        Begin of each value; the first is 0.
    value : tuple of float
        As many as times.
    length_s : float
        End of the last value.
    """

    quantity: str
    time_s: tuple[float, ...]
    value: tuple[float, ...]
    length_s: float

    def after(self, elapsed_s: float) -> "Points":
        """Return what is left of the profile after some time."""
        first = max(k for k, time_s in enumerate(self.time_s) if time_s <= elapsed_s)
        times = (0.0, *(time_s - elapsed_s for time_s in self.time_s[first + 1 :]))
        return Points(self.quantity, times, self.value[first:], self.length_s - elapsed_s)


@dataclass(frozen=True)
class Air:
    """The chamber's temperature that a `soak` asks for.

    Attributes
    ----------
    temperature_degC, within_K : float
        Set point and tolerance.
    arrive_s : float
        The longest that the air may take to get there.
    """

    temperature_degC: float
    within_K: float
    arrive_s: float


@dataclass(frozen=True)
class Read:
    """What a `measure` step reads: ``ac_resistance``, ``ocv`` or ``eis``; at which frequencies."""

    what: str
    frequency_Hz: tuple[float, ...] = ()

    @property
    def needs_meter(self) -> bool:
        """Whether a meter reads it; a voltage without current is the cycler's own."""
        return self.what != "ocv"


@dataclass(frozen=True)
class Step:
    """One step in plain numbers.

    Attributes
    ----------
    path : str
        Where it stands in the file, such as ``steps[0].steps[2]``.
    kind : str
        ``charge discharge rest pulse hold profile soak measure``; a ``pulse`` is a charge or
        discharge `for` a time.
    current_A : float
        Set current, charge positive; 0 without current. Where something else is set, the current
        that is not exceeded. Where it refers to a measure (`rate_of`), as expected.
    voltage_V : float
        Voltage at which the step ends or holds; NaN without current.
    duration_s : int
        Its length, or its upper bound.
    ends : tuple of End
        What ends it before its time; whichever comes first.
    on_time : str
        What comes when its time is up: ``next`` (the time is its length), ``fail`` (it should have
        ended), ``finish`` or a mark.
    mode : str
        What is held constant: ``current``, ``power``, ``resistance``, ``voltage``, ``profile``, or
        ``rest``.
    level : float
        In W or ohm for ``power`` and ``resistance``, as a magnitude; else NaN.
    rate_of : str
        The measure whose last result the current is `rate_C` times of.
    stops : tuple of End
        Safety of its own, besides the protocol's.
    measure : str
        What features call it.
    sample_every_s, voltage_moves_V, current_moves_A : float or None
        Recording, if the step has its own.
    """

    path: str
    kind: str
    current_A: float
    voltage_V: float
    duration_s: int
    ends: tuple[End, ...] = ()
    on_time: str = "next"
    mode: str = "current"
    level: float = math.nan
    rate_C: float = math.nan
    rate_of: str = ""
    stops: tuple[End, ...] = ()
    measure: str = ""
    sample_every_s: float | None = None
    voltage_moves_V: float | None = None
    current_moves_A: float | None = None
    points: Points | None = None
    air: Air | None = None
    read: Read | None = None

    @property
    def waits_s(self) -> int:
        """How much longer than `duration_s` a cycler rests, should the host not end the step.

        The host does once the air has arrived, or a meter has read.
        """
        if self.air is not None:
            return math.ceil(self.air.arrive_s)
        return READ_MARGIN_s if self.read is not None and self.read.needs_meter else 0

    @property
    def is_fixed(self) -> bool:
        """Whether `duration_s` is a length, not a time by which the step must have ended."""
        return self.on_time != "fail"

    @property
    def hold_until_A(self) -> float | None:
        """The current to which a voltage is held, or None if none is."""
        return self._end("current_A", "below")

    @property
    def to_soc_percent(self) -> float | None:
        """The state of charge that ends it, if one does."""
        return self._end("soc_percent", "above" if self.current_A > 0 else "below")

    @property
    def ends_at_voltage(self) -> bool:
        """Whether it ends at `voltage_V`; else it holds there."""
        wanted = "above" if self.current_A > 0 else "below"
        return any(
            end.quantity == "voltage_V" and end.relation == wanted and end.value == self.voltage_V
            and not end.hold_s and not end.of for end in self.ends
        )  # fmt: skip

    def _end(self, quantity: str, relation: str) -> float | None:
        found = (e.value for e in self.ends if (e.quantity, e.relation) == (quantity, relation))
        return next(found, None)

    @property
    def branches(self) -> bool:
        """Whether what comes after it depends on how it ended."""
        return self.on_time not in ("next", "fail") or any(
            end.then not in ("next", "fail") for end in (*self.ends, *self.stops)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able values, those that say nothing left out."""
        always = ("path", "kind", "current_A", "voltage_V", "duration_s", "ends", "measure")
        return {
            key: value
            for key, value in _plain(self).items()
            if key in always or value != _PLAIN_DEFAULTS[key]
        } | {"is_fixed": self.is_fixed}

    @property
    def recorded_kind(self) -> str:
        """The kind that the step table of a recording gives it."""
        return {"soak": "rest", "measure": "rest", "profile": "other"}.get(self.kind, self.kind)

    def head(self) -> dict[str, Any]:
        """Return what the step table of a recording says of it, JSON-able."""
        names = ("path", "current_A", "voltage_V", "duration_s", "measure")
        plain = {name: _plain_value(getattr(self, name)) for name in names}
        read = {"read": self.read.what} if self.read is not None else {}
        return {**plain, **read, "kind": self.recorded_kind}


@dataclass(frozen=True)
class Mark:
    """A place with a name: it is noted in the recording, and ends can lead to it."""

    name: str


@dataclass(frozen=True)
class Repeat:
    """Steps that are carried out a number of times."""

    times: int
    body: tuple["Node", ...]


@dataclass(frozen=True)
class Until:
    """Steps that are repeated until a measure has settled, or has passed a limit.

    Attributes
    ----------
    measure : str
        Whose results in Ah count.
    last : int
        How many of them must lie together; 0 if a limit ends the repetition.
    within_Ah : float
        How near; NaN if `within_share` says so.
    at_most : int
        Repetitions.
    within_share : float
        How near as a share of their mean; NaN if not used.
    limit : End or None
        The limit, on ``capacity_Ah``.
    """

    measure: str
    last: int
    within_Ah: float
    at_most: int
    body: tuple["Node", ...]
    within_share: float = math.nan
    limit: End | None = None

    @property
    def plain_times(self) -> int:
        """How often it is repeated where nobody decides: until it may have settled, or at most."""
        return self.last or self.at_most


@dataclass(frozen=True)
class If:
    """Steps that are carried out if the last result of a measure is beyond a limit, or others."""

    measure: str
    limit: End
    body: tuple["Node", ...]
    otherwise: tuple["Node", ...] = ()


Node = Step | Mark | Repeat | Until | If


@dataclass(frozen=True)
class Resolved:
    """A protocol for one cell type, in plain numbers.

    Attributes
    ----------
    nodes : tuple of Step, Mark, Repeat, Until or If
        What is done.
    temperature_degC, within_K, soak_s : float or None
        Of the chamber at the start; None if the protocol does not say.
    voltage_limits_V : (float, float)
        Beyond these, the channel is stopped.
    temperature_limits_degC : (float, float)
        Beyond these, the channel is stopped.
    every_s, voltage_moves_V, current_moves_A : float
        The record rule.
    stops : tuple of End
        Further limits that hold in every step; each step carries them too.
    lines : dict of str to str
        File and line of each step, by its path.
    """

    name: str
    basis: str
    nodes: tuple[Node, ...]
    cell_type: CellType
    temperature_degC: float | None
    within_K: float
    soak_s: float
    voltage_limits_V: tuple[float, float]
    temperature_limits_degC: tuple[float, float]
    every_s: float
    voltage_moves_V: float
    current_moves_A: float = math.inf
    stops: tuple[End, ...] = ()
    lines: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able numbers, as a recording keeps them."""
        return {
            "name": self.name,
            "basis": self.basis,
            "nodes": [node_dict(node) for node in self.nodes],
            "temperature_degC": self.temperature_degC,
            "within_K": self.within_K,
            "soak_s": self.soak_s,
            "voltage_limits_V": list(self.voltage_limits_V),
            "temperature_limits_degC": list(self.temperature_limits_degC),
            "every_s": self.every_s,
            "voltage_moves_V": _plain_value(self.voltage_moves_V),
            "current_moves_A": _plain_value(self.current_moves_A),
            "stops": _plain_value(self.stops),
        }

    def steps(self) -> Iterator[Step]:
        """Yield each step of the file once for each of its settings, in order."""
        yield from walk(self.nodes)

    def longest_s(self) -> float:
        """Return the length in s if every step takes as long as it may, without soak."""
        return longest(self.nodes)

    def expected_s(self) -> float:
        """Return the length in s to plan with: constant-current steps move what they must."""
        from batterylab.protocol.progress import expected_duration_s

        return expected_duration_s(self)


def children(node: Node) -> tuple[tuple[Node, ...], ...]:
    """Return the lists of nodes that a block holds; none for a step or a mark."""
    if isinstance(node, If):
        return (node.body, node.otherwise)
    return (node.body,) if isinstance(node, Repeat | Until) else ()


def walk(nodes: tuple[Node, ...]) -> Iterator[Step]:
    """Yield every step below some nodes, in order."""
    for node in nodes:
        if isinstance(node, Step):
            yield node
        for body in children(node):
            yield from walk(body)


def longest(nodes: tuple[Node, ...]) -> float:
    """Return the length in s if every step takes as long as it may."""
    total = 0.0
    for node in nodes:
        if isinstance(node, Step):
            total += node.duration_s + (node.air.arrive_s if node.air else 0.0)
        elif isinstance(node, If):
            total += max(longest(node.body), longest(node.otherwise))
        elif isinstance(node, Repeat | Until):
            times = node.times if isinstance(node, Repeat) else node.at_most
            total += times * longest(node.body)
    return total


def node_dict(node: Node) -> dict[str, Any]:
    """Return a node as plain JSON-able values."""
    if isinstance(node, Step):
        return {"type": "step", **node.to_dict()}
    if isinstance(node, Mark):
        return {"type": "mark", "name": node.name}
    inner = {f.name: _plain_value(getattr(node, f.name)) for f in fields(node)
             if f.name not in ("body", "otherwise")}  # fmt: skip
    data = {"type": type(node).__name__.lower(), **inner,
            "body": [node_dict(child) for child in node.body]}  # fmt: skip
    if isinstance(node, If):
        data["otherwise"] = [node_dict(child) for child in node.otherwise]
    return data


def _plain(thing: Any) -> dict[str, Any]:
    return {f.name: _plain_value(getattr(thing, f.name)) for f in fields(thing)}


def _plain_value(value: Any) -> Any:
    """Return JSON-able values: NaN and infinity become None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, tuple):
        return [_plain_value(item) for item in value]
    return _plain(value) if is_dataclass(value) else value


_PLAIN_DEFAULTS = {
    f.name: _plain_value(f.default) for f in fields(Step) if f.name not in ("path", "kind")
}
