"""A study of the bench itself: some cells on several channels, repeatedly, one capacity step.

What differs between channels and between repeats of the same cell is the bench's own scatter;
`batterylab score` takes it out of the spread of the cells.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from batterylab.bench.allot import gauge_rounds
from batterylab.bench.benchfile import BenchFile
from batterylab.bench.clock import listening
from batterylab.bench.guard import GuardProcess
from batterylab.bench.loading import Hands, Loader
from batterylab.bench.session import run_protocol
from batterylab.bench.setup import Bench
from batterylab.errors import BatterylabError, SafetyStopError
from batterylab.study import Study


def choose(study: Study, file: BenchFile) -> tuple[list[str], list[str]]:
    """Return the gauge study's cells and channels, spread over lots and blocks.

    Raises
    ------
    BatterylabError
        If the study has no gauge part, or too few cells or channels.
    """
    gauge = study.definition.gauge
    if gauge is None:
        raise BatterylabError("study.yaml has no gauge part", hint="gauge: {protocol: …, cells: 6}")
    lots: dict[tuple[str, str], list[str]] = {}
    for cell in study.cells.values():
        lots.setdefault((cell.supplier, cell.lot), []).append(cell.serial)
    blocks: dict[str, list[str]] = {}
    for entry in file.channels.values():
        blocks.setdefault(entry.block, []).append(entry.name)
    cells = _in_turn(list(lots.values()))[: gauge.cells]
    channels = _in_turn(list(blocks.values()))[: gauge.channels]
    if len(cells) < gauge.cells or len(channels) < gauge.channels:
        raise BatterylabError(
            f"the gauge part wants {gauge.cells} cells on {gauge.channels} channels, "
            f"there are {len(study.cells)} and {len(file.channels)}"
        )
    return cells, channels


def _in_turn(groups: Sequence[Sequence[str]]) -> list[str]:
    """Return one of each group, then the next of each."""
    longest = max((len(group) for group in groups), default=0)
    return [group[k] for k in range(longest) for group in groups if k < len(group)]


def run_gauge(
    study: Study, operator: str, hands_of: Callable[[Bench], Hands],
    *, report: Callable[[dict[str, Any]], None] | None = None,
) -> list[tuple[Path, str]]:  # fmt: skip
    """Carry the gauge study out: load, run and unload each round.

    Parameters
    ----------
    hands_of : callable
        Returns who moves the cells at an open bench.

    Returns
    -------
    list of (Path, str)
        As `run_protocol`.

    Raises
    ------
    BatterylabError
        If cells are still loaded.
    """
    gauge = study.definition.gauge
    file = BenchFile.open(study.bench_path, study.cell_type)
    cells, channels = choose(study, file)
    if gauge is None or study.log.occupied():
        raise BatterylabError("cells are still loaded", hint="`batterylab unload STUDY` first")
    rounds = gauge_rounds(cells, channels, gauge.repeats)
    done: list[tuple[Path, str]] = []
    guard = GuardProcess(study.path, channels)

    is_safe = True

    def beat() -> str:
        guard.beat()
        return ""

    try:
        for number, seats in enumerate(rounds):
            def tell(data: dict[str, Any], number: int = number) -> None:
                if data.get("phase") == "sealing":
                    guard.rest()
                if report:
                    report({**data, "done": (number + data.get("done", 0.0)) / len(rounds)})

            guard.rest()  # hands take their time
            _move(study, operator, hands_of, file, seats)
            with listening(guard.allow):
                done += run_protocol(
                    study, gauge.protocol, seats, operator, part="gauge", report=tell,
                    should_stop=beat,
                )
            guard.rest()
            _move(study, operator, hands_of, file, None)
    except BatterylabError as error:
        is_safe = not isinstance(error.__cause__, SafetyStopError)
        raise
    finally:
        guard.dismiss(is_safe=is_safe)
    return done


def _move(
    study: Study, operator: str, hands_of: Callable[[Bench], Hands], file: BenchFile,
    seats: dict[str, str] | None,
) -> None:  # fmt: skip
    """Load the cells of a round, or unload all."""
    bench = Bench.open(file, ("cycler", "meter"))
    try:
        loader = Loader(study, bench, hands_of(bench), operator)
        if seats is None:
            for channel in study.log.occupied():
                loader.unload(channel, "next test")
        else:
            for channel, serial in seats.items():
                loader.load(serial, channel, is_checked=False)
    finally:
        bench.close()
