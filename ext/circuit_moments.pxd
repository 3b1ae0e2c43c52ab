# Sums of products over the rows of a circuit's window, and linear parameters from them.
# Header only.
#
# A circuit's voltage is linear in everything but its lags. With the sums of products of all
# columns (1, q, ..., I, V, the lagged currents u and their derivatives by log tau), its linear
# parameters, the cost at any lags, and gradient and curvature by the lags follow without another
# look at the rows: variable projection (G. H. Golub, V. Pereyra, SIAM J. Numer. Anal. 10 (1973)
# 413; L. Kaufman, BIT 15 (1975) 49, for the curvature).

from libc.math cimport exp, isfinite, sqrt
from libc.string cimport memset

cdef enum:
    FIXED = 8          # 1, q .. q^4, I, one spare, V
    AT_I = 5
    AT_V = 7
    MOVING = 8         # lagged currents, or half of them and their derivatives
    WIDE = 16          # FIXED + MOVING
    FEW_FIXED = 4      # 1, q, I, V: for order 0 and 1
    BLOCK = 64

cdef struct Rows:
    const double* time_s
    const double* current_A
    const double* charge
    const double* voltage_V
    const unsigned char* observed
    Py_ssize_t count
    double middle_V             # taken off the voltage, so that squares keep their digits
    int order

# Sums by place: 0 .. order for the polynomial, AT_I, AT_V, then FIXED + k
cdef struct Moments:
    double sum[WIDE][WIDE]
    double rows


cdef inline double dot(const double* a, const double* b) noexcept nogil:
    """Sum a block's products, eight at a time, so that none waits for the last."""
    cdef double s[8]
    cdef int i, j
    for j in range(8):
        s[j] = a[j] * b[j]
    for i in range(8, BLOCK, 8):
        for j in range(8):
            s[j] += a[i + j] * b[i + j]
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]))


cdef inline void gather(
    const Rows* rows, const double* log_tau, int lags, bint slopes, int stride,
    const Moments* known, Moments* m, int fixed, int moving
) noexcept nogil:
    """Sum over every `stride`-th observed row; of `fixed` and `moving` columns.

    What does not depend on the lags is taken from `known`, if it is not NULL.
    """
    cdef double total[WIDE][WIDE]
    cdef double block[WIDE][BLOCK]      # columns of some rows
    cdef double u[MOVING]
    cdef double du[MOVING]
    cdef double tau[MOVING]
    cdef double alpha[MOVING]
    cdef double lean[MOVING]
    cdef double dt, last_dt = -1.0, current, power
    cdef Py_ssize_t i, seen = 0
    cdef int k, j, r, filled = 0
    cdef int half = moving // 2 if slopes else moving
    memset(&total[0][0], 0, WIDE * WIDE * sizeof(double))
    memset(&block[0][0], 0, BLOCK * WIDE * sizeof(double))
    for k in range(moving):
        tau[k] = exp(log_tau[k]) if k < lags else 1.0
        alpha[k] = lean[k] = u[k] = du[k] = 0.0
    m.rows = 0.0
    for i in range(rows.count):
        current = rows.current_A[i]
        if i > 0:
            dt = rows.time_s[i] - rows.time_s[i - 1]
            if dt != last_dt:
                for k in range(lags):
                    alpha[k] = exp(-dt / tau[k])
                    lean[k] = alpha[k] * dt / tau[k]
                last_dt = dt
            for k in range(half):
                if slopes:
                    du[k] = alpha[k] * du[k] + lean[k] * (u[k] - current)
                u[k] = current + alpha[k] * (u[k] - current)
        if rows.observed[i]:
            seen += 1
            if seen % stride == 0:
                power = 1.0
                for k in range(rows.order + 1):
                    block[k][filled] = power
                    power *= rows.charge[i]
                block[fixed - 2][filled] = current
                block[fixed - 1][filled] = rows.voltage_V[i] - rows.middle_V
                for k in range(half):
                    block[fixed + k][filled] = u[k]
                    if slopes:
                        block[fixed + half + k][filled] = du[k]
                filled += 1
                m.rows += 1.0
        if filled == BLOCK or (i == rows.count - 1 and filled):
            for k in range(0 if known == NULL else fixed, fixed + moving):
                for r in range(filled, BLOCK):
                    block[k][r] = 0.0
                for j in range(k + 1):
                    total[k][j] += dot(block[k], block[j])
            filled = 0
    spread_out(m, &total[0][0], fixed, moving, lags, slopes)
    if known != NULL:
        for k in range(FIXED):
            for j in range(FIXED):
                m.sum[k][j] = known.sum[k][j]


cdef inline int place_of(int j, int fixed, int moving, int lags, bint slopes) noexcept nogil:
    """Return where a column of `gather` stands in the sums; slopes follow the lags there."""
    if j < fixed - 2:
        return j
    if j == fixed - 2:
        return AT_I
    if j == fixed - 1:
        return AT_V
    j -= fixed
    if slopes and j >= moving // 2:
        return FIXED + lags + j - moving // 2 if j - moving // 2 < lags else -1
    return FIXED + j if j < lags else -1


cdef inline void spread_out(
    Moments* m, const double* total, int fixed, int moving, int lags, bint slopes
) noexcept nogil:
    """Put sums of the lower triangle to their places."""
    cdef int j, k, a, b
    memset(&m.sum[0][0], 0, WIDE * WIDE * sizeof(double))
    for k in range(fixed + moving):
        a = place_of(k, fixed, moving, lags, slopes)
        for j in range(k + 1):
            b = place_of(j, fixed, moving, lags, slopes)
            if a >= 0 and b >= 0:
                m.sum[a][b] = m.sum[b][a] = total[k * WIDE + j]


cdef inline void moments_of(
    const Rows* rows, const double* log_tau, int lags, bint slopes, int stride,
    const Moments* known, Moments* m
) noexcept nogil:
    """Sum products; with `slopes` at most 4 lags, else at most 8."""
    if rows.order <= 1:
        if slopes and lags <= 2:
            gather(rows, log_tau, lags, True, stride, known, m, FEW_FIXED, 4)
        elif slopes:
            gather(rows, log_tau, lags, True, stride, known, m, FEW_FIXED, MOVING)
        else:
            gather(rows, log_tau, lags, False, stride, known, m, FEW_FIXED, MOVING)
    elif slopes:
        gather(rows, log_tau, lags, True, stride, known, m, FIXED, MOVING)
    else:
        gather(rows, log_tau, lags, False, stride, known, m, FIXED, MOVING)


cdef inline bint cholesky(double* a, int n) noexcept nogil:
    """Factor the lower triangle of rows of WIDE in place."""
    cdef int i, j, k
    cdef double total
    for i in range(n):
        for j in range(i + 1):
            total = a[i * WIDE + j]
            for k in range(j):
                total -= a[i * WIDE + k] * a[j * WIDE + k]
            if i == j:
                if not total > 0.0:
                    return False
                a[i * WIDE + i] = sqrt(total)
            else:
                a[i * WIDE + j] = total / a[j * WIDE + j]
    return True


cdef inline void solve_factored(const double* a, int n, double* x) noexcept nogil:
    cdef int i, k
    for i in range(n):
        for k in range(i):
            x[i] -= a[i * WIDE + k] * x[k]
        x[i] /= a[i * WIDE + i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            x[i] -= a[k * WIDE + i] * x[k]
        x[i] /= a[i * WIDE + i]


# Linear parameters at given lags
cdef struct Linear:
    int count
    int place[WIDE]            # in the sums
    double scale[WIDE]
    double factor[WIDE * WIDE]
    double value[WIDE]
    double cost                # half the sum of squares; infinite if there is no solution
    bint inside                # no resistance is negative


cdef inline void solve_linear(
    const Moments* m, int order, const int* chosen, int lags, Linear* r
) noexcept nogil:
    """Solve for the polynomial, R0 and the lags `chosen`, by scaled normal equations."""
    cdef int i, j, n = 0
    cdef double x[WIDE]
    cdef double product
    for i in range(order + 1):
        r.place[n] = i
        n += 1
    r.place[n] = AT_I
    n += 1
    for i in range(lags):
        r.place[n] = FIXED + chosen[i]
        n += 1
    r.count = n
    r.cost = 1e300
    r.inside = False
    for i in range(n):
        r.scale[i] = sqrt(m.sum[r.place[i]][r.place[i]])
        if not r.scale[i] > 0.0:
            return
    for i in range(n):
        x[i] = m.sum[r.place[i]][AT_V] / r.scale[i]
        r.value[i] = x[i]
        for j in range(i + 1):
            r.factor[i * WIDE + j] = (
                m.sum[r.place[i]][r.place[j]] / (r.scale[i] * r.scale[j]))
        r.factor[i * WIDE + i] += 1e-13
    if not cholesky(r.factor, n):
        return
    solve_factored(r.factor, n, r.value)
    product = m.sum[AT_V][AT_V]
    for i in range(n):
        product -= x[i] * r.value[i]
    r.cost = 0.5 * product
    r.inside = isfinite(product)
    for i in range(n):
        r.value[i] /= r.scale[i]
        if i > order and r.value[i] < 0.0:
            r.inside = False


cdef inline void lag_slopes(
    const Moments* m, const Linear* r, int order, int lags, double* gradient, double* curvature
) noexcept nogil:
    """Fill the cost's gradient by log tau and Kaufman's curvature, rows of 3."""
    cdef double row[3][WIDE]
    cdef double solved[WIDE]
    cdef double total
    cdef int i, k, l, place
    for k in range(lags):
        place = FIXED + lags + k
        total = -m.sum[place][AT_V]
        for i in range(r.count):
            total += m.sum[place][r.place[i]] * r.value[i]
            row[k][i] = m.sum[place][r.place[i]] / r.scale[i]
        gradient[k] = r.value[order + 2 + k] * total
    for k in range(lags):
        for i in range(r.count):
            solved[i] = row[k][i]
        solve_factored(r.factor, r.count, solved)
        for l in range(lags):
            total = m.sum[FIXED + lags + k][FIXED + lags + l]
            for i in range(r.count):
                total -= row[l][i] * solved[i]
            curvature[3 * k + l] = (
                total * r.value[order + 2 + k] * r.value[order + 2 + l])
