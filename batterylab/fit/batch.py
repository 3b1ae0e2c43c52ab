"""Many recordings in memory at once: their fits go to the kernels together.

Every fit waits for its kernel at the same points; what all wait for is handed over in one call a
thread, in which the interpreter's lock is not held, however many cells there are.
"""

from collections.abc import Sequence
from pathlib import Path

from batterylab.errors import BatterylabError
from batterylab.fit.archivebatch import processors
from batterylab.fit.circuit import CircuitSettings, circuit_fit
from batterylab.fit.halfcells import HalfCells, from_parameter_set
from batterylab.fit.ocv import OcvSettings, ocv_fit
from batterylab.fit.result import Fit
from batterylab.fit.settings import FitSettings
from batterylab.fit.solve import Steps, together
from batterylab.fit.spm import SpmSettings, spm_fit
from batterylab.recording import Recording


def fit_many(
    recordings: Sequence[Recording],
    settings: FitSettings,
    *,
    half_cells: HalfCells | None = None,
    threads: int | None = None,
    cache: Path | None = None,
) -> list[Fit | BatterylabError]:
    """Fit `ocv`, `circuit`, `spm` or `spme` to many recordings.

    Parameters
    ----------
    recordings : sequence of Recording
        What was measured.
    settings : OcvSettings, CircuitSettings, SpmSettings or SpmeSettings
        How to fit.
    half_cells : HalfCells, optional
        For `ocv`; else those of the setting `parameter_set`.
    threads : int, optional
        As many as processors if not given.
    cache : Path, optional
        Folder that keeps the parameter set's tables.

    Returns
    -------
    list of Fit or BatterylabError
        In the order of the recordings; an error in the place of what does not suit.

    Raises
    ------
    BatterylabError
        If the model is another one.
    """
    if isinstance(settings, OcvSettings):
        curves = half_cells or from_parameter_set(settings.parameter_set, cache)
        fits: list[Steps[Fit]] = [ocv_fit([one], curves, settings) for one in recordings]
    elif isinstance(settings, CircuitSettings):
        fits = [circuit_fit(one, settings) for one in recordings]
    elif isinstance(settings, SpmSettings) and settings.model != "dfn":
        fits = [spm_fit(one, settings, cache) for one in recordings]
    else:
        raise BatterylabError("many recordings at once: only with ocv, circuit, spm and spme")
    return together(fits, threads or processors())
