# The way through a history: state, steps in time, and what was found at their ends. Header only.

from libc.math cimport NAN, exp, isfinite
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from dfn_cell cimport NODES, Cell, Electrode, read_pair
from dfn_particles cimport (
    Particles, commit_modes, commit_shells, commit_slopes_of_modes, commit_slopes_of_shells,
    past_slopes_of_modes, past_slopes_of_shells, prepare_modes, prepare_shells, strain_of,
)
from dfn_slopes cimport Slopes, slope_of_step
from dfn_through cimport Work, find_flows, react, read_volts, set_factors, settle_step
from diffusion cimport Step, make_step

cdef enum:
    BEHIND = 3                   # ends of steps that the next one is guessed from

cdef struct State:
    Work w
    Slopes d
    Particles n
    Particles p
    Step step
    double last_c[NODES]
    double before_c[NODES]
    double last_amps[NODES]      # in the electrolyte after the last step
    double last_current
    double phi[BEHIND][NODES]    # of the last steps, the newest first
    double c[BEHIND][NODES]
    double h[BEHIND]             # their lengths
    double volts[BEHIND]
    int since                    # steps since the current changed
    bint is_lost                 # Newton found no solution
    double strain                # of the last step's particles
    int shift                    # the parameter that adds to the charge; 0: none
    double whole_n               # speeds of the electrodes' means
    double whole_p
    double* d_c                  # parameter by parameter
    double* d_c_before
    double* block

cdef struct Points:              # ends of the steps since the current changed
    double* s                    # root of the time since
    double* v
    double* dv
    Py_ssize_t used
    Py_ssize_t room
    int count

cdef struct Plan:                # ends of steps, kept from one run for others
    double* t
    Py_ssize_t used
    Py_ssize_t room
    Py_ssize_t* first            # of each segment
    Py_ssize_t segments
    bint is_kept                 # use it, do not write it


cdef inline double* part(double** from_here, Py_ssize_t size) noexcept nogil:
    cdef double* found = from_here[0]
    from_here[0] += size
    return found


cdef inline Py_ssize_t size_of(const Electrode* e, int modes, int count) noexcept nogil:
    cdef Py_ssize_t shells = e.line.cells
    cdef Py_ssize_t width = (10 + 2 * count) * shells if shells else (1 + count) * modes
    return e.count * (width + 3 * count)


cdef inline void lay_out(
    const Electrode* e, int modes, int count, Particles* p, double** rest
) noexcept nogil:
    cdef Py_ssize_t shells = e.line.cells * e.count
    p.count = e.count
    p.modes = modes
    p.shells = e.line.cells
    p.d_mean = part(rest, e.count * count)
    p.d_drift = part(rest, e.count * count)
    p.d_slope = part(rest, e.count * count)
    if not e.line.cells:
        p.a = part(rest, e.count * modes)
        p.da = part(rest, e.count * modes * count)
        return
    p.u = part(rest, shells)
    p.before = part(rest, shells)
    p.factor = part(rest, shells)
    p.pivot = part(rest, shells)
    p.flow = part(rest, shells)
    p.d = part(rest, shells)
    p.wave = part(rest, shells)
    p.bend = part(rest, shells)
    p.base = part(rest, shells)
    p.unit = part(rest, shells)
    p.du = part(rest, shells * count)
    p.du_before = part(rest, shells * count)


cdef inline State* make_state(const Cell* cell, int count) noexcept nogil:
    """Return a state with room for its derivatives; NULL without memory."""
    cdef State* s = <State*>calloc(1, sizeof(State))
    cdef int modes = cell.sphere.count
    cdef Py_ssize_t size = (size_of(&cell.n, modes, count) + size_of(&cell.p, modes, count)
                            + 2 * count * cell.nodes)
    cdef double* rest
    if s == NULL:
        return NULL
    s.block = <double*>calloc(size + 1, sizeof(double))
    if s.block == NULL:
        free(s)
        return NULL
    rest = s.block
    lay_out(&cell.n, modes, count, &s.n, &rest)
    lay_out(&cell.p, modes, count, &s.p, &rest)
    s.d_c = part(&rest, count * cell.nodes)
    s.d_c_before = part(&rest, count * cell.nodes)
    return s


cdef inline void drop_state(State* s) noexcept nogil:
    if s != NULL:
        free(s.block)
        free(s)


cdef inline void fill_particles(
    const Electrode* e, const Cell* cell, State* s, Particles* p, double mean, double d_q,
    double d_shift, const int* which, int count, int start, int shift
) noexcept nogil:
    """Set an electrode in equilibrium, with the derivatives of its stoichiometry."""
    cdef double u, du, j, dj, slope
    cdef int i, k, m
    read_pair(e.curves, cell.points, cell.step, mean, &u, &du, &j, &dj)
    p.last_h = p.last_tau = -1.0
    for i in range(e.count):
        p.mean[i] = mean
        p.drift[i] = p.slope[i] = 0.0
        s.w.phi[e.first + i] = u
        for m in range(p.modes if not p.shells else 0):
            p.a[i * p.modes + m] = 0.0
        for m in range(p.shells):
            p.u[i * p.shells + m] = p.before[i * p.shells + m] = mean
    for k in range(count):
        slope = 0.0
        if which[k] == start:
            slope = 1.0
        elif which[k] == e.q:
            slope = d_q
        elif shift > 0 and which[k] == shift:
            slope = d_shift
        for i in range(e.count):
            p.d_mean[k * e.count + i] = slope
            p.d_drift[k * e.count + i] = p.d_slope[k * e.count + i] = 0.0
            for m in range(p.modes if not p.shells else 0):
                p.da[(k * e.count + i) * p.modes + m] = 0.0
            for m in range(p.shells):
                p.du[(k * e.count + i) * p.shells + m] = slope
                p.du_before[(k * e.count + i) * p.shells + m] = slope


cdef inline void relax(
    const Cell* cell, State* s, const double* q, double charge_Ah, const int* which, int count,
    int x_0, int y_0
) noexcept nogil:
    """Begin anew: everything in equilibrium at a charge, to which `s.shift` adds."""
    cdef double q_n = q[cell.n.q], q_p = q[cell.p.q]
    cdef double moved_Ah = charge_Ah + (q[s.shift] if s.shift > 0 else 0.0)
    cdef int k
    memset(s.w.phi, 0, sizeof(s.w.phi))
    fill_particles(&cell.n, cell, s, &s.n, q[x_0] + moved_Ah / q_n, -moved_Ah / (q_n * q_n),
                   1.0 / q_n, which, count, x_0, s.shift)
    fill_particles(&cell.p, cell, s, &s.p, q[y_0] - moved_Ah / q_p, moved_Ah / (q_p * q_p),
                   -1.0 / q_p, which, count, y_0, s.shift)
    for k in range(cell.nodes):
        s.w.c[k] = s.last_c[k] = s.before_c[k] = cell.c_0
        s.phi[0][k] = s.w.phi[k]
    memset(s.last_amps, 0, sizeof(s.last_amps))
    s.last_current = 0.0
    memset(s.d_c, 0, count * cell.nodes * sizeof(double))
    memset(s.d_c_before, 0, count * cell.nodes * sizeof(double))
    s.since = 0
    s.is_lost = False


cdef inline void guess(const Cell* cell, State* s, double h) noexcept nogil:
    """Extrapolate potential and salt from the last steps at this current."""
    cdef double a = 1.0, b = 0.0, c = 0.0, near, far
    cdef int k
    if s.since == 2:
        b = -h / s.h[0]
        a = 1.0 - b
    elif s.since > 2:
        near = s.h[0]
        far = s.h[0] + s.h[1]
        a = (h + near) * (h + far) / (near * far)
        b = -h * (h + far) / (near * s.h[1])
        c = h * (h + near) / (far * s.h[1])
    for k in range(cell.nodes):
        s.w.phi[k] = a * s.phi[0][k] + b * s.phi[1][k] + c * s.phi[2][k]
        s.w.c[k] = a * s.c[0][k] + b * s.c[1][k] + c * s.c[2][k]
        if not s.w.c[k] > 0.2 * s.last_c[k]:
            s.w.c[k] = 0.2 * s.last_c[k]


cdef inline void guess_electrode(
    const Cell* cell, const Electrode* e, Particles* p, State* s, const double* q, double ease_s,
    double change, double sign
) noexcept nogil:
    """Spread a change of the current evenly over an electrode; potentials follow by Ohm's law."""
    cdef Work* w = &s.w
    cdef double solid, off = 0.0, done = 0.0
    cdef int k
    if sign < 0.0:
        done = 1.0
    for k in range(e.first, e.first + e.count - 1):
        done += sign * cell.share[k]
        solid = (cell.half_s[k] + cell.half_s[k + 1]) * ease_s
        w.phi[k + 1] = w.phi[k] - w.current * solid - w.thermal * (
            w.salt.lift[k + 1] - w.salt.lift[k]) + (s.last_amps[k] + change * done) * (
            w.half[k] + w.half[k + 1] + solid)
        w.amps[k] = s.last_amps[k] + change * done
    react(cell, e, p, w, q)
    for k in range(e.first, e.first + e.count):
        off += cell.share[k] * w.right[2 * k]
    for k in range(e.first, e.first + e.count):
        w.phi[k] += off


cdef inline void guess_jump(const Cell* cell, State* s, const double* q) noexcept nogil:
    """Guess the potentials after a change of the current, particles being prepared."""
    cdef double change = s.w.current - s.last_current
    memcpy(s.w.c, s.last_c, cell.nodes * sizeof(double))
    memcpy(s.w.phi, s.phi[0], cell.nodes * sizeof(double))
    find_flows(cell, &s.w)
    guess_electrode(cell, &cell.n, &s.n, s, q, s.w.ease_n, change, 1.0)
    guess_electrode(cell, &cell.p, &s.p, s, q, s.w.ease_p, change, -1.0)


cdef inline double guessed_volts(const State* s, double h) noexcept nogil:
    cdef double near = s.h[0], far = s.h[0] + s.h[1]
    return ((h + near) * (h + far) / (near * far) * s.volts[0]
            - h * (h + far) / (near * s.h[1]) * s.volts[1]
            + h * (h + near) / (far * s.h[1]) * s.volts[2])


cdef inline double tau_of(
    const Cell* cell, const Electrode* e, const double* q, double temperature
) noexcept nogil:
    return exp(q[e.tau] - e.act_d * (1.0 / cell.t_ref - 1.0 / temperature))


cdef inline double try_step(
    const Cell* cell, State* s, const double* q, double h, double current, double temperature,
    double share, bint exactly
) noexcept nogil:
    """Return the voltage after a step; nothing is carried on yet. NaN if there is none.

    `share` is that of the new slope in the slope of the particles' speeds.
    """
    cdef double lead = 0.0, keep = 0.0
    cdef double tau_n = tau_of(cell, &cell.n, q, temperature)
    cdef double tau_p = tau_of(cell, &cell.p, q, temperature)
    cdef double volts
    cdef int k
    s.step = make_step(h, s.h[0] if s.since else 0.0)
    if s.since == 1:
        lead = 1.0 / h
    elif s.since > 1:
        lead = share / h
        keep = 1.0 - share
    s.whole_n = -current / (3600.0 * q[cell.n.q])
    s.whole_p = current / (3600.0 * q[cell.p.q])
    set_factors(cell, &s.w, q, current, temperature)
    s.w.salt_step = s.step.ahead
    for k in range(cell.nodes):
        s.w.past_c[k] = s.step.keep * s.last_c[k] - s.step.drop * s.before_c[k]
    if s.n.shells:
        prepare_shells(&s.n, &cell.n, &s.step, tau_n)
    else:
        prepare_modes(&s.n, &cell.sphere, h, tau_n, lead, keep, s.whole_n)
    if s.p.shells:
        prepare_shells(&s.p, &cell.p, &s.step, tau_p)
    else:
        prepare_modes(&s.p, &cell.sphere, h, tau_p, lead, keep, s.whole_p)
    if s.since:
        guess(cell, s, h)
    else:
        guess_jump(cell, s, q)
    if not settle_step(cell, &s.n, &s.p, &s.w, q, exactly):
        return NAN
    volts = read_volts(cell, &s.w, q)
    s.strain = 0.0
    if s.n.shells:
        s.strain = strain_of(&s.n, &s.step, s.w.speed)
    if s.p.shells:
        s.strain = max(s.strain, strain_of(&s.p, &s.step, s.w.speed + cell.p.first))
    return volts if isfinite(volts) else NAN


cdef inline void slope_of_particles(
    const Cell* cell, const Electrode* e, State* s, Particles* p, const double* q, double whole,
    int which, int j, double* past
) noexcept nogil:
    cdef double d_whole = -whole / q[e.q] if which == e.q else 0.0
    if p.shells:
        past_slopes_of_shells(p, &e.line, &s.step, s.w.speed + e.first,
                              tau_of(cell, e, q, s.w.temperature),
                              1.0 if which == e.tau else 0.0, j, past)
    else:
        past_slopes_of_modes(p, s.w.speed + e.first, whole, d_whole, which == e.tau, j, past)


cdef inline void commit_slope_of_particles(
    const Electrode* e, State* s, Particles* p, const double* q, double whole, int which, int j
) noexcept nogil:
    cdef double d_whole = -whole / q[e.q] if which == e.q else 0.0
    if p.shells:
        commit_slopes_of_shells(p, s.d.speed + e.first, j)
    else:
        commit_slopes_of_modes(p, s.w.speed + e.first, s.d.speed + e.first, whole, d_whole,
                               which == e.tau, j)


cdef inline void accept(
    const Cell* cell, State* s, const double* q, double h, double volts, const int* which,
    int count, double* dv
) noexcept nogil:
    """Carry a step on, with derivatives by `count` parameters into `dv`."""
    cdef double past_c[NODES]
    cdef double* here
    cdef double* before
    cdef int j, k, i
    if s.n.shells:
        commit_shells(&s.n, &s.step, s.w.speed)
    if s.p.shells:
        commit_shells(&s.p, &s.step, s.w.speed + cell.p.first)
    for j in range(count):
        here = s.d_c + j * cell.nodes
        before = s.d_c_before + j * cell.nodes
        for k in range(cell.nodes):
            past_c[k] = s.step.keep * here[k] - s.step.drop * before[k]
        slope_of_particles(cell, &cell.n, s, &s.n, q, s.whole_n, which[j], j, s.d.past_n)
        slope_of_particles(cell, &cell.p, s, &s.p, q, s.whole_p, which[j], j, s.d.past_p)
        dv[j] = slope_of_step(cell, &s.n, &s.p, &s.w, &s.d, past_c, q, which[j])
        commit_slope_of_particles(&cell.n, s, &s.n, q, s.whole_n, which[j], j)
        commit_slope_of_particles(&cell.p, s, &s.p, q, s.whole_p, which[j], j)
        for k in range(cell.nodes):
            before[k] = here[k]
            here[k] = s.d.x[2 * k + 1]
    if not s.n.shells:
        commit_modes(&s.n, s.w.speed, s.whole_n)
    if not s.p.shells:
        commit_modes(&s.p, s.w.speed + cell.p.first, s.whole_p)
    for i in range(BEHIND - 1, 0, -1):
        memcpy(s.phi[i], s.phi[i - 1], cell.nodes * sizeof(double))
        memcpy(s.c[i], s.c[i - 1], cell.nodes * sizeof(double))
        s.h[i] = s.h[i - 1]
        s.volts[i] = s.volts[i - 1]
    memcpy(s.phi[0], s.w.phi, cell.nodes * sizeof(double))
    memcpy(s.c[0], s.w.c, cell.nodes * sizeof(double))
    memcpy(s.before_c, s.last_c, cell.nodes * sizeof(double))
    memcpy(s.last_c, s.w.c, cell.nodes * sizeof(double))
    memcpy(s.last_amps, s.w.amps, cell.nodes * sizeof(double))
    s.last_current = s.w.current
    s.h[0] = h
    s.volts[0] = volts
    s.since += 1


cdef inline bint grow_points(Points* p) noexcept nogil:
    """Make room for one more; False without memory."""
    cdef Py_ssize_t room
    cdef double* s
    cdef double* v
    cdef double* dv
    if p.used < p.room:
        return True
    room = 2 * p.room + 64
    s = <double*>realloc(p.s, room * sizeof(double))
    if s != NULL:
        p.s = s
    v = <double*>realloc(p.v, room * sizeof(double))
    if v != NULL:
        p.v = v
    dv = <double*>realloc(p.dv, (room * p.count + 1) * sizeof(double))
    if dv != NULL:
        p.dv = dv
    if s == NULL or v == NULL or dv == NULL:
        return False
    p.room = room
    return True


cdef inline bint keep_step(Plan* plan, double t) noexcept nogil:
    """Write a step's end down; False without memory."""
    cdef double* more
    if plan.used >= plan.room:
        more = <double*>realloc(plan.t, (2 * plan.room + 256) * sizeof(double))
        if more == NULL:
            return False
        plan.t = more
        plan.room = 2 * plan.room + 256
    plan.t[plan.used] = t
    plan.used += 1
    return True


cdef inline int weights_of(
    const Points* p, double s, Py_ssize_t* near, double* w
) noexcept nogil:
    """Set the weights of a cubic through four points about `s`; return how many there are.

    `near` is where the last search ended, and where this one does.
    """
    cdef Py_ssize_t first, i = near[0]
    cdef int a, b, many
    while i < p.used - 1 and p.s[i] < s:
        i += 1
    near[0] = i
    if p.s[i] == s:
        near[0] = i
        w[0] = 1.0
        return 1
    many = <int>min(4, p.used)
    first = min(max(i - 2, 0), p.used - many)
    for a in range(many):
        w[a] = 1.0
        for b in range(many):
            if a != b:
                w[a] *= (s - p.s[first + b]) / (p.s[first + a] - p.s[first + b])
    near[0] = first
    return many
