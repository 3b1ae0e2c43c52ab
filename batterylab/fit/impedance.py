"""Impedance spectra: of circuits, and of the single-particle model with electrolyte."""

from batterylab.fit.impedancespme import (
    EIS_NAMES,
    EisCell,
    cell_impedance,
    spme_impedance,
)

__all__ = ["EIS_NAMES", "EisCell", "cell_impedance", "spme_impedance"]
