"""`batterylab protocol`: list, show and check protocols."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from batterylab.cells import CellType
    from batterylab.protocol import Resolved

STUDY = click.option(
    "--study", type=click.Path(path_type=Path), help="Take the cell type and protocols of a study."
)


@click.group()
def protocol() -> None:
    """List, show and check protocols."""


def _cell_type(study: Path | None) -> tuple["CellType", list[Path]]:
    """Return the study's cell type and protocol folder, or an example's."""
    from batterylab.cells import CellType
    from batterylab.study import Study

    if study is not None:
        opened = Study.open(study)
        return opened.cell_type, [opened.protocols_folder]
    return CellType.model_validate({
        "name": "example", "nominal_capacity": "5 Ah", "rated_capacity": "5 Ah",
        "voltage": {"min": "2.5 V", "max": "4.2 V"},
        "current": {"max_charge": "5 A", "max_discharge": "10 A"},
        "temperature": {"min": "0 degC", "max": "45 degC"}, "chemistry": "NMC",
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
        click.echo(f"{name:<24} {file.description}")


@protocol.command()
@click.argument("name", metavar="P")
@STUDY
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def show(name: str, study: Path | None, as_json: bool) -> None:
    """Show protocol P in plain numbers for a cell type (5 Ah if no study is given)."""
    from batterylab.cli import echo_json
    from batterylab.protocol import load

    kind, search = _cell_type(study)
    resolved = load(name, search).resolve(kind)
    data = {
        **resolved.to_dict(),
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
    _echo_nodes(data["nodes"], 0)
    click.echo(_length(resolved))


def _length(resolved: "Resolved") -> str:
    expected, longest = resolved.expected_s() / 3600, resolved.longest_s() / 3600
    return f"about {expected:.1f} h, at most {longest:.1f} h, without soak"


def _echo_nodes(nodes: list[dict[str, Any]], depth: int) -> None:
    indent = "  " * depth
    for node in nodes:
        if node["type"] == "step":
            click.echo(indent + _step_line(node))
        elif node["type"] == "repeat":
            click.echo(f"{indent}{node['times']} times:")
            _echo_nodes(node["body"], depth + 1)
        else:
            click.echo(
                f"{indent}until the last {node['last']} {node['measure']} lie within "
                f"{node['within_Ah']:.4g} Ah, at most {node['at_most']} times:"
            )
            _echo_nodes(node["body"], depth + 1)


def _step_line(step: dict[str, Any]) -> str:
    if step["kind"] == "rest":
        return f"rest       {step['duration_s']} s"
    text = f"{step['kind']:<10} {step['current_A']:+.4g} A"
    if step["to_soc_percent"] is not None:
        text += f" to {step['to_soc_percent']:g} % SOC"
    elif not step["is_fixed"]:
        text += f" to {step['voltage_V']:g} V"
    if step["hold_until_A"] is not None:
        text += f", hold until {step['hold_until_A']:.4g} A"
    text += f", {'for' if step['is_fixed'] else 'at most'} {step['duration_s']} s"
    return text + (f"   -> {step['measure']}" if step["measure"] else "")


@protocol.command()
@click.argument("name", metavar="P")
@STUDY
def check(name: str, study: Path | None) -> None:
    """Find every mistake in protocol P: a name or a file."""
    from batterylab.protocol import load

    kind, search = _cell_type(study)
    resolved = load(name, search).resolve(kind)
    click.echo(f"{resolved.name}: no mistake found; {_length(resolved)}")
