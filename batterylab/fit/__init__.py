"""Fits: parameters of a model, with standard errors and what the data cannot tell apart.

>>> from batterylab.fit import fit
>>> fit(recording, model="circuit").values["r0_mOhm"]  # doctest: +SKIP
23.4
"""

from batterylab.fit.models import MODELS, fit, settings_of
from batterylab.fit.result import VERSION, Fit
from batterylab.fit.window import NotSuitedError

__all__ = ["MODELS", "VERSION", "Fit", "NotSuitedError", "fit", "settings_of"]
