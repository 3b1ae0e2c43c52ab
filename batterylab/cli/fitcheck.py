"""What `batterylab fit` does with PyBaMM: check single-particle fits, and export them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batterylab.fit.result import Fit
    from batterylab.recording import Recording

#: of many fits this many are simulated again: first, last and between
MOST_CHECKS = 3
PARTICLE_MODELS = ("spm", "spme", "dfn")


def recording_at(place: Path) -> "Recording":
    """Read an archived recording, or another file as an import would."""
    from batterylab.archive import read
    from batterylab.importers.build import Stated, recording_of

    with place.open("rb") as stream:
        is_ours = stream.read(8) == b"\x89HDF\r\n\x1a\n"
    return read(place) if is_ours else recording_of(place, Stated(serial=place.stem))


def reader_of(places: Sequence[Path]) -> Callable[["Fit"], "list[Recording]"]:
    """Return a function that reads the recordings of a fit, from files, an archive or a study."""
    from batterylab.archive import find, read
    from batterylab.cli.archive import archive_folder
    from batterylab.errors import BatterylabError

    if places[0].is_file() and places[0].name != "study.yaml":
        return lambda _: [recording_at(place) for place in places]
    folder = places[0].parent if places[0].name == "study.yaml" else places[0]
    paths = {entry.seal: entry.path for entry in find(archive_folder(folder))}

    def by_seal(fit: "Fit") -> "list[Recording]":
        if fit.seal not in paths:
            raise BatterylabError(f"the archive holds no recording with seal {fit.seal[:8]}")
        return [read(paths[fit.seal])]

    return by_seal


def compare(places: Sequence[Path], fits: Sequence["Fit"]) -> list[dict[str, Any]]:
    """Simulate some single-particle fits again in PyBaMM; return the differences in mV."""
    from batterylab.cli.features import Bar
    from batterylab.fit.spmexport import check

    done = [fit for fit in fits if fit.converged and fit.model in PARTICLE_MODELS]
    if not done:
        return []
    reader, found = reader_of(places), []
    numbers = {round(i * (len(done) - 1) / max(MOST_CHECKS - 1, 1)) for i in range(MOST_CHECKS)}
    with Bar("Simulating in PyBaMM") as bar:
        for number, chosen in enumerate(sorted(numbers), 1):
            fit = done[chosen]
            made = check(fit, reader(fit))
            found.append({
                "serial": fit.serial, "seal": fit.seal, "largest_mV": made.largest_mV,
                "rms_mV": made.rms_mV, "rows": made.rows, "met": made.is_met,
            })  # fmt: skip
            bar.update(number, len(numbers))
    return found


def lines_of(found: Sequence[dict[str, Any]], of: int) -> list[str]:
    """Return one line a comparison, and one that says how many fits were left out."""
    lines = [
        f"PyBaMM {row['serial']} ({row['seal'][:8]}): largest difference {row['largest_mV']:.3f} "
        f"mV, rms {row['rms_mV']:.3f} mV over {row['rows']} rows"
        for row in found
    ]
    if found and of > len(found):
        lines.append(f"PyBaMM: {len(found)} of {of} fits were simulated again")
    return lines


def write_exports(fits: Sequence["Fit"], folder: Path) -> int:
    """Write what each converged fit changes in its parameter set, and its BPX; count the fits."""
    import json

    import click

    from batterylab.errors import BatterylabError
    from batterylab.features.store import write_whole
    from batterylab.fit.bpxexport import bpx_of
    from batterylab.fit.spmexport import export

    count = 0
    for fit in fits:
        if not fit.converged:
            continue
        serial = "".join(c if c.isalnum() or c in "-_.+" else "-" for c in fit.serial)
        path = folder / f"{serial}_{fit.seal[:8] or 'unsealed'}_{fit.model}.json"
        write_whole(path, json.dumps(export(fit).to_dict(), indent=1) + "\n")
        try:
            content = bpx_of(fit)
        except BatterylabError as error:
            click.echo(f"{fit.serial}: no BPX: {error.message}", err=True)
        else:
            write_whole(path.with_suffix(".bpx.json"), json.dumps(content, indent=1) + "\n")
        count += 1
    return count
