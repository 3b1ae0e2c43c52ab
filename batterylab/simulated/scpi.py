"""A strict SCPI core for simulated instruments: headers, arguments, errors.

Written from IEEE 488.2 and SCPI-1999, volume 1: a keyword is accepted in its short form (the
capitals of its definition) or its long form and nothing between, in any case; commands of one
line are separated by semicolons and continue at the level of the one before unless they begin
with a colon; what is not understood goes to the error queue and gets no answer.
"""

import asyncio
import inspect
import re
from collections import deque
from collections.abc import Callable
from typing import Any, cast

Handler = Callable[..., Any]
#: a handler, and the fewest and the most arguments it takes
Entry = tuple[Handler, int, int]
LONGEST_LINE = 1 << 20
_SPLIT_ARGUMENTS = re.compile(r",(?![^(]*\))")


class ScpiError(Exception):
    """An entry for the error queue."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def undefined_header() -> ScpiError:
    """Return SCPI error -113."""
    return ScpiError(-113, "Undefined header")


def out_of_range() -> ScpiError:
    """Return SCPI error -222."""
    return ScpiError(-222, "Data out of range")


def illegal_parameter() -> ScpiError:
    """Return SCPI error -224."""
    return ScpiError(-224, "Illegal parameter value")


def spellings(definition: str) -> list[str]:
    """Return every accepted spelling of a header such as ``SYSTem:ERRor[:NEXT]?``.

    Parts in square brackets may be left out; each keyword may be short or long.
    """
    query = definition.endswith("?")
    parts = re.findall(r"(\[?):?([A-Za-z*0-9]+)(\]?)", definition.rstrip("?").replace("[:", "["))
    results = [""]
    for opening, word, _ in parts:
        long = word.upper()
        short = re.match(r"[A-Z*0-9]+", word)
        forms = {long, short[0] if short else long}
        extended = [f"{r}:{form}" if r else form for r in results for form in forms]
        results = extended + (results if opening else [])
    return [result + ("?" if query else "") for result in results]


class ScpiInstrument:
    """An instrument with a table of commands and an error queue.

    Parameters
    ----------
    identity : str
        The reply to ``*IDN?``.
    queue_length : int
        Errors kept; the last place then says -350, queue overflow.
    signed_zero : bool
        Whether "no error" is ``+0`` or ``0``.
    """

    def __init__(self, identity: str, *, queue_length: int = 20, signed_zero: bool = True) -> None:
        self.identity = identity
        self.errors: deque[str] = deque()
        self.queue_length = queue_length
        self.no_error = '+0,"No error"' if signed_zero else '0,"No error"'
        self.commands: dict[str, Entry] = {}
        self.event_status = 128
        self.add("*IDN?", lambda: self.identity)
        self.add("*CLS", self._clear_status)
        self.add("*OPC?", lambda: "1")
        self.add("*OPC", self._operation_complete)
        self.add("*ESR?", self._read_events)
        self.add("*TST?", lambda: "0")
        self.add("*WAI", lambda: None)
        self.add("SYSTem:ERRor[:NEXT]?", self._next_error)

    def add(self, definition: str, handler: Handler) -> None:
        """Enter a command under all its spellings; its parameters are the handler's."""
        entry = (handler, *_arity(handler))
        for spelling in spellings(definition):
            self.commands[spelling] = entry

    def _clear_status(self) -> None:
        self.errors.clear()
        self.event_status = 0

    def _operation_complete(self) -> None:
        self.event_status |= 1

    def _read_events(self) -> str:
        value, self.event_status = self.event_status, 0
        return str(value)

    def _next_error(self) -> str:
        return self.errors.popleft() if self.errors else self.no_error

    def fault(self, error: ScpiError) -> None:
        """Put an error into the queue and into the event register."""
        self.event_status |= 32 if -200 < error.code <= -100 else 16
        if len(self.errors) >= self.queue_length:
            self.errors[-1] = '-350,"Queue overflow"'
        else:
            self.errors.append(f'{error.code},"{error.text}"')

    def answer(self, text: str) -> list[str | bytes]:
        """Carry out one line; return the replies in order."""
        replies: list[str | bytes] = []
        path = ""
        for part in text.split(";"):
            command = part.strip()
            if not command:
                continue
            header, _, rest = command.partition(" ")
            header = header.upper()
            if header.startswith(":"):
                header, path = header[1:], ""
            full = header if header.startswith("*") or not path else f"{path}:{header}"
            try:
                reply = self._carry_out(full, rest.strip())
            except ScpiError as error:
                self.fault(error)
                break
            if not full.startswith("*"):
                path = full.rstrip("?").rpartition(":")[0]
            if reply is not None:
                replies.append(reply)
        if len(replies) > 1 and all(isinstance(reply, str) for reply in replies):
            return [";".join(str(reply) for reply in replies)]
        return replies

    def _carry_out(self, header: str, rest: str) -> Any:
        """Call a command's handler; raise SCPI's own errors for what it does not take."""
        if header not in self.commands:
            raise undefined_header()
        handler, least, most = self.commands[header]
        arguments = [part.strip() for part in _SPLIT_ARGUMENTS.split(rest)] if rest else []
        if len(arguments) > most:
            raise ScpiError(-108, "Parameter not allowed")
        if len(arguments) < least:
            raise ScpiError(-109, "Missing parameter")
        return handler(*arguments)


def _arity(handler: Handler) -> tuple[int, int]:
    """Return the fewest and the most arguments of a handler."""
    least = most = 0
    for parameter in inspect.signature(handler).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            most = 10**6
            continue
        most += 1
        least += parameter.default is parameter.empty
    return least, most


def number(text: str, low: float, high: float) -> float:
    """Return a numeric argument within its range, or raise SCPI's own errors."""
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        raise ScpiError(-104, "Data type error")
    value = float(text)
    if not low <= value <= high:
        raise out_of_range()
    return value


def whole(text: str, low: int, high: int) -> int:
    """Return a whole argument within its range."""
    value = number(text, low, high)
    if value != int(value):
        raise ScpiError(-104, "Data type error")
    return int(value)


def channel_list(text: str) -> list[int]:
    """Return the numbers of a channel list such as ``(@101,103:105)``."""
    match = re.fullmatch(r"\(@([0-9,: ]*)\)", text)
    if not match:
        raise ScpiError(-104, "Data type error")
    numbers: list[int] = []
    for part in filter(None, (p.strip() for p in match[1].split(","))):
        first, _, last = part.partition(":")
        try:
            low, high = int(first), int(last or first)
        except ValueError:
            raise ScpiError(-104, "Data type error") from None
        if high < low or high - low > 10_000:
            raise out_of_range()
        numbers += range(low, high + 1)
    return numbers


class Talk(asyncio.Protocol):
    """One connection of a line server: lines come in, replies go out in their order."""

    def __init__(self, server: "LineServer") -> None:
        self.server = server
        self.transport: asyncio.Transport | None = None
        self._heard = bytearray()
        self._waits = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take up a connection."""
        self.transport = cast(asyncio.Transport, transport)
        self.server.talks.add(self)
        self.server.greet(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self.server.talks.discard(self)

    def data_received(self, data: bytes) -> None:
        """Collect bytes, and carry out the lines that are whole."""
        self._heard += data
        self._go_on()

    def _go_on(self) -> None:
        end = self.server.terminator
        while not self._waits:
            at = self._heard.find(end)
            if at < 0:
                if len(self._heard) > LONGEST_LINE:
                    self.hang_up()
                return
            text = self._heard[:at].decode("latin-1")
            del self._heard[: at + len(end)]
            self.server.respond(text, self)

    def send(self, data: bytes, delay_s: float = 0.0) -> None:
        """Send a reply; with a delay, whatever comes after it waits as well."""
        if delay_s > 0:
            self._waits = True
            asyncio.get_running_loop().call_later(delay_s, self._send_late, data)
        elif self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def _send_late(self, data: bytes) -> None:
        self._waits = False
        self.send(data)
        self._go_on()

    def hang_up(self) -> None:
        """Close the connection, whatever waits."""
        if self.transport is not None:
            self.transport.abort()
        self._heard.clear()


class LineServer:
    """Serve an instrument's lines over TCP.

    Parameters
    ----------
    answer : callable
        Takes a line without its end, returns the replies without theirs.
    terminator, reply_terminator : bytes
        Ends of a line and of a reply.
    """

    def __init__(
        self, answer: Callable[[str], list[str | bytes]], terminator: bytes = b"\n",
        reply_terminator: bytes = b"\n",
    ) -> None:  # fmt: skip
        self.answer = answer
        self.terminator = terminator
        self.reply_terminator = reply_terminator
        self.talks: set[Talk] = set()
        self._server: asyncio.Server | None = None

    async def serve(self, host: str, port: int) -> int:
        """Listen, and return the port; 0 asks for a free one.

        Raises
        ------
        OSError
            If the port is taken.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Talk(self), host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, and hang up on whoever is connected."""
        if self._server is None:
            return
        self._server.close()
        self.hang_up()
        await asyncio.sleep(0)

    def hang_up(self) -> None:
        """Close every connection; new ones are taken."""
        for talk in list(self.talks):
            talk.hang_up()

    def greet(self, talk: Talk) -> None:
        """Take note of a new connection."""

    def respond(self, text: str, talk: Talk) -> None:
        """Carry out one line and send its replies."""
        for reply in self.answer(text):
            data = reply if isinstance(reply, bytes) else reply.encode("latin-1")
            talk.send(data + self.reply_terminator)


class DeadSocket(LineServer):
    """The port that ends another port's sessions: whoever connects is hung up on when it is done.

    Parameters
    ----------
    ended : LineServer
        Whose sessions.
    """

    def __init__(self, ended: LineServer) -> None:
        super().__init__(lambda _: [])
        self.ended = ended

    def greet(self, talk: Talk) -> None:
        """End the sessions, and this connection."""
        self.ended.hang_up()
        if talk.transport is not None:
            talk.transport.close()
