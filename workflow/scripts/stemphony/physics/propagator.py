"""Free propagation of the wave over one slice, Eq. (P4)."""

from __future__ import annotations

from math import pi

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stemphony.physics.grid import FloatArray, Grid


def fresnel_propagator(
    grid: Grid,
    wavelength: float,
    thickness: float,
    band_limit: FloatArray,
    dtype: DTypeLike = np.complex128,
) -> NDArray[np.complexfloating]:
    """Fresnel propagator P(k) = exp(−iπ λ Δz k²)·A_bl(k), Eq. (P4).

    Parameters
    ----------
    grid : Grid
    wavelength : float
        λ [Å].
    thickness : float
        Distance Δz along the beam, of any sign [Å].
    band_limit : (nx, ny) ndarray
        A_bl(k), see `grid.band_limit`.
    dtype : dtype
        complex64 or complex128; the computation is in double precision.

    Returns
    -------
    (nx, ny) ndarray
        P(k), of unit modulus where A_bl is 1, exactly 0 beyond the band limit.
    """
    # ASSUME: small angles (paraxial, Fresnel) and no backscattering.
    phase_x = np.exp(-1j * pi * wavelength * thickness * grid.kx**2)
    phase_y = np.exp(-1j * pi * wavelength * thickness * grid.ky**2)
    return (phase_x[:, None] * phase_y[None, :] * band_limit).astype(dtype)
