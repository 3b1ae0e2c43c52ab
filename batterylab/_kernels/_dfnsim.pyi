from numpy import float64
from numpy.typing import NDArray

Array = NDArray[float64]

class Model:
    columns: tuple[int, int, int]
    def __init__(
        self,
        numbers: Array,
        curves: Array,
        entropy: Array,
        t_ref: float,
        salt: Array,
        root_0: float,
        root_step: float,
        nodes: Array,
        count_n: int,
        count_p: int,
        sphere: Array,
        tail: float,
        line_n: Array,
        line_p: Array,
        diffusivity: Array,
        first_s: float,
        growth: float,
        tolerance_V: float,
        share: float,
    ) -> None: ...

def settle(model: Model, q: Array, state: Array, kelvin: float) -> None: ...
def follow(
    model: Model,
    q: Array,
    state: Array,
    lumped: bool,
    heat_J_K: float,
    cool_W_K: float,
    mode: int,
    value: Array,
    low_V: float,
    high_V: float,
    most_A: float,
    length_s: float,
    ambient_K: float,
    out: Array,
) -> int: ...
