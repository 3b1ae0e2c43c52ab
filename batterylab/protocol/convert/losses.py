"""What a conversion gives, and the losses that most targets share."""

from dataclasses import dataclass, field

from batterylab.protocol.flat import until_nodes
from batterylab.protocol.resolve import Resolved


@dataclass(frozen=True)
class Written:
    """A protocol in another format.

    Attributes
    ----------
    text : str
        The file's content.
    suffix : str
        Of the file's name, such as ``.json``.
    losses : list of str
        What the format does not say, one sentence each.
    """

    text: str
    suffix: str
    losses: list[str] = field(default_factory=list)


def decisions_lost(resolved: Resolved) -> list[str]:
    """Return what is lost where the format decides nothing on the way."""
    losses = [
        f"until: {node.measure} is repeated {node.plain_times} times, "
        + ("settled or not" if node.last else "whether it passes its limit or not")
        for node in until_nodes(resolved.nodes)
    ]
    if any(step.to_soc_percent is not None for step in resolved.steps()):
        nominal = resolved.cell_type.nominal_capacity_Ah
        losses.append(f"to_soc: counted from the nominal {nominal:g} Ah, not from a measured one")
    return losses


def chamber_lost(resolved: Resolved) -> list[str]:
    """Return what is lost where the format knows no chamber."""
    if resolved.temperature_degC is None:
        return []
    return [
        f"chamber: {resolved.temperature_degC:g} ± {resolved.within_K:g} degC and "
        f"{resolved.soak_s / 3600:g} h of soak are the operator's business"
    ]


def overtime_lost(resolved: Resolved) -> list[str]:
    """Return what is lost where a step that takes too long is followed by the next one."""
    if all(step.is_fixed for step in resolved.steps()):
        return []
    return ["at_most: a step that is not done in time is followed by the next one, it fails not"]


def names_lost(resolved: Resolved) -> list[str]:
    """Return what is lost where steps have no names."""
    names = dict.fromkeys(step.measure for step in resolved.steps() if step.measure)
    return [f"measure: the names {', '.join(names)} are not in the file"] if names else []


def own_intervals_lost(resolved: Resolved) -> list[str]:
    """Return what is lost where all steps are recorded alike."""
    own = {step.sample_every_s for step in resolved.steps()} - {None}
    return ["sample_every: all steps are recorded alike"] if own else []
