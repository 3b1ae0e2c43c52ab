"""PyBaMM's experiments: steps as the sentences that `pybamm.Experiment` reads, and back."""

import json
import re
from typing import Any

from batterylab.errors import BatterylabError
from batterylab.protocol.convert.carry import refuse_what_cannot_be_carried
from batterylab.protocol.convert.losses import (
    Written,
    decisions_lost,
    names_lost,
    overtime_lost,
    own_intervals_lost,
)
from batterylab.protocol.flat import FlatStep, flat
from batterylab.protocol.resolve import Resolved

_NUMBER = r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
_DRIVE = re.compile(
    rf"(Charge|Discharge) at {_NUMBER} A for {_NUMBER} seconds(?: or until {_NUMBER} V)?\Z"
)
_HOLD = re.compile(rf"Hold at {_NUMBER} V for {_NUMBER} seconds or until {_NUMBER} A\Z")
_REST = re.compile(rf"Rest for {_NUMBER} seconds\Z")


def experiment(resolved: Resolved) -> list[str]:
    """Return the steps as sentences of `pybamm.Experiment`, without loops."""
    return [sentence for item in flat(resolved) for sentence in _sentences(item)]


def _sentences(item: FlatStep) -> list[str]:
    step = item.step
    if step.read is not None:
        return []
    if step.mode == "rest":
        return [f"Rest for {step.duration_s} seconds"]
    word = "Charge" if step.current_A > 0 else "Discharge"
    seconds = step.duration_s
    if item.stop_after_s is not None:
        seconds = min(seconds, item.stop_after_s)
    volts = f"{step.voltage_V:.10g} V"
    level = f"{abs(step.current_A):.10g} A"
    if step.mode == "power":
        level = f"{step.level:.10g} W"
    drive = f"{word} at {level} for {seconds} seconds or until {volts}"
    hold = f"Hold at {volts} for {seconds} seconds"
    if step.hold_until_A is None:
        return [drive, hold] if step.mode == "voltage" else [drive]
    return [drive, f"{hold} or until {step.hold_until_A:.10g} A"]


def to_pybamm(resolved: Resolved) -> Written:
    """Return the arguments of `pybamm.Experiment` as JSON."""
    left_out = refuse_what_cannot_be_carried(resolved, "pybamm", ("voltage", "power"))
    period_s = min(
        [resolved.every_s, *(s.sample_every_s for s in resolved.steps() if s.sample_every_s)]
    )
    arguments: dict[str, Any] = {
        "operating_conditions": experiment(resolved),
        "period": f"{period_s:g} seconds",
    }
    if resolved.temperature_degC is not None:
        arguments["temperature"] = f"{resolved.temperature_degC:g}oC"
    losses = [
        *decisions_lost(resolved), *left_out, *overtime_lost(resolved),
        *own_intervals_lost(resolved), *names_lost(resolved),
    ]  # fmt: skip
    if any(step.hold_until_A is not None for step in resolved.steps()):
        losses.append("hold_until: charge and hold are two steps, each with the whole time")
    if resolved.temperature_degC is not None:
        losses.append("chamber: the soak is left out; a model starts tempered")
    return Written(json.dumps(arguments, indent=2) + "\n", ".json", losses)


def from_pybamm(sentences: list[str], name: str) -> dict[str, Any]:
    """Return a protocol file's content for an experiment's sentences.

    Reads what `experiment` writes: currents in A, times in seconds, voltages in V. Sampling
    and temperature are not in the sentences and take their defaults.

    Parameters
    ----------
    sentences : list of str
        Of one experiment, without loops.
    name : str
        What the protocol shall be called.

    Raises
    ------
    BatterylabError
        With the sentence that is not understood.
    """
    steps: list[dict[str, Any]] = []
    for number, sentence in enumerate(sentences, 1):
        hold = _HOLD.match(sentence)
        if hold:
            _add_hold(steps, hold, number, sentence)
        else:
            steps.append(_entry(number, sentence))
    return {"schema": "batterylab.protocol/1", "name": name, "steps": steps}


def _entry(number: int, sentence: str) -> dict[str, Any]:
    rest = _REST.match(sentence)
    if rest:
        return {"rest": {"for": f"{rest[1]} s"}}
    drive = _DRIVE.match(sentence)
    if drive is None:
        raise _not_understood(number, sentence)
    word, amps, seconds, volts = drive.groups()
    entry = {"current": f"{amps} A", "for": f"{seconds} s"}
    if volts is not None:
        entry["until"] = f"{volts} V"
    return {word.lower(): entry}


def _add_hold(steps: list[dict[str, Any]], hold: re.Match[str], number: int, text: str) -> None:
    """Join a hold with the charge or discharge before it."""
    last = next(iter(steps[-1].values())) if steps else {}
    if last.get("until") != f"{hold[1]} V":
        raise _not_understood(number, text)
    last["hold_until"] = f"{hold[3]} A"
    last["at_most"] = last.pop("for")


def _not_understood(number: int, sentence: str) -> BatterylabError:
    return BatterylabError(
        f"step {number}: {sentence[:120]!r} is not understood",
        hint="'Charge at 1 A for 600 seconds or until 4.2 V', 'Hold at 4.2 V for 600 seconds or "
        "until 0.1 A' after a charge to 4.2 V, 'Rest for 60 seconds'",
    )
