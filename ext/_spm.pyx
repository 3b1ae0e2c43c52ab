# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Single-particle models, without and with electrolyte, with derivatives. No checks here.

Each electrode is a sphere that takes the mean flux: by exponentials, exactly, where the
diffusivity is constant, else by finite volumes. The electrolyte is a line of finite volumes with
a diffusivity that depends on its concentration; potentials are those of the composite model
(S. G. Marquis, V. Sulzer, R. Timms, C. P. Please, S. J. Chapman, J. Electrochem. Soc. 166
(2019) A3693). The temperature is given row by row, or that of one lumped node. A row's current
has flowed since the row before. `batterylab.fit.spm` checks what goes in.
"""

from libc.math cimport exp, expm1, fabs, isfinite
from libc.string cimport memcpy, memset

from diffusion cimport (
    CELLS, EXPONENTIALS, MOST_P, Line, LineState, Sphere, Step, make_step, step_line,
    step_slopes, step_sphere, step_sphere_slopes,
)
from levmar cimport Outcome, Problem, best_of
from ocv_tables cimport read_smoothly
from spm_cell cimport (
    ACT_D_E, ACT_D_N, ACT_D_P, AREA, C_0, COOL, D_0, D_E, HEAT, KAPPA, OHM, PARAMETERS, Q_N,
    Q_P, RATE_N, RATE_P, SOURCE, TAU_N, TAU_P, X_0, Y_0, Cell, Particle, Reading, State,
    read_cell,
)


cdef struct Run:
    Cell cell
    const double* time_s
    const double* current_A
    const double* charge_Ah
    const double* temperature_K     # of the cell, or around it if the heat is lumped
    const double* voltage_V         # NULL: the residual is the voltage itself
    const unsigned char* flags      # 1: observed; 2: relaxed, a new beginning
    Py_ssize_t rows
    const double* base              # all parameters
    const int* free                 # which of them are fitted
    int count
    double* out_K                   # NULL, or the temperature in every row
    double* salt                    # NULL, or the electrolyte in each observed row
    bint is_salt_known              # `salt` is filled: no fitted parameter touches it
    double first_s                  # steps in time after a change of current
    double growth
    double most_s


cdef void settle(const Run* run, State* s, const double* q, Py_ssize_t row) noexcept nogil:
    """Begin anew: everything in equilibrium at the charge of a row."""
    cdef int j, k
    cdef double x = q[X_0] + run.charge_Ah[row] / q[Q_N]
    cdef double y = q[Y_0] - run.charge_Ah[row] / q[Q_P]
    memset(s, 0, sizeof(State))
    s.temperature = run.temperature_K[row]
    s.n.mean = x
    s.p.mean = y
    s.n.sphere.last_h = -1.0
    s.p.sphere.last_h = -1.0
    for k in range(run.cell.salt.cells):
        s.salt.u[k] = s.salt.before[k] = run.cell.numbers[C_0]
    for k in range(run.cell.line_n.cells):
        s.n.line.u[k] = s.n.line.before[k] = x
    for k in range(run.cell.line_p.cells):
        s.p.line.u[k] = s.p.line.before[k] = y
    set_means(run, s, q, row)
    for j in range(run.count):
        for k in range(run.cell.line_n.cells):
            s.n.line.du[j][k] = s.n.line.du_before[j][k] = s.n.d_mean[j]
        for k in range(run.cell.line_p.cells):
            s.p.line.du[j][k] = s.p.line.du_before[j][k] = s.p.d_mean[j]


cdef void set_means(const Run* run, State* s, const double* q, Py_ssize_t row) noexcept nogil:
    """Set the mean stoichiometries of a row, from the charge counted."""
    cdef double moved = run.charge_Ah[row]
    cdef int j, which
    s.n.mean = q[X_0] + moved / q[Q_N]
    s.p.mean = q[Y_0] - moved / q[Q_P]
    for j in range(run.count):
        which = run.free[j]
        s.n.d_mean[j] = 1.0 if which == X_0 else (
            -moved / (q[Q_N] * q[Q_N]) if which == Q_N else 0.0)
        s.p.d_mean[j] = 1.0 if which == Y_0 else (
            moved / (q[Q_P] * q[Q_P]) if which == Q_P else 0.0)


cdef void move_particle(
    const Run* run, const Line* line, const double* source, Particle* p, const Step* step,
    double log_tau, double warm, double by_t, const double* dt, int which_q, int which_tau,
    double capacity, bint slopes
) noexcept nogil:
    """Advance one particle and its derivatives."""
    cdef double by_log_tau[EXPONENTIALS]
    cdef double by_speed[EXPONENTIALS]
    cdef double tau = exp(log_tau - warm)
    cdef bint varies = run.cell.lumped or line.cells > 0
    cdef int j
    if line.cells:
        step_line(line, &p.line, step, 1.0 / tau, source, p.speed)
    else:
        step_sphere(&run.cell.sphere, &p.sphere, step.h, tau, p.speed, by_log_tau, by_speed)
    if not slopes:
        return
    for j in range(run.count):
        p.d_speed[j] = -p.speed / capacity if run.free[j] == which_q else 0.0
        p.d_log_tau[j] = (1.0 if run.free[j] == which_tau else 0.0) - by_t * dt[j]
        if not varies and run.free[j] != which_q and run.free[j] != which_tau:
            continue
        if line.cells:
            step_slopes(line, &p.line, step, source, p.d_speed[j], -p.d_log_tau[j], j)
        else:
            step_sphere_slopes(&run.cell.sphere, &p.sphere, by_log_tau, by_speed,
                               p.d_log_tau[j], p.d_speed[j], j)


cdef void move_all(
    const Run* run, State* s, const double* q, const Step* step, double mean_A, bint particles,
    bint salt, bint slopes
) noexcept nogil:
    """Advance particles and electrolyte by a step, at the temperature of its beginning."""
    cdef const Cell* cell = &run.cell
    cdef const double* m = cell.numbers
    cdef double T = s.temperature
    cdef double warm = 1.0 / cell.t_ref - 1.0 / T
    cdef double slow = 1.0 / (T * T)
    cdef int j
    if particles:
        s.n.speed = mean_A / (3600.0 * q[Q_N])
        s.p.speed = -mean_A / (3600.0 * q[Q_P])
        move_particle(run, &cell.line_n, cell.source_n, &s.n, step, q[TAU_N],
                      m[ACT_D_N] * warm, m[ACT_D_N] * slow, s.dt, Q_N, TAU_N, q[Q_N], slopes)
        move_particle(run, &cell.line_p, cell.source_p, &s.p, step, q[TAU_P],
                      m[ACT_D_P] * warm, m[ACT_D_P] * slow, s.dt, Q_P, TAU_P, q[Q_P], slopes)
    if not salt:
        return
    step_line(&cell.salt, &s.salt, step, exp(q[D_E] + m[ACT_D_E] * warm), cell.source_e, mean_A)
    if slopes:
        for j in range(run.count):
            if run.free[j] == D_E or cell.lumped:
                step_slopes(&cell.salt, &s.salt, step, cell.source_e, 0.0,
                            (1.0 if run.free[j] == D_E else 0.0) + m[ACT_D_E] * slow * s.dt[j],
                            j)


cdef void find_surface(
    const Run* run, const Line* line, Particle* p, double log_tau, double warm, bint slopes
) noexcept nogil:
    """Set the stoichiometry at the particle's surface, with its derivatives."""
    cdef int j, k, last
    cdef double tau = exp(log_tau - warm)
    cdef double d, slope, lift
    cdef const Sphere* sphere = &run.cell.sphere
    if line.cells:
        last = line.cells - 1
        d = read_smoothly(line.table, line.points, 0.0, line.table_step, p.line.u[last], &slope)
        # half the outermost shell, in which the flux is that through the surface
        lift = line.couple[last] * tau * p.speed / d
        p.surface = p.line.u[last] + lift
        if slopes:
            for j in range(run.count):
                p.d_surface[j] = p.line.du[j][last] * (1.0 - lift * slope / d)
                p.d_surface[j] += lift * p.d_log_tau[j]
                p.d_surface[j] += line.couple[last] * tau / d * p.d_speed[j]
        return
    p.surface = p.mean + sphere.tail * tau * p.speed
    for k in range(sphere.count):
        p.surface += p.sphere.a[k]
    if slopes:
        for j in range(run.count):
            p.d_surface[j] = p.d_mean[j] + sphere.tail * tau * (
                p.d_speed[j] + p.speed * p.d_log_tau[j])
            for k in range(sphere.count):
                p.d_surface[j] += p.sphere.da[j][k]


cdef Reading look(
    const Run* run, State* s, const double* q, double current_A, bint slopes, double* dv,
    double* dr
) noexcept nogil:
    """Read the cell; `dv` gets the voltage's derivatives, `dr` those of the resting voltage."""
    cdef const Cell* cell = &run.cell
    cdef const double* m = cell.numbers
    cdef double warm = 1.0 / cell.t_ref - 1.0 / s.temperature
    cdef double value
    cdef int j, k, which
    find_surface(run, &cell.line_n, &s.n, q[TAU_N], m[ACT_D_N] * warm, slopes)
    find_surface(run, &cell.line_p, &s.p, q[TAU_P], m[ACT_D_P] * warm, slopes)
    cdef Reading r = read_cell(cell, s, q, current_A, slopes)
    if not slopes:
        return r
    for j in range(run.count):
        which = run.free[j]
        dr[j] = (r.ocv_by_x * s.n.d_surface[j] + r.ocv_by_y * s.p.d_surface[j]
                 + r.entropy * s.dt[j])
        value = r.by_x * s.n.d_surface[j] + r.by_y * s.p.d_surface[j] + r.by_t * s.dt[j]
        if which == D_E or cell.lumped:
            for k in range(cell.salt.cells):
                value += r.by_c[k] * s.salt.du[j][k]
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


cdef void warm_up(
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


cdef double advance(
    const Run* run, State* s, const double* q, Py_ssize_t row, double last_h, bint slopes
) noexcept nogil:
    """Advance from the row before to this row; return the last step in time."""
    cdef double whole = run.time_s[row] - run.time_s[row - 1]
    cdef double mean_A, h, done = 0.0
    cdef bint salt = run.cell.salt.cells > 0 and not run.is_salt_known
    cdef bint lines = run.cell.line_n.cells > 0 or run.cell.line_p.cells > 0
    cdef bint stepped = salt or lines or run.cell.lumped
    cdef Step step
    cdef int guard
    if whole <= 0.0:
        return last_h
    mean_A = (run.charge_Ah[row] - run.charge_Ah[row - 1]) * 3600.0 / whole
    if not run.cell.lumped:
        s.temperature = run.temperature_K[row]
    set_means(run, s, q, row)
    if not (lines or run.cell.lumped):
        step = make_step(whole, 0.0)
        move_all(run, s, q, &step, mean_A, True, False, slopes)
    for guard in range(100000):
        if not stepped or done >= whole:
            break
        h = run.first_s
        if last_h > 0.0:
            h = min(run.growth * last_h, max(run.most_s, 0.02 * s.since))
        if h >= whole - done:
            h = whole - done
        elif h > 0.6 * (whole - done):
            h = 0.5 * (whole - done)
        step = make_step(h, last_h)
        done = whole if h >= whole - done else done + h
        move_all(run, s, q, &step, mean_A, lines or run.cell.lumped, salt, slopes)
        if run.cell.lumped:
            if not lines:
                hold_means(run, s, q, row, done / whole)
            warm_up(run, s, q, mean_A, run.temperature_K[row], h, slopes)
        last_h = h
        s.since += h
    if run.cell.lumped:
        set_means(run, s, q, row)
    return last_h


cdef void hold_means(
    const Run* run, State* s, const double* q, Py_ssize_t row, double share
) noexcept nogil:
    """Set the mean stoichiometries part of the way to a row."""
    cdef double moved = run.charge_Ah[row - 1] + share * (
        run.charge_Ah[row] - run.charge_Ah[row - 1])
    cdef int j, which
    s.n.mean = q[X_0] + moved / q[Q_N]
    s.p.mean = q[Y_0] - moved / q[Q_P]
    for j in range(run.count):
        which = run.free[j]
        if which == Q_N:
            s.n.d_mean[j] = -moved / (q[Q_N] * q[Q_N])
        elif which == Q_P:
            s.p.d_mean[j] = moved / (q[Q_P] * q[Q_P])


cdef void evaluate(
    const void* data, const double* p, double* residual, double* jacobian
) noexcept nogil:
    cdef const Run* run = <const Run*>data
    cdef State s
    cdef double q[PARAMETERS]
    cdef double dv[MOST_P]
    cdef double dr[MOST_P]
    cdef double last_h = 0.0, last_A = 0.0, mean_A
    cdef double* kept
    cdef bint slopes = jacobian != NULL
    cdef Py_ssize_t row, seen = 0
    cdef int j
    cdef Reading r
    for j in range(PARAMETERS):
        q[j] = run.base[j]
    for j in range(run.count):
        q[run.free[j]] = p[j]
    for row in range(run.rows):
        if row == 0 or run.flags[row] & 2:
            settle(run, &s, q, row)
            last_h = 0.0
            last_A = 0.0
        else:
            mean_A = run.current_A[row]
            if fabs(mean_A - last_A) > 1e-3 * (fabs(mean_A) + fabs(last_A)) + 1e-12:
                last_h = 0.0
                s.since = 0.0
            last_A = mean_A
            last_h = advance(run, &s, q, row, last_h, slopes)
        if run.out_K != NULL:
            run.out_K[row] = s.temperature
        if not run.flags[row] & 1:
            continue
        if run.salt != NULL:
            kept = run.salt + seen * run.cell.salt.cells
            if run.is_salt_known:
                memcpy(s.salt.u, kept, run.cell.salt.cells * sizeof(double))
            else:
                memcpy(kept, s.salt.u, run.cell.salt.cells * sizeof(double))
        r = look(run, &s, q, run.current_A[row], slopes, dv, dr)
        residual[seen] = r.voltage - (run.voltage_V[row] if run.voltage_V != NULL else 0.0)
        if slopes:
            for j in range(run.count):
                jacobian[seen * run.count + j] = dv[j]
        seen += 1


cdef class Model:
    """A cell's tables, as the kernel reads them; keeps the arrays alive."""

    cdef Cell cell
    cdef object arrays
    cdef double first_s, growth, most_s

    def __init__(
        self, const double[::1] numbers, const double[:, ::1] curves, double t_ref,
        const double[:, ::1] electrolyte, double e_step, const double[:, ::1] sphere,
        double tail, const double[:, ::1] line_n, const double[:, ::1] line_p,
        const double[:, ::1] salt, const double[:, ::1] diffusivity, int cells_n, int cells_p,
        bint lumped, double first_s, double growth, double most_s
    ):
        cdef Cell* cell = &self.cell
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
        cell.cells_n = cells_n
        cell.cells_p = cells_p
        cell.line_n.cells = cell.line_p.cells = cell.salt.cells = 0
        if line_n.shape[1] > 1:
            set_line(&cell.line_n, line_n, &diffusivity[0, 0], diffusivity.shape[1])
            cell.source_n = &line_n[2, 0]
        if line_p.shape[1] > 1:
            set_line(&cell.line_p, line_p, &diffusivity[1, 0], diffusivity.shape[1])
            cell.source_p = &line_p[2, 0]
        if salt.shape[1] > 1:
            set_line(&cell.salt, salt, &electrolyte[0, 0], electrolyte.shape[1])
            cell.salt.table_step = e_step
            cell.source_e = &salt[2, 0]
            cell.share = &salt[3, 0]


cdef void set_line(Line* line, const double[:, ::1] rows, const double* table,
                   Py_ssize_t points):
    line.cells = rows.shape[1]
    line.volume = &rows[0, 0]
    line.couple = &rows[1, 0]
    line.table = table
    line.points = points
    line.table_step = 1.0 / (points - 1)


cdef Run make_run(
    Model model, const double[:, ::1] data, const unsigned char[::1] flags,
    const double[::1] base, const int[::1] free
):
    cdef Run run
    run.cell = model.cell
    run.time_s = &data[0, 0]
    run.current_A = &data[1, 0]
    run.charge_Ah = &data[2, 0]
    run.temperature_K = &data[3, 0]
    run.voltage_V = NULL
    run.flags = &flags[0]
    run.rows = data.shape[1]
    run.base = &base[0]
    run.free = &free[0]
    run.count = free.shape[0]
    run.out_K = NULL
    run.salt = NULL
    run.is_salt_known = False
    run.first_s = model.first_s
    run.growth = model.growth
    run.most_s = model.most_s
    return run


def voltage(
    Model model, const double[:, ::1] data, const unsigned char[::1] flags,
    const double[::1] base, const int[::1] free, double[::1] out_V, double[:, ::1] out_jacobian,
    double[::1] out_K
):
    """Fill the voltage of the observed rows, its derivatives if wanted, and temperatures."""
    cdef Run run = make_run(model, data, flags, base, free)
    cdef double p[MOST_P]
    cdef double* jacobian = NULL
    cdef int j
    for j in range(run.count):
        p[j] = base[free[j]]
    run.out_K = &out_K[0]
    if out_jacobian.shape[0] == out_V.shape[0]:
        jacobian = &out_jacobian[0, 0]
    with nogil:
        evaluate(&run, p, &out_V[0], jacobian)


def fit(
    Model model, const double[:, ::1] data, const unsigned char[::1] flags,
    const double[::1] base, const int[::1] free, const double[:, ::1] starts,
    const double[::1] lower, const double[::1] upper, double[::1] parameters,
    double[::1] residual, double[::1] trial, double[:, ::1] jacobian, int most_steps,
    double tolerance, double[:, ::1] salt
):
    """Fit the free parameters from every start; `data` holds the voltage in its fifth row.

    `salt` keeps the electrolyte of the observed rows where no fitted parameter touches it; it
    has no rows where one does.

    Returns the status of `levmar.pxd`, the number of steps and half the sum of squares.
    """
    cdef Run run = make_run(model, data, flags, base, free)
    cdef Problem problem
    cdef Outcome outcome
    run.voltage_V = &data[4, 0]
    problem.model = evaluate
    problem.data = &run
    problem.rows = residual.shape[0]
    problem.parameters = free.shape[0]
    problem.lower = &lower[0]
    problem.upper = &upper[0]
    problem.residual = &residual[0]
    problem.trial = &trial[0]
    problem.jacobian = &jacobian[0, 0]
    problem.most_steps = most_steps
    problem.tolerance = tolerance
    with nogil:
        if salt.shape[0] == residual.shape[0]:
            run.salt = &salt[0, 0]
            evaluate(&run, &starts[0, 0], &trial[0], NULL)
            run.is_salt_known = True
        outcome = best_of(&problem, &starts[0, 0], starts.shape[0], &parameters[0])
    return outcome.status, outcome.steps, outcome.cost
