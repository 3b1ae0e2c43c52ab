"""Keysight DAQ970A: thermocouples on multiplexer channels, read in one scan.

Source: 34970A/34972A User's Guide (34972-90001), whose command tree the DAQ970A shares. An open
thermocouple reads 9.9E+37.
"""

from collections.abc import Sequence

from batterylab.drivers.scpi import ScpiDriver, channel_list

OVERLOAD = 9e36


class Daq970a(ScpiDriver):
    """A DAQ970A with thermocouples of type K."""

    channels: Sequence[int] = ()

    def prepare(self, channels: Sequence[int]) -> None:
        """Set the channels up and make them the scan list; readings name their channel.

        Raises
        ------
        EnvironmentFailedError
            If the scanner refuses.
        """
        self.channels = sorted(set(channels))
        listed = channel_list(self.channels)
        self.errors()
        for command in (
            f"CONF:TEMP TC,K,{listed}", f"ROUT:SCAN {listed}", "FORM:READ:CHAN ON",
            "FORM:READ:UNIT OFF", "FORM:READ:TIME OFF", "FORM:READ:ALAR OFF",
        ):  # fmt: skip
            self.link.write(command)
        self.check("the scan list")

    def read(self) -> dict[int, float | None]:
        """Scan once; the temperature in °C by channel, None where the thermocouple is open.

        Raises
        ------
        EnvironmentFailedError
            If the reply is not one reading for each channel.
        """
        values = self.numbers("READ?", 2 * len(self.channels))
        if values[1::2] != list(self.channels):
            raise self.link.unexpected("READ?", f"channels {values[1::2]}")
        return {
            channel: None if abs(value) > OVERLOAD else value
            for channel, value in zip(self.channels, values[::2], strict=True)
        }
