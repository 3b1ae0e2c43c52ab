"""A protocol laid out in a row, for those who cannot decide on the way: planners, other formats.

Measures settle at once, and every full charge and discharge moves the nominal capacity.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from batterylab.protocol.form import Node, Resolved, Step, Until, children
from batterylab.protocol.progress import Progress, imagined


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
    while progress.current is not None:
        segment = progress.current
        for step in segment.steps:
            yield FlatStep(step, segment.cycle, segment.stop_after_Ah)
        progress.finish(imagined(segment, resolved))


def until_nodes(nodes: tuple[Node, ...]) -> Iterator[Until]:
    """Yield every `until` of a protocol."""
    for node in nodes:
        if isinstance(node, Until):
            yield node
        for body in children(node):
            yield from until_nodes(body)
