"""The map that says what the columns of a table of features mean: `batterylab.featuremap/1`."""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from batterylab.errors import BatterylabError
from batterylab.quantity import parse
from batterylab.study import FEATURE_UNITS

SOC_MARK = "{soc}"
_FEATURE = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class FromColumn(_Part):
    """A value that stands in a column."""

    column: str


class Source(_Part):
    """A value that stands in a column, or is the same for the whole table."""

    column: str | None = None
    constant: str | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> "Source":
        if (self.column is None) == (self.constant is None):
            raise ValueError("either column or constant\n  hint: {column: Supplier}")
        return self


class SocColumn(_Part):
    """The state of charge at which a row was measured."""

    column: str
    unit: Literal["percent", "ratio"] = "percent"


#: what a column of stopped tests may say, in any case; empty is as good as no
STOPPED = {
    **dict.fromkeys(("yes", "true", "1", "x", "stopped", "aborted", "censored"), True),
    **dict.fromkeys(("", "no", "false", "0", "complete", "completed", "finished", "ok"), False),
}


def _is_feature_name(name: str) -> str:
    if not _FEATURE.match(name.replace(SOC_MARK, "0")):
        raise ValueError(
            f"{name!r} cannot name a feature\n  hint: letters, digits and _, such as "
            "dcir_10s_mOhm; {soc} stands for the state of charge"
        )
    return name


class FeatureColumn(_Part):
    """A column that holds a feature.

    Attributes
    ----------
    feature : str
        Its name with the unit as suffix, or a ratio without one. ``{soc}`` in it is replaced
        by the row's state of charge in percent.
    column : str
        The table's header.
    unit : str
        Of the column, such as ``mAh``; empty for a plain ratio.
    scale : float
        What the column is multiplied by, before its unit is looked at.
    reference : ``nominal``, ``rated`` or a column
        What the column is divided by: the study's capacity, or another column of the same unit.
    relative_uncertainty : float
        One standard uncertainty as a share of the value, if it is known.
    """

    feature: Annotated[str, AfterValidator(_is_feature_name)]
    column: str
    unit: str = ""
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    reference: Literal["nominal", "rated"] | FromColumn | None = None
    relative_uncertainty: float | None = Field(default=None, ge=0, lt=1)

    @model_validator(mode="after")
    def _units_fit(self) -> "FeatureColumn":
        self.factor()
        return self

    @property
    def is_ratio(self) -> bool:
        """Whether the feature's name carries no unit."""
        return not any(self.feature.endswith(ending) for ending in FEATURE_UNITS)

    def factor(self) -> float:
        """Return what turns the column into the feature's unit, `scale` included.

        For a ratio with a reference, into the reference's unit: Ah.

        Raises
        ------
        ValueError
            If the units do not fit the feature's name.
        """
        ending = next((e for e in FEATURE_UNITS if self.feature.endswith(e)), None)
        if ending is not None:
            if self.reference is not None:
                raise ValueError(
                    f"{self.feature} has a unit: a reference makes a ratio"
                    "\n  hint: name it relative_capacity"
                )
            name, factor = FEATURE_UNITS[ending]
            return self.scale * factor * self._in(name, f"{self.feature} is in {ending[1:]}")
        if isinstance(self.reference, str):
            return self.scale * self._in("capacity_Ah", "a capacity is divided by a capacity")
        if not self.unit or isinstance(self.reference, FromColumn):
            return self.scale
        return self.scale * self._in("percent", f"{self.feature} is a ratio") / 100.0

    def _in(self, name: str, why: str) -> float:
        try:
            quantity = parse(f"1 {'%' if self.unit == 'percent' else self.unit}")
        except BatterylabError:
            raise ValueError(f"unit {self.unit!r} is none\n  hint: {why}") from None
        if quantity.name != name or not math.isfinite(quantity.value):
            raise ValueError(f"unit {self.unit!r} does not fit\n  hint: {why}")
        return quantity.value


class FeatureMap(_Part):
    """What a map file says; see docs/importing.md."""

    schema_: str = Field("batterylab.featuremap/1", alias="schema")
    sheet: str | None = None
    serial: FromColumn
    supplier: Source | None = None
    lot: Source | None = None
    soc: SocColumn | None = None
    cycles: FromColumn | None = None
    stopped: FromColumn | None = None
    features: list[FeatureColumn] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_fit(self) -> "FeatureMap":
        names = [feature.feature for feature in self.features]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"the feature {twice!r} stands twice\n  hint: give each its own name")
        marked = next((name for name in names if SOC_MARK in name), None)
        if marked and self.soc is None:
            raise ValueError(f"{marked!r} needs a state of charge\n  hint: soc: {{column: SOC}}")
        return self

    def columns(self) -> list[str]:
        """Return the headers that the table must have."""
        sources: list[Any] = [self.serial, self.supplier, self.lot, self.soc, self.cycles,
                              self.stopped, *self.features]  # fmt: skip
        sources += [f.reference for f in self.features if isinstance(f.reference, FromColumn)]
        return [source.column for source in sources if source is not None and source.column]
