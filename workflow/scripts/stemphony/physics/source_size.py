"""Partial spatial coherence: convolution of images with the source, Eqs. (P13) and (P28)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stemphony.physics.constants import FWHM_PER_SIGMA

REACH_SIGMAS = 3.0
"""Distance up to which the source counts, in standard deviations. On each side, 0.13 % of the source lie beyond it."""

Repeats = tuple[int | None, int | None]
"""How a scan window goes on behind its edges along x and along y.

None: the window does not repeat along this axis. A number: the next copy along this axis is the same image, moved by
so many scan steps along the other axis; 0 means that it is not moved. At most one of the two numbers differs from 0. If
one does, the other is 0 and not None.
"""

GAUSSIAN = "gaussian"
LORENTZIAN = "lorentzian"

CAUCHY_RADIUS_PER_FWHM: float = 0.5 / math.sqrt(2 ** (2 / 3) - 1)
"""Scale a of the density a/(2π (a² + r²)^(3/2)) over its full width at half maximum, 0.652."""


@dataclass(frozen=True)
class SourceShape:
    """Shape of the source: profile, ratio of the FWHM across its axis to that along it, direction of the axis [rad]."""

    profile: str = GAUSSIAN
    ratio: float = 1.0
    rotation: float = 0.0

    @property
    def is_round_gaussian(self) -> bool:
        """Whether the source is a round Gaussian, as usual."""
        return self.profile == GAUSSIAN and self.ratio == 1.0

    def transfer(self, fwhm: float, qx: np.ndarray, qy: np.ndarray) -> np.ndarray:
        """Fourier transform of the source, Eq. (P28).

        Parameters
        ----------
        fwhm : float
            Full width at half maximum along the axis [length].
        qx, qy : ndarray
            Frequencies [1/length].

        Returns
        -------
        ndarray
            In the common shape of the frequencies; 1 at q = 0.
        """
        cosine, sine = math.cos(self.rotation), math.sin(self.rotation)
        along, across = cosine * qx + sine * qy, self.ratio * (cosine * qy - sine * qx)
        # The transform of an elliptical profile is that of the round profile at the stretched frequency.
        q = np.hypot(along, across)
        if self.profile == GAUSSIAN:
            return _transfer(q, fwhm / FWHM_PER_SIGMA)
        return np.asarray(np.exp(-2 * math.pi * CAUCHY_RADIUS_PER_FWHM * fwhm * q))


ROUND_GAUSSIAN = SourceShape()


def blur(
    images: np.ndarray,
    fwhm: float,
    spacing: tuple[float, float],
    repeats: Repeats,
    shape: SourceShape = ROUND_GAUSSIAN,
) -> np.ndarray:
    """Convolve images with the source, Eqs. (P13) and (P28).

    Parameters
    ----------
    images : (nx, ny, …) ndarray
        Signals on the scan grid; the trailing axes are independent.
    fwhm : float
        Full width at half maximum of the source, in the unit of `spacing`.
    spacing : (float, float)
        Distances of scan positions along x and y.
    repeats : (int or None, int or None)
        How the images go on behind their edges, see `Repeats`.
    shape : SourceShape
        Profile and ellipse of the source.

    Returns
    -------
    (nx, ny, …) ndarray
        Blurred images in double precision.

    Notes
    -----
    Along axes that repeat, the transfer function of the Gaussian, exp(−2π²σ²q²), multiplies the Fourier series of the
    window. This is exact, even for a source narrower than a scan step, and keeps the mean. Along other axes the same
    Gaussian weights the positions that exist, and the sum is divided by the sum of the weights. Pixels farther than
    `reach` from the edge agree with those of a larger image within 0.3 %. `is_cut` marks the other pixels.
    """
    blurred = np.asarray(images, dtype=float)
    sigma = fwhm / FWHM_PER_SIGMA
    if sigma == 0:
        return blurred
    for axis in (0, 1):
        shift = repeats[axis]
        if shift:
            return _blur_sheared(blurred, fwhm, spacing, axis, shift, shape)
    if not shape.is_round_gaussian:
        return _blur_at_once(blurred, fwhm, spacing, repeats, shape)
    for axis in (0, 1):
        n = blurred.shape[axis]
        if n == 1:
            continue
        if repeats[axis] is None:
            blurred = _blur_open(blurred, sigma, spacing[axis], axis)
        else:
            from scipy import fft

            transfer = _along(_transfer(fft.rfftfreq(n, spacing[axis]), sigma), axis, blurred.ndim)
            blurred = fft.irfft(fft.rfft(blurred, axis=axis) * transfer, n, axis=axis)
    return blurred


def reach(fwhm: float) -> float:
    """Return the distance up to which a source of this FWHM counts: three standard deviations, in its unit."""
    return REACH_SIGMAS * fwhm / FWHM_PER_SIGMA


def is_cut(shape: tuple[int, int], fwhm: float, spacing: tuple[float, float], repeats: Repeats) -> np.ndarray:
    """Mark the pixels whose source reaches over an edge behind which nothing is known.

    Parameters
    ----------
    shape : (int, int)
        Numbers of positions along x and y.
    fwhm, spacing, repeats
        As in `blur`.

    Returns
    -------
    (nx, ny) ndarray of bool
    """
    cut = np.zeros(shape, dtype=bool)
    for axis in (0, 1):
        if repeats[axis] is None and fwhm > 0:
            place = np.arange(shape[axis])
            room = np.minimum(place, place[::-1]) * spacing[axis]
            cut |= _along(room < reach(fwhm) * (1 - 1e-9), axis, 2)
    return cut


def _transfer(q: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(np.exp(-2 * (math.pi * sigma * q) ** 2))


def _blur_open(images: np.ndarray, sigma: float, spacing: float, axis: int) -> np.ndarray:
    """Convolve along an axis that does not repeat: the weighted mean over the positions that exist."""
    from scipy import fft

    n = images.shape[axis]
    # Zeros behind the image keep its two ends apart.
    whole = fft.next_fast_len(2 * n + math.ceil(8 * sigma / spacing), real=True)
    transfer = _transfer(fft.rfftfreq(whole, spacing), sigma)
    weights = fft.irfft(fft.rfft(np.ones(n), whole) * transfer, whole)[:n]
    spread = fft.irfft(fft.rfft(images, whole, axis=axis) * _along(transfer, axis, images.ndim), whole, axis=axis)
    kept = np.take(spread, np.arange(n), axis=axis)
    return np.asarray(kept / _along(weights, axis, images.ndim))


def _blur_at_once(
    images: np.ndarray, fwhm: float, spacing: tuple[float, float], repeats: Repeats, shape: SourceShape
) -> np.ndarray:
    """Convolve along both axes together, because the source is not a product of a profile along x and one along y."""
    from scipy import fft

    counts = images.shape[:2]
    # Zeros behind the image keep its two ends apart.
    room = 8 * fwhm / FWHM_PER_SIGMA * max(1.0, shape.ratio)
    whole = [
        n if n == 1 or repeat is not None else fft.next_fast_len(2 * n + math.ceil(room / step), real=True)
        for n, repeat, step in zip(counts, repeats, spacing, strict=True)
    ]
    transfer = shape.transfer(
        fwhm, fft.fftfreq(whole[0], spacing[0])[:, None], fft.fftfreq(whole[1], spacing[1])[None, :]
    )

    def spread(values: np.ndarray) -> np.ndarray:
        factor = transfer.reshape(*transfer.shape, *([1] * (values.ndim - 2)))
        blurred = fft.ifft2(fft.fft2(values, s=whole, axes=(0, 1)) * factor, axes=(0, 1)).real
        return np.asarray(blurred[: counts[0], : counts[1]])

    weights = spread(np.ones(counts))
    return np.asarray(spread(images) / weights.reshape(*counts, *([1] * (images.ndim - 2))))


def _blur_sheared(
    images: np.ndarray, fwhm: float, spacing: tuple[float, float], axis: int, shift: int, shape: SourceShape
) -> np.ndarray:
    """Convolve an image whose next copy along `axis` is moved by `shift` positions along the other axis.

    With f(x + w, y + s) = f(x, y), a Fourier coefficient along y changes by the phase exp(−2πi q_y s) from copy to
    copy. Spread this phase evenly over the window and divide it out: the coefficient is then periodic along x. So the
    frequencies along x are those of the window, moved by −q_y s / w.
    """
    if axis == 1:
        turned = SourceShape(shape.profile, shape.ratio, math.pi / 2 - shape.rotation)
        swapped = _blur_sheared(np.swapaxes(images, 0, 1), fwhm, spacing[::-1], 0, shift, turned)
        return np.swapaxes(swapped, 0, 1)
    from scipy import fft

    nx, ny = images.shape[:2]
    waves = fft.fftfreq(ny) * ny
    # Phase of one copy in turns. Of all equal phases it is the nearest to zero, so frequencies stay in the band of the
    # scan.
    turns = waves * shift / ny
    turns = turns - np.rint(turns)
    dimensions = (nx, ny) + (1,) * (images.ndim - 2)
    untwist = np.exp(2j * np.pi * np.outer(np.arange(nx) / nx, turns)).reshape(dimensions)
    qx = (fft.fftfreq(nx)[:, None] - turns / nx) / spacing[0]
    qx = (np.mod(qx * spacing[0] + 0.5, 1.0) - 0.5) / spacing[0]
    qy = waves / (ny * spacing[1])
    transfer = shape.transfer(fwhm, qx, qy[None, :]).reshape(dimensions)
    coefficients = fft.fft(fft.fft(images, axis=1) * untwist, axis=0) * transfer
    return np.asarray(fft.ifft(fft.ifft(coefficients, axis=0) * untwist.conj(), axis=1).real)


def _along(values: np.ndarray, axis: int, dimensions: int) -> np.ndarray:
    shape = [1] * dimensions
    shape[axis] = -1
    return values.reshape(shape)
