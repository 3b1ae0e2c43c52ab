# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Impedance of circuits and of the single-particle model with electrolyte. No checks here.

A circuit is a tree whose nodes stand after their children. Parameters are logarithms, but for
the exponents of constant-phase elements. A residual is weight * (model - measured), all real
parts, then all imaginary ones. `batterylab.fit.impedance` checks what goes in.
"""

from libc.math cimport M_PI, cos, exp, log, sin, sqrt

from complexes cimport complex_sqrt, complex_tanh
from batterylab._kernels._tasks cimport Task
from diffusion cimport MOST_P
from levmar cimport half_square
from spme_impedance cimport IPARAMETERS, Cell, SpmeCell, settle_impedance, spme_at

cdef enum:
    SERIES, PARALLEL, RESISTOR, CAPACITOR, INDUCTOR, PHASE, WARBURG, OPEN, SHORT
    MOST_NODES = 64

cdef struct Spectrum:
    const double* omega
    const double* real          # NULL: the residual is the impedance itself
    const double* imag
    const double* weight
    Py_ssize_t rows

cdef struct Circuit:
    Spectrum seen
    const int* kind             # of each node
    const int* parent           # -1 of the last
    const int* first            # parameter
    int nodes
    int count


cdef void put(
    const Spectrum* seen, Py_ssize_t i, double complex z, double* residual
) noexcept nogil:
    cdef double w = seen.weight[i] if seen.weight != NULL else 1.0
    residual[i] = w * (z.real - (seen.real[i] if seen.real != NULL else 0.0))
    residual[seen.rows + i] = w * (z.imag - (seen.imag[i] if seen.imag != NULL else 0.0))


cdef void put_slope(
    const Spectrum* seen, Py_ssize_t i, int count, int j, double complex dz, double* jacobian
) noexcept nogil:
    cdef double w = seen.weight[i] if seen.weight != NULL else 1.0
    jacobian[i * count + j] = w * dz.real
    jacobian[(seen.rows + i) * count + j] = w * dz.imag


cdef inline double complex element(
    int kind, const double* p, const double* fixed, double omega, double log_omega,
    double complex* first, double complex* second
) noexcept nogil:
    """Return an element's impedance and its derivatives; `fixed` holds what omega leaves."""
    cdef double complex z, q, t
    cdef double size
    if kind == RESISTOR:
        z = fixed[0]
        first[0] = z
    elif kind == CAPACITOR:
        z = -1j / (omega * fixed[0])
        first[0] = -z
    elif kind == INDUCTOR:
        z = 1j * omega * fixed[0]
        first[0] = z
    elif kind == PHASE:
        size = exp(-p[1] * log_omega) / fixed[0]
        z = size * fixed[1] - 1j * (size * fixed[2])
        first[0] = -z
        second[0] = -z * (log_omega + 0.5j * M_PI)
    elif kind == WARBURG:
        size = fixed[0] / sqrt(omega)
        z = size - 1j * size
        first[0] = z
    else:
        q = complex_sqrt(1j * omega * fixed[1])
        t = complex_tanh(q)
        if kind == OPEN:
            t = 1.0 / t
        z = fixed[0] * t / q
        first[0] = z
        second[0] = 0.5 * (fixed[0] * (1.0 - t * t) - z)
    return z


cdef void prepare(const Circuit* c, const double* p, double* fixed) noexcept nogil:
    """Fill what every frequency shares, three numbers a node."""
    cdef int k
    cdef const double* own
    for k in range(c.nodes):
        if c.kind[k] <= PARALLEL:
            continue
        own = p + c.first[k]
        fixed[3 * k] = exp(own[0])
        if c.kind[k] == PHASE:
            fixed[3 * k + 1] = cos(0.5 * M_PI * own[1])
            fixed[3 * k + 2] = sin(0.5 * M_PI * own[1])
        elif c.kind[k] >= OPEN:
            fixed[3 * k + 1] = exp(own[1])


cdef void evaluate_circuit(
    const void* data, const double* p, double* residual, double* jacobian
) noexcept nogil:
    cdef const Circuit* c = <const Circuit*>data
    cdef double fixed[3 * MOST_NODES]
    cdef double complex z[MOST_NODES]
    cdef double complex gain[MOST_NODES]
    cdef double complex slope[2 * MOST_NODES]
    cdef double complex share
    cdef double omega, log_omega
    cdef Py_ssize_t i
    cdef int k, above
    prepare(c, p, fixed)
    for i in range(c.seen.rows):
        omega = c.seen.omega[i]
        log_omega = log(omega)
        for k in range(c.nodes):
            if c.kind[k] <= PARALLEL:
                z[k] = 0.0
        for k in range(c.nodes):
            if c.kind[k] == PARALLEL:
                z[k] = 1.0 / z[k]
            elif c.kind[k] != SERIES:
                z[k] = element(c.kind[k], p + c.first[k], fixed + 3 * k, omega, log_omega,
                               &slope[2 * k], &slope[2 * k + 1])
            above = c.parent[k]
            if above >= 0:
                z[above] = z[above] + (z[k] if c.kind[above] == SERIES else 1.0 / z[k])
        put(&c.seen, i, z[c.nodes - 1], residual)
        if jacobian == NULL:
            continue
        gain[c.nodes - 1] = 1.0
        for k in range(c.nodes - 1, -1, -1):
            above = c.parent[k]
            if above >= 0:
                gain[k] = gain[above]
                if c.kind[above] == PARALLEL:
                    share = z[above] / z[k]
                    gain[k] = gain[k] * share * share
            if c.kind[k] <= PARALLEL:
                continue
            put_slope(&c.seen, i, c.count, c.first[k], gain[k] * slope[2 * k], jacobian)
            if c.kind[k] == PHASE or c.kind[k] >= OPEN:
                put_slope(&c.seen, i, c.count, c.first[k] + 1, gain[k] * slope[2 * k + 1],
                          jacobian)


cdef Spectrum spectrum_of(const double[::1] omega, object measured, object weight):
    """Return the spectrum; `measured`, of shape (2, n), and `weight` may be None."""
    cdef Spectrum seen
    cdef const double[:, ::1] ohm
    cdef const double[::1] weights
    seen.omega = &omega[0]
    seen.rows = omega.shape[0]
    seen.real = seen.imag = seen.weight = NULL
    if measured is not None:
        ohm = measured
        seen.real = &ohm[0, 0]
        seen.imag = &ohm[1, 0]
    if weight is not None:
        weights = weight
        seen.weight = &weights[0]
    return seen


cdef class Tree:
    """A circuit as the kernel reads it; keeps the arrays alive."""

    cdef Circuit circuit
    cdef object arrays

    def __init__(
        self, const int[::1] kind, const int[::1] parent, const int[::1] first, int count
    ):
        if not 0 < kind.shape[0] <= MOST_NODES or not 0 < count <= MOST_P:
            raise ValueError("too many nodes or parameters")
        self.arrays = (kind, parent, first)
        self.circuit.kind = &kind[0]
        self.circuit.parent = &parent[0]
        self.circuit.first = &first[0]
        self.circuit.nodes = kind.shape[0]
        self.circuit.count = count


cdef class Particles:
    """A cell as the kernel of the single-particle model reads it; keeps the arrays alive."""

    cdef SpmeCell cell
    cdef object arrays

    def __init__(
        self, const double[::1] numbers, const double[:, ::1] curves,
        const double[:, ::1] diffusivity
    ):
        self.arrays = (numbers, curves, diffusivity)
        self.cell.numbers = &numbers[0]
        self.cell.curves = &curves[0, 0]
        self.cell.points = curves.shape[1]
        self.cell.diffusivity = &diffusivity[0, 0]
        self.cell.d_points = diffusivity.shape[1]


cdef struct Fitted:
    Spectrum seen
    const SpmeCell* cell
    const double* base          # all parameters
    const int* free             # which of them are fitted
    int count


cdef void evaluate_spme(
    const void* data, const double* p, double* residual, double* jacobian
) noexcept nogil:
    cdef const Fitted* run = <const Fitted*>data
    cdef double q[IPARAMETERS]
    cdef double complex slopes[MOST_P]
    cdef double complex z
    cdef Cell here
    cdef Py_ssize_t i
    cdef int j, n = run.count if jacobian != NULL else 0
    for j in range(IPARAMETERS):
        q[j] = run.base[j]
    for j in range(run.count):
        q[run.free[j]] = p[j]
    settle_impedance(run.cell, q, run.free, n, &here)
    for i in range(run.seen.rows):
        z = spme_at(run.cell, &here, run.seen.omega[i], run.free, n, slopes)
        put(&run.seen, i, z, residual)
        for j in range(n):
            put_slope(&run.seen, i, run.count, j, slopes[j], jacobian)


def circuit(
    Tree tree, const double[::1] omega, const double[::1] parameters, double[:, ::1] out_ohm,
    double[:, ::1] out_jacobian
):
    """Fill real and imaginary part, shape (2, n), and derivatives, shape (2 n, p)."""
    cdef Circuit c = tree.circuit
    c.seen = spectrum_of(omega, None, None)
    with nogil:
        evaluate_circuit(&c, &parameters[0], &out_ohm[0, 0], &out_jacobian[0, 0])


def circuit_costs(
    Tree tree, const double[::1] omega, const double[:, ::1] measured,
    const double[::1] weight, const double[:, ::1] starts, double[::1] work,
    double[::1] out
):
    """Fill half the sum of squares at each start; `work` holds 2 n numbers."""
    cdef Circuit c = tree.circuit
    cdef Py_ssize_t k
    c.seen = spectrum_of(omega, measured, weight)
    with nogil:
        for k in range(starts.shape[0]):
            evaluate_circuit(&c, &starts[k, 0], &work[0], NULL)
            out[k] = half_square(&work[0], 2 * c.seen.rows)


cdef class CircuitFit(Task):
    """A fit of a circuit from every start."""

    cdef Circuit circuit

    def __init__(
        self, Tree tree, const double[::1] omega, const double[:, ::1] measured,
        const double[::1] weight, const double[:, ::1] starts, const double[::1] lower,
        const double[::1] upper, double[::1] parameters, double[::1] residual,
        double[::1] trial, double[:, ::1] jacobian, int most_steps, double tolerance, int loss,
        double loss_scale
    ):
        self.prepare(starts, lower, upper, parameters, residual, trial, jacobian, most_steps,
                     tolerance, loss, loss_scale)
        self.kept = (tree, omega, measured, weight, starts, lower, upper, parameters, residual,
                     trial, jacobian)
        self.circuit = tree.circuit
        self.circuit.seen = spectrum_of(omega, measured, weight)
        self.job.problem.model = evaluate_circuit
        self.job.problem.data = &self.circuit


def spme(
    Particles particles, const double[::1] omega, const double[::1] base, const int[::1] free,
    double[:, ::1] out_ohm, double[:, ::1] out_jacobian
):
    """Fill real and imaginary part, shape (2, n), and derivatives, if there is room for them."""
    cdef Fitted run
    cdef double p[MOST_P]
    cdef double* slopes = NULL
    cdef int j
    run.seen = spectrum_of(omega, None, None)
    run.cell = &particles.cell
    run.base = &base[0]
    run.free = &free[0]
    run.count = free.shape[0]
    for j in range(run.count):
        p[j] = base[free[j]]
    if out_jacobian.shape[0]:
        slopes = &out_jacobian[0, 0]
    with nogil:
        evaluate_spme(&run, p, &out_ohm[0, 0], slopes)


cdef class SpmeFit(Task):
    """A fit of the single-particle model from every start."""

    cdef Fitted run

    def __init__(
        self, Particles particles, const double[::1] omega, const double[:, ::1] measured,
        const double[::1] weight, const double[::1] base, const int[::1] free,
        const double[:, ::1] starts, const double[::1] lower, const double[::1] upper,
        double[::1] parameters, double[::1] residual, double[::1] trial,
        double[:, ::1] jacobian, int most_steps, double tolerance, int loss, double loss_scale
    ):
        self.prepare(starts, lower, upper, parameters, residual, trial, jacobian, most_steps,
                     tolerance, loss, loss_scale)
        self.kept = (particles, omega, measured, weight, base, free, starts, lower, upper,
                     parameters, residual, trial, jacobian)
        self.run.seen = spectrum_of(omega, measured, weight)
        self.run.cell = &particles.cell
        self.run.base = &base[0]
        self.run.free = &free[0]
        self.run.count = free.shape[0]
        self.job.problem.model = evaluate_spme
        self.job.problem.data = &self.run
