"""The grid that waves and potentials are sampled on, and its band limit, Eq. (P5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from math import isfinite

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

UNTILTED = (0.0, 0.0)
"""Centre k₀ of an aperture or detector on the optic axis [Å⁻¹]."""


@dataclass(frozen=True)
class Grid:
    """Periodic rectangular grid: point (i, j) lies at (i·Lx/nx, j·Ly/ny).

    Arrays on the grid have shape (nx, ny), x first. Reciprocal arrays are in FFT order (zero first) with k = 1/d,
    without 2π. The arrays are computed once and are read-only.

    Parameters
    ----------
    gpts : tuple of int
        Number of grid points (nx, ny).
    extent : tuple of float
        Size of the cell (Lx, Ly) [Å].

    Raises
    ------
    ValueError
        If a number of points is below 2 or an extent is not a positive finite number.
    """

    gpts: tuple[int, int]
    extent: tuple[float, float]

    def __post_init__(self) -> None:
        if len(self.gpts) != 2 or any(n != int(n) or n < 2 for n in self.gpts):
            raise ValueError(f"grid points = {self.gpts}: must be two integers of at least 2")
        if len(self.extent) != 2 or any(not (isfinite(length) and length > 0) for length in self.extent):
            raise ValueError(f"extent of the grid = {self.extent} Å: must be two positive lengths")

    @property
    def sampling(self) -> tuple[float, float]:
        """Distance of neighbouring points (dx, dy) [Å]."""
        return self.extent[0] / self.gpts[0], self.extent[1] / self.gpts[1]

    @property
    def nyquist(self) -> float:
        """Largest frequency that both axes represent, 1/(2 max(dx, dy)) [Å⁻¹]."""
        return 1.0 / (2.0 * max(self.sampling))

    def finer(self, factor: int) -> Grid:
        """Return the grid of the same extent with `factor` times as many points along x and y."""
        return self if factor == 1 else Grid((factor * self.gpts[0], factor * self.gpts[1]), self.extent)

    @cached_property
    def x(self) -> FloatArray:
        """Positions of the points along x, (nx,) [Å]."""
        return _read_only(np.arange(self.gpts[0]) * self.sampling[0])

    @cached_property
    def y(self) -> FloatArray:
        """Positions of the points along y, (ny,) [Å]."""
        return _read_only(np.arange(self.gpts[1]) * self.sampling[1])

    @cached_property
    def kx(self) -> FloatArray:
        """Frequencies along x in FFT order, (nx,) [Å⁻¹]."""
        return _read_only(_frequencies(self.gpts[0]) / self.extent[0])

    @cached_property
    def ky(self) -> FloatArray:
        """Frequencies along y in FFT order, (ny,) [Å⁻¹]."""
        return _read_only(_frequencies(self.gpts[1]) / self.extent[1])

    @cached_property
    def k_squared(self) -> FloatArray:
        """Squared frequencies kx² + ky², (nx, ny) [Å⁻²]."""
        return _read_only(self.kx[:, None] ** 2 + self.ky[None, :] ** 2)

    @cached_property
    def k(self) -> FloatArray:
        """Frequencies |k|, (nx, ny) [Å⁻¹]."""
        return _read_only(np.sqrt(self.k_squared))

    @cached_property
    def azimuth(self) -> FloatArray:
        """Direction of k, atan2(ky, kx), from +x towards +y, (nx, ny) [rad]."""
        return _read_only(np.arctan2(self.ky[None, :], self.kx[:, None]))


def band_limit_radius(grid: Grid, bandlimit: float = 2 / 3) -> float:
    """Radius k_c of the band limit, Eq. (P5).

    Parameters
    ----------
    grid : Grid
    bandlimit : float
        Share of the Nyquist frequency inside the band limit. If it is at most 2/3, the product of two band-limited
        functions aliases only outside the band.

    Returns
    -------
    float
        k_c [Å⁻¹]; the largest scattering angle is λ·k_c.

    Raises
    ------
    ValueError
        If the share is not in (0, 1].
    """
    if not 0 < bandlimit <= 1:
        raise ValueError(f"band limit = {bandlimit} of Nyquist: must be above 0 and at most 1")
    return bandlimit * grid.nyquist


def band_limit_columns(grid: Grid, bandlimit: float = 2 / 3) -> int:
    """Largest |ky|, as an index of the FFT, at which a band-limited wave or its incident probe may be non-zero.

    Parameters
    ----------
    grid : Grid
    bandlimit : float
        Share of the Nyquist frequency inside the band limit.

    Returns
    -------
    int
        k_c·Ly rounded down, plus one. The one is needed if an aperture with a soft edge is as wide as the band limit:
        the edge reaches half a pixel beyond it.
    """
    return min(grid.gpts[1] // 2, int(band_limit_radius(grid, bandlimit) * grid.extent[1] * (1 + 1e-9)) + 1)


def pixels_inside(grid: Grid, radius: float) -> NDArray[np.int64]:
    """Return the grid points (i, j) with |k| up to a radius [Å⁻¹], as i + nx·j, the memory order of a plan's spectrum.

    A tolerance for rounding makes sure that every pixel where `band_limit` is not zero is included.
    """
    return np.flatnonzero(grid.k.T.ravel() <= radius * (1 + 1e-9))


def band_limit(grid: Grid, bandlimit: float = 2 / 3, taper: float = 0.02) -> FloatArray:
    """Circular band limit A_bl(k) with a cosine edge, Eq. (P5).

    Parameters
    ----------
    grid : Grid
    bandlimit : float
        Outer radius k_c as a share of the Nyquist frequency.
    taper : float
        Width of the edge, inside the radius, as a share of the Nyquist frequency; 0 is a hard edge.

    Returns
    -------
    (nx, ny) ndarray
        1 up to k_c − w, falling as ½(1 + cos(π(k − k_c + w)/w)) to 0 at k_c, and exactly 0 beyond.

    Raises
    ------
    ValueError
        If the taper is negative or wider than the radius, or `bandlimit` is out of range.
    """
    radius = band_limit_radius(grid, bandlimit)
    width = taper * grid.nyquist
    if not 0 <= width <= radius:
        raise ValueError(f"taper of the band limit = {taper} of Nyquist: must be between 0 and {bandlimit}")
    if width == 0:
        # If n is a multiple of 3, grid points lie exactly on k_c. Rounding must not decide which of them are inside.
        return (grid.k <= radius * (1 + 1e-12)).astype(np.float64)
    depth = np.clip((grid.k - radius + width) / width, 0.0, 1.0)
    edge = 0.5 * (1.0 + np.cos(np.pi * depth))
    edge[depth == 1.0] = 0.0
    return edge


@dataclass(frozen=True)
class Frequencies:
    """Length [Å⁻¹] and direction [rad] of k − k₀ on a grid, (nx, ny) each."""

    k: FloatArray
    azimuth: FloatArray


def frequencies_about(grid: Grid, center: tuple[float, float]) -> Frequencies:
    """Return |k − k₀| and the direction of k − k₀; k₀ [Å⁻¹] may lie between the frequencies of the grid."""
    if center == UNTILTED:
        return Frequencies(grid.k, grid.azimuth)
    kx, ky = grid.kx[:, None] - center[0], grid.ky[None, :] - center[1]
    return Frequencies(np.sqrt(kx**2 + ky**2), np.arctan2(ky, kx))


def angular_pixel(grid: Grid, wavelength: float, center: tuple[float, float] = UNTILTED) -> FloatArray:
    """Width δα of one reciprocal pixel along the direction of its k − k₀, Eq. (P8).

    Parameters
    ----------
    grid : Grid
    wavelength : float
        λ [Å].
    center : tuple of float
        k₀ [Å⁻¹].

    Returns
    -------
    (nx, ny) ndarray
        λ·√((cos φ/Lx)² + (sin φ/Ly)²) [rad].
    """
    azimuth = frequencies_about(grid, center).azimuth
    return wavelength * np.hypot(np.cos(azimuth) / grid.extent[0], np.sin(azimuth) / grid.extent[1])


def share_beyond(edge: float, angle: FloatArray, ramp_width: FloatArray | None) -> FloatArray:
    """Return the share of each pixel at or beyond an edge: a ramp of the given width, or a step, Eq. (P10).

    An edge of 0 is the middle of a ring. It has no ramp, so all pixels count fully.
    """
    if edge == 0:
        return np.ones_like(angle)
    if ramp_width is None:
        return (angle >= edge).astype(np.float64)
    return np.clip((angle - edge) / ramp_width + 0.5, 0.0, 1.0)


def fft_friendly_size(n: int) -> int:
    """Return the next number of grid points with fast FFTs: the smallest product of 2, 3, 5 and 7 that is at least n.

    Raises
    ------
    ValueError
        If n is below 1.
    """
    if n < 1:
        raise ValueError(f"number of grid points = {n}: must be at least 1")
    size = n
    while not _is_7_smooth(size):
        size += 1
    return size


def cheapest_size(least: int, multiple_of: int = 1) -> int:
    """Return the multiple of `multiple_of`, at least `least`, for which FFTs of so many points are cheapest.

    Raises
    ------
    ValueError
        If a number is below 1.
    """
    if least < 1 or multiple_of < 1:
        raise ValueError(f"number of grid points = {least}, multiple of {multiple_of}: must be at least 1")
    size = multiple_of * -(-least // multiple_of)
    best, lowest = size, transform_cost(size)
    # size² log₂(size) is the cost of a size with small prime factors only. No size costs less.
    while (size := size + multiple_of) ** 2 * math.log2(size) < lowest:
        if transform_cost(size) < lowest:
            best, lowest = size, transform_cost(size)
    return best


def transform_cost(n: int) -> float:
    """Return the work of n transforms of n points in arbitrary units: n² times a sum over the prime factors of n.

    FFTW has a routine for each prime factor up to 13. A larger prime factor costs several times its logarithm.
    """
    work, rest, factor = 0.0, n, 2
    while rest > 1:
        while rest % factor == 0:
            work += math.log2(factor) if factor <= 7 else 1.5 * math.log2(factor) if factor <= 13 else factor
            rest //= factor
        factor += 1
        if factor * factor > rest > 1:
            factor = rest
    return n * n * work


def _is_7_smooth(n: int) -> bool:
    for factor in (2, 3, 5, 7):
        while n % factor == 0:
            n //= factor
    return n == 1


def _frequencies(n: int) -> FloatArray:
    """Integers in FFT order: 0, 1 … −2, −1, with −n/2 for an even n, (n,)."""
    return np.fft.ifftshift(np.arange(n) - n // 2).astype(np.float64)


def _read_only(array: NDArray[np.floating]) -> FloatArray:
    values = array.astype(np.float64, copy=False)
    values.flags.writeable = False
    return values
