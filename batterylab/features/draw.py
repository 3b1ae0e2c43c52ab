"""Draw all features from one recording."""

from batterylab.features.capacity import capacity_features
from batterylab.features.course import course_features
from batterylab.features.feature import Feature
from batterylab.features.ledger import Ledger
from batterylab.features.loading import loading_features
from batterylab.features.readings import reading_features
from batterylab.features.resistance import resistance_features
from batterylab.features.shares import share_features
from batterylab.recording import Recording

#: counts up whenever a formula or a choice changes; results of another version are drawn anew
VERSION = "6"


def features_of(recording: Recording) -> list[Feature]:
    """Return every feature that a recording yields.

    Parameters
    ----------
    recording : Recording
        From the bench, an import or a simulation.

    Returns
    -------
    list of Feature
        Capacity first; empty if nothing can be said. Names occur once, but for the capacities
        of a life test, one for each discharge.
    """
    if not recording.steps:
        return loading_features(recording)
    ledger = Ledger(recording)
    return [
        *capacity_features(ledger),
        *share_features(ledger),
        *resistance_features(ledger),
        *reading_features(recording),
        *loading_features(recording),
        *course_features(ledger),
    ]
