# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Simulated cells under a cycler's on-board sequences, second by second.

The cell is the single-particle model with electrolyte and lumped heat (Marquis et al. 2019, in
the form that PyBaMM solves), integrated by our own method: each particle by the eigenmodes of
the sphere (Carslaw and Jaeger 1959, section 9.3), which are exact for a current that is constant
over the second; the electrolyte by finite volumes and backward Euler. Both are linear in the
current, so that a second is prepared once and then tried with as many currents as it takes to
hold a voltage. Used by the simulated bench alone: fits have kernels of their own. No checks here:
`batterylab.simulated.cell` makes them. All currents are positive on charge but for `discharge`,
which is local.
"""

from libc.math cimport exp, fabs, log, sqrt

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


cdef struct Ready:
    # the state at a step's end is `base` + `slope` times the current; likewise the surfaces
    double[123] base
    double[123] slope
    double base_n, slope_n, base_p, slope_p
    double rt_f, warm_n, warm_p


cdef void prepare(
    const double* cell, const double* old, const double* fade_n, const double* fade_p,
    const double* weight_n, const double* weight_p, const Tables* tables, double dt, Ready* ready
) noexcept nogil:
    """Work out how the state after `dt` depends on the current held until then."""
    cdef double kelvin = old[TEMPERATURE]
    cdef double inverse = 1.0 / cell[T_REF] - 1.0 / kelvin
    ready.base[MEAN_N] = old[MEAN_N]
    ready.base[MEAN_P] = old[MEAN_P]
    ready.slope[MEAN_N] = cell[RATE_N] * dt
    ready.slope[MEAN_P] = -cell[RATE_P] * dt
    particle(old + MODE_N, fade_n, weight_n, -cell[FLUX_N], ready.base + MODE_N,
             ready.slope + MODE_N, &ready.base_n, &ready.slope_n)
    particle(old + MODE_P, fade_p, weight_p, cell[FLUX_P], ready.base + MODE_P,
             ready.slope + MODE_P, &ready.base_p, &ready.slope_p)
    ready.base_n += old[MEAN_N]
    ready.base_p += old[MEAN_P]
    ready.slope_n += ready.slope[MEAN_N] + cell[TAIL_N] * cell[FLUX_N]
    ready.slope_p += ready.slope[MEAN_P] - cell[TAIL_P] * cell[FLUX_P]
    electrolyte(cell, old, tables, dt, ready)
    ready.rt_f = 8.314462618 * kelvin / 96485.33212
    ready.warm_n = exp(cell[ACT_N] * inverse)
    ready.warm_p = exp(cell[ACT_P] * inverse)


cdef void particle(
    const double* old, const double* fade, const double* weight, double flux, double* base,
    double* slope, double* base_sum, double* slope_sum
) noexcept nogil:
    """Step a particle's modes; `flux` is that of one ampere. Sums go to the surface."""
    cdef double[4] total
    cdef double[4] rise
    cdef int k, j
    for k in range(MODES):
        base[k] = old[k] * fade[k]
        slope[k] = (fade[k] - 1.0) * weight[k] * flux
    for j in range(4):
        total[j] = 0.0
        rise[j] = 0.0
    for k in range(0, MODES, 4):
        for j in range(4):
            total[j] += base[k + j]
            rise[j] += slope[k + j]
    base_sum[0] = (total[0] + total[1]) + (total[2] + total[3])
    slope_sum[0] = (rise[0] + rise[1]) + (rise[2] + rise[3])


cdef void electrolyte(
    const double* cell, const double* old, const Tables* tables, double dt, Ready* ready
) noexcept nogil:
    """Backward Euler for the electrolyte's salt, diffusivity taken at the old concentration."""
    cdef double[NODES] lower
    cdef double[NODES] diagonal
    cdef double[NODES] right
    cdef double[NODES] drive
    cdef double width, tortuosity, held, resistance, previous, coupling, source, factor
    cdef double* base = ready.base + C_E
    cdef double* slope = ready.slope + C_E
    cdef int k, part, last
    cdef double salt = -(1.0 - cell[T_PLUS]) / (96485.33212 * cell[AREA])
    previous = 0.0
    k = 0
    for part in range(3):
        width = cell[L_N + part] / (NODES_S if part == 1 else NODES_N)
        tortuosity = 0.5 * width / cell[TOR_N + part]
        held = cell[EPS_N + part] * width / dt
        source = 0.0 if part == 1 else (1 - part) * salt / NODES_N
        last = NODES_N if part == 0 else (NODES_N + NODES_S if part == 1 else NODES)
        while k < last:
            resistance = tortuosity / look_up(
                tables.d_e, tables.e_points, tables.e_step, old[C_E + k])
            diagonal[k] = held
            right[k] = held * old[C_E + k]
            drive[k] = source
            lower[k] = 0.0
            if k > 0:
                coupling = 1.0 / (previous + resistance)
                lower[k] = -coupling
                diagonal[k] += coupling
                diagonal[k - 1] += coupling
            previous = resistance
            k += 1
    diagonal[0] = 1.0 / diagonal[0]
    for k in range(1, NODES):
        factor = lower[k] * diagonal[k - 1]
        diagonal[k] = 1.0 / (diagonal[k] - factor * lower[k])
        right[k] -= factor * right[k - 1]
        drive[k] -= factor * drive[k - 1]
    base[NODES - 1] = right[NODES - 1] * diagonal[NODES - 1]
    slope[NODES - 1] = drive[NODES - 1] * diagonal[NODES - 1]
    for k in range(NODES - 2, -1, -1):
        base[k] = (right[k] - lower[k + 1] * base[k + 1]) * diagonal[k]
        slope[k] = (drive[k] - lower[k + 1] * slope[k + 1]) * diagonal[k]


cdef inline double salt_at(const Ready* ready, int k, double current_A) noexcept nogil:
    cdef double value = ready.base[C_E + k] + ready.slope[C_E + k] * current_A
    return value if value > 1.0 else 1.0


cdef double reaction(
    const Ready* ready, int first, double share, double current_A, double* log_c, double* mean_c
) noexcept nogil:
    """Return the mean of asinh(share / sqrt(c)) over an electrode, with c in mol/l.

    The sum of ten logarithms is the logarithm of a product; asinh(x) = log(x + sqrt(x^2 + 1)).
    """
    cdef double x, c, total = 0.0, product = 1.0, stretch = 1.0, size = fabs(share)
    cdef int k
    for k in range(first, first + NODES_N):
        c = salt_at(ready, k, current_A)
        total += c
        product *= c
        x = size / sqrt(c * 1e-3)
        stretch *= x + sqrt(x * x + 1.0)
    log_c[0] = log(product) / NODES_N
    mean_c[0] = total / NODES_N
    if share == 0.0:
        return 0.0
    return (log(stretch) if share > 0.0 else -log(stretch)) / NODES_N


cdef double voltage_at(
    const double* cell, const Ready* ready, double seat_ohm, const Tables* tables,
    double current_A, double* ocv
) noexcept nogil:
    """Return the voltage at the end of a step that was prepared, for a current."""
    cdef double discharge = -current_A
    cdef double surface_n = ready.base_n + ready.slope_n * current_A
    cdef double surface_p = ready.base_p + ready.slope_p * current_A
    cdef double j0_n, j0_p, eta_n, eta_p, log_n, log_p, mean_n, mean_p, mean_s = 0.0
    cdef double mean_c, kappa, ohmic
    cdef int k
    j0_n = ready.warm_n * look_up(tables.j_n, tables.points, tables.step, surface_n)
    j0_p = ready.warm_p * look_up(tables.j_p, tables.points, tables.step, surface_p)
    eta_n = reaction(ready, 0, 0.5 * cell[J_N] * discharge / j0_n, current_A, &log_n, &mean_n)
    eta_p = reaction(ready, NODES_N + NODES_S, -0.5 * cell[J_P] * discharge / j0_p, current_A,
                     &log_p, &mean_p)
    for k in range(NODES_N, NODES_N + NODES_S):
        mean_s += salt_at(ready, k, current_A)
    mean_c = (mean_n * cell[L_N] + mean_s / NODES_S * cell[L_S] + mean_p * cell[L_P]) / (
        cell[L_N] + cell[L_S] + cell[L_P])
    kappa = look_up(tables.k_e, tables.e_points, tables.e_step, mean_c)
    ohmic = (cell[L_N] / (3.0 * cell[TOR_N]) + cell[L_S] / cell[TOR_S]
             + cell[L_P] / (3.0 * cell[TOR_P])) / kappa + cell[SOLID]
    ocv[0] = (look_up(tables.u_p, tables.points, tables.step, surface_p)
              - look_up(tables.u_n, tables.points, tables.step, surface_n))
    return (ocv[0] + 2.0 * ready.rt_f * (eta_p - eta_n)
            + 2.0 * (1.0 - cell[T_PLUS]) * ready.rt_f * (log_p - log_n)
            - discharge / cell[AREA] * ohmic - discharge * (cell[CONTACT] + seat_ohm))


cdef void finish(
    const double* cell, const Ready* ready, double* state, double ocv, double voltage,
    double current_A, double ambient_K, double dt
) noexcept nogil:
    """Let the state be that at the step's end."""
    cdef int k
    settle_heat(cell, state, state, ocv, voltage, current_A, ambient_K, dt)
    state[MEAN_N] = ready.base[MEAN_N] + ready.slope[MEAN_N] * current_A
    state[MEAN_P] = ready.base[MEAN_P] + ready.slope[MEAN_P] * current_A
    for k in range(C_E, STATE_COLUMNS):
        state[k] = ready.base[k] + ready.slope[k] * current_A
    for k in range(C_E, C_E + NODES):
        if not state[k] > 1.0:
            state[k] = 1.0


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
    cdef Ready ready
    cdef double ocv, voltage
    cdef Py_ssize_t i
    cdef Tables tables = Tables(
        &curves[0, 0], &curves[1, 0], &curves[2, 0], &curves[3, 0], curves.shape[1], step,
        &electrolyte_curves[0, 0], &electrolyte_curves[1, 0], electrolyte_curves.shape[1], e_step)
    with nogil:
        for i in range(current_A.shape[0]):
            prepare(&cell[0], &state[0], &fade_n[0], &fade_p[0], &weight_n[0], &weight_p[0],
                    &tables, dt, &ready)
            voltage = voltage_at(&cell[0], &ready, 0.0, &tables, current_A[i], &ocv)
            finish(&cell[0], &ready, &state[0], ocv, voltage, current_A[i], ambient_K, dt)
            voltage_V[i] = voltage
            temperature_K[i] = state[TEMPERATURE]


cdef double hold(
    const double* cell, const Ready* ready, double seat_ohm, const Tables* tables,
    double target_V, double guess_A, double* ocv, double* voltage
) noexcept nogil:
    """Return the current that brings the voltage to the target at the step's end."""
    cdef double a = guess_A, b, va, vb, slope
    cdef int i
    va = voltage_at(cell, ready, seat_ohm, tables, a, ocv)
    b = a + (target_V - va) / 0.03
    for i in range(30):
        vb = voltage_at(cell, ready, seat_ohm, tables, b, ocv)
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
    float[:, ::1] log_A, float[:, ::1] log_V, short[:, ::1] log_state, double dt=1.0
):
    """Advance every channel by whole seconds, or other steps of `dt`; one row of the logs each.

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
                           ambient_K[channel], steps, test_counts, tests, dt)
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
    const int[:, ::1] test_counts, const double[:, :, :, ::1] tests, double dt
) noexcept nogil:
    """One second of one channel: control, cell, measurement, tests, step change."""
    cdef Ready ready
    cdef double current = 0.0, voltage = 0.0, ocv = 0.0, set_A, limit_V, sign, moved_Ah
    cdef int slot = <int>run[SLOT] - 1, at = <int>run[STEP] - 1, mode = REST
    if run[STATUS] == RUNNING:
        mode = <int>steps[slot, at, 0]
    prepare(cell, state, fade_n, fade_p, weight_n, weight_p, tables, dt, &ready)
    if mode != REST:
        sign = -1.0 if mode == DISCHARGE else 1.0
        set_A = sign * steps[slot, at, 2]
        limit_V = (steps[slot, at, 3] - meter[OFFSET_V]) / (1.0 + meter[GAIN_V])
        current = (set_A - meter[OFFSET_I]) / (1.0 + meter[GAIN_I])
        voltage = voltage_at(cell, &ready, run[SEAT], tables, current, &ocv)
        if sign * (voltage - limit_V) > 0.0:
            current = hold(cell, &ready, run[SEAT], tables, limit_V, run[TRUE_CURRENT], &ocv,
                           &voltage)
            if sign * current < 0.0:
                current = 0.0
    if mode == REST or current == 0.0:
        current = 0.0
        voltage = voltage_at(cell, &ready, run[SEAT], tables, 0.0, &ocv)
    finish(cell, &ready, state, ocv, voltage, current, ambient_K, dt)
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
        moved_Ah = run[CURRENT] * dt / 3600.0
        run[AMP_HOURS] += moved_Ah
        run[WATT_HOURS] += moved_Ah * run[VOLTAGE]
        run[STEP_AH] += moved_Ah
        run[STEP_WH] += moved_Ah * run[VOLTAGE]
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
