"""Draw simulated cells: suppliers, lots and cells, each with its own truth.

``simulation.yaml`` says how suppliers differ; everything else follows from the seed and the
names of supplier, lot and serial, so that adding a cell changes no other.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from batterylab.cells import Cell
from batterylab.errors import BatterylabError
from batterylab.simulated.bank import ChannelErrors, stream
from batterylab.simulated.cell import CellTruth, SimulatedCell
from batterylab.yamlfile import load_yaml, validate

SCHEMA = "batterylab.simulation/1"
#: scatter of what does not follow from the capacity, in percent: one standard deviation
SCATTER_PERCENT = {
    "negative_loading": 0.2,
    "positive_loading": 0.2,
    "lithium_inventory": 0.1,
    "negative_diffusivity": 2.0,
    "positive_diffusivity": 2.0,
    "contact_ohm": 2.0,
}
CURRENT_A = 5.0 / 3.0
STEP_s = 5.0


class SupplierTruth(BaseModel):
    """How one supplier's cells are distributed, relative to the base cell."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    capacity_offset_percent: float = Field(0.0, ge=-20, le=20)
    sigma_lot_percent: float = Field(0.2, ge=0, le=5)
    sigma_cell_percent: float = Field(0.25, ge=0, le=5)


class Channels(BaseModel):
    """Errors of the simulated cycler's channels; see `ChannelErrors`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    current_gain_ppm: float = Field(150.0, ge=0, le=1e5)
    current_offset_mA: float = Field(0.3, ge=0, le=100)
    current_noise_mA: float = Field(0.1, ge=0, le=100)
    voltage_gain_ppm: float = Field(30.0, ge=0, le=1e5)
    voltage_offset_mV: float = Field(0.15, ge=0, le=100)
    voltage_noise_mV: float = Field(0.05, ge=0, le=100)
    seat_mOhm: float = Field(0.02, ge=0, le=10)
    current_scale_error_percent: float = Field(0.0, ge=-10, le=10)


class Simulation(BaseModel):
    """What ``simulation.yaml`` says."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: str = Field(SCHEMA, alias="schema")
    seed: int = Field(ge=0, le=2**31)
    start: str = "2026-01-05T06:00:00+00:00"
    suppliers: dict[str, SupplierTruth]
    channels: Channels = Field(default_factory=Channels)
    #: how much better the fixtures take the cells' heat than still air
    cooling: float = Field(1.0, gt=0, le=100)

    @field_validator("start")
    @classmethod
    def _is_a_time(cls, text: str) -> str:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError(f"{text!r} has no time zone\n  hint: 2026-01-05T06:00:00+00:00")
        return text

    @property
    def start_s(self) -> float:
        """Unix time at which the bench starts, in s."""
        return datetime.fromisoformat(self.start).timestamp()

    def errors(self) -> ChannelErrors:
        """Return the channels' errors as the bank wants them."""
        return ChannelErrors(**self.channels.model_dump())


def read_simulation(path: Path) -> Simulation:
    """Read ``simulation.yaml``.

    Raises
    ------
    ProblemsError
        With every mistake in the file.
    """
    return validate(load_yaml(path), Simulation)


@dataclass(frozen=True)
class Incoming:
    """What the supplier's delivery note says of a cell."""

    ocv_V: float
    ac_resistance_mOhm: float


def discharge_capacity_Ah(cell: SimulatedCell, low_V: float = 2.5) -> float:
    """Return what a cell gives from rest at full charge to `low_V` at C/3 and 25 °C, in Ah."""
    state = cell.rest_state(1.0)
    steps = int(1.4 * 3600 * 5.0 / CURRENT_A / STEP_s)
    volts, _ = cell.follow(state, np.full(steps, -CURRENT_A), STEP_s)
    below = np.flatnonzero(volts < low_V)
    if not len(below):
        raise BatterylabError("the simulated cell never reaches its lower voltage")
    k = int(below[0])
    before = volts[k - 1] if k else volts[k]
    share = (before - low_V) / (before - volts[k]) if k else 1.0
    return float((k + share) * STEP_s * CURRENT_A / 3600.0)


def draw_truths(simulation: Simulation, cells: Iterable[Cell]) -> dict[str, CellTruth]:
    """Return each cell's truth.

    Parameters
    ----------
    simulation : Simulation
        How suppliers are distributed; a supplier that it does not name is like the base cell.
    cells : iterable of Cell
        Serial, supplier and lot.

    Returns
    -------
    dict of str to CellTruth
        By serial. The C/3 discharge capacity of a truth is the base cell's, times one plus the
        supplier's offset, the lot's and the cell's own deviation.
    """
    base_Ah = discharge_capacity_Ah(SimulatedCell(CellTruth()))
    truths = {}
    for cell in cells:
        supplier = simulation.suppliers.get(cell.supplier, SupplierTruth())
        lot = stream(simulation.seed, "lot", cell.supplier, cell.lot).standard_normal()
        draw = stream(simulation.seed, "cell", cell.serial)
        own = draw.standard_normal()
        deviation = (
            supplier.capacity_offset_percent
            + supplier.sigma_lot_percent * lot
            + supplier.sigma_cell_percent * own
        ) / 100.0
        scattered = replace(_scattered(draw), cooling=simulation.cooling)
        truths[cell.serial] = _with_capacity(scattered, base_Ah * (1.0 + deviation))
    return truths


def _scattered(draw: np.random.Generator) -> CellTruth:
    base = CellTruth()
    factors = {
        name: getattr(base, name) * (1.0 + percent / 100.0 * float(draw.standard_normal()))
        for name, percent in SCATTER_PERCENT.items()
    }
    return replace(base, **factors)


def _with_capacity(truth: CellTruth, wanted_Ah: float) -> CellTruth:
    """Scale loadings and lithium together until the cell gives the wanted capacity."""
    for _ in range(2):
        scale = wanted_Ah / discharge_capacity_Ah(SimulatedCell(truth))
        truth = replace(
            truth,
            negative_loading=truth.negative_loading * scale,
            positive_loading=truth.positive_loading * scale,
            lithium_inventory=truth.lithium_inventory * scale,
        )
    return truth


def incoming_record(
    simulation: Simulation, truths: dict[str, CellTruth], soc: float
) -> dict[str, Incoming]:
    """Return what each supplier's own meter read before shipping."""
    record = {}
    for serial, truth in truths.items():
        cell = SimulatedCell(truth)
        noise: NDArray[np.float64] = stream(simulation.seed, "incoming", serial).standard_normal(2)
        record[serial] = Incoming(
            round(cell.open_circuit_voltage_V(cell.rest_state(soc)) + 5e-4 * float(noise[0]), 4),
            round(1e3 * cell.ac_resistance_ohm() * (1 + 0.005 * float(noise[1])), 3),
        )
    return record
