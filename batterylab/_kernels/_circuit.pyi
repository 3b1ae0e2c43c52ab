from numpy import float64, uint8
from numpy.typing import NDArray

def voltage(
    time_s: NDArray[float64],
    current_A: NDArray[float64],
    charge: NDArray[float64],
    observed: NDArray[uint8],
    order: int,
    pairs: int,
    parameters: NDArray[float64],
    out_V: NDArray[float64],
    out_jacobian: NDArray[float64],
) -> None: ...
def fit(
    time_s: NDArray[float64],
    current_A: NDArray[float64],
    charge: NDArray[float64],
    voltage_V: NDArray[float64],
    observed: NDArray[uint8],
    order: int,
    pairs: int,
    starts: NDArray[float64],
    lower: NDArray[float64],
    upper: NDArray[float64],
    parameters: NDArray[float64],
    residual: NDArray[float64],
    trial: NDArray[float64],
    jacobian: NDArray[float64],
    most_steps: int,
    tolerance: float,
) -> tuple[int, int, float]: ...
def fit_lags(
    time_s: NDArray[float64],
    current_A: NDArray[float64],
    charge: NDArray[float64],
    voltage_V: NDArray[float64],
    observed: NDArray[uint8],
    order: int,
    pairs: int,
    candidates: NDArray[float64],
    low: float,
    high: float,
    parameters: NDArray[float64],
    residual: NDArray[float64],
    jacobian: NDArray[float64],
    most_steps: int,
    tolerance: float,
) -> int: ...
