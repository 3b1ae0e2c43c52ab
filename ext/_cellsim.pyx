# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Simulated cells under a cycler's on-board sequences, second by second.

The cell is the single-particle model with electrolyte and lumped heat (Marquis et al. 2019, in
the form that PyBaMM solves), integrated by our own method: each particle by the eigenmodes of
the sphere (Carslaw and Jaeger 1959, section 9.3), which are exact for a current that is constant
over the second; the electrolyte by finite volumes and backward Euler. Used by the simulated
bench alone: fits have kernels of their own. No checks here: `batterylab.simulated.cell` makes
them. All currents are positive on charge but for `discharge`, which is local.
"""

from libc.math cimport asinh, exp, fabs, log, sqrt

from cellsim_tables cimport look_up, noise

cdef enum:
    NODES_N = 10
    NODES_S = 4
    NODES_P = 10
    NODES = 24
    MODES = 48

# columns of `cell`, the parameters of each cell
cdef enum:
    AREA, L_N, L_S, L_P, J_N, J_P, RATE_N, RATE_P, FLUX_N, FLUX_P, C_MAX_N, C_MAX_P
    EPS_N, EPS_S, EPS_P, TOR_N, TOR_S, TOR_P, T_PLUS, SOLID, CONTACT, HEAT, COOL, ACT_N, ACT_P
    TAIL_N, TAIL_P, T_REF, CELL_COLUMNS

# columns of `state`
cdef enum:
    MEAN_N, MEAN_P, TEMPERATURE, C_E, MODE_N = 27, MODE_P = 75, STATE_COLUMNS = 123

# columns of `meter`: how the channel errs
cdef enum:
    GAIN_I, OFFSET_I, NOISE_I, GAIN_V, OFFSET_V, NOISE_V, METER_COLUMNS

# columns of `run` (what the channel is doing, as doubles so that one array holds it)
cdef enum:
    INSERTED, POLARITY, STATUS, SLOT, STEP, ELAPSED, AMP_HOURS, WATT_HOURS, STEP_AH, STEP_WH
    CURRENT, VOLTAGE, TRUE_CURRENT, TRUE_VOLTAGE, FAILED_TEST, FAILED_KIND, EXPECTED, MEASURED
    SEQUENCE_S, LAST_VOLTAGE, SEAT, RUN_COLUMNS

cdef enum:
    NEVER, RUNNING, FAIL, ABORTED, OK
cdef enum:
    REST, PRECHARGE, CHARGE, DISCHARGE


cdef struct Tables:
    const double* u_n
    const double* u_p
    const double* j_n
    const double* j_p
    Py_ssize_t points
    double step
    const double* d_e
    const double* k_e
    Py_ssize_t e_points
    double e_step


cdef double voltage_after(
    const double* cell, const double* old, const double* fade_n, const double* fade_p,
    const double* weight_n, const double* weight_p, double seat_ohm, const Tables* tables,
    double current_A, double dt, double* new, double* ocv
) noexcept nogil:
    """Step the cell by `dt` at a constant current; return its voltage at the end."""
    cdef double discharge = -current_A
    cdef double i_cell = discharge / cell[AREA]
    cdef double q_n = cell[FLUX_N] * discharge
    cdef double q_p = -cell[FLUX_P] * discharge
    cdef double surface_n, surface_p, warm, rt_f, chi, resistance
    cdef double mean_c, log_n, log_p, eta_n, eta_p, j0_n, j0_p, kappa, ohmic, d_old
    cdef int k
    # particles: mean by the charge passed, modes exactly
    new[MEAN_N] = old[MEAN_N] - cell[RATE_N] * discharge * dt
    new[MEAN_P] = old[MEAN_P] + cell[RATE_P] * discharge * dt
    surface_n = new[MEAN_N] - cell[TAIL_N] * q_n
    surface_p = new[MEAN_P] - cell[TAIL_P] * q_p
    for k in range(MODES):
        new[MODE_N + k] = old[MODE_N + k] * fade_n[k] - (1.0 - fade_n[k]) * weight_n[k] * q_n
        surface_n += new[MODE_N + k]
    for k in range(MODES):
        new[MODE_P + k] = old[MODE_P + k] * fade_p[k] - (1.0 - fade_p[k]) * weight_p[k] * q_p
        surface_p += new[MODE_P + k]
    electrolyte(cell, old, tables, i_cell, dt, new)
    # voltage
    warm = old[TEMPERATURE]
    rt_f = 8.314462618 * warm / 96485.33212
    chi = 2.0 * (1.0 - cell[T_PLUS])
    mean_c = 0.0
    log_n = 0.0
    log_p = 0.0
    eta_n = 0.0
    eta_p = 0.0
    j0_n = look_up(tables.j_n, tables.points, tables.step, surface_n)
    j0_p = look_up(tables.j_p, tables.points, tables.step, surface_p)
    j0_n *= exp(cell[ACT_N] * (1.0 / cell[T_REF] - 1.0 / warm))
    j0_p *= exp(cell[ACT_P] * (1.0 / cell[T_REF] - 1.0 / warm))
    for k in range(NODES_N):
        log_n += log(new[C_E + k])
        mean_c += new[C_E + k] * cell[L_N] / NODES_N
        eta_n += asinh(cell[J_N] * discharge / (2.0 * j0_n * sqrt(new[C_E + k] * 1e-3)))
    for k in range(NODES_N, NODES_N + NODES_S):
        mean_c += new[C_E + k] * cell[L_S] / NODES_S
    for k in range(NODES_N + NODES_S, NODES):
        log_p += log(new[C_E + k])
        mean_c += new[C_E + k] * cell[L_P] / NODES_P
        eta_p -= asinh(cell[J_P] * discharge / (2.0 * j0_p * sqrt(new[C_E + k] * 1e-3)))
    mean_c /= cell[L_N] + cell[L_S] + cell[L_P]
    eta_n *= 2.0 * rt_f / NODES_N
    eta_p *= 2.0 * rt_f / NODES_P
    kappa = look_up(tables.k_e, tables.e_points, tables.e_step, mean_c)
    ohmic = (cell[L_N] / (3.0 * cell[TOR_N]) + cell[L_S] / cell[TOR_S]
             + cell[L_P] / (3.0 * cell[TOR_P])) / kappa + cell[SOLID]
    ocv[0] = (look_up(tables.u_p, tables.points, tables.step, surface_p)
              - look_up(tables.u_n, tables.points, tables.step, surface_n))
    resistance = cell[CONTACT] + seat_ohm
    return (ocv[0] + eta_p - eta_n + chi * rt_f * (log_p / NODES_P - log_n / NODES_N)
            - i_cell * ohmic - discharge * resistance)


cdef void electrolyte(
    const double* cell, const double* old, const Tables* tables, double i_cell, double dt,
    double* new
) noexcept nogil:
    """Backward Euler for the electrolyte's salt, diffusivity taken at the old concentration."""
    cdef double[NODES] lower
    cdef double[NODES] diagonal
    cdef double[NODES] right
    cdef double width, porosity, tortuosity, resistance, previous, coupling, source, d_old
    cdef double factor
    cdef int k
    previous = 0.0
    for k in range(NODES):
        if k < NODES_N:
            width = cell[L_N] / NODES_N
            porosity = cell[EPS_N]
            tortuosity = cell[TOR_N]
            source = (1.0 - cell[T_PLUS]) * i_cell / (96485.33212 * cell[L_N])
        elif k < NODES_N + NODES_S:
            width = cell[L_S] / NODES_S
            porosity = cell[EPS_S]
            tortuosity = cell[TOR_S]
            source = 0.0
        else:
            width = cell[L_P] / NODES_P
            porosity = cell[EPS_P]
            tortuosity = cell[TOR_P]
            source = -(1.0 - cell[T_PLUS]) * i_cell / (96485.33212 * cell[L_P])
        d_old = look_up(tables.d_e, tables.e_points, tables.e_step, old[C_E + k])
        resistance = 0.5 * width / (tortuosity * d_old)
        diagonal[k] = porosity * width / dt
        right[k] = porosity * width / dt * old[C_E + k] + source * width
        lower[k] = 0.0
        if k > 0:
            coupling = 1.0 / (previous + resistance)
            lower[k] = -coupling
            diagonal[k] += coupling
            diagonal[k - 1] += coupling
        previous = resistance
    for k in range(1, NODES):
        factor = lower[k] / diagonal[k - 1]
        diagonal[k] -= factor * lower[k]
        right[k] -= factor * right[k - 1]
    new[C_E + NODES - 1] = right[NODES - 1] / diagonal[NODES - 1]
    for k in range(NODES - 2, -1, -1):
        new[C_E + k] = (right[k] - lower[k + 1] * new[C_E + k + 1]) / diagonal[k]
    for k in range(NODES):
        if not new[C_E + k] > 1.0:
            new[C_E + k] = 1.0


cdef void settle_heat(
    const double* cell, const double* old, double* new, double ocv, double voltage,
    double current_A, double ambient_K, double dt
) noexcept nogil:
    """Lumped heat: what the reaction and the resistances dissipate, less what the air takes."""
    cdef double heat_W = current_A * (voltage - ocv)
    cdef double rate = cell[COOL] / cell[HEAT]
    cdef double target = ambient_K + heat_W / cell[COOL]
    new[TEMPERATURE] = target + (old[TEMPERATURE] - target) * exp(-rate * dt)


def follow(
    const double[::1] cell, double[::1] state, const double[::1] fade_n, const double[::1] fade_p,
    const double[::1] weight_n, const double[::1] weight_p, const double[:, ::1] curves,
    double step, const double[:, ::1] electrolyte_curves, double e_step,
    const double[::1] current_A, double dt, double ambient_K,
    double[::1] voltage_V, double[::1] temperature_K
):
    """Drive one cell through given currents; write voltage and temperature at each step's end."""
    cdef double[123] new
    cdef double ocv, voltage
    cdef Py_ssize_t i, k
    cdef Tables tables = Tables(
        &curves[0, 0], &curves[1, 0], &curves[2, 0], &curves[3, 0], curves.shape[1], step,
        &electrolyte_curves[0, 0], &electrolyte_curves[1, 0], electrolyte_curves.shape[1], e_step)
    with nogil:
        for i in range(current_A.shape[0]):
            voltage = voltage_after(&cell[0], &state[0], &fade_n[0], &fade_p[0], &weight_n[0],
                                    &weight_p[0], 0.0, &tables, current_A[i], dt, new, &ocv)
            settle_heat(&cell[0], &state[0], new, ocv, voltage, current_A[i], ambient_K, dt)
            for k in range(STATE_COLUMNS):
                state[k] = new[k]
            voltage_V[i] = voltage
            temperature_K[i] = state[TEMPERATURE]


cdef double hold(
    const double* cell, const double* old, const double* fade_n, const double* fade_p,
    const double* weight_n, const double* weight_p, double seat_ohm, const Tables* tables,
    double target_V, double guess_A, double* new, double* ocv, double* voltage
) noexcept nogil:
    """Return the current that brings the voltage to the target at the second's end."""
    cdef double a = guess_A, b, va, vb, slope
    cdef int i
    va = voltage_after(cell, old, fade_n, fade_p, weight_n, weight_p, seat_ohm, tables, a, 1.0,
                       new, ocv)
    b = a + (target_V - va) / 0.03
    for i in range(30):
        vb = voltage_after(cell, old, fade_n, fade_p, weight_n, weight_p, seat_ohm, tables, b,
                           1.0, new, ocv)
        if fabs(vb - target_V) < 1e-7 or fabs(b - a) < 1e-9:
            break
        slope = (vb - va) / (b - a)
        if not slope > 1e-4:
            slope = 1e-4
        a = b
        va = vb
        b = b + (target_V - vb) / slope
    voltage[0] = vb
    return b


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


def advance(
    int seconds, const double[:, ::1] cell, double[:, ::1] state, const double[:, ::1] fade_n,
    const double[:, ::1] fade_p, const double[::1] weight_n, const double[::1] weight_p,
    const double[:, ::1] curves, double step, const double[:, ::1] electrolyte_curves,
    double e_step, const double[:, ::1] meter, unsigned long long[::1] seeds,
    double[:, ::1] run, const double[::1] ambient_K, const double[:, :, ::1] steps,
    const int[:, ::1] test_counts, const double[:, :, :, ::1] tests, double[:, ::1] temperature,
    float[:, ::1] log_A, float[:, ::1] log_V, short[:, ::1] log_state
):
    """Advance every channel by whole seconds; one row of the logs a second.

    `steps[slot, step]` holds mode, seconds, current and voltage; a mode below 0 ends the
    sequence. `tests[slot, step, n]` holds kind, value, when, time and action.
    """
    cdef Py_ssize_t channel, n = run.shape[0]
    cdef int s
    cdef Tables tables = Tables(
        &curves[0, 0], &curves[1, 0], &curves[2, 0], &curves[3, 0], curves.shape[1], step,
        &electrolyte_curves[0, 0], &electrolyte_curves[1, 0], electrolyte_curves.shape[1], e_step)
    with nogil:
        for channel in range(n):
            for s in range(seconds):
                if run[channel, INSERTED] > 0:
                    second(&cell[channel, 0], &state[channel, 0], &fade_n[channel, 0],
                           &fade_p[channel, 0], &weight_n[0], &weight_p[0], &tables,
                           &meter[channel, 0], &seeds[channel], &run[channel, 0],
                           ambient_K[channel], steps, test_counts, tests)
                else:
                    run[channel, CURRENT] = 0.0
                    run[channel, VOLTAGE] = meter[channel, OFFSET_V]
                log_A[s, channel] = <float>run[channel, CURRENT]
                log_V[s, channel] = <float>run[channel, VOLTAGE]
                log_state[s, channel] = <short>run[channel, STATUS]


cdef void second(
    const double* cell, double* state, const double* fade_n, const double* fade_p,
    const double* weight_n, const double* weight_p, const Tables* tables, const double* meter,
    unsigned long long* seed, double* run, double ambient_K, const double[:, :, ::1] steps,
    const int[:, ::1] test_counts, const double[:, :, :, ::1] tests
) noexcept nogil:
    """One second of one channel: control, cell, measurement, tests, step change."""
    cdef double[123] new
    cdef double current = 0.0, voltage, ocv, set_A, limit_V, sign
    cdef int slot = <int>run[SLOT] - 1, at = <int>run[STEP] - 1, mode = REST
    cdef Py_ssize_t k
    if run[STATUS] == RUNNING:
        mode = <int>steps[slot, at, 0]
    voltage = 0.0
    if mode != REST:
        sign = -1.0 if mode == DISCHARGE else 1.0
        set_A = sign * steps[slot, at, 2]
        limit_V = (steps[slot, at, 3] - meter[OFFSET_V]) / (1.0 + meter[GAIN_V])
        current = (set_A - meter[OFFSET_I]) / (1.0 + meter[GAIN_I])
        voltage = voltage_after(cell, state, fade_n, fade_p, weight_n, weight_p, run[SEAT],
                                tables, current, 1.0, new, &ocv)
        if sign * (voltage - limit_V) > 0.0:
            current = hold(cell, state, fade_n, fade_p, weight_n, weight_p, run[SEAT], tables,
                           limit_V, run[TRUE_CURRENT], new, &ocv, &voltage)
            if sign * current < 0.0:
                current = 0.0
    if mode == REST or current == 0.0:
        current = 0.0
        voltage = voltage_after(cell, state, fade_n, fade_p, weight_n, weight_p, run[SEAT],
                                tables, 0.0, 1.0, new, &ocv)
    settle_heat(cell, state, new, ocv, voltage, current, ambient_K, 1.0)
    for k in range(STATE_COLUMNS):
        state[k] = new[k]
    run[TRUE_CURRENT] = current
    run[TRUE_VOLTAGE] = voltage
    run[LAST_VOLTAGE] = run[VOLTAGE]
    run[VOLTAGE] = (voltage * run[POLARITY] * (1.0 + meter[GAIN_V]) + meter[OFFSET_V]
                    + meter[NOISE_V] * noise(seed))
    if current == 0.0:
        run[CURRENT] = 0.2 * meter[NOISE_I] * noise(seed)
    else:
        run[CURRENT] = (current * (1.0 + meter[GAIN_I]) + meter[OFFSET_I]
                        + meter[NOISE_I] * noise(seed))
    if run[STATUS] == RUNNING:
        run[AMP_HOURS] += run[CURRENT] / 3600.0
        run[WATT_HOURS] += run[CURRENT] * run[VOLTAGE] / 3600.0
        run[STEP_AH] += run[CURRENT] / 3600.0
        run[STEP_WH] += run[CURRENT] * run[VOLTAGE] / 3600.0
        run[ELAPSED] += 1.0
        run[SEQUENCE_S] += 1.0
        judge(run, slot, at, mode, steps, test_counts, tests)


cdef void judge(
    double* run, int slot, int at, int mode, const double[:, :, ::1] steps,
    const int[:, ::1] test_counts, const double[:, :, :, ::1] tests
) noexcept nogil:
    """Hold the second's readings against the step's tests and its duration."""
    cdef int i, kind, when
    cdef bint due
    cdef double at_s, elapsed = run[ELAPSED]
    if mode != REST:
        for i in range(test_counts[slot, at]):
            kind = <int>tests[slot, at, i, 0]
            when = <int>tests[slot, at, i, 2]
            at_s = tests[slot, at, i, 3]
            due = ((when == 0 and elapsed == at_s) or (when == 1 and elapsed >= at_s)
                   or (when == 2 and elapsed <= at_s) or (when == 3 and elapsed == 1.0))
            if due and fires(kind, tests[slot, at, i, 1], run[VOLTAGE], run[CURRENT], run):
                run[FAILED_TEST] = i + 1
                run[FAILED_KIND] = kind
                run[EXPECTED] = tests[slot, at, i, 1]
                run[MEASURED] = measured(kind, run[VOLTAGE], run[CURRENT], run)
                if tests[slot, at, i, 4] > 0:
                    next_step(run, slot, steps)
                else:
                    run[STATUS] = FAIL
                return
    if elapsed >= steps[slot, at, 1]:
        run[FAILED_TEST] = 0
        next_step(run, slot, steps)


cdef void next_step(double* run, int slot, const double[:, :, ::1] steps) noexcept nogil:
    run[STEP] += 1.0
    run[ELAPSED] = 0.0
    run[STEP_AH] = 0.0
    run[STEP_WH] = 0.0
    if run[STEP] > steps.shape[1] or steps[slot, <int>run[STEP] - 1, 0] < 0:
        run[STATUS] = OK
        run[STEP] -= 1.0
