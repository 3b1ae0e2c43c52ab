"""The chambers of a run: bring them to the protocol's temperature, and watch their air."""

from collections.abc import Sequence
from typing import Any

from batterylab.bench.channelrun import ChannelRun
from batterylab.errors import EnvironmentFailedError
from batterylab.protocol import Resolved


class Chambers:
    """The chambers that hold a run's cells.

    Parameters
    ----------
    drivers : dict of str to Chamber
        By name.
    runs : sequence of ChannelRun
        The run's channels.
    resolved : Resolved
        The protocol.
    """

    def __init__(
        self, drivers: dict[str, Any], runs: Sequence[ChannelRun], resolved: Resolved
    ) -> None:
        used = {run.entry.chamber for run in runs}
        self.drivers = {name: driver for name, driver in drivers.items() if name in used}
        self.runs = runs
        #: what the air shall be, by chamber: temperature in °C and tolerance in K
        self.wanted: dict[str, tuple[float, float]] = {}
        if resolved.temperature_degC is not None:
            self.wanted = dict.fromkeys(
                self.drivers, (resolved.temperature_degC, resolved.within_K)
            )
        #: chambers whose air is on its way
        self.changing: set[str] = set()
        self.air_degC: dict[str, float] = {}

    @property
    def are_needed(self) -> bool:
        """Whether the protocol asks for a temperature that a chamber can hold."""
        return bool(self.wanted)

    def start(self) -> None:
        """Set the protocol's first temperature and start."""
        for name in self.wanted:
            self.set(name, *self.wanted[name])

    def set(self, name: str, degC: float, within_K: float) -> None:
        """Set the temperature of a chamber and start it."""
        self.wanted[name] = degC, within_K
        self.changing.add(name)
        self.drivers[name].set_temperature(degC)
        self.drivers[name].start()

    def far(self) -> list[str]:
        """Return the chambers whose air is not yet within the protocol's tolerance."""
        return [name for name in self.wanted if not self.has_arrived(name)]

    def has_arrived(self, name: str) -> bool:
        """Return whether a chamber's air is within tolerance now."""
        degC, within_K = self.wanted[name]
        has = abs(self.drivers[name].read().actual_degC - degC) <= within_K
        if has:
            self.changing.discard(name)
        return bool(has)

    def read(self) -> dict[str, float]:
        """Return the air's temperature by chamber; air out of tolerance becomes a remark.

        Raises
        ------
        EnvironmentFailedError
            If a chamber reports an alarm.
        """
        for name, driver in self.drivers.items():
            reading = driver.read()
            self.air_degC[name] = reading.actual_degC
            if reading.has_alarm:
                raise EnvironmentFailedError(f"{name}: the chamber reports an alarm")
            if name in self.wanted and not reading.is_running:
                raise EnvironmentFailedError(f"{name}: the chamber has stopped")
            degC, within_K = self.wanted.get(name, (reading.actual_degC, 0.0))
            if name not in self.changing and abs(reading.actual_degC - degC) > within_K:
                self._remark(name, f"{name}: air out of {within_K:g} K")
        return self.air_degC

    def _remark(self, name: str, remark: str) -> None:
        for run in self.runs:
            if run.entry.chamber == name and remark not in run.remarks:
                run.remarks.append(remark)
