"""The bench against its bars: kills, faults, limits, links, speed. One line a bar, a summary last.

Everything runs on simulated benches of this machine: the instruments in a process of their own,
runner and guard as on a real bench. Exit code 1 if a bar is missed.

    python benchmarks/faults.py [--quick] [--only PART[,PART]] [--json FILE]
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import faults_injected
import faults_kills
import faults_speed
from bars import Line

Part = Callable[[bool], Iterator[Line]]

PARTS: dict[str, Part] = {
    "links": lambda is_quick: faults_speed.links(20 if is_quick else 200),
    "kills": lambda is_quick: faults_kills.kills(5 if is_quick else 500),
    "processes": lambda _: faults_kills.processes(),
    "clock": lambda _: faults_kills.clock_jumps(),
    "limits": lambda is_quick: faults_injected.reactions(2 if is_quick else 20),
    "faults": faults_injected.in_a_run,
    "virtual": faults_speed.virtual_time,
    "real": faults_speed.real_time,
    "fast": faults_speed.fast,
}


def measured(part: Part, name: str, is_quick: bool) -> Iterator[Line]:
    """Yield the lines of a part; one that breaks is a bar that is missed."""
    try:
        yield from part(is_quick)
    except Exception as error:  # the other parts still tell something
        text = " ".join(str(error).split())
        yield Line(name, f"{type(error).__name__}: {text[:200]}", "to be measured", False)


def main() -> int:
    """Print the lines; return the exit code."""
    is_quick = "--quick" in sys.argv
    chosen = list(PARTS)
    if "--only" in sys.argv:
        chosen = sys.argv[sys.argv.index("--only") + 1].split(",")
        unknown = [name for name in chosen if name not in PARTS]
        if unknown:
            print(f"unknown part {unknown[0]!r}; known: {', '.join(PARTS)}", file=sys.stderr)
            return 2
    began = time.monotonic()
    lines = []
    for name in chosen:
        for line in measured(PARTS[name], name, is_quick):
            print(line, flush=True)
            lines.append(line)
    missed = [line.name.strip() for line in lines if line.met is False]
    judged = sum(line.met is not None for line in lines)
    if "--json" in sys.argv:
        path = Path(sys.argv[sys.argv.index("--json") + 1])
        path.write_text(json.dumps([asdict(line) for line in lines], indent=2), encoding="utf-8")
    print(f"{judged - len(missed)} of {judged} bars met in {time.monotonic() - began:.0f} s"
          + (f"; missed: {', '.join(missed)}" if missed else ""))  # fmt: skip
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
