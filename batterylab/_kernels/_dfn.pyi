from numpy import float64, int32, uint8
from numpy.typing import NDArray

from batterylab._kernels._tasks import Task

Array = NDArray[float64]

class Model:
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

class Steps:
    def __init__(self, rows: int) -> None: ...
    @property
    def rows(self) -> int: ...
    @property
    def count(self) -> int: ...

def voltage(
    model: Model,
    data: Array,
    flags: NDArray[uint8],
    base: Array,
    which: NDArray[int32],
    out_V: Array,
    out_jacobian: Array,
    steps: Steps,
    are_kept: bool,
) -> None: ...

class Fit(Task):
    def __init__(
        self,
        model: Model,
        data: Array,
        flags: NDArray[uint8],
        base: Array,
        which: NDArray[int32],
        steps: Steps,
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
