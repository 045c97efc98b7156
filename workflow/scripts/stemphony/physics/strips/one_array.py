"""Strips of a wave that lies in one array without the columns beyond the band limit, for grids beyond the cache.

A wave of 2048² is 32 MB. What two arrays, the transmission function and the propagator take together is far more than
the cache of a processor, and the memory sets the pace. Here ψ(x, ky) has two thirds of one array, cut into strips of ky
of one width, each of them contiguous. Where a strip of ky crosses a strip of x lies a block. It holds its wave with ky
running fastest after `transmit` and with x running fastest after `travel`: both passes read a block and write it to the
same place. A strip of x is gathered from its blocks, and scattered into them, in the cache.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from stemphony.physics.fft import CACHE_LINE, ComplexArray, LineTransform, aligned_zeros
from stemphony.physics.strips.plan import ColumnStrip, StripPlan, Transmission, divisor, flat, padded_zeros
from stemphony.physics.strips.two_arrays import StripsApart

ROWS, COLUMNS = 32, 96
"""Wanted width of the strips. At 2048² a strip of rows takes 0.5 MB and one of columns 1.4 MB."""

LARGE = 20e6
"""From this size of a wave [bytes] one array is used. In `stemphony bench` 32 MB (2048², single precision) take three
tenths less time than in two arrays, 8 MB (1024²) about the same, and 2 to 5 MB a tenth more."""


def plan_of_strips(shape: tuple[int, int], columns: int, dtype: DTypeLike, flag: str = "FFTW_PATIENT") -> StripPlan:
    """Transforms of one wave on one thread, in the layout that is faster for its size; see `strips.StripPlan`."""
    large = shape[0] * shape[1] * np.dtype(dtype).itemsize >= LARGE
    if large and _Cut.of(columns, dtype).fits(shape[1]):
        return StripsCompact(shape, columns, dtype, flag)
    return StripsApart(shape, columns, dtype, flag)


class StripsCompact(StripPlan):
    """Transforms of one wave in one array; see `strips.StripPlan`.

    Raises
    ------
    ValueError
        Also if so many columns are kept that strips of one width do not fit the grid.
    """

    def _lay_out(self, columns: int, flag: str) -> None:
        nx, ny = self.shape
        width = divisor(nx, ROWS)
        cut = _Cut.of(columns, self.dtype)
        if not cut.fits(ny):
            raise ValueError(f"columns kept = {columns}: too many of {ny} for strips of one width")
        self._columns = cut.strips(ny)
        number, strips = nx // width, len(self._columns)
        # Strips a few cache lines apart: else all of them would fall into the same few places of the cache.
        apart = 3 * CACHE_LINE // self.dtype.itemsize
        self._wave = aligned_zeros((strips, nx * cut.width + apart), self.dtype)
        strips_of_ky = self._wave[:, : nx * cut.width]

        # A strip of x, with x and with y running fastest, and lines of one ky: these stay in the cache.
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
            _RowStrip(
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
        # Planning overwrites them.
        for array in (self._wave, self._gathered, self._strip, lines):
            array[...] = 0

    def transmit(self, transmission: Transmission) -> None:
        """See `strips.StripPlan`."""
        for strip, values in zip(self._transmit, transmission.strips, strict=True):
            self._gather(strip)
            np.multiply(self._flat_strip, values, out=self._flat_strip)
            self._scatter(strip)

    def to_real_space(self) -> None:
        """See `strips.StripPlan`."""
        for strip in self._transmit:
            self._gather(strip)
            np.copyto(strip.rows, self._strip)

    def from_real_space(self) -> None:
        """See `strips.StripPlan`."""
        for strip in self._transmit:
            np.copyto(self._strip, strip.rows)
            self._scatter(strip)

    def _gather(self, strip: _RowStrip) -> None:
        """From the blocks of a strip of x to its rows in real space."""
        for target, blocks in zip(self._in_gathered, strip.by_x, strict=True):
            np.copyto(target, blocks)
        self._to_rows()

    def _scatter(self, strip: _RowStrip) -> None:
        """From rows in real space to the blocks of their strip of x."""
        self._from_rows()
        for blocks, source in zip(strip.by_ky, self._in_strip, strict=True):
            np.copyto(blocks, source)


class _RowStrip(NamedTuple):
    """Rows of constant x.

    Attributes
    ----------
    by_x, by_ky : list of ndarray
        Their blocks, for ky ≥ 0 and for ky < 0, with x and with ky running fastest.
    rows : ndarray
        Where they lie in the wave.
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
        """The cut whose strips are about as wide as wanted, in whole cache lines."""
        unit = CACHE_LINE // np.dtype(dtype).itemsize
        positive = max(1, round((columns + 1) / COLUMNS))
        width = ceil((columns + 1) / (positive * unit)) * unit
        return cls(width, ceil((columns + 1) / width), ceil(columns / width))

    def fits(self, ny: int) -> bool:
        """Whether the strips have room on the grid side by side, ending where the FFT's order ends."""
        return (self.positive + self.negative) * self.width <= ny

    def strips(self, ny: int) -> list[tuple[int, int]]:
        """Strips (start, stop) of the columns, in the order of the FFT."""
        firsts = [index * self.width for index in range(self.positive)]
        firsts += [ny - (self.negative - index) * self.width for index in range(self.negative)]
        return [(first, first + self.width) for first in firsts]


def _by_strips(rows: ComplexArray, width: int) -> ComplexArray:
    """Rows (x, ky) as (strip of ky, x, ky within it), a view."""
    (count, columns), (along_x, along_ky) = rows.shape, rows.strides
    shape, strides = (columns // width, count, width), (width * along_ky, along_x, along_ky)
    return np.lib.stride_tricks.as_strided(rows, shape, strides)
