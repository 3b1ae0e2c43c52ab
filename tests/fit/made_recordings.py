"""Recordings made from the simulated cell, so that tests know the truth behind each number."""

from dataclasses import dataclass, field

import numpy as np

from batterylab.recording import Recording, StepRow
from batterylab.simulated.cell import CellTruth, SimulatedCell

ACCURACY = {
    "current_A": {"reading": 2e-4, "offset": 5e-4},
    "voltage_V": {"reading": 1e-4, "offset": 3e-4},
    "temperature_degC": {"reading": 0.0, "offset": 0.5},
}
CELL_TYPE = {
    "name": "P5000",
    "nominal_capacity_Ah": 5.0,
    "rated_capacity_Ah": 4.95,
    "voltage_min_V": 2.5,
    "voltage_max_V": 4.2,
    "max_charge_A": 5.0,
    "max_discharge_A": 10.0,
    "temperature_min_degC": 0.0,
    "temperature_max_degC": 45.0,
    "chemistry": "NMC",
}


@dataclass
class Meters:
    """How the channel errs."""

    current_gain: float = 0.0
    current_offset_A: float = 0.0
    voltage_gain: float = 0.0
    voltage_offset_V: float = 0.0
    voltage_noise_V: float = 0.0
    seed: int = 1


@dataclass
class Bench:
    """One channel: drives a simulated cell second by second and keeps what a bench keeps.

    The cell is controlled by what the meters read, as on a real channel.
    """

    cell: SimulatedCell
    soc: float = 0.3
    meters: Meters = field(default_factory=Meters)
    every_s: float = 60.0
    moves_V: float = 0.005
    nominal_Ah: float = 5.0

    def __post_init__(self) -> None:
        self.state = self.cell.rest_state(self.soc)
        self.rows: list[np.ndarray] = []
        self.steps: list[StepRow] = []
        self.time_s = 0
        self.net_Ah = self.net_Wh = 0.0
        self.kept = 0
        self.random = np.random.default_rng(self.meters.seed)

    def _drive(self, current_A, state):
        """Return what flows, what the voltmeter reads, and temperatures."""
        m = self.meters
        true_A = (np.asarray(current_A, float) - m.current_offset_A) / (1 + m.current_gain)
        true_A = np.where(np.asarray(current_A) == 0.0, 0.0, true_A)
        volts, degrees = self.cell.follow(state, true_A)
        read_V = volts * (1 + m.voltage_gain) + m.voltage_offset_V
        return read_V + m.voltage_noise_V * self.random.standard_normal(len(read_V)), degrees

    def rest(self, seconds, **more):
        self._keep("rest", np.zeros(seconds), *self._drive(np.zeros(seconds), self.state), **more)

    def constant(self, current_A, seconds, **more):
        amps = np.full(seconds, float(current_A))
        kind = more.pop("kind", "pulse")
        self._keep(kind, amps, *self._drive(amps, self.state), **more)

    def to_voltage(self, current_A, limit_V, hold_until_A=None, **more):
        """Run at constant current to a limit, and hold it if asked."""
        parts, sign = [], np.sign(current_A)
        while True:
            trial = self.state.copy()
            amps = np.full(600, float(current_A))
            volts, degrees = self._drive(amps, trial)
            beyond = np.flatnonzero(sign * (volts - limit_V) >= 0)
            count = beyond[0] + 1 if len(beyond) else 600
            if count < 600:
                self._drive(amps[:count], self.state)
            else:
                self.state[:] = trial
            parts.append((amps[:count], volts[:count], degrees[:count]))
            if len(beyond):
                break
        if hold_until_A is not None:
            parts.append(self._hold(abs(current_A), limit_V, hold_until_A, sign))
        joined = [np.concatenate(part) for part in zip(*parts, strict=True)]
        kind = "charge" if sign > 0 else "discharge"
        self._keep(kind, *joined, ended_by="current" if hold_until_A else "voltage", **more)

    def _hold(self, amps, limit_V, until_A, sign):
        rows, ohm = [], 0.05
        while amps > until_A:
            volts, degrees = self._drive([sign * amps], self.state)
            rows.append((sign * amps, volts[0], degrees[0]))
            amps -= min(max(sign * (volts[0] - limit_V) / ohm, -0.5 * amps), 0.5 * amps)
            amps *= 0.9999
        return [np.array(part) for part in zip(*rows, strict=True)]

    def _keep(self, kind, amps, volts, degrees, *, measure="", ended_by="duration", every_s=None):
        count = len(amps)
        charge = self.net_Ah + np.cumsum(amps) / 3600.0
        energy = self.net_Wh + np.cumsum(amps * volts) / 3600.0
        time_s = self.time_s + 1.0 + np.arange(count)
        index = len(self.steps)
        every_s = every_s or self.every_s
        keep = [0]
        for i in range(1, count):
            last = keep[-1]
            if time_s[i] - time_s[last] >= every_s or abs(volts[i] - volts[last]) >= self.moves_V:
                keep.append(i)
        if keep[-1] != count - 1:
            keep.append(count - 1)
        columns = (time_s, amps, volts, degrees, np.full(count, index), charge, energy)
        self.rows.append(np.column_stack([column[keep] for column in columns]))
        self.steps.append(
            StepRow(
                index, self.kept, self.kept + len(keep) - 1, kind, f"steps[{index}]", measure,
                ended_by, 0, float(self.time_s), float(count), float(amps[0]), float("nan"),
            )
        )  # fmt: skip
        self.kept += len(keep)
        self.time_s += count
        self.net_Ah, self.net_Wh = float(charge[-1]), float(energy[-1])

    def charge(self, rate=1 / 3, **more):
        self.to_voltage(rate * self.nominal_Ah, 4.2, 0.05 * self.nominal_Ah, **more)

    def discharge(self, rate=1 / 3, **more):
        self.to_voltage(-rate * self.nominal_Ah, 2.5, **more)

    def recording(self, serial="A1-001", **more):
        rows = np.concatenate(self.rows)
        names = ("test_time_s", "current_A", "voltage_V", "temperature_degC", "step_index",
                 "net_capacity_Ah", "net_energy_Wh")  # fmt: skip
        columns = dict(zip(names, rows.T.copy(), strict=True))
        columns["step_index"] = columns["step_index"].astype("<i4")
        columns["cycle_index"] = np.zeros(len(rows), "<i4")
        start = {"start_utc": "2026-01-05T06:00:00+00:00"}
        provenance = {"source": "bench", **start, "accuracy": ACCURACY, "part": "main"}
        provenance |= more.pop("provenance", {})
        values = {
            "supplier": "Alpha", "lot": "A1", "protocol": "capacity_resistance",
            "cell_type": dict(CELL_TYPE), **more,
        }  # fmt: skip
        return Recording(serial, columns=columns, steps=self.steps, provenance=provenance,
                         **values).checked()  # fmt: skip


def capacity_resistance(truth=None, meters=None, cycles=3, **more):
    """Carry out the shipped protocol of that name on a simulated cell."""
    bench = Bench(SimulatedCell(truth or CellTruth()), meters=meters or Meters())
    for _ in range(cycles):
        bench.charge()
        bench.rest(1800)
        bench.discharge(measure="capacity")
        bench.rest(1800)
    bench.charge()
    bench.rest(1800)
    bench.discharge(rate=0.1, measure="ocv")
    bench.rest(1800)
    bench.charge()
    for seconds in (int(0.2 * 3 * 3600), int(0.3 * 3 * 3600), int(0.3 * 3 * 3600)):
        bench.constant(-5 / 3, seconds, kind="discharge")
        bench.rest(3600)
        bench.constant(-5.0, 10, measure="dcir", every_s=1.0)
        bench.rest(600)
    return bench.recording(**more)


def slow_discharge(truth=None, meters=None, rate=0.1, **more):
    """A full cell discharged slowly: what the `ocv` model is fitted to."""
    bench = Bench(SimulatedCell(truth or CellTruth()), soc=1.0, meters=meters or Meters())
    bench.rest(600)
    bench.discharge(rate=rate, measure="ocv")
    return bench.recording(**more)
