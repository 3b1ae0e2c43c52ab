"""All kernels of the fits against their bars: one line a bar, a summary last.

Exit code 1 if a bar is missed. Peers are timed in the same run on the same data; PyBOP runs in an
environment of its own, whose Python BATTERYLAB_PEERS names (`make benchmark` makes it). Lines that
are not judged are reported.

    python benchmarks/fits.py [--quick] [--only PART[,PART]] [--json FILE]

Parts: accuracy, derivatives, speed, fits (together: spm), recovery, bias, threads, archive
(together: batch), dfn, eis. Of the full sizes `--sets Chen2020,Ecker2015` takes some sets of
`accuracy`, `--draws 1000` that many of `recovery`, `--cells 10000` an archive of that size.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from bars import Line, options

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # one core for either side; numpy is imported later

#: part -> module and function of its lines
PARTS = {
    "accuracy": ("fits_spm", "accuracy"),
    "derivatives": ("fits_spm", "derivatives"),
    "speed": ("fits_spm", "speed"),
    "fits": ("fits_spm", "fits"),
    "recovery": ("fits_batch", "recovery"),
    "bias": ("fits_bias", "bias"),
    "threads": ("fits_bias", "threads"),
    "archive": ("fits_batch", "batch"),
    "dfn": ("fits_dfn", "dfn_lines"),
    "eis": ("fits_eis", "eis_lines"),
}
#: name -> parts that belong together
GROUPS = {
    "spm": ["accuracy", "derivatives", "speed", "fits"],
    "batch": ["recovery", "bias", "threads", "archive"],
}


def lines(parts: list[str], is_quick: bool) -> Iterator[Line]:
    """Yield the lines of the parts that are there."""
    from batterylab.errors import BatterylabError

    for part in parts:
        module, function = PARTS[part]
        if find_spec(module) is None:
            yield Line(part, "its benchmark is not here", "-", None)
            continue
        try:
            yield from getattr(import_module(module), function)(is_quick)
        except BatterylabError as error:
            yield Line(part, str(error)[:60], "-", False)


def main(arguments: list[str]) -> int:
    """Print one line a bar and return the exit code."""
    asked = options(__doc__ or "", arguments, "only", "json", "sets", "draws", "cells")
    from batterylab.pybamm_border import parameter_values

    parameter_values("Chen2020")  # imports PyBaMM before any clock runs
    wanted = (asked.only or ",".join(PARTS)).split(",")
    chosen = [part for name in wanted for part in GROUPS.get(name, [name])]
    unknown = [part for part in chosen if part not in PARTS]
    if unknown:
        print(f"no part {', '.join(unknown)}; there are {', '.join([*PARTS, *GROUPS])}")
        return 2
    found = []
    for line in lines(chosen, asked.quick):
        print(line, flush=True)
        found.append(line)
    missed = sum(line.met is False for line in found)
    met = sum(line.met is True for line in found)
    print(f"{met} met, {missed} missed, {len(found) - met - missed} reported")
    if asked.json:
        text = json.dumps([asdict(line) for line in found], indent=1)
        Path(asked.json).write_text(text + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
