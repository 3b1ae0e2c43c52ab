# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Which of a cycler's samples are worth a row, on all channels at once.

The rule of `batterylab.bench.recorder`, sample by sample. No checks here: the recorder makes them.
"""

from libc.math cimport fabs


def choose(
    const double[::1] time_s, const double[:, ::1] current_A, const double[:, ::1] voltage_V,
    const long long[:, ::1] step, const double[:, ::1] every_s, const double[:, :] moves_A,
    const double[:, :] moves_V, double[:, ::1] kept, long long[::1] last_step,
    unsigned char[:, ::1] chosen
):
    """Mark the samples to keep: first and last of a step, interval passed, a value moved.

    `kept` holds time, current and voltage of each channel's last kept sample, a row each,
    `last_step` its last step; both go on from call to call. That the last sample before this call should have been kept
    is the caller's to see: then `last_step` is not the first step of `step`.
    """
    cdef Py_ssize_t i, c, n = step.shape[0]
    cdef long long now, before
    with nogil:
        for c in range(step.shape[1]):
            before = last_step[c]
            for i in range(n):
                now = step[i, c]
                if now != before and i > 0 and before >= 0:
                    chosen[i - 1, c] = 1
                if now >= 0 and (
                    now != before or time_s[i] - kept[0, c] >= every_s[i, c]
                    or fabs(voltage_V[i, c] - kept[2, c]) >= moves_V[i, c]
                    or fabs(current_A[i, c] - kept[1, c]) >= moves_A[i, c]
                ):
                    kept[0, c] = time_s[i]
                    kept[1, c] = current_A[i, c]
                    kept[2, c] = voltage_V[i, c]
                    chosen[i, c] = 1
                before = now
            last_step[c] = before
