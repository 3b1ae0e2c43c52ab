"""Several recordings of one cell in one fit of a single-particle model.

All share the parameters; each begins in equilibrium, at a charge of its own that its voltage at
rest gives and that is fitted along (`charge_shift_1_Ah` for the second, and so on), since the
counters of two recordings have no common zero.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from batterylab.errors import BatterylabError
from batterylab.fit.result import Fit
from batterylab.fit.spm import SpmSettings, cell_for, fit_of, solve_spm
from batterylab.fit.spmcell import SHIFTS, History
from batterylab.fit.spmwindow import SpmWindow, spm_window
from batterylab.recording import Recording

#: time between two recordings; the cell rests, so that it does not matter
BETWEEN_s = 1.0


def joined(windows: Sequence[SpmWindow]) -> SpmWindow:
    """Return the rows of several recordings as one window.

    Raises
    ------
    BatterylabError
        If there is no window, or more than eight.
    """
    if not 1 <= len(windows) <= len(SHIFTS) + 1:
        raise BatterylabError(f"{len(windows)} recordings in one fit",
                              hint=f"at most {len(SHIFTS) + 1}")  # fmt: skip
    parts = [window.history.data.copy() for window in windows]
    for before, part in pairwise(parts):
        part[0] += before[0, -1] - part[0, 0] + BETWEEN_s
    flags = [window.history.flags + np.uint8(16 * k) for k, window in enumerate(windows)]
    for own in flags:
        own[0] |= 2  # each begins in equilibrium
    history = History(np.ascontiguousarray(np.hstack(parts)), np.concatenate(flags))
    sizes = [window.nominal_Ah for window in windows if math.isfinite(window.nominal_Ah)]
    return replace(
        windows[0], history=history, nominal_Ah=sizes[0] if sizes else math.nan,
        temperature_degC=float(np.median(history.data[3])) - 273.15,
        notes=tuple(dict.fromkeys(note for window in windows for note in window.notes)),
    )  # fmt: skip


def fit_joint(
    recordings: Sequence[Recording], settings: SpmSettings, cache: Path | None = None
) -> Fit:
    """Fit `spm` or `spme` to several recordings at once.

    Parameters
    ----------
    recordings : sequence of Recording
        Two to eight of one cell.
    settings : SpmSettings
        How to fit; the charges with which the second and later ones begin are fitted besides.
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
        If a recording has no discharge or pulse that begins in equilibrium.
    BatterylabError
        If the model takes one recording only, or there are fewer than two or more than eight.
    """
    if type(settings).__name__ not in ("SpmSettings", "SpmeSettings"):
        raise BatterylabError("several recordings in one fit: only with spm and spme")
    if len(recordings) < 2:
        raise BatterylabError("a joint fit wants two recordings or more")
    window = joined([spm_window(r, settings.step, settings.points) for r in recordings])
    cell = cell_for(settings, window, cache)
    names = (*settings.names_for(cell, window), *SHIFTS[: len(recordings) - 1])
    names = tuple(dict.fromkeys(names))
    solution, whole = solve_spm(
        cell, window, names, most_steps=settings.most_steps, tolerance=settings.tolerance,
    )  # fmt: skip
    made = fit_of(recordings[0], settings, window, cell, names, solution, whole)
    part = window.history.parts[window.history.observed]
    each = [
        {"serial": r.serial, "protocol": r.protocol, "seal": r.seal,
         "rows": int((part == k).sum()),
         "residual_mV": 1e3 * float(np.sqrt(np.mean(solution.residual_V[part == k] ** 2)))}
        for k, r in enumerate(recordings)
    ]  # fmt: skip
    seal = hashlib.sha256("".join(r.seal for r in recordings).encode()).hexdigest()
    serials = tuple(dict.fromkeys(r.serial for r in recordings))
    notes = [f"{one['serial']} {one['protocol']}: {one['residual_mV']:.2f} mV over "
             f"{one['rows']} rows" for one in each]  # fmt: skip
    if len(serials) > 1:
        notes.append("recordings of different cells share the parameters of one")
    return replace(made, serial="+".join(serials), seal=seal, notes=(*made.notes, *notes),
                   settings={**made.settings, "recordings": each})  # fmt: skip
