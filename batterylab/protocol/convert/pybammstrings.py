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

_NUMBER = r"(\d+(?:\.\d*)?(?:e[+-]?\d+)?)"
_TIME = rf"{_NUMBER} ?(seconds?|s|minutes?|min|hours?|h)"
_LEVEL = rf"(?:{_NUMBER} ?(m?A|m?W|C)|C/{_NUMBER}|C)"
_VOLTS, _AMPS = rf"{_NUMBER} ?(m?V)", _LEVEL.replace("|m?W", "")
_DRIVE = re.compile(
    rf"(?P<word>Charge|Discharge) at (?P<level>{_LEVEL})(?: for (?P<time>{_TIME}))?"
    rf"(?:(?: or)? until (?P<volts>{_VOLTS}))?\Z"
)
_HOLD = re.compile(
    rf"Hold at (?P<volts>{_VOLTS})(?: for (?P<time>{_TIME}))?"
    rf"(?:(?: or)? until (?P<amps>{_AMPS}))?\Z"
)
_REST = re.compile(rf"Rest for (?P<time>{_TIME})\Z")
#: PyBaMM gives a step without a time so long
USUAL = "24 h"
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


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

    Reads charges and discharges at a current, a rate or a power, holds and rests, with times and
    voltages in PyBaMM's units. Sampling and temperature are not in the sentences and take their
    defaults.

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
        text = " ".join(sentence.split())
        hold, rest, drive = _HOLD.match(text), _REST.match(text), _DRIVE.match(text)
        if hold and (hold["time"] or hold["amps"]):
            _add_hold(steps, hold, number, sentence)
        elif rest:
            steps.append({"rest": {"for": _seconds(rest["time"])}})
        elif drive and (drive["time"] or drive["volts"]):
            steps.append(_driven(drive))
        else:
            raise _not_understood(number, sentence)
    return {"schema": "batterylab.protocol/1", "name": name, "steps": steps}


def _seconds(text: str) -> str:
    """Return a time in seconds, from PyBaMM's units."""
    number, unit = re.fullmatch(r"([\d.e+-]+?) ?([a-z]+)", text).groups()  # type: ignore[union-attr]
    return f"{float(number) * SECONDS[unit[0]]:.12g} s"


def _level(text: str) -> dict[str, str]:
    """Return what is held constant: a current, a power or a rate."""
    if text.endswith(("A", "W")):
        return {"power" if text.endswith("W") else "current": text}
    rate = text.replace(" ", "")
    return {"rate": "1C" if rate == "C" else rate}


def _driven(drive: re.Match[str]) -> dict[str, Any]:
    entry = _level(drive["level"])
    if drive["time"]:
        entry["for"] = _seconds(drive["time"])
    else:
        entry["at_most"] = USUAL
    if drive["volts"]:
        entry["until"] = drive["volts"]
    return {drive["word"].lower(): entry}


def _add_hold(steps: list[dict[str, Any]], hold: re.Match[str], number: int, text: str) -> None:
    """Join a hold with the charge or discharge before it, or let it follow that.

    A hold of ours is written as a drive and a hold that last equally long; it comes back as one.
    """
    word, last = next(iter(steps[-1].items())) if steps else ("", {})
    limit = last.get("current") or last.get("rate")
    is_told = limit is not None or hold["amps"]
    follows = word in ("charge", "discharge") and last.get("until") == hold["volts"]
    if not (is_told and follows):
        raise _not_understood(number, text)
    length = {"for": _seconds(hold["time"])} if hold["time"] else {"at_most": USUAL}
    if hold["amps"]:
        last["hold_until"] = next(iter(_level(hold["amps"]).values()))
        last["at_most"] = last.pop("for", USUAL)
        return
    if last.get("for") == length["for"]:
        steps.pop()
    steps.append({"hold": {"voltage": hold["volts"], "limit": limit, "by": word, **length}})


def _not_understood(number: int, sentence: str) -> BatterylabError:
    return BatterylabError(
        f"step {number}: {sentence[:120]!r} is not understood",
        hint="'Charge at 1 A for 600 seconds or until 4.2 V', 'Discharge at C/2 until 2.5 V', "
        "'Discharge at 12 W for 1 hour', 'Hold at 4.2 V until 50 mA' after a charge to 4.2 V, "
        "'Rest for 1 minute'",
    )
