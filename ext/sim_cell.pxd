# A single-particle cell in a tester's hands. Header only.
#
# Particles, electrolyte, heat and voltage are those that the fits use (`spm_march.pxd`). Since
# particles and electrolyte are linear in the current of a step, they go forward with two currents
# where one is sought, and any other is found between them.

from libc.math cimport exp, expm1
from libc.string cimport memcpy

from diffusion cimport CELLS, EXPONENTIALS, Line, Step, make_step
from salt_line cimport VOLUMES
from spm_cell cimport COOL, HEAT, Q_N, Q_P, Cell, Particle, Reading, State
from spm_march cimport look, move_lines, move_spheres, read_flat, set_warmth
from spm_run cimport Run, take_seen
from tester cimport Course, Driven

# what the cell has become; a row of doubles for Python
cdef struct Kept:
    double mean_n               # stoichiometries
    double mean_p
    double temperature
    Course course
    double spheres_n[EXPONENTIALS]
    double spheres_p[EXPONENTIALS]
    double shells_n[2 * CELLS]  # now and one step ago
    double shells_p[2 * CELLS]
    double salt[3 * VOLUMES]    # now, one and two steps ago
    double work_n[3 * EXPONENTIALS + 2]  # of the last step; need not be carried over
    double work_p[3 * EXPONENTIALS + 2]

# what the current moves
cdef struct Moved:
    double mean_n
    double mean_p
    double sum_n
    double sum_p
    double spheres_n[EXPONENTIALS]
    double spheres_p[EXPONENTIALS]
    double shells_n[CELLS]
    double shells_p[CELLS]
    double salt[VOLUMES]

cdef struct Spm:
    const Run* run
    const double* q
    State s
    Reading r                   # at the end of the step that was made
    Kept mark                   # where it began
    Moved base                  # the state after the step for a current of zero, and by how much
    Moved slope                 # each ampere changes it
    double heat_J_K
    double cool_W_K


cdef inline void take_particle(Particle* p, const double* spheres, const double* shells,
                               const double* work) noexcept nogil:
    memcpy(p.sphere.a, spheres, EXPONENTIALS * sizeof(double))
    memcpy(p.line.u, shells, CELLS * sizeof(double))
    memcpy(p.line.before, shells + CELLS, CELLS * sizeof(double))
    memcpy(p.sphere.fade, work, EXPONENTIALS * sizeof(double))
    memcpy(p.sphere.gain, work + EXPONENTIALS, EXPONENTIALS * sizeof(double))
    memcpy(p.sphere.tilt, work + 2 * EXPONENTIALS, EXPONENTIALS * sizeof(double))
    p.sphere.last_h = work[3 * EXPONENTIALS]
    p.sphere.last_tau = work[3 * EXPONENTIALS + 1]


cdef inline void leave_particle(const Particle* p, double* spheres, double* shells,
                                double* work) noexcept nogil:
    memcpy(spheres, p.sphere.a, EXPONENTIALS * sizeof(double))
    memcpy(shells, p.line.u, CELLS * sizeof(double))
    memcpy(shells + CELLS, p.line.before, CELLS * sizeof(double))
    memcpy(work, p.sphere.fade, EXPONENTIALS * sizeof(double))
    memcpy(work + EXPONENTIALS, p.sphere.gain, EXPONENTIALS * sizeof(double))
    memcpy(work + 2 * EXPONENTIALS, p.sphere.tilt, EXPONENTIALS * sizeof(double))
    work[3 * EXPONENTIALS] = p.sphere.last_h
    work[3 * EXPONENTIALS + 1] = p.sphere.last_tau


cdef inline void take_up(
    const Run* run, const double* q, const Kept* kept, Spm* c, Driven* d
) noexcept nogil:
    """Take a cell up as it was left."""
    cdef State* s = &c.s
    c.run, c.q = run, q
    s.n.mean, s.p.mean, s.temperature = kept.mean_n, kept.mean_p, kept.temperature
    take_particle(&s.n, kept.spheres_n, kept.shells_n, kept.work_n)
    take_particle(&s.p, kept.spheres_p, kept.shells_p, kept.work_p)
    memcpy(s.salt.u, kept.salt, VOLUMES * sizeof(double))
    memcpy(s.salt.before, kept.salt + VOLUMES, VOLUMES * sizeof(double))
    memcpy(s.salt.earlier, kept.salt + 2 * VOLUMES, VOLUMES * sizeof(double))
    if run.cell.salt.cells == 0:
        read_flat(run, s)
    s.warmed = -1.0
    set_warmth(run, s, q)
    c.heat_J_K, c.cool_W_K = exp(q[HEAT]), exp(q[COOL])
    d.cell = c
    d.capacity_Ah = q[Q_P]
    d.is_straight = True
    d.pace.first_s, d.pace.growth = run.first_s, run.growth
    d.pace.most_s, d.pace.share = run.most_s, run.share
    d.mark, d.undo, d.carry, d.prepare = mark, undo, carry, prepare
    d.look, d.keep = look_at, keep
    d.course = kept.course


cdef inline void leave(const Spm* c, const Driven* d, Kept* kept) noexcept nogil:
    """Keep all that the cell's future depends on."""
    cdef const State* s = &c.s
    kept.mean_n, kept.mean_p, kept.temperature = s.n.mean, s.p.mean, s.temperature
    kept.course = d.course
    leave_particle(&s.n, kept.spheres_n, kept.shells_n, kept.work_n)
    leave_particle(&s.p, kept.spheres_p, kept.shells_p, kept.work_p)
    memcpy(kept.salt, s.salt.u, VOLUMES * sizeof(double))
    memcpy(kept.salt + VOLUMES, s.salt.before, VOLUMES * sizeof(double))
    memcpy(kept.salt + 2 * VOLUMES, s.salt.earlier, VOLUMES * sizeof(double))


cdef inline void mark(void* handed) noexcept nogil:
    """Remember where a step begins."""
    cdef Spm* c = <Spm*>handed
    cdef const Cell* cell = &c.run.cell
    cdef const State* s = &c.s
    cdef int n = cell.line_n.cells, p = cell.line_p.cells, salt = cell.salt.cells
    c.mark.mean_n, c.mark.mean_p = s.n.mean, s.p.mean
    memcpy(c.mark.spheres_n, s.n.sphere.a, cell.sphere.count * sizeof(double))
    memcpy(c.mark.spheres_p, s.p.sphere.a, cell.sphere.count * sizeof(double))
    memcpy(c.mark.shells_n, s.n.line.u, n * sizeof(double))
    memcpy(c.mark.shells_n + CELLS, s.n.line.before, n * sizeof(double))
    memcpy(c.mark.shells_p, s.p.line.u, p * sizeof(double))
    memcpy(c.mark.shells_p + CELLS, s.p.line.before, p * sizeof(double))
    memcpy(c.mark.salt, s.salt.u, salt * sizeof(double))
    memcpy(c.mark.salt + VOLUMES, s.salt.before, salt * sizeof(double))
    memcpy(c.mark.salt + 2 * VOLUMES, s.salt.earlier, salt * sizeof(double))


cdef inline void undo(void* handed) noexcept nogil:
    """Go back to where the step began."""
    cdef Spm* c = <Spm*>handed
    cdef const Cell* cell = &c.run.cell
    cdef State* s = &c.s
    cdef int n = cell.line_n.cells, p = cell.line_p.cells, salt = cell.salt.cells
    s.n.mean, s.p.mean = c.mark.mean_n, c.mark.mean_p
    memcpy(s.n.sphere.a, c.mark.spheres_n, cell.sphere.count * sizeof(double))
    memcpy(s.p.sphere.a, c.mark.spheres_p, cell.sphere.count * sizeof(double))
    memcpy(s.n.line.u, c.mark.shells_n, n * sizeof(double))
    memcpy(s.n.line.before, c.mark.shells_n + CELLS, n * sizeof(double))
    memcpy(s.p.line.u, c.mark.shells_p, p * sizeof(double))
    memcpy(s.p.line.before, c.mark.shells_p + CELLS, p * sizeof(double))
    memcpy(s.salt.u, c.mark.salt, salt * sizeof(double))
    memcpy(s.salt.before, c.mark.salt + VOLUMES, salt * sizeof(double))
    memcpy(s.salt.earlier, c.mark.salt + 2 * VOLUMES, salt * sizeof(double))


cdef inline void keep_lithium(const Line* line, Particle* p) noexcept nogil:
    """Let the shells hold what the mean says: the current's ends are not its mean."""
    cdef double lack = p.mean
    cdef int k
    for k in range(line.cells):
        lack -= 3.0 * line.volume[k] * p.line.u[k]
    for k in range(line.cells):
        p.line.u[k] += lack


cdef inline void go(
    Spm* c, const Course* course, double h, double amps, double rise_A
) noexcept nogil:
    """Advance by a step at whose end `amps` flow, that much more than at its beginning."""
    cdef const Run* run = c.run
    cdef const double* q = c.q
    cdef State* s = &c.s
    cdef double moved_Ah = h * (amps - 0.5 * rise_A) / 3600.0
    cdef Step step
    move_spheres(run, s, q, h, amps - 0.5 * rise_A, rise_A, False)
    s.n.mean += moved_Ah / q[Q_N]
    s.p.mean -= moved_Ah / q[Q_P]
    if run.has_lines:
        s.last_h, s.earlier_h = course.last_h, course.earlier_h
        step = make_step(h, s.last_h)
        move_lines(run, s, q, &step, amps, False)
        if run.cell.line_n.cells > 0:
            keep_lithium(&run.cell.line_n, &s.n)
        if run.cell.line_p.cells > 0:
            keep_lithium(&run.cell.line_p, &s.p)


cdef inline double read_at(Spm* c, double amps) noexcept nogil:
    take_seen(c.run, &c.s, False)
    c.r = look(c.run, &c.s, c.q, amps, False, NULL, NULL)
    return c.r.voltage


cdef inline void note(const Run* run, const State* s, Moved* to) noexcept nogil:
    cdef const Cell* cell = &run.cell
    to.mean_n, to.mean_p, to.sum_n, to.sum_p = s.n.mean, s.p.mean, s.n.sum, s.p.sum
    memcpy(to.spheres_n, s.n.sphere.a, cell.sphere.count * sizeof(double))
    memcpy(to.spheres_p, s.p.sphere.a, cell.sphere.count * sizeof(double))
    memcpy(to.shells_n, s.n.line.u, cell.line_n.cells * sizeof(double))
    memcpy(to.shells_p, s.p.line.u, cell.line_p.cells * sizeof(double))
    memcpy(to.salt, s.salt.u, cell.salt.cells * sizeof(double))


cdef inline void line_up(
    int count, double* base, double* slope, double a, double by
) noexcept nogil:
    """Turn values at `a` and `a` + 1 / `by` into those at zero and their slopes."""
    cdef int k
    for k in range(count):
        slope[k] = (slope[k] - base[k]) * by
        base[k] -= a * slope[k]


cdef inline void lay(
    int count, const double* base, const double* slope, double amps, double* to
) noexcept nogil:
    cdef int k
    for k in range(count):
        to[k] = base[k] + amps * slope[k]


cdef inline void prepare(void* handed, const Course* course, double h) noexcept nogil:
    """Find how the state after a step depends on the current at its end."""
    cdef Spm* c = <Spm*>handed
    cdef const Cell* cell = &c.run.cell
    cdef double a = course.last_A, each = 0.1 * c.q[Q_P], by = 1.0 / each
    go(c, course, h, a, 0.0)
    note(c.run, &c.s, &c.base)
    undo(c)
    go(c, course, h, a + each, each if course.last_h > 0.0 else 0.0)
    note(c.run, &c.s, &c.slope)
    line_up(4, &c.base.mean_n, &c.slope.mean_n, a, by)
    line_up(cell.sphere.count, c.base.spheres_n, c.slope.spheres_n, a, by)
    line_up(cell.sphere.count, c.base.spheres_p, c.slope.spheres_p, a, by)
    line_up(cell.line_n.cells, c.base.shells_n, c.slope.shells_n, a, by)
    line_up(cell.line_p.cells, c.base.shells_p, c.slope.shells_p, a, by)
    line_up(cell.salt.cells, c.base.salt, c.slope.salt, a, by)


cdef inline double look_at(void* handed, double amps) noexcept nogil:
    """Let the state be that of a current, after `prepare`."""
    cdef Spm* c = <Spm*>handed
    cdef const Cell* cell = &c.run.cell
    cdef State* s = &c.s
    s.n.mean = c.base.mean_n + amps * c.slope.mean_n
    s.p.mean = c.base.mean_p + amps * c.slope.mean_p
    s.n.sum = c.base.sum_n + amps * c.slope.sum_n
    s.p.sum = c.base.sum_p + amps * c.slope.sum_p
    s.n.speed = amps / (3600.0 * c.q[Q_N])
    s.p.speed = -amps / (3600.0 * c.q[Q_P])
    lay(cell.sphere.count, c.base.spheres_n, c.slope.spheres_n, amps, s.n.sphere.a)
    lay(cell.sphere.count, c.base.spheres_p, c.slope.spheres_p, amps, s.p.sphere.a)
    lay(cell.line_n.cells, c.base.shells_n, c.slope.shells_n, amps, s.n.line.u)
    lay(cell.line_p.cells, c.base.shells_p, c.slope.shells_p, amps, s.p.line.u)
    lay(cell.salt.cells, c.base.salt, c.slope.salt, amps, s.salt.u)
    return read_at(c, amps)


cdef inline double carry(void* handed, const Course* course, double h, double amps) noexcept nogil:
    """Make a step at a known current."""
    cdef Spm* c = <Spm*>handed
    go(c, course, h, amps, 0.0)
    return read_at(c, amps)


cdef inline void keep(void* handed, double h, double amps, double ambient_K) noexcept nogil:
    """Advance the lumped temperature: what is dissipated, less what the air takes."""
    cdef Spm* c = <Spm*>handed
    cdef double T = c.s.temperature, a, phi, power_W
    if not c.run.cell.lumped:
        c.s.temperature = ambient_K
    else:
        a = h * c.cool_W_K / c.heat_J_K
        phi = -expm1(-a) / a if a > 1e-12 else 1.0
        power_W = amps * (c.r.voltage - c.r.resting + T * c.r.entropy)
        c.s.temperature = T + h / c.heat_J_K * phi * (power_W - c.cool_W_K * (T - ambient_K))
    set_warmth(c.run, &c.s, c.q)
