"""Bytes from an instrument, up to a termination or by count, within a time limit.

PyVISA's own reads return at any termination, begin their time limit anew with each piece, and do
not see that a socket was closed by the other side. `VisaStream` reads in pieces and watches the
time; for the plain sockets of PyVISA-py `SocketStream` takes the bytes from the socket itself, so
that it also sees what nobody asked for, before the next question is put.
"""

import contextlib
import select
import socket
import time
from typing import Any, Protocol

LONGEST_LINE = 1 << 20
CHUNK = 1 << 17
SHORT_REPLY = 64


class Stream(Protocol):
    """Where replies come from; errors are `OSError` or `ValueError`, or the backend's own."""

    def has_leftovers(self) -> bool:
        """Say whether bytes wait that nobody asked for, as far as that can be seen."""

    def until(self, end: bytes, limit_s: float) -> bytes:
        """Return the bytes before a termination."""

    def exactly(self, count: int, limit_s: float) -> bytes:
        """Return so many bytes."""


class SocketStream:
    """A plain TCP connection.

    Parameters
    ----------
    line : socket.socket
        Connected.

    Raises
    ------
    OSError
        If it is not: PyVISA-py opens a port that nobody listens at without an error.
    """

    def __init__(self, line: socket.socket) -> None:
        line.getpeername()
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._line = line
        self._heard = bytearray()

    def has_leftovers(self) -> bool:
        """Say whether bytes wait that nobody asked for."""
        if self._heard:
            return True
        if not select.select([self._line], [], [], 0)[0]:
            return False
        with contextlib.suppress(OSError):  # a connection that is lost, the next question finds
            return bool(self._line.recv(1, socket.MSG_PEEK))
        return False

    def _more(self, deadline_s: float) -> None:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            what = f"{len(self._heard)} bytes without an end" if self._heard else "timeout"
            raise TimeoutError(what)
        self._line.settimeout(left_s)
        data = self._line.recv(CHUNK)
        if not data:
            raise ConnectionError("the instrument closed the connection")
        self._heard += data

    def until(self, end: bytes, limit_s: float) -> bytes:
        """Return the bytes before a termination; whatever came after it is too much.

        Raises
        ------
        OSError
            If it does not come in time, or the connection is lost.
        ValueError
            If there is more than one reply, or no end of it.
        """
        deadline_s = time.monotonic() + limit_s
        while not self._heard.endswith(end):
            if len(self._heard) > LONGEST_LINE or end in self._heard:
                raise ValueError(f"{len(self._heard)} bytes with no end, or more than one")
            self._more(deadline_s)
        reply = bytes(self._heard[: -len(end)])
        self._heard.clear()
        if end in reply:
            raise ValueError("more than one reply")
        return reply

    def exactly(self, count: int, limit_s: float) -> bytes:
        """Return so many bytes.

        Raises
        ------
        OSError
            If they do not come in time, or the connection is lost.
        """
        deadline_s = time.monotonic() + limit_s
        while len(self._heard) < count:
            self._more(deadline_s)
        found = bytes(self._heard[:count])
        del self._heard[:count]
        return found


class VisaStream:
    """Any other session of PyVISA.

    Parameters
    ----------
    resource : pyvisa.resources.MessageBasedResource
        Open.
    """

    def __init__(self, resource: Any) -> None:
        self._resource = resource
        self._termination = resource.read_termination

    def has_leftovers(self) -> bool:
        """Nothing can be seen without reading."""
        return False

    def _read(self, count: int) -> bytes:
        """Read at most `count` bytes; fewer where a termination ends them."""
        from pyvisa.constants import StatusCode

        with self._resource.ignore_warning(StatusCode.success_max_count_read):
            data, _ = self._resource.visalib.read(self._resource.session, count)
        return bytes(data)

    def until(self, end: bytes, limit_s: float) -> bytes:
        """Return the bytes before a termination.

        Raises
        ------
        ValueError
            If it does not come in time; the backend's own errors besides.
        """
        self._resource.read_termination = self._termination
        self._resource.timeout = round(1000 * limit_s)
        deadline_s = time.monotonic() + limit_s
        data, count = bytearray(), SHORT_REPLY
        while not data.endswith(end):
            if len(data) > LONGEST_LINE or (data and time.monotonic() > deadline_s):
                raise ValueError(f"{len(data)} bytes without an end")
            data += self._read(count)
            count = min(2 * count, CHUNK)
        return bytes(data[: -len(end)])

    def exactly(self, count: int, limit_s: float) -> bytes:
        """Return so many bytes.

        Raises
        ------
        ValueError
            If they do not come in time; the backend's own errors besides.
        """
        self._resource.read_termination = None  # a byte of the block may look like an end
        self._resource.timeout = round(1000 * limit_s)
        deadline_s = time.monotonic() + limit_s
        data, most = bytearray(), SHORT_REPLY
        while len(data) < count:
            if data and time.monotonic() > deadline_s:
                raise ValueError(f"{len(data)} of {count} bytes in time")
            data += self._read(min(most, count - len(data)))
            most = min(8 * most, CHUNK)
        return bytes(data)


def stream_of(resource: Any) -> Stream:
    """Return the stream of an open resource.

    Raises
    ------
    OSError
        If it is a socket that is not connected.
    """
    with contextlib.suppress(AttributeError, KeyError):
        line = resource.visalib.sessions[resource.session].interface
        if isinstance(line, socket.socket):
            return SocketStream(line)
    return VisaStream(resource)
