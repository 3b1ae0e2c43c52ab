"""Where the bench takes its time from.

On a real bench it is the wall clock. A simulated bench owns its clock: the runner tells it how
far to go, and its instruments compute to that time. No other code differs.
"""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from batterylab.errors import EnvironmentFailedError

TIMEOUT_s = 120.0
SMALLEST_PUSH_s = 0.1
#: a simulated bench computes hours at once
BENCH_s = 30.0
_listeners: list[Callable[[float], None]] = []


@contextlib.contextmanager
def listening(allow: Callable[[float], None]) -> Iterator[None]:
    """Tell somebody, while this lasts, how long what comes next may take in real time."""
    _listeners.append(allow)
    try:
        yield
    finally:
        _listeners.remove(allow)


def may_take(seconds: float) -> None:
    """Say that what comes next may take so long in real time: a reply, a write to the disk."""
    for allow in _listeners:
        allow(seconds)


class Clock(Protocol):
    """What runner and links need of a clock."""

    def now(self) -> float:
        """Return the time as unix seconds."""

    def sleep(self, seconds: float) -> None:
        """Wait."""

    def sleep_until(self, unix_s: float) -> None:
        """Wait until a time; a time in the past does not wait."""


class WallClock:
    """The machine's own clock, as it stood when this was made, and the seconds since.

    A step of the machine's time, as NTP or a hand makes it, moves nothing: durations and the
    order of samples count. `jump_s` tells how far the machine's time has gone its own way.
    """

    def __init__(self) -> None:
        self._zero_s = time.time() - time.monotonic()

    def now(self) -> float:
        """Return the time as unix seconds; it never runs backwards."""
        return self._zero_s + time.monotonic()

    def jump_s(self) -> float:
        """Return by how much the machine's time was moved since this clock was made, in s."""
        return time.time() - self.now()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        if seconds > 0:
            time.sleep(seconds)

    def sleep_until(self, unix_s: float) -> None:
        """Wait until a time."""
        self.sleep(unix_s - self.now())


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
        may_take(BENCH_s)
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


class Beside:
    """A supply's clock on a simulated bench: its gaps between messages delay no other supply.

    On a real bench each supply has a thread of its own. Here one follows the other: short waits
    take no time at all, so that the output goes on in the moment that is written down for it.

    Parameters
    ----------
    bench : BenchClock
        That all share.
    """

    def __init__(self, bench: BenchClock) -> None:
        self._bench = bench

    def now(self) -> float:
        """Return the bench's time as unix seconds."""
        return self._bench.now()

    def sleep(self, seconds: float) -> None:
        """Let bench time pass, where it is more than a gap."""
        if seconds >= SMALLEST_PUSH_s:
            self._bench.sleep(seconds)

    def sleep_until(self, unix_s: float) -> None:
        """Let bench time pass until a time."""
        self._bench.sleep_until(unix_s)


def clock_for(address: tuple[str, int] | None) -> Clock:
    """Return the bench's clock, or the wall clock if there is no address."""
    return BenchClock(*address) if address else WallClock()
