"""The instruments that batterylab knows: one TOML file a model.

A lab's own folder, named by `BATTERYLAB_INSTRUMENTS`, is searched first.
"""

import importlib
import math
import os
import re
import tomllib
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from batterylab.bench.clock import Clock
from batterylab.drivers.link import Link, LinkSpec
from batterylab.errors import BatterylabError, EnvironmentFailedError

ROLES = ("cycler", "host_stepped", "scanner", "meter", "chamber")
NEEDED = ("driver", "role", "identity", "safe_state", "source")
TABLES = ("link", "ranges", "accuracy", "stop")
#: the ways to stop a channel without the runner
PATHS = ("second session", "dead-socket port", "digital abort line", "none")
#: what an instrument says that does not know its serial number
NO_SERIAL = "0"
_DRIVER = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*:[A-Z][A-Za-z0-9]*")


@dataclass(frozen=True)
class ModelSpec:
    """What the bench must know before it talks to a model.

    Attributes
    ----------
    model, role : str
        Its name here, and ``cycler``, ``host_stepped``, ``scanner``, ``meter`` or ``chamber``.
    driver : str
        ``module:Class``.
    identity : str
        Regular expression for the whole reply to the identity query.
    link : LinkSpec
        Terminations, time limit, gaps.
    accuracy : dict
        One standard deviation: name of the quantity -> ``{reading, offset}``.
    stop : dict
        ``path``: how a channel is stopped without the runner, one of `PATHS`; ``port`` of a
        dead-socket port.
    source : str
        Where the facts come from.
    """

    model: str
    role: str
    driver: str
    identity: str
    link: LinkSpec
    accuracy: dict[str, dict[str, float]] = field(default_factory=dict)
    ranges: dict[str, Any] = field(default_factory=dict)
    stop: dict[str, Any] = field(default_factory=lambda: {"path": "none"})
    safe_state: str = ""
    source: str = ""
    path: Path | None = None


def folders() -> list[Path]:
    """Return where instruments are looked for, in order.

    Raises
    ------
    BatterylabError
        If `BATTERYLAB_INSTRUMENTS` names no folder.
    """
    package = Path(__file__).parents[1]
    shipped = package / "instruments"
    if not shipped.is_dir() and (package.parent / "pyproject.toml").is_file():
        shipped = package.parent / "instruments"
    own = os.environ.get("BATTERYLAB_INSTRUMENTS")
    if own and not Path(own).is_dir():
        raise BatterylabError(
            f"BATTERYLAB_INSTRUMENTS: {own} is no folder",
            hint="name the folder that holds the laboratory's own instrument files, or unset it",
        )
    return [folder for folder in ([Path(own)] if own else []) + [shipped] if folder.is_dir()]


def models() -> dict[str, Path]:
    """Return the known models and their files."""
    found: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.glob("*.toml")):
            found.setdefault(path.stem, path)
    return found


def spec(model: str) -> ModelSpec:
    """Return what is known of a model.

    Raises
    ------
    BatterylabError
        If the model is unknown or its file is wrong.
    """
    known = models()
    if model not in known:
        raise BatterylabError(f"unknown model {model!r}", hint=f"known: {', '.join(known)}")
    return _read(known[model])


@cache
def _read(path: Path) -> ModelSpec:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BatterylabError(f"{path}: {error}") from None
    problems = _problems(data)
    if problems:
        raise BatterylabError(
            f"{path}: {'; '.join(problems)}", hint="docs/instruments.md describes every key"
        )
    known = {key: value for key, value in data.items() if key != "link"}
    return ModelSpec(model=path.stem, link=LinkSpec(**data.get("link", {})), path=path, **known)


def _problems(data: dict[str, Any]) -> list[str]:
    """Return what is wrong with an instrument file's content."""
    found = [
        f"{key} is missing, or no text"
        for key in NEEDED
        if not isinstance(data.get(key), str) or not data[key].strip()
    ]
    found += [f"unknown key {key!r}" for key in sorted(set(data) - set(NEEDED) - set(TABLES))]
    found += [f"[{key}] is no table" for key in TABLES if not isinstance(data.get(key, {}), dict)]
    if found:
        return found
    if data["role"] not in ROLES:
        found.append(f"role {data['role']!r} is none of {', '.join(ROLES)}")
    if not _DRIVER.fullmatch(data["driver"]):
        found.append(f"driver {data['driver']!r} is not of the form module:Class")
    try:
        re.compile(data["identity"])
    except re.error as error:
        found.append(f"identity is no regular expression: {error}")
    links = _link_problems(data.get("link", {}))
    return found + links + _figure_problems(data) + _stop_problems(data)


def _stop_problems(data: dict[str, Any]) -> list[str]:
    stop = data.get("stop")
    if stop is None:
        moves = data["role"] in ("cycler", "host_stepped")
        return ["[stop] is missing: how is a channel stopped without the runner?"] if moves else []
    found = [f"[stop] unknown key {key!r}" for key in stop if key not in ("path", "port")]
    if stop.get("path") not in PATHS:
        found.append(f"[stop] path {stop.get('path')!r} is none of {', '.join(PATHS)}")
    port = stop.get("port", 0)
    if not isinstance(port, int) or not 0 <= port < 65536:
        found.append(f"[stop] port {port!r} is no port")
    elif stop.get("path") == "dead-socket port" and not port:
        found.append("[stop] a dead-socket port needs its port")
    return found


def _link_problems(link: dict[str, Any]) -> list[str]:
    found = []
    kinds = {item.name: type(item.default) for item in fields(LinkSpec)}
    for key, value in link.items():
        if key not in kinds:
            found.append(f"[link] unknown key {key!r}")
        elif kinds[key] is str and not (isinstance(value, str) and value):
            found.append(f"[link] {key} is no text")
        elif kinds[key] is float and not _is_figure(value):
            found.append(f"[link] {key} is no figure of at least 0")
    return found


def _figure_problems(data: dict[str, Any]) -> list[str]:
    found = [
        f"[ranges] {name} is not [low, high]"
        for name, pair in data.get("ranges", {}).items()
        if not isinstance(pair, list) or len(pair) != 2
        or not all(isinstance(value, int | float) for value in pair) or not pair[0] < pair[1]
    ]  # fmt: skip
    for name, entry in data.get("accuracy", {}).items():
        is_whole = isinstance(entry, dict) and set(entry) == {"reading", "offset"}
        if not is_whole or not all(map(_is_figure, entry.values())):
            found.append(f"[accuracy] {name} is not {{reading = ..., offset = ...}}, at least 0")
    return found


def _is_figure(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0


def driver_class(known: ModelSpec) -> Any:
    """Return the class that drives a model.

    Raises
    ------
    BatterylabError
        If there is none.
    """
    module, _, attribute = known.driver.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise BatterylabError(f"{known.path}: driver {known.driver!r}: {error}") from None


def open_instrument(name: str, model: str, address: str, serial: str, clock: Clock) -> Any:
    """Open an instrument and make sure that it is the one meant.

    Parameters
    ----------
    name : str
        What the bench calls it.
    model, address, serial : str
        From ``bench.yaml``; an empty serial is not checked, nor one that the model does not
        tell (it says 0).
    clock : Clock
        Of the bench.

    Returns
    -------
    driver
        Of the model's role; see `batterylab.drivers.roles`.

    Raises
    ------
    EnvironmentFailedError
        If it does not answer, or is another one.
    """
    known = spec(model)
    made_of = driver_class(known)
    link = Link(name, address, known.link, clock)
    driver = made_of(link, known)
    try:
        identity = driver.identity()
        said = f"{identity.maker},{identity.model},{identity.serial},{identity.firmware}"
        if not re.fullmatch(known.identity, said):
            raise EnvironmentFailedError(
                f"{name} at {address}: answers as {said!r}, which is no {model}",
                hint=f"set the model in bench.yaml; expected {known.identity!r}",
            )
        if serial and identity.serial not in (serial, NO_SERIAL):
            raise EnvironmentFailedError(
                f"{name} at {address}: its serial number is {identity.serial!r}, not {serial!r}",
                hint="a calibration belongs to one instrument: correct bench.yaml",
            )
    except BaseException:
        driver.close()
        raise
    return driver
