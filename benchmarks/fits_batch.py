"""Ten thousand cells, and how often intervals hold, against their bars."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from bars import Line, option
from fits_spm import window_of
from numpy.typing import NDArray
from profiles import pulses
from scipy.stats import t

from batterylab.archive import write
from batterylab.fit.archivebatch import fit_archive, processors
from batterylab.fit.celltables import cell_tables
from batterylab.fit.circuitsolve import circuit_voltage, inputs_of, solve_circuit
from batterylab.fit.halfcells import HalfCells, from_parameter_set
from batterylab.fit.ocvsolve import ocv_voltage, solve_ocv
from batterylab.fit.solve import Solution
from batterylab.fit.spm import solve_spm
from batterylab.fit.spmcell import NAMES, SpmCell, history_of, indices_of, spm_voltage
from batterylab.fit.statistics import judge
from batterylab.fit.store import Job, prepare
from batterylab.recording import Recording, StepRow

Array = NDArray[np.float64]

#: correlation of neighbours in the second kind of noise
FOLLOWS = 0.5
NOISE_V = 1e-3


def noise_of(random: np.random.Generator, rows: int, follows: float) -> Array:
    """Return noise of 1 mV, white or first-order autoregressive."""
    white = random.standard_normal(rows)
    made = np.empty(rows)
    last = made[0] = white[0]
    for row in range(1, rows):
        last = made[row] = follows * last + np.sqrt(1 - follows**2) * white[row]
    return NOISE_V * made


Draw = Callable[[np.random.Generator, float], tuple[Solution, Array]]


def spme_draw() -> Draw:
    """Return a function that fits grouped parameters to noisy pulses of our own kernel."""
    cell = SpmCell(cell_tables("Chen2020"), "spme")
    names = ("negative_capacity_Ah", "x_start", "log_negative_time", "log_positive_time",
             "contact_ohm")  # fmt: skip
    whole = cell.start.copy()
    whole[NAMES.index("contact_ohm")] = 0.01
    time_s, amps = pulses(5.0)

    def draw(random: np.random.Generator, follows: float) -> tuple[Solution, Array]:
        window = window_of(cell, time_s, amps, whole, noise_of(random, len(time_s), follows))
        return solve_spm(cell, window, names, start=whole)[0], whole[indices_of(names)]

    return draw


def circuit_draw() -> Draw:
    """Return a function that fits two pairs to a noisy hour of our own kernel."""
    time_s = np.arange(1801.0)
    amps = np.where((time_s > 0) & (time_s <= 300), -5.0, 0.0)
    charge = np.concatenate([[0.0], np.cumsum(amps[1:] * np.diff(time_s))]) / 1500.0
    inputs = inputs_of(time_s, amps, charge)
    truth = np.array([3.7, 0.02, 0.025, 0.008, np.log(8.0), 0.012, np.log(200.0)])
    clean, _ = circuit_voltage(inputs, truth)

    def draw(random: np.random.Generator, follows: float) -> tuple[Solution, Array]:
        volts = clean + noise_of(random, len(clean), follows)
        return solve_circuit(inputs, volts), truth

    return draw


def ocv_draw(half_cells: HalfCells) -> Draw:
    """Return a function that fits windows to a noisy slow discharge of our own kernel."""
    share = np.linspace(0.99, 0.01, 500)
    amps = np.full(500, -0.25)
    truth = np.array([0.03, 0.9, 0.9, 0.27, 0.03])
    clean, _ = ocv_voltage(share, amps, half_cells, truth)

    def draw(random: np.random.Generator, follows: float) -> tuple[Solution, Array]:
        volts = clean + noise_of(random, len(clean), follows)
        return solve_ocv(share, amps, volts, half_cells), truth

    return draw


def recovery(is_quick: bool) -> Iterator[Line]:
    """Count how often 95 % intervals hold, on average over the parameters."""
    draws = {"spme": spme_draw(), "circuit": circuit_draw(),
             "ocv": ocv_draw(from_parameter_set("Chen2020"))}  # fmt: skip
    repeats = 100 if is_quick else int(option("draws", "1000"))
    low, high = (91.0, 99.0) if is_quick else (93.0, 97.0)
    for model, draw in draws.items():
        for follows, kind in ((0.0, "white"), (FOLLOWS, f"AR(1) {FOLLOWS:g}")):
            held = []
            for seed in range(repeats):
                solution, truth = draw(np.random.default_rng(seed), follows)
                made = judge(solution.residual_V, solution.jacobian, ~solution.at_bound)
                reach = t.ppf(0.975, made.degrees_of_freedom) * made.standard_errors
                held.append(np.abs(solution.parameters - truth) <= reach)
            shares = 100 * np.mean(held, axis=0)
            mean = float(shares.mean())
            yield Line(f"95 % intervals hold, {model}, {kind}",
                       f"{mean:.1f} % ({shares.min():.1f} to {shares.max():.1f}), {repeats} draws",
                       f"{low:g} to {high:g} %", low <= mean <= high)  # fmt: skip


def _steps(kinds: list[tuple[str, str, int, float, float]]) -> tuple[list[StepRow], Array, Array]:
    """Return steps, times and currents of (kind, measure, seconds, every, current)."""
    steps, time_s, amps = [], [np.zeros(1)], [np.zeros(1)]
    begun, row = 0.0, 0
    for number, (kind, measure, seconds, every, current) in enumerate(kinds):
        own = begun + np.arange(every, seconds + 1e-9, every)
        first = row if number == 0 else row + 1
        row = row + len(own)
        steps.append(StepRow(number, first, row, kind, f"steps[{number}]", measure, "duration",
                             0, begun, float(seconds), current, float("nan")))  # fmt: skip
        time_s.append(own)
        amps.append(np.full(len(own), current))
        begun += seconds
    return steps, np.concatenate(time_s), np.concatenate(amps)


INSPECTION = [("rest", "", 3600, 30.0, 0.0), ("pulse", "dcir_as_delivered", 10, 1.0, -5.0),
              ("rest", "", 40, 1.0, 0.0), ("pulse", "dcir_charge_as_delivered", 10, 1.0, 3.75),
              ("rest", "", 1800, 30.0, 0.0)]  # fmt: skip
SLOW = [("rest", "", 1800, 60.0, 0.0), ("discharge", "ocv", 32400, 60.0, -0.5),
        ("rest", "", 1800, 60.0, 0.0)]  # fmt: skip


def make_archive(folder: Path, cells: int) -> None:
    """Write two recordings a cell: an inspection, and a C/10 discharge of its capacity test."""
    cell, random = SpmCell(cell_tables("Chen2020"), "spme"), np.random.default_rng(3)
    plans = (("incoming_inspection", 0.5, _steps(INSPECTION)),
             ("capacity_resistance", 0.98, _steps(SLOW)))  # fmt: skip
    for number in range(cells):
        whole = cell.start.copy()
        whole[:2] *= 1 + 0.02 * random.standard_normal(2)
        whole[4:6] += 0.1 * random.standard_normal(2)
        whole[NAMES.index("contact_ohm")] = 0.01
        for protocol, share, (steps, time_s, amps) in plans:
            start = whole.copy()
            start[2] = 0.03 + 0.87 * share
            start[3] = whole[3] + (whole[2] - start[2]) * whole[0] / whole[1]
            history = history_of(time_s, amps)
            volts = spm_voltage(cell, history, start).voltage_V
            volts = volts + 2e-4 * random.standard_normal(len(volts))
            write(_recording(f"C-{number:05d}", protocol, steps, history.data, volts), folder)


def _recording(
    serial: str, protocol: str, steps: list[StepRow], data: Array, volts: Array
) -> Recording:
    rows = len(volts)
    index = np.zeros(rows, "<i4")
    for step in steps:
        index[step.rows] = step.step_index
    columns = {
        "test_time_s": data[0], "current_A": data[1], "voltage_V": volts,
        "temperature_degC": np.full(rows, 25.0), "step_index": index,
        "cycle_index": np.zeros(rows, "<i4"), "net_capacity_Ah": data[2],
    }  # fmt: skip
    cell_type = {"name": "P5000", "nominal_capacity_Ah": 5.0, "voltage_min_V": 2.5,
                 "voltage_max_V": 4.2}  # fmt: skip
    provenance = {"source": "bench", "start_utc": "2026-01-05T06:00:00+00:00", "part": "main"}
    return Recording(serial, "Alpha", "A1", protocol, columns=columns, cell_type=cell_type,
                     provenance=provenance,
                     steps=[replace(step) for step in steps]).checked()  # fmt: skip


def batch(is_quick: bool) -> Iterator[Line]:
    """Fit an archive in a process of its own, whose memory is not that of other parts."""
    done = subprocess.run([sys.executable, __file__, *sys.argv[1:]], stdout=subprocess.PIPE,
                          check=True, text=True)  # fmt: skip
    yield from (Line(**json.loads(row)) for row in done.stdout.splitlines())


def archive(is_quick: bool) -> Iterator[Line]:
    """Fit an archive with three models, reading included, in one process if it is small.

    The time for 10,000 cells is judged by processor time over the processors, since others may
    use the machine; the time on the clock stands beside it.
    """
    sizes = (30, 120) if is_quick else (100, int(option("cells", "10000")))
    workers, each = processors(), []
    with tempfile.TemporaryDirectory() as place:
        for cells in sizes:
            folder = Path(place, f"{cells}")
            make_archive(folder / "archive", cells)
            results = Path(place, "results") if cells == sizes[0] else folder / "results"
            jobs = [prepare(model, None, None, results, protocol) for model, protocol in (
                ("circuit", "incoming_inspection"), ("spme", "incoming_inspection"),
                ("ocv", "capacity_resistance"))]  # fmt: skip
            for job in jobs:  # PyBaMM's tables are sampled once, before the clock runs
                job.tables = Path(place, "tables")
            for _ in fit_archive(folder / "archive", [without_results(jobs)], workers=1):
                break
            begun, spent = time.perf_counter(), sum(os.times()[:4])
            hands = workers if cells > 1000 else 1
            wanted, failed = [0, 0, 0], 0
            for fits in fit_archive(folder / "archive", jobs, workers=hands):
                made = [fit for fit in fits if fit is not None]
                wanted = [so_far + (fit is not None)
                          for so_far, fit in zip(wanted, fits, strict=True)]  # fmt: skip
                failed += sum(not fit.converged for fit in made)
            wall, cpu = time.perf_counter() - begun, sum(os.times()[:4]) - spent
            each.append(cpu / cells)
            rated = cpu * 10000 / cells / 60 / 2
            yield Line(f"{cells} cells: circuit, spme, ocv, reading",
                       f"{1e3 * cpu / cells:.1f} ms a cell (clock {1e3 * wall / cells:.1f}); "
                       f"10,000 in {rated:.1f} min on 2", "5 min",
                       rated <= 5 and failed == 0 and min(wanted) == cells
                       if cells == sizes[1] else None)  # fmt: skip
    yield Line("time a cell, more cells over few", f"{each[1] / each[0]:.2f} x processor time",
               "1.2 x", each[1] <= 1.2 * each[0])  # fmt: skip
    own, others = (resource.getrusage(who).ru_maxrss
                   for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))  # fmt: skip
    largest = (own + workers * others) / 2**20
    yield Line("memory, all processes at their largest", f"{largest:.2f} GB", "2 GB", largest < 2)


def without_results(jobs: list[Job]) -> Job:
    """Return the `spme` job without results, to sample its tables."""
    alone = copy(jobs[1])
    alone.cache = None
    return alone


if __name__ == "__main__":
    for each_line in archive("--quick" in sys.argv):
        print(json.dumps(asdict(each_line)), flush=True)
