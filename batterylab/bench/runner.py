"""Run one protocol on all loaded channels at once, record it, and keep the cells safe.

The cycler carries out bounded sequences by itself; the runner looks at it every `poll`, writes
what it sees to the journal, decides what comes next, and puts channels in the safe state
whenever there is doubt: a limit, a stale reading, an unknown state, a lost link, its own fault.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab.bench.channelrun import ChannelRun
from batterylab.bench.clock import WallClock
from batterylab.bench.frame import Frame
from batterylab.bench.journal import Journal
from batterylab.bench.onboard import Guards
from batterylab.bench.recorder import Samples
from batterylab.bench.setup import Bench
from batterylab.drivers.roles import CellState, LogBlock
from batterylab.errors import BatterylabError, EnvironmentFailedError, SafetyStopError
from batterylab.protocol import Resolved

SOAK_TICK_s = 60.0
SOAK_LONGEST_s = 12 * 3600.0
LOOK_s = 1.0
STALE_POLLS = 2
LIVE_SHARE = 0.5


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
        Returns a reason to stop everything, or an empty string.
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
    ) -> None:
        self.bench = bench
        self.clock = bench.clock
        self.resolved = resolved
        self.journal = journal
        self.report = report or (lambda _: None)
        self.should_stop = should_stop or (lambda: "")
        limits = bench.file.limits
        low, high = resolved.voltage_limits_V
        self.guards = Guards((max(low, limits.voltage_V[0]), min(high, limits.voltage_V[1])))
        self.hottest_degC = min(limits.temperature_degC, resolved.temperature_limits_degC[1])
        self.coldest_degC = resolved.temperature_limits_degC[0]
        self.debounce = round(limits.debounce)
        self.runs = [
            ChannelRun(bench.channel(name), serial, resolved) for name, serial in loaded.items()
        ]
        self.frames = [
            Frame(name, driver, [(i, run) for i, run in enumerate(self.runs)
                                 if run.entry.cycler == name], resolved)
            for name, driver in bench.of_role("cycler").items()
            if any(run.entry.cycler == name for run in self.runs)
        ]  # fmt: skip
        self.start_s = 0.0
        self.expected_s = resolved.expected_s()
        self._air: dict[str, float] = {}

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
        try:
            self._prepare()
            self._soak()
            self._begin_all()
            while any(run.running for run in self.runs):
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
        problems = []
        for frame in self.frames:
            try:
                frame.driver.make_safe(frame.numbers)
            except BatterylabError as error:
                known = isinstance(error, SafetyStopError)
                problems.append(error.message if known else
                                f"{frame.name}: not confirmed safe: {error.message}")  # fmt: skip
        if problems:
            raise SafetyStopError(
                "\n".join(problems), hint="disconnect these channels by hand now"
            )

    def _abandon(self, error: BaseException) -> None:
        """Our own crash, a lost link, a signal: safe first, then whatever was seen is kept."""
        known = isinstance(error, BatterylabError)
        reason = str(error).splitlines()[0] if known else f"abandoned: {type(error).__name__}"
        unsafe: SafetyStopError | None = None
        try:
            self.make_safe()
        except SafetyStopError as problem:
            unsafe = problem
        for frame in self.frames:
            for column, (index, run) in enumerate(frame.members):
                if run.running:
                    run.stopped = run.stopped or reason
                    run.note_cut(frame.last_s)
                    self._close(frame, column, index, run)
        self.journal.sync()
        if unsafe is not None:
            raise EnvironmentFailedError(
                f"{reason}\n{unsafe.message}", hint=unsafe.hint
            ) from unsafe

    def _close(self, frame: Frame, column: int, index: int, run: ChannelRun) -> None:
        """Write the end of what runs on a channel, and its last sample."""
        self._close_steps(index, run)
        if run.stopped:
            self.journal.event(run.entry.name, "stopped", index=index, reason=run.stopped)
        self.journal.rows(self._renumber(frame, frame.recorder.flush(column)))

    # -- before ------------------------------------------------------------------------------
    def _prepare(self) -> None:
        for frame in self.frames:
            frame.prepare(self.guards)
        for name, driver in self.bench.of_role("scanner").items():
            places = [run.entry.scanner_channel for run in self.runs if run.entry.scanner == name]
            if places:
                driver.prepare(places)

    def _wait(self, unix_s: float) -> None:
        """Wait, looking up every second of real time for a reason to stop."""
        while True:
            reason = self.should_stop()
            if reason:
                self._stop_everything(reason)
                return
            now = self.clock.now()
            if now >= unix_s:
                return
            is_real = isinstance(self.clock, WallClock)
            self.clock.sleep_until(min(unix_s, now + LOOK_s) if is_real else unix_s)

    def _stop_everything(self, reason: str) -> None:
        self.make_safe()
        for run in self.runs:
            if run.is_active:
                run.stopped = reason

    def _soak(self) -> None:
        """Bring the chambers to the protocol's temperature and let the cells follow."""
        wanted = self.resolved.temperature_degC
        chambers = {
            name: driver for name, driver in self.bench.of_role("chamber").items()
            if any(run.entry.chamber == name for run in self.runs)
        }  # fmt: skip
        if wanted is None or not chambers:
            return
        for driver in chambers.values():
            driver.set_temperature(wanted)
            driver.start()
        began = self.clock.now()
        while not self._is_stopped():
            far = [n for n, d in chambers.items()
                   if abs(d.read().actual_degC - wanted) > self.resolved.within_K]  # fmt: skip
            if not far:
                break
            if self.clock.now() - began > SOAK_LONGEST_s:
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
        self.clock.sleep_until(math.ceil(self.clock.now() + 1.0))
        self.start_s = float(math.floor(self.clock.now()))
        self.journal.event("", "begin", start_s=self.start_s)
        for frame in self.frames:
            frame.calibrate(self.start_s, self.resolved)
            self._start(frame, [run for _, run in frame.members if run.is_active])

    def _start(self, frame: Frame, runs: list[ChannelRun]) -> None:
        """Start the current segment of channels, together where they share it."""
        now_s = float(math.floor(self.clock.now()))
        for slot, group in frame.by_slot(runs).items():
            frame.driver.start([run.entry.cycler_channel for run in group], slot)
            for run in group:
                running = run.begin(now_s)
                self.journal.event(
                    run.entry.name, "segment", index=self.runs.index(run), at_s=now_s,
                    first=running.first_index, cycle=running.segment.cycle,
                    steps=[{k: None if isinstance(v, float) and math.isnan(v) else v
                            for k, v in vars(step).items()} for step in running.segment.steps],
                )  # fmt: skip

    # -- each look ---------------------------------------------------------------------------
    def _next_look(self) -> float:
        """Return the next time to look: the poll, or the predicted end of a `to_soc` step."""
        now = self.clock.now()
        look = now + self.bench.file.poll_s
        for run in self.runs:
            running = run.running
            if running is None or running.segment.stop_after_Ah is None:
                continue
            left_Ah = running.segment.stop_after_Ah - abs(running.moved_Ah[0])
            current_A = abs(running.segment.steps[0].current_A)
            look = min(look, now + max(1.0, math.floor(3600.0 * left_Ah / current_A)))
        return look

    def _tick(self) -> None:
        self._wait(self._next_look())
        now_s = float(math.floor(self.clock.now()))
        temperatures = self._temperatures()
        self._read_air()
        for frame in self.frames:
            self._look(frame, now_s, temperatures)
        done = sum(1 for run in self.runs if not run.running)
        self.report({
            "phase": "running",
            "done": min(1.0, (now_s - self.start_s) / self.expected_s),
            "channels": len(self.runs), "ended": done,
            "stopped": sum(1 for run in self.runs if run.stopped),
            "bench_time_s": now_s - self.start_s,
        })  # fmt: skip

    def _temperatures(self) -> dict[tuple[str, int], float | None]:
        return {
            (name, place): value
            for name, driver in self.bench.of_role("scanner").items()
            if any(run.entry.scanner == name for run in self.runs)
            for place, value in driver.read().items()
        }

    def _read_air(self) -> None:
        for name, driver in self.bench.of_role("chamber").items():
            reading = driver.read()
            self._air[name] = reading.actual_degC
            wanted = self.resolved.temperature_degC
            if reading.has_alarm:
                raise EnvironmentFailedError(f"{name}: the chamber reports an alarm")
            if wanted is not None and abs(reading.actual_degC - wanted) > self.resolved.within_K:
                for run in self.runs:
                    remark = f"{name}: air out of {self.resolved.within_K:g} K"
                    if run.entry.chamber == name and remark not in run.remarks:
                        run.remarks.append(remark)

    def _look(
        self, frame: Frame, now_s: float, temperatures: dict[tuple[str, int], float | None]
    ) -> None:
        active = [run for _, run in frame.members if run.running]
        if not active:
            return
        numbers = [run.entry.cycler_channel for run in active]
        block, looks = frame.read(numbers)
        times_s = frame.times(block)
        self._check_fresh(frame, len(times_s), now_s)
        log_s = float(times_s[-1]) if len(times_s) else now_s  # by the frame's own clock
        states = frame.driver.states(numbers)
        for run in active:
            number = run.entry.cycler_channel
            run.note_start(times_s, block.state[:, frame.numbers.index(number)])
            if states[number] is CellState.RUNNING:
                step, elapsed_s = looks[number]
                run.note_step(step, elapsed_s, log_s)
            else:
                self._ended(frame, run, states[number], block, times_s, now_s)
        samples = self._samples(frame, block, times_s, temperatures)
        self._watch(frame, samples, now_s)
        self._stop_at_charge(frame, active, log_s)
        self.journal.rows(self._renumber(frame, frame.recorder.take(samples)))
        self._go_on(frame)

    def _check_fresh(self, frame: Frame, records: int, now_s: float) -> None:
        frame.stale = frame.stale + 1 if records == 0 and now_s > frame.last_s + LOOK_s else 0
        frame.last_s = now_s if records else frame.last_s
        if frame.stale >= STALE_POLLS:
            raise EnvironmentFailedError(
                f"{frame.name}: no new samples since {frame.last_s - self.start_s:.0f} s",
                hint="the cycler's log stands still: look at the frame",
            )

    def _ended(
        self, frame: Frame, run: ChannelRun, state: CellState, block: LogBlock,
        times_s: NDArray[np.float64], now_s: float,
    ) -> None:  # fmt: skip
        running = run.running
        if running is None:
            return
        if not len(times_s):  # the samples that tell when it ended come with the next look
            if run.stopped:
                run.note_cut(now_s)
            return
        column = frame.numbers.index(run.entry.cycler_channel)
        idle = (block.state[:, column] != CellState.RUNNING) & (times_s > running.starts_s[0])
        first = int(np.argmax(idle)) if idle.any() else len(times_s) - 1
        end_s = float(times_s[first])
        last = running.segment.steps[-1]
        is_live = abs(block.current_A[first, column]) > LIVE_SHARE * abs(last.current_A)
        if not (is_live or last.kind == "rest"):
            end_s -= 1.0
        if state is CellState.OK:
            run.note_end(end_s)
            return
        if state is CellState.FAIL:
            run.stopped = run.stopped or frame.driver.failure(run.entry.cycler_channel)
        elif not run.stopped:
            run.stopped = f"the cycler reports {state.name} without our doing"
        run.note_cut(end_s)

    def _samples(
        self, frame: Frame, block: LogBlock, times_s: NDArray[np.float64],
        temperatures: dict[tuple[str, int], float | None],
    ) -> Samples:  # fmt: skip
        shape = block.current_A.shape
        step = np.full(shape, -1, np.int64)
        cycle = np.zeros(shape, np.int64)
        every_s = np.full(shape, self.resolved.every_s)
        degrees = np.empty(shape[1])
        air = np.empty(shape[1])
        for column, (_, run) in enumerate(frame.members):
            reading = temperatures.get((run.entry.scanner, run.entry.scanner_channel))
            degrees[column] = math.nan if reading is None else reading
            air[column] = self._air.get(run.entry.chamber, math.nan)
            running = run.running
            if running is None:
                continue
            for k, inside in running.spans(times_s):
                step[inside, column] = running.first_index + k
                cycle[inside, column] = running.segment.cycle
                moved_As = block.current_A[inside, column].sum()
                running.moved_Ah[k] += float(moved_As) / 3600.0
                own = running.segment.steps[k].sample_every_s
                if own is not None:
                    every_s[inside, column] = own
        before = frame.degrees if len(frame.degrees) == shape[1] else degrees
        share = np.linspace(0.0, 1.0, shape[0] + 1)[1:, None]
        smooth = np.where(np.isnan(before), degrees, before)
        frame.degrees = degrees
        return Samples(
            times_s, block.current_A, block.voltage_V, smooth + share * (degrees - smooth),
            np.broadcast_to(air, shape), step, cycle, every_s,
        )  # fmt: skip

    def _watch(self, frame: Frame, samples: Samples, now_s: float) -> None:
        """Hold samples against the limits; a channel beyond them is stopped at once."""
        low, high = self.guards.voltage_V
        out = (samples.step >= 0) & ~(
            (samples.voltage_V >= low) & (samples.voltage_V <= high)
        )
        for column, (_, run) in enumerate(frame.members):
            if not run.running or run.stopped:
                continue
            reason = ""
            if out[:, column].any():
                run.bad_samples = longest_run(out[:, column], run.bad_samples)
                if run.bad_samples >= self.debounce:
                    worst = samples.voltage_V[out[:, column], column]
                    reason = f"voltage {worst[-1]:.4f} V outside {low:g} to {high:g} V"
            else:
                run.bad_samples = 0
            reason = reason or self._too_hot(run, float(frame.degrees[column]))
            if reason:
                frame.driver.make_safe([run.entry.cycler_channel])
                run.stopped = reason
                run.note_cut(now_s)

    def _too_hot(self, run: ChannelRun, degC: float) -> str:
        if not run.entry.scanner:
            return ""
        is_good = self.coldest_degC <= degC <= self.hottest_degC
        run.hot_polls = 0 if is_good else run.hot_polls + 1
        if run.hot_polls < self.debounce:
            return ""
        if math.isnan(degC):
            return "the thermocouple is open"
        low, high = self.coldest_degC, self.hottest_degC
        return f"temperature {degC:.1f} °C outside {low:g} to {high:g} °C"

    def _stop_at_charge(self, frame: Frame, active: list[ChannelRun], now_s: float) -> None:
        """End `to_soc` steps whose charge has been moved."""
        due = []
        for run in active:
            running = run.running
            if running is None or running.is_ending or running.segment.stop_after_Ah is None:
                continue
            half_A = abs(running.segment.steps[0].current_A) / 7200.0
            if abs(running.moved_Ah[0]) >= running.segment.stop_after_Ah - half_A:
                due.append(run)
        if due:
            frame.driver.make_safe([run.entry.cycler_channel for run in due])
            for run in due:
                run.note_end(now_s)

    def _go_on(self, frame: Frame) -> None:
        """Close the segments that ended and start the next ones."""
        following: list[ChannelRun] = []
        for column, (index, run) in enumerate(frame.members):
            running = run.running
            if running is None or not (running.is_ending or run.stopped):
                continue
            self._close(frame, column, index, run)
            if run.stopped:
                run.running = None
                continue
            run.finish()
            if run.is_active:
                following.append(run)
        if following:
            self.journal.sync()
            self._start(frame, following)

    def _close_steps(self, index: int, run: ChannelRun) -> None:
        running = run.running
        if running is None:
            return
        ends = [*running.starts_s[1:], running.end_s if math.isfinite(running.end_s) else
                float(math.floor(self.clock.now()))]  # fmt: skip
        for k, start_s in enumerate(running.starts_s):
            step = running.segment.steps[k]
            is_last = k == len(running.starts_s) - 1
            ended_by = "stopped" if run.stopped and is_last else run.ended_by(step)
            self.journal.event(
                run.entry.name, "step", index=index, step=running.first_index + k,
                start_s=start_s, end_s=ends[k], ended_by=ended_by, moved_Ah=running.moved_Ah[k],
            )  # fmt: skip

    @staticmethod
    def _renumber(frame: Frame, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn the frame's columns into the journal's channel numbers."""
        if len(rows):
            rows[:, 0] = frame.indices[rows[:, 0].astype(int)]
        return rows


def longest_run(flags: NDArray[np.bool_], before: int) -> int:
    """Return the longest run of true flags, the first one continuing `before`."""
    longest = current = before
    for flag in flags:
        current = current + 1 if flag else 0
        longest = max(longest, current)
    return longest
