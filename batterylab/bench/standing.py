"""Where each channel of an interrupted run stood, read from its journal and its last samples."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab.bench.channelrun import Carried, ChannelRun, Running
from batterylab.bench.journal import ROW, JournalContent
from batterylab.bench.latest import read_latest
from batterylab.protocol import Outcome

(CHANNEL, TEST_TIME, UNIX_TIME, CURRENT, VOLTAGE, TEMPERATURE, _, STEP, _, NET_AH,
 NET_WH) = range(len(ROW))  # fmt: skip
ELAPSED, MOVED = len(ROW), len(ROW) + 1

#: why a run ended whose journal does not say it
DIED = "its runner died"


@dataclass
class Standing:
    """Where a channel stood.

    Attributes
    ----------
    index : int
        Its number in the journal.
    last : ndarray
        Its last sample, as a row of the journal; NaN if there was none.
    is_kept : bool
        Whether that sample is a row of the journal already.
    has_ended : bool
        Whether its protocol was complete, or it was stopped.
    """

    index: int
    last: NDArray[np.float64]
    is_kept: bool
    has_ended: bool


@dataclass
class Interrupted:
    """An interrupted run.

    Attributes
    ----------
    path : Path
        Its journal.
    content : JournalContent
        What that holds.
    start_s : float
        Unix time of its begin; NaN if it never began.
    paused_s : float
        How long it has been paused already.
    reason : str
        Why it was interrupted.
    latest : ndarray
        The last samples, by channel.
    """

    path: Path
    content: JournalContent
    start_s: float = math.nan
    paused_s: float = 0.0
    reason: str = DIED
    latest: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, len(ROW) + 2)))

    @classmethod
    def read(cls, path: Path) -> "Interrupted":
        """Read a journal and the last samples beside it.

        Raises
        ------
        BatterylabError
            If the file is no journal.
        """
        content = JournalContent(path)
        channels = content.head.get("channels", [])
        found = cls(path, content, latest=read_latest(latest_path(path), len(channels)))
        for event in content.events:
            if event["what"] == "begin":
                found.start_s = float(event["start_s"])
            elif event["what"] == "resumed":
                found.paused_s = float(event["paused_s"])
                found.reason = DIED  # until it is said otherwise
            elif event["what"] == "interrupted":
                found.reason = str(event["reason"])
        return found

    @property
    def can_resume(self) -> bool:
        """Whether there is a channel to go on with."""
        if not self.content.head or math.isnan(self.start_s):
            return False
        count = len(self.content.head.get("channels", []))
        return any(not self._has_ended(index) for index in range(count))

    def events(self, index: int) -> list[dict[str, Any]]:
        """Return a channel's events in order."""
        return [event for event in self.content.events if event.get("index") == index]

    def _has_ended(self, index: int) -> bool:
        return any(event["what"] in ("stopped", "complete") for event in self.events(index))

    def offsets(self) -> dict[str, float]:
        """Return how each frame's clock related to the bench's, by the frame's name."""
        return {str(e["channel"]): float(e["offset_s"]) for e in self.content.events
                if e["what"] == "frame"}  # fmt: skip

    def standing(self, index: int) -> Standing:
        """Return where a channel stood."""
        rows = self._rows(index)
        latest = self.latest[index]
        is_kept = bool(len(rows)) and not latest[UNIX_TIME] > rows[-1, UNIX_TIME]
        nothing = np.full(len(ROW), np.nan)
        last = rows[-1] if is_kept else (latest[: len(ROW)] if len(rows) else nothing)
        return Standing(index, last.copy(), is_kept or not len(rows), self._has_ended(index))

    def _rows(self, index: int) -> NDArray[np.float64]:
        return self._tails.get(index, np.zeros((0, len(ROW))))

    @cached_property
    def _tails(self) -> dict[int, NDArray[np.float64]]:
        """The rows since each channel's last segment began, and the one before: what is needed."""
        count = len(self.content.head.get("channels", []))
        begun_s = np.full(count, np.inf)
        for event in self.content.events:
            if event["what"] == "segment":
                begun_s[int(event["index"])] = float(event["at_s"])
        return self.content.tails(begun_s)

    def restore(self, run: ChannelRun, index: int) -> None:
        """Bring a channel's run to where it stood; what was under way is `run.running`.

        Raises
        ------
        ValueError
            If the journal does not fit the protocol.
        """
        segment: dict[str, Any] | None = None
        for event in self.events(index):
            what = event["what"]
            if what == "done":
                run.take([_outcome(each) for each in event["results"]])
                segment = None
            elif what == "kept":
                carried = Carried(**event["carried"]) if event["carried"] else None
                run.keep([_outcome(each) for each in event["before"]], carried)
                segment = None
            elif what == "segment":
                segment = event
                run.gap_s = 0.0
            elif what == "gap":  # of the segment under way, found by a return that died as well
                run.gap_s = float(event["lost_s"])
            elif what == "remark":
                run.remarks += [text for text in event["remarks"] if text not in run.remarks]
        if segment is not None and run.pending is not None:
            run.running = self._running(run, index, segment)

    def _running(self, run: ChannelRun, index: int, event: dict[str, Any]) -> Running:
        """Return the segment that was under way, with the starts and charges of its steps."""
        assert run.pending is not None  # noqa: S101
        first, at_s = int(event["first"]), float(event["at_s"])
        running = Running(run.pending, [at_s], first, [0.0] * len(run.pending.steps))
        running.mark = tuple(event["mark"]) if event.get("mark") else None
        rows = self._rows(index)
        standing = self.standing(index)
        last = standing.last
        if not last[UNIX_TIME] > at_s or last[STEP] < first:
            running.end_s = at_s
            self._note_outputs(running, index, event)
            return running
        begun = int(last[STEP]) - first
        before = rows[rows[:, UNIX_TIME] <= at_s]
        net_Ah = float(before[-1, NET_AH]) if len(before) else 0.0
        for k in range(begun):
            own = rows[(rows[:, STEP] == first + k) & (rows[:, UNIX_TIME] > at_s)]
            if len(own):
                running.moved_Ah[k] = float(own[-1, NET_AH]) - net_Ah
                net_Ah = float(own[-1, NET_AH])
                running.starts_s.append(float(own[-1, UNIX_TIME]))
            else:
                running.starts_s.append(running.starts_s[-1])
        running.moved_Ah[begun] = float(last[NET_AH]) - net_Ah
        elapsed_s = self.latest[index][ELAPSED]
        if self.latest[index][UNIX_TIME] == last[UNIX_TIME] and math.isfinite(elapsed_s):
            running.starts_s[begun] = float(last[UNIX_TIME] - elapsed_s)
        running.end_s = float(last[UNIX_TIME])
        running.is_seen = True
        self._note_outputs(running, index, event)
        return running

    def _note_outputs(self, running: Running, index: int, segment: dict[str, Any]) -> None:
        """Take over when a supply's output went on, also for steps of which there is no sample."""
        events = self.events(index)
        after = events[events.index(segment) + 1 :]
        last = len(running.starts_s) - 1
        for on in (event for event in after if event["what"] == "on"):
            k = min(int(on["step"]) - running.first_index, len(running.moved_Ah) - 1)
            if k < last:
                continue
            if k > last:
                ends_s = [running.starts_s[-1]] * (k - last - 1) + [on["ended_s"] or on["at_s"]]
                running.ends_s = [*running.starts_s[1:], *ends_s]
                running.starts_s += [*ends_s[:-1], on["at_s"]]
                last = k
            elif not running.is_seen:
                running.starts_s[0] = on["at_s"]
            running.on_s = float(on["at_s"])
            running.end_s = max(running.end_s, running.on_s)


def latest_path(journal: Path) -> Path:
    """Return where the last samples of a run stand."""
    return journal.with_suffix(".latest")


def _outcome(data: dict[str, Any]) -> Outcome:
    values: dict[str, Any] = {k: math.nan if v is None else v for k, v in data.items()}
    return Outcome(**values)
