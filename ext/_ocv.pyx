# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Open-circuit voltage of a full cell from two half-cell curves. No checks here.

V = U_p(y) - U_n(x) + I R, with x and y straight lines in the charge. The parameters are
x_low, x_high, y_low, y_high (stoichiometries where the recording holds least and most charge)
and R. `batterylab.fit.ocv` checks what goes in.
"""

from levmar cimport Outcome, Problem, best_of, levmar
from ocv_tables cimport read_smoothly

cdef enum:
    PARAMETERS = 5


cdef struct Cell:
    const double* fraction      # of the charge, 0 at the low end, 1 at the high end
    const double* current_A
    const double* voltage_V     # NULL: the residual is the voltage itself
    Py_ssize_t rows
    const double* negative_V
    const double* positive_V
    Py_ssize_t points
    double first
    double step


cdef void evaluate(
    const void* data, const double* p, double* residual, double* jacobian
) noexcept nogil:
    cdef const Cell* cell = <const Cell*>data
    cdef double f, u_n, u_p, slope_n, slope_p
    cdef double* row
    cdef Py_ssize_t i
    for i in range(cell.rows):
        f = cell.fraction[i]
        u_n = read_smoothly(cell.negative_V, cell.points, cell.first, cell.step,
                            p[0] + (p[1] - p[0]) * f, &slope_n)
        u_p = read_smoothly(cell.positive_V, cell.points, cell.first, cell.step,
                            p[2] + (p[3] - p[2]) * f, &slope_p)
        residual[i] = u_p - u_n + cell.current_A[i] * p[4]
        if cell.voltage_V != NULL:
            residual[i] -= cell.voltage_V[i]
        if jacobian != NULL:
            row = jacobian + i * PARAMETERS
            row[0] = -slope_n * (1.0 - f)
            row[1] = -slope_n * f
            row[2] = slope_p * (1.0 - f)
            row[3] = slope_p * f
            row[4] = cell.current_A[i]


cdef Cell make_cell(
    const double[::1] fraction, const double[::1] current_A, const double[::1] negative_V,
    const double[::1] positive_V, double first, double step
):
    cdef Cell cell
    cell.fraction = &fraction[0]
    cell.current_A = &current_A[0]
    cell.voltage_V = NULL
    cell.rows = fraction.shape[0]
    cell.negative_V = &negative_V[0]
    cell.positive_V = &positive_V[0]
    cell.points = negative_V.shape[0]
    cell.first = first
    cell.step = step
    return cell


def voltage(
    const double[::1] fraction, const double[::1] current_A, const double[::1] negative_V,
    const double[::1] positive_V, double first, double step, const double[::1] parameters,
    double[::1] out_V, double[:, ::1] out_jacobian
):
    """Fill the model's voltage and its derivatives by the five parameters."""
    cdef Cell cell = make_cell(fraction, current_A, negative_V, positive_V, first, step)
    with nogil:
        evaluate(&cell, &parameters[0], &out_V[0], &out_jacobian[0, 0])


def fit(
    const double[::1] fraction, const double[::1] current_A, const double[::1] voltage_V,
    const double[::1] negative_V, const double[::1] positive_V, double first, double step,
    const double[:, ::1] starts, const double[::1] lower, const double[::1] upper,
    double[::1] parameters, double[::1] residual, double[::1] trial, double[:, ::1] jacobian,
    int most_steps, double tolerance
):
    """Fit from every start; fill the best parameters, residuals and derivatives.

    Returns the status of `levmar.pxd`, the number of steps and half the sum of squares.
    """
    cdef Cell cell = make_cell(fraction, current_A, negative_V, positive_V, first, step)
    cdef Problem problem
    cdef Outcome outcome
    cell.voltage_V = &voltage_V[0]
    problem.model = evaluate
    problem.data = &cell
    problem.rows = cell.rows
    problem.parameters = PARAMETERS
    problem.lower = &lower[0]
    problem.upper = &upper[0]
    problem.residual = &residual[0]
    problem.trial = &trial[0]
    problem.jacobian = &jacobian[0, 0]
    problem.most_steps = most_steps
    problem.tolerance = tolerance
    with nogil:
        outcome = best_of(&problem, &starts[0, 0], starts.shape[0], &parameters[0])
    return outcome.status, outcome.steps, outcome.cost


def fit_each(
    const double[::1] fraction, const double[::1] current_A, const double[::1] voltage_V,
    const double[::1] negative_V, const double[::1] positive_V, double first, double step,
    const double[:, ::1] starts, const double[::1] lower, const double[::1] upper,
    double[:, ::1] parameters, double[::1] costs, double[::1] residual, double[::1] trial,
    double[:, ::1] jacobian, int most_steps, double tolerance
):
    """Fit from every start on its own; fill where each ends and half its sum of squares."""
    cdef Cell cell = make_cell(fraction, current_A, negative_V, positive_V, first, step)
    cdef Problem problem
    cdef Py_ssize_t k
    cdef int j
    cell.voltage_V = &voltage_V[0]
    problem.model = evaluate
    problem.data = &cell
    problem.rows = cell.rows
    problem.parameters = PARAMETERS
    problem.lower = &lower[0]
    problem.upper = &upper[0]
    problem.residual = &residual[0]
    problem.trial = &trial[0]
    problem.jacobian = &jacobian[0, 0]
    problem.most_steps = most_steps
    problem.tolerance = tolerance
    with nogil:
        for k in range(starts.shape[0]):
            for j in range(PARAMETERS):
                parameters[k, j] = starts[k, j]
            costs[k] = levmar(&problem, &parameters[k, 0]).cost


def potentials(
    const double[:, ::1] windows, const double[::1] fraction, const double[::1] table_V,
    double first, double step, double[:, ::1] out
):
    """Fill an electrode's potential in each window, read off its table on straight lines."""
    cdef Py_ssize_t i, k, left, last = table_V.shape[0] - 2
    cdef double place
    with nogil:
        for k in range(windows.shape[0]):
            for i in range(fraction.shape[0]):
                place = windows[k, 0] + (windows[k, 1] - windows[k, 0]) * fraction[i]
                place = min(max((place - first) / step, 0.0), last + 1.0)
                left = min(<Py_ssize_t>place, last)
                out[k, i] = table_V[left] + (place - left) * (table_V[left + 1] - table_V[left])
