"""A whole archive at once: every recording is read once and fitted with all models asked for.

Work is shared among processes, a handful of recordings at a time, so that memory stays level.
What was fitted before is taken from the results; a recording that cannot be fitted becomes a
result that says so, and the others go on.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from batterylab.archive import ArchiveEntry, entry, find, read
from batterylab.errors import BatterylabError
from batterylab.fit.result import Fit
from batterylab.fit.store import Job, failed_fit, kept_or_none, store_fit, store_unsuited
from batterylab.fit.window import NotSuitedError
from batterylab.recording import Recording

Progress = Callable[[int, int], None]
Order = tuple[str, str, str]
#: of one recording: where it stands, and its fits, one a job
Found = tuple[Order, list[Fit | None]]

#: recordings that a process takes at a time, and fewest that are worth a second process
HANDFUL = 16
FEW = 48


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(len(os.sched_getaffinity(0)), 1)
    return os.cpu_count() or 1


def fit_archive(
    archive: Path, jobs: Sequence[Job], progress: Progress | None = None, *, workers: int = 1
) -> Iterator[list[Fit | None]]:
    """Fit models to every recording of an archive; yields as it goes, in no certain order.

    Parameters
    ----------
    archive : Path
        Folder of recordings.
    jobs : sequence of Job
        From `batterylab.fit.store.prepare`; results are kept where a job says.
    progress : callable, optional
        Called with how many recordings are done, and of how many.
    workers : int
        Processes. With more than one, a script of your own must begin under
        ``if __name__ == "__main__":``, as always with processes.

    Yields
    ------
    list of Fit or None
        One a job; None where the recording does not hold what the model needs. A recording
        that cannot be fitted gives a `Fit` that did not converge, with the reason.

    Raises
    ------
    BatterylabError
        If the archive does not exist, or a file in it is not a recording.
    """
    for _, made in _found(archive, jobs, progress, workers):
        yield made


def fits_in_order(
    archive: Path, jobs: Sequence[Job], progress: Progress | None = None, *, workers: int = 1
) -> list[list[Fit]]:
    """Return the fits of `fit_archive` by job, in the order of the archive."""
    found = sorted(_found(archive, jobs, progress, workers), key=lambda one: one[0])
    return [
        [made for _, fits in found if (made := fits[place]) is not None]
        for place in range(len(jobs))
    ]


def _found(
    archive: Path, jobs: Sequence[Job], progress: Progress | None, workers: int
) -> Iterator[Found]:
    folder = Path(archive)
    if not folder.is_dir():
        raise BatterylabError(f"{folder}: there is no such archive",
                              hint="`batterylab run` and `batterylab import` make one")  # fmt: skip
    paths = [path for path in sorted(folder.glob("*/*.h5")) if not path.name.startswith(".")]
    if workers <= 1 or len(paths) < FEW:
        parts: Iterator[list[Found]] = ([_one(known, jobs)] for known in find(folder))
    else:
        parts = _shared(paths, list(jobs), workers)
    done = 0
    for part in parts:
        for one in part:
            done += 1
            yield one
            if progress is not None:
                progress(done, len(paths))


def _shared(paths: list[Path], jobs: list[Job], workers: int) -> Iterator[list[Found]]:
    """Yield what processes find; never more handfuls are under way than they can take soon."""
    handfuls = (paths[i : i + HANDFUL] for i in range(0, len(paths), HANDFUL))
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin) as pool:
        running: set[Future[list[Found]]] = set()
        for handful in handfuls:
            running.add(pool.submit(_handful, handful, jobs))
            if len(running) >= 3 * workers:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)


def _begin() -> None:
    """Keep the libraries of a worker to one thread: there are as many workers as processors."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def _handful(paths: list[Path], jobs: list[Job]) -> list[Found]:
    found = []
    for path in paths:
        order, made = _one(entry(path), jobs)
        found.append((order, [fit and replace(fit, curve=None) for fit in made]))
    return found


def _one(known: ArchiveEntry, jobs: Sequence[Job]) -> Found:
    """Return the fits to a recording, which is read once if any of them is to be made."""
    recording: Recording | None = None
    fits: list[Fit | None] = []
    for job in jobs:
        if job.protocol not in ("", known.protocol):
            fits.append(None)
            continue
        is_kept, kept = kept_or_none(known, job)
        if not is_kept:
            try:
                recording = recording or read(known.path)
                kept = store_fit(job.fit(recording), known, job)
            except NotSuitedError as error:
                store_unsuited(error, known, job)
            except (BatterylabError, ArithmeticError, ValueError) as error:
                kept = failed_fit(known, job, str(error))
        fits.append(kept)
    return (known.serial, known.start_utc, known.seal), fits
