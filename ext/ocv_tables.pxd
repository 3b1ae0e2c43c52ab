# Smooth reading of equally spaced tables. Header only.

cdef inline double read_smoothly(
    const double* table, Py_ssize_t points, double first, double step, double x, double* slope
) noexcept nogil:
    """Cubic Hermite through the table (slopes by central differences); straight outside.

    `slope` gets the exact derivative of what is returned, so that the two agree.
    """
    cdef double position = (x - first) / step
    cdef double t, a, b, left, right, t2
    cdef Py_ssize_t i
    if not position > 0.0:  # NaN, too
        left = table[1] - table[0]
        slope[0] = left / step
        return table[0] + position * left
    if position >= points - 1:
        right = table[points - 1] - table[points - 2]
        slope[0] = right / step
        return table[points - 1] + (position - (points - 1)) * right
    i = <Py_ssize_t>position
    t = position - i
    a = table[i]
    b = table[i + 1]
    left = 0.5 * (b - table[i - 1]) if i > 0 else b - a
    right = 0.5 * (table[i + 2] - a) if i < points - 2 else b - a
    t2 = t * t
    slope[0] = (
        6.0 * (t2 - t) * (a - b) + (3.0 * t2 - 4.0 * t + 1.0) * left + (3.0 * t2 - 2.0 * t) * right
    ) / step
    return (
        (2.0 * t2 * t - 3.0 * t2 + 1.0) * a + (t2 * t - 2.0 * t2 + t) * left
        + (3.0 * t2 - 2.0 * t2 * t) * b + (t2 * t - t2) * right
    )
