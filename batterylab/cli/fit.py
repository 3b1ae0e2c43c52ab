"""`batterylab fit`: fit models to recordings."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from batterylab.fit.halfcells import HalfCells
    from batterylab.fit.result import Fit
    from batterylab.fit.store import Job

#: up to this many fits are shown one by one
FEW_FITS = 3


@click.command()
@click.argument("places", metavar="RECORDING|FILE|ARCHIVE|STUDY...", nargs=-1, required=True,
                type=click.Path(path_type=Path))
@click.option("--model", type=click.Choice(["ocv", "circuit", "spm", "spme", "dfn", "impedance"]),
              required=True, help="Full-cell open-circuit voltage, a circuit on a pulse, a "
              "single-particle model without or with electrolyte, the full model, or an impedance "
              "spectrum.")
@click.option("--parameters", "-p", multiple=True, metavar="K=V",
              help="Setting of the model, such as pairs=1; repeat for several.")
@click.option("--step", type=int, help="Step to fit, as `archive show` numbers them.")
@click.option("--joint", is_flag=True,
              help="Fit several recordings of one cell together; not with impedance.")
@click.option("--loss", type=click.Choice(["squares", "soft_l1", "huber"]),
              help="What large residuals count; soft_l1 and huber are robust against outliers.")
@click.option("--profile", is_flag=True,
              help="Also give 95 % intervals by profile likelihood, with open ends.")
@click.option("--protocol", default="", help="Fit only recordings of this protocol.")
@click.option("--half-cells", type=click.Path(path_type=Path, dir_okay=False),
              help="CSV file: electrode,stoichiometry,potential_V. For ocv.")
@click.option("--check", is_flag=True,
              help="Exit with 3 if a fit did not converge, is doubtful or ended on a bound; fits "
              "of spm, spme and dfn are simulated in PyBaMM besides, and may differ by 1 mV.")
@click.option("--plot", "plot_folder", type=click.Path(path_type=Path, file_okay=False),
              help="Write a picture of each fit to this folder.")
@click.option("--export", "export_folder", type=click.Path(path_type=Path, file_okay=False),
              help="Write each spm, spme or dfn fit to this folder, as PyBaMM parameters and BPX.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def fit(
    places: tuple[Path, ...], model: str, parameters: tuple[str, ...], step: int | None,
    joint: bool, loss: str | None, profile: bool, protocol: str, half_cells: Path | None,
    check: bool, plot_folder: Path | None, export_folder: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Fit a model to recordings, with standard errors.

    A study's fits are kept in its results; only what changed is fitted again. FILE is one of a
    cycler or potentiostat, as `batterylab import` reads it; it is not stored.

    \b
    Examples:
      batterylab fit my-study --model ocv
      batterylab fit my-study --model circuit -p pairs=1 --plot pictures
      batterylab fit my-study/archive/A1-001/<file>.h5 --model circuit --step 19
      batterylab fit my-study --model spme --check --export pybamm
      batterylab fit spectrum.DTA --model impedance -p "circuit=R0-p(R1,CPE1)-W1"
      batterylab fit my-study/archive/A1-001/<file>.h5 --model dfn --check
      batterylab fit slow.csv fast.csv drive.csv --joint --model spme
      batterylab fit pulse.csv --model circuit --loss huber --profile
    """  # noqa: D301
    settings = _settings(parameters, step)
    settings |= {"loss": loss} if loss else {}
    settings |= {"profile": True} if profile else {}
    place = places[0]
    if joint:
        job, fits = _joint(places, model, settings, half_cells)
    else:
        _refuse_several(places)
        job, fits = _fits(place, model, settings, protocol, half_cells, plot_folder)
    if plot_folder is not None:
        _draw(fits, plot_folder)
    if export_folder is not None:
        from batterylab.cli.fitcheck import write_exports

        count = write_exports(fits, export_folder)
        click.echo(f"parameters of {count} fits in {export_folder}", err=True)
    compared = _compared(places, model, fits) if check else []
    if as_json:
        from batterylab.cli import echo_json

        echo_json({"schema": "batterylab.fits/1", "model": job.model,
                   "fits": [made.to_dict() for made in fits],
                   **({"pybamm": compared} if compared else {})})  # fmt: skip
    else:
        for line in _one_by_one(fits) if len(fits) <= FEW_FITS else _summary(fits):
            click.echo(line)
        for line in _comparison_lines(compared, fits):
            click.echo(line)
    _say_what_went_wrong(fits, check)
    _say_what_differs(compared)


def _draw(fits: Sequence["Fit"], folder: Path) -> None:
    from batterylab.cli.features import Bar
    from batterylab.fit.plot import plot_fit

    with Bar("Drawing fits") as bar:
        for number, made in enumerate(fits, 1):
            plot_fit(made, folder)
            bar.update(number, len(fits))
    click.echo(f"{len(fits)} pictures in {folder}", err=True)


def _compared(
    places: Sequence[Path], model: str, fits: Sequence["Fit"]
) -> list[dict[str, Any]]:  # fmt: skip
    if model not in ("spm", "spme", "dfn"):
        return []
    from batterylab.cli.fitcheck import compare

    return compare(places, fits)


def _comparison_lines(compared: list[dict[str, Any]], fits: Sequence["Fit"]) -> list[str]:
    if not compared:
        return []
    from batterylab.cli.fitcheck import lines_of

    return lines_of(compared, sum(made.converged for made in fits))


def _say_what_differs(compared: list[dict[str, Any]]) -> None:
    from batterylab.errors import NotMetError

    missed = [row for row in compared if not row["met"]]
    if missed:
        raise NotMetError(f"{len(missed)} of {len(compared)} fits differ from PyBaMM by more "
                          "than 1 mV")  # fmt: skip


def _settings(parameters: Sequence[str], step: int | None) -> dict[str, object]:
    from batterylab.errors import BatterylabError

    settings: dict[str, object] = {} if step is None else {"step": step}
    for text in parameters:
        for part in _parts(text):
            name, sign, value = part.partition("=")
            if not sign or not name.strip():
                raise BatterylabError(f"{part!r} is no setting", hint="write it as in pairs=1")
            settings[name.strip()] = value.strip()
    return settings


def _parts(text: str) -> list[str]:
    """Split at commas that stand in no parentheses: a circuit has some in p(a,b)."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _fits(
    place: Path,
    model: str,
    settings: dict[str, object],
    protocol: str,
    half_cells: Path | None,
    plot_folder: Path | None,
) -> tuple["Job", list["Fit"]]:
    from batterylab.cli.archive import archive_folder
    from batterylab.cli.features import Bar
    from batterylab.errors import BatterylabError
    from batterylab.fit.archivebatch import processors
    from batterylab.fit.store import archive_fits, prepare

    is_recording = place.is_file() and place.name != "study.yaml"
    folder = place.parent if place.name == "study.yaml" else place
    is_study = (folder / "study.yaml").is_file()
    if not is_recording and not archive_folder(folder).is_dir():
        raise BatterylabError(f"{place}: there is no such recording, archive or study")
    job = prepare(model, settings, _curves(model, half_cells),
                  folder / "results" if is_study else None, protocol)  # fmt: skip
    if plot_folder is not None:
        job.cache = None  # a kept fit has no curve
    if is_recording:
        from batterylab.cli.fitcheck import recording_at
        from batterylab.fit.models import fit_one

        recording = recording_at(place)
        return job, [fit_one(recording, job.settings, job.half_cells, job.tables)]
    with Bar(f"Fitting {model}") as bar:
        workers = 1 if plot_folder is not None else processors()  # curves stay in their process
        return job, archive_fits(archive_folder(folder), job, bar.update, workers=workers)


def _refuse_several(places: Sequence[Path]) -> None:
    from batterylab.errors import BatterylabError

    if len(places) > 1:
        raise BatterylabError(
            f"{len(places)} places to fit",
            hint="give one, or several recordings of one cell with --joint",
        )


def _curves(model: str, half_cells: Path | None) -> "HalfCells | None":
    from batterylab.errors import BatterylabError
    from batterylab.fit.halfcells import from_file

    if half_cells is not None and model != "ocv":
        raise BatterylabError("--half-cells belongs to --model ocv", hint="leave it out")
    return from_file(half_cells) if half_cells else None


def _joint(
    places: Sequence[Path], model: str, settings: dict[str, object], half_cells: Path | None
) -> tuple["Job", list["Fit"]]:
    from batterylab.cli.fitcheck import recording_at
    from batterylab.errors import BatterylabError
    from batterylab.fit.joint import fit_joint
    from batterylab.fit.store import prepare

    missing = next((place for place in places if not place.is_file()), None)
    if missing is not None:
        raise BatterylabError(f"{missing}: there is no such recording")
    job = prepare(model, settings, _curves(model, half_cells))
    recordings = [recording_at(place) for place in places]
    return job, [fit_joint(recordings, job.settings, half_cells=job.half_cells)]


def _one_by_one(fits: Sequence["Fit"]) -> list[str]:
    from batterylab.cli.features import with_uncertainty

    lines = []
    for made in fits:
        lines.append(
            f"{made.serial}, {made.model}, step {made.step}, seal {made.seal[:8]}: "
            f"{made.residual_text} over {made.rows} rows (worth {made.effective_rows:.0f})"
        )
        if not made.converged:
            lines.append(f"  did not converge: {made.reason}")
            continue
        if made.doubtful:
            lines.append(f"  doubtful: {made.doubtful}")
        for name, value in made.values.items():
            shown = with_uncertainty(value, made.standard_errors[name])
            mark = "  on a bound" if name in made.at_bound else ""
            lines.append(f"  {name:<24} {shown}{mark}{_profile_text(made, name)}")
        lines.append(f"  condition number         {made.condition_number:.3g}")
        lines += [f"  cannot tell apart: {', '.join(group)}" for group in made.cannot_tell_apart]
        lines += [f"  note: {note}" for note in made.notes]
    return lines


def _profile_text(made: "Fit", name: str) -> str:
    """Return the interval of a value by profile likelihood; an open end says so."""
    from math import isfinite

    if name not in made.profile:
        return ""
    low, high = (f"{end:.6g}" if isfinite(end) else "open" for end in made.profile[name])
    return f"  95 % profile {low} to {high}"


def _summary(fits: Sequence["Fit"]) -> list[str]:
    import numpy as np

    done = [made for made in fits if made.converged]
    if not done:
        return ["no fit converged"]
    lines = [f"{'parameter':<24}{'n':>6}{'mean':>12}{'sd':>12}{'standard error (median)':>26}"]
    for name in done[0].values:
        values = [made.values[name] for made in done if name in made.values]
        errors = np.array([made.standard_errors[name] for made in done if name in made.values])
        spread = f"{np.std(values, ddof=1):.4g}" if len(values) > 1 else "-"
        known = errors[np.isfinite(errors)]
        typical = f"{np.median(known):.3g}" if len(known) else "-"
        lines.append(
            f"{name:<24}{len(values):>6}{np.mean(values):>12.6g}{spread:>12}{typical:>26}"
        )
    middle = sorted(done, key=lambda made: np.nanmax([made.residual_mV, made.residual_percent]))
    doubtful = sum(bool(made.doubtful) for made in done)
    if doubtful:
        lines.append(f"{doubtful} of {len(done)} are doubtful and count in these figures")
    lines.append(f"residual {middle[len(done) // 2].residual_text} (median)")
    return lines


def _say_what_went_wrong(fits: Sequence["Fit"], check: bool) -> None:
    from batterylab.errors import NotMetError

    if not fits:
        click.echo("no recording holds what the model needs", err=True)
    failed = [f"{made.serial} ({made.seal[:8]}): {made.reason}" for made in fits
              if not made.converged]  # fmt: skip
    bound = [f"{made.serial} ({made.seal[:8]}): {', '.join(made.at_bound)}" for made in fits
             if made.converged and made.at_bound]  # fmt: skip
    doubts = [f"{made.serial} ({made.seal[:8]}): {made.doubtful}" for made in fits if made.doubtful]
    titled = (("did not converge", failed), ("doubtful", doubts), ("on a bound", bound))
    for title, lines in titled:
        for line in lines[:10]:
            click.echo(f"{title}: {line}", err=True)
        if len(lines) > 10:
            click.echo(f"{title}: {len(lines) - 10} more", err=True)
    if check and (failed or doubts or bound or not fits):
        raise NotMetError(
            f"{len(failed)} of {len(fits)} fits did not converge, {len(doubts)} are doubtful, "
            f"{len(bound)} ended on a bound"
        )
