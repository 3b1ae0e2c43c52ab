# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""One cell of a single-particle model under a tester, second by second. No checks here.

The model is that of `_spm`: spheres with a diffusivity that may vary, the electrolyte, one
lumped temperature. A tester holds a current, a power or a resistance until a voltage is reached,
and that voltage from there on, or a voltage from the start. What ends a step is judged by
`batterylab.protocol.owncell`, which takes the cell back to where a block began if a step ended
within it. All currents are positive on charge.
"""

from libc.math cimport exp, expm1, fabs
from libc.string cimport memcpy, memset

from diffusion cimport (
    CELLS, EXPONENTIALS, Line, LineState, Step, make_step, step_line, step_sphere,
)
from ocv_tables cimport read_smoothly
from spm_cell cimport (
    ACT_D_E, ACT_D_N, ACT_D_P, C_0, COOL, D_E, HEAT, PARAMETERS, Q_N, Q_P, TAU_N, TAU_P, X_0,
    Y_0, Cell, Particle, Reading, State, read_cell,
)

cdef enum:
    REST, CURRENT, VOLTAGE, POWER, RESISTANCE
#: a change of current by more than this share is a new beginning for the steps in time
cdef double JUMP = 0.02
#: and for a tester that holds a voltage it is this
cdef double HOLD_JUMP = 0.1

cdef struct LineMark:
    double u[CELLS]
    double before[CELLS]

cdef struct ParticleMark:
    double mean
    double speed
    double a[EXPONENTIALS]
    LineMark line

cdef struct Mark:
    ParticleMark n
    ParticleMark p
    LineMark salt
    double temperature
    double since
    double last_h
    double last_A


cdef void keep_line(LineMark* mark, const LineState* line, int cells) noexcept nogil:
    memcpy(mark.u, line.u, cells * sizeof(double))
    memcpy(mark.before, line.before, cells * sizeof(double))


cdef void put_line(const LineMark* mark, LineState* line, int cells) noexcept nogil:
    memcpy(line.u, mark.u, cells * sizeof(double))
    memcpy(line.before, mark.before, cells * sizeof(double))


cdef void keep_particle(ParticleMark* mark, const Particle* p, int cells) noexcept nogil:
    mark.mean = p.mean
    mark.speed = p.speed
    memcpy(mark.a, p.sphere.a, EXPONENTIALS * sizeof(double))
    keep_line(&mark.line, &p.line, cells)


cdef void put_particle(const ParticleMark* mark, Particle* p, int cells) noexcept nogil:
    p.mean = mark.mean
    p.speed = mark.speed
    memcpy(p.sphere.a, mark.a, EXPONENTIALS * sizeof(double))
    put_line(&mark.line, &p.line, cells)


cdef void set_line(
    Line* line, const double[:, ::1] rows, const double* table, Py_ssize_t points, double step
):
    line.cells = rows.shape[1]
    line.volume = &rows[0, 0]
    line.couple = &rows[1, 0]
    line.table = table
    line.points = points
    line.table_step = step


cdef class Stepper:
    """A cell that a tester drives; arguments as `SpmCell.kernel_arguments` gives them."""

    cdef Cell cell
    cdef State s
    cdef Mark mark, origin
    cdef double q[PARAMETERS]
    cdef double last_h, last_A, ambient_K, first_s, growth, most_s
    cdef object arrays

    def __init__(
        self, const double[::1] numbers, const double[:, ::1] curves, double t_ref,
        const double[:, ::1] electrolyte, double e_step, const double[:, ::1] sphere,
        double tail, const double[:, ::1] line_n, const double[:, ::1] line_p,
        const double[:, ::1] salt, const double[:, ::1] diffusivity, int cells_n, int cells_p,
        bint lumped, double first_s, double growth, double most_s
    ):
        cdef Cell* cell = &self.cell
        cdef double d_step = 1.0 / (diffusivity.shape[1] - 1)
        self.arrays = (numbers, curves, electrolyte, sphere, line_n, line_p, salt, diffusivity)
        self.first_s, self.growth, self.most_s = first_s, growth, most_s
        cell.numbers = &numbers[0]
        cell.u_n = &curves[0, 0]
        cell.u_p = &curves[1, 0]
        cell.j_n = &curves[2, 0]
        cell.j_p = &curves[3, 0]
        cell.entropy_n = &curves[4, 0]
        cell.entropy_p = &curves[5, 0]
        cell.points = curves.shape[1]
        cell.step = 1.0 / (curves.shape[1] - 1)
        cell.kappa = &electrolyte[1, 0]
        cell.chi = &electrolyte[2, 0]
        cell.e_points = electrolyte.shape[1]
        cell.e_step = e_step
        cell.t_ref = t_ref
        cell.sphere.count = sphere.shape[1]
        cell.sphere.rate = &sphere[0, 0]
        cell.sphere.weight = &sphere[1, 0]
        cell.sphere.tail = tail
        cell.lumped = lumped
        cell.cells_n, cell.cells_p = cells_n, cells_p
        cell.line_n.cells = cell.line_p.cells = cell.salt.cells = 0
        if line_n.shape[1] > 1:
            set_line(&cell.line_n, line_n, &diffusivity[0, 0], diffusivity.shape[1], d_step)
            cell.source_n = &line_n[2, 0]
        if line_p.shape[1] > 1:
            set_line(&cell.line_p, line_p, &diffusivity[1, 0], diffusivity.shape[1], d_step)
            cell.source_p = &line_p[2, 0]
        if salt.shape[1] > 1:
            set_line(&cell.salt, salt, &electrolyte[0, 0], electrolyte.shape[1], e_step)
            cell.source_e = &salt[2, 0]
            cell.share = &salt[3, 0]

    def settle(self, const double[::1] parameters, double ambient_K):
        """Put the cell in equilibrium at its parameters' stoichiometries, in air of this warmth."""
        cdef State* s = &self.s
        cdef int k
        for k in range(PARAMETERS):
            self.q[k] = parameters[k]
        memset(s, 0, sizeof(State))
        self.ambient_K = s.temperature = ambient_K
        s.n.mean = s.n.surface = self.q[X_0]
        s.p.mean = s.p.surface = self.q[Y_0]
        s.n.sphere.last_h = s.p.sphere.last_h = -1.0
        for k in range(self.cell.salt.cells):
            s.salt.u[k] = s.salt.before[k] = self.cell.numbers[C_0]
        for k in range(self.cell.line_n.cells):
            s.n.line.u[k] = s.n.line.before[k] = s.n.mean
        for k in range(self.cell.line_p.cells):
            s.p.line.u[k] = s.p.line.before[k] = s.p.mean
        self.last_h = self.last_A = 0.0

    @property
    def temperature_K(self):
        """Of the cell."""
        return self.s.temperature

    @property
    def ambient_K(self):
        """Of the air around it."""
        return self.ambient_K

    @ambient_K.setter
    def ambient_K(self, double kelvin):
        self.ambient_K = kelvin
        if not self.cell.lumped:
            self.s.temperature = kelvin

    def state(self, double[::1] out):
        """Fill what tells one state from another; returns how many numbers that is."""
        cdef int k, n = 0
        cdef double[6] few
        few[0], few[1], few[2] = self.s.n.mean, self.s.p.mean, self.s.temperature
        few[3], few[4], few[5] = self.last_A, self.last_h, self.ambient_K
        for k in range(6):
            out[n] = few[k]
            n += 1
        for k in range(self.cell.salt.cells):
            out[n] = self.s.salt.u[k] / self.cell.numbers[C_0]
            n += 1
        for k in range(self.cell.sphere.count):
            out[n] = self.s.n.sphere.a[k]
            out[n + 1] = self.s.p.sphere.a[k]
            n += 2
        for k in range(self.cell.line_n.cells):
            out[n] = self.s.n.line.u[k]
            n += 1
        for k in range(self.cell.line_p.cells):
            out[n] = self.s.p.line.u[k]
            n += 1
        return n

    def save(self):
        """Return all that the cell's future depends on."""
        self.keep(&self.origin)
        return (<char*>&self.origin)[: sizeof(Mark)]

    def restore(self, bytes saved):
        """Go back to a state that was saved of this cell."""
        if len(saved) != sizeof(Mark):
            raise ValueError("not a state of this cell")
        memcpy(&self.origin, <char*>saved, sizeof(Mark))
        self.put(&self.origin)

    cdef void keep(self, Mark* mark) noexcept nogil:
        keep_particle(&mark.n, &self.s.n, self.cell.line_n.cells)
        keep_particle(&mark.p, &self.s.p, self.cell.line_p.cells)
        keep_line(&mark.salt, &self.s.salt, self.cell.salt.cells)
        mark.temperature, mark.since = self.s.temperature, self.s.since
        mark.last_h, mark.last_A = self.last_h, self.last_A

    cdef void put(self, const Mark* mark) noexcept nogil:
        put_particle(&mark.n, &self.s.n, self.cell.line_n.cells)
        put_particle(&mark.p, &self.s.p, self.cell.line_p.cells)
        put_line(&mark.salt, &self.s.salt, self.cell.salt.cells)
        self.s.temperature, self.s.since = mark.temperature, mark.since
        self.last_h, self.last_A = mark.last_h, mark.last_A

    def follow(
        self, int mode, const double[::1] value, double limit_V, double most_A, double lengths_s,
        double[:, ::1] out
    ):
        """Go on for as many intervals as `value` has; one row of current, voltage and °C each.

        `value` is a current in A, a voltage in V, a power in W (positive on charge) or a
        resistance in ohm of the load. A current, power or resistance gives way to the voltage
        limit; a voltage gives way to `most_A`, a magnitude.
        """
        cdef Py_ssize_t i
        cdef double volts
        with nogil:
            for i in range(value.shape[0]):
                volts = self.interval(mode, value[i], limit_V, most_A, lengths_s)
                out[i, 0] = self.last_A
                out[i, 1] = volts
                out[i, 2] = self.s.temperature - 273.15

    cdef double interval(
        self, int mode, double value, double limit_V, double most_A, double length_s
    ) noexcept nogil:
        """Advance by one interval; return the voltage at its end."""
        cdef double volts, sign
        if mode == REST:
            return self.move(0.0, length_s, JUMP)
        self.keep(&self.mark)
        if mode == VOLTAGE:
            volts = self.seek(VOLTAGE, value, length_s)
            if fabs(self.last_A) <= most_A:
                return volts
            sign = 1.0 if self.last_A > 0.0 else -1.0
            self.put(&self.mark)
            return self.move(sign * most_A, length_s, JUMP)
        if mode == CURRENT:
            volts = self.move(value, length_s, JUMP)
        else:
            volts = self.seek(mode, value, length_s)
        sign = 1.0 if mode != RESISTANCE and value > 0.0 else -1.0
        if sign * (volts - limit_V) <= 0.0:
            return volts
        self.put(&self.mark)
        volts = self.seek(VOLTAGE, limit_V, length_s)
        if sign * self.last_A >= 0.0:
            return volts
        self.put(&self.mark)  # beyond the limit already: nothing flows
        return self.move(0.0, length_s, JUMP)

    cdef double seek(self, int mode, double value, double length_s) noexcept nogil:
        """Find the current at whose interval's end voltage, power or resistance is held."""
        cdef double a, b, miss_a, miss_b, slope, volts
        cdef double ohm = 0.03 * 3.0 / self.q[Q_P] if self.q[Q_P] > 0.0 else 0.03
        cdef int i
        a = self.mark.last_A
        volts = self.move(a, length_s, HOLD_JUMP)
        miss_a = self.missing(mode, value, volts)
        if fabs(miss_a) < 1e-8:
            return volts
        b = a + miss_a / ohm
        for i in range(40):
            self.put(&self.mark)
            volts = self.move(b, length_s, HOLD_JUMP)
            miss_b = self.missing(mode, value, volts)
            if fabs(miss_b) < 1e-8 or fabs(b - a) < 1e-11:
                break
            slope = (miss_a - miss_b) / (b - a)
            if not slope > 0.02 * ohm:
                slope = ohm
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
            return (value / volts - self.last_A) * 0.03 * 3.0 / self.q[Q_P]
        return (-volts / value - self.last_A) * 0.03 * 3.0 / self.q[Q_P]

    cdef double move(self, double amps, double length_s, double jump) noexcept nogil:
        """Advance with a constant current; return the voltage at the end."""
        cdef State* s = &self.s
        cdef double h, done = 0.0, last_h = self.last_h
        cdef double longest
        cdef Step step
        cdef int guard
        cdef Reading r
        if fabs(amps - self.last_A) > jump * (fabs(amps) + fabs(self.last_A)) + 1e-12:
            last_h = s.since = 0.0
        for guard in range(1000000):
            h = self.first_s
            if last_h > 0.0:
                longest = self.most_s if self.most_s > 0.02 * s.since else 0.02 * s.since
                h = self.growth * last_h
                if h > longest:
                    h = longest
            if h >= length_s - done:
                h = length_s - done
            elif h > 0.6 * (length_s - done):
                h = 0.5 * (length_s - done)
            step = make_step(h, last_h)
            self.step_all(&step, amps)
            r = read_cell(&self.cell, s, self.q, amps, False)
            if self.cell.lumped:
                self.warm_up(&r, amps, h)
            last_h = h
            s.since += h
            done += h
            if done >= length_s - 1e-9:
                break
        self.last_h, self.last_A = last_h, amps
        return r.voltage

    cdef void step_all(self, const Step* step, double amps) noexcept nogil:
        cdef State* s = &self.s
        cdef const Cell* cell = &self.cell
        cdef const double* m = cell.numbers
        cdef double warm = 1.0 / cell.t_ref - 1.0 / s.temperature
        self.step_particle(&cell.line_n, cell.source_n, &s.n, step,
                           exp(self.q[TAU_N] - m[ACT_D_N] * warm), amps / (3600.0 * self.q[Q_N]))
        self.step_particle(&cell.line_p, cell.source_p, &s.p, step,
                           exp(self.q[TAU_P] - m[ACT_D_P] * warm), -amps / (3600.0 * self.q[Q_P]))
        if cell.salt.cells:
            step_line(&cell.salt, &s.salt, step, exp(self.q[D_E] + m[ACT_D_E] * warm),
                      cell.source_e, amps)

    cdef void step_particle(
        self, const Line* line, const double* source, Particle* p, const Step* step, double tau,
        double speed
    ) noexcept nogil:
        """Advance one particle to its new surface."""
        cdef double by_log_tau[EXPONENTIALS]
        cdef double by_speed[EXPONENTIALS]
        cdef double d, slope
        cdef int k, last
        p.speed = speed
        p.mean += speed * step.h
        if line.cells:
            step_line(line, &p.line, step, 1.0 / tau, source, speed)
            last = line.cells - 1
            d = read_smoothly(line.table, line.points, 0.0, line.table_step, p.line.u[last],
                              &slope)
            p.surface = p.line.u[last] + line.couple[last] * tau * speed / d
            return
        step_sphere(&self.cell.sphere, &p.sphere, step.h, tau, speed, by_log_tau, by_speed)
        p.surface = p.mean + self.cell.sphere.tail * tau * speed
        for k in range(self.cell.sphere.count):
            p.surface += p.sphere.a[k]

    cdef void warm_up(self, const Reading* r, double amps, double h) noexcept nogil:
        """Advance the lumped temperature: what is dissipated, less what the air takes."""
        cdef double T = self.s.temperature
        cdef double heat = exp(self.q[HEAT]), cool = exp(self.q[COOL])
        cdef double a = h * cool / heat
        cdef double phi = -expm1(-a) / a if a > 1e-12 else 1.0
        cdef double power_W = amps * (r.voltage - r.resting + T * r.entropy)
        self.s.temperature = T + h / heat * phi * (power_W - cool * (T - self.ambient_K))
