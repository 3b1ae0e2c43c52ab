"""Open a bench: all its instruments and its clock, or none."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from batterylab.bench.benchfile import (
    BenchFile,
    ChannelEntry,
    InstrumentEntry,
    fills,
    role_of,
)
from batterylab.bench.calibration import is_overdue, refuse_overdue
from batterylab.bench.clock import BenchClock, Beside, Clock, clock_for
from batterylab.bench.stepper import Stepper
from batterylab.drivers.catalogue import open_instrument, spec
from batterylab.drivers.roles import Protections
from batterylab.errors import BatterylabError

#: a supply's own watchdog waits this long for its host
WATCHDOG_s = 5.0
#: a supply's protection lies this much above the largest current that the cell may carry
ABOVE = 1.1


def protections_of(file: BenchFile) -> Protections:
    """Return what a supply must watch by itself: the bench's limits, the cell type's currents."""
    low_V, high_V = file.limits.voltage_V
    cell = file.cell_type
    return Protections(
        low_V, high_V,
        ABOVE * cell.max_charge_A if cell else None,
        ABOVE * cell.max_discharge_A if cell else None,
        WATCHDOG_s,
    )  # fmt: skip


@dataclass
class Bench:
    """An open bench.

    Attributes
    ----------
    file : BenchFile
        What it was opened from.
    clock : Clock
        Wall clock, or the simulated bench's.
    drivers : dict of str to driver
        By instrument name.
    """

    file: BenchFile
    clock: Clock
    drivers: dict[str, Any] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.roles = {name: fills(e.model) for name, e in self.file.instruments.items()}

    @classmethod
    def open(
        cls, file: BenchFile, roles: Iterable[str] = ("cycler", "scanner", "chamber"),
        also: Iterable[str] = (),
    ) -> "Bench":  # fmt: skip
        """Open the instruments of some roles, and some more by name, and check who they are.

        Raises
        ------
        EnvironmentFailedError
            If one does not answer or is another; all are closed again.
        NotMetError
            If the calibration of one is overdue, and the bench file does not accept that.
        """
        bench = cls(file, clock_for(file.clock_address))
        wanted, more = set(roles), set(also)
        try:
            names = [name for name in file.instruments
                     if bench.roles[name] in wanted or name in more]  # fmt: skip
            refuse_overdue(file, bench.clock.now(), names)
            for name, entry in file.instruments.items():
                if name in names:
                    bench.drivers[name] = bench._opened(name, entry)
        except BaseException:
            bench.close()
            raise
        return bench

    def _opened(self, name: str, entry: InstrumentEntry) -> Any:
        is_stepped = role_of(entry.model) == "host_stepped"
        clock = self.clock
        if is_stepped and isinstance(clock, BenchClock):
            clock = Beside(clock)
        driver = open_instrument(name, entry.model, entry.address, entry.serial, clock)
        if not is_stepped:
            return driver
        return Stepper(driver, self.clock, protections_of(self.file), entry.sample_s)

    def of_role(self, role: str) -> dict[str, Any]:
        """Return the open drivers of a role, by name."""
        return {name: d for name, d in self.drivers.items() if self.roles[name] == role}

    def channel(self, name: str) -> ChannelEntry:
        """Return a channel by name.

        Raises
        ------
        BatterylabError
            If the bench has none of that name.
        """
        if name not in self.file.channels:
            import difflib

            near = difflib.get_close_matches(name, self.file.channels, n=1)
            hint = f"did you mean {near[0]!r}?" if near else None
            raise BatterylabError(f"the bench has no channel {name!r}", hint=hint)
        return self.file.channels[name]

    def describe(self, channel: ChannelEntry) -> dict[str, Any]:
        """Return instruments and accuracy of a channel, as a recording's provenance has them."""
        names = {"cycler": channel.cycler, "scanner": channel.scanner, "chamber": channel.chamber}
        instruments: dict[str, dict[str, Any]] = {}
        accuracy: dict[str, Any] = {}
        for role, name in names.items():
            if not name:
                continue
            entry = self.file.instruments[name]
            instruments[role] = {
                "model": entry.model,
                "serial": entry.serial,
                "calibration_due": entry.calibration_due,
            }
            if is_overdue(entry, self.clock.now()):
                instruments[role]["calibration_overdue"] = True
            if role != "chamber":
                accuracy.update(spec(entry.model).accuracy)
        accuracy["contact_ohm"] = {"reading": 0.0, "offset": self.file.text.contact_ohm}
        return {"instruments": instruments, "accuracy": accuracy}

    def close(self) -> None:
        """Close every link."""
        for driver in self.drivers.values():
            driver.close()
        if isinstance(self.clock, BenchClock):
            self.clock.close()
