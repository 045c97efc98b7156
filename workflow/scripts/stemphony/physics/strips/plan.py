"""The two Fourier transforms of a slice, strip by strip, so that each strip stays in the processor's cache.

In each slice, the wave is transformed to real space, multiplied, transformed back and multiplied again, Eq. (P6). With
whole transforms, a wave of 2 MB (512²) or 8 MB (1024²) passes through the cache eight times. A two-dimensional
transform consists of transforms along y and along x, so two passes do the same work:

- `transmit`, over strips of x: ky → y, times t(x, y), y → ky;
- `travel`, over strips of ky: x → kx, times P(kx, ky), kx → x.

Between the slices the wave is therefore ψ(x, ky). The columns beyond the band limit stay empty, and no pass touches
them. This saves a sixth of the work. Transforms read across the rows of the memory and write along them. The other way
round is several times slower.

ψ(x, ky) has two layouts in memory: `two_arrays` for waves that fit the cache, and `one_array` for larger waves.
`one_array.plan_of_strips` chooses between them.
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
    """A factor f(kx, ky) of the wave, cut into the strips of one `StripPlan`, see `StripPlan.factor`."""

    strips: tuple[ComplexArray, ...]


@dataclass(frozen=True)
class Transmission:
    """t(x, y), cut into the strips of one `StripPlan`, see `StripPlan.transmission`. They are views."""

    strips: tuple[ComplexArray, ...]


class ColumnStrip(NamedTuple):
    """A strip of constant ky.

    Attributes
    ----------
    forward, inverse : callable
        Transform `lines` from x to kx and back.
    lines : (columns, nx) ndarray
        Buffer of the transforms.
    lines_by_tiles : ndarray
        View of `lines` in the shape of `tiles`.
    tiles : ndarray
        Where the strip lies in ψ(x, ky).
    spectrum : (columns, nx) ndarray
        Where the strip lies in ψ(kx, ky).
    """

    forward: Callable[[], None]
    lines: ComplexArray
    inverse: Callable[[], None]
    lines_by_tiles: ComplexArray
    tiles: ComplexArray
    spectrum: ComplexArray


class StripPlan(ABC):
    """Transforms of one wave on one thread, and the buffers that carry it.

    Plans from the same wisdom give bit-identical results. Two threads must not use one plan at the same time.

    Parameters
    ----------
    shape : tuple of int
        (nx, ny).
    columns : int
        Largest |ky| where the wave may be non-zero, as an index of the FFT, see `grid.band_limit_columns`.
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
        ψ(x, y); valid between `to_real_space` and `from_real_space`.
    spectrum : (nx, ny) ndarray
        ψ(kx, ky) in FFT order, see `travel`; always zero beyond `columns`.

    Raises
    ------
    ValueError
        If the dtype or the flag is unknown, or the columns are not on the grid.
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
        """Multiply by t(x, y): each strip of x goes from ky to y and back.

        Parameters
        ----------
        transmission : Transmission
            Made by this plan or an equal one, see `transmission`.
        """

    @abstractmethod
    def to_real_space(self) -> None:
        """Transform ψ(x, ky) into `wave`, ψ(x, y)."""

    @abstractmethod
    def from_real_space(self) -> None:
        """Transform `wave`, ψ(x, y), into ψ(x, ky); `travel` must follow."""

    def factor(self, values: NDArray[np.number]) -> Factor:
        """Cut a factor f(kx, ky) of the wave into strips, divided by nx·ny.

        The division normalises the two transforms that go with the factor.

        Parameters
        ----------
        values : (nx, ny) ndarray

        Raises
        ------
        ValueError
            If the shape is not (nx, ny), or the factor is not zero beyond `columns`.
        """
        self._require_kept("factor", values)
        return Factor(
            tuple(
                np.ascontiguousarray(values[:, start:stop].T / self.size).astype(self.dtype)
                for start, stop in self._columns
            )
        )

    def transmission(self, values: ComplexArray) -> Transmission:
        """Cut a transmission function t(x, y) into strips. They are views, so `values` may be filled afterwards.

        Parameters
        ----------
        values : (nx, ny) ndarray
            Array from `padded_zeros`, whose strips are contiguous like those of the wave.

        Raises
        ------
        ValueError
            If the array does not come from `padded_zeros` for this shape.
        """
        if values.shape != self.shape or values.strides != self.wave.strides:
            raise ValueError("transmission function: its shape and rows must be those of `padded_zeros`")
        whole = flat(values)
        return Transmission(tuple(whole[extent(values, rows)] for rows in self._rows))

    def load(self, spectrum: ComplexArray) -> None:
        """Copy the incident wave ψ(kx, ky), (nx, ny), into the plan.

        Raises
        ------
        ValueError
            If the shape is not (nx, ny), or the wave is not zero beyond `columns`.
        """
        self._require_kept("wave", spectrum)
        for (start, stop), strip in zip(self._columns, self._travel, strict=True):
            np.copyto(strip.lines, spectrum[:, start:stop].T)
            strip.inverse()
            np.copyto(strip.tiles, strip.lines_by_tiles)

    def travel(self, factor: Factor, keep: bool = False, go_on: bool = True) -> None:
        """Multiply by f(kx, ky): each strip of ky goes from x to kx and back.

        Parameters
        ----------
        factor : Factor
        keep : bool
            Whether to copy the product into `spectrum`.
        go_on : bool
            Whether to transform the product back to ψ(x, ky), for a further slice.
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
        """Return a function that sends an empty wave through one empty slice, to compare plans by their time."""
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
    """Make zero waves or transmission functions whose rows start an odd number of cache lines apart.

    Rows that start a power of two apart would share a few places of the cache.

    Parameters
    ----------
    shape : tuple of int
        (nx, ny).
    dtype : dtype
    count : int or None
        Number of arrays, as a leading axis; None for one array without this axis.

    Returns
    -------
    (nx, ny) or (count, nx, ny) ndarray
        View of an array with longer rows, so it is not contiguous.
    """
    unit = CACHE_LINE // np.dtype(dtype).itemsize
    stride = (ceil(shape[1] / unit) | 1) * unit
    return aligned_zeros((*(() if count is None else (count,)), shape[0], stride), dtype)[..., : shape[1]]


def flat(rows: ComplexArray) -> ComplexArray:
    """View padded rows as one piece with their gaps, which NumPy multiplies fastest."""
    return np.lib.stride_tricks.as_strided(rows, ((extent(rows, slice(0, len(rows)))).stop,), rows.strides[1:])


def extent(rows: ComplexArray, strip: slice) -> slice:
    """Return where a strip of padded rows lies in the flat view of all rows."""
    stride = rows.strides[0] // rows.itemsize
    return slice(strip.start * stride, (strip.stop - 1) * stride + rows.shape[1])


def divisor(n: int, wanted: float) -> int:
    """Return the divisor of n whose ratio to `wanted` is nearest to 1."""
    return min((d for d in range(1, n + 1) if n % d == 0), key=lambda d: max(d / wanted, wanted / d))
