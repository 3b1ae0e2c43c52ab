"""A simulated Keysight BT2200 frame: 8 modules of 32 channels, on-board sequences.

Written from the family's command reference. Channel 125 is channel 25 of module 1; the cell on
it is 1025. What the reference marks as never seen on the wire is answered with -113, but for
``STATus:CELL:PROBe?``, which stands among its readings.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from batterylab.simulated import bank as b
from batterylab.simulated.scpi import (
    ScpiError,
    ScpiInstrument,
    channel_list,
    illegal_parameter,
    number,
    out_of_range,
    whole,
)

if TYPE_CHECKING:
    from batterylab.simulated.world import World

LOG_SECONDS = 600
RECORDS_A_REPLY = 10
RESET_S = 5.0
STATE_WORDS = ("NONE", "NONE", "FAIL", "ABORTED", "OK")
#: the frame writes rubbish above 1000 where it measured no resistance
NO_DCIR = 9.91e37
#: one second of the log, little endian: 6,152 bytes
RECORD = np.dtype([
    ("time_ms", "<u8"), ("current", "<f4", b.CHANNELS), ("sense", "<f4", b.CHANNELS),
    ("local", "<f4", b.CHANNELS), ("dcir1", "<f4", b.CHANNELS), ("dcir2", "<f4", b.CHANNELS),
    ("cell", "<u2", b.CHANNELS), ("state", "<i2", b.CHANNELS),
])  # fmt: skip


class Bt2200(ScpiInstrument):
    """The frame's command table. Append `keep` to the world's listeners, or the log stays empty.

    Parameters
    ----------
    world : World
        What stands behind the instrument.
    serial : str
        Told in the identity.
    """

    def __init__(self, world: "World", serial: str = "MY58000516") -> None:
        super().__init__(
            f"Keysight Technologies,BT2203A,{serial},1.2.1", queue_length=20, signed_zero=True
        )
        self.world = world
        self.bank = world.bank
        self.defined: dict[int, int] = {}
        self.assigned: dict[int, int] = {}
        self.probe_limit_ohm = 0.5
        self.busy_until_s = 0.0
        #: channels whose relay sticks, and those of them that were aborted
        self.stuck: set[int] = set()
        self._held: set[int] = set()
        self.log = np.zeros(0, RECORD)
        self.cell_ids = np.zeros(b.CHANNELS, np.uint16)
        self._commands()

    def _commands(self) -> None:
        self.add("*RST", self._reset)
        self.add("SYSTem:PROBe:LIMit", self._probe_limit)
        self.add("SYSTem:CARD:DETect:BOOT?", self._cards)
        self.add("SYSTem:CARD:DETect:NOW?", self._cards)
        self.add("CELL:DEFine", self._define)
        self.add("CELL:DEFine:QUICk", self._define_quick)
        self.add("CELL:CLEar", self._clear_cells)
        self.add("CELL:ENABle", self._enable)
        self.add("CELL:INITiate", self._initiate)
        self.add("CELL:ABORt", self._abort)
        self.add("CELL:STEP:TIME?", self._step_time)
        self.add("CELL:TIME?", self._cell_time)
        self.add("CELL:FSET", self._switch)
        self.add("CELL:TRANsition", self._transition)
        self.add("SEQuence:CATalog?", self._catalogue)
        self.add("SEQuence:CLEar", self._clear_sequence)
        self.add("SEQuence:ABORt", self._abort_all)
        self.add("SEQuence:STEP:DEFine", self._step_define)
        self.add("SEQuence:STEP:DEFine?", self._step_query)
        self.add("SEQuence:TEST:DEFine", self._test_define)
        self.add("MEASure:VOLTage?", lambda which: self._all(b.VOLTAGE, which))
        self.add("MEASure:CURRent?", lambda which: self._all(b.CURRENT, which))
        self.add("MEASure:CELL:VOLTage?", lambda cells: self._per_cell(cells, b.VOLTAGE))
        self.add("MEASure:CELL:CURRent?", lambda cells: self._per_cell(cells, b.CURRENT))
        self.add("MEASure:CELL:CAPacity:AHR?", lambda cells: self._per_cell(cells, b.AMP_HOURS))
        self.add("MEASure:CELL:CAPacity:WHR?", lambda cells: self._per_cell(cells, b.WATT_HOURS))
        self.add("STATus:CELL:REPort?", self._report)
        self.add("STATus:CELL:VERBose?", self._verbose)
        self.add("STATus:CELL:PROBe?", self._probe)
        self.add("DATA:LOG:RECords:AVAILable?", lambda: str(len(self.log)))
        self.add("DATA:LOG?", self._data_log)
        self.add("DATA:LOG:CLEar", self._clear_log)

    def power_cycle(self) -> None:
        """Switch it off and on: what runs is aborted, definitions and log are gone."""
        self._reset()
        self._clear_log()
        self.errors.clear()
        self.busy_until_s = self.world.now_s

    def stick_relay(self, channel: int = 101) -> None:
        """Weld a channel's relay: an abort is reported, and current flows on."""
        self.stuck.add(self._channel(channel))

    def swap_leads(self, channel: int = 101) -> None:
        """Put a channel's cell back the wrong way round."""
        self.bank.run[self._channel(channel), b.POLARITY] *= -1.0

    def answer(self, text: str) -> list[str | bytes]:
        """Carry out one line; while the frame resets, nothing is answered."""
        if self.world.now_s < self.busy_until_s:
            return []
        return super().answer(text)

    # -- frame ---------------------------------------------------------------------------
    def _reset(self) -> None:
        self._abort_all()
        self.bank.steps[:] = -1.0
        self.bank.test_counts[:] = 0
        self.defined.clear()
        self.assigned.clear()
        self.cell_ids[:] = 0
        self.probe_limit_ohm = 0.5
        self.busy_until_s = self.world.now_s + RESET_S

    def _probe_limit(self, ohm: str, channels: str) -> None:
        if channels != "0":
            raise illegal_parameter()
        self.probe_limit_ohm = number(ohm, 0.0, 10.0)

    def _cards(self, which: str) -> str:
        whole(which, 0, 8)
        return "1"

    # -- cells ---------------------------------------------------------------------------
    def _define(self, cell: str, channels: str) -> None:
        listed = [self._channel(n) for n in channel_list(channels)]
        cell_id = whole(cell, 1001, 8032)
        if len(listed) != 1:
            raise ScpiError(-221, "Settings conflict")
        if self._index(cell_id, defined=False) != listed[0]:
            raise ScpiError(-221, "Settings conflict")
        self._enter(cell_id, listed[0])

    def _define_quick(self, parallel: str) -> None:
        if whole(parallel, 1, 64) != 1:
            raise ScpiError(-221, "Settings conflict")
        for index in range(b.CHANNELS):
            self._enter(1000 * (index // 32 + 1) + index % 32 + 1, index)

    def _enter(self, cell_id: int, index: int) -> None:
        self.defined[cell_id] = index
        self.cell_ids[index] = cell_id

    def _clear_cells(self, which: str = "0") -> None:
        whole(which, 0, 0)
        if any(self.bank.run[i, b.STATUS] == b.RUNNING for i in self.defined.values()):
            raise ScpiError(-221, "Settings conflict")
        self.defined.clear()
        self.assigned.clear()
        self.cell_ids[:] = 0

    @staticmethod
    def _channel(channel: int) -> int:
        module, place = divmod(channel, 100)
        if not (1 <= module <= 8 and 1 <= place <= 32):
            raise out_of_range()
        return (module - 1) * 32 + place - 1

    def _index(self, cell_id: int, *, defined: bool = True) -> int:
        module, place = divmod(cell_id, 1000)
        if not (1 <= module <= 8 and 1 <= place <= 32):
            raise out_of_range()
        if defined and cell_id not in self.defined:
            raise ScpiError(-221, "Settings conflict")
        return (module - 1) * 32 + place - 1

    def _cells(self, text: str) -> list[int]:
        return [self._index(cell) for cell in channel_list(text)]

    def _enable(self, cells: str, sequence: str) -> None:
        slot = whole(sequence, 0, b.SLOTS)
        indices = self._cells(cells)
        if slot and self.bank.steps[slot - 1, 0, 0] < 0:
            raise ScpiError(-221, "Settings conflict")
        if any(self.bank.run[i, b.STATUS] == b.RUNNING for i in indices):
            raise ScpiError(-221, "Settings conflict")
        for index in indices:
            self.assigned[index] = slot

    def _initiate(self, cells: str) -> None:
        indices = self._cells(cells)
        for index in indices:
            slot = self.assigned.get(index, 0)
            if not slot or self.bank.steps[slot - 1, 0, 0] < 0:
                raise ScpiError(-221, "Settings conflict")
            if self.bank.run[index, b.STATUS] == b.RUNNING:
                raise ScpiError(-221, "Settings conflict")
        for index in indices:
            run = self.bank.run[index]
            for column in (b.AMP_HOURS, b.WATT_HOURS, b.STEP_AH, b.STEP_WH, b.ELAPSED,
                           b.SEQUENCE_S, b.FAILED_TEST):  # fmt: skip
                run[column] = 0.0
            run[b.SLOT], run[b.STEP] = self.assigned[index], 1.0
            run[b.STATUS] = b.FAIL if self._probe_fails(index) else b.RUNNING

    def _probe_fails(self, index: int) -> bool:
        run = self.bank.run[index]
        contact = run[b.SEAT] + self.world.lead_ohm
        return bool(run[b.INSERTED] <= 0 or run[b.POLARITY] < 0 or contact > self.probe_limit_ohm)

    def _abort(self, cells: str) -> None:
        indices = list(self.defined.values()) if cells == "0" else self._cells(cells)
        for index in indices:
            if index in self.stuck:
                self._held.add(index)
            elif self.bank.run[index, b.STATUS] == b.RUNNING:
                self.bank.run[index, b.STATUS] = b.ABORTED
                self.bank.run[index, b.CURRENT] = 0.0

    def _abort_all(self) -> None:
        running = self.bank.run[:, b.STATUS] == b.RUNNING
        self._held |= {index for index in self.stuck if running[index]}
        running[list(self._held)] = False
        self.bank.run[running, b.STATUS] = b.ABORTED
        self.bank.run[running, b.CURRENT] = 0.0

    def _status(self, index: int) -> int:
        """Return what the frame believes of a channel."""
        return b.ABORTED if index in self._held else int(self.bank.run[index, b.STATUS])

    def _switch(self, state: str) -> None:
        if state.upper() not in ("ON", "OFF", "0", "1"):
            raise illegal_parameter()

    def _transition(self, state: str) -> None:
        if state.upper() not in ("IMM", "IMMEDIATE", "REST"):
            raise illegal_parameter()

    def _step_time(self, cells: str) -> str:
        rows = self.bank.run[self._cells(cells)]
        return ",".join(f"{row[b.STEP]:.0f},{row[b.ELAPSED]:.1f}" for row in rows)

    def _cell_time(self, cells: str) -> str:
        rows = self.bank.run[self._cells(cells)]
        return ",".join(f"{row[b.SEQUENCE_S]:.1f}" for row in rows)

    # -- sequences -----------------------------------------------------------------------
    def _catalogue(self) -> str:
        valid = [str(s + 1) for s in range(b.SLOTS) if self.bank.steps[s, 0, 0] >= 0]
        return ",".join(valid) or "0"

    def _clear_sequence(self, which: str) -> None:
        slot = whole(which, 0, b.SLOTS)
        chosen = range(b.SLOTS) if slot == 0 else [slot - 1]
        for index in chosen:
            self._is_free(index)
        for index in chosen:
            self.bank.steps[index] = -1.0
            self.bank.test_counts[index] = 0

    def _is_free(self, slot: int) -> None:
        """Refuse to touch a sequence that a cell is running."""
        running = self.bank.run[:, b.STATUS] == b.RUNNING
        if np.any(self.bank.run[running, b.SLOT] == slot + 1):
            raise ScpiError(-221, "Settings conflict")

    def _step_define(
        self, sequence: str, step: str, mode: str, seconds: str,
        current: str = "", voltage: str = "",
    ) -> None:  # fmt: skip
        slot, at = whole(sequence, 1, b.SLOTS) - 1, whole(step, 1, b.STEPS) - 1
        mode = mode.upper()
        if mode not in b.MODE_NUMBERS:
            raise illegal_parameter()
        self._is_free(slot)
        duration = whole(seconds, 1, 2147483647)
        amps = volts = 0.0
        if mode != "REST":
            if not current or not voltage:
                raise ScpiError(-109, "Missing parameter")
            low, high, most = (1.0, 2.0, 1.0) if mode == "PRECHARGE" else (2.0, 4.5, 6.25)
            amps, volts = number(current, 0.01, most), number(voltage, low, high)
            if mode == "PRECHARGE" and duration > 900:
                raise out_of_range()
        self.bank.steps[slot, at] = (b.MODE_NUMBERS[mode], duration, amps, volts)
        self.bank.test_counts[slot, at] = 0

    def _step_query(self, sequence: str, step: str) -> str:
        slot, at = whole(sequence, 1, b.SLOTS) - 1, whole(step, 1, b.STEPS) - 1
        mode, duration, amps, volts = self.bank.steps[slot, at]
        if mode < 0:
            raise out_of_range()
        word = next(word for word, value in b.MODE_NUMBERS.items() if value == mode)
        return f"{word},{duration:.0f},{amps:.6g},{volts:.6g}"

    def _test_define(
        self, sequence: str, step: str, test: str, kind: str, value: str, when: str,
        seconds: str, action: str,
    ) -> None:  # fmt: skip
        slot, at = whole(sequence, 1, b.SLOTS) - 1, whole(step, 1, b.STEPS) - 1
        index = whole(test, 1, b.TESTS) - 1
        self._is_free(slot)
        if self.bank.steps[slot, at, 0] < 0 or index > self.bank.test_counts[slot, at]:
            raise ScpiError(-221, "Settings conflict")
        if kind.upper() not in b.TEST_KINDS or when.upper() not in b.WHENS:
            raise illegal_parameter()
        if action.upper() not in ("FAIL", "NEXT"):
            raise illegal_parameter()
        self.bank.tests[slot, at, index] = (
            b.TEST_KINDS.index(kind.upper()), number(value, -1e6, 1e6),
            b.WHENS.index(when.upper()), number(seconds, 0, 2147483647),
            1.0 if action.upper() == "NEXT" else 0.0,
        )  # fmt: skip
        self.bank.test_counts[slot, at] = max(self.bank.test_counts[slot, at], index + 1)

    # -- readings ------------------------------------------------------------------------
    def _all(self, column: int, which: str) -> str:
        if which.strip("0"):
            raise out_of_range()
        return ",".join(f"{value:.6f}" for value in self.bank.run[:, column])

    def _per_cell(self, cells: str, column: int) -> str:
        return ",".join(f"{v:.6f}" for v in self.bank.run[self._cells(cells), column])

    def _report(self, cells: str) -> str:
        return ",".join(str(self._status(index)) for index in self._cells(cells))

    def _verbose(self, cell: str) -> str:
        index = self._index(whole(cell, 1001, 8032))
        run = self.bank.run[index]
        status = self._status(index)
        running = status == b.RUNNING
        test = int(run[b.FAILED_TEST])
        kind = b.TEST_KINDS[int(run[b.FAILED_KIND])] if test else "NONE"
        return ",".join([
            "RUNNING" if running else "IDLE", f"{run[b.SLOT]:.0f}", f"{run[b.STEP]:.0f}",
            f"{run[b.VOLTAGE]:.6f}", f"{run[b.CURRENT]:.6f}",
            STATE_WORDS[status], str(test), kind,
            f"{run[b.EXPECTED] if test else 0:.6f}", f"{run[b.MEASURED] if test else 0:.6f}",
        ])  # fmt: skip

    def _probe(self, cells: str) -> str:
        return ",".join("1" if self._probe_fails(i) else "0" for i in self._cells(cells))

    # -- log -----------------------------------------------------------------------------
    def keep(
        self, first_ms: int, amps: NDArray[np.float32], volts: NDArray[np.float32],
        states: NDArray[np.int16],
    ) -> None:  # fmt: skip
        """Put the seconds that passed into the log; the oldest fall out of a full one."""
        records = np.zeros(len(amps), RECORD)
        records["time_ms"] = first_ms + 1000 * np.arange(len(amps))
        records["current"], records["state"] = amps, states
        records["sense"] = records["local"] = volts
        records["cell"] = self.cell_ids
        records["dcir1"] = records["dcir2"] = NO_DCIR
        self.log = np.concatenate([self.log, records])[-LOG_SECONDS:]

    def _clear_log(self) -> None:
        self.log = np.zeros(0, RECORD)

    def _data_log(self) -> bytes:
        records, self.log = self.log[:RECORDS_A_REPLY], self.log[RECORDS_A_REPLY:]
        count = len(records)
        body = count.to_bytes(4, "little") + records.tobytes()
        length = str(len(body)).encode()
        return b"#" + str(len(length)).encode() + length + body
