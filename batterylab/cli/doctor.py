"""`batterylab doctor`: what this machine has and lacks; paste it into a bug report."""

import click

#: packages that every part needs, and what each optional one is for
NEEDED = (
    "numpy", "scipy", "pandas", "pybamm", "h5py", "pyvisa", "pyvisa-py", "pydantic",
    "ruamel.yaml", "click", "rich", "matplotlib", "typst", "openpyxl", "fastnda",
)  # fmt: skip
KERNELS = (
    "_cellsim", "_circuit", "_dfn", "_dfnsim", "_impedance", "_ocv", "_packs", "_record", "_spm",
)  # fmt: skip
OPTIONAL = {"galvani": "gpl-readers", "yadg": "gpl-readers"}


def findings() -> dict[str, dict[str, str]]:
    """Return versions of everything that matters, by part."""
    import importlib
    import importlib.metadata
    import platform

    from batterylab import __version__

    def version(name: str) -> str:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return "missing"

    def kernel(name: str) -> str:
        try:
            importlib.import_module(f"batterylab._kernels.{name}")
        except ImportError as error:
            return f"missing: {error}"
        return "built"

    return {
        "system": {
            "batterylab": __version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
        },
        "packages": {name: version(name) for name in NEEDED},
        "optional": {
            name: found if (found := version(name)) != "missing"
            else f"missing; pip install 'batterylab[{extra}]'"
            for name, extra in OPTIONAL.items()
        },
        "kernels": {name: kernel(name) for name in KERNELS},
    }  # fmt: skip


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def doctor(as_json: bool) -> None:
    """Say what this machine has and lacks."""
    from batterylab.cli import echo_json
    from batterylab.errors import EnvironmentFailedError

    found = findings()
    if as_json:
        echo_json(found)
    else:
        for part, lines in found.items():
            click.echo(part)
            for name, value in lines.items():
                click.echo(f"  {name:<12} {value}")
    lacking = [
        name for part in ("packages", "kernels") for name, value in found[part].items()
        if value.startswith("missing")
    ]  # fmt: skip
    if lacking:
        raise EnvironmentFailedError(
            f"lacking: {', '.join(lacking)}", hint="install batterylab again with pip"
        )
