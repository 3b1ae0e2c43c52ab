from numpy import float64, int32
from numpy.typing import NDArray

from batterylab._kernels._tasks import Task

class Tree:
    def __init__(
        self, kind: NDArray[int32], parent: NDArray[int32], first: NDArray[int32], count: int
    ) -> None: ...

class Particles:
    def __init__(
        self,
        numbers: NDArray[float64],
        curves: NDArray[float64],
        diffusivity: NDArray[float64],
    ) -> None: ...

def circuit(
    tree: Tree,
    omega: NDArray[float64],
    parameters: NDArray[float64],
    out_ohm: NDArray[float64],
    out_jacobian: NDArray[float64],
) -> None: ...
def circuit_costs(
    tree: Tree,
    omega: NDArray[float64],
    measured: NDArray[float64],
    weight: NDArray[float64],
    starts: NDArray[float64],
    work: NDArray[float64],
    out: NDArray[float64],
) -> None: ...

class CircuitFit(Task):
    def __init__(
        self,
        tree: Tree,
        omega: NDArray[float64],
        measured: NDArray[float64],
        weight: NDArray[float64],
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

def spme(
    particles: Particles,
    omega: NDArray[float64],
    base: NDArray[float64],
    free: NDArray[int32],
    out_ohm: NDArray[float64],
    out_jacobian: NDArray[float64],
) -> None: ...

class SpmeFit(Task):
    def __init__(
        self,
        particles: Particles,
        omega: NDArray[float64],
        measured: NDArray[float64],
        weight: NDArray[float64],
        base: NDArray[float64],
        free: NDArray[int32],
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
