# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Thevenin circuit with up to three RC pairs, relaxed at the first row. No checks here.

V = sum_j a_j (q / scale)^j + I R_0 + sum_k R_k u_k, where u_k is the current behind a lag of
tau_k. The current of a row has flowed since the row before, so the lag is exact:
u <- alpha u + (1 - alpha) I with alpha = exp(-dt / tau). Parameters: a_0 .. a_order, R_0, then
R_k and log(tau_k / s) for each pair; for several pulses, knots over the state of charge and a
thermal node see `circuit_window.pxd` and `circuit_thermal.pxd`. `batterylab.fit.circuit` checks
what goes in.
"""

from batterylab._kernels._tasks cimport Job, Task
from circuit_moments cimport (
    Linear, Moments, Rows, lag_slopes, moments_of, solve_linear,
)
from circuit_thermal cimport evaluate_warm
from circuit_window cimport MOST_PAIRS, Window, evaluate


cdef class Pulses:
    """Checked rows of one pulse or several, as the kernel reads them."""

    cdef Window window
    cdef tuple kept

    def __init__(
        self, const double[::1] time_s, const double[::1] current_A, const double[::1] charge,
        const unsigned char[::1] observed, const int[::1] first, const double[:, ::1] weights,
        const double[::1] temperature_K, int order, int pairs, double kelvin_V,
        double activation_K
    ):
        self.kept = (time_s, current_A, charge, observed, first, weights, temperature_K)
        self.window.time_s = &time_s[0]
        self.window.current_A = &current_A[0]
        self.window.charge = &charge[0]
        self.window.voltage_V = NULL
        self.window.temperature_K = &temperature_K[0] if temperature_K.shape[0] else NULL
        self.window.observed = &observed[0]
        self.window.first = &first[0]
        self.window.weights = &weights[0, 0]
        self.window.parts = weights.shape[0]
        self.window.knots = weights.shape[1]
        self.window.order = order
        self.window.pairs = pairs
        self.window.kelvin_V = kelvin_V
        self.window.activation_K = activation_K
        self.window.warmth = 0
        if temperature_K.shape[0]:  # the activation is fitted if it is not a number
            self.window.warmth = 2 if activation_K == activation_K else 3


def voltage(
    Pulses pulses, const double[::1] parameters, double[::1] out_V, double[:, ::1] out_jacobian
):
    """Fill the voltage of the observed rows and its derivatives by each parameter.

    With a thermal node, the temperatures times `kelvin_V` follow.
    """
    with nogil:
        if pulses.window.temperature_K != NULL:
            evaluate_warm(&pulses.window, &parameters[0], &out_V[0], &out_jacobian[0, 0])
        else:
            evaluate(&pulses.window, &parameters[0], &out_V[0], &out_jacobian[0, 0])


cdef class Fit(Task):
    """A fit from every start, within bounds."""

    cdef Window window

    def __init__(
        self, Pulses pulses, const double[::1] voltage_V, const double[:, ::1] starts,
        const double[::1] lower, const double[::1] upper, double[::1] parameters,
        double[::1] residual, double[::1] trial, double[:, ::1] jacobian, int most_steps,
        double tolerance, int loss, double loss_scale
    ):
        self.prepare(starts, lower, upper, parameters, residual, trial, jacobian, most_steps,
                     tolerance, loss, loss_scale)
        self.kept = (pulses, voltage_V, starts, lower, upper, parameters, residual, trial,
                     jacobian)
        self.window = pulses.window
        self.window.voltage_V = &voltage_V[0]
        self.job.problem.model = evaluate_warm if self.window.temperature_K != NULL else evaluate
        self.job.problem.data = &self.window


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


cdef void fit_lags(Job* job) noexcept nogil:
    """Fit the lags; the starts are candidate lags, and the bounds the lags' own."""
    cdef const Window* window = <const Window*>job.problem.data
    cdef Rows rows
    cdef Moments m
    cdef Linear linear
    cdef double log_tau[MOST_PAIRS]
    cdef double total = 0.0
    cdef double* p = job.parameters
    cdef Py_ssize_t i, seen = 0
    cdef int k, order = window.order, pairs = window.pairs
    rows.time_s, rows.current_A, rows.charge = window.time_s, window.current_A, window.charge
    rows.voltage_V, rows.observed = window.voltage_V, window.observed
    rows.count, rows.order = window.first[1], order
    for i in range(rows.count):
        if rows.observed[i]:
            total += rows.voltage_V[i]
            seen += 1
    rows.middle_V = total / seen
    moments_of(&rows, job.starts, job.count, False, 8 if seen > 1000 else 1, NULL, &m)
    choose_lags(&m, order, pairs, job.starts, job.count, log_tau)
    job.outcome.status = job.outcome.steps = project(
        &rows, pairs, job.problem.lower[0], job.problem.upper[0], log_tau, &linear,
        job.problem.most_steps, job.problem.tolerance)
    for k in range(order + 2):
        p[k] = linear.value[k]
    p[0] += rows.middle_V
    for k in range(pairs):
        p[order + 2 + 2 * k] = linear.value[order + 2 + k]
        p[order + 3 + 2 * k] = log_tau[k]
    if job.outcome.steps > 0:
        evaluate(window, p, job.problem.residual, job.problem.jacobian)


cdef class Lags(Fit):
    """A fit of one pulse by variable projection, from the best of candidate lags; 1 to 3 pairs.

    `starts` holds the candidates one below the other, `lower` and `upper` the lags' bounds. The
    status is the number of steps, or -1 if bounds matter: that is for `Fit`.
    """

    def __init__(self, Pulses pulses, const double[::1] voltage_V, *work):
        super().__init__(pulses, voltage_V, *work)
        self.job.work = fit_lags
