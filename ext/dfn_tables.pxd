# A cell's arrays, checked in Python, as the kernels of the full model read them. Header only.

from dfn_cell cimport (
    ACT_D_E, ACT_D_N, ACT_D_P, ACT_J_N, ACT_J_P, ACT_KAPPA, C_0, CARRIED, J_N, J_P, POWER_N,
    POWER_P, Q_N, Q_P, RATE_N, RATE_P, SIGMA_N, SIGMA_P, TAU_N, TAU_P, Cell, Electrode,
)


cdef inline void set_electrode(
    Electrode* e, int side, int first, int count, const double[::1] numbers,
    const double[:, :, ::1] curves, const double[:, ::1] entropy, const double[:, ::1] line,
    const double[:, :, ::1] diffusivity
):
    """Set the electrode on a side; its parameters and numbers follow the other's in pairs."""
    e.first = first
    e.count = count
    e.curves = &curves[side, 0, 0]
    e.entropy = &entropy[side, 0]
    e.power = numbers[POWER_N + side]
    e.current = numbers[J_N + side]
    e.act_j = numbers[ACT_J_N + side]
    e.act_d = numbers[ACT_D_N + side]
    e.q = Q_N + side
    e.tau = TAU_N + side
    e.rate = RATE_N + side
    e.sigma = SIGMA_N + side
    e.line.cells = 0
    if line.shape[1] > 1:
        e.line.cells = line.shape[1]
        e.line.volume = &line[0, 0]
        e.line.couple = &line[1, 0]
        e.line.table = &diffusivity[0, side, 0]
        e.whole = &diffusivity[1, side, 0]
        e.line.points = diffusivity.shape[2]
        e.line.table_step = 1.0 / (diffusivity.shape[2] - 1)


cdef inline void set_cell(
    Cell* cell, const double[::1] numbers, const double[:, :, ::1] curves,
    const double[:, ::1] entropy, double t_ref, const double[:, :, ::1] salt, double root_0,
    double root_step, const double[:, ::1] nodes, int count_n, int count_p,
    const double[:, ::1] sphere, double tail, const double[:, ::1] line_n,
    const double[:, ::1] line_p, const double[:, :, ::1] diffusivity
):
    """Let a cell read arrays, which must outlive it."""
    cell.nodes = nodes.shape[1]
    cell.share = &nodes[0, 0]
    cell.hold = &nodes[1, 0]
    cell.half_e = &nodes[2, 0]
    cell.half_s = &nodes[3, 0]
    cell.points = curves.shape[1]
    cell.step = 1.0 / (curves.shape[1] - 1)
    cell.salt = &salt[0, 0, 0]
    cell.pieces = salt.shape[0]
    cell.root_0 = root_0
    cell.root_step = root_step
    cell.act_d_e = numbers[ACT_D_E]
    cell.act_kappa = numbers[ACT_KAPPA]
    cell.c_0 = numbers[C_0]
    cell.carried = numbers[CARRIED]
    cell.t_ref = t_ref
    cell.sphere.count = sphere.shape[1]
    cell.sphere.rate = &sphere[0, 0]
    cell.sphere.weight = &sphere[1, 0]
    cell.sphere.tail = tail
    set_electrode(&cell.n, 0, 0, count_n, numbers, curves, entropy, line_n, diffusivity)
    set_electrode(&cell.p, 1, cell.nodes - count_p, count_p, numbers, curves, entropy,
                  line_p, diffusivity)
