"""Run one protocol on all loaded channels at once, record it, and keep the cells safe.

The cycler carries out bounded sequences by itself; the runner looks at it every `poll`, writes
what it sees to the journal, decides what comes next, and puts channels in the safe state
whenever there is doubt: a limit, a stale reading, an unknown state, a lost link, its own fault.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from batterylab.bench.attendant import Attendant, Degrees, LOOK_s
from batterylab.bench.catchup import catch_up
from batterylab.bench.chambers import Chambers
from batterylab.bench.channelrun import ChannelRun
from batterylab.bench.check import bounds_of
from batterylab.bench.clock import may_take
from batterylab.bench.frame import frame_for
from batterylab.bench.guard import SILENCE_s
from batterylab.bench.interlocks import Interlocks
from batterylab.bench.journal import Journal
from batterylab.bench.limits import Watch
from batterylab.bench.onboard import Guards
from batterylab.bench.pace import Pacer, at_once
from batterylab.bench.readings import Readings
from batterylab.bench.resume import Return, refuse
from batterylab.bench.setup import Bench
from batterylab.bench.soaks import Soaks
from batterylab.errors import (
    BatterylabError,
    EnvironmentFailedError,
    NotMetError,
    SafetyStopError,
)
from batterylab.protocol import Resolved

SOAK_TICK_s = 60.0
#: how often the main loop looks up while it waits
BEAT_s = 0.25
#: longest that the safe state, and the preparation, may take in real time
SAFE_s, PREPARE_s = 15.0, 60.0
SOAK_LONGEST_s = 12 * 3600.0


class Runner:
    """One run of one protocol.

    Parameters
    ----------
    bench : Bench
        Open.
    resolved : Resolved
        The protocol in numbers.
    loaded : dict of str to str
        Serial by channel name.
    journal : Journal
        Open; channel numbers in its rows follow the order of `loaded`.
    report : callable, optional
        Gets a dict of how far things are, at every look.
    should_stop : callable, optional
        Returns a reason to stop everything, or an empty string; raises `PausedError` to pause.
    come_back : Return, optional
        To go on with an interrupted run.
    operator : str
        Who goes on with it.
    """

    def __init__(
        self,
        bench: Bench,
        resolved: Resolved,
        loaded: dict[str, str],
        journal: Journal,
        *,
        report: Callable[[dict[str, Any]], None] | None = None,
        should_stop: Callable[[], str] | None = None,
        come_back: Return | None = None,
        operator: str = "",
    ) -> None:
        self.bench = bench
        self.come_back = come_back
        self.operator = operator
        self.clock = bench.clock
        self.resolved = resolved
        self.journal = journal
        self.report = report or (lambda _: None)
        self.should_stop = should_stop or (lambda: "")
        self.watch = Watch.of(resolved, bench.file.limits)
        self.runs = [
            ChannelRun(bench.channel(name), serial, resolved, stops=self.watch.stops())
            for name, serial in loaded.items()
        ]
        self.interlocks = Interlocks(
            bench.file.text.interlocks, bench.of_role("scanner"), bench.file.stale_s
        )
        self.frames = [
            frame_for(name, driver, [(i, run) for i, run in enumerate(self.runs)
                                     if run.entry.cycler == name], resolved)
            for name, driver in bench.of_role("cycler").items()
            if any(run.entry.cycler == name for run in self.runs)
        ]  # fmt: skip
        self.pacer = Pacer(
            self.clock, [frame.driver for frame in self.frames if frame.is_stepped]
        )
        self.attendants = [
            Attendant(frame, journal, self.clock, resolved, self.watch) for frame in self.frames
        ]
        for attendant in self.attendants:
            attendant.stale_s = bench.file.stale_s
            if attendant.frame.is_stepped and self.pacer.is_real:
                attendant.frame.driver.on_output = attendant.note_on
        self.chambers = Chambers(bench.of_role("chamber"), self.runs, resolved)
        self.soaks = Soaks(self.attendants, self.chambers, self.runs)
        self.readings = Readings(
            bench, self.attendants, self.runs, resolved, is_real=self.pacer.is_real
        )
        self.start_s = 0.0
        self.expected_s = resolved.expected_s()
        poll_s = bench.file.poll_s
        #: what a frame logged is fetched every second, where seconds are real
        self._look_s = min(poll_s, LOOK_s) if self.pacer.is_real else poll_s
        self._poll_s = 0.0
        self._degrees: Degrees = {}

    def run(self) -> list[ChannelRun]:
        """Carry the protocol out; every channel is left in its safe state.

        Returns
        -------
        list of ChannelRun
            In the order of the journal's channels; `stopped` says why, where it did.

        Raises
        ------
        EnvironmentFailedError
            If an instrument is lost; from a `SafetyStopError` if, besides, the safe state could
            not be confirmed.
        """
        with self.pacer:
            try:
                if self.come_back is not None:
                    self._come_back(self.come_back)
                self._prepare()
                self._soak()
                self._begin_all()
                while any(run.running or run.is_active for run in self.runs):
                    self._tick()
                self.make_safe()
            except BaseException as error:
                self._abandon(error)
                raise
        self.journal.sync()
        return self.runs

    def make_safe(self) -> None:
        """Put every channel in its safe state and confirm it.

        Raises
        ------
        SafetyStopError
            If one could not be confirmed; all were tried.
        """
        may_take(SAFE_s)
        jobs = [partial(frame.driver.make_safe, frame.numbers) for frame in self.frames]
        problems = []
        for frame, error in zip(self.frames, at_once(self.clock, jobs), strict=True):
            if isinstance(error, BatterylabError):
                known = isinstance(error, SafetyStopError)
                problems.append(error.message if known else
                                f"{frame.name}: not confirmed safe: {error.message}")  # fmt: skip
            elif error is not None:
                raise error
        if problems:
            raise SafetyStopError(
                "\n".join(problems), hint="disconnect these channels by hand now"
            )

    def _abandon(self, error: BaseException) -> None:
        """Our own crash, a lost link, a signal: safe first, then whatever was seen is kept.

        What was under way can be resumed.
        """
        known = isinstance(error, BatterylabError)
        reason = str(error).splitlines()[0] if known else f"abandoned: {type(error).__name__}"
        if isinstance(error, KeyboardInterrupt):
            reason = "interrupted from the keyboard"
        unsafe: SafetyStopError | None = None
        try:
            self.make_safe()
        except SafetyStopError as problem:
            unsafe = problem
        with suppress(Exception):  # whatever failed before may fail again
            self._release_meters()
        for attendant in self.attendants if self.start_s else []:
            with suppress(Exception):
                _, cut = catch_up(attendant)
                for index in cut:
                    attendant.note_kept(index, self.runs[index])
        with suppress(EnvironmentFailedError):  # the disk itself may be what failed
            for index, run in enumerate(self.runs):
                if run.remarks:
                    self.journal.event(run.entry.name, "remark", index=index, remarks=run.remarks)
            self.journal.event("", "interrupted", reason=reason)
            self.journal.sync()
        if unsafe is not None:
            raise EnvironmentFailedError(
                f"{reason}\n{unsafe.message}", hint=unsafe.hint
            ) from unsafe

    # -- resume ------------------------------------------------------------------------------
    def _come_back(self, back: Return) -> None:
        """Bring all channels to where they stood, and refuse to go on where that is in doubt."""
        self.make_safe()
        back.restore(self.runs, self.attendants, self.clock.now())
        self.journal.sync()
        for event in back.interrupted.content.events:
            if event["what"] == "air":  # a soak changed it
                self.chambers.wanted[event["channel"]] = (event["degC"], event["within_K"])
        if self.chambers.are_needed:
            back.check_chambers(self.chambers.far(), self.chambers.wanted)
        accepted = refuse(back.differences, back.accepted)
        for attendant, index in back.cut:  # until here, the next return compares again
            attendant.note_kept(index, self.runs[index])
        self.journal.sync()
        for each in accepted:
            for run in self.runs:
                if run.is_active and each.where in (run.entry.name, run.entry.cycler,
                                                    run.entry.chamber):  # fmt: skip
                    run.remarks.append(f"resumed although {each}")

    # -- before ------------------------------------------------------------------------------
    def _prepare(self) -> None:
        for frame in self.frames:
            path = self.bench.file.stop_path(frame.name)
            if not (path.is_there or bounds_of(self.bench.file, frame.name)):
                raise NotMetError(
                    f"{frame.name}: nobody could stop it: it has no path to a stop, and watches "
                    "nothing by itself", hint="`batterylab bench check`; stop: in bench.yaml",
                )  # fmt: skip
        may_take(PREPARE_s)
        guards = Guards(self.watch.voltage_V)
        jobs = [partial(frame.prepare, guards) for frame in self.frames]
        for error in at_once(self.clock, jobs):
            if error is not None:
                raise error
        self._note_safety()
        for name, driver in self.bench.of_role("scanner").items():
            places = [run.entry.scanner_channel for run in self.runs if run.entry.scanner == name]
            inputs = self.interlocks.inputs(name)
            if not places and not inputs:
                continue
            driver.prepare(places, inputs)
            line = self.bench.file.instruments[name].alarm_line
            if line and places:
                driver.interlock(self.watch.temperature_degC[1], line)
        self._temperatures(is_first=True)
        self.readings.prepare()

    def _note_safety(self) -> None:
        """Write into the recording what keeps each channel safe, layer by layer."""
        watched = self.watch.layers(self.bench.file.stale_s)
        for frame in self.frames:
            path = self.bench.file.stop_path(frame.name).kind
            layers = [*frame.layers(), {
                "layer": "L2 guard", "what": "heartbeat_s", "high": SILENCE_s, "debounce": 1,
                "action": f"kills the runner, makes channels safe; path: {path}",
            }, *watched, *self.interlocks.layers()]  # fmt: skip
            air = [{"layer": "L4 chamber", "what": "alarm",
                    "action": "run ends, all channels safe"}]  # fmt: skip
            for index, run in frame.members:
                own = [*layers, *(air if run.entry.chamber else [])]
                self.journal.event(run.entry.name, "safety", index=index, layers=own)

    def _wait(self, unix_s: float) -> None:
        """Wait, looking up every second of real time for a reason to stop."""
        while True:
            reason = self.should_stop()
            if reason:
                self._stop_everything(reason)
                return
            self.pacer.step()
            now = self.clock.now()
            if now >= unix_s:
                return
            until_s = now + BEAT_s if self.pacer.is_real else self.pacer.due_s()
            self.clock.sleep_until(min(unix_s, until_s))

    def _stop_everything(self, reason: str) -> None:
        self.make_safe()
        self._release_meters()
        for run in self.runs:
            if run.is_active:
                run.stopped = reason

    def _release_meters(self) -> None:
        """Open the relays to meters; where that fails, the recordings say so."""
        if not self.readings.are_needed:
            return
        try:
            self.readings.release()
        except EnvironmentFailedError as error:
            for run in self.runs:
                if run.is_active:
                    run.remarks.append(f"relays to the meter in doubt: {error.message}")

    def _soak(self) -> None:
        """Bring the chambers to the protocol's temperature and let the cells follow."""
        if not self.chambers.are_needed:
            return
        self.chambers.start()
        back = self.come_back
        if back is not None and not any(d.check == "chamber" for d in back.differences):
            return  # it is where it was
        began = self.clock.now()
        while not self._is_stopped():
            far = self.chambers.far()
            if not far:
                break
            if self.clock.now() - began > SOAK_LONGEST_s:
                wanted = self.resolved.temperature_degC
                raise EnvironmentFailedError(f"{', '.join(far)}: does not reach {wanted:g} °C")
            self.report({"phase": "tempering", "done": 0.0})
            self._wait(self.clock.now() + SOAK_TICK_s)
        until = self.clock.now() + self.resolved.soak_s
        while self.clock.now() < until and not self._is_stopped():
            self.report({"phase": "soaking", "done": 0.0})
            self._wait(min(until, self.clock.now() + 10 * SOAK_TICK_s))

    def _is_stopped(self) -> bool:
        return all(run.stopped for run in self.runs)

    def _begin_all(self) -> None:
        self._degrees = self._temperatures()
        self.chambers.read()
        may_take(PREPARE_s)  # what a soak made stale: nobody shall begin later than the others
        renewals = [frame.driver.renew for frame in self.frames if frame.is_stepped]
        for error in at_once(self.clock, renewals):
            if error is not None:
                raise error
        self.clock.sleep_until(math.ceil(self.clock.now() + 1.0))
        now_s = float(math.floor(self.clock.now()))
        self.start_s = now_s
        if self.come_back is None:
            self.journal.event("", "begin", start_s=now_s)
        else:
            self._go_on_from(self.come_back, now_s)
        for attendant in self.attendants:
            frame = attendant.frame
            before = frame.recorder if self.come_back is not None else None
            frame.calibrate(now_s, self.resolved)
            if before is not None:
                frame.recorder.start_s = self.start_s + frame.paused_s
                frame.recorder.net_Ah, frame.recorder.net_Wh = before.net_Ah, before.net_Wh
            self.journal.event(frame.name, "frame", offset_s=frame.offset_s)
            attendant.start([run for _, run in frame.members if run.is_active])
            attendant.due_s = attendant.next_look(now_s, self._look_s)
        self._poll_s = now_s + self.bench.file.poll_s

    def _go_on_from(self, back: Return, now_s: float) -> None:
        """Count on from where the run stood; the pause is no test time, and is told."""
        self.start_s = back.interrupted.start_s
        paused_s = back.paused_s(self.attendants, now_s)
        gap_s = paused_s - back.interrupted.paused_s
        for attendant in self.attendants:
            attendant.frame.paused_s = paused_s
        self.journal.event(
            "", "resumed", at_s=now_s, paused_s=paused_s, gap_s=gap_s,
            reason=back.interrupted.reason, operator=self.operator,
        )  # fmt: skip
        for run in self.runs:
            if run.is_active:
                step = run.steps_done + len(run.before)
                run.remarks.append(f"paused for {gap_s:.0f} s in step {step}: "
                                   f"{back.interrupted.reason}")  # fmt: skip
        self.journal.sync()
        back.begun()

    # -- each look ---------------------------------------------------------------------------
    def _tick(self) -> None:
        due_s = min(each.due_s for each in self.attendants)
        self._wait(min(due_s, self._poll_s, self.readings.due_s))
        now_s = float(math.floor(self.clock.now()))
        is_poll = now_s >= self._poll_s
        if is_poll:
            self._degrees = self._temperatures()
            self.chambers.read()
            self._poll_s = now_s + self.bench.file.poll_s
        self.interlocks.check_age(now_s)
        if is_poll:
            self.soaks.look(now_s)
        for attendant in self.attendants:
            if now_s >= attendant.due_s or is_poll:
                attendant.look(now_s, self._degrees, self.chambers.air_degC, is_new=is_poll)
                attendant.due_s = attendant.next_look(now_s, self._look_s)
        self.readings.look(now_s)
        done = sum(1 for run in self.runs if not (run.running or run.is_active))
        self.report({
            "phase": "running",
            "done": min(1.0, (now_s - self.start_s - self.attendants[0].frame.paused_s)
                        / self.expected_s),
            "channels": len(self.runs), "ended": done,
            "stopped": sum(1 for run in self.runs if run.stopped),
            "bench_time_s": now_s - self.start_s,
        })  # fmt: skip

    def _temperatures(self, *, is_first: bool = False) -> Degrees:
        """Read all scanners that are used; what they say of the interlocks is judged at once."""
        found = {
            (name, place): value
            for name, driver in self.bench.of_role("scanner").items()
            if any(run.entry.scanner == name for run in self.runs) or self.interlocks.inputs(name)
            for place, value in driver.read().items()
        }
        self.interlocks.look(self.clock.now(), at_once=is_first)
        return found
