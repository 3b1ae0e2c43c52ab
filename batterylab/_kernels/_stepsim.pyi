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
        electrolyte: Array,
        e_step: float,
        line: Array,
        d_n: Array,
        d_p: Array,
        salt: Array,
        d_e: Array,
        share: Array,
        lumped: bool,
    ) -> None: ...
    def settle(self, x: float, y: float, kelvin: float) -> None: ...
    def means(self) -> tuple[float, float]: ...
    def state(self) -> list[float]: ...
    def save(self) -> bytes: ...
    def restore(self, saved: bytes) -> None: ...
    def follow(
        self,
        mode: int,
        value: Array,
        low_V: float,
        high_V: float,
        most_A: float,
        length_s: float,
        out: Array,
    ) -> None: ...
