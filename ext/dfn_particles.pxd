# The particles of an electrode, one a node, whose surface follows their flux linearly in a step.
# Header only.
#
# surface = past + gain * speed, where the speed is the rate at which a particle's mean changes.
# Constant diffusivity: exponentials, exact for a speed that is straight over the step, with a slope
# partly from the step before, so that steep potentials do not make it ring. Else shells by the
# two-step backward difference formula. Between two of them flows the difference of the integral of
# the diffusivity over the stoichiometry (G. Kirchhoff, 1894), which is linearised about the
# extrapolated values.

from libc.math cimport exp, fabs

from dfn_cell cimport NODES, Electrode
from diffusion cimport CELLS, EXPONENTIALS, Line, Sphere, Step

cdef struct Particles:
    int count
    int modes                     # exponentials
    int shells
    double past[NODES]
    double gain[NODES]
    double mean[NODES]
    double drift[NODES]           # speed less that of the whole electrode
    double slope[NODES]           # of the drift
    double new_slope[NODES]
    double fade[EXPONENTIALS]
    double beta[EXPONENTIALS]
    double gamma[EXPONENTIALS]
    double d_fade[EXPONENTIALS]   # by the logarithm of the diffusion time
    double d_beta[EXPONENTIALS]
    double d_gamma[EXPONENTIALS]
    double gamma_sum              # with that of the mean
    double d_gamma_sum
    double d_gain
    double last_h
    double last_tau
    double beta_sum
    double h
    double lead                   # weight of the new speed in the slope, per second
    double keep                   # weight of the old slope
    double* a                     # count x modes
    double* u                     # shells: count x shells each
    double* before
    double* factor
    double* pivot
    double* flow                  # to the shell from the next, per unit of that one
    double* d                     # diffusivity
    double* wave                  # its integral after the step
    double* bend                  # and the slope of that by the extrapolated value
    double through[CELLS]         # couplings times the step
    double* base                  # the step without flux
    double* unit                  # and what one of flux adds
    double spread[NODES]          # shells: diffusivity of the outermost and its slope
    double d_spread[NODES]
    # derivatives: parameter by parameter
    double* d_mean
    double* d_drift
    double* d_slope
    double* da
    double* du
    double* du_before


cdef inline void set_modes(Particles* p, const Sphere* sphere, double h, double tau) noexcept nogil:
    """Set the factors of a step, with their derivatives by the logarithm of tau."""
    cdef double z, left, scale
    cdef int m
    if h == p.last_h and tau == p.last_tau:
        return
    p.last_h = h
    p.last_tau = tau
    p.gamma_sum = 0.5 * h * h
    p.beta_sum = h + sphere.tail * tau
    p.d_gamma_sum = 0.0
    p.d_gain = sphere.tail * tau
    for m in range(sphere.count):
        z = sphere.rate[m] * h / tau
        left = exp(-z)
        scale = sphere.weight[m] * tau / sphere.rate[m]
        p.fade[m] = left
        p.d_fade[m] = z * left
        p.beta[m] = scale * (1.0 - left)
        p.d_beta[m] = p.beta[m] - scale * z * left
        scale *= tau / sphere.rate[m]
        if z > 1e-4:
            p.gamma[m] = scale * (1.0 - (1.0 + z) * left)
        else:
            p.gamma[m] = scale * z * z * (0.5 - z / 3.0)
        p.d_gamma[m] = 2.0 * p.gamma[m] - scale * z * z * left
        p.beta_sum += p.beta[m]
        p.gamma_sum += p.gamma[m]
        p.d_gain += p.d_beta[m]
        p.d_gamma_sum += p.d_gamma[m]


cdef inline void prepare_modes(
    Particles* p, const Sphere* sphere, double h, double tau, double lead, double keep,
    double whole
) noexcept nogil:
    """Set past and gain; `whole` is the speed of the electrode's mean."""
    cdef double total
    cdef double* a
    cdef int k, m, modes = p.modes
    set_modes(p, sphere, h, tau)
    p.h = h
    p.lead = lead
    p.keep = keep
    for k in range(p.count):
        a = p.a + k * modes
        total = p.mean[k]
        for m in range(modes):
            total += p.fade[m] * a[m]
        p.past[k] = total + p.gamma_sum * (lead * (p.drift[k] + whole) - keep * p.slope[k])
        p.gain[k] = p.beta_sum - p.gamma_sum * lead


cdef inline void commit_modes(Particles* p, const double* speed, double whole) noexcept nogil:
    cdef double* a
    cdef double slope
    cdef int k, m, modes = p.modes
    for k in range(p.count):
        a = p.a + k * modes
        slope = p.lead * (speed[k] - whole - p.drift[k]) + p.keep * p.slope[k]
        for m in range(modes):
            a[m] = p.fade[m] * a[m] + p.beta[m] * speed[k] - p.gamma[m] * slope
        p.mean[k] += p.h * speed[k] - 0.5 * p.h * p.h * slope
        p.drift[k] = speed[k] - whole
        p.slope[k] = slope


cdef inline void past_slopes_of_modes(
    const Particles* p, const double* speed, double whole, double d_whole, bint by_tau, int j,
    double* d_past
) noexcept nogil:
    """Set the derivative of past + gain * speed at a held speed; before `commit_modes`."""
    cdef const double* a
    cdef const double* da
    cdef double total
    cdef int k, m, place, modes = p.modes
    for k in range(p.count):
        place = j * p.count + k
        da = p.da + place * modes
        total = p.d_mean[place]
        for m in range(modes):
            total += p.fade[m] * da[m]
        total += p.gamma_sum * (p.lead * (p.d_drift[place] + d_whole)
                                - p.keep * p.d_slope[place])
        if by_tau:
            a = p.a + k * modes
            for m in range(modes):
                total += p.d_fade[m] * a[m]
            total += p.d_gamma_sum * (p.lead * (p.drift[k] + whole) - p.keep * p.slope[k])
            total += (p.d_gain - p.d_gamma_sum * p.lead) * speed[k]
        d_past[k] = total


cdef inline void commit_slopes_of_modes(
    Particles* p, const double* speed, const double* d_speed, double whole, double d_whole,
    bint by_tau, int j
) noexcept nogil:
    """Advance the derivatives by parameter `j`; before `commit_modes`."""
    cdef const double* a
    cdef double* da
    cdef double slope, d_slope
    cdef int k, m, place, modes = p.modes
    for k in range(p.count):
        place = j * p.count + k
        da = p.da + place * modes
        d_slope = p.lead * (d_speed[k] - d_whole - p.d_drift[place]) + p.keep * p.d_slope[place]
        for m in range(modes):
            da[m] = p.fade[m] * da[m] + p.beta[m] * d_speed[k] - p.gamma[m] * d_slope
        if by_tau:
            a = p.a + k * modes
            slope = p.lead * (speed[k] - whole - p.drift[k]) + p.keep * p.slope[k]
            for m in range(modes):
                da[m] += p.d_fade[m] * a[m] + p.d_beta[m] * speed[k] - p.d_gamma[m] * slope
        p.d_mean[place] += p.h * d_speed[k] - 0.5 * p.h * p.h * d_slope
        p.d_drift[place] = d_speed[k] - d_whole
        p.d_slope[place] = d_slope


cdef inline void solve_shells(
    const double* factor, const double* flow, const double* pivot, int n, double* x
) noexcept nogil:
    cdef int k
    for k in range(1, n):
        x[k] += factor[k] * x[k - 1]
    x[n - 1] *= pivot[n - 1]
    for k in range(n - 2, -1, -1):
        x[k] = (x[k] + flow[k] * x[k + 1]) * pivot[k]


cdef inline double read_wave(
    const Electrode* e, double inverse, double x, double* d, double* slope
) noexcept nogil:
    """Return the integral of the diffusivity, which is level outside its table, up to x."""
    cdef Py_ssize_t last = e.line.points - 2
    cdef double position = x * inverse
    cdef double t, a, left, right, bow, turn
    cdef Py_ssize_t i
    if not position > 1.0 or position >= last:
        i = 1 if not position > 1.0 else last
        d[0] = e.line.table[i]
        slope[0] = 0.0
        return e.whole[i] + (position - i) * d[0]
    i = <Py_ssize_t>position
    t = position - i
    a = e.line.table[i]
    left = 0.5 * (e.line.table[i + 1] - e.line.table[i - 1])
    right = 0.5 * (e.line.table[i + 2] - a)
    turn = e.line.table[i + 1] - a
    bow = 3.0 * turn - 2.0 * left - right
    turn = left + right - 2.0 * turn
    d[0] = a + t * (left + t * (bow + t * turn))
    slope[0] = (left + t * (2.0 * bow + t * 3.0 * turn)) * inverse
    return e.whole[i] + t * (a + t * (0.5 * left + t * (bow / 3.0 + t * 0.25 * turn)))


cdef inline void prepare_shells(
    Particles* p, const Electrode* e, const Step* step, double tau
) noexcept nogil:
    """Factorise the step of every particle; set past and gain."""
    cdef const Line* line = &e.line
    cdef double guess, diagonal, scale = line.table_step, inverse = 1.0 / line.table_step
    cdef int i, k, n = p.shells
    cdef double* x
    cdef double* unit
    cdef double* d
    cdef double* wave
    for k in range(n - 1):
        p.through[k] = step.ahead * line.couple[k] / tau
    p.through[n - 1] = 0.0
    for i in range(p.count):
        x = p.base + i * n
        unit = p.unit + i * n
        d = p.d + i * n
        wave = p.wave + i * n
        for k in range(n):
            guess = p.u[i * n + k] + step.ratio * (p.u[i * n + k] - p.before[i * n + k])
            wave[k] = scale * read_wave(e, inverse, guess, &d[k], &p.bend[i * n + k])
            wave[k] -= d[k] * guess
            x[k] = line.volume[k] * (step.keep * p.u[i * n + k] - step.drop * p.before[i * n + k])
            unit[k] = 0.0
        unit[n - 1] = step.ahead / 3.0
        for k in range(n - 1):
            x[k] += p.through[k] * (wave[k + 1] - wave[k])
            x[k + 1] -= p.through[k] * (wave[k + 1] - wave[k])
            p.flow[i * n + k] = p.through[k] * d[k + 1]
        p.flow[i * n + n - 1] = 0.0
        for k in range(n):
            diagonal = p.through[k]
            p.factor[i * n + k] = 0.0
            if k > 0:
                p.factor[i * n + k] = p.through[k - 1] * d[k - 1] * p.pivot[i * n + k - 1]
                diagonal += p.through[k - 1] * (1.0 - p.factor[i * n + k])
            p.pivot[i * n + k] = 1.0 / (line.volume[k] + diagonal * d[k])
        solve_shells(p.factor + i * n, p.flow + i * n, p.pivot + i * n, n, x)
        solve_shells(p.factor + i * n, p.flow + i * n, p.pivot + i * n, n, unit)
        p.spread[i] = d[n - 1]
        p.d_spread[i] = p.bend[i * n + n - 1]
        p.past[i] = x[n - 1]
        p.gain[i] = unit[n - 1] + line.couple[n - 1] * tau / d[n - 1]


cdef inline double strain_of(const Particles* p, const Step* step, const double* speed) noexcept nogil:
    """Return twice the stoichiometry at most by which a step's linearisation misses."""
    cdef double off, worst = 0.0
    cdef int i, place
    for i in range(p.count):
        for place in range(i * p.shells, (i + 1) * p.shells):
            off = p.base[place] + p.unit[place] * speed[i] - p.u[place] - step.ratio * (
                p.u[place] - p.before[place])
            off *= off * fabs(p.bend[place]) / p.d[place]
            if not off < worst:
                worst = off
    return worst


cdef inline void commit_shells(Particles* p, const Step* step, const double* speed) noexcept nogil:
    """Advance; leaves the matrix, the integrals and their slopes for the derivatives."""
    cdef double guess
    cdef int i, k, place, n = p.shells
    for i in range(p.count):
        for k in range(n):
            place = i * n + k
            guess = p.u[place] + step.ratio * (p.u[place] - p.before[place])
            p.before[place] = p.u[place]
            p.u[place] = p.base[place] + p.unit[place] * speed[i]
            p.wave[place] += p.d[place] * p.u[place]
            p.bend[place] *= p.u[place] - guess


cdef inline void past_slopes_of_shells(
    Particles* p, const Line* line, const Step* step, const double* speed, double tau,
    double d_log_tau, int j, double* d_past
) noexcept nogil:
    """Advance the derivatives at a held speed, after `commit_shells`; set that of the surface."""
    cdef double x[CELLS]
    cdef double* du
    cdef double* earlier
    cdef double change, near, next, lift, outer = 0.0
    cdef int i, k, n = p.shells
    for i in range(p.count):
        du = p.du + (j * p.count + i) * n
        earlier = p.du_before + (j * p.count + i) * n
        for k in range(n):
            x[k] = line.volume[k] * (step.keep * du[k] - step.drop * earlier[k])
        next = p.bend[i * n] * (du[0] + step.ratio * (du[0] - earlier[0]))
        for k in range(n - 1):
            near = next
            outer = du[k + 1] + step.ratio * (du[k + 1] - earlier[k + 1])
            next = p.bend[i * n + k + 1] * outer
            change = p.through[k] * (
                next - near - d_log_tau * (p.wave[i * n + k + 1] - p.wave[i * n + k]))
            x[k] += change
            x[k + 1] -= change
        solve_shells(p.factor + i * n, p.flow + i * n, p.pivot + i * n, n, x)
        for k in range(n):
            earlier[k] = du[k]
            du[k] = x[k]
        lift = line.couple[n - 1] * tau * speed[i] / p.spread[i]
        d_past[i] = x[n - 1] + lift * (d_log_tau - p.d_spread[i] / p.spread[i] * outer)


cdef inline void commit_slopes_of_shells(Particles* p, const double* d_speed, int j) noexcept nogil:
    cdef int i, k, n = p.shells
    for i in range(p.count):
        for k in range(n):
            p.du[(j * p.count + i) * n + k] += p.unit[i * n + k] * d_speed[i]
