"""Fit a circuit or the single-particle model to a spectrum: starts, bounds, least squares."""

import math
from dataclasses import dataclass
from functools import partial
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batterylab._kernels import _impedance
from batterylab.errors import BatterylabError
from batterylab.fit.impedancecircuit import CircuitText, Node
from batterylab.fit.impedancespme import (
    EisCell,
    checked_parameters,
    eis_indices,
    positive_frequencies,
)
from batterylab.fit.loss import SQUARES, Loss
from batterylab.fit.solve import MOST_STEPS, TOLERANCE, Solution, checked, solve

Array = NDArray[np.float64]

WEIGHTINGS = ("modulus", "unit")
#: exponent of a constant-phase element to begin with, and its range
ALPHA, ALPHAS = 0.85, (0.3, 1.0)
#: candidate time constants, arrangements and frequencies that are looked at before fitting
CANDIDATES, MOST_LOOKS, LOOK_ROWS = 7, 250, 16
#: and from how many of them a fit begins
BEST = 3
#: how far a parameter's logarithm may lie from its scale in the spectrum
REACH = 14.0
#: of the single-particle model's logarithms from their start
SPME_REACH = {"time": 6.0, "rate": 6.0, "conductivity": 3.0, "diffusivity": 3.0,
              "capacitance": 9.0}  # fmt: skip
MOST_HENRY = 1e-4


@dataclass(frozen=True)
class Spectrum:
    """A checked impedance spectrum.

    Attributes
    ----------
    frequency_Hz : ndarray, shape (n,)
        Falling.
    ohm : ndarray, shape (2, n)
        Real and imaginary part.
    weight : ndarray, shape (n,)
        Of the residuals.
    """

    frequency_Hz: Array
    ohm: Array
    weight: Array

    @property
    def omega(self) -> Array:
        """Angular frequencies in rad/s."""
        return 2.0 * np.pi * self.frequency_Hz

    @property
    def complex_ohm(self) -> NDArray[np.complex128]:
        """The impedance as complex numbers."""
        return np.asarray(self.ohm[0] + 1j * self.ohm[1], np.complex128)


def spectrum_from(
    frequency_Hz: ArrayLike,
    impedance_ohm: ArrayLike,
    weighting: str = "modulus",
    name: str = "impedance",
) -> Spectrum:
    """Check a spectrum and bring it into the order of falling frequency.

    Parameters
    ----------
    frequency_Hz : array_like, shape (n,)
        Above 0, in any order.
    impedance_ohm : array_like of complex, shape (n,)
        With a negative imaginary part where it is capacitive.
    weighting : str
        ``modulus``: residuals are taken relative to the modulus; ``unit``: relative to the
        modulus' root mean square.
    name : str
        Of the spectrum, for messages.

    Raises
    ------
    BatterylabError
        With the row, if a number is not finite or a frequency not above 0; if the imaginary
        part has the other sign throughout; if the weighting is unknown.
    """
    if weighting not in WEIGHTINGS:
        raise BatterylabError(f"unknown weighting {weighting!r}", hint=" or ".join(WEIGHTINGS))
    ohm = np.asarray(impedance_ohm, complex)
    try:
        hertz = positive_frequencies(frequency_Hz)
        real = checked(ohm.real, "impedance_real_ohm", length=len(hertz))
        imag = checked(ohm.imag, "impedance_imaginary_ohm", length=len(hertz))
    except BatterylabError as error:
        raise BatterylabError(f"{name}: {error.message}", hint=error.hint) from None
    size = np.hypot(real, imag)
    if not (size > 0).all():
        row = int(np.argmin(size))
        raise BatterylabError(f"{name}: impedance, row {row}: is 0", hint="leave the row out")
    if (real > 0).mean() > 0.8 and (imag > 0).mean() > 0.8:
        raise BatterylabError(
            f"{name}: the imaginary part is positive in {int((imag > 0).sum())} of {len(imag)} "
            "rows, as of an inductor",
            hint="a cell's is negative at most frequencies; files often hold -Im(Z)",
        )
    order = np.argsort(-hertz, kind="stable")
    weight = 1.0 / size if weighting == "modulus" else np.full(len(size), 1.0 / _rms(size))
    return Spectrum(
        np.ascontiguousarray(hertz[order]),
        np.ascontiguousarray([real[order], imag[order]]),
        np.ascontiguousarray(weight[order]),
    )


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def solve_circuit_impedance(
    circuit: CircuitText,
    spectrum: Spectrum,
    *,
    start: ArrayLike | None = None,
    most_steps: int = MOST_STEPS,
    tolerance: float = TOLERANCE,
    loss: Loss = SQUARES,
) -> Solution:
    """Fit a circuit by weighted complex least squares.

    Parameters
    ----------
    circuit : CircuitText
        From `parse_circuit`.
    spectrum : Spectrum
        From `spectrum_from`.
    start : array_like, shape (p,), optional
        Values in the order and the units of `CircuitText.names`; else the best of many
        arrangements of time constants over the spectrum.

    Returns
    -------
    Solution
        In the kernel's parameters (logarithms, but for exponents). Like siblings come by
        rising time constant.

    Raises
    ------
    BatterylabError
        If there are fewer numbers than parameters.
    """
    rows = 2 * len(spectrum.frequency_Hz)
    if rows <= len(circuit.names):
        raise BatterylabError(
            f"{len(spectrum.frequency_Hz)} frequencies cannot determine {len(circuit.names)} "
            "parameters",
            hint="fit a simpler circuit",
        )
    scale = _Scale(spectrum)
    lower, upper = _bounds(circuit, scale)
    kernel = partial(
        _impedance.CircuitFit, circuit.kernel, spectrum.omega, spectrum.ohm, spectrum.weight
    )
    if start is None:
        starts = _looked(circuit, spectrum, scale, lower, upper)
    else:
        starts = circuit.to_kernel(start)[None, :]
    solution = solve(
        kernel, rows, np.clip(starts, lower, upper), lower, upper,
        most_steps=most_steps, tolerance=tolerance, loss=loss,
    )  # fmt: skip
    return _ordered(solution, circuit)


class _Scale:
    """What a spectrum says of sizes before anything is fitted."""

    def __init__(self, spectrum: Spectrum) -> None:
        real, imag = spectrum.ohm
        omega = spectrum.omega
        self.high, self.low = float(omega[0]), float(omega[-1])
        self.ohm = float(np.abs(spectrum.complex_ohm).max())
        least = float(real.min())
        self.series_ohm = least if least > 0 else 1e-3 * self.ohm
        self.span_ohm = max(float(np.ptp(real)), 1e-3 * self.ohm)
        self.henry = max(float(imag[0]), 1e-4 * self.series_ohm) / self.high
        self.farad = 1.0 / (self.low * max(-float(imag[-1]), 1e-3 * self.ohm))
        self.warburg = 0.3 * self.span_ohm * math.sqrt(self.low)


def _guess(
    kind: str, scale: _Scale, tau_s: float | None, ohm: float, warburg: float
) -> list[float]:
    """Return an element's parameters to begin with; `tau_s` of the parallel group it is in."""
    if kind == "R":
        return [math.log(ohm)]
    if kind == "L":
        return [math.log(scale.henry if tau_s is None else ohm * tau_s)]
    if kind == "C":
        return [math.log(scale.farad if tau_s is None else tau_s / ohm)]
    if kind == "CPE":
        if tau_s is None:
            return [math.log(scale.farad), ALPHA]
        return [ALPHA * math.log(tau_s) - math.log(ohm), ALPHA]
    if kind == "W":
        return [math.log(scale.warburg * warburg)]
    return [math.log(ohm), math.log(1.0 / scale.low)]


def _groups(node: Node, above: int, found: list[int], count: list[int]) -> None:
    """Append to `found`, leaf by leaf, which outermost parallel group it is in; -1: none."""
    if not node.children:
        found.append(above)
        return
    if node.kind == "parallel" and above < 0:
        above = count[0]
        count[0] += 1
    for child in node.children:
        _groups(child, above, found, count)


def _looked(
    circuit: CircuitText, spectrum: Spectrum, scale: _Scale, lower: Array, upper: Array
) -> Array:
    """Return the best starts among arrangements of the groups' time constants."""
    groups: list[int] = []
    count = [0]
    _groups(circuit.root, -1, groups, count)
    kinds = [node.kind for node in circuit.elements]
    alone = sum(kind == "R" and group < 0 for kind, group in zip(kinds, groups, strict=True))
    share = scale.span_ohm / max(count[0], 1)
    taus = np.geomspace(1.0 / scale.high, 1.0 / scale.low, CANDIDATES + 2)[1:-1]
    chosen = list(permutations(taus, min(count[0], CANDIDATES)))
    chosen = chosen[:: max(1, len(chosen) // MOST_LOOKS)]
    starts = []
    for arrangement in chosen:
        for warburg in (1.0, 0.1) if "W" in kinds else (1.0,):
            start: list[float] = []
            for kind, group in zip(kinds, groups, strict=True):
                tau_s = None if group < 0 else float(arrangement[group % len(arrangement)])
                ohm = scale.series_ohm / max(alone, 1) if group < 0 and kind == "R" else share
                start += _guess(kind, scale, tau_s, ohm, warburg)
            starts.append(start)
    table = np.ascontiguousarray(np.clip(starts, lower, upper))
    if len(table) <= BEST:
        return table
    some = np.unique(np.linspace(0, len(spectrum.omega) - 1, LOOK_ROWS).astype(int))
    costs = np.empty(len(table))
    _impedance.circuit_costs(
        circuit.kernel, np.ascontiguousarray(spectrum.omega[some]),
        np.ascontiguousarray(spectrum.ohm[:, some]), np.ascontiguousarray(spectrum.weight[some]),
        table, np.empty(2 * len(some)), costs,
    )  # fmt: skip
    order = np.argsort(np.where(np.isfinite(costs), costs, np.inf), kind="stable")
    return np.ascontiguousarray(table[order[:BEST]])


def _bounds(circuit: CircuitText, scale: _Scale) -> tuple[Array, Array]:
    """Return bounds in the kernel's parameters, from what the spectrum can see at all."""
    log_ohm = math.log(scale.ohm)
    fast, slow = -math.log(scale.high), -math.log(scale.low)
    lower: list[float] = []
    upper: list[float] = []
    for node in circuit.elements:
        ends = {
            "R": [(log_ohm - REACH, log_ohm + REACH / 2)],
            "L": [(log_ohm + fast - REACH, log_ohm + slow)],
            "C": [(fast - log_ohm - REACH / 2, slow - log_ohm + REACH)],
            "CPE": [(fast - log_ohm - REACH / 2, slow - log_ohm + REACH), ALPHAS],
            "W": [(log_ohm - 0.5 * slow - REACH, log_ohm - 0.5 * fast + REACH / 2)],
        }
        own = ends.get(node.kind, [ends["R"][0], (fast - 3.0, slow + 5.0)])
        lower += [low for low, _ in own]
        upper += [high for _, high in own]
    return np.array(lower), np.array(upper)


def _ordered(solution: Solution, circuit: CircuitText) -> Solution:
    """Return the solution with like siblings by rising time constant."""
    index = np.arange(len(circuit.names))
    _order_below(circuit.root, circuit, solution.parameters, index)
    return solution.reordered(index)


def _order_below(
    node: Node, circuit: CircuitText, parameters: Array, index: NDArray[np.intp]
) -> None:
    like: dict[str, list[Node]] = {}
    for child in node.children:
        _order_below(child, circuit, parameters, index)
        if child.kind == "parallel":
            like.setdefault(child.shape, []).append(child)
    for siblings in like.values():
        places = [_places(child, circuit) for child in siblings]
        order = sorted(range(len(siblings)), key=lambda k: _lag(siblings[k], circuit, parameters))
        moved = [index[places[k]].copy() for k in order]
        for own, values in zip(places, moved, strict=True):
            index[own] = values


def _leaves(node: Node) -> list[Node]:
    return [leaf for child in node.children for leaf in _leaves(child)] or [node]


def _places(node: Node, circuit: CircuitText) -> list[int]:
    """Return where the parameters of a branch stand."""
    counts = {"CPE": 2, "Wo": 2, "Ws": 2}
    return [
        circuit.place(leaf.name) + j
        for leaf in _leaves(node) for j in range(counts.get(leaf.kind, 1))
    ]  # fmt: skip


def _lag(node: Node, circuit: CircuitText, parameters: Array) -> float:
    """Return a measure of a branch's time constant: the logarithm of its first R times C."""
    ohm = farad = 0.0
    for leaf in reversed(_leaves(node)):
        place = circuit.place(leaf.name)
        if leaf.kind == "R":
            ohm = float(parameters[place])
        elif leaf.kind == "C":
            farad = float(parameters[place])
        elif leaf.kind == "CPE":
            alpha = float(parameters[place + 1])
            farad = (float(parameters[place]) + ohm) / alpha - ohm
    return ohm + farad


def solve_spme_impedance(
    cell: EisCell,
    spectrum: Spectrum,
    base: ArrayLike,
    names: tuple[str, ...],
    *,
    starts: ArrayLike | None = None,
    most_steps: int = MOST_STEPS,
    tolerance: float = TOLERANCE,
    loss: Loss = SQUARES,
) -> tuple[Solution, Array]:
    """Fit parameters of the single-particle model; return the solution and all parameters.

    Parameters
    ----------
    cell : EisCell
        The base set.
    spectrum : Spectrum
        From `spectrum_from`.
    base : array_like, shape (14,)
        All parameters; what is not fitted stays.
    names : tuple of str
        What to fit, of `EIS_NAMES`.
    starts : array_like, shape (s, p), optional
        Of the fitted parameters; else the base's and four with other exchange currents.

    Raises
    ------
    BatterylabError
        If a name is unknown or there are fewer numbers than parameters.
    """
    whole = checked_parameters(base).copy()
    free = eis_indices(names)
    largest = float(np.abs(spectrum.complex_ohm).max())
    lower, upper = np.array([_spme_bounds(n, float(whole[i]), largest)
                             for n, i in zip(names, free, strict=True)]).T  # fmt: skip
    begin = _spme_starts(whole, names, free) if starts is None else np.asarray(starts, float)
    kernel = partial(
        _impedance.SpmeFit, cell.kernel, spectrum.omega, spectrum.ohm, spectrum.weight, whole,
        free,
    )  # fmt: skip
    solution = solve(
        kernel, 2 * len(spectrum.frequency_Hz), np.clip(begin, lower, upper), lower, upper,
        most_steps=most_steps, tolerance=tolerance, loss=loss,
    )  # fmt: skip
    found = whole.copy()
    found[free] = solution.parameters
    return solution, found


def _spme_bounds(name: str, value: float, largest_ohm: float) -> tuple[float, float]:
    if name.endswith("capacity_Ah"):
        return 0.5 * value, 2.0 * value
    if name in ("x_start", "y_start"):
        return 0.001, 0.999
    if name == "contact_ohm":
        return 0.0, 2.0 * largest_ohm
    if name == "inductance_H":
        return 0.0, MOST_HENRY
    reach = SPME_REACH[name.rsplit("_", 1)[1]]
    return value - reach, value + reach


def _spme_starts(whole: Array, names: tuple[str, ...], free: NDArray[np.int32]) -> Array:
    """Return starts: the base, and either electrode's reaction faster or slower."""
    starts = [whole.copy()]
    if {"log_negative_rate", "log_positive_rate"} <= set(names):
        for up, down in ((6, 7), (7, 6)):
            for reach in (1.5, 3.0):
                moved = whole.copy()
                moved[up] += 0.5 * reach
                moved[down] -= reach
                starts.append(moved)
    return np.ascontiguousarray(np.array(starts)[:, free])
