"""What an ideal bench would measure on the simulated cells: the yardstick of `demo --check`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batterylab.simulated import bank as b
from batterylab.simulated.bank import Bank
from batterylab.simulated.cell import CellTruth, SimulatedCell
from batterylab.simulated.world import IDEAL, SHIPPED_SOC

CURRENT_A, PULSE_A, END_A = 5.0 / 3.0, 5.0, 0.25
HIGH_V, LOW_V, BEYOND_V = 4.2, 2.5, 0.01
KINDS = {name: b.TEST_KINDS.index(name) for name in ("VOLT_LE", "CURR_LE")}
BLOCK_s = 600
CHARGE = (2, 18000, CURRENT_A, HIGH_V)
DISCHARGE = (3, 14400, CURRENT_A, LOW_V - BEYOND_V)
REST = (0, 1800, 0.0, 0.0)


@dataclass(frozen=True)
class Ideal:
    """What an ideal bench measures on one cell at 25 °C."""

    capacity_Ah: float
    dcir_10s_mOhm: float


def ideal_results(truths: dict[str, CellTruth]) -> dict[str, Ideal]:
    """Return capacity at C/3 and 10 s resistance at 50 % SOC of up to 256 cells.

    The steps are those of the protocol ``capacity_resistance``, in a cycler without errors and
    air of exactly 25 °C.
    """
    bank = Bank(0, IDEAL)
    cells = {serial: SimulatedCell(truth) for serial, truth in truths.items()}
    for index, (serial, cell) in enumerate(cells.items()):
        bank.insert(index, serial, cell, cell.rest_state(SHIPPED_SOC))
    _sequence(bank, 0, [CHARGE, REST, DISCHARGE, REST, CHARGE, REST, DISCHARGE, REST])
    moved_Ah = _run(bank, 0, len(cells))
    _sequence(bank, 1, [CHARGE])
    _run(bank, 1, len(cells))
    results = {}
    for index, (serial, cell) in enumerate(cells.items()):
        capacity_Ah = float(moved_Ah[index])
        state = np.array(bank.state[index])
        results[serial] = Ideal(capacity_Ah, _resistance_mOhm(cell, state, capacity_Ah))
    return results


def _sequence(bank: Bank, slot: int, steps: list[tuple[int, int, float, float]]) -> None:
    for at, step in enumerate(steps):
        bank.steps[slot, at] = step
        if step[0] == CHARGE[0]:
            bank.tests[slot, at, 0] = (KINDS["CURR_LE"], END_A, 1, 5, 1)
        elif step[0] == DISCHARGE[0]:
            bank.tests[slot, at, 0] = (KINDS["VOLT_LE"], LOW_V, 1, 0, 1)
        bank.test_counts[slot, at] = 0 if step[0] == REST[0] else 1


def _run(bank: Bank, slot: int, cells: int) -> NDArray[np.float64]:
    """Run a sequence to its end; return the charge of each cell's last discharge in Ah."""
    run = bank.run[:cells]
    run[:, b.STATUS], run[:, b.SLOT], run[:, b.STEP], run[:, b.ELAPSED] = b.RUNNING, slot + 1, 1, 0
    last = np.zeros(cells)
    before = np.zeros(cells)
    while (run[:, b.STATUS] == b.RUNNING).any():
        amps, _, _ = bank.advance(BLOCK_s)
        for row in amps[:, :cells]:
            out = row < -END_A
            last = np.where(out & ~(before < -END_A), 0.0, last)
            last -= np.where(out, row, 0.0) / 3600.0
            before = row
    return last


def _resistance_mOhm(
    cell: SimulatedCell, state: NDArray[np.float64], capacity_Ah: float
) -> float:
    """Take a full cell to 80 %, then to 50 % SOC as the protocol does, and pulse it there."""
    first = round(0.2 * capacity_Ah * 3600.0 / CURRENT_A)
    second = round((0.3 * capacity_Ah * 3600.0 - PULSE_A * 10) / CURRENT_A)
    for current_A, seconds in (
        (-CURRENT_A, first), (0.0, 3600), (-PULSE_A, 10), (0.0, 600), (-CURRENT_A, second),
    ):  # fmt: skip
        cell.follow(state, np.full(seconds, current_A))
    rest, _ = cell.follow(state, np.zeros(3600))
    pulse, _ = cell.follow(state, np.full(10, -PULSE_A))
    return float(1e3 * (rest[-1] - pulse[-1]) / PULSE_A)
