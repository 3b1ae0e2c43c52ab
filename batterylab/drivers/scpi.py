"""What SCPI instruments share: identity, error queue, lists of numbers."""

import math
import re
from collections.abc import Sequence

from batterylab.drivers.catalogue import ModelSpec
from batterylab.drivers.link import Link
from batterylab.drivers.roles import Identity
from batterylab.errors import EnvironmentFailedError

MOST_ERRORS = 50
#: SCPI-1999 writes 9.9E+37 for infinity and 9.91E+37 for not-a-number: no figure is that large
OVERLOAD = 9e36
#: what a reply of numbers is made of; what `float` takes besides (1_000, nan) is no number here
_FIGURES = b"0123456789+-.eE ,"
_ERROR = re.compile(r'([+-]?\d{1,6}),".*"', re.ASCII)


def channel_list(numbers: Sequence[int]) -> str:
    """Return a channel list such as ``(@101:103,201)``; runs are written as ranges.

    Examples
    --------
    >>> channel_list([101, 102, 103, 201])
    '(@101:103,201)'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return "(@" + ",".join(f"{a}:{b}" if a != b else str(a) for a, b in runs) + ")"


class ScpiDriver:
    """Base of SCPI drivers.

    Parameters
    ----------
    link : Link
        Open.
    spec : ModelSpec
        From the catalogue.
    """

    def __init__(self, link: Link, spec: ModelSpec) -> None:
        self.link = link
        self.spec = spec

    def identity(self) -> Identity:
        """Ask ``*IDN?``.

        Raises
        ------
        EnvironmentFailedError
            If there is no reply, or not one of four fields.
        """
        reply = self.link.query("*IDN?")
        fields = [field.strip() for field in reply.split(",")]
        if len(fields) != 4:
            raise self.link.unexpected("*IDN?", reply)
        return Identity(*fields)

    def errors(self) -> list[str]:
        """Read and clear the error queue."""
        found: list[str] = []
        for _ in range(MOST_ERRORS):
            reply = self.link.query("SYST:ERR?")
            entry = _ERROR.fullmatch(reply)
            if entry is None:
                raise self.link.unexpected("SYST:ERR?", reply)
            if int(entry[1]) == 0:
                return found
            found.append(reply)
        raise EnvironmentFailedError(f"{self.link.name}: the error queue does not end")

    def check(self, after: str) -> None:
        """Raise if the instrument has noted an error.

        Raises
        ------
        EnvironmentFailedError
            With the errors and the command they follow.
        """
        found = self.errors()
        if found:
            raise EnvironmentFailedError(f"{self.link.name}: {after} was refused: {found[0]}")

    def numbers(
        self, command: str, count: int, *, takes_overload: bool = False
    ) -> list[float]:
        """Query comma-separated numbers.

        Parameters
        ----------
        command : str
            The query.
        count : int
            How many numbers its reply has.
        takes_overload : bool
            Whether SCPI's codes for overload and not-a-number (9.9E+37, 9.91E+37) are returned.

        Raises
        ------
        EnvironmentFailedError
            If there are not `count` finite numbers, or one is a code and not a figure.
        """
        reply = self.link.query(command)
        texts = reply.split(",")
        try:
            values = list(map(float, texts))
        except ValueError:
            values = []
        others = reply.encode().translate(None, _FIGURES)
        largest = max(map(abs, values), default=0.0)
        if len(values) != count or others or not math.isfinite(largest):
            raise self.link.unexpected(command, reply)
        if largest >= OVERLOAD and not takes_overload:
            raise self.link.unexpected(command, reply)
        return values

    def close(self) -> None:
        """Close the link."""
        self.link.close()
