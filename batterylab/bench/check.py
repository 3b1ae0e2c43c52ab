"""Ask a bench's instruments who they are, what they watch by themselves, and who can stop them."""

from dataclasses import dataclass, field, fields
from typing import Any

from batterylab.bench.benchfile import BenchFile, role_of
from batterylab.bench.calibration import overdue
from batterylab.bench.clock import Clock
from batterylab.drivers.catalogue import open_instrument
from batterylab.drivers.roles import Protections
from batterylab.errors import BatterylabError


@dataclass
class Checked:
    """What a check of a bench found.

    Attributes
    ----------
    answering : dict of str to str
        Who each instrument says it is.
    failed : dict of str to str
        Why one does not answer, or is another than the bench file says.
    overdue : dict of str to str
        A sentence on each calibration that is overdue.
    protections : dict of str to dict
        What each supply watches by itself now, read back; empty for what has none.
    stop : dict of str to str
        How each channel is stopped if the runner is gone.
    findings : list of str
        What somebody should know before the bench is left alone.
    unstoppable : list of str
        Channels that nobody could stop: a run on them is refused.
    """

    answering: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    overdue: dict[str, str] = field(default_factory=dict)
    protections: dict[str, dict[str, float]] = field(default_factory=dict)
    stop: dict[str, str] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    unstoppable: list[str] = field(default_factory=list)


def check_bench(file: BenchFile, clock: Clock) -> Checked:
    """Identify every instrument, and compare it with the bench file.

    Parameters
    ----------
    file : BenchFile
        Of a bench on which nothing runs: a supply's settings are read, and none is changed.
    clock : Clock
        Of the bench.
    """
    found = Checked(overdue=overdue(file, clock.now()))
    for name, entry in file.instruments.items():
        try:
            driver = open_instrument(name, entry.model, entry.address, entry.serial, clock)
        except BatterylabError as error:
            found.failed[name] = str(error)
            continue
        try:
            _look(found, file, name, driver)
        except BatterylabError as error:
            found.failed[name] = str(error)
        finally:
            driver.close()
    _stops(found, file)
    return found


def _look(found: Checked, file: BenchFile, name: str, driver: Any) -> None:
    entry, identity = file.instruments[name], driver.identity()
    found.answering[name] = (
        f"{identity.maker} {identity.model} {identity.serial} {identity.firmware}"
    )
    if entry.firmware and entry.firmware != identity.firmware:
        found.failed[name] = (
            f"{name}: its firmware is {identity.firmware}, bench.yaml says {entry.firmware}"
        )
    if role_of(entry.model) != "host_stepped":
        return
    try:
        held = driver.protections()
    except BatterylabError as error:
        found.findings.append(f"{error.message} (a run sets this before its output goes on)")
        return
    found.protections[name] = as_dict(held)
    if held.watchdog_s is None:
        found.findings.append(f"{name}: has no watchdog armed now")


def as_dict(held: Protections) -> dict[str, float]:
    """Return what is watched, by name with unit."""
    values = {item.name: getattr(held, item.name) for item in fields(Protections)}
    return {key: value for key, value in values.items() if value is not None}


def _stops(found: Checked, file: BenchFile) -> None:
    """Say for each channel who can stop it, and name those that nobody can."""
    for channel in file.channels.values():
        path = file.stop_path(channel.cycler)
        found.stop[channel.name] = path.kind
        if path.is_there:
            continue
        bounds = bounds_of(file, channel.cycler)
        if bounds:
            found.findings.append(f"{channel.name}: no path to a stop if the runner hangs; "
                                  f"{bounds} ends it")  # fmt: skip
        else:
            found.findings.append(f"{channel.name}: no path to a stop, and {channel.cycler} "
                                  "watches nothing by itself: a run is refused")  # fmt: skip
            found.unstoppable.append(channel.name)
    for name in dict.fromkeys(c.cycler for c in file.channels.values()):
        path = file.stop_path(name)
        if path.kind == "dead-socket port" and name in found.answering:
            try:
                path.hang_up()
            except BatterylabError as error:
                found.failed[name] = str(error)


def bounds_of(file: BenchFile, name: str) -> str:
    """Return what ends a cycler's or supply's step without any computer; empty if nothing does."""
    from batterylab.drivers.catalogue import driver_class, spec

    model = spec(file.instruments[name].model)
    if model.role == "cycler":
        return "the sequence, bounded in time,"
    kind = driver_class(model)
    if kind.has_watchdog:
        return "its watchdog"
    return "its own shut-off time" if kind.ends_by_itself else ""
