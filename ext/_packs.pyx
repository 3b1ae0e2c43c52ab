# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Discharge packs of unequal cells. No checks here: `batterylab.suppliers.packrun` makes them."""


cdef inline double potential(const double[::1] table, double state) noexcept nogil:
    """The open-circuit voltage at a state of charge, straight between the table's points."""
    cdef Py_ssize_t last = table.shape[0] - 1
    cdef double place = state * last
    cdef Py_ssize_t k
    if place <= 0.0:
        return table[0] + place * (table[1] - table[0])
    if place >= last:
        return table[last]
    k = <Py_ssize_t>place
    return table[k] + (place - k) * (table[k + 1] - table[k])


cdef inline double slope(const double[::1] table, double state) noexcept nogil:
    """The slope of the open-circuit voltage over the state of charge."""
    cdef Py_ssize_t last = table.shape[0] - 1
    cdef Py_ssize_t k = <Py_ssize_t>(state * last) if state > 0.0 else 0
    if k >= last:
        k = last - 1
    return (table[k + 1] - table[k]) * last


def discharge(
    const double[:, :, ::1] capacity_Ah,
    const double[:, :, ::1] resistance_ohm,
    const double[::1] ocv_V,
    double current_A,
    double lowest_V,
    double step_h,
    Py_ssize_t most_steps,
    double[:, :, ::1] state,
    double[:, ::1] out,
):
    """Discharge each pack (packs, series, parallel) from `state` until a group is empty.

    The cells of a group share its current by their voltages and resistances. A step is taken
    implicitly (the voltage of its end, along the slope of the open-circuit voltage), so that
    cells of small resistance do not swing. `out` gets, for each pack: charge in Ah, energy in
    Wh, the charge left in the fullest group relative to its capacity, and the largest current
    of a cell relative to its equal share.
    """
    cdef Py_ssize_t packs = capacity_Ah.shape[0]
    cdef Py_ssize_t series = capacity_Ah.shape[1], parallel = capacity_Ah.shape[2]
    cdef Py_ssize_t p, s, k, step
    cdef double charge, energy, most, left, volts, weight, level, lowest, pack_V, before_V
    cdef double current, stored, size, share, before_lowest, part, ohm, hours
    with nogil:
        for p in range(packs):
            charge = energy = most = 0.0
            before_V, before_lowest = 0.0, 1e9
            for step in range(most_steps + 1):
                hours = step_h if step > 0 else 0.0  # the first pass is the voltage at the start
                pack_V, lowest = 0.0, 1e9
                for s in range(series):
                    weight = level = 0.0
                    for k in range(parallel):
                        ohm = resistance_ohm[p, s, k] + (
                            slope(ocv_V, state[p, s, k]) * hours / capacity_Ah[p, s, k])
                        weight += 1.0 / ohm
                        level += potential(ocv_V, state[p, s, k]) / ohm
                    volts = (level - current_A) / weight
                    pack_V += volts
                    if volts < lowest:
                        lowest = volts
                    for k in range(parallel):
                        ohm = resistance_ohm[p, s, k] + (
                            slope(ocv_V, state[p, s, k]) * hours / capacity_Ah[p, s, k])
                        current = (potential(ocv_V, state[p, s, k]) - volts) / ohm
                        share = current * parallel / current_A
                        if step > 0 and lowest > lowest_V and share > most:
                            most = share
                        state[p, s, k] -= current * hours / capacity_Ah[p, s, k]
                if step > 0:
                    part = 1.0
                    if lowest <= lowest_V:  # the last step counts to where a group was empty
                        part = 0.0
                        if before_lowest > lowest_V:
                            part = (before_lowest - lowest_V) / (before_lowest - lowest)
                    charge += part * current_A * step_h
                    energy += part * 0.5 * current_A * step_h * (
                        before_V + before_V + part * (pack_V - before_V))
                    if lowest <= lowest_V:
                        break
                before_V, before_lowest = pack_V, lowest
            left = 0.0
            for s in range(series):
                stored = size = 0.0
                for k in range(parallel):
                    stored += state[p, s, k] * capacity_Ah[p, s, k]
                    size += capacity_Ah[p, s, k]
                if stored / size > left:
                    left = stored / size
            out[p, 0] = charge
            out[p, 1] = energy
            out[p, 2] = left
            out[p, 3] = most


def peak_power(
    const double[:, :, ::1] resistance_ohm,
    const double[:, :, ::1] potential_V,
    double lowest_V,
    double[::1] out_W,
):
    """Fill `out_W` with the power at which the weakest group of each pack is at `lowest_V`."""
    cdef Py_ssize_t packs = resistance_ohm.shape[0]
    cdef Py_ssize_t series = resistance_ohm.shape[1], parallel = resistance_ohm.shape[2]
    cdef Py_ssize_t p, s, k
    cdef double weight, level, least, total
    with nogil:
        for p in range(packs):
            least = 1e300
            for s in range(series):
                weight = level = 0.0
                for k in range(parallel):
                    weight += 1.0 / resistance_ohm[p, s, k]
                    level += potential_V[p, s, k] / resistance_ohm[p, s, k]
                if level - lowest_V * weight < least:
                    least = level - lowest_V * weight
            total = 0.0
            for s in range(series):
                weight = level = 0.0
                for k in range(parallel):
                    weight += 1.0 / resistance_ohm[p, s, k]
                    level += potential_V[p, s, k] / resistance_ohm[p, s, k]
                total += (level - least) / weight
            out_W[p] = least * total
