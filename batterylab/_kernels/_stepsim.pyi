from numpy import float64
from numpy.typing import NDArray

Array = NDArray[float64]

class Stepper:
    temperature_K: float
    ambient_K: float
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
    ) -> None: ...
    def settle(self, parameters: Array, ambient_K: float) -> None: ...
    def state(self, out: Array) -> int: ...
    def save(self) -> bytes: ...
    def restore(self, saved: bytes) -> None: ...
    def follow(
        self,
        mode: int,
        value: Array,
        limit_V: float,
        most_A: float,
        lengths_s: float,
        out: Array,
    ) -> None: ...
