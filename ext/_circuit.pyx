# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Thevenin circuit with up to three RC pairs, relaxed at the first row. No checks here.

V = sum_j a_j (q / scale)^j + I R_0 + sum_k R_k u_k, where u_k is the current behind a lag of
tau_k. The current of a row has flowed since the row before, so the lag is exact:
u <- alpha u + (1 - alpha) I with alpha = exp(-dt / tau). Parameters: a_0 .. a_order, R_0, then
R_k and log(tau_k / s) for each pair. `batterylab.fit.circuit` checks what goes in.
"""

from libc.math cimport exp

from levmar cimport Outcome, Problem, best_of

cdef enum:
    MOST_PAIRS = 3


cdef struct Window:
    const double* time_s
    const double* current_A
    const double* charge            # since the first row, over a scale
    const double* voltage_V         # NULL: the residual is the voltage itself
    const unsigned char* observed   # rows that were measured; others only carry the current
    Py_ssize_t rows
    int order
    int pairs


cdef void evaluate(
    const void* data, const double* p, double* residual, double* jacobian
) noexcept nogil:
    cdef const Window* window = <const Window*>data
    cdef double u[MOST_PAIRS]
    cdef double du[MOST_PAIRS]
    cdef double tau[MOST_PAIRS]
    cdef double alpha[MOST_PAIRS]
    cdef double dt = 0.0
    cdef double last_dt = -1.0
    cdef double value, power, current
    cdef int first = window.order + 1
    cdef int parameters = first + 1 + 2 * window.pairs
    cdef double* row = jacobian
    cdef Py_ssize_t i, seen = 0
    cdef int k
    for k in range(window.pairs):
        u[k] = 0.0
        du[k] = 0.0
        alpha[k] = 1.0
        tau[k] = exp(p[first + 2 + 2 * k])
    for i in range(window.rows):
        current = window.current_A[i]
        if i > 0:
            dt = window.time_s[i] - window.time_s[i - 1]
            for k in range(window.pairs):
                if dt != last_dt:
                    alpha[k] = exp(-dt / tau[k])
                # by log(tau): d alpha = alpha dt / tau
                du[k] = alpha[k] * du[k] + alpha[k] * (dt / tau[k]) * (u[k] - current)
                u[k] = alpha[k] * u[k] + (1.0 - alpha[k]) * current
            last_dt = dt
        if not window.observed[i]:
            continue
        value = current * p[first]
        for k in range(window.pairs):
            value += p[first + 1 + 2 * k] * u[k]
        power = 1.0
        for k in range(first):
            value += p[k] * power
            if row != NULL:
                row[k] = power
            power *= window.charge[i]
        residual[seen] = value - (window.voltage_V[i] if window.voltage_V != NULL else 0.0)
        seen += 1
        if row != NULL:
            row[first] = current
            for k in range(window.pairs):
                row[first + 1 + 2 * k] = u[k]
                row[first + 2 + 2 * k] = p[first + 1 + 2 * k] * du[k]
            row += parameters


cdef Window make_window(
    const double[::1] time_s, const double[::1] current_A, const double[::1] charge,
    const unsigned char[::1] observed, int order, int pairs
):
    cdef Window window
    window.time_s = &time_s[0]
    window.current_A = &current_A[0]
    window.charge = &charge[0]
    window.voltage_V = NULL
    window.observed = &observed[0]
    window.rows = time_s.shape[0]
    window.order = order
    window.pairs = pairs
    return window


def voltage(
    const double[::1] time_s, const double[::1] current_A, const double[::1] charge,
    const unsigned char[::1] observed, int order, int pairs, const double[::1] parameters,
    double[::1] out_V, double[:, ::1] out_jacobian
):
    """Fill the voltage of the observed rows and its derivatives by each parameter."""
    cdef Window window = make_window(time_s, current_A, charge, observed, order, pairs)
    with nogil:
        evaluate(&window, &parameters[0], &out_V[0], &out_jacobian[0, 0])


def fit(
    const double[::1] time_s, const double[::1] current_A, const double[::1] charge,
    const double[::1] voltage_V, const unsigned char[::1] observed, int order, int pairs,
    const double[:, ::1] starts, const double[::1] lower, const double[::1] upper,
    double[::1] parameters, double[::1] residual, double[::1] trial, double[:, ::1] jacobian,
    int most_steps, double tolerance
):
    """Fit from every start; fill the best parameters, and the observed rows' residuals.

    Returns the status of `levmar.pxd`, the number of steps and half the sum of squares.
    """
    cdef Window window = make_window(time_s, current_A, charge, observed, order, pairs)
    cdef Problem problem
    cdef Outcome outcome
    window.voltage_V = &voltage_V[0]
    problem.model = evaluate
    problem.data = &window
    problem.rows = residual.shape[0]
    problem.parameters = starts.shape[1]
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
