"""A simulated 34970A with three 34901A multiplexers and its four alarm lines.

It shares the DAQ970A's command tree; what differs is who it says it is, and that its limits and
alarm lines are simulated: a line trips in a scan and stays tripped.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from batterylab.simulated.daq970a import Daq970a
from batterylab.simulated.scpi import illegal_parameter, number

if TYPE_CHECKING:
    from batterylab.simulated.world import World

LINES = (1, 2, 3, 4)
HIGHEST = 1.2e8


class Ag34970a(Daq970a):
    """The scanner's command table.

    Parameters
    ----------
    world : World
        Whose thermocouples it reads.

    Attributes
    ----------
    tripped : set of int
        Alarm lines that have tripped.
    """

    def __init__(self, world: "World", name: str = "") -> None:
        super().__init__(world, name=name)
        self.identity = "HEWLETT-PACKARD,34970A,0,13-2-2"
        self._limits()
        self.add("CALCulate:LIMit:UPPer", self._set_upper)
        self.add("CALCulate:LIMit:UPPer?", lambda listed: self._list(listed, self._upper_of))
        self.add("CALCulate:LIMit:UPPer:STATe", self._set_state)
        self.add("CALCulate:LIMit:STATe", self._set_state)
        self.add(
            "CALCulate:LIMit:UPPer:STATe?",
            lambda listed: self._list(listed, lambda channel: str(int(channel in self.watched))),
        )
        self.add("OUTPut:ALARm:MODE", self._set_mode)
        self.add("OUTPut:ALARm:MODE?", lambda: self.latch)
        self.add("OUTPut:ALARm:CLEar:ALL", self._release_lines)
        for line in LINES:
            self._line(line)

    def _limits(self) -> None:
        self.upper: dict[int, float] = {}
        self.watched: set[int] = set()
        self.sources: dict[int, list[int]] = {line: [] for line in LINES}
        self.tripped: set[int] = set()
        self.latch = "LATC"

    def power_cycle(self) -> None:
        """Switch it off and on: scan list, formats and limits are gone."""
        self.errors.clear()
        self._defaults()
        self._limits()

    def _release_lines(self) -> None:
        self.tripped.clear()

    def _line(self, line: int) -> None:
        def source(channels: str) -> None:
            self.sources[line] = self._channels(channels)

        for keyword in (f"ALAR{line}", f"ALARM{line}"):
            self.add(f"OUTPut:{keyword}:SOURce", source)

    def _set_upper(self, value: str, channels: str) -> None:
        limit = number(value, -HIGHEST, HIGHEST)
        self.upper.update(dict.fromkeys(self._channels(channels), limit))

    def _set_state(self, state: str, channels: str) -> None:
        if state.upper() not in ("0", "1", "OFF", "ON"):
            raise illegal_parameter()
        chosen = set(self._channels(channels))
        is_on = state.upper() in ("1", "ON")
        self.watched = self.watched | chosen if is_on else self.watched - chosen

    def _set_mode(self, mode: str) -> None:
        if mode.upper() not in ("LATC", "LATCH", "TRAC", "TRACK"):
            raise illegal_parameter()
        self.latch = mode.upper()[:4]

    def _upper_of(self, channel: int) -> str:
        return f"{self.upper.get(channel, 0.0):+.8E}"

    def _list(self, channels: str, text: Callable[[int], str]) -> str:
        return ",".join(text(channel) for channel in self._channels(channels))

    def _initiate(self) -> None:
        super()._initiate()
        over = {c for c in self.scan if c in self.watched and self.last[c] > self.upper.get(c, 0)}
        now = {line for line, listed in self.sources.items() if over & set(listed)}
        self.tripped = self.tripped | now if self.latch == "LATC" else now
