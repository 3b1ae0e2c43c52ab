"""Faults of an instrument and of its link, for any line server.

`FaultyServer` stands in for a `LineServer`: it answers as the instrument does until it is told to
fail. Faults of the link change a reply on its way; faults of the instrument change what it is.
"""

import asyncio
import re
from collections import deque
from dataclasses import dataclass
from typing import Any

from batterylab.simulated.scpi import LineServer

#: what a fault does to the reply to a line
LINK_FAULTS = ("late", "lost", "garbage", "wrong terminator", "partial", "closed")
#: what a fault makes of the figures in a reply
FIGURE_FAULTS = ("over-range", "dead channel")
#: what a fault makes of the instrument, before it sees the line
INSTRUMENT_FAULTS = ("busy", "power cycle", "local control")
FAULTS = (*LINK_FAULTS, *FIGURE_FAULTS, *INSTRUMENT_FAULTS)
#: SCPI's codes for infinity and for not-a-number
CODES = {"over-range": "+9.90000000E+37", "dead channel": "+9.91000000E+37"}
GARBAGE = b"\x00\xff#?!\x7f\xb6"
_FIGURE = re.compile(r"(?:[+-] *)?\d+\.\d*(?:E[+-]?\d+)?")


@dataclass
class Fault:
    """One fault to come.

    Attributes
    ----------
    kind : str
        One of `FAULTS`.
    on : str
        Regular expression that a line must contain.
    times : int
        On how many lines.
    delay_s : float
        Of a late reply, and how long the instrument is busy; in real time.
    code : str
        What stands for a figure, for over-range and dead channel.
    """

    kind: str
    on: str = ""
    times: int = 1
    delay_s: float = 0.3
    code: str = ""

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ValueError(f"unknown fault {self.kind!r}; known: {', '.join(FAULTS)}")


class FaultyServer(LineServer):
    """A line server that can be told to fail.

    Parameters
    ----------
    server : LineServer
        Not yet listening; this one listens in its place.
    instrument : object, optional
        With `power_cycle` and `press_local`; that of the server's `answer` if not given.

    Attributes
    ----------
    seen : list of str
        Every line that came in.
    struck : int
        How many lines met a fault.
    """

    def __init__(self, server: LineServer, instrument: Any = None) -> None:
        super().__init__(server.answer, server.terminator, server.reply_terminator)
        self.instrument: Any = instrument or getattr(server.answer, "__self__", None)
        self.waiting: deque[Fault] = deque()
        self.seen: list[str] = []
        self.struck = 0
        self._busy_until_s = 0.0

    def inject(self, kind: str, on: str = "", **options: Any) -> None:
        """Enter a fault for the next line that contains `on`; see `Fault`.

        Raises
        ------
        ValueError
            If the fault is unknown, or the instrument cannot have it.
        """
        fault = Fault(kind, on, **options)
        needs = {"power cycle": "power_cycle", "local control": "press_local"}.get(kind)
        if needs and not hasattr(self.instrument, needs):
            raise ValueError(f"this instrument cannot have {kind!r}")
        self.waiting.append(fault)

    def clear(self) -> None:
        """Let it be well again; what already happened to the instrument stays."""
        self.waiting.clear()
        self._busy_until_s = 0.0

    def _fault_for(self, text: str) -> Fault | None:
        if not self.waiting or not re.search(self.waiting[0].on, text):
            return None
        fault = self.waiting[0]
        fault.times -= 1
        if fault.times <= 0:
            self.waiting.popleft()
        self.struck += 1
        return fault

    async def respond(self, text: str, writer: asyncio.StreamWriter) -> None:
        """Carry out one line, with the fault that waits for it."""
        self.seen.append(text)
        now_s = asyncio.get_running_loop().time()
        if now_s < self._busy_until_s:
            return
        fault = self._fault_for(text)
        if fault is None:
            await super().respond(text, writer)
        elif fault.kind in INSTRUMENT_FAULTS:
            await self._trouble(fault, text, writer)
        elif fault.kind in FIGURE_FAULTS:
            writer.write(b"".join(self._replies(text, fault)))
            await writer.drain()
        else:
            await self._spoil(fault, text, writer)

    def _replies(self, text: str, fault: Fault | None = None) -> list[bytes]:
        """Carry a line out and return its replies with their ends."""
        found = []
        for reply in self.answer(text):
            data = reply if isinstance(reply, bytes) else reply.encode("latin-1")
            if fault is not None and not isinstance(reply, bytes):
                count = 1 if fault.kind == "dead channel" else 0
                code = fault.code or CODES[fault.kind]
                data = _FIGURE.sub(code, reply, count=count).encode("latin-1")
            found.append(data + self.reply_terminator)
        return found

    async def _trouble(self, fault: Fault, text: str, writer: asyncio.StreamWriter) -> None:
        """Let the instrument be busy, be switched off and on, or be taken by somebody else."""
        if fault.kind == "busy":
            self._busy_until_s = asyncio.get_running_loop().time() + fault.delay_s
            return
        if fault.kind == "power cycle":
            self.instrument.power_cycle()
            writer.transport.abort()
            return
        self.instrument.press_local()
        await super().respond(text, writer)

    async def _spoil(self, fault: Fault, text: str, writer: asyncio.StreamWriter) -> None:
        """Change what comes out of the link."""
        data = b"".join(self._replies(text))
        if fault.kind == "closed":
            writer.transport.abort()
            return
        if fault.kind == "late":
            await asyncio.sleep(fault.delay_s)
        elif fault.kind == "lost":
            data = b""
        elif fault.kind == "garbage" and data:
            data = GARBAGE + self.reply_terminator
        elif fault.kind == "wrong terminator":
            data = data.removesuffix(self.reply_terminator) + (b"\t" if data else b"")
        elif fault.kind == "partial":
            data = data[: len(data) // 2]
        writer.write(data)
        await writer.drain()
