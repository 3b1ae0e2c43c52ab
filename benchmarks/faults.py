"""The bench against its bars: kills, faults, limits, links, speed. One line a bar, a summary last.

Everything runs on simulated benches of this machine: the instruments in a process of their own,
runner and guard as on a real bench. Exit code 1 if a bar is missed.

    python benchmarks/faults.py [--quick] [--only PART[,PART]] [--json FILE]
                                [--keep FILE] [--seconds S]

With ``--keep`` the kills are added to those that a file holds, so that 500 can be made in pieces
of ``--seconds``.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import faults_injected
import faults_kills
import faults_speed
from bars import Line

Part = Callable[[argparse.Namespace], Iterator[Line]]

PARTS: dict[str, Part] = {
    "links": lambda how: faults_speed.links(20 if how.quick else 200),
    "kills": lambda how: faults_kills.kills(6 if how.quick else 500, how.keep, how.seconds),
    "processes": lambda _: faults_kills.processes(),
    "clock": lambda _: faults_kills.clock_jumps(),
    "limits": lambda how: faults_injected.reactions(2 if how.quick else 20),
    "faults": lambda how: faults_injected.in_a_run(how.quick),
    "virtual": lambda how: faults_speed.virtual_time(how.quick),
    "real": lambda how: faults_speed.real_time(how.quick),
    "fast": lambda how: faults_speed.fast(how.quick),
}

#: these wait for processes and for the pace of the wall most of their time: they run side by side,
#: before those whose own speed is the figure
PATIENT = ("kills", "processes", "clock", "limits", "faults")


def options() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--seconds", type=float, default=1e6)
    how = parser.parse_args()
    how.only = how.only.split(",")
    for name in how.only:
        if name not in PARTS:
            parser.error(f"unknown part {name!r}; known: {', '.join(PARTS)}")
    return how


def measured(part: Part, name: str, how: argparse.Namespace) -> Iterator[Line]:
    """Yield the lines of a part; one that breaks is a bar that is missed."""
    try:
        yield from part(how)
    except Exception as error:  # the other parts still tell something
        text = " ".join(str(error).split())
        yield Line(name, f"{type(error).__name__}: {text[:200]}", "to be measured", False)


def one_part(name: str, how: argparse.Namespace) -> tuple[list[Line], float]:
    """Return the lines of a part, and how long it took in s."""
    began = time.monotonic()
    return list(measured(PARTS[name], name, how)), time.monotonic() - began


def told(name: str, lines: list[Line], seconds: float) -> list[Line]:
    """Print the lines of a part."""
    for line in lines:
        print(line, flush=True)
    print(f"{'':9}{name}: {seconds:.0f} s", flush=True)
    return lines


def main() -> int:
    """Print the lines; return the exit code."""
    how = options()
    began = time.monotonic()
    lines = []
    patient = [name for name in how.only if name in PATIENT]
    with ProcessPoolExecutor(max(1, len(patient)), mp_context=get_context("spawn")) as pool:
        for name, (found, seconds) in zip(
            patient, pool.map(one_part, patient, [how] * len(patient)), strict=True
        ):
            lines += told(name, found, seconds)
    for name in how.only:
        if name not in PATIENT:
            lines += told(name, *one_part(name, how))
    missed = [line.name.strip() for line in lines if line.met is False]
    judged = sum(line.met is not None for line in lines)
    if how.json:
        table = json.dumps([asdict(line) for line in lines], indent=2)
        how.json.write_text(table, encoding="utf-8")
    print(f"{judged - len(missed)} of {judged} bars met in {time.monotonic() - began:.0f} s"
          + (f"; missed: {', '.join(missed)}" if missed else ""))  # fmt: skip
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
