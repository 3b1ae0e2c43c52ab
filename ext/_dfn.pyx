# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The Doyle-Fuller-Newman model, with derivatives. No checks here.

Porous electrodes of spheres with an electrolyte between (M. Doyle, T. F. Fuller, J. Newman,
J. Electrochem. Soc. 140 (1993) 1526), finite volumes through the cell, particles by exponentials
or shells, second order in time. The steps are chosen from the voltage's curvature once and can be
kept, so that neighbouring parameters take the same ones; rows between them are interpolated. The
temperature is given row by row. A row's current has flowed since the row before.
`batterylab.fit.dfncell` checks what goes in.
"""

from libc.math cimport NAN, fabs, isfinite, pow, sqrt
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from dfn_cell cimport PARAMETERS, SHIFT_1, SHIFT_7, X_0, Y_0, Cell
from dfn_path cimport (
    Plan, Points, State, accept, drop_state, grow_points, guessed_volts, keep_step, make_state,
    relax, try_step, weights_of,
)
from dfn_tables cimport set_cell
from diffusion cimport MOST_P
from batterylab._kernels._tasks cimport Job, Task
from levmar cimport NOT_FINITE, best_of


cdef enum:
    PART = 4         # bits of a row's flags below its part

cdef double STRAIN = 3e-3   # of a step: see `strain_of`


cdef struct Run:
    Cell cell
    const double* time_s
    const double* current_A
    const double* charge_Ah
    const double* temperature_K
    const double* voltage_V         # NULL: the residual is the voltage itself
    const unsigned char* flags      # 1: observed; 2: relaxed, a new beginning; else its part
    Py_ssize_t rows
    const double* base              # all parameters
    const int* which                # of them are fitted
    int count
    double first_s                  # step in time after a change of current
    double growth
    double tolerance_V              # of a step
    double share
    State* state
    Points* points
    Plan* plan
    Py_ssize_t steps                # that were tried


cdef double between(
    const Run* run, const double* column, Py_ssize_t* at, double t
) noexcept nogil:
    """Read a column at a time, straight between rows; `at` is the row before, moved on."""
    cdef double left, right
    while at[0] + 2 < run.rows and run.time_s[at[0] + 1] < t:
        at[0] += 1
    left = run.time_s[at[0]]
    right = run.time_s[at[0] + 1]
    if not right > left or t >= right:
        return column[at[0] + 1]
    return column[at[0]] + (column[at[0] + 1] - column[at[0]]) * (t - left) / (right - left)


cdef double next_end(
    const Run* run, const Plan* plan, Py_ssize_t* at, Py_ssize_t stop, double t, double end,
    double h
) noexcept nogil:
    """Return when the next step shall end: as planned, or after `h`."""
    cdef double left = end - t
    while plan.is_kept and at[0] < stop:
        at[0] += 1
        if plan.t[at[0] - 1] > t:
            return min(plan.t[at[0] - 1], end)
    if h >= 0.999 * left:
        return end
    return t + (0.5 * left if h > 0.6 * left else h)


cdef double next_length(const Run* run, const State* s, double volts, double h) noexcept nogil:
    """Return the next step's length.

    From how far the voltage lies from its extrapolation, and the particles' from theirs.
    """
    cdef double off, most = run.growth
    if s.strain > 0.05 * STRAIN:
        most = min(most, max(0.2, 0.85 * sqrt(sqrt(STRAIN / s.strain))))
    if s.since < 3:
        return most * h
    off = 0.2 * fabs(volts - guessed_volts(s, h)) / (
        run.tolerance_V * max(1.0, 0.2 * fabs(volts)))
    if off < 0.05:
        return most * h
    return h * min(most, max(0.2, 0.85 * pow(off, -1.0 / 3.0)))


cdef void run_segment(
    Run* run, const double* q, Py_ssize_t row, Py_ssize_t last, Py_ssize_t segment, int count
) noexcept nogil:
    """Step from a row to another at one current; the ends of the steps go to `points`."""
    cdef State* s = run.state
    cdef Points* points = run.points
    cdef Plan* plan = run.plan
    cdef double t = run.time_s[row], end = run.time_s[last], begun = t
    cdef double h, volts, goal, moved, next_s, charge = run.charge_Ah[row]
    cdef Py_ssize_t at = row, warm = row, planned = 0, stop = 0
    cdef Py_ssize_t here = row + 1
    cdef double least = 1e-9 * (end - t) + 1e-12 * fabs(end)
    if plan.is_kept and segment < plan.segments:
        planned = plan.first[segment]
        stop = plan.first[segment + 1]
    s.since = 0
    points.used = 0
    while here < last and not (run.flags[here] & 1 and run.time_s[here] > begun):
        here += 1
    next_s = min(run.first_s, run.time_s[here] - begun)  # no row is read before the first end
    while t < end:
        goal = next_end(run, plan, &planned, stop, t, end, next_s)
        while t < goal:
            run.steps -= 1
            h = goal - t
            if run.steps < 0 or not grow_points(points):
                s.is_lost = True
                return
            here = at
            moved = between(run, run.charge_Ah, &here, goal)
            volts = try_step(&run.cell, s, q, h, -3600.0 * (moved - charge) / h,
                             between(run, run.temperature_K, &warm, goal), run.share, count > 0)
            if not isfinite(volts):
                goal = t + 0.25 * h
                if h < least or h < 1e-5:
                    s.is_lost = True
                    return
                next_s = 0.25 * h
                warm = row
                continue
            if plan.is_kept:
                next_s = max(next_s, h)
            else:
                next_s = next_length(run, s, volts, h)
                next_s = max(next_s, 5e-4 * (goal - begun))
                if next_s < 0.5 * h and (h > run.first_s or s.strain > 4.0 * STRAIN):
                    goal = t + next_s
                    warm = row
                    continue
            accept(&run.cell, s, q, h, volts, run.which, count, points.dv + points.used * count)
            at = here
            charge = moved
            t = goal
            points.s[points.used] = sqrt(t - begun)
            points.v[points.used] = volts
            points.used += 1
            if not plan.is_kept and not keep_step(plan, t):
                s.is_lost = True
                return


cdef void put(
    const Run* run, Py_ssize_t row, Py_ssize_t seen, double volts, double* residual
) noexcept nogil:
    residual[seen] = volts - (run.voltage_V[row] if run.voltage_V != NULL else 0.0)


cdef Py_ssize_t read_segment(
    const Run* run, Py_ssize_t row, Py_ssize_t last, Py_ssize_t seen, double* residual,
    double* jacobian
) noexcept nogil:
    """Interpolate the rows after `row`; return how many are observed up to `last`."""
    cdef const Points* p = run.points
    cdef double weights[4]
    cdef double volts, since, reached = p.s[p.used - 1] if p.used else -1.0
    cdef Py_ssize_t r, near, begin = 0
    cdef int i, j, many
    for r in range(row + 1, last + 1):
        if not run.flags[r] & 1:
            continue
        since = sqrt(run.time_s[r] - run.time_s[row])
        if since > reached * (1.0 + 1e-12):
            put(run, r, seen, NAN, residual)
            if jacobian != NULL:
                for j in range(run.count):
                    jacobian[seen * run.count + j] = NAN
            seen += 1
            continue
        near = begin
        many = weights_of(p, since, &near, weights)
        begin = near
        volts = 0.0
        for i in range(many):
            volts += weights[i] * p.v[near + i]
        put(run, r, seen, volts, residual)
        if jacobian != NULL:
            for j in range(run.count):
                volts = 0.0
                for i in range(many):
                    volts += weights[i] * p.dv[(near + i) * run.count + j]
                jacobian[seen * run.count + j] = volts
        seen += 1
    return seen


cdef void stand_still(Run* run, const double* q, Py_ssize_t row, int count) noexcept nogil:
    """Find the voltage in the moment a row's current begins to flow."""
    cdef State* s = run.state
    cdef double volts
    run.points.used = 0
    s.since = 0
    if not grow_points(run.points):
        s.is_lost = True
        return
    volts = try_step(&run.cell, s, q, 0.0, -run.current_A[row], run.temperature_K[row], 1.0,
                     count > 0)
    if not isfinite(volts):
        s.is_lost = True
        return
    accept(&run.cell, s, q, 0.0, volts, run.which, count, run.points.dv)
    s.since = 0
    run.points.s[0] = 0.0
    run.points.v[0] = volts
    run.points.used = 1


cdef Py_ssize_t last_alike(const Run* run, Py_ssize_t row) noexcept nogil:
    """Return the last row up to which the current after `row` stays the same."""
    cdef Py_ssize_t last = row + 1
    cdef double a, b
    while last + 1 < run.rows and not run.flags[last + 1] & 2:
        a = run.current_A[last]
        b = run.current_A[last + 1]
        if fabs(a - b) > 1e-3 * (fabs(a) + fabs(b)) + 1e-12:
            break
        last += 1
    return last


cdef void evaluate(
    const void* data, const double* p, double* residual, double* jacobian
) noexcept nogil:
    cdef Run* run = <Run*>data
    cdef double q[PARAMETERS]
    cdef int count = run.count if jacobian != NULL else 0
    cdef Py_ssize_t row = 0, last, seen = 0, segment = 0
    cdef int j, part
    for j in range(PARAMETERS):
        q[j] = run.base[j]
    for j in range(run.count):
        q[run.which[j]] = p[j]
    run.steps = 20 * run.rows + 20000
    if not run.plan.is_kept:
        run.plan.used = 0
    while row < run.rows:
        if row == 0 or run.flags[row] & 2:
            part = run.flags[row] >> PART
            run.state.shift = SHIFT_1 + part - 1 if 0 < part <= SHIFT_7 - SHIFT_1 + 1 else 0
            relax(&run.cell, run.state, q, run.charge_Ah[row], run.which, count, X_0, Y_0)
            if run.flags[row] & 1:
                stand_still(run, q, row, count)
                seen = read_segment_at(run, row, seen, residual, jacobian)
        if row + 1 >= run.rows:
            break
        if run.flags[row + 1] & 2:
            row += 1
            continue
        last = last_alike(run, row)
        if not run.plan.is_kept:
            run.plan.first[segment] = run.plan.used
        run.points.used = 0
        if not run.state.is_lost:
            if run.time_s[last] > run.time_s[row]:
                run_segment(run, q, row, last, segment, count)
            else:
                stand_still(run, q, last, count)
        seen = read_segment(run, row, last, seen, residual, jacobian)
        segment += 1
        row = last
    if not run.plan.is_kept:
        run.plan.first[segment] = run.plan.used
        run.plan.segments = segment


cdef Py_ssize_t read_segment_at(
    const Run* run, Py_ssize_t row, Py_ssize_t seen, double* residual, double* jacobian
) noexcept nogil:
    """Read the one row in which the cell is relaxed."""
    cdef bint is_found = run.points.used > 0
    cdef int j
    put(run, row, seen, run.points.v[0] if is_found else NAN, residual)
    if jacobian != NULL:
        for j in range(run.count):
            jacobian[seen * run.count + j] = run.points.dv[j] if is_found else NAN
    return seen + 1


cdef class Model:
    """A cell's tables, as the kernel reads them; keeps the arrays alive."""

    cdef Cell cell
    cdef object arrays
    cdef double first_s, growth, tolerance_V, share

    def __init__(
        self, const double[::1] numbers, const double[:, :, ::1] curves,
        const double[:, ::1] entropy, double t_ref, const double[:, :, ::1] salt, double root_0,
        double root_step, const double[:, ::1] nodes, int count_n, int count_p,
        const double[:, ::1] sphere, double tail, const double[:, ::1] line_n,
        const double[:, ::1] line_p, const double[:, :, ::1] diffusivity, double first_s,
        double growth, double tolerance_V, double share
    ):
        self.arrays = (numbers, curves, entropy, salt, nodes, sphere, line_n, line_p, diffusivity)
        self.first_s, self.growth = first_s, growth
        self.tolerance_V, self.share = tolerance_V, share
        set_cell(&self.cell, numbers, curves, entropy, t_ref, salt, root_0, root_step, nodes,
                 count_n, count_p, sphere, tail, line_n, line_p, diffusivity)


cdef class Steps:
    """Ends of steps that a run chose, for other runs over the same rows."""

    cdef Plan plan
    cdef readonly Py_ssize_t rows

    def __cinit__(self, Py_ssize_t rows):
        memset(&self.plan, 0, sizeof(Plan))
        self.rows = rows
        self.plan.first = <Py_ssize_t*>malloc((rows + 1) * sizeof(Py_ssize_t))
        if self.plan.first == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.plan.t)
        free(self.plan.first)

    @property
    def count(self):
        """How many steps were chosen."""
        return self.plan.used


cdef Run make_run(
    Model model, const double[:, ::1] data, const unsigned char[::1] flags,
    const double[::1] base, const int[::1] which
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
    run.which = &which[0]
    run.count = which.shape[0]
    run.first_s = model.first_s
    run.growth = model.growth
    run.tolerance_V = model.tolerance_V
    run.share = model.share
    return run


cdef void drop_points(Points* points) noexcept nogil:
    free(points.s)
    free(points.v)
    free(points.dv)


def voltage(
    Model model, const double[:, ::1] data, const unsigned char[::1] flags,
    const double[::1] base, const int[::1] which, double[::1] out_V, double[:, ::1] out_jacobian,
    Steps steps, bint are_kept
):
    """Fill the voltage of the observed rows and its derivatives if wanted; NaN where lost.

    The steps are taken from `steps` if `are_kept`, else written to it.
    """
    cdef Run run = make_run(model, data, flags, base, which)
    cdef double p[MOST_P]
    cdef double* jacobian = NULL
    cdef Points points
    cdef int j
    memset(&points, 0, sizeof(points))
    for j in range(run.count):
        p[j] = base[which[j]]
    points.count = run.count
    run.points = &points
    run.plan = &steps.plan
    if out_jacobian.shape[0] == out_V.shape[0]:
        jacobian = &out_jacobian[0, 0]
    with nogil:
        run.plan.is_kept = are_kept
        run.state = make_state(&run.cell, run.count)
        if run.state != NULL:
            evaluate(&run, p, &out_V[0], jacobian)
        drop_state(run.state)
        drop_points(&points)
    if run.state == NULL:
        raise MemoryError


cdef void fit_run(Job* job) noexcept nogil:
    """Fit on the steps in time of the start, choose them again there, and go on."""
    cdef Run* run = <Run*>job.problem.data
    cdef Points points
    cdef int taken = 0, turn
    memset(&points, 0, sizeof(points))
    points.count = run.count
    run.points = &points
    job.outcome.status = NOT_FINITE
    run.state = make_state(&run.cell, run.count)
    if run.state != NULL:
        for turn in range(2):
            run.plan.is_kept = False
            evaluate(run, job.parameters if turn else job.starts, job.problem.trial, NULL)
            run.plan.is_kept = True
            job.outcome = best_of(&job.problem, job.parameters if turn else job.starts,
                                  1 if turn else job.count, job.parameters)
            taken += job.outcome.steps
            if job.outcome.status <= 0:
                break
    job.outcome.steps = taken
    drop_state(run.state)
    drop_points(&points)


cdef class Fit(Task):
    """A fit of the free parameters from every start; `data` holds the voltage in its fifth row.

    Steps in time are chosen at the first start and again at the optimum, from where the fit goes
    on.
    """

    cdef Run run

    def __init__(
        self, Model model, const double[:, ::1] data, const unsigned char[::1] flags,
        const double[::1] base, const int[::1] which, Steps steps,
        const double[:, ::1] starts, const double[::1] lower, const double[::1] upper,
        double[::1] parameters, double[::1] residual, double[::1] trial,
        double[:, ::1] jacobian, int most_steps, double tolerance, int loss, double loss_scale
    ):
        self.prepare(starts, lower, upper, parameters, residual, trial, jacobian, most_steps,
                     tolerance, loss, loss_scale)
        self.kept = (model, data, flags, base, which, steps, starts, lower, upper, parameters,
                     residual, trial, jacobian)
        self.run = make_run(model, data, flags, base, which)
        self.run.voltage_V = &data[4, 0]
        self.run.plan = &steps.plan
        self.job.problem.model = evaluate
        self.job.problem.data = &self.run
        self.job.work = fit_run
