"""Fits beside the archive: one JSON file a fit, so that only what changed is fitted again.

``results/fits/<16 of seal>_<model>_<12 of key>.json``, where the key covers model, version of
kernels and formulas, settings and half-cell curves. A recording that does not hold what the
model needs leaves a file that says so.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batterylab.errors import BatterylabError
from batterylab.features.store import write_whole
from batterylab.fit.celltables import TABLES_VERSION, bpx_digest
from batterylab.fit.halfcells import HalfCells, from_parameter_set
from batterylab.fit.impedance import ImpedanceSettings
from batterylab.fit.models import Settings, fit_one, settings_of
from batterylab.fit.ocv import OcvSettings
from batterylab.fit.result import SCHEMA, VERSION, Fit
from batterylab.fit.spm import SpmSettings
from batterylab.fit.window import NotSuitedError
from batterylab.recording import Recording

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
    workers: int = 1,
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
    workers : int
        Processes; see `batterylab.fit.archivebatch.fit_archive`.

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
    return archive_fits(study.archive, job, progress, workers=workers)


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
    protocol : str
        If given, only recordings of this protocol are fitted.
    """

    def __init__(
        self, model: str, settings: Settings, half_cells: HalfCells | None, cache: Path | None,
        protocol: str = "",
    ) -> None:  # fmt: skip
        self.model = model
        self.protocol = protocol
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
            if settings.parameter_set.lower().endswith(".json"):
                content["tables"].append(bpx_digest(settings.parameter_set))
        self.key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def fit(self, recording: Recording) -> Fit:
        """Fit the model to a recording."""
        return fit_one(recording, self.settings, self.half_cells, self.tables)

    def path(self, seal: str) -> Path | None:
        """Return where a recording's fit is kept."""
        return self.cache / f"{seal[:16]}_{self.model}_{self.key}.json" if self.cache else None


def prepare(
    model: str,
    settings: Mapping[str, Any] | None = None,
    half_cells: HalfCells | None = None,
    results: Path | None = None,
    protocol: str = "",
) -> Job:
    """Return what is needed to fit a model to many recordings; see `study_fits` and `Job`."""
    chosen = settings_of(model, settings)
    if not isinstance(chosen, OcvSettings):
        half_cells = None
    elif half_cells is None:
        half_cells = from_parameter_set(chosen.parameter_set, results and results / "half_cells")
    return Job(model, chosen, half_cells, results and results / "fits", protocol)


def archive_fits(
    archive: Path, job: Job, progress: Progress | None = None, *, workers: int = 1
) -> list[Fit]:
    """Return the fits to every recording of an archive that suits the model.

    Parameters
    ----------
    workers : int
        Processes; see `batterylab.fit.archivebatch.fit_archive`.
    """
    from batterylab.fit.archivebatch import fits_in_order

    return fits_in_order(archive, [job], progress, workers=workers)[0]


def kept_or_none(entry: "ArchiveEntry", job: Job) -> tuple[bool, Fit | None]:
    """Return whether there is a result of a recording, and the fit if it suited the model."""
    path = job.path(entry.seal)
    return _read(path, entry.seal) if path is not None and path.exists() else (False, None)


def store_fit(made: Fit, entry: "ArchiveEntry", job: Job) -> Fit:
    """Keep a fit among the results and return it."""
    _keep(job.path(entry.seal), made.to_dict())
    return made


def store_unsuited(error: NotSuitedError, entry: "ArchiveEntry", job: Job) -> None:
    """Keep that a recording does not hold what the model needs."""
    _keep(job.path(entry.seal), {**_nothing(entry, job), "not_suited": error.message})


def failed_fit(entry: "ArchiveEntry", job: Job, reason: str) -> Fit:
    """Return, and keep, a result that says why a recording could not be fitted."""
    failed = Fit(
        model=job.model, serial=entry.serial, seal=entry.seal, step=-1, values={},
        standard_errors={}, parameters=(), correlation=[], residual_mV=math.nan,
        converged=False, reason=reason, at_bound=(), condition_number=math.inf,
        cannot_tell_apart=(), rows=0, effective_rows=0.0, degrees_of_freedom=0.0,
        settings=asdict(job.settings),
    )  # fmt: skip
    return store_fit(failed, entry, job)


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
