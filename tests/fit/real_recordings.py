"""Recordings and half-cell curves made from published files; nothing of them is kept here."""

import csv
from dataclasses import replace
from datetime import datetime

import numpy as np

from batterylab.recording import Recording, StepRow


def _columns(path, *names):
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [[row[name] for row in rows] for name in names]


def recording_of(serial, time_s, current_A, voltage_V, steps, nominal_Ah, window_V, **columns):
    """Build an import: no measures, no accuracy."""
    time_s, index = np.asarray(time_s, float), np.zeros(len(time_s), "<i4")
    for step in steps:
        index[step.rows] = step.step_index
    base = {
        "test_time_s": time_s, "current_A": np.asarray(current_A, float),
        "voltage_V": np.asarray(voltage_V, float), "step_index": index,
        "cycle_index": np.zeros(len(time_s), "<i4"),
    }  # fmt: skip
    cell_type = {"nominal_capacity_Ah": nominal_Ah, "rated_capacity_Ah": nominal_Ah,
                 "voltage_min_V": window_V[0], "voltage_max_V": window_V[1]}  # fmt: skip
    return Recording(serial, "", "", "imported", {**base, **columns}, steps, cell_type,
                     provenance={"source": "import"}).checked()  # fmt: skip


def steps_by_current(time_s, current_A, still_A):
    """Cut a file into rests, charges and discharges by the sign of its current."""
    sign = np.where(np.abs(current_A) <= still_A, 0, np.sign(current_A)).astype(int)
    firsts = np.flatnonzero(np.diff(sign, prepend=sign[0] - 2))
    lasts = [*(firsts[1:] - 1), len(sign) - 1]
    kinds = {0: "rest", 1: "charge", -1: "discharge"}
    return [
        StepRow(number, int(a), int(b), kinds[int(sign[a])], start_s=float(time_s[a]),
                duration_s=float(time_s[b] - time_s[a]))
        for number, (a, b) in enumerate(zip(firsts, lasts, strict=True))
    ]  # fmt: skip


def p45b_slow_charge(shared, entry):
    """Molicel P45B, C/30 charge."""
    path = shared / "data" / "ocv_rpt" / f"P45B_serial23_pOCV_CH_entry{entry:02d}.csv"
    stamps, volts, amps, counted = _columns(path, "Time_1", "U", "I", "Ah_Step")
    moments = [datetime.fromisoformat(stamp) for stamp in stamps]
    time_s = np.array([(moment - moments[0]).total_seconds() for moment in moments])
    step = StepRow(0, 0, len(time_s) - 1, "charge", duration_s=float(time_s[-1]))
    net = {"net_capacity_Ah": np.array(counted, float)}
    return recording_of("23", time_s, np.array(amps, float), np.array(volts, float), [step],
                        4.5, (2.5, 4.2), **net)  # fmt: skip


def p45b_half_cells(shared, folder):
    """Write the cell's two half-cell curves as `batterylab fit --half-cells` reads them."""
    data = shared / "data" / "half_cell_ocp"
    anode = _columns(data / "pydma_SiC_blend_anode_P45B_Anode_Lithiation_0C03.csv",
                     "normalizedCapacity", "voltage")  # fmt: skip
    cathode = _columns(data / "pydma_NCA_P45B_Cathode_Delithiation_0C03.csv",
                       "normalizedCapacity", "voltage")  # fmt: skip
    path = folder / "half_cells.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["electrode", "stoichiometry", "potential_V"])
        for share, volts in zip(*anode, strict=True):
            writer.writerow(["negative", min(max(float(share), 0.0), 1.0), volts])
        for share, volts in zip(*cathode, strict=True):
            writer.writerow(["positive", min(max(1.0 - float(share), 0.0), 1.0), volts])
    return path


def nrel_pulses(shared):
    """NREL coin cell, HPPC discharge pulses."""
    path = shared / "data" / "hppc" / "ampworks_hppc_discharge.csv"
    seconds, amps, volts = (np.array(c, float) for c in _columns(path, "Seconds", "Amps", "Volts"))
    return recording_of("nrel", seconds, amps, volts, steps_by_current(seconds, amps, 1e-6),
                        0.0033, (3.0, 4.2))  # fmt: skip


def rate_discharge(shared, name, nominal_Ah=12.5):
    """About:Energy NMC cell, one discharge from full."""
    path = shared / "data" / "rate" / f"aboutenergy_NMC_25degC_{name}.csv"
    columns = _columns(path, "Time [s]", "I[A]", "U[V]")
    seconds, amps, volts = (np.array(column, float) for column in columns)
    return recording_of(name, seconds, amps, volts, steps_by_current(seconds, amps, 0.02),
                        nominal_Ah, (2.7, 4.2))  # fmt: skip


def lg_m50_test(shared):
    """LG M50, reference performance test, with the steps of the file."""
    import polars

    frame = polars.read_parquet(shared / "data" / "ocv_rpt" / "LGM50_RPT0_pyprobe.parquet")
    time_s, amps = frame["Time [s]"].to_numpy(), frame["Current [A]"].to_numpy()
    steps = steps_by_current(time_s, amps, 1e-3)
    volts, degrees = (frame[name].to_numpy() for name in ("Voltage [V]", "Temperature [C]"))
    return recording_of("LGM50-C", time_s, amps, volts, steps, 5.0, (2.5, 4.2),
                        temperature_degC=degrees)  # fmt: skip


def leaf_pulses(shared):
    """Nissan Leaf cell, HPPC at 25 degC, as the importer reads the Bitrode file."""
    from batterylab.importers.build import Stated, recording_of

    path = shared / "data" / "hppc" / "leaf_cell-low-current-hppc-25c-2.csv"
    return recording_of(path, Stated("leaf"))


def lg_m50_pulse(shared, soc="SoC5", temperature="T25"):
    """LG M50, one 10 s discharge pulse and 10 s of rest, of PyBOP's MATLAB file, first cell."""
    from scipy.io import loadmat

    path = shared / "data" / "hppc" / "pybop_LGM50_5Ah_Pulse.mat"
    cells = loadmat(path, simplify_cells=True)["LGM50_5Ah_Pulse"][temperature][soc]
    cell = min(cells)
    data = cells[cell]["data"]
    seconds = data["ProgTime"] - data["ProgTime"][0]
    amps, volts = data["Current"].astype(float), data["Voltage"].astype(float)
    steps = steps_by_current(seconds, amps, 0.01)
    rested_s = float(data["StepTime"][0])  # the file begins with the last row of a rest
    steps[0] = replace(steps[0], start_s=-rested_s, duration_s=rested_s)
    return recording_of(f"{cell}-{soc}", seconds, amps, volts, steps, 5.0, (2.5, 4.2))
