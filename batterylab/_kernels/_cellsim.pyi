from typing import Any

from numpy import float32, float64, int16, int32, uint64
from numpy.typing import NDArray

Array = NDArray[float64]

def columns() -> dict[str, tuple[int, int]]: ...

class Model:
    def __init__(
        self,
        numbers: Array,
        curves: Array,
        t_ref: float,
        electrolyte: Array,
        e_step: float,
        sphere: Array,
        tail: float,
        line_n: Array,
        line_p: Array,
        salt: Array,
        diffusivity: Array,
        cells_n: int,
        cells_p: int,
        lumped: bool,
        first_s: float,
        growth: float,
        most_s: float,
        share: float,
    ) -> None: ...

def follow(
    model: Model,
    q: Array,
    state: Array,
    mode: int,
    value: Array,
    low_V: float,
    high_V: float,
    most_A: float,
    length_s: float,
    ambient_K: float,
    out: Array,
) -> None: ...
def advance(
    model: Model,
    seconds: int,
    q: Array,
    state: Array,
    meter: Array,
    seeds: NDArray[uint64],
    run: Array,
    ambient_K: Array,
    steps: Array,
    test_counts: NDArray[int32],
    tests: NDArray[Any],
    log_A: NDArray[float32],
    log_V: NDArray[float32],
    log_state: NDArray[int16],
    dt: float = 1.0,
) -> None: ...
