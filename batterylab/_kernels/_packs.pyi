from numpy import float64
from numpy.typing import NDArray

Array = NDArray[float64]

def discharge(
    capacity_Ah: Array,
    resistance_ohm: Array,
    ocv_V: Array,
    current_A: float,
    lowest_V: float,
    step_h: float,
    most_steps: int,
    state: Array,
    out: Array,
) -> None: ...
def peak_power(
    resistance_ohm: Array, potential_V: Array, lowest_V: float, out_W: Array
) -> None: ...
