# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Simulated cells: one under a protocol's steps, or a cycler's channels with their sequences.

The cell is the single-particle model, without or with electrolyte, that the fits use, and lumped
heat (S. G. Marquis, V. Sulzer, R. Timms, C. P. Please, S. J. Chapman, J. Electrochem. Soc. 166
(2019) A3693). `sim_cell.pxd` says how a tester drives it. No checks here:
`batterylab.simulated.cell` makes them. All currents are positive on charge.
"""

from libc.math cimport fabs
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from diffusion cimport CELLS, EXPONENTIALS
from salt_line cimport VOLUMES
from sim_cell cimport Kept, Spm, leave, take_up
from sim_noise cimport noise
from spm_cell cimport OHM, PARAMETERS
from spm_run cimport Run
from spm_tables cimport set_cell
from tester cimport CURRENT, REST, Course, Driven, Order, interval

# columns of `meter`: how the channel errs
cdef enum:
    GAIN_I, OFFSET_I, NOISE_I, GAIN_V, OFFSET_V, NOISE_V, METER_COLUMNS

# columns of `run` (what the channel is doing, as doubles so that one array holds it)
cdef enum:
    INSERTED, POLARITY, STATUS, SLOT, STEP, ELAPSED, AMP_HOURS, WATT_HOURS, STEP_AH, STEP_WH
    MEASURED_A, MEASURED_V, TRUE_CURRENT, TRUE_VOLTAGE, FAILED_TEST, FAILED_KIND, EXPECTED
    MEASURED, SEQUENCE_S, LAST_VOLTAGE, SEAT, RUN_COLUMNS

cdef enum:
    NEVER, RUNNING, FAIL, ABORTED, OK
# modes of a sequence's step
cdef enum:
    WAIT, PRECHARGE, CHARGE, DISCHARGE


def columns():
    """Return where a state's row of doubles holds what: names with first column and length."""
    at = 3 + sizeof(Course) // sizeof(double)
    found = {"mean_n": (0, 1), "mean_p": (1, 1), "temperature_K": (2, 1), "last_A": (3, 1),
             "last_h": (8, 1)}
    for name, length in (
        ("spheres_n", EXPONENTIALS), ("spheres_p", EXPONENTIALS), ("shells_n", CELLS),
        ("shells_n_before", CELLS), ("shells_p", CELLS), ("shells_p_before", CELLS),
        ("salt", VOLUMES), ("salt_before", VOLUMES), ("salt_earlier", VOLUMES),
    ):
        found[name] = at, length
        at += length
    found["all"] = 0, sizeof(Kept) // sizeof(double)
    return found


cdef class Model:
    """A kind of cell: tables, as the kernel reads them; keeps the arrays alive."""

    cdef Run run
    cdef object arrays

    def __init__(
        self, const double[::1] numbers, const double[:, :, ::1] curves, double t_ref,
        const double[:, ::1] electrolyte, double e_step, const double[:, ::1] sphere,
        double tail, const double[:, ::1] line_n, const double[:, ::1] line_p,
        const double[:, ::1] salt, const double[:, ::1] diffusivity, int cells_n, int cells_p,
        bint lumped, double first_s, double growth, double most_s, double share
    ):
        cdef Run* run = &self.run
        self.arrays = (numbers, curves, electrolyte, sphere, line_n, line_p, salt, diffusivity)
        set_cell(&run.cell, numbers, curves, t_ref, electrolyte, e_step, sphere, tail, line_n,
                 line_p, salt, diffusivity, cells_n, cells_p, lumped)
        run.first_s, run.growth, run.most_s, run.share = first_s, growth, most_s, share
        run.count = 0
        run.is_salt_known = run.follows = False
        run.has_lines = run.cell.line_n.cells + run.cell.line_p.cells + run.cell.salt.cells > 0


def follow(
    Model model, const double[::1] q, double[::1] state, int mode, const double[::1] value,
    double low_V, double high_V, double most_A, double length_s, double ambient_K,
    double[:, ::1] out
):
    """Drive one cell for as many intervals as `value` has.

    `value` is a current in A, a voltage in V, a power in W (positive on charge) or the
    resistance of a load in ohm. A current, power or load gives way to the voltage limits, a
    power, load or voltage to `most_A`, a magnitude. A row of `out` gets an interval's mean
    current, and voltage and temperature in K at its end.
    """
    cdef Py_ssize_t i
    cdef Order order
    cdef Driven d
    cdef Spm* c = <Spm*>malloc(sizeof(Spm))
    order.mode, order.low_V, order.high_V, order.most_A = mode, low_V, high_V, most_A
    order.ambient_K = ambient_K
    with nogil:
        take_up(&model.run, &q[0], <Kept*>&state[0], c, &d)
        for i in range(value.shape[0]):
            order.value = value[i]
            out[i, 1] = interval(&d, &order, length_s)
            out[i, 0] = d.mean_A
            out[i, 2] = c.s.temperature
        leave(c, &d, <Kept*>&state[0])
        free(c)


def advance(
    Model model, int seconds, const double[:, ::1] q, double[:, ::1] state,
    const double[:, ::1] meter, unsigned long long[::1] seeds, double[:, ::1] run,
    const double[::1] ambient_K, const double[:, :, ::1] steps, const int[:, ::1] test_counts,
    const double[:, :, :, ::1] tests, float[:, ::1] log_A, float[:, ::1] log_V,
    short[:, ::1] log_state, double dt=1.0
):
    """Advance every channel by whole seconds, or other steps of `dt`; one row of the logs each.

    `steps[slot, step]` holds mode, seconds, current and voltage; a mode below 0 ends the
    sequence. `tests[slot, step, n]` holds kind, value, when, time and action.
    """
    cdef Py_ssize_t channel, n = run.shape[0]
    cdef double own[PARAMETERS]
    cdef int s
    cdef bint is_there
    cdef Driven d
    cdef Spm* c = <Spm*>malloc(sizeof(Spm))
    with nogil:
        for channel in range(n):
            is_there = run[channel, INSERTED] > 0
            if is_there:
                memcpy(own, &q[channel, 0], PARAMETERS * sizeof(double))
                own[OHM] += run[channel, SEAT]
                take_up(&model.run, own, <Kept*>&state[channel, 0], c, &d)
            for s in range(seconds):
                if is_there:
                    second(&d, &meter[channel, 0], &seeds[channel], &run[channel, 0],
                           ambient_K[channel], steps, test_counts, tests, dt)
                else:
                    run[channel, MEASURED_A] = 0.0
                    run[channel, MEASURED_V] = meter[channel, OFFSET_V]
                log_A[s, channel] = <float>run[channel, MEASURED_A]
                log_V[s, channel] = <float>run[channel, MEASURED_V]
                log_state[s, channel] = <short>run[channel, STATUS]
            if is_there:
                leave(c, &d, <Kept*>&state[channel, 0])
        free(c)


cdef void second(
    Driven* d, const double* meter, unsigned long long* seed, double* run, double ambient_K,
    const double[:, :, ::1] steps, const int[:, ::1] test_counts,
    const double[:, :, :, ::1] tests, double dt
) noexcept nogil:
    """One second of one channel: control, cell, measurement, tests, step change."""
    cdef Order order
    cdef double current, voltage, moved_Ah, sign
    cdef int slot = <int>run[SLOT] - 1, at = <int>run[STEP] - 1, mode = WAIT
    if run[STATUS] == RUNNING:
        mode = <int>steps[slot, at, 0]
    order.mode, order.most_A, order.ambient_K = REST, 1e9, ambient_K
    if mode != WAIT:
        sign = -1.0 if mode == DISCHARGE else 1.0
        order.mode = CURRENT
        order.value = (sign * steps[slot, at, 2] - meter[OFFSET_I]) / (1.0 + meter[GAIN_I])
        order.low_V = order.high_V = (steps[slot, at, 3] - meter[OFFSET_V]) / (1.0 + meter[GAIN_V])
    voltage = interval(d, &order, dt)
    current = d.mean_A
    run[TRUE_CURRENT] = current
    run[TRUE_VOLTAGE] = voltage
    run[LAST_VOLTAGE] = run[MEASURED_V]
    run[MEASURED_V] = (voltage * run[POLARITY] * (1.0 + meter[GAIN_V]) + meter[OFFSET_V]
                       + meter[NOISE_V] * noise(seed))
    if current == 0.0:
        run[MEASURED_A] = 0.2 * meter[NOISE_I] * noise(seed)
    else:
        run[MEASURED_A] = (current * (1.0 + meter[GAIN_I]) + meter[OFFSET_I]
                           + meter[NOISE_I] * noise(seed))
    if run[STATUS] == RUNNING:
        moved_Ah = run[MEASURED_A] * dt / 3600.0
        run[AMP_HOURS] += moved_Ah
        run[WATT_HOURS] += moved_Ah * run[MEASURED_V]
        run[STEP_AH] += moved_Ah
        run[STEP_WH] += moved_Ah * run[MEASURED_V]
        run[ELAPSED] += dt
        run[SEQUENCE_S] += dt
        judge(run, slot, at, mode, steps, test_counts, tests)


cdef void judge(
    double* run, int slot, int at, int mode, const double[:, :, ::1] steps,
    const int[:, ::1] test_counts, const double[:, :, :, ::1] tests
) noexcept nogil:
    """Hold the second's readings against the step's tests and its duration."""
    cdef int i, kind, when
    cdef bint due
    cdef double at_s, elapsed = run[ELAPSED]
    if mode != WAIT:
        for i in range(test_counts[slot, at]):
            kind = <int>tests[slot, at, i, 0]
            when = <int>tests[slot, at, i, 2]
            at_s = tests[slot, at, i, 3]
            due = ((when == 0 and elapsed == at_s) or (when == 1 and elapsed >= at_s)
                   or (when == 2 and elapsed <= at_s) or (when == 3 and elapsed == 1.0))
            if due and fires(kind, tests[slot, at, i, 1], run[MEASURED_V], run[MEASURED_A], run):
                run[FAILED_TEST] = i + 1
                run[FAILED_KIND] = kind
                run[EXPECTED] = tests[slot, at, i, 1]
                run[MEASURED] = measured(kind, run[MEASURED_V], run[MEASURED_A], run)
                if tests[slot, at, i, 4] > 0:
                    next_step(run, slot, steps)
                else:
                    run[STATUS] = FAIL
                return
    if elapsed >= steps[slot, at, 1]:
        run[FAILED_TEST] = 0
        next_step(run, slot, steps)


cdef bint fires(int kind, double limit, double volts, double amps, const double* run) noexcept nogil:
    """Say whether a test's condition holds; magnitudes for current and power."""
    cdef double value = measured(kind, volts, amps, run)
    if kind % 2 == 0:
        return value >= limit
    return value <= limit


cdef double measured(int kind, double volts, double amps, const double* run) noexcept nogil:
    if kind < 2:
        return volts
    if kind < 4:
        return fabs(amps)
    if kind < 6:
        return fabs(amps * volts)
    if kind < 8:
        return fabs(run[STEP_AH])
    if kind < 10:
        return fabs(run[STEP_WH])
    return volts - run[LAST_VOLTAGE]


cdef void next_step(double* run, int slot, const double[:, :, ::1] steps) noexcept nogil:
    run[STEP] += 1.0
    run[ELAPSED] = 0.0
    run[STEP_AH] = 0.0
    run[STEP_WH] = 0.0
    if run[STEP] > steps.shape[1] or steps[slot, <int>run[STEP] - 1, 0] < 0:
        run[STATUS] = OK
        run[STEP] -= 1.0
