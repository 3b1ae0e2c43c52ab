"""Keysight BT2200 family: 8 modules of 32 channels, sequences on board.

Commands as used on the wire with BT2202A and BT2203A frames. A channel such as 125 is channel
25 of module 1, and its cell is 1025. There is no host watchdog: the bounded sequence is the
safety net. Requests for many cells are split by module, since long replies overran buffers.
"""

import struct
from collections.abc import Iterator, Sequence

import numpy as np

from batterylab.drivers.roles import CellState, LogBlock, OnboardStep
from batterylab.drivers.scpi import ScpiDriver, channel_list
from batterylab.errors import BatterylabError, EnvironmentFailedError, SafetyStopError

CHANNELS = 256
RECORD = np.dtype(
    [("time_ms", "<u8"), ("current", "<f4", CHANNELS), ("sense", "<f4", CHANNELS),
     ("local", "<f4", CHANNELS), ("dcir1", "<f4", CHANNELS), ("dcir2", "<f4", CHANNELS),
     ("cell", "<u2", CHANNELS), ("state", "<i2", CHANNELS)]
)  # fmt: skip
PROBE_LIMIT_ohm = 2.0
SAFE_CURRENT_A = 0.02
PAUSE_s = 0.1


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

    def prepare(self, channels: Sequence[int]) -> None:
        """Define one cell a channel and clear sequences and log.

        Raises
        ------
        EnvironmentFailedError
            If the frame refuses.
        """
        self.errors()
        self.link.write("CELL:CLEAR 0")
        self.link.write("SEQ:CLEAR 0")
        self.link.clock.sleep(PAUSE_s)
        self.link.write(f"SYST:PROB:LIM {PROBE_LIMIT_ohm:g},0")
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
        """
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

    def start(self, channels: Sequence[int], slot: int) -> None:
        """Assign a sequence to channels and start them.

        Raises
        ------
        EnvironmentFailedError
            If the frame refuses.
        """
        for _, cells in by_module(channels):
            self.link.write(f"CELL:ENABLE {cells},{slot}")
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

    def drain_log(self, channels: Sequence[int]) -> LogBlock:
        """Return all samples since the last time, for some channels in their order.

        Raises
        ------
        EnvironmentFailedError
            If a block is not whole records.
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
        return LogBlock(
            time_ms=records["time_ms"].astype(np.int64),
            current_A=records["current"][:, places].astype(float),
            voltage_V=records["sense"][:, places].astype(float),
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

    def failure(self, channel: int) -> str:
        """Say which test stopped a channel."""
        command = f"STAT:CELL:VERB? {cell_of(channel)}"
        reply = self.link.query(command)
        fields = reply.split(",")
        if len(fields) != 10:
            raise self.link.unexpected(command, reply)
        if fields[6] == "0":
            return f"{fields[5]} in step {fields[2]} without a test"
        return f"{fields[7]} {float(fields[8]):g} in step {fields[2]}: measured {fields[9]}"

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

        Raises
        ------
        SafetyStopError
            If a channel still runs or carries current; all were tried.
        """
        problems: list[str] = []
        for attempt in range(3):
            problems = []
            try:
                self.abort(channels)
                self.link.clock.sleep(PAUSE_s)
                running = [c for c, s in self.states(channels).items() if s is CellState.RUNNING]
                live = [c for c, (_, a) in self.measure(channels).items() if abs(a) > SAFE_CURRENT_A]
                problems = [f"channel {c}" for c in sorted({*running, *live})]
            except EnvironmentFailedError as error:
                problems = [str(error)]
            if not problems:
                return
            self.link.clock.sleep(PAUSE_s * (attempt + 1))
        raise SafetyStopError(
            f"{self.link.name}: not confirmed safe: {', '.join(problems)}",
            hint="disconnect these channels by hand now",
        )
