"""Fast Fourier transforms with FFTW: the one importer of pyfftw.

Planning well takes seconds, so its result, FFTW's "wisdom", is worth keeping. This module only hands it out
and takes it in; where it is stored is not its concern. Take wisdom in before threads start: FFTW does not
lock that.
"""

from __future__ import annotations

import numpy as np
import pyfftw
from numpy.typing import DTypeLike, NDArray

ComplexArray = NDArray[np.complexfloating]

CACHE_LINE = 64
"""Alignment of every buffer [bytes], equal for all, so that wisdom fits all of them."""

_FLAGS = {
    "FFTW_PATIENT": ("FFTW_PATIENT",),
    "FFTW_MEASURE": ("FFTW_MEASURE",),
    "FFTW_ESTIMATE": ("FFTW_ESTIMATE",),
    "FFTW_WISDOM_ONLY": ("FFTW_PATIENT", "FFTW_WISDOM_ONLY"),
}

Wisdom = tuple[bytes, bytes, bytes]
"""FFTW's wisdom for double, single and long double precision."""


class LineTransform:
    """Transform of all rows of one array into those of another, or in place, on one thread.

    Plans made from the same wisdom give bit-identical results. One plan must not be run by two threads at a
    time. Planning overwrites the arrays.

    Parameters
    ----------
    source, target : (lines, n) ndarray
        complex64 or complex128, with any strides.
    direction : str
        "FFTW_FORWARD", Σ ψ(r) exp(−2πi k r), or "FFTW_BACKWARD", Σ ψ(k) exp(+2πi k r); neither is normalised.
    flag : str
        Effort of planning: "FFTW_PATIENT", "FFTW_MEASURE" or "FFTW_ESTIMATE"; wisdom from more effort is used
        where there is any. "FFTW_WISDOM_ONLY" takes a patient plan that is known and never plans.

    Attributes
    ----------
    execute : callable
        Runs the transform; it releases the GIL.

    Raises
    ------
    ValueError
        If dtype or flag is another.
    RuntimeError
        If only wisdom was to be used and there is none.
    """

    def __init__(self, source: ComplexArray, target: ComplexArray, direction: str, flag: str = "FFTW_PATIENT") -> None:
        self.execute = _plan(source, target, (1,), direction, flag).execute


class Plan2D:
    """Forward and inverse transform of one whole two-dimensional buffer, in place, on one thread.

    The yardstick of the benchmarks; waves go through `strips.StripPlan`. What is said of `LineTransform` holds
    here too; the buffer is set to zero after planning.

    Parameters
    ----------
    shape : tuple of int
        (nx, ny).
    dtype : dtype
        complex64 or complex128.
    flag : str
        See `LineTransform`.

    Attributes
    ----------
    buffer : (nx, ny) ndarray
        What the transforms read and overwrite.
    size : int
        Number of points nx·ny. Forward and inverse in turn multiply the buffer by it: neither is normalised.
    """

    def __init__(self, shape: tuple[int, int], dtype: DTypeLike, flag: str = "FFTW_PATIENT") -> None:
        self.buffer = aligned_zeros(shape, dtype)
        self.size = self.buffer.size
        self._forward, self._inverse = (
            _plan(self.buffer, self.buffer, (0, 1), direction, flag) for direction in ("FFTW_FORWARD", "FFTW_BACKWARD")
        )
        self.buffer[:] = 0

    def forward(self) -> None:
        """Replace the buffer ψ(r) by Σ ψ(r) exp(−2πi k·r), as numpy.fft.fft2 does."""
        self._forward.execute()

    def inverse(self) -> None:
        """Replace the buffer ψ(k) by Σ ψ(k) exp(+2πi k·r), `size` times numpy.fft.ifft2."""
        self._inverse.execute()


def aligned_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> ComplexArray:
    """Array of zeros that begins with a cache line.

    Raises
    ------
    ValueError
        If the dtype is not complex64 or complex128.
    """
    if np.dtype(dtype) not in (np.dtype(np.complex64), np.dtype(np.complex128)):
        raise ValueError(f"dtype {np.dtype(dtype)} of a wave: must be complex64 or complex128")
    return pyfftw.zeros_aligned(shape, dtype=np.dtype(dtype), n=CACHE_LINE)


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


def forget_wisdom() -> None:
    """Forget all wisdom of this process, so that plans are sought anew."""
    pyfftw.forget_wisdom()


def library_version() -> str:
    """Versions of FFTW and pyfftw; wisdom is good for one FFTW version only."""
    return f"FFTW {pyfftw.fftw_version}, pyfftw {pyfftw.__version__}"


def _plan(source: ComplexArray, target: ComplexArray, axes: tuple[int, ...], direction: str, flag: str) -> pyfftw.FFTW:
    if flag not in _FLAGS:
        raise ValueError(f"FFTW flag {flag!r}: must be one of {', '.join(_FLAGS)}")
    return pyfftw.FFTW(source, target, axes=axes, direction=direction, flags=_FLAGS[flag], threads=1)
