# A cell of the full model in a tester's hands. Header only.
#
# A step is tried at as many currents as it takes and made once. Its heat is what the reactions'
# open-circuit potentials give and the terminals do not, and what the entropy takes.

from libc.math cimport expm1, isfinite
from libc.string cimport memcpy

from dfn_cell cimport Cell, Electrode, read_pair
from dfn_path cimport State, accept, lay_out, size_of, try_step
from dfn_particles cimport Particles
from ocv_tables cimport read_smoothly
from tester cimport Course, Driven

# the beginning of a state's row; the kernel's own state and its block follow
cdef struct Head:
    double mean_n               # stoichiometries
    double mean_p
    double temperature
    Course course

cdef struct Dfn:
    const Cell* cell
    const double* q
    State* s
    double temperature
    double volts                # after the step that was tried
    double h
    double share
    double heat_J_K
    double cool_W_K
    bint lumped


cdef inline Py_ssize_t block_of(const Cell* cell) noexcept nogil:
    cdef int modes = cell.sphere.count
    return size_of(&cell.n, modes, 0) + size_of(&cell.p, modes, 0)


cdef inline double* lay(const Cell* cell, State* s) noexcept nogil:
    """Let a state that was copied use its own block."""
    cdef double* rest = s.block
    lay_out(&cell.n, cell.sphere.count, 0, &s.n, &rest)
    lay_out(&cell.p, cell.sphere.count, 0, &s.p, &rest)
    s.d_c = s.d_c_before = rest
    return rest


cdef inline void take_up(Dfn* c, const double* row, Driven* d) noexcept nogil:
    """Take a cell up as it was left; its state is made already."""
    cdef const Head* head = <const Head*>row
    cdef double* block = c.s.block
    row += sizeof(Head) // sizeof(double)
    memcpy(block, row, block_of(c.cell) * sizeof(double))
    memcpy(c.s, row + block_of(c.cell), sizeof(State))
    c.s.block = block
    lay(c.cell, c.s)
    c.temperature = head.temperature
    d.cell = c
    d.capacity_Ah = c.q[c.cell.p.q]
    d.is_straight = False
    d.mark, d.undo, d.carry, d.prepare = mark, mark, carry, prepare
    d.look, d.keep = look, keep
    d.course = head.course


cdef inline double mean_of(const Particles* p) noexcept nogil:
    cdef double total = 0.0
    cdef int k
    for k in range(p.count):
        total += p.mean[k]
    return total / p.count


cdef inline void leave(const Dfn* c, const Driven* d, double* row) noexcept nogil:
    """Keep all that the cell's future depends on."""
    cdef Head* head = <Head*>row
    head.mean_n, head.mean_p = mean_of(&c.s.n), mean_of(&c.s.p)
    head.temperature = c.temperature
    head.course = d.course
    row += sizeof(Head) // sizeof(double)
    memcpy(row, c.s.block, block_of(c.cell) * sizeof(double))
    memcpy(row + block_of(c.cell), c.s, sizeof(State))


cdef inline void mark(void* handed) noexcept nogil:
    """Nothing is carried on before a step stands."""
    pass


cdef inline void prepare(void* handed, const Course* course, double h) noexcept nogil:
    cdef Dfn* c = <Dfn*>handed
    c.h = h
    if not course.last_h > 0.0:
        c.s.since = 0


cdef inline double look(void* handed, double amps) noexcept nogil:
    """Try a step at a current; where Newton does not find across its jump, after 1 ms at rest."""
    cdef Dfn* c = <Dfn*>handed
    cdef double volts
    c.volts = try_step(c.cell, c.s, c.q, c.h, -amps, c.temperature, c.share, False)
    if not isfinite(c.volts) and c.s.since == 0 and c.s.last_current != 0.0:
        volts = try_step(c.cell, c.s, c.q, 1e-3, 0.0, c.temperature, c.share, False)
        if isfinite(volts):
            accept(c.cell, c.s, c.q, 1e-3, volts, NULL, 0, NULL)
            c.s.since = 0
            c.volts = try_step(c.cell, c.s, c.q, c.h, -amps, c.temperature, c.share, False)
    return c.volts


cdef inline double carry(void* handed, const Course* course, double h, double amps) noexcept nogil:
    prepare(handed, course, h)
    return look(handed, amps)


cdef inline double warmth_of(
    const Cell* cell, const Electrode* e, const Particles* p, State* s
) noexcept nogil:
    """Return what the reactions draw from an electrode's potentials, less what entropy takes."""
    cdef double u, du, j, dj, entropy, slope, x, reaction, total = 0.0
    cdef double T = s.w.temperature
    cdef int i, k
    for i in range(e.count):
        k = e.first + i
        x = p.past[i] + p.gain[i] * s.w.speed[k]
        read_pair(e.curves, cell.points, cell.step, x, &u, &du, &j, &dj)
        entropy = read_smoothly(e.entropy, cell.points, 0.0, cell.step, x, &slope)
        reaction = s.w.amps[k] - (s.w.amps[k - 1] if k > 0 else 0.0)
        total -= reaction * (u + (T - cell.t_ref) * entropy - T * entropy)
    return total


cdef inline void keep(void* handed, double h, double amps, double ambient_K) noexcept nogil:
    """Let the step stand, and the cell warm up or cool down."""
    cdef Dfn* c = <Dfn*>handed
    cdef double power_W, a, phi
    if not c.lumped:
        c.temperature = ambient_K
    else:
        power_W = amps * c.volts + warmth_of(c.cell, &c.cell.n, &c.s.n, c.s)
        power_W += warmth_of(c.cell, &c.cell.p, &c.s.p, c.s)
        a = h * c.cool_W_K / c.heat_J_K
        phi = -expm1(-a) / a if a > 1e-12 else 1.0
        c.temperature += h / c.heat_J_K * phi * (
            power_W - c.cool_W_K * (c.temperature - ambient_K))
    accept(c.cell, c.s, c.q, h, c.volts, NULL, 0, NULL)
