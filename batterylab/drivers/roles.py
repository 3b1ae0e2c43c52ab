"""What the bench asks of an instrument, by role. A driver fills one role; the runner knows no more.

Currents are positive on charge. Channels carry the cycler's own numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Identity:
    """What an instrument says it is."""

    maker: str
    model: str
    serial: str
    firmware: str


@dataclass(frozen=True)
class OnboardTest:
    """A condition that the cycler watches by itself during a step.

    Attributes
    ----------
    kind : str
        ``VOLT_GE VOLT_LE CURR_GE CURR_LE AMPH_GE`` and the like; magnitudes for current.
    value : float
        In V, A or Ah.
    when : str
        ``AT``, ``AFTER`` or ``BEFORE`` `time_s` of the step.
    action : str
        ``NEXT`` ends the step, ``FAIL`` stops the channel.
    """

    kind: str
    value: float
    when: str
    time_s: int
    action: str


@dataclass(frozen=True)
class OnboardStep:
    """A step that the cycler carries out by itself.

    Attributes
    ----------
    mode : str
        ``CHARGE``, ``DISCHARGE`` or ``REST``.
    duration_s : int
        It ends then at the latest.
    current_A, voltage_V : float
        Magnitude of the current, and the voltage that is not passed.
    control : str
        ``current``; or ``power`` or ``resistance``, which a supply holds that the host steps: at
        each sample the current is set anew, up to `current_A`.
    level : float
        In W or ohm.
    """

    mode: str
    duration_s: float
    current_A: float
    voltage_V: float
    tests: tuple[OnboardTest, ...] = ()
    control: str = "current"
    level: float = 0.0


class CellState(IntEnum):
    """What a cycler's channel is doing."""

    NONE = 0
    RUNNING = 1
    FAIL = 2
    ABORTED = 3
    OK = 4


@dataclass(frozen=True)
class CellReport:
    """All that a cycler says of one channel.

    Attributes
    ----------
    is_running : bool
        Whether a sequence is under way.
    slot, step : int
        Sequence, and step from 1.
    voltage_V, current_A : float
        Charge current positive.
    outcome : str
        ``NONE OK FAIL ABORTED NEXT``.
    test : int
        The test that fired, from 1; 0 if none.
    test_kind : str
        Its kind.
    expected, measured : float
        Its limit, and what was measured.
    """

    is_running: bool
    slot: int
    step: int
    voltage_V: float
    current_A: float
    outcome: str
    test: int
    test_kind: str
    expected: float
    measured: float


@dataclass(frozen=True)
class LogBlock:
    """Samples that the cycler took every second since the last time.

    Attributes
    ----------
    time_ms : ndarray, shape (n,)
        Of the cycler's own clock, from its boot.
    current_A, voltage_V : ndarray, shape (n, c)
        In the order of the channels asked for.
    state : ndarray, shape (n, c)
        `CellState` numbers.
    """

    time_ms: NDArray[np.int64]
    current_A: NDArray[np.float64]
    voltage_V: NDArray[np.float64]
    state: NDArray[np.int16]


@dataclass(frozen=True)
class MeterReading:
    """AC resistance and open-circuit voltage; `is_valid` is False for an over-range or fault."""

    resistance_ohm: float
    voltage_V: float
    is_valid: bool


@dataclass(frozen=True)
class ImpedanceReading:
    """Impedance at one frequency, and open-circuit voltage.

    `impedance_ohm` has no imaginary part (NaN) where the meter tells the resistance only;
    `is_valid` is False for an over-range or fault.
    """

    impedance_ohm: complex
    voltage_V: float
    is_valid: bool


@dataclass(frozen=True)
class ChamberReading:
    """Set point and actual temperature of a chamber's air, in °C."""

    set_degC: float
    actual_degC: float
    is_running: bool
    has_alarm: bool


class Instrument(Protocol):
    """What all drivers share."""

    def identity(self) -> Identity:
        """Ask who it is."""

    def close(self) -> None:
        """Close the link."""


class CyclerFrame(Instrument, Protocol):
    """A cycler with channels that carry out sequences by themselves."""

    def prepare(
        self, channels: Sequence[int], probe_limit_ohm: float = ..., *, reset: bool = ...
    ) -> None:
        """Define the channels' cells and clear sequences and log."""

    def load_sequence(self, slot: int, steps: Sequence[OnboardStep]) -> None:
        """Write a sequence and read it back."""

    def assign(self, channels: Sequence[int], slot: int) -> None:
        """Assign a sequence to channels; 0 takes it away."""

    def start(self, channels: Sequence[int], slot: int | None = ...) -> None:
        """Start the sequences of channels; with a slot, assign that sequence first."""

    def states(self, channels: Sequence[int]) -> dict[int, CellState]:
        """Return what each channel is doing."""

    def step_times(self, channels: Sequence[int]) -> dict[int, tuple[int, float]]:
        """Return step number, from 1, and seconds elapsed in it."""

    def clear_log(self) -> None:
        """Forget the samples that wait."""

    def drain_log(self, channels: Sequence[int]) -> LogBlock:
        """Return all samples since the last time."""

    def measure(self, channels: Sequence[int]) -> dict[int, tuple[float, float]]:
        """Return voltage in V and current in A now."""

    def verbose(self, channel: int) -> CellReport:
        """Return all that the cycler says of one channel."""

    def failure(self, channel: int) -> str:
        """Say which test stopped a channel."""

    def errors(self) -> list[str]:
        """Read and clear the error queue."""

    def probe_failed(self, channels: Sequence[int]) -> set[int]:
        """Return channels whose contacts are bad, whose cell is reversed or missing."""

    def abort(self, channels: Sequence[int]) -> None:
        """End the sequences of channels: high impedance."""

    def make_safe(self, channels: Sequence[int]) -> None:
        """Abort, and confirm it by reading back."""


@dataclass(frozen=True)
class Protections:
    """What an instrument watches by itself, without a host; None is what it does not watch.

    Attributes
    ----------
    voltage_min_V, voltage_max_V : float or None
        It switches off outside of these.
    charge_A, discharge_A : float or None
        Magnitudes; it switches off above.
    watchdog_s : float or None
        It switches off when the host has been silent for so long.
    """

    voltage_min_V: float | None = None
    voltage_max_V: float | None = None
    charge_A: float | None = None
    discharge_A: float | None = None
    watchdog_s: float | None = None


class HostStepped(Instrument, Protocol):
    """One output without a program of its own: the host changes its settings step by step.

    The order is `prepare`, then `set` and `output` as often as needed, `measure` at each sample,
    `make_safe` at the end. A charge or discharge is at constant current up to its voltage, and
    holds that voltage then, or ends there where the model can only end.
    """

    def prepare(self, wanted: Protections) -> Protections:
        """Take control with the output off, set protections and watchdog; return those read back.

        What the model does not watch comes back as None: then the host must.
        """

    #: whether the output has been switched on and not off again
    wants_on: bool
    #: whether the model ends a step by conditions of its own
    ends_by_itself: bool

    def set(self, mode: str, current_A: float, voltage_V: float, at_most_s: float) -> bool:
        """Set ``CHARGE``, ``DISCHARGE`` or ``REST``: magnitude of current, voltage not passed.

        A model with a timer of its own ends after `at_most_s`, whatever becomes of the host.
        Returns whether current went on flowing all the while.
        """

    def output(self, on: bool) -> None:
        """Switch the output and confirm it; protections are read back before it is on."""

    def is_on(self) -> bool:
        """Say whether the output is on; a step that ended by itself is off."""

    def measure(self) -> tuple[float, float]:
        """Return voltage in V and current in A, charge positive."""

    def alarms(self) -> list[str]:
        """Return alarms of the device, then the entries of its error queue, and clear both."""

    def make_safe(self) -> None:
        """Switch off, and confirm it by reading back."""


class Meter(Instrument, Protocol):
    """Reads AC resistance and voltage of the cell at its pins."""

    def prepare(self) -> None:
        """Set function and ranges."""

    def read(self) -> MeterReading:
        """Measure once."""

    def read_at(self, frequency_Hz: float) -> ImpedanceReading:
        """Measure once at a frequency."""

    @staticmethod
    def reading_s(frequency_Hz: float) -> float:
        """Return about how long a reading at a frequency takes, in s."""


class Scanner(Instrument, Protocol):
    """Reads thermocouples, and voltages that tell whether all is well.

    Attributes
    ----------
    input_V : dict of int to float or None
        The inputs' voltages as read last; None where one is over range.
    """

    input_V: dict[int, float | None]

    def prepare(self, channels: Sequence[int], inputs: Sequence[int] = ()) -> None:
        """Set up the thermocouples' channels and the inputs to scan."""

    def read(self) -> dict[int, float | None]:
        """Scan all; return the temperature in °C of each channel, None if it is open."""


class Relays(Instrument, Protocol):
    """Opens and closes relays, such as those between cells and a meter."""

    def prepare_relays(self, places: Sequence[int]) -> None:
        """Open relays, whatever was closed."""

    def relays(self, places: Sequence[int]) -> dict[int, bool]:
        """Return which relays are closed."""

    def close_relays(self, places: Sequence[int]) -> None:
        """Close relays, and confirm it by reading back."""

    def open_relays(self, places: Sequence[int]) -> None:
        """Open relays, and confirm it by reading back."""


class Chamber(Instrument, Protocol):
    """Holds a temperature."""

    def set_temperature(self, degC: float) -> None:
        """Set the temperature and confirm it."""

    def start(self) -> None:
        """Start, and confirm it."""

    def stop(self) -> None:
        """Stop, and confirm it."""

    def read(self) -> ChamberReading:
        """Return set point, actual value and state."""

    def alarms(self) -> list[str]:
        """Return the texts of active warnings and alarms."""
