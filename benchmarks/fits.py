"""All kernels of the fits against their bars: one line a bar, a summary last.

Exit code 1 if a bar is missed. Peers are timed in the same run on the same data; PyBOP runs in an
environment of its own, whose Python BATTERYLAB_PEERS names (`make benchmark` makes it). Lines that
are not judged are reported.

    python benchmarks/fits.py [--quick] [--only spm,batch,dfn,eis] [--json FILE]
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from bars import Line

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # one core for either side; numpy is imported later

#: part -> module and function of its lines
PARTS = {
    "spm": ("fits_spm", "spm_lines"),
    "batch": ("fits_batch", "batch_lines"),
    "dfn": ("fits_dfn", "dfn_lines"),
    "eis": ("fits_eis", "eis_lines"),
}


def lines(parts: list[str], is_quick: bool) -> Iterator[Line]:
    """Yield the lines of the parts that are there."""
    for part in parts:
        module, function = PARTS[part]
        if find_spec(module) is None:
            yield Line(part, "its benchmark is not here", "-", None)
            continue
        yield from getattr(import_module(module), function)(is_quick)


def main(arguments: list[str]) -> int:
    """Print one line a bar and return the exit code."""
    from batterylab.pybamm_border import parameter_values

    parameter_values("Chen2020")  # imports PyBaMM before any clock runs
    chosen = list(PARTS)
    if "--only" in arguments:
        chosen = arguments[arguments.index("--only") + 1].split(",")
    found = []
    for line in lines(chosen, "--quick" in arguments):
        print(line, flush=True)
        found.append(line)
    missed = sum(line.met is False for line in found)
    met = sum(line.met is True for line in found)
    print(f"{met} met, {missed} missed, {len(found) - met - missed} reported")
    if "--json" in arguments:
        path = Path(arguments[arguments.index("--json") + 1])
        path.write_text(json.dumps([asdict(line) for line in found], indent=1) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
