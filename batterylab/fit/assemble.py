"""Put a solution and its judgement together as a `Fit`."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from batterylab.fit.result import Curve, Fit, SpectrumCurve
from batterylab.fit.solve import Solution
from batterylab.fit.statistics import BLIND, Judgement
from batterylab.recording import Recording

#: fewer effective rows than this per parameter: the residuals are more model error than noise
FEW = 2.0
#: residuals above this, and above the scatter of the voltage itself, are no fit
ABSURD_V = 0.05


def assemble(
    model: str,
    recording: Recording,
    step: int,
    names: tuple[str, ...],
    solution: Solution,
    judgement: Judgement,
    values: Mapping[str, float],
    errors: Mapping[str, float],
    settings: Mapping[str, Any],
    curve: Curve | SpectrumCurve,
    doubt_mV: float,
) -> Fit:
    """Return the fit; a solution that did not converge hands on no values.

    Parameters
    ----------
    names : tuple of str
        Of the fitted parameters, in the kernel's order.
    values, errors : mapping of str to float
        All that the fit yields, derived values included.
    doubt_mV : float
        A larger residual says that the model does not describe the data.
    """
    converged = solution.converged and bool(np.isfinite(list(values.values())).all())
    reason = solution.reason
    if solution.converged and not converged:
        reason = "a value is not finite"
    rms_V = float(np.sqrt(np.mean(solution.residual_V**2)))
    if isinstance(curve, Curve) and not rms_V <= max(ABSURD_V, float(np.std(curve.measured_V))):
        converged = False
        reason = (f"stopped at residuals of {1e3 * rms_V:.3g} mV, more than the voltage itself "
                  "scatters")  # fmt: skip
    nothing = dict.fromkeys(values, math.nan)
    groups = tuple(tuple(names[i] for i in group) for group in judgement.weak)
    return Fit(
        model=model,
        serial=recording.serial,
        seal=recording.seal,
        step=step,
        values=dict(values) if converged else nothing,
        standard_errors=dict(errors) if converged else nothing,
        parameters=names,
        correlation=judgement.correlation(),
        residual_mV=1e3 * rms_V,
        converged=converged,
        reason=reason,
        at_bound=tuple(n for n, held in zip(names, solution.at_bound, strict=True) if held),
        condition_number=judgement.condition_number,
        cannot_tell_apart=tuple(dict.fromkeys(groups)),
        rows=len(solution.residual_V),
        effective_rows=judgement.effective_rows,
        degrees_of_freedom=judgement.degrees_of_freedom,
        notes=_notes(solution, judgement, 1e3 * rms_V, doubt_mV),
        settings=dict(settings),
        last=dict(values),
        curve=curve,
    )


def _notes(
    solution: Solution, judgement: Judgement, residual_mV: float, doubt_mV: float
) -> tuple[str, ...]:
    notes = []
    if residual_mV > doubt_mV:
        notes.append(
            f"residuals of {residual_mV:.1f} mV: the model does not describe the data, and its "
            "parameters mean little"
        )
    free = int((~solution.at_bound).sum())
    if judgement.effective_rows < FEW * free:
        notes.append(
            f"the residuals follow each other: {len(solution.residual_V)} rows are worth "
            f"{judgement.effective_rows:.1f}, so the standard errors are rough"
        )
    if judgement.condition_number >= BLIND:
        notes.append("the data do not determine every parameter; there are no standard errors")
    if solution.at_bound.any():
        notes.append("parameters on a bound have no standard error, and others' are given them")
    return tuple(notes)
