r"""The Doyle-Fuller-Newman model (`dfn`), fitted to recordings.

What the single-particle models leave out, the distribution of reaction and concentrations over
the electrodes' depth, is in the voltage from 1C on, and is most of it where one electrode runs
dry of salt. Rows, starts and bounds are those of `batterylab.fit.spm`; the model is in
`batterylab.fit.dfncell`.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab._kernels import _dfn
from batterylab.errors import BatterylabError
from batterylab.fit.celltables import tables_of
from batterylab.fit.dfncell import DfnCell, indices_of
from batterylab.fit.loss import SQUARES, Loss
from batterylab.fit.result import Fit
from batterylab.fit.settings import FitSettings
from batterylab.fit.solve import MOST_STEPS, TOLERANCE, Solution, alone
from batterylab.fit.spm import USUAL, SpmSettings, fit_of, window_steps
from batterylab.fit.spmwindow import SpmWindow, spm_window
from batterylab.recording import Recording

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DfnSettings(SpmSettings):
    """How a `dfn` is fitted; see `SpmSettings`. Names as in `batterylab.fit.dfncell`."""

    def __post_init__(self) -> None:
        FitSettings.__post_init__(self)
        if self.points < 10:
            raise BatterylabError("points must be at least 10")
        indices_of(self.names)

    @property
    def model(self) -> str:
        """The model's name."""
        return "dfn"


def solve_dfn(
    cell: DfnCell,
    window: SpmWindow,
    names: tuple[str, ...] = USUAL,
    *,
    most_steps: int = MOST_STEPS,
    tolerance: float = TOLERANCE,
    start: Array | None = None,
    loss: Loss = SQUARES,
) -> tuple[Solution, Array]:
    """Fit to a window, as `batterylab.fit.spm.solve_spm`; `start` is of shape (20,), too."""
    data, flags = window.history.data, window.history.flags

    def kernel(base: Array, index: NDArray[np.int32]) -> Callable[..., _dfn.Fit]:
        def made(*work: Any) -> _dfn.Fit:
            steps = _dfn.Steps(data.shape[1])
            return _dfn.Fit(cell.kernel, data, flags, base, index, steps, *work)

        return made

    return alone(window_steps(kernel, cell, window, names, most_steps, tolerance, start, loss))


def cell_for(settings: DfnSettings, window: SpmWindow, cache: Path | None = None) -> DfnCell:
    """Return the set's cell in the recording's size, its tables at the temperature to 1 K."""
    kelvin = round(window.temperature_degC) + 273.15
    tables = tables_of(settings.parameter_set, kelvin, cache)
    nominal_Ah = window.nominal_Ah
    factor = nominal_Ah / tables.numbers["capacity_Ah"] if nominal_Ah > 0 else 1.0
    return DfnCell(tables, area_factor=factor)


def fit_dfn(recording: Recording, settings: DfnSettings, cache: Path | None = None) -> Fit:
    """Fit the Doyle-Fuller-Newman model to a recording.

    Parameters
    ----------
    cache : Path, optional
        Folder that keeps the parameter set's tables.

    Raises
    ------
    NotSuitedError
        If the recording has no discharge or pulse that begins in equilibrium.
    """
    window = spm_window(recording, settings.step, settings.points)
    cell = cell_for(settings, window, cache)
    names = settings.names_for(cell, window)
    solution, whole = solve_dfn(
        cell, window, names, most_steps=settings.most_steps, tolerance=settings.tolerance,
        loss=settings.chosen_loss,
    )  # fmt: skip
    return fit_of(recording, settings, window, cell, names, solution, whole)


def solve_many(
    cells: Sequence[DfnCell],
    windows: Sequence[SpmWindow],
    names: tuple[str, ...] = USUAL,
    threads: int | None = None,
) -> list[tuple[Solution, Array] | BatterylabError]:
    """Fit to many windows in threads; the kernel holds no lock of the interpreter.

    Returns
    -------
    list
        Of solution and all parameters, or the error in the place of what cannot be fitted.
    """

    def work(place: int) -> tuple[Solution, Array] | BatterylabError:
        try:
            return solve_dfn(cells[place], windows[place], names)
        except BatterylabError as error:
            return error

    with ThreadPoolExecutor(threads or cpu_count() or 1) as pool:
        return list(pool.map(work, range(len(windows))))
