"""Partial spatial coherence: convolution of images with a Gaussian source, Eq. (P13)."""

from __future__ import annotations

import math

import numpy as np
from scipy import fft

from stemphony.physics.constants import FWHM_PER_SIGMA


def blur(images: np.ndarray, fwhm: float, spacing: tuple[float, float], periodic: tuple[bool, bool]) -> np.ndarray:
    """Convolve images with a Gaussian source, Eq. (P13).

    Parameters
    ----------
    images : (nx, ny, …) ndarray
        Signals on the scan grid; the trailing axes are independent.
    fwhm : float
        Full width at half maximum of the source, in the unit of `spacing`.
    spacing : (float, float)
        Distances of scan positions along x and y.
    periodic : (bool, bool)
        Whether the scan window is the whole cell along x and y, and so repeats. Otherwise its edges are reflected.

    Returns
    -------
    (nx, ny, …) ndarray
        Blurred images in double precision; their mean over x and y is that of `images`.

    Notes
    -----
    The transfer function of the Gaussian, exp(−2π²σ²q²), multiplies the Fourier series (periodic) or cosine series
    (reflected) of the window. This is exact for a source narrower than a scan step too.
    """
    blurred = np.asarray(images, dtype=float)
    sigma = fwhm / FWHM_PER_SIGMA
    for axis in (0, 1):
        n = blurred.shape[axis]
        if n == 1 or sigma == 0:
            continue
        if periodic[axis]:
            q = fft.rfftfreq(n, spacing[axis])
            transfer = _along(np.exp(-2 * (math.pi * sigma * q) ** 2), axis, blurred.ndim)
            blurred = fft.irfft(fft.rfft(blurred, axis=axis) * transfer, n, axis=axis)
        else:
            q = np.arange(n) / (2 * n * spacing[axis])
            transfer = _along(np.exp(-2 * (math.pi * sigma * q) ** 2), axis, blurred.ndim)
            blurred = fft.idct(fft.dct(blurred, axis=axis) * transfer, axis=axis)
    return blurred


def _along(values: np.ndarray, axis: int, dimensions: int) -> np.ndarray:
    shape = [1] * dimensions
    shape[axis] = -1
    return values.reshape(shape)
