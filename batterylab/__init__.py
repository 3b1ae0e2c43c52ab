"""Test battery cells, compare their suppliers, keep the evidence.

Six words carry the package:

study
    The question being asked: suppliers, lots, protocols, limits, and what a wrong answer costs.
protocol
    What shall be done to a cell: a YAML file of steps.
recording
    What was done to one cell: columns, steps and provenance, in one sealed HDF5 file.
feature
    A number drawn from a recording, with unit, method, uncertainty and the steps it came from.
fit
    The parameters of a model with their uncertainty.
scorecard
    What is believed of each supplier and lot, and how firmly.

Charge current is positive. Units are SI but for Ah, Wh, °C and percent, and every name
carries its own.
"""

__version__ = "0.1.0"
