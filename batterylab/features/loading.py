"""AC resistance and open-circuit voltage as read when the cell was loaded."""

import math
from collections.abc import Mapping

from batterylab.features.accuracy import NOT_STATED, accuracy_of
from batterylab.features.feature import Feature
from batterylab.recording import Recording

#: feature -> (key in the loading record, name of the accuracy, factor to the feature's unit)
READINGS = {
    "ac_resistance_mOhm": ("ac_resistance_mOhm", "resistance_ohm", 1e3),
    "ocv_V": ("ocv_V", "voltage_V", 1.0),
}


def loading_features(recording: Recording) -> list[Feature]:
    """Return what the loading record holds; its uncertainty is that of a single reading."""
    loading = recording.provenance.get("loading")
    if not isinstance(loading, Mapping):
        return []
    meter = loading.get("meter")
    model = str(meter.get("model", "")) if isinstance(meter, Mapping) else ""
    features = []
    for name, (key, quantity, factor) in READINGS.items():
        value = loading.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not math.isfinite(value):
            continue
        accuracy = accuracy_of(loading.get("accuracy"), quantity)
        method = f"read at loading{' with ' + model if model else ''}"
        method += "" if accuracy.is_known else f"; {NOT_STATED}"
        uncertainty = factor * accuracy.at(float(value) / factor)
        features.append(Feature(name, float(value), uncertainty, method))
    return features
