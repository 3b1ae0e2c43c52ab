# How the single-particle kernel goes forward in time. Header only.
#
# Particles with a constant diffusivity go from row to row, exactly. The electrolyte, and
# particles whose diffusivity varies, take steps of their own that grow after each change of
# current and may pass many rows; rows between are read off a parabola through the last three.
# With lumped heat all go together and meet every row.

from libc.math cimport exp, expm1, fabs, log
from libc.string cimport memset

from diffusion cimport (
    EXPONENTIALS, MOST_P, Line, Step, make_step, prepare_sphere, read_line, slope_by_time,
    step_line, step_slopes, step_sphere, step_sphere_slopes, sum_of,
)
from salt_line cimport SaltStep, make_salt_step, step_salt, step_salt_slopes
from spm_cell cimport (
    ACT_D_E, ACT_D_N, ACT_D_P, ACT_J_N, ACT_J_P, ACT_KAPPA, C_0, COOL, D_E, HEAT, J_N, J_P,
    KAPPA, LAST_N, LAST_P, LAYERS, LOG_N, LOG_P, MEAN_C, OHM, Q_N, Q_P, RATE_N, RATE_P, SALT,
    SHIFT_1, SHIFT_7, TAU_N, TAU_P, X_0, Y_0, Cell, Particle, Reading, State, read_cell,
)
from spm_run cimport (
    JUMP, OBSERVED, PART, RAMP, RELAXED, SAME, Run, forget_nodes, interpolate, keep_node,
    take_seen,
)

# rows over which one current flows, or along which it rises linearly
cdef struct Stretch:
    Py_ssize_t last
    double end_s
    double length_s
    double mean_A
    double rise_A
    bint is_ramp


cdef inline double charge_of(const Run* run, const double* q, Py_ssize_t row) noexcept nogil:
    cdef int part = run.flags[row] >> PART
    return run.charge_Ah[row] + (q[SHIFT_1 + part - 1] if 0 < part <= SHIFT_7 - SHIFT_1 + 1 else 0.0)


cdef inline void set_means(
    const Run* run, State* s, const double* q, Py_ssize_t row, double moved, bint slopes
) noexcept nogil:
    """Set the mean stoichiometries at a charge, in the part of a row."""
    cdef int j, which, part = run.flags[row] >> PART
    s.n.mean = q[X_0] + moved / q[Q_N]
    s.p.mean = q[Y_0] - moved / q[Q_P]
    if not slopes:
        return
    for j in range(run.count):
        which = run.free[j]
        s.n.d_mean[j] = 1.0 if which == X_0 else (
            -moved / (q[Q_N] * q[Q_N]) if which == Q_N else 0.0)
        s.p.d_mean[j] = 1.0 if which == Y_0 else (
            moved / (q[Q_P] * q[Q_P]) if which == Q_P else 0.0)
        if part > 0 and which == SHIFT_1 + part - 1:
            s.n.d_mean[j] = 1.0 / q[Q_N]
            s.p.d_mean[j] = -1.0 / q[Q_P]


cdef inline void set_warmth(const Run* run, State* s, const double* q) noexcept nogil:
    """Set what depends on the temperature alone, if that has changed."""
    cdef const double* m = run.cell.numbers
    cdef double warm
    if s.temperature == s.warmed:
        return
    s.warmed = s.temperature
    warm = 1.0 / run.cell.t_ref - 1.0 / s.temperature
    s.n.tau = exp(q[TAU_N] - m[ACT_D_N] * warm)
    s.p.tau = exp(q[TAU_P] - m[ACT_D_P] * warm)
    s.n.rate = q[Q_N] * m[J_N] * exp(q[RATE_N] + m[ACT_J_N] * warm)
    s.p.rate = q[Q_P] * m[J_P] * exp(q[RATE_P] + m[ACT_J_P] * warm)
    s.salt_speed = exp(q[D_E] + m[ACT_D_E] * warm)
    s.layers_ohm = m[LAYERS] * exp(-q[KAPPA] - m[ACT_KAPPA] * warm)


cdef inline void settle(
    const Run* run, State* s, const double* q, Py_ssize_t row, bint slopes
) noexcept nogil:
    """Begin anew: everything in equilibrium at the charge of a row."""
    cdef int j, k
    memset(s, 0, sizeof(State))
    s.temperature = run.temperature_K[row]
    s.warmed = -1.0
    set_warmth(run, s, q)
    s.n.sphere.last_h = s.p.sphere.last_h = -1.0
    set_means(run, s, q, row, charge_of(run, q, row), slopes)
    for k in range(run.cell.salt.cells):
        s.salt.u[k] = s.salt.before[k] = run.cell.numbers[C_0]
    for k in range(run.cell.line_n.cells):
        s.n.line.u[k] = s.n.line.before[k] = s.n.mean
    for k in range(run.cell.line_p.cells):
        s.p.line.u[k] = s.p.line.before[k] = s.p.mean
    for j in range(run.count if slopes else 0):
        for k in range(run.cell.line_n.cells):
            s.n.line.du[j][k] = s.n.line.du_before[j][k] = s.n.d_mean[j]
        for k in range(run.cell.line_p.cells):
            s.p.line.du[j][k] = s.p.line.du_before[j][k] = s.p.d_mean[j]
    if run.cell.salt.cells == 0:
        read_flat(run, s)
    s.now_s = run.time_s[row]
    take_seen(run, s, slopes)
    keep_node(run, s, slopes)


cdef inline void read_flat(const Run* run, State* s) noexcept nogil:
    """Without electrolyte, its concentration is that of the beginning everywhere."""
    cdef double from_mol = 1e-3 * run.cell.numbers[C_0]
    s.seen[LOG_N] = s.seen[LOG_P] = log(from_mol)
    s.seen[MEAN_C] = from_mol


cdef inline void move_sphere(
    const Run* run, Particle* p, double h, double speed, double rise, const State* s,
    double by_t, int which_q, int which_tau, double capacity, bint slopes
) noexcept nogil:
    """Advance a particle of constant diffusivity, with its derivatives."""
    cdef double by_log_tau[EXPONENTIALS]
    cdef double d_log_tau, scale
    cdef int j, which
    prepare_sphere(&run.cell.sphere, &p.sphere, h, p.tau)
    if slopes:
        slope_by_time(&run.cell.sphere, &p.sphere, speed, rise, by_log_tau)
    p.sum = step_sphere(&run.cell.sphere, &p.sphere, speed, rise)
    if not slopes:
        return
    for j in range(run.count):
        which = run.free[j]
        if not run.cell.lumped and which != which_q and which != which_tau:
            continue
        scale = -1.0 / capacity if which == which_q else 0.0
        d_log_tau = (1.0 if which == which_tau else 0.0) - by_t * s.dt[j]
        step_sphere_slopes(&run.cell.sphere, &p.sphere, by_log_tau, d_log_tau, scale * speed,
                           scale * rise, j)


cdef inline void move_shells(
    const Run* run, const Line* line, const double* source, Particle* p, const Step* step,
    double speed, const State* s, double by_t, int which_q, int which_tau, double capacity,
    bint slopes
) noexcept nogil:
    """Advance a particle whose diffusivity varies, with its derivatives."""
    cdef double d_speed, d_log_tau
    cdef int j
    step_line(line, &p.line, step, 1.0 / p.tau, source, speed)
    if not slopes:
        return
    for j in range(run.count):
        d_speed = -speed / capacity if run.free[j] == which_q else 0.0
        d_log_tau = (1.0 if run.free[j] == which_tau else 0.0) - by_t * s.dt[j]
        step_slopes(line, &p.line, step, source, d_speed, -d_log_tau, j)


cdef inline void move_lines(
    const Run* run, State* s, const double* q, const Step* step, double amps, bint slopes
) noexcept nogil:
    """Advance shells and electrolyte by a step, at the temperature of its beginning."""
    cdef const Cell* cell = &run.cell
    cdef const double* m = cell.numbers
    cdef double slow = 1.0 / (s.temperature * s.temperature)
    cdef SaltStep salt_step
    cdef int j
    if cell.line_n.cells > 0:
        move_shells(run, &cell.line_n, cell.source_n, &s.n, step, amps / (3600.0 * q[Q_N]), s,
                    m[ACT_D_N] * slow, Q_N, TAU_N, q[Q_N], slopes)
    if cell.line_p.cells > 0:
        move_shells(run, &cell.line_p, cell.source_p, &s.p, step, -amps / (3600.0 * q[Q_P]), s,
                    m[ACT_D_P] * slow, Q_P, TAU_P, q[Q_P], slopes)
    if cell.salt.cells == 0 or run.is_salt_known:
        return
    salt_step = make_salt_step(step.h, s.last_h, s.earlier_h)
    step_salt(&cell.salt, &s.salt, &salt_step, s.salt_speed, amps)
    if slopes:
        for j in range(run.count):
            if run.moves_salt[j]:
                step_salt_slopes(
                    &cell.salt, &s.salt, &salt_step,
                    (1.0 if run.free[j] == D_E else 0.0) + m[ACT_D_E] * slow * s.dt[j], j)


cdef inline void move_spheres(
    const Run* run, State* s, const double* q, double h, double amps, double rise_A, bint slopes
) noexcept nogil:
    """Advance the particles that have a constant diffusivity."""
    cdef const double* m = run.cell.numbers
    cdef double slow = 1.0 / (s.temperature * s.temperature)
    cdef double by_n = 1.0 / (3600.0 * q[Q_N]), by_p = -1.0 / (3600.0 * q[Q_P])
    s.n.speed = (amps + 0.5 * rise_A) * by_n
    s.p.speed = (amps + 0.5 * rise_A) * by_p
    if run.cell.line_n.cells == 0:
        move_sphere(run, &s.n, h, amps * by_n, rise_A * by_n, s, m[ACT_D_N] * slow, Q_N, TAU_N,
                    q[Q_N], slopes)
    if run.cell.line_p.cells == 0:
        move_sphere(run, &s.p, h, amps * by_p, rise_A * by_p, s, m[ACT_D_P] * slow, Q_P, TAU_P,
                    q[Q_P], slopes)


cdef inline void find_surface(
    const Run* run, const Line* line, Particle* p, int seen, const State* s, double by_t,
    int which_q, int which_tau, double capacity, bint slopes
) noexcept nogil:
    """Set the stoichiometry at the particle's surface, with its derivatives."""
    cdef const Cell* cell = &run.cell
    cdef double d, slope, lift, d_log_tau, d_lift
    cdef int j, last
    if line.cells > 0:  # half the outermost shell, in which the flux is that at the surface
        last = line.cells - 1
        d = read_line(line.table, line.points, 1.0 / line.table_step, s.seen[seen], &slope)
        lift = line.couple[last] * p.tau * p.speed / d
        p.surface = s.seen[seen] + lift
    else:
        lift = cell.sphere.tail * p.tau * p.speed
        p.surface = p.mean + lift + p.sum
    if not slopes:
        return
    for j in range(run.count):
        d_log_tau = (1.0 if run.free[j] == which_tau else 0.0) - by_t * s.dt[j]
        d_lift = lift * (d_log_tau - (1.0 / capacity if run.free[j] == which_q else 0.0))
        if line.cells > 0:
            p.d_surface[j] = s.d_seen[j][seen] * (1.0 - lift * slope / d) + d_lift
            continue
        p.d_surface[j] = p.d_mean[j] + d_lift
        if cell.lumped or run.free[j] == which_q or run.free[j] == which_tau:
            p.d_surface[j] += sum_of(p.sphere.da[j], cell.sphere.count)


cdef inline Reading look(
    const Run* run, State* s, const double* q, double current_A, bint slopes, double* dv,
    double* dr
) noexcept nogil:
    """Read the cell; `dv` gets the voltage's derivatives, `dr` those of the resting voltage."""
    cdef const Cell* cell = &run.cell
    cdef const double* m = cell.numbers
    cdef double slow = 1.0 / (s.temperature * s.temperature)
    cdef double value
    cdef int j, k, which
    find_surface(run, &cell.line_n, &s.n, LAST_N, s, m[ACT_D_N] * slow, Q_N, TAU_N, q[Q_N],
                 slopes)
    find_surface(run, &cell.line_p, &s.p, LAST_P, s, m[ACT_D_P] * slow, Q_P, TAU_P, q[Q_P],
                 slopes)
    cdef Reading r = read_cell(cell, s, q, current_A)
    if not slopes:
        return r
    for j in range(run.count):
        which = run.free[j]
        dr[j] = (r.ocv_by_x * s.n.d_surface[j] + r.ocv_by_y * s.p.d_surface[j]
                 + r.entropy * s.dt[j])
        value = r.by_x * s.n.d_surface[j] + r.by_y * s.p.d_surface[j] + r.by_t * s.dt[j]
        if run.moves_salt[j]:
            for k in range(SALT):
                value += r.by_seen[k] * s.d_seen[j][k]
        if which == Q_N:
            value += r.by_rate_n / q[Q_N]
        elif which == Q_P:
            value += r.by_rate_p / q[Q_P]
        elif which == RATE_N:
            value += r.by_rate_n
        elif which == RATE_P:
            value += r.by_rate_p
        elif which == OHM:
            value += current_A
        elif which == KAPPA:
            value += r.by_kappa
        dv[j] = value
    return r


cdef inline double next_step(
    const Run* run, const State* s, double left_s, bint is_ramp
) noexcept nogil:
    """Return the next step in time, with `left_s` to go."""
    cdef double h = run.first_s
    if s.last_h > 0.0:
        h = min(run.growth * s.last_h, max(run.most_s, run.share * s.since))
    if s.most_h > 0.0:
        h = min(h, s.most_h)
    if h >= left_s or (is_ramp and left_s <= 2.1 * s.last_h):
        return left_s
    return 0.5 * left_s if h > 0.6 * left_s else h


cdef inline Stretch find_stretch(const Run* run, Py_ssize_t row) noexcept nogil:
    """Return the rows from this one on over which its current flows."""
    cdef Stretch found
    cdef double first = run.current_A[row], moved
    cdef Py_ssize_t last = row
    found.rise_A = 0.0
    found.is_ramp = run.flags[row] & RAMP != 0 and not run.cell.lumped
    if found.is_ramp:
        found.rise_A = first - run.current_A[row - 1]
    elif not run.cell.lumped:
        while (last + 1 < run.rows and not run.flags[last + 1] & (RELAXED | RAMP)
               and fabs(run.current_A[last + 1] - first) * SAME <= run.most_A):
            last += 1
    found.last = last
    found.end_s = run.time_s[last]
    found.length_s = found.end_s - run.time_s[row - 1]
    moved = 3600.0 * (run.charge_Ah[last] - run.charge_Ah[row - 1])
    found.mean_A = moved / found.length_s if found.length_s > 0.0 else first
    return found


cdef inline void begin_stretch(
    const Run* run, State* s, const Stretch* now, double before_A, bint slopes
) noexcept nogil:
    """Take small steps again if the current jumps."""
    cdef double jump = fabs(now.mean_A - 0.5 * now.rise_A - before_A)
    if jump * JUMP > run.most_A:
        s.last_h = s.earlier_h = s.since = 0.0
        forget_nodes(run, s, slopes)
    elif jump * SAME > run.most_A:
        s.most_h = min(s.last_h, 10.0 * run.first_s)


cdef inline void advance(
    const Run* run, State* s, const double* q, Py_ssize_t row, const Stretch* now, bint slopes
) noexcept nogil:
    """Advance from the row before to this row, the temperature being given."""
    cdef double whole = run.time_s[row] - run.time_s[row - 1]
    cdef double mean_A, h, left_s, amps
    cdef Step step
    cdef int guard
    s.temperature = run.temperature_K[row]
    set_warmth(run, s, q)
    if not whole > 0.0:
        return
    set_means(run, s, q, row, charge_of(run, q, row), slopes)
    mean_A = (run.charge_Ah[row] - run.charge_Ah[row - 1]) * 3600.0 / whole
    move_spheres(run, s, q, whole, mean_A, now.rise_A, slopes)
    if not run.has_lines:
        return
    for guard in range(100000):
        left_s = now.end_s - s.now_s
        if s.now_s >= run.time_s[row] or not left_s > 0.0:
            break
        h = next_step(run, s, left_s, now.is_ramp)
        step = make_step(h, s.last_h)
        amps = now.mean_A
        if now.rise_A != 0.0:
            # what flows at the end of the step, as the formula has it
            amps += now.rise_A * (0.5 - (left_s - h) / now.length_s)
        move_lines(run, s, q, &step, amps, slopes)
        s.now_s = now.end_s if h >= left_s else s.now_s + h
        s.earlier_h = s.last_h
        s.last_h = h
        s.since += h
        s.most_h = 0.0
        take_seen(run, s, slopes)
        keep_node(run, s, slopes)


cdef inline void advance_warming(
    const Run* run, State* s, const double* q, Py_ssize_t row, const Stretch* now, bint slopes
) noexcept nogil:
    """Advance from the row before to this row together with the lumped temperature."""
    cdef double whole = run.time_s[row] - run.time_s[row - 1]
    cdef double h, done = 0.0, share
    cdef double begun = charge_of(run, q, row - 1), ended = charge_of(run, q, row)
    cdef Step step
    cdef int guard
    if not whole > 0.0:
        return
    for guard in range(100000):
        if done >= whole:
            break
        h = next_step(run, s, whole - done, False)
        step = make_step(h, s.last_h)
        done = whole if h >= whole - done else done + h
        move_spheres(run, s, q, h, now.mean_A, 0.0, slopes)
        if run.has_lines:
            move_lines(run, s, q, &step, now.mean_A, slopes)
        share = done / whole
        set_means(run, s, q, row, begun + share * (ended - begun), slopes)
        take_seen(run, s, slopes)
        warm_up(run, s, q, now.mean_A, run.temperature_K[row], h, slopes)
        set_warmth(run, s, q)
        s.earlier_h = s.last_h
        s.last_h = h
        s.since += h
        s.most_h = 0.0


cdef inline void warm_up(
    const Run* run, State* s, const double* q, double current_A, double ambient_K, double h,
    bint slopes
) noexcept nogil:
    """Advance the lumped temperature: what is dissipated, less what the air takes."""
    cdef double dv[MOST_P]
    cdef double dr[MOST_P]
    cdef Reading r = look(run, s, q, current_A, slopes, dv, dr)
    cdef double T = s.temperature
    cdef double heat = exp(q[HEAT]), cool = exp(q[COOL])
    cdef double a = h * cool / heat
    cdef double left = exp(-a)
    cdef double phi = -expm1(-a) / a if a > 1e-12 else 1.0
    cdef double power_W = current_A * (r.voltage - r.resting + T * r.entropy)
    cdef double d_power, gain = h / heat
    cdef double net = power_W - cool * (T - ambient_K)
    cdef double by_a = (left - phi) / a if a > 1e-6 else -0.5
    cdef int j
    s.temperature = T + gain * phi * net
    if not slopes:
        return
    for j in range(run.count):
        d_power = current_A * (
            dv[j] - dr[j] + s.dt[j] * r.entropy
            + T * (r.entropy_by_x * s.n.d_surface[j] + r.entropy_by_y * s.p.d_surface[j]))
        s.dt[j] += gain * phi * (d_power - cool * s.dt[j])
        if run.free[j] == COOL:
            s.dt[j] += gain * (by_a * a * net - phi * cool * (T - ambient_K))
        elif run.free[j] == HEAT:
            s.dt[j] -= gain * net * (phi + by_a * a)
