"""Draw a fit: measured and model above, their difference below."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from batterylab.errors import BatterylabError, EnvironmentFailedError
from batterylab.fit.result import Curve, Fit, SpectrumCurve

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_fit(fit: Fit, folder: Path) -> Path:
    """Write a PNG of one fit.

    Parameters
    ----------
    fit : Fit
        With its curve, as `batterylab.fit.fit` returns it.
    folder : Path
        Made if it does not exist.

    Returns
    -------
    Path
        ``<serial>_<8 of seal>_<model>.png``.

    Raises
    ------
    BatterylabError
        If the fit carries no curve.
    EnvironmentFailedError
        If the disk refuses.
    """
    if fit.curve is None:
        raise BatterylabError("a fit that was read from a file has no curve", hint="fit again")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 5.0), layout="constrained")
    if isinstance(fit.curve, SpectrumCurve):
        _draw_spectrum(figure, fit.curve, fit.model)
    else:
        _draw_curve(figure, fit.curve, fit.model)
    state = fit.residual_text if fit.converged else f"DID NOT CONVERGE: {fit.reason}"
    figure.suptitle(f"{fit.serial}, step {fit.step}: {state}", fontsize=10)
    serial = "".join(c if c.isalnum() or c in "-_.+" else "-" for c in fit.serial)
    path = Path(folder) / f"{serial}_{fit.seal[:8] or 'unsealed'}_{fit.model}.png"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".writing-", suffix=".png", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            figure.savefig(temporary, dpi=130, metadata={"Software": None})
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentFailedError(f"{path}: cannot be written: {error}") from None
    return path


def _draw_curve(figure: "Figure", curve: Curve, model: str) -> None:
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot(curve.x, curve.measured_V, ".", markersize=3, color="0.4", label="measured")
    upper.plot(curve.x, curve.model_V, color="C0", linewidth=1.2, label=model)
    upper.set_ylabel("voltage / V")
    upper.legend(frameon=False)
    lower.axhline(0.0, color="0.7", linewidth=0.8)
    lower.plot(curve.x, 1e3 * (curve.model_V - curve.measured_V), color="C3", linewidth=1.0)
    lower.set_ylabel("difference / mV")
    lower.set_xlabel(curve.x_label)


def _draw_spectrum(figure: "Figure", curve: SpectrumCurve, model: str) -> None:
    """Draw a Nyquist plot, and the difference over the frequency."""
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1])
    for ohm, style, name in ((curve.measured_ohm, ".", "measured"), (curve.model_ohm, "-", model)):
        upper.plot(1e3 * ohm.real, -1e3 * ohm.imag, style, linewidth=1.2, markersize=4,
                   color="0.4" if style == "." else "C0", label=name)  # fmt: skip
    upper.set_aspect("equal", adjustable="datalim")
    upper.set_xlabel("real part / mΩ")
    upper.set_ylabel("-imaginary part / mΩ")
    upper.legend(frameon=False)
    share = 100.0 * (curve.model_ohm - curve.measured_ohm) / abs(curve.measured_ohm)
    lower.axhline(0.0, color="0.7", linewidth=0.8)
    for values, name in ((share.real, "real"), (share.imag, "imaginary")):
        lower.semilogx(curve.frequency_Hz, values, ".-", linewidth=0.8, markersize=3, label=name)
    lower.set_ylabel("difference / %")
    lower.set_xlabel("frequency / Hz")
    lower.legend(frameon=False, fontsize=8)
