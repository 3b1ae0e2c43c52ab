"""Features: numbers drawn from recordings, with unit, method, uncertainty and steps.

`features_of` draws them from one recording, `table` from a whole study; results are kept
beside the archive and can be deleted at any time.
"""

from batterylab.features.draw import VERSION, features_of
from batterylab.features.feature import Feature, unit_of
from batterylab.features.longform import COLUMNS, table

__all__ = ["COLUMNS", "VERSION", "Feature", "features_of", "table", "unit_of"]
