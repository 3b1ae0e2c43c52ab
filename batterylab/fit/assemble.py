"""Put a solution and its judgement together as a `Fit`."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batterylab.fit.profile import Interval, profile
from batterylab.fit.result import Curve, Fit, SpectrumCurve
from batterylab.fit.solve import Solution
from batterylab.fit.statistics import BLIND, Judgement
from batterylab.recording import Recording

#: fewer effective rows than this per parameter: the residuals are more model error than noise
FEW = 2.0
#: residuals above this, and above the scatter of the voltage itself, are no fit
ABSURD_V = 0.05

#: name of a value -> the parameter that it follows from alone, and how
Shown = Mapping[str, tuple[int, Callable[[float], float]]]


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
        A larger residual makes the fit doubtful.
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
        notes=_notes(solution, judgement, isinstance(curve, SpectrumCurve)),
        doubtful=doubt_of(1e3 * rms_V, doubt_mV, "mV") if converged else "",
        settings=dict(settings),
        last=dict(values),
        curve=curve,
    )


def of_several(
    made: Fit, recordings: Sequence[Recording], part: NDArray[Any], residual_V: NDArray[Any]
) -> Fit:
    """Return a joint fit that says of each recording serial, protocol, seal, rows and residual.

    Its seal is the SHA-256 of theirs. `part` names the recording of every row, from 0.
    """
    each = [
        {"serial": r.serial, "protocol": r.protocol, "seal": r.seal,
         "rows": int((part == k).sum()),
         "residual_mV": 1e3 * float(np.sqrt(np.mean(residual_V[part == k] ** 2)))}
        for k, r in enumerate(recordings)
    ]  # fmt: skip
    seal = hashlib.sha256("".join(r.seal for r in recordings).encode()).hexdigest()
    serials = tuple(dict.fromkeys(r.serial for r in recordings))
    notes = [f"{one['serial']} {one['protocol']}: {one['residual_mV']:.2f} mV over "
             f"{one['rows']} rows" for one in each]  # fmt: skip
    if len(serials) > 1:
        notes.append("recordings of different cells share the parameters of one")
    return replace(made, serial="+".join(serials), seal=seal, notes=(*made.notes, *notes),
                   settings={**made.settings, "recordings": each})  # fmt: skip


def with_profile(
    made: Fit, solution: Solution, judgement: Judgement, shown: Shown
) -> Fit:  # fmt: skip
    """Return a fit with intervals by profile likelihood.

    Parameters
    ----------
    shown : mapping
        Which values get one: name, place of the parameter, function of it.
    """
    if not made.converged:
        return made
    found = profile(solution, judgement)
    ends = {name: _ends(found[place], float(solution.parameters[place]), rule)
            for name, (place, rule) in shown.items()}  # fmt: skip
    notes = list(made.notes)
    better = [name for name, (place, _) in shown.items() if found[place].found_better]
    if better:
        notes.append(f"the profile of {', '.join(better)} found a smaller sum of squares: the fit "
                     "is not the best one")  # fmt: skip
    return replace(made, profile=ends, notes=tuple(notes))


def _ends(
    interval: Interval, best: float, rule: Callable[[float], float]
) -> tuple[float, float]:  # fmt: skip
    low, high = (rule(end) if math.isfinite(end) else math.nan
                 for end in (interval.low, interval.high))  # fmt: skip
    falls = rule(best + 1e-6 * max(1.0, abs(best))) < rule(best)
    return (high, low) if falls else (low, high)


def doubt_of(residual: float, limit: float, unit: str) -> str:
    """Return why a residual makes a fit doubtful; empty if it does not."""
    if not residual > limit:
        return ""
    return (f"residuals of {residual:.3g} {unit}, above {limit:.3g} {unit}: the model does not "
            "describe the data, and its parameters mean little")  # fmt: skip


def _notes(
    solution: Solution, judgement: Judgement, is_relative: bool
) -> tuple[str, ...]:  # fmt: skip
    notes = []
    if not solution.loss.is_squares:
        size = solution.loss.scale
        told = f"{100 * size:.3g} %" if is_relative else f"{1e3 * size:.3g} mV"
        beyond = int((np.abs(solution.residual_V) > solution.loss.scale).sum())
        notes.append(
            f"loss {solution.loss.name} at {told}: {beyond} of {len(solution.residual_V)} rows lie "
            "beyond it; standard errors take it that such rows come on either side alike and "
            "anywhere"
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
