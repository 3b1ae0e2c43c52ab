# One fit, ready to run, as every kernel makes it.

from levmar cimport Outcome, Problem

cdef struct Job

# Run a job without the interpreter's lock; the outcome goes into it.
ctypedef void (*Work)(Job*) noexcept nogil

cdef struct Job:
    Problem problem
    const double* starts
    Py_ssize_t count        # of starts
    double* parameters
    Outcome outcome
    Work work

cdef class Task:
    cdef Job job
    cdef tuple kept         # arrays that the pointers point into

    cdef void prepare(
        self, const double[:, ::1] starts, const double[::1] lower, const double[::1] upper,
        double[::1] parameters, double[::1] residual, double[::1] trial,
        double[:, ::1] jacobian, int most_steps, double tolerance, int loss, double loss_scale)
