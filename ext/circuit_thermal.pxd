# The circuit with one thermal node. Header only.
#
# C dT/dt = I (I R_0 + sum R_k u_k) g(T) - h (T - T_0), where every resistance is that at the
# part's first temperature T_r of the first part, times g(T) = exp(E (1/T - 1/T_r)); T_0 is the
# part's first measured temperature, in equilibrium with what is around the cell. Heat is current
# times overvoltage (D. Bernardi, E. Pawlikowski, J. Newman, J. Electrochem. Soc. 132 (1985) 5,
# without the entropy's). Over a row the mean of u is exact, g is taken at the middle, and the
# cooling is an exponential, so that long rows stay stable. Second order in the row's length.

from libc.math cimport exp, expm1

from circuit_window cimport (
    MOST_OWN, MOST_PAIRS, Window, own_count, own_parameters, parameter_count, spread_row,
)

cdef struct Warm:
    double t                    # temperature in K, and its derivatives by a part's own parameters
    double slopes[MOST_OWN]


cdef inline double share_of(double a) noexcept nogil:
    """Return (1 - exp(-a)) / a."""
    return -expm1(-a) / a if a > 1e-9 else 1.0 - 0.5 * a


cdef inline double share_slope(double a) noexcept nogil:
    return (exp(-a) - share_of(a)) / a if a > 1e-5 else -0.5 + a / 3.0


cdef inline void warm_step(
    const Warm* old, const Warm* at, Warm* new, double around_K, double t_ref, double h,
    const double* own, int last, bint is_free, double e, double heat_W, const double* d_heat
) noexcept nogil:
    """Go from `old` on for a time h, with the resistances at the temperature of `at`.

    `last` is where the node's parameters begin; `is_free` says whether e is one of them.
    """
    cdef double capacity = exp(own[last]), cooling = exp(own[last + 1])
    cdef double a = h * cooling / capacity, left = exp(-a), gain = h / capacity
    cdef double lean = 1.0 / at.t - 1.0 / t_ref, g = exp(e * lean)
    cdef double by_t = -e / (at.t * at.t) * g
    cdef double share = share_of(a), by_a
    cdef double rise = heat_W * g * gain * share
    cdef int j
    for j in range(last + (3 if is_free else 2)):
        new.slopes[j] = (old.slopes[j] * left
                         + gain * share * (d_heat[j] * g + heat_W * by_t * at.slopes[j]))
    by_a = -a * left * (old.t - around_K) + heat_W * g * gain * share_slope(a) * a
    new.slopes[last] -= by_a + rise
    new.slopes[last + 1] += by_a
    if is_free:
        new.slopes[last + 2] += rise * lean
    new.t = around_K + left * (old.t - around_K) + rise


cdef inline void evaluate_warm(
    const void* data, const double* p, double* residual, double* jacobian
) noexcept nogil:
    """Fill the voltages of the observed rows, then their temperatures times `kelvin_V`."""
    cdef const Window* window = <const Window*>data
    cdef double own[MOST_OWN]
    cdef double slopes[MOST_OWN]
    cdef double d_heat[MOST_OWN]
    cdef double u[MOST_PAIRS]
    cdef double du[MOST_PAIRS]
    cdef Warm warm, middle, after
    cdef double dt, x, alpha, share, tau, mean, d_mean, current, drop, value, power, g, by_t, lean
    cdef double t_ref = window.temperature_K[0], around_K
    cdef int at = window.order + 1, owned = own_count(window), count = parameter_count(window)
    cdef int last = owned - window.warmth, part, j, k
    cdef bint is_free = window.warmth == 3
    cdef double e = window.activation_K
    cdef Py_ssize_t i, seen = 0, half = 0
    for i in range(window.first[window.parts]):
        half += window.observed[i] != 0
    for j in range(owned):
        d_heat[j] = 0.0
    for part in range(window.parts):
        own_parameters(window, part, p, own)
        if is_free:
            e = own[last + 2]
        warm.t = around_K = window.temperature_K[window.first[part]]
        for j in range(owned):
            warm.slopes[j] = 0.0
        for k in range(window.pairs):
            u[k] = du[k] = 0.0
        for i in range(window.first[part], window.first[part + 1]):
            current = window.current_A[i]
            dt = window.time_s[i] - window.time_s[i - 1] if i > window.first[part] else 0.0
            if dt > 0.0:
                drop = current * own[at]
                d_heat[at] = current * current
                for k in range(window.pairs):
                    tau = exp(own[at + 2 + 2 * k])
                    x = dt / tau
                    alpha = exp(-x)
                    share = share_of(x)
                    mean = current + (u[k] - current) * share
                    d_mean = du[k] * share + (u[k] - current) * (share - alpha)
                    drop += own[at + 1 + 2 * k] * mean
                    d_heat[at + 1 + 2 * k] = current * mean
                    d_heat[at + 2 + 2 * k] = current * own[at + 1 + 2 * k] * d_mean
                    du[k] = alpha * du[k] + alpha * x * (u[k] - current)
                    u[k] = alpha * u[k] + (1.0 - alpha) * current
                warm_step(&warm, &warm, &middle, around_K, t_ref, 0.5 * dt, own, last,
                          is_free, e, current * drop, d_heat)
                warm_step(&warm, &middle, &after, around_K, t_ref, dt, own, last,
                          is_free, e, current * drop, d_heat)
                warm = after
            if not window.observed[i]:
                continue
            lean = 1.0 / warm.t - 1.0 / t_ref
            g = exp(e * lean)
            by_t = -e / (warm.t * warm.t) * g
            drop = current * own[at]
            for k in range(window.pairs):
                drop += own[at + 1 + 2 * k] * u[k]
            value = drop * g
            power = 1.0
            for k in range(at):
                value += own[k] * power
                slopes[k] = power
                power *= window.charge[i]
            residual[seen] = value - (
                window.voltage_V[i] if window.voltage_V != NULL else 0.0)
            residual[half + seen] = window.kelvin_V * (warm.t - (
                window.temperature_K[i] if window.voltage_V != NULL else 0.0))
            if jacobian != NULL:
                slopes[at] = current * g
                for k in range(window.pairs):
                    slopes[at + 1 + 2 * k] = u[k] * g
                    slopes[at + 2 + 2 * k] = own[at + 1 + 2 * k] * du[k] * g
                for k in range(window.warmth):
                    slopes[last + k] = 0.0
                if is_free:
                    slopes[last + 2] = drop * g * lean
                for j in range(owned):
                    slopes[j] += drop * by_t * warm.slopes[j]
                spread_row(window, part, slopes, jacobian + seen * count)
                for j in range(owned):
                    slopes[j] = window.kelvin_V * warm.slopes[j]
                spread_row(window, part, slopes, jacobian + (half + seen) * count)
            seen += 1
