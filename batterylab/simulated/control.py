"""The port through which a program owns the simulated bench's time and a technician's hands.

One JSON object a line, one answer a line. ``{"do": "time"}`` and
``{"do": "advance", "to": unix_s}`` answer ``{"time": unix_s}``; ``insert``, ``remove`` and
``probe`` do what a technician does, ``truth`` tells what a cell really is and ``flows`` which
current flows in each channel, whatever its instrument says; ``fault`` and ``mend`` let an
instrument fail and be well again; ``stop`` ends the bench. Whatever cannot be done is answered
with ``{"error": text}``.
"""

import asyncio
import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from batterylab.errors import BatterylabError
from batterylab.simulated.scpi import LineServer

if TYPE_CHECKING:
    from batterylab.simulated.faults import FaultyServer
    from batterylab.simulated.world import World

#: nothing on a bench takes longer at once than this
LONGEST_ADVANCE_S = 31 * 86400.0
Answer = dict[str, Any]


class Control:
    """What the control port does.

    Parameters
    ----------
    world : World
        The world behind the instruments.
    stopped : callable, optional
        Called when the bench is told to stop.
    instruments : dict of str to FaultyServer, optional
        That can fail, by name.
    """

    def __init__(
        self, world: "World", stopped: Callable[[], None] | None = None,
        instruments: "dict[str, FaultyServer] | None" = None,
    ) -> None:  # fmt: skip
        self.world = world
        self.stopped = stopped
        self.instruments = instruments or {}
        self.actions: dict[str, Callable[[dict[str, Any]], Answer]] = {
            "time": self._time,
            "advance": self._advance,
            "insert": self._insert,
            "remove": self._remove,
            "probe": self._probe,
            "truth": self._truth,
            "flows": self._flows,
            "fault": self._fault,
            "mend": self._mend,
            "stop": self._stop,
        }

    def answer(self, text: str) -> list[str | bytes]:
        """Carry out one request; there is always exactly one answer."""
        return [json.dumps(self._carry_out(text), allow_nan=False)]

    def _carry_out(self, text: str) -> Answer:
        try:
            request = json.loads(text)
            if not isinstance(request, dict):
                raise ValueError("a request is a JSON object")
            what = request.pop("do", None)
            if not isinstance(what, str) or what not in self.actions:
                raise ValueError(f"unknown request {what!r}; known: {', '.join(self.actions)}")
            return self.actions[what](request)
        except (ValueError, TypeError, ArithmeticError, LookupError, RecursionError,
                BatterylabError) as error:  # fmt: skip
            return {"error": str(error)[:500]}

    def _time(self, request: dict[str, Any]) -> Answer:
        _take(request)
        return {"time": self.world.now_s}

    def _advance(self, request: dict[str, Any]) -> Answer:
        (to,) = _take(request, to=(int, float))
        if not math.isfinite(to) or to > self.world.now_s + LONGEST_ADVANCE_S:
            raise ValueError(f"to: {to} is too far from {self.world.now_s}")
        self.world.advance(to)
        return {"time": self.world.now_s}

    def _insert(self, request: dict[str, Any]) -> Answer:
        request.setdefault("reversed", False)
        serial, channel, is_reversed = _take(request, serial=str, channel=str, reversed=bool)
        self.world.insert(serial, channel, is_reversed=is_reversed)
        return {"serial": serial, "channel": channel}

    def _remove(self, request: dict[str, Any]) -> Answer:
        (channel,) = _take(request, channel=str)
        self.world.remove(channel)
        return {"channel": channel}

    def _probe(self, request: dict[str, Any]) -> Answer:
        (serial,) = _take(request, serial=(str, type(None)))
        self.world.probe(serial)
        return {"serial": serial}

    def _truth(self, request: dict[str, Any]) -> Answer:
        (serial,) = _take(request, serial=str)
        if serial not in self.world.cells:
            raise ValueError(f"there is no cell {serial!r}")
        cell = self.world.cells[serial]
        return {
            "serial": serial,
            "truth": cell.truth.to_dict(),
            "ac_resistance_ohm": cell.ac_resistance_ohm(),
            "ocv_V": cell.open_circuit_voltage_V(self.world.state_of(serial)),
            "channel": self.world.seat_of.get(serial),
        }

    def _flows(self, request: dict[str, Any]) -> Answer:
        _take(request)
        return {"time": self.world.now_s, "current_A": self.world.flows_A()}

    def _fault(self, request: dict[str, Any]) -> Answer:
        options = {key: request.pop(key) for key in ("times", "delay_s", "code", "channel")
                   if key in request}  # fmt: skip
        request.setdefault("on", "")
        name, kind, on = _take(request, instrument=str, kind=str, on=str)
        self._instrument(name).inject(kind, on, **options)
        return {"instrument": name, "kind": kind}

    def _mend(self, request: dict[str, Any]) -> Answer:
        (name,) = _take(request, instrument=str)
        self._instrument(name).clear()
        return {"instrument": name}

    def _instrument(self, name: str) -> "FaultyServer":
        if name not in self.instruments:
            raise ValueError(
                f"there is no instrument {name!r}; known: {', '.join(self.instruments)}"
            )
        return self.instruments[name]

    def _stop(self, request: dict[str, Any]) -> Answer:
        _take(request)
        if self.stopped is not None:
            asyncio.get_running_loop().call_later(0.05, self.stopped)
        return {"stopped": True}


def _take(request: dict[str, Any], **kinds: type | tuple[type, ...]) -> list[Any]:
    """Return the named values, each of its kind; anything missing or more is a mistake."""
    unknown = sorted(set(request) - set(kinds))
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}")
    values = []
    for name, kind in kinds.items():
        if name not in request:
            raise ValueError(f"{name} is missing")
        value = request[name]
        is_flag = isinstance(value, bool) and kind is not bool
        if not isinstance(value, kind) or is_flag:
            raise TypeError(f"{name}: {value!r} is of the wrong kind")
        values.append(value)
    return values


class ControlServer(LineServer):
    """The control port as a server.

    Parameters
    ----------
    world : World
        The world behind the instruments.
    stopped : callable, optional
        Called when the bench is told to stop.
    """

    def __init__(self, world: "World", stopped: Callable[[], None] | None = None) -> None:
        super().__init__(Control(world, stopped).answer)
