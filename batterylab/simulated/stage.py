"""The power stage of a simulated supply, and the cell between its terminals.

A supply has one output. Its cell is one row of the same kernel as the cycler's 256 channels; what
the supply's own electronics watch is looked at every second, or at every tick of the world where
that is shorter, whatever the host does.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from batterylab._kernels import _cellsim
from batterylab.simulated import bank as b
from batterylab.simulated.cell import (
    STATE_COLUMNS,
    TEMPERATURE,
    CellTruth,
    SimulatedCell,
    ZERO_degC,
)

if TYPE_CHECKING:
    from batterylab.simulated.world import World

FOREVER_S = 1e12


class PowerStage:
    """One output that charges or discharges a cell, and moves with the world.

    Parameters
    ----------
    world : World
        Whose cells and air there are.

    Attributes
    ----------
    moment_s : float
        Unix time up to which it has moved.
    watchers : list of callable
        Called after every step of time, with its length in s.
    sticks : bool
        A fault: the output relay does not open any more.
    """

    def __init__(self, world: "World") -> None:
        self.world = world
        self.base = SimulatedCell(CellTruth())
        self.cell: Any = self.base.parameters[None, :].copy()
        self.state = np.zeros((1, STATE_COLUMNS))
        self.run = np.zeros((1, b.RUN_COLUMNS))
        self.run[0, b.POLARITY] = 1.0
        self.seeds = np.ones(1, np.uint64)
        self.steps = np.full((1, 1, 4), -1.0)
        self.serial: str | None = None
        self.set_V = self.source_A = self.sink_A = 0.0
        self.sticks = self._is_commanded_on = False
        self.watchers: list[Callable[[float], None]] = []
        self.moment_s = world.now_s
        self._ambient_K = np.zeros(1)
        self._nothing = (
            np.zeros((1, 6)), np.zeros((1, 1), np.int32), np.zeros((1, 1, 1, 5)),
            np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int16),
        )  # fmt: skip
        world.movers.append(self.move)

    # -- hands -----------------------------------------------------------------------------
    def insert(self, serial: str, *, is_reversed: bool = False) -> None:
        """Connect a cell that lies on a shelf.

        Raises
        ------
        ValueError
            If there is a cell already, or that cell sits elsewhere.
        """
        if self.serial is not None or serial in self.world.seat_of:
            raise ValueError(f"{serial} cannot be connected")
        cell = self.world.cells[serial]
        self.cell[0] = cell.parameters
        self.state[0] = self.world.state_of(serial)
        self.world.shelf_state[serial] = self.state[0]
        was_on = self.is_on
        self.run[0] = 0.0
        self.run[0, b.INSERTED] = 1.0
        self.run[0, b.POLARITY] = -1.0 if is_reversed else 1.0
        self.serial = serial
        self.refresh()
        if was_on:
            self.drive(self.set_V, self.source_A, self.sink_A)

    def remove(self) -> None:
        """Disconnect the cell: the leads are open."""
        if self.serial is not None:
            self.world.shelf_state[self.serial] = self.state[0].copy()
            self.serial = None
        self.run[0, b.INSERTED] = 0.0

    def swap_leads(self) -> None:
        """Put the cell back the other way round, whatever flows."""
        self.run[0, b.POLARITY] *= -1.0
        self.refresh()

    # -- output ----------------------------------------------------------------------------
    @property
    def is_on(self) -> bool:
        """Whether the stage is told to drive its terminals; a relay that sticks drives on."""
        return self._is_commanded_on

    @property
    def _drives(self) -> bool:
        return bool(self.run[0, b.STATUS] == b.RUNNING)

    def drive(self, voltage_V: float, source_A: float, sink_A: float) -> None:
        """Hold a voltage, with a limit for each direction; the cell decides which one counts."""
        self._is_commanded_on = True
        self.set_V, self.source_A, self.sink_A = voltage_V, source_A, sink_A
        charges = voltage_V >= self.cell_V
        mode = b.MODE_NUMBERS["CHARGE" if charges else "DISCHARGE"]
        self.steps[0, 0] = (mode, FOREVER_S, source_A if charges else sink_A, voltage_V)
        self.run[0, b.STATUS], self.run[0, b.SLOT], self.run[0, b.STEP] = b.RUNNING, 1.0, 1.0
        self.refresh()

    def release(self) -> None:
        """Open the output, if its relay obeys."""
        self._is_commanded_on = False
        if not self.sticks:
            self.run[0, b.STATUS] = b.NEVER
            self.refresh()

    @property
    def cell_V(self) -> float:
        """The voltage at the leads as last measured; 0 without a cell."""
        return float(self.run[0, b.VOLTAGE]) if self.serial is not None else 0.0

    @property
    def voltage_V(self) -> float:
        """The voltage at the terminals."""
        if self.serial is None:
            return self.set_V if self.is_on else 0.0
        return self.cell_V

    @property
    def current_A(self) -> float:
        """The current, charge positive."""
        return float(self.run[0, b.CURRENT]) if self.serial is not None and self._drives else 0.0

    @property
    def temperature_degC(self) -> float:
        """The temperature of the cell."""
        return float(self.state[0, TEMPERATURE] - ZERO_degC)

    # -- time ------------------------------------------------------------------------------
    def refresh(self) -> None:
        """Let the meters show what a change leads to, without letting time pass."""
        if self.serial is None:
            return
        state, run = self.state.copy(), self.run.copy()
        self._advance()
        after = self.run.copy()
        self.state[:], self.run[:] = state, run
        for column in (b.CURRENT, b.VOLTAGE, b.TRUE_CURRENT, b.TRUE_VOLTAGE):
            self.run[0, column] = after[0, column]

    def _advance(self, step_s: float = 1.0) -> None:
        """Advance cell and meters by a step of time."""
        self._ambient_K[0] = self.world.air.actual_degC + ZERO_degC
        meter, counts, tests, amps, volts, states = self._nothing
        _cellsim.advance(
            self.base.kernel, 1, self.cell, self.state, meter, self.seeds, self.run,
            self._ambient_K, self.steps, counts, tests, amps, volts, states, step_s,
        )  # fmt: skip

    def move(self, seconds: float, now_s: float) -> None:
        """Follow the world by the time that passed, up to a moment: in seconds, then the rest."""
        left_s = seconds
        while left_s > 1e-6:
            step_s = 1.0 if left_s > 1.0 - 1e-6 else round(left_s, 3)
            left_s -= step_s
            self.moment_s = now_s - left_s
            if self.serial is not None:
                self._advance(step_s)
            for watch in self.watchers:
                watch(step_s)


def figure(value: float, digits: int) -> str:
    """Return a figure with fixed decimals and without a negative zero."""
    text = f"{value:.{digits}f}"
    return text if math.isnan(value) or float(text) != 0 else text.lstrip("-")
