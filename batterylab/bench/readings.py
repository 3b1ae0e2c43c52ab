"""Readings by a meter in the middle of a run: AC resistance and spectra of cells in their channels.

The cycler rests the channel, which is confirmed by reading back; the relays close, the meter reads,
the relays open again. What a scanner says of a relay does not show a contact that sticks: so the
meter must see no cell before the relays close, none after they have opened, and none with one
relay of the pair closed, which would be seen if the other one stuck. Any doubt stops the channel,
and its reason says why. A meter reads one cell after the other; cells that wait have no current.
"""

import contextlib
import math
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from batterylab.bench.abilities import readers_of
from batterylab.bench.attendant import STEP_INDEX, Attendant
from batterylab.bench.channelrun import ChannelRun
from batterylab.bench.journal import ROW
from batterylab.bench.setup import Bench
from batterylab.bench.wiring import Way
from batterylab.drivers.catalogue import spec
from batterylab.drivers.roles import ImpedanceReading
from batterylab.errors import BatterylabError, EnvironmentFailedError
from batterylab.protocol import Resolved
from batterylab.protocol.check import Reader
from batterylab.protocol.form import Read

#: a channel at rest has no more current than this
QUIET_A = 0.01
#: how far the meter's voltage may lie from the cycler's
WITHIN_V = 0.02
#: after relays have moved, and before the first look at a channel at rest
SETTLE_s = 1.0
LOOK_s = 3.0
#: longest that another reading may hold the relays' link
LOCK_s = 15.0
CURRENT, VOLTAGE = ROW.index("current_A"), ROW.index("voltage_V")

#: what a reading waits for, in s; and whether a real meter takes this time in its reply by itself
Wait = tuple[float, bool]


class _RelayError(EnvironmentFailedError):
    """Relays are in doubt: the meter that they lead to is not used any more."""


@dataclass
class Task:
    """One reading of one channel.

    Attributes
    ----------
    run : ChannelRun
        The channel.
    way : Way
        To the meter.
    reader : Reader
        What the meter can do.
    cell_V : float
        The cycler's last voltage of the cell, kept up to date.
    found : list of ImpedanceReading
        One a frequency.
    error : BatterylabError or None
        Why it failed.
    """

    run: ChannelRun
    way: Way
    reader: Reader
    cell_V: float = math.nan
    waited_s: float = 0.0
    found: list[ImpedanceReading] = field(default_factory=list)
    course: Generator[Wait, None, None] | None = None
    due_s: float = 0.0
    is_done: bool = False
    error: BatterylabError | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def read(self) -> Read:
        """What the step asks for."""
        running = self.run.running
        assert running is not None and running.segment.steps[0].read is not None  # noqa: S101
        return running.segment.steps[0].read


class Readings:
    """The readings of a run.

    Parameters
    ----------
    bench : Bench
        Open.
    attendants : sequence of Attendant
        Of all cyclers.
    runs : sequence of ChannelRun
        All channels.
    resolved : Resolved
        The protocol.
    is_real : bool
        Whether seconds are real: then a thread waits for each meter.
    """

    def __init__(
        self, bench: Bench, attendants: Sequence[Attendant], runs: Sequence[ChannelRun],
        resolved: Resolved, *, is_real: bool,
    ) -> None:  # fmt: skip
        self.bench, self.attendants, self.runs, self.is_real = bench, attendants, runs, is_real
        self.are_needed = any(s.read is not None and s.read.needs_meter for s in resolved.steps())
        self.ways = {run.entry.name: readers_of(bench.file, run.entry) for run in runs}
        self.tasks: dict[str, Task] = {}
        self.due_s = math.inf
        self._broken: dict[str, str] = {}
        self._since_s: dict[str, float] = {}
        self._turn = threading.Lock()  # held by whoever talks to relays

    def _places(self, relays: str) -> list[int]:
        """Return all relays of a scanner that lead to meters."""
        ways = (way for channel in self.bench.file.channels.values() for way in channel.meters)
        return sorted({place for way in ways if way.relays == relays for place in way.places})

    def prepare(self) -> None:
        """Open all relays, and set the meters up.

        Raises
        ------
        EnvironmentFailedError
            If an instrument is lost, or a relay does not open.
        """
        if self.are_needed:
            self.release()
            for name in self.bench.file.wired & set(self.bench.of_role("meter")):
                self.bench.drivers[name].prepare()

    def release(self) -> None:
        """End all readings and open every relay.

        Raises
        ------
        EnvironmentFailedError
            If one cannot be opened; all were tried.
        """
        for task in self.tasks.values():
            task.ended.set()
            if task.course is not None and not self.is_real:
                with contextlib.suppress(BatterylabError):  # all relays are opened below
                    task.course.close()
        self.tasks.clear()
        problems = []
        for name in self.bench.file.wired & set(self.bench.of_role("scanner")):
            try:
                with self._talking(name) as relays:
                    relays.prepare_relays(self._places(name))
            except BatterylabError as error:
                problems.append(error.message)
        if problems:
            raise EnvironmentFailedError("\n".join(problems), hint="look at the relays")

    @contextlib.contextmanager
    def _talking(self, relays: str) -> Generator[Any, None, None]:
        if not self._turn.acquire(timeout=LOCK_s):
            raise EnvironmentFailedError(f"{relays}: another reading does not let go of its link")
        try:
            yield self.bench.drivers[relays]
        finally:
            self._turn.release()

    # -- each look ---------------------------------------------------------------------------
    def look(self, now_s: float) -> None:
        """Begin the readings whose meter is free, and go on with those under way."""
        if not self.are_needed:
            return
        for name, task in list(self.tasks.items()):
            self._follow(name, task, now_s)
        wishing = [run for run in self.runs
                   if run.wants_meter and run.entry.name not in self.tasks
                   and not (run.running is not None and run.running.is_ending)]  # fmt: skip
        for run in wishing:
            self._since_s.setdefault(run.entry.name, now_s)
        for run in sorted(wishing, key=lambda each: self._since_s[each.entry.name]):
            self._wish(run, now_s)
        waiting = [task.due_s for task in self.tasks.values()]
        self.due_s = float(math.ceil(min(waiting))) if waiting else math.inf

    def _wish(self, run: ChannelRun, now_s: float) -> None:
        """Begin a reading if the meter is free, else let the cell wait without current."""
        segment = run.progress.current
        read = segment.steps[0].read if segment is not None else None
        assert read is not None  # noqa: S101  (the run wants a meter)
        chosen = next(((w, r) for w, r in self.ways[run.entry.name] if r.can(read)), None)
        if chosen is None:
            self._stop(run, f"no meter reaches this channel that reads {read.what}", now_s)
            return
        way, reader = chosen
        if way.meter in self._broken:
            self._stop(run, self._broken[way.meter], now_s)
            return
        if any(task.way.meter == way.meter for task in self.tasks.values()):
            return
        attendant = self._attendant(run)
        if run.running is None:
            attendant.begin([run])
        if run.running is not None:
            waited_s = now_s - self._since_s.pop(run.entry.name)
            task = Task(run, way, reader, waited_s=waited_s, due_s=now_s + LOOK_s)
            self.tasks[run.entry.name] = task
            attendant.due_s = min(attendant.due_s, now_s + LOOK_s)

    def _attendant(self, run: ChannelRun) -> Attendant:
        return next(a for a in self.attendants if any(each is run for _, each in a.frame.members))

    def _follow(self, name: str, task: Task, now_s: float) -> None:
        run = task.run
        running = run.running
        if running is None or run.stopped or running.is_ending:  # stopped for another reason
            self._let_go(name, task)
            return
        if now_s - running.starts_s[0] > running.segment.steps[0].duration_s:
            seconds = running.segment.steps[0].duration_s
            self._fail(name, task, f"{task.way.meter} has not read within {seconds} s", now_s)
            return
        try:
            is_resting = self._rests(task, now_s)
        except BatterylabError as error:
            self._fail(name, task, error.message, now_s)
            return
        if not is_resting:
            task.due_s = now_s + LOOK_s
            return
        if task.course is None:
            task.course = self._carry_out(task)
            if self.is_real:
                threading.Thread(target=_work, args=(task,), daemon=True).start()
            else:
                task.due_s = now_s
        if self.is_real:
            task.due_s = now_s + 1.0
        else:
            _advance(task, now_s)
        if task.error is not None:
            if isinstance(task.error, _RelayError):
                self._broken[task.way.meter] = task.error.message
            self._fail(name, task, task.error.message, now_s)
        elif task.is_done:
            self._finish(name, task, now_s)

    def _rests(self, task: Task, now_s: float) -> bool:
        """Return whether the channel is seen at rest; its samples are looked at all the while.

        Raises
        ------
        EnvironmentFailedError
            If current flows.
        """
        run, attendant = task.run, self._attendant(task.run)
        running = run.running
        assert running is not None  # noqa: S101  (the caller looked)
        frame = attendant.frame
        column = next(k for k, (_, each) in enumerate(frame.members) if each is run)
        last = frame.recorder.last[column]
        if task.course is None:
            attendant.due_s = min(attendant.due_s, now_s + LOOK_s)
        if not running.is_seen or last[STEP_INDEX] != running.first_index:
            return False
        amps, task.cell_V = float(last[CURRENT]), float(last[VOLTAGE])
        if task.course is None:
            number = run.entry.cycler_channel
            task.cell_V, amps = frame.driver.measure([number])[number]
        if abs(amps) > QUIET_A:
            raise EnvironmentFailedError(f"{amps:.3f} A flow where the channel should rest")
        return True

    # -- the reading itself ------------------------------------------------------------------
    def _carry_out(self, task: Task) -> Generator[Wait, None, None]:
        """Close the relays, read, open them; yields how long to wait."""
        meter, way = self.bench.drivers[task.way.meter], task.way
        read = task.read
        if way.relays:
            yield from self._see_nothing(meter, way, (), "before its relays close")
            self._close(way)
            yield SETTLE_s, False
        try:
            for frequency_Hz in read.frequency_Hz:
                yield task.reader.reading_s(frequency_Hz), True
                found = meter.read_at(frequency_Hz)
                _check(found, task, frequency_Hz)
                task.found.append(found)
        finally:
            if way.relays:
                self._open(way)
        if way.relays:
            yield from self._see_nothing(meter, way, (), "after its relays have opened")
            for place in way.places:
                when = f"with relay {place} alone closed"
                yield from self._see_nothing(meter, way, (place,), when)
            self._open(way)

    def _see_nothing(
        self, meter: Any, way: Way, closed: tuple[int, ...], when: str
    ) -> Generator[Wait, None, None]:
        """Make sure that no cell is at the meter while at least one relay of each pair is open."""
        self._open(way)
        if closed:
            with self._talking(way.relays) as relays:
                relays.close_relays(closed)
        meter.prepare()
        yield SETTLE_s, False
        reading = meter.read()
        if reading.is_valid:
            self._open(way)
            raise _RelayError(
                f"{way.meter} sees a cell of {reading.voltage_V:.3f} V {when}: a relay of "
                f"{way.relays} sticks"
            )

    def _open(self, way: Way) -> None:
        try:
            with self._talking(way.relays) as relays:
                relays.open_relays(self._places(way.relays))
        except BatterylabError as error:
            raise _RelayError(error.message) from None

    def _close(self, way: Way) -> None:
        """Close a way's relays, and make sure that no other is closed."""
        with self._talking(way.relays) as relays:
            relays.close_relays(way.places)
            states = relays.relays(self._places(way.relays))
        closed = {place for place, state in states.items() if state}
        mine = self._places_of(way)
        if (closed & mine) != set(way.places):
            raise _RelayError(f"{way.relays}: relays {sorted(closed & mine)} are closed, "
                              f"not {list(way.places)}")  # fmt: skip

    def _places_of(self, wanted: Way) -> set[int]:
        """Return all relays of a scanner that lead to one meter."""
        ways = (way for channel in self.bench.file.channels.values() for way in channel.meters)
        return {place for way in ways if (way.meter, way.relays) == (wanted.meter, wanted.relays)
                for place in way.places}  # fmt: skip

    # -- its end -----------------------------------------------------------------------------
    def _finish(self, name: str, task: Task, now_s: float) -> None:
        """Write what was read, durably, and end the step."""
        run, attendant = task.run, self._attendant(task.run)
        running = run.running
        assert running is not None  # noqa: S101  (the caller looked)
        entry = self.bench.file.instruments[task.way.meter]
        ohms = [each.impedance_ohm for each in task.found]
        attendant.journal.event(
            name, "reading", index=attendant.frame.index_of(run), step=running.first_index,
            read=task.read.what, measure=running.segment.steps[0].measure, at_s=now_s,
            waited_s=task.waited_s, through=str(task.way),
            meter={"model": entry.model, "serial": entry.serial,
                   "calibration_due": entry.calibration_due},
            accuracy=spec(entry.model).accuracy, frequency_Hz=list(task.read.frequency_Hz),
            real_ohm=[ohm.real for ohm in ohms],
            imaginary_ohm=[None if math.isnan(ohm.imag) else ohm.imag for ohm in ohms],
            voltage_V=[each.voltage_V for each in task.found],
        )  # fmt: skip
        attendant.journal.sync()
        self.tasks.pop(name)
        attendant.end([run], now_s)

    def _let_go(self, name: str, task: Task) -> None:
        """End a reading whose channel was stopped; its relays open at once."""
        self.tasks.pop(name)
        task.ended.set()
        try:
            if task.course is not None and not self.is_real:
                task.course.close()
            if task.way.relays and task.course is not None:
                self._open(task.way)
        except BatterylabError as error:
            self._broken[task.way.meter] = error.message

    def _fail(self, name: str, task: Task, reason: str, now_s: float) -> None:
        self._let_go(name, task)
        self._stop(task.run, reason, now_s)

    def _stop(self, run: ChannelRun, reason: str, now_s: float) -> None:
        """Make a channel safe and end its way; one that waits has no step to close."""
        attendant = self._attendant(run)
        attendant.frame.driver.make_safe([run.entry.cycler_channel])
        segment = run.progress.current
        where = f"{segment.steps[0].path}: " if segment is not None else ""
        run.stopped = where + reason
        if run.running is not None:
            run.note_cut(now_s)
            attendant.due_s = now_s
        else:
            attendant.journal.event(run.entry.name, "stopped", reason=run.stopped,
                                    index=attendant.frame.index_of(run))  # fmt: skip


def _check(found: ImpedanceReading, task: Task, frequency_Hz: float) -> None:
    """Raise for a reading that is in doubt."""
    meter, volts = task.way.meter, found.voltage_V
    if not found.is_valid:
        raise EnvironmentFailedError(
            f"{meter} reports over-range or no contact at {frequency_Hz:g} Hz"
        )
    if volts < 0:
        raise EnvironmentFailedError(
            f"{meter} reads {volts:.3f} V: its leads are the wrong way round"
        )
    if not abs(volts - task.cell_V) <= WITHIN_V:
        raise EnvironmentFailedError(
            f"{meter} reads {volts:.4f} V, the cycler {task.cell_V:.4f} V: is it another cell?"
        )
    if not found.impedance_ohm.real > 0:
        raise EnvironmentFailedError(
            f"{meter} reads {1e3 * found.impedance_ohm.real:g} mOhm at {frequency_Hz:g} Hz"
        )


def _advance(task: Task, now_s: float) -> None:
    """Go on with a reading in virtual time, as far as it is due."""
    course = task.course
    while course is not None and not task.is_done and task.due_s <= now_s:
        try:
            seconds, _ = next(course)
            task.due_s += seconds
        except StopIteration:
            task.is_done = True
        except BatterylabError as error:
            task.error = error
            return


def _work(task: Task) -> None:
    """Carry a reading out in a thread: a meter's reply may take minutes."""
    course = task.course
    assert course is not None  # noqa: S101
    try:
        for seconds, is_in_reply in course:
            if task.ended.wait(0.0 if is_in_reply else seconds):
                course.close()
                return
        task.is_done = True
    except BatterylabError as error:
        task.error = error
    except Exception as error:  # a fault of ours must not look like a reading that never ends
        task.error = BatterylabError(f"{type(error).__name__}: {error}")
