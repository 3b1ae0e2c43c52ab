# What the Doyle-Fuller-Newman kernel knows of a cell: geometry, tables, their reading. Header only.
#
# Nodes are numbered through negative electrode, separator, positive electrode. Currents are in A,
# resistances in ohm, particles in stoichiometry, the electrolyte in mol/m3.

from libc.math cimport log, sqrt

from diffusion cimport Line, Sphere

cdef enum:
    NODES = 128        # most of all three together

# the parameters; times, rates and factors as logarithms. The shifts add to the charge of parts
# after the first
cdef enum:
    Q_N, Q_P, X_0, Y_0, TAU_N, TAU_P, RATE_N, RATE_P, OHM, KAPPA, D_E, SIGMA_N, SIGMA_P
    SHIFT_1, SHIFT_2, SHIFT_3, SHIFT_4, SHIFT_5, SHIFT_6, SHIFT_7, PARAMETERS

# columns of `numbers`
cdef enum:
    J_N, J_P, ACT_J_N, ACT_J_P, POWER_N, POWER_P, ACT_D_N, ACT_D_P, ACT_D_E, ACT_KAPPA, C_0
    CARRIED, NUMBERS

cdef struct Electrode:
    int first
    int count
    const double* curves      # potential and exchange current, in pairs
    const double* entropy
    double power              # of the concentration, in the exchange current
    double current            # exchange current per Ah and table unit
    double act_j
    double act_d
    int q                     # places of its parameters
    int tau
    int rate
    int sigma
    Line line                 # cells = 0: constant diffusivity
    const double* whole       # integral of its table, in steps of it

cdef struct Cell:
    int nodes
    Electrode n
    Electrode p
    const double* share       # of the electrode's thickness; 0 in the separator
    const double* hold        # m3 of electrolyte
    const double* half_e      # half a node's resistance at 1 S/m
    const double* half_s      # and that of its solid
    Py_ssize_t points
    double step
    const double* salt        # cubics over the root of the concentration
    Py_ssize_t pieces
    double root_0
    double root_step
    double act_d_e
    double act_kappa
    double c_0
    double carried            # transference number; NaN: it varies
    double t_ref
    Sphere sphere

cdef struct Salt:
    double kappa[NODES]       # S/m
    double d_kappa[NODES]     # by concentration, as all that follow
    double spread[NODES]      # integral of the diffusivity
    double d_spread[NODES]
    double lift[NODES]        # integral of chi / c
    double d_lift[NODES]
    double carried[NODES]
    double d_carried[NODES]
    double root[NODES]


cdef inline double piece(const double* a, double t, double beyond, double* slope) noexcept nogil:
    """Read a cubic; straight beyond its ends."""
    slope[0] = a[1] + t * (2.0 * a[2] + t * 3.0 * a[3])
    return a[0] + t * (a[1] + t * (a[2] + t * a[3])) + beyond * slope[0]


cdef inline void read_salt(const Cell* cell, const double* c, Salt* s) noexcept nogil:
    """Read the electrolyte's tables in every node; straight in c below the first concentration."""
    cdef double root, by_c, position, t, beyond, slope
    cdef const double* a
    cdef Py_ssize_t i
    cdef int k
    cdef bint varies = cell.carried != cell.carried
    for k in range(cell.nodes):
        if c[k] > cell.root_0 * cell.root_0:
            root = sqrt(c[k])
            by_c = 0.5 / root
        else:
            by_c = 0.5 / cell.root_0
            root = cell.root_0 + (c[k] - cell.root_0 * cell.root_0) * by_c
        position = (root - cell.root_0) / cell.root_step
        beyond = 0.0
        if not position > 0.0:
            i = 0
            t = 0.0
            beyond = position
        elif position >= cell.pieces:
            i = cell.pieces - 1
            t = 1.0
            beyond = position - cell.pieces
        else:
            i = <Py_ssize_t>position
            t = position - i
        by_c /= cell.root_step
        a = cell.salt + 16 * i
        s.kappa[k] = piece(a, t, beyond, &slope)
        s.d_kappa[k] = slope * by_c
        if not s.kappa[k] > 1e-6:
            s.kappa[k] = 1e-6
            s.d_kappa[k] = 0.0
        s.spread[k] = piece(a + 4, t, beyond, &slope)
        s.d_spread[k] = slope * by_c
        s.lift[k] = piece(a + 8, t, beyond, &slope)
        s.d_lift[k] = slope * by_c
        s.carried[k] = cell.carried
        s.d_carried[k] = 0.0
        if varies:
            s.carried[k] = piece(a + 12, t, beyond, &slope)
            s.d_carried[k] = slope * by_c
        s.root[k] = root if root > cell.root_0 else cell.root_0


cdef inline void read_pair(
    const double* table, Py_ssize_t points, double step, double x, double* u, double* du,
    double* j, double* dj
) noexcept nogil:
    """As `read_smoothly`, two tables at once: potential and exchange current in pairs."""
    cdef double position = x / step
    cdef double t, t2, w0, w1, w2, w3, d0, d1, d2, d3
    cdef Py_ssize_t i
    cdef const double* a
    if not (position > 0.0 and position < points - 1):  # NaN, too
        i = points - 2 if position > 0.0 else 0
        a = table + 2 * i
        t = position - i
        u[0] = a[0] + t * (a[2] - a[0])
        j[0] = a[1] + t * (a[3] - a[1])
        du[0] = (a[2] - a[0]) / step
        dj[0] = (a[3] - a[1]) / step
    else:
        i = <Py_ssize_t>position
        i = min(max(i, 1), points - 3)
        t = position - i
        t2 = t * t
        w0 = -0.5 * t + t2 - 0.5 * t2 * t
        w1 = 1.0 - 2.5 * t2 + 1.5 * t2 * t
        w2 = 0.5 * t + 2.0 * t2 - 1.5 * t2 * t
        w3 = -0.5 * t2 + 0.5 * t2 * t
        d0 = -0.5 + 2.0 * t - 1.5 * t2
        d1 = -5.0 * t + 4.5 * t2
        d2 = 0.5 + 4.0 * t - 4.5 * t2
        d3 = -t + 1.5 * t2
        a = table + 2 * (i - 1)
        u[0] = w0 * a[0] + w1 * a[2] + w2 * a[4] + w3 * a[6]
        j[0] = w0 * a[1] + w1 * a[3] + w2 * a[5] + w3 * a[7]
        du[0] = (d0 * a[0] + d1 * a[2] + d2 * a[4] + d3 * a[6]) / step
        dj[0] = (d0 * a[1] + d1 * a[3] + d2 * a[5] + d3 * a[7]) / step
    if not j[0] > 1e-8:
        j[0] = 1e-8
        dj[0] = 0.0


cdef inline double arsinh(double z, double root) noexcept nogil:
    """Inverse hyperbolic sine; `root` is that of 1 + z squared."""
    return log(root + z) if z >= 0.0 else -log(root - z)
