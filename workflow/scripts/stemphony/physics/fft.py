"""Fast Fourier transforms with FFTW: the one importer of pyfftw.

Planning well takes seconds, so its result, FFTW's "wisdom", is worth keeping. This module only hands it out
and takes it in; where it is stored is not its concern. Take wisdom in before threads start: FFTW does not
lock that.
"""

from __future__ import annotations

import numpy as np
import pyfftw
from numpy.typing import DTypeLike, NDArray

_ALIGNMENT = 64
"""Alignment of every buffer [bytes]: one cache line, and equal for all, so that wisdom fits all of them."""

_FLAGS = ("FFTW_PATIENT", "FFTW_MEASURE", "FFTW_ESTIMATE")

Wisdom = tuple[bytes, bytes, bytes]
"""FFTW's wisdom for double, single and long double precision."""


class Plan2D:
    """Forward and inverse transform of one two-dimensional buffer, in place, on one thread.

    Plans made from the same wisdom give bit-identical results. One plan must not be run by two threads at a
    time; each thread makes its own. The transforms release the GIL. Planning overwrites the buffer, which is
    then set to zero.

    Parameters
    ----------
    shape : tuple of int
        (nx, ny).
    dtype : dtype
        complex64 or complex128.
    flag : str
        Effort of planning: "FFTW_PATIENT", "FFTW_MEASURE" or "FFTW_ESTIMATE". Wisdom from more effort is used
        where there is any.

    Attributes
    ----------
    buffer : (nx, ny) ndarray
        What the transforms read and overwrite.
    size : int
        Number of points nx·ny. Forward and inverse in turn multiply the buffer by it: neither is normalised.

    Raises
    ------
    ValueError
        If dtype or flag is another.
    """

    def __init__(self, shape: tuple[int, int], dtype: DTypeLike, flag: str = "FFTW_PATIENT") -> None:
        if flag not in _FLAGS:
            raise ValueError(f"FFTW flag {flag!r}: must be one of {', '.join(_FLAGS)}")
        self.buffer = _aligned_buffer(shape, dtype)
        self.size = self.buffer.size
        self._forward, self._inverse = _plan(self.buffer, (flag,))
        self.buffer[:] = 0

    def forward(self) -> None:
        """Replace the buffer ψ(r) by Σ ψ(r) exp(−2πi k·r), as numpy.fft.fft2 does."""
        self._forward.execute()

    def inverse(self) -> None:
        """Replace the buffer ψ(k) by Σ ψ(k) exp(+2πi k·r), `size` times numpy.fft.ifft2."""
        self._inverse.execute()


def wisdom() -> Wisdom:
    """Wisdom that this process has gathered or taken in."""
    return pyfftw.export_wisdom()


def add_wisdom(wisdom: Wisdom) -> bool:
    """Add wisdom to what this process has.

    Damaged wisdom may be taken for good: whoever stores it keeps a checksum beside it.

    Returns
    -------
    bool
        Whether FFTW accepted it for single and double precision.
    """
    double, single, _ = pyfftw.import_wisdom(wisdom)
    return bool(double and single)


def has_wisdom(shape: tuple[int, int], dtype: DTypeLike, flag: str = "FFTW_PATIENT") -> bool:
    """Whether `Plan2D` with these arguments needs no planning."""
    try:
        _plan(_aligned_buffer(shape, dtype), (flag, "FFTW_WISDOM_ONLY"))
    except RuntimeError:
        return False
    return True


def library_version() -> str:
    """Versions of FFTW and pyfftw; wisdom is good for one FFTW version only."""
    return f"FFTW {pyfftw.fftw_version}, pyfftw {pyfftw.__version__}"


def _aligned_buffer(shape: tuple[int, int], dtype: DTypeLike) -> NDArray[np.complexfloating]:
    if np.dtype(dtype) not in (np.dtype(np.complex64), np.dtype(np.complex128)):
        raise ValueError(f"dtype {np.dtype(dtype)} of a wave: must be complex64 or complex128")
    return pyfftw.empty_aligned(shape, dtype=np.dtype(dtype), n=_ALIGNMENT)


def _plan(buffer: NDArray[np.complexfloating], flags: tuple[str, ...]) -> tuple[pyfftw.FFTW, pyfftw.FFTW]:
    """Plans of the forward and the inverse transform of one buffer."""

    def direction(name: str) -> pyfftw.FFTW:
        return pyfftw.FFTW(buffer, buffer, axes=(0, 1), direction=name, flags=flags, threads=1)

    return direction("FFTW_FORWARD"), direction("FFTW_BACKWARD")
