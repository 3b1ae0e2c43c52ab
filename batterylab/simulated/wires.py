"""The wires of a simulated bench between cells and meters: relays, and what is at their far end."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from batterylab.simulated.cell import SimulatedCell

GRID_K = 5.0


@dataclass
class Wiring:
    """Which relays lead from a meter to which channel, and which of them are closed.

    Attributes
    ----------
    ways : dict
        By meter: pairs of relays (scanner and place) and a channel; no relays for a meter of its
        own.
    closed : set of (str, int)
        Relays whose contacts touch, whatever their scanner believes.
    shorts : int
        How often two cells were joined by relays.
    """

    ways: dict[str, list[tuple[tuple[tuple[str, int], ...], str]]] = field(default_factory=dict)
    closed: set[tuple[str, int]] = field(default_factory=set)
    shorts: int = 0

    def has(self, meter: str) -> bool:
        """Say whether a meter is wired to channels."""
        return meter in self.ways

    def channels_at(self, meter: str) -> tuple[set[str], set[str]]:
        """Return the channels whose current leads, and those whose sense leads, are at a meter."""
        ways = self.ways.get(meter, [])
        return tuple({channel for relays, channel in ways if not relays or relays[k] in self.closed}
                     for k in range(2))  # type: ignore[return-value]

    def serial_at(self, meter: str, seat_of: Mapping[str, str]) -> str | None:
        """Return the cell that a meter's sense leads see; None where a pair of leads is open.

        So it is where cells are joined.
        """
        current, sense = self.channels_at(meter)
        if len(current) != 1 or len(sense) != 1:
            return None
        return next((serial for serial, channel in seat_of.items() if channel in sense), None)

    def switch(self, scanner: str, place: int, *, closed: bool) -> None:
        """Move a relay's contact."""
        relay = (scanner, place)
        self.closed = self.closed | {relay} if closed else self.closed - {relay}
        if closed:
            self.shorts += sum(len(leads) > 1 for meter in self.ways
                               for leads in self.channels_at(meter))  # fmt: skip


def wiring_of(bench: Any) -> Wiring:
    """Return the wires of a bench file; what a meter's first reply needs is made ready."""
    wiring = Wiring()
    for channel in bench.channels.values():
        for way in channel.meters:
            relays = tuple((way.relays, place) for place in way.places)
            wiring.ways.setdefault(way.meter, []).append((relays, channel.name))
    if wiring.ways:
        from batterylab.simulated.cell import CellTruth, SimulatedCell

        cell = SimulatedCell(CellTruth())
        for degC in (22.0, 27.0):
            cell_impedance_ohm(cell, cell.rest_state(0.5, degC), 1000.0)
    return wiring


def cell_impedance_ohm(cell: "SimulatedCell", state: Any, frequency_Hz: float) -> complex:
    """Return a cell's impedance in equilibrium at its mean charge.

    Between some temperatures it is interpolated: tables of another one take PyBaMM a second.
    """
    from batterylab.simulated.cell import MEAN_N, MEAN_P, TEMPERATURE, ZERO_degC

    at, degC = (float(state[MEAN_N]), float(state[MEAN_P])), float(state[TEMPERATURE]) - ZERO_degC
    low = GRID_K * math.floor(degC / GRID_K)
    share = (degC - low) / GRID_K
    ohms = [cell.impedance_ohm(np.array([frequency_Hz]), at, low + k * GRID_K)[0]
            for k in range(2)]  # fmt: skip
    return complex(ohms[0] + share * (ohms[1] - ohms[0]))
