"""Write a protocol for other programs and cyclers, and say what is lost on the way.

Each target is a function from a resolved protocol to a text and its losses. What protects a
cell is never lost silently: a target that cannot express a safety limit refuses, unless the
caller names that limit and so takes its watching over.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from batterylab.errors import BatterylabError
from batterylab.protocol.convert.arbin import to_arbin
from batterylab.protocol.convert.keysight import to_keysight
from batterylab.protocol.convert.losses import Written
from batterylab.protocol.convert.maccor import to_maccor
from batterylab.protocol.convert.pybammstrings import to_pybamm
from batterylab.protocol.convert.unicycler import to_biologic, to_neware, to_unicycler
from batterylab.protocol.resolve import Resolved

__all__ = ["SAFETY", "TARGETS", "Target", "Written", "convert"]

#: what a protocol's `stop` can guard
SAFETY = ("voltage", "temperature")


@dataclass(frozen=True)
class Target:
    """A format.

    Attributes
    ----------
    write : callable
        From a resolved protocol to what is `Written`.
    guards : frozenset of str
        Safety limits that the format expresses.
    drives_cells : bool
        False for a model, which nothing can hurt.
    """

    write: Callable[[Resolved], Written]
    guards: frozenset[str]
    drives_cells: bool = True


_VOLTAGE = frozenset({"voltage"})
TARGETS: dict[str, Target] = {
    "pybamm": Target(to_pybamm, frozenset(), drives_cells=False),
    "unicycler": Target(to_unicycler, _VOLTAGE),
    "neware": Target(to_neware, _VOLTAGE),
    "biologic": Target(to_biologic, _VOLTAGE),
    "maccor": Target(to_maccor, _VOLTAGE),
    "arbin": Target(to_arbin, _VOLTAGE),
    "keysight": Target(to_keysight, _VOLTAGE),
}


def convert(resolved: Resolved, target: str, watched_elsewhere: Collection[str] = ()) -> Written:
    """Write a protocol in another format.

    Parameters
    ----------
    resolved : Resolved
        The protocol for a cell type.
    target : str
        A key of `TARGETS`.
    watched_elsewhere : collection of str
        Safety limits (`SAFETY`) that the caller watches by other means.

    Returns
    -------
    Written
        The text and every loss.

    Raises
    ------
    BatterylabError
        If the target is unknown, cannot express a safety limit, or cannot express the steps.
    """
    if target not in TARGETS:
        raise BatterylabError(f"unknown target {target!r}", hint=f"known: {', '.join(TARGETS)}")
    for name in watched_elsewhere:
        if name not in SAFETY:
            raise BatterylabError(f"there is no limit {name!r}", hint=f"known: {', '.join(SAFETY)}")
    format_ = TARGETS[target]
    missing = [name for name in SAFETY if name not in format_.guards]
    refused = [name for name in missing if name not in watched_elsewhere]
    if refused and format_.drives_cells:
        raise BatterylabError(
            f"{resolved.name}: {target} cannot stop a cell on its {' or '.join(refused)}",
            hint=f"if something else does: --watched-elsewhere {' '.join(refused)}",
        )
    written = format_.write(resolved)
    return Written(
        written.text, written.suffix,
        [*(_safety_loss(name, resolved, format_.drives_cells) for name in missing),
         *written.losses],
    )  # fmt: skip


def _safety_loss(name: str, resolved: Resolved, drives_cells: bool) -> str:
    limits = {
        "voltage": (resolved.voltage_limits_V, "V"),
        "temperature": (resolved.temperature_limits_degC, "degC"),
    }
    (low, high), unit = limits[name]
    keeper = "watch it by other means" if drives_cells else "a model cannot be hurt"
    return f"safety: no stop outside {low:g} to {high:g} {unit}: {keeper}"
