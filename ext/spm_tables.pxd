# A cell's arrays, checked in Python, as the single-particle kernels read them. Header only.

from diffusion cimport Line
from salt_line cimport Salt
from spm_cell cimport Cell


cdef inline void set_line(Line* line, const double[:, ::1] rows, const double* table,
                   Py_ssize_t points):
    line.cells = rows.shape[1]
    line.volume = &rows[0, 0]
    line.couple = &rows[1, 0]
    line.table = table
    line.points = points
    line.table_step = 1.0 / (points - 1)


cdef inline void set_salt(Salt* salt, const double[:, ::1] rows, const double[:, ::1] electrolyte):
    salt.cells = rows.shape[1]
    salt.volume = &rows[0, 0]
    salt.couple = &rows[1, 0]
    salt.source = &rows[2, 0]
    salt.portion = &rows[4, 0]
    salt.bend = &rows[5, 0]
    salt.diffusivity = &electrolyte[0, 0]
    salt.points = electrolyte.shape[1]
    salt.carry = &electrolyte[3, 0] if electrolyte.shape[0] > 3 else NULL


cdef inline void set_cell(
    Cell* cell, const double[::1] numbers, const double[:, :, ::1] curves, double t_ref,
    const double[:, ::1] electrolyte, double e_step, const double[:, ::1] sphere, double tail,
    const double[:, ::1] line_n, const double[:, ::1] line_p, const double[:, ::1] salt,
    const double[:, ::1] diffusivity, int cells_n, int cells_p, bint lumped
):
    """Let a cell read arrays, which must outlive it."""
    cell.numbers = &numbers[0]
    cell.solid_n = &curves[0, 0, 0]
    cell.solid_p = &curves[1, 0, 0]
    cell.points = curves.shape[1]
    cell.kappa = &electrolyte[1, 0]
    cell.chi = &electrolyte[2, 0]
    cell.e_points = electrolyte.shape[1]
    cell.e_step = e_step
    cell.t_ref = t_ref
    cell.sphere.count = sphere.shape[1]
    cell.sphere.rate = &sphere[0, 0]
    cell.sphere.weight = &sphere[1, 0]
    cell.sphere.tail = tail
    cell.lumped = lumped
    cell.cells_n = cells_n
    cell.cells_p = cells_p
    cell.line_n.cells = cell.line_p.cells = cell.salt.cells = 0
    if line_n.shape[1] > 1:
        set_line(&cell.line_n, line_n, &diffusivity[0, 0], diffusivity.shape[1])
        cell.source_n = &line_n[2, 0]
    if line_p.shape[1] > 1:
        set_line(&cell.line_p, line_p, &diffusivity[1, 0], diffusivity.shape[1])
        cell.source_p = &line_p[2, 0]
    if salt.shape[1] > 1:
        set_salt(&cell.salt, salt, electrolyte)
        cell.salt.table_step = e_step
        cell.salt.joints[0] = cells_n - 1
        cell.salt.joints[1] = salt.shape[1] - cells_p - 1
        cell.share = &salt[3, 0]
