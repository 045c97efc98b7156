"""Propagation of the wave over one slice of a straight or tilted specimen, Eqs. (P4) and (P22)."""

from __future__ import annotations

from math import pi, tan

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stemphony.physics.grid import FloatArray, Grid


def fresnel_propagator(
    grid: Grid,
    wavelength: float,
    thickness: float,
    band_limit: FloatArray,
    dtype: DTypeLike = np.complex128,
    tilt: tuple[float, float] = (0.0, 0.0),
    deflection: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.complexfloating]:
    """Fresnel propagator P(k) = exp(−iπ λ Δz k² + 2πi Δz k·tan θ)·A_bl(k), Eqs. (P4) and (P22).

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
    tilt : tuple of float
        Tilt θ = (θx, θy) of the specimen [rad]. The columns of a tilted specimen lean by Δz·tan θ per slice. The frame
        of coordinates moves with the columns, so the wave moves by −Δz·tan θ in it. This Fourier shift is exact for any
        distance, because the wave is band-limited.
    deflection : tuple of float
        q [Å⁻¹] of a wave ψ(r) = u(r)·exp(2πi q·r). The function propagates u, with the factor exp(−2πi λ Δz k·q) and
        without the constant phase, Eq. (P36). So q need not be a frequency of the grid.

    Returns
    -------
    (nx, ny) ndarray
        P(k), of unit modulus where A_bl is 1, exactly 0 beyond the band limit.
    """
    # ASSUME: angles are small (paraxial, Fresnel), and no electrons are scattered back.
    phase_x = np.exp(-1j * pi * wavelength * thickness * grid.kx**2)
    phase_y = np.exp(-1j * pi * wavelength * thickness * grid.ky**2)
    if tilt != (0.0, 0.0):
        # ASSUME: the crystal is sheared instead of turned. Lengths then differ by 1 − cos θ, 0.13 % at 50 mrad.
        phase_x *= np.exp(2j * pi * thickness * tan(tilt[0]) * grid.kx)
        phase_y *= np.exp(2j * pi * thickness * tan(tilt[1]) * grid.ky)
    if deflection != (0.0, 0.0):
        # ASSUME: the loss of energy does not change λ. In fact, 17 eV of 200 keV change it by 5e-5.
        phase_x *= np.exp(-2j * pi * wavelength * thickness * deflection[0] * grid.kx)
        phase_y *= np.exp(-2j * pi * wavelength * thickness * deflection[1] * grid.ky)
    return (phase_x[:, None] * phase_y[None, :] * band_limit).astype(dtype)
