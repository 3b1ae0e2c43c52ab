"""A study: the question being asked, as a folder of files that people write.

``study.yaml``, ``cells.csv``, ``bench.yaml`` and ``protocols/`` are written by people;
``archive/``, ``results/`` and ``log`` by batterylab.
"""

from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from batterylab.cells import Cell, CellType, check_name, read_cells
from batterylab.errors import BatterylabError, Problem, ProblemsError
from batterylab.quantity import Percent, parse
from batterylab.standards import RULES, Rule
from batterylab.studylog import StudyLog
from batterylab.yamlfile import YamlDocument, load_yaml, validate

#: ending of a feature's name -> (quantity as written, factor to the feature's unit)
FEATURE_UNITS: dict[str, tuple[str, float]] = {
    "_Ah": ("capacity_Ah", 1.0),
    "_Wh": ("energy_Wh", 1.0),
    "_V": ("voltage_V", 1.0),
    "_mV": ("voltage_V", 1e3),
    "_A": ("current_A", 1.0),
    "_mOhm": ("resistance_ohm", 1e3),
    "_ohm": ("resistance_ohm", 1.0),
    "_degC": ("temperature_degC", 1.0),
    "_K": ("temperature_difference_K", 1.0),
    "_percent": ("percent", 1.0),
    "_g": ("mass_g", 1.0),
    "_s": ("duration_s", 1.0),
}


def limit_value(feature: str, text: object) -> float:
    """Return a limit as a number in the unit that the feature's name carries.

    Raises
    ------
    ValueError
        If the unit is missing or belongs to another quantity.
    """
    for ending, (name, factor) in FEATURE_UNITS.items():
        if feature.endswith(ending):
            if not isinstance(text, str):
                raise ValueError(f"{text!r} has no unit\n  hint: {feature} is in {ending[1:]}")
            try:
                quantity = parse(text)
            except BatterylabError as error:
                raise ValueError(str(error)) from None
            if quantity.name != name:
                raise ValueError(f"{text!r} is no {feature}\n  hint: it is in {ending[1:]}")
            return quantity.value * factor
    if isinstance(text, bool) or not isinstance(text, int | float):
        raise ValueError(f"{text!r}: {feature} is a ratio\n  hint: write a plain number, 0.95")
    return float(text)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Supplier(_Part):
    """A supplier and the lots it delivered."""

    name: str
    lots: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _names_are_names(self) -> "Supplier":
        for text, what in [(self.name, "supplier"), *((lot, "lot") for lot in self.lots)]:
            try:
                check_name(text, what)
            except BatterylabError as error:
                raise ValueError(str(error)) from None
        if len(set(self.lots)) != len(self.lots):
            raise ValueError(f"supplier {self.name!r}: a lot stands twice")
        return self


def _with_units(data: Any, *keys: str) -> Any:
    """Return the entry with the values of `keys` as numbers in the unit of its feature."""
    if not isinstance(data, dict) or not isinstance(data.get("feature"), str):
        return data
    parsed = dict(data)
    for key in keys:
        if parsed.get(key) is not None:
            parsed[key] = limit_value(data["feature"], parsed[key])
    return parsed


class Limit(_Part):
    """An acceptance limit on a feature, in the unit of the feature's name."""

    feature: str
    lower: float | None = None
    upper: float | None = None
    decision_rule: Literal["simple", "guarded acceptance", "guarded rejection"] = "simple"
    target: float | None = None
    distribution: Literal[
        "auto", "normal", "lognormal", "weibull", "gamma", "pearson3"
    ] = "auto"

    @model_validator(mode="before")
    @classmethod
    def _units(cls, data: Any) -> Any:
        return _with_units(data, "lower", "upper", "target")

    @model_validator(mode="after")
    def _in_order(self) -> "Limit":
        if self.lower is None and self.upper is None:
            raise ValueError(f"{self.feature}: neither lower nor upper\n  hint: give one of them")
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ValueError(
                f"{self.feature}: lower {self.lower:g} is not below upper {self.upper:g}"
                "\n  hint: swap them"
            )
        return self


class RuleUse(_Part):
    """An acceptance rule of a standard, by name; `at_least` is the study's own limit."""

    rule: str
    at_least: Percent | None = Field(None, gt=0, le=200)

    @model_validator(mode="before")
    @classmethod
    def _a_name_alone(cls, data: Any) -> Any:
        return {"rule": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _known(self) -> "RuleUse":
        if self.rule not in RULES:
            near = get_close_matches(self.rule, RULES, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(RULES)}"
            raise ValueError(f"unknown rule {self.rule!r}\n  hint: {hint}")
        if self.at_least is not None and not RULES[self.rule].can_be_set:
            raise ValueError(
                f"{self.rule} has several limits: at_least cannot say which\n"
                "  hint: state limits of your own under `limits`"
            )
        return self

    @property
    def applied(self) -> Rule:
        """The rule, with the study's limit if it sets one."""
        rule = RULES[self.rule]
        return rule if self.at_least is None else rule.with_limit(self.at_least)


class Pack(_Part):
    """How cells make a pack, how many are built, and what a car draws."""

    series: int = Field(ge=1, le=1000)
    parallel: int = Field(ge=1, le=1000)
    consumption_Wh_per_km: float = Field(150.0, gt=0, le=2000)


class Equivalence(_Part):
    """The largest difference between two suppliers that is of no account.

    In the unit of the feature, or in percent of the mean of both.
    """

    feature: str
    margin: float | None = Field(None, gt=0)
    margin_percent: float | None = Field(None, gt=0, le=100)

    @model_validator(mode="before")
    @classmethod
    def _units(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        margin = data.get("margin")
        if isinstance(margin, str) and margin.strip().endswith("%"):
            name = str(data.get("feature"))
            if not name.endswith("_percent"):
                rest = {key: value for key, value in data.items() if key != "margin"}
                return {**rest, "margin_percent": limit_value("_percent", margin)}
        return _with_units(data, "margin")

    @model_validator(mode="after")
    def _one(self) -> "Equivalence":
        if (self.margin is None) == (self.margin_percent is None):
            raise ValueError(f"{self.feature}: one margin\n  hint: margin: 0.5 %")
        return self


class Weight(_Part):
    """What a feature counts in the weighted score, between two fixed anchors."""

    feature: str
    weight: float = Field(gt=0)
    worst: float
    best: float

    @model_validator(mode="before")
    @classmethod
    def _units(cls, data: Any) -> Any:
        return _with_units(data, "worst", "best")

    @model_validator(mode="after")
    def _apart(self) -> "Weight":
        if self.worst == self.best:
            raise ValueError(f"{self.feature}: worst and best are the same")
        return self


class Costs(_Part):
    """What a wrong decision costs either way."""

    currency: str = Field("EUR", min_length=1, max_length=8)
    cells: int = Field(ge=1)
    bad_cell_accepted: float | None = Field(None, ge=0)
    good_cell_refused: float | None = Field(None, ge=0)
    per_Wh: float | None = Field(None, ge=0)


class Reference(_Part):
    """A reference resistor or golden cell: measured like a cell, counted with none."""

    serial: str
    feature: str
    value: float | None = None
    uncertainty: float | None = Field(None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _units(cls, data: Any) -> Any:
        return _with_units(data, "value", "uncertainty")


class WantedTemperature(_Part):
    """The temperature that tests shall have, and what becomes of those that had another."""

    at: float
    within: float = Field(gt=0)
    otherwise: Literal["list", "leave out"] = "list"

    @model_validator(mode="before")
    @classmethod
    def _units(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        parsed = dict(data)
        if "at" in parsed:
            parsed["at"] = limit_value("_degC", parsed["at"])
        if "within" in parsed:
            parsed["within"] = limit_value("_K", _as_difference(parsed["within"]))
        return parsed


def _as_difference(text: object) -> object:
    """Return ``2 degC`` as ``2 K``: a tolerance is a difference."""
    return text.replace("degC", "K") if isinstance(text, str) else text


class Watch(_Part):
    """The charts that watch incoming lots; run lengths are computed for them."""

    shewhart_width: float = Field(3.0, gt=0, le=10)
    ewma_weight: float = Field(0.2, gt=0, le=1)
    ewma_width: float = Field(2.962, gt=0, le=10)
    cusum_reference: float = Field(0.5, gt=0, le=5)
    cusum_interval: float = Field(5.0, gt=0, le=50)


class Coefficient(_Part):
    """How a feature changes with temperature, in percent per kelvin."""

    feature: str
    per_K_percent: float


class Gauge(_Part):
    """A study of the bench itself: some cells on several channels, repeatedly."""

    protocol: str
    cells: int = Field(ge=2, le=100)
    channels: int = Field(ge=2, le=100)
    repeats: int = Field(ge=2, le=20)


class StudyFile(_Part):
    """What ``study.yaml`` says."""

    schema_: str = Field("batterylab.study/1", alias="schema")
    name: str
    cell_type: CellType
    suppliers: list[Supplier] = Field(min_length=1)
    protocols: list[str] = Field(default_factory=list)
    limits: list[Limit] = Field(default_factory=list)
    rules: list[RuleUse] = Field(default_factory=list)
    pack: Pack | None = None
    gauge: Gauge | None = None
    equivalence: list[Equivalence] = Field(default_factory=list)
    weights: list[Weight] = Field(default_factory=list)
    costs: Costs | None = None
    references: list[Reference] = Field(default_factory=list)
    temperature: WantedTemperature | None = None
    temperature_coefficients: list[Coefficient] = Field(default_factory=list)
    watch: Watch = Field(default_factory=Watch)
    channel_correction: Literal["report", "apply"] = "report"
    which_recording: Literal["last valid", "first valid"] = "last valid"

    @model_validator(mode="after")
    def _once(self) -> "StudyFile":
        names = [supplier.name for supplier in self.suppliers]
        if len(set(names)) != len(names):
            raise ValueError("a supplier stands twice\n  hint: list its lots in one entry")
        for what in ("limits", "equivalence", "weights", "temperature_coefficients"):
            found = [item.feature for item in getattr(self, what)]
            twice = sorted({name for name in found if found.count(name) > 1})
            if twice:
                raise ValueError(f"{what}: {twice[0]} stands twice\n  hint: one entry a feature")
        return self

    @model_validator(mode="after")
    def _limits_fit_the_cell(self) -> "StudyFile":
        """Refuse limits on a capacity that the data sheet's cannot meet or miss: mAh for Ah."""
        nominal = self.cell_type.nominal_capacity_Ah
        for limit in self.limits:
            if limit.feature not in ("capacity_Ah", "charge_capacity_Ah"):
                continue
            for side, value in (("lower", limit.lower), ("upper", limit.upper)):
                if value is not None and not 0.1 * nominal <= value <= 3.0 * nominal:
                    raise ValueError(
                        f"limits: {limit.feature}: {side} {value:g} Ah does not fit a cell of "
                        f"{nominal:g} Ah\n  hint: mind Ah and mAh"
                    )
        return self


class Study:
    """A study's folder, opened and checked.

    Attributes
    ----------
    path : Path
        The folder.
    definition : StudyFile
        What ``study.yaml`` says.
    cells : dict of str to Cell
        What ``cells.csv`` says, by serial.
    log : StudyLog
        What happened.
    """

    def __init__(self, path: Path, definition: StudyFile, cells: dict[str, Cell]) -> None:
        self.path = path
        self.definition = definition
        self.cells = cells
        self.log = StudyLog(path / "log")

    @classmethod
    def open(cls, path: Path | str) -> "Study":
        """Open a study and check its own files.

        Raises
        ------
        ProblemsError
            With every mistake in ``study.yaml`` and ``cells.csv``.
        """
        folder = Path(path)
        if folder.name == "study.yaml" and folder.is_file():
            folder = folder.parent
        if not (folder / "study.yaml").is_file():
            raise BatterylabError(
                f"{folder}: there is no study.yaml here",
                hint="`batterylab study init DIR` makes a study",
            )
        problems: list[Problem] = []
        definition: StudyFile | None = None
        document: YamlDocument | None = None
        cells: dict[str, Cell] = {}
        try:
            document = load_yaml(folder / "study.yaml")
            definition = validate(document, StudyFile)
        except ProblemsError as error:
            problems += error.problems
        try:
            if (folder / "cells.csv").exists():
                cells = read_cells(folder / "cells.csv")
        except ProblemsError as error:
            problems += error.problems
        if definition is not None and document is not None:
            problems += _membership(definition, cells, folder)
        if problems or definition is None:
            raise ProblemsError(problems)
        return cls(folder, definition, cells)

    @property
    def cell_type(self) -> CellType:
        """The data sheet."""
        return self.definition.cell_type

    @property
    def archive(self) -> Path:
        """The folder of sealed recordings."""
        return self.path / "archive"

    @property
    def results(self) -> Path:
        """The folder of features, fits, scorecard and reports: can be deleted and rebuilt."""
        return self.path / "results"

    @property
    def bench_path(self) -> Path:
        """The bench file."""
        return self.path / "bench.yaml"

    @property
    def protocols_folder(self) -> Path:
        """The study's own protocols, searched before the shipped ones."""
        return self.path / "protocols"


def _membership(definition: StudyFile, cells: dict[str, Cell], folder: Path) -> list[Problem]:
    """Return cells whose supplier or lot the study does not know."""
    lots = {supplier.name: supplier.lots for supplier in definition.suppliers}
    lines = _lines_of_cells(folder / "cells.csv")
    problems = []
    references = {item.serial for item in definition.references}
    for cell in cells.values():
        if cell.serial in references:
            continue
        where = f"cells.csv:{lines.get(cell.serial, 1)}"
        if cell.supplier not in lots:
            what = f"unknown supplier {cell.supplier!r}"
            problems.append(Problem(where, what, f"known: {', '.join(lots)}"))
        elif lots[cell.supplier] and cell.lot not in lots[cell.supplier]:
            known = ", ".join(lots[cell.supplier])
            what = f"supplier {cell.supplier!r} has no lot {cell.lot!r}"
            problems.append(Problem(where, what, f"known: {known}"))
    return problems


def _lines_of_cells(path: Path) -> dict[str, int]:
    """Return the line of each serial in ``cells.csv``."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    header = [name.strip() for name in lines[0].split(",")] if lines else []
    column = header.index("serial") if "serial" in header else 0
    return {
        fields[column].strip().strip('"'): number
        for number, line in enumerate(lines, 1)
        if len(fields := line.split(",")) > column
    }
