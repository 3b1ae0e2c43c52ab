"""How honest the decisions are: simulated suppliers with known truth against what is claimed.

Prints one line a bar (name, figure, bar, met or not) and a summary last; exit code 1 if a bar
is missed. All draws are seeded. `--quick` takes fewer rows, not fewer studies a row; `--only`
runs parts, each with the draws that it has in the whole run, so that the parts together are the
whole.

    python benchmarks/decisions.py [--quick] [--only PART,PART]

A coverage is missed only if it lies outside 93 to 97 % by more than two Monte-Carlo standard
errors; the median width of the intervals stands beside it, in units of the true value (of
sigma_cell for the mean).

A bin of claims may lie off what is claimed by three Monte-Carlo standard errors. There are
fifteen bins: an honest method misses one of them in at most 15 x 0.27 = 4 % of runs (Bonferroni),
which is why the limit is three and not two. It does not follow what was seen.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from batterylab.features import COLUMNS
from batterylab.study import Study
from batterylab.studyfiles import write_study
from batterylab.suppliers import scorecard
from batterylab.suppliers.calibration import levels
from batterylab.suppliers.capability import capability, fraction_outside
from batterylab.suppliers.comparison import posterior_of, probability_of_best, welch
from batterylab.suppliers.components import LotSample, lot_interval, pivots, root_interval
from batterylab.suppliers.equivalence import RISK, decided
from batterylab.suppliers.measurement import GaugeStudy, crossed_study
from batterylab.suppliers.nodes import points_for
from batterylab.suppliers.plans import Costs, Question, Spread, cheapest, options

Array = NDArray[np.float64]

STUDIES = 2000
PPK = 1.33
BINS = (0.5, 0.8, 0.9, 0.95, 0.99, 1.0)
QUANTITIES = ("mean", "sigma_cell", "sigma_lot", "Ppk", "fraction")
SKEWNESS = 0.5
#: how far a bin of claims may lie off, in Monte-Carlo standard errors
REACH = 3.0


@dataclass
class Bars:
    """The bars seen so far."""

    missed: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, name: str, figure: str, bar: str, met: bool) -> None:
        """Print one bar."""
        self.count += 1
        if not met:
            self.missed.append(name)
        print(f"{name:<58} {figure:<34} {bar:<26} {'met' if met else 'NOT MET'}", flush=True)

    def note(self, name: str, figure: str) -> None:
        """Print a figure that has no bar."""
        print(f"{name:<58} {figure:<34} {'reported':<26} -", flush=True)


@dataclass(frozen=True)
class Row:
    """One kind of study: lots, cells, sigma_lot and measurement in units of sigma_cell."""

    counts: tuple[int, ...]
    ratio: float
    bench: float = 0.0
    gauge: tuple[int, int, int] = (10, 3, 3)
    skewed: bool = False
    ppk: float = PPK
    held_out: bool = False

    @property
    def name(self) -> str:
        """What is printed."""
        even = len(set(self.counts)) == 1
        shape = f"{len(self.counts)}x{self.counts[0]}" if even else "+".join(map(str, self.counts))
        text = f"{shape} lot/cell {self.ratio:g}"
        if self.bench:
            cells, channels, repeats = self.gauge
            text += f" bench/cell {self.bench:g} (gauge {cells}x{channels}x{repeats}"
            text += f", df {channels - 1} and {cells * channels * (repeats - 1)})"
        if self.ppk != PPK:
            text += f" Ppk {self.ppk:g}"
        return text + (f" skewness {SKEWNESS:g}" if self.skewed else "")

    @property
    def total(self) -> float:
        """The true standard deviation of cells of any lot."""
        return math.hypot(self.ratio, 1.0)

    @property
    def lower(self) -> float:
        """The lower limit that makes Ppk what it is; the mean is 0."""
        return -3.0 * self.ppk * self.total

    def truth(self) -> dict[str, float]:
        """Return the true values."""
        outside = float(fraction_outside(0.0, self.total, self.lower, None))
        return dict(zip(QUANTITIES, (0.0, 1.0, self.ratio, self.ppk, outside), strict=True))


#: designs that had no part in choosing how Ppk is bounded on a studied bench
HELD_OUT = [
    Row(counts, ratio, bench, gauge, ppk=ppk, held_out=True)
    for counts, ratio, bench, gauge, ppk in (
        ((6,) * 4, 0.1, 0.2, (5, 5, 3), 1.33), ((15,) * 6, 2.0, 0.7, (8, 2, 2), 1.0),
        ((5,) * 15, 0.3, 1.0, (5, 5, 3), 1.67), ((20,) * 5, 0.5, 0.7, (12, 6, 2), 1.67),
        ((4,) * 8, 1.0, 1.0, (8, 3, 2), 1.0), ((8,) * 12, 0.1, 1.0, (10, 5, 2), 2.0),
        ((30,) * 3, 1.5, 0.4, (6, 4, 3), 1.33), ((3, 5, 7, 9, 6, 12), 0.7, 0.6, (10, 3, 2), 1.33),
    )
]  # fmt: skip


def cells_of(row: Row, rng: np.random.Generator) -> LotSample:
    lots = np.repeat(np.arange(len(row.counts)), row.counts)
    if row.skewed:
        shape = 4.0 / SKEWNESS**2
        cells = (rng.gamma(shape, size=len(lots)) - shape) / math.sqrt(shape)
    else:
        cells = rng.normal(size=len(lots))
    values = row.ratio * rng.normal(size=len(row.counts))[lots] + cells
    values = values + row.bench * rng.normal(size=len(lots))
    return LotSample.of(values, [f"{number:03d}" for number in lots])


def bench_of(row: Row, rng: np.random.Generator) -> GaugeStudy | None:
    """Simulate the gauge study: 0.36 of the bench's variance between channels."""
    if not row.bench:
        return None
    cells, channels, repeats = row.gauge
    values = rng.normal(size=(cells, 1, 1)) + row.bench * (
        0.6 * rng.normal(size=(1, channels, 1)) + 0.8 * rng.normal(size=(cells, channels, repeats))
    )
    return crossed_study(values)


def intervals(row: Row, rng: np.random.Generator) -> tuple[Array, float]:
    """Return the five intervals of one study, and the chi-square upper limit of sigma_lot."""
    sample, study = cells_of(row, rng), bench_of(row, rng)
    bench = None if study is None else study.pivots(points=points_for())
    drawn = pivots(sample, gauge=None if bench is None else bench.gauge)
    mean, cell = sample.mean_interval(), sample.within_interval()
    if drawn is None or drawn.lot is None or mean is None or cell is None:
        raise RuntimeError("a simulated study has no intervals")
    adjusted = None
    if study is not None and bench is not None:
        cell = root_interval(drawn.cell)
        adjusted = levels(sample, study, drawn, bench, row.lower, None)
    judged = capability(sample, 1.0, drawn, row.lower, None, levels=adjusted)
    if judged is None:
        raise RuntimeError("a simulated study has no capability")
    found = np.array([
        mean, cell, lot_interval(sample, drawn), judged.cpk_interval,
        judged.fraction_outside_interval,
    ])  # fmt: skip
    least = 2.0 * float(special.gammaincinv(sample.df_between / 2.0, 0.025))
    squares = sample.df_between * float(sample.between or 0.0)
    exact = math.sqrt(max(0.0, (squares / least - 1.0) / row.counts[0]))
    return found, exact


def coverage(row: Row, bars: Bars, seed: int) -> None:
    """Hold the five intervals of one kind of study against the truth."""
    rng = np.random.default_rng([20260101, seed])
    studies = [intervals(row, rng) for _ in range(STUDIES)]
    ends = np.array([found for found, _ in studies])
    for place, (name, true) in enumerate(row.truth().items()):
        low, high = ends[:, place, 0], ends[:, place, 1]
        share = float(np.mean((low <= true * (1 + 1e-12)) & (true <= high)))
        unit = true if true else 1.0
        width = float(np.median(high - low)) / unit
        figure = f"{100 * share:.1f} %, width {width:.3g}"
        error = math.sqrt(share * (1.0 - share) / STUDIES)
        label = f"{name}, {row.name}"
        if row.skewed:
            bars.note(label, figure)
        elif name == "sigma_lot" and row.ratio == 0:
            bars.add(label, figure, ">= 95 %", share + 2 * error >= 0.95)
            upper = float(np.median(high)) / float(np.median([exact for _, exact in studies])) - 1.0
            label = f"sigma_lot upper limit, {row.name}"
            bars.add(label, f"{100 * upper:+.1f} % of chi-square", "within 5 %", abs(upper) <= 0.05)
        else:
            met = 0.93 - 2 * error <= share <= 0.97 + 2 * error
            bars.add(label, figure, "93 to 97 %", met)


def coverage_rows(quick: bool) -> list[Row]:
    shapes = [(3, 5), (3, 50), (5, 10), (20, 5)]
    if not quick:
        shapes = [(lots, cells) for lots in (3, 5, 10, 20) for cells in (5, 10, 50)]
    rows = []
    for number, (lots, cells) in enumerate(shapes):
        ratios = (0.0, 0.1, 0.5, 1.0, 2.0)
        if quick:
            ratios = ((0.0, 1.0), (0.1, 2.0), (0.5,), (0.1, 0.5))[number]
        rows += [Row((cells,) * lots, ratio) for ratio in ratios]
    rows += [Row((3, 20, 5, 8), 0.8)]
    benches = ((0.3, (10, 3, 3)), (1.0, (10, 3, 3)))
    if not quick:
        rows += [Row((4, 8, 12), 0.8), Row((1, 2, 9, 12, 6), 0.8)]
        benches = (*benches, (0.5, (6, 4, 2)), (1.0, (6, 4, 2)), (0.1, (10, 10, 2)))
    for bench, gauge in benches:
        rows += [Row((8,) * 3, 0.8, bench, gauge)]
        if not quick:
            rows += [Row((10,) * 10, 0.5, bench, gauge)]
    rows += [Row((10,) * 10, 0.5, skewed=True)]
    return rows if quick else [*rows, *HELD_OUT]


# Probabilities


def draws_of_the_prior(lots: int, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return what was seen (mean and sd of the lot means, A then B) and the true difference.

    The prior as stated: flat in the means, 1/sigma in the standard deviations of lot means. It
    cannot be drawn whole. It is drawn over a wide range, and those studies count whose *data*
    lie in a window far inside: which data count must not depend on the truth.
    """
    wide = 50.0 if lots < 5 else 10.0  # a posterior with few degrees of freedom reaches far
    seen, true = [], []
    while sum(len(part) for part in true) < count:
        sigma = np.exp(rng.uniform(math.log(0.5 / wide), math.log(2.0 * wide), (2, 400_000)))
        difference = rng.uniform(-4.0 * wide, 4.0 * wide, 400_000)
        sd = sigma * np.sqrt(rng.chisquare(lots - 1, sigma.shape) / (lots - 1))
        mean = sigma / math.sqrt(lots) * rng.normal(size=sigma.shape)
        mean[0] += difference
        inside = np.all((sd > 0.5) & (sd < 2.0), axis=0) & (abs(mean[0] - mean[1]) < 6.0)
        seen.append(np.stack([mean[0], sd[0], mean[1], sd[1]])[:, inside])
        true.append(difference[inside])
    return np.concatenate(seen, axis=1)[:, :count], np.concatenate(true)[:count]


def calibration(lots: int, studies: int, reach: float, bars: Bars) -> None:
    """Hold the probability that A is higher against how often it is, within `reach` errors."""
    seen, true = draws_of_the_prior(lots, studies, np.random.default_rng([20260102, lots]))
    higher = np.array([
        probability_of_best([posterior_of(a, u, lots), posterior_of(b, v, lots)])[0]
        for a, u, b, v in seen.T
    ])  # fmt: skip
    claims = np.maximum(higher, 1.0 - higher)
    right = (higher > 0.5) == (true > 0)
    for low, high in pairwise(BINS):
        inside = (claims >= low) & (claims < high if high < 1 else claims <= 1)
        claimed, found = float(claims[inside].mean()), float(right[inside].mean())
        error = math.sqrt(float(np.mean(claims[inside] * (1.0 - claims[inside]))) / inside.sum())
        bars.add(
            f"claims {low:g} to {high:g}, {lots} lots, {int(inside.sum())} claims",
            f"claimed {100 * claimed:.2f}, true {100 * found:.2f} %",
            f"within {100 * reach * error:.2f} ({reach:.2f} s.e.)",
            abs(claimed - found) <= reach * error,
        )


# Verdicts


def verdicts(
    row: Row, difference: float, margin: float, rng: np.random.Generator
) -> dict[str, float]:
    """Return the shares of the verdicts; `difference` and `margin` in units of sigma_cell."""
    names: dict[str, int] = {}
    for _ in range(STUDIES):
        found = welch(cells_of(row, rng).means + difference, cells_of(row, rng).means)
        if found is not None:
            name = decided(found, margin)[0]
            names[name] = names.get(name, 0) + 1
    return {name: count / STUDIES for name, count in names.items()}


def errors_at_no_difference(quick: bool, bars: Bars) -> None:
    rng = np.random.default_rng(20260103)
    rows = [Row((8,) * 3, 0.8), Row((4, 8, 12), 0.8), Row((8,) * 10, 0.8)]
    if not quick:
        rows += [Row((8,) * 3, 0.1), Row((8,) * 3, 2.0), Row((5,) * 20, 0.8), Row((8, 8), 0.8)]
    for row in rows:
        found = verdicts(row, 0.0, 0.5, rng)
        share = found.get("A BETTER", 0.0) + found.get("B BETTER", 0.0)
        most = RISK + 2.0 * math.sqrt(RISK * (1 - RISK) / STUDIES)
        bars.add(f"A or B BETTER at no difference, {row.name}", f"{100 * share:.1f} %",
                 f"<= {100 * RISK:g} % (+ 2 s.e.)", share <= most)  # fmt: skip


def planned_studies(bars: Bars) -> None:
    """Plan for two margins, then decide at 0, 0.5, 1 and 2 of them."""
    rng = np.random.default_rng(20260104)
    spread = Spread(0.2, 0.25)
    for margin in (0.25, 0.15):
        plan = cheapest(options(Question(2.0 * margin), spread, Costs(48.0)))
        if plan is None:
            raise RuntimeError("no plan")
        row = Row((plan.cells,) * plan.lots, spread.lot / spread.cell)
        for share in (0.0, 0.5, 1.0, 2.0):
            scale = margin / spread.cell
            found = verdicts(row, share * scale, scale, rng)
            name = f"planned {plan.lots}x{plan.cells}, margin {margin:g} %, at {share:g} margins"
            text = ", ".join(f"{key} {100 * found[key]:.1f}" for key in sorted(found))
            if share < 2.0:
                bars.note(name, text)
            else:
                better = found.get("A BETTER", 0.0)
                met = abs(better - plan.power) <= 0.03
                text, bar = f"A BETTER {100 * better:.1f} %", f"{100 * plan.power:.1f} +- 3 %"
                bars.add(name, text, bar, met)


# Speed


def speed(lots: int, cells: int, most_s: float, bars: Bars) -> None:
    """Score two suppliers in five features."""
    rng = np.random.default_rng(20260105)
    rows = []
    for feature in ("capacity_Ah", "energy_Wh", "dcir_10s_mOhm", "ac_resistance_mOhm", "ocv_V"):
        for supplier in ("Alpha", "Beta"):
            for lot in range(lots):
                values = 5.2 + 0.01 * rng.normal() + 0.0125 * rng.normal(size=cells)
                rows += [
                    {"supplier": supplier, "lot": f"{supplier[0]}{lot:03d}", "channel": "1-1",
                     "serial": f"{supplier}-{lot}-{n}", "protocol": "capacity_resistance",
                     "part": "main", "seal": f"{supplier}-{lot}-{n}", "state": "valid",
                     "start_utc": f"2026-01-01T00:00:{lot % 60:02d}+00:00", "feature": feature,
                     "value": value, "uncertainty": 5e-4, "unit": "Ah", "source": "bench"}
                    for n, value in enumerate(values)
                ]  # fmt: skip
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        write_study(Path(folder) / "s")
        text = (Path(folder) / "s/study.yaml").read_text()
        for lots_text in ("[A1, A2, A3]", "[B1, B2, B3]"):
            text = text.replace(lots_text, "[]")
        (Path(folder) / "s/study.yaml").write_text(text)
        (Path(folder) / "s/cells.csv").unlink()
        study = Study.open(Path(folder) / "s")
        begun = time.perf_counter()
        scorecard(study, table)
        taken = time.perf_counter() - begun
    bars.add(f"scorecard, 2 x {lots} lots x {cells} cells x 5", f"{taken:.1f} s",
             f"<= {most_s:g} s", taken <= most_s)  # fmt: skip


def part_of(row: Row) -> str:
    """Return the part of the run that a row of coverage belongs to."""
    if row.skewed:
        return "skewed"
    if row.held_out:
        return "held-out"
    if row.bench:
        return f"bench-{row.bench:g}"
    return f"lots-{len(row.counts)}" if len(set(row.counts)) == 1 else "unequal"


def parts(quick: bool) -> list[tuple[str, Callable[[Bars], None]]]:
    """Return what there is to run, in order, each with the name of its part."""

    def one(row: Row, seed: int, bars: Bars) -> None:
        coverage(row, bars, seed)

    found: list[tuple[str, Callable[[Bars], None]]] = [
        (part_of(row), partial(one, row, seed)) for seed, row in enumerate(coverage_rows(quick))
    ]
    claims = 24_000 if quick else 120_000
    for lots in (3, 6) if quick else (3, 6, 12):
        found.append((f"claims-{lots}", partial(calibration, lots, claims, REACH)))
    found.append(("equal", partial(errors_at_no_difference, quick)))
    found.append(("planned", planned_studies))
    found.append(("speed", partial(speed, 20, 30, 10.0)))
    found.append(("speed", partial(speed, 100, 50, 60.0)))
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="How honest the decisions are.")
    parser.add_argument("--quick", action="store_true", help="fewer rows")
    parser.add_argument("--only", metavar="PART,PART", help="parts of the run, by name")
    options = parser.parse_args(arguments)
    begun = time.perf_counter()
    known = parts(options.quick)
    names = list(dict.fromkeys(name for name, _ in known))
    wanted = options.only.split(",") if options.only else names
    for name in wanted:
        if name not in names:
            parser.error(f"no part {name!r}; there are {', '.join(names)}")
    bars = Bars()
    for name, run in known:
        if name in wanted:
            run(bars)
    taken = time.perf_counter() - begun
    for name in bars.missed:
        print(f"missed: {name}")
    what = "" if len(wanted) == len(names) else f" of {', '.join(wanted)}"
    print(f"{bars.count - len(bars.missed)} of {bars.count} bars{what} met, {STUDIES} studies a "
          f"row, {taken:.0f} s, {time.process_time():.0f} s of processor")  # fmt: skip
    return 1 if bars.missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
