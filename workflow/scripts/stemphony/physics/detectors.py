"""Detectors of an exit wave: rings, centre of mass, diffraction patterns, Eqs. (P10) and (P14) to (P16)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemphony.physics.grid import (
    UNTILTED,
    FloatArray,
    Grid,
    angular_pixel,
    frequencies_about,
    pixels_inside,
    share_beyond,
)
from stemphony.physics.segments import SegmentedDetector, segment_names, segment_weights
from stemphony.physics.sensitivity import SensitiveDetector, sensitive_weights

# SciPy is imported where it is used: it doubles the time that a command takes to start.
if TYPE_CHECKING:
    from scipy.sparse import csr_array

ComplexArray = NDArray[np.complexfloating]


@dataclass(frozen=True)
class WaveSignals:
    """Signals of one wave; several waves have leading axes.

    Attributes
    ----------
    bins : (…, n) ndarray
        Fraction of the incident intensity in each radial bin.
    rings : (…, m) ndarray
        Fraction of the incident intensity on each named detector.
    total : (…) ndarray
        Intensity inside the band limit. The difference to 1 was scattered beyond the band limit and is lost.
    center_of_mass : (…, 2) ndarray
        Mean scattering angle (x, y) [rad]; NaN if it is switched off or no intensity arrives.
    """

    bins: FloatArray
    rings: FloatArray
    total: FloatArray
    center_of_mass: FloatArray


@dataclass(frozen=True)
class Region:
    """Pixels whose weighted intensities are summed. One or more signals include this sum.

    Attributes
    ----------
    pixels : (q,) ndarray of int
        Indices into `DetectorSet.pixels`.
    weights : (q,) ndarray or None
        Weights of the pixels; None for 1 each.
    """

    pixels: NDArray[np.int64]
    weights: FloatArray | None


class DetectorSet:
    """Radial bins and named rings as rows of a sparse matrix that multiplies the intensities, Eq. (P10).

    All methods are thread-safe, because none changes the object.

    Parameters
    ----------
    grid : Grid
    wavelength : float
        λ [Å].
    bin_edges : (n + 1,) array_like or None
        Ascending edges of the radial bins [rad], see `bin_edges`; None for no bins.
    rings : mapping of str to (float, float)
        Inner and outer angle of each named detector [rad].
    edges : str
        "hard": a pixel counts if inner ≤ angle < outer. "area": an edge falls linearly over one angular pixel. If the
        edge cuts a pixel, the pixel counts by its share, and neighbouring bins divide it. An inner edge of 0 includes
        the whole central pixel.
    center_of_mass : bool
        Whether `measure` computes the centre of mass, Eq. (P14).
    band_limit_radius : float or None
        Radius beyond which waves are zero [Å⁻¹], see `grid.band_limit_radius`. Pixels beyond it are left out. None
        keeps the whole grid.
    center : tuple of float
        k₀ [Å⁻¹] from which all angles count: the axis of a tilted beam that is descanned, Eq. (P21).
    segmented : mapping or None
        Named segmented detectors, Eq. (P17). Their segments follow the rings.
    sensitive : mapping or None
        Named rings with a sensitivity, Eq. (P29). They stand between the rings and the segments.

    Attributes
    ----------
    pixels : (p,) ndarray of int
        The grid points (i, j) inside the band limit, as i + nx·j, see `grid.pixels_inside`.
    matrix : (n + m, p) csr_array
        Weights of those pixels for all bins and, below them, all rings, rings with a sensitivity, and segments.
    ring_names : tuple of str
        Names of rings, rings with a sensitivity, and segments, in the order of `WaveSignals.rings`.

    Raises
    ------
    ValueError
        If edges are negative or do not ascend, or `edges` is another word.
    """

    def __init__(
        self,
        grid: Grid,
        wavelength: float,
        bin_edges: ArrayLike | None,
        rings: Mapping[str, tuple[float, float]],
        edges: str,
        center_of_mass: bool,
        band_limit_radius: float | None = None,
        center: tuple[float, float] = UNTILTED,
        segmented: Mapping[str, SegmentedDetector] | None = None,
        sensitive: Mapping[str, SensitiveDetector] | None = None,
    ) -> None:
        if edges not in ("hard", "area"):
            raise ValueError(f"edges of the detectors = {edges!r}: must be 'hard' or 'area'")
        limits: list[tuple[str, float, float]] = []
        if bin_edges is not None:
            steps = np.asarray(bin_edges, dtype=np.float64)
            limits += [(f"bin {i}", *pair) for i, pair in enumerate(pairwise(steps.tolist()))]
        self.number_of_bins = len(limits)
        limits += [(name, inner, outer) for name, (inner, outer) in rings.items()]
        for name, inner, outer in limits:
            if not 0 <= inner < outer:
                raise ValueError(
                    f"detector {name!r} from {1e3 * inner:g} to {1e3 * outer:g} mrad: must be 0 ≤ inner < outer"
                )
        segmented, sensitive = segmented or {}, sensitive or {}
        self.ring_names = image_names(rings, sensitive, segmented)
        self._plain = len(limits)

        k = frequencies_about(grid, center).k.T.ravel()
        self.pixels = pixels_inside(grid, np.inf if band_limit_radius is None else band_limit_radius)
        angle = wavelength * k[self.pixels]
        ramp_width = angular_pixel(grid, wavelength, center).T.ravel()[self.pixels] if edges == "area" else None
        self.matrix = _weights([(inner, outer) for _, inner, outer in limits], angle, ramp_width)
        area = edges == "area"
        further = [sensitive_weights(grid, wavelength, one, center, self.pixels, area) for one in sensitive.values()]
        for one in segmented.values():
            further += segment_weights(grid, wavelength, one, center, self.pixels, area)
        if further:
            self.matrix = _with_rows(self.matrix, further)

        self._angles: tuple[FloatArray, FloatArray] | None = None
        if center_of_mass:
            j, i = np.divmod(self.pixels, grid.gpts[0])
            self._angles = wavelength * (grid.kx[i] - center[0]), wavelength * (grid.ky[j] - center[1])

    def measure(self, spectrum: ComplexArray) -> WaveSignals:
        """Measure one wave.

        Parameters
        ----------
        spectrum : (nx, ny) ndarray
            ψ(k) in FFT order with Σ|ψ|² = 1 for the incident wave.
        """
        return self.signals(self.values(_intensity(at_pixels(spectrum, self.pixels))))

    def values(self, intensity: FloatArray) -> FloatArray:
        """Compute bins, rings, total and the moments Σ λk I of the centre of mass, if it is measured.

        Parameters
        ----------
        intensity : (p, …) ndarray
            |ψ|² at `pixels`, of one wave or of several.

        Returns
        -------
        (n, …) ndarray
            One row for each value: bins, rings, total, moments.
        """
        rows = [self.matrix @ intensity, intensity.sum(axis=0)[None]]
        if self._angles is not None:
            rows += [(angles @ intensity)[None] for angles in self._angles]
        return np.concatenate(rows)

    def regions(self) -> tuple[list[Region], csr_array]:
        """Split the signals into sums over as few regions as possible, for `basis.signal_forms`.

        Returns
        -------
        regions : list of Region
            With hard edges, all edges of bins and rings cut the plane into pieces. Each piece is a region, so bins and
            rings sum no pixel twice. Each segment, and each ring with a sensitivity, is a region of its own.
        combination : (n, len(regions)) csr_array
            Matrix that turns the intensities of the regions into the rows of `values`.
        """
        plain = self.matrix[: self._plain]
        if self._plain and (plain.data == 1).all():
            # Pixels that belong to the same signals get the same key.
            key = np.zeros(self.pixels.size, dtype=np.uint64)
            for number, (a, b) in zip(_random_keys(self._plain), pairwise(plain.indptr), strict=True):
                key[plain.indices[a:b]] += number
            _, first, which = np.unique(key, return_index=True, return_inverse=True)
            order = np.argsort(which, kind="stable")
            regions = [Region(group, None) for group in np.split(order, np.cumsum(np.bincount(which))[:-1])]
            rows = [plain[:, first].toarray(), np.ones((1, len(regions)))]
        else:
            regions = _own_regions(plain)
            regions.append(Region(np.arange(self.pixels.size), None))
            rows = [np.eye(len(regions))]
        if segments := _own_regions(self.matrix[self._plain :]):
            # Segments stand before the total, which is the last row so far.
            *above, total = (np.pad(row, ((0, 0), (0, len(segments)))) for row in np.vstack(rows)[:, None])
            own = np.pad(np.eye(len(segments)), ((0, 0), (len(regions), 0)))
            regions, rows = regions + segments, [*above, own, total]
        if self._angles is not None:
            regions += [Region(np.arange(self.pixels.size), angles) for angles in self._angles]
            rows.append(np.zeros((2, 0)))
        width = len(regions)
        moments = width - 2
        combination = np.vstack([np.pad(row, ((0, 0), (0, width - row.shape[1]))) for row in rows])
        if self._angles is not None:
            combination[-2, moments] = combination[-1, moments + 1] = 1
        from scipy.sparse import csr_array

        return regions, csr_array(combination)

    def signals(self, values: FloatArray) -> WaveSignals:
        """Make signals from what `values` returns, (n, …), or from the combined intensities of `regions`."""
        rings = self.number_of_bins + len(self.ring_names)
        total = values[rings]
        mean_angle = np.full((*total.shape, 2), np.nan)
        if self._angles is not None:
            np.divide(np.moveaxis(values[rings + 1 :], 0, -1), total[..., None], mean_angle, where=total[..., None] > 0)
        return WaveSignals(
            np.moveaxis(values[: self.number_of_bins], 0, -1),
            np.moveaxis(values[self.number_of_bins : rings], 0, -1),
            total,
            mean_angle,
        )


def image_names(
    rings: Mapping[str, tuple[float, float]],
    sensitive: Mapping[str, SensitiveDetector],
    segmented: Mapping[str, SegmentedDetector],
) -> tuple[str, ...]:
    """Return the names of all images, in the order of `WaveSignals.rings`. Parameters are those of `DetectorSet`."""
    return (*rings, *sensitive, *segment_names(segmented))


def bin_edges(minimum: float, maximum: float, bins: int, exponent: float = 1.0) -> FloatArray:
    """Compute the edges of radial bins, minimum + (maximum − minimum)·(i/n)^exponent, Eq. (P16).

    Parameters
    ----------
    minimum, maximum : float
        First and last edge, in any unit.
    bins : int
        Number n of bins.
    exponent : float
        1 for equal bins, above 1 for bins that widen outwards.

    Returns
    -------
    (n + 1,) ndarray
        Ascending edges in the unit of the arguments. The last edge is exactly `maximum`.

    Raises
    ------
    ValueError
        Unless 0 ≤ minimum < maximum, n ≥ 1 and the exponent is positive.
    """
    if not (0 <= minimum < maximum and bins >= 1 and exponent > 0):
        raise ValueError(
            f"{bins} bins from {minimum} to {maximum} with exponent {exponent}: "
            "need 0 ≤ minimum < maximum, at least one bin and a positive exponent"
        )
    edges = minimum + (maximum - minimum) * (np.arange(bins + 1) / bins) ** exponent
    edges[-1] = maximum
    return edges


class CbedGeometry:
    """Pixels of a diffraction pattern (CBED) with ascending axes that contain zero, Eq. (P15).

    Parameters
    ----------
    grid : Grid
    wavelength : float
        λ [Å].
    max_angle : float
        Largest angle along each axis [rad]. The native pixels are all pixels of the grid with |kx|λ and |ky|λ up to
        this angle. They are symmetric about zero.
    size : tuple of int or None
        Number of new pixels (n_kx, n_ky) after rebinning; None keeps the native ones. New pixel i is centred at
        (i − size//2)·Δ' with Δ' = (native range)/size. A native pixel is a box that gives every new pixel its share.
        An odd size therefore keeps the sum. An even size shifts the range by half a new pixel, because zero must
        stay the centre of a pixel.
    pixel : float or None
        Width of square new pixels [rad]; pixel i is centred at (i − size//2)·pixel. Without a size, the new pixels
        cover all native pixels, and their number is odd, so the sum is kept. With a size, the native pixels are all
        that reach into the new pixels, and `max_angle` is ignored. None for new pixels that divide the native range.
    center : tuple of float
        k₀ [Å⁻¹] from which angles count, Eq. (P21). If k₀ lies between frequencies of the grid, each native pixel is
        shared among new pixels, so that zero is the centre of a pixel.

    Attributes
    ----------
    angles_x, angles_y : (n_kx,), (n_ky,) ndarray
        Centres of the pixels [rad].
    native_pixels : (h_kx, h_ky) ndarray of int
        The grid points (i, j) that the pattern is made from, axes ascending, as i + nx·j.
    is_finer_than_the_grid : bool
        Whether new pixels are narrower than native ones, so that neighbours share the intensity of one native pixel.

    Raises
    ------
    ValueError
        If the angle or a size is not positive.
    """

    def __init__(
        self,
        grid: Grid,
        wavelength: float,
        max_angle: float,
        size: tuple[int, int] | None = None,
        center: tuple[float, float] = UNTILTED,
        pixel: float | None = None,
    ) -> None:
        if not max_angle > 0:
            raise ValueError(f"largest angle of the diffraction pattern = {1e3 * max_angle} mrad: must be positive")
        if size is not None and min(size) < 1:
            raise ValueError(f"size of the diffraction pattern = {size}: must be at least (1, 1)")
        if pixel is not None and not pixel > 0:
            raise ValueError(f"pixels of the diffraction pattern = {1e3 * pixel} mrad: must be positive")
        steps = (wavelength / grid.extent[0], wavelength / grid.extent[1])
        reach = (max_angle, max_angle)
        if pixel is not None and size is not None:
            # A native pixel reaches half a step beyond its centre.
            reach_x, reach_y = ((n // 2 + 0.5) * pixel + 0.5 * step for n, step in zip(size, steps, strict=True))
            reach = (reach_x, reach_y)
        # Without the 1e-9, rounding could drop a pixel that lies on the limit.
        half_x, half_y = (
            min(floor(angle / step + 1e-9), (points - 1) // 2)
            for angle, step, points in zip(reach, steps, grid.gpts, strict=True)
        )
        # The pixel nearest to k₀, and how far k₀ lies beyond it, in pixels.
        places = [k * length for k, length in zip(center, grid.extent, strict=True)]
        nearest = [round(place) for place in places]
        beyond = [_without_rounding(place - middle) for place, middle in zip(places, nearest, strict=True)]
        # One more pixel on each side completes the outermost new pixels.
        reaches = [half + bool(part) for half, part in zip((half_x, half_y), beyond, strict=True)]
        rows, columns = (
            (np.arange(-reach, reach + 1) + middle) % n
            for reach, middle, n in zip(reaches, nearest, grid.gpts, strict=True)
        )
        self.native_pixels = rows[:, None] + grid.gpts[0] * columns
        native = (2 * half_x + 1, 2 * half_y + 1)
        if size is not None:
            new = int(size[0]), int(size[1])
        elif pixel is not None:
            new = _covering(steps[0] * native[0] / pixel), _covering(steps[1] * native[1] / pixel)
        else:
            new = native
        # Widths of the new pixels, in native ones.
        widths = [native[axis] / new[axis] if pixel is None else pixel / steps[axis] for axis in (0, 1)]
        self._rebin: tuple[csr_array, csr_array] | None = None
        if new != native or any(beyond) or pixel is not None:
            along_x, along_y = (_rebinning(native[axis], new[axis], widths[axis], beyond[axis]) for axis in (0, 1))
            self._rebin = along_x, along_y
        angles = [steps[axis] * native[axis] / new[axis] if pixel is None else pixel for axis in (0, 1)]
        self.angles_x, self.angles_y = ((np.arange(new[axis]) - new[axis] // 2) * angles[axis] for axis in (0, 1))
        self.is_finer_than_the_grid = min(widths) < 1 - 1e-9

    @property
    def shape(self) -> tuple[int, int]:
        """Number of pixels (n_kx, n_ky)."""
        return len(self.angles_x), len(self.angles_y)

    def pattern(self, spectrum: ComplexArray) -> FloatArray:
        """Measure the diffraction pattern of one wave, Eq. (P15).

        Parameters
        ----------
        spectrum : (nx, ny) ndarray
            ψ(k) in FFT order with Σ|ψ|² = 1 for the incident wave.

        Returns
        -------
        (n_kx, n_ky) ndarray
            Fraction of the incident intensity per pixel.
        """
        return self.resized(_intensity(at_pixels(spectrum, self.native_pixels)))

    def resized(self, intensity: FloatArray) -> FloatArray:
        """Rebin intensities at `native_pixels`, (h_kx, h_ky), to the new pixels, (n_kx, n_ky)."""
        if self._rebin is None:
            return intensity
        rebin_x, rebin_y = self._rebin
        return rebin_x @ intensity @ rebin_y.T


def _with_rows(matrix: csr_array, rows: list[tuple[NDArray[np.int32], FloatArray]]) -> csr_array:
    """A sparse matrix with further rows below. Each new row is given by its columns and weights."""
    from scipy.sparse import csr_array

    columns, weights = ([pair[part] for pair in rows] for part in (0, 1))
    ends = matrix.indptr[-1] + np.cumsum([len(row) for row in columns])
    parts = (
        np.concatenate([matrix.data, *weights]), np.concatenate([matrix.indices, *columns]),
        np.concatenate([matrix.indptr, ends]),
    )  # fmt: skip
    return csr_array(parts, shape=(matrix.shape[0] + len(rows), matrix.shape[1]))


def _own_regions(matrix: csr_array) -> list[Region]:
    """A region for each row of weights."""
    made = []
    for first, end in pairwise(matrix.indptr):
        made.append(Region(matrix.indices[first:end].astype(np.int64), matrix.data[first:end]))
    return made


def _random_keys(number: int) -> NDArray[np.uint64]:
    return np.random.default_rng(0).integers(1, 2**63, number, dtype=np.uint64)


def at_pixels(spectrum: ComplexArray, pixels: NDArray[np.int64]) -> ComplexArray:
    """Return the values of a spectrum (nx, ny) at grid points (i, j), given as i + nx·j."""
    return spectrum.T.reshape(-1)[pixels]


def _intensity(amplitude: ComplexArray) -> FloatArray:
    intensity = np.square(amplitude.real, dtype=np.float64)
    intensity += np.square(amplitude.imag, dtype=np.float64)
    return intensity


def _weights(limits: list[tuple[float, float]], angle: FloatArray, ramp_width: FloatArray | None) -> csr_array:
    """Weights of the pixels for each (inner, outer), as differences of two ramps, (len(limits), pixels)."""
    order = np.argsort(angle, kind="stable")
    sorted_angle = angle[order]
    sorted_width = None if ramp_width is None else ramp_width[order]
    reach = 0.0 if ramp_width is None else float(ramp_width.max()) / 2

    columns: list[NDArray[np.int32]] = [np.empty(0, dtype=np.int32)]
    weights: list[FloatArray] = [np.empty(0)]
    row_starts = np.zeros(len(limits) + 1, dtype=np.int32)
    for row, (inner, outer) in enumerate(limits):
        near = slice(*np.searchsorted(sorted_angle, [inner - reach, outer + reach]))
        width = None if sorted_width is None else sorted_width[near]
        weight = share_beyond(inner, sorted_angle[near], width)
        weight -= share_beyond(outer, sorted_angle[near], width)
        # The product with intensities is faster in the order of memory.
        counted = np.flatnonzero(weight)
        counted = counted[np.argsort(order[near][counted])]
        columns.append(order[near][counted].astype(np.int32))
        weights.append(weight[counted])
        row_starts[row + 1] = row_starts[row] + counted.size
    from scipy.sparse import csr_array

    return csr_array((np.concatenate(weights), np.concatenate(columns), row_starts), shape=(len(limits), angle.size))


def _without_rounding(pixels: float) -> float:
    return 0.0 if abs(pixels) < 1e-9 else pixels


def _covering(pixels: float) -> int:
    """The smallest odd whole number that is at least `pixels`, up to rounding."""
    return 2 * ceil((pixels - 1) / 2 - 1e-9) + 1


def _rebinning(native: int, new: int, width: float, beyond: float = 0.0) -> csr_array:
    """Share of each native pixel, a box along one axis, that falls on each new pixel, (new, native).

    A new pixel is as wide as `width` native pixels. Zero of the new axis lies `beyond` native pixels above the middle
    of the native axis. If `beyond` is not 0, the native axis has one more pixel on each side.
    """
    reach = native // 2 + bool(beyond)
    new_left = (np.arange(new) - new // 2 - 0.5) * width + beyond
    native_left = np.arange(-reach, reach + 1) - 0.5
    overlap = np.minimum(new_left[:, None] + width, native_left + 1)
    overlap -= np.maximum(new_left[:, None], native_left)
    from scipy.sparse import csr_array

    return csr_array(np.clip(overlap, 0.0, None))
