"""Single steps of a protocol file in plain numbers, held against the cell's data sheet."""

import math
from typing import TYPE_CHECKING, TypedDict

from batterylab.protocol.form import Air, End, Node, Read, Repeat, Step
from batterylab.protocol.profiles import points_of
from batterylab.protocol.steps import Drive, Ending, Hold, Profile, Pulse, Reading, Rest, Soak, Stop
from batterylab.protocol.words import QUANTITIES, Amount, Stream

if TYPE_CHECKING:
    from batterylab.protocol.resolve import Resolver

Keys = tuple[str | int, ...]
#: a measured capacity may be this much above the nominal one before a rate of it is too large
MOST_SHARE = 1.2
#: an open-circuit voltage is read at the end of so many seconds without current
OCV_s = 2
#: what does not change while no current flows
MOVED = ("current_A", "power_W", "capacity_Ah", "energy_Wh", "soc_percent")


class _Recording(TypedDict):
    sample_every_s: float | None
    voltage_moves_V: float | None
    current_moves_A: float | None


class _Relative(TypedDict, total=False):
    rate_C: float
    rate_of: str


def _record(entry: Drive | Hold | Rest | Profile) -> _Recording:
    record = entry.record
    moves = record.or_when if record else None
    return {
        "sample_every_s": record.every_s if record else entry.sample_every_s,
        "voltage_moves_V": moves.voltage_moves_V if moves else None,
        "current_moves_A": moves.current_moves_A if moves else None,
    }


class StepNumbers:
    """Makes steps for one protocol and one cell type.

    Parameters
    ----------
    owner : Resolver
        Takes the problems, knows the document and the cell type.

    Attributes
    ----------
    volts, degrees : (float, float)
        Limits of voltage in V and temperature in °C that hold everywhere.
    stops : tuple of End
        Further stops that hold in every step.
    """

    def __init__(self, owner: "Resolver") -> None:
        self.owner = owner
        self.cell = owner.cell_type
        self.volts = (-math.inf, math.inf)
        self.degrees = (-math.inf, math.inf)
        self.stops: tuple[End, ...] = ()

    # -- amounts -----------------------------------------------------------------------------
    def capacity(self, of: str) -> float:
        """Return a capacity in Ah; where it is yet to be measured, the nominal one."""
        return self.cell.rated_capacity_Ah if of == "rated" else self.cell.nominal_capacity_Ah

    def amps(self, stream: Stream) -> float:
        """Return a current in A, as expected where it depends on a measure."""
        return stream.value * self.capacity(stream.of) if stream.of else stream.value

    def amount(self, word: str, amount: Amount) -> tuple[float, str]:
        """Return a number and the measure that it is a share of, if any."""
        if word in ("current", "capacity") and amount.of in ("rated", "nominal"):
            return amount.value * self.capacity(amount.of), ""
        return amount.value, amount.of

    def end(self, entry: Ending, keys: Keys) -> End:
        """Return one of the ends that a step names."""
        word, bound = entry.word, entry.bound
        value, of = self.amount(word, bound.amount)
        over_s = entry.over_s if word in ("dV/dt", "dT/dt") else 0.0
        self._reachable(word, bound.relation, value, of, keys)
        return End(QUANTITIES[word], bound.relation, value, of, entry.hold_s, over_s, entry.then)

    def _reachable(self, word: str, relation: str, value: float, of: str, keys: Keys) -> None:
        """An end that lies beyond what stops the channel would never come."""
        if word not in ("voltage", "temperature") or of:
            return
        low, high = (self.cell.voltage_min_V, self.cell.voltage_max_V)
        if word == "temperature":
            low, high = self.degrees
        unit = "V" if word == "voltage" else "degC"
        if (relation == "above" and value > high) or (relation == "below" and value < low):
            self.owner.problem(keys, f"{word} {relation} {value:g} {unit} is outside the limits",
                               f"{low:g} to {high:g} {unit}")  # fmt: skip

    def stop(self, entry: Stop, keys: Keys, *, is_own: bool = False) -> End:
        """Return a stop; one of a step can only tighten what holds everywhere."""
        value, of = self.amount(entry.when, entry.amount)
        relation = "above" if entry.above is not None else "below"
        if entry.when in ("voltage", "temperature"):
            low, high = self.volts if entry.when == "voltage" else self.degrees
            if (is_own or entry.then == "fail") and not low <= value <= high:
                unit = "V" if entry.when == "voltage" else "degC"
                self.owner.problem(keys, f"{value:g} {unit} would widen the limits that hold",
                                   f"within {low:g} to {high:g} {unit}")  # fmt: skip
        over_s = entry.over_s if entry.when in ("dV/dt", "dT/dt") else 0.0
        return End(QUANTITIES[entry.when], relation, value, of, entry.hold_s, over_s, entry.then)

    def _stops(self, entries: list[Stop], keys: Keys) -> tuple[End, ...]:
        own = tuple(self.stop(e, (*keys, "stop", i), is_own=True) for i, e in enumerate(entries))
        return (*self.stops, *own)

    def _idle_stops(self, entries: list[Stop], keys: Keys) -> tuple[End, ...]:
        """Return the stops that make sense while no current flows."""
        return tuple(end for end in self._stops(entries, keys) if end.quantity not in MOVED)

    def _ends(self, entries: list[Ending], keys: Keys) -> tuple[tuple[End, ...], float, str]:
        """Return further ends, and the time with what comes then if one of them is a time."""
        ends, time_s, on_time = [], math.inf, "fail"
        for i, entry in enumerate(entries):
            end = self.end(entry, (*keys, "ends", i))
            if end.quantity == "time_s" and not end.of:
                time_s, on_time = end.value, end.then
            else:
                ends.append(end)
        return tuple(ends), time_s, on_time

    def _time(self, entry: Drive | Hold, keys: Keys) -> tuple[int, str, tuple[End, ...]]:
        """Return length or bound, what comes then, and the further ends."""
        ends, time_s, on_time = self._ends(entry.ends, keys)
        if entry.for_s is not None:
            time_s, on_time = entry.for_s, "next"
        elif entry.at_most_s is not None:
            time_s, on_time = entry.at_most_s, "fail"
        return max(1, round(time_s)), on_time, ends

    # -- steps -------------------------------------------------------------------------------
    def rest(self, entry: Rest, path: str, keys: Keys) -> Step:
        """Return a rest."""
        ends, time_s, on_time = self._ends(entry.ends, keys)
        seconds = entry.for_s
        if time_s <= seconds:
            seconds = time_s
        else:
            on_time = "next"
        self._no_current_ends(ends, keys)
        return Step(path, "rest", 0.0, math.nan, max(1, round(seconds)), ends, on_time, "rest",
                    stops=self._idle_stops(entry.stop, keys), **_record(entry))  # fmt: skip

    def _no_current_ends(self, ends: tuple[End, ...], keys: Keys) -> None:
        for end in ends:
            if end.quantity in MOVED:
                self.owner.problem((*keys, "ends"), f"{end.quantity} does not change at rest",
                                   "voltage, temperature, dV/dt or dT/dt")  # fmt: skip

    def soak(self, entry: Soak, path: str, keys: Keys) -> Step:
        """Return a change of the chamber's temperature."""
        self.owner.check_air(entry.temperature_degC, (*keys, "temperature"))
        ends, _, _ = self._ends(entry.ends, keys)
        self._no_current_ends(ends, keys)
        air = Air(entry.temperature_degC, entry.within_K, entry.at_most_s)
        return Step(path, "soak", 0.0, math.nan, max(1, round(entry.for_s)), ends, "next", "rest",
                    stops=self._idle_stops(entry.stop, keys), sample_every_s=entry.sample_every_s,
                    air=air)  # fmt: skip

    def reading(self, entry: Reading, path: str) -> Step:
        """Return a measurement without current."""
        frequencies: tuple[float, ...] = ()
        if entry.what == "ac_resistance":
            frequencies = (entry.at_Hz or 1000.0,)
        elif entry.from_Hz and entry.to_Hz:
            decades = abs(math.log10(entry.from_Hz / entry.to_Hz))
            count = max(2, round(decades * entry.points_per_decade) + 1)
            ratio = (entry.to_Hz / entry.from_Hz) ** (1 / (count - 1))
            inner = (entry.from_Hz * ratio**k for k in range(1, count - 1))
            frequencies = (entry.from_Hz, *inner, entry.to_Hz)
        seconds = OCV_s if entry.what == "ocv" else max(1, round(entry.at_most_s))
        return Step(path, "measure", 0.0, math.nan, seconds, (), "next",
                    "rest", stops=self._idle_stops([], ()), measure=entry.as_,
                    read=Read(entry.what, frequencies))  # fmt: skip

    def drive(self, entry: Drive, word: str, measure: str, path: str, keys: Keys) -> Step:
        """Return a charge or a discharge."""
        sign = 1 if word == "charge" else -1
        volts = self._volts(entry.until, sign, (*keys, "until"))
        mode, level, amps = self._level(entry, sign, volts, keys)
        seconds, on_time, more = self._time(entry, keys)
        ends: list[End] = []
        if entry.hold_until is not None:
            ends.append(self._hold_end(entry.hold_until, amps, (*keys, "hold_until")))
        else:
            ends.append(End("voltage_V", "above" if sign > 0 else "below", volts))
        if entry.to_soc_percent is not None:
            ends.append(End("soc_percent", "above" if sign > 0 else "below", entry.to_soc_percent))
        is_pulse = entry.for_s is not None and mode == "current"
        return Step(
            path, "pulse" if is_pulse else word, sign * amps, volts, seconds, (*ends, *more),
            on_time, mode, level, **self._relative(entry.rate), measure=measure,
            stops=self._stops(entry.stop, keys), **_record(entry),
        )  # fmt: skip

    def _relative(self, stream: Stream | None) -> _Relative:
        if stream is None or stream.of in ("", "rated", "nominal"):
            return {}
        return {"rate_C": stream.value, "rate_of": stream.of}

    def _most(self, sign: int) -> float:
        return self.cell.max_charge_A if sign > 0 else self.cell.max_discharge_A

    def _level(self, entry: Drive, sign: int, volts: float, keys: Keys) -> tuple[str, float, float]:
        """Return what is held constant, its value, and the current that is not exceeded."""
        most = self._most(sign)
        if entry.rate is not None:
            return "current", math.nan, self._current(entry.rate, sign, (*keys, "rate"))
        if entry.power_W is not None:
            lowest_V = self.cell.voltage_min_V if sign > 0 else volts
            amps = entry.power_W / (self.cell.voltage_max_V if sign > 0 else lowest_V)
            if amps > most * (1 + 1e-9):
                bound = most * (self.cell.voltage_max_V if sign > 0 else lowest_V)
                self.owner.problem((*keys, "power"), f"{entry.power_W:g} W is more than the cell "
                                   f"allows: {amps:.4g} A", f"at most {bound:.4g} W")  # fmt: skip
            return "power", entry.power_W, min(entry.power_W / lowest_V, most)
        ohms = entry.resistance_ohm or math.nan
        amps = self.cell.voltage_max_V / ohms
        if sign > 0:
            self.owner.problem((*keys, "resistance"), "a resistance does not charge",
                               "rate, current or power")  # fmt: skip
        elif amps > most * (1 + 1e-9):
            self.owner.problem((*keys, "resistance"),
                               f"{ohms:g} Ohm takes {amps:.4g} A, more than the cell allows",
                               f"at least {self.cell.voltage_max_V / most:.4g} Ohm")  # fmt: skip
        return "resistance", ohms, amps

    def _current(self, stream: Stream, sign: int, keys: Keys) -> float:
        amps, most = self.amps(stream), self._most(sign)
        is_relative = stream.of not in ("", "rated", "nominal")
        worst = amps * MOST_SHARE if is_relative else amps
        if worst > most * (1 + 1e-9):
            self.owner.problem(keys, f"{worst:g} A is more than the cell allows",
                               f"at most {most:g} A")  # fmt: skip
        return amps

    def _hold_end(self, stream: Stream, amps: float, keys: Keys) -> End:
        hold = self.amps(stream)
        if hold >= amps:
            self.owner.problem(keys, f"{hold:g} A is not below the step's {amps:g} A", "C/20")
        value, of = self.amount("current", Amount(stream.value, stream.of))
        return End("current_A", "below", value, of)

    def hold(self, entry: Hold, measure: str, path: str, keys: Keys) -> Step:
        """Return a step at constant voltage."""
        sign = 1 if entry.by == "charge" else -1
        amps = self._current(entry.limit, sign, (*keys, "limit"))
        volts = self._volts(entry.voltage, sign, (*keys, "voltage"))
        seconds, on_time, more = self._time(entry, keys)
        ends: list[End] = []
        if entry.hold_until is not None:
            ends.append(self._hold_end(entry.hold_until, amps, (*keys, "hold_until")))
        return Step(
            path, "hold", sign * amps, volts, seconds, (*ends, *more), on_time, "voltage",
            **self._relative(entry.limit), measure=measure, stops=self._stops(entry.stop, keys),
            **_record(entry),
        )  # fmt: skip

    def pulses(self, entry: Pulse, measure: str, path: str, keys: Keys) -> tuple[Node, ...]:
        """Return a pulse, or a train of pulses with rests."""
        stream = entry.charge if entry.charge is not None else entry.discharge
        assert stream is not None  # noqa: S101  (the language gives one)
        sign = 1 if entry.charge is not None else -1
        word = "charge" if sign > 0 else "discharge"
        volts = self._volts(entry.until, sign, (*keys, "until"))
        ends, _, _ = self._ends(entry.ends, keys)
        stops = self._stops(entry.stop, keys)
        pulse = Step(
            path, "pulse", sign * self._current(stream, sign, (*keys, word)), volts,
            max(1, round(entry.for_s)),
            (End("voltage_V", "above" if sign > 0 else "below", volts), *ends),
            **self._relative(stream), stops=stops, measure=measure,
            sample_every_s=entry.sample_every_s,
        )  # fmt: skip
        if entry.rest_s is None:
            return (pulse,)
        rest = Step(path, "rest", 0.0, math.nan, max(1, round(entry.rest_s)), mode="rest",
                    stops=self._idle_stops(entry.stop, keys),
                    sample_every_s=entry.sample_every_s)  # fmt: skip
        return (pulse, rest) if entry.times == 1 else (Repeat(entry.times, (pulse, rest)),)

    def profile(self, entry: Profile, measure: str, path: str, keys: Keys) -> Step:
        """Return a current or power over time."""
        cell = self.cell
        points = points_of(entry, self.owner, keys)
        ends, _, _ = self._ends(entry.ends, keys)
        shares = {
            value: abs(value) / cell.voltage_min_V if points.quantity == "power_W" else abs(value)
            for value in points.value
        }
        for value, amps in shares.items():
            most = self._most(1 if value > 0 else -1)
            if amps > most * (1 + 1e-9):
                self.owner.problem(keys, f"the profile reaches {value:g} {points.quantity[-1]}, "
                                   f"that is {amps:.4g} A, more than the cell allows",
                                   f"at most {most:g} A; mind scale")  # fmt: skip
                break
        largest = max(shares, key=lambda value: shares[value])
        worst_A = math.copysign(shares[largest], largest)
        both = (End("voltage_V", "below", cell.voltage_min_V),
                End("voltage_V", "above", cell.voltage_max_V))  # fmt: skip
        volts = cell.voltage_max_V if worst_A > 0 else cell.voltage_min_V
        return Step(
            path, "profile", worst_A, volts, max(1, math.ceil(points.length_s)), (*both, *ends),
            mode="profile", stops=self._stops(entry.stop, keys), measure=measure, points=points,
            **_record(entry),
        )  # fmt: skip

    def _volts(self, until: str | float | None, sign: int, keys: Keys) -> float:
        cell = self.cell
        named = {"v_min": cell.voltage_min_V, "v_max": cell.voltage_max_V}
        if until is None:
            return cell.voltage_max_V if sign > 0 else cell.voltage_min_V
        volts = named[until] if isinstance(until, str) else until
        if not cell.voltage_min_V <= volts <= cell.voltage_max_V:
            self.owner.problem(keys, f"{volts:g} V is outside the cell's limits",
                               f"{cell.voltage_min_V:g} V to {cell.voltage_max_V:g} V")  # fmt: skip
        return volts
