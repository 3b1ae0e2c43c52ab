"""Door switches, gas sensors and the like: voltages on a scanner's inputs that must be in a range.

A contact is wired so that its voltage is there while all is well: an open door, a broken wire and
a dead supply all read as not safe.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from batterylab.errors import EnvironmentFailedError, Problem
from batterylab.quantity import Samples, Voltage_V

if TYPE_CHECKING:
    from batterylab.yamlfile import YamlDocument

#: the widest range of the scanners' voltmeters
LARGEST_V = 300.0


class InterlockEntry(BaseModel):
    """One interlock: where its voltage is read, and between which values all is well."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    input: str = Field(pattern=r"^[^:]+:\d{1,4}$")
    safe_V: tuple[Voltage_V, Voltage_V] = Field(alias="safe")
    debounce: Samples = Field(1, ge=1, le=10)

    @property
    def place(self) -> tuple[str, int]:
        """The scanner and its input."""
        scanner, _, number = self.input.rpartition(":")
        return scanner, int(number)


class Interlocks:
    """The interlocks of a run.

    Parameters
    ----------
    entries : mapping of str to InterlockEntry
        By name.
    drivers : mapping of str to Scanner
        By name; open.
    stale_s : float
        A reading that is older does not count.
    """

    def __init__(
        self, entries: Mapping[str, InterlockEntry], drivers: Mapping[str, Any], stale_s: float
    ) -> None:
        self.entries = entries
        self.drivers = drivers
        self.stale_s = stale_s
        self._bad = dict.fromkeys(entries, 0)
        self._read_s = math.inf

    def inputs(self, scanner: str) -> list[int]:
        """Return the inputs of a scanner that are to be read."""
        places = (entry.place for entry in self.entries.values())
        return [number for name, number in places if name == scanner]

    def look(self, now_s: float, *, at_once: bool = False) -> None:
        """Judge what the scanners read last.

        Parameters
        ----------
        now_s : float
            When they read it.
        at_once : bool
            Whether one bad reading is enough: before anything has begun it is.

        Raises
        ------
        EnvironmentFailedError
            If one is not safe, or cannot be read: everything must stop.
        """
        self._read_s = now_s
        for name, entry in self.entries.items():
            scanner, number = entry.place
            volts = self.drivers[scanner].input_V.get(number)
            low, high = entry.safe_V
            is_safe = volts is not None and low <= volts <= high
            self._bad[name] = 0 if is_safe else self._bad[name] + 1
            if is_safe or (self._bad[name] < entry.debounce and not at_once):
                continue
            found = "gives no reading" if volts is None else f"reads {volts:.3g} V"
            raise EnvironmentFailedError(
                f"interlock {name} ({entry.input}) {found}; safe is {low:g} to {high:g} V",
                hint="close it; `batterylab resume` goes on with a run that was under way",
            )

    def check_age(self, now_s: float) -> None:
        """Refuse to go on with readings that are too old.

        Raises
        ------
        EnvironmentFailedError
            If the interlocks were not read for too long.
        """
        if self.entries and now_s - self._read_s > self.stale_s:
            raise EnvironmentFailedError(
                f"the interlocks were not read for {now_s - self._read_s:.0f} s",
                hint="does their scanner answer?",
            )

    def layers(self) -> list[dict[str, Any]]:
        """Return what a recording keeps of them."""
        return [
            {"layer": "L4 interlock", "what": name, "low": entry.safe_V[0],
             "high": entry.safe_V[1], "debounce": round(entry.debounce),
             "action": "run ends, all channels safe"} for name, entry in self.entries.items()
        ]  # fmt: skip


def interlock_problems(
    document: "YamlDocument", entries: Mapping[str, InterlockEntry], scanners: set[str],
    couples: Mapping[tuple[str, int], str],
) -> list[Problem]:  # fmt: skip
    """Return what is wrong with a bench file's interlocks.

    Parameters
    ----------
    scanners : set of str
        Names of the instruments that can read them.
    couples : mapping
        Name of the channel whose thermocouple is at a scanner's input.
    """
    problems = []
    taken: dict[tuple[str, int], str] = {}
    for name, entry in entries.items():
        where = document.where("interlocks", name, "input")
        known = ", ".join(sorted(scanners)) or "none"
        if entry.place[0] not in scanners:
            problems.append(Problem(where, f"{entry.input!r}: there is no such scanner",
                                    f"known: {known}"))  # fmt: skip
        elif entry.place in couples:
            what = f"{entry.input} has the thermocouple of {couples[entry.place]}"
            problems.append(Problem(where, what, "an input of its own"))
        elif entry.place in taken:
            what = f"{entry.input} is the input of {taken[entry.place]}"
            problems.append(Problem(where, what, "an input of its own"))
        taken[entry.place] = name
        low, high = entry.safe_V
        if not -LARGEST_V <= low < high <= LARGEST_V:
            where = document.where("interlocks", name, "safe")
            problems.append(Problem(where, f"{low:g} to {high:g} V is no range of a scanner",
                                    "[4 V, 6 V]"))  # fmt: skip
        elif low <= 0.0 <= high:
            where = document.where("interlocks", name, "safe")
            problems.append(Problem(
                where, "0 V would be safe: a broken wire could not be told from a closed door",
                "wire it so that its voltage is there while all is well: [4 V, 6 V]",
            ))  # fmt: skip
    return problems
