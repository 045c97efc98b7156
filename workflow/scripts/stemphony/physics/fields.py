"""Waves in real space: exit waves and the intensity along the depth, Eqs. (P30) and (P31)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemphony.physics.grid import FloatArray, Grid, share_beyond

ComplexArray = NDArray[np.complexfloating]


def in_real_space(grid: Grid, spectrum: ComplexArray) -> NDArray[np.complex128]:
    """Return ψ(x, y) = Σ ψ(k) exp(2πi k·r)/√(Lx Ly), Eq. (P30).

    Parameters
    ----------
    spectrum : (nx, ny) ndarray
        ψ(k) in FFT order, with Σ|ψ(k)|² = 1 for one electron.

    Returns
    -------
    (nx, ny) ndarray
        ψ(x, y) [Å⁻¹], with Σ|ψ|² dx dy = Σ|ψ(k)|².
    """
    scale = grid.gpts[0] * grid.gpts[1] / np.sqrt(grid.extent[0] * grid.extent[1])
    wave: NDArray[np.complex128] = np.fft.ifft2(np.asarray(spectrum, dtype=np.complex128)) * scale
    return wave


def profile_along_x(grid: Grid, density: FloatArray) -> FloatArray:
    """Return ∫|ψ|² dy, (nx,) [Å⁻¹], of a density |ψ|² (nx, ny) [Å⁻²]. The sum times dx is the intensity, Eq. (P31)."""
    return density.sum(axis=1) * grid.sampling[1]


def section_along_x(grid: Grid, spectrum: ComplexArray, y: float) -> FloatArray:
    """Return |ψ(x, y)|² along x, (nx,) [Å⁻²], at a y [Å] anywhere between the points of the grid, Eq. (P31)."""
    along_y = np.asarray(spectrum, dtype=np.complex128) @ np.exp(2j * np.pi * grid.ky * y)
    wave = np.fft.ifft(along_y) * (grid.gpts[0] / np.sqrt(grid.extent[0] * grid.extent[1]))
    density: FloatArray = np.abs(wave) ** 2
    return density


def circle(grid: Grid, middle: tuple[float, float], radius: float) -> FloatArray:
    """Return the share of each grid point inside a circle, (nx, ny). The edge falls linearly over one grid step.

    Parameters
    ----------
    middle : (float, float)
        Middle [Å]; the cell is periodic.
    radius : float
        Radius [Å].
    """
    x, y = (
        np.abs((points - place + 0.5 * length) % length - 0.5 * length)
        for points, place, length in zip((grid.x, grid.y), middle, grid.extent, strict=True)
    )
    distance = np.hypot(x[:, None], y[None, :])
    with np.errstate(invalid="ignore", divide="ignore"):
        width = np.hypot(x[:, None] * grid.sampling[0], y[None, :] * grid.sampling[1]) / distance
    width = np.where(distance > 0, width, min(grid.sampling))
    return 1.0 - share_beyond(radius, distance, width)
