"""Keysight DAQ970A: thermocouples on multiplexer channels, read in one scan.

Source: 34970A/34972A User's Guide (34972-90001), whose command tree the DAQ970A shares. An open
thermocouple reads 9.9E+37.
"""

from collections.abc import Sequence

from batterylab.drivers.scpi import ScpiDriver, channel_list

OVERLOAD = 9e36


class Daq970a(ScpiDriver):
    """A DAQ970A with thermocouples of type K."""

    def prepare(self, channels: Sequence[int]) -> None:
        """Set the channels up and make them the scan list.

        Raises
        ------
        EnvironmentFailedError
            If the scanner refuses.
        """
        self.channels = sorted(set(channels))
        listed = channel_list(self.channels)
        self.errors()
        self.link.write(f"CONF:TEMP TC,K,{listed}")
        self.link.write(f"ROUT:SCAN {listed}")
        self.check("the scan list")

    def read(self) -> dict[int, float | None]:
        """Scan once; the temperature in °C by channel, None where the thermocouple is open."""
        values = self.numbers("READ?", len(self.channels))
        return {
            channel: None if abs(value) > OVERLOAD else value
            for channel, value in zip(self.channels, values, strict=True)
        }
