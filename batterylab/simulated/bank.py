"""All channels of a simulated cycler, each with its own errors, advanced together.

The kernel holds each channel's doings in one row of doubles; the names of its columns are here.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batterylab._kernels import _cellsim
from batterylab.simulated.cell import (
    STATE_COLUMNS,
    TEMPERATURE,
    CellTruth,
    SimulatedCell,
    ZERO_degC,
)

(INSERTED, POLARITY, STATUS, SLOT, STEP, ELAPSED, AMP_HOURS, WATT_HOURS, STEP_AH, STEP_WH,
 CURRENT, VOLTAGE, TRUE_CURRENT, TRUE_VOLTAGE, FAILED_TEST, FAILED_KIND, EXPECTED, MEASURED,
 SEQUENCE_S, LAST_VOLTAGE, SEAT, RUN_COLUMNS) = range(22)  # fmt: skip
NEVER, RUNNING, FAIL, ABORTED, OK = range(5)
MODE_NUMBERS = {"REST": 0, "PRECHARGE": 1, "CHARGE": 2, "DISCHARGE": 3}
TEST_KINDS = (
    "VOLT_GE", "VOLT_LE", "CURR_GE", "CURR_LE", "POWER_GE", "POWER_LE", "AMPH_GE", "AMPH_LE",
    "WATTH_GE", "WATTH_LE", "POS_DVDT_GE", "POS_DVDT_LE",
)  # fmt: skip
WHENS = ("AT", "AFTER", "BEFORE", "BEFORE_START")
SLOTS, STEPS, TESTS = 8, 256, 32
CHANNELS = 256


@dataclass(frozen=True)
class ChannelErrors:
    """How a channel's meters err: one standard deviation over the channels, and the noise.

    `seat_mOhm` is how well contacts repeat; `current_scale_error_percent` is common to all
    channels, as a wrong shunt constant would be.
    """

    current_gain_ppm: float = 150.0
    current_offset_mA: float = 0.3
    current_noise_mA: float = 0.1
    voltage_gain_ppm: float = 30.0
    voltage_offset_mV: float = 0.15
    voltage_noise_mV: float = 0.05
    seat_mOhm: float = 0.02
    current_scale_error_percent: float = 0.0


def stream(seed: int, *names: object) -> np.random.Generator:
    """Return a generator of random numbers that depends on the seed and the names alone."""
    text = "/".join(str(name) for name in (seed, *names))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


class Bank:
    """Up to 256 channels, in the order of the cycler's own numbering.

    Parameters
    ----------
    seed : int
        Of the channels' errors and noise.
    errors : ChannelErrors
        Their sizes; pass zeros for an ideal cycler.
    """

    def __init__(self, seed: int, errors: ChannelErrors) -> None:
        self.seed = seed
        self.errors = errors
        any_cell = SimulatedCell(CellTruth())
        self.kernel = any_cell.kernel
        self.cell = np.tile(any_cell.parameters, (CHANNELS, 1))
        self.state = np.zeros((CHANNELS, STATE_COLUMNS))
        self.run = np.zeros((CHANNELS, RUN_COLUMNS))
        self.run[:, POLARITY] = 1.0
        self.ambient_K = np.full(CHANNELS, 25.0 + ZERO_degC)
        self.steps = np.full((SLOTS, STEPS, 4), -1.0)
        self.test_counts = np.zeros((SLOTS, STEPS), np.int32)
        self.tests = np.zeros((SLOTS, STEPS, TESTS, 5))
        self.meter, self.noise = self._meters()
        self.serials: list[str | None] = [None] * CHANNELS
        self.seats: dict[str, int] = {}

    def _meters(self) -> tuple[NDArray[np.float64], NDArray[np.uint64]]:
        meter = np.zeros((CHANNELS, 6))
        noise = np.zeros(CHANNELS, np.uint64)
        e = self.errors
        scale = np.array([
            e.current_gain_ppm * 1e-6, e.current_offset_mA * 1e-3, 0.0,
            e.voltage_gain_ppm * 1e-6, e.voltage_offset_mV * 1e-3, 0.0,
        ])  # fmt: skip
        for channel in range(CHANNELS):
            draw = stream(self.seed, "channel", channel)
            meter[channel] = scale * draw.standard_normal(6)
            meter[channel, 0] += e.current_scale_error_percent / 100.0
            noise[channel] = draw.integers(1, 2**63)
        meter[:, 2] = e.current_noise_mA * 1e-3
        meter[:, 5] = e.voltage_noise_mV * 1e-3
        return meter, noise

    def insert(
        self, channel: int, serial: str, cell: SimulatedCell, state: NDArray[np.float64],
        *, is_reversed: bool = False,
    ) -> None:  # fmt: skip
        """Put a cell into a channel; its state is carried over, its seat is new.

        Raises
        ------
        ValueError
            If it is a cell of another set, model or size than the bench's.
        """
        if cell.kernel is not self.kernel:
            raise ValueError(f"{serial} is of another kind than the bench's cells")
        self.cell[channel] = cell.parameters
        self.state[channel] = state
        self.serials[channel] = serial
        count = self.seats.get(serial, 0)
        self.seats[serial] = count + 1
        seat = stream(self.seed, "seat", serial, count).standard_normal()
        run = self.run[channel]
        run[:] = 0.0
        run[INSERTED] = 1.0
        run[POLARITY] = -1.0 if is_reversed else 1.0
        run[SEAT] = self.errors.seat_mOhm * 1e-3 * seat
        run[TRUE_VOLTAGE] = cell.open_circuit_voltage_V(state)
        run[VOLTAGE] = run[TRUE_VOLTAGE] * run[POLARITY]

    def remove(self, channel: int) -> NDArray[np.float64]:
        """Take the cell out of a channel and return its state."""
        self.run[channel, INSERTED] = 0.0
        self.run[channel, STATUS] = NEVER
        self.serials[channel] = None
        return np.array(self.state[channel])

    def is_running(self, channel: int) -> bool:
        """Say whether a sequence is under way."""
        return bool(self.run[channel, STATUS] == RUNNING)

    def advance(
        self, seconds: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int16]]:
        """Advance all channels and return what the meters read, one row a second."""
        amps = np.zeros((seconds, CHANNELS), np.float32)
        volts = np.zeros((seconds, CHANNELS), np.float32)
        states = np.zeros((seconds, CHANNELS), np.int16)
        _cellsim.advance(
            self.kernel, seconds, self.cell, self.state, self.meter, self.noise, self.run,
            self.ambient_K, self.steps, self.test_counts, self.tests, amps, volts, states,
        )  # fmt: skip
        # the log holds each second's current; a meter that is asked now reads none at rest
        self.run[self.run[:, STATUS] != RUNNING, CURRENT] = 0.0
        return amps, volts, states

    def temperature_degC(self, channel: int) -> float:
        """Return the true temperature of the cell, or of the empty seat."""
        if self.run[channel, INSERTED] > 0:
            return float(self.state[channel, TEMPERATURE] - ZERO_degC)
        return float(self.ambient_K[channel] - ZERO_degC)
