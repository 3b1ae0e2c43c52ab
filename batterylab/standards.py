"""The acceptance rules of standards, as data: limits, cells of the type test, spread.

Where a figure comes from says its mark: V verified against public text that quotes the clause,
D from notices of the draft, U unverified. `batterylab.suppliers.acceptance` applies them.
"""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Requirement:
    """One line of a rule.

    Attributes
    ----------
    text : str
        In words, with the limit.
    feature : str
        What it is about.
    statistic : str
        ``least`` of the cells, at least the limit; ``largest``, at most the limit; ``range``,
        largest less least in percent of the mean, at most the limit.
    limit : float
        In the unit of the feature; of a capacity, a share of the rated one.
    mark : str
        Of the limit.
    """

    text: str
    feature: str
    statistic: Literal["least", "largest", "range"]
    limit: float
    mark: str


@dataclass(frozen=True)
class Rule:
    """An acceptance rule.

    Attributes
    ----------
    standard, clause : str
    protocol : str
        The shipped protocol that measures what the rule needs.
    conditions : str
        Under which it holds, with marks; empty if the protocol says them all.
    cells : int or None
        Of the standard's own type test; None if not known.
    cells_mark : str
        Mark of that number.
    requirements : tuple of Requirement
        All have to be met.
    """

    standard: str
    clause: str
    protocol: str
    requirements: tuple[Requirement, ...]
    conditions: str = ""
    cells: int | None = None
    cells_mark: str = ""

    @property
    def can_be_set(self) -> bool:
        """Whether the limit is one figure, which the study may set."""
        return len(self.requirements) == 1

    def with_limit(self, limit: float) -> "Rule":
        """Return the rule with a limit that the study sets, which its mark then says."""
        one = self.requirements[0]
        text = one.text.replace(f"{one.limit:g} %", f"{limit:g} %")
        return replace(self, requirements=(replace(one, text=text, limit=limit, mark="own"),))


def _room_temperature() -> tuple[Requirement, ...]:
    name = "capacity_Ah"
    return (
        Requirement("least initial capacity, Ah, at least the rated one", name, "least", 1.0, "V"),
        Requirement("largest initial capacity, Ah, at most 110 % of the rated one", name,
                    "largest", 1.1, "V"),
        Requirement("range of initial capacity, % of the mean, at most 5", name, "range", 5.0,
                    "V"),
    )  # fmt: skip


def _at_least(percent: float, measure: str, what: str, mark: str) -> Requirement:
    return Requirement(
        f"least {what}, % of the cell's capacity, at least {percent:g} %",
        f"{measure}_share_percent", "least", percent, mark,
    )  # fmt: skip


def _of_2015(clause: str, protocol: str, conditions: str, *required: Requirement) -> Rule:
    return Rule("GB/T 31486-2015", clause, f"gbt_31486_{protocol}", required, conditions, 10, "V")


def _life(cycles: int, percent: float) -> Rule:
    return Rule(
        "GB/T 31484-2015", f"standard cycle life, {cycles} cycles", "gbt_31484_cycle",
        (_at_least(percent, f"cycle_{cycles}", f"capacity of cycle {cycles}", "V"),),
        f"1I1, 25 °C (U); repeat: {{times: {cycles}}} in a copy of the protocol", 2, "U",
    )  # fmt: skip


RULES = {
    "gbt_31486_2024": Rule("GB/T 31486-2024", "5.4", "gbt_31486_2024_capacity",
                           _room_temperature(), "", 30, "D"),
    "gbt_31486_2015": _of_2015("capacity at room temperature", "2024_capacity", "",
                               *_room_temperature()),
    "gbt_31486_2015_low_temperature": _of_2015(
        "low temperature", "low_temperature", "−20 °C (U)",
        _at_least(70.0, "capacity_cold", "capacity in the cold", "V")),
    "gbt_31486_2015_high_temperature": _of_2015(
        "high temperature", "high_temperature", "55 °C (U), 45 °C in the 2024 edition (D)",
        _at_least(90.0, "capacity_hot", "capacity in the heat", "U")),
    "gbt_31486_2015_charge_retention": _of_2015(
        "charge retention and recovery, room temperature", "charge_retention", "28 d (U)",
        _at_least(85.0, "retained", "retained charge", "V"),
        _at_least(90.0, "recovered", "recovered capacity", "V")),
    "gbt_31486_2015_retention_hot": _of_2015(
        "charge retention and recovery, high temperature", "retention_hot", "7 d at 55 °C (U)",
        _at_least(85.0, "retained_hot", "retained charge", "V"),
        _at_least(90.0, "recovered_hot", "recovered capacity", "V")),
    "gbt_31486_2015_storage": _of_2015(
        "storage", "storage", "28 d at 45 °C, 50 % SOC (U)",
        _at_least(90.0, "capacity_stored", "capacity after storage", "V")),
    "gbt_31486_2015_rate_discharge": _of_2015(
        "rate discharge, high-energy cells", "rate_discharge", "3I1 (U)",
        _at_least(90.0, "capacity_fast", "capacity at the rate", "U")),
    "gbt_31486_2015_rate_discharge_power": _of_2015(
        "rate discharge, high-power cells", "rate_discharge", "8I1 (U): parameter rate",
        _at_least(80.0, "capacity_fast", "capacity at the rate", "U")),
    "gbt_31486_2015_rate_charge": _of_2015(
        "rate charge", "rate_charge", "2I1 (U)",
        _at_least(80.0, "capacity_fast_charged", "capacity after the fast charge", "U")),
    "gbt_31484_2015_500_cycles": _life(500, 90.0),
    "gbt_31484_2015_1000_cycles": _life(1000, 80.0),
}  # fmt: skip
