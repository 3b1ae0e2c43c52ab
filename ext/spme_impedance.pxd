# The impedance of the single-particle model with electrolyte, with derivatives. Header only.
#
# Linearised about equilibrium: spheres, double layers, and salt in three layers, each solved
# exactly at a frequency. Within an electrode the reaction follows the local potential, as in
# PyBaMM's composite surface form: besides its mean it has the shape of the ohmic drops and of
# the salt. Depth y runs from the current collector; `I` of an electrode is the current density
# into the electrolyte, +1 where lithium leaves the particles.

from libc.math cimport exp

from complexes cimport (
    Dual, add, complex_sqrt, complex_tanh, constant, csch_of, divide, inverse, multiply, root,
    scaled, subtract, tanh_of,
)
from diffusion cimport MOST_P
from ocv_tables cimport read_smoothly

# the parameters; times, rates and shares as logarithms
cdef enum:
    IQ_N, IQ_P, IX, IY, ITAU_N, ITAU_P, IRATE_N, IRATE_P, IOHM, IKAPPA, ID_E, ICAP_N, ICAP_P
    IHENRY, IPARAMETERS

# `numbers`: of the cell, then five of the negative and five of the positive electrode
cdef enum:
    I_AREA, I_RT_F, I_FARADAY, I_C0, I_TRANSFERENCE, I_CHI, I_D_E, I_KAPPA, I_SEPARATOR
    I_POROSITY_S, I_TRANSPORT_S, I_SALT, I_LAYERS, I_SOLID, I_ELECTRODE, I_EACH = 5

# of an electrode, from I_ELECTRODE on
cdef enum:
    E_THICK, E_POROSITY, E_TRANSPORT, E_SOLID, E_RATE

cdef struct SpmeCell:
    const double* numbers
    const double* curves        # slope of U, then j0, of the negative and then the positive
    Py_ssize_t points
    const double* diffusivity   # over its value at 0.5, negative, positive
    Py_ssize_t d_points

# A number with its derivatives by each fitted parameter
cdef struct Value:
    double v
    double d[MOST_P]

# What does not depend on the frequency
cdef struct Half:
    Value conductance           # of the reaction, S
    Value slope                 # -U' over the charge, 1/F
    Value time                  # R²/D here, s
    Value capacitance           # F

cdef struct Cell:
    Half half[2]
    double kappa                # conductivity and diffusivity of the salt
    double salt
    double ohm
    double henry

# An electrode at one frequency, with derivatives by each fitted parameter
cdef struct Reaction:
    double complex whole        # charge transfer, sphere and double layer, ohm
    double complex share        # of the current that passes through the reaction
    double complex d_whole[MOST_P]
    double complex d_share[MOST_P]

# what the salt's voltage is derived by, in a `Dual`
cdef enum:
    BY_SHARE, BY_CONDUCTANCE = 2, BY_KAPPA = 4, BY_SALT = 5


cdef inline void settle_half(
    const SpmeCell* cell, const double* q, const int* free, int n, int k, Half* half
) noexcept nogil:
    """Read an electrode's tables at its stoichiometry."""
    cdef const double* e = cell.numbers + I_ELECTRODE + I_EACH * k
    cdef double charge = q[IQ_N + k], x = q[IX + k]
    cdef double step = 1.0 / (cell.points - 1)
    cdef double bend = 0.0, j_slope = 0.0, d_slope = 0.0
    cdef double slope = read_smoothly(
        cell.curves + k * cell.points, cell.points, 0.0, step, x, &bend)
    cdef double j = read_smoothly(
        cell.curves + (2 + k) * cell.points, cell.points, 0.0, step, x, &j_slope)
    cdef double d = read_smoothly(
        cell.diffusivity + k * cell.d_points, cell.d_points, 0.0, 1.0 / (cell.d_points - 1), x,
        &d_slope)
    cdef int i
    half.conductance.v = charge * e[E_RATE] * j * exp(q[IRATE_N + k]) / cell.numbers[I_RT_F]
    half.slope.v = -slope / (3600.0 * charge)
    half.time.v = exp(q[ITAU_N + k]) / d
    half.capacitance.v = exp(q[ICAP_N + k])
    for i in range(n):
        half.conductance.d[i] = half.slope.d[i] = half.time.d[i] = half.capacitance.d[i] = 0.0
        if free[i] == IQ_N + k:
            half.conductance.d[i] = half.conductance.v / charge
            half.slope.d[i] = -half.slope.v / charge
        elif free[i] == IX + k:
            half.conductance.d[i] = half.conductance.v * j_slope / j
            half.slope.d[i] = -bend / (3600.0 * charge)
            half.time.d[i] = -half.time.v * d_slope / d
        elif free[i] == ITAU_N + k:
            half.time.d[i] = half.time.v
        elif free[i] == IRATE_N + k:
            half.conductance.d[i] = half.conductance.v
        elif free[i] == ICAP_N + k:
            half.capacitance.d[i] = half.capacitance.v


cdef inline void settle_impedance(
    const SpmeCell* cell, const double* q, const int* free, int n, Cell* here
) noexcept nogil:
    """Fill what is the same at all frequencies."""
    settle_half(cell, q, free, n, 0, &here.half[0])
    settle_half(cell, q, free, n, 1, &here.half[1])
    here.kappa = exp(q[IKAPPA]) * cell.numbers[I_KAPPA]
    here.salt = exp(q[ID_E]) * cell.numbers[I_D_E]
    here.ohm = q[IOHM]
    here.henry = q[IHENRY]


cdef inline void react(
    const Half* half, double complex s, int n, Reaction* r
) noexcept nogil:
    """Solve an electrode's reaction and its spheres at s = i omega."""
    cdef double complex a = complex_sqrt(s * half.time.v)
    cdef double complex t = complex_tanh(a)
    cdef double complex gap = a - t
    cdef double complex sphere, by_time, path, d_path, square
    cdef int j
    if half.time.v * s.imag < 1e-3:          # q - tanh q would lose its digits
        gap = a * a * a / 3.0 * (1.0 - 0.4 * a * a + 17.0 / 105.0 * a * a * a * a)
    sphere = half.time.v / 3.0 * t / gap
    by_time = sphere / half.time.v + (((1.0 - t * t) * gap - t * t * t) * a
                                      / (6.0 * gap * gap))
    path = 1.0 / half.conductance.v + half.slope.v * sphere
    r.whole = 1.0 / (1.0 / path + s * half.capacitance.v)
    r.share = r.whole / path
    square = s * r.whole * r.whole
    for j in range(n):
        d_path = (half.slope.d[j] * sphere + half.slope.v * by_time * half.time.d[j]
                  - half.conductance.d[j] / (half.conductance.v * half.conductance.v))
        r.d_whole[j] = r.share * r.share * d_path - square * half.capacitance.d[j]
        r.d_share[j] = (r.share * (r.share - 1.0) * d_path
                        - square * half.capacitance.d[j]) / path


cdef inline Dual variable(double complex value, int n, int which) noexcept nogil:
    """Return one of the quantities that the salt's voltage is derived by."""
    cdef Dual r = constant(value, n)
    if n:
        r.d[which] = 1.0
    return r


# An electrode's salt seen from the separator: concentration at the boundary is `level` less
# `give` times the flux out of the electrode, all per current density through the cell
cdef struct Salt:
    Dual level
    Dual give
    Dual source                 # of salt in the whole electrode


cdef inline Salt salt_of(
    const SpmeCell* cell, const Cell* here, int k, Dual share, double complex s
) noexcept nogil:
    """Solve the salt in an electrode; `share` of the current passes through the reaction."""
    cdef const double* m = cell.numbers
    cdef const double* e = m + I_ELECTRODE + I_EACH * k
    cdef Salt r
    cdef int n = share.n
    cdef double sign = 1.0 if k == 0 else -1.0
    cdef double L = e[E_THICK]
    cdef double F = m[I_FARADAY]
    cdef double pore = 1.0 / e[E_SOLID]
    cdef Dual spread = scaled(variable(here.salt, n, BY_SALT), e[E_TRANSPORT])
    cdef Dual kappa = inverse(scaled(variable(here.kappa, n, BY_KAPPA), e[E_TRANSPORT]))
    cdef Dual yield_ = scaled(variable(here.half[k].conductance.v, n, BY_CONDUCTANCE + k),
                              1.0 / (L * m[I_AREA] * F))
    cdef Dual back = scaled(yield_, m[I_CHI] * m[I_RT_F] / m[I_C0])
    cdef Dual decay = add(back, constant(e[E_POROSITY] * s, n))
    cdef Dual wave = root(divide(decay, spread))
    cdef Dual by_t = inverse(tanh_of(scaled(wave, L)))
    cdef Dual by_s = csch_of(scaled(wave, L))
    cdef Dual shaped = divide(scaled(yield_, sign), decay)
    # the particular solution p0 + p1 y + p2 y²
    cdef Dual p2 = scaled(multiply(shaped, add(kappa, constant(pore, n))), 0.5 / L)
    cdef Dual p1 = scaled(shaped, -pore)
    cdef Dual p0 = multiply(shaped, subtract(constant(L * pore / 3.0, n),
                                             scaled(kappa, L / 6.0)))
    cdef Dual even, felt
    p0 = add(p0, scaled(divide(multiply(spread, p2), decay), 2.0))
    r.source = scaled(subtract(share, constant(m[I_TRANSFERENCE], n)), sign / F)
    # the mean is (source - flux) / (porosity s L); it holds the salt that the reaction feels
    felt = scaled(divide(back, decay), 1.0 / (e[E_POROSITY] * s * L))
    even = add(felt, scaled(inverse(decay), 1.0 / L))
    r.level = add(p0, multiply(even, r.source))
    r.level = add(r.level, add(scaled(p1, L), scaled(p2, L * L)))
    r.level = subtract(r.level, multiply(
        divide(add(p1, scaled(p2, 2.0 * L)), wave), by_t))
    r.level = add(r.level, multiply(divide(p1, wave), by_s))
    r.give = add(felt, divide(by_t, multiply(spread, wave)))
    return r


cdef inline Dual salt_voltage(
    const SpmeCell* cell, const Cell* here, const Reaction* reaction, double complex s, int n_d
) noexcept nogil:
    """Return the salt's part of the impedance, in ohm."""
    cdef const double* m = cell.numbers
    cdef const double* n = m + I_ELECTRODE
    cdef const double* p = n + I_EACH
    cdef Salt a = salt_of(cell, here, 0, variable(reaction[0].share, n_d, BY_SHARE), s)
    cdef Salt b = salt_of(cell, here, 1, variable(reaction[1].share, n_d, BY_SHARE + 1), s)
    cdef Dual spread = scaled(variable(here.salt, n_d, BY_SALT), m[I_TRANSPORT_S])
    cdef Dual wave = root(divide(constant(m[I_POROSITY_S] * s, spread.n), spread))
    cdef Dual by_t = inverse(tanh_of(scaled(wave, m[I_SEPARATOR])))
    cdef Dual by_s = csch_of(scaled(wave, m[I_SEPARATOR]))
    cdef Dual k = multiply(spread, wave)
    # c_1 = level_a - give_a N_1, N_1 = k (c_1 by_t - c_2 by_s), and so from the other side
    cdef Dual one = constant(1.0, spread.n)
    cdef Dual a_1 = add(one, multiply(a.give, multiply(k, by_t)))
    cdef Dual a_2 = multiply(a.give, multiply(k, by_s))
    cdef Dual b_1 = multiply(b.give, multiply(k, by_s))
    cdef Dual b_2 = add(one, multiply(b.give, multiply(k, by_t)))
    cdef Dual det = inverse(subtract(multiply(a_1, b_2), multiply(a_2, b_1)))
    cdef Dual c_1 = multiply(det, add(multiply(a.level, b_2), multiply(b.level, a_2)))
    cdef Dual c_2 = multiply(det, add(multiply(b.level, a_1), multiply(a.level, b_1)))
    cdef Dual flux_1 = multiply(k, subtract(multiply(c_1, by_t), multiply(c_2, by_s)))
    cdef Dual flux_2 = multiply(k, subtract(multiply(c_2, by_t), multiply(c_1, by_s)))
    cdef Dual mean_n = scaled(subtract(a.source, flux_1), 1.0 / (n[E_POROSITY] * s * n[E_THICK]))
    cdef Dual mean_p = scaled(subtract(b.source, flux_2), 1.0 / (p[E_POROSITY] * s * p[E_THICK]))
    return scaled(subtract(mean_n, mean_p),
                  m[I_CHI] * m[I_RT_F] / (m[I_C0] * m[I_AREA]))


cdef inline double complex spme_at(
    const SpmeCell* cell, const Cell* here, double omega, const int* free, int n,
    double complex* slopes
) noexcept nogil:
    """Return the cell's impedance in ohm at one angular frequency; fill `n` derivatives."""
    cdef const double* m = cell.numbers
    cdef double complex s = 1j * omega
    cdef double complex total = here.ohm + here.henry * s
    cdef Reaction reaction[2]
    cdef Dual salt
    cdef double layers
    cdef int j, k
    for k in range(2):
        react(&here.half[k], s, n, &reaction[k])
        total = total + reaction[k].whole
    for j in range(n):
        slopes[j] = reaction[0].d_whole[j] + reaction[1].d_whole[j]
        if free[j] == IOHM:
            slopes[j] = slopes[j] + 1.0
        elif free[j] == IHENRY:
            slopes[j] = slopes[j] + s
    if m[I_SALT] == 0.0:
        return total
    layers = m[I_LAYERS] / here.kappa
    salt = salt_voltage(cell, here, reaction, s, BY_SALT + 1 if n else 0)
    for j in range(n):
        for k in range(2):
            slopes[j] = slopes[j] + salt.d[BY_SHARE + k] * reaction[k].d_share[j]
            slopes[j] = slopes[j] + salt.d[BY_CONDUCTANCE + k] * here.half[k].conductance.d[j]
        if free[j] == IKAPPA:
            slopes[j] = slopes[j] + salt.d[BY_KAPPA] * here.kappa - layers
        elif free[j] == ID_E:
            slopes[j] = slopes[j] + salt.d[BY_SALT] * here.salt
    return total + layers + m[I_SOLID] + salt.v
