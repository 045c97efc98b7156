"""Rings whose sensitivity depends on the angle: a radial profile or a map, Eq. (P29)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemphony.physics.grid import FloatArray, Grid, angular_pixel, frequencies_about, share_beyond


@dataclass(frozen=True, eq=False)
class SensitiveDetector:
    """A ring whose pixels count by their sensitivity, Eq. (P29).

    Attributes
    ----------
    inner, outer : float
        Angles of the ring [rad].
    digest : str
        SHA-256 of the file of the sensitivity. The result identifies the sensitivity by it.
    pixel : float or None
        Width of the pixels of a map [rad]; None for a profile.
    values : ndarray or None
        A map (n_x, n_y), kx first, or a profile (n, 2) of ascending angles [rad] and sensitivities. The middle of a
        map lies at zero. None if no wave is measured, as in a merge.
    """

    inner: float
    outer: float
    digest: str
    pixel: float | None = None
    values: FloatArray | None = None

    @property
    def reach(self) -> float:
        """Largest angle, along an axis, at which the sensitivity is known [rad]; 0 without values."""
        if self.values is None:
            return 0.0
        if self.pixel is None:
            return float(self.values[-1, 0])
        return 0.5 * self.pixel * min(self.values.shape)

    @property
    def begin(self) -> float:
        """Smallest angle at which the sensitivity is known [rad]."""
        return 0.0 if self.values is None or self.pixel is not None else float(self.values[0, 0])


def sensitivity_at(detector: SensitiveDetector, ax: FloatArray, ay: FloatArray) -> FloatArray:
    """Compute the sensitivity at angles (ax, ay) [rad], linear between its points, Eq. (P29).

    Beyond the first and last point, and beyond the middles of the outermost pixels, the sensitivity is constant.

    Raises
    ------
    ValueError
        The detector has no values.
    """
    values = detector.values
    if values is None:
        raise ValueError("the sensitivity of this detector was not read; waves cannot be measured with it")
    if detector.pixel is None:
        profile: FloatArray = np.interp(np.hypot(ax, ay), values[:, 0], values[:, 1])
        return profile
    low, part = [], []
    for angle, number in ((ax, values.shape[0]), (ay, values.shape[1])):
        place = np.clip(angle / detector.pixel + 0.5 * (number - 1), 0.0, number - 1.0)
        first = np.minimum(place.astype(np.int64), max(0, number - 2))
        low.append(first)
        part.append(place - first)
    (i, j), (u, v) = low, part
    i1, j1 = (np.minimum(first + 1, number - 1) for first, number in zip(low, values.shape, strict=True))
    # The formula adds differences to one corner, so equal corners give exactly their value.
    corner = values[i, j]
    mixed: FloatArray = (
        corner + u * (values[i1, j] - corner) + v * (values[i, j1] - corner)
        + u * v * (values[i1, j1] - values[i1, j] - values[i, j1] + corner)
    )  # fmt: skip
    return mixed


def sensitive_weights(
    grid: Grid,
    wavelength: float,
    detector: SensitiveDetector,
    center: tuple[float, float],
    pixels: NDArray[np.int64],
    area: bool,
) -> tuple[NDArray[np.int32], FloatArray]:
    """Compute the weights of pixels on a ring with a sensitivity, Eqs. (P10) and (P29).

    Parameters
    ----------
    grid : Grid
    wavelength : float
        λ [Å].
    detector : SensitiveDetector
    center : (float, float)
        Frequency from which angles count [Å⁻¹].
    pixels : (p,) ndarray of int
        Grid points (i, j) as i + nx·j.
    area : bool
        Whether a pixel that an edge of the ring cuts counts by its share. If not, it counts as a whole or not at all.

    Returns
    -------
    (q,) ndarray of int, (q,) ndarray
        Places in `pixels`, and weights.

    Raises
    ------
    ValueError
        The detector has no values.
    """
    alpha = wavelength * frequencies_about(grid, center).k.T.ravel()[pixels]
    width = angular_pixel(grid, wavelength, center).T.ravel()[pixels] if area else None
    ring = share_beyond(detector.inner, alpha, width) - share_beyond(detector.outer, alpha, width)
    near = np.flatnonzero(ring)
    j, i = np.divmod(pixels[near], grid.gpts[0])
    ax, ay = wavelength * (grid.kx[i] - center[0]), wavelength * (grid.ky[j] - center[1])
    weight = ring[near] * sensitivity_at(detector, ax, ay)
    counted = np.flatnonzero(weight)
    return near[counted].astype(np.int32), weight[counted]
