"""Look after one cycler's channels during a run: take samples, see ends, begin what follows."""

import math

import numpy as np
from numpy.typing import NDArray

from batterylab.bench.channelrun import ChannelRun
from batterylab.bench.clock import Clock
from batterylab.bench.course import Snapshot
from batterylab.bench.frame import Frame
from batterylab.bench.journal import ROW, Journal
from batterylab.bench.limits import Watch
from batterylab.bench.recorder import Samples
from batterylab.drivers.roles import CellState, LogBlock
from batterylab.errors import EnvironmentFailedError
from batterylab.protocol import Outcome, Resolved
from batterylab.protocol.ends import ENDED_BY, Block, Fired

LOOK_s = 1.0
STALE_POLLS = 2
#: a supply that changes its step, with all that is read back, gives no sample for some seconds
STALE_LEAST_s = 10.0
LIVE_SHARE = 0.5
#: share of the time between two samples by which one may come early and count for its interval
EARLY = 0.3
UNIX_TIME, STEP_INDEX = ROW.index("unix_time_s"), ROW.index("step_index")

Degrees = dict[tuple[str, int], float | None]


class Attendant:
    """Looks after one cycler's channels.

    Parameters
    ----------
    frame : Frame
        The cycler and its channels.
    journal : Journal
        Open.
    clock : Clock
        Of the bench.
    resolved : Resolved
        The protocol.
    watch : Watch
        The limits.
    """

    def __init__(
        self, frame: Frame, journal: Journal, clock: Clock, resolved: Resolved, watch: Watch
    ) -> None:
        self.frame = frame
        self.journal = journal
        self.clock = clock
        self.resolved = resolved
        self.watch = watch
        self.due_s = 0.0
        self.stale_s = 0.0
        self._has_moves = any(
            step.voltage_moves_V or step.current_moves_A for step in resolved.steps()
        )
        #: channels that wait for a free sequence
        self.queue: list[ChannelRun] = []
        self._fired: list[tuple[ChannelRun, int, Fired]] = []

    # -- beginning ---------------------------------------------------------------------------
    def start(self, runs: list[ChannelRun]) -> None:
        """Start the current segment of channels, together where they share it.

        A channel whose segment changes the chamber waits for the others (`Soaks`), one that a
        meter shall read waits for the meter (`Readings`); one for which the cycler has no free
        sequence waits for the next look.
        """
        ready = [run for run in runs if not run.is_held]
        self._note_marks(runs)
        self.begin(ready)

    def begin(self, runs: list[ChannelRun]) -> None:
        """Start the current segment of channels, whatever it is.

        What a cycler shall do is durable before it is told. With it goes what its counters say
        till then: whoever comes back after a death in between sees whether it was told.
        """
        now_s = float(math.floor(self.clock.now()))
        groups, self.queue = self.frame.by_slot(runs)
        begun = [run for group in groups.values() for run in group]
        if not begun:
            return
        marks = self.frame.marks(begun)
        for run in begun:
            running = run.begin(now_s)
            running.mark = marks.get(run.entry.cycler_channel)
            self.journal.event(
                run.entry.name, "segment", index=self.frame.index_of(run), at_s=now_s,
                first=running.first_index, cycle=running.segment.cycle, mark=running.mark,
                steps=[step.head() for step in running.segment.steps],
            )  # fmt: skip
        self.journal.sync()
        for slot, group in groups.items():
            self.frame.begin(group, slot)

    def note_on(self, k: int, at_s: float, ended_s: float | None) -> None:
        """Write that a supply's output went on for step `k` of what runs; durable at once.

        The supply's own thread calls it. What passed between that and the first durable sample
        can be reckoned only from this.
        """
        ((index, run),) = self.frame.members
        if run.running is not None:
            self.journal.at_once(
                run.entry.name, "on", index=index, step=run.running.first_index + k,
                at_s=at_s, ended_s=ended_s,
            )  # fmt: skip

    def _note_marks(self, runs: list[ChannelRun]) -> None:
        now_s = float(math.floor(self.clock.now()))
        for run in runs:
            for name in run.new_marks():
                self.journal.event(run.entry.name, "mark", index=self.frame.index_of(run),
                                   name=name, at_s=now_s)  # fmt: skip

    # -- each look ---------------------------------------------------------------------------
    def next_look(self, now_s: float, poll_s: float) -> float:
        """Return the next time to look: the poll, or when a condition may come true.

        Samples of a supply live in this process only, so they are looked after every second.
        """
        if self.frame.is_stepped:
            return now_s + LOOK_s
        look = now_s + poll_s
        for _, run in self.frame.members:
            if run.running is not None:
                look = min(look, now_s + run.running.soon_s)
        return look

    def look(
        self, now_s: float, temperatures: Degrees, air: dict[str, float], *, is_new: bool
    ) -> None:
        """Take the samples since the last look, and do what they ask for.

        Parameters
        ----------
        now_s : float
            Unix time, whole seconds.
        temperatures : dict
            In °C by scanner and place; None where the thermocouple is open.
        air : dict of str to float
            Temperature in °C by chamber.
        is_new : bool
            Whether the temperatures were read for this look.

        Raises
        ------
        EnvironmentFailedError
            If the cycler is lost, or its log stands still.
        """
        frame = self.frame
        active = [run for _, run in frame.members if run.running]
        if not active:
            self._go_on()
            return
        block = self._follow(active, now_s) if frame.is_stepped else self._learn(active, now_s)
        times_s = frame.times(block)
        log_s = float(times_s[-1]) if len(times_s) else now_s  # by the frame's own clock
        samples = self.samples(block, times_s, temperatures, air)
        self._stop_beyond_limits(samples, now_s, is_new=is_new)
        self._end_steps(log_s)
        self.journal.rows(frame.renumbered(frame.recorder.take(samples)))
        self.note_latest()
        self._go_on()

    def _learn(self, active: list[ChannelRun], now_s: float) -> LogBlock:
        """Ask the cycler for its samples, and learn from it where its steps lie."""
        frame = self.frame
        numbers = [run.entry.cycler_channel for run in active]
        block, looks = frame.read(numbers)
        times_s = frame.times(block)
        self._check_fresh(len(times_s), now_s)
        log_s = float(times_s[-1]) if len(times_s) else now_s
        states = frame.driver.states(numbers)
        for run in active:
            number = run.entry.cycler_channel
            column = frame.numbers.index(number)
            run.note_start(times_s, block.state[:, column])
            run.seen = (times_s, block.current_A[:, column])
            if states[number] is CellState.RUNNING:
                step, elapsed_s = looks[number]
                run.note_step(step, elapsed_s, log_s)
            elif run.running is None or not run.running.is_ending:
                self.ended(run, states[number], block, times_s, now_s)
        return block

    def _follow(self, active: list[ChannelRun], now_s: float) -> LogBlock:
        """Take a supply's samples; its stepper knows where its steps lie."""
        (run,) = active
        seen: Snapshot = self.frame.driver.snapshot()
        self._check_fresh(len(seen.block.time_ms), now_s)
        run.note_starts(seen.starts_s, seen.ends_s)
        if run.running is None or run.running.is_ending:
            return seen.block
        if seen.state is CellState.OK:
            run.note_end(seen.end_s)
        elif seen.state is not CellState.RUNNING:
            if seen.state is CellState.FAIL:
                run.stopped = run.stopped or self.frame.driver.failure(run.entry.cycler_channel)
            elif not run.stopped:
                run.stopped = f"the supply is {seen.state.name} without our doing"
            run.note_cut(seen.end_s)
        return seen.block

    def _check_fresh(self, records: int, now_s: float) -> None:
        frame = self.frame
        frame.stale = frame.stale + 1 if records == 0 and now_s > frame.last_s + LOOK_s else 0
        frame.last_s = now_s if records else frame.last_s
        limit_s = max(self.stale_s, STALE_LEAST_s if frame.is_stepped else 0.0)
        if frame.stale >= STALE_POLLS and now_s - frame.last_s >= limit_s:
            raise EnvironmentFailedError(
                f"{frame.name}: no new samples since {frame.last_s - frame.start_s:.0f} s",
                hint="the cycler's log stands still: look at the frame",
            )

    def ended(
        self, run: ChannelRun, state: CellState, block: LogBlock,
        times_s: NDArray[np.float64], now_s: float,
    ) -> None:  # fmt: skip
        """Learn from the samples when a sequence ended that the cycler does not run any more."""
        frame = self.frame
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

    def samples(
        self, block: LogBlock, times_s: NDArray[np.float64], temperatures: Degrees,
        air_degC: dict[str, float],
    ) -> Samples:  # fmt: skip
        """Place a block of samples in the recording: step, cycle, temperatures, counters."""
        frame = self.frame
        shape = block.current_A.shape
        step = np.full(shape, -1, np.int64)
        cycle = np.zeros(shape, np.int64)
        every_s = np.full(shape, self.resolved.every_s)
        interval_s = np.ones(shape)
        moves = np.full((2, *shape), np.nan) if self._has_moves else None
        degrees = np.empty(shape[1])
        air = np.empty(shape[1])
        for column, (_, run) in enumerate(frame.members):
            reading = temperatures.get((run.entry.scanner, run.entry.scanner_channel))
            degrees[column] = math.nan if reading is None else reading
            air[column] = air_degC.get(run.entry.chamber, math.nan)
        before = frame.degrees if len(frame.degrees) == shape[1] else degrees
        share = np.linspace(0.0, 1.0, shape[0] + 1)[1:, None]
        smooth = np.where(np.isnan(before), degrees, before)
        smooth = smooth + share * (degrees - smooth)
        frame.degrees = degrees
        for column, (_, run) in enumerate(frame.members):
            running = run.running
            if running is None:
                continue
            interval_s[:, column] = frame.intervals(times_s, run)
            for k, inside in running.spans(times_s):
                step[inside, column] = running.first_index + k
                cycle[inside, column] = running.segment.cycle
                own = running.segment.steps[k]
                if own.sample_every_s is not None:
                    every_s[inside, column] = own.sample_every_s
                if moves is not None:
                    moves[:, inside, column] = [[own.current_moves_A or np.nan],
                                                [own.voltage_moves_V or np.nan]]  # fmt: skip
                amps, volts = block.current_A[inside, column], block.voltage_V[inside, column]
                moved_Ah = amps * interval_s[inside, column] / 3600.0
                fired = running.count(k, Block(
                    times_s[inside] - running.starts_s[k], amps, volts, smooth[inside, column],
                    moved_Ah, moved_Ah * volts,
                ))  # fmt: skip
                if fired is not None:
                    self._fired.append((run, k, fired))
        if frame.is_stepped:  # its samples are not on a grid: a little early is in time
            every_s -= EARLY * frame.driver.period_s
        return Samples(
            times_s, block.current_A, block.voltage_V, smooth, np.broadcast_to(air, shape), step,
            cycle, every_s, interval_s, *(moves if moves is not None else ()),
        )  # fmt: skip

    def _stop_beyond_limits(self, samples: Samples, now_s: float, *, is_new: bool) -> None:
        """Hold samples against the limits; a channel beyond them is stopped at once."""
        for column, (_, run) in enumerate(self.frame.members):
            if not run.running or run.stopped:
                continue
            degC = float(self.frame.degrees[column])
            reason = self.watch.reason(run, samples, column, degC, is_new=is_new)
            if reason:
                self.frame.driver.make_safe([run.entry.cycler_channel])
                run.stopped = reason
                run.note_cut(now_s)

    def end(self, runs: list[ChannelRun], now_s: float) -> None:
        """End the steps that run on some channels; what follows begins at the next look."""
        self.frame.driver.make_safe([run.entry.cycler_channel for run in runs])
        for run in runs:
            run.note_end(now_s)
        self.due_s = now_s

    def _end_steps(self, now_s: float) -> None:
        """Do what the conditions ask for that came true and that the cycler does not watch."""
        met, self._fired = self._fired, []
        due = [(run, k, fired) for run, k, fired in met if run.running and not run.stopped]
        numbers = [run.entry.cycler_channel for run, _, _ in due
                   if run.running and not run.running.is_ending]  # fmt: skip
        if numbers:
            self.frame.driver.make_safe(numbers)
        for run, k, fired in due:
            running = run.running
            if running is None:
                continue
            step = running.segment.steps[k]
            if fired.end.then == "fail":
                run.stopped = f"{step.path}: {fired}"
                if not running.is_ending:
                    run.note_cut(now_s)
                continue
            if fired.is_stop:
                run.remarks.append(f"{step.path}: {fired}")
            running.fired = fired
            if not running.is_ending:
                run.note_end(now_s)

    def _go_on(self) -> None:
        """Close the segments that ended and start the next ones."""
        following: list[ChannelRun] = []
        for column, (index, run) in enumerate(self.frame.members):
            running = run.running
            if running is None or not (running.is_ending or run.stopped):
                continue
            self.close(column, index, run)
            if run.stopped:
                run.running = None
                continue
            run.finish()
            self.note_done(index, run)
            if run.is_active:
                following.append(run)
            else:
                self._note_marks([run])
        if following or self.queue:
            waiting, self.queue = [run for run in self.queue if run.is_active], []
            self._note_marks(following)
            self.begin([*waiting, *(run for run in following if not run.is_held)])

    def note_done(self, index: int, run: ChannelRun) -> None:
        """Write the results of the segment that ended: what `resume` counts with."""
        self.journal.event(
            run.entry.name, "done", index=index,
            results=[_plain(outcome) for outcome in run.results],
        )

    def note_latest(self) -> None:
        """Enter each channel's last sample into the table that is durable every second."""
        table = self.journal.latest.table if self.journal.latest else None
        if table is None:
            return
        for column, (index, run) in enumerate(self.frame.members):
            row, running = self.frame.recorder.last[column], run.running
            if running is None or math.isnan(row[0]):
                continue
            k = int(row[STEP_INDEX]) - running.first_index
            if not 0 <= k < len(running.starts_s):
                continue
            table[index, : len(row)] = row
            table[index, 0] = index
            table[index, len(row) :] = row[UNIX_TIME] - running.starts_s[k], running.moved_Ah[k]

    def note_kept(self, index: int, run: ChannelRun) -> None:
        """Write how far the segment under way had come."""
        carried = run.carried
        self.journal.event(
            run.entry.name, "kept", index=index,
            before=[_plain(outcome) for outcome in run.before],
            carried=vars(carried) if carried else None,
        )

    def close_steps(self, index: int, run: ChannelRun, *, is_cut: bool = False) -> None:
        """Write where the steps lie that ran; times leave pauses out. A cut step is not closed."""
        running = run.running
        if running is None:
            return
        spans = run.lengths(float(math.floor(self.clock.now())))
        carried = run.carried
        for k, (start_s, end_s) in enumerate(spans):
            is_last = k == len(spans) - 1
            if is_cut and is_last:
                return
            before_Ah, before_s = (carried.moved_Ah, carried.elapsed_s) if carried and k == 0 \
                else (0.0, 0.0)  # fmt: skip
            outcome = running.outcome(k, end_s - start_s)
            ended_by = "stopped" if run.stopped and is_last else ENDED_BY[outcome.ended_by]
            self.journal.event(
                run.entry.name, "step", index=index, step=running.first_index + k,
                start_s=start_s - self.frame.paused_s - before_s,
                end_s=end_s - self.frame.paused_s, ended_by=ended_by,
                moved_Ah=running.moved_Ah[k] + before_Ah,
            )  # fmt: skip

    def close(self, column: int, index: int, run: ChannelRun) -> None:
        """Write the end of what runs on a channel, and its last sample."""
        self.close_steps(index, run)
        if run.stopped:
            self.journal.event(run.entry.name, "stopped", index=index, reason=run.stopped)
        self.journal.rows(self.frame.renumbered(self.frame.recorder.flush(column)))


def _plain(outcome: Outcome) -> dict[str, float | str | None]:
    """Return an outcome as JSON can hold it."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in vars(outcome).items()}  # fmt: skip
