from numpy import float64
from numpy.typing import NDArray

def voltage(
    fraction: NDArray[float64],
    current_A: NDArray[float64],
    negative_V: NDArray[float64],
    positive_V: NDArray[float64],
    first: float,
    step: float,
    parameters: NDArray[float64],
    out_V: NDArray[float64],
    out_jacobian: NDArray[float64],
) -> None: ...
def fit(
    fraction: NDArray[float64],
    current_A: NDArray[float64],
    voltage_V: NDArray[float64],
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
) -> tuple[int, int, float]: ...
def fit_each(
    fraction: NDArray[float64],
    current_A: NDArray[float64],
    voltage_V: NDArray[float64],
    negative_V: NDArray[float64],
    positive_V: NDArray[float64],
    first: float,
    step: float,
    starts: NDArray[float64],
    lower: NDArray[float64],
    upper: NDArray[float64],
    parameters: NDArray[float64],
    costs: NDArray[float64],
    residual: NDArray[float64],
    trial: NDArray[float64],
    jacobian: NDArray[float64],
    most_steps: int,
    tolerance: float,
) -> None: ...
def potentials(
    windows: NDArray[float64],
    fraction: NDArray[float64],
    table_V: NDArray[float64],
    first: float,
    step: float,
    out: NDArray[float64],
) -> None: ...
