# What the single-particle kernel knows of a cell, and its voltage. Header only.

from libc.math cimport exp, log, sqrt

from diffusion cimport CELLS, EXPONENTIALS, MOST_P, Line, LineState, Sphere, SphereState
from ocv_tables cimport read_smoothly

# the parameters; times, rates and shares as logarithms
cdef enum:
    Q_N, Q_P, X_0, Y_0, TAU_N, TAU_P, RATE_N, RATE_P, OHM, KAPPA, D_E, HEAT, COOL, PARAMETERS

# columns of `numbers`
cdef enum:
    AREA, J_N, J_P, ACT_J_N, ACT_J_P, POWER_N, POWER_P, ACT_D_N, ACT_D_P, LAYERS, SOLID
    C_0, D_0, ACT_D_E, ACT_KAPPA, SOURCE, NUMBERS

cdef struct Cell:
    const double* numbers       # see the enum above
    const double* u_n           # over stoichiometry, at the reference temperature
    const double* u_p
    const double* j_n
    const double* j_p
    const double* entropy_n
    const double* entropy_p
    Py_ssize_t points
    double step
    const double* kappa         # over the electrolyte's concentration
    const double* chi
    Py_ssize_t e_points
    double e_step
    double t_ref
    Sphere sphere
    Line line_n                 # cells = 0: constant diffusivity
    Line line_p
    Line salt                   # cells = 0: without electrolyte
    const double* source_n      # where flux enters each line
    const double* source_p
    const double* source_e
    const double* share         # of each electrolyte volume in the cell's thickness
    int cells_n                 # electrolyte volumes in the negative and positive electrode
    int cells_p
    bint lumped

cdef struct Particle:
    double mean
    double speed                # of the mean, per second
    double surface
    double tail                 # d surface / d speed beyond the line or the exponentials
    double d_mean[MOST_P]
    double d_speed[MOST_P]
    double d_surface[MOST_P]
    double d_log_tau[MOST_P]
    SphereState sphere
    LineState line

cdef struct State:
    Particle n
    Particle p
    LineState salt
    double temperature
    double since                # the current last changed, in s
    double dt[MOST_P]           # derivatives of the temperature

cdef struct Reading:
    double voltage
    double resting              # open-circuit voltage at the surfaces
    double by_x                 # partial derivatives of the voltage
    double by_y
    double by_t
    double by_rate_n
    double by_rate_p
    double by_kappa
    double by_c[CELLS]
    double ocv_by_x
    double ocv_by_y
    double entropy              # of the cell, V/K
    double entropy_by_x
    double entropy_by_y


cdef inline double reaction(
    const double* c, int cells, double power, double half, double* g, double* by_c, bint slopes
) noexcept nogil:
    """Mean of asinh(half * c^-power); `g` gets minus its derivative by the logarithm of j0."""
    cdef double total = 0.0, product = 1.0, z, root
    cdef int k
    g[0] = 0.0
    for k in range(cells):
        z = half / sqrt(c[k]) if power == 0.5 else half * exp(-power * log(c[k]))
        root = sqrt(1.0 + z * z)
        product *= root + (z if z >= 0.0 else -z)
        if product > 1e200:
            total += log(product)
            product = 1.0
        if slopes:
            g[0] += z / root
            by_c[k] = -power * z / root / (c[k] * cells)
    g[0] /= cells
    total = (total + log(product)) / cells
    return total if half >= 0.0 else -total


cdef inline void keep_off_zero(double* j, double* slope) noexcept nogil:
    """Keep an exchange-current density above 1e-8 A/m2."""
    if not j[0] > 1e-8:
        j[0] = 1e-8
        slope[0] = 0.0


cdef inline Reading read_cell(
    const Cell* cell, const State* s, const double* q, double current_A, bint slopes
) noexcept nogil:
    """Read the voltage at a current, with its partial derivatives."""
    cdef Reading r
    cdef const double* m = cell.numbers
    cdef double T = s.temperature
    cdef double warm = 1.0 / cell.t_ref - 1.0 / T
    cdef double rt_f = 8.314462618 / 96485.33212 * T
    cdef double c[CELLS]
    cdef double j_n, j_p, dj_n, dj_p, du_n, du_p, s_n, s_p, ds_n, ds_p, e_n, e_p, g_n, g_p
    cdef double ohmic, diffusion, chi, chi_slope, kappa, kappa_slope, mean
    cdef double x = s.n.surface, y = s.p.surface
    cdef int k
    r.resting = read_smoothly(cell.u_p, cell.points, 0.0, cell.step, y, &du_p)
    r.resting -= read_smoothly(cell.u_n, cell.points, 0.0, cell.step, x, &du_n)
    s_n = read_smoothly(cell.entropy_n, cell.points, 0.0, cell.step, x, &ds_n)
    s_p = read_smoothly(cell.entropy_p, cell.points, 0.0, cell.step, y, &ds_p)
    r.entropy = s_p - s_n
    r.entropy_by_x = -ds_n
    r.entropy_by_y = ds_p
    r.resting += (T - cell.t_ref) * r.entropy
    r.ocv_by_x = -du_n - (T - cell.t_ref) * ds_n
    r.ocv_by_y = du_p + (T - cell.t_ref) * ds_p
    j_n = read_smoothly(cell.j_n, cell.points, 0.0, cell.step, x, &dj_n)
    j_p = read_smoothly(cell.j_p, cell.points, 0.0, cell.step, y, &dj_p)
    keep_off_zero(&j_n, &dj_n)
    keep_off_zero(&j_p, &dj_p)
    e_n = 0.5 * current_A / (q[Q_N] * m[J_N] * j_n * exp(q[RATE_N] + m[ACT_J_N] * warm))
    e_p = 0.5 * current_A / (q[Q_P] * m[J_P] * j_p * exp(q[RATE_P] + m[ACT_J_P] * warm))
    diffusion = ohmic = r.by_t = 0.0
    if cell.salt.cells == 0:
        c[0] = m[C_0] * 1e-3
        e_n = reaction(c, 1, m[POWER_N], e_n, &g_n, r.by_c, slopes)
        e_p = reaction(c, 1, m[POWER_P], e_p, &g_p, r.by_c, slopes)
    else:
        mean = read_salt(cell, s, c)
        k = cell.salt.cells - cell.cells_p
        e_n = reaction(c, cell.cells_n, m[POWER_N], e_n, &g_n, r.by_c, slopes)
        e_p = reaction(c + k, cell.cells_p, m[POWER_P], e_p, &g_p, r.by_c + k, slopes)
        kappa = read_smoothly(cell.kappa, cell.e_points, 0.0, cell.e_step, mean, &kappa_slope)
        chi = read_smoothly(cell.chi, cell.e_points, 0.0, cell.e_step, mean, &chi_slope)
        ohmic = m[LAYERS] / (kappa * exp(q[KAPPA] + m[ACT_KAPPA] * warm))
        diffusion = mean_log(c + k, cell.cells_p) - mean_log(c, cell.cells_n)
        if slopes:
            finish_salt(cell, c, current_A, rt_f, chi, chi_slope, kappa_slope / kappa,
                        ohmic,     diffusion, &r)
        r.by_t += chi * rt_f / T * diffusion - current_A * ohmic * m[ACT_KAPPA] / (T * T)
        diffusion *= chi * rt_f
    r.voltage = (r.resting + 2.0 * rt_f * (e_n + e_p) + diffusion
                 + current_A * (ohmic + q[OHM] + (m[SOLID] if cell.salt.cells else 0.0)))
    r.by_rate_n = -2.0 * rt_f * g_n
    r.by_rate_p = -2.0 * rt_f * g_p
    r.by_x = r.ocv_by_x + r.by_rate_n * dj_n / j_n
    r.by_y = r.ocv_by_y + r.by_rate_p * dj_p / j_p
    r.by_kappa = -current_A * ohmic
    r.by_t += (r.entropy + 2.0 * rt_f / T * (e_n + e_p)
               + (r.by_rate_n * m[ACT_J_N] + r.by_rate_p * m[ACT_J_P]) / (T * T))
    return r


cdef inline double read_salt(const Cell* cell, const State* s, double* c) noexcept nogil:
    """Take the salt's concentrations in mol/l, kept off zero; return their mean in mol/m3."""
    cdef double mean = 0.0
    cdef int k
    for k in range(cell.salt.cells):
        c[k] = 1e-3 * s.salt.u[k]
        if not c[k] > 1e-3:
            c[k] = 1e-3
        mean += cell.share[k] * c[k]
    return 1e3 * mean


cdef inline double mean_log(const double* c, int cells) noexcept nogil:
    """Mean logarithm over an electrode; the product of at most 48 values stays a double."""
    cdef double product = 1.0
    cdef int k
    for k in range(cells):
        product *= c[k]
    return log(product) / cells


cdef inline void finish_salt(
    const Cell* cell, const double* c, double current_A, double rt_f, double chi,
    double chi_slope, double kappa_log_slope, double ohmic, double diffusion, Reading* r
) noexcept nogil:
    """Complete the derivatives by each concentration, in V per mol/m3."""
    cdef int k, first = cell.salt.cells - cell.cells_p
    cdef double by_mean = (rt_f * chi_slope * diffusion
                           - current_A * ohmic * kappa_log_slope)
    for k in range(cell.salt.cells):
        if k < cell.cells_n:
            r.by_c[k] = 2.0 * rt_f * r.by_c[k] - chi * rt_f / (c[k] * cell.cells_n)
        elif k >= first:
            r.by_c[k] = 2.0 * rt_f * r.by_c[k] + chi * rt_f / (c[k] * cell.cells_p)
        else:
            r.by_c[k] = 0.0
        r.by_c[k] = 1e-3 * r.by_c[k] + cell.share[k] * by_mean
