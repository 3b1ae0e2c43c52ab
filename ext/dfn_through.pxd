# One step through the cell: Newton on potential and salt in every node. Header only.
#
# Unknown in a node are the potential across the interface (solid less electrolyte) and the
# concentration: with the current through the cell given, both together give the current in the
# electrolyte between two nodes, its divergence the reaction, and so the particle's surface. The
# kinetics stand in volts, potential = U + 2RT/F asinh(...), which keeps Newton calm. What is
# left is a block-tridiagonal system of 2 x 2 blocks (in the separator the potential is idle).

from libc.math cimport exp, fabs, isfinite, log, sqrt

from dfn_cell cimport (
    D_E, KAPPA, NODES, OHM, SIGMA_N, SIGMA_P, Cell, Electrode, Salt, arsinh, read_pair,
    read_salt,
)
from dfn_particles cimport Particles
from ocv_tables cimport read_smoothly

cdef enum:
    MOST_NEWTON = 30

cdef struct Work:
    double phi[NODES]
    double c[NODES]
    double past_c[NODES]       # what the salt would be without flow
    double salt_step           # seconds of flow that the step takes in
    double current             # through the cell, positive on discharge
    double temperature
    double thermal             # RT/F
    double ease_e              # factors on the resistance of electrolyte and solid
    double ease_n
    double ease_p
    double ease_d              # on the salt's diffusivity
    Salt salt
    double half[NODES]         # resistance of half a node's electrolyte
    double amps[NODES]         # in the electrolyte, from a node to the next
    double inverse[NODES]      # its derivative by the difference of potentials; 0: it is given
    double amps_l[NODES]       # by the concentrations left and right
    double amps_r[NODES]
    double flow[NODES]         # of salt, mol/s
    double flow_l[NODES]
    double flow_r[NODES]
    double flow_v[NODES]
    double speed[NODES]        # of the particles' means
    double by_s[NODES]         # derivative of the kinetics by the surface
    double by_i[NODES]         # and by the reaction's current, the surface following
    double by_j[NODES]         # and by the logarithm of the exchange current
    double lower[4 * NODES]    # blocks
    double solved[4 * NODES]   # inverse of the diagonal after elimination
    double upper[4 * NODES]    # times that
    double right[2 * NODES]


cdef inline void set_factors(
    const Cell* cell, Work* w, const double* q, double current, double temperature
) noexcept nogil:
    cdef double warm = 1.0 / cell.t_ref - 1.0 / temperature
    w.current = current
    w.temperature = temperature
    w.thermal = 8.314462618 / 96485.33212 * temperature
    w.ease_e = exp(-q[KAPPA] - cell.act_kappa * warm)
    w.ease_d = exp(q[D_E] + cell.act_d_e * warm)
    w.ease_n = exp(-q[SIGMA_N])
    w.ease_p = exp(-q[SIGMA_P])


cdef inline void find_currents(
    const Cell* cell, const Electrode* e, Work* w, double ease_s
) noexcept nogil:
    """Set the electrolyte's currents inside an electrode, with derivatives."""
    cdef double solid
    cdef int k
    for k in range(e.first, e.first + e.count - 1):
        solid = (cell.half_s[k] + cell.half_s[k + 1]) * ease_s
        w.inverse[k] = 1.0 / (w.half[k] + w.half[k + 1] + solid)
        w.amps[k] = w.inverse[k] * (
            w.phi[k + 1] - w.phi[k] + w.current * solid
            + w.thermal * (w.salt.lift[k + 1] - w.salt.lift[k]))
        w.amps_l[k] = w.inverse[k] * (
            -w.thermal * w.salt.d_lift[k]
            + w.amps[k] * w.half[k] * w.salt.d_kappa[k] / w.salt.kappa[k])
        w.amps_r[k] = w.inverse[k] * (
            w.thermal * w.salt.d_lift[k + 1]
            + w.amps[k] * w.half[k + 1] * w.salt.d_kappa[k + 1] / w.salt.kappa[k + 1])


cdef inline void find_flows(const Cell* cell, Work* w) noexcept nogil:
    """Set resistances, currents and flows of salt between nodes."""
    cdef double wide, carry
    cdef int k
    read_salt(cell, w.c, &w.salt)
    for k in range(cell.nodes):
        w.half[k] = cell.half_e[k] * w.ease_e / w.salt.kappa[k]
        w.amps[k] = w.current
        w.inverse[k] = w.amps_l[k] = w.amps_r[k] = 0.0
    w.amps[cell.nodes - 1] = 0.0
    find_currents(cell, &cell.n, w, w.ease_n)
    find_currents(cell, &cell.p, w, w.ease_p)
    for k in range(cell.nodes - 1):
        wide = w.ease_d / (cell.half_e[k] + cell.half_e[k + 1])
        carry = (1.0 - 0.5 * (w.salt.carried[k] + w.salt.carried[k + 1])) / 96485.33212
        w.flow[k] = (wide * (w.salt.spread[k + 1] - w.salt.spread[k])
                     + carry * w.amps[k])
        w.flow_v[k] = carry * w.inverse[k]
        w.flow_l[k] = (-wide * w.salt.d_spread[k] + carry * w.amps_l[k]
                       - 0.5 / 96485.33212 * w.amps[k] * w.salt.d_carried[k])
        w.flow_r[k] = (wide * w.salt.d_spread[k + 1] + carry * w.amps_r[k]
                       - 0.5 / 96485.33212 * w.amps[k] * w.salt.d_carried[k + 1])
    k = cell.nodes - 1
    w.flow[k] = w.flow_v[k] = w.flow_l[k] = w.flow_r[k] = 0.0


cdef inline void react(
    const Cell* cell, const Electrode* e, const Particles* p, Work* w, const double* q
) noexcept nogil:
    """Set the kinetics' residual of an electrode's nodes and what its derivatives need."""
    cdef double charge, reaction, s, u, du, j, dj, entropy, slope, strength, z, root, ease, tilt
    cdef double factor = e.current * q[e.q] * exp(
        q[e.rate] + e.act_j * (1.0 / cell.t_ref - 1.0 / w.temperature))
    cdef double warmer = w.temperature - cell.t_ref
    cdef int i, k
    for i in range(e.count):
        k = e.first + i
        charge = 3600.0 * q[e.q] * cell.share[k]
        reaction = w.amps[k] - (w.amps[k - 1] if k > 0 else 0.0)
        w.speed[k] = -reaction / charge
        s = p.past[i] + p.gain[i] * w.speed[k]
        read_pair(e.curves, cell.points, cell.step, s, &u, &du, &j, &dj)
        if warmer != 0.0:
            entropy = read_smoothly(e.entropy, cell.points, 0.0, cell.step, s, &slope)
            u += warmer * entropy
            du += warmer * slope
        # the exchange current goes with a power of the concentration in mol/l
        ease = w.salt.root[k] * 0.03162277660168379
        if e.power != 0.5:
            ease = exp(2.0 * e.power * log(ease))
        strength = 2.0 * factor * cell.share[k] * j * ease
        z = reaction / strength
        root = sqrt(1.0 + z * z)
        tilt = 2.0 * w.thermal * z / root
        w.by_j[k] = tilt
        w.by_s[k] = -du + tilt * dj / j
        w.by_i[k] = (-w.by_s[k] * p.gain[i] / charge
                     - 2.0 * w.thermal / (root * strength))
        w.right[2 * k] = u + 2.0 * w.thermal * arsinh(z, root) - w.phi[k]
        # by the concentration, for the diagonal block
        w.upper[4 * k] = tilt * e.power / w.c[k] if w.c[k] > cell.root_0 * cell.root_0 else 0.0


cdef inline void eliminate(const Cell* cell, Work* w) noexcept nogil:
    """Fill the blocks and factorise them; `right` holds minus the residual."""
    cdef double a, b, c, d, by_c, rate, inverse, left, right
    cdef double* low
    cdef double* up
    cdef double* mid
    cdef int k
    for k in range(cell.nodes):
        low = w.lower + 4 * k
        up = w.upper + 4 * k
        mid = w.solved + 4 * k
        rate = w.salt_step / cell.hold[k]
        by_c = up[0]
        c = -rate * (-w.flow_v[k])
        d = 1.0 - rate * w.flow_l[k]
        if cell.share[k] > 0.0:
            a = 1.0 - w.by_i[k] * w.inverse[k]
            b = by_c + w.by_i[k] * w.amps_l[k]
            up[0] = w.by_i[k] * w.inverse[k]
            up[1] = w.by_i[k] * w.amps_r[k]
        else:
            a = 1.0
            b = up[0] = up[1] = 0.0
            w.right[2 * k] = -w.phi[k]
        up[2] = -rate * w.flow_v[k]
        up[3] = -rate * w.flow_r[k]
        w.right[2 * k + 1] = w.past_c[k] + rate * w.flow[k] - w.c[k]
        if k > 0:
            if cell.share[k] > 0.0:
                a -= w.by_i[k] * w.inverse[k - 1]
                b -= w.by_i[k] * w.amps_r[k - 1]
                low[0] = w.by_i[k] * w.inverse[k - 1]
                low[1] = -w.by_i[k] * w.amps_l[k - 1]
            else:
                low[0] = low[1] = 0.0
            c += rate * w.flow_v[k - 1]
            d += rate * w.flow_r[k - 1]
            low[2] = -rate * w.flow_v[k - 1]
            low[3] = rate * w.flow_l[k - 1]
            w.right[2 * k + 1] -= rate * w.flow[k - 1]
            # less lower times the solved upper of the node before
            a -= low[0] * up[-4] + low[1] * up[-2]
            b -= low[0] * up[-3] + low[1] * up[-1]
            c -= low[2] * up[-4] + low[3] * up[-2]
            d -= low[2] * up[-3] + low[3] * up[-1]
        inverse = 1.0 / (a * d - b * c)
        mid[0] = d * inverse
        mid[1] = -b * inverse
        mid[2] = -c * inverse
        mid[3] = a * inverse
        left = up[0]
        right = up[1]
        up[0] = mid[0] * left + mid[1] * up[2]
        c = mid[0] * right + mid[1] * up[3]
        up[2] = mid[2] * left + mid[3] * up[2]
        up[3] = mid[2] * right + mid[3] * up[3]
        up[1] = c


cdef inline void substitute(const Cell* cell, const Work* w, double* x) noexcept nogil:
    """Solve for `x`, which holds the right-hand side, with the last blocks."""
    cdef double a, b
    cdef const double* m
    cdef int k
    for k in range(cell.nodes):
        a = x[2 * k]
        b = x[2 * k + 1]
        if k > 0:
            m = w.lower + 4 * k
            a -= m[0] * x[2 * k - 2] + m[1] * x[2 * k - 1]
            b -= m[2] * x[2 * k - 2] + m[3] * x[2 * k - 1]
        m = w.solved + 4 * k
        x[2 * k] = m[0] * a + m[1] * b
        x[2 * k + 1] = m[2] * a + m[3] * b
    for k in range(cell.nodes - 2, -1, -1):
        m = w.upper + 4 * k
        a = x[2 * k + 2]
        b = x[2 * k + 3]
        x[2 * k] -= m[0] * a + m[1] * b
        x[2 * k + 1] -= m[2] * a + m[3] * b


cdef inline bint improve(
    const Cell* cell, const Particles* n, const Particles* p, Work* w, const double* q,
    double* volts, double* salt
) noexcept nogil:
    """One Newton step; the largest changes. False if numbers are not finite."""
    cdef double scale = 1.0, dv = 0.0, dc = 0.0, most
    cdef int k
    find_flows(cell, w)
    react(cell, &cell.n, n, w, q)
    react(cell, &cell.p, p, w, q)
    eliminate(cell, w)
    substitute(cell, w, w.right)
    for k in range(cell.nodes):
        dv = max(dv, fabs(w.right[2 * k]))
        most = fabs(w.right[2 * k + 1])
        dc = max(dc, most)
        if not (isfinite(w.right[2 * k]) and isfinite(most)):
            return False
        # no concentration goes more than nine tenths of the way to zero
        if w.right[2 * k + 1] < 0.0 and w.c[k] > 1.0 and most * scale > 0.9 * w.c[k]:
            scale = 0.9 * w.c[k] / most
    if dv * scale > 1.0:
        scale = 1.0 / dv
    for k in range(cell.nodes):
        w.phi[k] += scale * w.right[2 * k]
        w.c[k] += scale * w.right[2 * k + 1]
    volts[0] = dv
    salt[0] = dc
    return True


cdef inline bint settle_step(
    const Cell* cell, const Particles* n, const Particles* p, Work* w, const double* q,
    bint exactly
) noexcept nogil:
    """Solve a step by Newton. `exactly`: once more, so that the blocks are those of the end."""
    cdef double dv, dc
    cdef int tries
    for tries in range(MOST_NEWTON):
        if not improve(cell, n, p, w, q, &dv, &dc):
            return False
        if dv < 2e-5 and dc < 0.02:
            return not exactly or improve(cell, n, p, w, q, &dv, &dc)
    return False


cdef inline void find_speeds(const Electrode* e, const Cell* cell, Work* w, double q) noexcept nogil:
    cdef int k
    for k in range(e.first, e.first + e.count):
        w.speed[k] = -(w.amps[k] - (w.amps[k - 1] if k > 0 else 0.0)) / (
            3600.0 * q * cell.share[k])


cdef inline double read_volts(const Cell* cell, Work* w, const double* q) noexcept nogil:
    """Return the voltage after a step; brings flows and speeds up to date."""
    cdef int k, last = cell.nodes - 1
    cdef double v
    find_flows(cell, w)
    find_speeds(&cell.n, cell, w, q[cell.n.q])
    find_speeds(&cell.p, cell, w, q[cell.p.q])
    v = w.phi[last] - w.phi[0] + w.thermal * (w.salt.lift[last] - w.salt.lift[0])
    for k in range(last):
        v -= w.amps[k] * (w.half[k] + w.half[k + 1])
    return v - w.current * (
        cell.half_s[0] * w.ease_n + cell.half_s[last] * w.ease_p + q[OHM])
