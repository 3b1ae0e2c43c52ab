from numpy import float64, int64, uint8
from numpy.typing import NDArray

def choose(
    time_s: NDArray[float64],
    current_A: NDArray[float64],
    voltage_V: NDArray[float64],
    step: NDArray[int64],
    every_s: NDArray[float64],
    moves_A: NDArray[float64],
    moves_V: NDArray[float64],
    kept: NDArray[float64],
    last_step: NDArray[int64],
    chosen: NDArray[uint8],
) -> None: ...
