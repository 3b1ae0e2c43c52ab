"""A made-up study and its recordings, for the tests of the report."""

import numpy as np

from batterylab.recording import Recording, StepRow

SUPPLIERS = {"A": "Alpha", "B": "Beta"}
STUDY = """\
schema: batterylab.study/1
name: pouch
cell_type:
  name: P5000
  nominal_capacity: 5.0 Ah
  rated_capacity: 4.95 Ah
  voltage: {min: 2.5 V, max: 4.2 V}
  current: {max_charge: 5 A, max_discharge: 10 A}
  temperature: {min: 0 degC, max: 45 degC}
suppliers:
  - {name: Alpha, lots: [A1, A2, A3]}
  - {name: Beta, lots: [B1, B2, B3]}
limits:
  - {feature: capacity_Ah, lower: 4.8 Ah}
"""
PROVENANCE = {
    "source": "bench", "start_utc": "2026-01-05T06:00:00+00:00", "operator": "ann",
    "software": "batterylab 0.1.0", "bench": "bench one", "channel": "1-7", "module": 1, "shelf": 2,
    "instruments": {"cycler": {"model": "keysight_bt2200", "serial": "MY58000516",
                               "calibration_due": "2027-03-01"}},
    "accuracy": {"current_A": {"reading": 2e-4, "offset": 5e-4},
                 "voltage_V": {"reading": 1e-4, "offset": 3e-4}},
    "part": "main", "remarks": [],
}  # fmt: skip


def make_recording(serial="A1-001", protocol="capacity_resistance", rows=3600, **provenance):
    """Return a recording of one charge and one measured discharge."""
    time_s = np.arange(rows, dtype=float) * 6.0
    half = rows // 2
    current_A = np.where(np.arange(rows) < half, 1.65, -1.65)
    return Recording(
        serial=serial,
        supplier=SUPPLIERS[serial[0]],
        lot=serial[:2],
        protocol=protocol,
        columns={
            "test_time_s": time_s,
            "current_A": current_A,
            "voltage_V": 3.6 + 0.5 * np.sin(time_s / 5000.0),
            "temperature_degC": 25.0 + 0.1 * np.cos(time_s / 900.0),
            "step_index": (np.arange(rows) >= half).astype(int),
            "cycle_index": np.ones(rows, int),
            "net_capacity_Ah": np.cumsum(current_A) * 6.0 / 3600.0,
            "net_energy_Wh": np.cumsum(current_A) * 6.0 * 3.6 / 3600.0,
        },
        steps=[
            StepRow(0, 0, half - 1, "charge", "steps[0]", "", "current", 1, 0.0, half * 6.0),
            StepRow(1, half, rows - 1, "discharge", "steps[1]", "capacity", "voltage", 1,
                    half * 6.0, half * 6.0, -1.65, 2.5),
        ],
        provenance={**PROVENANCE, **provenance},
    )  # fmt: skip
