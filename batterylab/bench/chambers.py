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
        self.wanted_degC = resolved.temperature_degC
        self.within_K = resolved.within_K
        self.air_degC: dict[str, float] = {}

    @property
    def are_needed(self) -> bool:
        """Whether the protocol asks for a temperature that a chamber can hold."""
        return self.wanted_degC is not None and bool(self.drivers)

    def start(self) -> None:
        """Set the protocol's temperature and start."""
        for driver in self.drivers.values():
            driver.set_temperature(self.wanted_degC)
            driver.start()

    def far(self) -> list[str]:
        """Return the chambers whose air is not yet within the protocol's tolerance."""
        wanted = self.wanted_degC
        if wanted is None:
            return []
        return [name for name, driver in self.drivers.items()
                if abs(driver.read().actual_degC - wanted) > self.within_K]  # fmt: skip

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
            wanted = self.wanted_degC
            if wanted is not None and abs(reading.actual_degC - wanted) > self.within_K:
                self._remark(name, f"{name}: air out of {self.within_K:g} K")
        return self.air_degC

    def _remark(self, name: str, remark: str) -> None:
        for run in self.runs:
            if run.entry.chamber == name and remark not in run.remarks:
                run.remarks.append(remark)
