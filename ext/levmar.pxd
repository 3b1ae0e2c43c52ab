# Bounded Levenberg-Marquardt, shared by the kernels. Header only: there is no levmar.pyx.
#
# Least squares of `residual(p)` for lower <= p <= upper. Marquardt's scaling and Nielsen's rule
# for the damping (Madsen, Nielsen, Tingleff, Methods for non-linear least squares problems,
# 2nd ed., 2004, section 3.2); a parameter whose step would leave its bounds goes to the bound
# and the others are solved again. Every loop has an end; numbers that are not finite end the
# fit or turn a step down.
#
# A robust loss replaces r^2 by C^2 rho((r / C)^2); its steps are those of least squares with
# weights rho' (P. J. Huber, Robust Statistics, 1981, section 7.8), which never overstate the
# descent. Names as in scipy: soft_l1 is rho(z) = 2 (sqrt(1 + z) - 1), huber z up to 1 and
# 2 sqrt(z) - 1 beyond.

from libc.math cimport INFINITY, fabs, isfinite, sqrt

cdef enum:
    MOST = 96          # parameters

cdef enum Loss:
    SQUARES = 0
    SOFT_L1 = 1
    HUBER = 2

cdef enum Status:
    NOT_FINITE = -2    # at the start
    STUCK = -1         # no step helps, but the gradient is not small
    OUT_OF_STEPS = 0
    COST = 1           # the sum of squares changes no more
    STEP = 2           # the parameters change no more
    GRADIENT = 3       # the gradient vanishes

# Fill the residuals and, if `jacobian` is not NULL, their derivatives, row by row.
ctypedef void (*Model)(const void* data, const double* p, double* residual,
                       double* jacobian) noexcept nogil

cdef struct Problem:
    Model model
    const void* data
    Py_ssize_t rows
    int parameters
    const double* lower
    const double* upper
    double* residual       # rows
    double* trial          # rows
    double* jacobian       # rows * parameters
    int most_steps
    double tolerance
    int loss
    double loss_scale      # C above, in the residuals' unit

cdef struct Outcome:
    int status
    int steps
    double cost            # half the sum of squares, or of what the loss makes of them
    bint is_last           # residuals and Jacobian are those of the optimum


cdef inline Problem make_problem(
    Model model, const void* data, Py_ssize_t rows, int parameters, const double* lower,
    const double* upper, double* residual, double* trial, double* jacobian, int most_steps,
    double tolerance, int loss, double loss_scale
) noexcept nogil:
    cdef Problem problem
    problem.model = model
    problem.data = data
    problem.rows = rows
    problem.parameters = parameters
    problem.lower = lower
    problem.upper = upper
    problem.residual = residual
    problem.trial = trial
    problem.jacobian = jacobian
    problem.most_steps = most_steps
    problem.tolerance = tolerance
    problem.loss = loss
    problem.loss_scale = loss_scale
    return problem


cdef inline double half_square(const double* residual, Py_ssize_t rows) noexcept nogil:
    cdef double total = 0.0
    cdef Py_ssize_t i
    for i in range(rows):
        total += residual[i] * residual[i]
    return 0.5 * total if isfinite(total) else INFINITY


cdef inline double cost_of(const Problem* problem, const double* residual) noexcept nogil:
    """Return half the sum of squares, or of what the loss makes of them."""
    cdef double total = 0.0, c = problem.loss_scale, z
    cdef Py_ssize_t i
    if problem.loss == SQUARES:
        return half_square(residual, problem.rows)
    for i in range(problem.rows):
        z = residual[i] * residual[i] / (c * c)
        if problem.loss == SOFT_L1:
            total += 2.0 * z / (sqrt(1.0 + z) + 1.0)  # without the difference of near numbers
        else:
            total += z if z <= 1.0 else 2.0 * sqrt(z) - 1.0
    return 0.5 * c * c * total if isfinite(total) else INFINITY


cdef inline double weight_of(const Problem* problem, double residual) noexcept nogil:
    """Return what a squared residual counts: rho'."""
    cdef double z = residual / problem.loss_scale
    z = z * z
    if problem.loss == SOFT_L1:
        return 1.0 / sqrt(1.0 + z)
    return 1.0 if z <= 1.0 else 1.0 / sqrt(z)


cdef inline void normal_equations(
    const Problem* problem, double* hessian, double* gradient
) noexcept nogil:
    """Accumulate J'WJ (lower triangle mirrored) and J'Wr."""
    cdef int n = problem.parameters
    cdef int j, k
    cdef Py_ssize_t i
    cdef double weight = 1.0, slope
    cdef const double* row
    for j in range(n):
        gradient[j] = 0.0
        for k in range(n):
            hessian[j * n + k] = 0.0
    for i in range(problem.rows):
        row = problem.jacobian + i * n
        if problem.loss != SQUARES:
            weight = weight_of(problem, problem.residual[i])
        for j in range(n):
            slope = weight * row[j]
            if slope == 0.0:  # most are, where each part of the rows has parameters of its own
                continue
            gradient[j] += slope * problem.residual[i]
            for k in range(j + 1):
                hessian[j * n + k] += slope * row[k]
    for j in range(n):
        for k in range(j):
            hessian[k * n + j] = hessian[j * n + k]


cdef inline bint solve_free(
    const double* hessian, const double* right, double damping, const bint* free, int n,
    double* step
) noexcept nogil:
    """Solve (H + damping diag H) step = right over the free parameters, by Cholesky."""
    cdef double factor[MOST * MOST]
    cdef double total
    cdef int index[MOST]
    cdef int m = 0
    cdef int i, j, k
    for i in range(n):
        if free[i]:
            index[m] = i
            m += 1
    for i in range(m):
        for j in range(i + 1):
            total = hessian[index[i] * n + index[j]]
            if i == j:
                total += damping * (total if total > 0.0 else 1.0)
            for k in range(j):
                total -= factor[i * n + k] * factor[j * n + k]
            if i == j:
                if not total > 0.0:
                    return False
                factor[i * n + i] = sqrt(total)
            else:
                factor[i * n + j] = total / factor[j * n + j]
    for i in range(m):
        total = right[index[i]]
        for k in range(i):
            total -= factor[i * n + k] * step[index[k]]
        step[index[i]] = total / factor[i * n + i]
    for i in range(m - 1, -1, -1):
        total = step[index[i]]
        for k in range(i + 1, m):
            total -= factor[k * n + i] * step[index[k]]
        step[index[i]] = total / factor[i * n + i]
    return True


cdef inline bint bounded_step(
    const Problem* problem, const double* hessian, const double* gradient, double damping,
    const double* p, double* step
) noexcept nogil:
    """Find the damped step that stays inside the bounds. False if there is none."""
    cdef int n = problem.parameters
    cdef bint free[MOST]
    cdef double right[MOST]
    cdef double target
    cdef int i, k, tries
    cdef bint left
    for i in range(n):
        free[i] = not ((p[i] <= problem.lower[i] and gradient[i] > 0.0)
                       or (p[i] >= problem.upper[i] and gradient[i] < 0.0))
        step[i] = 0.0
    for tries in range(n + 1):
        for i in range(n):
            right[i] = -gradient[i]
            for k in range(n):
                if not free[k]:
                    right[i] -= hessian[i * n + k] * step[k]
        if not solve_free(hessian, right, damping, free, n, step):
            return False
        left = False
        for i in range(n):
            if not free[i]:
                continue
            target = p[i] + step[i]
            if not isfinite(target):
                return False
            if target < problem.lower[i]:
                step[i] = problem.lower[i] - p[i]
            elif target > problem.upper[i]:
                step[i] = problem.upper[i] - p[i]
            else:
                continue
            free[i] = False
            left = True
        if not left:
            return True
    return True


cdef inline double steepness(
    const Problem* problem, const double* hessian, const double* gradient, const double* p,
    double cost
) noexcept nogil:
    """Return the largest cosine between the residual and a column that may still move."""
    cdef double largest = 0.0
    cdef double cosine
    cdef int i, n = problem.parameters
    for i in range(n):
        if (p[i] <= problem.lower[i] and gradient[i] > 0.0) or (
            p[i] >= problem.upper[i] and gradient[i] < 0.0
        ) or hessian[i * n + i] <= 0.0:
            continue
        cosine = fabs(gradient[i]) / sqrt(2.0 * cost * hessian[i * n + i])
        if cosine > largest:
            largest = cosine
    return largest


cdef inline Outcome levmar(const Problem* problem, double* p) noexcept nogil:
    """Fit from `p`, which is moved into its bounds first and holds the optimum after.

    The residuals and the Jacobian that are left may be those of a trial; see `is_last`.
    """
    cdef double hessian[MOST * MOST]
    cdef double gradient[MOST]
    cdef double step[MOST]
    cdef double moved[MOST]
    cdef double damping = 1e-4
    cdef double growth = 2.0
    cdef double cost, predicted, gain, size, length
    cdef int n = problem.parameters
    cdef int i, k
    cdef Py_ssize_t row
    cdef bint fresh = True, hopeful = True, bent
    cdef Outcome outcome
    outcome.status = OUT_OF_STEPS
    outcome.is_last = True
    for i in range(n):
        p[i] = min(max(p[i], problem.lower[i]), problem.upper[i])
    problem.model(problem.data, p, problem.residual, problem.jacobian)
    outcome.cost = cost_of(problem, problem.residual)
    outcome.steps = 0
    if not isfinite(outcome.cost):
        outcome.status = NOT_FINITE
        return outcome
    while outcome.steps < problem.most_steps:
        outcome.steps += 1
        if fresh:
            normal_equations(problem, hessian, gradient)
            fresh = False
            if outcome.cost == 0.0 or steepness(
                problem, hessian, gradient, p, outcome.cost
            ) < 1e-10:
                outcome.status = GRADIENT
                return outcome
        if damping > 1e18:
            outcome.status = STEP if steepness(
                problem, hessian, gradient, p, outcome.cost) < 1e-4 else STUCK
            return outcome
        if not bounded_step(problem, hessian, gradient, damping, p, step):
            damping = damping * growth
            growth *= 2.0
            continue
        size = 0.0
        length = 0.0
        predicted = 0.0
        bent = False
        for i in range(n):
            moved[i] = min(max(p[i] + step[i], problem.lower[i]), problem.upper[i])
            bent = bent or (moved[i] != p[i] and (
                moved[i] == problem.lower[i] or moved[i] == problem.upper[i]))
            size += hessian[i * n + i] * step[i] * step[i]
            length += hessian[i * n + i] * p[i] * p[i]
            predicted -= gradient[i] * step[i]
            for k in range(n):
                predicted -= 0.5 * step[i] * hessian[i * n + k] * step[k]
        if hopeful and not bent and damping < 1e-2 and (
            0.0 <= predicted <= problem.tolerance * outcome.cost
        ):
            outcome.status = COST  # Newton's step, hardly damped, would gain no more than that
            return outcome
        # after a step that helped the next one likely does: its derivatives come along; until then
        # the normal equations are all that is needed of the last ones
        problem.model(problem.data, moved, problem.trial, problem.jacobian if hopeful else NULL)
        outcome.is_last = outcome.is_last and not hopeful
        cost = cost_of(problem, problem.trial)
        gain = (outcome.cost - cost) / predicted if predicted > 0.0 else -1.0
        if isfinite(cost) and gain > 1e-4:
            gain = 2.0 * gain - 1.0
            damping *= max(0.1, 1.0 - gain * gain * gain)
            growth = 2.0
            for i in range(n):
                p[i] = moved[i]
            if hopeful:
                for row in range(problem.rows):
                    problem.residual[row] = problem.trial[row]
            else:
                problem.model(problem.data, p, problem.residual, problem.jacobian)
            fresh = hopeful = outcome.is_last = True
            if outcome.cost - cost <= problem.tolerance * outcome.cost and (
                predicted <= problem.tolerance * outcome.cost
            ):
                outcome.cost = cost
                outcome.status = COST
                return outcome
            outcome.cost = cost
        else:
            # a step that a bound bent may promise nothing: that is no end, a shorter one may
            if 0.0 <= predicted <= 1e-15 * outcome.cost or size <= 1e-24 * length:
                outcome.status = STEP
                return outcome
            hopeful = False
            damping *= growth
            growth *= 2.0
    return outcome


cdef inline Outcome best_of(
    const Problem* problem, const double* starts, Py_ssize_t count, double* p
) noexcept nogil:
    """Fit from every start and keep the best; the arrays hold the best one's residuals."""
    cdef Outcome best, outcome
    cdef double here[MOST]
    cdef int i
    cdef Py_ssize_t start
    best.status = NOT_FINITE
    best.is_last = False
    best.cost = INFINITY
    best.steps = 0
    for start in range(count):
        for i in range(problem.parameters):
            here[i] = starts[start * problem.parameters + i]
        outcome = levmar(problem, here)
        if outcome.cost < best.cost:
            best = outcome
            for i in range(problem.parameters):
                p[i] = here[i]
    if isfinite(best.cost) and not (best.is_last and count == 1):
        problem.model(problem.data, p, problem.residual, problem.jacobian)
    return best
