"""Fits beside the archive: one JSON file a fit, so that only what changed is fitted again.

``results/fits/<16 of seal>_<model>_<12 of key>.json``, where the key covers model, version of
kernels and formulas, settings and half-cell curves. A recording that does not hold what the
model needs leaves a file that says so.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batterylab.errors import BatterylabError
from batterylab.features.store import write_whole
from batterylab.fit.celltables import TABLES_VERSION
from batterylab.fit.halfcells import HalfCells, from_parameter_set
from batterylab.fit.impedance import ImpedanceSettings
from batterylab.fit.models import Settings, fit_one, settings_of
from batterylab.fit.ocv import OcvSettings
from batterylab.fit.result import SCHEMA, VERSION, Fit
from batterylab.fit.spm import SpmSettings
from batterylab.fit.window import NotSuitedError

if TYPE_CHECKING:
    from batterylab.archive import ArchiveEntry
    from batterylab.study import Study

Progress = Callable[[int, int], None]


def study_fits(
    study: "Study",
    model: str,
    progress: Progress | None = None,
    *,
    half_cells: HalfCells | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[Fit]:
    """Return a model's fits to every recording of a study that suits it.

    Parameters
    ----------
    study : Study
        Its archive is read; fits that were made before are taken from its results.
    model : str
        ``ocv``, ``circuit``, ``spm``, ``spme`` or ``impedance``.
    progress : callable, optional
        Called with how many recordings are done, and of how many.
    half_cells : HalfCells, optional
        For ``ocv``; else those of the setting `parameter_set`.
    settings : mapping, optional
        See `settings_of`.

    Returns
    -------
    list of Fit
        In the order of the archive. The study's log says which recordings are valid.

    Raises
    ------
    BatterylabError
        If the archive, model or settings are wrong.
    """
    job = prepare(model, settings, half_cells, study.results)
    return archive_fits(study.archive, job, progress)


class Job:
    """A model with its settings, curves and the folder that keeps its results.

    Attributes
    ----------
    settings : OcvSettings, CircuitSettings, SpmSettings or ImpedanceSettings
        How to fit.
    half_cells : HalfCells or None
        For ``ocv``.
    cache : Path or None
        Folder of fits; nothing is kept without it.
    tables : Path or None
        Folder of parameter sets' tables.
    """

    def __init__(
        self, model: str, settings: Settings, half_cells: HalfCells | None, cache: Path | None
    ) -> None:
        self.model = model
        self.settings = settings
        self.half_cells = half_cells
        self.cache = cache
        self.tables = cache.parent / "half_cells" if cache else None
        content: dict[str, Any] = {
            "model": model,
            "version": VERSION,
            "settings": asdict(settings),
            "half_cells": half_cells.digest if half_cells else None,
        }
        if isinstance(settings, SpmSettings) or (
            isinstance(settings, ImpedanceSettings) and settings.is_model
        ):
            content["tables"] = [TABLES_VERSION, metadata.version("pybamm")]
        self.key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def path(self, seal: str) -> Path | None:
        """Return where a recording's fit is kept."""
        return self.cache / f"{seal[:16]}_{self.model}_{self.key}.json" if self.cache else None


def prepare(
    model: str,
    settings: Mapping[str, Any] | None = None,
    half_cells: HalfCells | None = None,
    results: Path | None = None,
) -> Job:
    """Return what is needed to fit a model to many recordings; see `study_fits`."""
    chosen = settings_of(model, settings)
    if not isinstance(chosen, OcvSettings):
        half_cells = None
    elif half_cells is None:
        half_cells = from_parameter_set(chosen.parameter_set, results and results / "half_cells")
    return Job(model, chosen, half_cells, results and results / "fits")


def archive_fits(archive: Path, job: Job, progress: Progress | None = None) -> list[Fit]:
    """Return the fits to every recording of an archive that suits the model."""
    from batterylab.archive import find

    entries = find(archive)
    fits = []
    for number, entry in enumerate(entries, 1):
        made = fit_of_entry(entry, job)
        if made is not None:
            fits.append(made)
        if progress is not None:
            progress(number, len(entries))
    return fits


def fit_of_entry(entry: "ArchiveEntry", job: Job) -> Fit | None:
    """Return the fit to one archived recording, or None if the recording does not suit."""
    from batterylab.archive import read

    path = job.path(entry.seal)
    if path is not None and path.exists():
        known, kept = _read(path, entry.seal)
        if known:
            return kept
    try:
        made = fit_one(read(entry.path), job.settings, job.half_cells, job.tables)
    except NotSuitedError as error:
        _keep(path, {**_nothing(entry, job), "not_suited": error.message})
        return None
    _keep(path, made.to_dict())
    return made


def _nothing(entry: "ArchiveEntry", job: Job) -> dict[str, Any]:
    return {"schema": SCHEMA, "model": job.model, "seal": entry.seal, "version": VERSION}


def _keep(path: Path | None, data: Mapping[str, Any]) -> None:
    if path is not None:
        write_whole(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _read(path: Path, seal: str) -> tuple[bool, Fit | None]:
    """Return whether a file holds a result of this recording, and the fit if there is one."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if (data["schema"], data["version"], data["seal"]) != (SCHEMA, VERSION, seal):
            return False, None
        return True, None if "not_suited" in data else Fit.from_dict(data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BatterylabError):
        return False, None
