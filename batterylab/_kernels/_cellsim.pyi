from typing import Any

from numpy import float32, float64, int16, int32, uint64
from numpy.typing import NDArray

Array = NDArray[float64]

def follow(
    cell: Array,
    state: Array,
    fade_n: Array,
    fade_p: Array,
    weight_n: Array,
    weight_p: Array,
    curves: Array,
    step: float,
    electrolyte_curves: Array,
    e_step: float,
    current_A: Array,
    dt: float,
    ambient_K: float,
    voltage_V: Array,
    temperature_K: Array,
) -> None: ...
def advance(
    seconds: int,
    cell: Array,
    state: Array,
    fade_n: Array,
    fade_p: Array,
    weight_n: Array,
    weight_p: Array,
    curves: Array,
    step: float,
    electrolyte_curves: Array,
    e_step: float,
    meter: Array,
    seeds: NDArray[uint64],
    run: Array,
    ambient_K: Array,
    steps: Array,
    test_counts: NDArray[int32],
    tests: NDArray[Any],
    temperature: Array,
    log_A: NDArray[float32],
    log_V: NDArray[float32],
    log_state: NDArray[int16],
    dt: float = 1.0,
) -> None: ...
