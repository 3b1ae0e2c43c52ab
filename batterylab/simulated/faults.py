"""Faults of an instrument and of its link, for any line server.

`FaultyServer` stands in for a `LineServer`: it answers as the instrument does until it is told to
fail. Faults of the link change a reply on its way; faults of the instrument change what it is.
"""

import re
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from batterylab.simulated.scpi import LineServer, Talk

#: what a fault does to the reply to a line
LINK_FAULTS = ("late", "lost", "garbage", "wrong terminator", "partial", "closed")
#: what a fault makes of the figures in a reply
FIGURE_FAULTS = ("over-range", "dead channel")
#: what a fault makes of the instrument, before it sees the line
INSTRUMENT_FAULTS = ("busy", "power cycle", "local control", "relay stuck", "relay welded",
                     "wrong polarity", "open interlock")  # fmt: skip
#: lasts until `mend`, and begins at once
UNPLUGGED = "unplugged"
FAULTS = (*LINK_FAULTS, *FIGURE_FAULTS, *INSTRUMENT_FAULTS, UNPLUGGED)
#: what an instrument must be able to have happen to it
NEEDS = {"power cycle": "power_cycle", "local control": "press_local",
         "relay stuck": "stick_relay", "relay welded": "weld_relay",
         "wrong polarity": "swap_leads", "open interlock": "open_interlock"}  # fmt: skip
MOST_SEEN = 10_000
LONGEST_DELAY_s = 3600.0
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
    channel : int or None
        Which one's relay or leads, of an instrument with several; its first if not given.
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
    channel: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ValueError(f"unknown fault {self.kind!r}; known: {', '.join(FAULTS)}")
        if not (self.times >= 1 and 0.0 <= self.delay_s <= LONGEST_DELAY_s):
            raise ValueError(f"times is at least 1, delay_s 0 to {LONGEST_DELAY_s:g}")
        try:
            re.compile(self.on)
        except re.error as error:
            raise ValueError(f"on: {self.on!r} is no regular expression: {error}") from None


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
        The lines that came in; the oldest of very many are forgotten.
    struck : int
        How many lines met a fault.
    is_unplugged : bool
        Whether it is off the net: whoever connects is hung up on.
    """

    def __init__(self, server: LineServer, instrument: Any = None) -> None:
        super().__init__(server.answer, server.terminator, server.reply_terminator)
        self.instrument: Any = instrument or getattr(server.answer, "__self__", None)
        self.waiting: deque[Fault] = deque()
        self.seen: list[str] = []
        self.struck = 0
        self.is_unplugged = False
        self._busy_until_s = 0.0

    def inject(self, kind: str, on: str = "", **options: Any) -> None:
        """Enter a fault for the next line that contains `on`; see `Fault`.

        Raises
        ------
        ValueError
            If the fault is unknown, or the instrument cannot have it.
        """
        fault = Fault(kind, on, **options)
        if kind in NEEDS and not hasattr(self.instrument, NEEDS[kind]):
            raise ValueError(f"this instrument cannot have {kind!r}")
        if kind == UNPLUGGED:
            self.is_unplugged = True
            self.hang_up()
            return
        self.waiting.append(fault)

    def clear(self) -> None:
        """Let it be well again, contacts closed; what else happened to the instrument stays."""
        self.waiting.clear()
        if hasattr(self.instrument, "close_interlocks"):
            self.instrument.close_interlocks()
        self.is_unplugged = False
        self._busy_until_s = 0.0

    def greet(self, talk: Talk) -> None:
        """Hang up where there is no plug."""
        if self.is_unplugged:
            talk.hang_up()

    def _fault_for(self, text: str) -> Fault | None:
        if not self.waiting or not re.search(self.waiting[0].on, text):
            return None
        fault = self.waiting[0]
        fault.times -= 1
        if fault.times <= 0:
            self.waiting.popleft()
        self.struck += 1
        return fault

    def respond(self, text: str, talk: Talk) -> None:
        """Carry out one line, with the fault that waits for it."""
        self.seen.append(text)
        if len(self.seen) > MOST_SEEN:
            del self.seen[: MOST_SEEN // 2]
        if time.monotonic() < self._busy_until_s:
            return
        fault = self._fault_for(text)
        if fault is None:
            super().respond(text, talk)
        elif fault.kind in INSTRUMENT_FAULTS:
            self._trouble(fault, text, talk)
        elif fault.kind in FIGURE_FAULTS:
            talk.send(b"".join(self._replies(text, fault)))
        else:
            self._spoil(fault, text, talk)

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

    def _trouble(self, fault: Fault, text: str, talk: Talk) -> None:
        """Let something happen to the instrument, before it sees the line."""
        if fault.kind == "busy":
            self._busy_until_s = time.monotonic() + fault.delay_s
            return
        which = () if fault.channel is None else (fault.channel,)
        getattr(self.instrument, NEEDS[fault.kind])(*which)
        if fault.kind == "power cycle":
            talk.hang_up()
        else:
            super().respond(text, talk)

    def _spoil(self, fault: Fault, text: str, talk: Talk) -> None:
        """Change what comes out of the link."""
        data = b"".join(self._replies(text))
        if fault.kind == "closed":
            talk.hang_up()
            return
        if fault.kind == "lost":
            data = b""
        elif fault.kind == "garbage" and data:
            data = GARBAGE + self.reply_terminator
        elif fault.kind == "wrong terminator":
            data = data.removesuffix(self.reply_terminator) + (b"\t" if data else b"")
        elif fault.kind == "partial":
            data = data[: len(data) // 2]
        talk.send(data, fault.delay_s if fault.kind == "late" else 0.0)
