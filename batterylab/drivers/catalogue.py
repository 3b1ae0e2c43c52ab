"""The instruments that batterylab knows: one TOML file a model.

A lab's own folder, named by `BATTERYLAB_INSTRUMENTS`, is searched first.
"""

import importlib
import os
import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from batterylab.bench.clock import Clock
from batterylab.drivers.link import Link, LinkSpec
from batterylab.errors import BatterylabError, EnvironmentFailedError


@dataclass(frozen=True)
class ModelSpec:
    """What the bench must know before it talks to a model.

    Attributes
    ----------
    model, role : str
        Its name here, and ``cycler``, ``scanner``, ``meter`` or ``chamber``.
    driver : str
        ``module:Class``.
    identity : str
        Regular expression for the whole reply to the identity query.
    link : LinkSpec
        Terminations, time limit, gaps.
    accuracy : dict
        One standard deviation: name of the quantity -> ``{reading, offset}``.
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
    safe_state: str = ""
    source: str = ""
    path: Path | None = None


def folders() -> list[Path]:
    """Return where instruments are looked for, in order."""
    package = Path(__file__).parents[1]
    shipped = package / "instruments"
    if not shipped.is_dir() and (package.parent / "pyproject.toml").is_file():
        shipped = package.parent / "instruments"
    own = os.environ.get("BATTERYLAB_INSTRUMENTS")
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
        link = LinkSpec(**data.get("link", {}))
        re.compile(data["identity"])
        return ModelSpec(
            model=path.stem,
            role=data["role"],
            driver=data["driver"],
            identity=data["identity"],
            link=link,
            accuracy=data.get("accuracy", {}),
            ranges=data.get("ranges", {}),
            safe_state=data.get("safe_state", ""),
            source=data.get("source", ""),
            path=path,
        )
    except (OSError, KeyError, TypeError, ValueError, re.error) as error:
        raise BatterylabError(f"{path}: {type(error).__name__}: {error}") from None


def open_instrument(name: str, model: str, address: str, serial: str, clock: Clock) -> Any:
    """Open an instrument and make sure that it is the one meant.

    Parameters
    ----------
    name : str
        What the bench calls it.
    model, address, serial : str
        From ``bench.yaml``; an empty serial is not checked.
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
    module, _, attribute = known.driver.partition(":")
    driver_class = getattr(importlib.import_module(module), attribute)
    link = Link(name, address, known.link, clock)
    driver = driver_class(link, known)
    try:
        identity = driver.identity()
        said = f"{identity.maker},{identity.model},{identity.serial},{identity.firmware}"
        if not re.fullmatch(known.identity, said):
            raise EnvironmentFailedError(
                f"{name} at {address}: answers as {said!r}, which is no {model}",
                hint=f"set the model in bench.yaml; expected {known.identity!r}",
            )
        if serial and identity.serial != serial:
            raise EnvironmentFailedError(
                f"{name} at {address}: its serial number is {identity.serial!r}, not {serial!r}",
                hint="a calibration belongs to one instrument: correct bench.yaml",
            )
    except BaseException:
        driver.close()
        raise
    return driver
