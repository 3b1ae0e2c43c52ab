"""What a bench can do, for `protocol.check`: ranges and modes of its cyclers, what hangs where."""

from pathlib import Path

from batterylab.bench.benchfile import BenchFile, ChannelEntry
from batterylab.bench.wiring import Way
from batterylab.drivers.catalogue import driver_class, spec
from batterylab.protocol.check import Abilities, Cycler, Reader

ONBOARD_MODES = frozenset({"current", "voltage", "profile"})
STEPPED_MODES = frozenset({"current", "voltage", "profile"})
#: what a supply holds whose current can be set anew while it flows
STEERED_MODES = frozenset({"power", "resistance", "power profile"})
#: a meter whose file names no frequencies reads at this one
STANDARD_Hz = 1000.0


def abilities(file: BenchFile) -> Abilities:
    """Return what a bench can do.

    Parameters
    ----------
    file : BenchFile
        Checked.
    """
    channels = list(file.channels.values())
    cyclers = []
    for name in dict.fromkeys(channel.cycler for channel in channels):
        model = spec(file.instruments[name].model)
        is_stepped = model.role == "host_stepped"
        modes = STEPPED_MODES if is_stepped else ONBOARD_MODES
        if is_stepped and driver_class(model).changes_while_on:
            modes |= STEERED_MODES
        cyclers.append(
            Cycler(
                name, _range(model.ranges.get("current_A")), _range(model.ranges.get("voltage_V")),
                is_stepped, modes, file.instruments[name].sample_s if is_stepped else 1.0,
            )
        )  # fmt: skip
    return Abilities(
        name=f"bench {file.text.name}" if file.text.name != "bench" else "bench",
        cyclers=tuple(cyclers),
        voltage_V=file.limits.voltage_V,
        hottest_degC=file.limits.temperature_degC,
        without_chamber=tuple(c.name for c in channels if not c.chamber),
        without_thermometer=tuple(c.name for c in channels if not c.scanner),
        readers=tuple((c.name, tuple(r for _, r in readers_of(file, c))) for c in channels),
    )


def readers_of(file: BenchFile, channel: ChannelEntry) -> list[tuple[Way, Reader]]:
    """Return the meters that reach a channel during a run, in the bench file's order."""
    found = []
    for way in channel.meters:
        model = spec(file.instruments[way.meter].model)
        own = _range(model.ranges.get("frequency_Hz"))
        found.append((way, Reader(way.meter, own or (STANDARD_Hz, STANDARD_Hz), own is not None,
                                  driver_class(model).reading_s)))  # fmt: skip
    return found


def abilities_in(folder: Path) -> Abilities | None:
    """Return what the bench of a study can do, or None if the study has no bench file."""
    path = folder / "bench.yaml"
    return abilities(BenchFile.open(path)) if path.is_file() else None


def _range(pair: object) -> tuple[float, float] | None:
    if isinstance(pair, list | tuple) and len(pair) == 2:
        return float(pair[0]), float(pair[1])
    return None
