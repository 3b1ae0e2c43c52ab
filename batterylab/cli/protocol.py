"""`batterylab protocol`: list, show, check, simulate, convert protocols, and plan with them."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from datetime import datetime

    from batterylab.cells import CellType
    from batterylab.protocol import Resolved
    from batterylab.recording import Recording

STUDY = click.option(
    "--study", type=click.Path(path_type=Path), help="Take the cell type and protocols of a study."
)


@click.group()
def protocol() -> None:
    """List, show, check, simulate and convert protocols; plan a study."""


def _cell_type(
    study: Path | None, parameters: str = "Chen2020"
) -> tuple["CellType", list[Path]]:
    """Return the study's cell type and protocol folder, or those of an example of 5 Ah.

    The example has the voltage window of a parameter set.
    """
    from batterylab.cells import CellType
    from batterylab.study import Study

    if study is not None:
        opened = Study.open(study)
        return opened.cell_type, [opened.protocols_folder]
    low_V, high_V = 2.5, 4.2
    if parameters != "Chen2020":
        from batterylab.fit.celltables import cell_tables

        numbers = cell_tables(parameters).numbers
        low_V, high_V = numbers["voltage_min_V"], numbers["voltage_max_V"]
    return CellType.model_validate({
        "name": "example", "nominal_capacity": "5 Ah", "rated_capacity": "5 Ah",
        "voltage": {"min": f"{low_V:g} V", "max": f"{high_V:g} V"},
        "current": {"max_charge": "10 A", "max_discharge": "15 A"},
        "temperature": {"min": "-30 degC", "max": "60 degC"}, "chemistry": "NMC",
    }), []  # fmt: skip


@protocol.command("list")
@STUDY
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def list_(study: Path | None, as_json: bool) -> None:
    """List the protocols that can be found."""
    from batterylab.cli import echo_json
    from batterylab.protocol import load, names

    _, search = _cell_type(study)
    found = {name: load(name, search).file for name in names(search)}
    if as_json:
        echo_json([{"name": n, "description": f.description, "basis": f.basis}
                   for n, f in found.items()])  # fmt: skip
        return
    for name, file in found.items():
        click.echo(f"{name:<28} {file.description}")


@protocol.command()
@click.argument("name", metavar="P")
@STUDY
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def show(name: str, study: Path | None, as_json: bool) -> None:
    """Show protocol P in plain numbers for a cell type (5 Ah if no study is given)."""
    from batterylab.cli import echo_json
    from batterylab.protocol import load
    from batterylab.protocol.spoken import describe, stop_text

    kind, search = _cell_type(study)
    found = load(name, search)
    resolved = found.resolve(kind)
    data = {
        **resolved.to_dict(),
        "figures": [vars(figure) for figure in found.file.figures],
        "does_not_cover": found.file.does_not_cover,
        "expected_h": resolved.expected_s() / 3600,
        "longest_h": resolved.longest_s() / 3600,
    }
    if as_json:
        echo_json(data)
        return
    click.echo(f"{resolved.name} for {kind.name}, {kind.nominal_capacity_Ah:g} Ah")
    if resolved.basis:
        click.echo(f"basis: {resolved.basis}")
    if resolved.temperature_degC is not None:
        click.echo(f"chamber: {resolved.temperature_degC:g} ± {resolved.within_K:g} °C, "
                   f"soak {resolved.soak_s / 3600:g} h")  # fmt: skip
    for stop in resolved.stops:
        click.echo(stop_text(stop))
    for line in describe(resolved.nodes, resolved.stops):
        click.echo(line)
    click.echo(_length(resolved))
    for figure in data["figures"]:
        click.echo(f"figure {figure['mark']}: {figure['what']}: {figure['value']}")
    for text in data["does_not_cover"]:
        click.echo(f"does not cover: {text}")


def _length(resolved: "Resolved") -> str:
    expected, longest = resolved.expected_s() / 3600, resolved.longest_s() / 3600
    return f"about {expected:.1f} h, at most {longest:.1f} h, without soak"


@protocol.command()
@click.argument("name", metavar="P")
@STUDY
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def check(name: str, study: Path | None, as_json: bool) -> None:
    """Find every mistake in protocol P, and prove what can be proved before a cell is touched.

    With --study, P is also held against the study's bench: limits, ranges, modes, sample rates.

    \b
    Examples:
      batterylab protocol check capacity_resistance
      batterylab protocol check my_test.yaml --study my-study
    """  # noqa: D301
    from batterylab.bench.abilities import abilities_in
    from batterylab.cli import echo_json
    from batterylab.protocol import load
    from batterylab.protocol.check import check as prove
    from batterylab.protocol.spoken import stop_text

    kind, search = _cell_type(study)
    resolved = load(name, search).resolve(kind)
    found = prove(resolved, abilities_in(study) if study else None)
    if as_json:
        echo_json(found.to_dict())
        found.raise_problems()
        return
    found.raise_problems()
    click.echo(f"{resolved.name}: no mistake found; {_length(resolved)}")
    click.echo(f"every step ends; at most {found.most_steps} steps, {found.sequences} sequences "
               "on a cycler that has them")  # fmt: skip
    for stop in resolved.stops:
        click.echo(f"in every step: {stop_text(stop)}")
    for step in found.steps:
        line = step.where.partition(" ")[0]
        click.echo(f"{line:<24} {_hms(step.longest_s):>10} {step.most_Ah:9.4g} Ah  {step.text}")
        for reason in step.by_host:
            click.echo(f"{'':<24} {'':>10} {'':>9}     host: {reason}")


def _hms(seconds: float) -> str:
    """Return a length as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


@protocol.command()
@click.option("--out", "-o", metavar="FILE", type=click.Path(path_type=Path),
              help="Write here instead of on the screen.")
def schema(out: Path | None) -> None:
    """Print the JSON Schema of protocol files, for editors.

    \b
    Example:
      batterylab protocol schema -o protocol.schema.json
    """  # noqa: D301
    import json

    from batterylab.protocol.schema import json_schema

    text = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    if out:
        from batterylab.report.files import put

        click.echo(put(out, text.encode()))
    else:
        click.echo(text, nl=False)


@protocol.command()
@click.argument("name", metavar="P")
@STUDY
@click.option("--parameters", default="Chen2020", show_default=True,
              help="PyBaMM's parameter set, scaled to the cell type.")
@click.option("--model", type=click.Choice(["spm", "spme", "dfn"]), default="spme",
              show_default=True, help="Single particle, with electrolyte, or Doyle-Fuller-Newman.")
@click.option("--engine", type=click.Choice(["own", "pybamm"]), default="own", show_default=True,
              help="Our kernel, or PyBaMM on a refined mesh.")
@click.option("--cooling", type=float, default=1.0, show_default=True,
              help="How much better the fixture takes the heat than still air.")
@click.option("--soc", default="30 %", show_default=True, help="State of charge at the start.")
@click.option("--serial", default="simulated", show_default=True, help="What the cell is called.")
@click.option("--out", "-o", metavar="ARCHIVE", type=click.Path(path_type=Path),
              help="Seal the recording into this archive.")
@click.option("--plot", "picture", metavar="FILE", type=click.Path(path_type=Path),
              help="Draw it: .png, .svg or .pdf.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def simulate(
    name: str, study: Path | None, parameters: str, model: str, engine: str, cooling: float,
    soc: str, serial: str, out: Path | None, picture: Path | None, as_json: bool,
) -> None:
    """Carry protocol P out on a simulated cell: a recording like any other.

    \b
    Examples:
      batterylab protocol simulate iso_12405_4_hppc --plot hppc.png
      batterylab protocol simulate gitt --parameters Ecker2015 --engine pybamm --out archive
    """  # noqa: D301
    from batterylab.archive import write
    from batterylab.cli import echo_json
    from batterylab.errors import NotMetError
    from batterylab.protocol import load
    from batterylab.protocol.simulate import simulate as carry_out
    from batterylab.quantity import parse_as

    kind, search = _cell_type(study, parameters)
    resolved = load(name, search).resolve(kind)
    with _share("simulating") as report:
        recording = carry_out(
            resolved, parameter_set=parameters, engine=engine, model=model, cooling=cooling,
            serial=serial,
            soc=parse_as(soc, "percent") / 100, report=report,
        )  # fmt: skip
    files = [write(recording, out)] if out else []
    if picture:
        from batterylab.report.plot import plot

        files.append(Path(plot(recording, picture)))
    data = _simulated(recording, files)
    if as_json:
        echo_json(data)
    else:
        _echo_simulated(data)
    if data["ended"] != "complete":
        raise NotMetError(f"{resolved.name}: {data['ended']}")


@contextmanager
def _share(what: str) -> Iterator[Callable[[float], None]]:
    """Show on a terminal which share of something is done."""
    shows = sys.stderr.isatty()

    def report(share: float) -> None:
        if shows:
            click.echo(f"\r{what}: {100 * share:.0f} %", nl=False, err=True)

    yield report
    if shows:
        click.echo("\r\033[K", nl=False, err=True)


def _simulated(recording: "Recording", files: list[Path]) -> dict[str, Any]:
    """Return what a simulation gave, as numbers for scripts."""
    import math

    from batterylab.features import features_of

    provenance = recording.provenance
    charge_Ah = recording.columns["net_capacity_Ah"]
    return {
        "protocol": recording.protocol,
        "engine": provenance["engine"],
        "model": provenance["model"],
        "parameters": provenance["parameters"],
        "ended": provenance["ended"],
        "remarks": provenance["remarks"],
        "duration_h": float(recording.columns["test_time_s"][-1]) / 3600,
        "rows": len(recording),
        "steps": [
            {"label": s.label, "kind": s.kind, "measure": s.measure, "ended_by": s.ended_by,
             "duration_s": s.duration_s,
             "charge_Ah": float(charge_Ah[s.last_row]
                                - (charge_Ah[s.first_row - 1] if s.first_row else 0.0))}
            for s in recording.steps
        ],
        "features": [
            {"feature": f.name, "value": f.value, "unit": f.unit}
            for f in features_of(recording) if math.isfinite(f.value)
        ],
        "files": [str(file) for file in files],
    }


def _echo_simulated(data: dict[str, Any]) -> None:
    click.echo(f"{data['protocol']}: {data['duration_h']:.1f} h, {len(data['steps'])} steps, "
               f"{data['rows']} rows, {data['engine']} engine, {data['model']}, "
               f"{data['parameters']}")
    for feature in data["features"]:
        click.echo(f"  {feature['feature']:<28} {feature['value']:.5g} {feature['unit']}")
    for text in [*data["remarks"], *data["files"]]:
        click.echo(text)


@protocol.command()
@click.argument("name", metavar="P")
@STUDY
@click.option("--to", "target", required=True, metavar="TARGET",
              help="pybamm, unicycler, neware, biologic, maccor, arbin or keysight.")
@click.option("--watched-elsewhere", "watched", multiple=True, metavar="LIMIT",
              help="A safety limit that you watch by other means: temperature. Repeatable.")
@click.option("--out", "-o", metavar="FILE", type=click.Path(path_type=Path),
              help="Write here instead of on the screen.")
def convert(
    name: str, study: Path | None, target: str, watched: tuple[str, ...], out: Path | None
) -> None:
    """Write protocol P for another program or cycler, and report what is lost.

    \b
    Examples:
      batterylab protocol convert gitt --to pybamm > gitt.json
      batterylab protocol convert gitt --to neware --watched-elsewhere temperature -o gitt.xml
    """  # noqa: D301
    from batterylab.protocol import load
    from batterylab.protocol.convert import convert as write_for

    kind, search = _cell_type(study)
    written = write_for(load(name, search).resolve(kind), target, watched)
    if out:
        from batterylab.report.files import put

        click.echo(put(out, written.text.encode()))
    else:
        click.echo(written.text, nl=False)
    for loss in written.losses:
        click.echo(f"lost: {loss}", err=True)


@protocol.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="What the protocol shall be called.")
@click.option("--out", "-o", metavar="FILE", type=click.Path(path_type=Path),
              help="Write here instead of on the screen.")
def import_(file: Path, name: str, out: Path | None) -> None:
    """Read FILE, a JSON of PyBaMM sentences or of aurora-unicycler, as a protocol.

    \b
    Example:
      batterylab protocol import cycling.json --name cycling -o protocols/cycling.yaml
    """  # noqa: D301
    from batterylab.protocol.convert.read import read_protocol

    text = read_protocol(file, name)
    if out:
        from batterylab.report.files import put

        click.echo(put(out, text.encode()))
    else:
        click.echo(text, nl=False)


@protocol.command()
@click.argument("study", metavar="STUDY", type=click.Path(path_type=Path))
@click.option("--channels", type=click.IntRange(1, 100000), help="Instead of the bench's.")
@click.option("--cells", type=click.IntRange(1, 1000000), help="Instead of those in cells.csv.")
@click.option("--changeover", default="1 h", show_default=True, help="To change a batch of cells.")
@click.option("--attended", is_flag=True, help="Batches begin on weekdays, 8:00 to 17:00 UTC.")
@click.option("--start", metavar="DATE", type=click.DateTime(), help="Of the calendar, UTC.")
@click.option("--parameters", default="Chen2020", show_default=True, metavar="SET",
              help="Of the simulated cell whose durations count: a full-cell set of PyBaMM.")
@click.option("--packs", type=float, metavar="N", help="Packs a week: how many channels is that?")
@click.option("--lot", type=click.IntRange(2), default=1000, show_default=True,
              help="Cells of one lot, for --packs.")
@click.option("--out", "-o", metavar="FILE.svg", type=click.Path(path_type=Path),
              help="Draw the calendar.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def plan(
    study: Path, channels: int | None, cells: int | None, changeover: str, attended: bool,
    start: "datetime | None", parameters: str, packs: float | None, lot: int, out: Path | None,
    as_json: bool,
) -> None:
    """Plan STUDY: hours a cell, channel-hours, batches, calendar, channels for a delivery.

    \b
    Examples:
      batterylab protocol plan my-study --out plan.svg
      batterylab protocol plan my-study --packs 50 --lot 2000
    """  # noqa: D301
    from datetime import UTC

    from batterylab.cli import echo_json
    from batterylab.protocol.plan import delivery, gantt_svg
    from batterylab.protocol.plan import plan as make
    from batterylab.quantity import parse_as
    from batterylab.study import Study

    made = make(
        Study.open(study), channels=channels, cells=cells, attended=attended,
        changeover_h=parse_as(changeover, "duration_s") / 3600,
        start=start.replace(tzinfo=UTC) if start else None, parameter_set=parameters,
    )
    data = made.to_dict()
    if packs is not None:
        data["delivery"] = {"packs_per_week": packs, "cells_per_lot": lot,
                            "options": delivery(made, packs, lot)}
    if as_json:
        echo_json(data)
    else:
        _echo_plan(data)
    if out:
        from batterylab.errors import BatterylabError
        from batterylab.report.files import put

        if out.suffix != ".svg":
            raise BatterylabError(f"{out}: the calendar is an SVG picture", hint="--out plan.svg")
        click.echo(put(out, gantt_svg(made).encode()), err=as_json)


def _echo_plan(data: dict[str, Any]) -> None:
    places = ", ".join(f"{c['channels']} in {c['name'] or 'none'}" for c in data["chambers"])
    several = f", by chamber: {places}" if len(data["chambers"]) > 1 else ""
    click.echo(f"{data['study']}: {data['cells']} cells on {data['channels']} channels{several}")
    for one in data["protocols"]:
        click.echo(f"  {one['name']:<26} {one['hours']:7.1f} h + {one['soak_h']:.1f} h soak, "
                   f"at most {one['longest_h']:.1f} h   ({one['source']})")
    batches = "1 batch" if data["batches"] == 1 else f"{data['batches']} batches"
    click.echo(
        f"a cell takes a channel for {data['hours_per_cell']:.1f} h; {data['channel_hours']:.0f} "
        f"channel-hours in {batches}; {data['cells_per_week']:.0f} cells a week"
    )
    if data["gauge_rounds"]:
        click.echo(f"the bench itself is measured first: {data['gauge_rounds']} rounds, "
                   f"{data['gauge_channel_hours']:.0f} channel-hours")
    click.echo(f"from {data['start']} to {data['end']}: {data['days']:.1f} days")
    for option in data.get("delivery", {}).get("options", []):
        which = "every cell" if option["per_lot"] is None else f"{option['per_lot']} cells a lot"
        click.echo(f"  {'+'.join(option['protocols'])}, {which}: {option['channels']} channels"
                   f"{'' if option['fits'] else ' (more than there are)'}")
