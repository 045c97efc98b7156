"""Strips of a wave in two arrays, for waves that fit the cache.

One array holds ψ(x, ky) in tiles, in which x runs fastest; the other array holds it row by row. Only the transforms
move data. The two arrays take twice the memory of the wave, and each slice reads and writes them once.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import NamedTuple

import numpy as np

from stemphony.physics.fft import CACHE_LINE, ComplexArray, LineTransform, aligned_zeros
from stemphony.physics.strips.plan import ColumnStrip, StripPlan, Transmission, divisor, flat, padded_zeros

ROWS, COLUMNS = 128, 192
"""Width of the strips [lines], if they then fit the cache. Rows use the nearest divisor of the grid. Every step of a
strip is a call from Python, and threads wait for each other's calls. At 512² and this width, two threads have 1.85 to
1.95 times the throughput of one thread. With a quarter of this width, one thread is no faster, and two threads have
only 1.5 to 1.8 times its throughput."""

STRIP_OF_ROWS, STRIP_OF_COLUMNS = 0.5e6, 1.5e6
"""Largest size of a strip [bytes]. The first fits the own cache of a core. The second fits this cache together with the
core's share of the common cache."""


class TwoArrayPlan(StripPlan):
    """Transforms of one wave in two arrays; see `StripPlan`."""

    def _lay_out(self, columns: int, flag: str) -> None:
        nx, ny = self.shape
        width = divisor(nx, min(ROWS, STRIP_OF_ROWS / (ny * self.dtype.itemsize)))
        unit = CACHE_LINE // self.dtype.itemsize
        wanted = min(COLUMNS, STRIP_OF_COLUMNS / (nx * self.dtype.itemsize))
        self._columns = _column_strips(columns, ny, unit, wanted)
        # ψ(x, ky) in tiles of `width` rows, in which x runs fastest.
        self._tiles = aligned_zeros((nx // width, ny, width), self.dtype)
        lines = aligned_zeros((max(stop - start for start, stop in self._columns), nx), self.dtype)

        # All steps share one strip of rows and one set of lines of columns. So both stay in the cache.
        rows = self._strip = padded_zeros((width, ny), self.dtype)
        self._flat_strip = flat(rows)
        self._rows = [slice(first, first + width) for first in range(0, nx, width)]
        self._transmit = [
            _RowStrip(
                LineTransform(tile.T, rows, "FFTW_BACKWARD", flag).execute,
                LineTransform(rows, self.wave[place], "FFTW_FORWARD", flag).execute,
                self.wave[place],
            )
            for tile, place in zip(self._tiles, self._rows, strict=True)
        ]
        self._travel = [
            ColumnStrip(
                LineTransform(self.wave[:, start:stop].T, some := lines[: stop - start], "FFTW_FORWARD", flag).execute,
                some,
                LineTransform(some, some, "FFTW_BACKWARD", flag).execute,
                some.reshape(stop - start, nx // width, width).transpose(1, 0, 2),
                self._tiles[:, start:stop],
                self._by_columns[start:stop],
            )
            for start, stop in self._columns
        ]
        # Planning has overwritten the arrays.
        for array in (self.wave, self._tiles, rows, lines):
            array[...] = 0

    def transmit(self, transmission: Transmission) -> None:
        """See `StripPlan`."""
        for strip, values in zip(self._transmit, transmission.strips, strict=True):
            strip.inverse()
            np.multiply(self._flat_strip, values, out=self._flat_strip)
            strip.forward()

    def to_real_space(self) -> None:
        """See `StripPlan`."""
        for strip in self._transmit:
            strip.inverse()
            np.copyto(strip.rows, self._strip)

    def from_real_space(self) -> None:
        """See `StripPlan`."""
        for strip in self._transmit:
            np.copyto(self._strip, strip.rows)
            strip.forward()


class _RowStrip(NamedTuple):
    """A strip of constant x: transforms ky → y and y → ky, and where the rows lie in the wave."""

    inverse: Callable[[], None]
    forward: Callable[[], None]
    rows: ComplexArray


def _column_strips(columns: int, ny: int, unit: int, wanted: float) -> list[tuple[int, int]]:
    """Strips (start, stop) of the columns with |ky| up to `columns`, in FFT order, at multiples of `unit`."""
    half = ceil((columns + 1) / unit) * unit
    negative = (ny - max(1, columns)) // unit * unit
    if negative <= half:
        return _split(0, ny, unit, wanted)
    return _split(0, half, unit, wanted) + _split(negative, ny, unit, wanted)


def _split(start: int, stop: int, unit: int, wanted: float) -> list[tuple[int, int]]:
    """Strips of about the wanted width. All but the last have the same width, a multiple of `unit`."""
    number = max(1, round((stop - start) / wanted))
    width = ceil((stop - start) / (number * unit)) * unit
    return [(first, min(first + width, stop)) for first in range(start, stop, width)]
