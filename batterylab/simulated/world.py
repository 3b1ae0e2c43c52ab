"""The world behind the simulated instruments: cells, chamber, hands, and the clock.

The bench owns the clock. `advance` computes everything up to a time; nothing moves otherwise.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from batterylab.simulated import bank as b
from batterylab.simulated.bank import Bank, ChannelErrors, stream
from batterylab.simulated.cell import CellTruth, SimulatedCell, ZERO_degC
from batterylab.simulated.wires import Wiring, cell_impedance_ohm

if TYPE_CHECKING:
    from batterylab.simulated.stage import PowerStage

ROOM_degC = 23.0
SHELF_SPREAD_K = 0.1
SHIPPED_SOC = 0.30
SUPPLY_TICK_s = 0.1
#: frequency of an AC resistance
STANDARD_Hz = 1000.0
#: with more current than this a meter of AC resistance shows a fault
MOST_A = 1e-3


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
    """Where a channel of the bench is found: on the cycler, the scanner, a shelf.

    A channel of a supply has no `cycler_index` (-1); its `stage` holds the cell.
    """

    name: str
    cycler_index: int
    scanner_channel: int
    shelf: int
    stage: "PowerStage | None" = None


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

    Attributes
    ----------
    tick_s : float
        How finely time passes; the frame's channels move in whole seconds all the same.
    supplies : dict of str to PowerStage
        By the name of the instrument.
    listeners : list of callable
        Get the frame's samples: time of the first in ms, currents, voltages, states.
    movers : list of callable
        Are told to move on: by a time in s, up to a moment as unix seconds.
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
        self.wiring = Wiring()
        self.probe_polarity = 1.0
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
        self.movers: list[Callable[[float, float], None]] = []
        self.supplies: dict[str, PowerStage] = {}
        #: voltage of each closed contact, by scanner and input
        self.wired_V: dict[tuple[str, int], float] = {}
        self.tick_s = 1.0
        self._ticks = self._seconds = 0
        framed = [place for place in self.places if place.cycler_index >= 0]
        self._framed = np.array([place.cycler_index for place in framed], int)
        self._offset_K = np.array([self.offset_K[place.name] for place in framed])

    def add_supply(self, channel: str, name: str) -> None:
        """Let a channel be that of a supply: an instrument with one output, here its power stage.

        Time passes in tenths of a second then: the host may step a supply as fast as that.
        """
        from batterylab.simulated.stage import PowerStage

        self.supplies[name] = self._place(channel).stage = PowerStage(self)
        self.tick_s = SUPPLY_TICK_s

    def advance(self, unix_s: float) -> None:
        """Compute everything up to a time, in whole ticks; a past time changes nothing."""
        left = int((unix_s - self.start_s) / self.tick_s + 1e-6) - self._ticks
        a_second = round(1.0 / self.tick_s)
        while left > 0:
            ahead = a_second - self._ticks % a_second  # first to the next whole second
            block = min(left, ahead if ahead < a_second else 60 * a_second)
            if a_second < block < 60 * a_second:
                block -= block % a_second
            self._move(block)
            left -= block

    def _move(self, ticks: int) -> None:
        """Let all that there is move on by some ticks."""
        self._ticks += ticks
        now_s = self.start_s + self._ticks * self.tick_s
        passed_s = ticks * self.tick_s
        self.air.advance(passed_s)
        for mover in self.movers:
            mover(passed_s, now_s)
        seconds = int(self._ticks * self.tick_s + 1e-6) - self._seconds
        if seconds > 0:
            self.bank.ambient_K[self._framed] = self.air.actual_degC + self._offset_K + ZERO_degC
            amps, volts, states = self.bank.advance(seconds)
            first_ms = 1000 * (self._seconds + 1)
            self._seconds += seconds
            for listener in self.listeners:
                listener(first_ms, amps, volts, states)
        self.now_s = now_s

    def state_of(self, serial: str) -> NDArray[np.float64]:
        """Return the state of a cell wherever it is."""
        if serial in self.seat_of:
            place = self.by_name[self.seat_of[serial]]
            state = place.stage.state[0] if place.stage else self.bank.state[place.cycler_index]
            return np.array(state)
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
        if place.stage:
            place.stage.insert(serial, is_reversed=is_reversed)
        else:
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
        if place.stage.is_on if place.stage else self.bank.is_running(place.cycler_index):
            raise ValueError(f"channel {channel} is running")
        if place.stage:
            place.stage.remove()
        else:
            self.shelf_state[serial] = self.bank.remove(place.cycler_index)
        del self.seat_of[serial]

    def flows_A(self) -> dict[str, float]:
        """Return the true current of each channel with a cell, charge positive."""
        found = {}
        for channel in self.seat_of.values():
            place = self.by_name[channel]
            run = place.stage.run[0] if place.stage else self.bank.run[place.cycler_index]
            is_driven = run[b.STATUS] == b.RUNNING
            found[channel] = float(run[b.TRUE_CURRENT]) if is_driven else 0.0
        return found

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
        error_K = self.probe_error_K[place.name]
        if place.stage:
            return place.stage.temperature_degC + error_K
        return self.bank.temperature_degC(place.cycler_index) + error_K

    def meter_reading(self, meter: str = "") -> tuple[float, float] | None:
        """Return AC resistance in ohm and OCV in V of the cell at a meter, as the meter sees them.

        A meter that is wired to channels sees the cell that its closed relays lead to; else it
        sees the probed one.
        """
        serial = self.wiring.serial_at(meter, self.seat_of) if self.wiring.has(meter) \
            else self.probed  # fmt: skip
        if serial is None or self._flows(serial):
            return None
        cell = self.cells[serial]
        self._readings = getattr(self, "_readings", 0) + 1
        draw = stream(self.seed, "meter", serial, self._readings)
        gain = 1.0 + (0.0 if self.errors == IDEAL else 1e-3 * _draw(self.seed, "meter-gain"))
        noise = 0.0 if self.errors == IDEAL else 1.0
        wired = self.impedance_ohm(meter, STANDARD_Hz)
        plain_ohm = cell.ac_resistance_ohm() if wired is None else wired.real
        ohm = plain_ohm * gain + 5e-6 * noise * draw.standard_normal()
        volts = cell.open_circuit_voltage_V(self.state_of(serial))
        sign = self.probe_polarity
        if serial in self.seat_of:
            place = self.by_name[self.seat_of[serial]]
            run = place.stage.run[0] if place.stage else self.bank.run[place.cycler_index]
            sign *= float(run[b.POLARITY])
        return ohm, sign * volts + 2e-5 * noise * draw.standard_normal()


    def _flows(self, serial: str) -> bool:
        """Say whether so much current flows in a cell that no meter of resistance can read it."""
        return abs(self.flows_A().get(self.seat_of.get(serial, ""), 0.0)) > MOST_A

    def impedance_ohm(self, meter: str, frequency_Hz: float) -> complex | None:
        """Return the impedance of the cell that a wired meter sees; None if it is not wired."""
        serial = self.wiring.serial_at(meter, self.seat_of)
        if serial is None:
            return None
        state = self.state_of(serial)
        return cell_impedance_ohm(self.cells[serial], state, frequency_Hz)


IDEAL = ChannelErrors(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def _draw(seed: int, *names: object) -> float:
    return float(stream(seed, *names).standard_normal())
