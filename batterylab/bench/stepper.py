"""A supply as a cycler of one channel: the host carries its sequences out, sample by sample.

A host-stepped supply has one output and no program of its own. `Stepper` fills the role of a
cycler over it: it holds sequences, starts them, takes a sample every period, judges it by the
step's tests as a cycler does on board, and keeps a log. The runner sees one role, and a recording
has the same steps and columns either way.
"""

import math
import threading
from collections.abc import Callable, Sequence

import numpy as np

from batterylab.bench.clock import Clock
from batterylab.bench.course import Course, Held, Snapshot
from batterylab.bench.steptests import TICK_s, fires, is_due, measured, wanted_A
from batterylab.drivers.roles import (
    CellReport,
    CellState,
    HostStepped,
    Identity,
    LogBlock,
    OnboardStep,
    Protections,
)
from batterylab.errors import BatterylabError, EnvironmentFailedError, SafetyStopError

#: a model with a timer of its own is told to end this much after the host would
AFTER_s = 5.0
#: a reading that gets no answer is asked for again, once
TRIES = 2
#: a discharge that the supply ended by itself ended where it should if it was this near
NEAR_V = 0.1
SLOTS = 1000
#: so long after it was prepared, or ended a sequence, a supply is as it was left
READY_s = 10.0
#: a power or resistance is corrected when its current is off by this share
STEER = 2e-4


class Stepper:
    """A host-stepped supply in the role of a cycler with one channel.

    Its thread, or on a simulated bench the runner, calls `sample` whenever `due_s` has come.
    What the runner asks for is answered from memory; only what must be done at once, such as
    `make_safe`, talks to the supply.

    Parameters
    ----------
    driver : HostStepped
        Open.
    clock : Clock
        Of the bench.
    protections : Protections
        Set and read back before any output is switched on.
    period_s : float
        From one sample to the next.
    """

    is_stepped = True

    def __init__(
        self, driver: HostStepped, clock: Clock, protections: Protections, period_s: float = 1.0
    ) -> None:
        self.driver = driver
        self.clock = clock
        self.protections = protections
        self.period_s = period_s
        self.held: Protections | None = None
        self._ready_s = -math.inf
        #: where in the period its samples lie, so that many supplies take turns
        self.phase_s = 0.0
        self.due_s = math.inf
        self.late_s = 0.0
        self.error: BaseException | None = None
        #: told when the output went on: number of the step, when, and when the one before ended
        self.on_output: Callable[[int, float, float | None], None] | None = None
        self._sequences: dict[int, tuple[OnboardStep, ...]] = {}
        self._slot = 0
        self._waiting: Course | None = None
        self._course: Course | None = None
        self._state = CellState.NONE
        self._end_s = math.nan
        self._failure = ""
        self._log: list[tuple[float, float, float]] = []
        self._talk = threading.RLock()  # held by whoever talks to the supply
        self._memory = threading.Lock()  # held while what others read is changed

    # -- before ------------------------------------------------------------------------------
    def identity(self) -> Identity:
        """Ask the supply who it is."""
        return self.driver.identity()

    def prepare(
        self, channels: Sequence[int], probe_limit_ohm: float = 0.0, *, reset: bool = False
    ) -> None:
        """Take control with the output off, set the protections and read them back.

        Raises
        ------
        EnvironmentFailedError
            If the supply refuses.
        """
        with self._talking():
            self._prepare()
            self._sequences.clear()
            self._forget()

    def _prepare(self) -> None:
        self.held = self.driver.prepare(self.protections)
        self._ready_s = self.clock.now()

    def renew(self) -> None:
        """Prepare the supply again, if it was left alone for long enough to let go.

        Raises
        ------
        EnvironmentFailedError
            If it refuses.
        """
        with self._talking():
            watchdog_s = self.protections.watchdog_s or math.inf
            if self.clock.now() - self._ready_s > min(READY_s, 0.5 * watchdog_s):
                self._prepare()

    def _forget(self) -> None:
        with self._memory:
            self._log.clear()
            self._waiting = self._course = None
            self._state, self._end_s, self._failure = CellState.NONE, math.nan, ""
            self.error = None

    def load_sequence(self, slot: int, steps: Sequence[OnboardStep]) -> None:
        """Keep a sequence."""
        self._sequences[slot] = tuple(steps)

    def assign(self, channels: Sequence[int], slot: int) -> None:
        """Choose the sequence that `start` begins."""
        self._slot = slot

    def start(
        self, channels: Sequence[int], slot: int | None = None, stop_after_Ah: float = math.inf
    ) -> None:
        """Begin a sequence with the next sample.

        Parameters
        ----------
        stop_after_Ah : float
            Its last step ends after this charge (magnitude) at the latest.

        Raises
        ------
        BatterylabError
            If there is no such sequence, or one is under way.
        """
        number = self._slot if slot is None else slot
        if number not in self._sequences:
            raise BatterylabError(f"{self._name}: there is no sequence {number}")
        with self._memory:
            if self._state is CellState.RUNNING:
                raise BatterylabError(f"{self._name}: a sequence is under way")
            self._waiting = Course(self._sequences[number], stop_after_Ah)
            self._course = None
            self._state, self._end_s, self._failure = CellState.RUNNING, math.nan, ""
        self.due_s = self.clock.now()

    @property
    def _name(self) -> str:
        link = getattr(self.driver, "link", None)
        return str(getattr(link, "name", "supply"))

    # -- each sample -------------------------------------------------------------------------
    def sample(self) -> None:
        """Take the sample that is due, and do what it asks for.

        A supply that fails is made safe and its sequence ends as failed; only if that cannot be
        confirmed, the error is kept for whoever reads the log.
        """
        with self._talking():
            if self._state is not CellState.RUNNING:
                self.due_s = math.inf
                return
            try:
                if self._waiting is not None:
                    self._enter()
                else:
                    self._look()
            except SafetyStopError as error:
                self._give_up(error.message)
            except BatterylabError as error:
                self._give_up(error.message)
            except BaseException as error:
                self.error = error
                raise

    def _enter(self) -> None:
        course, self._waiting = self._waiting, None
        if course is None:
            return
        self.renew()
        with self._memory:
            self._course = course
        self._begin(course)

    def _begin(self, course: Course) -> None:
        """Set the course's next step, and switch the output on."""
        step = course.steps[len(course.starts_s)]
        course.set_A = step.current_A
        if step.control != "current":
            course.set_A = self._first_A(step, course.last_V)
        goes_on = self.driver.set(
            step.mode, course.set_A, step.voltage_V, step.duration_s + AFTER_s
        )
        if not self.driver.wants_on:
            self.driver.output(True)
        now_s = self.clock.now()
        start_s = course.last_s if goes_on and math.isfinite(course.last_s) else now_s
        course.step_Ah = course.step_Wh = course.before_s = 0.0
        with self._memory:
            course.starts_s.append(start_s)
        course.last_s = start_s
        if self.on_output is not None and not goes_on:
            ended_s = course.ends_s[-1] if course.ends_s else None
            self.on_output(len(course.starts_s) - 1, start_s, ended_s)
        self._plan(course, now_s)

    def _first_A(self, step: OnboardStep, volts: float) -> float:
        """Return the current with which a power or a resistance begins.

        Where no sample told the voltage yet, it is the smallest that the cell may ask for: the
        first sample corrects it.
        """
        if not math.isfinite(volts):
            held = self.protections
            low, high = held.voltage_min_V or math.nan, held.voltage_max_V or math.nan
            volts = high if step.control == "power" else low
        return wanted_A(step, volts)

    def _plan(self, course: Course, now_s: float) -> None:
        """Decide when the next sample is due: on the grid, and at the end of the step."""
        passed = math.floor((now_s - self.phase_s) / self.period_s + 1e-6)
        grid_s = self.phase_s + self.period_s * (passed + 1)
        end_s = course.starts_s[-1] + course.step.duration_s
        self.due_s = max(min(grid_s, end_s), now_s + TICK_s)

    def _read(self) -> tuple[float, float]:
        for attempt in range(TRIES):
            try:
                return self.driver.measure()
            except SafetyStopError:
                raise
            except EnvironmentFailedError:
                if attempt == TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    def _look(self) -> None:
        course = self._course
        if course is None:
            return
        wanted_s = self.due_s
        volts, amps = self._read()
        now_s = self.clock.now()
        self.late_s = now_s - wanted_s
        has_ended = self.driver.ends_by_itself and course.step.mode != "REST" \
            and not self.driver.is_on()  # fmt: skip
        moved_Ah = amps * (now_s - course.last_s) / 3600.0
        course.step_Ah += moved_Ah
        course.step_Wh += moved_Ah * volts
        course.total_Ah += moved_Ah
        near_V, course.last_V = course.last_V, volts
        with self._memory:
            self._log.append((now_s, amps, volts))
        course.last_s = now_s
        if has_ended:
            self._ended_itself(course, near_V)
        else:
            self._judge(course, volts, amps)

    def _ended_itself(self, course: Course, last_V: float) -> None:
        """Judge a step that the supply ended: at its voltage that is right, else a failure."""
        step = course.step
        is_near = math.isnan(last_V) or last_V <= step.voltage_V + NEAR_V
        if step.mode == "DISCHARGE" and is_near:
            self._next(course)
            return
        noted = "; ".join(self.driver.alarms())
        raise EnvironmentFailedError(
            f"{self._name}: it ended step {len(course.starts_s)} by itself at {last_V:.4f} V"
            + (f": {noted}" if noted else "")
        )

    def _judge(self, course: Course, volts: float, amps: float) -> None:
        """Hold a sample against the step's tests and its duration, as a cycler does on board."""
        step = course.step
        elapsed_s = course.last_s - course.starts_s[-1]
        before_s, course.before_s = course.before_s, elapsed_s
        for test in step.tests if step.mode != "REST" else ():
            value = measured(test, volts, amps, course.step_Ah, course.step_Wh)
            if not (is_due(test, before_s, elapsed_s) and fires(test, value)):
                continue
            if test.action == "NEXT":
                self._next(course)
            else:
                self._give_up(
                    f"{test.kind} {test.value:g} in step {len(course.starts_s)}: "
                    f"measured {value:g}"
                )
            return
        is_last = len(course.starts_s) == len(course.steps)
        half_Ah = abs(amps) * self.period_s / 7200.0
        is_moved = is_last and abs(course.step_Ah) >= course.stop_after_Ah - half_Ah
        if is_moved or elapsed_s >= step.duration_s - TICK_s:
            self._next(course)
        else:
            self._steer(course, volts)
            self._plan(course, course.last_s)

    def _steer(self, course: Course, volts: float) -> None:
        """Set the current anew where a power or a resistance is held."""
        step = course.step
        if step.control == "current":
            return
        amps = wanted_A(step, volts)
        if abs(amps - course.set_A) > STEER * amps:
            left_s = step.duration_s - (course.last_s - course.starts_s[-1])
            self.driver.set(step.mode, amps, step.voltage_V, left_s + AFTER_s)
            course.set_A = amps

    def _next(self, course: Course) -> None:
        with self._memory:
            course.ends_s.append(course.last_s)
        if len(course.starts_s) < len(course.steps):
            self._begin(course)
            return
        self.driver.make_safe()
        self._ready_s = self.clock.now()
        self._end(CellState.OK, course.last_s)

    def _end(self, state: CellState, end_s: float) -> None:
        self.due_s = math.inf
        with self._memory:
            self._waiting = None
            self._state, self._end_s = state, end_s

    def _give_up(self, reason: str) -> None:
        """End the sequence as failed, with the output off; an output that stays on is told."""
        course, self._ready_s = self._course, -math.inf
        end_s = course.last_s if course and math.isfinite(course.last_s) else self.clock.now()
        self._failure = reason
        try:
            self.driver.make_safe()
        except BatterylabError as error:
            self.error = SafetyStopError(f"{reason}\n{error.message}", hint=error.hint)
        self._end(CellState.FAIL, end_s)

    # -- what the runner asks ----------------------------------------------------------------
    def snapshot(self) -> Snapshot:
        """Return what happened since the last time.

        Raises
        ------
        SafetyStopError
            If the supply failed and could not be made safe.
        """
        if self.error is not None:
            raise self.error
        with self._memory:
            rows, self._log = self._log, []
            course = self._course
            starts = tuple(round(s, 3) for s in course.starts_s) if course else ()
            ends = tuple(round(s, 3) for s in course.ends_s) if course else ()
            state, end_s = self._state, self._end_s
        table = np.array(rows, float).reshape(-1, 3)
        block = LogBlock(
            time_ms=np.round(1000.0 * table[:, 0]).astype(np.int64),
            current_A=table[:, 1:2], voltage_V=table[:, 2:3],
            state=np.full((len(table), 1), CellState.RUNNING, np.int16),
        )  # fmt: skip
        return Snapshot(block, starts, ends, state, round(end_s, 3))

    def drain_log(self, channels: Sequence[int]) -> LogBlock:
        """Return all samples since the last time."""
        return self.snapshot().block

    def clear_log(self) -> None:
        """Forget the samples that wait."""
        with self._memory:
            self._log.clear()

    def states(self, channels: Sequence[int]) -> dict[int, CellState]:
        """Return what the channel is doing."""
        return dict.fromkeys(channels, self._state)

    def step_times(self, channels: Sequence[int]) -> dict[int, tuple[int, float]]:
        """Return step number, from 1, and seconds elapsed in it."""
        course = self._course
        if course is None or not course.starts_s:
            return dict.fromkeys(channels, (1, 0.0))
        return dict.fromkeys(
            channels, (len(course.starts_s), course.last_s - course.starts_s[-1])
        )

    def failure(self, channel: int) -> str:
        """Say what stopped the channel."""
        return self._failure or "nothing failed"

    def verbose(self, channel: int) -> CellReport:
        """Return all that is known of the channel."""
        volts, amps = self.measure([channel])[channel]
        step, _ = self.step_times([channel])[channel]
        outcome = {CellState.RUNNING: "NONE", CellState.NONE: "NONE"}.get(
            self._state, self._state.name
        )
        return CellReport(
            self._state is CellState.RUNNING, self._slot, step, volts, amps, outcome, 0, "NONE",
            0.0, 0.0,
        )  # fmt: skip

    def errors(self) -> list[str]:
        """Return and clear alarms and error queue."""
        with self._talking():
            return self.driver.alarms()

    def measure(self, channels: Sequence[int]) -> dict[int, tuple[float, float]]:
        """Return voltage in V and current in A now; an idle output is looked at without current.

        Raises
        ------
        EnvironmentFailedError
            If the supply gives no reading.
        """
        with self._talking():
            if self._state is CellState.RUNNING and self._waiting is None:
                return dict.fromkeys(channels, self.driver.measure())
            if self.held is None:
                self._prepare()
            self.driver.set("REST", 0.0, 0.0, 1.0)
            self.driver.output(True)
            try:
                return dict.fromkeys(channels, self.driver.measure())
            finally:
                self.driver.output(False)

    def probe_failed(self, channels: Sequence[int]) -> set[int]:
        """Return the channel if its cell is missing, reversed, or beyond the protections."""
        try:
            volts, _ = next(iter(self.measure(channels).values()))
        except SafetyStopError:
            return set(channels)
        low_V, high_V = self.protections.voltage_min_V, self.protections.voltage_max_V
        is_in = 0.5 * (low_V or 0.1) < volts <= (high_V or math.inf)
        return set() if is_in else set(channels)

    # -- safe state --------------------------------------------------------------------------
    def abort(self, channels: Sequence[int]) -> None:
        """End the sequence: output off, confirmed."""
        self.make_safe(channels)

    def make_safe(self, channels: Sequence[int]) -> None:
        """Switch the output off and confirm it by reading back.

        Raises
        ------
        SafetyStopError
            If it cannot be confirmed, or the thread that talks to the supply hangs.
        """
        with self._talking():
            self.driver.make_safe()
            if self._state is CellState.RUNNING:
                course = self._course
                is_known = course is not None and math.isfinite(course.last_s)
                self._end(
                    CellState.ABORTED,
                    course.last_s if course and is_known else self.clock.now(),
                )

    def _talking(self) -> Held:
        return Held(self._talk, self._name)

    def close(self) -> None:
        """Close the link."""
        self.driver.close()
