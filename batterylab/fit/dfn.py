r"""The Doyle-Fuller-Newman model (`dfn`), fitted to recordings.

What the single-particle models leave out, the distribution of reaction and concentrations over
the electrodes' depth, is in the voltage from 1C on, and is most of it where one electrode runs
dry of salt. Rows, starts and bounds are those of `batterylab.fit.spm`; the model is in
`batterylab.fit.dfncell`.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from os import cpu_count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab._kernels import _dfn
from batterylab.errors import BatterylabError
from batterylab.fit.assemble import assemble, with_profile
from batterylab.fit.celltables import tables_of
from batterylab.fit.dfncell import NAMES, DfnCell, indices_of
from batterylab.fit.loss import SQUARES, Loss
from batterylab.fit.result import Curve, Fit
from batterylab.fit.settings import FitSettings
from batterylab.fit.solve import MOST_STEPS, TOLERANCE, Solution, solve
from batterylab.fit.spm import USUAL, DOUBT_mV, SpmSettings, bounds_of, derived, shown_of
from batterylab.fit.spmstart import starts_of
from batterylab.fit.spmwindow import SpmWindow, spm_window
from batterylab.fit.statistics import judge
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
    """Fit to a window; return the solution and all parameters at it.

    Parameters
    ----------
    cell, window
        The set and the rows.
    names : tuple of str
        What to fit.
    start : ndarray, shape (13,), optional
        All parameters to begin from; else those of `batterylab.fit.spmstart.starts_of`.

    Raises
    ------
    BatterylabError
        If no current flows, or there are too few rows.
    """
    amps = float(np.abs(window.history.data[1]).max())
    if not amps > 0:
        raise BatterylabError("no current flows in the window")
    index = indices_of(names)
    wholes = [start] if start is not None else _wholes(cell, window)
    base = wholes[0].copy()
    lower, upper = bounds_of(base, names, amps, NAMES)
    data, flags = window.history.data, window.history.flags

    def kernel(*work: Any) -> _dfn.Fit:
        steps = _dfn.Steps(data.shape[1])
        return _dfn.Fit(cell.kernel, data, flags, base, index, steps, *work)

    starts = np.array([whole[index] for whole in wholes])
    solution = solve(
        kernel, int(window.history.observed.sum()), np.clip(starts, lower, upper), lower, upper,
        most_steps=most_steps, tolerance=tolerance, loss=loss,
    )  # fmt: skip
    whole = base.copy()
    whole[index] = solution.parameters
    return solution, whole


def _wholes(cell: DfnCell, window: SpmWindow) -> list[Array]:
    """Return starts of all parameters: the single-particle models' for the first four."""
    _, starts = starts_of(cell, window, NAMES[:4])
    return [np.concatenate([four, cell.start[4:]]) for four in starts]


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
    solution, whole = solve_dfn(
        cell, window, settings.names_for(cell, window), most_steps=settings.most_steps,
        tolerance=settings.tolerance, loss=settings.chosen_loss,
    )  # fmt: skip
    return fit_of(recording, settings, window, cell, solution, whole)


def fit_of(
    recording: Recording, settings: DfnSettings, window: SpmWindow, cell: DfnCell,
    solution: Solution, whole: Array,
) -> Fit:  # fmt: skip
    """Put a solution and its judgement together."""
    names = settings.names_for(cell, window)
    judgement = judge(solution.noise_V, solution.jacobian, ~solution.at_bound)
    values, errors = derived(cell, names, solution, judgement, whole)
    for side in ("negative", "positive"):
        name, short = f"log_{side}_conductivity", f"{side}_solid_conductivity_factor"
        if name in names:
            place = names.index(name)
            values[short] = float(np.exp(whole[NAMES.index(name)]))
            errors[short] = values[short] * float(np.sqrt(judgement.covariance[place, place]))
    seen = window.history.observed
    volts = window.history.data[4][seen]
    curve = Curve(window.history.data[0][seen] / 3600.0, "time / h", volts,
                  volts + solution.residual_V)  # fmt: skip
    used = {
        **asdict(settings), "free": "+".join(names),
        "temperature_degC": round(cell.tables.temperature_K - 273.15, 3),
        "area_factor": cell.area_factor,
        "all_parameters": dict(zip(NAMES, (float(p) for p in whole), strict=True)),
    }  # fmt: skip
    made = assemble(
        settings.model, recording, window.first_step, names, solution, judgement, values, errors,
        used, curve, DOUBT_mV,
    )  # fmt: skip
    if settings.profile:
        shown = {name.replace("conductivity_factor", "solid_conductivity_factor"): rule
                 for name, rule in shown_of(names, cell).items()}  # fmt: skip
        made = with_profile(made, solution, judgement, shown)
    return replace(made, notes=(*made.notes, *window.notes))


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
