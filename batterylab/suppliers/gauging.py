"""From the readings of a gauge study to its analysis: trend taken out, crossed or nested."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from batterylab.suppliers.measurement import GaugeStudy, gauge_study
from batterylab.suppliers.nested import NestedStudy, nested_study
from batterylab.suppliers.sampling import Reading
from batterylab.suppliers.trend import Trend, trend, without


def study_of(readings: Sequence[Reading]) -> tuple[GaugeStudy | NestedStudy | None, Trend | None]:
    """Return the analysis of a gauge study, and the trend that cycling causes.

    Cells that each met one channel make a nested study; otherwise it is crossed.

    Parameters
    ----------
    readings : sequence of Reading
        Of one feature, in order of time.
    """
    if not readings:
        return None, None
    found = trend(readings)
    values = without(readings, found)
    nested = _nested(readings, values)
    if nested is not None:
        return nested, found
    named = ((r.serial, r.channel, v) for r, v in zip(readings, values, strict=True))
    return gauge_study(named), found


def _nested(readings: Sequence[Reading], values: Sequence[float]) -> NestedStudy | None:
    """Return the nested analysis, where no cell met two channels and each channel two cells."""
    table: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for reading, value in zip(readings, values, strict=True):
        table[reading.channel][reading.serial].append(value)
    met = Counter(serial for cells in table.values() for serial in cells)
    if len(table) < 2 or not met or max(met.values()) > 1:
        return None
    cells = min(len(group) for group in table.values())
    repeats = min(len(repeat) for group in table.values() for repeat in group.values())
    if cells < 2 or repeats < 2:
        return None
    return nested_study(np.array([
        [group[serial][:repeats] for serial in sorted(group)[:cells]]
        for _, group in sorted(table.items())
    ]))  # fmt: skip
