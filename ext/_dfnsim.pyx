# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""A simulated cell of the full model under a protocol's steps. No checks here.

The model is that of `_dfn.pyx`, with lumped heat; `dfn_sim.pxd` says how a tester drives it. All
currents are positive on charge.
"""

from libc.math cimport isfinite

from dfn_cell cimport X_0, Y_0, Cell
from dfn_path cimport State, drop_state, make_state, relax
from dfn_sim cimport Dfn, Head, block_of, leave, take_up
from dfn_tables cimport set_cell
from tester cimport Driven, Order, interval


cdef class Model:
    """A kind of cell: tables, as the kernel reads them; keeps the arrays alive."""

    cdef Cell cell
    cdef object arrays
    cdef double first_s, growth, share

    def __init__(
        self, const double[::1] numbers, const double[:, :, ::1] curves,
        const double[:, ::1] entropy, double t_ref, const double[:, :, ::1] salt, double root_0,
        double root_step, const double[:, ::1] nodes, int count_n, int count_p,
        const double[:, ::1] sphere, double tail, const double[:, ::1] line_n,
        const double[:, ::1] line_p, const double[:, :, ::1] diffusivity, double first_s,
        double growth, double tolerance_V, double share
    ):
        self.arrays = (numbers, curves, entropy, salt, nodes, sphere, line_n, line_p, diffusivity)
        self.first_s, self.growth, self.share = first_s, growth, share
        set_cell(&self.cell, numbers, curves, entropy, t_ref, salt, root_0, root_step, nodes,
                 count_n, count_p, sphere, tail, line_n, line_p, diffusivity)

    @property
    def columns(self):
        """How many doubles a state has at its beginning, in its profiles and in all."""
        cdef Py_ssize_t head = sizeof(Head) // sizeof(double), block = block_of(&self.cell)
        return head, block, head + block + (sizeof(State) + 7) // 8


cdef void begin(
    Model model, const double* q, Dfn* c, bint lumped, double heat_J_K, double cool_W_K
):
    c.cell, c.q, c.share = &model.cell, q, model.share
    c.lumped, c.heat_J_K, c.cool_W_K = lumped, heat_J_K, cool_W_K
    c.s = make_state(&model.cell, 0)
    if c.s == NULL:
        raise MemoryError


def settle(Model model, const double[::1] q, double[::1] state, double kelvin):
    """Fill a state with equilibrium at the parameters' stoichiometries."""
    cdef Dfn c
    cdef Driven d
    cdef int i
    begin(model, &q[0], &c, False, 1.0, 1.0)
    state[:] = 0.0
    relax(&model.cell, c.s, &q[0], 0.0, NULL, 0, X_0, Y_0)
    for i in range(sizeof(d.course) // sizeof(double)):
        (<double*>&d.course)[i] = 0.0
    c.temperature = kelvin
    leave(&c, &d, &state[0])
    drop_state(c.s)


def follow(
    Model model, const double[::1] q, double[::1] state, bint lumped, double heat_J_K,
    double cool_W_K, int mode, const double[::1] value, double low_V, double high_V,
    double most_A, double length_s, double ambient_K, double[:, ::1] out
):
    """Drive the cell as `_cellsim.follow` does; return how many intervals it could be driven."""
    cdef Dfn c
    cdef Driven d
    cdef Order order
    cdef Py_ssize_t i, done = 0
    begin(model, &q[0], &c, lumped, heat_J_K, cool_W_K)
    order.mode, order.low_V, order.high_V, order.most_A = mode, low_V, high_V, most_A
    order.ambient_K = ambient_K
    with nogil:
        take_up(&c, &state[0], &d)
        d.pace.first_s, d.pace.growth = model.first_s, model.growth
        d.pace.most_s, d.pace.share = 5.0, 0.02
        for i in range(value.shape[0]):
            order.value = value[i]
            out[i, 1] = interval(&d, &order, length_s)
            out[i, 0] = d.mean_A
            out[i, 2] = c.temperature
            if not isfinite(out[i, 1]):
                break
            done += 1
        leave(&c, &d, &state[0])
        drop_state(c.s)
    return done
