# Diffusion of the electrolyte through the cell, and what the voltage takes of it. Header only.
#
# Finite volumes, advanced by the three-step backward difference formula with the diffusivity at
# the extrapolated concentrations (E. Hairer, S. P. Norsett, G. Wanner, Solving Ordinary
# Differential Equations I, section III.5; stable while steps grow by less than 1.53), with
# derivatives of the discrete scheme, and with what makes few volumes do: through each face the flux is that of the parabola through the
# volumes around, to third order where the diffusivity depends on the concentration; on either
# face of the separator, where the source and so the curvature jumps, the parabolas of both sides
# meet. The matrix is reduced from both ends at once.

from libc.math cimport log

from diffusion cimport MOST_P

cdef enum:
    VOLUMES = 32       # most of the electrolyte

cdef struct Salt:
    int cells
    int joints[2]             # the volumes before the separator's faces
    const double* volume
    const double* couple      # between k and k + 1
    const double* source      # by a unit of current
    const double* bend        # 4 by cells: weights of k - 1 to k + 2 for the curvature at a face
    const double* diffusivity # over the concentration
    const double* carry       # NULL, or what a unit of current takes along, over concentration
    const double* portion     # the share of the current that passes between k and k + 1
    Py_ssize_t points
    double table_step

cdef struct SaltState:
    double u[VOLUMES]
    double before[VOLUMES]      # one and two steps ago
    double earlier[VOLUMES]
    double factor[VOLUMES]      # of the last matrix
    double pivot[VOLUMES]
    double flow[VOLUMES]        # couple * scale * diffusivity between k and k + 1
    double difference[VOLUMES]  # across each face after the step
    double by_left[VOLUMES]     # derivatives of what passes by the extrapolated values on either
    double by_right[VOLUMES]    # side and by the curvature
    double by_bend[VOLUMES]
    double du[MOST_P][VOLUMES]
    double du_before[MOST_P][VOLUMES]
    double du_earlier[MOST_P][VOLUMES]

cdef struct SaltStep:
    double ahead              # seconds that the flows count for
    double keep[3]            # weights of the last three states in the next
    double guess[3]           # and in its extrapolation


cdef inline SaltStep make_salt_step(double h, double before, double earlier) noexcept nogil:
    """Return the weights of a step after two others; a length of 0 is of a step not made."""
    cdef SaltStep step
    cdef double two = h + before, three = h + before + earlier, rate
    step.keep[1] = step.keep[2] = step.guess[1] = step.guess[2] = 0.0
    if not before > 0.0:
        step.ahead = h
        step.keep[0] = step.guess[0] = 1.0
        return step
    if not earlier > 0.0:
        rate = 1.0 / h + 1.0 / two
        step.keep[0] = two / (h * before * rate)
        step.keep[1] = -h / (two * before * rate)
        step.guess[0] = two / before
        step.guess[1] = -h / before
    else:
        rate = 1.0 / h + 1.0 / two + 1.0 / three
        step.keep[0] = two * three / (h * before * (before + earlier) * rate)
        step.keep[1] = -h * three / (two * before * earlier * rate)
        step.keep[2] = h * two / (three * (before + earlier) * earlier * rate)
        step.guess[0] = two * three / (before * (before + earlier))
        step.guess[1] = -h * three / (before * earlier)
        step.guess[2] = h * two / ((before + earlier) * earlier)
    step.ahead = 1.0 / rate
    return step


cdef inline double read_straight(
    const double* table, Py_ssize_t points, double inverse, double x, double* slope
) noexcept nogil:
    """Read a fine table by straight lines; level outside."""
    cdef double position = x * inverse
    cdef double rise
    cdef Py_ssize_t i
    if not position > 0.0:
        slope[0] = 0.0
        return table[0]
    if position >= points - 1:
        slope[0] = 0.0
        return table[points - 1]
    i = <Py_ssize_t>position
    rise = table[i + 1] - table[i]
    slope[0] = rise * inverse
    return table[i] + (position - i) * rise


cdef inline double bent(const Salt* salt, const double* u, int k) noexcept nogil:
    """Apply the weights of a face; `u` has room before its first and after its last value."""
    cdef const double* w = salt.bend + k
    cdef int n = salt.cells
    return (w[0] * u[k - 1] + w[n] * u[k] + w[2 * n] * u[k + 1] + w[3 * n] * u[k + 2])


cdef inline void reduce_matrix(const Salt* salt, SaltState* s) noexcept nogil:
    """Reduce the matrix from both ends to the middle."""
    cdef int i, j, n = salt.cells, m = salt.cells >> 1
    cdef double* f = s.factor
    cdef double* flow = s.flow
    s.pivot[0] = 1.0 / (salt.volume[0] + flow[0])
    s.pivot[n - 1] = 1.0 / (salt.volume[n - 1] + flow[n - 2])
    for i in range(1, m):
        j = n - 1 - i
        f[i] = flow[i - 1] * s.pivot[i - 1]
        s.pivot[i] = 1.0 / (salt.volume[i] + flow[i] + flow[i - 1] * (1.0 - f[i]))
        if j > m:
            f[j] = flow[j] * s.pivot[j + 1]
            s.pivot[j] = 1.0 / (salt.volume[j] + flow[j - 1] + flow[j] * (1.0 - f[j]))
    f[0] = flow[m - 1] * s.pivot[m - 1]      # into the middle, from the left
    f[m] = flow[m] * s.pivot[m + 1]          # and from the right
    s.pivot[m] = 1.0 / (salt.volume[m] + flow[m - 1] * (1.0 - f[0]) + flow[m] * (1.0 - f[m]))


cdef inline void solve_salt(const Salt* salt, const SaltState* s, double* x) noexcept nogil:
    """Solve for `x`, which holds the right-hand side, with the last matrix."""
    cdef int i, j, n = salt.cells, m = salt.cells >> 1
    for i in range(1, m):
        j = n - 1 - i
        x[i] += s.factor[i] * x[i - 1]
        if j > m:
            x[j] += s.factor[j] * x[j + 1]
    x[m] = (x[m] + s.factor[0] * x[m - 1] + s.factor[m] * x[m + 1]) * s.pivot[m]
    for i in range(1, m + 1):
        j = m + i
        x[m - i] = (x[m - i] + s.flow[m - i] * x[m - i + 1]) * s.pivot[m - i]
        if j < n:
            x[j] = (x[j] + s.flow[j - 1] * x[j - 1]) * s.pivot[j]


cdef inline void step_salt(
    const Salt* salt, SaltState* s, const SaltStep* step, double scale, double current_A
) noexcept nogil:
    """Advance by a step; leaves the matrix for `step_salt_slopes`."""
    cdef double room[VOLUMES + 3]
    cdef double x[VOLUMES]
    cdef double at[VOLUMES]
    cdef double slope[VOLUMES]
    cdef double jump[2]
    cdef double* guess = room + 1
    cdef double middle, by_middle, bend, through, passed
    cdef double inverse = 1.0 / salt.table_step
    cdef int i, k, n = salt.cells
    room[0] = room[n + 1] = room[n + 2] = 0.0
    for k in range(n):
        guess[k] = (step.guess[0] * s.u[k] + step.guess[1] * s.before[k]
                    + step.guess[2] * s.earlier[k])
        at[k] = read_straight(salt.diffusivity, salt.points, inverse, guess[k], &slope[k])
        x[k] = salt.volume[k] * (step.keep[0] * s.u[k] + step.keep[1] * s.before[k]
                                 + step.keep[2] * s.earlier[k])
        x[k] += step.ahead * current_A * salt.source[k]
    for k in range(n - 1):
        bend = 0.0
        if k != salt.joints[0] and k != salt.joints[1]:
            bend = bent(salt, guess, k)
        middle = read_straight(salt.diffusivity, salt.points, inverse,
                               0.5 * (guess[k] + guess[k + 1]) + bend, &by_middle)
        through = step.ahead * salt.couple[k] * scale / 3.0
        s.flow[k] = through * (at[k] + middle + at[k + 1])
        s.by_left[k] = through * (slope[k] + 0.5 * by_middle)
        s.by_right[k] = through * (slope[k + 1] + 0.5 * by_middle)
        s.by_bend[k] = through * by_middle
    s.flow[n - 1] = 0.0
    reduce_matrix(salt, s)
    for i in range(2):
        k = salt.joints[i]
        jump[i] = bent(salt, s.u, k)
        x[k] += s.flow[k] * jump[i]
        x[k + 1] -= s.flow[k] * jump[i]
    if salt.carry != NULL:
        for k in range(n - 1):
            bend = 0.0
            if k != salt.joints[0] and k != salt.joints[1]:
                bend = -2.0 / 3.0 * bent(salt, guess, k)
            passed = step.ahead * current_A * salt.portion[k]
            middle = passed * read_straight(salt.carry, salt.points, inverse,
                                            0.5 * (guess[k] + guess[k + 1]) + bend, &by_middle)
            at[k] = passed * by_middle
            x[k] += middle
            x[k + 1] -= middle
    solve_salt(salt, s, x)
    for k in range(n - 1):
        s.difference[k] = x[k + 1] - x[k]
    for i in range(2):
        s.difference[salt.joints[i]] += jump[i]
    for k in range(n - 1):
        s.by_left[k] *= s.difference[k]
        s.by_right[k] *= s.difference[k]
        s.by_bend[k] *= s.difference[k]
        if salt.carry != NULL:
            s.by_left[k] += 0.5 * at[k]
            s.by_right[k] += 0.5 * at[k]
            s.by_bend[k] -= 2.0 / 3.0 * at[k]
    for i in range(2):
        s.by_bend[salt.joints[i]] = 0.0
    for k in range(n):
        s.earlier[k] = s.before[k]
        s.before[k] = s.u[k]
        s.u[k] = x[k]


cdef inline void step_salt_slopes(
    const Salt* salt, SaltState* s, const SaltStep* step, double d_log_scale, int j
) noexcept nogil:
    """Advance the derivatives by parameter `j`, after `step_salt`."""
    cdef double room[VOLUMES + 3]
    cdef double x[VOLUMES]
    cdef double* guess = room + 1
    cdef double* du = s.du[j]
    cdef double* before = s.du_before[j]
    cdef double* earlier = s.du_earlier[j]
    cdef double change
    cdef int i, k, n = salt.cells
    room[0] = room[n + 1] = room[n + 2] = 0.0
    for k in range(n):
        guess[k] = (step.guess[0] * du[k] + step.guess[1] * before[k]
                    + step.guess[2] * earlier[k])
        x[k] = salt.volume[k] * (step.keep[0] * du[k] + step.keep[1] * before[k]
                                 + step.keep[2] * earlier[k])
    for k in range(n - 1):
        change = d_log_scale * s.flow[k] * s.difference[k]
        change += s.by_left[k] * guess[k] + s.by_right[k] * guess[k + 1]
        change += s.by_bend[k] * bent(salt, guess, k)
        x[k] += change
        x[k + 1] -= change
    for i in range(2):
        k = salt.joints[i]
        change = s.flow[k] * bent(salt, du, k)
        x[k] += change
        x[k + 1] -= change
    solve_salt(salt, s, x)
    for k in range(n):
        earlier[k] = before[k]
        before[k] = du[k]
        du[k] = x[k]


cdef inline double log_slopes(
    const double* logs, int cells, bint is_wall_first, double* by_log
) noexcept nogil:
    """Mean square of the change of log c across a volume; `by_log` gets its derivatives.

    No salt passes the wall, the current collector, so that the profile is level there; at the
    other end a parabola goes through the last three volumes.
    """
    cdef double slope, total = 0.0, each = 2.0 / cells
    cdef int k, wall, end
    for k in range(cells):
        by_log[k] = 0.0
    for k in range(1, cells - 1):
        slope = 0.5 * (logs[k + 1] - logs[k - 1])
        total += slope * slope
        by_log[k + 1] += 0.5 * each * slope
        by_log[k - 1] -= 0.5 * each * slope
    wall = 0 if is_wall_first else cells - 1
    k = 1 if is_wall_first else cells - 2
    slope = 0.5 * (logs[k] - logs[wall])
    total += slope * slope
    by_log[k] += 0.5 * each * slope
    by_log[wall] -= 0.5 * each * slope
    end = cells - 1 - wall
    k = cells - 2 if is_wall_first else 1
    wall = cells - 3 if is_wall_first else 2
    slope = 1.5 * logs[end] - 2.0 * logs[k] + 0.5 * logs[wall]
    total += slope * slope
    by_log[end] += 1.5 * each * slope
    by_log[k] -= 2.0 * each * slope
    by_log[wall] += 0.5 * each * slope
    return total / cells


cdef inline void log_moments(
    const double* u, int cells, bint is_wall_first, double* out, const double* du, int count,
    const unsigned char* wanted, double* d_out, int stride, int first
) noexcept nogil:
    """Fill mean and central moments of log(u / 1000) over an electrode, and derivatives.

    The logarithm's mean over a volume is that of the mean less what the profile inside takes.
    `du` holds VOLUMES values a parameter; `d_out` `stride` values a parameter, from `first` on.
    """
    cdef double logs[VOLUMES]
    cdef double inverse[VOLUMES]
    cdef double by_log[VOLUMES]
    cdef double c, d, e, w, within, weight = 1.0 / cells, mean = 0.0, two = 0.0, three = 0.0
    cdef double d0, d1, d2, d3, d4, four = 0.0
    cdef int k, j
    for k in range(cells):
        c = 1e-3 * u[k]
        inverse[k] = 1e-3 / c
        if not c > 1e-3:  # kept off zero
            c = 1e-3
            inverse[k] = 0.0
        logs[k] = log(c)
        mean += logs[k]
    mean *= weight
    within = log_slopes(logs, cells, is_wall_first, by_log)
    for k in range(cells):
        d = logs[k] = logs[k] - mean
        w = weight * d * d
        two += w
        three += w * d
        four += w * d * d
    out[0] = mean - within / 24.0
    out[1] = two + within / 12.0
    out[2] = three
    out[3] = four
    for j in range(count):
        if not wanted[j]:
            continue
        d0 = d1 = d2 = d3 = d4 = 0.0
        for k in range(cells):
            e = inverse[k] * du[j * VOLUMES + k]
            d = logs[k]
            d0 += by_log[k] * e
            e *= weight
            d1 += e
            d2 += d * e
            d3 += d * d * e
            d4 += d * d * d * e
        d_out[j * stride + first] = d1 - d0 / 24.0
        d_out[j * stride + first + 1] = 2.0 * d2 + d0 / 12.0
        d_out[j * stride + first + 2] = 3.0 * (d3 - two * d1)
        d_out[j * stride + first + 3] = 4.0 * (d4 - three * d1)
