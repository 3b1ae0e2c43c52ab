# What a tester does with a cell, whichever model that is: it holds a current, a voltage, a power
# or a load, and gives way to its limits. Header only.
#
# A known current is constant over a step in time. One that is sought runs straight from the last
# one; after a jump the steps are small again, and the current is constant over the first.

from libc.math cimport fabs

cdef enum:
    REST, CURRENT, VOLTAGE, POWER, RESISTANCE

# a change of a known current by more than this part of both is a jump; of a sought one by more
# than that part of both and of the current that would move the capacity in an hour
cdef enum:
    KNOWN_JUMP = 50
    SOUGHT_JUMP = 10
    SMALL_JUMP = 5000

# what the tester is told; a current is positive on charge
cdef struct Order:
    int mode
    double value
    double low_V
    double high_V
    double most_A             # to which all but a current give way
    double ambient_K

# of steps in time
cdef struct Pace:
    double first_s
    double growth
    double most_s             # longest, or that share of the time since the last jump
    double share

# how far a cell has come in the tester's hands; a row of doubles for Python
cdef struct Course:
    double last_A             # at the end of the last step in time, and of the one before
    double before_A
    double ohm                # by which the voltage rose with the current when one was sought
    double holds              # 1: a voltage limit is held
    double since              # the current last jumped, in s
    double last_h             # the last two steps in time; 0: none since the jump
    double earlier_h

ctypedef void (*Mark)(void* cell) noexcept nogil
ctypedef double (*Carry)(void* cell, const Course* course, double h, double amps) noexcept nogil
ctypedef void (*Prepare)(void* cell, const Course* course, double h) noexcept nogil
ctypedef double (*Look)(void* cell, double amps) noexcept nogil
ctypedef void (*Keep)(void* cell, double h, double amps, double ambient_K) noexcept nogil

# a model's cell, and how it is driven
cdef struct Driven:
    void* cell
    double capacity_Ah
    Pace pace
    Mark mark                 # remember where a step begins
    Mark undo                 # go back there
    Carry carry               # make a step at a known current; return the voltage at its end
    Prepare prepare           # get ready to make one at any current
    Look look                 # make that step
    Keep keep                 # let the step that was made stand, and the cell warm up
    bint is_straight          # a sought current runs straight over a step; else it is constant
    Course course
    double mean_A             # over the last interval


cdef inline double missing(
    int mode, double value, double volts, double amps, double ohm
) noexcept nogil:
    """Return by how many volts a step ended below what is held."""
    if mode == VOLTAGE:
        return value - volts
    if not volts > 0.1:
        volts = 0.1
    if mode == POWER:
        return (value / volts - amps) * ohm
    return (-volts / value - amps) * ohm


cdef inline double seek(
    Driven* d, double h, int mode, double value, double* found_A
) noexcept nogil:
    """Make a step at whose end a voltage, a power or a load is held to a microvolt."""
    cdef Course* c = &d.course
    cdef double usual = 0.15 / d.capacity_Ah, ohm = c.ohm if c.ohm > 0.02 * usual else usual
    cdef double amps = c.last_A, good_A = 0.0, before_A = 0.0, miss, miss_before = 0.0, volts
    cdef double drift = c.last_A - c.before_A
    cdef bint is_second = False
    cdef int i
    d.prepare(d.cell, c, h)
    if c.last_h > 0.0 and fabs(drift) < 0.05 * fabs(amps):
        amps += drift * h / c.last_h
    for i in range(60):
        volts = d.look(d.cell, amps)
        if volts != volts:  # the cell cannot carry it
            amps = 0.5 * (amps + good_A)
            is_second = False
            continue
        good_A = amps
        miss = missing(mode, value, volts, amps, usual)
        if is_second and amps != before_A:
            ohm = (miss_before - miss) / (amps - before_A)
            if not ohm > 0.02 * usual:
                ohm = usual
            c.ohm = ohm
        if fabs(miss) < 1e-6 or (is_second and fabs(amps - before_A) < 1e-11 * d.capacity_Ah):
            break
        is_second = True
        before_A, miss_before = amps, miss
        amps += miss / ohm
    found_A[0] = amps
    return volts


cdef inline double next_h(const Driven* d, double left_s) noexcept nogil:
    """Return the next step in time, with `left_s` to go."""
    cdef double h = d.pace.first_s
    if d.course.last_h > 0.0:
        h = min(d.pace.growth * d.course.last_h,
                max(d.pace.most_s, d.pace.share * d.course.since))
    if h >= 0.69 * left_s:
        return left_s
    return 0.5 * left_s if h > 0.5 * left_s else h


cdef inline bint jumps(const Driven* d, double amps, bint is_sought) noexcept nogil:
    cdef double last_A = d.course.last_A
    cdef double both = fabs(amps) + fabs(last_A), change = fabs(amps - last_A)
    if is_sought:
        return change > both / SOUGHT_JUMP + d.capacity_Ah / SMALL_JUMP
    return change > both / KNOWN_JUMP + 1e-12


cdef inline double attempt(
    Driven* d, const Order* order, double h, double* found_A, bint* is_sought
) noexcept nogil:
    """Make a step as the tester would: what it holds gives way to its limits."""
    cdef double volts
    cdef double sign = 1.0 if order.mode != RESISTANCE and order.value > 0.0 else -1.0
    cdef double limit_V = order.high_V if sign > 0.0 else order.low_V
    is_sought[0] = True
    if order.mode == CURRENT:
        if d.course.holds > 0.0:
            volts = seek(d, h, VOLTAGE, limit_V, found_A)
            if 0.0 <= sign * found_A[0] < fabs(order.value):
                return volts
            d.undo(d.cell)
            d.course.holds = 0.0
        is_sought[0] = False
        found_A[0] = order.value
        volts = d.carry(d.cell, &d.course, h, found_A[0])
    else:
        volts = seek(d, h, order.mode, order.value, found_A)
        if fabs(found_A[0]) > order.most_A:
            d.undo(d.cell)
            is_sought[0] = False
            found_A[0] = order.most_A if found_A[0] > 0.0 else -order.most_A
            volts = d.carry(d.cell, &d.course, h, found_A[0])
        if order.mode == VOLTAGE:
            return volts
    if volts != volts or sign * (volts - limit_V) <= 0.0:
        return volts
    d.undo(d.cell)
    volts = seek(d, h, VOLTAGE, limit_V, found_A)
    is_sought[0] = True
    if sign * found_A[0] >= 0.0:
        d.course.holds = 1.0 if order.mode == CURRENT else 0.0
        return volts
    d.undo(d.cell)  # beyond the limit already: nothing flows
    is_sought[0] = False
    d.course.holds = found_A[0] = 0.0
    return d.carry(d.cell, &d.course, h, 0.0)


cdef inline double interval(Driven* d, const Order* order, double length_s) noexcept nogil:
    """Advance by an interval; return the voltage at its end, NaN if the cell cannot go on."""
    cdef Course* c = &d.course
    cdef double h, volts = 0.0, amps = 0.0, begin_A, done = 0.0, moved = 0.0, most_h = length_s
    cdef bint is_sought = False, rests = order.mode == REST or (
        order.mode != VOLTAGE and order.value == 0.0)
    cdef int guard
    if order.mode != CURRENT or not order.value * c.last_A > 0.0:
        c.holds = 0.0  # by an order before
    for guard in range(10000000):
        if ((rests and jumps(d, 0.0, False))
                or (order.mode == CURRENT and not c.holds > 0.0 and jumps(d, order.value, False))):
            c.last_h = c.earlier_h = c.since = 0.0
        h = min(next_h(d, length_s - done), most_h)
        if rests:
            volts = d.carry(d.cell, c, h, 0.0)
        else:
            d.mark(d.cell)
            volts = attempt(d, order, h, &amps, &is_sought)
            if volts == volts and c.last_h > 0.0 and jumps(d, amps, is_sought):
                d.undo(d.cell)
                c.last_h = c.earlier_h = c.since = 0.0
                continue
        if volts != volts:  # there is no such step: a smaller one, if not too small already
            d.undo(d.cell)
            c.last_h = c.earlier_h = c.since = 0.0
            most_h = 0.25 * h
            if h < 1e-3:
                break
            continue
        most_h = length_s
        begin_A = c.last_A if d.is_straight and is_sought and c.last_h > 0.0 else amps
        moved += 0.5 * h * (begin_A + amps)
        d.keep(d.cell, h, amps, order.ambient_K)
        c.before_A = c.last_A if is_sought and c.last_h > 0.0 else amps
        c.last_A = amps
        c.earlier_h = c.last_h
        c.last_h = h
        c.since += h
        done += h
        if done >= length_s - 1e-9:
            break
    d.mean_A = moved / length_s
    return volts
