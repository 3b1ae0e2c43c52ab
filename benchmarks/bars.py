"""One line a bar, as every benchmark here prints it, and processor time."""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One bar: met is None where a row is reported and not judged."""

    name: str
    figure: str
    bar: str
    met: bool | None

    def __post_init__(self) -> None:
        if self.met is not None:  # a comparison of arrays gives a truth of another type
            object.__setattr__(self, "met", bool(self.met))

    def __str__(self) -> str:
        """Return the line of the table."""
        word = {True: "met", False: "MISSED", None: "reported"}[self.met]
        return f"{word:<9}{self.name:<46} {self.figure:<48} bar {self.bar}"


def option(name: str, otherwise: str) -> str:
    """Return what follows ``--name`` on the command line."""
    flag = f"--{name}"
    return sys.argv[sys.argv.index(flag) + 1] if flag in sys.argv[:-1] else otherwise


def options(about: str, arguments: list[str], *names: str) -> argparse.Namespace:
    """Return ``--quick`` and the named options; ends on ``--help`` and on an unknown one."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="in under five minutes")
    for name in names:
        parser.add_argument(f"--{name}")
    return parser.parse_args(arguments)


def median_of(work: Callable[[], object], repeats: int) -> float:
    """Return the median processor time of some repeats, in s, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return statistics.median(times)


def paired(
    ours: Callable[[], object], theirs: Callable[[], object], repeats: int, inner: int = 1
) -> tuple[float, float, float]:
    """Return the median ratio of theirs to ours, taken turn by turn, and both medians in s.

    Turns follow each other closely, so that a busy machine slows both alike. `inner` calls of
    ours make one turn, since the clock of processor time is coarse.
    """
    ours()
    theirs()
    mine, other = [], []
    for _ in range(repeats):
        begun = time.process_time()
        theirs()
        middle = time.process_time()
        for _ in range(inner):
            ours()
        ended = time.process_time()
        other.append(middle - begun)
        mine.append((ended - middle) / inner)
    ratios = [b / max(a, 1e-9) for a, b in zip(mine, other, strict=True)]
    return statistics.median(ratios), statistics.median(mine), statistics.median(other)
