# What the circuit kernel sees: one pulse's window, or several. Header only.
#
# Each part, a pulse and its rest, has a polynomial of its own for the open-circuit voltage;
# resistances and logarithms of the lags are sums of knots' values with the part's weights. One
# part and one knot is the plain circuit. A part's own parameters: a_0 .. a_order, R_0, then R_k
# and log(tau_k / s) of each pair; and with a thermal node log(C / (J/K)), log(h / (W/K)), E / K.

from libc.math cimport exp

cdef enum:
    MOST_PAIRS = 3
    MOST_OWN = 16

cdef struct Window:
    const double* time_s
    const double* current_A
    const double* charge            # since the part's first row, over a scale
    const double* voltage_V         # NULL: the residual is the voltage itself
    const double* temperature_K     # NULL: no thermal node
    const unsigned char* observed   # rows that were measured; others only carry the current
    const int* first                # row of each part, and the number of rows
    const double* weights           # of the knots, part by part
    int parts
    int knots
    int order
    int pairs
    int warmth                      # parameters of the thermal node: 0, 2 or 3
    double activation_K             # where it is not one of them
    double kelvin_V                 # what a kelvin counts


cdef inline int own_count(const Window* window) noexcept nogil:
    return window.order + 2 + 2 * window.pairs + window.warmth


cdef inline int parameter_count(const Window* window) noexcept nogil:
    return (window.parts * (window.order + 1) + (1 + 2 * window.pairs) * window.knots
            + window.warmth)


cdef inline void own_parameters(
    const Window* window, int part, const double* p, double* own
) noexcept nogil:
    """Fill a part's own parameters."""
    cdef int local = window.order + 1, kinds = 1 + 2 * window.pairs, j, k
    cdef const double* at = p + window.parts * local
    for j in range(local):
        own[j] = p[part * local + j]
    for j in range(kinds):
        own[local + j] = 0.0
        for k in range(window.knots):
            own[local + j] += window.weights[part * window.knots + k] * at[k]
        at += window.knots
    for j in range(window.warmth):
        own[local + kinds + j] = at[j]


cdef inline void spread_row(
    const Window* window, int part, const double* own, double* row
) noexcept nogil:
    """Fill a row of the Jacobian from derivatives by a part's own parameters."""
    cdef int local = window.order + 1, kinds = 1 + 2 * window.pairs, j, k
    cdef double* at = row
    for j in range(window.parts):
        for k in range(local):
            at[k] = own[k] if j == part else 0.0
        at += local
    for j in range(kinds):
        for k in range(window.knots):
            at[k] = window.weights[part * window.knots + k] * own[local + j]
        at += window.knots
    for j in range(window.warmth):
        at[j] = own[local + kinds + j]


cdef inline void evaluate(
    const void* data, const double* p, double* residual, double* jacobian
) noexcept nogil:
    """Fill the voltage of the observed rows, without a thermal node."""
    cdef const Window* window = <const Window*>data
    cdef double own[MOST_OWN]
    cdef double slopes[MOST_OWN]
    cdef double u[MOST_PAIRS]
    cdef double du[MOST_PAIRS]
    cdef double tau[MOST_PAIRS]
    cdef double alpha[MOST_PAIRS]
    cdef double dt, last_dt, value, power, current
    cdef int at = window.order + 1, count = parameter_count(window), part, k
    cdef bint is_plain = window.parts == 1 and window.knots == 1
    cdef double* row = jacobian
    cdef double* out = slopes
    cdef Py_ssize_t i, seen = 0
    for part in range(window.parts):
        own_parameters(window, part, p, own)
        last_dt = -1.0
        for k in range(window.pairs):
            u[k] = du[k] = 0.0
            alpha[k] = 1.0
            tau[k] = exp(own[at + 2 + 2 * k])
        for i in range(window.first[part], window.first[part + 1]):
            current = window.current_A[i]
            if i > window.first[part]:
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
            if is_plain:
                out = row
            value = current * own[at]
            for k in range(window.pairs):
                value += own[at + 1 + 2 * k] * u[k]
            power = 1.0
            for k in range(at):
                value += own[k] * power
                if row != NULL:
                    out[k] = power
                power *= window.charge[i]
            residual[seen] = value - (
                window.voltage_V[i] if window.voltage_V != NULL else 0.0)
            seen += 1
            if row != NULL:
                out[at] = current
                for k in range(window.pairs):
                    out[at + 1 + 2 * k] = u[k]
                    out[at + 2 + 2 * k] = own[at + 1 + 2 * k] * du[k]
                if not is_plain:
                    spread_row(window, part, slopes, row)
                row += count
