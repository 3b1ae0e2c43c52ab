"""A resolved protocol in words, one line a step, as a technician would read it aloud."""

import math
from collections.abc import Iterator
from dataclasses import replace

from batterylab.protocol.form import End, If, Mark, Node, Repeat, Step, Until

_NAMES = {
    "voltage_V": ("voltage", "V"), "current_A": ("current", "A"), "power_W": ("power", "W"),
    "time_s": ("time", "s"), "capacity_Ah": ("capacity", "Ah"), "energy_Wh": ("energy", "Wh"),
    "soc_percent": ("SOC", "%"), "temperature_degC": ("temperature", "°C"),
    "voltage_rate_V_per_s": ("dV/dt", "V/s"), "temperature_rate_K_per_s": ("dT/dt", "K/s"),
}  # fmt: skip


def describe(
    nodes: tuple[Node, ...], common: tuple[End, ...] = (), depth: int = 0
) -> Iterator[str]:
    """Yield one line a node, blocks indented; stops in `common` are not said with each step."""
    indent = "  " * depth
    for node in nodes:
        if isinstance(node, Step):
            yield indent + step_line(node, common)
        elif isinstance(node, Mark):
            yield f"{indent}mark       {node.name}"
        elif isinstance(node, If):
            yield f"{indent}if the last {node.measure} is {_limit(node.limit)}:"
            yield from describe(node.body, common, depth + 1)
            if node.otherwise:
                yield f"{indent}else:"
                yield from describe(node.otherwise, common, depth + 1)
        else:
            yield f"{indent}{times_line(node)}:"
            yield from describe(node.body, common, depth + 1)


def times_line(node: Repeat | Until) -> str:
    """Return how often a block is carried out."""
    if isinstance(node, Repeat):
        return "once" if node.times == 1 else f"{node.times} times"
    most = f", at most {node.at_most} times"
    if node.limit is not None:
        return f"until {node.measure} is {_limit(node.limit)}{most}"
    within = f"{node.within_Ah:.4g} Ah"
    if math.isnan(node.within_Ah):
        within = f"{100 * node.within_share:.3g} % of their mean"
    return f"until the last {node.last} {node.measure} lie within {within}{most}"


def _limit(end: End) -> str:
    """Return a condition's side and value."""
    unit = _NAMES[end.quantity][1]
    if end.of and end.quantity == "current_A":
        return f"{end.relation} {end.value:.4g} C of {end.of}"
    if end.of:
        return f"{end.relation} {100 * end.value:.4g} % of {end.of}"
    return f"{end.relation} {end.value:.4g} {unit}"


def end_text(end: End) -> str:
    """Return a condition in words, with what comes then."""
    text = f"{_NAMES[end.quantity][0]} {_limit(end)}"
    if end.over_s:
        text += f" over {end.over_s:g} s"
    if end.hold_s:
        text += f" for {end.hold_s:g} s"
    return text if end.then == "next" else f"{text}: {end.then}"


def stop_text(end: End) -> str:
    """Return a stop in words."""
    word = "stop" if end.then == "fail" else end.then
    return f"{word} if {end_text(replace(end, then='next'))}"


def level_text(step: Step) -> str:
    """Return what is set."""
    if step.air is not None:
        return f"at {step.air.temperature_degC:g} ± {step.air.within_K:g} °C"
    if step.read is not None:
        span = step.read.frequency_Hz
        if len(span) > 1:
            return f"{step.read.what}, {span[0]:g} to {span[-1]:g} Hz, {len(span)} points"
        return step.read.what + (f" at {span[0]:g} Hz" if span else "")
    if step.points is not None:
        return f"{len(step.points.time_s)} points, up to {step.current_A:+.4g} A"
    if step.mode == "power":
        return f"{math.copysign(step.level, step.current_A):+.4g} W"
    if step.mode == "resistance":
        return f"{step.level:.4g} ohm"
    if step.rate_of:
        return f"{math.copysign(step.rate_C, step.current_A):+.4g} C of {step.rate_of}"
    return f"{step.current_A:+.4g} A" if step.current_A else ""


def step_line(step: Step, common: tuple[End, ...] = ()) -> str:
    """Return a step in one line: what is set, what ends it, the bound, the measure."""
    parts = [level_text(step)]
    if step.mode == "voltage":
        parts[0] += f" at most, {step.voltage_V:g} V"
    shown = list(step.ends)
    if step.mode == "profile":
        shown = shown[2:]  # the cell's own limits
    elif step.ends_at_voltage and step.kind in ("charge", "discharge"):
        plain = next(end for end in shown if end.quantity == "voltage_V" and not end.hold_s)
        shown.remove(plain)
        if step.to_soc_percent is None:
            parts[0] += f" to {step.voltage_V:g} V"
    elif step.ends_at_voltage:
        shown = shown[1:]
    elif step.mode not in ("rest", "voltage"):
        parts[0] += f" to {step.voltage_V:g} V"
    for end in shown:
        if end.quantity == "soc_percent":
            parts[0] += f" to {end.value:g} % SOC"
        elif end.quantity == "current_A" and end.relation == "below" and not end.of:
            parts.append(f"hold until {end.value:.4g} A")
        else:
            parts.append(f"until {end_text(end)}")
    parts += [stop_text(end) for end in step.stops if end not in common]
    if step.read is None:
        word = "for" if step.is_fixed else "at most"
        tail = "" if step.on_time in ("next", "fail") else f", then {step.on_time}"
        parts.append(f"{word} {step.duration_s} s{tail}")
    text = ", ".join(part for part in parts if part)
    return f"{step.kind:<10} {text}" + (f"   -> {step.measure}" if step.measure else "")
