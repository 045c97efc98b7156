"""Segmented detectors: rings cut into sectors, and the deflection that their signals give, Eqs. (P17) and (P25)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import hypot, pi, sin

import numpy as np
from numpy.typing import NDArray

from stemphony.physics.grid import FloatArray, Grid, angular_pixel, frequencies_about, share_beyond

FEWEST_SECTORS = 3
"""Smallest number of sectors with which the signals give the deflection along both axes."""

_NO_WEIGHT = 1e-9
"""Weights of pixels, and differences of weights, below this value are rounding and count as 0."""

Matrix = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class SegmentedDetector:
    """A ring that is cut into `radial` rings of equal width and `segments` equal sectors, Eq. (P17).

    Segment number = ring · segments + sector, from the innermost ring on. Sectors run counter-clockwise from +x to +y.

    Attributes
    ----------
    inner, outer : float
        Angles [rad].
    segments, radial : int
        Number of sectors and of rings.
    rotation : float
        Azimuth at which sector 0 begins [rad].
    offset : (float, float)
        Middle of the detector, relative to the origin of all angles [rad].
    """

    inner: float
    outer: float
    segments: int
    rotation: float = 0.0
    radial: int = 1
    offset: tuple[float, float] = (0.0, 0.0)

    @property
    def number(self) -> int:
        """Number of segments."""
        return self.segments * self.radial

    @property
    def edges(self) -> FloatArray:
        """Angles between the rings, (radial + 1,) [rad]."""
        return np.linspace(self.inner, self.outer, self.radial + 1)

    @property
    def reach(self) -> float:
        """Largest angle that a segment may see, counted from the origin of all angles [rad]."""
        return self.outer + hypot(*self.offset)

    @property
    def directions(self) -> FloatArray:
        """Unit vectors to the middle of each segment, (number, 2)."""
        middle = self.rotation + (np.arange(self.segments) + 0.5) * 2 * pi / self.segments
        return np.tile(np.stack([np.cos(middle), np.sin(middle)], axis=1), (self.radial, 1))

    def deflection_per_signal(self, semiangle: float, semiangle_inner: float = 0.0) -> float:
        """Factor c of the deflection c·Σ u_s I_s that the signals of the segments give, Eq. (P25).

        If an evenly lit disk shifts a little, signals change only through those edges of the disk that lie on the
        detector.

        Parameters
        ----------
        semiangle, semiangle_inner : float
            Aperture [rad].

        Returns
        -------
        float
            c [rad]; 0 if there are fewer than three sectors or no edge of the disk lies on the detector.
        """
        outer, inner = (angle if self.inner < angle < self.outer else 0.0 for angle in (semiangle, semiangle_inner))
        if self.segments < FEWEST_SECTORS or outer == inner:
            return 0.0
        n = self.segments
        return pi * (semiangle**2 - semiangle_inner**2) / (n * sin(pi / n) * (outer - inner))


def segment_names(segmented: Mapping[str, SegmentedDetector]) -> tuple[str, ...]:
    """Return the names of all segments, `<detector>_<number>`, in the order of their signals."""
    return tuple(f"{name}_{i}" for name, detector in segmented.items() for i in range(detector.number))


def segment_weights(
    grid: Grid,
    wavelength: float,
    detector: SegmentedDetector,
    center: tuple[float, float],
    pixels: NDArray[np.int64],
    area: bool,
) -> list[tuple[NDArray[np.int32], FloatArray]]:
    """Compute the weights of pixels on each segment, Eqs. (P10) and (P17).

    Parameters
    ----------
    grid : Grid
    wavelength : float
        λ [Å].
    detector : SegmentedDetector
    center : (float, float)
        Frequency from which angles count [Å⁻¹].
    pixels : (p,) ndarray of int
        Grid points (i, j) as i + nx·j.
    area : bool
        Whether a pixel that an edge cuts counts by its share. If not, it counts as a whole or not at all. The pixel in
        the middle of the detector is always divided equally among the sectors.

    Returns
    -------
    list of ((q,) ndarray of int, (q,) ndarray)
        For each segment, the places in `pixels` and the weights. The weights of all segments sum to those of the ring.
    """
    middle = (center[0] + detector.offset[0] / wavelength, center[1] + detector.offset[1] / wavelength)
    about = frequencies_about(grid, middle)
    alpha, azimuth = (values.T.ravel()[pixels] for values in (wavelength * about.k, about.azimuth))
    width = angular_pixel(grid, wavelength, middle).T.ravel()[pixels] if area else None
    reach = float(width.max()) / 2 if width is not None else 0.0
    near = np.flatnonzero((alpha >= detector.inner - reach) & (alpha < detector.outer + reach))
    alpha, azimuth, width = alpha[near], azimuth[near], None if width is None else width[near]
    beyond = [share_beyond(float(edge), alpha, width) for edge in detector.edges]
    pixel = (wavelength / grid.extent[0], wavelength / grid.extent[1])
    sectors = _sector_shares(detector, alpha, azimuth, pixel, area)
    made = []
    for inner, outer in pairwise(beyond):
        for share in sectors:
            weight = (inner - outer) * share
            counted = np.flatnonzero(weight)
            made.append((near[counted].astype(np.int32), weight[counted]))
    return made


def turned_segments(
    grid: Grid,
    wavelength: float,
    detector: SegmentedDetector,
    center: tuple[float, float],
    pixels: NDArray[np.int64],
    area: bool,
    matrix: Matrix,
) -> list[int] | None:
    """Find the segment that R maps each segment on, pixel by pixel, Eq. (P24).

    Parameters
    ----------
    grid, wavelength, detector, center, pixels, area
        As for `segment_weights`; R maps the pixels on themselves.
    matrix : ((int, int), (int, int))
        R.

    Returns
    -------
    list of int or None
        Segment R·s for each segment s. None if R maps a segment on no segment. This happens for reflections and hard
        edges if pixels lie on an edge, because such pixels belong to one side of the edge.
    """
    (nx, ny), ((a, b), (c, d)) = grid.gpts, matrix
    there, turned = [], []
    for places, weights in segment_weights(grid, wavelength, detector, center, pixels, area):
        seen = weights > _NO_WEIGHT
        j, i = np.divmod(pixels[places[seen]], nx)
        onto = (a * i + b * j) % nx + nx * ((c * i + d * j) % ny)
        order = np.argsort(onto)
        there.append((np.sort(i + nx * j), weights[seen][np.argsort(i + nx * j)]))
        turned.append((onto[order], weights[seen][order]))
    found = []
    for one in turned:
        equal = [number for number, other in enumerate(there) if _same_weights(one, other)]
        if not equal:
            return None
        found.append(equal[0])
    return found


def _same_weights(one: tuple[NDArray[np.int64], FloatArray], other: tuple[NDArray[np.int64], FloatArray]) -> bool:
    return np.array_equal(one[0], other[0]) and bool(np.allclose(one[1], other[1], rtol=0, atol=_NO_WEIGHT))


def _sector_shares(
    detector: SegmentedDetector, alpha: FloatArray, azimuth: FloatArray, pixel: tuple[float, float], area: bool
) -> FloatArray:
    """Share of each pixel in each sector, (segments, pixels); the shares of a pixel add up to 1."""
    n, width = detector.segments, 2 * pi / detector.segments
    if n == 1:
        return np.ones((1, alpha.size))
    place = (azimuth - detector.rotation) / width
    # Without this line, rounding would decide to which side a pixel on an edge belongs.
    nearest = np.rint(place)
    place = np.where(np.abs(place - nearest) < 1e-9, nearest, place)
    sector, fraction = np.floor(place), place - np.floor(place)
    every = np.arange(alpha.size)
    index = sector.astype(np.int64) % n
    shares = np.zeros((n, alpha.size))
    if area:
        # Width of a pixel across a ray. An edge falls linearly over this width, as in `share_beyond`.
        across = np.hypot(np.sin(azimuth) * pixel[0], np.cos(azimuth) * pixel[1])
        with np.errstate(divide="ignore"):
            ramps = width * alpha / across
        below = np.clip(0.5 - fraction * ramps, 0.0, 0.5)
        above = np.clip(0.5 - (1 - fraction) * ramps, 0.0, 0.5)
        np.add.at(shares, (index, every), 1 - below - above)
        np.add.at(shares, ((index - 1) % n, every), below)
        np.add.at(shares, ((index + 1) % n, every), above)
    else:
        shares[index, every] = 1.0
    shares[:, alpha < 1e-9 * min(pixel)] = 1 / n
    return shares
