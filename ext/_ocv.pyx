# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Open-circuit voltage of a full cell from two half-cell curves. No checks here.

V = U_p(y) - U_n(x) + I R, with x and y straight lines in the charge. The parameters are
x_low, x_high, y_low, y_high (stoichiometries where the recording holds least and most charge)
and R. `batterylab.fit.ocv` checks what goes in.
"""

from batterylab._kernels._tasks cimport Job, Task
from levmar cimport levmar
from ocv_tables cimport read_smoothly

cdef enum:
    PARAMETERS = 5


cdef struct Cell:
    const double* fraction      # of the charge, 0 at the low end, 1 at the high end
    const double* current_A
    const double* voltage_V     # NULL: the residual is the voltage itself
    const unsigned char* parts  # the recording of a row, from 0
    Py_ssize_t rows
    const double* negative_V
    const double* positive_V
    Py_ssize_t points
    double first
    double step
    int shifts                  # further recordings
    double* costs               # of every start, where each is fitted on its own


cdef void evaluate(
    const void* data, const double* p, double* residual, double* jacobian
) noexcept nogil:
    cdef const Cell* cell = <const Cell*>data
    cdef double f, u_n, u_p, slope_n, slope_p
    cdef double* row
    cdef int j, part, count = PARAMETERS + cell.shifts
    cdef Py_ssize_t i
    for i in range(cell.rows):
        part = cell.parts[i]
        f = cell.fraction[i]
        if part > 0:
            f += p[PARAMETERS + part - 1]
        u_n = read_smoothly(cell.negative_V, cell.points, cell.first, cell.step,
                            p[0] + (p[1] - p[0]) * f, &slope_n)
        u_p = read_smoothly(cell.positive_V, cell.points, cell.first, cell.step,
                            p[2] + (p[3] - p[2]) * f, &slope_p)
        residual[i] = u_p - u_n + cell.current_A[i] * p[4]
        if cell.voltage_V != NULL:
            residual[i] -= cell.voltage_V[i]
        if jacobian != NULL:
            row = jacobian + i * count
            row[0] = -slope_n * (1.0 - f)
            row[1] = -slope_n * f
            row[2] = slope_p * (1.0 - f)
            row[3] = slope_p * f
            row[4] = cell.current_A[i]
            for j in range(cell.shifts):
                row[PARAMETERS + j] = 0.0
            if part > 0:
                row[PARAMETERS + part - 1] = slope_p * (p[3] - p[2]) - slope_n * (p[1] - p[0])


cdef Cell make_cell(
    const double[::1] fraction, const double[::1] current_A, const unsigned char[::1] parts,
    const double[::1] negative_V, const double[::1] positive_V, double first, double step,
    int shifts
):
    cdef Cell cell
    cell.fraction = &fraction[0]
    cell.current_A = &current_A[0]
    cell.voltage_V = NULL
    cell.parts = &parts[0]
    cell.rows = fraction.shape[0]
    cell.negative_V = &negative_V[0]
    cell.positive_V = &positive_V[0]
    cell.points = negative_V.shape[0]
    cell.first = first
    cell.step = step
    cell.shifts = shifts
    cell.costs = NULL
    return cell


def voltage(
    const double[::1] fraction, const double[::1] current_A, const unsigned char[::1] parts,
    const double[::1] negative_V, const double[::1] positive_V, double first, double step,
    const double[::1] parameters, double[::1] out_V, double[:, ::1] out_jacobian
):
    """Fill the model's voltage and its derivatives by the five parameters, and by shifts."""
    cdef Cell cell = make_cell(fraction, current_A, parts, negative_V, positive_V, first, step,
                               parameters.shape[0] - PARAMETERS)
    with nogil:
        evaluate(&cell, &parameters[0], &out_V[0], &out_jacobian[0, 0])


cdef void fit_each(Job* job) noexcept nogil:
    """Fit from every start on its own, into the rows of `parameters`."""
    cdef const Cell* cell = <const Cell*>job.problem.data
    cdef int j, n = job.problem.parameters
    cdef Py_ssize_t k
    for k in range(job.count):
        for j in range(n):
            job.parameters[k * n + j] = job.starts[k * n + j]
        cell.costs[k] = levmar(&job.problem, job.parameters + k * n).cost


cdef class Fit(Task):
    """A fit from every start: the best, or into `each` and `costs` every one's end."""

    cdef Cell cell

    def __init__(
        self, const double[::1] fraction, const double[::1] current_A,
        const double[::1] voltage_V, const unsigned char[::1] parts,
        const double[::1] negative_V, const double[::1] positive_V, double first, double step,
        const double[:, ::1] starts, const double[::1] lower, const double[::1] upper,
        double[::1] parameters, double[::1] residual, double[::1] trial,
        double[:, ::1] jacobian, int most_steps, double tolerance, int loss, double loss_scale,
        double[:, ::1] each=None, double[::1] costs=None
    ):
        self.prepare(starts, lower, upper, parameters, residual, trial, jacobian, most_steps,
                     tolerance, loss, loss_scale)
        self.kept = (fraction, current_A, voltage_V, parts, negative_V, positive_V, starts, lower,
                     upper, parameters, residual, trial, jacobian, each, costs)
        self.cell = make_cell(fraction, current_A, parts, negative_V, positive_V, first, step,
                              starts.shape[1] - PARAMETERS)
        self.cell.voltage_V = &voltage_V[0]
        self.job.problem.model = evaluate
        self.job.problem.data = &self.cell
        if each is not None:
            self.job.parameters = &each[0, 0]
            self.cell.costs = &costs[0]
            self.job.work = fit_each


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
