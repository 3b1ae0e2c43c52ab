# A small generator of noise. Header only.

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
