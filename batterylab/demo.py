"""The whole job on a simulated bench, and its comparison with the truth behind it."""

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from batterylab.errors import BatterylabError
from batterylab.study import Study
from batterylab.studyfiles import CHANNELS, Size, write_study

MARKER = ".batterylab-demo"
POLL_s = 120.0
OPERATOR = "demo"
CONFIDENCE = 0.999
STANDARD_ERRORS = 4.0
COMPARED = ("capacity_Ah", "dcir_10s_mOhm")
BASE = "the base cell"
INSTRUMENTS = ("cycler", "temps", "meter", "chamber", "clock")

Tell = Callable[[str, float], None]


@dataclass
class Check:
    """One comparison with the truth."""

    what: str
    value: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the value lies inside."""
        return self.low <= self.value <= self.high

    def __str__(self) -> str:
        """Return one line."""
        word = "holds" if self.holds else "FAILS"
        return f"{word}  {self.what}: {self.value:.6g} in [{self.low:.6g}, {self.high:.6g}]"


@dataclass
class Outcome:
    """What a demo came to.

    Attributes
    ----------
    study : Path
        The study's folder.
    lines : list of str
        The decision in five lines.
    reports : dict of str to Path
        By format.
    checks : list of Check
        Comparisons with the truth, if asked for.
    """

    study: Path
    lines: list[str]
    reports: dict[str, Path]
    recordings: int
    checks: list[Check] = field(default_factory=list)


def prepare_folder(out: Path) -> None:
    """Clear the folder of an earlier demo; refuse any other that is not empty.

    Raises
    ------
    BatterylabError
        If the folder holds something else.
    """
    if out.exists() and any(out.iterdir()):
        if not (out / MARKER).exists():
            raise BatterylabError(
                f"{out}: is not empty, and no demo", hint="choose another folder with --out"
            )
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).write_text("made by `batterylab demo`; it may be deleted\n", encoding="utf-8")


def make_study(out: Path, size: Size, seed: int) -> Study:
    """Write the demo's study, with free ports for its bench."""
    from batterylab.simulated.process import free_ports

    ports = dict(zip(INSTRUMENTS, free_ports(len(INSTRUMENTS)), strict=True))
    write_study(
        out, seed=seed, ports=ports, size=size, protocols=("capacity_resistance",), poll_s=POLL_s
    )
    return Study.open(out)


@contextmanager
def _bench_of(study: Study) -> Iterator[None]:
    from batterylab.simulated import process

    running = process.start(study.path)
    try:
        yield
    finally:
        process.finish(running)


def at_the_bench(study: Study, seed: int, tell: Tell) -> int:
    """Load, run, unload, and study the bench itself; return the number of recordings."""
    from batterylab.bench.clock import BenchClock
    from batterylab.bench.gauge import run_gauge
    from batterylab.bench.loading import ScriptedHands
    from batterylab.bench.process import run_here
    from batterylab.bench.setup import Bench

    def hands_of(bench: Bench) -> ScriptedHands:
        assert isinstance(bench.clock, BenchClock)  # noqa: S101  (the study is simulated)
        return ScriptedHands(bench.clock)

    tell("starting the simulated bench", 0.0)
    with _bench_of(study):
        tell("loading the cells", 0.0)
        _load_all(study, seed, hands_of)
        done = run_here(
            study, OPERATOR, lambda data: tell("running the protocol", data.get("done", 0.0)),
            takes_interrupt=False,
        )  # fmt: skip
        _unload_all(study, hands_of)
        if study.definition.gauge and len(study.cells) >= study.definition.gauge.cells:
            done += run_gauge(
                study, OPERATOR, hands_of,
                report=lambda data: tell("measuring the bench itself", data.get("done", 0.0)),
            )  # fmt: skip
    stopped = [f"{path.parent.name}: {why}" for path, why in done if why]
    if stopped:
        raise BatterylabError("a simulated channel was stopped:\n" + "\n".join(stopped))
    return len(done)


def _load_all(study: Study, seed: int, hands_of: Callable[[Any], Any]) -> None:
    from batterylab.bench.allot import allot
    from batterylab.bench.benchfile import BenchFile
    from batterylab.bench.loading import Loader
    from batterylab.bench.setup import Bench

    bench = Bench.open(BenchFile.open(study.bench_path, study.cell_type), ("cycler", "meter"))
    try:
        loader = Loader(study, bench, hands_of(bench), OPERATOR)
        seats = allot(list(study.cells.values()), list(bench.file.channels.values()), seed)
        study.log.append("allot", OPERATOR, seed=seed, channels=seats)
        for channel, serial in seats.items():
            loader.load(serial, channel)
    finally:
        bench.close()


def _unload_all(study: Study, hands_of: Callable[[Any], Any]) -> None:
    from batterylab.bench.benchfile import BenchFile
    from batterylab.bench.loading import Loader
    from batterylab.bench.setup import Bench

    bench = Bench.open(BenchFile.open(study.bench_path, study.cell_type), ("cycler",))
    try:
        loader = Loader(study, bench, hands_of(bench), OPERATOR)
        for channel in study.log.occupied():
            loader.unload(channel)
    finally:
        bench.close()


def run_demo(
    out: Path, *, size: Size, seed: int, check: bool = False, tell: Tell = lambda *_: None
) -> Outcome:
    """Do the whole job.

    Parameters
    ----------
    out : Path
        Folder of the study: new, empty, or of an earlier demo.
    size : Size
        Suppliers, lots and cells.
    seed : int
        Of cells, channels and allotment: the same seed gives the same seals.
    check : bool
        Whether to compare with the truth.
    tell : callable
        Gets what is being done, and the share of it that is done.

    Returns
    -------
    Outcome
        What it came to.
    """
    from batterylab.features import table as features_table
    from batterylab.fit.store import study_fits
    from batterylab.report import write as write_report
    from batterylab.report.fits import kept_fits
    from batterylab.suppliers import scorecard, summary_lines

    if len(size.rows()) > CHANNELS:
        raise BatterylabError(
            f"{len(size.rows())} cells, but the simulated bench has {CHANNELS} channels",
            hint="fewer suppliers, lots or cells",
        )
    prepare_folder(out)
    study = make_study(out, size, seed)
    recordings = at_the_bench(study, seed, tell)
    study = Study.open(out)
    tell("drawing features", 0.0)
    table = features_table(study)
    for model in ("ocv", "circuit"):
        tell(f"fitting the {model} model", 0.0)
        study_fits(study, model)
    tell("scoring the suppliers", 0.0)
    scored = scorecard(study, table)
    scored.write(study.results)
    card = scored.to_dict()
    tell("writing the report", 0.0)
    fits = kept_fits(study.results / "fits", card)
    reports = write_report(study, card, ("pdf", "html"), table=table, fits=fits)
    checks = []
    if check:
        tell("comparing with the truth", 0.0)
        checks = compare(study, table, card)
    return Outcome(out, summary_lines(card), reports, recordings, checks)


def compare(study: Study, table: Any, card: dict[str, Any]) -> list[Check]:
    """Hold what was measured against the truth behind the simulated bench.

    Returns
    -------
    list of Check
        For capacity and resistance, that the mean of measured over true value lies within 4
        standard errors of 1: the cells' own stated uncertainty and the observed scatter, both
        over the root of the number of cells. For each supplier, that the truth lies in the
        99.9 % interval of its mean and of its spread, jointly over all suppliers. That the
        ranking is right.
    """
    from batterylab.simulated.cell import CellTruth
    from batterylab.simulated.population import draw_truths, read_simulation
    from batterylab.simulated.truth import ideal_results

    simulation = read_simulation(study.path / "simulation.yaml")
    truths = draw_truths(simulation, study.cells.values())
    ideal = ideal_results({**truths, BASE: CellTruth()})
    base_Ah = ideal.pop(BASE).capacity_Ah
    main = table[table["part"] == "main"]
    checks = [_ratio_check(main, name, ideal) for name in COMPARED]
    checks += _supplier_checks(main, simulation, base_Ah)
    order = card["ranking"]["order"] if card.get("ranking") else []
    offsets = {name: s.capacity_offset_percent for name, s in simulation.suppliers.items()}
    best = sorted(offsets, key=lambda name: -offsets[name])
    if len(best) > 1:
        checks.append(Check("the ranking by capacity is right", float(order == best), 1.0, 1.0))
    return checks


def _ratio_check(main: Any, name: str, ideal: dict[str, Any]) -> Check:
    rows = main[main["feature"] == name].set_index("serial")
    ratios, errors = [], []
    for serial, truth in ideal.items():
        true = getattr(truth, name)
        ratios.append(float(rows.at[serial, "value"]) / true)
        errors.append(float(rows.at[serial, "uncertainty"]) / true)
    n = len(ratios)
    scatter = float(np.var(ratios, ddof=1)) if n > 1 else 0.0
    standard_error = math.sqrt((float(np.mean(np.square(errors))) + scatter) / n)
    reach = STANDARD_ERRORS * standard_error
    return Check(f"mean of measured over true {name}", float(np.mean(ratios)), 1 - reach, 1 + reach)


def _supplier_checks(main: Any, simulation: Any, base_Ah: float) -> list[Check]:
    """Compare means and spreads with the population's, at 99.9 % over all comparisons."""
    rows = main[main["feature"] == "capacity_Ah"]
    names = [s for s in simulation.suppliers if (rows["supplier"] == s).any()]
    level = 1 - (1 - CONFIDENCE) / (2 * len(names))
    checks = []
    for name in names:
        truth = simulation.suppliers[name]
        lots = [
            group["value"].to_numpy(float)
            for _, group in rows[rows["supplier"] == name].groupby("lot")
        ]
        true_Ah = base_Ah * (1 + truth.capacity_offset_percent / 100)
        if len(lots) > 1:
            low, high = _mean_interval(lots, level)
            what = f"mean capacity of {name}, Ah: truth in interval"
            checks.append(Check(what, true_Ah, low, high))
        if sum(len(lot) - 1 for lot in lots) > 0:
            low, high = _spread_interval(lots, level)
            sigma_Ah = truth.sigma_cell_percent / 100 * base_Ah
            checks.append(
                Check(f"cell spread of {name}, Ah: truth in interval", sigma_Ah, low, high)
            )
    return checks


def _mean_interval(lots: list[NDArray[np.float64]], level: float) -> tuple[float, float]:
    """Interval of a supplier's mean: lots are the sampling unit."""
    means = np.array([lot.mean() for lot in lots])
    n = len(means)
    reach = stats.t.ppf(0.5 + level / 2, n - 1) * means.std(ddof=1) / math.sqrt(n)
    return float(means.mean() - reach), float(means.mean() + reach)


def _spread_interval(lots: list[NDArray[np.float64]], level: float) -> tuple[float, float]:
    """Interval of the standard deviation within lots, pooled."""
    freedom = sum(len(lot) - 1 for lot in lots)
    total = sum(float(((lot - lot.mean()) ** 2).sum()) for lot in lots)
    low, high = stats.chi2.ppf([0.5 + level / 2, 0.5 - level / 2], freedom)
    return math.sqrt(total / low), math.sqrt(total / high)


