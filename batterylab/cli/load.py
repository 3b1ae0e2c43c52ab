"""`batterylab load` and `unload`: cells and channels."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from batterylab.bench.loading import Hands
    from batterylab.bench.setup import Bench
    from batterylab.study import Study

OPERATOR = click.option("--operator", help="Who does it; default: BATTERYLAB_OPERATOR or login.")
ROLES = ("cycler", "meter")


class AskedHands:
    """A technician who is asked to move cells, and says when it is done."""

    def probe(self, serial: str) -> None:
        """Ask for the meter's pins."""
        click.pause(f"{serial}: put the meter's pins on the cell, then press a key", err=True)

    def insert(self, serial: str, channel: str) -> None:
        """Ask for a cell to be put into a channel."""
        click.pause(f"{serial}: put it into channel {channel}, then press a key", err=True)

    def remove(self, serial: str, channel: str) -> None:
        """Ask for a cell to be taken out."""
        click.pause(f"{serial}: take it out of channel {channel}, then press a key", err=True)


@contextmanager
def _open_bench(study: "Study") -> Iterator[tuple["Bench", "Hands"]]:
    from batterylab.bench.benchfile import BenchFile
    from batterylab.bench.clock import BenchClock
    from batterylab.bench.loading import ScriptedHands
    from batterylab.bench.process import hold_bench
    from batterylab.bench.setup import Bench

    file = BenchFile.open(study.bench_path, study.cell_type)
    with hold_bench(study):
        bench = Bench.open(file, ROLES)
        clock = bench.clock
        try:
            yield bench, ScriptedHands(clock) if isinstance(clock, BenchClock) else AskedHands()
        finally:
            bench.close()


@click.command()
@click.argument("folder", metavar="STUDY", type=click.Path(path_type=Path))
@click.option("--seed", default=1, show_default=True, help="Of the random allotment.")
@click.option("--all", "take_all", is_flag=True, help="Load every cell without scanning it.")
@OPERATOR
def load(folder: Path, seed: int, take_all: bool, operator: str | None) -> None:
    """Bind cells to channels: scan a serial, and the bench says where it goes.

    Channels are allotted at random within blocks of module and shelf, balanced over supplier
    and lot. Polarity, OCV and AC resistance are checked before a cell is accepted. On a
    simulated bench a scripted technician loads all cells.
    """
    from batterylab.bench.allot import allot
    from batterylab.bench.clock import BenchClock
    from batterylab.bench.loading import Loader
    from batterylab.errors import BatterylabError
    from batterylab.study import Study
    from batterylab.studylog import operator_name

    study = Study.open(folder)
    with _open_bench(study) as (bench, hands):
        loader = Loader(study, bench, hands, operator_name(operator))
        occupied = study.log.occupied()
        waiting = [cell for cell in study.cells.values() if cell.serial not in occupied.values()]
        free = [entry for name, entry in bench.file.channels.items() if name not in occupied]
        seats = {serial: ch for ch, serial in allot(waiting[: len(free)], free, seed).items()}
        if not seats:
            raise BatterylabError("no cell is left to load, or no channel is free")
        study.log.append("allot", loader.operator, seed=seed,
                         channels={ch: serial for serial, ch in seats.items()})  # fmt: skip
        if take_all or isinstance(bench.clock, BenchClock):
            for serial, channel in seats.items():
                _say(loader.load(serial, channel))
        else:
            _scan(loader, seats)
    click.echo(f"{len(study.log.occupied())} channels hold a cell; next: batterylab run {folder}",
               err=True)  # fmt: skip


def _say(data: dict[str, object]) -> None:
    reading = ""
    if "ocv_V" in data:
        reading = f"  {data['ocv_V']:.4f} V  {data['ac_resistance_mOhm']:.3f} mOhm"
    click.echo(f"{data['serial']:<16} {data['channel']:<8}{reading}")


def _scan(loader: "object", seats: dict[str, str]) -> None:
    """Take serials from a barcode reader or the keyboard until an empty line."""
    from batterylab.bench.loading import Loader
    from batterylab.errors import BatterylabError

    assert isinstance(loader, Loader)  # noqa: S101
    while seats:
        serial = click.prompt("scan a cell (empty ends)", default="", show_default=False, err=True)
        serial = serial.strip()
        if not serial:
            return
        if serial not in seats:
            known = "loaded already" if serial in loader.study.cells else "not in cells.csv"
            click.echo(f"{serial}: {known}", err=True)
            continue
        try:
            _say(loader.load(serial, seats[serial]))
            del seats[serial]
        except BatterylabError as error:
            click.echo(f"refused: {error}", err=True)


@click.command()
@click.argument("folder", metavar="STUDY", type=click.Path(path_type=Path))
@click.argument("channels", metavar="[CHANNEL]...", nargs=-1)
@click.option("--fate", default="stored", show_default=True, help="What becomes of the cell.")
@OPERATOR
def unload(folder: Path, channels: tuple[str, ...], fate: str, operator: str | None) -> None:
    """Take cells out of their channels, all or some, and note what becomes of them."""
    from batterylab.bench.loading import Loader
    from batterylab.study import Study
    from batterylab.studylog import operator_name

    study = Study.open(folder)
    with _open_bench(study) as (bench, hands):
        loader = Loader(study, bench, hands, operator_name(operator))
        for channel in channels or tuple(study.log.occupied()):
            data = loader.unload(channel, fate)
            click.echo(f"{data['serial']:<16} {channel:<8} {fate}")
