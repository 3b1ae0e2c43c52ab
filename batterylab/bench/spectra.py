"""What meters read during a run, placed in its recording."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab.recording import StepRow

COLUMNS = ("frequency_Hz", "impedance_real_ohm", "impedance_imaginary_ohm")
Spectra = dict[int, NDArray[np.float64]]


def readings_of(
    events: list[dict[str, Any]], steps: list[StepRow], columns: dict[str, Any],
    kept: NDArray[np.int64],
) -> tuple[list[dict[str, Any]], Spectra]:  # fmt: skip
    """Return what each `measure` step read, and the spectra by step.

    Parameters
    ----------
    events : list of dict
        Of one channel's journal.
    steps : list of StepRow
        As carried out.
    columns : dict
        Of the recording.
    kept : ndarray of int
        The journal's numbers of the steps that left rows, in order.

    Returns
    -------
    (list of dict, dict of int to ndarray)
        ``step_index what measure`` with the value; frequency, real and imaginary part in rows.
    """
    found: dict[int, dict[str, Any]] = {}
    spectra: Spectra = {}
    kinds = {event["first"] + k: step.get("read") for event in events if event["what"] == "segment"
             for k, step in enumerate(event["steps"])}  # fmt: skip
    for new, number in enumerate(kept):
        if kinds.get(int(number)) == "ocv":
            volts = float(columns["voltage_V"][steps[new].last_row])
            found[new] = {"step_index": new, "what": "ocv", "measure": steps[new].measure,
                          "voltage_V": volts}  # fmt: skip
    for event in events:
        if event["what"] != "reading":
            continue
        new = int(np.searchsorted(kept, event["step"]))
        if new >= len(kept) or kept[new] != event["step"]:
            continue
        reading = {"step_index": new, "what": event["read"], "measure": event["measure"],
                   **{key: event[key] for key in ("meter", "through", "accuracy", "waited_s")},
                   "voltage_V": event["voltage_V"][0]}  # fmt: skip
        if event["read"] == "ac_resistance":
            reading["frequency_Hz"] = event["frequency_Hz"][0]
            reading["resistance_ohm"] = event["real_ohm"][0]
        else:
            spectra[new] = np.array([event[key] for key in
                                     ("frequency_Hz", "real_ohm", "imaginary_ohm")], float).T
        found[new] = reading  # a reading that was begun anew counts with its last try
    return [found[step] for step in sorted(found)], spectra


def with_spectra(
    columns: dict[str, Any], steps: list[StepRow], spectra: Spectra
) -> list[StepRow]:
    """Put the rows of spectra behind those of their steps, in place; return the steps moved."""
    if not spectra:
        return steps
    moved = []
    values = np.full((len(columns["step_index"]), len(COLUMNS)), np.nan)
    order = np.arange(len(values))
    pieces, more = [], []
    shift = at = 0
    for step in steps:
        pieces.append(order[at : step.last_row + 1])
        more.append(values[at : step.last_row + 1])
        at = step.last_row + 1
        rows = spectra.get(step.step_index)
        count = 0 if rows is None else len(rows)
        if rows is not None:
            pieces.append(np.full(count, step.last_row))
            more.append(rows)
        moved.append(replace(step, first_row=step.first_row + shift,
                             last_row=step.last_row + shift + count))  # fmt: skip
        shift += count
    pieces.append(order[at:])
    more.append(values[at:])
    chosen = np.concatenate(pieces)
    for name in list(columns):
        columns[name] = columns[name][chosen]
    columns.update(zip(COLUMNS, np.concatenate(more).T.copy(), strict=True))
    return moved
