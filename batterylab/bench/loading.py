"""Loading: bind a scanned serial to a channel, and check the cell before it carries current."""

from typing import Any, Protocol

from batterylab.bench.clock import BenchClock
from batterylab.bench.setup import Bench
from batterylab.drivers.catalogue import spec
from batterylab.drivers.roles import MeterReading
from batterylab.errors import BatterylabError, EnvironmentFailedError
from batterylab.study import Study

#: how far a reading may lie from the incoming record, and the cycler's from the meter's
OCV_WITHIN_V = 0.03
RESISTANCE_WITHIN_PERCENT = 15.0
SEATED_WITHIN_V = 0.02
FATES = ("stored", "returned", "scrapped", "moved", "next test")


class Hands(Protocol):
    """Who moves cells: a technician, or a script at a simulated bench."""

    def probe(self, serial: str) -> None:
        """Put the meter's pins on a cell."""

    def insert(self, serial: str, channel: str) -> None:
        """Put a cell into a channel."""

    def remove(self, serial: str, channel: str) -> None:
        """Take a cell out of a channel."""


class ScriptedHands:
    """The technician of a simulated bench.

    Parameters
    ----------
    clock : BenchClock
        Whose control port moves cells. Each move takes a minute of bench time.
    """

    MOVE_s = 60.0

    def __init__(self, clock: BenchClock) -> None:
        self.clock = clock

    def probe(self, serial: str) -> None:
        """Put the meter's pins on a cell."""
        self.clock.ask("probe", serial=serial)

    def insert(self, serial: str, channel: str) -> None:
        """Put a cell into a channel."""
        self.clock.ask("probe", serial=None)
        self.clock.ask("insert", serial=serial, channel=channel)
        self.clock.sleep_until(self.clock.now() + self.MOVE_s)

    def remove(self, serial: str, channel: str) -> None:
        """Take a cell out of a channel."""
        self.clock.ask("remove", channel=channel)
        self.clock.sleep_until(self.clock.now() + self.MOVE_s)


def check_reading(study: Study, serial: str, reading: MeterReading) -> None:
    """Hold a meter's reading against the cell type and the incoming record.

    Raises
    ------
    BatterylabError
        If the cell is reversed, out of its limits, or not the one of the record.
    KeyError
        If the study has no such cell; `check_free` refuses it before.
    """
    cell, kind = study.cells[serial], study.cell_type
    volts, mohm = reading.voltage_V, 1e3 * reading.resistance_ohm
    if not reading.is_valid:
        raise BatterylabError(f"{serial}: the meter reports no contact", hint="seat the pins again")
    if volts < 0:
        raise BatterylabError(
            f"{serial}: the voltage is {volts:.3f} V: the cell is reversed", hint="turn it round"
        )
    if not kind.voltage_min_V <= volts <= kind.voltage_max_V:
        raise BatterylabError(
            f"{serial}: {volts:.3f} V is outside the cell type's "
            f"{kind.voltage_min_V:g} to {kind.voltage_max_V:g} V",
            hint="do not load this cell",
        )
    ocv, acr = cell.incoming_ocv_V, cell.incoming_ac_resistance_mOhm
    if ocv is not None and abs(volts - ocv) > OCV_WITHIN_V:
        raise BatterylabError(
            f"{serial}: {volts:.4f} V, but the incoming record says {ocv:.4f} V",
            hint=f"at most {OCV_WITHIN_V * 1e3:g} mV apart: is it the right cell?",
        )
    if acr is not None and abs(mohm / acr - 1) * 100 > RESISTANCE_WITHIN_PERCENT:
        raise BatterylabError(
            f"{serial}: {mohm:.2f} mOhm, but the incoming record says {acr:.2f} mOhm",
            hint=f"at most {RESISTANCE_WITHIN_PERCENT:g} % apart: right cell, good contact?",
        )


def check_free(study: Study, serial: str, channel: str) -> None:
    """Refuse a cell that nobody knows, and a double.

    Raises
    ------
    BatterylabError
        If the cell is not in ``cells.csv`` or loaded already, or the channel is taken.
    """
    if serial not in study.cells:
        raise BatterylabError(f"unknown serial {serial!r}", hint="it is not in cells.csv")
    occupied = study.log.occupied()
    if channel in occupied:
        raise BatterylabError(
            f"channel {channel} holds {occupied[channel]}", hint="`batterylab unload` first"
        )
    where = next((c for c, s in occupied.items() if s == serial), None)
    if where is not None:
        raise BatterylabError(f"{serial} sits in channel {where}", hint="one cell, one channel")


class Loader:
    """Load and unload cells of a study at an open bench.

    Parameters
    ----------
    study : Study
        Whose log is written.
    bench : Bench
        Open, with its meter.
    hands : Hands
        Who moves the cells.
    operator : str
        Who is responsible.
    """

    def __init__(self, study: Study, bench: Bench, hands: Hands, operator: str) -> None:
        self.study = study
        self.bench = bench
        self.hands = hands
        self.operator = operator
        study.log.now = bench.clock.now
        self.meter_name = bench.file.meter() or ""
        self.meter = bench.drivers.get(self.meter_name)
        if self.meter is not None:
            self.meter.prepare()
        self._prepared: set[str] = set()

    def load(self, serial: str, channel: str, *, is_checked: bool = True) -> dict[str, Any]:
        """Check a cell, have it put into a channel, check it there, and enter it in the log.

        Parameters
        ----------
        is_checked : bool
            Whether to hold it against the incoming record; a cell that has been cycled since
            no longer has the voltage it came with.

        Returns
        -------
        dict
            What was entered.

        Raises
        ------
        BatterylabError
            If the cell or the channel is wrong; nothing is entered, and a cell that was put
            in already is taken out again.
        """
        check_free(self.study, serial, channel)
        place = self.bench.channel(channel)
        data: dict[str, Any] = {"serial": serial, "channel": place.name, "block": place.block}
        if self.meter is not None and is_checked:
            self.hands.probe(serial)
            reading = self.meter.read()
            check_reading(self.study, serial, reading)
            entry = self.bench.file.instruments[self.meter_name]
            data |= {
                "ocv_V": reading.voltage_V,
                "ac_resistance_mOhm": 1e3 * reading.resistance_ohm,
                "meter": {"model": entry.model, "serial": entry.serial,
                          "calibration_due": entry.calibration_due},
                "accuracy": spec(entry.model).accuracy,
            }  # fmt: skip
        self.hands.insert(serial, place.name)
        try:
            self._check_seat(place.name, data.get("ocv_V"))
        except BatterylabError:
            self.hands.remove(serial, place.name)
            raise
        self.study.log.append("load", self.operator, **data)
        return data

    def _check_seat(self, channel: str, ocv_V: float | None) -> None:
        """Let the cycler look at the cell before anything flows."""
        place = self.bench.channel(channel)
        driver = self.bench.drivers[place.cycler]
        if place.cycler not in self._prepared:
            mine = [c.cycler_channel for c in self.bench.file.channels.values()
                    if c.cycler == place.cycler]  # fmt: skip
            driver.prepare(mine)
            self._prepared.add(place.cycler)
        number = place.cycler_channel
        if driver.probe_failed([number]):
            raise EnvironmentFailedError(
                f"channel {channel}: no good contact, or the cell is reversed",
                hint="seat the cell again, the right way round",
            )
        volts, _ = driver.measure([number])[number]
        if ocv_V is not None and abs(volts - ocv_V) > SEATED_WITHIN_V:
            raise BatterylabError(
                f"channel {channel} reads {volts:.4f} V, the meter read {ocv_V:.4f} V",
                hint="is another cell in this channel?",
            )

    def unload(self, channel: str, fate: str = "stored") -> dict[str, Any]:
        """Have a cell taken out and enter what becomes of it.

        Raises
        ------
        BatterylabError
            If the channel is empty or the fate is not of the list.
        """
        occupied = self.study.log.occupied()
        if channel not in occupied:
            raise BatterylabError(f"channel {channel} is empty")
        if fate not in FATES:
            raise BatterylabError(f"unknown fate {fate!r}", hint=f"one of {', '.join(FATES)}")
        place = self.bench.channel(channel)
        self.bench.drivers[place.cycler].make_safe([place.cycler_channel])
        self.hands.remove(occupied[channel], channel)
        data = {"serial": occupied[channel], "channel": channel, "fate": fate}
        self.study.log.append("unload", self.operator, **data)
        return data
