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
from typing import Any

Handler = Callable[..., Any]
#: a handler, and the fewest and the most arguments it takes
Entry = tuple[Handler, int, int]
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


class LineServer:
    """Serve an instrument's lines over TCP, one task a connection.

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
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def serve(self, host: str, port: int) -> int:
        """Listen, and return the port; 0 asks for a free one.

        Raises
        ------
        OSError
            If the port is taken.
        """
        self._server = await asyncio.start_server(self._talk, host, port, limit=1 << 20)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, and hang up on whoever is connected."""
        if self._server is None:
            return
        self._server.close()
        for task in self._talks:
            task.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def respond(self, text: str, writer: asyncio.StreamWriter) -> None:
        """Carry out one line and send its replies."""
        for reply in self.answer(text):
            data = reply if isinstance(reply, bytes) else reply.encode("latin-1")
            writer.write(data + self.reply_terminator)
        await writer.drain()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._talks.add(task)
            task.add_done_callback(self._talks.discard)
        try:
            while True:
                raw = await reader.readuntil(self.terminator)
                text = raw[: -len(self.terminator)].decode("latin-1")
                await self.respond(text, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
            pass
        except asyncio.CancelledError:
            pass  # the server closes
        finally:
            writer.close()
