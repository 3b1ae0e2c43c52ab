# Reading of equally spaced tables, and a small generator of noise. Header only.

cdef inline double look_up(const double* table, Py_ssize_t points, double step, double x) noexcept nogil:
    """Linear interpolation; the end values hold outside."""
    cdef double position = x / step
    cdef Py_ssize_t i
    if position <= 0.0:
        return table[0]
    i = <Py_ssize_t>position
    if i >= points - 1:
        return table[points - 1]
    return table[i] + (position - i) * (table[i + 1] - table[i])


cdef inline double noise(unsigned long long* state) noexcept nogil:
    """Nearly normal, standard deviation 1: the sum of four uniforms (xorshift64*)."""
    cdef double total = 0.0
    cdef unsigned long long x = state[0]
    cdef int i
    for i in range(4):
        x ^= x >> 12
        x ^= x << 25
        x ^= x >> 27
        total += <double>((x * 2685821657736338717ULL) >> 11) * 1.1102230246251565e-16
    state[0] = x
    return (total - 2.0) * 1.7320508075688772
