"""The pack's kernel against liionpack, which solves a circuit of PyBaMM's cells.

The figures were made once by `benchmarks/pack_peer.py` with liionpack 0.3.8 and PyBaMM 23.9:
Chen2020 in the single-particle model, 25 degC, C/5 from 90 % SOC, cells of unequal capacity behind
connections of unequal resistance. The kernel gets the same cell's open-circuit voltage and one
resistance for all that the particles do.
"""

import numpy as np
import pytest

from batterylab._kernels import _packs

CAPACITY_Ah = 5.15315
POTENTIAL_V = np.array([
    2.5, 2.9212, 3.1094, 3.2107, 3.2959, 3.3787, 3.4339, 3.4641, 3.4852, 3.5056, 3.5286, 3.5545,
    3.5814, 3.6068, 3.629, 3.6487, 3.667, 3.6855, 3.7054, 3.7273, 3.7509, 3.775, 3.7983, 3.82,
    3.8406, 3.8624, 3.8896, 3.9206, 3.9479, 3.9713, 3.9943, 4.0181, 4.0421, 4.064, 4.0809, 4.0911,
    4.0967, 4.1048, 4.1236, 4.1564, 4.2,
])  # fmt: skip
#: of one cell among equal ones, over the first hour after the first half
RESISTANCE_ohm = 0.0459
STEP_s = 30.0
START = 0.9


def discharged(scale, connection_ohm, lowest_V=2.0, steps=2000):
    """Return what the kernel says of a pack, and the charge that each cell gave."""
    scale, connection = np.atleast_2d(scale), np.atleast_2d(connection_ohm)
    capacity = np.ascontiguousarray(CAPACITY_Ah * scale)[None]
    resistance = np.ascontiguousarray(connection + RESISTANCE_ohm / scale)[None]
    state, out = np.full_like(capacity, START), np.zeros((1, 4))
    _packs.discharge(capacity, resistance, POTENTIAL_V, 1.0 * scale.shape[1], lowest_V,
                     STEP_s / 3600.0, steps, state, out)  # fmt: skip
    return out[0], ((START - state) * capacity)[0]


@pytest.mark.parametrize(
    ("steps", "want_Ah", "near"),
    [(60, (0.5498, 0.5188, 0.4865, 0.4448), 0.01),
     (180, (1.5778, 1.5240, 1.4587, 1.4396), 0.002)],
)  # fmt: skip
def test_cells_in_parallel_share_the_charge_as_liionpack_says(steps, want_Ah, near):
    _, found_Ah = discharged((1.02, 1.0, 0.97, 1.01), (0.020, 0.025, 0.030, 0.045), steps=steps)
    assert found_Ah[0] == pytest.approx(want_Ah, rel=near)
    assert found_Ah.sum() == pytest.approx(sum(want_Ah), rel=1e-4)


def test_unequal_groups_lose_what_liionpack_says():
    unequal, _ = discharged(((1.03, 1.0), (0.95, 1.01)), np.full((2, 2), 0.025), lowest_V=3.0)
    equal, _ = discharged(np.full((2, 2), 0.9975), np.full((2, 2), 0.025), lowest_V=3.0)
    lost_percent = 100.0 * (1.0 - unequal[0] / equal[0])
    peer_percent = 100.0 * (1.0 - 15480.1 / 15760.3)
    assert lost_percent == pytest.approx(peer_percent, abs=0.03)
    assert unequal[0] / 2.0 * 3600.0 == pytest.approx(15480.1, rel=0.006)
