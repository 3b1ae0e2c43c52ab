r"""Capacity, energy, energy efficiency and temperature rise.

Capacity after the repeat rule of GB 38031-2025, 7.1.2: discharges are repeated until three in
a row lie within 3 % of the rated capacity, and the capacity is the mean of these three. The
bench repeats until the rule is met, so on its recordings they are the last three discharges
measured as ``capacity``. An imported file may hold a whole cycle life: there the rule is applied
as it stands, and the first three in a row that meet it are taken. A file without measures is
searched for full discharges.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from batterylab.features.accuracy import NOT_STATED, noise, quadrature
from batterylab.features.feature import Feature
from batterylab.features.ledger import NEAR_V, Ledger, Stretch

REPEATS = 3
WITHIN = 0.03
#: ends that make a discharge no measurement of capacity
CUT_SHORT = ("stopped", "at_most", "duration", "capacity", "energy", "power", "temperature",
             "dV/dt", "dT/dt")  # fmt: skip
#: shares of a discharge between which its slope at the full end is read
TOP = (0.005, 0.015)
SAME_CURRENT = 0.1


@dataclass(frozen=True)
class Discharges:
    """The discharges that stand for a cell's capacity.

    Attributes
    ----------
    chosen : tuple of Stretch
        Those whose mean is taken.
    every : tuple of Stretch
        All that measured a capacity, in the order of time.
    method : str
        How they were chosen.
    """

    chosen: tuple[Stretch, ...]
    every: tuple[Stretch, ...]
    method: str

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps of the chosen ones."""
        return tuple(s.step_index for stretch in self.chosen for s in stretch.steps)


def capacity_discharges(ledger: Ledger) -> Discharges | None:
    """Return the discharges that stand for the capacity, or None if there is none."""
    measured = [
        step for step in ledger.recording.steps
        if step.measure == "capacity" and ledger.charge_Ah(step) < 0
    ]  # fmt: skip
    if measured:
        every = [ledger.stretch([s], -1) for s in measured if s.ended_by not in CUT_SHORT]
        return _of_measured(ledger, every) if every else None
    is_ours = ledger.recording.provenance.get("source") in ("bench", "simulation")
    if is_ours and any(step.measure for step in ledger.recording.steps):
        return None  # the protocol names what it measures, and names no capacity
    every, window = _full_discharges(ledger)
    return _of_full(ledger, every, window) if every else None


def _of_measured(ledger: Ledger, every: list[Stretch]) -> Discharges:
    if ledger.recording.provenance.get("source") == "import":
        return _by_rule(ledger, every, "measured as capacity")
    chosen = every[-REPEATS:]
    method = _mean_of(chosen, "the last ", "measured as capacity")
    return Discharges(tuple(chosen), tuple(every), method + _unsettled(ledger, chosen))


def _of_full(ledger: Ledger, every: list[Stretch], window: str) -> Discharges:
    return _by_rule(ledger, every, f"from full to empty, {window}; no measures in the file")


def _by_rule(ledger: Ledger, every: list[Stretch], what: str) -> Discharges:
    """Choose the first three discharges in a row that meet the rule, else the last."""
    chosen = every[-REPEATS:]
    which = "the last " if len(every) > REPEATS else ""
    for first in range(len(every) - REPEATS + 1):
        three = every[first : first + REPEATS]
        if _is_settled(ledger, three):
            chosen, which = three, "the first "
            break
    method = _mean_of(chosen, which, what) + f"; at {_mean_current_A(chosen):.3g} A"
    method += f"; {len(every)} in all" if len(every) > len(chosen) else ""
    return Discharges(tuple(chosen), tuple(every), method + _unsettled(ledger, chosen))


def _mean_of(chosen: Sequence[Stretch], which: str, what: str) -> str:
    if len(chosen) == 1:
        return f"one discharge {what}"
    return f"mean of {which}{len(chosen)} discharges {what}"


def _mean_current_A(stretches: Sequence[Stretch]) -> float:
    hours = sum(s.duration_s for s in stretches) / 3600.0
    return abs(sum(s.charge_Ah for s in stretches)) / hours if hours else math.nan


def _is_settled(ledger: Ledger, three: Sequence[Stretch]) -> bool:
    values = [abs(s.charge_Ah) for s in three]
    rated_Ah = ledger.number("rated_capacity_Ah")
    rated_Ah = rated_Ah if math.isfinite(rated_Ah) else float(np.mean(values))
    currents = [_mean_current_A([s]) for s in three]
    is_alike = max(currents) <= (1 + SAME_CURRENT) * min(currents)
    return is_alike and max(values) - min(values) <= WITHIN * rated_Ah


def _unsettled(ledger: Ledger, chosen: Sequence[Stretch]) -> str:
    if len(chosen) < REPEATS or _is_settled(ledger, chosen):
        return ""
    return "; they do not lie within 3 % of the rated capacity"


def _full_discharges(ledger: Ledger) -> tuple[list[Stretch], str]:
    """Return discharges from full to empty: by the data sheet, else by the file's own window."""
    limits = [(ledger.number("voltage_max_V"), ledger.number("voltage_min_V"))]
    pairs = list(ledger.pairs())
    if pairs:
        limits.append((max(c.end_V for c, _ in pairs), min(d.end_V for _, d in pairs)))
    for upper_V, lower_V in limits:
        every = [
            discharge
            for charge, discharge in pairs
            if charge.end_V >= upper_V - NEAR_V and discharge.end_V <= lower_V + NEAR_V
        ] or _lone_discharge(ledger, upper_V, lower_V)
        every = _not_partial(ledger, every)
        if every:
            return every, f"{upper_V:.2f} to {lower_V:.2f} V"
    return [], ""


def _lone_discharge(ledger: Ledger, upper_V: float, lower_V: float) -> list[Stretch]:
    """Return the first discharge of a file that starts with a full cell."""
    moving = [stretch for stretch in ledger.stretches if stretch.sign]
    if not moving or moving[0].sign > 0 or moving[0].end_V > lower_V + NEAR_V:
        return []
    before = max(moving[0].first_row - 1, 0)
    return [moving[0]] if ledger.voltage_V[before] >= upper_V - NEAR_V else []


def _not_partial(ledger: Ledger, every: list[Stretch]) -> list[Stretch]:
    """Leave out what moved less than half of the file's largest discharge."""
    most = max((-stretch.charge_Ah for stretch in ledger.stretches), default=0.0)
    return [stretch for stretch in every if -stretch.charge_Ah > 0.5 * most]


@dataclass(frozen=True)
class Ends:
    """How steep the voltage is where a discharge begins and ends, in V/Ah, and there."""

    top_V: float
    top_slope: float
    bottom_V: float
    bottom_slope: float


def ends_of(ledger: Ledger, stretch: Stretch) -> Ends:
    """Return the slopes of a full discharge at its two ends.

    At the full end between 0.5 and 1.5 % of the charge: earlier the first relaxation is as
    steep, later the cell is no longer full. At the empty end over the last two rows. Both are
    rough (10 to 20 %), which is enough for an uncertainty.
    """
    first, last = stretch.first_row, stretch.last_row
    charge = np.abs(ledger.net_Ah[first : last + 1] - ledger.net_Ah[max(first - 1, 0)])
    voltage_V = ledger.voltage_V[first : last + 1]
    if len(charge) < 3 or charge[-1] <= 0:
        return Ends(0.0, math.inf, 0.0, math.inf)
    top_V = np.interp([share * charge[-1] for share in TOP], charge, voltage_V)
    top = (top_V[0] - top_V[1]) / ((TOP[1] - TOP[0]) * charge[-1])
    moved = charge[-1] - charge[-2]
    bottom = (voltage_V[-2] - voltage_V[-1]) / moved if moved > 0 else math.inf
    upper_V = ledger.number("voltage_max_V")
    return Ends(
        top_V=upper_V if math.isfinite(upper_V) else float(voltage_V[0]),
        top_slope=float(top) if top > 0 else math.inf,
        bottom_V=float(voltage_V[-1]),
        bottom_slope=float(bottom) if bottom > 0 else math.inf,
    )


def capacity_uncertainty_Ah(ledger: Ledger, chosen: Sequence[Stretch]) -> float:
    r"""Return the standard uncertainty of the mean capacity of some discharges.

    Notes
    -----
    With gain :math:`r_I`, offset :math:`o_I` of the current, :math:`r_U`, :math:`o_U` of the
    voltage, length T, and slopes s = dU/dQ at both ends,

    .. math:: u^2 = (r_I Q)^2 + (o_I T)^2
              + o_U^2 (1/s_t - 1/s_b)^2 + r_U^2 (U_t/s_t - U_b/s_b)^2 .

    The last two terms: a voltmeter that reads high ends the charge early and the discharge
    late. None of the four averages out over the repeats, so Q, T and 1/s are means.
    """
    current, voltage = ledger.accuracy("current_A"), ledger.accuracy("voltage_V")
    mean_Ah = float(np.mean([abs(s.charge_Ah) for s in chosen]))
    hours = float(np.mean([s.duration_s for s in chosen])) / 3600.0
    window = window_terms(ledger, chosen)
    return quadrature(
        current.reading * mean_Ah,
        current.offset * hours,
        voltage.offset * window[0],
        voltage.reading * window[1],
    )


def window_terms(ledger: Ledger, chosen: Sequence[Stretch]) -> tuple[float, float, float]:
    r"""Return the means of :math:`U_t^k/s_t - U_b^k/s_b` for k = 0, 1, 2."""
    ends = [ends_of(ledger, stretch) for stretch in chosen]
    terms = [
        [e.top_V**k / e.top_slope - e.bottom_V**k / e.bottom_slope for e in ends]
        for k in range(3)
    ]  # fmt: skip
    zeroth, first, second = (float(np.mean(term)) for term in terms)
    return zeroth, first, second


def energy_uncertainty_Wh(ledger: Ledger, chosen: Sequence[Stretch]) -> float:
    r"""Return the standard uncertainty of the mean energy of some discharges.

    Notes
    -----
    With the symbols of `capacity_uncertainty_Ah` and the energy E, means again,

    .. math:: u^2 = (r_I E)^2 + (o_I T E/Q)^2
              + o_U^2 (Q - U_t/s_t + U_b/s_b)^2 + r_U^2 (E - U_t^2/s_t + U_b^2/s_b)^2 .

    A voltmeter that reads high counts too much energy and shifts both ends of the discharge.
    """
    current, voltage = ledger.accuracy("current_A"), ledger.accuracy("voltage_V")
    energy_Wh = float(np.mean([abs(s.energy_Wh) for s in chosen]))
    charge_Ah = float(np.mean([abs(s.charge_Ah) for s in chosen]))
    hours = float(np.mean([s.duration_s for s in chosen])) / 3600.0
    window = window_terms(ledger, chosen)
    return quadrature(
        current.reading * energy_Wh,
        current.offset * hours * energy_Wh / charge_Ah,
        voltage.offset * (charge_Ah - window[1]),
        voltage.reading * (energy_Wh - window[2]),
    )


def capacity_features(ledger: Ledger) -> list[Feature]:
    """Return capacity, energy, charge capacity, energy efficiency and temperature rise."""
    found = capacity_discharges(ledger)
    if found is None:
        return []
    stated = ledger.accuracy("current_A").is_known and ledger.accuracy("voltage_V").is_known
    method = found.method if stated else f"{found.method}; {NOT_STATED}"
    features = [
        Feature(
            "capacity_Ah",
            float(np.mean([abs(s.charge_Ah) for s in found.chosen])),
            capacity_uncertainty_Ah(ledger, found.chosen),
            method,
            found.steps,
            parts=_parts(found, "charge_Ah"),
        ),
        Feature(
            "energy_Wh",
            float(np.mean([abs(s.energy_Wh) for s in found.chosen])),
            energy_uncertainty_Wh(ledger, found.chosen),
            method,
            found.steps,
            parts=_parts(found, "energy_Wh"),
        ),
    ]
    return features + _cycle_features(ledger, found, stated) + _temperature(ledger, found)


def _parts(found: Discharges, quantity: str) -> tuple[tuple[int, float], ...]:
    return tuple((s.steps[-1].step_index, abs(getattr(s, quantity))) for s in found.every)


@dataclass(frozen=True)
class Cycle:
    """A charge from empty to full and the discharge after it."""

    charge: Stretch
    discharge: Stretch


def _complete_cycles(ledger: Ledger, found: Discharges) -> list[Cycle]:
    """Return the chosen discharges whose charge began with an empty cell."""
    wanted = {stretch.first_row: stretch for stretch in found.chosen}
    lowest_V = max(stretch.end_V for stretch in found.every) + NEAR_V
    cycles: list[Cycle] = []
    charges: list[Stretch] = []
    before_V = math.inf
    for stretch in ledger.stretches:
        if stretch.sign > 0:
            charges.append(stretch)
        elif stretch.sign < 0:
            is_wanted = stretch.first_row in wanted and before_V <= lowest_V
            if is_wanted and len(charges) == 1:
                cycles.append(Cycle(charges[0], wanted[stretch.first_row]))
            charges, before_V = [], stretch.end_V
    return cycles


def _cycle_features(ledger: Ledger, found: Discharges, stated: bool) -> list[Feature]:
    cycles = _complete_cycles(ledger, found)
    if not cycles:
        return []
    tail = "" if stated else f"; {NOT_STATED}"
    count = "one charge" if len(cycles) == 1 else f"mean of {len(cycles)} charges"
    charges = tuple(s.step_index for c in cycles for s in c.charge.steps)
    both = tuple(
        s.step_index for c in cycles for s in (*c.charge.steps, *c.discharge.steps)
    )  # fmt: skip
    ratios = [100.0 * abs(c.discharge.energy_Wh) / c.charge.energy_Wh for c in cycles]
    return [
        Feature(
            "charge_capacity_Ah",
            float(np.mean([c.charge.charge_Ah for c in cycles])),
            charge_uncertainty_Ah(ledger, cycles),
            f"{count} from empty to full, before the chosen discharges{tail}",
            charges,
            parts=tuple((c.charge.steps[-1].step_index, c.charge.charge_Ah) for c in cycles),
        ),
        Feature(
            "energy_efficiency_percent",
            float(np.mean(ratios)),
            efficiency_uncertainty_percent(ledger, cycles),
            f"energy out over energy in, {len(cycles)} full cycles{tail}",
            both,
            parts=tuple(
                (c.discharge.steps[-1].step_index, ratio)
                for c, ratio in zip(cycles, ratios, strict=True)
            ),
        ),
    ]


def charge_uncertainty_Ah(ledger: Ledger, cycles: Sequence[Cycle]) -> float:
    """Return the standard uncertainty of the mean charge; as for the capacity."""
    current, voltage = ledger.accuracy("current_A"), ledger.accuracy("voltage_V")
    mean_Ah = float(np.mean([c.charge.charge_Ah for c in cycles]))
    hours = float(np.mean([c.charge.duration_s for c in cycles])) / 3600.0
    window = window_terms(ledger, [c.discharge for c in cycles])
    return quadrature(
        current.reading * mean_Ah,
        current.offset * hours,
        voltage.offset * window[0],
        voltage.reading * window[1],
    )


def efficiency_uncertainty_percent(ledger: Ledger, cycles: Sequence[Cycle]) -> float:
    r"""Return the standard uncertainty of the mean energy efficiency.

    Notes
    -----
    Gains cancel in the ratio; offsets do not, since they enter charge and discharge with
    opposite sign (current) or with different charge (voltage). With lengths T, energies E and
    charges Q of discharge (d) and charge (c),

    .. math:: (u/\eta)^2 = o_I^2 (T_d/Q_d + T_c/Q_c)^2 + o_U^2 (Q_d/E_d - Q_c/E_c)^2 .
    """
    current, voltage = ledger.accuracy("current_A"), ledger.accuracy("voltage_V")
    per_ampere, per_volt = [], []
    for cycle in cycles:
        out, into = cycle.discharge, cycle.charge
        ratio = 100.0 * abs(out.energy_Wh) / into.energy_Wh
        hours = abs(out.duration_s / out.charge_Ah) + abs(into.duration_s / into.charge_Ah)
        per_ampere.append(ratio * hours / 3600.0)
        per_volt.append(
            ratio * (abs(out.charge_Ah / out.energy_Wh) - into.charge_Ah / into.energy_Wh)
        )
    return quadrature(
        current.offset * float(np.mean(per_ampere)), voltage.offset * float(np.mean(per_volt))
    )


def _temperature(ledger: Ledger, found: Discharges) -> list[Feature]:
    """Return the temperature rise: highest of the discharge less the last value before it.

    The probe's offset cancels; its gain acts on the rise, and its noise on both readings.
    """
    degrees = ledger.column("temperature_degC")
    accuracy = ledger.accuracy("temperature_degC")
    if degrees is None:
        return []
    rises, scatter, steps, means = [], [], [], []
    for stretch in found.chosen:
        before = degrees[stretch.first_row - 1] if stretch.first_row else math.nan
        inside = degrees[stretch.first_row : stretch.last_row + 1]
        rise = float(np.nanmax(inside) - before) if np.isfinite(inside).any() else math.nan
        if np.isfinite(inside).any():
            means.append(float(np.nanmean(inside)))
        if math.isfinite(rise):
            rises.append(rise)
            scatter.append(noise(inside[np.isfinite(inside)]))
            steps += [(stretch.steps[-1].step_index, rise)]
    tested = _test_temperature(means, found, accuracy.reading, accuracy.offset)
    if not rises:
        return tested
    value = float(np.mean(rises))
    spread = math.sqrt(2.0 / len(rises)) * float(np.mean(scatter))
    tail = "" if accuracy.is_known else f"; {NOT_STATED}"
    return [
        Feature(
            "temperature_rise_K",
            value,
            quadrature(accuracy.reading * value, spread),
            f"highest of the discharge less the last before it, {len(rises)} discharges{tail}",
            tuple(step for step, _ in steps),
            parts=tuple(steps),
        ),
        *tested,
    ]


def _test_temperature(
    means: Sequence[float], found: Discharges, gain: float, offset: float
) -> list[Feature]:
    """Return the mean temperature of the discharges: a condition that values depend on."""
    if not means:
        return []
    value = float(np.mean(means))
    tail = "" if math.isfinite(gain) and math.isfinite(offset) else f"; {NOT_STATED}"
    return [
        Feature(
            "test_temperature_degC",
            value,
            quadrature(gain * value, offset),
            f"mean of the cell's probe over {len(means)} discharges{tail}",
            found.steps,
        )
    ]
