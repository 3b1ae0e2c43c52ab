"""`batterylab bench`: check or simulate a bench of instruments."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from batterylab.bench.benchfile import BenchFile
    from batterylab.study import Study

PLACE = click.argument("place", metavar="BENCH", type=click.Path(path_type=Path))


def _open(place: Path) -> tuple["BenchFile", "Study | None"]:
    """Return the bench file of a study's folder, or a file by itself."""
    from batterylab.bench.benchfile import BenchFile
    from batterylab.errors import BatterylabError
    from batterylab.study import Study

    if place.is_dir():
        study = Study.open(place)
        if not study.bench_path.exists():
            raise BatterylabError(f"{place}: there is no bench.yaml here")
        return BenchFile.open(study.bench_path, study.cell_type), study
    return BenchFile.open(place), None


@click.group()
def bench() -> None:
    """Check or simulate a bench; BENCH is a study's folder or a bench.yaml."""


@bench.command()
@PLACE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def check(place: Path, as_json: bool) -> None:
    """Ask every instrument who it is, what it watches by itself, and who can stop it."""
    from dataclasses import asdict

    from batterylab.bench.calibration import refuse_overdue
    from batterylab.bench.check import check_bench
    from batterylab.bench.clock import BenchClock, clock_for
    from batterylab.bench.process import is_running
    from batterylab.cli import echo_json
    from batterylab.errors import EnvironmentFailedError, NotMetError

    file, study = _open(place)
    if study is not None and is_running(study):
        raise EnvironmentFailedError("this study is running", hint="`batterylab status`")
    clock = clock_for(file.clock_address)
    found = check_bench(file, clock)
    if isinstance(clock, BenchClock):
        clock.close()
    if as_json:
        echo_json(asdict(found))
    else:
        for name, text in found.answering.items():
            click.echo(f"{name:<12} {text}")
        for name, held in found.protections.items():
            watched = ", ".join(f"{key} {value:g}" for key, value in held.items())
            click.echo(f"{name:<12} watches {watched or 'nothing'}")
        for text in [*found.overdue.values(), *found.findings]:
            click.echo(text)
    if found.failed:
        raise EnvironmentFailedError("\n".join(found.failed.values()))
    if found.unstoppable:
        raise NotMetError(f"nobody could stop {', '.join(found.unstoppable)}")
    refuse_overdue(file, clock.now())


@bench.command()
@PLACE
@click.option("--real-time", is_flag=True,
              help="Time passes as on the wall, for a bench.yaml without `clock`.")  # fmt: skip
def simulate(place: Path, real_time: bool) -> None:
    """Serve the bench's instruments on this machine until Ctrl-C, with a study's cells."""
    from batterylab.errors import BatterylabError
    from batterylab.simulated.process import run

    _, study = _open(place)
    if study is None or not (study.path / "simulation.yaml").exists():
        raise BatterylabError(
            f"{place}: a simulated bench needs a study with simulation.yaml",
            hint="`batterylab study init DIR` writes one",
        )
    click.echo("the simulated bench starts; it is there once its ports are told; Ctrl-C ends it",
               err=True)  # fmt: skip
    run(study.path, real_time=real_time)


@bench.command()
@PLACE
@click.argument("instrument")
@click.argument("kind")
@click.option("--on", default="", metavar="REGEX", help="Only at a line that contains this.")
@click.option("--times", default=1, show_default=True, help="At how many lines.")
@click.option("--delay", "delay_s", default=0.3, show_default=True, metavar="SECONDS",
              help="How late, or how long busy.")  # fmt: skip
@click.option("--code", default="", help="What stands for a figure (over-range, dead channel).")
@click.option("--channel", type=int, help="Whose relay or leads, of a frame: 101.")
def fault(
    place: Path, instrument: str, kind: str, on: str, times: int, delay_s: float, code: str,
    channel: int | None,
) -> None:  # fmt: skip
    """Let an INSTRUMENT of a simulated bench fail; docs/bench.md lists each KIND of fault.

    late, lost, garbage, "wrong terminator", partial, closed, over-range, "dead channel", busy,
    "power cycle", "local control", "relay stuck", "relay welded", "wrong polarity",
    "open interlock", unplugged.
    """
    more = {} if channel is None else {"channel": channel}
    _ask(place, "fault", instrument=instrument, kind=kind, on=on, times=times, delay_s=delay_s,
         code=code, **more)  # fmt: skip
    click.echo(f"{instrument}: {kind}", err=True)


@bench.command()
@PLACE
@click.argument("instrument")
def mend(place: Path, instrument: str) -> None:
    """Let an INSTRUMENT be well again: plugged in, contacts closed, without faults to come."""
    _ask(place, "mend", instrument=instrument)


def _ask(place: Path, what: str, **arguments: object) -> None:
    from batterylab.simulated.process import control_of

    control = control_of(place if place.is_dir() else place.parent)
    try:
        control.ask(what, **arguments)
    finally:
        control.close()


@bench.command()
@PLACE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def limits(place: Path, as_json: bool) -> None:
    """Show what stops a channel, and how soon."""
    from batterylab.cli import echo_json

    file, _ = _open(place)
    low, high = file.limits.voltage_V
    data: dict[str, Any] = {
        "voltage_min_V": low,
        "voltage_max_V": high,
        "temperature_max_degC": file.limits.temperature_degC,
        "debounce_samples": file.limits.debounce,
        "poll_s": file.poll_s,
        "stale_s": file.stale_s,
        "channels": len(file.channels),
    }
    more: dict[str, Any] = {
        "current_max_A": file.limits.current_A,
        "step_capacity_max_Ah": file.limits.capacity_Ah,
        "voltage_rate_max_V_per_s": file.limits.voltage_rate_V_per_s,
        "temperature_rate_max_K_per_s": file.limits.temperature_rate_K_per_s,
        "interlocks": {name: {"input": each.input, "safe_V": each.safe_V}
                       for name, each in file.text.interlocks.items()} or None,
    }  # fmt: skip
    data |= {key: value for key, value in more.items() if value is not None}
    if as_json:
        echo_json(data)
        return
    click.echo(f"voltage      {low:g} to {high:g} V, watched on board every second")
    click.echo(f"temperature  up to {file.limits.temperature_degC:g} °C, looked at every "
               f"{file.poll_s:g} s")  # fmt: skip
    if file.limits.current_A is not None:
        click.echo(f"current      up to {file.limits.current_A:g} A, besides the cell type's")
    if file.limits.capacity_Ah is not None:
        click.echo(f"a step       moves up to {file.limits.capacity_Ah:g} Ah")
    if file.limits.voltage_rate_V_per_s is not None:
        click.echo(f"dV/dt        up to {1e3 * file.limits.voltage_rate_V_per_s:g} mV/s")
    if file.limits.temperature_rate_K_per_s is not None:
        click.echo(f"dT/dt        up to {60 * file.limits.temperature_rate_K_per_s:g} K/min")
    for name, each in file.text.interlocks.items():
        click.echo(f"interlock    {name}: {each.input} at {each.safe_V[0]:g} to "
                   f"{each.safe_V[1]:g} V")  # fmt: skip
    click.echo(f"no sample    for {file.stale_s:g} s ends the run")
    click.echo(f"debounce     {file.limits.debounce:g} samples")
    click.echo(f"channels     {len(file.channels)}")
