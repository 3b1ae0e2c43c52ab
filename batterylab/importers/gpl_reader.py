"""A program of its own: read a BioLogic `.mpr` with galvani or yadg and hand back a table.

``python -m batterylab.importers.gpl_reader FILE.mpr TABLE.npz``. No module of batterylab imports
this one: both readers are under the GPL and are installed by the extra ``gpl-readers``.
Exit codes: 0 written, 1 neither could read the file, 3 neither is installed.
"""

import json
import sys
from datetime import UTC
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

#: yadg keeps units apart from names
_YADG_UNITS = {"time": "s", "Ewe": "V", "<Ewe>": "V", "Ecell": "V", "I": "mA", "<I>": "mA"}


def with_galvani(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return columns under EC-Lab's names and what is known of the file."""
    from galvani.BioLogic import MPRfile

    with open(path, "rb") as stream:  # noqa: PTH123  (galvani wants a stream)
        file = MPRfile(stream)
    columns = {name: file.data[name] for name in file.data.dtype.names}
    about: dict[str, Any] = {"reader": f"galvani {version('galvani')}"}
    stamp = getattr(file, "timestamp", None)
    if stamp is not None:
        about["start_s"] = stamp.replace(tzinfo=UTC).timestamp()
    return columns, about


def with_yadg(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return columns under EC-Lab's names and what is known of the file."""
    import warnings

    from yadg.extractors import extract

    warnings.simplefilter("ignore")
    tree = extract("eclab.mpr", path, timezone="UTC")
    data = tree.to_dataset()
    rows = data.sizes["uts"]
    columns = {}
    for name, values in data.data_vars.items():
        if values.dims == ("uts",) and values.dtype.kind in "fiub":
            unit = values.attrs.get("units") or _YADG_UNITS.get(str(name), "")
            unit = str(unit).replace("mA·h", "mA.h").replace("W·h", "W.h").replace("Ω", "Ohm")
            columns[f"{name}/{unit}" if unit and unit != "1" else str(name)] = values.to_numpy()
    if "time/s" not in columns:
        columns["time/s"] = data["uts"].to_numpy() - float(data["uts"][0])
    about: dict[str, Any] = {"reader": f"yadg {version('yadg')}", "rows": rows}
    settings = json.loads(data.attrs.get("original_metadata", "{}")).get("settings", {})
    about["technique"] = settings.get("technique", "")
    if data.attrs.get("fulldate", 1) != 0:
        about["start_s"] = float(data["uts"][0]) - float(columns["time/s"][0])
    return columns, about


def main(source: str, target: str) -> int:
    """Read `source` with the first reader that can, write `target`, return the exit code."""
    failures = []
    missing = 0
    for read in (with_galvani, with_yadg):
        name = read.__name__.removeprefix("with_")
        try:
            columns, about = read(source)
        except ImportError:
            missing += 1
            continue
        except Exception as error:  # what a broken file makes of a parser cannot be listed
            failures.append(f"{name}: {type(error).__name__}: {error}".replace("\n", " ")[:140])
            continue
        if failures:
            about["remarks"] = [f"{failures[0]}; {name} read the file"]
        arrays: dict[str, Any] = {f"c{n}": values for n, values in enumerate(columns.values())}
        with Path(target).open("wb") as stream:
            np.savez(
                stream, names=np.array(list(columns)), about=np.array(json.dumps(about)), **arrays
            )
        return 0
    if missing == 2:
        sys.stderr.write("neither galvani nor yadg is installed\n")
        return 3
    sys.stderr.write("no reader understands the file: " + "; ".join(failures) + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
