# Derivatives of a step by a parameter: one substitution with the blocks of its end. Header only.

from dfn_cell cimport D_E, KAPPA, NODES, OHM, SIGMA_N, SIGMA_P, Cell, Electrode
from dfn_particles cimport Particles
from dfn_through cimport Work, substitute

cdef struct Slopes:
    double x[2 * NODES]          # right-hand side, then derivatives of potential and salt
    double amps[NODES]           # of the electrolyte's currents, at first at held unknowns
    double speed[NODES]
    double past_n[NODES]         # of the particles' surfaces, at a held speed
    double past_p[NODES]


cdef inline void slope_of_currents(
    const Cell* cell, const Work* w, int which, double* amps
) noexcept nogil:
    """Set the derivatives of the electrolyte's currents by a parameter, unknowns held."""
    cdef int k
    for k in range(cell.nodes):
        amps[k] = 0.0
    if which == KAPPA:
        for k in range(cell.nodes - 1):
            amps[k] = w.amps[k] * (w.half[k] + w.half[k + 1]) * w.inverse[k]
    elif which == SIGMA_N:
        for k in range(cell.n.count - 1):
            amps[k] = ((w.amps[k] - w.current) * (cell.half_s[k] + cell.half_s[k + 1])
                       * w.ease_n * w.inverse[k])
    elif which == SIGMA_P:
        for k in range(cell.p.first, cell.nodes - 1):
            amps[k] = ((w.amps[k] - w.current) * (cell.half_s[k] + cell.half_s[k + 1])
                       * w.ease_p * w.inverse[k])


cdef inline void slope_of_kinetics(
    const Electrode* e, const Particles* p, const Work* w, const double* past, const double* amps,
    const double* q, int which, double* x
) noexcept nogil:
    """Set minus the derivative of the kinetics' residual, unknowns held."""
    cdef double change
    cdef int i, k
    for i in range(e.count):
        k = e.first + i
        change = w.by_s[k] * past[i]
        change += w.by_i[k] * (amps[k] - (amps[k - 1] if k > 0 else 0.0))
        if which == e.q:
            change += (w.by_j[k] - w.by_s[k] * p.gain[i] * w.speed[k]) / q[e.q]
        elif which == e.rate:
            change += w.by_j[k]
        x[2 * k] = -change


cdef inline void slope_of_speeds(
    const Electrode* e, const Cell* cell, const Work* w, const double* amps, const double* q,
    int which, double* speed
) noexcept nogil:
    cdef int k
    for k in range(e.first, e.first + e.count):
        speed[k] = -(amps[k] - (amps[k - 1] if k > 0 else 0.0)) / (
            3600.0 * q[e.q] * cell.share[k])
        if which == e.q:
            speed[k] -= w.speed[k] / q[e.q]


cdef inline double slope_of_step(
    const Cell* cell, const Particles* n, const Particles* p, const Work* w, Slopes* d,
    const double* past_c, const double* q, int which
) noexcept nogil:
    """Return the voltage's derivative; `d` then holds those of salt, currents and speeds.

    `past_c` is that of the salt without flow; `d.past_n` and `d.past_p` are set before.
    """
    cdef double rate, wide, carry, volts, half
    cdef int k, last = cell.nodes - 1
    slope_of_currents(cell, w, which, d.amps)
    slope_of_kinetics(&cell.n, n, w, d.past_n, d.amps, q, which, d.x)
    slope_of_kinetics(&cell.p, p, w, d.past_p, d.amps, q, which, d.x)
    for k in range(cell.nodes):
        if not cell.share[k] > 0.0:
            d.x[2 * k] = 0.0
        d.x[2 * k + 1] = past_c[k]
    if which == KAPPA or which == SIGMA_N or which == SIGMA_P or which == D_E:
        for k in range(last):
            carry = (1.0 - 0.5 * (w.salt.carried[k] + w.salt.carried[k + 1])) / 96485.33212
            rate = carry * d.amps[k]
            if which == D_E:
                wide = w.ease_d / (cell.half_e[k] + cell.half_e[k + 1])
                rate = wide * (w.salt.spread[k + 1] - w.salt.spread[k])
            rate *= w.salt_step
            d.x[2 * k + 1] += rate / cell.hold[k]
            d.x[2 * k + 3] -= rate / cell.hold[k + 1]
    substitute(cell, w, d.x)
    volts = d.x[2 * last] - d.x[0] + w.thermal * (
        w.salt.d_lift[last] * d.x[2 * last + 1] - w.salt.d_lift[0] * d.x[1])
    for k in range(last):
        d.amps[k] += (w.inverse[k] * (d.x[2 * k + 2] - d.x[2 * k])
                      + w.amps_l[k] * d.x[2 * k + 1] + w.amps_r[k] * d.x[2 * k + 3])
        volts -= d.amps[k] * (w.half[k] + w.half[k + 1])
    for k in range(cell.nodes):
        half = -w.half[k] * w.salt.d_kappa[k] / w.salt.kappa[k] * d.x[2 * k + 1]
        if which == KAPPA:
            half -= w.half[k]
        volts -= half * ((w.amps[k] if k < last else 0.0) + (w.amps[k - 1] if k > 0 else 0.0))
    if which == OHM:
        volts -= w.current
    elif which == SIGMA_N:
        volts += w.current * cell.half_s[0] * w.ease_n
    elif which == SIGMA_P:
        volts += w.current * cell.half_s[last] * w.ease_p
    slope_of_speeds(&cell.n, cell, w, d.amps, q, which, d.speed)
    slope_of_speeds(&cell.p, cell, w, d.amps, q, which, d.speed)
    return volts
