"""`ocv`, `circuit` and `impedance` against their bars: one line a bar, a summary last.

The peers are scipy on the same residuals: variable projection over two lags for the circuit,
least_squares for the open-circuit voltage and the spectra; pyimpspec and impedance.py, if an
environment with them is named by BATTERYLAB_EIS_PEERS (its python). Processor time, medians,
turn by turn. Real data come from the folder BATTERYLAB_TEST_DATA, the published BPX file of
About:Energy's NMC cell from BATTERYLAB_BPX_NMC. Exit code 1 if a bar is missed.

    python benchmarks/fits_eis.py [--quick]
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from bars import Line, median_of, paired
from numpy.typing import NDArray
from scipy.optimize import least_squares

from batterylab.errors import BatterylabError
from batterylab.features.ledger import Ledger
from batterylab.features.resistance import pulses_of
from batterylab.fit import fit
from batterylab.fit.celltables import FULL_CELLS, cell_tables, tables_of
from batterylab.fit.circuitsolve import circuit_voltage, inputs_of, solve_circuit
from batterylab.fit.halfcells import HalfCells, from_file, from_parameter_set
from batterylab.fit.impedance import (
    EIS_NAMES,
    EisCell,
    cell_impedance,
    circuit_impedance,
    parse_circuit,
    spme_impedance,
)
from batterylab.fit.impedancefit import (
    solve_circuit_impedance,
    solve_spme_impedance,
    spectrum_from,
)
from batterylab.fit.joint import joined
from batterylab.fit.ocvsolve import ocv_voltage, solve_ocv
from batterylab.fit.spm import solve_spm
from batterylab.fit.spmcell import SpmCell, spm_voltage
from batterylab.fit.spmwindow import spm_window
from batterylab.fit.statistics import judge
from batterylab.recording import StepRow

Array = NDArray[np.float64]

DATA = os.environ.get("BATTERYLAB_TEST_DATA", "")
CIRCUIT = "L0-R0-p(R1,CPE1)-W1"
VALUES = [200.0, 10.0, 20.0, 5.0, 0.8, 6.0]
HERTZ = np.geomspace(1e4, 1e-2, 60)
RATES = ("Co20", "Co2", "1C", "2C", "DriveCycle")
RATE_FREE = ("negative_capacity_Ah", "positive_capacity_Ah", "x_start", "y_start",
              "log_negative_time", "log_positive_time", "log_negative_rate",
              "log_positive_rate", "contact_ohm", "log_conductivity")  # fmt: skip
SPME_SIX = ("log_negative_time", "log_positive_time", "log_negative_rate", "log_positive_rate",
            "contact_ohm", "log_positive_capacitance")  # fmt: skip


def hour() -> tuple[Any, Array]:
    """Return an hour at 1 Hz of pulses and rests, and a noisy 2-RC voltage."""
    time_s = np.arange(3601.0)
    amps = np.zeros(3601)
    for k in range(6):
        amps[k * 600 + 1 : k * 600 + 61] = -5.0 if k % 2 else -2.5
    charge = np.append(0.0, np.cumsum(amps[1:]))
    inputs = inputs_of(time_s, amps, charge / np.abs(charge).max(), order=0, pairs=2)
    truth = [3.7, 0.025, 0.008, np.log(8.0), 0.012, np.log(120.0)]
    clean = circuit_voltage(inputs, truth)[0]
    return inputs, clean + np.random.default_rng(1).normal(0, 1e-3, 3601)


def circuit_lines(quick: bool) -> Iterator[Line]:
    """Time a two-RC hour, and hold the real pulses to 3 mV."""
    from scipy.signal import lfilter

    inputs, volts = hour()
    ours = solve_circuit(inputs, volts)

    def projected(log_tau: Array) -> Array:
        lags = [lfilter([0.0 + 1.0 - a], [1.0, -a], inputs.current_A)
                for a in np.exp(-1.0 / np.exp(log_tau))]  # fmt: skip
        table = np.column_stack([np.ones(3601), inputs.current_A, *lags])
        found = np.linalg.solve(table.T @ table, table.T @ volts)
        return np.asarray(table @ found - volts)

    def peer() -> Any:
        return least_squares(projected, np.log([3.0, 60.0]), method="lm")

    cost = 0.5 * float(ours.residual_V @ ours.residual_V)
    ratio, mine, theirs = paired(lambda: solve_circuit(inputs, volts), peer, 5 if quick else 21, 5)
    yield Line("circuit: 2-RC hour at 1 Hz, 3,601 rows", f"{1e3 * mine:.2f} ms", "0.5 ms",
               mine <= 0.5e-3)  # fmt: skip
    same = abs(float(peer().cost) / cost - 1.0)
    figure = f"{ratio:.1f} ({1e3 * theirs:.1f} ms; cost {same:.0e} apart)"
    yield Line("circuit: scipy, variable projection, ratio", figure, "-", None)
    yield from real_pulses()


def real_pulses() -> Iterator[Line]:
    """Hold every pulse of three published files, with the rest after it, to 3 mV."""
    if not DATA:
        yield Line("circuit: real pulses", "no BATTERYLAB_TEST_DATA", "3 mV", None)
        return
    real = _real()
    sets = {
        "ampworks_hppc_discharge": [real.nrel_pulses(Path(DATA))],
        "leaf low-current HPPC 25 degC": [real.leaf_pulses(Path(DATA))],
        "LGM50_5Ah_Pulse, 25 degC": [
            real.lg_m50_pulse(Path(DATA), f"SoC{n}") for n in range(1, 10)
        ],
    }
    for name, recordings in sets.items():
        found = [
            fit(recording, "circuit", step=pulse.step.step_index).residual_mV
            for recording in recordings for pulse in pulses_of(Ledger(recording))
        ]  # fmt: skip
        yield Line(f"circuit: {name}, {len(found)} pulses",
                   f"{max(found):.2f} mV rms at most, median {np.median(found):.2f}", "3 mV",
                   max(found) <= 3.0)  # fmt: skip


def _real() -> Any:
    """Return the loaders of published files that the tests use."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "fit"))
    import real_recordings

    return real_recordings


def ocv_lines(quick: bool) -> Iterator[Line]:
    """Time the fit of 500 rows, tables and rows ready; hold the P45B's check-ups."""
    curves = from_parameter_set("Chen2020")
    share, amps = np.linspace(0.0, 1.0, 500), np.full(500, 0.1)
    truth = [0.03, 0.9, 0.85, 0.27, 0.03]
    volts = ocv_voltage(share, amps, curves, truth)[0]
    volts += np.random.default_rng(2).normal(0, 1e-3, 500)
    yield from _timed_ocv("synthetic", share, amps, volts, curves, quick)
    if not DATA:
        return
    real = _real()
    with tempfile.TemporaryDirectory() as folder:
        curves = from_file(real.p45b_half_cells(Path(DATA), Path(folder)))
    lithium = []
    for entry, bar in ((1, 3.0), (5, 4.0), (9, 4.0)):
        recording = real.p45b_slow_charge(Path(DATA), entry)
        made = fit(recording, "ocv", half_cells=curves)
        whole = float(recording.columns["net_capacity_Ah"].max())
        inside = (made.curve.x >= 0.05 * whole) & (made.curve.x <= 0.95 * whole)
        off = 1e3 * (made.curve.model_V - made.curve.measured_V)[inside]
        rms = float(np.sqrt(np.mean(off**2)))
        lithium.append(made.values["lithium_inventory_Ah"])
        yield Line(f"ocv: P45B check-up {entry}, 5 to 95 %", f"{rms:.2f} mV rms", f"{bar:g} mV",
                   rms <= bar)  # fmt: skip
    falls = all(b < a for a, b in pairwise(lithium))
    yield Line("ocv: P45B lithium over check-ups 1, 5, 9",
               ", ".join(f"{v:.3f}" for v in lithium) + " Ah", "falls", falls)  # fmt: skip


def _timed_ocv(
    name: str, share: Array, amps: Array, volts: Array, curves: HalfCells, quick: bool
) -> Iterator[Line]:
    ours = solve_ocv(share, amps, volts, curves)

    def peer() -> Any:
        def residual(p: Array) -> Array:
            return ocv_voltage(share, amps, curves, p)[0] - volts

        def slopes(p: Array) -> Array:
            return ocv_voltage(share, amps, curves, p)[1]

        return least_squares(residual, [0.05, 0.95, 0.9, 0.3, 0.1], slopes, x_scale="jac",
                             bounds=([0, 0, 0, 0, 0], [1, 1, 1, 1, 5]))  # fmt: skip

    ratio, mine, theirs = paired(
        lambda: solve_ocv(share, amps, volts, curves), peer, 5 if quick else 21, 5
    )
    yield Line(f"ocv: fit of 500 rows ({name}), starts included", f"{1e3 * mine:.2f} ms", "1 ms",
               mine <= 1e-3)  # fmt: skip
    cost = 0.5 * float(ours.residual_V @ ours.residual_V)
    yield Line("ocv: scipy, our residuals and derivatives, one start, ratio",
               f"{ratio:.1f} ({1e3 * theirs:.1f} ms; cost {float(peer().cost) / cost:.4f} of ours)",
               "-", None)  # fmt: skip


def impedance_lines(quick: bool) -> Iterator[Line]:
    """Time circuits and the model's own impedance; compare with PyBaMM; count intervals."""
    yield from _circuit_spectra(quick)
    yield from _spme_spectra(quick)
    yield from _against_pybamm(quick)
    yield from _intervals(quick)


def _circuit_spectra(quick: bool) -> Iterator[Line]:
    circuit = parse_circuit(CIRCUIT)
    clean = circuit_impedance(circuit, HERTZ, VALUES)[0]
    random = np.random.default_rng(3)
    noise = 0.002 * np.abs(clean) * (random.normal(size=60) + 1j * random.normal(size=60))
    spectrum = spectrum_from(HERTZ, clean + noise)
    start = [100.0, 15.0, 30.0, 3.0, 0.7, 10.0]
    hertz, measured = spectrum.frequency_Hz, spectrum.complex_ohm

    def peer() -> Any:
        def residual(p: Array) -> Array:
            off = circuit_impedance(circuit, hertz, circuit.from_kernel(p))[0] - measured
            off = off * spectrum.weight
            return np.concatenate([off.real, off.imag])

        return least_squares(residual, circuit.to_kernel(start), x_scale="jac")

    repeats = 5 if quick else 21
    ratio, mine, theirs = paired(
        lambda: solve_circuit_impedance(circuit, spectrum, start=start), peer, repeats, 5
    )
    yield Line("impedance: six-parameter circuit, given start", f"{1e3 * mine:.2f} ms", "1 ms",
               mine <= 1e-3)  # fmt: skip
    yield Line("impedance: scipy on our kernel, ratio", f"{ratio:.0f} ({1e3 * theirs:.1f} ms)",
               "-", None)  # fmt: skip
    own = median_of(lambda: solve_circuit_impedance(circuit, spectrum), repeats)
    yield Line("impedance: the same, starts searched", f"{1e3 * own:.2f} ms", "-", None)
    yield from _other_peers(spectrum)


PEER = """
import sys, time, warnings
import numpy as np
warnings.simplefilter("ignore")
f, re, im = np.loadtxt(sys.argv[1]).T
z = re + 1j * im
try:
    from pyimpspec import DataSet, fit_circuit, parse_cdc
    data = DataSet(f, z)
    text = "L{L=1e-7}R{R=0.015}(R{R=0.03}Q{Y=3,n=0.7})W{Y=70}"
    best = []
    for _ in range(5):
        begun = time.process_time()
        fit_circuit(parse_cdc(text), data, method="leastsq", weight="modulus", num_procs=1)
        best.append(time.process_time() - begun)
    print("pyimpspec", sorted(best)[2])
except Exception as error:
    print("pyimpspec failed", type(error).__name__, error)
try:
    from impedance.models.circuits import CustomCircuit
    best = []
    for _ in range(5):
        circuit = CustomCircuit("L0-R0-p(R1,CPE1)-W1",
                                initial_guess=[1e-7, 0.015, 0.03, 3, 0.7, 0.01])
        begun = time.process_time()
        circuit.fit(f, z, weight_by_modulus=True)
        best.append(time.process_time() - begun)
    print("impedance.py", sorted(best)[2])
except Exception as error:
    print("impedance.py failed", type(error).__name__, error)
"""


def _other_peers(spectrum: Any) -> Iterator[Line]:
    python = os.environ.get("BATTERYLAB_EIS_PEERS")
    if not python:
        yield Line("impedance: pyimpspec, impedance.py", "BATTERYLAB_EIS_PEERS is not set", "-",
                   None)  # fmt: skip
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "spectrum.txt")
        np.savetxt(path, np.column_stack([spectrum.frequency_Hz, *spectrum.ohm]))
        done = subprocess.run([python, "-c", PEER, str(path)], capture_output=True, text=True,
                              timeout=300, check=False)  # fmt: skip
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        try:
            figure = f"{1e3 * float(value):.1f} ms, the same start"
        except ValueError:
            figure = value[:60]
        yield Line(f"impedance: {name}", figure, "-", None)


def _spme_spectra(quick: bool) -> Iterator[Line]:
    cell = EisCell(tables_of("Chen2020", 298.15))
    base = cell.at(0.5)
    truth = base.copy()
    for place, change in ((4, 0.4), (5, -0.3), (6, 0.5), (7, -0.4), (8, 0.004), (12, 0.5)):
        truth[place] += change
    clean = cell_impedance(cell, HERTZ, truth)[0]
    random = np.random.default_rng(5)
    noise = 0.002 * np.abs(clean) * (random.normal(size=60) + 1j * random.normal(size=60))
    spectrum = spectrum_from(HERTZ, clean + noise)
    start = base[[EIS_NAMES.index(name) for name in SPME_SIX]][None, :]

    def ours() -> Any:
        return solve_spme_impedance(cell, spectrum, base, SPME_SIX, starts=start)

    seconds = median_of(ours, 5 if quick else 21)
    solution, _ = ours()
    yield Line("impedance: SPMe to 60 frequencies, six parameters",
               f"{1e3 * seconds:.1f} ms, {solution.steps} steps", "20 ms",
               seconds <= 20e-3 and solution.converged)  # fmt: skip


def _against_pybamm(quick: bool) -> Iterator[Line]:
    from batterylab.pybamm_impedance import reference_impedance

    hertz = np.geomspace(1e-3, 1e3, 13)
    cases = [(name, 0.5, 25.0) for name in (FULL_CELLS[:4] if quick else FULL_CELLS)]
    if not quick:
        cases += [(name, soc, t) for name in FULL_CELLS for soc, t in ((0.2, 25.0), (0.8, 10.0))]
    worst, where = 0.0, ""
    for name, soc, degrees in cases:
        theirs = reference_impedance(name, hertz, soc, temperature_degC=degrees)
        ours = spme_impedance(name, hertz, soc, degrees)
        off = float((np.abs(ours - theirs) / np.abs(theirs)).max())
        if off > worst:
            worst, where = off, f"{name} at {100 * soc:g} %, {degrees:g} degC"
    yield Line(f"impedance: SPMe against PyBaMM, {len(cases)} cases, 1 mHz to 1 kHz",
               f"{100 * worst:.3f} % of the modulus ({where})", "0.1 %", worst <= 1e-3)  # fmt: skip


def _intervals(quick: bool) -> Iterator[Line]:
    circuit = parse_circuit(CIRCUIT)
    truth = circuit.to_kernel(VALUES)
    clean = circuit_impedance(circuit, HERTZ, VALUES)[0]
    random = np.random.default_rng(11)
    held = []
    for _ in range(150 if quick else 1000):
        noise = 0.005 * np.abs(clean) * (random.normal(size=60) + 1j * random.normal(size=60))
        found = solve_circuit_impedance(circuit, spectrum_from(HERTZ, clean + noise), start=VALUES)
        judgement = judge(found.residual_V, found.jacobian, ~found.at_bound)
        held.append(np.abs(found.parameters - truth) <= 1.98 * judgement.standard_errors)
    share = 100.0 * float(np.mean(held))
    low, high = (91.0, 99.0) if quick else (93.0, 97.0)
    yield Line(f"impedance: 95 % intervals hold, {len(held)} draws", f"{share:.1f} of 100",
               f"{low:g} to {high:g}", low <= share <= high)  # fmt: skip


def rate_lines(bpx: str) -> Iterator[Line]:
    """Report About:Energy's five recordings, fitted together, beside the published BPX."""
    if not DATA or not bpx:
        yield Line("rate: About:Energy NMC", "needs the data and BATTERYLAB_BPX_NMC", "-", None)
        return
    windows = [_rate_window(name) for name in RATES]
    ends = np.cumsum([window.history.data.shape[1] for window in windows])
    whole = joined(windows)  # all begin full: no charge is shifted
    cell = SpmCell(cell_tables(bpx), "spme")
    start = cell.start.copy()
    solution, found = solve_spm(cell, whole, RATE_FREE, start=start)
    measured = whole.history.data[4]
    seen = whole.history.observed
    off = []
    for values in (start, found):
        made = np.full(len(seen), np.nan)
        made[seen] = spm_voltage(cell, whole.history, values).voltage_V
        off.append(np.split(1e3 * (made - measured), ends[:-1]))
    for name, published, fitted in zip(RATES, *off, strict=True):
        rms = [float(np.sqrt(np.nanmean(part**2))) for part in (fitted, published)]
        figure = f"{rms[0]:.1f} mV rms; published BPX: {rms[1]:.1f} mV"
        yield Line(f"rate: {name}, spme fitted to all five together", figure, "-", None)
    figure = f"{solution.reason}, {solution.steps} steps, {int(seen.sum())} rows"
    yield Line("rate: that fit", figure, "-", None)


def rates(_: bool) -> Iterator[Line]:
    """Yield the lines of `rate_lines`, with the BPX file that the environment names."""
    yield from rate_lines(os.environ.get("BATTERYLAB_BPX_NMC", ""))


def _rate_window(name: str) -> Any:
    """Return a recording's window; it begins with one row of the rest before."""
    recording = _real().rate_discharge(Path(DATA), name)
    last = len(recording) - 1
    steps = [
        StepRow(0, 0, 0, "rest", start_s=-3600.0, duration_s=3600.0),
        StepRow(1, 1, last, "discharge" if name != "DriveCycle" else "other",
                duration_s=float(recording.columns["test_time_s"][-1])),
    ]  # fmt: skip
    recording.columns["step_index"] = np.minimum(np.arange(last + 1), 1)
    return spm_window(replace(recording, steps=steps))


def eis_lines(quick: bool) -> Iterator[Line]:
    """Yield the lines of `ocv`, `circuit` and `impedance`."""
    for part in (circuit_lines, ocv_lines, impedance_lines, rates):
        try:
            yield from part(quick)
        except BatterylabError as error:
            yield Line(part.__name__, f"failed: {error.message}", "-", False)


def main(arguments: list[str]) -> int:
    """Print the lines and return 1 if a bar is missed."""
    missed = total = 0
    for line in eis_lines("--quick" in arguments):
        print(line, flush=True)
        missed += line.met is False
        total += line.met is not None
    print(f"{total - missed} of {total} bars met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
