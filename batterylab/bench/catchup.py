"""Fetch what a cycler did until it was stopped, so that an interrupted run can go on from there."""

import math

import numpy as np
from numpy.typing import NDArray

from batterylab.bench.attendant import UNIX_TIME, Attendant, LOOK_s
from batterylab.bench.channelrun import ChannelRun
from batterylab.bench.course import Snapshot
from batterylab.bench.frame import Looks
from batterylab.drivers.roles import CellState, LogBlock


def catch_up(attendant: Attendant) -> tuple[list[int], list[int]]:
    """Fetch what a cycler logged until it was stopped, and keep what ran as far as it came.

    The channels are stopped already. A sequence that had ended by then counts as ended. How far
    the others came is for the caller to note, once it agrees with that.

    Returns
    -------
    unbegun, cut : list of int
        Numbers in the journal of channels whose sequence was to begin and never did, and of those
        whose sequence was cut.
    """
    frame = attendant.frame
    active = [run for _, run in frame.members if run.running]
    if not active:
        return [], []
    block, idle = _fetch(attendant, active)
    cut: list[int] = []
    unbegun = [index for index, run in frame.members if run in idle]
    for index, run in frame.members:  # before the rows: whoever finds those knows of the gap
        if run.running and run.lost_s > 0:
            attendant.journal.event(run.entry.name, "gap", index=index, lost_s=run.lost_s)
    times_s = frame.times(block)
    samples = attendant.samples(block, times_s, {}, {})
    attendant.journal.rows(frame.renumbered(frame.recorder.take(samples)))
    attendant.note_latest()
    for column, (index, run) in enumerate(frame.members):
        running = run.running
        if running is None:
            continue
        attendant.journal.rows(frame.renumbered(frame.recorder.flush(column)))
        if run.stopped:
            attendant.close(column, index, run)
            run.running = None
        elif running.is_ending:
            attendant.close_steps(index, run)
            run.finish()
            attendant.note_done(index, run)
        else:
            attendant.close_steps(index, run, is_cut=True)
            run.interrupt()
            cut.append(index)
    return unbegun, cut


def _fetch(
    attendant: Attendant, active: list[ChannelRun]
) -> tuple[LogBlock, list[ChannelRun]]:  # fmt: skip
    """Return the samples since the last look, and the channels that were never told to begin.

    Where the last step of the others was cut is noted.
    """
    frame = attendant.frame
    for run in active:
        last_s = frame.recorder.last[frame.numbers.index(run.entry.cycler_channel), UNIX_TIME]
        if run.running is not None:
            run.running.end_s = float(max(last_s, run.running.starts_s[-1])) \
                if math.isfinite(last_s) else run.running.starts_s[-1]  # fmt: skip
    if frame.is_stepped:
        seen: Snapshot = frame.driver.snapshot()
        active[0].note_starts(seen.starts_s, seen.ends_s)
        if seen.state is CellState.OK:
            active[0].note_end(seen.end_s)
        elif active[0].running is not None and len(seen.block.time_ms):
            active[0].running.end_s = float(frame.times(seen.block)[-1])
        return seen.block, []
    numbers = [run.entry.cycler_channel for run in active]
    block, looks = frame.read(numbers)
    fresh = frame.times(block) > frame.last_s
    block = LogBlock(block.time_ms[fresh], block.current_A[fresh], block.voltage_V[fresh],
                     block.state[fresh])  # fmt: skip
    times_s = frame.times(block)
    idle = _unbegun(attendant, active, block, times_s, looks)
    states = frame.driver.states(numbers)
    for run in active:
        if run in idle:
            continue
        number = run.entry.cycler_channel
        live = block.state[:, frame.numbers.index(number)] == CellState.RUNNING
        run.note_start(times_s, block.state[:, frame.numbers.index(number)])
        run.seen = (times_s, block.current_A[:, frame.numbers.index(number)])
        if states[number] in (CellState.OK, CellState.FAIL):
            attendant.ended(run, states[number], block, times_s, frame.last_s)
        elif run.running is not None:
            _note_cut(run, times_s[live], looks[number])
    return block, idle


def _unbegun(
    attendant: Attendant, active: list[ChannelRun], block: LogBlock,
    times_s: NDArray[np.float64], looks: Looks,
) -> list[ChannelRun]:  # fmt: skip
    """Take back what a cycler was never told to begin: its counters still stand as before.

    A sequence that starts sets them to zero; and while one runs, the log shows it.
    """
    frame = attendant.frame
    asked = [run for run in active
             if run.running and run.running.mark and not run.running.is_seen]  # fmt: skip
    if not asked:
        return []
    counted = frame.driver.moved_Ah([run.entry.cycler_channel for run in asked])
    idle = []
    for index, run in frame.members:
        running, number = run.running, run.entry.cycler_channel
        if run not in asked or running is None:
            continue
        column = frame.numbers.index(number)
        ran = (block.state[:, column] == CellState.RUNNING) & (times_s > running.starts_s[0] + 1.0)
        if tuple(running.mark or ()) == (*looks[number], counted[number]) and not ran.any():
            run.running = None
            attendant.note_kept(index, run)
            idle.append(run)
    return idle


def _note_cut(
    run: ChannelRun, live_s: NDArray[np.float64], look: tuple[int, float]
) -> None:
    """Learn when a sequence was cut, from its last samples or from how long its step ran."""
    running = run.running
    assert running is not None  # noqa: S101
    before_s, (step, elapsed_s) = running.end_s, look
    if len(live_s):
        run.note_step(step, elapsed_s, float(live_s[-1]))
        running.end_s = float(live_s[-1])
        run.lost_s = run.gap_s + max(0.0, float(live_s[0]) - LOOK_s - before_s)
        return
    if step > len(running.starts_s):  # fixed steps that ended in the meantime
        between = running.segment.steps[len(running.starts_s) - 1 : step - 1]
        began_s = running.starts_s[-1] + sum(each.duration_s for each in between)
        run.note_step(step, elapsed_s, began_s + math.floor(elapsed_s))
    running.end_s = max(before_s, running.starts_s[-1] + elapsed_s)
    run.lost_s = run.gap_s + running.end_s - before_s
