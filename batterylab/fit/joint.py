"""Several recordings of one cell in one fit.

All share the parameters, but for what each begins with. In `ocv`, `spm`, `spme` and `dfn` that is a
charge of its own, since the counters of two recordings have no common zero: found from the voltage
and fitted along (`charge_shift_1_Ah` for the second, and so on). In `circuit` each pulse keeps its
own open-circuit voltage and slope.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from batterylab.errors import BatterylabError
from batterylab.fit import dfn
from batterylab.fit.assemble import of_several
from batterylab.fit.circuit import CircuitSettings
from batterylab.fit.circuitpulses import fit_pulses
from batterylab.fit.dfncell import DfnCell
from batterylab.fit.halfcells import HalfCells, from_parameter_set
from batterylab.fit.ocv import OcvSettings, ocv_fit
from batterylab.fit.result import Fit
from batterylab.fit.settings import FitSettings
from batterylab.fit.solve import alone
from batterylab.fit.spm import SpmSettings, cell_for, fit_of, solve_spm
from batterylab.fit.spmcell import SHIFTS
from batterylab.fit.spmwindow import joined, spm_window
from batterylab.recording import Recording


def fit_joint(
    recordings: Sequence[Recording],
    settings: FitSettings,
    *,
    half_cells: HalfCells | None = None,
    cache: Path | None = None,
) -> Fit:
    """Fit `ocv`, `circuit`, `spm`, `spme` or `dfn` to several recordings at once.

    Parameters
    ----------
    recordings : sequence of Recording
        Two to eight of one cell.
    settings : OcvSettings, CircuitSettings, SpmSettings, SpmeSettings or DfnSettings
        How to fit.
    half_cells : HalfCells, optional
        For `ocv`; else those of the setting `parameter_set`.
    cache : Path, optional
        Folder that keeps the parameter set's tables.

    Returns
    -------
    Fit
        Its setting `recordings` says for each recording serial, protocol, seal, rows and
        residual; its seal is the SHA-256 of theirs. Every row counts alike.

    Raises
    ------
    NotSuitedError
        If a recording does not hold what the model needs.
    BatterylabError
        If the model takes one recording only, or there are fewer than two or more than eight.
    """
    if not 2 <= len(recordings) <= len(SHIFTS) + 1:
        raise BatterylabError(f"a joint fit takes two recordings to {len(SHIFTS) + 1}, not "
                              f"{len(recordings)}")  # fmt: skip
    if isinstance(settings, OcvSettings):
        curves = half_cells or from_parameter_set(settings.parameter_set, cache)
        return alone(ocv_fit(recordings, curves, settings))
    if isinstance(settings, CircuitSettings):
        return fit_pulses(recordings, settings)
    if not isinstance(settings, SpmSettings):
        raise BatterylabError("several recordings in one fit: only with ocv, circuit, spm, spme "
                              "and dfn")  # fmt: skip
    window = joined([spm_window(r, settings.step, settings.points) for r in recordings])
    cell = (dfn.cell_for(settings, window, cache) if isinstance(settings, dfn.DfnSettings)
            else cell_for(settings, window, cache))  # fmt: skip
    names = (*settings.names_for(cell, window), *SHIFTS[: len(recordings) - 1])
    names = tuple(dict.fromkeys(names))
    how: dict[str, Any] = {"most_steps": settings.most_steps, "tolerance": settings.tolerance,
                           "loss": settings.chosen_loss}  # fmt: skip
    solution, whole = (
        dfn.solve_dfn(cell, window, names, **how)
        if isinstance(cell, DfnCell)
        else solve_spm(cell, window, names, **how)
    )
    made = fit_of(recordings[0], settings, window, cell, names, solution, whole)
    part = window.history.parts[window.history.observed]
    return of_several(made, recordings, part, solution.residual_V)
