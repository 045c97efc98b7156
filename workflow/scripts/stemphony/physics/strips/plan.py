"""The two Fourier transforms of a slice, strip by strip, so that each strip stays in the processor's cache.

A slice takes the wave from reciprocal to real space, multiplies it, takes it back and multiplies it again, Eq.
(P6). Done as whole transforms, the wave of 2 MB (512²) or 8 MB (1024²) passes through the cache eight times. A
two-dimensional transform is one along y and one along x, so the same work falls into two passes:

- `transmit`, over strips of x: ky → y, times t(x, y), y → ky;
- `travel`, over strips of ky: x → kx, times P(kx, ky), kx → x.

Between the slices the wave is therefore ψ(x, ky). The columns beyond the band limit stay empty and are never
touched, a sixth of the work. Transforms read across the memory and write along it, which is several times
faster than the other way round.

How ψ(x, ky) lies in the memory is the matter of two plans: `strips_apart` for waves that fit the cache,
`strips_compact` for larger ones. `plan_of_strips` of the latter chooses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stemphony.physics.fft import CACHE_LINE, ComplexArray, aligned_zeros


@dataclass(frozen=True)
class Factor:
    """A factor of the wave in reciprocal space, cut into the strips of one `StripPlan`, see `StripPlan.factor`."""

    strips: tuple[ComplexArray, ...]


@dataclass(frozen=True)
class Transmission:
    """t(x, y), cut into the strips of one `StripPlan`, see `StripPlan.transmission`; it holds no copy."""

    strips: tuple[ComplexArray, ...]


class ColumnStrip(NamedTuple):
    """Lines of constant ky: x → kx, the lines, kx → x; the same lines by tiles, where they go to; their spectrum."""

    forward: Callable[[], None]
    lines: ComplexArray
    inverse: Callable[[], None]
    lines_by_tiles: ComplexArray
    tiles: ComplexArray
    spectrum: ComplexArray


class StripPlan(ABC):
    """Transforms of one wave on one thread, and the buffers that carry it.

    Plans made from the same wisdom give bit-identical results. One plan must not be used by two threads at a
    time; each thread makes its own.

    Parameters
    ----------
    shape : tuple of int
        (nx, ny).
    columns : int
        Largest |ky| that the wave keeps, as an index of the FFT, see `grid.band_limit_columns`.
    dtype : dtype
        complex64 or complex128.
    flag : str
        Effort of planning, see `fft.LineTransform`.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    size : int
        nx·ny.
    wave : (nx, ny) ndarray
        ψ(x, y), between `to_real_space` and `from_real_space`.
    spectrum : (nx, ny) ndarray
        ψ(kx, ky) in FFT order, see `travel`; always zero beyond the columns kept.

    Raises
    ------
    ValueError
        If dtype or flag is another, or the columns are not on the grid.
    """

    def __init__(self, shape: tuple[int, int], columns: int, dtype: DTypeLike, flag: str = "FFTW_PATIENT") -> None:
        nx, ny = shape
        if not 0 <= columns <= ny // 2:
            raise ValueError(f"columns kept = {columns}: must be from 0 to {ny // 2}")
        self.shape, self.dtype, self.size = (nx, ny), np.dtype(dtype), nx * ny
        self.wave = padded_zeros(shape, dtype)
        self._by_columns = aligned_zeros((ny, nx), dtype)
        self.spectrum = self._by_columns.T
        self._columns: list[tuple[int, int]] = []
        """Strips (start, stop) of the columns kept, in the order of the FFT."""
        self._rows: list[slice] = []
        """Strips of x, ascending."""
        self._travel: list[ColumnStrip] = []
        self._lay_out(columns, flag)

    @abstractmethod
    def _lay_out(self, columns: int, flag: str) -> None:
        """Make the buffers and the transforms."""

    @abstractmethod
    def transmit(self, transmission: Transmission) -> None:
        """Multiply by t(x, y): for each strip of x from ky to y and back.

        Parameters
        ----------
        transmission : Transmission
            Of this plan or one like it, see `transmission`.
        """

    @abstractmethod
    def to_real_space(self) -> None:
        """From ψ(x, ky) to `wave`, ψ(x, y)."""

    @abstractmethod
    def from_real_space(self) -> None:
        """From `wave`, ψ(x, y), to ψ(x, ky); `travel` must follow."""

    def factor(self, values: NDArray[np.number]) -> Factor:
        """Cut a factor f(kx, ky) of the wave into strips, divided by nx·ny.

        The transforms are not normalised: a factor makes up for the two that go with it.

        Parameters
        ----------
        values : (nx, ny) ndarray

        Raises
        ------
        ValueError
            If it has another shape, or lets pass what the plan does not carry.
        """
        self._require_kept("factor", values)
        return Factor(
            tuple(
                np.ascontiguousarray(values[:, start:stop].T / self.size).astype(self.dtype)
                for start, stop in self._columns
            )
        )

    def transmission(self, values: ComplexArray) -> Transmission:
        """Cut a transmission function t(x, y) into strips. They are views: it may be filled afterwards.

        Parameters
        ----------
        values : (nx, ny) ndarray
            From `padded_zeros`, so that its strips are contiguous like those of the wave.

        Raises
        ------
        ValueError
            If its shape or its rows are others.
        """
        if values.shape != self.shape or values.strides != self.wave.strides:
            raise ValueError("transmission function: its shape and rows must be those of `padded_zeros`")
        whole = flat(values)
        return Transmission(tuple(whole[extent(values, rows)] for rows in self._rows))

    def load(self, spectrum: ComplexArray) -> None:
        """Begin with the wave ψ(kx, ky), (nx, ny); it is copied.

        Raises
        ------
        ValueError
            If it has another shape, or content beyond the columns kept.
        """
        self._require_kept("wave", spectrum)
        for (start, stop), strip in zip(self._columns, self._travel, strict=True):
            np.copyto(strip.lines, spectrum[:, start:stop].T)
            strip.inverse()
            np.copyto(strip.tiles, strip.lines_by_tiles)

    def travel(self, factor: Factor, keep: bool = False, go_on: bool = True) -> None:
        """Multiply by f(kx, ky): for each strip of ky from x to kx and back.

        Parameters
        ----------
        factor : Factor
        keep : bool
            Whether to put the product into `spectrum`.
        go_on : bool
            Whether the wave is needed in ψ(x, ky) again.
        """
        for strip, values in zip(self._travel, factor.strips, strict=True):
            strip.forward()
            np.multiply(strip.lines, values, out=strip.lines)
            if keep:
                np.copyto(strip.spectrum, strip.lines)
            if go_on:
                strip.inverse()
                np.copyto(strip.tiles, strip.lines_by_tiles)

    def rehearsal(self) -> Callable[[], None]:
        """What passes an empty wave through one slice of nothing, for whoever compares plans by time."""
        nothing = padded_zeros(self.shape, self.dtype)
        factor, transmission = self.factor(nothing), self.transmission(nothing)

        def pass_slice() -> None:
            self.transmit(transmission)
            self.travel(factor)

        return pass_slice

    def _require_kept(self, what: str, values: NDArray[np.number]) -> None:
        if values.shape != self.shape:
            raise ValueError(f"{what} of shape {values.shape}: must be {self.shape}")
        for (_, stop), (start, _) in pairwise(self._columns):
            if start > stop and values[:, stop:start].any():
                raise ValueError(f"{what}: not zero beyond column {stop - 1} of ky, the last that this plan carries")


def padded_zeros(shape: tuple[int, int], dtype: DTypeLike, count: int | None = None) -> ComplexArray:
    """Waves or transmission functions on a grid, empty, with rows an odd number of cache lines apart.

    Rows of a power of two would all fall into the same few places of the cache.

    Parameters
    ----------
    shape : tuple of int
        (nx, ny).
    dtype : dtype
    count : int or None
        Number of arrays, which get a leading axis; None for one without it.

    Returns
    -------
    (nx, ny) or (count, nx, ny) ndarray
        A view of a longer array: it is not contiguous.
    """
    unit = CACHE_LINE // np.dtype(dtype).itemsize
    stride = (ceil(shape[1] / unit) | 1) * unit
    return aligned_zeros((*(() if count is None else (count,)), shape[0], stride), dtype)[..., : shape[1]]


def flat(rows: ComplexArray) -> ComplexArray:
    """Padded rows from the first element to the last in one piece, gaps included, which NumPy multiplies fastest."""
    return np.lib.stride_tricks.as_strided(rows, ((extent(rows, slice(0, len(rows)))).stop,), rows.strides[1:])


def extent(rows: ComplexArray, strip: slice) -> slice:
    """Where a strip of padded rows lies in `flat` of all rows."""
    stride = rows.strides[0] // rows.itemsize
    return slice(strip.start * stride, (strip.stop - 1) * stride + rows.shape[1])


def divisor(n: int, wanted: float) -> int:
    """The divisor of n nearest to the wanted one in ratio."""
    return min((d for d in range(1, n + 1) if n % d == 0), key=lambda d: max(d / wanted, wanted / d))
