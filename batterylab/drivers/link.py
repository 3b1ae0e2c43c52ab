"""The link to an instrument: PyVISA with the pure-Python backend.

Everything that can go wrong on the wire becomes an `EnvironmentFailedError` that names the
instrument, its address and the command. Minimum gaps go through the bench's clock; the time
limits of the link are real time.
"""

import contextlib
import os
from dataclasses import dataclass
from typing import Any

from batterylab.bench.clock import Clock, may_take
from batterylab.drivers.stream import Stream, stream_of
from batterylab.errors import BatterylabError, EnvironmentFailedError

LARGEST_BLOCK = 1 << 24


@dataclass(frozen=True)
class LinkSpec:
    """How to talk to a model.

    Attributes
    ----------
    write_termination, read_termination : str
        End of a command and of a reply.
    timeout_s : float
        Longest wait for a reply, in real time.
    minimum_gap_s : float
        Between two commands, in bench time.
    encoding : str
        Of commands and replies.
    """

    write_termination: str = "\n"
    read_termination: str = "\n"
    timeout_s: float = 2.0
    minimum_gap_s: float = 0.0
    encoding: str = "ascii"


def _manager() -> Any:
    import pyvisa

    return pyvisa.ResourceManager(os.environ.get("BATTERYLAB_VISA", "@py"))


class Link:
    """One open connection to an instrument.

    Parameters
    ----------
    name : str
        What the bench calls the instrument; stands in every error.
    address : str
        VISA resource name, such as ``TCPIP::10.0.0.11::5025::SOCKET``.
    spec : LinkSpec
        How to talk to it.
    clock : Clock
        Of the bench.

    Raises
    ------
    EnvironmentFailedError
        If it cannot be opened.
    """

    def __init__(self, name: str, address: str, spec: LinkSpec, clock: Clock) -> None:
        self.name = name
        self.address = address
        self.spec = spec
        self.clock = clock
        self._next_s = 0.0
        self._is_in_doubt = False
        self._resource: Any = None
        self._stream: Stream
        self._open()

    def _failed(self, what: str, error: Exception | str) -> EnvironmentFailedError:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        return EnvironmentFailedError(
            f"{self.name} at {self.address}: {what}: {text}",
            hint="is it on, and is the address right? `batterylab bench check` tries each one",
        )

    def _open(self) -> None:
        may_take(2 * self.spec.timeout_s)
        try:
            self._resource = _manager().open_resource(
                self.address,
                open_timeout=round(1000 * self.spec.timeout_s),
                write_termination=self.spec.write_termination,
                read_termination=self.spec.read_termination,
                encoding=self.spec.encoding,
            )
            self._stream = stream_of(self._resource)
        except Exception as error:  # PyVISA backends raise many kinds
            self.close()
            raise self._failed("cannot be opened", error) from None

    def _mind_the_gap(self) -> None:
        if self.spec.minimum_gap_s <= 0:
            return
        now = self.clock.now()
        if now < self._next_s:
            self.clock.sleep(self._next_s - now)
        self._next_s = self.clock.now() + self.spec.minimum_gap_s

    def _resync(self) -> None:
        """After a failure nobody knows what is still on its way: begin again.

        So it is where bytes wait that nobody asked for.
        """
        if not self._is_in_doubt and not self._stream.has_leftovers():
            return
        self.close()
        self._open()
        self._is_in_doubt = False

    def _send(self, command: str) -> None:
        try:
            data = (command + self.spec.write_termination).encode(self.spec.encoding)
        except UnicodeEncodeError:
            data = b""
        if not data or not command.isprintable():
            raise BatterylabError(f"{self.name}: {command!r} cannot be sent")
        self._resync()
        self._mind_the_gap()
        self._is_in_doubt = True
        may_take(2 * self.spec.timeout_s)
        try:
            self._resource.write_raw(data)
        except Exception as error:
            raise self._failed(f"{command!r} could not be sent", error) from None

    def write(self, command: str) -> None:
        """Send a command.

        Raises
        ------
        EnvironmentFailedError
            If the link is lost.
        BatterylabError
            If the command holds what cannot be sent; nothing was sent.
        """
        self._send(command)
        self._is_in_doubt = False

    def query(self, command: str, timeout_s: float | None = None) -> str:
        """Send a query and return the reply without its termination.

        Parameters
        ----------
        command : str
            The query.
        timeout_s : float, optional
            Longest wait for this reply, in real time, where it is not that of the model.

        Raises
        ------
        EnvironmentFailedError
            If there is no whole reply in time.
        """
        self._send(command)
        limit_s = self.spec.timeout_s if timeout_s is None else timeout_s
        may_take(2 * limit_s)
        try:
            end = self.spec.read_termination.encode()
            reply = self._stream.until(end, limit_s).decode(self.spec.encoding)
        except Exception as error:
            raise self._failed(f"no reply to {command!r}", error) from None
        self._is_in_doubt = False
        return reply

    def query_block(self, command: str) -> bytes:
        """Send a query and return the content of its definite-length block (IEEE 488.2).

        Raises
        ------
        EnvironmentFailedError
            If there is no whole block in time.
        """
        self._send(command)
        try:
            limit_s, read = self.spec.timeout_s, self._stream.exactly
            head = read(2, limit_s)
            if head[:1] != b"#" or not head[1:].isdigit() or head == b"#0":
                raise ValueError(f"the reply begins with {head!r}, not with a block")
            digits = read(int(head[1:]), limit_s)
            if not digits.isdigit() or int(digits) > LARGEST_BLOCK:
                raise ValueError(f"a block of {digits!r} bytes")
            content = read(int(digits), limit_s)
            end = self.spec.read_termination.encode()
            if read(len(end), limit_s) != end:
                raise ValueError("the block goes on after its end")
        except Exception as error:
            raise self._failed(f"no whole block for {command!r}", error) from None
        self._is_in_doubt = False
        return content

    def unexpected(self, command: str, reply: str) -> EnvironmentFailedError:
        """Return the error for a reply that means nothing."""
        return self._failed(f"{command!r} was answered with", repr(reply[:60]))

    def close(self) -> None:
        """Close the connection; errors on the way out do not matter."""
        with contextlib.suppress(Exception):
            self._resource.close()
