"""Values in a wrong unit, caught by the data sheet."""

from collections.abc import Mapping

import numpy as np

from batterylab.cells import CellType
from batterylab.errors import BatterylabError
from batterylab.suppliers.estimates import Estimate

#: a median so many times what the data sheet says, or as small a part of it, is in another unit
NEAR, FAR = 50.0, 20_000.0


def check_units(
    cell_type: CellType, estimates: Mapping[str, Mapping[str, Estimate]]
) -> None:
    """Hold the size of capacities, energies and voltages against the data sheet.

    Raises
    ------
    BatterylabError
        If a median lies about a thousand times off: Ah for mAh, V for mV.
    """
    nominal_Ah = cell_type.nominal_capacity_Ah
    middle_V = 0.5 * (cell_type.voltage_min_V + cell_type.voltage_max_V)
    expected = {
        "capacity_Ah": nominal_Ah,
        "charge_capacity_Ah": nominal_Ah,
        "energy_Wh": nominal_Ah * middle_V,
        "ocv_V": middle_V,
    }
    for feature, size in expected.items():
        for supplier, found in estimates.get(feature, {}).items():
            median = float(np.median([reading.value for reading in found.readings]))
            ratio = median / size
            if not (NEAR <= ratio <= FAR or 1.0 / FAR <= ratio <= 1.0 / NEAR):
                continue
            unit = feature.rpartition("_")[2]
            raise BatterylabError(
                f"{feature} of {supplier}: the median is {median:.6g}, the data sheet says about "
                f"{size:.3g} {unit}",
                hint=f"are these m{unit}? import the table again with its unit",
            )
