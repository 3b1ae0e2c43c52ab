"""Many recordings at once: single-particle fits in threads, each without the interpreter's lock."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from batterylab.errors import BatterylabError
from batterylab.fit.result import Fit
from batterylab.fit.solve import Array, Solution
from batterylab.fit.spm import SpmSettings, cell_for, fit_of, solve_spm
from batterylab.fit.spmcell import SpmCell
from batterylab.fit.spmwindow import SpmWindow, spm_window
from batterylab.recording import Recording

Progress = Callable[[int, int], None]
Solved = tuple[Solution, Array] | BatterylabError


def fit_many(
    recordings: Sequence[Recording],
    settings: SpmSettings,
    *,
    threads: int | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> list[Fit | BatterylabError]:
    """Fit a single-particle model to many recordings.

    Parameters
    ----------
    recordings : sequence of Recording
        What was measured.
    settings : SpmSettings
        How to fit.
    threads : int, optional
        As many as processors if not given. The kernel holds no lock of the interpreter.
    cache : Path, optional
        Folder that keeps the parameter set's tables.
    progress : callable, optional
        Called with how many recordings are done, and of how many.

    Returns
    -------
    list of Fit or BatterylabError
        In the order of the recordings; an error in the place of what does not suit.
    """
    cells: dict[tuple[float, float], SpmCell] = {}
    windows: list[SpmWindow | BatterylabError] = []
    for recording in recordings:
        try:
            window = spm_window(recording, settings.step, settings.points)
            if _key(window) not in cells:
                cells[_key(window)] = cell_for(settings, window, cache)
            windows.append(window)
        except BatterylabError as error:
            windows.append(error)

    def judged(place: int, one: Solved) -> Fit | BatterylabError:
        window = windows[place]
        if isinstance(one, BatterylabError) or isinstance(window, BatterylabError):
            return window if isinstance(window, BatterylabError) else BatterylabError(str(one))
        cell = cells[_key(window)]
        names = settings.names_for(cell, window)
        return fit_of(recordings[place], settings, window, cell, names, *one)

    suited = [place for place, one in enumerate(windows) if isinstance(one, SpmWindow)]
    chosen = [one for one in windows if isinstance(one, SpmWindow)]
    solved = solve_many([cells[_key(one)] for one in chosen], chosen, settings, threads, progress)
    found: dict[int, Solved] = dict(zip(suited, solved, strict=True))
    nothing = BatterylabError("does not suit")
    return [judged(place, found.get(place, nothing)) for place in range(len(windows))]


def _key(window: SpmWindow) -> tuple[float, float]:
    return round(window.temperature_degC), window.nominal_Ah


def solve_many(
    cells: Sequence[SpmCell],
    windows: Sequence[SpmWindow],
    settings: SpmSettings,
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[Solved]:
    """Fit to many windows in threads; the kernel holds no lock of the interpreter.

    Returns
    -------
    list
        Of solution and all parameters, or the error in the place of what cannot be fitted.
    """

    def work(place: int) -> Solved:
        try:
            return solve_spm(
                cells[place], windows[place],
                settings.names_for(cells[place], windows[place]), most_steps=settings.most_steps,
                tolerance=settings.tolerance,
            )  # fmt: skip
        except BatterylabError as error:
            return error

    results: list[Solved] = []
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for made in pool.map(work, range(len(windows))):
            results.append(made)
            if progress is not None:
                progress(len(results), len(windows))
    return results
