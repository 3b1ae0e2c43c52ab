# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Thevenin circuit with up to three RC pairs, relaxed at the first row. No checks here.

V = sum_j a_j (q / scale)^j + I R_0 + sum_k R_k u_k, where u_k is the current behind a lag of
tau_k. The current of a row has flowed since the row before, so the lag is exact:
u <- alpha u + (1 - alpha) I with alpha = exp(-dt / tau). Parameters: a_0 .. a_order, R_0, then
R_k and log(tau_k / s) for each pair. `batterylab.fit.circuit` checks what goes in.
"""

from libc.math cimport exp

from circuit_moments cimport (
    Linear, Moments, Rows, lag_slopes, moments_of, solve_linear,
)
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


cdef void choose_lags(
    const Moments* m, int order, int lags, const double* candidates, int count, double* out
) noexcept nogil:
    """Take the candidates whose linear fit is the best, in rising order."""
    cdef Linear linear
    cdef int chosen[MOST_PAIRS]
    cdef double best = 1e299
    cdef int a, b, c, k, last = count - 1
    for k in range(lags):
        out[k] = candidates[k]
    for a in range(count):
        for b in range(a + 1 if lags > 1 else last, count):
            for c in range(b + 1 if lags > 2 else last, count):
                chosen[0] = a
                chosen[1] = b
                chosen[2] = c
                solve_linear(m, order, chosen, lags, &linear)
                if linear.inside and linear.cost < best:
                    best = linear.cost
                    for k in range(lags):
                        out[k] = candidates[chosen[k]]


cdef bint damped_step(
    const double* gradient, const double* curvature, double damping, int lags, double* step
) noexcept nogil:
    """Solve (H + damping diag H) step = -gradient for up to three lags, by elimination."""
    cdef double a[3][4]
    cdef double factor
    cdef int i, j, k
    for i in range(lags):
        for j in range(lags):
            a[i][j] = curvature[3 * i + j]
        a[i][i] *= 1.0 + damping
        a[i][lags] = -gradient[i]
    for i in range(lags):
        if not a[i][i] > 0.0:
            return False
        for j in range(i + 1, lags):
            factor = a[j][i] / a[i][i]
            for k in range(i, lags + 1):
                a[j][k] -= factor * a[i][k]
    for i in range(lags - 1, -1, -1):
        step[i] = a[i][lags]
        for j in range(i + 1, lags):
            step[i] -= a[i][j] * step[j]
        step[i] /= a[i][i]
    return True


cdef int project(
    const Rows* rows, int lags, double low, double high, double* log_tau, Linear* linear,
    int most_steps, double tolerance
) noexcept nogil:
    """Fit the lags by variable projection; return the steps taken, or -1 if it is no use here.

    It gives up where a resistance would be negative or a lag leaves its bounds: the bounded
    optimiser is for that.
    """
    cdef Moments here, there
    cdef Linear trial
    cdef int all_[MOST_PAIRS]
    cdef double gradient[MOST_PAIRS]
    cdef double curvature[9]
    cdef double step[MOST_PAIRS]
    cdef double moved[MOST_PAIRS]
    cdef double damping = 1e-3, growth = 2.0, predicted, gain
    cdef int k, l, taken
    cdef bint outside
    for k in range(MOST_PAIRS):
        all_[k] = k
    moments_of(rows, log_tau, lags, True, 1, NULL, &here)
    solve_linear(&here, rows.order, all_, lags, linear)
    if not linear.inside:
        return -1
    lag_slopes(&here, linear, rows.order, lags, gradient, curvature)
    for taken in range(1, most_steps + 1):
        if not damped_step(gradient, curvature, damping, lags, step):
            return -1
        predicted = 0.0
        outside = False
        for k in range(lags):
            moved[k] = log_tau[k] + step[k]
            outside = outside or not low < moved[k] < high
            predicted -= gradient[k] * step[k]
            for l in range(lags):
                predicted -= 0.5 * step[k] * curvature[3 * k + l] * step[l]
        if 0.0 <= predicted <= tolerance * linear.cost:
            return taken
        trial.inside = False
        if not outside:
            moments_of(rows, moved, lags, True, 1, &here, &there)
            solve_linear(&there, rows.order, all_, lags, &trial)
        gain = (linear.cost - trial.cost) / predicted if trial.inside else -1.0
        if gain > 1e-4:
            gain = 2.0 * gain - 1.0
            damping *= max(1.0 / 3.0, 1.0 - gain * gain * gain)
            growth = 2.0
            here = there
            linear[0] = trial
            for k in range(lags):
                log_tau[k] = moved[k]
            lag_slopes(&here, linear, rows.order, lags, gradient, curvature)
        else:
            damping *= growth
            growth *= 2.0
            if damping > 1e12:
                return -1
    return -1


def fit_lags(
    const double[::1] time_s, const double[::1] current_A, const double[::1] charge,
    const double[::1] voltage_V, const unsigned char[::1] observed, int order, int pairs,
    const double[::1] candidates, double low, double high, double[::1] parameters,
    double[::1] residual, double[:, ::1] jacobian, int most_steps, double tolerance
):
    """Fit by variable projection, from the best of the candidate lags; 1 to 3 pairs.

    Fills parameters, residuals and derivatives, and returns the number of steps; or -1 if
    bounds matter: `parameters` are then a start for `fit`.
    """
    cdef Window window = make_window(time_s, current_A, charge, observed, order, pairs)
    cdef Rows rows
    cdef Moments m
    cdef Linear linear
    cdef double log_tau[MOST_PAIRS]
    cdef double total = 0.0
    cdef Py_ssize_t i, seen = 0
    cdef int k, steps
    window.voltage_V = &voltage_V[0]
    rows.time_s, rows.current_A, rows.charge = window.time_s, window.current_A, window.charge
    rows.voltage_V, rows.observed = window.voltage_V, window.observed
    rows.count, rows.order = window.rows, order
    with nogil:
        for i in range(rows.count):
            if rows.observed[i]:
                total += rows.voltage_V[i]
                seen += 1
        rows.middle_V = total / seen
        moments_of(&rows, &candidates[0], candidates.shape[0], False,
                   8 if seen > 1000 else 1, NULL, &m)
        choose_lags(&m, order, pairs, &candidates[0], candidates.shape[0], log_tau)
        steps = project(&rows, pairs, low, high, log_tau, &linear, most_steps, tolerance)
        for k in range(order + 2):
            parameters[k] = linear.value[k]
        parameters[0] += rows.middle_V
        for k in range(pairs):
            parameters[order + 2 + 2 * k] = linear.value[order + 2 + k]
            parameters[order + 3 + 2 * k] = log_tau[k]
        if steps > 0:
            evaluate(&window, &parameters[0], &residual[0], &jacobian[0, 0])
    return steps
