"""Patterns as an array of dask. A library that writes such an array reads it part by part."""

from __future__ import annotations

from typing import Any

import numpy as np

from stemphony.export.contents import Axis, Floats, Patterns

CHUNK_BYTES = 2_000_000
"""Size of a chunk of patterns in the files that are written [bytes]."""


class PatternRows:
    """Patterns with the axes of other programs: (y, x, ky, kx), or (position, ky, kx) for a line or a list.

    Parameters
    ----------
    patterns : Patterns
        They must stay open while the array is used.
    """

    def __init__(self, patterns: Patterns) -> None:
        nx, ny, nkx, nky = patterns.shape
        self._patterns = patterns
        self._is_window = patterns.scan.second is not None
        self.shape = (ny, nx, nky, nkx) if self._is_window else (nx, nky, nkx)
        self.ndim, self.dtype = len(self.shape), patterns.dtype

    def __getitem__(self, key: tuple[slice, ...]) -> Floats:
        """Read a part. Each item of `key` is a slice."""
        y, x, ky, kx = key if self._is_window else (slice(0, 1), *key)
        part = self._patterns.block(x, y).transpose(1, 0, 3, 2)[:, :, ky, kx]
        return np.ascontiguousarray(part if self._is_window else part[0])

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of a chunk: whole patterns of neighbouring positions along x."""
        *scan, nky, nkx = self.shape
        along = max(1, min(scan[-1], CHUNK_BYTES // (nky * nkx * self.dtype.itemsize)))
        return (*([1] if self._is_window else []), along, nky, nkx)


def pattern_axes(patterns: Patterns) -> tuple[Axis, ...]:
    """The axes of `PatternRows` of these `patterns`, the slowest first."""
    return (*patterns.scan.axes[::-1], patterns.ky, patterns.kx)


def lazy(patterns: Patterns) -> Any:
    """An array of dask that reads `patterns` from the open result. Its axes are those of `PatternRows`."""
    import dask.array

    rows = PatternRows(patterns)
    return dask.array.from_array(rows, chunks=rows.chunks, name=False, asarray=False)


def one_after_the_other() -> Any:
    """A context in which dask reads one part after the other.

    netCDF4 cannot read in several threads, and the memory must stay small.
    """
    import dask

    return dask.config.set(scheduler="synchronous")
