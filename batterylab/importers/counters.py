"""A cycler's own counts of charge and energy, brought into one form.

Cyclers count per step, per cycle or over the whole test, with or without sign, and a file
seldom says which. A count that restarts shows at a step's border: there the new value itself,
or its difference from the last, is the charge that passed, whichever lies nearer to what the
current says. Inside a step only differences count, so that the check of the current against
the counter stays a check.
"""

import numpy as np
from numpy.typing import NDArray

from batterylab.importers.vendortable import Counter, VendorTable

Floats = NDArray[np.float64]


def passed_by_current_Ah(table: VendorTable, first: NDArray[np.bool_]) -> Floats:
    """Return the charge that passed up to each row since the row before, from the current.

    Inside a step by the trapezoidal rule. At a step's first row the current of that row times
    the step's time so far; where the file does not tell it, the time since the row before, at
    most the interval that follows.

    Parameters
    ----------
    table : VendorTable
        Time in s and current in A.
    first : ndarray of bool
        True at the first row of each step.

    Returns
    -------
    ndarray of float64
        In Ah, charge positive; the first element is 0.
    """
    time_s, current_A = table.time_s, table.current_A
    passed = np.zeros(len(time_s))
    interval_s = np.diff(time_s, prepend=time_s[0])
    passed[1:] = 0.5 * (current_A[1:] + current_A[:-1]) * interval_s[1:]
    rows = np.flatnonzero(first)
    if table.step_time_s is not None:
        since_start_s = np.minimum(interval_s[rows], np.maximum(table.step_time_s[rows], 0.0))
    else:
        after = np.append(interval_s[1:], np.inf)
        last = np.append(first[1:], True)
        after[last] = np.inf  # a step of one row: nothing inside it to compare with
        since_start_s = np.minimum(interval_s[rows], after[rows])
    passed[rows] = current_A[rows] * since_start_s
    passed[0] = 0.0
    return passed / 3600.0


def increments(counter: Counter, first: NDArray[np.bool_], expected: Floats) -> list[Floats]:
    """Return what was charged and discharged up to each row since the row before.

    Parameters
    ----------
    counter : Counter
        As the file writes it.
    first : ndarray of bool
        True at the first row of each step.
    expected : ndarray of float64
        The increments that current (and voltage) give, in the counter's unit: they tell a
        restart from a difference at a step's border, and the sign of a count without one.

    Returns
    -------
    list of two ndarray
        Charged and discharged, both positive; the first element of each is 0.
    """
    if counter.form == "pair":
        return [
            np.maximum(_steps(counter.values[0], first, np.maximum(expected, 0.0), True), 0.0),
            np.maximum(_steps(counter.values[1], first, np.maximum(-expected, 0.0), True), 0.0),
        ]
    values = counter.values[0]
    if counter.form == "unsigned":
        net = _steps(np.abs(values), first, np.abs(expected), True) * np.sign(expected)
    else:
        net = _steps(values, first, expected, False)
    return [np.maximum(net, 0.0), np.maximum(-net, 0.0)]


def _steps(values: Floats, first: NDArray[np.bool_], expected: Floats, grows: bool) -> Floats:
    """Return the differences of a count that restarts now and then."""
    change = np.diff(values, prepend=values[0])
    doubtful = first | (change < 0) if grows else first
    restarted = doubtful & (np.abs(values - expected) < np.abs(change - expected))
    if grows:  # inside a step, a fall by less than half is noise of the last digit
        restarted |= ~first & (change < -0.5 * np.abs(values - change))
    change[restarted] = values[restarted]
    change[0] = 0.0
    return change
