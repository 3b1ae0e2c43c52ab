"""The sequences of a Keysight BT2200, as the commands that load them.

The whole protocol in a row; a step to a state of charge ends on its charge.
"""

from collections.abc import Iterator

from batterylab.bench.onboard import Guards, compile_segment
from batterylab.drivers.roles import OnboardStep, OnboardTest
from batterylab.errors import BatterylabError
from batterylab.protocol.convert.carry import refuse_what_cannot_be_carried
from batterylab.protocol.convert.losses import (
    Written,
    chamber_lost,
    decisions_lost,
    names_lost,
)
from batterylab.protocol.flat import FlatStep, flat
from batterylab.protocol.progress import Segment
from batterylab.protocol.resolve import Resolved

SLOTS, STEPS = 8, 256


def to_keysight(resolved: Resolved) -> Written:
    """Return the commands that load a protocol into the frame's eight sequences.

    Raises
    ------
    BatterylabError
        If it does not fit.
    """
    left_out = refuse_what_cannot_be_carried(resolved, "keysight", ("voltage",))
    guards = Guards(resolved.voltage_limits_V)
    steps = [_onboard(item, guards) for item in flat(resolved) if item.step.read is None]
    slots = -(-len(steps) // STEPS)
    if slots > SLOTS:
        raise BatterylabError(
            f"{resolved.name}: {len(steps)} steps in a row, a BT2200 holds {SLOTS * STEPS}",
            hint="the bench repeats sequences itself: batterylab run",
        )
    lines: list[str] = []
    for slot in range(slots):
        lines += sequence_commands(slot + 1, steps[slot * STEPS : (slot + 1) * STEPS])
    losses = [*decisions_lost(resolved), *left_out, *chamber_lost(resolved), *names_lost(resolved)]
    losses.append("record: the frame logs every second, whatever record says")
    if any(step.kind == "rest" for step in resolved.steps()):
        losses.append("safety: the frame evaluates no test during a rest, when no current flows")
    if slots > 1:
        losses.append(f"{slots} sequences: the operator starts one after the other")
    return Written("\n".join(lines) + "\n", ".scpi", losses)


def sequence_commands(slot: int, steps: list[OnboardStep]) -> Iterator[str]:
    """Yield the commands that write one sequence."""
    yield f"SEQ:CLEar {slot}"
    for number, step in enumerate(steps, 1):
        command = f"SEQ:STEP:DEF {slot},{number},{step.mode},{step.duration_s}"
        if step.mode != "REST":
            command += f",{step.current_A:.6g},{step.voltage_V:.6g}"
        yield command
        for index, test in enumerate(step.tests, 1):
            yield (
                f"SEQ:TEST:DEF {slot},{number},{index},{test.kind},{test.value:.6g},"
                f"{test.when},{test.time_s},{test.action}"
            )


def _onboard(item: FlatStep, guards: Guards) -> OnboardStep:
    onboard = compile_segment(Segment((item.step,)), guards)[0]
    if item.stop_after_Ah is None:
        return onboard
    charge = OnboardTest("AMPH_GE", item.stop_after_Ah, "AFTER", 0, "NEXT")
    return OnboardStep(
        onboard.mode, onboard.duration_s, onboard.current_A, onboard.voltage_V,
        (*onboard.tests[:2], charge, *onboard.tests[2:]),
    )  # fmt: skip
