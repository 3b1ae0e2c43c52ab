# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Single-particle models, without and with electrolyte, with derivatives. No checks here.

Each electrode is a sphere that takes the mean flux: by exponentials, exactly, where the
diffusivity is constant, else by finite volumes. The electrolyte is a line of finite volumes with
a diffusivity that depends on its concentration; potentials are those of the composite model
(S. G. Marquis, V. Sulzer, R. Timms, C. P. Please, S. J. Chapman, J. Electrochem. Soc. 166
(2019) A3693). The temperature is given row by row, or that of one lumped node. A row's current
has flowed since the row before, or has risen to it linearly. `batterylab.fit.spm` checks what
goes in.
"""

from libc.math cimport fabs
from libc.string cimport memcpy

from batterylab._kernels._tasks cimport Job, Task
from diffusion cimport MOST_P
from levmar cimport best_of
from spm_cell cimport D_E, PARAMETERS, SALT, Cell, Reading, State
from spm_march cimport (
    Stretch, advance, advance_warming, begin_stretch, find_stretch, look, settle,
)
from spm_tables cimport set_cell
from spm_run cimport OBSERVED, RELAXED, Run, interpolate


cdef void evaluate(
    const void* data, const double* p, double* residual, double* jacobian
) noexcept nogil:
    cdef const Run* run = <const Run*>data
    cdef State s
    cdef Stretch now
    cdef double q[PARAMETERS]
    cdef double dv[MOST_P]
    cdef double dr[MOST_P]
    cdef double before_A = 0.0
    cdef bint slopes = jacobian != NULL
    cdef Py_ssize_t row, seen = 0
    cdef int j
    cdef Reading r
    for j in range(PARAMETERS):
        q[j] = run.base[j]
    for j in range(run.count):
        q[run.free[j]] = p[j]
    now.last = -1
    for row in range(run.rows):
        if row == 0 or run.flags[row] & RELAXED:
            settle(run, &s, q, row, slopes)
            before_A = 0.0
            now.last = row
        else:
            if row > now.last:
                now = find_stretch(run, row)
                begin_stretch(run, &s, &now, before_A, slopes)
                before_A = now.mean_A + 0.5 * now.rise_A
            if run.cell.lumped:
                advance_warming(run, &s, q, row, &now, slopes)
            else:
                advance(run, &s, q, row, &now, slopes)
        if run.out_K != NULL:
            run.out_K[row] = s.temperature
        if not run.flags[row] & OBSERVED:
            continue
        if run.has_lines and not run.cell.lumped:
            interpolate(run, &s, run.time_s[row], slopes)
        if run.salt != NULL:
            if run.is_salt_known:
                memcpy(s.seen, run.salt + seen * SALT, SALT * sizeof(double))
            else:
                memcpy(run.salt + seen * SALT, s.seen, SALT * sizeof(double))
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
    cdef double first_s, growth, most_s, share

    def __init__(
        self, const double[::1] numbers, const double[:, :, ::1] curves, double t_ref,
        const double[:, ::1] electrolyte, double e_step, const double[:, ::1] sphere,
        double tail, const double[:, ::1] line_n, const double[:, ::1] line_p,
        const double[:, ::1] salt, const double[:, ::1] diffusivity, int cells_n, int cells_p,
        bint lumped, double first_s, double growth, double most_s, double share
    ):
        self.arrays = (numbers, curves, electrolyte, sphere, line_n, line_p, salt, diffusivity)
        self.first_s, self.growth, self.most_s, self.share = first_s, growth, most_s, share
        set_cell(&self.cell, numbers, curves, t_ref, electrolyte, e_step, sphere, tail, line_n, line_p,
                 salt, diffusivity, cells_n, cells_p, lumped)


cdef void know_salt(Run* run, bint is_known) noexcept nogil:
    """Set what has to go forward; a salt that is known does not."""
    cdef int j
    cdef bint shells = run.cell.line_n.cells > 0 or run.cell.line_p.cells > 0
    cdef bint salt = run.cell.salt.cells > 0 and not is_known
    run.is_salt_known = is_known
    run.has_lines = shells or salt
    run.follows = shells
    for j in range(run.count):
        run.moves_salt[j] = salt and (run.free[j] == D_E or run.cell.lumped)
        run.follows = run.follows or run.moves_salt[j]


cdef void set_run(
    Run* run, const Cell* cell, const double* data, Py_ssize_t rows,
    const unsigned char* flags, const double* base, const int* free, int count
) noexcept nogil:
    cdef Py_ssize_t row
    run.cell = cell[0]
    run.time_s = data
    run.current_A = data + rows
    run.charge_Ah = data + 2 * rows
    run.temperature_K = data + 3 * rows
    run.voltage_V = NULL
    run.flags = flags
    run.rows = rows
    run.base = base
    run.free = free
    run.count = count
    run.out_K = NULL
    run.salt = NULL
    run.most_A = 1e-12
    for row in range(rows):
        run.most_A = max(run.most_A, fabs(run.current_A[row]))
    know_salt(run, False)


def voltage(
    Model model, const double[:, ::1] data, const unsigned char[::1] flags,
    const double[::1] base, const int[::1] free, double[::1] out_V, double[:, ::1] out_jacobian,
    double[::1] out_K
):
    """Fill the voltage of the observed rows, its derivatives if wanted, and temperatures."""
    cdef Run run
    cdef double p[MOST_P]
    cdef double* jacobian = NULL
    cdef int j
    set_run(&run, &model.cell, &data[0, 0], data.shape[1], &flags[0], &base[0], &free[0],
            free.shape[0])
    run.first_s, run.growth = model.first_s, model.growth
    run.most_s, run.share = model.most_s, model.share
    for j in range(run.count):
        p[j] = base[free[j]]
    run.out_K = &out_K[0]
    if out_jacobian.shape[0] == out_V.shape[0]:
        jacobian = &out_jacobian[0, 0]
    with nogil:
        evaluate(&run, p, &out_V[0], jacobian)


cdef void fit_run(Job* job) noexcept nogil:
    """Fit; where no fitted parameter touches the electrolyte, it goes forward once."""
    cdef Run* run = <Run*>job.problem.data
    if run.salt != NULL:
        know_salt(run, False)
        evaluate(run, job.starts, job.problem.trial, NULL)
        know_salt(run, True)
    job.outcome = best_of(&job.problem, job.starts, job.count, job.parameters)


cdef class Fit(Task):
    """A fit of the free parameters from every start.

    `data` holds the voltage in its fifth row. `salt` keeps the electrolyte of the observed rows
    where no fitted parameter touches it; it has no rows where one does.
    """

    cdef Run run

    def __init__(
        self, Model model, const double[:, ::1] data, const unsigned char[::1] flags,
        const double[::1] base, const int[::1] free, double[:, ::1] salt,
        const double[:, ::1] starts, const double[::1] lower, const double[::1] upper,
        double[::1] parameters, double[::1] residual, double[::1] trial,
        double[:, ::1] jacobian, int most_steps, double tolerance, int loss, double loss_scale
    ):
        cdef Run* run = &self.run
        self.prepare(starts, lower, upper, parameters, residual, trial, jacobian, most_steps,
                     tolerance, loss, loss_scale)
        self.kept = (model, data, flags, base, free, salt, starts, lower, upper, parameters,
                     residual, trial, jacobian)
        set_run(run, &model.cell, &data[0, 0], data.shape[1], &flags[0], &base[0], &free[0],
                free.shape[0])
        run.first_s, run.growth = model.first_s, model.growth
        run.most_s, run.share = model.most_s, model.share
        run.voltage_V = &data[4, 0]
        if salt.shape[0] == residual.shape[0]:
            run.salt = &salt[0, 0]
        self.job.problem.model = evaluate
        self.job.problem.data = run
        self.job.work = fit_run
