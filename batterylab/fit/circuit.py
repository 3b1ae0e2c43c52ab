r"""A Thevenin circuit on a pulse and the relaxation after it.

.. math:: U = \sum_j a_j (q/q_m)^j + R_0 I + \sum_k R_k u_k, \qquad
          \tau_k \dot u_k = I - u_k

with q the charge since the window's first row, :math:`q_m` its largest value there, and all
:math:`u_k = 0` at the first row, which ends a rest. The current of a row has flowed since the
row before, so the lags are exact. Up to three RC pairs. Source of the model: G. L. Plett,
*Battery Management Systems*, volume 1 (2015), chapter 2.
"""

from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from batterylab.errors import BatterylabError
from batterylab.fit.assemble import assemble, with_profile
from batterylab.fit.circuitsolve import MOST_ORDER, MOST_PAIRS, Inputs, circuit_steps, inputs_of
from batterylab.fit.result import Curve, Fit
from batterylab.fit.settings import FitSettings
from batterylab.fit.solve import Solution, Steps, alone
from batterylab.fit.statistics import Judgement, judge
from batterylab.fit.window import PulseWindow, pulse_window
from batterylab.recording import Recording

Array = NDArray[np.float64]

#: residuals above this share of the voltage's range mean that the circuit does not fit
DOUBT = 0.05


@dataclass(frozen=True)
class CircuitSettings(FitSettings):
    """How a `circuit` is fitted; see `FitSettings` for the rest.

    Attributes
    ----------
    pairs : int
        RC pairs, 0 to 3.
    order : int
        Of the polynomial in charge that stands for the open-circuit voltage, 0 to 4.
    step : int or None
        Which pulse; None: see `pulse_window`.
    rest_s : float
        Longest part of the rest after the pulse to take.
    knots : int
        0: one pulse. 2 and more: all pulses of the recording in one fit, with resistances and
        lags between knots over the state of charge; see `batterylab.fit.circuitknots`.
    thermal : bool
        Whether a lumped thermal node is fitted along, to the measured temperature.
    activation_kJ_per_mol : float or None
        By which resistances fall with temperature in that node; None: fitted.
    kelvin_mV : float
        What a kelvin counts besides a millivolt.
    """

    pairs: int = 2
    order: int = 1
    step: int | None = None
    rest_s: float = 1800.0
    knots: int = 0
    thermal: bool = False
    activation_kJ_per_mol: float | None = None
    kelvin_mV: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.pairs <= MOST_PAIRS:
            raise BatterylabError(f"pairs must be 0 to {MOST_PAIRS}, not {self.pairs}")
        if not 0 <= self.order <= MOST_ORDER:
            raise BatterylabError(f"order must be 0 to {MOST_ORDER}, not {self.order}")
        if self.knots < 0 or self.knots == 1 or (self.knots and self.step is not None):
            raise BatterylabError("knots must be 0, or 2 and more without a step")
        if not self.rest_s > 0:
            raise BatterylabError("rest_s must be above 0")
        if not self.kelvin_mV > 0:
            raise BatterylabError("kelvin_mV must be above 0")
        if self.activation_kJ_per_mol is not None:
            if not self.thermal:
                raise BatterylabError("activation_kJ_per_mol belongs to the thermal node",
                                      hint="add thermal=true")  # fmt: skip
            if not 0 <= self.activation_kJ_per_mol <= 100:
                raise BatterylabError("activation_kJ_per_mol must be 0 to 100")


def names_of(order: int, pairs: int) -> tuple[str, ...]:
    """Return the fitted parameters' names, in the kernel's order."""
    slopes = ("ocv_slope_V_per_Ah", *(f"ocv_curve{j}_V_per_Ah{j}" for j in range(2, order + 1)))
    lags = [name for k in range(1, pairs + 1) for name in (f"r{k}_mOhm", f"tau{k}_s")]
    return ("ocv_V", *slopes[:order], "r0_mOhm", *lags)


def fit_circuit(recording: Recording, settings: CircuitSettings) -> Fit:
    """Fit a circuit to a pulse of a recording.

    Raises
    ------
    NotSuitedError
        If the recording has no pulse between two rests.
    """
    return alone(circuit_fit(recording, settings))


def circuit_fit(recording: Recording, settings: CircuitSettings) -> Steps[Fit]:
    """Fit a circuit, as steps for `batterylab.fit.solve`; see `fit_circuit`."""
    if settings.knots or settings.thermal:
        from batterylab.fit.circuitpulses import pulses_fit

        return (yield from pulses_fit([recording], settings))
    window = pulse_window(recording, settings.step, settings.rest_s)
    scale_Ah = float(np.abs(window.charge_Ah).max()) or 1.0
    inputs = inputs_of(
        window.time_s, window.current_A, window.charge_Ah / scale_Ah,
        order=settings.order, pairs=settings.pairs, observed=window.observed,
    )  # fmt: skip
    solution = yield from circuit_steps(
        inputs, window.voltage_V, most_steps=settings.most_steps, tolerance=settings.tolerance,
        loss=settings.chosen_loss,
    )  # fmt: skip
    judgement = judge(solution.noise_V, solution.jacobian, ~solution.at_bound)
    names = names_of(settings.order, settings.pairs)
    values, errors = _named(names, solution, judgement, inputs, scale_Ah)
    made = assemble(
        "circuit", recording, window.step.step_index, names,
        solution, judgement, values, errors,
        {**asdict(settings), "soc_percent": _rounded(window.soc_percent)},
        _curve(window, solution), 1e3 * DOUBT * float(np.ptp(window.voltage_V[window.observed])),
    )  # fmt: skip
    if settings.profile:
        rules = {name: (i, partial(shown, name, i, scale_Ah)) for i, name in enumerate(names)}
        made = with_profile(made, solution, judgement, rules)
    return replace(made, notes=(*made.notes, *window.notes))


def _rounded(soc_percent: float) -> float | None:
    return round(soc_percent, 3) if np.isfinite(soc_percent) else None


def _curve(window: PulseWindow, solution: Solution) -> Curve:
    seen = window.observed
    volts = window.voltage_V[seen]
    return Curve(window.time_s[seen], "time / s", volts, volts + solution.residual_V)


def shown(name: str, power: int, scale_Ah: float, parameter: float) -> float:
    """Return a kernel's parameter in the unit of its name."""
    if name.startswith("ocv"):
        return float(parameter * scale_Ah ** -float(power))
    if name.endswith("_mOhm"):
        return float(1e3 * parameter)
    return float(np.exp(parameter))


def _named(
    names: tuple[str, ...], solution: Solution, judgement: Judgement, inputs: Inputs,
    scale_Ah: float,
) -> tuple[dict[str, float], dict[str, float]]:  # fmt: skip
    """Return values and standard errors in the units of their names.

    The standard error of tau is tau times that of its logarithm. The sum of the resistances
    stands beside them: it is known better than any of them.
    """
    first = inputs.order + 1
    values, errors = {}, {}
    for i, (name, p) in enumerate(zip(names, solution.parameters, strict=True)):
        values[name] = shown(name, i, scale_Ah, float(p))
        slope = values[name] if name.endswith("_s") else shown(name, i, scale_Ah, 1.0)
        errors[name] = slope * float(judgement.standard_errors[i])
    ohms = np.array([first, *range(first + 1, inputs.count, 2)])
    free = ohms[~solution.at_bound[ohms]]
    values["r_sum_mOhm"] = 1e3 * float(solution.parameters[ohms].sum())
    errors["r_sum_mOhm"] = 1e3 * float(np.sqrt(judgement.covariance[np.ix_(free, free)].sum()))
    return values, errors
