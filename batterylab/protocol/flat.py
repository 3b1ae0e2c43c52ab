"""A protocol laid out in a row, for those who cannot decide on the way: planners, other formats.

Measures settle at once, and every full charge and discharge moves the nominal capacity.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from batterylab.protocol.progress import Progress
from batterylab.protocol.resolve import Node, Repeat, Resolved, Step, Until


@dataclass(frozen=True)
class FlatStep:
    """One step as it comes.

    Attributes
    ----------
    step : Step
        What is done.
    cycle : int
        The cycle it belongs to.
    stop_after_Ah : float or None
        Charge, as a magnitude, that ends a step to a state of charge.
    """

    step: Step
    cycle: int
    stop_after_Ah: float | None = None

    @property
    def stop_after_s(self) -> int | None:
        """The time in s that the charge takes at the step's current."""
        if self.stop_after_Ah is None:
            return None
        return max(1, round(3600.0 * self.stop_after_Ah / abs(self.step.current_A)))


def flat(resolved: Resolved) -> Iterator[FlatStep]:
    """Yield every step in the order in which it is carried out."""
    progress = Progress(resolved)
    nominal_Ah = resolved.cell_type.nominal_capacity_Ah
    while progress.current is not None:
        segment = progress.current
        moved_Ah = []
        for step in segment.steps:
            yield FlatStep(step, segment.cycle, segment.stop_after_Ah)
            size_Ah = segment.stop_after_Ah or nominal_Ah
            if step.is_fixed:
                size_Ah = min(size_Ah, abs(step.current_A) * step.duration_s / 3600.0)
            moved_Ah.append(math.copysign(size_Ah, step.current_A) if step.current_A else 0.0)
        progress.finish(moved_Ah)


def until_nodes(nodes: tuple[Node, ...]) -> Iterator[Until]:
    """Yield every `until` of a protocol."""
    for node in nodes:
        if isinstance(node, Until):
            yield node
        if isinstance(node, Until | Repeat):
            yield from until_nodes(node.body)
