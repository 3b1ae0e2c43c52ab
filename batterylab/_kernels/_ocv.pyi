from numpy import float64, uint8
from numpy.typing import NDArray

from batterylab._kernels._tasks import Task

def voltage(
    fraction: NDArray[float64],
    current_A: NDArray[float64],
    parts: NDArray[uint8],
    negative_V: NDArray[float64],
    positive_V: NDArray[float64],
    first: float,
    step: float,
    parameters: NDArray[float64],
    out_V: NDArray[float64],
    out_jacobian: NDArray[float64],
) -> None: ...

class Fit(Task):
    def __init__(
        self,
        fraction: NDArray[float64],
        current_A: NDArray[float64],
        voltage_V: NDArray[float64],
        parts: NDArray[uint8],
        negative_V: NDArray[float64],
        positive_V: NDArray[float64],
        first: float,
        step: float,
        starts: NDArray[float64],
        lower: NDArray[float64],
        upper: NDArray[float64],
        parameters: NDArray[float64],
        residual: NDArray[float64],
        trial: NDArray[float64],
        jacobian: NDArray[float64],
        most_steps: int,
        tolerance: float,
        loss: int,
        loss_scale: float,
        each: NDArray[float64] | None = None,
        costs: NDArray[float64] | None = None,
    ) -> None: ...

def potentials(
    windows: NDArray[float64],
    fraction: NDArray[float64],
    table_V: NDArray[float64],
    first: float,
    step: float,
    out: NDArray[float64],
) -> None: ...
