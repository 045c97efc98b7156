"""Strips of a wave in one array, without the columns beyond the band limit; for waves larger than the cache.

A wave of 2048² takes 32 MB. Two such arrays, the transmission function and the propagator together exceed the cache of
a processor by far, so the speed of the memory decides. Here ψ(x, ky) takes two thirds of one array. It consists of
contiguous strips of ky of one width. A strip of ky and a strip of x cross in a block. After `transmit`, ky runs fastest
in a block; after `travel`, x runs fastest. Both passes read a block and write it to the same place. `transmit` gathers
a strip of x from its blocks into the cache, and then scatters it into the same blocks.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from stemphony.physics.fft import CACHE_LINE, ComplexArray, LineTransform, aligned_zeros
from stemphony.physics.strips.plan import ColumnStrip, StripPlan, Transmission, divisor, flat, padded_zeros
from stemphony.physics.strips.two_arrays import TwoArrayPlan

ROWS, COLUMNS = 32, 96
"""Wanted width of the strips [columns]. With this width they fit the cache of a core: at 2048², a strip of rows takes
0.5 MB and a strip of columns 1.4 MB."""

LARGE = 20e6
"""Smallest size of a wave [bytes] for which one array is used. In `stemphony bench`, one array needs 30 % less time
than two arrays for 32 MB (2048², single precision), about the same for 8 MB (1024²), and 10 % more for 2 to 5 MB."""


def plan_of_strips(shape: tuple[int, int], columns: int, dtype: DTypeLike, flag: str = "FFTW_PATIENT") -> StripPlan:
    """Make the transforms of one wave on one thread, in the layout that is faster for its size; see `StripPlan`."""
    large = shape[0] * shape[1] * np.dtype(dtype).itemsize >= LARGE
    if large and _Cut.of(columns, dtype).fits(shape[1]):
        return OneArrayPlan(shape, columns, dtype, flag)
    return TwoArrayPlan(shape, columns, dtype, flag)


class OneArrayPlan(StripPlan):
    """Transforms of one wave in one array; see `StripPlan`.

    Raises
    ------
    ValueError
        If strips of one width do not fit the grid, because `columns` is too large; and as for `StripPlan`.
    """

    def _lay_out(self, columns: int, flag: str) -> None:
        nx, ny = self.shape
        width = divisor(nx, ROWS)
        cut = _Cut.of(columns, self.dtype)
        if not cut.fits(ny):
            raise ValueError(f"columns kept = {columns}: too many of {ny} for strips of one width")
        self._columns = cut.strips(ny)
        number, strips = nx // width, len(self._columns)
        # A few cache lines lie between the strips. Without them, all strips would share a few places of the cache.
        apart = 3 * CACHE_LINE // self.dtype.itemsize
        self._wave = aligned_zeros((strips, nx * cut.width + apart), self.dtype)
        strips_of_ky = self._wave[:, : nx * cut.width]

        # These buffers stay in the cache: a strip of x with x running fastest, one with y running fastest, and lines of
        # one ky.
        self._gathered = aligned_zeros((ny, width), self.dtype)
        self._strip = padded_zeros((width, ny), self.dtype)
        self._flat_strip = flat(self._strip)
        lines = aligned_zeros((cut.width, nx), self.dtype)
        self._to_rows = LineTransform(self._gathered.T, self._strip, "FFTW_BACKWARD", flag).execute
        self._from_rows = LineTransform(self._strip, self._strip, "FFTW_FORWARD", flag).execute

        halves = [slice(0, cut.positive), slice(cut.positive, strips)][: 2 if cut.negative else 1]
        kept = [slice(self._columns[half][0][0], self._columns[half][-1][1]) for half in halves]
        self._in_gathered = [self._gathered[some].reshape(-1, cut.width * width) for some in kept]
        self._in_strip = [_by_strips(self._strip[:, some], cut.width) for some in kept]
        by_x = strips_of_ky.reshape(strips, number, cut.width * width)
        by_ky = strips_of_ky.reshape(strips, number, width, cut.width)
        self._rows = [slice(first, first + width) for first in range(0, nx, width)]
        self._transmit = [
            _BlockedRows(
                [by_x[half, index] for half in halves],
                [by_ky[half, index] for half in halves],
                self.wave[place],
            )
            for index, place in enumerate(self._rows)
        ]
        inverse = LineTransform(lines, lines, "FFTW_BACKWARD", flag).execute
        self._travel = [
            ColumnStrip(
                LineTransform(strip.reshape(nx, cut.width).T, lines, "FFTW_FORWARD", flag).execute,
                lines,
                inverse,
                lines.reshape(cut.width, number, width).transpose(1, 0, 2),
                strip.reshape(number, cut.width, width),
                self._by_columns[start:stop],
            )
            for (start, stop), strip in zip(self._columns, strips_of_ky, strict=True)
        ]
        # Planning has overwritten the arrays.
        for array in (self._wave, self._gathered, self._strip, lines):
            array[...] = 0

    def transmit(self, transmission: Transmission) -> None:
        """See `StripPlan`."""
        for strip, values in zip(self._transmit, transmission.strips, strict=True):
            self._gather(strip)
            np.multiply(self._flat_strip, values, out=self._flat_strip)
            self._scatter(strip)

    def to_real_space(self) -> None:
        """See `StripPlan`."""
        for strip in self._transmit:
            self._gather(strip)
            np.copyto(strip.rows, self._strip)

    def from_real_space(self) -> None:
        """See `StripPlan`."""
        for strip in self._transmit:
            np.copyto(self._strip, strip.rows)
            self._scatter(strip)

    def _gather(self, strip: _BlockedRows) -> None:
        """Transform the blocks of a strip of x into its rows in real space."""
        for target, blocks in zip(self._in_gathered, strip.by_x, strict=True):
            np.copyto(target, blocks)
        self._to_rows()

    def _scatter(self, strip: _BlockedRows) -> None:
        """Transform rows in real space into the blocks of their strip of x."""
        self._from_rows()
        for blocks, source in zip(strip.by_ky, self._in_strip, strict=True):
            np.copyto(blocks, source)


class _BlockedRows(NamedTuple):
    """Rows of constant x.

    Attributes
    ----------
    by_x, by_ky : list of ndarray
        Blocks of the rows, for ky ≥ 0 and for ky < 0. In `by_x`, x runs fastest; in `by_ky`, ky does.
    rows : ndarray
        Where the rows lie in the wave.
    """

    by_x: list[ComplexArray]
    by_ky: list[ComplexArray]
    rows: ComplexArray


class _Cut(NamedTuple):
    """Strips of ky, all of one width, for ky ≥ 0 and for ky < 0."""

    width: int
    positive: int
    negative: int

    @classmethod
    def of(cls, columns: int, dtype: DTypeLike) -> _Cut:
        """Cut the columns into strips that are about COLUMNS wide, in whole cache lines."""
        unit = CACHE_LINE // np.dtype(dtype).itemsize
        positive = max(1, round((columns + 1) / COLUMNS))
        width = ceil((columns + 1) / (positive * unit)) * unit
        return cls(width, ceil((columns + 1) / width), ceil(columns / width))

    def fits(self, ny: int) -> bool:
        """Whether the strips for ky ≥ 0 and ky < 0 fit the grid without overlap."""
        return (self.positive + self.negative) * self.width <= ny

    def strips(self, ny: int) -> list[tuple[int, int]]:
        """Return the strips (start, stop) of the columns, in FFT order."""
        firsts = [index * self.width for index in range(self.positive)]
        firsts += [ny - (self.negative - index) * self.width for index in range(self.negative)]
        return [(first, first + self.width) for first in firsts]


def _by_strips(rows: ComplexArray, width: int) -> ComplexArray:
    """Rows (x, ky) as (strip of ky, x, ky within it), a view."""
    (count, columns), (along_x, along_ky) = rows.shape, rows.strides
    shape, strides = (columns // width, count, width), (width * along_ky, along_x, along_ky)
    return np.lib.stride_tricks.as_strided(rows, shape, strides)
