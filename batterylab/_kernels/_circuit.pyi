from typing import Any

from numpy import float64, int32, uint8
from numpy.typing import NDArray

from batterylab._kernels._tasks import Task

class Pulses:
    def __init__(
        self,
        time_s: NDArray[float64],
        current_A: NDArray[float64],
        charge: NDArray[float64],
        observed: NDArray[uint8],
        first: NDArray[int32],
        weights: NDArray[float64],
        temperature_K: NDArray[float64],
        order: int,
        pairs: int,
        kelvin_V: float,
        activation_K: float,
    ) -> None: ...

def voltage(
    pulses: Pulses,
    parameters: NDArray[float64],
    out_V: NDArray[float64],
    out_jacobian: NDArray[float64],
) -> None: ...

class Fit(Task):
    def __init__(
        self,
        pulses: Pulses,
        voltage_V: NDArray[float64],
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
    ) -> None: ...

class Lags(Fit):
    def __init__(
        self, pulses: Pulses, voltage_V: NDArray[float64], *work: Any
    ) -> None: ...
