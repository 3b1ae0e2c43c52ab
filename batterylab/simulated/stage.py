"""The power stage of a simulated supply, and the cell between its terminals.

A supply has one output. Its cell is one row of the same kernel as the cycler's 256 channels; what
the supply's own electronics watch is looked at every second, whatever the host does.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from batterylab._kernels import _cellsim
from batterylab.simulated import bank as b
from batterylab.simulated.cell import MODES, STATE_COLUMNS, CellTruth, SimulatedCell, ZERO_degC

if TYPE_CHECKING:
    from batterylab.simulated.world import World

FOREVER_S = 1e12


class PowerStage:
    """One output that charges or discharges a cell; append `keep` to the world's listeners.

    Parameters
    ----------
    world : World
        Whose cells and air there are.

    Attributes
    ----------
    watchers : list of callable
        Called after every second of bench time.
    """

    def __init__(self, world: "World") -> None:
        self.world = world
        self.base = SimulatedCell(CellTruth())
        self.cell: Any = self.base.parameters[None, :].copy()
        self.state = np.zeros((1, STATE_COLUMNS))
        self.fade = (np.zeros((1, MODES)), np.zeros((1, MODES)))
        self.run = np.zeros((1, b.RUN_COLUMNS))
        self.run[0, b.POLARITY] = 1.0
        self.seeds = np.ones(1, np.uint64)
        self.steps = np.full((1, 1, 4), -1.0)
        self.serial: str | None = None
        self.set_V = self.source_A = self.sink_A = 0.0
        self.watchers: list[Callable[[], None]] = []

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
        self.fade[0][0], self.fade[1][0] = cell.fades(1.0)
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

    # -- output ----------------------------------------------------------------------------
    @property
    def is_on(self) -> bool:
        """Whether the stage drives its terminals."""
        return bool(self.run[0, b.STATUS] == b.RUNNING)

    def drive(self, voltage_V: float, source_A: float, sink_A: float) -> None:
        """Hold a voltage, with a limit for each direction; the cell decides which one counts."""
        self.set_V, self.source_A, self.sink_A = voltage_V, source_A, sink_A
        charges = voltage_V >= self.cell_V
        mode = b.MODE_NUMBERS["CHARGE" if charges else "DISCHARGE"]
        self.steps[0, 0] = (mode, FOREVER_S, source_A if charges else sink_A, voltage_V)
        self.run[0, b.STATUS], self.run[0, b.SLOT], self.run[0, b.STEP] = b.RUNNING, 1.0, 1.0
        self.refresh()

    def release(self) -> None:
        """Open the output."""
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
        return float(self.run[0, b.CURRENT]) if self.serial is not None and self.is_on else 0.0

    @property
    def temperature_degC(self) -> float:
        """The temperature of the cell."""
        return float(self.state[0, 2] - ZERO_degC)

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

    def _advance(self) -> None:
        """Advance cell and meters by one second."""
        ambient_K = np.array([self.world.air.actual_degC + ZERO_degC])
        base = self.base
        _cellsim.advance(
            1, self.cell, self.state, *self.fade, base.weights, base.weights, base.curves,
            base.tables.stoichiometry_step, base.electrolyte_curves,
            base.tables.concentration_step, np.zeros((1, 6)), self.seeds, self.run, ambient_K,
            self.steps, np.zeros((1, 1), np.int32), np.zeros((1, 1, 1, 5)), np.zeros((1, 1)),
            np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int16),
        )  # fmt: skip

    def keep(
        self, first_ms: int, amps: NDArray[np.float32], volts: NDArray[np.float32],
        states: NDArray[np.int16],
    ) -> None:  # fmt: skip
        """Follow the world by the seconds that passed."""
        for _ in range(len(amps)):
            self._advance()
            for watch in self.watchers:
                watch()


def figure(value: float, digits: int) -> str:
    """Return a figure with fixed decimals and without a negative zero."""
    text = f"{value:.{digits}f}"
    return text if math.isnan(value) or float(text) != 0 else text.lstrip("-")
