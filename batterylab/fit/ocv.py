r"""Open-circuit voltage of a full cell from two half-cell curves.

.. math:: U(f) = U_p(y_0 + (y_1 - y_0) f) - U_n(x_0 + (x_1 - x_0) f) + I R

with f the share of the step's charge (0 empty, 1 full), x and y the lithium in the negative
and the positive electrode. With the step's charge Q the electrodes hold
:math:`Q_n = Q / (x_1 - x_0)` and :math:`Q_p = Q / (y_0 - y_1)`, and the cyclable lithium is
:math:`x_0 Q_n + y_0 Q_p`. Source of the method: J. R. Dahn, I. A. Shkrob and others on
differential voltage fitting, as in H. M. Dahn, A. J. Smith, J. C. Burns, D. A. Stevens,
J. R. Dahn, J. Electrochem. Soc. 159 (2012) A1405; S. Lee, J. B. Siegel, A. G. Stefanopoulou,
J.-W. Lee, T.-K. Lee, J. Electrochem. Soc. 167 (2020) 090531, on what can be told apart.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab.errors import BatterylabError
from batterylab.fit.assemble import assemble, of_several, with_profile
from batterylab.fit.halfcells import HalfCells
from batterylab.fit.ocvsolve import NAMES, ocv_steps
from batterylab.fit.result import Curve, Fit
from batterylab.fit.settings import FitSettings
from batterylab.fit.solve import Solution, Steps, alone
from batterylab.fit.statistics import Judgement, judge
from batterylab.fit.window import NotSuitedError, SlowStep, slow_step, thinned
from batterylab.recording import Recording

Array = NDArray[np.float64]

LEAST_ROWS = 30
#: residuals above this come from half-cell curves that are not the cell's
DOUBT_mV = 15.0


@dataclass(frozen=True)
class OcvSettings(FitSettings):
    """How an `ocv` model is fitted; see `FitSettings` for the rest.

    Attributes
    ----------
    parameter_set : str
        PyBaMM's set that gives the half-cell curves, unless a file does.
    step : int or None
        Which step; None: see `slow_step`.
    trim_percent : float
        Share of the charge left out at either end, where diffusion shapes the voltage.
    points : int
        Most rows used, spread evenly over the charge.
    """

    parameter_set: str = "Chen2020"
    step: int | None = None
    trim_percent: float = 1.0
    points: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.trim_percent < 40:
            raise BatterylabError("trim_percent must be at least 0 and below 40")
        if self.points < LEAST_ROWS:
            raise BatterylabError(f"points must be at least {LEAST_ROWS}")


def fit_ocv(recording: Recording, half_cells: HalfCells, settings: OcvSettings) -> Fit:
    """Fit the full-cell open-circuit model to a recording.

    Raises
    ------
    NotSuitedError
        If the recording has no slow charge or discharge.
    """
    return alone(ocv_fit([recording], half_cells, settings))


def ocv_fit(
    recordings: Sequence[Recording], half_cells: HalfCells, settings: OcvSettings
) -> Steps[Fit]:  # fmt: skip
    """Fit one cell's slow steps, one a recording, as steps for `batterylab.fit.solve`."""
    slows = [slow_step(one, settings.step, settings.trim_percent / 100.0) for one in recordings]
    kept = [_rows(one, slow, settings) for one, slow in zip(recordings, slows, strict=True)]
    span_Ah = slows[0].span_Ah
    part = np.concatenate([np.full(len(rows), k, np.uint8) for k, rows in enumerate(kept)])
    columns = [np.array([slow.fraction * slow.span_Ah / span_Ah, slow.current_A, slow.voltage_V])
               [:, rows] for slow, rows in zip(slows, kept, strict=True)]  # fmt: skip
    fraction, current_A, voltage_V = np.hstack(columns)
    solution = yield from ocv_steps(
        fraction, current_A, voltage_V, half_cells, parts=part,
        most_steps=settings.most_steps, tolerance=settings.tolerance, loss=settings.chosen_loss,
    )  # fmt: skip
    judgement = judge(solution.noise_V, solution.jacobian, ~solution.at_bound)
    values, errors = _derived(solution, judgement, span_Ah, float(np.abs(current_A).mean()))
    moved = fraction + np.concatenate([[0.0], solution.parameters[len(NAMES):]])[part]
    curve = Curve(moved * span_Ah, "charge / Ah", voltage_V, voltage_V + solution.residual_V)
    used: dict[str, Any] = {k: v for k, v in asdict(settings).items() if k != "parameter_set"}
    names = (*NAMES, *(f"charge_shift_{k}_Ah" for k in range(1, len(recordings))))
    made = assemble(
        "ocv", recordings[0], slows[0].step.step_index, names, solution, judgement, values, errors,
        {**used, "half_cells": half_cells.name, "half_cells_digest": half_cells.digest}, curve,
        DOUBT_mV,
    )  # fmt: skip
    if settings.profile:
        scales = [1.0] * 4 + [1e3] + [span_Ah] * (len(recordings) - 1)
        made = with_profile(made, solution, judgement, {
            name: (i, partial(float.__mul__, scale))
            for i, (name, scale) in enumerate(zip(names, scales, strict=True))
        })  # fmt: skip
    if len(recordings) == 1:
        return made
    return of_several(made, recordings, part, solution.residual_V)


def _rows(recording: Recording, slow: SlowStep, settings: OcvSettings) -> NDArray[np.intp]:
    rows = thinned(slow.fraction, settings.points)
    if len(rows) < LEAST_ROWS:
        raise NotSuitedError(
            f"recording of {recording.serial!r}: step {slow.step.step_index} has {len(rows)} rows",
            hint=f"an ocv fit needs {LEAST_ROWS}",
        )
    return rows


def _derived(
    solution: Solution, judgement: Judgement, span_Ah: float, mean_A: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Return capacities, inventory and window with their standard errors (first order)."""
    x0, x1, y0, y1, ohm = (float(p) for p in solution.parameters[: len(NAMES)])
    dx, dy = x1 - x0, y0 - y1
    qn, qp = (span_Ah / d if abs(d) > 1e-12 else np.inf for d in (dx, dy))
    gradients: dict[str, tuple[float, list[float]]] = {
        "negative_capacity_Ah": (qn, [qn / dx, -qn / dx, 0, 0, 0]),
        "positive_capacity_Ah": (qp, [0, 0, -qp / dy, qp / dy, 0]),
        "lithium_inventory_Ah": (
            x0 * qn + y0 * qp, [x1 * qn / dx, -x0 * qn / dx, -y1 * qp / dy, y0 * qp / dy, 0]
        ),
        "resistance_mOhm": (1e3 * ohm, [0, 0, 0, 0, 1e3]),
        "overvoltage_mV": (1e3 * ohm * mean_A, [0, 0, 0, 0, 1e3 * mean_A]),
        "x_low": (x0, [1, 0, 0, 0, 0]),
        "x_high": (x1, [0, 1, 0, 0, 0]),
        "y_low": (y0, [0, 0, 1, 0, 0]),
        "y_high": (y1, [0, 0, 0, 1, 0]),
    }  # fmt: skip
    for k in range(len(solution.parameters) - len(NAMES)):
        row = [*[0.0] * (len(NAMES) + k), span_Ah]
        gradients[f"charge_shift_{k + 1}_Ah"] = (span_Ah * solution.parameters[len(NAMES) + k], row)
    values = {name: float(value) for name, (value, _) in gradients.items()}
    errors = {name: _error(row, judgement.covariance) for name, (_, row) in gradients.items()}
    return values, errors


def _error(gradient: list[float], covariance: Array) -> float:
    """Return the standard error along a gradient; only what it touches must be known."""
    row = np.array(gradient, float)
    used = np.flatnonzero(row)
    return float(np.sqrt(row[used] @ covariance[np.ix_(used, used)] @ row[used]))
