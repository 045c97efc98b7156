"""Images of the phase from images of the deflection: integration over the scan, Eq. (P26)."""

from __future__ import annotations

from math import gcd

import numpy as np

from stemphony.physics.grid import FloatArray
from stemphony.physics.source_size import Repeats


def phase_of_deflection(
    deflection: FloatArray, wavelength: float, spacing: tuple[float, float], repeats: Repeats
) -> FloatArray:
    """Integrate ∇Φ = (2π/λ)·⟨α⟩ over the scan, in the sense of least squares, Eq. (P26).

    Parameters
    ----------
    deflection : (nx, ny, …, 2) ndarray
        Mean angle along x and y [rad] at each scan position.
    wavelength : float
        λ [Å].
    spacing : (float, float)
        Distances of scan positions [Å].
    repeats : (int or None, int or None)
        How the images go on behind their edges, see `source_size.Repeats`. If an axis does not repeat, the phase is
        mirrored at its edges, so the slope across the edges is 0.

    Returns
    -------
    (nx, ny, …) ndarray
        Φ [rad] of mean zero.

    Notes
    -----
    Frequencies at the Nyquist limit of an axis give no slope along this axis, because the sign of their derivative is
    not determined.
    """
    from scipy import fft

    nx, ny = deflection.shape[:2]
    x, y = _repeated(deflection, repeats)
    for axis in (0, 1):
        if repeats[axis] is None:
            # ASSUME: Neumann boundaries. The component across the edge changes its sign in the mirror.
            x = np.concatenate([x, (-1 if axis == 0 else 1) * np.flip(x, axis)], axis=axis)
            y = np.concatenate([y, (-1 if axis == 1 else 1) * np.flip(y, axis)], axis=axis)
    shape = x.shape[:2]
    qx, qy = (_slopes(n, step) for n, step in zip(shape, spacing, strict=True))
    trailing = (1,) * (x.ndim - 2)
    qx, qy = qx.reshape(-1, 1, *trailing), qy[: shape[1] // 2 + 1].reshape(1, -1, *trailing)
    squared = qx**2 + qy**2
    spectrum = qx * fft.rfft2(x, axes=(0, 1)) + qy * fft.rfft2(y, axes=(0, 1))
    np.divide(spectrum, 1j * wavelength * squared, out=spectrum, where=squared > 0)
    # The phase is 0 at all frequencies without a slope, so its mean is 0 too.
    spectrum *= squared > 0
    phase = fft.irfft2(spectrum, s=shape, axes=(0, 1))[:nx, :ny]
    return phase - phase.mean(axis=(0, 1))


def _slopes(n: int, spacing: float) -> FloatArray:
    """Frequencies along an axis, with 0 at the Nyquist frequency, (n,)."""
    q = np.asarray(np.fft.fftfreq(n, spacing), dtype=np.float64)
    if n % 2 == 0:
        q[n // 2] = 0.0
    return q


def _repeated(deflection: FloatArray, repeats: Repeats) -> tuple[FloatArray, FloatArray]:
    """Both components on a window that repeats without shifts. If copies are shifted, several copies make it."""
    whole = deflection
    for axis in (0, 1):
        if shift := repeats[axis]:
            count = deflection.shape[1 - axis]
            copies = count // gcd(shift, count)
            moved = [np.roll(deflection, number * shift, axis=1 - axis) for number in range(copies)]
            whole = np.concatenate(moved, axis=axis)
    return whole[..., 0], whole[..., 1]
