"""What meters read during a run: resistances, voltages and the ends of spectra."""

import math
from typing import Any

import numpy as np

from batterylab.features.accuracy import NOT_STATED, accuracy_of
from batterylab.features.feature import Feature
from batterylab.recording import Recording

WORDS = {"ac_resistance": "AC resistance", "ocv": "voltage without current", "eis": "impedance"}


def reading_features(recording: Recording) -> list[Feature]:
    """Return what `measure` steps read; the uncertainty is that of a single reading.

    A reading is called by the name that the protocol gives it: ``r_ac_mOhm``, ``before_V``; a
    spectrum gives the real part at its highest and lowest frequency, ``sweep_high_mOhm`` and
    ``sweep_low_mOhm``. The last reading of a name counts.
    """
    found: dict[str, Feature] = {}
    for reading in recording.provenance.get("readings") or []:
        name, step = reading.get("measure"), int(reading["step_index"])
        if not name:
            continue
        by = reading.get("meter") or {}
        method = WORDS[reading["what"]] + (f", read by {by['model']}" if by.get("model") else "")
        if reading["what"] == "ocv":
            told = recording.provenance.get("accuracy")
            features = [_feature(f"{name}_V", reading["voltage_V"], "voltage_V", 1.0, method,
                                 told, step)]  # fmt: skip
        elif reading["what"] == "ac_resistance":
            text = f"{method} at {reading['frequency_Hz']:g} Hz"
            features = [_feature(f"{name}_mOhm", reading["resistance_ohm"], "resistance_ohm", 1e3,
                                 text, reading.get("accuracy"), step)]  # fmt: skip
        else:
            features = _ends(recording, reading, method, step)
        found |= {feature.name: feature for feature in features}
    return list(found.values())


def _ends(
    recording: Recording, reading: dict[str, Any], method: str, step: int
) -> list[Feature]:
    """Return the real part of a spectrum at both of its ends."""
    if "frequency_Hz" not in recording.columns:
        return []
    rows = recording.steps[step].rows
    hertz = recording.columns["frequency_Hz"][rows]
    ohms = recording.columns["impedance_real_ohm"][rows]
    known = np.flatnonzero(np.isfinite(hertz))
    if not len(known):
        return []
    picks = (("high", known[np.argmax(hertz[known])]), ("low", known[np.argmin(hertz[known])]))
    return [
        _feature(f"{reading['measure']}_{word}_mOhm", float(ohms[k]), "resistance_ohm", 1e3,
                 f"{method}, real part at {hertz[k]:g} Hz", reading.get("accuracy"), step)
        for word, k in picks
    ]  # fmt: skip


def _feature(
    name: str, value: float, quantity: str, factor: float, method: str, told: Any, step: int
) -> Feature:
    accuracy = accuracy_of(told, quantity)
    uncertainty = factor * accuracy.at(value) if accuracy.is_known else math.nan
    method += "" if accuracy.is_known else f"; {NOT_STATED}"
    return Feature(name, factor * value, uncertainty, method, (step,))
