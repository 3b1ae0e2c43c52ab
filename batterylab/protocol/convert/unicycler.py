"""Aurora-unicycler's JSON, and Neware's and BioLogic's files through that package.

The JSON is written here; the package itself (extra ``convert``) is needed only for the vendors'
formats. Schema as of aurora-unicycler 0.4.
"""

import importlib
import json
import logging
from collections.abc import Iterator
from typing import Any

from batterylab.errors import BatterylabError
from batterylab.protocol.convert.carry import refuse_what_cannot_be_carried
from batterylab.protocol.convert.losses import (
    Written,
    chamber_lost,
    decisions_lost,
    names_lost,
    overtime_lost,
    own_intervals_lost,
)
from batterylab.protocol.flat import FlatStep, flat
from batterylab.protocol.form import If, Node, Repeat, Resolved, Step, Until

_LOST_HOLD = "hold_until: charge and hold are two steps, each with the whole time"


def method(resolved: Resolved) -> dict[str, Any]:
    """Return the protocol as unicycler's dictionary; repeats become loops where they can."""
    kind = resolved.cell_type
    low_V, high_V = resolved.voltage_limits_V
    record: dict[str, Any] = {"time_s": resolved.every_s}
    if resolved.voltage_moves_V < high_V:
        record["voltage_V"] = resolved.voltage_moves_V
    return {
        "sample": {"name": resolved.name, "capacity_mAh": 1e3 * kind.nominal_capacity_Ah},
        "record": record,
        "safety": {
            "max_voltage_V": high_V, "min_voltage_V": low_V,
            "max_current_mA": 1e3 * kind.max_charge_A,
            "min_current_mA": -1e3 * kind.max_discharge_A, "delay_s": 1.0,
        },
        "method": _method(resolved),
    }  # fmt: skip


def _method(resolved: Resolved) -> list[dict[str, Any]]:
    if any(step.to_soc_percent is not None for step in resolved.steps()):
        # how much a step to a state of charge moves depends on what came before it
        return [entry for item in flat(resolved) for entry in _entries(item)]
    return list(_looped(resolved.nodes))


def _looped(nodes: tuple[Node, ...], prefix: str = "loop") -> Iterator[dict[str, Any]]:
    for number, node in enumerate(nodes):
        if isinstance(node, Step):
            yield from _entries(FlatStep(node, 0))
            continue
        if not isinstance(node, Repeat | Until):
            if isinstance(node, If):
                raise BatterylabError(f"{node.measure}: unicycler knows no `if`")
            continue
        tag = f"{prefix}-{number}"
        times = node.times if isinstance(node, Repeat) else node.plain_times
        body = list(_looped(node.body, tag))
        if body:  # nothing is left of a block that only reads or marks
            yield {"step": "tag", "tag": tag}
            yield from body
            yield {"step": "loop", "loop_to": tag, "cycle_count": times}


def _entries(item: FlatStep) -> Iterator[dict[str, Any]]:
    step = item.step
    if step.read is not None:
        return
    if step.mode == "rest":
        yield {"step": "open_circuit_voltage", "until_time_s": float(step.duration_s)}
        return
    seconds = step.duration_s
    if item.stop_after_s is not None:
        seconds = min(seconds, item.stop_after_s)
    yield {
        "step": "constant_current", "current_mA": 1e3 * step.current_A,
        "until_time_s": float(seconds), "until_voltage_V": step.voltage_V,
    }  # fmt: skip
    if step.hold_until_A is None and step.mode == "voltage":
        yield {"step": "constant_voltage", "voltage_V": step.voltage_V,
               "until_time_s": float(seconds)}  # fmt: skip
    if step.hold_until_A is not None:
        sign = 1.0 if step.current_A > 0 else -1.0
        yield {
            "step": "constant_voltage", "voltage_V": step.voltage_V,
            "until_time_s": float(seconds), "until_current_mA": 1e3 * sign * step.hold_until_A,
        }  # fmt: skip


def _losses(resolved: Resolved) -> list[str]:
    losses = [
        *decisions_lost(resolved),
        *refuse_what_cannot_be_carried(resolved, "unicycler", ("voltage",)),
        *chamber_lost(resolved), *overtime_lost(resolved),
        *own_intervals_lost(resolved), *names_lost(resolved),
    ]  # fmt: skip
    if any(step.hold_until_A is not None for step in resolved.steps()):
        losses.append(_LOST_HOLD)
    return losses


def to_unicycler(resolved: Resolved) -> Written:
    """Return unicycler's JSON."""
    return Written(json.dumps(method(resolved), indent=2) + "\n", ".json", _losses(resolved))


def _package_protocol(resolved: Resolved) -> Any:
    try:
        package: Any = importlib.import_module("aurora_unicycler")
    except ImportError:
        raise BatterylabError(
            "aurora-unicycler is not installed", hint="pip install 'batterylab[convert]'"
        ) from None
    return package.CyclingProtocol.from_dict(method(resolved))


def _through_package(resolved: Resolved, how: str, suffix: str) -> Written:
    protocol = _package_protocol(resolved)
    log = logging.getLogger("aurora_unicycler")
    level = log.level
    log.setLevel(logging.CRITICAL)  # what it would say stands in the losses
    try:
        text = str(getattr(protocol, how)())
    except (ValueError, NotImplementedError) as error:
        raise BatterylabError(f"{resolved.name}: aurora-unicycler refuses: {error}") from None
    finally:
        log.setLevel(level)
    advice = "written by aurora-unicycler: read it in the cycler's own program before it runs"
    return Written(text, suffix, [*_losses(resolved), advice])


def to_neware(resolved: Resolved) -> Written:
    """Return a step file of Neware's BTS (XML).

    Raises
    ------
    BatterylabError
        If the package is missing or refuses.
    """
    return _through_package(resolved, "to_neware_xml", ".xml")


def to_biologic(resolved: Resolved) -> Written:
    """Return a settings file of BioLogic's EC-Lab; the package knows ranges up to 1 A.

    Raises
    ------
    BatterylabError
        If the package is missing or refuses.
    """
    written = _through_package(resolved, "to_biologic_mps", ".mps")
    kind = resolved.cell_type
    if kind.max_charge_A != kind.max_discharge_A:
        most_A = max(kind.max_charge_A, kind.max_discharge_A)
        written.losses.append(f"the file limits the current to {most_A:g} A, whichever its sign")
    return written


def from_unicycler(data: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a protocol file's content for unicycler's dictionary.

    Parameters
    ----------
    data : dict
        As unicycler's JSON says.
    name : str
        What the protocol shall be called.

    Raises
    ------
    BatterylabError
        If a step has no counterpart here.
    """
    capacity_mAh = (data.get("sample") or {}).get("capacity_mAh")
    stack: list[tuple[str, list[dict[str, Any]]]] = [("", [])]
    for number, step in enumerate(data.get("method", []), 1):
        steps = stack[-1][1]
        kind = step.get("step")
        if kind == "tag":
            stack.append((step["tag"], []))
        elif kind == "loop":
            if len(stack) < 2 or stack[-1][0] != step["loop_to"]:
                raise BatterylabError(f"step {number}: a loop to {step['loop_to']!r} is not nested")
            _, body = stack.pop()
            stack[-1][1].append({"repeat": {"times": step["cycle_count"]}, "steps": body})
        elif kind == "constant_voltage":
            _hold(steps, step, capacity_mAh, number)
        else:
            steps.append(_entry(step, capacity_mAh, number))
    while len(stack) > 1:  # a tag without a loop is a remark
        _, body = stack.pop()
        stack[-1][1].extend(body)
    record = data.get("record") or {}
    content: dict[str, Any] = {
        "schema": "batterylab.protocol/1", "name": name, "steps": stack[0][1],
    }  # fmt: skip
    if record.get("time_s"):
        content["record"] = {"every": f"{record['time_s']:g} s"}
        if record.get("voltage_V"):
            content["record"]["or_when"] = {"voltage_moves": f"{record['voltage_V']:g} V"}
    content["stop"] = _stops(data.get("safety") or {})
    return content


def _stops(safety: dict[str, Any]) -> list[dict[str, str]]:
    sides = (("above", "max_voltage_V"), ("below", "min_voltage_V"))
    return [
        {"when": "voltage", side: f"{safety[key]:g} V"} for side, key in sides if safety.get(key)
    ]


def _current_A(step: dict[str, Any], prefix: str, capacity_mAh: float | None) -> float:
    rate, amps = step.get(f"{prefix}rate_C"), step.get(f"{prefix}current_mA")
    if rate and capacity_mAh:
        return float(rate) * capacity_mAh / 1e3
    if amps:
        return float(amps) / 1e3
    raise BatterylabError("a rate without the sample's capacity", hint="give sample.capacity_mAh")


def _entry(step: dict[str, Any], capacity_mAh: float | None, number: int) -> dict[str, Any]:
    if step.get("step") == "open_circuit_voltage":
        return {"rest": {"for": f"{step['until_time_s']:.10g} s"}}
    if step.get("step") != "constant_current":
        raise BatterylabError(f"step {number}: {step.get('step')!r} has no counterpart here")
    amps = _current_A(step, "", capacity_mAh)
    entry: dict[str, Any] = {"current": f"{abs(amps):.12g} A"}
    if step.get("until_voltage_V"):
        entry["until"] = f"{step['until_voltage_V']:.10g} V"
    if not step.get("until_time_s"):
        raise BatterylabError(f"step {number}: no until_time_s", hint="every step needs a bound")
    entry["for"] = f"{step['until_time_s']:.10g} s"
    return {"charge" if amps > 0 else "discharge": entry}


def _hold(
    steps: list[dict[str, Any]], step: dict[str, Any], capacity_mAh: float | None, number: int
) -> None:
    """Join a hold with the charge or discharge before it."""
    last = next(iter(steps[-1].values())) if steps else {}
    if last.get("until") != f"{step['voltage_V']:.10g} V":
        raise BatterylabError(
            f"step {number}: a hold that does not follow a charge to its voltage",
            hint="constant_current until_voltage_V first",
        )
    if not (step.get("until_current_mA") or step.get("until_rate_C")):
        _follow(steps, step, number)
        return
    last["hold_until"] = f"{abs(_current_A(step, 'until_', capacity_mAh)):.12g} A"
    last["at_most"] = last.pop("for")


def _follow(steps: list[dict[str, Any]], step: dict[str, Any], number: int) -> None:
    """Let a hold for a time follow the step before it.

    A hold of ours is written as a drive and a hold that last equally long; it comes back as one.
    """
    if not step.get("until_time_s"):
        raise BatterylabError(f"step {number}: no until_time_s", hint="every step needs a bound")
    word, last = next(iter(steps[-1].items()))
    length = f"{step['until_time_s']:.10g} s"
    if last.get("for") == length:
        steps.pop()
    steps.append({"hold": {"voltage": last["until"], "limit": last["current"], "by": word,
                           "for": length}})  # fmt: skip
