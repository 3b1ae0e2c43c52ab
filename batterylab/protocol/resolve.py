"""A protocol in plain numbers for one cell type: what bench, planner and recording share."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from batterylab.cells import CellType
from batterylab.errors import Problem, ProblemsError
from batterylab.protocol.language import Drive, ProtocolFile, Rest, StepEntry
from batterylab.yamlfile import YamlDocument


@dataclass(frozen=True)
class Step:
    """One step in plain numbers.

    Attributes
    ----------
    path : str
        Where it stands in the file, such as ``steps[0].steps[2]``.
    kind : str
        ``charge``, ``discharge``, ``rest`` or ``pulse`` (a charge or discharge `for` a time).
    current_A : float
        Set current, charge positive; 0 for a rest.
    voltage_V : float
        Voltage at which the step ends or holds; NaN for a rest.
    duration_s : int
        Its length, or its upper bound.
    is_fixed : bool
        Whether `duration_s` is its length.
    hold_until_A : float or None
        Hold the voltage until the current has fallen to this.
    to_soc_percent : float or None
        State of charge that ends it.
    measure : str
        What features call it.
    sample_every_s : float or None
        Recording interval, if the step has its own.
    """

    path: str
    kind: str
    current_A: float
    voltage_V: float
    duration_s: int
    is_fixed: bool
    hold_until_A: float | None = None
    to_soc_percent: float | None = None
    measure: str = ""
    sample_every_s: float | None = None


@dataclass(frozen=True)
class Repeat:
    """Steps that are carried out a number of times."""

    times: int
    body: tuple["Node", ...]


@dataclass(frozen=True)
class Until:
    """Steps that are repeated until a measure has settled."""

    measure: str
    last: int
    within_Ah: float
    at_most: int
    body: tuple["Node", ...]


Node = Step | Repeat | Until


@dataclass(frozen=True)
class Resolved:
    """A protocol for one cell type, in plain numbers.

    Attributes
    ----------
    nodes : tuple of Step, Repeat or Until
        What is done.
    temperature_degC, within_K, soak_s : float or None
        Of the chamber; None if the protocol does not say.
    voltage_limits_V : (float, float)
        Beyond these, the channel is stopped.
    temperature_limits_degC : (float, float)
        Beyond these, the channel is stopped.
    every_s, voltage_moves_V : float
        The record rule.
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

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-able numbers, as a recording keeps them."""
        return {
            "name": self.name,
            "basis": self.basis,
            "nodes": [_node_dict(node) for node in self.nodes],
            "temperature_degC": self.temperature_degC,
            "within_K": self.within_K,
            "soak_s": self.soak_s,
            "voltage_limits_V": list(self.voltage_limits_V),
            "temperature_limits_degC": list(self.temperature_limits_degC),
            "every_s": self.every_s,
            "voltage_moves_V": None if math.isinf(self.voltage_moves_V) else self.voltage_moves_V,
        }

    def steps(self) -> Iterator[Step]:
        """Yield each step of the file once, in order."""
        yield from _walk(self.nodes)

    def longest_s(self) -> float:
        """Return the length in s if every step takes as long as it may, without soak."""
        return _longest(self.nodes)

    def expected_s(self) -> float:
        """Return the length in s to plan with: constant-current steps move what they must."""
        from batterylab.protocol.progress import expected_duration_s

        return expected_duration_s(self)


def _walk(nodes: tuple[Node, ...]) -> Iterator[Step]:
    for node in nodes:
        if isinstance(node, Step):
            yield node
        else:
            yield from _walk(node.body)


def _longest(nodes: tuple[Node, ...]) -> float:
    total = 0.0
    for node in nodes:
        if isinstance(node, Step):
            total += node.duration_s
        else:
            times = node.times if isinstance(node, Repeat) else node.at_most
            total += times * _longest(node.body)
    return total


def _node_dict(node: Node) -> dict[str, Any]:
    if isinstance(node, Step):
        values = {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in vars(node).items()
        }
        return {"type": "step", **values}
    kind = "repeat" if isinstance(node, Repeat) else "until"
    inner = {key: value for key, value in vars(node).items() if key != "body"}
    return {"type": kind, **inner, "body": [_node_dict(child) for child in node.body]}


def _keys(path: str) -> list[str | int]:
    """Return the keys of a path such as ``steps[0].steps[2]``."""
    return [int(key) if key.isdigit() else key for key in re.findall(r"\w+", path)]


class Resolver:
    """Turn a protocol file into numbers for one cell type, collecting every mistake."""

    def __init__(self, document: YamlDocument, file: ProtocolFile, cell_type: CellType) -> None:
        self.document = document
        self.file = file
        self.cell_type = cell_type
        self.problems: list[Problem] = []

    def resolve(self) -> Resolved:
        """Return the numbers.

        Raises
        ------
        ProblemsError
            With every step that the cell type does not allow.
        """
        nodes = self._nodes(self.file.steps, ("steps",))
        self._check_soc(nodes)
        chamber = self.file.chamber
        if chamber and not (
            self.cell_type.temperature_min_degC
            <= chamber.temperature_degC
            <= self.cell_type.temperature_max_degC
        ):
            self._problem(
                ("chamber", "temperature"),
                f"{chamber.temperature_degC:g} °C is outside the cell's limits",
                f"{self.cell_type.temperature_min_degC:g} to "
                f"{self.cell_type.temperature_max_degC:g} degC",
            )
        volts, degrees = self._limits()
        if self.problems:
            raise ProblemsError(self.problems)
        moves = self.file.record.or_when
        return Resolved(
            name=self.file.name,
            basis=self.file.basis,
            nodes=nodes,
            cell_type=self.cell_type,
            temperature_degC=chamber.temperature_degC if chamber else None,
            within_K=chamber.within_K if chamber else 2.0,
            soak_s=chamber.soak_s if chamber else 0.0,
            voltage_limits_V=volts,
            temperature_limits_degC=degrees,
            every_s=self.file.record.every_s,
            voltage_moves_V=moves.voltage_moves_V if moves else math.inf,
        )

    def _problem(self, keys: tuple[str | int, ...], what: str, remedy: str = "") -> None:
        self.problems.append(Problem(self.document.where(*keys), what, remedy))

    def _limits(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the stop limits: the file's own, within 50 mV and 10 K of the data sheet."""
        volts = [self.cell_type.voltage_min_V - 0.05, self.cell_type.voltage_max_V + 0.05]
        low, high = self.cell_type.temperature_min_degC, self.cell_type.temperature_max_degC
        degrees = [low - 10, high + 10]
        for i, stop in enumerate(self.file.stop):
            pair = volts if stop.when == "voltage" else degrees
            side = 0 if stop.below is not None else 1
            pair[side] = max(pair[0], stop.limit) if side == 0 else min(pair[1], stop.limit)
            if pair[0] >= pair[1]:
                what = f"{stop.when}: nothing is left between {pair[0]:g} and {pair[1]:g}"
                self._problem(("stop", i), what, "stop at the cell's limits")
        return (volts[0], volts[1]), (degrees[0], degrees[1])

    def _nodes(self, entries: list[StepEntry], keys: tuple[str | int, ...]) -> tuple[Node, ...]:
        return tuple(self._node(entry, (*keys, i)) for i, entry in enumerate(entries))

    def _node(self, entry: StepEntry, keys: tuple[str | int, ...]) -> Node:
        if entry.repeat is not None:
            return Repeat(entry.repeat.times, self._nodes(entry.steps or [], (*keys, "steps")))
        if entry.until is not None:
            body = self._nodes(entry.steps or [], (*keys, "steps"))
            names = {step.measure for step in _walk(body)}
            if entry.until.measure not in names:
                self._problem((*keys, "until", "measure"),
                              f"no step of this part measures {entry.until.measure!r}",
                              f"measure: {entry.until.measure}, beside a discharge")  # fmt: skip
            within = entry.until.share_percent / 100 * self.cell_type.rated_capacity_Ah
            return Until(entry.until.measure, entry.until.last, within, entry.until.at_most, body)
        if entry.rest is not None:
            return self._rest(entry.rest, keys)
        sign = 1 if entry.charge is not None else -1
        drive = entry.charge or entry.discharge
        assert drive is not None  # noqa: S101  (the language allows nothing else)
        return self._drive(drive, sign, entry.measure, keys)

    @staticmethod
    def _path(keys: tuple[str | int, ...]) -> str:
        text = ""
        for key in keys:
            text += f"[{key}]" if isinstance(key, int) else f".{key}"
        return text.lstrip(".")

    def _rest(self, rest: Rest, keys: tuple[str | int, ...]) -> Step:
        return Step(self._path(keys), "rest", 0.0, math.nan, round(rest.for_s), True,
                    sample_every_s=rest.sample_every_s)  # fmt: skip

    def _amps(self, stream: tuple[str, float]) -> float:
        name, value = stream
        if name == "rated_rate_C":
            return value * self.cell_type.rated_capacity_Ah
        return value * self.cell_type.nominal_capacity_Ah if name == "rate_C" else value

    def _drive(
        self, drive: Drive, sign: int, measure: str, keys: tuple[str | int, ...]
    ) -> Step:
        word = "charge" if sign > 0 else "discharge"
        cell = self.cell_type
        amps = self._amps(drive.rate)
        most = cell.max_charge_A if sign > 0 else cell.max_discharge_A
        if amps > most * (1 + 1e-9):
            self._problem((*keys, word, "rate"), f"{amps:g} A is more than the cell allows",
                          f"at most {most:g} A")  # fmt: skip
        volts = self._volts(drive, sign, (*keys, word, "until"))
        hold = None
        if drive.hold_until is not None:
            hold = self._amps(drive.hold_until)
            if hold >= amps:
                self._problem((*keys, word, "hold_until"),
                              f"{hold:g} A is not below the step's {amps:g} A", "C/20")  # fmt: skip
        seconds = drive.for_s if drive.for_s is not None else drive.at_most_s
        return Step(
            path=self._path(keys),
            kind="pulse" if drive.for_s is not None else word,
            current_A=sign * amps,
            voltage_V=volts,
            duration_s=max(1, round(seconds or 1)),
            is_fixed=drive.for_s is not None,
            hold_until_A=hold,
            to_soc_percent=drive.to_soc_percent,
            measure=measure,
            sample_every_s=drive.sample_every_s,
        )

    def _volts(self, drive: Drive, sign: int, keys: tuple[str | int, ...]) -> float:
        cell = self.cell_type
        named = {"v_min": cell.voltage_min_V, "v_max": cell.voltage_max_V}
        if drive.until is None:
            return cell.voltage_max_V if sign > 0 else cell.voltage_min_V
        volts = named[drive.until] if isinstance(drive.until, str) else drive.until
        if not cell.voltage_min_V <= volts <= cell.voltage_max_V:
            self._problem(keys, f"{volts:g} V is outside the cell's limits",
                          f"{cell.voltage_min_V:g} V to {cell.voltage_max_V:g} V")  # fmt: skip
        return volts

    def _check_soc(self, nodes: tuple[Node, ...]) -> None:
        """A state of charge is counted from a full charge, so one must come before."""
        is_known = False
        for step in _walk(nodes):
            if step.to_soc_percent is not None and not is_known:
                word = "charge" if step.current_A > 0 else "discharge"
                self._problem((*_keys(step.path), word, "to_soc"),
                              "to_soc without a full charge before it",
                              "charge: {until: v_max, hold_until: C/20, …} first")  # fmt: skip
                return
            if step.hold_until_A is not None and step.current_A > 0:
                is_known = is_known or step.voltage_V == self.cell_type.voltage_max_V
