# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""One cell of a single-particle model under a tester, second by second. No checks here.

The model is that of S. G. Marquis, V. Sulzer, R. Timms, C. P. Please, S. J. Chapman, J.
Electrochem. Soc. 166 (2019) A3693, as PyBaMM solves it: spheres and an electrolyte with
diffusivities that depend on concentration and temperature, one lumped temperature. A tester
holds a current, a power or a load until a voltage is reached, and that voltage from there on.
What ends a step is judged by `batterylab.protocol.judge`; a step that ended within a block is
followed again from where the block began. All currents are positive on charge.
"""

from libc.math cimport asinh, exp, expm1, fabs, log, pow, sqrt
from libc.string cimport memcpy, memset

from sim_line cimport Line, Profile, read, step_line, surface

cdef enum:
    REST, CURRENT, VOLTAGE, POWER, RESISTANCE
# columns of `numbers`
cdef enum:
    Q_N, Q_P, TAU_N, TAU_P, J_N, J_P, ACT_J_N, ACT_J_P, POWER_N, POWER_P, ACT_D_N, ACT_D_P
    LAYERS, SOLID, OHM, C_0, ACT_D_E, ACT_KAPPA, HEAT, COOL, T_REF, CELLS_N, CELLS_P, NUMBERS
# rows of `curves`
cdef enum:
    U_N, U_P, S_N, S_P, LOG_J_N, LOG_J_P
#: a change of current by more than this share is a new beginning for the steps in time
cdef double JUMP = 0.02
#: and for a tester that seeks a current it is this
cdef double HOLD_JUMP = 0.1
#: how near a voltage is held
cdef double SOUGHT_V = 1e-6
#: steps in time after a change of current: the first, growth, the longest (or a share of the time)
cdef double FIRST_s = 0.02
cdef double GROWTH = 1.6
cdef double MOST_s = 10.0
cdef double MOST_SHARE = 0.02

cdef struct State:
    Profile n
    Profile p
    Profile salt
    double temperature
    double since
    double last_h
    double last_A             # at the end of the last interval
    double mean_A             # over it
    double before_A           # at its beginning
    double ohm                # by which the voltage rose with the current when one was sought
    bint holds                # a voltage limit

cdef struct Reading:
    double voltage
    double resting
    double entropy


cdef class Stepper:
    """A cell that a tester drives; `batterylab.protocol.modelcell` says what goes in."""

    cdef Line n, p, salt
    cdef State s, mark
    cdef double m[NUMBERS]
    cdef const double[:, ::1] curves
    cdef const double[:, ::1] electrolyte
    cdef const double[::1] share
    cdef double step, e_step
    cdef public double ambient_K
    cdef bint lumped
    cdef object arrays

    def __init__(
        self, const double[::1] numbers, const double[:, ::1] curves,
        const double[:, ::1] electrolyte, double e_step, const double[:, ::1] line,
        const double[::1] d_n, const double[::1] d_p, const double[:, ::1] salt,
        const double[::1] d_e, const double[::1] share, bint lumped
    ):
        cdef int k
        self.arrays = (numbers, curves, electrolyte, line, d_n, d_p, salt, d_e, share)
        for k in range(NUMBERS):
            self.m[k] = numbers[k]
        self.curves, self.electrolyte, self.share = curves, electrolyte, share
        self.step, self.e_step = 1.0 / (curves.shape[1] - 1), e_step
        self.lumped = lumped
        self.n = make_line(line, d_n, 1.0 / max(1, d_n.shape[0] - 1))
        self.p = make_line(line, d_p, 1.0 / max(1, d_p.shape[0] - 1))
        self.salt = make_line(salt, d_e, e_step)
        if salt.shape[1] < 2:
            self.salt.cells = 0

    def settle(self, double x, double y, double kelvin):
        """Put the cell in equilibrium at two stoichiometries, in air of its own warmth."""
        cdef int k
        memset(&self.s, 0, sizeof(State))
        self.ambient_K = self.s.temperature = kelvin
        for k in range(self.n.cells):
            self.s.n.u[k] = self.s.n.before[k] = x
        for k in range(self.p.cells):
            self.s.p.u[k] = self.s.p.before[k] = y
        for k in range(self.salt.cells):
            self.s.salt.u[k] = self.s.salt.before[k] = self.m[C_0]

    @property
    def temperature_K(self):
        """Of the cell."""
        return self.s.temperature

    def means(self):
        """Return the mean stoichiometries of both particles."""
        cdef double x = 0.0, y = 0.0
        cdef int k
        for k in range(self.n.cells):
            x += 3.0 * self.n.volume[k] * self.s.n.u[k]
        for k in range(self.p.cells):
            y += 3.0 * self.p.volume[k] * self.s.p.u[k]
        return x, y

    def state(self):
        """Return what tells one state from another, as a list of numbers near 1."""
        cdef int k
        found = [self.s.temperature / self.m[T_REF], self.ambient_K / self.m[T_REF],
                 self.s.last_A / self.m[Q_N], self.s.last_h]
        found += [self.s.n.u[k] for k in range(self.n.cells)]
        found += [self.s.p.u[k] for k in range(self.p.cells)]
        found += [self.s.salt.u[k] / self.m[C_0] for k in range(self.salt.cells)]
        return found

    def save(self):
        """Return all that the cell's future depends on, but for the air."""
        return (<char*>&self.s)[: sizeof(State)]

    def restore(self, bytes saved):
        """Go back to a state that was saved of this cell."""
        if len(saved) != sizeof(State):
            raise ValueError("not a state of this cell")
        memcpy(&self.s, <char*>saved, sizeof(State))

    def follow(
        self, int mode, const double[::1] value, double low_V, double high_V, double most_A,
        double length_s, double[:, ::1] out
    ):
        """Go on for as many intervals as `value` has; one row of current, voltage and °C each.

        `value` is a current in A, a voltage in V, a power in W (positive on charge) or the
        resistance of a load in ohm. A current, power or load gives way to the voltage limits,
        a power, load or voltage to `most_A`, a magnitude.
        """
        cdef Py_ssize_t i
        cdef double volts
        with nogil:
            for i in range(value.shape[0]):
                volts = self.interval(mode, value[i], low_V, high_V, most_A, length_s)
                out[i, 0] = self.s.mean_A
                out[i, 1] = volts
                out[i, 2] = self.s.temperature - 273.15

    cdef void keep(self) noexcept nogil:
        memcpy(&self.mark, &self.s, sizeof(State))

    cdef void put(self) noexcept nogil:
        memcpy(&self.s, &self.mark, sizeof(State))

    cdef double interval(
        self, int mode, double value, double low_V, double high_V, double most_A, double length_s
    ) noexcept nogil:
        """Advance by one interval; return the voltage at its end."""
        cdef double volts, sign, limit_V, away
        if mode == REST or (mode != VOLTAGE and value == 0.0):
            return self.move(0.0, length_s, JUMP)
        self.keep()
        sign = 1.0 if mode != RESISTANCE and value > 0.0 else -1.0
        limit_V = high_V if sign > 0.0 else low_V
        if mode == CURRENT and self.s.holds:
            volts = self.seek(VOLTAGE, limit_V, length_s)
            if 0.0 <= sign * self.s.last_A < fabs(value):
                return volts
            self.put()
        self.s.holds = False
        if mode == CURRENT:
            volts = self.move(value, length_s, JUMP)
        else:
            volts = self.seek(mode, value, length_s)
            if fabs(self.s.last_A) > most_A:
                away = 1.0 if self.s.last_A > 0.0 else -1.0
                self.put()
                volts = self.move(away * most_A, length_s, JUMP)
            if mode == VOLTAGE:
                return volts
        if sign * (volts - limit_V) <= 0.0:
            return volts
        self.put()
        volts = self.seek(VOLTAGE, limit_V, length_s)
        if sign * self.s.last_A >= 0.0:
            self.s.holds = mode == CURRENT
            return volts
        self.put()  # beyond the limit already: nothing flows
        self.s.holds = False
        return self.move(0.0, length_s, JUMP)

    cdef double seek(self, int mode, double value, double length_s) noexcept nogil:
        """Find the current at whose interval's end a voltage, power or load is held."""
        cdef double a, b, miss_a, miss_b, slope, volts
        cdef double usual = 0.15 / self.m[Q_P], ohm = self.mark.ohm
        cdef int i
        if not ohm > 0.02 * usual:
            ohm = usual
        a = self.mark.last_A
        if fabs(a - self.mark.before_A) < 0.05 * fabs(a):
            a += a - self.mark.before_A
        volts = self.move(a, length_s, HOLD_JUMP)
        miss_a = self.missing(mode, value, volts)
        if fabs(miss_a) < SOUGHT_V:
            return volts
        b = a + miss_a / ohm
        for i in range(40):
            self.put()
            volts = self.move(b, length_s, HOLD_JUMP)
            miss_b = self.missing(mode, value, volts)
            slope = (miss_a - miss_b) / (b - a)
            if not slope > 0.02 * usual:
                slope = usual
            self.s.ohm = slope
            if fabs(miss_b) < SOUGHT_V or fabs(b - a) < 1e-11 * self.m[Q_P]:
                break
            a, miss_a = b, miss_b
            b += miss_b / slope
        return volts

    cdef double missing(self, int mode, double value, double volts) noexcept nogil:
        """Return by how many volts the last interval ended below what is held."""
        if mode == VOLTAGE:
            return value - volts
        if not volts > 0.1:
            volts = 0.1
        if mode == POWER:
            return (value / volts - self.s.last_A) * 0.15 / self.m[Q_P]
        return (-volts / value - self.s.last_A) * 0.15 / self.m[Q_P]

    cdef double move(self, double amps, double length_s, double jump) noexcept nogil:
        """Advance by an interval; return the voltage at its end, at which `amps` flow.

        After a jump the current is constant, else it goes there linearly from the last one.
        """
        cdef State* s = &self.s
        cdef double h, longest, done = 0.0, last_h = s.last_h
        cdef int guard
        cdef Reading r
        s.mean_A = 0.5 * (s.last_A + amps)
        if fabs(amps - s.last_A) > jump * (fabs(amps) + fabs(s.last_A)) + 1e-12:
            last_h = s.since = 0.0
            s.mean_A = amps
        for guard in range(1000000):
            h = FIRST_s
            if last_h > 0.0:
                longest = MOST_s if MOST_s > MOST_SHARE * s.since else MOST_SHARE * s.since
                h = GROWTH * last_h
                if h > longest:
                    h = longest
            if h >= length_s - done:
                h = length_s - done
            elif h > 0.6 * (length_s - done):
                h = 0.5 * (length_s - done)
            r = self.step_all(h, last_h, s.mean_A, amps)
            if self.lumped:
                self.warm_up(&r, amps, h)
            else:
                s.temperature = self.ambient_K
            last_h = h
            s.since += h
            done += h
            if done >= length_s - 1e-9:
                break
        s.before_A = s.last_A
        s.last_h, s.last_A = last_h, amps
        return r.voltage

    cdef Reading step_all(
        self, double h, double last_h, double mean_A, double amps
    ) noexcept nogil:
        """Advance particles and electrolyte by a step in time, and read the cell."""
        cdef State* s = &self.s
        cdef double* m = self.m
        cdef double warm = 1.0 / m[T_REF] - 1.0 / s.temperature
        cdef double rate_n = exp(m[ACT_D_N] * warm) / m[TAU_N]
        cdef double rate_p = exp(m[ACT_D_P] * warm) / m[TAU_P]
        cdef double flux_n = mean_A / (3600.0 * m[Q_N]), flux_p = -mean_A / (3600.0 * m[Q_P])
        step_line(&self.n, &s.n, h, last_h, rate_n, flux_n)
        step_line(&self.p, &s.p, h, last_h, rate_p, flux_p)
        if self.salt.cells:
            step_line(&self.salt, &s.salt, h, last_h, exp(m[ACT_D_E] * warm), mean_A)
        flux_n = amps / (3600.0 * m[Q_N])
        flux_p = -amps / (3600.0 * m[Q_P])
        return self.read_cell(surface(&self.n, &s.n, rate_n, flux_n),
                              surface(&self.p, &s.p, rate_p, flux_p), amps)

    cdef double at(self, int row, double x) noexcept nogil:
        return read(&self.curves[row, 0], self.curves.shape[1], self.step, x)

    cdef Reading read_cell(self, double x, double y, double amps) noexcept nogil:
        """Read the voltage at the particles' surfaces and a current."""
        cdef Reading r
        cdef const double* c = self.s.salt.u
        cdef double* m = self.m
        cdef double T = self.s.temperature
        cdef double warm = 1.0 / m[T_REF] - 1.0 / T
        cdef double rt_f = 8.314462618 / 96485.33212 * T
        cdef double e_n, e_p, mean = 0.0, log_n = 0.0, log_p = 0.0, ohmic, each
        cdef double over_n = 0.0, over_p = 0.0
        cdef int k, n = self.salt.cells, cells_n = <int>m[CELLS_N], cells_p = <int>m[CELLS_P]
        r.entropy = self.at(S_P, y) - self.at(S_N, x)
        r.resting = self.at(U_P, y) - self.at(U_N, x) + (T - m[T_REF]) * r.entropy
        e_n = 0.5 * amps / (m[Q_N] * m[J_N] * exp(self.at(LOG_J_N, x) + m[ACT_J_N] * warm))
        e_p = 0.5 * amps / (m[Q_P] * m[J_P] * exp(self.at(LOG_J_P, y) + m[ACT_J_P] * warm))
        if n == 0:
            over_n = asinh(e_n * pow(1e-3 * m[C_0], -m[POWER_N]))
            over_p = asinh(e_p * pow(1e-3 * m[C_0], -m[POWER_P]))
            r.voltage = r.resting + 2.0 * rt_f * (over_n + over_p) + amps * m[OHM]
            return r
        for k in range(n):
            mean += self.share[k] * c[k]
        over_n = reaction(c, cells_n, m[POWER_N], e_n, &log_n)
        over_p = reaction(c + n - cells_p, cells_p, m[POWER_P], e_p, &log_p)
        ohmic = m[LAYERS] / (read(&self.electrolyte[0, 0], self.electrolyte.shape[1], self.e_step,
                                  mean) * exp(m[ACT_KAPPA] * warm))
        each = read(&self.electrolyte[1, 0], self.electrolyte.shape[1], self.e_step, mean)
        r.voltage = (r.resting + 2.0 * rt_f * (over_n + over_p) + each * rt_f * (log_p - log_n)
                     + amps * (ohmic + m[SOLID] + m[OHM]))
        return r

    cdef void warm_up(self, const Reading* r, double amps, double h) noexcept nogil:
        """Advance the lumped temperature: what is dissipated, less what the air takes."""
        cdef double T = self.s.temperature
        cdef double a = h * self.m[COOL] / self.m[HEAT]
        cdef double phi = -expm1(-a) / a if a > 1e-12 else 1.0
        cdef double power_W = amps * (r.voltage - r.resting + T * r.entropy)
        self.s.temperature = T + h / self.m[HEAT] * phi * (
            power_W - self.m[COOL] * (T - self.ambient_K))


cdef double reaction(
    const double* c, int cells, double power, double half, double* mean_log
) noexcept nogil:
    """Return the mean of asinh(half * c^-power), c in mol/l, and the mean logarithm of c."""
    cdef double each, z, total = 0.0, logs = 0.0, product = 1.0, salt = 1.0
    cdef int k
    for k in range(cells):
        each = 1e-3 * c[k]
        if not each > 1e-3:
            each = 1e-3
        z = fabs(half) * (1.0 / sqrt(each) if power == 0.5 else pow(each, -power))
        salt *= each
        product *= z + sqrt(1.0 + z * z)
        if product > 1e200 or salt < 1e-200:
            total += log(product)
            logs += log(salt)
            product = salt = 1.0
    mean_log[0] = (logs + log(salt)) / cells
    total = (total + log(product)) / cells
    return total if half >= 0.0 else -total


cdef Line make_line(const double[:, ::1] rows, const double[::1] table, double step):
    cdef Line line
    line.cells = rows.shape[1]
    line.volume = &rows[0, 0]
    line.couple = &rows[1, 0]
    line.source = &rows[2, 0]
    line.table = &table[0]
    line.points = table.shape[0]
    line.step = step
    return line
