# What the single-particle kernel sees of a cell in time, and how it is read between steps.
# Header only.

from salt_line cimport log_moments
from spm_cell cimport (
    LAST_N, LAST_P, LOG_N, LOG_P, MEAN_C, SALT, SEEN, Cell, State,
)
from diffusion cimport MOST_P

# flags of a row; what is above them is the part that it belongs to
cdef enum:
    OBSERVED = 1
    RELAXED = 2      # a new beginning
    RAMP = 4         # the current rose linearly from that of the row before
    PART = 4         # bits to shift

# a current that moves less than this share of the largest flows on; a change above the other
# begins small steps anew
cdef enum:
    SAME = 1000
    JUMP = 50

cdef struct Run:
    Cell cell
    const double* time_s
    const double* current_A
    const double* charge_Ah
    const double* temperature_K     # of the cell, or around it if the heat is lumped
    const double* voltage_V         # NULL: the residual is the voltage itself
    const unsigned char* flags
    Py_ssize_t rows
    double most_A
    const double* base              # all parameters
    const int* free                 # which of them are fitted
    int count
    double* out_K                   # NULL, or the temperature in every row
    double* salt                    # NULL, or what is seen of the salt in each observed row
    bint is_salt_known              # `salt` is filled: no fitted parameter touches it
    bint has_lines                  # something besides exponentials goes forward
    bint follows                    # and a fitted parameter moves it
    unsigned char moves_salt[MOST_P]
    double first_s                  # steps in time after a change of current
    double growth
    double most_s                   # longest, or that share of the time since
    double share


cdef inline void take_seen(const Run* run, State* s, bint slopes) noexcept nogil:
    """Read off the lines what the voltage needs of them."""
    cdef const Cell* cell = &run.cell
    cdef int k, j, first = cell.salt.cells - cell.cells_p
    cdef double mean
    if cell.salt.cells > 0 and not run.is_salt_known:
        log_moments(s.salt.u, cell.cells_n, True, s.seen + LOG_N, &s.salt.du[0][0],
                    run.count if slopes else 0, run.moves_salt, &s.d_seen[0][0], SEEN, LOG_N)
        log_moments(s.salt.u + first, cell.cells_p, False, s.seen + LOG_P, &s.salt.du[0][first],
                    run.count if slopes else 0, run.moves_salt, &s.d_seen[0][0], SEEN, LOG_P)
        mean = 0.0
        for k in range(cell.salt.cells):
            mean += cell.share[k] * s.salt.u[k]
        s.seen[MEAN_C] = max(1e-3 * mean, 1e-3)
        for j in range(run.count if slopes else 0):
            if run.moves_salt[j]:
                mean = 0.0
                for k in range(cell.salt.cells):
                    mean += cell.share[k] * s.salt.du[j][k]
                s.d_seen[j][MEAN_C] = 1e-3 * mean
    if cell.line_n.cells > 0:
        s.seen[LAST_N] = s.n.line.u[cell.line_n.cells - 1]
    if cell.line_p.cells > 0:
        s.seen[LAST_P] = s.p.line.u[cell.line_p.cells - 1]
    for j in range(run.count if slopes else 0):
        if cell.line_n.cells > 0:
            s.d_seen[j][LAST_N] = s.n.line.du[j][cell.line_n.cells - 1]
        if cell.line_p.cells > 0:
            s.d_seen[j][LAST_P] = s.p.line.du[j][cell.line_p.cells - 1]


cdef inline void keep_node(const Run* run, State* s, bint slopes) noexcept nogil:
    """Keep what is seen now as the last of up to three nodes."""
    cdef int i, j, k
    if s.nodes == 3:
        for i in range(2):
            s.node_s[i] = s.node_s[i + 1]
            for k in range(SEEN):
                s.node[i][k] = s.node[i + 1][k]
            if slopes and run.follows:
                for j in range(run.count):
                    for k in range(SEEN):
                        s.d_node[i][j][k] = s.d_node[i + 1][j][k]
        s.nodes = 2
    s.node_s[s.nodes] = s.now_s
    for k in range(SEEN):
        s.node[s.nodes][k] = s.seen[k]
    if slopes and run.follows:
        for j in range(run.count):
            for k in range(SEEN):
                s.d_node[s.nodes][j][k] = s.d_seen[j][k]
    s.nodes += 1


cdef inline void forget_nodes(const Run* run, State* s, bint slopes) noexcept nogil:
    """Keep the last node only: at it the current changed."""
    cdef int j, k, last = s.nodes - 1
    s.nodes = 1
    if last == 0:
        return
    s.node_s[0] = s.node_s[last]
    for k in range(SEEN):
        s.node[0][k] = s.node[last][k]
    if slopes and run.follows:
        for j in range(run.count):
            for k in range(SEEN):
                s.d_node[0][j][k] = s.d_node[last][j][k]


cdef inline void interpolate(const Run* run, State* s, double t, bint slopes) noexcept nogil:
    """Set what is seen at a time from the nodes: a parabola, or a line through two."""
    cdef double weight[3]
    cdef double a, b, c, total
    cdef int i, j, k, first = SALT if run.is_salt_known else 0
    cdef int last = s.nodes - 1
    cdef const double* end = &s.node[last][0]
    if last == 0 or t >= s.node_s[last]:
        for k in range(first, SEEN):
            s.seen[k] = s.node[last][k]
        if slopes and run.follows:
            for j in range(run.count):
                for k in range(SEEN):
                    s.d_seen[j][k] = s.d_node[last][j][k]
        return
    b = s.node_s[last] - s.node_s[last - 1]
    c = (t - s.node_s[last - 1]) / b
    weight[2] = c
    weight[1] = 1.0 - c
    weight[0] = 0.0
    if last == 2:
        a = s.node_s[1] - s.node_s[0]
        total = c * (c - 1.0) * b * b
        weight[0] = total / (a * (a + b))
        weight[1] -= total / (a * b)
        weight[2] += total / (b * (a + b))
    for k in range(first, SEEN):
        total = weight[1] * s.node[last - 1][k] + weight[2] * s.node[last][k]
        s.seen[k] = total + (weight[0] * s.node[0][k] if last == 2 else 0.0)
    if slopes and run.follows:
        for j in range(run.count):
            for k in range(SEEN):
                total = weight[1] * s.d_node[last - 1][j][k] + weight[2] * s.d_node[last][j][k]
                s.d_seen[j][k] = total + (weight[0] * s.d_node[0][j][k] if last == 2 else 0.0)
