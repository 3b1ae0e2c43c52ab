r"""Whether a spectrum is that of a linear, steady system: the linear Kramers-Kronig test.

A chain of M RC pairs with time constants fixed over the spectrum's range, a resistor, an
inductor and a capacitor obeys the Kramers-Kronig relations, and so does what it can describe.
It is fitted by linear least squares, relative to the modulus. M grows until

.. math:: \mu = 1 - \frac{\sum_{R_k < 0} |R_k|}{\sum_{R_k > 0} |R_k|}

falls below 0.85, from where on it would describe noise. Sources: B. A. Boukamp, J. Electrochem.
Soc. 142 (1995) 1885; M. Schönleber, D. Klotz, E. Ivers-Tiffée, Electrochim. Acta 131 (2014) 20.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batterylab.fit.impedancefit import Spectrum

Array = NDArray[np.float64]

#: below this the chain describes noise
LEAST_MU = 0.85
MOST_PAIRS = 50
#: a residual above this share of the modulus is remarked on
DOUBT_PERCENT = 1.0


@dataclass(frozen=True)
class KramersKronig:
    """What the test found.

    Attributes
    ----------
    pairs : int
        RC pairs of the chain.
    mu : float
        Of the chain; see the module.
    rms_percent, largest_percent : float
        Residuals, relative to the modulus.
    worst_Hz : float
        Frequency of the largest residual.
    residual : ndarray of complex128, shape (n,)
        Measured less chain, over the modulus.
    """

    pairs: int
    mu: float
    rms_percent: float
    largest_percent: float
    worst_Hz: float
    residual: NDArray[np.complex128]

    @property
    def note(self) -> str:
        """What a reader must know; empty if the spectrum is in order."""
        if self.rms_percent <= DOUBT_PERCENT:
            return ""
        return (
            f"Kramers-Kronig: residuals of {self.rms_percent:.2g} % (rms; the largest "
            f"{self.largest_percent:.2g} % at {self.worst_Hz:.3g} Hz): the cell drifted, or was "
            "driven beyond its linear range"
        )


def kramers_kronig(spectrum: Spectrum) -> KramersKronig:
    """Return what the linear Kramers-Kronig test says of a spectrum.

    Parameters
    ----------
    spectrum : Spectrum
        From `spectrum_from`; at least 5 frequencies.
    """
    omega, z = spectrum.omega, spectrum.complex_ohm
    counts = [m for m in _counts() if m <= min(MOST_PAIRS, len(omega) - 2)] or [1]
    for pairs in counts:
        residual, mu = _chain(omega, z, pairs)
        if mu < LEAST_MU:
            break
    percent = 100.0 * np.abs(residual)
    worst = int(np.argmax(percent))
    return KramersKronig(
        pairs, mu, float(np.sqrt(np.mean(percent**2))), float(percent[worst]),
        float(spectrum.frequency_Hz[worst]), residual,
    )  # fmt: skip


def _counts() -> list[int]:
    """Return how many pairs are tried: each to 12, then in growing steps."""
    return [*range(3, 13), 14, 16, 18, 21, 24, 28, 32, 37, 43, MOST_PAIRS]


def _chain(
    omega: Array, z: NDArray[np.complex128], pairs: int
) -> tuple[NDArray[np.complex128], float]:
    """Fit a chain; return its residuals over the modulus, and mu."""
    tau = np.geomspace(1.0 / omega[0], 1.0 / omega[-1], pairs)
    terms = np.column_stack([
        1.0 / (1.0 + 1j * np.outer(omega, tau)),
        np.ones_like(omega), 1j * omega, 1.0 / (1j * omega),
    ]) / np.abs(z)[:, None]  # fmt: skip
    table = np.concatenate([terms.real, terms.imag])
    size = np.linalg.norm(table, axis=0)
    wanted = z / np.abs(z)
    right = np.concatenate([wanted.real, wanted.imag])
    found = np.linalg.lstsq(table / size, right, rcond=1e-12)[0] / size
    ohm = found[:pairs]
    positive = float(ohm[ohm > 0].sum())
    mu = 1.0 + float(ohm[ohm < 0].sum()) / positive if positive > 0 else 0.0
    return wanted - terms @ found, mu
