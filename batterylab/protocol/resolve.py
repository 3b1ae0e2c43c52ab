"""Turn a protocol file into plain numbers for one cell type, collecting every mistake."""

import difflib
import math
import re
from typing import Any

from batterylab.cells import CellType
from batterylab.errors import Problem, ProblemsError
from batterylab.protocol.expand import Expanded
from batterylab.protocol.form import End, If, Mark, Node, Repeat, Resolved, Step, Until, walk
from batterylab.protocol.language import (
    Drive,
    Hold,
    ProtocolFile,
    Pulse,
    Reading,
    StepEntry,
)
from batterylab.protocol.language import Profile as ProfileEntry
from batterylab.protocol.language import Until as UntilEntry
from batterylab.protocol.reach import reach_problems
from batterylab.protocol.stepnumbers import StepNumbers
from batterylab.yamlfile import YamlDocument

__all__ = ["End", "If", "Mark", "Node", "Repeat", "Resolved", "Resolver", "Step", "Until"]
Keys = tuple[str | int, ...]


class Resolver:
    """Turn a protocol file into numbers for one cell type.

    Parameters
    ----------
    document : YamlDocument
        The file, perhaps written out (`Expanded`).
    file : ProtocolFile
        What it says.
    cell_type : CellType
        Gives capacities and limits.
    """

    def __init__(self, document: YamlDocument, file: ProtocolFile, cell_type: CellType) -> None:
        self.document = document
        self.file = file
        self.cell_type = cell_type
        self.problems: list[Problem] = []
        #: where each step stands in the document, by its path
        self.places: dict[str, Keys] = {}
        self.numbers = StepNumbers(self)

    def resolve(self) -> Resolved:
        """Return the numbers.

        Raises
        ------
        ProblemsError
            With every step that the cell type does not allow.
        """
        self.numbers.volts, self.numbers.degrees = self._limits()
        self.numbers.stops = self._common_stops()
        nodes = self._nodes(self.file.steps, ("steps",))
        self._check_soc(nodes)
        for path, keys, what, remedy in reach_problems(nodes):
            self.problem((*self._place(path), *keys), what, remedy)
        chamber = self.file.chamber
        if chamber:
            self.check_air(chamber.temperature_degC, ("chamber", "temperature"))
        if self.problems:
            raise ProblemsError(list(dict.fromkeys(self.problems)))
        moves = self.file.record.or_when
        return Resolved(
            name=self.file.name,
            basis=self.file.basis,
            nodes=nodes,
            cell_type=self.cell_type,
            temperature_degC=chamber.temperature_degC if chamber else None,
            within_K=chamber.within_K if chamber else 2.0,
            soak_s=chamber.soak_s if chamber else 0.0,
            voltage_limits_V=self.numbers.volts,
            temperature_limits_degC=self.numbers.degrees,
            every_s=self.file.record.every_s,
            voltage_moves_V=moves.voltage_moves_V or math.inf if moves else math.inf,
            current_moves_A=moves.current_moves_A or math.inf if moves else math.inf,
            stops=self.numbers.stops,
            lines={path: self.document.where(*keys) for path, keys in self.places.items()},
        )

    def problem(self, keys: Keys, what: str, remedy: str = "") -> None:
        """Note a mistake."""
        self.problems.append(Problem(self.document.where(*keys), what, remedy))

    def check_air(self, degC: float, keys: Keys) -> None:
        """Hold a chamber's temperature against the cell's limits."""
        low, high = self.cell_type.temperature_min_degC, self.cell_type.temperature_max_degC
        if not low <= degC <= high:
            self.problem(keys, f"{degC:g} °C is outside the cell's limits",
                         f"{low:g} to {high:g} degC")  # fmt: skip

    def _place(self, path: str) -> Keys:
        return self.places.get(path, tuple(_keys(path)))

    def _limits(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the stop limits: the file's own, within 50 mV and 10 K of the data sheet."""
        volts = [self.cell_type.voltage_min_V - 0.05, self.cell_type.voltage_max_V + 0.05]
        low, high = self.cell_type.temperature_min_degC, self.cell_type.temperature_max_degC
        degrees = [low - 10, high + 10]
        for i, stop in enumerate(self.file.stop):
            if not stop.is_plain:
                continue
            pair = volts if stop.when == "voltage" else degrees
            side = 0 if stop.below is not None else 1
            limit = stop.amount.value
            pair[side] = max(pair[0], limit) if side == 0 else min(pair[1], limit)
            if pair[0] >= pair[1]:
                what = f"{stop.when}: nothing is left between {pair[0]:g} and {pair[1]:g}"
                self.problem(("stop", i), what, "stop at the cell's limits")
        return (volts[0], volts[1]), (degrees[0], degrees[1])

    def _common_stops(self) -> tuple[End, ...]:
        return tuple(
            self.numbers.stop(stop, ("stop", i))
            for i, stop in enumerate(self.file.stop)
            if not stop.is_plain
        )

    def _nodes(self, entries: list[StepEntry], keys: Keys) -> tuple[Node, ...]:
        return tuple(
            node for i, entry in enumerate(entries) for node in self._node(entry, (*keys, i))
        )

    def _node(self, entry: StepEntry, keys: Keys) -> tuple[Node, ...]:
        body = self._nodes(entry.steps or [], (*keys, "steps"))
        if entry.mark is not None:
            return (Mark(entry.mark),)
        if entry.repeat is not None:
            return (Repeat(entry.repeat.times or 1, body),)
        if entry.until is not None:
            return (self._until(entry.until, body, keys),)
        if entry.if_ is not None:
            limit = self._limit(entry.if_.above, entry.if_.below)
            otherwise = self._nodes(entry.else_ or [], (*keys, "else"))
            return (If(entry.if_.measure, limit, body, otherwise),)
        path = self._path(keys)
        self.places.setdefault(path, keys)
        return self._steps(entry, keys, path)

    def _steps(self, entry: StepEntry, keys: Keys, path: str) -> tuple[Node, ...]:
        """Return what one driving entry becomes: a step, or a train of pulses."""
        make = self.numbers
        name = entry.measure if isinstance(entry.measure, str) else ""
        if entry.rest is not None:
            return (make.rest(entry.rest, path, (*keys, "rest")),)
        if entry.soak is not None:
            return (make.soak(entry.soak, path, (*keys, "soak")),)
        if isinstance(entry.measure, Reading):
            return (make.reading(entry.measure, path),)
        drive: Drive | Hold | Pulse | ProfileEntry | None
        for word in ("hold", "pulse", "profile", "charge", "discharge"):
            drive = getattr(entry, word)
            if isinstance(drive, Hold):
                return (make.hold(drive, name, path, (*keys, word)),)
            if isinstance(drive, Pulse):
                return make.pulses(drive, name, path, (*keys, word))
            if isinstance(drive, ProfileEntry):
                return (make.profile(drive, name, path, (*keys, word)),)
            if isinstance(drive, Drive):
                return (make.drive(drive, word, name, path, (*keys, word)),)
        raise AssertionError("the language allows nothing else")

    def _until(self, entry: UntilEntry, body: tuple[Node, ...], keys: Keys) -> Until:
        names = dict.fromkeys(step.measure for step in walk(body) if step.measure)
        if entry.measure not in names:
            near = difflib.get_close_matches(entry.measure, names, n=1)
            hint = f"measure: {entry.measure}, beside a discharge"
            self.problem((*keys, "until", "measure"),
                         f"no step of this part measures {entry.measure!r}",
                         f"did you mean {near[0]!r}? or {hint}" if near else hint)  # fmt: skip
        if entry.within is None:
            limit = self._limit(entry.above, entry.below)
            return Until(entry.measure, 0, math.nan, entry.at_most, body, limit=limit)
        share, of = entry.share
        if of == "mean":
            return Until(entry.measure, entry.last or 2, math.nan, entry.at_most, body, share)
        within_Ah = share * self.numbers.capacity(of)
        return Until(entry.measure, entry.last or 2, within_Ah, entry.at_most, body)

    def _limit(self, above: Any, below: Any) -> End:
        amount = above if above is not None else below
        value, of = self.numbers.amount("capacity", amount)
        return End("capacity_Ah", "above" if above is not None else "below", value, of)

    def _path(self, keys: Keys) -> str:
        text, document = "", self.document
        if isinstance(document, Expanded):
            origin, keys = document.origin(*keys)
            if origin.path != document.path:
                text = f"{origin.path.stem}:"
        for key in keys:
            text += f"[{key}]" if isinstance(key, int) else f".{key}"
        return text.replace(":.", ":").lstrip(".")

    def _check_soc(self, nodes: tuple[Node, ...]) -> None:
        """A state of charge is counted from a full charge, so one must come before."""
        for step in walk(nodes):
            if any(end.quantity == "soc_percent" for end in step.ends):
                word = "charge" if step.current_A > 0 else "discharge"
                is_short = f"{word}.to_soc" if step.to_soc_percent is not None else "ends"
                self.problem((*self._place(step.path), *is_short.split(".")),
                             "to_soc without a full charge before it",
                             "charge: {until: v_max, hold_until: C/20, …} first")  # fmt: skip
                return
            is_full = step.voltage_V == self.cell_type.voltage_max_V
            if step.hold_until_A is not None and step.current_A > 0 and is_full:
                return


def _keys(path: str) -> list[str | int]:
    """Return the keys of a path such as ``steps[0].steps[2]``."""
    return [int(key) if key.isdigit() else key for key in re.findall(r"\w+", path)]
