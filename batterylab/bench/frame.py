"""A cycler frame during a run: its channels, its slots, its own clock."""

import math
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab.bench.channelrun import ChannelRun
from batterylab.bench.check import as_dict
from batterylab.bench.onboard import Guards, compile_segment
from batterylab.bench.recorder import Recorder
from batterylab.bench.stepper import SLOTS as STEPPER_SLOTS
from batterylab.bench.stepper import Stepper
from batterylab.drivers.roles import LogBlock
from batterylab.errors import EnvironmentFailedError
from batterylab.protocol import Resolved, Segment, Step, all_segments

SLOTS = 8

Looks = dict[int, tuple[int, float]]
#: step, seconds elapsed in it, charge in Ah
Mark = tuple[int, float, float]


class Frame:
    """What a run knows of one cycler.

    Parameters
    ----------
    name : str
        Of the instrument.
    driver : CyclerFrame
        Open.
    members : list of (int, ChannelRun)
        Number in the journal, and the channel.
    resolved : Resolved
        The protocol.

    Attributes
    ----------
    numbers : list of int
        The members' channels on the cycler.
    """

    is_stepped = False
    slots_there_are = SLOTS

    def __init__(
        self, name: str, driver: Any, members: list[tuple[int, ChannelRun]], resolved: Resolved
    ) -> None:
        self.name = name
        self.driver = driver
        self.members = members
        self.resolved = resolved
        self.numbers = [run.entry.cycler_channel for _, run in members]
        self.indices = np.array([index for index, _ in members], float)
        self.slots: dict[tuple[Step, ...], int] = {}
        self.paused_s = 0.0
        self.offset_s = 0.0
        self.stale = 0
        self.last_s = self.start_s = 0.0
        self.degrees: NDArray[np.float64] = np.zeros(0)
        self.guards = Guards((-math.inf, math.inf))
        self.recorder: Recorder

    def prepare(self, guards: Guards) -> None:
        """Define the cells, check their contacts, and load the sequences that come first.

        Raises
        ------
        EnvironmentFailedError
            If a contact is bad, or the frame refuses.
        """
        self.guards = guards
        segments = all_segments(self.resolved)
        self.driver.prepare(self.numbers)
        failed = self.driver.probe_failed(self.numbers)
        if failed:
            runs = [run for _, run in self.members if run.entry.cycler_channel in failed]
            names = [run.entry.name for run in runs]
            raise EnvironmentFailedError(
                f"{self.name}: no good contact in channel {', '.join(names)}",
                hint="seat the cell again; is it the right way round?",
            )
        self.slots.clear()
        for slot, segment in enumerate(segments[: self.slots_there_are], 1):
            self._load(slot, segment)
            self.slots[segment.key] = slot

    def _load(self, slot: int, segment: Segment) -> None:
        steps = compile_segment(segment, self.guards, is_stepped=self.is_stepped)
        self.driver.load_sequence(slot, steps)

    def layers(self) -> list[dict[str, Any]]:
        """Return what the cycler watches by itself: sequences bounded in time and voltage."""
        low, high = self.guards.voltage_V
        return [
            {"layer": "L1 cycler", "what": "voltage_V", "low": low, "high": high, "debounce": 1,
             "action": "channel fails, high impedance"},
            {"layer": "L1 cycler", "what": "step_time", "debounce": 1,
             "action": "channel ends, high impedance"},
        ]  # fmt: skip

    def calibrate(self, now_s: float, resolved: Resolved) -> None:
        """Learn how the frame's clock relates to the bench's, and begin to count.

        Raises
        ------
        EnvironmentFailedError
            If the frame logs nothing.
        """
        block = self.driver.drain_log(self.numbers)
        if not len(block.time_ms):
            raise EnvironmentFailedError(f"{self.name}: the data log is empty")
        self.offset_s = now_s - float(block.time_ms[-1]) / 1000.0
        self.last_s = self.start_s = now_s
        self.recorder = Recorder(
            len(self.members), resolved.voltage_moves_V, now_s, resolved.current_moves_A
        )

    def count_from(self, start_s: float, paused_s: float, last: NDArray[np.float64]) -> None:
        """Go on counting where an interrupted run stood.

        Parameters
        ----------
        start_s, paused_s : float
            Begin of the run as unix seconds, and how long it has been paused since.
        last : ndarray, shape (c, 11)
            The last sample of each member, as a row of the journal; NaN where there is none.
        """
        self.paused_s = paused_s
        self.recorder.start_s = start_s + paused_s
        self.recorder.net_Ah = np.nan_to_num(last[:, -2])
        self.recorder.net_Wh = np.nan_to_num(last[:, -1])

    def marks(self, runs: list[ChannelRun]) -> dict[int, Mark]:
        """Return what the cycler counted in each channel's last sequence, by its number.

        A sequence that starts sets these to zero.
        """
        numbers = [run.entry.cycler_channel for run in runs]
        looks, moved_Ah = self.driver.step_times(numbers), self.driver.moved_Ah(numbers)
        return {number: (*looks[number], moved_Ah[number]) for number in numbers}

    def begin(self, runs: list[ChannelRun], slot: int) -> None:
        """Start the sequence of a slot on some channels."""
        self.driver.start([run.entry.cycler_channel for run in runs], slot)

    def read(self, numbers: list[int]) -> tuple[LogBlock, dict[int, tuple[int, float]]]:
        """Return the new samples, and where some channels are as of the last of them.

        If a second ticked between the two questions, both are asked again.
        """
        block = self.driver.drain_log(self.numbers)
        looks = self.driver.step_times(numbers)
        late = self.driver.drain_log(self.numbers)
        if len(late.time_ms):
            block = LogBlock(*(np.concatenate([getattr(block, f.name), getattr(late, f.name)])
                               for f in fields(LogBlock)))  # fmt: skip
            looks = self.driver.step_times(numbers)
        return block, looks

    def intervals(self, times_s: NDArray[np.float64], run: ChannelRun) -> NDArray[np.float64]:
        """Return the time in s of which each sample of a channel tells: a second of the log."""
        return np.ones(len(times_s))

    def times(self, block: LogBlock) -> NDArray[np.float64]:
        """Return the end of each logged second as unix seconds."""
        return np.round(block.time_ms / 1000.0 + self.offset_s)

    def by_slot(
        self, runs: list[ChannelRun]
    ) -> tuple[dict[int, list[ChannelRun]], list[ChannelRun]]:
        """Group channels by the sequence that their current segment needs.

        A sequence that is not loaded takes the place of one that no channel runs.

        Returns
        -------
        (dict of int to list of ChannelRun, list of ChannelRun)
            Channels by slot, and those for which no sequence is free now.
        """
        groups: dict[int, list[ChannelRun]] = {}
        waiting: list[ChannelRun] = []
        for run in runs:
            segment = run.pending
            if segment is None:
                continue
            slot = self._slot_of(segment, set(groups))
            if slot is None:
                waiting.append(run)
            else:
                groups.setdefault(slot, []).append(run)
        return groups, waiting

    def _slot_of(self, segment: Segment, taken: set[int]) -> int | None:
        """Return the slot of a segment's sequence, loaded now if need be; None if none is free."""
        key = segment.key
        slot = self.slots.pop(key, None)
        if slot is None:
            busy = {run.running.segment.key for _, run in self.members if run.running}
            used = {self.slots[other] for other in busy if other in self.slots} | taken
            free = [n for n in range(1, self.slots_there_are + 1) if n not in self.slots.values()]
            idle = [n for n in self.slots.values() if n not in used]  # the longest unused first
            slot = next(iter([*free, *idle]), None)
            if slot is None:
                return None
            self._load(slot, segment)
            self.slots = {other: n for other, n in self.slots.items() if n != slot}
        self.slots[key] = slot
        return slot

    def index_of(self, run: ChannelRun) -> int:
        """Return a member's number in the journal."""
        return next(index for index, each in self.members if each is run)

    def renumbered(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn the frame's columns into the journal's channel numbers, in place."""
        if len(rows):
            rows[:, 0] = self.indices[rows[:, 0].astype(int)]
        return rows


class SteppedFrame(Frame):
    """A supply that the host steps: one channel, its times exact and those of the bench."""

    driver: Stepper
    is_stepped = True
    slots_there_are = STEPPER_SLOTS

    def layers(self) -> list[dict[str, Any]]:
        """Return what the supply watches by itself, as read back, and what the stepper does."""
        held = self.driver.held
        values = as_dict(held) if held is not None else {}
        own = [{"layer": "L0 instrument", "what": what, "high": value,
                "action": "output off"} for what, value in values.items()]  # fmt: skip
        low, high = self.guards.voltage_V
        return [*own, {"layer": "L1 stepper", "what": "voltage_V", "low": low, "high": high,
                       "debounce": 1, "action": "output off"}]  # fmt: skip

    def calibrate(self, now_s: float, resolved: Resolved) -> None:
        """Begin to count; the supply's log is in the bench's own time."""
        self.driver.clear_log()
        self.offset_s = 0.0
        self.last_s = self.start_s = self.sample_s = now_s
        self.recorder = Recorder(
            len(self.members), resolved.voltage_moves_V, now_s, resolved.current_moves_A
        )

    def marks(self, runs: list[ChannelRun]) -> dict[int, Mark]:
        """Return nothing: a supply that the host steps forgets with its host."""
        return {}

    def begin(self, runs: list[ChannelRun], slot: int) -> None:
        """Start the sequence of a slot; the stepper ends it at the segment's charge."""
        for run in runs:
            segment = run.pending
            most_Ah = segment.stop_after_Ah if segment else None
            self.driver.start(
                [run.entry.cycler_channel], slot, math.inf if most_Ah is None else most_Ah
            )

    def times(self, block: LogBlock) -> NDArray[np.float64]:
        """Return the time of each sample as unix seconds."""
        return np.asarray(block.time_ms / 1000.0, float)

    def intervals(self, times_s: NDArray[np.float64], run: ChannelRun) -> NDArray[np.float64]:
        """Return the time in s since the sample before, or since the step began."""
        if run.running is None or not len(times_s):
            return np.zeros(len(times_s))
        before = np.concatenate([[self.sample_s], times_s[:-1]])
        self.sample_s = float(times_s[-1])
        starts = np.array(run.running.begins_s or run.running.starts_s)
        began = starts[np.maximum(np.searchsorted(starts, times_s, side="left") - 1, 0)]
        return np.asarray(np.maximum(times_s - np.maximum(before, began), 0.0), float)


def frame_for(
    name: str, driver: Any, members: list[tuple[int, ChannelRun]], resolved: Resolved
) -> Frame:
    """Return what a run knows of a cycler, or of a supply that the host steps."""
    kind = SteppedFrame if getattr(driver, "is_stepped", False) else Frame
    return kind(name, driver, members, resolved)
