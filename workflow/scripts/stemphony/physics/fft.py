"""Fast Fourier transforms with FFTW. No other module imports pyfftw.

FFTW needs seconds to plan a fast transform. It keeps the result as "wisdom". This module exports and imports wisdom;
`compute.wisdom` stores it. Import wisdom before threads start, because FFTW does not lock it.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

if TYPE_CHECKING:
    import pyfftw

ComplexArray = NDArray[np.complexfloating]

CACHE_LINE = 64
"""Alignment of every buffer [bytes]. All buffers have the same, because wisdom holds for one alignment only."""

_FLAGS = {
    "FFTW_PATIENT": ("FFTW_PATIENT",),
    "FFTW_MEASURE": ("FFTW_MEASURE",),
    "FFTW_ESTIMATE": ("FFTW_ESTIMATE",),
    "FFTW_WISDOM_ONLY": ("FFTW_PATIENT", "FFTW_WISDOM_ONLY"),
}

Wisdom = tuple[bytes, bytes, bytes]
"""Wisdom of FFTW for double, single and long double precision."""


_INTERFACES = ("scipy.fftpack", "dask")
"""Packages that pyfftw imports, if it can, for interfaces that nothing here uses."""


@cache
def library() -> Any:
    """Return the module pyfftw, imported at the first use and without its interfaces to scipy and dask.

    To import these interfaces takes half a second, longer than the rest of a small job. If `sys.modules` holds None for
    a module, its import fails as if the module were not installed.
    """
    modules: dict[str, Any] = sys.modules
    hidden = [name for name in _INTERFACES if name not in modules]
    modules.update(dict.fromkeys(hidden))
    try:
        import pyfftw
    finally:
        for name in hidden:
            del modules[name]
    return pyfftw


class LineTransform:
    """Transform of all rows of one array into the rows of another, or in place, on one thread.

    Plans from the same wisdom give bit-identical results. Two threads must not run one plan at the same time.
    Planning overwrites the arrays.

    Parameters
    ----------
    source, target : (lines, n) ndarray
        complex64 or complex128, with any strides.
    direction : str
        "FFTW_FORWARD", Σ ψ(r) exp(−2πi k r), or "FFTW_BACKWARD", Σ ψ(k) exp(+2πi k r); neither is normalised.
    flag : str
        Effort of planning: "FFTW_PATIENT", "FFTW_MEASURE" or "FFTW_ESTIMATE". FFTW prefers wisdom from more effort
        if it has any. "FFTW_WISDOM_ONLY" takes a patient plan from the wisdom and never plans.

    Attributes
    ----------
    execute : callable
        Runs the transform; it releases the GIL.

    Raises
    ------
    ValueError
        If the dtype or the flag is not allowed.
    RuntimeError
        If the flag is "FFTW_WISDOM_ONLY" and the wisdom has no such plan.
    """

    def __init__(self, source: ComplexArray, target: ComplexArray, direction: str, flag: str = "FFTW_PATIENT") -> None:
        self.execute = _plan(source, target, (1,), direction, flag).execute


class Plan2D:
    """Forward and inverse transform of one whole two-dimensional buffer, in place, on one thread.

    Benchmarks compare with this plan; waves use `StripPlan`. The notes and errors of `LineTransform` hold here
    too. The buffer is zero after planning.

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
        Array that the transforms read and overwrite.
    size : int
        Number of points nx·ny. A forward and an inverse transform multiply the buffer by it: neither is normalised.
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
    """Return an array of zeros that begins at a cache line.

    Raises
    ------
    ValueError
        If the dtype is not complex64 or complex128.
    """
    if np.dtype(dtype) not in (np.dtype(np.complex64), np.dtype(np.complex128)):
        raise ValueError(f"dtype {np.dtype(dtype)} of a wave: must be complex64 or complex128")
    return library().zeros_aligned(shape, dtype=np.dtype(dtype), n=CACHE_LINE)


def wisdom() -> Wisdom:
    """Return the wisdom of this process."""
    return library().export_wisdom()


def add_wisdom(wisdom: Wisdom) -> bool:
    """Add wisdom to this process.

    FFTW may accept damaged wisdom, so stored wisdom needs a checksum.

    Returns
    -------
    bool
        Whether FFTW accepted it for single and double precision.
    """
    double, single, _ = library().import_wisdom(wisdom)
    return bool(double and single)


def forget_wisdom() -> None:
    """Forget all wisdom of this process, so that FFTW plans again."""
    library().forget_wisdom()


def library_version() -> str:
    """Return the versions of FFTW and pyfftw; wisdom holds for one version of FFTW only."""
    return f"FFTW {library().fftw_version}, pyfftw {library().__version__}"


def _plan(source: ComplexArray, target: ComplexArray, axes: tuple[int, ...], direction: str, flag: str) -> pyfftw.FFTW:
    if flag not in _FLAGS:
        raise ValueError(f"FFTW flag {flag!r}: must be one of {', '.join(_FLAGS)}")
    return library().FFTW(source, target, axes=axes, direction=direction, flags=_FLAGS[flag], threads=1)
