from numpy import float64, int32, uint8
from numpy.typing import NDArray

from batterylab._kernels._tasks import Task

Array = NDArray[float64]

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

def voltage(
    model: Model,
    data: Array,
    flags: NDArray[uint8],
    base: Array,
    free: NDArray[int32],
    out_V: Array,
    out_jacobian: Array,
    out_K: Array,
) -> None: ...

class Fit(Task):
    def __init__(
        self,
        model: Model,
        data: Array,
        flags: NDArray[uint8],
        base: Array,
        free: NDArray[int32],
        salt: Array,
        starts: Array,
        lower: Array,
        upper: Array,
        parameters: Array,
        residual: Array,
        trial: Array,
        jacobian: Array,
        most_steps: int,
        tolerance: float,
        loss: int,
        loss_scale: float,
    ) -> None: ...
