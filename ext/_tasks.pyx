# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Fits that are ready to run: one, or many without returning to Python. No checks here.

Every kernel's fit is a `Task`: it holds its data, and its work needs no interpreter. `run` takes
the interpreter's lock for as long as it collects the tasks, and lets go of it while they work, so
that several threads, each with its share of one list, run side by side.
"""

from libc.stdlib cimport free, malloc

from batterylab._kernels._tasks cimport Job, Task
from levmar cimport NOT_FINITE, best_of, make_problem


cdef void fit_starts(Job* job) noexcept nogil:
    job.outcome = best_of(&job.problem, job.starts, job.count, job.parameters)


cdef class Task:
    """One fit. A kernel's own class sets model and data, and may have other work."""

    cdef void prepare(
        self, const double[:, ::1] starts, const double[::1] lower, const double[::1] upper,
        double[::1] parameters, double[::1] residual, double[::1] trial,
        double[:, ::1] jacobian, int most_steps, double tolerance, int loss, double loss_scale
    ):
        self.job.problem = make_problem(
            NULL, NULL, residual.shape[0], starts.shape[1], &lower[0], &upper[0], &residual[0],
            &trial[0], &jacobian[0, 0], most_steps, tolerance, loss, loss_scale)
        self.job.starts = &starts[0, 0]
        self.job.count = starts.shape[0]
        self.job.parameters = &parameters[0]
        self.job.outcome.status = NOT_FINITE
        self.job.outcome.steps = 0
        self.job.outcome.cost = 0.0
        self.job.work = fit_starts

    @property
    def status(self):
        """As in `levmar.pxd`, or as the kernel's own work says."""
        return self.job.outcome.status

    @property
    def steps(self):
        """Of the best start."""
        return self.job.outcome.steps

    @property
    def cost(self):
        """Half the sum of squares, or of what the loss makes of them."""
        return self.job.outcome.cost


def run(list tasks, Py_ssize_t first=0, Py_ssize_t stride=1):
    """Run the tasks `first`, `first + stride`, ... one after the other, without the lock."""
    cdef Py_ssize_t k, count = len(tasks)
    cdef Job** jobs = <Job**>malloc((count + 1) * sizeof(Job*))
    if jobs == NULL:
        raise MemoryError
    try:
        for k in range(count):
            jobs[k] = &(<Task?>tasks[k]).job
        with nogil:
            k = first
            while k < count:
                jobs[k].work(jobs[k])
                k += stride
    finally:
        free(jobs)
