"""BPX files (Battery Parameter eXchange) as PyBaMM's parameters, by way of `bpx`."""

import json
import warnings
from pathlib import Path
from typing import Any

from batterylab.errors import BatterylabError
from batterylab.pybamm_border import pybamm

LARGEST_BYTES = 1 << 26
#: what the models need and a file of BPX's single-particle kind leaves out
NEEDED = ("Negative electrode", "Positive electrode", "Separator", "Electrolyte", "Cell")


def read_bpx(path: Path) -> Any:
    """Return a BPX file as `pybamm.ParameterValues`.

    Parameters
    ----------
    path : Path
        JSON of BPX 0.x or 1.x, with electrolyte and separator, one kind of particle in each
        electrode and one open-circuit potential each.

    Raises
    ------
    BatterylabError
        With the place, if it is not that.
    """
    content = _content(Path(path))
    for part in NEEDED:
        if part not in content.get("Parameterisation", {}):
            raise BatterylabError(f"{path}: Parameterisation has no {part!r}",
                                  hint="the header's model must be SPMe or DFN")  # fmt: skip
    for electrode in ("Negative electrode", "Positive electrode"):
        if "Particle" in content["Parameterisation"][electrode]:
            raise BatterylabError(f"{path}: {electrode}: blends of particles are not fitted")
    module = pybamm()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            values = module.ParameterValues.create_from_bpx_obj(content)
        except (ValueError, TypeError, KeyError, NotImplementedError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            what = ": ".join(lines[1:3]) if len(lines) > 2 else str(error)
            raise BatterylabError(f"{path}: not a BPX file: {what[:200]}",
                                  hint="see bpxstandard.com") from None  # fmt: skip
    if "Contact resistance [Ohm]" not in values:
        values.update({"Contact resistance [Ohm]": 0.0}, check_already_exists=False)
    return values


def _content(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise BatterylabError(f"{path}: the file is larger than {LARGEST_BYTES} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BatterylabError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise BatterylabError(f"{path}: cannot be read: {error}") from None
    except json.JSONDecodeError as error:
        raise BatterylabError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    if not isinstance(content, dict) or not isinstance(content.get("Parameterisation"), dict):
        raise BatterylabError(f"{path}: not a BPX file: there is no Parameterisation")
    return content


def checked_bpx(content: dict[str, Any]) -> dict[str, Any]:
    """Return BPX content after `bpx` has validated it.

    Raises
    ------
    BatterylabError
        If it does not follow the standard.
    """
    from bpx import parse_bpx_obj

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            parse_bpx_obj(json.loads(json.dumps(content)))
        except ValueError as error:
            raise BatterylabError(f"the export is no valid BPX: {str(error)[:300]}") from None
    return content
