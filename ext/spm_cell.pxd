# What the single-particle kernel knows of a cell, and its voltage. Header only.

from libc.math cimport exp, log, sqrt

from diffusion cimport MOST_P, Line, LineState, Sphere, SphereState
from ocv_tables cimport read_smoothly
from salt_line cimport Salt, SaltState

# the parameters; times, rates and shares as logarithms. The shifts add to the charge of parts
cdef enum:
    Q_N, Q_P, X_0, Y_0, TAU_N, TAU_P, RATE_N, RATE_P, OHM, KAPPA, D_E, HEAT, COOL
    SHIFT_1, SHIFT_2, SHIFT_3, SHIFT_4, SHIFT_5, SHIFT_6, SHIFT_7, PARAMETERS

# columns of `numbers`
cdef enum:
    AREA, J_N, J_P, ACT_J_N, ACT_J_P, POWER_N, POWER_P, ACT_D_N, ACT_D_P, LAYERS, SOLID
    C_0, D_0, ACT_D_E, ACT_KAPPA, SOURCE, NUMBERS

# what the voltage takes from the electrolyte, with concentrations in mol/l: mean logarithm and
# its central moments in the negative and the positive electrode, mean over the cell; and the
# outermost shells of particles whose diffusivity varies
cdef enum:
    LOG_N, VAR_N, SKEW_N, TAIL_N, LOG_P, VAR_P, SKEW_P, TAIL_P, MEAN_C, LAST_N, LAST_P, SEEN
    SALT = LAST_N

cdef struct Cell:
    const double* numbers       # see the enum above
    const double* solid_n       # potential, exchange current, entropy side by side, over
    const double* solid_p       # stoichiometry, at the reference temperature
    Py_ssize_t points
    const double* kappa         # over the electrolyte's concentration
    const double* chi
    Py_ssize_t e_points
    double e_step
    double t_ref
    Sphere sphere
    Line line_n                 # cells = 0: constant diffusivity
    Line line_p
    Salt salt                   # cells = 0: without electrolyte
    const double* source_n      # where flux enters each line
    const double* source_p
    const double* share         # of each electrolyte volume in the mean over the cell
    int cells_n                 # electrolyte volumes in the negative and positive electrode
    int cells_p
    bint lumped

cdef struct Particle:
    double mean
    double speed                # of the mean, per second
    double tau
    double rate                 # factor on the exchange current
    double sum                  # of the exponentials
    double surface
    double d_mean[MOST_P]
    double d_surface[MOST_P]
    SphereState sphere
    LineState line

cdef struct State:
    Particle n
    Particle p
    SaltState salt
    double temperature
    double warmed               # temperature that the factors hold for
    double salt_speed
    double layers_ohm           # resistance of the electrolyte, times its conductivity
    double since                # the current last changed, in s
    double last_h               # the last two steps of the lines, and a limit to the next
    double earlier_h
    double most_h
    double now_s                # how far the lines have advanced
    int nodes                   # of the last steps, for interpolation
    double node_s[3]
    double node[3][SEEN]
    double d_node[3][MOST_P][SEEN]
    double seen[SEEN]
    double d_seen[MOST_P][SEEN]
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
    double by_seen[SALT]
    double ocv_by_x
    double ocv_by_y
    double entropy              # of the cell, V/K
    double entropy_by_x
    double entropy_by_y

cdef struct Solid:
    double u
    double j
    double s
    double du
    double dj
    double ds


cdef inline Solid read_solid(const double* table, Py_ssize_t points, double x) noexcept nogil:
    """Read the three tables of an electrode: cubic Hermite inside, straight outside."""
    cdef Solid found
    cdef double size = points - 1.0
    cdef double position = x * size
    cdef double t, a, b, left, right, rise
    cdef double value[3]
    cdef double slope[3]
    cdef Py_ssize_t i
    cdef int k
    cdef const double* at
    if position <= 0.0 or not position < size:
        i = 0 if position <= 0.0 else points - 2
        at = table + 3 * i
        t = position - i if position == position else 0.0
        for k in range(3):
            rise = at[3 + k] - at[k]
            value[k] = at[k] + t * rise
            slope[k] = rise
    else:
        i = <Py_ssize_t>position
        t = position - i
        at = table + 3 * i
        for k in range(3):
            a = at[k]
            b = at[3 + k]
            rise = b - a
            left = 0.5 * (b - at[k - 3]) if i > 0 else rise
            right = 0.5 * (at[6 + k] - a) if i < points - 2 else rise
            b = 3.0 * rise - 2.0 * left - right
            right = left + right - 2.0 * rise
            value[k] = a + t * (left + t * (b + t * right))
            slope[k] = left + t * (2.0 * b + t * 3.0 * right)
    found.u, found.j, found.s = value[0], value[1], value[2]
    found.du, found.dj, found.ds = size * slope[0], size * slope[1], size * slope[2]
    if not found.j > 1e-8:  # A/m2: an exchange current is kept off zero
        found.j = 1e-8
        found.dj = 0.0
    return found


cdef inline double reaction(
    const double* seen, double power, double half, double* gain, double* by_seen
) noexcept nogil:
    """Mean of asinh(half * c^-power) over an electrode, from the moments of log c.

    `gain` gets the derivative by the logarithm of `half`, `by_seen` those by the moments. The
    series ends after the fourth moment; that the next derivative is below 1 for any `half`
    keeps what is left out small even where the electrolyte is nearly empty at one end.
    """
    cdef double z = half * exp(-power * seen[0])
    cdef double root = sqrt(1.0 + z * z)
    cdef double theta = log(root + z) if z >= 0.0 else -log(root - z)
    cdef double tanh = z / root
    cdef double q = tanh * tanh
    cdef double second = tanh * (1.0 - q)
    cdef double third = second * (1.0 - 3.0 * q)
    cdef double fourth = second * (1.0 + q * (15.0 * q - 12.0))
    cdef double fifth = second * (1.0 + q * (-39.0 + q * (135.0 - 105.0 * q)))
    cdef double two = 0.5 * power * power
    cdef double three = -power * two / 3.0
    cdef double four = -0.25 * power * three
    gain[0] = tanh + two * third * seen[1] + three * fourth * seen[2] + four * fifth * seen[3]
    by_seen[0] = -power * gain[0]
    by_seen[1] = two * second
    by_seen[2] = three * third
    by_seen[3] = four * fourth
    return theta + two * second * seen[1] + three * third * seen[2] + four * fourth * seen[3]


cdef inline Reading read_cell(
    const Cell* cell, const State* s, const double* q, double current_A
) noexcept nogil:
    """Read the voltage at a current, with its partial derivatives."""
    cdef Reading r
    cdef const double* m = cell.numbers
    cdef const double* seen = s.seen
    cdef double T = s.temperature
    cdef double rt_f = 8.314462618 / 96485.33212 * T
    cdef double e_n, e_p, g_n, g_p, ohmic, diffusion, chi, chi_slope, kappa, kappa_slope, logs
    cdef Solid n = read_solid(cell.solid_n, cell.points, s.n.surface)
    cdef Solid p = read_solid(cell.solid_p, cell.points, s.p.surface)
    cdef int k
    r.entropy = p.s - n.s
    r.entropy_by_x = -n.ds
    r.entropy_by_y = p.ds
    r.resting = p.u - n.u + (T - cell.t_ref) * r.entropy
    r.ocv_by_x = -n.du - (T - cell.t_ref) * n.ds
    r.ocv_by_y = p.du + (T - cell.t_ref) * p.ds
    e_n = reaction(seen + LOG_N, m[POWER_N], 0.5 * current_A / (s.n.rate * n.j), &g_n,
                   r.by_seen + LOG_N)
    e_p = reaction(seen + LOG_P, m[POWER_P], 0.5 * current_A / (s.p.rate * p.j), &g_p,
                   r.by_seen + LOG_P)
    diffusion = ohmic = r.by_t = 0.0
    if cell.salt.cells > 0:
        kappa = read_smoothly(cell.kappa, cell.e_points, 0.0, cell.e_step,
                              1e3 * seen[MEAN_C], &kappa_slope)
        chi = read_smoothly(cell.chi, cell.e_points, 0.0, cell.e_step,
                            1e3 * seen[MEAN_C], &chi_slope)
        ohmic = s.layers_ohm / kappa
        logs = seen[LOG_P] - seen[LOG_N]
        diffusion = chi * rt_f * logs
        r.by_t += diffusion / T - current_A * ohmic * m[ACT_KAPPA] / (T * T)
        for k in range(4):
            r.by_seen[LOG_N + k] *= 2.0 * rt_f
            r.by_seen[LOG_P + k] *= 2.0 * rt_f
        r.by_seen[LOG_N] -= chi * rt_f
        r.by_seen[LOG_P] += chi * rt_f
        r.by_seen[MEAN_C] = 1e3 * (rt_f * chi_slope * logs
                                   - current_A * ohmic * kappa_slope / kappa)
    r.voltage = (r.resting + 2.0 * rt_f * (e_n + e_p) + diffusion
                 + current_A * (ohmic + q[OHM] + (m[SOLID] if cell.salt.cells else 0.0)))
    r.by_rate_n = -2.0 * rt_f * g_n
    r.by_rate_p = -2.0 * rt_f * g_p
    r.by_x = r.ocv_by_x + r.by_rate_n * n.dj / n.j
    r.by_y = r.ocv_by_y + r.by_rate_p * p.dj / p.j
    r.by_kappa = -current_A * ohmic
    r.by_t += (r.entropy + 2.0 * rt_f / T * (e_n + e_p)
               + (r.by_rate_n * m[ACT_J_N] + r.by_rate_p * m[ACT_J_P]) / (T * T))
    return r
