"""The focused probe: aberrations, aperture and position, Eqs. (P7) to (P9)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import ceil, hypot, isfinite, pi

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from stemphony.physics.grid import UNTILTED, FloatArray, Grid, angular_pixel, frequencies_about

ComplexArray = NDArray[np.complex128]


@dataclass(frozen=True)
class Aberrations:
    """Aberration coefficients in Krivanek's notation, to fifth order.

    Cnm is in Å and phinm in rad; n is the order, m the multiplicity. C10 is minus the defocus. **Positive defocus is
    underfocus**: the probe is narrowest inside the specimen.

    References
    ----------
    Krivanek, Dellby & Lupini, Ultramicroscopy 78 (1999) 1.
    """

    C10: float = 0.0
    C12: float = 0.0
    phi12: float = 0.0
    C21: float = 0.0
    phi21: float = 0.0
    C23: float = 0.0
    phi23: float = 0.0
    C30: float = 0.0
    C32: float = 0.0
    phi32: float = 0.0
    C34: float = 0.0
    phi34: float = 0.0
    C41: float = 0.0
    phi41: float = 0.0
    C43: float = 0.0
    phi43: float = 0.0
    C45: float = 0.0
    phi45: float = 0.0
    C50: float = 0.0
    C52: float = 0.0
    phi52: float = 0.0
    C54: float = 0.0
    phi54: float = 0.0
    C56: float = 0.0
    phi56: float = 0.0


_TERMS = tuple((int(field.name[1]), int(field.name[2])) for field in fields(Aberrations) if field.name.startswith("C"))
"""Order n and multiplicity m of every aberration."""


def aberration_phase(aberrations: Aberrations, wavelength: float, k: ArrayLike, azimuth: ArrayLike) -> FloatArray:
    """Aberration phase χ(k), Eq. (P7); the wave is multiplied by exp(−iχ).

    Parameters
    ----------
    aberrations : Aberrations
    wavelength : float
        λ [Å].
    k : array_like
        |k| [Å⁻¹].
    azimuth : array_like
        Direction φ of k [rad].

    Returns
    -------
    ndarray
        χ [rad], in the common shape of `k` and `azimuth`.
    """
    alpha = wavelength * np.asarray(k, dtype=np.float64)
    phi = np.asarray(azimuth, dtype=np.float64)
    path = np.zeros(np.broadcast_shapes(alpha.shape, phi.shape))
    for order, fold in _TERMS:
        coefficient = getattr(aberrations, f"C{order}{fold}")
        if coefficient == 0:
            continue
        term = coefficient / (order + 1) * alpha ** (order + 1)
        path += term * np.cos(fold * (phi - getattr(aberrations, f"phi{order}{fold}"))) if fold else term
    return 2 * pi / wavelength * path


def aperture(
    grid: Grid,
    wavelength: float,
    semiangle: float,
    semiangle_inner: float = 0.0,
    soft: bool = True,
    center: tuple[float, float] = UNTILTED,
) -> FloatArray:
    """Probe-forming aperture A(k − k₀), Eqs. (P8) and (P21), not normalised.

    Parameters
    ----------
    grid : Grid
    wavelength : float
        λ [Å].
    semiangle : float
        Outer semi-angle α₀ [rad].
    semiangle_inner : float
        Inner semi-angle α₁ of an annular aperture [rad].
    soft : bool
        Whether the edge falls linearly over one angular pixel. Then the area hardly depends on the size of the cell. A
        hard aperture is 1 for α₁ ≤ α ≤ α₀.
    center : tuple of float
        Centre k₀ of the aperture [Å⁻¹], anywhere between the grid points: the axis of a tilted beam.

    Returns
    -------
    (nx, ny) ndarray
        Amplitude, from 0 to 1.

    Raises
    ------
    ValueError
        Unless 0 ≤ inner < outer, or if the aperture exceeds the largest angle of the grid.
    """
    _check_semiangles(semiangle, semiangle_inner)
    farthest = semiangle + wavelength * hypot(*center)
    if farthest > wavelength * grid.nyquist:
        raise ValueError(
            f"{'semi-angle' if center == UNTILTED else 'largest angle'} of the aperture = {1e3 * farthest:.3f} mrad: "
            f"this grid carries only {1e3 * wavelength * grid.nyquist:.3f} mrad; use a finer sampling"
        )
    about = frequencies_about(grid, center)
    alpha = wavelength * about.k
    if not soft:
        return ((semiangle_inner <= alpha) & (alpha <= semiangle)).astype(np.float64)
    pixel = angular_pixel(grid, wavelength, center)
    amplitude = np.clip((semiangle - alpha) / pixel + 0.5, 0.0, 1.0)
    amplitude[alpha == 0] = 1.0
    if semiangle_inner > 0:
        amplitude *= np.clip((alpha - semiangle_inner) / pixel + 0.5, 0.0, 1.0)
    return amplitude


def outermost_angle(grid: Grid, wavelength: float, semiangle: float, center: tuple[float, float] = UNTILTED) -> float:
    """Angle of the outermost grid point inside a hard aperture [rad]; 0 if only the central point is inside.

    A hard annular aperture with a larger inner semi-angle contains no grid point. The function computes only the points
    inside the square around the aperture.

    Parameters
    ----------
    grid : Grid
    wavelength : float
        λ [Å].
    semiangle : float
        Outer semi-angle α₀ [rad].
    center : tuple of float
        Centre k₀ of the aperture [Å⁻¹]; angles count from there.

    Returns
    -------
    float
    """
    relative = (k - middle for k, middle in zip((grid.kx, grid.ky), center, strict=True))
    kx, ky = (k[wavelength * np.abs(k) <= semiangle] for k in relative)
    alpha = wavelength * np.sqrt(kx[:, None] ** 2 + ky[None, :] ** 2)
    return float(alpha[alpha <= semiangle].max(initial=0.0))


def probe_spectrum(
    grid: Grid,
    wavelength: float,
    semiangle: float,
    semiangle_inner: float,
    soft: bool,
    aberrations: Aberrations,
    center: tuple[float, float] = UNTILTED,
) -> ComplexArray:
    """Spectrum of the probe at the origin, A(k − k₀) exp(−iχ(k − k₀)), Eqs. (P7) to (P9) and (P21).

    The grid samples the continuous spectrum of the tilted probe. In real space, this wave is exp(+2πi k₀·r) times the
    untilted probe of an infinite plane. The cell wraps the tails of this product. So the wave has no jump at the edge
    of the cell, even if k₀ is no frequency of the grid.

    Parameters
    ----------
    grid, wavelength, semiangle, semiangle_inner, soft, center
        See `aperture`.
    aberrations : Aberrations
        Aberrations about the axis of the tilted beam. So the focus is as sharp as that of the untilted beam.

    Returns
    -------
    (nx, ny) ndarray
        ψ(k) in FFT order with Σ|ψ(k)|² = 1.

    Raises
    ------
    ValueError
        If the aperture contains no grid point, or for the reasons of `aperture`.
    """
    amplitude = aperture(grid, wavelength, semiangle, semiangle_inner, soft, center)
    norm = float(np.sqrt(np.sum(amplitude**2)))
    if norm == 0:
        raise ValueError(
            f"aperture from {1e3 * semiangle_inner:.3f} to {1e3 * semiangle:.3f} mrad: it falls between the "
            f"grid points, which are {1e3 * wavelength / max(grid.extent):.3f} mrad apart; use a larger cell"
        )
    # ASSUME: coherent point source and one energy. Source size and focal spread are applied afterwards, as averages.
    # ASSUME: aberrations are those about the axis of the beam; a tilt does not add coma or astigmatism.
    about = frequencies_about(grid, center)
    return amplitude / norm * np.exp(-1j * aberration_phase(aberrations, wavelength, about.k, about.azimuth))


def shift_factors(grid: Grid, position: tuple[float, float]) -> tuple[ComplexArray, ComplexArray]:
    """Factors exp(−2πi k·r₀) that move a probe from the origin to r₀, Eq. (P9).

    The factors are exact for any position, also between grid points. The moved probe is
    ``spectrum * ex[:, None] * ey[None, :]``.

    Parameters
    ----------
    grid : Grid
    position : tuple of float
        r₀ = (x, y) [Å].

    Returns
    -------
    ex : (nx,) ndarray
    ey : (ny,) ndarray
    """
    return np.exp(-2j * pi * grid.kx * position[0]), np.exp(-2j * pi * grid.ky * position[1])


class MovableProbe:
    """A probe that moves to many positions, Eq. (P9); it computes only the pixels of its aperture.

    Parameters
    ----------
    grid : Grid
    spectrum : (nx, ny) ndarray
        The probe at the origin, see `probe_spectrum`.
    dtype : dtype
        Type of the waves that `at` returns. The computation is in double precision.
    """

    def __init__(self, grid: Grid, spectrum: ComplexArray, dtype: DTypeLike = np.complex128) -> None:
        self._grid, self._dtype = grid, np.dtype(dtype)
        self._rows, self._columns = np.nonzero(spectrum)
        self._values = spectrum[self._rows, self._columns]

    def at(self, position: tuple[float, float]) -> NDArray[np.complexfloating]:
        """Return ψ(k) of the probe at r₀ = (x, y) [Å], (nx, ny), in the memory order of a plan's spectrum."""
        ex, ey = shift_factors(self._grid, position)
        wave = np.zeros(self._grid.gpts, dtype=self._dtype, order="F")
        wave[self._rows, self._columns] = self._values * ex[self._rows] * ey[self._columns]
        return wave


def probe_tail_fraction(
    wavelength: float,
    semiangle: float,
    semiangle_inner: float,
    aberrations: Aberrations,
    extent: tuple[float, float],
) -> float:
    """Share of the probe's intensity that lies outside a rectangle of this size.

    A hard-edged probe in an infinite plane has slow tails: about 1/(π² k₀ r) of the intensity lies outside a circle of
    radius r. In a periodic cell these tails overlap with the probe. The function integrates the wave over the aperture
    at points of the rectangle, without a periodic box. The share outside is 1 minus the intensity inside.

    Parameters
    ----------
    wavelength : float
        λ [Å].
    semiangle, semiangle_inner : float
        Outer and inner semi-angle of the aperture [rad].
    aberrations : Aberrations
    extent : tuple of float
        Size (Lx, Ly) of the rectangle that is centred on the probe [Å].

    Returns
    -------
    float
        Share between 0 and 1.

    Raises
    ------
    ValueError
        Unless 0 ≤ inner < outer.
    """
    _check_semiangles(semiangle, semiangle_inner)
    k_outer, k_inner = semiangle / wavelength, semiangle_inner / wavelength
    reach = hypot(*extent) / 2 + _ray_radius(aberrations, semiangle)
    # The phase of the integrand varies by ± 2π k₀·reach. Gauss quadrature needs half of this number
    # as nodes, plus a margin.
    nodes = ceil(1.1 * pi * k_outer * reach) + 24
    if nodes**2 * 8 * k_outer * extent[1] > _MOST_TERMS:
        return _rays_and_tail_outside(wavelength, k_outer, k_inner, aberrations, extent)

    x, weights_x = _simpson(extent[0], 8 * k_outer)
    y, weights_y = _simpson(extent[1], 8 * k_outer)
    amplitude = _disc_wave(wavelength, k_outer, aberrations, x, y, nodes)
    if k_inner > 0:
        amplitude -= _disc_wave(wavelength, k_inner, aberrations, x, y, nodes)
    inside = weights_x @ np.abs(amplitude) ** 2 @ weights_y / (pi * (k_outer**2 - k_inner**2))
    return float(np.clip(1.0 - inside, 0.0, 1.0))


_MOST_TERMS = 4e8
"""Largest number of terms in the integral of `probe_tail_fraction`. So many terms take one or two seconds. For larger
problems, the function uses geometrical optics and diffraction at sharp edges."""


def _check_semiangles(semiangle: float, semiangle_inner: float) -> None:
    if not (isfinite(semiangle) and 0 <= semiangle_inner < semiangle):
        raise ValueError(f"aperture from {1e3 * semiangle_inner} to {1e3 * semiangle} mrad: must be 0 ≤ inner < outer")


def _ray_radius(aberrations: Aberrations, semiangle: float) -> float:
    """Upper bound of the distance |∇χ|/2π at which rays of the aperture meet the focal plane [Å]."""
    return sum(
        abs(getattr(aberrations, f"C{order}{fold}")) * semiangle**order * hypot(1.0, fold / (order + 1))
        for order, fold in _TERMS
    )


def _simpson(length: float, density: float) -> tuple[FloatArray, FloatArray]:
    """Points from −length/2 to length/2, at least `density` per Å, and the weights of Simpson's rule."""
    intervals = 2 * max(4, ceil(length * density / 2))
    weights = np.full(intervals + 1, 2.0)
    weights[1::2] = 4.0
    weights[[0, -1]] = 1.0
    return np.linspace(-length / 2, length / 2, intervals + 1), weights * length / (3 * intervals)


def _disc_wave(
    wavelength: float, k_max: float, aberrations: Aberrations, x: FloatArray, y: FloatArray, nodes: int
) -> ComplexArray:
    """∫ exp(−iχ(k) + 2πi k·r) d²k over |k| < k_max at the points x ⊗ y, y evenly spaced."""
    from scipy.special import roots_legendre

    # Chebyshev nodes across the disc handle the square root at its rim; Gauss nodes lie along the chords.
    theta = pi * np.arange(1, nodes + 1) / (nodes + 1)
    kx = k_max * np.cos(theta)
    half_chord = k_max * np.sin(theta)
    fractions, weights = roots_legendre(nodes)
    ky = half_chord[:, None] * fractions
    chi = aberration_phase(aberrations, wavelength, np.hypot(kx[:, None], ky), np.arctan2(ky, kx[:, None]))
    weighted = (pi / (nodes + 1) * half_chord**2)[:, None] * weights

    integrand = weighted * np.exp(1j * (2 * pi * ky * y[0] - chi))
    step = np.exp(2j * pi * ky * (y[1] - y[0]))
    over_chords = np.empty((nodes, len(y)), dtype=np.complex128)
    for column in range(len(y)):
        over_chords[:, column] = integrand.sum(axis=1)
        integrand *= step
    return np.exp(2j * pi * np.outer(x, kx)) @ over_chords


def _rays_and_tail_outside(
    wavelength: float, k_outer: float, k_inner: float, aberrations: Aberrations, extent: tuple[float, float]
) -> float:
    """Share of rays of the aperture outside the rectangle, plus the share that the edges of the aperture diffract."""
    # ASSUME: geometrical optics and diffraction at sharp edges. They are used only if lengths are hundreds of λ/α₀.
    axis = np.linspace(-k_outer, k_outer, 513)
    k, azimuth = np.hypot(axis[:, None], axis), np.arctan2(axis[None, :], axis[:, None])
    # A ray meets the plane at ∇χ/2π.
    gradient = np.gradient(aberration_phase(aberrations, wavelength, k, azimuth), axis, axis)
    misses = np.maximum(np.abs(gradient[0]) / extent[0], np.abs(gradient[1]) / extent[1]) > pi
    rays = float(np.mean(misses[(k >= k_inner) & (k <= k_outer)]))
    # The tail of an Airy pattern is 1/(π² k r). Here 1/r is averaged over the directions of the rectangle. An inner
    # edge adds a tail of its own.
    mean_inverse_radius = 4 / pi * hypot(*extent) / (extent[0] * extent[1])
    tail = mean_inverse_radius / (pi**2 * (k_outer - k_inner))
    return rays + (1 - rays) * tail
