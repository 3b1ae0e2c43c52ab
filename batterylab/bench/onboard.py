"""What a cycler must know to carry out a segment by itself, safely, if the host should die.

Each step is bounded in time, and a step that must end otherwise fails when its time is up.
"""

from dataclasses import dataclass

from batterylab.drivers.roles import OnboardStep, OnboardTest
from batterylab.protocol import Segment, Step

#: a hold's current is not judged before this: the first seconds of a step may be small
SETTLE_s = 5
#: a discharge that ends at a voltage is driven a little beyond it, so that it arrives
BEYOND_V = 0.01
#: a charge that ends at a voltage holds there; it has arrived when it is this near
NEAR_V = 0.0005


@dataclass(frozen=True)
class Guards:
    """Limits that stop a channel whatever its step says.

    Attributes
    ----------
    voltage_V : (float, float)
        Lowest and highest cell voltage.
    """

    voltage_V: tuple[float, float]


def compile_segment(segment: Segment, guards: Guards) -> list[OnboardStep]:
    """Return a segment's steps as the cycler carries them out.

    Parameters
    ----------
    segment : Segment
        From `batterylab.protocol.Progress`.
    guards : Guards
        Become tests that fail.

    Returns
    -------
    list of OnboardStep
        As many as the segment has steps.
    """
    return [_compile(step, guards) for step in segment.steps]


def _compile(step: Step, guards: Guards) -> OnboardStep:
    if step.kind == "rest":
        return OnboardStep("REST", step.duration_s, 0.0, 0.0, ())
    charges = step.current_A > 0
    tests = [
        OnboardTest("VOLT_GE", guards.voltage_V[1], "AFTER", 0, "FAIL"),
        OnboardTest("VOLT_LE", guards.voltage_V[0], "AFTER", 0, "FAIL"),
    ]
    limit_V = step.voltage_V
    if step.hold_until_A is not None:
        tests.append(OnboardTest("CURR_LE", step.hold_until_A, "AFTER", SETTLE_s, "NEXT"))
    elif charges:
        tests.append(OnboardTest("VOLT_GE", limit_V - NEAR_V, "AFTER", 0, "NEXT"))
    else:
        tests.append(OnboardTest("VOLT_LE", limit_V, "AFTER", 0, "NEXT"))
        limit_V = max(limit_V - BEYOND_V, guards.voltage_V[0])
    if not step.is_fixed:
        tests.append(OnboardTest("CURR_GE", 0.0, "AT", step.duration_s, "FAIL"))
    mode = "CHARGE" if charges else "DISCHARGE"
    return OnboardStep(mode, step.duration_s, abs(step.current_A), limit_V, tuple(tests))
