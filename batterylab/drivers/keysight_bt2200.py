"""Keysight BT2200 family: 8 modules of 32 channels, sequences on board.

Commands as used on the wire with BT2202A and BT2203A frames. A channel such as 125 is channel
25 of module 1, and its cell is 1025. There is no host watchdog: the bounded sequence is the
safety net. Requests for many cells are split by module, since long replies overran buffers.
"""

import struct
from collections.abc import Iterator, Sequence

import numpy as np

from batterylab.drivers.roles import CellReport, CellState, LogBlock, OnboardStep
from batterylab.drivers.scpi import OVERLOAD, ScpiDriver, channel_list
from batterylab.errors import (
    BatterylabError,
    EnvironmentFailedError,
    OutOfRangeError,
    SafetyStopError,
)

CHANNELS = 256
RECORD = np.dtype(
    [("time_ms", "<u8"), ("current", "<f4", CHANNELS), ("sense", "<f4", CHANNELS),
     ("local", "<f4", CHANNELS), ("dcir1", "<f4", CHANNELS), ("dcir2", "<f4", CHANNELS),
     ("cell", "<u2", CHANNELS), ("state", "<i2", CHANNELS)]
)  # fmt: skip
PROBE_LIMIT_ohm = 2.0
SAFE_CURRENT_A = 0.02
PAUSE_s = 0.1
RESET_s = 5.0
SETTLE_s = 1.0
SAFE_TRIES = 3
SLOTS, STEPS, TESTS = 8, 256, 32
LONGEST_STEP_s = 2147483647
MODES = ("CHARGE", "DISCHARGE", "REST")
OUTCOMES = ("NONE", "OK", "FAIL", "ABORTED", "NEXT")
_KINDS = ("VOLT", "CURR", "POWER", "AMPH", "WATTH", "POS_DVDT", "NEG_DVDT", "POS_DIDT", "NEG_DIDT",
          "DVMAX", "DVMIN", "DIMAX", "DIMIN")  # fmt: skip
TEST_KINDS = tuple(f"{kind}_{side}" for kind in _KINDS for side in ("GE", "LE"))


def cell_of(channel: int) -> int:
    """Return the cell number of a channel: 125 -> 1025."""
    module, place = divmod(channel, 100)
    if not (1 <= module <= 8 and 1 <= place <= 32):
        raise BatterylabError(
            f"a BT2200 has no channel {channel}", hint="101 to 132, … , 801 to 832"
        )
    return 1000 * module + place


def index_of(channel: int) -> int:
    """Return the place of a channel in the log's records: 101 -> 0."""
    module, place = divmod(cell_of(channel), 1000)
    return 32 * (module - 1) + place - 1


def by_module(channels: Sequence[int]) -> Iterator[tuple[list[int], str]]:
    """Yield the channels of each module, rising, and their cell list."""
    modules: dict[int, list[int]] = {}
    for channel in sorted(set(channels)):
        modules.setdefault(channel // 100, []).append(channel)
    for group in modules.values():
        yield group, channel_list([cell_of(channel) for channel in group])


class Bt2200(ScpiDriver):
    """A frame of the BT2200 family."""

    def prepare(
        self, channels: Sequence[int], probe_limit_ohm: float = PROBE_LIMIT_ohm,
        *, reset: bool = False,
    ) -> None:  # fmt: skip
        """Define one cell a channel and clear sequences and log.

        Parameters
        ----------
        channels : sequence of int
            The frame's own numbers.
        probe_limit_ohm : float
            Contacts above this fail the probe check.
        reset : bool
            Reset the frame before: this stops every channel of it, and takes some seconds.

        Raises
        ------
        EnvironmentFailedError
            If the frame refuses, as it does while a cell is running.
        OutOfRangeError
            If a value is outside what the frame takes; nothing was sent.
        """
        _within("probe_limit_ohm", probe_limit_ohm, 0.0, 10.0)
        for channel in channels:
            cell_of(channel)
        if reset:
            self.link.write("*RST")
            self.link.clock.sleep(RESET_s)
            self.link.write("SEQ:CLEar 0")
            self.link.clock.sleep(SETTLE_s)
        self.errors()
        self.link.write("CELL:CLEAR 0")
        self.link.write("SEQ:CLEAR 0")
        self.link.clock.sleep(PAUSE_s)
        self.link.write(f"SYST:PROB:LIM {probe_limit_ohm:g},0")
        for channel in sorted(set(channels)):
            self.link.write(f"CELL:DEFINE {cell_of(channel)},(@{channel})")
        self.link.clock.sleep(PAUSE_s)
        self.link.write("DATA:LOG:CLEar")
        self.check("the definition of cells")

    def load_sequence(self, slot: int, steps: Sequence[OnboardStep]) -> None:
        """Write a sequence into one of the eight slots and read every step back.

        Raises
        ------
        EnvironmentFailedError
            If the frame refuses, or holds something else afterwards.
        OutOfRangeError
            If a step is outside what the frame takes; nothing was sent.
        """
        self._check_sequence(slot, steps)
        self.link.write(f"SEQ:CLEar {slot}")
        for number, step in enumerate(steps, 1):
            command = f"SEQ:STEP:DEF {slot},{number},{step.mode},{step.duration_s}"
            if step.mode != "REST":
                command += f",{step.current_A:.6g},{step.voltage_V:.6g}"
            self.link.write(command)
            for index, test in enumerate(step.tests, 1):
                self.link.write(
                    f"SEQ:TEST:DEF {slot},{number},{index},{test.kind},{test.value:.6g},"
                    f"{test.when},{test.time_s},{test.action}"
                )
        self.link.clock.sleep(PAUSE_s)
        self.check(f"sequence {slot}")
        for number, step in enumerate(steps, 1):
            self._compare(slot, number, step)

    def _check_sequence(self, slot: int, steps: Sequence[OnboardStep]) -> None:
        _within("slot", slot, 1, SLOTS)
        _within("number of steps", len(steps), 1, STEPS)
        low_A, high_A = self.spec.ranges["current_A"]
        low_V, high_V = self.spec.ranges["voltage_V"]
        for number, step in enumerate(steps, 1):
            if step.mode not in MODES:
                raise OutOfRangeError(f"step {number}: unknown mode {step.mode!r}")
            _within(f"step {number}: duration_s", step.duration_s, 1, LONGEST_STEP_s)
            _within(f"step {number}: number of tests", len(step.tests), 0, TESTS)
            if step.mode == "REST":
                if step.tests:
                    raise OutOfRangeError(f"step {number}: a rest evaluates no tests")
                continue
            _within(f"step {number}: current_A", step.current_A, low_A, high_A)
            _within(f"step {number}: voltage_V", step.voltage_V, low_V, high_V)
            for test in step.tests:
                if test.kind not in TEST_KINDS or test.when not in ("AT", "AFTER", "BEFORE"):
                    raise OutOfRangeError(f"step {number}: unknown test {test.kind} {test.when}")
                if test.action not in ("NEXT", "FAIL"):
                    raise OutOfRangeError(f"step {number}: unknown action {test.action!r}")
                _within(f"step {number}: {test.kind}", test.value, -1e6, 1e6)
                _within(f"step {number}: {test.kind} time_s", test.time_s, 0, LONGEST_STEP_s)

    def _compare(self, slot: int, number: int, step: OnboardStep) -> None:
        command = f"SEQ:STEP:DEF? {slot},{number}"
        reply = self.link.query(command)
        fields = reply.split(",")
        try:
            holds = fields[0] == step.mode and int(fields[1]) == step.duration_s
            if step.mode != "REST":
                holds &= abs(float(fields[2]) - step.current_A) < 1e-4 * max(1, step.current_A)
                holds &= abs(float(fields[3]) - step.voltage_V) < 1e-4
        except (IndexError, ValueError):
            holds = False
        if not holds:
            raise self.link.unexpected(command, reply)

    def assign(self, channels: Sequence[int], slot: int) -> None:
        """Assign a sequence to channels; 0 takes it away.

        Raises
        ------
        EnvironmentFailedError
            If the frame refuses.
        """
        _within("slot", slot, 0, SLOTS)
        for _, cells in by_module(channels):
            self.link.write(f"CELL:ENABLE {cells},{slot}")
        self.check(f"the assignment of sequence {slot}")

    def start(self, channels: Sequence[int], slot: int | None = None) -> None:
        """Start the sequences of channels; with a slot, assign that sequence first.

        Raises
        ------
        EnvironmentFailedError
            If the frame refuses.
        """
        if slot is not None:
            self.assign(channels, slot)
        for count, (_, cells) in enumerate(by_module(channels)):
            if count:
                self.link.clock.sleep(PAUSE_s)
            self.link.write(f"CELL:INIT {cells}")
        self.check("the start of a sequence")

    def states(self, channels: Sequence[int]) -> dict[int, CellState]:
        """Return what each channel is doing."""
        found: dict[int, CellState] = {}
        for group, cells in by_module(channels):
            command = f"STAT:CELL:REP? {cells}"
            values = self.numbers(command, len(group))
            try:
                found.update(zip(group, map(CellState, map(int, values)), strict=True))
            except ValueError:
                raise self.link.unexpected(command, str(values)) from None
        return found

    def step_times(self, channels: Sequence[int]) -> dict[int, tuple[int, float]]:
        """Return step number, from 1, and seconds elapsed in it."""
        found: dict[int, tuple[int, float]] = {}
        for group, cells in by_module(channels):
            values = self.numbers(f"CELL:STEP:TIME? {cells}", 2 * len(group))
            for i, channel in enumerate(group):
                found[channel] = (int(values[2 * i]), values[2 * i + 1])
        return found

    def clear_log(self) -> None:
        """Forget the samples that wait in the frame."""
        self.link.write("DATA:LOG:CLEar")

    def drain_log(self, channels: Sequence[int]) -> LogBlock:
        """Return all samples since the last time, for some channels in their order.

        Raises
        ------
        EnvironmentFailedError
            If a block is not whole records, or a place of it belongs to another cell.
        """
        waiting = int(self.numbers("DATA:LOG:REC:AVAIL?", 1)[0])
        blocks = []
        while waiting > 0:
            data = self.link.query_block("DATA:LOG?")
            (count,) = struct.unpack_from("<i", data)
            if count <= 0 or len(data) != 4 + count * RECORD.itemsize:
                raise self.link.unexpected("DATA:LOG?", f"{count} records in {len(data)} bytes")
            blocks.append(np.frombuffer(data, RECORD, offset=4))
            waiting -= count
        records = np.concatenate(blocks) if blocks else np.zeros(0, RECORD)
        places = [index_of(channel) for channel in channels]
        found = records["cell"][:, places]
        if np.any((found != [cell_of(channel) for channel in channels]) & (found != 0)):
            raise self.link.unexpected("DATA:LOG?", "samples of other cells")
        amps = records["current"][:, places].astype(float)
        volts = records["sense"][:, places].astype(float)
        dead = ~((np.abs(amps) < OVERLOAD) & (np.abs(volts) < OVERLOAD)).all(axis=0)
        if dead.any():
            names = ", ".join(str(channels[int(i)]) for i in np.flatnonzero(dead))
            raise self.link.unexpected("DATA:LOG?", f"no figures for channels {names}")
        return LogBlock(
            time_ms=records["time_ms"].astype(np.int64),
            current_A=amps,
            voltage_V=volts,
            state=records["state"][:, places],
        )

    def measure(self, channels: Sequence[int]) -> dict[int, tuple[float, float]]:
        """Return voltage in V and current in A now."""
        found: dict[int, tuple[float, float]] = {}
        for group, cells in by_module(channels):
            volts = self.numbers(f"MEAS:CELL:VOLT? {cells}", len(group))
            amps = self.numbers(f"MEAS:CELL:CURR? {cells}", len(group))
            found.update(zip(group, zip(volts, amps, strict=True), strict=True))
        return found

    def moved_Ah(self, channels: Sequence[int]) -> dict[int, float]:
        """Return the net charge that each channel's last sequence has moved, in Ah."""
        found: dict[int, float] = {}
        for group, cells in by_module(channels):
            values = self.numbers(f"MEAS:CELL:CAP:AHR? {cells}", len(group))
            found.update(zip(group, values, strict=True))
        return found

    def verbose(self, channel: int) -> CellReport:
        """Return all that the frame says of one channel.

        Raises
        ------
        EnvironmentFailedError
            If the reply is not the ten fields it should be.
        """
        command = f"STAT:CELL:VERB? {cell_of(channel)}"
        reply = self.link.query(command)
        fields = reply.split(",")
        try:
            activity, slot, step, volts, amps, outcome, test, kind, expected, measured = fields
            report = CellReport(
                activity == "RUNNING", int(slot), int(step), float(volts), float(amps), outcome,
                int(test), kind, float(expected), float(measured),
            )  # fmt: skip
        except ValueError:
            raise self.link.unexpected(command, reply) from None
        if activity not in ("IDLE", "RUNNING") or outcome not in OUTCOMES:
            raise self.link.unexpected(command, reply)
        return report

    def failure(self, channel: int) -> str:
        """Say which test stopped a channel."""
        report = self.verbose(channel)
        if report.test == 0:
            return f"{report.outcome} in step {report.step} without a test"
        return (
            f"{report.test_kind} {report.expected:g} in step {report.step}: "
            f"measured {report.measured:g}"
        )

    def probe_failed(self, channels: Sequence[int]) -> set[int]:
        """Return channels whose contacts are bad, whose cell is reversed or missing."""
        failed: set[int] = set()
        for group, cells in by_module(channels):
            values = self.numbers(f"STAT:CELL:PROBe? {cells}", len(group))
            failed |= {c for c, value in zip(group, values, strict=True) if value != 0}
        return failed

    def abort(self, channels: Sequence[int]) -> None:
        """End the sequences of channels: high impedance."""
        for _, cells in by_module(channels):
            self.link.write(f"CELL:ABORT {cells}")

    def make_safe(self, channels: Sequence[int]) -> None:
        """Abort, and confirm by reading states and currents back.

        Where the frame refuses to abort the named cells, it is told to abort all it has.

        Raises
        ------
        SafetyStopError
            If a channel still runs or carries current; all were tried.
        """
        left = list(channels)
        problems: list[str] = []
        for attempt in range(SAFE_TRIES):
            unsafe: list[int] = []
            problems = []
            for group, cells in by_module(left):
                try:
                    found = self._abort_and_look(group, cells, is_last=attempt == SAFE_TRIES - 1)
                    problems += [f"channel {channel}" for channel in found]
                except EnvironmentFailedError as error:
                    found = group
                    problems.append(f"channels {cells}: {error.message}")
                unsafe += found
            if not unsafe:
                return
            left = unsafe
            self.link.clock.sleep(PAUSE_s * (attempt + 1))
        raise SafetyStopError(
            f"{self.link.name}: not confirmed safe: {', '.join(problems)}",
            hint="disconnect these channels by hand now",
        )

    def _abort_and_look(self, group: list[int], cells: str, *, is_last: bool) -> list[int]:
        """Abort a module's cells and return the channels that still run or carry current."""
        self.errors()
        self.link.write(f"CELL:ABORT {cells}")
        if self.errors():
            return self._abort_all(group)
        self.link.clock.sleep(PAUSE_s)
        states = self.states(group)
        measured = self.measure(group)
        found = [
            channel
            for channel in group
            if states[channel] is CellState.RUNNING or abs(measured[channel][1]) > SAFE_CURRENT_A
        ]
        if not found or not is_last:
            return found
        live = self._abort_all(found)
        states = self.states(found)
        return [c for c in found if c in live or states[c] is CellState.RUNNING]

    def _abort_all(self, group: list[int]) -> list[int]:
        """Stop all sequences of the frame; return the channels that carry current after that.

        What is no cell cannot run, and what runs is aborted: current alone decides.
        """
        self.link.write("SEQ:ABORT")
        self.check("the abort of all sequences")
        self.link.clock.sleep(PAUSE_s)
        amps = self.numbers("MEAS:CURR? 0000", CHANNELS)
        return [channel for channel in group if abs(amps[index_of(channel)]) > SAFE_CURRENT_A]


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise OutOfRangeError(
            f"{name} = {value} is outside {low:g} to {high:g}", hint="nothing was sent"
        )
