"""Meshes of the particle models: exponentials and shells of a sphere, the electrolyte's volumes.

Sources: H. S. Carslaw, J. C. Jaeger, *Conduction of Heat in Solids*, 2nd ed. (1959), section 9.8,
on the sphere under a constant flux.
"""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from batterylab.fit.celltables import CellTables

Array = NDArray[np.float64]

FARADAY_C_mol = 96485.33212

#: eigenmodes of the sphere that are kept as they are, and rates that stand for the others
EXACT_MODES = 5
OTHER_RATES = 11
FASTEST_RATE = 2e6
#: shells of a particle whose diffusivity varies, the outermost one's thickness
SHELLS = 44
THINNEST = 1e-3
#: volumes of the electrolyte in negative electrode, separator and positive electrode
VOLUMES = (14, 4, 12)


@cache
def sphere_exponentials() -> tuple[Array, float]:
    """Return rates and weights of exponentials that stand for a sphere's diffusion, and a tail.

    The surface of a sphere whose mean rises at unit speed from time 0 runs ahead of the mean by
    1/15 - sum_k 2/(3 mu_k²) exp(-mu_k² t), with tan(mu_k) = mu_k and times in diffusion times.
    The first terms are kept; rates in geometric sequence with weights by least squares stand
    for all others, to 2e-4 of 1/15 after a millionth of the diffusion time.
    """
    from scipy.optimize import brentq, nnls
    from scipy.special import erf

    mu = np.array([
        brentq(lambda m: np.sin(m) - m * np.cos(m), k * np.pi + 1e-9, (k + 0.5) * np.pi)
        for k in range(1, 121)
    ])  # fmt: skip
    t = np.geomspace(1e-8, 3.0, 900)
    late = 1 / 15 - (2 / (3 * mu**2) * np.exp(-np.outer(t, mu**2))).sum(axis=1)
    early = (np.expm1(t) + np.exp(t) * erf(np.sqrt(t)) - 3 * t) / 3
    left = 1 / 15 - np.where(t < 0.01, early, late)
    kept = mu[:EXACT_MODES] ** 2
    others = np.geomspace(1.15 * mu[EXACT_MODES] ** 2, FASTEST_RATE, OTHER_RATES)
    left -= (2 / 3 * np.exp(-np.outer(t, kept)) / kept).sum(axis=1)
    weights, _ = nnls(15 * np.exp(-np.outer(t, others)) / others, 15 * left)
    used = weights > 0
    table = np.array([
        [*kept, *others[used]], [*np.full(EXACT_MODES, 2 / 3), *weights[used]],
    ])  # fmt: skip
    return table, float(1 / 15 - (table[1] / table[0]).sum())


def shells(count: int = SHELLS, thinnest: float = THINNEST) -> Array:
    """Return volumes, couplings and sources of a sphere's shells, thinner to the outside.

    The last coupling is what the surface adds to the outermost shell per unit of flux.
    """
    from scipy.optimize import brentq

    growth = brentq(
        lambda g: thinnest * (g**count - 1) / (g - 1) - 1.0, 1.0 + 1e-9, 2.0, xtol=1e-14
    )
    widths = thinnest * growth ** np.arange(count)[::-1]
    edges = np.concatenate([[0.0], np.cumsum(widths)])
    edges[-1] = 1.0
    centres = 0.5 * (edges[1:] + edges[:-1])
    volumes = np.diff(edges**3) / 3.0
    couplings = np.append(edges[1:-1] ** 2 / np.diff(centres), (1.0 - centres[-1]) / 3.0)
    sources = np.zeros(count)
    sources[-1] = 1.0 / 3.0
    return np.ascontiguousarray([volumes, couplings, sources])


def salt_scale(t: CellTables) -> float:
    """Return the electrolyte's diffusivity at its first concentration, in m²/s."""
    place = t.numbers["start_mol_m3"] / t.concentration_step
    table = t.salt_diffusivity_m2_s
    return float(np.interp(place, np.arange(len(table)), table))


def salt_line(t: CellTables) -> Array:
    """Return volumes, couplings, sources, shares, portions, bends of the electrolyte.

    A portion is the share of the current that the ions carry between a volume and the next.
    """
    n = t.numbers
    widths, porosity, transport, source = [], [], [], []
    carried = t.transference if math.isfinite(t.transference) else 0.0
    into = (1.0 - carried) / (FARADAY_C_mol * n["area_m2"])
    for key, count, sign in zip("nsp", VOLUMES, (-1.0, 0.0, 1.0), strict=True):
        widths += [n[f"thickness_{key}_m"] / count] * count
        porosity += [n[f"porosity_{key}"]] * count
        transport += [n[f"transport_{key}"]] * count
        source += [sign * into / count] * count
    w, eased = np.array(widths), np.array(transport)
    resistance = 0.5 * w / eased
    couplings = np.append(salt_scale(t) / (resistance[1:] + resistance[:-1]), 0.0)
    held = w * np.array(porosity)
    portion = -np.cumsum(source) / into
    return np.ascontiguousarray([
        held, couplings, source, _shares(t, w, held), portion, *_bends(w, eased)
    ])  # fmt: skip


def _bends(width: Array, transport: Array) -> Array:
    """Return weights of four neighbours for every face, shape (4, n).

    Inside a domain they give a quarter of the curvature times the thickness squared; at a wall
    the profile goes on mirrored, before a joint the curvature is that of the volumes on this
    side. At a joint they give what the difference between the neighbours' means lacks: a sixth
    of the thickness times the change of the slope, on both sides.
    """
    count = len(width)
    joints = (VOLUMES[0] - 1, VOLUMES[0] + VOLUMES[1] - 1)
    found = np.zeros((4, count))
    for k in range(count - 1):
        if k in joints:
            half = 0.5 * (width[k] / transport[k] + width[k + 1] / transport[k + 1])
            left, right = width[k : k + 2] / (transport[k : k + 2] * half)
            found[:, k] = np.array([1.0, -1.0 - left - right, 1.0 + left + right, -1.0]) / 6.0
        elif k == 0:
            found[:, k] = np.array([0.0, 0.0, -1.0, 1.0]) / 8.0
        elif k == count - 2:
            found[:, k] = np.array([1.0, -1.0, 0.0, 0.0]) / 8.0
        elif k - 1 in joints:
            found[:, k] = np.array([0.0, 1.0, -2.0, 1.0]) / 4.0
        elif k + 1 in joints:
            found[:, k] = np.array([1.0, -2.0, 1.0, 0.0]) / 4.0
        else:
            found[:, k] = np.array([1.0, -1.0, -1.0, 1.0]) / 8.0
    return found


def _shares(t: CellTables, width: Array, held: Array) -> Array:
    """Return the weights of the mean concentration at which conductivity and chi are taken.

    Shares of thickness; or, where PyBaMM takes the mean of porosity times concentration times
    the mean of the reciprocal porosity (its 26.10 does), weights that do the same.
    """
    shares = width / width.sum()
    wrong = held / width.sum() * (shares * width / held).sum()
    is_wrong = abs(t.numbers["mean_ratio"] - wrong.sum()) < abs(t.numbers["mean_ratio"] - 1.0)
    return np.asarray(wrong if is_wrong else shares)
