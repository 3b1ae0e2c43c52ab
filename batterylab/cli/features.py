"""`batterylab features`: draw features from recordings."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd

#: up to this many recordings are shown one by one
FEW_RECORDINGS = 3


@click.command()
@click.argument("place", metavar="ARCHIVE|STUDY|RECORDING", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path, dir_okay=False),
              help="Write all rows to a file.")  # fmt: skip
def features(place: Path, as_json: bool, csv_file: Path | None) -> None:
    """Draw capacity, energy, resistance and more from recordings.

    A study's features are kept in its results and drawn anew only where they must be.

    \b
    Examples:
      batterylab features my-study
      batterylab features my-study --csv features.csv
      batterylab features my-study/archive/A1-001/gauge_capacity_20260105T060000Z_0123abcd.h5
    """  # noqa: D301
    frame = _frame(place)
    if csv_file is not None:
        _write_csv(frame, csv_file)
        click.echo(f"{len(frame)} rows in {csv_file}", err=True)
    if as_json:
        from batterylab.cli import echo_json

        echo_json({"schema": "batterylab.featurelist/1", "features": _records(frame)})
        return
    for line in _lines(frame):
        click.echo(line)
    _say_what_is_left_out(frame)


def _frame(place: Path) -> "pd.DataFrame":
    from batterylab.cli.archive import archive_folder
    from batterylab.features.longform import archive_rows, entry_rows, frame_of, table
    from batterylab.study import Study

    if place.is_file() and place.name != "study.yaml":
        from batterylab.archive import entry

        return frame_of(entry_rows(entry(place)))
    with Bar("Drawing features") as bar:
        if place.name == "study.yaml" or (place / "study.yaml").is_file():
            return table(Study.open(place), bar.update)
        return frame_of(archive_rows(archive_folder(place), progress=bar.update))


class Bar:
    """A bar on a terminal's stderr, shown once the work has taken two seconds."""

    def __init__(self, label: str) -> None:
        import time

        self._label, self._clock = label, time.monotonic
        self._begun = self._clock()
        self._bar: Any = None
        self._done = 0

    def __enter__(self) -> "Bar":
        return self

    def update(self, done: int, of: int) -> None:
        """Say how many recordings are done."""
        import sys

        if self._bar is None and sys.stderr.isatty() and self._clock() - self._begun > 2.0:
            self._bar = click.progressbar(length=of, label=self._label, file=sys.stderr)
            self._bar.__enter__()
        if self._bar is not None:
            self._bar.update(done - self._done)
            self._done = done

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)


def _records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(k): v for k, v in row.items()} for row in plain.to_dict("records")]


def _write_csv(frame: "pd.DataFrame", path: Path) -> None:
    """Write the rows; text that a spreadsheet would take for a formula is quoted."""
    from batterylab.features.store import write_whole

    safe = frame.copy()
    for name in safe.columns:
        if safe[name].dtype == object or str(safe[name].dtype).startswith("str"):
            text = safe[name].astype(str)
            is_formula = text.str.match(r"[=+\-@\t\r]")
            safe[name] = text.where(~is_formula, "'" + text)
    write_whole(path, safe.to_csv(index=False, lineterminator="\n"))


def _lines(frame: "pd.DataFrame") -> list[str]:
    if frame.empty:
        return ["no features"]
    if frame["seal"].nunique() <= FEW_RECORDINGS and (frame["source"] != "table").all():
        return _one_by_one(frame)
    return _summary(frame)


def _one_by_one(frame: "pd.DataFrame") -> list[str]:
    lines = []
    for seal, rows in frame.groupby("seal", sort=False):
        first = rows.iloc[0]
        lines.append(
            f"{first['serial']}, {first['protocol']}, {first['start_utc']}, "
            f"seal {str(seal)[:8]}, {first['state']}"
        )
        for row in rows[rows["cycles"].isna()].to_dict("records"):
            value = with_uncertainty(row["value"], row["uncertainty"])
            steps = f"steps {row['steps']}: " if row["steps"] else ""
            lines.append(f"  {row['feature']:<34} {value:>20}  {steps}{row['method']}")
        lines += _course(rows[rows["cycles"].notna()])
    return lines


def _course(rows: "pd.DataFrame") -> list[str]:
    """Return the course of ageing in one line."""
    if rows.empty:
        return []
    first, last = rows.iloc[0], rows.iloc[-1]
    return [f"  {first['feature']:<34} {len(rows)} values, {first['value']:.6g} to "
            f"{last['value']:.6g} over {last['cycles']:.4g} equivalent full cycles"]  # fmt: skip


def with_uncertainty(value: float, uncertainty: float) -> str:
    """Return a value and its standard uncertainty to two digits of the latter."""
    from math import floor, isfinite, log10

    if not isfinite(uncertainty):
        return f"{value:.6g} ± ?"
    if uncertainty <= 0:
        return f"{value:.6g} ± 0"
    digits = max(0, min(9, 1 - floor(log10(uncertainty))))
    return f"{value:.{digits}f} ± {uncertainty:.{digits}f}"


def _summary(frame: "pd.DataFrame") -> list[str]:
    from math import isfinite, nan

    from batterylab.features.course import AGED

    head = ("feature", "supplier", "part", "n", "mean", "sd", "smallest", "largest", "uncertainty")
    lines = [_row(head)]
    usable = frame[~frame["state"].isin(("invalid", "superseded", "stopped"))]
    usable = usable[usable["feature"] != AGED]
    for key, rows in usable.groupby(["feature", "supplier", "part"], sort=False):
        feature, supplier, part = (str(name) for name in key)
        values = rows["value"]
        known = rows["uncertainty"].dropna()
        typical = known.median() if len(known) else nan
        numbers = (values.mean(), values.std(), values.min(), values.max(), typical)
        shown = (f"{number:.5g}" if isfinite(number) else "-" for number in numbers)
        lines.append(_row((feature, supplier or "-", part, str(len(rows)), *shown)))
    return lines


def _row(cells: tuple[str, ...]) -> str:
    feature, supplier, part, *numbers = cells
    return f"{feature:<34} {supplier[:14]:<14} {part:<6}" + "".join(f"{n:>12}" for n in numbers)


def _say_what_is_left_out(frame: "pd.DataFrame") -> None:
    of = frame.drop_duplicates("seal")
    left_out = of[of["state"].isin(("invalid", "superseded", "stopped"))]
    told = f"{len(of)} recordings and tables with features, {len(frame)} features"
    if len(left_out):
        told += f"; {len(left_out)} invalid, superseded or stopped, not in the summary"
    click.echo(told, err=True)
