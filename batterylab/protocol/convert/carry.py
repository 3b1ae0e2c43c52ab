"""What a target can carry out at all: the rest is refused by name, or left out and said."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from batterylab.errors import BatterylabError
from batterylab.protocol.flat import FlatStep, flat
from batterylab.protocol.form import End, If, Mark, Node, Repeat, Resolved, Step, Until, children

#: how the modes of a step are called in messages
WORDS = {"power": "constant power", "resistance": "a constant load", "voltage": "a hold",
         "profile": "a profile"}  # fmt: skip


@dataclass(frozen=True)
class Loop:
    """Begin (`times` 0) or end of a loop.

    Attributes
    ----------
    level : int
        How deep it lies, from 1.
    times : int
        How often it is carried out in all, at its end.
    """

    level: int
    times: int = 0


Row = FlatStep | Loop


def rows(resolved: Resolved, deepest: int) -> list[Row]:
    """Return a protocol in rows: steps, and loops where they can be kept.

    A protocol with steps to a state of charge is laid out flat, as is one whose loops lie
    deeper than `deepest`; readings by instruments are left out.
    """
    is_flat = any(step.to_soc_percent is not None for step in resolved.steps())
    if is_flat or _depth(resolved.nodes) > deepest:
        return [item for item in flat(resolved) if item.step.read is None]
    return list(_looped(resolved.nodes, 1))


def _depth(nodes: tuple[Node, ...]) -> int:
    return max(
        ((0 if isinstance(node, Repeat) and node.times == 1 else 1) + _depth(node.body)
         for node in nodes if isinstance(node, Repeat | Until)),
        default=0,
    )  # fmt: skip


def _looped(nodes: tuple[Node, ...], level: int) -> Iterator[Row]:
    for node in nodes:
        if isinstance(node, Step):
            if node.read is None:
                yield FlatStep(node, 0)
            continue
        if not isinstance(node, Repeat | Until):
            continue
        times = node.times if isinstance(node, Repeat) else node.plain_times
        if times == 1:
            yield from _looped(node.body, level)
            continue
        body = list(_looped(node.body, level + 1))
        if body:  # nothing is left of a block that only reads or marks
            yield Loop(level)
            yield from body
            yield Loop(level, times)


def further_ends(step: Step) -> list[End]:
    """Return the ends of a step besides its voltage, the current of a hold, and its charge."""
    usual = "above" if step.current_A > 0 else "below"
    return [
        end for end in step.ends
        if end.quantity != "soc_percent"
        and not (end.quantity == "current_A" and end.relation == "below" and not end.of)
        and not (end.quantity == "voltage_V" and end.relation == usual
                 and end.value == step.voltage_V and not end.of)
        and not (step.mode == "profile" and end.quantity == "voltage_V")
    ]  # fmt: skip


def refuse_what_cannot_be_carried(
    resolved: Resolved, target: str, modes: Collection[str] = ()
) -> list[str]:
    """Refuse what a target cannot do, and return what is left out.

    Parameters
    ----------
    resolved : Resolved
        The protocol.
    target : str
        Its name.
    modes : collection of str
        Modes of steps besides ``current`` and ``rest`` that it can carry out.

    Raises
    ------
    BatterylabError
        With the first step that it cannot: another mode, a change of the chamber, a decision on
        the way, or a limit of a step's own that protects the cell.
    """
    lost: dict[str, None] = {}
    for node in _every(resolved.nodes):
        if isinstance(node, If):
            raise BatterylabError(f"{resolved.name}: {target} knows no `if`: {node.measure}")
        if isinstance(node, Mark):
            lost[f"mark: {node.name} is not in the file"] = None
        if isinstance(node, Step):
            for loss in _step(node, resolved, target, modes):
                lost[loss] = None
    return list(lost)


def _every(nodes: tuple[Node, ...]) -> Iterator[Node]:
    for node in nodes:
        yield node
        for body in children(node):
            yield from _every(body)


def _step(step: Step, resolved: Resolved, target: str, modes: Collection[str]) -> Iterator[str]:
    if step.mode not in ("current", "rest", *modes):
        raise BatterylabError(
            f"{resolved.name}: {step.path}: {target} cannot carry out {WORDS[step.mode]}",
            hint="the bench can, and --to pybamm more than others",
        )
    if step.air is not None:
        raise BatterylabError(
            f"{resolved.name}: {step.path}: {target} cannot change the chamber's temperature",
            hint="one file for each temperature",
        )
    if step.read is not None:
        yield f"measure: {step.path} ({step.read.what}) is left out"
    own = [s for s in step.stops if s not in resolved.stops]
    for end in (*own, *further_ends(step)):
        text = f"{end.quantity} {end.relation} {end.value:g}"
        if end.then == "fail":
            raise BatterylabError(
                f"{resolved.name}: {step.path}: {target} cannot stop the cell at {text}",
                hint="take the limit out of the step if something else watches it",
            )
        yield f"ends: {step.path} does not end at {text}"
    if step.rate_of:
        share = f"{step.rate_C:g} of the nominal capacity"
        yield f"rate: {step.path} takes {share}, not of {step.rate_of}"
    for end in step.ends:
        if end.then not in ("next", "fail"):
            yield f"ends: {step.path} goes on to the next step, not to {end.then}"
