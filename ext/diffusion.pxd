# Diffusion along a line of finite volumes, and in a sphere by exponentials. Header only.
#
# The line: volume du/dt = couplings * scale * d(u) * differences + source, by the two-step
# backward difference formula with d(u) taken at the extrapolated values, so that each step is
# one tridiagonal solve (E. Hairer, G. Wanner, Solving Ordinary Differential Equations II,
# section III.5 for the variable-step coefficients). Derivatives by parameters are those of the
# discrete scheme, exactly.

from libc.math cimport exp, fabs

cdef enum:
    CELLS = 96         # most volumes of a line
    EXPONENTIALS = 24
    MOST_P = 16       # parameters, as in levmar.pxd

cdef struct Line:
    int cells
    const double* volume
    const double* couple      # between k and k + 1
    const double* table       # of d(u)
    Py_ssize_t points
    double table_step

cdef struct LineState:
    double u[CELLS]
    double before[CELLS]
    double factor[CELLS]      # of the last matrix
    double pivot[CELLS]
    double flow[CELLS]        # couple * scale * d between k and k + 1
    double left[CELLS]        # the derivatives of that by u* on either side, times the
    double right[CELLS]       # difference after the step
    double du[MOST_P][CELLS]
    double du_before[MOST_P][CELLS]

cdef struct Step:
    double h            # seconds
    double ratio        # to the step before; 0: a first step
    double ahead        # h (1 + w) / (1 + 2 w)
    double keep         # weight of u
    double drop         # weight of the value before


cdef inline double read_line(
    const double* table, Py_ssize_t points, double inverse, double x, double* slope
) noexcept nogil:
    """As `read_smoothly` from 0 on, without its divisions; level outside the table."""
    cdef double position = x * inverse
    cdef double t, a, b, left, right, rise
    cdef Py_ssize_t i
    if not position > 1.0:
        i = 1
        t = 0.0
    elif position >= points - 2:
        i = points - 3
        t = 1.0
    else:
        i = <Py_ssize_t>position
        t = position - i
    a = table[i]
    b = table[i + 1]
    left = 0.5 * (b - table[i - 1])
    right = 0.5 * (table[i + 2] - a)
    rise = b - a
    # a + left t + (3 rise - 2 left - right) t^2 + (left + right - 2 rise) t^3
    b = 3.0 * rise - 2.0 * left - right
    right = left + right - 2.0 * rise
    slope[0] = (left + t * (2.0 * b + t * 3.0 * right)) * inverse
    if t == 0.0 or t == 1.0:
        slope[0] = 0.0 if position <= 1.0 or position >= points - 2 else slope[0]
    return a + t * (left + t * (b + t * right))


cdef inline Step make_step(double h, double before) noexcept nogil:
    cdef Step step
    cdef double w = h / before if before > 0.0 else 0.0
    step.h = h
    step.ratio = w
    step.keep = (1.0 + w) * (1.0 + w) / (1.0 + 2.0 * w)
    step.drop = w * w / (1.0 + 2.0 * w)
    step.ahead = h * (1.0 + w) / (1.0 + 2.0 * w)
    return step


cdef inline void solve_line(const Line* line, const LineState* s, double* x) noexcept nogil:
    """Solve for `x`, which holds the right-hand side, with the last matrix."""
    cdef int k, n = line.cells
    for k in range(1, n):
        x[k] += s.factor[k] * x[k - 1]
    x[n - 1] *= s.pivot[n - 1]
    for k in range(n - 2, -1, -1):
        x[k] = (x[k] + s.flow[k] * x[k + 1]) * s.pivot[k]


cdef inline void step_line(
    const Line* line, LineState* s, const Step* step, double scale, const double* source,
    double flux
) noexcept nogil:
    """Advance by a step with `flux * source` flowing in; leaves the matrix for `step_slopes`."""
    cdef double guess[CELLS]
    cdef double x[CELLS]
    cdef double at[CELLS]
    cdef double slope[CELLS]
    cdef double middle, bend, through, diagonal
    cdef double inverse = 1.0 / line.table_step
    cdef int k, n = line.cells
    for k in range(n):
        guess[k] = s.u[k] + step.ratio * (s.u[k] - s.before[k])
        at[k] = read_line(line.table, line.points, inverse, guess[k], &slope[k])
        x[k] = line.volume[k] * (step.keep * s.u[k] - step.drop * s.before[k])
        x[k] += step.ahead * flux * source[k]
    for k in range(n - 1):  # the mean diffusivity between two values, by Simpson's rule
        middle = read_line(line.table, line.points, inverse, 0.5 * (guess[k] + guess[k + 1]),
                           &bend)
        through = step.ahead * line.couple[k] * scale / 6.0
        s.flow[k] = through * (at[k] + 4.0 * middle + at[k + 1])
        s.left[k] = through * (slope[k] + 2.0 * bend)
        s.right[k] = through * (slope[k + 1] + 2.0 * bend)
    s.flow[n - 1] = 0.0
    for k in range(n):
        diagonal = line.volume[k] + s.flow[k]
        s.factor[k] = 0.0
        if k > 0:
            s.factor[k] = s.flow[k - 1] * s.pivot[k - 1]
            diagonal += s.flow[k - 1] * (1.0 - s.factor[k])
        s.pivot[k] = 1.0 / diagonal
    solve_line(line, s, x)
    for k in range(n - 1):
        s.left[k] *= x[k + 1] - x[k]
        s.right[k] *= x[k + 1] - x[k]
    for k in range(n):
        s.before[k] = s.u[k]
        s.u[k] = x[k]


cdef inline void step_slopes(
    const Line* line, LineState* s, const Step* step, const double* source, double d_flux,
    double d_log_scale, int j
) noexcept nogil:
    """Advance the derivatives by parameter `j`, after `step_line`."""
    cdef double x[CELLS]
    cdef double* du = s.du[j]
    cdef double* earlier = s.du_before[j]
    cdef double change, left, right
    cdef int k, n = line.cells
    for k in range(n):
        x[k] = line.volume[k] * (step.keep * du[k] - step.drop * earlier[k])
        x[k] += step.ahead * d_flux * source[k]
    for k in range(n - 1):
        left = du[k] + step.ratio * (du[k] - earlier[k])
        right = du[k + 1] + step.ratio * (du[k + 1] - earlier[k + 1])
        change = d_log_scale * s.flow[k] * (s.u[k + 1] - s.u[k])
        change += s.left[k] * left + s.right[k] * right
        x[k] += change
        x[k + 1] -= change
    solve_line(line, s, x)
    for k in range(n):
        earlier[k] = du[k]
        du[k] = x[k]


cdef struct Sphere:
    int count
    const double* rate        # of each exponential, for a diffusion time of 1
    const double* weight
    double tail               # what the exponentials leave of 1/15

cdef struct SphereState:
    double a[EXPONENTIALS]
    double fade[EXPONENTIALS]     # of the last step: what remains of each
    double gain[EXPONENTIALS]     # what a unit of speed adds
    double tilt[EXPONENTIALS]     # and a unit by which the speed rises along the step
    double by_a[EXPONENTIALS]     # derivatives of these three by the logarithm of tau
    double by_gain[EXPONENTIALS]
    double by_tilt[EXPONENTIALS]
    double last_h
    double last_tau
    double da[MOST_P][EXPONENTIALS]


cdef inline double sum_of(const double* a, int count) noexcept nogil:
    """Sum up in four parts, so that none waits for the last."""
    cdef double s0 = 0.0, s1 = 0.0, s2 = 0.0, s3 = 0.0
    cdef int k, whole = count - count % 4
    for k in range(0, whole, 4):
        s0 += a[k]
        s1 += a[k + 1]
        s2 += a[k + 2]
        s3 += a[k + 3]
    for k in range(whole, count):
        s0 += a[k]
    return (s0 + s1) + (s2 + s3)


cdef inline void prepare_sphere(
    const Sphere* sphere, SphereState* s, double h, double tau
) noexcept nogil:
    """Set the coefficients of a step, if it differs from the last one."""
    cdef double u, settled, gone
    cdef int k
    if fabs(h - s.last_h) <= 1e-10 * h and tau == s.last_tau:
        return
    s.last_h = h
    s.last_tau = tau
    for k in range(sphere.count):
        u = sphere.rate[k] * h / tau
        settled = sphere.weight[k] * tau / sphere.rate[k]
        s.fade[k] = exp(-u)
        gone = 1.0 - s.fade[k] if u > 1e-5 else u * (1.0 - 0.5 * u)
        s.gain[k] = settled * gone
        s.by_a[k] = u * s.fade[k]
        s.by_gain[k] = s.gain[k] - settled * s.by_a[k]
        if u > 1e-2:
            s.tilt[k] = settled * (0.5 * (1.0 + s.fade[k]) - gone / u)
            s.by_tilt[k] = s.tilt[k] + settled * (0.5 * s.by_a[k] + s.fade[k] - gone / u)
        else:  # the series of the same
            s.tilt[k] = settled * u * u * (1.0 - 0.5 * u) / 12.0
            s.by_tilt[k] = settled * u * u * (-1.0 + u) / 12.0


cdef inline double step_sphere(
    const Sphere* sphere, SphereState* s, double speed, double rise
) noexcept nogil:
    """Advance by a prepared step, exactly for a constant diffusivity; return the sum.

    The mean changes at `speed` on average, faster by `rise` at the end than at the beginning.
    """
    cdef int k, count = sphere.count
    for k in range(count):
        s.a[k] = s.fade[k] * s.a[k] + s.gain[k] * speed + s.tilt[k] * rise
    return sum_of(s.a, count)


cdef inline void step_sphere_slopes(
    const Sphere* sphere, SphereState* s, const double* by_log_tau, double d_log_tau,
    double d_speed, double d_rise, int j
) noexcept nogil:
    """Advance the derivatives by parameter `j`; `by_log_tau` is that of the step."""
    cdef double* da = s.da[j]
    cdef int k
    for k in range(sphere.count):
        da[k] = (s.fade[k] * da[k] + by_log_tau[k] * d_log_tau + s.gain[k] * d_speed
                 + s.tilt[k] * d_rise)


cdef inline void slope_by_time(
    const Sphere* sphere, const SphereState* s, double speed, double rise, double* by_log_tau
) noexcept nogil:
    """Fill the derivatives of a prepared step by the logarithm of tau, before it is made."""
    cdef int k
    for k in range(sphere.count):
        by_log_tau[k] = s.by_a[k] * s.a[k] + s.by_gain[k] * speed + s.by_tilt[k] * rise
