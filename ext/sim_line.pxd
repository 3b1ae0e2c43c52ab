# Diffusion along a line of finite volumes, for simulation: no derivatives. Header only.
#
# The two-step backward difference formula with the diffusivity at extrapolated values, so that
# each step is one tridiagonal solve (E. Hairer, G. Wanner, Solving Ordinary Differential
# Equations II, section III.5 for the coefficients of unequal steps).

cdef enum:
    CELLS = 128        # most volumes of a line

cdef struct Line:
    int cells
    const double* volume
    const double* couple      # between k and k + 1; the last one to the surface
    const double* source      # where flux enters
    const double* table       # of the diffusivity
    Py_ssize_t points         # 1: it is constant
    double step               # of the table

cdef struct Profile:
    double u[CELLS]
    double before[CELLS]


cdef inline double read(const double* table, Py_ssize_t points, double step, double x) noexcept nogil:
    """Read an equally spaced table from 0 on; the ends go on level."""
    cdef double position = x / step
    cdef Py_ssize_t i
    if not position > 0.0:
        return table[0]
    if position >= points - 1:
        return table[points - 1]
    i = <Py_ssize_t>position
    return table[i] + (position - i) * (table[i + 1] - table[i])


cdef inline void step_line(
    const Line* line, Profile* s, double h, double before_h, double scale, double flux
) noexcept nogil:
    """Advance by `h` with `flux * source` flowing in; `before_h` is the step before, 0 if none."""
    cdef double guess[CELLS]
    cdef double d[CELLS]
    cdef double x[CELLS]
    cdef double factor[CELLS]
    cdef double flow[CELLS]
    cdef double pivot[CELLS]
    cdef double ratio = h / before_h if before_h > 0.0 else 0.0
    cdef double ahead = h * (1.0 + ratio) / (1.0 + 2.0 * ratio)
    cdef double keep = (1.0 + ratio) * (1.0 + ratio) / (1.0 + 2.0 * ratio)
    cdef double drop = ratio * ratio / (1.0 + 2.0 * ratio)
    cdef double middle, diagonal
    cdef int k, n = line.cells
    for k in range(n):
        x[k] = line.volume[k] * (keep * s.u[k] - drop * s.before[k])
        x[k] += ahead * flux * line.source[k]
    if line.points == 1:
        for k in range(n - 1):
            flow[k] = ahead * line.couple[k] * scale
    else:
        for k in range(n):
            guess[k] = s.u[k] + ratio * (s.u[k] - s.before[k])
            d[k] = read(line.table, line.points, line.step, guess[k])
        for k in range(n - 1):  # the mean between two values, by Simpson's rule
            middle = read(line.table, line.points, line.step, 0.5 * (guess[k] + guess[k + 1]))
            flow[k] = ahead * line.couple[k] * scale * (d[k] + 4.0 * middle + d[k + 1]) / 6.0
    flow[n - 1] = 0.0
    for k in range(n):
        diagonal = line.volume[k] + flow[k]
        factor[k] = 0.0
        if k > 0:
            factor[k] = flow[k - 1] * pivot[k - 1]
            diagonal += flow[k - 1] * (1.0 - factor[k])
        pivot[k] = 1.0 / diagonal
    for k in range(1, n):
        x[k] += factor[k] * x[k - 1]
    x[n - 1] *= pivot[n - 1]
    for k in range(n - 2, -1, -1):
        x[k] = (x[k] + flow[k] * x[k + 1]) * pivot[k]
    for k in range(n):
        s.before[k] = s.u[k]
        s.u[k] = x[k]


cdef inline double surface(const Line* line, const Profile* s, double scale, double flux) noexcept nogil:
    """Return the value at the end, half the outermost volume further on than the last one."""
    cdef int k, last = line.cells - 1
    cdef double d = 1.0, found = s.u[last]
    for k in range(4):
        if line.points > 1:  # the diffusivity halfway
            d = read(line.table, line.points, line.step, 0.5 * (s.u[last] + found))
        found = s.u[last] + line.couple[last] * flux / (scale * d)
        if line.points == 1:
            break
    return found
