"""Where the bench takes its time from.

On a real bench it is the wall clock. A simulated bench owns its clock: the runner tells it how
far to go, and its instruments compute to that time. No other code differs.
"""

import contextlib
import json
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

from batterylab.errors import EnvironmentFailedError

TIMEOUT_s = 120.0
SMALLEST_PUSH_s = 0.1


class Clock(Protocol):
    """What runner and links need of a clock."""

    def now(self) -> float:
        """Return the time as unix seconds."""

    def sleep(self, seconds: float) -> None:
        """Wait."""

    def sleep_until(self, unix_s: float) -> None:
        """Wait until a time; a time in the past does not wait."""


class WallClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Return the time as unix seconds."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        if seconds > 0:
            time.sleep(seconds)

    def sleep_until(self, unix_s: float) -> None:
        """Wait until a time."""
        self.sleep(unix_s - time.time())


class BenchClock:
    """The clock of a simulated bench, through its control port.

    Short waits add up here and are pushed with the next long one: a link's minimum gap costs
    bench time but no round trip.

    Parameters
    ----------
    host, port : str, int
        Of the control port.

    Raises
    ------
    EnvironmentFailedError
        If nothing answers there.
    """

    def __init__(self, host: str, port: int) -> None:
        self.address = (host, port)
        try:
            self._socket = socket.create_connection((host, port), timeout=10.0)
        except OSError as error:
            raise EnvironmentFailedError(
                f"clock {host}:{port}: nothing answers ({error.strerror or error})",
                hint="start the simulated bench with `batterylab bench simulate STUDY`",
            ) from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(TIMEOUT_s)
        self._stream = self._socket.makefile("rwb")
        #: lets what else is due happen while one instrument is waited for, up to a time
        self.meanwhile: Callable[[float], None] | None = None
        self._now = float(self.ask("time")["time"])

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Send one request to the control port and return the answer.

        Raises
        ------
        EnvironmentFailedError
            If the link is lost, or the bench refuses.
        """
        request = json.dumps({"do": what, **arguments}) + "\n"
        try:
            self._stream.write(request.encode())
            self._stream.flush()
            line = self._stream.readline()
            answer = json.loads(line) if line else None
        except (OSError, ValueError) as error:
            raise EnvironmentFailedError(f"clock {self.address}: {error}") from None
        if not isinstance(answer, dict):
            raise EnvironmentFailedError(f"clock {self.address}: the simulated bench is gone")
        if "error" in answer:
            raise EnvironmentFailedError(f"simulated bench: {answer['error']}")
        return answer

    def now(self) -> float:
        """Return the bench's time as unix seconds, short waits included."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let bench time pass."""
        if seconds <= 0:
            return
        until_s = self._now + seconds
        if seconds >= SMALLEST_PUSH_s:
            if self.meanwhile is not None:
                self.meanwhile(until_s)
            self.sleep_until(until_s)
        else:
            self._now = until_s

    def sleep_until(self, unix_s: float) -> None:
        """Let bench time pass until a time."""
        self._now = max(self._now, unix_s)
        self._push()

    def _push(self) -> None:
        self._now = max(self._now, float(self.ask("advance", to=self._now)["time"]))

    def close(self) -> None:
        """Close the connection; the bench stands still and stays."""
        with contextlib.suppress(OSError):  # what could not be sent may be waiting still
            self._stream.close()
        self._socket.close()


def clock_for(address: tuple[str, int] | None) -> Clock:
    """Return the bench's clock, or the wall clock if there is no address."""
    return BenchClock(*address) if address else WallClock()
