# Complex arithmetic with derivatives carried along (forward mode). Header only.

from libc.math cimport atan2, cos, exp, hypot, sin, sqrt

cdef enum:
    MOST_D = 6

cdef struct Dual:
    double complex v
    double complex d[MOST_D]
    int n


cdef inline double complex complex_exp(double complex z) noexcept nogil:
    cdef double size = exp(z.real)
    return size * cos(z.imag) + 1j * (size * sin(z.imag))


cdef inline double complex complex_sqrt(double complex z) noexcept nogil:
    """Return the root with a real part of 0 or more."""
    cdef double size = sqrt(hypot(z.real, z.imag))
    cdef double angle = 0.5 * atan2(z.imag, z.real)
    return size * cos(angle) + 1j * (size * sin(angle))


cdef inline double complex complex_tanh(double complex z) noexcept nogil:
    """Return tanh for a real part of 0 or more."""
    cdef double complex small
    if z.real > 20.0:
        return 1.0
    if hypot(z.real, z.imag) < 1e-4:
        return z * (1.0 - z * z / 3.0)
    small = complex_exp(-2.0 * z)
    return (1.0 - small) / (1.0 + small)


cdef inline double complex complex_csch(double complex z) noexcept nogil:
    """Return 1 / sinh for a real part above 0."""
    cdef double complex small
    if z.real > 300.0:
        return 0.0
    small = complex_exp(-z)
    return 2.0 * small / (1.0 - small * small)


cdef inline Dual constant(double complex value, int n) noexcept nogil:
    cdef Dual r
    cdef int j
    r.v = value
    r.n = n
    for j in range(n):
        r.d[j] = 0.0
    return r


cdef inline Dual scaled(Dual a, double complex factor) noexcept nogil:
    cdef int j
    a.v = a.v * factor
    for j in range(a.n):
        a.d[j] = a.d[j] * factor
    return a


cdef inline Dual add(Dual a, Dual b) noexcept nogil:
    cdef int j
    a.v = a.v + b.v
    for j in range(a.n):
        a.d[j] = a.d[j] + b.d[j]
    return a


cdef inline Dual subtract(Dual a, Dual b) noexcept nogil:
    cdef int j
    a.v = a.v - b.v
    for j in range(a.n):
        a.d[j] = a.d[j] - b.d[j]
    return a


cdef inline Dual multiply(Dual a, Dual b) noexcept nogil:
    cdef Dual r
    cdef int j
    r.v = a.v * b.v
    r.n = a.n
    for j in range(a.n):
        r.d[j] = a.d[j] * b.v + a.v * b.d[j]
    return r


cdef inline Dual through(Dual a, double complex value, double complex slope) noexcept nogil:
    """Return a function of `a`, given its value and its slope there."""
    cdef int j
    a.v = value
    for j in range(a.n):
        a.d[j] = a.d[j] * slope
    return a


cdef inline Dual inverse(Dual a) noexcept nogil:
    cdef double complex value = 1.0 / a.v
    return through(a, value, -value * value)


cdef inline Dual divide(Dual a, Dual b) noexcept nogil:
    return multiply(a, inverse(b))


cdef inline Dual root(Dual a) noexcept nogil:
    cdef double complex value = complex_sqrt(a.v)
    return through(a, value, 0.5 / value)


cdef inline Dual tanh_of(Dual a) noexcept nogil:
    cdef double complex value = complex_tanh(a.v)
    return through(a, value, 1.0 - value * value)


cdef inline Dual csch_of(Dual a) noexcept nogil:
    cdef double complex value = complex_csch(a.v)
    return through(a, value, -value / complex_tanh(a.v))
