"""What a cycler must know to carry out a segment by itself, safely, if the host should die.

Each step is bounded in time, and a step that must end otherwise fails when its time is up. What
the cycler cannot watch (`protocol.ends.is_onboard`) is left out here: the runner watches it, and
these sequences are the net below.
"""

import math
from dataclasses import dataclass, replace

from batterylab.drivers.roles import OnboardStep, OnboardTest
from batterylab.errors import BatterylabError
from batterylab.protocol import End, Segment, Step, ends
from batterylab.protocol.ends import is_onboard

#: a hold's current is not judged before this: the first seconds of a step may be small
SETTLE_s = round(ends.SETTLE_s)
#: a discharge that ends at a voltage is driven a little beyond it, so that it arrives
BEYOND_V = 0.01
#: a charge that ends at a voltage holds there; it has arrived when it is this near
NEAR_V = 0.0005
_KINDS = {"voltage_V": "VOLT", "current_A": "CURR", "power_W": "POWER", "capacity_Ah": "AMPH",
          "energy_Wh": "WATTH"}  # fmt: skip


@dataclass(frozen=True)
class Guards:
    """Limits that stop a channel whatever its step says.

    Attributes
    ----------
    voltage_V : (float, float)
        Lowest and highest cell voltage.
    """

    voltage_V: tuple[float, float]


def compile_segment(
    segment: Segment, guards: Guards, *, is_stepped: bool = False
) -> list[OnboardStep]:
    """Return a segment's steps as the cycler carries them out.

    Parameters
    ----------
    segment : Segment
        From `batterylab.protocol.Progress`.
    guards : Guards
        Become tests that fail.
    is_stepped : bool
        Whether the host steps the supply: then it holds powers and resistances as well, and
        profiles need no whole seconds.

    Returns
    -------
    list of OnboardStep
        As many as the segment has steps; as many as it has points for a profile, which makes a
        segment of its own.

    Raises
    ------
    BatterylabError
        If a step holds something else than a current or a voltage.
    """
    return [made for step in segment.steps for made in _compile(step, guards, is_stepped)]


def _compile(step: Step, guards: Guards, is_stepped: bool) -> list[OnboardStep]:
    if step.mode == "rest":
        return [OnboardStep("REST", step.duration_s + step.waits_s, 0.0, 0.0, ())]
    if step.mode == "profile":
        return _profile(step, guards, is_stepped)
    made = _driven(step, guards, step.current_A, step.duration_s)
    if step.mode in ("power", "resistance") and is_stepped:
        return [replace(made, control=step.mode, level=step.level)]
    if step.mode not in ("current", "voltage"):
        raise BatterylabError(
            f"{step.path}: the cycler holds no constant {step.mode}",
            hint="a rate, or a host-stepped supply",
        )
    return [made]


def _driven(step: Step, guards: Guards, amps: float, seconds: float) -> OnboardStep:
    charges = amps > 0
    limit_V = step.voltage_V
    tests = [
        OnboardTest("VOLT_GE", guards.voltage_V[1], "AFTER", 0, "FAIL"),
        OnboardTest("VOLT_LE", guards.voltage_V[0], "AFTER", 0, "FAIL"),
    ]
    tests += [_test(step, end) for end in (*step.ends, *step.stops) if is_onboard(step, end)]
    if step.ends_at_voltage and not charges:
        limit_V = max(limit_V - BEYOND_V, guards.voltage_V[0])
    if not step.is_fixed:
        tests.append(OnboardTest("CURR_GE", 0.0, "AT", step.duration_s, "FAIL"))
    return OnboardStep("CHARGE" if charges else "DISCHARGE", seconds, abs(amps), limit_V,
                       tuple(tests))  # fmt: skip


def _test(step: Step, end: End) -> OnboardTest:
    above = end.relation == "above"
    value = end.value
    if end.quantity == "voltage_V" and above and value == step.voltage_V:
        value -= NEAR_V
    may_rise = end.quantity in ("current_A", "power_W") and not above
    return OnboardTest(
        f"{_KINDS[end.quantity]}_{'GE' if above else 'LE'}", value, "AFTER",
        SETTLE_s if may_rise else 0, "FAIL" if end.then == "fail" else "NEXT",
    )  # fmt: skip


def _profile(step: Step, guards: Guards, is_stepped: bool) -> list[OnboardStep]:
    """Return a profile, one step a point."""
    points = step.points
    is_power = points is not None and points.quantity == "power_W"
    if points is None or (is_power and not is_stepped):
        raise BatterylabError(f"{step.path}: the cycler follows no profile of power",
                              hint="a profile of current, or a host-stepped supply")  # fmt: skip
    edges = [*points.time_s, points.length_s]
    if not is_stepped and any(edge != round(edge) for edge in edges):
        raise BatterylabError(f"{step.path}: the cycler steps by whole seconds",
                              hint="times of whole seconds, or a host-stepped supply")  # fmt: skip
    made = []
    for value, begin, end in zip(points.value, edges[:-1], edges[1:], strict=True):
        seconds = end - begin if is_stepped else round(end - begin)
        amps = math.copysign(step.current_A, value) if is_power and value else value
        point = _point(step, guards, amps, seconds)
        if is_power and value:
            point = replace(point, control="power", level=abs(value))
        made.append(point)
    return made


def _point(step: Step, guards: Guards, amps: float, seconds: float) -> OnboardStep:
    """Return one point; its voltage is the cell's, where the cycler holds until the host acts."""
    if amps == 0:
        return OnboardStep("REST", seconds, 0.0, 0.0, ())
    low, high = (end.value for end in step.ends[:2])
    return replace(_driven(step, guards, amps, seconds), voltage_V=high if amps > 0 else low)
