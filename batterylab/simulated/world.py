"""The world behind the simulated instruments: cells, chamber, hands, and the clock.

The bench owns the clock. `advance` computes everything up to a time; nothing moves otherwise.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from batterylab.simulated import bank as b
from batterylab.simulated.bank import Bank, ChannelErrors, stream
from batterylab.simulated.cell import CellTruth, SimulatedCell, ZERO_degC

ROOM_degC = 23.0
SHELF_SPREAD_K = 0.1
SHIPPED_SOC = 0.30


@dataclass
class ChamberAir:
    """Air of a chamber: follows its set point at a limited rate, or the room when off."""

    set_degC: float = 25.0
    actual_degC: float = ROOM_degC
    is_running: bool = False
    heating_K_min: float = 3.0
    cooling_K_min: float = 2.0

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        target = self.set_degC if self.is_running else ROOM_degC
        gap = target - self.actual_degC
        rate = (self.heating_K_min if gap > 0 else self.cooling_K_min) / 60.0
        linear_s = max(0.0, (abs(gap) - 1.0) / rate)
        if seconds <= linear_s:
            self.actual_degC += math.copysign(rate * seconds, gap)
            return
        left = min(abs(gap), 1.0) * math.exp(-(seconds - linear_s) * rate)
        self.actual_degC = target - math.copysign(left, gap)


@dataclass
class Place:
    """Where a channel of the bench is found: on the cycler, the scanner, a shelf."""

    name: str
    cycler_index: int
    scanner_channel: int
    shelf: int


@dataclass
class World:
    """Everything behind the instruments.

    Parameters
    ----------
    seed : int
        Of every error, offset and noise.
    start_s : float
        Unix time at which the bench starts.
    truths : dict of str to CellTruth
        By serial.
    places : list of Place
        The channels of the bench.
    errors : ChannelErrors
        Of the cycler's channels.
    """

    seed: int
    start_s: float
    truths: dict[str, CellTruth]
    places: list[Place]
    errors: ChannelErrors = field(default_factory=ChannelErrors)
    lead_ohm: float = 0.01

    def __post_init__(self) -> None:
        self.now_s = float(self.start_s)
        self.bank = Bank(self.seed, self.errors)
        self.air = ChamberAir()
        self.cells = {serial: SimulatedCell(truth) for serial, truth in self.truths.items()}
        self.shelf_state: dict[str, NDArray[np.float64]] = {}
        self.seat_of: dict[str, str] = {}
        self.probed: str | None = None
        self.by_name = {place.name: place for place in self.places}
        self.by_scanner = {place.scanner_channel: place for place in self.places}
        ideal = self.errors == IDEAL
        self.offset_K = {
            place.name: 0.0 if ideal else SHELF_SPREAD_K * _draw(self.seed, "air", place.name)
            for place in self.places
        }
        self.probe_error_K = {
            place.name: 0.0 if ideal else 0.2 * _draw(self.seed, "probe", place.name)
            for place in self.places
        }
        self.listeners: list[Callable[..., None]] = []

    def advance(self, unix_s: float) -> None:
        """Compute everything up to a time, in whole seconds; a past time changes nothing."""
        seconds = int(unix_s - self.now_s)
        while seconds > 0:
            block = min(seconds, 60)
            self.air.advance(block)
            for place in self.places:
                kelvin = self.air.actual_degC + self.offset_K[place.name] + ZERO_degC
                self.bank.ambient_K[place.cycler_index] = kelvin
            amps, volts, states = self.bank.advance(block)
            first_ms = round((self.now_s - self.start_s + 1) * 1000)
            for listener in self.listeners:
                listener(first_ms, amps, volts, states)
            self.now_s += block
            seconds -= block

    def state_of(self, serial: str) -> NDArray[np.float64]:
        """Return the state of a cell wherever it is."""
        if serial in self.seat_of:
            return np.array(self.bank.state[self.by_name[self.seat_of[serial]].cycler_index])
        if serial not in self.shelf_state:
            self.shelf_state[serial] = self.cells[serial].rest_state(SHIPPED_SOC, ROOM_degC)
        return self.shelf_state[serial]

    def insert(self, serial: str, channel: str, *, is_reversed: bool = False) -> None:
        """Put a cell into a channel, as a technician does."""
        place = self._place(channel)
        if serial not in self.cells:
            raise ValueError(f"there is no cell {serial!r}")
        if serial in self.seat_of:
            raise ValueError(f"{serial} sits in channel {self.seat_of[serial]}")
        if channel in self.seat_of.values():
            raise ValueError(f"channel {channel} is taken")
        state = self.state_of(serial).copy()
        self.bank.insert(
            place.cycler_index, serial, self.cells[serial], state, is_reversed=is_reversed
        )
        self.seat_of[serial] = channel

    def remove(self, channel: str) -> None:
        """Take the cell out of a channel."""
        place = self._place(channel)
        serial = next((s for s, c in self.seat_of.items() if c == channel), None)
        if serial is None:
            raise ValueError(f"channel {channel} is empty")
        if self.bank.run[place.cycler_index, b.STATUS] == b.RUNNING:
            raise ValueError(f"channel {channel} is running")
        self.shelf_state[serial] = self.bank.remove(place.cycler_index)
        del self.seat_of[serial]

    def probe(self, serial: str | None) -> None:
        """Put the meter's pins on a cell, or take them off."""
        if serial is not None and serial not in self.cells:
            raise ValueError(f"there is no cell {serial!r}")
        self.probed = serial

    def _place(self, channel: str) -> Place:
        if channel not in self.by_name:
            raise ValueError(f"there is no channel {channel!r}")
        return self.by_name[channel]

    def thermocouple_degC(self, scanner_channel: int) -> float | None:
        """Return what the thermocouple on a scanner channel reads; None if it is open."""
        place = self.by_scanner.get(scanner_channel)
        if place is None:
            return None
        return self.bank.temperature_degC(place.cycler_index) + self.probe_error_K[place.name]

    def meter_reading(self) -> tuple[float, float] | None:
        """Return AC resistance in ohm and OCV in V of the probed cell, as the meter sees them."""
        if self.probed is None:
            return None
        cell = self.cells[self.probed]
        self._readings = getattr(self, "_readings", 0) + 1
        draw = stream(self.seed, "meter", self.probed, self._readings)
        gain = 1.0 + (0.0 if self.errors == IDEAL else 1e-3 * _draw(self.seed, "meter-gain"))
        noise = 0.0 if self.errors == IDEAL else 1.0
        ohm = cell.ac_resistance_ohm() * gain + 5e-6 * noise * draw.standard_normal()
        volts = cell.open_circuit_voltage_V(self.state_of(self.probed))
        sign = 1.0
        if self.probed in self.seat_of:
            place = self.by_name[self.seat_of[self.probed]]
            sign = float(self.bank.run[place.cycler_index, b.POLARITY])
        return ohm, sign * volts + 2e-5 * noise * draw.standard_normal()


IDEAL = ChannelErrors(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def _draw(seed: int, *names: object) -> float:
    return float(stream(seed, *names).standard_normal())
