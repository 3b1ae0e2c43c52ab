# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Which of a cycler's samples are worth a row, on all channels at once.

The rule of `batterylab.bench.recorder`, sample by sample. No checks here: the recorder makes them.
"""

from libc.math cimport fabs


def choose(
    const double[::1] time_s, const double[:, ::1] voltage_V, const long long[:, ::1] step,
    const double[:, ::1] every_s, double moves_V, double[::1] kept_s, double[::1] kept_V,
    long long[::1] last_step, unsigned char[:, ::1] chosen
):
    """Mark the samples to keep: first and last of a step, interval passed, voltage moved.

    `kept_s` and `kept_V` hold each channel's last kept sample, `last_step` its last step; all
    three go on from call to call. That the last sample before this call should have been kept
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
                    now != before or time_s[i] - kept_s[c] >= every_s[i, c]
                    or fabs(voltage_V[i, c] - kept_V[c]) >= moves_V
                ):
                    kept_s[c] = time_s[i]
                    kept_V[c] = voltage_V[i, c]
                    chosen[i, c] = 1
                before = now
            last_step[c] = before
